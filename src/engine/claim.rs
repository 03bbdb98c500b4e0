//! Owns what happens under the state lock: [`Engine::claim`] decides who loads what and whose memory goes, [`Engine::settle_claim`] ends it.

use std::sync::{Arc, OnceLock};

use crate::backend::Backend;
use crate::error::Error;
use crate::layout::{PageId, TileId};
use crate::page_table::{Known, OfPage};
use crate::residency::{Need, NoRoom, PageKey, Plan, Victim};

use super::frame::{Epoch, Stamping};
use super::report::Report;
use super::request::{Asked, Purpose};
use super::waiting::Change;
use super::{ArrayShared, Became, Engine, Entry, Loading, Outcome, StampsOf, State};

/// What a request does next.
#[derive(Debug)]
pub(super) enum Claim {
    /// It loads these tiles itself.
    Claimed(Claimed),
    /// Everything still missing is being loaded by others.
    Others(Vec<(TileId, Arc<Loading>)>),
    /// Others are mapping or unmapping the pages of what is missing, once the frames up to this epoch have ended.
    Blocked { epoch: Epoch, seen: Change },
    /// These pages are shared, or were: before anything is loaded into them they must have memory of their own.
    Locked(Vec<PageId>),
    /// There is no memory for it now. `framed`: frames were open when that was found.
    NoRoom { why: NoRoom, framed: bool, seen: Change },
}

/// Tiles that this request loads, the pages of them, and the plan that gives these memory.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) loading: Arc<Loading>,
    /// In order, and whether each had memory before: then it is held. Of the others the table says that they are fresh as soon as they have some.
    pub(super) pages: Vec<(PageId, bool)>,
    pub(super) plan: Plan,
    pub(super) retired: Epoch,
}

impl Claimed {
    /// In order.
    pub(super) fn tiles(&self) -> &Arc<[TileId]> {
        &self.loading.tiles
    }
}

impl<B: Backend> Engine<B> {
    /// Claims as many of the missing tiles as nobody else works on, and takes them (and those that are there after all) off the list.
    ///
    /// The victims of the plan are retired: their bits are hidden, their memory is still there. `held`: pages that the caller holds once, in order.
    pub(super) fn claim(
        &self,
        array: &Arc<ArrayShared<B>>,
        Asked { tiles: requested, held, purpose, keep_since, .. }: Asked<'_>,
        missing: &mut Vec<TileId>,
        report: &mut Report,
    ) -> Result<Claim, Error> {
        array.check()?;
        let mut guard = self.lock();
        let state = &mut *guard;
        let stamping = self.clock.stamping();
        let sorted = state.sort_out(array, missing, purpose, &stamping, report);
        if missing.is_empty() {
            return Ok(Claim::Others(Vec::new()));
        }
        if sorted.free.is_empty() {
            if sorted.others.is_empty() {
                return Ok(Claim::Blocked { epoch: sorted.blocked_by, seen: state.changes });
            }
            missing.retain(|tile| sorted.others.binary_search_by_key(tile, |(other, _)| *other).is_err());
            return Ok(Claim::Others(sorted.others));
        }
        let pages = sorted.pages;
        let locked = |page: &PageId| state.residency.is_locked(array.key(*page));
        let locked: Vec<_> = pages.iter().map(|(page, _)| *page).filter(locked).collect();
        if !locked.is_empty() {
            return Ok(Claim::Locked(locked));
        }
        // The pages of this request's own hits are as good as held: stamp them with a time of their own.
        let hits = report.hits + report.shared + report.loaded > 0;
        for &tile in requested.iter().filter(|&&tile| hits && array.planes.is_resident(tile)) {
            stamping.stamp(array.planes.stamp(array.layout.page_of(tile)));
        }
        let time = stamping.time();
        drop(stamping);
        let bytes = array.layout.page_bytes();
        let mut needs = Vec::with_capacity(pages.len());
        for &(page, mapped) in &pages {
            let key = array.key(page);
            if mapped {
                state.residency.hold(key, bytes, true);
            } else {
                let shown = self.shown_at(state, array, page);
                needs.push(Need { key, bytes, shown, copies: false });
            }
        }
        let framed = self.clock.oldest().is_some();
        match self.plan_and_retire(state, &needs, time, keep_since) {
            Ok((plan, retired)) => {
                if sorted.free.len() == missing.len() {
                    missing.clear();
                } else {
                    missing.retain(|tile| sorted.free.binary_search(tile).is_err());
                }
                let (tiles, outcomes) = (sorted.free.into(), OnceLock::new());
                let loading = Arc::new(Loading { array: array.id, tiles, outcomes, retired });
                state.loading.push(Arc::clone(&loading));
                Ok(Claim::Claimed(Claimed { loading, pages, plan, retired }))
            }
            Err(why) => {
                state.release_claimed(array, &pages);
                // What nobody but this request holds was in nobody's way but its own.
                let own = |key: PageKey| key.array == array.id && held.binary_search(&key.page).is_ok();
                let why = NoRoom { busy_bytes: state.residency.busy(own), ..why };
                Ok(Claim::NoRoom { why, framed, seen: state.changes })
            }
        }
    }

