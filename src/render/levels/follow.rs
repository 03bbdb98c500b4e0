//! Owns how a ray goes through levels: at the one that is wanted as far as that is there, and through what is missing at the next coarser one. Knows nothing of what a level is cast by: that is
//! [`march`]'s.

use std::ops::Range;

use super::super::grid::BrickBox;
use super::super::interactive::BAND_ROWS;
use super::super::march::{Halt, Method, Scene, march};
use super::super::met::Table;
use super::super::options::Options;
use super::super::path::Path;
use super::super::volume::Volume;
use super::missing::{Missing, Passed};
use super::report::Counts;
use super::{Job, MAX_LEVELS};
use crate::voxel::Scalar;

/// Some rows of a picture.
pub(super) struct Band<'r, 'a, T, V, M> {
    pub(super) job: &'r Job<'a, V>,
    pub(super) scenes: &'r [Scene<'a, T, V>],
    pub(super) methods: &'r [&'r M],
    pub(super) tables: Vec<&'r mut Table<'a, T>>,
    /// For each scene, once a ray comes to tiles of it that are missing.
    pub(super) missing: Vec<Option<Missing>>,
    /// Those that the present ray has passed, and that are still to be noted.
    pub(super) passed: Vec<Passed>,
    /// The present ray through each level, once it was asked for.
    pub(super) paths: [Option<Path>; MAX_LEVELS],
    pub(super) legs: [Leg; MAX_LEVELS],
    pub(super) counts: Counts,
}

/// A ray on its way.
struct Going<S> {
    /// Through the finest level.
    path: Path,
    state: S,
    /// The step at which it ended, roughly.
    at: u32,
    lacking: bool,
    uncovered: bool,
}

/// How far a ray is at one level. What it lacks there the next level's leg shows, and then this one goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Leg {
    /// Steps of the finest level.
    steps: Range<u32>,
    left: Range<u32>,
    /// How many tiles had been passed before what it lacks now.
    passed: usize,
}

/// What became of a leg.
enum Turn {
    /// It came to its end.
    Through,
    /// The ray is complete.
    Ended,
    /// These steps are left to the next level.
    Lacks(Range<u32>),
}

impl<T: Scalar, V: Volume<T>, M: Method> Band<'_, '_, T, V, M> {
    #[inline(always)]
    pub(super) fn render(&mut self, pixels: &mut [[f32; 4]], top: u32) {
        let Options { width, height, .. } = self.job.prepared.options;
        // Blocks of columns, so that neighbouring rays meet the same bricks.
        for left in (0..width).step_by(8) {
            for y in 0..BAND_ROWS.min(height - top) {
                for x in left..width.min(left + 8) {
                    pixels[(y * width + x) as usize] = self.pixel(x, top + y);
                }
            }
        }
    }

    #[inline(always)]
    fn pixel(&mut self, x: u32, y: u32) -> [f32; 4] {
        let prepared = self.job.prepared;
        let Some(path) = prepared.path(x, y) else {
            return prepared.over_background([0.0; 4], false);
        };
        self.counts.rays += 1;
        self.paths[..self.job.levels.len()].fill(None);
        let state = self.methods[0].begin();
        let mut ray = Going { path, state, at: 0, lacking: false, uncovered: false };
        let mut k = 0;
        while k < path.samples {
            let (level, until) = self.wanted(&path, k);
            if self.follow(&mut ray, level, k..until) {
                break;
            }
            k = until;
        }
        self.counts.rays_incomplete += u64::from(ray.lacking);
        self.counts.rays_uncovered += u64::from(ray.uncovered);
        prepared.over_background(self.methods[0].colour(&ray.state), ray.uncovered)
    }

