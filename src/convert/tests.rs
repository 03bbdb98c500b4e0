//! Conversions as a Zarr library finds them: the levels that are computed where they are read, of every voxel read once where that can be, within the budget, whatever happened on the way.
#![allow(clippy::naive_bytecount, reason = "a test")]

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zarrs::array::{Array, ArrayBytes, ArraySubset};
use zarrs::filesystem::FilesystemStore;

use super::*;
use crate::error::{Error, LayoutError, ResidencyError, SourceError};
use crate::geometry::boxes::voxels;
use crate::geometry::{Coord, Extent, Region};
use crate::pyramid::{DeriveOptions, Downsample, PyramidSource};
use crate::source::{Instrumented, Procedural, TileSource, index};
use crate::store::{ZarrCodec, ZarrOptions};
use crate::voxel::Scalar;

fn read_level<T: Scalar>(root: &Path, level: usize) -> Vec<T> {
    let array = Array::open(Arc::new(FilesystemStore::new(root).unwrap()), &format!("/s{level}")).unwrap();
    let all = ArraySubset::new_with_shape(array.shape().to_vec());
    let bytes: ArrayBytes<'static> = array.retrieve_array_subset(&all).unwrap();
    bytemuck::pod_collect_to_vec(&bytes.into_fixed().unwrap())
}

fn read_source<T: Scalar>(source: &dyn TileSource<T>) -> Vec<T> {
    let whole = Region::whole(source.extent());
    let mut out = vec![T::zeroed(); index(voxels(whole.extent))];
    source.read(whole, &mut out).unwrap();
    out
}

