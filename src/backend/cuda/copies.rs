//! Owns copies on their way to the device: [`Copies`], which go in flights (`flight.rs`). What a copy reads and where it writes stays untouched until it is done, whoever forgets about it. Knows nothing of
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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::device::Device;
use super::driver::About;
use super::flight::{Events, Flight, Source, lock};
use super::reservation::Writing;
use super::stream::Stream;
use crate::error::BackendError;
use crate::prepared::Prepared;

/// A flight takes off with so many bytes: a fifth of a millisecond of the bus.
const FLIGHT_BYTES: u64 = 8 << 20;
/// Or with so many while a thread gives access to memory, which waits for it to end.
const SHORT_FLIGHT_BYTES: u64 = 4 << 20;
/// Or with so many copies.
const FLIGHT_COPIES: usize = 128;

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
            events: Arc::new(Events::new(device, sleep)),
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
        let (bytes, copies) = flight.put(writing, source);
        let most = if self.giving.load(Ordering::Relaxed) > 0 { SHORT_FLIGHT_BYTES } else { FLIGHT_BYTES };
        if bytes >= most || copies >= FLIGHT_COPIES {
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
            last.is_some_and(|flight| matches!(flight.has_landed(), Ok(false)))
        };
        while self.giving.load(Ordering::Acquire) > 0 && self.lanes.iter().any(in_the_air) {
            std::hint::spin_loop();
        }
    }

    fn new_flight(&self) -> Result<Arc<Flight>, BackendError> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let lanes = self.lanes.len() as u64;
        Flight::new(usize::try_from(number % lanes).unwrap_or(0), number, &self.events).map(Arc::new)
    }

    /// Tells the driver of a flight's copies. If that fails, so do they, and what is not ours of them is for the caller to drop, which may do anything.
    fn take_off(&self, flight: &Arc<Flight>) -> Vec<Arc<dyn Prepared>> {
        let lane = &self.lanes[flight.lane()];
        self.let_access_pass();
        // The order in the queue is the order on the stream.
        let mut queue = lock(&lane.queue);
        let begun = self.device.enter().and_then(|_current| flight.begin_on(&lane.stream));
        let Err(error) = begun else {
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
            flight.hold_for_good();
        }
        flight.end(code_of(&error))
    }

    /// Whether a copy is done.
    pub(super) fn poll(&self, flight: &Flight) -> Result<bool, BackendError> {
        if let Some(outcome) = self.outcome(flight) {
            return outcome.map(|()| true);
        }
        if !flight.has_begun() {
            self.flush();
        }
        // Taking off may have been its end.
        if let Some(outcome) = self.outcome(flight) {
            return outcome.map(|()| true);
        }
        let done = self.look(flight)?;
        if done {
            self.reap(flight.lane())?;
        }
        Ok(done)
    }

    /// Waits until a copy is done.
    pub(super) fn wait(&self, flight: &Flight) -> Result<(), BackendError> {
        if let Some(outcome) = self.outcome(flight) {
            return outcome;
        }
        if !flight.has_begun() {
            self.flush();
        }
        if let Some(outcome) = self.outcome(flight) {
            return outcome;
        }
        match flight.wait() {
            Ok(()) => flight.finish(0),
            Err(BackendError::DeviceLost { code, .. }) => flight.finish(code),
            Err(error) => return Err(error),
        }
        // Others that are done by now. If the device was lost, that is this copy's outcome too.
        let _ = self.reap(flight.lane());
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
        let pending = |f: &&Arc<Flight>| f.code().is_none() && f.holds_pieces();
        let oldest = |lane: &Lane| lock(&lane.queue).iter().find(pending).cloned();
        let oldest = || self.lanes.iter().filter_map(oldest).min_by_key(|flight| flight.number());
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
            let of_it = |f: &&Arc<Flight>| (all || f.is_forgotten()) && f.writes_to(reservation);
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
            if flight.code().is_none() {
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
        match flight.has_landed() {
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
        let check = |code| self.device.driver().check("copy to the device", code, About::NOTHING);
        flight.code().map(check)
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
