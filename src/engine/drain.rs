//! Owns frames that have ended on this side while readers elsewhere, kernels on a device, are still at work: [`Draining`]. Knows nothing of devices.
//!
//! Such a frame keeps its place in the frame clock until its end is over, so memory that the kernels may read stays. Nobody is told when that happens: whoever may be
//! waiting for it looks ([`Engine::reap`]).

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::error::BackendError;
use crate::layout::TileId;

use super::frame::{Epoch, FrameToken};
use super::waiting::LOOK_AGAIN;
use super::{ArrayShared, Engine};

/// How long a thread that waits for kernels looks again and again before it sleeps in between.
const STAYS_AWAKE: Duration = Duration::from_millis(1);

/// The end of a frame that readers elsewhere draw out.
pub(crate) trait FrameEnd: Send + Debug {
    /// Whether the readers are done. Does not wait.
    ///
    /// # Errors
    /// They never will be: the device is lost.
    fn is_over(&mut self) -> Result<bool, BackendError>;

    /// The tiles that they wrote, by array, once it is over.
    fn written(&mut self) -> Vec<(u32, Vec<TileId>)>;
}

#[derive(Debug)]
struct Entry {
    token: FrameToken,
    end: Box<dyn FrameEnd>,
}

/// Frames whose readers are still at work.
#[derive(Debug, Default)]
pub(super) struct Draining {
    count: AtomicUsize,
    entries: Mutex<Vec<Entry>>,
}

impl Draining {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }
}

impl<B: Backend> Engine<B> {
    /// Keeps a frame open until `end` is over.
    pub(super) fn drain(&self, token: FrameToken, end: Box<dyn FrameEnd>) {
        let mut entries = self.draining.lock();
        entries.push(Entry { token, end });
        self.draining.count.store(entries.len(), Ordering::Release);
    }

    /// Closes the frames whose readers are done, after noting what they wrote. Takes the state lock under its own: not to be called under the state lock.
    pub(crate) fn reap(&self) {
        if self.draining.is_empty() {
            return;
        }
        let mut lost = None;
        {
            // Held until what was written is noted and the frame closed: whoever finds an entry gone finds that done.
            let mut entries = self.draining.lock();
            let mut at = 0;
            while let Some(entry) = entries.get_mut(at) {
                match entry.end.is_over() {
                    Ok(false) => {
                        at += 1;
                        continue;
                    }
                    Ok(true) => {}
                    Err(error) if error.is_fatal() => lost = Some(error),
                    Err(error) => {
                        // A shortage of memory, say: asked again the next time.
                        tracing::warn!(%error, "what kernels wrote could not be told yet");
                        at += 1;
                        continue;
                    }
                }
                let mut entry = entries.swap_remove(at);
                for (array, tiles) in entry.end.written() {
                    self.note_written(array, &tiles);
                }
                self.clock.close(&entry.token);
            }
            self.draining.count.store(entries.len(), Ordering::Release);
        }
        if let Some(error) = lost {
            self.poison_all(&error);
        }
    }

    /// Waits until the readers of every frame have finished that was handed to them before this call.
    pub(crate) fn settle(&self) {
        if self.draining.is_empty() {
            return;
        }
        let now = self.clock.barrier();
        let begun = Instant::now();
        loop {
            self.reap();
            if self.draining.is_empty() || !self.draining.lock().iter().any(|e| e.token.opened <= now) {
                return;
            }
            // A short kernel is over before a sleeping thread would be awake.
            if begun.elapsed() < STAYS_AWAKE {
                std::thread::yield_now();
            } else {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    }

    /// Notes that resident tiles hold what their source does not: they are written back before their memory goes.
    pub(crate) fn note_written(&self, array: u32, tiles: &[TileId]) {
        let mut state = self.lock();
        if let Some((_, table)) = state.arrays.get_mut(array) {
            for &tile in tiles {
                table.set_dirty(tile);
            }
        }
    }

    /// Gives up what was written to the tiles: they may be evicted, and are loaded from the source the next time.
    pub(crate) fn discard(&self, array: &ArrayShared<B>, tiles: &[TileId]) {
        let mut state = self.lock();
        let forget = |&tile: &TileId| array.written.as_ref().and_then(|written| written.forget(tile));
        let kept: Vec<_> = tiles.iter().map(forget).collect();
        if let Some((_, table)) = state.arrays.get_mut(array.id) {
            for &tile in tiles {
                table.clear_dirty(tile);
                // Its one value may be what was written: the source is asked again.
                if table.clear_uniform(tile) {
                    array.planes.retract_uniform(tile);
                }
            }
        }
        self.notify(state);
        // Their store is told here, where no lock is held.
        drop(kept);
    }

    /// Nobody knows what the array holds any more: it says so from now on.
    pub(crate) fn poison_one(&self, array: u32, error: &BackendError) {
        let array = self.lock().arrays.get(array).map(|(array, _)| array.clone());
        if let Some(array) = array {
            array.poison(error);
        }
    }

    /// Nothing can be done with the device any more: every array says so from now on.
    pub(super) fn poison_all(&self, error: &BackendError) {
        let arrays: Vec<Arc<ArrayShared<B>>> =
            self.lock().arrays.values().map(|(array, _)| array.clone()).collect();
        for array in arrays {
            array.poison(error);
        }
    }

    /// Whether every frame opened at or before `epoch` has ended, readers elsewhere included.
    pub(super) fn frames_ended(&self, epoch: Epoch) -> bool {
        self.reap();
        self.clock.ended(epoch)
    }
}
