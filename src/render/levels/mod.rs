//! Owns pictures of several resolutions: [`render_levels`]. Each sample is taken from the finest level that is there, but none finer than its pixel can show. Rays are followed through
//! each level as through a volume by itself; knows nothing of where levels come from, or when.
//!
//! ```text
//!   wanted    |0 0 0 0 0 0 0 0 0 0 0 0|1   1   1   1   1   1|     by the distance between pixels' rays there
//!   level 0   |. . . . . .|    x      |                     |     x: a tile is missing: up to its end ...
//!   level 1   |           |.   .   .  |.   .   .   x        |     ... the next coarser level stands in, with samples as much further apart, and opacities for that
//!   level 2   |           |           |            |.       |
//! ```

mod follow;
mod missing;
mod report;

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::camera::Camera;
use super::error::{RenderError, checked};
use super::grid::Grid;
use super::image::Image;
use super::interactive::BAND_ROWS;
use super::march::{Method, Scene};
use super::met::{Met, Tables};
use super::occupancy::SkipCache;
use super::options::Options;
use super::prepare::{AnyMethod, Prepared};
use super::tally::Tally;
use super::transfer::TransferFunction;
use super::volume::{Brick, Volume};
use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::view::kernels::{Kernels, compiled_for_machine};
use crate::voxel::Scalar;

use follow::{Band, Leg};
use report::Counts;
pub use report::{LackedTile, LevelsReport, MetTile, RenderedLevels};

/// The most levels of a picture.
pub const MAX_LEVELS: usize = 16;

/// A level of a volume, for [`render_levels`].
#[derive(Debug)]
pub struct RenderLevel<'a, V> {
    /// What there is of it.
    pub volume: &'a V,
    /// Level-0 voxels per voxel of it along x, y and z, 1 at least: its voxel `i` covers `[i f, (i + 1) f)`.
    pub factor: [f64; 3],
}

impl<V> Clone for RenderLevel<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for RenderLevel<'_, V> {}

/// What is known of empty space, level by level: see [`SkipCache`]. Keep one from picture to picture.
#[derive(Debug, Default)]
pub struct LevelCaches {
    levels: Vec<SkipCache>,
}

