//! Owns [`RangeIndexBuilder`]: an index made tile by tile, by many threads. Knows nothing of where the tiles come from.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{CellGrid, RangeIndex, hull, nothing, unknown};
use crate::error::SourceError;
use crate::geometry::{Coord, Extent, Region};
use crate::source::{check_call, index};
use crate::voxel::{Scalar, range_of};

/// A cell whose voxels are told in so many pieces that those left make more boxes than this stays unknown.
const MOST_PIECES: usize = 64;

/// Makes a [`RangeIndex`] of what it is told, region by region, from any number of threads at once, in any order.
///
/// A cell is known once all of its voxels have been told. What is told twice counts once, and the range is that of everything that was told.
///
/// **Cost**: one pass over the voxels told, about as fast as summing them; memory for two values a cell, and at most 3 KiB for each cell of which a part was told: none where
/// regions are made of whole cells.
///
/// ```
/// use vastgrid::source::RangeIndexBuilder;
/// use vastgrid::{Coord, Extent, Region};
///
/// let builder = RangeIndexBuilder::new(Extent::new(6, 4, 4), Extent::cube(4))?;
/// builder.note(Region::whole(Extent::cube(4)), &[7u8; 64])?;
/// let index = builder.finish();
/// assert_eq!(index.of(Region::whole(Extent::cube(2))), Some((7, 7)));
/// assert_eq!(index.of(Region::whole(index.extent())), None); // nobody told of the rest
/// # Ok::<(), vastgrid::SourceError>(())
/// ```
#[derive(Debug)]
pub struct RangeIndexBuilder<T> {
    grid: CellGrid,
    told: Mutex<Told<T>>,
}

#[derive(Debug)]
struct Told<T> {
    least: Vec<T>,
    greatest: Vec<T>,
    parts: HashMap<usize, Part<T>>,
}

/// A cell of which a part was told.
#[derive(Debug)]
struct Part<T> {
    range: (T, T),
    /// What was not told yet: boxes that do not overlap.
    left: Vec<Region>,
}

impl<T: Scalar> RangeIndexBuilder<T> {
    /// Nothing is known yet of a volume of `extent`, in cells of the shape `cell` ([`RangeIndex::cell_for`] helps to choose one).
    ///
    /// # Errors
    /// [`SourceError::RangeIndex`]: an empty extent or cell, or more than [`RangeIndex::MOST_CELLS`].
    pub fn new(extent: Extent, cell: Extent) -> Result<Self, SourceError> {
        let grid = CellGrid::new(extent, cell)?;
        let (low, high) = unknown();
        let told =
            Told { least: vec![low; grid.len()], greatest: vec![high; grid.len()], parts: HashMap::new() };
        Ok(Self { grid, told: Mutex::new(told) })
    }

    /// Takes in the voxels of `region`.
    ///
    /// **Shape**: as [`TileSource::read`](crate::TileSource::read) gives them: densely, x fastest, then y, then z.
    ///
    /// # Errors
    /// [`SourceError::BadCall`]: the region leaves the volume, or `voxels` are not as many.
    pub fn note(&self, region: Region, voxels: &[T]) -> Result<(), SourceError> {
        check_call(self.grid.extent, region, voxels.len())?;
        self.note_parts(region, |part| Some(range_in(region, part, voxels)));
        Ok(())
    }

    /// Takes in that all voxels of `region` are `value`.
    ///
    /// # Errors
    /// [`SourceError::BadCall`]: the region leaves the volume.
    pub fn note_uniform(&self, region: Region, value: T) -> Result<(), SourceError> {
        let range = range_of(std::iter::once(&[value][..]));
        self.note_range(region, range)
    }

    /// Takes in that all voxels of `region` that are not NaNs lie in a range, whose ends are its smallest and its largest value; from infinity down to minus infinity: all are NaNs.
    /// A range that is none is left out.
    ///
    /// # Errors
    /// [`SourceError::BadCall`]: the region leaves the volume.
    pub fn note_range(&self, region: Region, range: (T, T)) -> Result<(), SourceError> {
        if !region.is_within(self.grid.extent) {
            let (location, extent) = (String::new(), self.grid.extent);
            return Err(SourceError::BadCall { location, extent, region, buffer_voxels: 1 });
        }
        if super::is_range(range) || super::is_nothing(range) {
            self.note_parts(region, |_| Some(range));
        }
        Ok(())
    }