    /// The page that has the memory which the address of another still shows.
    fn shown_at(&self, state: &State<B>, array: &ArrayShared<B>, page: PageId) -> Option<PageKey> {
        let number = self.backend.shows(&array.reservation, array.layout.page_offset_bytes(page))?;
        state.holders.get(&number).copied()
    }

    /// Makes a plan for `needs`, in which what was used at `keep_since` or later goes last, and hides the bits of its victims. Where one of them is asked for in that very moment, the plan is made anew.
    pub(super) fn plan_and_retire(
        &self,
        state: &mut State<B>,
        needs: &[Need],
        time: u64,
        keep_since: u64,
    ) -> Result<(Plan, Epoch), NoRoom> {
        state.residency.keep_since(keep_since);
        loop {
            let in_frame = self.oldest_frame();
            let State { residency, arrays, .. } = &mut *state;
            // Not what an open frame asked for, not what this request asked for, not what nobody else has.
            let may_evict = |key, stamp| stamp <= in_frame && stamp != time && Self::may_lose(arrays, key);
            let mut plan = residency.plan(needs, &StampsOf(arrays), may_evict)?;
            if plan.victims.is_empty() {
                return Ok((plan, Epoch(0)));
            }
            if let Some(retired) = self.retire(state, &mut plan) {
                return Ok((plan, retired));
            }
        }
    }

    /// When the oldest open frame was opened: what was asked for later has to stay.
    pub(crate) fn oldest_frame(&self) -> u64 {
        self.clock.oldest().map_or(u64::MAX, |frame| frame.0)
    }

    /// Hides the victims' bits, and puts the victims in order. `None`: one of them was asked for meanwhile, or a frame was opened that had asked for it; nothing was hidden and the plan is abandoned.
    pub(super) fn retire(&self, state: &mut State<B>, plan: &mut Plan) -> Option<Epoch> {
        // Runs of them mostly are.
        plan.victims.sort_by_key(|victim| victim.key);
        let stamping = self.clock.stamping();
        // Whoever stamped a victim under this right had its frame open before, so it is seen here.
        let in_frame = self.oldest_frame();
        let asked_for = |of_one: &[Victim]| {
            let array = state.array_of(of_one[0].key);
            let stamp = |victim: &Victim| array.map_or(0, |array| array.stamp_of(victim.key.page));
            of_one.iter().any(|victim| stamp(victim) != victim.stamp || victim.stamp > in_frame)
        };
        if plan.victims.chunk_by(|a, b| a.key.array == b.key.array).any(asked_for) {
            state.residency.abandon(plan);
            return None;
        }
        state.set_evicting(&plan.victims, true, |array, tile, mask| {
            stamping.hide(array.planes.resident_word(tile), mask);
            array.planes.note_change(tile);
        });
        drop(stamping);
        state.enter(&plan.victims, Became::Evicted);
        let retired = self.clock.barrier();
        state.evictions.begin(retired, &plan.victims);
        Some(retired)
    }

