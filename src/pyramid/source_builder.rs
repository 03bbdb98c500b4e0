//! Owns [`PyramidSourceBuilder`]: the checks that levels fit each other. Knows nothing of how they are read.

use std::fmt;
use std::sync::Arc;

use super::geometry::LevelGeometry;
use super::source::{Level, PyramidSource, SharedSource};
use crate::error::{PyramidError, SourceError};
use crate::geometry::Extent;
use crate::source::TileSource;
use crate::voxel::Voxel;

/// Lists the levels of a volume, from finest to coarsest, then checks that they fit each other.
pub struct PyramidSourceBuilder<T> {
    levels: Vec<Listed<T>>,
    spacing: [f64; 3],
    extent: Option<Extent>,
}

struct Listed<T> {
    factor: [f64; 3],
    source: Result<SharedSource<T>, Arc<SourceError>>,
}

impl<T> Default for PyramidSourceBuilder<T> {
    fn default() -> Self {
        Self { levels: Vec::new(), spacing: [1.0; 3], extent: None }
    }
}

impl<T: Voxel> PyramidSourceBuilder<T> {
    /// Adds a level with its factors relative to level 0 along x, y and z: how many level-0 voxels make one of its. Any number of at least 1; those of level 0 are 1.
    #[must_use]
    pub fn level(self, factor: [f64; 3], source: impl TileSource<T> + 'static) -> Self {
        self.try_level(factor, Ok(source))
    }

    /// Adds a level that may have failed to open: it is listed with its reason, and is no error unless there is no other.
    #[must_use]
    pub fn try_level(
        mut self,
        factor: [f64; 3],
        source: Result<impl TileSource<T> + 'static, SourceError>,
    ) -> Self {
        let source = source.map(|source| -> SharedSource<T> { Arc::new(source) }).map_err(Arc::new);
        self.levels.push(Listed { factor, source });
        self
    }

    /// Distance of level-0 voxels along x, y and z, in whatever unit. Default: 1.
    #[must_use]
    pub fn spacing(mut self, spacing: [f64; 3]) -> Self {
        self.spacing = spacing;
        self
    }

    /// Size of level 0. Default: that of its source; where level 0 is unavailable, the nearest to what the finest level there is covers that all of them agree with.
    #[must_use]
    pub fn extent(mut self, extent: impl Into<Extent>) -> Self {
        self.extent = Some(extent.into());
        self
    }

    /// Checks that the levels fit each other: the extent of each must be that of level 0 divided by its factor, rounded up, or rounded down (but 1 at least), for writers do either.
    /// Where it was rounded down, the last voxels of level 0 belong to no voxel of that level.
    ///
    /// # Errors
    /// [`PyramidError`]: `NoLevel`, `Spacing`, `Factor`, `FactorsDecrease`, `EmptyLevel`, `Extents`, and `NothingAvailable` where no level could be opened.
    pub fn build(self) -> Result<PyramidSource<T>, PyramidError> {
        self.check_factors()?;
        let spacing = check_spacing(self.spacing)?;
        let Some(coarsest) = self.levels.iter().rposition(|level| level.source.is_ok()) else {
            let levels = self.levels.len();
            return Err(match self.levels.into_iter().next().map(|level| level.source) {
                Some(Err(reason)) => PyramidError::NothingAvailable { levels, reason },
                _ => PyramidError::NoLevel,
            });
        };
        for (level, listed) in self.levels.iter().enumerate() {
            if let Ok(source) = &listed.source
                && source.extent().is_empty()
            {
                return Err(PyramidError::EmptyLevel { level, extent: source.extent() });
            }
        }
        let full = self.full_extent();
        if full.is_empty() {
            return Err(PyramidError::EmptyLevel { level: 0, extent: full });
        }
        let mut levels = Vec::with_capacity(self.levels.len());
        for (level, Listed { factor, source }) in self.levels.into_iter().enumerate() {
            let mut geometry = LevelGeometry::new(full, factor);
            if let Ok(source) = &source {
                geometry = nested(level, geometry, source.extent())?;
            }
            levels.push(Level { geometry, source });
        }
        Ok(PyramidSource { levels, spacing, coarsest, provisional: None })
    }

