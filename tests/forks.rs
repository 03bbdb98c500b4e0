//! Forks of arrays: random programs over families of them against plain maps, with faults in the scratch store and in the backend; and what a user may rely on, one thing at a time.

mod common;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Random, all_tiles, assert_consistent, pool, t, within};
use vastgrid::backend::{
    Backend, Call, Checked, Fault, Faults, Faulty, HostAddressable, HostBackend, HostConfig, ModelBackend,
    ModelConfig,
};
use vastgrid::source::{Fill, Procedural};
use vastgrid::store::{ScratchFile, ScratchStore};
use vastgrid::{Coord, Error, Extent, Pool, Region, ResidencyError, SparseArray3D, Stats, StoreError, Tile};

/// A scratch file that fails when told to, and knows how many tiles it keeps.
#[derive(Debug, Default)]
struct Moody {
    file: ScratchFile,
    refuses: Arc<AtomicBool>,
    /// Tiles that it was ever given, and those that it keeps.
    given: Arc<AtomicU64>,
    keeps: Arc<AtomicU64>,
}

impl ScratchStore for Moody {
    fn keep(&self, number: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::Write { path: "moody".into(), offset_bytes: number, bytes: 0, source });
        }
        self.given.fetch_add(1, Ordering::Relaxed);
        self.keeps.fetch_add(1, Ordering::Relaxed);
        self.file.keep(number, bytes)
    }

    fn read(&self, number: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.file.read(number, out)
    }

    fn forget(&self, number: u64) {
        self.keeps.fetch_sub(1, Ordering::Relaxed);
        self.file.forget(number);
    }
}

fn seed(name: &str) -> u64 {
    let seed = std::env::var("VASTGRID_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{name}: VASTGRID_TEST_SEED={seed}");
    seed
}

const EXTENT: Extent = Extent::new(50, 37, 40);

/// What a voxel holds that was never written.
fn base(c: Coord) -> u32 {
    if c.z < 16 { 7 } else { u32::try_from(c.x + 1000 * c.y + 1_000_000 * c.z).unwrap() }
}

/// A source of which a part is known to hold one value.
fn source() -> Procedural<u32> {
    Procedural::new(EXTENT, base).with_uniform(|region| (region.start.z + region.extent.z <= 16).then_some(7))
}

/// One array of a family, and what each of its voxels holds that was written to.
struct Member<B: Backend> {
    array: SparseArray3D<u32, B>,
    expected: HashMap<[u64; 3], u32>,
}

impl<B: Backend> Member<B> {
    fn expected(&self, c: Coord) -> u32 {
        self.expected.get(&c.to_array()).copied().unwrap_or_else(|| base(c))
    }

    /// Every voxel.
    fn check(&self, when: &str) {
        let all = self.array.to_vec(Region::whole(EXTENT)).unwrap_or_else(|error| panic!("{when}: {error}"));
        let mut all = all.into_iter();
        for z in 0..EXTENT.z {
            for y in 0..EXTENT.y {
                for x in 0..EXTENT.x {
                    let c = Coord::new(x, y, z);
                    assert_eq!(all.next(), Some(self.expected(c)), "{c:?} {when}");
                }
            }
        }
    }
}

impl<B: HostAddressable> Member<B> {
    /// What frames show, without loading anything.
    fn check_visible(&self, when: &str) {
        let view = self.array.frame();
        let shape = self.array.layout().tile_shape();
        for tile in all_tiles(&self.array) {
            let region = self.array.layout().tile_region(tile);
            let shown = view.tile(tile);
            for (i, c) in (0..).zip(region_coords(region)) {
                let within = (c.x % shape.x) + shape.x * (c.y % shape.y + shape.y * (c.z % shape.z));
                match &shown {
                    Tile::Resident(voxels) => {
                        assert_eq!(
                            voxels[usize::try_from(within).unwrap()],
                            self.expected(c),
                            "{c:?} {when}"
                        );
                    }
                    Tile::Uniform(value) => assert_eq!(*value, self.expected(c), "{c:?} {when}"),
                    Tile::Missing => break,
                }
                // Ranges that are known hold.
                if i % 8 == 0
                    && let Some((low, high)) = view.cell_range(tile, cell_of(c, shape))
                {
                    assert!((low..=high).contains(&(self.expected(c) as f32)), "{c:?} {when}");
                }
            }
        }
    }
}

