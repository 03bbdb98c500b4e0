//! What of a miss is deciding, by the tiles that a page has: a page is decided about once, whatever is in it. Devices give memory by 2 MiB, which are 32 tiles of 64 KiB.

use std::collections::BTreeMap;
use std::sync::Arc;

use vastgrid::{Pool, PoolConfig, SparseArray3D, TileCoord};

use super::super::field;
use super::ask;
use super::batches::timed;
use super::decisions::{EXTENT_LOG2, TILE_LOG2};
use super::nothing::{Marks, Nothing, PAGE_BYTES, Timed};
use crate::measure::{SplitMix, median};
use crate::report::Verdict;
use crate::suite::{Context, Failure};

const WHOLE: &str = "load and eviction of a tile, by tiles a page";
const DECISION: &str = "deciding about a tile, by tiles a page";

/// Tiles of a page.
const PER_PAGE: [u64; 3] = [1, 8, 32];

/// Tiles that a request asks for: whole pages.
const BATCH: usize = 4096;

/// Tiles before those whose loading is timed.
const WARM_UP: u64 = BATCH as u64;

pub(super) fn run(context: &mut Context<'_>, tiles_log2: u32) -> Result<(), Failure> {
    // Where everything is checked, tables of many tiles a page take minutes: not where there are seconds only.
    let (tiles_log2, timed) =
        context.pick((tiles_log2.min(13), 1 << 12), (tiles_log2, 1 << 16), (tiles_log2, 1 << 16));
    let mut samples: BTreeMap<(&str, u64), Vec<f64>> = BTreeMap::new();
    for round in 0..context.pick(1, 5, 9) {
        for per_page in PER_PAGE {
            if context.stops() {
                break;
            }
            let [whole, decision] = one(tiles_log2, per_page, timed, context.seed ^ round << 32)?;
            samples.entry((WHOLE, per_page)).or_default().push(whole);
            samples.entry((DECISION, per_page)).or_default().push(decision);
        }
    }
    for ((figure, per_page), times) in samples {
        let settings = [
            ("tiles_per_page", per_page.to_string()),
            ("batch", BATCH.to_string()),
            ("resident_log2", tiles_log2.to_string()),
        ];
        let what = format!(
            "{figure}: {per_page}, nanoseconds, requests of {BATCH}, 2^{tiles_log2} tiles resident, no driver and no copy"
        );
        context.verdict(Verdict { what, value: median(&times), target: 150.0, at_least: false });
        context.row(figure, &settings, ("time", "ns a tile"), times);
    }
    Ok(())
}

/// A whole miss, and what of it is deciding, in nanoseconds a tile.
fn one(tiles_log2: u32, per_page: u64, count: u64, seed: u64) -> Result<[f64; 2], Failure> {
    let marks = Arc::new(Marks::new());
    let config = PoolConfig { budget_bytes: PAGE_BYTES << tiles_log2, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(Nothing::marking(&marks), config)?;
    let source = Timed::new(field::source(EXTENT_LOG2), &marks, true);
    let array = field::array_of(&pool, source, TILE_LOG2, PAGE_BYTES * per_page)?;
    let mut random = SplitMix(seed);
    let (first, resident) = (random.below(1 << 24), (1 << tiles_log2) / per_page);
    for page in (first..first + resident).step_by(BATCH) {
        let pages = page..(page + BATCH as u64).min(first + resident);
        let tiles: Vec<_> = pages.flat_map(|page| tiles_of(&array, page)).collect();
        ask(&array, &tiles, BATCH)?;
    }
    // In no order: what is next in memory is not what is next in time.
    let mut others: Vec<_> = (first + resident..first + resident + (count + WARM_UP) / per_page).collect();
    random.shuffle(&mut others);
    let tiles: Vec<_> = others.iter().flat_map(|&page| tiles_of(&array, page)).collect();
    let (before, tiles) = tiles.split_at(BATCH);
    ask(&array, before, BATCH)?;
    let (times, loaded) = timed(&array, &marks, tiles, BATCH)?;
    if loaded != count {
        return Err(format!("of {count} tiles, {per_page} a page, {loaded} were loaded").into());
    }
    Ok(times)
}

/// The tiles of the page of that number, x fastest.
fn tiles_of(array: &SparseArray3D<u8, Nothing>, page: u64) -> Vec<TileCoord> {
    let (sides, shape) = (array.layout().pages(), array.layout().page_shape());
    let page = field::nth(TileCoord::default(), sides.to_array(), page);
    let first = TileCoord::new(page.x * shape.x, page.y * shape.y, page.z * shape.z);
    (0..array.layout().tiles_per_page()).map(|n| field::nth(first, shape.to_array(), n)).collect()
}
