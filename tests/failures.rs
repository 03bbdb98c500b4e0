//! Every call of the backend fails once, in every kind of batch: the table is as before, and the same call succeeds when it is made again. Then calls go on failing
//! while the first failure is undone.

mod common;

use common::cuda::{device_or_skip, small_backend};
use common::{
    array, assert_consistent, expected, one_tile_per_page, paged, pool, scaled, scaled_array, t, value,
};
use vastgrid::backend::{Call, Checked, Fault, Faults, Faulty, HostBackend, ModelBackend, ModelConfig};
use vastgrid::source::Instruments;
use vastgrid::{
    Backend, BackendError, Coord, CudaBackend, Error, Extent, Pool, Region, ResidencyError, SourceError,
    SparseArray3D, Stats, TileCoord,
};

/// The smallest pages that the tests are made for. Backends with a larger granularity get larger tiles, so that everything is a multiple of this.
const PAGE: u64 = 4096;
const BUDGET: u64 = 8 * PAGE;

/// By how much all lengths are multiplied so that the backend can map the smallest page.
fn scale_of<B: Backend>(backend: &B) -> u64 {
    let fits = |s: &u64| PAGE * s.pow(3) >= backend.caps().granularity_bytes;
    [1, 2, 4, 8, 16].into_iter().find(fits).unwrap()
}

/// What a test can see of the backend from outside: nothing of the host's or a device's, all of the model's.
#[derive(Clone)]
struct Outside(Option<ModelBackend>);

impl Outside {
    /// Lets what is on its way arrive, as time does.
    fn settle(&self) {
        if let Some(model) = &self.0 {
            model.complete(usize::MAX);
        }
    }

    fn assert_physical(&self, stats: &Stats, when: &str) {
        if let Some(model) = &self.0 {
            assert_eq!(
                model.page_bytes(),
                stats.used_bytes,
                "physical pages and accounts differ {when}: {stats:?}"
            );
        }
    }
}

type Backed<B> = (B, Outside);

fn model() -> Backed<Checked<ModelBackend>> {
    let model = ModelBackend::new(ModelConfig::default());
    (Checked::new(model.clone()), Outside(Some(model)))
}

fn late_model() -> Backed<ModelBackend> {
    let model =
        ModelBackend::new(ModelConfig { asynchronous: true, remembers: true, ..ModelConfig::default() });
    (model.clone(), Outside(Some(model)))
}

fn host() -> Backed<HostBackend> {
    (HostBackend::new(), Outside(None))
}

fn cuda() -> Backed<CudaBackend> {
    (small_backend(device_or_skip().unwrap()), Outside(None))
}

/// A pool of 8 small pages with an array of small pages, one of pages four times as large, and one that has nothing to do with anything but a pinned page.
struct World<B: Backend> {
    pool: Pool<Faulty<B>>,
    faults: Faults,
    outside: Outside,
    scale: u64,
    small: Option<SparseArray3D<u16, Faulty<B>>>,
    large: SparseArray3D<u16, Faulty<B>>,
    watch: Instruments,
}

/// What the table says.
#[derive(Debug, PartialEq)]
struct Snapshot {
    small: Vec<TileCoord>,
    large: Vec<TileCoord>,
    used_bytes: u64,
    mapped_pages: u64,
    pinned_bytes: u64,
    budget_bytes: u64,
}

impl<B: Backend> World<B> {
    fn new((backend, outside): Backed<B>) -> Self {
        let scale = scale_of(&backend);
        let faulty = Faulty::new(backend);
        let faults = faulty.faults();
        let pool = pool(faulty, BUDGET * scale.pow(3), 300);
        let (small, watch) = scaled_array(&pool, Extent::new(32, 30, 27), scale);
        let (source, _) = common::volume(scaled(Extent::new(64, 32, 16), scale));
        let builder = SparseArray3D::builder(&pool, source).tile(Extent::cube(8 * scale));
        let large = builder.page_bytes(4 * PAGE * scale.pow(3)).build().unwrap();
        Self { pool, faults, outside, scale, small: Some(small), large, watch }
    }

    /// The size of the small array's pages.
    fn page(&self) -> u64 {
        PAGE * self.scale.pow(3)
    }

    fn small(&self) -> &SparseArray3D<u16, Faulty<B>> {
        self.small.as_ref().unwrap()
    }

