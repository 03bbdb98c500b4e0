//! Computing on tiles: sets of them against hash sets, and what is computed of random sparse arrays against dense ones, in tiles that divide nothing and in budgets far below the data.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small volumes"
)]

mod common;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Random;
use vastgrid::compute::{self, Beyond, Bins, Boundary, Halo, Neighbours, Run, TileSet};
use vastgrid::source::{Fill, Procedural};
use vastgrid::{
    Coord, Error, Extent, HostBackend, LayoutError, Pool, PoolConfig, Region, ResidencyError, SparseArray3D,
    TileCoord, TileSource,
};

fn random(name: &str) -> Random {
    let seed = std::env::var("VASTGRID_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{name}: VASTGRID_TEST_SEED={seed}");
    Random::new(seed)
}

type Plain = HashSet<[i64; 3]>;

fn plain(set: &TileSet) -> Plain {
    set.iter().map(|t| [t.x as i64, t.y as i64, t.z as i64]).collect()
}

fn random_set(random: &mut Random, grid: Extent) -> TileSet {
    let mut set = TileSet::new(grid);
    let most = grid.x * grid.y * grid.z;
    for _ in 0..random.below(most + 1) {
        set.insert(TileCoord::new(random.below(grid.x), random.below(grid.y), random.below(grid.z)));
    }
    set
}

/// One step of growing, or of shrinking, as it is defined.
fn grown(set: &Plain, grid: Extent, neighbours: Neighbours, beyond: Beyond, shrink: bool) -> Plain {
    let axes = match neighbours {
        Neighbours::Faces => 1,
        Neighbours::Edges => 2,
        Neighbours::Corners => 3,
    };
    let side = [grid.x as i64, grid.y as i64, grid.z as i64];
    let is_in = |c: [i64; 3]| {
        let inside = (0..3).all(|a| (0..side[a]).contains(&c[a]));
        if inside { set.contains(&c) } else { beyond == Beyond::In }
    };
    let mut all = Plain::new();
    for (z, y, x) in boxes(side) {
        let mut near = boxes([3; 3])
            .map(|(c, b, a)| [a - 1, b - 1, c - 1])
            .filter(|d| d.iter().map(|v| v.abs()).sum::<i64>() <= axes)
            .map(|d| is_in([x + d[0], y + d[1], z + d[2]]));
        if if shrink { near.all(|v| v) } else { near.any(|v| v) } {
            all.insert([x, y, z]);
        }
    }
    all
}

/// All positions (z, y, x) of a box.
fn boxes([x, y, z]: [i64; 3]) -> impl Iterator<Item = (i64, i64, i64)> {
    (0..z).flat_map(move |c| (0..y).flat_map(move |b| (0..x).map(move |a| (c, b, a))))
}

#[test]
fn sets_agree_with_hash_sets() {
    let mut random = random("sets");
    for round in 0..60 {
        // Around the width of a word, and of two.
        let width = [1, 2, 63, 64, 65, 127, 128, 130][round % 8];
        let grid = Extent::new(width, 1 + random.below(4), 1 + random.below(4));
        let (a, b) = (random_set(&mut random, grid), random_set(&mut random, grid));
        let (pa, pb) = (plain(&a), plain(&b));
        assert_eq!(a.len(), pa.len() as u64);
        assert_eq!(plain(&a.and(&b)), pa.intersection(&pb).copied().collect());
        assert_eq!(plain(&a.or(&b)), pa.union(&pb).copied().collect());
        assert_eq!(plain(&a.and_not(&b)), pa.difference(&pb).copied().collect());
        let order: Vec<_> = a.iter().map(|t| (t.z, t.y, t.x)).collect();
        assert!(order.is_sorted());
        for neighbours in [Neighbours::Faces, Neighbours::Edges, Neighbours::Corners] {
            for beyond in [Beyond::In, Beyond::Out] {
                for steps in 0..3 {
                    let (mut larger, mut smaller) = (pa.clone(), pa.clone());
                    for _ in 0..steps {
                        larger = grown(&larger, grid, neighbours, beyond, false);
                        smaller = grown(&smaller, grid, neighbours, beyond, true);
                    }
                    let of = format!("{neighbours:?} {beyond:?} {steps} {grid}");
                    assert_eq!(plain(&a.dilate(neighbours, steps, beyond)), larger, "{of}");
                    assert_eq!(plain(&a.erode(neighbours, steps, beyond)), smaller, "{of}");
                }
            }
        }
    }
}

