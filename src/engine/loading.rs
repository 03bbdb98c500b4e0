//! Owns which tiles are on their way: [`Loading`], one for each claim, and who looks for a tile among them.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::backend::Backend;
use crate::layout::TileId;

use super::frame::Epoch;
use super::{Outcome, State};

/// The tiles of one claim on their way, for everyone who waits for one of them.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) array: u32,
    /// In order.
    pub(super) tiles: Arc<[TileId]>,
    /// How each of them ended. `None`: whoever claimed them gave them up before their source was asked. Whoever still wants one may claim it.
    pub(super) outcomes: OnceLock<Option<Vec<Outcome>>>,
    /// Frames up to here have to end before the load begins (the first epoch: none).
    pub(super) retired: Epoch,
}

impl Loading {
    /// Where the tile is among these, if it is.
    fn position(&self, tile: TileId) -> Option<usize> {
        // Most are asked about tiles that lie elsewhere.
        let (first, last) = (self.tiles.first()?, self.tiles.last()?);
        if tile < *first || tile > *last {
            return None;
        }
        self.tiles.binary_search(&tile).ok()
    }

    /// Whether any of a range of tiles is among these.
    pub(super) fn any_in(&self, tiles: Range<u64>) -> bool {
        let (Some(first), Some(last)) = (self.tiles.first(), self.tiles.last()) else { return false };
        if tiles.end <= first.0 || tiles.start > last.0 {
            return false;
        }
        let next = self.tiles.partition_point(|tile| tile.0 < tiles.start);
        self.tiles.get(next).is_some_and(|tile| tile.0 < tiles.end)
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcomes.get().is_some()
    }

    /// How one of the tiles ended; `None` while it is on its way, or if it was given up.
    pub(super) fn outcome(&self, tile: TileId) -> Option<&Outcome> {
        self.outcomes.get()?.as_ref()?.get(self.position(tile)?)
    }
}

impl<B: Backend> State<B> {
    /// The claim that loads a tile, if one does.
    pub(super) fn loading(&self, array: u32, tile: TileId) -> Option<&Arc<Loading>> {
        let of_tile = |loading: &&Arc<Loading>| loading.array == array && loading.position(tile).is_some();
        self.loading.iter().find(of_tile)
    }

    /// A claim is over: its tiles ended so, or were given up.
    pub(super) fn end_loading(&mut self, loading: &Arc<Loading>, outcomes: Option<Vec<Outcome>>) {
        self.loading.retain(|other| !Arc::ptr_eq(other, loading));
        // Set once, by the one who claimed them.
        let _ = loading.outcomes.set(outcomes);
    }
}