fn noise(seed: u64, c: Coord) -> u64 {
    let mut v =
        seed ^ c.x.wrapping_mul(0x9e37_79b9) ^ c.y.wrapping_mul(0x85eb_ca6b) ^ c.z.wrapping_mul(0xc2b2_ae35);
    v = (v ^ (v >> 13)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    v ^ (v >> 29)
}

fn seed() -> u64 {
    let seed = std::env::var("VASTGRID_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    eprintln!("VASTGRID_SEED={seed}");
    seed
}

/// Noise, but nothing in the middle third, which is known to hold nothing.
fn volume<T: Scalar>(seed: u64, extent: Extent) -> Procedural<T> {
    let empty = move |x: u64| x >= extent.x / 3 && x < 2 * extent.x / 3;
    Procedural::new(extent, move |c: Coord| {
        if empty(c.x) { T::zeroed() } else { T::from_f64((noise(seed, c) % 1000) as f64 / 8.0) }
    })
    .with_uniform(move |r: Region| (empty(r.start.x) && empty(r.start.x + r.extent.x - 1)).then(T::zeroed))
}

fn options(seed: u64, method: Downsample) -> ConvertOptions {
    let side = |bits: u32| 4 + (seed >> bits) % 13;
    let chunk = Extent::new(side(0), side(8), side(16));
    let many = |bits: u32| 1 + (seed >> bits) % 3;
    let shard = Extent::new(chunk.x * many(24), chunk.y * many(28), chunk.z * many(32));
    let zarr = ZarrOptions {
        chunk,
        shard: (seed >> 36 & 3 > 0).then_some(shard),
        codec: ZarrCodec::Zstd { level: 1 },
        ..ZarrOptions::default()
    };
    ConvertOptions {
        method,
        coarsest_voxels: 500,
        spacing: [[1.0; 3], [1.0, 1.0, 3.0], [2.0, 1.0, 1.0]][index((seed >> 40) % 3)],
        input_chunk: (seed >> 44 & 1 == 1).then(|| Extent::cube(8 + (seed >> 48) % 20)),
        threads: 3,
        zarr,
        ..ConvertOptions::default()
    }
}

fn check<T: Scalar>(seed: u64, method: Downsample) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.ome.zarr");
    let side = |bits: u32, most: u64| 1 + (seed.rotate_left(bits) >> 20) % most;
    let extent = Extent::new(side(3, 90), side(13, 70), side(23, 50));
    let mut options = options(seed, method);
    let source = Instrumented::new(volume::<T>(seed, extent));
    let watch = source.instruments();
    // The least budget that does.
    options.budget_bytes = 0;
    let Err(Error::Residency(ResidencyError::OverBudget { needed_bytes, .. })) =
        Conversion::new(volume::<T>(seed, extent), options.clone())
    else {
        panic!("a budget of nothing")
    };
    options.budget_bytes = needed_bytes << (seed >> 52 & 3);
    let conversion = Conversion::new(source, options.clone()).unwrap();
    let (levels, progress) = (conversion.plan().levels.clone(), conversion.progress());
    let (tile, page) = (conversion.plan().tile, conversion.plan().page.unwrap_or(Extent::cube(1)));
    let pool_bytes = conversion.plan().pool_bytes;
    let summary = conversion.run(&root).unwrap();
    let all: u64 = levels.iter().map(|level| voxels(level.extent)).sum();
    assert_eq!((summary.written_voxels, summary.found_voxels), (all, 0));
    let derive = DeriveOptions {
        spacing: options.spacing,
        coarsest_voxels: options.coarsest_voxels,
        ..DeriveOptions::default()
    };
    let expected = PyramidSource::derive(volume::<T>(seed, extent), method, derive).unwrap();
    assert_eq!(levels.len(), expected.levels(), "{options:?}");
    for (level, planned) in levels.iter().enumerate() {
        assert_eq!(progress.voxels(level), voxels(planned.extent));
        let found: Vec<T> = read_level(&root, level);
        let expected = read_source(&**expected.source(level).unwrap());
        let same = bytemuck::cast_slice::<_, u8>(&found) == bytemuck::cast_slice::<_, u8>(&expected);
        assert!(same, "level {level} of {extent}: {options:?}");
    }
    let reads = watch.reads_by_region();
    let again: u64 = reads.iter().map(|(_, times)| *times - 1).sum();
    // A tile that lies in two groups may have gone when the second one comes. None does where tiles divide blocks, which are of chunks of even sides, and none goes where there is room for all.
    let divides = (0..3).all(|axis| {
        let [tile, chunk, full] = [tile, options.zarr.chunk, extent].map(|of| of.to_array()[axis]);
        tile >= full || (chunk + chunk % 2 * chunk).is_multiple_of(tile)
    });
    let of_page = [0, 1, 2].map(|axis| tile.to_array()[axis] * page.to_array()[axis]);
    let sides = [0, 1, 2].map(|axis| extent.to_array()[axis].next_multiple_of(of_page[axis]));
    let fits = sides.iter().product::<u64>() * size_of::<T>() as u64 <= pool_bytes;
    let most = if divides || fits { 0 } else { reads.len() as u64 / 4 };
    assert!(again <= most, "{again} of {} read again, in tiles of {tile}: {options:?}", reads.len());
}

#[test]
fn levels_are_those_that_are_computed_where_they_are_read_and_tiles_are_read_once() {
    let seed = seed();
    for round in 0..6 {
        let seed = noise(seed, Coord::new(round, 0, 0));
        for method in [Downsample::Mean, Downsample::Max, Downsample::Mode] {
            check::<u16>(seed, method);
            check::<i16>(seed.rotate_left(7), method);
            check::<f64>(seed.rotate_left(17), method);
        }
        check::<half::f16>(seed.rotate_left(27), Downsample::Mean);
        check::<u8>(seed.rotate_left(37), Downsample::Mode);
    }
}

/// Converts, with failures on the way, and once more without any; gives how many tries it took, and how many voxels the last one found.
fn interrupted(seed: u64, extent: Extent, mut options: ConvertOptions) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.ome.zarr");
    options.zarr.input = format!("noise {seed}");
    options.zarr.resume = true;
    let mut tries = 0;
    let (summary, progress, levels) = loop {
        let source = Instrumented::new(volume::<u16>(seed, extent));
        let watch = source.instruments();
        let conversion = Conversion::new(source, options.clone()).unwrap();
        let (progress, levels) = (conversion.progress(), conversion.plan().levels.clone());
        // Later and later, so that it comes to an end.
        watch.fail_nth(1 + noise(seed, Coord::new(tries, 1, 0)) % (4 + 4 * tries));
        tries += 1;
        assert!(tries < 200);
        match conversion.run(&root) {
            Ok(summary) => break (summary, progress, levels),
            Err(error) => {
                assert!(matches!(error, Error::Tile { .. }), "{error}");
                assert!(error.to_string().contains("fault injected"), "{error}");
                assert!(!root.exists());
            }
        }
    };
    assert!(tries > 1);
    for (level, planned) in levels.iter().enumerate() {
        assert_eq!(progress.voxels(level), voxels(planned.extent), "level {level}");
    }
    let all: u64 = levels.iter().map(|level| voxels(level.extent)).sum();
    assert_eq!(summary.written_voxels + summary.found_voxels, all);
    let other = folder.path().join("b.ome.zarr");
    options.zarr.resume = false;
    Conversion::new(volume::<u16>(seed, extent), options).unwrap().run(&other).unwrap();
    for level in 0..levels.len() {
        assert!(read_level::<u16>(&root, level) == read_level::<u16>(&other, level), "level {level}");
        for name in ["zarr.json".to_owned(), format!("vastgrid/ranges/s{level}/c/0/0/0/0")] {
            let read = |root: &Path| std::fs::read(root.join(&name)).unwrap();
            assert!(read(&root) == read(&other), "{name}");
        }
    }
    (tries, summary.found_voxels)
}

