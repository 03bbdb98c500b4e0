//! Owns [`LevelStore`]: the chunks of one array, encoded where they are written and gathered into shards. Knows nothing of other levels, nor of how a save is published.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::array::ArrayForm;
use super::finisher::{Finisher, Job};
use super::objects::Objects;
use super::options::ZarrOptions;
use super::ranges::Ranges;
use super::shard::Shard;
use super::target::Done;
use crate::error::StoreError;
use crate::geometry::boxes::{copy_shared, pieces, voxels};
use crate::geometry::{Coord, Extent, Region};
use crate::source::{index, with_buffer};
use crate::store::{TileStore, check_write};
use crate::voxel::Scalar;

/// An array of a save in the making: what is written to it is encoded by the thread that writes, and added to its shard.
///
/// A shard is a file without a name until all of its chunks were written, or until [`TileStore::flush`]; then it gets its index, is made durable by threads of the save's own, and gets its name. It is never changed after that: a chunk
/// that is written again has the shard copied. Chunks that hold the fill value take no space, and shards of nothing else are no files.
///
/// **Cost**: a chunk's encoding, and a positioned write; memory for the chunk as it is encoded, 16 bytes for each chunk of the shards that are open (begun, and neither complete nor flushed since), a few bits for each shard that
/// there is, and two voxels for each cell whose range is kept.
pub struct LevelStore<T> {
    name: String,
    pub(super) extent: Extent,
    pub(super) fill: T,
    pub(super) chunk: Extent,
    pub(super) object: Extent,
    pub(super) sharded: bool,
    pub(super) form: ArrayForm,
    pub(super) finisher: Arc<Finisher>,
    state: Mutex<State>,
    /// What the interrupted save had completed; never changed, whatever becomes of it.
    pub(super) found: Objects,
    /// Whether objects may be there that nobody knows to be complete.
    resumed: bool,
    ranges: Option<Ranges<T>>,
}

/// What has become of objects. Locked for moments only: by whoever has a slot, never the other way round.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Those that are being put together.
    pub(super) open: HashMap<Coord, Arc<Mutex<Slot>>>,
    /// Those that were closed, and so are there or about to be.
    closed: Objects,
    /// Those of them that have all of their chunks.
    pub(super) complete: Objects,
}

/// An object that is being put together.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None` until something is put where the object may be there already.
    shard: Option<Shard>,
    /// Whether it was closed while somebody waited for it: then it is not the object's slot any more.
    closed: bool,
}

impl<T: Scalar> LevelStore<T> {
    /// The array called `name` (empty: the save has no other), of which `done` is complete already.
    pub(super) fn new(
        name: String,
        (extent, fill): (Extent, T),
        options: &ZarrOptions,
        form: ArrayForm,
        finisher: Arc<Finisher>,
        ranges: Option<Ranges<T>>,
        done: &[Done],
    ) -> Self {
        let mut level = Self {
            name,
            extent,
            fill,
            chunk: options.chunk,
            object: options.object(),
            sharded: options.shard.is_some(),
            form,
            finisher,
            state: Mutex::default(),
            found: Objects::default(),
            resumed: options.resume,
            ranges,
        };
        for Done { key, note } in done {
            if let Some(object) = level.object_of(key) {
                level.found.insert(object);
                let mut state = level.state();
                state.closed.insert(object);
                state.complete.insert(object);
                drop(state);
                if let Some(ranges) = &level.ranges {
                    ranges.restore(object, note);
                }
            }
        }
        level
    }

    /// As [`TileStore::write`], but leaves alone what the interrupted save had completed, of which these are the same voxels: a region may touch objects that are complete and others that are not.
    pub(crate) fn write_rest(&self, region: Region, voxels_of_region: &[T]) -> Result<(), StoreError> {
        self.write_due(region, voxels_of_region, |object| !self.found.contains(object))
    }

    /// As [`LevelStore::write_rest`], of one value.
    pub(crate) fn write_uniform_rest(&self, region: Region, value: T) -> Result<(), StoreError> {
        self.write_uniform_due(region, value, |object| !self.found.contains(object))
    }

