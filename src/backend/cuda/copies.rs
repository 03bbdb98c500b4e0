//! Owns copies on their way to the device: [`Copies`]. What a copy reads and where it writes stays untouched until it is done, whoever forgets about it. Knows nothing of
//! who asked for it.
//!
//! ```text
//!   add ──> open flight ──(full, or flushed)──> lane's queue, oldest first ──(event done)──> finish: buffers back, ranges no longer in use, outcome told
//!                                               found out by whoever polls, waits, or lacks a buffer
//! ```
//!
//! Copies go together, in one call of the driver with one event, because each by itself leaves the bus idle for some microseconds: on an H200, tiles of 1 MiB are copied at 48 GB/s
//! one by one and at 54 together, tiles of 64 KiB at 15 and 32.
//!
//! While a thread gives access to newly mapped memory, a flight takes off only when the one before it has landed, and is shorter: see [`Copies::giving_access`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::Device;
use super::driver::About;
use super::reservation::Writing;
use super::staging::Piece;
use super::stream::{Copy, Event, Stream};
use crate::error::BackendError;
use crate::prepared::Prepared;

/// No outcome yet. Any other value is the driver's code.
const PENDING: i32 = -1;
/// Events that are kept to be used again.
const KEPT_EVENTS: usize = 4096;
/// A flight takes off with so many bytes: a fifth of a millisecond of the bus.
const FLIGHT_BYTES: u64 = 8 << 20;
/// Or with so many while a thread gives access to memory, which waits for it to end.
const SHORT_FLIGHT_BYTES: u64 = 4 << 20;
/// Or with so many copies.
const FLIGHT_COPIES: usize = 128;

/// Where a copy comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A piece of the ring.
    Ring(Piece),
    /// Ordinary memory.
    Heap(Box<[u8]>),
    /// Bytes that somebody had ready.
    Ready(Ready),
}

/// Bytes that somebody had ready, asked for once: whoever owns them is not called again, least of all under a lock.
#[derive(Debug)]
pub(super) struct Ready {
    owner: Arc<dyn Prepared>,
    start: usize,
    length: usize,
}

impl Ready {
    pub(super) fn new(owner: Arc<dyn Prepared>) -> Self {
        let bytes = owner.bytes();
        let (start, length) = (bytes.as_ptr().expose_provenance(), bytes.len());
        Self { owner, start, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `Prepared::bytes` lent these for as long as its value is borrowed, which it may be for as long as it is held here.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.start), self.length) }
    }
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ring(piece) => piece.bytes(),
            Self::Heap(bytes) => bytes,
            Self::Ready(ready) => ready.bytes(),
        }
    }

    /// Fills a buffer that was made for it; prepared bytes are ready as they are.
    pub(super) fn copy_from(&mut self, from: &[u8]) {
        match self {
            Self::Ring(piece) => piece.bytes_mut().copy_from_slice(from),
            Self::Heap(bytes) => bytes.copy_from_slice(from),
            Self::Ready(_) => {}
        }
    }
}

/// Copies that go together.
#[derive(Debug)]
pub(super) struct Flight {
    lane: usize,
    number: u64,
    /// Whether the driver has been told.
    begun: AtomicBool,
    /// One of those who have a ticket will never ask how it ended.
    forgotten: AtomicBool,
    /// `None` only while this is dropped.
    event: Option<Event>,
    events: Arc<Events>,
    outcome: AtomicI32,
    held: Mutex<Held>,
}

/// What must stay as it is until the copies are done. Its lock is held while that goes, so that whoever finds it gone finds the outcome told.
#[derive(Debug, Default)]
struct Held {
    copies: Vec<(Writing, Source)>,
    bytes: u64,
    finished: bool,
}

/// A stream, and what is on its way there.
#[derive(Debug)]
struct Lane {
    stream: Stream,
    queue: Mutex<VecDeque<Arc<Flight>>>,
}

/// The copies of one backend.
#[derive(Debug)]
pub(super) struct Copies {
    device: Device,
    lanes: Vec<Lane>,
    /// The flight that takes more copies.
    open: Mutex<Option<Arc<Flight>>>,
    /// Held while a flight takes off, taken under the lock of the open one: whoever finds none open and gets this finds every flight begun.
    departing: Mutex<()>,
    last_number: AtomicU64,
    /// Threads that are giving access to newly mapped memory.
    giving: AtomicUsize,
    events: Arc<Events>,
}

/// Events that nobody uses: making one costs more than a copy's call.
#[derive(Debug)]
struct Events {
    device: Device,
    sleep: bool,
    free: Mutex<Vec<Event>>,
}

