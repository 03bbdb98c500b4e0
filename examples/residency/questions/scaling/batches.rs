//! What of a miss is deciding, by the size of the batch: all of a request but from when its tiles begin to be loaded until the last of them is in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use vastgrid::{Pool, PoolConfig, SparseArray3D, TileCoord};

use super::super::field;
use super::decisions::{EXTENT_LOG2, Misses, TILE_LOG2};
use super::nothing::{Marks, Nothing, PAGE_BYTES, Timed};
use crate::measure::{median, nanoseconds};
use crate::report::Verdict;
use crate::suite::{Context, Failure};

/// Tiles that a request asks for.
const BATCHES: [usize; 4] = [1, 16, 256, 4096];

const WHOLE: &str = "load and eviction of a tile, by batch";
const DECISION: &str = "of that, deciding";

/// By figure, resident tiles, whether the source only copies, and batch.
type Samples = BTreeMap<(&'static str, u32, bool, usize), Vec<f64>>;

pub(super) fn run(context: &mut Context<'_>, sets: &[u32]) -> Result<(), Failure> {
    let mut samples = Samples::new();
    for round in 0..context.pick(1, 5, 9) {
        for &tiles_log2 in sets {
            for only_copies in [true, false] {
                for batch in BATCHES.into_iter().filter(|&batch| batch <= 1 << (tiles_log2 - 1)) {
                    if context.stops() {
                        break;
                    }
                    let seed = context.seed ^ round << 32;
                    let [whole, decision] = one(tiles_log2, only_copies, batch, seed)?;
                    samples.entry((WHOLE, tiles_log2, only_copies, batch)).or_default().push(whole);
                    samples.entry((DECISION, tiles_log2, only_copies, batch)).or_default().push(decision);
                }
            }
        }
    }
    for ((figure, tiles_log2, only_copies, batch), times) in &samples {
        let source = if *only_copies { "only copies" } else { "any" };
        let settings = [
            ("batch", batch.to_string()),
            ("resident_log2", tiles_log2.to_string()),
            ("source", source.to_owned()),
        ];
        context.row(figure, &settings, ("time", "ns a tile"), times.clone());
    }
    let Some(most) = sets.last() else { return Ok(()) };
    for batch in BATCHES {
        for figure in [DECISION, WHOLE] {
            let Some(times) = samples.get(&(figure, *most, true, batch)) else { continue };
            let what =
                format!("{figure} of {batch}, nanoseconds, 2^{most} tiles resident, no driver and no copy");
            context.verdict(Verdict { what, value: median(times), target: 150.0, at_least: false });
        }
    }
    Ok(())
}

/// A whole miss, and what of it is deciding, in nanoseconds.
fn one(tiles_log2: u32, only_copies: bool, batch: usize, seed: u64) -> Result<[f64; 2], Failure> {
    let marks = Arc::new(Marks::new());
    let config = PoolConfig { budget_bytes: PAGE_BYTES << tiles_log2, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(Nothing::marking(&marks), config)?;
    let source = Timed::new(field::source(EXTENT_LOG2), &marks, only_copies);
    let array = field::array_of(&pool, source, TILE_LOG2, PAGE_BYTES)?;
    let misses = Misses::prepare(&array, tiles_log2, seed)?;
    misses.warm_up(&array, batch)?;
    let (times, loaded) = timed(&array, &marks, misses.others(), batch)?;
    misses.check(loaded)?;
    Ok(times)
}

/// Asks for tiles, so many at a time: nanoseconds for each, what of them is deciding, and how many were loaded.
pub(super) fn timed(
    array: &SparseArray3D<u8, Nothing>,
    marks: &Marks,
    tiles: &[TileCoord],
    batch: usize,
) -> Result<([f64; 2], u64), Failure> {
    let (mut loading_ns, mut loaded) = (0, 0);
    let (whole, done) = nanoseconds(tiles.len() as u64, || {
        tiles.chunks(batch).try_for_each(|tiles| {
            marks.expect(tiles.len());
            loaded += array.request(tiles)?.complete()?.loaded;
            loading_ns += marks.loading_ns();
            Ok::<_, vastgrid::Error>(())
        })
    });
    done?;
    Ok(([whole, whole - loading_ns as f64 / loaded as f64], loaded))
}