#[test]
fn a_conversion_that_failed_goes_on_and_ends_as_if_it_had_not() {
    let seed = seed();
    let mut options = options(seed, Downsample::Mean);
    options.zarr.shard = Some(Extent::from(options.zarr.chunk.to_array().map(|side| side * 2)));
    options.budget_bytes = 64 << 20;
    let (tries, found) = interrupted(seed, Extent::new(90, 70, 40), options);
    eprintln!("{tries} tries, {found} voxels found by the last");
}

#[test]
fn a_conversion_in_blocks_that_lie_in_several_shards_goes_on_as_well() {
    let seed = seed();
    let zarr =
        ZarrOptions { chunk: Extent::cube(5), shard: Some(Extent::cube(15)), ..ZarrOptions::default() };
    let mut options = ConvertOptions {
        coarsest_voxels: 500,
        input_chunk: Some(Extent::cube(16)),
        threads: 3,
        budget_bytes: 0,
        zarr,
        ..ConvertOptions::default()
    };
    let extent = Extent::new(110, 100, 90);
    // Little more than the least budget that does, so that there are many groups.
    let Err(Error::Residency(ResidencyError::OverBudget { needed_bytes, .. })) =
        Conversion::new(volume::<u16>(seed, extent), options.clone())
    else {
        panic!("a budget of nothing")
    };
    options.budget_bytes = needed_bytes + needed_bytes / 16;
    for round in 0..8 {
        let (tries, found) = interrupted(noise(seed, Coord::new(round, 0, 3)), extent, options.clone());
        eprintln!("{tries} tries, {found} voxels found by the last");
    }
}

