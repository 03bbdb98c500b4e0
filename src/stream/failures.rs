//! Owns what failed: [`Failures`], the tiles that are not to be tried again yet and a log for the caller, [`StreamFailures`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::layout::TileCoord;

use super::Enrolled;
use super::priority::Priority;
use super::queue::TileKey;

/// Failures that are kept for the caller; of more, the newest.
const KEPT: usize = 1024;

/// One tile that could not be loaded.
#[derive(Clone, Debug)]
pub struct StreamFailure {
    /// Of which array.
    pub array: Enrolled,
    /// Which tile.
    pub tile: TileCoord,
    /// Why. [`Error::Tile`] where its source failed; anything else is what became of the whole request, and comes once for each of its tiles.
    pub error: Arc<Error>,
}

/// What failed since somebody asked last.
#[derive(Clone, Debug, Default)]
pub struct StreamFailures {
    /// The newest 1024 at most, oldest first.
    pub newest: Vec<StreamFailure>,
    /// How many there were besides.
    pub lost: u64,
}

/// When a tile failed, and how urgently it was wanted last.
#[derive(Clone, Copy, Debug)]
struct Failed {
    at: Instant,
    priority: Priority,
}

/// **Memory**: 48 bytes or so for each tile that failed, until it is retried.
#[derive(Debug, Default)]
pub(super) struct Failures {
    failed: HashMap<TileKey, Failed>,
    log: VecDeque<StreamFailure>,
    lost: u64,
}

impl Failures {
    pub(super) fn add(&mut self, key: TileKey, priority: Priority, failure: StreamFailure, now: Instant) {
        self.failed.insert(key, Failed { at: now, priority });
        if self.log.len() == KEPT {
            self.log.pop_front();
            self.lost += 1;
        }
        self.log.push_back(failure);
    }

    /// A tile is wanted: whether it failed and may not be tried again yet. Where it may, its failure is forgotten.
    pub(super) fn bars(
        &mut self,
        key: TileKey,
        priority: Priority,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> bool {
        let Some(failed) = self.failed.get_mut(&key) else { return false };
        failed.priority = priority;
        if retry_after.is_some_and(|after| now.saturating_duration_since(failed.at) >= after) {
            self.failed.remove(&key);
            return false;
        }
        true
    }

    /// Whether the tile failed and is not to be tried again yet.
    pub(super) fn has(&self, key: TileKey) -> bool {
        self.failed.contains_key(&key)
    }

    /// Forgets which tiles failed, and returns them with the priority they were wanted with last.
    pub(super) fn take_tiles(&mut self) -> Vec<(TileKey, Priority)> {
        self.failed.drain().map(|(key, failed)| (key, failed.priority)).collect()
    }

    pub(super) fn tiles(&self) -> u64 {
        self.failed.len() as u64
    }

    pub(super) fn forget_array(&mut self, array: u32) {
        self.failed.retain(|key, _| key.array != array);
    }

    pub(super) fn drain(&mut self) -> StreamFailures {
        StreamFailures { newest: self.log.drain(..).collect(), lost: std::mem::take(&mut self.lost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ResidencyError;
    use crate::layout::TileId;

    fn key(tile: u64) -> TileKey {
        TileKey { array: 1, tile: TileId(tile) }
    }

    fn failure(tile: u64) -> StreamFailure {
        let error = Arc::new(Error::from(ResidencyError::ReadOnly));
        StreamFailure { array: Enrolled { pool: 0, array: 1 }, tile: TileCoord::new(tile, 0, 0), error }
    }

    #[test]
    fn the_newest_are_kept_and_the_rest_counted() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for tile in 0..KEPT as u64 + 10 {
            failures.add(key(tile), Priority::default(), failure(tile), now);
        }
        let drained = failures.drain();
        assert_eq!((drained.newest.len(), drained.lost), (KEPT, 10));
        assert_eq!(drained.newest[0].tile.x, 10);
        let again = failures.drain();
        assert_eq!((again.newest.len(), again.lost, failures.tiles()), (0, 0, KEPT as u64 + 10));
    }

    #[test]
    fn a_failed_tile_is_barred_until_its_time_or_until_asked_for() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let (later, after) = (now + Duration::from_secs(5), Some(Duration::from_secs(5)));
        let near = Priority::visible(0, 1.0);
        failures.add(key(1), Priority::default(), failure(1), now);
        assert!(failures.bars(key(1), near, None, later));
        assert!(failures.bars(key(1), near, after, now));
        assert!(!failures.bars(key(2), near, after, now));
        assert_eq!(failures.take_tiles(), [(key(1), near)]);
        assert!(!failures.bars(key(1), near, None, later));
        failures.add(key(1), Priority::default(), failure(1), now);
        assert!(!failures.bars(key(1), near, after, later));
        assert_eq!(failures.tiles(), 0);
    }
}
