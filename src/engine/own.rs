//! Owns copying on write: [`Engine::own`] gives pages that share their memory some of their own, before anything is written to them or loaded into them.

use std::sync::Arc;

use crate::backend::Backend;
use crate::error::Error;
use crate::layout::PageId;
use crate::residency::{Need, NoRoom, PageKey, Plan};
use crate::stats::count;

use super::frame::Epoch;
use super::waiting::Deadline;
use super::{ArrayShared, Engine};

impl<B: Backend> Engine<B> {
    /// Gives those of the pages that share memory some of their own, with what they hold, evicting others where the budget has no room; where nothing else can go, those who share it. Tiles in
    /// them stay in sight, and frames go on reading: the bytes are the same.
    ///
    /// `held`: pages that the caller holds, in order; the others are held here meanwhile. `false`: room had to be waited for. All of them were let go meanwhile, so that tiles may have gone,
    /// and nothing was done.
    ///
    /// # Errors
    /// No room, frames that do not end, what cannot be written back, the backend's failure. What was copied before that stays so.
    pub(super) fn own(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        pages: &[PageId],
        held: &[PageId],
        deadline: Deadline<'_>,
    ) -> Result<bool, Error> {
        {
            let state = self.lock();
            if !pages.iter().any(|&page| state.residency.is_locked(array.key(page))) {
                return Ok(true);
            }
        }
        let others: Vec<_> = pages.iter().copied().filter(|page| held.binary_search(page).is_err()).collect();
        self.hold_pages(array, &others);
        let done = self.own_held(array, pages, held, &others, deadline);
        self.let_go(array, &others);
        done
    }

    fn own_held(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        pages: &[PageId],
        held: &[PageId],
        others: &[PageId],
        deadline: Deadline<'_>,
    ) -> Result<bool, Error> {
        loop {
            array.check()?;
            self.reap();
            let mut guard = self.lock();
            let state = &mut *guard;
            let keys = pages.iter().map(|&page| array.key(page));
            let keys: Vec<_> = keys.filter(|&key| state.residency.is_locked(key)).collect();
            if keys.is_empty() {
                return Ok(true);
            }
            let bytes = array.layout.page_bytes();
            let busy = |key: &PageKey| {
                let of_page = state.of_page(array.id, key.page);
                state.changing(array, key.page, of_page)
            };
            if let Some(epoch) = keys.iter().find_map(busy) {
                // Another thread copies or shares one of them, or takes it.
                let seen = state.changes;
                drop(guard);
                self.await_change(bytes * keys.len() as u64, epoch, seen, deadline)?;
                continue;
            }
            let is_shared = |key: &PageKey| state.residency.shared_memory(*key).is_some();
            let (shared, alone): (Vec<_>, Vec<_>) = keys.iter().partition(|key| is_shared(key));
            let needs: Vec<_> =
                shared.iter().map(|&key| Need { key, bytes, shown: None, copies: true }).collect();
            let stamping = self.clock.stamping();
            for &page in pages {
                stamping.stamp(array.planes.stamp(page));
            }
            let time = stamping.time();
            drop(stamping);
            let framed = self.clock.oldest().is_some();
            match self.plan_and_retire(state, &needs, time, u64::MAX) {
                Ok((mut plan, retired)) => {
                    plan.opened.extend(alone);
                    state.set_copying(keys.iter().copied(), true);
                    drop(guard);
                    if self.copy_out(array, plan, retired, &keys, deadline)? {
                        return Ok(true);
                    }
                }
                Err(why) => {
                    // What nobody but this request holds was in nobody's way but its own.
                    let is_held = |key: PageKey| {
                        [held, others].iter().any(|pages| pages.binary_search(&key.page).is_ok())
                    };
                    let own = |key: PageKey| key.array == array.id && is_held(key);
                    let why = NoRoom { busy_bytes: state.residency.busy(own), ..why };
                    let seen = state.changes;
                    drop(guard);
                    self.let_go(array, held);
                    self.let_go(array, others);
                    let waited = self.await_room(why, framed, self.budget(), seen, deadline);
                    self.hold_pages(array, others);
                    self.hold_pages(array, held);
                    return waited.map(|()| false);
                }
            }
        }
    }

    /// Carries a plan of copies out. `false`: a victim was written to meanwhile; nothing was done.
    fn copy_out(
        self: &Arc<Self>,
        array: &ArrayShared<B>,
        mut plan: Plan,
        retired: Epoch,
        keys: &[PageKey],
        deadline: Deadline<'_>,
    ) -> Result<bool, Error> {
        let done = self.carry_out(&mut plan, retired, deadline);
        let mut state = self.lock();
        if matches!(done, Ok(true)) {
            state.residency.confirm(&plan);
            state.forget(&plan.victims);
            state.evictions.end(retired);
            self.note_holders(&mut state, array, &plan.copies);
            count(&self.counters.copied_pages, plan.copies.len());
        } else {
            state.unretire(&plan.victims, retired);
            state.residency.abandon_failed(&plan);
        }
        state.set_copying(keys.iter().copied(), false);
        self.notify(state);
        done
    }
}