#[test]
fn insertions_and_removals_say_what_they_did() {
    let mut random = random("insertions");
    let grid = Extent::new(70, 3, 3);
    let (mut set, mut expected) = (TileSet::new(grid), Plain::new());
    for _ in 0..5000 {
        let c = [random.below(75), random.below(4), random.below(4)];
        let tile = TileCoord::new(c[0], c[1], c[2]);
        let at = c.map(|v| v as i64);
        let inside = c[0] < grid.x && c[1] < grid.y && c[2] < grid.z;
        match random.below(3) {
            0 => assert_eq!(set.insert(tile), inside && expected.insert(at)),
            1 => assert_eq!(set.remove(tile), expected.remove(&at)),
            _ => assert_eq!(set.contains(tile), expected.contains(&at)),
        }
    }
    assert_eq!(plain(&set), expected);
    for tile in set.clone().iter() {
        assert!(set.remove(tile));
    }
    assert!(set.is_empty());
    assert_eq!(set, TileSet::new(grid), "nothing is left of what was taken out");
}

#[test]
fn a_set_costs_what_is_in_it() {
    // Nothing in proportion to these grids fits anywhere.
    let grid = Extent::cube(1 << 40);
    let far = TileCoord::new((1 << 40) - 1, (1 << 40) - 1, 5);
    let set = TileSet::of(grid, [far, TileCoord::new(0, 0, 0)]);
    let larger = set.dilate(Neighbours::Corners, 2, Beyond::Out);
    assert_eq!(larger.len(), 3 * 3 * 5 + 3 * 3 * 3);
    // The corners of the grid shrink from its faces.
    assert_eq!(larger.erode(Neighbours::Corners, 2, Beyond::In), set);
    assert_eq!(
        TileSet::new(Extent::cube(u64::MAX)).or(&set).dilate(Neighbours::Faces, 1, Beyond::Out).len(),
        11
    );
}

#[test]
fn regions_become_the_tiles_they_touch() {
    let mut random = random("regions");
    let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
    let extent = Extent::new(2100, 61, 50);
    let array = SparseArray3D::builder(&pool, Fill::new(extent, 0u32)).tile([16, 8, 8]).build().unwrap();
    for _ in 0..300 {
        let start = Coord::new(random.below(2200), random.below(70), random.below(60));
        let size = Extent::new(random.below(2200), random.below(70), random.below(60));
        let region = Region::new(start, size);
        let expected: Vec<_> = array.layout().tiles_in(region).collect();
        let got: Vec<_> = TileSet::from_region(array.layout(), region).iter().collect();
        assert_eq!(got, expected, "{region}");
    }
}

const EXTENT: Extent = Extent::new(70, 61, 50);

/// A volume of which many tiles hold one value; the others are different everywhere.
struct Sparse {
    salt: u64,
    tile: Extent,
}

impl Sparse {
    fn is_uniform(&self, tile: [u64; 3]) -> bool {
        let mix = (tile[0] + 31 * tile[1] + 977 * tile[2] + self.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mix >> 62 == 0
    }

    fn value(&self, c: Coord) -> u32 {
        if self.is_uniform([c.x / self.tile.x, c.y / self.tile.y, c.z / self.tile.z]) {
            return self.salt as u32 % 1000;
        }
        let mix = (c.x | c.y << 20 | c.z << 40).wrapping_add(self.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mix >> 40) as u32
    }

    fn dense(&self) -> Dense {
        let all = boxes([EXTENT.x as i64, EXTENT.y as i64, EXTENT.z as i64]);
        Dense(all.map(|(z, y, x)| self.value(Coord::new(x as u64, y as u64, z as u64))).collect())
    }
}

impl TileSource<u32> for Sparse {
    fn extent(&self) -> Extent {
        EXTENT
    }

    fn fill_value(&self) -> u32 {
        0xdead_beef
    }

