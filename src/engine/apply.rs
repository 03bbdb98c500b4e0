//! Owns the mapping calls of a plan, and the undo of them: unmap, destroy, create, map, set access. One batch at a time, under the VMM lock.
//!
//! A batch is atomic. Until the first tile is loaded the victims' contents are still in their physical pages, so whatever step fails, mapping those pages
//! back where they were makes the table true again. If that fails too, the arrays concerned are poisoned.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Access, Backend, Refused};
use crate::error::{BackendError, Error};
use crate::residency::{Need, PageKey, Plan, Victim};
use crate::stats::count;

use super::claim::Claimed;
use super::waiting::Deadline;
use super::{ArrayShared, Engine, Vmm};

/// Where a physical page came from, and so goes back to in an undo.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Victim(PageKey),
    Idle,
    New,
}

/// The arrays whose pages a plan touches: mostly one.
type Touched<B> = Vec<Arc<ArrayShared<B>>>;

/// A batch of mapping calls under way: what has been done so far.
struct Batch<'e, B: Backend> {
    backend: &'e B,
    idle: &'e mut BTreeMap<u64, Vec<B::Page>>,
    arrays: &'e Touched<B>,
    /// Unmapped pages in hand, by size.
    hand: BTreeMap<u64, Vec<(Origin, B::Page)>>,
    /// Unmapped pages whose memory others have as well, and which nobody takes over.
    shared: Vec<(Victim, B::Page)>,
    /// Commits, by their places in the plan.
    mapped: Vec<(usize, Origin)>,
    /// Sizes of waiting pages that commits may still take.
    from_idle: Vec<u64>,
    /// What an undo cannot take back.
    damage: Damage,
}

/// What is not as before after a batch was undone.
#[derive(Debug, Default)]
struct Damage {
    /// The waiting pages that the plan does without were given back: that much was done, and stays so.
    idle_destroyed: bool,
    /// Victims whose memory is gone for good.
    lost: Vec<PageKey>,
    /// Victims that are mapped, but cannot be read; their arrays are poisoned.
    stranded: Vec<PageKey>,
    /// Commits that could not be unmapped again, and sizes of the waiting pages among them; their arrays are poisoned.
    stray: Vec<Need>,
    stray_idle: Vec<u64>,
    /// Pages that got a copy of their memory: they keep it.
    copied: Vec<Need>,
}

