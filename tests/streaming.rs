//! Requests that nobody waits for: that they do not wait, in which order they come, and what keeps them from coming.

mod common;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Random, all_tiles, array, assert_consistent, expected, pool, t, value, within_20_s};
use vastgrid::backend::{Checked, HostBackend, HostConfig, HostMoves, ModelBackend, ModelConfig};
use vastgrid::source::Procedural;
use vastgrid::{
    Backend, Coord, Enrolled, Error, Extent, Pool, Priority, Region, ResidencyError, SourceError,
    SparseArray3D, StreamLimit, StreamOptions, Streamer, TileCoord, TileSource, Want,
};

const PAGE: u64 = 4096;
const TILE: u64 = 1024;
const LONG: Duration = Duration::from_secs(15);

fn model() -> Checked<ModelBackend> {
    Checked::new(ModelBackend::new(ModelConfig::default()))
}

fn host() -> HostBackend {
    HostBackend::with_config(HostConfig { moves: HostMoves::Pages, ..HostConfig::default() })
}

/// One thread and one tile at a time.
fn strict() -> StreamOptions {
    StreamOptions { threads: 1, batch_tiles: 1, ..StreamOptions::default() }
}

/// No thread, one tile at a time.
fn stepped() -> StreamOptions {
    StreamOptions { threads: 0, ..strict() }
}

/// What a [`Watched`] source sees, and when it answers.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    delay: Duration,
    reads: Vec<Coord>,
    inside: Vec<Coord>,
    most_inside: usize,
    most_pages_inside: usize,
    failing: bool,
    panicking: bool,
}

impl Gate {
    fn shut(&self) {
        self.state.lock().unwrap().shut = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().shut = false;
        self.changed.notify_all();
    }

    /// Waits until so many reads stand before the gate.
    fn wait_for(&self, reads: usize) {
        let mut state = self.state.lock().unwrap();
        while state.inside.len() < reads {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().unwrap());
    }

    fn get<R>(&self, look: impl FnOnce(&GateState) -> R) -> R {
        look(&self.state.lock().unwrap())
    }

    /// Which tiles were read, along x, in order.
    fn read_x(&self) -> Vec<u64> {
        self.get(|state| state.reads.iter().map(|c| c.x / 8).collect())
    }
}

/// A source of known voxels behind a gate.
struct Watched {
    gate: Arc<Gate>,
    extent: Extent,
}

impl TileSource<u16> for Watched {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        let start = region.start;
        let mut state = self.gate.state.lock().unwrap();
        state.reads.push(start);
        state.inside.push(start);
        state.most_inside = state.most_inside.max(state.inside.len());
        let mut pages: Vec<_> = state.inside.iter().map(|c| (c.x / 16, c.y / 16, c.z / 8)).collect();
        pages.sort_unstable();
        pages.dedup();
        state.most_pages_inside = state.most_pages_inside.max(pages.len());
        self.gate.changed.notify_all();
        while state.shut {
            state = self.gate.changed.wait(state).unwrap();
        }
        let (delay, failing, panicking) = (state.delay, state.failing, state.panicking);
        drop(state);
        std::thread::sleep(delay);
        let mut state = self.gate.state.lock().unwrap();
        let at = state.inside.iter().position(|c| *c == start).unwrap();
        state.inside.swap_remove(at);
        drop(state);
        assert!(!panicking, "told to panic");
        if failing {
            return Err(SourceError::Other("told to fail".into()));
        }
        Procedural::new(self.extent, value).read(region, out)
    }
}

