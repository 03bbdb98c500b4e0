//! Owns what neighbouring rays need not find out one by one: [`Beams`]. The ray in the middle of a few pixels looks at blocks of voxels that see as far as the
//! rays around it may be; where it finds nothing, none of them does.
//!
//! ```text
//!   pixels 4 x 4: 16 rays    ----[=====]-----------[==]---->    the spans of the ray in their middle, by distance
//! ```

use super::camera::Axes;
use super::occupancy::SkipCache;
use super::options::Options;
use super::path::{Course, Path};
use crate::view::kernels::bits::{Blocks, NEAR, WIDE};
use crate::view::kernels::{GROUP, Look, SCAN};

/// How far the rays of a beam may be from the one in the middle, in voxels: what blocks see further than for one ray, less what fixed point may be off.
const MOST_APART: f64 = (WIDE - NEAR) as f64 - 0.05;

/// How the rays of a picture are bundled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beams<'a> {
    blocks: &'a Blocks,
    look: Look,
    /// Pixels of a beam along each side.
    pub(crate) edge: u32,
    /// Wide enough that the ray in the middle is in it wherever any ray is in the volume.
    course: Course,
}

impl<'a> Beams<'a> {
    /// `None` where too little is known of the volume, pixels are too far apart, or samples.
    pub(crate) fn new(
        cache: &'a SkipCache,
        look: Look,
        axes: &Axes,
        course: &Course,
        options: &Options,
    ) -> Option<Self> {
        let blocks = cache.blocks().filter(|_| options.skip_empty)?;
        let per_pixel = course.voxels_apart(axes, options.height);
        // Half the diagonal between the outermost pixels' centres.
        let apart = |edge: u32| f64::from(edge - 1) * std::f64::consts::FRAC_1_SQRT_2 * per_pixel;
        let edge = [8, 4, 2].into_iter().find(|&edge| apart(edge) <= MOST_APART)?;
        Some(Self { blocks, look, edge, course: course.wider(apart(edge) + 1.0) })
    }

    /// The spans of distances in which anything may matter to the rays of the pixels from `x`, `y` on. `None`: not known.
    #[inline(always)]
    pub(crate) fn spans<'s>(
        &self,
        axes: &Axes,
        options: &Options,
        [x, y]: [u32; 2],
        spans: &'s mut Vec<[f64; 2]>,
    ) -> Option<&'s [[f64; 2]]> {
        spans.clear();
        let half = 0.5 * f64::from(self.edge);
        let middle = axes.ray(f64::from(x) + half, f64::from(y) + half, options.width, options.height);
        let Some(path) = self.course.path(&middle) else { return Some(spans) };
        let stride = self.look.stride(path.step);
        if !stride.short {
            return None;
        }
        // Group `i` stands for the eight steps after the distance `enter + i * group`.
        let (enter, group) = (path.first - 0.5 * self.course.step, f64::from(GROUP) * self.course.step);
        let mut begin = 0;
        while begin < path.samples {
            let mut set = self.look.near(self.blocks, path.at(begin), &stride);
            while set != 0 {
                let first = set.trailing_zeros();
                let count = (set >> first).trailing_ones();
                let from = enter + f64::from(begin / GROUP + first) * group;
                let to = from + f64::from(count) * group;
                match spans.last_mut() {
                    // A short gap is not worth beginning anew.
                    Some(last) if last[1] + 3.0 * group >= from => last[1] = to,
                    _ => spans.push([from, to]),
                }
                set &= !(((1 << count) - 1) << first);
            }
            begin += SCAN;
        }
        Some(spans)
    }
}

/// The samples of a ray in a span: from the first to before the second.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is meant")]
pub(crate) fn samples_in(path: &Path, step: f64, [from, to]: [f64; 2]) -> [u32; 2] {
    let inverse = 1.0 / step;
    let (from, to) = ((from - path.first) * inverse, (to - path.first) * inverse);
    // One more on either side, for what rounding may do.
    [(from - 1.0) as u32, ((to + 2.0) as u32).min(path.samples)]
}
