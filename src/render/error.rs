//! Owns what the ray caster may refuse. Knows nothing of how anything is rendered.

use crate::geometry::Extent;

/// A picture that cannot be rendered as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The picture has no pixel, or too many.
    #[error("a picture of {width} x {height}: each side must be 1 to {max}")]
    ImageSize {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The most of either.
        max: u32,
    },
    /// A number is not finite, or lies outside what makes sense.
    #[error("{what} is {value}: must be {must_be}")]
    Value {
        /// Which number.
        what: &'static str,
        /// What was given.
        value: f64,
        /// What it must be.
        must_be: &'static str,
    },
    /// The camera looks nowhere.
    #[error("camera: {problem}")]
    Camera {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The volume cannot be cast through.
    #[error("volume of {extent} in bricks of {brick} and cells of {cell}: {problem}")]
    Volume {
        /// Its size in voxels.
        extent: Extent,
        /// Its bricks.
        brick: Extent,
        /// Its cells.
        cell: Extent,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The array could not give a tile, or had no room for it.
    #[error(transparent)]
    Array(#[from] Box<crate::Error>),
    /// A ray would take more samples than can be counted.
    #[error("a ray takes {samples} samples, more than {max}: make the step longer")]
    TooManySamples {
        /// How many.
        samples: f64,
        /// The most.
        max: u32,
    },
    /// A picture of no level, or of too many.
    #[error("{levels} levels given: must be 1 to {max}")]
    Levels {
        /// How many.
        levels: usize,
        /// The most.
        max: usize,
    },
    /// A slice does not hold the voxels of its extent.
    #[error("{voxels} voxels given for an extent of {extent}")]
    VoxelCount {
        /// Length of the slice.
        voxels: usize,
        /// The extent it should fill.
        extent: Extent,
    },
    /// A transfer function's points are too few, not finite, out of order or out of range.
    #[error("transfer function, {list} point {index}: {problem}")]
    TransferPoint {
        /// `opacity` or `colour`.
        list: &'static str,
        /// Which point, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A transfer function's text cannot be read.
    #[error("transfer function text, line {line}: {problem}: `{text}`")]
    TransferText {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
        /// The line.
        text: String,
    },
    /// Levels that are no pyramid.
    #[error("level {level} of a pyramid of {levels}: {problem}")]
    Level {
        /// Which, the finest being 0.
        level: usize,
        /// How many there are.
        levels: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no kernel for voxels of this type.
    #[error("there is no kernel for voxels of {given}: u8, u16, i16 and f32 have one")]
    VoxelOfKernel {
        /// The type.
        given: crate::voxel::ScalarType,
    },
    /// An exact picture was begun for another volume.
    #[error("the picture was begun for a volume of {begun}, and goes on with one of {given}")]
    OtherVolume {
        /// The extent that it was begun for.
        begun: Extent,
        /// The extent of the volume given now.
        given: Extent,
    },
    /// An exact picture was begun for another division of the volume.
    #[error("the picture was begun for tiles of {begun}, and goes on with tiles of {given}")]
    OtherTiles {
        /// The tiles that it was begun for.
        begun: Extent,
        /// The tiles of the volume given now.
        given: Extent,
    },
    /// What a kernel wrote is not what its plan makes it write.
    #[error("{bytes} bytes of a kernel's output given: its plan makes {expected}")]
    Output {
        /// How much was given.
        bytes: usize,
        /// How much it should be at the least.
        expected: usize,
    },
    /// Rays wait for tiles that are there.
    #[error("{rays} rays wait for tiles that were loaded: the picture gets no further")]
    Stuck {
        /// How many.
        rays: u64,
    },
}

/// `value`, if it is finite and `ok`.
pub(crate) fn checked(
    what: &'static str,
    value: f64,
    must_be: &'static str,
    ok: impl FnOnce(f64) -> bool,
) -> Result<f64, RenderError> {
    if value.is_finite() && ok(value) { Ok(value) } else { Err(RenderError::Value { what, value, must_be }) }
}
