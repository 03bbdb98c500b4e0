//! Owns [`Accessor`]: reads that remember the last tile, and the neighbourhood of a voxel.

use crate::geometry::{Coord, Extent};
use crate::layout::TileCoord;
use crate::voxel::Voxel;

use super::{View, index};

/// Reads voxels of a [`View`] and remembers the tile of the last one, so that the next read nearby needs no bit test.
///
/// Cheap to make; one per thread.
#[derive(Debug)]
pub struct Accessor<'v, T> {
    view: &'v View<'v, T>,
    /// The remembered tile's voxels; empty before the first hit.
    tile: &'v [T],
    /// Its first voxel.
    origin: Coord,
    /// Its voxels inside the array; empty before the first hit.
    size: Extent,
    row: u32,
    plane: u32,
}

impl<'v, T: Voxel> Accessor<'v, T> {
    pub(super) fn new(view: &'v View<'_, T>) -> Self {
        let [_, y, z] = &view.axes;
        Self {
            view,
            tile: &[],
            origin: Coord::default(),
            size: Extent::default(),
            row: y.voxel_shift,
            plane: z.voxel_shift,
        }
    }

    /// The voxel at `[x, y, z]`, or `None` where its tile is not there or the position is outside the array.
    #[inline(always)]
    pub fn get(&mut self, at: impl Into<Coord>) -> Option<T> {
        let c = at.into();
        let d = self.local(c);
        if (d.x < self.size.x) & (d.y < self.size.y) & (d.z < self.size.z) {
            // SAFETY: the position is inside the remembered tile, whose slice is a whole tile.
            return Some(unsafe { *self.tile.get_unchecked(self.position(d)) });
        }
        self.move_to(c)
    }

    /// The voxel at `[x, y, z]` and its 26 neighbours, x fastest, or `None` where one of their tiles is not there. Past the faces of the array the nearest
    /// voxel inside stands in.
    ///
    /// **Cost**: 27 loads where all lie in one tile; otherwise 27 reads.
    #[inline(always)]
    pub fn neighbourhood(&mut self, at: impl Into<Coord>) -> Option<[T; 27]> {
        let c = at.into();
        let d = self.local(c);
        let inner = |d: u64, size: u64| d.wrapping_sub(1) < size.saturating_sub(2);
        if inner(d.x, self.size.x) & inner(d.y, self.size.y) & inner(d.z, self.size.z) {
            let (row, plane) = (1usize << self.row, 1usize << self.plane);
            let first = self.position(d) - plane - row - 1;
            let tile = self.tile;
            return Some(std::array::from_fn(|i| {
                // SAFETY: `d` and its neighbours lie inside the remembered tile, whose slice is a whole tile.
                unsafe { *tile.get_unchecked(first + i % 3 + i / 3 % 3 * row + i / 9 * plane) }
            }));
        }
        self.neighbourhood_across(c)
    }

    #[inline(always)]
    fn local(&self, c: Coord) -> Coord {
        Coord {
            x: c.x.wrapping_sub(self.origin.x),
            y: c.y.wrapping_sub(self.origin.y),
            z: c.z.wrapping_sub(self.origin.z),
        }
    }

    #[inline(always)]
    fn position(&self, d: Coord) -> usize {
        index(d.x | d.y << self.row | d.z << self.plane)
    }

    /// A read outside the remembered tile: remembers the new one if it has memory.
    #[inline]
    fn move_to(&mut self, c: Coord) -> Option<T> {
        let view = self.view;
        if !view.contains(c) {
            return None;
        }
        let t = view.tile_of(c);
        let slot = view.slot(t);
        // SAFETY: `c` lies in the extent, so `slot` is a tile of the array.
        if !unsafe { view.is_resident(slot) } {
            return view.uniform(slot);
        }
        // SAFETY: the tile's bit was seen set.
        self.tile = unsafe { view.tile_slice(slot) };
        self.remember(t);
        let position = index(view.within(c));
        // SAFETY: a position inside a tile.
        Some(unsafe { *self.tile.get_unchecked(position) })
    }

    #[inline(always)]
    fn remember(&mut self, t: TileCoord) {
        let [x, y, z] = &self.view.axes;
        let extent = self.view.extent;
        self.origin = Coord { x: t.x << x.tile_shift, y: t.y << y.tile_shift, z: t.z << z.tile_shift };
        self.size = Extent {
            x: (1 << x.tile_shift).min(extent.x - self.origin.x),
            y: (1 << y.tile_shift).min(extent.y - self.origin.y),
            z: (1 << z.tile_shift).min(extent.z - self.origin.z),
        };
    }

    #[inline(never)]
    fn neighbourhood_across(&mut self, c: Coord) -> Option<[T; 27]> {
        let extent = self.view.extent;
        let centre = self.get(c)?;
        let near = |v: u64, i: usize, size: u64| (v + i as u64).saturating_sub(1).min(size - 1);
        let mut all = [centre; 27];
        // The centre's tile last, so that the next call finds it remembered.
        for i in (0..27).filter(|&i| i != 13) {
            let at = Coord {
                x: near(c.x, i % 3, extent.x),
                y: near(c.y, i / 3 % 3, extent.y),
                z: near(c.z, i / 9, extent.z),
            };
            all[i] = self.get(at)?;
        }
        self.get(c).map(|_| all)
    }
}
