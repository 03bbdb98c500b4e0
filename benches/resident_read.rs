//! What does it cost to read resident voxels through a frame, against a loop over a plain reservation with a bit test?
//!
//! Workload G1024. `OPENVDB_BENCH=path` runs that program's stencil sweep in the same minute and prints the ratio to it.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::process::Command;

use common::plain::Plain;
use common::{G1024, paired};
use criterion::{Criterion, Throughput};
use vastgrid::{Coord, View};

fn sum_get(view: &View<'_, f32>, at: &[Coord]) -> f64 {
    at.iter().map(|&c| f64::from(view.get(c).unwrap_or_default())).sum()
}

fn sum_accessor(view: &View<'_, f32>, at: &[Coord]) -> f64 {
    let mut accessor = view.accessor();
    at.iter().map(|&c| f64::from(accessor.get(c).unwrap_or_default())).sum()
}

fn sum_plain(plain: &Plain, at: &[Coord]) -> f64 {
    at.iter().map(|c| f64::from(plain.get(c.x as u32, c.y as u32, c.z as u32))).sum()
}

/// The 27-point sum at every voxel of the inner tiles, in memory order.
fn sweep(workload: &G1024, mut stencil: impl FnMut(u64, u64, u64) -> f32) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        let first = G1024::origin(tile);
        for z in first.z..first.z + 64 {
            for y in first.y..first.y + 64 {
                for x in first.x..first.x + 64 {
                    sum += f64::from(stencil(x, y, z));
                }
            }
        }
    }
    sum
}

fn sweep_view(workload: &G1024, view: &View<'_, f32>) -> f64 {
    let mut accessor = view.accessor();
    sweep(workload, |x, y, z| accessor.neighbourhood([x, y, z]).map_or(0.0, |n| n.iter().sum()))
}

fn sweep_plain(workload: &G1024, plain: &Plain) -> f64 {
    sweep(workload, |x, y, z| {
        let (x, y, z) = (x as u32, y as u32, z as u32);
        let mut sum = 0.0;
        for c in z - 1..z + 2 {
            for b in y - 1..y + 2 {
                for a in x - 1..x + 2 {
                    sum += plain.get(a, b, c);
                }
            }
        }
        sum
    })
}

fn main() {
    let workload = G1024::new();
    let (_pool, array) = workload.array();
    let view = array.frame();
    let plain = Plain::new(&workload);
    let reads = workload.active.len() as f64;
    let voxels = workload.inner.len() as f64 * 64f64.powi(3);

    let (active, anywhere) = (&workload.active, &workload.anywhere);
    paired("random active, get", reads, 11, 1.1, || sum_get(&view, active), || sum_plain(&plain, active));
    paired(
        "random active, accessor",
        reads,
        11,
        1.1,
        || sum_accessor(&view, active),
        || sum_plain(&plain, active),
    );
    paired(
        "random domain (95 % background), get",
        reads,
        11,
        1.1,
        || sum_get(&view, anywhere),
        || sum_plain(&plain, anywhere),
    );
    paired(
        "27-point sweep, neighbourhood",
        voxels,
        5,
        1.0,
        || sweep_view(&workload, &view),
        || sweep_plain(&workload, &plain),
    );
    against_openvdb(voxels, || sweep_view(&workload, &view));

    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("resident_read");
    group.throughput(Throughput::Elements(workload.active.len() as u64));
    group.bench_function("get/random active", |b| b.iter(|| sum_get(&view, active)));
    group.bench_function("accessor/random active", |b| b.iter(|| sum_accessor(&view, active)));
    group.bench_function("plain/random active", |b| b.iter(|| sum_plain(&plain, active)));
    group.throughput(Throughput::Elements(voxels as u64));
    group.bench_function("neighbourhood/sweep", |b| b.iter(|| sweep_view(&workload, &view)));
    group.finish();
    criterion.final_summary();
}

/// Runs OpenVDB's sweep and then ours, three times, and prints the ratio of the medians.
fn against_openvdb(voxels: f64, ours: impl Fn() -> f64) {
    let Ok(program) = std::env::var("OPENVDB_BENCH") else {
        println!("27-point sweep against OpenVDB: set OPENVDB_BENCH to its program to measure it");
        return;
    };
    let (mut theirs, mut mine) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let out = Command::new(&program).env("BENCH_ONLY", "a_stencil27_sweep").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let median = text.lines().find(|l| l.contains("a_stencil27_sweep")).unwrap_or_default();
        theirs.push(median.split_whitespace().nth(4).and_then(|v| v.parse::<f64>().ok()).unwrap_or(f64::NAN));
        let start = std::time::Instant::now();
        std::hint::black_box(ours());
        mine.push(start.elapsed().as_secs_f64() * 1e9 / voxels);
    }
    let (theirs, mine) = (common::median(&mut theirs), common::median(&mut mine));
    println!(
        "27-point sweep: OpenVDB's accessor {theirs:.1} ns, ours {mine:.1} ns: {:.1} x faster (target 3.5)",
        theirs / mine
    );
}