    fn uniform(&self, region: Region) -> Option<u32> {
        let c = region.start;
        let tile = [c.x / self.tile.x, c.y / self.tile.y, c.z / self.tile.z];
        self.is_uniform(tile).then_some(self.salt as u32 % 1000)
    }

    fn read(&self, region: Region, out: &mut [u32]) -> Result<(), vastgrid::SourceError> {
        let Region { start, extent: e } = region;
        for (voxel, (z, y, x)) in out.iter_mut().zip(boxes([e.x as i64, e.y as i64, e.z as i64])) {
            *voxel = self.value(Coord::new(start.x + x as u64, start.y + y as u64, start.z + z as u64));
        }
        Ok(())
    }
}

struct Dense(Vec<u32>);

impl Dense {
    fn get(&self, c: [i64; 3]) -> u32 {
        self.0[(c[0] + EXTENT.x as i64 * (c[1] + EXTENT.y as i64 * c[2])) as usize]
    }

    /// With whatever stands beyond the faces.
    fn beyond(&self, c: [i64; 3], boundary: Boundary<u32>) -> u32 {
        let side = EXTENT.to_array().map(|v| v as i64);
        match boundary {
            Boundary::Fill(value) if (0..3).any(|a| !(0..side[a]).contains(&c[a])) => value,
            Boundary::Fill(_) => self.get(c),
            Boundary::Clamp => self.get(std::array::from_fn(|a| c[a].clamp(0, side[a] - 1))),
            Boundary::Wrap => self.get(std::array::from_fn(|a| c[a].rem_euclid(side[a]))),
        }
    }

    /// The voxels of tiles.
    fn of(&self, array: &SparseArray3D<u32>, tiles: &TileSet) -> Vec<u32> {
        let mut all = Vec::new();
        for tile in tiles.iter() {
            let Region { start, extent: e } = array.layout().tile_region(tile);
            let at = |(z, y, x)| self.get([start.x as i64 + x, start.y as i64 + y, start.z as i64 + z]);
            all.extend(boxes([e.x as i64, e.y as i64, e.z as i64]).map(at));
        }
        all
    }
}

const TILES: [[u64; 3]; 5] = [[16, 8, 8], [8, 16, 8], [2, 16, 32], [1, 32, 32], [128, 2, 4]];

fn sparse(pool: &Pool<HostBackend>, tile: [u64; 3], salt: u64) -> (SparseArray3D<u32>, Dense) {
    let source = Sparse { salt, tile: tile.into() };
    let dense = source.dense();
    (SparseArray3D::builder(pool, source).tile(tile).build().unwrap(), dense)
}

/// A pool of so many pages of 4 KiB: all of an array is 200 or more.
fn pool(pages: u64) -> Pool<HostBackend> {
    Pool::new(HostBackend::new(), pages * 4096).unwrap()
}

fn some_tiles(random: &mut Random, array: &SparseArray3D<u32>) -> TileSet {
    let kept = 1 + random.below(4);
    let tiles = compute::all(array);
    TileSet::of(tiles.grid(), tiles.iter().filter(|_| random.below(kept) == 0))
}

#[test]
fn reductions_agree_with_dense_ones() {
    let mut random = random("reductions");
    for tile in TILES {
        let pool = pool(2 + random.below(20));
        let (array, dense) = sparse(&pool, tile, random.below(1 << 20));
        let tiles = some_tiles(&mut random, &array);
        let expected = dense.of(&array, &tiles);
        let sum: u64 = expected.iter().map(|&v| u64::from(v)).sum();
        assert_eq!(compute::sum(&array, &tiles).unwrap(), sum as f64);
        let range = expected.iter().min().copied().zip(expected.iter().max().copied());
        assert_eq!(compute::min_max(&array, &tiles).unwrap(), range);
        let count = |all: &mut u64, run: Run<'_, u32>| match run {
            Run::Voxels(voxels) => *all += voxels.len() as u64,
            Run::Same { count, .. } => *all += count,
        };
        let voxels = compute::fold(&array, &tiles, || 0, count, |a, b| a + b).unwrap();
        assert_eq!(voxels, expected.len() as u64);
        // Bins of 2^20 are exact.
        let histogram =
            compute::histogram(&array, &tiles, Bins::new(1_048_576.0, 8_388_608.0, 7).unwrap()).unwrap();
        let within = |low: u32, high: u32| expected.iter().filter(|&&v| v >= low && v < high).count() as u64;
        for (bin, &got) in (1..).zip(&histogram.bins) {
            assert_eq!(
                got,
                within(bin << 20, if bin == 7 { (8 << 20) + 1 } else { (bin + 1) << 20 }),
                "bin {bin}"
            );
        }
        assert_eq!(histogram.below, within(0, 1 << 20));
        assert_eq!(histogram.above, within((8 << 20) + 1, u32::MAX));
        assert!(pool.stats().used_bytes <= pool.stats().budget_bytes);
        assert_eq!(pool.stats().pinned_bytes, 0);
    }
}

