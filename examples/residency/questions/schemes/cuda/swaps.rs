//! Owns what it costs to have one tile instead of another: the load, the eviction, and a kernel that reads every voxel of the new one.

use std::time::Instant;

use vastgrid::cuda::DeviceBuffer;

use super::scheme::{Contestant, Scheme, Setting};
use super::{ENTRIES, Sizes};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// Enters the time of a swap by how many are made at once.
pub(crate) fn measure(context: &mut Context<'_>, setting: &Setting, sizes: Sizes) -> Result<(), Failure> {
    let mut all = Contestant::all(context, setting, &ENTRIES, sizes.budget_bytes());
    let mut swapper = Swapper::new(setting, sizes, all.len())?;
    // Until every slot is taken, and every tile was there once.
    for (number, one) in all.iter_mut().enumerate() {
        let name = one.name;
        let turns = swapper.order.len() / swapper.swaps;
        let _ = one.attempt(context, "loaded all tiles", |scheme| {
            (0..turns).try_for_each(|_| swapper.turn(setting, scheme, (number, name, 16)).map(|_| ()))
        });
    }
    let mut curves = vec![Vec::new(); all.len()];
    let counts = [1, 4, 16, 64].into_iter().filter(|&at_once| at_once <= sizes.swaps);
    for at_once in counts {
        let mut times = vec![(Vec::new(), Vec::new()); all.len()];
        let mut of = |context: &mut Context<'_>, all: &mut [Contestant<'_>], number: usize| {
            let one = &mut all[number];
            let name = one.name;
            one.attempt(context, &format!("swapped {at_once} tiles at once"), |scheme| {
                swapper.turn(setting, scheme, (number, name, at_once))
            })
        };
        for _ in 0..sizes.rounds {
            for number in 1..all.len() {
                if context.stops() {
                    return Ok(());
                }
                let ours = of(context, &mut all, 0);
                let theirs = of(context, &mut all, number);
                times[0].0.extend(ours);
                times[number].0.extend(theirs);
                times[number].1.extend(ours.zip(theirs).map(|(ours, theirs)| theirs / ours));
            }
        }
        let settings = [("at once", at_once.to_string())];
        for ((one, (times, ratios)), curve) in all.iter().zip(times).zip(&mut curves) {
            if times.is_empty() {
                continue;
            }
            curve.push((at_once as f64, median(&times)));
            context.row(one.name, &settings, ("swap", "us a tile"), times);
            context.row(one.name, &settings, ("swap over ours", "times"), ratios);
        }
    }
    let named = all.iter().map(|one| one.name.to_owned()).zip(curves);
    let curves = named.filter(|(_, points)| !points.is_empty()).collect();
    let x = Axis { label: "tiles at once".to_owned(), logarithmic: true };
    let y =
        Axis { label: "load, eviction and a kernel that reads it (us a tile)".to_owned(), logarithmic: true };
    let title = format!("A tile of {} KiB in the place of another", sizes.shape.tile_bytes() >> 10);
    context.plot("schemes-device-swaps", &title, (x, y), curves);
    context.note(
        "every tile had been there before when swaps were timed: 'flat' has most mappings left from then, and 'flat, no mappings kept' is what the first visit of a tile costs"
            .to_owned(),
    );
    Ok(())
}

/// Goes through all tiles again and again, of which a budget holds a quarter: each scheme by itself, beginning elsewhere than the one before it.
struct Swapper {
    order: Vec<u32>,
    list: DeviceBuffer,
    /// Of each scheme.
    next: Vec<usize>,
    swaps: usize,
}

impl Swapper {
    fn new(setting: &Setting, sizes: Sizes, schemes: usize) -> Result<Self, Failure> {
        let mut order: Vec<_> = (0..sizes.shape.tile_count()).collect();
        SplitMix(sizes.seed).shuffle(&mut order);
        let list = setting.bench.list(&order)?;
        let next = (0..schemes).map(|number| number * sizes.swaps % order.len()).collect();
        Ok(Self { order, list, next, swaps: sizes.swaps })
    }

    /// Microseconds a tile that was loaded.
    fn turn(
        &mut self,
        setting: &Setting,
        scheme: &mut dyn Scheme,
        (number, name, at_once): (usize, &str, usize),
    ) -> Result<f64, Failure> {
        // There are a multiple of as many tiles.
        let first = self.next[number];
        let tiles = &self.order[first..first + self.swaps];
        self.next[number] = (first + self.swaps) % self.order.len();
        let mut swapped = 0;
        let start = Instant::now();
        for (number, batch) in tiles.chunks(at_once).enumerate() {
            swapped += scheme.want(batch)?;
            let list = self.list.address() + ((first + number * at_once) * size_of::<u32>()) as u64;
            setting.check(name, scheme, (list, batch))?;
        }
        let time = start.elapsed().as_secs_f64() * 1e6;
        // Some may be there still, under schemes that do not evict in the strict order.
        if swapped * 2 < tiles.len() as u64 {
            return Err(
                format!("{swapped} of {} tiles were loaded, and the rest were there", tiles.len()).into()
            );
        }
        Ok(time / swapped as f64)
    }
}
