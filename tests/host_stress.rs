//! What only threads, limits and many mappings bring to light in the host backend.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vastgrid::BackendError;
use vastgrid::backend::{
    Access, Backend, HostBackend, HostConfig, HostMoves, HostPage, HostReservation, ReserveSpec, Staging,
};

fn reserve(b: &HostBackend, places: u64, page_bytes: u64, expected_pages: u64) -> HostReservation {
    b.reserve(ReserveSpec { bytes: places * page_bytes, page_bytes, expected_pages }).unwrap()
}

fn map(b: &HostBackend, r: &HostReservation, offset: u64, page: HostPage, page_bytes: u64) {
    b.map(r, offset, page).map_err(|refused| refused.error).unwrap();
    b.set_access(r, offset..offset + page_bytes, Access::ReadWrite).unwrap();
}

fn fill(b: &HostBackend, r: &HostReservation, offset: u64, bytes: u64, value: u8) {
    let mut staging = b.stage(r, offset..offset + bytes).unwrap();
    staging.bytes_mut().fill(value);
    b.submit(r, staging).unwrap();
}

fn holds(b: &HostBackend, r: &HostReservation, offset: u64, bytes: u64, value: u8) -> bool {
    let mut out = vec![!value; usize::try_from(bytes).unwrap()];
    b.read(r, offset, &mut out).unwrap();
    out.iter().all(|v| *v == value)
}

/// A small mapping at an address of the kernel's choice, filled with a pattern of its own.
#[derive(Debug)]
struct Foreign {
    start: *mut u64,
    bytes: usize,
    pattern: u64,
}

#[expect(unsafe_code, reason = "maps and unmaps as any other part of a program would")]
impl Foreign {
    fn new(bytes: usize, pattern: u64) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }.unwrap();
        let this = Self { start: start.cast(), bytes, pattern };
        for at in this.places() {
            // SAFETY: inside the mapping just made.
            unsafe { at.write_volatile(pattern) };
        }
        this
    }

    /// One word of every OS page.
    fn places(&self) -> impl Iterator<Item = *mut u64> + use<> {
        let start = self.start;
        (0..self.bytes / 4096).map(move |page| start.wrapping_add(page * 512 + 7))
    }

    fn is_intact(&self) -> bool {
        // SAFETY: the mapping lives until this is dropped.
        self.places().all(|at| unsafe { at.read_volatile() } == self.pattern)
    }

    fn lies_in(&self, range: &std::ops::Range<u64>) -> bool {
        let start = self.start.addr() as u64;
        start < range.end && range.start < start + self.bytes as u64
    }
}

#[expect(unsafe_code, reason = "as above")]
impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { munmap(self.start.cast(), self.bytes) }.unwrap();
    }
}

/// Maps, moves, refills, destroys and checks pages, each so far from the next that page tables are left behind; tells how many steps it made.
fn churn(
    b: &HostBackend,
    r: &HostReservation,
    page_bytes: u64,
    places: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
) {
    let stride = page_bytes.max(2 << 20);
    let mut mapped: Vec<(u64, u8)> = Vec::new();
    let mut idle: Vec<HostPage> = (0..24).map(|_| b.create(page_bytes).unwrap()).collect();
    let mut state = 1u64;
    let mut step = 0u8;
    while !stop.load(Ordering::Relaxed) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (state >> 33) % places;
        step = step.wrapping_add(1);
        if mapped.iter().any(|m| m.0 == place) {
            continue;
        }
        if idle.len() < 4 {
            let (victim, value) = mapped.swap_remove(usize::try_from(state >> 40).unwrap() % mapped.len());
            assert!(holds(b, r, victim * stride, 4096, value), "the victim holds what was put there");
            let page = b.unmap(r, victim * stride).unwrap();
            if step.is_multiple_of(16) {
                b.destroy(page).unwrap();
                idle.push(b.create(page_bytes).unwrap());
            } else {
                idle.push(page);
            }
        }
        let page = idle.remove(usize::from(step) % idle.len());
        map(b, r, place * stride, page, page_bytes);
        fill(b, r, place * stride, 4096, step);
        mapped.push((place, step));
        done.fetch_add(1, Ordering::Relaxed);
    }
    for (place, value) in mapped {
        assert!(holds(b, r, place * stride, 4096, value));
    }
}

