//! Owns the layout of a block: what a kernel can look up of 2^12 tiles, as one piece of device memory. Knows nothing of its contents' meaning on the host.
//!
//! ```text
//! byte     0   64 groups of 4 words: resident, uniform, dirty, spare; one bit a tile, 64 tiles a group
//!       2048   4096 words: what uniform tiles hold (see `word_of`)
//!      34816   4096 words: ranges of the tiles' values, packed as on the host: zero where not known
//!      67584   end
//! ```
//!
//! Tiles are counted in memory order, so a block is a run of tile ids. A block of zeros says of all its tiles that nothing is known: one such block stands in for all that nobody needs.

use std::ops::Range;

use crate::layout::{Layout, TileId};
use crate::planes::pack_range;

/// log2 of the tiles of a block.
pub const TILES_LOG2: u32 = 12;
/// Tiles of a block.
pub const TILES: u64 = 1 << TILES_LOG2;
/// Size of a group: what is known of 64 tiles, a bit each.
pub const GROUP_BYTES: u64 = 32;
/// Which word of a group says that a tile's memory may be read.
pub const RESIDENT_WORD: u64 = 0;
/// Which word of a group says that a tile holds one value.
pub const UNIFORM_WORD: u64 = 1;
/// Which word of a group says that a kernel wrote to a tile.
pub const DIRTY_WORD: u64 = 2;
/// Where the values of uniform tiles begin.
pub const VALUES_BYTES: u64 = TILES / 64 * GROUP_BYTES;
/// Where the ranges begin.
pub const RANGES_BYTES: u64 = VALUES_BYTES + TILES * 8;
/// Size of a block.
pub const BYTES: u64 = RANGES_BYTES + TILES * 8;

/// How many blocks describe an array: the length of the table of their addresses.
#[must_use]
pub fn count(layout: &Layout) -> u64 {
    layout.tile_slots().div_ceil(TILES)
}

/// The block that describes a tile.
#[must_use]
pub fn of(tile: TileId) -> u64 {
    tile.0 >> TILES_LOG2
}

/// The tile ids that a block describes.
#[must_use]
pub fn tiles(block: u64) -> Range<u64> {
    block << TILES_LOG2..(block + 1) << TILES_LOG2
}

/// Offset in its block of a word of the tile's group, such as [`RESIDENT_WORD`]. The tile's bit is `id % 64`.
#[must_use]
pub fn group_word_bytes(tile: TileId, word: u64) -> u64 {
    (tile.0 & (TILES - 1)) / 64 * GROUP_BYTES + word * 8
}

/// Offset in its block of the value that a uniform tile holds.
#[must_use]
pub fn value_bytes(tile: TileId) -> u64 {
    VALUES_BYTES + (tile.0 & (TILES - 1)) * 8
}

/// Offset in its block of a tile's range.
#[must_use]
pub fn range_bytes(tile: TileId) -> u64 {
    RANGES_BYTES + (tile.0 & (TILES - 1)) * 8
}

/// The word that stands for a voxel's value in a block: its bytes, zero-padded to 8; of a longer voxel the 8 bytes that it repeats, or `None` where it does not.
#[must_use]
pub fn word_of(voxel: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    let first = voxel.get(..8).unwrap_or(voxel);
    word[..first.len()].copy_from_slice(first);
    let repeats = voxel.len() <= 8 || voxel.chunks(8).all(|part| part == first);
    repeats.then(|| u64::from_le_bytes(word))
}

/// The word that stands for a tile's range of values, least first. (+infinity, -infinity) is a tile of nothing but NaN; a range that is not known is 0.
#[must_use]
pub fn range_word(range: Option<(f32, f32)>) -> u64 {
    range.map_or(0, pack_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_packed_as_kernels_read_them() {
        assert_eq!(range_word(Some((0.0, 0.0))), u64::MAX);
        assert_eq!(range_word(Some((-1.5, 7.0))), !(0xbfc0_0000 << 32 | 0x40e0_0000));
        assert_eq!(range_word(None), 0);
    }

    #[test]
    fn a_long_voxel_has_a_word_if_it_repeats_itself() {
        assert_eq!(word_of(&[1, 2]), Some(0x0201));
        assert_eq!(word_of(&7u64.to_le_bytes()), Some(7));
        assert_eq!(word_of(&[0; 64]), Some(0));
        assert_eq!(word_of(&[[1, 0, 0, 0, 0, 0, 0, 2]; 4].concat()), Some(1 | 2 << 56));
        assert_eq!(word_of(bytemuck::bytes_of(&[1.0f32, 1.0, 1.0, 2.0])), None);
    }

    #[test]
    fn places_in_a_block_do_not_overlap() {
        assert_eq!((VALUES_BYTES, RANGES_BYTES, BYTES), (2048, 34816, 67584));
        let last = TileId(3 * TILES - 1);
        assert_eq!(of(last), 2);
        assert!(tiles(2).contains(&last.0) && !tiles(2).contains(&(last.0 + 1)));
        assert_eq!(group_word_bytes(last, 3) + 8, VALUES_BYTES);
        assert_eq!(value_bytes(last) + 8, RANGES_BYTES);
        assert_eq!(range_bytes(last) + 8, BYTES);
    }
}