    fn check_factors(&self) -> Result<(), PyramidError> {
        let mut before = [1.0; 3];
        for (level, &Listed { factor, .. }) in self.levels.iter().enumerate() {
            let valid = |f: f64| if level == 0 { f == 1.0 } else { f.is_finite() && f >= 1.0 };
            if !factor.into_iter().all(valid) {
                return Err(PyramidError::Factor { level, factor });
            }
            if (0..3).any(|axis| factor[axis] < before[axis]) {
                return Err(PyramidError::FactorsDecrease { level, factor, before });
            }
            before = factor;
        }
        Ok(())
    }

    /// The size of level 0: as given, or its source's, or what fits the others.
    fn full_extent(&self) -> Extent {
        if let Some(extent) = self.extent {
            return extent;
        }
        let available = || {
            self.levels
                .iter()
                .filter_map(|level| Some((level.factor, level.source.as_ref().ok()?.extent().to_array())))
        };
        let along = |axis: usize| {
            let (mut nearest, mut least, mut most) = (None, 1.0f64, f64::MAX);
            for (factor, extent) in available() {
                let (factor, extent) = (factor[axis], extent[axis] as f64);
                nearest.get_or_insert((extent * factor).round());
                // Rounded up, it is above (extent - 1) * factor; rounded down, below (extent + 1) * factor.
                least = least.max(((extent - 1.0) * factor).floor() + 1.0);
                most = most.min(((extent + 1.0) * factor).ceil() - 1.0);
            }
            whole(nearest.unwrap_or(1.0).min(most).max(least))
        };
        Extent::new(along(0), along(1), along(2))
    }
}

/// The level with the extent that it has.
fn nested(level: usize, geometry: LevelGeometry, extent: Extent) -> Result<LevelGeometry, PyramidError> {
    let (up, down) = (geometry.extent(), geometry.extent_rounded_down());
    let [has, either, or] = [extent, up, down].map(Extent::to_array);
    if (0..3).all(|axis| has[axis] == either[axis] || has[axis] == or[axis]) {
        return Ok(geometry.with_extent(extent));
    }
    let (factor, full) = (geometry.factor(), geometry.full_extent());
    Err(PyramidError::Extents { level, extent, factor, full })
}

