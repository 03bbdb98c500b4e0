//! The same tiles in ever larger extents: what one costs that is there, one that has to be loaded, and a voxel that is read.

use std::collections::BTreeMap;

use vastgrid::{Backend, Coord, Layout, Pool, PoolConfig, SparseArray3D, TileCoord};

use super::super::field;
use super::plain::Plain;
use super::{BATCH, Reads, ask, hits, misses};
use crate::measure::{SplitMix, median, nanoseconds, ratios};
use crate::report::{Axis, Verdict};
use crate::suite::{Context, Failure};

/// Tiles that fit into the budget; twice as many are asked for.
const RESIDENT: usize = 256;

/// Where those tiles lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Together, as what is looked at does.
    Box,
    /// Anywhere, as never happens: every tile has its bits in a memory page of their own.
    Scattered,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Scattered => "scattered",
        }
    }
}

/// An array of one extent, and what is asked of it.
struct Subject<B: Backend> {
    array: SparseArray3D<u8, B>,
    asked: Asked,
}

/// The tiles and voxels of one extent that are asked for.
struct Asked {
    extent_log2: u32,
    tile_log2: u32,
    layout: Layout,
    tiles: Vec<TileCoord>,
    /// Voxels of the first half of the tiles, and what they add up to.
    voxels: Vec<Coord>,
    sum: u64,
}

impl<B: Backend> Subject<B> {
    fn new(
        pool: &Pool<B>,
        (extent_log2, tile_log2): (u32, u32),
        place: Place,
        reads: usize,
        random: &mut SplitMix,
    ) -> Result<Self, Failure> {
        let array = field::array(pool, extent_log2, tile_log2, 1 << tile_log2)?;
        let all = field::tiles(extent_log2, tile_log2);
        let tiles = match place {
            Place::Box => {
                let [x, y, z] = all.map(|tiles| random.below(tiles.saturating_sub(8)));
                (0..2 * RESIDENT as u64).map(|n| field::nth(TileCoord::new(x, y, z), [8, 8, 8], n)).collect()
            }
            Place::Scattered => {
                // An odd stride meets no tile twice.
                let (first, stride) = (random.next(), random.next() | 1);
                let count = all.iter().product::<u64>();
                let number = |n: u64| first.wrapping_add(n.wrapping_mul(stride)) % count;
                (0..2 * RESIDENT as u64)
                    .map(|n| field::nth(TileCoord::default(), all, number(n)))
                    .collect::<Vec<_>>()
            }
        };
        let shape = field::shape(tile_log2);
        let mut sum = 0;
        let voxels = (0..reads)
            .map(|_| {
                let first = field::first(
                    tiles[usize::try_from(random.below(RESIDENT as u64)).unwrap_or(0)],
                    tile_log2,
                );
                sum += u64::from(field::value(first));
                let [x, y, z] = shape.map(|side| random.below(side));
                Coord::new(first.x + x, first.y + y, first.z + z)
            })
            .collect();
        let layout = array.layout().clone();
        Ok(Self { array, asked: Asked { extent_log2, tile_log2, layout, tiles, voxels, sum } })
    }

    /// One turn: a hit, a miss, a read, in nanoseconds each.
    fn turn(&self, times: u64, read: Option<Reads<B>>) -> Result<[f64; 3], Failure> {
        let Asked { tiles, voxels, sum: expected, .. } = &self.asked;
        let (resident, others) = tiles.split_at(RESIDENT);
        // It has all of the memory after this, and has been through what is measured.
        ask(&self.array, resident, RESIDENT)?;
        misses(&self.array, others, BATCH)?;
        misses(&self.array, resident, BATCH)?;
        hits(&self.array, resident, 2)?;
        let hit = hits(&self.array, resident, times)?;
        let mut voxel = f64::NAN;
        if let Some(read) = read {
            read(&self.array, voxels);
            let (time, sum) = nanoseconds(voxels.len() as u64, || read(&self.array, voxels));
            check(sum, *expected)?;
            voxel = time;
        }
        let miss = f64::midpoint(misses(&self.array, others, BATCH)?, misses(&self.array, resident, BATCH)?);
        Ok([hit, miss, voxel])
    }
}

