//! What deciding costs, apart from every call of a system and every copy: up to a million tiles of 64 bytes, on a backend that does nothing and on the model.

use std::collections::BTreeMap;

use vastgrid::backend::{ModelBackend, ModelConfig};
use vastgrid::{Backend, Pool, PoolConfig, SparseArray3D, TileCoord};

use super::super::field;
use super::nothing::{Nothing, PAGE_BYTES};
use super::{ask, batches, hits, pages};
use crate::measure::{SplitMix, median, nanoseconds};
use crate::report::{Axis, Verdict};
use crate::suite::{Context, Failure};

pub(super) const EXTENT_LOG2: u32 = 38;
pub(super) const TILE_LOG2: u32 = PAGE_BYTES.ilog2();
/// Tiles that a request asks for.
const BATCH: usize = 1000;

const HIT: &str = "request of a tile that is there";
const MISS: &str = "load and eviction of a tile";

/// By backend, figure and resident tiles.
type Samples = BTreeMap<(&'static str, &'static str, u32), Vec<f64>>;

/// Returns what a tile costs that has to be loaded, with the most tiles resident, where nothing else costs anything.
pub(super) fn run(context: &mut Context<'_>) -> Result<Option<f64>, Failure> {
    let sets =
        context.pick(vec![10, 15, 20], vec![10, 12, 14, 16, 18, 20], vec![8, 10, 12, 14, 16, 18, 20, 22]);
    let mut samples = Samples::new();
    for round in 0..context.pick(1, 7, 12) {
        for &tiles_log2 in &sets {
            if context.stops() {
                break;
            }
            let seed = context.seed ^ round << 32;
            let mut enter = |backend, [hit, miss]: [f64; 2]| {
                samples.entry((backend, HIT, tiles_log2)).or_default().push(hit);
                samples.entry((backend, MISS, tiles_log2)).or_default().push(miss);
            };
            enter("nothing", one(Nothing::default(), tiles_log2, seed)?);
            // Its own books take most of the time there: not where there are seconds only.
            if tiles_log2 > context.pick(16, 22, 22) {
                continue;
            }
            let config = ModelConfig { granularity_bytes: PAGE_BYTES, ..ModelConfig::default() };
            enter("model", one(ModelBackend::new(config), tiles_log2, seed)?);
        }
    }
    let most = sets.last().copied().unwrap_or_default();
    let mut curves: BTreeMap<(&str, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for ((backend, figure, tiles_log2), times) in &samples {
        let settings = [("backend", (*backend).to_owned()), ("resident_log2", tiles_log2.to_string())];
        context.row(figure, &settings, ("time", "ns a tile"), times.clone());
        curves.entry((*backend, *figure)).or_default().push((f64::from(*tiles_log2).exp2(), median(times)));
    }
    let found = |figure| samples.get(&("nothing", figure, most)).map(|times| median(times));
    for figure in [HIT, MISS] {
        if let Some(value) = found(figure) {
            let what = format!("{figure}, nanoseconds, 2^{most} tiles resident, no driver and no copy");
            context.verdict(Verdict { what, value, target: 150.0, at_least: false });
        }
    }
    if !curves.is_empty() {
        let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: true };
        let named =
            curves.into_iter().map(|((backend, figure), points)| (format!("{figure}, {backend}"), points));
        let axes = (axis("resident tiles"), axis("time for a tile (ns)"));
        context.plot("scaling_decisions", "What deciding costs", axes, named.collect());
    }
    let found = found(MISS);
    batches::run(context, &sets)?;
    pages::run(context, most)?;
    Ok(found)
}

/// A hit and a miss, in nanoseconds, with so many tiles resident.
fn one<B: Backend>(backend: B, tiles_log2: u32, seed: u64) -> Result<[f64; 2], Failure> {
    let config = PoolConfig { budget_bytes: PAGE_BYTES << tiles_log2, threads: 1, ..PoolConfig::default() };
    let pool = Pool::with_config(backend, config)?;
    let array = field::array(&pool, EXTENT_LOG2, TILE_LOG2, PAGE_BYTES)?;
    let batch = BATCH.min(1 << (tiles_log2 - 1));
    let misses = Misses::prepare(&array, tiles_log2, seed)?;
    let hit = hits(&array, &misses.resident, 1)?;
    misses.warm_up(&array, batch)?;
    let (miss, found) = nanoseconds(misses.others().len() as u64, || ask(&array, misses.others(), batch));
    misses.check(found?.1)?;
    Ok([hit, miss])
}

/// An array with as many tiles resident as it has room for.
pub(super) struct Misses {
    resident: Vec<TileCoord>,
    others: Vec<TileCoord>,
}

/// Misses before those that count.
const WARM_UP: usize = 1 << 12;

impl Misses {
    pub(super) fn prepare<B: Backend>(
        array: &SparseArray3D<u8, B>,
        tiles_log2: u32,
        seed: u64,
    ) -> Result<Self, Failure> {
        let sides = field::tiles(EXTENT_LOG2, TILE_LOG2);
        let mut random = SplitMix(seed);
        let (count, first) = (1u64 << tiles_log2, random.below(1 << 30));
        let tiles = |from: u64, count: u64| -> Vec<TileCoord> {
            (from..from + count).map(|n| field::nth(TileCoord::default(), sides, n)).collect()
        };
        ask(array, &tiles(first, count), BATCH.min(1 << (tiles_log2 - 1)))?;
        let mut resident = array.resident_tiles();
        random.shuffle(&mut resident);
        resident.truncate(1 << 16);
        // In no order either: what is next in memory is not what is next in time.
        let mut others = tiles(first + count, 1 << 17);
        random.shuffle(&mut others);
        others.truncate(1 << 16);
        Ok(Self { resident, others })
    }

    /// Asks for some that are not there, and that do not count.
    pub(super) fn warm_up<B: Backend>(
        &self,
        array: &SparseArray3D<u8, B>,
        batch: usize,
    ) -> Result<(), Failure> {
        ask(array, &self.others[..WARM_UP], batch)?;
        Ok(())
    }

    /// Tiles that are not there, and count.
    pub(super) fn others(&self) -> &[TileCoord] {
        &self.others[WARM_UP..]
    }

    /// # Errors
    /// Some of them were.
    pub(super) fn check(&self, loaded: u64) -> Result<(), Failure> {
        if loaded == self.others().len() as u64 {
            Ok(())
        } else {
            Err("tiles that nobody had asked for were there".into())
        }
    }
}