fn cell_of(c: Coord, shape: Extent) -> usize {
    let [x, y, z] = [c.x % shape.x / 8, c.y % shape.y / 8, c.z % shape.z / 8];
    usize::try_from(x + shape.x / 8 * (y + shape.y / 8 * z)).unwrap()
}

fn region_coords(region: Region) -> impl Iterator<Item = Coord> {
    let (s, e) = (region.start, region.extent);
    (s.z..s.z + e.z).flat_map(move |z| {
        (s.y..s.y + e.y).flat_map(move |y| (s.x..s.x + e.x).map(move |x| Coord::new(x, y, z)))
    })
}

struct Program<B: Backend> {
    random: Random,
    pool: Pool<B>,
    family: Vec<Member<B>>,
    refuses: Arc<AtomicBool>,
    keeps: Arc<AtomicU64>,
    faults: Option<Faults>,
    page: u64,
    step: u32,
}

/// What made a step fail, if it was told to.
fn is_told(error: &Error) -> bool {
    let text = error.to_string();
    matches!(error, Error::WriteBack { .. }) || text.contains("injected") || text.contains("made to fail")
}

impl<B: HostAddressable> Program<B> {
    fn new(seed: u64, backend: B, faults: Option<Faults>) -> Self {
        let mut random = Random::new(seed);
        let moody = Moody::default();
        let (refuses, keeps) = (moody.refuses.clone(), moody.keeps.clone());
        let page = 4096 << random.below(3);
        let pool = pool(backend, (1 + random.below(30)) * page, 500);
        let array = SparseArray3D::builder(&pool, source()).tile([16, 8, 8]).page_bytes(page).track_ranges();
        let array = array.writable_with(moody).build().unwrap();
        let family = vec![Member { array, expected: HashMap::new() }];
        Self { random, pool, family, refuses, keeps, faults, page, step: 0 }
    }

    fn at(&mut self) -> Coord {
        let Extent { x, y, z } = EXTENT;
        Coord::new(self.random.below(x), self.random.below(y), self.random.below(z))
    }

    fn calm(&self) {
        self.refuses.store(false, Ordering::Relaxed);
        if let Some(faults) = &self.faults {
            faults.disarm();
        }
    }

    fn region(&mut self) -> Region {
        let start = self.at();
        let mut side = |a: u64, most: u64| 1 + self.random.below((most - a).min(24));
        let extent = Extent::new(side(start.x, EXTENT.x), side(start.y, EXTENT.y), side(start.z, EXTENT.z));
        Region::new(start, extent)
    }

    fn write(&mut self, which: usize) -> Result<(), Error> {
        let (region, value, kind) = (self.region(), self.step * 100 + 50, self.random.below(4));
        let c = self.at();
        let member = &mut self.family[which];
        let region = if kind == 0 { Region::new(c, Extent::cube(1)) } else { region };
        let new = |i: u32| if kind == 1 { value } else { value ^ i << 9 };
        let voxels: Vec<_> = (0..).zip(region_coords(region)).map(|(i, _)| new(i)).collect();
        let wrote = member.array.writer().and_then(|mut writer| match kind {
            0 => writer.set(region.start, voxels[0]),
            1 => writer.fill(region, value),
            _ => writer.write_region(region, &voxels),
        });
        self.calm();
        // What is there now counts, as long as it is what was written, or, where that failed, what was there before.
        let member = &mut self.family[which];
        let now = member.array.to_vec(region)?;
        for ((c, now), new) in region_coords(region).zip(now).zip(voxels) {
            assert!(
                now == new || wrote.is_err() && now == member.expected(c),
                "{c:?}: {now}, step {}",
                self.step
            );
            member.expected.insert(c.to_array(), now);
        }
        wrote
    }

