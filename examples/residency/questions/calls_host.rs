//! What do the system's calls cost that residency is made of, by the size of what they are about, with and without huge pages, and what does this crate's own layer add to them?

mod system;

use std::collections::BTreeMap;

use vastgrid::vmm::{Access, Space};

use self::system::{Area, MemoryFile};
use crate::measure::{SplitMix, median, nanoseconds, ratios};
use crate::report::Axis;
use crate::suite::{Context, Failure};
use crate::userfault::Userfault;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Who makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Caller {
    /// A program, in 4 KiB pages.
    Plain,
    /// A program, in 2 MiB pages where they fit.
    Huge,
    /// This crate's `vmm`, which counts, checks and records.
    Crate,
}

impl Caller {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "system",
            Self::Huge => "system, huge pages",
            Self::Crate => "vastgrid::vmm",
        }
    }
}

/// Nanoseconds of each call, in order of the rounds: by caller, call and size.
type Times = BTreeMap<(Caller, &'static str, usize), Vec<f64>>;

pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    reservations(context)?;
    let mut times = Times::new();
    let most_log2 = context.pick(24, 27, 27);
    let sizes: Vec<usize> = [12, 14, 16, 18, 20, 21, 22, 23, 24, 25, 26, 27]
        .into_iter()
        .filter(|log2| *log2 <= most_log2)
        .map(|log2| 1 << log2)
        .collect();
    let most_bytes = context.pick(64 << 20, 256 << 20, 512 << 20);
    let userfault = Userfault::new();
    if userfault.is_none() {
        context.note(
            "no userfaultfd that moves pages (Linux 6.14, and allowed): that is not measured".to_owned(),
        );
    }
    for round in 0..context.pick(4, 12, 25) {
        for &bytes in &sizes {
            if context.stops() {
                break;
            }
            let pieces = (most_bytes / bytes).clamp(1, 64);
            let mut random = SplitMix(context.seed.wrapping_add(round));
            let mut step = |caller, call, time| {
                // The first round warms up.
                if round > 0 {
                    times.entry((caller, call, bytes)).or_default().push(time);
                }
            };
            for (caller, huge) in [(Caller::Plain, false), (Caller::Huge, true)] {
                if huge && bytes < HUGE_PAGE_BYTES {
                    continue;
                }
                let step = &mut |call, time| step(caller, call, time);
                by_hand(step, pieces, bytes, huge, &mut random)?;
                if let Some(userfault) = &userfault {
                    by_pages(step, pieces, bytes, huge, &mut random, userfault)?;
                }
            }
            by_crate(&mut |call, time| step(Caller::Crate, call, time), pieces, bytes, &mut random)?;
        }
    }
    enter(context, &times);
    Ok(())
}

