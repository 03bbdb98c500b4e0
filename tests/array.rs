//! What a user can do with an array, on every backend.

mod common;

use common::{array, expected, pool, value, volume};
use vastgrid::backend::{Checked, HostBackend, ModelBackend, ModelConfig};
use vastgrid::source::Procedural;
use vastgrid::{
    Backend, Coord, Error, Extent, HostAddressable, LayoutError, Pool, Region, ResidencyError, SparseArray3D,
    Tile, TileCoord,
};

fn host() -> HostBackend {
    HostBackend::new()
}

fn model() -> Checked<ModelBackend> {
    Checked::new(ModelBackend::new(ModelConfig::default()))
}

fn t(x: u64, y: u64, z: u64) -> TileCoord {
    TileCoord::new(x, y, z)
}

/// One test, stamped for the model and the host.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod model { $(#[test] fn $name() { super::$name(super::model()); })* }
        mod host { $(#[test] fn $name() { super::$name(super::host()); })* }
    };
}

on_every_backend!(
    regions_larger_than_the_budget_are_read_whole,
    tiles_are_loaded_once_and_evicted_least_recently_used_first,
    one_failing_tile_does_not_keep_others_from_loading,
    a_page_of_failed_tiles_keeps_no_memory,
    budgets_grow_and_shrink_live,
    several_arrays_share_one_budget,
    pins_outlast_everything_and_hold_the_budget,
    uniform_tiles_take_no_memory,
    evicting_gives_memory_back,
    dropping_an_array_gives_all_back,
    bad_requests_are_named,
    whatever_fits_is_loaded_and_the_rest_left_out,
);

fn regions_larger_than_the_budget_are_read_whole<B: Backend>(backend: B) {
    let pool = pool(backend, 5 * 4096, 1000);
    let (array, _) = array(&pool, Extent::new(61, 37, 29));
    let whole = Region::whole(array.extent());
    assert_eq!(array.to_vec(whole).unwrap(), expected(whole));
    assert!(pool.stats().used_bytes <= 5 * 4096);
    let part = Region::new(Coord::new(3, 5, 7), Extent::new(55, 1, 22));
    assert_eq!(array.to_vec(part).unwrap(), expected(part));
    assert_eq!(array.to_vec(Region::new(Coord::new(61, 0, 0), Extent::new(0, 1, 1))).unwrap(), [0u16; 0]);
}

#[test]
fn pages_come_back_to_the_memory_that_they_had() {
    let model = ModelBackend::new(ModelConfig { remembers: true, ..ModelConfig::default() });
    let pool = pool(Checked::new(model.clone()), 8 * 4096, 1000);
    let (array, _) = array(&pool, Extent::cube(64));
    let tiles = common::all_tiles(&array);
    let mut random = common::Random::new(11);
    for round in 0..4000 {
        let first = usize::try_from(random.below(tiles.len() as u64 - 2)).unwrap();
        let _ = array.request(&tiles[first..first + 2]).unwrap().complete().unwrap();
        if round % 64 == 0 {
            let region = array.layout().tile_region(tiles[first]);
            assert_eq!(array.to_vec(region).unwrap(), expected(region));
        }
        assert!(pool.stats().used_bytes <= 8 * 4096);
    }
    let (loads, came_back) = (pool.stats().commits, model.came_back());
    assert!(came_back * 3 > loads, "{came_back} of {loads} pages");
}

fn tiles_are_loaded_once_and_evicted_least_recently_used_first<B: Backend>(backend: B) {
    let pool = pool(backend, 2 * 4096, 1000);
    let (array, counts) = array(&pool, Extent::cube(64));
    let report = array.request(&[t(0, 0, 0), t(1, 1, 0), t(0, 0, 0)]).unwrap().complete().unwrap();
    assert_eq!((report.loaded, report.hits, counts.reads()), (2, 0, 2));
    let report = array.request(&[t(0, 0, 0), t(1, 1, 0)]).unwrap();
    assert_eq!((report.loaded, report.hits, counts.reads()), (0, 2, 2));
    let _ = array.request(&[t(2, 0, 0)]).unwrap();
    let _ = array.request(&[t(0, 0, 0)]).unwrap();
    let _ = array.request(&[t(4, 0, 0)]).unwrap();
    assert_eq!(
        array.resident_tiles(),
        [t(0, 0, 0), t(1, 1, 0), t(4, 0, 0)],
        "the second page was the oldest"
    );
    assert_eq!(pool.stats().evictions, 1);
}