impl<B: Backend> Engine<B> {
    /// Carries the claim's plan out: afterwards its pages have memory that no reader knows of. `false`: a victim was written to meanwhile; everything is as before, and the
    /// claim is over.
    ///
    /// # Errors
    /// Frames that do not end, or the backend's failure. Everything is as before then, and the claim is over.
    pub(super) fn apply(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        claimed: &mut Claimed,
        deadline: Deadline<'_>,
    ) -> Result<bool, Error> {
        let done = self.carry_out(&mut claimed.plan, claimed.retired, deadline);
        if !matches!(done, Ok(true)) {
            self.drop_claim(array, claimed);
            return done;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some((_, table)) = state.arrays.get_mut(array.id) {
            for need in &claimed.plan.commits {
                table.set_fresh(need.key.page);
            }
        }
        state.residency.confirm(&claimed.plan);
        state.forget(&claimed.plan.victims);
        state.evictions.end(claimed.retired);
        self.note_holders(state, array, &claimed.plan.commits);
        self.notify(guard);
        count(&self.counters.commits, claimed.plan.commits.len());
        Ok(true)
    }

    /// Notes which memory the pages got.
    pub(super) fn note_holders(&self, state: &mut super::State<B>, array: &ArrayShared<B>, commits: &[Need]) {
        for need in commits {
            if let Some(number) =
                self.backend.shows(&array.reservation, array.layout.page_offset_bytes(need.key.page))
            {
                state.holders.insert(number, need.key);
            }
        }
        // Memory that was given back leaves its number behind.
        let mapped: u64 = state.arrays.values().map(|(_, table)| table.mapped_pages()).sum();
        if state.holders.len() as u64 > 2 * mapped + 64 {
            let super::State { holders, arrays, .. } = state;
            holders
                .retain(|_, key| arrays.get(key.array).is_some_and(|(_, table)| table.is_mapped(key.page)));
        }
    }

    /// Carries out a plan that only takes memory away. `false`, and the victims are visible again: one of them was written to meanwhile.
    ///
    /// # Errors
    /// As [`Engine::apply`]; the victims are visible again then.
    pub(super) fn apply_eviction(
        self: &Arc<Self>,
        mut plan: Plan,
        retired: super::frame::Epoch,
        deadline: Deadline<'_>,
    ) -> Result<bool, Error> {
        let result = self.carry_out(&mut plan, retired, deadline);
        let mut state = self.lock();
        if matches!(result, Ok(true)) {
            state.residency.confirm(&plan);
            state.forget(&plan.victims);
            state.evictions.end(retired);
        } else {
            state.unretire(&plan.victims, retired);
            state.residency.abandon_failed(&plan);
        }
        self.notify(state);
        result
    }

    /// Waits for the frames, writes back what was written to the victims, and makes the calls; unless a victim may not go after all, since kernels in those frames wrote to it and it has nowhere to go. On failure the plan is left with what is still to be taken back: victims whose memory is gone for good are
    /// forgotten here.
    pub(super) fn carry_out(
        self: &Arc<Self>,
        plan: &mut Plan,
        retired: super::frame::Epoch,
        deadline: Deadline<'_>,
    ) -> Result<bool, Error> {
        if !plan.victims.is_empty() {
            let needed_bytes = plan.victims.iter().map(|v| v.bytes).sum();
            self.wait_for_frames(retired, needed_bytes, deadline)?;
            if !self.write_back(&plan.victims)? {
                return Ok(false);
            }
        }
        if *plan == Plan::default() {
            return Ok(true);
        }
        let arrays: Touched<B> = {
            let needs = plan.commits.iter().chain(&plan.copies).map(|need| need.key);
            let keys = plan.victims.iter().map(|v| v.key).chain(needs).chain(plan.opened.iter().copied());
            let state = self.lock();
            let mut touched = Touched::new();
            for key in keys {
                // Mostly the same as the one before.
                if array_of(&touched, key).is_none()
                    && let Some(array) = state.array_of(key)
                {
                    touched.push(Arc::clone(array));
                }
            }
            touched
        };
        let mut vmm = self.lock_vmm();
        let Vmm { idle } = &mut *vmm;
        let mut batch = Batch {
            backend: &self.backend,
            idle,
            arrays: &arrays,
            hand: BTreeMap::new(),
            shared: Vec::new(),
            mapped: Vec::new(),
            from_idle: plan.take_idle.clone(),
            damage: Damage::default(),
        };
        let Err(error) = batch.run(plan) else {
            count(&self.counters.evictions, plan.victims.len());
            return Ok(true);
        };
        tracing::warn!(%error, "a batch of mapping calls failed and is undone");
        batch.undo(plan);
        let damage = std::mem::take(&mut batch.damage);
        drop(batch);
        drop(vmm);
        self.settle_damage(plan, &damage);
        if error.is_fatal() {
            self.poison_all(&error);
        }
        Err(error.into())
    }

    /// Enters what the undo could not take back. Victims whose memory was destroyed before the batch failed are evicted all the same; what the plan is left with is as
    /// before.
    fn settle_damage(&self, plan: &mut Plan, damage: &Damage) {
        let is_lost = |v: &Victim| damage.lost.contains(&v.key);
        let gone =
            Plan { victims: plan.victims.iter().copied().filter(is_lost).collect(), ..Plan::default() };
        plan.victims.retain(|v| !is_lost(v));
        if damage.idle_destroyed {
            plan.destroy_idle.clear();
        }
        for bytes in &damage.stray_idle {
            if let Some(at) = plan.take_idle.iter().position(|b| b == bytes) {
                plan.take_idle.swap_remove(at);
            }
        }
        plan.copies.retain(|need| !damage.copied.contains(need));
        let mut guard = self.lock();
        let state = &mut *guard;
        for need in &damage.copied {
            state.residency.copied(need);
        }
        state.residency.confirm(&gone);
        state.forget(&gone.victims);
        for victim in plan.victims.extract_if(.., |v| damage.stranded.contains(&v.key)) {
            state.residency.strand(&victim);
            state.forget(&[victim]);
        }
        for need in &damage.stray {
            let stamp = state.stamp_of(need.key);
            state.residency.add_stray(need.key, need.bytes, stamp);
        }
        let mapped = damage.stranded.iter().copied().chain(damage.stray.iter().map(|need| need.key));
        for key in mapped {
            if let Some((_, table)) = state.arrays.get_mut(key.array) {
                table.set_mapped(key.page);
            }
        }
    }
}

impl<B: Backend> super::State<B> {
    /// The victims' memory is gone.
    pub(super) fn forget(&mut self, victims: &[Victim]) {
        for of_one in victims.chunk_by(|a, b| a.key.array == b.key.array) {
            if let Some((array, table)) = self.arrays.get_mut(of_one[0].key.array) {
                for victim in of_one {
                    table.clear_page(victim.key.page);
                }
                array.forget_emptied(table);
            }
        }
    }
}

impl<'e, B: Backend> Batch<'e, B> {
    fn run(&mut self, plan: &Plan) -> Result<(), BackendError> {
        for of_size in plan.victims.chunk_by(|a, b| a.bytes == b.bytes) {
            let hand = self.hand.entry(of_size[0].bytes).or_default();
            hand.reserve(of_size.len());
            for victim in of_size {
                let Some(array) = array_of(self.arrays, victim.key) else { continue };
                let offset = array.layout.page_offset_bytes(victim.key.page);
                let page = self.backend.unmap(&array.reservation, offset)?;
                if victim.shared {
                    self.shared.push((*victim, page));
                } else {
                    hand.push((Origin::Victim(victim.key), page));
                }
            }
        }
        self.drop_shared();
        self.destroy_surplus(plan);
        // Pages whose memory is shown there already come first, so that no other takes it.
        let shown: Vec<_> = plan.commits.iter().map(|need| self.shown_at_hand(need)).collect();
        let those = |shows: bool| (0..).zip(&shown).filter(move |(_, number)| number.is_some() == shows);
        self.mapped.reserve(plan.commits.len());
        for (at, &number) in those(true).chain(those(false)) {
            let need = &plan.commits[at];
            let Some((array, offset)) = self.place(need.key) else { continue };
            let (origin, page) = self.take(need.bytes, number)?;
            if let Err(Refused { error, page }) = self.backend.map(&array.reservation, offset, page) {
                self.hand.entry(need.bytes).or_default().push((origin, page));
                return Err(error);
            }
            self.mapped.push((at, origin));
        }
        self.set_access(plan.commits.iter().map(|need| need.key))?;
        self.copy(plan)
    }

