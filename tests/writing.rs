//! Writing to arrays on the host: random programs against a plain map, with a scratch store that fails now and then; and what a user may rely on, one thing at a time.

mod common;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Random;
use vastgrid::source::{Fill, Procedural};
use vastgrid::store::{ScratchFile, ScratchStore};
use vastgrid::{
    Coord, Error, Extent, HostBackend, Pool, PoolConfig, Region, ResidencyError, SparseArray3D, StoreError,
    Tile, TileCoord, compute,
};

/// A scratch file that fails when told to.
#[derive(Debug, Default)]
struct Moody {
    file: ScratchFile,
    refuses: Arc<AtomicBool>,
    /// Tiles that it took.
    kept: Arc<AtomicU64>,
}

impl ScratchStore for Moody {
    fn keep(&self, tile: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::Write { path: "moody".into(), offset_bytes: tile, bytes: 0, source });
        }
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.file.keep(tile, bytes)
    }

    fn read(&self, tile: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.file.read(tile, out)
    }

    fn forget(&self, tile: u64) {
        self.file.forget(tile);
    }
}

fn seed(name: &str) -> u64 {
    let seed = std::env::var("VASTGRID_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{name}: VASTGRID_TEST_SEED={seed}");
    seed
}

/// What a voxel holds that was never written.
fn base(c: Coord) -> u32 {
    if c.z < 16 { 7 } else { u32::try_from(c.x + 1000 * c.y + 1_000_000 * c.z).unwrap() }
}

const EXTENT: Extent = Extent::new(70, 61, 50);

/// A source of which a part is known to hold one value.
struct Base;

impl vastgrid::TileSource<u32> for Base {
    fn extent(&self) -> Extent {
        EXTENT
    }

    fn uniform(&self, region: Region) -> Option<u32> {
        (region.start.z + region.extent.z <= 16).then_some(7)
    }

    fn read(&self, region: Region, out: &mut [u32]) -> Result<(), vastgrid::SourceError> {
        Procedural::new(EXTENT, base).read(region, out)
    }
}

#[test]
fn random_programs_agree_with_a_map() {
    let seed = seed("random programs");
    for round in 0..12 {
        program(seed.wrapping_add(round));
    }
}

