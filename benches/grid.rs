//! What do computations on a grid in memory cost, against OpenVDB and against plain loops?
//!
//! Workload G1024: 1024^3 f32 voxels in tiles of 64^3, of which 5 % are active. OpenVDB is built and run in turns with this process where it is installed (`common/openvdb.rs`); it gets the same workload, as it would hold it.
//! Everybody's sums have to agree. SPGrid is not measured: it is no package. What its authors' claim stands for here are targets, taken from one table in which it, OpenVDB and plain loops were measured on one machine:
//!
//! | row | target | where it is from |
//! | --- | --- | --- |
//! | random reads of active voxels | 6 x faster than OpenVDB's best | there SPGrid was 8 x, in blocks of 1 MiB |
//! | 27-point sweep | 8 x faster than OpenVDB's accessor | SPGrid's own ratio there |
//! | parallel sum | 1.10 of a plain slice | the bandwidth of memory |
//! | writing all voxels | 1.00 of OpenVDB's leaf buffers, heap reused | |
//! | a tile's activation and eviction | 3.1 copies of it | half of SPGrid's 6.3: (527 + 67) us a block of 1 MiB, of which a copy took 95 us |
//! | memory of a thin shell | 1.3 of OpenVDB's | |
//! | a moving band in 2^40 voxels | 1.05 of the same in 2^27 | |
//!
//! Names of groups as arguments run those alone: `reads`, `sweeps`, `sums`, `writes`, `cycle`, `shell`, `band`, `sets`.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::band::Band;
use common::contest::{Contest, Turn, timed, verdict};
use common::openvdb::{OpenVdb, Program};
use common::plain::Plain;
use common::reads::{self, Packed};
use common::{G1024, SplitMix, median, shell};
use rayon::ThreadPool;
use rayon::prelude::*;
use vastgrid::compute::{self, Boundary, Halo, TileSet};
use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, Tile, TileCoord, View};

/// Voxels of a tile.
const TILE: usize = 64 * 64 * 64;

/// Where there is no such target.
const ANY: f64 = f64::INFINITY;

/// What the groups share.
struct Grid {
    workload: G1024,
    array: SparseArray3D<f32>,
    active: TileSet,
    vdb: Option<OpenVdb>,
}

fn main() {
    if shell::was_asked_for() {
        return;
    }
    let asked: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |group: &str| asked.is_empty() || asked.iter().any(|word| word == group);
    let of_workload = ["reads", "sweeps", "sums", "writes"].into_iter().any(wants);
    let program = if of_workload || wants("shell") { Program::build() } else { None };
    println!("{} threads; SPGrid's rows are targets, see the head of benches/grid.rs", rayon::current_num_threads());
    if wants("shell") {
        thin_shell(program.as_ref());
    }
    if of_workload {
        let workload = G1024::new();
        let (_pool, array) = workload.array();
        let active = TileSet::of(array.layout().tiles(), workload.tiles.iter().map(|&t| G1024::coord(t)));
        let vdb = program.as_ref().map(|program| program.start(rayon::current_num_threads()));
        let grid = Grid { workload, array, active, vdb };
        let groups = [
            ("reads", Grid::reads as fn(&Grid)),
            ("sweeps", Grid::sweeps),
            ("sums", Grid::sums),
            ("writes", Grid::writes),
        ];
        groups.into_iter().filter(|(name, _)| wants(name)).for_each(|(_, run)| run(&grid));
    }
    if wants("cycle") {
        cycle("1 MiB", [64, 64, 64]);
        cycle("2 MiB", [128, 64, 64]);
    }
    if wants("band") {
        moving_band();
    }
    if wants("sets") {
        sets();
    }
}

/// Rayon's pool of so many threads.
fn threads(count: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap()
}

/// Ends the bench where a sum is not the workload's; sums of `f32` depend on their order in the last digits.
fn check(label: &str, sum: f64, expected: f64) {
    assert!((sum - expected).abs() <= 1e-8 * expected, "{label}: {sum}, not {expected}");
}