/// Nothing panics under these locks, and what they guard is true after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    fn take(&self) -> Result<Event, BackendError> {
        // The lock is not held while one is made.
        let free = lock(&self.free).pop();
        free.map_or_else(|| Event::untimed(&self.device, self.sleep), Ok)
    }

    fn give_back(&self, event: Event) {
        let mut free = lock(&self.free);
        if free.len() < KEPT_EVENTS {
            free.push(event);
        }
    }
}

impl Copies {
    /// On `streams` streams of their own. Who waits for a copy sleeps if `sleep`, or else spins.
    pub(super) fn new(device: &Device, streams: usize, sleep: bool) -> Result<Self, BackendError> {
        let lane = |_| Ok(Lane { stream: Stream::new(device)?, queue: Mutex::default() });
        let lanes: Result<Vec<_>, BackendError> = (0..streams.max(1)).map(lane).collect();
        Ok(Self {
            device: device.clone(),
            lanes: lanes?,
            open: Mutex::default(),
            departing: Mutex::default(),
            last_number: AtomicU64::new(0),
            giving: AtomicUsize::new(0),
            events: Arc::new(Events { device: device.clone(), sleep, free: Mutex::default() }),
        })
    }

    /// The streams that copies go by.
    pub(super) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.lanes.iter().map(|lane| &lane.stream)
    }

    /// Flights that nobody found to be done yet, the open one included.
    pub(super) fn in_flight(&self) -> usize {
        let open = usize::from(lock(&self.open).is_some());
        open + self.lanes.iter().map(|lane| lock(&lane.queue).len()).sum::<usize>()
    }

    /// Puts a copy to the range that `writing` stands for on the open flight.
    ///
    /// **Cost**: a lock; for the last of a flight 3 us and some 0.4 us for each of the others.
    pub(super) fn add(&self, writing: Writing, source: Source) -> Result<Arc<Flight>, BackendError> {
        let mut open = lock(&self.open);
        let flight = match &*open {
            Some(flight) => flight.clone(),
            None => open.insert(self.new_flight()?).clone(),
        };
        let mut held = lock(&flight.held);
        held.bytes += writing.bytes();
        held.copies.push((writing, source));
        let most = if self.giving.load(Ordering::Relaxed) > 0 { SHORT_FLIGHT_BYTES } else { FLIGHT_BYTES };
        let full = held.bytes >= most || held.copies.len() >= FLIGHT_COPIES;
        drop(held);
        if full {
            *open = None;
            let departing = lock(&self.departing);
            // Meanwhile others gather the next one.
            drop(open);
            let not_ours = self.take_off(&flight);
            drop(departing);
            drop(not_ours);
        }
        Ok(flight)
    }

    /// Has the open flight take off, if there is one. Afterwards every flight has begun that there was.
    pub(super) fn flush(&self) {
        let mut open = lock(&self.open);
        let flight = open.take();
        let departing = lock(&self.departing);
        drop(open);
        let not_ours = flight.map(|flight| self.take_off(&flight));
        drop(departing);
        drop(not_ours);
    }

    /// Notes that the driver is being told to give access, for as long as what this returns lives.
    pub(super) fn giving_access(&self) -> GivingAccess<'_> {
        self.giving.fetch_add(1, Ordering::AcqRel);
        GivingAccess { of: &self.giving }
    }

    /// Lets threads that give access pass. The driver does a part of that on the engine that copies, which has its turn once nothing is left to copy, or else after a millisecond:
    /// measured on an H200, 51 us beside an idle bus and 1020 us beside one that is kept busy, however little is copied at a time and by however many streams.
    fn let_access_pass(&self) {
        let in_the_air = |lane: &Lane| {
            let last = lock(&lane.queue).back().cloned();
            last.is_some_and(|f| f.event.as_ref().is_some_and(|event| matches!(event.is_done(), Ok(false))))
        };
        while self.giving.load(Ordering::Acquire) > 0 && self.lanes.iter().any(in_the_air) {
            std::hint::spin_loop();
        }
    }

    fn new_flight(&self) -> Result<Arc<Flight>, BackendError> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let lanes = self.lanes.len() as u64;
        Ok(Arc::new(Flight {
            lane: usize::try_from(number % lanes).unwrap_or(0),
            number,
            begun: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            event: Some(self.events.take()?),
            events: Arc::clone(&self.events),
            outcome: AtomicI32::new(PENDING),
            held: Mutex::default(),
        }))
    }

    /// Tells the driver of a flight's copies. If that fails, so do they, and what is not ours of them is for the caller to drop, which may do anything.
    fn take_off(&self, flight: &Arc<Flight>) -> Vec<Arc<dyn Prepared>> {
        let lane = &self.lanes[flight.lane];
        self.let_access_pass();
        // The order in the queue is the order on the stream.
        let mut queue = lock(&lane.queue);
        let Err(error) = self.begin(lane, flight) else {
            flight.begun.store(true, Ordering::Release);
            queue.push_back(Arc::clone(flight));
            return Vec::new();
        };
        // Its event stands for nothing, so it never counts as begun: whoever asks waits until it has departed, and finds the outcome.
        drop(queue);
        // Some of the copies may be on their way, and nothing tells when they are done but the stream itself.
        if let Err(worse) = lane.stream.synchronize()
            && !worse.is_fatal()
        {
            tracing::warn!(%worse, "copies could not be waited for, and keep their memory");
            std::mem::forget(std::mem::take(&mut lock(&flight.held).copies));
        }
        flight.end(code_of(&error))
    }

    fn begin(&self, lane: &Lane, flight: &Flight) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        let held = lock(&flight.held);
        let copy = |(writing, source): &(Writing, Source)| {
            let from = source.bytes();
            Copy {
                to: writing.address(),
                from: from.as_ptr(),
                bytes: from.len(),
                offset_bytes: writing.range().start,
            }
        };
        let copies: Vec<_> = held.copies.iter().map(copy).collect();
        // SAFETY: the bytes belong to the sources, which the flight holds until the event is done (or, where this fails, until the stream is); nobody has them to write
        // meanwhile.
        unsafe { lane.stream.begin_copies_in(&copies) }?;
        let Some(event) = &flight.event else { return Ok(()) };
        lane.stream.record_in(event)
    }

    /// Whether a copy is done.
    pub(super) fn poll(&self, flight: &Flight) -> Result<bool, BackendError> {
        if let Some(outcome) = self.outcome(flight) {
            return outcome.map(|()| true);
        }
        if !flight.begun.load(Ordering::Acquire) {
            self.flush();
        }
        // Taking off may have been its end.
        if let Some(outcome) = self.outcome(flight) {
            return outcome.map(|()| true);
        }
        let done = self.look(flight)?;
        if done {
            self.reap(flight.lane)?;
        }
        Ok(done)
    }

    /// Waits until a copy is done.
    pub(super) fn wait(&self, flight: &Flight) -> Result<(), BackendError> {
        if let Some(outcome) = self.outcome(flight) {
            return outcome;
        }
        if !flight.begun.load(Ordering::Acquire) {
            self.flush();
        }
        if let Some(outcome) = self.outcome(flight) {
            return outcome;
        }
        match flight.event.as_ref().map_or(Ok(()), Event::wait) {
            Ok(()) => flight.finish(0),
            Err(BackendError::DeviceLost { code, .. }) => flight.finish(code),
            Err(error) => return Err(error),
        }
        // Others that are done by now. If the device was lost, that is this copy's outcome too.
        let _ = self.reap(flight.lane);
        self.outcome(flight).unwrap_or(Ok(()))
    }

    /// Finds out which copies are done.
    pub(super) fn reap_all(&self) -> Result<(), BackendError> {
        self.flush();
        self.reap_begun()
    }

    /// The same, without the flight that still takes more copies.
    pub(super) fn reap_begun(&self) -> Result<(), BackendError> {
        (0..self.lanes.len()).try_for_each(|lane| self.reap(lane))
    }

    /// Waits for the oldest copy that holds a piece of the ring, and says whether there was one.
    pub(super) fn wait_for_piece(&self) -> Result<bool, BackendError> {
        let pending = |f: &&Arc<Flight>| f.outcome.load(Ordering::Acquire) == PENDING && f.holds_pieces();
        let oldest = |lane: &Lane| lock(&lane.queue).iter().find(pending).cloned();
        let oldest = || self.lanes.iter().filter_map(oldest).min_by_key(|flight| flight.number);
        // What is still gathered goes only where nothing else would come back: large flights are faster.
        let flight = oldest().or_else(|| {
            self.flush();
            oldest()
        });
        match flight {
            Some(flight) => self.wait(&flight).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits for all copies to a reservation, or for those that nobody else can wait for.
    pub(super) fn settle(&self, reservation: u64, all: bool) {
        self.flush();
        for (index, lane) in self.lanes.iter().enumerate() {
            let of_it =
                |f: &&Arc<Flight>| (all || f.forgotten.load(Ordering::Acquire)) && f.writes_to(reservation);
            let last = lock(&lane.queue).iter().rfind(of_it).cloned();
            // Those before it are done when it is, but somebody has to see to them.
            if let Some(flight) = last
                && let Err(error) = self.wait(&flight).and_then(|()| self.reap(index))
                && !error.is_fatal()
            {
                tracing::warn!(%error, "copies that nobody waits for could not be waited for");
            }
        }
    }

    /// Finishes what is done, from the oldest on.
    fn reap(&self, lane: usize) -> Result<(), BackendError> {
        let Some(lane) = self.lanes.get(lane) else { return Ok(()) };
        let mut lost = Ok(());
        loop {
            let oldest = lock(&lane.queue).front().cloned();
            let Some(flight) = oldest else { return lost };
            if flight.outcome.load(Ordering::Acquire) == PENDING {
                match self.look(&flight) {
                    Ok(true) => {}
                    Ok(false) => return lost,
                    // Nor will any of the others ever arrive.
                    Err(error) if error.is_fatal() => lost = Err(error),
                    Err(error) => return Err(error),
                }
            }
            // Somebody else may have taken it out by now, and then the next one is not ours to take.
            let mut queue = lock(&lane.queue);
            if queue.front().is_some_and(|front| Arc::ptr_eq(front, &flight)) {
                queue.pop_front();
            }
        }
    }

    /// Asks the driver whether a copy is done, and finishes it if so, or if it never will be.
    fn look(&self, flight: &Flight) -> Result<bool, BackendError> {
        match flight.event.as_ref().map_or(Ok(true), Event::is_done) {
            Ok(false) => Ok(false),
            Ok(true) => {
                flight.finish(0);
                // Somebody else may have found another end.
                self.outcome(flight).unwrap_or(Ok(())).map(|()| true)
            }
            Err(BackendError::DeviceLost { code, .. }) => {
                flight.finish(code);
                self.outcome(flight).unwrap_or(Ok(())).map(|()| true)
            }
            Err(error) => Err(error),
        }
    }

    /// How a copy ended, if it did.
    fn outcome(&self, flight: &Flight) -> Option<Result<(), BackendError>> {
        match flight.outcome.load(Ordering::Acquire) {
            PENDING => None,
            code => Some(self.device.driver().check("copy to the device", code, About::NOTHING)),
        }
    }
}

/// A thread that gives access.
#[derive(Debug)]
pub(super) struct GivingAccess<'a> {
    of: &'a AtomicUsize,
}

