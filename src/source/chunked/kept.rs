//! Owns [`Kept`]: the decoded chunks that several tiles need, and who decodes which. Knows nothing of regions or formats.
//!
//! ```text
//! absent -- claim --> decoding -- decoded --> kept -- least recently used --> absent
//!                        '------- failed: whoever waits is told -----------------^
//! ```

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::{ChunkCoord, Found};
use crate::error::SourceError;
use crate::voxel::Voxel;

/// What is reckoned for a chunk that is known to be missing; no more than one that is there.
const MISSING_BYTES: u64 = 128;

thread_local! {
    static DECODING: Cell<u32> = const { Cell::new(0) };
}

/// Runs a decode, in which this thread is known to be decoding.
pub(super) fn while_decoding<R>(decode: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DECODING.set(DECODING.get() - 1);
        }
    }
    DECODING.set(DECODING.get() + 1);
    let _leave = Leave;
    decode()
}

/// Whether this thread is inside a decode: then it must not wait for another.
pub(super) fn is_decoding() -> bool {
    DECODING.get() > 0
}

/// A chunk as it is kept.
#[derive(Debug)]
pub(super) enum Decoded<T> {
    /// Its voxels.
    Voxels(Vec<T>),
    /// All fill.
    Missing,
}

type Outcome<T> = Result<Arc<Decoded<T>>, Arc<SourceError>>;

/// A chunk that somebody decodes.
#[derive(Debug)]
pub(super) struct Flight<T> {
    outcome: Mutex<Option<Outcome<T>>>,
    landed: Condvar,
}

impl<T> Flight<T> {
    /// Waits until it is decoded.
    ///
    /// # Errors
    /// [`SourceError::Shared`], what whoever decoded it failed with.
    pub(super) fn wait(&self) -> Result<Arc<Decoded<T>>, SourceError> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let landed = self.landed.wait_while(outcome, |outcome| outcome.is_none());
        match &*landed.unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(decoded)) => Ok(decoded.clone()),
            Some(Err(error)) => Err(SourceError::Shared(error.clone())),
            None => Err(ended_early()),
        }
    }

    fn land(&self, outcome: Outcome<T>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.landed.notify_all();
    }
}

fn ended_early() -> SourceError {
    SourceError::Panicked { message: "the decoding of a chunk ended early".into() }
}

/// The chunks that are kept, under a bound.
#[derive(Debug)]
pub(super) struct Kept<T> {
    state: Mutex<State<T>>,
    chunk_voxels: usize,
    most_bytes: AtomicU64,
}

#[derive(Debug)]
struct State<T> {
    kept: LruCache<ChunkCoord, Arc<Decoded<T>>>,
    decoding: HashMap<ChunkCoord, Arc<Flight<T>>>,
    /// Of what is kept and of what is being decoded.
    used_bytes: u64,
}

/// Whose a chunk is.
pub(super) enum Claim<'k, T: Voxel> {
    /// It is here.
    Kept(Arc<Decoded<T>>),
    /// The caller decodes it.
    Yours(Claimed<'k, T>),
    /// Another thread decodes it.
    Others(Arc<Flight<T>>),
}

/// The duty to decode a chunk. Whoever drops it has failed, and those who wait are told.
pub(super) struct Claimed<'k, T: Voxel> {
    kept: &'k Kept<T>,
    chunk: ChunkCoord,
    flight: Arc<Flight<T>>,
    /// Memory of a chunk that went.
    spare: Option<Vec<T>>,
    done: bool,
}

