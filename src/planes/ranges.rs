//! Owns what is known of the values of a tile's cells: [`Ranges`], words noted as tiles are loaded, and before that what somebody knew without loading any. Knows nothing of how either was found.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::ZeroedWords;
use crate::error::BackendError;
use crate::geometry::{Coord, Extent, Region};
use crate::layout::{Layout, TileCoord, TileId};
use crate::sync::{AtomicU64, Ordering};

use super::at;

/// Ranges that are known without loading anything.
pub(crate) trait KnownRanges: Send + Sync + fmt::Debug {
    /// A range that the region's values lie in, rounded to `f32` as they are; from infinity down to minus infinity if they are all NaN; `None` where it is not known.
    fn of(&self, region: Region) -> Option<(f32, f32)>;

    /// How many cells there are to know of.
    fn cells(&self) -> u64;
}

/// Ranges of the cells of every tile.
#[derive(Debug)]
pub(crate) struct Ranges {
    words: ZeroedWords,
    cells_per_tile: u64,
    known: Option<Arc<dyn KnownRanges>>,
    /// Groups of 64 tiles of which something was noted.
    noted: Mutex<BTreeSet<u64>>,
}

impl Ranges {
    /// # Errors
    /// The system's refusal to reserve their address space.
    pub(super) fn new(layout: &Layout, known: Option<Arc<dyn KnownRanges>>) -> Result<Self, BackendError> {
        let cells_per_tile = layout.tile_voxels() / cell_volume(layout);
        let words = ZeroedWords::new(layout.tile_slots() * cells_per_tile)?;
        Ok(Self { words, cells_per_tile, known, noted: Mutex::default() })
    }

    /// Where the ranges of a tile's cells go.
    pub(crate) fn words(&self, tile: TileId) -> &[AtomicU64] {
        let first = at(tile.0 * self.cells_per_tile);
        &self.words[first..first + at(self.cells_per_tile)]
    }

    /// What was noted of the tile's cells holds no more, since it is written to. What was known before anything was loaded does not either: cells of the widest range say so.
    pub(crate) fn widen(&self, tile: TileId) {
        let all = pack_range((f32::NEG_INFINITY, f32::INFINITY));
        self.words(tile).iter().for_each(|word| word.store(all, Ordering::Relaxed));
        self.note(tile);
    }

    /// To be called after something was noted of the tile: its ranges, or that it is uniform.
    pub(crate) fn note(&self, tile: TileId) {
        self.groups().insert(tile.0 >> 6);
    }

    /// Takes over what another array of the same layout has noted.
    pub(super) fn adopt(&self, of: &Self) {
        for tile in of.noted() {
            let first = at(tile.0 * self.cells_per_tile);
            let cells = first..first + at(self.cells_per_tile);
            // The last group may have more tiles than there are.
            let (Some(to), Some(from)) = (self.words.get(cells.clone()), of.words.get(cells)) else {
                continue;
            };
            for (to, from) in to.iter().zip(from) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        self.groups().extend(of.groups().iter());
    }

    /// All tiles of which something may have been noted.
    pub(crate) fn noted(&self) -> Vec<TileId> {
        let groups = self.groups().clone();
        groups.into_iter().flat_map(|group| (group << 6..(group + 1) << 6).map(TileId)).collect()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was known before anything was loaded.
    pub(crate) fn known(&self) -> Option<&Arc<dyn KnownRanges>> {
        self.known.as_ref()
    }

    /// The range of a cell's voxels inside the array: as it was when the tile was loaded, else as it was known before.
    #[inline]
    pub(crate) fn of_cell(
        &self,
        layout: &Layout,
        (tile, id): (TileCoord, TileId),
        cell: usize,
    ) -> Option<(f32, f32)> {
        let word = self.words(id).get(cell)?.load(Ordering::Relaxed);
        if word != 0 {
            return unpack_range(word);
        }
        let known = self.known.as_ref()?;
        let cell = cell_region(layout, tile, cell);
        if cell.is_empty() { Some(NOTHING) } else { known.of(cell) }
    }

    /// The smallest and largest value of a tile that was loaded, else what was known before.
    pub(crate) fn of_tile(&self, layout: &Layout, tile: TileId) -> Option<(f32, f32)> {
        let mut hull = NOTHING;
        for word in self.words(tile) {
            let Some((min, max)) = unpack_range(word.load(Ordering::Relaxed)) else {
                return self.known.as_ref()?.of(layout.tile_region(layout.tile_coord(tile)?));
            };
            hull = (hull.0.min(min), hull.1.max(max));
        }
        Some(hull)
    }
}

/// The range of nothing.
const NOTHING: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);

/// Shape of the cells that ranges are kept of: up to 8 voxels a side.
pub(crate) fn cell_shape(layout: &Layout) -> Extent {
    let tile = layout.tile_shape();
    Extent::new(tile.x.min(8), tile.y.min(8), tile.z.min(8))
}

fn cell_volume(layout: &Layout) -> u64 {
    let c = cell_shape(layout);
    c.x * c.y * c.z
}

/// The voxels of a cell of a tile that lie inside the array.
pub(crate) fn cell_region(layout: &Layout, tile: TileCoord, cell: usize) -> Region {
    let (shape, within) = (layout.tile_shape(), cell_shape(layout));
    // All of them are powers of two.
    let columns = (shape.x / within.x).trailing_zeros();
    let lines = (shape.y / within.y).trailing_zeros();
    let cell = cell as u64;
    let (x, y, z) =
        (cell & ((1 << columns) - 1), cell >> columns & ((1 << lines) - 1), cell >> (columns + lines));
    let start = Coord {
        x: tile.x * shape.x + x * within.x,
        y: tile.y * shape.y + y * within.y,
        z: tile.z * shape.z + z * within.z,
    };
    Region::new(start, within).clipped_to(layout.extent())
}

/// Packs a range into a word that is zero for no range: both ends' bits, inverted. (An inverted zero would be two NaNs, which no range has.)
pub(crate) fn pack_range((min, max): (f32, f32)) -> u64 {
    !(u64::from(min.to_bits()) << 32 | u64::from(max.to_bits()))
}

/// The range in a word; `None` where it was never known.
#[inline]
pub(crate) fn unpack_range(word: u64) -> Option<(f32, f32)> {
    let bits = !word;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the maximum")]
    (word != 0).then(|| (f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32)))
}