/// An array, and what each of its voxels holds that was written to.
struct Program {
    random: Random,
    pool: Pool<HostBackend>,
    array: SparseArray3D<u32>,
    expected: HashMap<[u64; 3], u32>,
    refuses: Arc<AtomicBool>,
    page: u64,
    step: u32,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let moody = Moody::default();
        let refuses = moody.refuses.clone();
        let page = 4096 << random.below(3);
        let pool = Pool::new(HostBackend::new(), (2 + random.below(30)) * page).unwrap();
        let array = SparseArray3D::builder(&pool, Base).tile([16, 8, 8]).page_bytes(page).track_ranges();
        let array = array.writable_with(moody).build().unwrap();
        Self { random, pool, array, expected: HashMap::new(), refuses, page, step: 0 }
    }

    fn at(&mut self) -> Coord {
        let Extent { x, y, z } = EXTENT;
        Coord::new(self.random.below(x), self.random.below(y), self.random.below(z))
    }

    fn expected(&self, c: Coord) -> u32 {
        self.expected.get(&c.to_array()).copied().unwrap_or_else(|| base(c))
    }

    /// What is there now counts, as long as it is what was written, or, where that failed, what was there before.
    fn settle(&mut self, c: Coord, now: u32, new: u32, failed: bool) {
        assert!(now == new || failed && now == self.expected(c), "{c:?}: {now}");
        self.expected.insert(c.to_array(), now);
    }

    fn set(&mut self) -> Result<(), Error> {
        for i in 0..self.random.below(20) {
            let (c, value) = (self.at(), self.step * 100 + u32::try_from(i).unwrap());
            self.array.writer()?.set(c, value)?;
            self.expected.insert(c.to_array(), value);
        }
        Ok(())
    }

    fn write_box(&mut self) -> Result<(), Error> {
        let (start, value, uniform) = (self.at(), self.step * 100 + 50, self.random.below(2) == 0);
        let side = |random: &mut Random, a: u64, most: u64| 1 + random.below(most - a);
        let extent = Extent::new(
            side(&mut self.random, start.x, EXTENT.x),
            side(&mut self.random, start.y, EXTENT.y),
            side(&mut self.random, start.z, EXTENT.z),
        );
        let region = Region::new(start, extent);
        let count = u32::try_from(extent.x * extent.y * extent.z).unwrap();
        let voxels: Vec<_> = (0..count).map(|i| if uniform { value } else { value ^ i << 8 }).collect();
        let mut writer = self.array.writer()?;
        let wrote = if uniform { writer.fill(region, value) } else { writer.write_region(region, &voxels) };
        drop(writer);
        self.refuses.store(false, Ordering::Relaxed);
        let now = self.array.to_vec(region)?;
        for (i, (now, new)) in (0..).zip(now.into_iter().zip(voxels)) {
            let (x, y) = (i % extent.x, i / extent.x % extent.y);
            let c = Coord::new(start.x + x, start.y + y, start.z + i / extent.x / extent.y);
            self.settle(c, now, new, wrote.is_err());
        }
        wrote
    }

    fn write_tiles(&mut self) -> Result<(), Error> {
        let some: Vec<_> = (0..self.random.below(40)).map(|_| self.at()).collect();
        let some: Vec<_> = some.into_iter().map(|c| self.array.layout().tile_of(c)).collect();
        let (step, shape) = (self.step, self.array.layout().tile_shape());
        let new = |tile: TileCoord| step ^ u32::try_from(tile.x).unwrap();
        let wrote = self.array.writer()?.for_each_tile(&some, |tile, voxels| voxels[..5].fill(new(tile)));
        self.refuses.store(false, Ordering::Relaxed);
        for tile in some {
            for x in 0..5 {
                let c = Coord::new(tile.x * shape.x + x, tile.y * shape.y, tile.z * shape.z);
                let now = self.array.get(c)?;
                self.settle(c, now, new(tile), wrote.is_err());
            }
        }
        wrote
    }

    fn step(&mut self) -> Result<(), Error> {
        let whole = Region::whole(EXTENT);
        match self.random.below(9) {
            0 => self.set(),
            1 | 2 => self.write_box(),
            3 => self.write_tiles(),
            4 => {
                let region = Region::new(self.at(), Extent::cube(1));
                self.array.evict(region).map(drop)
            }
            5 => self.array.evict(whole).map(drop),
            6 => {
                let budget = (2 + self.random.below(30)) * self.page;
                self.pool.set_budget(budget)
            }
            7 => {
                let c = self.at();
                let tile = self.array.layout().tile_of(c);
                self.array.request(&[tile]).map(drop)
            }
            _ => {
                let c = self.at();
                self.array.get(c).map(|value| assert_eq!(value, self.expected(c), "{c:?}"))
            }
        }
    }

    /// Every voxel, and what views show.
    fn check(&self) {
        let all = self.array.to_vec(Region::whole(EXTENT)).unwrap();
        let voxel = |c: Coord| all[usize::try_from(c.x + EXTENT.x * (c.y + EXTENT.y * c.z)).unwrap()];
        for z in 0..EXTENT.z {
            for y in 0..EXTENT.y {
                for x in 0..EXTENT.x {
                    let c = Coord::new(x, y, z);
                    assert_eq!(voxel(c), self.expected(c), "{c:?}");
                }
            }
        }
        let view = self.array.frame();
        for tile in self.array.layout().tiles_in(Region::whole(EXTENT)) {
            let start = self.array.layout().tile_region(tile).start;
            match &view.tile(tile) {
                Tile::Resident([first, ..]) | Tile::Uniform(first) => assert_eq!(*first, voxel(start)),
                Tile::Resident([]) | Tile::Missing => {}
            }
            for cell in 0..2 {
                let (Some((low, high)), true) = (view.cell_range(tile, cell), view.is_readable(tile)) else {
                    continue;
                };
                let c = Coord::new(start.x + 8 * cell as u64, start.y, start.z);
                if EXTENT.contains(c) {
                    assert!((low..=high).contains(&(voxel(c) as f32)), "{c:?}");
                }
            }
        }
    }
}

