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

/// Enters the time of a swap by how many are made at once.
pub(crate) fn measure(context: &mut Context<'_>, volume: &Arc<Volume>, sizes: Sizes) -> Result<(), Failure> {
    // Pages of several tiles evict what nobody asked to have evicted, which shows in frames: all but the last.
    let makers = MAKERS[..MAKERS.len() - 1].iter();
    let schemes = makers.map(|make| make(volume, u64::from(SLOTS) * TILE_BYTES as u64));
    let mut schemes = schemes.collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<_> = (0..sizes.shape.tile_count()).collect();
    SplitMix(sizes.seed).shuffle(&mut order);
    let mut curves = vec![Vec::new(); schemes.len()];
    for at_once in [1, 2, 4, 8] {
        let mut times = vec![(Vec::new(), Vec::new()); schemes.len()];
        let mut batches = order.chunks_exact(at_once).cycle();
        let mut turn = |schemes: &mut [Box<dyn Scheme + '_>], times: Option<&mut Vec<_>>| {
            let batches: Vec<_> = (0..64 / at_once).filter_map(|_| batches.next()).collect();
            let mut expected = None;
            let mut each = Vec::new();
            for scheme in schemes {
                let (time, sum) = swaps(&mut **scheme, &batches)?;
                if *expected.get_or_insert(sum) != sum {
                    return Err(format!("{}: other voxels than the first scheme's", scheme.name()).into());
                }
                each.push(time);
            }
            if let Some(times) = times {
                times.push(each);
            }
            Ok::<_, Failure>(())
        };
        // Until all slots are taken and every page of them is there.
        turn(&mut schemes, None)?;
        let mut rounds = Vec::new();
        for _ in 0..sizes.rounds {
            if context.stops() {
                return Ok(());
            }
            turn(&mut schemes, Some(&mut rounds))?;
        }
        for round in &rounds {
            for ((times, ratios), time) in times.iter_mut().zip(round) {
                times.push(*time);
                ratios.push(time / round[0]);
            }
        }
        let settings = [("at once", at_once.to_string())];
        for ((scheme, (times, ratios)), curve) in schemes.iter().zip(times).zip(&mut curves) {
            curve.push((at_once as f64, median(&times)));
            context.row(scheme.name(), &settings, ("swap", "us a tile"), times);
            if !std::ptr::eq(scheme, &raw const schemes[0]) {
                context.row(scheme.name(), &settings, ("swap over ours", "times"), ratios);
            }
        }
    }
    let curves = schemes.iter().map(|scheme| scheme.name().to_owned()).zip(curves).collect();
    let x = Axis { label: "tiles at once".to_owned(), logarithmic: true };
    let y = Axis { label: "load, eviction and first touch (us a tile)".to_owned(), logarithmic: false };
    context.plot(
        "schemes-swaps",
        "A tile of 512 KiB in the place of another, file in the page cache",
        (x, y),
        curves,
    );
    Ok(())
}

/// Microseconds a tile, and the sum of what was touched.
fn swaps(scheme: &mut dyn Scheme, batches: &[&[u32]]) -> Result<(f64, u64), Failure> {
    let (mut sum, mut swapped) = (0, 0);
    let start = Instant::now();
    for batch in batches {
        swapped += scheme.want(batch)?;
        for &tile in *batch {
            sum += scheme
                .touch(tile)
                .ok_or_else(|| format!("{}: a tile that was asked for is not there", scheme.name()))?;
        }
    }
    let time = start.elapsed().as_secs_f64() * 1e6;
    let tiles = batches.iter().map(|batch| batch.len()).sum::<usize>();
    if swapped != tiles as u64 {
        return Err(format!("{}: {swapped} of {tiles} tiles were loaded, and not all", scheme.name()).into());
    }
    Ok((time / tiles as f64, sum))
}
