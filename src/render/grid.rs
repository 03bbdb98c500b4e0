//! Owns how a volume is cut into bricks and cells: [`Grid`], found good once for a picture. Knows nothing of their contents.

use super::error::RenderError;
use super::path::MAX_EXTENT;
use super::volume::Volume;
use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::voxel::Scalar;

/// How a volume is cut up. All in voxels, as `i64` because positions next to the volume are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) extent: [i64; 3],
    pub(crate) brick: [i64; 3],
    /// Voxels of a brick between neighbours along each axis.
    pub(crate) stride: [i64; 3],
    /// Voxels to bricks. Larger than any position where there is one brick.
    brick_shift: [u32; 3],
    /// Fixed-point positions to bricks.
    fixed_shift: [u32; 3],
    last_brick: [i64; 3],
    /// Bricks of a group; fewer at the upper faces of the volume.
    group: [i64; 3],
    pub(crate) cell_shift: [u32; 3],
    /// Cells of a brick.
    pub(crate) cells: [usize; 3],
    /// Voxels of a brick.
    pub(crate) brick_voxels: usize,
}

const ALL: u32 = 62;

/// log2 of a position further than any: the end of what has none.
const FAR: u32 = 62;

/// The most bricks of a group along each axis, and voxels. **Source**: measured, see DECISIONS.md, 14.
const GROUP_BRICKS: i64 = 4;
const GROUP_VOXELS: i64 = 128;

impl Grid {
    pub(crate) fn new<T: Scalar, V: Volume<T>>(volume: &V) -> Result<Self, RenderError> {
        let (extent, brick, cell) = (volume.extent(), volume.brick_shape(), volume.cell_shape());
        let bad = |problem| RenderError::Volume { extent, brick, cell, problem };
        if extent.is_empty() || brick.is_empty() || cell.is_empty() {
            return Err(bad("a side is zero"));
        }
        if extent.to_array().into_iter().any(|n| n > MAX_EXTENT) {
            return Err(bad("a side is longer than 2^30"));
        }
        let mut grid = Self {
            extent: extent.to_array().map(u64::cast_signed),
            brick: brick.to_array().map(u64::cast_signed),
            stride: [0; 3],
            brick_shift: [ALL; 3],
            fixed_shift: [FAR; 3],
            last_brick: [0; 3],
            group: [1; 3],
            cell_shift: [0; 3],
            cells: [0; 3],
            brick_voxels: 0,
        };
        for a in 0..3 {
            let (n, b, c) = (extent.to_array()[a], brick.to_array()[a], cell.to_array()[a]);
            if b > MAX_EXTENT || !c.is_power_of_two() {
                return Err(bad("a brick is longer than 2^30, or a cell's side no power of two"));
            }
            if b < n {
                if !b.is_power_of_two() || c > b {
                    return Err(bad("a brick's side must be a power of two, and a multiple of the cell's"));
                }
                grid.brick_shift[a] = b.trailing_zeros();
                grid.fixed_shift[a] = 32 + b.trailing_zeros();
                grid.group[a] = (GROUP_VOXELS >> b.trailing_zeros()).clamp(1, GROUP_BRICKS);
                grid.last_brick[a] = ((n - 1) >> b.trailing_zeros()).cast_signed();
            }
            grid.cell_shift[a] = c.trailing_zeros();
            grid.cells[a] = usize::try_from(b.div_ceil(c)).map_err(|_| bad("too many cells"))?;
        }
        let voxels = brick.checked_volume().and_then(|v| usize::try_from(v).ok());
        grid.brick_voxels = voxels.ok_or_else(|| bad("a brick is too large"))?;
        grid.stride = [1, grid.brick[0], grid.brick[0] * grid.brick[1]];
        let cells = grid.cells.into_iter().try_fold(1usize, usize::checked_mul);
        cells.filter(|&c| c <= 1 << 32).ok_or_else(|| bad("a brick has too many cells"))?;
        Ok(grid)
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::from(self.extent.map(i64::cast_unsigned))
    }

