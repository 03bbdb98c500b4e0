//! Sparse 3-D arrays far larger than memory.

#![warn(missing_docs)]

mod error;
mod geometry;
mod layout;
#[cfg(feature = "render")]
pub mod render;
mod view;
mod voxel;

pub use error::{BackendError, Error, LayoutError, ResidencyError, SourceError};
pub use geometry::{Coord, Extent, Region};
pub use layout::{Layout, LayoutSpec, MAX_RESERVED_BYTES, PageId, TileCoord, TileId};
pub use voxel::{Scalar, ScalarType, Voxel};