/// Renders what is there now of a volume of several levels, on the rayon pool that it is called from.
///
/// Finest level first; level 0 need not be among them, but factors grow from each to the next. Along each ray the level wanted is the coarsest whose voxels are no larger than the
/// pixels are apart there, times 2^`bias`, or else the first; with a bias of 0 a picture of what is all there has the detail that its pixels can show. `options.spacing` is that of voxels of factor 1.
/// Where the level wanted is the first one throughout, and all of it is there, the picture is that of [`render`](super::render) of that level, bit for bit.
///
/// **Cost**: as [`render`](super::render); samples of a coarser level are as much further apart as its voxels are.
///
/// # Errors
/// As [`render`](super::render), for each of the levels; [`RenderError::Value`] for factors that do not grow or a bias that is no number, [`RenderError::Levels`] for none or too many.
pub fn render_levels<T: Scalar, V: Volume<T>>(
    levels: &[RenderLevel<'_, V>],
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
    bias: f64,
    caches: &mut LevelCaches,
) -> Result<RenderedLevels, RenderError> {
    // Never set, so the first one is made.
    let never = AtomicBool::new(false);
    loop {
        if let Some(rendered) = render_levels_unless(levels, camera, transfer, options, bias, caches, &never)?
        {
            return Ok(rendered);
        }
    }
}

/// As [`render_levels`], but gives up soon once `stop` is set: `None`. For who is asked for another picture meanwhile. **Cost**: a look at `stop` for each few rows.
///
/// # Errors
/// As [`render_levels`].
pub fn render_levels_unless<T: Scalar, V: Volume<T>>(
    levels: &[RenderLevel<'_, V>],
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
    bias: f64,
    caches: &mut LevelCaches,
    stop: &AtomicBool,
) -> Result<Option<RenderedLevels>, RenderError> {
    let Some(first) = levels.first().filter(|_| levels.len() <= MAX_LEVELS) else {
        return Err(RenderError::Levels { levels: levels.len(), max: MAX_LEVELS });
    };
    checked("the level bias", bias, "from -16 to 16", |b| b.abs() <= 16.0)?;
    let mut least = [1.0; 3];
    for level in levels {
        for (factor, least) in level.factor.into_iter().zip(&mut least) {
            checked("a level's factor", factor, "no less than the finer level's", |f| {
                (*least..=1e9).contains(&f)
            })?;
            *least = factor;
        }
    }
    // In voxels of the finest level that there is.
    let base = first.factor;
    let options = &Options { spacing: times(options.spacing, base), ..options.clone() };
    let prepared = Prepared::new(first.volume.extent(), camera, transfer, options)?;
    let factors: Vec<_> = levels.iter().map(|level| divided(level.factor, base)).collect();
    let strides: Vec<_> = factors.iter().map(|&factor| stride(factor, options.spacing)).collect();
    let method = |level: usize| {
        let spacing = times(options.spacing, factors[level]);
        AnyMethod::new(transfer, options, prepared.step() * f64::from(strides[level]), spacing)
    };
    let methods: Vec<_> = (0..levels.len()).map(method).collect();
    let begins = begins(&prepared, &factors, bias);
    let (factors, strides, begins) = (&factors[..], &strides[..], &begins[..]);
    let job = Job { levels, prepared: &prepared, factors, strides, begins, stop };
    // All are of one kind.
    macro_rules! with {
        ($kind:ident) => {{
            let methods: Vec<_> = methods
                .iter()
                .filter_map(|m| if let AnyMethod::$kind(m) = m { Some(m) } else { None })
                .collect();
            job.picture(&methods, caches)
        }};
    }
    match &prepared.method {
        AnyMethod::Dvr(_) => with!(Dvr),
        AnyMethod::Mip(_) => with!(Mip),
        AnyMethod::Iso(_) => with!(Iso),
    }
}

/// How many steps of the finest level one of a coarser level stands for: as many as its voxels are larger along the axis along which both together are finest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1; `as` saturates")]
pub(super) fn stride(factor: [f64; 3], spacing: [f64; 3]) -> u32 {
    let finest = |v: [f64; 3]| v.into_iter().fold(f64::INFINITY, f64::min);
    (finest(times(spacing, factor)) / finest(spacing)).round().max(1.0) as u32
}

/// From which distance on each level is wanted: where its voxels are no larger than pixels are apart, times 2^bias.
pub(super) fn begins(prepared: &Prepared, factors: &[[f64; 3]], bias: f64) -> Vec<f64> {
    let spacing = prepared.options.spacing;
    let [apart, more] = prepared.pixels_apart().map(|v| v * bias.exp2());
    let begin = |(level, factor): (usize, &[f64; 3])| {
        let voxel = times(spacing, *factor).into_iter().fold(f64::INFINITY, f64::min);
        let at = (voxel - apart) / more;
        match level {
            0 => 0.0,
            // A parallel projection: everywhere or nowhere.
            _ if more <= 0.0 => {
                if voxel <= apart {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            _ => at.max(0.0),
        }
    };
    factors.iter().enumerate().map(begin).collect()
}

fn times(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] * b[i])
}

fn divided(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] / b[i])
}

/// What a picture is made of.
struct Job<'a, V> {
    levels: &'a [RenderLevel<'a, V>],
    prepared: &'a Prepared,
    /// Voxels of the finest level in one of each.
    factors: &'a [[f64; 3]],
    /// Steps of the finest level in one of each.
    strides: &'a [u32],
    begins: &'a [f64],
    /// Nobody waits for it any more.
    stop: &'a AtomicBool,
}

