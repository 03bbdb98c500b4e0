//! What do computations on a grid in memory cost, against the same as plain loops?
//!
//! Workload G1024. The check sums are those that every program for it prints: a wrong one ends the bench.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::plain::Plain;
use common::{G1024, median, paired};
use vastgrid::compute::{self, Boundary, Halo, TileSet};
use vastgrid::{Coord, Extent, Region, Tile, View};

/// Voxels of a tile.
const TILE: usize = 64 * 64 * 64;

/// Ends the bench where a sum is not the workload's; sums of `f32` depend on their order in the last digits.
fn check(label: &str, sum: f64, expected: f64) {
    println!("{label:<44} check sum {sum:.3}, expected {expected:.3}");
    assert!((sum - expected).abs() <= 1e-8 * expected, "{label}: {sum}");
}

fn read(view: &View<'_, f32>, at: &[Coord]) -> f64 {
    at.iter().map(|&c| f64::from(view.get(c).unwrap_or_default())).sum()
}

/// The 27-point sum at every voxel of the inner tiles, by one read of the neighbourhood each.
fn sweep_accessor(workload: &G1024, view: &View<'_, f32>) -> f64 {
    let mut accessor = view.accessor();
    let mut sum = 0.0;
    for &tile in &workload.inner {
        let first = G1024::origin(tile);
        for z in first.z..first.z + 64 {
            for y in first.y..first.y + 64 {
                for x in first.x..first.x + 64 {
                    let near = accessor.neighbourhood([x, y, z]);
                    sum += f64::from(near.map_or(0.0, |near| near.iter().sum::<f32>()));
                }
            }
        }
    }
    sum
}

/// The same, tile by tile.
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

fn sweep_plain(workload: &G1024, plain: &Plain) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        let first = G1024::origin(tile);
        let [x0, y0, z0] = [first.x as u32, first.y as u32, first.z as u32];
        for (z, y, x) in (0..64).flat_map(|z| (0..64).flat_map(move |y| (0..64).map(move |x| (z, y, x)))) {
            let (x, y, z) = (x0 + x, y0 + y, z0 + z);
            let mut near = 0.0;
            for c in z - 1..z + 2 {
                for b in y - 1..y + 2 {
                    for a in x - 1..x + 2 {
                        near += plain.get(a, b, c);
                    }
                }
            }
            sum += f64::from(near);
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

/// All active tiles, one after the other, in the best loop there is.
fn sum_slices(workload: &G1024, view: &View<'_, f32>) -> f64 {
    let of = |&tile: &u32| match view.tile(G1024::coord(tile)) {
        Tile::Resident(voxels) => add(voxels),
        _ => 0.0,
    };
    workload.tiles.iter().map(of).sum()
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

fn main() {
    let workload = G1024::new();
    let (_pool, array) = workload.array();
    let plain = Plain::new(&workload);
    let voxels = workload.inner.len() * TILE;
    let mut out = vec![0.0f32; TILE];
    let active = TileSet::of(array.layout().tiles(), workload.tiles.iter().map(|&t| G1024::coord(t)));
    {
        let view = array.frame();
        let mut halo = Halo::new(view.layout(), Extent::cube(1), Boundary::Clamp).unwrap();
        check("random active reads", read(&view, &workload.active), 2_097_125.169);
        check("27-point sweep, accessor", sweep_accessor(&workload, &view), 54_905_765.066);
        check(
            "27-point sweep, stencil27",
            sweep_stencil(&workload, &view, &mut out, in_order),
            54_905_765.066,
        );
        check("27-point sweep, by rows", sweep_stencil(&workload, &view, &mut out, by_rows), 54_905_765.066);
        check("27-point sweep, halo", sweep_halo(&workload, &view, &mut halo), 54_905_765.066);
    }
    check("sum of active tiles", compute::sum(&array, &active).unwrap(), 26_870_331.99);

    {
        let view = array.frame();
        let reads = workload.active.len() as f64;
        let plain_reads = || {
            let of = |c: &Coord| f64::from(plain.get(c.x as u32, c.y as u32, c.z as u32));
            workload.active.iter().map(of).sum()
        };
        paired(
            "random active reads, against plain",
            reads,
            7,
            1.1,
            || read(&view, &workload.active),
            plain_reads,
        );
        let count = voxels as f64;
        let accessor = || sweep_accessor(&workload, &view);
        let in_order = || sweep_stencil(&workload, &view, &mut out, in_order);
        paired("stencil27, against the accessor", count, 7, 0.5, in_order, accessor);
        let by_rows = |out: &mut [f32]| sweep_stencil(&workload, &view, out, by_rows);
        paired("stencil27 by rows, against the accessor", count, 7, 0.5, || by_rows(&mut out), accessor);
        let loops = || sweep_plain(&workload, &plain);
        paired("stencil27 by rows, against plain", count, 5, 0.5, || by_rows(&mut out), loops);
        let mut halo = Halo::new(view.layout(), Extent::cube(1), Boundary::Clamp).unwrap();
        let other = || sweep_accessor(&workload, &view);
        paired(
            "gather and sum, against the accessor",
            count,
            7,
            1.0,
            || sweep_halo(&workload, &view, &mut halo),
            other,
        );
        let gather = nanoseconds(voxels, || {
            for &tile in &workload.inner {
                black_box(halo.gather(&view, G1024::coord(tile)).unwrap());
            }
        });
        println!("{:<44} {gather:.3} ns a voxel", "gather of a tile with a halo of 1");
    }
    let view_sum = || sum_slices(&workload, &array.frame());
    let all = workload.tiles.len() as f64 * TILE as f64;
    paired(
        "parallel sum, against one thread's",
        all,
        11,
        1.0,
        || compute::sum(&array, &active).unwrap(),
        view_sum,
    );
    let range = nanoseconds(all as usize, || {
        black_box(compute::min_max(&array, &active).unwrap());
    });
    println!("{:<44} {range:.3} ns a voxel", "smallest and largest");

    // 2^28 tiles, of which one in 1000 is in.
    let grid = Extent::new(1 << 10, 1 << 9, 1 << 9);
    let mut random = common::SplitMix(5);
    let tiles = (0..1 << 18).map(|_| {
        let r = random.next();
        vastgrid::TileCoord::new(r & 1023, r >> 10 & 511, r >> 20 & 511)
    });
    let set = TileSet::of(grid, tiles);
    let count = set.len() as usize;
    let grown = nanoseconds(count, || {
        black_box(set.dilate(compute::Neighbours::Corners, 1, compute::Beyond::Out));
    });
    println!("{:<44} {grown:.1} ns a tile of {count}", "dilate a sparse set by 26 neighbours");
    let dense = TileSet::from_region(array.layout(), Region::whole(array.extent()));
    let eroded = nanoseconds(dense.len() as usize, || {
        black_box(dense.erode(compute::Neighbours::Corners, 1, compute::Beyond::Out));
    });
    println!("{:<44} {eroded:.1} ns a tile of {}", "erode a dense set by 26 neighbours", dense.len());
}
