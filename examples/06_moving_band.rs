//! A cloud that spreads and is blown through a grid of 2^40 voxels: each step is computed where the cloud is and on the tiles around, on the host in a budget of 64 MiB or by kernels of a CUDA device in
//! 256 MiB of its memory. Then the same steps in a dense box on the host, compared voxel by voxel, bit for bit: kernels round every product and every sum by itself, in the order written here. And a
//! picture.
//!
//! Expect: the time for each voxel, how much memory the cloud takes, and that no voxel differs.
//!
//! `cargo run --release --example 06_moving_band -- [host|cuda] [STEPS] [PICTURE.png]`

use std::error::Error;
use std::io::BufWriter;
use std::time::Instant;

use vastgrid::compute::{self, Beyond, Boundary, Neighbours, TileSet};
use vastgrid::cuda::{Arg, DeviceBuffer, Function, Module, Stream};
use vastgrid::source::Fill;
use vastgrid::{Backend, Coord, CudaBackend, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord};

const EXTENT: Extent = Extent::new(1 << 14, 1 << 13, 1 << 13);
const TILE: u64 = 16;
/// Where the cloud begins, and its radius.
const CENTRE: [u64; 3] = [8000, 4000, 4000];
const RADIUS: u16 = 12;
/// Less than that is nothing.
const LEAST: f32 = 1e-4;

type Grid<B> = SparseArray3D<f32, B>;
type Done = Result<(), Box<dyn Error>>;

/// Who computes.
trait Hand {
    type B: Backend;
    /// Writes the tiles as they are at first.
    fn begin(&mut self, grid: &mut Grid<Self::B>, tiles: &[TileCoord]) -> Done;
    /// Writes the tiles of the band as they are a step later.
    fn step(&mut self, now: &Grid<Self::B>, next: &mut Grid<Self::B>, band: &TileSet) -> Done;
}

fn main() -> Done {
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    let place =
        if args.first().is_some_and(|a| a.parse::<u64>().is_err()) { args.remove(0) } else { "host".into() };
    let steps = args.first().map_or(Ok(40), |text| text.parse::<u64>())?;
    let picture = args.get(1).map(String::as_str);
    match place.as_str() {
        "host" => run(&Pool::new(HostBackend::new(), 64 << 20)?, OnHost, steps, picture),
        "cuda" => match CudaBackend::open(0) {
            Ok(backend) => {
                println!("{}", backend.device());
                let pool = Pool::new(backend, 256 << 20)?;
                run(&pool, OnDevice::new(&pool)?, steps, picture)
            }
            Err(error) => {
                println!("nothing to show here: {error}");
                Ok(())
            }
        },
        other => Err(format!("{other} is neither host nor cuda").into()),
    }
}

fn run<H: Hand>(pool: &Pool<H::B>, mut hand: H, steps: u64, path: Option<&str>) -> Done {
    let grid = || {
        let fill = Fill::new(EXTENT, 0.0f32);
        SparseArray3D::builder(pool, fill).tile([TILE; 3]).page_bytes(2 << 20).writable().build()
    };
    let (mut now, mut next) = (grid()?, grid()?);
    let tiles: Vec<_> = now.layout().tiles_in(reached(0)).collect();
    hand.begin(&mut now, &tiles)?;
    now.prune(&tiles)?;

    let (start, mut computed) = (Instant::now(), 0);
    for _ in 0..steps {
        // One voxel a step: what a tile holds reaches those around it, and no farther.
        let band = compute::written(&now).dilate(Neighbours::Corners, 1, Beyond::Out);
        hand.step(&now, &mut next, &band)?;
        // Tiles of the band that nothing came to need no memory. Without this every step's band would be a tile wider than the last: "written" are all that were in it.
        next.prune(&band.iter().collect::<Vec<_>>())?;
        computed += band.len();
        // What the older grid holds is of the step before.
        now.reset(&now.written_tiles())?;
        std::mem::swap(&mut now, &mut next);
    }
    let seconds = start.elapsed().as_secs_f64();
    let voxels = computed as f64 * (TILE * TILE * TILE) as f64;
    let stats = pool.stats();
    println!(
        "{steps} steps over {computed} tiles: {:.2} ms a step, {:.2} ns a voxel; {} tiles hold the cloud now, {:.1} MiB of memory for 4 TiB of addresses, {} tiles went to the scratch file",
        seconds * 1e3 / steps.max(1) as f64,
        seconds * 1e9 / voxels.max(1.0),
        now.written_tiles().len(),
        stats.used_bytes as f64 / f64::from(1 << 20),
        stats.written_back
    );
    compare(&now, steps)?;
    path.map_or(Ok(()), |path| picture(&now, steps, path))
}

