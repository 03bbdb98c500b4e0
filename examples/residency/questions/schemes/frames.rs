//! Owns what whole frames cost along a camera's path: bringing the wanted tiles to memory, and sampling them, at working sets from half the budget to four times as much.

use std::sync::Arc;
use std::time::Instant;

use super::dense::InTiles;
use super::path::{Frame, Kind, Plan, SplitMix};
use super::rates::{agree, median, quantile};
use super::scheme::{Scheme, sampled};
use super::volume::Volume;
use super::{SEED, Sizes, all};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// Working sets, in halves of the budget.
const SETS_IN_HALVES: [u32; 4] = [1, 2, 4, 8];

/// What came of one scheme along one or more paths.
#[derive(Clone, Debug, Default)]
struct Course {
    frame_ms: Vec<f64>,
    /// Of that, until the wanted tiles were there.
    residency_ms: Vec<f64>,
    /// Frame by frame, over ours.
    over_ours: Vec<f64>,
    /// The 99th percentile of each path.
    slow_ms: Vec<f64>,
    /// Tiles loaded a frame, of each path.
    loads: Vec<f64>,
}

impl Course {
    /// Enters one path.
    fn add(&mut self, path: &Path, ours: &Path) {
        let times: Vec<_> = path.frames.iter().map(|frame| frame.all_ms).collect();
        self.slow_ms.push(quantile(&times, 0.99));
        self.loads.push(path.frames.iter().map(|frame| frame.loads as f64).sum::<f64>() / times.len() as f64);
        self.over_ours.extend(path.frames.iter().zip(&ours.frames).map(|(a, b)| a.all_ms / b.all_ms));
        self.residency_ms.extend(path.frames.iter().map(|frame| frame.residency_ms));
        self.frame_ms.extend(times);
    }
}

/// What came of one path.
#[derive(Clone, Debug, Default)]
struct Path {
    frames: Vec<Timed>,
    sums: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    residency_ms: f64,
    all_ms: f64,
    loads: u64,
}

impl Path {
    /// Goes on by one frame.
    fn go(&mut self, scheme: &mut dyn Scheme, frame: &Frame) -> Result<(), Failure> {
        let start = Instant::now();
        let loads = scheme.want(&frame.tiles)?;
        let residency_ms = start.elapsed().as_secs_f64() * 1e3;
        self.sums.push(sampled(scheme, &frame.work)?);
        self.frames.push(Timed { residency_ms, all_ms: start.elapsed().as_secs_f64() * 1e3, loads });
        Ok(())
    }
}

/// In which order schemes have their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// A frame of each: the file is in the page cache, and they cannot help each other.
    Frames,
    /// A whole path of each, from an empty page cache: what one had read another must not find.
    Paths,
}

impl Turns {
    fn file(self) -> &'static str {
        match self {
            Self::Frames => "in the page cache",
            Self::Paths => "dropped from it",
        }
    }
}

/// Enters frame times of every scheme, path and working set.
pub(crate) fn measure(
    context: &mut Context<'_>,
    volume: &Arc<Volume>,
    sizes: Sizes,
    dense_fits: bool,
) -> Result<(), Failure> {
    let mut schemes = all(volume, sizes.budget_bytes())?;
    if dense_fits {
        schemes.push(Box::new(InTiles::new(volume)?));
    }
    for kind in Kind::ALL {
        one_kind(context, volume, (&mut schemes, sizes), (kind, Turns::Frames))?;
    }
    if volume.in_memory {
        context.note(
            "the temporary folder lies in memory, so that no frame could be timed that reads from a disk"
                .to_owned(),
        );
        return Ok(());
    }
    volume.forget_all(true)?;
    let done = one_kind(context, volume, (&mut schemes, sizes), (Kind::Flight, Turns::Paths));
    volume.tiles.forget_all(false)?;
    done
}

