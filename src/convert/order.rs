//! Owns [`groups`]: the order in which blocks are gone through, and which of them still need to be. Knows nothing of voxels.
//!
//! ```text
//! above level t   one block after the other, along a space-filling curve: at most one of each level is unfinished
//! level t         rows of blocks along x, as long as a group of level-0 blocks may be
//! below           (z, y) along a curve, the whole row along x each time
//! level g         what lies below one row of this level is one group: read together, and then encoded by all threads
//! ```

use std::ops::ControlFlow;

use super::blocks::Levels;
use crate::geometry::{Coord, Extent, Region};

/// How far rows and groups reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The level from which on rows are gone through whole.
    pub(super) row_level: usize,
    /// Blocks of that level in a row.
    pub(super) row: u64,
    /// The level of a row that is one group: no more than `row_level`.
    pub(super) group_level: usize,
}

/// A block whose voxels do not come from other blocks: of level 0, or one that was written already and is needed once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaf {
    pub(super) level: usize,
    pub(super) block: Coord,
}

/// Goes through what is to be done, group by group.
///
/// `written` says of a block that it is there already. Such a block is needed only where the one that it is a part of is not.
pub(super) fn groups<B>(
    levels: &Levels,
    shape: Shape,
    written: &dyn Fn(usize, Coord) -> bool,
    then: &mut dyn FnMut(Vec<Leaf>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let top = levels.count() - 1;
    let walk = Walk { levels, shape, written };
    let grid = levels.grid(top);
    let row = if top == shape.row_level { shape.row.max(1) } else { 1 };
    for z in 0..grid.z {
        for y in 0..grid.y {
            for x in (0..grid.x).step_by(usize::try_from(row).unwrap_or(usize::MAX)) {
                let blocks = Region::new(Coord { x, y, z }, Extent::new(row, 1, 1)).clipped_to(grid);
                walk.down(top, blocks, then)?;
            }
        }
    }
    ControlFlow::Continue(())
}

struct Walk<'a> {
    levels: &'a Levels,
    shape: Shape,
    written: &'a dyn Fn(usize, Coord) -> bool,
}

