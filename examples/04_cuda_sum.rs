//! Streams a volume of one tebibyte through 8 GiB of a GPU's memory, and sums it there.
//!
//! Expect: the device, a line for every part of the volume with its rate, and the sum, which is compared with the same sum computed on the CPU. By default a
//! thirty-second of the volume; `cargo run --release --example 04_cuda_sum -- 32` streams all of it. Without a GPU it says so.

use std::time::Instant;

use rayon::prelude::*;
use vastgrid::cuda::{Arg, DeviceBuffer, Module, Stream, kernels};
use vastgrid::source::Procedural;
use vastgrid::{Coord, CudaBackend, Error, Extent, Pool, Region, SparseArray3D};

/// 8192 x 8192 x 8192 voxels of two bytes: one tebibyte.
const EXTENT: Extent = Extent::cube(1 << 13);
/// What is streamed and summed at a time: 2 GiB.
const SLAB: Extent = Extent::new(1 << 13, 1 << 10, 1 << 7);

#[expect(clippy::cast_possible_truncation, reason = "the low bits")]
fn value(c: Coord) -> u16 {
    (c.x.wrapping_mul(7) ^ c.y.wrapping_mul(13) ^ c.z.wrapping_mul(31)) as u16 & 0x0fff
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parts: u64 = std::env::args().nth(1).map_or(Ok(1), |parts| parts.parse())?;
    let backend = match CudaBackend::open(0) {
        Ok(backend) => backend,
        Err(error) => {
            println!("nothing to show here: {error}");
            return Ok(());
        }
    };
    println!("{}", backend.device());
    let stream = Stream::new(backend.device())?;
    let module = Module::load(backend.device(), kernels::REDUCE)?;
    let (reduce, fold) = (module.function("vg_reduce_u16")?, module.function("vg_fold_u64")?);

    let pool = Pool::new(backend, 8 << 30)?;
    let array = SparseArray3D::builder(&pool, Procedural::new(EXTENT, value)).build()?;
    println!(
        "{} GiB reserved at {:#x}, {array:?}",
        array.layout().reserved_bytes() >> 30,
        array.base_address()
    );

    let depth = (EXTENT.z * parts.min(32) / 32).max(SLAB.z);
    let (start, mut sum, mut voxels) = (Instant::now(), 0u64, 0u64);
    for slab in 0..depth / SLAB.z * (EXTENT.y / SLAB.y) {
        let (y, z) = (slab % (EXTENT.y / SLAB.y) * SLAB.y, slab / (EXTENT.y / SLAB.y) * SLAB.z);
        sum += sum_of(&pool, &array, Region::new(Coord::new(0, y, z), SLAB), &stream, (&reduce, &fold))?;
        voxels += SLAB.x * SLAB.y * SLAB.z;
        let bytes = (voxels * 2) as f64;
        println!(
            "{slab:3}: {:6.1} GiB, {:.1} GB/s",
            bytes / (1u64 << 30) as f64,
            bytes / start.elapsed().as_secs_f64() / 1e9
        );
    }

    let plane = |z: u64| -> u64 {
        (0..EXTENT.y).map(|y| (0..EXTENT.x).map(|x| u64::from(value(Coord::new(x, y, z)))).sum::<u64>()).sum()
    };
    let expected: u64 = (0..depth).into_par_iter().map(plane).sum();
    println!("sum {sum}, on the CPU {expected}; {}", pool.stats());
    if sum == expected { Ok(()) } else { Err("the sums differ".into()) }
}

/// Makes a region resident and has the device sum it.
fn sum_of(
    pool: &Pool<CudaBackend>,
    array: &SparseArray3D<u16, CudaBackend>,
    region: Region,
    stream: &Stream,
    (reduce, fold): (&vastgrid::cuda::Function, &vastgrid::cuda::Function),
) -> Result<u64, Error> {
    /// What the kernels write of a tile: sum, voxels, smallest, largest.
    const RESULT_BYTES: u64 = 32;
    let tiles: Vec<_> = array.layout().tiles_in(region).collect();
    let ids: Vec<u64> = tiles.iter().filter_map(|&t| array.layout().tile_id(t)).map(|id| id.0).collect();
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let list = DeviceBuffer::new(stream.device(), u64::from(count) * 8)?;
    list.copy_from_host(stream, bytemuck::cast_slice(&ids))?;
    let results = DeviceBuffer::new(stream.device(), (u64::from(count) + 1) * RESULT_BYTES)?;

    array.request(&tiles)?.complete()?;
    let frame = pool.device_frame();
    let view = frame.view(array, stream)?;
    let (list, parts) = (list.address(), results.address());
    let total = parts + u64::from(count) * RESULT_BYTES;
    let args = [Arg::new(&view), Arg::new(&list), Arg::new(&count), Arg::new(&parts)];
    #[expect(unsafe_code, reason = "kernels are launched on trust")]
    // SAFETY: the arguments are those of `vg_reduce_u16`; the frame keeps the tiles, and the buffers live until the result is copied below.
    unsafe { reduce.launch(stream, [count.min(4096), 1, 1], [256, 1, 1], 0, &args) }?;
    let args = [Arg::new(&parts), Arg::new(&count), Arg::new(&total)];
    #[expect(unsafe_code, reason = "kernels are launched on trust")]
    // SAFETY: the arguments are those of `vg_fold_u64`; the buffer as above.
    unsafe { fold.launch(stream, [1; 3], [256, 1, 1], 0, &args) }?;
    frame.end()?;
    let mut result = [0u64; 4];
    results.copy_to_host_at(
        stream,
        u64::from(count) * RESULT_BYTES,
        bytemuck::cast_slice_mut(&mut result),
    )?;
    Ok(result[0])
}
