//! Pictures of pyramids in the memory of a real CUDA device while they load: at any budget they end where unlimited memory would, and nothing is read twice once they have. The same as
//! `explore.rs` asks of the host. Skipped where there is no device, by a line that says so; `VASTGRID_REQUIRE_CUDA=1` makes that a failure.
#![cfg(feature = "render")]

mod common;

use std::sync::RwLockWriteGuard;
use std::time::Duration;

use common::cuda::{alone, device_or_skip, small_backend};
use common::pictures::{difference, modes};
use vastgrid::cuda::Device;
use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::cuda::CudaCaster;
use vastgrid::render::{
    Camera, DenseVolume, Image, Mode, Options, Projection, RenderLevel, Shading, TransferFunction, render,
};
use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{
    Coord, CudaBackend, Explorer, Extent, Fidelity, FidelityLimit, Pool, PoolConfig, Pyramid3D,
    PyramidSource, Region, SparseArray3D, StreamOptions,
};

const FULL: Extent = Extent::new(500, 460, 420);
const FACTORS: [f64; 3] = [1.0, 2.0, 4.0];
const PAGE: u64 = 2 << 20;
const TILE: u64 = 64;

type CudaExplorer = Explorer<u8, CudaBackend, CudaCaster>;

/// The device, for one test at a time.
fn device() -> Option<(Device, RwLockWriteGuard<'static, ()>)> {
    device_or_skip().map(|device| (device, alone()))
}

/// Hills and valleys everywhere, from 0 to 250.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 250")]
fn hills([x, y, z]: [f64; 3]) -> u8 {
    (125.0 + 62.0 * ((x * 0.027).sin() * (y * 0.018).cos() + (z * 0.022 + x * 0.005).sin())) as u8
}

fn pyramid(device: &Device, pages: u64) -> (Pyramid3D<u8, CudaBackend>, Vec<Instruments>) {
    let (mut builder, mut instruments) = (PyramidSource::builder(), Vec::new());
    for factor in FACTORS {
        let geometry = LevelGeometry::new(FULL, [factor; 3]);
        let source = Procedural::new(geometry.extent(), move |c: Coord| hills(geometry.centre(c)));
        let source = Instrumented::new(source);
        instruments.push(source.instruments());
        builder = builder.level([factor; 3], source);
    }
    let config = PoolConfig {
        budget_bytes: pages * PAGE,
        threads: 4,
        patience: Duration::from_secs(5),
        ..PoolConfig::default()
    };
    let pool = Pool::with_config(small_backend(device.clone()), config).unwrap();
    let builder = Pyramid3D::builder(&pool, builder.build().unwrap());
    let pyramid = builder.tile([TILE; 3]).page_bytes(PAGE).track_ranges().build().unwrap();
    (pyramid, instruments)
}

fn explorer(device: &Device, pages: u64) -> (CudaExplorer, Vec<Instruments>) {
    let (pyramid, instruments) = pyramid(device, pages);
    let caster = CudaCaster::new(device).unwrap();
    (Explorer::with_renderer(pyramid, caster, StreamOptions::default()).unwrap(), instruments)
}

fn transfer() -> TransferFunction {
    TransferFunction::new(
        &[(0.0, 0.0), (90.0, 0.0), (140.0, 0.02), (250.0, 0.2)],
        &[(0.0, [0.1, 0.2, 0.9]), (250.0, [1.0, 0.8, 0.2])],
        1.0,
    )
    .unwrap()
}

fn options(mode: Mode) -> Options {
    Options { width: 320, height: 280, mode, background: [0.0, 0.0, 0.0, 1.0], ..Options::default() }
}

/// Close enough that the near part wants level 0 and the far one level 1.
fn camera() -> Camera {
    let projection = Projection::Perspective { fov_degrees: 60.0 };
    Camera::look_at([250.0, -100.0, 210.0], [250.0, 230.0, 210.0], [0.0, 0.0, 1.0], projection)
}

