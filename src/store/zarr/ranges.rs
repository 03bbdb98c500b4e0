//! Owns [`Ranges`]: the smallest and largest value of each cell of a level, as its chunks are written, and the array that they become. Knows nothing of objects.
//!
//! ```text
//! vastgrid/ranges/s0/     array of shape [z, y, x, 2] of the level's own type, one pair of values (smallest, largest) for each cell of level s0;
//!                         its attribute "vastgrid": {"cell": [z, y, x]} has the cell's shape in voxels of the level;
//!                         in a folder "objects" beside it, the mark of the level's objects that they are of: how readers tell that somebody wrote others
//! ```
//!
//! Cells begin at the volume's corner and are cut off at its far faces. NaNs are left out: a cell of nothing else has the range from infinity down to minus infinity. A cell of which nothing is known has 1 and 0.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::options::ZarrOptions;
use crate::geometry::boxes::{grid, voxels};
use crate::geometry::{Coord, Extent, Region};
use crate::source::index;
use crate::voxel::{Scalar, range_of, ranges_along};

/// The least side of a cell, where the chunk's side has a divisor that is no less.
const LEAST_SIDE: u64 = 16;

/// The greatest side that is looked for.
const MOST_SIDE: u64 = 256;

/// The most cells of a level, unless chunks are cells.
const MOST_CELLS: u64 = 1 << 22;

/// The most chunks of a level of which there are ranges at all: what an index of them may have.
const MOST_CHUNKS: u64 = 1 << 28;

/// The ranges of a level's cells, object by object.
#[derive(Debug)]
pub(super) struct Ranges<T> {
    extent: Extent,
    cell: Extent,
    object: Extent,
    of_objects: Mutex<HashMap<Coord, Vec<[T; 2]>>>,
}

impl<T: Scalar> Ranges<T> {
    /// `None` where there would be too many.
    pub(super) fn new(extent: Extent, options: &ZarrOptions) -> Option<Self> {
        let cell = cell(extent, options)?;
        Some(Self { extent, cell, object: options.object(), of_objects: Mutex::default() })
    }

    pub(super) fn cell(&self) -> Extent {
        self.cell
    }

    /// Cells along each axis.
    pub(super) fn cells(&self) -> Extent {
        let (extent, cell) = (self.extent.to_array(), self.cell.to_array());
        Extent::from([0, 1, 2].map(|a| extent[a].div_ceil(cell[a])))
    }

    /// Cells of an object along each axis, as if all of it lay inside the volume.
    fn per_object(&self) -> Extent {
        let (object, cell) = (self.object.to_array(), self.cell.to_array());
        Extent::from([0, 1, 2].map(|a| object[a] / cell[a]))
    }

    /// Those that lie inside.
    fn cells_of_object(&self, object: Coord) -> Extent {
        let (all, per, object) = (self.cells().to_array(), self.per_object().to_array(), object.to_array());
        Extent::from([0, 1, 2].map(|a| per[a].min(all[a].saturating_sub(object[a].saturating_mul(per[a])))))
    }

    /// Takes in the voxels of a chunk, cut off at the volume's far faces; they lie in the buffer of `region`.
    pub(super) fn note(&self, object: Coord, chunk: Region, region: Region, buffer: &[T]) {
        // All cells along x at once.
        let beams = grid(chunk, Extent::new(self.extent.x, self.cell.y, self.cell.z));
        let found = beams.filter_map(|beam| beam.intersection(&chunk)).flat_map(|beam| {
            let ranges = ranges_along(rows(beam, region, buffer), index(beam.extent.x), index(self.cell.x));
            self.cells_of(beam).zip(ranges).map(|((place, _), range)| (place, range.into()))
        });
        self.put(object, found.collect());
    }

    /// Takes in that all voxels of a chunk are `value`.
    pub(super) fn note_uniform(&self, object: Coord, chunk: Region, value: T) {
        let range = range_of(std::iter::once(&[value][..])).into();
        self.put(object, self.cells_of(chunk).map(|(place, _)| (place, range)).collect());
    }

