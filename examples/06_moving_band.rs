//! A cloud that spreads and is blown through a grid of 2^40 voxels: each step is computed where the cloud is and on the tiles around, in a budget of 64 MiB. Then the same steps in a dense box,
//! compared voxel by voxel; and a picture.
//!
//! `cargo run --release --example 06_moving_band -- [STEPS] [PICTURE.png]`

use std::error::Error;
use std::io::BufWriter;
use std::time::Instant;

use vastgrid::compute::{self, Beyond, Boundary, Neighbours, TileSet};
use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D};

const EXTENT: Extent = Extent::new(1 << 14, 1 << 13, 1 << 13);
const TILE: u64 = 16;
/// Where the cloud begins, and its radius.
const CENTRE: [u64; 3] = [8000, 4000, 4000];
const RADIUS: u16 = 12;
/// Less than that is nothing.
const LEAST: f32 = 1e-4;

type Grid = SparseArray3D<f32>;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let steps = args.first().map_or(Ok(40), |text| text.parse::<u64>())?;
    let pool = Pool::new(HostBackend::new(), 64 << 20)?;
    let grid = || SparseArray3D::builder(&pool, Fill::new(EXTENT, 0.0f32)).tile([TILE; 3]).writable().build();
    let (mut now, mut next): (Grid, Grid) = (grid()?, grid()?);
    begin(&mut now)?;

    let (start, mut computed) = (Instant::now(), 0);
    for _ in 0..steps {
        // One voxel a step: what a tile holds reaches those around it, and no farther.
        let band = compute::written(&now).dilate(Neighbours::Corners, 1, Beyond::Out);
        compute::stencil27_into(&mut next.writer()?, &now, &band, Boundary::Fill(0.0), blown)?;
        forget_empty(&next, &band)?;
        computed += band.len();
        // What the older grid holds is of the step before.
        now.discard_written(&now.written_tiles())?;
        now.evict(Region::whole(EXTENT))?;
        std::mem::swap(&mut now, &mut next);
    }
    let seconds = start.elapsed().as_secs_f64();
    let voxels = computed as f64 * (TILE * TILE * TILE) as f64;
    let stats = pool.stats();
    println!(
        "{steps} steps over {computed} tiles: {:.1} ns a voxel; {} tiles hold the cloud now, {:.1} MiB of memory for 4 TiB of addresses, {} tiles went to the scratch file",
        seconds * 1e9 / voxels,
        now.written_tiles().len(),
        stats.used_bytes as f64 / f64::from(1 << 20),
        stats.written_back
    );
    compare(&now, steps)?;
    if let Some(path) = args.get(1) {
        picture(&now, steps, path)?;
    }
    Ok(())
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

fn begin(grid: &mut Grid) -> Result<(), Box<dyn Error>> {
    let reach = u64::from(RADIUS) + 1;
    let start = Coord::from(CENTRE.map(|c| c - reach));
    let region = Region::new(start, Extent::cube(2 * reach + 1));
    let tiles: Vec<_> = grid.layout().tiles_in(region).collect();
    grid.writer()?.for_each_tile(&tiles, |tile, voxels| {
        for (i, voxel) in (0..).zip(voxels) {
            let within = [i % TILE, i / TILE % TILE, i / TILE / TILE];
            let corner = [tile.x, tile.y, tile.z];
            *voxel = begun([0, 1, 2].map(|a| corner[a] * TILE + within[a]));
        }
    })?;
    Ok(())
}

/// Tiles of the band that nothing came to are as they were: the fill value.
fn forget_empty(grid: &Grid, band: &TileSet) -> Result<(), Box<dyn Error>> {
    let empty: Vec<_> = {
        let view = grid.frame();
        let nothing = |voxels: &[f32]| voxels.iter().all(|&v| v == 0.0);
        let is_empty = |tile| matches!(view.tile(tile), vastgrid::Tile::Resident(voxels) if nothing(voxels));
        band.iter().filter(|&tile| is_empty(tile)).collect()
    };
    grid.discard_written(&empty)?;
    Ok(())
}

/// The box that the cloud can have come to.
fn reached(steps: u64) -> Region {
    let reach = u64::from(RADIUS) + 2 + steps;
    Region::new(Coord::from(CENTRE.map(|c| c - reach)), Extent::cube(2 * reach + 1))
}

/// The same in a dense box.
fn compare(grid: &Grid, steps: u64) -> Result<(), Box<dyn Error>> {
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
fn picture(grid: &Grid, steps: u64, path: &str) -> Result<(), Box<dyn Error>> {
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
