//! Owns one picture after the other of a pyramid, and what is wanted after each: [`Explorer`].

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::bias::Bias;
use super::fidelity::{Fidelity, FidelityLimit};
use crate::backend::HostAddressable;
use crate::error::Error;
use crate::layout::TileCoord;
use crate::pyramid::Pyramid3D;
use crate::render::{
    Camera, Image, LevelCaches, LevelsReport, Options, Projection, RenderError, RenderLevel,
    TransferFunction, render_levels_unless,
};
use crate::stream::{
    Enrolled, Priority, StreamFailure, StreamLimit, StreamOptions, StreamStatus, Streamer, Urgency, Want,
};
use crate::view::View;
use crate::voxel::Scalar;

/// A picture of what is there, and how true it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Explored {
    /// The picture.
    pub image: Image,
    /// How true it is.
    pub fidelity: Fidelity,
}

/// Looks at a pyramid while it loads: each picture is made of what is there now, and what it lacked is loaded in the background before the next, coarse before fine and near before far.
///
/// **Budget**: where it does not hold what a picture needs, pictures get coarser than their pixels until it does ([`Fidelity::bias`]), and finer again when there is room; nothing that is
/// needed is evicted for something else that is.
///
/// **Cost**: a picture waits for no source, no mapping call and no lock that is held across either; it holds a frame while it is made.
pub struct Explorer<T: Scalar, B: HostAddressable> {
    // Declared, and so dropped, before the arrays that it loads.
    pub(super) streamer: Streamer<B>,
    pub(super) pyramid: Arc<Pyramid3D<T, B>>,
    caches: LevelCaches,
    pub(super) bias: Bias,
    /// Tiles that failed and were lacked since.
    failures: Vec<StreamFailure>,
    pub(super) failed: HashSet<(Enrolled, TileCoord)>,
    pub(super) rate: Rate,
    pub(super) progress: Progress,
    pub(super) frozen: bool,
    /// Levels and tiles that the last picture showed or lacked.
    pub(super) seen: Vec<(usize, TileCoord)>,
}

/// How often a wait looks whether anything more can be loaded.
const SLICE: Duration = Duration::from_millis(2);

/// Whether loading gets anywhere, from picture to picture of one scene.
#[derive(Debug)]
pub(super) struct Progress {
    fewest_missing: u64,
    loaded: u64,
    /// Pictures before which tiles were loaded, or none could be, and that lacked no less.
    in_vain: u32,
}

/// So many of them are enough.
const IN_VAIN: u32 = 4;

impl Default for Progress {
    fn default() -> Self {
        Self { fewest_missing: u64::MAX, loaded: 0, in_vain: 0 }
    }
}

impl Progress {
    /// Learns how many tiles a picture lacked, and how many had been loaded. `quiet`: none could be.
    fn is_over(&mut self, missing: u64, loaded: u64, quiet: bool) -> bool {
        if missing < self.fewest_missing {
            (self.fewest_missing, self.in_vain) = (missing, 0);
        } else if loaded != self.loaded || quiet {
            self.in_vain += 1;
        }
        self.loaded = loaded;
        self.in_vain >= IN_VAIN
    }
}

/// Tiles loaded per second, of late.
#[derive(Debug, Default)]
pub(super) struct Rate {
    per_second: f64,
    last: Option<(Instant, u64)>,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn learn(&mut self, now: Instant, loaded: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((now, loaded));
            return;
        };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds < 0.02 {
            return;
        }
        let late = loaded.saturating_sub(before) as f64 / seconds;
        // Half of it is of the last tenths of a second.
        let weight = 1.0 - (-seconds * 3.0).exp();
        self.per_second += weight * (late - self.per_second);
        self.last = Some((now, loaded));
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn time_for(&self, tiles: u64) -> Option<Duration> {
        let seconds = tiles as f64 / self.per_second;
        if seconds.is_finite() { Duration::try_from_secs_f64(seconds).ok() } else { None }
    }
}

