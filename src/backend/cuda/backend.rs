//! Owns [`CudaBackend`]: the [`Backend`] trait over a device. Checks who owns what; the work is done by what it is made of.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::copies::Copies;
use super::device::Device;
use super::flight::{Ready, Source};
use super::kept::{Kept, Memory};
use super::memory::{Granularity, Physical, Reserved};
use super::one_value::OneValue;
use super::pattern::Pattern;
use super::reservation::{CudaPage, CudaReservation, CudaStaging, CudaTicket, Inner, Reading};
use super::staging::Ring;
use super::stream::Stream;
use crate::backend::books::{check_create, check_reserve};
use crate::backend::pieces::{self, check_values, fill_staged};
use crate::backend::{Access, Backend, BackendCaps, Refused, ReserveSpec};
use crate::error::BackendError;
use crate::layout::MAX_RESERVED_BYTES;
use crate::prepared::Prepared;

/// How long a thread that lacks staging memory looks for some before it sleeps: what is on its way takes a fifth of a millisecond, waking up a quarter of that.
const STAYS_AWAKE: Duration = Duration::from_micros(500);

/// What may be chosen of a [`CudaBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaConfig {
    /// The most page-locked host memory in which tiles are prepared, in bytes; taken as it is needed. What does not fit is prepared in ordinary memory, which is copied
    /// at a tenth of the speed. Default 256 MiB.
    pub staging_bytes: usize,
    /// How much of that is used while copies from it are on their way: what was copied last is still in the processor's cache, and is filled again faster than memory that is not. More is
    /// taken only where all of it is being filled. Default 64 MiB.
    pub staging_in_cache_bytes: usize,
    /// Streams that copies to the device go by, in turn. Default 2: while one copy ends the next one runs.
    pub copy_streams: usize,
    /// The most bytes of pages that a request maps and fills at a time, while earlier batches are copied; its first batches are smaller. Default 64 MiB.
    pub batch_bytes: u64,
    /// What an array's page takes unless told otherwise, in bytes: mapping one costs the same whatever its size. Default 8 MiB.
    pub default_page_bytes: u64,
    /// The most that an array's tile takes unless told otherwise, in bytes. Default 1 MiB.
    pub default_tile_bytes: u64,
    /// How many mappings of pages of less than 16 MiB are left in place when their pages are evicted: a page that comes back to memory that it had before is mapped without a call of the
    /// driver, and memory that a page had before is preferred unless it was used too recently. A kernel that reads a tile that is not resident may find another one's voxels there
    /// instead of ending in an error. Where more would be left, the oldest are unmapped. Dropping an array or shrinking the budget takes some 25 to 50 us for each of them. 0: none, and eviction
    /// is least recently used throughout. Default 131 072, which is 256 GiB of 2 MiB pages or 1 TiB of the default ones.
    pub kept_mappings: usize,
    /// Whether a thread that waits for a copy, or for staging memory, sleeps (and wakes up some 20 us late), or else spins; for staging memory, half a millisecond at most. Who sends copies while access is given to memory spins in any case, for one copy's time at most. Default `false`.
    pub waits_asleep: bool,
}

impl Default for CudaConfig {
    fn default() -> Self {
        Self {
            staging_bytes: 256 << 20,
            staging_in_cache_bytes: 64 << 20,
            copy_streams: 2,
            batch_bytes: 64 << 20,
            default_page_bytes: 8 << 20,
            default_tile_bytes: 1 << 20,
            kept_mappings: 128 << 10,
            waits_asleep: false,
        }
    }
}

/// Memory of a CUDA device, at addresses of that device.
///
/// **Cost**, as measured on an H200: making a page 7 to 16 us, mapping it and setting access 23 to 40 us, unmapping it 14 to 25 us, whatever its size; a copy 3 us for the caller, and
/// then the time that the bus takes, while the caller does something else. Loading, evicting and reading wait neither for the device as a whole nor for kernels that have nothing to do
/// with the memory concerned; dropping an array that kernels have seen may.
#[derive(Debug)]
pub struct CudaBackend {
    shared: Arc<Shared>,
}

