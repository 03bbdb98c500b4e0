//! Does the budget hold? Bytes of memory that the process, or the device, really has while arrays stream, against what was allowed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use vastgrid::cuda::Device;
use vastgrid::{Backend, CudaBackend, HostBackend, Pool, TileCoord};

use super::field;
use crate::measure::SplitMix;
use crate::process;
use crate::report::{Axis, Verdict};
use crate::suite::{Context, Failure, On};

const MIB: u64 = 1 << 20;

/// What the arrays have in all.
const EXTENT_LOG2: u32 = 40;

/// A case: how much may be resident, in pages of one tile of which size, how many of them a request asks for.
#[derive(Clone, Copy, Debug)]
struct Case {
    budget: u64,
    page_log2: u32,
    batch: u64,
}

/// What reads the memory that counts.
type Meter<'a> = &'a (dyn Fn() -> Result<u64, Failure> + Sync);

pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let budgets = context.pick(vec![16, 64], vec![16, 64, 256], vec![16, 64, 256, 1024, 2048]);
    if context.on == On::Cuda {
        let device = Device::open(0)?;
        let meter = || {
            let (free, all) = device.memory()?;
            Ok(all - free)
        };
        let of = "memory of the device";
        return all(context, of, &budgets, &[21, 23, 25], &meter, || Ok(CudaBackend::open(0)?));
    }
    let of = "memory of the process (VmRSS)";
    tables(context)?;
    all(context, of, &budgets, &[12, 16, 21, 23], &process::resident_bytes, || Ok(HostBackend::new()))
}

/// What is kept of each tile that was asked for, beside its memory: of tiles that lie together, and of such as lie anywhere.
fn tables(context: &mut Context<'_>) -> Result<(), Failure> {
    const PAGE_LOG2: u32 = 16;
    const BUDGET: u64 = 16 * MIB;
    for scattered in [false, true] {
        let mut kept = Vec::new();
        for round in 0..context.pick(1, 3, 5) {
            if context.stops() {
                return Ok(());
            }
            let pool = Pool::new(HostBackend::new(), BUDGET)?;
            let array = field::array(&pool, EXTENT_LOG2, PAGE_LOG2, 1 << PAGE_LOG2)?;
            let sides = field::tiles(EXTENT_LOG2, PAGE_LOG2);
            let all = sides.iter().product::<u64>();
            let mut random = SplitMix(context.seed.wrapping_add(round));
            let first = random.below(all / 2);
            let asked = 1 << 14;
            let before = process::resident_bytes()?;
            for batch in (0..asked).step_by(64) {
                let number =
                    |n: u64, random: &mut SplitMix| if scattered { random.below(all) } else { first + n };
                let numbers = (batch..batch + 64).map(|n| number(n, &mut random));
                let tiles: Vec<_> = numbers.map(|n| field::nth(TileCoord::default(), sides, n)).collect();
                array.request(&tiles)?.complete()?;
            }
            let grown = process::resident_bytes()?.saturating_sub(before);
            kept.push(grown.saturating_sub(pool.stats().used_bytes) as f64 / asked as f64);
        }
        let place = if scattered { "anywhere" } else { "together" };
        let settings = [("page_bytes", (1u64 << PAGE_LOG2).to_string()), ("tiles", place.to_owned())];
        context.row("kept of a tile that was asked for", &settings, ("memory", "bytes a tile"), kept);
    }
    Ok(())
}