impl Grid {
    /// A row of OpenVDB's.
    fn vdb<'a>(&self, row: &'a str) -> impl Fn(&OpenVdb) -> Turn + use<'a> {
        move |vdb| vdb.turn(row)
    }

    fn reads(&self) {
        let (workload, view) = (&self.workload, self.array.frame());
        let plain = Plain::new(workload);
        let active = Packed::all(&workload.active);
        let anywhere = Packed::all(&workload.anywhere);
        let centres = Packed::all(&workload.centres);
        let vdb = self.vdb.as_ref();
        check("random active reads", reads::by_get(&view, &active), 2_097_125.169);
        check("random reads anywhere", reads::by_get(&view, &anywhere), 105_064.657);
        check("27-point sums at random", reads::stencils(&view, &centres), 3_439_785.645);
        let reads = active.len() as f64;
        for (label, target, read) in [
            ("random active, get_each", 1.0 / 6.0, reads::by_get_each as fn(&View<'_, f32>, &[Packed]) -> f64),
            ("random active, get", ANY, reads::by_get),
        ] {
            Contest::new(label, reads, target)
                .against_any("OpenVDB's accessor", vdb, self.vdb("active accessor"))
                .against_any("its tree", vdb, self.vdb("active tree"))
                .run(|| timed(|| read(&view, &active)));
        }
        Contest::new("random active, get", reads, 1.1)
            .against("plain", || timed(|| reads::by_plain(&plain, &active)))
            .run(|| timed(|| reads::by_get(&view, &active)));
        Contest::new("random active, accessor", reads, 1.1)
            .against("plain", || timed(|| reads::by_plain(&plain, &active)))
            .run(|| timed(|| reads::by_accessor(&view, &active)));
        Contest::new("random anywhere (95 % background), get_each", reads, ANY)
            .against("get", || timed(|| reads::by_get(&view, &anywhere)))
            .run(|| timed(|| reads::by_get_each(&view, &anywhere)));
        Contest::new("random anywhere (95 % background), get", reads, ANY)
            .against("plain", || timed(|| reads::by_plain(&plain, &anywhere)))
            .against_any("OpenVDB's accessor", vdb, self.vdb("domain accessor"))
            .against_any("its tree", vdb, self.vdb("domain tree"))
            .run(|| timed(|| reads::by_get(&view, &anywhere)));
        Contest::new("27-point sums at random", centres.len() as f64, ANY)
            .against_any("OpenVDB's accessor", vdb, self.vdb("stencils"))
            .run(|| timed(|| reads::stencils(&view, &centres)));
    }

    fn sweeps(&self) {
        let (workload, view, vdb) = (&self.workload, self.array.frame(), self.vdb.as_ref());
        let plain = Plain::new(workload);
        let voxels = (workload.inner.len() * TILE) as f64;
        let mut out = vec![0.0f32; TILE];
        let mut halo = Halo::new(view.layout(), Extent::cube(1), Boundary::Clamp).unwrap();
        let expected = 54_905_765.066;
        check("27-point sweep, accessor", reads::sweep_accessor(workload, &view), expected);
        check("27-point sweep, stencil27", sweep_stencil(workload, &view, &mut out, in_order), expected);
        check("27-point sweep, by rows", sweep_stencil(workload, &view, &mut out, by_rows), expected);
        check("27-point sweep, halo", sweep_halo(workload, &view, &mut halo), expected);
        Contest::new("27-point sweep, stencil27 by rows", voxels, 1.0 / 8.0)
            .against_any("OpenVDB's accessor", vdb, self.vdb("sweep"))
            .run(|| timed(|| sweep_stencil(workload, &view, &mut out, by_rows)));
        Contest::new("27-point sweep, stencil27 in order", voxels, 1.0 / 8.0)
            .against_any("OpenVDB's accessor", vdb, self.vdb("sweep"))
            .run(|| timed(|| sweep_stencil(workload, &view, &mut out, in_order)));
        Contest::new("27-point sweep, accessor", voxels, 1.0 / 3.5)
            .against_any("OpenVDB's accessor", vdb, self.vdb("sweep"))
            .run(|| timed(|| reads::sweep_accessor(workload, &view)));
        Contest::new("27-point sweep, stencil27 by rows", voxels, 0.5)
            .against("our accessor", || timed(|| reads::sweep_accessor(workload, &view)))
            .run(|| timed(|| sweep_stencil(workload, &view, &mut out, by_rows)));
        Contest::new("27-point sweep, accessor", voxels, 1.0)
            .against("plain", || timed(|| reads::sweep_plain(workload, &plain)))
            .run(|| timed(|| reads::sweep_accessor(workload, &view)));
        Contest::new("27-point sweep, gather and sum", voxels, 1.0)
            .against("our accessor", || timed(|| reads::sweep_accessor(workload, &view)))
            .run(|| timed(|| sweep_halo(workload, &view, &mut halo)));
        Contest::new("gather of a tile with a halo of 1", voxels, ANY).run(|| {
            timed(|| {
                for &tile in &workload.inner {
                    black_box(halo.gather(&view, G1024::coord(tile)).unwrap());
                }
                0.0
            })
        });
    }

    fn sums(&self) {
        let sum = || compute::sum(&self.array, &self.active).unwrap();
        check("sum of active tiles", sum(), 26_870_331.99);
        let voxels = (self.workload.tiles.len() * TILE) as f64;
        let mut slice = Vec::with_capacity(voxels as usize);
        for &tile in &self.workload.tiles {
            if let Tile::Resident(voxels) = self.array.frame().tile(G1024::coord(tile)) {
                slice.extend_from_slice(voxels);
            }
        }
        let parts = || slice.par_chunks(TILE).with_max_len(1).map(add).sum();
        Contest::new("parallel sum", voxels, 1.1)
            .against("plain slice", || timed(parts))
            .run(|| timed(sum));
        Contest::new("parallel sum", voxels, ANY)
            .against_any("OpenVDB's leaves, parallel", self.vdb.as_ref(), self.vdb("sum"))
            .run(|| timed(sum));
        scaling("sum", |pool| {
            black_box(pool.install(sum));
        });
        Contest::new("smallest and largest, all threads", voxels, ANY)
            .run(|| timed(|| compute::min_max(&self.array, &self.active).unwrap().map_or(0.0, |r| f64::from(r.1))));
    }

    fn writes(&self) {
        let tiles: Vec<_> = self.workload.tiles.iter().map(|&t| G1024::coord(t)).collect();
        let voxels = (tiles.len() * TILE) as f64;
        // A budget whose half, which a writer holds, has room for all of it.
        let pool = Pool::new(HostBackend::new(), 512 << 20).unwrap();
        let fill = Fill::new(Extent::cube(1024), 0.0f32);
        let mut array = SparseArray3D::builder(&pool, fill).tile([64; 3]).writable().build().unwrap();
        let one = threads(1);
        let mut write = |threads: &ThreadPool| {
            threads.install(|| array.writer().unwrap().for_each_tile(&tiles, write_tile)).unwrap();
            tiles.len() as f64
        };
        let reused = |vdb: &OpenVdb| {
            vdb.turn("clear");
            vdb.turn("write")
        };
        Contest::new("write all voxels, one thread", voxels, 1.0)
            .against_any("OpenVDB's leaves, heap reused", self.vdb.as_ref(), reused)
            .run(|| timed(|| write(&one)));
        Contest::new("write all voxels, one thread", voxels, ANY)
            .against_any("OpenVDB's leaves, there already", self.vdb.as_ref(), self.vdb("write"))
            .run(|| timed(|| write(&one)));
        scaling("write all voxels", |pool| {
            write(pool);
        });
        let first = G1024::origin(self.workload.tiles[7]);
        assert_eq!(array.get(first).unwrap(), G1024::value(first));
        let inner = self.workload.inner.iter().map(|&t| G1024::coord(t));
        let inner = TileSet::of(array.layout().tiles(), inner);
        scaling("27-point sweep into another array", |pool| {
            pool.install(|| {
                let mut writer = array.writer().unwrap();
                compute::stencil27_into(&mut writer, &self.array, &inner, Boundary::Clamp, by_rows).unwrap();
            });
        });
    }
}

/// The workload's values, row by row.
fn write_tile(tile: TileCoord, voxels: &mut [f32]) {
    for (row, voxels) in (0..).zip(voxels.chunks_exact_mut(64)) {
        let first = Coord::new(tile.x * 64, tile.y * 64 + row % 64, tile.z * 64 + row / 64);
        for (x, voxel) in (first.x..).zip(voxels) {
            *voxel = G1024::value(Coord { x, ..first });
        }
    }
}

/// The 27-point sum at every voxel of the inner tiles, tile by tile.
fn sweep_stencil(
    workload: &G1024,
    view: &View<'_, f32>,
    out: &mut [f32],
    of: impl Fn(&[f32; 27]) -> f32 + Copy,
) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        compute::stencil27(view, G1024::coord(tile), Boundary::Clamp, out, of).unwrap();
        sum += add_exactly(out);
    }
    sum
}

