//! More threads: that ask for what is there, that read, and that load.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use vastgrid::{Backend, Coord, Pool, PoolConfig, SparseArray3D, TileCoord};

use super::super::field;
use super::{BATCH, Reads, ask, hits, misses};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

const EXTENT_LOG2: u32 = 40;
const RESIDENT: u64 = 256;

/// By figure and threads: millions of tiles or voxels a second, of all threads together.
type Samples = BTreeMap<(&'static str, usize), Vec<f64>>;

pub(super) fn run<B: Backend>(
    context: &mut Context<'_>,
    backend: &dyn Fn() -> Result<B, Failure>,
    tile_log2: u32,
    read: Option<Reads<B>>,
) -> Result<(), Failure> {
    let all = thread::available_parallelism().map_or(1, usize::from);
    let mut counts: Vec<usize> = (0..16).map(|log2| 1 << log2).filter(|count| *count < all).collect();
    counts.push(all);
    let array_of = |threads: usize| -> Result<SparseArray3D<u8, B>, Failure> {
        let config = PoolConfig { budget_bytes: RESIDENT << tile_log2, threads, ..PoolConfig::default() };
        let pool = Pool::with_config(backend()?, config)?;
        Ok(field::array(&pool, EXTENT_LOG2, tile_log2, 1 << tile_log2)?)
    };
    let sides = field::tiles(EXTENT_LOG2, tile_log2);
    let tiles: Vec<TileCoord> =
        (0..2 * RESIDENT).map(|n| field::nth(TileCoord::default(), sides, n)).collect();
    let (resident, others) = tiles.split_at(tiles.len() / 2);
    let shared = array_of(1)?;
    ask(&shared, resident, BATCH)?;
    let mut random = SplitMix(context.seed);
    let voxels: Vec<Coord> = (0..context.pick(1 << 14, 1 << 18, 1 << 18))
        .map(|_| {
            let tile = resident[usize::try_from(random.below(RESIDENT)).unwrap_or(0)];
            let first = field::first(tile, tile_log2);
            let [x, y, z] = field::shape(tile_log2).map(|side| random.below(side));
            Coord::new(first.x + x, first.y + y, first.z + z)
        })
        .collect();
    let loading: Vec<(usize, SparseArray3D<u8, B>)> =
        counts.iter().map(|count| Ok((*count, array_of(*count)?))).collect::<Result<_, Failure>>()?;
    let (times, mut samples) = (context.pick(100, 2000, 2000), Samples::new());
    for _ in 0..context.pick(5, 15, 41) {
        for (count, array) in &loading {
            if context.stops() {
                break;
            }
            let all = resident.len() as u64 * times * *count as u64;
            let rate = together(*count, all, &|| hits(&shared, resident, times).map(|_| ()))?;
            samples.entry(("request of tiles that are there", *count)).or_default().push(rate);
            if let Some(read) = read {
                let one = || read(&shared, &voxels).map(|_| ()).ok_or_else(|| "a tile is gone".into());
                let rate = together(*count, voxels.len() as u64 * *count as u64, &one)?;
                samples.entry(("read of voxels at random", *count)).or_default().push(rate);
            }
            let time = f64::midpoint(misses(array, resident, BATCH)?, misses(array, others, BATCH)?);
            if time.is_finite() {
                samples.entry(("load and eviction, threads that load", *count)).or_default().push(1e3 / time);
            }
        }
    }
    enter(context, &samples);
    Ok(())
}

/// Runs it in so many threads that begin together; returns millions of `items` a second.
fn together(
    count: usize,
    items: u64,
    one: &(dyn Fn() -> Result<(), Failure> + Sync),
) -> Result<f64, Failure> {
    let barrier = Barrier::new(count);
    let spans = thread::scope(|scope| {
        let timed = || -> Result<(Instant, Instant), Failure> {
            barrier.wait();
            let start = Instant::now();
            one()?;
            Ok((start, Instant::now()))
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(timed)).collect();
        let panicked = |_| Err("a thread that measured ended in a panic".into());
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect::<Result<Vec<_>, _>>()
    })?;
    // From when the first began to when the last was done, as they saw it themselves.
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    let seconds = start.zip(end).map_or(f64::NAN, |(start, end)| (end - start).as_secs_f64());
    Ok(items as f64 / seconds / 1e6)
}

fn enter(context: &mut Context<'_>, samples: &Samples) {
    let mut curves: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for ((figure, count), rates) in samples {
        context.row(figure, &[("threads", count.to_string())], ("rate", "M/s"), rates.clone());
        let rate = median(rates);
        let alone = samples.get(&(*figure, 1)).map_or(rate, |rates| median(rates));
        curves.entry(*figure).or_default().push((*count as f64, rate / alone));
    }
    if !curves.is_empty() {
        let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: false };
        let named = curves.into_iter().map(|(name, points)| (name.to_owned(), points)).collect();
        let axes = (axis("threads"), axis("rate of all together, over that of one"));
        context.plot("scaling_threads", "More threads", axes, named);
    }
}
