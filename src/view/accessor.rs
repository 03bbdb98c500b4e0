//! Owns [`Accessor`]: reads that remember the last tile, and the neighbourhood of a voxel.

use crate::geometry::{Coord, Extent};
use crate::voxel::Voxel;

use super::{View, index};

/// Reads voxels of a [`View`] and remembers the tile of the last one, so that the next read nearby needs no bit test.
///
/// Cheap to make; one per thread.
#[derive(Debug)]
pub struct Accessor<'v, T> {
    view: &'v View<'v, T>,
    /// The remembered tile, whose bit was seen set; no tile's number before the first hit.
    slot: u64,
}

impl<'v, T: Voxel> Accessor<'v, T> {
    pub(super) fn extent(&self) -> Extent {
        self.view.extent()
    }

    pub(super) fn new(view: &'v View<'_, T>) -> Self {
        Self { view, slot: u64::MAX }
    }

    /// The voxel at `[x, y, z]`, or `None` where its tile is not there or the position is outside the array.
    #[inline(always)]
    pub fn get(&mut self, at: impl Into<Coord>) -> Option<T> {
        let flat = self.view.flat(at.into())?;
        let slot = flat >> self.view.tile_voxels_log2;
        if !self.is_there(slot) {
            return self.view.uniform(slot);
        }
        // SAFETY: the tile's bit was seen set.
        Some(unsafe { self.view.read(flat) })
    }

    /// The voxel at `[x, y, z]` and its 26 neighbours, x fastest, or `None` where one of their tiles is not there. Past the faces of the array the nearest
    /// voxel inside stands in.
    ///
    /// **Cost**: 27 loads where all lie in one tile; otherwise 27 reads.
    #[inline(always)]
    pub fn neighbourhood(&mut self, at: impl Into<Coord>) -> Option<[T; 27]> {
        let c = at.into();
        let inner = |v: u64, last: u64| (v & last).wrapping_sub(1) < last.saturating_sub(1);
        let [x, y, z] = self.view.last;
        // The far neighbour's bounds stand for all: past the last voxel a tile has memory too, but no voxels.
        if inner(c.x, x)
            & inner(c.y, y)
            & inner(c.z, z)
            & self.view.layout.extent().contains(Coord {
                x: c.x.wrapping_add(1),
                y: c.y.wrapping_add(1),
                z: c.z.wrapping_add(1),
            })
        {
            let flat = self.view.flat(c)?;
            if self.is_there(flat >> self.view.tile_voxels_log2) {
                // SAFETY: the tile's bit was seen set, and the voxel is not on its rim.
                return Some(unsafe { self.inside(index(flat)) });
            }
        }
        self.across(c)
    }

    /// The eight voxels between `[x, y, z]` and `[x + 1, y + 1, z + 1]`, as [`View::corners`] gives them.
    ///
    /// **Cost**: eight loads where all lie in the tile that was read last; otherwise that of [`View::corners`].
    #[doc(alias = "gather")]
    #[inline(always)]
    pub fn corners(&mut self, at: impl Into<Coord>) -> Option<[T; 8]> {
        let c = at.into();
        if let Some(flat) = self.view.first_of_eight(c)
            && self.is_there(flat >> self.view.tile_voxels_log2)
        {
            // SAFETY: the tile's bit was seen set, and the others lie in it too.
            return Some(unsafe { self.view.eight(index(flat)) });
        }
        self.view.corners_across(c.x, c.y, c.z)
    }

    /// Whether the tile is resident, remembered or by its bit.
    #[inline(always)]
    fn is_there(&mut self, slot: u64) -> bool {
        if slot == self.slot {
            return true;
        }
        // SAFETY: callers ask for tiles of the array.
        let there = unsafe { self.view.is_resident(slot) };
        if there {
            self.slot = slot;
        }
        there
    }

    /// # Safety
    /// The voxel at `flat` and its 26 neighbours lie in one tile, whose bit was seen set.
    #[inline(always)]
    unsafe fn inside(&self, flat: usize) -> [T; 27] {
        let (row, plane) = (self.view.row, self.view.plane);
        let base = self.view.base.wrapping_add(flat - 1 - row - plane);
        let line = |y: usize, z: usize| -> [T; 3] {
            let line = base.wrapping_add(y * row + z * plane).cast::<[T; 3]>();
            // SAFETY: the three voxels lie in the tile, as the caller promises; arrays are aligned as their elements.
            unsafe { line.read() }
        };
        // Spelled out, so that the 27 values live in registers rather than in an array that is filled and read again.
        let [[a, b, c], [d, e, f], [g, h, i]] = [line(0, 0), line(1, 0), line(2, 0)];
        let [[j, k, l], [m, n, o], [p, q, r]] = [line(0, 1), line(1, 1), line(2, 1)];
        let [[s, t, u], [v, w, x], [y, z, end]] = [line(0, 2), line(1, 2), line(2, 2)];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, end]
    }

    /// The neighbourhood of a voxel on the rim of a tile: each axis is translated once for its three positions.
    #[inline(never)]
    fn across(&mut self, c: Coord) -> Option<[T; 27]> {
        let extent = self.view.layout.extent();
        if !extent.contains(c) {
            return None;
        }
        let near = |v: u64, size: u64| [v.saturating_sub(1), v, (v + 1).min(size - 1)];
        let [x, y, z] = self.view.tables;
        let part = |table: &[u64], at: [u64; 3]| {
            Some([*table.get(index(at[0]))?, *table.get(index(at[1]))?, *table.get(index(at[2]))?])
        };
        let [xs, ys, zs] = [near(c.x, extent.x), near(c.y, extent.y), near(c.z, extent.z)];
        let mut all = [bytemuck::Zeroable::zeroed(); 27];
        let (Some(x), Some(y), Some(z)) = (part(x, xs), part(y, ys), part(z, zs)) else {
            for (i, voxel) in all.iter_mut().enumerate() {
                *voxel = self.get([xs[i % 3], ys[i / 3 % 3], zs[i / 9]])?;
            }
            return Some(all);
        };
        for (line, three) in all.chunks_exact_mut(3).enumerate() {
            let first = y[line % 3] + z[line / 3];
            for (voxel, x) in three.iter_mut().zip(x) {
                let flat = first + x;
                let slot = flat >> self.view.tile_voxels_log2;
                *voxel = if self.is_there(slot) {
                    // SAFETY: the tile's bit was seen set.
                    unsafe { self.view.read(flat) }
                } else {
                    self.view.uniform(slot)?
                };
            }
        }
        Some(all)
    }
}
