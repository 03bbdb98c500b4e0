//! How fast does a volume become an image, and in how much memory?
//!
//! 1024^3 voxels of u16 (2 GiB, V1G's waves and noise) in a raw file on disk, to an OME-Zarr pyramid of chunks of 64^3 in shards of 256^3, by Zstandard at level 3. In turn, from a file that is not in the page cache:
//! * the disk: all of the file read by one thread while another writes as many bytes as the image has, and makes them durable;
//! * the codec: all chunks of all levels, in memory already, compressed by all threads (each with one compressor for all its chunks);
//! * the conversion, in a process of its own, whose peak of resident memory is read when it ends;
//! * the codec again: what it takes is the mean of both, so that a machine that becomes slower or faster meanwhile does so for both sides.
//!
//! Target: 0.8 of the speed of the slower of the first two; peak memory within the budget and 10 %.
//!
//! `VASTGRID_BENCH_DIR` is where files go (7 GiB while it runs, removed afterwards; default: the folder for temporary files); `VASTGRID_BENCH_SIDE` another size; `VASTGRID_BENCH_ROUNDS` another number of rounds.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{SplitMix, median, rounds, size, variable};
use vastgrid::convert::{Conversion, ConvertOptions};
use vastgrid::source::{RawFile, RawSpec, Zarr, ZarrSelection};
use vastgrid::{Coord, Extent, Region, TileSource};