    /// The cells of a chunk: the place of each in its object, and its voxels inside the volume.
    fn cells_of(&self, chunk: Region) -> impl Iterator<Item = (usize, Region)> {
        let (object, cell) = (self.object, self.cell);
        let [x, y, z] = [0, 1, 2].map(|a| chunk.start.to_array()[a] / object.to_array()[a]);
        let per = self.cells_of_object(Coord { x, y, z });
        grid(chunk.clipped_to(self.extent), cell).map(move |region| {
            let at = |start: u64, object: u64, cell: u64| start % object / cell;
            let (x, y) = (at(region.start.x, object.x, cell.x), at(region.start.y, object.y, cell.y));
            let z = at(region.start.z, object.z, cell.z);
            let place = index(x + per.x * (y + per.y * z));
            (place, region.clipped_to(self.extent))
        })
    }

    fn put(&self, object: Coord, found: Vec<(usize, [T; 2])>) {
        let count = || index(voxels(self.cells_of_object(object)));
        let mut all = self.lock();
        let ranges = all.entry(object).or_insert_with(|| vec![unknown(); count()]);
        for (place, range) in found {
            ranges[place] = range;
        }
    }

    /// What is known of an object, to be found again by [`Ranges::restore`].
    pub(super) fn remember(&self, object: Coord) -> Vec<u8> {
        self.lock()
            .get(&object)
            .map_or(Vec::new(), |ranges| bytemuck::cast_slice(ranges.as_flattened()).to_vec())
    }

    /// Takes in what was known of an object. What is no such thing is left out.
    pub(super) fn restore(&self, object: Coord, note: &[u8]) {
        let count = index(voxels(self.cells_of_object(object)));
        if note.len() != count * 2 * size_of::<T>() {
            return;
        }
        let values: Vec<T> = bytemuck::pod_collect_to_vec(note);
        self.lock().insert(object, values.as_chunks::<2>().0.to_vec());
    }

