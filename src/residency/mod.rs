//! Owns who stays and who goes: [`Residency`] decides within the byte budget and returns plain [`Plan`]s. Touches no memory, knows no backend and no source.
//! README.md beside this file has the states and transitions.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

use foldhash::{HashMap, HashSet};

mod choose;
mod lru;
mod out_of_turn;
mod plan;
mod queue;
mod sharing;

pub(crate) use plan::{Need, PageKey, Plan, Stamps, Victim};

use choose::{Spared, take};
use lru::Recency;
use sharing::Sharing;

/// Why no plan could be made. Nothing has been set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_field_names, reason = "units belong in the names")]
pub(crate) struct NoRoom {
    /// Bytes that could not be had.
    pub(crate) needed_bytes: u64,
    /// Bytes of pinned pages.
    pub(crate) pinned_bytes: u64,
    /// Bytes of pages that other requests are loading or evicting.
    pub(crate) busy_bytes: u64,
    /// Bytes of pages that could go but for an open frame or the request itself.
    pub(crate) spared_bytes: u64,
}

/// Why a page is held: how many pins, and how many batches are loading into it.
#[derive(Clone, Copy, Debug, Default)]
struct Hold {
    bytes: u64,
    pins: u32,
    loads: u32,
    /// Whether the page has memory that letting it go would make available.
    mapped: bool,
}

/// The policy of one pool: least recently used, under a byte budget.
///
/// Budget and use count physical pages: mapped ones, waiting ones (`idle`), and those set aside for plans under way (`reserved`).
#[derive(Debug)]
pub(crate) struct Residency {
    budget: u64,
    mapped: u64,
    reserved: u64,
    evicting: u64,
    /// Of what is mapped: pages that have yet to be loaded into by those whom they got their memory for.
    fresh: u64,
    idle: BTreeMap<u64, u64>,
    recency: Recency,
    held: HashMap<PageKey, Hold>,
    sharing: Sharing,
}

