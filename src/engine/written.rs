//! Owns what was written to tiles that have no memory any more: [`Written`], over the array's scratch store, and the way there, [`Engine::write_back`].
//!
//! A tile that was written to loses its memory only after its bytes are with the scratch store; from then on they are what it is loaded from, in place of its source's. One that holds a
//! single value is noted as that, and takes no room in the store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::backend::Backend;
use crate::error::{Error, SourceError, StoreError};
use crate::geometry::Region;
use crate::layout::TileId;
use crate::page_table::PageTable;
use crate::planes::VoxelWords;
use crate::residency::Victim;
use crate::stats::count;
use crate::store::ScratchStore;

use super::workers::{Shared, Workers};
use super::{ArrayShared, Engine};

/// Where the contents of a tile are that was written to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kept {
    /// In the scratch store.
    Stored,
    /// Everywhere this value.
    Uniform(VoxelWords),
}

/// The written tiles of one array that are not in memory, or were not once.
#[derive(Debug)]
pub(crate) struct Written {
    store: Box<dyn ScratchStore>,
    tiles: Mutex<HashMap<TileId, Kept>>,
}

impl Written {
    pub(crate) fn new(store: Box<dyn ScratchStore>) -> Self {
        Self { store, tiles: Mutex::default() }
    }

    fn tiles(&self) -> MutexGuard<'_, HashMap<TileId, Kept>> {
        self.tiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the tile's contents are, if it was written to; else its source has them.
    pub(crate) fn of(&self, tile: TileId) -> Option<Kept> {
        self.tiles().get(&tile).copied()
    }

    /// All tiles that it knows of.
    pub(crate) fn all(&self) -> Vec<(TileId, Kept)> {
        self.tiles().iter().map(|(&tile, &kept)| (tile, kept)).collect()
    }

    /// Keeps the tile's bytes.
    fn keep(&self, tile: TileId, bytes: &[u8], voxel_bytes: usize) -> Result<(), StoreError> {
        if let Some(value) = one_value(bytes, voxel_bytes) {
            self.fill(tile, value);
            return Ok(());
        }
        self.store.keep(tile.0, bytes)?;
        self.tiles().insert(tile, Kept::Stored);
        Ok(())
    }

    /// From now on the tile holds one value, whatever was written to it before.
    pub(crate) fn fill(&self, tile: TileId, value: VoxelWords) {
        if self.tiles().insert(tile, Kept::Uniform(value)) == Some(Kept::Stored) {
            self.store.forget(tile.0);
        }
    }

    /// The source's contents hold again.
    pub(crate) fn forget(&self, tile: TileId) {
        if self.tiles().remove(&tile) == Some(Kept::Stored) {
            self.store.forget(tile.0);
        }
    }

    /// Fills `out` with a tile's contents, which are `kept`.
    pub(super) fn read(
        &self,
        tile: TileId,
        kept: Kept,
        voxel_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        match kept {
            Kept::Stored => self.store.read(tile.0, out).map_err(|error| SourceError::Other(Box::new(error))),
            Kept::Uniform(value) => {
                let value: &[u8] = bytemuck::cast_slice(&value);
                out.chunks_exact_mut(voxel_bytes)
                    .for_each(|voxel| voxel.copy_from_slice(&value[..voxel_bytes]));
                Ok(())
            }
        }
    }
}

/// The one value that all voxels hold, bit for bit, if they do.
fn one_value(bytes: &[u8], voxel_bytes: usize) -> Option<VoxelWords> {
    let first = bytes.get(..voxel_bytes)?;
    // Each voxel is equal to the next: one comparison of memory, which ends at the first that is not.
    if bytes[voxel_bytes..] != bytes[..bytes.len() - voxel_bytes] {
        return None;
    }
    let mut words = VoxelWords::default();
    bytemuck::bytes_of_mut(&mut words).get_mut(..voxel_bytes)?.copy_from_slice(first);
    Some(words)
}

/// Tiles on their way to their scratch stores.
#[derive(Debug)]
struct Batch<B: Backend> {
    engine: Weak<Engine<B>>,
    tiles: Vec<(Weak<ArrayShared<B>>, TileId)>,
    next: AtomicUsize,
    done: Mutex<Done>,
    all_done: Condvar,
}

#[derive(Debug)]
struct Done {
    left: usize,
    /// Why the first tile that failed did.
    failed: Option<(usize, Error)>,
}