    /// The level that is wanted at step `k`, and up to which one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    fn wanted(&self, path: &Path, k: u32) -> (usize, u32) {
        let (begins, step) = (self.job.begins, self.job.prepared.step());
        let distance = path.first + f64::from(k) * step;
        let level = begins.iter().rposition(|&begin| begin <= distance).unwrap_or(0);
        // One step on at least; a step too few only asks again.
        let until = begins
            .get(level + 1)
            .map_or(path.samples, |next| ((next - path.first) / step).ceil().max(f64::from(k) + 1.0) as u32);
        (level, until.min(path.samples))
    }

    /// Takes some steps at the level that is wanted, and where it lacks something at coarser ones. Whether the ray has ended.
    ///
    /// In a loop rather than by calling itself, so that all of it is compiled for this machine.
    #[inline(always)]
    fn follow(&mut self, ray: &mut Going<M::State>, wanted: usize, steps: Range<u32>) -> bool {
        let mut level = wanted;
        self.begin(ray, level, steps);
        loop {
            match self.turn(ray, wanted, level) {
                Turn::Through if level == wanted => return false,
                Turn::Through => {
                    level -= 1;
                    self.note_missing(wanted, level, u32::MAX);
                }
                Turn::Ended => {
                    for finer in (wanted..level).rev() {
                        // What lies behind where it ended is not lacked.
                        self.note_missing(wanted, finer, ray.at / self.job.strides[finer]);
                    }
                    return true;
                }
                Turn::Lacks(steps) => {
                    ray.lacking |= level == wanted;
                    if level + 1 < self.job.levels.len() {
                        level += 1;
                        self.begin(ray, level, steps);
                    } else {
                        ray.uncovered = true;
                        self.counts.uncovered += steps.len() as u64;
                        self.note_missing(wanted, level, u32::MAX);
                    }
                }
            }
        }
    }

    /// Begins a leg.
    #[inline(always)]
    fn begin(&mut self, ray: &Going<M::State>, level: usize, steps: Range<u32>) {
        let (job, stride) = (self.job, self.job.strides[level]);
        let path = self.paths[level].get_or_insert_with(|| {
            if level == 0 {
                ray.path
            } else {
                ray.path.coarser(stride, job.factors[level], job.prepared.step())
            }
        });
        // A sample stands for the steps around it: whichever level has its middle takes it.
        let nearest = |k: u32| if stride == 1 { k } else { k.saturating_add(stride / 2) / stride };
        let end = if steps.end == ray.path.samples { path.samples } else { nearest(steps.end) };
        self.legs[level] = Leg { left: nearest(steps.start)..end, steps, passed: self.passed.len() };
    }

    /// Goes on with a leg as far as that goes.
    #[inline(always)]
    fn turn(&mut self, ray: &mut Going<M::State>, wanted: usize, level: usize) -> Turn {
        let (stride, place) = (self.job.strides[level], place(wanted, level));
        let (scene, method) = (&self.scenes[place], self.methods[level]);
        let (leg, Some(path)) = (&mut self.legs[level], &self.paths[level]) else { return Turn::Through };
        let mut left = leg.left.clone();
        if left.is_empty() {
            return Turn::Through;
        }
        let (at, table, tally) = (left.start, &mut *self.tables[place], &mut self.counts.tallies[place]);
        let missing = self.missing[place].get_or_insert_with(Missing::new);
        // Tiles of which nothing is known are passed here, several at once; of others the march finds out whether they matter.
        let mut begin = at;
        if !missing.pass(scene, method, table, path, &mut left, &mut self.passed) {
            let halt = march(scene, method, table, path, &mut left, &mut ray.state, tally);
            let steps = u64::from(left.start.min(left.end) - at) * u64::from(stride);
            self.counts.shown[wanted][level] += steps;
            ray.lacking |= level == wanted && std::mem::take(&mut tally.clamped);
            match halt {
                Halt::Ended => {
                    ray.at = left.start.saturating_mul(stride);
                    return Turn::Ended;
                }
                Halt::Through => return Turn::Through,
                Halt::Waits => {}
            }
            begin = left.start;
            let p = path.at(begin);
            let ends = scene.grid.ends_of(scene.grid.brick_below(p), path.step);
            left.start = begin.saturating_add(path.run(p, ends)).min(left.end);
        }
        let until = leg.steps.end;
        let fine = |k: u32| k.saturating_mul(stride).min(until);
        let to = if left.start == left.end { until } else { fine(left.start) };
        let from = fine(begin).max(leg.steps.start);
        leg.left = left;
        Turn::Lacks(from..to)
    }

    /// Notes that the tiles are lacked that a leg passed before another one stood in for it, as far as sample `seen`.
    #[inline(always)]
    fn note_missing(&mut self, wanted: usize, level: usize, seen: u32) {
        let (place, from) = (place(wanted, level), self.legs[level].passed);
        let (missing, tally) = (&mut self.missing[place], &mut self.counts.tallies[place]);
        for passed in &self.passed[from..] {
            if passed.sample <= seen
                && let Some(missing) = missing
            {
                missing.note(passed.tile, || tally.wait(BrickBox::one(passed.tile)));
            }
        }
        self.passed.truncate(from);
    }
}

/// Which of the scenes is that of a level: for rays that want it, or for those that it stands in for.
fn place(wanted: usize, level: usize) -> usize {
    2 * level + usize::from(level != wanted)
}