    /// Tiles of `count` pages of the small array, from the `first` on.
    fn pages(&self, first: usize, count: usize) -> Vec<TileCoord> {
        one_tile_per_page(self.small())[first..first + count].to_vec()
    }

    fn snapshot(&self) -> Snapshot {
        let stats = self.pool.stats();
        Snapshot {
            small: self.small.as_ref().map(SparseArray3D::resident_tiles).unwrap_or_default(),
            large: self.large.resident_tiles(),
            used_bytes: stats.used_bytes,
            mapped_pages: stats.mapped_pages,
            pinned_bytes: stats.pinned_bytes,
            budget_bytes: stats.budget_bytes,
        }
    }

    /// Whatever is visible is there and right, and the accounts are those of the memory that there is.
    fn assert_sound(&self, when: &str) {
        let stats = self.pool.stats();
        assert_consistent(&stats);
        self.outside.assert_physical(&stats, when);
        let mut resident = 0;
        for array in self.small.iter().chain([&self.large]) {
            let tiles = array.resident_tiles();
            resident += tiles.len() as u64;
            for tile in tiles {
                let region = array.layout().tile_region(tile);
                let loads = self.pool.stats().loads;
                assert_eq!(array.to_vec(region).unwrap(), expected(region), "{tile} {when}");
                assert_eq!(self.pool.stats().loads, loads, "{tile} was visible, yet loaded {when}");
            }
        }
        assert_eq!(resident, stats.resident_tiles, "{when}");
    }
}

/// One kind of batch.
struct Case<B: Backend> {
    name: &'static str,
    prepare: fn(&World<B>),
    call: fn(&mut World<B>) -> Result<(), Error>,
    /// How much of the table is as before when mapping calls fail.
    after: After,
}

