//! Owns [`Lru`]: which tile has which slot, exactly least recently used first. What the rivals use, so that they all hold the same tiles.
//!
//! A table of slots by tile and a list threaded through arrays: a hit is one look-up and four stores, whatever the number of slots, and nothing is allocated after the start.

use crate::suite::Failure;

/// No slot, or no tile.
pub(crate) const NONE: u32 = u32::MAX;

/// A tile that is to be loaded, into which slot, and which tile had that before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) tile: u32,
    pub(crate) slot: u32,
    pub(crate) evicted: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Lru {
    slot_of: Vec<u32>,
    tile_in: Vec<u32>,
    /// Neighbours in the list of each slot; the last entry is the list's both ends.
    newer: Vec<u32>,
    older: Vec<u32>,
    used: u32,
}

impl Lru {
    pub(crate) fn new(tiles: u32, slots: u32) -> Self {
        let list = vec![slots; slots as usize + 1];
        let (slot_of, tile_in) = (vec![NONE; tiles as usize], vec![NONE; slots as usize]);
        Self { slot_of, tile_in, newer: list.clone(), older: list, used: 0 }
    }

    pub(crate) fn slots(&self) -> u32 {
        self.end()
    }

    /// The slot of a tile, or [`NONE`].
    #[inline(always)]
    pub(crate) fn slot_of(&self, tile: u32) -> u32 {
        self.slot_of.get(tile as usize).copied().unwrap_or(NONE)
    }

    /// Bytes that the tables take.
    pub(crate) fn bytes(&self) -> u64 {
        let entries = self.slot_of.len() + self.tile_in.len() + self.newer.len() + self.older.len();
        entries as u64 * 4
    }

    /// Makes the tiles the most recently used, and enters those that had no slot into `loads`.
    pub(crate) fn want(&mut self, tiles: &[u32], loads: &mut Vec<Load>) -> Result<(), Failure> {
        loads.clear();
        if tiles.len() > self.slots() as usize {
            return Err(format!("{} tiles are wanted at once in {} slots", tiles.len(), self.slots()).into());
        }
        // Hits first, so that none of them is evicted for a miss.
        for &tile in tiles {
            let slot = self.slot_of(tile);
            if slot != NONE {
                self.unlink(slot);
                self.link(slot);
            }
        }
        for &tile in tiles {
            if self.slot_of(tile) != NONE {
                continue;
            }
            let (slot, evicted) = if self.used < self.slots() {
                self.used += 1;
                (self.used - 1, None)
            } else {
                let slot = self.newer[self.end() as usize];
                let evicted = self.tile_in[slot as usize];
                self.slot_of[evicted as usize] = NONE;
                self.unlink(slot);
                (slot, Some(evicted))
            };
            self.slot_of[tile as usize] = slot;
            self.tile_in[slot as usize] = tile;
            self.link(slot);
            loads.push(Load { tile, slot, evicted });
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "made from as many")]
    fn end(&self) -> u32 {
        self.tile_in.len() as u32
    }

    fn unlink(&mut self, slot: u32) {
        let (newer, older) = (self.newer[slot as usize], self.older[slot as usize]);
        self.older[newer as usize] = older;
        self.newer[older as usize] = newer;
    }

    /// As the most recently used.
    fn link(&mut self, slot: u32) {
        let end = self.end();
        let newest = self.older[end as usize];
        self.older[slot as usize] = newest;
        self.newer[slot as usize] = end;
        self.newer[newest as usize] = slot;
        self.older[end as usize] = slot;
    }
}