fn program(seed: u64) {
    let mut program = Program::new(seed);
    let mut failures = 0;
    for step in 0..400 {
        program.step = step;
        let refuses = program.random.below(10) == 0;
        program.refuses.store(refuses, Ordering::Relaxed);
        let outcome = program.step();
        program.refuses.store(false, Ordering::Relaxed);
        if let Err(error) = outcome {
            failures += 1;
            assert!(matches!(error, Error::WriteBack { .. }), "{error}");
        }
        let stats = program.pool.stats();
        assert!(stats.used_bytes <= stats.budget_bytes);
    }
    program.check();
    let written_back = program.pool.stats().written_back;
    println!("{failures} steps failed as they were told to, {written_back} tiles written back");
}

fn sparse(budget: u64) -> (Pool<HostBackend>, SparseArray3D<f32>) {
    let pool = Pool::new(HostBackend::new(), budget).unwrap();
    let extent = Extent::new(1 << 14, 1 << 13, 1 << 13);
    let array = SparseArray3D::builder(&pool, Fill::new(extent, -1.0f32)).tile([16, 16, 16]).writable();
    (pool.clone(), array.build().unwrap())
}

#[test]
fn only_what_is_touched_takes_memory() {
    let (pool, mut array) = sparse(1 << 20);
    let mut writer = array.writer().unwrap();
    writer.set([9999, 8000, 1], 2.0).unwrap();
    assert_eq!(*writer.voxel([9999, 8000, 2]).unwrap(), -1.0);
    drop(writer);
    let stats = pool.stats();
    assert_eq!((stats.resident_tiles, stats.dirty_tiles, stats.used_bytes), (1, 1, 16384));
    assert_eq!(array.get([9999, 8000, 1]).unwrap(), 2.0);
}

#[test]
fn nan_and_infinities_come_back_bit_for_bit() {
    let (pool, mut array) = sparse(64 << 10);
    let odd = [0x7fc0_1234, 0xffc0_0001, 0x7f80_0000, 0xff80_0000, 0x8000_0000, 0x7f80_0001, 0xffff_ffff, 1];
    let mut writer = array.writer().unwrap();
    for (i, bits) in (0..).zip(odd) {
        writer.set([i * 16, 0, 0], f32::from_bits(bits)).unwrap();
    }
    // A tile of nothing but one NaN needs no room in the scratch file, and keeps its bits.
    writer.tile(TileCoord::new(0, 9, 0)).unwrap().fill(f32::from_bits(0x7fc0_5555));
    drop(writer);
    array.evict(Region::whole(array.extent())).unwrap();
    assert_eq!((pool.stats().resident_tiles, pool.stats().dirty_tiles), (0, 0));
    for (i, bits) in (0..).zip(odd) {
        assert_eq!(array.get([i * 16, 0, 0]).unwrap().to_bits(), bits);
        assert_eq!(array.get([i * 16 + 1, 0, 0]).unwrap(), -1.0);
    }
    assert_eq!(array.get([3, 9 * 16 + 3, 3]).unwrap().to_bits(), 0x7fc0_5555);
    assert!(array.is_uniform(TileCoord::new(0, 9, 0)));
}

#[test]
fn a_full_disk_loses_nothing() {
    let moody = Moody::default();
    let refuses = moody.refuses.clone();
    let pool = Pool::new(HostBackend::new(), 4 * 16384).unwrap();
    let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(256), 0u32))
        .tile([16, 16, 16])
        .writable_with(moody)
        .build()
        .unwrap();
    refuses.store(true, Ordering::Relaxed);
    let mut writer = array.writer().unwrap();
    let mut wrote = Vec::new();
    let error = (0..16).find_map(|i| match writer.set([i * 16, 0, 0], 5 + u32::try_from(i).unwrap()) {
        Ok(()) => {
            wrote.push(i);
            None
        }
        Err(error) => Some(error),
    });
    let Some(Error::WriteBack { error, .. }) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("moody"));
    drop(writer);
    assert!(wrote.len() >= 2);
    let read = |array: &SparseArray3D<u32>, i| array.get([i * 16, 0, 0]);
    assert!(array.evict(Region::whole(array.extent())).is_err(), "it stays");
    assert!(matches!(pool.set_budget(16384), Err(Error::WriteBack { .. })));
    assert_eq!(pool.stats().dirty_tiles, wrote.len() as u64);
    refuses.store(false, Ordering::Relaxed);
    pool.set_budget(16384).unwrap();
    for &i in &wrote {
        assert_eq!(read(&array, i).unwrap(), 5 + u32::try_from(i).unwrap());
    }
}

