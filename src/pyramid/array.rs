//! Owns [`Pyramid3D`]: the levels of a volume as arrays of one pool. Knows nothing of how levels are computed.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::builder::PyramidBuilder;
use super::geometry::LevelGeometry;
use super::source::PyramidSource;
use crate::array::{Pins, SparseArray3D};
use crate::backend::{Backend, HostBackend};
use crate::engine::TileFailure;
use crate::error::{Error, PyramidError, ResidencyError, SourceError};
use crate::geometry::{Coord, Extent, Region};
use crate::pool::Pool;
use crate::voxel::Voxel;

/// A volume of several resolutions, each a [`SparseArray3D`] of one pool. The coarsest is resident and pinned from the start.
///
/// `Send + Sync`: any thread may ask and read. See [the module](super) for an example.
pub struct Pyramid3D<T: Voxel, B: Backend = HostBackend> {
    pub(super) pool: Pool<B>,
    pub(super) levels: Vec<LevelArray<T, B>>,
    pub(super) spacing: [f64; 3],
    /// The coarsest level that is available.
    pub(super) coarsest_level: usize,
    pub(super) coarsest: Arc<SparseArray3D<T, B>>,
    /// What stands in for the coarsest level until that is pinned itself.
    pub(super) provisional: Option<SparseArray3D<T, B>>,
    /// Tiles of what was pinned first that could not be loaded.
    pub(super) failures: Vec<TileFailure>,
    /// Of the coarsest level, or of what stands in for it.
    pub(super) first_pins: Mutex<Option<Pins<B>>>,
    /// Of the coarsest level, once it has taken the place of what stood in.
    pub(super) refined: OnceLock<Pins<B>>,
}

pub(super) struct LevelArray<T: Voxel, B: Backend> {
    pub(super) geometry: LevelGeometry,
    pub(super) array: Result<Arc<SparseArray3D<T, B>>, Arc<SourceError>>,
}

impl<T: Voxel, B: Backend> Pyramid3D<T, B> {
    /// Begins a pyramid over `source` in `pool`.
    #[must_use]
    pub fn builder(pool: &Pool<B>, source: PyramidSource<T>) -> PyramidBuilder<T, B> {
        PyramidBuilder::new(pool.clone(), source)
    }

    /// How many levels there are, those that are unavailable included. Level 0 is the full resolution.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// The array of a level. For the coarsest this is what stands in for it, until [`Pyramid3D::refine_coarsest`].
    ///
    /// What cannot be read of it is an error of the request, which names the level ([`SourceError::Level`]).
    ///
    /// # Errors
    /// [`PyramidError::NoSuchLevel`]; [`PyramidError::Unavailable`], with the reason.
    #[doc(alias = "lod")]
    #[doc(alias = "mip")]
    pub fn level(&self, level: usize) -> Result<&SparseArray3D<T, B>, Error> {
        if level == self.coarsest_level {
            return Ok(self.coarsest());
        }
        match self.levels.get(level).map(|level| &level.array) {
            Some(Ok(array)) => Ok(array),
            Some(Err(reason)) => Err(PyramidError::Unavailable { level, reason: reason.clone() }.into()),
            None => Err(PyramidError::NoSuchLevel { level, levels: self.levels.len() }.into()),
        }
    }

    fn standing_in(&self) -> Option<&SparseArray3D<T, B>> {
        self.provisional.as_ref().filter(|_| self.refined.get().is_none())
    }

    /// Where a level's voxels lie in level 0.
    #[must_use]
    pub fn geometry(&self, level: usize) -> Option<&LevelGeometry> {
        self.levels.get(level).map(|level| &level.geometry)
    }

    /// Level-0 voxels per voxel of a level along x, y and z.
    #[must_use]
    pub fn factor(&self, level: usize) -> Option<[f64; 3]> {
        self.geometry(level).map(LevelGeometry::factor)
    }

