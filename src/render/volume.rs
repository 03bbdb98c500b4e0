//! Owns what a ray caster reads: the [`Volume`] trait, and a dense slice as one. Knows nothing of rays.

use super::error::RenderError;
use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::voxel::Scalar;

/// What there is of a brick (a tile) right now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Brick<'a, T> {
    /// Its voxels, x fastest, with strides 1, x and x * y of the brick's whole shape: what lies outside the extent is padding.
    Resident(&'a [T]),
    /// Every voxel has this value; there is no memory.
    Uniform(T),
    /// Not here.
    Missing,
}

/// A volume in bricks, some of which are there.
///
/// A brick's voxels must not change while a call that was given the volume runs. It may go missing: then it is reported as wanted, like one that never was there.
pub trait Volume<T: Scalar>: Sync {
    /// Size in voxels.
    fn extent(&self) -> Extent;

    /// Shape of a brick. Along each axis a power of two, or no less than the extent (a dense array is one brick).
    fn brick_shape(&self) -> Extent;

    /// What there is of a brick.
    fn brick(&self, tile: TileCoord) -> Brick<'_, T>;

    /// Shape of a cell: ranges are kept for each. Powers of two that divide a brick's power of two.
    fn cell_shape(&self) -> Extent;

    /// Least and greatest value of a cell's voxels inside the extent, or `None` where that is unknown; known, it stays so while the brick
    /// is missing. NaN does not count; a cell without any number is (infinity, -infinity).
    ///
    /// **Shape**: cells count x fastest, then y, then z, over `ceil(brick / cell)` cells along each axis.
    fn cell_range(&self, tile: TileCoord, cell: usize) -> Option<(f32, f32)>;

    /// A number that changes whenever a voxel that was there, or a known range, does: what was kept from either (see [`SkipCache`](super::SkipCache)) is dropped then.
    fn version(&self) -> u64 {
        0
    }
}

/// A slice that holds a whole volume: one brick, with ranges of its own.
#[derive(Clone, Debug)]
pub struct DenseVolume<'a, T> {
    voxels: &'a [T],
    extent: Extent,
    ranges: Vec<(f32, f32)>,
}

const CELL_EDGE: usize = 8;

impl<'a, T: Scalar> DenseVolume<'a, T> {
    /// Takes `voxels`, x fastest.
    ///
    /// **Cost**: reads every voxel once, for the ranges.
    ///
    /// # Errors
    /// [`RenderError::VoxelCount`] where the slice does not hold exactly the voxels of `extent`, or there is none.
    pub fn new(voxels: &'a [T], extent: Extent) -> Result<Self, RenderError> {
        let count = extent.checked_volume().and_then(|v| usize::try_from(v).ok());
        let sides = extent.to_array().map(|n| usize::try_from(n).unwrap_or(0));
        if count != Some(voxels.len()) || extent.is_empty() {
            return Err(RenderError::VoxelCount { voxels: voxels.len(), extent });
        }
        let cells = sides.map(|n| n.div_ceil(CELL_EDGE));
        let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); cells.iter().product()];
        for (row, line) in voxels.chunks_exact(sides[0]).enumerate() {
            let (y, z) = (row % sides[1], row / sides[1]);
            let first = (z / CELL_EDGE * cells[1] + y / CELL_EDGE) * cells[0];
            for (range, part) in ranges.iter_mut().skip(first).zip(line.chunks(CELL_EDGE)) {
                for v in part {
                    let v = v.to_f32();
                    *range = (range.0.min(v), range.1.max(v));
                }
            }
        }
        Ok(Self { voxels, extent, ranges })
    }

    /// Least and greatest value of all; (infinity, -infinity) where no voxel is a number.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        self.ranges.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

impl<T: Scalar> Volume<T> for DenseVolume<'_, T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn brick_shape(&self) -> Extent {
        self.extent
    }

    fn brick(&self, tile: TileCoord) -> Brick<'_, T> {
        if tile == TileCoord::default() { Brick::Resident(self.voxels) } else { Brick::Missing }
    }

    fn cell_shape(&self) -> Extent {
        Extent::cube(CELL_EDGE as u64)
    }

    fn cell_range(&self, tile: TileCoord, cell: usize) -> Option<(f32, f32)> {
        if tile == TileCoord::default() { self.ranges.get(cell).copied() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_per_cell_and_leave_out_what_is_no_number() {
        let extent = Extent::new(10, 9, 1);
        let mut voxels: Vec<f32> = (0..90u8).map(f32::from).collect();
        voxels[0] = f32::NAN;
        let dense = DenseVolume::new(&voxels, extent).unwrap();
        assert_eq!(dense.ranges.len(), 4);
        let range = |cell| dense.cell_range(TileCoord::default(), cell);
        assert_eq!(range(0), Some((1.0, 77.0)));
        assert_eq!(range(1), Some((8.0, 79.0)));
        assert_eq!(range(3), Some((88.0, 89.0)));
        assert_eq!(range(4), None);
        assert_eq!(dense.range(), (1.0, 89.0));
    }

    #[test]
    fn a_slice_of_another_length_is_refused() {
        assert!(DenseVolume::new(&[0u8; 7], Extent::cube(2)).is_err());
        assert!(DenseVolume::new(&[0u8; 0], Extent::new(0, 4, 4)).is_err());
        assert!(DenseVolume::new(&[0u8; 7], Extent::cube(1 << 40)).is_err());
    }
}