    fn write_due(
        &self,
        region: Region,
        voxels_of_region: &[T],
        due: impl Fn(Coord) -> bool,
    ) -> Result<(), StoreError> {
        check_write(self.extent, self.chunk, region, Some(voxels_of_region.len()))?;
        for part in pieces(region, self.chunk).filter(|part| due(self.place_of(part.start).0)) {
            let needed = if part == region && part.extent == self.chunk { 0 } else { voxels(self.chunk) };
            with_buffer(index(needed), |whole: &mut [T]| {
                let chunk = self.chunk(part, region, voxels_of_region, whole);
                self.encode(part.start, chunk, |encoded| {
                    self.put(part.start, encoded, |ranges, object| {
                        ranges.note(object, part, region, voxels_of_region);
                    })
                })
            })?;
        }
        Ok(())
    }

    fn write_uniform_due(
        &self,
        region: Region,
        value: T,
        due: impl Fn(Coord) -> bool,
    ) -> Result<(), StoreError> {
        check_write(self.extent, self.chunk, region, None)?;
        if region.is_empty() {
            return Ok(());
        }
        let whole = vec![value; index(voxels(self.chunk))];
        self.encode(region.start, &whole, |encoded| {
            let due = |part: &Region| due(self.place_of(part.start).0);
            pieces(region, self.chunk).filter(due).try_for_each(|part| {
                self.put(part.start, encoded, |ranges, object| {
                    ranges.note_uniform(object, part, value);
                })
            })
        })
    }

    pub(super) fn metadata(&self) -> (String, Vec<u8>) {
        let prefix = if self.name.is_empty() { String::new() } else { format!("{}/", self.name) };
        (format!("{prefix}zarr.json"), self.form.metadata())
    }

    pub(super) fn ranges(&self) -> Option<&Ranges<T>> {
        self.ranges.as_ref()
    }

