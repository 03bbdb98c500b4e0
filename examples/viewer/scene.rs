//! Owns [`Scene`]: the levels of a volume, and the eyes that look at them, each through a budget of its own.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use vastgrid::pyramid::{DeriveOptions, Downsample};
use vastgrid::render::cuda::CudaCaster;
use vastgrid::{
    CudaBackend, Explorer, Extent, HostBackend, HostRenderer, LevelGeometry, Pool, Pyramid3D, PyramidSource,
    Scalar, SourceError, StreamOptions, TileCoord,
};

use crate::Failure;
use crate::args::{Args, Backend};
use crate::demo;
use crate::eye::{ExplorersEye, Eye};
use crate::place::Place;
use crate::view::{Facts, Palette};
use crate::volume::{Image, Volume, delayed};

/// The coarsest level takes no more of the budget than one part in so many,
const COARSEST_PART: u64 = 8;
/// nor more voxels than this: it is there before the first picture.
const COARSEST_VOXELS: u64 = 64 * 64 * 64;
/// The least that a device's pages take: small volumes and budgets have few of them.
const DEVICE_PAGE_BYTES: u64 = 2 << 20;
/// Volumes up to so many bytes are read once before the first picture, rather than shown by single voxels at first.
const READ_FIRST_BYTES: u64 = 32 << 20;

/// What eyes look at. Cheap to clone: clones share what they computed.
#[derive(Clone)]
pub(crate) struct Scene<T: Scalar> {
    pub(crate) levels: PyramidSource<T>,
    pub(crate) facts: Facts,
    pub(crate) name: Arc<str>,
    pub(crate) budget_bytes: u64,
    pub(crate) tile: u64,
    page_bytes: Option<u64>,
    backend: Backend,
}

impl<T: Scalar> Scene<T> {
    /// Levels computed from a volume.
    pub(crate) fn new(volume: Volume<T>, args: &Args) -> Result<Self, Failure> {
        let Volume { source, mut facts, about } = volume;
        let voxel_bytes = T::TYPE.bytes() as u64;
        let bytes = facts.extent.checked_volume().map_or(u64::MAX, |v| v.saturating_mul(voxel_bytes));
        facts.whole_bytes = Some(bytes);
        let coarsest_voxels = (about.budget_bytes / COARSEST_PART / voxel_bytes).min(COARSEST_VOXELS);
        let options = DeriveOptions {
            spacing: facts.spacing,
            coarsest_voxels: coarsest_voxels.max(1),
            tile: Some(Extent::cube(args.tile().clamp(1, 64))),
            provisional: bytes > READ_FIRST_BYTES,
            ..DeriveOptions::default()
        };
        let levels = match &about.image {
            Some(image) => levels_of(image, facts.spacing, Duration::from_millis(args.delay))?
                .with_derived(Downsample::Mean, options)?,
            None => PyramidSource::derive(source, Downsample::Mean, options)?,
        };
        facts.extent = levels.extent();
        Ok(Self {
            levels,
            facts,
            name: about.name.into(),
            budget_bytes: about.budget_bytes,
            tile: args.tile(),
            page_bytes: args.page_bytes,
            backend: args.backend,
        })
    }

    /// An eye, with a budget of its own. Reads the coarsest level.
    pub(crate) fn eye(&self) -> Result<Box<dyn Eye>, Failure> {
        match self.backend {
            Backend::Host => self.eye_in(HostBackend::new(), HostRenderer::default(), self.page_bytes),
            Backend::Cuda => {
                let named = |error| format!("--backend cuda: {error}");
                let backend = CudaBackend::open(0).map_err(named)?;
                let caster = CudaCaster::new(backend.device())?;
                self.eye_in(backend, caster, self.page_bytes.or(Some(DEVICE_PAGE_BYTES)))
            }
        }
    }

    fn eye_in<B: Place<T>>(
        &self,
        backend: B,
        renderer: B::Renderer,
        page_bytes: Option<u64>,
    ) -> Result<Box<dyn Eye>, Failure> {
        let pool = Pool::new(backend, self.budget_bytes)?;
        let builder =
            Pyramid3D::builder(&pool, self.levels.clone()).tile(Extent::cube(self.tile)).track_ranges();
        let builder = match page_bytes {
            Some(bytes) => builder.page_bytes(bytes),
            None => builder,
        };
        let explorer = Explorer::with_renderer(builder.build()?, renderer, StreamOptions::default())?;
        Ok(Box::new(ExplorersEye::new(explorer, self.facts.clone())))
    }

    /// The middle of a tile, in the world.
    pub(crate) fn middle(&self, level: usize, tile: TileCoord) -> [f64; 3] {
        let factor = self.levels.geometry(level).map_or([1.0; 3], LevelGeometry::factor);
        let at = [tile.x, tile.y, tile.z];
        [0, 1, 2]
            .map(|axis| (at[axis] as f64 + 0.5) * self.tile as f64 * factor[axis] * self.facts.spacing[axis])
    }
}

/// The levels that an image has; those that cannot be read are told and left out.
fn levels_of<T: Scalar>(
    image: &Image,
    spacing: [f64; 3],
    delay: Duration,
) -> Result<PyramidSource<T>, Failure> {
    let found = image.opened.pyramid::<T>(&image.selection)?;
    let mut levels = PyramidSource::builder().spacing(spacing).extent(found.extent());
    for level in 0..found.levels() {
        let factor = found.geometry(level).map_or([1.0; 3], LevelGeometry::factor);
        let source = found.source(level).cloned().map_err(|reason| {
            // Nobody may be listening.
            let _ = writeln!(std::io::stderr(), "viewer: {reason}");
            SourceError::Other(Box::new(reason))
        });
        levels = levels.try_level(factor, source.map(|source| delayed(source, delay)));
    }
    Ok(levels.build()?)
}

impl Scene<u8> {
    /// The planet of [`demo`].
    pub(crate) fn huge(args: &Args) -> Result<Self, Failure> {
        let levels = demo::huge(|source| delayed(source, Duration::from_millis(args.delay)))?;
        let facts = Facts {
            extent: levels.extent(),
            spacing: levels.spacing(),
            range: (0.0, 255.0),
            palette: Palette::Strata,
            fades_by_pixels: true,
            whole_bytes: None,
            zoom: 1.75,
        };
        let budget_bytes = args.budget.unwrap_or(512 << 20);
        Ok(Self {
            levels,
            facts,
            name: "demo: huge".into(),
            budget_bytes,
            tile: args.tile(),
            page_bytes: args.page_bytes,
            backend: args.backend,
        })
    }
}
