//! Owns how many samples a second each scheme gives of tiles that are all there, over how much memory they take.

use std::sync::Arc;
use std::time::Instant;

use super::Sizes;
use super::atlas::Atlas;
use super::buffers::Buffers;
use super::dense::{InTiles, Rows};
use super::flat::{Flat, How};
use super::mapped::{Hints, Mapped};
use super::page_table::PageTable;
use super::path::{Tiles, Work};
use super::scheme::Scheme;
use super::volume::{TILE_BYTES, Volume};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// One kind of samples.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    file: &'static str,
    title: &'static str,
    samples: fn(&Work) -> u64,
    sum: fn(&dyn Scheme, &Work) -> Option<f64>,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "rays",
        file: "schemes-rates-rays",
        title: "Trilinear samples along parallel oblique rays, all resident, one thread",
        samples: |work| work.along,
        sum: |scheme, work| scheme.rays(work),
    },
    Kind {
        name: "points",
        file: "schemes-rates-points",
        title: "Trilinear samples at random points, all resident, one thread",
        samples: |work| work.points.len() as u64,
        sum: |scheme, work| scheme.points(work),
    },
];

/// Rates of one scheme, turn by turn, and over ours.
type Rates = (Vec<f64>, Vec<f64>);

/// Enters samples a second of every scheme, and how they compare to ours.
pub(crate) fn measure(
    context: &mut Context<'_>,
    volume: &Arc<Volume>,
    sizes: Sizes,
    dense_fits: bool,
) -> Result<(), Failure> {
    let budget_bytes = sizes.budget_bytes();
    let ours = Flat::new(volume, budget_bytes, 1)?;
    let mut schemes: Vec<Box<dyn Scheme + '_>> = Vec::new();
    for how in [How::Best, How::Slices, How::Accessor, How::Get] {
        schemes.push(Box::new(ours.by(how)));
    }
    schemes.push(Box::new(Flat::new(volume, budget_bytes, 4)?));
    schemes.push(Box::new(PageTable::new(volume, budget_bytes, true)?));
    schemes.push(Box::new(PageTable::new(volume, budget_bytes, false)?));
    schemes.push(Box::new(Atlas::new(volume, budget_bytes)?));
    schemes.push(Box::new(Buffers::new(volume, budget_bytes)?));
    // One of the three: they differ in how tiles come, and would be the same memory thrice.
    schemes.push(Box::new(Mapped::new(volume, budget_bytes, Hints::Populate)?));
    if dense_fits {
        schemes.push(Box::new(InTiles::new(volume)?));
        schemes.push(Box::new(Rows::new(volume)?));
    }
    let mut curves = KINDS.map(|_| vec![Vec::new(); schemes.len()]);
    // Half the budget at most: an atlas holds fewer tiles in it, and pages of several tiles more than are wanted.
    let sets = std::iter::successors(Some(sizes.budget_tiles / 2), |tiles| Some(tiles / 4));
    let mut sets: Vec<_> = sets.take_while(|&tiles| tiles >= 2).collect();
    sets.reverse();
    for set in sets {
        let wanted = Tiles::halved(sizes.shape, set);
        let mut tiles = Vec::new();
        wanted.list(sizes.shape, &mut tiles);
        for scheme in &mut schemes {
            let _ = scheme.want(&tiles)?;
        }
        let samples = (sizes.rate_samples, sizes.rate_samples / 4);
        let work =
            Work::in_boxes(sizes.shape, &[wanted], samples, &mut SplitMix(sizes.seed ^ u64::from(set)));
        for (kind, curves) in KINDS.into_iter().zip(&mut curves) {
            if context.stops() {
                return Ok(());
            }
            let rates = in_turns(context, &schemes, (kind, &work), sizes.rounds)?;
            let mib = f64::from(set) * TILE_BYTES as f64 / f64::from(1 << 20);
            let settings = [("samples", kind.name.to_owned()), ("MiB", format!("{mib:.0}"))];
            for ((scheme, (rates, ratios)), curve) in schemes.iter().zip(rates).zip(curves) {
                // None where the run ended early.
                if rates.is_empty() {
                    continue;
                }
                curve.push((mib, median(&rates)));
                context.row(scheme.name(), &settings, ("rate", "Msamples/s"), rates);
                context.row(scheme.name(), &settings, ("rate over ours", "times"), ratios);
            }
        }
    }
    for (kind, curves) in KINDS.into_iter().zip(curves) {
        let named = schemes.iter().map(|scheme| scheme.name().to_owned()).zip(curves);
        let curves = named.filter(|(_, points)| !points.is_empty()).collect();
        let x = Axis { label: "resident tiles (MiB)".to_owned(), logarithmic: true };
        let y = Axis { label: "rate (Msamples/s)".to_owned(), logarithmic: false };
        context.plot(kind.file, kind.title, (x, y), curves);
    }
    Ok(())
}

/// Rates of every scheme, and over ours, which is run before every other.
fn in_turns(
    context: &Context<'_>,
    schemes: &[Box<dyn Scheme + '_>],
    (kind, work): (Kind, &Work),
    rounds: usize,
) -> Result<Vec<Rates>, Failure> {
    let mut all = vec![(Vec::new(), Vec::new()); schemes.len()];
    let Some((ours, _)) = schemes.split_first() else { return Ok(all) };
    let samples = (kind.samples)(work) as f64;
    let mut expected = None;
    let mut time = |scheme: &dyn Scheme| -> Result<f64, Failure> {
        // Once before, so that the caches hold what this one read and not what the one before it did.
        let _ = (kind.sum)(scheme, work);
        let start = Instant::now();
        let sum = (kind.sum)(scheme, work);
        let rate = samples / 1e6 / start.elapsed().as_secs_f64();
        let sum = sum.ok_or_else(|| format!("{}: a tile that was asked for is not there", scheme.name()))?;
        agree(scheme.name(), sum, *expected.get_or_insert(sum))?;
        Ok(rate)
    };
    for _ in 0..rounds {
        for (number, scheme) in schemes.iter().enumerate().skip(1) {
            if context.stops() {
                return Ok(all);
            }
            let before = time(&**ours)?;
            let rate = time(&**scheme)?;
            all[0].0.push(before);
            all[number].0.push(rate);
            all[number].1.push(rate / before);
        }
    }
    Ok(all)
}

/// Whether a sum is the one that everybody has, bit for bit.
pub(crate) fn agree(name: &str, sum: f64, expected: f64) -> Result<(), Failure> {
    if sum.to_bits() == expected.to_bits() {
        return Ok(());
    }
    Err(format!("{name}: its samples add up to {sum}, and those of the first scheme to {expected}").into())
}

/// The value below which that part of the values lies.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
