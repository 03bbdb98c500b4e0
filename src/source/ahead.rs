//! Owns what the system is told of boxes of a row-major file that are about to be read: their rows, those that lie together as one. Knows nothing of how they are read.
//!
//! ```text
//! tiles of a batch    |##tile 0##|##tile 1##|
//! a row of the file   |######################..........|     one range for both, and for the rows below it where the rest of a row is short
//! ```

use std::fs::File;

use super::runs::FileBox;

/// Bytes between rows that are better read with them.
const GAP_BYTES: u64 = 16 << 10;

/// The most ranges that are gathered from a batch, and that the system is told of.
const MOST_GATHERED: usize = 16_384;
const MOST_TOLD: usize = 512;

/// The most bytes that the system is told of at once.
const MOST_BYTES: u64 = 16 << 20;

/// Has the system read the rows of these boxes of voxels of type `T`, as far as the bounds go.
pub(super) fn read_ahead<T>(file: &File, boxes: impl Iterator<Item = FileBox>) {
    let ranges = ranges(boxes, size_of::<T>() as u64);
    // What is in memory already is not worth a call for each range.
    let in_memory = |(start, end): &(u64, u64)| is_in_memory(file, *start) && is_in_memory(file, end - 1);
    if ranges.first().is_none_or(in_memory) && ranges.last().is_none_or(in_memory) {
        return;
    }
    for (start, end) in ranges {
        // Only a hint: what goes wrong here goes wrong, and is reported, in the read.
        let bytes = (end - start).try_into().ok();
        let _ = rustix::fs::fadvise(file, start, bytes, rustix::fs::Advice::WillNeed);
    }
}

/// Whether a byte of the file can be read without waiting for the storage; `true` where the system does not tell.
fn is_in_memory(file: &File, offset_bytes: u64) -> bool {
    let mut byte = [0];
    let read = rustix::io::preadv2(
        file,
        &mut [std::io::IoSliceMut::new(&mut byte)],
        offset_bytes,
        rustix::io::ReadWriteFlags::NOWAIT,
    );
    !matches!(read, Err(rustix::io::Errno::AGAIN))
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
    let mut left = MOST_BYTES;
    merged.retain(|(start, end)| {
        let fits = left >= end - start;
        left = left.saturating_sub(end - start);
        fits
    });
    merged.truncate(MOST_TOLD);
    merged
}
