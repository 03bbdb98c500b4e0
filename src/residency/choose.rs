//! Owns the choice of who goes: [`Residency::plan`] and what it looks through.

use std::collections::BTreeMap;

use super::lru::Recency;
use super::{Need, NoRoom, PageKey, Plan, Residency, Stamps, Victim};

impl Residency {
    /// Decides how `needs` get memory: waiting pages, new ones within the budget, then victims: the page that has the memory which a need's address still shows, unless that was used too
    /// recently ([`out_of_turn`]), or else in order of last use. `stamps` tell when a page was really last used, and `may_evict` whether it may go at all. On success the bytes are set aside and the victims are out of the order until
    /// [`Residency::confirm`] or [`Residency::abandon`].
    pub(crate) fn plan(
        &mut self,
        needs: &[Need],
        stamps: &impl Stamps,
        may_evict: impl Fn(PageKey, u64) -> bool,
    ) -> Result<Plan, NoRoom> {
        let mut plan = Plan { commits: Vec::with_capacity(needs.len()), ..Plan::default() };
        let mut spared = Spared::default();
        let mut recycled = Recycled::default();
        let mut used = self.used();
        let mut failed = None;
        'needs: for (i, need) in needs.iter().enumerate() {
            if !need.copies {
                self.recency.asked_for(need.key);
            }
            if take(&mut self.idle, need.bytes) {
                plan.take_idle.push(need.bytes);
                plan.enter(*need);
                continue;
            }
            while used + need.bytes > self.budget {
                if let Some(bytes) = self.any_idle() {
                    plan.destroy_idle.push(bytes);
                    used -= bytes;
                    continue;
                }
                let victims = &mut plan.victims;
                if victims.is_empty() {
                    victims.reserve(needs.len() - i);
                }
                if let Some(bytes) = self.next_victims(need.shown, stamps, &may_evict, &mut spared, victims) {
                    used -= bytes;
                    *recycled.of(bytes) += 1;
                } else if need.copies
                    && let Some(sharers) = self.take_sharers(need.key, stamps, &may_evict, &mut spared)
                {
                    // Nothing else can go: those who share the memory give it up, and it need not be copied.
                    plan.victims.extend(sharers);
                    plan.opened.push(need.key);
                    continue 'needs;
                } else {
                    failed = Some(i);
                    break;
                }
            }
            if failed.is_some() {
                break;
            }
            used += need.bytes;
            match recycled.of(need.bytes) {
                0 => plan.create.push(need.bytes),
                count => *count -= 1,
            }
            plan.enter(*need);
        }
        // Victims that nobody takes over are destroyed before anything is made, so what is made takes their place.
        let surplus = recycled.0.iter().map(|(bytes, count)| bytes * count).sum();
        plan.reserved_bytes =
            plan.take_idle.iter().sum::<u64>() + plan.create.iter().sum::<u64>().saturating_sub(surplus);
        spared.put_back(&mut self.recency);
        self.reserved += plan.reserved_bytes;
        self.evicting += plan.victims.iter().map(|v| v.bytes).sum::<u64>();
        match failed {
            None => Ok(plan),
            Some(i) => {
                self.abandon(&plan);
                Err(self.no_room(needs[i..].iter().map(|n| n.bytes).sum(), &spared))
            }
        }
    }

    /// Decides what must go for `target` bytes to be enough.
    pub(crate) fn plan_shrink(
        &mut self,
        target: u64,
        stamps: &impl Stamps,
        may_evict: impl Fn(PageKey, u64) -> bool,
    ) -> Result<Plan, NoRoom> {
        let mut plan = Plan::default();
        let mut spared = Spared::default();
        let mut used = self.used();
        while used > target {
            if let Some(bytes) = self.any_idle() {
                plan.destroy_idle.push(bytes);
                used -= bytes;
                continue;
            }
            let victims = &mut plan.victims;
            let Some(bytes) = self.next_victims(None, stamps, &may_evict, &mut spared, victims) else {
                break;
            };
            used -= bytes;
        }
        spared.put_back(&mut self.recency);
        self.evicting += plan.victims.iter().map(|v| v.bytes).sum::<u64>();
        if used > target {
            self.abandon(&plan);
            return Err(self.no_room(used - target, &spared));
        }
        Ok(plan)
    }

    /// Enters the pages whose memory goes next, all that have it: the one that has what an address still shows, or the oldest. Returns the bytes of that memory; `None`: none may go.
    ///
    /// Memory that several pages have is as young as the youngest of them, and goes from all of them or none: taking it from some would free nothing.
    fn next_victims(
        &mut self,
        shown: Option<PageKey>,
        stamps: &impl Stamps,
        may_evict: impl Fn(PageKey, u64) -> bool,
        spared: &mut Spared,
        victims: &mut Vec<Victim>,
    ) -> Option<u64> {
        let mut shown = shown.filter(|&key| self.sharing.group(key).is_none());
        loop {
            let shown = shown.take().and_then(|key| self.recency.take_if_old(key, |key| stamps.of(key)));
            let Self { recency, sharing, .. } = self;
            recency.look_ahead(|key| stamps.prefetch(key));
            let youngest = |key: PageKey| {
                let others = sharing.members(key).iter().map(|&member| stamps.of(member));
                others.fold(stamps.of(key), u64::max)
            };
            let victim = shown.or_else(|| recency.pop_oldest(youngest))?;
            let members = self.sharing.members(victim.key);
            if members.is_empty() {
                if may_evict(victim.key, victim.stamp) {
                    victims.push(victim);
                    return Some(victim.bytes);
                }
                spared.for_now.push(victim);
                continue;
            }
            let members = members.to_vec();
            let others = members.iter().filter(|key| **key != victim.key);
            let there: Vec<_> = others.filter_map(|&key| self.recency.remove(key)).chain([victim]).collect();
            if there.len() < members.len() {
                // One of them is held, or on its way out.
                spared.in_vain.extend(there);
            } else if members.iter().all(|&key| may_evict(key, stamps.of(key))) {
                // The last one's memory is what is had.
                let shared = |key| Some(&key) != there.last().map(|last| &last.key);
                let now = |v: &Victim| Victim { stamp: stamps.of(v.key), shared: shared(v.key), ..*v };
                victims.extend(there.iter().map(now));
                return Some(victim.bytes);
            } else {
                spared.for_now.extend(there);
            }
        }
    }

    /// All others that have the page's memory, if all of them may go.
    fn take_sharers(
        &mut self,
        key: PageKey,
        stamps: &impl Stamps,
        may_evict: impl Fn(PageKey, u64) -> bool,
        spared: &mut Spared,
    ) -> Option<Vec<Victim>> {
        let others: Vec<_> = self.sharing.members(key).iter().copied().filter(|&k| k != key).collect();
        if !others.iter().all(|&other| may_evict(other, stamps.of(other))) {
            return None;
        }
        // Those that came up before were spared, since this one is held.
        let mut take = |other| self.recency.remove(other).or_else(|| spared.take_in_vain(other));
        let taken: Vec<_> = others.iter().filter_map(|&other| take(other)).collect();
        if taken.len() < others.len() {
            spared.in_vain.extend(taken);
            return None;
        }
        let now = |victim: &Victim| Victim { stamp: stamps.of(victim.key), shared: true, ..*victim };
        Some(taken.iter().map(now).collect())
    }
}

