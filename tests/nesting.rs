//! Calls from within calls: from inside a frame, from a source, from a user's own thread pool. None of them may wait for itself; each test fails after 20 seconds.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{all_tiles, array, expected, one_tile_per_page, pool, pool_of, t, value, volume, within_20_s};
use rayon::prelude::*;
use vastgrid::source::{Instrumented, Procedural};
use vastgrid::{
    Coord, Error, Extent, HostBackend, Pool, Region, ResidencyError, SourceError, SparseArray3D, TileSource,
};

const PAGE: u64 = 4096;

/// A patience that no test gets to the end of.
const LONG_MS: u64 = 60_000;

fn frames_open(error: &Error) -> Option<bool> {
    match error {
        Error::Residency(ResidencyError::FramesOpen { own, .. }) => Some(*own),
        _ => None,
    }
}

fn assert_own_frame(result: Result<impl std::fmt::Debug, Error>) {
    let error = result.unwrap_err();
    assert_eq!(frames_open(&error), Some(true), "{error}");
}

#[test]
fn a_request_that_its_own_frame_blocks_is_refused_at_once() {
    within_20_s(|| {
        let pool = pool(HostBackend::new(), 2 * PAGE, LONG_MS);
        let (array, _) = array(&pool, Extent::cube(32));
        let tiles = one_tile_per_page(&array);
        let _ = array.request(&tiles[..2]).unwrap().complete().unwrap();
        let frame = pool.frame();
        assert_own_frame(array.request(&tiles[2..3]));
        assert_own_frame(array.pin(&tiles[2..3]));
        assert_own_frame(array.get(array.layout().tile_region(tiles[3]).start));
        assert_own_frame(array.to_vec(Region::whole(array.extent())));
        assert_own_frame(array.evict(Region::whole(array.extent())));
        assert_own_frame(pool.set_budget(PAGE));
        // What was asked for inside the frame is as much in the way.
        let _ = array.request(&tiles[..2]).unwrap();
        assert_own_frame(array.request(&tiles[2..3]));
        assert_own_frame(array.evict(Region::whole(array.extent())));
        assert_own_frame(pool.set_budget(PAGE));
        assert!(array.is_resident(tiles[0]) && array.is_resident(tiles[1]));
        drop(frame);
        assert_eq!(array.request(&tiles[2..3]).unwrap().complete().unwrap().loaded, 1);
    });
}

#[test]
fn waiting_for_a_load_that_waits_for_ones_own_frame_is_refused_at_once() {
    within_20_s(|| {
        let pool = pool(HostBackend::new(), 2 * PAGE, 12_000);
        let (array, _) = array(&pool, Extent::cube(32));
        let tiles = one_tile_per_page(&array);
        let _ = array.request(&tiles[..2]).unwrap().complete().unwrap();
        thread::scope(|s| {
            let frame = pool.frame();
            // Claims the tile and evicts for it: waits for the frame.
            let other = s
                .spawn(|| array.request(&tiles[2..3]).and_then(vastgrid::Report::complete).map(|r| r.loaded));
            let victim = loop {
                if let Some(gone) = tiles[..2].iter().position(|&t| !array.is_resident(t)) {
                    break gone;
                }
                thread::yield_now();
            };
            let began = Instant::now();
            assert_own_frame(array.request(&tiles[2..3]));
            // And so is waiting for a page that is being taken away.
            assert_own_frame(array.request(&[tiles[victim]]));
            assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
            drop(frame);
            assert_eq!(other.join().unwrap().unwrap(), 1);
        });
    });
}

#[test]
fn a_frame_of_another_thread_is_waited_for_as_long_as_patience_lasts() {
    within_20_s(|| {
        let pool = pool(HostBackend::new(), 2 * PAGE, 300);
        let (array, _) = array(&pool, Extent::cube(32));
        let tiles = one_tile_per_page(&array);
        let _ = array.request(&tiles[..2]).unwrap().complete().unwrap();
        let (opened, may_end) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|s| {
            s.spawn(|| {
                let frame = pool.frame();
                opened.wait();
                may_end.wait();
                drop(frame);
            });
            opened.wait();
            let too_long = |call: &dyn Fn() -> Result<(), Error>| {
                let began = Instant::now();
                let error = call().unwrap_err();
                assert_eq!(frames_open(&error), Some(false), "{error}");
                let took = began.elapsed();
                assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(3), "{took:?}");
            };
            too_long(&|| array.request(&tiles[2..3]).map(drop));
            too_long(&|| array.evict(Region::whole(array.extent())).map(drop));
            too_long(&|| pool.set_budget(PAGE));
            let _ = array.request(&tiles[..2]).unwrap();
            too_long(&|| array.request(&tiles[2..3]).map(drop));
            too_long(&|| array.evict(Region::whole(array.extent())).map(drop));
            too_long(&|| pool.set_budget(PAGE));
            assert_eq!(array.resident_tiles(), tiles[..2], "in sight again");
            may_end.wait();
        });
        assert_eq!(array.request(&tiles[2..3]).unwrap().complete().unwrap().loaded, 1);
    });
}

