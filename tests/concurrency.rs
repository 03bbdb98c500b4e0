//! Many threads at once, on one pool.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Random, all_tiles, array, assert_consistent, expected, one_tile_per_page, paged, pool, t, value,
    within_20_s,
};
use vastgrid::backend::{Checked, HostBackend, HostConfig, HostMoves, ModelBackend, ModelConfig};
use vastgrid::{
    Backend, Coord, Error, Extent, HostAddressable, Region, ResidencyError, SparseArray3D, Tile, TileCoord,
};

const PAGE: u64 = 4096;

fn model() -> Checked<ModelBackend> {
    Checked::new(ModelBackend::new(ModelConfig {
        asynchronous: true,
        batch_bytes: 8192,
        ..ModelConfig::default()
    }))
}

fn demand_zero() -> HostBackend {
    HostBackend::with_config(HostConfig { moves: HostMoves::Nothing, ..HostConfig::default() })
}

fn moved_mappings() -> HostBackend {
    HostBackend::with_config(HostConfig { moves: HostMoves::Mappings, ..HostConfig::default() })
}

fn moved_pages() -> HostBackend {
    HostBackend::with_config(HostConfig { moves: HostMoves::Pages, ..HostConfig::default() })
}

/// One test, stamped for each backend.
macro_rules! on {
    ($($backend:ident: $($name:ident),* $(,)?);* $(;)?) => {
        $(mod $backend { $(#[test] fn $name() { super::within_20_s(|| super::$name(super::$backend())); })* })*
    };
}

on! {
    model:
        eight_who_ask_at_once_load_each_tile_once,
        all_who_wait_for_a_tile_share_its_failure,
        everything_at_once_stays_true,
        used_bytes_never_exceed_the_budget,
        readers_of_large_regions_do_not_wait_for_each_other,
        pins_of_several_pages_do_not_wait_for_each_other;
    demand_zero:
        eight_who_ask_at_once_load_each_tile_once,
        everything_at_once_stays_true,
        used_bytes_never_exceed_the_budget,
        readers_of_large_regions_do_not_wait_for_each_other,
        pins_of_several_pages_do_not_wait_for_each_other,
        what_a_frame_showed_does_not_change_while_others_evict,
        one_page_is_enough_for_four_threads,
        more_frames_than_slots_hold_memory_too,
        a_dropped_array_gives_its_addresses_back_at_once;
    moved_mappings:
        all_who_wait_for_a_tile_share_its_failure,
        everything_at_once_stays_true,
        what_a_frame_showed_does_not_change_while_others_evict,
        one_page_is_enough_for_four_threads,
        more_frames_than_slots_hold_memory_too;
    moved_pages:
        all_who_wait_for_a_tile_share_its_failure,
        everything_at_once_stays_true,
        what_a_frame_showed_does_not_change_while_others_evict,
        one_page_is_enough_for_four_threads,
        more_frames_than_slots_hold_memory_too,
        a_dropped_array_gives_its_addresses_back_at_once;
}

/// Runs `work` on so many threads that begin together, each with its number.
fn on_threads(threads: u64, work: impl Fn(u64) + Sync) {
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    thread::scope(|s| {
        for i in 0..threads {
            let (work, barrier) = (&work, &barrier);
            s.spawn(move || {
                barrier.wait();
                work(i);
            });
        }
    });
}

fn eight_who_ask_at_once_load_each_tile_once<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 10_000);
    let (array, watch) = array(&pool, Extent::cube(32));
    watch.set_delay(Duration::from_millis(5));
    let tiles = all_tiles(&array)[..24].to_vec();
    let (loaded, others) = (AtomicU64::new(0), AtomicU64::new(0));
    on_threads(8, |i| {
        // Everyone in an order of its own.
        let mut mine = tiles.clone();
        mine.rotate_left(usize::try_from(i * 3).unwrap());
        let report = array.request(&mine).unwrap().complete().unwrap();
        assert_eq!(report.hits + report.loaded + report.shared, 24);
        loaded.fetch_add(report.loaded, Ordering::Relaxed);
        others.fetch_add(report.hits + report.shared, Ordering::Relaxed);
    });
    assert_eq!((loaded.into_inner(), others.into_inner()), (24, 7 * 24));
    for tile in &tiles {
        assert_eq!(watch.reads_of(array.layout().tile_region(*tile)), 1, "{tile}");
    }
    assert!(watch.most_in_flight() > 1, "loads ran one after the other");
    assert_eq!(pool.stats().loads, 24);
}

fn all_who_wait_for_a_tile_share_its_failure<B: Backend>(backend: B) {
    let pool = pool(backend, 1 << 20, 10_000);
    let (array, watch) = array(&pool, Extent::cube(32));
    let failing = array.layout().tile_region(t(1, 0, 0));
    watch.fail_region(failing);
    watch.set_delay(Duration::from_millis(300));
    on_threads(8, |_| {
        let report = array.request(&[t(0, 0, 0), t(1, 0, 0)]).unwrap();
        assert_eq!(report.failed.len(), 1);
        assert_eq!(report.failed[0].tile, t(1, 0, 0));
        assert!(report.failed[0].error.to_string().contains("fault injected into read"));
        assert!(array.is_resident(t(0, 0, 0)) && !array.is_resident(t(1, 0, 0)));
    });
    assert_eq!(watch.reads_of(failing), 1, "one tried, all were told");
    watch.clear_faults();
    assert_eq!(array.request(&[t(1, 0, 0)]).unwrap().complete().unwrap().loaded, 1);
}

/// Refusals that others' pins, frames and budgets may cause at any time.
fn assert_contention(error: &Error) {
    use ResidencyError::{FramesOpen, NothingToEvict, OverBudget};
    let expected =
        matches!(error, Error::Residency(NothingToEvict { .. } | FramesOpen { .. } | OverBudget { .. }));
    assert!(expected, "{error}");
}

fn everything_at_once_stays_true<B: Backend>(backend: B) {
    const MOST: u64 = 24 * PAGE;
    let pool = pool(backend, MOST, 100);
    let (a, _) = array(&pool, Extent::new(48, 40, 24));
    let (b, _) = paged(&pool, Extent::new(40, 40, 40), 4 * PAGE);
    let refused = AtomicU64::new(0);
    let tolerate = |result: Result<(), Error>| {
        if let Err(e) = result {
            assert_contention(&e);
            refused.fetch_add(1, Ordering::Relaxed);
        }
    };
    on_threads(8, |thread| {
        let mut random = Random::new(thread);
        for _ in 0..60 {
            let array = if random.below(3) == 0 { &b } else { &a };
            let all = all_tiles(array);
            let some = |random: &mut Random, n: u64| -> Vec<TileCoord> {
                (0..n).map(|_| all[usize::try_from(random.below(all.len() as u64)).unwrap()]).collect()
            };
            match random.below(8) {
                0..3 => {
                    let tiles = some(&mut random, 6);
                    tolerate(array.request(&tiles).and_then(vastgrid::Report::complete).map(drop));
                }
                3 => {
                    let tiles = some(&mut random, 2);
                    tolerate(array.pin(&tiles).map(|pins| {
                        assert!(pins.report().failed.is_empty());
                        for _ in 0..3 {
                            assert!(tiles.iter().all(|&t| array.is_resident(t)), "pinned, and not there");
                            thread::yield_now();
                        }
                    }));
                }
                4 | 5 => {
                    let start = Coord::new(random.below(20), random.below(20), random.below(10));
                    let region = Region::new(start, Extent::new(random.below(20) + 1, 9, 13));
                    tolerate(array.to_vec(region).map(|voxels| assert_eq!(voxels, expected(region))));
                }
                6 => {
                    let start = Coord::new(random.below(20), random.below(20), 0);
                    tolerate(array.evict(Region::new(start, Extent::cube(20))).map(drop));
                }
                _ => tolerate(pool.set_budget((12 + random.below(12)) * PAGE)),
            }
        }
    });
    let stats = pool.stats();
    assert_consistent(&stats);
    assert_eq!((stats.pinned_bytes, stats.open_frames), (0, 0));
    assert_eq!(stats.resident_tiles, (a.resident_tiles().len() + b.resident_tiles().len()) as u64);
    assert!(refused.into_inner() < 240, "hardly anything went through");
    for array in [a, b] {
        let whole = Region::whole(array.extent());
        assert_eq!(array.to_vec(whole).unwrap(), expected(whole));
    }
    pool.trim().unwrap();
    assert_eq!((pool.stats().used_bytes, pool.stats().mapped_pages), (0, 0));
}

fn used_bytes_never_exceed_the_budget<B: Backend>(backend: B) {
    let pool = pool(backend, 8 * PAGE, 5000);
    let (small, _) = array(&pool, Extent::cube(32));
    let (large, _) = paged(&pool, Extent::new(32, 32, 64), 4 * PAGE);
    let (over, looks) = (AtomicU64::new(0), AtomicU64::new(0));
    let ended = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let stats = pool.stats();
                over.fetch_max(stats.used_bytes.saturating_sub(stats.budget_bytes), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        on_threads(2, |i| {
            // Small pages make room for large ones and the other way round.
            let array = if i == 0 { &small } else { &large };
            let tiles = one_tile_per_page(array);
            for round in 0.. {
                let tile = tiles[round % tiles.len()];
                let _ = array.request(&[tile]).unwrap().complete().unwrap();
                if round > 30 && looks.load(Ordering::Relaxed) > 300 {
                    break;
                }
            }
        });
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(over.into_inner(), 0, "bytes over the budget at some time");
}

fn readers_of_large_regions_do_not_wait_for_each_other<B: Backend>(backend: B) {
    let pool = pool(backend, 6 * PAGE, 8000);
    let (array, watch) = array(&pool, Extent::new(48, 32, 16));
    watch.set_delay(Duration::from_micros(200));
    on_threads(6, |i| {
        for step in 0..3 {
            let region = Region::new(Coord::new((i + step) % 3 * 8, i % 2 * 5, 3), Extent::new(30, 20, 12));
            assert_eq!(array.to_vec(region).unwrap(), expected(region));
        }
    });
}

fn pins_of_several_pages_do_not_wait_for_each_other<B: Backend>(backend: B) {
    let pool = pool(backend, 4 * PAGE, 8000);
    let (array, _) = array(&pool, Extent::new(64, 32, 8));
    let tiles = one_tile_per_page(&array);
    let pinned = AtomicU64::new(0);
    on_threads(4, |i| {
        let mut random = Random::new(i);
        for _ in 0..25 {
            let mine: Vec<_> = (0..3).map(|_| tiles[usize::try_from(random.below(8)).unwrap()]).collect();
            // Another's pins are no reason to wait; another's half-made ones are no reason to give up for good.
            match array.pin(&mine) {
                Ok(pins) => {
                    assert!(mine.iter().all(|&t| array.is_resident(t)));
                    pinned.fetch_add(1, Ordering::Relaxed);
                    drop(pins);
                }
                Err(e) => assert_contention(&e),
            }
        }
    });
    assert!(pinned.into_inner() > 10);
    assert_eq!(pool.stats().pinned_bytes, 0);
}

/// The resident tiles that a view shows.
fn shown<'v>(view: &'v vastgrid::View<'_, u16>, tiles: &[TileCoord]) -> Vec<(TileCoord, &'v [u16])> {
    let resident = |&t: &TileCoord| match view.tile(t) {
        Tile::Resident(voxels) => Some((t, voxels)),
        _ => None,
    };
    tiles.iter().filter_map(resident).collect()
}

fn what_a_frame_showed_does_not_change_while_others_evict<B: HostAddressable>(backend: B) {
    let pool = pool(backend, 12 * PAGE, 20);
    let extent = Extent::new(64, 32, 16);
    let (array, _) = array(&pool, extent);
    let tiles = all_tiles(&array);
    let right: Vec<_> = tiles.iter().map(|&t| expected(array.layout().tile_region(t))).collect();
    let is_right =
        |tile: TileCoord, voxels: &[u16]| *voxels == *right[tiles.iter().position(|&t| t == tile).unwrap()];
    let (seen, kept, evicted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let readers = AtomicU64::new(3);
    on_threads(6, |i| {
        let mut random = Random::new(i);
        if i >= 3 {
            // Evicts all the time, by the front door and by asking for something else.
            while readers.load(Ordering::Relaxed) > 0 {
                match i {
                    3 => drop(
                        array.evict(Region::whole(extent)).map(|n| evicted.fetch_add(n, Ordering::Relaxed)),
                    ),
                    4 => drop(pool.set_budget((4 + random.below(8)) * PAGE)),
                    _ => drop(
                        array.request(&[tiles[usize::try_from(random.below(tiles.len() as u64)).unwrap()]]),
                    ),
                }
            }
            return;
        }
        for _ in 0..120 {
            if random.below(2) == 0 {
                drop(array.request(&[tiles[usize::try_from(random.below(tiles.len() as u64)).unwrap()]]));
            }
            let frame = pool.frame();
            let view = frame.view(&array).unwrap();
            let asked: Vec<_> =
                (0..2).map(|_| tiles[usize::try_from(random.below(tiles.len() as u64)).unwrap()]).collect();
            let granted = array.request(&asked).is_ok();
            let slices = shown(&view, &tiles);
            for _ in 0..6 {
                for (tile, voxels) in &slices {
                    assert!(is_right(*tile, voxels), "{tile} changed under an open frame");
                }
                for &tile in asked.iter().filter(|_| granted) {
                    assert!(view.is_readable(tile), "{tile} was granted in this frame and is gone");
                    kept.fetch_add(1, Ordering::Relaxed);
                }
                thread::yield_now();
            }
            seen.fetch_add(slices.len() as u64, Ordering::Relaxed);
        }
        readers.fetch_sub(1, Ordering::Relaxed);
    });
    let (seen, kept, evicted) = (seen.into_inner(), kept.into_inner(), evicted.into_inner());
    assert!(seen > 100 && kept > 100 && evicted > 20, "too little happened: {seen} {kept} {evicted}");
}

fn one_page_is_enough_for_four_threads<B: HostAddressable>(backend: B) {
    let pool = pool(backend, PAGE, 15_000);
    let (array, _) = array(&pool, Extent::cube(64));
    on_threads(4, |i| {
        let mut random = Random::new(i);
        for _ in 0..40 {
            let c = Coord::new(random.below(64), random.below(64), random.below(64));
            assert_eq!(array.get(c).unwrap(), value(c));
        }
    });
}

fn more_frames_than_slots_hold_memory_too<B: HostAddressable>(backend: B) {
    let pool = pool(backend, 4 * PAGE, 60);
    let (array, _) = array(&pool, Extent::cube(32));
    let tiles = one_tile_per_page(&array);
    let _ = array.request(&tiles[..4]).unwrap().complete().unwrap();
    let barrier = Barrier::new(5);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let frames: Vec<_> = (0..100).map(|_| pool.frame()).collect();
                let view = frames[99].view(&array).unwrap();
                let slices = shown(&view, &tiles);
                barrier.wait();
                barrier.wait();
                for (tile, voxels) in slices {
                    assert_eq!(*voxels, *expected(array.layout().tile_region(tile)));
                }
                // The last one opened, which has no slot of its own, is the last to go.
                let last = frames.into_iter().next_back();
                barrier.wait();
                barrier.wait();
                drop(last);
            });
        }
        barrier.wait();
        assert_eq!(pool.stats().open_frames, 400);
        let open = |error: Error| match error {
            Error::Residency(ResidencyError::FramesOpen { frames, own: false, .. }) => frames,
            e => panic!("{e}"),
        };
        assert_eq!(open(array.request(&tiles[4..6]).unwrap_err()), 400);
        barrier.wait();
        barrier.wait();
        assert_eq!(open(array.evict(Region::whole(array.extent())).unwrap_err()), 4);
        assert_eq!(array.resident_tiles().len(), 4);
        barrier.wait();
    });
    let _ = array.request(&tiles[4..6]).unwrap().complete().unwrap();
    assert_eq!(pool.stats().open_frames, 0);
}

