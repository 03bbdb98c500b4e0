//! How fast does a Zarr array stream through a budget of a quarter of it, against zarrs' own decode of the same chunks by all cores, and TensorStore?
//!
//! Workload V1G: 1024 x 512 x 512 f32 (1 GiB) in chunks of 64^3 (1 MiB), which are the tiles; every chunk once, in random order, the files in the system's cache. Three stores: no codec, zstd of level 1,
//! and that in shards of 256^3. Ours goes through an array with a budget of 256 MiB that is full from the start, so every tile evicts another; a request is for so many tiles at once. zarrs keeps as many chunks as
//! that is, or drops each at once, so that all are decoded into the same few cache lines; TensorStore has a cache of 256 MiB and 8 reads in flight. Of the store without a codec, bare reads of the same files into 256 MiB are the ceiling. In turns; the medians of the rounds, and of the ratios of neighbouring rounds.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `VASTGRID_ZARR_DATA` | folder in which the stores are made, or lie from an earlier run; otherwise a temporary one |
//! | `VASTGRID_ZARR_STORE` | the one store to measure: `raw`, `zstd` or `zstd in shards` |
//! | `VASTGRID_TENSORSTORE_PYTHON` | a Python that has tensorstore |

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::{SplitMix, is_test, median, rounds, size, variable};
use rayon::prelude::*;
use serde_json::json;
use vastgrid::source::{Zarr, ZarrSlice};
use vastgrid::{HostBackend, Pool, SparseArray3D, Tile, TileCoord};
use zarrs::array::{
    Array, ArrayBytes, ArrayMetadata, ArrayShardedReadableExt, ArrayShardedReadableExtCache, CodecOptions,
};
use zarrs::filesystem::FilesystemStore;

const ROUNDS: usize = 7;
const IN_FLIGHT: u32 = 8;

/// How many tiles there are along each axis. A fourth of them fits, of 1 MiB each.
fn tiles() -> [u64; 3] {
    size([16, 8, 8], [4, 4, 4])
}

fn budget() -> u64 {
    (tiles().into_iter().product::<u64>() / 4) << 20
}

/// Names, and whether chunks are compressed, and in shards.
const STORES: [(&str, bool, bool); 3] =
    [("raw", false, false), ("zstd", true, false), ("zstd in shards", true, true)];

type Peer = Array<FilesystemStore>;

fn coord(tile: u32) -> TileCoord {
    let [x, y, _] = tiles();
    TileCoord::new(u64::from(tile) % x, u64::from(tile) / x % y, u64::from(tile) / x / y)
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
    let [x, y, z] = tiles().map(|tiles| tiles * 64);
    let metadata = json!({"zarr_format": 3, "node_type": "array", "shape": [z, y, x], "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [side, side, side]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": 0.0, "codecs": codecs});
    let done = folder.join("zarr.json").is_file();
    let storage = Arc::new(FilesystemStore::new(folder).unwrap());
    // Written as it is, for zarrs shortens it to what TensorStore does not read.
    let text = metadata.to_string();
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
    std::fs::write(folder.join("zarr.json"), text).unwrap();
    array
}

/// What a round took, in seconds: by the clock, and of all processors.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

/// Times what this process does.
fn took(work: impl FnOnce()) -> Took {
    let cpu = || {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let words: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        // User and system time, in hundredths of a second.
        (words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap()) / 100.0
    };
    let (start, before) = (Instant::now(), cpu());
    work();
    Took { wall: start.elapsed().as_secs_f64(), cpu: cpu() - before }
}

/// All tiles of the trace, so many at a request.
fn ours(array: &SparseArray3D<f32>, trace: &[TileCoord], at_once: usize) {
    for batch in trace.chunks(at_once) {
        let loaded = array.request(batch).unwrap().complete().unwrap();
        assert_eq!(loaded.loaded, batch.len() as u64, "the trace must not hit");
    }
}

/// Chunks that zarrs decoded, as many as our budget holds.
type Kept<'a> = Vec<Mutex<Option<ArrayBytes<'a>>>>;

/// Has zarrs decode the same chunks with all cores, each by one thread; they are kept as long as ours, or dropped at once.
fn theirs<'a>(
    array: &'a Peer,
    cache: &ArrayShardedReadableExtCache,
    trace: &[TileCoord],
    kept: Option<&Kept<'a>>,
) {
    let options = CodecOptions::default().with_concurrent_target(1);
    trace.par_iter().enumerate().for_each(|(nth, tile)| {
        let chunk = [tile.z, tile.y, tile.x];
        let decoded: ArrayBytes<'a> = array.retrieve_subchunk_opt(cache, &chunk, &options).unwrap();
        match kept {
            // What was there is dropped.
            Some(kept) => drop(kept[nth % kept.len()].lock().unwrap().replace(decoded)),
            None => drop(std::hint::black_box(decoded)),
        }
    });
}

