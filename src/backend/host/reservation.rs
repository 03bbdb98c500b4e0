//! Owns what the host backend hands out: reservations, pages and staging memory. Knows nothing of how memory moves.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mappings::Taken;
use super::memory::{Id, Memory, Mode};
use super::sys;
use super::userfault::userfault;
use crate::backend::books::Books;
use crate::backend::{Refused, ReserveSpec, Staging};
use crate::error::BackendError;

/// From this size on staged memory that was never touched is populated by one call instead of fault by fault.
///
/// **Source**: measured, first touch and copy of 64 KiB: 19 us by faults, 8 us populated.
const POPULATE_BYTES: u64 = 16 << 10;

/// A page of host memory. Dropping it gives the memory back.
#[derive(Debug)]
pub struct HostPage {
    /// Its number; 0 once it was destroyed.
    id: Id,
    bytes: u64,
    memory: Arc<Memory>,
}

impl HostPage {
    pub(super) fn new(id: Id, bytes: u64, memory: Arc<Memory>) -> Self {
        Self { id, bytes, memory }
    }

    /// Size of the page.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn is_of(&self, memory: &Arc<Memory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }

    /// Frees the memory; what lies in `dying` goes with that range.
    pub(super) fn destroy(mut self, dying: Range<usize>) -> Result<(), BackendError> {
        self.memory.destroy(std::mem::take(&mut self.id), &dying)
    }
}

impl Drop for HostPage {
    fn drop(&mut self) {
        if self.id != 0
            && let Err(error) = self.memory.destroy(self.id, &(0..0))
        {
            tracing::warn!(%error, "the memory of a dropped page could not be given back");
        }
    }
}

/// A mapped page.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) page: HostPage,
    /// Whether the page's memory is here, so that nothing needs to follow when someone stages or reads.
    pub(super) settled: bool,
}

/// A range of this process' addresses. Dropping it gives the addresses back, and the memory of what is mapped there.
#[derive(Debug)]
pub struct HostReservation {
    pub(super) inner: Arc<Inner>,
}

/// What a reservation shares with the staging memory in it: it lives until both are gone.
#[derive(Debug)]
pub(super) struct Inner {
    range: sys::Range,
    page_bytes: usize,
    pub(super) mode: Mode,
    pub(super) memory: Arc<Memory>,
    books: Mutex<Books<Held>>,
    /// Held for a whole `map` or `unmap`: between its check and its entry in the books nobody else may map or unmap.
    mapping: Mutex<()>,
    _taken: Taken,
}

impl Inner {
    pub(super) fn new(spec: ReserveSpec, mode: Mode, memory: Arc<Memory>) -> Result<Self, BackendError> {
        let too_large = |_| BackendError::OutOfMemory { call: "reserve", bytes: spec.bytes };
        let bytes = usize::try_from(spec.bytes).map_err(too_large)?;
        let page_bytes = usize::try_from(spec.page_bytes).map_err(too_large)?;
        let taken = memory.mappings.take("reserve", 1)?;
        let purpose = match mode {
            Mode::MovedMappings => sys::Purpose::Reserve,
            Mode::MovedPages | Mode::DemandZero => {
                sys::Purpose::Touch { huge: page_bytes >= sys::HUGE_BYTES }
            }
        };
        let range = sys::Range::new(bytes, page_bytes, purpose)?;
        if let (Mode::MovedPages, Some(userfault)) = (mode, userfault()) {
            // SAFETY: the range was just made, to be touched, and nobody knows it yet.
            unsafe { userfault.register(range.start(), bytes) }?;
        }
        memory.begin(range.start()..range.start() + bytes, page_bytes, mode);
        Ok(Self {
            range,
            page_bytes,
            mode,
            memory,
            books: Mutex::new(Books::new(spec)),
            mapping: Mutex::new(()),
            _taken: taken,
        })
    }

    /// The right to map and unmap. Nothing panics while the lock is held, and every step leaves the books true.
    pub(super) fn mapping(&self) -> MutexGuard<'_, ()> {
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books<Held>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn addresses(&self) -> Range<usize> {
        self.range.start()..self.range.start() + self.range.bytes()
    }

