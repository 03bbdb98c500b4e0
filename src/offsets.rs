//! Owns [`AxisOffsets`]: the layout's translation as one table per axis, for reads that can afford neither shifts nor multiplications.
//!
//! ```text
//! flat position of voxel (x, y, z) = X[x] + Y[y] + Z[z]
//! tile id                          = flat position >> log2(voxels in a tile)
//! ```
//!
//! Every field of a position is a sum over the axes, so three loads and two additions do what shifts, masks and strides would, and looking a coordinate up checks
//! its bounds too. (SPGrid, Setaluri et al. 2014, gets the same from packed offsets in address bits.)

use std::sync::atomic::{AtomicU64, Ordering};

use crate::geometry::Coord;
use crate::layout::{Layout, TileCoord, TileId};

/// The most entries per axis: half a MiB. Positions beyond are translated by [`AxisOffsets::far`].
const MOST: u64 = 1 << 16;

/// Flat positions, in voxels, by coordinate.
#[derive(Debug)]
pub(crate) struct AxisOffsets {
    tables: [Box<[u64]>; 3],
    tiles: [Box<[u64]>; 3],
    layout: Layout,
    identity: AtomicU64,
}

/// A number that was never given before.
fn next_identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl AxisOffsets {
    /// **Cost**: a few operations for each of up to 65 536 positions along each axis.
    pub(crate) fn new(layout: &Layout) -> Self {
        let axes = layout.axes();
        let sides = layout.extent().to_array();
        let table = |i: usize| (0..sides[i].min(MOST)).map(|v| computed(layout, i, v)).collect();
        let tile_sides = layout.tiles().to_array();
        let tiles = |i: usize| (0..tile_sides[i].min(MOST)).map(|t| axes[i].slot(t)).collect();
        Self {
            tables: std::array::from_fn(table),
            tiles: std::array::from_fn(tiles),
            layout: layout.clone(),
            identity: AtomicU64::new(next_identity()),
        }
    }

    /// As [`Layout::tile_id`], by table.
    #[inline(always)]
    pub(crate) fn tile_id(&self, t: TileCoord) -> Option<TileId> {
        let [x, y, z] = &self.tiles;
        let at = |table: &[u64], v: u64| usize::try_from(v).ok().and_then(|v| table.get(v).copied());
        match (at(x, t.x), at(y, t.y), at(z, t.z)) {
            (Some(x), Some(y), Some(z)) => Some(TileId(x + y + z)),
            _ => self.layout.tile_id(t),
        }
    }

    /// A number that no other tables of this process have, and so no other array, nor this one before it was written to.
    #[cfg(feature = "render")]
    pub(crate) fn identity(&self) -> u64 {
        self.identity.load(Ordering::Relaxed)
    }

    /// The array is about to hold other voxels: what was found out about them holds no more.
    pub(crate) fn renew_identity(&self) {
        self.identity.store(next_identity(), Ordering::Relaxed);
    }

    /// The tables, x first. Each is as long as the extent along its axis, up to a limit.
    #[inline(always)]
    pub(crate) fn tables(&self) -> [&[u64]; 3] {
        let [x, y, z] = &self.tables;
        [x, y, z]
    }

    /// What position `v` of the array along an axis adds to the flat position, whether a table reaches it or not.
    #[inline]
    pub(crate) fn along(&self, axis: usize, v: u64) -> u64 {
        let known = usize::try_from(v).ok().and_then(|v| self.tables[axis].get(v).copied());
        known.unwrap_or_else(|| computed(&self.layout, axis, v))
    }

    /// The flat position of a voxel that a table may not reach, or `None` outside the array.
    #[cold]
    pub(crate) fn far(&self, c: Coord) -> Option<u64> {
        if !self.layout.extent().contains(c) {
            return None;
        }
        let id = self.layout.tile_id_unchecked(self.layout.tile_of(c));
        Some(id.0 << self.layout.tile_voxels_log2() | self.layout.within_tile(c))
    }
}

/// An entry of a table.
fn computed(layout: &Layout, axis: usize, v: u64) -> u64 {
    let axis = &layout.axes()[axis];
    axis.within(v) + (axis.slot(v >> axis.tile_shift) << layout.tile_voxels_log2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::LayoutSpec;

    #[test]
    fn tables_agree_with_the_layout() {
        let spec = LayoutSpec {
            tile: Some(Extent::new(4, 8, 2)),
            page: Some(Extent::new(2, 1, 4)),
            page_bytes: None,
        };
        let layout = Layout::new(Extent::new(70_000, 13, 9), 2, spec, 1, 1).unwrap();
        let offsets = AxisOffsets::new(&layout);
        let [x, y, z] = offsets.tables();
        assert_eq!((x.len(), y.len(), z.len()), (65_536, 13, 9));
        for c in [Coord::new(0, 0, 0), Coord::new(65_535, 12, 8), Coord::new(1234, 7, 5)] {
            let at = |v: u64| usize::try_from(v).unwrap();
            let flat = x[at(c.x)] + y[at(c.y)] + z[at(c.z)];
            assert_eq!(Some(flat * 2), layout.voxel_offset_bytes(c));
            assert_eq!(offsets.far(c), Some(flat));
        }
        for t in [TileCoord::new(17_499, 1, 4), TileCoord::new(3, 0, 2), TileCoord::new(17_500, 0, 0)] {
            assert_eq!(offsets.tile_id(t), layout.tile_id(t));
        }
        let beyond = Coord::new(69_999, 12, 8);
        assert_eq!(offsets.far(beyond).map(|flat| flat * 2), layout.voxel_offset_bytes(beyond));
        for c in [beyond, Coord::new(65_535, 12, 8), Coord::new(1234, 7, 5)] {
            let flat = offsets.along(0, c.x) + offsets.along(1, c.y) + offsets.along(2, c.z);
            assert_eq!(offsets.far(c), Some(flat));
        }
        assert_eq!(offsets.far(Coord::new(70_000, 0, 0)), None);
    }
}
