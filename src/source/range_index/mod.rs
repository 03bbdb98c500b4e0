//! Owns [`RangeIndex`]: the smallest and largest value of each cell of a volume, known without reading it. Knows nothing of files, tiles or pictures.
//!
//! ```text
//!   +------+------+---+
//!   | 0..7 | 0..0 | ? |      cells from the volume's corner on, cut off at its far faces;
//!   +------+------+---+      a cell is known or it is not
//!   | 0..3 | 5..9 | ? |
//!   +------+------+---+
//! ```

use crate::error::SourceError;
use crate::geometry::{Coord, Extent, Region};
use crate::source::index;
use crate::voxel::{Scalar, ScalarType};

mod builder;
mod file;

pub use builder::RangeIndexBuilder;

/// The most cells that an index has.
const MOST_CELLS: u64 = 1 << 28;

/// The smallest and largest value of each cell of a volume: what there is to know of it without reading it.
///
/// **Shape**: cells of one shape, from the volume's first voxel on, x fastest, then y, then z; those at the far faces are cut off there.
///
/// NaNs are left out. The range of nothing but NaNs is empty: from infinity down to minus infinity. A cell of which nothing is known says so.
///
/// **Cost**: two values in memory for each cell.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeIndex<T> {
    grid: CellGrid,
    least: Vec<T>,
    greatest: Vec<T>,
}

impl<T> RangeIndex<T> {
    /// Size of the volume in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.grid.extent
    }
}

impl<T: Scalar> RangeIndex<T> {
    /// The most cells that an index has.
    pub const MOST_CELLS: u64 = MOST_CELLS;

    /// The shape of cells to keep ranges of a volume in: `cell`, its sides doubled, the shortest first, until there are no more than `most_cells` (nor [`RangeIndex::MOST_CELLS`]).
    #[must_use]
    pub fn cell_for(extent: Extent, cell: Extent, most_cells: u64) -> Extent {
        let (extent, mut cell) = (extent.to_array(), cell.to_array().map(|side| side.max(1)));
        let too_many = |cell: [u64; 3]| {
            let counts = [0, 1, 2].map(|axis| extent[axis].div_ceil(cell[axis]));
            Extent::from(counts).checked_volume().is_none_or(|n| n > most_cells.clamp(1, MOST_CELLS))
        };
        while too_many(cell) {
            let Some(shortest) = (0..3).filter(|&a| cell[a] < extent[a]).min_by_key(|&a| cell[a]) else {
                break;
            };
            cell[shortest] = cell[shortest].saturating_mul(2);
        }
        cell.into()
    }

    /// An index of a volume of `extent` in cells of the shape `cell`, from the smallest and the largest value of each.
    ///
    /// **Shape**: `least` and `greatest` have a value for each cell, x fastest. A cell whose smallest value is larger than its largest, or that has a NaN for either, is unknown;
    /// but from infinity down to minus infinity, of floating-point values, is the range of nothing but NaNs.
    ///
    /// # Errors
    /// [`SourceError::RangeIndex`]: an empty extent or cell, more than [`RangeIndex::MOST_CELLS`], or another number of values than of cells.
    pub fn from_parts(
        extent: Extent,
        cell: Extent,
        mut least: Vec<T>,
        mut greatest: Vec<T>,
    ) -> Result<Self, SourceError> {
        let grid = CellGrid::new(extent, cell)?;
        for given in [least.len(), greatest.len()] {
            if given != grid.len() {
                let reason = "not as many values as cells";
                return Err(SourceError::RangeIndex { extent, cell, values: given as u64, reason });
            }
        }
        for (low, high) in least.iter_mut().zip(&mut greatest) {
            if !(is_range((*low, *high)) || is_float::<T>() && is_nothing((*low, *high))) {
                (*low, *high) = unknown();
            }
        }
        Ok(Self { grid, least, greatest })
    }

    /// Shape of a cell in voxels.
    #[must_use]
    pub fn cell(&self) -> Extent {
        self.grid.cell
    }

    /// Cells along each axis.
    #[must_use]
    pub fn cells(&self) -> Extent {
        self.grid.cells
    }

    /// How many cells are known.
    ///
    /// **Cost**: a look at each.
    #[must_use]
    pub fn known(&self) -> u64 {
        (0..self.grid.len()).filter(|&i| self.cell_range(i).is_some()).count() as u64
    }

    /// The smallest value of each cell, x fastest. Where a cell is unknown it is larger than the largest one. With [`RangeIndex::greatest`], what [`RangeIndex::from_parts`] takes.
    #[must_use]
    pub fn least(&self) -> &[T] {
        &self.least
    }