    /// The address of an offset that the books found inside the reservation.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an offset inside the range fits, since the range's size does"
    )]
    pub(super) fn address(&self, offset_bytes: u64) -> usize {
        self.range.start() + offset_bytes as usize
    }

    /// Starts to write a part of a page.
    pub(super) fn stage(self: &Arc<Self>, range: Range<u64>) -> Result<HostStaging, BackendError> {
        self.books().begin_write(&range)?;
        // From here on dropping it ends the use.
        let staging = HostStaging { inner: Arc::clone(self), range };
        self.settle(&staging.range, false)?;
        let bytes = staging.range.end - staging.range.start;
        if self.mode == Mode::DemandZero && bytes >= POPULATE_BYTES {
            let os_page = sys::os_page_bytes();
            let start = self.address(staging.range.start) / os_page * os_page;
            let end = self.address(staging.range.end).next_multiple_of(os_page);
            // SAFETY: whole OS pages of one mapped page, which is a multiple of them, of a writable range that `staging` keeps alive.
            unsafe { sys::populate(start, end - start) }?;
        }
        Ok(staging)
    }

    /// Puts a page, with a copy of what is at an offset, in its place. To be called by who holds the right to map.
    pub(super) fn replace(&self, offset_bytes: u64, page: HostPage) -> Result<HostPage, Refused<HostPage>> {
        let call = "replace";
        // Held throughout: nobody may begin to write meanwhile.
        let mut books = self.books();
        if let Err(error) = books.check_replace(offset_bytes, page.bytes()) {
            return Err(Refused { error, page });
        }
        let Some(held) = books.page_at(offset_bytes) else {
            return Err(Refused { error: BackendError::NotMapped { call, offset_bytes }, page });
        };
        match self.memory.replace(held.page.id(), page.id(), self.address(offset_bytes)) {
            Ok(true) => Ok(std::mem::replace(held, Held { page, settled: true }).page),
            Ok(false) => Err(Refused { error: BackendError::CannotShare { call, offset_bytes }, page }),
            Err(error) => Err(Refused { error, page }),
        }
    }

    /// Copies mapped memory out.
    pub(super) fn read(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), BackendError> {
        // A slice is far shorter than 2^64, and an end beyond that is outside of every reservation.
        let range = offset_bytes..offset_bytes.saturating_add(out.len() as u64);
        self.books().begin_read(&range)?;
        let settled = if out.is_empty() { Ok(()) } else { self.settle(&range, true) };
        if settled.is_ok() {
            // SAFETY: every page of the range is mapped, readable and being read by us, so that no page of it is unmapped or staged meanwhile.
            out.copy_from_slice(unsafe { sys::bytes(self.address(offset_bytes), out.len()) });
        }
        self.books().end_use(&range, false);
        settled
    }

    /// Lets the memory of the pages in a range, which are in use and so stay mapped, follow to here.
    fn settle(&self, range: &Range<u64>, keep: bool) -> Result<(), BackendError> {
        let page_bytes = self.page_bytes as u64;
        for index in range.start / page_bytes..=(range.end - 1) / page_bytes {
            let offset_bytes = index * page_bytes;
            let unsettled = match self.books().page_at(offset_bytes) {
                Some(held) if !held.settled => held.page.id(),
                _ => continue,
            };
            self.memory.follow(unsettled, self.address(offset_bytes), keep)?;
            if let Some(held) = self.books().page_at(offset_bytes) {
                held.settled = true;
            }
        }
        Ok(())
    }

    /// Moves what lingers here elsewhere.
    pub(super) fn evacuate(&self) -> Result<(), BackendError> {
        self.memory.evacuate(self.addresses())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let range = self.addresses();
        let books = self.books.get_mut().unwrap_or_else(PoisonError::into_inner);
        for held in books.drain() {
            if let Err(error) = held.page.destroy(range.clone()) {
                tracing::warn!(%error, "the memory of a page in a dropped reservation could not be given back");
            }
        }
        if let Err(error) = self.memory.evacuate(range.clone()) {
            tracing::warn!(%error, "a page that lingered in a dropped reservation lost its contents");
            self.memory.forget(range);
        }
        self.memory.end(&self.addresses(), self.page_bytes, self.mode);
    }
}

/// A part of a mapped page, to be filled in place.
#[derive(Debug)]
pub struct HostStaging {
    inner: Arc<Inner>,
    range: Range<u64>,
}

impl HostStaging {
    pub(super) fn is_in(&self, inner: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.inner, inner)
    }
}

impl Staging for HostStaging {
    fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.inner.address(self.range.start);
        let bytes = self.inner.address(self.range.end) - start;
        // SAFETY: the books hold this range as being written, by this value alone, until it is dropped: until then its page stays mapped, and `inner` keeps
        // the addresses alive. It is writable: memory that is moved is, and so is the whole of a demand-zero range.
        unsafe { sys::bytes_mut(start, bytes) }
    }
}

impl Drop for HostStaging {
    fn drop(&mut self) {
        self.inner.books().end_use(&self.range, true);
    }
}
