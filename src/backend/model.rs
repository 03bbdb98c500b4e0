//! Owns [`ModelBackend`]: pages on the heap, read through the trait only, with bookkeeping that refuses what a driver would refuse. For tests of everything
//! above the backends, with page sizes, a memory limit and a completion of uploads that the test sets.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use super::books::{Books, check_create, check_reserve};
use super::{Access, Backend, BackendCaps, Refused, ReserveSpec, Staging};
use crate::error::BackendError;
use crate::layout::MAX_RESERVED_BYTES;

/// What fresh staging memory holds, so that a test sees what nobody filled.
const UNFILLED: u8 = 0xA5;

/// What may be chosen of a [`ModelBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// The smallest mappable size: a power of two. Default 4 KiB. (Anything else is rounded up to one.)
    pub granularity_bytes: u64,
    /// The most physical memory that its pages may take together. Default: no limit.
    pub limit_bytes: u64,
    /// Whether what is submitted becomes readable later: when [`ModelBackend::complete`] or [`Backend::wait`] says so, or after `polls_until_done`.
    /// Default `false`.
    pub asynchronous: bool,
    /// The most bytes of pages that a request maps and fills at a time. Default: all.
    pub batch_bytes: u64,
    /// How often a ticket answers "not yet" before a poll completes it. Default `None`: polling alone completes nothing.
    pub polls_until_done: Option<u32>,
    /// Whether it remembers which page was mapped at an offset last ([`Backend::shows`]), and counts those that come back. Default `false`.
    pub remembers: bool,
    /// Whether memory can be mapped at several places at once ([`Backend::share`]). Default `true`.
    pub shares: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            granularity_bytes: 4096,
            limit_bytes: u64::MAX,
            asynchronous: false,
            batch_bytes: u64::MAX,
            polls_until_done: None,
            remembers: false,
            shares: true,
        }
    }
}

/// A backend on heap memory. Clones share everything, so that a test keeps one while a pool owns the other.
///
/// **Cost**: only pages take memory; a reservation of 2^46 bytes costs nothing.
#[derive(Clone, Debug)]
pub struct ModelBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ModelConfig,
    /// Bytes of all pages. Pages hold on to this alone: uploads hold on to pages, and must not keep themselves alive.
    page_bytes: Arc<AtomicU64>,
    /// Uploads on their way, oldest first, as on a stream.
    uploads: Mutex<VecDeque<Upload>>,
    last_page: AtomicU64,
    /// Pages that were mapped where they had been last.
    came_back: AtomicU64,
}

#[derive(Debug)]
struct Upload {
    staging: ModelStaging,
    done: Arc<AtomicBool>,
}

/// A range of numbers. Dropping it drops what is mapped there.
#[derive(Debug)]
pub struct ModelReservation {
    shared: Arc<Shared>,
    books: Arc<Mutex<Books<ModelPage>>>,
    /// Which page was mapped where, last.
    shown: Mutex<HashMap<u64, u64>>,
}

/// A page on the heap. Its contents are what it was last given, from whatever address.
#[derive(Debug)]
pub struct ModelPage {
    memory: Arc<Memory>,
}

/// What handles to one memory share.
#[derive(Debug)]
struct Memory {
    all_bytes: Arc<AtomicU64>,
    length: u64,
    bytes: Mutex<Vec<u8>>,
    number: u64,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.length, Ordering::Relaxed);
    }
}

impl ModelPage {
    fn is_of(&self, shared: &Shared) -> bool {
        Arc::ptr_eq(&self.memory.all_bytes, &shared.page_bytes)
    }
}

/// A buffer that submitting copies from.
#[derive(Debug)]
pub struct ModelStaging {
    books: Arc<Mutex<Books<ModelPage>>>,
    range: Range<u64>,
    buffer: Vec<u8>,
}

