//! Owns pictures of what is there now: [`render`] and [`render_with`]. Rays go on without what is missing; the [`Report`] says what that was.

use rayon::prelude::*;

use super::beam::Beams;
use super::camera::Camera;
use super::error::RenderError;
use super::grid::Grid;
use super::image::Image;
use super::march::{Halt, Method, Scene, march};
use super::met::{Table, Tables};
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
    /// Rays that were followed: those that met the volume, but for those of which it was known that they meet nothing that matters.
    pub rays: u64,
    /// Those of them that lacked a tile.
    pub rays_incomplete: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples of those rays that were leapt over because they could not matter.
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
    let scene = Scene {
        volume,
        grid,
        cache,
        skip_empty: options.skip_empty,
        waits: false,
        kernels,
        clamps: false,
        met: None,
    };
    let tables = Tables::new();
    let beams = prepared.beams(scene.cache, kernels.look);
    let mut image = Image::new(options.width, options.height, [0.0; 4])?;
    let band = (options.width * BAND_ROWS) as usize;
    let tally = image
        .pixels_mut()
        .par_chunks_mut(band)
        .zip(0u32..options.height.div_ceil(BAND_ROWS))
        .map_init(
            || tables.take(),
            |table, (pixels, index)| {
                let table = &mut table.table;
                let beams = beams.as_ref();
                let mut band =
                    Band { scene: &scene, prepared, method, beams, table, tally: Tally::default() };
                compiled_for_machine(
                    options.simd,
                    #[inline(always)]
                    || band.render(pixels, index * BAND_ROWS),
                );
                band.tally
            },
        )
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
    beams: Option<&'r Beams<'r>>,
    table: &'r mut Table<'a, T>,
    tally: Tally,
}

impl<T: Scalar, V: Volume<T>, M: Method> Band<'_, '_, T, V, M> {
    /// Renders into `pixels`, whole rows from row `top` on, block by block, and each block beam by beam.
    #[inline(always)]
    fn render(&mut self, pixels: &mut [[f32; 4]], top: u32) {
        let Options { width, height, .. } = self.prepared.options;
        let rows = BAND_ROWS.min(height - top);
        let edge = self.beams.map_or(BLOCK_COLUMNS, |beams| beams.edge);
        let mut spans = Vec::new();
        for block in (0..width).step_by(BLOCK_COLUMNS as usize) {
            let columns = width.min(block + BLOCK_COLUMNS);
            for up in (0..rows).step_by(edge as usize) {
                for left in (block..columns).step_by(edge as usize) {
                    let spans =
                        self.beams.and_then(|beams| self.prepared.spans(beams, [left, top + up], &mut spans));
                    for y in up..rows.min(up + edge) {
                        for x in left..columns.min(left + edge) {
                            pixels[(y * width + x) as usize] = self.pixel(x, top + y, spans);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pixel(&mut self, x: u32, y: u32, spans: Option<&[[f64; 2]]>) -> [f32; 4] {
        if let Some([]) = spans {
            return self.prepared.over_background([0.0; 4], false);
        }
        let Some(path) = self.prepared.path(x, y) else {
            return self.prepared.over_background([0.0; 4], false);
        };
        self.tally.begin_ray();
        let (mut left, mut state) = (0..path.samples, self.method.begin());
        let mut halt = Halt::Through;
        for span in spans.unwrap_or(&[[0.0, f64::INFINITY]]) {
            let [from, until] = self.prepared.samples_in(&path, *span);
            self.tally.skipped += u64::from(from.min(path.samples).saturating_sub(left.start));
            left = from.max(left.start)..until;
            let (scene, method, table) = (self.scene, self.method, &mut *self.table);
            halt = march(scene, method, table, &path, &mut left, &mut state, &mut self.tally);
            if halt != Halt::Through {
                break;
            }
        }
        if halt == Halt::Through {
            self.tally.skipped += u64::from(path.samples.saturating_sub(left.start));
        }
        self.prepared.over_background(self.method.colour(&state), self.tally.lacking())
    }
}