#[test]
fn sums_are_the_same_with_any_threads_and_budget() {
    let value = |c: Coord| {
        ((c.x * 7919 + c.y * 104_729 + c.z * 1_299_709) % 1013) as f32 / 7.0
            * 1e9f32.powi((c.x % 3) as i32 - 1)
    };
    let sum = |pages: u64, threads: usize| {
        let pool = pool(pages);
        let array =
            SparseArray3D::builder(&pool, Procedural::new(EXTENT, value)).tile([16, 8, 8]).build().unwrap();
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        threads.install(|| compute::sum(&array, &compute::all(&array)).unwrap()).to_bits()
    };
    let expected = sum(1000, 1);
    for (pages, threads) in [(1, 1), (2, 3), (9, 2), (50, 4), (1000, 3)] {
        assert_eq!(sum(pages, threads), expected, "{pages} pages, {threads} threads");
    }
}

#[test]
fn what_is_not_a_number_is_told_apart() {
    let pool = pool(8);
    let value = |c: Coord| match c.x {
        0 => f32::NAN,
        1 => f32::NEG_INFINITY,
        2 => f32::INFINITY,
        x => x as f32,
    };
    let array =
        SparseArray3D::builder(&pool, Procedural::new(EXTENT, value)).tile([16, 8, 8]).build().unwrap();
    let all = compute::all(&array);
    let row = EXTENT.y * EXTENT.z;
    assert!(compute::sum(&array, &all).unwrap().is_nan());
    assert_eq!(compute::min_max(&array, &all).unwrap(), Some((f32::NEG_INFINITY, f32::INFINITY)));
    let histogram = compute::histogram(&array, &all, Bins::new(3.0, 5.0, 2).unwrap()).unwrap();
    assert_eq!(histogram.bins, [row, 2 * row]);
    assert_eq!((histogram.nan, histogram.below, histogram.above), (row, row, row * (70 - 5)));
    let nan = SparseArray3D::builder(&pool, Fill::new(EXTENT, f32::NAN)).tile([16, 8, 8]).build().unwrap();
    assert_eq!(compute::min_max(&nan, &all).unwrap(), None);
    assert_eq!(compute::min_max(&array, &TileSet::new(all.grid())).unwrap(), None);
    assert!(Bins::new(0.0, f64::INFINITY, 3).is_none() && Bins::new(0.0, f64::NAN, 3).is_none());
    assert!(Bins::new(0.0, 1.0, 0).is_none());
}

#[test]
fn uniform_tiles_take_no_memory() {
    let pool = pool(1);
    let extent = Extent::new(1 << 14, 1 << 9, 500);
    let array = SparseArray3D::builder(&pool, Fill::new(extent, 2u8)).tile([16, 16, 16]).build().unwrap();
    let all = compute::all(&array);
    assert_eq!(all.len(), 1 << 20);
    assert_eq!(compute::sum(&array, &all).unwrap(), 2.0 * (500u64 << 23) as f64);
    assert_eq!(compute::min_max(&array, &all).unwrap(), Some((2, 2)));
    assert_eq!(pool.stats().used_bytes, 0);
}

const BOUNDARIES: [Boundary<u32>; 3] = [Boundary::Fill(77), Boundary::Clamp, Boundary::Wrap];

