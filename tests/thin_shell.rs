//! A thin shell of radius 400 in 1024^3 voxels, in pages of 4 KiB on the host: exact counts, what it takes, and what is there after all of it was evicted. One test, so that nothing else allocates meanwhile.

use std::fs;

use vastgrid::compute::{self, Run};
use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord};

const SIDE: u64 = 1024;
const TILE: Extent = Extent::new(16, 8, 8);
const PAGE: u64 = 4096;
/// Voxels are active up to this far from the shell; from the next on they hold the background.
const HALF_WIDTH: f32 = 3.0;
const BACKGROUND: f32 = 4.0;
/// How many there are, as another library counts them too.
const ACTIVE_VOXELS: u64 = 12_061_184;
const TILES: usize = 40_288;

/// Twice the distance from the middle, squared: a whole number.
fn doubled_square(c: Coord) -> u64 {
    c.to_array().into_iter().map(|v| (2 * v).abs_diff(SIDE - 1).pow(2)).sum()
}

fn is_active(c: Coord) -> bool {
    (794 * 794..=806 * 806).contains(&doubled_square(c))
}

/// The distance to the shell, as far as it matters.
fn distance(c: Coord) -> f32 {
    let doubled = doubled_square(c) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "that is the type of the voxels")]
    let distance = (doubled.sqrt() / 2.0 - 400.0) as f32;
    distance.clamp(-BACKGROUND, BACKGROUND)
}

fn voxels_of(tile: TileCoord) -> impl Iterator<Item = Coord> {
    let (x, y, z) = (tile.x * TILE.x, tile.y * TILE.y, tile.z * TILE.z);
    (z..z + TILE.z).flat_map(move |z| {
        (y..y + TILE.y).flat_map(move |y| (x..x + TILE.x).map(move |x| Coord::new(x, y, z)))
    })
}

/// Tiles with an active voxel, in memory order.
fn touched() -> Vec<TileCoord> {
    let near = |tile: &TileCoord| {
        let middle = Coord::new(
            tile.x * TILE.x + TILE.x / 2,
            tile.y * TILE.y + TILE.y / 2,
            tile.z * TILE.z + TILE.z / 2,
        );
        let far = (doubled_square(middle) as f64).sqrt() / 2.0;
        (far - 400.0).abs() < 16.0 && voxels_of(*tile).any(is_active)
    };
    let (x, y, z) = (SIDE / TILE.x, SIDE / TILE.y, SIDE / TILE.z);
    let all = (0..z).flat_map(|z| (0..y).flat_map(move |y| (0..x).map(move |x| TileCoord::new(x, y, z))));
    all.filter(near).collect()
}

/// Memory of the process now, its page tables included, in bytes.
fn memory() -> u64 {
    let figure = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    figure("/proc/self/smaps_rollup", "Anonymous:") + figure("/proc/self/status", "VmPTE:")
}

fn active_voxels(array: &SparseArray3D<f32>) -> u64 {
    let count = |count: &mut u64, run: Run<'_, f32>| {
        if let Run::Voxels(voxels) = run {
            *count += voxels.iter().filter(|v| v.abs() <= HALF_WIDTH).count() as u64;
        }
    };
    compute::fold(array, &compute::written(array), || 0, count, |a, b| a + b).unwrap()
}

#[test]
fn a_thin_shell_takes_little_more_than_its_pages_and_outlives_them() {
    let before = memory();
    let pool = Pool::new(HostBackend::new(), 256 << 20).unwrap();
    let fill = Fill::new(Extent::cube(SIDE), BACKGROUND);
    let mut array =
        SparseArray3D::builder(&pool, fill).tile(TILE).page_bytes(PAGE).writable().build().unwrap();
    let tiles = touched();
    assert_eq!(tiles.len(), TILES);
    array
        .writer()
        .unwrap()
        .for_each_tile(&tiles, |tile, voxels| {
            voxels.iter_mut().zip(voxels_of(tile)).for_each(|(voxel, c)| *voxel = distance(c));
        })
        .unwrap();
    assert_eq!(array.written_tiles(), tiles);
    assert_eq!(active_voxels(&array), ACTIVE_VOXELS);

    // All of it resident: a page each, and far fewer mappings than pages.
    let pages = TILES as u64 * PAGE;
    assert_eq!(pool.stats().used_bytes, pages);
    assert!(pool.backend().mappings() < 16, "{} mappings", pool.backend().mappings());
    let grown = memory() - before;
    assert!(grown >= pages && grown <= pages * 6 / 5, "{grown} bytes for {pages} of pages");

    // An eighth of it, and then nothing.
    pool.set_budget(pages / 8 / PAGE * PAGE).unwrap();
    assert!(pool.stats().used_bytes <= pages / 8);
    assert_eq!(active_voxels(&array), ACTIVE_VOXELS);
    array.evict(Region::whole(array.extent())).unwrap();
    assert_eq!((array.resident_tiles().len(), pool.stats().used_bytes), (0, 0));
    assert_eq!(array.written_tiles().len(), TILES);

    // Voxel by voxel: a line through the middle, and tiles here and there.
    let line = Region::new(Coord::new(0, 511, 511), Extent::new(SIDE, 1, 1));
    for (x, voxel) in (0..).zip(array.to_vec(line).unwrap()) {
        let at = Coord::new(x, 511, 511);
        let written = tiles.binary_search_by_key(&key(array.layout().tile_of(at)), |&t| key(t)).is_ok();
        assert_eq!(voxel, if written { distance(at) } else { BACKGROUND }, "{at}");
    }
    let sample: Vec<_> = tiles.iter().copied().step_by(97).collect();
    let _ = array.request(&sample).unwrap().complete().unwrap();
    let frame = array.frame();
    for &tile in &sample {
        let mut wanted = voxels_of(tile).map(distance);
        frame.get_each(voxels_of(tile), |voxel| assert_eq!(voxel, wanted.next(), "{tile}"));
    }
}

/// Tiles in memory order, where a page is a tile.
fn key(tile: TileCoord) -> [u64; 3] {
    [tile.z, tile.y, tile.x]
}