/// One after the other: each waits for the one before.
fn in_order(near: &[f32; 27]) -> f32 {
    near.iter().sum()
}

/// Three at a time, which wait for each other less.
fn by_rows(near: &[f32; 27]) -> f32 {
    near.chunks_exact(3).map(|row| row[0] + row[1] + row[2]).sum()
}

/// The same, with every tile gathered with a halo of one voxel first.
fn sweep_halo(workload: &G1024, view: &View<'_, f32>, halo: &mut Halo<f32>) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        let block = halo.gather(view, G1024::coord(tile)).unwrap();
        let ([_, row, plane], voxels) = (block.strides(), block.voxels());
        for z in 0..64 {
            for y in 0..64 {
                let lines: [&[f32]; 9] = std::array::from_fn(|i| {
                    let first = (y + i % 3) * row + (z + i / 3) * plane;
                    &voxels[first..first + 66]
                });
                let mut out = [0.0; 64];
                for (x, out) in out.iter_mut().enumerate() {
                    *out = lines.iter().map(|line| line[x] + line[x + 1] + line[x + 2]).sum();
                }
                sum += add_exactly(&out);
            }
        }
    }
    sum
}

/// In 16 lanes, in pieces short enough for `f32`.
fn add(voxels: &[f32]) -> f64 {
    let piece = |piece: &[f32]| {
        let mut lanes = [0.0f32; 16];
        for chunk in piece.chunks_exact(16) {
            lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
        }
        f64::from(lanes.iter().sum::<f32>())
    };
    voxels.chunks(512).map(piece).sum()
}

