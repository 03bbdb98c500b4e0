//! Owns reads of many voxels that lie far from each other: [`View::get_each`], which asks for memory some reads ahead.

use crate::geometry::Coord;
use crate::voxel::Voxel;

use super::{View, index, prefetch};

/// How many voxels are asked for before the first of them is read.
///
/// **Source**: measured; from 32 on the misses of as many loads are under way as a core has room for.
const AHEAD: usize = 32;

/// What is noted of a voxel before it is read: where it lies, if its tile's bit was seen set; else the complement of that, or this where it lies outside the array.
const OUTSIDE: u64 = u64::MAX;

/// Beyond every place in a reservation, and below every complement of one.
const PLACES: u64 = 1 << 63;

impl<T: Voxel> View<'_, T> {
    /// Gives the voxels at many positions to `each`, in order, as [`View::get`] would: `None` where its tile is not there or the position is outside the array.
    ///
    /// For positions that lie far from each other, such as particles: the memory of several dozen is asked for before the first of them is read, so that cache misses, which are what such reads
    /// cost, do not wait for each other.
    ///
    /// **Cost**: about half of as many calls of [`View::get`] where most reads miss the caches; a little more than them where none does.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Procedural};
    ///
    /// let pool = Pool::new(HostBackend::new(), 16 << 20)?;
    /// let source = Procedural::new(Extent::cube(128), |c: Coord| (c.x + c.y + c.z) as u16);
    /// let array = SparseArray3D::builder(&pool, source).build()?;
    /// array.request_region(Region::whole(array.extent()))?.complete()?;
    ///
    /// let particles = [[3, 4, 5], [100, 20, 7], [0, 0, 1000]];
    /// let mut found = Vec::new();
    /// array.frame().get_each(particles, |voxel| found.push(voxel));
    /// assert_eq!(found, [Some(12), Some(127), None]);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[inline]
    pub fn get_each<C: Into<Coord>>(
        &self,
        positions: impl IntoIterator<Item = C>,
        mut each: impl FnMut(Option<T>),
    ) {
        // A ring: a voxel is read when the place of the one that is asked for next is needed.
        let mut ahead = [OUTSIDE; AHEAD];
        let mut asked = 0;
        for at in positions {
            let place = &mut ahead[asked % AHEAD];
            let found = std::mem::replace(place, self.find(at.into()));
            if asked >= AHEAD {
                each(self.found(found));
            }
            asked += 1;
        }
        for read in asked.saturating_sub(AHEAD)..asked {
            each(self.found(ahead[read % AHEAD]));
        }
    }

    /// What [`View::find`] found.
    #[inline(always)]
    fn found(&self, found: u64) -> Option<T> {
        if found < PLACES {
            // SAFETY: the tile's bit was seen set.
            Some(unsafe { self.read(found) })
        } else if found == OUTSIDE {
            None
        } else {
            self.uniform(!found >> self.tile_voxels_log2)
        }
    }

    #[inline(always)]
    fn find(&self, at: Coord) -> u64 {
        let Some(flat) = self.flat(at) else { return OUTSIDE };
        // SAFETY: `flat` is a voxel of the array, so its tile is one of the array's.
        if unsafe { self.is_resident(flat >> self.tile_voxels_log2) } {
            prefetch(self.base.wrapping_add(index(flat)));
            flat
        } else {
            !flat
        }
    }
}
