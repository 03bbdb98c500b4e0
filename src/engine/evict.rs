//! Owns the ways out that no request asked for: evicting on demand, shrinking the budget, giving waiting pages back, dropping an array. And pins.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use foldhash::{HashMap, HashSet};

use crate::backend::Backend;
use crate::error::{Error, ResidencyError};
use crate::layout::{PageId, TileId};
use crate::residency::NoRoom;

use super::apply::destroy;
use super::frame::Epoch;
use super::report::Report;
use super::request::{Asked, Purpose};
use super::{ArrayShared, Engine, StampsOf};

/// Pages that stay until it is dropped, and what became of the request for them.
#[derive(Debug)]
pub(crate) struct Held<'e, B: Backend> {
    engine: &'e Engine<B>,
    array: &'e Arc<ArrayShared<B>>,
    pages: Vec<PageId>,
    pub(crate) report: Report,
}

impl<'e, B: Backend> Held<'e, B> {
    /// Holds pages, whatever is in them.
    pub(super) fn pages(engine: &'e Engine<B>, array: &'e Arc<ArrayShared<B>>, pages: Vec<PageId>) -> Self {
        engine.hold_pages(array, &pages);
        Held { engine, array, pages, report: Report::default() }
    }

    /// The pages, which stay beyond the guard: each is to be let go of once, with [`Engine::release_pages`].
    pub(crate) fn keep(mut self) -> Vec<PageId> {
        std::mem::take(&mut self.pages)
    }
}

impl<B: Backend> Drop for Held<'_, B> {
    fn drop(&mut self) {
        if !self.pages.is_empty() {
            self.engine.release_pages(self.array, &self.pages);
        }
    }
}

impl<B: Backend> Engine<B> {
    /// Evicts the pages, as far as nothing holds them, and gives their memory back to the system. Returns how many went.
    ///
    /// # Errors
    /// Frames that do not end, or the backend's failure: then nothing went.
    pub(crate) fn evict(self: &Arc<Self>, array: &ArrayShared<B>, pages: &[PageId]) -> Result<u64, Error> {
        array.check()?;
        let deadline = self.deadline();
        loop {
            self.reap();
            let mut guard = self.lock();
            let state = &mut *guard;
            let keys = pages.iter().map(|&page| array.key(page));
            let keys: Vec<_> = keys.filter(|&key| Self::may_lose(&state.arrays, key)).collect();
            let mut plan = state.residency.plan_evict(&keys);
            for victim in &mut plan.victims {
                victim.stamp = state.stamp_of(victim.key);
            }
            let in_frame = self.oldest_frame();
            let spared_bytes = plan.victims.iter().filter(|v| v.stamp > in_frame).map(|v| v.bytes).sum();
            if spared_bytes > 0 {
                // What an open frame asked for stays in sight until it ends.
                state.residency.abandon(&plan);
                let (budget, pinned_bytes) = (state.residency.budget(), state.residency.pinned());
                let seen = state.changes;
                drop(guard);
                let why = NoRoom { needed_bytes: spared_bytes, pinned_bytes, busy_bytes: 0, spared_bytes };
                self.await_room(why, true, budget, seen, deadline)?;
                continue;
            }
            let Some(retired) = self.retire(state, &mut plan) else { continue };
            drop(guard);
            let count = plan.victims.len() as u64;
            if self.apply_eviction(plan, retired, deadline)? {
                return Ok(count);
            }
        }
    }

