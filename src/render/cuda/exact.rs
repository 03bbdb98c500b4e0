//! Owns pictures in which nothing is missing, made by kernels in turns: [`CastTurns`], and with it [`CudaCaster::render_exact`]. Rays wait in the kernel for what they lack; which tiles those are is found here.

use rayon::prelude::*;

use super::super::arrays::until_done;
use super::super::camera::Camera;
use super::super::error::RenderError;
use super::super::exact::{Progress, TileGroup};
use super::super::grid::Grid;
use super::super::image::Image;
use super::super::march::{Method, Reach, needed};
use super::super::options::Options;
use super::super::prepare::{AnyMethod, Prepared};
use super::super::tally::Tally;
use super::super::transfer::TransferFunction;
use super::super::volume::{Brick, Volume};
use super::CudaCaster;
use super::parameters::RAY_BYTES;
use super::plan::{CastPlan, PlanLevel};
use crate::array::SparseArray3D;
use crate::backend::CudaBackend;
use crate::geometry::Extent;
use crate::layout::{Layout, TileCoord};
use crate::pool::Pool;
use crate::voxel::Scalar;

impl CudaCaster {
    /// The picture that unlimited memory would give, but for rounding, under any budget that holds the pages of one sample's support and of a voxel around it; as
    /// [`render_exact`](super::super::render_exact) makes it on the host. Waits for it.
    ///
    /// `progress` is called after each turn.
    ///
    /// **Cost**: a launch for each turn, for which 32 bytes a pixel go to the device and 48, and a mebibyte, come back; a tile is loaded once per turn that needs it and finds it evicted.
    ///
    /// # Errors
    /// As [`CudaCaster::render`]; [`RenderError::Array`]: a tile that fails to load, a budget below one sample's support, or too much of it pinned. [`RenderError::Stuck`].
    pub fn render_exact<T: Scalar>(
        &self,
        pool: &Pool<CudaBackend>,
        array: &SparseArray3D<T, CudaBackend>,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Image, RenderError> {
        let mut turns = CastTurns::new::<T>(array.layout(), camera, transfer, options)?;
        until_done(array, progress, || self.turn(pool, array, &mut turns))?;
        Ok(turns.into_image())
    }

    /// Lets every ray of a picture go as far as what is resident now allows, and waits for that. What it waits for then is to be loaded, as many of the first groups as fit, before the next turn.
    ///
    /// **Cost**: as said at [`CudaCaster::render_exact`], of one turn.
    ///
    /// # Errors
    /// As [`CudaCaster::render`]; [`RenderError::OtherVolume`] and [`RenderError::OtherTiles`] for an array that is not what the picture was begun for.
    pub fn turn<T: Scalar>(
        &self,
        pool: &Pool<CudaBackend>,
        array: &SparseArray3D<T, CudaBackend>,
        turns: &mut CastTurns,
    ) -> Result<Progress, RenderError> {
        let frame = pool.device_frame();
        let view = frame.view(array, self.launcher.stream()).map_err(Box::new)?;
        let plan = turns.plan::<T>(PlanLevel { view, layout: array.layout(), factor: [1; 3] })?;
        let picture = self.launch(plan)?;
        frame.end().map_err(Box::new)?;
        let output = picture.flight.wait().map_err(super::refused)?;
        turns.take(&picture.plan, output, |tile| array.is_uniform(tile))
    }
}

/// A picture that kernels make in turns, with whatever tiles are there in each. For those who launch kernels themselves; [`CudaCaster::render_exact`] does all of it.
#[derive(Debug)]
pub struct CastTurns {
    camera: Camera,
    transfer: TransferFunction,
    options: Options,
    prepared: Prepared,
    grid: Grid,
    tile: Extent,
    /// As kernels keep them; empty before the first turn.
    rays: Vec<u8>,
    image: Image,
}

/// A volume of which nothing is known but how it is cut.
struct Cut<'a>(&'a Layout);

impl<T: Scalar> Volume<T> for Cut<'_> {
    fn extent(&self) -> Extent {
        self.0.extent()
    }

    fn brick_shape(&self) -> Extent {
        self.0.tile_shape()
    }

    fn brick(&self, _: TileCoord) -> Brick<'_, T> {
        Brick::Missing
    }

    fn cell_shape(&self) -> Extent {
        self.0.tile_shape()
    }

    fn cell_range(&self, _: TileCoord, _: usize) -> Option<(f32, f32)> {
        None
    }
}

