//! Random sequences of everything that a user can do, against a model that knows only what was asked for: contents are a function of the position, pins are a list, and
//! the budget is a number. After every step all that is visible is right, and the accounts are true.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::cuda::{device_or_skip, small_backend};
use common::{assert_consistent, expected_by, pool_of, salted};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use vastgrid::backend::{Checked, HostBackend, HostConfig, HostMoves, ModelBackend, ModelConfig};
use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{
    Backend, Coord, Error, Extent, HostAddressable, PageId, Pins, Pool, Region, ResidencyError, SourceError,
    SparseArray3D, Tile, TileCoord, Voxel,
};

/// What a waiting call would take; nothing here has anybody to wait for.
const PATIENCE_MS: u64 = 6000;
const AT_ONCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
enum Op {
    Request(usize, Vec<u64>),
    RequestRegion(usize, Box6),
    Fitting(usize, Vec<u64>),
    Pin(usize, Vec<u64>),
    Unpin(usize),
    Evict(usize, Box6),
    SetBudget(u64),
    Read(usize, Box6),
    Trim,
    Remake(usize),
    Fail(usize, Box6),
    Heal(usize),
    InFrame(Vec<Op>),
}

/// A region by fractions of the extent: corner and size.
type Box6 = [u8; 6];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let array = 0..3usize;
    let tiles = || prop::collection::vec(any::<u64>(), 1..12);
    let region = any::<Box6>();
    let op = prop_oneof![
        6 => (array.clone(), tiles()).prop_map(|(a, t)| Op::Request(a, t)),
        2 => (array.clone(), region).prop_map(|(a, r)| Op::RequestRegion(a, r)),
        2 => (array.clone(), tiles()).prop_map(|(a, t)| Op::Fitting(a, t)),
        3 => (array.clone(), prop::collection::vec(any::<u64>(), 1..4)).prop_map(|(a, t)| Op::Pin(a, t)),
        3 => (0..4usize).prop_map(Op::Unpin),
        2 => (array.clone(), region).prop_map(|(a, r)| Op::Evict(a, r)),
        2 => (3..40u64).prop_map(Op::SetBudget),
        3 => (array.clone(), region).prop_map(|(a, r)| Op::Read(a, r)),
        1 => Just(Op::Trim),
        1 => array.clone().prop_map(Op::Remake),
        1 => (array.clone(), region).prop_map(|(a, r)| Op::Fail(a, r)),
        1 => array.prop_map(Op::Heal),
    ];
    let nested =
        op.clone().prop_recursive(2, 24, 8, |inner| prop::collection::vec(inner, 1..8).prop_map(Op::InFrame));
    prop::collection::vec(prop_oneof![5 => op, 1 => nested], 1..40)
}

/// An array as the test sees it, whatever its voxels.
trait Volume<B: Backend> {
    fn tiles(&self, seeds: &[u64]) -> Vec<TileCoord>;
    fn region(&self, of: Box6) -> Region;
    fn request(&self, tiles: &[TileCoord]) -> Result<vastgrid::Report, Error>;
    fn request_region(&self, region: Region) -> Result<vastgrid::Report, Error>;
    fn fitting(&self, tiles: &[TileCoord]) -> Result<vastgrid::Report, Error>;
    fn pin(&self, tiles: &[TileCoord]) -> Result<Pins<B>, Error>;
    fn evict(&self, region: Region) -> Result<u64, Error>;
    /// Reads a region and compares it.
    fn read(&self, region: Region) -> Result<(), Error>;
    fn resident(&self) -> Vec<TileCoord>;
    fn is_resident(&self, tile: TileCoord) -> bool;
    fn is_uniform(&self, tile: TileCoord) -> bool;
    fn fails(&self, tile: TileCoord) -> bool;
    fn fail(&self, region: Region);
    fn heal(&self);
    fn page_of(&self, tile: TileCoord) -> PageId;
    fn page_bytes(&self) -> u64;
    fn tiles_of(&self, region: Region) -> Vec<TileCoord>;
    fn tile_region(&self, tile: TileCoord) -> Region;
    /// Compares every tile that a frame shows, and runs `inside` while the frame lasts: then compares the very same memory again.
    fn in_frame(&self, look: Look, inside: &mut dyn FnMut());
}

