//! Owns what readers see of an array's tiles without any lock: the published plane, uniform values, stamps and value ranges.
//!
//! | plane | per | zero means |
//! | --- | --- | --- |
//! | resident, uniform, special, open | tile: one bit each; the words of the same 64 tiles lie side by side. Open: a writer may store to it | not known |
//! | values | tile: what a uniform tile holds, if it is special: not the fill value | nothing |
//! | stamps | page: the clock when it was last asked for | never |
//! | ranges | cell of a tile: its smallest and largest value | not known |
//!
//! All of them are [`ZeroedWords`]: reserved in full, with memory only where something was written, so a bit is one load away whatever the extent. Of bits and stamps it is given back a while after the last tile
//! around has gone ([`crate::page_table`]).
//! Bits are set after the data is in place and cleared before it goes; see [`crate::engine::frame`] for the protocol.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::ZeroedWords;
use crate::error::BackendError;
use crate::layout::{Layout, PageId, TileId};
use crate::sync::{AtomicU64, Ordering};
use crate::voxel::Voxel;

mod ranges;

pub(crate) use ranges::{KnownRanges, Ranges, cell_region, cell_shape, pack_range, unpack_range};

/// Whether ranges are kept, and what is known of them before anything is loaded.
pub(crate) type RangesKept = Option<Option<Arc<dyn KnownRanges>>>;

/// Words of a group of 64 tiles: resident, uniform, special and open; a group never crosses a cache line.
pub(crate) const GROUP_WORDS: u64 = 4;

/// The published planes of one array.
#[derive(Debug)]
pub(crate) struct Planes {
    bits: ZeroedWords,
    values: ZeroedWords,
    stamps: ZeroedWords,
    ranges: Option<Ranges>,
    fill: VoxelWords,
    voxel_bytes: usize,
    value_words: usize,
    page_shift: u32,
    changes: Changes,
}

/// Groups of 64 tiles whose bits have changed since somebody who keeps a copy of them last looked. Nothing is noted until somebody does.
#[derive(Debug, Default)]
struct Changes {
    watched: AtomicBool,
    groups: Mutex<BTreeSet<u64>>,
}

/// The bytes of a voxel of up to 64 bytes, in words.
pub(crate) type VoxelWords = [u64; 8];

impl Planes {
    /// Planes for the layout with no bit set; `ranges` asks for the plane of value ranges.
    ///
    /// # Errors
    /// The system's refusal to reserve their address space.
    pub(crate) fn new<T: Voxel>(layout: &Layout, fill: T, ranges: RangesKept) -> Result<Self, BackendError> {
        let slots = layout.tile_slots();
        let value_words = size_of::<T>().div_ceil(8);
        let ranges = ranges.map(|known| Ranges::new(layout, known)).transpose()?;
        Ok(Self {
            bits: ZeroedWords::new(slots.div_ceil(64) * GROUP_WORDS)?,
            values: ZeroedWords::new(slots * value_words as u64)?,
            stamps: ZeroedWords::new(layout.page_count())?,
            ranges,
            fill: to_words(fill),
            voxel_bytes: size_of::<T>(),
            value_words,
            page_shift: layout.tiles_per_page().trailing_zeros(),
            changes: Changes::default(),
        })
    }

    /// Planes for another array of the same layout and voxels, with no bit set.
    ///
    /// # Errors
    /// The system's refusal to reserve their address space.
    pub(crate) fn beside(&self, layout: &Layout) -> Result<Self, BackendError> {
        let slots = layout.tile_slots();
        let ranges =
            self.ranges.as_ref().map(|ranges| Ranges::new(layout, ranges.known().cloned())).transpose()?;
        Ok(Self {
            bits: ZeroedWords::new(slots.div_ceil(64) * GROUP_WORDS)?,
            values: ZeroedWords::new(slots * self.value_words as u64)?,
            stamps: ZeroedWords::new(layout.page_count())?,
            ranges,
            changes: Changes::default(),
            ..*self
        })
    }

    /// Takes over what another array's planes have noted of ranges, if they keep any. **Cost**: a word for each cell of every tile that something was noted of.
    pub(crate) fn adopt_ranges(&self, of: &Self) {
        if let (Some(ranges), Some(theirs)) = (&self.ranges, &of.ranges) {
            ranges.adopt(theirs);
        }
    }

    /// Makes resident tiles visible: those of one word, from `tile`'s on. Called under the lock that all changes of resident bits are made under.
    #[inline]
    pub(crate) fn publish_resident(&self, tile: TileId, mask: u64) {
        change(self.resident_word(tile), |word| word | mask);
        self.note_change(tile);
    }

    /// To be called after the tile's bits were changed, and before a barrier that its memory may go after.
    #[inline]
    pub(crate) fn note_change(&self, tile: TileId) {
        if self.changes.watched.load(std::sync::atomic::Ordering::Acquire) {
            self.groups().insert(tile.0 >> 6);
        }
    }

