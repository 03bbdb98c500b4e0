//! Owns what arrays share: [`Pool`], the byte budget and the loading threads behind it, and [`Frame`], a span of reading.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::array::SparseArray3D;
use crate::backend::{Backend, HostAddressable};
use crate::engine::{Engine, EngineConfig, OpenFrame};
use crate::error::{BackendError, Error, ResidencyError};
use crate::stats::Stats;
use crate::view::View;
use crate::voxel::Voxel;

/// A byte budget of physical pages that several arrays share, and the threads that load their tiles. Cheap to clone: clones are the same pool.
///
/// ```
/// use vastgrid::{HostBackend, Pool};
///
/// let pool = Pool::new(HostBackend::new(), 256 << 20)?;
/// assert_eq!(pool.stats().used_bytes, 0);
/// pool.set_budget(64 << 20)?;
/// # Ok::<_, vastgrid::Error>(())
/// ```
pub struct Pool<B: Backend> {
    engine: Arc<Engine<B>>,
}

impl<B: Backend> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone() }
    }
}

/// What a pool is made with: every knob, with its unit and default.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Bytes of physical pages that all arrays together may hold; an array whose page is larger cannot be built. Default: 256 MiB.
    pub budget_bytes: u64,
    /// Threads that load tiles, besides the one that asks; at most 1024. Default: 0, one for each processor (or as `RAYON_NUM_THREADS` says), less one for the thread that asks where
    /// copies go by themselves: that thread then makes mapping calls while the others decode.
    pub threads: usize,
    /// What becomes of a budget that is more than the device has free. Default: it is refused. Backends that cannot tell take any.
    pub beyond_memory: BeyondMemory,
    /// The most that a call waits for other threads' frames and requests before it gives up with an error. Default: 10 s.
    pub patience: Duration,
}

/// What becomes of a budget that is more than the device has free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BeyondMemory {
    /// [`ResidencyError::BudgetBeyondMemory`].
    #[default]
    Refuse,
    /// It becomes what the device has free, less a sixty-fourth for others.
    Clamp,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            budget_bytes: 256 << 20,
            threads: 0,
            beyond_memory: BeyondMemory::default(),
            patience: Duration::from_secs(10),
        }
    }
}

impl<B: Backend> Pool<B> {
    /// A pool of `budget_bytes` on `backend`, other things as in [`PoolConfig::default`].
    ///
    /// # Errors
    /// [`Error::Backend`]: the loading threads could not be started.
    pub fn new(backend: B, budget_bytes: u64) -> Result<Self, Error> {
        Self::with_config(backend, PoolConfig { budget_bytes, ..PoolConfig::default() })
    }

    /// A pool as configured.
    ///
    /// # Errors
    /// [`Error::Backend`]: the loading threads could not be started. [`ResidencyError::BudgetBeyondMemory`].
    pub fn with_config(backend: B, config: PoolConfig) -> Result<Self, Error> {
        let PoolConfig { mut budget_bytes, threads, beyond_memory, patience } = config;
        if let Some(available_bytes) = backend.available_bytes()?
            && budget_bytes > available_bytes
        {
            match beyond_memory {
                BeyondMemory::Refuse => {
                    return Err(ResidencyError::BudgetBeyondMemory { budget_bytes, available_bytes }.into());
                }
                BeyondMemory::Clamp => budget_bytes = available_bytes - available_bytes / 64,
            }
        }
        let threads = match threads {
            0 if backend.caps().asynchronous && std::env::var_os("RAYON_NUM_THREADS").is_none() => {
                std::thread::available_parallelism().map_or(1, |all| all.get() - 1).max(1)
            }
            threads => threads.min(1024),
        };
        Ok(Self { engine: Engine::new(backend, EngineConfig { budget_bytes, threads, patience })? })
    }

    /// The backend, for its own statistics.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.engine.backend
    }

    /// What the pool did and holds. **Cost**: a short lock.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Changes the budget, live. Where it shrinks, the least recently used pages are evicted and their memory is given back to the system before this returns.
    ///
    /// # Errors
    /// [`ResidencyError::BudgetBelowPage`], [`ResidencyError::BudgetBeyondMemory`], [`ResidencyError::NothingToEvict`] where pins hold more than that, [`ResidencyError::FramesOpen`] where frames do not
    /// end in time, or the backend's failure. The budget is as before then.
    pub fn set_budget(&self, bytes: u64) -> Result<(), Error> {
        let stats = self.stats();
        if bytes > stats.budget_bytes
            && let Some(free_bytes) = self.backend().available_bytes()?
        {
            let available_bytes = free_bytes.saturating_add(stats.used_bytes);
            if bytes > available_bytes {
                return Err(
                    ResidencyError::BudgetBeyondMemory { budget_bytes: bytes, available_bytes }.into()
                );
            }
        }
        self.engine.set_budget(bytes)
    }

    /// Makes up to `pages` physical pages of `page_bytes` ahead of need, as far as the budget has room for them, and says how many: the first requests then need not make
    /// them. They count as used, and give way to whatever else needs the room.
    ///
    /// # Errors
    /// The backend's refusal; the pages that were made before it stay.
    pub fn preallocate(&self, page_bytes: u64, pages: u64) -> Result<u64, Error> {
        if page_bytes == 0 {
            return Err(BackendError::ZeroSize { call: "preallocate" }.into());
        }
        self.engine.preallocate(page_bytes, pages)
    }

    /// Gives the memory of physical pages that wait for reuse back to the system.
    ///
    /// # Errors
    /// The backend's failure.
    pub fn trim(&self) -> Result<(), Error> {
        self.engine.trim()
    }

    /// Opens a frame: until it is dropped, memory that it may read is not unmapped.
    ///
    /// **Cost**: tens of nanoseconds; no lock, no system call.
    #[must_use]
    pub fn frame(&self) -> Frame<'_, B> {
        Frame { open: OpenFrame::new(&self.engine) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine<B>> {
        &self.engine
    }
}

impl<B: Backend> fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("backend", &self.engine.backend).field("stats", &self.stats()).finish()
    }
}

/// A span of reading all arrays of a pool: no page that was readable when it began, or becomes readable meanwhile, loses its memory before it ends.
///
/// Tiles asked for while a frame is open stay readable until it ends; others may become invisible, but their memory stays too. Open frames short:
/// a request that finds no memory but by evicting has to wait for frames that began before it, and is refused
/// ([`ResidencyError::FramesOpen`]) where one of them is its own thread's. To keep tiles for longer, pin them.
///
/// Share it between threads by reference. It ends on the thread that opened it:
///
/// ```compile_fail,E0277
/// # use vastgrid::{HostBackend, Pool};
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let frame = pool.frame();
/// std::thread::scope(|s| { s.spawn(move || drop(frame)); });
/// # Ok::<_, vastgrid::Error>(())
/// ```
#[derive(Debug)]
pub struct Frame<'p, B: Backend> {
    open: OpenFrame<'p, B>,
}

impl<B: HostAddressable> Frame<'_, B> {
    /// What the frame shows of an array.
    ///
    /// # Errors
    /// [`ResidencyError::ForeignArray`]: the array is of another pool. [`ResidencyError::Poisoned`].
    pub fn view<'a, T: Voxel>(&'a self, array: &'a SparseArray3D<T, B>) -> Result<View<'a, T>, Error> {
        if self.open.engine().id != array.engine().id {
            return Err(ResidencyError::ForeignArray.into());
        }
        array.shared().check()?;
        Ok(View::in_frame(array.shared(), &self.open))
    }
}
