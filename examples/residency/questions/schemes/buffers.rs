//! Owns plain reads into an LRU of recycled buffers: a hash map from tile to buffer, as an application would write it in an afternoon.
//!
//! Made good: the `lru` crate's map with its fast hash; the buffer of the tile that goes is read into without being cleared, by as many threads as there are tiles to load; samples look a
//! tile up once for all that a ray has in it, and look without moving it in the order.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::sampling::Bricks;
use super::scheme::{Blocks, for_each_load};
use super::volume::{EDGE, Shape, TILE_BYTES, TILE_VOXELS, Volume};
use crate::suite::Failure;

#[derive(Debug)]
pub(crate) struct Buffers<'v> {
    volume: &'v Volume,
    tiles: LruCache<u32, Vec<u16>>,
}

impl<'v> Buffers<'v> {
    pub(crate) fn new(volume: &'v Volume, budget_bytes: u64) -> Result<Self, Failure> {
        let buffers = usize::try_from(budget_bytes)? / TILE_BYTES;
        let buffers = NonZeroUsize::new(buffers).ok_or("a budget of less than one tile")?;
        Ok(Self { volume, tiles: LruCache::new(buffers) })
    }
}

impl Bricks for Buffers<'_> {
    const ROW: u32 = EDGE;

    #[inline(always)]
    fn shape(&self) -> Shape {
        self.volume.shape
    }

    #[inline(always)]
    fn brick(&self, tile: u32) -> Option<&[u16]> {
        self.tiles.peek(&tile).map(Vec::as_slice)
    }
}

impl Blocks for Buffers<'_> {
    fn title(&self) -> &'static str {
        "reads into an LRU of buffers"
    }

    fn hold(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        let missing: Vec<_> = tiles.iter().copied().filter(|tile| self.tiles.get(tile).is_none()).collect();
        let mut loads = Vec::with_capacity(missing.len());
        for tile in missing {
            let full = self.tiles.len() + loads.len() >= self.tiles.cap().get();
            let recycled = if full { self.tiles.pop_lru().map(|(_, buffer)| buffer) } else { None };
            loads.push((tile, recycled.unwrap_or_else(|| vec![0; TILE_VOXELS])));
        }
        let (store, count) = (&self.volume.tiles, loads.len() as u64);
        for_each_load(loads.iter_mut().collect(), |(tile, buffer)| store.read(*tile, buffer))?;
        for (tile, buffer) in loads {
            self.tiles.put(tile, buffer);
        }
        Ok(count)
    }

    fn held_bytes(&self, tiles: u64) -> u64 {
        // An entry of the list and of the table of each tile, beside its voxels.
        tiles * (TILE_BYTES + 64) as u64
    }
}
