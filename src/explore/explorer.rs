//! Owns one picture after the other of a pyramid, and what is wanted after each: [`Explorer`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::bias::Bias;
use super::fidelity::{Fidelity, FidelityLimit};
use super::ghosts::Ghosts;
use super::needs::{Known, Needs};
use super::progress::{Progress, Rate};
use super::renderer::{HostRenderer, LevelRenderer, LevelScene};
use super::rereads::{Rereads, Verdict};
use super::scene::scene_of;
use crate::backend::{Backend, HostAddressable};
use crate::error::Error;
use crate::pyramid::Pyramid3D;
use crate::render::{Camera, Image, LevelsReport, Options, RenderError, RenderLevel, TransferFunction};
use crate::stream::{
    Became, Change, Changes, Enrolled, StreamFailure, StreamLimit, StreamOptions, StreamStatus, Streamer,
    Want,
};
use crate::trace::{Asked, Recorder, Trace, TraceTile};
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
/// needed is evicted for something else that is. While one moves, what is near is loaded and what is far is coarser; where a quarter of all reads are of tiles that had been evicted, everything is.
///
/// **What was evicted rests**: while the view changes from picture to picture, a tile that was evicted is not wanted again before 32 pictures have been made since; a coarser level shows it, the pinned
/// one at worst, and [`Fidelity::resting_tiles`] says of how many that is so. Where the view stays the same, it is wanted as soon as it is lacked. What is exempt: reads that others ask for, what was
/// being loaded already or just about to be wanted when it was evicted, and of more than 65 536 tiles that were evicted between two pictures, or of late, the oldest.
///
/// **Cost**: a picture waits for no source, no mapping call and no lock that is held across either; it holds a frame while it is made.
///
/// `R` makes the pictures: [`HostRenderer`], or a [`CudaCaster`](crate::render::cuda::CudaCaster) where the pyramid is in a device's memory.
pub struct Explorer<T: Scalar, B: Backend, R = HostRenderer> {
    // Declared, and so dropped, before the arrays that it loads.
    pub(super) streamer: Streamer<B>,
    pub(super) pyramid: Arc<Pyramid3D<T, B>>,
    renderer: R,
    pub(super) bias: Bias,
    /// Tiles that failed and were lacked since.
    failures: Vec<StreamFailure>,
    pub(super) failed: HashSet<TraceTile>,
    /// Which level each array is.
    levels: HashMap<Enrolled, usize>,
    changes: Changes<B>,
    pub(super) ghosts: Ghosts,
    recorder: Option<Recorder>,
    batch_tiles: usize,
    /// How many pictures were made, and their wants with them.
    picture: u64,
    /// Whether the last one was not of what the one before was of.
    moved: bool,
    pub(super) rereads: Rereads,
    pub(super) rate: Rate,
    pub(super) progress: Progress,
    pub(super) frozen: bool,
    /// Tiles that the last picture showed or lacked.
    pub(super) seen: Vec<TraceTile>,
}

/// What a picture was made of and by.
#[derive(Clone, Copy, Debug)]
struct Look<'a> {
    camera: &'a Camera,
    spacing: [f64; 3],
    /// The levels that could be read.
    numbers: &'a [usize],
    bias: f64,
}

/// For how many pictures it is remembered that a tile was evicted.
const REMEMBERED: u64 = 128;

/// How often a wait looks whether anything more can be loaded.
const SLICE: Duration = Duration::from_millis(2);

impl<T: Scalar, B: HostAddressable> Explorer<T, B> {
    /// Begins to look at a pyramid, which others may hold too, with pictures made on the host. Its coarsest level is there already.
    ///
    /// # Errors
    /// [`Error::Backend`]: the loading threads could not be started.
    pub fn new(pyramid: impl Into<Arc<Pyramid3D<T, B>>>, options: StreamOptions) -> Result<Self, Error> {
        Self::with_renderer(pyramid, HostRenderer::default(), options)
    }
}