    /// Notes changes from now on. What was set before is among the first if `groups` names it. Called under the lock that all changes are made under.
    pub(crate) fn watch(&self, groups: impl Iterator<Item = u64>) {
        let all = self.bits.len() as u64 / GROUP_WORDS;
        self.groups().extend(groups.filter(|&group| group < all));
        self.changes.watched.store(true, std::sync::atomic::Ordering::Release);
    }

    /// The groups that have changed since the last call, in order. A change that this does not show is one whose barrier comes after this call.
    pub(crate) fn take_changes(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.groups())
    }

    /// Puts groups back that were taken in vain.
    pub(crate) fn put_changes_back(&self, groups: BTreeSet<u64>) {
        self.groups().extend(groups);
    }

    fn groups(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.changes.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The word that holds the tile's resident bit.
    #[inline(always)]
    pub(crate) fn resident_word(&self, tile: TileId) -> &AtomicU64 {
        &self.bits[at(tile.0 >> 6) * at(GROUP_WORDS)]
    }

    /// The word that holds the tile's uniform bit.
    #[inline(always)]
    pub(crate) fn uniform_word(&self, tile: TileId) -> &AtomicU64 {
        &self.bits[at(tile.0 >> 6) * at(GROUP_WORDS) + 1]
    }

    /// The word that holds the bit of a uniform tile that does not hold the fill value.
    #[inline(always)]
    pub(crate) fn special_word(&self, tile: TileId) -> &AtomicU64 {
        &self.bits[at(tile.0 >> 6) * at(GROUP_WORDS) + 2]
    }

    /// Takes a uniform tile's value back: it has memory from now on, and other values. To be called where nobody reads the tile.
    #[inline]
    pub(crate) fn retract_uniform(&self, tile: TileId) {
        let mask = !(1 << (tile.0 & 63));
        self.uniform_word(tile).fetch_and(mask, Ordering::AcqRel);
        self.special_word(tile).fetch_and(mask, Ordering::AcqRel);
        self.note_change(tile);
    }

    /// Takes a resident tile out of sight. To be called where nobody reads it, under the lock that all changes of resident bits are made under.
    pub(crate) fn retract_resident(&self, tile: TileId) {
        change(self.resident_word(tile), |word| word & !(1 << (tile.0 & 63)));
        self.note_change(tile);
    }

    /// Whether a writer may store to the tile now.
    #[inline(always)]
    pub(crate) fn is_open(&self, tile: TileId) -> bool {
        is_visible(self.open_word(tile), tile.0)
    }

    /// Lets the array's one writer store to a tile that it holds, or no more.
    pub(crate) fn set_open(&self, tile: TileId, open: bool) {
        let mask = 1 << (tile.0 & 63);
        if open {
            publish(self.open_word(tile), mask);
        } else {
            self.open_word(tile).fetch_and(!mask, Ordering::AcqRel);
        }
    }

    #[inline(always)]
    fn open_word(&self, tile: TileId) -> &AtomicU64 {
        &self.bits[at(tile.0 >> 6) * at(GROUP_WORDS) + 3]
    }

    /// All bits: a group of words for every 64 tiles, the first of them their resident bits.
    pub(crate) fn bits(&self) -> &[AtomicU64] {
        &self.bits
    }

    #[inline(always)]
    pub(crate) fn is_resident(&self, tile: TileId) -> bool {
        is_visible(self.resident_word(tile), tile.0)
    }

    #[inline(always)]
    pub(crate) fn is_uniform(&self, tile: TileId) -> bool {
        is_visible(self.uniform_word(tile), tile.0)
    }

    #[inline(always)]
    pub(crate) fn stamp(&self, page: PageId) -> &AtomicU64 {
        &self.stamps[at(page.0)]
    }

    /// Has the page's stamp fetched, without waiting for it.
    #[inline(always)]
    pub(crate) fn prefetch_stamp(&self, page: PageId) {
        self.stamps.prefetch(at(page.0));
    }

    /// Notes that the tile holds `value` everywhere and makes that visible.
    pub(crate) fn publish_uniform(&self, tile: TileId, value: VoxelWords) {
        let mask = 1 << (tile.0 & 63);
        if value != self.fill {
            for (i, word) in value.into_iter().take(self.value_words).enumerate() {
                self.values[at(tile.0) * self.value_words + i].store(word, Ordering::Relaxed);
            }
            publish(self.special_word(tile), mask);
        }
        publish(self.uniform_word(tile), mask);
        if let Some(ranges) = &self.ranges {
            ranges.note(tile);
        }
        self.note_change(tile);
    }

    /// What a tile holds whose uniform bit was seen.
    #[inline(always)]
    pub(crate) fn uniform_value<T: Voxel>(&self, tile: TileId) -> T {
        from_words(&self.uniform_words(tile))
    }

    /// What tiles hold that do not exist, in words.
    pub(crate) fn fill_words(&self) -> &VoxelWords {
        &self.fill
    }

    /// Bytes of a voxel.
    pub(crate) fn voxel_bytes(&self) -> usize {
        self.voxel_bytes
    }

    /// What a tile holds whose uniform bit was seen, in words.
    #[inline(always)]
    pub(crate) fn uniform_words(&self, tile: TileId) -> VoxelWords {
        if !is_visible(self.special_word(tile), tile.0) {
            return self.fill;
        }
        let mut words = VoxelWords::default();
        for (i, word) in words.iter_mut().take(self.value_words).enumerate() {
            *word = self.values[at(tile.0) * self.value_words + i].load(Ordering::Relaxed);
        }
        words
    }

    /// The fewest tiles whose bits and stamps can be given back: a power of two. Their number begins at a multiple of it.
    pub(crate) fn fewest_forgotten(&self) -> u64 {
        // Bits and stamps take whole OS pages then.
        let os_page_words = rustix::param::page_size() as u64 / 8;
        (64 / GROUP_WORDS * os_page_words).max(os_page_words << self.page_shift)
    }

    /// Gives the memory back that the bits and stamps of tiles take, none of which is resident, uniform, or in a page with memory: so many or more. Called under the lock that all changes are made under.
    pub(crate) fn forget(&self, tiles: Range<u64>) {
        let groups = at(tiles.start >> 6)..at(tiles.end >> 6);
        let words = groups.start * at(GROUP_WORDS)..groups.end * at(GROUP_WORDS);
        debug_assert!(
            self.bits[words.start..words.end.min(self.bits.len())]
                .iter()
                .all(|w| w.load(Ordering::Relaxed) == 0)
        );
        self.bits.forget(words);
        self.stamps.forget(at(tiles.start >> self.page_shift)..at(tiles.end >> self.page_shift));
    }

    /// The plane of value ranges, if there is one.
    #[inline]
    pub(crate) fn ranges(&self) -> Option<&Ranges> {
        self.ranges.as_ref()
    }
}