pub(super) fn check_spacing(spacing: [f64; 3]) -> Result<[f64; 3], PyramidError> {
    if spacing.into_iter().all(|s| s.is_finite() && s > 0.0) {
        Ok(spacing)
    } else {
        Err(PyramidError::Spacing { spacing })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole and at least 1; `as` saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

impl<T> fmt::Debug for PyramidSourceBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyramidSourceBuilder")
            .field("factors", &self.levels.iter().map(|level| level.factor).collect::<Vec<_>>())
            .field("spacing", &self.spacing)
            .field("extent", &self.extent)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Procedural;

    fn of(x: u64, y: u64, z: u64) -> Procedural<u8> {
        Procedural::new(Extent::new(x, y, z), |_| 0)
    }

    fn missing() -> Result<Procedural<u8>, SourceError> {
        Err(SourceError::Other("the disk is gone".into()))
    }

    fn error(builder: PyramidSourceBuilder<u8>) -> PyramidError {
        builder.build().unwrap_err()
    }

    #[test]
    fn levels_may_be_rounded_up_or_down_by_any_factor() {
        let pyramid = PyramidSource::builder()
            .level([1.0; 3], of(101, 50, 7))
            .level([2.0, 2.5, 1.0], of(50, 20, 7))
            .level([3.0, 7.0, 1.0], of(34, 8, 7))
            .level([3.0, 7.0, 100.0], of(33, 7, 1))
            .spacing([1.0, 2.0, 3.0])
            .build()
            .unwrap();
        assert_eq!((pyramid.levels(), pyramid.coarsest_level()), (4, 3));
        assert_eq!(pyramid.extent(), Extent::new(101, 50, 7));
        assert_eq!(pyramid.spacing(), [1.0, 2.0, 3.0]);
        assert_eq!(pyramid.geometry(1).unwrap().extent(), Extent::new(50, 20, 7));
        assert!(pyramid.geometry(4).is_none());
        assert!(matches!(pyramid.source(4), Err(PyramidError::NoSuchLevel { level: 4, levels: 4 })));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_level() {
        let one = || PyramidSource::builder().level([1.0; 3], of(100, 50, 7));
        assert!(matches!(error(PyramidSource::builder()), PyramidError::NoLevel));
        let shrunk = error(PyramidSource::builder().level([2.0, 1.0, 1.0], of(4, 4, 4)));
        assert!(matches!(shrunk, PyramidError::Factor { level: 0, .. }), "{shrunk}");
        for factor in [0.5, f64::NAN, f64::INFINITY, -1.0] {
            let error = error(one().level([2.0, factor, 1.0], of(50, 50, 7)));
            assert!(matches!(error, PyramidError::Factor { level: 1, .. }), "{error}");
        }
        let back = error(one().level([4.0; 3], of(25, 13, 2)).level([8.0, 2.0, 4.0], of(13, 25, 2)));
        assert!(matches!(back, PyramidError::FactorsDecrease { level: 2, .. }), "{back}");
        let other = error(one().level([2.0; 3], of(50, 25, 2)));
        assert!(other.to_string().contains("level 1 of 50 x 25 x 2 does not nest"), "{other}");
        let empty = error(one().level([2.0; 3], of(50, 25, 0)));
        assert!(matches!(empty, PyramidError::EmptyLevel { level: 1, .. }), "{empty}");
        for spacing in [0.0, -1.0, f64::NAN] {
            assert!(matches!(error(one().spacing([1.0, spacing, 1.0])), PyramidError::Spacing { .. }));
        }
    }

    #[test]
    fn a_level_that_cannot_be_opened_is_kept_with_its_reason() {
        let pyramid = PyramidSource::builder()
            .level([1.0; 3], of(100, 50, 7))
            .try_level([2.0; 3], missing())
            .try_level([4.0; 3], Ok(of(25, 13, 2)))
            .try_level([8.0; 3], missing())
            .build()
            .unwrap();
        assert_eq!((pyramid.levels(), pyramid.coarsest_level()), (4, 2));
        assert_eq!(pyramid.geometry(1).unwrap().extent(), Extent::new(50, 25, 4));
        let error = pyramid.source(1).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "level 1 is unavailable: the disk is gone");
        assert!(format!("{pyramid:?}").contains("the disk is gone"));
    }

    #[test]
    fn only_when_nothing_can_be_opened_it_is_an_error() {
        let all = PyramidSource::builder().try_level([1.0; 3], missing()).try_level([2.0; 3], missing());
        let PyramidError::NothingAvailable { levels: 2, reason } = error(all) else { panic!() };
        assert_eq!(reason.to_string(), "the disk is gone");
    }

    #[test]
    fn without_level_0_its_extent_is_what_the_others_agree_on() {
        let others = || {
            PyramidSource::builder()
                .try_level([1.0; 3], missing())
                .level([2.0; 3], of(51, 25, 4))
                .level([4.0; 3], of(25, 13, 2))
        };
        let extent = others().build().unwrap().extent();
        assert_eq!(extent, Extent::new(102, 50, 8));
        assert_eq!(others().extent([101, 50, 7]).build().unwrap().extent(), Extent::new(101, 50, 7));
        assert!(matches!(error(others().extent([99, 50, 7])), PyramidError::Extents { level: 1, .. }));
        assert!(matches!(error(others().extent([0, 50, 7])), PyramidError::EmptyLevel { level: 0, .. }));
    }
}