#[test]
fn a_frame_that_ends_in_time_is_waited_for() {
    within_20_s(|| {
        let pool = pool(HostBackend::new(), 2 * PAGE, LONG_MS);
        let (array, _) = array(&pool, Extent::cube(32));
        let tiles = one_tile_per_page(&array);
        for round in 0..20 {
            let opened = Barrier::new(2);
            thread::scope(|s| {
                s.spawn(|| {
                    let frame = pool.frame();
                    let _ = array.request(&tiles[round % 2..=round % 2]);
                    opened.wait();
                    thread::sleep(Duration::from_millis(3));
                    drop(frame);
                });
                opened.wait();
                let missing = [tiles[2 + round % 8], tiles[3 + round % 8]];
                let report = array.request(&missing).unwrap_or_else(|e| panic!("round {round}: {e}"));
                assert!(report.complete().is_ok());
            });
        }
    });
}

#[test]
fn requests_from_a_users_own_thread_pool_go_through() {
    within_20_s(|| {
        let mine = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let pool = pool(HostBackend::new(), 6 * PAGE, LONG_MS);
        let (array, watch) = array(&pool, Extent::cube(64));
        watch.set_delay(Duration::from_micros(100));
        let tiles = one_tile_per_page(&array);
        mine.install(|| {
            tiles.par_iter().for_each(|tile| {
                let _ = array.request(&[*tile, tiles[0]]).unwrap().complete().unwrap();
            });
        });
        // Parallel work within parallel work, and frames inside it.
        let sum: u64 = mine.install(|| {
            (0..16u64)
                .into_par_iter()
                .map(|i| {
                    (0..4u64)
                        .into_par_iter()
                        .map(|j| u64::from(array.get([i * 4, j * 16, 1]).unwrap()))
                        .sum::<u64>()
                })
                .sum()
        });
        let want: u64 =
            (0..16).flat_map(|i| (0..4).map(move |j| u64::from(value(Coord::new(i * 4, j * 16, 1))))).sum();
        assert_eq!(sum, want);
    });
}

#[test]
fn requests_under_a_frame_of_the_thread_that_waits_for_them_are_refused_in_time() {
    within_20_s(|| {
        let mine = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let pool = pool(HostBackend::new(), 4 * PAGE, 300);
        let (array, _) = array(&pool, Extent::cube(64));
        let tiles = one_tile_per_page(&array);
        let _ = array.request(&tiles[..4]).unwrap().complete().unwrap();
        let frame = pool.frame();
        let began = Instant::now();
        let results: Vec<_> =
            mine.install(|| tiles[4..12].par_iter().map(|t| array.request(&[*t])).collect());
        assert!(began.elapsed() < Duration::from_secs(8));
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(frames_open(&error), Some(false), "{error}");
        }
        drop(frame);
        let results: Vec<_> =
            mine.install(|| tiles[4..12].par_iter().map(|t| array.request(&[*t])).collect());
        assert!(results.into_iter().all(|r| r.is_ok_and(|r| r.failed.is_empty())));
    });
}

/// A source that reads another array: every voxel one more than there.
struct OneMore {
    inner: Arc<SparseArray3D<u16>>,
    by_voxel: bool,
}

impl TileSource<u16> for OneMore {
    fn extent(&self) -> Extent {
        self.inner.extent()
    }

    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        let failed = |e: Error| SourceError::Other(Box::new(e));
        self.inner.read_region(region, out).map_err(failed)?;
        if self.by_voxel {
            out[0] = self.inner.get(region.start).map_err(failed)?;
        }
        for voxel in out {
            *voxel = voxel.wrapping_add(1);
        }
        Ok(())
    }
}

/// Reads all of an array whose source reads another one, from several threads at once.
fn read_through(outer: &Pool<HostBackend>, inner: &Pool<HostBackend>) {
    let extent = Extent::new(40, 24, 16);
    let (below, _) = array(inner, extent);
    let source = OneMore { inner: Arc::new(below), by_voxel: true };
    let above = SparseArray3D::builder(outer, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
    let want: Vec<_> = expected(Region::whole(extent)).into_iter().map(|v| v.wrapping_add(1)).collect();
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| assert_eq!(above.to_vec(Region::whole(extent)).unwrap(), want));
        }
    });
    let _ = above.evict(Region::whole(extent));
    assert_eq!(above.get([3, 5, 7]).unwrap(), value(Coord::new(3, 5, 7)).wrapping_add(1));
}

#[test]
fn a_source_may_read_another_array_of_its_own_pool() {
    for threads in [1, 2] {
        within_20_s(move || {
            let pool = pool_of(HostBackend::new(), 16 * PAGE, 10_000, threads);
            read_through(&pool, &pool);
        });
    }
}

