//! Owns the loading of a claim's tiles, in parallel, each straight into its staging memory: [`Engine::begin_load`] and [`Engine::end_load`].

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use crate::backend::{Backend, Staging};
use crate::error::SourceError;
use crate::geometry::Region;
use crate::layout::TileId;

use super::request::Purpose;
use super::waiting::while_loading;
use super::workers::{Shared, Workers};
use super::{ArrayShared, Engine, Outcome, Written};

/// Tiles to load, and who is how far.
///
/// Workers that come late find nothing left to do, perhaps long after the request ended: the batch keeps neither the engine nor the array alive.
#[derive(Debug)]
pub(super) struct Batch<B: Backend> {
    engine: Weak<Engine<B>>,
    array: Weak<ArrayShared<B>>,
    tiles: Vec<TileId>,
    purpose: Purpose,
    next: AtomicUsize,
    /// How many of them have been handed to the backend, or failed.
    handed: AtomicUsize,
    done: Mutex<Done<B>>,
    all_done: Condvar,
}

#[derive(Debug)]
struct Done<B: Backend> {
    left: usize,
    results: Vec<Option<Result<B::Ticket, SourceError>>>,
}

impl<B: Backend> Engine<B> {
    /// Tells the source what a claim is about to read, so that slow storage is at work while memory is mapped.
    pub(super) fn announce(array: &ArrayShared<B>, tiles: &[TileId]) {
        if tiles.len() > 1 {
            let from_source = tiles.iter().filter(|&&tile| array.kept(tile).is_none());
            let regions: Vec<_> = from_source.map(|&t| array.layout.tile_region(array.coord(t))).collect();
            array.source.will_read(&regions);
        }
    }

    /// Begins to have the tiles filled: those that are in memory already, or hold one value, are sent on their way here, workers take the others. [`Engine::end_load`] must follow.
    pub(super) fn begin_load(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
        purpose: Purpose,
    ) -> Arc<Batch<B>> {
        let mut results = Vec::with_capacity(tiles.len());
        if self.backend.caps().asynchronous && purpose != Purpose::Overwrite {
            // Copies go by themselves, so sending them costs less than waking somebody up for it, and calls of the driver from two threads get in each other's way.
            for &tile in tiles {
                let Some(sent) = caught(|| self.send_ready(array, tile, purpose).transpose()).transpose()
                else {
                    break;
                };
                results.push(Some(sent));
            }
            self.flush();
        }
        let begun = results.len();
        results.resize_with(tiles.len(), || None);
        let batch = Arc::new(Batch {
            engine: Arc::downgrade(self),
            array: Arc::downgrade(array),
            tiles: tiles.to_vec(),
            purpose,
            next: AtomicUsize::new(begun),
            handed: AtomicUsize::new(begun),
            done: Mutex::new(Done { left: tiles.len() - begun, results }),
            all_done: Condvar::new(),
        });
        self.workers.begin(&batch, tiles.len() - begun, array.source.only_copies());
        batch
    }

    /// Sends a tile that needs no preparing; `None` where it does.
    fn send_ready(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        purpose: Purpose,
    ) -> Option<Result<B::Ticket, SourceError>> {
        self.send_value(array, tile, purpose).or_else(|| self.send_prepared(array, tile))
    }

    /// Has the backend set a tile's memory that gets some only to be written and holds one value; `None` where it does not, or where its range is to be noted.
    fn send_value(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        purpose: Purpose,
    ) -> Option<Result<B::Ticket, SourceError>> {
        if purpose != Purpose::Write || array.planes.ranges().is_some() {
            return None;
        }
        let (range, region) = array.place(tile);
        let value = array.known_value(tile, region).transpose()?;
        Some(value.and_then(|value| {
            let value: &[u8] = bytemuck::cast_slice(&value);
            let voxel = &value[..array.planes.voxel_bytes()];
            self.backend.fill(&array.reservation, range, voxel).map_err(SourceError::Upload)
        }))
    }