fn no_hole_opens(moves: HostMoves, page_bytes: u64) {
    let b = HostBackend::with_config(moving(moves));
    // More than page tables are kept for.
    let places = 8192;
    let bytes = places * page_bytes.max(2 << 20);
    let r = reserve(&b, bytes / page_bytes, page_bytes, 64);
    if b.moves(&r) != moves {
        return eprintln!("skipped: the system cannot do it this way, but {:?}", b.moves(&r));
    }
    let ours = b.base_address(&r)..b.base_address(&r) + bytes;
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        let churning = s.spawn(|| churn(&b, &r, page_bytes, places, &stop, &done));
        let mut foreign: Vec<Foreign> = Vec::new();
        let start = std::time::Instant::now();
        let mut rounds = 0u64;
        while start.elapsed().as_millis() < 700 && !churning.is_finished() {
            rounds += 1;
            // Sizes around the page's own, so that a hole of one page would be taken.
            let bytes = match rounds % 3 {
                0 => 4096,
                1 => usize::try_from(page_bytes).unwrap(),
                _ => 16 << 10,
            };
            let new = Foreign::new(bytes.min(64 << 10), rounds);
            assert!(!new.lies_in(&ours), "{new:?} lies in {ours:x?}");
            foreign.push(new);
            if foreign.len() > 32 {
                let old = foreign.swap_remove(usize::try_from(rounds).unwrap() * 7 % 32);
                assert!(old.is_intact(), "{old:?} was overwritten");
            }
        }
        stop.store(true, Ordering::Relaxed);
        churning.join().unwrap();
        assert!(foreign.iter().all(Foreign::is_intact));
        assert!(
            done.load(Ordering::Relaxed) > 100 && rounds > 100,
            "{done:?} steps against {rounds} mappings"
        );
    });
    let within = mappings_in(&ours);
    assert!(within <= b.mappings() + 2, "{within} mappings, {} counted", b.mappings());
}

/// The system's memory mappings that begin in a range.
fn mappings_in(range: &std::ops::Range<u64>) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let begins = |line: &str| u64::from_str_radix(line.split('-').next()?, 16).ok();
    maps.lines().filter_map(begins).filter(|at| range.contains(at)).count() as u64
}

fn moving(moves: HostMoves) -> HostConfig {
    HostConfig { moves, ..HostConfig::default() }
}

#[test]
fn no_hole_opens_when_pages_move() {
    for page_bytes in [4 << 10, 64 << 10, 2 << 20] {
        no_hole_opens(HostMoves::Pages, page_bytes);
    }
}

#[test]
fn no_hole_opens_when_mappings_move() {
    for page_bytes in [64 << 10, 2 << 20] {
        no_hole_opens(HostMoves::Mappings, page_bytes);
    }
}

#[test]
fn no_hole_opens_when_pages_are_touched() {
    for page_bytes in [4 << 10, 64 << 10] {
        no_hole_opens(HostMoves::Nothing, page_bytes);
    }
}

