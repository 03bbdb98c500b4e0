//! Owns [`open_shards`]: how many shards of a level are begun and not complete at a time. Knows nothing of what is in them.

use super::blocks::Levels;
use super::order::Shape;
use crate::geometry::Extent;
use crate::geometry::boxes::voxels;

/// The most shards of a level that are open at a time, when its blocks are gone through in that order.
///
/// The order goes through boxes of blocks, each made of whole smaller ones. Where a box is made of whole shards, no others are open while it is gone through. Where none is, those are open that lie in what was gone through and beyond it: on
/// faces of boxes, of which each is half as long as the next.
pub(super) fn open_shards(levels: &Levels, shape: Shape, level: usize, shard: Extent) -> u64 {
    let (extent, block, shard) =
        (levels.extents[level].to_array(), levels.block.to_array(), shard.to_array());
    let all = [0, 1, 2].map(|a| extent[a].div_ceil(shard[a]));
    for upper in level.max(shape.group_level)..levels.count() {
        let sides = box_sides(levels, shape, level, upper);
        let sides = [0, 1, 2].map(|a| sides[a].saturating_mul(block[a]));
        if (0..3).all(|a| sides[a] >= extent[a] || sides[a].is_multiple_of(shard[a])) {
            let within = [0, 1, 2].map(|a| sides[a].min(extent[a]).div_ceil(shard[a]));
            return voxels(within.into());
        }
    }
    let [x, y, z] = all;
    let faces = [[x, y], [y, z], [z, x]].map(|[a, b]| a.saturating_mul(b));
    let faces = faces.into_iter().fold(0, u64::saturating_add);
    faces.saturating_mul(2).min(voxels(all.into()))
}

/// Blocks of a level along each axis in what is gone through as one at an upper level: a row or a single block.
fn box_sides(levels: &Levels, shape: Shape, level: usize, upper: usize) -> [u64; 3] {
    let within = |upper: usize| {
        let steps = &levels.steps[level..upper.max(level)];
        [0, 1, 2].map(|a| steps.iter().map(|step| step[a]).fold(1, u64::saturating_mul))
    };
    let [x, y, z] = within(upper);
    if upper > shape.row_level {
        return [x, y, z];
    }
    [within(shape.row_level)[0].saturating_mul(shape.row), y, z]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ops::ControlFlow;

    use super::*;
    use crate::convert::order::groups;
    use crate::geometry::Coord;
    use crate::geometry::boxes::grid;

    /// How many shards of each level are open at most, as blocks come.
    fn most_open(levels: &Levels, shape: Shape, shard: Extent) -> Vec<u64> {
        let mut written: Vec<HashMap<Coord, u64>> = vec![HashMap::new(); levels.count()];
        let mut lacking: HashMap<(usize, Coord), u64> = HashMap::new();
        let mut most = vec![0; levels.count()];
        let _: ControlFlow<()> = groups(levels, shape, &|_, _| false, &mut |group| {
            for leaf in group {
                let (mut level, mut block) = (leaf.level, leaf.block);
                loop {
                    let region = levels.region(level, block);
                    for place in grid(region, shard) {
                        let inside = place.clipped_to(levels.extents[level]);
                        let left = written[level].entry(place.start).or_insert(voxels(inside.extent));
                        *left -= inside.intersection(&region).map_or(0, |part| voxels(part.extent));
                    }
                    most[level] = most[level].max(written[level].len() as u64);
                    written[level].retain(|_, left| *left > 0);
                    let Some(parent) = levels.parent(level, block) else { break };
                    let parts = voxels(levels.children(level + 1, parent).extent);
                    let left = lacking.entry((level + 1, parent)).or_insert(parts);
                    *left -= 1;
                    if *left > 0 {
                        break;
                    }
                    (level, block) = (level + 1, parent);
                }
            }
            ControlFlow::Continue(())
        });
        assert!(written.iter().all(HashMap::is_empty));
        most
    }

    #[test]
    fn no_more_shards_are_open_than_were_reckoned() {
        let shapes = [
            Shape { row_level: 0, row: 1, group_level: 0 },
            Shape { row_level: 1, row: 1, group_level: 1 },
            Shape { row_level: 2, row: 1, group_level: 1 },
            Shape { row_level: 3, row: 3, group_level: 1 },
            Shape { row_level: 3, row: 1, group_level: 3 },
        ];
        let (mut reckoned, mut open) = (0, 0);
        for extent in [[130, 70, 40], [64, 64, 64], [33, 90, 7], [250, 11, 30]] {
            for (chunk, shards) in [([4, 4, 4], [1, 2, 3, 4, 8, 100]), ([5, 4, 1], [1, 2, 3, 5, 7, 9])] {
                for many in shards {
                    let levels =
                        Levels::new(extent.into(), vec![[2, 2, 1], [2, 2, 2], [2, 2, 2]], chunk.into());
                    let shard = Extent::from(chunk.map(|side| side * many));
                    for shape in shapes {
                        for (level, most) in most_open(&levels, shape, shard).into_iter().enumerate() {
                            let bound = open_shards(&levels, shape, level, shard);
                            // Blocks of one chunk are written one after the other here.
                            assert!(most <= bound, "{most} of {bound}: level {level}, {shape:?}, {shard}");
                            reckoned += bound;
                            open += most;
                        }
                    }
                }
            }
        }
        eprintln!("{open} open of {reckoned} reckoned");
        assert!(reckoned < 6 * open, "{open} open of {reckoned} reckoned");
        let levels = Levels::new(Extent::cube(1 << 12), vec![[2; 3]; 5], Extent::cube(64));
        assert_eq!(open_shards(&levels, shapes[0], 0, Extent::cube(256)), 1);
        assert_eq!(open_shards(&levels, shapes[2], 0, Extent::cube(256)), 1);
    }
}
