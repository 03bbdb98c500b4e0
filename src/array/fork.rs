//! Owns [`SparseArray3D::fork`].

use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::Error;
use crate::voxel::Voxel;

use super::{Handle, SparseArray3D};

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// A second array with the contents that this one has now, in the same pool: a snapshot, or a place to try something out. What is written to either from now on, the other never shows.
    ///
    /// It has this array's source, and what was written to this one. What is resident is shared where the backend can map memory at two places at once
    /// ([`HostBackend::shareable`](crate::HostBackend::shareable)): such memory counts once in the budget, and a page is copied when one of the arrays that have it writes to it, or loads another tile into it. Both are
    /// evicted, written back, saved and forked again each for itself; they may be dropped in any order. An array that is not writable has forks that are not.
    ///
    /// Memory that is shared leaves all that have it or none, and is as young as the youngest of them. A copy is made within the budget: others are evicted for it, and, where nothing else can go, those
    /// that share the page.
    ///
    /// Where the backend shares nothing (the default host, CUDA), or cannot share a page, what was written to it and is resident goes to the scratch store first, which both have from then on, and stays resident
    /// here; the fork begins with nothing in memory.
    ///
    /// What [`SparseArray3D::discard_written`] gave up is the source's in the fork, unless it was still shown. On a device, kernels of frames that have ended are waited for first, however long they run. Whoever
    /// writes to memory by its address, kernels or others, says so *before*.
    ///
    /// **Cost**: address space as for a new array, of which a process has 128 TiB (so about 30 arrays of 2^40 `f32`, forks included); a table's entry for each tile that was written or is known to hold one value, and a word for each cell whose range was noted. Where memory is shared, four calls of the backend for each
    /// page (on the host, one system call of a few microseconds, and faults without copies where the fork is read first); else a write-back of what is resident and was written.
    ///
    /// ```
    /// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, source::Fill};
    ///
    /// let pool = Pool::new(HostBackend::shareable(), 4 << 20)?;
    /// let fill = Fill::new(Extent::cube(1 << 12), 0u16);
    /// let mut array = SparseArray3D::builder(&pool, fill).tile([32, 32, 32]).writable().build()?;
    /// array.writer()?.set([1, 2, 3], 7)?;
    ///
    /// let before = array.fork()?;
    /// assert_eq!(pool.stats().used_bytes, 64 << 10); // one page, which both have
    /// array.writer()?.set([1, 2, 3], 8)?;
    /// assert_eq!((array.get([1, 2, 3])?, before.get([1, 2, 3])?), (8, 7));
    /// assert_eq!(pool.stats().used_bytes, 128 << 10);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WriteBack`] where something had to go to the scratch store and could not; [`Error::Backend`] where there is no address space; [`ResidencyError`](crate::ResidencyError) where others are evicting
    /// what was written and do not get ready, since a frame is open. There is no fork then, and the array is as before.
    #[doc(alias = "snapshot")]
    #[doc(alias = "copy_on_write")]
    pub fn fork(&self) -> Result<Self, Error> {
        let shared = self.engine().fork(self.shared())?;
        let handle = Handle { engine: Arc::clone(self.engine()), shared };
        Ok(Self { handle: Arc::new(handle), voxels: PhantomData })
    }
}