struct OnHost;

impl Hand for OnHost {
    type B = HostBackend;

    fn begin(&mut self, grid: &mut Grid<HostBackend>, tiles: &[TileCoord]) -> Done {
        grid.writer()?.for_each_tile(tiles, |tile, voxels| {
            for (i, voxel) in (0..).zip(voxels) {
                let within = [i % TILE, i / TILE % TILE, i / TILE / TILE];
                let corner = [tile.x, tile.y, tile.z];
                *voxel = begun([0, 1, 2].map(|a| corner[a] * TILE + within[a]));
            }
        })?;
        Ok(())
    }

    fn step(&mut self, now: &Grid<HostBackend>, next: &mut Grid<HostBackend>, band: &TileSet) -> Done {
        compute::stencil27_into(&mut next.writer()?, now, band, Boundary::Fill(0.0), blown)?;
        Ok(())
    }
}

/// The kernels of `assets/kernels/band.cu`, and the list of tiles that they are given.
struct OnDevice {
    pool: Pool<CudaBackend>,
    stream: Stream,
    begin: Function,
    step: Function,
    list: Option<DeviceBuffer>,
}

impl OnDevice {
    fn new(pool: &Pool<CudaBackend>) -> Result<Self, Box<dyn Error>> {
        let device = pool.backend().device();
        let module = Module::load(device, include_str!("../assets/kernels/band.ptx"))?;
        let (begin, step) = (module.function("vg_band_begin")?, module.function("vg_band_step")?);
        Ok(Self { pool: pool.clone(), stream: Stream::new(device)?, begin, step, list: None })
    }

    /// Copies the tiles' ids to the device, and says where.
    fn list(&mut self, grid: &Grid<CudaBackend>, tiles: &[TileCoord]) -> Result<(u64, u32), Box<dyn Error>> {
        let ids: Vec<_> = tiles.iter().filter_map(|&t| grid.layout().tile_id(t)).map(|id| id.0).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&ids);
        if self.list.as_ref().is_none_or(|list| list.bytes() < bytes.len() as u64) {
            let room = bytes.len().next_power_of_two().max(1 << 12);
            self.list = Some(DeviceBuffer::new(self.stream.device(), room as u64)?);
        }
        let Some(list) = &self.list else { return Err("no list".into()) };
        list.copy_from_host(&self.stream, bytes)?;
        Ok((list.address(), u32::try_from(ids.len())?))
    }
}

impl Hand for OnDevice {
    type B = CudaBackend;

    fn begin(&mut self, grid: &mut Grid<CudaBackend>, tiles: &[TileCoord]) -> Done {
        let _written = grid.prepare_overwrite(tiles)?;
        let (list, count) = self.list(grid, tiles)?;
        let frame = self.pool.device_frame();
        let view = frame.view(grid, &self.stream)?;
        let ball = [CENTRE[0] as f32, CENTRE[1] as f32, CENTRE[2] as f32, f32::from(RADIUS)];
        let args = [Arg::new(&view), Arg::new(&list), Arg::new(&ball)];
        #[expect(unsafe_code, reason = "kernels are launched on trust")]
        // SAFETY: the arguments are those of `vg_band_begin`; the frame keeps the tiles, and the list lives as long as the stream.
        unsafe { self.begin.launch(&self.stream, [count, 1, 1], [256, 1, 1], 0, &args) }?;
        frame.end()?;
        Ok(())
    }

