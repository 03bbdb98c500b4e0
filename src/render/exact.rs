//! Owns pictures in which nothing is missing, however little memory there is: [`ExactRender`]. Each ray keeps where it is and what it has seen,
//! waits for the tiles that its next sample needs, and goes on when they have come.
//!
//! ```text
//!   advance --> wanted: groups of tiles --> the caller loads the first groups, as many as fit --> advance --> ... --> done
//! ```

use rayon::prelude::*;

use super::camera::Camera;
use super::error::RenderError;
use super::grid::Grid;
use super::image::Image;
use super::interactive::BAND_ROWS;
use super::march::{Halt, Method, Scene, march};
use super::met::Tables;
use super::occupancy::SkipCache;
use super::options::Options;
use super::prepare::{AnyMethod, Prepared};
use super::tally::Tally;
use super::transfer::TransferFunction;
use super::volume::{Brick, Volume};
use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::view::kernels::Kernels;
use crate::voxel::Scalar;

/// A picture that is rendered in turns, with whatever tiles are there in each.
///
/// The picture is the same, bit for bit, whatever order the tiles come in, and the same that [`render`](super::render) gives where all are there.
///
/// **Cost**: 24 bytes per pixel while it lasts.
#[derive(Debug)]
pub struct ExactRender {
    extent: Extent,
    prepared: Prepared,
    cache: SkipCache,
    rays: Rays,
    rays_left: u64,
}

/// Where every ray is, by what the method keeps.
#[derive(Debug)]
enum Rays {
    Colours(Vec<Ray<[f32; 4]>>),
    Greatest(Vec<Ray<f32>>),
}

#[derive(Clone, Copy, Debug)]
struct Ray<S> {
    /// The next sample; `DONE` once there is none.
    k: u32,
    state: S,
}

const DONE: u32 = u32::MAX;

/// How far a picture is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Whether every ray is complete.
    pub done: bool,
    /// Rays that are not.
    pub rays_left: u64,
    /// Samples taken in this turn.
    pub samples: u64,
    /// What the rays wait for; empty only when all is done.
    pub wanted: Vec<TileGroup>,
}

/// Tiles that must be there **at once** for some rays to go on.
///
/// Of a list, the first groups should be loaded, as many as fit: rays go on for each group that is there in full.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TileGroup {
    /// The tiles, also those that are there already (they must not go), but not the uniform ones, which take no memory. Eight at most where tiles are
    /// no shorter than six voxels and steps no longer than one.
    pub tiles: Vec<TileCoord>,
    /// How many rays wait for exactly these.
    pub rays: u32,
}

impl ExactRender {
    /// Begins a picture of a volume of this extent.
    ///
    /// # Errors
    /// [`RenderError`] for a picture or camera that cannot be rendered.
    pub fn new(
        extent: Extent,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) -> Result<Self, RenderError> {
        let prepared = Prepared::new(extent, camera, transfer, options)?;
        let rays = match &prepared.method {
            AnyMethod::Dvr(m) => Rays::Colours(begin(&prepared, m)),
            AnyMethod::Iso(m) => Rays::Colours(begin(&prepared, m)),
            AnyMethod::Mip(m) => Rays::Greatest(begin(&prepared, m)),
        };
        let rays_left = u64::from(options.width) * u64::from(options.height);
        Ok(Self { extent, prepared, cache: SkipCache::new(), rays, rays_left })
    }

