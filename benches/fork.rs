//! What does a fork cost, against a copy of the same bytes? And the first write to a page after one, against a copy of a page?
//!
//! 64 MiB, all of it written to and resident, in pages of 64 KiB to 2 MiB, on a host that shares. Forks are made and dropped; then one is made and every page of it written to once, which copies each. The peers copy the
//! same bytes: into buffers that are there already (warm), and into new ones (as what is made new for a copy is).

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{median, rounds};
use vastgrid::source::Fill;
use vastgrid::{Extent, HostBackend, Pool, PoolConfig, Region, SparseArray3D, TileCoord};

const BYTES: usize = 64 << 20;
const ROUNDS: usize = 9;

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Both figures for each page, and the median of the ratios of neighbouring runs.
fn tell(label: &str, pages: usize, runs: &[(f64, f64)]) {
    let us = |of: fn(&(f64, f64)) -> f64| {
        median(&mut runs.iter().map(of).collect::<Vec<_>>()) * 1e6 / pages as f64
    };
    let mut ratios: Vec<_> = runs.iter().map(|(a, b)| a / b).collect();
    let ratio = median(&mut ratios);
    println!(
        "{label:<52} ours {:8.2} us, copy {:8.2} us a page, ratio {ratio:.3} ({:.3} to {:.3})",
        us(|run| run.0),
        us(|run| run.1),
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

fn bench(label: &str, tile: [u64; 3]) {
    let page = tile.iter().product::<u64>() as usize * 4;
    let pages = BYTES / page;
    let config = PoolConfig { budget_bytes: 4 * BYTES as u64, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(HostBackend::shareable(), config).unwrap();
    let extent = Extent::new(tile[0] * pages as u64, tile[1], tile[2]);
    let mut array =
        SparseArray3D::builder(&pool, Fill::new(extent, 0u32)).tile(tile).writable().build().unwrap();
    let tiles: Vec<_> = array.layout().tiles_in(Region::whole(extent)).collect();
    let write = |array: &mut SparseArray3D<u32>, tiles: &[TileCoord], value: u32| {
        let mut writer = array.writer().unwrap();
        for &tile in tiles {
            writer.tile(tile).unwrap()[7] = value;
        }
    };
    let mut writer = array.writer().unwrap();
    writer.for_each_tile(&tiles, |tile, v| (0..).zip(v).for_each(|(i, v)| *v = i ^ tile.x as u32)).unwrap();
    drop(writer);
    let from: Vec<u8> = (0..BYTES).map(|i| i as u8).collect();
    let mut warm = vec![1u8; BYTES];
    let mut copy_warm = || {
        for (to, from) in warm.chunks_exact_mut(page).zip(from.chunks_exact(page)) {
            to.copy_from_slice(from);
            black_box(&to);
        }
    };
    let copy_cold = || {
        let all: Vec<Vec<u8>> = from.chunks_exact(page).map(<[u8]>::to_vec).collect();
        black_box(&all);
        // What gives it back is not in the figure of the first writes either.
        std::mem::forget(all);
    };

    let mut runs = Vec::new();
    for _ in 0..rounds(ROUNDS) {
        let mut fork = None;
        let ours = seconds(|| fork = Some(array.fork().unwrap()));
        runs.push((ours, seconds(&mut copy_warm)));
        assert_eq!(fork.unwrap().frame().get([7, 0, 0]), array.frame().get([7, 0, 0]));
    }
    tell(&format!("{label}: a fork, against a copy (warm)"), pages, &runs);
    let used = pool.stats().used_bytes;
    assert_eq!(used, BYTES as u64);

    let (mut warm_runs, mut cold_runs) = (Vec::new(), Vec::new());
    for round in 0..rounds(ROUNDS) as u32 {
        let mut fork = array.fork().unwrap();
        let ours = seconds(|| write(&mut fork, &tiles, round));
        assert_eq!(pool.stats().used_bytes, 2 * BYTES as u64);
        assert_eq!((fork.get([7, 0, 0]).unwrap(), array.get([8, 0, 0]).unwrap()), (round, 8));
        warm_runs.push((ours, seconds(&mut copy_warm)));
        cold_runs.push((ours, seconds(copy_cold)));
    }
    tell(&format!("{label}: first writes, against copies (warm)"), pages, &warm_runs);
    tell(&format!("{label}: first writes, against copies (new memory)"), pages, &cold_runs);

    // Pages that are there already: as where the budget is full, and copies take what others had.
    let mut recycled = Vec::new();
    for round in 0..rounds(ROUNDS) as u32 {
        let mut fork = array.fork().unwrap();
        pool.preallocate(page as u64, pages as u64).unwrap();
        let ours = seconds(|| write(&mut fork, &tiles, round));
        recycled.push((ours, seconds(&mut copy_warm)));
        drop(fork);
        pool.trim().unwrap();
    }
    tell(&format!("{label}: first writes to waiting pages (warm)"), pages, &recycled);
}

fn main() {
    bench("64 KiB", [32, 32, 16]);
    bench("256 KiB", [64, 32, 32]);
    bench("2 MiB", [128, 64, 64]);
}
