//! Owns replaying a trace: the same wants, picture by picture, on arrays of the model backend. No volume, no pictures, no threads, and next to no memory: tiles are as many as they were, but the
//! smallest takes a single byte, and the budget is smaller by as much.

use std::collections::{HashMap, HashSet};

use super::trace::{Trace, TraceFrame, TraceOutcome, TraceTile, TraceUse};
use crate::array::{Pins, SparseArray3D};
use crate::backend::{ModelBackend, ModelConfig};
use crate::error::{Error, SourceError};
use crate::geometry::{Extent, Region};
use crate::layout::TileCoord;
use crate::pool::{Pool, PoolConfig};
use crate::source::TileSource;
use crate::stream::{Change, Changes, Enrolled, StreamOptions, Streamer, Want};

/// The most memory that a replay takes.
const MOST_BYTES: u64 = 1 << 30;

/// How a trace is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayOptions {
    /// The budget in bytes. Default: as recorded, picture by picture.
    pub budget_bytes: Option<u64>,
    /// How much is loaded between pictures.
    pub steps: ReplaySteps,
}

/// How much is loaded between one picture and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplaySteps {
    /// As many tiles as when it was recorded: in whole requests, so perhaps some more.
    #[default]
    AsRecorded,
    /// So many requests.
    Requests(usize),
    /// All that the budget holds.
    All,
}

impl Trace {
    /// Wants the same tiles again, picture by picture, and says what becomes of them: the same each time. With the default options that is what was recorded, if the recording began before
    /// anything had been loaded, with a streamer without threads, nobody else used the pool, and its budget was changed right before pictures, if at all.
    ///
    /// **Cost**: a byte for each tile that is resident (more where levels have tiles of several sizes), at most 1 GiB; no source is read, no picture made.
    ///
    /// # Errors
    /// [`Error::Residency`]: the budget does not hold a page, or the coarsest level. [`Error::Backend`], [`Error::Layout`]: the levels cannot be had as they are described.
    pub fn replay(&self, options: &ReplayOptions) -> Result<Vec<TraceOutcome>, Error> {
        let stage = Stage::new(self, options)?;
        let mut outcomes = Vec::<TraceOutcome>::with_capacity(self.frames.len());
        let mut requests = self.requests();
        while let Some((frame, wanted)) = requests.next_frame() {
            if options.budget_bytes.is_none()
                && stage.pool.stats().budget_bytes != frame.budget_bytes / stage.unit
            {
                stage.pool.set_budget(frame.budget_bytes / stage.unit)?;
                // What went for it went before the picture.
                if let Some(before) = outcomes.last_mut() {
                    stage.note(before);
                }
            }
            let wants =
                wanted.iter().filter_map(|(&tile, &what_for)| stage.want(self, frame, tile, what_for));
            let wants: Vec<_> = wants.collect();
            outcomes.push(stage.picture(wants, frame, options.steps)?);
        }
        Ok(outcomes)
    }
}

/// The arrays of the levels, without anything in them.
struct Stage {
    // Declared, and so dropped, before the arrays that it loads.
    streamer: Streamer<ModelBackend>,
    /// Of the coarsest level.
    #[expect(dead_code, reason = "held")]
    pins: Option<Pins<ModelBackend>>,
    pool: Pool<ModelBackend>,
    arrays: Vec<Option<(SparseArray3D<u8, ModelBackend>, Enrolled)>>,
    levels: HashMap<Enrolled, usize>,
    changes: Changes<ModelBackend>,
    /// Bytes that one byte stands for.
    unit: u64,
}