impl<V> Job<'_, V> {
    fn picture<T: Scalar, M: Method>(
        &self,
        methods: &[&M],
        caches: &mut LevelCaches,
    ) -> Result<Option<RenderedLevels>, RenderError>
    where
        V: Volume<T>,
    {
        let (levels, options) = (self.levels, &self.prepared.options);
        caches.levels.resize_with(levels.len(), SkipCache::new);
        let kernels = Kernels::select(options.simd);
        let met: Vec<_> = (0..2 * levels.len()).map(|_| Met::default()).collect();
        let mut grids = Vec::with_capacity(levels.len());
        for ((level, cache), method) in levels.iter().zip(&mut caches.levels).zip(methods) {
            let grid = Grid::new(level.volume)?;
            cache.begin(level.volume, &grid, method.weigh(), method.lasting_threshold());
            grids.push(grid);
        }
        // Two for each level: for rays that want it, and for those that it stands in for.
        let scenes: Vec<_> = (0..2 * levels.len())
            .map(|i| (i / 2, &met[i]))
            .map(|(l, met)| Scene {
                volume: levels[l].volume,
                grid: grids[l],
                cache: &caches.levels[l],
                skip_empty: options.skip_empty,
                // A ray that comes to a tile that is missing stops there, and looks at the next level.
                waits: true,
                clamps: true,
                kernels,
                met: Some(met),
            })
            .collect();
        let tables: Vec<_> = scenes.iter().map(|_| Tables::new()).collect();
        let mut image = Image::new(options.width, options.height, [0.0; 4])?;
        let band = (options.width * BAND_ROWS) as usize;
        let counts = image
            .pixels_mut()
            .par_chunks_mut(band)
            .zip(0u32..options.height.div_ceil(BAND_ROWS))
            .map(|(pixels, index)| {
                if self.stop.load(Ordering::Relaxed) {
                    return Counts::new(levels.len());
                }
                let mut tables: Vec<_> = tables.iter().map(Tables::take).collect();
                let tables: Vec<_> = tables.iter_mut().map(|table| &mut table.table).collect();
                let mut band = Band {
                    job: self,
                    scenes: &scenes,
                    methods,
                    tables,
                    missing: scenes.iter().map(|_| None).collect(),
                    passed: Vec::new(),
                    paths: [None; MAX_LEVELS],
                    legs: std::array::from_fn(|_| Leg::default()),
                    counts: Counts::new(levels.len()),
                };
                compiled_for_machine(
                    options.simd,
                    #[inline(always)]
                    || band.render(pixels, index * BAND_ROWS),
                );
                band.counts
            })
            .reduce(|| Counts::new(levels.len()), Counts::and);
        drop((scenes, tables));
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let met: Vec<_> = met.into_iter().map(Met::into_tiles).collect();
        let met = met.chunks_exact(2).enumerate();
        let met = met.map(|(level, of)| self.together(level, &of[0], &of[1])).collect();
        Ok(Some(RenderedLevels { image, report: self.report(counts, met) }))
    }

    fn report<T: Scalar>(&self, counts: Counts, met: Vec<Vec<MetTile>>) -> LevelsReport
    where
        V: Volume<T>,
    {
        let sum = |of: fn(&Tally) -> u64| counts.tallies.iter().map(of).sum::<u64>();
        let (mut lacked, mut came) = (Vec::new(), 0);
        for (level, tallies) in counts.tallies.chunks_exact(2).enumerate().rev() {
            let volume = self.levels[level].volume;
            let is_missing = |tile: TileCoord| matches!(volume.brick(tile), Brick::Missing);
            let mut rays = std::collections::HashMap::<TileCoord, (u32, bool)>::new();
            for (tally, wanted) in tallies.iter().zip([true, false]) {
                for (tiles, waiting) in tally.waiting() {
                    // A ray waited, so one of them was missing.
                    came += u64::from(!tiles.tiles().any(is_missing));
                    for tile in tiles.tiles() {
                        let (rays, by_any) = rays.entry(tile).or_default();
                        *rays = rays.saturating_add(waiting);
                        *by_any |= wanted;
                    }
                }
            }
            let lacks = rays.into_iter().filter(|(tile, _)| is_missing(*tile));
            let mut of_level: Vec<_> = lacks
                .map(|(tile, (rays, wanted))| {
                    let distance = self.prepared.distance(self.middle(level, tile, volume.brick_shape()));
                    LackedTile { level, tile, rays, wanted, distance }
                })
                .collect();
            of_level.sort_unstable_by_key(|lacked| (std::cmp::Reverse(lacked.rays), lacked.tile));
            lacked.extend(of_level);
        }
        LevelsReport {
            lacked,
            came,
            met,
            uncovered: counts.uncovered,
            rays: counts.rays,
            rays_incomplete: counts.rays_incomplete,
            rays_uncovered: counts.rays_uncovered,
            samples: sum(|tally| tally.samples),
            skipped: sum(|tally| tally.skipped),
            shown: counts.shown,
        }
    }

    /// The tiles of either list, both in order, as one.
    fn together<T: Scalar>(
        &self,
        level: usize,
        wanted: &[TileCoord],
        standing_in: &[TileCoord],
    ) -> Vec<MetTile>
    where
        V: Volume<T>,
    {
        let shape = self.levels[level].volume.brick_shape();
        let others = standing_in.iter().filter(|tile| wanted.binary_search(tile).is_err());
        let all = wanted.iter().map(|&tile| (tile, true)).chain(others.map(|&tile| (tile, false)));
        let met = |(tile, wanted)| {
            let distance = self.prepared.distance(self.middle(level, tile, shape));
            MetTile { tile, wanted, distance }
        };
        all.map(met).collect()
    }

    /// The middle of a tile in the world.
    #[expect(clippy::cast_precision_loss, reason = "a distance need not be exact")]
    fn middle(&self, level: usize, tile: TileCoord, shape: Extent) -> [f64; 3] {
        let (tile, shape) = ([tile.x, tile.y, tile.z], shape.to_array());
        let spacing = times(self.prepared.options.spacing, self.factors[level]);
        std::array::from_fn(|a| (tile[a] as f64 + 0.5) * shape[a] as f64 * spacing[a])
    }
}
