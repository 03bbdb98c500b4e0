//! What does it cost a kernel to read through the array?
//!
//! A volume of 2048^3 u16 in tiles of 128 x 128 x 64 and pages of 2 MiB, all of it resident. *Streamed* and *random*: against one dense allocation. *Rays*: trilinear samples along
//! parallel, tilted rays, with a test of residency per tile entered, against the same kernel without any test, with a test per voxel fetched, and with a software page table in
//! its place. *Interference*: a kernel that wants all bandwidth, alone and while tiles stream.
//!
//! Times are the device's own, medians of rounds in turn. Needs a CUDA device; says so where there is none.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures of a known size")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::device::{device_or_skip, random_pinned};
use common::{SplitMix, median, rounds};
use vastgrid::cuda::{Arg, Device, DeviceBuffer, Event, Function, Module, PinnedBuffer, Stream};
use vastgrid::{
    CudaBackend, Error, Extent, GridView, Pool, Prepared, Region, SourceError, SparseArray3D, TileCoord,
    TileSource,
};

const SIDE: u64 = 2048;
const TILE: [u64; 3] = [128, 128, 64];
const TILE_BYTES: usize = 2 << 20;
const ROUNDS: usize = 15;

/// A volume whose tiles are parts of one piece of page-locked memory.
#[derive(Debug)]
struct Source {
    extent: Extent,
    pool: Arc<PinnedBuffer>,
}

impl TileSource<u16> for Source {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        let s = region.start;
        let slot = SplitMix(s.x ^ s.y << 20 ^ s.z << 40).next() as usize % (self.pool.len() / TILE_BYTES);
        let part = self.pool.part(slot * TILE_BYTES..(slot + 1) * TILE_BYTES);
        Ok(part.map(|part| Arc::new(part) as Arc<dyn Prepared>))
    }

    fn read(&self, region: Region, _out: &mut [u16]) -> Result<(), SourceError> {
        Err(SourceError::Other(format!("{region} is prepared").into()))
    }
}

/// Parallel rays: a sample is at origin + u right + v down + (k + 1/2) step.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rays {
    origin: [f32; 3],
    right: [f32; 3],
    down: [f32; 3],
    step: [f32; 3],
    size: [u32; 2],
    steps: u32,
}

/// A software page table: the address of a slot for every tile.
#[repr(C)]
#[derive(Clone, Copy)]
struct PageTable {
    slots: u64,
    tiles: [u32; 3],
    pad: u32,
}

struct Bench {
    stream: Stream,
    module: Module,
}

impl Bench {
    fn function(&self, name: &str) -> Result<Function, Error> {
        Ok(self.module.function(name)?)
    }

    fn launch(
        &self,
        function: &Function,
        (grid, block): ([u32; 3], [u32; 3]),
        args: &[Arg<'_>],
    ) -> Result<(), Error> {
        #[expect(unsafe_code, reason = "kernels are launched on trust")]
        // SAFETY: every caller gives the kernel's own arguments, and keeps the frame and the buffers until it has waited for the times.
        unsafe { function.launch(&self.stream, grid, block, 0, args) }?;
        Ok(())
    }

    /// Milliseconds of each of some launches, medians of rounds in turn after one to warm up.
    fn times(&self, runs: &mut [&mut dyn FnMut() -> Result<(), Error>]) -> Result<Vec<f64>, Error> {
        let mut all = vec![Vec::new(); runs.len()];
        for round in 0..=rounds(ROUNDS) {
            for (run, times) in runs.iter_mut().zip(&mut all) {
                let start = Event::timed(&self.stream)?;
                run()?;
                let end = Event::timed(&self.stream)?;
                end.wait()?;
                if round > 0 {
                    times.push(f64::from(end.elapsed_ms(&start)?));
                }
            }
        }
        Ok(all.iter_mut().map(|times| median(times)).collect())
    }

    fn buffer(&self, bytes: u64) -> Result<DeviceBuffer, Error> {
        let buffer = DeviceBuffer::new(self.stream.device(), bytes)?;
        buffer.fill(&self.stream, 0)?;
        Ok(buffer)
    }
}

fn verdict(good: bool) -> &'static str {
    if good { "within" } else { "OUTSIDE" }
}