    /// The voxels of a whole chunk, in `whole` where the region does not have just them. `part` is what of it lies inside the volume.
    fn chunk<'a>(
        &self,
        part: Region,
        region: Region,
        voxels_of_region: &'a [T],
        whole: &'a mut [T],
    ) -> &'a [T] {
        if part == region && part.extent == self.chunk {
            return voxels_of_region;
        }
        if part.extent != self.chunk {
            whole.fill(self.fill);
        }
        copy_shared(region, voxels_of_region, Region::new(part.start, self.chunk), whole);
        whole
    }

    /// Has `then` use what a chunk is encoded to; `None` where it holds the fill value.
    fn encode<R>(
        &self,
        start: Coord,
        chunk: &[T],
        then: impl FnOnce(Option<&[u8]>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let bytes: &[u8] = bytemuck::cast_slice(chunk);
        let fill = bytemuck::bytes_of(&self.fill);
        if bytes.starts_with(fill) && bytes[fill.len()..] == bytes[..bytes.len() - fill.len()] {
            return then(None);
        }
        let done = self.form.encode(bytes, |encoded| then(Some(encoded)));
        done.map_err(|source| StoreError::Chunk {
            location: self.finisher.target().location(&self.name),
            chunk: [start.z / self.chunk.z, start.y / self.chunk.y, start.x / self.chunk.x].to_vec(),
            source: source.into(),
        })?
    }

    /// Adds a chunk to its shard, and hands the shard over if that was the last one.
    fn put(
        &self,
        start: Coord,
        encoded: Option<&[u8]>,
        note: impl Fn(&Ranges<T>, Coord),
    ) -> Result<(), StoreError> {
        let (object, place) = self.place_of(start);
        loop {
            let slot = self.slot(object);
            let mut slot = locked(&slot);
            if slot.closed {
                continue;
            }
            let shard = self.open(object, &mut slot)?;
            shard.put(place, encoded, &**self.finisher.target())?;
            if let Some(ranges) = &self.ranges {
                note(ranges, object);
            }
            return if shard.is_complete() { self.close(object, &mut slot) } else { Ok(()) };
        }
    }

    fn slot(&self, object: Coord) -> Arc<Mutex<Slot>> {
        let mut state = self.state();
        // Where a save goes on, there may be an object that is not complete.
        let may_be_there = self.resumed || state.closed.contains(object);
        let new = || Slot { shard: (!may_be_there).then(|| self.new_shard(object)), closed: false };
        state.open.entry(object).or_insert_with(|| Arc::new(Mutex::new(new()))).clone()
    }

    fn new_shard(&self, object: Coord) -> Shard {
        let (side, chunk) = (self.object, self.chunk);
        let start = Coord::new(object.x * side.x, object.y * side.y, object.z * side.z);
        let inside = Region::new(start, side).clipped_to(self.extent).extent;
        let chunks = inside.x.div_ceil(chunk.x) * inside.y.div_ceil(chunk.y) * inside.z.div_ceil(chunk.z);
        Shard::new(self.key(object), self.form.chunks_per_shard(), index(chunks))
    }

    /// The shard, so that chunks can be put.
    fn open<'a>(&self, object: Coord, slot: &'a mut Slot) -> Result<&'a mut Shard, StoreError> {
        let shard = if let Some(shard) = slot.shard.take() {
            shard
        } else {
            let mut shard = self.new_shard(object);
            self.finisher.wait_for(&shard.key)?;
            let complete = self.state().complete.contains(object);
            shard.go_on(&self.form, &**self.finisher.target(), self.sharded, complete)?;
            shard
        };
        Ok(slot.shard.insert(shard))
    }

    /// Hands a shard over, if one is open.
    fn close(&self, object: Coord, slot: &mut Slot) -> Result<(), StoreError> {
        let Some(shard) = &mut slot.shard else { return Ok(()) };
        let closed = shard.close(&self.form, self.sharded, &**self.finisher.target())?;
        let key = std::mem::take(&mut shard.key);
        let complete = shard.has_all();
        slot.shard = None;
        slot.closed = true;
        let done = complete.then(|| {
            let note = self.ranges.as_ref().map_or(Vec::new(), |ranges| ranges.remember(object));
            Done { key: key.clone(), note }
        });
        let taken = self.finisher.take(Job { key, object: closed, done });
        // Not before: whoever opens the object again waits for one that is under way.
        let mut state = self.state();
        state.open.remove(&object);
        state.closed.insert(object);
        if complete && taken.is_ok() {
            state.complete.insert(object);
        }
        taken
    }

    /// The object that has a chunk, and the chunk's place in it. Axes of the format are slowest first, so x is the fastest here, too.
    pub(super) fn place_of(&self, start: Coord) -> (Coord, usize) {
        let (side, chunk) = (self.object, self.chunk);
        let object = Coord::new(start.x / side.x, start.y / side.y, start.z / side.z);
        let at = |start: u64, side: u64, chunk: u64| start % side / chunk;
        let (x, y) = (at(start.x, side.x, chunk.x), at(start.y, side.y, chunk.y));
        let z = at(start.z, side.z, chunk.z);
        (object, index(x + side.x / chunk.x * (y + side.y / chunk.y * z)))
    }

    pub(super) fn key(&self, object: Coord) -> String {
        let prefix = if self.name.is_empty() { String::new() } else { format!("{}/", self.name) };
        format!("{prefix}c/{}/{}/{}", object.z, object.y, object.x)
    }

    /// Undoes [`LevelStore::key`].
    fn object_of(&self, key: &str) -> Option<Coord> {
        let rest =
            if self.name.is_empty() { key } else { key.strip_prefix(&self.name)?.strip_prefix('/')? };
        let mut numbers = rest.strip_prefix("c/")?.split('/').map(|number| number.parse::<u64>().ok());
        let [z, y, x] = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(Coord { x, y, z })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl<T: Scalar> TileStore<T> for LevelStore<T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn fill_value(&self) -> T {
        self.fill
    }

    fn piece(&self) -> Extent {
        self.chunk
    }

    fn write(&self, region: Region, voxels_of_region: &[T]) -> Result<(), StoreError> {
        self.write_due(region, voxels_of_region, |_| true)
    }

    fn write_uniform(&self, region: Region, value: T) -> Result<(), StoreError> {
        self.write_uniform_due(region, value, |_| true)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let slots: Vec<_> = self.state().open.iter().map(|(&object, slot)| (object, slot.clone())).collect();
        for (object, slot) in slots {
            let mut slot = locked(&slot);
            if slot.shard.as_ref().is_some_and(Shard::is_touched) {
                self.close(object, &mut slot)?;
            }
        }
        self.finisher.settle()
    }
}

impl<T> fmt::Debug for LevelStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelStore")
            .field("name", &self.name)
            .field("extent", &self.extent)
            .field("chunk", &self.chunk)
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