#[test]
fn a_source_may_read_another_pool() {
    for threads in [1, 2] {
        within_20_s(move || {
            let outer = pool_of(HostBackend::new(), 4 * PAGE, 10_000, threads);
            let inner = pool_of(HostBackend::new(), 2 * PAGE, 10_000, threads);
            read_through(&outer, &inner);
        });
    }
}

#[test]
fn a_source_that_finds_no_room_beside_those_who_wait_for_it_is_refused_in_time() {
    within_20_s(|| {
        // One page: the tile that is being loaded has it, and its source wants another.
        let pool = pool_of(HostBackend::new(), PAGE, 300, 1);
        let (below, _) = array(&pool, Extent::cube(16));
        let source = OneMore { inner: Arc::new(below), by_voxel: false };
        let above = SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
        let report = above.request(&[t(0, 0, 0)]).unwrap();
        let error = report.failed[0].error.to_string();
        assert!(error.contains("in use by other requests"), "{error}");
        pool.set_budget(2 * PAGE).unwrap();
        assert_eq!(above.get([0, 0, 0]).unwrap(), value(Coord::new(0, 0, 0)).wrapping_add(1));
    });
}

#[test]
fn panicking_sources_bring_nobody_down() {
    within_20_s(|| {
        let pool = pool(HostBackend::new(), 12 * PAGE, 10_000);
        let (array, watch) = array(&pool, Extent::cube(32));
        watch.panic_region(Region::new(Coord::new(0, 0, 0), Extent::new(32, 32, 8)));
        let tiles = all_tiles(&array);
        let (panicked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|s| {
            for i in 0..6usize {
                let (array, tiles, panicked, answered) = (&array, &tiles, &panicked, &answered);
                s.spawn(move || {
                    for round in 0..12 {
                        let mine: Vec<_> =
                            (0..5).map(|k| tiles[(i * 7 + round * 5 + k * 13) % tiles.len()]).collect();
                        let report = array.request(&mine).unwrap();
                        for failed in &report.failed {
                            assert!(
                                failed.tile.z == 0 && matches!(*failed.error, SourceError::Panicked { .. })
                            );
                            panicked.fetch_add(1, Ordering::Relaxed);
                        }
                        answered.fetch_add(mine.len() as u64, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(panicked.load(Ordering::Relaxed) > 20 && answered.load(Ordering::Relaxed) == 6 * 12 * 5);
        watch.clear_faults();
        let whole = Region::whole(array.extent());
        assert_eq!(array.to_vec(whole).unwrap(), expected(whole));
        // Panics where nothing is expected but an answer are survived, too.
        let nasty =
            Procedural::new(Extent::cube(16), value).with_uniform(|_| panic!("when asked what is uniform"));
        let nasty = SparseArray3D::builder(&pool, nasty).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
        assert_eq!(nasty.get([9, 9, 9]).unwrap(), value(Coord::new(9, 9, 9)));
    });
}

#[test]
fn arrays_and_pools_may_go_while_others_hold_pins() {
    within_20_s(|| {
        for round in 0..20u64 {
            let pool = pool(HostBackend::new(), 8 * PAGE, 10_000);
            let (array, _) = array(&pool, Extent::cube(32));
            let tiles = one_tile_per_page(&array);
            let pins: Vec<_> = (0..4).map(|i| array.pin(&tiles[i..=i]).unwrap()).collect();
            let keep = pool.clone();
            let threads: Vec<_> = pins
                .into_iter()
                .zip(0..)
                .map(|(pins, i)| {
                    thread::spawn(move || {
                        thread::sleep(Duration::from_micros((i * 7 + round * 13) % 300));
                        drop(pins);
                    })
                })
                .collect();
            let (source, _) = volume(Extent::cube(16));
            let other =
                SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
            drop(array);
            drop(pool);
            assert_eq!(other.get([1, 2, 3]).unwrap(), value(Coord::new(1, 2, 3)));
            for thread in threads {
                thread.join().unwrap();
            }
            drop(other);
            let stats = keep.stats();
            assert_eq!((stats.used_bytes, stats.pinned_bytes, stats.mapped_pages), (0, 0, 0));
        }
        // The last one to go is a pin.
        let pins = {
            let pool = pool(HostBackend::new(), 8 * PAGE, 10_000);
            let (array, _) = array(&pool, Extent::cube(32));
            array.pin(&[t(0, 0, 0)]).unwrap()
        };
        thread::spawn(move || drop(pins)).join().unwrap();
    });
}

#[test]
fn a_source_may_own_the_last_handle_of_another_array() {
    within_20_s(|| {
        for _ in 0..10 {
            let pool = pool(HostBackend::new(), 16 * PAGE, 10_000);
            let (below, _) = array(&pool, Extent::cube(32));
            let source = Instrumented::new(OneMore { inner: Arc::new(below), by_voxel: true });
            let above =
                SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
            let _ = above.request_region(Region::whole(Extent::cube(16))).unwrap().complete().unwrap();
            drop(above);
            assert_eq!((pool.stats().used_bytes, pool.stats().mapped_pages), (0, 0));
        }
    });
}
