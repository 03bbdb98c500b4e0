//! Owns forks: [`Engine::fork`] makes a second array with the contents of one.
//!
//! ```text
//!   choose     under the state lock: whose pages are shared, whose tiles go to the scratch store; they are held from here on
//!   share      under the VMM lock, some at a time: the same memory mapped in both, for reading only
//!   join       under the state lock: they share it, so that neither is written to as it is
//!   keep       in parallel: what was written and is not shared goes to the scratch store that both have
//!   publish    under the state lock: the fork is there as a whole
//! ```
//!
//! What is neither shared nor kept is what the source has.

use std::sync::Arc;

use foldhash::HashSet;

use crate::backend::{Access, Backend, Refused};
use crate::error::{BackendError, Error};
use crate::layout::{PageId, TileId};
use crate::page_table::PageTable;
use crate::sync::Ordering;

use super::apply::destroy;
use super::{ArrayShared, Became, Engine, Kept};

/// How many pages are shared before others may make mapping calls.
const PAGES_AT_A_TIME: usize = 64;

/// What a fork does with what is resident, and holds until it is done: others wait for that, as for loads.
#[derive(Debug, Default)]
struct Chosen {
    /// Pages whose memory it shares.
    share: Vec<PageId>,
    /// Tiles that were written to, and go to the scratch store.
    keep: Vec<TileId>,
    /// Pages of those.
    keep_pages: Vec<PageId>,
}

impl<B: Backend> Engine<B> {
    /// Makes an array with the contents that this one has now. Nobody writes to it meanwhile.
    ///
    /// # Errors
    /// No address space; [`Error::WriteBack`]; pages that others take or copy and do not get ready in time. There is no fork then, and the array is as before.
    pub(crate) fn fork(self: &Arc<Self>, array: &Arc<ArrayShared<B>>) -> Result<Arc<ArrayShared<B>>, Error> {
        array.check()?;
        // What kernels of frames that have ended were told to write is there.
        self.settle();
        let fork = self.empty_fork(array)?;
        let mut chosen = self.choose(array)?;
        let (pages, shared) = self.share(array, &fork, &chosen.share);
        let table = self.join(array, &fork, &mut chosen, pages);
        let tiles: Vec<_> = chosen.keep.iter().map(|&tile| (Arc::clone(array), tile)).collect();
        match shared.map_err(Error::from).and_then(|()| self.keep(&tiles)) {
            Ok(kept) => {
                fork.planes.adopt_ranges(&array.planes);
                self.publish_fork(array, &fork, table, &chosen, &kept);
            }
            Err(error) => {
                self.take_apart(array, &fork, &table, &chosen);
                return Err(error);
            }
        }
        // A device may have been lost while nobody knew of the fork.
        if let Err(error) = array.check() {
            self.remove_array(&fork);
            return Err(error);
        }
        Ok(fork)
    }

    /// An array beside another one, with its source and its scratch store, that nobody knows of.
    fn empty_fork(&self, array: &ArrayShared<B>) -> Result<Arc<ArrayShared<B>>, Error> {
        let layout = array.layout.clone();
        let planes = array.planes.beside(&layout)?;
        let reservation = self.reserve(&layout)?;
        let written = array.written.as_ref().map(super::Written::beside);
        let id = {
            let mut state = self.lock();
            state.next_array += 1;
            state.next_array
        };
        Ok(Arc::new(Self::new_array(id, layout, planes, reservation, Arc::clone(&array.source), written)))
    }