fn one_failing_tile_does_not_keep_others_from_loading<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 1000);
    let (array, faults) = array(&pool, Extent::cube(64));
    faults.fail_region(array.layout().tile_region(t(1, 0, 0)));
    faults.panic_region(array.layout().tile_region(t(0, 1, 0)));
    let tiles = [t(0, 0, 0), t(1, 0, 0), t(0, 1, 0), t(1, 1, 0), t(4, 4, 4)];
    let report = array.request(&tiles).unwrap();
    assert_eq!(report.loaded, 3);
    assert_eq!(report.failed.iter().map(|f| f.tile).collect::<Vec<_>>(), [t(1, 0, 0), t(0, 1, 0)]);
    assert!(report.failed[1].error.to_string().contains("panicked"), "{}", report.failed[1].error);
    assert!(matches!(report.complete(), Err(Error::Tile { tile, .. }) if tile == t(1, 0, 0)));
    let failing = array.to_vec(array.layout().tile_region(t(1, 0, 0)));
    assert!(matches!(failing, Err(Error::Tile { .. })));
    faults.clear_faults();
    assert_eq!(array.request(&tiles).unwrap().complete().unwrap().loaded, 2, "a failure is not remembered");
}

fn a_page_of_failed_tiles_keeps_no_memory<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 1000);
    let (array, faults) = array(&pool, Extent::cube(64));
    faults.fail_region(Region::whole(array.extent()));
    let report = array.request(&[t(0, 0, 0), t(5, 5, 5)]).unwrap();
    assert_eq!((report.failed.len(), pool.stats().mapped_pages), (2, 0));
    pool.trim().unwrap();
    assert_eq!(pool.stats().used_bytes, 0);
}

fn budgets_grow_and_shrink_live<B: Backend>(backend: B) {
    let pool = pool(backend, 8 * 4096, 1000);
    let (array, _) = array(&pool, Extent::cube(64));
    let tiles: Vec<_> = (0..8).map(|i| t(i / 4 * 2, i % 4 * 2, 0)).collect();
    let _ = array.request(&tiles).unwrap().complete().unwrap();
    assert_eq!(pool.stats().used_bytes, 8 * 4096);
    pool.set_budget(3 * 4096).unwrap();
    assert_eq!((pool.stats().used_bytes, pool.stats().mapped_pages), (3 * 4096, 3));
    assert!(matches!(
        array.request(&tiles),
        Err(Error::Residency(ResidencyError::OverBudget { needed_bytes: 32768, budget_bytes: 12288 }))
    ));
    pool.set_budget(20 * 4096).unwrap();
    let _ = array.request(&tiles).unwrap().complete().unwrap();
    assert!(matches!(pool.set_budget(4095), Err(Error::Residency(ResidencyError::BudgetBelowPage { .. }))));
    assert_eq!(pool.stats().budget_bytes, 20 * 4096);
}

fn several_arrays_share_one_budget<B: Backend>(backend: B) {
    let pool = pool(backend, 64 << 10, 1000);
    let (small, _) = array(&pool, Extent::cube(64));
    let (source, _) = volume(Extent::cube(64));
    let large = SparseArray3D::builder(&pool, source).tile([16, 16, 16]).page([2, 1, 1]).build().unwrap();
    for round in 0..3 {
        let a = Region::new(Coord::new(8 * round, 0, 0), Extent::new(24, 16, 16));
        let b = Region::new(Coord::new(0, 16 * round, 0), Extent::new(64, 16, 16));
        assert_eq!(small.to_vec(a).unwrap(), expected(a));
        assert_eq!(large.to_vec(b).unwrap(), expected(b));
        assert!(pool.stats().used_bytes <= 64 << 10);
    }
    assert!(pool.stats().evictions > 0);
}

