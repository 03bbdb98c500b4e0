//! Owns [`finish`]: the whole picture of one level through a budget that does not hold what it needs, tile by tile.

use std::time::Instant;

use vastgrid::render::ExactRender;
use vastgrid::{Scalar, SparseArray3D};

use crate::Failure;
use crate::eye::{Look, Quality};
use crate::view::{Facts, View};

/// Loads what rays wait for and lets them go on, until all have ended. Tells `goes_on` how many are left; `None` where that says no.
pub(crate) fn finish<T: Scalar>(
    array: &SparseArray3D<T>,
    facts: &Facts,
    view: &View,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Look>, Failure> {
    let (begun, options) = (Instant::now(), view.options(facts, 1));
    let (camera, transfer) = (view.camera(facts), view.transfer(facts)?);
    let mut exact = ExactRender::new(facts.extent, &camera, &transfer, &options)?;
    loop {
        let frame = array.frame();
        let progress = exact.advance::<T, _>(&*frame)?;
        drop(frame);
        if progress.done {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            return Ok(Some(Look { image: exact.image()?, ms, quality: Quality::finished() }));
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
