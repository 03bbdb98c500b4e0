//! Owns [`Flight`]: copies that go together, what they read, where they write, and how they ended. Knows nothing of other flights.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::Device;
use super::pattern::{Fill, Pattern, merged};
use super::reservation::Writing;
use super::staging::Piece;
use super::stream::{Copy, Event, Stream};
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
    Ready(Ready),
    /// Nowhere: all of it gets one value.
    Value(Pattern),
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
            Self::Value(_) => &[],
        }
    }

    /// Fills a buffer that was made for it; what is ready stays as it is.
    pub(super) fn copy_from(&mut self, from: &[u8]) {
        match self {
            Self::Ring(piece) => piece.bytes_mut().copy_from_slice(from),
            Self::Heap(bytes) => bytes.copy_from_slice(from),
            Self::Ready(_) | Self::Value(_) => {}
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

/// Events that nobody uses: making one costs more than a copy's call.
#[derive(Debug)]
pub(super) struct Events {
    device: Device,
    sleep: bool,
    free: Mutex<Vec<Event>>,
}

/// Nothing panics under these locks, and what they guard is true after every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// For a device. Who waits for one sleeps if `sleep`, or else spins.
    pub(super) fn new(device: &Device, sleep: bool) -> Self {
        Self { device: device.clone(), sleep, free: Mutex::default() }
    }

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

impl Flight {
    /// One that will go by a lane, with no copies yet.
    pub(super) fn new(lane: usize, number: u64, events: &Arc<Events>) -> Result<Self, BackendError> {
        Ok(Self {
            lane,
            number,
            begun: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            event: Some(events.take()?),
            events: Arc::clone(events),
            outcome: AtomicI32::new(PENDING),
            held: Mutex::default(),
        })
    }

    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Adds a copy, and says how many bytes and copies there are then. Not once it has begun.
    pub(super) fn put(&self, writing: Writing, source: Source) -> (u64, usize) {
        let mut held = lock(&self.held);
        held.bytes += writing.bytes();
        held.copies.push((writing, source));
        (held.bytes, held.copies.len())
    }

    /// Tells the driver of all copies, of what gets one value, and of the event behind them. The device's context is the thread's.
    pub(super) fn begin_on(&self, stream: &Stream) -> Result<(), BackendError> {
        let held = lock(&self.held);
        let copy = |(writing, source): &(Writing, Source)| {
            let from = source.bytes();
            Copy {
                to: writing.address(),
                from: from.as_ptr(),
                bytes: from.len(),
                offset_bytes: writing.range().start,
            }
        };
        let (fills, copies): (Vec<_>, Vec<_>) =
            held.copies.iter().partition(|(_, source)| matches!(source, Source::Value(_)));
        let copies: Vec<_> = copies.into_iter().map(copy).collect();
        // SAFETY: the bytes belong to the sources, which are held here until the event is done (or, where this fails, until the stream is); nobody has them to write
        // meanwhile.
        unsafe { stream.begin_copies_in(&copies) }?;
        let fill = |(writing, source): &(Writing, Source)| {
            let Source::Value(pattern) = *source else { return None };
            let (offset_bytes, bytes, page) = (writing.range().start, writing.bytes(), writing.page());
            Some(Fill { to: writing.address(), bytes, page, pattern, offset_bytes })
        };
        stream.begin_fills(&merged(fills.into_iter().filter_map(fill).collect()))?;
        if let Some(event) = &self.event {
            stream.record_in(event)?;
        }
        self.begun.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the driver has been told.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the device is done with it, once it has begun. Asks the driver.
    pub(super) fn has_landed(&self) -> Result<bool, BackendError> {
        self.event.as_ref().map_or(Ok(true), Event::is_done)
    }

    /// Waits for that.
    pub(super) fn wait(&self) -> Result<(), BackendError> {
        self.event.as_ref().map_or(Ok(()), Event::wait)
    }

    /// The driver's code for how it ended, if it did.
    pub(super) fn code(&self) -> Option<i32> {
        Some(self.outcome.load(Ordering::Acquire)).filter(|&code| code != PENDING)
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Never lets go of what it holds: nothing tells when the device is done with it.
    pub(super) fn hold_for_good(&self) {
        std::mem::forget(std::mem::take(&mut lock(&self.held).copies));
    }

    /// Somebody who could ask how it ended never will.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// The copy is done, or never will be: lets go of what it held, and tells. Doing so again does nothing.
    pub(super) fn finish(&self, code: i32) {
        drop(self.end(code));
    }

    /// The same, but what is not ours is for the caller to drop.
    pub(super) fn end(&self, code: i32) -> Vec<Arc<dyn Prepared>> {
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
    pub(super) fn holds_pieces(&self) -> bool {
        lock(&self.held).copies.iter().any(|(_, source)| matches!(source, Source::Ring(_)))
    }

    pub(super) fn writes_to(&self, reservation: u64) -> bool {
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