    /// Gives the handles up that nobody takes over, once all victims are unmapped: who takes the memory over is to have it alone. Their pages are evicted then, whatever fails after this.
    fn drop_shared(&mut self) {
        for (victim, page) in self.shared.drain(..) {
            destroy(self.backend, page);
            self.damage.lost.push(victim.key);
        }
    }

    /// Gives pages memory of their own with what they hold, and has them written to again. What was done of that stays, whatever fails after it: what a page holds is the same.
    fn copy(&mut self, plan: &Plan) -> Result<(), BackendError> {
        for need in &plan.copies {
            let Some((array, offset)) = self.place(need.key) else { continue };
            let (origin, page) = self.take(need.bytes, None)?;
            match self.backend.replace(&array.reservation, offset, page) {
                Ok(old) => destroy(self.backend, old),
                Err(Refused { error, page }) => {
                    self.hand.entry(need.bytes).or_default().push((origin, page));
                    return Err(error);
                }
            }
            self.damage.copied.push(*need);
            match origin {
                Origin::Victim(key) => self.damage.lost.push(key),
                Origin::Idle => self.damage.stray_idle.push(need.bytes),
                Origin::New => {}
            }
        }
        self.set_access(plan.copies.iter().map(|need| need.key).chain(plan.opened.iter().copied()))
    }