    fn step(&mut self, now: &Grid<CudaBackend>, next: &mut Grid<CudaBackend>, band: &TileSet) -> Done {
        let band: Vec<_> = band.iter().collect();
        // What is read may have gone to the scratch file; what is written needs memory first.
        let _read = now.pin(&band)?.complete()?;
        let _written = next.prepare_overwrite(&band)?;
        let (list, count) = self.list(next, &band)?;
        let frame = self.pool.device_frame();
        let (from, to) = (frame.view(now, &self.stream)?, frame.view(next, &self.stream)?);
        let args = [Arg::new(&from), Arg::new(&to), Arg::new(&list), Arg::new(&LEAST)];
        #[expect(unsafe_code, reason = "kernels are launched on trust")]
        // SAFETY: the arguments are those of `vg_band_step`; the frame keeps the tiles, and the list lives as long as the stream.
        unsafe { self.step.launch(&self.stream, [count, 1, 1], [256, 1, 1], 0, &args) }?;
        frame.end()?;
        Ok(())
    }
}

/// A step at one voxel: a mean of those around, taken from a little upwind along x.
fn blown(near: &[f32; 27]) -> f32 {
    let mean = near.iter().sum::<f32>() / 27.0;
    let value = 0.5 * near[13] + 0.3 * near[12] + 0.2 * mean;
    if value < LEAST { 0.0 } else { value }
}

fn begun(at: [u64; 3]) -> f32 {
    let far = (0..3).map(|a| (at[a] as f32 - CENTRE[a] as f32).powi(2)).sum::<f32>().sqrt();
    (f32::from(RADIUS) - far).clamp(0.0, 1.0)
}

/// The box that the cloud can have come to.
fn reached(steps: u64) -> Region {
    let reach = u64::from(RADIUS) + 2 + steps;
    Region::new(Coord::from(CENTRE.map(|c| c - reach)), Extent::cube(2 * reach + 1))
}

/// The same in a dense box.
fn compare<B: Backend>(grid: &Grid<B>, steps: u64) -> Done {
    let region = reached(steps);
    let side = usize::try_from(region.extent.x)?;
    let start = region.start.to_array();
    let place = |x: usize, y: usize, z: usize| x + side * (y + side * z);
    let mut now = vec![0.0f32; side * side * side];
    for (i, voxel) in now.iter_mut().enumerate() {
        let within = [i % side, i / side % side, i / side / side];
        *voxel = begun([0, 1, 2].map(|a| start[a] + within[a] as u64));
    }
    let mut next = now.clone();
    for _ in 0..steps {
        for z in 1..side - 1 {
            for y in 1..side - 1 {
                for x in 1..side - 1 {
                    let at = |i: usize| now[place(x + i % 3 - 1, y + i / 3 % 3 - 1, z + i / 9 - 1)];
                    next[place(x, y, z)] = blown(&std::array::from_fn(at));
                }
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    let sparse = grid.to_vec(region)?;
    let differ = sparse.iter().zip(&now).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let seen = now.iter().filter(|&&v| v > 0.0).count();
    println!("{seen} voxels of cloud; {differ} of {} differ from a dense run", now.len());
    if differ > 0 { Err("the sparse run is not the dense one".into()) } else { Ok(()) }
}

/// The cloud's greatest value along z.
fn picture<B: Backend>(grid: &Grid<B>, steps: u64, path: &str) -> Done {
    let region = reached(steps);
    let side = usize::try_from(region.extent.x)?;
    let mut pixels = vec![0u8; side * side];
    for (i, value) in grid.to_vec(region)?.into_iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
        let grey = (value.clamp(0.0, 1.0).sqrt() * 255.0) as u8;
        let pixel = &mut pixels[i % (side * side)];
        *pixel = grey.max(*pixel);
    }
    let side = u32::try_from(side)?;
    let mut encoder = png::Encoder::new(BufWriter::new(std::fs::File::create(path)?), side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header()?.write_image_data(&pixels)?;
    println!("{path}");
    Ok(())
}
