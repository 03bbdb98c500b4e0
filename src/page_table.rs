//! Owns what the planner knows of each page and tile of one array: bit planes, under the pool's lock.
//!
//! | plane | per | meaning |
//! | --- | --- | --- |
//! | mapped | page | a physical page is mapped at the page's address |
//! | fresh | page | the batch that did that has yet to load what it did it for |
//! | evicting | page | somebody is about to take it from there |
//! | resident | tile | the tile's contents are valid |
//! | dirty | tile | the contents differ from the source's |
//! | uniform | tile | the tile is known to hold one value and has no memory |
//!
//! The planes come in blocks of [`BLOCK_TILES`] tiles that exist only where a bit is set (and of those where one was, for a while), so an array of 2^46 bytes costs nothing until it is used. A page's
//! tiles are one part of a word of each plane, or some whole words: what is asked of a page costs one look-up of its block and a few instructions.
//! Readers do not look here: they test the published plane ([`crate::engine::planes`]), which the engine keeps in step. Knows nothing of memory or policy.

use std::collections::VecDeque;
use std::ops::Range;

use crate::layout::{PageId, TileId};
use crate::recall::RecallMap;

mod block;
mod plane;

use block::Block;
use plane::{Plane, bits, ones};

/// Tiles in a block of the planes (a block of one page where a page has more).
pub(crate) const BLOCK_TILES: u64 = 4096;

/// How many blocks that became empty are kept, with the planes' memory: what comes back soon finds all as it was. For tiles that are alone in their blocks they take 11 MiB: 4 KiB each of bits and of stamps, and
/// what is here.
const EMPTY_BLOCKS: usize = 1024;

/// What is known of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    /// Its contents are valid, in memory.
    Resident,
    /// It holds one value, and has no memory.
    Uniform,
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfPage {
    /// It has memory.
    pub(crate) mapped: bool,
    /// Whoever got it that is still loading into it.
    pub(crate) fresh: bool,
    /// Somebody is about to take it.
    pub(crate) evicting: bool,
}

impl OfPage {
    /// Whether it has memory that nobody is about to take.
    pub(crate) fn keeps_memory(self) -> bool {
        self.mapped && !self.evicting
    }
}

/// Where the bits of a page's tiles are: in words of a block's planes, in each of them those of the mask, of which the first is that far up.
struct Tiles {
    block: u64,
    words: Range<usize>,
    mask: u64,
    shift: usize,
}

/// The planner's bit planes of one array.
#[derive(Debug)]
pub(crate) struct PageTable {
    page_shift: u32,
    block_shift: u32,
    blocks: RecallMap<u64, Block>,
    /// Blocks that became empty, each with its [`Block::emptied`], in that order: those of other numbers have been in use since.
    emptied: VecDeque<(u64, u64)>,
    /// How often one became empty, and how many of them are.
    emptyings: u64,
    empty_blocks: usize,
    mapped_pages: u64,
    evicting_pages: u64,
    resident_tiles: u64,
    uniform_tiles: u64,
    dirty_tiles: u64,
}

impl PageTable {
    /// A table for pages of `tiles_per_page` (a power of two) with no bit set.
    pub(crate) fn new(tiles_per_page: u64) -> Self {
        let page_shift = tiles_per_page.trailing_zeros();
        let block_shift = page_shift.max(BLOCK_TILES.trailing_zeros());
        Self {
            page_shift,
            block_shift,
            blocks: RecallMap::default(),
            emptied: VecDeque::new(),
            emptyings: 0,
            empty_blocks: 0,
            mapped_pages: 0,
            evicting_pages: 0,
            resident_tiles: 0,
            uniform_tiles: 0,
            dirty_tiles: 0,
        }
    }

    /// Pages with memory.
    pub(crate) fn mapped_pages(&self) -> u64 {
        self.mapped_pages
    }

    /// Pages that somebody is about to take the memory from.
    pub(crate) fn evicting_pages(&self) -> u64 {
        self.evicting_pages
    }

    /// Tiles with valid contents.
    pub(crate) fn resident_tiles(&self) -> u64 {
        self.resident_tiles
    }

    /// Tiles known to hold one value.
    pub(crate) fn uniform_tiles(&self) -> u64 {
        self.uniform_tiles
    }

    /// Tiles whose contents differ from their source's.
    pub(crate) fn dirty_tiles(&self) -> u64 {
        self.dirty_tiles
    }

