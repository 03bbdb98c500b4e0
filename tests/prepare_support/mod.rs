//! Random programs on a writable array of any backend: tiles that get memory ahead, that somebody writes, that are pruned, reset and evicted, under a small budget, against a plain map of tiles.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::common::{self, Random, device_hash, expected_by};
use vastgrid::backend::Backend;
use vastgrid::compute::{self, Beyond, Neighbours, TileSet};
use vastgrid::source::Procedural;
use vastgrid::{
    Coord, Error, Extent, Pins, Pool, Region, ResidencyError, SparseArray3D, TileCoord, TileSource,
};

/// A seed that no earlier run had, or that of `VASTGRID_TEST_SEED`.
pub(crate) fn seed(name: &str) -> u64 {
    let seed = std::env::var("VASTGRID_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{name}: VASTGRID_TEST_SEED={seed}");
    seed
}

/// What tiles hold that do not exist.
pub(crate) const FILL: u32 = 3;

/// A volume some of whose tiles hold one value: the fill value or another.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    pub(crate) extent: Extent,
    pub(crate) tile: Extent,
}

impl Base {
    fn kind(self, at: Coord) -> Option<u32> {
        match (at.x / self.tile.x + 2 * (at.y / self.tile.y) + at.z / self.tile.z) % 4 {
            0 => Some(FILL),
            1 => Some(0x0101_0203),
            _ => None,
        }
    }

    fn at(self, at: Coord) -> u32 {
        self.kind(at).unwrap_or_else(|| device_hash(at, 77) as u32)
    }
}

impl TileSource<u32> for Base {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn fill_value(&self) -> u32 {
        FILL
    }

    fn uniform(&self, region: Region) -> Option<u32> {
        self.kind(region.start)
    }

    fn read(&self, region: Region, out: &mut [u32]) -> Result<(), vastgrid::SourceError> {
        let base = *self;
        Procedural::new(self.extent, move |at| base.at(at)).read(region, out)
    }
}

/// What is written to a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ink {
    /// Everywhere the same.
    Same(u32),
    /// What `device_hash` says.
    Hash(u32),
}

impl Ink {
    pub(crate) fn at(self, at: Coord) -> u32 {
        match self {
            Self::Same(value) => value,
            Self::Hash(seed) => device_hash(at, seed) as u32,
        }
    }
}

pub(crate) type Array<B> = SparseArray3D<u32, B>;

/// Who writes to tiles that are resident.
pub(crate) trait Hand<B: Backend> {
    /// Whether it can.
    const WRITES: bool;
    /// Writes all of the tiles.
    fn write(&mut self, array: &mut Array<B>, tiles: &[TileCoord], ink: Ink) -> Result<(), Error>;
    /// What a reader elsewhere sees of a region, where it can tell.
    fn look(&mut self, _array: &Array<B>, _region: Region) -> Option<Vec<Option<u32>>> {
        None
    }
}

pub(crate) struct Program<B: Backend, H> {
    pub(crate) random: Random,
    pub(crate) pool: Pool<B>,
    pub(crate) array: Array<B>,
    hand: H,
    base: Base,
    tiles: Vec<TileCoord>,
    /// What tiles hold that are not as the source says.
    expected: HashMap<TileCoord, Vec<u32>>,
    pins: Vec<(Vec<TileCoord>, Pins<B>)>,
    page: u64,
    pages: u64,
    counts: [u64; 9],
}

