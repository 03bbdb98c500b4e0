//! Owns what this crate's own policy does, on the model backend: an array is asked for what pictures want, or a recorded flight is replayed. A page is a tile of one byte, and a budget so many bytes.

use vastgrid::backend::ModelConfig;
use vastgrid::source::Procedural;
use vastgrid::trace::{ReplayOptions, ReplaySteps, Trace};
use vastgrid::{Coord, Extent, ModelBackend, Pool, PoolConfig, SparseArray3D, TileCoord};

use crate::suite::Failure;

use super::traces::Asked;
use super::{Moved, recorded};

/// What is moved for all pictures, of each of which `within` has as much as the pages hold.
///
/// # Errors
/// An array that does not do as it says.
pub(super) fn as_built(asked: &Asked, within: &[&[u32]], pages: usize) -> Result<Moved, Failure> {
    match &asked.recorded {
        Some(trace) => replayed(trace, within, pages, asked.page_bytes),
        None => requested(within, pages, asked.distinct),
    }
}

/// One request a picture.
fn requested(within: &[&[u32]], pages: usize, distinct: usize) -> Result<Moved, Failure> {
    let backend = ModelBackend::new(ModelConfig { granularity_bytes: 1, ..ModelConfig::default() });
    let config = PoolConfig { budget_bytes: pages as u64, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(backend, config)?;
    let source = Procedural::new(Extent::new(distinct as u64, 1, 1), |c: Coord| c.x.to_le_bytes()[0]);
    let array = SparseArray3D::builder(&pool, source).tile([1, 1, 1]).page([1, 1, 1]).build()?;
    let mut moved = Moved::default();
    for picture in within {
        let tiles: Vec<_> = picture.iter().map(|&page| TileCoord::new(page.into(), 0, 0)).collect();
        let done = array.request(&tiles)?.complete()?;
        if done.hits + done.loaded != tiles.len() as u64 {
            return Err(format!("{} tiles were asked for, but became {done:?}", tiles.len()).into());
        }
        moved.enter(done.hits + done.loaded, done.loaded);
    }
    if pool.stats().used_bytes > pages as u64 {
        return Err(format!("{} pages are there, of a budget of {pages}", pool.stats().used_bytes).into());
    }
    Ok(moved)
}

/// All of each picture that the budget holds is wanted, and loaded.
fn replayed(trace: &Trace, within: &[&[u32]], pages: usize, page_bytes: u64) -> Result<Moved, Failure> {
    let coarsest = trace.levels.last().ok_or("a trace without levels")?;
    let (extent, tile) = (coarsest.extent.to_array(), coarsest.tile.to_array());
    let pinned: u64 = (0..3).map(|a| extent[a].div_ceil(tile[a].max(1))).product();
    let options =
        ReplayOptions { budget_bytes: Some((pages as u64 + pinned) * page_bytes), steps: ReplaySteps::All };
    let mut moved = Moved::default();
    for (outcome, picture) in recorded::within(trace, pages).replay(&options)?.iter().zip(within) {
        let loaded = outcome.loaded.len() as u64;
        if outcome.hits + loaded < picture.len() as u64 {
            let (hits, most) = (outcome.hits, picture.len());
            return Err(format!("a picture has {hits} hits and {loaded} loads, but {most} pages fit").into());
        }
        moved.enter(picture.len() as u64, loaded);
    }
    Ok(moved)
}
