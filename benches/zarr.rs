//! How fast does a Zarr array stream through a budget of a quarter of it, against zarrs' own decode of the same chunks by all cores, and TensorStore?
//!
//! Workload V1G: 1024 x 512 x 512 f32 (1 GiB) in chunks of 64^3 (1 MiB), which are the tiles; every chunk once, in random order, the files in the system's cache. Three stores: no codec, zstd of level 1,
//! and that in shards of 256^3. Ours goes through an array with a budget of 256 MiB that is full from the start, so every tile evicts another; a request is for so many tiles at once. The peers keep
//! nothing but what they keep themselves: zarrs drops each chunk when it is decoded, TensorStore has a cache of 256 MiB and 8 reads in flight. In turns; the medians of the rounds, and of the ratios of neighbouring rounds.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `VASTGRID_ZARR_DATA` | folder in which the stores are made, or lie from an earlier run; otherwise a temporary one |
//! | `VASTGRID_TENSORSTORE_PYTHON` | a Python that has tensorstore |

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use common::{SplitMix, median};
use rayon::prelude::*;
use serde_json::json;
use vastgrid::source::{Zarr, ZarrSlice};
use vastgrid::{HostBackend, Pool, SparseArray3D, Tile, TileCoord};
use zarrs::array::{
    Array, ArrayBytes, ArrayMetadata, ArrayShardedReadableExt, ArrayShardedReadableExtCache, CodecOptions,
};
use zarrs::filesystem::FilesystemStore;

const BUDGET: u64 = 256 << 20;
const ROUNDS: usize = 7;
const IN_FLIGHT: u32 = 8;

/// Names, and whether chunks are compressed, and in shards.
const STORES: [(&str, bool, bool); 3] =
    [("raw", false, false), ("zstd", true, false), ("zstd in shards", true, true)];

type Peer = Array<FilesystemStore>;

fn coord(tile: u32) -> TileCoord {
    TileCoord::new(u64::from(tile) % 16, u64::from(tile) / 16 % 8, u64::from(tile) / 128)
}

fn voxel(noise: &mut SplitMix, [x, y, z]: [u64; 3]) -> f32 {
    let smooth = 900.0 * (z as f64 / 37.0).sin() * (y as f64 / 53.0).cos() * (x as f64 / 71.0).sin();
    (smooth.round() + (noise.next() % 16) as f64) as f32
}

