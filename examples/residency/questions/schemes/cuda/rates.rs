//! Owns how many samples a second each scheme gives of tiles that are all there, over how much memory they take: the kernels' own time.

use vastgrid::cuda::DeviceBuffer;

use super::super::path::{Tiles, Work};
use super::flat::Flat;
use super::scheme::{Bench, Contestant, Entry, Scheme, Setting, Task};
use super::{CEILINGS, ENTRIES, Sizes, reference};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// Kinds of samples: a name, a file's name, a title.
const KINDS: [(&str, &str, &str); 3] = [
    ("rays", "schemes-device-rates-rays", "Trilinear samples along parallel oblique rays, all resident"),
    (
        "rays along z",
        "schemes-device-rates-rays-z",
        "Trilinear samples along rays nearly along z, all resident",
    ),
    ("points", "schemes-device-rates-points", "Trilinear samples at random points, all resident"),
];

/// Rates of one scheme, turn by turn, and over ours.
type Rates = (Vec<f64>, Vec<f64>);

/// What kernels do in a turn: again and again, so that a turn is long enough to be timed.
struct Turn {
    tasks: Vec<Task>,
    samples: u64,
    /// What one turn adds up to.
    sum: u64,
    /// What it reads, kept for as long.
    _list: DeviceBuffer,
}

impl Turn {
    /// Samples of one list, often enough to make some `most` of them.
    fn new(list: DeviceBuffer, task: Task, (samples, sum): (u64, u64), most: u32) -> Self {
        let times = (u64::from(most) / samples.max(1)).clamp(1, 64);
        let tasks = (0..times).map(|_| task).collect();
        Self { tasks, samples: samples * times, sum: sum * times, _list: list }
    }
}

/// Enters samples a second of every scheme, and how they compare to ours.
pub(crate) fn measure(
    context: &mut Context<'_>,
    setting: &Setting,
    sizes: Sizes,
    dense_fits: bool,
) -> Result<(), Failure> {
    let untested: Entry = ("flat, no test of residency", |setting, bytes| {
        Ok(Box::new(Flat::new(setting, bytes, true, false)?))
    });
    // How tiles come makes no difference here: one of the two.
    let mut entries = vec![ENTRIES[0], untested];
    entries.extend(&ENTRIES[2..]);
    if dense_fits {
        entries.extend(CEILINGS);
    }
    let mut all = Contestant::all(context, setting, &entries, sizes.budget_bytes());
    let mut curves = KINDS.map(|_| vec![Vec::new(); all.len()]);
    // Half the budget at most: an atlas holds fewer tiles in it.
    let sets = std::iter::successors(Some(sizes.budget_tiles / 2), |tiles| Some(tiles / 4));
    let mut sets: Vec<_> = sets.take_while(|&tiles| tiles >= 4).collect();
    sets.reverse();
    for set in sets {
        let wanted = Tiles::halved(sizes.shape, set);
        let mut tiles = Vec::new();
        wanted.list(sizes.shape, &mut tiles);
        for one in &mut all {
            let _ = one.attempt(context, "asked for tiles", |scheme| scheme.want(&tiles));
        }
        let turns = turns(&setting.bench, sizes, wanted)?;
        for ((kind, turn), curves) in KINDS.into_iter().zip(&turns).zip(&mut curves) {
            let found = in_turns(context, setting, &mut all, (turn, kind.0), sizes.rounds);
            let settings = [("samples", kind.0.to_owned()), ("MiB", sizes.mib(set))];
            let mib = f64::from(set) * sizes.shape.tile_bytes() as f64 / f64::from(1 << 20);
            for ((one, (rates, ratios)), curve) in all.iter().zip(found).zip(curves) {
                // None where it was left out, or the run ended early.
                if rates.is_empty() {
                    continue;
                }
                curve.push((mib, median(&rates)));
                context.row(one.name, &settings, ("rate", "Gsamples/s"), rates);
                context.row(one.name, &settings, ("rate over ours", "times"), ratios);
            }
            if context.stops() {
                return Ok(());
            }
        }
    }
    for ((_, file, title), curves) in KINDS.into_iter().zip(curves) {
        let named = all.iter().map(|one| one.name.to_owned()).zip(curves);
        let curves = named.filter(|(_, points)| !points.is_empty()).collect();
        let x = Axis { label: "resident tiles (MiB)".to_owned(), logarithmic: true };
        let y = Axis { label: "rate (Gsamples/s)".to_owned(), logarithmic: true };
        context.plot(file, title, (x, y), curves);
    }
    Ok(())
}

/// A turn of each kind, of samples in a box of tiles: about one for each voxel, along rays that are about a voxel apart.
fn turns(bench: &Bench, sizes: Sizes, wanted: Tiles) -> Result<[Turn; 3], Failure> {
    let (shape, (most, most_points)) = (sizes.shape, sizes.rate_samples);
    let voxels = u64::from(wanted.count()) * shape.tile_bytes() / 2;
    let along = u32::try_from(voxels).unwrap_or(u32::MAX).min(most);
    let mut random = SplitMix(sizes.seed ^ u64::from(wanted.count()));
    let both = Work::in_boxes(shape, &[wanted], (along, most_points), &mut random);
    // Neighbouring rays lie beside each other along x: a warp's samples are a line in memory, or nearly.
    let straight = Work::along(shape, wanted, [1e-6, 0.05, 1.0], along);
    let rays = |work: &Work| -> Result<Turn, Failure> {
        let list = bench.list(&work.rays)?;
        let task = Task::Rays(list.address(), u32::try_from(work.rays.len())?);
        Ok(Turn::new(list, task, (work.along, reference::rays(work)), most))
    };
    let list = bench.list(&both.points)?;
    let count = u32::try_from(both.points.len())?;
    let task = Task::Points(list.address(), count);
    let points = Turn::new(list, task, (count.into(), reference::points(&both)), most_points);
    Ok([rays(&both)?, rays(&straight)?, points])
}

/// Gigasamples a second of one turn, after another one that fills the caches and keeps the device busy until all of this one is on its stream.
fn time(bench: &Bench, name: &str, scheme: &dyn Scheme, turn: &Turn) -> Result<f64, Failure> {
    bench.clear()?;
    scheme.launch(&turn.tasks)?;
    let start = bench.event()?;
    scheme.launch(&turn.tasks)?;
    let end = bench.event()?;
    let sum = bench.sum(name)?;
    scheme.filter().agree(name, sum, 2 * turn.sum)?;
    Ok(turn.samples as f64 / f64::from(end.elapsed_ms(&start)?) / 1e6)
}

/// Rates of every scheme, and over ours, which is run before every other.
fn in_turns(
    context: &mut Context<'_>,
    setting: &Setting,
    all: &mut [Contestant<'_>],
    (turn, kind): (&Turn, &str),
    rounds: usize,
) -> Vec<Rates> {
    let mut rates: Vec<Rates> = vec![(Vec::new(), Vec::new()); all.len()];
    let doing = format!("sampled {kind}");
    let of = |context: &mut Context<'_>, one: &mut Contestant<'_>| {
        let name = one.name;
        one.attempt(context, &doing, |scheme| time(&setting.bench, name, scheme, turn))
    };
    for _ in 0..rounds {
        for number in 1..all.len() {
            if context.stops() {
                return rates;
            }
            let ours = of(context, &mut all[0]);
            let theirs = of(context, &mut all[number]);
            rates[0].0.extend(ours);
            rates[number].0.extend(theirs);
            rates[number].1.extend(ours.zip(theirs).map(|(ours, theirs)| theirs / ours));
        }
    }
    rates
}