    /// Changes the budget; where it shrinks, evicts and gives memory back to the system until what is left fits.
    ///
    /// # Errors
    /// What is pinned does not fit ([`ResidencyError::NothingToEvict`]), frames that do not end, or the backend's failure: then the budget is as before.
    pub(crate) fn set_budget(self: &Arc<Self>, bytes: u64) -> Result<(), Error> {
        let deadline = self.deadline();
        loop {
            self.reap();
            let mut guard = self.lock();
            let state = &mut *guard;
            let before = state.residency.budget();
            let (residency, arrays) = (&mut state.residency, &state.arrays);
            if let Some(page_bytes) =
                arrays.values().map(|(a, _)| a.layout.page_bytes()).max().filter(|&p| p > bytes)
            {
                return Err(ResidencyError::BudgetBelowPage { budget_bytes: bytes, page_bytes }.into());
            }
            let in_frame = self.oldest_frame();
            let may_go = |key, stamp| stamp <= in_frame && Self::may_lose(arrays, key);
            match residency.plan_shrink(bytes, &StampsOf(arrays), may_go) {
                Ok(mut plan) => {
                    let Some(retired) = self.retire(state, &mut plan) else { continue };
                    state.residency.set_budget(bytes);
                    drop(guard);
                    let result = self.apply_eviction(plan, retired, deadline);
                    let mut state = self.lock();
                    // Unless somebody else set another one meanwhile.
                    if !matches!(result, Ok(true)) && state.residency.budget() == bytes {
                        state.residency.set_budget(before);
                    }
                    self.notify(state);
                    if result? {
                        return Ok(());
                    }
                }
                Err(why) => {
                    let seen = state.changes;
                    drop(guard);
                    self.await_room(why, in_frame != u64::MAX, bytes, seen, deadline)?;
                }
            }
        }
    }

    /// Gives the memory of waiting physical pages back to the system.
    ///
    /// # Errors
    /// None that is not logged; the signature leaves room for backends that refuse.
    pub(crate) fn trim(self: &Arc<Self>) -> Result<(), Error> {
        let plan = self.lock().residency.plan_trim();
        self.apply_eviction(plan, Epoch(0), self.deadline()).map(|_| ())
    }

