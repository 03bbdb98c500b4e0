//! How smoothly does a device show a pyramid in its own memory while tiles stream?
//!
//! *Beside streaming*: pictures of 1024^2 pixels of a pyramid of 1024^3 u16 that is all there, alone, and while another thread has tiles of a volume of 256 GiB evicted, mapped and copied as fast as
//! they go, under the same budget. *Flights*: into a volume of 4096 x 4096 x 2048 u16 whose tiles lie in page-locked memory, at budgets of a quarter to four times of what its largest picture needs:
//! how long a picture takes, what is read again, and how soon the last one is as good as it gets.
//!
//! `VASTGRID_QUARTERS`, such as `1 4 16`: flights alone, at so many quarters of that. Needs a CUDA device with 40 GiB; says so where there is none.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures of a known size")]

mod common;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::device::{device_or_skip, random_pinned};
use common::{SplitMix, median, rounds, size, variable};
use vastgrid::cuda::{CudaConfig, Device, PinnedBuffer};
use vastgrid::render::cuda::CudaCaster;
use vastgrid::render::{Camera, Mode, Options, Projection, Shading, TransferFunction};
use vastgrid::{
    Coord, CudaBackend, Error, Explorer, Extent, Fidelity, Pool, Prepared, Pyramid3D, PyramidSource, Region,
    SourceError, SparseArray3D, StreamOptions, TileCoord, TileSource,
};

const TILE: [u64; 3] = [64, 64, 64];
const TILE_BYTES: usize = 512 << 10;
const ROUNDS: usize = 40;

type CudaExplorer = Explorer<u16, CudaBackend, CudaCaster>;
type Failure = Box<dyn std::error::Error>;

/// A volume whose tiles are parts of one piece of page-locked memory.
#[derive(Clone, Debug)]
struct Source {
    extent: Extent,
    pinned: Arc<PinnedBuffer>,
    tile_bytes: usize,
    reads: Arc<Reads>,
}

/// Which tiles of which level were read, and how many times in all.
#[derive(Debug, Default)]
struct Reads {
    all: AtomicU64,
    tiles: Mutex<HashSet<(Extent, Coord)>>,
}

impl Reads {
    /// How many were read, and which part of them not for the first time.
    fn so_far(&self) -> (u64, f64) {
        let all = self.all.load(Ordering::Relaxed);
        let tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        (all, (all - tiles) as f64 / all.max(1) as f64)
    }
}

impl Source {
    fn start(&self, region: Region) -> usize {
        let s = region.start;
        SplitMix(s.x ^ s.y << 20 ^ s.z << 40).next() as usize % (self.pinned.len() / self.tile_bytes)
            * self.tile_bytes
    }
}