    /// Gives back what the plan does without: waiting pages, and victims that no commit of their size takes over.
    fn destroy_surplus(&mut self, plan: &Plan) {
        self.damage.idle_destroyed = true;
        for bytes in &plan.destroy_idle {
            if let Some(page) = self.idle.get_mut(bytes).and_then(Vec::pop) {
                destroy(self.backend, page);
            }
        }
        for (&bytes, pages) in &mut self.hand {
            let wanted = plan.commits.iter().chain(&plan.copies).filter(|c| c.bytes == bytes).count();
            let from_idle = plan.take_idle.iter().filter(|&&b| b == bytes).count();
            let new = plan.create.iter().filter(|&&b| b == bytes).count();
            while pages.len() > wanted - from_idle - new {
                let Some((origin, page)) = pages.pop() else { break };
                destroy(self.backend, page);
                if let Origin::Victim(key) = origin {
                    self.damage.lost.push(key);
                }
            }
        }
    }

    /// The number of the memory that a page's address still shows, if that is at hand.
    fn shown_at_hand(&self, need: &Need) -> Option<u64> {
        let (array, offset) = self.place(need.key)?;
        let number = self.backend.shows(&array.reservation, offset)?;
        self.is_at_hand(need.bytes, number).then_some(number)
    }

    fn is_at_hand(&self, bytes: u64, number: u64) -> bool {
        let is_it = |page: &B::Page| self.backend.page_number(page) == Some(number);
        let from_idle = self.from_idle.contains(&bytes);
        self.hand.get(&bytes).is_some_and(|pages| pages.iter().any(|(_, page)| is_it(page)))
            || from_idle && self.idle.get(&bytes).is_some_and(|pages| pages.iter().any(is_it))
    }

    /// A physical page, the one of that number if it is at hand.
    fn take(&mut self, bytes: u64, number: Option<u64>) -> Result<(Origin, B::Page), BackendError> {
        let hand = self.hand.get_mut(&bytes);
        if number.is_none()
            && let Some(taken) = hand.and_then(Vec::pop)
        {
            return Ok(taken);
        }
        // From here on there is nothing in hand, or a page is wanted by its number.
        let backend = self.backend;
        let wanted = |page: &B::Page| backend.page_number(page) == number;
        let hand = self.hand.get_mut(&bytes).filter(|pages| !pages.is_empty());
        // Only as many as the plan counts on: the others may be set aside for somebody else's.
        let from_idle = self.from_idle.iter().position(|&b| b == bytes);
        let idle = self.idle.get_mut(&bytes).filter(|pages| from_idle.is_some() && !pages.is_empty());
        if let Some(pages) = hand {
            let at = pages.iter().position(|(_, page)| wanted(page));
            let in_idle = idle.as_ref().is_some_and(|idle| idle.iter().any(wanted));
            if at.is_some() || !in_idle {
                return Ok(pages.swap_remove(at.unwrap_or(pages.len() - 1)));
            }
        }
        if let (Some(pages), Some(from)) = (idle, from_idle) {
            self.from_idle.swap_remove(from);
            let at = number.and_then(|_| pages.iter().position(wanted)).unwrap_or(pages.len() - 1);
            return Ok((Origin::Idle, pages.swap_remove(at)));
        }
        Ok((Origin::New, self.backend.create(bytes)?))
    }

