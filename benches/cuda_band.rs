//! What does a kernel that writes a sparse grid cost, against the same kernel on a dense array? And what do the steps around it?
//!
//! The step of `examples/06_moving_band.rs` (27 voxels make one, in tiles of 16^3 f32) over two sets of tiles of a box of 384^3 voxels: all of it, and a shell that a moving band would be. On the grid; on a
//! dense array of the box, the same tiles in the same order; and on all of the dense array, in its own order and as one would write it without tiles. All kernels are compared bit by bit, and with the host.
//!
//! Then: what it takes to give tiles memory ahead, set by the device or copied to it; to prune them; to give them up; and to store voxels with one mark a tile, one a thread and tile, or one a voxel.
//!
//! Needs a CUDA device; says so where there is none. `--quick` takes 7 rounds instead of 15.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use common::race::{Kernel, Race, Time};
use common::{median, rounds};
use vastgrid::cuda::{Arg, DeviceBuffer, Module, Stream};
use vastgrid::source::{Fill, Procedural};
use vastgrid::{Coord, CudaBackend, Extent, Pool, Region, SparseArray3D, TileCoord};

const EXTENT: Extent = Extent::new(1 << 14, 1 << 13, 1 << 13);
/// The box, in voxels, and where it lies in the grid.
const SIDE: u64 = 384;
const FIRST: [u64; 3] = [4096, 2048, 1024];
const TILE: u64 = 16;
const PAGE: u64 = 2 << 20;
/// What the example leaves out; here everything is more.
const LEAST: f32 = 1e-4;
const TARGET: f64 = 1.05;

type Grid = SparseArray3D<f32, CudaBackend>;
type Done = Result<(), Box<dyn Error>>;

/// `band_extent` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Dense {
    first: [u32; 3],
    size: [u32; 3],
}

fn value(c: Coord) -> f32 {
    let h = (c.x as u32).wrapping_mul(73_856_093)
        ^ (c.y as u32).wrapping_mul(19_349_663)
        ^ (c.z as u32).wrapping_mul(83_492_791);
    (1 + ((h ^ h >> 13) & 0xffff)) as f32 / 65_536.0
}

fn region() -> Region {
    Region::new(FIRST.into(), Extent::cube(SIDE))
}