fn check(sum: Option<u64>, expected: u64) -> Result<(), Failure> {
    if sum == Some(expected) {
        return Ok(());
    }
    Err(format!("voxels add up to {sum:?}, and should to {expected}").into())
}

impl Asked {
    /// The same in memory without a library: a miss and a read, in nanoseconds each.
    fn turn_plain(&self, plain: &mut Plain) -> Result<[f64; 2], Failure> {
        let valued = |tiles: &[TileCoord]| -> Vec<_> {
            tiles.iter().map(|&tile| (tile, field::value(field::first(tile, self.tile_log2)))).collect()
        };
        let (resident, others) = self.tiles.split_at(RESIDENT);
        // As those of arrays: it has been through what is measured.
        plain.swap(&valued(others))?;
        plain.swap(&valued(resident))?;
        let miss = f64::midpoint(plain.swap(&valued(others))?, plain.swap(&valued(resident))?);
        let reads = plain.reads(&self.voxels).ok_or("a voxel that is asked for has no memory")?;
        reads.sum();
        let (time, sum) = nanoseconds(self.voxels.len() as u64, || reads.sum());
        check(sum, self.sum)?;
        Ok([miss, time])
    }
}

/// What is measured in a turn.
const FIGURES: [(&str, &str); 3] = [
    ("request of a tile that is there", "ns a tile"),
    ("load and eviction of a tile", "ns a tile"),
    ("read of a voxel at random", "ns a voxel"),
];

/// The same without a library, of the last two.
const PLAIN: [&str; 2] = ["plain memory moved and filled", "plain memory read at random"];

/// Returns what a hit and a miss cost in the largest extent.
pub(super) fn run<B: Backend>(
    context: &mut Context<'_>,
    backend: &dyn Fn() -> Result<B, Failure>,
    tile_log2: u32,
    read: Option<Reads<B>>,
) -> Result<(Option<f64>, Option<f64>), Failure> {
    let extents = context.pick(vec![32, 40, 46], vec![30, 34, 38, 42, 46], vec![30, 34, 38, 42, 46]);
    // Smaller ones have too few tiles to choose from.
    let extents: Vec<u32> = extents.into_iter().map(|log2| log2.max(tile_log2 + 12)).collect();
    let mut random = SplitMix(context.seed);
    let (mut samples, mut plain_samples) = (Samples::new(), Samples::new());
    let reads = context.pick(1 << 14, 1 << 16, 1 << 16);
    let times = context.pick(50, 200, 200);
    // One after the other: a process has no addresses for two of the largest.
    for place in [Place::Box, Place::Scattered] {
        // All arrays have the same memory in turn, as it makes a difference of a tenth which one has what.
        let config =
            PoolConfig { budget_bytes: (RESIDENT as u64) << tile_log2, threads: 1, ..PoolConfig::default() };
        let pool = Pool::with_config(backend()?, config)?;
        let mut subjects = Vec::new();
        for &extent_log2 in &extents {
            subjects.push(Subject::new(&pool, (extent_log2, tile_log2), place, reads, &mut random)?);
        }
        for round in 0..context.pick(9, 41, 201) {
            if context.stops() {
                break;
            }
            random.shuffle(&mut subjects);
            for subject in &subjects {
                for (figure, time) in subject.turn(times, read)?.into_iter().enumerate() {
                    if round > 0 && time.is_finite() {
                        samples.entry((place, figure, subject.asked.extent_log2)).or_default().push(time);
                    }
                }
            }
        }
        // Where the processor reads the memory, what the same addresses cost without us. The arrays are gone by then, and their addresses free.
        if read.is_none() {
            continue;
        }
        let asked: Vec<_> = subjects.into_iter().map(|subject| subject.asked).collect();
        drop(pool);
        let mut plains = Vec::new();
        for asked in asked {
            plains.push((Plain::new(&asked.layout)?, asked));
        }
        // Here the memory is between turns: beside the smallest, as a process has no addresses for two of the largest.
        let Some((_, smallest)) = plains.iter().min_by_key(|(_, asked)| asked.extent_log2) else { continue };
        let (home_tiles, mut home) = (smallest.tiles[..RESIDENT].to_vec(), Plain::new(&smallest.layout)?);
        home_tiles.iter().try_for_each(|&tile| home.map(tile))?;
        for round in 0..context.pick(9, 41, 201) {
            if context.stops() {
                break;
            }
            random.shuffle(&mut plains);
            for (plain, asked) in &mut plains {
                plain.take(&mut home, &asked.tiles[..RESIDENT])?;
                for (figure, time) in asked.turn_plain(plain)?.into_iter().enumerate() {
                    if round > 0 {
                        plain_samples.entry((place, figure + 1, asked.extent_log2)).or_default().push(time);
                    }
                }
                home.take(plain, &home_tiles)?;
            }
        }
    }
    enter(context, &samples, &plain_samples);
    let largest = extents.last().copied().unwrap_or_default();
    let of = |figure| samples.get(&(Place::Box, figure, largest)).map(|times| median(times));
    Ok((of(0), of(1)))
}