impl<T: Scalar, B: HostAddressable> Explorer<T, B> {
    /// Begins to look at a pyramid, which others may hold too. Its coarsest level is there already.
    ///
    /// # Errors
    /// [`Error::Backend`]: the loading threads could not be started.
    pub fn new(pyramid: impl Into<Arc<Pyramid3D<T, B>>>, options: StreamOptions) -> Result<Self, Error> {
        let pyramid = pyramid.into();
        Ok(Self {
            streamer: Streamer::new(pyramid.pool(), options)?,
            pyramid,
            caches: LevelCaches::default(),
            bias: Bias::default(),
            failures: Vec::new(),
            failed: HashSet::new(),
            rate: Rate::default(),
            progress: Progress::default(),
            frozen: false,
            seen: Vec::new(),
        })
    }

    /// The pyramid.
    #[must_use]
    pub fn pyramid(&self) -> &Arc<Pyramid3D<T, B>> {
        &self.pyramid
    }

    /// What loads in the background: for pausing, flushing and statistics. Wants of other tiles are dropped with the next picture.
    #[must_use]
    pub fn streamer(&self) -> &Streamer<B> {
        &self.streamer
    }

    /// A picture of what is there now. What it lacks is wanted from now on, and what no picture lacks any more is not.
    ///
    /// `options.spacing` is that of level-0 voxels; `options.step_voxels` counts voxels of the level that is shown.
    ///
    /// # Errors
    /// As [`render_levels`](crate::render::render_levels); a pyramid none of whose levels can be read.
    pub fn picture(
        &mut self,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) -> Result<Explored, RenderError> {
        loop {
            if let Some(explored) = self.picture_unless(camera, transfer, options, &AtomicBool::new(false))? {
                return Ok(explored);
            }
        }
    }

