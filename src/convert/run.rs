//! Owns [`Conversion`]: the main path from a source to a saved image. Knows nothing of how shards are written or levels ordered.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};

use super::Progress;
use super::block::{Block, Shown};
use super::blocks::Levels;
use super::options::ConvertOptions;
use super::order::{Leaf, groups};
use super::pending::Pending;
use super::plan::{self, Plan};
use super::tile::check_extent;
use crate::array::{Pins, SparseArray3D};
use crate::backend::HostBackend;
use crate::error::{BackendError, Error};
use crate::geometry::boxes::voxels;
use crate::geometry::{Coord, Extent, Region};
use crate::layout::TileCoord;
use crate::pool::{Pool, PoolConfig};
use crate::pyramid::Downsample;
use crate::source::{TileSource, index, with_buffer};
use crate::store::{LevelStore, PyramidDescription, PyramidWriter};
use crate::voxel::Scalar;

/// A volume that is about to become an OME-Zarr image.
#[derive(Debug)]
pub struct Conversion<T: Scalar> {
    array: SparseArray3D<T>,
    fill: T,
    levels: Levels,
    plan: Plan,
    options: ConvertOptions,
    threads: usize,
    progress: Arc<Progress>,
}

/// What a conversion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvertSummary {
    /// Voxels written to all levels.
    pub written_voxels: u64,
    /// Voxels of all levels that an interrupted conversion had written before.
    pub found_voxels: u64,
}

impl<T: Scalar> Conversion<T> {
    /// Plans the conversion of `source`. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`OverBudget`](crate::ResidencyError::OverBudget): the budget holds not even the least that is held at once. [`Error::Layout`]: an empty volume, or one beyond the address space.
    /// [`Error::Store`]: a chunk, a shard, a codec's level, a spacing or an origin that cannot be written.
    pub fn new(source: impl TileSource<T> + 'static, mut options: ConvertOptions) -> Result<Self, Error> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads.min(1024),
        };
        let extent = source.extent();
        check_extent(extent, size_of::<T>() as u64)?;
        let fill = source.fill_value();
        let alone = description(&options, vec![(extent, [1.0; 3])]);
        PyramidWriter::check(&alone, fill, &options.zarr)?;
        let levels = plan::levels(extent, &options);
        options.input_chunk = options.input_chunk.or(source.chunk());
        let plan = Plan::new(&levels, &options, source.kept_bytes(), size_of::<T>() as u64, threads as u64)?;
        source.keep_at_most(plan.input_kept_bytes);
        source.will_read_all();
        let config = PoolConfig { budget_bytes: plan.pool_bytes, threads, ..PoolConfig::default() };
        let pool = Pool::with_config(HostBackend::new(), config)?;
        let mut array = SparseArray3D::builder(&pool, source).tile(plan.tile);
        if let Some(tiles) = plan.page {
            array = array.page(tiles);
        }
        let array = array.build()?;
        let progress = Arc::new(Progress::new(plan.levels.len()));
        Ok(Self { array, fill, levels, plan, options, threads, progress })
    }

    /// What it is going to do.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How far it is: to be looked at while [`Conversion::run`] goes on in another thread.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Converts, and saves the image at `path`: it appears there when it is whole.
    ///
    /// After an error, or when the process is killed, what was written stays beside it, and [`ZarrOptions::resume`](crate::store::ZarrOptions::resume) goes on from there.
    ///
    /// **Cost**: reads every voxel of the source once (when it goes on, those that it needs), within the budget; where chunks have sides that no power of two from 16 on divides, some of them twice.
    ///
    /// # Errors
    /// [`Error::Tile`]: a tile of the source could not be read; [`Error::Store`]: the image could not be written, as
    /// [`PyramidWriter::create`], [`TileStore::write`](crate::store::TileStore::write) and [`PyramidWriter::save`].
    pub fn run(self, path: impl AsRef<Path>) -> Result<ConvertSummary, Error> {
        let image = PyramidWriter::create(path, &self.description(), self.fill, &self.options.zarr)?;
        image.write_past_cache(self.plan.past_cache_bytes);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        let pool = pool.map_err(|e| no_threads(std::io::Error::other(e)))?;
        let levels: Vec<_> = (0..image.levels()).map(|level| image.level(level)).collect::<Result<_, _>>()?;
        let run = Run { conversion: &self, levels, pending: Pending::new() };
        let found_voxels = run.found();
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(0);
            let reader = std::thread::Builder::new().name("vastgrid-convert".into());
            let reader = reader.spawn_scoped(scope, || run.read(sender));
            reader.map_err(no_threads)?;
            run.encode(receiver, &pool)
        })?;
        let all: u64 = self.plan.levels.iter().map(|level| voxels(level.extent)).sum();
        image.save()?;
        Ok(ConvertSummary { written_voxels: all - found_voxels, found_voxels })
    }

    fn description(&self) -> PyramidDescription {
        let levels = self.plan.levels.iter().map(|level| (level.extent, level.factor)).collect();
        description(&self.options, levels)
    }
}