impl Stage {
    fn new(trace: &Trace, options: &ReplayOptions) -> Result<Self, Error> {
        let available = || trace.levels.iter().filter(|level| level.is_available);
        let unit = available().map(|level| level.tile_bytes(trace.voxel_bytes)).min().unwrap_or(1).max(1);
        let page_bytes = available().map(|level| level.page_bytes(trace.voxel_bytes) / unit).min();
        let backend = ModelBackend::new(ModelConfig {
            granularity_bytes: page_bytes.unwrap_or(1).max(1),
            limit_bytes: MOST_BYTES,
            ..ModelConfig::default()
        });
        let recorded = trace.frames.first().map_or(u64::MAX, |frame| frame.budget_bytes);
        let budget_bytes = options.budget_bytes.unwrap_or(recorded) / unit;
        let config = PoolConfig { budget_bytes, threads: 1, ..PoolConfig::default() };
        let pool = Pool::with_config(backend, config)?;
        let (mut empty, mut broken) = (HashSet::new(), HashSet::new());
        for frame in &trace.frames {
            empty.extend(frame.outcome.uniform.iter().copied());
            broken.extend(frame.outcome.failed.iter().copied());
        }
        let usual = StreamOptions::default();
        let threadless = StreamOptions {
            threads: 0,
            batch_tiles: trace.batch_tiles,
            under_way_bytes: (usual.under_way_bytes / unit).max(1),
            ..usual
        };
        let streamer = Streamer::new(&pool, threadless)?;
        let (mut arrays, mut levels) = (Vec::new(), HashMap::new());
        for (number, level) in trace.levels.iter().enumerate() {
            if !level.is_available {
                arrays.push(None);
                continue;
            }
            let of_level = |tiles: &HashSet<TraceTile>| {
                tiles.iter().filter(|tile| tile.level == number).map(|tile| tile.tile).collect()
            };
            let tile = Extent::new(level.tile_bytes(trace.voxel_bytes) / unit, 1, 1);
            let tiles = level.tiles();
            let extent = Extent::new(tiles.x.saturating_mul(tile.x), tiles.y, tiles.z);
            let source = Hollow {
                extent,
                tile_voxels: tile.x.max(1),
                empty: of_level(&empty),
                broken: of_level(&broken),
            };
            let array = SparseArray3D::builder(&pool, source).tile(tile).page(level.page).build()?;
            let enrolled = streamer.enrol(&array)?;
            levels.insert(enrolled, number);
            arrays.push(Some((array, enrolled)));
        }
        // As a pyramid does.
        let coarsest = arrays.iter().flatten().next_back();
        let pins = coarsest.map(|(array, _)| array.pin_region(Region::whole(array.extent()))).transpose()?;
        let changes = streamer.changes();
        Ok(Self { streamer, pins, pool, arrays, levels, changes, unit })
    }

    fn want(&self, trace: &Trace, frame: &TraceFrame, tile: TraceTile, what_for: TraceUse) -> Option<Want> {
        let (_, array) = self.arrays.get(tile.level)?.as_ref()?;
        let priority = what_for.priority(tile.level, trace.distance(frame, tile), frame.near_first);
        Some(Want { array: *array, tile: tile.tile, priority })
    }

    fn picture(
        &self,
        wants: Vec<Want>,
        frame: &TraceFrame,
        steps: ReplaySteps,
    ) -> Result<TraceOutcome, Error> {
        let before = self.streamer.status();
        self.streamer.replace(wants)?;
        let hits = self.streamer.status().hits - before.hits;
        let mut outcome = TraceOutcome { hits, ..TraceOutcome::default() };
        let recorded = &frame.outcome;
        let loaded = recorded.loaded.len() + recorded.uniform.len() + recorded.failed.len();
        let mut requests = 0;
        loop {
            let enough = match steps {
                ReplaySteps::AsRecorded => {
                    outcome.loaded.len() + outcome.uniform.len() + outcome.failed.len() >= loaded
                }
                ReplaySteps::Requests(most) => requests >= most,
                ReplaySteps::All => false,
            };
            if enough || !self.streamer.step() {
                break;
            }
            requests += 1;
            self.note(&mut outcome);
        }
        self.note(&mut outcome);
        Ok(outcome)
    }

    fn note(&self, outcome: &mut TraceOutcome) {
        // Lost is only what a budget that shrinks takes of more than 65 536 tiles at once.
        let (changes, _) = self.changes.take();
        for Change { array, tile, became } in changes {
            let Some(&level) = self.levels.get(&array) else { continue };
            let known = self.arrays.get(level).and_then(Option::as_ref);
            if let Some(tile) = known.and_then(|(array, _)| array.layout().tile_coord(tile)) {
                outcome.note(TraceTile { level, tile }, became);
            }
        }
        for failure in self.streamer.failures().newest {
            if let Some(&level) = self.levels.get(&failure.array) {
                outcome.failed.push(TraceTile { level, tile: failure.tile });
            }
        }
    }
}

/// A volume that holds nothing, but says of the tiles that the recorded one said it of that they are uniform, or cannot be read.
struct Hollow {
    extent: Extent,
    /// Of a tile, all along x.
    tile_voxels: u64,
    empty: HashSet<TileCoord>,
    broken: HashSet<TileCoord>,
}

impl Hollow {
    fn tile_at(&self, region: Region) -> TileCoord {
        TileCoord::new(region.start.x / self.tile_voxels, region.start.y, region.start.z)
    }
}

impl TileSource<u8> for Hollow {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn uniform(&self, region: Region) -> Option<u8> {
        self.empty.contains(&self.tile_at(region)).then_some(0)
    }

    fn read(&self, region: Region, out: &mut [u8]) -> Result<(), SourceError> {
        if self.broken.contains(&self.tile_at(region)) {
            return Err(SourceError::Other("as when it was recorded".into()));
        }
        out.fill(0);
        Ok(())
    }
}
