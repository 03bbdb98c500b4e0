//! Owns the lock between those who want and those who load: [`Desk`]. Looks tiles up, and makes requests.
//!
//! The lock is held for plain bookkeeping alone; whatever may wait is called without it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::array::{Handle, no_such_tile};
use crate::backend::Backend;
use crate::engine::{ArrayShared, Engine, Room};
use crate::error::{Error, ResidencyError, SourceError};
use crate::layout::{TileCoord, TileId};

#[cfg(feature = "render")]
use super::changes::Changes;
use super::judge::judge;
use super::options::StreamOptions;
use super::queue::TileKey;
use super::schedule::{Ended, Found, Schedule, Shape};
use super::status::{StreamLimit, StreamStatus};
use super::under_way::Batch;
use super::want::{Enrolled, Want};

/// How long a thread sleeps before it looks whether there is room again: the end of a pin or a frame tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An enrolled array, which is its owner's to drop.
#[derive(Debug)]
struct Member<B: Backend> {
    /// To look at: does not keep the array in its pool.
    shared: Weak<ArrayShared<B>>,
    /// To make requests with.
    handle: Weak<Handle<B>>,
}

#[derive(Debug)]
pub(super) struct State<B: Backend> {
    pub(super) schedule: Schedule,
    /// When what is wanted and resident was last stamped, all of it: from then on it is the last to go.
    keep_since: u64,
    members: HashMap<u32, Member<B>>,
}

/// What the threads and the callers of a streamer share.
#[derive(Debug)]
pub(super) struct Desk<B: Backend> {
    engine: Arc<Engine<B>>,
    state: Mutex<State<B>>,
    changed: Condvar,
    /// Set once, when the streamer goes: no request is begun any more, and none goes on waiting for frames.
    stop: AtomicBool,
}

/// A want that was looked up.
struct Looked {
    want: Want,
    key: TileKey,
    found: Found,
}

/// The arrays that wants are of, for as long as these are taken in.
type Arrays<B> = HashMap<u32, Arc<ArrayShared<B>>>;

impl<B: Backend> Desk<B> {
    pub(super) fn new(engine: Arc<Engine<B>>, options: StreamOptions) -> Self {
        let schedule = Schedule::new(options, engine.room());
        let state = Mutex::new(State { schedule, keep_since: u64::MAX, members: HashMap::new() });
        Self { engine, state, changed: Condvar::new(), stop: AtomicBool::new(false) }
    }

