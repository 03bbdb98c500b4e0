//! Owns the loading of a claim's tiles, in parallel, each straight into its staging memory: [`Engine::begin_load`] and [`Engine::end_load`].

use std::borrow::Cow;
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
use super::workers::Work;
use super::{ArrayShared, Engine, Outcome, Written};

/// What copying takes about as long as having another thread do it: tiles of sources that only copy are loaded by who asks for them up to here.
const ALONE_BYTES: u64 = 64 << 10;

/// A tile that was handed to the backend, or failed before.
type Sent<B> = Result<<B as Backend>::Ticket, Arc<SourceError>>;

/// The tiles of a claim on their way.
#[derive(Debug)]
pub(super) enum Load<B: Backend> {
    /// All of them were handed to the backend by who asked.
    Alone(Vec<Sent<B>>),
    /// Others are at work on them.
    Shared(Arc<Batch<B>>),
}

/// Tiles to load, and who is how far.
///
/// Workers that come late find nothing left to do, perhaps long after the request ended: the batch keeps neither the engine nor the array alive.
#[derive(Debug)]
pub(super) struct Batch<B: Backend> {
    engine: Weak<Engine<B>>,
    array: Weak<ArrayShared<B>>,
    tiles: Arc<[TileId]>,
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
    sent: Vec<Option<Sent<B>>>,
}

impl<B: Backend> Engine<B> {
    /// Tells the source what a claim is about to read, so that slow storage is at work while memory is mapped.
    pub(super) fn announce(array: &ArrayShared<B>, tiles: &[TileId]) {
        if tiles.len() > 1 {
            let mut from_source = Cow::Borrowed(tiles);
            if array.is_writable() {
                from_source.to_mut().retain(|&tile| array.kept(tile).is_none());
            }
            array.source.will_read(&array.layout, &from_source);
        }
    }

    /// Begins to have the tiles filled: those that are in memory already, or hold one value, are sent on their way here, workers take the others. [`Engine::end_load`] must follow.
    ///
    /// What is soon done is done here: waking others for it would take longer.
    pub(super) fn begin_load(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &Arc<[TileId]>,
        purpose: Purpose,
    ) -> Load<B> {
        let mut sent: Vec<Sent<B>> = Vec::with_capacity(tiles.len());
        if self.asynchronous && purpose != Purpose::Overwrite {
            // Copies go by themselves, so sending them costs less than waking somebody up for it, and calls of the driver from two threads get in each other's way.
            for &tile in tiles.iter() {
                let place = array.place(tile);
                let ready = || self.send_ready(array, tile, &place, purpose).transpose();
                let Some(ready) = caught(ready).transpose() else { break };
                sent.push(ready.map_err(Arc::new));
            }
            self.flush();
        }
        let begun = sent.len();
        let left = tiles.len() - begun;
        let only_copies = array.source.only_copies();
        if left <= 1 || only_copies && left as u64 * array.layout.tile_bytes() <= ALONE_BYTES {
            sent.extend(tiles[begun..].iter().map(|&tile| self.load_caught(array, tile, purpose)));
            if left > 0 {
                self.flush();
            }
            return Load::Alone(sent);
        }
        let sent = sent.into_iter().map(Some).chain(std::iter::repeat_with(|| None).take(left)).collect();
        let batch = Arc::new(Batch {
            engine: Arc::downgrade(self),
            array: Arc::downgrade(array),
            tiles: Arc::clone(tiles),
            purpose,
            next: AtomicUsize::new(begun),
            handed: AtomicUsize::new(begun),
            done: Mutex::new(Done { left, sent }),
            all_done: Condvar::new(),
        });
        self.workers.begin(&batch, left, only_copies);
        Load::Shared(batch)
    }

    /// Sends a tile that needs no preparing; `None` where it does.
    fn send_ready(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        place: &Place,
        purpose: Purpose,
    ) -> Option<Result<B::Ticket, SourceError>> {
        self.send_value(array, tile, place, purpose).or_else(|| self.send_prepared(array, tile, place))
    }

    /// Has the backend set a tile's memory that gets some only to be written and holds one value; `None` where it does not, or where its range is to be noted.
    fn send_value(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        place: &Place,
        purpose: Purpose,
    ) -> Option<Result<B::Ticket, SourceError>> {
        if purpose != Purpose::Write || array.planes.ranges().is_some() {
            return None;
        }
        let value = array.known_value(tile, place.region).transpose()?;
        Some(value.and_then(|value| {
            let value: &[u8] = bytemuck::cast_slice(&value);
            let voxel = &value[..array.planes.voxel_bytes()];
            self.backend.fill(&array.reservation, place.range.clone(), voxel).map_err(SourceError::Upload)
        }))
    }