const BUDGET: u64 = 512 << 20;
const CHUNK: u64 = 64;
const LEVEL: i32 = 3;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<_> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--convert") {
        return child(args[at + 1].as_ref(), args[at + 2].as_ref(), args[at + 3].parse()?);
    }
    let number =
        |name: &str, otherwise: u64| variable(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let side = number("VASTGRID_BENCH_SIDE", size(1024, 128));
    let rounds = number("VASTGRID_BENCH_ROUNDS", rounds(5) as u64);
    let folder = std::env::var_os("VASTGRID_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let (input, image) = (folder.path().join("volume.raw"), folder.path().join("image.ome.zarr"));
    generate(&input, side)?;
    let bytes = fs::metadata(&input)?.len();
    let threads = std::thread::available_parallelism()?.get();
    println!("{side}^3 of u16, {:.2} GiB, {threads} threads, budget {} MiB", gib(bytes), BUDGET >> 20);

    // Once, for what the others need of it.
    convert(&input, &image, side)?;
    let image_bytes = bytes_in(&image)?;
    let chunks = chunks(&image)?;
    println!("the image has {:.2} GiB in {} chunks", gib(image_bytes), chunks.len());

    let (mut ratios, mut peaks) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        fs::remove_dir_all(&image)?;
        let disk = disk(&input, &folder.path().join("copy"), image_bytes)?;
        let before = processor_seconds()?;
        let first = codec(&chunks, threads);
        let between = processor_seconds()?;
        let (ours, ours_used, peak_bytes) = convert(&input, &image, side)?;
        let start = processor_seconds()?;
        let second = codec(&chunks, threads);
        let codec = f64::midpoint(first, second);
        let codec_used = f64::midpoint(between - before, processor_seconds()? - start);
        let ratio = disk.max(codec) / ours;
        println!(
            "round {round}: disk {disk:6.2} s, codec {first:6.2} s and {second:6.2} s, ours {ours:6.2} s: {ratio:.2} of the slower, peak {:.0} MiB",
            peak_bytes as f64 / f64::from(1 << 20),
        );
        println!(
            "         of the processors: codec {codec_used:6.2} s, ours {ours_used:6.2} s: {:.2}",
            codec_used / ours_used
        );
        ratios.push(ratio);
        peaks.push(peak_bytes as f64 / BUDGET as f64);
    }
    let (ratio, peak) = (median(&mut ratios), peaks.iter().copied().fold(0.0, f64::max));
    let verdict = |good: bool| if good { "within" } else { "OUTSIDE" };
    println!(
        "speed against the slower of disk and codec {ratio:.2} ({} the target of 0.80)",
        verdict(ratio >= 0.8)
    );
    println!("peak memory against the budget {peak:.2} ({} the target of 1.10)", verdict(peak <= 1.1));
    Ok(())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Waves and noise of four bits, in a file that is durable.
fn generate(path: &Path, side: u64) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    let mut random = SplitMix(5);
    let wave = |v: u64, length: f64| (v as f64 / length).sin();
    let across: Vec<f64> = (0..side).map(|x| wave(x, 71.0)).collect();
    let mut plane = Vec::with_capacity((side * side * 2) as usize);
    for z in 0..side {
        plane.clear();
        for y in 0..side {
            let scale = 900.0 * wave(z, 37.0) * (y as f64 / 53.0).cos();
            let mut noise = 0;
            for (x, across) in across.iter().enumerate() {
                if x % 16 == 0 {
                    noise = random.next();
                }
                let value = (2000.0 + scale * across).round() as u16 + (noise & 15) as u16;
                noise >>= 4;
                plane.extend_from_slice(&value.to_le_bytes());
            }
        }
        file.write_all(&plane)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Has the system forget what it has of a file, so that it is read from the disk.
fn forget(path: &Path) -> Result<(), Failure> {
    rustix::fs::fadvise(File::open(path)?, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// Seconds that it takes to read a file while so many bytes are written and made durable.
fn disk(input: &Path, copy: &Path, bytes: u64) -> Result<f64, Failure> {
    forget(input)?;
    let start = Instant::now();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let writer = scope.spawn(|| -> std::io::Result<()> {
            let mut random = SplitMix(9);
            let block: Vec<u8> = (0..1 << 19).flat_map(|_| random.next().to_le_bytes()).collect();
            let mut file = File::create(copy)?;
            let mut left = bytes;
            while left > 0 {
                let part = left.min(block.len() as u64);
                file.write_all(&block[..part as usize])?;
                left -= part;
            }
            file.sync_all()
        });
        let mut file = File::open(input)?;
        let mut buffer = vec![0; 4 << 20];
        while file.read(&mut buffer)? > 0 {}
        Ok(writer.join().map_err(|_| "the writer panicked")??)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(copy)?;
    // What of it the system puts off is not for what is measured next.
    rustix::fs::sync();
    Ok(seconds)
}

/// Seconds that all threads take for all chunks.
fn codec(chunks: &[Vec<u8>], threads: usize) -> f64 {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("a compressor");
                compressor.include_checksum(true).expect("a checksum");
                let mut out = Vec::new();
                while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    out.clear();
                    out.reserve(zstd::zstd_safe::compress_bound(chunk.len()));
                    std::hint::black_box(compressor.compress_to_buffer(chunk, &mut out).expect("compressed"));
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}

/// Seconds that this process has had of the processors: what a machine that others use too does not stretch.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name, which may have spaces in it, fields 14 and 15 are ticks of 10 ms.
    let fields = stat.rsplit(')').next().ok_or("fields")?.split_ascii_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<f64>).sum::<Result<f64, _>>()? / 100.0)
}

/// Every chunk of every level.
fn chunks(image: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let zarr = Zarr::open(image)?;
    let image = &zarr.images()[0];
    let mut found = Vec::new();
    for level in 0..image.levels().len() {
        let source = image.level(level, &ZarrSelection::default())?.into_source::<u16>();
        let extent = source.extent();
        let along = |side: u64| (0..side).step_by(CHUNK as usize);
        for z in along(extent.z) {
            for y in along(extent.y) {
                for x in along(extent.x) {
                    let region = Region::new(Coord::new(x, y, z), Extent::cube(CHUNK)).clipped_to(extent);
                    let mut voxels = vec![0u16; region.extent.checked_volume().unwrap_or(0) as usize];
                    source.read(region, &mut voxels)?;
                    found.push(voxels.into_iter().flat_map(u16::to_le_bytes).collect());
                }
            }
        }
    }
    Ok(found)
}

fn bytes_in(path: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Converts in a process of its own: seconds, those of the processors, and bytes of memory at its peak.
fn convert(input: &Path, image: &Path, side: u64) -> Result<(f64, f64, u64), Failure> {
    forget(input)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("--convert")
        .args([input, image])
        .arg(side.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let figures: Vec<_> = said.split_ascii_whitespace().collect();
    let [seconds, used, peak] = figures[..] else { return Err(format!("{said}: no three figures").into()) };
    Ok((seconds.parse()?, used.parse()?, peak.parse()?))
}

fn child(input: &Path, image: &Path, side: u64) -> Result<(), Failure> {
    let start = Instant::now();
    let source = RawFile::<u16>::open(input, RawSpec::new(Extent::cube(side)))?;
    let options = ConvertOptions { budget_bytes: BUDGET, ..ConvertOptions::default() };
    Conversion::new(source, options)?.run(image)?;
    let seconds = start.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("VmHWM")?;
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    println!("{seconds} {} {}", processor_seconds()?, kib << 10);
    Ok(())
}
