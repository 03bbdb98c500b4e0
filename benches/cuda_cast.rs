//! What does a picture cost through the array?
//!
//! A volume of 1024^3 u16 in tiles of 64^3, all of it resident, in pictures of 1024^2 pixels, unshaded and shaded, from two sides, without leaping over anything: against the same
//! ray caster over one dense allocation, over a software page table (asked per sample where one tile holds the support, and per voxel), and over an atlas of tiles with ghost borders. All
//! are the same march with another way to find a voxel (`cast_rivals.cuh`). Then the same picture with ranges, through the whole of `CudaCaster`. Three more views have no target: along y, nearly along x, and along x,
//! where every ray needs rows of its own and finding them costs little beside reading them.
//!
//! Finding the boxes of tiles that are all there is part of the array's time, setting counts to zero of everybody's. Times are the device's own, medians of rounds in turn. Needs a CUDA device with 12 GiB; says so where there is none.

#![allow(clippy::cast_possible_truncation, reason = "figures of a known size")]

mod common;

use common::device::device_or_skip;
use common::{SplitMix, median, rounds};
use vastgrid::cuda::{Arg, CudaConfig, DeviceBuffer, Event, Function, Module, Stream, kernels};
use vastgrid::device::GridView;
use vastgrid::render::cuda::{CastParameters, CastPlan, CastVolume, CudaCaster, PlanLevel};
use vastgrid::render::{Camera, DenseVolume, Image, Mode, Options, Shading, TransferFunction, render};
use vastgrid::source::Procedural;
use vastgrid::{Coord, CudaBackend, Extent, Pool, Region, SparseArray3D};

const SIDE: u64 = 1024;
const TILE: u64 = 64;
const PIXELS: u32 = 1024;
const ROUNDS: usize = 15;
/// A tile and its ghost borders, in voxels along each side.
const GHOSTED: u64 = TILE + 3;

type Failure = Box<dyn std::error::Error>;

/// Waves of 12 bits with some noise.
fn value(c: Coord) -> u16 {
    let wave = |v: u64, period: u64| {
        let phase = v % period * 2;
        (if phase < period { phase } else { 2 * period - phase }) * 1200 / period
    };
    let noise = c.x.wrapping_mul(0x9e37) ^ c.y.wrapping_mul(0x85eb) ^ c.z.wrapping_mul(0xc2b2);
    (wave(c.x, 170) + wave(c.y, 230) + wave(c.z, 310) + noise % 128) as u16
}

/// Thin clouds, so that rays go all the way through, and that most samples count.
fn transfer() -> Result<TransferFunction, Failure> {
    let colours = [(0.0, [0.1, 0.2, 0.9]), (2000.0, [0.9, 0.8, 0.2]), (3700.0, [1.0, 0.2, 0.1])];
    Ok(TransferFunction::new(&[(900.0, 0.0), (2000.0, 0.002), (3700.0, 0.02)], &colours, 1.0)?)
}