/// Makes a store where there is none yet.
fn make(folder: &Path, zstd: bool, sharded: bool) -> Peer {
    let mut codecs = vec![json!({"name": "bytes", "configuration": {"endian": "little"}})];
    if zstd {
        codecs.push(json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}}));
    }
    let mut side = 64;
    if sharded {
        side = 256;
        codecs = vec![
            json!({"name": "sharding_indexed", "configuration": {"chunk_shape": [64, 64, 64], "codecs": codecs,
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}}),
        ];
    }
    let metadata = json!({"zarr_format": 3, "node_type": "array", "shape": [512, 512, 1024], "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [side, side, side]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0.0, "codecs": codecs});
    let done = folder.join("zarr.json").is_file();
    let storage = Arc::new(FilesystemStore::new(folder).unwrap());
    let metadata = ArrayMetadata::V3(serde_json::from_value(metadata).unwrap());
    let array = Array::new_with_metadata(storage, "/", metadata).unwrap();
    if done {
        return array;
    }
    let mut noise = SplitMix(5);
    for chunk in 0..array.chunk_grid_shape().iter().product::<u64>() {
        let grid = array.chunk_grid_shape();
        let at = [chunk % grid[2], chunk / grid[2] % grid[1], chunk / grid[2] / grid[1]];
        let within = |i: u64| [i % side, i / side % side, i / side / side];
        let voxels: Vec<f32> = (0..side * side * side)
            .map(|i| voxel(&mut noise, std::array::from_fn(|axis| at[axis] * side + within(i)[axis])))
            .collect();
        array.store_chunk(&[at[2], at[1], at[0]], &voxels).unwrap();
    }
    // Last, so that a store with it is whole.
    array.store_metadata().unwrap();
    array
}

/// Seconds for all tiles of the trace, so many at a request.
fn ours(array: &SparseArray3D<f32>, trace: &[TileCoord], at_once: usize) -> f64 {
    let start = Instant::now();
    for batch in trace.chunks(at_once) {
        let loaded = array.request(batch).unwrap().complete().unwrap();
        assert_eq!(loaded.loaded, batch.len() as u64, "the trace must not hit");
    }
    start.elapsed().as_secs_f64()
}

/// Seconds for zarrs to decode the same chunks with all cores, the faster of its two ways: into its own bytes, and into a `Vec<f32>`.
fn theirs(array: &Peer, cache: &ArrayShardedReadableExtCache, trace: &[TileCoord], typed: bool) -> f64 {
    let options = CodecOptions::default().with_concurrent_target(1);
    let start = Instant::now();
    trace.par_iter().for_each(|tile| {
        let chunk = [tile.z, tile.y, tile.x];
        if typed {
            let voxels: Vec<f32> = array.retrieve_subchunk_opt(cache, &chunk, &options).unwrap();
            std::hint::black_box(voxels);
        } else {
            let bytes: ArrayBytes<'_> = array.retrieve_subchunk_opt(cache, &chunk, &options).unwrap();
            std::hint::black_box(bytes);
        }
    });
    start.elapsed().as_secs_f64()
}

/// Both must hold the same voxels, or the figures mean nothing.
fn check(array: &SparseArray3D<f32>, peer: &Peer, cache: &ArrayShardedReadableExtCache, trace: &[TileCoord]) {
    for &tile in trace.iter().step_by(37) {
        let _ = array.request(&[tile]).unwrap().complete().unwrap();
        let frame = array.frame();
        let Tile::Resident(voxels) = frame.tile(tile) else { panic!("{tile}") };
        let options = CodecOptions::default();
        let theirs: Vec<f32> =
            peer.retrieve_subchunk_opt(cache, &[tile.z, tile.y, tile.x], &options).unwrap();
        assert!(voxels == theirs, "{tile}");
    }
}

/// TensorStore in a process of its own, told what to read line by line.
struct TensorStore {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl TensorStore {
    fn start(python: &str, folder: &Path) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tensorstore_zarr.py");
        let mut child = Command::new(python)
            .arg(program)
            .arg(folder)
            .args([IN_FLIGHT.to_string(), BUDGET.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ask, answer) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ask, answer }
    }

    fn round(&mut self, trace: &[u32]) -> f64 {
        let tiles: Vec<_> = trace.iter().map(ToString::to_string).collect();
        writeln!(self.ask, "{}", tiles.join(" ")).unwrap();
        let mut line = String::new();
        self.answer.read_line(&mut line).unwrap();
        line.split_whitespace()
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .expect("TensorStore's seconds")
    }

    fn end(self) {
        let Self { mut child, ask, .. } = self;
        drop(ask);
        child.wait().unwrap();
    }
}

/// One against the other, in turns.
fn turns(label: &str, target: f64, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
    ours();
    theirs();
    let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (x, y) = (ours(), theirs());
        a.push(x);
        b.push(y);
        ratios.push(x / y);
    }
    let ratio = median(&mut ratios);
    let verdict = if ratio <= target { "within" } else { "ABOVE" };
    let us = 1e6 / 1024.0;
    println!(
        "{label:<58} ours {:7.1} us a tile, theirs {:7.1}, ratio {ratio:.3} ({verdict} the target of {target:.2}; {:.3} to {:.3})",
        median(&mut a) * us,
        median(&mut b) * us,
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

fn main() {
    let own = tempfile::tempdir().unwrap();
    let data = std::env::var_os("VASTGRID_ZARR_DATA").map_or_else(|| own.path().to_owned(), PathBuf::from);
    let python = std::env::var("VASTGRID_TENSORSTORE_PYTHON").ok();
    if python.is_none() {
        println!("set VASTGRID_TENSORSTORE_PYTHON to measure TensorStore in the same run");
    }
    println!("{} threads; medians of {ROUNDS}", rayon::current_num_threads());
    let numbers = SplitMix(11).shuffled(1024);
    let trace: Vec<_> = numbers.iter().map(|&tile| coord(tile)).collect();
    for (name, zstd, sharded) in STORES {
        let folder = data.join(name.replace(' ', "_"));
        let peer = make(&folder, zstd, sharded);
        let cache = ArrayShardedReadableExtCache::new(&peer);
        let zarr = Zarr::open(&folder).unwrap();
        let array = || {
            let source = zarr.arrays()[0].source::<f32>(&ZarrSlice::last(3)).unwrap();
            let pool = Pool::new(HostBackend::new(), BUDGET).unwrap();
            SparseArray3D::builder(&pool, source).tile([64, 64, 64]).build().unwrap()
        };
        check(&array(), &peer, &cache, &trace);
        let array = array();
        for at_once in [16, 64, 256] {
            for (typed, way) in [(false, "its bytes"), (true, "Vec<f32>")] {
                turns(
                    &format!("{name}, {at_once} at once, against zarrs to {way}"),
                    1.10,
                    || ours(&array, &trace, at_once),
                    || theirs(&peer, &cache, &trace, typed),
                );
            }
        }
        if let Some(python) = &python {
            let mut tensorstore = TensorStore::start(python, &folder);
            turns(
                &format!("{name}, 64 at once, against TensorStore, {IN_FLIGHT} in flight"),
                1.00,
                || ours(&array, &trace, 64),
                || tensorstore.round(&numbers),
            );
            tensorstore.end();
        }
    }
}
