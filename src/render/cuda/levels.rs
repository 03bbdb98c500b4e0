//! Owns pictures of several resolutions as an explorer takes them, made by a CUDA device: [`CudaCaster::render_levels`], and the report of one. Knows nothing of kernels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::camera::Axes;
use super::super::error::{RenderError, checked};
use super::super::levels::{LackedTile, LevelsReport, MetTile, RenderLevel, RenderedLevels};
use super::plan::{CastPlan, PlanLevel};
use super::report::{CastReport, MetOfLevel};
use super::{CastPicture, CudaCaster};
use crate::array::SparseArray3D;
use crate::backend::CudaBackend;
use crate::device::DeviceFrame;
use crate::layout::TileCoord;
use crate::render::{Camera, Options, TransferFunction};
use crate::voxel::Scalar;

/// Room for tiles that a picture lacks, besides those that are there, at first and at most.
pub(super) const ROOM: u64 = 1 << 14;
const MOST_ROOM: u64 = 1 << 19;

impl CudaCaster {
    /// Begins a picture of what is resident now of a volume of several levels, and returns at once: as [`render_levels`](super::super::render_levels), which says what the arguments are. The finest level comes first,
    /// and need not be level 0.
    ///
    /// Space is leapt over where ranges are known: see [`PyramidBuilder::track_ranges`](crate::PyramidBuilder::track_ranges).
    ///
    /// **Cost**: as [`CudaCaster::render`], another walk along each ray without its samples, and 16 bytes for each of some twice as many tiles as are resident, which come back.
    ///
    /// # Errors
    /// As [`CudaCaster::render`]; [`RenderError::Level`] where a level's factors are no whole multiples of the finest one's, [`RenderError::Value`] for a bias beyond -16 to 16.
    pub fn render_levels<'p, T: Scalar>(
        &'p self,
        frame: &DeviceFrame<'p>,
        levels: &[RenderLevel<'p, SparseArray3D<T, CudaBackend>>],
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
        bias: f64,
    ) -> Result<LevelsPicture, RenderError> {
        checked("the level bias", bias, "from -16 to 16", |b| b.abs() <= 16.0)?;
        let Some(&RenderLevel { volume: first, factor: base }) = levels.first() else {
            return Err(RenderError::Levels { levels: 0, max: super::MAX_LEVELS });
        };
        let spacing: [f64; 3] = std::array::from_fn(|a| options.spacing[a] * base[a]);
        let mut plans = Vec::with_capacity(levels.len());
        let mut shapes = Vec::with_capacity(levels.len());
        for (level, &RenderLevel { volume: array, factor }) in levels.iter().enumerate() {
            let factor = whole(factor, base).ok_or(RenderError::Level {
                level,
                levels: levels.len(),
                problem: "kernels take whole multiples of the finest level's factors",
            })?;
            let view = frame.view(array, self.launcher.stream()).map_err(Box::new)?;
            plans.push(PlanLevel { view, layout: array.layout(), factor });
            let shape = array.layout().tile_shape().to_array();
            shapes.push(std::array::from_fn(|a| shape[a] as f64 * f64::from(factor[a]) * spacing[a]));
        }
        let options = Options { spacing, ..options.clone() };
        let plan = CastPlan::new::<T>(&plans, bias, camera, transfer, &options)?;
        // Of the whole pool, but no more than these levels have.
        let slots = levels.iter().map(|level| level.volume.layout().tile_slots()).sum();
        let resident = first.engine().stats().resident_tiles.min(slots);
        let picture = self.launch(plan.telling_met(resident + self.room.load(Ordering::Relaxed)))?;
        Ok(LevelsPicture { picture, axes: camera.frame()?, shapes, room: Arc::clone(&self.room) })
    }
}

/// How many voxels of the finest level one covers along each axis, if that is a whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole")]
fn whole(factor: [f64; 3], base: [f64; 3]) -> Option<[u32; 3]> {
    let times: [f64; 3] = std::array::from_fn(|a| factor[a] / base[a]);
    let is_whole = |v: f64| v >= 1.0 && v <= f64::from(u32::MAX) && (v - v.round()).abs() <= 1e-9 * v;
    times.into_iter().all(is_whole).then(|| times.map(|v| v.round() as u32))
}

/// A picture under way. Dropping it waits for it.
#[derive(Debug)]
#[must_use = "a picture is for looking at"]
pub struct LevelsPicture {
    picture: CastPicture,
    axes: Axes,
    /// Edges of each level's tiles in the world.
    shapes: Vec<[f64; 3]>,
    /// The caster's.
    room: Arc<AtomicU64>,
}

impl LevelsPicture {
    /// Whether it is there.
    ///
    /// # Errors
    /// [`RenderError::Array`]: the device is lost.
    pub fn is_done(&self) -> Result<bool, RenderError> {
        self.picture.is_done()
    }

    /// The picture, once it is there. What it lacks is as of when it was begun. Where it met and lacked more tiles than there was room to tell of, [`LevelsReport::came`] says how often, and the next
    /// picture has more room, up to half a million.
    ///
    /// # Errors
    /// [`RenderError::Array`]: the device is lost.
    pub fn wait(self) -> Result<RenderedLevels, RenderError> {
        let Self { picture, axes, shapes, room } = self;
        let rendered = picture.wait()?;
        if rendered.report.met_beyond > 0 {
            room.store((room.load(Ordering::Relaxed) * 4).min(MOST_ROOM), Ordering::Relaxed);
        }
        Ok(RenderedLevels { image: rendered.image, report: report_of(&rendered.report, &axes, &shapes) })
    }
}

fn report_of(cast: &CastReport, axes: &Axes, shapes: &[[f64; 3]]) -> LevelsReport {
    let levels = 0..shapes.len();
    let distance = |tile: TileCoord, shape: &[f64; 3]| {
        let at = [tile.x, tile.y, tile.z];
        axes.distance(std::array::from_fn(|a| (at[a] as f64 + 0.5) * shape[a]))
    };
    let of_level = |level: usize, there: bool| {
        cast.met.iter().filter(move |met| met.level == level && met.there == there)
    };
    let met = |(level, shape): (usize, &[f64; 3])| {
        let tile =
            |m: &MetOfLevel| MetTile { tile: m.tile, wanted: m.wanted, distance: distance(m.tile, shape) };
        of_level(level, true).map(tile).collect()
    };
    let mut lacked = Vec::new();
    for (level, shape) in shapes.iter().enumerate().rev() {
        let tile = |m: &MetOfLevel| LackedTile {
            level,
            tile: m.tile,
            rays: m.lacked,
            wanted: m.wanted,
            distance: distance(m.tile, shape),
        };
        let mut of_it: Vec<_> = of_level(level, false).map(tile).collect();
        of_it.sort_unstable_by_key(|lacked| (std::cmp::Reverse(lacked.rays), lacked.tile));
        lacked.extend(of_it);
    }
    let shown = |wanted| levels.clone().map(|shown| cast.shown.samples(wanted, Some(shown))).collect();
    LevelsReport {
        lacked,
        came: cast.met_beyond,
        met: shapes.iter().enumerate().map(met).collect(),
        shown: levels.clone().map(shown).collect(),
        uncovered: levels.clone().map(|wanted| cast.shown.samples(wanted, None)).sum(),
        rays: cast.rays,
        rays_incomplete: cast.rays_incomplete,
        rays_uncovered: cast.rays_uncovered,
        samples: cast.samples,
        skipped: cast.skipped,
    }
}
