//! What a user can do with a pyramid, on every backend without a device.

mod common;

use std::time::Duration;

use common::{pool, value};
use vastgrid::backend::{Checked, HostBackend, ModelBackend, ModelConfig};
use vastgrid::pyramid::{Downsampled, SharedSource};
use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{
    Backend, Coord, DeriveOptions, Downsample, Error, Extent, HostAddressable, Pool, Pyramid3D, PyramidError,
    PyramidSource, Region, ResidencyError, SourceError, TileCoord, TileSource,
};

/// Pages of 2 x 2 x 1 tiles of 8^3 voxels of 2 bytes.
const PAGE: u64 = 4096;

fn build<B: Backend>(pool: &Pool<B>, source: PyramidSource<u16>) -> Result<Pyramid3D<u16, B>, Error> {
    Pyramid3D::builder(pool, source).tile([8, 8, 8]).page([2, 2, 1]).build()
}

/// One test, stamped for the model and the host.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod model { $(#[test] fn $name() { super::$name(super::model()); })* }
        mod host { $(#[test] fn $name() { super::$name(super::HostBackend::new()); })* }
    };
}

fn model() -> Checked<ModelBackend> {
    Checked::new(ModelBackend::new(ModelConfig::default()))
}

on_every_backend!(
    the_coarsest_level_is_there_from_the_start_and_stays,
    a_budget_that_holds_only_the_coarsest_says_so_for_others,
    a_budget_too_small_for_the_coarsest_is_named,
    levels_that_could_not_be_opened_are_told_with_their_reason,
    what_cannot_be_read_is_told_with_its_level,
    tiles_of_the_coarsest_that_fail_are_listed,
    a_provisional_level_gives_way_to_the_exact_one,
    what_was_computed_is_found_after_eviction,
    many_threads_see_the_exact_levels_through_a_small_budget,
    levels_of_one_value_take_no_memory,
);

fn missing() -> Result<Procedural<u16>, SourceError> {
    Err(SourceError::Other("the disk is gone".into()))
}

/// Levels of 64^3, 32^3 and 16^3 voxels, each the test volume in its own coordinates; the last takes 2 pages.
fn three_levels() -> (PyramidSource<u16>, [Instruments; 3]) {
    let level = |side| Instrumented::new(Procedural::new(Extent::cube(side), value));
    let levels = [level(64), level(32), level(16)];
    let watches = [0, 1, 2].map(|k: usize| levels[k].instruments());
    let [fine, middle, coarse] = levels;
    let source = PyramidSource::builder()
        .level([1.0; 3], fine)
        .level([2.0; 3], middle)
        .level([4.0; 3], coarse)
        .spacing([0.5, 0.5, 1.0])
        .build()
        .unwrap();
    (source, watches)
}

/// A volume of odd sides whose levels are derived.
fn derived(provisional: bool) -> (PyramidSource<u16>, Instruments) {
    let volume = Instrumented::new(Procedural::new(Extent::new(101, 67, 35), value));
    let watch = volume.instruments();
    let tile = Some(Extent::cube(8));
    let options = DeriveOptions { coarsest_voxels: 10_000, tile, provisional, ..DeriveOptions::default() };
    (PyramidSource::derive(volume, Downsample::Mean, options).unwrap(), watch)
}

fn exact(source: &SharedSource<u16>) -> Vec<u16> {
    let extent = source.extent();
    let mut out = vec![0; usize::try_from(extent.checked_volume().unwrap()).unwrap()];
    source.read(Region::whole(extent), &mut out).unwrap();
    out
}

fn whole<B: Backend>(pyramid: &Pyramid3D<u16, B>, level: usize) -> Result<Vec<u16>, Error> {
    let array = pyramid.level(level)?;
    array.to_vec(Region::whole(array.extent()))
}

fn all_resident<B: Backend>(pyramid: &Pyramid3D<u16, B>) -> bool {
    let coarsest = pyramid.coarsest();
    let mut tiles = coarsest.layout().tiles_in(Region::whole(coarsest.extent()));
    tiles.all(|tile| coarsest.is_resident(tile))
}