fn reading(
    bench: &Bench,
    view: GridView,
    tiles: &[(TileCoord, u64)],
    dense: &DeviceBuffer,
) -> Result<(), Error> {
    let (stream_tiles, stream_dense) =
        (bench.function("vg_stream_tiles")?, bench.function("vg_stream_dense")?);
    let list = bench.buffer(tiles.len() as u64 * 8)?;
    let mut ids: Vec<u64> = tiles.iter().map(|t| t.1).collect();
    ids.sort_unstable();
    list.copy_from_host(&bench.stream, bytemuck::cast_slice(&ids))?;
    let out = bench.buffer(tiles.len() as u64 * 8)?;
    let (l, o, d, log2) = (list.address(), out.address(), dense.address(), TILE_BYTES.ilog2());
    let shape = ([tiles.len() as u32, 1, 1], [256, 1, 1]);
    let ours = [Arg::new(&view), Arg::new(&l), Arg::new(&o)];
    let theirs = [Arg::new(&d), Arg::new(&log2), Arg::new(&o)];
    let times = bench.times(&mut [&mut || bench.launch(&stream_tiles, shape, &ours), &mut || {
        bench.launch(&stream_dense, shape, &theirs)
    }])?;
    let bytes = (tiles.len() * TILE_BYTES) as f64;
    let ratio = times[0] / times[1];
    println!(
        "streamed: array {:.0} GB/s, dense {:.0} GB/s, time ratio {ratio:.3} ({} the target of 1.02)",
        bytes / times[0] / 1e6,
        bytes / times[1] / 1e6,
        verdict(ratio <= 1.02)
    );

    let list = bench.buffer(tiles.len() as u64 * 16)?;
    let positions: Vec<u32> =
        (0..).zip(tiles).flat_map(|(i, (t, _))| [t.x as u32, t.y as u32, t.z as u32, i]).collect();
    list.copy_from_host(&bench.stream, bytemuck::cast_slice(&positions))?;
    let (threads, each) = (132 * 16 * 256u32, 64u32);
    let out = bench.buffer(u64::from(threads) * 8)?;
    let (l, n, d, o) = (list.address(), tiles.len() as u32, dense.address(), out.address());
    let args = [Arg::new(&view), Arg::new(&l), Arg::new(&n), Arg::new(&each), Arg::new(&d), Arg::new(&o)];
    let shape = ([threads / 256, 1, 1], [256, 1, 1]);
    let names = ["flat", "load", "near", "dense"];
    let functions: Vec<_> = names
        .iter()
        .map(|name| bench.function(&format!("vg_random_{name}_u16")))
        .collect::<Result<_, _>>()?;
    let mut runs: Vec<_> = functions.iter().map(|f| || bench.launch(f, shape, &args)).collect();
    let mut runs: Vec<&mut dyn FnMut() -> Result<(), Error>> = runs.iter_mut().map(|r| r as _).collect();
    let times = bench.times(&mut runs)?;
    let reads = f64::from(threads) * f64::from(each);
    for (name, time) in names.iter().zip(&times) {
        println!("random, {name:<6} {:7.2} G reads/s, time ratio {:.3}", reads / time / 1e6, time / times[3]);
    }
    let ratio = times[0] / times[3];
    println!(
        "random: array against dense, time ratio {ratio:.3} ({} the target of 1.02)",
        verdict(ratio <= 1.02)
    );
    Ok(())
}

