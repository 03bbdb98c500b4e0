//! Owns the shape of the tiles that an input is read in. Knows nothing of what becomes of them.

use crate::error::LayoutError;
use crate::geometry::Extent;
use crate::layout::MAX_RESERVED_BYTES;

/// A tile of the input is no larger, unless it is a chunk of it.
const TILE_BYTES: u64 = 512 << 10;

/// A tile of an input that decodes chunks is no smaller.
const CHUNK_TILE_BYTES: u64 = 64 << 10;

/// The greatest side of a tile.
const MOST_SIDE: u64 = 1 << 14;

/// A tile's side is no smaller only to divide a group's.
const LEAST_SIDE: u64 = 16;

/// Refuses volumes without voxels, and those that no memory addresses: sides of others are far from the end of 64 bits.
pub(super) fn check_extent(extent: Extent, voxel_bytes: u64) -> Result<(), LayoutError> {
    if extent.is_empty() {
        return Err(LayoutError::EmptyExtent { extent });
    }
    let bytes = extent.checked_volume().and_then(|voxels| voxels.checked_mul(voxel_bytes));
    if bytes.is_none_or(|bytes| bytes > MAX_RESERVED_BYTES) {
        return Err(LayoutError::BeyondAddressSpace { extent, max_bytes: MAX_RESERVED_BYTES });
    }
    Ok(())
}

/// The shape of the input's tiles: long in x where it is read in rows, or what the input decodes at once; powers of two that divide a group (what is read
/// together) where possible. Sides are those of a volume that [`check_extent`] took.
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
    // What is as wide as the volume is read in rows just as well.
    if let Some(chunk) = input_chunk.filter(|chunk| chunk.x < full[0]) {
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