fn description(options: &ConvertOptions, levels: Vec<(Extent, [f64; 3])>) -> PyramidDescription {
    let method = match options.method {
        Downsample::Mean => "mean",
        Downsample::Max => "max",
        Downsample::Mode => "mode",
    };
    PyramidDescription {
        name: options.name.clone(),
        spacing: options.spacing,
        origin: options.origin,
        units: options.units.clone(),
        method: Some(method.to_owned()),
        channel: options.channel.clone(),
        ranges: options.ranges,
        ..PyramidDescription::new(levels)
    }
}

fn no_threads(source: std::io::Error) -> BackendError {
    BackendError::System { call: "spawn threads", offset_bytes: 0, bytes: 0, source }
}

/// Groups that have memory at a time: one is encoded while the next is read.
const GROUPS_AT_ONCE: usize = 2;

/// Blocks to be encoded together, and what keeps their tiles in memory.
///
/// The order of its fields is that of their end.
struct Group {
    leaves: Vec<Leaf>,
    _pins: Option<Pins<HostBackend>>,
    _done: Done,
}

/// Tells when it is dropped.
struct Done(Sender<()>);

impl Drop for Done {
    fn drop(&mut self) {
        // Who waits for it may have given up.
        let _ = self.0.send(());
    }
}

/// A conversion under way.
struct Run<'a, T: Scalar> {
    conversion: &'a Conversion<T>,
    levels: Vec<&'a LevelStore<T>>,
    pending: Pending<T>,
}

