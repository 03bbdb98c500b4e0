//! Owns what the planner knows of each page and tile of one array: bit planes, under the pool's lock.
//!
//! | plane | per | meaning |
//! | --- | --- | --- |
//! | mapped | page | a physical page is mapped at the page's address |
//! | resident | tile | the tile's contents are valid |
//! | dirty | tile | the contents differ from the source's |
//! | uniform | tile | the tile is known to hold one value and has no memory |
//!
//! The planes come in blocks of [`BLOCK_TILES`] tiles that exist only where a bit is set (and of those where one was, for a while), so an array of 2^46 bytes costs nothing until it is used.
//! Readers do not look here: they test the published plane ([`crate::engine::planes`]), which the engine keeps in step. Knows nothing of memory or policy.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bitvec::prelude::{BitVec, Lsb0};

use crate::layout::{PageId, TileId};

/// Tiles in a block of the planes (a block of one page where a page has more).
pub(crate) const BLOCK_TILES: u64 = 4096;

/// How many blocks that became empty are kept, with the planes' memory: what comes back soon finds all as it was. For tiles that are alone in their blocks they take 10 MiB: 4 KiB each of bits and of stamps, and
/// what is here.
const EMPTY_BLOCKS: usize = 1024;

type Bits = BitVec<u64, Lsb0>;

#[derive(Debug)]
struct Block {
    mapped: Bits,
    resident: Bits,
    dirty: Bits,
    uniform: Bits,
    /// The how manieth it was of those that became empty; 0 while a page of it is mapped, or a tile uniform.
    emptied: u64,
}

