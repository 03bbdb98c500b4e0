//! Owns where the memory of every page lies, and moves it. Knows nothing of access or of who reads what (the books know).
//!
//! ```text
//!            create                      map                             map elsewhere
//!   Nowhere ───────> Home (pool slot) ─────────> Moved(address) ────────────────────────> Moved(other address)
//!      │                  ^   displaced, or its reservation ends │       one mremap, and the old place is reserved again
//!      │                  └───────────────────────────────────┘
//!      │ map, demand-zero                   first stage or read there
//!      └────────────────> Touched(address) ──────────────────────────> Touched(other address)
//!                              └── another page is mapped there ──> Heap
//! ```
//!
//! Memory that can be shared is mapped at its slot as well, always: moving a mapping leaves another one there, of the same memory. So a second handle to it is another page whose home is the same slot, and
//! moving it from there, where nothing is left to move, gives it a mapping of its own. The memory is given back by its slot, with the last handle.
//!
//! Unmapping moves nothing: the memory *lingers* where it was. Mapped there again it is there at once; mapped elsewhere it goes straight from the old
//! place to the new one; and if the place is wanted for another page it is moved out of the way first. In a demand-zero reservation nothing can be moved
//! without splitting mappings, so memory follows its page late: only when someone stages into the new place (then what was there before goes) or reads it
//! through the backend (then it is copied).

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mappings::{Mappings, Taken};
use super::slots::Slots;
use super::sys;
use crate::error::BackendError;

/// Mappings that a pooled page takes at most, wherever it lies: its own, and the rest of the range that it splits.
pub(super) const MAPPINGS_PER_PAGE: u64 = 2;

/// A page, by number. Never used twice.
pub(super) type Id = u64;

/// How a reservation gives its pages memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Touched memory is moved in and out.
    Pooled,
    /// Memory comes with the first touch.
    DemandZero,
}

/// Where a page's memory lies.
#[derive(Debug)]
enum Place {
    /// It has none yet.
    Nowhere,
    /// In its own slot of the pool.
    Home(usize),
    /// In a pooled reservation.
    Moved(usize),
    /// In a demand-zero reservation.
    Touched(usize),
    /// Out of the way of a page that took its place.
    Heap(Box<[u8]>),
}

#[derive(Debug)]
struct Record {
    bytes: usize,
    place: Place,
    /// Its slot in the pool: every page at `Home` or `Moved` has one. Handles to one memory have the same.
    home: Option<Arc<Slot>>,
    /// Of a page that has a slot. Boxed, for pages that have none are small, and many.
    mappings: Option<Box<Taken>>,
    /// Where it is mapped in a demand-zero reservation while its memory still lies elsewhere.
    awaited_at: Option<NonZeroUsize>,
}

impl Record {
    fn without_memory(bytes: usize) -> Self {
        Self { bytes, place: Place::Nowhere, home: None, mappings: None, awaited_at: None }
    }
}

#[derive(Debug)]
struct Slot {
    address: usize,
}

/// The memory of one backend.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) mappings: Arc<Mappings>,
    /// Whether its slots can be mapped several times.
    pub(super) shareable: bool,
    /// The most mappings that the pages of one reservation were said to take: second handles leave so many.
    expected_mappings: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    shareable: bool,
    last_id: Id,
    pages: HashMap<Id, Record>,
    /// Whose memory lies at an address in a reservation.
    at: BTreeMap<usize, Id>,
    /// By page size.
    slots: HashMap<usize, Slots>,
    /// Live pooled reservations by page size: where there is one, new pages take their memory at once.
    pooled: HashMap<usize, usize>,
}

impl Memory {
    pub(super) fn new(mappings: Arc<Mappings>, shareable: bool) -> Self {
        let expected_mappings = AtomicU64::new(0);
        Self {
            mappings,
            shareable,
            expected_mappings,
            state: Mutex::new(State { shareable, ..State::default() }),
        }
    }

    /// Nothing panics while the lock is held, and every step leaves the tables true, so a poisoned lock is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many mappings may be needed for pages with memory of their own.
    pub(super) fn expect(&self, mappings: u64) {
        self.expected_mappings.fetch_max(mappings, Ordering::Relaxed);
    }

