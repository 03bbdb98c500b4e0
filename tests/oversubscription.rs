//! What pictures need may be more than the budget holds, while one moves, too: what then becomes of tiles and pictures is promised, and held here at budgets of a quarter to four times of what is needed.

mod common;

use std::collections::HashMap;

use common::explored::{self, PAGE, around, hills, threadless};
use vastgrid::render::Camera;
use vastgrid::source::Procedural;
use vastgrid::trace::{ReplayOptions, Trace};
use vastgrid::{Coord, Explorer, Fidelity, FidelityLimit, HostBackend};

/// Of the coarsest level, which is always there.
const PINNED: u64 = 2 * 2 * 2;
/// Pictures for which a tile that was evicted is left alone.
const REST: usize = 32;

fn explorer(pages: u64) -> Explorer<u8, HostBackend> {
    explored::explorer(pages + PINNED, 1, threadless(1), |geometry| {
        Procedural::new(geometry.extent(), move |c: Coord| hills(geometry.centre(c)))
    })
}

/// A walk around, a dive and a return, jumps, and a look around from within.
fn flights() -> Vec<(&'static str, Vec<Camera>)> {
    let through = |i: u32| {
        let camera = around(f64::from(i) * 6.0, 60.0);
        Camera { eye: [60.0, 56.0, 50.0], target: camera.eye, ..camera }
    };
    let cuts = [0.0, 120.0, 0.0, 240.0, 120.0, 0.0, 240.0, 0.0];
    vec![
        ("walk", (0..60).map(|i| around(f64::from(i) * 5.0, 110.0)).collect()),
        ("dive", (0..60).map(|i| around(20.0, 60.0 + 5.0 * (f64::from(i) - 30.0).abs())).collect()),
        ("cuts", cuts.into_iter().flat_map(|at| std::iter::repeat_n(around(at, 90.0), 6)).collect()),
        ("around", (0..60).map(through).collect()),
    ]
}

fn look(explorer: &mut Explorer<u8, HostBackend>, camera: &Camera) -> Fidelity {
    let fidelity = explored::look(explorer, camera);
    let stats = explorer.pyramid().pool().stats();
    assert!(stats.used_bytes <= stats.budget_bytes && stats.failures == 0);
    fidelity
}

/// Looks at the same until waiting changes nothing.
fn settle(explorer: &mut Explorer<u8, HostBackend>, camera: &Camera) -> Fidelity {
    for _ in 0..200 {
        let fidelity = look(explorer, camera);
        if fidelity.is_converged() {
            return fidelity;
        }
        while explorer.streamer().step() {}
    }
    panic!("never settles");
}

/// Pages that the largest view of a flight needs.
fn working_set(cameras: &[Camera]) -> u64 {
    let mut explorer = explorer(4096);
    let needed = cameras.iter().step_by(12).map(|camera| settle(&mut explorer, camera).needed_bytes).max();
    needed.unwrap() / PAGE
}

fn fly(explorer: &mut Explorer<u8, HostBackend>, cameras: &[Camera], tiles: usize) -> (Trace, Vec<Fidelity>) {
    explorer.record();
    let picture = |camera: &Camera| {
        let fidelity = look(explorer, camera);
        let _ = (0..tiles).all(|_| explorer.streamer().step());
        fidelity
    };
    let told = cameras.iter().map(picture).collect();
    (explorer.take_trace().unwrap(), told)
}

/// Tiles that were loaded again, and for how many pictures they had been gone, with whether the view had just changed.
fn rereads(trace: &Trace) -> Vec<(usize, bool)> {
    let (mut evicted, mut again) = (HashMap::new(), Vec::new());
    for (i, frame) in trace.frames.iter().enumerate() {
        let moves = i == 0 || trace.frames[i - 1].camera != frame.camera;
        let gone = frame.outcome.loaded.iter().filter_map(|tile| evicted.get(tile));
        again.extend(gone.map(|at| (i - at, moves)));
        evicted.extend(frame.outcome.evicted.iter().map(|&tile| (tile, i)));
    }
    again
}

