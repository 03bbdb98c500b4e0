//! Owns [`Eye`]: what makes pictures of a volume while it loads and says how true they are, and the one that does it with an explorer, wherever that has its memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde::Serialize;
use vastgrid::render::Image;
use vastgrid::trace::Trace;
use vastgrid::{Error, ExploredTile, Explorer, Fidelity, FidelityLimit, Scalar, Stats, TileState};

use crate::Failure;
use crate::place::Place;
use crate::view::{Facts, View};

/// Of volumes up to so many times the budget every voxel is shown, tile by tile, where that is what a picture takes.
const FINISHED_PART: u64 = 16;

/// How true a picture is, for the page.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Quality {
    /// One line of words.
    pub(crate) text: String,
    /// The level that was wanted and the one that was shown, on average over all steps; level 0 is the full resolution.
    pub(crate) wanted_level: f64,
    pub(crate) shown_level: f64,
    /// Steps by the level that was shown.
    pub(crate) shown: Vec<u64>,
    /// The share of steps shown as they were wanted.
    pub(crate) share: f64,
    pub(crate) bias: f64,
    pub(crate) missing_tiles: u64,
    pub(crate) failed_tiles: u64,
    pub(crate) uncovered_rays: u64,
    pub(crate) needed_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    /// What keeps it from full quality.
    pub(crate) limit: &'static str,
    pub(crate) seconds_left: Option<f64>,
    /// Waiting would change nothing.
    pub(crate) converged: bool,
    /// It is what unlimited memory would give.
    pub(crate) exact: bool,
    /// It was finished through a budget that does not hold all that it needs.
    pub(crate) finished: bool,
}

/// A picture, how long it took, and how true it is.
pub(crate) struct Look {
    pub(crate) image: Image,
    pub(crate) ms: f64,
    pub(crate) quality: Quality,
}

/// Makes pictures of a volume while it loads.
pub(crate) trait Eye: Send {
    /// A picture of what is there now, each side divided by `shrink`; what it lacks is loaded from now on. Never waits for a source. `None` where `stop` was set meanwhile.
    fn look(&mut self, view: &View, shrink: u32, stop: &AtomicBool) -> Result<Option<Look>, Failure>;
    /// The tiles of the last picture.
    fn tiles(&self) -> Vec<ExploredTile>;
    /// What the ray through a place of the picture, in parts of its sides, meets first.
    fn pick(&self, view: &View, at: [f64; 2]) -> Option<[f64; 3]>;
    fn set_budget(&mut self, bytes: u64) -> Result<(), Failure>;
    fn freeze(&mut self, frozen: bool);
    fn is_frozen(&self) -> bool;
    /// Evicts all but the coarsest level, and begins anew.
    fn flush(&mut self) -> Result<(), Failure>;
    /// Has what failed tried again.
    fn retry(&mut self);
    /// Whether [`finish`](Self::finish) has a picture to give.
    fn finishes(&self) -> bool;
    /// The picture that unlimited memory would give of the finest level, however small the budget, where that is within reach. Tells `goes_on` how many rays are left, and ends with `None` when that
    /// says so, or where it turns out that there is none to give.
    fn finish(&mut self, view: &View, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<Look>, Failure>;
    /// Computes a coarsest level that is provisional in the background; false where none is, or it could not be.
    fn refine(&mut self) -> bool;
    fn stats(&self) -> Stats;
    /// Whether anything is on its way into memory.
    fn is_loading(&self) -> bool;
    /// Why tiles or levels cannot be shown, as far as that is known.
    fn trouble(&mut self) -> String;
    /// Records what pictures want from now on, and what becomes of it.
    fn record(&mut self);
    /// What was recorded; that ends it.
    fn take_trace(&mut self) -> Option<Trace>;
}

/// Makes them with an explorer.
pub(crate) struct ExplorersEye<T: Scalar, B: Place<T>> {
    explorer: Explorer<T, B, B::Renderer>,
    facts: Facts,
    /// The newest failure of a tile.
    failed: String,
    refining: Option<Refining>,
    /// Whether the last picture was made tile by tile.
    finished: bool,
    /// That it can be made so did not turn out to be wrong yet, at this budget.
    may_finish: bool,
}

/// A coarsest level that is being computed.
#[derive(Clone, Default)]
struct Refining {
    done: Arc<AtomicBool>,
    failed: Arc<Mutex<String>>,
}

impl<T: Scalar, B: Place<T>> ExplorersEye<T, B> {
    pub(crate) fn new(explorer: Explorer<T, B, B::Renderer>, facts: Facts) -> Self {
        Self { explorer, facts, failed: String::new(), refining: None, finished: false, may_finish: true }
    }

