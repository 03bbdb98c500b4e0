//! Owns what an array's writer does to tiles as a whole: giving them one value without memory, and taking back what was made for it in vain. Nobody reads those tiles meanwhile.

use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{Error, ResidencyError};
use crate::layout::{PageId, TileId};
use crate::planes::VoxelWords;

use super::{ArrayShared, Became, Engine, Entry, Kept, State};

/// What a tile holds that has no memory any more.
#[derive(Clone, Debug)]
pub(super) enum Contents {
    /// This value, which was written to it. Tiles that were filled together have it together.
    Written(Arc<VoxelWords>),
    /// What its source says: this value, if it is known.
    Source(Option<Arc<VoxelWords>>),
}

impl<B: Backend> Engine<B> {
    /// Lets go of pages that were held.
    pub(crate) fn release_pages(&self, array: &Arc<ArrayShared<B>>, pages: &[PageId]) {
        let mut state = self.lock();
        state.release(array, pages);
        let empty = state.take_empty(array, pages.iter().copied());
        self.notify(state);
        if !empty.is_empty() {
            self.decommit_empty(array, &empty);
        }
    }

    /// From now on the tiles hold one value, whatever they held before, and have no memory. Their pages are not held by who asks.
    ///
    /// # Errors
    /// [`ResidencyError::ReadOnly`]; others are loading or evicting one of them, and do not get ready in time.
    pub(crate) fn fill(
        &self,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
        value: VoxelWords,
    ) -> Result<(), Error> {
        let contents = Contents::Written(Arc::new(value));
        self.clear(array, tiles.iter().map(|&tile| (tile, contents.clone())).collect())
    }

    /// From now on the tiles hold what is said, whatever they held before, and have no memory. Pages that are held keep theirs until they are let go of.
    ///
    /// # Errors
    /// As [`Engine::fill`].
    pub(super) fn clear(
        &self,
        array: &Arc<ArrayShared<B>>,
        mut left: Vec<(TileId, Contents)>,
    ) -> Result<(), Error> {
        let Some(written) = &array.written else { return Err(ResidencyError::ReadOnly.into()) };
        let deadline = self.deadline();
        while !left.is_empty() {
            let mut guard = self.lock();
            let state = &mut *guard;
            // What others are reading from the source, or writing back, would come after this.
            let (busy, free) =
                left.into_iter().partition::<Vec<_>, _>(|&(tile, _)| state.is_busy(array, tile));
            let mut pages: Vec<_> = free.iter().map(|&(tile, _)| array.layout.page_of(tile)).collect();
            pages.sort_unstable();
            pages.dedup();
            let mut before = Vec::new();
            for (tile, contents) in free {
                state.take_back(array, tile);
                let value = match contents {
                    Contents::Written(value) => {
                        before.push(written.enter(tile, Kept::Uniform(Arc::clone(&value))));
                        Some(value)
                    }
                    Contents::Source(value) => {
                        before.push(written.forget(tile));
                        value
                    }
                };
                if let Some(value) = value
                    && state.arrays.get_mut(array.id).is_some_and(|(_, table)| table.set_uniform(tile))
                {
                    array.planes.publish_uniform(tile, *value);
                    state.journal.enter(Entry { array: array.id, tile, became: Became::Uniform });
                }
            }
            let empty = state.take_empty(array, pages.iter().copied());
            let seen = state.changes;
            if pages.is_empty() {
                drop(guard);
            } else {
                self.notify(guard);
            }
            // The store is told here, where no lock is held.
            drop(before);
            if !empty.is_empty() {
                self.decommit_empty(array, &empty);
            }
            left = busy;
            if let Some(&(tile, _)) = left.first()
                && pages.is_empty()
                && !self.wait_for_change(seen, false, deadline)
            {
                return Err(ResidencyError::LoadsItself { tile: array.coord(tile) }.into());
            }
        }
        Ok(())
    }

    /// Tiles that were made resident only to be overwritten, and were not: they are as if they never had been. Their pages are held by who asks.
    pub(super) fn unload(&self, array: &ArrayShared<B>, tiles: &[TileId]) {
        let mut state = self.lock();
        for &tile in tiles {
            state.take_back(array, tile);
        }
        self.notify(state);
    }
}

impl<B: Backend> State<B> {
    fn is_busy(&self, array: &ArrayShared<B>, tile: TileId) -> bool {
        let page = array.layout.page_of(tile);
        self.loading(array.id, tile).is_some()
            || self.changing(array, page, self.of_page(array.id, page)).is_some()
    }

    /// The tile is neither resident nor uniform any more; its page keeps its memory.
    fn take_back(&mut self, array: &ArrayShared<B>, tile: TileId) {
        let Some((_, table)) = self.arrays.get_mut(array.id) else { return };
        if table.clear_uniform(tile) {
            array.planes.retract_uniform(tile);
        }
        if table.clear_resident(tile) {
            array.planes.retract_resident(tile);
            self.journal.enter(Entry { array: array.id, tile, became: Became::Evicted });
        }
    }
}
