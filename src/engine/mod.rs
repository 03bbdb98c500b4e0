//! Owns the main path: request -> plan -> apply -> load -> publish. Start reading at [`request`].
//!
//! ```text
//! request.rs   the main path, step by step; what it tells report.rs, how it waits for room room.rs
//! claim.rs     under the lock: who loads what, whose memory goes     (policy: crate::residency)
//! changing.rs  which pages others are giving memory, taking it or copying at the moment
//! apply.rs     under the VMM lock: unmap, map, set access, and the undo of all of it
//! loading.rs   which tiles are on their way, for those who wait for one
//! load.rs      in parallel: ask the source for each tile
//! written.rs   what was written to tiles, on its way out of memory and back
//! own.rs       copying on write: memory of its own for a page that shares it
//! fork.rs      a second array with the contents of one
//! evict.rs     the other ways out: evict, shrink, drop an array
//! edit.rs      what a writer does to tiles as a whole
//! prune.rs     tiles that are made blank, or found to hold one value, or given back to their source
//! frame.rs     when memory may go
//! drain.rs     frames that kernels still read in
//! journal.rs   what became of which tile, for whoever follows
//! ```
//!
//! Two locks: `state` (what is where; short) and `vmm` (mapping calls; one thread at a time). Neither is ever held while the other is taken, across a
//! call of a source, or while anything is waited for. A third right, `stamping` of the frame clock, is taken for one pass over a batch; nothing is taken under it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64 as StdAtomicU64, Ordering as StdOrdering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use foldhash::{HashMap, HashSet};

use crate::backend::Backend;
use crate::error::{Error, ResidencyError, SourceError};
use crate::layout::{Layout, PageId, TileCoord, TileId};
use crate::offsets::AxisOffsets;
use crate::page_table::PageTable;
use crate::planes::Planes;
use crate::recall::RecallMap;
use crate::residency::{PageKey, Residency, Stamps};
use crate::stats::{Counters, Stats};

mod apply;
mod changing;
mod claim;
mod drain;
mod edit;
mod evict;
mod fork;
mod frame;
mod journal;
mod load;
mod loading;
mod own;
mod prune;
mod ranges;
mod report;
mod request;
mod room;
mod typed;
mod waiting;
mod workers;
mod written;

pub(crate) use drain::FrameEnd;
pub(crate) use journal::Became;
#[cfg(feature = "render")]
pub(crate) use journal::Follower;
pub(crate) use ranges::Tracking;
pub use report::{Loaded, Report, TileFailure};
pub(crate) use request::Purpose;
pub(crate) use typed::{BytesSource, Typed};
pub(crate) use waiting::{OpenFrame, is_loading};
pub(crate) use written::{Kept, Written};

use changing::Evictions;
use drain::Draining;
use frame::FrameClock;
use journal::{Entry, Journal};
use loading::Loading;
use waiting::Change;
use workers::Workers;

/// What the engine keeps of one array. Shared by everyone who works on it.
pub(crate) struct ArrayShared<B: Backend> {
    pub(crate) id: u32,
    pub(crate) layout: Layout,
    pub(crate) offsets: AxisOffsets,
    pub(crate) planes: Planes,
    pub(crate) reservation: B::Reservation,
    pub(crate) source: Arc<dyn BytesSource>,
    /// Where what is written to its tiles goes when they lose their memory; `None`: nobody may write to it.
    pub(crate) written: Option<Written>,
    /// What the backend's own side keeps of the array, such as a copy of its bits for kernels.
    pub(crate) attached: OnceLock<Arc<dyn Any + Send + Sync>>,
    poisoned: OnceLock<String>,
}

impl<B: Backend> fmt::Debug for ArrayShared<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayShared")
            .field("id", &self.id)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> ArrayShared<B> {
    fn key(&self, page: PageId) -> PageKey {
        PageKey { array: self.id, page }
    }

    fn stamp_of(&self, page: PageId) -> u64 {
        self.planes.stamp(page).load(crate::sync::Ordering::Relaxed)
    }

    /// Gives the memory of bits and stamps back that nothing has been known by for a while. Called under the state lock, which all that writes to them holds, or holds a page with memory.
    fn forget_emptied(&self, table: &mut PageTable) {
        while let Some(tiles) = table.take_emptied(self.planes.fewest_forgotten()) {
            self.planes.forget(tiles);
        }
    }

    /// # Errors
    /// [`ResidencyError::Poisoned`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.poisoned
            .get()
            .map_or(Ok(()), |cause| Err(ResidencyError::Poisoned { cause: cause.clone() }.into()))
    }

    /// From now on the array answers nothing but this error. The first cause is the one that is kept.
    fn poison(&self, error: &crate::BackendError) {
        tracing::error!(%error, array = self.id, "the array is poisoned");
        let _ = self.poisoned.set(error.to_string());
    }

    /// Whether anybody may write to it.
    pub(crate) fn is_writable(&self) -> bool {
        self.written.is_some()
    }

    /// The tile's name in errors: tiles that the engine speaks of are tiles of the array.
    fn coord(&self, tile: TileId) -> TileCoord {
        self.layout.tile_coord(tile).unwrap_or_default()
    }
}