    fn note_failures(&mut self) {
        if let Some(newest) = self.explorer.failures().pop() {
            self.failed = newest.error.to_string();
        }
    }

    fn is_refining(&self) -> bool {
        self.refining.as_ref().is_some_and(|refining| !refining.done.load(Ordering::Acquire))
    }
}

impl<T: Scalar, B: Place<T>> Eye for ExplorersEye<T, B> {
    fn look(&mut self, view: &View, shrink: u32, stop: &AtomicBool) -> Result<Option<Look>, Failure> {
        let begun = Instant::now();
        self.finished = false;
        let facts = &self.facts;
        let options = view.options(facts, shrink);
        let (camera, transfer) = (view.camera(facts), view.transfer(facts)?);
        let explored = self.explorer.picture_unless(&camera, &transfer, &options, stop)?;
        let Some(explored) = explored else { return Ok(None) };
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let mut quality = Quality::from(&explored.fidelity);
        quality.converged &= !self.is_refining();
        Ok(Some(Look { image: explored.image, ms, quality }))
    }

    fn tiles(&self) -> Vec<ExploredTile> {
        match self.explorer.pyramid().level(0) {
            // Of a picture that was made tile by tile, what is left of it.
            Ok(array) if self.finished => {
                let resident = array.resident_tiles().into_iter();
                resident.map(|tile| ExploredTile { level: 0, tile, state: TileState::Resident }).collect()
            }
            _ => self.explorer.tiles(),
        }
    }

    fn pick(&self, view: &View, at: [f64; 2]) -> Option<[f64; 3]> {
        B::pick(self.explorer.pyramid(), &self.facts, view, at)
    }

    fn set_budget(&mut self, bytes: u64) -> Result<(), Failure> {
        let pool = self.explorer.pyramid().pool();
        let most = B::most_budget(pool);
        if bytes > most {
            return Err(format!("a budget of {bytes} bytes is more than there is memory for: {most}").into());
        }
        self.may_finish = true;
        pool.set_budget(bytes)?;
        // What is not in use goes back to the system too.
        Ok(pool.trim()?)
    }

    fn freeze(&mut self, frozen: bool) {
        self.explorer.freeze(frozen);
    }

    fn is_frozen(&self) -> bool {
        self.explorer.is_frozen()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.failed.clear();
        self.explorer.flush()?;
        Ok(())
    }

    fn retry(&mut self) {
        self.note_failures();
        self.failed.clear();
        self.may_finish = true;
        self.explorer.retry_failed();
    }

    fn finishes(&self) -> bool {
        let most = self.stats().budget_bytes.saturating_mul(FINISHED_PART);
        let is_small = self.facts.whole_bytes.is_some_and(|bytes| bytes <= most);
        is_small && self.may_finish && !self.explorer.is_frozen()
    }