    /// A pooled reservation of this page size begins (`true`) or ends.
    pub(super) fn count_pooled(&self, page_bytes: usize, begins: bool) {
        let mut state = self.state();
        let count = state.pooled.entry(page_bytes).or_default();
        *count = if begins { *count + 1 } else { count.saturating_sub(1) };
    }

    /// A new page. It takes its memory now if there is a pooled reservation that it may go to, or else when it is mapped or touched.
    pub(super) fn create(&self, bytes: usize) -> Result<Id, BackendError> {
        let mut state = self.state();
        let eager = state.pooled.get(&bytes).is_some_and(|count| *count > 0);
        let home = if eager { Some(state.take_slot(&self.mappings, bytes)?) } else { None };
        drop(state);
        // The slot is this page's alone, so that taking its memory, the long part, needs no lock.
        let filled = home.as_ref().map_or(Ok(()), |(slot, _)| fill_slot(slot.address, bytes, self.shareable));
        let mut state = self.state();
        if let Err(error) = filled {
            if let Some((slot, _)) = home {
                state.free_slot(slot, bytes);
            }
            return Err(error);
        }
        let mut record = Record::without_memory(bytes);
        if let Some((slot, mappings)) = home {
            record.place = Place::Home(slot.address);
            (record.home, record.mappings) = (Some(slot), Some(Box::new(mappings)));
        }
        Ok(state.enter(record))
    }

    /// Another page with the same memory, which is mapped nowhere yet. `None`: that memory cannot be shared, or mappings for it would be lacking for new pages.
    pub(super) fn share(&self, id: Id) -> Result<Option<Id>, BackendError> {
        let mut state = self.state();
        let record = state.record(id)?;
        let (Some(slot), true) = (&record.home, self.shareable) else { return Ok(None) };
        let left = self.expected_mappings.load(Ordering::Relaxed).saturating_add(MAPPINGS_PER_PAGE);
        if self.mappings.room() < left {
            return Ok(None);
        }
        let mappings = Some(Box::new(self.mappings.take("share", MAPPINGS_PER_PAGE)?));
        let (bytes, home) = (record.bytes, Some(Arc::clone(slot)));
        let place = Place::Home(slot.address);
        Ok(Some(state.enter(Record { bytes, place, home, mappings, awaited_at: None })))
    }

    /// Copies what the page at `address` of a pooled reservation holds to `new`, which is mapped nowhere, and puts that there. `false`, and nothing was done: it has memory that cannot be shared.
    pub(super) fn replace(&self, old: Id, new: Id, address: usize) -> Result<bool, BackendError> {
        let mut state = self.state();
        state.replace(&self.mappings, old, new, address)
    }

    /// Frees a page. Memory that lies in `dying` goes with that range, which is about to be unmapped as a whole.
    pub(super) fn destroy(&self, id: Id, dying: Range<usize>) -> Result<(), BackendError> {
        let mut state = self.state();
        let Some(mut record) = state.pages.remove(&id) else { return Ok(()) };
        state.drop_memory(&mut record, &dying)
    }

    /// Puts a page at an address where nothing is mapped. Says whether its memory is there (or else follows later).
    pub(super) fn map(&self, id: Id, address: usize, mode: Mode) -> Result<bool, BackendError> {
        let mut state = self.state();
        if state.at.get(&address) == Some(&id) {
            return Ok(true);
        }
        let shared = |slot: &Arc<Slot>| Arc::strong_count(slot) > 1;
        if mode == Mode::DemandZero && state.record(id)?.home.as_ref().is_some_and(shared) {
            return Err(BackendError::CannotShare { call: "map", offset_bytes: 0 });
        }
        match mode {
            Mode::Pooled => state.move_to(&self.mappings, id, address).map(|()| true),
            Mode::DemandZero => state.await_at(id, address),
        }
    }

    /// Takes note that a page is mapped nowhere any more.
    pub(super) fn unmap(&self, id: Id) {
        if let Some(record) = self.state().pages.get_mut(&id) {
            record.awaited_at = None;
        }
    }

    /// Lets a page's memory follow to where it is mapped in a demand-zero reservation: with its contents, or (they are about to be overwritten) without.
    pub(super) fn follow(&self, id: Id, address: usize, keep: bool) -> Result<(), BackendError> {
        self.state().follow(id, address, keep)
    }