    /// Sends a tile that is in memory already; `None` if it is not.
    fn send_prepared(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        place: &Place,
    ) -> Option<Result<B::Ticket, SourceError>> {
        if array.kept(tile).is_some() {
            return None;
        }
        match array.source.prepared(&array.layout, &array.planes, tile, place.region) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let sent = self.backend.submit_prepared(&array.reservation, place.range.clone(), bytes);
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
    pub(super) fn end_load(&self, array: &ArrayShared<B>, load: Load<B>) -> Vec<Outcome> {
        let lost = || SourceError::Panicked { message: "a loading thread ended early".into() };
        match load {
            Load::Alone(sent) => sent.into_iter().map(|sent| self.arrive(sent)).collect(),
            Load::Shared(batch) => {
                if let Some(first) = batch.begin() {
                    batch.tell(batch.load(self, array, first));
                }
                let sent = batch.join().into_iter();
                sent.map(|sent| self.arrive(sent.unwrap_or_else(|| Err(Arc::new(lost()))))).collect()
            }
        }
    }

    /// Waits until a tile's upload is done.
    fn arrive(&self, sent: Sent<B>) -> Outcome {
        self.backend.wait(sent?).map_err(|e| Arc::new(SourceError::Upload(e)))
    }

    fn load_caught(&self, array: &ArrayShared<B>, tile: TileId, purpose: Purpose) -> Sent<B> {
        caught(|| self.load_tile(array, tile, purpose)).map_err(Arc::new)
    }

    fn load_tile(
        &self,
        array: &ArrayShared<B>,
        tile: TileId,
        purpose: Purpose,
    ) -> Result<B::Ticket, SourceError> {
        let place = array.place(tile);
        if self.asynchronous
            && let Some(sent) = self.send_value(array, tile, &place, purpose)
        {
            return sent;
        }
        if purpose != Purpose::Overwrite
            && let Some(sent) = self.send_prepared(array, tile, &place)
        {
            return sent;
        }
        let Place { range, region } = place;
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

/// Where a tile lies in the reservation, and its part inside the array.
struct Place {
    range: Range<u64>,
    region: Region,
}

impl<B: Backend> ArrayShared<B> {
    fn place(&self, tile: TileId) -> Place {
        let start = self.layout.tile_offset_bytes(tile);
        let range = start..start + self.layout.tile_bytes();
        Place { range, region: self.layout.tile_region(self.coord(tile)) }
    }
}

impl<B: Backend> Batch<B> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Done<B>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a tile to load, if one is left. Whoever took one is waited for until it has told what became of it.
    fn begin(&self) -> Option<usize> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        (at < self.tiles.len()).then_some(at)
    }

    /// Loads a tile that was begun, and more until none is left.
    fn load(&self, engine: &Engine<B>, array: &ArrayShared<B>, first: usize) -> Vec<(usize, Sent<B>)> {
        let begun = std::iter::successors(Some(first), |_| self.begin());
        let sent: Vec<_> =
            begun.map(|at| (at, engine.load_caught(array, self.tiles[at], self.purpose))).collect();
        // Once a batch, by whoever is last: a call of the driver by every thread that finds nothing left would hold up all others, and the mapping of the next batch.
        if self.handed.fetch_add(sent.len(), Ordering::AcqRel) + sent.len() == self.tiles.len() {
            engine.flush();
        }
        sent
    }

    /// Tells what became of tiles.
    fn tell(&self, sent: Vec<(usize, Sent<B>)>) {
        let mut done = self.lock();
        done.left -= sent.len();
        for (at, sent) in sent {
            done.sent[at] = Some(sent);
        }
        if done.left == 0 {
            self.all_done.notify_all();
        }
    }

    /// Waits until all tiles are told of.
    fn join(&self) -> Vec<Option<Sent<B>>> {
        let mut done = self.lock();
        while done.left > 0 {
            done = self.all_done.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut done.sent)
    }
}

impl<B: Backend> Work for Batch<B> {
    fn work(&self) {
        let Some(first) = self.begin() else { return };
        // What was begun is waited for, so both are there.
        let (Some(engine), Some(array)) = (self.engine.upgrade(), self.array.upgrade()) else { return };
        let sent = self.load(&engine, &array, first);
        // Before anyone is told: whoever drops the array then gives its addresses back.
        drop((engine, array));
        self.tell(sent);
    }
}