#[cfg(all(test, not(vastgrid_loom)))]
mod tests {
    use super::*;
    use crate::layout::LayoutSpec;

    #[test]
    fn ranges_survive_packing_and_zero_is_unknown() {
        for range in [(0.0, 0.0), (-1.5, 7.0), NOTHING] {
            assert_eq!(unpack_range(pack_range(range)), Some(range));
        }
        assert_eq!(unpack_range(0), None);
    }

    /// Knows where a region begins.
    #[derive(Debug)]
    struct Begin;

    impl KnownRanges for Begin {
        fn of(&self, region: Region) -> Option<(f32, f32)> {
            let [x, y, z] = region.start.to_array().map(|v| v as f32);
            (region.start.z < 16).then_some((x + 100.0 * y + 10_000.0 * z, 1e6))
        }
        fn cells(&self) -> u64 {
            1
        }
    }

    fn layout() -> Layout {
        let spec = LayoutSpec { tile: Some(Extent::new(32, 16, 8)), ..LayoutSpec::default() };
        Layout::new(Extent::new(40, 40, 40), 1, spec, 4096, 1 << 16).unwrap()
    }

    #[test]
    fn what_was_loaded_counts_more_than_what_was_known_before() {
        let layout = layout();
        let ranges = Ranges::new(&layout, Some(Arc::new(Begin))).unwrap();
        let tile = TileCoord::new(1, 2, 1);
        let id = layout.tile_id(tile).unwrap();
        let of = |cell| ranges.of_cell(&layout, (tile, id), cell);
        // 40 = 32 + 8 along x and 2 * 16 + 8 along y: the first cell alone has voxels of the array.
        assert_eq!([of(0), of(1), of(4), of(8)], [Some((83_232.0, 1e6)), Some(NOTHING), Some(NOTHING), None]);
        assert_eq!(ranges.of_tile(&layout, id), Some((83_232.0, 1e6)));
        ranges.words(id)[0].store(pack_range((7.0, 8.0)), Ordering::Relaxed);
        assert_eq!([of(0), of(1)], [Some((7.0, 8.0)), Some(NOTHING)]);
        assert_eq!(ranges.of_tile(&layout, id), Some((83_232.0, 1e6)), "not all of it was");
        ranges.words(id).iter().for_each(|word| word.store(pack_range((7.0, 9.0)), Ordering::Relaxed));
        assert_eq!(ranges.of_tile(&layout, id), Some((7.0, 9.0)));
        let far = TileCoord::new(0, 0, 2);
        assert_eq!(ranges.of_cell(&layout, (far, layout.tile_id(far).unwrap()), 0), None);
    }

    #[test]
    fn cells_are_counted_x_fastest() {
        let layout = layout();
        let starts: Vec<_> = (0..8).map(|i| cell_region(&layout, TileCoord::new(0, 1, 0), i).start).collect();
        let expected = |i: u64| Coord::new(i % 4 * 8, 16 + i / 4 * 8, 0);
        assert_eq!(starts, (0..8).map(expected).collect::<Vec<_>>());
    }

    #[test]
    fn tiles_of_which_something_was_noted_are_found_again() {
        let ranges = Ranges::new(&layout(), None).unwrap();
        assert_eq!(ranges.noted(), []);
        ranges.note(TileId(3));
        ranges.note(TileId(5));
        assert_eq!(ranges.noted().len(), 64);
        assert!(ranges.noted().contains(&TileId(5)) && !ranges.noted().contains(&TileId(64)));
    }
}
