//! Owns [`Grid`], which chunks a region touches, and [`Part`], which voxels of both are the same. Knows nothing of how chunks are decoded or kept.

use std::ops::Range;

use super::{ChunkCoord, index};
use crate::geometry::{Coord, Extent, Region};

/// A regular grid of chunks over a volume. Made for an extent and a chunk that are not empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    extent: Extent,
    chunk: Extent,
}

impl Grid {
    pub(super) fn new(extent: Extent, chunk: Extent) -> Self {
        Self { extent, chunk }
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Voxels of a chunk, those outside of the extent included.
    pub(super) fn chunk_voxels(&self) -> usize {
        index(self.chunk.checked_volume().unwrap_or(u64::MAX))
    }

    /// Numbers of the chunks that a region inside the extent touches, along each axis.
    fn touched(&self, region: Region) -> [Range<u64>; 3] {
        let (start, size, chunk) = (region.start.to_array(), region.extent.to_array(), self.chunk.to_array());
        let empty = region.is_empty();
        [0, 1, 2].map(|axis| {
            if empty {
                return 0..0;
            }
            start[axis] / chunk[axis]..(start[axis] + size[axis] - 1) / chunk[axis] + 1
        })
    }

    /// How many chunks a region inside the extent touches.
    pub(super) fn count_of(&self, region: Region) -> u64 {
        self.touched(region).iter().fold(1u64, |count, along| count.saturating_mul(along.end - along.start))
    }

    /// The chunks that a region inside the extent touches, x fastest.
    pub(super) fn chunks_of(&self, region: Region) -> impl Iterator<Item = ChunkCoord> + use<> {
        let [xs, ys, zs] = self.touched(region);
        zs.flat_map(move |z| {
            let (xs, ys) = (xs.clone(), ys.clone());
            ys.flat_map(move |y| xs.clone().map(move |x| ChunkCoord::new(x, y, z)))
        })
    }

    /// What a chunk and a region that touches it have in common.
    pub(super) fn part(&self, chunk: ChunkCoord, region: Region) -> Part {
        let side = self.chunk;
        let start = Coord::new(chunk.x * side.x, chunk.y * side.y, chunk.z * side.z);
        let whole = Region::new(start, side);
        let inside = whole.clipped_to(self.extent);
        let shared = inside.intersection(&region).unwrap_or_default();
        Part { chunk: whole, region, shared, whole: shared == inside }
    }
}

/// The voxels that a chunk and a region have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The chunk, what lies outside of the extent included.
    chunk: Region,
    region: Region,
    shared: Region,
    whole: bool,
}

impl Part {
    /// Whether that is all that the chunk has inside the extent.
    pub(super) fn is_whole_chunk(&self) -> bool {
        self.whole
    }

    /// Where the whole chunk lies in a buffer of the region, if its voxels are there in the chunk's own order with nothing in between.
    pub(super) fn contiguous(&self) -> Option<Range<usize>> {
        let (chunk, region) = (self.chunk.extent, self.region.extent);
        let together = self.shared == self.chunk
            && (chunk.x == region.x || chunk.y == 1 && chunk.z == 1)
            && (chunk.y == region.y || chunk.z == 1);
        let first = place(&self.region, self.shared.start);
        together.then(|| first..first + index(chunk.checked_volume().unwrap_or(0)))
    }

    /// Copies from a buffer of the chunk to one of the region.
    pub(super) fn copy<T: Copy>(&self, chunk: &[T], out: &mut [T]) {
        let together = [self.chunk.extent, self.region.extent];
        self.runs(together, |start, voxels| {
            let (from, to) = (place(&self.chunk, start), place(&self.region, start));
            out[to..to + voxels].copy_from_slice(&chunk[from..from + voxels]);
        });
    }

    /// Writes one value to a buffer of the region.
    pub(super) fn fill<T: Copy>(&self, value: T, out: &mut [T]) {
        self.runs([self.region.extent; 2], |start, voxels| {
            let to = place(&self.region, start);
            out[to..to + voxels].fill(value);
        });
    }

    /// The shared voxels as runs that are contiguous in buffers of both shapes: rows, planes, or all at once.
    fn runs(&self, buffers: [Extent; 2], mut run: impl FnMut(Coord, usize)) {
        let Region { start, extent } = self.shared;
        let (mut voxels, mut rows, mut planes) = (extent.x, extent.y, extent.z);
        if buffers.iter().all(|b| b.x == extent.x) {
            (voxels, rows) = (voxels * rows, 1);
            if buffers.iter().all(|b| b.y == extent.y) {
                (voxels, planes) = (voxels * planes, 1);
            }
        }
        for z in 0..planes {
            for y in 0..rows {
                run(Coord { x: start.x, y: start.y + y, z: start.z + z }, index(voxels));
            }
        }
    }
}

/// Where a voxel lies in a buffer of a region.
fn place(region: &Region, at: Coord) -> usize {
    let Region { start, extent } = region;
    index(((at.z - start.z) * extent.y + (at.y - start.y)) * extent.x + (at.x - start.x))
}