/// How the load of one tile ended.
type Outcome = Result<(), Arc<SourceError>>;

/// All arrays of a pool, and what the planner knows of each.
type Arrays<B> = RecallMap<u32, (Arc<ArrayShared<B>>, PageTable)>;

/// The stamps of all pages.
struct StampsOf<'s, B: Backend>(&'s Arrays<B>);

impl<B: Backend> Stamps for StampsOf<'_, B> {
    fn of(&self, key: PageKey) -> u64 {
        self.0.get(key.array).map_or(0, |(array, _)| array.stamp_of(key.page))
    }

    fn prefetch(&self, key: PageKey) {
        if let Some((array, _)) = self.0.get(key.array) {
            array.planes.prefetch_stamp(key.page);
        }
    }
}

/// What is where, under one lock.
#[derive(Debug)]
struct State<B: Backend> {
    residency: Residency,
    arrays: Arrays<B>,
    next_array: u32,
    /// Claims whose tiles are being loaded: a few for each thread that makes requests.
    loading: Vec<Arc<Loading>>,
    evictions: Evictions,
    /// Pages that are being shared, or copied to memory of their own.
    copying: HashSet<PageKey>,
    /// Which page has which memory, where the backend numbers memory: as far as known, a preference only.
    holders: HashMap<u64, PageKey>,
    journal: Journal,
    changes: Change,
    /// Threads that wait for a change.
    waiting: u32,
}

/// Physical pages that wait to be mapped, by size. Its lock is the right to make mapping calls.
#[derive(Debug)]
struct Vmm<B: Backend> {
    idle: BTreeMap<u64, Vec<B::Page>>,
}

/// What decides how much room a pool has, at one moment: where it is as it was, a request that was refused will be refused again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) budget_bytes: u64,
    pub(crate) pinned_bytes: u64,
    /// When the oldest open frame was opened.
    pub(crate) oldest_frame: u64,
}

/// The engine of one pool.
#[derive(Debug)]
pub(crate) struct Engine<B: Backend> {
    pub(crate) id: u64,
    pub(crate) backend: B,
    pub(crate) counters: Counters,
    /// Bytes of pages that writers hold between one write and the next.
    kept_open: StdAtomicU64,
    clock: FrameClock,
    draining: Draining,
    state: Mutex<State<B>>,
    changed: Condvar,
    vmm: Mutex<Vmm<B>>,
    workers: Workers,
    /// Whether the backend copies by itself.
    asynchronous: bool,
    patience: Duration,
}

/// What an engine is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineConfig {
    pub(crate) budget_bytes: u64,
    pub(crate) threads: usize,
    pub(crate) patience: Duration,
}

