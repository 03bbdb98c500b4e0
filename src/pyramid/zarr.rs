//! Owns [`PyramidSource::from_zarr`]: the levels of an OME-Zarr image, and whether what its metadata says of them can be. Knows nothing of how chunks are read.

use std::sync::Arc;

use super::geometry::LevelGeometry;
use super::source::PyramidSource;
use crate::error::{PyramidError, SourceError};
use crate::geometry::Extent;
use crate::source::{BoxedSource, Dataset, Ranged, TileSource, ZarrImage, ZarrSelection};
use crate::voxel::Scalar;

/// How far a factor may be from a whole number and still be meant as one: scales are decimal fractions, often of single precision.
const SAME: f64 = 1e-5;

impl<T: Scalar> PyramidSource<T> {
    /// The levels of an OME-Zarr image, of one of its channels at one of its times. Voxels of another type than `T` become the nearest value ([`Converted`](crate::source::Converted)).
    ///
    /// What vastgrid wrote of a level's values beside it is used where it still holds ([`ZarrImage::ranges`], which is what opening costs besides).
    ///
    /// Factors are the ratios of the levels' scales; where the file has none, those of their shapes. A level that is missing, cannot be read, or whose shape is not what its scale says, is listed with that
    /// as its reason.
    ///
    /// ```
    /// use vastgrid::source::{Zarr, ZarrSelection};
    /// use vastgrid::{HostBackend, Pool, Pyramid3D, PyramidSource};
    ///
    /// let zarr = Zarr::open("tests/fixtures/ome_zarr/brain_v0.5.ome.zarr")?;
    /// let levels = PyramidSource::<u8>::from_zarr(&zarr.images()[0], &ZarrSelection::default())?;
    /// assert_eq!((levels.levels(), levels.spacing()), (3, [1.0, 1.0, 1.5])); // millimetres
    ///
    /// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// let pyramid = Pyramid3D::builder(&pool, levels).build()?;
    /// assert_eq!(pyramid.geometry(2).unwrap().factor(), [4.0; 3]);
    /// # Ok::<(), vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PyramidError::NothingAvailable`] where no level can be read; those of [`PyramidSourceBuilder::build`](super::PyramidSourceBuilder::build).
    pub fn from_zarr(image: &ZarrImage, selection: &ZarrSelection) -> Result<Self, PyramidError> {
        let mut builder = Self::builder().spacing(image.spacing());
        let (mut full, mut before) = (None, [1.0; 3]);
        for level in 0..image.levels().len() {
            let source = image.level(level, selection).map(Dataset::into_source::<T>);
            let source = source.and_then(|source| ranged(source, image, level));
            let extent = source.as_ref().ok().map(TileSource::extent);
            if level == 0 {
                full = extent;
                builder = builder.try_level([1.0; 3], source);
                continue;
            }
            let factor = factor(image, level, full, extent);
            let (factor, source) = match unfit(image, level, factor, before, full.zip(extent)) {
                None => (factor, source),
                // The level is listed; its own reason comes first.
                Some(reason) => (before, source.and_then(|_: BoxedSource<T>| Err(reason))),
            };
            before = factor;
            builder = builder.try_level(factor, source);
        }
        builder.build()
    }
}

/// A level with what vastgrid wrote beside it of its values, if it did: then empty space is known from the start.
fn ranged<T: Scalar>(
    source: BoxedSource<T>,
    image: &ZarrImage,
    level: usize,
) -> Result<BoxedSource<T>, SourceError> {
    let index = image.ranges::<T>(level).unwrap_or_else(|error| {
        tracing::warn!(%error, level, "ranges of values cannot be read, so empty space is not known");
        None
    });
    match index.filter(|index| index.extent() == source.extent()) {
        Some(index) => Ok(Box::new(Ranged::new(source, Arc::new(index))?)),
        None => Ok(source),
    }
}

/// How many level-0 voxels make one of a level's.
fn factor(image: &ZarrImage, level: usize, full: Option<Extent>, extent: Option<Extent>) -> [f64; 3] {
    let scaled = !image.levels()[0].scale.is_empty() && !image.levels()[level].scale.is_empty();
    let (fine, coarse) = (image.scale(0), image.scale(level));
    let sizes = full.zip(extent).map(|(full, extent)| (full.to_array(), extent.to_array()));
    [0, 1, 2].map(|axis| {
        let factor = match sizes {
            _ if scaled => coarse[axis] / fine[axis],
            Some((full, extent)) => full[axis] as f64 / extent[axis].max(1) as f64,
            None => 2f64.powi(i32::try_from(level).unwrap_or(i32::MAX)),
        };
        let whole = factor.round();
        let meant = if scaled {
            (factor - whole).abs() <= SAME * whole
        } else {
            // A whole factor, if the shapes come from one.
            sizes.is_some_and(|(full, extent)| nests(full[axis], whole, extent[axis]))
        };
        if meant && whole >= 1.0 { whole } else { factor }
    })
}

/// Whether a side is another one reduced by a factor, rounded up or down.
fn nests(full: u64, factor: f64, side: u64) -> bool {
    let along = |size| Extent::new(size, 1, 1);
    let geometry = LevelGeometry::new(along(full), [factor, 1.0, 1.0]);
    [geometry.extent(), geometry.extent_rounded_down()].contains(&along(side))
}

/// Why a level's factor cannot be.
fn unfit(
    image: &ZarrImage,
    level: usize,
    factor: [f64; 3],
    before: [f64; 3],
    sizes: Option<(Extent, Extent)>,
) -> Option<SourceError> {
    let refuse = |reason| {
        let text = &image.levels()[level];
        Some(SourceError::Header {
            path: text.path.clone().into(),
            field: "coordinateTransformations",
            value: format!("{:?} for a shape of {:?}", text.scale, sizes.map(|(_, extent)| extent.to_zyx())),
            reason,
        })
    };
    if (0..3).any(|axis| !factor[axis].is_finite() || factor[axis] < before[axis]) {
        return refuse("a level must be as coarse as the one before it, or coarser");
    }
    let (full, extent) = sizes?;
    let (full, extent) = (full.to_array(), extent.to_array());
    if (0..3).any(|axis| !nests(full[axis], factor[axis], extent[axis])) {
        return refuse("level 0 reduced by that has another shape");
    }
    None
}
