//! Owns [`PyramidSource`]: the levels of a volume and where each comes from. Knows nothing of arrays or memory.

use std::fmt;
use std::sync::Arc;

use super::geometry::LevelGeometry;
use super::source_builder::PyramidSourceBuilder;
use crate::error::{PyramidError, SourceError};
use crate::geometry::Extent;
use crate::source::TileSource;
use crate::voxel::Voxel;

/// A source that several can read.
pub type SharedSource<T> = Arc<dyn TileSource<T>>;

/// Where a volume of several resolutions comes from: its levels, level 0 = full resolution, from finest to coarsest.
///
/// From files that have them ([`PyramidSource::builder`]), computed from one volume ([`PyramidSource::derive`], [`PyramidSource::with_derived`]), or from a formula
/// ([`PyramidSource::procedural`]). Cheap to clone: clones share what they computed.
///
/// ```
/// use vastgrid::pyramid::{DeriveOptions, Downsample};
/// use vastgrid::{Extent, PyramidSource, source::Procedural};
///
/// let volume = Procedural::new(Extent::new(1000, 1000, 300), |c| (c.x ^ c.y ^ c.z) as u16);
/// let options = DeriveOptions { spacing: [0.5, 0.5, 2.0], ..DeriveOptions::default() };
/// let pyramid = PyramidSource::derive(volume, Downsample::Mean, options)?;
/// assert_eq!(pyramid.levels(), 5);
/// assert_eq!(pyramid.geometry(2).unwrap().factor(), [4.0, 4.0, 1.0]); // now it is even
/// assert_eq!(pyramid.geometry(4).unwrap().extent(), Extent::new(63, 63, 75));
/// # Ok::<_, vastgrid::Error>(())
/// ```
#[derive(Clone)]
pub struct PyramidSource<T> {
    pub(super) levels: Vec<Level<T>>,
    pub(super) spacing: [f64; 3],
    /// The coarsest level that can be read.
    pub(super) coarsest: usize,
    /// What stands in for the coarsest level until it has been computed.
    pub(super) provisional: Option<SharedSource<T>>,
}

/// One level: where it lies, and its source or why there is none.
#[derive(Clone)]
pub(super) struct Level<T> {
    pub(super) geometry: LevelGeometry,
    pub(super) source: Result<SharedSource<T>, Arc<SourceError>>,
}

impl<T: Voxel> PyramidSource<T> {
    /// Begins a list of levels.
    ///
    /// ```
    /// use vastgrid::source::{RawFile, RawSpec};
    /// use vastgrid::{Extent, Error, PyramidSource};
    ///
    /// # fn f() -> Result<(), Error> {
    /// let level = |name: &str, side| RawFile::<u16>::open(name, RawSpec::new(Extent::cube(side)));
    /// let pyramid = PyramidSource::builder()
    ///     .level([1.0; 3], level("full.raw", 4001)?)
    ///     .try_level([2.0; 3], level("half.raw", 2001)) // may be missing
    ///     .level([8.0; 3], level("eighth.raw", 501)?)
    ///     .spacing([0.5, 0.5, 0.5])
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn builder() -> PyramidSourceBuilder<T> {
        PyramidSourceBuilder::default()
    }

    /// How many levels there are, those that are unavailable included.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Where a level's voxels lie.
    #[must_use]
    pub fn geometry(&self, level: usize) -> Option<&LevelGeometry> {
        self.levels.get(level).map(|level| &level.geometry)
    }

    /// What a level is read from. The coarsest of derived levels is the exact one.
    ///
    /// # Errors
    /// [`PyramidError::NoSuchLevel`], [`PyramidError::Unavailable`].
    pub fn source(&self, level: usize) -> Result<&SharedSource<T>, PyramidError> {
        let Some(found) = self.levels.get(level) else {
            return Err(PyramidError::NoSuchLevel { level, levels: self.levels.len() });
        };
        found.source.as_ref().map_err(|reason| PyramidError::Unavailable { level, reason: reason.clone() })
    }

    /// The coarsest level that is available.
    #[must_use]
    pub fn coarsest_level(&self) -> usize {
        self.coarsest
    }

    /// Size of level 0 in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.levels.first().map_or(Extent::default(), |level| level.geometry.full_extent())
    }

    /// Distance of level-0 voxels along x, y and z, in the volume's own unit.
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }
}

impl<T> fmt::Debug for PyramidSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyramidSource")
            .field("levels", &self.levels)
            .field("spacing", &self.spacing)
            .field("coarsest", &self.coarsest)
            .field("provisional", &self.provisional.is_some())
            .finish()
    }
}

impl<T> fmt::Debug for Level<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {:?}", self.geometry.extent(), self.geometry.factor())?;
        match &self.source {
            Ok(_) => Ok(()),
            Err(reason) => write!(f, ", unavailable: {reason}"),
        }
    }
}
