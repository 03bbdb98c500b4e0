//! Owns [`TileSet`]: which tiles of an array something is about, as bits along x. Knows nothing of what is in them.

use std::collections::BTreeMap;
use std::fmt;

use crate::geometry::{Extent, Region};
use crate::layout::{Layout, TileCoord};

/// Where a word of bits lies: z, y, and which 64 tiles along x.
pub(super) type Place = [u64; 3];

/// A set of tiles, as bits: 64 tiles along x are a word.
///
/// **Cost**: about 40 bytes for every word that has a tile in it, whatever the size of the grid.
///
/// ```
/// use vastgrid::{Extent, TileCoord, compute::{Beyond, Neighbours, TileSet}};
///
/// // 2^45 tiles, of which one is in the set.
/// let mut set = TileSet::new(Extent::cube(1 << 15));
/// assert!(set.insert(TileCoord::new(64, 5, 9)));
/// let around = set.dilate(Neighbours::Corners, 1, Beyond::Out);
/// assert_eq!(around.len(), 27);
/// assert_eq!(around.and_not(&set).len(), 26);
/// assert_eq!(around.erode(Neighbours::Corners, 1, Beyond::Out), set);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TileSet {
    grid: Extent,
    /// No word is zero, and no bit lies outside the grid.
    words: BTreeMap<Place, u64>,
}

impl TileSet {
    /// The empty set of a grid of so many tiles along each axis: [`Layout::tiles`].
    ///
    /// ```
    /// # use vastgrid::{Extent, compute::TileSet};
    /// assert!(TileSet::new(Extent::cube(4)).is_empty());
    /// ```
    #[must_use]
    pub fn new(grid: Extent) -> Self {
        Self { grid, words: BTreeMap::new() }
    }

    /// The tiles that a region of voxels touches; what of the region lies outside the array is left out.
    ///
    /// **Cost**: one word for 64 tiles.
    ///
    /// ```
    /// # use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, compute::TileSet, source::Fill};
    /// # let pool = Pool::new(HostBackend::new(), 1 << 20)?;
    /// let array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(256), 0u8)).tile([32, 32, 32]).build()?;
    /// let corner = Region::new(Coord::new(31, 0, 0), Extent::new(2, 32, 32));
    /// assert_eq!(TileSet::from_region(array.layout(), corner).len(), 2);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[must_use]
    pub fn from_region(layout: &Layout, region: Region) -> Self {
        let mut set = Self::new(layout.tiles());
        let region = region.clipped_to(layout.extent());
        if let (false, Some(end)) = (region.is_empty(), region.end()) {
            let first = layout.tile_of(region.start);
            let last = layout.tile_of([end.x - 1, end.y - 1, end.z - 1].into());
            set.add_box([first.x, first.y, first.z], [last.x, last.y, last.z]);
        }
        set
    }

    /// The tiles of a list; those outside the grid are left out.
    ///
    /// ```
    /// # use vastgrid::{Extent, TileCoord, compute::TileSet};
    /// let list = [TileCoord::new(1, 0, 0), TileCoord::new(1, 0, 0), TileCoord::new(9, 0, 0)];
    /// assert_eq!(TileSet::of(Extent::cube(4), list).len(), 1);
    /// ```
    #[must_use]
    pub fn of(grid: Extent, tiles: impl IntoIterator<Item = TileCoord>) -> Self {
        let mut set = Self::new(grid);
        for tile in tiles {
            set.insert(tile);
        }
        set
    }

    /// Tiles along each axis of the grid.
    #[must_use]
    pub fn grid(&self) -> Extent {
        self.grid
    }

