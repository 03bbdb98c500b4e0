//! Owns where the memory of every page lies, and moves it. Knows nothing of reservations but their addresses.
//!
//! ```text
//!            create                 map                                map elsewhere
//!   Nowhere ───────> Home (a slot) ─────> Filled(address)  OS pages  ───────────────> Filled(other address)
//!      │                   │                 └── displaced ──> Shelf
//!      │                   └────────────> Moved(address)   mapping   ───────────────> Moved(other address): one mremap, and the old place is reserved again
//!      │                                     └── displaced ──> Home
//!      │ map, demand-zero                  first stage or read there
//!      └────────────────> Touched(address) ─────────────────────────> Touched(other address)
//!                              └── displaced ──> Heap
//! ```
//!
//! Which of the three it is depends on the reservation ([`Mode`]). A page may be mapped in reservations of different ones, one after the other.
//!
//! **Filled**: OS pages are moved, and what they leave is as it was before them. Its slot is free as soon as they have left it. Displaced they lie on a *shelf*, a place that they may be moved to as well.
//! The page tables that they leave are given back once there are many (`reserved`).
//!
//! **Moved**: the mapping is moved, which splits those of both places. Its slot is the page's for good, to be displaced to. Memory that can be shared is mapped at its slot as well, always: moving a mapping leaves
//! another one there, of the same memory. So a second handle to it is another page whose home is the same slot, and moving it from there, where nothing is left to move, gives it a mapping of its own. The memory is
//! given back by its slot, with the last handle.
//!
//! Unmapping moves nothing: the memory *lingers* where it was. Mapped there again it is there at once; mapped elsewhere it goes straight from the old
//! place to the new one; and if the place is wanted for another page it is *displaced*: moved out of the way first. In a demand-zero reservation nothing can be moved
//! without splitting mappings, so memory follows its page late: only when someone stages into the new place (then what was there before goes) or reads it
//! through the backend (then it is copied).

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use super::mappings::{Mappings, Taken};
use super::memory::{Id, MAPPINGS_PER_PAGE, Mode};
use super::reserved::{Kind, Reservations, map_anew};
use super::slots::{Purpose, Slots};
use super::userfault::{required, userfault};
use super::{slots, sys};
use crate::error::BackendError;

/// Where a page's memory lies.
#[derive(Debug)]
enum Place {
    /// It has none yet.
    Nowhere,
    /// In its own slot.
    Home(usize),
    /// In a reservation of moved pages.
    Filled(usize),
    /// Out of the way, where OS pages may be moved to.
    Shelf(usize),
    /// In a reservation of moved mappings.
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
    /// Its slot: every page at `Home` or `Moved` has one. Handles to one memory have the same.
    home: Option<Arc<Slot>>,
    /// Of a page whose mapping was ever moved. Boxed, for other pages are small, and many.
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

/// A slot that is to be filled for a new page.
#[derive(Debug)]
pub(super) struct NewSlot {
    slot: Slot,
    mappings: Option<Taken>,
}

impl NewSlot {
    pub(super) fn address(&self) -> usize {
        self.slot.address
    }

    pub(super) fn give_up(self) -> usize {
        self.slot.address
    }
}

/// Every page of a backend, and the places that there are.
#[derive(Debug)]
pub(super) struct Places {
    mappings: Arc<Mappings>,
    shareable: bool,
    last_id: Id,
    pages: HashMap<Id, Record>,
    /// Whose memory lies at an address in a reservation.
    at: BTreeMap<usize, Id>,
    /// Where memory is taken, and where OS pages lie that were displaced, by page size.
    slots: HashMap<(usize, slots::Purpose), Slots>,
    reservations: Reservations,
}

impl Places {
    pub(super) fn new(mappings: Arc<Mappings>, shareable: bool) -> Self {
        Self {
            mappings,
            shareable,
            last_id: 0,
            pages: HashMap::new(),
            at: BTreeMap::new(),
            slots: HashMap::new(),
            reservations: Reservations::default(),
        }
    }

    pub(super) fn begin(&mut self, range: Range<usize>, page_bytes: usize, mode: Mode) {
        self.reservations.begin(range, page_bytes, mode);
    }

    pub(super) fn end(&mut self, range: &Range<usize>, page_bytes: usize, mode: Mode) {
        self.reservations.end(range, page_bytes, mode);
    }