    /// Distance of level-0 voxels along x, y and z, in the volume's own unit.
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// Size of level 0 in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.levels.first().map_or(Extent::default(), |level| level.geometry.full_extent())
    }

    /// The pool that all levels share.
    #[must_use]
    pub fn pool(&self) -> &Pool<B> {
        &self.pool
    }

    /// The number of the coarsest level that is available.
    #[must_use]
    pub fn coarsest_level(&self) -> usize {
        self.coarsest_level
    }

    /// The coarsest level: resident and pinned, but for [`Pyramid3D::coarsest_failures`].
    #[must_use]
    pub fn coarsest(&self) -> &SparseArray3D<T, B> {
        self.standing_in().unwrap_or(&self.coarsest)
    }

    /// Whether the coarsest level is still made of single voxels out of a finer one.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.standing_in().is_some()
    }

    /// Tiles of the coarsest level that could not be loaded when the pyramid was built, or that stood in for it. Asking for them tries again.
    #[must_use]
    pub fn coarsest_failures(&self) -> &[TileFailure] {
        if self.refined.get().is_some() { &[] } else { &self.failures }
    }

    /// Computes the coarsest level where something stands in for it, pins it, and lets go of the other. [`Pyramid3D::coarsest`] and [`Pyramid3D::level`] give the exact one from then on;
    /// who still holds the other may read on, as far as it is not evicted. Does nothing where nothing stands in.
    ///
    /// **Cost**: reads all of the finest level that it derives from, but for what has been computed before; in parallel, while this waits. For a moment the budget has to hold both.
    ///
    /// # Errors
    /// [`PyramidError::Coarsest`]: the budget does not hold both. [`Error::Tile`]: part of it cannot be computed. What stood in goes on to.
    pub fn refine_coarsest(&self) -> Result<(), Error> {
        if self.standing_in().is_none() {
            return Ok(());
        }
        let pins = pin_whole(&self.pool, &self.coarsest, self.coarsest_level)?.complete()?;
        // Where somebody else was faster, these pins go, and theirs stay.
        let _ = self.refined.set(pins);
        let first = self.first_pins.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(first);
        Ok(())
    }

    /// The finest level that can be read, now, at a voxel of level 0: resident there, or known to hold one value. `None` where there is none, or outside the volume.
    ///
    /// **Cost**: a bit test per level.
    #[must_use]
    pub fn finest_resident(&self, full: impl Into<Coord>) -> Option<usize> {
        let full = full.into();
        if !self.extent().contains(full) {
            return None;
        }
        (0..self.levels.len()).find(|&level| {
            let Ok(array) = self.level(level) else { return false };
            let voxel = self.levels[level].geometry.voxel_of(full);
            array.is_readable(array.layout().tile_of(voxel))
        })
    }
}

/// Makes all of an array resident and pins it.
pub(super) fn pin_whole<T: Voxel, B: Backend>(
    pool: &Pool<B>,
    array: &SparseArray3D<T, B>,
    level: usize,
) -> Result<Pins<B>, Error> {
    array.pin_region(Region::whole(array.extent())).map_err(|error| match error {
        Error::Residency(
            ResidencyError::OverBudget { .. }
            | ResidencyError::TooManyTiles { .. }
            | ResidencyError::NothingToEvict { .. }
            | ResidencyError::FramesOpen { .. },
        ) => {
            let layout = array.layout();
            let needed_bytes = layout.page_count().saturating_mul(layout.page_bytes());
            let budget_bytes = pool.stats().budget_bytes;
            PyramidError::Coarsest { level, needed_bytes, budget_bytes, error: Box::new(error) }.into()
        }
        other => other,
    })
}

impl<T: Voxel, B: Backend> fmt::Display for Pyramid3D<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} level(s)", self.extent(), self.levels.len())
    }
}

impl<T: Voxel, B: Backend> fmt::Debug for Pyramid3D<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pyramid3D")
            .field("levels", &self.levels)
            .field("spacing", &self.spacing)
            .field("coarsest", &self.coarsest_level)
            .field("provisional", &self.is_provisional())
            .finish_non_exhaustive()
    }
}

impl<T: Voxel, B: Backend> fmt::Debug for LevelArray<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Level");
        debug.field("factor", &self.geometry.factor());
        match &self.array {
            Ok(array) => debug.field("array", array),
            Err(reason) => debug.field("unavailable", &format_args!("{reason}")),
        };
        debug.finish()
    }
}
