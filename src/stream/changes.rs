//! Owns what came and went of a pool's tiles, by the names that a streamer has for their arrays: [`Changes`]. Knows nothing of why.

use std::sync::Arc;

use crate::backend::Backend;
use crate::engine::{Became, Engine, Follower};
use crate::layout::TileId;

use super::want::Enrolled;

/// What became of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) array: Enrolled,
    pub(crate) tile: TileId,
    pub(crate) became: Became,
}

/// What came and went since it was made, or since it was last asked.
#[derive(Debug)]
pub(crate) struct Changes<B: Backend> {
    pool: u64,
    follower: Follower<B>,
}

impl<B: Backend> Changes<B> {
    pub(super) fn new(engine: Arc<Engine<B>>) -> Self {
        Self { pool: engine.id, follower: Follower::new(engine) }
    }

    /// Oldest first, and how many before those were lost: of what nobody came for the latest 65 536 are kept. **Cost**: a short lock.
    pub(crate) fn take(&self) -> (Vec<Change>, u64) {
        let (entries, lost) = self.follower.take();
        let named = |array| Enrolled { pool: self.pool, array };
        let changes =
            entries.into_iter().map(|e| Change { array: named(e.array), tile: e.tile, became: e.became });
        (changes.collect(), lost)
    }
}