    /// A slot for a page that is created, if it is to take its memory at once. With mappings, if it can only be mapped where it needs them.
    pub(super) fn slot_for_new(&mut self, bytes: usize) -> Result<Option<NewSlot>, BackendError> {
        let live = |mode| self.reservations.has(bytes, mode);
        let (pages, mappings) = (live(Mode::MovedPages), live(Mode::MovedMappings));
        if !pages && !mappings {
            return Ok(None);
        }
        let mappings = if pages { None } else { Some(self.mappings.take("create", MAPPINGS_PER_PAGE)?) };
        Ok(Some(NewSlot { slot: Slot { address: self.take_slot(bytes)? }, mappings }))
    }

    pub(super) fn enter_without_memory(&mut self, bytes: usize) -> Id {
        self.enter(Record::without_memory(bytes))
    }

    pub(super) fn enter_in_slot(&mut self, bytes: usize, new: NewSlot) -> Id {
        let place = Place::Home(new.slot.address);
        let mappings = new.mappings.map(Box::new);
        self.enter(Record { bytes, place, home: Some(Arc::new(new.slot)), mappings, awaited_at: None })
    }

    fn enter(&mut self, record: Record) -> Id {
        self.last_id += 1;
        self.pages.insert(self.last_id, record);
        self.last_id
    }

    pub(super) fn can_share(&mut self, id: Id) -> Result<bool, BackendError> {
        let shareable = self.shareable;
        Ok(self.record(id)?.home.is_some() && shareable)
    }

    /// Another page with the memory of one that can be shared.
    pub(super) fn share(&mut self, id: Id) -> Result<Id, BackendError> {
        let mappings = Some(Box::new(self.mappings.take("share", MAPPINGS_PER_PAGE)?));
        let record = self.record(id)?;
        let Some(slot) = &record.home else { return Err(not_in_memory()) };
        let (bytes, home, place) = (record.bytes, Some(Arc::clone(slot)), Place::Home(slot.address));
        Ok(self.enter(Record { bytes, place, home, mappings, awaited_at: None }))
    }

    pub(super) fn destroy(&mut self, id: Id, dying: &Range<usize>) -> Result<(), BackendError> {
        let Some(mut record) = self.pages.remove(&id) else { return Ok(()) };
        self.drop_memory(&mut record, dying)
    }

    pub(super) fn map(&mut self, id: Id, address: usize, mode: Mode) -> Result<bool, BackendError> {
        if self.at.get(&address) == Some(&id) {
            return Ok(true);
        }
        let at = &self.at;
        // SAFETY: `at` has all memory that is in a reservation.
        unsafe { self.reservations.mend(|range| at.range(range).next().is_none()) };
        match mode {
            Mode::MovedPages => self.fill(id, address).map(|()| true),
            Mode::MovedMappings => self.move_to(id, address).map(|()| true),
            Mode::DemandZero => self.await_at(id, address),
        }
    }

    pub(super) fn unmap(&mut self, id: Id) {
        if let Some(record) = self.pages.get_mut(&id) {
            record.awaited_at = None;
        }
    }

    pub(super) fn evacuate(&mut self, range: Range<usize>) -> Result<(), BackendError> {
        let there: Vec<usize> = self.at.range(range).map(|(address, _)| *address).collect();
        // Every page gets its chance, whatever becomes of the others.
        there.into_iter().map(|address| self.displace(address)).fold(Ok(()), Result::and)
    }

    pub(super) fn forget(&mut self, range: Range<usize>) {
        while let Some((&address, &id)) = self.at.range(range.clone()).next() {
            self.at.remove(&address);
            if let Some(record) = self.pages.get_mut(&id) {
                let bytes = record.bytes;
                if let (Some(slot), true) = (&record.home, self.shareable) {
                    record.place = Place::Home(slot.address);
                    continue;
                }
                let record = std::mem::replace(record, Record::without_memory(bytes));
                self.leave_home(record.home, bytes);
            }
        }
    }

    fn record(&mut self, id: Id) -> Result<&mut Record, BackendError> {
        self.pages
            .get_mut(&id)
            .ok_or(BackendError::WrongOwner { call: "map", what: "the page is not of this backend" })
    }

    fn slots(&mut self, bytes: usize, purpose: slots::Purpose) -> &mut Slots {
        self.slots.entry((bytes, purpose)).or_insert_with(|| Slots::new(bytes, purpose))
    }

