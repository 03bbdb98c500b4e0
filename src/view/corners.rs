//! Owns reads of the eight voxels around a position, which is what interpolation asks for: [`View::corners`], [`View::corners_each`].
//!
//! Mostly all eight lie in one tile. Then one bit is tested, and they are read at distances from the first that are the same in every tile.

use crate::geometry::Coord;
use crate::voxel::Voxel;

use super::{View, index, prefetch};

/// How many positions are asked for before the voxels of the first of them are read: four lines of the caches each.
const AHEAD: usize = 16;

/// Of voxels that lie in several tiles, or in none that is resident: beyond every place in a reservation.
const ELSEWHERE: u64 = u64::MAX;

impl<T: Voxel> View<'_, T> {
    /// The eight voxels between `[x, y, z]` and `[x + 1, y + 1, z + 1]`, x fastest: the corners of the box in which interpolation takes place. `None` where one of their tiles is not there or
    /// `[x, y, z]` is outside the array. Past the far faces the last voxel stands in.
    ///
    /// **Cost**: one bit test and eight loads where all lie in one tile, in few nanoseconds plus cache misses; otherwise eight reads.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Procedural};
    ///
    /// let pool = Pool::new(HostBackend::new(), 16 << 20)?;
    /// let source = Procedural::new(Extent::cube(100), |c: Coord| (c.x + 10 * c.y + 100 * c.z) as u16);
    /// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
    /// array.request_region(Region::whole(array.extent()))?.complete()?;
    ///
    /// let view = array.frame();
    /// assert_eq!(view.corners([31, 2, 3]), Some([351, 352, 361, 362, 451, 452, 461, 462])); // out of two tiles
    /// assert_eq!(view.corners([99, 0, 0]), Some([99, 99, 109, 109, 199, 199, 209, 209])); // at the far face along x
    /// assert_eq!(view.corners([100, 0, 0]), None);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[doc(alias = "gather")]
    #[must_use]
    #[inline(always)]
    pub fn corners(&self, at: impl Into<Coord>) -> Option<[T; 8]> {
        let c = at.into();
        let found = self.find_corners(c);
        if found == ELSEWHERE {
            return self.corners_across(c.x, c.y, c.z);
        }
        // SAFETY: found, so the tile's bit was seen set, and the eight lie in it.
        Some(unsafe { self.eight(index(found)) })
    }

    /// Gives the eight voxels at many positions to `each`, in order, as [`View::corners`] would.
    ///
    /// For positions that lie far from each other, such as particles: memory is asked for several positions before it is read, so that cache misses do not wait for each other.
    ///
    /// **Cost**: a tenth to a quarter less than as many calls of [`View::corners`].
    #[inline]
    pub fn corners_each<C: Into<Coord>>(
        &self,
        positions: impl IntoIterator<Item = C>,
        mut each: impl FnMut(Option<[T; 8]>),
    ) {
        self.corners_ahead(positions.into_iter().map(|at| (at.into(), ())), |near, ()| each(near));
    }

    /// [`View::corners_each`], with something that goes with each position.
    #[inline(always)]
    pub(super) fn corners_ahead<P: Copy + Default>(
        &self,
        positions: impl Iterator<Item = (Coord, P)>,
        mut each: impl FnMut(Option<[T; 8]>, P),
    ) {
        // Nobody else can reach this copy, so that its parts stay in registers across tests of bits, which are atomic loads.
        let view = View { ..*self };
        let read = |found: u64, c: Coord| {
            if found == ELSEWHERE {
                return self.corners_across(c.x, c.y, c.z);
            }
            // SAFETY: found, so the tile's bit was seen set, and the eight lie in it.
            Some(unsafe { view.eight(index(found)) })
        };
        // Rings: voxels are read when their place is needed for those that are asked for next.
        let (mut found, mut of) = ([ELSEWHERE; AHEAD], [(Coord::default(), P::default()); AHEAD]);
        let mut asked = 0;
        for (c, with) in positions {
            let place = asked % AHEAD;
            let before = std::mem::replace(&mut found[place], view.find_corners(c));
            view.ask_for_corners(found[place]);
            let (at, part) = std::mem::replace(&mut of[place], (c, with));
            if asked >= AHEAD {
                each(read(before, at), part);
            }
            asked += 1;
        }
        for asked in asked.saturating_sub(AHEAD)..asked {
            let (at, part) = of[asked % AHEAD];
            each(read(found[asked % AHEAD], at), part);
        }
    }

    /// Where the first of eight voxels lies that are all in one resident tile.
    #[inline(always)]
    fn find_corners(&self, c: Coord) -> u64 {
        match self.first_of_eight(c) {
            // SAFETY: `flat` is a voxel of the array, so its tile is one of the array's.
            Some(flat) if unsafe { self.is_resident(flat >> self.tile_voxels_log2) } => flat,
            _ => ELSEWHERE,
        }
    }

    #[inline(always)]
    fn ask_for_corners(&self, found: u64) {
        if found != ELSEWHERE {
            for way in [0, self.row, self.plane, self.row + self.plane] {
                prefetch(self.base.wrapping_add(index(found) + way));
            }
        }
    }

    /// The flat position of a voxel whose next ones along every axis lie in its own tile, and in the array. `None` too for the few beyond the tables.
    #[inline(always)]
    pub(super) fn first_of_eight(&self, c: Coord) -> Option<u64> {
        let [x, y, z] = self.before_last;
        let [last_x, last_y, last_z] = self.last;
        let inner = |v: u64, last: u64| v & last != last;
        match (x.get(index(c.x)), y.get(index(c.y)), z.get(index(c.z))) {
            (Some(x), Some(y), Some(z)) if inner(c.x, last_x) & inner(c.y, last_y) & inner(c.z, last_z) => {
                Some(x + y + z)
            }
            _ => None,
        }
    }

    /// # Safety
    /// The voxel at `flat` and the next ones along every axis lie in one tile, whose bit was seen set.
    #[inline(always)]
    pub(super) unsafe fn eight(&self, flat: usize) -> [T; 8] {
        let pair = |way: usize| -> [T; 2] {
            let pair = self.base.wrapping_add(flat + way).cast::<[T; 2]>();
            // SAFETY: both voxels lie in the tile, as the caller promises; arrays are aligned as their elements.
            unsafe { pair.read() }
        };
        let ([a, b], [c, d]) = (pair(0), pair(self.row));
        let ([e, f], [g, h]) = (pair(self.plane), pair(self.row + self.plane));
        [a, b, c, d, e, f, g, h]
    }

    /// [`View::corners`] of any voxel. By its coordinates, which are in registers so.
    #[cold]
    #[inline(never)]
    pub(super) fn corners_across(&self, x: u64, y: u64, z: u64) -> Option<[T; 8]> {
        // What is cold is made small rather than fast, but the rims of tiles are not so rare as that.
        self.corners_of_any(Coord { x, y, z })
    }

    /// Each axis is translated once for both its positions.
    #[inline(never)]
    fn corners_of_any(&self, c: Coord) -> Option<[T; 8]> {
        let extent = self.layout.extent();
        if !extent.contains(c) {
            return None;
        }
        let along = |axis: usize, v: u64, size: u64| {
            let (table, next) = (self.tables[axis], (v + 1).min(size - 1));
            match (table.get(index(v)), table.get(index(next))) {
                (Some(&near), Some(&far)) => [near, far],
                _ => [self.offsets.along(axis, v), self.offsets.along(axis, next)],
            }
        };
        let (x, y, z) = (along(0, c.x, extent.x), along(1, c.y, extent.y), along(2, c.z, extent.z));
        let rows = [y[0] + z[0], y[1] + z[0], y[0] + z[1], y[1] + z[1]];
        let flat: [u64; 8] = std::array::from_fn(|corner| x[corner & 1] + rows[corner >> 1]);
        // SAFETY: voxels of the array, so their tiles are tiles of the array.
        let there = |flat: &u64| unsafe { self.is_resident(flat >> self.tile_voxels_log2) };
        // Mostly all of them are, in two tiles: testing eight bits is less than finding out which are the same.
        if flat.iter().fold(true, |all, flat| all & there(flat)) {
            // SAFETY: the bits of their tiles were seen set.
            return Some(flat.map(|flat| unsafe { self.read(flat) }));
        }
        let mut all = [bytemuck::Zeroable::zeroed(); 8];
        for (voxel, flat) in all.iter_mut().zip(flat) {
            *voxel = if there(&flat) {
                // SAFETY: the tile's bit was seen set.
                unsafe { self.read(flat) }
            } else {
                self.uniform(flat >> self.tile_voxels_log2)?
            };
        }
        Some(all)
    }
}
