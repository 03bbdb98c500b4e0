//! A volume of 64 TiB on any machine: reserved as addresses, computed where somebody looks.
//!
//! `cargo run --example 01_reserve_and_read` prints the size of the reservation, a few voxels far apart, a sum over a box that spans several tiles,
//! the mean of one tile read at the speed of a slice, and what the pool did: a few tiles loaded, less than a MiB of memory.

use std::error::Error;

use vastgrid::source::Procedural;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, Tile};

fn main() -> Result<(), Box<dyn Error>> {
    // 2^46 voxels of one byte. A source computes voxels when a tile is loaded, and never before.
    let extent = Extent::new(1 << 16, 1 << 15, 1 << 15);
    let source = Procedural::new(extent, |c: Coord| u8::try_from((c.x ^ c.y ^ c.z) & 0xff).unwrap_or(0));

    // All arrays of a pool live within its budget of physical memory: here 16 MiB.
    let pool = Pool::new(HostBackend::new(), 16 << 20)?;
    let array = SparseArray3D::builder(&pool, source).build()?;
    let layout = array.layout();
    println!("reserved {} voxels = {} TiB of addresses", extent, layout.reserved_bytes() >> 40);
    println!("tiles of {} voxels, {} bytes each", layout.tile_shape(), layout.tile_bytes());

    // The simplest way to read: one voxel, loaded if need be.
    for at in [[0, 0, 0], [65_535, 32_767, 32_767], [12_345, 23_456, 31_000]] {
        println!("voxel {at:?} is {}", array.get(at)?);
    }

    // A box into a dense vector, x fastest. It may be larger than the budget.
    let region = Region::new(Coord::new(40_000, 20_000, 30_000), Extent::new(100, 50, 10));
    let sum: u64 = array.to_vec(region)?.into_iter().map(u64::from).sum();
    println!("the {} voxels from {} on sum up to {sum}", region.extent, region.start);

    // The fast way: ask for tiles first, then read within a frame. Nothing that a frame sees loses its memory before the frame ends.
    let tile = layout.tile_of(region.start);
    let _report = array.request(&[tile])?.complete()?;
    let frame = array.frame();
    if let Tile::Resident(voxels) = frame.tile(tile) {
        let sum: u64 = voxels.iter().copied().map(u64::from).sum();
        println!("{tile} has a mean of {}", sum / layout.tile_voxels());
    }

    // An accessor remembers the last tile: for loops that stay near. Where nothing is resident, it says so instead of reading.
    let mut accessor = frame.accessor();
    println!("in the frame, {} is {:?}", region.start, accessor.get(region.start));
    println!(
        "in the frame, (1000, 1000, 1000) is {:?}: nobody asked for it",
        accessor.get([1000, 1000, 1000])
    );
    drop(frame);

    println!("{}", pool.stats());
    Ok(())
}