    /// Pages of those. **Cost**: a look at every page of the blocks in use, if there are any.
    pub(crate) fn dirty_pages(&self) -> u64 {
        if self.dirty_tiles == 0 {
            return 0;
        }
        let pages = |b: &Block| b.dirty.chunks(1 << self.page_shift).filter(|page| page.any()).count();
        self.blocks.values().map(|b| pages(b) as u64).sum()
    }

    #[inline]
    pub(crate) fn is_mapped(&self, page: PageId) -> bool {
        let (block, bit) = self.page_at(page);
        self.blocks.get(block).is_some_and(|b| b.mapped[bit])
    }

    #[inline]
    pub(crate) fn is_evicting(&self, page: PageId) -> bool {
        self.of_page(page).evicting
    }

    /// What is known of a page.
    #[inline]
    pub(crate) fn of_page(&self, page: PageId) -> OfPage {
        let (block, bit) = self.page_at(page);
        self.blocks.get(block).map_or_else(OfPage::default, |b| b.of_page(bit))
    }

    /// What is known of a tile, and of its page.
    #[inline]
    pub(crate) fn known(&self, tile: TileId) -> (Known, OfPage) {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get(block) else { return (Known::Nothing, OfPage::default()) };
        let known = match () {
            () if b.resident[bit] => Known::Resident,
            () if b.uniform[bit] => Known::Uniform,
            () => Known::Nothing,
        };
        (known, b.of_page(bit >> self.page_shift))
    }

    /// Whether a tile of the page holds what its source does not: such a page may not be decommitted.
    #[inline]
    pub(crate) fn is_dirty(&self, page: PageId) -> bool {
        self.dirty_tiles > 0 && self.words(page, |b| &b.dirty).any(|(_, word)| word != 0)
    }

    /// Whether the tile holds what its source does not.
    pub(crate) fn is_dirty_tile(&self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        self.blocks.get(block).is_some_and(|b| b.dirty[bit])
    }

    /// Whether any tile of the page is resident.
    pub(crate) fn has_resident(&self, page: PageId) -> bool {
        self.resident_words(page).next().is_some()
    }

    /// The resident tiles of a page as bits, from the page's first tile on, in words of 64 tiles: `(first tile, mask)`.
    #[inline]
    pub(crate) fn resident_words(&self, page: PageId) -> impl Iterator<Item = (TileId, u64)> {
        self.words(page, |b| &b.resident).filter(|&(_, mask)| mask != 0)
    }

    /// The tiles of a page that hold what their source does not, in memory order.
    pub(crate) fn dirty(&self, page: PageId) -> impl Iterator<Item = TileId> {
        self.words(page, |b| &b.dirty).flat_map(|(first, word)| bits(word).map(move |i| TileId(first.0 + i)))
    }

