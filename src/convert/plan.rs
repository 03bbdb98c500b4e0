//! Owns [`Plan`]: which levels a conversion writes, and how it divides its budget. Knows nothing of how it is carried out.

use super::blocks::Levels;
use super::options::ConvertOptions;
use super::order::Shape;
use super::shards::open_shards;
use super::tile::tile;
use crate::error::{Error, ResidencyError};
use crate::geometry::Extent;
use crate::geometry::boxes::voxels;
use crate::pyramid::steps;
use crate::store::{Kept, past_cache_bytes};

/// Stretches of a file that are read at once are best this long.
const ROW_BYTES: u64 = 4096;

/// Tiles share pages up to this size, which is that of a huge page: moving a page costs little more than moving a small one, and its memory is found by one entry.
const PAGE_BYTES: u64 = 2 << 20;

/// Smaller tiles have the pages that the array gives them.
const LEAST_SHARED_BYTES: u64 = 64 << 10;

/// The least memory for tiles: pages are shared by several where these are small.
const POOL_BYTES: u64 = 1 << 20;

/// What a codec, and reading of blocks around what is wanted, take for themselves on each thread, about.
const CODEC_BYTES: u64 = 4 << 20;

/// Chunks that threads decode beside those that the input keeps take no more, about: large ones are shared.
const MOST_DECODED_BYTES: u64 = 64 << 20;

/// The most blocks of a row.
const MOST_ROW: u64 = 256;

/// What a conversion is going to write, and how much memory it takes for that.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The levels, the finest first.
    pub levels: Vec<PlannedLevel>,
    /// Bytes of a voxel.
    pub voxel_bytes: u64,
    /// The most memory that it takes, as far as that can be known before.
    pub memory_bytes: u64,
    /// What of it holds the input's tiles.
    pub pool_bytes: u64,
    /// What of it the input keeps.
    pub input_kept_bytes: u64,
    /// What of it collects what is written past the system's cache; 0 where all goes through it.
    pub past_cache_bytes: u64,
    /// Shape of such a tile.
    pub tile: Extent,
    /// Shape of a page in tiles, where there are several to one.
    pub(super) page: Option<Extent>,
    pub(super) shape: Shape,
}

/// One level of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlannedLevel {
    /// Its size in voxels.
    pub extent: Extent,
    /// Level-0 voxels per voxel along each axis.
    pub factor: [f64; 3],
    /// Bytes of its voxels before they are compressed.
    pub bytes: u64,
    /// Chunks it is encoded in.
    pub chunks: u64,
    /// The most objects (files) that it becomes.
    pub objects: u64,
}

/// Which levels there are, in blocks.
pub(super) fn levels(extent: Extent, options: &ConvertOptions) -> Levels {
    let mut steps = steps(extent, options.spacing, options.coarsest_voxels);
    steps.truncate(options.most_levels.max(1) - 1);
    Levels::new(extent, steps, options.zarr.chunk)
}

impl Plan {
    /// # Errors
    /// [`ResidencyError::OverBudget`]: the budget holds not even one block of each level for each thread.
    pub(super) fn new(
        levels: &Levels,
        options: &ConvertOptions,
        source_kept_bytes: u64,
        voxel_bytes: u64,
        threads: u64,
    ) -> Result<Self, Error> {
        let budget_bytes = options.budget_bytes;
        let bytes = |extent: Extent| voxels(extent).saturating_mul(voxel_bytes);
        let (chunk, object) = (options.zarr.chunk, options.zarr.object());
        let planned = |level: usize| PlannedLevel {
            extent: levels.extents[level],
            factor: levels.factor(level),
            bytes: bytes(levels.extents[level]),
            chunks: count(levels.extents[level], chunk),
            objects: count(levels.extents[level], object),
        };
        // What the input keeps comes first, up to half of all; where nothing fits beside that it keeps what is left.
        let kept = options.input_kept_bytes.unwrap_or(source_kept_bytes.min(budget_bytes / 2));
        let least_kept = options.input_kept_bytes.unwrap_or(0);
        let mut smallest = u64::MAX;
        for wanted in [kept, least_kept] {
            for shape in shapes(levels, options, voxel_bytes) {
                let memory = Memory::of(levels, shape, options, voxel_bytes, threads);
                let needed_bytes = memory.total().saturating_add(wanted);
                if needed_bytes <= budget_bytes {
                    let input_kept_bytes = kept.min(budget_bytes - memory.total());
                    let free_bytes = budget_bytes - memory.total() - input_kept_bytes;
                    let past_cache_bytes =
                        past_cache_bytes(memory.open_shards, &options.zarr, voxel_bytes, free_bytes);
                    return Ok(Self {
                        levels: (0..levels.count()).map(planned).collect(),
                        voxel_bytes,
                        memory_bytes: memory.total() + input_kept_bytes + past_cache_bytes,
                        pool_bytes: memory.pool,
                        input_kept_bytes,
                        past_cache_bytes,
                        tile: memory.tile,
                        page: memory.page,
                        shape,
                    });
                }
                smallest = smallest.min(needed_bytes);
            }
        }
        Err(ResidencyError::OverBudget { needed_bytes: smallest, budget_bytes }.into())
    }