/// Has all cores read the files of the same chunks into as much memory as our budget: what no reader that keeps them is faster than.
fn copies(folder: &Path, trace: &[TileCoord], buffers: &[Mutex<Vec<u8>>]) {
    use std::os::unix::fs::FileExt;
    trace.par_iter().enumerate().for_each(|(nth, tile)| {
        let path = folder.join(format!("c/{}/{}/{}", tile.z, tile.y, tile.x));
        let mut buffer = buffers[nth % buffers.len()].lock().unwrap();
        std::fs::File::open(path).unwrap().read_exact_at(&mut buffer, 0).unwrap();
    });
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
            .args([IN_FLIGHT.to_string(), budget().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ask, answer) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ask, answer }
    }

    fn round(&mut self, trace: &[u32]) -> Took {
        let tiles: Vec<_> = trace.iter().map(ToString::to_string).collect();
        writeln!(self.ask, "{}", tiles.join(" ")).unwrap();
        let mut line = String::new();
        self.answer.read_line(&mut line).unwrap();
        let mut seconds = line.split_whitespace().map(|word| word.parse().expect("TensorStore's seconds"));
        let mut next = || seconds.next().expect("two figures");
        Took { wall: next(), cpu: next() }
    }

    fn end(self) {
        let Self { mut child, ask, .. } = self;
        drop(ask);
        child.wait().unwrap();
    }
}

/// One against the other, in turns. The clock decides; what the processors took says more where the machine has other work.
fn turns(label: &str, target: f64, mut ours: impl FnMut() -> Took, mut theirs: impl FnMut() -> Took) {
    if !is_test() {
        ours();
        theirs();
    }
    let rounds: Vec<_> = (0..rounds(ROUNDS)).map(|_| (ours(), theirs())).collect();
    let of = |figure: &dyn Fn(&(Took, Took)) -> f64| {
        let mut all: Vec<_> = rounds.iter().map(figure).collect();
        (median(&mut all), all)
    };
    let (ratio, ratios) = of(&|(x, y)| x.wall / y.wall);
    let verdict = if ratio <= target { "within" } else { "ABOVE" };
    let us = 1e6 / tiles().into_iter().product::<u64>() as f64;
    println!(
        "{label:<52} ours {:7.1} us a tile, theirs {:7.1}, ratio {ratio:.3} ({verdict} the target of {target:.2}; {:.3} to {:.3}); of processors {:7.1} and {:7.1}, ratio {:.3}",
        of(&|(x, _)| x.wall).0 * us,
        of(&|(_, y)| y.wall).0 * us,
        ratios[0],
        ratios[ratios.len() - 1],
        of(&|(x, _)| x.cpu).0 * us,
        of(&|(_, y)| y.cpu).0 * us,
        of(&|(x, y)| x.cpu / y.cpu).0,
    );
}

fn main() {
    let own = tempfile::tempdir().unwrap();
    let data = variable("VASTGRID_ZARR_DATA").map_or_else(|| own.path().to_owned(), PathBuf::from);
    let python = variable("VASTGRID_TENSORSTORE_PYTHON");
    if python.is_none() {
        println!("set VASTGRID_TENSORSTORE_PYTHON to measure TensorStore in the same run");
    }
    println!("{} threads; medians of {}", rayon::current_num_threads(), rounds(ROUNDS));
    let numbers = SplitMix(11).shuffled(tiles().into_iter().product::<u64>() as u32);
    let trace: Vec<_> = numbers.iter().map(|&tile| coord(tile)).collect();
    let only = variable("VASTGRID_ZARR_STORE");
    for (name, zstd, sharded) in STORES {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let folder = data.join(name.replace(' ', "_"));
        let peer = make(&folder, zstd, sharded);
        let cache = ArrayShardedReadableExtCache::new(&peer);
        let zarr = Zarr::open(&folder).unwrap();
        let array = || {
            let source = zarr.arrays()[0].source::<f32>(&ZarrSlice::last(3)).unwrap();
            let pool = Pool::new(HostBackend::new(), budget()).unwrap();
            SparseArray3D::builder(&pool, source).tile([64, 64, 64]).build().unwrap()
        };
        check(&array(), &peer, &cache, &trace);
        let array = array();
        for at_once in size([16, 64, 256], [4, 8, 16]) {
            let slots: Kept<'_> = (0..budget() >> 20).map(|_| Mutex::new(None)).collect();
            for (way, kept) in [("keeps as many", Some(&slots)), ("drops each at once", None)] {
                turns(
                    &format!("{name}, {at_once} at once; zarrs {way}"),
                    1.10,
                    || took(|| ours(&array, &trace, at_once)),
                    || took(|| theirs(&peer, &cache, &trace, kept)),
                );
            }
        }
        if !zstd {
            let buffers: Vec<_> = (0..budget() >> 20).map(|_| Mutex::new(vec![1; 1 << 20])).collect();
            turns(
                &format!("{name}, 64 at once; bare reads into as much memory"),
                1.10,
                || took(|| ours(&array, &trace, size(64, 16))),
                || took(|| copies(&folder, &trace, &buffers)),
            );
            turns(
                &format!("{name}; zarrs drops each, bare reads into as much"),
                f64::INFINITY,
                || took(|| theirs(&peer, &cache, &trace, None)),
                || took(|| copies(&folder, &trace, &buffers)),
            );
        }
        if let Some(python) = &python {
            let mut tensorstore = TensorStore::start(python, &folder);
            turns(
                &format!("{name}, 64 at once; TensorStore, {IN_FLIGHT} in flight"),
                1.00,
                || took(|| ours(&array, &trace, size(64, 16))),
                || tensorstore.round(&numbers),
            );
            tensorstore.end();
        }
    }
}