#[test]
fn what_is_known_to_be_empty_costs_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.ome.zarr");
    // 2^36 voxels, of which 2^18 hold something.
    let extent = Extent::new(1 << 13, 1 << 12, 1 << 11);
    let inside =
        |r: &Region| Region::new(Coord::new(4096, 64, 640), Extent::cube(64)).intersection(r).is_some();
    let source = Procedural::new(extent, |c| {
        let part = Region::new(c, Extent::cube(1));
        u8::from(Region::new(Coord::new(4096, 64, 640), Extent::cube(64)).intersection(&part).is_some())
    })
    .with_uniform(move |r| (!inside(&r)).then_some(0));
    let conversion = Conversion::new(source, ConvertOptions::default()).unwrap();
    let levels = conversion.plan().levels.len();
    let start = std::time::Instant::now();
    conversion.run(&root).unwrap();
    eprintln!("{levels} levels in {:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 120);
    let array = Array::open(Arc::new(FilesystemStore::new(&root).unwrap()), "/s1").unwrap();
    let part = ArraySubset::new_with_ranges(&[320..352, 30..66, 2048..2080]);
    let found: ArrayBytes<'static> = array.retrieve_array_subset(&part).unwrap();
    let ones = found.into_fixed().unwrap().iter().filter(|v| **v == 1).count();
    assert_eq!(ones, 32 * 32 * 32);
}

