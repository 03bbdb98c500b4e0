//! Owns what makes an explorer's pictures: [`LevelRenderer`], on the host and on a CUDA device. Knows nothing of what is wanted after them.

use std::sync::atomic::AtomicBool;

use crate::array::SparseArray3D;
use crate::backend::{Backend, CudaBackend, HostAddressable};
use crate::pool::Pool;
use crate::render::cuda::CudaCaster;
use crate::render::{
    Camera, LevelCaches, Options, RenderError, RenderLevel, RenderedLevels, TransferFunction,
    render_levels_unless,
};
use crate::view::View;
use crate::voxel::Scalar;

/// What a picture is of.
#[derive(Clone, Copy, Debug)]
pub struct LevelScene<'a> {
    /// From where.
    pub camera: &'a Camera,
    /// What values look like.
    pub transfer: &'a TransferFunction,
    /// How; `spacing` is that of level-0 voxels.
    pub options: &'a Options,
    /// How much coarser than its pixels, in levels, from -16 to 16.
    pub bias: f64,
}

/// Makes pictures of what is resident of a pyramid's levels.
pub trait LevelRenderer<T: Scalar, B: Backend> {
    /// A picture of what there is now, in a frame of its own, and its report, of which all is looked at but the counts of samples. `None` only where `stop` was set before it was done; who cannot stop makes
    /// it all the same.
    ///
    /// # Errors
    /// As [`render_levels`](crate::render::render_levels).
    fn picture(
        &mut self,
        pool: &Pool<B>,
        levels: &[RenderLevel<'_, SparseArray3D<T, B>>],
        scene: LevelScene<'_>,
        stop: &AtomicBool,
    ) -> Result<Option<RenderedLevels>, RenderError>;
}

/// Renders on the host, on the rayon pool that it is called from: [`render_levels`](crate::render::render_levels).
#[derive(Debug, Default)]
pub struct HostRenderer {
    caches: LevelCaches,
}

impl<T: Scalar, B: HostAddressable> LevelRenderer<T, B> for HostRenderer {
    fn picture(
        &mut self,
        pool: &Pool<B>,
        levels: &[RenderLevel<'_, SparseArray3D<T, B>>],
        scene: LevelScene<'_>,
        stop: &AtomicBool,
    ) -> Result<Option<RenderedLevels>, RenderError> {
        let frame = pool.frame();
        let views =
            levels.iter().map(|level| Ok((frame.view(level.volume).map_err(Box::new)?, level.factor)));
        let views: Vec<(View<'_, T>, _)> = views.collect::<Result<_, RenderError>>()?;
        let levels: Vec<_> =
            views.iter().map(|(view, factor)| RenderLevel { volume: view, factor: *factor }).collect();
        let LevelScene { camera, transfer, options, bias } = scene;
        render_levels_unless(&levels, camera, transfer, options, bias, &mut self.caches, stop)
    }
}

/// Renders on the device, and waits for it: milliseconds, but seconds the first time for a voxel type, when kernels are loaded. It does not stop.
///
/// Kernels take u8, u16, i16 and f32, and levels whose factors are whole multiples of those of the finest one that can be read; pictures of others are refused.
impl<T: Scalar> LevelRenderer<T, CudaBackend> for CudaCaster {
    fn picture(
        &mut self,
        pool: &Pool<CudaBackend>,
        levels: &[RenderLevel<'_, SparseArray3D<T, CudaBackend>>],
        scene: LevelScene<'_>,
        _stop: &AtomicBool,
    ) -> Result<Option<RenderedLevels>, RenderError> {
        let LevelScene { camera, transfer, options, bias } = scene;
        let frame = pool.device_frame();
        let picture = self.render_levels(&frame, levels, camera, transfer, options, bias)?;
        // What the kernels read stays until they are done; what else is wanted may go.
        frame.end().map_err(Box::new)?;
        picture.wait().map(Some)
    }
}