fn pins_outlast_everything_and_hold_the_budget<B: Backend>(backend: B) {
    let pool = pool(backend, 3 * 4096, 30);
    let (array, _) = array(&pool, Extent::cube(64));
    let pins = array.pin(&[t(0, 0, 0), t(2, 0, 0)]).unwrap();
    assert_eq!((pins.bytes(), pool.stats().pinned_bytes), (8192, 8192));
    for i in 0..8 {
        let _ = array.request(&[t(i, 7, 7)]).unwrap().complete().unwrap();
    }
    assert!(array.is_resident(t(0, 0, 0)) && array.is_resident(t(2, 0, 0)));
    let err = array.request(&[t(0, 4, 4), t(4, 4, 4)]).unwrap_err();
    let Error::Residency(ResidencyError::NothingToEvict { pinned_bytes: 8192, .. }) = err else {
        panic!("{err}")
    };
    let err = pool.set_budget(4096).unwrap_err();
    assert!(matches!(err, Error::Residency(ResidencyError::NothingToEvict { .. })), "{err}");
    assert_eq!((pool.stats().budget_bytes, array.evict(Region::whole(array.extent())).unwrap()), (12288, 1));
    drop(array);
    assert_eq!(pool.stats().pinned_bytes, 8192, "pins keep the array's memory");
    drop(pins);
    assert_eq!((pool.stats().pinned_bytes, pool.stats().used_bytes), (0, 0));
}

fn uniform_tiles_take_no_memory<B: Backend>(backend: B) {
    let pool = pool(backend, 4096, 1000);
    let source = Procedural::new(Extent::cube(1 << 12), value)
        .with_fill(9)
        .with_uniform(|region| (region.start.x >= 8).then_some(if region.start.y == 0 { 9 } else { 31 }));
    let array = SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
    let report = array.request_region(Region::new(Coord::new(8, 0, 0), Extent::cube(256))).unwrap();
    assert_eq!((report.uniform, report.loaded, pool.stats().used_bytes), (33 * 32 * 32 - 32 * 32, 0, 0));
    let across = Region::new(Coord::new(7, 6, 0), Extent::new(2, 4, 1));
    let (a, b) = (value(Coord::new(7, 6, 0)), value(Coord::new(7, 7, 0)));
    let (c, d) = (value(Coord::new(7, 8, 0)), value(Coord::new(7, 9, 0)));
    assert_eq!(array.to_vec(across).unwrap(), [a, 9, b, 9, c, 31, d, 31]);
    assert!(pool.stats().uniform_tiles >= 32 * 32 * 32);
}

fn evicting_gives_memory_back<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 1000);
    let (array, counts) = array(&pool, Extent::cube(64));
    let _ = array.request_region(Region::whole(Extent::cube(32))).unwrap().complete().unwrap();
    let reads = counts.reads();
    assert_eq!(array.evict(Region::new(Coord::new(0, 0, 0), Extent::new(16, 16, 8))).unwrap(), 1);
    assert_eq!(pool.stats().used_bytes, 15 * 4096);
    assert!(!array.is_resident(t(0, 0, 0)) && array.is_resident(t(2, 0, 0)));
    let region = Region::whole(Extent::cube(32));
    assert_eq!(array.to_vec(region).unwrap(), expected(region));
    assert_eq!(counts.reads() - reads, 4, "only the evicted page is read again");
}

fn dropping_an_array_gives_all_back<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 1000);
    for _ in 0..3 {
        let (array, _) = array(&pool, Extent::cube(64));
        let _ = array.request_region(Region::whole(Extent::cube(48))).unwrap().complete().unwrap();
        assert!(pool.stats().used_bytes > 0);
    }
    let stats = pool.stats();
    assert_eq!((stats.used_bytes, stats.mapped_pages, stats.resident_tiles), (0, 0, 0));
}

