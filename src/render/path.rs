//! Owns where the samples of a ray lie: [`Path`], in fixed point, and how many samples stay in a box. Knows nothing of bricks' contents.
//!
//! Sample `k` lies at `start + k * step`, in integers: it is the same whichever brick, batch or turn of an exact picture it is computed in.
//!
//! ```text
//!   voxel i's centre is at i << 32          the volume reaches from -0.5 to n - 0.5
//!   |--.--|--.--|--.--|                     a sample's support: the voxels below and above it
//! ```

use super::camera::{Axes, Ray};
use super::error::RenderError;
use super::options::Options;
use crate::geometry::Extent;

/// One voxel in fixed point.
pub(crate) const ONE: i64 = 1 << 32;
/// The longest side of a volume, in voxels.
pub(crate) const MAX_EXTENT: u64 = 1 << 30;
/// The most samples of a ray.
pub(crate) const MAX_SAMPLES: u32 = 1 << 28;

/// The part of the volume that rays are followed through, and how. In voxels, the first voxel's centre being 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) low: [f64; 3],
    pub(crate) high: [f64; 3],
    /// Voxels in a unit of the world.
    pub(crate) per_world: [f64; 3],
    /// Distance between samples in the world.
    pub(crate) step: f64,
}

impl Course {
    #[expect(clippy::cast_precision_loss, reason = "an extent is at most MAX_EXTENT")]
    pub(crate) fn new(extent: Extent, options: &Options) -> Result<Self, RenderError> {
        let spacing = options.spacing;
        let sides = extent.to_array().map(|n| n as f64);
        let (mut low, mut high) = ([0.0; 3], sides);
        if let Some(clip) = options.clip {
            for a in 0..3 {
                low[a] = clip.low[a].clamp(0.0, sides[a]);
                high[a] = clip.high[a].clamp(low[a], sides[a]);
            }
        }
        let step = options.step_voxels * spacing.into_iter().fold(f64::INFINITY, f64::min);
        let diagonal = (0..3).map(|a| ((high[a] - low[a]) * spacing[a]).powi(2)).sum::<f64>().sqrt();
        let samples = diagonal / step + 2.0;
        if samples > f64::from(MAX_SAMPLES) {
            return Err(RenderError::TooManySamples { samples, max: MAX_SAMPLES });
        }
        let centred = |v: [f64; 3]| v.map(|v| v - 0.5);
        Ok(Self { low: centred(low), high: centred(high), per_world: spacing.map(|s| 1.0 / s), step })
    }

    /// The same with so many voxels more on every side.
    pub(crate) fn wider(&self, voxels: f64) -> Self {
        Self { low: self.low.map(|v| v - voxels), high: self.high.map(|v| v + voxels), ..*self }
    }

    /// How far apart the rays of neighbouring pixels may be anywhere in the box, in voxels.
    pub(crate) fn voxels_apart(&self, axes: &Axes, height: u32) -> f64 {
        let corner = |i: usize| -> [f64; 3] {
            std::array::from_fn(|a| {
                (if i >> a & 1 == 1 { self.high[a] } else { self.low[a] } + 0.5) / self.per_world[a]
            })
        };
        let furthest = (0..8).map(|i| axes.distance(corner(i))).fold(0.0, f64::max);
        axes.apart(furthest, height) * self.per_world.into_iter().fold(0.0, f64::max)
    }

    /// The samples of a ray, or `None` where there are none. They lie in the middle of equal steps from where the ray enters the box.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the box; `as` saturates"
    )]
    #[inline(always)]
    pub(crate) fn path(&self, ray: &Ray) -> Option<Path> {
        let (mut enter, mut leave) = (0.0f64, f64::INFINITY);
        let (mut origin, mut direction) = ([0.0; 3], [0.0; 3]);
        for a in 0..3 {
            let (o, d) = (ray.origin[a] * self.per_world[a] - 0.5, ray.direction[a] * self.per_world[a]);
            (origin[a], direction[a]) = (o, d);
            if ray.direction[a].abs() < 1e-12 {
                if !(self.low[a]..=self.high[a]).contains(&o) {
                    return None;
                }
                continue;
            }
            let inverse = 1.0 / d;
            let (t0, t1) = ((self.low[a] - o) * inverse, (self.high[a] - o) * inverse);
            let (near, far) = if inverse > 0.0 { (t0, t1) } else { (t1, t0) };
            enter = if near > enter { near } else { enter };
            leave = if far < leave { far } else { leave };
        }
        let samples = (leave - enter) / self.step + 0.5;
        if !(samples >= 1.0 && samples.is_finite()) {
            return None;
        }
        let first = enter + 0.5 * self.step;
        let fixed = |voxels: f64| (voxels * ONE as f64) as i64;
        let start = |a: usize| fixed(origin[a] + first * direction[a]);
        let step = |a: usize| fixed(self.step * direction[a]);
        let samples = samples.min(f64::from(MAX_SAMPLES)) as u32;
        let (start, step) = ([start(0), start(1), start(2)], [step(0), step(1), step(2)]);
        Some(Path { first, ..Path::new(start, step, samples, *ray) })
    }
}

