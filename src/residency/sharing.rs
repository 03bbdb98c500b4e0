//! Owns which pages have the same physical memory: [`Sharing`]. Forks of an array make such pages, writing to one ends it.

use foldhash::{HashMap, HashSet};

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

    /// Whether no page shares memory with another, or did once.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.locked.is_empty() && self.group_of.is_empty()
    }

    /// The page has that memory no more. Returns whether nobody has it now.
    #[inline]
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
    #[inline]
    pub(super) fn members(&self, page: PageKey) -> &[PageKey] {
        let group = self.group_of.get(&page).and_then(|group| self.groups.get(group));
        group.map_or(&[], Vec::as_slice)
    }

    /// What tells memory apart that several pages have.
    #[inline]
    pub(super) fn group(&self, page: PageKey) -> Option<u64> {
        self.group_of.get(&page).copied()
    }

    /// Whether the page may not be written to as it is.
    #[inline]
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

#[cfg(test)]
mod tests {
    use super::super::{Need, NoRoom, Plan, Residency};
    use super::*;
    use crate::layout::PageId;

    fn key(array: u32, page: u64) -> PageKey {
        PageKey { array, page: PageId(page) }
    }

    fn need(key: PageKey, copies: bool) -> Need {
        Need { key, bytes: 10, shown: None, copies }
    }

    /// Pages of array 1 with memory, and as many pages of array 2 with the same.
    fn forked(budget: u64, pages: u64) -> Residency {
        let mut r = Residency::new(budget);
        let needs: Vec<_> = (0..pages).map(|page| need(key(1, page), false)).collect();
        let plan = r.plan(&needs, &|_: PageKey| 0, |_, _| true).unwrap();
        r.confirm(&plan);
        for n in &needs {
            r.loaded(n.key, 10, n.key.page.0);
            r.share(n.key, key(2, n.key.page.0));
            r.place(key(2, n.key.page.0), 10, n.key.page.0);
        }
        r
    }

    fn victims(plan: &Plan) -> Vec<(PageKey, bool)> {
        let mut all: Vec<_> = plan.victims.iter().map(|v| (v.key, v.shared)).collect();
        all.sort_unstable_by_key(|v| v.0);
        all
    }

    #[test]
    fn memory_counts_once_and_goes_from_all_who_have_it() {
        let mut r = forked(30, 3);
        assert_eq!(r.used(), 30);
        let plan = r.plan(&[need(key(3, 0), false)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
        let gone = victims(&plan);
        assert_eq!(gone.iter().map(|v| v.0).collect::<Vec<_>>(), [key(1, 0), key(2, 0)]);
        assert_eq!(gone.iter().filter(|v| !v.1).count(), 1, "one of them frees it");
        assert!(plan.create.is_empty());
        r.confirm(&plan);
        assert_eq!(r.used(), 30);
        let shrunk = r.plan_shrink(10, &|k: PageKey| k.page.0, |_, _| true).unwrap();
        assert_eq!(shrunk.victims.len(), 4);
        r.confirm(&shrunk);
        assert_eq!(r.used(), 10);
    }

    #[test]
    fn memory_is_as_young_as_the_youngest_who_has_it_and_stays_where_one_is_held() {
        let mut r = forked(30, 3);
        let stamps = |k: PageKey| if k == key(2, 0) { 9 } else { k.page.0 };
        let plan = r.plan(&[need(key(3, 0), false)], &stamps, |_, _| true).unwrap();
        assert_eq!(plan.victims.iter().map(|v| v.key.page.0).collect::<Vec<_>>(), [1, 1]);
        r.abandon(&plan);
        // Nor does what may not go let go of the rest.
        let plan = r.plan(&[need(key(3, 0), false)], &stamps, |k, _| k != key(1, 1)).unwrap();
        assert_eq!(plan.victims.iter().map(|v| v.key.page.0).collect::<Vec<_>>(), [2, 2]);
        r.abandon(&plan);
        for page in 0..3 {
            r.pin(key(1, page), 10, true);
            r.pin(key(2, page), 10, true);
        }
        (0..3).for_each(|page| r.unpin(key(2, page), true, 0));
        let error = r.plan(&[need(key(3, 0), false)], &stamps, |_, _| true).unwrap_err();
        assert_eq!(error, NoRoom { needed_bytes: 10, pinned_bytes: 30, busy_bytes: 0, spared_bytes: 0 });
        assert_eq!(r.used(), 30);
    }

    #[test]
    fn a_copy_takes_room_or_else_the_place_of_those_who_share() {
        let mut r = forked(30, 2);
        r.hold(key(1, 0), 10, true);
        r.hold(key(1, 1), 10, true);
        let plan = r.plan(&[need(key(1, 0), true)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
        assert_eq!((plan.copies.len(), plan.create.len(), plan.victims.len()), (1, 1, 0));
        r.confirm(&plan);
        assert_eq!((r.used(), r.is_locked(key(1, 0)), r.is_locked(key(2, 0))), (30, false, true));
        assert!(r.shared_memory(key(2, 0)).is_none(), "alone with it now");
        // The other page of the first array: what is alone goes first.
        let plan = r.plan(&[need(key(1, 1), true)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
        assert_eq!(victims(&plan), [(key(2, 0), false)]);
        r.abandon(&plan);
        r.hold(key(2, 0), 10, true);
        let refused =
            r.plan(&[need(key(1, 1), true)], &|k: PageKey| k.page.0, |k, _| k != key(2, 1)).unwrap_err();
        assert_eq!((refused.needed_bytes, r.used()), (10, 30));
        let plan = r.plan(&[need(key(1, 1), true)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
        assert_eq!(
            (victims(&plan), plan.opened.as_slice()),
            (vec![(key(2, 1), true)], [key(1, 1)].as_slice())
        );
        r.confirm(&plan);
        assert_eq!((r.used(), r.is_locked(key(1, 1))), (30, false));
    }

    #[test]
    fn whoever_is_last_gives_the_memory_back() {
        let mut r = forked(30, 1);
        r.share(key(2, 0), key(3, 0));
        r.place(key(3, 0), 10, 0);
        for (array, used) in [(1, 10), (3, 10), (2, 0)] {
            let plan = r.plan_evict(&[key(array, 0)]);
            assert_eq!(plan.victims[0].shared, used > 0);
            r.confirm(&plan);
            assert_eq!(r.used(), used, "{array}");
        }
    }
}
