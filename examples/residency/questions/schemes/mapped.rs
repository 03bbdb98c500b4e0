//! Owns the mapped file: the tile-ordered file as memory, where the system loads what is touched. The tiles of an LRU stay, and what leaves it is unmapped, so that this too keeps to the budget.
//!
//! Made good: the file has its tiles one after the other, so that a tile is one range of whole OS pages; there is no table between a position and its voxel; what must wait for the disk is asked for by
//! as many threads as there are processors. Three ways: without advice (what is touched faults in, with whatever the system reads ahead); `MADV_RANDOM` for all and `MADV_WILLNEED` for each tile, which
//! begins one read of it as a whole; and `MADV_POPULATE_READ` after that, which maps its pages at once instead of a fault for each few of them. (Without the second the third reads page by page.)

use super::lru::{Load, Lru};
use super::memory::{FileAdvice, FileMap};
use super::sampling::Bricks;
use super::scheme::{Blocks, for_each_load};
use super::volume::{EDGE, Shape, TILE_BYTES, TILE_VOXELS, Volume};
use crate::suite::Failure;

/// What the system is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    None,
    WillNeed,
    Populate,
}

#[derive(Debug)]
pub(crate) struct Mapped<'v> {
    volume: &'v Volume,
    map: FileMap,
    lru: Lru,
    loads: Vec<Load>,
    hints: Hints,
}

impl<'v> Mapped<'v> {
    pub(crate) fn new(volume: &'v Volume, budget_bytes: u64, hints: Hints) -> Result<Self, Failure> {
        let bytes = usize::try_from(volume.shape.bytes())?;
        let map = FileMap::new(&volume.tiles.plain, bytes)?;
        if hints != Hints::None {
            map.advise(0..bytes, FileAdvice::Random)?;
        }
        let slots = u32::try_from(budget_bytes / TILE_BYTES as u64)?;
        let lru = Lru::new(volume.shape.tile_count(), slots);
        Ok(Self { volume, map, lru, loads: Vec::new(), hints })
    }
}

impl Bricks for Mapped<'_> {
    const ROW: u32 = EDGE;

    #[inline(always)]
    fn shape(&self) -> Shape {
        self.volume.shape
    }

    #[inline(always)]
    fn brick(&self, tile: u32) -> Option<&[u16]> {
        let first = tile as usize * TILE_VOXELS;
        self.map.get(first..first + TILE_VOXELS)
    }
}

impl Blocks for Mapped<'_> {
    fn title(&self) -> &'static str {
        match self.hints {
            Hints::None => "mmap",
            Hints::WillNeed => "mmap, will-need",
            Hints::Populate => "mmap, will-need and populate",
        }
    }

    fn hold(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.lru.want(tiles, &mut self.loads)?;
        let (map, store) = (&self.map, &self.volume.tiles);
        let range = |tile: u32| tile as usize * TILE_BYTES..(tile as usize + 1) * TILE_BYTES;
        for evicted in self.loads.iter().filter_map(|load| load.evicted) {
            map.advise(range(evicted), FileAdvice::LetGo)?;
            if store.forgets() {
                store.forget(evicted)?;
            }
        }
        if self.hints != Hints::None {
            // Begins reads and waits for none of them.
            for load in &self.loads {
                map.advise(range(load.tile), FileAdvice::WillNeed)?;
            }
        }
        if self.hints == Hints::Populate {
            // Systems before Linux 5.14 do not know it: there pages are mapped as they are touched.
            for_each_load(self.loads.iter().collect(), |load| {
                let _ = map.advise(range(load.tile), FileAdvice::Populate);
                Ok(())
            })?;
        }
        Ok(self.loads.len() as u64)
    }

    fn held_bytes(&self, tiles: u64) -> u64 {
        tiles * TILE_BYTES as u64 + self.lru.bytes()
    }
}
