//! Does residency age? Tiles come and go at random, under budgets that grow and shrink, for as long as may be: what a swap costs over time, and what piles up meanwhile.
//!
//! What others do on the machine makes swaps dearer and cheaper by more than a tenth. So on the host each window of the array that ages has one beside it of an array that was made just then: what
//! the machine did, it did to both.
//!
//! A long run goes in phases, each of one call of the program: what was measured is kept in the output folder, and the next run with the same folder goes on from there.

mod state;

use std::path::Path;
use std::time::{Duration, Instant};

use vastgrid::cuda::Device;
use vastgrid::{Backend, CudaBackend, Error, HostBackend, Pool, SparseArray3D, TileCoord};

use self::state::{Moment, State};
use super::field;
use crate::measure::{SplitMix, fast, median};
use crate::process;
use crate::report::{Axis, Verdict};
use crate::suite::{Context, Failure, On};

/// Tiles of the array: some hundred times what is resident, and few enough that what is kept of every tile that was ever asked for is soon all there.
const TILES_LOG2: u32 = 22;
/// Budgets of a window, in eighths of the largest, in another order each time.
const BUDGETS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Windows that a verdict needs.
const FEWEST_MOMENTS: usize = 20;
/// Tiles of a request.
const TILES: u64 = 16;

/// What is asked of one backend.
struct Case<B: Backend> {
    pool: Pool<B>,
    array: SparseArray3D<u8, B>,
    /// Tiles along the axes.
    sides: [u64; 3],
    tile_log2: u32,
    budget: u64,
    /// Requests under each budget.
    requests: u64,
}

/// What a window took.
struct Took {
    swap_ns: f64,
    swap_processors_ns: f64,
    change_us: f64,
}

/// What piles up beyond the process, where anything does: physical pages that the backend holds, and bytes of the device.
type Beyond<'a, B> = &'a dyn Fn(&Pool<B>) -> Result<(u64, u64), Failure>;

/// What makes a young array, to be measured beside the one that ages.
type Young<'a, B> = Option<&'a dyn Fn() -> Result<Case<B>, Failure>>;

pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let requests = context.pick(8, 32, 64);
    if context.on != On::Cuda {
        let make = || case(requests, HostBackend::new(), 16, 128 << 20);
        return on(context, &make()?, Some(&make), &|_| Ok((process::descriptors()?, 0)));
    }
    let device = Device::open(0)?;
    let beyond = |pool: &Pool<CudaBackend>| {
        let (free, all) = device.memory()?;
        let kept = pool.backend().kept_mappings() as u64;
        Ok((kept, all - free))
    };
    // There the driver is most of it, and memory for two is not asked for.
    on(context, &case(requests, CudaBackend::open(0)?, 21, 1 << 30)?, None, &beyond)
}

/// An array that nothing was asked of yet.
fn case<B: Backend>(requests: u64, backend: B, tile_log2: u32, budget: u64) -> Result<Case<B>, Failure> {
    let pool = Pool::new(backend, budget)?;
    let extent_log2 = TILES_LOG2 + tile_log2;
    let array = field::array(&pool, extent_log2, tile_log2, 1 << tile_log2)?;
    let sides = field::tiles(extent_log2, tile_log2);
    Ok(Case { pool, array, sides, tile_log2, budget, requests })
}

fn on<B: Backend>(
    context: &mut Context<'_>,
    case: &Case<B>,
    young: Young<'_, B>,
    beyond: Beyond<'_, B>,
) -> Result<(), Failure> {
    let (phase, all) = match context.on {
        On::Cuda => context.pick((3, 3), (120, 120), (8 * 60, 8 * 60)),
        _ => context.pick((3, 3), (120, 120), (8 * 60 + 30, 60 * 60)),
    };
    // What takes more than a phase goes on from what earlier ones left.
    let path = (all > phase).then(|| context.out.join(format!("ageing-{}.json", context.on.name())));
    let mut state = path.as_deref().map_or_else(|| Ok(State::default()), State::read)?;
    let left = f64::from(all) - state.seconds;
    if left > 0.0 {
        let phase = Duration::from_secs_f64(left.min(f64::from(phase)));
        age(context, case, young, phase, &mut state, path.as_deref(), beyond)?;
    }
    if let Some(path) = path {
        let mut text = format!(
            "{:.0} of {all} s so far, in {} phases, each in a process of its own, kept in {}",
            state.seconds,
            state.phases,
            path.display()
        );
        if state.seconds < f64::from(all) {
            text += "; to go on, run again with --full --only ageing and a folder (--out) that has this file, and no results of other questions";
        }
        context.note(text);
    }
    enter(context, &state.moments);
    Ok(())
}

