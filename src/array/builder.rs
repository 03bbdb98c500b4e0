//! Owns [`ArrayBuilder`]: what may be chosen of an array, and the defaults.

use std::fmt;
use std::sync::Arc;

use crate::backend::Backend;
use crate::engine::{Typed, cell_ranges};
use crate::error::Error;
use crate::geometry::Extent;
use crate::layout::{Layout, LayoutSpec};
use crate::planes::Planes;
use crate::pool::Pool;
use crate::source::TileSource;
use crate::voxel::{Scalar, Voxel};

use super::{Handle, SparseArray3D};

/// Where tiles are not given they take up to this many bytes: large enough that mapping costs little per byte, small enough that little is read in vain.
const DEFAULT_TILE_BYTES: u64 = 64 << 10;

/// Chooses how an array lies in memory, then builds it.
pub struct ArrayBuilder<T: Voxel, B: Backend, S> {
    pool: Pool<B>,
    source: S,
    spec: LayoutSpec,
    ranges: Option<crate::engine::RangeFn<T>>,
}

impl<T: Voxel, B: Backend, S: TileSource<T> + 'static> ArrayBuilder<T, B, S> {
    pub(super) fn new(pool: Pool<B>, source: S) -> Self {
        Self { pool, source, spec: LayoutSpec::default(), ranges: None }
    }

    /// Shape of a tile in voxels: powers of two. Default: near cubic, up to 64 KiB.
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

    /// Size of a page, the unit of mapping and eviction: a power of two, a multiple of the backend's granularity. Default: one tile, or the
    /// granularity where that is larger.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.spec.page_bytes = Some(bytes);
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
            self.spec,
            caps.granularity_bytes,
            DEFAULT_TILE_BYTES.max(size_of::<T>() as u64),
        )?;
        let fill = self.source.fill_value();
        let planes = Planes::new(&layout, fill, self.ranges.is_some())?;
        let source = Typed { source: self.source, fill, ranges: self.ranges };
        let shared = engine.open_array(layout, planes, Box::new(source))?;
        let handle = Handle { engine: engine.clone(), shared };
        Ok(SparseArray3D { handle: Arc::new(handle), voxels: std::marker::PhantomData })
    }
}

impl<T: Scalar, B: Backend, S: TileSource<T> + 'static> ArrayBuilder<T, B, S> {
    /// Keeps the smallest and largest value of each cell (up to 8 voxels a side) of every tile that was loaded once: what empty space is skipped by.
    ///
    /// **Cost**: one pass over each tile as it is loaded, and 8 bytes a cell, kept after the tile is evicted. Default: off.
    #[must_use]
    #[doc(alias = "min_max")]
    pub fn track_ranges(mut self) -> Self {
        self.ranges = Some(cell_ranges::<T>);
        self
    }
}

impl<T: Voxel, B: Backend, S> fmt::Debug for ArrayBuilder<T, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayBuilder")
            .field("spec", &self.spec)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
