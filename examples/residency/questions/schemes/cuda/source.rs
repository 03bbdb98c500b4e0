//! Owns the volume in page-locked memory, from which every scheme copies straight to the device: tile after tile, and tile after tile with the first voxels of the next ones for the atlas.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use vastgrid::cuda::{Device, PinnedBuffer};

use super::super::volume::{Shape, fill};
use crate::suite::Failure;

/// Pieces of one size, one for each tile.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// Voxels along each axis.
    pub(crate) size: [u32; 3],
    pub(crate) memory: Arc<PinnedBuffer>,
    stride_bytes: usize,
}

impl Pieces {
    fn new(device: &Device, shape: Shape, size: [u32; 3]) -> Result<Self, Failure> {
        let stride_bytes = piece_bytes(size);
        let mut memory = PinnedBuffer::new(device, stride_bytes * shape.tile_count() as usize)?;
        let voxels: &mut [u16] = bytemuck::cast_slice_mut(&mut memory);
        voxels
            .par_chunks_exact_mut(stride_bytes / size_of::<u16>())
            .zip(0..shape.tile_count())
            .for_each(|(piece, tile)| fill(shape, tile, size, piece));
        Ok(Self { size, memory: Arc::new(memory), stride_bytes })
    }

    /// Where a tile's voxels are in the memory.
    pub(crate) fn range(&self, tile: u32) -> Range<usize> {
        let first = tile as usize * self.stride_bytes;
        first..first + self.size.iter().map(|side| *side as usize).product::<usize>() * size_of::<u16>()
    }

    /// A tile's voxels.
    pub(crate) fn of(&self, tile: u32) -> Result<&[u8], Failure> {
        self.memory.get(self.range(tile)).ok_or_else(|| format!("there is no tile {tile}").into())
    }
}

/// Bytes from one piece to the next: whole OS pages.
fn piece_bytes(size: [u32; 3]) -> usize {
    (size.iter().map(|side| *side as usize).product::<usize>() * size_of::<u16>()).next_multiple_of(4096)
}

/// Voxels of a tile.
pub(crate) fn tile_size(shape: Shape) -> [u32; 3] {
    shape.edges_log2.map(|log2| 1 << log2)
}

/// The same, and the first of the next ones.
pub(crate) fn bordered_size(shape: Shape) -> [u32; 3] {
    tile_size(shape).map(|side| side + 1)
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tiles: Pieces,
    pub(crate) bordered: Pieces,
}

impl Source {
    pub(crate) fn new(device: &Device, shape: Shape) -> Result<Self, Failure> {
        let tiles = Pieces::new(device, shape, tile_size(shape))?;
        let bordered = Pieces::new(device, shape, bordered_size(shape))?;
        Ok(Self { tiles, bordered })
    }

    /// Bytes of page-locked memory for both.
    pub(crate) fn bytes(shape: Shape) -> u64 {
        let both = piece_bytes(tile_size(shape)) + piece_bytes(bordered_size(shape));
        u64::from(shape.tile_count()) * both as u64
    }
}
