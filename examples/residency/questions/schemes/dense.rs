//! Owns the ceilings, which hold the whole volume: as one dense array of rows, and tile after tile. Nothing is ever loaded or looked up.
//!
//! Made good: huge pages; positions become indices by shifts alone; samples anywhere are asked for ahead; rays through rows run from their first sample to their last without a test for tiles. Rows of a large array lie
//! far from each other, so that the array in tiles is often the faster of the two: both are here so that neither stands for the other.

use rayon::prelude::*;

use super::memory::{Buffer, ask_ahead};
use super::path::Work;
use super::sampling::{Bricks, advance, blend, cell};
use super::scheme::{Blocks, Scheme};
use super::volume::{EDGE, EDGE_LOG2, Shape, TILE_VOXELS, Volume};
use crate::suite::Failure;

const AHEAD: usize = 16;

/// The whole volume, tile after tile.
#[derive(Debug)]
pub(crate) struct InTiles {
    shape: Shape,
    voxels: Buffer,
}

impl InTiles {
    pub(crate) fn new(volume: &Volume) -> Result<Self, Failure> {
        let mut voxels = Buffer::new(usize::try_from(volume.shape.bytes())? / 2, true)?;
        voxels
            .par_chunks_exact_mut(TILE_VOXELS)
            .zip(0..volume.shape.tile_count())
            .try_for_each(|(tile, number)| volume.tiles.read(number, tile))?;
        Ok(Self { shape: volume.shape, voxels })
    }
}

impl Bricks for InTiles {
    const ROW: u32 = EDGE;

    #[inline(always)]
    fn shape(&self) -> Shape {
        self.shape
    }

    #[inline(always)]
    fn brick(&self, tile: u32) -> Option<&[u16]> {
        let first = tile as usize * TILE_VOXELS;
        self.voxels.get(first..first + TILE_VOXELS)
    }
}

impl Blocks for InTiles {
    fn title(&self) -> &'static str {
        "dense, in tiles"
    }

    fn hold(&mut self, _tiles: &[u32]) -> Result<u64, Failure> {
        Ok(0)
    }

    fn held_bytes(&self, _tiles: u64) -> u64 {
        self.shape.bytes()
    }
}

/// The whole volume, row after row.
#[derive(Debug)]
pub(crate) struct Rows {
    shape: Shape,
    /// Shifts for y and z.
    row: u32,
    plane: u32,
    voxels: Buffer,
}

impl Rows {
    pub(crate) fn new(volume: &Volume) -> Result<Self, Failure> {
        let shape = volume.shape;
        let row = shape.log2[0] + EDGE_LOG2;
        let plane = row + shape.log2[1] + EDGE_LOG2;
        let mut voxels = Buffer::new(usize::try_from(shape.bytes())? / 2, true)?;
        let [wide, high, _] = shape.tiles();
        // A slab of tiles in z is one piece of the array, and one thread's.
        voxels.par_chunks_exact_mut((EDGE as usize) << plane).zip(0..shape.tiles()[2]).try_for_each(
            |(slab, z)| -> std::io::Result<()> {
                let mut tile = vec![0; TILE_VOXELS];
                for (x, y) in (0..high).flat_map(|y| (0..wide).map(move |x| (x, y))) {
                    volume.tiles.read(shape.index([x, y, z]), &mut tile)?;
                    for (number, voxels) in (0..).zip(tile.chunks_exact(EDGE as usize)) {
                        let (in_y, in_z) = (y * EDGE + number % EDGE, number / EDGE);
                        let first = ((in_y as usize) << row) + ((in_z as usize) << plane);
                        let first = first + (x * EDGE) as usize;
                        slab[first..first + voxels.len()].copy_from_slice(voxels);
                    }
                }
                Ok(())
            },
        )?;
        Ok(Self { shape, row, plane, voxels })
    }

    #[inline(always)]
    fn index(&self, [x, y, z]: [u32; 3]) -> usize {
        x as usize + ((y as usize) << self.row) + ((z as usize) << self.plane)
    }

    #[inline(always)]
    fn near(&self, at: usize) -> Option<[u16; 8]> {
        let pair = |at: usize| self.voxels.get(at..at + 2).map(|pair| [pair[0], pair[1]]);
        let (row, plane) = (1 << self.row, 1 << self.plane);
        // The last first: it is the one that could lie outside.
        let ([g, h], [e, f]) = (pair(at + row + plane)?, pair(at + plane)?);
        let ([c, d], [a, b]) = (pair(at + row)?, pair(at)?);
        Some([a, b, c, d, e, f, g, h])
    }
}

impl Scheme for Rows {
    fn name(&self) -> &'static str {
        "dense, in rows"
    }

    fn want(&mut self, _tiles: &[u32]) -> Result<u64, Failure> {
        Ok(0)
    }

    fn rays(&self, work: &Work) -> Option<f64> {
        let mut sum = 0.0;
        for ray in &work.rays {
            let mut at = ray.first;
            for _ in 0..ray.samples {
                sum += blend(self.near(self.index(cell(at)))?, at);
                advance(&mut at, ray.step);
            }
        }
        Some(sum)
    }

    fn points(&self, work: &Work) -> Option<f64> {
        let (mut sum, points) = (0.0, &work.points);
        let lines = [0, 1 << self.row, 1 << self.plane, (1 << self.row) + (1 << self.plane)];
        for i in 0..points.len() + AHEAD {
            if let Some(&point) = points.get(i) {
                let at = self.index(cell(point));
                for line in lines {
                    ask_ahead(&self.voxels, at + line);
                }
            }
            if let Some(&point) = i.checked_sub(AHEAD).and_then(|i| points.get(i)) {
                sum += blend(self.near(self.index(cell(point)))?, point);
            }
        }
        Some(sum)
    }

    fn touch(&self, tile: u32) -> Option<u64> {
        let first = self.shape.position(tile).map(|at| at << EDGE_LOG2);
        self.voxels.get(self.index(first)).map(|&voxel| voxel.into())
    }

    fn bytes(&self, _tiles: u64) -> u64 {
        self.shape.bytes()
    }
}