fn the_coarsest_level_is_there_from_the_start_and_stays<B: Backend>(backend: B) {
    let (source, [fine, middle, coarse]) = three_levels();
    let pool = pool(backend, 4 * PAGE, 1000);
    let pyramid = build(&pool, source).unwrap();
    assert_eq!((pyramid.levels(), pyramid.coarsest_level()), (3, 2));
    assert_eq!((pyramid.extent(), pyramid.spacing()), (Extent::cube(64), [0.5, 0.5, 1.0]));
    assert_eq!(pyramid.factor(1), Some([2.0; 3]));
    assert_eq!(pyramid.factor(3), None);
    assert_eq!(pyramid.to_string(), "64 x 64 x 64 in 3 level(s)");
    assert_eq!(pyramid.pool().stats().used_bytes, 2 * PAGE);
    assert_eq!((fine.reads(), middle.reads(), coarse.reads()), (0, 0, 8));
    assert_eq!(pyramid.finest_resident([63, 0, 0]), Some(2));
    assert_eq!(pyramid.finest_resident([64, 0, 0]), None);

    pyramid.level(1).unwrap().request(&[TileCoord::new(3, 0, 0)]).unwrap().complete().unwrap();
    assert_eq!(pyramid.finest_resident([63, 0, 0]), Some(1));
    assert_eq!(pyramid.finest_resident([0, 0, 0]), Some(2));
    for level in [0, 1, 0] {
        whole(&pyramid, level).unwrap();
        assert!(all_resident(&pyramid));
    }
    assert_eq!(coarse.reads(), 8, "it was never loaded again");
    assert!(pool.stats().used_bytes <= 4 * PAGE);
    drop(pyramid);
    pool.trim().unwrap();
    assert_eq!(pool.stats().used_bytes, 0);
}

fn a_budget_that_holds_only_the_coarsest_says_so_for_others<B: Backend>(backend: B) {
    let pool = pool(backend, 2 * PAGE, 50);
    let pyramid = build(&pool, three_levels().0).unwrap();
    let error = whole(&pyramid, 1).map(drop).unwrap_err();
    assert!(matches!(error, Error::Residency(ResidencyError::NothingToEvict { .. })), "{error}");
    assert!(all_resident(&pyramid));
    pool.set_budget(3 * PAGE).unwrap();
    assert_eq!(whole(&pyramid, 0).unwrap().len(), 64 * 64 * 64);
    assert!(pool.set_budget(PAGE).is_err(), "pins hold more");
}

fn a_budget_too_small_for_the_coarsest_is_named<B: Backend>(backend: B) {
    let pool = pool(backend, PAGE, 50);
    let error = build(&pool, three_levels().0).unwrap_err();
    let Error::Pyramid(PyramidError::Coarsest { level, needed_bytes, budget_bytes, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!((level, needed_bytes, budget_bytes), (2, 2 * PAGE, PAGE));
    assert_eq!(pool.stats().used_bytes, 0);
    let error = Pyramid3D::builder(&pool, three_levels().0).page_bytes(2 * PAGE).tile([8, 8, 8]).build();
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Pyramid(PyramidError::Level { level: 0, .. })), "{error}");
    assert!(error.to_string().contains(&PAGE.to_string()), "{error}");
}

fn levels_that_could_not_be_opened_are_told_with_their_reason<B: Backend>(backend: B) {
    let source = PyramidSource::builder()
        .level([1.0; 3], Procedural::new(Extent::cube(64), value))
        .try_level([2.0; 3], missing())
        .level([4.0; 3], Procedural::new(Extent::cube(16), value))
        .try_level([8.0; 3], missing())
        .build()
        .unwrap();
    let pool = pool(backend, 8 * PAGE, 1000);
    let pyramid = build(&pool, source).unwrap();
    assert_eq!((pyramid.levels(), pyramid.coarsest_level()), (4, 2));
    for level in [1, 3] {
        let error = pyramid.level(level).map(drop).unwrap_err();
        assert_eq!(error.to_string(), format!("level {level} is unavailable: the disk is gone"));
    }
    let error = pyramid.level(4).map(drop).unwrap_err();
    assert!(matches!(error, Error::Pyramid(PyramidError::NoSuchLevel { level: 4, levels: 4 })), "{error}");
    assert_eq!(pyramid.finest_resident([1, 2, 3]), Some(2));
    assert_eq!(pyramid.factor(3), Some([8.0; 3]));
    assert_eq!(pyramid.geometry(1).unwrap().extent(), Extent::cube(32));
    assert!(format!("{pyramid:?}").contains("the disk is gone"));
}

fn what_cannot_be_read_is_told_with_its_level<B: Backend>(backend: B) {
    let (source, [_, middle, _]) = three_levels();
    let pool = pool(backend, 16 * PAGE, 1000);
    let pyramid = build(&pool, source).unwrap();
    middle.fail_region(Region::new(Coord::new(9, 0, 0), Extent::cube(1)));
    let report = pyramid.level(1).unwrap().request_region(Region::whole(Extent::cube(16))).unwrap();
    assert_eq!((report.failed.len(), report.loaded), (1, 7));
    let error = report.complete().unwrap_err();
    assert!(error.to_string().contains("level 1: fault injected"), "{error}");
    let Error::Tile { error, .. } = error else { panic!("{error}") };
    assert!(matches!(*error, SourceError::Level { level: 1, .. }));
    assert_eq!(pyramid.finest_resident([18, 0, 0]), Some(2), "the coarser one stands in");
    middle.clear_faults();
    middle.panic_region(Region::whole(Extent::cube(32)));
    let report = pyramid.level(1).unwrap().request(&[TileCoord::new(3, 3, 3)]).unwrap();
    let error = report.complete().unwrap_err().to_string();
    assert!(error.contains("level 1: the source panicked"), "{error}");
    assert_eq!(pyramid.finest_resident([0, 0, 0]), Some(1));
}