    /// Ends a claim whose plan was carried out: publishes the tiles that loaded, lets the pages go, and tells who waits. Returns the pages that no tile lives
    /// in, already out of everyone's reach.
    pub(super) fn settle_claim(
        &self,
        array: &Arc<ArrayShared<B>>,
        claimed: &Claimed,
        outcomes: Vec<Outcome>,
    ) -> Vec<PageId> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut table = state.arrays.get_mut(array.id).map(|(_, table)| table);
        let bytes = array.layout.page_bytes();
        for (&tile, outcome) in claimed.tiles().iter().zip(&outcomes) {
            if outcome.is_ok() {
                let was_uniform = table.as_mut().is_some_and(|table| table.set_resident(tile));
                array.planes.publish_resident(tile, 1 << (tile.0 & 63));
                if was_uniform {
                    array.planes.retract_uniform(tile);
                }
                state.journal.enter(Entry { array: array.id, tile, became: Became::Resident });
            }
        }
        let stamping = self.clock.stamping();
        for &(page, _) in &claimed.pages {
            stamping.stamp(array.planes.stamp(page));
        }
        let stamp = stamping.time();
        drop(stamping);
        // They have memory, and nobody takes that from pages that are held or fresh.
        for &(page, held) in &claimed.pages {
            let key = array.key(page);
            if held {
                let evictable = table.as_ref().is_some_and(|table| !table.of_page(page).fresh);
                state.residency.unhold(key, evictable, stamp);
            } else if table.as_mut().is_some_and(|table| table.take_fresh(page)) {
                state.residency.loaded(key, bytes, stamp);
            }
        }
        // There is a tile in each of the pages now, unless one failed.
        let failed = outcomes.iter().any(Result::is_err);
        state.end_loading(&claimed.loading, Some(outcomes));
        let empty = if failed {
            state.take_empty(array, claimed.pages.iter().map(|(page, _)| *page))
        } else {
            Vec::new()
        };
        self.notify(guard);
        empty
    }

    /// Ends a claim whose plan was not carried out: everything is as before, and whoever waits for the tiles may try for itself.
    pub(super) fn drop_claim(&self, array: &Arc<ArrayShared<B>>, claimed: &Claimed) {
        let mut state = self.lock();
        state.unretire(&claimed.plan.victims, claimed.retired);
        state.residency.abandon_failed(&claimed.plan);
        state.release_claimed(array, &claimed.pages);
        state.end_loading(&claimed.loading, None);
        self.notify(state);
    }
}

/// Missing tiles by what stands in their way.
struct Sorted {
    /// Nothing.
    free: Vec<TileId>,
    /// The pages of those, and whether they have memory.
    pages: Vec<(PageId, bool)>,
    /// Another request loads them.
    others: Vec<(TileId, Arc<Loading>)>,
    /// For the rest: the latest epoch that the batches wait for that map or unmap their pages.
    blocked_by: Epoch,
}

impl<B: Backend> State<B> {
    /// Takes tiles off the list that are there after all, and sorts the rest.
    fn sort_out(
        &self,
        array: &Arc<ArrayShared<B>>,
        missing: &mut Vec<TileId>,
        purpose: Purpose,
        stamping: &Stamping<'_>,
        report: &mut Report,
    ) -> Sorted {
        let (free, pages) = (Vec::with_capacity(missing.len()), Vec::with_capacity(missing.len()));
        let mut sorted = Sorted { free, pages, others: Vec::new(), blocked_by: Epoch(0) };
        let table = self.table(array.id);
        // Mostly nobody else is at work on any tile.
        let alone = self.loading.is_empty() && self.copying.is_empty();
        missing.retain(|&tile| {
            let page = array.layout.page_of(tile);
            let nothing = || (Known::Nothing, OfPage::default());
            let (known, of_page) = table.map_or_else(nothing, |table| table.known(tile));
            if !of_page.evicting && known == Known::Resident {
                stamping.stamp(array.planes.stamp(page));
                report.hits += 1;
                return false;
            }
            if purpose == Purpose::Read && known == Known::Uniform {
                report.uniform += 1;
                return false;
            }
            let free = alone && !of_page.evicting;
            if let Some(loading) = self.loading(array.id, tile) {
                sorted.others.push((tile, loading.clone()));
            } else if !free && let Some(epoch) = self.changing(array, page, of_page) {
                sorted.blocked_by = sorted.blocked_by.max(epoch);
            } else {
                sorted.free.push(tile);
                if sorted.pages.last().is_none_or(|(last, _)| *last != page) {
                    sorted.pages.push((page, of_page.mapped));
                }
            }
            true
        });
        sorted
    }

