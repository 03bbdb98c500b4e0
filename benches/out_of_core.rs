//! How fast do tiles of a file four times the budget come in, against an LRU of recycled buffers, zarrs and TensorStore?
//!
//! Workload V1G: 1024 x 512 x 512 f32 (1 GiB) in 1024 tiles of 64^3 (1 MiB), a budget of 256 MiB, every tile read is summed. Trace `perm`: every tile once, in random
//! order; `walk`: 4096 reads that wander over 931 tiles. Cold: the file's pages are dropped before each round. `ahead` n x m: n more threads ask for the next m
//! tiles each, while the first sums. With `--test` an eighth of the tiles, and as much of the budget.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `PEERS_DATA` | folder with `tiles.raw`; otherwise the file is made in the temporary folder |
//! | `PEERBENCH` | program whose `ooc pread_lru` and `ooc zarrs_raw` are run in turn with ours |
//! | `TENSORSTORE_BENCH` | command whose `tensorstore_raw_q8` is |

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::{SplitMix, median, rounds, size, variable};
use vastgrid::source::{RawFile, RawSpec};
use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, Tile, TileCoord};

const ROUNDS: usize = 3;

/// How many tiles there are along each axis. A fourth of them fits, of 1 MiB each.
fn tiles() -> [u64; 3] {
    size([16, 8, 8], [8, 4, 4])
}

fn tile_count() -> u32 {
    tiles().into_iter().product::<u64>() as u32
}

fn budget() -> u64 {
    u64::from(tile_count() / 4) << 20
}

fn coord(tile: u32) -> TileCoord {
    let [x, y, _] = tiles();
    TileCoord::new(u64::from(tile) % x, u64::from(tile) / x % y, u64::from(tile) / x / y)
}

fn trace_perm() -> Vec<u32> {
    SplitMix(11).shuffled(tile_count())
}

fn trace_walk() -> Vec<u32> {
    let mut random = SplitMix(12);
    let [x, y, z] = tiles();
    let limits = [z, y, x];
    let mut at = limits.map(|limit| limit / 2);
    let mut trace = Vec::new();
    for _ in 0..4 * tile_count() {
        if random.next().is_multiple_of(256) {
            at = limits.map(|limit| random.next() % limit);
        }
        let axis = (random.next() % 3) as usize;
        if random.next().is_multiple_of(4) {
            let step = if random.next() & 1 == 1 { at[axis] + 1 } else { at[axis].saturating_sub(1) };
            at[axis] = step.min(limits[axis] - 1);
        }
        let near: [u64; 3] =
            std::array::from_fn(|k| (at[k] + random.next() % 5).saturating_sub(2).min(limits[k] - 1));
        trace.push(((near[0] * y + near[1]) * x + near[2]) as u32);
    }
    trace
}

/// Makes the tile-major file where no one gave one.
fn make_file(path: &Path) -> std::io::Result<()> {
    let mut noise = SplitMix(5);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut tile = vec![0f32; 1 << 18];
    for t in 0..tile_count() {
        let first = coord(t);
        for (i, v) in (0u64..).zip(&mut tile) {
            let (x, y, z) = (first.x * 64 + (i & 63), first.y * 64 + (i >> 6 & 63), first.z * 64 + (i >> 12));
            let smooth = 900.0 * (z as f64 / 37.0).sin() * (y as f64 / 53.0).cos() * (x as f64 / 71.0).sin();
            *v = (smooth.round() + (noise.next() % 16) as f64) as f32;
        }
        out.write_all(bytemuck::cast_slice(&tile))?;
    }
    out.flush()
}

fn drop_pages(path: &Path) {
    let file = File::open(path).unwrap();
    rustix::fs::fdatasync(&file).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn warm(path: &Path) {
    let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; 4 << 20]);
    while file.read(&mut buffer).unwrap() > 0 {}
}

/// The sum of a tile in 16 lanes, as the peers sum.
fn sum(tile: &[f32]) -> f64 {
    let lanes = |part: &[f32]| {
        let mut lanes = [0f32; 16];
        for k in part.chunks_exact(16) {
            lanes.iter_mut().zip(k).for_each(|(a, v)| *a += v);
        }
        f64::from(lanes.iter().sum::<f32>())
    };
    tile.chunks_exact(512).map(lanes).sum()
}

fn sum_of(array: &SparseArray3D<f32>, tile: TileCoord) -> f64 {
    let frame = array.frame();
    match frame.tile(tile) {
        Tile::Resident(voxels) => sum(voxels),
        other => panic!("{tile} must be resident, not {other:?}"),
    }
}

/// Threads that ask for what comes next, and for how many tiles each at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ahead {
    threads: usize,
    tiles: usize,
}

impl std::fmt::Display for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} ahead", self.threads, self.tiles)
    }
}

const NOTHING: Ahead = Ahead { threads: 0, tiles: 0 };
/// Eight tiles, so that eight reads may be in flight.
const EIGHT: Ahead = Ahead { threads: 4, tiles: 2 };

/// Where reads are short it pays to map and unmap more pages at a time.
fn many() -> Ahead {
    Ahead { threads: 2, tiles: size(16, 4) }
}