impl TileSource<u16> for Source {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        self.reads.all.fetch_add(1, Ordering::Relaxed);
        let mut tiles = self.reads.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        tiles.insert((self.extent, region.start));
        drop(tiles);
        let start = self.start(region);
        let part = self.pinned.part(start..start + self.tile_bytes);
        Ok(part.map(|part| Arc::new(part) as Arc<dyn Prepared>))
    }

    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        let bytes = &self.pinned[self.start(region)..];
        for (voxel, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *voxel = u16::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// Levels until one tile's edge is left.
fn explorer(
    device: &Device,
    pinned: &Arc<PinnedBuffer>,
    extent: Extent,
    budget_bytes: u64,
) -> Result<(CudaExplorer, Pool<CudaBackend>, Arc<Reads>), Failure> {
    let reads = Arc::new(Reads::default());
    let pool = Pool::new(CudaBackend::on(device.clone(), CudaConfig::default())?, budget_bytes)?;
    let mut builder = PyramidSource::builder();
    let mut factor = 1u64;
    loop {
        let [x, y, z] = extent.to_array().map(|side| side.div_ceil(factor));
        let source = Source {
            extent: Extent::new(x, y, z),
            pinned: pinned.clone(),
            tile_bytes: TILE_BYTES,
            reads: reads.clone(),
        };
        builder = builder.level([factor as f64; 3], source);
        if x.max(y).max(z) <= 2 * TILE[0] {
            break;
        }
        factor *= 2;
    }
    let pyramid = Pyramid3D::builder(&pool, builder.build()?).tile(TILE).page_bytes(2 << 20).build()?;
    let caster = CudaCaster::new(device)?;
    Ok((Explorer::with_renderer(pyramid, caster, StreamOptions::default())?, pool, reads))
}

/// Thin clouds of noise.
fn transfer() -> Result<TransferFunction, Failure> {
    let colours = [(0.0, [0.1, 0.2, 0.9]), (4095.0, [1.0, 0.8, 0.2])];
    Ok(TransferFunction::new(&[(0.0, 0.0), (2000.0, 0.0), (4095.0, 0.01)], &colours, 1.0)?)
}

fn options(side: u32, shading: Option<Shading>) -> Options {
    Options { width: side, height: side, mode: Mode::Dvr { shading }, ..Options::default() }
}

fn settle(
    explorer: &mut CudaExplorer,
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
) -> Result<(Fidelity, f64), Failure> {
    let start = Instant::now();
    for _ in 0..400 {
        let fidelity = explorer.picture(camera, transfer, options)?.fidelity;
        if fidelity.is_converged() {
            return Ok((fidelity, start.elapsed().as_secs_f64() * 1e3));
        }
        explorer.wait_idle(Duration::from_millis(8));
    }
    Err("a view never settles".into())
}

/// Asks for tiles anywhere until told to stop, and says how fast they came.
fn stream(
    array: &SparseArray3D<u16, CudaBackend>,
    tile_bytes: usize,
    stop: &AtomicBool,
) -> Result<f64, Error> {
    let (mut random, start, mut loaded) = (SplitMix(7), Instant::now(), 0);
    let tiles = array.layout().tiles();
    while !stop.load(Ordering::Relaxed) {
        let mut any = |n: u64| random.next() % n;
        let pick: Vec<_> =
            (0..128).map(|_| TileCoord::new(any(tiles.x), any(tiles.y), any(tiles.z))).collect();
        loaded += array.request(&pick)?.complete()?.loaded;
    }
    Ok((loaded * tile_bytes as u64) as f64 / start.elapsed().as_secs_f64() / 1e9)
}

fn beside_streaming(device: &Device, pinned: &Arc<PinnedBuffer>) -> Result<(), Failure> {
    let (mut explorer, pool, _) = explorer(device, pinned, Extent::cube(1024), 8 << 30)?;
    let large = Source {
        extent: Extent::new(8192, 4096, 4096),
        pinned: pinned.clone(),
        tile_bytes: 2 << 20,
        reads: Arc::default(),
    };
    let other = SparseArray3D::builder(&pool, large).tile([128, 128, 64]).build()?;
    let transfer = transfer()?;
    let camera = Camera::fit(Extent::cube(1024), [1.0; 3]).azimuth(35.0).elevation(-25.0);
    for (look, shading) in [("unshaded", None), ("shaded", Some(Shading::default()))] {
        // All of it wanted in full detail, as in the middle of a volume.
        let options = Options { stop_at_alpha: 1.0, ..options(1024, shading) };
        let (fidelity, _) = settle(&mut explorer, &camera, &transfer, &options)?;
        assert!(fidelity.is_exact(), "{fidelity}");
        // Streaming may take the whole budget between two pictures: one that lacks tiles is no measurement, and is counted.
        let lacking = Cell::new(0);
        let picture = |explorer: &mut CudaExplorer| -> Result<f64, Failure> {
            loop {
                let start = Instant::now();
                let fidelity = explorer.picture(&camera, &transfer, &options)?.fidelity;
                if fidelity.missing_tiles == 0 {
                    return Ok(start.elapsed().as_secs_f64() * 1e3);
                }
                lacking.set(lacking.get() + 1);
            }
        };
        let (mut alone, mut beside, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds(5) {
            for _ in 0..rounds(ROUNDS) {
                alone.push(picture(&mut explorer)?);
            }
            let stop = AtomicBool::new(false);
            let rate = std::thread::scope(|scope| -> Result<f64, Failure> {
                let streaming = scope.spawn(|| stream(&other, 2 << 20, &stop));
                // Until streaming goes at full speed; pictures go on, so that their tiles stay.
                let until = Instant::now() + Duration::from_millis(if round == 0 { 1500 } else { 200 });
                while Instant::now() < until {
                    picture(&mut explorer)?;
                }
                let times =
                    (0..rounds(ROUNDS)).map(|_| picture(&mut explorer)).collect::<Result<Vec<_>, _>>();
                stop.store(true, Ordering::Relaxed);
                let rate = streaming.join().map_err(|_| "the streaming thread panicked")??;
                beside.extend(times?);
                Ok(rate)
            })?;
            rates.push(rate);
        }
        let (without, with) = (median(&mut alone), median(&mut beside));
        println!(
            "{look}: a picture alone {without:.2} ms, while {:.1} GB/s stream in {with:.2} ms: time ratio {:.3} ({} the target of 1.10); 0.99 of them {:.2} and {:.2} ms; {} lacked tiles",
            median(&mut rates),
            with / without,
            if with <= 1.1 * without { "within" } else { "OUTSIDE" },
            alone[alone.len() * 99 / 100],
            beside[beside.len() * 99 / 100],
            lacking.get(),
        );
    }
    Ok(())
}

/// From outside into the middle, turning.
fn flight(extent: Extent) -> Vec<Camera> {
    let [x, y, z] = extent.to_array().map(|side| side as f64);
    let at = |i: u32| {
        let t = f64::from(i) / 60.0;
        let eye =
            [x * (0.5 + 0.2 * (3.0 * t).sin()), y * (-0.4 + 0.8 * t), z * (0.5 + 0.2 * (2.0 * t).cos())];
        let target = [eye[0] + x * 0.1 * (2.0 * t).cos(), eye[1] + y * 0.5, z * 0.5];
        Camera::look_at(eye, target, [0.0, 0.0, 1.0], Projection::Perspective { fov_degrees: 50.0 })
    };
    (0..60).map(at).collect()
}

fn flights(device: &Device, pinned: &Arc<PinnedBuffer>, budgets: &[u64]) -> Result<(), Failure> {
    let extent = Extent::new(4096, 4096, 2048);
    let (transfer, options) = (transfer()?, options(768, None));
    let cameras = flight(extent);
    let mut needed = 0;
    let mut pinned_bytes = 0;
    {
        let (mut explorer, pool, _) = explorer(device, pinned, extent, 32 << 30)?;
        for camera in cameras.iter().step_by(17).chain(cameras.last()) {
            let (fidelity, _) = settle(&mut explorer, camera, &transfer, &options)?;
            needed = needed.max(fidelity.needed_bytes);
        }
        pinned_bytes = pinned_bytes.max(pool.stats().pinned_bytes);
    }
    println!("flight into {extent}: {} MiB needed at once, {} pinned", needed >> 20, pinned_bytes >> 20);
    for &quarters in budgets {
        let budget_bytes = pinned_bytes + (needed * quarters / 4).next_multiple_of(2 << 20);
        let (mut explorer, _pool, reads) = explorer(device, pinned, extent, budget_bytes)?;
        let (mut times, mut bias) = (Vec::new(), 0.0);
        for camera in &cameras {
            let start = Instant::now();
            let fidelity = explorer.picture(camera, &transfer, &options)?.fidelity;
            assert_eq!(fidelity.uncovered_rays, 0, "never a hole");
            times.push(start.elapsed().as_secs_f64() * 1e3);
            bias += fidelity.bias / cameras.len() as f64;
            std::thread::sleep(Duration::from_millis(16).saturating_sub(start.elapsed()));
        }
        let (loads, again) = reads.so_far();
        let (fidelity, rest) = settle(&mut explorer, &cameras[cameras.len() - 1], &transfer, &options)?;
        times.sort_unstable_by(f64::total_cmp);
        println!(
            "{:5.2} of that: a picture {:.2} ms, 0.99 of them {:.2} ms; {loads} tiles read on the way, {:.1} % of them again; bias {bias:.2}; at rest after {rest:.0} ms: {fidelity}",
            quarters as f64 / 4.0,
            median(&mut times),
            times[times.len() * 99 / 100],
            again * 100.0,
        );
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let Some(device) = device_or_skip() else { return Ok(()) };
    println!("{}", device.name());
    let pinned = Arc::new(random_pinned(&device, 1 << 30, 0x0fff_0fff_0fff_0fff)?);
    if let Some(budgets) = variable("VASTGRID_QUARTERS") {
        let budgets: Result<Vec<_>, _> = budgets.split_whitespace().map(str::parse).collect();
        return flights(&device, &pinned, &budgets?);
    }
    beside_streaming(&device, &pinned)?;
    flights(&device, &pinned, size(&[1, 2, 4, 8, 16], &[2]))
}