/// What everything that the backend hands out needs.
#[derive(Debug)]
pub(super) struct Shared {
    /// Tells backends apart.
    number: u64,
    config: CudaConfig,
    granularity: Granularity,
    /// First: when it goes it waits for what reads from the ring.
    pub(super) copies: Copies,
    ring: Arc<Ring>,
    kept: Arc<Kept>,
    /// Held while a thread that lacks staging memory finds out what is done.
    turn: Mutex<()>,
    /// Streams for reading that nobody uses.
    readers: Mutex<Vec<Stream>>,
    one_value: OneValue,
    device: Device,
}

impl CudaBackend {
    /// On the device of that number, counted from 0, with the defaults.
    ///
    /// # Errors
    /// As [`Device::open`], and [`BackendError::OutOfMemory`].
    pub fn open(ordinal: i32) -> Result<Self, BackendError> {
        Self::with_config(ordinal, CudaConfig::default())
    }

    /// With other choices.
    ///
    /// # Errors
    /// As [`CudaBackend::open`].
    pub fn with_config(ordinal: i32, config: CudaConfig) -> Result<Self, BackendError> {
        Self::on(Device::open(ordinal)?, config)
    }

    /// On a device that is open already, in its context.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn on(device: Device, config: CudaConfig) -> Result<Self, BackendError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let shared = Shared {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            config,
            granularity: Granularity::of(&device)?,
            copies: Copies::new(&device, config.copy_streams, config.waits_asleep)?,
            ring: Ring::new(&device, config.staging_bytes),
            kept: Kept::new(config.kept_mappings),
            turn: Mutex::default(),
            readers: Mutex::default(),
            one_value: OneValue::default(),
            device,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// The streams that copies to the device go by, for those who want to order something after them.
    pub fn copy_streams(&self) -> impl Iterator<Item = &Stream> {
        self.shared.copies.streams()
    }

    /// Groups of copies that were asked for, and that nobody has found to be done yet.
    #[must_use]
    pub fn copies_in_flight(&self) -> usize {
        self.shared.copies.in_flight()
    }

    /// Page-locked memory that is held for staging, in bytes.
    #[must_use]
    pub fn staging_bytes(&self) -> usize {
        self.shared.ring.bytes()
    }

    /// Mappings that are left in place although their pages were unmapped: see [`CudaConfig::kept_mappings`].
    #[must_use]
    pub fn kept_mappings(&self) -> usize {
        self.shared.kept.len()
    }

    fn check_owner(&self, call: &'static str, reservation: &CudaReservation) -> Result<(), BackendError> {
        if Arc::ptr_eq(&reservation.shared, &self.shared) {
            Ok(())
        } else {
            Err(BackendError::WrongOwner { call, what: "the reservation is another backend's" })
        }
    }

    fn check_number(&self, call: &'static str, number: u64, what: &'static str) -> Result<(), BackendError> {
        if number == self.shared.number { Ok(()) } else { Err(BackendError::WrongOwner { call, what }) }
    }
}

impl Shared {
    /// Host memory to prepare so many bytes in.
    fn buffer(&self, bytes: u64) -> Result<Source, BackendError> {
        let out_of_memory = || BackendError::OutOfMemory { call: "stage", bytes };
        let length = usize::try_from(bytes).map_err(|_| out_of_memory())?;
        let in_cache = self.config.staging_in_cache_bytes;
        loop {
            let seen = self.ring.given_back();
            if let Some(piece) = self.ring.take(length, in_cache) {
                return Ok(Source::Ring(piece));
            }
            let Some(_turn) = self.turn(seen) else { continue };
            // What is done gives its piece back; or else the oldest one will. If none is on its way, all pieces are being filled, perhaps by threads that wait for this one:
            // waiting for them might never end.
            self.copies.reap_begun()?;
            if let Some(piece) = self.ring.take(length, in_cache) {
                return Ok(Source::Ring(piece));
            }
            if !self.copies.wait_for_piece()? {
                break;
            }
        }
        if let Some(piece) = self.ring.take(length, usize::MAX) {
            return Ok(Source::Ring(piece));
        }
        let mut heap = Vec::new();
        heap.try_reserve_exact(length).map_err(|_| out_of_memory())?;
        heap.resize(length, 0);
        Ok(Source::Heap(heap.into_boxed_slice()))
    }