/// The test volume in tiles of 8^3 (1 KiB) and pages of 2 x 2 x 1 tiles, behind a gate.
fn gated<B: Backend>(pool: &Pool<B>, extent: Extent) -> (SparseArray3D<u16, B>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let source = Watched { gate: gate.clone(), extent };
    let array = SparseArray3D::builder(pool, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
    (array, gate)
}

/// Tiles along x, the nearer the smaller.
fn along_x(tiles: impl IntoIterator<Item = u64>) -> impl Iterator<Item = (TileCoord, Priority)> {
    tiles.into_iter().map(|x| (t(x, 0, 0), Priority::visible(0, x as f32)))
}

fn wants(array: Enrolled, tiles: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Want> {
    along_x(tiles).map(move |(tile, priority)| Want { array, tile, priority })
}

fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> &'a T {
    &from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

fn until(mut what: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "it never came about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_waits_for_a_source_that_stalls() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, StreamOptions { threads: 2, ..strict() }).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        gate.shut();
        streamer.want(handle, along_x(0..8)).unwrap();
        gate.wait_for(2);
        // Both threads stand before the gate, and stay there until the last line but two.
        for generation in 0..100 {
            streamer.begin_generation();
            streamer.want(handle, along_x(0..10 + generation % 3)).unwrap();
            streamer.replace(wants(handle, 0..8)).unwrap();
            let status = streamer.status();
            assert_eq!((status.under_way_tiles, status.queued_visible_tiles), (2, 6));
            assert_eq!(status.limit, StreamLimit::Read);
            assert!(streamer.failures().newest.is_empty());
        }
        streamer.pause();
        streamer.flush();
        streamer.resume();
        assert_eq!(streamer.retry_failed(), 0);
        assert!(!streamer.wait_idle(Duration::from_millis(10)));
        assert!(streamer.status().oldest_under_way.unwrap() >= Duration::from_millis(10));
        assert_eq!(gate.get(|g| (g.inside.len(), g.reads.len())), (2, 2));
        gate.open();
        assert!(streamer.wait_idle(LONG));
        assert_eq!(streamer.status().loaded, 2);
    });
}

#[test]
fn a_source_is_asked_in_the_order_of_priorities() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, strict()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        streamer.pause();
        let prefetch = |x| (t(x, 0, 0), Priority::prefetch(0, 0.0));
        let visible = |x, level, distance| (t(x, 0, 0), Priority::visible(level, distance));
        streamer.want(handle, [prefetch(0), visible(1, 0, f32::NAN), visible(2, 0, 3.0)]).unwrap();
        streamer.want(handle, [visible(3, 4, 9.0), visible(4, 0, -1.0), visible(9, 0, 3.0)]).unwrap();
        // Raised, and lowered.
        streamer.want(handle, [visible(0, 9, 0.0), prefetch(4)]).unwrap();
        let status = streamer.status();
        assert_eq!((status.queued_visible_tiles, status.queued_prefetch_tiles), (5, 1));
        assert_eq!(status.limit, StreamLimit::Paused);
        streamer.resume();
        assert!(streamer.wait_idle(LONG));
        assert_eq!(gate.read_x(), [0, 3, 2, 9, 1, 4]);
    });
}

#[test]
fn what_is_wanted_no_more_is_not_begun() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, strict()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        gate.shut();
        streamer.want(handle, along_x(0..6)).unwrap();
        gate.wait_for(1);
        streamer.replace(wants(handle, [4, 20])).unwrap();
        assert_eq!(streamer.status().cancelled, 4);
        gate.open();
        assert!(streamer.wait_idle(LONG));
        assert_eq!(gate.read_x(), [0, 4, 20], "what was under way was finished");

        streamer.pause();
        streamer.begin_generation();
        streamer.want(handle, along_x([6, 7])).unwrap();
        streamer.begin_generation();
        streamer.want(handle, along_x([7, 8])).unwrap();
        assert_eq!(streamer.status().queued_tiles(), 3, "a want holds for one generation more");
        streamer.begin_generation();
        streamer.resume();
        assert!(streamer.wait_idle(LONG));
        assert_eq!(gate.read_x()[3..], [7, 8]);
        assert_eq!(streamer.status().cancelled, 5);
    });
}