impl CastTurns {
    /// Begins a picture of an array with this layout.
    ///
    /// # Errors
    /// As [`CastPlan::new`].
    pub fn new<T: Scalar>(
        layout: &Layout,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) -> Result<Self, RenderError> {
        let prepared = Prepared::new(layout.extent(), camera, transfer, options)?;
        let grid = Grid::new::<T, _>(&Cut(layout))?;
        let image = Image::new(options.width, options.height, [0.0; 4])?;
        let (camera, transfer, options) = (*camera, transfer.clone(), options.clone());
        let tile = layout.tile_shape();
        Ok(Self { camera, transfer, options, prepared, grid, tile, rays: Vec::new(), image })
    }

    /// The next turn, with what there is of the array now.
    ///
    /// # Errors
    /// As [`CastPlan::new`]; [`RenderError::OtherVolume`] and [`RenderError::OtherTiles`] for an array that is not what the picture was begun for.
    pub fn plan<T: Scalar>(&self, level: PlanLevel<'_>) -> Result<CastPlan, RenderError> {
        let (begun, given) = (self.grid.extent(), level.layout.extent());
        if begun != given {
            return Err(RenderError::OtherVolume { begun, given });
        }
        let (begun, given) = (self.tile, level.layout.tile_shape());
        if begun != given {
            return Err(RenderError::OtherTiles { begun, given });
        }
        let plan = CastPlan::new::<T>(&[level], 0.0, &self.camera, &self.transfer, &self.options)?;
        Ok(plan.in_turns(&self.rays))
    }

    /// Takes what the kernel wrote for a plan, and says what rays wait for. `uniform`: tiles that take no memory.
    ///
    /// # Errors
    /// [`RenderError::Output`] where `output` is shorter than [`CastPlan::result_bytes`], or `plan` not from [`CastTurns::plan`].
    pub fn take(
        &mut self,
        plan: &CastPlan,
        output: &[u8],
        uniform: impl Fn(TileCoord) -> bool,
    ) -> Result<Progress, RenderError> {
        let pixels = self.options.width as usize * self.options.height as usize;
        let (rays, expected) = (plan.rays(output), plan.result_bytes());
        if rays.len() != pixels * RAY_BYTES {
            return Err(RenderError::Output { bytes: output.len(), expected });
        }
        let rendered = plan.finish(output)?;
        self.rays.clear();
        self.rays.extend_from_slice(rays);
        self.image = rendered.image;
        let tally = match &self.prepared.method {
            AnyMethod::Dvr(method) => self.waiting(method),
            AnyMethod::Mip(method) => self.waiting(method),
            AnyMethod::Iso(method) => self.waiting(method),
        };
        let waiting = tally.waiting();
        // One whose path is none on the host, whatever rounding did on the device, has nothing to wait for.
        let rays_left: u64 = waiting.iter().map(|(_, rays)| u64::from(*rays)).sum();
        let group = |(tiles, rays): (super::super::grid::BrickBox, u32)| TileGroup {
            tiles: tiles.tiles().filter(|&tile| !uniform(tile)).collect(),
            rays,
        };
        Ok(Progress {
            done: rays_left == 0,
            rays_left,
            samples: rendered.report.samples,
            wanted: waiting.into_iter().map(group).collect(),
        })
    }

    /// What rays wait for: all tiles that the sample may need which each waits at, and those of a voxel around, should the device have rounded a place otherwise.
    fn waiting<M: Method + Sync>(&self, method: &M) -> Tally {
        let width = self.options.width.max(1);
        let (rows, _) = self.rays.as_chunks::<RAY_BYTES>();
        let Reach { voxels, samples } = method.reach();
        let reach = Reach { voxels: voxels + 1, samples };
        rows.par_chunks(width as usize)
            .zip(0u32..self.options.height)
            .map(|(rays, y)| {
                let mut tally = Tally::default();
                for (ray, x) in rays.iter().zip(0u32..) {
                    let word =
                        |at: usize| ray[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
                    let (k, waits) = (word(20), word(24) != 0);
                    if waits && let Some(path) = self.prepared.path(x, y) {
                        tally.wait(needed(&self.grid, reach, &path, k));
                    }
                }
                tally
            })
            .reduce(Tally::default, Tally::and)
    }

    /// The picture, once nothing is left to wait for; before that, as far as it is.
    #[must_use]
    pub fn into_image(self) -> Image {
        self.image
    }
}