/// How frames are looked into, on backends that have them.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Inside,
    Never,
}

struct Typed<T: Voxel, B: Backend> {
    array: SparseArray3D<T, B>,
    value: fn(Coord) -> T,
    watch: Instruments,
    failing: RefCell<Vec<Region>>,
    show: Option<Show<T, B>>,
}

/// Looks at an array through a frame of its own.
type Show<T, B> = fn(&Typed<T, B>, &mut dyn FnMut());

fn show<T: Voxel + PartialEq, B: HostAddressable>(volume: &Typed<T, B>, inside: &mut dyn FnMut()) {
    let frame = volume.array.frame();
    let all = common::all_tiles(&volume.array);
    let mut slices = Vec::new();
    for &tile in &all {
        match frame.tile(tile) {
            Tile::Resident(voxels) => {
                assert!(volume.array.is_resident(tile));
                slices.push((tile, voxels));
            }
            Tile::Uniform(v) => assert!(uniform(volume.array.layout().tile_region(tile)) && v == T::zeroed()),
            Tile::Missing => assert!(!volume.array.is_resident(tile)),
        }
    }
    let compare = |when: &str| {
        for (tile, voxels) in &slices {
            assert!(**voxels == *volume.whole_tile(*tile), "{tile} {when}");
        }
    };
    compare("when the frame was opened");
    inside();
    compare("when the frame ended");
}

impl<T: Voxel + PartialEq, B: Backend> Typed<T, B> {
    /// A tile with the fill value past the faces.
    fn whole_tile(&self, tile: TileCoord) -> Vec<T> {
        let (layout, shape) = (self.array.layout(), self.array.layout().tile_shape());
        let inside = layout.tile_region(tile);
        let region = Region::new(inside.start, shape);
        let extent = self.array.extent();
        let there = |c: Coord| c.x < extent.x && c.y < extent.y && c.z < extent.z;
        expected_by(region, |c| if there(c) { (self.value)(c) } else { T::zeroed() })
    }
}

/// Where the arrays are known to be uniform, and zero: at z = 16 and above.
fn uniform(region: Region) -> bool {
    region.start.z >= 16
}

