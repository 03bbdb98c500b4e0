//! What do the driver's calls for virtual memory cost, by the size of a piece of physical memory, by how many pieces one call covers, and by how many devices are given access?
//!
//! Through `vastgrid::vmm`, so with its own bookkeeping on top: some 100 ns of the microseconds that a call takes.

use vastgrid::cuda::Device;
use vastgrid::vmm::{Access, PhysicalMemory, Space};

use crate::measure::{SplitMix, median, nanoseconds};
use crate::report::Axis;
use crate::suite::{Context, Failure};

/// The calls, in the order in which they are made.
const CALLS: [&str; 6] = ["reserve", "create", "map", "set access", "unmap", "release"];

/// A case: pieces of `bytes`, of which neighbours are given access and unmapped `run` at a time.
#[derive(Clone, Copy)]
struct Case {
    bytes: u64,
    run: u64,
    pieces: u64,
}

/// Medians of the calls of a case, in microseconds for each piece.
type Medians = [f64; CALLS.len()];

pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let device = Device::open(0)?;
    let space = Space::cuda(&device)?;
    context.note(format!(
        "granularity {} bytes, recommended {}",
        space.granularity_bytes(),
        space.recommended_granularity_bytes()
    ));
    // What others use stays free, and some of the rest.
    let most_bytes = device.memory()?.0 / 2;
    reservations(context, &space)?;
    let sizes = context.pick(
        vec![2u64, 8, 32],
        vec![2, 4, 8, 16, 32, 64, 128, 256],
        vec![2, 4, 8, 16, 32, 64, 128, 256],
    );
    let mut by_size = Vec::new();
    for bytes in sizes.into_iter().map(|mib| mib << 20) {
        let pieces = (most_bytes / bytes).min(64);
        if let Some(medians) = case(context, &space, &[&device], Case { bytes, run: 1, pieces })? {
            by_size.push((bytes as f64, medians));
        }
    }
    let runs = context.pick(
        vec![1, 16, 64],
        vec![1, 4, 16, 64, 256, 1024, 4096],
        vec![1, 4, 16, 64, 256, 1024, 4096],
    );
    let mut by_run = Vec::new();
    for run in runs {
        let case_of = Case { bytes: 2 << 20, run, pieces: run.max(64) };
        if let Some(medians) = case(context, &space, &[&device], case_of)? {
            by_run.push((run as f64, medians));
        }
    }
    if Device::count()? > 1 {
        let other = Device::open(1)?;
        if device.can_access(&other)? || other.can_access(&device)? {
            for bytes in [2u64 << 20, 8 << 20] {
                case(context, &space, &[&device, &other], Case { bytes, run: 1, pieces: 64 })?;
            }
        } else {
            context
                .note("the devices cannot reach each other's memory: nothing to say of several".to_owned());
        }
    } else {
        context.note("one device only: nothing to say of several".to_owned());
    }
    plots(context, &by_size, &by_run);
    Ok(())
}

/// What reserving costs, by how much.
fn reservations(context: &mut Context<'_>, space: &Space) -> Result<(), Failure> {
    for log2 in [30, 34, 38, 42, 46] {
        let mut times = Vec::new();
        for _ in 0..context.pick(5, 20, 50) {
            let (time, range) = nanoseconds(1, || space.reserve(1 << log2, 1));
            drop(range?);
            times.push(time / 1e3);
        }
        context.row("reserve", &[("bytes_log2", log2.to_string())], ("time", "us a call"), times);
    }
    Ok(())
}