    pub(super) fn pool(&self) -> u64 {
        self.engine.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the threads, and who waits for them to be idle, that something has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    pub(super) fn enrol(&self, handle: &Arc<Handle<B>>) -> Enrolled {
        let shared = handle.shared();
        let layout = &shared.layout;
        let shape = Shape {
            page_shift: layout.tiles_per_page().trailing_zeros(),
            page_bytes: layout.page_bytes(),
            tile_bytes: layout.tile_bytes(),
        };
        let mut state = self.lock();
        state.schedule.enrol(shared.id, shape);
        let member = Member { shared: Arc::downgrade(shared), handle: Arc::downgrade(handle) };
        state.members.insert(shared.id, member);
        Enrolled { pool: self.pool(), array: shared.id }
    }

    #[cfg(feature = "render")]
    pub(super) fn changes(&self) -> Changes<B> {
        Changes::new(self.engine.clone())
    }

    pub(super) fn withdraw(&self, array: Enrolled) {
        if array.pool == self.pool() {
            let mut state = self.lock();
            state.members.remove(&array.array);
            state.schedule.forget(array.array);
        }
        self.notify();
    }

    /// Takes wants in: all, or none where one of them is wrong. `only`: nothing else is wanted from now on.
    ///
    /// # Errors
    /// [`ResidencyError::NotEnrolled`], [`ResidencyError::OutOfBounds`].
    pub(super) fn want(&self, wants: impl Iterator<Item = Want>, only: bool) -> Result<(), Error> {
        let (looked, arrays) = self.look_up(wants)?;
        let now = Instant::now();
        // Before any of them is stamped.
        let since = only.then(|| self.engine.time());
        // In the order of the arrays, so that the same wants leave the same stamps.
        let mut to_touch: BTreeMap<u32, Vec<TileId>> = BTreeMap::new();
        {
            let mut state = self.lock();
            if only {
                state.schedule.advance();
            }
            for Looked { want, key, found } in &looked {
                state.schedule.want(*key, want.priority, *found, now);
            }
            if let Some(since) = since {
                state.schedule.drop_old();
                state.keep_since = since;
            }
            for Looked { key, found, .. } in &looked {
                if *found == Found::Resident && state.schedule.has_share(*key) {
                    to_touch.entry(key.array).or_default().push(key.tile);
                }
            }
        }
        let mut gone = HashSet::new();
        for (id, tiles) in to_touch {
            let missed = arrays.get(&id).map(|array| self.engine.touch(array, &tiles)).unwrap_or_default();
            gone.extend(missed.into_iter().map(|tile| TileKey { array: id, tile }));
        }
        if !gone.is_empty() {
            // Evicted since it was looked up.
            let mut state = self.lock();
            for Looked { want, key, .. } in looked.iter().filter(|l| gone.contains(&l.key)) {
                state.schedule.want(*key, want.priority, Found::Missing, now);
            }
        }
        self.notify();
        Ok(())
    }

    /// Looks the tiles up, without any lock but to find their arrays.
    fn look_up(&self, wants: impl Iterator<Item = Want>) -> Result<(Vec<Looked>, Arrays<B>), Error> {
        let mut arrays = Arrays::<B>::new();
        let mut looked = Vec::with_capacity(wants.size_hint().0.min(1 << 16));
        for want in wants {
            let id = want.array.array;
            let array = match arrays.get(&id) {
                Some(array) if want.array.pool == self.pool() => array,
                _ => arrays.entry(id).or_insert(self.shared_of(want.array)?),
            };
            let Some(tile) = array.layout.tile_id(want.tile) else {
                return Err(no_such_tile(&array.layout, want.tile));
            };
            let found = if array.planes.is_resident(tile) {
                Found::Resident
            } else if array.planes.is_uniform(tile) {
                Found::Uniform
            } else {
                Found::Missing
            };
            looked.push(Looked { want, key: TileKey { array: id, tile }, found });
        }
        Ok((looked, arrays))
    }

    fn shared_of(&self, array: Enrolled) -> Result<Arc<ArrayShared<B>>, Error> {
        let member = (array.pool == self.pool())
            .then(|| self.lock().members.get(&array.array).and_then(|member| member.shared.upgrade()));
        member.flatten().ok_or_else(|| ResidencyError::NotEnrolled.into())
    }

    pub(super) fn status(&self) -> StreamStatus {
        let (room, now) = (self.engine.room(), Instant::now());
        self.lock().schedule.status(room, now)
    }

    pub(super) fn under_way(&self) -> Vec<(Enrolled, TileCoord)> {
        let keys = self.lock().schedule.under_way_tiles();
        let mut arrays = Arrays::<B>::new();
        let mut tiles = Vec::with_capacity(keys.len());
        for key in keys {
            let enrolled = Enrolled { pool: self.pool(), array: key.array };
            if !arrays.contains_key(&key.array)
                && let Ok(array) = self.shared_of(enrolled)
            {
                arrays.insert(key.array, array);
            }
            let tile = arrays.get(&key.array).and_then(|array| array.layout.tile_coord(key.tile));
            tiles.extend(tile.map(|tile| (enrolled, tile)));
        }
        tiles
    }

    /// Requests the most urgent tiles, on this thread; `false`: there is nothing that may be requested now.
    pub(super) fn step(&self) -> bool {
        let room = self.engine.room();
        let next = self.lock().schedule.next(room, Instant::now());
        next.map(|batch| self.carry_out(&batch, room)).is_ok()
    }

    /// What a thread does until the streamer goes.
    pub(super) fn work(&self) {
        while !self.is_stopped() {
            let room = self.engine.room();
            let mut state = self.lock();
            if self.is_stopped() {
                return;
            }
            match state.schedule.next(room, Instant::now()) {
                Ok(batch) => {
                    drop(state);
                    self.carry_out(&batch, room);
                }
                Err(StreamLimit::Budget | StreamLimit::Frames) => {
                    drop(self.changed.wait_timeout(state, LOOK_AGAIN));
                }
                Err(_) => drop(self.changed.wait(state)),
            }
        }
    }

    /// Has the threads end once their requests have.
    pub(super) fn stop(&self) {
        // Under the lock: a thread that is about to sleep has looked before, or is woken.
        let mut state = self.lock();
        self.stop.store(true, Ordering::Release);
        state.schedule.flush();
        drop(state);
        self.notify();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits until nothing is queued or under way; `false`: something still was at `until`.
    pub(super) fn wait_idle(&self, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        while !state.schedule.is_idle() {
            let left = until.map_or(Some(LOOK_AGAIN), |until| until.checked_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { return false };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn carry_out(&self, batch: &Batch, room: Room) {
        let handle = self.lock().members.get(&batch.array).and_then(|member| member.handle.upgrade());
        let Some(handle) = handle else {
            let mut state = self.lock();
            state.members.remove(&batch.array);
            state.schedule.end(batch, Ended::Gone, |_| false, Instant::now());
            drop(state);
            return self.notify();
        };
        let ended = self.request(&handle, batch, room);
        let planes = &handle.shared().planes;
        let there = |tile| planes.is_resident(tile) || planes.is_uniform(tile);
        self.lock().schedule.end(batch, ended, there, Instant::now());
        // Where the array's owner has dropped it meanwhile, it goes here, and its source with it.
        let _ = quietly(|| drop(handle));
        self.notify();
    }

    /// Makes the request and judges how it ended.
    fn request(&self, handle: &Handle<B>, batch: &Batch, room: Room) -> Ended {
        let array = handle.shared();
        let enrolled = Enrolled { pool: self.pool(), array: batch.array };
        let keep_since = self.lock().keep_since;
        // Sources that panic are the engine's to catch; but a thread that ended here would leave its tiles under way for ever.
        let result = quietly(|| self.engine.request_until(array, &batch.tiles, &self.stop, keep_since));
        let result = result.unwrap_or_else(|| {
            Err(SourceError::Panicked { message: "while tiles were requested".into() }.into())
        });
        judge(array, enrolled, batch, result, room)
    }
}

/// Runs it; `None` if it panics.
fn quietly<R>(work: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(work));
    // What was thrown may panic again when it is dropped.
    result.map_err(std::mem::forget).ok()
}