    /// A batch that never came to be lets go of the pages that it held.
    fn release_claimed(&mut self, array: &ArrayShared<B>, pages: &[(PageId, bool)]) {
        let held: Vec<_> = pages.iter().filter(|(_, held)| *held).map(|(page, _)| *page).collect();
        self.release(array, &held);
    }

    /// The pages are held no longer.
    pub(super) fn release(&mut self, array: &ArrayShared<B>, pages: &[PageId]) {
        for &page in pages {
            let evictable = self.is_evictable(array, page);
            self.residency.unhold(array.key(page), evictable, array.stamp_of(page));
        }
    }

    /// Puts those of the pages that have memory, hold no tile and are held by nobody out of everyone's reach, to be decommitted.
    pub(super) fn take_empty(
        &mut self,
        array: &ArrayShared<B>,
        pages: impl Iterator<Item = PageId>,
    ) -> Vec<PageId> {
        let empty = |page: &PageId| {
            let holds_tiles = self.table(array.id).is_some_and(|table| table.has_resident(*page));
            !holds_tiles && self.is_evictable(array, *page) && !self.residency.is_held(array.key(*page))
        };
        let empty: Vec<_> = pages.filter(empty).collect();
        for &page in &empty {
            if let Some((_, table)) = self.arrays.get_mut(array.id) {
                table.set_evicting(page, true);
            }
            self.residency.take_out(array.key(page), array.layout.page_bytes());
        }
        empty
    }

    /// Whether the page has memory that nobody is taking away, and that was got for nobody who is yet to load into it: once nothing holds it, it has a place in the order.
    pub(super) fn is_evictable(&self, array: &ArrayShared<B>, page: PageId) -> bool {
        let of_page = self.of_page(array.id, page);
        of_page.keeps_memory() && !of_page.fresh
    }

    /// Makes pages visible again that were retired then.
    pub(super) fn unretire(&mut self, victims: &[Victim], retired: Epoch) {
        self.set_evicting(victims, false, |array, tile, mask| array.planes.publish_resident(tile, mask));
        self.evictions.end(retired);
        self.enter(victims, Became::Back);
    }

    /// Tells who follows what became of the victims' tiles: as soon as nobody sees them any more, for frames may keep their memory for a while yet.
    fn enter(&mut self, victims: &[Victim], became: Became) {
        let Self { journal, arrays, .. } = self;
        if !journal.is_followed() {
            return;
        }
        for Victim { key, .. } in victims {
            if let Some((_, table)) = arrays.get(key.array) {
                journal.enter_words(key.array, table.resident_words(key.page), became);
            }
        }
    }

    /// Notes that the victims are on their way out, or stay after all, and has the bits of their resident tiles changed.
    fn set_evicting(
        &mut self,
        victims: &[Victim],
        evicting: bool,
        change: impl Fn(&ArrayShared<B>, TileId, u64),
    ) {
        for of_one in victims.chunk_by(|a, b| a.key.array == b.key.array) {
            let Some((array, table)) = self.arrays.get_mut(of_one[0].key.array) else { continue };
            for victim in of_one {
                table.set_evicting(victim.key.page, evicting);
                for (tile, mask) in table.resident_words(victim.key.page) {
                    // Pages of fewer than 64 tiles share words: the mask begins at the tile's own bit.
                    change(array, tile, mask << (tile.0 & 63));
                }
            }
        }
    }
}
