//! Owns the software page table on a device: a word for each tile over a pool of blocks in one allocation.
//!
//! Made good: a ray looks its tile up once for all samples that it has there, by the read-only path, and keeps the block's address and the tile's first voxel in registers; how many samples those are is
//! computed beforehand, so that the inner loop tests nothing; offsets in a block are constants. A sample between tiles has its look-ups under way all at once. Tiles are copied from page-locked memory
//! straight into the blocks of those that go, by two streams, and what changed of the table goes in one copy; the host waits for nothing but the sums.

use super::super::lru::{Load, Lru, NONE};
use super::super::volume::Shape;
use super::scheme::{Kernels, Parameters, Scheme, Setting, Task};
use super::uploads::{Table, Uploads};
use crate::suite::Failure;
use vastgrid::cuda::DeviceBuffer;

pub(crate) struct PageTable<'v> {
    setting: &'v Setting,
    kernels: Kernels,
    uploads: Uploads,
    lru: Lru,
    loads: Vec<Load>,
    table: Table,
    pool: DeviceBuffer,
}

/// What loads change in a table of words by tile, the one of the tile that comes last: in the order of loads a tile that goes comes before the one that gets its place.
pub(crate) fn changes(loads: &[Load], word: impl Fn(u32) -> u32) -> impl Iterator<Item = (u32, u32)> {
    loads.iter().flat_map(move |load| {
        load.evicted.map(|tile| (tile, NONE)).into_iter().chain([(load.tile, word(load.slot))])
    })
}

impl<'v> PageTable<'v> {
    pub(crate) fn new(setting: &'v Setting, budget_bytes: u64) -> Result<Self, Failure> {
        let (shape, stream) = (setting.shape, &setting.bench.stream);
        let slots = slots(shape, budget_bytes)?;
        Ok(Self {
            setting,
            kernels: setting.bench.kernels("table")?,
            uploads: Uploads::new(stream)?,
            lru: Lru::new(shape.tile_count(), slots),
            loads: Vec::new(),
            table: Table::new(stream, shape.tile_count())?,
            pool: DeviceBuffer::new(stream.device(), u64::from(slots) * shape.tile_bytes())?,
        })
    }
}

/// How many tiles a budget holds.
pub(crate) fn slots(shape: Shape, budget_bytes: u64) -> Result<u32, Failure> {
    Ok(u32::try_from(budget_bytes / shape.tile_bytes())?.min(shape.tile_count()))
}

impl Scheme for PageTable<'_> {
    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.lru.want(tiles, &mut self.loads)?;
        if self.loads.is_empty() {
            return Ok(0);
        }
        let (stream, source) = (&self.setting.bench.stream, &self.setting.source);
        self.uploads.begin(stream)?;
        for load in &self.loads {
            let offset_bytes = u64::from(load.slot) * self.setting.shape.tile_bytes();
            self.uploads.put_in_buffer(&self.pool, offset_bytes, &source.tiles, load.tile)?;
        }
        self.uploads.end(stream)?;
        self.table.change(stream, changes(&self.loads, |slot| slot))?;
        Ok(self.loads.len() as u64)
    }

    fn launch(&self, tasks: &[Task]) -> Result<(), Failure> {
        let parameters = Parameters::of_memory(self.pool.address(), self.table.address(), self.setting.shape);
        self.setting.bench.launch(&self.kernels, &parameters, tasks)
    }

    fn bytes(&self, tiles: u64) -> u64 {
        tiles * self.setting.shape.tile_bytes() + self.table.bytes()
    }
}
