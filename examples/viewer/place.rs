//! Owns where an eye's volume lies and what makes its pictures: [`Place`], for the host and for a CUDA device.

use vastgrid::render::ExactRender;
use vastgrid::render::cuda::{CastTurns, CudaCaster};
use vastgrid::{
    Backend, Coord, CudaBackend, HostBackend, HostRenderer, LevelGeometry, LevelRenderer, Pool, Pyramid3D,
    Region, Scalar, SparseArray3D, TileCoord,
};

use crate::Failure;
use crate::eye::Look;
use crate::finish::finish;
use crate::pick::pick;
use crate::status::most_budget;
use crate::view::{Facts, View};

/// What differs from backend to backend.
pub(crate) trait Place<T: Scalar>: Backend + Sized {
    type Renderer: LevelRenderer<T, Self> + Send;

    /// What the ray through a place of the picture meets first: see [`pick`].
    fn pick(pyramid: &Pyramid3D<T, Self>, facts: &Facts, view: &View, at: [f64; 2]) -> Option<[f64; 3]>;

    /// The largest budget that there is memory for.
    fn most_budget(pool: &Pool<Self>) -> u64;

    /// Makes a picture of level 0 tile by tile: see [`finish`](crate::eye::Eye::finish).
    fn finish(
        renderer: &Self::Renderer,
        pool: &Pool<Self>,
        array: &SparseArray3D<T, Self>,
        facts: &Facts,
        view: &View,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Look>, Failure>;
}

/// The levels that can be read, finest first.
fn levels<T: Scalar, B: Backend>(
    pyramid: &Pyramid3D<T, B>,
) -> impl Iterator<Item = (&SparseArray3D<T, B>, &LevelGeometry)> {
    (0..pyramid.levels()).filter_map(|level| Some((pyramid.level(level).ok()?, pyramid.geometry(level)?)))
}

impl<T: Scalar> Place<T> for HostBackend {
    type Renderer = HostRenderer;

    fn pick(pyramid: &Pyramid3D<T, Self>, facts: &Facts, view: &View, at: [f64; 2]) -> Option<[f64; 3]> {
        let frame = pyramid.pool().frame();
        let views: Vec<_> = levels(pyramid)
            .filter_map(|(array, geometry)| Some((frame.view(array).ok()?, geometry)))
            .collect();
        let value =
            |voxel: Coord| views.iter().find_map(|(view, geometry)| view.get(geometry.voxel_of(voxel)));
        pick(facts, view, at, value)
    }

    fn most_budget(pool: &Pool<Self>) -> u64 {
        let stats = pool.stats();
        most_budget(stats.budget_bytes, None).saturating_add(stats.used_bytes)
    }

    fn finish(
        _: &Self::Renderer,
        _: &Pool<Self>,
        array: &SparseArray3D<T, Self>,
        facts: &Facts,
        view: &View,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Look>, Failure> {
        let (camera, transfer, options) = (view.camera(facts), view.transfer(facts)?, view.options(facts, 1));
        let picture = ExactRender::new(facts.extent, &camera, &transfer, &options)?;
        let turn = |picture: &mut ExactRender| Ok(picture.advance::<T, _>(&*array.frame())?);
        finish(array, picture, turn, |picture| Ok(picture.image()?), goes_on)
    }
}

impl<T: Scalar> Place<T> for CudaBackend {
    type Renderer = CudaCaster;

    fn pick(pyramid: &Pyramid3D<T, Self>, facts: &Facts, view: &View, at: [f64; 2]) -> Option<[f64; 3]> {
        // A ray stays in a tile for long, so it is brought here as a whole.
        let mut here: Option<(usize, TileCoord, Region, Vec<T>)> = None;
        let value = |voxel: Coord| {
            levels(pyramid).enumerate().find_map(|(level, (array, geometry))| {
                let (layout, voxel) = (array.layout(), geometry.voxel_of(voxel));
                let tile = layout.tile_of(voxel);
                if here.as_ref().is_none_or(|(l, t, ..)| (*l, *t) != (level, tile)) {
                    if !array.is_resident(tile) && !array.is_uniform(tile) {
                        return None;
                    }
                    let region = layout.tile_region(tile);
                    let count = usize::try_from(region.extent.checked_volume()?).ok()?;
                    let mut voxels = vec![T::zeroed(); count];
                    array.read_region(region, &mut voxels).ok()?;
                    here = Some((level, tile, region, voxels));
                }
                let (.., region, voxels) = here.as_ref()?;
                if !region.contains(voxel) {
                    return None;
                }
                let (s, e) = (region.start, region.extent);
                let at = (voxel.x - s.x) + e.x * ((voxel.y - s.y) + e.y * (voxel.z - s.z));
                voxels.get(usize::try_from(at).ok()?).copied()
            })
        };
        pick(facts, view, at, value)
    }

    fn most_budget(pool: &Pool<Self>) -> u64 {
        let free = pool.backend().device().memory().map_or(0, |(free, _)| free);
        (free / 4 * 3).saturating_add(pool.stats().used_bytes)
    }

    fn finish(
        renderer: &Self::Renderer,
        pool: &Pool<Self>,
        array: &SparseArray3D<T, Self>,
        facts: &Facts,
        view: &View,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Look>, Failure> {
        let (camera, transfer, options) = (view.camera(facts), view.transfer(facts)?, view.options(facts, 1));
        let picture = CastTurns::new::<T>(array.layout(), &camera, &transfer, &options)?;
        let turn = |picture: &mut CastTurns| Ok(renderer.turn(pool, array, picture)?);
        finish(array, picture, turn, |picture| Ok(picture.into_image()), goes_on)
    }
}