impl Staging for ModelStaging {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl ModelStaging {
    /// Copies the buffer to where it belongs. The page is there: it cannot be unmapped while this range is in use.
    fn arrive(&self) {
        if let Some((page, at)) = lock(&self.books).page_and_position(self.range.start)
            && let Some(target) = lock(&page.memory.bytes).get_mut(at..at + self.buffer.len())
        {
            target.copy_from_slice(&self.buffer);
        }
    }
}

impl Drop for ModelStaging {
    fn drop(&mut self) {
        lock(&self.books).end_use(&self.range, true);
    }
}

/// Stands for an upload of a [`ModelBackend`].
#[derive(Debug)]
pub struct ModelTicket {
    done: Arc<AtomicBool>,
    polls_left: Mutex<Option<u32>>,
}

/// Nothing panics under these locks, and what they guard is true after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for ModelBackend {
    fn default() -> Self {
        Self::new(ModelConfig::default())
    }
}

impl ModelBackend {
    /// With these choices.
    #[must_use]
    pub fn new(config: ModelConfig) -> Self {
        let granularity_bytes = config.granularity_bytes.checked_next_power_of_two().unwrap_or(1 << 63);
        let config = ModelConfig { granularity_bytes, ..config };
        let shared = Shared {
            config,
            page_bytes: Arc::default(),
            uploads: Mutex::default(),
            last_page: AtomicU64::new(0),
            came_back: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Bytes of all pages that exist, mapped or not.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.shared.page_bytes.load(Ordering::Relaxed)
    }

    /// How many pages were mapped where they had been last, if it remembers that.
    #[must_use]
    pub fn came_back(&self) -> u64 {
        self.shared.came_back.load(Ordering::Relaxed)
    }

    /// Uploads that are on their way.
    #[must_use]
    pub fn uploads_pending(&self) -> usize {
        lock(&self.shared.uploads).len()
    }

    /// Completes the oldest `count` uploads, or as many as there are, and says how many.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn complete(&self, count: usize) -> usize {
        // Taken out one by one: dropping the staging memory takes another lock.
        (0..count)
            .take_while(|_| {
                let oldest = lock(&self.shared.uploads).pop_front();
                oldest.map(finish).is_some()
            })
            .count()
    }

    /// Completes uploads, oldest first, up to and with the one that this flag is of.
    fn complete_until(&self, done: &AtomicBool) {
        while !done.load(Ordering::Acquire) && self.complete(1) == 1 {}
    }

    fn check_owner(&self, call: &'static str, reservation: &ModelReservation) -> Result<(), BackendError> {
        if Arc::ptr_eq(&reservation.shared, &self.shared) {
            Ok(())
        } else {
            Err(BackendError::WrongOwner { call, what: "the reservation is another backend's" })
        }
    }
}

fn finish(upload: Upload) {
    upload.staging.arrive();
    drop(upload.staging);
    upload.done.store(true, Ordering::Release);
}

fn buffer(call: &'static str, bytes: u64, value: u8) -> Result<Vec<u8>, BackendError> {
    let out_of_memory = || BackendError::OutOfMemory { call, bytes };
    let length = usize::try_from(bytes).map_err(|_| out_of_memory())?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(length).map_err(|_| out_of_memory())?;
    buffer.resize(length, value);
    Ok(buffer)
}

impl Backend for ModelBackend {
    type Reservation = ModelReservation;
    type Page = ModelPage;
    type Staging = ModelStaging;
    type Ticket = ModelTicket;

    fn caps(&self) -> BackendCaps {
        let config = &self.shared.config;
        BackendCaps {
            name: "model",
            granularity_bytes: config.granularity_bytes,
            default_tile_bytes: 64 << 10,
            default_page_bytes: 0,
            max_reserved_bytes: MAX_RESERVED_BYTES,
            asynchronous: config.asynchronous,
            batch_bytes: config.batch_bytes,
            shares: config.shares,
        }
    }

