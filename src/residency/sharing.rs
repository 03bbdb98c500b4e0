//! Owns which pages have the same physical memory: [`Sharing`]. Forks of an array make such pages, writing to one ends it.

use std::collections::{HashMap, HashSet};

use super::PageKey;

/// Pages that share memory, in groups, and pages that must not be written to as they are.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// The group of every page that shares its memory with another one.
    group_of: HashMap<PageKey, u64>,
    groups: HashMap<u64, Vec<PageKey>>,
    last_group: u64,
    /// Pages that are mapped for reading only, since they share their memory or did once.
    locked: HashSet<PageKey>,
}

impl Sharing {
    /// From now on `page` has the memory of `of`, too. Neither may be written to as it is.
    pub(super) fn join(&mut self, of: PageKey, page: PageKey) {
        let group = *self.group_of.entry(of).or_insert_with(|| {
            self.last_group += 1;
            self.groups.insert(self.last_group, vec![of]);
            self.last_group
        });
        self.group_of.insert(page, group);
        self.groups.entry(group).or_default().push(page);
        self.locked.extend([of, page]);
    }

    /// The page has that memory no more. Returns whether nobody has it now.
    pub(super) fn leave(&mut self, page: PageKey) -> bool {
        self.locked.remove(&page);
        let Some(group) = self.group_of.remove(&page) else { return true };
        let Some(members) = self.groups.get_mut(&group) else { return true };
        members.retain(|member| *member != page);
        if let [alone] = members[..] {
            self.group_of.remove(&alone);
            self.groups.remove(&group);
        }
        false
    }

    /// All pages with the memory of this one, itself included; empty where it shares its memory with nobody.
    pub(super) fn members(&self, page: PageKey) -> &[PageKey] {
        let group = self.group_of.get(&page).and_then(|group| self.groups.get(group));
        group.map_or(&[], Vec::as_slice)
    }

    /// What tells memory apart that several pages have.
    pub(super) fn group(&self, page: PageKey) -> Option<u64> {
        self.group_of.get(&page).copied()
    }

    /// Whether the page may not be written to as it is.
    pub(super) fn is_locked(&self, page: PageKey) -> bool {
        self.locked.contains(&page)
    }

    /// The page may not be written to as it is.
    pub(super) fn lock(&mut self, page: PageKey) {
        self.locked.insert(page);
    }

    /// The page may be written to: it has its memory for itself, and access to it was set.
    pub(super) fn unlock(&mut self, page: PageKey) {
        self.locked.remove(&page);
    }
}