    fn purpose(&self) -> slots::Purpose {
        if self.shareable { Purpose::Shared } else { Purpose::Own }
    }

    fn take_slot(&mut self, bytes: usize) -> Result<usize, BackendError> {
        let (mappings, purpose) = (Arc::clone(&self.mappings), self.purpose());
        self.slots(bytes, purpose).take(&mappings)
    }

    /// Takes back a slot that has no memory.
    pub(super) fn free_slot(&mut self, address: usize, bytes: usize) {
        let purpose = self.purpose();
        self.slots(bytes, purpose).give_back(address);
    }

    /// The same, unless another page still has it.
    fn leave_home(&mut self, slot: Option<Arc<Slot>>, bytes: usize) {
        if let Some(slot) = slot.and_then(Arc::into_inner) {
            self.free_slot(slot.address, bytes);
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
            Place::Shelf(address) => {
                let tabled = leaves_tables(address, bytes);
                // SAFETY: as above.
                let given = unsafe { sys::give_back(address, bytes) };
                if given.is_ok() {
                    self.free_shelf(address, bytes, tabled);
                }
                given
            }
            place @ (Place::Moved(address) | Place::Filled(address) | Place::Touched(address)) => {
                self.at.remove(&address);
                if dying.contains(&address) {
                    Ok(())
                } else {
                    let tabled = leaves_tables(address, bytes);
                    let given = if matches!(place, Place::Moved(_)) {
                        // SAFETY: the page's owner gives up its memory, which lies whole in a live reservation (evacuation and `dying` see to that).
                        unsafe { sys::reserve_again(address, bytes) }
                    } else {
                        // SAFETY: as above; the reservation is a writable one.
                        unsafe { sys::give_back(address, bytes) }
                    };
                    self.left(address, bytes, tabled);
                    given
                }
            }
        };
        if let (Some(slot), true, true) = (&slot, self.shareable, is_last) {
            // SAFETY: this was the last page with that memory, and is mapped nowhere any more, or in a range that nobody uses.
            let given = unsafe { sys::give_back_shared(slot.address, bytes) };
            result = result.and(given);
        }
        // A slot whose memory could not be freed is not used again.
        if result.is_ok() {
            self.leave_home(slot, bytes);
        }
        result
    }

    /// Where the memory lies that is about to be moved, how much it is, and whether page tables will stay there.
    fn leaving(&mut self, id: Id) -> Result<(usize, usize, bool), BackendError> {
        let Record { ref place, bytes, .. } = *self.record(id)?;
        match *place {
            Place::Home(from) | Place::Shelf(from) | Place::Filled(from) | Place::Moved(from) => {
                Ok((from, bytes, leaves_tables(from, bytes)))
            }
            Place::Nowhere | Place::Touched(_) | Place::Heap(_) => Err(not_in_memory()),
        }
    }

    /// Moves a page's OS pages to an address in a reservation of moved pages.
    fn fill(&mut self, id: Id, address: usize) -> Result<(), BackendError> {
        let userfault = required()?;
        self.take_memory(id)?;
        self.displace(address)?;
        let (from, bytes, tabled) = self.leaving(id)?;
        // Huge pages go only where there is no table, not even an empty one: they would be split.
        if !tabled && self.reservations.comes(address, bytes) {
            // SAFETY: whole OS pages of a live reservation, where no page is mapped, and what lingered was moved away.
            unsafe { self.reservations.map_anew_at(address, bytes) }?;
        }
        // SAFETY: both ranges are whole pages of ours (a slot or a live reservation), different because `map` found another occupant at `address`; the
        // page is unmapped and nothing is mapped at `address`, so that by the caller's obligation nobody reads either. What lingered at `address` was moved away.
        if let Err(error) = unsafe { userfault.move_pages(from, address, bytes) } {
            // It may have made tables before it failed.
            self.left(address, bytes, true);
            return Err(error);
        }
        let record = self.record(id)?;
        record.awaited_at = None;
        let old = std::mem::replace(&mut record.place, Place::Filled(address));
        self.arrive(id, address, bytes);
        self.leave(id, &old, bytes, tabled);
        Ok(())
    }

