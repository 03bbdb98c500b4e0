//! Owns what tells one scene from another: [`scene_of`].

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::render::{Camera, Mode, Options, Projection, TransferFunction};

/// All that says how much a picture needs, and through what budget, in words that are others where it is.
pub(super) fn scene_of(
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
    budget_bytes: u64,
) -> Vec<u64> {
    let places = [camera.eye, camera.target, camera.up];
    let mut words: Vec<_> = places.into_iter().flatten().map(f64::to_bits).collect();
    words.push(match camera.projection {
        Projection::Perspective { fov_degrees } => fov_degrees.to_bits(),
        Projection::Orthographic { height } => !height.to_bits(),
    });
    let mut looks = DefaultHasher::new();
    format!("{transfer:?}").hash(&mut looks);
    words.push(looks.finish());
    words.extend(options.spacing.map(f64::to_bits));
    words.extend([
        u64::from(options.width),
        u64::from(options.height),
        budget_bytes,
        options.step_voxels.to_bits(),
    ]);
    words.extend(options.clip.into_iter().flat_map(|clip| [clip.low, clip.high]).flatten().map(f64::to_bits));
    words.push(match options.mode {
        Mode::Iso { value, .. } => u64::from(value.to_bits()),
        Mode::Mip => u64::MAX,
        Mode::Dvr { .. } => u64::MAX - 1,
    });
    words
}
