//! Pictures made on a real CUDA device against those of the host: every mode and voxel type, with all there and with tiles missing, and memory that stays while a kernel reads.
//! Skipped where there is no device, by a line that says so; `VASTGRID_REQUIRE_CUDA=1` makes that a failure.
#![cfg(feature = "render")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes")]

mod common;

use std::sync::RwLockWriteGuard;

use common::Random;
use common::cuda::{alone, device_or_skip, small_backend};
use common::pictures::{Bricks, Difference, difference, modes};
use vastgrid::cuda::Device;
use vastgrid::render::cuda::{CastRendered, CastVolume, CudaCaster};
use vastgrid::render::{
    Camera, ClipBox, DenseVolume, Image, LevelCaches, Mode, Options, RenderError, RenderLevel, Rendered,
    TransferFunction, render, render_levels,
};
use vastgrid::source::Procedural;
use vastgrid::{Coord, CudaBackend, Extent, PageId, Pool, Region, Scalar, SparseArray3D, TileCoord, TileId};

const EXTENT: Extent = Extent::new(200, 170, 150);
const TILE: [u64; 3] = [32, 32, 16];
const PAGE: u64 = 2 << 20;

/// The device, for one test at a time: some look at its free memory.
fn device() -> Option<(Device, RwLockWriteGuard<'static, ()>)> {
    device_or_skip().map(|device| (device, alone()))
}

/// A field with empty parts, from 0 to 200.
fn field(c: Coord) -> f64 {
    let [x, y, z] = c.to_array().map(|v| v as f64);
    let noise = Random::new(c.x | c.y << 10 | c.z << 20).below(1000) as f64 / 250.0;
    (((x * 0.05).sin() + (y * 0.06).cos() + (z * 0.045 + 0.3).sin()) * 60.0 + noise + 20.0).clamp(0.0, 200.0)
}

fn value<T: Scalar>(c: Coord) -> T {
    T::from_f64(field(c))
}

fn pool(device: &Device, pages: u64) -> Pool<CudaBackend> {
    Pool::new(small_backend(device.clone()), pages * PAGE).unwrap()
}

fn array<T: Scalar>(pool: &Pool<CudaBackend>) -> SparseArray3D<T, CudaBackend> {
    let source = Procedural::new(EXTENT, value::<T>);
    SparseArray3D::builder(pool, source).tile(TILE).page_bytes(PAGE).track_ranges().build().unwrap()
}

fn transfer() -> TransferFunction {
    let colours = [(0.0, [0.2, 0.3, 1.0]), (90.0, [1.0, 0.8, 0.1]), (200.0, [1.0, 0.1, 0.1])];
    TransferFunction::new(&[(60.0, 0.0), (80.0, 0.03), (130.0, 0.005), (180.0, 0.2)], &colours, 1.0).unwrap()
}

fn camera(turn: f64) -> Camera {
    Camera::fit(EXTENT, [1.0; 3]).azimuth(25.0 + turn).elevation(-35.0)
}

fn options(mode: Mode) -> Options {
    Options { width: 250, height: 230, mode, background: [0.1, 0.2, 0.3, 1.0], ..Options::default() }
}

/// What is resident of an array, as the host's caster takes it.
fn resident<T: Scalar>(array: &SparseArray3D<T, CudaBackend>) -> Bricks<T> {
    Bricks::new(array.layout(), |tile| array.is_resident(tile), value::<T>)
}

/// Most tiles of so many pages, at random, in requests of one page each.
fn some_pages<T: Scalar>(
    array: &SparseArray3D<T, CudaBackend>,
    pages: u64,
    random: &mut Random,
) -> Vec<Vec<TileCoord>> {
    let layout = array.layout();
    let mut left: Vec<_> = (0..layout.page_count()).collect();
    let mut pick = || left.swap_remove(random.below(left.len() as u64) as usize);
    let chosen: Vec<_> = (0..pages).map(|_| PageId(pick())).collect();
    let mut tiles_of = |page| {
        let there = layout.tiles_of_page(page).filter_map(|id| layout.tile_coord(TileId(id)));
        there.filter(|_| random.below(8) > 0).collect()
    };
    chosen.into_iter().map(&mut tiles_of).collect()
}

fn compare(name: &str, expected: &Rendered, got: &CastRendered) {
    compare_images(name, &expected.image, &got.image);
}

fn compare_images(name: &str, expected: &Image, got: &Image) {
    let difference = difference(expected, got);
    println!("{name}: {difference}");
    assert!(difference.is_small(), "{name}: {difference}");
}

