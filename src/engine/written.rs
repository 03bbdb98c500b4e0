//! Owns what was written to tiles that have no memory any more: [`Written`], over the array's scratch store, and the way there, [`Engine::write_back`].
//!
//! What is in the store is kept under numbers that are never used twice, so that an array and its forks have it together: whoever writes a tile anew keeps that under a number of its own.
//!
//! A tile that was written to loses its memory only after its bytes are with the scratch store; from then on they are what it is loaded from, in place of its source's. One that holds a
//! single value is noted as that, and takes no room in the store.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::{HashMap, HashSet};

use crate::backend::Backend;
use crate::error::{Error, SourceError, StoreError};
use crate::geometry::Region;
use crate::layout::TileId;
use crate::page_table::PageTable;
use crate::planes::VoxelWords;
use crate::residency::Victim;
use crate::stats::count;
use crate::store::ScratchStore;

use super::workers::Work;
use super::{ArrayShared, Engine, State};

/// Where the contents of a tile are that was written to.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// In the scratch store.
    Stored(Arc<Stored>),
    /// Everywhere this value.
    Uniform(Arc<VoxelWords>),
}

/// A tile's bytes in a scratch store, until nobody needs them any more.
#[derive(Debug)]
pub(crate) struct Stored {
    scratch: Arc<Scratch>,
    number: u64,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.scratch.store.forget(self.number);
    }
}

/// The scratch store of an array and of its forks.
#[derive(Debug)]
struct Scratch {
    store: Box<dyn ScratchStore>,
    last_number: AtomicU64,
}

/// The written tiles of one array that are not in memory, or were not once.
#[derive(Debug)]
pub(crate) struct Written {
    scratch: Arc<Scratch>,
    tiles: Mutex<HashMap<TileId, Kept>>,
}

impl Written {
    pub(crate) fn new(store: Box<dyn ScratchStore>) -> Self {
        let scratch = Scratch { store, last_number: AtomicU64::new(0) };
        Self { scratch: Arc::new(scratch), tiles: Mutex::default() }
    }

    /// No tiles yet, in the same store.
    pub(super) fn beside(&self) -> Self {
        Self { scratch: Arc::clone(&self.scratch), tiles: Mutex::default() }
    }

    /// Has all the tiles that another has. **Cost**: a table's entry for each.
    pub(super) fn adopt(&self, of: &Self) {
        let tiles = of.tiles().clone();
        *self.tiles() = tiles;
    }

    fn tiles(&self) -> MutexGuard<'_, HashMap<TileId, Kept>> {
        self.tiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the tile's contents are, if it was written to; else its source has them.
    pub(crate) fn of(&self, tile: TileId) -> Option<Kept> {
        self.tiles().get(&tile).cloned()
    }

    /// All tiles that it knows of.
    pub(crate) fn all(&self) -> Vec<TileId> {
        self.tiles().keys().copied().collect()
    }

    /// Keeps a tile's bytes, for whoever enters what it returns.
    fn keep(&self, bytes: &[u8], voxel_bytes: usize) -> Result<Kept, StoreError> {
        if let Some(value) = one_value(bytes, voxel_bytes) {
            return Ok(Kept::Uniform(Arc::new(value)));
        }
        let scratch = Arc::clone(&self.scratch);
        let number = scratch.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        scratch.store.keep(number, bytes)?;
        Ok(Kept::Stored(Arc::new(Stored { scratch, number })))
    }

    /// From now on this is where the tile's contents are. Returns what was kept before: dropping that may call the store.
    #[must_use = "to be dropped where no lock is held"]
    pub(super) fn enter(&self, tile: TileId, kept: Kept) -> Option<Kept> {
        self.tiles().insert(tile, kept)
    }

    /// The source's contents hold again. Returns what was kept before: dropping that may call the store.
    #[must_use = "to be dropped where no lock is held"]
    pub(super) fn forget(&self, tile: TileId) -> Option<Kept> {
        self.tiles().remove(&tile)
    }