    /// Moves what lingers in a range of addresses out of it.
    pub(super) fn evacuate(&self, range: Range<usize>) -> Result<(), BackendError> {
        let mut state = self.state();
        let there: Vec<usize> = state.at.range(range).map(|(address, _)| *address).collect();
        // Every page gets its chance, whatever becomes of the others.
        there.into_iter().map(|address| state.displace(address)).fold(Ok(()), Result::and)
    }

    /// Gives up on what lingers in a range of addresses that is about to be unmapped: its pages are as new.
    pub(super) fn forget(&self, range: Range<usize>) {
        let mut state = self.state();
        let state = &mut *state;
        while let Some((&address, &id)) = state.at.range(range.clone()).next() {
            state.at.remove(&address);
            if let Some(record) = state.pages.get_mut(&id) {
                let bytes = record.bytes;
                if let (Some(slot), true) = (&record.home, self.shareable) {
                    record.place = Place::Home(slot.address);
                    continue;
                }
                let record = std::mem::replace(record, Record::without_memory(bytes));
                if let Some(slot) = record.home {
                    state.free_slot(slot, bytes);
                }
            }
        }
    }
}

impl State {
    fn enter(&mut self, record: Record) -> Id {
        self.last_id += 1;
        self.pages.insert(self.last_id, record);
        self.last_id
    }

    fn take_slot(
        &mut self,
        mappings: &Arc<Mappings>,
        bytes: usize,
    ) -> Result<(Arc<Slot>, Taken), BackendError> {
        let taken = mappings.take("create", MAPPINGS_PER_PAGE)?;
        let shareable = self.shareable;
        let slots = self.slots.entry(bytes).or_insert_with(|| Slots::new(bytes, shareable));
        let address = slots.take(mappings)?;
        Ok((Arc::new(Slot { address }), taken))
    }

    /// Takes back a slot that has no memory, unless another page still has it.
    fn free_slot(&mut self, slot: Arc<Slot>, bytes: usize) {
        if let (Some(slot), Some(slots)) = (Arc::into_inner(slot), self.slots.get_mut(&bytes)) {
            slots.give_back(slot.address);
        }
    }

    /// Frees the memory of a page, and the slot with it.
    fn drop_memory(&mut self, record: &mut Record, dying: &Range<usize>) -> Result<(), BackendError> {
        let bytes = record.bytes;
        let slot = record.home.take();
        record.mappings = None;
        let is_last = slot.as_ref().is_none_or(|slot| Arc::strong_count(slot) == 1);
        let mut result = match std::mem::replace(&mut record.place, Place::Nowhere) {
            Place::Nowhere | Place::Heap(_) => Ok(()),
            Place::Home(_) if self.shareable => Ok(()),
            // SAFETY: the slot is ours until it is freed below, and nobody but this page's owner knew what it holds.
            Place::Home(address) => unsafe { sys::give_back(address, bytes) },
            Place::Moved(address) => {
                self.at.remove(&address);
                if dying.contains(&address) {
                    Ok(())
                } else {
                    // SAFETY: the page's owner gives up its memory, which lies whole in a live reservation (evacuation and `dying` see to that).
                    unsafe { sys::reserve_again(address, bytes) }
                }
            }
            Place::Touched(address) => {
                self.at.remove(&address);
                if dying.contains(&address) {
                    Ok(())
                } else {
                    // SAFETY: as above; the reservation is a writable one.
                    unsafe { sys::give_back(address, bytes) }
                }
            }
        };
        if let (Some(slot), true, true) = (&slot, self.shareable, is_last) {
            // SAFETY: this was the last page with that memory, and is mapped nowhere any more, or in a range that nobody uses.
            let given = unsafe { sys::give_back_shared(slot.address, bytes) };
            result = result.and(given);
        }
        // A slot whose memory could not be freed is not used again.
        if let (Some(slot), true) = (slot, result.is_ok()) {
            self.free_slot(slot, bytes);
        }
        result
    }

    fn record(&mut self, id: Id) -> Result<&mut Record, BackendError> {
        self.pages
            .get_mut(&id)
            .ok_or(BackendError::WrongOwner { call: "map", what: "the page is not of this backend" })
    }

