//! Owns which tiles were evicted of late: [`Ghosts`]. They are not read again before they have rested, and that they are wanted says that the budget holds less than is looked at. Knows
//! nothing of pictures but their number.

use std::collections::{HashMap, VecDeque};

use crate::trace::TraceTile;

/// The most tiles that are remembered: the oldest go first.
const MOST: usize = 1 << 16;

/// Tiles that were evicted, and before which picture.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    evicted: HashMap<TraceTile, u64>,
    /// As they were evicted; a tile that was loaded since is in here, too.
    order: VecDeque<(u64, TraceTile)>,
}

impl Ghosts {
    /// A tile was evicted before that picture.
    pub(super) fn evicted(&mut self, tile: TraceTile, picture: u64) {
        self.evicted.insert(tile, picture);
        self.order.push_back((picture, tile));
        if self.order.len() > MOST {
            self.drop_oldest();
        }
    }

    /// A tile is there again.
    pub(super) fn loaded(&mut self, tile: TraceTile) {
        self.evicted.remove(&tile);
    }

    /// Forgets what was evicted before that picture.
    pub(super) fn forget_before(&mut self, picture: u64) {
        while self.order.front().is_some_and(|&(at, _)| at < picture) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((at, tile)) = self.order.pop_front() else { return };
        // It may have been evicted again since.
        if self.evicted.get(&tile) == Some(&at) {
            self.evicted.remove(&tile);
        }
    }

    /// Before which picture a tile was evicted, if it is remembered.
    pub(super) fn since(&self, tile: TraceTile) -> Option<u64> {
        self.evicted.get(&tile).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::TileCoord;

    fn tile(x: u64) -> TraceTile {
        TraceTile { level: 0, tile: TileCoord::new(x, 0, 0) }
    }

    #[test]
    fn a_tile_is_remembered_from_its_last_eviction_until_it_is_loaded_or_too_long_ago() {
        let mut ghosts = Ghosts::default();
        ghosts.evicted(tile(1), 3);
        ghosts.evicted(tile(2), 4);
        ghosts.loaded(tile(1));
        assert_eq!((ghosts.since(tile(1)), ghosts.since(tile(2))), (None, Some(4)));
        ghosts.evicted(tile(1), 9);
        ghosts.forget_before(4);
        assert_eq!(ghosts.since(tile(1)), Some(9), "its first eviction is over, not its second");
        ghosts.forget_before(5);
        assert_eq!((ghosts.since(tile(2)), ghosts.order.len()), (None, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut ghosts = Ghosts::default();
        (0..MOST as u64 + 10).for_each(|x| ghosts.evicted(tile(x), 1));
        assert_eq!((ghosts.order.len(), ghosts.evicted.len()), (MOST, MOST));
        assert_eq!(ghosts.since(tile(9)), None);
    }
}