    /// The source's again, and nothing of what was written shown any more.
    fn discard(&mut self, which: usize) -> Result<(), Error> {
        let c = self.at();
        self.calm();
        let member = &mut self.family[which];
        let tile = member.array.layout().tile_of(c);
        member.array.discard_written(&[tile])?;
        let region = member.array.layout().tile_region(tile);
        member.array.evict(region)?;
        for c in region_coords(region) {
            member.expected.remove(&c.to_array());
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Error> {
        let which = usize::try_from(self.random.below(self.family.len() as u64)).unwrap();
        match self.random.below(14) {
            0..=3 => self.write(which),
            4 | 5 => {
                let fork = self.family[which].array.fork()?;
                let expected = self.family[which].expected.clone();
                self.family.push(Member { array: fork, expected });
                Ok(())
            }
            6 if self.family.len() > 1 => {
                drop(self.family.swap_remove(which));
                Ok(())
            }
            7 => {
                let region = self.region();
                self.family[which].array.evict(region).map(drop)
            }
            8 => self.family[which].array.evict(Region::whole(EXTENT)).map(drop),
            9 => {
                let budget = (1 + self.random.below(30)) * self.page;
                self.pool.set_budget(budget)
            }
            10 => self.discard(which),
            11 => {
                let region = self.region();
                let got = self.family[which].array.to_vec(region)?;
                for (c, got) in region_coords(region).zip(got) {
                    assert_eq!(got, self.family[which].expected(c), "{c:?}");
                }
                Ok(())
            }
            12 => {
                let tiles = [self.at(), self.at()].map(|c| self.family[which].array.layout().tile_of(c));
                match self.family[which].array.request(&tiles) {
                    Err(Error::Residency(ResidencyError::OverBudget { .. })) => Ok(()),
                    report => report.and_then(|report| report.complete().map(drop)),
                }
            }
            _ => {
                let c = self.at();
                let value = self.family[which].array.get(c)?;
                assert_eq!(value, self.family[which].expected(c), "{c:?}");
                Ok(())
            }
        }
    }

    fn run(mut self, steps: u32) {
        let mut failures = 0;
        for step in 0..steps {
            self.step = step;
            self.refuses.store(self.random.below(10) == 0, Ordering::Relaxed);
            if let Some(faults) = &self.faults
                && self.random.below(3) == 0
            {
                faults.arm(Fault::fail_any(1 + self.random.below(40)));
            }
            let outcome = self.step();
            self.calm();
            if let Err(error) = outcome {
                failures += 1;
                assert!(is_told(&error), "step {step}: {error}");
            }
            assert_consistent(&self.pool.stats());
            for (i, member) in self.family.iter().enumerate() {
                member.check_visible(&format!("in {i} of the family after step {step}"));
            }
            if self.family.len() > 6 {
                self.family.swap_remove(1);
            }
        }
        for member in &self.family {
            member.check("at the end");
        }
        let Stats { copied_pages, written_back, .. } = self.pool.stats();
        println!(
            "{failures} steps failed as told, {copied_pages} pages copied, {written_back} tiles written back"
        );
        self.end();
    }

    /// Everything comes back, memory and room in the scratch store.
    fn end(self) {
        let Self { pool, family, keeps, mut random, .. } = self;
        let mut family = family;
        while !family.is_empty() {
            let i = usize::try_from(random.below(family.len() as u64)).unwrap();
            drop(family.swap_remove(i));
            for member in &family {
                member.check_visible("after others were dropped");
            }
        }
        pool.trim().unwrap();
        let stats = pool.stats();
        assert_eq!(
            (stats.used_bytes, stats.mapped_pages, stats.dirty_tiles, stats.resident_tiles),
            (0, 0, 0, 0)
        );
        assert_eq!(keeps.load(Ordering::Relaxed), 0, "kept for nobody");
    }
}

fn programs<B: HostAddressable>(name: &str, rounds: u64, make: impl Fn() -> (B, Option<Faults>)) {
    let seed = seed(name);
    for round in 0..rounds {
        let (backend, faults) = make();
        Program::new(seed.wrapping_add(round), backend, faults).run(150);
    }
}

#[test]
fn random_programs_on_a_host_that_shares() {
    programs("on a host that shares", 4, || (HostBackend::shareable(), None));
}

#[test]
fn random_programs_on_a_host_that_does_not_share() {
    programs("on a host that does not share", 3, || (HostBackend::new(), None));
}

#[test]
fn random_programs_on_the_checked_host() {
    programs("on the checked host", 3, || (Checked::new(HostBackend::shareable()), None));
}

#[test]
fn random_programs_on_a_host_that_fails() {
    programs("on a host that fails", 6, || {
        let faulty = Faulty::new(Checked::new(HostBackend::shareable()));
        let faults = faulty.faults();
        (faulty, Some(faults))
    });
}

#[test]
fn random_programs_where_mappings_run_out() {
    // Enough for some pages of one array, and of a fork or two.
    programs("where mappings run out", 3, || {
        let config = HostConfig { shareable: true, max_mappings: Some(90), ..HostConfig::default() };
        (HostBackend::with_config(config), None)
    });
}

/// Arrays that nobody writes to, on the model, whose memory can be counted. Pages of several tiles, so that tiles are loaded into pages that are shared.
fn reading<B: Backend>(mut random: Random, backend: B, model: &ModelBackend, faults: Option<&Faults>) {
    let pool = pool(backend, (1 + random.below(12)) * 16384, 500);
    let build =
        || SparseArray3D::builder(&pool, source()).tile([16, 8, 8]).page_bytes(16384).build().unwrap();
    let mut family = vec![build()];
    for step in 0..300 {
        let which = usize::try_from(random.below(family.len() as u64)).unwrap();
        let array = &family[which];
        let tiles = all_tiles(array);
        let some: Vec<_> = (0..=random.below(5))
            .map(|_| tiles[usize::try_from(random.below(tiles.len() as u64)).unwrap()])
            .collect();
        let region = array.layout().tile_region(some[0]);
        if let Some(faults) = faults.filter(|_| random.below(3) == 0) {
            // Not those that wait: nobody would ever know when what they wait for arrived.
            let calls = [
                Call::Create,
                Call::Map,
                Call::SetAccess,
                Call::Unmap,
                Call::Share,
                Call::Replace,
                Call::Stage,
            ];
            let call = calls[usize::try_from(random.below(calls.len() as u64)).unwrap()];
            faults.arm(Fault::fail(call, 1 + random.below(6)));
        }
        let outcome = match random.below(8) {
            0 | 1 => array.fork().map(|fork| family.push(fork)),
            2 if family.len() > 1 => {
                drop(family.swap_remove(which));
                Ok(())
            }
            3 => array.evict(region).map(drop),
            4 => pool.set_budget((1 + random.below(12)) * 16384),
            5 => array.to_vec(region).map(|got| {
                assert_eq!(got, region_coords(region).map(base).collect::<Vec<_>>(), "step {step}");
            }),
            _ => array.request_fitting(&some).and_then(|report| report.complete().map(drop)),
        };
        if let Some(faults) = faults {
            faults.disarm();
        }
        if let Err(error) = outcome {
            assert!(is_told(&error), "step {step}: {error}");
        }
        let stats = pool.stats();
        assert_consistent(&stats);
        assert_eq!(model.page_bytes(), stats.used_bytes, "accounts and physical pages after step {step}");
        if family.len() > 5 {
            family.swap_remove(1);
        }
    }
    for array in &family {
        for tile in all_tiles(array) {
            let region = array.layout().tile_region(tile);
            assert_eq!(array.to_vec(region).unwrap(), region_coords(region).map(base).collect::<Vec<_>>());
        }
    }
    let copied = pool.stats().copied_pages;
    drop(family);
    pool.trim().unwrap();
    assert_eq!((pool.stats().used_bytes, model.page_bytes()), (0, 0));
    println!("{copied} pages copied");
}

#[test]
fn forks_that_are_read_keep_true_accounts() {
    let seed = seed("forks that are read");
    let late =
        ModelConfig { asynchronous: true, batch_bytes: 32768, remembers: true, ..ModelConfig::default() };
    let configs = [ModelConfig::default(), late, ModelConfig { shares: false, ..ModelConfig::default() }];
    for (round, config) in (0..).zip([configs, configs, configs].concat()) {
        let random = Random::new(seed.wrapping_add(round));
        let model = ModelBackend::new(config);
        let faulty = Faulty::new(Checked::new(model.clone()));
        let faults = faulty.faults();
        reading(random, faulty, &model, (round >= 3).then_some(&faults));
    }
}

/// 64 tiles of 64 KiB, in pages of one; all of them written to.
fn written<B: HostAddressable>(backend: B, budget: u64) -> (Pool<B>, SparseArray3D<u32, B>, Moody) {
    let moody = Moody::default();
    let again = Moody {
        file: ScratchFile::default(),
        refuses: moody.refuses.clone(),
        given: moody.given.clone(),
        keeps: moody.keeps.clone(),
    };
    let pool = pool(backend, budget, 500);
    let fill = Fill::new(Extent::new(64 * 32, 32, 16), 0u32);
    let mut array =
        SparseArray3D::builder(&pool, fill).tile([32, 32, 16]).writable_with(moody).build().unwrap();
    let tiles = all_tiles(&array);
    let mut writer = array.writer().unwrap();
    writer.for_each_tile(&tiles, |tile, voxels| stamp(voxels, tile.x)).unwrap();
    drop(writer);
    (pool, array, again)
}

/// Contents that are not one value.
fn stamp(voxels: &mut [u32], number: u64) {
    (0..).zip(voxels).for_each(|(i, v)| *v = i ^ u32::try_from(number).unwrap() << 16);
}

fn holds<B: Backend>(array: &SparseArray3D<u32, B>, tile: u64, number: u64) -> bool {
    let mut expected = vec![0; 32 * 32 * 16];
    stamp(&mut expected, number);
    array.to_vec(array.layout().tile_region(t(tile, 0, 0))).unwrap() == expected
}

const PAGE: u64 = 64 << 10;

#[test]
fn memory_that_forks_share_counts_once() {
    let (pool, mut array, _) = written(HostBackend::shareable(), 128 * PAGE);
    let forks: Vec<_> = (0..4).map(|_| array.fork().unwrap()).collect();
    let stats = pool.stats();
    assert_eq!((stats.used_bytes, stats.mapped_pages, stats.resident_tiles), (64 * PAGE, 320, 320));
    assert_eq!((stats.loads, stats.written_back, stats.copied_pages), (64, 0, 0));
    let pins = array.pin(&[t(3, 0, 0)]).unwrap();
    let more = forks[2].pin(&[t(3, 0, 0), t(4, 0, 0)]).unwrap();
    assert_eq!(pool.stats().pinned_bytes, 2 * PAGE, "one of them is pinned twice");
    drop((pins, more));
    stamp(array.writer().unwrap().tile(t(7, 0, 0)).unwrap(), 1007);
    let stats = pool.stats();
    assert_eq!((stats.used_bytes, stats.copied_pages), (65 * PAGE, 1));
    let mut forks = forks.into_iter();
    let mut last = forks.next_back().unwrap();
    for fork in forks {
        assert!(holds(&fork, 7, 7) && holds(&fork, 8, 8));
    }
    assert_eq!(pool.stats().mapped_pages, 128);
    assert!(holds(&array, 7, 1007) && holds(&last, 7, 7));
    // Nobody else has that page any more: no copy.
    stamp(last.writer().unwrap().tile(t(7, 0, 0)).unwrap(), 2007);
    assert_eq!((pool.stats().used_bytes, pool.stats().copied_pages), (65 * PAGE, 1));
    drop(array);
    assert_eq!(pool.stats().used_bytes, 64 * PAGE);
    assert!(holds(&last, 7, 2007) && holds(&last, 9, 9));
    stamp(last.writer().unwrap().tile(t(9, 0, 0)).unwrap(), 2009);
    assert_eq!((pool.stats().used_bytes, pool.stats().copied_pages), (64 * PAGE, 1));
}

#[test]
fn a_full_budget_makes_room_for_copies() {
    let (pool, mut array, _) = written(HostBackend::shareable(), 64 * PAGE);
    let mut fork = array.fork().unwrap();
    // Others go for it: memory that both have.
    stamp(fork.writer().unwrap().tile(t(63, 0, 0)).unwrap(), 1063);
    assert_eq!((pool.stats().copied_pages, pool.stats().used_bytes), (1, 64 * PAGE));
    assert_eq!(pool.stats().mapped_pages, 126 + 2 - 2);
    assert!(holds(&array, 63, 63) && holds(&fork, 63, 1063));
    // All of it, in turn, both ways.
    for (number, array) in [(3000, &mut fork), (4000, &mut array)] {
        let tiles = all_tiles(array);
        array.writer().unwrap().for_each_tile(&tiles, |tile, v| stamp(v, number + tile.x)).unwrap();
    }
    assert!((0..64).all(|i| holds(&fork, i, 3000 + i) && holds(&array, i, 4000 + i)));
    assert!(pool.stats().used_bytes <= 64 * PAGE);
}

#[test]
fn where_nothing_else_can_go_those_who_share_do() {
    let (pool, array, moody) = written(HostBackend::shareable(), 64 * PAGE);
    let mut fork = array.fork().unwrap();
    pool.set_budget(PAGE).unwrap();
    let _ = array.request(&[t(5, 0, 0)]).unwrap().complete().unwrap();
    drop(fork);
    fork = array.fork().unwrap();
    assert_eq!((pool.stats().used_bytes, pool.stats().mapped_pages), (PAGE, 2));
    let before = moody.given.load(Ordering::Relaxed);
    stamp(fork.writer().unwrap().tile(t(5, 0, 0)).unwrap(), 1005);
    assert_eq!(
        (pool.stats().copied_pages, pool.stats().mapped_pages),
        (0, 1),
        "it has the page for itself now"
    );
    assert_eq!(moody.given.load(Ordering::Relaxed), before, "what went was in the store already");
    assert!(holds(&fork, 5, 1005));
    assert!(holds(&array, 5, 5) && holds(&fork, 5, 1005));
    // But not where that is pinned.
    let _ = array.request(&[t(6, 0, 0)]).unwrap().complete().unwrap();
    let mut second = array.fork().unwrap();
    let pins = array.pin(&[t(6, 0, 0)]).unwrap();
    let refused = second.writer().unwrap().set([6 * 32, 0, 0], 1).map(drop).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Residency(ResidencyError::NothingToEvict { pinned_bytes: PAGE, busy_bytes: 0, .. })
        ),
        "{refused}"
    );
    assert!(holds(&second, 6, 6));
    drop(pins);
    second.writer().unwrap().set([6 * 32, 0, 0], 1).unwrap();
    assert!(holds(&array, 6, 6) && !holds(&second, 6, 6));
}

