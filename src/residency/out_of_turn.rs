//! Owns how much of the order is safe from being taken out of turn: [`OutOfTurn`] learns it from what is asked for again.
//!
//! Taking the memory that an address still shows saves calls of the driver, and costs a load where its page was wanted soon. Which of the two prevails is the trace's affair: a volume that is
//! streamed again and again at random loses nothing, a walk whose pages come round in turn loses most of its hits. So the safe part grows with every page that was taken out of turn and is missed
//! while it would have been there still, and shrinks a little with every one that is taken: it rests where one in eight is missed.

use foldhash::HashMap;

use super::PageKey;

/// Parts of the order are counted in this.
const WHOLE: u64 = 1024;
const SAFE_AT_FIRST: u64 = WHOLE / 4;
/// The very last ones used are never taken, and the very oldest may always be: or else nothing could be learnt any more.
const SAFE_AT_LEAST: u64 = WHOLE / 16;
const SAFE_AT_MOST: u64 = WHOLE - WHOLE / 16;
const GROWS_BY: u64 = 16;
const SHRINKS_BY: u64 = GROWS_BY / 8;

/// What was taken out of turn of late, and what may be.
#[derive(Debug)]
pub(super) struct OutOfTurn {
    /// Of the order, the most recently used part that may not be taken, in 1024ths.
    safe: u64,
    /// Where pages stood that were taken.
    taken: HashMap<PageKey, u64>,
}

impl Default for OutOfTurn {
    fn default() -> Self {
        Self { safe: SAFE_AT_FIRST, taken: HashMap::default() }
    }
}

impl OutOfTurn {
    /// Whether a page may be taken that is as old as that many places, in an order of `pages`.
    pub(super) fn may_take(&self, age: u64, pages: u64) -> bool {
        age * WHOLE >= self.safe * pages
    }

    /// A page was taken that stood at `place`, in an order of `pages` that goes up to `last`.
    pub(super) fn took(&mut self, key: PageKey, place: u64, last: u64, pages: u64) {
        self.safe = self.safe.saturating_sub(SHRINKS_BY).max(SAFE_AT_LEAST);
        self.taken.insert(key, place);
        if self.taken.len() as u64 > 2 * pages + 64 {
            self.taken.retain(|_, place| last - *place < pages);
        }
    }

    /// A page is asked for that has no memory: would it have some, had it not been taken?
    #[inline]
    pub(super) fn asked_for(&mut self, key: PageKey, last: u64, pages: u64) {
        if self.forget(key).is_some_and(|place| last - place < pages) {
            self.safe = (self.safe + GROWS_BY).min(SAFE_AT_MOST);
        }
    }

    /// A page is in the order, and was not asked for since it was taken: so it never went.
    #[inline]
    pub(super) fn came_back(&mut self, key: PageKey) {
        if self.forget(key).is_some() {
            self.safe = (self.safe + SHRINKS_BY).min(SAFE_AT_MOST);
        }
    }

    /// Where a page stood that was taken. Mostly nothing ever is: then this is not to cost a look-up.
    #[inline]
    fn forget(&mut self, key: PageKey) -> Option<u64> {
        if self.taken.is_empty() { None } else { self.taken.remove(&key) }
    }
}