impl Residency {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            mapped: 0,
            reserved: 0,
            evicting: 0,
            fresh: 0,
            idle: BTreeMap::new(),
            recency: Recency::default(),
            held: HashMap::default(),
            sharing: Sharing::default(),
        }
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    /// Bytes of all physical pages, mapped, waiting or about to be made.
    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.mapped + self.reserved + self.idle.iter().map(|(bytes, count)| bytes * count).sum::<u64>()
    }

    /// Bytes of memory that pins hold.
    pub(crate) fn pinned(&self) -> u64 {
        let mut seen = HashSet::default();
        let pinned = self.held.iter().filter(|(_, h)| h.mapped && h.pins > 0);
        // Memory that several pages have counts once.
        let once = pinned.filter(|&(&key, _)| self.sharing.group(key).is_none_or(|group| seen.insert(group)));
        once.map(|(_, h)| h.bytes).sum()
    }

    /// Bytes that batches under way hold or are about to have: what may come free without anyone's pin being dropped. Each of the pages `own` is held once by who asks: what
    /// nobody else holds of those does not count. A page that others hold while it is fresh counts twice.
    pub(crate) fn busy(&self, own: impl Fn(PageKey) -> bool) -> u64 {
        let others = |key: PageKey, hold: &Hold| hold.loads > u32::from(own(key));
        let held = self.held.iter().filter(|&(&key, h)| h.mapped && h.pins == 0 && others(key, h));
        held.map(|(_, h)| h.bytes).sum::<u64>() + self.fresh + self.evicting + self.reserved
    }

    /// From now on what was used at `time` or later is evicted last.
    pub(crate) fn keep_since(&mut self, time: u64) {
        self.recency.keep_since(time);
    }

    /// Takes the given pages out of the order, as far as nothing holds them: the plan that decommits them.
    pub(crate) fn plan_evict(&mut self, pages: &[PageKey]) -> Plan {
        let mut victims: Vec<_> = pages.iter().filter_map(|&key| self.recency.remove(key)).collect();
        for victim in &mut victims {
            victim.shared = self.sharing.group(victim.key).is_some();
        }
        self.evicting += victims.iter().map(|v| v.bytes).sum::<u64>();
        Plan { victims, ..Plan::default() }
    }

    /// The plan was carried out: its commits have memory (and stay until they are [loaded](Residency::loaded)), its victims have none.
    pub(crate) fn confirm(&mut self, plan: &Plan) {
        self.reserved -= plan.reserved_bytes;
        let out = plan.victims.iter().map(|v| v.bytes).sum::<u64>();
        self.evicting -= out;
        let fresh = plan.commits.iter().map(|need| need.bytes).sum::<u64>();
        self.fresh += fresh;
        self.mapped += fresh + plan.copies.iter().map(|need| need.bytes).sum::<u64>();
        let left = plan.victims.iter().map(|v| (v.key, v.bytes));
        // The memory that a page had before it got a copy of it.
        for (key, bytes) in left.chain(plan.copies.iter().map(|need| (need.key, need.bytes))) {
            if self.sharing.is_empty() || self.sharing.leave(key) {
                self.mapped -= bytes;
            }
        }
        for &key in &plan.opened {
            self.sharing.unlock(key);
        }
        if !self.held.is_empty() {
            for need in &plan.commits {
                if let Some(hold) = self.held.get_mut(&need.key) {
                    hold.mapped = true;
                }
            }
        }
    }

    /// The plan was not carried out, or was undone: everything is as it was before, the order of eviction included.
    pub(crate) fn abandon(&mut self, plan: &Plan) {
        let free = self.take_back(plan);
        self.recency.restore(&free);
    }

    /// The plan failed and was undone: as [`Residency::abandon`], but other victims are tried first the next time.
    pub(crate) fn abandon_failed(&mut self, plan: &Plan) {
        let free = self.take_back(plan);
        self.recency.put_back(&free);
    }

    /// Takes the plan's bytes back and returns the victims that have a place in the order.
    fn take_back(&mut self, plan: &Plan) -> Vec<Victim> {
        self.reserved -= plan.reserved_bytes;
        self.evicting -= plan.victims.iter().map(|v| v.bytes).sum::<u64>();
        for &bytes in plan.take_idle.iter().chain(&plan.destroy_idle) {
            self.add_idle(bytes);
        }
        let mut free = plan.victims.clone();
        free.retain(|victim| self.is_free_again(victim.key));
        free
    }

    /// Whether a page that stays mapped after all has a place in the order now. One that was held meanwhile takes its place when it is let go.
    fn is_free_again(&mut self, key: PageKey) -> bool {
        let hold = self.held.get_mut(&key);
        hold.map(|hold| hold.mapped = true).is_none()
    }

    /// A victim of a plan under way stays mapped, out of the order for good: its memory could be neither used nor given back.
    pub(crate) fn strand(&mut self, victim: &Victim) {
        self.evicting -= victim.bytes;
    }

    /// A page is mapped that no plan accounts for: it takes its place in the order, unless something holds it.
    pub(crate) fn add_stray(&mut self, key: PageKey, bytes: u64, stamp: u64) {
        self.mapped += bytes;
        if self.is_free_again(key) {
            self.recency.insert(key, bytes, stamp);
        }
    }

    /// Bytes of the budget that nothing uses.
    pub(crate) fn room(&self) -> u64 {
        self.budget.saturating_sub(self.used())
    }

    /// Sets bytes aside for pages that are about to be made outside any plan: [`Residency::give_back`] must follow.
    pub(crate) fn set_aside(&mut self, bytes: u64) {
        self.reserved += bytes;
    }

    /// Takes back what was set aside.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// A physical page waits to be mapped.
    pub(crate) fn add_idle(&mut self, bytes: u64) {
        *self.idle.entry(bytes).or_default() += 1;
    }

    /// Takes a page out of the order, so that no plan picks it, to be unmapped outside any plan: [`Residency::unmapped`] or [`Residency::not_unmapped`] must follow.
    pub(crate) fn take_out(&mut self, key: PageKey, bytes: u64) {
        self.recency.remove(key);
        self.evicting += bytes;
    }

    /// A page that was taken out lost its memory: to the waiting pages, or to the system.
    pub(crate) fn unmapped(&mut self, key: PageKey, bytes: u64, now_idle: bool) {
        self.evicting -= bytes;
        if self.sharing.leave(key) {
            self.mapped -= bytes;
        }
        if now_idle {
            self.add_idle(bytes);
        }
    }

    /// A page that was taken out could not be unmapped: it is first in line to be recycled.
    pub(crate) fn not_unmapped(&mut self, key: PageKey, bytes: u64) {
        self.evicting -= bytes;
        if self.is_free_again(key) {
            self.recency.restore(&[Victim { key, bytes, stamp: 0, shared: false }]);
        }
    }

    /// A page of a fork has the memory of the page that it was made of.
    pub(crate) fn share(&mut self, of: PageKey, page: PageKey) {
        self.sharing.join(of, page);
    }

    /// A page that was given the memory of another one takes its place in the order.
    pub(crate) fn place(&mut self, key: PageKey, bytes: u64, stamp: u64) {
        self.recency.insert(key, bytes, stamp);
    }

    /// A page that shared memory, and that no plan knows of, has it no more.
    pub(crate) fn unshare(&mut self, key: PageKey, bytes: u64) {
        if self.sharing.leave(key) {
            self.mapped -= bytes;
        }
    }

    /// A page got its copy, although its plan failed; perhaps it may only be read yet.
    pub(crate) fn copied(&mut self, need: &Need) {
        self.mapped += need.bytes;
        self.unshare(need.key, need.bytes);
        self.lock(need.key);
    }

    /// What tells memory apart that several pages have; `None` for memory of one page.
    pub(crate) fn shared_memory(&self, key: PageKey) -> Option<u64> {
        self.sharing.group(key)
    }

    /// Whether the page may not be written to as it is: others have its memory as well, or had.
    #[inline]
    pub(crate) fn is_locked(&self, key: PageKey) -> bool {
        self.sharing.is_locked(key)
    }

    /// The page is mapped for reading only.
    pub(crate) fn lock(&mut self, key: PageKey) {
        self.sharing.lock(key);
    }

    /// The plan that destroys all waiting pages.
    pub(crate) fn plan_trim(&mut self) -> Plan {
        Plan { destroy_idle: std::iter::from_fn(|| self.any_idle()).collect(), ..Plan::default() }
    }

    /// What a page got its memory for was loaded into it: unless something holds it, it takes its place in the order.
    #[inline]
    pub(crate) fn loaded(&mut self, key: PageKey, bytes: u64, stamp: u64) {
        self.fresh -= bytes;
        if !self.is_held(key) {
            self.recency.insert(key, bytes, stamp);
        }
    }

    /// A batch is at work on the page: it may not go. `mapped`: it has memory that is not on its way out.
    pub(crate) fn hold(&mut self, key: PageKey, bytes: u64, mapped: bool) {
        self.entry(key, bytes, mapped).loads += 1;
    }

    /// The batch is done with the page; where `mapped`, it takes its place in the order.
    #[inline]
    pub(crate) fn unhold(&mut self, key: PageKey, mapped: bool, stamp: u64) {
        self.let_go(key, mapped, stamp, |h| h.loads -= 1);
    }

    /// Forbids eviction of the page until as many [`Residency::unpin`]s. `mapped`: it has memory that is not on its way out.
    pub(crate) fn pin(&mut self, key: PageKey, bytes: u64, mapped: bool) {
        self.entry(key, bytes, mapped).pins += 1;
    }

    /// Takes a pin back; where the page is `mapped` and nothing else holds it, it takes its place in the order.
    pub(crate) fn unpin(&mut self, key: PageKey, mapped: bool, stamp: u64) {
        self.let_go(key, mapped, stamp, |h| h.pins -= 1);
    }

    /// Whether a pin or a batch holds the page.
    #[inline]
    pub(crate) fn is_held(&self, key: PageKey) -> bool {
        self.held.contains_key(&key)
    }

    /// Whether a pin holds the page's memory.
    pub(crate) fn is_pinned(&self, key: PageKey) -> bool {
        self.held.get(&key).is_some_and(|h| h.pins > 0)
    }

    fn entry(&mut self, key: PageKey, bytes: u64, mapped: bool) -> &mut Hold {
        self.recency.remove(key);
        let hold = self.held.entry(key).or_default();
        hold.bytes = bytes;
        hold.mapped |= mapped;
        hold
    }

    #[inline]
    fn let_go(&mut self, key: PageKey, mapped: bool, stamp: u64, release: impl FnOnce(&mut Hold)) {
        let Entry::Occupied(mut hold) = self.held.entry(key) else { return };
        release(hold.get_mut());
        let Hold { bytes, pins, loads, .. } = *hold.get();
        if pins == 0 && loads == 0 {
            hold.remove();
            if mapped {
                self.recency.insert(key, bytes, stamp);
            }
        }
    }

    #[inline]
    fn any_idle(&mut self) -> Option<u64> {
        let bytes = *self.idle.keys().next_back()?;
        take(&mut self.idle, bytes).then_some(bytes)
    }

    fn no_room(&self, needed_bytes: u64, spared: &Spared) -> NoRoom {
        NoRoom {
            needed_bytes,
            pinned_bytes: self.pinned(),
            busy_bytes: self.busy(|_| false),
            spared_bytes: spared.for_now.iter().map(|v| v.bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests;