#[test]
fn the_caps_hold_over_all_threads() {
    within_20_s(|| {
        let pool = pool(host(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(512, 16, 8));
        gate.set(|g| g.delay = Duration::from_millis(2));
        let bytes = StreamOptions { threads: 4, under_way_bytes: 5 * TILE, ..StreamOptions::default() };
        let streamer = Streamer::new(&pool, bytes).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        streamer.want(handle, along_x(0..32)).unwrap();
        assert!(streamer.wait_idle(LONG));
        let most = gate.get(|g| g.most_inside);
        assert!((2..=5).contains(&most), "{most} tiles at once");

        gate.set(|g| g.most_pages_inside = 0);
        let pages =
            StreamOptions { threads: 4, under_way_pages: 2, batch_tiles: 8, ..StreamOptions::default() };
        let streamer = Streamer::new(&pool, pages).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        streamer.want(handle, along_x(32..64)).unwrap();
        assert!(streamer.wait_idle(LONG));
        let most = gate.get(|g| g.most_pages_inside);
        assert!((1..=2).contains(&most), "{most} pages at once");
        assert_eq!(array.resident_tiles().len(), 64);

        // The limit is told.
        gate.shut();
        let one = StreamOptions { threads: 2, under_way_bytes: TILE, ..StreamOptions::default() };
        let streamer = Streamer::new(&pool, one).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        streamer.want(handle, [t(0, 1, 0), t(1, 1, 0)].map(|tile| (tile, Priority::default()))).unwrap();
        gate.wait_for(1);
        assert_eq!(streamer.status().limit, StreamLimit::Bytes);
        gate.open();
    });
}

#[test]
fn failures_are_told_once_and_not_repeated() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, watch) = array(&pool, Extent::new(64, 8, 8));
        let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        let broken = array.layout().tile_region(t(3, 0, 0));
        watch.fail_region(broken);
        for _ in 0..20 {
            streamer.begin_generation();
            streamer.want(handle, along_x(0..8)).unwrap();
            assert!(streamer.wait_idle(LONG));
        }
        assert_eq!(watch.reads_of(broken), 1);
        let failures = streamer.failures();
        assert_eq!((failures.newest.len(), failures.lost), (1, 0));
        let failure = &failures.newest[0];
        assert_eq!((failure.array, failure.tile), (handle, t(3, 0, 0)));
        assert!(failure.error.to_string().contains("fault injected"), "{}", failure.error);
        assert!(streamer.failures().newest.is_empty());

        assert_eq!(streamer.retry_failed(), 1);
        assert!(streamer.wait_idle(LONG));
        assert_eq!((watch.reads_of(broken), streamer.failures().newest.len()), (2, 1));
        watch.clear_faults();
        assert_eq!(streamer.retry_failed(), 1);
        assert!(streamer.wait_idle(LONG));
        let status = streamer.status();
        assert_eq!((status.loaded, status.failed, status.failed_tiles), (8, 2, 0));
        assert!(array.is_resident(t(3, 0, 0)));
    });
}

#[test]
fn a_failed_tile_is_tried_again_when_its_time_has_come() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, watch) = array(&pool, Extent::new(64, 8, 8));
        let options = StreamOptions { retry_after: Some(Duration::ZERO), ..StreamOptions::default() };
        let streamer = Streamer::new(&pool, options).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        watch.fail_nth(1);
        for failed in [1, 1, 1] {
            streamer.want(handle, along_x([0])).unwrap();
            assert!(streamer.wait_idle(LONG));
            assert_eq!(streamer.status().failed, failed);
        }
        assert!(array.is_resident(t(0, 0, 0)));
        assert_eq!(watch.reads(), 2);
    });
}

#[test]
fn a_source_that_panics_is_a_failure() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(64, 8, 8));
        let streamer =
            Streamer::new(&pool, StreamOptions { threads: 1, ..StreamOptions::default() }).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        gate.set(|g| g.panicking = true);
        streamer.want(handle, along_x(0..4)).unwrap();
        assert!(streamer.wait_idle(LONG));
        let failures = streamer.failures().newest;
        assert_eq!(failures.len(), 4);
        let panicked = |error: &Error| matches!(error, Error::Tile { error, .. } if matches!(**error, SourceError::Panicked { .. }));
        assert!(failures.iter().all(|f| panicked(&f.error)));
        gate.set(|g| g.panicking = false);
        streamer.retry_failed();
        assert!(streamer.wait_idle(LONG));
        assert_eq!(streamer.status().loaded, 4);
    });
}

