//! Does a tile cost the same whatever there is of everything else: addresses, resident tiles, threads? And what would a thousand times more cost?

mod batches;
mod decisions;
mod extents;
mod forecast;
mod nothing;
mod pages;
mod plain;
mod sets;
mod threads;

use vastgrid::{Backend, Coord, CudaBackend, Error, HostBackend, SparseArray3D, TileCoord};

use crate::measure::nanoseconds;
use crate::suite::{Context, Failure, On};

/// Reads voxels of resident tiles and adds them up; `None`: of one nothing is there.
type Reads<B> = fn(&SparseArray3D<u8, B>, &[Coord]) -> Option<u64>;

/// What was found, in nanoseconds for each tile, for the forecast.
#[derive(Debug, Default)]
struct Constants {
    hit: Option<f64>,
    miss: Option<f64>,
    decision: Option<f64>,
    tile_bytes: u64,
}

pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let constants = match context.on {
        On::Model => Constants { decision: decisions::run(context)?, ..Constants::default() },
        On::Host => {
            let read: Reads<HostBackend> = |array, voxels| {
                let view = array.frame();
                voxels.iter().try_fold(0, |sum, voxel| Some(sum + u64::from(view.get(*voxel)?)))
            };
            each(context, &|| Ok(HostBackend::new()), 16, 20, Some(read))?
        }
        On::Cuda => {
            context.note("kernels read there: what a voxel costs is not asked of the device".to_owned());
            each(context, &|| Ok(CudaBackend::open(0)?), 21, 23, None)?
        }
    };
    forecast::note(context, &constants);
    Ok(())
}

/// All that is asked of a real backend, with small tiles, and with large ones where there are many.
fn each<B: Backend>(
    context: &mut Context<'_>,
    backend: &dyn Fn() -> Result<B, Failure>,
    small_log2: u32,
    large_log2: u32,
    read: Option<Reads<B>>,
) -> Result<Constants, Failure> {
    let (hit, miss) = extents::run(context, backend, small_log2, read)?;
    sets::run(context, backend, [small_log2, large_log2])?;
    threads::run(context, backend, small_log2, read)?;
    Ok(Constants { hit, miss, decision: None, tile_bytes: 1 << small_log2 })
}

/// Tiles that a request asks for.
const BATCH: usize = 64;

/// Asks for tiles, so many at a time. Returns how many there were already and how many were loaded.
fn ask<B: Backend>(
    array: &SparseArray3D<u8, B>,
    tiles: &[TileCoord],
    batch: usize,
) -> Result<(u64, u64), Error> {
    let mut found = (0, 0);
    for tiles in tiles.chunks(batch) {
        let report = array.request(tiles)?.complete()?;
        found.0 += report.hits;
        found.1 += report.loaded;
    }
    Ok(found)
}

/// Nanoseconds for each tile that is there already.
fn hits<B: Backend>(array: &SparseArray3D<u8, B>, tiles: &[TileCoord], times: u64) -> Result<f64, Failure> {
    let count = tiles.len() as u64;
    let (time, found) = nanoseconds(count * times, || {
        (0..times).try_fold(0, |sum, _| Ok::<_, Error>(sum + ask(array, tiles, 1024)?.0))
    });
    let found = found?;
    if found != count * times {
        return Err(format!("of {} tiles only {found} were there", count * times).into());
    }
    Ok(time)
}

/// Nanoseconds for each tile that has to be loaded; not a number if there was none.
fn misses<B: Backend>(
    array: &SparseArray3D<u8, B>,
    tiles: &[TileCoord],
    batch: usize,
) -> Result<f64, Failure> {
    let (time, found) = nanoseconds(1, || ask(array, tiles, batch));
    let (_, loaded) = found?;
    Ok(if loaded == 0 { f64::NAN } else { time / loaded as f64 })
}