    fn reserve(&self, spec: ReserveSpec) -> Result<ModelReservation, BackendError> {
        check_reserve(&self.caps(), spec)?;
        Ok(ModelReservation {
            shared: Arc::clone(&self.shared),
            books: Arc::new(Mutex::new(Books::new(spec))),
            shown: Mutex::default(),
        })
    }

    fn release(&self, reservation: ModelReservation) -> Result<(), BackendError> {
        self.check_owner("release", &reservation)?;
        if lock(&reservation.books).is_empty() {
            return Ok(());
        }
        Err(BackendError::WrongOwner { call: "release", what: "a page is still mapped in the reservation" })
    }

    fn base_address(&self, _reservation: &ModelReservation) -> u64 {
        0
    }

    fn create(&self, bytes: u64) -> Result<ModelPage, BackendError> {
        check_create(&self.caps(), bytes)?;
        let limit = self.shared.config.limit_bytes;
        self.shared
            .page_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .map_err(|_| BackendError::OutOfMemory { call: "create", bytes })?;
        match buffer("create", bytes, 0) {
            Ok(memory) => {
                let number = self.shared.last_page.fetch_add(1, Ordering::Relaxed) + 1;
                let (all_bytes, contents) = (Arc::clone(&self.shared.page_bytes), Mutex::new(memory));
                let memory = Memory { all_bytes, length: bytes, bytes: contents, number };
                Ok(ModelPage { memory: Arc::new(memory) })
            }
            Err(error) => {
                self.shared.page_bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn destroy(&self, page: ModelPage) -> Result<(), BackendError> {
        if !page.is_of(&self.shared) {
            return Err(BackendError::WrongOwner { call: "destroy", what: "the page is another backend's" });
        }
        drop(page);
        Ok(())
    }

    fn map(
        &self,
        reservation: &ModelReservation,
        offset_bytes: u64,
        page: ModelPage,
    ) -> Result<(), Refused<ModelPage>> {
        let mut books = lock(&reservation.books);
        let checked = self.check_owner("map", reservation).and_then(|()| {
            if !page.is_of(&self.shared) {
                return Err(BackendError::WrongOwner { call: "map", what: "the page is another backend's" });
            }
            books.check_map(offset_bytes, page.memory.length)
        });
        match checked {
            Ok(()) => {
                if self.shared.config.remembers
                    && lock(&reservation.shown).insert(offset_bytes, page.memory.number)
                        == Some(page.memory.number)
                {
                    self.shared.came_back.fetch_add(1, Ordering::Relaxed);
                }
                books.map(offset_bytes, page);
                Ok(())
            }
            Err(error) => Err(Refused { error, page }),
        }
    }

    fn set_access(
        &self,
        reservation: &ModelReservation,
        range: Range<u64>,
        access: Access,
    ) -> Result<(), BackendError> {
        self.check_owner("set_access", reservation)?;
        lock(&reservation.books).set_access(&range, access).map(|_| ())
    }

    fn unmap(&self, reservation: &ModelReservation, offset_bytes: u64) -> Result<ModelPage, BackendError> {
        self.check_owner("unmap", reservation)?;
        lock(&reservation.books).unmap(offset_bytes)
    }

    fn share(&self, reservation: &ModelReservation, offset_bytes: u64) -> Result<ModelPage, BackendError> {
        let call = "share";
        self.check_owner(call, reservation)?;
        if !self.shared.config.shares {
            return Err(BackendError::CannotShare { call, offset_bytes });
        }
        let mut books = lock(&reservation.books);
        books.check_still(call, offset_bytes)?;
        let memory = books.page_at(offset_bytes).map(|page| Arc::clone(&page.memory));
        Ok(ModelPage { memory: memory.ok_or(BackendError::NotMapped { call, offset_bytes })? })
    }

    fn replace(
        &self,
        reservation: &ModelReservation,
        offset_bytes: u64,
        page: ModelPage,
    ) -> Result<ModelPage, Refused<ModelPage>> {
        let call = "replace";
        let mut books = lock(&reservation.books);
        let checked = self.check_owner(call, reservation).and_then(|()| {
            if !page.is_of(&self.shared) {
                return Err(BackendError::WrongOwner { call, what: "the page is another backend's" });
            }
            if !self.shared.config.shares {
                return Err(BackendError::CannotShare { call, offset_bytes });
            }
            books.check_replace(offset_bytes, page.memory.length)
        });
        let there = match (checked, books.page_at(offset_bytes)) {
            (Ok(()), Some(there)) => there,
            (checked, _) => {
                let gone = BackendError::NotMapped { call, offset_bytes };
                return Err(Refused { error: checked.err().unwrap_or(gone), page });
            }
        };
        if !Arc::ptr_eq(&there.memory, &page.memory) {
            lock(&page.memory.bytes).copy_from_slice(&lock(&there.memory.bytes));
        }
        if self.shared.config.remembers {
            lock(&reservation.shown).insert(offset_bytes, page.memory.number);
        }
        Ok(std::mem::replace(there, page))
    }

    fn shows(&self, reservation: &ModelReservation, offset_bytes: u64) -> Option<u64> {
        self.shared.config.remembers.then(|| lock(&reservation.shown).get(&offset_bytes).copied()).flatten()
    }

    fn page_number(&self, page: &ModelPage) -> Option<u64> {
        self.shared.config.remembers.then_some(page.memory.number)
    }

    fn stage(&self, reservation: &ModelReservation, range: Range<u64>) -> Result<ModelStaging, BackendError> {
        self.check_owner("stage", reservation)?;
        lock(&reservation.books).begin_write(&range)?;
        // From here on dropping it ends the use.
        let books = Arc::clone(&reservation.books);
        let mut staging = ModelStaging { books, range, buffer: Vec::new() };
        staging.buffer = buffer("stage", staging.range.end - staging.range.start, UNFILLED)?;
        Ok(staging)
    }

    fn submit(
        &self,
        reservation: &ModelReservation,
        staging: ModelStaging,
    ) -> Result<ModelTicket, BackendError> {
        self.check_owner("submit", reservation)?;
        if !Arc::ptr_eq(&staging.books, &reservation.books) {
            let what = "the staging memory is of another reservation";
            return Err(BackendError::WrongOwner { call: "submit", what });
        }
        let done = Arc::new(AtomicBool::new(false));
        let upload = Upload { staging, done: Arc::clone(&done) };
        if self.shared.config.asynchronous {
            lock(&self.shared.uploads).push_back(upload);
        } else {
            finish(upload);
        }
        Ok(ModelTicket { done, polls_left: Mutex::new(self.shared.config.polls_until_done) })
    }

    fn poll(&self, ticket: &ModelTicket) -> Result<bool, BackendError> {
        let due = match &mut *lock(&ticket.polls_left) {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        };
        if due {
            self.complete_until(&ticket.done);
        }
        Ok(ticket.done.load(Ordering::Acquire))
    }

    fn wait(&self, ticket: ModelTicket) -> Result<(), BackendError> {
        self.complete_until(&ticket.done);
        if ticket.done.load(Ordering::Acquire) {
            return Ok(());
        }
        // Not in the queue and not done: another thread is completing it right now, or it is another backend's.
        for _ in 0..1_000_000 {
            if ticket.done.load(Ordering::Acquire) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(BackendError::WrongOwner { call: "wait", what: "the ticket is another backend's" })
    }

    fn read(
        &self,
        reservation: &ModelReservation,
        offset_bytes: u64,
        out: &mut [u8],
    ) -> Result<(), BackendError> {
        self.check_owner("read", reservation)?;
        let range = offset_bytes..offset_bytes.saturating_add(out.len() as u64);
        let mut books = lock(&reservation.books);
        books.begin_read(&range)?;
        let mut at = offset_bytes;
        let mut rest = out;
        while !rest.is_empty() {
            let Some((page, position)) = books.page_and_position(at) else { break };
            let bytes = lock(&page.memory.bytes);
            let from = bytes.get(position..).unwrap_or_default();
            let count = from.len().min(rest.len());
            if count == 0 {
                break;
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&from[..count]);
            rest = later;
            at += count as u64;
        }
        books.end_use(&range, false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(config: ModelConfig) -> (ModelBackend, ModelReservation) {
        let model = ModelBackend::new(config);
        let spec = ReserveSpec { bytes: 1 << 20, page_bytes: 4096, expected_pages: 4 };
        let reservation = model.reserve(spec).unwrap();
        model.map(&reservation, 0, model.create(4096).unwrap()).unwrap();
        model.set_access(&reservation, 0..4096, Access::ReadWrite).unwrap();
        (model, reservation)
    }

    fn submit(
        model: &ModelBackend,
        reservation: &ModelReservation,
        range: Range<u64>,
        value: u8,
    ) -> ModelTicket {
        let mut staging = model.stage(reservation, range).unwrap();
        staging.bytes_mut().fill(value);
        model.submit(reservation, staging).unwrap()
    }

    #[test]
    fn uploads_become_readable_when_they_complete_and_in_order() {
        let (model, r) = mapped(ModelConfig { asynchronous: true, ..ModelConfig::default() });
        let first = submit(&model, &r, 0..16, 1);
        let second = submit(&model, &r, 16..32, 2);
        let mut out = [0; 16];
        assert!(!model.poll(&first).unwrap());
        assert!(matches!(model.read(&r, 0, &mut out), Err(BackendError::Busy { .. })));
        assert!(matches!(model.unmap(&r, 0), Err(BackendError::Busy { .. })));
        assert_eq!(model.complete(1), 1);
        assert!(model.poll(&first).unwrap() && !model.poll(&second).unwrap());
        model.read(&r, 0, &mut out).unwrap();
        assert_eq!(out, [1; 16]);
        model.wait(second).unwrap();
        model.read(&r, 16, &mut out).unwrap();
        assert_eq!(out, [2; 16]);
        assert_eq!((model.complete(9), model.uploads_pending()), (0, 0));
    }

    #[test]
    fn uploads_complete_after_so_many_polls() {
        let config = ModelConfig { asynchronous: true, polls_until_done: Some(2), ..ModelConfig::default() };
        let (model, r) = mapped(config);
        let ticket = submit(&model, &r, 0..16, 1);
        let polls: Vec<bool> = (0..4).map(|_| model.poll(&ticket).unwrap()).collect();
        assert_eq!(polls, [false, false, true, true]);
    }

    #[test]
    fn the_limit_counts_pages_that_exist_and_nothing_else() {
        let model = ModelBackend::new(ModelConfig { limit_bytes: 8192, ..ModelConfig::default() });
        let (a, _b) = (model.create(4096).unwrap(), model.create(4096).unwrap());
        assert!(matches!(model.create(4096), Err(BackendError::OutOfMemory { call: "create", bytes: 4096 })));
        model.destroy(a).unwrap();
        assert_eq!(model.page_bytes(), 4096);
        let spec = ReserveSpec { bytes: 1 << 46, page_bytes: 4096, expected_pages: 1 };
        let reservation = model.reserve(spec).unwrap();
        model.map(&reservation, (1 << 46) - 4096, model.create(4096).unwrap()).unwrap();
        assert_eq!(model.page_bytes(), 8192);
        drop(reservation);
        assert_eq!(model.page_bytes(), 4096, "a reservation takes its pages along");
    }

    #[test]
    fn what_is_dropped_unsubmitted_does_not_arrive() {
        let (model, r) = mapped(ModelConfig::default());
        submit(&model, &r, 0..16, 7);
        model.stage(&r, 0..16).unwrap().bytes_mut().fill(8);
        let mut out = [0; 16];
        model.read(&r, 0, &mut out).unwrap();
        assert_eq!(out, [7; 16]);
    }
}
