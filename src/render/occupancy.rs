//! Owns what may be leapt over: how much each cell could matter, kept from picture to picture in a [`SkipCache`]. Knows nothing of rays.
//!
//! The samples of a cell are those whose lower voxel lies in it; their support reaches into the next cell along each axis. So a cell's importance
//! comes from the hull of the ranges of up to eight cells, some of them in other bricks:
//!
//! ```text
//!   | own cell | next |        hull = own + next (in 3-D: 2 x 2 x 2)
//! ```
//!
//! Where one of those ranges is unknown the cell is infinitely important: it is sampled, and its brick asked for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::fine::{Fine, Question, WORD, range_of};
use super::grid::{Grid, tile_coord};
use super::held::Held;
use super::table::Table;
use super::volume::{Brick, Volume};
use crate::layout::TileCoord;
use crate::view::kernels::bits::{BLOCK, Blocks};
use crate::voxel::Scalar;

/// How much the values of a cell could matter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weigh<'a> {
    /// 1 where the table is not clear, 0 where it is.
    Seen(&'a Table),
    /// The greatest value.
    Greatest,
}

impl Weigh<'_> {
    #[inline]
    pub(crate) fn importance(self, (low, high): (f32, f32)) -> f32 {
        let slack = slack(low, high);
        match self {
            Self::Seen(table) => f32::from(u8::from(table.sees(low - slack, high + slack))),
            Self::Greatest => high + slack,
        }
    }

    /// Which of some ranges are more important than a threshold, a bit for each: what [`Weigh::importance`] says of them one by one. In loops that vector instructions can be made of.
    pub(crate) fn more_important(self, low: &[f32; WORD], high: &[f32; WORD], threshold: f32) -> u32 {
        let wider = |i: usize| {
            let slack = slack(low[i], high[i]);
            (low[i] - slack, high[i] + slack)
        };
        match self {
            // The importance is 0 or 1.
            Self::Seen(_) if threshold >= 1.0 => 0,
            Self::Seen(_) if threshold < 0.0 => u32::MAX,
            Self::Seen(table) => table.sees_each(std::array::from_fn(wider)),
            Self::Greatest => (0..WORD).fold(0, |bits, i| bits | u32::from(wider(i).1 > threshold) << i),
        }
    }
}

/// How much interpolation may leave the hull by its rounding; not at all for values that are all the same.
#[inline]
fn slack(low: f32, high: f32) -> f32 {
    if low < high { 1e-6 * low.abs().max(high.abs()) + f32::MIN_POSITIVE } else { 0.0 }
}

/// How important the cells of a brick are.
#[derive(Debug)]
pub(crate) struct Cells {
    /// x fastest.
    pub(crate) importance: Vec<f32>,
    /// The greatest of them.
    pub(crate) most: f32,
    /// The picture that this was found out for, if it may change by the next one because a range was unknown.
    unsettled_in: Option<u64>,
}

/// What is known of a brick.
#[derive(Debug, Default)]
struct Known {
    cells: Option<Arc<Cells>>,
    fine: Option<Arc<Fine>>,
    /// Of the group that begins with it.
    group: Option<Arc<Fine>>,
}

type Shard = RwLock<HashMap<TileCoord, Known>>;

/// What is known of empty space. Keep one from picture to picture of one volume: as long as transfer function, mode and volume stay the same, nothing of it is
/// worked out again.
///
/// **Cost**: four bytes for each cell of the bricks that rays have met, and about one and a quarter bits for each voxel of those of them that were resident, as much again where
/// they were resident together with all around them; up to 8 MiB for the volume. It forgets everything when that comes to more than 256 MiB.
#[derive(Debug, Default)]
pub struct SkipCache {
    key: Vec<u64>,
    picture: u64,
    shards: Vec<Shard>,
    /// Numbers and words kept.
    kept: AtomicUsize,
    /// How often something was learnt of a brick.
    learnt: AtomicU64,
    /// What is known of all bricks together, and what of `learnt` and `picture` it is of.
    blocks: Option<Blocks>,
    blocks_of: (u64, u64),
}