    /// Sends a tile that is in memory already; `None` if it is not.
    fn send_prepared(&self, array: &ArrayShared<B>, tile: TileId) -> Option<Result<B::Ticket, SourceError>> {
        if array.kept(tile).is_some() {
            return None;
        }
        let (range, region) = array.place(tile);
        match array.source.prepared(&array.layout, &array.planes, tile, region) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let sent = self.backend.submit_prepared(&array.reservation, range, bytes);
                Some(sent.map_err(SourceError::Upload))
            }
            Err(error) => Some(Err(error)),
        }
    }

    fn flush(&self) {
        if let Err(error) = self.backend.flush() {
            // The tickets concerned say so too.
            tracing::warn!(%error, "uploads could not be begun");
        }
    }

    /// Helps with what is left of the loads, and returns how each tile ended once its data is in place. Tiles do not depend on each other.
    pub(super) fn end_load(&self, batch: &Batch<B>) -> Vec<Outcome> {
        Workers::finish(batch);
        let results = std::mem::take(&mut batch.lock().results);
        results.into_iter().map(|result| self.finish(result)).collect()
    }

    /// Waits until a tile's upload is done.
    fn finish(&self, result: Option<Result<B::Ticket, SourceError>>) -> Outcome {
        let lost = || SourceError::Panicked { message: "a loading thread ended early".into() };
        let ticket = result.unwrap_or_else(|| Err(lost())).map_err(Arc::new)?;
        self.backend.wait(ticket).map_err(|e| Arc::new(SourceError::Upload(e)))
    }

    fn load_tile(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        purpose: Purpose,
    ) -> Result<B::Ticket, SourceError> {
        if self.backend.caps().asynchronous
            && let Some(sent) = self.send_value(array, tile, purpose)
        {
            return sent;
        }
        if purpose != Purpose::Overwrite
            && let Some(sent) = self.send_prepared(array, tile)
        {
            return sent;
        }
        let (range, region) = array.place(tile);
        let mut staging = self.backend.stage(&array.reservation, range).map_err(SourceError::Upload)?;
        match array.kept(tile) {
            _ if purpose == Purpose::Overwrite => {}
            Some(kept) => {
                let out = staging.bytes_mut();
                Written::read(&kept, array.planes.voxel_bytes(), out)?;
                array.source.note_ranges(&array.layout, &array.planes, tile, region, out);
            }
            None => array.source.load(&array.layout, &array.planes, tile, region, staging.bytes_mut())?,
        }
        self.backend.submit(&array.reservation, staging).map_err(SourceError::Upload)
    }
}

/// Runs a load, in which this thread is known to be loading; a panic is the tile's error.
pub(super) fn caught<R>(load: impl FnOnce() -> Result<R, SourceError>) -> Result<R, SourceError> {
    catch_unwind(AssertUnwindSafe(|| while_loading(load))).unwrap_or_else(|panic| {
        // What was thrown may panic again when it is dropped.
        std::mem::forget(panic);
        Err(SourceError::Panicked { message: "while loading a tile".into() })
    })
}

impl<B: Backend> ArrayShared<B> {
    /// Where a tile lies in the reservation, and its part inside the array.
    fn place(&self, tile: TileId) -> (Range<u64>, Region) {
        let start = self.layout.tile_offset_bytes(tile);
        (start..start + self.layout.tile_bytes(), self.layout.tile_region(self.coord(tile)))
    }
}

impl<B: Backend> Batch<B> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Done<B>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Shared for Batch<B> {
    fn work(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&tile) = self.tiles.get(at) else { return };
            // A piece that was begun is waited for, so the engine is there.
            let (Some(engine), Some(array)) = (self.engine.upgrade(), self.array.upgrade()) else { return };
            let result = caught(|| engine.load_tile(&array, tile, self.purpose));
            // Once a batch, by whoever is last: a call of the driver by every thread that finds nothing left would hold up all others, and the mapping of the next batch.
            if self.handed.fetch_add(1, Ordering::AcqRel) + 1 == self.tiles.len() {
                engine.flush();
            }
            // Before anyone is told: whoever drops the array then gives its addresses back.
            drop((engine, array));
            let mut done = self.lock();
            done.results[at] = Some(result);
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