fn all_resident<T: Scalar>(device: &Device) {
    let (pool, caster) = (pool(device, 40), CudaCaster::new(device).unwrap());
    let array = array::<T>(&pool);
    let _ = array.request(&common::all_tiles(&array)).unwrap().complete().unwrap();
    let whole = Region::whole(EXTENT);
    let dense = common::expected_by(whole, value::<T>);
    let volume = DenseVolume::new(&dense, EXTENT).unwrap();
    let clip = ClipBox { low: [20.3, 0.0, 11.0], high: [170.0, 130.5, 140.0] };
    for mode in modes(95.0) {
        for clip in [None, Some(clip)] {
            let (camera, options) = (camera(0.0), Options { clip, ..options(mode) });
            let frame = pool.device_frame();
            let picture = caster.render(&frame, &CastVolume::of(&array), &camera, &transfer(), &options);
            let got = picture.unwrap().wait().unwrap();
            frame.end().unwrap();
            let expected = render(&volume, &camera, &transfer(), &options).unwrap();
            compare(&format!("{} {mode:?} {clip:?}", T::TYPE), &expected, &got);
            assert_eq!((got.report.wanted.len(), got.report.rays_incomplete), (0, 0));
            assert!(got.report.rays > 0 && got.report.samples > 0);
        }
    }
}

#[test]
fn pictures_of_what_is_all_there_are_those_of_the_host() {
    let Some((device, _alone)) = device() else { return };
    all_resident::<u8>(&device);
    all_resident::<u16>(&device);
    all_resident::<i16>(&device);
    all_resident::<f32>(&device);
}

#[test]
fn a_type_without_kernels_is_refused() {
    let Some((device, _alone)) = device() else { return };
    let (pool, caster) = (pool(&device, 4), CudaCaster::new(&device).unwrap());
    let array = array::<f64>(&pool);
    let frame = pool.device_frame();
    let picture =
        caster.render(&frame, &CastVolume::of(&array), &camera(0.0), &transfer(), &options(Mode::Mip));
    assert!(matches!(picture.map(drop), Err(RenderError::VoxelOfKernel { .. })));
}

#[test]
fn an_array_of_another_pool_is_refused() {
    let Some((device, _alone)) = device() else { return };
    let (a, b, caster) = (pool(&device, 4), pool(&device, 4), CudaCaster::new(&device).unwrap());
    let array = array::<u8>(&b);
    let frame = a.device_frame();
    let picture =
        caster.render(&frame, &CastVolume::of(&array), &camera(0.0), &transfer(), &options(Mode::Mip));
    assert!(matches!(picture.map(drop), Err(RenderError::Array(_))));
}

/// Budgets of some pages only: pictures of what is there, and every tile that the host lacks is noted.
fn some_missing<T: Scalar>(device: &Device, pages: u64) {
    let (pool, caster) = (pool(device, pages), CudaCaster::new(device).unwrap());
    // Without ranges: the kernel would know of tiles that are gone that they do not matter, which the host does not.
    let source = Procedural::new(EXTENT, value::<T>);
    let array = SparseArray3D::builder(&pool, source).tile(TILE).page_bytes(PAGE).build().unwrap();
    let mut random = Random::new(pages);
    // Pages that happen to hold nothing of a surface show nothing of it, but not all of them.
    let mut all = Difference::default();
    for (turn, mode) in modes(95.0).into_iter().enumerate() {
        for tiles in some_pages(&array, pages, &mut random) {
            let _ = array.request(&tiles).unwrap().complete().unwrap();
        }
        let (camera, options) = (camera(30.0 * turn as f64), options(mode));
        let options = Options { missing_colour: (turn % 2 == 0).then_some([0.0, 0.8, 0.1, 0.4]), ..options };
        let frame = pool.device_frame();
        let volume = CastVolume::of(&array);
        let picture = caster.render(&frame, &volume, &camera, &transfer(), &options).unwrap();
        let there = resident(&array);
        let got = picture.wait().unwrap();
        frame.end().unwrap();
        let expected = render(&there, &camera, &transfer(), &options).unwrap();
        let one = difference(&expected.image, &got.image);
        println!("{} {mode:?}, {pages} pages: {one}", T::TYPE);
        assert!(one.is_near(), "{mode:?}: {one}");
        all.and(&one);
        let noted: Vec<TileCoord> = got.report.wanted.iter().map(|wanted| wanted.tile).collect();
        assert!(!noted.is_empty() && noted.iter().all(|&tile| !array.is_resident(tile)));
        for wanted in expected.report.wanted.iter().filter(|wanted| wanted.rays > 2) {
            assert!(noted.contains(&wanted.tile), "{mode:?}: {wanted:?}");
        }
    }
    assert!(all.is_small(), "{all}");
}

#[test]
fn pictures_of_what_is_there_are_those_of_the_host() {
    let Some((device, _alone)) = device() else { return };
    some_missing::<u8>(&device, 2);
    some_missing::<u16>(&device, 3);
    some_missing::<f32>(&device, 5);
}

