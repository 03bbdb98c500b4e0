//! Owns the errors of pyramids: which level, with which values. Knows nothing of how levels are read.

use std::sync::Arc;

use super::{Error, SourceError};
use crate::geometry::Extent;

/// A pyramid whose levels do not fit each other or the budget, or of which a level is asked for that is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PyramidError {
    /// There is no level at all.
    #[error("a pyramid without any level")]
    NoLevel,
    /// A level has no voxels.
    #[error("level {level} of {extent} is empty: every side must be at least 1")]
    EmptyLevel {
        /// The level, 0 = full resolution.
        level: usize,
        /// Its extent.
        extent: Extent,
    },
    /// A factor is no number of at least 1, or level 0 has another one than 1.
    #[error(
        "level {level} is reduced by {factor:?}: factors are finite and at least 1, those of level 0 are 1"
    )]
    Factor {
        /// The level.
        level: usize,
        /// Its factors along x, y and z, relative to level 0.
        factor: [f64; 3],
    },
    /// A level is finer than the one before it.
    #[error(
        "level {level} is reduced by {factor:?}, level {} by {before:?}: factors must not decrease",
        level - 1
    )]
    FactorsDecrease {
        /// The level.
        level: usize,
        /// Its factors along x, y and z, relative to level 0.
        factor: [f64; 3],
        /// Those of the level before it.
        before: [f64; 3],
    },
    /// A level's extent is not that of level 0 divided by its factor, neither rounded up nor down.
    #[error(
        "level {level} of {extent} does not nest: level 0 of {full} reduced by {factor:?} is something else, rounded up or down"
    )]
    Extents {
        /// The level.
        level: usize,
        /// Its extent.
        extent: Extent,
        /// Its factors along x, y and z, relative to level 0.
        factor: [f64; 3],
        /// The extent of level 0.
        full: Extent,
    },
    /// A spacing is no positive number.
    #[error("a spacing of {spacing:?}: must be finite and above 0")]
    Spacing {
        /// The spacing along x, y and z.
        spacing: [f64; 3],
    },
    /// No level can be opened.
    #[error("none of the {levels} level(s) can be opened; level 0: {reason}")]
    NothingAvailable {
        /// How many levels there are.
        levels: usize,
        /// Why the finest cannot be opened.
        #[source]
        reason: Arc<SourceError>,
    },
    /// The level is in the list, but could not be opened.
    #[error("level {level} is unavailable: {reason}")]
    Unavailable {
        /// The level.
        level: usize,
        /// Why it could not be opened.
        #[source]
        reason: Arc<SourceError>,
    },
    /// There is no such level.
    #[error("level {level} of a pyramid of {levels} level(s)")]
    NoSuchLevel {
        /// The level asked for.
        level: usize,
        /// How many there are.
        levels: usize,
    },
    /// The blocks that become one voxel are too large, or a side of theirs is 0.
    #[error(
        "blocks of {block} voxels: every side must be at least 1, and a block at most {most_voxels} voxels"
    )]
    Block {
        /// The block asked for.
        block: Extent,
        /// The most voxels that a block may have.
        most_voxels: u64,
    },
    /// The array of a level could not be made.
    #[error("level {level}: {error}")]
    Level {
        /// The level.
        level: usize,
        /// Why.
        #[source]
        error: Box<Error>,
    },
    /// The coarsest level could not be made resident and pinned.
    #[error(
        "level {level}, the coarsest, cannot be kept in a budget of {budget_bytes} bytes, for its {needed_bytes} bytes: {error}"
    )]
    Coarsest {
        /// The level.
        level: usize,
        /// Bytes of its pages, if none of its tiles is uniform.
        needed_bytes: u64,
        /// The pool's budget.
        budget_bytes: u64,
        /// Why.
        #[source]
        error: Box<Error>,
    },
}