fn a_dropped_array_gives_its_addresses_back_at_once<B: Backend>(backend: B) {
    // 2^47 bytes of addresses are all there are: two arrays of 2^46 do not fit beside each other and everything else.
    let pool = pool(backend, 1 << 20, 1000);
    for round in 0..60 {
        let (source, _) = common::volume(Extent::cube(1 << 15));
        let array = SparseArray3D::builder(&pool, source).tile([8, 8, 32]).page([1, 1, 1]).build();
        let array = array.unwrap_or_else(|e| panic!("round {round}: {e}"));
        let _ = array.request_region(Region::whole(Extent::cube(64))).unwrap().complete().unwrap();
    }
}

#[test]
fn a_call_that_gave_up_does_not_fail_those_who_waited_for_it() {
    within_20_s(|| {
        let pool = Arc::new(pool(demand_zero(), 2 * PAGE, 400));
        let (array, _) = array(&pool, Extent::cube(32));
        let array = Arc::new(array);
        let tiles = one_tile_per_page(&array);
        let _ = array.request(&tiles[..2]).unwrap().complete().unwrap();
        let frame = pool.frame();
        // Waits for the frame, and gives up at 400 ms.
        let (first, t2) = (array.clone(), tiles[2]);
        let first = thread::spawn(move || first.request(&[t2]).map(drop).unwrap_err().to_string());
        thread::sleep(Duration::from_millis(250));
        // Waits for the first, and still has 250 ms when that gives up.
        let (second, began) = (array.clone(), Instant::now());
        let second =
            thread::spawn(move || second.request(&[t2]).unwrap().complete().map(|report| report.loaded));
        let first = first.join().unwrap();
        assert!(first.contains("open frame"), "{first}");
        drop(frame);
        assert_eq!(second.join().unwrap().unwrap(), 1, "after {:?}", began.elapsed());
    });
}
