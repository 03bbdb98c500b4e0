//! How fast do kernels read an array, against `NanoVDB` with the same voxels on the same card?
//!
//! Workload G1024: 1024^3 voxels, 205 of its 4096 tiles of 64^3 active. The array lies in tiles of 1 MiB, in pages of 2 MiB. *Stencil*: the sum of the 27 neighbours of every active voxel. *Rays*:
//! trilinear samples along 2^20 parallel rays through all of the domain, along either axis that favours one side's memory order. *Random*: reads of active voxels. Every result is compared
//! between all kernels and with the CPU.
//!
//! `PNANOVDB_H=path` names the header `PNanoVDB.h` (the wheel `warp-lang` carries it at `warp/native/nanovdb/`); without it only the array is measured. Kernels are compiled by NVRTC as this runs.
//! `--quick` takes 7 rounds instead of 15; `--only stencil|rays|random` one part; `--seed n` repeats what a run drew at random.
//!
//! Needs a CUDA device; says so where there is none.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::error::Error;
use std::process::ExitCode;

use common::field::{Field, Rays};
use common::nanovdb::{NanoGrid, matches_header};
use common::race::{Kernel, Race, Time, compare};
use common::{G1024, SplitMix, variable};
use vastgrid::cuda::kernels::VASTGRID_CUH;
use vastgrid::cuda::{Arg, Device, DeviceBuffer, Module, Stream, compile};
use vastgrid::{BackendError, CudaBackend, GridView, Pool};

const SHARED: &str = include_str!("kernels/g1024.cuh");
const FLAT: &str = include_str!("kernels/g1024_flat.cu");
const NANO: &str = include_str!("kernels/g1024_nanovdb.cu");

/// What `PNanoVDB.h` expects to be there: NVRTC has no `stdint.h`.
const NANO_PROLOGUE: &str = "
typedef unsigned char n_u8; typedef unsigned short n_u16; typedef unsigned int n_u32; typedef unsigned long long n_u64; typedef int n_i32; typedef long long n_i64;
#define uint8_t n_u8
#define uint16_t n_u16
#define uint32_t n_u32
#define uint64_t n_u64
#define int32_t n_i32
#define int64_t n_i64
#define PNANOVDB_C
#define PNANOVDB_ADDRESS_64
";

const RANDOM_READS: u32 = 1 << 24;

struct Options {
    rounds: usize,
    only: Option<String>,
    seed: u64,
}

