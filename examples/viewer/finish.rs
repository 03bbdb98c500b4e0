//! Owns [`finish`]: the whole picture of one level through a budget that does not hold what it needs, tile by tile. Knows nothing of what makes it.

use std::time::Instant;

use vastgrid::render::{Image, Progress};
use vastgrid::{Backend, Scalar, SparseArray3D};

use crate::Failure;
use crate::eye::{Look, Quality};

/// Loads what rays wait for and has them go on by `turn`, until all have ended and `image` has the picture. Tells `goes_on` how many are left; `None` where that says no.
pub(crate) fn finish<T: Scalar, B: Backend, P>(
    array: &SparseArray3D<T, B>,
    mut picture: P,
    mut turn: impl FnMut(&mut P) -> Result<Progress, Failure>,
    image: impl FnOnce(P) -> Result<Image, Failure>,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Look>, Failure> {
    let begun = Instant::now();
    loop {
        let progress = turn(&mut picture)?;
        if progress.done {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            return Ok(Some(Look { image: image(picture)?, ms, quality: Quality::finished() }));
        }
        if !goes_on(progress.rays_left) {
            return Ok(None);
        }
        let tiles: Vec<_> = progress.wanted.iter().flat_map(|group| &group.tiles).copied().collect();
        let _report = array.request_fitting(&tiles)?.complete()?;
        // Where no ray went on, perhaps not even one group fits. Asking for it says how much it needs.
        if let Some(group) = progress.wanted.first().filter(|_| progress.samples == 0) {
            let _report = array.request(&group.tiles)?.complete()?;
        }
    }
}