/// The samples of one ray.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    start: [i64; 3],
    /// From one sample to the next.
    pub(crate) step: [i64; 3],
    /// 1 / step, or NaN.
    inverse: [f64; 3],
    /// How many there are.
    pub(crate) samples: u32,
    /// How far along the ray the first one is, in the world.
    pub(crate) first: f64,
    /// The ray that they lie on.
    pub(crate) ray: Ray,
}

impl Path {
    #[expect(clippy::cast_precision_loss, reason = "an estimate that errs on the safe side, see `run`")]
    #[inline(always)]
    fn new(start: [i64; 3], step: [i64; 3], samples: u32, ray: Ray) -> Self {
        let inverse = step.map(|s| if s == 0 { f64::NAN } else { 1.0 / s as f64 });
        Self { start, step, inverse, samples, first: 0.0, ray }
    }

    /// Where sample `k` is.
    #[inline(always)]
    pub(crate) fn at(&self, k: u32) -> [i64; 3] {
        let along = |a: usize| self.start[a].wrapping_add(self.step[a].wrapping_mul(i64::from(k)));
        [along(0), along(1), along(2)]
    }

    /// The same ray through a coarser level: every sample stands for `stride` of these, in the middle of them, in voxels that are `factor` of these voxels along each axis.
    #[expect(clippy::cast_possible_truncation, reason = "places of a volume, and steps, divided")]
    #[expect(
        clippy::cast_precision_loss,
        reason = "steps of a coarse level need not be exact to the last bit"
    )]
    pub(crate) fn coarser(&self, stride: u32, factor: [f64; 3], step_world: f64) -> Self {
        let middle = 0.5 * f64::from(stride) - 0.5;
        let half = (ONE / 2) as f64;
        let start = std::array::from_fn(|a| {
            let at = self.start[a] as f64 + self.step[a] as f64 * middle;
            ((at + half) / factor[a] - half) as i64
        });
        let step = std::array::from_fn(|a| (self.step[a] as f64 * f64::from(stride) / factor[a]) as i64);
        let first = self.first + middle * step_world;
        Self { first, ..Self::new(start, step, self.samples.div_ceil(stride), self.ray) }
    }

    /// Where the ray is `part` of 2^`bits` of a step behind sample `k`.
    pub(crate) fn between(&self, k: u32, part: i64, bits: u32) -> [i64; 3] {
        let from = self.at(k);
        std::array::from_fn(|a| from[a].wrapping_add(self.step[a].wrapping_mul(part) >> bits))
    }

    /// How many samples from one at `p` on lie before the ray's ends along each axis, as `p` does: one at least, and never too many. (One too few may be
    /// told where a sample lies exactly on an end.)
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    #[expect(clippy::cast_precision_loss, reason = "an estimate that is made to err downwards")]
    pub(crate) fn run(&self, p: [i64; 3], ends: [i64; 3]) -> u32 {
        let mut least = f64::INFINITY;
        for a in 0..3 {
            // NaN, which `<` refuses, where the ray goes along the face.
            let steps = (ends[a] - p[a]) as f64 * self.inverse[a];
            least = if steps < least { steps } else { least };
        }
        (least * DOWNWARDS) as u32 + u32::from(least < f64::from(u32::MAX))
    }
}

const DOWNWARDS: f64 = 1.0 - 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_in_the_middle_of_steps_through_the_box() {
        let course = Course::new(Extent::cube(10), &Options::default()).unwrap();
        let ray = Ray { origin: [-5.0, 5.0, 5.0], direction: [1.0, 0.0, 0.0] };
        let path = course.path(&ray).unwrap();
        assert_eq!((path.samples, path.at(0)), (20, [-ONE / 4, 9 * ONE / 2, 9 * ONE / 2]));
        assert_eq!(path.at(19)[0], 9 * ONE + ONE / 4);
        assert!(course.path(&Ray { direction: [-1.0, 0.0, 0.0], ..ray }).is_none());
        assert!(course.path(&Ray { origin: [-5.0, 11.0, 5.0], ..ray }).is_none());
    }

    #[test]
    fn runs_never_leave_the_box_nor_stop_early() {
        let mut state = 7u64;
        let mut random = |range: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 20) % range).cast_signed()
        };
        let (low, high) = ([0, 0, ONE], [8 * ONE, 4 * ONE, 3 * ONE]);
        let inside = |p: [i64; 3]| (0..3).all(|a| (low[a]..high[a]).contains(&p[a]));
        for i in 0..20_000 {
            let step: [i64; 3] =
                std::array::from_fn(|_| (random(3) - 1) * [random(1 << 32), 1 << 31, 1][i % 3]);
            if step == [0; 3] {
                continue;
            }
            let at = std::array::from_fn(|a| low[a] + random((high[a] - low[a]).unsigned_abs()));
            let path = Path::new(at, step, u32::MAX, Ray { origin: [0.0; 3], direction: [0.0; 3] });
            let run = path.run(at, [0, 1, 2].map(|a| if step[a] > 0 { high[a] } else { low[a] }));
            assert!(run >= 1 && inside(path.at(run - 1)), "{at:?} {step:?} {run}");
            assert!(run == u32::MAX || !inside(path.at(run + 1)), "{at:?} {step:?} {run}");
        }
    }

    #[test]
    fn too_many_samples_are_refused() {
        let fine = Options { step_voxels: 1e-3, ..Options::default() };
        assert!(matches!(Course::new(Extent::cube(1 << 29), &fine), Err(RenderError::TooManySamples { .. })));
    }
}