/// The planner's bit planes of one array.
#[derive(Debug)]
pub(crate) struct PageTable {
    page_shift: u32,
    block_shift: u32,
    blocks: BTreeMap<u64, Block>,
    /// Blocks that became empty, each with its [`Block::emptied`], in that order: those of other numbers have been in use since.
    emptied: VecDeque<(u64, u64)>,
    /// How often one became empty, and how many of them are.
    emptyings: u64,
    empty_blocks: usize,
    mapped_pages: u64,
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
            blocks: BTreeMap::new(),
            emptied: VecDeque::new(),
            emptyings: 0,
            empty_blocks: 0,
            mapped_pages: 0,
            resident_tiles: 0,
            uniform_tiles: 0,
            dirty_tiles: 0,
        }
    }

    /// Pages with memory.
    pub(crate) fn mapped_pages(&self) -> u64 {
        self.mapped_pages
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

    pub(crate) fn is_mapped(&self, page: PageId) -> bool {
        let (block, bit) = self.page_at(page);
        self.blocks.get(&block).is_some_and(|b| b.mapped[bit])
    }

    pub(crate) fn is_resident(&self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        self.blocks.get(&block).is_some_and(|b| b.resident[bit])
    }

    pub(crate) fn is_uniform(&self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        self.blocks.get(&block).is_some_and(|b| b.uniform[bit])
    }

    /// Whether a tile of the page holds what its source does not: such a page may not be decommitted.
    pub(crate) fn is_dirty(&self, page: PageId) -> bool {
        let (block, bits) = self.tiles_at(page);
        self.blocks.get(&block).is_some_and(|b| b.dirty[bits].any())
    }

    /// Whether the tile holds what its source does not.
    pub(crate) fn is_dirty_tile(&self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        self.blocks.get(&block).is_some_and(|b| b.dirty[bit])
    }

    /// Whether any tile of the page is resident.
    pub(crate) fn has_resident(&self, page: PageId) -> bool {
        let (block, bits) = self.tiles_at(page);
        self.blocks.get(&block).is_some_and(|b| b.resident[bits].any())
    }

    /// The resident tiles of a page as bits, from the page's first tile on, in words of 64 tiles: `(first tile, mask)`.
    pub(crate) fn resident_words(&self, page: PageId) -> Vec<(TileId, u64)> {
        let first = page.0 << self.page_shift;
        let (block, bits) = self.tiles_at(page);
        let Some(block) = self.blocks.get(&block) else { return Vec::new() };
        let starts = (first..first + (1 << self.page_shift)).step_by(64);
        let words = block.resident[bits].chunks(64).map(bitvec::field::BitField::load_le::<u64>);
        starts.map(TileId).zip(words).filter(|&(_, mask)| mask != 0).collect()
    }

    /// The tiles of a page that hold what their source does not, in memory order.
    pub(crate) fn dirty(&self, page: PageId) -> Vec<TileId> {
        let first = page.0 << self.page_shift;
        let (block, bits) = self.tiles_at(page);
        let Some(block) = self.blocks.get(&block) else { return Vec::new() };
        block.dirty[bits].iter_ones().map(|i| TileId(first + i as u64)).collect()
    }

    /// Every tile that holds what its source does not, in memory order.
    pub(crate) fn all_dirty(&self) -> impl Iterator<Item = TileId> + '_ {
        let shift = self.block_shift;
        self.blocks
            .iter()
            .flat_map(move |(&block, b)| ones(&b.dirty).map(move |i| TileId((block << shift) + i)))
    }

    pub(crate) fn set_mapped(&mut self, page: PageId) {
        let (block, bit) = self.page_at(page);
        let was = self.block(block).mapped.replace(bit, true);
        self.mapped_pages += u64::from(!was);
        debug_assert!(self.is_valid(block));
    }

    /// Marks the page as without memory, and so its tiles as not resident.
    pub(crate) fn clear_page(&mut self, page: PageId) {
        let (block, bit) = self.page_at(page);
        let (_, bits) = self.tiles_at(page);
        let Some(b) = self.blocks.get_mut(&block) else { return };
        self.mapped_pages -= u64::from(b.mapped.replace(bit, false));
        self.resident_tiles -= b.resident[bits.clone()].count_ones() as u64;
        self.dirty_tiles -= b.dirty[bits.clone()].count_ones() as u64;
        b.resident[bits.clone()].fill(false);
        b.dirty[bits].fill(false);
        self.note_if_empty(block);
        debug_assert!(self.is_valid(block));
    }

    /// Notes that the tile's contents are valid, and returns whether it was known to hold one value before.
    pub(crate) fn set_resident(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let b = self.block(block);
        let was_uniform = b.uniform.replace(bit, false);
        let was = b.resident.replace(bit, true);
        self.uniform_tiles -= u64::from(was_uniform);
        self.resident_tiles += u64::from(!was);
        debug_assert!(self.is_valid(block));
        was_uniform
    }

    /// Notes that a resident tile holds what its source does not.
    pub(crate) fn set_dirty(&mut self, tile: TileId) {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get_mut(&block).filter(|b| b.resident[bit]) else { return };
        self.dirty_tiles += u64::from(!b.dirty.replace(bit, true));
        debug_assert!(self.is_valid(block));
    }

    /// Gives that up.
    pub(crate) fn clear_dirty(&mut self, tile: TileId) {
        let (block, bit) = self.tile_at(tile);
        if let Some(b) = self.blocks.get_mut(&block) {
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
        let was = b.uniform.replace(bit, true);
        self.uniform_tiles += u64::from(!was);
        debug_assert!(self.is_valid(block));
        true
    }

    /// Forgets the tile's contents, written or not, and returns whether it had any. Its page keeps its memory.
    pub(crate) fn clear_resident(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get_mut(&block) else { return false };
        self.dirty_tiles -= u64::from(b.dirty.replace(bit, false));
        let was = b.resident.replace(bit, false);
        self.resident_tiles -= u64::from(was);
        was
    }

    /// Forgets that the tile holds one value, and returns whether it was known to.
    pub(crate) fn clear_uniform(&mut self, tile: TileId) -> bool {
        let (block, bit) = self.tile_at(tile);
        let Some(b) = self.blocks.get_mut(&block) else { return false };
        let was = b.uniform.replace(bit, false);
        self.uniform_tiles -= u64::from(was);
        self.note_if_empty(block);
        was
    }

    /// Every mapped page, in memory order.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = PageId> + '_ {
        let per_block = self.block_shift - self.page_shift;
        self.blocks
            .iter()
            .flat_map(move |(&block, b)| ones(&b.mapped).map(move |i| PageId((block << per_block) + i)))
    }

    /// Every resident tile, in memory order.
    pub(crate) fn resident(&self) -> impl Iterator<Item = TileId> + '_ {
        let shift = self.block_shift;
        self.blocks
            .iter()
            .flat_map(move |(&block, b)| ones(&b.resident).map(move |i| TileId((block << shift) + i)))
    }

    /// Every tile known to hold one value, in memory order.
    pub(crate) fn uniform(&self) -> impl Iterator<Item = TileId> + '_ {
        let shift = self.block_shift;
        self.blocks
            .iter()
            .flat_map(move |(&block, b)| ones(&b.uniform).map(move |i| TileId((block << shift) + i)))
    }

    /// Groups of 64 tiles in which any bit may be set.
    pub(crate) fn groups(&self) -> impl Iterator<Item = u64> + '_ {
        let shift = self.block_shift - 6;
        let used = self.blocks.iter().filter(|(_, b)| b.emptied == 0);
        used.flat_map(move |(&block, _)| block << shift..(block + 1) << shift)
    }

    /// Blocks of planes in use: what the table's memory is in proportion to, but for a number of empty ones.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len() - self.empty_blocks
    }

    /// Tiles of which nothing is known, none being mapped or uniform: a run of `tiles` of them (a power of two) or more, around one of which something was. `None` while few such are kept.
    pub(crate) fn take_emptied(&mut self, tiles: u64) -> Option<Range<u64>> {
        let span = tiles.max(1 << self.block_shift);
        while self.empty_blocks > EMPTY_BLOCKS {
            let (block, number) = self.emptied.pop_front()?;
            if self.blocks.get(&block).is_none_or(|b| b.emptied != number) {
                continue;
            }
            let first = (block << self.block_shift) & !(span - 1);
            let run = first >> self.block_shift..(first + span) >> self.block_shift;
            let all_empty = self.blocks.range(run.clone()).all(|(_, b)| b.emptied != 0);
            let gone: Vec<_> = if all_empty {
                self.blocks.range(run).map(|(&block, _)| block).collect()
            } else {
                vec![block]
            };
            self.empty_blocks -= gone.len();
            for block in gone {
                self.blocks.remove(&block);
            }
            if all_empty {
                return Some(first..first + span);
            }
        }
        None
    }

    fn note_if_empty(&mut self, index: u64) {
        let Some(b) = self.blocks.get_mut(&index).filter(|b| b.emptied == 0) else { return };
        if b.mapped.any() || b.uniform.any() {
            return;
        }
        self.emptyings += 1;
        self.empty_blocks += 1;
        b.emptied = self.emptyings;
        self.emptied.push_back((index, self.emptyings));
        if self.emptied.len() > 4 * EMPTY_BLOCKS.max(self.empty_blocks) {
            // Few of these are the last of their blocks.
            let blocks = &self.blocks;
            self.emptied.retain(|(block, number)| blocks.get(block).is_some_and(|b| b.emptied == *number));
        }
    }

    /// A block that something is about to be noted in.
    fn block(&mut self, index: u64) -> &mut Block {
        let (tiles, page_shift) = (1usize << self.block_shift, self.page_shift);
        let block = self.blocks.entry(index).or_insert_with(|| Block {
            mapped: Bits::repeat(false, tiles >> page_shift),
            resident: Bits::repeat(false, tiles),
            dirty: Bits::repeat(false, tiles),
            uniform: Bits::repeat(false, tiles),
            emptied: 0,
        });
        self.empty_blocks -= usize::from(block.emptied != 0);
        block.emptied = 0;
        block
    }

    fn page_at(&self, page: PageId) -> (u64, usize) {
        let per_block = self.block_shift - self.page_shift;
        (page.0 >> per_block, index(page.0, per_block))
    }

    fn tile_at(&self, tile: TileId) -> (u64, usize) {
        (tile.0 >> self.block_shift, index(tile.0, self.block_shift))
    }

    fn tiles_at(&self, page: PageId) -> (u64, Range<usize>) {
        let (block, page) = self.page_at(page);
        (block, page << self.page_shift..(page + 1) << self.page_shift)
    }

    /// Whether a block's planes agree with each other: resident tiles have memory, dirty ones are resident, uniform ones are not.
    fn is_valid(&self, block: u64) -> bool {
        let Some(b) = self.blocks.get(&block) else { return true };
        let subset =
            |a: &Bits, of: &Bits| a.as_raw_slice().iter().zip(of.as_raw_slice()).all(|(a, of)| a & !of == 0);
        let disjoint =
            |a: &Bits, b: &Bits| a.as_raw_slice().iter().zip(b.as_raw_slice()).all(|(a, b)| a & b == 0);
        let backed = ones(&b.resident).all(|tile| b.mapped[index(tile >> self.page_shift, 63)]);
        backed && subset(&b.dirty, &b.resident) && disjoint(&b.resident, &b.uniform)
    }
}