#[test]
fn halos_agree_with_dense_ones() {
    let mut random = random("halos");
    for (round, tile) in TILES.into_iter().cycle().take(10).enumerate() {
        let halo = match round {
            0..5 => Extent::new(1 + random.below(3), 1 + random.below(3), 1 + random.below(2)),
            // Wider than a tile, wider than the array, none at all.
            _ => Extent::new(random.below(90), random.below(5), random.below(9)),
        };
        let pool = pool(1500);
        let (array, dense) = sparse(&pool, tile, random.below(1 << 20));
        for boundary in BOUNDARIES {
            let tiles = some_tiles(&mut random, &array);
            let tiles = TileSet::of(tiles.grid(), tiles.iter().step_by(5));
            let given = Mutex::new(Vec::new());
            compute::for_each_halo(&array, &tiles, halo, boundary, |block| {
                let start = block.region().start.to_array().map(|v| v as i64);
                let around = halo.to_array().map(|v| v as i64);
                let shape = block.shape().to_array().map(|v| v as i64);
                for (i, (z, y, x)) in boxes(shape).enumerate() {
                    let c = [x - around[0], y - around[1], z - around[2]];
                    let expected = dense.beyond(std::array::from_fn(|a| start[a] + c[a]), boundary);
                    assert_eq!(block.voxels()[i], expected, "{} {c:?} {halo} {boundary:?}", block.tile());
                    assert_eq!(block.place(c), Some(i));
                }
                assert_eq!(block.get([-around[0] - 1, 0, 0]), None);
                given.lock().unwrap().push(block.tile());
            })
            .unwrap();
            let given = given.into_inner().unwrap();
            assert_eq!(given.len() as u64, tiles.len(), "each once");
            assert_eq!(TileSet::of(tiles.grid(), given), tiles);
        }
    }
}

#[test]
fn halos_keep_to_a_budget_of_one_neighbourhood() {
    let pool = pool(27);
    let (array, dense) = sparse(&pool, [16, 8, 8], 5);
    let sum = AtomicU64::new(0);
    compute::for_each_halo(&array, &compute::all(&array), Extent::cube(1), Boundary::Wrap, |block| {
        let e = block.region().extent;
        let inside = boxes([e.x as i64, e.y as i64, e.z as i64]);
        let of = |(z, y, x)| {
            u64::from(block.get([x, y, z]).unwrap()) ^ u64::from(block.get([x + 1, y - 1, z + 1]).unwrap())
        };
        sum.fetch_add(inside.map(of).sum(), Ordering::Relaxed);
    })
    .unwrap();
    let side = EXTENT.to_array().map(|v| v as i64);
    let of = |(z, y, x)| {
        u64::from(dense.get([x, y, z])) ^ u64::from(dense.beyond([x + 1, y - 1, z + 1], Boundary::Wrap))
    };
    assert_eq!(sum.into_inner(), boxes(side).map(of).sum::<u64>());
    assert!(pool.stats().used_bytes <= 27 * 4096);
    assert_eq!(pool.stats().pinned_bytes, 0);
}

#[test]
fn a_tile_that_is_not_there_is_named() {
    let pool = pool(64);
    let source = Procedural::new(EXTENT, |c: Coord| c.x as u32);
    let array = SparseArray3D::builder(&pool, source).tile([16, 8, 8]).build().unwrap();
    let middle = TileCoord::new(1, 1, 1);
    let near = TileSet::of(array.layout().tiles(), [middle]).dilate(Neighbours::Corners, 1, Beyond::Out);
    let all_but = TileCoord::new(2, 0, 1);
    let tiles: Vec<_> = near.iter().filter(|&t| t != all_but).collect();
    let _ = array.request(&tiles).unwrap().complete().unwrap();
    let view = array.frame();
    let mut halo = Halo::new(view.layout(), Extent::cube(1), Boundary::Clamp).unwrap();
    let named = |error: Error| matches!(error, Error::Residency(ResidencyError::NotThere { tile }) if tile == all_but);
    assert!(named(halo.gather(&view, middle).map(|_| ()).unwrap_err()));
    let mut out = vec![0; 1024];
    let stencil =
        |out: &mut [u32], tile| compute::stencil27(&view, tile, Boundary::Clamp, out, |near| near[13]);
    assert!(named(stencil(&mut out, middle).unwrap_err()));
    assert!(stencil(&mut out, TileCoord::new(0, 1, 1)).is_ok());
    assert!(matches!(
        stencil(&mut out[1..], middle),
        Err(Error::Residency(ResidencyError::BufferLength { .. }))
    ));
    let outside = TileCoord::new(5, 0, 0);
    assert!(matches!(stencil(&mut out, outside), Err(Error::Residency(ResidencyError::OutOfBounds { .. }))));
    assert!(halo.gather(&view, outside).is_err());
    let huge = Halo::new(view.layout(), Extent::cube(1 << 40), Boundary::Fill(0u32)).map(|_| ());
    assert!(matches!(huge, Err(Error::Backend(_))));
}

