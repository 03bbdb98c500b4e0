//! Owns the main path: request -> plan -> apply -> load -> publish. Start reading at [`request`].
//!
//! ```text
//! request.rs   the main path, step by step
//! claim.rs     under the lock: who loads what, whose memory goes     (policy: crate::residency)
//! apply.rs     under the VMM lock: unmap, map, set access, and the undo of all of it
//! load.rs      in parallel: ask the source for each tile
//! evict.rs     the other ways out: evict, shrink, drop an array
//! frame.rs     when memory may go
//! ```
//!
//! Two locks: `state` (what is where; short) and `vmm` (mapping calls; one thread at a time). Neither is ever held while the other is taken, across a
//! call of a source, or while anything is waited for. A third right, `stamping` of the frame clock, is taken for one pass over a batch; nothing is taken under it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64 as StdAtomicU64, Ordering as StdOrdering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::backend::Backend;
use crate::error::{Error, ResidencyError, SourceError};
use crate::layout::{Layout, PageId, TileCoord, TileId};
use crate::offsets::AxisOffsets;
use crate::page_table::PageTable;
use crate::planes::Planes;
use crate::residency::{PageKey, Residency};
use crate::stats::{Counters, Stats};

mod apply;
mod claim;
mod evict;
mod frame;
mod load;
mod ranges;
mod request;
mod typed;
mod waiting;
mod workers;

pub(crate) use ranges::cell_ranges;
pub use request::{Loaded, Report, TileFailure};
pub(crate) use typed::{BytesSource, RangeFn, Typed};
pub(crate) use waiting::OpenFrame;

use frame::{Epoch, FrameClock};
use waiting::Change;
use workers::Workers;

/// What the engine keeps of one array. Shared by everyone who works on it.
#[derive(Debug)]
pub(crate) struct ArrayShared<B: Backend> {
    pub(crate) id: u32,
    pub(crate) layout: Layout,
    pub(crate) offsets: AxisOffsets,
    pub(crate) planes: Planes,
    pub(crate) reservation: B::Reservation,
    pub(crate) source: Box<dyn BytesSource>,
    poisoned: OnceLock<String>,
}

impl<B: Backend> ArrayShared<B> {
    fn key(&self, page: PageId) -> PageKey {
        PageKey { array: self.id, page }
    }

    fn stamp_of(&self, page: PageId) -> u64 {
        self.planes.stamp(page).load(crate::sync::Ordering::Relaxed)
    }

    /// # Errors
    /// [`ResidencyError::Poisoned`] after an undo that failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.poisoned
            .get()
            .map_or(Ok(()), |cause| Err(ResidencyError::Poisoned { cause: cause.clone() }.into()))
    }

    /// The tile's name in errors: tiles that the engine speaks of are tiles of the array.
    fn coord(&self, tile: TileId) -> TileCoord {
        self.layout.tile_coord(tile).unwrap_or_default()
    }
}

/// How the load of one tile ended.
type Outcome = Result<(), Arc<SourceError>>;

/// One tile on its way, for everyone who waits for it.
#[derive(Debug)]
struct Loading {
    /// `None`: whoever claimed the tile gave it up before its source was asked. Whoever still wants it may claim it.
    outcome: OnceLock<Option<Outcome>>,
    /// Frames up to here have to end before the load begins (the first epoch: none).
    retired: Epoch,
}

/// What is where, under one lock.
#[derive(Debug)]
struct State<B: Backend> {
    residency: Residency,
    arrays: HashMap<u32, (Arc<ArrayShared<B>>, PageTable)>,
    next_array: u32,
    loading: HashMap<(u32, TileId), Arc<Loading>>,
    /// Pages that some batch is giving memory to, once the frames up to an epoch have ended.
    committing: HashMap<PageKey, Epoch>,
    /// Pages that some batch is taking memory from, once the frames up to an epoch have ended.
    evicting: HashMap<PageKey, Epoch>,
    changes: Change,
}

/// Physical pages that wait to be mapped, by size. Its lock is the right to make mapping calls.
#[derive(Debug)]
struct Vmm<B: Backend> {
    idle: HashMap<u64, Vec<B::Page>>,
}

/// The engine of one pool.
#[derive(Debug)]
pub(crate) struct Engine<B: Backend> {
    pub(crate) id: u64,
    pub(crate) backend: B,
    pub(crate) counters: Counters,
    clock: FrameClock,
    state: Mutex<State<B>>,
    changed: Condvar,
    vmm: Mutex<Vmm<B>>,
    workers: Workers,
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
        let state = State {
            residency: Residency::new(config.budget_bytes),
            arrays: HashMap::new(),
            next_array: 0,
            loading: HashMap::new(),
            committing: HashMap::new(),
            evicting: HashMap::new(),
            changes: Change::default(),
        };
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, StdOrdering::Relaxed),
            backend,
            counters: Counters::default(),
            clock: FrameClock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            vmm: Mutex::new(Vmm { idle: HashMap::new() }),
            workers: Workers::new(config.threads)?,
            patience: config.patience,
        }))
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

    /// Bytes of the budget that pins do not hold.
    pub(crate) fn unpinned_budget(&self) -> u64 {
        let state = self.lock();
        state.residency.budget().saturating_sub(state.residency.pinned())
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats { open_frames: self.clock.open_frames(), ..Stats::default() };
        self.counters.fill(&mut stats);
        let state = self.lock();
        stats.budget_bytes = state.residency.budget();
        stats.used_bytes = state.residency.used();
        stats.pinned_bytes = state.residency.pinned();
        for (_, table) in state.arrays.values() {
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
        source: Box<dyn BytesSource>,
    ) -> ArrayShared<B> {
        let offsets = AxisOffsets::new(&layout);
        ArrayShared { id, layout, offsets, planes, reservation, source, poisoned: OnceLock::new() }
    }

    /// Reserves the array's address space and takes it in.
    ///
    /// # Errors
    /// The backend's refusal.
    pub(crate) fn open_array(
        &self,
        layout: Layout,
        planes: Planes,
        source: Box<dyn BytesSource>,
    ) -> Result<Arc<ArrayShared<B>>, Error> {
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
        let reservation = self.backend.reserve(spec)?;
        self.add_array(|id| Ok(Self::new_array(id, layout, planes, reservation, source)))
    }
}

impl<B: Backend> State<B> {
    fn table(&self, array: u32) -> Option<&PageTable> {
        self.arrays.get(&array).map(|(_, table)| table)
    }

    fn array_of(&self, key: PageKey) -> Option<&Arc<ArrayShared<B>>> {
        self.arrays.get(&key.array).map(|(array, _)| array)
    }

    fn stamp_of(&self, key: PageKey) -> u64 {
        self.array_of(key).map_or(0, |array| array.stamp_of(key.page))
    }
}