    /// Fills `out` with a tile's contents, which are `kept`.
    pub(super) fn read(kept: &Kept, voxel_bytes: usize, out: &mut [u8]) -> Result<(), SourceError> {
        match kept {
            Kept::Stored(stored) => {
                let read = stored.scratch.store.read(stored.number, out);
                read.map_err(|error| SourceError::Other(Box::new(error)))
            }
            Kept::Uniform(value) => {
                let value: &[u8] = bytemuck::cast_slice(&value[..]);
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
    kept: Vec<Option<Kept>>,
    /// Why the first tile that failed did.
    failed: Option<(usize, Error)>,
}

impl<B: Backend> Engine<B> {
    /// Sends what was written to the victims to their arrays' scratch stores, in parallel. Nobody reads or writes them any more; their memory is still there. What several of them have in one
    /// memory is sent once. `false`: one of their arrays has no such store, so that its tiles have to stay.
    ///
    /// # Errors
    /// [`Error::WriteBack`], the first that failed: all of them stay.
    pub(super) fn write_back(self: &Arc<Self>, victims: &[Victim]) -> Result<bool, Error> {
        let mut tiles = Vec::new();
        // All who have a tile, and where it is among those that are sent.
        let mut having = Vec::new();
        {
            let state = self.lock();
            let mut sent = HashMap::default();
            let any_dirty = state.arrays.values().any(|(_, table)| table.dirty_tiles() > 0);
            for victim in victims.iter().filter(|_| any_dirty) {
                let Some((array, table)) = state.arrays.get(victim.key.array) else { continue };
                if !table.is_dirty(victim.key.page) {
                    continue;
                }
                if array.written.is_none() {
                    return Ok(false);
                }
                let memory = state.residency.shared_memory(victim.key);
                for tile in table.dirty(victim.key.page) {
                    let mut send = || {
                        tiles.push((Arc::clone(array), tile));
                        tiles.len() - 1
                    };
                    let at = match memory {
                        Some(memory) => *sent.entry((memory, tile)).or_insert_with(send),
                        None => send(),
                    };
                    having.push((Arc::clone(array), tile, at));
                }
            }
        }
        let kept = self.keep(&tiles)?;
        let state = self.lock();
        let before: Vec<_> =
            having.iter().map(|(array, tile, at)| state.enter_kept(array, *tile, &kept[*at])).collect();
        drop(state);
        drop(before);
        Ok(true)
    }

    /// Keeps what resident tiles hold, in parallel: in the same order, where their contents are now. Nobody writes to them meanwhile.
    ///
    /// # Errors
    /// [`Error::WriteBack`], the first that failed: nothing is kept then.
    pub(super) fn keep(
        self: &Arc<Self>,
        tiles: &[(Arc<ArrayShared<B>>, TileId)],
    ) -> Result<Vec<Kept>, Error> {
        if tiles.is_empty() {
            return Ok(Vec::new());
        }
        let (left, engine) = (tiles.len(), Arc::downgrade(self));
        let tiles = tiles.iter().map(|(array, tile)| (Arc::downgrade(array), *tile)).collect();
        let done = Mutex::new(Done { left, kept: (0..left).map(|_| None).collect(), failed: None });
        let batch =
            Arc::new(Batch { engine, tiles, next: AtomicUsize::new(0), done, all_done: Condvar::new() });
        self.workers.begin(&batch, left, false);
        batch.work();
        batch.join();
        let (kept, failed) = {
            let mut done = batch.lock();
            (std::mem::take(&mut done.kept), done.failed.take())
        };
        if let Some((_, error)) = failed {
            tracing::warn!(%error, "tiles that were written to stay in memory");
            return Err(error);
        }
        count(&self.counters.written_back, left);
        Ok(kept.into_iter().flatten().collect())
    }

    fn keep_tile(&self, array: &ArrayShared<B>, tile: TileId, buffer: &mut Vec<u8>) -> Result<Kept, Error> {
        let Some(written) = &array.written else { return Err(crate::ResidencyError::ReadOnly.into()) };
        buffer.resize(usize::try_from(array.layout.tile_bytes()).unwrap_or(usize::MAX), 0);
        self.backend.read(&array.reservation, array.layout.tile_offset_bytes(tile), buffer)?;
        written
            .keep(buffer, array.planes.voxel_bytes())
            .map_err(|error| Error::WriteBack { tile: array.coord(tile), error: Arc::new(error) })
    }

    /// Every tile that was written to and not given up, wherever its contents are. Waits for kernels of frames that have ended.
    pub(crate) fn written_tiles(&self, array: &ArrayShared<B>) -> Vec<TileId> {
        let Some(written) = &array.written else { return Vec::new() };
        self.settle();
        let mut tiles: HashSet<_> = written.all().into_iter().collect();
        tiles.extend(self.lock().table(array.id).into_iter().flat_map(PageTable::all_dirty));
        let mut tiles: Vec<_> = tiles.into_iter().collect();
        tiles.sort_unstable();
        tiles
    }

    /// Whether the page's memory may go: nothing was written to it, or what was can be written back.
    pub(super) fn may_lose(arrays: &super::Arrays<B>, key: crate::residency::PageKey) -> bool {
        arrays
            .get(key.array)
            .is_some_and(|(array, table)| array.written.is_some() || !table.is_dirty(key.page))
    }
}

impl<B: Backend> State<B> {
    /// What a resident tile holds is kept, unless it was given up meanwhile.
    /// Returns what was kept before.
    #[must_use = "to be dropped where no lock is held"]
    pub(super) fn enter_kept(&self, array: &ArrayShared<B>, tile: TileId, kept: &Kept) -> Option<Kept> {
        let dirty = self.table(array.id).is_some_and(|table| table.is_dirty_tile(tile));
        array.written.as_ref().filter(|_| dirty)?.enter(tile, kept.clone())
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
            Some(Kept::Uniform(value)) => Ok(Some(*value)),
            Some(Kept::Stored(_)) => Ok(None),
            None => self.source.uniform(region),
        }
    }
}

impl<B: Backend> Batch<B> {
    fn lock(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the tiles that others began are done too.
    fn join(&self) {
        let mut done = self.lock();
        while done.left > 0 {
            done = self.all_done.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<B: Backend> Work for Batch<B> {
    fn work(&self) {
        let mut buffer = Vec::new();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((array, tile)) = self.tiles.get(at) else { return };
            // A piece that was begun is waited for, so both are there.
            let (Some(engine), Some(array)) = (self.engine.upgrade(), array.upgrade()) else { return };
            let kept = super::load::caught(|| Ok(engine.keep_tile(&array, *tile, &mut buffer)));
            let kept = kept.unwrap_or_else(|error| {
                let location = "the scratch store".to_owned();
                let error = StoreError::ReadBack { location, source: error.into() };
                Err(Error::WriteBack { tile: array.coord(*tile), error: Arc::new(error) })
            });
            drop((engine, array));
            let mut done = self.lock();
            match kept {
                Ok(kept) => done.kept[at] = Some(kept),
                Err(error) if done.failed.as_ref().is_none_or(|(first, _)| at < *first) => {
                    done.failed = Some((at, error));
                }
                Err(_) => {}
            }
            done.left -= 1;
            if done.left == 0 {
                self.all_done.notify_all();
            }
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
