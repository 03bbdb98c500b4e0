//! Owns what the system is told of boxes of a row-major file that are about to be read: their rows, those that lie together as one. Knows nothing of how they are read.
//!
//! ```text
//! tiles of a batch    |##tile 0##|##tile 1##|
//! a row of the file   |######################..........|     one range for both, and for the rows below it where the rest of a row is short
//! ```

use super::input_file::{InputFile, is_in_memory};
use super::runs::FileBox;

/// Bytes between rows that are better read with them.
const GAP_BYTES: u64 = 16 << 10;

/// The most ranges that are gathered from a batch, and that the system is told of.
const MOST_GATHERED: usize = 16_384;
const MOST_TOLD: usize = 512;

/// The most bytes that the system is told of at once.
const MOST_BYTES: u64 = 16 << 20;

/// Has the system read the rows of these boxes of voxels of type `T`, as far as the bounds go, unless they are read past its cache.
pub(super) fn read_ahead<T>(file: &InputFile, boxes: impl Iterator<Item = FileBox>) {
    let ranges = ranges(boxes, size_of::<T>() as u64);
    if file.choose_way(&ranges) {
        return;
    }
    let (file, ranges) = (file.through_cache(), bounded(ranges));
    // What is in memory already is not worth a call for each range.
    let is_there = |at: u64| is_in_memory(file, at).unwrap_or(true);
    let in_memory = |(start, end): &(u64, u64)| is_there(*start) && is_there(end - 1);
    if ranges.first().is_none_or(in_memory) && ranges.last().is_none_or(in_memory) {
        return;
    }
    for (start, end) in ranges {
        // Only a hint: what goes wrong here goes wrong, and is reported, in the read.
        let bytes = (end - start).try_into().ok();
        let _ = rustix::fs::fadvise(file, start, bytes, rustix::fs::Advice::WillNeed);
    }
}

/// The bytes of the boxes, as ranges in the file's order.
fn ranges(boxes: impl Iterator<Item = FileBox>, voxel_bytes: u64) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    'boxes: for FileBox { offset_bytes, shape, start, size } in boxes {
        if size.contains(&0) {
            continue;
        }
        let (row, plane) = (shape[0] * voxel_bytes, shape[0] * shape[1] * voxel_bytes);
        let width = size[0] * voxel_bytes;
        let together = row - width <= GAP_BYTES;
        let (rows, bytes) = if together { (1, (size[1] - 1) * row + width) } else { (size[1], width) };
        for z in start[2]..start[2] + size[2] {
            for y in start[1]..start[1] + rows {
                if all.len() == MOST_GATHERED {
                    break 'boxes;
                }
                let first = offset_bytes + z * plane + y * row + start[0] * voxel_bytes;
                all.push((first, first + bytes));
            }
        }
    }
    all.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in all {
        match merged.last_mut() {
            Some(last) if start <= last.1 + GAP_BYTES => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// What the system is told of them: the first ones, as far as the bounds go.
fn bounded(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut left = MOST_BYTES;
    for (start, end) in &mut ranges {
        *end = (*end).min(*start + left);
        left -= *end - *start;
    }
    ranges.retain(|(start, end)| start < end);
    ranges.truncate(MOST_TOLD);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_told_of_no_more_than_the_bounds_and_of_that_even_where_it_is_one_piece() {
        let planes = |z: u64, height: u64| FileBox {
            offset_bytes: 512,
            shape: [1024, height, 256],
            start: [0, 0, z],
            size: [1024, 128, 4],
        };
        let all = ranges([planes(4, 128), planes(0, 128)].into_iter(), 2);
        assert_eq!(all, [(512, 512 + 8 * 128 * 2048)], "neighbours are one");
        let apart = ranges([planes(0, 1024)].into_iter(), 2);
        assert_eq!(apart.len(), 4);
        assert_eq!(bounded(apart.clone()), apart);
        let long = vec![(0, 10 << 20), (11 << 20, 64 << 20), (70 << 20, 71 << 20)];
        assert_eq!(bounded(long), [(0, 10 << 20), (11 << 20, 17 << 20)]);
        assert_eq!(bounded(vec![(5, 100 << 20)]), [(5, (16 << 20) + 5)]);
        assert_eq!(bounded((0..1000).map(|i| (2 * i, 2 * i + 1)).collect()).len(), MOST_TOLD);
    }
}
