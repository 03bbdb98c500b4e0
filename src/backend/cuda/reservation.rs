//! Owns what the CUDA backend hands out: reservations, pages, staging memory and tickets. Knows nothing of how copies are made.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::Shared;
use super::flight::{Flight, Source};
use super::kept::{Kept, Left, Memory};
use super::memory::{Mapping, Reserved};
use crate::backend::books::Books;
use crate::backend::{Access, ReserveSpec, Staging};
use crate::error::BackendError;

/// A page of the device's memory. Dropping it gives the memory back.
#[derive(Debug)]
pub struct CudaPage {
    pub(super) memory: Memory,
    /// Number of the backend that made it.
    pub(super) owner: u64,
}

impl CudaPage {
    /// Size of the page.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.memory.bytes()
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
        self.inner.kept.forget_reservation(self.inner.number);
    }
}

/// A mapping in the books.
#[derive(Debug)]
pub(super) struct Placed {
    mapping: Mapping<Memory>,
    /// What the driver was told last: one that was left in place has it still.
    granted: Access,
}

/// What a reservation shares with whatever is on its way to it: it lives until both are gone.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) number: u64,
    /// Before the addresses: mappings go first.
    books: Mutex<Books<Placed>>,
    page_bytes: u64,
    kept: Arc<Kept>,
    pub(super) reserved: Arc<Reserved>,
    /// Held for a whole `map`, `unmap` or `set_access`: between its check and its entry in the books nobody else may change a mapping.
    mapping: Mutex<()>,
}

impl Inner {
    pub(super) fn new(reserved: Reserved, spec: ReserveSpec, kept: Arc<Kept>) -> Arc<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            books: Mutex::new(Books::new(spec)),
            page_bytes: spec.page_bytes,
            kept,
            reserved: Arc::new(reserved),
            mapping: Mutex::new(()),
        })
    }

    /// Nothing panics while the lock is held, and every step leaves the books true.
    pub(super) fn books(&self) -> MutexGuard<'_, Books<Placed>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to map and unmap.
    fn mapping(&self) -> MutexGuard<'_, ()> {
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the memory that an address shows: of the page that is mapped there, or was last.
    pub(super) fn shows(&self, offset_bytes: u64) -> Option<u64> {
        let mut books = self.books();
        let mapped = books.page_at(offset_bytes).and_then(|placed| placed.mapping.keeper());
        mapped.map(Memory::number).or_else(|| self.kept.shows((self.number, offset_bytes)))
    }

    /// Maps memory that the books have a place for, without a call of the driver where it was left mapped there.
    pub(super) fn map(
        self: &Arc<Self>,
        offset_bytes: u64,
        memory: Memory,
    ) -> Result<(), (BackendError, Memory)> {
        let _mapping = self.mapping();
        if let Err(error) = self.books().check_map(offset_bytes, memory.bytes()) {
            return Err((error, memory));
        }
        let place = (self.number, offset_bytes);
        if let Some(Left { number, mapping, granted }) = self.kept.take(place) {
            if number == memory.number() {
                let (mapping, _) = mapping.kept_by(memory);
                self.books().map(offset_bytes, Placed { mapping, granted });
                return Ok(());
            }
            if let Err((error, mapping)) = mapping.unmap() {
                self.kept.put(place, Left { number, mapping, granted });
                return Err((error, memory));
            }
        }
        let mapping = Mapping::new(&self.reserved, offset_bytes, memory)?;
        self.books().map(offset_bytes, Placed { mapping, granted: Access::None });
        Ok(())
    }

    /// Unmaps a page: for whoever asks, at least. It is out of the books before the driver hears of it, if it does, so that nobody begins to use it meanwhile.
    pub(super) fn unmap(&self, offset_bytes: u64) -> Result<Memory, BackendError> {
        let _mapping = self.mapping();
        let (Placed { mapping, granted }, access) = self.books().take(offset_bytes)?;
        let leave = mapping.keeper().filter(|_| self.kept.keeps(self.page_bytes));
        if let Some(memory) = leave {
            let (number, physical) = (memory.number(), Arc::clone(memory.physical()));
            let (mapping, memory) = mapping.kept_by(physical);
            self.kept.put((self.number, offset_bytes), Left { number, mapping, granted });
            return memory.ok_or(BackendError::NotMapped { call: "unmap", offset_bytes });
        }
        mapping.unmap().map_err(|(error, mapping)| {
            self.books().put_back(offset_bytes, Placed { mapping, granted }, access);
            error
        })
    }

    /// Sets access: taken away in the books first and then by the driver, given by the driver first and then in the books.
    pub(super) fn set_access(&self, range: &Range<u64>, access: Access) -> Result<(), BackendError> {
        let _mapping = self.mapping();
        let bytes = range.end.saturating_sub(range.start);
        let set = || self.grant(range, access);
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

    /// Tells the driver of the pages of a range, run by run, of which it was told something else before. They are mapped, and whoever calls has the right to unmap.
    fn grant(&self, range: &Range<u64>, access: Access) -> Result<(), BackendError> {
        let (device, page_bytes) = (self.reserved.device(), self.page_bytes);
        let differs = |offset_bytes: u64| {
            offset_bytes < range.end
                && self.books().page_at(offset_bytes).is_some_and(|placed| placed.granted != access)
        };
        let mut start = range.start;
        while start < range.end {
            let mut end = start;
            while differs(end) {
                end += page_bytes;
            }
            if start < end {
                self.reserved.set_access(start, end - start, &[(device, access)])?;
                let mut books = self.books();
                for offset_bytes in (start..end).step_by(usize::try_from(page_bytes).unwrap_or(usize::MAX)) {
                    if let Some(placed) = books.page_at(offset_bytes) {
                        placed.granted = access;
                    }
                }
            }
            // The page at `end` needs no call.
            start = end + page_bytes;
        }
        Ok(())
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

    /// Which page of the reservation it lies in.
    pub(super) fn page(&self) -> u64 {
        self.range.start / self.inner.page_bytes
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

/// Ranges that are being read, until dropped: their pages stay mapped, and nobody writes them.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) inner: &'a Inner,
    pub(super) ranges: Vec<Range<u64>>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut books = self.inner.books();
        for range in &self.ranges {
            books.end_use(range, false);
        }
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
            // Never staged: prepared bytes are ready as they are, and a value needs none.
            Source::Ready(_) | Source::Value(_) => &mut [],
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