/// One phase, window after window.
fn age<B: Backend>(
    context: &Context<'_>,
    case: &Case<B>,
    young: Young<'_, B>,
    phase: Duration,
    state: &mut State,
    path: Option<&Path>,
    beyond: Beyond<'_, B>,
) -> Result<(), Failure> {
    state.phases += 1;
    let mut random = SplitMix(context.seed ^ u64::from(state.phases) << 32);
    let (start, before) = (Instant::now(), state.seconds);
    // What is made once is made in the first windows, which are of no phase's age.
    for _ in 0..2 {
        window(case, &mut random)?;
        young.map(|make| window(&make()?, &mut random)).transpose()?;
    }
    let mut saved = Instant::now();
    while start.elapsed() < phase && !context.stops() {
        let Took { swap_ns, swap_processors_ns, change_us } = window(case, &mut random)?;
        let (handles, device_bytes) = beyond(&case.pool)?;
        state.seconds = before + start.elapsed().as_secs_f64();
        let moment = Moment {
            phase: state.phases,
            seconds: state.seconds,
            swap_ns,
            swap_processors_ns,
            young_swap_processors_ns: None,
            change_us,
            mappings: process::memory_mappings()?,
            resident_bytes: process::resident_bytes()?,
            page_table_bytes: process::page_table_bytes()?,
            handles,
            device_bytes,
        };
        // After all that is counted, which the young one would add to.
        let young = young.map(|make| window(&make()?, &mut random)).transpose()?;
        let young_swap_processors_ns = young.map(|took| took.swap_processors_ns);
        state.moments.push(Moment { young_swap_processors_ns, ..moment });
        // Now and then, since somebody may end the process.
        if let Some(path) = path
            && saved.elapsed() > Duration::from_secs(20)
        {
            state.write(path)?;
            saved = Instant::now();
        }
    }
    path.map_or(Ok(()), |path| state.write(path))
}

/// All budgets once, each full of tiles that came at random; ends with the largest.
fn window<B: Backend>(case: &Case<B>, random: &mut SplitMix) -> Result<Took, Failure> {
    let mut budgets = BUDGETS;
    random.shuffle(&mut budgets);
    let (mut swaps, mut changing) = (0, Duration::ZERO);
    let (mut swapping, mut of_processors) = (Duration::ZERO, Duration::ZERO);
    for budget in budgets {
        let start = Instant::now();
        case.pool.set_budget(case.budget / 8 * budget)?;
        changing += start.elapsed();
        // As many tiles as the budget holds are no swaps: they find room.
        let capacity = (case.budget / 8 * budget) >> case.tile_log2;
        fill(case, capacity, random)?;
        let (start, before) = (Instant::now(), process::processor_time());
        for _ in 0..case.requests {
            swaps += ask(case, TILES, random)?;
        }
        swapping += start.elapsed();
        of_processors += process::processor_time().saturating_sub(before);
    }
    case.pool.set_budget(case.budget)?;
    fill(case, case.budget >> case.tile_log2, random)?;
    let each = |time: Duration| time.as_secs_f64() * 1e9 / swaps.max(1) as f64;
    let change_us = changing.as_secs_f64() * 1e6 / BUDGETS.len() as f64;
    Ok(Took { swap_ns: each(swapping), swap_processors_ns: each(of_processors), change_us })
}

/// Asks for tiles until the budget is used.
fn fill<B: Backend>(case: &Case<B>, capacity: u64, random: &mut SplitMix) -> Result<(), Failure> {
    // Random tiles may be there already, so that the budget says when it is full; but not for ever.
    for _ in 0..capacity {
        let stats = case.pool.stats();
        if stats.used_bytes + (TILES << case.tile_log2) > stats.budget_bytes {
            break;
        }
        ask(case, TILES, random)?;
    }
    Ok(())
}