    /// Bytes of all levels before they are compressed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.levels.iter().fold(0, |sum, level| sum.saturating_add(level.bytes))
    }
}

fn count(extent: Extent, side: Extent) -> u64 {
    voxels(Extent::new(extent.x.div_ceil(side.x), extent.y.div_ceil(side.y), extent.z.div_ceil(side.z)))
}

/// Groups that may be, the best first.
fn shapes(levels: &Levels, options: &ConvertOptions, voxel_bytes: u64) -> Vec<Shape> {
    let top = levels.count() - 1;
    let width = levels.grid(0).x;
    let mut rows = Vec::new();
    for row_level in 0..=top {
        let blocks: u64 = levels.steps[..row_level].iter().map(|step| step[0]).product();
        let most = if row_level == top { MOST_ROW / blocks.max(1) } else { 1 };
        let mut row = 1;
        while row <= most.max(1) && (row == 1 || blocks * row / 2 < width) && blocks <= MOST_ROW {
            rows.push((blocks * row, row_level, row));
            row *= 2;
        }
    }
    rows.sort_unstable_by_key(|&(blocks, row_level, _)| (blocks.min(width), row_level));
    let preferred = preferred_group(levels, options.input_chunk);
    let mut found = Vec::new();
    let long = |blocks: u64| blocks >= width || blocks * levels.block.x * voxel_bytes >= ROW_BYTES;
    // As much at once along y and z as the input decodes, in rows that are long enough; then shorter rows; then less at once.
    for long_only in [true, false] {
        for group in (0..=preferred).rev() {
            for &(blocks, row_level, row) in rows.iter().rev() {
                if group <= row_level && (!long_only || long(blocks)) {
                    found.push(Shape { row_level, row, group_level: group });
                }
            }
        }
    }
    found
}

/// The level whose blocks are as large as what the input decodes at once, but 1 at least, so that threads have something to share.
fn preferred_group(levels: &Levels, input_chunk: Option<Extent>) -> usize {
    let top = levels.count() - 1;
    let chunk = input_chunk.unwrap_or(Extent::cube(1));
    let enough = |level: usize| {
        let factor = levels.factor(level);
        levels.block.y as f64 * factor[1] >= chunk.y as f64
            && levels.block.z as f64 * factor[2] >= chunk.z as f64
    };
    (1..=3).find(|&level| level >= top || enough(level)).unwrap_or(3).min(top)
}

/// What a conversion holds at a time.
struct Memory {
    /// Two groups of tiles: one that is encoded, one that is read.
    pool: u64,
    /// Blocks under way on each thread, encoded and not.
    threads: u64,
    /// Blocks of coarser levels that lack some of their parts.
    unfinished: u64,
    /// What the file's levels keep: indices of shards that are open, which shards there are, ranges.
    written: u64,
    /// What the input decodes for a thread and does not keep.
    input: u64,
    /// Shards that are open at a time.
    open_shards: u64,
    tile: Extent,
    page: Option<Extent>,
}