/// One case, round after round; `None` where there is not enough memory, or no time.
fn case(
    context: &mut Context<'_>,
    space: &Space,
    devices: &[&Device],
    case: Case,
) -> Result<Option<Medians>, Failure> {
    let Case { bytes, run, pieces } = case;
    let free_bytes = devices[0].memory()?.0;
    if context.stops() || pieces < run || pieces == 0 {
        return Ok(None);
    }
    if pieces * bytes > free_bytes - free_bytes / 16 {
        context.note(format!(
            "{pieces} pieces of {bytes} bytes do not fit into the {free_bytes} bytes that are free"
        ));
        return Ok(None);
    }
    let mut times = [const { Vec::new() }; CALLS.len()];
    let mut random = SplitMix(context.seed ^ bytes ^ run);
    for round in 0..context.pick(4, 8, 24) {
        if context.stops() {
            break;
        }
        let found = round_of(space, devices, case, &mut random)?;
        // The first one warms up.
        if round > 0 {
            times.iter_mut().zip(found).for_each(|(times, time)| times.push(time));
        }
    }
    if times[0].is_empty() {
        return Ok(None);
    }
    let settings =
        [("page_bytes", bytes.to_string()), ("run", run.to_string()), ("devices", devices.len().to_string())];
    let cycle: Vec<f64> = (0..times[0].len()).map(|i| times[2][i] + times[3][i] + times[4][i]).collect();
    let rates = cycle.iter().map(|us| bytes as f64 / us / 1e3).collect();
    for (call, times) in CALLS.iter().zip(&times) {
        context.row(call, &settings, ("time", "us a piece"), times.clone());
    }
    context.row("map, set access, unmap", &settings, ("time", "us a piece"), cycle);
    context.row("map, set access, unmap", &settings, ("rate", "GB/s"), rates);
    Ok(Some(times.map(|times| median(&times))))
}

/// Every call once for each piece, or each run of them, in microseconds for each piece.
fn round_of(
    space: &Space,
    devices: &[&Device],
    Case { bytes, run, pieces }: Case,
    random: &mut SplitMix,
) -> Result<Medians, Failure> {
    let runs = pieces / run;
    let (reserve, range) = nanoseconds(pieces, || space.reserve(bytes * pieces * 16, bytes));
    let mut range = range?;
    let (create, memory) =
        nanoseconds(pieces, || (0..runs * run).map(|_| space.create(bytes)).collect::<Result<Vec<_>, _>>());
    let memory: Vec<PhysicalMemory> = memory?;
    // Runs of neighbours, each somewhere else.
    let mut starts: Vec<u64> = (0..runs * 16).map(|i| i * run * bytes).collect();
    random.shuffle(&mut starts);
    starts.truncate(memory.len() / usize::try_from(run)?);
    let (map, done) = nanoseconds(pieces, || {
        let places = starts.iter().flat_map(|start| (0..run).map(move |i| start + i * bytes));
        places.zip(&memory).try_for_each(|(at, memory)| range.map(at, memory))
    });
    done?;
    let (access, done) = nanoseconds(pieces, || {
        starts.iter().try_for_each(|at| range.set_access(*at..at + run * bytes, Access::ReadWrite, devices))
    });
    done?;
    let (unmap, done) =
        nanoseconds(pieces, || starts.iter().try_for_each(|at| range.unmap(*at, run * bytes)));
    done?;
    let (release, ()) = nanoseconds(pieces, || drop(memory));
    Ok([reserve, create, map, access, unmap, release].map(|ns| ns / 1e3))
}

fn plots(context: &mut Context<'_>, by_size: &[(f64, Medians)], by_run: &[(f64, Medians)]) {
    let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: true };
    let curves = |of: &[(f64, Medians)], scale: &dyn Fn(f64, f64) -> f64| -> Vec<(String, Vec<(f64, f64)>)> {
        let curve = |i: usize| of.iter().map(|(at, medians)| (*at, scale(*at, medians[i]))).collect();
        // Reserving is done once, and is no matter of pieces.
        (1..CALLS.len()).map(|i| (CALLS[i].to_owned(), curve(i))).collect()
    };
    if by_size.len() > 1 {
        let size = || axis("size of a piece (bytes)");
        let calls = curves(by_size, &|_, us| us);
        let mib = curves(by_size, &|bytes, us| us / (bytes / f64::from(1 << 20)));
        let y = axis("time of a call (us)");
        context.plot("calls_cuda_per_call", "Calls of the driver: time of a call", (size(), y), calls);
        let y = axis("time for each MiB (us)");
        context.plot("calls_cuda_per_mib", "Calls of the driver: time for each MiB", (size(), y), mib);
    }
    if by_run.len() > 1 {
        let axes = (axis("pieces that one call covers"), axis("time for each piece (us)"));
        let title = "Calls of the driver: do they come cheaper by the dozen? (2 MiB pieces)";
        context.plot("calls_cuda_per_run", title, axes, curves(by_run, &|_, us| us));
    }
}
