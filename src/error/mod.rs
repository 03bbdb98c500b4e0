//! Owns every error of the crate: what failed, with which values. Knows nothing of how any of it came about.

use std::path::PathBuf;
use std::sync::Arc;

use crate::geometry::{Extent, Region};
use crate::layout::TileCoord;

mod backend;
mod pyramid;
#[cfg(feature = "cloud")]
mod remote;
mod store;

pub use backend::BackendError;
pub use pyramid::PyramidError;
#[cfg(feature = "cloud")]
pub use remote::RemoteError;
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

/// Tiles that can find no place, or may not be asked for like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResidencyError {
    /// What was asked for at once is larger than the budget.
    #[error("{needed_bytes} bytes of pages are needed at once, but the budget is {budget_bytes}")]
    OverBudget {
        /// Bytes of the pages that the request touches.
        needed_bytes: u64,
        /// The pool's budget.
        budget_bytes: u64,
    },
    /// The budget does not hold a single page.
    #[error("a budget of {budget_bytes} bytes holds not even one page of {page_bytes}")]
    BudgetBelowPage {
        /// The pool's budget.
        budget_bytes: u64,
        /// Size of a page.
        page_bytes: u64,
    },
    /// Nothing may be evicted: the rest is pinned or in use by other requests.
    #[error(
        "{needed_bytes} more bytes are needed, but of the budget of {budget_bytes} bytes {pinned_bytes} are pinned, {written_bytes} hold what was written and {busy_bytes} are in use by other requests"
    )]
    NothingToEvict {
        /// Bytes that could not be had.
        needed_bytes: u64,
        /// The pool's budget.
        budget_bytes: u64,
        /// Bytes of pinned pages.
        pinned_bytes: u64,
        /// Bytes of pages that are being loaded or that an open frame asked for.
        busy_bytes: u64,
        /// Bytes of pages with tiles that hold what was written to them.
        written_bytes: u64,
    },
    /// Memory would have to be taken from under an open frame.
    #[error("{needed_bytes} more bytes can only be had once {frames} open frame(s) end, {}", if *own { "one of them this thread's own" } else { "and they did not end in time" })]
    FramesOpen {
        /// Bytes that could not be had.
        needed_bytes: u64,
        /// Frames that hold them.
        frames: u64,
        /// Whether the calling thread itself holds one, so that waiting would never end.
        own: bool,
    },
    /// A source asked for a tile that was being loaded, and the load did not end in time: it may be waiting for this very call.
    #[error("{tile} is being loaded, perhaps by the source that asks for it")]
    LoadsItself {
        /// The tile.
        tile: TileCoord,
    },
    /// A region or tile lies outside the array.
    #[error("{region} is not inside the array of {extent}")]
    OutOfBounds {
        /// What was asked for.
        region: Region,
        /// The array's extent.
        extent: Extent,
    },
    /// A region of more tiles than one call takes.
    #[error("{region} covers {tiles} tiles: one call takes at most {most_tiles}")]
    TooManyTiles {
        /// The region.
        region: Region,
        /// The tiles that it touches.
        tiles: u64,
        /// The most that one call takes.
        most_tiles: u64,
    },
    /// A buffer has the wrong length.
    #[error("a buffer of {actual_voxels} voxels for a region of {expected_voxels}")]
    BufferLength {
        /// Voxels of the region.
        expected_voxels: u64,
        /// Voxels of the buffer.
        actual_voxels: u64,
    },
    /// The budget is more than the device has.
    #[error("a budget of {budget_bytes} bytes, but the device has {available_bytes} to give")]
    BudgetBeyondMemory {
        /// The budget asked for.
        budget_bytes: u64,
        /// What the device has free, and what the pool holds already.
        available_bytes: u64,
    },
    /// Only arrays that were built as writable can be written to.
    #[error("the array was not built as writable")]
    ReadOnly,
    /// A tile that is read is not there: it was not asked for, was evicted, or failed to load.
    #[error("{tile} is not there: it was not asked for, was evicted, or failed to load")]
    NotThere {
        /// The tile.
        tile: TileCoord,
    },
    /// A tile holds one value throughout, and so has no memory that could be shown.
    #[error("{tile} holds one value throughout, and so has no memory")]
    OneValue {
        /// The tile.
        tile: TileCoord,
    },
    /// A tile was named twice where each may be named once.
    #[error("{tile} is named twice")]
    Twice {
        /// The tile.
        tile: TileCoord,
    },
    /// The array belongs to another pool.
    #[error("the array belongs to another pool")]
    ForeignArray,
    /// The array was not enrolled with this streamer, or is there no more.
    #[error("the array is not enrolled with this streamer, or was dropped")]
    NotEnrolled,
    /// Nobody knows any more what the array holds, so it answers nothing: a failed batch could not be undone, what kernels wrote could not be told, or the device is lost.
    #[error("the array is poisoned, since nobody knows any more what it holds: {cause}")]
    Poisoned {
        /// The failure that was the first.
        cause: String,
    },
}

/// What a message begins with where something is in a file.
fn at(location: &str) -> String {
    if location.is_empty() { String::new() } else { format!("{location}: ") }
}

