//! Owns [`ArrayBuilder`]: what may be chosen of an array, and the defaults.

use std::fmt;
use std::sync::Arc;

use crate::backend::{Backend, BackendCaps};
use crate::engine::{Tracking, Typed, Written};
use crate::error::Error;
use crate::geometry::Extent;
use crate::layout::{Layout, LayoutSpec};
use crate::planes::Planes;
use crate::pool::Pool;
use crate::source::{RangeIndex, TileSource, guarded};
use crate::store::{ScratchFile, ScratchStore};
use crate::voxel::{Scalar, Voxel};

use super::{Handle, SparseArray3D};

/// Chooses how an array lies in memory, then builds it.
pub struct ArrayBuilder<T: Voxel, B: Backend, S> {
    pool: Pool<B>,
    source: S,
    spec: LayoutSpec,
    ranges: Option<Tracking<T>>,
    written: Option<Box<dyn ScratchStore>>,
}

impl<T: Voxel, B: Backend, S: TileSource<T> + 'static> ArrayBuilder<T, B, S> {
    pub(super) fn new(pool: Pool<B>, source: S) -> Self {
        Self { pool, source, spec: LayoutSpec::default(), ranges: None, written: None }
    }

    /// Shape of a tile in voxels: powers of two. Default: near cubic, up to the backend's [`BackendCaps::default_tile_bytes`](crate::BackendCaps): 64 KiB on the host, 1 MiB on
    /// a CUDA device.
    #[must_use]
    #[doc(alias = "chunk")]
    pub fn tile(mut self, shape: impl Into<Extent>) -> Self {
        self.spec.tile = Some(shape.into());
        self
    }

    /// Shape of a page in tiles: powers of two. Default: from the page's size.
    #[must_use]
    pub fn page(mut self, shape_tiles: impl Into<Extent>) -> Self {
        self.spec.page = Some(shape_tiles.into());
        self
    }

    /// Size of a page, the unit of mapping and eviction: a power of two, a multiple of the backend's granularity. Default: one tile on the host; 8 MiB on a CUDA device, less
    /// where the array or an eighth of the budget is smaller; never less than the granularity or one tile.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.spec.page_bytes = Some(bytes);
        self
    }

    /// Lets the array be written to: on the host through a [`Writer`](crate::Writer), by kernels through the store function of `vastgrid.cuh` or with
    /// [`SparseArray3D::note_written`]. What was written to a tile whose memory is wanted for others goes to a [`ScratchFile`] first and comes back when the tile is asked for again. Default: off.
    ///
    /// ```no_run
    /// # use vastgrid::{CudaBackend, GridView, Pool, Region, SparseArray3D, cuda::Stream};
    /// # fn launch(stream: &Stream, view: GridView) {}
    /// # fn f(source: impl vastgrid::TileSource<f32> + 'static, part: Region) -> Result<(), vastgrid::Error> {
    /// let pool = Pool::new(CudaBackend::open(0)?, 1 << 30)?;
    /// let array = SparseArray3D::builder(&pool, source).writable().build()?;
    /// let stream = Stream::new(pool.backend().device())?;
    ///
    /// array.request_region(part)?.complete()?; // kernels write to what is resident
    /// let frame = pool.device_frame();
    /// launch(&stream, frame.view(&array, &stream)?); // vg_store, or vg_accessor::set
    /// frame.end()?;
    /// let written = array.to_vec(part)?; // waits for the kernel
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn writable(self) -> Self {
        self.writable_with(ScratchFile::default())
    }

    /// The same, with another place for what was written and has no memory: a [`ScratchFile`] in a folder on a faster or larger disk, or something of your own.
    #[must_use]
    pub fn writable_with(mut self, scratch: impl ScratchStore + 'static) -> Self {
        self.written = Some(Box::new(scratch));
        self
    }

    /// Reserves the array's addresses. Nothing is read yet.
    ///
    /// **Cost**: a few system calls, whatever the extent.
    ///
    /// # Errors
    /// [`Error::Layout`]: shapes that do not fit. [`crate::ResidencyError::BudgetBelowPage`]. [`Error::Backend`]: no address space.
    pub fn build(self) -> Result<SparseArray3D<T, B>, Error> {
        let engine = self.pool.engine();
        let caps = engine.backend.caps();
        let layout = Layout::new(
            self.source.extent(),
            size_of::<T>(),
            self.spec_for(&caps),
            caps.granularity_bytes,
            caps.default_tile_bytes.max(size_of::<T>() as u64),
        )?;
        let fill = self.source.fill_value();
        let known = |tracking: Tracking<T>| known_ranges(&self.source).map(tracking.known);
        let planes = Planes::new(&layout, fill, self.ranges.map(known))?;
        let source = Typed { source: self.source, fill, ranges: self.ranges };
        let written = self.written.map(Written::new);
        let shared = engine.open_array(layout, planes, Arc::new(source), written)?;
        let handle = Handle { engine: engine.clone(), shared };
        Ok(SparseArray3D { handle: Arc::new(handle), voxels: std::marker::PhantomData })
    }

    /// What was asked for, with the backend's own page size where nothing was.
    fn spec_for(&self, caps: &BackendCaps) -> LayoutSpec {
        let LayoutSpec { tile, page, page_bytes } = self.spec;
        if page.is_some() || page_bytes.is_some() || caps.default_page_bytes <= caps.granularity_bytes {
            return self.spec;
        }
        let voxel_bytes = size_of::<T>() as u64;
        let bytes = |e: Extent| e.checked_volume().and_then(|v| v.checked_mul(voxel_bytes));
        let array_bytes = bytes(self.source.extent()).unwrap_or(u64::MAX);
        let enough = array_bytes.checked_next_power_of_two().unwrap_or(u64::MAX);
        let most = caps.default_page_bytes.min(enough).min(self.pool.engine().budget() / 8);
        let page_bytes = most.max(caps.granularity_bytes);
        let page_bytes = 1 << page_bytes.ilog2();
        let tile_bytes = tile.and_then(bytes).unwrap_or(0);
        // A tile as large as a page or larger is a page; shapes that cannot be are the layout's to refuse.
        if tile_bytes >= page_bytes {
            self.spec
        } else {
            LayoutSpec { page_bytes: Some(page_bytes), ..self.spec }
        }
    }
}

