//! What does a tile's whole life cost (commit, fill, evict), against a copy into a recycled heap buffer?
//!
//! Pages of one tile, from 64 KiB to 8 MiB; a source that copies from memory; a budget of 8 pages, so that every request evicts. Asked for one at a time, the caller
//! does all the work; four at a time are shared with one loading thread. The peer copies the same bytes into 8 recycled heap buffers, with as many threads.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::sync::Mutex;

use common::paired;
use criterion::{Criterion, Throughput};
use vastgrid::{
    Extent, HostBackend, Pool, PoolConfig, Region, SourceError, SparseArray3D, TileCoord, TileSource,
};

/// A source that copies one block of memory, whatever the tile.
struct Block {
    extent: Extent,
    voxels: Vec<f32>,
}

impl TileSource<f32> for Block {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn read(&self, _region: Region, out: &mut [f32]) -> Result<(), SourceError> {
        out.copy_from_slice(&self.voxels);
        Ok(())
    }
}

const CYCLES: usize = 64;

/// Runs the cycle at one page size, asking for `at_once` tiles a request.
fn cycle(label: &str, tile: [u64; 3], at_once: usize, target: f64) {
    let voxels = tile.iter().product::<u64>() as usize;
    let bytes = voxels * 4;
    let extent = Extent::new(tile[0] * 4096, tile[1], tile[2]);
    let block: Vec<f32> = (0..voxels).map(|i| i as f32).collect();
    let config = PoolConfig { budget_bytes: 8 * bytes as u64, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(HostBackend::new(), config).unwrap();
    let source = Block { extent, voxels: block.clone() };
    let array = SparseArray3D::builder(&pool, source).tile(tile).build().unwrap();
    let buffers: Vec<Mutex<Vec<f32>>> = (0..8).map(|_| Mutex::new(block.clone())).collect();
    let mut at = 0u64;
    let ours = || {
        for _ in 0..CYCLES / at_once {
            let tiles: Vec<_> =
                (0..at_once as u64).map(|i| TileCoord::new((at + 37 * i) % 4096, 0, 0)).collect();
            at = (at + 37 * at_once as u64) % 4096;
            assert_eq!(array.request(&tiles).unwrap().complete().unwrap().loaded, at_once as u64);
        }
        CYCLES as f64
    };
    // As many threads: one batch after the other, each shared out tile by tile.
    let workers = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let theirs = || {
        for batch in 0..CYCLES / at_once {
            if at_once == 1 {
                buffers[batch % 8].lock().unwrap().copy_from_slice(&block);
                continue;
            }
            workers.scope(|s| {
                for i in 0..at_once {
                    let (buffer, block) = (&buffers[(batch * at_once + i) % 8], &block);
                    s.spawn(move |_| buffer.lock().unwrap().copy_from_slice(block));
                }
            });
        }
        CYCLES as f64
    };
    paired(label, CYCLES as f64, 11, target, ours, theirs);
}

fn main() {
    let sizes = [
        ("64 KiB", [32, 32, 16]),
        ("256 KiB", [64, 32, 32]),
        ("1 MiB", [64, 64, 64]),
        ("2 MiB", [128, 64, 64]),
        ("8 MiB", [128, 128, 128]),
    ];
    for (name, tile) in sizes {
        let target = if name == "2 MiB" { 1.15 } else { f64::INFINITY };
        cycle(&format!("tile cycle, {name} pages, one at a time"), tile, 1, target);
        cycle(&format!("tile cycle, {name} pages, four at a time"), tile, 4, f64::INFINITY);
    }

    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("tile_cycle");
    group.throughput(Throughput::Bytes(2 << 20));
    let pool = Pool::new(HostBackend::new(), 16 << 20).unwrap();
    let source = Block { extent: Extent::new(128 * 4096, 64, 64), voxels: vec![1.0; 1 << 19] };
    let array = SparseArray3D::builder(&pool, source).tile([128, 64, 64]).build().unwrap();
    let mut at = 0;
    group.bench_function("commit, fill, evict one page of 2 MiB", |b| {
        b.iter(|| {
            at = (at + 37) % 4096;
            array.request(&[TileCoord::new(at, 0, 0)]).unwrap().loaded
        });
    });
    group.finish();
    criterion.final_summary();
}