fn rays(bench: &Bench, view: GridView, tiles: &[(TileCoord, u64)]) -> Result<(), Error> {
    let per_axis = TILE.map(|edge| (SIDE / edge) as u32);
    let mut slots = vec![u32::MAX; tiles.len()];
    for (t, id) in tiles {
        let [w, h] = [u64::from(per_axis[0]), u64::from(per_axis[1])];
        slots[(t.x + w * (t.y + h * t.z)) as usize] = *id as u32;
    }
    let memory = bench.buffer(slots.len() as u64 * 4)?;
    memory.copy_from_host(&bench.stream, bytemuck::cast_slice(&slots))?;
    let table = PageTable { slots: memory.address(), tiles: per_axis, pad: 0 };
    let rays = Rays {
        origin: [180.3, 150.7, 2.0],
        right: [1.6, 0.03, 0.0],
        down: [-0.02, 1.61, 0.0],
        step: [0.09, 0.07, 0.99],
        size: [1024, 1024],
        steps: 2040,
    };
    let (sums, counts) = (bench.buffer(4 << 20)?, bench.buffer(4 << 20)?);
    let (s, c) = (sums.address(), counts.address());
    let args = [Arg::new(&view), Arg::new(&rays), Arg::new(&table), Arg::new(&s), Arg::new(&c)];
    let shape = ([1024 / 32, 1024 / 8, 1], [32, 8, 1]);
    let names = [
        "flat_u16",
        "untested_u16",
        "per_tile_u16",
        "per_tile_u16_776",
        "per_voxel_u16",
        "table_per_voxel_u16",
        "table_per_sample_u16",
    ];
    let functions: Vec<_> =
        names.iter().map(|name| bench.function(&format!("vg_rays_{name}"))).collect::<Result<_, _>>()?;
    // All ways see the same.
    let mut seen: Vec<(f64, u64)> = Vec::new();
    for function in &functions {
        bench.launch(function, shape, &args)?;
        let (mut s, mut c) = (vec![0f32; 1 << 20], vec![0u32; 1 << 20]);
        sums.copy_to_host(&bench.stream, bytemuck::cast_slice_mut(&mut s))?;
        counts.copy_to_host(&bench.stream, bytemuck::cast_slice_mut(&mut c))?;
        seen.push((s.iter().map(|&v| f64::from(v)).sum(), c.iter().map(|&v| u64::from(v)).sum()));
    }
    for (name, (sum, count)) in names.iter().zip(&seen) {
        let same = *count == seen[0].1 && (sum / seen[0].0 - 1.0).abs() < 1e-5;
        assert!(same, "{name}: {count} samples of {sum}, not {} of {}", seen[0].1, seen[0].0);
    }
    let mut runs: Vec<_> = functions.iter().map(|f| || bench.launch(f, shape, &args)).collect();
    let mut runs: Vec<&mut dyn FnMut() -> Result<(), Error>> = runs.iter_mut().map(|r| r as _).collect();
    let times = bench.times(&mut runs)?;
    for (name, time) in names.iter().zip(&times) {
        println!("rays, {name:<22} {:7.1} G samples/s", seen[0].1 as f64 / time / 1e6);
    }
    let tested = times[2];
    for (against, ratio, target) in [
        ("a software page table, asked per voxel", times[5] / tested, Some(1.3)),
        ("a software page table, asked per sample where it can", times[6] / tested, Some(1.3)),
        ("a test per voxel", times[4] / tested, None),
        ("the same kernel without any test", times[1] / tested, Some(0.95)),
        ("untested flat addresses", times[0] / tested, Some(0.95)),
    ] {
        let target: Option<f64> = target;
        let target = target
            .map(|target| format!(" ({} the target of {target:.2})", verdict(ratio >= target)))
            .unwrap_or_default();
        println!("rays: one test per tile entered, rate against {against}: {ratio:.3}{target}");
    }
    Ok(())
}