#[test]
fn misuse_is_named() {
    let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
    let mut closed = SparseArray3D::builder(&pool, Fill::new(Extent::cube(64), 0u8)).build().unwrap();
    assert!(matches!(closed.writer(), Err(Error::Residency(ResidencyError::ReadOnly))));
    let (_pool, mut array) = sparse(64 << 10);
    let mut writer = array.writer().unwrap();
    assert!(matches!(
        writer.set([1 << 14, 0, 0], 1.0),
        Err(Error::Residency(ResidencyError::OutOfBounds { .. }))
    ));
    let tile = TileCoord::new(1, 2, 3);
    assert!(matches!(
        writer.tiles(&[tile, TileCoord::new(0, 0, 0), tile]),
        Err(Error::Residency(ResidencyError::Twice { tile: t })) if t == tile
    ));
    let many: Vec<_> = (0..5).map(|x| TileCoord::new(x, 0, 0)).collect();
    assert!(matches!(writer.tiles(&many), Err(Error::Residency(ResidencyError::OverBudget { .. }))));
    assert_eq!(writer.tiles(&many[..4]).unwrap().len(), 4);
    let region = Region::new(Coord::new(0, 0, 0), Extent::cube(2));
    assert!(matches!(
        writer.write_region(region, &[0.0; 7]),
        Err(Error::Residency(ResidencyError::BufferLength { expected_voxels: 8, actual_voxels: 7 }))
    ));
    let everything = Region::whole(Extent::new(1 << 14, 1 << 13, 1 << 13));
    assert!(matches!(
        writer.fill(everything, 1.0),
        Err(Error::Residency(ResidencyError::TooManyTiles { tiles, most_tiles, .. }))
            if tiles == 1 << 28 && most_tiles == 1 << 26
    ));
    drop(writer);
    assert!(matches!(
        array.request_region(everything),
        Err(Error::Residency(ResidencyError::TooManyTiles { .. }))
    ));
}

#[test]
fn a_panic_in_a_writing_thread_poisons_nothing() {
    let (_pool, mut array) = sparse(1 << 20);
    let tiles: Vec<_> = (0..8).map(|x| TileCoord::new(x, 0, 0)).collect();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut writer = array.writer().unwrap();
        let _ = writer.for_each_tile(&tiles, |tile, voxels| {
            assert!(tile.x != 5, "as told");
            voxels.fill(3.0);
        });
    }));
    assert!(panicked.is_err());
    let mut writer = array.writer().unwrap();
    writer.for_each_tile(&tiles, |_, voxels| voxels.fill(4.0)).unwrap();
    drop(writer);
    assert!(tiles.iter().all(|tile| array.get([tile.x * 16, 0, 0]).unwrap() == 4.0));
}

#[test]
fn fills_of_whole_tiles_take_no_memory() {
    let (pool, mut array) = sparse(1 << 20);
    let region = Region::new(Coord::new(8, 8, 8), Extent::cube(100));
    let mut writer = array.writer().unwrap();
    writer.set([50, 50, 50], 9.0).unwrap();
    writer.fill(region, 2.5).unwrap();
    drop(writer);
    assert!(array.is_uniform(TileCoord::new(3, 3, 3)) && !array.is_uniform(TileCoord::new(0, 3, 3)));
    assert!(array.to_vec(region).unwrap().iter().all(|&v| v == 2.5));
    assert_eq!([array.get([7, 8, 8]).unwrap(), array.get([108, 8, 8]).unwrap()], [-1.0; 2]);
    array.discard_written(&[TileCoord::new(3, 3, 3)]).unwrap();
    assert_eq!(array.get([50, 50, 50]).unwrap(), -1.0, "the source's again");
    assert_eq!(array.get([70, 50, 50]).unwrap(), 2.5);
    assert!(pool.stats().used_bytes <= 1 << 20);
}

