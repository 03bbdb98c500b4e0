//! Owns every error of the crate: what failed, with which values. Knows nothing of how any of it came about.

use std::sync::Arc;

use crate::geometry::Extent;
use crate::layout::TileCoord;

mod backend;
mod pyramid;
#[cfg(feature = "cloud")]
mod remote;
mod residency;
mod source;
mod store;

pub use backend::BackendError;
pub use pyramid::PyramidError;
#[cfg(feature = "cloud")]
pub use remote::RemoteError;
pub use residency::ResidencyError;
pub use source::SourceError;
pub use store::StoreError;

/// What a public call of vastgrid may fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The array cannot be laid out as asked.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The memory behind an array could not be had, moved or given back.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Tiles could not be found a place, or may not be asked for like this.
    #[error(transparent)]
    Residency(#[from] ResidencyError),
    /// A tile could not be loaded.
    #[error("{tile} could not be loaded: {error}")]
    Tile {
        /// The tile.
        tile: TileCoord,
        /// Why. Shared, because everyone who waited for the tile gets it.
        #[source]
        error: Arc<SourceError>,
    },
    /// A tile that was written to could not be written back: it stays in memory, and nothing is lost.
    #[error("{tile} could not be written back, and stays in memory: {error}")]
    WriteBack {
        /// The tile.
        tile: TileCoord,
        /// Why.
        #[source]
        error: Arc<StoreError>,
    },
    /// A source could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The levels of a pyramid do not fit each other or the budget, or one is not there.
    #[error(transparent)]
    Pyramid(#[from] PyramidError),
    /// Voxels could not be written or saved.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An array that cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A side of the extent is zero.
    #[error("extent {extent} is empty: every side must be at least 1")]
    EmptyExtent {
        /// The extent asked for.
        extent: Extent,
    },
    /// The array needs more address space than there is.
    #[error(
        "extent {extent} needs more than the {max_bytes} bytes of address space that one reservation may take"
    )]
    BeyondAddressSpace {
        /// The extent asked for.
        extent: Extent,
        /// The most that can be reserved.
        max_bytes: u64,
    },
    /// The voxel's size is no power of two.
    #[error("a voxel of {voxel_bytes} bytes: must be 1, 2, 4, 8, 16, 32 or 64")]
    VoxelSize {
        /// Size of the voxel type.
        voxel_bytes: usize,
    },
    /// A tile's side is no power of two, or the tile is beyond the address space.
    #[error("tile shape {tile}: every side must be a power of two, and the tile within the address space")]
    TileShape {
        /// The shape asked for, in voxels.
        tile: Extent,
    },
    /// A page's side is no power of two, or the page is beyond the address space.
    #[error(
        "page shape {page} tiles: every side must be a power of two, and the page within the address space"
    )]
    PageShape {
        /// The shape asked for, in tiles.
        page: Extent,
    },
    /// A page's size is not one that the backend can map.
    #[error(
        "a page of {page_bytes} bytes: must be a power of two and a multiple of the backend's granularity of {granularity_bytes}"
    )]
    PageBytes {
        /// Size of the page.
        page_bytes: u64,
        /// The backend's granularity.
        granularity_bytes: u64,
    },
    /// One tile is larger than a page.
    #[error("a tile of {tile_bytes} bytes does not fit into a page of {page_bytes}")]
    TileLargerThanPage {
        /// Size of the tile.
        tile_bytes: u64,
        /// Size of the page.
        page_bytes: u64,
    },
    /// Both the page's shape and its size were given, and they differ.
    #[error("page size given as {page_bytes} bytes, but its shape makes {shape_bytes}")]
    PageBytesContradictShape {
        /// The size given.
        page_bytes: u64,
        /// The size of the shape given.
        shape_bytes: u64,
    },
    /// The array cannot be shown to kernels, whose positions and offsets are 32 bits.
    #[error(
        "extent {extent} in tiles of {tile} voxels and pages of {page} tiles is beyond kernels: sides up to {max_side_voxels} voxels, tiles up to {max_tile_bytes} bytes and pages below 2^32 tiles along an axis"
    )]
    BeyondKernels {
        /// Size of the array in voxels.
        extent: Extent,
        /// Shape of a tile in voxels.
        tile: Extent,
        /// Shape of a page in tiles.
        page: Extent,
        /// The longest side.
        max_side_voxels: u64,
        /// The largest tile.
        max_tile_bytes: u64,
    },
    /// Arrays that are computed on together lie differently.
    #[error(
        "an array of {other_extent} in tiles of {other_tile} beside one of {extent} in tiles of {tile}: both must be the same"
    )]
    NotAlike {
        /// Size of the array that is written.
        extent: Extent,
        /// Shape of its tiles in voxels.
        tile: Extent,
        /// Size of the array that is read.
        other_extent: Extent,
        /// Shape of its tiles in voxels.
        other_tile: Extent,
    },
    /// Tiles do not lie evenly along an axis, so that the array is no strided tensor.
    #[error(
        "{pages} pages of {page} tiles of {tile} voxels have no strides: along an axis neighbours in a page are not as far apart as neighbours in two pages"
    )]
    NoStrides {
        /// Shape of a tile in voxels.
        tile: Extent,
        /// Shape of a page in tiles.
        page: Extent,
        /// Pages along each axis.
        pages: Extent,
    },
    /// The fill value cannot be shown to kernels.
    #[error(
        "a fill value of {fill_bytes} bytes for voxels of {voxel_bytes}: kernels need one of the voxel's size that is at most 8 bytes, or repeats its first 8"
    )]
    FillOfKernels {
        /// Size of the fill value.
        fill_bytes: usize,
        /// Size of a voxel.
        voxel_bytes: u64,
    },
}
