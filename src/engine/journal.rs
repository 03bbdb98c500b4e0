//! Owns what became of which tile, in order, for whoever follows a pool: [`Journal`]. Entered under the state lock; costs nothing where nobody follows.

use std::collections::VecDeque;

use crate::layout::TileId;

#[cfg(feature = "render")]
mod follower;

#[cfg(feature = "render")]
pub(crate) use follower::Follower;

/// The most entries that are kept for one who does not come for them: the oldest go first.
const MOST_ENTRIES: usize = 1 << 16;

/// What became of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Became {
    /// It was loaded and can be read from memory.
    Resident,
    /// It was found to hold one value, and needs no memory.
    Uniform,
    /// It went out of sight, and its memory is taken for others or given back.
    Evicted,
    /// Its eviction came to nothing: it is in sight again.
    Back,
}

/// What became of one tile of one array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) array: u32,
    pub(crate) tile: TileId,
    pub(crate) became: Became,
}

/// What one follower has not come for yet.
#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Entry>,
    lost: u64,
}

/// The followers of a pool, by number.
#[derive(Debug, Default)]
pub(super) struct Journal {
    logs: Vec<(u64, Log)>,
}

impl Journal {
    #[inline]
    pub(super) fn is_followed(&self) -> bool {
        !self.logs.is_empty()
    }

    #[inline]
    pub(super) fn enter(&mut self, entry: Entry) {
        for (_, log) in &mut self.logs {
            if log.entries.len() == MOST_ENTRIES {
                log.entries.pop_front();
                log.lost += 1;
            }
            log.entries.push_back(entry);
        }
    }

    /// The same for tiles as bits from the first of each word on.
    #[inline]
    pub(super) fn enter_words(
        &mut self,
        array: u32,
        words: impl Iterator<Item = (TileId, u64)>,
        became: Became,
    ) {
        for (first, mask) in words {
            let mut left = mask;
            while left != 0 {
                let tile = TileId(first.0 + u64::from(left.trailing_zeros()));
                self.enter(Entry { array, tile, became });
                left &= left - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_come_loses_the_oldest_and_is_told_how_many() {
        let mut journal = Journal::default();
        let entry = |tile| Entry { array: 1, tile: TileId(tile), became: Became::Resident };
        journal.enter(entry(7));
        assert!(!journal.is_followed());
        journal.logs.push((3, Log::default()));
        let most = MOST_ENTRIES as u64;
        (0..most + 5).for_each(|tile| journal.enter(entry(tile)));
        let log = &journal.logs[0].1;
        assert_eq!((log.entries.len(), log.lost), (MOST_ENTRIES, 5));
        assert_eq!(log.entries.front(), Some(&entry(5)));
    }
}
