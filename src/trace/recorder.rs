//! Owns how a trace comes about, picture by picture: [`Recorder`]. Knows nothing of how pictures are made.

use std::collections::BTreeMap;

use super::read::{MOST_FRAMES, MOST_TILES};
use super::trace::{Trace, TraceFrame, TraceLevel, TraceOutcome, TraceTile, TraceUse};
use crate::backend::Backend;
use crate::geometry::Extent;
use crate::pyramid::{LevelGeometry, Pyramid3D};
use crate::render::Camera;
use crate::stream::Became;
use crate::voxel::Voxel;

/// A trace in the making. Grows with every picture, by what changed since the one before.
#[derive(Debug)]
pub(crate) struct Recorder {
    trace: Trace,
    wanted: BTreeMap<TraceTile, TraceUse>,
    /// How many tiles it names.
    named: u64,
    /// It has ended: a file holds no more, or something was missed.
    has_ended: bool,
}

/// What a picture was, and what it wanted.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) camera: Camera,
    pub(crate) spacing: [f64; 3],
    pub(crate) budget_bytes: u64,
    pub(crate) bias: f64,
    pub(crate) near_first: bool,
    pub(crate) missing_tiles: u64,
    pub(crate) requests: &'a [(TraceTile, TraceUse, f64)],
    pub(crate) hits: u64,
}

impl Recorder {
    pub(crate) fn new<T: Voxel, B: Backend>(pyramid: &Pyramid3D<T, B>, batch_tiles: usize) -> Self {
        let level = |level: usize| {
            let array = pyramid.level(level);
            // One that cannot be read has a place in the list all the same.
            let layout = array.as_ref().map_or_else(|_| pyramid.coarsest().layout(), |array| array.layout());
            TraceLevel {
                extent: pyramid.geometry(level).map_or(Extent::default(), LevelGeometry::extent),
                factor: pyramid.factor(level).unwrap_or([1.0; 3]),
                tile: layout.tile_shape(),
                page: layout.page_shape(),
                is_available: array.is_ok(),
            }
        };
        let levels = (0..pyramid.levels()).map(level).collect();
        let voxel_bytes = size_of::<T>() as u64;
        let trace = Trace { voxel_bytes, batch_tiles: batch_tiles.max(1), levels, frames: Vec::new() };
        Self { trace, wanted: BTreeMap::new(), named: 0, has_ended: false }
    }

    /// Begins a picture.
    pub(crate) fn begin(&mut self, asked: &Asked<'_>) {
        let now: BTreeMap<_, _> =
            asked.requests.iter().map(|&(tile, what_for, _)| (tile, what_for)).collect();
        let gone = self.wanted.keys().filter(|tile| !now.contains_key(tile)).map(|&tile| (tile, None));
        let new = now.iter().filter(|(tile, what_for)| self.wanted.get(tile) != Some(what_for));
        let mut changes: Vec<_> = gone.chain(new.map(|(&tile, &what_for)| (tile, Some(what_for)))).collect();
        // As a file has them.
        changes.sort_unstable_by_key(|&(tile, to)| (to, tile.level, (tile.tile.z, tile.tile.y, tile.tile.x)));
        self.wanted = now;
        self.named += changes.len() as u64;
        // What becomes of tiles is still to be named.
        self.has_ended |= self.named > MOST_TILES / 4 * 3 || self.trace.frames.len() == MOST_FRAMES;
        if self.has_ended {
            return;
        }
        self.trace.frames.push(TraceFrame {
            camera: asked.camera,
            spacing: asked.spacing,
            budget_bytes: asked.budget_bytes,
            bias: asked.bias,
            near_first: asked.near_first,
            missing_tiles: asked.missing_tiles,
            changes,
            outcome: TraceOutcome { hits: asked.hits, ..TraceOutcome::default() },
        });
    }

    /// Something became of a tile since the last picture began. What happened before the first is nobody's outcome.
    pub(crate) fn note(&mut self, tile: TraceTile, became: Became) {
        if let Some(outcome) = self.outcome() {
            outcome.note(tile, became);
        }
    }

    pub(crate) fn note_failed(&mut self, tile: TraceTile) {
        if let Some(outcome) = self.outcome() {
            outcome.failed.push(tile);
        }
    }

    /// Where a tile more is to be named.
    fn outcome(&mut self) -> Option<&mut TraceOutcome> {
        let frame = self.trace.frames.last_mut().filter(|_| !self.has_ended)?;
        self.named += 1;
        self.has_ended = self.named == MOST_TILES;
        Some(&mut frame.outcome)
    }

    /// What follows is not recorded.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(crate) fn finish(self) -> Trace {
        self.trace
    }
}

impl TraceOutcome {
    pub(super) fn note(&mut self, tile: TraceTile, became: Became) {
        match became {
            Became::Resident => self.loaded.push(tile),
            Became::Uniform => self.uniform.push(tile),
            Became::Evicted => self.evicted.push(tile),
            Became::Back => {
                if let Some(at) = self.evicted.iter().rposition(|gone| *gone == tile) {
                    self.evicted.remove(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ModelBackend;
    use crate::layout::TileCoord;
    use crate::pool::Pool;
    use crate::pyramid::PyramidSource;
    use crate::render::Projection;

    fn recorder() -> Recorder {
        let source = PyramidSource::procedural(Extent::cube(64), |_| 1u8).unwrap();
        let pool = Pool::new(ModelBackend::default(), 1 << 20).unwrap();
        Recorder::new(&Pyramid3D::builder(&pool, source).tile([16, 16, 16]).build().unwrap(), 1)
    }

    fn begin(recorder: &mut Recorder, requests: &[(TraceTile, TraceUse, f64)]) {
        let upright = Projection::Perspective { fov_degrees: 30.0 };
        recorder.begin(&Asked {
            camera: Camera::look_at([9.0; 3], [0.0; 3], [0.0, 0.0, 1.0], upright),
            spacing: [1.0; 3],
            budget_bytes: 1 << 20,
            bias: 0.0,
            near_first: false,
            missing_tiles: 0,
            requests,
            hits: 0,
        });
    }

    /// What was recorded, from a file that must be one.
    fn read_again(recorder: Recorder) -> Trace {
        let trace = recorder.finish();
        assert_eq!(Trace::parse(&trace.to_string()).unwrap(), trace);
        trace
    }

    #[test]
    fn a_recording_ends_where_a_file_does() {
        let mut long = recorder();
        (0..MOST_FRAMES + 9).for_each(|_| begin(&mut long, &[]));
        assert_eq!(read_again(long).frames.len(), MOST_FRAMES);
        let mut wide = recorder();
        let tile = |i: u64| TraceTile { level: 0, tile: TileCoord::new(i % 4, i / 4 % 4, i / 16 % 4) };
        begin(&mut wide, &[(tile(1), TraceUse::Want, 1.0)]);
        (0..MOST_TILES + 9).for_each(|i| wide.note(tile(i), Became::Resident));
        begin(&mut wide, &[]);
        let trace = read_again(wide);
        assert_eq!((trace.frames.len(), trace.frames[0].outcome.loaded.len() as u64), (1, MOST_TILES - 1));
    }

    #[test]
    fn nothing_follows_what_was_missed() {
        let mut recorder = recorder();
        begin(&mut recorder, &[]);
        recorder.end();
        recorder.note(TraceTile { level: 0, tile: TileCoord::new(0, 0, 0) }, Became::Evicted);
        begin(&mut recorder, &[]);
        let trace = read_again(recorder);
        assert_eq!((trace.frames.len(), trace.frames[0].outcome.evicted.len()), (1, 0));
    }
}
