//! Owns the public face of streaming, [`Streamer`], and its threads.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::array::SparseArray3D;
use crate::backend::Backend;
use crate::engine::is_loading;
use crate::error::{BackendError, Error, ResidencyError};
use crate::layout::TileCoord;
use crate::pool::Pool;
use crate::voxel::Voxel;

#[cfg(feature = "render")]
use super::changes::Changes;
use super::desk::Desk;
use super::failures::StreamFailures;
use super::options::StreamOptions;
use super::priority::Priority;
use super::status::StreamStatus;
use super::want::{Enrolled, Want};

/// The most threads that a streamer starts.
const MOST_THREADS: usize = 64;

/// Loads tiles in the background, the most urgent first, for a thread that must not wait: one that makes pictures.
///
/// Every call but [`Streamer::step`], [`Streamer::wait_idle`] and dropping it returns without waiting for a source, a mapping call or a frame. Tiles that are wanted come as they would
/// by [`SparseArray3D::request`]; whoever reads looks within a [`Frame`](crate::Frame), as ever, at what is resident by then.
///
/// ```
/// use std::time::Duration;
/// use vastgrid::source::Procedural;
/// use vastgrid::{Coord, Extent, HostBackend, Pool, Priority, SparseArray3D, StreamOptions, Streamer, TileCoord};
///
/// let pool = Pool::new(HostBackend::new(), 8 << 20)?;
/// let source = Procedural::new(Extent::cube(1 << 12), |c: Coord| (c.x + c.y) as u16);
/// let volume = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
///
/// let streamer = Streamer::new(&pool, StreamOptions::default())?;
/// let handle = streamer.enrol(&volume)?;
/// for picture in 0..3 {
///     streamer.begin_generation(); // what older pictures wanted is dropped
///     let row = (0..4).map(|x| (TileCoord::new(picture + x, 0, 0), Priority::visible(0, x as f32)));
///     streamer.want(handle, row)?; // returns at once
///     // ... make the picture of what is resident in `volume.frame()` ...
/// }
/// assert!(streamer.wait_idle(Duration::from_secs(60)));
/// assert!(volume.is_resident(TileCoord::new(5, 0, 0)));
/// assert!(streamer.failures().newest.is_empty());
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// **Order**: by [`Priority`], then the older array, then the tile's place in memory. Within one request tiles are loaded in no order; see [`StreamOptions::batch_tiles`].
///
/// **Generations**: a want holds for the generation in which it was made and [`StreamOptions::keep_generations`] more. What is queued and was not wanted again by then is dropped before
/// it is begun; what is under way is finished.
///
/// **Budget**: of what is wanted, the most urgent pages that the budget holds beside pins are loaded and kept in use; the others wait ([`StreamLimit::Budget`](crate::StreamLimit::Budget)) until
/// something changes.
///
/// **Failures**: a tile that failed is reported once and not tried again before [`Streamer::retry_failed`] or [`StreamOptions::retry_after`]. A source that panics has failed.
///
/// **Dropping it** drops what is queued and waits for requests under way, which no longer wait for frames: as long as a source takes for a tile, where it stalls. [`Streamer::detach`]
/// does not wait. Nor does a source that drops the streamer it is called by, since that may wait for the source.
pub struct Streamer<B: Backend> {
    desk: Arc<Desk<B>>,
    threads: Vec<JoinHandle<()>>,
    threadless: bool,
}

impl<B: Backend> Streamer<B> {
    /// A streamer for arrays of `pool`.
    ///
    /// # Errors
    /// [`Error::Backend`]: the threads could not be started.
    pub fn new(pool: &Pool<B>, options: StreamOptions) -> Result<Self, Error> {
        let threads = options.threads.min(MOST_THREADS);
        let desk = Arc::new(Desk::new(pool.engine().clone(), options));
        let threadless = threads == 0;
        let mut streamer = Self { desk, threads: Vec::with_capacity(threads), threadless };
        for i in 0..threads {
            let desk = streamer.desk.clone();
            let thread = std::thread::Builder::new().name(format!("vastgrid-stream-{i}"));
            // Where this fails, dropping the streamer ends those that were started.
            let thread = thread.spawn(move || desk.work()).map_err(|source| BackendError::System {
                call: "spawn threads",
                offset_bytes: 0,
                bytes: 0,
                source,
            })?;
            streamer.threads.push(thread);
        }
        Ok(streamer)
    }

    /// Takes an array in, of any voxel type, and names it. Again for the same array: the same name.
    ///
    /// The streamer does not keep the array: when it is dropped, what is queued of it is dropped too, and wants of it are refused. Requests of it that are under way then keep it in its
    /// pool until they end.
    ///
    /// # Errors
    /// [`ResidencyError::ForeignArray`]: the array is of another pool.
    #[doc(alias = "enroll")]
    pub fn enrol<T: Voxel>(&self, array: &SparseArray3D<T, B>) -> Result<Enrolled, Error> {
        if array.engine().id != self.desk.pool() {
            return Err(ResidencyError::ForeignArray.into());
        }
        Ok(self.desk.enrol(array.handle()))
    }