fn tiles_of_the_coarsest_that_fail_are_listed<B: Backend>(backend: B) {
    let pool = pool(backend, 16 * PAGE, 1000);
    let (source, [_, _, coarse]) = three_levels();
    coarse.fail_region(Region::whole(Extent::cube(1)));
    let pyramid = build(&pool, source).unwrap();
    let [failed] = pyramid.coarsest_failures() else { panic!("{:?}", pyramid.coarsest_failures()) };
    assert_eq!(failed.tile, TileCoord::new(0, 0, 0));
    assert_eq!((pyramid.finest_resident([0, 0, 0]), pyramid.finest_resident([40, 0, 0])), (None, Some(2)));
    coarse.clear_faults();
    pyramid.coarsest().request(&[failed.tile]).unwrap().complete().unwrap();
    assert_eq!(pyramid.finest_resident([0, 0, 0]), Some(2));
    drop(pyramid);

    let (source, [_, _, coarse]) = three_levels();
    coarse.fail_region(Region::whole(Extent::cube(16)));
    let error = build(&pool, source).unwrap_err();
    assert!(error.to_string().contains("level 2: fault injected"), "{error}");
}

fn a_provisional_level_gives_way_to_the_exact_one<B: Backend>(backend: B) {
    let (source, watch) = derived(true);
    let expected = exact(source.source(2).unwrap());
    let (source, fresh) = (derived(true).0, watch);
    fresh.reset_counts();
    // The coarsest has 26 x 17 x 9 voxels: 2 x 2 x 2 pages.
    let pool = pool(backend, 12 * PAGE, 50);
    let pyramid = build(&pool, source).unwrap();
    assert!(pyramid.is_provisional() && all_resident(&pyramid));
    let first = whole(&pyramid, 2).unwrap();
    assert_eq!(first[1], value(Coord::new(6, 2, 2)), "the middle of its block");

    let error = pyramid.refine_coarsest().unwrap_err();
    let Error::Pyramid(PyramidError::Coarsest { level: 2, budget_bytes, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(budget_bytes, 12 * PAGE);
    assert!(pyramid.is_provisional() && all_resident(&pyramid), "as before");

    pool.set_budget(16 * PAGE).unwrap();
    let standing_in = pyramid.coarsest();
    pyramid.refine_coarsest().unwrap();
    assert!(!pyramid.is_provisional() && all_resident(&pyramid));
    assert_eq!(whole(&pyramid, 2).unwrap(), expected);
    assert_eq!(standing_in.extent(), pyramid.coarsest().extent(), "still there for who holds it");
    pyramid.refine_coarsest().unwrap();
    pool.set_budget(8 * PAGE).unwrap();
    assert!(all_resident(&pyramid), "only what stood in went");
}

fn what_was_computed_is_found_after_eviction<B: Backend>(backend: B) {
    let (source, watch) = derived(false);
    let pool = pool(backend, 12 * PAGE, 1000);
    let pyramid = build(&pool, source).unwrap();
    let all = 101 * 67 * 35 * 2;
    assert_eq!(watch.bytes_read(), all, "the coarsest level was computed");
    for _ in 0..3 {
        whole(&pyramid, 1).unwrap();
        pyramid.level(1).unwrap().evict(Region::whole(pyramid.level(1).unwrap().extent())).unwrap();
    }
    assert!(pool.stats().evictions > 0, "{:?}", pool.stats());
    assert_eq!(watch.bytes_read(), all, "nothing was computed twice");
}

fn many_threads_see_the_exact_levels_through_a_small_budget<B: Backend>(backend: B) {
    let (source, _) = derived(true);
    let expected: Vec<_> = (0..3).map(|level| exact(source.source(level).unwrap())).collect();
    let pool = pool(backend, 40 * PAGE, 10_000);
    let pyramid = build(&pool, derived(true).0).unwrap();
    std::thread::scope(|s| {
        let (pyramid, expected) = (&pyramid, &expected);
        for thread in 0..3 {
            s.spawn(move || {
                for round in 0..3 {
                    let level = (thread + round) % 2;
                    assert_eq!(whole(pyramid, level).unwrap(), expected[level], "level {level}");
                    if round == 1 {
                        pyramid.refine_coarsest().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(whole(&pyramid, 2).unwrap(), expected[2]);
    assert!(pool.stats().used_bytes <= 40 * PAGE);
}

fn levels_of_one_value_take_no_memory<B: Backend>(backend: B) {
    let volume = Procedural::new(Extent::cube(1 << 14), |_| 7u16).with_fill(3).with_uniform(|_| Some(7));
    let source = PyramidSource::derive(volume, Downsample::Mean, DeriveOptions::default()).unwrap();
    assert_eq!(source.levels(), 8);
    let pool = pool(backend, PAGE, 1000);
    let pyramid = build(&pool, source).unwrap();
    pyramid.refine_coarsest().unwrap();
    assert_eq!(pool.stats().used_bytes, 0);
    assert_eq!(pyramid.finest_resident([5, 5, 5]), Some(7));
    let tile = TileCoord::new(100, 0, 3);
    assert_eq!(pyramid.level(3).unwrap().request(&[tile]).unwrap().complete().unwrap().uniform, 1);
    assert_eq!(pyramid.finest_resident([6400, 0, 192]), Some(3));
}

#[test]
fn choices_and_fill_values_reach_every_level() {
    let pool = pool(HostBackend::new(), 1 << 20, 1000);
    let level = |side, fill| Procedural::new(Extent::cube(side), |_| 1u16).with_fill(fill);
    let source =
        PyramidSource::builder().level([1.0; 3], level(33, 8)).level([3.0; 3], level(11, 9)).build().unwrap();
    let pyramid = Pyramid3D::builder(&pool, source)
        .tile([16, 16, 8])
        .page_bytes(1 << 14)
        .track_ranges()
        .build()
        .unwrap();
    for (k, fill) in [(0, 8), (1, 9)] {
        let array = pyramid.level(k).unwrap();
        assert_eq!(array.layout().tile_shape(), Extent::new(16, 16, 8));
        assert_eq!(array.layout().page_bytes(), 1 << 14);
        array.request_region(Region::whole(array.extent())).unwrap().complete().unwrap();
        let frame = array.frame();
        let vastgrid::Tile::Resident(voxels) = frame.tile(TileCoord::default()) else { panic!() };
        let beyond = usize::try_from(array.extent().x.min(16)).unwrap();
        assert_eq!(voxels.get(beyond).copied().filter(|_| beyond < 16), (beyond < 16).then_some(fill));
    }
}

#[test]
fn a_pyramid_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let pool = pool(HostBackend::new(), 1 << 20, 1000);
    let pyramid = build(&pool, three_levels().0).unwrap();
    shared(&pyramid);
    shared(&three_levels().0);
}

/// The pictures of an open frame stay whole while the coarsest level is replaced.
#[test]
fn a_frame_goes_on_reading_what_stood_in() {
    fn read<B: HostAddressable>(pyramid: &Pyramid3D<u16, B>, expected: u16) {
        let standing_in = pyramid.coarsest();
        let frame = standing_in.frame();
        pyramid.refine_coarsest().unwrap();
        assert_eq!(frame.get([1, 0, 0]), Some(expected));
    }
    let pool = pool(HostBackend::new(), 64 * PAGE, 1000);
    let pyramid = build(&pool, derived(true).0).unwrap();
    read(&pyramid, value(Coord::new(6, 2, 2)));
}

#[test]
fn a_level_over_a_level_is_what_it_says() {
    let volume = || Procedural::new(Extent::new(101, 67, 35), value);
    let half = Downsampled::new(volume(), [2, 2, 2], Downsample::Mean).unwrap();
    let quarter: SharedSource<u16> =
        std::sync::Arc::new(Downsampled::new(half, [2, 2, 2], Downsample::Mean).unwrap());
    assert_eq!(exact(derived(false).0.source(2).unwrap()), exact(&quarter));
}

/// The aim is 100 ms from the call to a resident level, optimised; a slow or busy machine is given more.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a distance of at most 1774")]
#[test]
fn the_first_coarse_level_of_a_large_volume_comes_at_once() {
    let source = PyramidSource::procedural(Extent::cube(2048), |[x, y, z]| {
        ((x - 1024.0).powi(2) + (y - 1024.0).powi(2) + (z - 1024.0).powi(2)).sqrt() as u16
    })
    .unwrap();
    let pool = Pool::new(HostBackend::new(), 256 << 20).unwrap();
    let start = std::time::Instant::now();
    let pyramid = Pyramid3D::builder(&pool, source).build().unwrap();
    let took = start.elapsed();
    println!("a coarsest level of {} after {took:?}", pyramid.coarsest().extent());
    assert!(all_resident(&pyramid));
    assert!(took < Duration::from_secs(2), "{took:?}");
}