/// Whether it was for want of room.
fn no_room<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(Error::Residency(ResidencyError::OverBudget { .. } | ResidencyError::NothingToEvict { .. })) => {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

impl<B: Backend, H: Hand<B>> Program<B, H> {
    /// In a pool of 2 to `pages` pages of so many bytes.
    pub(crate) fn new(pool: Pool<B>, base: Base, hand: H, page: u64, pages: u64, seed: u64) -> Self {
        let array = SparseArray3D::builder(&pool, base).tile(base.tile).page_bytes(page);
        let array = array.writable().build().unwrap();
        let tiles = common::all_tiles(&array);
        let (random, expected, pins) = (Random::new(seed), HashMap::new(), Vec::new());
        Self { random, pool, array, hand, base, tiles, expected, pins, page, pages, counts: [0; 9] }
    }

    fn region(&self, tile: TileCoord) -> Region {
        self.array.layout().tile_region(tile)
    }

    fn expected(&self, tile: TileCoord) -> Vec<u32> {
        let base = self.base;
        let of_base = || expected_by(self.region(tile), |at| base.at(at));
        self.expected.get(&tile).cloned().unwrap_or_else(of_base)
    }

    fn set(&mut self, tile: TileCoord, value: impl Fn(Coord) -> u32) {
        let voxels = expected_by(self.region(tile), value);
        self.expected.insert(tile, voxels);
    }

    /// Some tiles, sometimes near each other, each once.
    fn pick(&mut self, most: u64) -> Vec<TileCoord> {
        let mut any = || self.tiles[self.random.below(self.tiles.len() as u64) as usize];
        let first = any();
        let some: HashSet<_> = if most > 6 && first.x % 2 == 0 {
            let set = TileSet::of(self.array.layout().tiles(), [first]);
            set.dilate(Neighbours::Faces, 1, Beyond::Out).iter().collect()
        } else {
            (0..=most / 2).map(|_| any()).collect()
        };
        let mut some: Vec<_> = some.into_iter().collect();
        some.sort_unstable_by_key(|&tile| self.array.layout().tile_id(tile));
        some
    }

    fn prepare_write(&mut self) {
        let some = self.pick(12);
        if let Some(pins) = no_room(self.array.prepare_write(&some)) {
            self.counts[0] += 1;
            assert!(some.iter().all(|&tile| self.array.is_resident(tile)));
            self.pins.push((some, pins));
        }
    }

    fn prepare_overwrite(&mut self) {
        let some = self.pick(12);
        let pins = no_room(self.array.prepare_overwrite(&some));
        self.pins.clear();
        for &tile in &some {
            // Where there was no room they may hold it or not.
            let now = self.array.to_vec(self.region(tile)).unwrap();
            let blank = now.iter().all(|&v| v == FILL);
            assert!(blank || pins.is_none() && now == self.expected(tile), "{tile}");
            if blank {
                self.set(tile, |_| FILL);
            }
        }
        if let Some(pins) = pins {
            self.counts[1] += 1;
            assert!(some.iter().all(|&tile| self.array.is_resident(tile)));
            self.pins.push((some, pins));
        }
    }

    fn write(&mut self) {
        let some = self.pick(8);
        let ink = match self.random.below(4) {
            0 => Ink::Same(FILL),
            1 => Ink::Same(0x0101_0203),
            2 => Ink::Same(self.random.below(1 << 30) as u32),
            _ => Ink::Hash(self.random.below(1 << 30) as u32),
        };
        let wrote = self.hand.write(&mut self.array, &some, ink);
        if !H::WRITES {
            return;
        }
        let wrote = no_room(wrote).is_some();
        self.counts[2] += u64::from(wrote);
        let written: HashSet<_> = self.array.written_tiles().into_iter().collect();
        for tile in some {
            // Where there was no room for all of them, some may have been written, and others made blank for it.
            if !wrote {
                self.pins.clear();
                let region = self.region(tile);
                let now = self.array.to_vec(region).unwrap();
                if now == self.expected(tile) {
                    continue;
                }
                let base = self.base;
                let as_source = now == expected_by(region, |at| base.at(at));
                assert!(as_source || written.contains(&tile), "{tile} changed, and is not written");
                if now.iter().all(|&v| v == FILL) {
                    self.set(tile, |_| FILL);
                } else {
                    assert!(now == expected_by(region, |at| ink.at(at)), "{tile}");
                    self.set(tile, |at| ink.at(at));
                }
                continue;
            }
            self.set(tile, |at| ink.at(at));
            assert!(written.contains(&tile), "{tile} was written, which is not known");
        }
    }

    fn prune(&mut self) {
        let all = self.random.below(2) == 0;
        let some = if all { self.array.written_tiles() } else { self.pick(40) };
        let resident: HashSet<_> = some.iter().copied().filter(|&t| self.array.is_resident(t)).collect();
        let before: HashSet<_> = self.array.written_tiles().into_iter().collect();
        let pruned = self.array.prune(&some).unwrap();
        assert!(pruned.is_sorted_by_key(|&tile| self.array.layout().tile_id(tile)));
        let pruned: HashSet<_> = pruned.into_iter().collect();
        let written: HashSet<_> = self.array.written_tiles().into_iter().collect();
        for tile in some {
            let (region, voxels) = (self.region(tile), self.expected(tile));
            let same = voxels.iter().all(|v| *v == voxels[0]);
            let whole = region.extent == self.base.tile;
            assert!(same || !pruned.contains(&tile), "{tile} does not hold one value");
            assert!(!(same && whole && resident.contains(&tile)) || pruned.contains(&tile), "{tile}");
            if pruned.contains(&tile) {
                self.counts[3] += u64::from(resident.contains(&tile));
                assert!(!self.array.is_resident(tile) && self.array.is_uniform(tile), "{tile}");
                // What the source says too is not written any more.
                let as_source = self.base.uniform(region) == Some(voxels[0]);
                assert!(!as_source || !written.contains(&tile), "{tile}");
                assert!(as_source || written.contains(&tile) || !before.contains(&tile), "{tile}");
            } else {
                assert_eq!(written.contains(&tile), before.contains(&tile), "{tile}");
            }
        }
        // A pin keeps memory, not what was in it.
        self.pins.retain(|(tiles, _)| tiles.iter().all(|tile| !pruned.contains(tile)));
    }

    fn reset(&mut self) {
        let some = self.pick(12);
        self.array.reset(&some).unwrap();
        for tile in some {
            assert!(!self.array.is_resident(tile));
            self.expected.remove(&tile);
            self.pins.retain(|(tiles, _)| !tiles.contains(&tile));
            self.counts[4] += 1;
        }
    }

    fn check(&mut self, tiles: &[TileCoord]) {
        self.pins.clear();
        for &tile in tiles {
            let region = self.region(tile);
            let expected = self.expected(tile);
            assert!(self.array.to_vec(region).unwrap() == expected, "{tile}");
            for (i, seen) in self.hand.look(&self.array, region).into_iter().flatten().enumerate() {
                assert!(
                    seen.is_none_or(|seen| seen == expected[i]),
                    "{tile}, voxel {i}, as a kernel sees it"
                );
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 | 1 => self.prepare_write(),
            2 | 3 => self.prepare_overwrite(),
            4..=6 => self.write(),
            7 => self.prune(),
            8 => self.reset(),
            9 => {
                let tile = self.pick(1)[0];
                self.counts[5] += self.array.evict(self.region(tile)).unwrap();
            }
            10 => {
                self.pins.clear();
                let budget = (2 + self.random.below(self.pages - 1)) * self.page;
                self.pool.set_budget(budget).unwrap();
            }
            _ => {
                let some = self.pick(4);
                self.check(&some);
            }
        }
        // Pins stay what they are.
        let pinned = self.pins.iter().flat_map(|(tiles, _)| tiles);
        assert!(pinned.clone().all(|&tile| self.array.is_resident(tile)));
        if self.random.below(4) == 0 {
            self.pins.clear();
        }
        let stats = self.pool.stats();
        common::assert_consistent(&stats);
    }

    pub(crate) fn run(mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
        let tiles = self.tiles.clone();
        self.check(&tiles);
        // Everything that differs from the source is known to.
        let written = compute::written(&self.array);
        for &tile in &tiles {
            let region = self.region(tile);
            let base = self.base;
            let differs = self.expected(tile) != expected_by(region, |at| base.at(at));
            assert!(!differs || written.contains(tile), "{tile}");
        }
        let [ahead, blank, wrote, pruned, reset, evicted, ..] = self.counts;
        let back = self.pool.stats().written_back;
        println!(
            "prepared {ahead} times, blank {blank}, wrote {wrote}; {pruned} tiles pruned, {reset} reset, {evicted} pages evicted, {back} tiles written back"
        );
        let enough = ahead > 0 && blank > 0 && pruned > 0 && (wrote > 0) == H::WRITES;
        assert!(enough || steps < 200, "too little was done to tell");
    }
}