/// In 8 lanes of `f64`: exact enough to tell one sweep from another.
fn add_exactly(voxels: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for chunk in voxels.chunks_exact(8) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane += f64::from(v));
    }
    lanes.iter().sum()
}

/// What a tile's memory costs from its first write until it is gone, against copies of its bytes.
fn cycle(name: &str, shape: [u64; 3]) {
    const TILES: u64 = 64;
    const ALONG: u64 = 256;
    let block: Vec<f32> = (0..shape.iter().product::<u64>()).map(|i| i as f32).collect();
    let bytes = block.len() as u64 * 4;
    let tile = |i: u64| TileCoord::new(37 * i % ALONG, 0, 0);
    let place = |i: u64| Region::new(Coord::new(tile(i).x * shape[0], 0, 0), Extent::from(shape));
    let array = |pool: &Pool<HostBackend>| {
        let fill = Fill::new(Extent::new(ALONG * shape[0], shape[1], shape[2]), 0.0f32);
        SparseArray3D::builder(pool, fill).tile(shape).writable().build().unwrap()
    };
    let mut buffers = vec![block.clone(); 8];
    let mut copies = || {
        timed(|| {
            (0..TILES as usize).for_each(|i| buffers[i % 8].copy_from_slice(black_box(&block)));
            TILES as f64
        })
    };
    // As a band moves: the memory of a tile that was given up goes to one that is written next.
    let pool = Pool::new(HostBackend::new(), 8 * bytes).unwrap();
    let mut moving = array(&pool);
    let mut at = 0;
    Contest::new(&format!("tile of {name}: activate, write, evict"), TILES as f64, 3.1)
        .against("copy", &mut copies)
        .run(|| {
            timed(|| {
                for _ in 0..TILES {
                    moving.writer().unwrap().write_region(place(at), &block).unwrap();
                    moving.discard_written(&[tile(at)]).unwrap();
                    at += 1;
                }
                TILES as f64
            })
        });
    let pool = Pool::new(HostBackend::new(), 2 * TILES * bytes).unwrap();
    let mut fresh = array(&pool);
    let whole = Region::whole(fresh.extent());
    Contest::new(&format!("tile of {name}: the same, memory from and to the system"), TILES as f64, 3.1)
        .against("copy", &mut copies)
        .run(|| {
            timed(|| {
                (0..TILES).for_each(|i| fresh.writer().unwrap().write_region(place(i), &block).unwrap());
                fresh.discard_written(&fresh.written_tiles()).unwrap();
                fresh.evict(whole).unwrap() as f64
            })
        });
}

