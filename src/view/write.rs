//! Owns typed writes to resident memory: [`Cells`], the memory of an array that nobody else can reach. Which tiles may be written is told by their open bits; who sets those is the array's business.

use crate::geometry::Coord;
use crate::layout::{Layout, TileId};
use crate::offsets::AxisOffsets;
use crate::planes::Planes;
use crate::voxel::Voxel;

use super::index;

/// An array's memory, for its one writer.
pub(crate) struct Cells<'a, T> {
    base: *mut T,
    layout: &'a Layout,
    offsets: &'a AxisOffsets,
    planes: &'a Planes,
    /// The tile found open last.
    slot: u64,
}

impl<'a, T: Voxel> Cells<'a, T> {
    /// # Safety
    /// `base` is the address at which the array of `layout`, `offsets` and `planes` begins, aligned for `T`. For as long as `'a` lives nobody else reads or writes the array's memory; and
    /// while a tile's open bit is set, its memory is readable, writable and holds valid `T`s. Whoever clears an open bit calls [`Cells::close`].
    pub(crate) unsafe fn new(
        base: *mut T,
        layout: &'a Layout,
        offsets: &'a AxisOffsets,
        planes: &'a Planes,
    ) -> Self {
        Self { base, layout, offsets, planes, slot: u64::MAX }
    }

    /// Forgets which tile was open.
    pub(crate) fn close(&mut self) {
        self.slot = u64::MAX;
    }

    /// The voxel, where its tile is open: `None` where it is not, or outside the array.
    #[inline(always)]
    pub(crate) fn voxel(&mut self, c: Coord) -> Option<&mut T> {
        let [x, y, z] = self.offsets.tables();
        let flat = match (x.get(index(c.x)), y.get(index(c.y)), z.get(index(c.z))) {
            (Some(x), Some(y), Some(z)) => x + y + z,
            _ => self.offsets.far(c)?,
        };
        let slot = flat >> self.layout.tile_voxels_log2();
        if slot != self.slot {
            if !self.planes.is_open(TileId(slot)) {
                return None;
            }
            self.slot = slot;
        }
        // SAFETY: the voxel lies in the array's reservation.
        let voxel = unsafe { self.base.add(index(flat)) };
        // SAFETY: the tile is open: its memory is writable and valid, and nobody else reaches it; the borrow of `self` keeps this the one reference.
        Some(unsafe { &mut *voxel })
    }

    /// The voxels of a tile that is open.
    pub(crate) fn tile(&mut self, tile: TileId) -> Option<&mut [T]> {
        // SAFETY: as long as `self` is borrowed there is no other reference.
        unsafe { self.tile_apart(tile) }
    }

    /// The voxels of several tiles, each at most once; `None` for those that are not open, and where one comes up again.
    pub(crate) fn tiles(&mut self, tiles: &[TileId]) -> Vec<Option<&mut [T]>> {
        let mut seen = std::collections::HashSet::with_capacity(tiles.len());
        // SAFETY: different tiles are different memory, and `self` stays borrowed.
        let each = |&tile: &TileId| if seen.insert(tile) { unsafe { self.tile_apart(tile) } } else { None };
        tiles.iter().map(each).collect()
    }

    /// # Safety
    /// There is no other reference to the tile while `'b` lives.
    unsafe fn tile_apart<'b>(&self, tile: TileId) -> Option<&'b mut [T]> {
        if tile.0 >= self.layout.tile_slots() || !self.planes.is_open(tile) {
            return None;
        }
        // SAFETY: the tile lies in the array's reservation.
        let first = unsafe { self.base.add(index(tile.0 << self.layout.tile_voxels_log2())) };
        // SAFETY: the tile is open: all of its memory is writable and valid; no other reference is the caller's promise.
        Some(unsafe { std::slice::from_raw_parts_mut(first, 1 << self.layout.tile_voxels_log2()) })
    }
}