impl Walk<'_> {
    /// Whether a block's voxels are still to be computed or read.
    fn is_due(&self, level: usize, block: Coord) -> bool {
        !(self.written)(level, block)
    }

    /// Whether a block that is there is needed for the one that it is a part of.
    fn is_needed(&self, level: usize, block: Coord) -> bool {
        self.levels.parent(level, block).is_some_and(|parent| self.is_due(level + 1, parent))
    }

    /// Goes through what lies below a row of blocks.
    fn down<B>(
        &self,
        level: usize,
        row: Region,
        then: &mut dyn FnMut(Vec<Leaf>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if level <= self.shape.group_level {
            let mut group = Vec::new();
            self.collect(level, row, &mut group);
            return if group.is_empty() { ControlFlow::Continue(()) } else { then(group) };
        }
        let mut found = Vec::new();
        self.leaves(level, row, &mut found);
        if !found.is_empty() {
            then(found)?;
        }
        let rows = level <= self.shape.row_level;
        let below = self.below(level, row);
        let along = if rows { below.extent.x } else { 1 };
        let (start, size) = (below.start, below.extent);
        for z in start.z..start.z + size.z {
            for y in start.y..start.y + size.y {
                for x in (start.x..start.x + size.x).step_by(usize::try_from(along.max(1)).unwrap_or(1)) {
                    self.down(level - 1, Region::new(Coord { x, y, z }, Extent::new(along, 1, 1)), then)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// All of it at once.
    fn collect(&self, level: usize, blocks: Region, group: &mut Vec<Leaf>) {
        self.leaves(level, blocks, group);
        if level > 0 {
            self.collect(level - 1, self.below(level, blocks), group);
        }
    }

    /// The blocks of a box that are leaves.
    fn leaves(&self, level: usize, blocks: Region, found: &mut Vec<Leaf>) {
        let (start, size) = (blocks.start, blocks.extent);
        for z in start.z..start.z + size.z {
            for y in start.y..start.y + size.y {
                for block in (start.x..start.x + size.x).map(|x| Coord { x, y, z }) {
                    let due = self.is_due(level, block);
                    if (due && level == 0) || (!due && self.is_needed(level, block)) {
                        found.push(Leaf { level, block });
                    }
                }
            }
        }
    }

    /// The blocks of the level below that a box of blocks is made of.
    fn below(&self, level: usize, blocks: Region) -> Region {
        let [x, y, z] = self.levels.steps[level - 1];
        let (s, e) = (blocks.start, blocks.extent);
        Region::new(Coord::new(s.x * x, s.y * y, s.z * z), Extent::new(e.x * x, e.y * y, e.z * z))
            .clipped_to(self.levels.grid(level - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::geometry::boxes::grid;

    fn all(levels: &Levels, shape: Shape, written: &dyn Fn(usize, Coord) -> bool) -> Vec<Vec<Leaf>> {
        let mut found = Vec::new();
        let _: ControlFlow<()> = groups(levels, shape, written, &mut |group| {
            found.push(group);
            ControlFlow::Continue(())
        });
        found
    }

    fn levels(extent: [u64; 3]) -> Levels {
        Levels::new(extent.into(), vec![[2, 2, 1], [2, 2, 2], [2, 2, 2]], Extent::cube(4))
    }

    const SHAPES: [Shape; 5] = [
        Shape { row_level: 0, row: 1, group_level: 0 },
        Shape { row_level: 1, row: 1, group_level: 1 },
        Shape { row_level: 2, row: 1, group_level: 1 },
        Shape { row_level: 3, row: 3, group_level: 1 },
        Shape { row_level: 3, row: 1, group_level: 3 },
    ];

    #[test]
    fn every_block_comes_once_and_few_others_are_unfinished_meanwhile() {
        let levels = levels([130, 70, 40]);
        for shape in SHAPES {
            let mut seen = HashSet::new();
            let mut unfinished: HashMap<(usize, Coord), u64> = HashMap::new();
            let mut most = 0;
            for leaf in all(&levels, shape, &|_, _| false).into_iter().flatten() {
                assert!(leaf.level == 0 && seen.insert(leaf.block), "{leaf:?}");
                let (mut level, mut block) = (0, leaf.block);
                while let Some(parent) = levels.parent(level, block) {
                    let whole = levels.children(level + 1, parent).extent.checked_volume().unwrap();
                    let missing = unfinished.entry((level + 1, parent)).or_insert(whole);
                    *missing -= 1;
                    if *missing > 0 {
                        break;
                    }
                    unfinished.remove(&(level + 1, parent));
                    (level, block) = (level + 1, parent);
                }
                most = most.max(unfinished.len());
            }
            assert!(unfinished.is_empty());
            assert_eq!(seen.len() as u64, levels.grid(0).checked_volume().unwrap());
            let rows = shape.row << shape.row_level;
            assert!(most as u64 <= 3 + rows + (rows << (2 * shape.group_level)), "{shape:?}: {most}");
        }
    }

    #[test]
    fn what_was_written_is_read_again_only_for_what_was_not() {
        let levels = levels([60, 40, 20]);
        let mut state = 7u64;
        for round in 0..40 {
            let mut written = HashSet::new();
            for level in 0..4 {
                for block in grid(Region::whole(levels.grid(level)), Extent::cube(1)) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if state >> 40 & 7 < round % 9 {
                        written.insert((level, block.start));
                    }
                }
            }
            let is = |level: usize, block: Coord| written.contains(&(level, block));
            let leaves: Vec<_> =
                all(&levels, SHAPES[2], &is).into_iter().flatten().map(|l| (l.level, l.block)).collect();
            let found: HashSet<_> = leaves.iter().copied().collect();
            assert_eq!(found.len(), leaves.len(), "none comes twice");
            for level in 0..4 {
                for block in grid(Region::whole(levels.grid(level)), Extent::cube(1)) {
                    let block = block.start;
                    let needed = levels.parent(level, block).is_some_and(|p| !is(level + 1, p));
                    let expected = if is(level, block) { needed } else { level == 0 };
                    assert_eq!(found.contains(&(level, block)), expected, "level {level}, {block}");
                }
            }
        }
    }

    #[test]
    fn rows_are_as_long_as_told() {
        let levels = levels([130, 70, 40]);
        let first = |shape| all(&levels, shape, &|_, _| false).remove(0);
        assert_eq!(first(SHAPES[0]).len(), 1);
        assert_eq!(first(SHAPES[1]).len(), 4, "z is not halved at first");
        let row: Vec<_> = first(SHAPES[3]).into_iter().map(|leaf| leaf.block).collect();
        assert_eq!(row.len(), 24 * 2);
        assert_eq!(row[23], Coord::new(23, 0, 0));
    }
}