#[test]
fn what_is_shared_is_written_back_once() {
    let (pool, array, moody) = written(HostBackend::shareable(), 128 * PAGE);
    let forks: Vec<_> = (0..3).map(|_| array.fork().unwrap()).collect();
    pool.set_budget(PAGE).unwrap();
    assert_eq!((moody.given.load(Ordering::Relaxed), pool.stats().dirty_tiles), (63, 4));
    for array in forks.iter().chain([&array]) {
        assert!((0..64).all(|i| holds(array, i, i)));
    }
    assert_eq!(moody.keeps.load(Ordering::Relaxed), 64);
    drop(array);
    assert!(forks.iter().all(|fork| holds(fork, 11, 11)));
    drop(forks);
    assert_eq!(moody.keeps.load(Ordering::Relaxed), 0);
}

#[test]
fn where_nothing_is_shared_what_was_written_goes_to_the_store_that_both_have() {
    let (pool, mut array, moody) = written(HostBackend::new(), 128 * PAGE);
    moody.refuses.store(true, Ordering::Relaxed);
    assert!(matches!(array.fork(), Err(Error::WriteBack { .. })));
    assert_eq!((pool.stats().dirty_tiles, pool.stats().resident_tiles), (64, 64), "it is as before");
    moody.refuses.store(false, Ordering::Relaxed);
    let first = array.fork().unwrap();
    let second = array.fork().unwrap();
    let third = second.fork().unwrap();
    assert_eq!((moody.given.load(Ordering::Relaxed), moody.keeps.load(Ordering::Relaxed)), (64, 64), "once");
    assert_eq!((pool.stats().resident_tiles, pool.stats().dirty_tiles), (64, 0));
    stamp(array.writer().unwrap().tile(t(1, 0, 0)).unwrap(), 1001);
    array.evict(Region::whole(array.extent())).unwrap();
    assert!(holds(&array, 1, 1001) && [&first, &second, &third].iter().all(|fork| holds(fork, 1, 1)));
    drop((first, second, array));
    assert!((0..64).all(|i| holds(&third, i, i)));
}