/// The triad alone and while another thread has tiles streamed.
fn interference(bench: &Bench, device: &Device, pinned: &Arc<PinnedBuffer>) -> Result<(), Error> {
    let triad = bench.function("vg_triad")?;
    let bytes = 2u64 << 30;
    let [a, b, c] = [bench.buffer(bytes)?, bench.buffer(bytes)?, bench.buffer(bytes)?];
    let (a_at, b_at, c_at, s, n, repeats) = (a.address(), b.address(), c.address(), 0.5f32, bytes / 16, 4u32);
    let args =
        [Arg::new(&a_at), Arg::new(&b_at), Arg::new(&c_at), Arg::new(&s), Arg::new(&n), Arg::new(&repeats)];
    let shape = ([132 * 8, 1, 1], [256, 1, 1]);
    let pool = Pool::new(CudaBackend::on(device.clone(), vastgrid::cuda::CudaConfig::default())?, 4 << 30)?;
    let extent = Extent::new(8192, 4096, 4096);
    let array = SparseArray3D::builder(&pool, Source { extent, pool: pinned.clone() })
        .tile(TILE)
        .page_bytes(TILE_BYTES as u64)
        .build()?;
    let (mut alone, mut beside, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds(ROUNDS) {
        let mut run = || bench.launch(&triad, shape, &args);
        let time = bench.times(&mut [&mut run])?[0];
        let stop = AtomicBool::new(false);
        let (with, rate) = std::thread::scope(|scope| {
            let streaming = scope.spawn(|| -> Result<f64, Error> {
                let (mut random, start, mut loaded) = (SplitMix(round as u64), std::time::Instant::now(), 0);
                while !stop.load(Ordering::Relaxed) {
                    let tiles = array.layout().tiles();
                    let any = |random: &mut SplitMix, n: u64| random.next() % n;
                    let pick: Vec<_> = (0..256)
                        .map(|_| {
                            let (x, y) = (any(&mut random, tiles.x), any(&mut random, tiles.y));
                            TileCoord::new(x, y, any(&mut random, tiles.z))
                        })
                        .collect();
                    loaded += array.request(&pick)?.complete()?.loaded;
                }
                Ok((loaded * TILE_BYTES as u64) as f64 / start.elapsed().as_secs_f64() / 1e9)
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            let time = bench.times(&mut [&mut run]);
            stop.store(true, Ordering::Relaxed);
            (time, streaming.join())
        });
        let rate = rate.map_err(|_| SourceError::Other("the streaming thread panicked".into()))??;
        if round > 0 {
            alone.push(time);
            beside.push(with?[0]);
            rates.push(rate);
        }
    }
    let mut ratios: Vec<f64> = beside.iter().zip(&alone).map(|(b, a)| b / a).collect();
    let ratio = median(&mut ratios);
    let moved = 3.0 * bytes as f64 * f64::from(repeats);
    println!(
        "interference: the triad alone {:.0} GB/s; while {:.1} GB/s of tiles of 2 MiB stream in {:.0} GB/s: time ratio {ratio:.3} ({} the target of 1.05; {:.3} to {:.3})",
        moved / median(&mut alone) / 1e6,
        median(&mut rates),
        moved / median(&mut beside) / 1e6,
        verdict(ratio <= 1.05),
        ratios[0],
        ratios[ratios.len() - 1]
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let Some(device) = device_or_skip() else { return Ok(()) };
    println!("{}", device.name());
    let pinned = Arc::new(random_pinned(&device, 1 << 30, 0x0fff_0fff_0fff_0fff)?);
    let ptx = include_str!("../assets/kernels/sample.ptx");
    let bench = Bench { stream: Stream::new(&device)?, module: Module::load(&device, ptx)? };

    let backend = CudaBackend::on(device.clone(), vastgrid::cuda::CudaConfig::default())?;
    let pool = Pool::new(backend, SIDE.pow(3) * 2)?;
    let source = Source { extent: Extent::cube(SIDE), pool: pinned.clone() };
    let array = SparseArray3D::builder(&pool, source).tile(TILE).page_bytes(TILE_BYTES as u64).build()?;
    let tiles: Vec<_> = array.layout().tiles_in(Region::whole(array.extent())).collect();
    // In random order, so that neighbours in the array are none in the device's memory.
    let order = SplitMix(4).shuffled(tiles.len() as u32);
    let shuffled: Vec<_> = order.iter().map(|&i| tiles[i as usize]).collect();
    let _ = array.request(&shuffled)?.complete()?;
    let tiles: Vec<_> = tiles.iter().filter_map(|&t| Some((t, array.layout().tile_id(t)?.0))).collect();

    let dense = DeviceBuffer::new(&device, SIDE.pow(3) * 2)?;
    for part in 0..dense.bytes() / pinned.len() as u64 {
        dense.copy_from_host_at(&bench.stream, part * pinned.len() as u64, &pinned)?;
    }
    let frame = pool.device_frame();
    let view = frame.view(&array, &bench.stream)?;
    reading(&bench, view, &tiles, &dense)?;
    drop(dense);
    rays(&bench, view, &tiles)?;
    frame.end()?;
    drop(array);
    interference(&bench, &device, &pinned)
}