/// The value's bytes, zero-padded.
pub(crate) fn to_words<T: Voxel>(value: T) -> VoxelWords {
    let mut words = VoxelWords::default();
    bytemuck::bytes_of_mut(&mut words)[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
    words
}

/// The value at the beginning of the words, which are at least as long.
#[inline(always)]
fn from_words<T: Voxel>(words: &[u64]) -> T {
    bytemuck::pod_read_unaligned(&bytemuck::cast_slice(words)[..size_of::<T>()])
}

/// An index into a plane: planes are slices, so whatever lies inside one fits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "64-bit targets are the only ones")]
fn at(i: u64) -> usize {
    i as usize
}

/// Changes a word that nobody else changes meanwhile: what was written before is seen by whoever sees that. Without an atomic operation on the word, which would wait for all stores before it.
#[inline]
pub(crate) fn change(word: &AtomicU64, to: impl FnOnce(u64) -> u64) {
    word.store(to(word.load(Ordering::Relaxed)), Ordering::Release);
}

/// Sets bits that others may change meanwhile, such as those of tiles that hold one value: what was written before is seen by whoever sees them. For resident bits there is [`change`].
#[inline]
pub(crate) fn publish(word: &AtomicU64, mask: u64) {
    word.fetch_or(mask, Ordering::Release);
}

/// Whether the bit is set; if so, the data published with it may be read.
#[inline(always)]
pub(crate) fn is_visible(word: &AtomicU64, bit: u64) -> bool {
    word.load(Ordering::Acquire) >> (bit & 63) & 1 == 1
}

#[cfg(all(test, not(vastgrid_loom)))]
mod tests {
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::LayoutSpec;

    fn planes<T: Voxel>(fill: T) -> Planes {
        let layout =
            Layout::new(Extent::cube(1 << 12), size_of::<T>(), LayoutSpec::default(), 4096, 1 << 16).unwrap();
        Planes::new(&layout, fill, Some(None)).unwrap()
    }

    #[test]
    fn uniform_values_are_kept_exactly() {
        let p = planes(-1000i16);
        p.publish_uniform(TileId(3), to_words(17i16));
        p.publish_uniform(TileId(70), to_words(-1000i16));
        assert_eq!(p.uniform_value::<i16>(TileId(3)), 17);
        assert_eq!(p.uniform_value::<i16>(TileId(70)), -1000);
        assert!(p.is_uniform(TileId(70)) && !p.is_uniform(TileId(6)) && !p.is_resident(TileId(70)));
        let wide = planes([1.5f64, -2.0]);
        wide.publish_uniform(TileId(1), to_words([f64::MAX, 3.0]));
        assert_eq!(wide.uniform_value::<[f64; 2]>(TileId(1)), [f64::MAX, 3.0]);
    }
}