/// Looks until waiting changes nothing; every picture on the way covers all rays.
fn settle(explorer: &mut CudaExplorer, camera: &Camera, options: &Options) -> (Image, Fidelity, u32) {
    for picture in 1..300 {
        let explored = explorer.picture(camera, &transfer(), options).unwrap();
        assert_eq!(explored.fidelity.uncovered_rays, 0, "picture {picture}: {}", explored.fidelity);
        let stats = explorer.pyramid().pool().stats();
        assert!(stats.used_bytes <= stats.budget_bytes);
        if explored.fidelity.is_converged() {
            return (explored.image, explored.fidelity, picture);
        }
        assert!(explorer.wait_idle(Duration::from_secs(20)));
    }
    panic!("never settles");
}

fn compare(expected: &Image, got: &Image, what: &str) {
    let difference = difference(expected, got);
    println!("{what}: {difference}");
    assert!(difference.is_small(), "{what}: {difference}");
}

/// All levels in memory.
struct Whole {
    pyramid: Pyramid3D<u8, CudaBackend>,
    caster: CudaCaster,
}

impl Whole {
    fn new(device: &Device) -> Self {
        let (pyramid, _) = pyramid(device, 400);
        for level in 0..FACTORS.len() {
            let array = pyramid.level(level).unwrap();
            let _ = array.request(&common::all_tiles(array)).unwrap().complete().unwrap();
        }
        Self { pyramid, caster: CudaCaster::new(device).unwrap() }
    }

    /// What unlimited memory gives at this bias.
    fn picture(&self, camera: &Camera, options: &Options, bias: f64) -> Image {
        let pyramid = &self.pyramid;
        let levels: Vec<_> = FACTORS
            .iter()
            .enumerate()
            .map(|(i, &f)| RenderLevel { volume: pyramid.level(i).unwrap(), factor: [f; 3] })
            .collect();
        let frame = pyramid.pool().device_frame();
        let picture = self.caster.render_levels(&frame, &levels, camera, &transfer(), options, bias).unwrap();
        frame.end().unwrap();
        let rendered = picture.wait().unwrap();
        assert!(rendered.report.is_complete() && rendered.report.lacked.is_empty());
        rendered.image
    }
}

#[test]
fn at_every_budget_pictures_end_as_unlimited_memory_would_have_them_at_that_bias() {
    let Some((device, _alone)) = device() else { return };
    let whole = Whole::new(&device);
    for mode in modes(150.0) {
        let options = options(mode);
        let (mut roomy, _) = explorer(&device, 400);
        let (_, fidelity, _) = settle(&mut roomy, &camera(), &options);
        assert!(fidelity.is_exact(), "{fidelity}");
        let coarsest = roomy.pyramid().pool().stats().pinned_bytes / PAGE;
        let needed = fidelity.needed_bytes / PAGE;
        assert!(needed > 20, "{needed} pages is no working set");
        drop(roomy);
        for quarters in [1, 2, 4, 8, 16] {
            let pages = (needed * quarters).div_ceil(4) + coarsest;
            let (mut explorer, _) = explorer(&device, pages);
            let (image, fidelity, pictures) = settle(&mut explorer, &camera(), &options);
            println!("{mode:?} at {quarters}/4 of {needed} pages: {pictures} pictures, {fidelity}");
            assert_eq!(fidelity.missing_tiles, 0);
            let expected = whole.picture(&camera(), &options, fidelity.bias);
            compare(&expected, &image, &format!("{mode:?}, {quarters}/4"));
            if quarters >= 4 {
                assert!(fidelity.is_exact(), "the budget holds it all: {fidelity}");
            } else {
                assert_eq!(fidelity.limit, FidelityLimit::Budget, "{fidelity}");
                assert!(fidelity.bias > 0.0 && !fidelity.is_exact());
            }
        }
    }
}

#[test]
fn where_only_the_finest_level_is_wanted_the_picture_is_that_of_the_host() {
    let Some((device, _alone)) = device() else { return };
    let geometry = LevelGeometry::new(FULL, [1.0; 3]);
    let dense = common::expected_by(Region::whole(FULL), |c| hills(geometry.centre(c)));
    let volume = DenseVolume::new(&dense, FULL).unwrap();
    for mode in modes(150.0) {
        let options = options(mode);
        let camera = Camera { projection: Projection::Orthographic { height: 300.0 }, ..camera() };
        let (mut explorer, _) = explorer(&device, 400);
        let (image, fidelity, _) = settle(&mut explorer, &camera, &options);
        assert!(fidelity.is_exact(), "{fidelity}");
        let expected = render(&volume, &camera, &transfer(), &options).unwrap();
        compare(&expected.image, &image, &format!("{mode:?}"));
    }
}