#[test]
fn forks_of_what_is_only_read_are_only_read() {
    let pool = Pool::new(HostBackend::shareable(), 1 << 20).unwrap();
    let array = SparseArray3D::builder(&pool, source()).tile([16, 8, 8]).build().unwrap();
    let _ = array.request(&[t(0, 0, 2), t(0, 0, 0)]).unwrap().complete().unwrap();
    let mut fork = array.fork().unwrap();
    assert!(matches!(fork.writer(), Err(Error::Residency(ResidencyError::ReadOnly))));
    let loads = pool.stats().loads;
    assert_eq!(fork.frame().get([1, 2, 17]), Some(base(Coord::new(1, 2, 17))));
    assert_eq!(fork.frame().get([1, 2, 3]), Some(7));
    assert!(fork.is_uniform(t(0, 0, 0)));
    assert_eq!(pool.stats().loads, loads);
}

#[test]
fn frames_of_one_array_see_nothing_of_what_is_written_to_another() {
    let (_pool, array, _) = written(HostBackend::shareable(), 128 * PAGE);
    let mut fork = array.fork().unwrap();
    let view = array.frame();
    let Tile::Resident(before) = view.tile(t(9, 0, 0)) else { panic!("not there") };
    let mut writer = fork.writer().unwrap();
    for i in 0..64 {
        stamp(writer.tile(t(i, 0, 0)).unwrap(), 5000);
    }
    let mut expected = vec![0; before.len()];
    stamp(&mut expected, 9);
    assert_eq!(before, expected);
}

