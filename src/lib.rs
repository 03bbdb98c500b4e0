//! Sparse 3-D arrays far larger than memory.

mod array;
pub mod backend;
mod engine;
mod error;
mod geometry;
mod layout;
mod offsets;
mod page_table;
mod planes;
mod pool;
#[cfg(feature = "render")]
pub mod render;
mod residency;
pub mod source;
mod stats;
mod sync;
mod view;
mod voxel;

pub use array::{ArrayBuilder, Pins, SparseArray3D};
pub use backend::{Backend, BackendCaps, HostAddressable, HostBackend, ModelBackend};
pub use engine::{Report, TileFailure};
pub use error::{BackendError, Error, LayoutError, ResidencyError, SourceError};
pub use geometry::{Coord, Extent, Region};
pub use layout::{Layout, LayoutSpec, MAX_RESERVED_BYTES, PageId, TileCoord, TileId};
pub use pool::{Frame, Pool, PoolConfig};
pub use source::TileSource;
pub use stats::Stats;
pub use view::{Accessor, ArrayFrame, Tile, View};
pub use voxel::{Scalar, ScalarType, Voxel};