impl<T: Voxel + PartialEq + std::fmt::Debug, B: Backend> Volume<B> for Typed<T, B> {
    fn tiles(&self, seeds: &[u64]) -> Vec<TileCoord> {
        let all = common::all_tiles(&self.array);
        seeds.iter().map(|s| all[usize::try_from(s % all.len() as u64).unwrap()]).collect()
    }
    fn region(&self, of: Box6) -> Region {
        let e = self.array.extent();
        let part = |of: u8, size: u64| u64::from(of) * size / 256;
        let start = Coord::new(part(of[0], e.x), part(of[1], e.y), part(of[2], e.z));
        let size = |of: u8, left: u64| u64::from(of) * left.min(24) / 256 + 1;
        let extent =
            Extent::new(size(of[3], e.x - start.x), size(of[4], e.y - start.y), size(of[5], e.z - start.z));
        Region::new(start, extent)
    }
    fn request(&self, tiles: &[TileCoord]) -> Result<vastgrid::Report, Error> {
        self.array.request(tiles)
    }
    fn request_region(&self, region: Region) -> Result<vastgrid::Report, Error> {
        self.array.request_region(region)
    }
    fn fitting(&self, tiles: &[TileCoord]) -> Result<vastgrid::Report, Error> {
        self.array.request_fitting(tiles)
    }
    fn pin(&self, tiles: &[TileCoord]) -> Result<Pins<B>, Error> {
        self.array.pin(tiles)
    }
    fn evict(&self, region: Region) -> Result<u64, Error> {
        self.array.evict(region)
    }
    fn read(&self, region: Region) -> Result<(), Error> {
        assert_eq!(self.array.to_vec(region)?, expected_by(region, self.value), "{region}");
        Ok(())
    }
    fn resident(&self) -> Vec<TileCoord> {
        self.array.resident_tiles()
    }
    fn is_resident(&self, tile: TileCoord) -> bool {
        self.array.is_resident(tile)
    }
    fn is_uniform(&self, tile: TileCoord) -> bool {
        uniform(self.array.layout().tile_region(tile))
    }
    fn fails(&self, tile: TileCoord) -> bool {
        let region = self.array.layout().tile_region(tile);
        self.failing.borrow().iter().any(|f| f.intersection(&region).is_some())
    }
    fn fail(&self, region: Region) {
        self.watch.fail_region(region);
        self.failing.borrow_mut().push(region);
    }
    fn heal(&self) {
        self.watch.clear_faults();
        self.failing.borrow_mut().clear();
    }
    fn page_of(&self, tile: TileCoord) -> PageId {
        self.array.layout().page_of(self.array.layout().tile_id(tile).unwrap())
    }
    fn page_bytes(&self) -> u64 {
        self.array.layout().page_bytes()
    }
    fn tiles_of(&self, region: Region) -> Vec<TileCoord> {
        self.array.layout().tiles_in(region).collect()
    }
    fn tile_region(&self, tile: TileCoord) -> Region {
        self.array.layout().tile_region(tile)
    }
    fn in_frame(&self, look: Look, inside: &mut dyn FnMut()) {
        match self.show {
            Some(show) if look == Look::Inside => show(self, inside),
            _ => inside(),
        }
    }
}

/// What a world is made of: the model if there is one, its pages and tiles, and how frames are looked into if the backend has addresses.
struct Setup<B: Backend> {
    model: Option<ModelBackend>,
    tile: u64,
    page_bytes: u64,
    show_u8: Option<Show<u8, B>>,
    show_u16: Option<Show<u16, B>>,
    show_f32: Option<Show<[f32; 2], B>>,
}

struct World<B: Backend> {
    pool: Pool<B>,
    setup: Setup<B>,
    arrays: RefCell<Vec<Rc<dyn Volume<B>>>>,
    pins: RefCell<Vec<Pinned<B>>>,
    /// Tiles asked for in each frame that is open, innermost last.
    frames: RefCell<Vec<Vec<Asked<B>>>>,
    budget: Cell<u64>,
}

/// A tile that was asked for, and is to stay.
type Asked<B> = (Rc<dyn Volume<B>>, TileCoord);

struct Pinned<B: Backend> {
    volume: Rc<dyn Volume<B>>,
    /// What has to stay: all that did not fail.
    tiles: Vec<TileCoord>,
    /// Pages that are kept: those of tiles that take memory, in which anything was resident then.
    pages: HashSet<PageId>,
    _pins: Pins<B>,
}