#[test]
fn what_the_budget_does_not_hold_waits_until_it_does() {
    within_20_s(|| {
        let pool = pool(host(), 4 * PAGE, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        // Ten pages, the nearest last.
        streamer.replace(wants(handle, (0..20).rev())).unwrap();
        until(|| {
            let status = streamer.status();
            status.limit == StreamLimit::Budget && status.under_way_requests == 0
        });
        for _ in 0..10 {
            streamer.replace(wants(handle, (0..20).rev())).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut read = gate.read_x();
        read.sort_unstable();
        assert_eq!(read, (0..8).collect::<Vec<_>>(), "the nearest, once each");
        let stats = pool.stats();
        assert_eq!((stats.evictions, streamer.status().queued_visible_tiles), (0, 12));
        assert!(!streamer.wait_idle(Duration::from_millis(100)), "no busy loop, and no way out");
        assert_eq!(gate.get(|g| g.reads.len()), 8);

        pool.set_budget(10 * PAGE).unwrap();
        assert!(streamer.wait_idle(LONG));
        assert_eq!((streamer.status().loaded, streamer.status().limit), (20, StreamLimit::Idle));
    });
}

#[test]
fn what_is_less_urgent_never_takes_the_place_of_what_is_more() {
    within_20_s(|| {
        let pool = pool(model(), 6 * PAGE, 10_000);
        let (array, gate) = gated(&pool, Extent::new(512, 16, 8));
        let streamer = Streamer::new(&pool, stepped()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        let far =
            |x: u64| Want { array: handle, tile: t(x, 0, 0), priority: Priority::prefetch(0, x as f32) };
        let look = |visible: std::ops::Range<u64>| {
            streamer.replace(wants(handle, visible).chain((32..48).map(far))).unwrap();
            while streamer.step() {}
            gate.get(|g| g.reads.len())
        };
        // Four pages are seen, eight more are wanted ahead of need: two of them fit.
        assert_eq!(look(0..8), 12);
        assert_eq!((0..20).map(|_| look(0..8)).max(), Some(12), "nothing is loaded twice");
        assert_eq!(streamer.status().limit, StreamLimit::Budget);
        // Another page is seen: it takes the place of the last that was wanted ahead of need.
        assert_eq!(look(0..10), 14);
        assert_eq!((0..20).map(|_| look(0..10)).max(), Some(14));
        let resident = |x| array.is_resident(t(x, 0, 0));
        assert!((0..10).all(resident) && (32..34).all(resident) && !(34..48).any(resident));
        // The view moves on by a page: one is loaded, and the one that is out of it goes.
        assert_eq!(look(2..12), 16);
        assert!((2..12).all(resident) && (32..34).all(resident) && !resident(0));
        assert_eq!(pool.stats().evictions, 2);
    });
}

#[test]
fn pins_leave_less_and_give_it_back() {
    within_20_s(|| {
        let pool = pool(model(), 2 * PAGE, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        let pins = array.pin(&[t(20, 0, 0), t(24, 0, 0)]).unwrap().complete().unwrap();
        streamer.want(handle, along_x(0..2)).unwrap();
        until(|| streamer.status().limit == StreamLimit::Budget);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(gate.get(|g| g.reads.len()), 2, "what was pinned");
        drop(pins);
        assert!(streamer.wait_idle(LONG));
        assert!(array.is_resident(t(0, 0, 0)) && array.is_resident(t(1, 0, 0)));
    });
}

#[test]
fn a_request_that_is_refused_is_queued_again() {
    within_20_s(|| {
        let pool = pool(model(), 2 * PAGE, 100);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, stepped()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        let _ = array.request(&[t(8, 0, 0)]).unwrap();
        // In this frame, both pages are in use.
        let frame = pool.frame();
        let _ = array.request(&[t(8, 0, 0), t(12, 0, 0)]).unwrap();
        streamer.want(handle, along_x([0])).unwrap();
        assert!(streamer.step(), "it was tried");
        assert_eq!(streamer.status().limit, StreamLimit::Frames);
        assert!(!streamer.step(), "and is not tried again");
        assert_eq!((streamer.status().queued_visible_tiles, gate.get(|g| g.reads.len())), (1, 2));
        drop(frame);
        assert!(streamer.wait_idle(LONG));
        assert!(array.is_resident(t(0, 0, 0)));
        assert_eq!((streamer.status().failed, streamer.failures().newest.len()), (0, 0));
    });
}

#[test]
fn a_frame_that_never_ends_does_not_keep_a_streamer_from_going() {
    within_20_s(|| {
        // A patience beyond the test's.
        let pool = pool(host(), 2 * PAGE, 100_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let _ = array.request(&[t(8, 0, 0), t(12, 0, 0)]).unwrap();
        let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        let frame = array.frame();
        streamer.want(handle, along_x([0])).unwrap();
        until(|| streamer.status().under_way_requests == 1);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(streamer.status().loaded, 0);
        drop(streamer);
        assert_eq!(gate.get(|g| g.reads.len()), 2);
        assert_eq!(
            frame.get([64, 0, 0]),
            Some(value(Coord::new(64, 0, 0))),
            "what was hidden for it is back"
        );
        drop(frame);
        assert_consistent(&pool.stats());
        assert_eq!(array.request(&[t(0, 0, 0)]).unwrap().complete().unwrap().loaded, 1);
    });
}

#[test]
fn dropping_a_streamer_finishes_what_is_under_way_and_leaves_nothing() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, strict()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        gate.shut();
        streamer.want(handle, along_x(0..9)).unwrap();
        gate.wait_for(1);
        let opened = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(30));
                opened.store(true, Ordering::SeqCst);
                gate.open();
            });
            drop(streamer);
            assert!(opened.load(Ordering::SeqCst), "the drop waits for the request under way");
        });
        assert_eq!(gate.read_x(), [0], "what was queued is not begun");
        assert!(array.is_resident(t(0, 0, 0)));
        assert_eq!(Arc::strong_count(&gate), 2);
        drop(array);
        assert_eq!(Arc::strong_count(&gate), 1, "nobody keeps the array");
    });
}