/// Every case on one backend.
fn all<B: Backend>(
    context: &mut Context<'_>,
    of: &str,
    budgets: &[u64],
    pages_log2: &[u32],
    meter: Meter<'_>,
    backend: impl Fn() -> Result<B, Failure>,
) -> Result<(), Failure> {
    let mut curves = Vec::new();
    for &page_log2 in pages_log2 {
        let mut curve = Vec::new();
        let mut worst = f64::NEG_INFINITY;
        for &mib in budgets {
            let budget = mib * MIB;
            // An eighth of the budget at a time, and at least a page.
            let batch = ((budget / 8) >> page_log2).max(1);
            let case = Case { budget, page_log2, batch };
            if context.stops() || budget >> page_log2 < 2 {
                continue;
            }
            let (mut peaks, mut over) = (Vec::new(), Vec::new());
            for round in 0..context.pick(1, 3, 5) {
                let passes = context.pick(2, 4, 8);
                let peak = peak(case, passes, context.seed.wrapping_add(round), meter, backend()?)?;
                let batch_bytes = (batch << page_log2) as f64;
                // The budget was in use: who saw less saw something else go, and knows nothing of the rest.
                if peak + (batch << page_log2) < budget {
                    context.note(format!(
                        "{of}: it grew by {peak} bytes at most while {budget} were in use, pages of {} KiB: this round does not count",
                        (1u64 << page_log2) >> 10
                    ));
                    continue;
                }
                over.push((peak as f64 - budget as f64) / batch_bytes);
                peaks.push(peak as f64 / MIB as f64);
            }
            let settings = [("budget_mib", mib.to_string()), ("page_bytes", (1u64 << page_log2).to_string())];
            context.row("peak while streaming", &settings, ("memory", "MiB"), peaks.clone());
            context.row("beyond the budget", &settings, ("memory", "batches"), over.clone());
            if over.is_empty() {
                continue;
            }
            worst = over.iter().copied().fold(worst, f64::max);
            curve.push((budget as f64, peaks.iter().copied().fold(0.0, f64::max) * MIB as f64));
        }
        if !curve.is_empty() {
            let pages = format!("pages of {} KiB", (1u64 << page_log2) >> 10);
            context.verdict(Verdict {
                what: format!("{of} beyond the budget, in batches, {pages}, at most of all budgets"),
                value: worst,
                target: 1.0,
                at_least: false,
            });
            curves.push((pages, curve));
        }
    }
    if curves.is_empty() {
        return Ok(());
    }
    curves.push((
        "the budget".to_owned(),
        budgets.iter().map(|mib| (*mib * MIB) as f64).map(|b| (b, b)).collect(),
    ));
    let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: true };
    let title = format!("Most {of} while streaming, over the budget");
    context.plot("memory_over_budget", &title, (axis("budget (bytes)"), axis("peak (bytes)")), curves);
    Ok(())
}

/// Streams several times the budget through an array and says by how much memory grew at most: after each request, and between, as often as another thread gets to look.
fn peak<B: Backend>(
    case: Case,
    passes: u64,
    seed: u64,
    meter: Meter<'_>,
    backend: B,
) -> Result<u64, Failure> {
    let before = meter()?;
    let (most, done, failed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let look = || Ok(_ = most.fetch_max(meter()?, Ordering::Relaxed));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let looked: Result<(), Failure> = look();
                if looked.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(200));
            }
        });
        let streamed = stream(case, passes, seed, backend, &look);
        done.store(true, Ordering::Relaxed);
        streamed
    })?;
    if failed.load(Ordering::Relaxed) {
        return Err("memory could not be measured while arrays streamed".into());
    }
    Ok(most.load(Ordering::Relaxed).saturating_sub(before))
}

/// Asks for tile after tile, and now and then for some of those before; looks at the memory after each request.
fn stream<B: Backend>(
    case: Case,
    passes: u64,
    seed: u64,
    backend: B,
    look: &dyn Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let pool = Pool::new(backend, case.budget)?;
    let array = field::array(&pool, EXTENT_LOG2, case.page_log2, 1 << case.page_log2)?;
    let sides = field::tiles(EXTENT_LOG2, case.page_log2);
    let mut random = SplitMix(seed);
    let mut at = random.below(sides.iter().product::<u64>() / 2);
    for _ in 0..passes * case.budget / (case.batch << case.page_log2) {
        let back = if random.below(4) == 0 { random.below(4) * case.batch } else { 0 };
        let first = at.saturating_sub(back);
        let tiles: Vec<_> =
            (first..first + case.batch).map(|n| field::nth(TileCoord::default(), sides, n)).collect();
        let report = array.request(&tiles)?.complete()?;
        if report.hits + report.loaded != case.batch {
            return Err(format!("of {} tiles {} are there", case.batch, report.hits + report.loaded).into());
        }
        at += case.batch;
        look()?;
    }
    let used = pool.stats().used_bytes;
    if used > case.budget {
        return Err(format!("{used} bytes are used by the pool's own count, of {}", case.budget).into());
    }
    Ok(())
}