    /// The ranges of a box of cells, x fastest.
    pub(super) fn of_cells(&self, cells: Region) -> Vec<[T; 2]> {
        let all = self.lock();
        let (start, size, per) = (cells.start, cells.extent, self.per_object());
        let mut out = Vec::with_capacity(index(voxels(size)));
        for z in start.z..start.z + size.z {
            for y in start.y..start.y + size.y {
                for x in start.x..start.x + size.x {
                    let object = Coord::new(x / per.x, y / per.y, z / per.z);
                    let there = self.cells_of_object(object);
                    let place = index(x % per.x + there.x * (y % per.y + there.y * (z % per.z)));
                    out.push(all.get(&object).map_or(unknown(), |ranges| ranges[place]));
                }
            }
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Coord, Vec<[T; 2]>>> {
        self.of_objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shape of a cell; `None` where there would be too many.
pub(super) fn cell(extent: Extent, options: &ZarrOptions) -> Option<Extent> {
    let count = |side: Extent| {
        let (extent, side) = (extent.to_array(), side.to_array());
        voxels(Extent::from([0, 1, 2].map(|a| extent[a].div_ceil(side[a]))))
    };
    let fine = Extent::from(options.chunk.to_array().map(cell_side));
    let cell = if count(fine) <= MOST_CELLS { fine } else { options.chunk };
    (count(cell) <= MOST_CHUNKS).then_some(cell)
}

/// The least divisor of a chunk's side that is no less than [`LEAST_SIDE`], or the side itself.
fn cell_side(chunk: u64) -> u64 {
    (LEAST_SIDE..=(chunk / 2).min(MOST_SIDE)).find(|&side| chunk.is_multiple_of(side)).unwrap_or(chunk)
}

/// What stands for a range that is not known.
fn unknown<T: Scalar>() -> [T; 2] {
    [T::from_f64(1.0), T::from_f64(0.0)]
}

/// The rows of a part of a region whose voxels are given.
fn rows<T>(part: Region, region: Region, voxels: &[T]) -> impl Iterator<Item = &[T]> {
    let (first, size) = (part.start, part.extent);
    let rows =
        (first.z..first.z + size.z).flat_map(move |z| (first.y..first.y + size.y).map(move |y| (y, z)));
    rows.map(move |(y, z)| {
        let row = (z - region.start.z) * region.extent.y + (y - region.start.y);
        let at = index(row * region.extent.x + (first.x - region.start.x));
        &voxels[at..at + index(size.x)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_divide_chunks() {
        let sides: Vec<_> = [1, 8, 16, 17, 32, 50, 64, 96, 97].into_iter().map(cell_side).collect();
        assert_eq!(sides, [1, 8, 16, 17, 16, 25, 16, 16, 97]);
        let options = ZarrOptions::default();
        let ranges = |side| Ranges::<u8>::new(Extent::cube(side), &options).map(|r| r.cell());
        assert_eq!(ranges(2048), Some(Extent::cube(16)));
        assert_eq!(ranges(8192), Some(Extent::cube(64)));
        assert_eq!(ranges(1 << 17), None);
    }

    #[test]
    fn a_shard_that_is_larger_than_the_volume_has_the_ranges_of_the_volume_alone() {
        let options =
            ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(400)), ..ZarrOptions::default() };
        let ranges = Ranges::<u8>::new(Extent::new(9, 5, 3), &options).unwrap();
        let first = Coord::default();
        for start in [Coord::default(), Coord::new(4, 0, 0), Coord::new(8, 4, 0)] {
            let chunk = Region::new(start, Extent::cube(4)).clipped_to(Extent::new(9, 5, 3));
            ranges.note_uniform(first, chunk, 7);
        }
        assert_eq!(ranges.remember(first), [7, 7, 7, 7, 1, 0, 1, 0, 1, 0, 7, 7]);
        let all = ranges.of_cells(Region::whole(ranges.cells()));
        assert_eq!(all.as_flattened(), ranges.remember(first));
    }

    #[test]
    fn ranges_are_those_of_what_was_written_and_can_be_restored() {
        let options =
            ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(8)), ..ZarrOptions::default() };
        let extent = Extent::new(10, 9, 1);
        let ranges = Ranges::<f32>::new(extent, &options).unwrap();
        let chunk = Region::new(Coord::new(8, 0, 0), Extent::new(2, 4, 1));
        ranges.note(Coord::new(1, 0, 0), chunk, chunk, &[5.0, f32::NAN, -1.0, 2.0, 0.0, 0.0, 7.0, 1.0]);
        let nans = Region::new(Coord::new(8, 4, 0), Extent::new(2, 4, 1));
        ranges.note(Coord::new(1, 0, 0), nans, nans, &[f32::NAN; 8]);
        ranges.note_uniform(Coord::new(0, 1, 0), Region::new(Coord::new(4, 8, 0), Extent::new(4, 1, 1)), 3.0);
        let row =
            |ranges: &Ranges<f32>, y| ranges.of_cells(Region::new(Coord::new(0, y, 0), Extent::new(3, 1, 1)));
        let inf = f32::INFINITY;
        let expected = [
            [[1.0, 0.0], [1.0, 0.0], [-1.0, 7.0]],
            [[1.0, 0.0], [1.0, 0.0], [inf, -inf]],
            [[1.0, 0.0], [3.0, 3.0], [1.0, 0.0]],
        ];
        let again = Ranges::<f32>::new(extent, &options).unwrap();
        for object in [Coord::new(1, 0, 0), Coord::new(0, 1, 0)] {
            again.restore(object, &ranges.remember(object));
        }
        again.restore(Coord::new(0, 0, 0), b"no such thing");
        for (y, expected) in (0..).zip(expected) {
            assert_eq!(row(&ranges, y), expected);
            assert_eq!(row(&again, y), expected);
        }
    }
}
