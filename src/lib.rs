//! Sparse 3-D arrays far larger than memory.

#![warn(missing_docs)]

pub mod backend;
mod error;
mod geometry;
mod layout;
pub mod source;
mod sync;
mod voxel;

pub use backend::{Backend, BackendCaps, HostAddressable, HostBackend, ModelBackend};
pub use error::{BackendError, Error, LayoutError, ResidencyError, SourceError};
pub use geometry::{Coord, Extent, Region};
pub use layout::{Layout, LayoutSpec, MAX_RESERVED_BYTES, PageId, TileCoord, TileId};
pub use source::TileSource;
pub use voxel::{Scalar, ScalarType, Voxel};
