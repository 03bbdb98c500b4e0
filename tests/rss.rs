//! The budget as the system counts it: memory of the process, not bytes in a book. One test, so that nothing else allocates meanwhile.

mod common;

use std::fs;

use common::{Random, pool, value};
use vastgrid::backend::{HostBackend, HostConfig, HostMoves};
use vastgrid::source::{Fill, Procedural};
use vastgrid::{Backend, Coord, Extent, HostAddressable, Pool, Region, SparseArray3D, Tile, TileCoord};

const MIB: u64 = 1 << 20;

/// Anonymous memory of the process now, in bytes.
fn anonymous() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|l| l.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Memory of the process that can be mapped several times, each byte of it once however often it is mapped.
fn shared() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|l| l.starts_with("Pss_Shmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// An array of `mib` MiB in tiles of 64 KiB.
fn volume<B: Backend>(pool: &Pool<B>, mib: u64, page_bytes: u64) -> SparseArray3D<u16, B> {
    // One value a row: this is about memory, and checks only that it is the right one.
    let source = Procedural::by_region(Extent::new(256, 256, mib * 8), |region, out: &mut [u16]| {
        for (i, row) in (0..).zip(out.chunks_exact_mut(usize::try_from(region.extent.x).unwrap())) {
            let (y, z) = (region.start.y + i % region.extent.y, region.start.z + i / region.extent.y);
            row.fill(value(Coord::new(0, y, z)));
        }
    });
    SparseArray3D::builder(pool, source).tile([32, 32, 32]).page_bytes(page_bytes).build().unwrap()
}

fn keeps_its_budget<B: HostAddressable>(backend: B, page_bytes: u64) {
    const BUDGET: u64 = 16 * MIB;
    /// Bit planes, page table, stacks and buffers of the loading threads, the allocator's own.
    const OVERHEAD: u64 = 3 * MIB;
    let what = format!("{} in pages of {page_bytes}", backend.caps().name);
    let pool = pool(backend, BUDGET, 1000);
    let baseline = anonymous();
    let array = volume(&pool, 256, page_bytes);
    let mut peak = 0;
    // 256 MiB in steps of 2 MiB.
    for step in 0..128 {
        let region = Region::new(Coord::new(0, 0, step * 16), Extent::new(256, 256, 16));
        let _ = array.request_region(region).unwrap().complete().unwrap();
        assert_eq!(array.get([255, 7, step * 16 + 5]).unwrap(), value(Coord::new(0, 7, step * 16 + 5)));
        peak = peak.max(anonymous().saturating_sub(baseline));
    }
    assert!(pool.stats().loaded_bytes >= 256 * MIB);
    assert!(peak > BUDGET * 3 / 4, "{what}: only {peak} bytes at the peak, so memory is not measured");
    assert!(peak <= BUDGET + OVERHEAD, "{what}: {peak} bytes at the peak, against a budget of {BUDGET}");

    let full = anonymous();
    pool.set_budget(4 * MIB).unwrap();
    let given_back = full.saturating_sub(anonymous());
    assert!(given_back >= 12 * MIB - MIB / 4, "{what}: shrinking by 12 MiB gave {given_back} bytes back");

    pool.set_budget(BUDGET).unwrap();
    let _ = array.request_region(Region::whole(Extent::new(256, 256, 64))).unwrap().complete().unwrap();
    assert!(anonymous() - baseline > 7 * MIB);
    drop(array);
    let left = anonymous().saturating_sub(baseline);
    assert!(left < OVERHEAD, "{what}: {left} bytes are left of a dropped array");
}

/// Forks take no memory until they are written to, and give back what they took.
fn forks_share_memory(page_bytes: u64) {
    const MUCH: u64 = 32 * MIB;
    const LITTLE: u64 = MIB;
    let pool = pool(HostBackend::shareable(), 2 * MUCH, 1000);
    let (baseline, private) = (shared(), anonymous());
    let fill = Fill::new(Extent::new(256, 256, 32 * 8), 0u16);
    let mut array = SparseArray3D::builder(&pool, fill)
        .tile([32, 32, 32])
        .page_bytes(page_bytes)
        .writable()
        .build()
        .unwrap();
    let tiles: Vec<_> = array.layout().tiles_in(Region::whole(array.extent())).collect();
    let write = |array: &mut SparseArray3D<u16>, tiles: &[TileCoord], salt: u64| {
        let stamp = |tile: TileCoord, v: &mut [u16]| {
            (0..).zip(v).for_each(|(i, v)| *v = u16::try_from((i ^ salt ^ tile.x) & 0xffff).unwrap());
        };
        array.writer().unwrap().for_each_tile(tiles, stamp).unwrap();
    };
    let sum = |array: &SparseArray3D<u16>| -> u64 {
        let view = array.frame();
        let of = |&tile: &TileCoord| match view.tile(tile) {
            Tile::Resident(v) => v.iter().map(|&v| u64::from(v)).sum::<u64>(),
            _ => panic!("{tile} is not there"),
        };
        tiles.iter().map(of).sum()
    };
    write(&mut array, &tiles, 1);
    let full = shared() - baseline;
    assert!((MUCH..MUCH + LITTLE).contains(&full), "{full}");
    let mut forks: Vec<_> = (0..4).map(|_| array.fork().unwrap()).collect();
    let before = sum(&array);
    assert!(forks.iter().all(|fork| sum(fork) == before));
    let forked = shared() - baseline;
    assert!(forked < MUCH + LITTLE, "{forked} bytes with forks, {full} without");
    assert_eq!(pool.stats().used_bytes, MUCH);
    // The budget has room for one more.
    write(&mut forks[0], &tiles, 2);
    assert!(sum(&array) == before && sum(&forks[1]) == before);
    let written = shared() - baseline;
    assert!((2 * MUCH..2 * MUCH + LITTLE).contains(&written), "{written}");
    forks.truncate(1);
    write(&mut array, &tiles, 3);
    assert_eq!(pool.stats().used_bytes, 2 * MUCH);
    drop(array);
    let left = shared() - baseline;
    assert!((MUCH..MUCH + LITTLE).contains(&left), "{left} bytes are left of one fork");
    drop(forks);
    pool.trim().unwrap();
    let left = (shared() - baseline) + anonymous().saturating_sub(private);
    assert!(left < 3 * MIB, "{left} bytes are left of nothing");
}

fn costs_nothing_before_use<B: Backend>(backend: B, tile: [u64; 3]) {
    let pool = pool(backend, 16 * MIB, 1000);
    let baseline = anonymous();
    let source = Procedural::new(Extent::cube(1 << 15), value);
    let array = SparseArray3D::builder(&pool, source).tile(tile).build().unwrap();
    assert_eq!(array.layout().reserved_bytes(), 1 << 46);
    let taken = anonymous().saturating_sub(baseline);
    assert!(taken < MIB, "{taken} bytes for an array of 2^46 that nobody used");
    drop(array);
}

/// What is kept of tiles that lie far from each other goes with them, but for some that may come back.
fn lone_tiles_leave_nothing_behind(tile: [u64; 3], page_bytes: u64) {
    const TILES: u64 = 12_000;
    /// What is kept of 1024 such tiles, and of those that are resident.
    const KEPT: u64 = 20 * MIB;
    let pool = pool(HostBackend::new(), MIB, 1000);
    let source = Procedural::new(Extent::cube(1 << 15), value);
    let array = SparseArray3D::builder(&pool, source).tile(tile).page_bytes(page_bytes).build().unwrap();
    let all = array.layout().tiles();
    let mut random = Random::new(page_bytes);
    let mut far = || TileCoord::new(random.below(all.x), random.below(all.y), random.below(all.z));
    let baseline = anonymous();
    let often: Vec<_> = (0..4).map(|_| far()).collect();
    for _ in (0..TILES).step_by(4) {
        let mut tiles: Vec<_> = (0..4).map(|_| far()).collect();
        tiles.extend(&often);
        let _ = array.request(&tiles).unwrap().complete().unwrap();
        let frame = array.frame();
        for t in tiles {
            let at = Coord::new(t.x * tile[0] + 1, t.y * tile[1] + 2, t.z * tile[2] + 3);
            assert_eq!(frame.get(at), Some(value(at)));
        }
    }
    assert!(pool.stats().evictions > TILES / 2);
    let kept = anonymous().saturating_sub(baseline);
    assert!(kept < KEPT, "{kept} bytes of {TILES} tiles in pages of {page_bytes}");
}

#[test]
fn memory_is_what_the_budget_says() {
    let moving = |moves| HostBackend::with_config(HostConfig { moves, ..HostConfig::default() });
    for moves in [HostMoves::Pages, HostMoves::Mappings, HostMoves::Nothing] {
        keeps_its_budget(moving(moves), 64 << 10);
        keeps_its_budget(moving(moves), 2 * MIB);
    }
    forks_share_memory(64 << 10);
    forks_share_memory(MIB);
    lone_tiles_leave_nothing_behind([8, 8, 32], 4 << 10);
    lone_tiles_leave_nothing_behind([8, 8, 8], 64 << 10);
    costs_nothing_before_use(HostBackend::new(), [8, 8, 32]);
    costs_nothing_before_use(HostBackend::new(), [32, 32, 32]);
}