impl Drop for GivingAccess<'_> {
    fn drop(&mut self) {
        self.of.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Flight {
    /// Somebody who could ask how it ended never will.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// The copy is done, or never will be: lets go of what it held, and tells. Doing so again does nothing.
    fn finish(&self, code: i32) {
        drop(self.end(code));
    }

    /// The same, but what is not ours is for the caller to drop.
    fn end(&self, code: i32) -> Vec<Arc<dyn Prepared>> {
        let mut held = lock(&self.held);
        if std::mem::replace(&mut held.finished, true) {
            return Vec::new();
        }
        // Who finds the copies done may read the ranges, and finds the pieces in the ring.
        let mut not_ours = Vec::new();
        for (writing, source) in held.copies.drain(..) {
            drop(writing);
            if let Source::Ready(ready) = source {
                not_ours.push(ready.owner);
            }
        }
        self.outcome.store(code, Ordering::Release);
        drop(held);
        not_ours
    }

    /// Whether pieces of the ring come free when it is done.
    fn holds_pieces(&self) -> bool {
        lock(&self.held).copies.iter().any(|(_, source)| matches!(source, Source::Ring(_)))
    }

    fn writes_to(&self, reservation: u64) -> bool {
        lock(&self.held).copies.iter().any(|(writing, _)| writing.reservation() == reservation)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.events.give_back(event);
        }
    }
}

/// The driver's code behind an error.
fn code_of(error: &BackendError) -> i32 {
    match error {
        BackendError::DeviceLost { code, .. } | BackendError::Driver { code, .. } => *code,
        BackendError::OutOfMemory { .. } => 2,
        _ => 999,
    }
}

impl Drop for Copies {
    /// Waits for every copy: none may read memory that is gone.
    fn drop(&mut self) {
        self.flush();
        for lane in &self.lanes {
            let code = lane.stream.synchronize().map_or_else(|error| code_of(&error), |()| 0);
            for flight in std::mem::take(&mut *lock(&lane.queue)) {
                flight.finish(code);
            }
        }
    }
}