fn build<T: Voxel + PartialEq + std::fmt::Debug, B: Backend>(
    pool: &Pool<B>,
    (extent, tile): (Extent, u64),
    page_bytes: u64,
    value: fn(Coord) -> T,
    show: Option<Show<T, B>>,
) -> Result<Rc<dyn Volume<B>>, Error> {
    let extent = Extent::new(extent.x * tile / 8, extent.y * tile / 8, extent.z * tile / 8);
    let source = Procedural::new(extent, value).with_uniform(|region| uniform(region).then(T::zeroed));
    let source = Instrumented::new(source);
    let watch = source.instruments();
    let array =
        SparseArray3D::builder(pool, source).tile(Extent::cube(tile)).page_bytes(page_bytes).build()?;
    Ok(Rc::new(Typed { array, value, watch, failing: RefCell::default(), show }))
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits do")]
impl<B: Backend> World<B> {
    fn new(setup: Setup<B>, backend: B) -> Self {
        let budget = setup.page_bytes * 12;
        let pool = pool_of(backend, budget, PATIENCE_MS, 1);
        let world = Self {
            pool,
            setup,
            arrays: RefCell::default(),
            pins: RefCell::default(),
            frames: RefCell::default(),
            budget: Cell::new(budget),
        };
        let arrays = (0..3).map(|i| world.build(i).unwrap()).collect();
        world.arrays.replace(arrays);
        world
    }

    fn build(&self, which: usize) -> Result<Rc<dyn Volume<B>>, Error> {
        fn zero_above<T: Voxel>(c: Coord, value: impl Fn(Coord) -> T) -> T {
            if c.z >= 16 { T::zeroed() } else { value(c) }
        }
        let page = self.setup.page_bytes;
        let (pool, setup) = (&self.pool, &self.setup);
        match which {
            0 => build(
                pool,
                (Extent::new(40, 32, 21), setup.tile),
                page,
                |c| zero_above(c, |c| salted(c, 1) as u16),
                setup.show_u16,
            ),
            1 => build(
                pool,
                (Extent::new(33, 24, 24), setup.tile),
                page * 2,
                |c| zero_above(c, |c| salted(c, 2) as u8),
                setup.show_u8,
            ),
            _ => {
                let value = |c| zero_above(c, |c| [salted(c, 3) as u16, salted(c, 4) as u16].map(f32::from));
                build(pool, (Extent::new(24, 29, 16), setup.tile), page * 4, value, setup.show_f32)
            }
        }
    }

    fn array(&self, which: usize) -> Rc<dyn Volume<B>> {
        self.arrays.borrow()[which].clone()
    }

    fn framed(&self) -> bool {
        !self.frames.borrow().is_empty()
    }

    /// The pages that pins hold.
    fn pinned_pages(&self) -> HashSet<(*const (), PageId, u64)> {
        let pins = self.pins.borrow();
        let pages = pins.iter().flat_map(|p| {
            p.pages.iter().map(|&page| (Rc::as_ptr(&p.volume).cast::<()>(), page, p.volume.page_bytes()))
        });
        pages.collect()
    }

    /// Bytes of the tiles' pages that take memory, and that pins do not hold anyway.
    fn needed(&self, volume: &Rc<dyn Volume<B>>, tiles: &[TileCoord]) -> u64 {
        let pinned = self.pinned_pages();
        let memory = tiles.iter().filter(|&&t| !volume.is_uniform(t));
        let pages: HashSet<_> = memory
            .map(|&t| (Rc::as_ptr(volume).cast::<()>(), volume.page_of(t), volume.page_bytes()))
            .collect();
        pages.difference(&pinned).map(|p| p.2).sum()
    }

    fn pinned_bytes(&self) -> u64 {
        self.pinned_pages().iter().map(|p| p.2).sum()
    }

    /// A refusal is one that has a reason.
    fn assert_refusal(&self, error: &Error, volume: &Rc<dyn Volume<B>>, tiles: &[TileCoord]) {
        let pages: HashSet<_> =
            tiles.iter().filter(|&&t| !volume.is_uniform(t)).map(|&t| volume.page_of(t)).collect();
        let whole = pages.len() as u64 * volume.page_bytes();
        match error {
            Error::Residency(ResidencyError::OverBudget { needed_bytes, budget_bytes }) => {
                assert_eq!((*needed_bytes, *budget_bytes), (whole, self.budget.get()));
                assert!(whole > self.budget.get());
            }
            Error::Residency(ResidencyError::NothingToEvict { pinned_bytes, busy_bytes, .. }) => {
                let needed = self.needed(volume, tiles);
                assert!(self.pinned_bytes() + needed > self.budget.get(), "{error}, needed {needed}");
                assert!(*pinned_bytes <= self.pinned_bytes() && *busy_bytes <= whole, "{error}");
            }
            Error::Residency(ResidencyError::FramesOpen { own: true, frames, .. }) => {
                assert!(self.framed() && *frames == self.frames.borrow().len() as u64, "{error}");
            }
            _ => panic!("unexpected: {error}"),
        }
    }

    /// After a request: what was asked for is there, or is reported.
    fn assert_answered(&self, report: &vastgrid::Report, volume: &Rc<dyn Volume<B>>, tiles: &[TileCoord]) {
        let failed: HashSet<_> = report.failed.iter().map(|f| f.tile).collect();
        for failure in &report.failed {
            assert!(volume.fails(failure.tile) && matches!(*failure.error, SourceError::Other(_)));
        }
        for &tile in tiles {
            let there = volume.is_resident(tile);
            assert!(
                there || failed.contains(&tile) || volume.is_uniform(tile),
                "{tile} is neither there nor reported"
            );
            if let (true, Some(asked)) = (there, self.frames.borrow_mut().last_mut()) {
                asked.push((volume.clone(), tile));
            }
        }
    }

    fn step(&self, op: &Op) {
        let began = Instant::now();
        match op {
            Op::Request(a, seeds) => {
                let volume = self.array(*a);
                let tiles = volume.tiles(seeds);
                self.check_request(&volume, &tiles, volume.request(&tiles));
            }
            Op::RequestRegion(a, of) => {
                let volume = self.array(*a);
                let region = volume.region(*of);
                self.check_request(&volume, &volume.tiles_of(region), volume.request_region(region));
            }
            Op::Fitting(a, seeds) => {
                let volume = self.array(*a);
                let tiles = volume.tiles(seeds);
                match volume.fitting(&tiles) {
                    Ok(report) => {
                        let taken = tiles.len() - usize::try_from(report.left_out).unwrap();
                        self.assert_answered(&report, &volume, &tiles[..taken]);
                        if let Some(&next) = tiles.get(taken) {
                            let with_next: HashSet<_> =
                                tiles[..taken].iter().chain([&next]).map(|&t| volume.page_of(t)).collect();
                            let bytes = with_next.len() as u64 * volume.page_bytes();
                            assert!(
                                bytes + self.pinned_bytes() > self.budget.get(),
                                "{next} would have fitted"
                            );
                        }
                    }
                    Err(e) => {
                        assert!(!matches!(e, Error::Residency(ResidencyError::OverBudget { .. })), "{e}");
                        self.assert_refusal(&e, &volume, &tiles);
                    }
                }
            }
            Op::Pin(a, seeds) => {
                let volume = self.array(*a);
                let tiles = volume.tiles(seeds);
                match volume.pin(&tiles) {
                    Ok(pins) => {
                        self.assert_answered(pins.report(), &volume, &tiles);
                        let failed: HashSet<_> = pins.report().failed.iter().map(|f| f.tile).collect();
                        let resident: HashSet<_> =
                            volume.resident().iter().map(|&t| volume.page_of(t)).collect();
                        let memory = tiles.iter().filter(|&&t| !volume.is_uniform(t));
                        let asked = memory.map(|&t| volume.page_of(t));
                        let pages: HashSet<_> = asked.filter(|page| resident.contains(page)).collect();
                        assert_eq!(pins.bytes(), pages.len() as u64 * volume.page_bytes());
                        let tiles = tiles
                            .into_iter()
                            .filter(|t| !failed.contains(t) || volume.is_resident(*t))
                            .collect();
                        self.pins.borrow_mut().push(Pinned { volume, tiles, pages, _pins: pins });
                    }
                    Err(e) => self.assert_refusal(&e, &volume, &tiles),
                }
            }
            Op::Unpin(i) => {
                let mut pins = self.pins.borrow_mut();
                if !pins.is_empty() {
                    let i = i % pins.len();
                    drop(pins.swap_remove(i));
                }
            }
            Op::Evict(a, of) => self.evict(&self.array(*a), *of),
            Op::SetBudget(pages) => self.set_budget(pages * self.setup.page_bytes),
            Op::Read(a, of) => {
                let volume = self.array(*a);
                let region = volume.region(*of);
                match volume.read(region) {
                    Ok(()) => {}
                    Err(Error::Tile { tile, .. }) => assert!(volume.fails(tile)),
                    // However large: a page at a time has to fit.
                    Err(e) => {
                        let framed =
                            matches!(e, Error::Residency(ResidencyError::FramesOpen { own: true, .. }));
                        let full = self.pinned_bytes() + volume.page_bytes() > self.budget.get();
                        assert!(framed && self.framed() || full, "{e}");
                    }
                }
            }
            Op::Trim => self.pool.trim().unwrap(),
            Op::Remake(a) => match self.build(*a) {
                Ok(new) => drop(std::mem::replace(&mut self.arrays.borrow_mut()[*a], new)),
                Err(Error::Residency(ResidencyError::BudgetBelowPage { page_bytes, budget_bytes })) => {
                    assert!(page_bytes > budget_bytes && budget_bytes == self.budget.get());
                }
                Err(e) => panic!("{e}"),
            },
            Op::Fail(a, of) => {
                let volume = self.array(*a);
                volume.fail(volume.region(*of));
            }
            Op::Heal(a) => self.array(*a).heal(),
            Op::InFrame(ops) => return self.in_frame(ops),
        }
        let took = began.elapsed();
        assert!(took < AT_ONCE, "{op:?} took {took:?}: it waited for nobody");
        self.check();
    }

    fn check_request(
        &self,
        volume: &Rc<dyn Volume<B>>,
        tiles: &[TileCoord],
        result: Result<vastgrid::Report, Error>,
    ) {
        match result {
            Ok(report) => {
                let counted = report.hits + report.loaded + report.uniform + report.failed.len() as u64;
                assert!(
                    counted >= tiles.iter().collect::<HashSet<_>>().len() as u64
                        && counted <= tiles.len() as u64
                );
                assert_eq!((report.shared, report.left_out), (0, 0));
                self.assert_answered(&report, volume, tiles);
            }
            Err(e) => self.assert_refusal(&e, volume, tiles),
        }
    }

    fn evict(&self, volume: &Rc<dyn Volume<B>>, of: Box6) {
        let region = volume.region(of);
        let pinned = self.pinned_pages();
        let pinned =
            |t| pinned.contains(&(Rc::as_ptr(volume).cast::<()>(), volume.page_of(t), volume.page_bytes()));
        let tiles = volume.tiles_of(region);
        let before = volume.resident();
        let pages = tiles.iter().filter(|t| before.contains(t) && !pinned(**t)).map(|&t| volume.page_of(t));
        let pages: HashSet<_> = pages.collect();
        match volume.evict(region) {
            Ok(count) => {
                assert!(
                    tiles.iter().all(|&t| !volume.is_resident(t) || pinned(t)),
                    "evicted, and still there"
                );
                assert!(before.iter().all(|&t| volume.is_resident(t) || pages.contains(&volume.page_of(t))));
                assert_eq!(count, pages.len() as u64);
                assert!(count == 0 || !self.framed(), "evicted under a frame");
            }
            Err(Error::Residency(ResidencyError::FramesOpen { own: true, .. })) => {
                assert!(self.framed());
                assert_eq!(volume.resident(), before);
            }
            Err(e) => panic!("{e}"),
        }
    }

    fn set_budget(&self, bytes: u64) {
        match self.pool.set_budget(bytes) {
            Ok(()) => {
                self.budget.set(bytes);
                assert!(self.pool.stats().used_bytes <= bytes);
            }
            Err(Error::Residency(ResidencyError::BudgetBelowPage { .. })) => {
                assert!(bytes < 4 * self.setup.page_bytes);
            }
            Err(Error::Residency(ResidencyError::NothingToEvict { .. })) => {
                assert!(self.pinned_bytes() > bytes);
            }
            Err(Error::Residency(ResidencyError::FramesOpen { own: true, .. })) => assert!(self.framed()),
            Err(e) => panic!("{e}"),
        }
        assert_eq!(self.pool.stats().budget_bytes, self.budget.get());
    }

    fn in_frame(&self, ops: &[Op]) {
        let look = if self.setup.show_u8.is_some() { Look::Inside } else { Look::Never };
        let volumes = self.arrays.borrow().clone();
        if look == Look::Never {
            let frame = self.pool.frame();
            self.frames.borrow_mut().push(Vec::new());
            for op in ops {
                self.step(op);
            }
            self.frames.borrow_mut().pop();
            drop(frame);
        } else {
            // A frame of each array, one inside the other.
            let enter = || self.frames.borrow_mut().push(Vec::new());
            volumes[0].in_frame(look, &mut || {
                enter();
                volumes[1].in_frame(look, &mut || {
                    enter();
                    volumes[2].in_frame(look, &mut || {
                        enter();
                        for op in ops {
                            self.step(op);
                        }
                        self.frames.borrow_mut().pop();
                    });
                    self.frames.borrow_mut().pop();
                });
                self.frames.borrow_mut().pop();
            });
        }
        self.check();
    }

    /// What holds after every step.
    fn check(&self) {
        let stats = self.pool.stats();
        assert_consistent(&stats);
        assert_eq!(
            (stats.budget_bytes, stats.open_frames),
            (self.budget.get(), self.frames.borrow().len() as u64)
        );
        assert_eq!(stats.pinned_bytes, self.pinned_bytes());
        if let Some(model) = &self.setup.model {
            assert_eq!(model.page_bytes(), stats.used_bytes, "accounts and physical pages");
        }
        for pinned in &*self.pins.borrow() {
            for &tile in &pinned.tiles {
                assert!(
                    pinned.volume.is_resident(tile) || pinned.volume.is_uniform(tile),
                    "{tile} is pinned"
                );
            }
        }
        for (volume, tile) in self.frames.borrow().iter().flatten() {
            assert!(volume.is_resident(*tile), "{tile} was asked for in an open frame");
        }
        let mut resident = 0;
        let loads = stats.loads;
        for volume in &*self.arrays.borrow() {
            let tiles = volume.resident();
            resident += tiles.len() as u64;
            for tile in tiles {
                assert!(volume.is_resident(tile) && !volume.is_uniform(tile));
            }
            volume.in_frame(Look::Inside, &mut || {});
        }
        assert!(resident <= stats.resident_tiles, "arrays that only pins keep have the rest");
        assert_eq!(self.pool.stats().loads, loads);
    }

    /// At the end everything visible is read through the backend, too, and all memory comes back.
    fn end(self) {
        for volume in &*self.arrays.borrow() {
            for tile in volume.resident() {
                let loads = self.pool.stats().loads;
                volume.read(volume.tile_region(tile)).unwrap();
                assert_eq!(self.pool.stats().loads, loads, "{tile} was visible");
            }
        }
        let Self { pool, setup, arrays, pins, .. } = self;
        drop((arrays, pins));
        pool.trim().unwrap();
        let stats = pool.stats();
        assert_eq!(
            (stats.used_bytes, stats.pinned_bytes, stats.mapped_pages, stats.resident_tiles),
            (0, 0, 0, 0)
        );
        assert!(setup.model.is_none_or(|model| model.page_bytes() == 0));
    }
}

fn run<B: Backend>(cases: u32, setup: impl Fn() -> (B, Setup<B>)) {
    let config = ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    };
    proptest!(config, |(ops in ops())| {
        let (backend, setup) = setup();
        let world = World::new(setup, backend);
        for op in &ops { world.step(op); }
        world.end();
    });
}