/// Different for every order of the 27.
fn mixed(near: &[u32; 27]) -> u32 {
    near.iter().fold(0, |all, &v| all.rotate_left(5) ^ v)
}

fn mixed_at(dense: &Dense, [x, y, z]: [i64; 3], boundary: Boundary<u32>) -> u32 {
    mixed(&std::array::from_fn(|i| {
        let i = i as i64;
        dense.beyond([x + i % 3 - 1, y + i / 3 % 3 - 1, z + i / 9 - 1], boundary)
    }))
}

#[test]
fn stencils_agree_with_dense_ones() {
    let mut random = random("stencils");
    for tile in TILES {
        let pool = pool(4000);
        let (array, dense) = sparse(&pool, tile, random.below(1 << 20));
        let _ = array.request_region(Region::whole(EXTENT)).unwrap().complete().unwrap();
        let view = array.frame();
        let mut near = view.accessor();
        for boundary in BOUNDARIES {
            for tile in some_tiles(&mut random, &array).iter() {
                let shape = view.layout().tile_shape();
                let mut out = vec![123_456_789; (shape.x * shape.y * shape.z) as usize];
                compute::stencil27(&view, tile, boundary, &mut out, mixed).unwrap();
                let start = [tile.x * shape.x, tile.y * shape.y, tile.z * shape.z].map(|v| v as i64);
                for (i, (z, y, x)) in boxes(shape.to_array().map(|v| v as i64)).enumerate() {
                    let c = [start[0] + x, start[1] + y, start[2] + z];
                    let at = c.map(|v| v as u64);
                    if !EXTENT.contains(at.into()) {
                        assert_eq!(out[i], 123_456_789, "past the far faces nothing is written");
                        continue;
                    }
                    assert_eq!(out[i], mixed_at(&dense, c, boundary), "{c:?} {boundary:?} {shape}");
                    if boundary == Boundary::Clamp {
                        assert_eq!(out[i], mixed(&near.neighbourhood(at).unwrap()));
                    }
                }
            }
        }
    }
}

#[test]
fn stencils_are_written_within_the_budget() {
    let mut random = random("stencils written");
    // Of these shapes a neighbourhood is no larger than the budget.
    for tile in [[16, 8, 8], [8, 16, 8], [2, 16, 32]] {
        let pool = pool(28 + random.below(30));
        let (array, dense) = sparse(&pool, tile, random.below(1 << 20));
        let fill = Fill::new(EXTENT, 5u32);
        let mut out = SparseArray3D::builder(&pool, fill).tile(tile).writable().build().unwrap();
        for boundary in BOUNDARIES {
            let tiles = some_tiles(&mut random, &array);
            compute::stencil27_into(&mut out.writer().unwrap(), &array, &tiles, boundary, mixed).unwrap();
            let all = out.to_vec(Region::whole(EXTENT)).unwrap();
            for (i, (z, y, x)) in boxes(EXTENT.to_array().map(|v| v as i64)).enumerate() {
                let at = out.layout().tile_of(Coord::new(x as u64, y as u64, z as u64));
                let expected = if tiles.contains(at) { mixed_at(&dense, [x, y, z], boundary) } else { 5 };
                assert_eq!(all[i], expected, "({x}, {y}, {z}) {boundary:?}");
            }
            assert_eq!(compute::written(&out), tiles);
            assert!(pool.stats().used_bytes <= pool.stats().budget_bytes);
            out.discard_written(&out.written_tiles()).unwrap();
            out.evict(Region::whole(EXTENT)).unwrap();
        }
    }
}

