//! Owns which pages are getting memory, losing it or being copied at the moment, and what that waits for: [`State::changing`].

use std::sync::Arc;

use crate::backend::Backend;
use crate::layout::PageId;
use crate::page_table::OfPage;
use crate::residency::{PageKey, Victim};

use super::frame::Epoch;
use super::{ArrayShared, Loading, State};

/// The batches that take pages their memory, and the frames that each of them waits for.
///
/// The tables say which pages are on their way out ([`OfPage::evicting`]); this says until when, for those who must wait for it. A batch may name pages that went already.
#[derive(Debug, Default)]
pub(super) struct Evictions(Vec<(Epoch, Vec<PageKey>)>);

impl Evictions {
    /// Victims, in order, whose memory may go once the frames up to then have ended.
    pub(super) fn begin(&mut self, retired: Epoch, victims: &[Victim]) {
        self.0.push((retired, victims.iter().map(|victim| victim.key).collect()));
    }

    /// Those that were retired then are gone, or back.
    pub(super) fn end(&mut self, retired: Epoch) {
        self.0.retain(|(of, _)| *of != retired);
    }

    /// What a page's batch waits for. Pages that go for want of tiles wait for nothing.
    fn waits_for(&self, key: PageKey) -> Epoch {
        let last = self.0.iter().rev().find(|(_, keys)| keys.binary_search(&key).is_ok());
        last.map_or(Epoch(0), |(retired, _)| *retired)
    }
}

impl<B: Backend> State<B> {
    /// What is known of a page; nothing, if its array is gone.
    pub(super) fn of_page(&self, array: u32, page: PageId) -> OfPage {
        self.table(array).map_or_else(OfPage::default, |table| table.of_page(page))
    }

    /// Whether some batch gives the page memory, takes it or copies it, once the frames up to an epoch have ended. `of_page`: what is known of the page.
    pub(super) fn changing(&self, array: &ArrayShared<B>, page: PageId, of_page: OfPage) -> Option<Epoch> {
        let key = array.key(page);
        if of_page.evicting {
            return Some(self.evictions.waits_for(key));
        }
        if self.copying.contains(&key) {
            return Some(Epoch(0));
        }
        // Whoever loads into a page that has no memory is getting it some.
        let loads = || {
            let tiles = array.layout.tiles_of_page(page);
            let into = |loading: &&Arc<Loading>| loading.array == array.id && loading.any_in(tiles.clone());
            self.loading.iter().find(into).map(|loading| loading.retired)
        };
        if of_page.mapped { None } else { loads() }
    }

    /// Whether that is so of any page of the array.
    pub(super) fn is_changing(&self, array: &ArrayShared<B>) -> bool {
        let Some(table) = self.table(array.id) else { return false };
        let committing = |loading: &Loading| {
            loading.tiles.iter().any(|&tile| !table.is_mapped(array.layout.page_of(tile)))
        };
        table.evicting_pages() > 0
            || self.copying.iter().any(|key| key.array == array.id)
            || self.loading.iter().any(|loading| loading.array == array.id && committing(loading))
    }

    /// The pages are being copied or shared, or no more: nothing is loaded into them meanwhile.
    pub(super) fn set_copying(&mut self, keys: impl Iterator<Item = PageKey>, copying: bool) {
        for key in keys {
            if copying {
                self.copying.insert(key);
            } else {
                self.copying.remove(&key);
            }
        }
    }
}
