//! Owns the plain values that the policy hands to the engine: [`PageKey`], [`Need`], [`Plan`], [`Victim`].

use crate::layout::PageId;

/// A page of any array of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct PageKey {
    /// Which array of the pool.
    pub(crate) array: u32,
    /// Which page of it.
    pub(crate) page: PageId,
}

/// Where it is noted when pages were last used.
pub(crate) trait Stamps {
    /// When the page was really last used.
    fn of(&self, key: PageKey) -> u64;

    /// That is asked soon.
    fn prefetch(&self, _key: PageKey) {}
}

impl<F: Fn(PageKey) -> u64> Stamps for F {
    fn of(&self, key: PageKey) -> u64 {
        self(key)
    }
}

/// A page that must get memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Need {
    pub(crate) key: PageKey,
    pub(crate) bytes: u64,
    /// The page that has the memory which the address of this one still shows: taking that costs next to nothing.
    pub(crate) shown: Option<PageKey>,
    /// The page has memory, which others have as well: it must get some of its own.
    pub(crate) copies: bool,
}

/// A page that must give its memory up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Victim {
    pub(crate) key: PageKey,
    pub(crate) bytes: u64,
    /// When it was last used, as far as the policy knew: a later stamp found afterwards spares it.
    pub(crate) stamp: u64,
    /// Others have its memory as well, so that taking it from this one frees nothing.
    pub(crate) shared: bool,
}

/// What it takes to give pages memory within the budget. Nothing has been done yet, but the bytes are set aside.
///
/// A committed page, or one that gets a copy, gets its physical page from a victim of the same size, from the waiting ones, or as a new one; victims that no commit of their size
/// takes over are destroyed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Pages to commit.
    pub(crate) commits: Vec<Need>,
    /// Pages that get a copy of the memory that they share.
    pub(crate) copies: Vec<Need>,
    /// Pages that have their memory for themselves now and may be written to again.
    pub(crate) opened: Vec<PageKey>,
    /// Pages to decommit.
    pub(crate) victims: Vec<Victim>,
    /// Sizes of waiting physical pages to use.
    pub(crate) take_idle: Vec<u64>,
    /// Sizes of physical pages to make.
    pub(crate) create: Vec<u64>,
    /// Sizes of waiting physical pages to destroy.
    pub(crate) destroy_idle: Vec<u64>,
    /// Bytes set aside while the plan is carried out: what it takes beyond mapped pages, waiting pages and the victims that make room for it.
    pub(crate) reserved_bytes: u64,
}

impl Plan {
    /// There is memory for a need.
    #[inline]
    pub(super) fn enter(&mut self, need: Need) {
        if need.copies { self.copies.push(need) } else { self.commits.push(need) }
    }
}