fn one_kind(
    context: &mut Context<'_>,
    volume: &Volume,
    (schemes, sizes): (&mut Vec<Box<dyn Scheme + '_>>, Sizes),
    (kind, turns): (Kind, Turns),
) -> Result<(), Failure> {
    let mut medians = vec![Vec::new(); schemes.len()];
    let mut slow = medians.clone();
    for halves in SETS_IN_HALVES {
        // Where nothing is ever loaded the disk does not matter.
        if turns == Turns::Paths && halves < 4 {
            continue;
        }
        let plan = Plan {
            kind,
            shape: sizes.shape,
            set_tiles: sizes.budget_tiles * halves / 2,
            frame_tiles: sizes.budget_tiles / 4,
            frames: sizes.frames,
            samples: sizes.samples,
        };
        let mut courses = vec![Course::default(); schemes.len()];
        let paths = if turns == Turns::Paths { sizes.paths.div_ceil(2) } else { sizes.paths };
        for number in 0..paths as u64 {
            if context.stops() {
                return Ok(());
            }
            let mut random = SplitMix(SEED ^ u64::from(halves) << 8 ^ number);
            let frames = plan.frames(&mut random);
            let warm = warm_tiles(plan, sizes, &mut random);
            let paths = all_along(volume, schemes, (&frames, &warm), turns)?;
            for (course, path) in courses.iter_mut().zip(&paths) {
                course.add(path, &paths[0]);
            }
        }
        let budgets = f64::from(halves) / 2.0;
        let settings = [
            ("path", kind.name().to_owned()),
            ("set/budget", budgets.to_string()),
            ("file", turns.file().to_owned()),
        ];
        for (number, course) in courses.into_iter().enumerate() {
            medians[number].push((budgets, median(&course.frame_ms)));
            slow[number].push((budgets, quantile(&course.frame_ms, 0.99)));
            enter(context, (number, schemes[number].name()), &settings, course);
        }
    }
    for (what, file, curves) in [("median", "median", medians), ("99th percentile", "slow", slow)] {
        let curves = schemes.iter().map(|scheme| scheme.name().to_owned()).zip(curves).collect();
        let x = Axis { label: "working set over budget".to_owned(), logarithmic: true };
        let y = Axis { label: format!("frame time, {what} (ms)"), logarithmic: true };
        let title = format!("Frames along a path of {}, file {}", kind.name(), turns.file());
        let cache = if turns == Turns::Paths { "-disk" } else { "" };
        context.plot(&format!("schemes-frames-{}{cache}-{file}", kind.name()), &title, (x, y), curves);
    }
    Ok(())
}

fn enter(
    context: &mut Context<'_>,
    (number, name): (usize, &str),
    settings: &[(&str, String)],
    course: Course,
) {
    context.row(name, settings, ("frame", "ms"), course.frame_ms);
    context.row(name, settings, ("frame, 99th percentile", "ms"), course.slow_ms);
    context.row(name, settings, ("residency of a frame", "ms"), course.residency_ms);
    context.row(name, settings, ("loads", "tiles a frame"), course.loads);
    if number > 0 {
        context.row(name, settings, ("frame over ours", "times"), course.over_ours);
    }
}

/// Tiles of the path's set, in an order of their own, as many as fill the budget: so that a path begins in a steady state, whatever was there before.
fn warm_tiles(plan: Plan, sizes: Sizes, random: &mut SplitMix) -> Vec<u32> {
    let mut tiles = Vec::new();
    plan.set().list(plan.shape, &mut tiles);
    let order = random.shuffled(plan.set().count());
    order.into_iter().take(sizes.budget_tiles as usize).map(|at| tiles[at as usize]).collect()
}

/// Every scheme along the same path.
fn all_along(
    volume: &Volume,
    schemes: &mut [Box<dyn Scheme + '_>],
    (frames, warm): (&[Frame], &[u32]),
    turns: Turns,
) -> Result<Vec<Path>, Failure> {
    let mut paths = vec![Path::default(); schemes.len()];
    let warm_up = |scheme: &mut dyn Scheme| {
        // A few at a time: pages of several tiles need room for tiles beside those that are wanted.
        warm.chunks(4).try_for_each(|tiles| scheme.want(tiles).map(|_| ()))
    };
    match turns {
        Turns::Frames => {
            for scheme in &mut *schemes {
                warm_up(&mut **scheme)?;
            }
            for (number, frame) in frames.iter().enumerate() {
                // Another one begins each time, so that none is always the one after a certain other.
                for turn in 0..schemes.len() {
                    let which = (number + turn) % schemes.len();
                    paths[which].go(&mut *schemes[which], frame)?;
                }
            }
        }
        Turns::Paths => {
            for (scheme, path) in schemes.iter_mut().zip(&mut paths) {
                warm_up(&mut **scheme)?;
                volume.forget_all(true)?;
                for frame in frames {
                    path.go(&mut **scheme, frame)?;
                }
            }
        }
    }
    for (scheme, path) in schemes.iter().zip(&paths) {
        for (sum, expected) in path.sums.iter().zip(&paths[0].sums) {
            agree(scheme.name(), *sum, *expected)?;
        }
    }
    Ok(paths)
}