/// What a thin shell takes in pages of 4 KiB.
fn thin_shell(program: Option<&Program>) {
    const MIB: f64 = (1 << 20) as f64;
    let vdb = program.map(Program::shell);
    if let Some(theirs) = &vdb {
        println!(
            "{:<44} {:.1} MiB ({:.1} by its own count), {} leaves of 8^3, {} active voxels, {:.2} s",
            "shell, OpenVDB",
            theirs.grown_bytes / MIB,
            theirs.said_bytes / MIB,
            theirs.leaves,
            theirs.active_voxels,
            theirs.seconds,
        );
    }
    for tile in [[16, 8, 8], [8, 8, 8]] {
        let ours = shell::measured(tile);
        let mut line = format!(
            "{:<44} {:.1} MiB ({:.1} of pages), {} tiles, {:.2} s",
            format!("shell, tiles of {} x {} x {}, pages of 4 KiB", tile[0], tile[1], tile[2]),
            ours.grown_bytes / MIB,
            ours.used_bytes / MIB,
            ours.tiles,
            ours.seconds,
        );
        if let Some(theirs) = &vdb {
            assert_eq!(ours.active_voxels, theirs.active_voxels, "not the same shell");
            let ratio = ours.grown_bytes / theirs.grown_bytes;
            line += &format!(": {}", verdict(ratio, 1.3, ratio, ours.grown_bytes / theirs.said_bytes));
        }
        println!("{line}");
    }
}

/// The same band in grids of two extents.
fn moving_band() {
    const STEPS: usize = 24;
    let small = Band::new(Extent::cube(512), Coord::new(256, 256, 256));
    let large = Band::new(Extent::new(1 << 14, 1 << 13, 1 << 13), Coord::new(8000, 4000, 4000));
    let all = rayon::current_num_threads();
    for count in if all > 1 { vec![1, all] } else { vec![1] } {
        let pool = threads(count);
        Contest::new(&format!("moving band in 2^40 voxels, {count} threads"), STEPS as f64, 1.05)
            .against("in 2^27", || timed(|| pool.install(|| small.blow(STEPS))))
            .run(|| timed(|| pool.install(|| large.blow(STEPS))));
    }
    scaling("moving band", |pool| {
        black_box(pool.install(|| large.blow(STEPS)));
    });
}

/// How much faster all threads are than one, beside the same of a loop that needs nothing but registers: what the machine has to give in that minute.
fn scaling(label: &str, mut work: impl FnMut(&ThreadPool)) {
    let count = rayon::current_num_threads();
    if count < 2 {
        return println!("{label:<44} one thread, nothing to scale over");
    }
    let pools = [threads(1), threads(count)];
    let hashes = |pool: &ThreadPool| {
        let hash = |i: u32| {
            let at = |x| Coord::new(x, i.into(), 0);
            (0..1 << 16).map(|x| G1024::value(at(x))).sum::<f32>()
        };
        black_box(pool.install(|| (0..256u32).into_par_iter().with_max_len(1).map(hash).sum::<f32>()));
    };
    let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        let [one, all] = pools.each_ref().map(|pool| seconds(|| work(pool)));
        let [plain_one, plain_all] = pools.each_ref().map(|pool| seconds(|| hashes(pool)));
        ours.push(one / all);
        plain.push(plain_one / plain_all);
        ratios.push(plain_one / plain_all / (one / all));
    }
    let (ours, plain, ratio) = (median(&mut ours), median(&mut plain), median(&mut ratios));
    let verdict = verdict(ratio, 1.2, ratios[0], ratios[ratios.len() - 1]);
    println!("{:<44} {ours:.2} x one thread's speed, a plain loop {plain:.2} x: {verdict}", format!("{label}, {count} threads"));
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Sets of tiles.
fn sets() {
    // 2^28 tiles, of which one in 1000 is in.
    let grid = Extent::new(1 << 10, 1 << 9, 1 << 9);
    let mut random = SplitMix(5);
    let tiles = (0..1 << 18).map(|_| {
        let r = random.next();
        TileCoord::new(r & 1023, r >> 10 & 511, r >> 20 & 511)
    });
    let set = TileSet::of(grid, tiles);
    let grown = nanoseconds(set.len() as usize, || {
        black_box(set.dilate(compute::Neighbours::Corners, 1, compute::Beyond::Out));
    });
    println!("{:<44} {grown:.1} ns a tile of {}", "dilate a sparse set by 26 neighbours", set.len());
    let dense = TileSet::of(Extent::cube(16), (0..4096).map(G1024::coord));
    let eroded = nanoseconds(dense.len() as usize, || {
        black_box(dense.erode(compute::Neighbours::Corners, 1, compute::Beyond::Out));
    });
    println!("{:<44} {eroded:.1} ns a tile of {}", "erode a dense set by 26 neighbours", dense.len());
}

/// Median time of one item.
fn nanoseconds(items: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<_> = (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e9 / items as f64
        })
        .collect();
    median(&mut times)
}