#[test]
fn a_detached_streamer_ends_by_itself() {
    within_20_s(|| {
        let pool = pool(model(), 1 << 20, 10_000);
        let (array, gate) = gated(&pool, Extent::new(256, 16, 8));
        let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        gate.shut();
        streamer.want(handle, along_x(0..9)).unwrap();
        gate.wait_for(1);
        streamer.detach();
        // Its request keeps the array, and gives it back.
        drop(array);
        gate.open();
        until(|| Arc::strong_count(&gate) == 1);
        until(|| pool.stats().used_bytes == 0);
    });
}

#[test]
fn a_streamer_may_be_dropped_by_a_source_of_its_own() {
    type Place = Arc<(Mutex<Option<Streamer<Checked<ModelBackend>>>>, Condvar)>;
    /// Drops the streamer on a thread of that kind; all others wait for that. Or does so when asked for less.
    struct Dropping {
        place: Place,
        kind: &'static str,
    }
    impl Dropping {
        fn drop_it(&self) {
            drop(self.place.0.lock().unwrap().take());
        }
    }
    impl TileSource<u8> for Dropping {
        fn extent(&self) -> Extent {
            Extent::cube(32)
        }
        fn uniform(&self, _: Region) -> Option<u8> {
            if self.kind == "uniform" {
                self.drop_it();
            }
            None
        }
        fn will_read(&self, _: &[Region]) {
            if self.kind == "will_read" {
                self.drop_it();
            }
        }
        fn read(&self, _: Region, out: &mut [u8]) -> Result<(), SourceError> {
            let (place, gone) = &*self.place;
            let mut streamer = place.lock().unwrap();
            if std::thread::current().name().is_some_and(|name| name.starts_with(self.kind)) {
                drop(streamer.take());
                gone.notify_all();
            }
            drop(gone.wait_while(streamer, |streamer| streamer.is_some()).unwrap());
            out.fill(7);
            Ok(())
        }
    }
    within_20_s(|| {
        for kind in ["vastgrid-stream", "vastgrid-load", "uniform", "will_read"] {
            let pool = pool(model(), 1 << 20, 10_000);
            let place = Place::default();
            let source = Dropping { place: place.clone(), kind };
            let array = SparseArray3D::builder(&pool, source).tile([8, 8, 8]).build().unwrap();
            let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
            streamer.pause();
            let handle = streamer.enrol(&array).unwrap();
            streamer.want(handle, along_x(0..4)).unwrap();
            let mut kept = place.0.lock().unwrap();
            kept.insert(streamer).resume();
            drop(kept);
            until(|| array.resident_tiles().len() == 4);
            assert!(place.0.lock().unwrap().is_none());
        }
    });
}

