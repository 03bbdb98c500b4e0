//! Owns [`DeviceFrame`]: how long kernels may read. Knows streams and events, no tiles.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::array::SparseArray3D;
use crate::backend::CudaBackend;
use crate::backend::cuda::Collected;
use crate::cuda::{Event, Stream};
use crate::engine::{FrameEnd, OpenFrame};
use crate::error::{BackendError, Error, ResidencyError};
use crate::layout::{TileCoord, TileId};
use crate::pool::Pool;
use crate::voxel::Voxel;

use super::GridView;
use super::mirror::Mirror;

/// A span in which kernels read the arrays of a pool on a CUDA device.
///
/// Tiles that are asked for while it is open stay readable; so does the memory of everything that one of its views shows, until the frame is dropped **and** the work is done
/// that was put on the views' streams before that. Dropping waits for no kernel: requests that need that memory do.
///
/// ```no_run
/// use vastgrid::cuda::Stream;
/// use vastgrid::{CudaBackend, Pool, Region, SparseArray3D};
/// # fn launch(stream: &Stream, view: vastgrid::GridView) {}
/// # fn f(source: impl vastgrid::TileSource<f32> + 'static, box_of_interest: Region) -> Result<(), vastgrid::Error> {
/// let pool = Pool::new(CudaBackend::open(0)?, 8 << 30)?;
/// let array = SparseArray3D::builder(&pool, source).build()?;
/// let stream = Stream::new(pool.backend().device())?;
///
/// array.request_region(box_of_interest)?.complete()?;
/// let frame = pool.device_frame();
/// let view = frame.view(&array, &stream)?;
/// launch(&stream, view); // kernels that read through `view`, on `stream`
/// frame.end()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "memory stays readable only while it is open"]
pub struct DeviceFrame<'p> {
    /// Taken when it ends.
    open: Option<OpenFrame<'p, CudaBackend>>,
    used: Mutex<Used<'p>>,
}

/// What the views of a frame were given to.
#[derive(Default)]
struct Used<'p> {
    streams: Vec<&'p Stream>,
    written: Vec<(u32, Arc<Mirror>)>,
}

impl<'p> DeviceFrame<'p> {
    pub(super) fn new(pool: &'p Pool<CudaBackend>) -> Self {
        Self { open: Some(OpenFrame::new(pool.engine())), used: Mutex::default() }
    }

    /// What kernels that are put on `stream` after this call may read of the array: everything that is resident now.
    ///
    /// The value is plain addresses. It may be used by work that is put on this stream while the frame is open, and by nothing else. An array that is dropped before the frame
    /// does not compile.
    ///
    /// **Cost**: two launches of a small kernel and 32 bytes for every group of 64 tiles whose state changed since the last view; the first view of an array allocates its
    /// mirror: 8 bytes of device memory for every 4096 tiles of the array, and 66 KiB for every 4096 that were ever in use, 2 MiB at a time, outside the budget.
    ///
    /// # Errors
    /// [`ResidencyError::ForeignArray`]: the array, or the stream's device, is of another pool. [`ResidencyError::Poisoned`]. [`BackendError::DeviceUnsupported`]: a side of
    /// 2^31 voxels or more, which kernels cannot address. The driver's refusal.
    pub fn view<T: Voxel>(
        &self,
        array: &'p SparseArray3D<T, CudaBackend>,
        stream: &'p Stream,
    ) -> Result<GridView, Error> {
        let Some(open) = &self.open else { return Err(ResidencyError::ForeignArray.into()) };
        let engine = open.engine();
        if engine.id != array.engine().id || !engine.backend.device().is_same(stream.device()) {
            return Err(ResidencyError::ForeignArray.into());
        }
        let shared = array.shared();
        shared.check()?;
        let mirror = Mirror::of(engine, shared)?;
        let view = mirror.view(engine, shared, stream)?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if !used.streams.iter().any(|s| s.as_raw() == stream.as_raw()) {
            used.streams.push(stream);
        }
        if shared.is_writable() && !used.written.iter().any(|(id, _)| *id == shared.id) {
            used.written.push((shared.id, mirror));
        }
        Ok(view)
    }

    /// Ends the frame, as dropping it does, with a word on whether that worked.
    ///
    /// # Errors
    /// The driver's refusal to note how far the streams are, or to tell what was written: then the kernels are waited for, and the writable arrays that the frame showed are poisoned,
    /// since nobody knows what was written to them.
    pub fn end(mut self) -> Result<(), Error> {
        self.finish(None)
    }

    /// Ends the frame, waits until the work on its streams is done, however long that takes, and tells which tiles it wrote.
    ///
    /// Marks are an array's: where frames that write to one array overlap, each mark is told once, by the one that is looked at first.
    ///
    /// **Cost**: as [`DeviceFrame::end`], and the waiting.
    ///
    /// # Errors
    /// As [`DeviceFrame::end`]. [`BackendError::DeviceLost`].
    pub fn end_and_wait(mut self) -> Result<KernelWrites, Error> {
        let engine = self.open.as_ref().map(OpenFrame::engine);
        let told = Arc::new(Mutex::new(Told::default()));
        self.finish(Some(&told))?;
        if let Some(engine) = engine {
            engine.settle();
        }
        let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        match told.lost {
            None => Ok(KernelWrites { tiles: told.tiles }),
            Some(name) => Err(BackendError::DeviceLost { call: "end_and_wait", code: 0, name }.into()),
        }
    }

