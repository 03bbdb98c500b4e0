//! Owns [`PyramidBuilder`]: what may be chosen of the arrays of a pyramid, and how they come about.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use super::array::{LevelArray, Pyramid3D, pin_whole};
use super::level_source::LevelSource;
use super::source::{PyramidSource, SharedSource};
use crate::array::{ArrayBuilder, Pins, SparseArray3D};
use crate::backend::Backend;
use crate::error::{Error, PyramidError};
use crate::geometry::Extent;
use crate::pool::Pool;
use crate::voxel::{Scalar, Voxel};

type OfLevel<T, B> = ArrayBuilder<T, B, LevelSource<T>>;
type Track<T, B> = fn(OfLevel<T, B>) -> OfLevel<T, B>;

/// Chooses how the arrays of a pyramid lie in memory, then builds them. What is not chosen is as for [`ArrayBuilder`], for each level by itself; the fill value is that of a level's source.
pub struct PyramidBuilder<T: Voxel, B: Backend> {
    pool: Pool<B>,
    source: PyramidSource<T>,
    tile: Option<Extent>,
    page: Option<Extent>,
    page_bytes: Option<u64>,
    ranges: Option<Track<T, B>>,
}

impl<T: Voxel, B: Backend> PyramidBuilder<T, B> {
    pub(super) fn new(pool: Pool<B>, source: PyramidSource<T>) -> Self {
        Self { pool, source, tile: None, page: None, page_bytes: None, ranges: None }
    }

    /// Shape of a tile in voxels, of every level: powers of two.
    #[must_use]
    #[doc(alias = "chunk")]
    pub fn tile(mut self, shape: impl Into<Extent>) -> Self {
        self.tile = Some(shape.into());
        self
    }

    /// Shape of a page in tiles, of every level: powers of two.
    #[must_use]
    pub fn page(mut self, shape_tiles: impl Into<Extent>) -> Self {
        self.page = Some(shape_tiles.into());
        self
    }

    /// Size of a page, of every level: a power of two, a multiple of the backend's granularity.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// Reserves the addresses of all levels, loads the coarsest one that is available, or what stands in for it, and pins it.
    ///
    /// **Cost**: a few system calls per level, and reading the coarsest. For one that is computed and has nothing to stand in for it, that means reading all of level 0.
    ///
    /// Tiles of the coarsest level that fail to load are listed in [`Pyramid3D::coarsest_failures`]; it is no error unless all do.
    ///
    /// # Errors
    /// [`PyramidError::Coarsest`]: the budget does not hold the coarsest level. [`PyramidError::Level`]: a level's array cannot be laid out or reserved, or a page is more than
    /// the budget. [`Error::Tile`]: no tile of the coarsest level can be loaded. [`Error::Backend`].
    pub fn build(self) -> Result<Pyramid3D<T, B>, Error> {
        let mut levels = Vec::with_capacity(self.source.levels.len());
        for (level, listed) in self.source.levels.iter().enumerate() {
            let array = match &listed.source {
                Ok(source) => Ok(Arc::new(self.array(level, source)?)),
                Err(reason) => Err(reason.clone()),
            };
            levels.push(LevelArray { geometry: listed.geometry, array });
        }
        let level = self.source.coarsest;
        let coarsest = match levels.get(level).map(|level| &level.array) {
            Some(Ok(array)) => array.clone(),
            Some(Err(reason)) => {
                return Err(PyramidError::Unavailable { level, reason: reason.clone() }.into());
            }
            None => return Err(PyramidError::NoLevel.into()),
        };
        let provisional = self.source.provisional.as_ref();
        let provisional = provisional.map(|source| self.array(level, source)).transpose()?;
        let pins = pin_whole(&self.pool, provisional.as_ref().unwrap_or(&coarsest), level)?;
        let failures = failures(&pins)?;
        Ok(Pyramid3D {
            pool: self.pool,
            levels,
            spacing: self.source.spacing,
            coarsest_level: level,
            coarsest,
            provisional,
            failures,
            first_pins: Mutex::new(Some(pins)),
            refined: OnceLock::new(),
        })
    }

    fn array(&self, level: usize, source: &SharedSource<T>) -> Result<SparseArray3D<T, B>, Error> {
        let source = LevelSource { level, source: source.clone() };
        let mut builder = SparseArray3D::builder(&self.pool, source);
        if let Some(tile) = self.tile {
            builder = builder.tile(tile);
        }
        if let Some(page) = self.page {
            builder = builder.page(page);
        }
        if let Some(bytes) = self.page_bytes {
            builder = builder.page_bytes(bytes);
        }
        if let Some(track) = self.ranges {
            builder = track(builder);
        }
        builder.build().map_err(|error| PyramidError::Level { level, error: Box::new(error) }.into())
    }
}

impl<T: Scalar, B: Backend> PyramidBuilder<T, B> {
    /// Keeps the smallest and largest value of each cell of every level, as [`ArrayBuilder::track_ranges`].
    #[must_use]
    #[doc(alias = "min_max")]
    pub fn track_ranges(mut self) -> Self {
        self.ranges = Some(ArrayBuilder::track_ranges);
        self
    }
}

/// What failed to load, unless that is everything.
fn failures<B: Backend>(pins: &Pins<B>) -> Result<Vec<crate::TileFailure>, Error> {
    let report = pins.report();
    let there = report.hits + report.loaded + report.shared + report.uniform;
    match report.failed.first() {
        Some(first) if there == 0 => Err(Error::Tile { tile: first.tile, error: first.error.clone() }),
        _ => Ok(report.failed.clone()),
    }
}

impl<T: Voxel, B: Backend> fmt::Debug for PyramidBuilder<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyramidBuilder")
            .field("source", &self.source)
            .field("tile", &self.tile)
            .field("page", &self.page)
            .field("page_bytes", &self.page_bytes)
            .field("ranges", &self.ranges.is_some())
            .field("pool", &self.pool)
            .finish()
    }
}
