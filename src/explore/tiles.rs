//! Owns which tiles a picture is made of and the state of each, for showing them: [`ExploredTile`]. Knows nothing of how pictures are made.

use std::collections::HashSet;

use super::explorer::Explorer;
use crate::backend::Backend;
use crate::layout::TileCoord;
use crate::trace::TraceTile;
use crate::voxel::Scalar;

/// Whether a tile can be looked at, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TileState {
    /// In memory.
    Resident,
    /// Known to hold one value, and so without memory.
    Uniform,
    /// Being loaded.
    Loading,
    /// Neither there nor being loaded.
    Missing,
    /// It failed to load, and is not tried again before [`Explorer::retry_failed`].
    Failed,
}

/// A tile of the last picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExploredTile {
    /// Of which level.
    pub level: usize,
    /// Which.
    pub tile: TileCoord,
    /// What state it is in now.
    pub state: TileState,
}

impl<T: Scalar, B: Backend, R> Explorer<T, B, R> {
    /// The tiles that the last picture showed or lacked, coarsest level last, each with the state that it is in now; and of the blocks of 2 x 2 x 2 tiles that these are in, those that are known to
    /// hold one value.
    ///
    /// **Cost**: some hash lookups for each; a short lock.
    #[must_use]
    pub fn tiles(&self) -> Vec<ExploredTile> {
        let loading: HashSet<_> = self.streamer.under_way().into_iter().collect();
        let mut known: HashSet<_> = self.seen.iter().copied().collect();
        let mut tiles = Vec::with_capacity(self.seen.len());
        for level in 0..self.pyramid.levels() {
            let Ok(array) = self.pyramid.level(level) else { continue };
            let enrolled = self.streamer.enrol(array).ok();
            let named = |tile| enrolled.map(|array| (array, tile));
            let state = |tile| {
                if array.is_resident(tile) {
                    TileState::Resident
                } else if array.is_uniform(tile) {
                    TileState::Uniform
                } else if named(tile).is_some_and(|name| loading.contains(&name)) {
                    TileState::Loading
                } else if self.failed.contains(&TraceTile { level, tile }) {
                    TileState::Failed
                } else {
                    TileState::Missing
                }
            };
            for &TraceTile { tile, .. } in self.seen.iter().filter(|seen| seen.level == level) {
                tiles.push(ExploredTile { level, tile, state: state(tile) });
                for beside in block_of(tile).filter(|&beside| array.is_uniform(beside)) {
                    if known.insert(TraceTile { level, tile: beside }) {
                        tiles.push(ExploredTile { level, tile: beside, state: TileState::Uniform });
                    }
                }
            }
        }
        tiles
    }
}

/// The block of 2 x 2 x 2 tiles that one is in.
fn block_of(tile: TileCoord) -> impl Iterator<Item = TileCoord> {
    (0..8).map(move |i| TileCoord {
        x: (tile.x & !1) | (i & 1),
        y: (tile.y & !1) | (i >> 1 & 1),
        z: (tile.z & !1) | (i >> 2),
    })
}