impl Memory {
    fn of(levels: &Levels, shape: Shape, options: &ConvertOptions, voxel_bytes: u64, threads: u64) -> Self {
        let row_blocks: u64 = levels.steps[..shape.row_level].iter().map(|step| step[0]).product();
        let row_blocks = row_blocks.saturating_mul(shape.row).min(levels.grid(0).x);
        let factor = levels.factor(shape.group_level);
        let block = levels.block.to_array();
        let full = levels.extents[0].to_array();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small power of two")]
        let across = |axis: usize| block[axis].saturating_mul(factor[axis] as u64).min(full[axis]);
        let group = [block[0].saturating_mul(row_blocks).min(full[0]), across(1), across(2)];
        let tile = tile(group, full, options.input_chunk, voxel_bytes);
        let page = page(group[2], full[2], tile, voxel_bytes);
        let (tile_sides, page_tiles) = (tile.to_array(), page.unwrap_or(Extent::cube(1)).to_array());
        let pages = [0, 1, 2].map(|a| touched(group[a], tile_sides[a] * page_tiles[a], full[a]));
        let page_bytes = voxels(tile).saturating_mul(voxel_bytes).saturating_mul(voxels(page_tiles.into()));
        let group_bytes = voxels(pages.into()).saturating_mul(page_bytes);
        let block_bytes = voxels(levels.block).saturating_mul(voxel_bytes);
        let in_groups = voxels(group.into()).saturating_mul(voxel_bytes) / 4;
        let of_rows = block_bytes.saturating_mul(row_blocks);
        let of_levels = block_bytes.saturating_mul(levels.count() as u64);
        let decoded = options.input_chunk.map_or(0, voxels).saturating_mul(voxel_bytes);
        let open = |level: usize| match options.zarr.shard {
            Some(shard) => open_shards(levels, shape, level, shard),
            // A chunk that is an object is closed at once.
            None => threads,
        };
        let written = (0..levels.count()).map(|level| {
            let kept = Kept::of(levels.extents[level], &options.zarr, options.ranges, voxel_bytes);
            kept.shard_bytes.saturating_mul(open(level)).saturating_add(kept.level_bytes)
        });
        Self {
            pool: group_bytes.saturating_mul(2).max(POOL_BYTES),
            threads: block_bytes.saturating_mul(4).saturating_add(CODEC_BYTES).saturating_mul(threads),
            unfinished: in_groups.saturating_add(of_rows).saturating_add(of_levels),
            written: written.fold(0, u64::saturating_add),
            input: decoded.saturating_mul(threads).min(MOST_DECODED_BYTES),
            open_shards: (0..levels.count()).map(open).fold(0, u64::saturating_add),
            tile,
            page,
        }
    }

    fn total(&self) -> u64 {
        let Self { pool, threads, unfinished, written, input, .. } = *self;
        [threads, unfinished, written, input].into_iter().fold(pool, u64::saturating_add)
    }
}

/// The shape of a page in tiles, if several share one: as many along z as divide the tiles of a group of that depth, so that no page is of two groups and none lies beyond one.
fn page(group_depth: u64, full_depth: u64, tile: Extent, voxel_bytes: u64) -> Option<Extent> {
    let tile_bytes = voxels(tile) * voxel_bytes;
    if tile_bytes < LEAST_SHARED_BYTES {
        return None;
    }
    let fits = |tiles: &u64| {
        let is_whole = group_depth.is_multiple_of(tile.z) || group_depth == full_depth;
        tiles * tile_bytes <= PAGE_BYTES && is_whole && group_depth.div_ceil(tile.z).is_multiple_of(*tiles)
    };
    let tiles = (1..=PAGE_BYTES.ilog2()).map(|shift| 1 << shift).take_while(fits).last()?;
    Some(Extent::new(1, 1, tiles))
}

