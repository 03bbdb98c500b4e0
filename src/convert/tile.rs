//! Owns the shape of the tiles that an input is read in. Knows nothing of what becomes of them.

use crate::geometry::Extent;

/// A tile of the input is no larger, unless it is a chunk of it.
const TILE_BYTES: u64 = 512 << 10;

/// A tile of an input that decodes chunks is no smaller.
const CHUNK_TILE_BYTES: u64 = 64 << 10;

/// The greatest side of a tile.
const MOST_SIDE: u64 = 1 << 14;

/// A tile's side is no smaller only to divide a group's.
const LEAST_SIDE: u64 = 16;

/// The shape of the input's tiles: long in x where it is read in rows, or what the input decodes at once; powers of two that divide a group (what is read
/// together) where possible.
pub(super) fn tile(group: [u64; 3], full: [u64; 3], input_chunk: Option<Extent>, voxel_bytes: u64) -> Extent {
    let fitting = |axis: usize, most: u64| {
        let most = 1 << most.max(1).ilog2();
        let whole = if group[axis] == full[axis] {
            full[axis].next_power_of_two()
        } else {
            (1 << group[axis].trailing_zeros()).max(LEAST_SIDE)
        };
        whole.min(most)
    };
    if let Some(chunk) = input_chunk {
        let mut sides = chunk.to_array().map(|side| side.clamp(1, 256));
        while sides.iter().product::<u64>() * voxel_bytes < CHUNK_TILE_BYTES {
            sides = sides.map(|side| side * 2);
        }
        return Extent::from([0, 1, 2].map(|a| fitting(a, sides[a])));
    }
    let left = (TILE_BYTES / voxel_bytes).max(1);
    let x = fitting(0, left.min(MOST_SIDE));
    let y = fitting(1, left / x);
    Extent::new(x, y, fitting(2, left / (x * y)))
}