/// Asks for tiles at random, one in four near the others, and says how many had to be loaded.
fn ask<B: Backend>(case: &Case<B>, count: u64, random: &mut SplitMix) -> Result<u64, Error> {
    let [x, y, z] = case.sides;
    let tiles: Vec<TileCoord> = (0..count)
        .map(|_| {
            let near = random.below(4) == 0;
            let side =
                |random: &mut SplitMix, side: u64| random.below(if near { side.min(16) } else { side });
            TileCoord::new(side(random, x), side(random, y), side(random, z))
        })
        .collect();
    Ok(case.array.request(&tiles)?.complete()?.loaded)
}

/// Figures, curves over time, and whether the last tenth is as the first.
fn enter(context: &mut Context<'_>, moments: &[Moment]) {
    /// A figure: its name, its unit, how it is read.
    type Figure = (&'static str, &'static str, fn(&Moment) -> f64);
    const FIGURES: [Figure; 9] = [
        ("time of a swap", "us", |m| m.swap_ns / 1e3),
        ("time of the processors for a swap", "us", |m| m.swap_processors_ns / 1e3),
        ("a swap over one in a young array", "times of the processors' time", |m| {
            m.young_swap_processors_ns.map_or(f64::NAN, |young| m.swap_processors_ns / young)
        }),
        ("time of a change of the budget", "us", |m| m.change_us),
        ("memory mappings", "mappings", |m| m.mappings as f64),
        ("resident memory", "MiB", |m| m.resident_bytes as f64 / f64::from(1 << 20)),
        ("page tables", "MiB", |m| m.page_table_bytes as f64 / f64::from(1 << 20)),
        ("handles", "handles", |m| m.handles as f64),
        ("memory of the device", "MiB", |m| m.device_bytes as f64 / f64::from(1 << 20)),
    ];
    if moments.is_empty() {
        return;
    }
    for (name, unit, of) in FIGURES {
        // Not all of them are of every backend, or of phases that older programs ran.
        let known: Vec<_> =
            moments.iter().map(|m| (m, of(m))).filter(|(_, value)| value.is_finite()).collect();
        let values: Vec<f64> = known.iter().map(|(_, value)| *value).collect();
        if values.iter().all(|value| *value == 0.0) {
            continue;
        }
        context.row(name, &[], ("value", unit), values.clone());
        // Others on this machine make windows slower and none faster: times are those of the fastest tenth.
        let is_time = name.starts_with("time");
        let (typical, of) =
            if is_time { (fast as fn(&[f64]) -> f64, ", fastest tenths") } else { (median as _, "") };
        // The last tenth over the first.
        let aged = |values: &[f64]| {
            let tenth = (values.len() / 10).max(1);
            typical(&values[values.len() - tenth..]) / typical(&values[..tenth])
        };
        let target = match name {
            // On a device the driver and the bus are most of it.
            "time of a swap" if context.on == On::Cuda => 1.1,
            // Whatever is not a number of its own: mappings that touch are one.
            "memory mappings" => 1.02,
            "a swap over one in a young array" | "resident memory" | "page tables" => 1.1,
            "handles" if context.on != On::Cuda => 1.0,
            _ => f64::NAN,
        };
        if target.is_finite() {
            // Phases are processes of their own, so that what piles up does so within one. Of fewer windows a tenth is one, or none.
            let phases = known.chunk_by(|(a, _), (b, _)| a.phase == b.phase);
            let phases = phases.filter(|phase| phase.len() >= FEWEST_MOMENTS);
            let within = phases.map(|phase| aged(&phase.iter().map(|(_, value)| *value).collect::<Vec<_>>()));
            let worst = within.fold(f64::NEG_INFINITY, f64::max);
            if worst.is_finite() {
                let what = format!("{name}: last tenth over the first{of}, in the worst phase");
                context.verdict(Verdict { what, value: worst, target, at_least: false });
            }
            let is_of_several = known.first().map(|(m, _)| m.phase) != known.last().map(|(m, _)| m.phase);
            if known.len() >= FEWEST_MOMENTS && is_of_several {
                let what = format!("{name}: last tenth over the first{of}, of all phases");
                context.verdict(Verdict { what, value: aged(&values), target, at_least: false });
            }
        }
        // Pictures need no more points than they have pixels.
        let every = (known.len() / 600).max(1);
        let points = known.iter().step_by(every).map(|(m, value)| (m.seconds, *value)).collect();
        let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: false };
        let file = format!("ageing_{}", name.replace(' ', "_"));
        let axes = (axis("time (s)"), axis(&format!("{name} ({unit})")));
        context.plot(&file, &format!("Ageing: {name}"), axes, vec![(name.to_owned(), points)]);
    }
}