#[test]
fn arrays_of_any_voxel_type_and_no_others() {
    within_20_s(|| {
        let here = pool(model(), 1 << 20, 10_000);
        let elsewhere = pool(model(), 1 << 20, 10_000);
        let (words, _) = array(&here, Extent::cube(32));
        let bytes =
            SparseArray3D::builder(&here, Procedural::new(Extent::cube(32), |c: Coord| [c.x as f32; 4]))
                .tile([4, 4, 4])
                .build()
                .unwrap();
        let (foreign, _) = array(&elsewhere, Extent::cube(32));
        let streamer = Streamer::new(&here, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&words).unwrap();
        assert_eq!(streamer.enrol(&words).unwrap(), handle);
        let other = streamer.enrol(&bytes).unwrap();
        assert!(handle < other, "ordered by age");
        let refused = streamer.enrol(&foreign).unwrap_err();
        assert!(matches!(refused, Error::Residency(ResidencyError::ForeignArray)));
        let abroad = Streamer::new(&elsewhere, StreamOptions::default()).unwrap();
        let foreign = abroad.enrol(&foreign).unwrap();

        let both = wants(handle, 0..4).chain(wants(other, 0..4));
        streamer.replace(both).unwrap();
        assert!(streamer.wait_idle(LONG));
        assert_eq!((words.resident_tiles().len(), bytes.resident_tiles().len()), (4, 4));

        // All or nothing.
        streamer.pause();
        let outside = streamer.want(handle, along_x([0, 1, 2, 3, 4])).unwrap_err();
        assert!(matches!(outside, Error::Residency(ResidencyError::OutOfBounds { .. })), "{outside}");
        let at_the_end = t(u64::MAX, u64::MAX, u64::MAX);
        assert!(streamer.want(handle, [(at_the_end, Priority::default())]).is_err());
        let unknown = |array| {
            let error = streamer.replace(wants(other, [7]).chain(wants(array, [0]))).unwrap_err();
            assert!(matches!(error, Error::Residency(ResidencyError::NotEnrolled)), "{error}");
        };
        unknown(foreign);
        assert_eq!(streamer.status().queued_tiles(), 0);

        streamer.want(handle, [(t(0, 1, 0), Priority::default())]).unwrap();
        streamer.withdraw(handle);
        unknown(handle);
        streamer.want(other, [(t(0, 1, 0), Priority::default())]).unwrap();
        drop(bytes);
        unknown(other);
        streamer.resume();
        assert!(streamer.wait_idle(LONG));
        let status = streamer.status();
        assert_eq!((status.cancelled, status.loaded), (2, 8));
    });
}