    /// Makes the tiles resident and keeps their pages until the guard is dropped, for a read that this call's caller makes at once. Others that need memory wait for it,
    /// as they wait for loads; a pin they do not wait for.
    ///
    /// # Errors
    /// As [`Engine::request`]; nothing is held then.
    pub(crate) fn hold<'e>(
        self: &'e Arc<Self>,
        array: &'e Arc<ArrayShared<B>>,
        tiles: &[TileId],
    ) -> Result<Held<'e, B>, Error> {
        self.hold_for(array, tiles, Purpose::Read)
    }

    /// The same for what is to be done with the tiles. Of what is to be written, the tiles that are resident then count as written to, and their ranges as unknown.
    ///
    /// # Errors
    /// As [`Engine::request`]; nothing is held then.
    pub(crate) fn hold_for<'e>(
        self: &'e Arc<Self>,
        array: &'e Arc<ArrayShared<B>>,
        tiles: &[TileId],
        purpose: Purpose,
    ) -> Result<Held<'e, B>, Error> {
        self.hold_until(array, tiles, purpose, None)
    }

    /// The same, but it fails where it would have to wait for room or for frames: for a caller who may itself be in the way.
    pub(crate) fn hold_at_once<'e>(
        self: &'e Arc<Self>,
        array: &'e Arc<ArrayShared<B>>,
        tiles: &[TileId],
        purpose: Purpose,
    ) -> Result<Held<'e, B>, Error> {
        static NOW: AtomicBool = AtomicBool::new(true);
        self.hold_until(array, tiles, purpose, Some(&NOW))
    }

    fn hold_until<'e>(
        self: &'e Arc<Self>,
        array: &'e Arc<ArrayShared<B>>,
        tiles: &[TileId],
        purpose: Purpose,
        stop: Option<&AtomicBool>,
    ) -> Result<Held<'e, B>, Error> {
        let held = self.hold_resident(array, tiles, purpose, stop)?;
        if purpose != Purpose::Read {
            // They cannot go before this is noted: their pages are held.
            self.note_written(array.id, tiles);
            if let Some(ranges) = array.planes.ranges() {
                for &tile in tiles {
                    ranges.widen(tile);
                }
            }
        }
        Ok(held)
    }

    /// The same, but nothing counts as written to for that. Once `stop` is set it waits for nothing more.
    fn hold_resident<'e>(
        self: &'e Arc<Self>,
        array: &'e Arc<ArrayShared<B>>,
        tiles: &[TileId],
        purpose: Purpose,
        stop: Option<&AtomicBool>,
    ) -> Result<Held<'e, B>, Error> {
        array.check()?;
        let writing = purpose != Purpose::Read;
        // Uniform tiles need no memory, so the page around one is not kept for it: it may be just what makes room for the others.
        let mut missing: Vec<_> =
            tiles.iter().copied().filter(|&tile| !array.planes.is_resident(tile)).collect();
        if !writing {
            self.note_uniform(array, &mut missing, &mut Report::default());
        }
        let with_memory = tiles.iter().filter(|&&tile| writing || !array.planes.is_uniform(tile));
        let mut pages: Vec<_> = with_memory.map(|&tile| array.layout.page_of(tile)).collect();
        pages.sort_unstable();
        pages.dedup();
        self.request_held(Held::pages(self, array, pages), tiles, purpose, stop)
    }

    /// Makes tiles resident whose pages are held, each once.
    ///
    /// # Errors
    /// As [`Engine::request`]; nothing is held then.
    pub(super) fn request_held<'e>(
        self: &'e Arc<Self>,
        mut held: Held<'e, B>,
        tiles: &[TileId],
        purpose: Purpose,
        stop: Option<&AtomicBool>,
    ) -> Result<Held<'e, B>, Error> {
        let array = held.array;
        let there: HashSet<_> =
            tiles.iter().copied().filter(|&tile| array.planes.is_resident(tile)).collect();
        let report =
            self.request_as(array, Asked { tiles, held: &held.pages, purpose, stop, keep_since: u64::MAX });
        if purpose == Purpose::Overwrite && !report.as_ref().is_ok_and(|report| report.failed.is_empty()) {
            // Nobody will write to them now.
            let mut new = tiles.to_vec();
            new.retain(|tile| !there.contains(tile));
            self.unload(array, &new);
        }
        held.report = report?;
        Ok(held)
    }

    pub(super) fn hold_pages(&self, array: &ArrayShared<B>, pages: &[PageId]) {
        let mut state = self.lock();
        for &page in pages {
            let mapped = state.of_page(array.id, page).keeps_memory();
            state.residency.hold(array.key(page), array.layout.page_bytes(), mapped);
        }
    }

    pub(super) fn let_go(&self, array: &ArrayShared<B>, pages: &[PageId]) {
        if !pages.is_empty() {
            self.lock().release(array, pages);
        }
    }

    /// Pins the pages of `tiles` and makes the tiles resident, for a purpose. Nothing counts as written to for that. Returns the pages: each is to be unpinned once.
    ///
    /// # Errors
    /// As [`Engine::request`]; nothing is pinned then.
    pub(crate) fn pin(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
        purpose: Purpose,
    ) -> Result<(Vec<PageId>, Report), Error> {
        Ok(self.pin_held(self.hold_resident(array, tiles, purpose, None)?))
    }

    /// Pins what is held.
    pub(super) fn pin_held(&self, mut held: Held<'_, B>) -> (Vec<PageId>, Report) {
        let array = held.array;
        let report = std::mem::take(&mut held.report);
        let mut pages = held.pages.clone();
        let mut guard = self.lock();
        let state = &mut *guard;
        // Where all that was asked for is uniform or failed there is no memory to keep.
        pages.retain(|&page| state.table(array.id).is_some_and(|table| table.has_resident(page)));
        for &page in &pages {
            let mapped = state.of_page(array.id, page).keeps_memory();
            state.residency.pin(array.key(page), array.layout.page_bytes(), mapped);
        }
        drop(guard);
        (pages, report)
    }

    /// How many of the tiles, from the first on, the budget holds beside what is pinned. Pinned and uniform ones cost nothing.
    pub(crate) fn fitting(&self, array: &ArrayShared<B>, tiles: &[TileId]) -> usize {
        let state = self.lock();
        let room =
            state.residency.budget().saturating_sub(state.residency.pinned()) / array.layout.page_bytes();
        let mut pages = HashSet::default();
        let fits = |tile: &&TileId| {
            let page = array.layout.page_of(**tile);
            array.planes.is_uniform(**tile)
                || pages.contains(&page)
                || state.residency.is_pinned(array.key(page))
                || ((pages.len() as u64) < room && pages.insert(page))
        };
        tiles.iter().take_while(fits).count()
    }

    /// Takes one pin of each page back.
    pub(crate) fn unpin(&self, array: &ArrayShared<B>, pages: &[PageId]) {
        let mut state = self.lock();
        for &page in pages {
            let evictable = state.is_evictable(array, page);
            state.residency.unpin(array.key(page), evictable, array.stamp_of(page));
        }
        self.notify(state);
    }

    /// Pages that a failed batch committed and that no tile lives in go to the waiting ones. They are noted as on their way out, and out of the order.
    pub(super) fn decommit_empty(&self, array: &ArrayShared<B>, pages: &[PageId]) {
        let bytes = array.layout.page_bytes();
        let mut unmapped = HashMap::default();
        // Others go on using memory that is shared, and what is not shared stays so: nobody forks a page on its way out.
        let shared: HashSet<_> = {
            let state = self.lock();
            let shared = |page: &PageId| state.residency.shared_memory(array.key(*page)).is_some();
            pages.iter().copied().filter(shared).collect()
        };
        let mut vmm = self.lock_vmm();
        for &page in pages {
            match self.backend.unmap(&array.reservation, array.layout.page_offset_bytes(page)) {
                Ok(memory) => {
                    let now_idle = !shared.contains(&page);
                    if now_idle {
                        vmm.idle.entry(bytes).or_default().push(memory);
                    } else {
                        destroy(&self.backend, memory);
                    }
                    unmapped.insert(page, now_idle);
                }
                Err(error) => tracing::error!(%error, "a page without tiles could not be unmapped"),
            }
        }
        drop(vmm);
        let mut guard = self.lock();
        let state = &mut *guard;
        for &page in pages {
            let key = array.key(page);
            if let Some(&now_idle) = unmapped.get(&page) {
                state.residency.unmapped(key, bytes, now_idle);
                if let Some((array, table)) = state.arrays.get_mut(array.id) {
                    table.clear_page(page);
                    array.forget_emptied(table);
                }
            } else {
                if let Some((_, table)) = state.arrays.get_mut(array.id) {
                    table.set_evicting(page, false);
                }
                state.residency.not_unmapped(key, bytes);
            }
        }
        self.notify(guard);
    }

    /// Takes an array out that nobody can reach any more, and gives all its memory back. Its addresses go back when the caller drops it.
    pub(crate) fn remove_array(&self, array: &ArrayShared<B>) {
        let bytes = array.layout.page_bytes();
        // Kernels may still be reading it; frames on the host borrow the array.
        self.settle();
        let pages = loop {
            let mut guard = self.lock();
            let state = &mut *guard;
            if state.is_changing(array) {
                // Others are giving its pages memory, taking it or copying it; that ends.
                let seen = state.changes;
                drop(guard);
                let _ = self.wait_for_change(seen, false, self.deadline());
                continue;
            }
            let Some((_, mut table)) = state.arrays.remove(array.id) else { return };
            let pages: Vec<_> = table.mapped().collect();
            for &page in &pages {
                // A load that ended by a panic never told what became of it.
                if table.take_fresh(page) {
                    state.residency.loaded(array.key(page), bytes, 0);
                }
                state.residency.take_out(array.key(page), bytes);
            }
            break pages;
        };
        {
            let _vmm = self.lock_vmm();
            for &page in &pages {
                match self.backend.unmap(&array.reservation, array.layout.page_offset_bytes(page)) {
                    Ok(memory) => destroy(&self.backend, memory),
                    Err(error) => tracing::error!(%error, "a page of a dropped array could not be unmapped"),
                }
            }
        }
        let mut state = self.lock();
        for &page in &pages {
            state.residency.unmapped(array.key(page), bytes, false);
        }
        self.notify(state);
    }
}