#[test]
fn maps_and_zips_agree_with_dense_ones() {
    let mut random = random("zips");
    for tile in TILES {
        // Four arrays in a few pages.
        let pool = pool(4 + random.below(20));
        let (a, dense_a) = sparse(&pool, tile, random.below(1 << 20));
        let (b, dense_b) = sparse(&pool, tile, random.below(1 << 20));
        let c = Procedural::new(EXTENT, |c: Coord| c.x as u8);
        // In pages of another shape, and of another pool.
        let apart = Pool::new(HostBackend::new(), 64 << 10).unwrap();
        let c = SparseArray3D::builder(&apart, c).tile(tile).page_bytes(8192).build().unwrap();
        let source = Sparse { salt: 9, tile: tile.into() };
        let mut expected = source.dense();
        let mut out = SparseArray3D::builder(&pool, source).tile(tile).writable().build().unwrap();

        let tiles = some_tiles(&mut random, &out);
        compute::map(&mut out.writer().unwrap(), &tiles, |at, old| old.rotate_left(3) ^ at.y as u32).unwrap();
        let more = some_tiles(&mut random, &out);
        compute::zip(&mut out.writer().unwrap(), (&a, (&b, &c)), &more, |at, out, (a, (b, c))| {
            assert_eq!(u64::from(c), at.x);
            *out = out.wrapping_mul(3) ^ a.rotate_left(1) ^ b.rotate_left(2) ^ at.z as u32;
        })
        .unwrap();
        let side = EXTENT.to_array().map(|v| v as i64);
        for (i, (z, y, x)) in boxes(side).enumerate() {
            let at = out.layout().tile_of(Coord::new(x as u64, y as u64, z as u64));
            let voxel = &mut expected.0[i];
            if tiles.contains(at) {
                *voxel = voxel.rotate_left(3) ^ y as u32;
            }
            if more.contains(at) {
                let (a, b) = (dense_a.0[i], dense_b.0[i]);
                *voxel = voxel.wrapping_mul(3) ^ a.rotate_left(1) ^ b.rotate_left(2) ^ z as u32;
            }
        }
        assert!(out.to_vec(Region::whole(EXTENT)).unwrap() == expected.0, "{tile:?}");
        assert_eq!(compute::written(&out), tiles.or(&more));
        assert!(pool.stats().used_bytes <= pool.stats().budget_bytes);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let pool = pool(64);
    let fill = |extent| Fill::new(extent, 1u32);
    let mut out = SparseArray3D::builder(&pool, fill(EXTENT)).tile([16, 8, 8]).writable().build().unwrap();
    let all = compute::all(&out);
    let other = SparseArray3D::builder(&pool, fill(EXTENT)).tile([8, 16, 8]).build().unwrap();
    let smaller = SparseArray3D::builder(&pool, fill(Extent::cube(50))).tile([16, 8, 8]).build().unwrap();
    for input in [&other, &smaller] {
        let zipped = compute::zip(&mut out.writer().unwrap(), input, &all, |_, out, v| *out = v);
        assert!(matches!(zipped, Err(Error::Layout(LayoutError::NotAlike { .. }))));
        let writer = &mut out.writer().unwrap();
        let stencil = compute::stencil27_into(writer, input, &all, Boundary::Clamp, |near| near[0]);
        assert!(matches!(stencil, Err(Error::Layout(LayoutError::NotAlike { .. }))));
    }
    let outside = |error| matches!(error, Err(Error::Residency(ResidencyError::OutOfBounds { .. })));
    let beyond = TileSet::of(Extent::cube(100), [TileCoord::new(0, 0, 0), TileCoord::new(99, 0, 0)]);
    assert!(outside(compute::sum(&out, &beyond).map(drop)));
    assert!(outside(compute::map(&mut out.writer().unwrap(), &beyond, |_, v| v)));
    assert!(outside(compute::for_each_halo(&out, &beyond, Extent::cube(1), Boundary::Clamp, |_| {})));
    assert!(compute::written(&out).is_empty(), "nothing was begun");
}

/// Fails from some x on.
struct Broken;

impl TileSource<u32> for Broken {
    fn extent(&self) -> Extent {
        EXTENT
    }

    fn read(&self, region: Region, out: &mut [u32]) -> Result<(), vastgrid::SourceError> {
        out.fill(1);
        if region.start.x >= 48 { Err(vastgrid::SourceError::Other("as told".into())) } else { Ok(()) }
    }
}

#[test]
fn tiles_that_fail_to_load_end_it_by_name() {
    let pool = pool(40);
    let array = SparseArray3D::builder(&pool, Broken).tile([16, 8, 8]).build().unwrap();
    let all = compute::all(&array);
    let broken = |tile: TileCoord| tile.x >= 3;
    assert!(matches!(compute::sum(&array, &all), Err(Error::Tile { tile, .. }) if broken(tile)));
    let halo = compute::for_each_halo(&array, &all, Extent::cube(1), Boundary::Clamp, |_| {});
    assert!(matches!(halo, Err(Error::Tile { tile, .. }) if broken(tile)));
    let mut out =
        SparseArray3D::builder(&pool, Fill::new(EXTENT, 0u32)).tile([16, 8, 8]).writable().build().unwrap();
    let zipped = compute::zip(&mut out.writer().unwrap(), &array, &all, |_, out, v| *out = v);
    assert!(matches!(zipped, Err(Error::Tile { tile, .. }) if broken(tile)));
    // What could be read is still there to be computed on, and nothing is held.
    let left = Region::new(Coord::new(0, 0, 0), Extent::new(48, EXTENT.y, EXTENT.z));
    let left = TileSet::from_region(array.layout(), left);
    assert_eq!(compute::sum(&array, &left).unwrap(), (48 * EXTENT.y * EXTENT.z) as f64);
    assert_eq!(pool.stats().pinned_bytes, 0);
}

#[test]
fn threads_share_a_small_budget() {
    let pool = pool(12);
    let (array, dense) = sparse(&pool, [16, 8, 8], 77);
    let all = compute::all(&array);
    let expected = dense.0.iter().map(|&v| u64::from(v)).sum::<u64>() as f64;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(compute::sum(&array, &all).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn what_no_budget_will_hold_is_said_at_once() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    let extent = Extent::cube(48);
    let too_small = |pages: u64, is_uniform: bool| {
        let config = PoolConfig { budget_bytes: pages << 14, patience: PATIENCE, ..PoolConfig::default() };
        let pool = Pool::with_config(HostBackend::new(), config).unwrap();
        let source = Procedural::new(extent, |c: Coord| (c.x + c.y * c.z) as f32);
        let from = SparseArray3D::builder(&pool, source).tile([16, 16, 16]).build().unwrap();
        let uniform = SparseArray3D::builder(&pool, Fill::new(extent, 3.0f32)).tile([16, 16, 16]);
        let from = if is_uniform { uniform.build().unwrap() } else { from };
        let fill = Fill::new(extent, 0.0f32);
        let mut to = SparseArray3D::builder(&pool, fill).tile([16, 16, 16]).writable().build().unwrap();
        let tiles = compute::all(&from);
        let mut writer = to.writer().unwrap();
        let zipped = compute::zip(&mut writer, &from, &tiles, |_, voxel, near| *voxel = near);
        let near = |near: &[f32; 27]| near[13];
        let stencil = compute::stencil27_into(&mut writer, &from, &tiles, Boundary::Clamp, near);
        let refused = |result: Result<(), Error>| match result {
            Ok(()) => false,
            Err(Error::Residency(ResidencyError::OverBudget { needed_bytes, budget_bytes })) => {
                assert!(needed_bytes > budget_bytes && budget_bytes == pages << 14);
                true
            }
            Err(error) => panic!("{pages} pages: {error}"),
        };
        [refused(zipped), refused(stencil)]
    };
    for (pages, refused) in [(1, [true, true]), (2, [false, true]), (27, [false, true]), (28, [false, false])]
    {
        assert_eq!(too_small(pages, false), refused, "{pages} pages");
    }
    // What holds one value needs no page, which nobody knows before it is asked for.
    assert_eq!(too_small(1, true), [false, false]);
    assert!(begun.elapsed() < PATIENCE, "nobody waits for what will not come");
}
