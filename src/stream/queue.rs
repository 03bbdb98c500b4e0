//! Owns what is wanted and not begun: [`Queue`]. Knows nothing of pages or budgets.

use std::collections::{BTreeSet, HashMap};

use crate::layout::TileId;

use super::priority::{Priority, Urgency};

/// A tile of any array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TileKey {
    pub(super) array: u32,
    pub(super) tile: TileId,
}

/// How urgently a tile was last wanted, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) priority: Priority,
    pub(super) generation: u64,
}

/// Wanted tiles, in the order in which they are to be loaded: by priority, then array, then tile.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<TileKey, Entry>,
    order: BTreeSet<(Priority, TileKey)>,
    prefetched: u64,
}

impl Queue {
    /// Puts a tile in, or changes the priority of one that is in.
    pub(super) fn put(&mut self, key: TileKey, entry: Entry) {
        self.take(key);
        self.entries.insert(key, entry);
        self.order.insert((entry.priority, key));
        self.prefetched += prefetched(entry);
    }

    pub(super) fn take(&mut self, key: TileKey) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.order.remove(&(entry.priority, key));
        self.prefetched -= prefetched(entry);
        Some(entry)
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = &(Priority, TileKey)> {
        self.order.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Tiles wanted because they are visible, and ahead of need.
    pub(super) fn lengths(&self) -> (u64, u64) {
        (self.order.len() as u64 - self.prefetched, self.prefetched)
    }

    /// When a queued tile was last wanted.
    pub(super) fn generation_of(&self, key: TileKey) -> Option<u64> {
        self.entries.get(&key).map(|entry| entry.generation)
    }

    /// Drops what `keep` says no to, and says how many that was.
    pub(super) fn retain(&mut self, keep: impl Fn(TileKey, Entry) -> bool) -> u64 {
        let before = self.entries.len();
        let Self { entries, order, prefetched: ahead } = self;
        entries.retain(|&key, &mut entry| {
            let stays = keep(key, entry);
            if !stays {
                order.remove(&(entry.priority, key));
                *ahead -= prefetched(entry);
            }
            stays
        });
        (before - self.entries.len()) as u64
    }
}

fn prefetched(entry: Entry) -> u64 {
    u64::from(entry.priority.urgency == Urgency::Prefetch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(array: u32, tile: u64) -> TileKey {
        TileKey { array, tile: TileId(tile) }
    }

    fn order(queue: &Queue) -> Vec<(u32, u64)> {
        queue.in_order().map(|(_, key)| (key.array, key.tile.0)).collect()
    }

    #[test]
    fn equal_priorities_go_by_array_and_then_by_tile() {
        let mut queue = Queue::default();
        let entry = Entry { priority: Priority::visible(0, 1.0), generation: 0 };
        for (array, tile) in [(2, 0), (1, 7), (1, 3)] {
            queue.put(key(array, tile), entry);
        }
        queue.put(key(9, 9), Entry { priority: Priority::visible(0, 0.5), ..entry });
        assert_eq!(order(&queue), [(9, 9), (1, 3), (1, 7), (2, 0)]);
    }

    #[test]
    fn a_tile_is_queued_once_with_its_last_priority() {
        let mut queue = Queue::default();
        let entry = |distance, generation| Entry { priority: Priority::visible(0, distance), generation };
        queue.put(key(1, 1), entry(1.0, 0));
        queue.put(key(1, 2), entry(2.0, 0));
        queue.put(key(1, 1), entry(3.0, 1));
        assert_eq!((order(&queue), queue.lengths()), (vec![(1, 2), (1, 1)], (2, 0)));
        queue.put(key(1, 1), Entry { priority: Priority::prefetch(0, 0.0), generation: 1 });
        assert_eq!(queue.lengths(), (1, 1));
        assert_eq!(queue.retain(|_, entry| entry.generation > 0), 1);
        assert_eq!((order(&queue), queue.lengths()), (vec![(1, 1)], (0, 1)));
        assert!(queue.take(key(1, 1)).is_some() && queue.take(key(1, 1)).is_none());
        assert_eq!((queue.is_empty(), queue.lengths()), (true, (0, 0)));
    }
}
