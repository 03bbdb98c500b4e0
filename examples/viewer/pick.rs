//! Owns [`pick`]: where a ray first meets something, in what is there of a volume. Knows nothing of pictures, nor of where voxels lie.

use vastgrid::{Coord, Scalar};

use crate::view::{Facts, Shown, View};

/// What is seen from this opacity on,
const SEEN: f32 = 0.06;
/// and how many steps are looked for it at most.
const MOST_STEPS: u32 = 20_000;

/// The place that the ray through `at`, in parts of the picture's sides, meets first; in the world. `value` of a voxel of level 0: that of the finest level that is there.
pub(crate) fn pick<T: Scalar>(
    facts: &Facts,
    view: &View,
    at: [f64; 2],
    mut value: impl FnMut(Coord) -> Option<T>,
) -> Option<[f64; 3]> {
    let (width, height) = (view.width, view.height);
    let ray =
        view.camera(facts).ray(at[0] * f64::from(width), at[1] * f64::from(height), width, height).ok()?;
    let size = facts.extent.to_array();
    let corner =
        |side: usize| [0, 1, 2].map(|axis| view.clip[side][axis] * size[axis] as f64 * facts.spacing[axis]);
    let (mut from, to) = crossed(ray.origin, ray.direction, corner(0), corner(1))?;
    let (transfer, iso) = (view.transfer(facts).ok()?, view.iso.unwrap_or_else(|| facts.surface()));
    let finest = facts.spacing.into_iter().fold(f64::INFINITY, f64::min);
    let step = view.pixel(facts).max((to - from) / f64::from(MOST_STEPS)).max(0.5 * finest);
    let mut brightest: Option<(f32, [f64; 3])> = None;
    while from < to {
        let place = [0, 1, 2].map(|axis| ray.origin[axis] + ray.direction[axis] * from);
        from += step;
        let voxel = [0, 1, 2].map(|axis| whole(place[axis] / facts.spacing[axis]));
        let Some(value) = value(voxel.into()).map(Scalar::to_f32).filter(|value| value.is_finite()) else {
            continue;
        };
        match view.mode {
            Shown::Mip if brightest.is_none_or(|(most, _)| value > most) => brightest = Some((value, place)),
            Shown::Iso if value >= iso => return Some(place),
            Shown::Dvr | Shown::Shaded if transfer.evaluate(value)[3] >= SEEN => return Some(place),
            _ => {}
        }
    }
    brightest.map(|(_, place)| place)
}

/// From where to where a ray is in a box.
fn crossed(origin: [f64; 3], direction: [f64; 3], low: [f64; 3], high: [f64; 3]) -> Option<(f64, f64)> {
    let (mut from, mut to) = (0.0f64, f64::INFINITY);
    for axis in 0..3 {
        let [a, b] = [low, high].map(|corner| (corner[axis] - origin[axis]) / direction[axis]);
        // Along a face both are no numbers: it is inside.
        from = from.max(a.min(b));
        to = to.min(a.max(b));
    }
    (from < to && to.is_finite()).then_some((from, to))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn whole(at: f64) -> u64 {
    at.max(0.0) as u64
}
