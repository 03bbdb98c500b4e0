//! Owns what it costs to have one tile instead of another: the load, the eviction, and the first touch of every OS page, with the file in the page cache.

use std::sync::Arc;
use std::time::Instant;

use super::scheme::Scheme;
use super::volume::{TILE_BYTES, Volume};
use super::{MAKERS, Sizes};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// Tiles that every scheme has room for.
const SLOTS: u32 = 16;

/// Swaps in one turn.
const SWAPS: usize = 64;

/// Enters the time of a swap by how many are made at once.
pub(crate) fn measure(context: &mut Context<'_>, volume: &Arc<Volume>, sizes: Sizes) -> Result<(), Failure> {
    // Pages of several tiles evict what nobody asked to have evicted, which shows in frames: all but the last.
    let makers = MAKERS[..MAKERS.len() - 1].iter();
    let schemes = makers.map(|make| make(volume, u64::from(SLOTS) * TILE_BYTES as u64));
    let mut schemes = schemes.collect::<Result<Vec<_>, _>>()?;
    let mut swapper = Swapper::new(sizes);
    let mut curves = vec![Vec::new(); schemes.len()];
    for at_once in [1, 2, 4, 8] {
        let mut times = vec![(Vec::new(), Vec::new()); schemes.len()];
        // Until all slots are taken and every page of them is there.
        for scheme in &mut schemes {
            swapper.turn(&mut **scheme, at_once)?;
        }
        for _ in 0..sizes.rounds {
            for number in 1..schemes.len() {
                if context.stops() {
                    return Ok(());
                }
                let ours = swapper.turn(&mut *schemes[0], at_once)?;
                let theirs = swapper.turn(&mut *schemes[number], at_once)?;
                times[0].0.push(ours);
                times[number].0.push(theirs);
                times[number].1.push(theirs / ours);
            }
        }
        let settings = [("at once", at_once.to_string())];
        for ((scheme, (times, ratios)), curve) in schemes.iter().zip(times).zip(&mut curves) {
            curve.push((at_once as f64, median(&times)));
            context.row(scheme.name(), &settings, ("swap", "us a tile"), times);
            context.row(scheme.name(), &settings, ("swap over ours", "times"), ratios);
        }
    }
    let curves = schemes.iter().map(|scheme| scheme.name().to_owned()).zip(curves).collect();
    let x = Axis { label: "tiles at once".to_owned(), logarithmic: true };
    let y = Axis { label: "load, eviction and first touch (us a tile)".to_owned(), logarithmic: true };
    let title = "A tile of 512 KiB in the place of another, file in the page cache";
    context.plot("schemes-swaps", title, (x, y), curves);
    Ok(())
}

/// Goes through all tiles again and again, so that none is still there when it comes again, nor was read by another scheme just before.
struct Swapper {
    order: Vec<u32>,
    next: usize,
    /// What the touched voxels of each tile add up to, as far as it is known.
    sums: Vec<Option<u64>>,
}

impl Swapper {
    fn new(sizes: Sizes) -> Self {
        let mut order: Vec<_> = (0..sizes.shape.tile_count()).collect();
        SplitMix(sizes.seed).shuffle(&mut order);
        let sums = vec![None; order.len()];
        Self { order, next: 0, sums }
    }

    /// Microseconds a tile.
    fn turn(&mut self, scheme: &mut dyn Scheme, at_once: usize) -> Result<f64, Failure> {
        // There are a multiple of as many tiles.
        let tiles = &self.order[self.next..self.next + SWAPS];
        self.next = (self.next + SWAPS) % self.order.len();
        let (mut swapped, mut sums) = (0, Vec::with_capacity(SWAPS));
        let start = Instant::now();
        for batch in tiles.chunks(at_once) {
            swapped += scheme.want(batch)?;
            sums.extend(batch.iter().map(|&tile| scheme.touch(tile)));
        }
        let time = start.elapsed().as_secs_f64() * 1e6 / tiles.len() as f64;
        let name = scheme.name();
        if swapped != tiles.len() as u64 {
            return Err(format!("{name}: {swapped} of {} tiles were loaded, and not all", tiles.len()).into());
        }
        for (&tile, sum) in tiles.iter().zip(sums) {
            let sum = sum.ok_or_else(|| format!("{name}: tile {tile} was asked for and is not there"))?;
            let expected = *self.sums[tile as usize].get_or_insert(sum);
            if sum != expected {
                return Err(
                    format!("{name}: tile {tile} adds up to {sum}, and to {expected} elsewhere").into()
                );
            }
        }
        Ok(time)
    }
}