/// Tiles are loaded into pages that are shared while other tiles of them are being read.
#[test]
fn pages_are_copied_under_readers() {
    let pool = pool(HostBackend::shareable(), 4 << 20, 5000);
    let source =
        Procedural::new(Extent::cube(64), |c: Coord| u32::try_from(c.x + 64 * c.y + 4096 * c.z).unwrap());
    let array = SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([2, 2, 2]).build().unwrap();
    for round in 0..30 {
        let tiles = all_tiles(&array);
        let some: Vec<_> = tiles.iter().copied().filter(|tile| (tile.x + round) % 2 == 0).collect();
        let _ = array.request(&some).unwrap().complete().unwrap();
        let fork = array.fork().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for array in [&array, &fork] {
                let (done, some) = (&done, &some);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let view = array.frame();
                        for &tile in some {
                            let c = array.layout().tile_region(tile).start;
                            if let Tile::Resident(voxels) = view.tile(tile) {
                                assert_eq!(u64::from(voxels[0]), c.x + 64 * c.y + 4096 * c.z);
                                assert_eq!(
                                    u64::from(voxels[511]),
                                    c.x + 7 + 64 * (c.y + 7) + 4096 * (c.z + 7)
                                );
                            }
                        }
                    }
                });
            }
            let _ = fork.request(&tiles).unwrap().complete().unwrap();
            let _ = array.request(&tiles).unwrap().complete().unwrap();
            done.store(true, Ordering::Relaxed);
        });
        assert!(pool.stats().copied_pages > 0);
        array.evict(Region::whole(array.extent())).unwrap();
    }
}

