//! Owns [`Strided`]: a coarse level out of one voxel per block, for a first picture at once. Knows nothing of pyramids.

use std::fmt;

use super::blocks::Blocks;
use crate::error::{PyramidError, SourceError};
use crate::geometry::{Coord, Extent, Region};
use crate::source::{TileSource, check_call, index, with_buffer};
use crate::voxel::Voxel;

/// Voxels along x are read together, those between them included, as long as they are no further apart than what a disk reads at once.
const TOGETHER_BYTES: u64 = 4096;

/// The most voxels of a row that are read at once.
const ROW_VOXELS: u64 = 1 << 18;

/// A source that has of each block of another one the voxel in its middle (the later of two; at the far faces, the middle of what there is).
///
/// ```
/// use vastgrid::pyramid::Strided;
/// use vastgrid::source::Procedural;
/// use vastgrid::{Extent, Region, TileSource};
///
/// let coarse = Strided::new(Procedural::new(Extent::new(20, 1, 1), |c| c.x as u8), [8, 8, 8])?;
/// let mut out = [0; 3];
/// coarse.read(Region::whole(coarse.extent()), &mut out)?;
/// assert_eq!(out, [4, 12, 18]);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// **Cost**: one read of the source for each row of voxels where they are less than 4 KiB apart, else one for each voxel; at most 2^18 voxels of memory. Nothing is kept.
pub struct Strided<T, S> {
    source: S,
    blocks: Blocks,
    voxel: std::marker::PhantomData<fn() -> T>,
}

impl<T: Voxel, S: TileSource<T>> Strided<T, S> {
    /// Takes one voxel of each block of `source`.
    ///
    /// # Errors
    /// [`PyramidError::Block`]: a side of the block is 0.
    pub fn new(source: S, block: impl Into<Extent>) -> Result<Self, PyramidError> {
        let blocks = Blocks::new(source.extent(), block.into(), u64::MAX)?;
        Ok(Self { source, blocks, voxel: std::marker::PhantomData })
    }

    /// Reads the voxels of one row, the first of which is `first`.
    fn row(&self, first: Coord, out: &mut [T]) -> Result<(), SourceError> {
        let stride = self.blocks.block.x;
        let together = if stride.saturating_mul(size_of::<T>() as u64) <= TOGETHER_BYTES {
            index(ROW_VOXELS / stride).max(1)
        } else {
            1
        };
        let mut at = first;
        for out in out.chunks_mut(together) {
            let [from, to] =
                [at.x, at.x + (out.len() as u64 - 1)].map(|x| self.blocks.middle(Coord { x, ..at }));
            let run = Region::new(from, Extent::new(to.x - from.x + 1, 1, 1));
            with_buffer(index(run.extent.x), |row: &mut [T]| {
                self.source.read(run, row)?;
                // The middles of whole blocks lie one stride apart; that of the last may come sooner.
                for (i, out) in (0..).zip(&mut *out) {
                    *out = row[index((i * stride).min(to.x - from.x))];
                }
                Ok::<_, SourceError>(())
            })?;
            at.x += out.len() as u64;
        }
        Ok(())
    }
}

impl<T: Voxel, S: TileSource<T>> TileSource<T> for Strided<T, S> {
    fn extent(&self) -> Extent {
        self.blocks.count()
    }

    fn fill_value(&self) -> T {
        self.source.fill_value()
    }

    /// What is known to hold one value there holds it here.
    fn uniform(&self, region: Region) -> Option<T> {
        self.source.uniform(self.blocks.voxels_of(region))
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent(), region, out.len())?;
        if region.is_empty() {
            return Ok(());
        }
        let Region { start, extent } = region;
        for (nth, row) in (0..).zip(out.chunks_exact_mut(index(extent.x))) {
            let (y, z) = (start.y + nth % extent.y, start.z + nth / extent.y);
            self.row(Coord { x: start.x, y, z }, row)?;
        }
        Ok(())
    }
}

impl<T, S: fmt::Debug> fmt::Debug for Strided<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strided").field("source", &self.source).field("block", &self.blocks.block).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Instrumented, Procedural};

    #[test]
    fn each_voxel_is_the_middle_of_its_block() {
        let extent = Extent::new(41, 17, 10);
        // Blocks wide apart are read voxel by voxel, others row by row.
        for block in [[2, 2, 2], [3, 5, 1], [16, 16, 16], [700, 4, 4]] {
            let source = Procedural::new(extent, |c| c.x + 100 * c.y + 10_000 * c.z);
            let coarse = Strided::new(source, block).unwrap();
            let whole = Region::whole(coarse.extent());
            let mut out = vec![0; index(crate::geometry::boxes::voxels(whole.extent))];
            coarse.read(whole, &mut out).unwrap();
            let middle =
                |i: u64, side: u64, size: u64| i * side + ((i + 1) * side).min(size).abs_diff(i * side) / 2;
            let mut nth = 0;
            for z in 0..whole.extent.z {
                for y in 0..whole.extent.y {
                    for x in 0..whole.extent.x {
                        let expected = middle(x, block[0], 41)
                            + 100 * middle(y, block[1], 17)
                            + 10_000 * middle(z, block[2], 10);
                        assert_eq!(out[nth], expected, "({x}, {y}, {z}) of {block:?}");
                        nth += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_read_at_once_unless_that_reads_too_much() {
        let reads = |block: [u64; 3]| {
            let source = Instrumented::new(Procedural::new(Extent::new(1 << 15, 4, 4), |c| c.y));
            let watch = source.instruments();
            let coarse = Strided::new(source, block).unwrap();
            let (extent, mut out) = (Extent::new(8, 1, 1), [0; 8]);
            coarse.read(Region::new(Coord::new(3, 1, 0), extent), &mut out).unwrap();
            assert_eq!(out, [3; 8]);
            watch.reads()
        };
        assert_eq!(reads([512, 2, 2]), 1);
        assert_eq!(reads([513, 2, 2]), 8);
    }

    #[test]
    fn blocks_without_voxels_are_refused_and_uniform_is_passed_on() {
        let source =
            || Procedural::new(Extent::cube(8), |_| 4u8).with_uniform(|r| (r.start.y >= 4).then_some(4));
        assert!(matches!(Strided::new(source(), [0, 1, 1]), Err(PyramidError::Block { .. })));
        let coarse = Strided::new(source(), [4, 4, 4]).unwrap();
        assert_eq!(coarse.uniform(Region::new(Coord::new(0, 1, 0), Extent::cube(1))), Some(4));
        assert_eq!(coarse.uniform(Region::whole(Extent::cube(2))), None);
    }
}
