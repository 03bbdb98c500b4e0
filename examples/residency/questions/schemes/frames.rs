//! Owns what whole frames cost along a camera's path: bringing the wanted tiles to memory, and sampling them, at working sets from half the budget to four times as much.

use std::sync::Arc;

use super::course::{Course, Path};
use super::dense::InTiles;
use super::path::{Frame, Kind, Plan};
use super::rates::{agree, quantile};
use super::scheme::Scheme;
use super::volume::Volume;
use super::{MAKERS, Sizes};
use crate::measure::{SplitMix, median};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// Working sets, in halves of the budget.
pub(crate) const SETS_IN_HALVES: [u32; 4] = [1, 2, 4, 8];

/// Who runs. Always one path at a time, ours before each of the others: frame by frame they would have each other's voxels in the caches, where those of mapped files, which have them in common, stay.
enum Runners<'v> {
    /// All side by side, with the file in the page cache.
    Cached(Vec<Box<dyn Scheme + 'v>>),
    /// Each made when its turn comes, with nothing in the page cache whenever a path begins: what one had read another must not find.
    Disk(&'v Arc<Volume>),
}

impl Runners<'_> {
    fn file(&self) -> &'static str {
        match self {
            Self::Cached(_) => "in the page cache",
            Self::Disk(_) => "dropped from it",
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Cached(schemes) => schemes.len(),
            Self::Disk(_) => MAKERS.len(),
        }
    }

    /// One scheme along a path.
    fn go(
        &mut self,
        number: usize,
        (frames, warm): (&[Frame], &[u32]),
        sizes: Sizes,
    ) -> Result<Path, Failure> {
        match self {
            Self::Cached(schemes) => {
                let scheme = &mut *schemes[number];
                warm_up(scheme, warm)?;
                Path::along(scheme, frames)
            }
            Self::Disk(volume) => {
                let mut scheme = MAKERS[number](volume, sizes.budget_bytes())?;
                volume.forget_all(true)?;
                warm_up(&mut *scheme, warm)?;
                // Again: what was read ahead of the tiles that were asked for.
                volume.forget_all(true)?;
                Path::along(&mut *scheme, frames)
            }
        }
    }

    /// Every scheme along the same path, each beside the one of ours that it is compared with; none where the run is to end.
    fn go_all(
        &mut self,
        context: &Context<'_>,
        path: (&[Frame], &[u32]),
        sizes: Sizes,
    ) -> Result<Vec<[Path; 2]>, Failure> {
        let ours = self.go(0, path, sizes)?;
        let mut all = vec![[ours.clone(), ours]];
        for number in 1..self.count() {
            if context.stops() {
                return Ok(Vec::new());
            }
            let ours = self.go(0, path, sizes)?;
            let theirs = self.go(number, path, sizes)?;
            for (sum, expected) in theirs.sums.iter().zip(&ours.sums) {
                agree(&theirs.name, *sum, *expected)?;
            }
            all.push([theirs, ours]);
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
    let mut cached = Runners::Cached(schemes);
    for kind in Kind::ALL {
        one_kind(context, &mut cached, sizes, kind)?;
    }
    super::say_what_left(context, volume, "frames");
    // None of them holds pages of the file any more, which could not be dropped then.
    drop(cached);
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
    one_kind(context, &mut Runners::Disk(volume), sizes, Kind::Flight)
}

fn one_kind(
    context: &mut Context<'_>,
    runners: &mut Runners<'_>,
    sizes: Sizes,
    kind: Kind,
) -> Result<(), Failure> {
    let from_disk = matches!(runners, Runners::Disk(_));
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
            let mut random = SplitMix(sizes.seed ^ u64::from(halves) << 8 ^ number);
            let frames = plan.frames(&mut random);
            let warm = warm_tiles(plan, sizes.budget_tiles, &mut random);
            let all = runners.go_all(context, (&frames, &warm), sizes)?;
            if all.is_empty() {
                return Ok(());
            }
            courses.resize_with(all.len(), Course::default);
            for (course, [path, ours]) in courses.iter_mut().zip(&all) {
                course.add(path, Some(ours));
            }
        }
        let budgets = f64::from(halves) / 2.0;
        let settings = [
            ("path", kind.name().to_owned()),
            ("set/budget", budgets.to_string()),
            ("file", runners.file().to_owned()),
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
        let title = format!("Frames along a path of {}, file {}", kind.name(), runners.file());
        let disk = if from_disk { "-disk" } else { "" };
        context.plot(&format!("schemes-frames-{}{disk}-{file}", kind.name()), &title, (x, y), curves);
    }
    Ok(())
}

/// Tiles of the path's set, in an order of their own, as many as fill the budget: so that a path begins in a steady state, whatever was there before.
pub(crate) fn warm_tiles(plan: Plan, budget_tiles: u32, random: &mut SplitMix) -> Vec<u32> {
    let mut tiles = Vec::new();
    plan.set().list(plan.shape, &mut tiles);
    random.shuffle(&mut tiles);
    tiles.truncate(budget_tiles as usize);
    tiles
}

fn warm_up(scheme: &mut dyn Scheme, warm: &[u32]) -> Result<(), Failure> {
    // A few at a time: pages of several tiles need room for more than is wanted.
    warm.chunks(4).try_for_each(|tiles| scheme.want(tiles).map(|_| ()))
}