fn at_once<B: HostAddressable>(backend: B, budget_pages: u64) {
    let (pool, array, moody) = written(backend, 64 * PAGE);
    pool.set_budget(budget_pages * PAGE).unwrap();
    let array = &array;
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let pool = &pool;
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for round in 0..12 {
                    let mut fork = array.fork().unwrap();
                    let number = 1000 * (thread + 1) + round;
                    let mine: Vec<_> = (0..6).map(|_| random.below(64)).collect();
                    for &i in &mine {
                        stamp(fork.writer().unwrap().tile(t(i, 0, 0)).unwrap(), number);
                    }
                    let second = fork.fork().unwrap();
                    if round % 3 == 0 {
                        fork.evict(Region::whole(fork.extent())).unwrap();
                    }
                    for i in 0..64 {
                        let number = if mine.contains(&i) { number } else { i };
                        assert!(holds(&second, i, number), "tile {i} of a fork's fork");
                        assert!(holds(array, i, i), "tile {i} of the array");
                        if i % 4 == thread {
                            assert!(holds(&fork, i, number), "tile {i} of a fork");
                        }
                    }
                    let stats = pool.stats();
                    assert!(stats.used_bytes <= stats.budget_bytes, "{stats:?}");
                }
            });
        }
    });
    assert!((0..64).all(|i| holds(array, i, i)));
    assert!(moody.keeps.load(Ordering::Relaxed) <= 64, "what forks kept is forgotten with them");
}