#[test]
fn at_every_budget_what_was_evicted_rests_while_one_moves_and_no_ray_is_without_a_picture() {
    let mut rested = 0;
    for (name, cameras) in flights() {
        let needed = working_set(&cameras);
        assert!(needed > 40, "{needed} pages is no working set");
        for (quarters, tiles) in [(1, 6), (1, 1000), (2, 6), (4, 1000), (8, 6), (16, 1000)] {
            let mut explorer = explorer((needed * quarters).div_ceil(4));
            let (trace, told) = fly(&mut explorer, &cameras, tiles);
            let again = rereads(&trace);
            let soon = again.iter().filter(|&&(pictures, moves)| moves && pictures < REST).count();
            assert_eq!(
                soon,
                0,
                "{name} at {quarters}/4, {tiles} tiles a picture: of {} read again",
                again.len()
            );
            if quarters == 16 {
                assert!(again.is_empty(), "{name}: the budget holds all that is looked at");
            }
            rested += told.iter().map(|fidelity| fidelity.resting_tiles).sum::<u64>();
            // The same on the model, twice.
            let replayed = trace.replay(&ReplayOptions::default()).unwrap();
            assert!(trace.frames.iter().map(|frame| &frame.outcome).eq(&replayed), "{name} at {quarters}/4");
            assert_eq!(replayed, trace.replay(&ReplayOptions::default()).unwrap());
            // And at rest it is as good as the budget allows.
            let last = settle(&mut explorer, &cameras[cameras.len() - 1]);
            assert_eq!((last.missing_tiles, last.resting_tiles), (0, 0), "{name} at {quarters}/4: {last}");
            assert!(quarters < 4 || last.is_exact(), "{name} at {quarters}/4: {last}");
            assert!(last.bias <= 0.0 || last.limit == FidelityLimit::Budget);
        }
    }
    assert!(rested > 100, "{rested} tiles rested: the promise was put to the test");
}

#[test]
fn a_flight_is_the_same_each_time() {
    let (_, cameras) = flights().swap_remove(0);
    let once = || fly(&mut explorer(60), &cameras, 8);
    let ((a, told_a), (b, told_b)) = (once(), once());
    assert!(a == b, "tiles and their fate");
    let without_time =
        |told: Vec<Fidelity>| told.into_iter().map(|f| (f.bias, f.needed_bytes, f.shown, f.limit));
    assert!(without_time(told_a).eq(without_time(told_b)), "what pictures say of themselves");
}

#[test]
fn who_goes_to_and_fro_over_more_than_the_budget_holds_sees_coarser_pictures_and_then_finer_ones() {
    // Each half of the way is longer than what was evicted rests, so all of it would be read again and again.
    let to_and_fro = |i: u32| around(70.0 * (f64::from(i) * std::f64::consts::TAU / 90.0).sin(), 90.0);
    let cameras: Vec<_> = (0..360).map(to_and_fro).collect();
    let needed = working_set(&cameras[..90]);
    let mut explorer = explorer(needed * 2 / 3);
    let (trace, told) = fly(&mut explorer, &cameras, 1000);
    let share = |f: &Fidelity| f.needed_bytes as f64 / f.budget_bytes as f64;
    assert!(told.iter().all(|f| share(f) < 4.0), "never so much that this alone made pictures coarser");
    let most = told.iter().map(|f| f.bias).fold(0.0, f64::max);
    assert!(most > 0.0, "what is read again and again makes pictures coarser");
    let coarse = told.iter().find(|f| f.bias > 0.0 && f.missing_tiles == 0);
    assert!(coarse.is_none_or(|f| f.limit == FidelityLimit::Budget), "and they say why");
    assert!(trace.frames.iter().any(|f| f.bias > 0.0), "and so does the trace");
    // The same bias while one goes on, up and down by steps: it does not flicker.
    let turns = told.windows(3).filter(|f| (f[1].bias - f[0].bias) * (f[2].bias - f[1].bias) < 0.0).count();
    assert_eq!(turns, 0, "no step up is taken back by the next picture");
    explorer.pyramid().pool().set_budget((4 * needed + PINNED) * PAGE).unwrap();
    let (_, told) = fly(&mut explorer, &cameras, 1000);
    assert!(told.last().unwrap().bias < most, "with room they get finer, while one moves, too");
    assert!(settle(&mut explorer, &cameras[0]).is_exact());
}