    /// The largest value of each cell, x fastest.
    #[must_use]
    pub fn greatest(&self) -> &[T] {
        &self.greatest
    }

    /// The range of the cell at that place, counted x fastest; `None` where it is unknown or there is no such cell.
    #[must_use]
    #[inline]
    pub fn cell_range(&self, cell: usize) -> Option<(T, T)> {
        let range = (*self.least.get(cell)?, *self.greatest.get(cell)?);
        (range != unknown()).then_some(range)
    }

    /// The index of what becomes of the volume: each cell's range, by `convert`, in another type.
    pub(crate) fn converted<U: Scalar>(&self, convert: impl Fn((T, T)) -> (U, U)) -> RangeIndex<U> {
        let ranges = (0..self.grid.len()).map(|i| self.cell_range(i).map_or_else(unknown, &convert));
        let (least, greatest) = ranges.unzip();
        RangeIndex { grid: self.grid, least, greatest }
    }

    /// The index of a volume of `extent` that is made of this one: each region of it out of the one that `below` says, of one voxel that of the least block. In about as many cells, and no more.
    pub(crate) fn coarser(
        &self,
        extent: Extent,
        block: Extent,
        below: impl Fn(Region) -> Region,
    ) -> Option<Self> {
        let cell = self.grid.cell;
        let cell = Extent::new(cell.x / block.x.max(1), cell.y / block.y.max(1), cell.z / block.z.max(1));
        let cell = Self::cell_for(extent, cell, self.grid.len() as u64);
        let grid = CellGrid::new(extent, cell).ok()?;
        let ranges = (0..grid.len()).map(|i| self.of(below(grid.region(i))).unwrap_or_else(unknown));
        let (least, greatest) = ranges.unzip();
        Some(Self { grid, least, greatest })
    }

    /// A range that all voxels of `region` lie in; `None` where any of its cells is unknown, and for a region that is empty or leaves the volume.
    ///
    /// It is the hull of the ranges of all cells that the region touches, so it may be wider than the region's own.
    ///
    /// **Cost**: a look at each of these cells.
    #[must_use]
    pub fn of(&self, region: Region) -> Option<(T, T)> {
        if region.is_empty() || !region.is_within(self.grid.extent) {
            return None;
        }
        let mut all = nothing();
        for place in self.grid.touched(region) {
            all = hull(all, self.cell_range(place)?);
        }
        Some(all)
    }
}

/// How a volume is divided into cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CellGrid {
    extent: Extent,
    cell: Extent,
    cells: Extent,
}

impl CellGrid {
    /// # Errors
    /// [`SourceError::RangeIndex`].
    fn new(extent: Extent, cell: Extent) -> Result<Self, SourceError> {
        let refused = |values, reason| Err(SourceError::RangeIndex { extent, cell, values, reason });
        if extent.is_empty() || cell.is_empty() {
            return refused(0, "the volume or the cell is empty");
        }
        let cells =
            Extent::new(extent.x.div_ceil(cell.x), extent.y.div_ceil(cell.y), extent.z.div_ceil(cell.z));
        match cells.checked_volume() {
            Some(n) if n <= MOST_CELLS => Ok(Self { extent, cell, cells }),
            n => refused(n.unwrap_or(u64::MAX), "too many cells"),
        }
    }

    fn len(&self) -> usize {
        index(self.cells.x * self.cells.y * self.cells.z)
    }

    /// The places of the cells that a region inside the extent touches; it is not empty.
    fn touched(&self, region: Region) -> impl Iterator<Item = usize> + use<> {
        let (start, size) = (region.start.to_array(), region.extent.to_array());
        let (cell, cells) = (self.cell.to_array(), self.cells);
        let [x, y, z] = [0, 1, 2].map(|a| start[a] / cell[a]..=(start[a] + size[a] - 1) / cell[a]);
        z.flat_map(move |z| {
            let x = x.clone();
            y.clone().flat_map(move |y| x.clone().map(move |x| index(x + cells.x * (y + cells.y * z))))
        })
    }

    /// The voxels of a cell that lie inside the volume.
    fn region(&self, place: usize) -> Region {
        let (place, cells, cell) = (place as u64, self.cells, self.cell);
        let at = [place % cells.x, place / cells.x % cells.y, place / cells.x / cells.y];
        let start = Coord::new(at[0] * cell.x, at[1] * cell.y, at[2] * cell.z);
        Region::new(start, cell).clipped_to(self.extent)
    }
}