#[test]
fn fills_of_more_tiles_than_are_told_at_once_are_whole() {
    let (pool, mut array) = sparse(1 << 20);
    // 65 536 tiles, with memory of some.
    let region = Region::new(Coord::new(160, 32, 16), Extent::new(1024, 512, 512));
    let mut writer = array.writer().unwrap();
    (0..40).for_each(|i| writer.set([160 + 20 * i, 40, 500], 1.0).unwrap());
    writer.fill(region, 3.5).unwrap();
    drop(writer);
    let tiles: Vec<_> = array.layout().tiles_in(region).collect();
    assert_eq!(tiles.len(), 1 << 16);
    assert!(tiles.iter().all(|&tile| array.is_uniform(tile)));
    assert_eq!(compute::sum(&array, &compute::written(&array)).unwrap(), 3.5 * f64::from(1 << 28));
    // Their pages wait for others.
    assert_eq!((pool.stats().mapped_pages, pool.stats().dirty_tiles), (0, 0));
    let fork = array.fork().unwrap();
    array.writer().unwrap().fill(region, 4.5).unwrap();
    assert_eq!([&array, &fork].map(|array| array.get([1183, 543, 527]).unwrap()), [4.5, 3.5]);
}

#[test]
fn what_was_written_is_saved_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let extent = Extent::new(1 << 14, 1 << 13, 1 << 13);
    let (_pool, mut array) = sparse(256 << 10);
    let mut random = Random::new(seed("saved"));
    let mut expected = HashMap::new();
    let mut writer = array.writer().unwrap();
    for i in 0..200u16 {
        let c = Coord::new(random.below(extent.x), random.below(extent.y), random.below(extent.z));
        writer.set(c, f32::from(i)).unwrap();
        expected.insert(c.to_array(), f32::from(i));
    }
    let corner = Region::new(Coord::new(extent.x - 40, extent.y - 40, extent.z - 40), Extent::cube(40));
    writer.fill(corner, 77.0).unwrap();
    drop(writer);
    let path = folder.path().join("grid.zarr");
    let options = vastgrid::store::ZarrOptions { chunk: Extent::cube(32), ..Default::default() };
    let store = vastgrid::store::ZarrStore::<f32>::create(&path, extent, -1.0, &options).unwrap();
    array.write_to(&store).unwrap();
    store.save().unwrap();

    let zarr = vastgrid::source::Zarr::open(&path).unwrap();
    let source = zarr.arrays()[0].source::<f32>(&vastgrid::source::ZarrSlice::last(3)).unwrap();
    let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
    let again = SparseArray3D::builder(&pool, source).tile([16, 16, 16]).build().unwrap();
    for (c, value) in expected {
        let c = Coord::new(c[0], c[1], c[2]);
        assert_eq!(again.get(c).unwrap(), if corner.contains(c) { 77.0 } else { value });
    }
    assert_eq!(again.get(corner.start).unwrap(), 77.0);
    assert_eq!(again.get([1, 1, 1]).unwrap(), array.get([1, 1, 1]).unwrap());
    assert!(array.written_tiles().len() > 200);
}

/// What pictures find out about voxels, to leap over them, is found out anew after they were written.
#[cfg(feature = "render")]
#[test]
fn pictures_show_what_was_written() {
    use vastgrid::render::{Camera, Image, Options, TransferFunction, render};

    let extent = Extent::cube(64);
    let inside = |c: Coord| c.to_array().iter().all(|&v| (20..44).contains(&v));
    let picture = |array: &SparseArray3D<u8>| -> Image {
        let _ = array.request_region(Region::whole(extent)).unwrap().complete().unwrap();
        let transfer =
            TransferFunction::new(&[(0.0, 0.0), (100.0, 0.0), (200.0, 0.5)], &[(0.0, [1.0; 3])], 1.0);
        let options = Options { width: 64, height: 64, ..Options::default() };
        let camera = Camera::fit(extent, [1.0; 3]).azimuth(30.0).elevation(20.0);
        render(&*array.frame(), &camera, &transfer.unwrap(), &options).unwrap().image
    };
    let pool = Pool::new(HostBackend::new(), 4 << 20).unwrap();
    let build = |source: Procedural<u8>| {
        SparseArray3D::builder(&pool, source).tile([16, 16, 16]).track_ranges().writable().build().unwrap()
    };
    // Not one value, so that tiles have memory and are looked at voxel by voxel.
    let dim = |c: Coord| u8::try_from((c.x ^ c.y ^ c.z) & 31).unwrap();
    let mut array = build(Procedural::new(extent, dim));
    let before = picture(&array);
    assert!(before.pixels().iter().all(|pixel| *pixel == before.pixels()[0]), "nothing to see");
    let mut writer = array.writer().unwrap();
    for z in 20..44 {
        for y in 20..44 {
            for x in 20..44 {
                writer.set([x, y, z], 200).unwrap();
            }
        }
    }
    drop(writer);
    let expected = picture(&build(Procedural::new(extent, move |c| if inside(c) { 200 } else { dim(c) })));
    assert!(picture(&array).pixels() == expected.pixels());
    array.evict(Region::whole(extent)).unwrap();
    assert!(picture(&array).pixels() == expected.pixels(), "from the scratch file");
    assert!(expected.pixels() != before.pixels());
}