/// Pictures after which [`SkipCache::blocks`] takes in what little was learnt since.
const SOON: u64 = 16;
/// The most bricks of a volume that [`SkipCache::blocks`] are kept for.
const MOST_BRICKS: usize = 1 << 16;

const SHARDS: usize = 64;
const MAX_KEPT: usize = (256 << 20) / 4;

impl SkipCache {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.shards.clear();
        self.kept.store(0, Ordering::Relaxed);
        self.learnt.store(0, Ordering::Relaxed);
        (self.blocks, self.blocks_of) = (None, (0, 0));
    }

    /// How many bricks it knows about.
    #[must_use]
    pub fn bricks(&self) -> usize {
        self.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Begins a picture: forgets what does not hold any more.
    pub(crate) fn begin<T: Scalar, V: Volume<T>>(
        &mut self,
        volume: &V,
        grid: &Grid,
        weigh: Weigh<'_>,
        threshold: Option<f32>,
    ) {
        let mut key = vec![volume.version(), threshold.map_or(u64::MAX, |t| u64::from(t.to_bits()))];
        for shape in [grid.extent(), volume.brick_shape(), volume.cell_shape()] {
            key.extend(shape.to_array());
        }
        match weigh {
            Weigh::Greatest => key.push(0),
            Weigh::Seen(table) => key.extend(table.emptiness().map(u64::from)),
        }
        if key != self.key || *self.kept.get_mut() > MAX_KEPT {
            self.key = key;
            self.clear();
        }
        self.shards.resize_with(SHARDS, Shard::default);
        self.picture += 1;
        let (learnt, (before, picture)) = (*self.learnt.get_mut(), self.blocks_of);
        // Worked out again when it is worth it: its cost grows with what is known.
        let soon = learnt > before && self.picture > picture + SOON;
        if let Some(threshold) = threshold
            && (soon || learnt > before + before / 8)
        {
            self.blocks = self.all_blocks(grid, threshold);
            self.blocks_of = (learnt, self.picture);
        }
    }

    /// Where anything in the volume may matter to a beam of rays, as far as that was known when the picture began.
    pub(crate) fn blocks(&self) -> Option<&Blocks> {
        self.blocks.as_ref()
    }

    /// **Cost**: some hundred operations for each brick of the volume, known or not; none where those are too many.
    fn all_blocks(&self, grid: &Grid, threshold: f32) -> Option<Blocks> {
        let side = |n: i64| usize::try_from(n).ok();
        let whole = |n: [i64; 3]| Some([side(n[0])?, side(n[1])?, side(n[2])?]);
        let (sides, brick) = (whole(grid.extent)?, whole(grid.brick)?);
        let bricks = (0..3).map(|a| sides[a].div_ceil(brick[a])).product::<usize>();
        let whole_blocks = (0..3).all(|a| brick[a] >= sides[a] || brick[a].is_multiple_of(1 << BLOCK));
        if bricks > MOST_BRICKS || !whole_blocks {
            return None;
        }
        let mut blocks = Blocks::none(sides)?;
        for tile in grid.bricks_between([0; 3], grid.extent.map(|n| n - 1)).tiles() {
            let origin = whole(grid.origin([tile.x, tile.y, tile.z].map(u64::cast_signed)))?;
            let empty = |cells: &Cells| cells.unsettled_in.is_none() && cells.most <= threshold;
            let known = self.known(tile, |known| match (&known.fine, &known.cells) {
                (Some(fine), _) => Some(Some(Arc::clone(fine))),
                (None, Some(cells)) if empty(cells) => Some(None),
                _ => None,
            });
            match &known {
                Some(None) => {}
                Some(Some(fine)) if let Some(around) = &fine.bits.around => blocks.add(origin, around),
                _ => blocks.add_unknown(origin, brick),
            }
        }
        Some(blocks)
    }

    fn shard(&self, tile: TileCoord) -> Option<&Shard> {
        let mixed = tile.x ^ tile.y.rotate_left(21) ^ tile.z.rotate_left(42);
        self.shards.get((mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize % SHARDS)
    }

    /// What is known of a brick now.
    fn known<K>(&self, tile: TileCoord, of: impl FnOnce(&Known) -> Option<K>) -> Option<K> {
        self.shard(tile)?.read().unwrap_or_else(PoisonError::into_inner).get(&tile).and_then(of)
    }

    fn keep(&self, tile: TileCoord, words: usize, put: impl FnOnce(&mut Known)) {
        if let Some(shard) = self.shard(tile) {
            put(shard.write().unwrap_or_else(PoisonError::into_inner).entry(tile).or_default());
            self.kept.fetch_add(words, Ordering::Relaxed);
        }
    }

    /// The cells of a brick, from the cache or worked out.
    pub(crate) fn cells<T: Scalar, V: Volume<T>>(
        &self,
        volume: &V,
        grid: &Grid,
        weigh: Weigh<'_>,
        tile: [i64; 3],
    ) -> Arc<Cells> {
        let key = tile_coord(tile);
        if let Some(cells) = self.known(key, |known| known.cells.clone())
            && cells.unsettled_in.is_none_or(|picture| picture == self.picture)
        {
            return cells;
        }
        let cells = Arc::new(work_out(volume, grid, weigh, tile, self.picture));
        self.learnt.fetch_add(u64::from(cells.unsettled_in.is_none()), Ordering::Relaxed);
        self.keep(key, cells.importance.len(), |known| known.cells = Some(Arc::clone(&cells)));
        cells
    }

    /// The voxels of a resident brick that matter, from the cache or worked out.
    pub(crate) fn fine<T: Scalar, V: Volume<T>>(
        &self,
        volume: &V,
        grid: &Grid,
        question: Question<'_>,
        held: &Held<'_, T>,
    ) -> Option<Arc<Fine>> {
        let key = tile_coord(held.tile);
        if let Some(fine) = self.known(key, |known| known.fine.clone())
            && (fine.missing == 0 || fine.missing <= held.missing_after())
        {
            return Some(fine);
        }
        let fine = Arc::new(Fine::new(held, volume, grid, question)?);
        self.learnt.fetch_add(1, Ordering::Relaxed);
        self.keep(key, fine.bits.words(), |known| known.fine = Some(Arc::clone(&fine)));
        Some(fine)
    }

    /// The voxels of the group that begins with a brick that matter, from the cache or worked out; all of it has to be resident.
    pub(crate) fn group(
        &self,
        first: TileCoord,
        work_out: impl FnOnce() -> Option<Fine>,
    ) -> Option<Arc<Fine>> {
        if let Some(fine) = self.known(first, |known| known.group.clone()) {
            return Some(fine);
        }
        let fine = Arc::new(work_out()?);
        self.keep(first, fine.bits.words(), |known| known.group = Some(Arc::clone(&fine)));
        Some(fine)
    }
}

/// A range; (infinity, -infinity) where there is nothing, `None` where it is unknown.
type Range = Option<(f32, f32)>;

fn hull(a: Range, b: Range) -> Range {
    let (a, b) = (a?, b?);
    Some((a.0.min(b.0), a.1.max(b.1)))
}

fn work_out<T: Scalar, V: Volume<T>>(
    volume: &V,
    grid: &Grid,
    weigh: Weigh<'_>,
    tile: [i64; 3],
    picture: u64,
) -> Cells {
    let [nx, ny, nz] = grid.cells;
    let next = [nx, ny, nz].map(|n| n + 1);
    let ranges = Ranges::new(volume, grid, tile);
    let mut all: Vec<Range> = Vec::with_capacity(next.iter().product());
    for z in 0..next[2] {
        for y in 0..next[1] {
            all.extend((0..next[0]).map(|x| ranges.of([x, y, z])));
        }
    }
    let stride = [1, next[0], next[0] * next[1]];
    for by in stride {
        for i in 0..all.len().saturating_sub(by) {
            all[i] = hull(all[i], all[i + by]);
        }
    }
    let importance: Vec<f32> = (0..nz)
        .flat_map(|z| (0..ny).flat_map(move |y| (0..nx).map(move |x| x + y * stride[1] + z * stride[2])))
        .map(|i| all[i].map_or(f32::INFINITY, |range| weigh.importance(range)))
        .collect();
    let most = importance.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let unsettled_in = ranges.unknown.get().then_some(picture);
    Cells { importance, most, unsettled_in }
}

/// The ranges of a brick's cells and of those next to it.
struct Ranges<'a, T, V> {
    volume: &'a V,
    grid: &'a Grid,
    tile: [i64; 3],
    /// The values of the eight bricks from this one on, where they are uniform.
    uniform: [Range; 8],
    unknown: std::cell::Cell<bool>,
    voxel: std::marker::PhantomData<T>,
}