    /// The right to ask the driver which copies are done, one thread's at a time; or nothing, where pieces have come back since `seen`.
    fn turn(&self, seen: u64) -> Option<MutexGuard<'_, ()>> {
        // Pieces come back several at a time. Threads that sleep until then would be woken one by one, which takes longer than the bus takes for what they bring.
        let until = (!self.config.waits_asleep).then(|| Instant::now() + STAYS_AWAKE);
        while until.is_some_and(|until| Instant::now() < until) {
            match self.turn.try_lock() {
                Ok(turn) => return Some(turn),
                Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
                Err(TryLockError::WouldBlock) if self.ring.given_back() != seen => return None,
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        Some(self.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does what may fail because a range is in use; and if it is, once more after finding out which copies are done, and waiting for those that nobody else will ask for.
    fn unless_busy<T>(
        &self,
        inner: &Inner,
        call: impl Fn() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        match call() {
            Err(BackendError::Busy { .. }) => {
                self.copies.reap_all()?;
                self.copies.settle(inner.number, false);
                call()
            }
            outcome => outcome,
        }
    }

    /// Copies out, on a stream that nobody else uses meanwhile.
    fn copy_out(&self, pieces: &[Range<u64>], inner: &Inner, out: &mut [u8]) -> Result<(), BackendError> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let free = readers().pop();
        let stream = free.map_or_else(|| Stream::new(&self.device), Ok)?;
        let mut rest = out;
        // Page by page: the driver promises nothing for copies across mappings.
        for piece in pieces {
            let length = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            stream.copy_out(inner.reserved.base() + piece.start, now)?;
            rest = later;
        }
        readers().push(stream);
        Ok(())
    }
}

impl Backend for CudaBackend {
    type Reservation = CudaReservation;
    type Page = CudaPage;
    type Staging = CudaStaging;
    type Ticket = CudaTicket;

    fn caps(&self) -> BackendCaps {
        let Shared { config, granularity, .. } = &*self.shared;
        BackendCaps {
            name: "cuda",
            granularity_bytes: granularity.minimum_bytes,
            default_tile_bytes: config.default_tile_bytes,
            default_page_bytes: config.default_page_bytes,
            max_reserved_bytes: MAX_RESERVED_BYTES,
            asynchronous: true,
            batch_bytes: config.batch_bytes,
            shares: false,
        }
    }

    fn reserve(&self, spec: ReserveSpec) -> Result<CudaReservation, BackendError> {
        check_reserve(&self.caps(), spec)?;
        let reserved = Reserved::new(&self.shared.device, spec.bytes, spec.page_bytes)?;
        let inner = Inner::new(reserved, spec, Arc::clone(&self.shared.kept));
        Ok(CudaReservation { inner, shared: Arc::clone(&self.shared) })
    }

    fn release(&self, reservation: CudaReservation) -> Result<(), BackendError> {
        self.check_owner("release", &reservation)?;
        if reservation.inner.books().is_empty() {
            return Ok(());
        }
        Err(BackendError::WrongOwner { call: "release", what: "a page is still mapped in the reservation" })
    }

    fn base_address(&self, reservation: &CudaReservation) -> u64 {
        reservation.inner.reserved.base()
    }

    fn create(&self, bytes: u64) -> Result<CudaPage, BackendError> {
        check_create(&self.caps(), bytes)?;
        let physical = Physical::new(&self.shared.device, bytes)?;
        let memory = Memory::new(physical, Arc::clone(&self.shared.kept));
        Ok(CudaPage { memory, owner: self.shared.number })
    }

    fn destroy(&self, page: CudaPage) -> Result<(), BackendError> {
        self.check_number("destroy", page.owner, "the page is another backend's")?;
        page.memory.release()
    }

    fn map(
        &self,
        reservation: &CudaReservation,
        offset_bytes: u64,
        page: CudaPage,
    ) -> Result<(), Refused<CudaPage>> {
        let checked = self
            .check_owner("map", reservation)
            .and_then(|()| self.check_number("map", page.owner, "the page is another backend's"));
        if let Err(error) = checked {
            return Err(Refused { error, page });
        }
        let CudaPage { memory, owner } = page;
        reservation
            .inner
            .map(offset_bytes, memory)
            .map_err(|(error, memory)| Refused { error, page: CudaPage { memory, owner } })
    }

    fn set_access(
        &self,
        reservation: &CudaReservation,
        range: Range<u64>,
        access: Access,
    ) -> Result<(), BackendError> {
        self.check_owner("set_access", reservation)?;
        let _giving = self.shared.copies.giving_access();
        self.shared.unless_busy(&reservation.inner, || reservation.inner.set_access(&range, access))
    }

    fn unmap(&self, reservation: &CudaReservation, offset_bytes: u64) -> Result<CudaPage, BackendError> {
        self.check_owner("unmap", reservation)?;
        let memory = self.shared.unless_busy(&reservation.inner, || reservation.inner.unmap(offset_bytes))?;
        Ok(CudaPage { memory, owner: self.shared.number })
    }

    fn shows(&self, reservation: &CudaReservation, offset_bytes: u64) -> Option<u64> {
        reservation.inner.shows(offset_bytes)
    }

    fn page_number(&self, page: &CudaPage) -> Option<u64> {
        Some(page.memory.number())
    }

    fn stage(&self, reservation: &CudaReservation, range: Range<u64>) -> Result<CudaStaging, BackendError> {
        self.check_owner("stage", reservation)?;
        let writing =
            self.shared.unless_busy(&reservation.inner, || reservation.inner.begin_write(range.clone()))?;
        let source = self.shared.buffer(writing.bytes())?;
        Ok(CudaStaging { writing, source })
    }

    fn submit(
        &self,
        reservation: &CudaReservation,
        staging: CudaStaging,
    ) -> Result<CudaTicket, BackendError> {
        self.check_owner("submit", reservation)?;
        let CudaStaging { writing, source } = staging;
        if !writing.is_in(&reservation.inner) {
            let what = "the staging memory is of another reservation";
            return Err(BackendError::WrongOwner { call: "submit", what });
        }
        let flight = self.shared.copies.add(writing, source)?;
        Ok(CudaTicket { flight, owner: self.shared.number })
    }

    fn submit_prepared(
        &self,
        reservation: &CudaReservation,
        range: Range<u64>,
        bytes: Arc<dyn Prepared>,
    ) -> Result<CudaTicket, BackendError> {
        let (call, offset_bytes) = ("submit_prepared", range.start);
        self.check_owner(call, reservation)?;
        let ready = Ready::new(bytes);
        let length = ready.bytes().len() as u64;
        if length != range.end.saturating_sub(range.start) {
            return Err(BackendError::CutsMapping { call, offset_bytes, bytes: length });
        }
        let writing =
            self.shared.unless_busy(&reservation.inner, || reservation.inner.begin_write(range.clone()))?;
        let source = if self.shared.device.is_pinned(ready.bytes())? {
            Source::Ready(ready)
        } else {
            let mut source = self.shared.buffer(length)?;
            source.copy_from(ready.bytes());
            source
        };
        let flight = self.shared.copies.add(writing, source)?;
        Ok(CudaTicket { flight, owner: self.shared.number })
    }

    fn fill(
        &self,
        reservation: &CudaReservation,
        range: Range<u64>,
        value: &[u8],
    ) -> Result<CudaTicket, BackendError> {
        self.check_owner("fill", reservation)?;
        check_values("fill", &range, value.len() as u64)?;
        let Some(pattern) = Pattern::of(value) else { return fill_staged(self, reservation, range, value) };
        let writing =
            self.shared.unless_busy(&reservation.inner, || reservation.inner.begin_write(range.clone()))?;
        let flight = self.shared.copies.add(writing, Source::Value(pattern))?;
        Ok(CudaTicket { flight, owner: self.shared.number })
    }

    fn one_values(
        &self,
        reservation: &CudaReservation,
        offsets_bytes: &[u64],
        bytes: u64,
        value_bytes: u64,
    ) -> Result<Vec<Option<Box<[u8]>>>, BackendError> {
        self.check_owner("one_values", reservation)?;
        if !OneValue::takes(bytes, value_bytes) {
            return pieces::one_values(self, reservation, offsets_bytes, bytes, value_bytes);
        }
        let inner = &reservation.inner;
        let pieces: Vec<_> = offsets_bytes.iter().map(|&at| at..at.saturating_add(bytes)).collect();
        let mut held = Reading { inner, ranges: Vec::with_capacity(pieces.len()) };
        for piece in pieces {
            check_values("one_values", &piece, value_bytes)?;
            self.shared.unless_busy(inner, || inner.books().begin_read(&piece))?;
            held.ranges.push(piece);
        }
        let addresses: Vec<_> = offsets_bytes.iter().map(|at| inner.reserved.base() + at).collect();
        self.shared.one_value.look(&self.shared.device, &addresses, bytes, value_bytes)
    }

    fn flush(&self) -> Result<(), BackendError> {
        self.shared.copies.flush();
        Ok(())
    }

    fn available_bytes(&self) -> Result<Option<u64>, BackendError> {
        self.shared.device.memory().map(|(free, _)| Some(free))
    }

    fn poll(&self, ticket: &CudaTicket) -> Result<bool, BackendError> {
        self.check_number("poll", ticket.owner, "the ticket is another backend's")?;
        self.shared.copies.poll(&ticket.flight)
    }

    fn wait(&self, ticket: CudaTicket) -> Result<(), BackendError> {
        self.check_number("wait", ticket.owner, "the ticket is another backend's")?;
        self.shared.copies.wait(&ticket.flight)
    }

    fn read(
        &self,
        reservation: &CudaReservation,
        offset_bytes: u64,
        out: &mut [u8],
    ) -> Result<(), BackendError> {
        self.check_owner("read", reservation)?;
        let inner = &reservation.inner;
        let range = offset_bytes..offset_bytes.saturating_add(out.len() as u64);
        let pieces = self.shared.unless_busy(inner, || {
            let mut books = inner.books();
            books.begin_read(&range)?;
            Ok(books.pieces(&range))
        })?;
        let outcome = self.shared.copy_out(&pieces, inner, out);
        inner.books().end_use(&range, false);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_works_or_says_why_not() {
        match CudaBackend::open(0) {
            Ok(backend) => {
                let caps = backend.caps();
                assert_eq!((caps.name, caps.asynchronous), ("cuda", true));
                assert!(caps.granularity_bytes.is_power_of_two());
                assert!(backend.available_bytes().unwrap().is_some());
                assert_eq!((backend.copies_in_flight(), backend.staging_bytes()), (0, 0));
            }
            Err(error) => assert!(
                matches!(error, BackendError::NoDriver { .. } | BackendError::NoDevice { .. }),
                "{error}"
            ),
        }
    }

    #[test]
    fn there_is_no_device_of_a_number_that_nobody_has() {
        for ordinal in [-1, i32::MAX, i32::MIN] {
            match CudaBackend::open(ordinal) {
                Err(BackendError::NoDevice { ordinal: asked, devices }) => {
                    assert!(asked == ordinal || devices == 0);
                }
                Err(BackendError::NoDriver { library: "libcuda.so.1", .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