    /// Takes in what somebody else knows of cells that are unknown.
    pub(crate) fn fill_unknown(&self, known: impl Fn(Region) -> Option<(T, T)>) {
        let mut told = self.lock();
        for place in 0..self.grid.len() {
            if (told.least[place], told.greatest[place]) == unknown()
                && let Some(range) = known(self.grid.region(place))
                && (super::is_range(range) || super::is_nothing(range))
            {
                (told.least[place], told.greatest[place]) = range;
                told.parts.remove(&place);
            }
        }
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> RangeIndex<T> {
        let told = self.lock();
        RangeIndex { grid: self.grid, least: told.least.clone(), greatest: told.greatest.clone() }
    }

    /// What is known.
    #[must_use]
    pub fn finish(self) -> RangeIndex<T> {
        let told = self.told.into_inner().unwrap_or_else(PoisonError::into_inner);
        RangeIndex { grid: self.grid, least: told.least, greatest: told.greatest }
    }

    fn lock(&self) -> MutexGuard<'_, Told<T>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the range of each cell's part in `region`, which lies inside the volume. What takes long is done outside the lock, some cells at a time.
    fn note_parts(&self, region: Region, mut range: impl FnMut(Region) -> Option<(T, T)>) {
        if region.is_empty() {
            return;
        }
        let mut found = Vec::with_capacity(64);
        let mut places = self.grid.touched(region).peekable();
        while let Some(place) = places.next() {
            let cell = self.grid.region(place);
            if let Some(part) = cell.intersection(&region)
                && let Some(range) = range(part)
            {
                found.push((place, cell, part, range));
            }
            if found.len() == 64 || places.peek().is_none() {
                let mut told = self.lock();
                for (place, cell, part, range) in found.drain(..) {
                    told.take_in(place, cell, part, range);
                }
            }
        }
    }
}

impl<T: Scalar> Told<T> {
    fn take_in(&mut self, place: usize, cell: Region, part: Region, range: (T, T)) {
        let before = (self.least[place], self.greatest[place]);
        if before != unknown() {
            (self.least[place], self.greatest[place]) = hull(before, range);
            return;
        }
        if part == cell {
            let before = self.parts.remove(&place).map_or(nothing(), |part| part.range);
            (self.least[place], self.greatest[place]) = hull(before, range);
            return;
        }
        let so_far = self.parts.entry(place).or_insert_with(|| Part { range: nothing(), left: vec![cell] });
        so_far.range = hull(so_far.range, range);
        let left: Vec<_> = so_far.left.iter().flat_map(|left| without(left, &part)).collect();
        if left.is_empty() {
            (self.least[place], self.greatest[place]) = so_far.range;
            self.parts.remove(&place);
        } else if left.len() <= MOST_PIECES {
            so_far.left = left;
        }
    }
}

/// What of a box is not in another one, as up to six boxes.
fn without(whole: &Region, gone: &Region) -> Vec<Region> {
    let Some(gone) = whole.intersection(gone) else { return vec![*whole] };
    let mut pieces = Vec::new();
    let (mut start, mut size) = (whole.start.to_array(), whole.extent.to_array());
    let (first, taken) = (gone.start.to_array(), gone.extent.to_array());
    for axis in 0..3 {
        let below = first[axis] - start[axis];
        let above = size[axis] - below - taken[axis];
        for (from, length) in [(start[axis], below), (first[axis] + taken[axis], above)] {
            if length > 0 {
                let (mut at, mut of) = (start, size);
                (at[axis], of[axis]) = (from, length);
                pieces.push(Region::new(Coord::from(at), Extent::from(of)));
            }
        }
        (start[axis], size[axis]) = (first[axis], taken[axis]);
    }
    pieces
}

/// The range of a part of a region whose voxels are given.
fn range_in<T: Scalar>(region: Region, part: Region, voxels: &[T]) -> (T, T) {
    let [w, h] = [index(region.extent.x), index(region.extent.y)];
    let first = [
        index(part.start.x - region.start.x),
        index(part.start.y - region.start.y),
        index(part.start.z - region.start.z),
    ];
    let size = part.extent.to_array().map(index);
    let rows = (first[2]..first[2] + size[2])
        .flat_map(|z| (first[1]..first[1] + size[1]).map(move |y| (z * h + y) * w + first[0]));
    range_of(rows.map(|at| &voxels[at..at + size[0]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_and_what_is_taken_are_the_whole() {
        let whole = Region::new(Coord::new(2, 3, 4), Extent::new(5, 4, 3));
        for (at, of) in
            [([3, 4, 5], [2, 2, 1]), ([0, 0, 0], [4, 4, 5]), ([6, 6, 6], [9, 9, 9]), ([2, 3, 4], [5, 4, 3])]
        {
            let gone = Region::new(at.into(), of.into());
            let pieces = without(&whole, &gone);
            for z in 4..7 {
                for y in 3..7 {
                    for x in 2..7 {
                        let c = Coord::new(x, y, z);
                        let times =
                            pieces.iter().filter(|p| p.contains(c)).count() + usize::from(gone.contains(c));
                        assert_eq!(times, 1, "{c}");
                    }
                }
            }
        }
        let apart = Region::new(Coord::new(50, 0, 0), Extent::cube(1));
        assert_eq!(without(&whole, &apart), [whole]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Regions in any order, overlapping, by several threads: cells are known exactly where all of them was told, with exactly the range of what was told.
        #[test]
        fn the_index_is_that_of_what_was_told(
            extent in prop::array::uniform3(1u64..12),
            cell in prop::array::uniform3(1u64..6),
            boxes in prop::collection::vec((prop::array::uniform3(0u64..12), prop::array::uniform3(1u64..12)), 0..10),
            seed in any::<u32>(),
        ) {
            let (extent, cell) = (Extent::from(extent), Extent::from(cell));
            let value = |c: Coord| {
                let mixed = (c.x * 131 + c.y * 17 + c.z).wrapping_mul(u64::from(seed) | 1) >> 3;
                if mixed.is_multiple_of(5) { f32::NAN } else { (mixed % 1000) as f32 - 500.0 }
            };
            let voxels = |r: Region| -> Vec<f32> {
                let mut all = Vec::new();
                for z in 0..r.extent.z { for y in 0..r.extent.y { for x in 0..r.extent.x {
                    all.push(value(Coord::new(r.start.x + x, r.start.y + y, r.start.z + z)));
                } } }
                all
            };
            let regions: Vec<_> = boxes.into_iter()
                .map(|(at, of)| Region::new(at.into(), of.into()).clipped_to(extent))
                .filter(|r| !r.is_empty())
                .collect();
            let builder = RangeIndexBuilder::new(extent, cell).unwrap();
            std::thread::scope(|scope| {
                for half in regions.chunks(regions.len().div_ceil(2).max(1)) {
                    let builder = &builder;
                    scope.spawn(move || half.iter().for_each(|&r| builder.note(r, &voxels(r)).unwrap()));
                }
            });
            let index = builder.finish();
            for place in 0..index.grid.len() {
                let region = index.grid.region(place);
                let (mut all, mut range) = (true, nothing::<f32>());
                for z in 0..region.extent.z { for y in 0..region.extent.y { for x in 0..region.extent.x {
                    let c = Coord::new(region.start.x + x, region.start.y + y, region.start.z + z);
                    let v = value(c);
                    match regions.iter().any(|r| r.contains(c)) {
                        false => all = false,
                        true if !v.is_nan() => range = hull(range, (v, v)),
                        true => {}
                    }
                } } }
                prop_assert_eq!(index.cell_range(place), all.then_some(range));
            }
        }
    }

    #[test]
    fn too_many_pieces_leave_a_cell_unknown_and_memory_bounded() {
        let builder = RangeIndexBuilder::new(Extent::cube(16), Extent::cube(16)).unwrap();
        for i in 0..16u64.pow(3) {
            let c = Coord::new(i % 16, i / 16 % 16, i / 256);
            if (c.x + c.y + c.z).is_multiple_of(2) {
                builder.note(Region::new(c, Extent::cube(1)), &[3u8]).unwrap();
            }
        }
        assert!(builder.lock().parts[&0].left.len() <= MOST_PIECES);
        assert_eq!(builder.snapshot().known(), 0);
        builder.note(Region::whole(Extent::cube(16)), &[5; 4096]).unwrap();
        assert_eq!(builder.finish().cell_range(0), Some((3, 5)));
    }

    #[test]
    fn calls_that_cannot_be_are_refused() {
        let builder = RangeIndexBuilder::<u8>::new(Extent::cube(8), Extent::cube(4)).unwrap();
        let outside = Region::new(Coord::new(7, 0, 0), Extent::new(2, 1, 1));
        assert!(builder.note(outside, &[0; 2]).is_err());
        assert!(builder.note(Region::whole(Extent::cube(2)), &[0; 7]).is_err());
        assert!(builder.note_uniform(outside, 0).is_err());
        builder.note_range(Region::whole(Extent::cube(8)), (9, 3)).unwrap();
        assert_eq!(builder.snapshot().known(), 0, "no range");
        builder.note_uniform(Region::whole(Extent::cube(8)), 9).unwrap();
        assert_eq!(builder.finish().of(Region::whole(Extent::cube(8))), Some((9, 9)));
    }
}