fn bad_requests_are_named<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 1000);
    let (array, _) = array(&pool, Extent::new(61, 37, 29));
    let outside = array.request(&[t(8, 0, 0)]).unwrap_err();
    assert!(matches!(outside, Error::Residency(ResidencyError::OutOfBounds { .. })), "{outside}");
    assert!(matches!(
        array.request(&[t(u64::MAX, 0, 0)]),
        Err(Error::Residency(ResidencyError::OutOfBounds { .. }))
    ));
    let beyond = Region::new(Coord::new(60, 0, 0), Extent::new(2, 1, 1));
    assert!(array.request_region(beyond).is_err() && array.evict(beyond).is_err());
    let err = array.read_region(Region::whole(Extent::cube(2)), &mut [0; 7]).unwrap_err();
    assert_eq!(err.to_string(), "a buffer of 7 voxels for a region of 8");
    let build = |extent: Extent, tile: u64| {
        SparseArray3D::builder(&pool, Procedural::new(extent, value))
            .tile(Extent::cube(tile))
            .build()
            .map(|_| ())
    };
    assert!(matches!(build(Extent::new(0, 1, 1), 8), Err(Error::Layout(LayoutError::EmptyExtent { .. }))));
    assert!(matches!(build(Extent::cube(64), 12), Err(Error::Layout(LayoutError::TileShape { .. }))));
    assert!(matches!(
        build(Extent::cube(1 << 40), 8),
        Err(Error::Layout(LayoutError::BeyondAddressSpace { .. }))
    ));
    assert!(matches!(
        build(Extent::cube(4096), 256),
        Err(Error::Residency(ResidencyError::BudgetBelowPage { .. }))
    ));
}

fn whatever_fits_is_loaded_and_the_rest_left_out<B: Backend>(backend: B) {
    let pool = pool(backend, 4 * 4096, 1000);
    let (array, _) = array(&pool, Extent::cube(64));
    let pins = array.pin(&[t(7, 7, 7)]).unwrap();
    let tiles: Vec<_> = (0..8).map(|i| t(i, 0, 0)).collect();
    let report = array.request_fitting(&tiles).unwrap();
    assert_eq!((report.loaded, report.left_out), (6, 2));
    drop(pins);
}

#[test]
fn frames_show_what_is_resident_and_nothing_else() {
    let pool = pool(host(), 1 << 20, 1000);
    let (array, _) = array(&pool, Extent::new(61, 37, 29));
    let _ = array.request_region(Region::whole(Extent::new(24, 37, 29))).unwrap().complete().unwrap();
    let frame = pool.frame();
    let view = frame.view(&array).unwrap();
    let mut accessor = view.accessor();
    for z in 0..30 {
        for y in 0..38 {
            for x in 0..62 {
                let there = x < 32 && y < 37 && z < 29 && x / 8 < 3;
                let want = there.then(|| value(Coord::new(x, y, z)));
                assert_eq!(view.get([x, y, z]), want, "{x} {y} {z}");
                assert_eq!(accessor.get([x, y, z]), want, "{x} {y} {z}");
            }
        }
    }
    assert!(matches!(view.tile(t(3, 0, 0)), Tile::Missing) && matches!(view.tile(t(9, 0, 0)), Tile::Missing));
    let Tile::Resident(voxels) = view.tile(t(2, 1, 1)) else { panic!("resident") };
    assert_eq!(voxels[8 * 8 * 3 + 8 * 2 + 1], value(Coord::new(17, 10, 11)));
    assert_eq!(view.get([u64::MAX, 0, 0]), None);
    let other = pool.clone();
    assert!(other.frame().view(&array).is_ok(), "clones are one pool");
    let foreign = Pool::new(host(), 1 << 20).unwrap();
    let frame = foreign.frame();
    assert!(matches!(frame.view(&array).unwrap_err(), Error::Residency(ResidencyError::ForeignArray)));
}

#[test]
fn neighbourhoods_cross_tiles_and_clamp_at_faces() {
    let pool = pool(host(), 1 << 20, 1000);
    let extent = Extent::new(21, 19, 18);
    let (array, _) = array(&pool, extent);
    let _ = array.request_region(Region::whole(extent)).unwrap().complete().unwrap();
    let view = array.frame();
    let mut accessor = view.accessor();
    for z in 0..18u64 {
        for y in 0..19u64 {
            for x in 0..21u64 {
                let near = |v: u64, d: u64, n: u64| (v + d).saturating_sub(1).min(n - 1);
                let want: Vec<_> = (0..27)
                    .map(|i| {
                        value(Coord::new(near(x, i % 3, 21), near(y, i / 3 % 3, 19), near(z, i / 9, 18)))
                    })
                    .collect();
                assert_eq!(accessor.neighbourhood([x, y, z]).unwrap().to_vec(), want);
            }
        }
    }
    assert_eq!(accessor.neighbourhood([21, 0, 0]), None);
}