    /// The brick that holds a voxel, along one axis.
    #[inline(always)]
    pub(crate) fn brick_of(&self, axis: usize, voxel: i64) -> i64 {
        voxel >> self.brick_shift[axis]
    }

    /// The first voxel of a brick.
    #[inline(always)]
    pub(crate) fn origin(&self, tile: [i64; 3]) -> [i64; 3] {
        std::array::from_fn(|a| if self.brick_shift[a] == ALL { 0 } else { tile[a] << self.brick_shift[a] })
    }

    /// The voxel below a fixed-point position, as far as the volume goes.
    #[inline(always)]
    pub(crate) fn voxel_below(&self, p: [i64; 3]) -> [i64; 3] {
        let along = |a: usize| (p[a] >> 32).max(0).min(self.extent[a] - 1);
        [along(0), along(1), along(2)]
    }

    /// The brick that holds the voxel below a fixed-point position, as far as the volume goes.
    #[inline(always)]
    pub(crate) fn brick_below(&self, p: [i64; 3]) -> [i64; 3] {
        let along = |a: usize| (p[a] >> self.fixed_shift[a]).max(0).min(self.last_brick[a]);
        [along(0), along(1), along(2)]
    }

    /// Where rays leave a box of bricks on the lower and on the upper side, along each axis, in fixed point. The outermost bricks have no outer end on the lower side, and no matter
    /// whether they have one on the upper, as no position is that far from the volume.
    pub(crate) fn ends(&self, bricks: BrickBox) -> [[i64; 3]; 2] {
        let end = |a: usize, brick: i64| brick << self.fixed_shift[a];
        let lower = |a: usize| if bricks.low[a] == 0 { -(1 << FAR) } else { end(a, bricks.low[a]) };
        [[lower(0), lower(1), lower(2)], std::array::from_fn(|a| end(a, bricks.high[a] + 1))]
    }

    /// Where a ray in a direction leaves a brick: of [`Grid::ends`] those on its way.
    #[inline(always)]
    pub(crate) fn ends_of(&self, brick: [i64; 3], direction: [i64; 3]) -> [i64; 3] {
        let along = |a: usize| {
            let upwards = i64::from(direction[a] > 0);
            let end = (brick[a] + upwards) << self.fixed_shift[a];
            if brick[a] + upwards == 0 { -(1 << FAR) } else { end }
        };
        [along(0), along(1), along(2)]
    }

    /// The last voxel inside the volume of a box that begins with a voxel and has such sides, from its first.
    pub(crate) fn last_of(&self, origin: [i64; 3], sides: [i64; 3]) -> [i32; 3] {
        let last = |a: usize| sides[a].min(self.extent[a] - origin[a]) - 1;
        [0, 1, 2].map(|a| i32::try_from(last(a)).unwrap_or(i32::MAX))
    }

    /// The place among groups of the one that a brick belongs to.
    pub(crate) fn group_of(&self, brick: [i64; 3]) -> [i64; 3] {
        std::array::from_fn(|a| brick[a] / self.group[a])
    }

    /// The bricks of a group.
    pub(crate) fn group(&self, place: [i64; 3]) -> BrickBox {
        let low = std::array::from_fn(|a| place[a] * self.group[a]);
        let high = std::array::from_fn(|a| (low[a] + self.group[a] - 1).min(self.last_brick[a]));
        BrickBox { low, high }
    }

    /// Whether the volume has such a brick.
    pub(crate) fn has(&self, tile: [i64; 3]) -> bool {
        let origin = self.origin(tile);
        (0..3).all(|a| {
            tile[a] >= 0 && origin[a] < self.extent[a] && (self.brick_shift[a] != ALL || tile[a] == 0)
        })
    }

    /// The bricks that hold the voxels from `low` to `high`, both included and clamped to the volume.
    pub(crate) fn bricks_between(&self, low: [i64; 3], high: [i64; 3]) -> BrickBox {
        let brick = |v: [i64; 3]| -> [i64; 3] {
            std::array::from_fn(|a| self.brick_of(a, v[a].clamp(0, self.extent[a] - 1)))
        };
        BrickBox { low: brick(low), high: brick(high) }
    }
}

/// A box of bricks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BrickBox {
    pub(crate) low: [i64; 3],
    high: [i64; 3],
}