impl Options {
    fn parse() -> Self {
        let args: Vec<String> = std::env::args().collect();
        let after = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = after("--seed").and_then(|s| s.parse().ok());
        Self {
            rounds: if args.iter().any(|a| a == "--quick") { 7 } else { 15 },
            only: after("--only"),
            seed: seed.unwrap_or_else(|| clock.map_or(1, |c| c.as_nanos() as u64)),
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

fn main() -> ExitCode {
    let backend = match CudaBackend::open(0) {
        Ok(backend) => backend,
        Err(error) => {
            println!("skipped: no CUDA device ({error})");
            let required = std::env::var_os("VASTGRID_REQUIRE_CUDA").is_some_and(|v| v == "1");
            return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(backend, &Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(backend: CudaBackend, options: &Options) -> Result<(), Box<dyn Error>> {
    let workload = G1024::new();
    let field = Field::new(&workload);
    let device = backend.device().clone();
    println!("{device}, driver {}, seed {}", Device::driver_version()?, options.seed);
    let stream = Stream::new(&device)?;
    let flat = module(&device, &[VASTGRID_CUH, SHARED, FLAT], "g1024_flat.cu")?;
    let nano = match Nano::new(&stream, &workload) {
        Ok(nano) => Some(nano),
        Err(error) => {
            println!("without NanoVDB: {error}");
            None
        }
    };

    let pool = Pool::new(backend, 1 << 30)?;
    let array = workload.array_in(&pool, 2 << 20)?;
    let frame = pool.device_frame();
    let view = frame.view(&array, &stream)?;
    println!("{array:?}, {}", pool.stats());
    let bench = Bench {
        workload: &workload,
        field: &field,
        stream: &stream,
        view,
        flat: &flat,
        nano: nano.as_ref(),
        options,
    };
    let done = [
        bench.part("stencil", Bench::stencil),
        bench.part("rays", Bench::rays),
        bench.part("random", Bench::random),
    ];
    stream.synchronize()?;
    frame.end()?;
    if done.contains(&false) { Err("see above".into()) } else { Ok(()) }
}

/// Compiles sources pasted together for the device, or for an older one where the compiler does not know it.
fn module(device: &Device, parts: &[&str], name: &str) -> Result<Module, BackendError> {
    let (major, minor) = device.compute_capability();
    let source = parts.join("\n");
    let mut refused = None;
    for capability in [major * 10 + minor, 90, 80, 75] {
        let architecture = format!("--gpu-architecture=compute_{capability}");
        match compile(&source, name, &[&architecture, "--std=c++17", "-w"]) {
            Ok(ptx) => return Module::load(device, &ptx),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(BackendError::NoSymbol { library: "libnvrtc", symbol: "nvrtcCompileProgram" }))
}

/// The peer: the grid on the device, its leaves, and the code that reads them.
struct Nano {
    grid: DeviceBuffer,
    leaves: DeviceBuffer,
    leaf_count: u32,
    code: Module,
}

impl Nano {
    fn new(stream: &Stream, workload: &G1024) -> Result<Self, Box<dyn Error>> {
        let path = variable("PNANOVDB_H").ok_or("PNANOVDB_H names no header")?;
        let header = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        if !matches_header(&header) {
            return Err("the header lays grids out in another way than this bench writes them".into());
        }
        let parts = [VASTGRID_CUH, SHARED, NANO_PROLOGUE, &header, NANO];
        let code = module(stream.device(), &parts, "g1024_nanovdb.cu")?;
        let built = NanoGrid::new(&workload.tiles, G1024::value);
        let leaves: Vec<[u32; 4]> = built.leaves.iter().map(|&[x, y, z]| [x, y, z, 0]).collect();
        let grid = DeviceBuffer::new(stream.device(), built.bytes.len() as u64)?;
        grid.copy_from_host(stream, &built.bytes)?;
        Ok(Self {
            grid,
            leaf_count: leaves.len() as u32,
            leaves: upload(stream, bytemuck::cast_slice(&leaves))?,
            code,
        })
    }
}

fn upload(stream: &Stream, bytes: &[u8]) -> Result<DeviceBuffer, BackendError> {
    let buffer = DeviceBuffer::new(stream.device(), bytes.len() as u64)?;
    buffer.copy_from_host(stream, bytes)?;
    Ok(buffer)
}

struct Bench<'a> {
    workload: &'a G1024,
    field: &'a Field,
    stream: &'a Stream,
    view: GridView,
    flat: &'a Module,
    nano: Option<&'a Nano>,
    options: &'a Options,
}

/// Names of kernels, how many blocks of how many threads, and which list they are given.
type Plan<'n> = [(&'n str, [u32; 3], u32)];

impl Bench<'_> {
    /// Runs a part, if it is wanted, and says whether all went well. Another may work where one fails.
    fn part(&self, name: &str, run: impl Fn(&Self) -> Result<(), Box<dyn Error>>) -> bool {
        if !self.options.wants(name) {
            return true;
        }
        match run(self) {
            Ok(()) => true,
            Err(error) => {
                println!("{name} FAILED: {error}");
                false
            }
        }
    }

    /// The kernels of a plan that there are; what is missing is told.
    fn kernels<'k>(&self, plan: &Plan<'_>, args: impl Fn(&str) -> Vec<Arg<'k>>) -> Vec<Kernel<'k>> {
        let mut kernels = Vec::new();
        for &(name, grid, block) in plan {
            let code = if name.starts_with("flat") { Some(self.flat) } else { self.nano.map(|n| &n.code) };
            let Some(code) = code else { continue };
            match code.function(name) {
                Ok(function) => {
                    kernels.push(Kernel { name: name.to_owned(), function, grid, block, args: args(name) });
                }
                Err(error) => println!("{name:<28} FAILED: {error}"),
            }
        }
        kernels
    }

    /// An error unless every kernel of a plan was timed.
    fn all_timed(&self, plan: &Plan<'_>, times: &[Time]) -> Result<(), Box<dyn Error>> {
        let there = |name: &str| name.starts_with("flat") || self.nano.is_some();
        let wanted = plan.iter().filter(|(name, ..)| there(name)).count();
        if times.len() == wanted {
            Ok(())
        } else {
            Err(format!("{} of {wanted} kernels are right", times.len()).into())
        }
    }

    fn stencil(&self) -> Result<(), Box<dyn Error>> {
        let tiles = self.workload.tiles.len() as u32;
        let list = upload(self.stream, bytemuck::cast_slice(&self.workload.tiles))?;
        let sums = DeviceBuffer::new(self.stream.device(), 4096 * 8)?;
        let (nano, leaves, leaf_count) =
            self.nano.map_or((0, 0, 0), |n| (n.grid.address(), n.leaves.address(), n.leaf_count));
        let (list, out) = (list.address(), sums.address());
        let plan = [
            ("flat_neighbourhood", [tiles, 16, 4], 256),
            ("flat_walk_16", [tiles, 16, 4], 256),
            ("flat_walk_32", [tiles, 16, 2], 256),
            ("flat_walk_64", [tiles, 16, 1], 256),
            ("flat_by_hand_16", [tiles, 16, 4], 256),
            ("flat_by_hand_32", [tiles, 16, 2], 256),
            ("nano_each", [leaf_count, 1, 1], 512),
            ("nano_walk_8", [tiles, 16, 8], 256),
            ("nano_walk_16", [tiles, 16, 4], 256),
            ("nano_walk_64", [tiles, 16, 1], 256),
            ("nano_staged", [leaf_count, 1, 1], 512),
        ];
        let kernels = self.kernels(&plan, |name| {
            let from = if name.starts_with("flat") { Arg::new(&self.view) } else { Arg::new(&nano) };
            let by_leaf = name == "nano_each" || name == "nano_staged";
            vec![from, Arg::new(if by_leaf { &leaves } else { &list }), Arg::new(&out)]
        });

        let mut random = SplitMix(self.options.seed);
        let looked_at: Vec<u32> =
            (0..3).map(|_| self.workload.tiles[random.next() as usize % self.workload.tiles.len()]).collect();
        let expected: Vec<u64> = looked_at.iter().map(|&tile| self.field.stencil_bits(tile)).collect();
        let mut first: Option<Vec<u64>> = None;
        let mut check = || {
            let mut got = vec![0u64; 4096];
            sums.copy_to_host(self.stream, bytemuck::cast_slice_mut(&mut got)).map_err(|e| e.to_string())?;
            for (&tile, &want) in looked_at.iter().zip(&expected) {
                if got[tile as usize] != want {
                    return Err(format!("tile {tile} sums to {}, on the CPU to {want}", got[tile as usize]));
                }
            }
            let differ =
                first.get_or_insert_with(|| got.clone()).iter().zip(&got).filter(|(a, b)| a != b).count();
            if differ > 0 { Err(format!("{differ} tiles differ from the first kernel's")) } else { Ok(()) }
        };
        println!(
            "\n27-point stencil at {} voxels: the bits of all sums must agree, those of three tiles with the CPU's",
            tiles << 18
        );
        let times = Race {
            items: f64::from(tiles << 18),
            rounds: self.options.rounds,
            kernels,
            clear: &|| sums.fill(self.stream, 0),
            check: &mut check,
        }
        .run(self.stream);
        let header = ["flat_walk", "flat_neighbourhood"];
        let accessor = ["nano_each", "nano_walk"];
        compare("through the header, against NanoVDB's", &times, &header, &accessor, Some(42.0 / 9.9));
        compare("27 reads a voxel on both sides", &times, &["flat_neighbourhood"], &["nano_each"], None);
        compare("9 reads a voxel on both sides", &times, &["flat_walk"], &["nano_walk"], None);
        compare("the best of either, by hand", &times, &["flat"], &["nano"], None);
        self.all_timed(&plan, &times)
    }

    fn rays(&self) -> Result<(), Box<dyn Error>> {
        let mut random = SplitMix(self.options.seed ^ 0x5261_7973);
        let rays = Rays::random(&mut random);
        println!("\ntrilinear samples along 2^20 rays: {rays:?}");
        let mut times = Vec::new();
        let done = [2, 0].map(|axis| self.rays_along(axis, &rays, &mut random, &mut times));
        let (accessor, any) = (["nano_sample"], ["nano_sample", "nano_nodes"]);
        compare("the header's accessor, against NanoVDB's", &times, &["flat_sample"], &accessor, Some(4.0));
        compare("a loop for each tile, against NanoVDB's", &times, &["flat_tiles"], &accessor, Some(4.0));
        compare("the best of either, by hand", &times, &["flat_sample", "flat_tiles"], &any, None);
        compare("empty space left at once on both sides", &times, &["flat_leap"], &["nano_leap"], None);
        done.into_iter().collect()
    }

    /// Rays along one axis, in both shapes of warps.
    fn rays_along(
        &self,
        axis: usize,
        rays: &Rays,
        random: &mut SplitMix,
        times: &mut Vec<Time>,
    ) -> Result<(), Box<dyn Error>> {
        let sums = DeviceBuffer::new(self.stream.device(), 4 << 20)?;
        let (nano, out) = (self.nano.map_or(0, |n| n.grid.address()), sums.address());
        let letter = ["x", "y", "z"][axis];
        let names: Vec<String> =
            ["flat_sample", "flat_tiles", "flat_leap", "nano_sample", "nano_nodes", "nano_leap"]
                .iter()
                .flat_map(|way| ["wide", "square"].map(|shape| format!("{way}_{letter}_{shape}")))
                .collect();
        let plan: Vec<_> = names.iter().map(|name| (name.as_str(), [32, 128, 1], 256)).collect();
        let kernels = self.kernels(&plan, |name| {
            let from = if name.starts_with("flat") { Arg::new(&self.view) } else { Arg::new(&nano) };
            vec![from, Arg::new(rays), Arg::new(&out)]
        });

        let looked_at: Vec<[u32; 2]> =
            (0..256).map(|_| random.next()).map(|r| [r as u32 & 1023, (r >> 32) as u32 & 1023]).collect();
        let expected: Vec<f32> = looked_at.iter().map(|&[u, v]| self.field.ray(rays, axis, u, v)).collect();
        let mut first: Option<Vec<f32>> = None;
        let mut worst = 0f32;
        let mut check = || {
            let mut got = vec![0f32; 1 << 20];
            sums.copy_to_host(self.stream, bytemuck::cast_slice_mut(&mut got)).map_err(|e| e.to_string())?;
            // A thousand samples of single precision in one sum of up to a few hundred.
            let far = |a: f32, b: f32| (a - b).abs() > 0.01 || !(a - b).is_finite();
            for (&[u, v], &want) in looked_at.iter().zip(&expected) {
                let sum = got[(v * 1024 + u) as usize];
                if far(sum, want) {
                    return Err(format!("ray ({u}, {v}) sums to {sum}, on the CPU to {want}"));
                }
            }
            let first = first.get_or_insert_with(|| got.clone());
            let differ = first.iter().zip(&got).filter(|&(&a, &b)| far(a, b)).count();
            worst = first.iter().zip(&got).fold(worst, |w, (a, b)| w.max((a - b).abs()));
            if differ > 0 { Err(format!("{differ} rays differ from the first kernel's")) } else { Ok(()) }
        };
        println!("along {letter}: all sums must agree, 256 of them with the CPU's");
        let these = Race {
            items: f64::from(rays.steps) * f64::from(1 << 20),
            rounds: self.options.rounds,
            kernels,
            clear: &|| sums.fill(self.stream, 0xff),
            check: &mut check,
        }
        .run(self.stream);
        println!("    the most that two kernels' sums of a ray differ: {worst:e}");
        let done = self.all_timed(&plan, &these);
        times.extend(these);
        done
    }

    fn random(&self) -> Result<(), Box<dyn Error>> {
        let mut random = SplitMix(self.options.seed ^ 0x5265_6164);
        let tiles = &self.workload.tiles;
        let at: Vec<u32> = (0..RANDOM_READS)
            .map(|_| {
                let (first, q) = (G1024::origin(tiles[random.next() as usize % tiles.len()]), random.next());
                let [x, y, z] = [first.x + (q & 63), first.y + (q >> 6 & 63), first.z + (q >> 12 & 63)];
                (x | y << 10 | z << 20) as u32
            })
            .collect();
        let want: u64 = at.iter().map(|&c| u64::from(self.field.packed(c).to_bits())).sum();
        let list = upload(self.stream, bytemuck::cast_slice(&at))?;
        let sum = DeviceBuffer::new(self.stream.device(), 8)?;
        let nano = self.nano.map_or(0, |n| n.grid.address());
        let (list, out) = (list.address(), sum.address());
        let grid = [self.stream.device().multiprocessors() * 8, 1, 1];
        let plan = ["flat_random", "flat_random_unchecked", "nano_random"].map(|name| (name, grid, 256));
        let kernels = self.kernels(&plan, |name| {
            let from = if name.starts_with("flat") { Arg::new(&self.view) } else { Arg::new(&nano) };
            vec![from, Arg::new(&list), Arg::new(&RANDOM_READS), Arg::new(&out)]
        });
        let mut check = || {
            let mut got = [0u64];
            sum.copy_to_host(self.stream, bytemuck::cast_slice_mut(&mut got)).map_err(|e| e.to_string())?;
            if got[0] == want { Ok(()) } else { Err(format!("sums to {}, on the CPU to {want}", got[0])) }
        };
        println!("\n{RANDOM_READS} random reads of active voxels: the sum of their bits must be the CPU's");
        let times = Race {
            items: f64::from(RANDOM_READS),
            rounds: self.options.rounds,
            kernels,
            clear: &|| sum.fill(self.stream, 0),
            check: &mut check,
        }
        .run(self.stream);
        compare("with the test, against NanoVDB's", &times, &["flat_random"], &["nano_random"], None);
        self.all_timed(&plan, &times)
    }
}