/// The low `bits` of `v`, as an index.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a block has at most 2^46 tiles, and 64-bit targets are the only ones"
)]
fn index(v: u64, bits: u32) -> usize {
    (v & ((1 << bits) - 1)) as usize
}

/// Positions of the set bits, found word by word.
fn ones(bits: &Bits) -> impl Iterator<Item = u64> + '_ {
    (0u64..).zip(bits.as_raw_slice()).filter(|&(_, &word)| word != 0).flat_map(|(i, &word)| {
        std::iter::successors(Some(word), |w| Some(w & w.wrapping_sub(1)))
            .take_while(|&w| w != 0)
            .map(move |w| i * 64 + u64::from(w.trailing_zeros()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_proportion_to_what_is_committed() {
        let mut t = PageTable::new(8);
        for page in [0, 1, 1 << 40, (1 << 40) + 1] {
            t.set_mapped(PageId(page));
            let _ = t.set_resident(TileId(page * 8 + 3));
        }
        assert_eq!((t.blocks(), t.mapped_pages(), t.resident_tiles()), (2, 4, 4));
        assert_eq!(t.mapped().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 1 << 40, (1 << 40) + 1]);
        for page in [0, 1, 1 << 40, (1 << 40) + 1] {
            t.clear_page(PageId(page));
        }
        assert_eq!((t.blocks(), t.mapped_pages(), t.resident_tiles()), (0, 0, 0));
    }

    #[test]
    fn a_page_gives_its_resident_tiles_as_words() {
        let mut t = PageTable::new(128);
        t.set_mapped(PageId(5));
        let _ = t.set_resident(TileId(5 * 128 + 1));
        let _ = t.set_resident(TileId(5 * 128 + 127));
        assert_eq!(t.resident_words(PageId(5)), [(TileId(640), 2), (TileId(704), 1 << 63)]);
        assert_eq!(t.resident().map(|t| t.0).collect::<Vec<_>>(), [641, 767]);
        assert!(t.has_resident(PageId(5)) && !t.has_resident(PageId(4)) && !t.is_dirty(PageId(5)));
    }

    #[test]
    fn small_pages_share_words() {
        let mut t = PageTable::new(2);
        t.set_mapped(PageId(33));
        let _ = t.set_resident(TileId(67));
        assert_eq!(t.resident_words(PageId(33)), [(TileId(66), 2)]);
        assert_eq!(t.resident_words(PageId(32)), []);
    }

    #[test]
    fn uniform_and_resident_exclude_each_other() {
        let mut t = PageTable::new(1);
        assert!(t.set_uniform(TileId(7)));
        assert!(t.is_uniform(TileId(7)));
        t.set_mapped(PageId(7));
        let _ = t.set_resident(TileId(7));
        assert!(!t.is_uniform(TileId(7)) && t.is_resident(TileId(7)));
        assert!(!t.set_uniform(TileId(7)), "a resident tile keeps its memory");
        assert_eq!((t.uniform_tiles(), t.resident_tiles()), (0, 1));
    }

    #[test]
    fn dirty_tiles_are_resident_ones() {
        let mut t = PageTable::new(4);
        t.set_mapped(PageId(2));
        let _ = t.set_resident(TileId(9));
        let _ = t.set_resident(TileId(10));
        for tile in [8, 9, 9, 10, 500_000] {
            t.set_dirty(TileId(tile));
        }
        assert_eq!((t.dirty_tiles(), t.dirty_pages(), t.is_dirty(PageId(2))), (2, 1, true));
        t.clear_dirty(TileId(9));
        t.clear_dirty(TileId(9));
        assert_eq!((t.dirty_tiles(), t.dirty_pages()), (1, 1));
        t.clear_page(PageId(2));
        assert_eq!((t.dirty_tiles(), t.dirty_pages()), (0, 0));
        assert_eq!(t.groups().count(), 0);
        t.set_mapped(PageId(1024));
        assert_eq!(t.groups().collect::<Vec<_>>(), (64..128).collect::<Vec<_>>());
    }

    #[test]
    fn runs_without_anything_are_taken_once_many_blocks_became_empty() {
        let mut t = PageTable::new(1);
        let touch = |t: &mut PageTable, block: u64| {
            t.set_mapped(PageId(block << 12));
            t.clear_page(PageId(block << 12));
        };
        for block in 0..1024 {
            touch(&mut t, 2 * block);
        }
        assert_eq!(t.take_emptied(1), None, "they may come back");
        // Used once more, it is the last to go.
        touch(&mut t, 0);
        touch(&mut t, 5000);
        assert_eq!(t.take_emptied(1), Some(2 << 12..3 << 12));
        assert_eq!(t.take_emptied(1), None);
        // Beside the next one something is mapped: its run stays as a whole.
        t.set_mapped(PageId(5 << 12));
        touch(&mut t, 5002);
        touch(&mut t, 5004);
        assert_eq!(t.take_emptied(2 << 12), Some(6 << 12..8 << 12));
        assert_eq!((t.take_emptied(2 << 12), t.empty_blocks, t.blocks()), (None, 1024, 1));
        assert_eq!(t.blocks.len(), 1025);
        // However often the same ones come and go.
        for round in 0..20 {
            (0..512).for_each(|block| touch(&mut t, 8000 + block));
            while t.take_emptied(1).is_some() {}
            assert!(t.emptied.len() <= 4 * 1024 && t.blocks.len() == 1025, "round {round}");
        }
        assert!((8000..8512).all(|block| t.blocks.contains_key(&block)));
    }
}