/// Pages that a plan took out of the order, and did not take.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// They may go when a frame has ended, or but for the request itself.
    pub(super) for_now: Vec<Victim>,
    /// Their memory would stay, since somebody else has it who is held.
    pub(super) in_vain: Vec<Victim>,
}

impl Spared {
    fn take_in_vain(&mut self, key: PageKey) -> Option<Victim> {
        let at = self.in_vain.iter().position(|victim| victim.key == key)?;
        Some(self.in_vain.swap_remove(at))
    }

    fn put_back(&mut self, recency: &mut Recency) {
        recency.put_back(&self.for_now);
        recency.put_back(&self.in_vain);
    }
}

/// How many victims of each size nobody took over yet. There are few sizes, mostly one.
#[derive(Default)]
struct Recycled(Vec<(u64, u64)>);

impl Recycled {
    #[inline]
    fn of(&mut self, bytes: u64) -> &mut u64 {
        let at = self.0.iter().position(|(of, _)| *of == bytes).unwrap_or_else(|| {
            self.0.push((bytes, 0));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

#[inline]
pub(super) fn take(idle: &mut BTreeMap<u64, u64>, bytes: u64) -> bool {
    let Some(count) = idle.get_mut(&bytes) else { return false };
    *count -= 1;
    if *count == 0 {
        idle.remove(&bytes);
    }
    true
}