    /// Moves a page's memory to an address in a pooled reservation.
    fn move_to(&mut self, mappings: &Arc<Mappings>, id: Id, address: usize) -> Result<(), BackendError> {
        self.make_movable(mappings, id)?;
        self.displace(address)?;
        let record = self.record(id)?;
        let bytes = record.bytes;
        let (Place::Moved(from) | Place::Home(from)) = record.place else {
            return Err(BackendError::WrongOwner { call: "map", what: "the page has no memory" });
        };
        // SAFETY: both ranges are whole pages of ours (a slot or a live reservation), different because `map` found another occupant at `address`; the
        // page is unmapped and nothing is mapped at `address`, so that by the caller's obligation nobody reads either.
        if let Err(error) = unsafe { sys::move_memory(from, address, bytes) } {
            // SAFETY: what lingered at `address` was moved home; the range is ours and nobody reads it.
            unsafe { sys::mend(address, bytes) };
            return Err(error);
        }
        let lingered = matches!(record.place, Place::Moved(_));
        record.place = Place::Moved(address);
        record.awaited_at = None;
        self.at.insert(address, id);
        if lingered {
            self.at.remove(&from);
            // SAFETY: the range is ours, in a live reservation, and its memory has just left.
            if let Err(error) = unsafe { sys::reserve_again(from, bytes) } {
                // Still mapped, still ours, still empty: all that is lost is that a stray write there would fault.
                tracing::warn!(%error, "an emptied page could not be reserved again");
            }
        }
        Ok(())
    }

    fn replace(
        &mut self,
        mappings: &Arc<Mappings>,
        old: Id,
        new: Id,
        address: usize,
    ) -> Result<bool, BackendError> {
        let shareable = self.shareable;
        let record = self.record(old)?;
        let (Some(slot), Place::Moved(there), true) = (&record.home, &record.place, shareable) else {
            return Ok(false);
        };
        let (at_home, is_there) = (slot.address, *there == address);
        if !is_there {
            return Ok(false);
        }
        self.make_movable(mappings, new)?;
        let record = self.record(new)?;
        let bytes = record.bytes;
        let (Place::Moved(from) | Place::Home(from)) = record.place else { return Ok(false) };
        // SAFETY: `new` is mapped nowhere, so that nobody uses its memory; nobody writes to the page at `address`, says the caller. They are different memory, or else `new` would be mapped.
        unsafe { sys::copy(address, from, bytes) };
        // SAFETY: both ranges are whole pages of ours. Who reads at `address` finds the same bytes there: the call replaces the mapping within one lock of the address space.
        if let Err(error) = unsafe { sys::move_memory(from, address, bytes) } {
            // SAFETY: the old memory is still mapped at its slot: what the failure may have taken from `address` is put back there.
            if unsafe { sys::move_memory(at_home, address, bytes) }.is_err() {
                // SAFETY: a hole in a range of ours is closed, if there is one.
                unsafe { sys::mend(address, bytes) };
            }
            return Err(error);
        }
        let lingered = matches!(record.place, Place::Moved(_));
        record.place = Place::Moved(address);
        record.awaited_at = None;
        self.at.insert(address, new);
        self.record(old)?.place = Place::Home(at_home);
        if lingered {
            self.at.remove(&from);
            // SAFETY: the range is ours, in a live reservation, and its memory has just left.
            if let Err(error) = unsafe { sys::reserve_again(from, bytes) } {
                tracing::warn!(%error, "an emptied page could not be reserved again");
            }
        }
        Ok(true)
    }

    /// Gives a page a slot and memory that can be moved, with its contents.
    fn make_movable(&mut self, mappings: &Arc<Mappings>, id: Id) -> Result<(), BackendError> {
        let record = self.record(id)?;
        if record.home.is_some() {
            return Ok(());
        }
        let bytes = record.bytes;
        let (slot, taken) = self.take_slot(mappings, bytes)?;
        if let Err(error) = fill_slot(slot.address, bytes, self.shareable) {
            self.free_slot(slot, bytes);
            return Err(error);
        }
        let record = self.record(id)?;
        // SAFETY: the slot is this page's alone, has just been given memory, and overlaps no other place.
        unsafe { copy_from(&record.place, slot.address, bytes) };
        let place = std::mem::replace(&mut record.place, Place::Home(slot.address));
        let mut old = Record { place, ..Record::without_memory(bytes) };
        (record.home, record.mappings) = (Some(slot), Some(Box::new(taken)));
        self.drop_memory(&mut old, &(0..0))
    }

