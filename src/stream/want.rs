//! Owns how arrays and tiles are named to a streamer: [`Enrolled`] and [`Want`].

use crate::layout::TileCoord;

use super::priority::Priority;

/// An array that was enrolled with a streamer. A plain name: it keeps nothing alive. Arrays of a pool are ordered by their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Enrolled {
    pub(super) pool: u64,
    pub(super) array: u32,
}

/// A tile that is to be loaded, and how urgently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Of which array.
    pub array: Enrolled,
    /// Which tile.
    pub tile: TileCoord,
    /// How urgently.
    pub priority: Priority,
}