#[test]
fn ranges_are_known_once_loaded_and_after_eviction() {
    let pool = pool(host(), 2 * 4096, 1000);
    let source = Procedural::new(Extent::cube(32), |c: Coord| (c.x + 100 * c.y) as f32);
    let array = SparseArray3D::builder(&pool, source)
        .tile([8, 8, 16])
        .page([1, 1, 1])
        .track_ranges()
        .build()
        .unwrap();
    let range = |x, y| array.frame().cell_range(t(x, y, 0), 1);
    assert_eq!(range(1, 1), None);
    assert_eq!(array.get([8, 8, 0]).unwrap(), 808.0);
    assert_eq!(range(1, 1), Some((808.0, 1515.0)));
    for i in 0..4 {
        assert_eq!(array.get([8 * i, 0, 0]).unwrap(), (8 * i) as f32);
    }
    assert!(!array.is_resident(t(1, 1, 0)));
    assert_eq!(range(1, 1), Some((808.0, 1515.0)));
}

#[test]
fn get_loads_what_it_needs_under_the_smallest_budget() {
    let pool = pool(host(), 4096, 1000);
    let (array, _) = array(&pool, Extent::cube(64));
    for c in [[0, 0, 0], [63, 63, 63], [0, 63, 0], [31, 32, 33]] {
        assert_eq!(array.get(c).unwrap(), value(c.into()));
    }
    assert!(matches!(array.get([64, 0, 0]), Err(Error::Residency(ResidencyError::OutOfBounds { .. }))));
}

#[test]
fn extents_of_2_to_the_46_bytes_cost_what_is_touched() {
    fn check<B: HostAddressable>(backend: B, extent: Extent, tile: [u64; 3], page: [u64; 3]) {
        let pool = pool(backend, 1 << 20, 1000);
        let source = Procedural::new(extent, value);
        let array = SparseArray3D::builder(&pool, source).tile(tile).page(page).build().unwrap();
        assert_eq!(array.layout().reserved_bytes(), 1 << 46);
        let last = Coord::new(extent.x - 1, extent.y - 1, extent.z - 1);
        for c in [Coord::new(0, 0, 0), last, Coord::new(extent.x / 2, extent.y / 3, extent.z / 5)] {
            assert_eq!(array.get(c).unwrap(), value(c));
        }
        let _ = array
            .to_vec(Region::new(Coord::new(last.x - 40, last.y - 40, last.z - 40), Extent::cube(41)))
            .unwrap();
        assert!(pool.stats().used_bytes <= 1 << 20);
    }
    check(host(), Extent::new(1 << 15, 1 << 15, 1 << 15), [8, 8, 32], [1, 1, 1]);
    check(host(), Extent::new(1 << 15, 1 << 15, 1 << 15), [32, 32, 32], [1, 1, 1]);
    check(Checked::new(host()), Extent::new(1 << 13, 1 << 15, 1 << 17), [16, 16, 16], [2, 2, 2]);
}

#[test]
fn each_of_many_is_what_get_gives_whatever_their_number() {
    let pool = Pool::new(host(), 1 << 20).unwrap();
    let source = Procedural::new(Extent::cube(64), |c: Coord| c.x + 64 * c.y + 4096 * c.z)
        .with_uniform(|region: Region| (region.start.z == 32).then_some(7));
    let array = SparseArray3D::builder(&pool, source).tile([16; 3]).build().unwrap();
    let tiles = (0..32).map(|i| t(i % 4, i / 4 % 2, i / 8));
    let _ = array.request(&tiles.collect::<Vec<_>>()).unwrap().complete().unwrap();
    let view = array.frame();
    // Resident, uniform, missing and outside; below, at and beyond as many as are asked for ahead.
    for count in [0, 1, 63, 64, 65, 128, 1000] {
        let positions: Vec<_> =
            (0..count).map(|i| Coord::new(i * 37 % 64, i * 101 % 65, i * 59 % 64)).collect();
        let mut found = Vec::new();
        view.get_each(positions.iter().copied(), |voxel| found.push(voxel));
        let wanted: Vec<_> = positions.iter().map(|&c| view.get(c)).collect();
        assert_eq!(found, wanted);
        if count == 1000 {
            let different = |value: Option<u64>| found.contains(&value);
            assert!(different(None) && different(Some(7)) && found.iter().flatten().any(|&v| v > 7));
        }
    }
}