    /// Enters that a page is mapped at an address in a demand-zero reservation. Says whether its memory is (or, at the first touch, will be) there.
    fn await_at(&mut self, id: Id, address: usize) -> Result<bool, BackendError> {
        self.displace(address)?;
        let record = self.record(id)?;
        if matches!(record.place, Place::Nowhere) {
            record.place = Place::Touched(address);
            self.at.insert(address, id);
            return Ok(true);
        }
        record.awaited_at = NonZeroUsize::new(address);
        Ok(false)
    }

    fn follow(&mut self, id: Id, address: usize, keep: bool) -> Result<(), BackendError> {
        let record = self.record(id)?;
        if matches!(record.place, Place::Touched(there) if there == address) {
            return Ok(());
        }
        let bytes = record.bytes;
        if keep {
            // SAFETY: the page is mapped at `address` in a live demand-zero reservation. Where it cannot be populated the copy touches it.
            unsafe { sys::populate(address, bytes) }?;
            let record = self.record(id)?;
            // SAFETY: no memory but this page's may come to `address` while it is mapped there, and nobody stages into it before this call is done.
            unsafe { copy_from(&record.place, address, bytes) };
        }
        let record = self.record(id)?;
        let place = std::mem::replace(&mut record.place, Place::Touched(address));
        record.awaited_at = None;
        let home = record.home.take();
        record.mappings = None;
        let mut old = Record { place, home, ..Record::without_memory(bytes) };
        self.at.insert(address, id);
        self.drop_memory(&mut old, &(0..0))
    }

    /// Moves the memory that lingers at an address, if any does, out of the way.
    fn displace(&mut self, address: usize) -> Result<(), BackendError> {
        let Some(&id) = self.at.get(&address) else { return Ok(()) };
        let record = self.record(id)?;
        let bytes = record.bytes;
        match (&record.place, &record.home, record.awaited_at) {
            (Place::Touched(_), _, Some(there)) => self.follow(id, there.get(), true),
            (Place::Touched(_), ..) => {
                let mut copy = Vec::new();
                copy.try_reserve_exact(bytes)
                    .map_err(|_| BackendError::OutOfMemory { call: "map", bytes: bytes as u64 })?;
                // SAFETY: the page's memory lies there; it is mapped nowhere, so that nobody writes to it.
                copy.extend_from_slice(unsafe { sys::bytes(address, bytes) });
                record.place = Place::Heap(copy.into_boxed_slice());
                self.at.remove(&address);
                // SAFETY: the range is ours, writable, in a live reservation, and nothing is mapped there.
                unsafe { sys::give_back(address, bytes) }
            }
            (Place::Moved(_), Some(slot), _) => {
                // SAFETY: the slot is this page's and empty; the page is mapped nowhere in this reservation, so that nobody reads it.
                unsafe { sys::move_memory(address, slot.address, bytes) }?;
                record.place = Place::Home(slot.address);
                self.at.remove(&address);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Takes memory for a slot of the pool, or fails and leaves it without any.
fn fill_slot(address: usize, bytes: usize, shareable: bool) -> Result<(), BackendError> {
    // SAFETY: the slot is whole OS pages of a pool's chunk, taken by the caller.
    match unsafe { sys::populate(address, bytes) } {
        Ok(true) => Ok(()),
        Ok(false) => {
            // SAFETY: as above, and nobody else knows the slot.
            unsafe { sys::touch(address, bytes) };
            Ok(())
        }
        Err(error) => {
            let _ = if shareable {
                // SAFETY: as above.
                unsafe { sys::give_back_shared(address, bytes) }
            } else {
                // SAFETY: as above.
                unsafe { sys::give_back(address, bytes) }
            };
            Err(error)
        }
    }
}

/// Copies a page's contents to an address; nothing where it has none.
///
/// # Safety
/// `to` is writable, used by nobody else, and overlaps no place of this page; nobody writes to the page.
unsafe fn copy_from(place: &Place, to: usize, bytes: usize) {
    match place {
        Place::Home(from) | Place::Moved(from) | Place::Touched(from) => {
            // SAFETY: the page's memory lies at `from`, readable; the rest is the caller's promise.
            unsafe { sys::copy(*from, to, bytes) };
        }
        // SAFETY: as the caller promises.
        Place::Heap(contents) => unsafe { sys::bytes_mut(to, bytes) }.copy_from_slice(contents),
        Place::Nowhere => {}
    }
}