/// A backend that is read through its trait alone.
fn blind<B: Backend>(backend: B, model: ModelBackend) -> (B, Setup<B>) {
    let setup = Setup {
        model: Some(model),
        tile: 8,
        page_bytes: 4096,
        show_u8: None,
        show_u16: None,
        show_f32: None,
    };
    (backend, setup)
}

/// A backend with addresses.
fn seeing<B: HostAddressable>(backend: B, tile: u64, page_bytes: u64) -> (B, Setup<B>) {
    let setup = Setup {
        model: None,
        tile,
        page_bytes,
        show_u8: Some(show),
        show_u16: Some(show),
        show_f32: Some(show),
    };
    (backend, setup)
}

/// A device: read through the trait, in pages of its granularity.
fn device<B: Backend>(backend: B) -> (B, Setup<B>) {
    let page_bytes = backend.caps().granularity_bytes;
    let setup = Setup { model: None, tile: 64, page_bytes, show_u8: None, show_u16: None, show_f32: None };
    (backend, setup)
}

fn host(moves: HostMoves) -> HostBackend {
    HostBackend::with_config(HostConfig { moves, ..HostConfig::default() })
}

#[test]
fn on_the_checked_model() {
    run(96, || {
        let model = ModelBackend::new(ModelConfig::default());
        blind(Checked::new(model.clone()), model)
    });
}

