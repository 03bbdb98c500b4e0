//! What does it cost to read resident voxels through a frame, against a loop over a plain reservation with a bit test?
//!
//! Workload G1024. `grid` has the same reads beside OpenVDB's.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use common::plain::Plain;
use common::reads::{self, Packed};
use common::{G1024, paired};
use criterion::{Criterion, Throughput};

fn main() {
    let workload = G1024::new();
    let (_pool, array) = workload.array();
    let view = array.frame();
    let plain = Plain::new(&workload);
    let (active, anywhere) = (Packed::all(&workload.active), Packed::all(&workload.anywhere));
    let count = active.len() as f64;
    let voxels = workload.inner.len() as f64 * 64f64.powi(3);

    let plainly = |at: &[Packed]| reads::by_plain(&plain, at);
    paired("random active, get", count, 11, 1.1, || reads::by_get(&view, &active), || plainly(&active));
    paired(
        "random active, get_each",
        count,
        11,
        1.0,
        || reads::by_get_each(&view, &active),
        || plainly(&active),
    );
    paired(
        "random active, accessor",
        count,
        11,
        1.1,
        || reads::by_accessor(&view, &active),
        || plainly(&active),
    );
    paired(
        "random domain (95 % background), get",
        count,
        11,
        1.1,
        || reads::by_get(&view, &anywhere),
        || plainly(&anywhere),
    );
    paired(
        "27-point sweep, neighbourhood",
        voxels,
        5,
        1.0,
        || reads::sweep_accessor(&workload, &view),
        || reads::sweep_plain(&workload, &plain),
    );

    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("resident_read");
    group.throughput(Throughput::Elements(active.len() as u64));
    group.bench_function("get/random active", |b| b.iter(|| reads::by_get(&view, &active)));
    group.bench_function("accessor/random active", |b| b.iter(|| reads::by_accessor(&view, &active)));
    group.bench_function("plain/random active", |b| b.iter(|| plainly(&active)));
    group.throughput(Throughput::Elements(voxels as u64));
    group.bench_function("neighbourhood/sweep", |b| b.iter(|| reads::sweep_accessor(&workload, &view)));
    group.finish();
    criterion.final_summary();
}
