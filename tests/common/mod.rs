//! What several test programs share: volumes whose every voxel is known, pools to hold them, watchdogs and checks of what holds at every moment.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::cast_possible_truncation, reason = "a hash keeps its low bits")]

pub(crate) mod cuda;
pub(crate) mod entry;
#[cfg(feature = "render")]
pub(crate) mod explored;
pub(crate) mod files;
#[cfg(feature = "render")]
pub(crate) mod hollow;
#[cfg(feature = "render")]
pub(crate) mod pictures;
pub(crate) mod tiffs;

use std::sync::mpsc;
use std::time::Duration;

use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{Backend, Coord, Extent, Pool, PoolConfig, Region, SparseArray3D, Stats, TileCoord, Voxel};

/// The value of every voxel of the test volume: different everywhere nearby.
#[expect(clippy::cast_possible_truncation, reason = "the low bits do")]
pub(crate) fn value(c: Coord) -> u16 {
    let mix =
        c.x.wrapping_mul(73) ^ c.y.wrapping_mul(179).rotate_left(5) ^ c.z.wrapping_mul(283).rotate_left(9);
    (mix ^ mix >> 16) as u16
}

/// The same for another voxel type and another volume: volumes of different `salt` differ nearly everywhere.
pub(crate) fn salted(c: Coord, salt: u64) -> u64 {
    let mix =
        (c.x | c.y << 20 | c.z << 40).wrapping_add(salt << 60 | salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mix ^ mix >> 29
}

/// What the test kernels expect at a voxel, in the low bytes: `vg_hash` of `assets/kernels/check.cu`.
pub(crate) fn device_hash(c: Coord, seed: u32) -> u64 {
    let mut h = (c.x as u32).wrapping_mul(0x9e37_79b1)
        ^ (c.y as u32).wrapping_mul(0x85eb_ca77)
        ^ (c.z as u32).wrapping_mul(0xc2b2_ae3d)
        ^ seed.wrapping_mul(0x27d4_eb2f);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2c1b_3c6d);
    h ^= h >> 12;
    u64::from(h.wrapping_mul(0x297a_2d39)) << 32 | u64::from(h)
}

/// The test volume, instrumented.
pub(crate) fn volume(extent: Extent) -> (Instrumented<Procedural<u16>>, Instruments) {
    let source = Instrumented::new(Procedural::new(extent, value));
    let instruments = source.instruments();
    (source, instruments)
}

/// A pool that gives up waiting after `patience_ms`.
pub(crate) fn pool<B: Backend>(backend: B, budget_bytes: u64, patience_ms: u64) -> Pool<B> {
    pool_of(backend, budget_bytes, patience_ms, 2)
}

/// The same with so many loading threads.
pub(crate) fn pool_of<B: Backend>(
    backend: B,
    budget_bytes: u64,
    patience_ms: u64,
    threads: usize,
) -> Pool<B> {
    let patience = Duration::from_millis(patience_ms);
    Pool::with_config(backend, PoolConfig { budget_bytes, threads, patience, ..PoolConfig::default() })
        .unwrap()
}

/// The test volume in tiles of 8^3 (1 KiB) and pages of 2 x 2 x 1 tiles (4 KiB).
pub(crate) fn array<B: Backend>(pool: &Pool<B>, extent: Extent) -> (SparseArray3D<u16, B>, Instruments) {
    scaled_array(pool, extent, 1)
}

/// The same with all lengths multiplied.
pub(crate) fn scaled_array<B: Backend>(
    pool: &Pool<B>,
    extent: Extent,
    scale: u64,
) -> (SparseArray3D<u16, B>, Instruments) {
    let (source, instruments) = volume(scaled(extent, scale));
    let tile = Extent::cube(8 * scale);
    let array = SparseArray3D::builder(pool, source).tile(tile).page([2, 2, 1]).build().unwrap();
    (array, instruments)
}

pub(crate) fn scaled(extent: Extent, scale: u64) -> Extent {
    Extent::new(extent.x * scale, extent.y * scale, extent.z * scale)
}

/// The test volume in tiles of 8^3 (1 KiB), each with a page of `page_bytes` to itself where that is 1 KiB, or as many in it as fit.
pub(crate) fn paged<B: Backend>(
    pool: &Pool<B>,
    extent: Extent,
    page_bytes: u64,
) -> (SparseArray3D<u16, B>, Instruments) {
    let (source, instruments) = volume(extent);
    let array = SparseArray3D::builder(pool, source).tile([8, 8, 8]).page_bytes(page_bytes).build().unwrap();
    (array, instruments)
}

/// What a region of the test volume holds.
pub(crate) fn expected(region: Region) -> Vec<u16> {
    expected_by(region, value)
}

/// What a region holds whose voxels are `value`s.
pub(crate) fn expected_by<T>(region: Region, value: impl Fn(Coord) -> T) -> Vec<T> {
    let (s, e) = (region.start, region.extent);
    let mut all = Vec::new();
    for z in s.z..s.z + e.z {
        for y in s.y..s.y + e.y {
            for x in s.x..s.x + e.x {
                all.push(value(Coord::new(x, y, z)));
            }
        }
    }
    all
}

pub(crate) fn t(x: u64, y: u64, z: u64) -> TileCoord {
    TileCoord::new(x, y, z)
}

/// All tiles of an array.
pub(crate) fn all_tiles<T: Voxel, B: Backend>(array: &SparseArray3D<T, B>) -> Vec<TileCoord> {
    array.layout().tiles_in(Region::whole(array.extent())).collect()
}

/// The first tile of each of the array's pages, in memory order.
pub(crate) fn one_tile_per_page<T: Voxel, B: Backend>(array: &SparseArray3D<T, B>) -> Vec<TileCoord> {
    let layout = array.layout();
    let mut tiles: Vec<_> = layout.tiles_in(Region::whole(array.extent())).collect();
    tiles.sort_by_key(|&t| layout.tile_id(t));
    tiles.dedup_by_key(|t| layout.tile_id(*t).map(|id| layout.page_of(id)));
    tiles
}

/// What has to hold whenever nobody is at work: the budget, and the counts among each other.
pub(crate) fn assert_consistent(stats: &Stats) {
    assert!(stats.used_bytes <= stats.budget_bytes, "over the budget: {stats:?}");
    assert!(stats.pinned_bytes <= stats.used_bytes, "more pinned than there is: {stats:?}");
}

/// Runs the test on a thread of its own and fails it where it does not end in 20 seconds: a deadlock is a failure, not a hang.
pub(crate) fn within_20_s(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(20), test);
}

pub(crate) fn within(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match ended.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after {limit:?}: a deadlock"),
        // It ended, well or in a panic, which is handed on.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// A small generator of numbers: each seed is a sequence that a failure can be told by.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