#[test]
fn a_steady_view_beyond_the_budget_reads_nothing_once_it_is_settled() {
    let Some((device, _alone)) = device() else { return };
    let options = options(Mode::Dvr { shading: None });
    let (mut explorer, instruments) = explorer(&device, 24);
    settle(&mut explorer, &camera(), &options);
    let reads = || instruments.iter().map(Instruments::reads).sum::<u64>();
    let before = reads();
    for _ in 0..30 {
        let explored = explorer.picture(&camera(), &transfer(), &options).unwrap();
        assert!(explored.fidelity.is_converged(), "{}", explored.fidelity);
        assert!(explorer.wait_idle(Duration::from_secs(5)));
    }
    assert_eq!(reads(), before, "no thrashing");
    // A larger budget is made use of, and a smaller one kept, while one looks.
    explorer.pyramid().pool().set_budget(400 * PAGE).unwrap();
    let (_, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert!(fidelity.is_exact(), "{fidelity}");
    explorer.pyramid().pool().set_budget(24 * PAGE).unwrap();
    let (_, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert_eq!(fidelity.limit, FidelityLimit::Budget);
}

/// While one walks through the volume with a budget of a third, each picture at once shows something everywhere.
#[test]
fn nothing_is_uncovered_while_one_moves() {
    let Some((device, _alone)) = device() else { return };
    let (mut explorer, _) = explorer(&device, 24);
    let options = options(Mode::Dvr { shading: Some(Shading::default()) });
    for step in 0..60 {
        let y = -100.0 + 6.0 * f64::from(step);
        let camera = Camera { eye: [250.0, y, 210.0], target: [250.0, y + 330.0, 210.0], ..camera() };
        let fidelity = explorer.picture(&camera, &transfer(), &options).unwrap().fidelity;
        assert_eq!(fidelity.uncovered_rays, 0, "step {step}: {fidelity}");
    }
    let last = Camera { eye: [250.0, 254.0, 210.0], target: [250.0, 584.0, 210.0], ..camera() };
    let (image, fidelity, _) = settle(&mut explorer, &last, &options);
    compare(&Whole::new(&device).picture(&last, &options, fidelity.bias), &image, "at the end");
}

#[test]
fn at_every_budget_the_exact_picture_is_that_of_the_host() {
    let Some((device, _alone)) = device() else { return };
    let geometry = LevelGeometry::new(FULL, [1.0; 3]);
    let dense = common::expected_by(Region::whole(FULL), |c| hills(geometry.centre(c)));
    let volume = DenseVolume::new(&dense, FULL).unwrap();
    let caster = CudaCaster::new(&device).unwrap();
    for mode in modes(150.0) {
        let options = options(mode);
        let expected = render(&volume, &camera(), &transfer(), &options).unwrap();
        for quarters in [1, 2, 4, 16] {
            // About what all of it takes.
            let budget_bytes = 64 * PAGE * quarters / 4;
            let pool = Pool::new(small_backend(device.clone()), budget_bytes).unwrap();
            let source = Procedural::new(FULL, move |c: Coord| hills(geometry.centre(c)));
            let builder = SparseArray3D::builder(&pool, source).tile([TILE; 3]).page_bytes(PAGE);
            let array = builder.track_ranges().build().unwrap();
            let mut turns = 0;
            let image = caster
                .render_exact(&pool, &array, &camera(), &transfer(), &options, &mut |_| turns += 1)
                .unwrap();
            let stats = pool.stats();
            println!("{turns} turns, {} loads", stats.loads);
            assert!(stats.used_bytes <= budget_bytes && (quarters > 2 || turns > 2 && stats.evictions > 0));
            compare(&expected.image, &image, &format!("{mode:?}, {quarters}/4"));
        }
    }
}