impl<T: Scalar> Run<'_, T> {
    fn region(&self, level: usize, block: Coord) -> Region {
        self.conversion.levels.region(level, block)
    }

    /// Whether an interrupted conversion has written a block, and all else in the shards that it lies in. The same from beginning to end, whatever is written meanwhile.
    fn is_written(&self, level: usize, block: Coord) -> bool {
        self.conversion.options.zarr.resume && self.levels[level].was_found(self.region(level, block))
    }

    /// Voxels that are there already.
    fn found(&self) -> u64 {
        if !self.conversion.options.zarr.resume {
            return 0;
        }
        let mut found = 0;
        for level in 0..self.levels.len() {
            let grid = Region::whole(self.conversion.levels.grid(level));
            for block in crate::geometry::boxes::grid(grid, Extent::cube(1)) {
                if self.is_written(level, block.start) {
                    let there = voxels(self.region(level, block.start).extent);
                    self.conversion.progress.add(level, there);
                    found += there;
                }
            }
        }
        found
    }

    /// Has the tiles of one group after the other loaded, until nobody takes them any more.
    #[expect(clippy::needless_pass_by_value, reason = "the receiver ends when it is dropped")]
    fn read(&self, groups_read: SyncSender<Result<Group, Error>>) {
        let conversion = self.conversion;
        let written = |level: usize, block: Coord| self.is_written(level, block);
        let (sender, done) = channel();
        let mut free = GROUPS_AT_ONCE;
        let _: ControlFlow<()> = groups(&conversion.levels, conversion.plan.shape, &written, &mut |leaves| {
            match free.checked_sub(1) {
                Some(left) => free = left,
                // This thread has a sender of its own, so that it waits for as long as there is none: each group says once that it is done, whatever becomes of it.
                None => drop(done.recv()),
            }
            let group = self.pin(leaves, Done(sender.clone()));
            let failed = group.is_err();
            if groups_read.send(group).is_err() || failed {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    }

    fn pin(&self, leaves: Vec<Leaf>, done: Done) -> Result<Group, Error> {
        let array = &self.conversion.array;
        let read = leaves.iter().filter(|leaf| leaf.level == 0 && !self.is_written(0, leaf.block));
        let mut tiles: Vec<TileCoord> =
            read.flat_map(|leaf| array.layout().tiles_in(self.region(0, leaf.block))).collect();
        tiles.sort_unstable_by_key(|tile| (tile.z, tile.y, tile.x));
        tiles.dedup();
        let pins = if tiles.is_empty() { None } else { Some(array.pin(&tiles)?.complete()?) };
        Ok(Group { leaves, _pins: pins, _done: done })
    }

    /// Encodes blocks as their groups come, by all threads: who finds no more of one group goes on with the next.
    fn encode(
        &self,
        groups_read: Receiver<Result<Group, Error>>,
        pool: &rayon::ThreadPool,
    ) -> Result<(), Error> {
        let failed = OnceLock::new();
        pool.in_place_scope(|scope| {
            for group in groups_read {
                let group = match group {
                    Ok(group) => Arc::new(group),
                    Err(error) => return drop(failed.set(error)),
                };
                for at in 0..group.leaves.len() {
                    let (group, failed) = (group.clone(), &failed);
                    scope.spawn(move |_| {
                        if failed.get().is_none()
                            && let Err(error) = self.leaf(group.leaves[at])
                        {
                            // The first is the one that counts.
                            drop(failed.set(error));
                        }
                    });
                }
                if failed.get().is_some() {
                    return;
                }
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Takes a block's voxels from where they are, and goes on with what they complete.
    fn leaf(&self, Leaf { level, block }: Leaf) -> Result<(), Error> {
        let region = self.region(level, block);
        let mut next = with_buffer(index(voxels(region.extent)), |buffer: &mut [T]| {
            // Tiles of the input are for level 0 alone.
            if level > 0 || self.is_written(level, block) {
                buffer.fill(self.conversion.fill);
                self.levels[level].read_back(region, buffer)?;
                return Ok(self.up(level, block, Shown::Voxels(buffer)));
            }
            let found = Shown::gather(&self.conversion.array.frame(), region, buffer)?;
            self.write(level, block, found)
        })?;
        while let Some(Whole { level, block, voxels }) = next {
            next = self.write(level, block, voxels.shown())?;
        }
        Ok(())
    }

    /// Writes a block, but not into shards that an interrupted conversion has completed; then as [`Run::up`].
    fn write(&self, level: usize, block: Coord, found: Shown<'_, T>) -> Result<Option<Whole<T>>, Error> {
        let region = self.region(level, block);
        match found {
            Shown::Uniform(value) => self.levels[level].write_uniform_rest(region, value)?,
            Shown::Voxels(all) => self.levels[level].write_rest(region, all)?,
        }
        self.conversion.progress.add(level, voxels(region.extent));
        Ok(self.up(level, block, found))
    }

    /// Adds what a block becomes to the one that it is a part of; gives that one if it is whole.
    fn up(&self, level: usize, block: Coord, found: Shown<'_, T>) -> Option<Whole<T>> {
        let levels = &self.conversion.levels;
        let parent = levels.parent(level, block)?;
        if self.is_written(level + 1, parent) {
            return None;
        }
        let extent = self.region(level, block).extent;
        let reduced = found.reduced(extent, levels.steps[level], self.conversion.options.method);
        let parts = voxels(levels.children(level + 1, parent).extent);
        let part = levels.part_of_parent(level, block);
        let region = self.region(level + 1, parent);
        let whole = self.pending.add((level + 1, parent), parts, region, (part, reduced))?;
        Some(Whole { level: level + 1, block: parent, voxels: whole })
    }
}

/// A block of a coarser level that has all of its parts, and is to be written.
struct Whole<T> {
    level: usize,
    block: Coord,
    voxels: Block<T>,
}
