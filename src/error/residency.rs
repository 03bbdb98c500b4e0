//! Owns [`ResidencyError`].

use crate::geometry::{Extent, Region};
use crate::layout::TileCoord;

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
