//! Owns the software page table: a table of slots by tile over a pool of recycled tile buffers.
//!
//! Made good: the table has four bytes a tile and is looked up by shifts; the pool is one allocation in huge pages; samples of a ray look a tile up once and know beforehand how many of them it is good
//! for; samples anywhere are asked for ahead; a swap is one read straight into the buffer of the tile that goes, by as many threads as there are tiles to load.

use super::sampling::Bricks;
use super::scheme::{Blocks, Slots};
use super::volume::{EDGE, Shape, Volume};
use crate::suite::Failure;

#[derive(Debug)]
pub(crate) struct PageTable<'v> {
    name: &'static str,
    shape: Shape,
    slots: Slots<'v>,
}

impl<'v> PageTable<'v> {
    /// In huge pages where the system has them, or in none.
    pub(crate) fn new(volume: &'v Volume, budget_bytes: u64, huge: bool) -> Result<Self, Failure> {
        let name = if huge { "page table" } else { "page table, small OS pages" };
        let slots = Slots::new(&volume.tiles, volume.shape.tile_count(), budget_bytes, huge)?;
        Ok(Self { name, shape: volume.shape, slots })
    }
}

impl Bricks for PageTable<'_> {
    const ROW: u32 = EDGE;

    #[inline(always)]
    fn shape(&self) -> Shape {
        self.shape
    }

    #[inline(always)]
    fn brick(&self, tile: u32) -> Option<&[u16]> {
        self.slots.block(tile)
    }
}

impl Blocks for PageTable<'_> {
    fn title(&self) -> &str {
        self.name
    }

    fn hold(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.slots.want(tiles)
    }

    fn held_bytes(&self, tiles: u64) -> u64 {
        self.slots.bytes(tiles)
    }
}