#[test]
fn too_many_mappings_is_a_clear_error_and_loses_nothing() {
    let page_bytes = 64 << 10;
    let b = HostBackend::with_config(HostConfig { max_mappings: Some(24), ..moving(HostMoves::Mappings) });
    let r = reserve(&b, 64, page_bytes, 8);
    assert_eq!(b.moves(&r), HostMoves::Mappings);
    let mut mapped = 0u8;
    let error = loop {
        match b.create(page_bytes) {
            Ok(page) => {
                let offset = u64::from(mapped) * 2 * page_bytes;
                map(&b, &r, offset, page, page_bytes);
                mapped += 1;
                fill(&b, &r, offset, page_bytes, mapped);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BackendError::TooManyMappings { limit: 24, .. }), "{error}");
    assert!(error.to_string().contains("vm.max_map_count"), "{error}");
    assert!((8..=12).contains(&mapped), "{mapped} pages for 24 mappings");
    for value in 1..=mapped {
        assert!(holds(&b, &r, u64::from(value - 1) * 2 * page_bytes, page_bytes, value));
    }
    // Recycling needs no more of them, and destroying gives them back.
    let page = b.unmap(&r, 0).unwrap();
    map(&b, &r, page_bytes, page, page_bytes);
    b.destroy(b.unmap(&r, page_bytes).unwrap()).unwrap();
    map(&b, &r, page_bytes, b.create(page_bytes).unwrap(), page_bytes);
    b.destroy(b.unmap(&r, page_bytes).unwrap()).unwrap();
    // What expects more pages than there are mappings for does not move them.
    let many = reserve(&b, 1 << 20, page_bytes, 1000);
    assert_eq!(b.moves(&many), HostMoves::Nothing);
    drop(many);
    drop(r);
    assert_eq!(b.mappings(), 1, "only the pool's own is left");
}

#[test]
fn mappings_are_never_more_than_counted() {
    let page_bytes = 64 << 10;
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count() as u64;
    let b = HostBackend::with_config(moving(HostMoves::Mappings));
    let r = reserve(&b, 4096, page_bytes, 300);
    let before = mappings();
    let mut idle: Vec<HostPage> = (0..300).map(|_| b.create(page_bytes).unwrap()).collect();
    let mut places = Vec::new();
    for round in 0..2000u64 {
        if idle.is_empty() {
            idle.push(
                b.unmap(&r, places.remove(usize::try_from(round * 31).unwrap() % places.len())).unwrap(),
            );
        }
        let offset = (round * 1117) % 4096 * page_bytes;
        let page = idle.remove(0);
        match b.map(&r, offset, page) {
            Ok(()) => places.push(offset),
            Err(refused) => idle.push(refused.page),
        }
    }
    // Other tests of this process map a few areas meanwhile.
    let grown = mappings().saturating_sub(before);
    assert!(grown <= b.mappings() + 200, "{grown} mappings, {} counted", b.mappings());
    assert!(grown > 300, "pages that lie apart take mappings: {grown}");
}

#[test]
fn tiles_of_a_page_are_filled_by_many_threads_while_others_come_and_go() {
    let (page_bytes, tile) = (64u64 << 10, 4096u64);
    for moves in [HostMoves::Pages, HostMoves::Mappings, HostMoves::Nothing] {
        let b = HostBackend::with_config(moving(moves));
        let r = reserve(&b, 64, page_bytes, 16);
        for i in 0..8 {
            map(&b, &r, i * page_bytes, b.create(page_bytes).unwrap(), page_bytes);
            fill(&b, &r, i * page_bytes, page_bytes, 0xEE);
        }
        for round in 0..20u64 {
            // Recycled to places where they were not, so that memory must follow while several threads stage at once.
            let (from, to) = (round % 2 * 8, (round + 1) % 2 * 8);
            for i in 0..8 {
                let page = b.unmap(&r, (from + i) * page_bytes).unwrap();
                map(&b, &r, (to + 7 - i) * page_bytes, page, page_bytes);
            }
            std::thread::scope(|s| {
                for worker in 0..4u64 {
                    let (b, r) = (&b, &r);
                    s.spawn(move || {
                        for n in (worker..8 * page_bytes / tile).step_by(4) {
                            let value = u8::try_from((n + round) % 251).unwrap();
                            fill(b, r, to * page_bytes + n * tile, tile, value);
                        }
                    });
                }
            });
            for n in 0..8 * page_bytes / tile {
                let value = u8::try_from((n + round) % 251).unwrap();
                assert!(holds(&b, &r, to * page_bytes + n * tile, tile, value), "round {round}, tile {n}");
            }
        }
    }
}

/// More pages than there may be memory mappings, in one of them.
#[test]
fn moved_pages_take_one_mapping_however_many_they_are() {
    let (page_bytes, pages) = (4u64 << 10, 70_000u64);
    let b = HostBackend::with_config(HostConfig { max_mappings: Some(8), ..moving(HostMoves::Pages) });
    let r = reserve(&b, 1 << 34, page_bytes, pages);
    if b.moves(&r) != HostMoves::Pages {
        return eprintln!("skipped: no userfaultfd here");
    }
    let place = |i: u64, round: u64| (i * 4 + round) * page_bytes;
    for i in 0..pages {
        map(&b, &r, place(i, 0), b.create(page_bytes).unwrap(), page_bytes);
        fill(&b, &r, place(i, 0), 8, u8::try_from(i % 251).unwrap());
    }
    for i in 0..pages {
        let page = b.unmap(&r, place(i, 0)).unwrap();
        map(&b, &r, place(i, 1), page, page_bytes);
    }
    for i in (0..pages).step_by(97) {
        assert!(holds(&b, &r, place(i, 1), 8, u8::try_from(i % 251).unwrap()), "page {i}");
    }
    let ours = b.base_address(&r)..b.base_address(&r) + (1 << 34);
    assert_eq!(mappings_in(&ours), 1);
    assert!(b.mappings() <= 3, "{} mappings", b.mappings());
}

/// Pages go from reservation to reservation, whatever each does to have their memory there, and keep what they hold.
#[test]
fn pages_keep_what_they_hold_between_reservations_of_all_kinds() {
    // In so few mappings: moved mappings and demand-zero, then, by size, moved pages or moved mappings.
    let sizes = [4u64 << 10, 64 << 10, 512 << 10, 2 << 20];
    let kinds = [HostMoves::Mappings, HostMoves::Fastest].into_iter();
    for (moves, page_bytes) in kinds.flat_map(|moves| sizes.map(|bytes| (moves, bytes))) {
        let b = HostBackend::with_config(HostConfig { max_mappings: Some(200), ..moving(moves) });
        let reservations = [16, 1 << 20, 4].map(|expected| reserve(&b, 256, page_bytes, expected));
        if moves == HostMoves::Mappings {
            let kinds = reservations.each_ref().map(|r| b.moves(r));
            assert_eq!(kinds, [HostMoves::Mappings, HostMoves::Nothing, HostMoves::Mappings]);
        }
        let mut state = page_bytes;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut mapped: Vec<(usize, u64, u8)> = Vec::new();
        let mut idle: Vec<(HostPage, Option<u8>)> =
            (0..12).map(|_| (b.create(page_bytes).unwrap(), None)).collect();
        for step in 0..600u32 {
            if idle.is_empty() || (random(2) == 0 && !mapped.is_empty()) {
                let (at, offset, value) = mapped.swap_remove(random(mapped.len()));
                assert!(holds(&b, &reservations[at], offset, page_bytes, value), "step {step}");
                idle.push((b.unmap(&reservations[at], offset).unwrap(), Some(value)));
                continue;
            }
            let (page, held) = idle.swap_remove(random(idle.len()));
            // Few places, so that what lingers is displaced.
            let (at, offset) = (random(3), random(16) as u64 * page_bytes);
            if mapped.iter().any(|m| (m.0, m.1) == (at, offset)) {
                idle.push((page, held));
                continue;
            }
            map(&b, &reservations[at], offset, page, page_bytes);
            let value = match held {
                Some(value) if random(2) == 0 => value,
                _ => {
                    let value = u8::try_from(step % 251).unwrap();
                    fill(&b, &reservations[at], offset, page_bytes, value);
                    value
                }
            };
            assert!(holds(&b, &reservations[at], offset, page_bytes, value), "step {step}");
            mapped.push((at, offset, value));
        }
    }
}