impl<B: Backend> Engine<B> {
    /// # Errors
    /// The system's refusal to start the loading threads.
    pub(crate) fn new(backend: B, config: EngineConfig) -> Result<Arc<Self>, Error> {
        static NEXT: StdAtomicU64 = StdAtomicU64::new(0);
        let asynchronous = backend.caps().asynchronous;
        let state = State {
            residency: Residency::new(config.budget_bytes),
            arrays: RecallMap::default(),
            next_array: 0,
            loading: Vec::new(),
            evictions: Evictions::default(),
            copying: HashSet::default(),
            holders: HashMap::default(),
            journal: Journal::default(),
            changes: Change::default(),
            waiting: 0,
        };
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, StdOrdering::Relaxed),
            backend,
            counters: Counters::default(),
            kept_open: StdAtomicU64::new(0),
            clock: FrameClock::new(),
            draining: Draining::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            vmm: Mutex::new(Vmm { idle: BTreeMap::new() }),
            workers: Workers::new(config.threads, asynchronous)?,
            asynchronous,
            patience: config.patience,
        }))
    }

    /// Begins to note which bits of the array change, everything that is set now included.
    pub(crate) fn watch(&self, array: &ArrayShared<B>) {
        let state = self.lock();
        if let Some(table) = state.table(array.id) {
            array.planes.watch(table.groups());
        }
    }

    /// Makes up to `pages` physical pages ahead of need, as far as the budget has room for them, and says how many.
    ///
    /// # Errors
    /// The backend's refusal; what was made before it stays.
    pub(crate) fn preallocate(&self, page_bytes: u64, pages: u64) -> Result<u64, Error> {
        let room = {
            let mut state = self.lock();
            let room = pages.min(state.residency.room() / page_bytes);
            state.residency.set_aside(room * page_bytes);
            room
        };
        let mut made = 0;
        let mut outcome = Ok(());
        {
            let mut vmm = self.lock_vmm();
            let idle = vmm.idle.entry(page_bytes).or_default();
            while made < room {
                match self.backend.create(page_bytes) {
                    Ok(page) => idle.push(page),
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
                made += 1;
            }
        }
        let mut state = self.lock();
        state.residency.give_back(room * page_bytes);
        (0..made).for_each(|_| state.residency.add_idle(page_bytes));
        self.notify(state);
        outcome.map(|()| made).map_err(Error::from)
    }

    /// Takes an array in. Its `id` is given to `make`.
    pub(crate) fn add_array(
        &self,
        make: impl FnOnce(u32) -> Result<ArrayShared<B>, Error>,
    ) -> Result<Arc<ArrayShared<B>>, Error> {
        let id = {
            let mut state = self.lock();
            state.next_array += 1;
            state.next_array
        };
        let array = Arc::new(make(id)?);
        let table = PageTable::new(array.layout.tiles_per_page());
        self.lock().arrays.insert(id, (array.clone(), table));
        Ok(array)
    }

    pub(crate) fn budget(&self) -> u64 {
        self.lock().residency.budget()
    }

    /// The budget, what pins hold of it, and the oldest open frame.
    pub(crate) fn room(&self) -> Room {
        let oldest_frame = self.oldest_frame();
        let state = self.lock();
        let (budget_bytes, pinned_bytes) = (state.residency.budget(), state.residency.pinned());
        Room { budget_bytes, pinned_bytes, oldest_frame }
    }

    /// Bytes of the budget that neither pins hold nor writers between one write and the next.
    pub(crate) fn unpinned_budget(&self) -> u64 {
        let state = self.lock();
        let taken = state.residency.pinned() + self.kept_open.load(StdOrdering::Relaxed);
        state.residency.budget().saturating_sub(taken)
    }

    /// A writer holds so many bytes of pages from now on, until it is done with them.
    pub(crate) fn keep_open(&self, bytes: u64) {
        self.kept_open.fetch_add(bytes, StdOrdering::Relaxed);
    }

    /// It holds so many fewer.
    pub(crate) fn keep_open_no_more(&self, bytes: u64) {
        self.kept_open.fetch_sub(bytes, StdOrdering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.reap();
        let mut stats = Stats { open_frames: self.clock.open_frames(), ..Stats::default() };
        self.counters.fill(&mut stats);
        let state = self.lock();
        stats.budget_bytes = state.residency.budget();
        stats.used_bytes = state.residency.used();
        stats.pinned_bytes = state.residency.pinned();
        for (array, table) in state.arrays.values() {
            stats.dirty_tiles += table.dirty_tiles();
            stats.dirty_bytes += table.dirty_pages() * array.layout.page_bytes();
            stats.mapped_pages += table.mapped_pages();
            stats.resident_tiles += table.resident_tiles();
            stats.uniform_tiles += table.uniform_tiles();
        }
        stats
    }

    /// The array's resident tiles in memory order, at this moment.
    pub(crate) fn resident_tiles(&self, array: &ArrayShared<B>) -> Vec<TileCoord> {
        let state = self.lock();
        state
            .table(array.id)
            .map(|table| table.resident().filter_map(|t| array.layout.tile_coord(t)).collect())
            .unwrap_or_default()
    }

    /// The state. A panic while it was held is a bug of this crate, but no reason to bring other threads down.
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_vmm(&self) -> MutexGuard<'_, Vmm<B>> {
        self.vmm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_array(
        id: u32,
        layout: Layout,
        planes: Planes,
        reservation: B::Reservation,
        source: Arc<dyn BytesSource>,
        written: Option<Written>,
    ) -> ArrayShared<B> {
        let offsets = AxisOffsets::new(&layout);
        let (attached, poisoned) = (OnceLock::new(), OnceLock::new());
        ArrayShared { id, layout, offsets, planes, reservation, source, written, attached, poisoned }
    }

    /// Reserves address space for an array.
    ///
    /// # Errors
    /// [`ResidencyError::BudgetBelowPage`], the backend's refusal.
    fn reserve(&self, layout: &Layout) -> Result<B::Reservation, Error> {
        let page_bytes = layout.page_bytes();
        let budget_bytes = self.budget();
        if page_bytes > budget_bytes {
            return Err(ResidencyError::BudgetBelowPage { budget_bytes, page_bytes }.into());
        }
        let spec = crate::backend::ReserveSpec {
            bytes: layout.reserved_bytes(),
            page_bytes,
            expected_pages: (budget_bytes / page_bytes).min(layout.page_count()),
        };
        Ok(self.backend.reserve(spec)?)
    }

    /// Reserves the array's address space and takes it in.
    ///
    /// # Errors
    /// The backend's refusal.
    pub(crate) fn open_array(
        &self,
        layout: Layout,
        planes: Planes,
        source: Arc<dyn BytesSource>,
        written: Option<Written>,
    ) -> Result<Arc<ArrayShared<B>>, Error> {
        let reservation = self.reserve(&layout)?;
        self.add_array(|id| Ok(Self::new_array(id, layout, planes, reservation, source, written)))
    }
}

impl<B: Backend> State<B> {
    fn table(&self, array: u32) -> Option<&PageTable> {
        self.arrays.get(array).map(|(_, table)| table)
    }

    fn array_of(&self, key: PageKey) -> Option<&Arc<ArrayShared<B>>> {
        self.arrays.get(key.array).map(|(array, _)| array)
    }

    fn stamp_of(&self, key: PageKey) -> u64 {
        StampsOf(&self.arrays).of(key)
    }
}