impl<'a, T: Scalar, V: Volume<T>> Ranges<'a, T, V> {
    fn new(volume: &'a V, grid: &'a Grid, tile: [i64; 3]) -> Self {
        let uniform = std::array::from_fn(|i| {
            let there = Self::neighbour(tile, i);
            let brick = if grid.has(there) { volume.brick(tile_coord(there)) } else { Brick::Missing };
            let Brick::Uniform(value) = brick else { return None };
            Some(range_of(value.to_f32()))
        });
        Self { volume, grid, tile, uniform, unknown: false.into(), voxel: std::marker::PhantomData }
    }

    fn neighbour(tile: [i64; 3], i: usize) -> [i64; 3] {
        std::array::from_fn(|a| tile[a] + i64::from(i >> a & 1 == 1))
    }

    /// The range of a cell counted from this brick's first; the last ones belong to the next brick.
    fn of(&self, mut cell: [usize; 3]) -> Range {
        let mut which = 0;
        for (axis, (cell, cells)) in cell.iter_mut().zip(self.grid.cells).enumerate() {
            if *cell == cells {
                which |= 1 << axis;
                *cell = 0;
            }
        }
        let there = Self::neighbour(self.tile, which);
        let origin = self.grid.origin(there);
        let first = |a: usize| origin[a] + (i64::try_from(cell[a]).unwrap_or(0) << self.grid.cell_shift[a]);
        if !self.grid.has(there) || (0..3).any(|a| first(a) >= self.grid.extent[a]) {
            return Some(NOTHING);
        }
        if let Some(value) = self.uniform[which] {
            return Some(value);
        }
        let [nx, ny, _] = self.grid.cells;
        let index = cell[0] + nx * (cell[1] + ny * cell[2]);
        let range = self.volume.cell_range(tile_coord(there), index);
        // A range that is no range is not believed.
        let range = range.filter(|&(low, high)| low <= high || (low, high) == NOTHING);
        self.unknown.set(self.unknown.get() || range.is_none());
        range
    }
}

