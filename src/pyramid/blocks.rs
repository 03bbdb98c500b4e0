//! Owns [`Blocks`]: a volume cut into blocks, each of which becomes one voxel. Knows nothing of what that voxel is.

use crate::error::PyramidError;
use crate::geometry::boxes::voxels;
use crate::geometry::{Coord, Extent, Region};

/// A volume in blocks, from the origin on; those at the far faces hold what there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) volume: Extent,
    pub(super) block: Extent,
}

impl Blocks {
    /// # Errors
    /// [`PyramidError::Block`]: a side of 0, or more voxels than `most_voxels`.
    pub(super) fn new(volume: Extent, block: Extent, most_voxels: u64) -> Result<Self, PyramidError> {
        if block.is_empty() || voxels(block) > most_voxels {
            return Err(PyramidError::Block { block, most_voxels });
        }
        Ok(Self { volume, block })
    }

    /// Blocks along each axis.
    pub(super) fn count(&self) -> Extent {
        let (volume, block) = (self.volume, self.block);
        Extent::new(volume.x.div_ceil(block.x), volume.y.div_ceil(block.y), volume.z.div_ceil(block.z))
    }

    /// The voxels of a box of blocks.
    pub(super) fn voxels_of(&self, blocks: Region) -> Region {
        let (start, extent, block) = (blocks.start, blocks.extent, self.block);
        let along =
            |start: u64, count: u64, side: u64| (start.saturating_mul(side), count.saturating_mul(side));
        let (x, w) = along(start.x, extent.x, block.x);
        let (y, h) = along(start.y, extent.y, block.y);
        let (z, d) = along(start.z, extent.z, block.z);
        Region::new(Coord { x, y, z }, Extent { x: w, y: h, z: d }).clipped_to(self.volume)
    }

    /// The voxel in the middle of a block, the later of two; of a block at a far face, that of what there is.
    pub(super) fn middle(&self, block: Coord) -> Coord {
        let voxels = self.voxels_of(Region::new(block, Extent::cube(1)));
        let (start, extent) = (voxels.start, voxels.extent);
        Coord { x: start.x + extent.x / 2, y: start.y + extent.y / 2, z: start.z + extent.z / 2 }
    }
}
