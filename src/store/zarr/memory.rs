//! Owns [`Kept`]: the memory that a level takes while it is written, reckoned before. Knows nothing of in which order it is written.

use super::finisher;
use super::objects::Objects;
use super::options::ZarrOptions;
use super::past_cache::{BUFFER_BYTES, UNDER_WAY};
use super::ranges;
use crate::geometry::Extent;
use crate::geometry::boxes::voxels;

/// Bytes of a hash table's entry for an object, its allocation and the room that tables leave empty: about.
const ENTRY_BYTES: u64 = 160;

/// Bytes of a shard's index for each chunk, in memory as in the file.
const INDEX_BYTES: u64 = 16;

/// Bytes of a shard that is open, besides its index: key, file, path.
const SHARD_BYTES: u64 = 1024;

/// Objects that wait to be durable or to be remembered, with a copy of their ranges each.
const WAITING: u64 = 48;

/// The most cells of ranges that are encoded at once.
const RANGES_CELLS: u64 = 64 * 64 * 64;

/// Memory of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Whatever is written: which objects there are, and the ranges of their values.
    pub(crate) level_bytes: u64,
    /// For each shard that is open.
    pub(crate) shard_bytes: u64,
}

impl Kept {
    pub(crate) fn of(extent: Extent, options: &ZarrOptions, ranges: bool, voxel_bytes: u64) -> Self {
        let (sides, object, chunk) =
            (extent.to_array(), options.object().to_array(), options.chunk.to_array());
        let objects = [0, 1, 2].map(|a| sides[a].div_ceil(object[a]));
        // Closed ones, complete ones, and those that were found.
        let sets = Objects::bytes(objects).saturating_mul(if options.resume { 3 } else { 2 });
        let cell = if ranges { ranges::cell(extent, options) } else { None };
        let ranges = cell.map_or(0, |cell| {
            let cell = cell.to_array();
            let cells = |of: [u64; 3]| voxels(Extent::from([0, 1, 2].map(|a| of[a].div_ceil(cell[a]))));
            let pair_bytes = 2 * voxel_bytes;
            let all = cells(sides).saturating_mul(pair_bytes);
            let of_object = cells([0, 1, 2].map(|a| object[a].min(sides[a]))).saturating_mul(pair_bytes);
            let entries = voxels(objects.into()).saturating_mul(ENTRY_BYTES);
            // What was found is read from the journal first.
            let found = if options.resume { all } else { 0 };
            let waiting = of_object.saturating_mul(WAITING).min(all.saturating_mul(2));
            let encoded = cells(sides).min(RANGES_CELLS) * pair_bytes * 3;
            [entries, found, waiting, encoded].into_iter().fold(all, u64::saturating_add)
        });
        let chunks = voxels(Extent::from([0, 1, 2].map(|a| object[a] / chunk[a].max(1))));
        Self {
            level_bytes: sets.saturating_add(ranges),
            shard_bytes: chunks.saturating_mul(INDEX_BYTES + 1).saturating_add(SHARD_BYTES),
        }
    }
}

/// Open shards that are written past the system's cache, at most.
const MOST_PAST_CACHE: u64 = 16;

/// Memory for writing past the system's cache while so many shards are open, if there is `free_bytes` for that; 0 where it is best left.
pub(crate) fn past_cache_bytes(open: u64, options: &ZarrOptions, voxel_bytes: u64, free_bytes: u64) -> u64 {
    let buffer_bytes = BUFFER_BYTES as u64;
    // Those that are about to be durable have theirs until then.
    let tails = open.min(MOST_PAST_CACHE) + finisher::UNDER_WAY as u64;
    let buffers = (tails + UNDER_WAY as u64).min(free_bytes / buffer_bytes);
    let fill_buffers = voxels(options.object()).saturating_mul(voxel_bytes) > buffer_bytes;
    if fill_buffers && buffers > UNDER_WAY as u64 { buffers * buffer_bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_the_volume_takes_nothing_but_its_place_in_the_index() {
        let options = |shard: u64| ZarrOptions {
            chunk: Extent::cube(64),
            shard: Some(Extent::cube(shard)),
            ..ZarrOptions::default()
        };
        let small = Extent::new(1000, 900, 64);
        let [one, many] = [64 * 64, 1024].map(|shard| Kept::of(small, &options(shard), true, 2));
        assert!(one.level_bytes <= many.level_bytes, "{one:?} {many:?}");
        assert!(one.shard_bytes >= 16 << 18 && many.shard_bytes < 1 << 17, "{one:?} {many:?}");
        let none = Kept::of(small, &options(1024), false, 2);
        // 63 x 57 x 4 cells of 16 voxels a side.
        assert!(many.level_bytes - none.level_bytes >= 63 * 57 * 4 * 4, "{none:?} {many:?}");
        let again = ZarrOptions { resume: true, ..options(1024) };
        assert!(Kept::of(small, &again, true, 2).level_bytes > many.level_bytes);
    }
}