    /// Moves a page's mapping to an address in a reservation of moved mappings.
    fn move_to(&mut self, id: Id, address: usize) -> Result<(), BackendError> {
        self.take_memory(id)?;
        self.make_movable(id)?;
        self.displace(address)?;
        let (from, bytes, tabled) = self.leaving(id)?;
        // SAFETY: as in `fill`.
        if let Err(error) = unsafe { sys::move_memory(from, address, bytes) } {
            // SAFETY: what lingered at `address` was moved home; the range is ours and nobody reads it.
            unsafe { sys::mend(address, bytes) };
            // What lingered there may have left some.
            self.left(address, bytes, true);
            return Err(error);
        }
        let record = self.record(id)?;
        record.awaited_at = None;
        let old = std::mem::replace(&mut record.place, Place::Moved(address));
        self.arrive(id, address, bytes);
        self.leave(id, &old, bytes, tabled);
        Ok(())
    }

    /// Tidies the place that a page's memory has just left. `tabled`: there are page tables yet.
    fn leave(&mut self, id: Id, place: &Place, bytes: usize, tabled: bool) {
        match *place {
            Place::Filled(from) => {
                self.at.remove(&from);
                self.left(from, bytes, tabled);
            }
            Place::Shelf(from) => self.free_shelf(from, bytes, tabled),
            Place::Moved(from) => {
                self.at.remove(&from);
                // SAFETY: the range is ours, in a live reservation, and its memory has just left.
                if let Err(error) = unsafe { sys::reserve_again(from, bytes) } {
                    // Still mapped, still ours, still empty: all that is lost is that a stray write there would fault.
                    tracing::warn!(%error, "an emptied page could not be reserved again");
                }
                self.left(from, bytes, tabled);
            }
            Place::Home(_) => {
                // It has none to come back to unless its mapping was moved.
                let of_its_own = |record: &&mut Record| record.mappings.is_none();
                if let Some(record) = self.pages.get_mut(&id).filter(of_its_own) {
                    let home = record.home.take();
                    self.leave_home(home, bytes);
                }
            }
            Place::Nowhere | Place::Touched(_) | Place::Heap(_) => {}
        }
    }

    /// Takes back a place on the shelf that has no memory.
    fn free_shelf(&mut self, address: usize, bytes: usize, tabled: bool) {
        // What comes there next may be huge.
        if tabled && bytes >= sys::HUGE_BYTES {
            let shelf = Kind { mode: Mode::MovedPages, huge: true };
            // SAFETY: whole pages of a chunk of the shelf's, which is registered and advised as this is, where nobody's memory is.
            if let Err(error) = unsafe { map_anew(&(address..address + bytes), shelf) } {
                return tracing::warn!(%error, "a place for displaced pages is not used again");
            }
        }
        self.slots(bytes, Purpose::Shelf).give_back(address);
    }

    /// Enters that a page's memory is at an address of a reservation.
    fn arrive(&mut self, id: Id, address: usize, bytes: usize) {
        self.at.insert(address, id);
        self.reservations.comes(address, bytes);
    }

    /// Memory left an address of a reservation, where no other is yet. `tabled`: there are page tables yet.
    fn left(&mut self, address: usize, bytes: usize, tabled: bool) {
        if tabled {
            let at = &self.at;
            // SAFETY: `at` has all memory that is in a reservation, and whatever comes to one arrives there.
            unsafe { self.reservations.left(address, bytes, |range| at.range(range).next().is_none()) };
        }
    }

    pub(super) fn replace(&mut self, old: Id, new: Id, address: usize) -> Result<bool, BackendError> {
        let shareable = self.shareable;
        let record = self.record(old)?;
        let (Some(slot), Place::Moved(there), true) = (&record.home, &record.place, shareable) else {
            return Ok(false);
        };
        let (at_home, is_there) = (slot.address, *there == address);
        if !is_there {
            return Ok(false);
        }
        self.take_memory(new)?;
        self.make_movable(new)?;
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
        record.awaited_at = None;
        let left = std::mem::replace(&mut record.place, Place::Moved(address));
        self.arrive(new, address, bytes);
        self.record(old)?.place = Place::Home(at_home);
        self.leave(new, &left, bytes, true);
        Ok(true)
    }