/// What a message ends with where there is more to tell.
fn also(reasons: &[String]) -> String {
    if reasons.is_empty() {
        String::new()
    } else {
        format!("; of what is there, not read: {}", reasons.join("; "))
    }
}

/// A tile or a file that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Reading a file failed.
    #[error("reading {bytes} bytes at offset {offset_bytes} of {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset_bytes: u64,
        /// How much.
        bytes: u64,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// Opening a file failed.
    #[error("opening {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The file is shorter than its contents must be.
    #[error("{} is too short: {expected_bytes} bytes are needed, {actual_bytes} are there", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes needed.
        expected_bytes: u64,
        /// Bytes found.
        actual_bytes: u64,
    },
    /// A header's field is missing, contradicts another or holds what cannot be.
    #[error("{}: field `{field}` is {value:?}: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it holds (empty where it is missing).
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file holds another voxel type than was asked for.
    #[error("{}: holds {found} voxels, not {wanted}", path.display())]
    VoxelType {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: crate::ScalarType,
        /// What was asked for.
        wanted: crate::ScalarType,
    },
    /// The shape of a volume cannot be.
    #[error("{}a volume of {extent} voxels of {voxel_bytes} bytes: empty, or beyond 64 bits", at(location))]
    Shape {
        /// The file, or the array in it; empty where it is in none.
        location: String,
        /// The shape.
        extent: Extent,
        /// Size of a voxel.
        voxel_bytes: usize,
    },
    /// An index of value ranges that cannot be.
    #[error("value ranges of {extent} voxels in cells of {cell}, {values} values: {reason}")]
    RangeIndex {
        /// Size of the volume.
        extent: Extent,
        /// Shape of a cell.
        cell: Extent,
        /// Values given, or needed.
        values: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The temporary file for decompressed voxels could not be made or written, for want of space or otherwise.
    #[error("a temporary file of {bytes} bytes in {}: {source}", directory.display())]
    Scratch {
        /// Where it was to be; `TMPDIR` chooses another place.
        directory: PathBuf,
        /// Size that it was to have.
        bytes: u64,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The source panicked.
    #[error("the source panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The upload of a tile that had been read failed.
    #[error("the tile was read, but could not be put in place: {0}")]
    Upload(#[source] BackendError),
    /// The source was called with a region that it does not have, or a buffer that does not fit.
    #[error("{}the source of {extent} was asked for {region} into {buffer_voxels} voxels", at(location))]
    BadCall {
        /// The file, or the array in it, where it is known to be in one; else empty.
        location: String,
        /// Extent of the source.
        extent: Extent,
        /// What was asked for.
        region: Region,
        /// Length of the buffer.
        buffer_voxels: usize,
    },
    /// A level of a pyramid could not be read.
    #[error("level {level}: {error}")]
    Level {
        /// The level, 0 = full resolution.
        level: usize,
        /// Why.
        #[source]
        error: Box<SourceError>,
    },
    /// A store of many objects (a folder, or a bucket) could not be listed or read.
    #[error("{doing} {location}: {source}")]
    Store {
        /// What was being done, such as "listing".
        doing: &'static str,
        /// The store, or the object in it.
        location: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chunk could not be decoded.
    #[error("chunk {chunk:?} of {location}: {source}")]
    Chunk {
        /// The array or file that it is of.
        location: String,
        /// Its indices, in the order of the format's own axes.
        chunk: Vec<u64>,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is in order, but holds something that is not read.
    #[error("{location}: {what} {value:?} is not supported")]
    Unsupported {
        /// The file, or the array in it.
        location: String,
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        value: String,
    },
    /// A file, folder or address of no format that is known.
    #[error("{location} is of no known format: {found}; known are {known}{hint}")]
    Unrecognised {
        /// What was to be opened.
        location: String,
        /// What is there instead: the first bytes, or names in a folder.
        found: String,
        /// What would have been known.
        known: &'static str,
        /// What else may help (empty, or begins with a separator).
        hint: &'static str,
    },
    /// The format is known, but was left out when vastgrid was built.
    #[error("{location}: {format} needs vastgrid's feature `{feature}`")]
    NeedsFeature {
        /// What was to be opened.
        location: String,
        /// What it is.
        format: &'static str,
        /// What reads it.
        feature: &'static str,
    },
    /// There is no volume of that name.
    #[error("{location}: there is no volume {name:?}; there are {names:?}{}", also(skipped))]
    NoEntry {
        /// What was opened.
        location: String,
        /// What was asked for; empty where nothing was, and there is none at all.
        name: String,
        /// Those that there are, or the first of them.
        names: Vec<String>,
        /// Why others are not among them, or the first reasons.
        skipped: Vec<String>,
    },
    /// A file of several arrays, channels or points in time has not the one that was asked for.
    #[error("{location}: there is no {what} {index}; it has {count}, counted from 0")]
    NoSuch {
        /// The file.
        location: String,
        /// What was to be chosen.
        what: &'static str,
        /// Which one was asked for.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// An object in a remote store could not be read.
    #[cfg(feature = "cloud")]
    #[error(transparent)]
    Remote(Arc<RemoteError>),
    /// What several callers waited for failed, for the same reason.
    #[error(transparent)]
    Shared(std::sync::Arc<SourceError>),
    /// An error of the user's own source.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}