#[test]
fn threads_fork_and_write_at_once() {
    within(Duration::from_mins(2), || {
        for budget_pages in [8, 24, 200] {
            at_once(HostBackend::shareable(), budget_pages);
        }
        at_once(Checked::new(HostBackend::shareable()), 24);
        at_once(HostBackend::new(), 24);
    });
}

#[test]
fn each_is_saved_by_itself() {
    use vastgrid::store::RawStore;

    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::new(HostBackend::shareable(), 1 << 20).unwrap();
    let fill = Fill::new(Extent::cube(64), 0u8);
    let mut array = SparseArray3D::builder(&pool, fill).tile([32, 32, 32]).writable().build().unwrap();
    array.writer().unwrap().set([1, 1, 1], 1).unwrap();
    let mut fork = array.fork().unwrap();
    fork.writer().unwrap().set([2, 2, 2], 2).unwrap();
    fork.writer().unwrap().set([60, 2, 2], 2).unwrap();
    array.writer().unwrap().set([3, 3, 3], 3).unwrap();
    assert_eq!((array.written_tiles().len(), fork.written_tiles()), (1, vec![t(0, 0, 0), t(1, 0, 0)]));
    for (array, name, values) in [(&array, "array", [1, 3]), (&fork, "fork", [1, 2])] {
        let path = folder.path().join(name);
        let store = RawStore::<u8>::create(&path, array.extent()).unwrap();
        array.write_to(&store).unwrap();
        store.save().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.retain(|&byte| byte != 0);
        bytes.dedup();
        assert_eq!(bytes, values, "{name}");
    }
    fork.discard_written(&[t(0, 0, 0)]).unwrap();
    fork.evict(Region::whole(fork.extent())).unwrap();
    assert_eq!([fork.get([1, 1, 1]).unwrap(), fork.get([60, 2, 2]).unwrap()], [0, 2]);
    assert_eq!([array.get([1, 1, 1]).unwrap(), array.get([3, 3, 3]).unwrap()], [1, 3]);
}

#[test]
fn a_pool_may_be_poisoned_by_nothing_that_a_fork_does() {
    // Every call fails once, in turn: the fork is there or is refused, and the array is as before.
    for nth in 1..400 {
        let faulty = Faulty::new(Checked::new(HostBackend::shareable()));
        let faults = faulty.faults();
        let (pool, array, _) = written(faulty, 128 * PAGE);
        faults.arm(Fault::fail_any(nth));
        let fork = array.fork();
        let fired = faults.fired();
        faults.disarm();
        if let Ok(fork) = &fork {
            assert!([0, 30, 63].iter().all(|&i| holds(fork, i, i)), "{nth}");
        }
        assert!([0, 30, 63].iter().all(|&i| holds(&array, i, i)), "{nth}");
        drop(fork);
        assert_eq!(pool.stats().used_bytes, 64 * PAGE, "{nth}");
        drop(array);
        pool.trim().unwrap();
        assert_eq!(pool.stats().used_bytes, 0, "{nth}");
        if !fired {
            assert!(nth > 4 * 64, "{nth} calls");
            return;
        }
    }
    panic!("no end of calls");
}