/// The range of nothing.
pub(crate) const NOTHING: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);

#[cfg(test)]
mod tests {
    use super::super::transfer::TransferFunction;
    use super::super::volume::DenseVolume;
    use super::*;
    use crate::geometry::Extent;

    #[test]
    fn a_cell_is_empty_only_if_its_whole_support_is() {
        let extent = Extent::new(32, 8, 8);
        let mut voxels = vec![0u8; 32 * 64];
        voxels[16] = 200;
        let dense = DenseVolume::new(&voxels, extent).unwrap();
        let grid = Grid::new(&dense).unwrap();
        let table = Table::new(&TransferFunction::grey_ramp(100.0, 200.0).unwrap(), None);
        let mut cache = SkipCache::new();
        cache.begin(&dense, &grid, Weigh::Seen(&table), Some(0.0));
        let cells = cache.cells(&dense, &grid, Weigh::Seen(&table), [0; 3]);
        assert_eq!((cells.importance.as_slice(), cells.most), (&[0.0, 1.0, 1.0, 0.0][..], 1.0));
        cache.begin(&dense, &grid, Weigh::Greatest, None);
        assert_eq!(cache.bricks(), 0, "another question, another answer");
        let cells = cache.cells(&dense, &grid, Weigh::Greatest, [0; 3]);
        assert_eq!((cells.importance[0], cells.importance[3]), (0.0, 0.0));
        assert!((200.0..200.1).contains(&cells.importance[1]));
    }