    fn finish(&mut self, told: Option<&Arc<Mutex<Told>>>) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let used = std::mem::take(self.used.get_mut().unwrap_or_else(PoisonError::into_inner));
        if used.streams.is_empty() {
            return Ok(());
        }
        let error = match KernelEnd::new(&used, told) {
            Ok(end) => {
                open.end_with(Box::new(end));
                return Ok(());
            }
            Err(error) => error,
        };
        // Without an event nobody can tell when the kernels are done but by waiting for them. Where that fails too there is nothing left to protect. What they wrote is not known
        // any more, so those arrays may not go on as if nothing was.
        for (array, _) in &used.written {
            open.engine().poison_one(*array, &error);
        }
        if used.streams.iter().any(|stream| stream.synchronize().is_err()) {
            open.end_with(Box::new(Lost(Some(error.to_string()))));
        }
        Err(error.into())
    }
}

impl Drop for DeviceFrame<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.finish(None) {
            tracing::error!(%error, "the end of a frame of kernels could not be noted");
        }
    }
}

impl fmt::Debug for DeviceFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceFrame").field("open", &self.open).finish_non_exhaustive()
    }
}

/// The end of a frame: once the streams have come so far, and what was written is known.
#[derive(Debug)]
struct KernelEnd {
    reached: Vec<Event>,
    written: Vec<(u32, Arc<Mirror>, Collected)>,
    tiles: Vec<(u32, Vec<TileId>)>,
    /// Who wants to know too.
    told: Option<Arc<Mutex<Told>>>,
}

/// What became of a frame's end.
#[derive(Debug, Default)]
struct Told {
    tiles: Vec<(u32, Vec<TileId>)>,
    lost: Option<String>,
}

/// The tiles that the kernels of a frame wrote: [`DeviceFrame::end_and_wait`].
#[derive(Clone, Debug, Default)]
pub struct KernelWrites {
    tiles: Vec<(u32, Vec<TileId>)>,
}

impl KernelWrites {
    /// Those of an array, in memory order; none, where the frame showed no such array.
    ///
    /// ```no_run
    /// # use vastgrid::{CudaBackend, DeviceFrame, Error, SparseArray3D, compute::TileSet};
    /// # fn f(frame: DeviceFrame, grid: &SparseArray3D<f32, CudaBackend>) -> Result<(), Error> {
    /// let written = TileSet::of(grid.layout().tiles(), frame.end_and_wait()?.tiles(grid));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tiles<T: Voxel>(&self, array: &SparseArray3D<T, CudaBackend>) -> Vec<TileCoord> {
        let of_it = self.tiles.iter().filter(|(id, _)| *id == array.shared().id);
        let mut ids: Vec<_> = of_it.flat_map(|(_, tiles)| tiles.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|tile| array.layout().tile_coord(tile)).collect()
    }
}

impl KernelEnd {
    fn new(used: &Used<'_>, told: Option<&Arc<Mutex<Told>>>) -> Result<Self, BackendError> {
        let reached = used.streams.iter().map(|stream| stream.record()).collect::<Result<Vec<_>, _>>()?;
        let collect =
            |(id, mirror): &(u32, Arc<Mirror>)| Ok((*id, mirror.clone(), mirror.collect(&reached)?));
        let written = used.written.iter().map(collect).collect::<Result<Vec<_>, BackendError>>()?;
        Ok(Self { reached, written, tiles: Vec::new(), told: told.cloned() })
    }

    fn look(&mut self) -> Result<bool, BackendError> {
        while let Some(event) = self.reached.last() {
            if !event.is_done()? {
                return Ok(false);
            }
            self.reached.pop();
        }
        while let Some((array, mirror, collected)) = self.written.last_mut() {
            let Some((tiles, complete)) = mirror.collected(collected)? else { return Ok(false) };
            self.tiles.push((*array, tiles));
            if complete {
                self.written.pop();
            }
        }
        Ok(true)
    }

    fn told(&self) -> Option<MutexGuard<'_, Told>> {
        self.told.as_ref().map(|told| told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FrameEnd for KernelEnd {
    fn is_over(&mut self) -> Result<bool, BackendError> {
        let over = self.look();
        if let Err(error) = &over
            && error.is_fatal()
            && let Some(mut told) = self.told()
        {
            told.lost = Some(error.to_string());
        }
        over
    }

    fn written(&mut self) -> Vec<(u32, Vec<TileId>)> {
        let tiles = std::mem::take(&mut self.tiles);
        if let Some(mut told) = self.told() {
            told.tiles.clone_from(&tiles);
        }
        tiles
    }
}

/// The end of a frame whose streams answer no more.
#[derive(Debug)]
struct Lost(Option<String>);

impl FrameEnd for Lost {
    fn is_over(&mut self) -> Result<bool, BackendError> {
        let name = self.0.take().unwrap_or_default();
        Err(BackendError::DeviceLost { call: "cuStreamSynchronize", code: 0, name })
    }

    fn written(&mut self) -> Vec<(u32, Vec<TileId>)> {
        Vec::new()
    }
}