    /// Decides what becomes of each page with anything in it, and holds those that something is done with.
    fn choose(&self, array: &ArrayShared<B>) -> Result<Chosen, Error> {
        let deadline = self.deadline();
        loop {
            array.check()?;
            self.reap();
            let mut guard = self.lock();
            let state = &mut *guard;
            let Some(table) = state.table(array.id) else { return Ok(Chosen::default()) };
            let pages: Vec<_> = table.mapped().filter(|&page| table.has_resident(page)).collect();
            // What another fork shares or a writer copies is ready soon; what was written and is on its way out is then in the store, or back.
            let in_the_way = pages.iter().find_map(|&page| {
                let of_page = table.of_page(page);
                let goes_clean = of_page.evicting && !table.is_dirty(page);
                state.changing(array, page, of_page).filter(|_| !goes_clean)
            });
            if let Some(epoch) = in_the_way {
                let seen = state.changes;
                drop(guard);
                self.await_change(array.layout.page_bytes(), epoch, seen, deadline)?;
                continue;
            }
            let of_array = state.loading.iter().filter(|loading| loading.array == array.id);
            let loading = of_array.flat_map(|loading| loading.tiles.iter());
            let loading: HashSet<_> = loading.map(|&tile| array.layout.page_of(tile)).collect();
            let mut chosen = Chosen::default();
            for page in pages {
                if table.is_evicting(page) {
                    continue;
                }
                // Others are about to write into a page that is being loaded into.
                if self.backend.caps().shares && !loading.contains(&page) {
                    chosen.share.push(page);
                } else if table.is_dirty(page) {
                    chosen.keep.extend(table.dirty(page));
                    chosen.keep_pages.push(page);
                }
            }
            for &page in chosen.share.iter().chain(&chosen.keep_pages) {
                state.residency.hold(array.key(page), array.layout.page_bytes(), true);
            }
            state.set_copying(chosen.share.iter().map(|&page| array.key(page)), true);
            return Ok(chosen);
        }
    }

    /// Maps the memory of pages in the fork as well, and says of how many, from the first on. One that cannot be shared ends it: there are other ways. It is an error where a page is mapped in the
    /// fork and cannot be used there, or the device is lost.
    fn share(
        &self,
        array: &ArrayShared<B>,
        fork: &ArrayShared<B>,
        pages: &[PageId],
    ) -> (usize, Result<(), BackendError>) {
        let mut shared = 0;
        for some in pages.chunks(PAGES_AT_A_TIME) {
            let _vmm = self.lock_vmm();
            for &page in some {
                match self.share_page(array, fork, page) {
                    Ok(()) => shared += 1,
                    Err((error, false)) => {
                        tracing::warn!(%error, "a fork cannot share all that is resident; what was written goes to the scratch store");
                        return (shared, Ok(()));
                    }
                    Err((error, true)) => {
                        if error.is_fatal() {
                            self.poison_all(&error);
                        }
                        return (shared, Err(error));
                    }
                }
            }
        }
        (shared, Ok(()))
    }

    /// On failure also says whether something is left in the fork that should not be there.
    fn share_page(
        &self,
        array: &ArrayShared<B>,
        fork: &ArrayShared<B>,
        page: PageId,
    ) -> Result<(), (BackendError, bool)> {
        let (backend, bytes) = (&self.backend, array.layout.page_bytes());
        let offset = array.layout.page_offset_bytes(page);
        let fatal = |error: BackendError| {
            let fatal = error.is_fatal();
            (error, fatal)
        };
        let memory = backend.share(&array.reservation, offset).map_err(fatal)?;
        if let Err(Refused { error, page }) = backend.map(&fork.reservation, offset, memory) {
            destroy(backend, page);
            return Err(fatal(error));
        }
        let only_reads =
            |of: &ArrayShared<B>| backend.set_access(&of.reservation, offset..offset + bytes, Access::Read);
        let Err(error) = only_reads(fork).and_then(|()| only_reads(array)) else { return Ok(()) };
        match backend.unmap(&fork.reservation, offset) {
            Ok(memory) => {
                destroy(backend, memory);
                Err(fatal(error))
            }
            Err(left) => Err((left, true)),
        }
    }