impl<T: Scalar, B: Backend, R> Explorer<T, B, R> {
    /// The same with pictures made by `renderer`, such as a [`CudaCaster`](crate::render::cuda::CudaCaster), which takes voxels and levels as said at [`LevelRenderer`]'s implementation for it.
    ///
    /// # Errors
    /// As [`Explorer::new`].
    pub fn with_renderer(
        pyramid: impl Into<Arc<Pyramid3D<T, B>>>,
        renderer: R,
        options: StreamOptions,
    ) -> Result<Self, Error> {
        let pyramid = pyramid.into();
        let streamer = Streamer::new(pyramid.pool(), options)?;
        Ok(Self {
            changes: streamer.changes(),
            streamer,
            pyramid,
            renderer,
            bias: Bias::default(),
            failures: Vec::new(),
            failed: HashSet::new(),
            levels: HashMap::new(),
            ghosts: Ghosts::default(),
            recorder: None,
            batch_tiles: options.batch_tiles,
            picture: 0,
            moved: false,
            rereads: Rereads::default(),
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

    /// What makes the pictures.
    #[must_use]
    pub fn renderer(&self) -> &R {
        &self.renderer
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
    ) -> Result<Explored, RenderError>
    where
        R: LevelRenderer<T, B>,
    {
        // Never set, so the first one is made.
        let never = AtomicBool::new(false);
        loop {
            if let Some(explored) = self.picture_unless(camera, transfer, options, &never)? {
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
    ) -> Result<Option<Explored>, RenderError>
    where
        R: LevelRenderer<T, B>,
    {
        let is_new = {
            let budget_bytes = self.pyramid.pool().stats().budget_bytes;
            self.bias.look_at(scene_of(camera, transfer, options, budget_bytes))
        };
        if is_new {
            self.progress = Progress::default();
        }
        let bias = self.bias.value();
        let mut numbers = Vec::with_capacity(self.pyramid.levels());
        let mut levels = Vec::with_capacity(self.pyramid.levels());
        for level in 0..self.pyramid.levels() {
            // One that is unavailable is passed over: the next coarser one stands in.
            if let (Ok(array), Some(factor)) = (self.pyramid.level(level), self.pyramid.factor(level)) {
                levels.push(RenderLevel { volume: array, factor });
                numbers.push(level);
            }
        }
        let scene = LevelScene { camera, transfer, options, bias };
        let rendered = self.renderer.picture(self.pyramid.pool(), &levels, scene, stop)?;
        let Some(rendered) = rendered else { return Ok(None) };
        let look = Look { camera, spacing: options.spacing, numbers: &numbers, bias };
        let fidelity = self.want(look, &rendered.report, is_new).map_err(Box::new)?;
        Ok(Some(Explored { image: rendered.image, fidelity }))
    }

    /// Takes in what came and went since this was last done.
    pub(super) fn notice(&mut self) {
        let (changes, lost) = self.changes.take();
        if lost > 0 {
            // Nobody knows any more what came back, nor what a recording lacks.
            self.ghosts = Ghosts::default();
            self.recorder.iter_mut().for_each(Recorder::end);
        }
        for Change { array, tile, became } in changes {
            let Some(&level) = self.levels.get(&array) else { continue };
            let tile = self.pyramid.level(level).ok().and_then(|array| array.layout().tile_coord(tile));
            let Some(tile) = tile.map(|tile| TraceTile { level, tile }) else { continue };
            // What is read again while one stands still had to rest before.
            if became == Became::Resident && self.moved {
                self.rereads.loaded(self.ghosts.since(tile).is_some());
            }
            match became {
                Became::Evicted => self.ghosts.evicted(tile, self.picture),
                Became::Resident | Became::Uniform | Became::Back => self.ghosts.loaded(tile),
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.note(tile, became);
            }
        }
        self.note_failures();
    }

    /// Wants what a picture lacked, and keeps what it showed.
    fn want(&mut self, look: Look<'_>, report: &LevelsReport, is_new: bool) -> Result<Fidelity, Error> {
        let Look { numbers, bias, .. } = look;
        // As late as can be: while the picture was made tiles came and went that others had been wanted for.
        self.notice();
        self.moved = is_new;
        self.picture += 1;
        self.seen.clear();
        let mut needs = Needs::default();
        let mut arrays = vec![None; self.pyramid.levels()];
        self.ghosts.forget_before((self.picture + 1).saturating_sub(REMEMBERED));
        for (i, &level) in numbers.iter().enumerate() {
            let array = self.pyramid.level(level)?;
            let enrolled = self.streamer.enrol(array)?;
            self.levels.insert(enrolled, level);
            arrays[level] = Some(enrolled);
            let known = Known {
                failed: &self.failed,
                ghosts: &self.ghosts,
                picture: self.picture,
                moves: is_new,
                coarsest: self.pyramid.coarsest_level(),
            };
            needs.add(i, level, array.layout(), report, known);
            let lacked = report.lacked.iter().filter(|lacked| lacked.level == i).map(|lacked| lacked.tile);
            let met = report.met.get(i).into_iter().flatten().map(|met| met.tile);
            self.seen.extend(lacked.chain(met).map(|tile| TraceTile { level, tile }));
        }
        let budget_bytes = self.pyramid.coarsest().unpinned_budget();
        let Needs { needed_bytes, missing, failed, .. } = needs;
        // Coarse comes before fine, unless what only stands in would take the place of what it stands in for.
        let near_first = needed_bytes + needs.besides_bytes > budget_bytes;
        let wants = needs.requests.iter().filter_map(|&(tile, what_for, distance)| {
            let priority = what_for.priority(tile.level, distance, near_first);
            Some(Want { array: arrays[tile.level]?, tile: tile.tile, priority })
        });
        let hits = self.streamer.status().hits;
        self.streamer.replace(wants)?;
        // What came while the picture was made is in the next one.
        let lacking = missing > failed || report.came > 0;
        let status = self.streamer.status();
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(&Asked {
                camera: *look.camera,
                spacing: look.spacing,
                budget_bytes: self.pyramid.pool().stats().budget_bytes,
                bias,
                near_first,
                missing_tiles: missing,
                requests: &needs.requests,
                hits: status.hits - hits,
            });
        }
        // What is lacked may turn out not to matter when it is loaded, so it is too much only once loading gets no further.
        let loaded = status.loaded + status.uniform;
        let quiet = status.under_way_requests == 0 && status.limit == StreamLimit::Budget;
        let stuck = lacking && needs.resting == 0 && self.progress.is_over(missing, loaded, quiet);
        let rereads = if is_new { self.rereads.moved() } else { Verdict::Nothing };
        let changes = !self.frozen && self.bias.learn(needed_bytes, budget_bytes, rereads, lacking, stuck);
        if changes {
            self.progress = Progress::default();
        }
        self.rate.learn(Instant::now(), status.loaded + status.uniform);
        let limit = self.limit(&status, lacking, needs.resting > 0, failed > 0, bias);
        let waits = matches!(limit, FidelityLimit::Loading | FidelityLimit::UnderWay);
        Ok(Fidelity {
            uncovered_rays: report.rays_uncovered,
            coarse_rays: report.rays_incomplete,
            missing_tiles: missing,
            failed_tiles: failed,
            resting_tiles: needs.resting,
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

    fn limit(
        &self,
        status: &StreamStatus,
        lacking: bool,
        resting: bool,
        failed: bool,
        bias: f64,
    ) -> FidelityLimit {
        if lacking {
            return match status.limit {
                StreamLimit::Paused => FidelityLimit::Paused,
                StreamLimit::Budget => FidelityLimit::Budget,
                StreamLimit::Frames => FidelityLimit::Frames,
                StreamLimit::Pages | StreamLimit::Bytes => FidelityLimit::UnderWay,
                StreamLimit::Idle if resting => FidelityLimit::Resting,
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
            if let Some(&level) = self.levels.get(&failure.array) {
                let tile = TraceTile { level, tile: failure.tile };
                self.failed.insert(tile);
                if let Some(recorder) = &mut self.recorder {
                    recorder.note_failed(tile);
                }
            }
            self.failures.push(failure);
        }
        // The latest are enough to tell what is wrong.
        let many = self.failures.len().saturating_sub(1024);
        self.failures.drain(..many);
    }

    /// Begins to record what pictures want, and what becomes of it. What was recorded before and not taken is dropped.
    ///
    /// **Cost**: for each picture, memory for what changes from the one before, until [`Explorer::take_trace`]. After 65 536 pictures, or a million tiles named or nearly, which is what a
    /// file may hold, the recording ends by itself; so it does where more than 65 536 tiles came and went between two pictures.
    pub fn record(&mut self) {
        self.notice();
        self.recorder = Some(Recorder::new(&self.pyramid, self.batch_tiles));
    }

    /// Ends a recording, and gives what was recorded; `None` where nothing was.
    pub fn take_trace(&mut self) -> Option<Trace> {
        self.notice();
        self.recorder.take().map(Recorder::finish)
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

impl<T: Scalar, B: Backend, R> std::fmt::Debug for Explorer<T, B, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explorer")
            .field("pyramid", &self.pyramid)
            .field("bias", &self.bias.value())
            .finish_non_exhaustive()
    }
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
