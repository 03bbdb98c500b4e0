//! Owns pictures of several resolutions: [`render_levels`]. Each sample is taken from the finest level that is there, but none finer than its pixel can show. Rays are followed through
//! each level as through a volume by itself; knows nothing of where levels come from, or when.
//!
//! ```text
//!   wanted    |0 0 0 0 0 0 0 0 0 0 0 0|1   1   1   1   1   1|     by the distance between pixels' rays there
//!   level 0   |. . . . . .|    x      |                     |     x: a tile is missing: up to its end ...
//!   level 1   |           |.   .   .  |.   .   .   x        |     ... the next coarser level stands in, with samples as much further apart, and opacities for that
//!   level 2   |           |           |            |.       |
//! ```

use rayon::prelude::*;

use super::camera::Camera;
use super::error::{RenderError, checked};
use super::grid::{BrickBox, Grid, tile_coord};
use super::held::Content;
use super::image::Image;
use super::interactive::BAND_ROWS;
use super::look_up::look_up;
use super::march::{Halt, Method, Scene, march};
use super::met::{Latest, Met, Table, Tables};
use super::occupancy::SkipCache;
use super::options::Options;
use super::path::Path;
use super::prepare::{AnyMethod, Prepared};
use super::tally::Tally;
use super::transfer::TransferFunction;
use super::volume::{Brick, Volume};
use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::view::kernels::{Kernels, compiled_for_machine};
use crate::voxel::Scalar;

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

/// A picture of several levels, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedLevels {
    /// The picture.
    pub image: Image,
    /// What it shows, what it lacks and what it took.
    pub report: LevelsReport,
}

/// What a picture of several levels shows, lacks and took. Levels are counted as they were given.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LevelsReport {
    /// Tiles that rays lacked: of the level that was wanted, and of those that would have stood in. Coarse levels first, then those that most rays lacked.
    pub lacked: Vec<LackedTile>,
    /// Tiles with memory that rays met, level by level, and that may have mattered to them: the others need not stay.
    pub met: Vec<Vec<MetTile>>,
    /// Steps of level 0 by the level that was wanted there (first) and the level that was shown (second).
    pub shown: Vec<Vec<u64>>,
    /// Steps where no level had anything to show.
    pub uncovered: u64,
    /// Rays that met the volume.
    pub rays: u64,
    /// Those of them that lacked a tile of the level that they wanted.
    pub rays_incomplete: u64,
    /// Those of them of which a part was shown from no level.
    pub rays_uncovered: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that were leapt over because they could not matter.
    pub skipped: u64,
}

impl LevelsReport {
    /// Whether all that was wanted was shown.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rays_incomplete == 0
    }
}

/// A tile of a level that rays met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetTile {
    /// Which.
    pub tile: TileCoord,
    /// Whether any of them wanted this level; or else it only stood in for a finer one.
    pub wanted: bool,
    /// How far its middle is from the eye, in the world.
    pub distance: f64,
}

/// A tile of a level that rays lacked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LackedTile {
    /// Of which level.
    pub level: usize,
    /// Which.
    pub tile: TileCoord,
    /// How much of the picture lacked it, roughly: counted for each block of pixels whose rays came to it, and for each sample that lacked only a part of it.
    pub rays: u32,
    /// Whether any of them wanted this level; or else it would only have stood in for a finer one.
    pub wanted: bool,
    /// How far its middle is from the eye, in the world.
    pub distance: f64,
}

/// Renders what is there now of a volume of several levels, on the rayon pool that it is called from.
///
/// Finest level first; level 0 need not be among them, but factors grow from each to the next. Along each ray the level wanted is the finest whose voxels are no smaller than the
/// pixels are apart there, times 2^`bias`; with a bias of 0 a picture of what is all there has the detail that its pixels can show. `options.spacing` is that of voxels of factor 1.
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
    let job = Job { levels, prepared: &prepared, factors: &factors, strides: &strides, begins: &begins };
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
fn stride(factor: [f64; 3], spacing: [f64; 3]) -> u32 {
    let finest = |v: [f64; 3]| v.into_iter().fold(f64::INFINITY, f64::min);
    (finest(times(spacing, factor)) / finest(spacing)).round().max(1.0) as u32
}

/// From which distance on each level is wanted: where its voxels are no larger than pixels are apart, times 2^bias.
fn begins(prepared: &Prepared, factors: &[[f64; 3]], bias: f64) -> Vec<f64> {
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
}