    /// Enters that the first `shared` of the chosen pages are shared, and makes the fork's table of them. What was written to the others is to be kept.
    fn join(
        &self,
        array: &Arc<ArrayShared<B>>,
        fork: &ArrayShared<B>,
        chosen: &mut Chosen,
        shared: usize,
    ) -> PageTable {
        let mut table = PageTable::new(array.layout.tiles_per_page());
        let others = chosen.share.split_off(shared);
        let mut guard = self.lock();
        let state = &mut *guard;
        for &page in &chosen.share {
            state.residency.share(array.key(page), fork.key(page));
            let Some(theirs) = state.table(array.id) else { continue };
            table.set_mapped(page);
            for (first, mask) in theirs.resident_words(page) {
                for tile in (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| TileId(first.0 + bit)) {
                    let _ = table.set_resident(tile);
                    if theirs.is_dirty_tile(tile) {
                        table.set_dirty(tile);
                    }
                }
            }
        }
        let all = chosen.share.iter().chain(&others);
        state.set_copying(all.map(|&page| array.key(page)), false);
        let theirs = state.table(array.id);
        let (written, clean): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|&page| theirs.is_some_and(|table| table.is_dirty(page)));
        for &page in &written {
            chosen.keep.extend(theirs.into_iter().flat_map(|table| table.dirty(page)));
        }
        chosen.keep_pages.extend(written);
        state.release(array, &clean);
        self.notify(guard);
        table
    }

    /// Makes the fork known, with all that it has.
    fn publish_fork(
        &self,
        array: &Arc<ArrayShared<B>>,
        fork: &Arc<ArrayShared<B>>,
        mut table: PageTable,
        chosen: &Chosen,
        kept: &[Kept],
    ) {
        let mut before = Vec::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        // What was kept is in the store for both of them now; but kernels may have written to it since, and tell of it later.
        let for_both = if self.backend.caps().asynchronous { &[] } else { chosen.keep.as_slice() };
        for (&tile, kept) in for_both.iter().zip(kept) {
            before.push(state.enter_kept(array, tile, kept));
            if let Some((_, table)) = state.arrays.get_mut(array.id) {
                table.clear_dirty(tile);
            }
        }
        if let (Some(theirs), Some(written)) = (&array.written, &fork.written) {
            written.adopt(theirs);
            for (&tile, kept) in chosen.keep.iter().zip(kept) {
                before.push(written.enter(tile, kept.clone()));
            }
        }
        for tile in state.table(array.id).into_iter().flat_map(PageTable::uniform) {
            if table.set_uniform(tile) {
                fork.planes.publish_uniform(tile, array.planes.uniform_words(tile));
            }
        }
        for &page in &chosen.share {
            let stamp = array.stamp_of(page);
            fork.planes.stamp(page).store(stamp, Ordering::Relaxed);
            for (tile, mask) in table.resident_words(page) {
                fork.planes.publish_resident(tile, mask << (tile.0 & 63));
            }
            state.journal.enter_words(fork.id, table.resident_words(page), Became::Resident);
            state.residency.place(fork.key(page), fork.layout.page_bytes(), stamp);
        }
        state.arrays.insert(fork.id, (Arc::clone(fork), table));
        state.release(array, &chosen.share);
        state.release(array, &chosen.keep_pages);
        self.notify(guard);
    }

    /// Takes back what was made of a fork that is not to be.
    fn take_apart(
        &self,
        array: &Arc<ArrayShared<B>>,
        fork: &ArrayShared<B>,
        table: &PageTable,
        chosen: &Chosen,
    ) {
        {
            let _vmm = self.lock_vmm();
            for page in table.mapped() {
                match self.backend.unmap(&fork.reservation, fork.layout.page_offset_bytes(page)) {
                    Ok(memory) => destroy(&self.backend, memory),
                    // It goes with the reservation.
                    Err(error) => tracing::warn!(%error, "a page of a fork could not be unmapped"),
                }
            }
        }
        let mut state = self.lock();
        for page in table.mapped() {
            state.residency.unshare(fork.key(page), fork.layout.page_bytes());
        }
        state.release(array, &chosen.share);
        state.release(array, &chosen.keep_pages);
        self.notify(state);
    }
}