    /// Lets every ray go as far as the tiles that are there allow, on the rayon pool that it is called from.
    ///
    /// # Errors
    /// [`RenderError::OtherVolume`] where the extent is not the one that the picture was begun for; [`RenderError::Volume`].
    pub fn advance<T: Scalar, V: Volume<T>>(&mut self, volume: &V) -> Result<Progress, RenderError> {
        if volume.extent() != self.extent {
            return Err(RenderError::OtherVolume { begun: self.extent, given: volume.extent() });
        }
        let (prepared, cache) = (&self.prepared, &mut self.cache);
        let tally = match (&prepared.method, &mut self.rays) {
            (AnyMethod::Dvr(m), Rays::Colours(rays)) => turn(volume, prepared, m, cache, rays)?,
            (AnyMethod::Iso(m), Rays::Colours(rays)) => turn(volume, prepared, m, cache, rays)?,
            (AnyMethod::Mip(m), Rays::Greatest(rays)) => turn(volume, prepared, m, cache, rays)?,
            // Never: `new` made the two together.
            _ => Tally::default(),
        };
        let waiting = tally.waiting();
        self.rays_left = waiting.iter().map(|(_, rays)| u64::from(*rays)).sum();
        let uniform = |tile: TileCoord| matches!(volume.brick(tile), Brick::Uniform(_));
        let group = |(tiles, rays): (super::grid::BrickBox, u32)| TileGroup {
            tiles: tiles.tiles().filter(|&tile| !uniform(tile)).collect(),
            rays,
        };
        Ok(Progress {
            done: self.rays_left == 0,
            rays_left: self.rays_left,
            samples: tally.samples,
            wanted: waiting.into_iter().map(group).collect(),
        })
    }

    /// Whether every ray is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rays_left == 0
    }

    /// The picture as far as it is.
    ///
    /// # Errors
    /// None that [`ExactRender::new`] has not found already.
    pub fn image(&self) -> Result<Image, RenderError> {
        let options = &self.prepared.options;
        let mut image = Image::new(options.width, options.height, [0.0; 4])?;
        match (&self.prepared.method, &self.rays) {
            (AnyMethod::Dvr(m), Rays::Colours(rays)) => self.paint(m, rays, &mut image),
            (AnyMethod::Iso(m), Rays::Colours(rays)) => self.paint(m, rays, &mut image),
            (AnyMethod::Mip(m), Rays::Greatest(rays)) => self.paint(m, rays, &mut image),
            _ => {}
        }
        Ok(image)
    }

    fn paint<M: Method>(&self, method: &M, rays: &[Ray<M::State>], image: &mut Image) {
        for (pixel, ray) in image.pixels_mut().iter_mut().zip(rays) {
            *pixel = self.prepared.over_background(method.colour(&ray.state), ray.k != DONE);
        }
    }
}

fn begin<M: Method>(prepared: &Prepared, method: &M) -> Vec<Ray<M::State>> {
    let pixels = prepared.options.width as usize * prepared.options.height as usize;
    vec![Ray { k: 0, state: method.begin() }; pixels]
}

fn turn<T: Scalar, V: Volume<T>, M: Method>(
    volume: &V,
    prepared: &Prepared,
    method: &M,
    cache: &mut SkipCache,
    rays: &mut [Ray<M::State>],
) -> Result<Tally, RenderError> {
    let options = &prepared.options;
    let grid = Grid::new(volume)?;
    cache.begin(volume, &grid, method.weigh(), method.lasting_threshold());
    let kernels = Kernels::select(options.simd);
    let scene = Scene {
        volume,
        grid,
        cache,
        skip_empty: options.skip_empty,
        waits: true,
        kernels,
        clamps: false,
        met: None,
    };
    let tables = Tables::new();
    let band = (options.width * BAND_ROWS) as usize;
    let tally = rays
        .par_chunks_mut(band)
        .zip(0u32..options.height.div_ceil(BAND_ROWS))
        .map_init(
            || tables.take(),
            |table, (rays, index)| {
                let table = &mut table.table;
                let mut tally = Tally::default();
                let pixels = (index * BAND_ROWS..).flat_map(|y| (0..options.width).map(move |x| (x, y)));
                for (ray, (x, y)) in rays.iter_mut().zip(pixels).filter(|(ray, _)| ray.k != DONE) {
                    let halt = prepared.path(x, y).map_or(Halt::Ended, |path| {
                        tally.begin_ray();
                        let mut left = ray.k..path.samples;
                        let halt = march(&scene, method, table, &path, &mut left, &mut ray.state, &mut tally);
                        ray.k = left.start;
                        halt
                    });
                    if halt != Halt::Waits {
                        ray.k = DONE;
                    }
                }
                tally
            },
        )
        .reduce(Tally::default, Tally::and);
    Ok(tally)
}
