//! Owns [`Levels`]: the levels of a conversion and how each is divided into blocks. Knows nothing of memory.
//!
//! A block of level `k + 1` is made of `step` blocks of level `k` along each axis, and of nothing else.

use crate::geometry::{Coord, Extent, Region};

/// The levels, the finest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Levels {
    /// Size of each.
    pub(super) extents: Vec<Extent>,
    /// Voxels of level `k` that become one of level `k + 1`, along each axis: 1 or 2.
    pub(super) steps: Vec<[u64; 3]>,
    /// Shape of a block, on all levels.
    pub(super) block: Extent,
}

impl Levels {
    /// The levels of a volume that is halved as `steps` say, written in chunks of that shape.
    pub(super) fn new(extent: Extent, steps: Vec<[u64; 3]>, chunk: Extent) -> Self {
        let (sides, chunk) = (extent.to_array(), chunk.to_array());
        let halved = |axis: usize| steps.iter().any(|step| step[axis] > 1);
        // Two voxels that become one must lie in one block.
        let block = [0, 1, 2].map(|a| {
            let odd = !chunk[a].is_multiple_of(2) && sides[a] > chunk[a] && halved(a);
            if odd { chunk[a] * 2 } else { chunk[a] }
        });
        let mut extents = vec![extent];
        for step in &steps {
            let below = extents[extents.len() - 1].to_array();
            extents.push(Extent::from([0, 1, 2].map(|a| below[a].div_ceil(step[a]))));
        }
        Self { extents, steps, block: block.into() }
    }

    pub(super) fn count(&self) -> usize {
        self.extents.len()
    }

    /// Blocks of a level along each axis.
    pub(super) fn grid(&self, level: usize) -> Extent {
        let (extent, block) = (self.extents[level].to_array(), self.block.to_array());
        Extent::from([0, 1, 2].map(|a| extent[a].div_ceil(block[a])))
    }

    /// The voxels of a block, in its level.
    pub(super) fn region(&self, level: usize, block: Coord) -> Region {
        let side = self.block;
        let start = Coord::new(block.x * side.x, block.y * side.y, block.z * side.z);
        Region::new(start, side).clipped_to(self.extents[level])
    }

    /// The block of the next level that a block becomes part of; `None` for the coarsest level.
    pub(super) fn parent(&self, level: usize, block: Coord) -> Option<Coord> {
        let [x, y, z] = *self.steps.get(level)?;
        Some(Coord::new(block.x / x, block.y / y, block.z / z))
    }

    /// The blocks of the level below that a block is made of, as a box.
    pub(super) fn children(&self, level: usize, block: Coord) -> Region {
        let [x, y, z] = self.steps[level - 1];
        let start = Coord::new(block.x * x, block.y * y, block.z * z);
        Region::new(start, Extent::new(x, y, z)).clipped_to(self.grid(level - 1))
    }

    /// What of its parent's voxels a block becomes.
    pub(super) fn part_of_parent(&self, level: usize, block: Coord) -> Region {
        let (region, step) = (self.region(level, block), self.steps[level]);
        let start = region.start.to_array();
        let size = region.extent.to_array();
        let start = [0, 1, 2].map(|a| start[a] / step[a]);
        Region::new(start.into(), [0, 1, 2].map(|a| size[a].div_ceil(step[a])).into())
    }

    /// By how much a level is reduced along each axis.
    pub(super) fn factor(&self, level: usize) -> [f64; 3] {
        let steps = &self.steps[..level];
        [0, 1, 2].map(|a| steps.iter().map(|step| step[a] as f64).product())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::boxes::{grid, voxels};

    #[test]
    fn blocks_of_a_level_are_made_of_whole_blocks_of_the_one_below() {
        for (extent, chunk) in [([70, 33, 20], [8, 8, 8]), ([50, 50, 3], [5, 7, 3]), ([9, 1, 40], [1, 1, 6])]
        {
            let steps = vec![[2, 2, 1], [2, 1, 2], [2, 2, 2]];
            let levels = Levels::new(Extent::from(extent), steps, chunk.into());
            for level in 1..levels.count() {
                let mut seen = 0;
                for block in grid(Region::whole(levels.grid(level)), Extent::cube(1)) {
                    let mut covered = 0;
                    for child in grid(levels.children(level, block.start), Extent::cube(1)) {
                        assert_eq!(levels.parent(level - 1, child.start), Some(block.start));
                        let part = levels.part_of_parent(level - 1, child.start);
                        let region = levels.region(level, block.start);
                        assert_eq!(part.intersection(&region), Some(part), "{part} of {region}");
                        covered += voxels(part.extent);
                    }
                    assert_eq!(covered, voxels(levels.region(level, block.start).extent));
                    seen += covered;
                }
                assert_eq!(seen, voxels(levels.extents[level]));
            }
            assert_eq!(levels.factor(3), [8.0, 4.0, 4.0]);
            assert_eq!(levels.parent(3, Coord::default()), None);
        }
    }
}