    /// As [`Explorer::picture`], but gives up soon once `stop` is set: `None`, and what was wanted before still is. For a viewer that is asked for another picture while one takes long.
    ///
    /// # Errors
    /// As [`Explorer::picture`].
    pub fn picture_unless(
        &mut self,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
        stop: &AtomicBool,
    ) -> Result<Option<Explored>, RenderError> {
        if self.bias.look_at(scene_of(camera, options, self.pyramid.pool().stats().budget_bytes)) {
            self.progress = Progress::default();
        }
        let bias = self.bias.value();
        let frame = self.pyramid.pool().frame();
        let mut numbers = Vec::with_capacity(self.pyramid.levels());
        let mut views = Vec::with_capacity(self.pyramid.levels());
        for level in 0..self.pyramid.levels() {
            // One that is unavailable is passed over: the next coarser one stands in.
            if let (Ok(array), Some(factor)) = (self.pyramid.level(level), self.pyramid.factor(level)) {
                views.push((frame.view(array).map_err(Box::new)?, factor));
                numbers.push(level);
            }
        }
        let levels: Vec<_> = views
            .iter()
            .map(|(view, factor): &(View<'_, T>, _)| RenderLevel { volume: view, factor: *factor })
            .collect();
        let caches = &mut self.caches;
        let rendered = render_levels_unless(&levels, camera, transfer, options, bias, caches, stop)?;
        drop(levels);
        drop(views);
        drop(frame);
        let Some(rendered) = rendered else { return Ok(None) };
        let fidelity = self.want(&numbers, &rendered.report, bias).map_err(Box::new)?;
        Ok(Some(Explored { image: rendered.image, fidelity }))
    }

    /// Wants what a picture lacked, and keeps what it showed.
    fn want(&mut self, numbers: &[usize], report: &LevelsReport, bias: f64) -> Result<Fidelity, Error> {
        self.note_failures();
        self.seen.clear();
        let coarsest = self.pyramid.coarsest_level();
        let (mut wants, mut stand_ins) = (Vec::new(), Vec::new());
        let (mut needed_bytes, mut besides_bytes, mut missing, mut failed) = (0u64, 0u64, 0u64, 0u64);
        // The coarsest level is pinned: what it lacks failed.
        for (i, &level) in numbers.iter().enumerate() {
            let array = self.pyramid.level(level)?;
            let (enrolled, layout) = (self.streamer.enrol(array)?, array.layout());
            let rank = u8::try_from(level).unwrap_or(u8::MAX);
            let mut tiles = Vec::new();
            for lacked in report.lacked.iter().filter(|lacked| lacked.level == i) {
                missing += 1;
                self.seen.push((level, lacked.tile));
                if self.failed.contains(&(enrolled, lacked.tile)) {
                    failed += 1;
                } else {
                    tiles.push((lacked.tile, lacked.wanted, lacked.distance));
                }
            }
            self.seen.extend(report.met.get(i).into_iter().flatten().map(|met| (level, met.tile)));
            // What was shown stays, but for what is nearer.
            let met = report.met.get(i).into_iter().flatten().filter(|_| level != coarsest);
            tiles.extend(met.map(|met| (met.tile, met.wanted, met.distance)));
            let (mut needed, mut besides) = (HashSet::new(), HashSet::new());
            for (tile, wanted, distance) in tiles {
                let pages = if wanted { &mut needed } else { &mut besides };
                pages.extend(layout.tile_id(tile).map(|id| layout.page_of(id)));
                #[expect(clippy::cast_possible_truncation, reason = "an order")]
                let priority = Priority::visible(rank, distance as f32);
                let list = if wanted { &mut wants } else { &mut stand_ins };
                list.push(Want { array: enrolled, tile, priority });
            }
            if level != coarsest {
                needed_bytes += needed.len() as u64 * layout.page_bytes();
                besides_bytes += besides.difference(&needed).count() as u64 * layout.page_bytes();
            }
        }
        let budget_bytes = self.pyramid.coarsest().unpinned_budget();
        // Coarse comes before fine, unless what only stands in would take the place of what it stands in for. Then what is nearest comes first, whatever its level: in front of the nearest
        // tile that is missing pictures are as they will be, so what lies behind does not keep anything from its place that will turn out to be hidden.
        if needed_bytes + besides_bytes > budget_bytes {
            for want in &mut stand_ins {
                want.priority.urgency = Urgency::Prefetch;
            }
            for want in &mut wants {
                want.priority.level = 0;
            }
        }
        wants.extend(stand_ins);
        self.streamer.replace(wants)?;
        // What came while the picture was made is in the next one.
        let lacking = missing > failed || report.came > 0;
        let status = self.streamer.status();
        // What is lacked may turn out not to matter when it is loaded, so it is too much only once loading gets no further.
        let loaded = status.loaded + status.uniform;
        let quiet = status.under_way_requests == 0 && status.limit == StreamLimit::Budget;
        let stuck = lacking && self.progress.is_over(missing, loaded, quiet);
        let changes = !self.frozen && self.bias.learn(needed_bytes, budget_bytes, lacking, stuck);
        if changes {
            self.progress = Progress::default();
        }
        self.rate.learn(Instant::now(), status.loaded + status.uniform);
        let limit = self.limit(&status, lacking, failed > 0, bias);
        let waits = matches!(limit, FidelityLimit::Loading | FidelityLimit::UnderWay);
        Ok(Fidelity {
            uncovered_rays: report.rays_uncovered,
            coarse_rays: report.rays_incomplete,
            missing_tiles: missing,
            failed_tiles: failed,
            bias,
            needed_bytes,
            budget_bytes,
            bytes_in_flight: status.under_way_bytes,
            limit,
            time_left: if waits && lacking { self.rate.time_for(missing - failed) } else { None },
            converged: if self.frozen {
                status.under_way_requests == 0
            } else {
                !lacking && !changes && self.bias.is_settled()
            },
            shown: spread(&report.shown, numbers, self.pyramid.levels()),
        })
    }

    fn limit(&self, status: &StreamStatus, lacking: bool, failed: bool, bias: f64) -> FidelityLimit {
        if lacking {
            return match status.limit {
                StreamLimit::Paused => FidelityLimit::Paused,
                StreamLimit::Budget => FidelityLimit::Budget,
                StreamLimit::Frames => FidelityLimit::Frames,
                StreamLimit::Pages | StreamLimit::Bytes => FidelityLimit::UnderWay,
                StreamLimit::Idle | StreamLimit::Read => FidelityLimit::Loading,
            };
        }
        match (failed, bias > 0.0, self.pyramid.is_provisional()) {
            (true, ..) => FidelityLimit::Failures,
            (_, true, _) => FidelityLimit::Budget,
            (.., true) => FidelityLimit::Provisional,
            _ => FidelityLimit::Nothing,
        }
    }

    fn note_failures(&mut self) {
        for failure in self.streamer.failures().newest {
            self.failed.insert((failure.array, failure.tile));
            self.failures.push(failure);
        }
        // The latest are enough to tell what is wrong.
        let many = self.failures.len().saturating_sub(1024);
        self.failures.drain(..many);
    }

    /// The tiles that failed since this was last called, with their reasons: the latest 1024.
    pub fn failures(&mut self) -> Vec<StreamFailure> {
        self.note_failures();
        std::mem::take(&mut self.failures)
    }

    /// Has the tiles that failed tried again, where pictures still lack them. Returns how many.
    pub fn retry_failed(&mut self) -> u64 {
        self.note_failures();
        let count = self.failed.len() as u64;
        self.failed.clear();
        self.streamer.retry_failed();
        count
    }

    /// Waits until nothing is being loaded and nothing more can be before the next picture, at most for `timeout`; says whether that came about. For programs that want one good picture
    /// rather than many.
    #[expect(clippy::must_use_candidate, reason = "the wait is what it is called for")]
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        loop {
            let left = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()));
            if self.streamer.wait_idle(left.min(SLICE)) {
                return true;
            }
            let status = self.streamer.status();
            if status.under_way_requests == 0
                && matches!(status.limit, StreamLimit::Budget | StreamLimit::Paused)
            {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    }
}

impl<T: Scalar, B: HostAddressable> std::fmt::Debug for Explorer<T, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explorer")
            .field("pyramid", &self.pyramid)
            .field("bias", &self.bias.value())
            .finish_non_exhaustive()
    }
}