    /// Gives a page memory that can be moved, with its contents: in a slot, unless it has such.
    fn take_memory(&mut self, id: Id) -> Result<(), BackendError> {
        let shareable = self.shareable;
        let record = self.record(id)?;
        let bytes = record.bytes;
        if !matches!(record.place, Place::Nowhere | Place::Touched(_) | Place::Heap(_)) {
            return Ok(());
        }
        let address = self.take_slot(bytes)?;
        if let Err(error) = fill_slot(address, bytes, shareable) {
            self.free_slot(address, bytes);
            return Err(error);
        }
        let record = self.record(id)?;
        // SAFETY: the slot is this page's alone, has just been given memory, and overlaps no other place.
        unsafe { copy_from(&record.place, address, bytes) };
        let place = std::mem::replace(&mut record.place, Place::Home(address));
        record.home = Some(Arc::new(Slot { address }));
        let mut old = Record { place, ..Record::without_memory(bytes) };
        self.drop_memory(&mut old, &(0..0))
    }

    /// Gives a page what it takes to move its mapping.
    fn make_movable(&mut self, id: Id) -> Result<(), BackendError> {
        let record = self.record(id)?;
        let (bytes, has_home) = (record.bytes, record.home.is_some());
        if record.mappings.is_none() {
            let taken = Box::new(self.mappings.take("map", MAPPINGS_PER_PAGE)?);
            self.record(id)?.mappings = Some(taken);
        }
        if !has_home {
            let address = self.take_slot(bytes)?;
            self.record(id)?.home = Some(Arc::new(Slot { address }));
        }
        Ok(())
    }

    /// Enters that a page is mapped at an address in a demand-zero reservation. Says whether its memory is (or, at the first touch, will be) there.
    fn await_at(&mut self, id: Id, address: usize) -> Result<bool, BackendError> {
        let shared = |slot: &Arc<Slot>| Arc::strong_count(slot) > 1;
        if self.record(id)?.home.as_ref().is_some_and(shared) {
            return Err(BackendError::CannotShare { call: "map", offset_bytes: 0 });
        }
        self.displace(address)?;
        let record = self.record(id)?;
        if matches!(record.place, Place::Nowhere) {
            let bytes = record.bytes;
            record.place = Place::Touched(address);
            self.arrive(id, address, bytes);
            return Ok(true);
        }
        record.awaited_at = NonZeroUsize::new(address);
        Ok(false)
    }

    pub(super) fn follow(&mut self, id: Id, address: usize, keep: bool) -> Result<(), BackendError> {
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
        self.arrive(id, address, bytes);
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
            (Place::Filled(_), ..) => self.shelve(id, address, bytes),
            _ => Ok(()),
        }
    }

    /// Moves the OS pages that linger at an address to a shelf.
    fn shelve(&mut self, id: Id, address: usize, bytes: usize) -> Result<(), BackendError> {
        let userfault = required()?;
        let mappings = Arc::clone(&self.mappings);
        let shelf = self.slots(bytes, Purpose::Shelf).take(&mappings)?;
        let tabled = leaves_tables(address, bytes);
        // SAFETY: the shelf is nobody's yet, registered, and without memory; the page is mapped nowhere, so that nobody reads it.
        if let Err(error) = unsafe { userfault.move_pages(address, shelf, bytes) } {
            // A place where something is left by a failure that was not foreseen is not used again.
            if userfault.is_empty(shelf, bytes) {
                self.free_shelf(shelf, bytes, true);
            }
            return Err(error);
        }
        self.record(id)?.place = Place::Shelf(shelf);
        self.at.remove(&address);
        self.left(address, bytes, tabled);
        Ok(())
    }
}

/// Whether page tables stay where a page's memory is taken away: not where it is whole huge pages.
fn leaves_tables(address: usize, bytes: usize) -> bool {
    bytes < sys::HUGE_BYTES || !userfault().is_some_and(|userfault| userfault.is_huge(address, bytes))
}

fn not_in_memory() -> BackendError {
    BackendError::WrongOwner { call: "map", what: "the page has no memory" }
}

/// Takes memory for a slot, or fails and leaves it without any.
pub(super) fn fill_slot(address: usize, bytes: usize, shareable: bool) -> Result<(), BackendError> {
    // SAFETY: the slot is whole OS pages of a chunk of slots, taken by the caller.
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
        Place::Home(from)
        | Place::Filled(from)
        | Place::Shelf(from)
        | Place::Moved(from)
        | Place::Touched(from) => {
            // SAFETY: the page's memory lies at `from`, readable; the rest is the caller's promise.
            unsafe { sys::copy(*from, to, bytes) };
        }
        // SAFETY: as the caller promises.
        Place::Heap(contents) => unsafe { sys::bytes_mut(to, bytes) }.copy_from_slice(contents),
        Place::Nowhere => {}
    }
}