/// One round over the trace. With `ahead`, the next tiles are pinned by other threads while these are summed.
fn round(path: &Path, trace: &[u32], ahead: Ahead) -> f64 {
    let threads = std::env::var("THREADS").map_or(0, |t| t.parse().unwrap());
    let pool = Pool::with_config(
        HostBackend::new(),
        vastgrid::PoolConfig { budget_bytes: budget(), threads, ..Default::default() },
    )
    .unwrap();
    let spec = RawSpec {
        tile: Some(Extent::cube(64)),
        ..RawSpec::new(Extent::from(tiles().map(|tiles| tiles * 64)))
    };
    let array = SparseArray3D::builder(&pool, RawFile::<f32>::open(path, spec).unwrap())
        .tile([64, 64, 64])
        .build()
        .unwrap();
    let tiles: Vec<_> = trace.iter().map(|&t| coord(t)).collect();
    if ahead == NOTHING {
        return tiles
            .iter()
            .map(|&tile| {
                let _ = array.request(&[tile]).unwrap().complete().unwrap();
                sum_of(&array, tile)
            })
            .sum();
    }
    // The threads ask in turn, so that some reads are under way while others come to an end.
    let batches: Vec<_> = tiles.chunks(ahead.tiles).collect();
    let channels = (0..ahead.threads).map(|_| std::sync::mpsc::sync_channel(0));
    std::thread::scope(|s| {
        let receivers = channels.enumerate().map(|(first, (send, receive))| {
            let (batches, array) = (&batches, &array);
            s.spawn(move || {
                for batch in batches.iter().skip(first).step_by(ahead.threads) {
                    if send.send(array.pin(batch).unwrap()).is_err() {
                        return;
                    }
                }
            });
            receive
        });
        let receivers: Vec<_> = receivers.collect();
        let sum_batch = |(i, batch): (usize, &&[TileCoord])| {
            let pins = receivers[i % ahead.threads].recv().unwrap();
            assert!(pins.report().failed.is_empty());
            batch.iter().map(|&tile| sum_of(&array, tile)).sum::<f64>()
        };
        batches.iter().enumerate().map(sum_batch).sum()
    })
}

/// Microseconds a tile, median of the rounds.
fn ours(path: &Path, trace: &[u32], ahead: Ahead, cold: bool) -> f64 {
    let mut times: Vec<_> = (0..rounds(ROUNDS))
        .map(|_| {
            if cold {
                drop_pages(path);
            } else {
                warm(path);
            }
            let start = Instant::now();
            std::hint::black_box(round(path, trace, ahead));
            start.elapsed().as_secs_f64() * 1e6 / trace.len() as f64
        })
        .collect();
    median(&mut times)
}

/// A peer's figures: runs it and reads the lines `... d_perm_cold wall med X ...`.
fn peer(command: &str, args: &[&str]) -> Vec<(String, f64)> {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return Vec::new() };
    let output = Command::new(program).args(words).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let name = words.iter().find(|w| w.starts_with("d_"))?;
            let at = words.iter().position(|&w| w == "med")?;
            Some(((*name).to_owned(), words.get(at + 1)?.parse().ok()?))
        })
        .collect()
}

/// A line of `/proc/self/status`, in MiB.
fn status_mib(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn main() {
    let own_dir = tempfile::tempdir().unwrap();
    let path = if let Some(data) = variable("PEERS_DATA") {
        PathBuf::from(data).join("tiles.raw")
    } else {
        let path = own_dir.path().join("tiles.raw");
        make_file(&path).unwrap();
        path
    };
    let (perm, walk) = (trace_perm(), trace_walk());
    // Best of what ran before, so that only our own peak is seen.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_mib("VmHWM");
    let mut rows = Vec::new();
    for (name, trace, cold, most) in [
        ("d_perm_cold", &perm, true, EIGHT),
        ("d_perm_warm", &perm, false, EIGHT),
        ("d_walk_cold", &walk, true, many()),
        ("d_walk_warm", &walk, false, many()),
    ] {
        for ahead in [NOTHING, most] {
            let us = ours(&path, trace, ahead, cold);
            println!("vastgrid, {ahead} {name:<12} {us:8.1} us a tile");
            rows.push((name, ahead, us));
        }
    }
    println!(
        "vastgrid peak RSS {} MiB, of which {before} MiB before the first tile and {} MiB of program text (budget {} MiB)",
        status_mib("VmHWM"),
        status_mib("RssFile"),
        budget() >> 20
    );

    let mut peers = Vec::new();
    if let Some(program) = variable("PEERBENCH") {
        for case in ["pread_lru", "zarrs_raw"] {
            peers.push((case, peer(&program, &["ooc", case])));
        }
    }
    if let Some(command) = variable("TENSORSTORE_BENCH") {
        peers.push(("tensorstore_raw_q8", peer(&command, &["tensorstore_raw_q8"])));
    }
    if peers.is_empty() {
        println!("set PEERBENCH and TENSORSTORE_BENCH to measure the peers in the same run");
    }
    for (name, trace, cold, target_ahead) in [
        ("d_perm_cold", &perm, true, EIGHT),
        ("d_walk_warm", &walk, false, many()),
        ("d_walk_warm", &walk, false, NOTHING),
    ] {
        for (case, figures) in &peers {
            if let Some((_, us)) = figures.iter().find(|(n, _)| n == name) {
                println!("{case:<24} {name:<12} {us:8.1} us a tile");
            }
        }
        let best = peers
            .iter()
            .flat_map(|(_, f)| f)
            .filter(|(n, _)| n == name)
            .map(|(_, us)| *us)
            .fold(f64::INFINITY, f64::min);
        // Once more after the peers: the mean of before and after stands against them.
        let again = ours(&path, trace, target_ahead, cold);
        let first = rows.iter().find(|r| r.0 == name && r.1 == target_ahead).map_or(again, |r| r.2);
        let mean = f64::midpoint(first, again);
        if best.is_finite() {
            println!(
                "{name}, {target_ahead}: ours {mean:.1} us, the best peer {best:.1} us, ratio {:.3} (target 1.00)",
                mean / best
            );
        }
    }
}
