//! Owns the order of last use: [`Recency`], a [`Queue`] that is brought up to date from the pages' stamps only when something must be evicted.

use std::collections::VecDeque;

use super::out_of_turn::OutOfTurn;
use super::queue::Queue;
use super::{PageKey, Victim};

#[derive(Clone, Copy, Debug)]
struct Seen {
    bytes: u64,
    stamp: u64,
    /// How many pages had been placed when it was.
    place: u64,
}

/// Evictable pages, least recently used first, as far as their stamps were looked at.
///
/// A hit only writes a stamp. When a page comes up for eviction whose stamp has moved on since it was placed, it is placed again as most recently used:
/// the cost of keeping the order is paid per eviction, not per hit. The order is exact among pages whose stamps did not move since they were placed; pages that are
/// placed again together are placed in the order of their stamps.
pub(super) struct Recency {
    order: Queue<Seen>,
    /// How many pages have been placed.
    placed: u64,
    /// How stamps and places went along of late: the first place of each later stamp, for as many places as there are pages.
    course: VecDeque<(u64, u64)>,
    out_of_turn: OutOfTurn,
    /// Pages whose stamp had moved on when they came up, to be placed again together.
    moved: Vec<Victim>,
    /// So many of those that come up next were [told](Recency::look_ahead).
    ahead: usize,
    /// Pages that were used at this time or later are wanted, and go only where all others have gone.
    wanted_since: u64,
    /// The last such time at which that was in vain: there was nothing else.
    in_vain: u64,
}

/// So many wanted pages are passed over before one is taken all the same: the time that this takes is another request's.
const MOST_PASSED: u32 = 1 << 14;

/// So many pages are told ahead at least. Each one's stamp is in a cache line of its own: fetching that takes longer than all else that is done about a page.
const AHEAD: usize = 16;

impl Default for Recency {
    fn default() -> Self {
        Self {
            order: Queue::default(),
            placed: 0,
            course: VecDeque::new(),
            out_of_turn: OutOfTurn::default(),
            moved: Vec::new(),
            ahead: 0,
            wanted_since: u64::MAX,
            in_vain: u64::MAX,
        }
    }
}

impl std::fmt::Debug for Recency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recency")
            .field("pages", &(self.order.len() + self.moved.len()))
            .finish_non_exhaustive()
    }
}

impl Recency {
    /// Places a page as most recently used.
    #[inline]
    pub(super) fn insert(&mut self, key: PageKey, bytes: u64, stamp: u64) {
        self.placed += 1;
        self.out_of_turn.came_back(key);
        self.order.push_back(key, Seen { bytes, stamp, place: self.placed });
        if self.course.back().is_none_or(|&(last, _)| last < stamp) {
            self.course.push_back((stamp, self.placed));
        }
        let pages = self.order.len() as u64;
        while self.course.front().is_some_and(|&(_, place)| place + pages < self.placed) {
            self.course.pop_front();
        }
    }

    /// Takes a page out of the order.
    pub(super) fn remove(&mut self, key: PageKey) -> Option<Victim> {
        self.settle();
        self.order.remove(key).map(|seen| Victim { key, bytes: seen.bytes, stamp: seen.stamp, shared: false })
    }

    /// Takes a page out of turn, with the stamp that it really has, unless it was used too recently for that.
    pub(super) fn take_if_old(&mut self, key: PageKey, stamp_of: impl Fn(PageKey) -> u64) -> Option<Victim> {
        let seen = *self.order.get(key)?;
        let stamp = stamp_of(key);
        // Where it would stand had it been placed again when it was last used.
        let used = self.course.partition_point(|&(at, _)| at <= stamp).checked_sub(1);
        let used = used.and_then(|i| self.course.get(i)).filter(|_| stamp != seen.stamp);
        let place = used.map_or(seen.place, |&(_, place)| place.max(seen.place));
        let pages = self.order.len() as u64;
        if !self.out_of_turn.may_take(self.placed - place, pages) {
            return None;
        }
        self.order.remove(key);
        self.out_of_turn.took(key, place, self.placed, pages);
        Some(Victim { key, bytes: seen.bytes, stamp, shared: false })
    }

    /// A page without memory is asked for: if it was taken out of turn, that may have been a mistake.
    #[inline]
    pub(super) fn asked_for(&mut self, key: PageKey) {
        self.out_of_turn.asked_for(key, self.placed, self.order.len() as u64);
    }

    /// From now on what was used at `time` or later goes last, whatever the order says: a page that is placed again stands behind some that were used after it.
    pub(super) fn keep_since(&mut self, time: u64) {
        self.wanted_since = if time == self.in_vain { u64::MAX } else { time };
    }

    /// Tells which pages come up soon, as far as it did not before.
    #[inline]
    pub(super) fn look_ahead(&mut self, soon: impl FnMut(PageKey)) {
        if self.ahead < AHEAD {
            self.order.next(self.ahead..2 * AHEAD).for_each(soon);
            self.ahead = 2 * AHEAD;
        }
    }

    /// Takes the least recently used page out, with the stamp that it really has.
    pub(super) fn pop_oldest(&mut self, stamp_of: impl Fn(PageKey) -> u64) -> Option<Victim> {
        // Two rounds at most: in the second every page has been placed by its present stamp.
        let mut passed = 0;
        for round in 0..2 {
            while let Some((key, seen)) = self.order.pop_front() {
                self.ahead = self.ahead.saturating_sub(1);
                let page = Victim { key, bytes: seen.bytes, stamp: stamp_of(key), shared: false };
                let is_wanted = page.stamp >= self.wanted_since;
                if round > 0 || (page.stamp == seen.stamp && !is_wanted) {
                    return Some(page);
                }
                self.moved.push(page);
                passed += u32::from(is_wanted);
                if passed == MOST_PASSED {
                    self.pass_over_nothing();
                }
            }
            self.settle();
            self.pass_over_nothing();
        }
        None
    }

    /// There is nothing besides what is wanted, or too much of that: the next plan of the same wants need not look.
    fn pass_over_nothing(&mut self) {
        if self.wanted_since != u64::MAX {
            self.in_vain = self.wanted_since;
            self.wanted_since = u64::MAX;
        }
    }

    /// Places pages again that were taken out but stay, oldest first.
    pub(super) fn put_back(&mut self, pages: &[Victim]) {
        self.moved.extend_from_slice(pages);
        self.settle();
    }

    /// Places pages again that were taken out, at the end that they were taken from: as if they never had been.
    pub(super) fn restore(&mut self, pages: &[Victim]) {
        let mut pages = pages.to_vec();
        pages.sort_unstable_by_key(|page| std::cmp::Reverse(page.stamp));
        for page in pages {
            // As old as the oldest: nothing else ages by it.
            let place = self.order.front().map_or(self.placed, |oldest| oldest.place);
            self.out_of_turn.came_back(page.key);
            self.order.push_front(page.key, Seen { bytes: page.bytes, stamp: page.stamp, place });
        }
    }

    fn settle(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        self.moved.sort_unstable_by_key(|page| page.stamp);
        for page in std::mem::take(&mut self.moved) {
            self.insert(page.key, page.bytes, page.stamp);
        }
    }
}
