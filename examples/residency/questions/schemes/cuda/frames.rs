//! Owns what whole frames cost along a camera's path: bringing the wanted tiles to the device, and sampling them, at working sets from half the budget to four times as much.

use std::time::Instant;

use vastgrid::cuda::DeviceBuffer;

use super::super::course::{Course, Path, Timed};
use super::super::frames::{SETS_IN_HALVES, warm_tiles};
use super::super::path::{Frame, Kind, Plan};
use super::super::rates::quantile;
use super::scheme::{Bench, Contestant, Scheme, Setting, Task};
use super::{CEILINGS, ENTRIES, Sizes, reference};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// A path, and its lists in the device's memory, which are no scheme's.
struct Flown {
    frames: Vec<Frame>,
    /// Of each frame.
    stops: Vec<Stop>,
    warm: Vec<u32>,
}

/// What kernels read of one frame, and what comes of it.
struct Stop {
    tasks: [Task; 2],
    tiles: u64,
    sum: u64,
    _lists: [DeviceBuffer; 3],
}

impl Flown {
    fn new(bench: &Bench, frames: Vec<Frame>, warm: Vec<u32>) -> Result<Self, Failure> {
        let stop = |frame: &Frame| -> Result<Stop, Failure> {
            let work = &frame.work;
            let lists = [bench.list(&work.rays)?, bench.list(&work.points)?, bench.list(&frame.tiles)?];
            let [rays, points, tiles] = [&lists[0], &lists[1], &lists[2]].map(DeviceBuffer::address);
            let tasks = [
                Task::Rays(rays, u32::try_from(work.rays.len())?),
                Task::Points(points, u32::try_from(work.points.len())?),
            ];
            let sum = reference::rays(work) + reference::points(work);
            Ok(Stop { tasks, tiles, sum, _lists: lists })
        };
        let stops = frames.iter().map(stop).collect::<Result<_, _>>()?;
        Ok(Self { frames, stops, warm })
    }

    /// One scheme along it.
    fn go(&self, setting: &Setting, name: &str, scheme: &mut dyn Scheme) -> Result<Path, Failure> {
        let bench = &setting.bench;
        // A part of the budget at a time, as a frame wants.
        for tiles in self.warm.chunks((self.warm.len() / 8).max(1)) {
            let _ = scheme.want(tiles)?;
        }
        bench.stream.synchronize()?;
        let mut path = Path::new(name);
        for (frame, stop) in self.frames.iter().zip(&self.stops) {
            let start = Instant::now();
            let loads = scheme.want(&frame.tiles)?;
            let residency_ms = start.elapsed().as_secs_f64() * 1e3;
            bench.clear()?;
            let began = bench.event()?;
            scheme.launch(&stop.tasks)?;
            let ended = bench.event()?;
            let sum = bench.sum(name)?;
            let all_ms = start.elapsed().as_secs_f64() * 1e3;
            let kernels_ms = Some(f64::from(ended.elapsed_ms(&began)?));
            path.add(sum as f64, Timed { residency_ms, kernels_ms, all_ms, loads, read_bytes: 0 });
            // Not in the time of any frame.
            scheme.filter().agree(name, sum, stop.sum)?;
            setting.check(name, scheme, (stop.tiles, &frame.tiles))?;
        }
        Ok(path)
    }
}

/// Enters frame times of every scheme, path and working set.
pub(crate) fn measure(
    context: &mut Context<'_>,
    setting: &Setting,
    sizes: Sizes,
    dense_fits: bool,
) -> Result<(), Failure> {
    let mut entries = ENTRIES.to_vec();
    if dense_fits {
        // Of the linear ones the one whose kernels do as ours do.
        entries.extend([CEILINGS[0], CEILINGS[2]]);
    }
    let mut all = Contestant::all(context, setting, &entries, sizes.budget_bytes());
    for kind in Kind::ALL {
        one_kind(context, setting, &mut all, sizes, kind)?;
    }
    context.note(
        "'residency of a frame' ends where the wanted tiles are on the device for 'flat', and where everything that brings them is on its streams for its rivals, which do not wait: what frames and kernels take is what compares"
            .to_owned(),
    );
    Ok(())
}

fn one_kind(
    context: &mut Context<'_>,
    setting: &Setting,
    all: &mut [Contestant<'_>],
    sizes: Sizes,
    kind: Kind,
) -> Result<(), Failure> {
    let mut medians: Vec<_> = all.iter().map(|one| (one.name.to_owned(), Vec::new())).collect();
    let mut slow = medians.clone();
    for halves in SETS_IN_HALVES {
        let plan = Plan {
            kind,
            shape: sizes.shape,
            set_tiles: sizes.budget_tiles * halves / 2,
            frame_tiles: sizes.budget_tiles / 4,
            frames: sizes.frames,
            samples: sizes.samples,
        };
        let mut courses = vec![Course::default(); all.len()];
        for number in 0..sizes.paths as u64 {
            let mut random = SplitMix(sizes.seed ^ u64::from(halves) << 8 ^ number);
            let frames = plan.frames(&mut random);
            let warm = warm_tiles(plan, sizes.budget_tiles / 8 * 7, &mut random);
            let flown = Flown::new(&setting.bench, frames, warm)?;
            let doing = format!("went along a path of {}, set {halves} half budgets", kind.name());
            let mut ours = None;
            for number in 0..all.len() {
                if context.stops() {
                    return Ok(());
                }
                let go = |context: &mut Context<'_>, one: &mut Contestant<'_>| {
                    let name = one.name;
                    one.attempt(context, &doing, |scheme| flown.go(setting, name, scheme))
                };
                // Ours before each of the others.
                ours = go(context, &mut all[0]).or(ours);
                let theirs = if number == 0 { ours.clone() } else { go(context, &mut all[number]) };
                if let Some(theirs) = theirs {
                    courses[number].add(&theirs, ours.as_ref());
                }
            }
        }
        let budgets = f64::from(halves) / 2.0;
        let settings = [("path", kind.name().to_owned()), ("set/budget", budgets.to_string())];
        for (number, course) in
            courses.into_iter().enumerate().filter(|(_, course)| !course.frame_ms.is_empty())
        {
            medians[number].1.push((budgets, median(&course.frame_ms)));
            slow[number].1.push((budgets, quantile(&course.frame_ms, 0.99)));
            course.enter(context, &settings, (number > 0, false));
        }
    }
    for (what, file, mut curves) in [("median", "median", medians), ("99th percentile", "slow", slow)] {
        curves.retain(|(_, points)| !points.is_empty());
        let x = Axis { label: "working set over budget".to_owned(), logarithmic: true };
        let y = Axis { label: format!("frame time, {what} (ms)"), logarithmic: true };
        let title = format!("Frames along a path of {} on a device", kind.name());
        context.plot(&format!("schemes-device-frames-{}-{file}", kind.name()), &title, (x, y), curves);
    }
    Ok(())
}