#[test]
fn a_grid_that_was_saved_is_gone_on_with_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grid.zarr");
    let options = vastgrid::store::ZarrOptions { chunk: Extent::cube(128), ..Default::default() };
    let (_pool, mut array) = sparse(256 << 10);
    let extent = array.extent();
    let mut writer = array.writer().unwrap();
    writer.set([100, 100, 100], 1.0).unwrap();
    writer.set([5000, 5000, 5000], 2.0).unwrap();
    drop(writer);
    let store = vastgrid::store::ZarrStore::<f32>::create(&path, extent, -1.0, &options).unwrap();
    array.write_all_to(&store).unwrap();
    store.save().unwrap();

    let open = || {
        let zarr = vastgrid::source::Zarr::open(&path).unwrap();
        zarr.arrays()[0].source::<f32>(&vastgrid::source::ZarrSlice::last(3)).unwrap()
    };
    let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
    let mut again = SparseArray3D::builder(&pool, open()).tile([16, 16, 16]).writable().build().unwrap();
    again.writer().unwrap().set([100, 100, 100], 10.0).unwrap();
    let options = vastgrid::store::ZarrOptions { replace: true, ..options };
    let store = vastgrid::store::ZarrStore::<f32>::create(&path, extent, -1.0, &options).unwrap();
    again.write_all_to(&store).unwrap();
    store.save().unwrap();

    let last = SparseArray3D::builder(&pool, open()).tile([16, 16, 16]).build().unwrap();
    let voxels = [[100; 3], [5000; 3], [0; 3]].map(|c: [u64; 3]| last.get(c).unwrap());
    assert_eq!(voxels.map(f32::to_bits), [10.0, 2.0, -1.0f32].map(f32::to_bits));
}

#[test]
fn writers_leave_room_for_each_other_and_for_who_computes() {
    // All of the budget would be held by two writers that know nothing of each other.
    let patience = Duration::from_mins(1);
    let config = PoolConfig { budget_bytes: 1 << 20, patience, ..PoolConfig::default() };
    let pool = Pool::with_config(HostBackend::new(), config).unwrap();
    let extent = Extent::cube(1 << 10);
    let fill = || Fill::new(extent, 0.0f32);
    let build = || SparseArray3D::builder(&pool, fill()).tile([16, 16, 16]).writable().build().unwrap();
    let (mut a, mut b) = (build(), build());
    let source = Procedural::new(Extent::cube(128), |c: Coord| c.x as f32);
    let other = SparseArray3D::builder(&pool, source).tile([16, 16, 16]).build().unwrap();
    let begun = Instant::now();
    let (mut first, mut second) = (a.writer().unwrap(), b.writer().unwrap());
    for i in 0..60 {
        first.set([16 * i, 0, 0], 1.0).unwrap();
        second.set([0, 16 * i, 0], 2.0).unwrap();
    }
    assert!(other.unpinned_budget() >= 1 << 18, "{} bytes are left", other.unpinned_budget());
    let sum = vastgrid::compute::sum(&other, &vastgrid::compute::all(&other)).unwrap();
    assert_eq!(sum, 127.0 / 2.0 * f64::from(1 << 21));
    assert!(begun.elapsed() < patience, "nobody waited for room");
    drop((first, second));
    assert_eq!(other.unpinned_budget(), 1 << 20);
}
