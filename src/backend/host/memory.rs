//! Owns the pages of a backend: what may be asked of them, one at a time. Where their memory lies is the matter of `places`. Knows nothing of access or of who reads what (the books know).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mappings::Mappings;
use super::places::{Places, fill_slot};
use crate::error::BackendError;

/// Mappings that a page takes at most whose mapping is moved, wherever it lies: its own, and the rest of the range that it splits.
pub(super) const MAPPINGS_PER_PAGE: u64 = 2;

/// A page, by number. Never used twice.
pub(super) type Id = u64;

/// How a reservation gives its pages memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// OS pages that were touched once are moved in and out.
    MovedPages,
    /// The same, by moving their mapping.
    MovedMappings,
    /// Memory comes with the first touch.
    DemandZero,
}

/// The memory of one backend.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) mappings: Arc<Mappings>,
    /// Whether its slots can be mapped several times.
    pub(super) shareable: bool,
    /// The most mappings that the pages of one reservation were said to take: second handles leave so many.
    expected_mappings: AtomicU64,
    places: Mutex<Places>,
}

impl Memory {
    pub(super) fn new(mappings: Arc<Mappings>, shareable: bool) -> Self {
        let places = Mutex::new(Places::new(Arc::clone(&mappings), shareable));
        Self { mappings, shareable, expected_mappings: AtomicU64::new(0), places }
    }

    /// Nothing panics while the lock is held, and every step leaves the tables true, so a poisoned lock is as good as any.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many mappings may be needed for pages whose mappings are moved.
    pub(super) fn expect(&self, mappings: u64) {
        self.expected_mappings.fetch_max(mappings, Ordering::Relaxed);
    }

    /// A reservation begins: pages of this size may be mapped in this range.
    pub(super) fn begin(&self, range: Range<usize>, page_bytes: usize, mode: Mode) {
        self.places().begin(range, page_bytes, mode);
    }

    /// A reservation ends, where nothing is any more.
    pub(super) fn end(&self, range: &Range<usize>, page_bytes: usize, mode: Mode) {
        self.places().end(range, page_bytes, mode);
    }

    /// A new page. It takes its memory now if there is a reservation that it may be moved to, or else when it is mapped or touched.
    pub(super) fn create(&self, bytes: usize) -> Result<Id, BackendError> {
        let mut places = self.places();
        let Some(slot) = places.slot_for_new(bytes)? else {
            return Ok(places.enter_without_memory(bytes));
        };
        drop(places);
        // The slot is this page's alone, so that taking its memory, the long part, needs no lock.
        let filled = fill_slot(slot.address(), bytes, self.shareable);
        let mut places = self.places();
        match filled {
            Ok(()) => Ok(places.enter_in_slot(bytes, slot)),
            Err(error) => {
                places.free_slot(slot.give_up(), bytes);
                Err(error)
            }
        }
    }

    /// Another page with the same memory, which is mapped nowhere yet. `None`: that memory cannot be shared, or mappings for it would be lacking for new pages.
    pub(super) fn share(&self, id: Id) -> Result<Option<Id>, BackendError> {
        let mut places = self.places();
        if !places.can_share(id)? {
            return Ok(None);
        }
        let left = self.expected_mappings.load(Ordering::Relaxed).saturating_add(MAPPINGS_PER_PAGE);
        if self.mappings.room() < left {
            return Ok(None);
        }
        places.share(id).map(Some)
    }

    /// Copies what the page at `address` holds, whose memory can be shared, to `new`, which is mapped nowhere, and puts that there. `false`, and nothing was done: it has memory that cannot be shared.
    pub(super) fn replace(&self, old: Id, new: Id, address: usize) -> Result<bool, BackendError> {
        self.places().replace(old, new, address)
    }

    /// Frees a page. Memory that lies in `dying` goes with that range, which is about to be unmapped as a whole.
    pub(super) fn destroy(&self, id: Id, dying: &Range<usize>) -> Result<(), BackendError> {
        self.places().destroy(id, dying)
    }

    /// Puts a page at an address where nothing is mapped. Says whether its memory is there (or else follows later).
    pub(super) fn map(&self, id: Id, address: usize, mode: Mode) -> Result<bool, BackendError> {
        self.places().map(id, address, mode)
    }

    /// Takes note that a page is mapped nowhere any more.
    pub(super) fn unmap(&self, id: Id) {
        self.places().unmap(id);
    }

    /// Lets a page's memory follow to where it is mapped in a demand-zero reservation: with its contents, or (they are about to be overwritten) without.
    pub(super) fn follow(&self, id: Id, address: usize, keep: bool) -> Result<(), BackendError> {
        self.places().follow(id, address, keep)
    }

    /// Moves what lingers in a range of addresses out of it.
    pub(super) fn evacuate(&self, range: Range<usize>) -> Result<(), BackendError> {
        self.places().evacuate(range)
    }

    /// Gives up on what lingers in a range of addresses that is about to be unmapped: its pages are as new.
    pub(super) fn forget(&self, range: Range<usize>) {
        self.places().forget(range);
    }
}
