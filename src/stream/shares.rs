//! Owns who gets a share of the budget: [`Shares`]. Pages that are wanted, in order of priority, as far as the budget holds them all at once.
//!
//! ```text
//! most urgent                                        least urgent
//! [ page ][ page ][ page ][ page ] | [ page ][ page ][ page ]
//!            inside                |         outside
//!                            limit_bytes
//! ```
//!
//! What is inside may be loaded and is kept in use; what is outside is neither. Without that line the last tiles of a set larger than the budget would evict its first, which are
//! the most urgent, and the next generation would begin over.

use std::collections::{BTreeSet, HashMap};

use crate::layout::PageId;

use super::priority::Priority;

/// A page of any array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageKey {
    pub(super) array: u32,
    pub(super) page: PageId,
}

#[derive(Clone, Copy, Debug)]
struct Ranked {
    priority: Priority,
    generation: u64,
    bytes: u64,
}

/// The wanted pages, resident or not.
#[derive(Debug, Default)]
pub(super) struct Shares {
    pages: HashMap<PageKey, Ranked>,
    inside: BTreeSet<(Priority, PageKey)>,
    outside: BTreeSet<(Priority, PageKey)>,
    inside_bytes: u64,
    limit_bytes: u64,
}

impl Shares {
    /// A tile of the page is wanted. Within a generation the most urgent of its tiles counts.
    pub(super) fn rank(&mut self, page: PageKey, priority: Priority, generation: u64, bytes: u64) {
        if let Some(known) = self.pages.get_mut(&page) {
            let newer = generation > known.generation;
            known.generation = known.generation.max(generation);
            if known.priority == priority || !newer && known.priority < priority {
                return;
            }
            self.remove(page);
        }
        self.pages.insert(page, Ranked { priority, generation, bytes });
        let place = (priority, page);
        if self.outside.first().is_some_and(|first| *first < place) {
            self.outside.insert(place);
        } else {
            self.inside.insert(place);
            self.inside_bytes += bytes;
        }
        self.settle();
    }

    /// Whether the page has been ranked.
    pub(super) fn knows(&self, page: PageKey) -> bool {
        self.pages.contains_key(&page)
    }

    /// Whether the budget holds the page together with all that is more urgent.
    pub(super) fn holds(&self, page: PageKey) -> bool {
        self.pages.get(&page).is_some_and(|ranked| self.inside.contains(&(ranked.priority, page)))
    }

    pub(super) fn set_limit(&mut self, bytes: u64) {
        if self.limit_bytes != bytes {
            self.limit_bytes = bytes;
            self.settle();
        }
    }

    pub(super) fn remove(&mut self, page: PageKey) {
        let Some(ranked) = self.pages.remove(&page) else { return };
        let place = (ranked.priority, page);
        if self.inside.remove(&place) {
            self.inside_bytes -= ranked.bytes;
        }
        self.outside.remove(&place);
        self.settle();
    }

    /// Drops the pages that `keep`, told each page and the generation it was last wanted in, says no to.
    pub(super) fn retain(&mut self, keep: impl Fn(PageKey, u64) -> bool) {
        let gone: Vec<_> = self.pages.iter().filter(|(page, r)| !keep(**page, r.generation)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(page, _)| *page).collect();
        if gone.len() == self.pages.len() {
            *self = Self { limit_bytes: self.limit_bytes, ..Self::default() };
            return;
        }
        for page in gone {
            self.remove(page);
        }
    }

    /// Moves the line to where it belongs.
    fn settle(&mut self) {
        while self.inside_bytes > self.limit_bytes {
            let Some(last) = self.inside.pop_last() else { return };
            self.inside_bytes -= self.bytes_of(last.1);
            self.outside.insert(last);
        }
        while let Some(&first) = self.outside.first() {
            let bytes = self.bytes_of(first.1);
            if self.inside_bytes + bytes > self.limit_bytes {
                return;
            }
            self.outside.remove(&first);
            self.inside.insert(first);
            self.inside_bytes += bytes;
        }
    }

    fn bytes_of(&self, page: PageKey) -> u64 {
        self.pages.get(&page).map_or(0, |ranked| ranked.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(i: u64) -> PageKey {
        PageKey { array: 1, page: PageId(i) }
    }

    fn near(distance: f32) -> Priority {
        Priority::visible(0, distance)
    }

    fn inside(shares: &Shares) -> Vec<u64> {
        (0..10).filter(|&i| shares.holds(page(i))).collect()
    }

    #[test]
    fn the_most_urgent_pages_are_inside_in_whatever_order_they_came() {
        let mut shares = Shares::default();
        shares.set_limit(30);
        for i in [5, 2, 8, 1, 9, 0] {
            shares.rank(page(i), near(f32::from(u8::try_from(i).unwrap())), 0, 10);
        }
        assert_eq!(inside(&shares), [0, 1, 2]);
        shares.set_limit(45);
        assert_eq!(inside(&shares), [0, 1, 2, 5]);
        shares.rank(page(0), near(99.0), 1, 10);
        assert_eq!(inside(&shares), [1, 2, 5, 8], "a newer generation lowers");
        shares.rank(page(9), near(7.0), 0, 10);
        assert_eq!(inside(&shares), [1, 2, 5, 9]);
        shares.rank(page(9), near(8.5), 0, 10);
        assert_eq!(inside(&shares), [1, 2, 5, 9], "within a generation the most urgent tile counts");
        shares.set_limit(0);
        assert!(inside(&shares).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_not_overtaken_by_what_is_smaller() {
        let mut shares = Shares::default();
        shares.set_limit(30);
        shares.rank(page(0), near(0.0), 0, 20);
        shares.rank(page(1), near(1.0), 0, 20);
        shares.rank(page(2), near(2.0), 0, 5);
        assert_eq!(inside(&shares), [0]);
        shares.remove(page(0));
        assert_eq!(inside(&shares), [1, 2]);
    }

    #[test]
    fn what_is_wanted_no_more_makes_room() {
        let mut shares = Shares::default();
        shares.set_limit(20);
        shares.rank(page(0), near(0.0), 0, 10);
        shares.rank(page(1), near(1.0), 0, 10);
        shares.rank(page(2), near(2.0), 1, 10);
        shares.rank(page(1), near(1.0), 1, 10);
        assert_eq!(inside(&shares), [0, 1]);
        shares.retain(|_, generation| generation > 0);
        assert_eq!((inside(&shares), shares.inside_bytes, shares.knows(page(0))), (vec![1, 2], 20, false));
        shares.retain(|_, _| false);
        assert_eq!((inside(&shares), shares.inside_bytes), (vec![], 0));
        shares.rank(page(3), near(0.0), 2, 20);
        assert_eq!(inside(&shares), [3]);
    }
}
