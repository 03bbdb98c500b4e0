//! Ever more tiles resident at once: what one costs that is there, and one that takes another's place.

use std::collections::BTreeMap;
use std::hint::black_box;

use vastgrid::{Backend, Pool, PoolConfig, TileCoord};

use super::super::field;
use super::{ask, hits, misses};
use crate::measure::{SplitMix, median, nanoseconds, ratios};
use crate::process;
use crate::report::{Axis, Verdict};
use crate::suite::{Context, Failure, On};

const EXTENT_LOG2: u32 = 44;

/// What is measured of each.
const FIGURES: [&str; 5] = [
    "first load of a tile",
    "request of a tile that is there",
    "load and eviction of a tile",
    "the same bytes into a recycled buffer",
    "load and eviction of a tile, beyond its bytes",
];
/// Those that must not grow on the host, and on a device, where bytes go by themselves. Writing bytes becomes dearer by itself once they fit into no cache.
const KEPT_HOST: [usize; 2] = [1, 4];
const KEPT_CUDA: [usize; 2] = [1, 2];

/// By size of a tile, figure and size of the set.
type Samples = BTreeMap<(u32, usize, u32), Vec<f64>>;

pub(super) fn run<B: Backend>(
    context: &mut Context<'_>,
    backend: &dyn Fn() -> Result<B, Failure>,
    tiles_log2: [u32; 2],
) -> Result<(), Failure> {
    let available = match context.on {
        On::Cuda => backend()?.available_bytes()?.unwrap_or(0),
        _ => process::available_bytes()?,
    };
    // Half of what there is, at most; the rest is others'.
    let fitting = (available / 2).checked_ilog2().unwrap_or(0);
    let most = context.pick(26, 30, 33).min(fitting);
    let least = least_log2(context.on);
    let step = context.pick(2, 1, 1);
    let mut samples = Samples::new();
    for round in 0..context.pick(3, 5, 5) {
        for tile_log2 in tiles_log2 {
            for set_log2 in (least..=most.max(least + 2)).step_by(step) {
                if context.stops() {
                    break;
                }
                let found = one(context, backend()?, (tile_log2, set_log2), round)?;
                for (figure, time) in found.into_iter().enumerate().filter(|(_, time)| time.is_finite()) {
                    samples.entry((tile_log2, figure, set_log2)).or_default().push(time);
                }
            }
        }
    }
    enter(context, &samples);
    Ok(())
}

/// The smallest set: some tiles, however large they are.
fn least_log2(on: On) -> u32 {
    if on == On::Cuda { 28 } else { 24 }
}

/// One size of the set. By itself, since memory is limited, and mappings may be: what one array has another has not.
fn one<B: Backend>(
    context: &Context<'_>,
    backend: B,
    (tile_log2, set_log2): (u32, u32),
    round: u64,
) -> Result<[f64; FIGURES.len()], Failure> {
    let config = PoolConfig { budget_bytes: 1 << set_log2, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(backend, config)?;
    let array = field::array(&pool, EXTENT_LOG2, tile_log2, 1 << tile_log2)?;
    let sides = field::tiles(EXTENT_LOG2, tile_log2);
    let mut random = SplitMix(context.seed ^ round << 32 ^ u64::from(set_log2));
    let first = random.below(sides.iter().product::<u64>() / 2);
    let tiles = |from: u64, count: u64| -> Vec<TileCoord> {
        (from..from + count).map(|n| field::nth(TileCoord::default(), sides, n)).collect()
    };
    let count = 1u64 << (set_log2 - tile_log2);
    // The same whatever the set, and no more than a quarter of the smallest.
    let batch = 1 << (least_log2(context.on) - tile_log2 - 2).min(6);
    let load = misses(&array, &tiles(first, count), batch)?;
    // Those that are there in no order, as many each time.
    let mut resident = array.resident_tiles();
    random.shuffle(&mut resident);
    resident.truncate(1 << 14);
    let times = (1 << 15) / resident.len().max(1) as u64;
    hits(&array, &resident, 1)?;
    let hit = hits(&array, &resident, times.max(1))?;
    // Once around a little, so that what is made once is made.
    ask(&array, &tiles(first + count, 64), batch)?;
    let others = tiles(first + count + 64, context.pick(256, 1024, 4096));
    let miss = misses(&array, &others, batch)?;
    drop((array, pool));
    let plain = if context.on == On::Cuda {
        f64::NAN
    } else {
        plain((tile_log2, set_log2), others.len(), &mut random)?
    };
    Ok([load, hit, miss, plain, miss - plain])
}

/// What writing a tile's bytes costs where nothing is managed: into one of as many buffers, in no order.
fn plain((tile_log2, set_log2): (u32, u32), tiles: usize, random: &mut SplitMix) -> Result<f64, Failure> {
    // What fits into no cache is all alike.
    let (bytes, tile) = (1usize << set_log2.min(28), 1usize << tile_log2);
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes)?;
    memory.resize(bytes, 1u8);
    let mut buffers: Vec<&mut [u8]> = memory.chunks_exact_mut(tile).collect();
    random.shuffle(&mut buffers);
    let (time, ()) = nanoseconds(tiles as u64, || {
        for n in 0..tiles {
            let buffer = n % buffers.len();
            black_box(&mut *buffers[buffer]).fill(n.to_le_bytes()[0]);
        }
    });
    Ok(time)
}

/// What was measured, by the logarithm of a size.
type BySize<'a> = Vec<(u32, &'a [f64])>;

fn enter(context: &mut Context<'_>, samples: &Samples) {
    let mut curves: BTreeMap<(u32, usize), BySize<'_>> = BTreeMap::new();
    for ((tile_log2, figure, set_log2), times) in samples {
        let settings = [("set_log2", set_log2.to_string()), ("tile_bytes", (1u64 << tile_log2).to_string())];
        context.row(FIGURES[*figure], &settings, ("time", "ns a tile"), times.clone());
        curves.entry((*tile_log2, *figure)).or_default().push((*set_log2, times));
    }
    let kept = if context.on == On::Cuda { KEPT_CUDA } else { KEPT_HOST };
    for ((tile_log2, figure), sets) in curves.iter().filter(|((_, figure), _)| kept.contains(figure)) {
        let (least, most) = (sets[0], sets[sets.len() - 1]);
        // What is left of a small difference between two large figures may be nothing, or less.
        if least.1.iter().chain(most.1).any(|&time| time <= 0.0) {
            context.note(format!(
                "{}, {} KiB: a difference that noise makes negative, so that nothing is said of how it grows",
                FIGURES[*figure],
                (1u64 << tile_log2) >> 10
            ));
            continue;
        }
        context.verdict(Verdict {
            what: format!(
                "{}, {} KiB: 2^{} bytes resident over 2^{}",
                FIGURES[*figure],
                (1u64 << tile_log2) >> 10,
                most.0,
                least.0
            ),
            value: median(&ratios(most.1, least.1)),
            target: 1.1,
            at_least: false,
        });
    }
    if !curves.is_empty() {
        let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: true };
        let named = curves.iter().map(|((tile_log2, figure), sets)| {
            let points = sets.iter().map(|(log2, times)| (f64::from(*log2).exp2(), median(times))).collect();
            (format!("{}, {} KiB", FIGURES[*figure], (1u64 << tile_log2) >> 10), points)
        });
        let title = "Ever more tiles resident at once";
        let axes = (axis("resident (bytes)"), axis("time for a tile (ns)"));
        context.plot("scaling_working_set", title, axes, named.collect());
    }
}