#[test]
fn uniform_tiles_take_no_share_of_the_budget() {
    struct Sparse;
    impl TileSource<u16> for Sparse {
        fn extent(&self) -> Extent {
            Extent::new(1024, 16, 8)
        }
        fn uniform(&self, region: Region) -> Option<u16> {
            (region.start.x >= 16).then_some(9)
        }
        fn read(&self, _: Region, out: &mut [u16]) -> Result<(), SourceError> {
            out.fill(3);
            Ok(())
        }
    }
    within_20_s(|| {
        let pool = pool(model(), 2 * PAGE, 10_000);
        let array = SparseArray3D::builder(&pool, Sparse).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
        let streamer = Streamer::new(&pool, StreamOptions::default()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        streamer.want(handle, along_x(0..128)).unwrap();
        assert!(streamer.wait_idle(LONG));
        let status = streamer.status();
        assert_eq!((status.loaded, status.uniform), (2, 126));
        streamer.want(handle, along_x(0..128)).unwrap();
        let status = streamer.status();
        assert_eq!((status.hits, status.uniform, status.limit), (2, 252, StreamLimit::Idle));
    });
}

/// A walk along x that sees four pages, with a budget of five: what it did, read and kept.
fn walk(seed: u64, options: StreamOptions) -> (Vec<Coord>, Vec<TileCoord>, String) {
    let pool = pool(model(), 5 * PAGE, 10_000);
    let (array, gate) = gated(&pool, Extent::new(512, 32, 16));
    let (other, other_gate) = gated(&pool, Extent::new(512, 32, 16));
    let streamer = Streamer::new(&pool, options).unwrap();
    let handles = [streamer.enrol(&array).unwrap(), streamer.enrol(&other).unwrap()];
    let mut random = Random::new(seed);
    let mut log = String::new();
    for generation in 0..60 {
        let start = (generation + random.below(5)) % 50;
        let tiles: Vec<_> = (0..20)
            .map(|_| {
                let tile = t(start + random.below(6), random.below(3), random.below(2));
                let priority = if random.below(3) == 0 {
                    Priority::prefetch(0, random.below(4) as f32)
                } else {
                    Priority::visible(*pick(&mut random, &[0, 1]), random.below(4) as f32)
                };
                Want { array: *pick(&mut random, &handles), tile, priority }
            })
            .collect();
        if random.below(2) == 0 {
            streamer.replace(tiles).unwrap();
        } else {
            streamer.begin_generation();
            for want in tiles {
                streamer.want(want.array, [(want.tile, want.priority)]).unwrap();
            }
        }
        for _ in 0..random.below(9) {
            streamer.step();
        }
        let mut status = streamer.status();
        status.oldest_under_way = None;
        writeln!(log, "{status:?}").unwrap();
    }
    let mut resident = array.resident_tiles();
    resident.extend(other.resident_tiles());
    let reads = gate.get(|g| g.reads.clone()).into_iter().chain(other_gate.get(|g| g.reads.clone()));
    (reads.collect(), resident, log + &pool.stats().to_string())
}

#[test]
fn the_same_wants_and_steps_do_the_same() {
    within_20_s(|| {
        for seed in 0..4 {
            let first = walk(seed, stepped());
            assert!(first.0.len() > 60, "{} reads", first.0.len());
            assert!((0..3).all(|_| walk(seed, stepped()) == first), "seed {seed}");
            // In batches the source is asked in no order, but for the same tiles.
            let batches = StreamOptions { batch_tiles: 4, ..stepped() };
            let sorted = |(mut reads, resident, log): (Vec<Coord>, Vec<TileCoord>, String)| {
                reads.sort_unstable_by_key(|c| (c.x, c.y, c.z));
                (reads, resident, log)
            };
            let first = sorted(walk(seed, batches));
            assert!((0..3).all(|_| sorted(walk(seed, batches)) == first), "seed {seed}, in batches");
        }
    });
}

#[test]
fn many_threads_want_at_once() {
    within_20_s(|| {
        let pool = pool(host(), 24 * PAGE, 10_000);
        let (a, watch) = array(&pool, Extent::new(64, 64, 16));
        let (b, _) = array(&pool, Extent::new(40, 72, 24));
        watch.fail_region(a.layout().tile_region(t(1, 1, 1)));
        let options = StreamOptions { threads: 4, batch_tiles: 3, ..StreamOptions::default() };
        let streamer = Streamer::new(&pool, options).unwrap();
        let handles = [streamer.enrol(&a).unwrap(), streamer.enrol(&b).unwrap()];
        let tiles = [all_tiles(&a), all_tiles(&b)];
        let (wanted, frames) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|s| {
            for seed in 0..6 {
                let (streamer, tiles, a, wanted, frames) = (&streamer, &tiles, &a, &wanted, &frames);
                s.spawn(move || {
                    let mut random = Random::new(seed);
                    for _ in 0..150 {
                        let which = *pick(&mut random, &[0, 1]);
                        let some: Vec<_> = (0..random.below(20))
                            .map(|_| {
                                let tile = *pick(&mut random, &tiles[which]);
                                (tile, Priority::visible(0, random.below(9) as f32))
                            })
                            .collect();
                        wanted.fetch_add(some.len() as u64, Ordering::Relaxed);
                        match random.below(9) {
                            0 => streamer.begin_generation(),
                            1 => streamer.flush(),
                            2 => drop(streamer.failures()),
                            3 => assert!(streamer.status().under_way_tiles <= 12),
                            4 => {
                                let _ = a.request(&[some.first().map_or(t(0, 0, 0), |_| t(2, 2, 1))]);
                            }
                            5 => {
                                let view = a.frame();
                                if let Some(got) = view.get([9, 9, 9]) {
                                    assert_eq!(got, value(Coord::new(9, 9, 9)));
                                }
                                frames.fetch_add(1, Ordering::Relaxed);
                            }
                            _ => {}
                        }
                        streamer.want(handles[which], some).unwrap();
                        if random.below(8) == 0 {
                            std::thread::sleep(Duration::from_micros(300));
                        }
                    }
                });
            }
            for budget in [12, 30, 18, 24] {
                std::thread::sleep(Duration::from_millis(5));
                let _ = pool.set_budget(budget * PAGE);
            }
        });
        streamer.replace(wants(handles[0], 0..4)).unwrap();
        assert!(streamer.wait_idle(LONG));
        assert!((0..4).all(|x| a.is_resident(t(x, 0, 0))));
        let status = streamer.status();
        assert!(status.loaded > 0 && status.is_idle(), "{status:?}");
        drop(streamer);
        assert_consistent(&pool.stats());
        let region = Region::whole(b.extent());
        assert_eq!(b.to_vec(region).unwrap(), expected(region));
    });
}

