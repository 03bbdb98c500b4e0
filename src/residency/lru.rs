//! Owns the order of last use: [`Recency`], which is brought up to date from the pages' stamps only when something must be evicted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::out_of_turn::OutOfTurn;
use super::{PageKey, Victim};

/// Where a page stands: when it was last used as far as is known, and after how many others of that moment.
type Rank = (u64, i64);

#[derive(Clone, Copy, Debug)]
struct Seen {
    bytes: u64,
    stamp: u64,
    rank: Rank,
    /// How many pages had been placed when it was.
    place: u64,
}

/// Evictable pages, least recently used first, as far as their stamps were looked at.
///
/// A hit only writes a stamp. When a page comes up for eviction whose stamp has moved on since it was placed, it is placed again where that stamp belongs:
/// the cost of keeping the order is paid per eviction, not per hit. What comes up with the stamp that it was placed by is the least recently used of all, for the others were used no earlier
/// than they were placed by. Pages that are put in afresh, or put back, count as used most recently.
///
/// **Cost**: logarithmic in the pages, for each that is placed.
#[derive(Default)]
pub(super) struct Recency {
    pages: HashMap<PageKey, Seen, BuildHasherDefault<Mixed>>,
    order: BTreeMap<Rank, PageKey>,
    /// How many pages have been placed.
    placed: u64,
    /// Tells pages of one stamp apart: places at the new end go up, those at the old end down.
    ends: [i64; 2],
    /// How stamps and places went along of late: the first place of each later stamp, for as many places as there are pages.
    course: VecDeque<(u64, u64)>,
    out_of_turn: OutOfTurn,
}

impl std::fmt::Debug for Recency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recency").field("pages", &self.pages.len()).finish_non_exhaustive()
    }
}

impl Recency {
    /// Places a page as most recently used.
    pub(super) fn insert(&mut self, page: Victim) {
        self.out_of_turn.came_back(page.key);
        let newest = self.order.last_key_value().map_or(0, |(rank, _)| rank.0);
        self.count(page.stamp);
        self.ends[1] += 1;
        self.enter(page, (page.stamp.max(newest), self.ends[1]), self.placed);
        let pages = self.pages.len() as u64;
        while self.course.front().is_some_and(|&(_, place)| place + pages < self.placed) {
            self.course.pop_front();
        }
    }

    /// A page is placed.
    fn count(&mut self, stamp: u64) {
        self.placed += 1;
        if self.course.back().is_none_or(|&(last, _)| last < stamp) {
            self.course.push_back((stamp, self.placed));
        }
    }

    fn enter(&mut self, page: Victim, rank: Rank, place: u64) {
        let Victim { key, bytes, stamp, .. } = page;
        if let Some(before) = self.pages.insert(key, Seen { bytes, stamp, rank, place }) {
            self.order.remove(&before.rank);
        }
        self.order.insert(rank, key);
    }

    /// How many pages had been placed soon after a stamp.
    fn place_of(&self, stamp: u64) -> u64 {
        let later = self.course.partition_point(|&(at, _)| at < stamp);
        self.course.get(later).map_or(self.placed, |&(_, place)| place)
    }

    fn take(&mut self, key: PageKey) -> Option<Seen> {
        let seen = self.pages.remove(&key)?;
        self.order.remove(&seen.rank);
        Some(seen)
    }

    /// Takes a page out of the order.
    pub(super) fn remove(&mut self, key: PageKey) -> Option<Victim> {
        self.take(key).map(|seen| Victim { key, bytes: seen.bytes, stamp: seen.stamp, shared: false })
    }

    /// Takes a page out of turn, with the stamp that it really has, unless it was used too recently for that.
    pub(super) fn take_if_old(&mut self, key: PageKey, stamp_of: impl Fn(PageKey) -> u64) -> Option<Victim> {
        let seen = *self.pages.get(&key)?;
        let stamp = stamp_of(key);
        // Where it would stand had it been placed again when it was last used.
        let place = if stamp == seen.stamp { seen.place } else { self.place_of(stamp).max(seen.place) };
        let pages = self.pages.len() as u64;
        if !self.out_of_turn.may_take(self.placed - place, pages) {
            return None;
        }
        self.take(key);
        self.out_of_turn.took(key, place, self.placed, pages);
        Some(Victim { key, bytes: seen.bytes, stamp, shared: false })
    }

    /// A page without memory is asked for: if it was taken out of turn, that may have been a mistake.
    pub(super) fn asked_for(&mut self, key: PageKey) {
        self.out_of_turn.asked_for(key, self.placed, self.pages.len() as u64);
    }

    /// Takes the least recently used page out, with the stamp that it really has.
    pub(super) fn pop_oldest(&mut self, stamp_of: impl Fn(PageKey) -> u64) -> Option<Victim> {
        // Pages may be used while this looks: after two rounds whatever comes up will do.
        for left in (0..=2 * self.pages.len()).rev() {
            let (_, key) = self.order.pop_first()?;
            let stamp = stamp_of(key);
            let seen = *self.pages.get(&key)?;
            if left == 0 || stamp == seen.stamp {
                self.pages.remove(&key);
                return Some(Victim { key, bytes: seen.bytes, stamp, shared: false });
            }
            // Where it would stand, had it been placed when it was last used.
            self.count(stamp);
            self.ends[1] += 1;
            let rank = (stamp, self.ends[1]);
            let place = self.place_of(stamp).max(seen.place);
            self.pages.insert(key, Seen { stamp, rank, place, ..seen });
            self.order.insert(rank, key);
        }
        None
    }

    /// Places pages again that were taken out but stay, oldest first.
    pub(super) fn put_back(&mut self, pages: &[Victim]) {
        let mut pages = pages.to_vec();
        pages.sort_by_key(|page| page.stamp);
        for page in pages {
            self.insert(page);
        }
    }

    /// Places pages again that were taken out, at the end that they were taken from: as if they never had been.
    pub(super) fn restore(&mut self, pages: &[Victim]) {
        let mut pages = pages.to_vec();
        pages.sort_by_key(|page| std::cmp::Reverse(page.stamp));
        for page in pages {
            // As old as the oldest: nothing else ages by it.
            let oldest = self.order.first_key_value();
            let (at, place) = oldest.map_or((page.stamp, self.placed), |(rank, key)| {
                (rank.0.min(page.stamp), self.pages.get(key).map_or(self.placed, |seen| seen.place))
            });
            self.out_of_turn.came_back(page.key);
            self.ends[0] -= 1;
            self.enter(page, (at, self.ends[0]), place);
        }
    }
}

/// Mixes the numbers of pages, which nobody chooses to collide.
#[derive(Clone, Copy, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