/// What reserving costs, by how much.
fn reservations(context: &mut Context<'_>) -> Result<(), Failure> {
    let space = Space::host();
    for log2 in [30, 34, 38, 42, 46] {
        let (mut system, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..context.pick(20, 200, 1000) {
            let (time, area) = nanoseconds(1, || Area::reserve(1, 1 << log2, 4096));
            system.push(time);
            drop(area?);
            let (time, range) = nanoseconds(1, || space.reserve(1 << log2, 1));
            ours.push(time);
            drop(range?);
        }
        let settings =
            |caller: Caller| [("bytes_log2", log2.to_string()), ("caller", caller.name().to_owned())];
        context.row("reserve", &settings(Caller::Plain), ("time", "ns a call"), system);
        context.row("reserve", &settings(Caller::Crate), ("time", "ns a call"), ours);
    }
    Ok(())
}

/// The life of some pieces of memory in a range, call by call: those of one kind together, each timed by itself over all pieces.
fn by_hand(
    step: &mut dyn FnMut(&'static str, f64),
    pieces: usize,
    bytes: usize,
    huge: bool,
    random: &mut SplitMix,
) -> Result<(), Failure> {
    let count = pieces as u64;
    let mut each = |call, area: &mut Area, f: &mut dyn FnMut(&mut Area, usize) -> Result<(), Failure>| {
        let (time, done) = nanoseconds(count, || (0..pieces).try_for_each(|i| f(area, i)));
        step(call, time);
        done
    };
    // Every other slot, so that no mapping is joined with its neighbour; from one half of the area to the other.
    let mut slots: Vec<usize> = (0..2 * pieces).map(|i| 2 * i).collect();
    random.shuffle(&mut slots);
    let (from, to) = slots.split_at(pieces);
    let mut area = Area::reserve(4 * pieces, bytes, bytes.max(HUGE_PAGE_BYTES))?;
    each("map", &mut area, &mut |area, i| area.map(from[i]))?;
    each("advise", &mut area, &mut |area, i| area.want_huge(from[i], huge))?;
    each("populate", &mut area, &mut |area, i| area.populate(from[i]))?;
    (0..pieces).try_for_each(|i| area.write(from[i], i as u64))?;
    each("mremap", &mut area, &mut |area, i| area.relocate(from[i], to[i]))?;
    each("reserve again", &mut area, &mut |area, i| area.reserve_again(from[i]))?;
    for (i, &slot) in to.iter().enumerate() {
        if area.read(slot)? != i as u64 {
            return Err(format!("a piece of {bytes} bytes was moved and holds something else").into());
        }
    }
    each("madvise DONTNEED", &mut area, &mut |area, i| area.give_back(to[i]))?;
    each("reserve over", &mut area, &mut |area, i| area.reserve_again(to[i]))?;
    if huge {
        return Ok(());
    }
    // The same with memory that has no address, as the crate's layer holds it.
    let (time, files) = nanoseconds(count, || {
        (0..pieces).map(|_| MemoryFile::new(bytes)).collect::<Result<Vec<_>, Failure>>()
    });
    step("create", time);
    let files = files?;
    let mut each = |call, area: &mut Area, f: &mut dyn FnMut(&mut Area, usize) -> Result<(), Failure>| {
        let (time, done) = nanoseconds(count, || (0..pieces).try_for_each(|i| f(area, i)));
        step(call, time);
        done
    };
    each("map memory file", &mut area, &mut |area, i| area.map_file(from[i], &files[i]))?;
    each("set access", &mut area, &mut |area, i| area.open(from[i]))?;
    (0..pieces).try_for_each(|i| area.write(from[i], 1))?;
    each("unmap", &mut area, &mut |area, i| area.reserve_again(from[i]))?;
    let (time, ()) = nanoseconds(count, || drop(files));
    step("destroy", time);
    Ok(())
}

/// Moving the OS pages of some pieces, to addresses where none was lately and back and forth between them.
fn by_pages(
    step: &mut dyn FnMut(&'static str, f64),
    pieces: usize,
    bytes: usize,
    huge: bool,
    random: &mut SplitMix,
    userfault: &Userfault,
) -> Result<(), Failure> {
    let count = pieces as u64;
    let mut slots: Vec<usize> = (0..2 * pieces).map(|i| 2 * i).collect();
    random.shuffle(&mut slots);
    let (from, to) = slots.split_at(pieces);
    let align = bytes.max(HUGE_PAGE_BYTES);
    let mut born = Area::reserve(2 * pieces, bytes, align)?;
    let mut area = Area::reserve(4 * pieces, bytes, align)?;
    let (time, registered) = nanoseconds(1, || area.register(userfault, huge));
    registered?;
    step("register", time);
    for (i, &slot) in from.iter().enumerate() {
        born.map(2 * i)?;
        born.want_huge(2 * i, huge)?;
        born.populate(2 * i)?;
        born.write(2 * i, i as u64)?;
        area.take_pages(&mut born, 2 * i, slot, userfault)?;
    }
    let mut each = |call, from: &[usize], to: &[usize]| {
        let mut moves = from.iter().zip(to);
        let (time, done) =
            nanoseconds(count, || moves.try_for_each(|(&from, &to)| area.move_pages(from, to, userfault)));
        step(call, time);
        done
    };
    each("move pages, first time there", from, to)?;
    each("move pages", to, from)?;
    for (i, &slot) in from.iter().enumerate() {
        if area.read(slot)? != i as u64 {
            return Err(format!("a piece of {bytes} bytes was moved and holds something else").into());
        }
    }
    Ok(())
}

/// The same calls through the crate's layer.
fn by_crate(
    step: &mut dyn FnMut(&'static str, f64),
    pieces: usize,
    bytes: usize,
    random: &mut SplitMix,
) -> Result<(), Failure> {
    let (space, count, bytes) = (Space::host(), pieces as u64, bytes as u64);
    let mut slots: Vec<u64> = (0..count).map(|i| 2 * i * bytes).collect();
    random.shuffle(&mut slots);
    let mut range = space.reserve(2 * count * bytes, bytes.max(HUGE_PAGE_BYTES as u64))?;
    let (time, made) =
        nanoseconds(count, || (0..pieces).map(|_| space.create(bytes)).collect::<Result<Vec<_>, _>>());
    step("create", time);
    let made = made?;
    let (time, done) =
        nanoseconds(count, || slots.iter().zip(&made).try_for_each(|(at, memory)| range.map(*at, memory)));
    step("map memory file", time);
    done?;
    let (time, done) = nanoseconds(count, || {
        slots.iter().try_for_each(|at| range.set_access(*at..at + bytes, Access::ReadWrite, &[]))
    });
    step("set access", time);
    done?;
    slots.iter().try_for_each(|at| range.write(*at, &[1]))?;
    let (time, done) = nanoseconds(count, || slots.iter().try_for_each(|at| range.unmap(*at, bytes)));
    step("unmap", time);
    done?;
    let (time, ()) = nanoseconds(count, || drop(made));
    step("destroy", time);
    Ok(())
}

/// Enters what was measured: a figure for each, and curves over the size.
fn enter(context: &mut Context<'_>, times: &Times) {
    for ((caller, call, bytes), times) in times {
        let settings = [("page_bytes", bytes.to_string()), ("caller", caller.name().to_owned())];
        context.row(call, &settings, ("time", "ns a call"), times.clone());
    }
    for ((_, call, bytes), ours) in times.iter().filter(|((caller, ..), _)| *caller == Caller::Crate) {
        if let Some(system) = times.get(&(Caller::Plain, *call, *bytes)) {
            let settings = [("page_bytes", bytes.to_string()), ("of", "vastgrid::vmm, system".to_owned())];
            context.row(call, &settings, ("ratio", "times"), ratios(ours, system));
        }
    }
    let mut per_call: BTreeMap<(Caller, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for ((caller, call, bytes), times) in times {
        per_call.entry((*caller, *call)).or_default().push((*bytes as f64, median(times)));
    }
    let curves = |calls: &[&str], scale: &dyn Fn((f64, f64)) -> (f64, f64)| {
        let wanted = per_call.iter().filter(|((_, call), _)| calls.contains(call));
        let named = wanted.map(|((caller, call), points)| {
            (format!("{call}, {}", caller.name()), points.iter().map(|point| scale(*point)).collect())
        });
        named.collect::<Vec<(String, Vec<_>)>>()
    };
    let axis = |label: &str| Axis { label: label.to_owned(), logarithmic: true };
    let moves = ["map", "mremap", "move pages", "populate", "madvise DONTNEED", "reserve again"];
    let layer = ["create", "map memory file", "set access", "unmap", "destroy"];
    for (name, what, calls) in [
        ("calls", "Calls of the system", &moves[..]),
        ("calls_vmm", "The crate's layer beside the system", &layer[..]),
    ] {
        let a_call = curves(calls, &|(bytes, ns)| (bytes, ns / 1e3));
        let a_mib = curves(calls, &|(bytes, ns)| (bytes, ns / 1e3 / (bytes / f64::from(1 << 20))));
        if a_call.is_empty() {
            continue;
        }
        let size = || axis("size of a page (bytes)");
        context.plot(
            &format!("{name}_host_per_call"),
            &format!("{what}: time of a call"),
            (size(), axis("time of a call (us)")),
            a_call,
        );
        context.plot(
            &format!("{name}_host_per_mib"),
            &format!("{what}: time for each MiB"),
            (size(), axis("time for each MiB (us)")),
            a_mib,
        );
    }
}