impl<V> Job<'_, V> {
    fn picture<T: Scalar, M: Method>(
        &self,
        methods: &[&M],
        caches: &mut LevelCaches,
    ) -> Result<RenderedLevels, RenderError>
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
                let mut tables: Vec<_> = tables.iter().map(Tables::take).collect();
                let tables: Vec<_> = tables.iter_mut().map(|table| &mut table.table).collect();
                let noted = scenes.iter().map(|_| Latest::new()).collect();
                let counts = Counts::new(levels.len());
                let mut band = Band { job: self, scenes: &scenes, methods, tables, noted, counts };
                compiled_for_machine(
                    options.simd,
                    #[inline(always)]
                    || band.render(pixels, index * BAND_ROWS),
                );
                band.counts
            })
            .reduce(|| Counts::new(levels.len()), Counts::and);
        drop((scenes, tables));
        let met: Vec<_> = met.into_iter().map(Met::into_tiles).collect();
        let met = met.chunks_exact(2).enumerate();
        let met = met.map(|(level, of)| self.together(level, &of[0], &of[1])).collect();
        Ok(RenderedLevels { image, report: self.report(counts, met) })
    }

    fn report<T: Scalar>(&self, counts: Counts, met: Vec<Vec<MetTile>>) -> LevelsReport
    where
        V: Volume<T>,
    {
        let sum = |of: fn(&Tally) -> u64| counts.tallies.iter().map(of).sum::<u64>();
        let mut lacked = Vec::new();
        for (level, tallies) in counts.tallies.chunks_exact(2).enumerate().rev() {
            let mut rays = std::collections::HashMap::<TileCoord, (u32, bool)>::new();
            for (tally, wanted) in tallies.iter().zip([true, false]) {
                for (tiles, waiting) in tally.waiting() {
                    for tile in tiles.tiles() {
                        let (rays, by_any) = rays.entry(tile).or_default();
                        *rays = rays.saturating_add(waiting);
                        *by_any |= wanted;
                    }
                }
            }
            let volume = self.levels[level].volume;
            let lacks = rays.into_iter().filter(|(tile, _)| matches!(volume.brick(*tile), Brick::Missing));
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

/// Counts of one band, to be added up.
struct Counts {
    /// As scenes are: two for each level.
    tallies: Vec<Tally>,
    shown: Vec<Vec<u64>>,
    uncovered: u64,
    rays: u64,
    rays_incomplete: u64,
    rays_uncovered: u64,
}

impl Counts {
    fn new(levels: usize) -> Self {
        Self {
            tallies: (0..2 * levels).map(|_| Tally::default()).collect(),
            shown: vec![vec![0; levels]; levels],
            uncovered: 0,
            rays: 0,
            rays_incomplete: 0,
            rays_uncovered: 0,
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.tallies = self.tallies.into_iter().zip(other.tallies).map(|(a, b)| a.and(b)).collect();
        for (mine, other) in self.shown.iter_mut().flatten().zip(other.shown.into_iter().flatten()) {
            *mine += other;
        }
        self.uncovered += other.uncovered;
        self.rays += other.rays;
        self.rays_incomplete += other.rays_incomplete;
        self.rays_uncovered += other.rays_uncovered;
        self
    }
}

/// Some rows of a picture.
struct Band<'r, 'a, T, V, M> {
    job: &'r Job<'a, V>,
    scenes: &'r [Scene<'a, T, V>],
    methods: &'r [&'r M],
    tables: Vec<&'r mut Table<'a, T>>,
    /// Missing tiles that were noted of late.
    noted: Vec<Latest<(), 8>>,
    counts: Counts,
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
    fn render(&mut self, pixels: &mut [[f32; 4]], top: u32) {
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
            if !self.pass_missing(place, &path, &mut left) {
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
                    // A tile that is missing, of which something is known: or one beside it, for which samples are shown coarser one by one.
                    Halt::Waits => {}
                }
                let (k, p) = (left.start, path.at(left.start));
                let tile = scene.grid.brick_below(p);
                let ends = scene.grid.ends(BrickBox::one(tile));
                let ends = [0, 1, 2].map(|a| ends[usize::from(path.step[a] > 0)][a]);
                let missing = matches!(scene.volume.brick(tile_coord(tile)), Brick::Missing);
                let next = k.saturating_add(if missing { path.run(p, ends) } else { 1 }).min(left.end);
                if self.stand_in(
                    ray,
                    wanted,
                    level,
                    fine(k).max(from),
                    if next == left.end { until } else { fine(next) },
                ) {
                    return true;
                }
                left.start = next;
                continue;
            }
            let next = left.start;
            let ended = self.stand_in(
                ray,
                wanted,
                level,
                fine(at).max(from),
                if next == left.end { until } else { fine(next) },
            );
            // What lies behind where it ended is not lacked.
            let seen = if ended { ray.at / stride } else { u32::MAX };
            self.note_missing(place, &path, at..next.min(seen.saturating_add(1)));
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
