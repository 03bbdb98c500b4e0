//! Owns open frames as the engine sees them, [`OpenFrame`], and the waiting for frames and for other requests.
//!
//! Each thread knows which frames it opened itself: a request that would have to wait for one of those is told so instead of waiting for ever.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::error::ResidencyError;

use super::drain::FrameEnd;
use super::frame::{Epoch, FrameToken};
use super::{Engine, State};

/// How long to sleep between looks at frames that are still open: a lost wake-up costs no more than this.
pub(super) const LOOK_AGAIN: Duration = Duration::from_micros(200);

thread_local! {
    /// Frames that this thread opened and did not end: which pool, and when.
    static OWN: RefCell<Vec<(u64, Epoch)>> = const { RefCell::new(Vec::new()) };
}

/// A frame of an engine, open until dropped. Not `Send`: it ends on the thread that opened it.
#[derive(Debug)]
pub(crate) struct OpenFrame<'e, B: Backend> {
    engine: &'e Engine<B>,
    /// Taken when it ends.
    token: Option<FrameToken>,
    not_send: std::marker::PhantomData<std::sync::MutexGuard<'static, ()>>,
}

thread_local! {
    /// How many loads this thread is in the middle of: a source may ask for tiles itself.
    static LOADS: Cell<u32> = const { Cell::new(0) };
}

/// Runs a load, in which this thread is known to be loading.
pub(super) fn while_loading<R>(load: impl FnOnce() -> R) -> R {
    struct Depth;
    impl Drop for Depth {
        fn drop(&mut self) {
            LOADS.set(LOADS.get() - 1);
        }
    }
    LOADS.set(LOADS.get() + 1);
    let _depth = Depth;
    load()
}

/// Whether this thread is in the middle of a load, so that what it waits for may be waiting for it.
pub(crate) fn is_loading() -> bool {
    LOADS.get() > 0
}

impl<'e, B: Backend> OpenFrame<'e, B> {
    pub(crate) fn new(engine: &'e Engine<B>) -> Self {
        let token = OWN.with_borrow_mut(|own| {
            // The address of this thread's list spreads threads over the slots.
            let token = engine.clock.open(std::ptr::from_mut(own).addr() >> 6);
            own.push((engine.id, token.opened));
            token
        });
        Self { engine, token: Some(token), not_send: std::marker::PhantomData }
    }

    /// The engine that the frame belongs to.
    pub(crate) fn engine(&self) -> &'e Engine<B> {
        self.engine
    }
}

impl<B: Backend> OpenFrame<'_, B> {
    /// Ends the frame here, while readers elsewhere are at work until `end` is over: nothing they read goes before that.
    pub(crate) fn end_with(mut self, end: Box<dyn FrameEnd>) {
        if let Some(token) = self.take() {
            self.engine.drain(token, end);
        }
    }

    /// The frame's place in the clock; this thread no longer counts as holding it.
    fn take(&mut self) -> Option<FrameToken> {
        let token = self.token.take()?;
        // During the end of the thread the list may be gone already; then nobody asks for it any more.
        let _ = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            if let Some(at) = own.iter().rposition(|f| *f == (self.engine.id, token.opened)) {
                own.swap_remove(at);
            }
        });
        Some(token)
    }
}

impl<B: Backend> Drop for OpenFrame<'_, B> {
    fn drop(&mut self) {
        if let Some(token) = self.take() {
            self.engine.clock.close(&token);
        }
    }
}

/// Whether this thread has a frame open that began at or before `epoch`.
fn own_frame(pool: u64, epoch: Epoch) -> bool {
    OWN.with_borrow(|own| own.iter().any(|&(p, opened)| p == pool && opened <= epoch))
}

/// How many changes of the state there have been that others may wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change(u64);

/// The most that a call waits, from now on: until a moment, or until somebody else says that it need not go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline<'s> {
    until: Instant,
    stop: Option<&'s AtomicBool>,
}

impl<'s> Deadline<'s> {
    /// The same, but passed as soon as `stop` is set, if there is one.
    pub(super) fn or_when(self, stop: Option<&'s AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// What is left of it; `None` once it has passed.
    fn left(self) -> Option<Duration> {
        if self.stop.is_some_and(|stop| stop.load(Ordering::Acquire)) {
            return None;
        }
        self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

impl<B: Backend> Engine<B> {
    pub(super) fn deadline(&self) -> Deadline<'static> {
        let now = Instant::now();
        // A patience beyond what the clock can count is as good as a century.
        let until = now.checked_add(self.patience).unwrap_or(now + Duration::from_mins(50_000_000));
        Deadline { until, stop: None }
    }

    /// Waits until every frame opened at or before `epoch` has ended.
    pub(super) fn wait_for_frames(
        &self,
        epoch: Epoch,
        needed_bytes: u64,
        deadline: Deadline<'_>,
    ) -> Result<(), ResidencyError> {
        let mut naps = 0u32;
        while !self.frames_ended(epoch) {
            let own = own_frame(self.id, epoch);
            if own || deadline.left().is_none() {
                return Err(ResidencyError::FramesOpen {
                    needed_bytes,
                    frames: self.clock.open_frames(),
                    own,
                });
            }
            // Frames last micro- or milliseconds: yield a few times before sleeping.
            naps += 1;
            if naps < 16 { std::thread::yield_now() } else { std::thread::sleep(LOOK_AGAIN) }
        }
        Ok(())
    }

    /// Waits for a change of the state after `seen`, or the deadline: then `false`. A frame's end changes no state: who may be waiting for one looks again soon.
    pub(super) fn wait_for_change(&self, seen: Change, framed: bool, deadline: Deadline<'_>) -> bool {
        let state = self.lock();
        if state.changes != seen {
            return true;
        }
        let Some(left) = deadline.left() else { return false };
        let nap = left.min(if framed { LOOK_AGAIN } else { Duration::from_millis(50) });
        drop(self.wait(state, Some(nap)));
        true
    }

    /// Waits until the state changes, or no longer than that.
    pub(super) fn wait<'s>(
        &'s self,
        mut state: MutexGuard<'s, State<B>>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'s, State<B>> {
        state.waiting += 1;
        let mut state = match at_most {
            Some(nap) => self.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.waiting -= 1;
        state
    }

    /// Whether this thread has a frame open that was opened at or before `epoch`: whoever waits for those waits for this thread.
    pub(super) fn own_frame_until(&self, epoch: Epoch) -> bool {
        own_frame(self.id, epoch)
    }

    /// Whether this thread has any frame of this pool open.
    pub(super) fn has_own_frame(&self) -> bool {
        own_frame(self.id, Epoch(u64::MAX))
    }

    /// Tells whoever waits that the state has changed.
    pub(super) fn notify(&self, mut state: MutexGuard<'_, State<B>>) {
        state.changes.0 += 1;
        let waiting = state.waiting > 0;
        drop(state);
        // It would be a call of the system, whether anybody waits or not.
        if waiting {
            self.changed.notify_all();
        }
    }
}