impl BrickBox {
    pub(crate) fn one(brick: [i64; 3]) -> Self {
        Self { low: brick, high: brick }
    }

    /// Bricks along each axis.
    pub(crate) fn sides(&self) -> [i64; 3] {
        std::array::from_fn(|a| self.high[a] - self.low[a] + 1)
    }

    pub(crate) fn tiles(&self) -> impl Iterator<Item = TileCoord> + use<> {
        let Self { low, high } = *self;
        (low[2]..=high[2]).flat_map(move |z| {
            (low[1]..=high[1]).flat_map(move |y| (low[0]..=high[0]).map(move |x| tile_coord([x, y, z])))
        })
    }
}

/// Only for bricks that the volume has, whose position is not negative.
#[inline(always)]
pub(crate) fn tile_coord([x, y, z]: [i64; 3]) -> TileCoord {
    TileCoord::new(x.cast_unsigned(), y.cast_unsigned(), z.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::super::volume::Brick;
    use super::*;

    struct Shape([u64; 3], [u64; 3], [u64; 3]);

    impl Volume<u8> for Shape {
        fn extent(&self) -> Extent {
            self.0.into()
        }
        fn brick_shape(&self) -> Extent {
            self.1.into()
        }
        fn brick(&self, _: TileCoord) -> Brick<'_, u8> {
            Brick::Missing
        }
        fn cell_shape(&self) -> Extent {
            self.2.into()
        }
        fn cell_range(&self, _: TileCoord, _: usize) -> Option<(f32, f32)> {
            None
        }
    }

    #[test]
    fn one_brick_along_an_axis_may_have_any_length() {
        let grid = Grid::new(&Shape([100, 33, 5], [16, 33, 8], [8; 3])).unwrap();
        assert_eq!(grid.cells, [2, 5, 1]);
        assert_eq!(grid.origin([2, 0, 0]), [32, 0, 0]);
        assert!(grid.has([6, 0, 0]) && !grid.has([7, 0, 0]) && !grid.has([0, 1, 0]) && !grid.has([0, 0, -1]));
        assert_eq!(grid.voxel_below([-5, 40 << 32, 2 << 32]), [0, 32, 2]);
        assert_eq!(grid.brick_below([33 << 32, 40 << 32, -5]), [2, 0, 0]);
        assert_eq!(grid.brick_below([999 << 32, -1, 0]), [6, 0, 0]);
        let ends = [[32 << 32, -1 << 62, -1 << 62], [48 << 32, 1 << 62, 1 << 62]];
        assert_eq!(grid.ends(BrickBox::one([2, 0, 0])), ends);
        assert_eq!((grid.group_of([3, 0, 0]), grid.group_of([4, 0, 0])), ([0; 3], [1, 0, 0]));
        assert_eq!(grid.group([1, 0, 0]), BrickBox { low: [4, 0, 0], high: [6, 0, 0] }, "as far as they go");
        let sides = |brick| Grid::new(&Shape([1000; 3], [brick; 3], [8; 3])).unwrap().group([0; 3]).sides();
        assert_eq!([16, 32, 64, 128, 256, 1000].map(sides), [[4; 3], [4; 3], [2; 3], [1; 3], [1; 3], [1; 3]]);
        let tiles: Vec<_> = grid.bricks_between([-1, 0, 0], [16, 40, 9]).tiles().collect();
        assert_eq!(tiles, [TileCoord::new(0, 0, 0), TileCoord::new(1, 0, 0)]);
    }

    #[test]
    fn volumes_that_cannot_be_cut_are_refused() {
        for bad in [
            Shape([0, 1, 1], [1; 3], [1; 3]),
            Shape([8; 3], [3, 8, 8], [1; 3]),
            Shape([8; 3], [4; 3], [8; 3]),
            Shape([8; 3], [4; 3], [3; 3]),
            Shape([1 << 40, 1, 1], [4; 3], [1; 3]),
            Shape([8; 3], [u64::MAX; 3], [8; 3]),
        ] {
            assert!(Grid::new(&bad).is_err());
        }
    }
}
