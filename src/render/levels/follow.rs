//! Owns how a ray goes through levels: at the one that is wanted as far as that is there, and through what is missing at the next coarser one. Knows nothing of what a level is cast by: that is
//! [`march`]'s.

use super::super::grid::BrickBox;
use super::super::held::Content;
use super::super::interactive::BAND_ROWS;
use super::super::look_up::look_up;
use super::super::march::{Halt, Method, Scene, march};
use super::super::met::{Latest, Table};
use super::super::options::Options;
use super::super::path::Path;
use super::super::volume::Volume;
use super::report::Counts;
use super::{Job, MAX_LEVELS};
use crate::voxel::Scalar;

/// Some rows of a picture.
pub(super) struct Band<'r, 'a, T, V, M> {
    pub(super) job: &'r Job<'a, V>,
    pub(super) scenes: &'r [Scene<'a, T, V>],
    pub(super) methods: &'r [&'r M],
    pub(super) tables: Vec<&'r mut Table<'a, T>>,
    /// Missing tiles that were noted of late.
    pub(super) noted: Vec<Latest<(), 8>>,
    pub(super) counts: Counts,
}

/// A ray on its way.
struct Going<S> {
    /// Through the finest level.
    path: Path,
    /// Through each, once it was asked for.
    paths: [Option<Path>; MAX_LEVELS],
    state: S,
    /// The step at which it ended, roughly.
    at: u32,
    lacking: bool,
    uncovered: bool,
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
        let state = self.methods[0].begin();
        let mut ray =
            Going { path, paths: [None; MAX_LEVELS], state, at: 0, lacking: false, uncovered: false };
        let mut k = 0;
        while k < path.samples {
            let (level, until) = self.wanted(&path, k);
            if self.follow(&mut ray, level, level, k, until) {
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

    /// Takes the steps from `from` to `until` at a level, and where it lacks something at coarser ones. Whether the ray has ended.
    fn follow(
        &mut self,
        ray: &mut Going<M::State>,
        wanted: usize,
        level: usize,
        from: u32,
        until: u32,
    ) -> bool {
        let (scenes, job) = (self.scenes, self.job);
        // Whether it stands in.
        let place = 2 * level + usize::from(level != wanted);
        let (scene, stride) = (&scenes[place], job.strides[level]);
        let path = *ray.paths[level].get_or_insert_with(|| {
            if level == 0 {
                ray.path
            } else {
                ray.path.coarser(stride, job.factors[level], job.prepared.step())
            }
        });
        // A sample stands for the steps around it: whichever level has its middle takes it.
        let nearest = |k: u32| if stride == 1 { k } else { k.saturating_add(stride / 2) / stride };
        let end = if until == ray.path.samples { path.samples } else { nearest(until) };
        let fine = |k: u32| k.saturating_mul(stride).min(until);
        let mut left = nearest(from)..end;
        while left.start < left.end {
            let at = left.start;
            // Tiles of which nothing is known are passed here, several at once; of others the march finds out whether they matter.
            let unknown = self.pass_missing(place, &path, &mut left);
            if !unknown {
                let (table, tally) = (&mut *self.tables[place], &mut self.counts.tallies[place]);
                let halt = march(scene, self.methods[level], table, &path, &mut left, &mut ray.state, tally);
                let steps = u64::from(left.start.min(left.end) - at) * u64::from(stride);
                self.counts.shown[wanted][level] += steps;
                ray.lacking |= level == wanted && std::mem::take(&mut tally.clamped);
                match halt {
                    Halt::Ended => {
                        ray.at = left.start.saturating_mul(stride);
                        return true;
                    }
                    Halt::Through => return false,
                    Halt::Waits => {}
                }
            }
            let begin = if unknown { at } else { left.start };
            if !unknown {
                let p = path.at(begin);
                let ends = scene.grid.ends(BrickBox::one(scene.grid.brick_below(p)));
                let ends = [0, 1, 2].map(|a| ends[usize::from(path.step[a] > 0)][a]);
                left.start = begin.saturating_add(path.run(p, ends)).min(left.end);
            }
            let next = left.start;
            let to = if next == left.end { until } else { fine(next) };
            let ended = self.stand_in(ray, wanted, level, fine(begin).max(from), to);
            if unknown {
                // What lies behind where it ended is not lacked.
                let seen = if ended { ray.at / stride } else { u32::MAX };
                self.note_missing(place, &path, at..next.min(seen.saturating_add(1)));
            }
            if ended {
                return true;
            }
        }
        false
    }

    /// Passes the tiles that are missing at the first sample left and right after it, of which nothing is known. Whether there was any.
    #[inline(always)]
    fn pass_missing(&mut self, place: usize, path: &Path, left: &mut std::ops::Range<u32>) -> bool {
        let (scene, method) = (&self.scenes[place], self.methods[place / 2]);
        let begin = left.start;
        while left.start < left.end {
            let p = path.at(left.start);
            let tile = scene.grid.brick_below(p);
            let Table { bricks, groups } = &mut *self.tables[place];
            let held = bricks.get(tile, || look_up(scene, method, tile, groups));
            if !(matches!(held.content, Content::Missing) && held.most == f32::INFINITY) {
                break;
            }
            left.start = left.start.saturating_add(path.run(p, held.ends(path.step))).min(left.end);
        }
        left.start > begin
    }

    /// Notes that such tiles are lacked: once for all rays of a block of pixels that come to one.
    #[inline(always)]
    fn note_missing(&mut self, place: usize, path: &Path, mut left: std::ops::Range<u32>) {
        let (scene, method) = (&self.scenes[place], self.methods[place / 2]);
        while left.start < left.end {
            let p = path.at(left.start);
            let tile = scene.grid.brick_below(p);
            let Table { bricks, groups } = &mut *self.tables[place];
            let held = bricks.get(tile, || look_up(scene, method, tile, groups));
            left.start = left.start.saturating_add(path.run(p, held.ends(path.step)));
            let tally = &mut self.counts.tallies[place];
            self.noted[place].get(tile, || tally.wait(BrickBox::one(tile)));
        }
    }

    /// Has coarser levels show some steps that a level lacks. Whether the ray has ended.
    fn stand_in(
        &mut self,
        ray: &mut Going<M::State>,
        wanted: usize,
        level: usize,
        from: u32,
        until: u32,
    ) -> bool {
        ray.lacking |= level == wanted;
        if level + 1 < self.job.levels.len() {
            return self.follow(ray, wanted, level + 1, from, until);
        }
        ray.uncovered = true;
        self.counts.uncovered += u64::from(until.saturating_sub(from));
        false
    }
}
