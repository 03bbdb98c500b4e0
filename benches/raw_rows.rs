//! Do tiles of a row-major file come in sooner when the rows of a batch are announced together?
//!
//! A file of 1024 x 1024 x 512 u16 (1 GiB), in tiles of 64^3; batches of tiles that are neighbours along x, a block, or anywhere, each requested from a file whose pages were dropped before (cold), and from one that is
//! in memory (warm). Against the same file whose announcements go nowhere. Below 1: sooner.
//!
//! With `--test` the file is of 64 MiB. `RAW_ROWS_DATA` names a folder for the file; otherwise it is made in the temporary folder, and removed.

#![allow(clippy::cast_possible_truncation, reason = "figures of a known size")]

mod common;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{SplitMix, is_test, median, rounds, size, variable};
use vastgrid::source::{RawFile, RawSpec};
use vastgrid::{Extent, HostBackend, Pool, Region, SourceError, SparseArray3D, TileCoord, TileSource};

const TILE: u64 = 64;
const ROUNDS: usize = 9;

fn extent() -> Extent {
    size(Extent::new(1024, 1024, 512), Extent::new(1024, 256, 128))
}

/// The same file, told of nothing.
struct Unannounced(RawFile<u16>);

impl TileSource<u16> for Unannounced {
    fn extent(&self) -> Extent {
        self.0.extent()
    }
    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        self.0.read(region, out)
    }
}

fn make_file(path: &Path) -> std::io::Result<()> {
    let mut noise = SplitMix(5);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut row = vec![0u8; 1 << 16];
    for _ in 0..extent().checked_volume().unwrap_or(0) * 2 / row.len() as u64 {
        for bytes in row.chunks_exact_mut(8) {
            bytes.copy_from_slice(&noise.next().to_le_bytes());
        }
        out.write_all(&row)?;
    }
    out.flush()
}

fn drop_pages(file: &File) {
    rustix::fs::fdatasync(file).unwrap();
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn batch(kind: &str, tiles: u64, random: &mut SplitMix) -> Vec<TileCoord> {
    let most = extent().to_array().map(|side| side / TILE);
    let mut below = |n: u64| random.next() % n;
    let shape = match (kind, tiles) {
        ("along x", n) => [n.min(most[0]), n.div_ceil(most[0]), 1],
        ("block", 2) => [1, 2, 1],
        ("block", 8) => [2, 2, 2],
        ("block", _) => [4, 4, 2],
        _ => {
            return (0..tiles)
                .map(|_| TileCoord::new(below(most[0]), below(most[1]), below(most[2])))
                .collect();
        }
    };
    let at = [0, 1, 2].map(|axis| below(most[axis] - shape[axis] + 1));
    let inside =
        (0..shape[2]).flat_map(|z| (0..shape[1]).flat_map(move |y| (0..shape[0]).map(move |x| [x, y, z])));
    inside.map(|c| TileCoord::new(at[0] + c[0], at[1] + c[1], at[2] + c[2])).collect()
}

fn seconds(source: impl TileSource<u16> + 'static, tiles: &[TileCoord]) -> f64 {
    let pool = Pool::new(HostBackend::new(), 256 << 20).unwrap();
    let array = SparseArray3D::builder(&pool, source).tile([TILE; 3]).build().unwrap();
    let begun = Instant::now();
    array.request(tiles).unwrap().complete().unwrap();
    begun.elapsed().as_secs_f64()
}

fn main() {
    let kept = variable("RAW_ROWS_DATA").map(PathBuf::from);
    let name = size("vastgrid-raw-rows.raw", "vastgrid-raw-rows-test.raw");
    let path = kept.clone().unwrap_or_else(std::env::temp_dir).join(name);
    if is_test() || !path.is_file() {
        make_file(&path).unwrap();
    }
    let file = File::open(&path).unwrap();
    let open = || RawFile::<u16>::open(&path, RawSpec::new(extent())).unwrap();
    let mut random = SplitMix(12);
    println!(
        "{:<8} {:>5} {:>5} {:>12} {:>12} {:>6}",
        "batch", "tiles", "", "told MiB/s", "not MiB/s", "ratio"
    );
    // `cargo bench` adds `--bench`; whatever else there is names the kind of batch.
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    for cold in [true, false] {
        for kind in ["along x", "block", "anywhere"] {
            if !only.is_empty() && !only.iter().any(|o| o == kind) {
                continue;
            }
            for tiles in [2, 8, 32] {
                let (mut told, mut not) = (Vec::new(), Vec::new());
                for round in 0..rounds(ROUNDS) {
                    let batch = batch(kind, tiles, &mut random);
                    for turn in 0..2 {
                        if cold {
                            drop_pages(&file);
                        } else {
                            seconds(Unannounced(open()), &batch);
                        }
                        // Who comes first changes.
                        if (turn + round) % 2 == 0 {
                            told.push(seconds(open(), &batch));
                        } else {
                            not.push(seconds(Unannounced(open()), &batch));
                        }
                    }
                }
                let mib = tiles as f64 * (TILE * TILE * TILE * 2) as f64 / f64::from(1 << 20);
                let (told, not) = (median(&mut told), median(&mut not));
                let state = if cold { "cold" } else { "warm" };
                println!(
                    "{kind:<8} {tiles:>5} {state:>5} {:>12.0} {:>12.0} {:>6.2}",
                    mib / told,
                    mib / not,
                    told / not
                );
            }
        }
    }
    if kept.is_none() {
        let _ = std::fs::remove_file(&path);
    }
}
