//! Owns mappings that are left in place when a page is unmapped, so that the page may come back to that address without a call of the driver. Knows nothing of who wants which page where.
//!
//! ```text
//!   reservation A  [page 7]  [left: 7]  [left: 3]      one memory may be left at many addresses, and mapped at one;
//!   reservation B  [page 3]  [left: 7]                 an address that other memory is mapped at loses what was left there
//! ```
//!
//! The driver takes 40 to 130 us to move a page to another address, whatever its size; the bus fills 2 MiB in 41, 8 MiB in 160. Nobody reads at an address where nothing is mapped, so what it shows does not matter.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{Mapping, Physical};
use crate::backend::Access;
use crate::error::BackendError;

/// Pages of this size and larger are really unmapped: what moving them takes hides behind the copy that fills them, mostly (0.88 to 0.99 of plain copies).
const KEPT_BELOW_BYTES: u64 = 16 << 20;

/// Number of a reservation, and an offset in it.
pub(super) type Place = (u64, u64);

/// Physical memory with one owner, that may be left mapped where it was. Dropping it takes these mappings away, and gives the memory back.
#[derive(Debug)]
pub(super) struct Memory {
    physical: Arc<Physical>,
    number: u64,
    kept: Arc<Kept>,
}

impl Memory {
    pub(super) fn new(physical: Physical, kept: Arc<Kept>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self { physical: Arc::new(physical), number, kept }
    }

    /// Tells one memory from another, for good.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.physical.bytes()
    }

    pub(super) fn physical(&self) -> &Arc<Physical> {
        &self.physical
    }

    /// Gives it back now, with a report.
    ///
    /// # Errors
    /// [`BackendError::Driver`], [`BackendError::DeviceLost`].
    pub(super) fn release(self) -> Result<(), BackendError> {
        self.kept.forget_memory(self.number);
        let physical = Arc::clone(&self.physical);
        drop(self);
        // Nothing else holds it: it is mapped nowhere. If anything did, its end would give the memory back.
        Arc::try_unwrap(physical).map_or(Ok(()), Physical::release)
    }
}

impl Borrow<Physical> for Memory {
    fn borrow(&self) -> &Physical {
        &self.physical
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.kept.forget_memory(self.number);
    }
}

/// A mapping that was left in place.
#[derive(Debug)]
pub(super) struct Left {
    /// Of the memory.
    pub(super) number: u64,
    pub(super) mapping: Mapping<Arc<Physical>>,
    /// What the driver was told last.
    pub(super) granted: Access,
}

/// All such mappings of one backend, up to a number.
#[derive(Debug)]
pub(super) struct Kept {
    limit: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    at: HashMap<Place, (u64, Left)>,
    of_memory: HashMap<u64, HashSet<Place>>,
    /// By age, oldest first.
    order: BTreeMap<u64, Place>,
    next_age: u64,
}

impl Places {
    fn remove(&mut self, place: Place) -> Option<Left> {
        let (age, left) = self.at.remove(&place)?;
        self.order.remove(&age);
        if let Some(places) = self.of_memory.get_mut(&left.number) {
            places.remove(&place);
            if places.is_empty() {
                self.of_memory.remove(&left.number);
            }
        }
        Some(left)
    }
}

impl Kept {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, places: Mutex::default() })
    }

    /// Whether pages of this size are left where they are.
    pub(super) fn keeps(&self, page_bytes: u64) -> bool {
        self.limit > 0 && page_bytes < KEPT_BELOW_BYTES
    }

    /// How many mappings are left in place.
    pub(super) fn len(&self) -> usize {
        self.places().at.len()
    }

    /// Leaves a mapping where it is; the oldest one goes where that is one too many.
    pub(super) fn put(&self, place: Place, left: Left) {
        let mut guard = self.places();
        let places = &mut *guard;
        places.next_age += 1;
        let age = places.next_age;
        places.of_memory.entry(left.number).or_default().insert(place);
        places.order.insert(age, place);
        let replaced = places.at.insert(place, (age, left));
        let oldest = if places.at.len() > self.limit { places.order.first_key_value() } else { None };
        let oldest = oldest.map(|(_, &place)| place);
        let gone = oldest.and_then(|place| places.remove(place));
        // Dropping them calls the driver.
        drop(guard);
        drop((replaced, gone));
    }

    /// Takes the mapping that was left at a place.
    pub(super) fn take(&self, place: Place) -> Option<Left> {
        self.places().remove(place)
    }

    /// Number of the memory that was left at a place.
    pub(super) fn shows(&self, place: Place) -> Option<u64> {
        self.places().at.get(&place).map(|(_, left)| left.number)
    }

    /// Unmaps what was left of a memory.
    fn forget_memory(&self, number: u64) {
        let mut guard = self.places();
        let places = guard.of_memory.get(&number).cloned().unwrap_or_default();
        let gone: Vec<_> = places.into_iter().filter_map(|place| guard.remove(place)).collect();
        drop(guard);
        drop(gone);
    }

    /// Unmaps what was left in a reservation.
    pub(super) fn forget_reservation(&self, number: u64) {
        let mut guard = self.places();
        let places: Vec<_> = guard.at.keys().filter(|place| place.0 == number).copied().collect();
        let gone: Vec<_> = places.into_iter().filter_map(|place| guard.remove(place)).collect();
        drop(guard);
        drop(gone);
    }

    /// Nothing panics while the lock is held, and every step leaves the state true.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
