//! What does it cost to ask for tiles that are resident already, against a plain loop that tests the bit and stores the stamp?
//!
//! Batches of 1000 random tiles out of 32 768 resident ones (8^3 u16, pages of 4 tiles).

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use common::{SplitMix, paired};
use criterion::{Criterion, Throughput};
use vastgrid::source::Procedural;
use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, TileCoord};

const SIDE: u64 = 32;

/// The plain loop's own page table.
struct Plain {
    bits: Vec<u64>,
    stamps: Vec<u64>,
    time: u64,
}

impl Plain {
    fn request(&mut self, tiles: &[TileCoord]) -> u64 {
        self.time += 1;
        let mut hits = 0;
        for t in tiles {
            let tile = t.x + SIDE * (t.y + SIDE * t.z);
            if self.bits[(tile >> 6) as usize] >> (tile & 63) & 1 == 1 {
                self.stamps[(tile >> 2) as usize] = self.time;
                hits += 1;
            }
        }
        hits
    }
}

fn main() {
    let pool = Pool::new(HostBackend::new(), 64 << 20).unwrap();
    let source = Procedural::new(Extent::cube(SIDE * 8), |c: Coord| c.x as u16);
    let array = SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([4, 1, 1]).build().unwrap();
    let all: Vec<_> = array.layout().tiles_in(vastgrid::Region::whole(array.extent())).collect();
    assert_eq!(array.request(&all).unwrap().complete().unwrap().loaded, SIDE.pow(3));

    let mut random = SplitMix(5);
    let batches: Vec<Vec<TileCoord>> =
        (0..1000).map(|_| (0..1000).map(|_| all[(random.next() % SIDE.pow(3)) as usize]).collect()).collect();
    let mut plain = Plain { bits: vec![u64::MAX; 512], stamps: vec![0; 8192], time: 0 };

    let ours = || batches.iter().map(|b| array.request(b).unwrap().hits as f64).sum();
    paired("request of resident tiles, 1000 a batch", 1e6, 15, 3.0, ours, || {
        batches.iter().map(|b| std::hint::black_box(&mut plain).request(b) as f64).sum()
    });

    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("hit_path");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("request/1000 hits", |b| b.iter(|| array.request(&batches[0]).unwrap().hits));
    group.finish();
    criterion.final_summary();
}
