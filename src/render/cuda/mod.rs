//! Owns ray casting on a CUDA device: [`CudaCaster`]. The modes, options and pictures are those of [`render`](super::render); what is shown are arrays of a
//! [`CudaBackend`] pool, or pyramids of them.
//!
//! ```no_run
//! use vastgrid::render::cuda::{CastVolume, CudaCaster};
//! use vastgrid::render::{Camera, Options, TransferFunction};
//! use vastgrid::{CudaBackend, Pool, SparseArray3D};
//!
//! # fn f(source: impl vastgrid::TileSource<u16> + 'static) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(CudaBackend::open(0)?, 8 << 30)?;
//! let array = SparseArray3D::builder(&pool, source).build()?;
//! let caster = CudaCaster::new(pool.backend().device())?;
//! let (camera, options) = (Camera::fit(array.extent(), [1.0; 3]), Options::default());
//! let transfer = TransferFunction::grey_ramp(0.0, 4095.0)?;
//! loop {
//!     let frame = pool.device_frame();
//!     let picture = caster.render(&frame, &CastVolume::of(&array), &camera, &transfer, &options)?;
//!     frame.end()?; // what the kernel reads stays until it is done
//!     let rendered = picture.wait()?;
//!     let wanted: Vec<_> = rendered.report.wanted.iter().map(|wanted| wanted.tile).collect();
//!     if wanted.is_empty() {
//!         break;
//!     }
//!     let _ = array.request(&wanted)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! In a pyramid a sample wants the coarsest level whose voxels are no larger than a pixel is there; what is shown is the finest that is there, at or beyond the wanted one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::camera::Camera;
use super::error::RenderError;
use super::options::Options;
use super::transfer::TransferFunction;
use crate::array::SparseArray3D;
use crate::backend::CudaBackend;
use crate::backend::cuda::{Device, Flight, Launch, Launcher, Step};
use crate::device::DeviceFrame;
use crate::error::{BackendError, Error};
use crate::voxel::Scalar;

mod boxes;
mod describe;
mod exact;
mod levels;
mod parameters;
mod plan;
mod report;

pub use exact::CastTurns;
pub use levels::LevelsPicture;
pub use parameters::{CastParameters, MAX_LEVELS};
pub use plan::{CastPlan, PlanLevel};
pub use report::{CastRendered, CastReport, MetOfLevel, ShownLevels, WantedOfLevel};

/// What is shown: an array, or a pyramid of arrays of one pool.
#[derive(Clone, Debug)]
pub struct CastVolume<'p, T: Scalar> {
    levels: Vec<(&'p SparseArray3D<T, CudaBackend>, [u32; 3])>,
    level_bias: f64,
}

impl<'p, T: Scalar> CastVolume<'p, T> {
    /// One array.
    #[must_use]
    pub fn of(array: &'p SparseArray3D<T, CudaBackend>) -> Self {
        Self { levels: vec![(array, [1; 3])], level_bias: 0.0 }
    }

    /// With a coarser level: voxel `i` of it covers the finest level's voxels from `i * factor` up to `(i + 1) * factor` along each axis.
    #[must_use]
    pub fn with_level(mut self, array: &'p SparseArray3D<T, CudaBackend>, factor: [u32; 3]) -> Self {
        self.levels.push((array, factor));
        self
    }

    /// With so many levels less of detail than a pixel's size asks for (0).
    #[must_use]
    pub fn with_level_bias(self, level_bias: f64) -> Self {
        Self { level_bias, ..self }
    }
}

/// Makes pictures on a CUDA device. Keeps the kernels, a stream, and the memory of pictures that were waited for.
#[derive(Debug)]
pub struct CudaCaster {
    launcher: Launcher,
    /// Tiles besides those that are resident that pictures of several levels have room to tell of: more after one that had too little.
    room: Arc<AtomicU64>,
}

impl CudaCaster {
    /// A caster for arrays of that device.
    ///
    /// **Cost**: a stream. The kernels for a voxel type are loaded when the first picture of such voxels is made: the driver compiles them, which takes seconds once, and keeps them in
    /// its cache.
    ///
    /// # Errors
    /// [`RenderError::Array`]: the driver's refusal.
    pub fn new(device: &Device) -> Result<Self, RenderError> {
        let room = Arc::new(AtomicU64::new(levels::ROOM));
        Ok(Self { launcher: Launcher::new(device).map_err(refused)?, room })
    }

    /// Begins a picture of what is resident now, and returns at once.
    ///
    /// What is missing contributes nothing where no coarser level stands in for it, and is listed in the report where it could have contributed. Space is leapt over where the ranges of
    /// tiles are known: see [`track_ranges`](crate::ArrayBuilder::track_ranges). They are those of what was loaded, so arrays that kernels may write to are never leapt over.
    ///
    /// The frame may end at once: the memory that the kernel reads stays until it is done.
    ///
    /// # Errors
    /// As [`render`](super::render); [`RenderError::Level`] and [`RenderError::VoxelOfKernel`]; [`RenderError::Array`] for an array of another pool than the frame's, or the driver's
    /// refusal.
    pub fn render<'p, T: Scalar>(
        &'p self,
        frame: &DeviceFrame<'p>,
        volume: &CastVolume<'p, T>,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) -> Result<CastPicture, RenderError> {
        let mut levels = Vec::with_capacity(volume.levels.len());
        for &(array, factor) in &volume.levels {
            let view = frame.view(array, self.launcher.stream()).map_err(Box::new)?;
            levels.push(PlanLevel { view, layout: array.layout(), factor });
        }
        self.launch(CastPlan::new::<T>(&levels, volume.level_bias, camera, transfer, options)?)
    }

    /// Puts a plan's kernels on the stream. The views of its levels are of a frame that is open.
    fn launch(&self, plan: CastPlan) -> Result<CastPicture, RenderError> {
        let (boxes, met) = (plan.boxes_kernel(), plan.met_kernel());
        let mut steps = vec![
            Step { kernel: &boxes, grid: plan.boxes_grid(), block: plan.boxes_block() },
            Step { kernel: plan.kernel(), grid: plan.grid(), block: plan.block() },
        ];
        steps.extend(met.as_deref().map(|kernel| Step { kernel, grid: plan.grid(), block: plan.block() }));
        let launch = Launch {
            ptx: plan.ptx(),
            steps: &steps,
            input: plan.input(),
            output_bytes: plan.output_bytes(),
            result_bytes: plan.result_bytes(),
            zero_from: plan.zero_from(),
        };
        let flight = self.launcher.launch(&launch, |input, output| plan.parameters(input, output));
        Ok(CastPicture { flight: flight.map_err(refused)?, plan })
    }
}

/// A picture under way. Dropping it waits for it.
#[derive(Debug)]
#[must_use = "a picture is for looking at"]
pub struct CastPicture {
    flight: Flight,
    plan: CastPlan,
}

impl CastPicture {
    /// Whether it is there.
    ///
    /// # Errors
    /// [`RenderError::Array`]: the device is lost.
    pub fn is_done(&self) -> Result<bool, RenderError> {
        self.flight.is_done().map_err(refused)
    }

    /// The picture, once it is there.
    ///
    /// # Errors
    /// [`RenderError::Array`]: the device is lost.
    pub fn wait(self) -> Result<CastRendered, RenderError> {
        self.plan.finish(self.flight.wait().map_err(refused)?)
    }
}

fn refused(error: BackendError) -> RenderError {
    RenderError::Array(Box::new(Error::from(error)))
}