/// From where the volume is seen, and whether there are targets for that.
fn views(extent: Extent) -> [(&'static str, Camera, bool); 5] {
    let front = Camera::fit(extent, [1.0; 3]);
    [
        ("along an axis", front, true),
        ("aslant", front.azimuth(35.0).elevation(-25.0), true),
        ("along y", front.elevation(-88.0), false),
        ("nearly along x", front.azimuth(70.0).elevation(-10.0), false),
        ("along x", front.azimuth(90.0), false),
    ]
}

struct Bench {
    stream: Stream,
    array: Module,
    rivals: Module,
}

impl Bench {
    fn launch(
        &self,
        kernel: &Function,
        grid: [u32; 3],
        threads: u32,
        args: &[Arg<'_>],
    ) -> Result<(), Failure> {
        #[expect(unsafe_code, reason = "kernels are launched on trust")]
        // SAFETY: every caller gives the kernel's own arguments, and keeps the frame and the buffers until it has waited.
        unsafe { kernel.launch(&self.stream, grid, [threads, 1, 1], 0, args) }?;
        Ok(())
    }

    fn buffer(&self, bytes: u64) -> Result<DeviceBuffer, Failure> {
        let buffer = DeviceBuffer::new(self.stream.device(), bytes)?;
        buffer.fill(&self.stream, 0)?;
        Ok(buffer)
    }

    /// Everything that a picture takes on the device, finding the boxes of tiles that are all there included.
    fn cast(
        &self,
        kernel: &Function,
        boxes: Option<&Function>,
        plan: &CastPlan,
        parameters: &CastParameters,
        (_, output): &(DeviceBuffer, DeviceBuffer),
    ) -> Result<(), Failure> {
        // Counts, as every picture needs them.
        output.fill_at(&self.stream, plan.zero_from() as u64..output.bytes(), 0)?;
        if let Some(boxes) = boxes {
            // The second level is no array.
            let [blocks, ..] = plan.boxes_grid();
            self.launch(boxes, [blocks, 1, 1], plan.boxes_block()[0], &[Arg::new(parameters)])?;
        }
        self.launch(kernel, plan.grid(), 64, &[Arg::new(parameters)])
    }

    /// Times the kernels with the parameters of each in turn, compares their pictures with the first one's, and prints the ratios, and of a view that has targets whether they are within them. Where pictures differ,
    /// `right` says which is right. Whether all were alike, and what each took in ms.
    fn race(
        &self,
        label: &str,
        plans: &[(&str, CastPlan)],
        targets: bool,
        right: impl Fn() -> Result<Image, Failure>,
    ) -> Result<(bool, Vec<f64>), Failure> {
        let mut runs = Vec::new();
        for (name, plan) in plans {
            let (input, output) =
                (self.buffer(plan.input().len() as u64)?, self.buffer(plan.output_bytes() as u64)?);
            input.copy_from_host(&self.stream, plan.input())?;
            let lit = if plan.kernel().contains("_lit") { "_lit" } else { "" };
            let kernel = match *name {
                "array" => self.array.function(&format!("vg_cast_dvr{lit}_u16"))?,
                rival => self.rivals.function(&format!("vg_cast_dvr{lit}_{rival}_u16"))?,
            };
            let parameters = plan.parameters(input.address(), output.address());
            let boxes = match *name {
                "array" => Some(self.array.function(&plan.boxes_kernel())?),
                _ => None,
            };
            let buffers = (input, output);
            self.cast(&kernel, boxes.as_ref(), plan, &parameters, &buffers)?;
            let mut bytes = vec![0; plan.output_bytes()];
            buffers.1.copy_to_host(&self.stream, &mut bytes)?;
            runs.push((*name, plan, kernel, parameters, plan.finish(&bytes)?, (boxes, buffers)));
        }
        let first = &runs[0].4.image;
        let seen = first.pixels().iter().filter(|&pixel| *pixel != first.pixels()[0]).count();
        assert!(seen > first.pixels().len() / 8, "{label}: there is nothing to see");
        let alike = runs.iter().all(|run| distance(first, &run.4.image) < 0.1 / 255.0);
        if !alike {
            let right = right()?;
            for (name, .., rendered, _) in &runs {
                let image = &rendered.image;
                let (own, host) = (distance(first, image) * 255.0, distance(&right, image) * 255.0);
                println!(
                    "{label}, {name:<12} DIFFERS: {own:.4}/255 from the array's, {host:.4}/255 from the host's"
                );
            }
        }
        let mut times = vec![Vec::new(); runs.len()];
        for round in 0..=rounds(ROUNDS) {
            for ((_, plan, kernel, parameters, _, (boxes, buffers)), times) in runs.iter().zip(&mut times) {
                let start = Event::timed(&self.stream)?;
                self.cast(kernel, boxes.as_ref(), plan, parameters, buffers)?;
                let end = Event::timed(&self.stream)?;
                end.wait()?;
                if round > 0 {
                    times.push(f64::from(end.elapsed_ms(&start)?));
                }
            }
        }
        let times: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for ((name, .., rendered, _), time) in runs.iter().zip(&times) {
            let rate = rendered.report.samples as f64 / time / 1e6;
            println!("{label}, {name:<12} {time:8.3} ms, {rate:7.1} G samples/s");
        }
        let names: Vec<_> = runs.iter().map(|run| run.0).collect();
        print_ratios(label, &names, &times, targets);
        Ok((alike, times))
    }
}

/// What the array takes against each of the others, and whether that is within the targets, where there are any.
fn print_ratios(label: &str, names: &[&str], times: &[f64], targets: bool) {
    let verdict = |good, target| match (targets, good) {
        (false, _) => String::new(),
        (true, true) => format!(" (within the target of {target})"),
        (true, false) => format!(" (OUTSIDE the target of {target})"),
    };
    for (&name, time) in names.iter().zip(times).skip(1) {
        let (own, other) = (times[0] / time, time / times[0]);
        match name {
            "dense" => {
                println!("{label}: array against dense, time ratio {own:.3}{}", verdict(own <= 1.1, "1.10"));
            }
            "atlas" => {
                println!("{label}: atlas with ghost borders against the array, time ratio {other:.3}");
            }
            _ => println!(
                "{label}: {name} against the array, time ratio {other:.3}{}; against the dense array {:.3}",
                verdict(other >= 1.3, "1.30"),
                time / times[1]
            ),
        }
    }
}

/// The mean difference of two pictures.
fn distance(a: &Image, b: &Image) -> f64 {
    let pairs = a.pixels().iter().flatten().zip(b.pixels().iter().flatten());
    pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.pixels().len() as f64 / 4.0
}

fn main() -> Result<(), Failure> {
    let Some(device) = device_or_skip() else { return Ok(()) };
    println!("{}", device.name());
    let rivals = include_str!("../assets/kernels/cast_rivals.ptx");
    let bench = Bench {
        stream: Stream::new(&device)?,
        array: Module::load(&device, kernels::CAST_U16)?,
        rivals: Module::load(&device, rivals)?,
    };
    let caster = CudaCaster::new(&device)?;
    let extent = Extent::cube(SIDE);
    let pool = Pool::new(CudaBackend::on(device.clone(), CudaConfig::default())?, SIDE.pow(3) * 2)?;
    let array = SparseArray3D::builder(&pool, Procedural::new(extent, value))
        .tile([TILE; 3])
        .page_bytes(2 << 20)
        .track_ranges()
        .build()?;
    let tiles: Vec<_> = array.layout().tiles_in(Region::whole(extent)).collect();
    // In random order, so that neighbours in the array are none in the device's memory.
    let order = SplitMix(4).shuffled(tiles.len() as u32);
    let shuffled: Vec<_> = order.iter().map(|&i| tiles[i as usize]).collect();
    array.request(&shuffled)?.complete()?;
    let frame = pool.device_frame();
    let view = frame.view(&array, &bench.stream)?;

    // What the others read.
    let slots: Vec<u32> =
        tiles.iter().filter_map(|&t| array.layout().tile_id(t)).map(|id| id.0 as u32).collect();
    let table = bench.buffer(slots.len() as u64 * 4)?;
    table.copy_from_host(&bench.stream, bytemuck::cast_slice(&slots))?;
    let places = SplitMix(5).shuffled(tiles.len() as u32);
    let atlas_table = bench.buffer(places.len() as u64 * 4)?;
    atlas_table.copy_from_host(&bench.stream, bytemuck::cast_slice(&places))?;
    let (dense, atlas) =
        (bench.buffer(SIDE.pow(3) * 2)?, bench.buffer(tiles.len() as u64 * GHOSTED.pow(3) * 2)?);
    let (dense_at, atlas_at) = (dense.address(), atlas.address());
    let (table_at, atlas_table_at) = (table.address(), atlas_table.address());
    let fill = bench.rivals.function("vg_fill_dense_u16")?;
    bench.launch(&fill, [132 * 8, 1, 1], 256, &[Arg::new(&view), Arg::new(&dense_at)])?;
    let fill = bench.rivals.function("vg_fill_atlas_u16")?;
    let args = [Arg::new(&view), Arg::new(&atlas_table_at), Arg::new(&atlas_at)];
    bench.launch(&fill, [tiles.len() as u32, 1, 1], 256, &args)?;
    println!("array {} MiB, atlas {} MiB", pool.stats().used_bytes >> 20, atlas.bytes() >> 20);

    let transfer = transfer()?;
    let (mut alike, mut sums) = (true, Vec::new());
    for (side, camera, targets) in views(extent) {
        for (look, shading) in [("unshaded", None), ("shaded", Some(Shading::default()))] {
            let mode = Mode::Dvr { shading };
            let options = Options {
                width: PIXELS,
                height: PIXELS,
                mode,
                stop_at_alpha: 1.0,
                skip_empty: false,
                ..Options::default()
            };
            let plan = |base: u64, table: u64| -> Result<CastPlan, Failure> {
                // The second level only says where the others' memory is.
                let other = GridView::new(array.layout(), base, table, &[0; 2], false)?;
                let levels = [
                    PlanLevel { view, layout: array.layout(), factor: [1; 3] },
                    PlanLevel { view: other, layout: array.layout(), factor: [2; 3] },
                ];
                Ok(CastPlan::new::<u16>(&levels, 0.0, &camera, &transfer, &options)?)
            };
            let plans = vec![
                ("array", plan(0, 0)?),
                ("dense", plan(dense_at, 0)?),
                ("table", plan(dense_at, table_at)?),
                ("voxel_table", plan(dense_at, table_at)?),
                ("atlas", plan(atlas_at, atlas_table_at)?),
            ];
            let right = || {
                let mut voxels = vec![0u16; SIDE.pow(3) as usize];
                dense.copy_to_host(&bench.stream, bytemuck::cast_slice_mut(&mut voxels))?;
                Ok(render(&DenseVolume::new(&voxels, extent)?, &camera, &transfer, &options)?.image)
            };
            let (same, times) = bench.race(&format!("{side}, {look}"), &plans, targets, right)?;
            alike &= same;
            if targets {
                sums.resize(times.len(), 0.0);
                sums.iter_mut().zip(times).for_each(|(sum, time)| *sum += time);
            }
            let options = Options { stop_at_alpha: 0.995, skip_empty: true, ..options };
            let mut times = Vec::new();
            for _ in 0..=rounds(ROUNDS) {
                let start = std::time::Instant::now();
                let picture = caster.render(&frame, &CastVolume::of(&array), &camera, &transfer, &options)?;
                let report = picture.wait()?.report;
                times.push(start.elapsed().as_secs_f64() * 1e3);
                assert!(report.wanted.is_empty());
            }
            println!("{side}, {look}: a picture from call to image {:.3} ms", median(&mut times[1..]));
        }
    }
    for (name, sum) in ["array", "dense", "table", "voxel_table", "atlas"].iter().zip(&sums) {
        println!("all four pictures, {name:<12} {sum:8.3} ms, {:.3} of the array's", sum / sums[0]);
    }
    frame.end()?;
    assert!(alike, "pictures differ");
    Ok(())
}