#[test]
fn asking_for_what_is_wanted_ends_with_the_whole_picture() {
    let Some((device, _alone)) = device() else { return };
    let (pool, caster) = (pool(&device, 40), CudaCaster::new(&device).unwrap());
    let array = array::<u16>(&pool);
    let (camera, options) = (camera(0.0), options(Mode::Dvr { shading: None }));
    let mut rounds = 0;
    let last = loop {
        let frame = pool.device_frame();
        let picture = caster.render(&frame, &CastVolume::of(&array), &camera, &transfer(), &options).unwrap();
        frame.end().unwrap();
        let rendered = picture.wait().unwrap();
        let wanted: Vec<_> = rendered.report.wanted.iter().map(|wanted| wanted.tile).collect();
        if wanted.is_empty() {
            break rendered;
        }
        let _ = array.request(&wanted).unwrap().complete().unwrap();
        rounds += 1;
        assert!(rounds < 20, "{} tiles wanted still", wanted.len());
    };
    println!("{rounds} rounds, {:?}", pool.stats());
    let dense = common::expected_by(Region::whole(EXTENT), value::<u16>);
    let expected =
        render(&DenseVolume::new(&dense, EXTENT).unwrap(), &camera, &transfer(), &options).unwrap();
    compare("at last", &expected, &last);
}

/// Frames end as soon as the picture is begun, and others ask for that memory at once: what kernels read stays until they are done.
#[test]
fn what_a_picture_reads_stays_until_it_is_done() {
    let Some((device, _alone)) = device() else { return };
    let (pool, caster) = (pool(&device, 3), CudaCaster::new(&device).unwrap());
    let array = array::<u16>(&pool);
    let mut random = Random::new(11);
    let options = Options { width: 900, height: 900, skip_empty: false, ..options(Mode::Mip) };
    let mut under_way = Vec::new();
    for round in 0..24u32 {
        for tiles in some_pages(&array, 3, &mut random) {
            let _ = array.request(&tiles).unwrap().complete().unwrap();
        }
        let camera = camera(f64::from(round) * 15.0);
        let frame = pool.device_frame();
        let volume = CastVolume::of(&array);
        let picture = caster.render(&frame, &volume, &camera, &transfer(), &options).unwrap();
        let there = (round % 6 == 5).then(|| resident(&array));
        frame.end().unwrap();
        under_way.push((camera, there, picture));
        if under_way.len() == 3 {
            for (camera, there, picture) in under_way.drain(..) {
                let got = picture.wait().unwrap();
                if let Some(there) = there {
                    compare(
                        "while memory moves",
                        &render(&there, &camera, &transfer(), &options).unwrap(),
                        &got,
                    );
                }
            }
        }
    }
}

#[test]
fn a_coarser_level_stands_in() {
    let Some((device, _alone)) = device() else { return };
    let (pool, caster) = (pool(&device, 40), CudaCaster::new(&device).unwrap());
    let fine = array::<f32>(&pool);
    let half = Extent::new(100, 85, 75);
    let coarse = move |c: Coord| -> f32 {
        let all =
            (0..8u64).map(|i| Coord::new(2 * c.x + (i & 1), 2 * c.y + (i >> 1 & 1), 2 * c.z + (i >> 2)));
        (all.map(field).sum::<f64>() / 8.0) as f32
    };
    let source = Procedural::new(half, coarse);
    let coarser = SparseArray3D::builder(&pool, source).tile(TILE).page_bytes(PAGE).build().unwrap();
    let _ = coarser.request(&common::all_tiles(&coarser)).unwrap().complete().unwrap();
    let (missing, all) = (resident(&fine), Bricks::new(coarser.layout(), |_| true, coarse));
    for mode in modes(95.0) {
        let options = options(mode);
        let volume = CastVolume::of(&fine).with_level(&coarser, [2; 3]).with_level_bias(-4.0);
        let frame = pool.device_frame();
        let picture = caster.render(&frame, &volume, &camera(0.0), &transfer(), &options).unwrap();
        let got = picture.wait().unwrap();
        frame.end().unwrap();
        let levels = [(&missing, 1.0), (&all, 2.0)].map(|(volume, f)| RenderLevel { volume, factor: [f; 3] });
        let mut caches = LevelCaches::default();
        let expected =
            render_levels(&levels, &camera(0.0), &transfer(), &options, -4.0, &mut caches).unwrap();
        compare_images(&format!("{mode:?} of the coarser level"), &expected.image, &got.image);
        assert!(got.report.shown.samples(0, Some(1)) > 0 && got.report.shown.samples(0, None) == 0);
        assert!(got.report.wanted.iter().all(|wanted| wanted.level == 0) && !got.report.wanted.is_empty());
    }
}

#[test]
fn casters_and_pictures_leave_nothing_behind() {
    let Some((device, _alone)) = device() else { return };
    let round = || {
        let (pool, caster) = (pool(&device, 6), CudaCaster::new(&device).unwrap());
        let array = array::<u8>(&pool);
        let _ = array.request(&common::all_tiles(&array)[..4]).unwrap().complete().unwrap();
        let frame = pool.device_frame();
        let mut under_way: Vec<_> = modes(95.0)
            .map(|mode| {
                caster.render(&frame, &CastVolume::of(&array), &camera(0.0), &transfer(), &options(mode))
            })
            .into();
        let first = under_way.remove(0).unwrap();
        frame.end().unwrap();
        drop(first.wait().unwrap());
        // The others are dropped before anyone looked.
        drop(under_way);
    };
    round();
    let before = device.memory().unwrap().0;
    for _ in 0..10 {
        round();
    }
    assert_eq!(device.memory().unwrap().0, before, "free device memory");
}