#[test]
fn sources_that_fail_and_volumes_that_cannot_be_are_errors() {
    struct Broken;
    impl TileSource<u8> for Broken {
        fn extent(&self) -> Extent {
            Extent::cube(100)
        }
        fn read(&self, region: Region, out: &mut [u8]) -> Result<(), SourceError> {
            out.fill(1);
            if region.start.z > 50 { panic!("no more") } else { Ok(()) }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.ome.zarr");
    let error = Conversion::new(Broken, ConvertOptions::default()).unwrap().run(&root).unwrap_err();
    assert!(error.to_string().contains("panicked: no more"), "{error}");
    assert!(!root.exists());
    let empty = Procedural::new(Extent::new(0, 4, 4), |_| 0u8);
    assert!(matches!(Conversion::new(empty, ConvertOptions::default()), Err(Error::Layout(_))));
    for extent in beyond_all() {
        let huge = Procedural::new(extent, |_| 0u8);
        let error = Conversion::new(huge, ConvertOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Layout(LayoutError::BeyondAddressSpace { .. })), "{extent}: {error}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is() {
    let zarr = |chunk: u64, level: i32| ZarrOptions {
        chunk: Extent::cube(chunk),
        codec: ZarrCodec::Zstd { level },
        ..ZarrOptions::default()
    };
    let all = ConvertOptions::default;
    for (options, word) in [
        (ConvertOptions { zarr: zarr(0, 3), ..all() }, "chunk"),
        (ConvertOptions { zarr: zarr(64, 99), ..all() }, "s0"),
        (ConvertOptions { spacing: [1.0, f64::NAN, 1.0], ..all() }, "spacing"),
        (ConvertOptions { spacing: [1.0, 1.0, 0.0], ..all() }, "spacing"),
        (ConvertOptions { spacing: [f64::INFINITY, 1.0, 1.0], ..all() }, "spacing"),
        (ConvertOptions { origin: [0.0, 0.0, f64::NAN], ..all() }, "origin"),
        (ConvertOptions { origin: [f64::NEG_INFINITY, 0.0, 0.0], ..all() }, "origin"),
    ] {
        let error = Conversion::new(Procedural::new(Extent::cube(400), |_| 0u8), options).unwrap_err();
        assert!(matches!(error, Error::Store(_)) && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn sources_that_keep_what_they_decode_are_told_how_much_they_may() {
    struct Keeper(Arc<AtomicU64>);
    impl TileSource<u8> for Keeper {
        fn extent(&self) -> Extent {
            Extent::cube(200)
        }
        fn chunk(&self) -> Option<Extent> {
            Some(Extent::new(64, 32, 16))
        }
        fn kept_bytes(&self) -> u64 {
            1 << 40
        }
        fn keep_at_most(&self, bytes: u64) {
            self.0.store(bytes, Ordering::Relaxed);
        }
        fn read(&self, _: Region, out: &mut [u8]) -> Result<(), SourceError> {
            out.fill(1);
            Ok(())
        }
    }
    let told = Arc::new(AtomicU64::new(0));
    let conversion = Conversion::new(Box::new(Keeper(told.clone())), ConvertOptions::default()).unwrap();
    let plan = conversion.plan();
    assert_eq!((told.load(Ordering::Relaxed), plan.input_kept_bytes), (256 << 20, 256 << 20));
    assert!(plan.memory_bytes <= 512 << 20);
    assert_eq!(plan.tile, Extent::new(128, 64, 32));
    let folder = tempfile::tempdir().unwrap();
    let region = Region::whole(Extent::cube(50));
    let store = crate::store::RawStore::<u8>::create(folder.path().join("x"), region.extent).unwrap();
    copy_region(Keeper(told.clone()), region, &store, 4 << 20, None, &Progress::new(1)).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 2 << 20);
}

#[test]
fn sources_are_told_that_all_of_them_is_read_whatever_they_are_wrapped_in() {
    struct Listener(Arc<AtomicU64>);
    impl TileSource<u8> for Listener {
        fn extent(&self) -> Extent {
            Extent::cube(20)
        }
        fn will_read_all(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn read(&self, _: Region, out: &mut [u8]) -> Result<(), SourceError> {
            out.fill(1);
            Ok(())
        }
    }
    let told = Arc::new(AtomicU64::new(0));
    let listener = Box::new(Arc::new(Instrumented::new(Listener(told.clone()))));
    let index = crate::source::RangeIndexBuilder::<u8>::new(Extent::cube(20), Extent::cube(20)).unwrap();
    let ranged = crate::source::Ranged::new(listener, Arc::new(index.finish())).unwrap();
    let converted = crate::source::Converted::<_, u8, u16>::new(ranged);
    Conversion::<u16>::new(converted, ConvertOptions::default()).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_written_past_the_cache_is_the_same_and_not_in_it() {
    let extent = Extent::new(230, 170, 160);
    let seed = seed();
    let source = Procedural::new(extent, move |c: Coord| (noise(seed, c) & 0xffff) as u16);
    let expected = read_source(&source);
    let options = ConvertOptions { most_levels: 2, threads: 2, ..ConvertOptions::default() };
    let conversion = Conversion::new(source, options).unwrap();
    assert!(conversion.plan().past_cache_bytes > 0);
    let folder = tempfile::tempdir().unwrap();
    conversion.run(folder.path().join("image")).unwrap();
    // The one shard of the finest level: 12 MB that nothing makes smaller.
    let shard = std::fs::File::open(folder.path().join("image/s0/c/0/0/0")).unwrap();
    let has_way = crate::source::direct_alignment(&shard).is_some();
    rustix::fs::fadvise(&shard, 0, None, rustix::fs::Advice::Random).unwrap();
    let places = (0..10).map(|nth| crate::source::is_in_memory(&shard, (nth << 20) + 12_345));
    match places.collect::<Option<Vec<_>>>() {
        Some(there) if has_way => {
            let there = there.into_iter().filter(|&there| there).count();
            assert!(there <= 2, "{there} of 10 places are in the cache");
        }
        _ => eprintln!(
            "skipped in part: nothing is written past the cache of this file system, or it does not tell"
        ),
    }
    assert!(read_level::<u16>(&folder.path().join("image"), 0) == expected);
}

#[test]
fn pages_of_several_tiles_are_a_part_of_the_budget() {
    let extent = Extent::new(512, 192, 200);
    let seed = seed();
    let zarr = ZarrOptions {
        chunk: Extent::cube(32),
        shard: None,
        codec: ZarrCodec::Zstd { level: 1 },
        ..ZarrOptions::default()
    };
    let mut options =
        ConvertOptions { zarr, budget_bytes: 0, coarsest_voxels: 5000, ..ConvertOptions::default() };
    let noise = || Procedural::new(extent, move |c: Coord| (noise(seed, c) & 0xffff) as u16);
    let Err(Error::Residency(ResidencyError::OverBudget { needed_bytes, .. })) =
        Conversion::new(noise(), options.clone())
    else {
        panic!("a budget of nothing")
    };
    // The least has rows too short for tiles to share pages; the pool is as small as can be with any budget.
    for (budget_bytes, shares) in [(needed_bytes, false), (64 << 20, true)] {
        options.budget_bytes = budget_bytes;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a.ome.zarr");
        let source = Instrumented::new(noise());
        let watch = source.instruments();
        let conversion = Conversion::new(source, options.clone()).unwrap();
        assert_eq!(conversion.plan().page.is_some(), shares, "{:?}", conversion.plan());
        conversion.run(&root).unwrap();
        assert!(watch.reads_by_region().iter().all(|(_, times)| *times == 1));
        assert!(read_level::<u16>(&root, 0) == read_source(&noise()));
    }
}

/// Volumes that no memory addresses, with sides around what has no next power of two.
fn beyond_all() -> [Extent; 5] {
    let most = 1 << 63;
    [
        Extent::cube(u64::MAX),
        Extent::new(most + 1, 1, 1),
        Extent::new(1, most, 1),
        Extent::new(1, 1, u64::MAX),
        Extent::new(1 << 47, 1, 1),
    ]
}

#[test]
fn boxes_of_volumes_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let region = Region::whole(Extent::cube(1));
    for extent in beyond_all() {
        let store = crate::store::RawStore::<u8>::create(folder.path().join("x"), region.extent).unwrap();
        let source = Procedural::new(extent, |_| 0u8);
        let error = copy_region(source, region, &store, 4 << 20, None, &Progress::new(1)).unwrap_err();
        assert!(matches!(error, Error::Layout(LayoutError::BeyondAddressSpace { .. })), "{extent}: {error}");
    }
}

#[test]
fn boxes_are_copied_within_their_budget() {
    let seed = seed();
    let extent = Extent::new(70, 50, 40);
    let folder = tempfile::tempdir().unwrap();
    for (nth, (at, size)) in [
        ([0, 0, 0], [70, 50, 40]),
        ([3, 5, 7], [60, 40, 30]),
        ([69, 49, 39], [1, 1, 1]),
        ([0, 20, 0], [70, 1, 40]),
    ]
    .into_iter()
    .enumerate()
    {
        let region = Region::new(at.into(), size.into());
        let path = folder.path().join(format!("{nth}.raw"));
        let store = crate::store::RawStore::<u16>::create(&path, region.extent).unwrap();
        let progress = Progress::new(1);
        let source = volume::<u16>(seed, extent);
        copy_region(source, region, &store, 4 << 20, Some(Extent::cube(16)), &progress).unwrap();
        store.save().unwrap();
        assert_eq!(progress.voxels(0), voxels(region.extent));
        let mut expected = vec![0u16; index(voxels(region.extent))];
        volume::<u16>(seed, extent).read(region, &mut expected).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytemuck::cast_slice::<_, u8>(&expected), "{region}");
    }
    let store = crate::store::RawStore::<u16>::create(folder.path().join("x"), Extent::cube(9)).unwrap();
    let copy = |region: Region, budget: u64| {
        copy_region(volume::<u16>(seed, extent), region, &store, budget, None, &Progress::new(1)).unwrap_err()
    };
    let outside = Region::new(Coord::new(65, 0, 0), Extent::cube(9));
    assert!(matches!(copy(outside, 4 << 20), Error::Residency(ResidencyError::OutOfBounds { .. })));
    assert!(matches!(copy(Region::whole(Extent::cube(8)), 4 << 20), Error::Store(_)));
    let tiny = copy(Region::whole(Extent::cube(9)), 1000);
    assert!(matches!(tiny, Error::Residency(ResidencyError::OverBudget { .. })));
}
