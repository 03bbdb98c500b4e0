//! Owns pictures of what is there now: [`render`] and [`render_with`]. Rays go on without what is missing; the [`Report`] says what that was.

use rayon::prelude::*;

use super::camera::Camera;
use super::error::RenderError;
use super::grid::Grid;
use super::held::Table;
use super::image::Image;
use super::march::{Method, Scene, march};
use super::occupancy::SkipCache;
use super::options::Options;
use super::prepare::{AnyMethod, Prepared};
use super::tally::{Tally, WantedTile};
use super::transfer::TransferFunction;
use super::volume::Volume;
use crate::view::kernels::{Kernels, compiled_for_machine};
use crate::voxel::Scalar;

/// Rows of pixels that one thread renders at a time.
pub(crate) const BAND_ROWS: u32 = 8;
/// Columns of a block: neighbouring rays meet the same bricks.
const BLOCK_COLUMNS: u32 = 8;

/// A picture, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The picture.
    pub image: Image,
    /// What it lacks and what it took.
    pub report: Report,
}

/// What a picture lacks, and what it took.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The tiles that rays lacked, the one that most rays lacked first, then the nearest.
    pub wanted: Vec<WantedTile>,
    /// Rays that met the volume.
    pub rays: u64,
    /// Those of them that lacked a tile.
    pub rays_incomplete: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples leapt over because they could not matter.
    pub skipped: u64,
}

/// Renders what is there now, on the rayon pool that it is called from.
///
/// What is missing contributes nothing, and is listed in the report where it could have contributed.
///
/// # Errors
/// [`RenderError`] for a picture, camera or volume that cannot be rendered.
pub fn render<T: Scalar, V: Volume<T>>(
    volume: &V,
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
) -> Result<Rendered, RenderError> {
    render_with(volume, camera, transfer, options, &mut SkipCache::new())
}

/// As [`render`], with what is known of empty space kept from picture to picture.
///
/// # Errors
/// As [`render`].
pub fn render_with<T: Scalar, V: Volume<T>>(
    volume: &V,
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
    cache: &mut SkipCache,
) -> Result<Rendered, RenderError> {
    let prepared = Prepared::new(volume.extent(), camera, transfer, options)?;
    match &prepared.method {
        AnyMethod::Dvr(method) => picture(volume, &prepared, method, cache),
        AnyMethod::Mip(method) => picture(volume, &prepared, method, cache),
        AnyMethod::Iso(method) => picture(volume, &prepared, method, cache),
    }
}

fn picture<T: Scalar, V: Volume<T>, M: Method>(
    volume: &V,
    prepared: &Prepared,
    method: &M,
    cache: &mut SkipCache,
) -> Result<Rendered, RenderError> {
    let options = &prepared.options;
    let grid = Grid::new(volume)?;
    cache.begin(volume, &grid, method.weigh(), method.lasting_threshold());
    let kernels = Kernels::select(options.simd);
    let scene = Scene { volume, grid, cache, skip_empty: options.skip_empty, waits: false, kernels };
    let mut image = Image::new(options.width, options.height, [0.0; 4])?;
    let band = (options.width * BAND_ROWS) as usize;
    let tally = image
        .pixels_mut()
        .par_chunks_mut(band)
        .zip(0u32..options.height.div_ceil(BAND_ROWS))
        .map_init(Table::new, |table, (pixels, index)| {
            let mut band = Band { scene: &scene, prepared, method, table, tally: Tally::default() };
            compiled_for_machine(
                options.simd,
                #[inline(always)]
                || band.render(pixels, index * BAND_ROWS),
            );
            band.tally
        })
        .reduce(Tally::default, Tally::and);
    let report = Report {
        wanted: tally.wanted(),
        rays: tally.rays,
        rays_incomplete: tally.rays_incomplete,
        samples: tally.samples,
        skipped: tally.skipped,
    };
    Ok(Rendered { image, report })
}

/// Some rows of a picture.
struct Band<'r, 'a, T, V, M> {
    scene: &'r Scene<'a, T, V>,
    prepared: &'r Prepared,
    method: &'r M,
    table: &'r mut Table<'a, T>,
    tally: Tally,
}

impl<T: Scalar, V: Volume<T>, M: Method> Band<'_, '_, T, V, M> {
    /// Renders into `pixels`, whole rows from row `top` on, block by block.
    #[inline(always)]
    fn render(&mut self, pixels: &mut [[f32; 4]], top: u32) {
        let width = self.prepared.options.width;
        for left in (0..width).step_by(BLOCK_COLUMNS as usize) {
            let columns = left as usize..(left + BLOCK_COLUMNS).min(width) as usize;
            for (y, row) in (top..).zip(pixels.chunks_exact_mut(width as usize)) {
                for (x, pixel) in (left..).zip(&mut row[columns.clone()]) {
                    *pixel = self.pixel(x, y);
                }
            }
        }
    }

    #[inline(always)]
    fn pixel(&mut self, x: u32, y: u32) -> [f32; 4] {
        let Some(path) = self.prepared.path(x, y) else {
            return self.prepared.over_background([0.0; 4], false);
        };
        self.tally.begin_ray();
        let (mut k, mut state) = (0, self.method.begin());
        march(self.scene, self.method, self.table, &path, &mut k, &mut state, &mut self.tally);
        self.prepared.over_background(self.method.colour(&state), self.tally.lacking())
    }
}
