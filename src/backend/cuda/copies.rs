//! Owns copies on their way to the device: [`Copies`]. What a copy reads and where it writes stays untouched until it is done, whoever forgets about it. Knows nothing of
//! who asked for it.
//!
//! ```text
//!   begin ──> lane's queue, oldest first ──(event done)──> finish: buffer back, range no longer in use, outcome told
//!             found out by whoever polls, waits, or lacks a buffer
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::Device;
use super::driver::About;
use super::reservation::Writing;
use super::staging::Piece;
use super::stream::{Event, Stream};
use crate::error::BackendError;
use crate::prepared::Prepared;

/// No outcome yet. Any other value is the driver's code.
const PENDING: i32 = -1;
/// Events that are kept to be used again.
const KEPT_EVENTS: usize = 4096;

/// Where a copy comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A piece of the ring.
    Ring(Piece),
    /// Ordinary memory.
    Heap(Box<[u8]>),
    /// Bytes that somebody had ready.
    Prepared(Arc<dyn Prepared>),
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ring(piece) => piece.bytes(),
            Self::Heap(bytes) => bytes,
            Self::Prepared(prepared) => prepared.bytes(),
        }
    }

    /// Fills a buffer that was made for it; prepared bytes are ready as they are.
    pub(super) fn copy_from(&mut self, from: &[u8]) {
        match self {
            Self::Ring(piece) => piece.bytes_mut().copy_from_slice(from),
            Self::Heap(bytes) => bytes.copy_from_slice(from),
            Self::Prepared(_) => {}
        }
    }
}

/// A copy that was begun.
#[derive(Debug)]
pub(super) struct Flight {
    lane: usize,
    number: u64,
    /// Number of the reservation that it writes to.
    reservation: u64,
    from_ring: bool,
    /// `None` only while this is dropped.
    event: Option<Event>,
    events: Arc<Events>,
    outcome: AtomicI32,
    /// What must stay as it is until the copy is done. Its lock is held while it goes, so that whoever finds it gone finds the outcome told.
    held: Mutex<Option<(Writing, Source)>>,
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
    next_lane: AtomicUsize,
    last_number: AtomicU64,
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
            next_lane: AtomicUsize::new(0),
            last_number: AtomicU64::new(0),
            events: Arc::new(Events { device: device.clone(), sleep, free: Mutex::default() }),
        })
    }

    /// The streams that copies go by.
    pub(super) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.lanes.iter().map(|lane| &lane.stream)
    }

    /// Copies that nobody found to be done yet.
    pub(super) fn in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| lock(&lane.queue).len()).sum()
    }

    /// Begins a copy to the range that `writing` stands for.
    ///
    /// **Cost**: two calls of the driver, 3 us together.
    pub(super) fn begin(&self, writing: Writing, source: Source) -> Result<Arc<Flight>, BackendError> {
        let _current = self.device.enter()?;
        let event = self.events.take()?;
        let index = self.next_lane.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let lane = &self.lanes[index];
        let from = source.bytes();
        let about = About { offset_bytes: writing.range().start, bytes: from.len() as u64 };
        let (to, start) = (writing.address(), from.as_ptr());
        // The order in the queue is the order on the stream.
        let mut queue = lock(&lane.queue);
        // SAFETY: the bytes belong to `source`, which the flight holds until the event is done (or, below, until the stream is); nobody has them to write meanwhile.
        unsafe { lane.stream.begin_copy_in(to, start, about) }?;
        if let Err(error) = lane.stream.record_in(&event) {
            // Nothing tells when the copy is done but the stream itself.
            if let Err(worse) = lane.stream.synchronize()
                && !worse.is_fatal()
            {
                tracing::warn!(%worse, "a copy could not be waited for, and keeps its memory");
                std::mem::forget((writing, source));
            }
            return Err(error);
        }
        let flight = Arc::new(Flight {
            lane: index,
            number: self.last_number.fetch_add(1, Ordering::Relaxed),
            reservation: writing.reservation(),
            from_ring: matches!(source, Source::Ring(_)),
            event: Some(event),
            events: Arc::clone(&self.events),
            outcome: AtomicI32::new(PENDING),
            held: Mutex::new(Some((writing, source))),
        });
        queue.push_back(Arc::clone(&flight));
        Ok(flight)
    }

    /// Whether a copy is done.
    pub(super) fn poll(&self, flight: &Flight) -> Result<bool, BackendError> {
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
        (0..self.lanes.len()).try_for_each(|lane| self.reap(lane))
    }

    /// Waits for the oldest copy that holds a piece of the ring, and says whether there was one.
    pub(super) fn wait_for_piece(&self) -> Result<bool, BackendError> {
        let pending = |f: &&Arc<Flight>| f.from_ring && f.outcome.load(Ordering::Acquire) == PENDING;
        let oldest = |lane: &Lane| lock(&lane.queue).iter().find(pending).cloned();
        match self.lanes.iter().filter_map(oldest).min_by_key(|flight| flight.number) {
            Some(flight) => self.wait(&flight).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits for all copies to a reservation.
    pub(super) fn settle(&self, reservation: u64) {
        for lane in &self.lanes {
            let of_it = |f: &&Arc<Flight>| f.reservation == reservation;
            let last = lock(&lane.queue).iter().rfind(of_it).cloned();
            if let Some(flight) = last
                && let Err(error) = self.wait(&flight)
                && !error.is_fatal()
            {
                tracing::warn!(%error, "copies to a dropped reservation could not be waited for");
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
                Ok(true)
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
            code => Some(self.device.driver().check("cuMemcpyHtoDAsync", code, About::NOTHING)),
        }
    }
}

impl Flight {
    /// The copy is done, or never will be: lets go of what it held, and tells. Doing so again does nothing.
    fn finish(&self, code: i32) {
        let mut held = lock(&self.held);
        let Some((writing, source)) = held.take() else { return };
        // Who finds the copy done may read the range, and finds the piece in the ring.
        drop(writing);
        let prepared = match source {
            Source::Ring(_) | Source::Heap(_) => None,
            Source::Prepared(prepared) => Some(prepared),
        };
        self.outcome.store(code, Ordering::Release);
        drop(held);
        // Not ours: dropping it may do anything.
        drop(prepared);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.events.give_back(event);
        }
    }
}

impl Drop for Copies {
    /// Waits for every copy: none may read memory that is gone.
    fn drop(&mut self) {
        for lane in &self.lanes {
            let code = match lane.stream.synchronize() {
                Ok(()) => 0,
                Err(BackendError::DeviceLost { code, .. } | BackendError::Driver { code, .. }) => code,
                Err(_) => 999,
            };
            for flight in std::mem::take(&mut *lock(&lane.queue)) {
                flight.finish(code);
            }
        }
    }
}
