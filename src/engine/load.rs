//! Owns the loading of a claim's tiles, in parallel, each straight into its staging memory: [`Engine::begin_load`] and [`Engine::end_load`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use crate::backend::{Backend, Staging};
use crate::error::SourceError;
use crate::layout::TileId;

use super::waiting::while_loading;
use super::workers::{Shared, Workers};
use super::{ArrayShared, Engine, Outcome};

/// Tiles to load, and who is how far.
///
/// Workers that come late find nothing left to do, perhaps long after the request ended: the batch keeps neither the engine nor the array alive.
#[derive(Debug)]
pub(super) struct Batch<B: Backend> {
    engine: Weak<Engine<B>>,
    array: Weak<ArrayShared<B>>,
    tiles: Vec<TileId>,
    next: AtomicUsize,
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
            let regions: Vec<_> = tiles.iter().map(|&t| array.layout.tile_region(array.coord(t))).collect();
            array.source.will_read(&regions);
        }
    }

    /// Has workers begin to fill the tiles. [`Engine::end_load`] must follow.
    pub(super) fn begin_load(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
    ) -> Arc<Batch<B>> {
        let batch = Arc::new(Batch {
            engine: Arc::downgrade(self),
            array: Arc::downgrade(array),
            tiles: tiles.to_vec(),
            next: AtomicUsize::new(0),
            done: Mutex::new(Done { left: tiles.len(), results: tiles.iter().map(|_| None).collect() }),
            all_done: Condvar::new(),
        });
        self.workers.begin(&batch, tiles.len());
        batch
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

    fn load_tile(&self, array: &ArrayShared<B>, tile: TileId) -> Result<B::Ticket, SourceError> {
        let start = array.layout.tile_offset_bytes(tile);
        let range = start..start + array.layout.tile_bytes();
        let region = array.layout.tile_region(array.coord(tile));
        if let Some(bytes) = array.source.prepared(&array.layout, &array.planes, tile, region)? {
            return self
                .backend
                .submit_prepared(&array.reservation, range, bytes)
                .map_err(SourceError::Upload);
        }
        let mut staging = self.backend.stage(&array.reservation, range).map_err(SourceError::Upload)?;
        array.source.load(&array.layout, &array.planes, tile, region, staging.bytes_mut())?;
        self.backend.submit(&array.reservation, staging).map_err(SourceError::Upload)
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
            let load = AssertUnwindSafe(|| while_loading(|| engine.load_tile(&array, tile)));
            let result = catch_unwind(load).unwrap_or_else(|panic| {
                std::mem::forget(panic);
                Err(SourceError::Panicked { message: "while loading a tile".into() })
            });
            if self.next.load(Ordering::Relaxed) >= self.tiles.len()
                && let Err(error) = engine.backend.flush()
            {
                // The tickets concerned say so too.
                tracing::warn!(%error, "uploads could not be begun");
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