/// What was measured, by the logarithm of a size.
type BySize<'a> = Vec<(u32, &'a [f64])>;

/// Times, by where tiles lie, figure and extent.
type Samples = BTreeMap<(Place, usize, u32), Vec<f64>>;

fn enter(context: &mut Context<'_>, samples: &Samples, plain_samples: &Samples) {
    for ((place, figure, extent_log2), times) in plain_samples {
        let settings = [("extent_log2", extent_log2.to_string()), ("tiles", place.name().to_owned())];
        context.row(PLAIN[figure - 1], &settings, ("time", FIGURES[*figure].1), times.clone());
    }
    let mut curves: BTreeMap<(Place, usize), BySize<'_>> = BTreeMap::new();
    for ((place, figure, extent_log2), times) in samples {
        let settings = [("extent_log2", extent_log2.to_string()), ("tiles", place.name().to_owned())];
        let (case, unit) = FIGURES[*figure];
        context.row(case, &settings, ("time", unit), times.clone());
        curves.entry((*place, *figure)).or_default().push((*extent_log2, times));
    }
    for ((place, figure), extents) in &curves {
        // Each over the smallest in the same turn: what the machine did then, it did to both.
        let relative: Vec<f64> =
            extents.iter().map(|(_, times)| median(&ratios(times, extents[0].1))).collect();
        let (least, most) =
            relative.iter().fold((f64::INFINITY, 0.0f64), |(least, most), r| (least.min(*r), most.max(*r)));
        context.verdict(Verdict {
            what: format!(
                "{}, {} tiles: dearest extent over cheapest, 2^{} to 2^{} bytes",
                FIGURES[*figure].0,
                place.name(),
                extents[0].0,
                extents[extents.len() - 1].0
            ),
            value: most / least,
            target: 1.05,
            at_least: false,
        });
        // What grows there as well is not ours: the difference to it, over the smallest extent's time.
        let first = median(extents[0].1);
        let plain =
            |extent_log2| plain_samples.get(&(*place, *figure, extent_log2)).map(|times| median(times));
        let ours: Vec<f64> = extents
            .iter()
            .filter_map(|&(log2, times)| {
                let grown = median(times) - first - (plain(log2)? - plain(extents[0].0)?);
                Some(1.0 + grown / first)
            })
            .collect();
        if let Some(value) = ours.iter().copied().reduce(f64::max) {
            context.verdict(Verdict {
                what: format!(
                    "{}, {} tiles: dearest extent over 2^{}, less what plain memory at the same places costs more",
                    FIGURES[*figure].0,
                    place.name(),
                    extents[0].0,
                ),
                value,
                target: 1.05,
                at_least: false,
            });
        }
    }
    if !curves.is_empty() {
        let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: true };
        let named = curves.iter().map(|((place, figure), extents)| {
            let points =
                extents.iter().map(|(log2, times)| (f64::from(*log2).exp2(), median(times))).collect();
            (format!("{}, {}", FIGURES[*figure].0, place.name()), points)
        });
        let title = "The same tiles in ever larger extents";
        let axes = (axis("extent (bytes)"), axis("time (ns)"));
        context.plot("scaling_extent", title, axes, named.collect());
    }
}