    /// Drops what is queued of an array, and refuses wants of it from now on. What is under way is finished.
    pub fn withdraw(&self, array: Enrolled) {
        self.desk.withdraw(array);
    }

    /// Wants tiles of an array, each with a priority; what is queued already gets the new priority. Tiles that are resident are stamped as used, if they have a share of the budget.
    ///
    /// **Cost**: a test of a bit for each tile, and some logarithmic steps under a short lock. No waiting; `tiles` is gone through without any lock.
    ///
    /// # Errors
    /// [`ResidencyError::NotEnrolled`], [`ResidencyError::OutOfBounds`]: nothing is wanted then.
    pub fn want(
        &self,
        array: Enrolled,
        tiles: impl IntoIterator<Item = (TileCoord, Priority)>,
    ) -> Result<(), Error> {
        let wants = tiles.into_iter().map(|(tile, priority)| Want { array, tile, priority });
        self.desk.want(wants, false)
    }

    /// Begins a generation in which exactly this is wanted: what is queued besides is dropped. In one step, so that nothing of lesser urgency is begun meanwhile, nor anything loaded in
    /// place of what is about to be wanted.
    ///
    /// **Cost**: as [`Streamer::want`], and a look at each tile that is queued.
    ///
    /// # Errors
    /// As [`Streamer::want`]: then the generation is the old one.
    pub fn replace(&self, wants: impl IntoIterator<Item = Want>) -> Result<(), Error> {
        self.desk.want(wants.into_iter(), true)
    }

    /// Begins a generation: what is queued and was last wanted more than [`StreamOptions::keep_generations`] before is dropped.
    ///
    /// **Cost**: a look at each tile that is queued.
    #[doc(alias = "begin_frame")]
    pub fn begin_generation(&self) {
        self.desk.lock().schedule.begin_generation();
        self.desk.notify();
    }

    /// Drops everything that is queued. What is under way is finished.
    #[doc(alias = "cancel")]
    pub fn flush(&self) {
        self.desk.lock().schedule.flush();
        self.desk.notify();
    }

    /// Begins no more requests until [`Streamer::resume`]. Wants are still queued.
    pub fn pause(&self) {
        self.desk.lock().schedule.pause(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.desk.lock().schedule.pause(false);
        self.desk.notify();
    }

    /// What failed since this was last called.
    #[must_use]
    pub fn failures(&self) -> StreamFailures {
        self.desk.lock().schedule.failures.drain()
    }

    /// Queues the tiles that failed once more, in this generation, with the priority that they were wanted with last. Returns how many.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn retry_failed(&self) -> u64 {
        let retried = self.desk.lock().schedule.retry_failed(Instant::now());
        self.desk.notify();
        retried
    }

    /// What the streamer did, what it is at, and what limits it. **Cost**: short locks.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        self.desk.status()
    }

    /// The tiles that are being loaded now, in no order. **Cost**: a look at each of them, under short locks.
    #[must_use]
    pub fn under_way(&self) -> Vec<(Enrolled, TileCoord)> {
        self.desk.under_way()
    }

    /// What comes and goes of the pool's tiles from now on, whoever asked for it.
    #[cfg(feature = "render")]
    pub(crate) fn changes(&self) -> Changes<B> {
        self.desk.changes()
    }

    /// Makes one request of the most urgent tiles, on this thread, and waits for it. `false`: there was nothing that may be requested now; [`StreamStatus::limit`] says why.
    ///
    /// With [`StreamOptions::threads`] of 0 nothing else loads anything, and the same wants and steps make the same requests in the same order; with `batch_tiles` of 1 the source is asked in
    /// that order too. A frame that this thread holds may keep a request from finding room: then it is refused like any other.
    #[expect(clippy::must_use_candidate, reason = "the step is what it is called for")]
    pub fn step(&self) -> bool {
        self.desk.step()
    }

    /// Waits until nothing is queued and nothing is under way, at most for `timeout`; says whether that came about. What waits for room, or for the end of a pause, is queued. Without threads,
    /// this thread does the work meanwhile, and returns as soon as there is none that it may do.
    #[must_use]
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        if !self.threadless {
            return self.desk.wait_idle(until);
        }
        while until.is_none_or(|until| Instant::now() < until) && self.step() {}
        self.status().is_idle()
    }

    /// Ends the streamer without waiting for its threads: they finish the requests that are under way, and end.
    pub fn detach(mut self) {
        self.threads.clear();
    }
}

impl<B: Backend> Drop for Streamer<B> {
    fn drop(&mut self) {
        self.desk.stop();
        let here = std::thread::current().id();
        // A thread does not wait for itself, nor for one that may be waiting for what this one is in the middle of.
        if is_loading() || self.threads.iter().any(|thread| thread.thread().id() == here) {
            return;
        }
        for thread in self.threads.drain(..) {
            // It catches whatever panics in it.
            let _ = thread.join();
        }
    }
}

impl<B: Backend> fmt::Debug for Streamer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamer")
            .field("threads", &self.threads.len())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
