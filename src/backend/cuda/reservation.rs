//! Owns what the CUDA backend hands out: reservations, pages, staging memory and tickets. Knows nothing of how copies are made.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::Shared;
use super::copies::{Flight, Source};
use super::memory::{Mapping, Physical, Reserved};
use crate::backend::books::Books;
use crate::backend::{Access, ReserveSpec, Staging};
use crate::error::BackendError;

/// A page of the device's memory. Dropping it gives the memory back.
#[derive(Debug)]
pub struct CudaPage {
    pub(super) physical: Physical,
    /// Number of the backend that made it.
    pub(super) owner: u64,
}

impl CudaPage {
    /// Size of the page.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.physical.bytes()
    }
}

/// A range of a device's addresses. Dropping it waits for the copies to it, unmaps and gives back what is mapped there, and then the addresses.
#[derive(Debug)]
pub struct CudaReservation {
    pub(super) inner: Arc<Inner>,
    pub(super) shared: Arc<Shared>,
}

impl Drop for CudaReservation {
    fn drop(&mut self) {
        self.shared.copies.settle(self.inner.number, true);
    }
}

/// What a reservation shares with whatever is on its way to it: it lives until both are gone.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) number: u64,
    /// Before the addresses: mappings go first.
    books: Mutex<Books<Mapping<Physical>>>,
    pub(super) reserved: Arc<Reserved>,
    /// Held for a whole `map`, `unmap` or `set_access`: between its check and its entry in the books nobody else may change a mapping.
    mapping: Mutex<()>,
}

impl Inner {
    pub(super) fn new(reserved: Reserved, spec: ReserveSpec) -> Arc<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            books: Mutex::new(Books::new(spec)),
            reserved: Arc::new(reserved),
            mapping: Mutex::new(()),
        })
    }

    /// Nothing panics while the lock is held, and every step leaves the books true.
    pub(super) fn books(&self) -> MutexGuard<'_, Books<Mapping<Physical>>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to map and unmap.
    fn mapping(&self) -> MutexGuard<'_, ()> {
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps memory that the books have a place for.
    pub(super) fn map(
        self: &Arc<Self>,
        offset_bytes: u64,
        physical: Physical,
    ) -> Result<(), (BackendError, Physical)> {
        let _mapping = self.mapping();
        if let Err(error) = self.books().check_map(offset_bytes, physical.bytes()) {
            return Err((error, physical));
        }
        let mapping = Mapping::new(&self.reserved, offset_bytes, physical)?;
        self.books().map(offset_bytes, mapping);
        Ok(())
    }

    /// Unmaps a page. It is out of the books before the driver hears of it, so that nobody begins to use it meanwhile.
    pub(super) fn unmap(&self, offset_bytes: u64) -> Result<Physical, BackendError> {
        let _mapping = self.mapping();
        let (mapping, access) = self.books().take(offset_bytes)?;
        mapping.unmap().map_err(|(error, mapping)| {
            self.books().put_back(offset_bytes, mapping, access);
            error
        })
    }

    /// Sets access: taken away in the books first and then by the driver, given by the driver first and then in the books.
    pub(super) fn set_access(&self, range: &Range<u64>, access: Access) -> Result<(), BackendError> {
        let _mapping = self.mapping();
        let bytes = range.end.saturating_sub(range.start);
        let device = self.reserved.device();
        let set = || self.reserved.set_access(range.start, bytes, &[(device, access)]);
        if access == Access::ReadWrite {
            self.books().check_set_access(range)?;
            set()?;
            return self.books().set_access(range, access).map(|_| ());
        }
        let mut books = self.books();
        let pages = books.check_set_access(range)?;
        if books.in_use(range, access == Access::Read) {
            return Err(BackendError::Busy { call: "set_access", offset_bytes: range.start, bytes });
        }
        let before = books.accesses(range);
        books.set_access(range, access)?;
        drop(books);
        set().inspect_err(|_| {
            let mut books = self.books();
            let page_bytes = bytes / (pages.end - pages.start).max(1);
            for (page, access) in pages.zip(before) {
                // The pages are mapped: this thread has the right to unmap.
                let _ = books.set_access(&(page * page_bytes..(page + 1) * page_bytes), access);
            }
        })
    }

    /// Enters that a range is being written.
    pub(super) fn begin_write(self: &Arc<Self>, range: Range<u64>) -> Result<Writing, BackendError> {
        self.books().begin_write(&range)?;
        Ok(Writing { inner: Arc::clone(self), range })
    }
}

/// A range that is being written, until dropped: its page stays mapped, and nobody else writes or reads it.
#[derive(Debug)]
pub(super) struct Writing {
    inner: Arc<Inner>,
    range: Range<u64>,
}

impl Writing {
    pub(super) fn range(&self) -> &Range<u64> {
        &self.range
    }

    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Its first address on the device.
    pub(super) fn address(&self) -> u64 {
        self.inner.reserved.base() + self.range.start
    }

    pub(super) fn reservation(&self) -> u64 {
        self.inner.number
    }

    pub(super) fn is_in(&self, inner: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.inner, inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.inner.books().end_use(&self.range, true);
    }
}

/// Memory of the host in which a part of a page is prepared: page-locked, or ordinary where there is no page-locked memory left.
#[derive(Debug)]
pub struct CudaStaging {
    pub(super) writing: Writing,
    pub(super) source: Source,
}

impl CudaStaging {
    /// Whether it is page-locked, so that it is copied by itself and at the speed of the bus.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        matches!(self.source, Source::Ring(_))
    }
}

impl Staging for CudaStaging {
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.source {
            Source::Ring(piece) => piece.bytes_mut(),
            Source::Heap(bytes) => bytes,
            // Never staged: prepared bytes are ready as they are.
            Source::Ready(_) => &mut [],
        }
    }
}

/// Stands for a copy to the device. Dropping it leaves the copy on its way: the range stays in use until that is done, and whoever wants the range before waits for it.
#[derive(Debug)]
pub struct CudaTicket {
    pub(super) flight: Arc<Flight>,
    /// Number of the backend that made it.
    pub(super) owner: u64,
}

impl Drop for CudaTicket {
    fn drop(&mut self) {
        self.flight.forget();
    }
}