/// Tiles whose distance from the box's middle is near that of a ball's surface.
fn in_shell(tile: TileCoord) -> bool {
    let middle = FIRST.map(|first| (first + SIDE / 2) as f64);
    let centre = [tile.x, tile.y, tile.z].map(|t| (t * TILE + TILE / 2) as f64);
    let far = (0..3).map(|a| (centre[a] - middle[a]).powi(2)).sum::<f64>().sqrt();
    (far - 150.0).abs() < 20.0
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
    let rounds = if std::env::args().any(|a| a == "--quick") { 7 } else { 15 };
    match run(backend, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The grids, the dense arrays, and the code.
struct Bench {
    pool: Pool<CudaBackend>,
    stream: Stream,
    code: Module,
    now: Grid,
    next: Grid,
    dense: [DeviceBuffer; 2],
    voxels: Vec<f32>,
    rounds: usize,
}

fn run(backend: CudaBackend, rounds: usize) -> Done {
    println!("{}", backend.device());
    let stream = Stream::new(backend.device())?;
    let code = Module::load(backend.device(), include_str!("../assets/kernels/band.ptx"))?;
    let pool = Pool::new(backend, 4 << 30)?;
    let source = Procedural::new(EXTENT, value)
        .with_uniform(|part: Region| part.intersection(&region()).is_none().then_some(0.0));
    let now = SparseArray3D::builder(&pool, source).tile([TILE; 3]).page_bytes(PAGE).writable().build()?;
    let fill = Fill::new(EXTENT, 0.0f32);
    let next = SparseArray3D::builder(&pool, fill).tile([TILE; 3]).page_bytes(PAGE).writable().build()?;
    let device = stream.device();
    let dense = [DeviceBuffer::new(device, SIDE.pow(3) * 4)?, DeviceBuffer::new(device, SIDE.pow(3) * 4)?];
    let voxels = now.to_vec(region())?;
    dense[0].copy_from_host(&stream, bytemuck::cast_slice(&voxels))?;
    let mut bench = Bench { pool, stream, code, now, next, dense, voxels, rounds };
    let all: Vec<_> = bench.now.layout().tiles_in(region()).collect();
    let shell: Vec<_> = all.iter().copied().filter(|&tile| in_shell(tile)).collect();
    let done = [
        bench.step("all of the box", &all),
        bench.step("a shell", &shell),
        bench.stores(&all),
        bench.around(&shell),
    ];
    done.into_iter().collect()
}

/// Prints the ratio of one kernel's time to another's.
fn ratio(times: &[Time], ours: &str, theirs: &str, voxels: [f64; 2], target: Option<f64>) {
    let of = |name: &str| times.iter().find(|time| time.name == name);
    let (Some(a), Some(b)) = (of(ours), of(theirs)) else {
        return println!("    {ours} against {theirs}: nothing to compare");
    };
    // Both rates count the items of the race; what counts is the time for a voxel that each really computes.
    let ratio = b.rate * voxels[1] / (a.rate * voxels[0]);
    let verdict = match target {
        Some(target) if ratio <= target => format!(", within the target of {target:.2}"),
        Some(target) => format!(", ABOVE the target of {target:.2}"),
        None => String::new(),
    };
    println!("    {ours} takes {ratio:.3} of the time of {theirs}, a voxel{verdict}");
}

impl Bench {
    fn ids(&self, tiles: &[TileCoord]) -> Result<DeviceBuffer, Box<dyn Error>> {
        let ids: Vec<_> = tiles.iter().filter_map(|&t| self.now.layout().tile_id(t)).map(|id| id.0).collect();
        let list = DeviceBuffer::new(self.stream.device(), ids.len() as u64 * 8)?;
        list.copy_from_host(&self.stream, bytemuck::cast_slice(&ids))?;
        Ok(list)
    }

    /// What a voxel of the box becomes; for a dense array, what lies beyond the box is nothing.
    fn expected(&self, [x, y, z]: [i64; 3]) -> f32 {
        let side = SIDE.cast_signed();
        let at = |i: i64| {
            let [x, y, z] = [x + i % 3 - 1, y + i / 3 % 3 - 1, z + i / 9 - 1];
            let inside = [x, y, z].iter().all(|v| (0..side).contains(v));
            if inside { self.voxels[(x + side * (y + side * z)) as usize] } else { 0.0 }
        };
        let near: Vec<f32> = (0..27).map(at).collect();
        let mean = near.iter().sum::<f32>() / 27.0;
        let value = 0.5 * near[13] + 0.3 * near[12] + 0.2 * mean;
        if value < LEAST { 0.0 } else { value }
    }

    /// The step, everywhere alike.
    fn step(&mut self, label: &str, tiles: &[TileCoord]) -> Done {
        let items = (tiles.len() as u64 * TILE.pow(3)) as f64;
        println!("\n{label}: {} tiles of 16^3, {:.0} M voxels", tiles.len(), items / 1e6);
        let (read, written) = (self.now.pin(tiles)?.complete()?, self.next.prepare_overwrite(tiles)?);
        let around = self.now.layout().tiles_in(region()).collect::<Vec<_>>();
        // A shell's rim is there on both sides.
        let rim = self.now.pin(&around)?.complete()?;
        let list = self.ids(tiles)?;
        let frame = self.pool.device_frame();
        let (from, to) = (frame.view(&self.now, &self.stream)?, frame.view(&self.next, &self.stream)?);
        let (list_at, dense_now, dense_next) =
            (list.address(), self.dense[0].address(), self.dense[1].address());
        let dense = Dense { first: FIRST.map(|v| v as u32), size: [SIDE as u32; 3] };
        let count = tiles.len() as u32;
        let boxes = (SIDE / TILE) as u32;
        let plan = [
            ("vg_band_step", [count, 1, 1]),
            ("vg_band_step_dense", [count, 1, 1]),
            ("vg_band_step_whole", [boxes, boxes, boxes]),
            ("vg_band_step_plain", [SIDE as u32 / 32, SIDE as u32 / 8, boxes]),
        ];
        let mut kernels = Vec::new();
        for (name, grid) in plan {
            let args = match name {
                "vg_band_step" => vec![Arg::new(&from), Arg::new(&to), Arg::new(&list_at), Arg::new(&LEAST)],
                "vg_band_step_dense" => vec![
                    Arg::new(&to),
                    Arg::new(&dense_now),
                    Arg::new(&dense_next),
                    Arg::new(&dense),
                    Arg::new(&list_at),
                    Arg::new(&LEAST),
                ],
                _ => vec![Arg::new(&dense_now), Arg::new(&dense_next), Arg::new(&dense), Arg::new(&LEAST)],
            };
            let function = self.code.function(name)?;
            kernels.push(Kernel { name: name.to_owned(), function, grid, block: 256, args });
        }
        let cleared = || self.dense[1].fill(&self.stream, 0xff);
        let wanted: Vec<_> = tiles.iter().step_by(tiles.len().div_ceil(400)).copied().collect();
        let mut turn = 0;
        let mut check = || {
            let sparse = turn == 0;
            turn += 1;
            let all = if sparse {
                Vec::new()
            } else {
                let mut all = vec![0f32; SIDE.pow(3) as usize];
                let bytes = bytemuck::cast_slice_mut(&mut all);
                self.dense[1].copy_to_host(&self.stream, bytes).map_err(|e| e.to_string())?;
                all
            };
            self.stream.synchronize().map_err(|e| e.to_string())?;
            for &tile in &wanted {
                let place = self.next.layout().tile_region(tile);
                let own =
                    if sparse { self.next.to_vec(place).map_err(|e| e.to_string())? } else { Vec::new() };
                for i in 0..TILE.pow(3) {
                    let within = [i % TILE, i / TILE % TILE, i / TILE / TILE];
                    let at = [0, 1, 2].map(|a| place.start.to_array()[a] + within[a] - FIRST[a]);
                    let dense_at = at[0] + SIDE * (at[1] + SIDE * at[2]);
                    let got = if sparse { own[i as usize] } else { all[dense_at as usize] };
                    let want = self.expected(at.map(u64::cast_signed));
                    if got.to_bits() != want.to_bits() {
                        return Err(format!("voxel {at:?} became {got}, on the host {want}"));
                    }
                }
            }
            Ok(())
        };
        let times = Race { items, rounds: self.rounds, kernels, clear: &cleared, check: &mut check }
            .run(&self.stream);
        frame.end()?;
        drop((read, written, rim));
        let whole = SIDE.pow(3) as f64 / items;
        ratio(&times, "vg_band_step", "vg_band_step_dense", [1.0, 1.0], Some(TARGET));
        ratio(&times, "vg_band_step", "vg_band_step_whole", [1.0, whole], Some(TARGET));
        ratio(&times, "vg_band_step", "vg_band_step_plain", [1.0, whole], None);
        self.next.reset(tiles)?;
        if times.len() == plan.len() { Ok(()) } else { Err("a kernel is wrong".into()) }
    }

    /// What marking costs.
    fn stores(&mut self, tiles: &[TileCoord]) -> Done {
        println!("\nstores to all voxels of {} tiles", tiles.len());
        let pins = self.next.prepare_overwrite(tiles)?;
        let list = self.ids(tiles)?;
        let frame = self.pool.device_frame();
        let view = frame.view(&self.next, &self.stream)?;
        let (list_at, value) = (list.address(), 0.5f32);
        let mut kernels = Vec::new();
        for name in ["vg_band_put_tile", "vg_band_put_accessor", "vg_band_put_voxel"] {
            let args = vec![Arg::new(&view), Arg::new(&list_at), Arg::new(&value)];
            let (function, grid) = (self.code.function(name)?, [tiles.len() as u32, 1, 1]);
            kernels.push(Kernel { name: name.to_owned(), function, grid, block: 256, args });
        }
        let items = (tiles.len() as u64 * TILE.pow(3)) as f64;
        let race = Race { items, rounds: self.rounds, kernels, clear: &|| Ok(()), check: &mut || Ok(()) };
        let times = race.run(&self.stream);
        let written = frame.end_and_wait()?.tiles(&self.next);
        drop(pins);
        ratio(&times, "vg_band_put_accessor", "vg_band_put_tile", [1.0, 1.0], None);
        ratio(&times, "vg_band_put_voxel", "vg_band_put_tile", [1.0, 1.0], None);
        self.next.reset(tiles)?;
        if written.len() == tiles.len() { Ok(()) } else { Err("not all tiles were marked".into()) }
    }

    /// The steps around the kernel, in milliseconds for all tiles.
    fn around(&mut self, tiles: &[TileCoord]) -> Done {
        let tile_bytes = self.next.layout().tile_bytes();
        println!(
            "\naround it, for {} tiles ({:.0} MB), medians:",
            tiles.len(),
            (tiles.len() as u64 * tile_bytes) as f64 / 1e6
        );
        let mut times: [Vec<f64>; 6] = Default::default();
        let names = [
            "prepare, copied",
            "prepare, set by the device",
            "prepare blank",
            "prune, nothing to give",
            "prune, all of it",
            "reset",
        ];
        // The source's own tiles begin without memory.
        self.now.reset(tiles)?;
        for _ in 0..rounds(self.rounds) {
            let mut timed = |i: usize, act: &mut dyn FnMut(&mut Grid, &mut Grid) -> Done| {
                let start = Instant::now();
                let done = act(&mut self.now, &mut self.next);
                times[i].push(start.elapsed().as_secs_f64() * 1e3);
                done
            };
            timed(0, &mut |now, _| now.prepare_write(tiles).map(drop).map_err(Into::into))?;
            timed(3, &mut |now, _| now.prune(tiles).map(drop).map_err(Into::into))?;
            timed(5, &mut |now, _| now.reset(tiles).map_err(Into::into))?;
            timed(1, &mut |_, next| next.prepare_write(tiles).map(drop).map_err(Into::into))?;
            timed(2, &mut |_, next| next.prepare_overwrite(tiles).map(drop).map_err(Into::into))?;
            timed(4, &mut |_, next| next.prune(tiles).map(drop).map_err(Into::into))?;
        }
        for (name, times) in names.iter().zip(&mut times) {
            let ms = median(times);
            println!("{name:<28} {ms:9.3} ms, {:7.3} us a tile", ms * 1e3 / tiles.len() as f64);
        }
        Ok(())
    }
}