impl<B: Backend> Engine<B> {
    /// Sends what was written to the victims to their arrays' scratch stores, in parallel. Nobody reads or writes them any more; their memory is still there. `false`: one of their arrays has
    /// no such store, so that its tiles have to stay.
    ///
    /// # Errors
    /// [`Error::WriteBack`], the first that failed: all of them stay.
    pub(super) fn write_back(self: &Arc<Self>, victims: &[Victim]) -> Result<bool, Error> {
        let mut tiles = Vec::new();
        {
            let state = self.lock();
            for victim in victims {
                let Some((array, table)) = state.arrays.get(&victim.key.array) else { continue };
                let dirty = table.dirty(victim.key.page);
                if !dirty.is_empty() && array.written.is_none() {
                    return Ok(false);
                }
                tiles.extend(dirty.into_iter().map(|tile| (Arc::downgrade(array), tile)));
            }
        }
        if tiles.is_empty() {
            return Ok(true);
        }
        let (left, engine) = (tiles.len(), Arc::downgrade(self));
        let done = Mutex::new(Done { left, failed: None });
        let batch =
            Arc::new(Batch { engine, tiles, next: AtomicUsize::new(0), done, all_done: Condvar::new() });
        self.workers.begin(&batch, left, false);
        Workers::finish(&*batch);
        let failed = batch.lock().failed.take();
        if let Some((_, error)) = failed {
            tracing::warn!(%error, "tiles that were written to stay in memory");
            return Err(error);
        }
        count(&self.counters.written_back, left);
        Ok(true)
    }

    fn write_back_tile(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(written) = &array.written else { return Ok(()) };
        buffer.resize(usize::try_from(array.layout.tile_bytes()).unwrap_or(usize::MAX), 0);
        self.backend.read(&array.reservation, array.layout.tile_offset_bytes(tile), buffer)?;
        written
            .keep(tile, buffer, array.planes.voxel_bytes())
            .map_err(|error| Error::WriteBack { tile: array.coord(tile), error: Arc::new(error) })
    }

    /// Every tile that was written to and not given up, wherever its contents are. Waits for kernels of frames that have ended.
    pub(crate) fn written_tiles(&self, array: &ArrayShared<B>) -> Vec<TileId> {
        let Some(written) = &array.written else { return Vec::new() };
        self.settle();
        let mut tiles: HashSet<_> = written.all().into_iter().map(|(tile, _)| tile).collect();
        tiles.extend(self.lock().table(array.id).into_iter().flat_map(PageTable::all_dirty));
        let mut tiles: Vec<_> = tiles.into_iter().collect();
        tiles.sort_unstable();
        tiles
    }

    /// Whether the page's memory may go: nothing was written to it, or what was can be written back.
    pub(super) fn may_lose(arrays: &super::Arrays<B>, key: crate::residency::PageKey) -> bool {
        arrays
            .get(&key.array)
            .is_some_and(|(array, table)| array.written.is_some() || !table.is_dirty(key.page))
    }
}

impl<B: Backend> ArrayShared<B> {
    /// Where a tile's contents are, if it was written to and lost its memory since.
    pub(super) fn kept(&self, tile: TileId) -> Option<Kept> {
        self.written.as_ref().and_then(|written| written.of(tile))
    }

    /// The one value that a tile without memory is known to hold, if it is: what was written to it, or else as its source says of its `region`.
    pub(super) fn known_value(
        &self,
        tile: TileId,
        region: Region,
    ) -> Result<Option<VoxelWords>, SourceError> {
        match self.kept(tile) {
            Some(Kept::Uniform(value)) => Ok(Some(value)),
            Some(Kept::Stored) => Ok(None),
            None => self.source.uniform(region),
        }
    }
}

impl<B: Backend> Batch<B> {
    fn lock(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Shared for Batch<B> {
    fn work(&self) {
        let mut buffer = Vec::new();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((array, tile)) = self.tiles.get(at) else { return };
            // A piece that was begun is waited for, so both are there.
            let (Some(engine), Some(array)) = (self.engine.upgrade(), array.upgrade()) else { return };
            let wrote = super::load::caught(|| Ok(engine.write_back_tile(&array, *tile, &mut buffer)));
            let wrote = wrote.unwrap_or_else(|error| {
                let location = "the scratch store".to_owned();
                let error = StoreError::ReadBack { location, source: error.into() };
                Err(Error::WriteBack { tile: array.coord(*tile), error: Arc::new(error) })
            });
            drop((engine, array));
            let mut done = self.lock();
            if let Err(error) = wrote
                && done.failed.as_ref().is_none_or(|(first, _)| at < *first)
            {
                done.failed = Some((at, error));
            }
            done.left -= 1;
            if done.left == 0 {
                self.all_done.notify_all();
            }
        }
    }

    fn join(&self) {
        let mut done = self.lock();
        while done.left > 0 {
            done = self.all_done.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(all(test, not(vastgrid_loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_told_bit_for_bit() {
        let of = |voxels: &[f32]| one_value(bytemuck::cast_slice(voxels), 4).map(|words| words[0]);
        let bits = |v: f32| Some(u64::from(v.to_bits()));
        assert_eq!(of(&[1.5; 8]), bits(1.5));
        assert_eq!(of(&[f32::NAN; 4]), bits(f32::NAN), "the same NaN everywhere");
        assert_eq!(of(&[0.0, -0.0, 0.0, 0.0]), None, "zeros of two kinds");
        assert_eq!(of(&[1.0, 1.0, 1.0, 2.0]), None);
        assert_eq!(of(&[2.0, 1.0, 1.0, 1.0]), None);
        assert_eq!(one_value(&[7; 5], 1).map(|words| words[0]), Some(7));
        assert_eq!(one_value(&[1, 2, 1, 2], 2).map(|words| words[0]), Some(0x0201));
    }
}
