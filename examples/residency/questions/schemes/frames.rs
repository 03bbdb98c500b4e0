//! Owns what whole frames cost along a camera's path: bringing the wanted tiles to memory, and sampling them, at working sets from half the budget to four times as much.

use std::sync::Arc;

use super::course::{Course, Path};
use super::dense::InTiles;
use super::path::{Frame, Kind, Plan, SplitMix};
use super::rates::{agree, median, quantile};
use super::scheme::Scheme;
use super::volume::Volume;
use super::{MAKERS, SEED, Sizes};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// Working sets, in halves of the budget.
const SETS_IN_HALVES: [u32; 4] = [1, 2, 4, 8];

/// Who runs, and in which order.
enum Turns<'v> {
    /// All side by side, a frame of each: the file is in the page cache, so that they cannot help each other.
    Frames(Vec<Box<dyn Scheme + 'v>>),
    /// One after the other, a whole path of ours before a whole path of each, and the page cache is empty whenever one begins: what one had read another must not find.
    Paths(&'v Arc<Volume>),
}

impl Turns<'_> {
    fn file(&self) -> &'static str {
        match self {
            Self::Frames(_) => "in the page cache",
            Self::Paths(_) => "dropped from it",
        }
    }

    /// Every scheme along the same path, each beside the one of ours that it is compared with.
    fn go(&mut self, frames: &[Frame], warm: &[u32], sizes: Sizes) -> Result<Vec<[Path; 2]>, Failure> {
        let all = match self {
            Self::Frames(schemes) => frame_by_frame(schemes, frames, warm)?,
            Self::Paths(volume) => path_by_path(volume, frames, warm, sizes)?,
        };
        for [path, ours] in &all {
            for (sum, expected) in path.sums.iter().zip(&ours.sums) {
                agree(&path.name, *sum, *expected)?;
            }
        }
        Ok(all)
    }
}

/// Enters frame times of every scheme, path and working set.
pub(crate) fn measure(
    context: &mut Context<'_>,
    volume: &Arc<Volume>,
    sizes: Sizes,
    dense_fits: bool,
) -> Result<(), Failure> {
    let made = MAKERS.iter().map(|make| make(volume, sizes.budget_bytes()));
    let mut schemes = made.collect::<Result<Vec<_>, _>>()?;
    if dense_fits {
        schemes.push(Box::new(InTiles::new(volume)?));
    }
    let mut turns = Turns::Frames(schemes);
    for kind in Kind::ALL {
        one_kind(context, &mut turns, sizes, kind)?;
    }
    // None of them holds pages of the file any more, which could not be dropped then.
    drop(turns);
    if context.stops() {
        return Ok(());
    }
    if volume.in_memory {
        context.note(
            "the temporary folder lies in memory, so that no frame could be timed that reads from a disk"
                .to_owned(),
        );
        return Ok(());
    }
    one_kind(context, &mut Turns::Paths(volume), sizes, Kind::Flight)
}