    #[test]
    fn ranges_together_are_weighed_as_one_by_one() {
        let opacity = [(90.0, 0.0), (100.0, 0.5), (101.0, 0.0), (150.0, 0.0), (150.0, 1.0), (160.0, 0.0)];
        let table = Table::new(&TransferFunction::new(&opacity, &[(0.0, [1.0; 3])], 1.0).unwrap(), None);
        let mut state = 5u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            [80.0 + (state >> 40) as f32 * 1e-5, 90.0, 100.5, 150.0, 0.0, -0.0, f32::INFINITY, -1e38]
                [(state >> 37 & 7) as usize]
        };
        for _ in 0..2000 {
            let ranges: [(f32, f32); WORD] = std::array::from_fn(|i| match (i, random(), random()) {
                (3, ..) => NOTHING,
                (4, ..) => (f32::NEG_INFINITY, f32::INFINITY),
                (_, a, b) => (a.min(b), a.max(b)),
            });
            let (low, high) = (ranges.map(|range| range.0), ranges.map(|range| range.1));
            for weigh in [Weigh::Seen(&table), Weigh::Greatest] {
                for threshold in [0.0, 1.0, -1.0, 0.5, 120.0] {
                    let one_by_one = (0..WORD)
                        .fold(0, |bits, i| bits | u32::from(weigh.importance(ranges[i]) > threshold) << i);
                    assert_eq!(weigh.more_important(&low, &high, threshold), one_by_one, "{ranges:?}");
                }
            }
        }
    }

    struct Unknown;

    impl Volume<f32> for Unknown {
        fn extent(&self) -> Extent {
            Extent::new(16, 8, 8)
        }
        fn brick_shape(&self) -> Extent {
            Extent::cube(8)
        }
        fn brick(&self, tile: TileCoord) -> Brick<'_, f32> {
            if tile.x == 0 { Brick::Uniform(3.0) } else { Brick::Missing }
        }
        fn cell_shape(&self) -> Extent {
            Extent::cube(4)
        }
        fn cell_range(&self, _: TileCoord, cell: usize) -> Option<(f32, f32)> {
            (cell % 2 == 1).then_some((1.0, 2.0))
        }
    }

    #[test]
    fn the_unknown_is_important_and_asked_again() {
        let grid = Grid::new(&Unknown).unwrap();
        let mut cache = SkipCache::new();
        cache.begin(&Unknown, &grid, Weigh::Greatest, None);
        let first = cache.cells(&Unknown, &grid, Weigh::Greatest, [0; 3]);
        assert_eq!(first.importance[..2], [3.0, f32::INFINITY]);
        assert_eq!(first.unsettled_in, Some(1));
        assert!(Arc::ptr_eq(&first, &cache.cells(&Unknown, &grid, Weigh::Greatest, [0; 3])));
        cache.begin(&Unknown, &grid, Weigh::Greatest, None);
        assert!(!Arc::ptr_eq(&first, &cache.cells(&Unknown, &grid, Weigh::Greatest, [0; 3])));
    }
}