#[derive(Clone, Copy, PartialEq)]
enum After {
    /// All of it.
    Same,
    /// Victims whose page was destroyed to make room for one of another size are gone; nothing is there that was not.
    Less,
    /// It is made of several batches.
    Anything,
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn cases<B: Backend>() -> Vec<Case<B>> {
    fn nothing<B: Backend>(_: &World<B>) {}
    fn full<B: Backend>(w: &World<B>) {
        let _ = w.small().request(&w.pages(0, 8)).unwrap().complete().unwrap();
    }
    fn full_of_large<B: Backend>(w: &World<B>) {
        let _ = w.large.request(&one_tile_per_page(&w.large)[..2]).unwrap().complete().unwrap();
    }
    fn waiting<B: Backend>(w: &World<B>) {
        let tiles = w.pages(0, 5);
        let _ = w.small().request(&tiles[..2]).unwrap().complete().unwrap();
        w.watch.fail_region(Region::whole(w.small().extent()));
        assert_eq!(w.small().request(&tiles[2..]).unwrap().failed.len(), 3);
        w.watch.clear_faults();
        let stats = w.pool.stats();
        assert_eq!(stats.used_bytes - stats.mapped_pages * w.page(), 3 * w.page(), "three pages wait");
    }
    fn request<B: Backend>(w: &World<B>, tiles: &[TileCoord]) -> Result<(), Error> {
        w.small().request(tiles)?.complete().map(drop)
    }
    use After::{Anything, Less, Same};
    vec![
        Case { name: "first request", prepare: nothing, call: |w| request(w, &w.pages(0, 4)), after: Same },
        Case {
            name: "request that evicts",
            prepare: full,
            call: |w| request(w, &w.pages(10, 3)),
            after: Same,
        },
        Case {
            name: "request that evicts smaller pages",
            prepare: full,
            call: |w| w.large.request(&[t(0, 0, 0)])?.complete().map(drop),
            after: Less,
        },
        Case {
            name: "request that evicts larger pages",
            prepare: full_of_large,
            call: |w| request(w, &w.pages(0, 3)),
            after: Less,
        },
        Case {
            name: "request with pages waiting",
            prepare: waiting,
            call: |w| request(w, &w.pages(2, 5)),
            after: Same,
        },
        Case {
            name: "request of larger pages with pages waiting",
            prepare: waiting,
            call: |w| w.large.request(&[t(0, 0, 0)])?.complete().map(drop),
            after: Same,
        },
        Case {
            name: "pin",
            prepare: full,
            call: |w| {
                let pins = w.small().pin(&w.pages(10, 3))?;
                let failed = pins.report().failed.first().cloned();
                failed.map_or(Ok(()), |f| Err(Error::Tile { tile: f.tile, error: f.error }))
            },
            after: Same,
        },
        Case {
            name: "read_region",
            prepare: full,
            call: |w| {
                let whole = Region::whole(w.small().extent());
                w.small().to_vec(whole).map(|all| assert_eq!(all, expected(whole)))
            },
            after: Anything,
        },
        Case { name: "set_budget", prepare: full, call: |w| w.pool.set_budget(5 * w.page()), after: Same },
        Case {
            name: "evict",
            prepare: full,
            call: |w| {
                let two = Region::whole(scaled(Extent::new(32, 16, 8), w.scale));
                w.small().evict(two).map(|pages| assert_eq!(pages, 2))
            },
            after: Same,
        },
        Case { name: "trim", prepare: waiting, call: |w| w.pool.trim(), after: Same },
        Case {
            name: "build",
            prepare: full,
            call: |w| {
                let (source, _) = common::volume(Extent::cube(16 * w.scale));
                let builder = SparseArray3D::builder(&w.pool, source).tile(Extent::cube(8 * w.scale));
                builder.page_bytes(w.page()).build().map(drop)
            },
            after: Same,
        },
        Case {
            name: "drop",
            prepare: full,
            call: |w| {
                w.small = None;
                Ok(())
            },
            after: Anything,
        },
    ]
}

/// The failure that a fault in `call` must be told as.
fn assert_typed(error: &Error, call: Call, when: &str) {
    let injected =
        |e: &BackendError| matches!(e, BackendError::Injected { call: c, .. } if *c == call.name());
    let told = match error {
        Error::Backend(e) => injected(e),
        Error::Tile { error, .. } => matches!(&**error, SourceError::Upload(e) if injected(e)),
        _ => false,
    };
    assert!(told, "{when}: {error}");
    assert!(error.to_string().contains(call.name()), "{when}: {error}");
}

fn every_call_may_fail_once<B: Backend>(make: fn() -> Backed<B>) {
    let mut failures = 0;
    for case in cases::<B>() {
        for call in Call::ALL {
            for nth in 1.. {
                let when = format!("when {call} {nth} of {} failed", case.name);
                let mut world = World::new(make());
                (case.prepare)(&world);
                let before = world.snapshot();
                world.faults.arm(Fault::fail(call, nth));
                let result = (case.call)(&mut world);
                let fired = world.faults.fired();
                world.faults.disarm();
                world.outside.settle();
                if !fired {
                    result.unwrap_or_else(|e| panic!("{} without a fault: {e}", case.name));
                    break;
                }
                failures += 1;
                // Memory that could not be given back is let go and logged: the call itself did what it should.
                let silent = call == Call::Destroy || call == Call::Release || case.name == "drop";
                assert_eq!(result.is_ok(), silent, "{when}: {result:?}");
                if let Err(error) = &result {
                    assert_typed(error, call, &when);
                }
                let after = world.snapshot();
                world.assert_sound(&when);
                let mapping =
                    matches!(call, Call::Reserve | Call::Create | Call::Map | Call::SetAccess | Call::Unmap);
                if mapping && case.after == After::Same {
                    // Waiting pages that were in the way may have been given back.
                    let used_bytes = after.used_bytes.min(before.used_bytes);
                    assert_eq!(Snapshot { used_bytes, ..after }, Snapshot { used_bytes, ..before }, "{when}");
                } else if mapping && case.after == After::Less {
                    assert!(after.small.iter().all(|t| before.small.contains(t)), "{when}");
                    assert!(after.large.iter().all(|t| before.large.contains(t)), "{when}");
                }
                assert_eq!(after.pinned_bytes, 0, "{when}");
                if result.is_err() {
                    (case.call)(&mut world).unwrap_or_else(|e| panic!("again, {when}: {e}"));
                    world.assert_sound(&format!("again, {when}"));
                }
                let World { pool, outside, small, large, .. } = world;
                drop((small, large));
                assert_eq!(pool.stats().mapped_pages, 0, "{when}");
                pool.trim().unwrap();
                assert_eq!(pool.stats().used_bytes, 0, "{when}");
                outside.assert_physical(&pool.stats(), &when);
            }
        }
    }
    assert!(failures > 150, "only {failures} failures were tried");
}

#[test]
fn every_call_may_fail_once_on_the_model() {
    every_call_may_fail_once(model);
}

#[test]
fn every_call_may_fail_once_on_the_late_model() {
    every_call_may_fail_once(late_model);
}

#[test]
fn every_call_may_fail_once_on_the_host() {
    every_call_may_fail_once(host);
}

#[test]
fn every_call_may_fail_once_on_cuda() {
    if device_or_skip().is_some() {
        every_call_may_fail_once(cuda);
    }
}

/// Makes the fault strike in a batch that evicts, and checks what is left. Returns whether an array was poisoned.
fn strike<B: Backend>(make: fn() -> Backed<B>, case: &Case<B>, arm: impl Fn(&Faults), when: &str) -> bool {
    let mut world = World::new(make());
    let scale = world.scale;
    let (bystander, _) = scaled_array(&world.pool, Extent::cube(16), scale);
    world.pool.set_budget(BUDGET * scale.pow(3) + world.page()).unwrap();
    let pins = bystander.pin(&[t(0, 0, 0)]).unwrap();
    (case.prepare)(&world);
    let before = world.snapshot();
    arm(&world.faults);
    let result = (case.call)(&mut world);
    world.faults.disarm();
    world.outside.settle();
    let after = world.snapshot();
    if matches!(result, Err(Error::Backend(_))) {
        assert!(after.small.iter().all(|t| before.small.contains(t)), "{when}");
        assert!(after.large.iter().all(|t| before.large.contains(t)), "{when}");
    }
    let stats = world.pool.stats();
    assert_consistent(&stats);
    world.outside.assert_physical(&stats, when);
    let mut poisoned = false;
    for array in [world.small(), &world.large] {
        let tile = t(0, 0, 0);
        let Err(error) = array.request(&[tile]) else {
            for tile in array.resident_tiles() {
                let region = array.layout().tile_region(tile);
                assert_eq!(array.to_vec(region).unwrap(), expected(region), "{tile} {when}");
            }
            continue;
        };
        poisoned = true;
        let is_poisoned = |e: &Error| matches!(e, Error::Residency(ResidencyError::Poisoned { .. }));
        assert!(is_poisoned(&error), "{when}: {error}");
        assert!(error.to_string().contains("fault injected"), "the cause is named: {error}");
        assert!(is_poisoned(&array.pin(&[tile]).unwrap_err()));
        assert!(is_poisoned(&array.evict(Region::whole(array.extent())).unwrap_err()));
        assert!(is_poisoned(&array.to_vec(Region::whole(Extent::cube(1))).unwrap_err()));
    }
    assert_eq!(bystander.resident_tiles(), [t(0, 0, 0)], "{when}");
    let whole = Region::whole(bystander.extent());
    assert_eq!(bystander.to_vec(whole).unwrap(), expected(whole), "{when}");
    drop(pins);
    let World { pool, outside, small, large, .. } = world;
    drop((small, large, bystander));
    pool.trim().unwrap();
    assert_eq!((pool.stats().used_bytes, pool.stats().mapped_pages), (0, 0), "{when}");
    outside.assert_physical(&pool.stats(), when);
    let (again, _) = scaled_array(&pool, Extent::cube(32), scale);
    assert_eq!(again.get_through_regions(), value(Coord::new(31, 31, 31)), "{when}");
    poisoned
}

/// One voxel, on backends that have no addresses as well.
trait ReadOne {
    fn get_through_regions(&self) -> u16;
}

impl<B: Backend> ReadOne for SparseArray3D<u16, B> {
    fn get_through_regions(&self) -> u16 {
        self.to_vec(Region::new(Coord::new(31, 31, 31), Extent::cube(1))).unwrap()[0]
    }
}

fn what_cannot_be_undone_poisons_its_array_alone<B: Backend>(make: fn() -> Backed<B>) {
    let evicting =
        ["request that evicts", "request that evicts smaller pages", "request that evicts larger pages"];
    let others = ["request with pages waiting", "set_budget", "evict", "first request"];
    let mut poisoned = 0;
    for case in cases::<B>().iter().filter(|c| evicting.contains(&c.name) || others.contains(&c.name)) {
        for nth in 1..24 {
            let when = format!("when every call from {nth} of {} failed", case.name);
            let all_later = |faults: &Faults| faults.arm(Fault::fail_any(nth).and_later());
            poisoned += u32::from(strike(make, case, all_later, &when));
        }
    }
    let firsts =
        [(Call::Map, 2), (Call::Map, 3), (Call::SetAccess, 1), (Call::SetAccess, 2), (Call::Unmap, 3)];
    for case in cases::<B>().iter().filter(|c| c.name == evicting[0]) {
        for (first, nth) in firsts {
            for (second, later) in [Call::Map, Call::SetAccess, Call::Unmap]
                .into_iter()
                .flat_map(|c| (1..8).map(move |n| (c, n)))
            {
                let when = format!("when {first} {nth} and {second} {later} of {} failed", case.name);
                let both = |faults: &Faults| {
                    faults.arm(Fault::fail(first, nth));
                    faults.arm_also(Fault::fail(second, later));
                };
                poisoned += u32::from(strike(make, case, both, &when));
            }
        }
    }
    assert!(poisoned > 20, "only {poisoned} poisoned");
}

#[test]
fn what_cannot_be_undone_poisons_its_array_alone_on_the_model() {
    what_cannot_be_undone_poisons_its_array_alone(model);
}

#[test]
fn what_cannot_be_undone_poisons_its_array_alone_on_the_host() {
    what_cannot_be_undone_poisons_its_array_alone(host);
}

#[test]
fn what_cannot_be_undone_poisons_its_array_alone_on_cuda() {
    if device_or_skip().is_some() {
        what_cannot_be_undone_poisons_its_array_alone(cuda);
    }
}

#[test]
fn frames_of_a_poisoned_array_show_nothing_without_memory() {
    for pooled in [false, true] {
        for (first, second) in
            [(Call::SetAccess, Call::Map), (Call::SetAccess, Call::Unmap), (Call::Map, Call::SetAccess)]
        {
            for later in 1..6 {
                let page_bytes = if pooled { 64 << 10 } else { PAGE };
                let faulty = Faulty::new(HostBackend::new());
                let faults = faulty.faults();
                let pool = pool(faulty, 3 * page_bytes, 300);
                let (array, _) = paged(&pool, Extent::cube(128), page_bytes);
                let tiles = one_tile_per_page(&array);
                let _ = array.request(&tiles[..3]).unwrap().complete().unwrap();
                faults.arm(Fault::fail(first, 1));
                faults.arm_also(Fault::fail(second, later).and_later());
                assert!(array.request(&tiles[3..6]).is_err());
                faults.disarm();
                let shown = array.frame();
                for tile in &tiles {
                    let start = array.layout().tile_region(*tile).start;
                    let voxel = shown.get(start);
                    assert_eq!(
                        voxel,
                        array.is_resident(*tile).then(|| value(start)),
                        "{first} {second} {later}"
                    );
                }
                let poisoned = array.request(&tiles[..1]).is_err();
                if poisoned {
                    assert!(array.get([0, 0, 0]).is_err() && pool.frame().view(&array).is_err());
                }
            }
        }
    }
}

#[test]
fn memory_that_runs_out_below_the_budget_is_an_error_and_no_more() {
    let model = ModelBackend::new(ModelConfig { limit_bytes: 4 * PAGE, ..ModelConfig::default() });
    let pool = pool(Checked::new(model.clone()), BUDGET, 300);
    let (array, _) = array(&pool, Extent::cube(32));
    let tiles = one_tile_per_page(&array);
    let out_of_memory = |result: Result<vastgrid::Report, Error>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::Backend(BackendError::OutOfMemory { call: "create", bytes: PAGE })),
            "{error}"
        );
    };
    out_of_memory(array.request(&tiles[..5]));
    assert_eq!((pool.stats().used_bytes, model.page_bytes(), array.resident_tiles().len()), (0, 0, 0));
    let _ = array.request(&tiles[..4]).unwrap().complete().unwrap();
    out_of_memory(array.request(&tiles[3..5]));
    assert_eq!(array.resident_tiles(), tiles[..4]);
    pool.set_budget(4 * PAGE).unwrap();
    let _ = array.request(&tiles[3..5]).unwrap().complete().unwrap();
    assert_eq!(array.resident_tiles(), tiles[1..5]);
    let whole = Region::whole(array.extent());
    assert_eq!(array.to_vec(whole).unwrap(), expected(whole));
}