#[test]
fn what_is_wanted_does_not_go_for_what_is_wanted_with_it() {
    const PAGES: u64 = 24;
    let pool = Pool::new(model(), PAGES * PAGE).unwrap();
    let source = Procedural::new(Extent::new(32 * 400, 8, 8), value);
    let array = SparseArray3D::builder(&pool, source).tile([32, 8, 8]).page([1, 1, 1]).build().unwrap();
    let options = StreamOptions { threads: 0, batch_tiles: 4, ..StreamOptions::default() };
    let streamer = Streamer::new(&pool, options).unwrap();
    let enrolled = streamer.enrol(&array).unwrap();
    let mut random = Random::new(11);
    let mut middle: u64 = 200;
    for picture in 0..2000 {
        // Something that moves, is near where it was for a while, and never wants more than there is room for.
        middle = (middle + random.below(9)).saturating_sub(4).clamp(20, 380);
        let mut wanted: Vec<u64> = (middle - 16..middle + 16).filter(|_| random.below(3) > 0).collect();
        wanted.truncate(usize::try_from(PAGES).unwrap());
        streamer.replace(wants(enrolled, wanted.iter().copied())).unwrap();
        while streamer.step() {}
        let lacking = wanted.iter().filter(|&&x| !array.is_resident(t(x, 0, 0))).count();
        assert_eq!(lacking, 0, "picture {picture}: of {} tiles", wanted.len());
    }
    assert!(pool.stats().evictions > 1000, "{:?}", pool.stats());
}

#[test]
fn what_is_written_while_a_source_is_asked_about_it_holds() {
    #[derive(Debug)]
    struct Gates {
        asked: AtomicBool,
        begun: Barrier,
        answers: Barrier,
    }
    /// Holds 3 everywhere, and takes its time to say so at first.
    #[derive(Debug)]
    struct Slow(Arc<Gates>);
    impl TileSource<u16> for Slow {
        fn extent(&self) -> Extent {
            Extent::cube(8)
        }
        fn uniform(&self, _: Region) -> Option<u16> {
            if !self.0.asked.swap(true, Ordering::SeqCst) {
                self.0.begun.wait();
                self.0.answers.wait();
            }
            Some(3)
        }
        fn read(&self, _: Region, out: &mut [u16]) -> Result<(), SourceError> {
            out.fill(3);
            Ok(())
        }
    }
    const AT: Coord = Coord::new(1, 2, 3);
    let fill = |array: &mut SparseArray3D<u16>| {
        array.writer().unwrap().fill(Region::whole(Extent::cube(8)), 7).unwrap();
    };
    let write_and_evict = |array: &mut SparseArray3D<u16>| {
        array.writer().unwrap().write_region(Region::new(AT, Extent::cube(1)), &[7]).unwrap();
        array.evict(Region::whole(Extent::cube(8))).unwrap();
        assert!(!array.is_resident(t(0, 0, 0)));
    };
    let ways: [fn(&mut SparseArray3D<u16>); 2] = [fill, write_and_evict];
    for way in ways {
        let pool = pool(HostBackend::new(), 1 << 20, 10_000);
        let gates = Arc::new(Gates {
            asked: AtomicBool::new(false),
            begun: Barrier::new(2),
            answers: Barrier::new(2),
        });
        let mut array =
            SparseArray3D::builder(&pool, Slow(gates.clone())).tile([8, 8, 8]).writable().build().unwrap();
        let streamer = Streamer::new(&pool, strict()).unwrap();
        let handle = streamer.enrol(&array).unwrap();
        streamer.want(handle, along_x([0])).unwrap();
        gates.begun.wait();
        way(&mut array);
        gates.answers.wait();
        assert!(streamer.wait_idle(LONG));
        assert_eq!(array.get(AT).unwrap(), 7);
    }
}