/// Tiles that a stretch of that length may touch, wherever a group begins.
fn touched(length: u64, tile: u64, full: u64) -> u64 {
    let all = full.div_ceil(tile);
    if length.is_multiple_of(tile) || length == full {
        length.div_ceil(tile)
    } else {
        (length / tile + 2).min(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ZarrOptions;

    fn plan(extent: Extent, options: &ConvertOptions) -> Result<Plan, Error> {
        Plan::new(&levels(extent, options), options, 0, 2, 2)
    }

    #[test]
    fn rows_of_a_file_are_read_whole_where_the_budget_allows() {
        let options = ConvertOptions::default();
        let p = plan(Extent::cube(1024), &options).unwrap();
        assert_eq!((p.tile.x, p.levels.len(), p.shape.group_level), (1024, 4, 1));
        assert_eq!((p.tile, p.page), (Extent::new(1024, 128, 2), Some(Extent::new(1, 1, 4))));
        assert_eq!((p.levels[3].extent, p.levels[3].factor), (Extent::cube(128), [8.0; 3]));
        assert_eq!((p.levels[0].chunks, p.levels[0].objects, p.levels[0].bytes), (4096, 64, 1 << 31));
        let p = plan(Extent::cube(8192), &options).unwrap();
        assert!(p.tile.x * 2 >= ROW_BYTES, "{p:?}");
        let one = ConvertOptions { most_levels: 1, ..options };
        let p = plan(Extent::cube(2048), &one).unwrap();
        assert_eq!((p.levels.len(), p.tile.x), (1, 2048));
    }

    #[test]
    fn what_the_input_keeps_is_a_part_of_the_budget_however_small_that_is() {
        let plan = |budget_bytes: u64, input_kept_bytes: Option<u64>| {
            let options = ConvertOptions { budget_bytes, input_kept_bytes, ..ConvertOptions::default() };
            Plan::new(&levels(Extent::cube(1024), &options), &options, 256 << 20, 2, 2)
        };
        assert_eq!(plan(1 << 30, None).unwrap().input_kept_bytes, 256 << 20);
        let half = plan(256 << 20, None).unwrap();
        assert_eq!(half.input_kept_bytes, 128 << 20);
        assert!(half.memory_bytes <= 256 << 20);
        let Err(Error::Residency(ResidencyError::OverBudget { needed_bytes, .. })) = plan(0, None) else {
            panic!("a budget of nothing")
        };
        assert_eq!(plan(needed_bytes, None).unwrap().input_kept_bytes, 0);
        // Nothing of what would only be faster.
        assert_eq!(plan(needed_bytes, None).unwrap().past_cache_bytes, 0);
        assert!(plan(1 << 30, None).unwrap().past_cache_bytes > 8 << 20);
        let some = plan(needed_bytes + 4096, None).unwrap();
        assert_eq!((some.input_kept_bytes, some.memory_bytes), (4096, needed_bytes + 4096));
        // What somebody knows better is taken at its word.
        assert!(plan(needed_bytes + 4096, Some(1 << 20)).is_err());
        assert_eq!(plan(needed_bytes + (1 << 20), Some(1 << 20)).unwrap().input_kept_bytes, 1 << 20);
    }

    #[test]
    fn shards_and_ranges_are_a_part_of_the_budget() {
        let plan = |chunk: u64, shard: u64, ranges: bool| {
            let zarr = ZarrOptions {
                chunk: Extent::cube(chunk),
                shard: Some(Extent::cube(shard)),
                ..ZarrOptions::default()
            };
            let options = ConvertOptions { zarr, ranges, budget_bytes: 0, ..ConvertOptions::default() };
            let Err(Error::Residency(ResidencyError::OverBudget { needed_bytes, .. })) =
                plan(Extent::cube(1000), &options)
            else {
                panic!("a budget of nothing")
            };
            needed_bytes
        };
        // The index of one shard of 2^20 chunks, though the volume has few of them.
        assert!(plan(16, 1600, true) - plan(16, 160, true) > 10 << 20);
        // 63^3 cells of 16 voxels a side, of two values of 2 bytes each.
        assert!(plan(64, 256, true) - plan(64, 256, false) >= 63 * 63 * 63 * 4);
        assert!(plan(64, 4096, true) - plan(64, 4096, false) < 32 << 20);
    }

    #[test]
    fn plans_keep_to_their_budgets_and_say_what_they_would_need() {
        for (extent, chunk) in [
            (Extent::cube(4096), Extent::cube(64)),
            (Extent::new(1 << 20, 9, 1), Extent::cube(32)),
            (Extent::cube(1 << 14), Extent::new(1, 512, 512)),
            (Extent::new(100, 1000, 10_000), Extent::new(25, 50, 75)),
            (Extent::cube(1), Extent::cube(64)),
        ] {
            for input_chunk in [None, Some(Extent::cube(128)), Some(Extent::new(1, 2048, 2048))] {
                let zarr = ZarrOptions { chunk, shard: None, ..ZarrOptions::default() };
                let mut options =
                    ConvertOptions { zarr, input_chunk, budget_bytes: 1, ..ConvertOptions::default() };
                let error = plan(extent, &options).unwrap_err();
                let Error::Residency(ResidencyError::OverBudget { needed_bytes, .. }) = error else {
                    panic!("{error}")
                };
                options.budget_bytes = needed_bytes;
                let least = plan(extent, &options).unwrap();
                assert_eq!(least.memory_bytes, needed_bytes);
                options.budget_bytes = needed_bytes.saturating_mul(16);
                let more = plan(extent, &options).unwrap();
                assert!(more.memory_bytes <= options.budget_bytes && more.memory_bytes >= needed_bytes);
                for side in least.tile.to_array().into_iter().chain(more.tile.to_array()) {
                    assert!(side.is_power_of_two());
                }
            }
        }
    }
}
