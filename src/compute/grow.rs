//! Owns growing and shrinking a [`TileSet`], on whole words: shifts along x with a carry, OR and AND along y and z.

use super::TileSet;
use super::set::Place;

/// Which tiles count as the neighbours of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Neighbours {
    /// The 6 that share a face with it.
    Faces,
    /// The 18 that share a face or an edge.
    Edges,
    /// The 26 that share a face, an edge or a corner.
    Corners,
}

impl Neighbours {
    /// Along how many axes a neighbour may differ.
    fn axes(self) -> u64 {
        match self {
            Self::Faces => 1,
            Self::Edges => 2,
            Self::Corners => 3,
        }
    }

    /// Neighbouring rows along y and z, and whether in such a row the neighbours along x count too.
    fn rows(self) -> impl Iterator<Item = (i64, i64, bool)> {
        let all = (-1..=1).flat_map(|z| (-1..=1).map(move |y| (y, z)));
        all.filter_map(move |(y, z): (i64, i64)| {
            let differs = y.unsigned_abs() + z.unsigned_abs();
            (differs <= self.axes()).then_some((y, z, differs < self.axes()))
        })
    }
}

/// What lies beyond the faces of the grid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Beyond {
    /// Nothing there is in the set: what touches a face shrinks from it, and nothing grows from beyond it.
    Out,
    /// Everything there is in the set: what touches a face does not shrink from it, and the tiles at the faces are neighbours of some that are in.
    In,
}

impl TileSet {
    /// The set and the neighbours of its tiles, `steps` times.
    ///
    /// **Cost**: for each step about as many look-ups as words that come out, times 9. Where everything beyond the faces is in, the tiles at all faces come out.
    ///
    /// ```
    /// # use vastgrid::{Extent, TileCoord, compute::{Beyond, Neighbours, TileSet}};
    /// let one = TileSet::of(Extent::cube(9), [TileCoord::new(4, 4, 0)]);
    /// assert_eq!(one.dilate(Neighbours::Faces, 1, Beyond::Out).len(), 6); // one neighbour is outside
    /// assert_eq!(one.dilate(Neighbours::Edges, 1, Beyond::Out).len(), 14);
    /// assert_eq!(one.dilate(Neighbours::Corners, 2, Beyond::Out).len(), 75);
    /// ```
    #[must_use]
    pub fn dilate(&self, neighbours: Neighbours, steps: u64, beyond: Beyond) -> Self {
        let mut set = self.clone();
        for step in 0..steps {
            let mut next = set.dilate_once(neighbours);
            if step == 0 && beyond == Beyond::In {
                next.add_faces();
            }
            if next == set {
                break;
            }
            set = next;
        }
        set
    }

    /// The tiles of which all neighbours are in, `steps` times.
    ///
    /// **Cost**: for each step up to 27 look-ups for each word.
    ///
    /// ```
    /// # use vastgrid::{Extent, HostBackend, Pool, Region, SparseArray3D, compute::{Beyond, Neighbours, TileSet}, source::Fill};
    /// # let pool = Pool::new(HostBackend::new(), 1 << 20)?;
    /// # let array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(256), 0u8)).tile([32, 32, 32]).build()?;
    /// let all = TileSet::from_region(array.layout(), Region::whole(array.extent()));
    /// assert_eq!(all.len(), 512);
    /// assert_eq!(all.erode(Neighbours::Faces, 1, Beyond::Out).len(), 216);
    /// assert_eq!(all.erode(Neighbours::Faces, 1, Beyond::In), all);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[must_use]
    pub fn erode(&self, neighbours: Neighbours, steps: u64, beyond: Beyond) -> Self {
        let mut set = self.clone();
        for _ in 0..steps {
            let next = set.erode_once(neighbours, beyond);
            if next == set {
                break;
            }
            set = next;
        }
        set
    }

    fn dilate_once(&self, neighbours: Neighbours) -> Self {
        // First along x, which most rows have in common.
        let wide = Self::gathered(
            self.grid(),
            self.words().flat_map(|([z, y, w], word)| {
                let after = (word >> 63 != 0).then(|| ([z, y, w + 1], 1));
                let before = (word & 1 != 0 && w > 0).then(|| ([z, y, w.saturating_sub(1)], 1 << 63));
                before.into_iter().chain([([z, y, w], word | word << 1 | word >> 1)]).chain(after)
            }),
        );
        Self::gathered(
            self.grid(),
            neighbours.rows().flat_map(|(dy, dz, along_x)| {
                let from = if along_x { &wide } else { self };
                from.words().filter_map(move |(place, word)| Some((moved(place, dy, dz)?, word)))
            }),
        )
    }

    fn erode_once(&self, neighbours: Neighbours, beyond: Beyond) -> Self {
        let outside = if beyond == Beyond::In { u64::MAX } else { 0 };
        let at = |[z, y, w]: Place| {
            let mask = if y < self.grid().y && z < self.grid().z { self.mask(w) } else { 0 };
            self.word([z, y, w]) | outside & !mask
        };
        self.word_by_word(|place, word| {
            neighbours.rows().fold(word, |all, (dy, dz, along_x)| {
                if all == 0 {
                    return 0;
                }
                let Some([z, y, w]) = moved(place, dy, dz) else { return all & outside };
                let here = at([z, y, w]);
                if !along_x {
                    return all & here;
                }
                let before = w.checked_sub(1).map_or(outside, |w| at([z, y, w]));
                all & here & (here << 1 | before >> 63) & (here >> 1 | at([z, y, w + 1]) << 63)
            })
        })
    }

    fn add_faces(&mut self) {
        let grid = self.grid();
        if grid.is_empty() {
            return;
        }
        let end = [grid.x - 1, grid.y - 1, grid.z - 1];
        for axis in 0..3 {
            let (mut first, mut last) = ([0; 3], end);
            last[axis] = 0;
            self.add_box(first, last);
            (first[axis], last[axis]) = (end[axis], end[axis]);
            self.add_box(first, last);
        }
    }
}

/// A place in a neighbouring row, or `None` before the grid's first.
fn moved([z, y, w]: Place, dy: i64, dz: i64) -> Option<Place> {
    Some([z.checked_add_signed(dz)?, y.checked_add_signed(dy)?, w])
}