impl<T: Scalar, B: Backend, S: TileSource<T> + 'static> ArrayBuilder<T, B, S> {
    /// Keeps the smallest and largest value of each cell (up to 8 voxels a side) of every tile that was loaded once: what empty space is skipped by. Where the source has an index
    /// ([`TileSource::ranges`]), that is asked for tiles that were never loaded, so that empty space is skipped from the first picture on, and never loaded for one.
    ///
    /// **Cost**: one pass over each tile as it is loaded, and 8 bytes a cell, kept after the tile is evicted. Default: off.
    #[must_use]
    #[doc(alias = "min_max")]
    pub fn track_ranges(mut self) -> Self {
        self.ranges = Some(Tracking::new());
        self
    }
}

/// The source's index of value ranges, if it has one that is of this volume.
fn known_ranges<T: Voxel>(source: &impl TileSource<T>) -> Option<Arc<RangeIndex<T>>> {
    let found = guarded(|| Ok(source.ranges())).unwrap_or_else(|error| {
        tracing::warn!(%error, "the source's value ranges are not used");
        None
    })?;
    let (extent, of) = (source.extent(), found.extent());
    if of != extent {
        tracing::warn!(%extent, %of, "the source's value ranges are of another volume, and not used");
        return None;
    }
    Some(found)
}

impl<T: Voxel, B: Backend, S> fmt::Debug for ArrayBuilder<T, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayBuilder")
            .field("spec", &self.spec)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