pub(crate) fn is_float<T: Scalar>() -> bool {
    matches!(T::TYPE, ScalarType::F16 | ScalarType::F32 | ScalarType::F64)
}

/// The range of nothing; of whole numbers, from the type's largest down to its smallest.
fn nothing<T: Scalar>() -> (T, T) {
    (T::from_f64(f64::INFINITY), T::from_f64(f64::NEG_INFINITY))
}

/// What stands for a range that is not known.
fn unknown<T: Scalar>() -> (T, T) {
    (T::from_f64(1.0), T::from_f64(0.0))
}

fn is_nothing<T: Scalar>(range: (T, T)) -> bool {
    range == nothing()
}

fn is_range<T: Scalar>((low, high): (T, T)) -> bool {
    low <= high
}

/// The smallest range that holds both.
#[inline]
fn hull<T: Scalar>(a: (T, T), b: (T, T)) -> (T, T) {
    (if b.0 < a.0 { b.0 } else { a.0 }, if b.1 > a.1 { b.1 } else { a.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_shapes_that_cannot_be_are_refused_by_name() {
        let of = |extent, cell, n: usize, m: usize| {
            RangeIndex::from_parts(extent, cell, vec![0u8; n], vec![1; m])
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let (extent, cell) = (Extent::new(10, 5, 3), Extent::new(4, 4, 4));
        assert_eq!(of(extent, cell, 6, 6), Ok(()));
        for (n, m) in [(6, 5), (7, 6), (0, 0)] {
            assert!(of(extent, cell, n, m).unwrap_err().contains("10 x 5 x 3"), "{n} {m}");
        }
        assert!(of(Extent::cube(0), cell, 0, 0).is_err());
        assert!(of(extent, Extent::new(1, 0, 1), 0, 0).is_err());
        assert!(of(Extent::cube(u64::MAX), Extent::cube(1), 1, 1).unwrap_err().contains("too many"));
        assert!(of(Extent::cube(u64::MAX), Extent::cube(u64::MAX), 1, 1).is_ok());
    }

    #[test]
    fn ranges_of_regions_are_hulls_and_unknown_where_a_cell_is() {
        let extent = Extent::new(10, 4, 1);
        let least = vec![1.0, f32::NAN, -5.0];
        let index = RangeIndex::from_parts(extent, Extent::cube(4), least, vec![2.0, 2.0, 9.0]).unwrap();
        let of = |x, width| index.of(Region::new(Coord::new(x, 1, 0), Extent::new(width, 2, 1)));
        assert_eq!((of(0, 4), of(8, 2), of(9, 1)), (Some((1.0, 2.0)), Some((-5.0, 9.0)), Some((-5.0, 9.0))));
        assert_eq!((of(3, 2), of(7, 2), of(0, 0), of(8, 3)), (None, None, None, None));
        assert_eq!(of(u64::MAX, 2), None);
        assert_eq!(index.known(), 2);
    }

    #[test]
    fn nothing_but_nans_is_known_and_adds_nothing() {
        let (inf, extent) = (f32::INFINITY, Extent::new(2, 1, 1));
        let index = RangeIndex::from_parts(extent, Extent::cube(1), vec![inf, 3.0], vec![-inf, 4.0]).unwrap();
        assert_eq!(index.of(Region::whole(Extent::cube(1))), Some((inf, -inf)));
        assert_eq!(index.of(Region::whole(extent)), Some((3.0, 4.0)));
        let bytes = RangeIndex::from_parts(extent, Extent::cube(1), vec![255, 0], vec![0u8, 255]).unwrap();
        assert_eq!(bytes.of(Region::whole(Extent::cube(1))), None, "whole numbers have no NaN");
        assert_eq!(bytes.cell_range(1), Some((0, 255)));
    }

    #[test]
    fn cells_are_as_coarse_as_they_must_be() {
        let cell_for = RangeIndex::<u8>::cell_for;
        assert_eq!(cell_for(Extent::cube(64), Extent::cube(8), 512), Extent::cube(8));
        assert_eq!(cell_for(Extent::cube(64), Extent::cube(8), 511), Extent::new(16, 8, 8));
        let far = cell_for(Extent::cube(1 << 46), Extent::cube(8), u64::MAX);
        assert!(CellGrid::new(Extent::cube(1 << 46), far).is_ok());
        assert!(
            CellGrid::new(Extent::cube(u64::MAX), cell_for(Extent::cube(u64::MAX), Extent::cube(0), 0))
                .is_ok()
        );
    }
}