#[test]
fn on_the_checked_model_that_is_late() {
    run(96, || {
        let model = ModelBackend::new(ModelConfig {
            asynchronous: true,
            batch_bytes: 8192,
            remembers: true,
            ..ModelConfig::default()
        });
        blind(Checked::new(model.clone()), model)
    });
}

#[test]
fn on_the_host_with_moved_pages() {
    run(24, || seeing(host(HostMoves::Pages), 16, 64 << 10));
    run(48, || seeing(host(HostMoves::Pages), 8, 4096));
}

#[test]
fn on_the_host_with_moved_mappings() {
    run(24, || seeing(host(HostMoves::Mappings), 16, 64 << 10));
    run(48, || seeing(host(HostMoves::Mappings), 8, 4096));
}

#[test]
fn on_the_host_with_demand_zero_pages() {
    run(48, || seeing(host(HostMoves::Nothing), 8, 4096));
}

#[test]
fn on_the_checked_host() {
    run(48, || seeing(Checked::new(host(HostMoves::Fastest)), 8, 4096));
}

#[test]
fn on_cuda() {
    if let Some(cuda) = device_or_skip() {
        run(16, || device(small_backend(cuda.clone())));
    }
}

#[test]
fn on_checked_cuda() {
    if let Some(cuda) = device_or_skip() {
        run(16, || device(Checked::new(small_backend(cuda.clone()))));
    }
}

#[test]
fn a_pinned_uniform_tile_keeps_no_page() {
    let pool = pool_of(HostBackend::new(), 8192, PATIENCE_MS, 1);
    let source = Procedural::new(Extent::cube(64), |c| if c.z >= 8 { 0 } else { common::value(c) })
        .with_uniform(|region| (region.start.z >= 8).then_some(0));
    let array = SparseArray3D::builder(&pool, source).tile([8, 8, 8]).page([2, 2, 2]).build().unwrap();
    let [first, above, second] = [common::t(0, 0, 0), common::t(0, 0, 1), common::t(2, 0, 0)];
    let _ = array.request(&[first]).unwrap().complete().unwrap();
    // The uniform tile lies in the one page that can make room for the other.
    let pins = array.pin(&[above, second]).unwrap();
    assert_eq!((pins.bytes(), pool.stats().pinned_bytes, array.resident_tiles()), (8192, 8192, vec![second]));
    drop(pins);
    assert_eq!(array.pin(&[above]).unwrap().bytes(), 0);
}