    /// Puts a tile in. `false`: it was in already, or lies outside the grid.
    pub fn insert(&mut self, tile: TileCoord) -> bool {
        if !self.has_place(tile) {
            return false;
        }
        let (place, bit) = split(tile);
        let word = self.words.entry(place).or_default();
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes a tile out. `false`: it was not in.
    pub fn remove(&mut self, tile: TileCoord) -> bool {
        let (place, bit) = split(tile);
        let Some(word) = self.words.get_mut(&place) else { return false };
        let was_in = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&place);
        }
        was_in
    }

    /// Whether the tile is in.
    #[must_use]
    pub fn contains(&self, tile: TileCoord) -> bool {
        let (place, bit) = split(tile);
        self.word(place) & bit != 0
    }

    /// How many tiles are in. **Cost**: a look at every word.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.words.values().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether no tile is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The tiles, x fastest, then y, then z.
    ///
    /// ```
    /// # use vastgrid::{Extent, TileCoord, compute::TileSet};
    /// let set = TileSet::of(Extent::cube(4), [TileCoord::new(0, 1, 0), TileCoord::new(3, 0, 0)]);
    /// assert_eq!(set.iter().next(), Some(TileCoord::new(3, 0, 0)));
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = TileCoord> + '_ {
        self.words.iter().flat_map(|(&[z, y, w], &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = u64::from(left.trailing_zeros());
                // Where none is left there is nothing to take off.
                let tile = (left != 0).then(|| TileCoord::new((w << 6) + bit, y, z));
                left &= left.wrapping_sub(1);
                tile
            })
        })
    }

    /// The tiles that are in both. The grid is this set's.
    ///
    /// ```
    /// # use vastgrid::{Extent, TileCoord, compute::TileSet};
    /// let of = |x: [u64; 2]| TileSet::of(Extent::cube(4), x.map(|x| TileCoord::new(x, 0, 0)));
    /// assert_eq!(of([0, 1]).and(&of([1, 2])), of([1, 1]));
    /// assert_eq!(of([0, 1]).or(&of([1, 2])).len(), 3);
    /// assert_eq!(of([0, 1]).and_not(&of([1, 2])), of([0, 0]));
    /// ```
    #[must_use]
    #[doc(alias = "intersection")]
    pub fn and(&self, other: &Self) -> Self {
        self.word_by_word(|place, word| word & other.word(place))
    }

    /// The tiles that are in one or both. The grid is this set's: what of the other lies outside is left out.
    #[must_use]
    #[doc(alias = "union")]
    pub fn or(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (&place, &word) in &other.words {
            both.add(place, word);
        }
        both
    }

    /// The tiles that are in this set and not in the other.
    #[must_use]
    #[doc(alias = "difference")]
    pub fn and_not(&self, other: &Self) -> Self {
        self.word_by_word(|place, word| word & !other.word(place))
    }

    /// What `change` makes of each word that is not zero.
    pub(super) fn word_by_word(&self, change: impl Fn(Place, u64) -> u64) -> Self {
        let words = self.words.iter().map(|(&place, &word)| (place, change(place, word)));
        Self { grid: self.grid, words: words.filter(|&(_, word)| word != 0).collect() }
    }

    pub(super) fn words(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        self.words.iter().map(|(&place, &word)| (place, word))
    }

    pub(super) fn word(&self, place: Place) -> u64 {
        self.words.get(&place).copied().unwrap_or(0)
    }

    /// The set of all those bits, as far as they lie in the grid. Cheapest where they come in a few runs that are in order.
    pub(super) fn gathered(grid: Extent, words: impl Iterator<Item = (Place, u64)>) -> Self {
        let mut set = Self::new(grid);
        let mut all: Vec<_> = words.map(|(place, word)| (place, set.clipped(place, word))).collect();
        all.sort_by_key(|&(place, _)| place);
        all.dedup_by(|next, first| {
            let same = next.0 == first.0;
            if same {
                first.1 |= next.1;
            }
            same
        });
        set.words = all.into_iter().filter(|&(_, word)| word != 0).collect();
        set
    }

    /// Puts the bits in, as far as they lie in the grid.
    pub(super) fn add(&mut self, place: Place, bits: u64) {
        let bits = self.clipped(place, bits);
        if bits != 0 {
            *self.words.entry(place).or_default() |= bits;
        }
    }

    /// The bits that lie in the grid.
    fn clipped(&self, [z, y, w]: Place, bits: u64) -> u64 {
        if y < self.grid.y && z < self.grid.z { bits & self.mask(w) } else { 0 }
    }

    /// The bits of that word along x that lie in the grid.
    pub(super) fn mask(&self, w: u64) -> u64 {
        match self.grid.x.saturating_sub(w.saturating_mul(64)) {
            left @ 0..64 => (1 << left) - 1,
            _ => u64::MAX,
        }
    }

    /// Puts the tiles of a box in, from the first (x, y, z) to the last. Both lie in the grid.
    pub(super) fn add_box(&mut self, first: [u64; 3], last: [u64; 3]) {
        for z in first[2]..=last[2] {
            for y in first[1]..=last[1] {
                for w in first[0] >> 6..=last[0] >> 6 {
                    let from = if w == first[0] >> 6 { u64::MAX << (first[0] & 63) } else { u64::MAX };
                    let to = if w == last[0] >> 6 { u64::MAX >> (63 - (last[0] & 63)) } else { u64::MAX };
                    self.add([z, y, w], from & to);
                }
            }
        }
    }

    fn has_place(&self, tile: TileCoord) -> bool {
        tile.x < self.grid.x && tile.y < self.grid.y && tile.z < self.grid.z
    }
}

impl Extend<TileCoord> for TileSet {
    fn extend<I: IntoIterator<Item = TileCoord>>(&mut self, tiles: I) {
        for tile in tiles {
            self.insert(tile);
        }
    }
}

impl fmt::Debug for TileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TileSet")
            .field("grid", &self.grid)
            .field("tiles", &self.len())
            .finish_non_exhaustive()
    }
}

fn split(tile: TileCoord) -> (Place, u64) {
    ([tile.z, tile.y, tile.x >> 6], 1 << (tile.x & 63))
}