    /// Every tile that holds what its source does not, in memory order.
    pub(crate) fn all_dirty(&self) -> impl Iterator<Item = TileId> + '_ {
        self.tiles(|b| &b.dirty)
    }

    #[inline]
    pub(crate) fn set_mapped(&mut self, page: PageId) {
        let (block, bit) = self.page_at(page);
        let b = self.block(block);
        let is_new = u64::from(!b.mapped.replace(bit, true));
        b.in_use += is_new;
        self.mapped_pages += is_new;
        debug_assert!(self.is_valid(block));
    }

    /// The same for a page that is about to be loaded into.
    #[inline]
    pub(crate) fn set_fresh(&mut self, page: PageId) {
        self.set_mapped(page);
        let (block, bit) = self.page_at(page);
        if let Some(b) = self.blocks.get_mut(block) {
            b.fresh.replace(bit, true);
        }
    }

    /// What the page got its memory for was loaded into it. Returns whether that was to come.
    #[inline]
    pub(crate) fn take_fresh(&mut self, page: PageId) -> bool {
        let (block, bit) = self.page_at(page);
        self.blocks.get_mut(block).is_some_and(|b| b.fresh.replace(bit, false))
    }

    /// Notes that somebody is about to take the page's memory, or that it stays after all. Without any memory this says nothing.
    #[inline]
    pub(crate) fn set_evicting(&mut self, page: PageId, evicting: bool) {
        let (block, bit) = self.page_at(page);
        let Some(b) = self.blocks.get_mut(block).filter(|b| b.mapped[bit]) else { return };
        self.evicting_pages += u64::from(evicting);
        self.evicting_pages -= u64::from(b.evicting.replace(bit, evicting));
        debug_assert!(self.is_valid(block));
    }

    /// Marks the page as without memory, and so its tiles as not resident.
    #[inline]
    pub(crate) fn clear_page(&mut self, page: PageId) {
        let (_, bit) = self.page_at(page);
        let Tiles { block, words, mask, .. } = self.tiles_at(page);
        let Some(b) = self.blocks.get_mut(block) else { return };
        let was = u64::from(b.mapped.replace(bit, false));
        b.in_use -= was;
        let is_empty = b.in_use == 0;
        self.mapped_pages -= was;
        self.evicting_pages -= u64::from(b.evicting.replace(bit, false));
        b.fresh.replace(bit, false);
        let clear = |plane: &mut Plane, count: &mut u64| {
            for word in &mut plane.as_raw_mut_slice()[words.clone()] {
                *count -= u64::from((*word & mask).count_ones());
                *word &= !mask;
            }
        };
        clear(&mut b.resident, &mut self.resident_tiles);
        if self.dirty_tiles > 0 {
            clear(&mut b.dirty, &mut self.dirty_tiles);
        }
        if is_empty {
            self.note_if_empty(block);
        }
        debug_assert!(self.is_valid(block));
    }

    /// Notes that the tile's contents are valid, and returns whether it was known to hold one value before.
    #[inline]
    pub(crate) fn set_resident(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let b = self.block(block);
        let was_uniform = b.uniform.replace(bit, false);
        let was = b.resident.replace(bit, true);
        b.in_use -= u64::from(was_uniform);
        self.uniform_tiles -= u64::from(was_uniform);
        self.resident_tiles += u64::from(!was);
        debug_assert!(self.is_valid(block));
        was_uniform
    }

    /// Notes that a resident tile holds what its source does not.
    pub(crate) fn set_dirty(&mut self, tile: TileId) {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get_mut(block).filter(|b| b.resident[bit]) else { return };
        self.dirty_tiles += u64::from(!b.dirty.replace(bit, true));
        debug_assert!(self.is_valid(block));
    }

    /// Gives that up.
    pub(crate) fn clear_dirty(&mut self, tile: TileId) {
        let (block, bit) = self.tile_at(tile);
        if let Some(b) = self.blocks.get_mut(block) {
            self.dirty_tiles -= u64::from(b.dirty.replace(bit, false));
        }
        debug_assert!(self.is_valid(block));
    }

    /// Notes that the tile holds one value. A resident tile keeps its memory and is left as it is: returns whether it was noted.
    pub(crate) fn set_uniform(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let b = self.block(block);
        if b.resident[bit] {
            return false;
        }
        let is_new = u64::from(!b.uniform.replace(bit, true));
        b.in_use += is_new;
        self.uniform_tiles += is_new;
        debug_assert!(self.is_valid(block));
        true
    }

    /// Forgets the tile's contents, written or not, and returns whether it had any. Its page keeps its memory.
    pub(crate) fn clear_resident(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get_mut(block) else { return false };
        self.dirty_tiles -= u64::from(b.dirty.replace(bit, false));
        let was = b.resident.replace(bit, false);
        self.resident_tiles -= u64::from(was);
        was
    }

    /// Forgets that the tile holds one value, and returns whether it was known to.
    pub(crate) fn clear_uniform(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get_mut(block) else { return false };
        let was = b.uniform.replace(bit, false);
        b.in_use -= u64::from(was);
        self.uniform_tiles -= u64::from(was);
        self.note_if_empty(block);
        was
    }

    /// Every mapped page, in memory order.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = PageId> + '_ {
        let per_block = self.block_shift - self.page_shift;
        self.in_order()
            .flat_map(move |(block, b)| ones(&b.mapped).map(move |i| PageId((block << per_block) + i)))
    }

    /// Every resident tile, in memory order.
    pub(crate) fn resident(&self) -> impl Iterator<Item = TileId> + '_ {
        self.tiles(|b| &b.resident)
    }

    /// Every tile known to hold one value, in memory order.
    pub(crate) fn uniform(&self) -> impl Iterator<Item = TileId> + '_ {
        self.tiles(|b| &b.uniform)
    }

    /// Groups of 64 tiles in which any bit may be set, in no order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = u64> + '_ {
        let shift = self.block_shift - 6;
        let used = self.blocks.iter().filter(|(_, b)| b.emptied == 0);
        used.flat_map(move |(block, _)| block << shift..(block + 1) << shift)
    }

    /// Blocks of planes in use: what the table's memory is in proportion to, but for a number of empty ones.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len() - self.empty_blocks
    }

    /// Tiles of which nothing is known, none being mapped or uniform: a run of `tiles` of them (a power of two) or more, around one of which something was. `None` while few such are kept.
    #[inline]
    pub(crate) fn take_emptied(&mut self, tiles: u64) -> Option<Range<u64>> {
        let span = tiles.max(1 << self.block_shift);
        while self.empty_blocks > EMPTY_BLOCKS {
            let (block, number) = self.emptied.pop_front()?;
            if self.blocks.get(block).is_none_or(|b| b.emptied != number) {
                continue;
            }
            let first = (block << self.block_shift) & !(span - 1);
            let mut run = first >> self.block_shift..(first + span) >> self.block_shift;
            let all_empty = run.clone().all(|i| self.blocks.get(i).is_none_or(|b| b.emptied != 0));
            if !all_empty {
                run = block..block + 1;
            }
            for block in run {
                self.empty_blocks -= usize::from(self.blocks.remove(block).is_some());
            }
            if all_empty {
                return Some(first..first + span);
            }
        }
        None
    }

    fn note_if_empty(&mut self, index: u64) {
        let Some(b) = self.blocks.get_mut(index).filter(|b| b.in_use == 0 && b.emptied == 0) else { return };
        self.emptyings += 1;
        self.empty_blocks += 1;
        b.emptied = self.emptyings;
        self.emptied.push_back((index, self.emptyings));
        if self.emptied.len() > 4 * EMPTY_BLOCKS.max(self.empty_blocks) {
            // Few of these are the last of their blocks.
            let blocks = &self.blocks;
            self.emptied.retain(|(block, number)| blocks.get(*block).is_some_and(|b| b.emptied == *number));
        }
    }

    /// A block that something is about to be noted in.
    #[inline]
    fn block(&mut self, index: u64) -> &mut Block {
        let (tiles, page_shift) = (1usize << self.block_shift, self.page_shift);
        let block = self.blocks.get_or_insert_with(index, || Block::new(tiles, page_shift));
        self.empty_blocks -= usize::from(block.emptied != 0);
        block.emptied = 0;
        block
    }

    /// The blocks in memory order. **Cost**: they are sorted.
    fn in_order(&self) -> impl Iterator<Item = (u64, &Block)> {
        let mut blocks: Vec<_> = self.blocks.iter().collect();
        blocks.sort_unstable_by_key(|&(block, _)| block);
        blocks.into_iter()
    }

    /// Every tile whose bit is set in a plane, in memory order.
    fn tiles(&self, plane: impl Fn(&Block) -> &Plane) -> impl Iterator<Item = TileId> {
        let shift = self.block_shift;
        self.in_order().flat_map(move |(block, b)| ones(plane(b)).map(move |i| TileId((block << shift) + i)))
    }

    /// The bits that a plane has of a page's tiles, from the page's first on, in words of 64 tiles: `(first tile, bits)`.
    #[inline]
    fn words(&self, page: PageId, plane: impl Fn(&Block) -> &Plane) -> impl Iterator<Item = (TileId, u64)> {
        let Tiles { block, words, mask, shift } = self.tiles_at(page);
        let words = self.blocks.get(block).map_or(&[][..], |b| &plane(b).as_raw_slice()[words]);
        let firsts = (page.0 << self.page_shift..).step_by(64).map(TileId);
        firsts.zip(words).map(move |(first, word)| (first, (word & mask) >> shift))
    }

    #[inline]
    fn page_at(&self, page: PageId) -> (u64, usize) {
        let per_block = self.block_shift - self.page_shift;
        (page.0 >> per_block, index(page.0, per_block))
    }

    #[inline]
    fn tile_at(&self, tile: TileId) -> (u64, usize) {
        (tile.0 >> self.block_shift, index(tile.0, self.block_shift))
    }

    #[inline]
    fn tiles_at(&self, page: PageId) -> Tiles {
        let (block, page) = self.page_at(page);
        let (first, tiles) = (page << self.page_shift, 1usize << self.page_shift);
        if tiles >= 64 {
            return Tiles { block, words: first >> 6..(first + tiles) >> 6, mask: u64::MAX, shift: 0 };
        }
        let (word, shift) = (first >> 6, first & 63);
        Tiles { block, words: word..word + 1, mask: ((1 << tiles) - 1) << shift, shift }
    }

    /// Whether a block's planes agree with each other.
    fn is_valid(&self, block: u64) -> bool {
        self.blocks.get(block).is_none_or(|b| b.is_valid(self.page_shift))
    }
}

/// The low `bits` of `v`, as an index.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a block has at most 2^46 tiles, and 64-bit targets are the only ones"
)]
#[inline]
fn index(v: u64, bits: u32) -> usize {
    (v & ((1 << bits) - 1)) as usize
}

#[cfg(test)]
mod tests;