    /// Sets access run by run: one call for neighbours in memory.
    fn set_access(&self, pages: impl Iterator<Item = PageKey>) -> Result<(), BackendError> {
        let mut pages = pages.peekable();
        while let Some(first) = pages.next() {
            let Some((array, start)) = self.place(first) else { continue };
            let bytes = array.layout.page_bytes();
            let mut end = start + bytes;
            let follows = |next: &PageKey, end| {
                next.array == first.array && self.place(*next).is_some_and(|(_, at)| at == end)
            };
            while pages.next_if(|next| follows(next, end)).is_some() {
                end += bytes;
            }
            self.backend.set_access(&array.reservation, start..end, Access::ReadWrite)?;
        }
        Ok(())
    }

    /// Takes everything back that was done. What cannot be taken back poisons its array.
    fn undo(&mut self, plan: &Plan) {
        for (at, origin) in std::mem::take(&mut self.mapped).into_iter().rev() {
            let need = plan.commits[at];
            let Some((array, offset)) = self.place(need.key) else { continue };
            match self.backend.unmap(&array.reservation, offset) {
                Ok(page) => self.hand.entry(need.bytes).or_default().push((origin, page)),
                Err(error) => {
                    array.poison(&error);
                    self.damage.stray.push(need);
                    match origin {
                        Origin::Victim(key) => self.lose(key, &error),
                        Origin::Idle => self.damage.stray_idle.push(need.bytes),
                        Origin::New => {}
                    }
                }
            }
        }
        for (victim, page) in std::mem::take(&mut self.shared) {
            self.map_back(victim.key, victim.bytes, page);
        }
        for (bytes, pages) in std::mem::take(&mut self.hand) {
            for (origin, page) in pages {
                match origin {
                    Origin::New => destroy(self.backend, page),
                    Origin::Idle => self.idle.entry(bytes).or_default().push(page),
                    Origin::Victim(key) => self.map_back(key, bytes, page),
                }
            }
        }
    }

    fn map_back(&mut self, key: PageKey, bytes: u64, page: B::Page) {
        let Some((array, offset)) = self.place(key) else { return };
        if let Err(Refused { error, page }) = self.backend.map(&array.reservation, offset, page) {
            destroy(self.backend, page);
            return self.lose(key, &error);
        }
        let range = offset..offset + bytes;
        let Err(error) = self.backend.set_access(&array.reservation, range, Access::ReadWrite) else {
            return;
        };
        if let Ok(page) = self.backend.unmap(&array.reservation, offset) {
            destroy(self.backend, page);
            self.lose(key, &error);
        } else {
            array.poison(&error);
            self.damage.stranded.push(key);
        }
    }

    /// A victim's memory could not be put back.
    fn lose(&mut self, key: PageKey, error: &BackendError) {
        if let Some((array, _)) = self.place(key) {
            array.poison(error);
        }
        self.damage.lost.push(key);
    }

    #[inline]
    fn place(&self, key: PageKey) -> Option<(&'e ArrayShared<B>, u64)> {
        let array = array_of(self.arrays, key)?;
        Some((array, array.layout.page_offset_bytes(key.page)))
    }
}

#[inline]
fn array_of<B: Backend>(arrays: &[Arc<ArrayShared<B>>], key: PageKey) -> Option<&ArrayShared<B>> {
    // Victims come array by array: mostly it is the last one that was met.
    arrays.iter().rev().find(|array| array.id == key.array).map(Arc::as_ref)
}

/// Gives a page's memory back. A failure loses address space or memory, but no data: it is logged.
pub(super) fn destroy<B: Backend>(backend: &B, page: B::Page) {
    if let Err(error) = backend.destroy(page) {
        tracing::error!(%error, "a physical page could not be given back");
    }
}