    fn finish(&mut self, view: &View, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<Look>, Failure> {
        if !self.finishes() {
            return Ok(None);
        }
        let Ok(array) = self.explorer.pyramid().level(0) else { return Ok(None) };
        let (renderer, pool) = (self.explorer.renderer(), self.explorer.pyramid().pool());
        match B::finish(renderer, pool, array, &self.facts, view, goes_on) {
            Ok(look) => {
                self.finished = look.is_some();
                Ok(look)
            }
            // A tile that cannot be read, or a budget that does not hold the support of a sample: coarser pictures go on.
            Err(error) => {
                self.may_finish = false;
                if matches!(error.downcast_ref(), Some(Error::Tile { .. })) {
                    self.failed = error.to_string();
                }
                Ok(None)
            }
        }
    }

    fn refine(&mut self) -> bool {
        if self.refining.is_none() && self.explorer.pyramid().is_provisional() {
            let (refining, pyramid) = (Refining::default(), self.explorer.pyramid().clone());
            self.refining = Some(refining.clone());
            let work = move || {
                if let Err(error) = pyramid.refine_coarsest() {
                    *refining.failed.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                }
                refining.done.store(true, Ordering::Release);
            };
            if thread::Builder::new().name("viewer-refine".into()).spawn(work).is_err() {
                self.refining = None;
            }
        }
        self.is_refining()
    }

    fn stats(&self) -> Stats {
        self.explorer.pyramid().pool().stats()
    }

    fn is_loading(&self) -> bool {
        let status = self.explorer.streamer().status();
        status.under_way_requests > 0 || self.is_refining()
    }

    fn trouble(&mut self) -> String {
        self.note_failures();
        let pyramid = self.explorer.pyramid();
        let refused = (0..pyramid.levels()).filter_map(|level| Some(pyramid.level(level).err()?.to_string()));
        let coarsest = pyramid.coarsest_failures().first().map(|failure| failure.error.to_string());
        let refining =
            self.refining.as_ref().map(|r| r.failed.lock().unwrap_or_else(PoisonError::into_inner));
        let refining = refining.map(|reason| reason.clone());
        let all = refused.chain(coarsest).chain(refining).chain([self.failed.clone()]);
        all.filter(|reason| !reason.is_empty()).collect::<Vec<_>>().join("; ")
    }

    fn record(&mut self) {
        self.explorer.record();
    }

    fn take_trace(&mut self) -> Option<Trace> {
        self.explorer.take_trace()
    }
}

impl Quality {
    /// Of a picture of the finest level in which nothing is missing.
    pub(crate) fn finished() -> Self {
        Self {
            text: "exact, although the budget does not hold it all at once".into(),
            share: 1.0,
            shown: vec![1],
            limit: "nothing",
            converged: true,
            exact: true,
            finished: true,
            ..Self::default()
        }
    }
}

impl From<&Fidelity> for Quality {
    fn from(fidelity: &Fidelity) -> Self {
        let all: u64 = fidelity.shown.iter().flatten().sum();
        let mean = |level_of: fn(usize, usize) -> usize| {
            let steps = fidelity.shown.iter().enumerate().flat_map(|(wanted, row)| {
                row.iter()
                    .enumerate()
                    .map(move |(shown, &steps)| steps as f64 * level_of(wanted, shown) as f64)
            });
            steps.sum::<f64>() / all.max(1) as f64
        };
        let levels = fidelity.shown.len();
        let of_level = |level: usize| fidelity.shown.iter().filter_map(|row| row.get(level)).sum();
        Self {
            text: fidelity.to_string(),
            wanted_level: mean(|wanted, _| wanted),
            shown_level: mean(|_, shown| shown),
            shown: (0..levels).map(of_level).collect(),
            share: fidelity.share_as_wanted(),
            bias: fidelity.bias,
            missing_tiles: fidelity.missing_tiles,
            failed_tiles: fidelity.failed_tiles,
            uncovered_rays: fidelity.uncovered_rays,
            needed_bytes: fidelity.needed_bytes,
            in_flight_bytes: fidelity.bytes_in_flight,
            limit: match fidelity.limit {
                FidelityLimit::Nothing => "nothing",
                FidelityLimit::Loading => "loading",
                FidelityLimit::UnderWay => "as much as may be is under way",
                FidelityLimit::Frames => "a frame holds memory",
                FidelityLimit::Budget => "budget",
                FidelityLimit::Resting => "what was evicted of late is left alone",
                FidelityLimit::Failures => "tiles failed",
                FidelityLimit::Paused => "frozen",
                FidelityLimit::Provisional => "coarsest level is provisional",
                _ => "something new",
            },
            seconds_left: fidelity.time_left.map(|left| left.as_secs_f64()),
            converged: fidelity.is_converged(),
            exact: fidelity.is_exact(),
            finished: false,
        }
    }
}