fn one_kind(
    context: &mut Context<'_>,
    turns: &mut Turns<'_>,
    sizes: Sizes,
    kind: Kind,
) -> Result<(), Failure> {
    let from_disk = matches!(turns, Turns::Paths(_));
    let mut medians: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    let mut slow = medians.clone();
    // Where nothing is loaded the disk does not matter.
    for halves in SETS_IN_HALVES.into_iter().filter(|&halves| !from_disk || halves > 2) {
        let plan = Plan {
            kind,
            shape: sizes.shape,
            set_tiles: sizes.budget_tiles * halves / 2,
            frame_tiles: sizes.budget_tiles / 4,
            frames: sizes.frames,
            samples: sizes.samples,
        };
        let mut courses: Vec<Course> = Vec::new();
        let paths = if from_disk { sizes.paths.div_ceil(2) } else { sizes.paths };
        for number in 0..paths as u64 {
            if context.stops() {
                return Ok(());
            }
            let mut random = SplitMix(SEED ^ u64::from(halves) << 8 ^ number);
            let frames = plan.frames(&mut random);
            let warm = warm_tiles(plan, sizes, &mut random);
            let all = turns.go(&frames, &warm, sizes)?;
            courses.resize_with(all.len(), Course::default);
            for (course, [path, ours]) in courses.iter_mut().zip(&all) {
                course.add(path, ours);
            }
        }
        let budgets = f64::from(halves) / 2.0;
        let settings = [
            ("path", kind.name().to_owned()),
            ("set/budget", budgets.to_string()),
            ("file", turns.file().to_owned()),
        ];
        for (number, course) in courses.into_iter().enumerate() {
            if medians.len() <= number {
                medians.push((course.name.clone(), Vec::new()));
                slow.push((course.name.clone(), Vec::new()));
            }
            medians[number].1.push((budgets, median(&course.frame_ms)));
            slow[number].1.push((budgets, quantile(&course.frame_ms, 0.99)));
            course.enter(context, &settings, (number > 0, from_disk));
        }
    }
    for (what, file, curves) in [("median", "median", medians), ("99th percentile", "slow", slow)] {
        let x = Axis { label: "working set over budget".to_owned(), logarithmic: true };
        let y = Axis { label: format!("frame time, {what} (ms)"), logarithmic: true };
        let title = format!("Frames along a path of {}, file {}", kind.name(), turns.file());
        let disk = if from_disk { "-disk" } else { "" };
        context.plot(&format!("schemes-frames-{}{disk}-{file}", kind.name()), &title, (x, y), curves);
    }
    Ok(())
}

/// Tiles of the path's set, in an order of their own, as many as fill the budget: so that a path begins in a steady state, whatever was there before.
fn warm_tiles(plan: Plan, sizes: Sizes, random: &mut SplitMix) -> Vec<u32> {
    let mut tiles = Vec::new();
    plan.set().list(plan.shape, &mut tiles);
    let order = random.shuffled(plan.set().count());
    order.into_iter().take(sizes.budget_tiles as usize).map(|at| tiles[at as usize]).collect()
}

fn warm_up(scheme: &mut dyn Scheme, warm: &[u32]) -> Result<(), Failure> {
    // A few at a time: pages of several tiles need room for more than is wanted.
    warm.chunks(4).try_for_each(|tiles| scheme.want(tiles).map(|_| ()))
}

fn frame_by_frame(
    schemes: &mut [Box<dyn Scheme + '_>],
    frames: &[Frame],
    warm: &[u32],
) -> Result<Vec<[Path; 2]>, Failure> {
    for scheme in &mut *schemes {
        warm_up(&mut **scheme, warm)?;
    }
    let mut paths: Vec<_> = schemes.iter().map(|scheme| Path::new(scheme.name())).collect();
    for (number, frame) in frames.iter().enumerate() {
        // Another one begins each time, so that none is always the one after a certain other.
        for turn in 0..schemes.len() {
            let which = (number + turn) % schemes.len();
            paths[which].go(&mut *schemes[which], frame)?;
        }
    }
    let Some(ours) = paths.first().cloned() else { return Ok(Vec::new()) };
    Ok(paths.into_iter().map(|path| [path, ours.clone()]).collect())
}

fn path_by_path(
    volume: &Arc<Volume>,
    frames: &[Frame],
    warm: &[u32],
    sizes: Sizes,
) -> Result<Vec<[Path; 2]>, Failure> {
    let run = |number: usize| -> Result<Path, Failure> {
        let mut scheme = MAKERS[number](volume, sizes.budget_bytes())?;
        let mut path = Path::new(scheme.name());
        volume.forget_all(true)?;
        warm_up(&mut *scheme, warm)?;
        // Again: what was read ahead of the tiles that were asked for.
        volume.forget_all(true)?;
        frames.iter().try_for_each(|frame| path.go(&mut *scheme, frame))?;
        Ok(path)
    };
    let ours = run(0)?;
    let mut all = vec![[ours.clone(), ours]];
    for number in 1..MAKERS.len() {
        let ours = run(0)?;
        all.push([run(number)?, ours]);
    }
    Ok(all)
}