/// What tells one scene from another: all that says how much a picture needs.
fn scene_of(camera: &Camera, options: &Options, budget_bytes: u64) -> Vec<u64> {
    let places = [camera.eye, camera.target, camera.up];
    let mut words: Vec<_> = places.into_iter().flatten().map(f64::to_bits).collect();
    words.push(match camera.projection {
        Projection::Perspective { fov_degrees } => fov_degrees.to_bits(),
        Projection::Orthographic { height } => !height.to_bits(),
    });
    words.extend([
        u64::from(options.width),
        u64::from(options.height),
        budget_bytes,
        options.step_voxels.to_bits(),
    ]);
    words.extend(options.clip.into_iter().flat_map(|clip| [clip.low, clip.high]).flatten().map(f64::to_bits));
    words.push(match options.mode {
        crate::render::Mode::Iso { value, .. } => u64::from(value.to_bits()),
        crate::render::Mode::Mip => u64::MAX,
        crate::render::Mode::Dvr { .. } => u64::MAX - 1,
    });
    words
}

/// A histogram over the levels that there were, over all levels.
fn spread(shown: &[Vec<u64>], numbers: &[usize], levels: usize) -> Vec<Vec<u64>> {
    let mut all = vec![vec![0; levels]; levels];
    for (row, &wanted) in shown.iter().zip(numbers) {
        for (&steps, &level) in row.iter().zip(numbers) {
            if let Some(place) = all.get_mut(wanted).and_then(|row| row.get_mut(level)) {
                *place += steps;
            }
        }
    }
    all
}