impl<T: Voxel> Kept<T> {
    pub(super) fn new(chunk_voxels: usize, most_bytes: u64) -> Self {
        let state = State { kept: LruCache::unbounded(), decoding: HashMap::new(), used_bytes: 0 };
        Self { state: Mutex::new(state), chunk_voxels, most_bytes: AtomicU64::new(most_bytes) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bound.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most_bytes.load(Ordering::Relaxed)
    }

    /// Lowers the bound, if it is higher.
    pub(super) fn keep_at_most(&self, bytes: u64) {
        self.most_bytes.fetch_min(bytes, Ordering::Relaxed);
        let gone = self.make_room(&mut self.lock());
        drop(gone);
    }

    fn chunk_bytes(&self) -> u64 {
        self.chunk_voxels as u64 * size_of::<T>() as u64
    }

    fn bytes_of(&self, decoded: &Decoded<T>) -> u64 {
        match decoded {
            Decoded::Voxels(_) => self.chunk_bytes(),
            Decoded::Missing => MISSING_BYTES.min(self.chunk_bytes()),
        }
    }

    /// A chunk, if it is here.
    pub(super) fn find(&self, chunk: ChunkCoord) -> Option<Arc<Decoded<T>>> {
        self.lock().kept.get(&chunk).cloned()
    }

    /// Leaves those that neither are here nor will be.
    pub(super) fn retain_absent(&self, chunks: &mut Vec<ChunkCoord>) {
        let state = self.lock();
        chunks.retain(|chunk| !state.kept.contains(chunk) && !state.decoding.contains_key(chunk));
    }

    /// A chunk, or who decodes it. For one that is to be decoded room is made first, so that what is being decoded counts too.
    pub(super) fn claim(&self, chunk: ChunkCoord) -> Claim<'_, T> {
        let mut state = self.lock();
        if let Some(decoded) = state.kept.get(&chunk) {
            return Claim::Kept(decoded.clone());
        }
        if let Some(flight) = state.decoding.get(&chunk) {
            return Claim::Others(flight.clone());
        }
        state.used_bytes += self.chunk_bytes();
        let gone = self.make_room(&mut state);
        let flight = Arc::new(Flight { outcome: Mutex::new(None), landed: Condvar::new() });
        state.decoding.insert(chunk, flight.clone());
        drop(state);
        // Memory that is not used again is given back here, outside of the lock.
        let mut spare = None;
        for decoded in gone {
            if let Ok(Decoded::Voxels(voxels)) = Arc::try_unwrap(decoded) {
                spare.get_or_insert(voxels);
            }
        }
        Claim::Yours(Claimed { kept: self, chunk, flight, spare, done: false })
    }

    /// Takes out the least recently used until the rest is within the bound.
    fn make_room(&self, state: &mut State<T>) -> Vec<Arc<Decoded<T>>> {
        let mut gone = Vec::new();
        while state.used_bytes > self.most_bytes() {
            let Some((_, oldest)) = state.kept.pop_lru() else { break };
            state.used_bytes -= self.bytes_of(&oldest);
            gone.push(oldest);
        }
        gone
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes
    }
}

impl<T: Voxel> Claimed<'_, T> {
    /// Has the chunk decoded, keeps it, and tells whoever waits.
    ///
    /// # Errors
    /// [`SourceError::Shared`], what `decode` failed with, or that there is no memory for it.
    pub(super) fn decode(
        mut self,
        decode: impl FnOnce(&mut [T]) -> Result<Found, SourceError>,
    ) -> Result<Arc<Decoded<T>>, SourceError> {
        let outcome = self.voxels().and_then(|mut voxels| {
            Ok(match decode(&mut voxels)? {
                Found::Voxels => Decoded::Voxels(voxels),
                Found::Missing => Decoded::Missing,
            })
        });
        let outcome = outcome.map(Arc::new).map_err(Arc::new);
        self.settle(outcome.clone());
        outcome.map_err(SourceError::Shared)
    }

    /// Memory for it.
    fn voxels(&mut self) -> Result<Vec<T>, SourceError> {
        if let Some(spare) = self.spare.take() {
            return Ok(spare);
        }
        let (mut voxels, count) = (Vec::new(), self.kept.chunk_voxels);
        voxels.try_reserve_exact(count).map_err(|error| SourceError::Other(Box::new(error)))?;
        voxels.resize(count, T::zeroed());
        Ok(voxels)
    }

    fn settle(&mut self, outcome: Outcome<T>) {
        self.done = true;
        let mut state = self.kept.lock();
        state.decoding.remove(&self.chunk);
        state.used_bytes -= self.kept.chunk_bytes();
        if let Ok(decoded) = &outcome {
            state.used_bytes += self.kept.bytes_of(decoded);
            state.kept.put(self.chunk, decoded.clone());
        }
        drop(state);
        self.flight.land(outcome);
    }
}

impl<T: Voxel> Drop for Claimed<'_, T> {
    fn drop(&mut self) {
        if !self.done {
            self.settle(Err(Arc::new(ended_early())));
        }
    }
}
