//! Owns what is done to written tiles as a whole for those who write elsewhere, such as kernels: making them blank ahead, finding those that hold one value, giving them back to their source.
//! Nobody has the array in a frame meanwhile; kernels of frames that have ended are waited for.

use std::sync::Arc;

use rayon::prelude::*;

use crate::backend::Backend;
use crate::error::{BackendError, Error};
use crate::layout::{PageId, TileId};
use crate::planes::VoxelWords;

use super::edit::Contents;
use super::evict::Held;
use super::report::Report;
use super::request::Purpose;
use super::{ArrayShared, Engine};

impl<B: Backend> Engine<B> {
    /// Has the tiles hold the fill value, and memory, which stays: as [`Engine::pin`] for [`Purpose::Write`].
    ///
    /// # Errors
    /// [`ResidencyError::OverBudget`]: nothing was done. As [`Engine::clear`] and [`Engine::request`]: they hold the fill value all the same, where nothing else was busy with them.
    pub(crate) fn pin_blank(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
    ) -> Result<(Vec<PageId>, Report), Error> {
        array.check()?;
        self.check_fits(array, tiles, Purpose::Write)?;
        self.settle();
        let fill = Arc::new(*array.planes.fill_words());
        let blank = tiles.iter().map(|&tile| (tile, array.as_written(tile, &fill))).collect();
        // Their pages keep their memory.
        let held = Held::pages(self, array, pages_of(array, tiles));
        self.clear(array, blank)?;
        Ok(self.pin_held(self.request_held(held, tiles, Purpose::Write, None)?))
    }

    /// Finds those of the tiles, each named once, that hold one value, bit for bit: they need no memory any more. What their source says too counts as written no more. Returns them.
    ///
    /// # Errors
    /// As [`Engine::clear`]; the backend's, and then nothing was done.
    pub(crate) fn prune(&self, array: &Arc<ArrayShared<B>>, tiles: &[TileId]) -> Result<Vec<TileId>, Error> {
        array.check()?;
        self.settle();
        // What is resident stays so while it is looked at.
        let _held = Held::pages(self, array, pages_of(array, tiles));
        let (there, gone): (Vec<_>, Vec<_>) =
            tiles.iter().copied().partition(|&tile| array.planes.is_resident(tile));
        let values = self.one_values(array, &there)?;
        let mut same: Vec<_> =
            there.into_iter().zip(values).filter_map(|(tile, value)| Some((tile, value?))).collect();
        // Of what has no memory it may be known already.
        let known = |tile| array.known_value(tile, array.layout.tile_region(array.coord(tile))).ok()?;
        same.extend(gone.into_iter().filter_map(|tile| Some((tile, known(tile)?))));
        same.sort_unstable_by_key(|&(tile, _)| tile);
        // Those of one value have it together, as after a fill.
        let mut last = Arc::default();
        let contents = same.iter().map(|&(tile, value)| {
            if *last != value {
                last = Arc::new(value);
            }
            (tile, array.as_written(tile, &last))
        });
        let contents = contents.collect();
        self.clear(array, contents)?;
        Ok(same.into_iter().map(|(tile, _)| tile).collect())
    }

    /// Gives up what was written to the tiles, and their memory.
    ///
    /// # Errors
    /// As [`Engine::clear`].
    pub(crate) fn reset(&self, array: &Arc<ArrayShared<B>>, tiles: &[TileId]) -> Result<(), Error> {
        array.check()?;
        self.settle();
        self.clear(array, tiles.iter().map(|&tile| (tile, Contents::Source(None))).collect())
    }

    /// The value that each resident tile holds throughout, if it does.
    fn one_values(
        &self,
        array: &ArrayShared<B>,
        tiles: &[TileId],
    ) -> Result<Vec<Option<VoxelWords>>, BackendError> {
        let (layout, voxel_bytes) = (&array.layout, array.planes.voxel_bytes());
        let look = |tiles: &[TileId]| {
            let offsets: Vec<_> = tiles.iter().map(|&tile| layout.tile_offset_bytes(tile)).collect();
            self.backend.one_values(&array.reservation, &offsets, layout.tile_bytes(), voxel_bytes as u64)
        };
        let values = if self.backend.caps().asynchronous {
            look(tiles)?
        } else {
            let some: Result<Vec<_>, _> = tiles.par_iter().map(|&tile| look(&[tile])).collect();
            some?.into_iter().flatten().collect()
        };
        let words = |value: Box<[u8]>| {
            let mut words = VoxelWords::default();
            bytemuck::bytes_of_mut(&mut words)[..voxel_bytes].copy_from_slice(&value);
            words
        };
        Ok(values.into_iter().map(|value| value.map(words)).collect())
    }
}

impl<B: Backend> ArrayShared<B> {
    /// What it is to hold a value for a tile: nothing to be kept, where its source says the same.
    fn as_written(&self, tile: TileId, value: &Arc<VoxelWords>) -> Contents {
        match self.source.uniform(self.layout.tile_region(self.coord(tile))) {
            Ok(Some(same)) if same == **value => Contents::Source(Some(Arc::clone(value))),
            _ => Contents::Written(Arc::clone(value)),
        }
    }
}

/// Their pages, each once, in order.
fn pages_of<B: Backend>(array: &ArrayShared<B>, tiles: &[TileId]) -> Vec<PageId> {
    let mut pages: Vec<_> = tiles.iter().map(|&tile| array.layout.page_of(tile)).collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}
