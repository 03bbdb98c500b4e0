//! Flights around and through a volume at budgets of a quarter to four times of what their largest view needs: how long does a picture take, what is read again that had been evicted, how good are
//! the pictures, and how soon is the last one as good as it gets?
//!
//! *Step by step*: without threads, with 24 tiles loaded after each picture; the same each time. *In time*: pictures every 16 ms at most while two threads load.
//!
//! ```sh
//! cargo bench --bench fly_through
//! cargo bench --bench fly_through -- --record assets/traces # writes the flights at half of what they need, step by step
//! ```

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of a known size"
)]

mod common;
#[path = "common/flight.rs"]
mod flight;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{is_test, size};
use flight::{AT_REST, PINNED_BYTES, explorer, flights, options, transfer, working_set};
use vastgrid::render::Camera;
use vastgrid::trace::Trace;
use vastgrid::{Explorer, Fidelity, HostBackend, StreamOptions};

/// Tiles that are loaded after each picture, step by step.
const TILES: usize = 24;
/// How long a picture takes at least, in time.
const PACE: Duration = Duration::from_millis(16);

fn picture(explorer: &mut Explorer<u8, HostBackend>, camera: &Camera) -> Fidelity {
    let fidelity = explorer.picture(camera, &transfer(), &options()).unwrap().fidelity;
    assert_eq!(fidelity.uncovered_rays, 0, "never a hole");
    fidelity
}

/// Voxels per side that are shown for each that the pixels want, on average over the steps of all rays.
fn quality(fidelity: &Fidelity) -> f64 {
    let (mut all, mut good) = (0.0, 0.0);
    for (wanted, row) in fidelity.shown.iter().enumerate() {
        for (shown, &steps) in row.iter().enumerate() {
            all += steps as f64;
            good += steps as f64 * (wanted as f64 - shown as f64).exp2();
        }
    }
    if all > 0.0 { good / all * (-fidelity.bias).exp2() } else { 1.0 }
}

fn threadless() -> StreamOptions {
    StreamOptions { threads: 0, batch_tiles: 1, ..StreamOptions::default() }
}

/// Flies, and says how good the pictures were on the way, how coarse, and after how many at rest nothing changed any more.
fn step_by_step(cameras: &[Camera], budget_bytes: u64) -> (Trace, [f64; 3], Option<usize>) {
    let (mut explorer, _) = explorer(budget_bytes, threadless());
    explorer.record();
    let (mut good, mut bias, mut missing) = (0.0, 0.0, 0.0);
    let moving = cameras.len() - AT_REST;
    let mut rest = None;
    for (i, camera) in cameras.iter().enumerate() {
        let fidelity = picture(&mut explorer, camera);
        if i < moving {
            good += quality(&fidelity) / moving as f64;
            bias += fidelity.bias / moving as f64;
            missing += fidelity.missing_tiles as f64 / moving as f64;
        } else if fidelity.is_converged() {
            rest.get_or_insert(i - moving + 1);
        }
        let _ = (0..TILES).all(|_| explorer.streamer().step());
    }
    (explorer.take_trace().unwrap(), [good, bias, missing], rest)
}

/// Tiles loaded, and those of them that had been evicted: ever, and in the last 32 pictures while the view moved.
fn reads(trace: &Trace) -> [usize; 3] {
    let (mut loads, mut again, mut soon) = (0, 0, 0);
    let mut evicted = HashMap::new();
    for (i, frame) in trace.frames.iter().enumerate() {
        let moves = i == 0 || trace.frames[i - 1].camera != frame.camera;
        for tile in &frame.outcome.loaded {
            loads += 1;
            if let Some(at) = evicted.get(tile) {
                again += 1;
                soon += usize::from(moves && i - at < 32);
            }
        }
        evicted.extend(frame.outcome.evicted.iter().map(|&tile| (tile, i)));
    }
    [loads, again, soon]
}

/// Milliseconds of pictures, and how long after the last move nothing changed any more.
fn in_time(cameras: &[Camera], budget_bytes: u64) -> (Vec<f64>, Trace, f64, bool) {
    let (mut explorer, _) = explorer(budget_bytes, StreamOptions::default());
    explorer.record();
    let mut times = Vec::new();
    let moving = &cameras[..cameras.len() - AT_REST];
    for camera in moving {
        let start = Instant::now();
        picture(&mut explorer, camera);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PACE.saturating_sub(start.elapsed()));
    }
    let end = Instant::now();
    let last = moving[moving.len() - 1];
    let converged = (0..300).any(|_| {
        explorer.wait_idle(PACE);
        picture(&mut explorer, &last).is_converged()
    });
    let rest = end.elapsed().as_secs_f64() * 1e3;
    times.sort_by(f64::total_cmp);
    (times, explorer.take_trace().unwrap(), rest, converged)
}

fn record(folder: &str) {
    for (name, cameras) in flights() {
        let (trace, ..) = step_by_step(&cameras, working_set(&cameras) / 2 + PINNED_BYTES);
        let path = format!("{folder}/{name}.trace");
        trace.write(&path).unwrap();
        println!("wrote {path}, {} KiB", trace.to_string().len() >> 10);
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--record") {
        return record(arguments.get(at + 1).map_or("assets/traces", String::as_str));
    }
    for (name, mut cameras) in flights() {
        if is_test() {
            // Here and there on the way, and where it ends.
            let rest = cameras.split_off(cameras.len() - AT_REST);
            cameras = cameras.into_iter().step_by(20).chain(rest).collect();
        }
        let needed = working_set(&cameras);
        println!("{name}: the largest view needs {} KiB", needed >> 10);
        for &quarters in size(&[1, 2, 4, 8, 16][..], &[2]) {
            let budget = needed * quarters / 4 + PINNED_BYTES;
            let share = |of: [usize; 3], i: usize| of[i] as f64 / of[0].max(1) as f64 * 100.0;
            let (trace, [good, bias, missing], rest) = step_by_step(&cameras, budget);
            let read = reads(&trace);
            let rest = rest.map_or(format!("not in {AT_REST}"), |pictures| pictures.to_string());
            println!(
                "  {:.2} step by step: {} tiles read, {:.1} % again ({:.1} % within 32 pictures while moving); detail {good:.3}, bias {bias:.2}, {missing:.0} tiles lacked; pictures until at rest: {rest}",
                quarters as f64 / 4.0,
                read[0],
                share(read, 1),
                share(read, 2),
            );
            let (times, trace, rest, converged) = in_time(&cameras, budget);
            let read = reads(&trace);
            println!(
                "       in time: pictures of {:.1} ms (99 %: {:.1}), {} tiles read, {:.1} % again ({:.1} % within 32 pictures while moving); {} after {rest:.0} ms",
                times[times.len() / 2],
                times[times.len() * 99 / 100],
                read[0],
                share(read, 1),
                share(read, 2),
                if converged { "at rest" } else { "NOT at rest" },
            );
        }
    }
}
