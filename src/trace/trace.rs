//! Owns [`Trace`] and what it is made of: plain values. Knows nothing of files, arrays or pictures.

use std::collections::BTreeMap;

use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::render::Camera;
use crate::stream::Priority;

/// What was looked at, which tiles were wanted, and what became of them. See [the module](super) for the file, and for how to record and replay one.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Bytes of a voxel.
    pub voxel_bytes: u64,
    /// The most tiles of one request.
    pub batch_tiles: usize,
    /// Finest first.
    pub levels: Vec<TraceLevel>,
    /// One for each picture.
    pub frames: Vec<TraceFrame>,
}

/// How a level lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceLevel {
    /// Its size in voxels.
    pub extent: Extent,
    /// Level-0 voxels per voxel of it.
    pub factor: [f64; 3],
    /// Shape of a tile in voxels.
    pub tile: Extent,
    /// Shape of a page in tiles.
    pub page: Extent,
    /// Whether it could be read at all.
    pub is_available: bool,
}

impl TraceLevel {
    /// Its size in tiles.
    pub(super) fn tiles(&self) -> Extent {
        let [x, y, z] = [0, 1, 2].map(|a| self.extent.to_array()[a].div_ceil(self.tile.to_array()[a].max(1)));
        Extent::new(x, y, z)
    }

    /// Bytes of a tile, for voxels of so many.
    pub(super) fn tile_bytes(&self, voxel_bytes: u64) -> u64 {
        volume(self.tile).saturating_mul(voxel_bytes)
    }

    /// Bytes of a page, for voxels of so many.
    #[must_use]
    pub fn page_bytes(&self, voxel_bytes: u64) -> u64 {
        volume(self.page).saturating_mul(self.tile_bytes(voxel_bytes))
    }
}

fn volume(shape: Extent) -> u64 {
    shape.to_array().into_iter().fold(1, u64::saturating_mul)
}

/// A tile of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceTile {
    /// Which level, 0 = finest.
    pub level: usize,
    /// Which of its tiles.
    pub tile: TileCoord,
}

/// What a tile is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TraceUse {
    /// The picture shows or lacks it, at the level that it wants.
    Want,
    /// It stands in for finer ones.
    StandIn,
    /// Some picture to come may lack it.
    Ahead,
}

impl TraceUse {
    /// How urgent that makes a tile. `near_first`: what is wanted may be more than the budget holds. Then what is nearest comes first, whatever its level, for in front of the nearest tile that is
    /// missing pictures are as they will be; and what only stands in comes after all that it stands in for.
    pub(crate) fn priority(self, level: usize, distance: f64, near_first: bool) -> Priority {
        let rank = u8::try_from(level).unwrap_or(u8::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "an order")]
        let distance = distance as f32;
        match self {
            Self::Want if near_first => Priority::visible(0, distance),
            Self::StandIn if near_first => Priority::prefetch(rank, distance),
            Self::Want | Self::StandIn => Priority::visible(rank, distance),
            // Level 0 stands in for nothing: this comes after all else.
            Self::Ahead => Priority::prefetch(0, distance),
        }
    }
}

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceFrame {
    /// From where.
    pub camera: Camera,
    /// Distance of level-0 voxels along x, y and z.
    pub spacing: [f64; 3],
    /// The pool's budget.
    pub budget_bytes: u64,
    /// How much coarser than its pixels the picture was, in levels.
    pub bias: f64,
    /// Whether near tiles were loaded before far ones whatever their level, or coarse ones before fine ones.
    pub near_first: bool,
    /// Tiles that it lacked.
    pub missing_tiles: u64,
    /// What is wanted from now on, and for what; `None`: wanted no more. [`Trace::requests`] has all that is wanted for each picture.
    pub changes: Vec<(TraceTile, Option<TraceUse>)>,
    /// What became of it.
    pub outcome: TraceOutcome,
}

/// What became of wanted tiles between one picture and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceOutcome {
    /// Wanted tiles that were resident when the picture had been made.
    pub hits: u64,
    /// Tiles that were loaded, in that order.
    pub loaded: Vec<TraceTile>,
    /// Tiles that were found to hold one value, and take no memory.
    pub uniform: Vec<TraceTile>,
    /// Tiles that failed to load.
    pub failed: Vec<TraceTile>,
    /// Tiles whose memory was taken, in that order.
    pub evicted: Vec<TraceTile>,
}

/// All that is wanted, picture by picture.
#[derive(Clone, Debug)]
pub struct TraceRequests<'t> {
    frames: std::slice::Iter<'t, TraceFrame>,
    wanted: BTreeMap<TraceTile, TraceUse>,
}

impl<'t> TraceRequests<'t> {
    /// The next picture, and what is wanted for it. Not an iterator: what is wanted is lent.
    pub fn next_frame(&mut self) -> Option<(&'t TraceFrame, &BTreeMap<TraceTile, TraceUse>)> {
        let frame = self.frames.next()?;
        for &(tile, what_for) in &frame.changes {
            match what_for {
                Some(what_for) => self.wanted.insert(tile, what_for),
                None => self.wanted.remove(&tile),
            };
        }
        Some((frame, &self.wanted))
    }
}

impl Trace {
    /// What is wanted for each picture, from the first on.
    #[must_use]
    pub fn requests(&self) -> TraceRequests<'_> {
        TraceRequests { frames: self.frames.iter(), wanted: BTreeMap::new() }
    }

    /// How far the middle of a tile is from the eye of a picture, in the world.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a distance need not be exact")]
    pub fn distance(&self, frame: &TraceFrame, tile: TraceTile) -> f64 {
        let Some(level) = self.levels.get(tile.level) else { return f64::INFINITY };
        let (at, shape) = ([tile.tile.x, tile.tile.y, tile.tile.z], level.tile.to_array());
        let apart = |a: usize| {
            let middle = (at[a] as f64 + 0.5) * shape[a] as f64 * (frame.spacing[a] * level.factor[a]);
            frame.camera.eye[a] - middle
        };
        let [x, y, z] = [apart(0), apart(1), apart(2)];
        (x * x + y * y + z * z).sqrt()
    }
}
