//! Owns [`Downsampled`]: a level that is computed from a finer one when it is read. Knows nothing of pyramids, nor of what keeps the results.

use std::fmt;
use std::sync::Arc;

use super::blocks::Blocks;
use super::downsample::{Downsample, Reducer};
use crate::error::{PyramidError, SourceError};
use crate::geometry::boxes::{pieces, shape_within, voxels};
use crate::geometry::{Extent, Region};
use crate::source::{RangeIndex, TileSource, check_call, index, with_buffer};
use crate::voxel::{Scalar, ScalarType};

/// The most voxels of the finer level that are in memory at once: those of a tile of 32^3 by a factor of 2.
pub(super) const PIECE_VOXELS: u64 = 1 << 18;

/// The most voxels of the finer level that it is told of before they are read.
const AHEAD_VOXELS: u64 = 64 * PIECE_VOXELS;

/// A source whose voxels are blocks of another one's: their mean, greatest or most frequent value (see [`Downsample`]).
///
/// ```
/// use vastgrid::pyramid::{Downsample, Downsampled};
/// use vastgrid::source::Procedural;
/// use vastgrid::{Extent, Region, TileSource};
///
/// let fine = Procedural::new(Extent::new(5, 1, 1), |c| c.x as u8 * 10);
/// let coarse = Downsampled::new(fine, [2, 2, 2], Downsample::Mean)?;
/// let mut out = [0; 3];
/// coarse.read(Region::whole(coarse.extent()), &mut out)?;
/// assert_eq!(out, [5, 25, 40]); // the last block has one voxel
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// **Cost**: reads every voxel below a region once, in pieces of at most 2^18 voxels (2 MiB of `f64`), which is all the memory that a read takes. Nothing is kept.
///
/// A level over a level over a level is the mean of means: integers have been rounded, and blocks at far faces weigh as much as whole ones, once a level. The greatest value is
/// exact whatever lies between.
pub struct Downsampled<T, S> {
    source: S,
    blocks: Blocks,
    method: Downsample,
    voxel: std::marker::PhantomData<fn() -> T>,
}

impl<T: Scalar, S: TileSource<T>> Downsampled<T, S> {
    /// Makes one voxel of each block of `source`.
    ///
    /// # Errors
    /// [`PyramidError::Block`]: a side of the block is 0, or it has more than 2^18 voxels.
    pub fn new(source: S, block: impl Into<Extent>, method: Downsample) -> Result<Self, PyramidError> {
        let blocks = Blocks::new(source.extent(), block.into(), PIECE_VOXELS)?;
        Ok(Self { source, blocks, method, voxel: std::marker::PhantomData })
    }

    /// Computes one piece into its place in `out`, which holds `region`.
    fn reduce(
        &self,
        piece: Region,
        reducer: &mut Reducer<T>,
        region: Region,
        out: &mut [T],
    ) -> Result<(), SourceError> {
        let below = self.blocks.voxels_of(piece);
        let block = self.blocks.block.to_array().map(index);
        let [w, h, d] = below.extent.to_array().map(index);
        with_buffer(index(voxels(below.extent)), |fine: &mut [T]| {
            self.source.read(below, fine)?;
            for (z, piece_z) in (0..piece.extent.z).enumerate() {
                for (y, piece_y) in (0..piece.extent.y).enumerate() {
                    let ys = y * block[1]..((y + 1) * block[1]).min(h);
                    let zs = z * block[2]..((z + 1) * block[2]).min(d);
                    let rows = zs.flat_map(|z| ys.clone().map(move |y| (z * h + y) * w));
                    let at = index(
                        (piece.start.x - region.start.x)
                            + region.extent.x
                                * ((piece.start.y - region.start.y + piece_y)
                                    + region.extent.y * (piece.start.z - region.start.z + piece_z)),
                    );
                    let out = &mut out[at..at + index(piece.extent.x)];
                    reducer.row(rows.map(|from| &fine[from..from + w]), block[0], out);
                }
            }
            Ok(())
        })
    }
}

impl<T: Scalar, S: TileSource<T>> TileSource<T> for Downsampled<T, S> {
    fn extent(&self) -> Extent {
        self.blocks.count()
    }

    fn fill_value(&self) -> T {
        self.source.fill_value()
    }

    /// What is known to hold one value below holds it here.
    fn uniform(&self, region: Region) -> Option<T> {
        let value = self.source.uniform(self.blocks.voxels_of(region))?;
        // Many doubles may sum up to something else than so many times one of them, unless it is short of digits.
        let exact = T::TYPE != ScalarType::F64
            || self.method != Downsample::Mean
            || f64::from(value.to_f32()).to_bits() == value.to_f64().to_bits();
        exact.then_some(value)
    }

    /// The source's, of the blocks: whatever they become lies between their smallest and their largest value.
    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        let below = self.source.ranges()?;
        let ranges =
            below.coarser(self.extent(), self.blocks.block, |region| self.blocks.voxels_of(region))?;
        let rounds = T::TYPE == ScalarType::F64 && self.method == Downsample::Mean;
        Some(Arc::new(if rounds { ranges.converted(with_rounding) } else { ranges }))
    }

    /// Passed on for the first 2^24 voxels below: a coarse level would have all of the finest read ahead.
    fn will_read(&self, regions: &[Region]) {
        let mut left = AHEAD_VOXELS;
        let below = regions.iter().map(|&region| self.blocks.voxels_of(region)).take_while(|below| {
            let fits = left.checked_sub(voxels(below.extent));
            left = fits.unwrap_or(0);
            fits.is_some()
        });
        let below: Vec<_> = below.collect();
        if !below.is_empty() {
            self.source.will_read(&below);
        }
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent(), region, out.len())?;
        if region.is_empty() {
            return Ok(());
        }
        let shape = shape_within(region.extent, PIECE_VOXELS / voxels(self.blocks.block));
        let mut reducer = Reducer::new(self.method);
        pieces(region, shape).try_for_each(|piece| self.reduce(piece, &mut reducer, region, out))
    }
}

/// A range of doubles, and what sums of as many of them as a block has may miss it by.
fn with_rounding<T: Scalar>((low, high): (T, T)) -> (T, T) {
    let (low, high) = (low.to_f64(), high.to_f64());
    if low == high && low == 0.0 || low > high {
        return (T::from_f64(low), T::from_f64(high));
    }
    let slack = PIECE_VOXELS as f64 * f64::EPSILON * low.abs().max(high.abs());
    // Sums of what is as large may overflow.
    let slack = if slack < 1e280 { slack + f64::MIN_POSITIVE } else { f64::INFINITY };
    let wide = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
    (T::from_f64(-wide(slack - low)), T::from_f64(wide(high + slack)))
}

impl<T, S: fmt::Debug> fmt::Debug for Downsampled<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downsampled")
            .field("source", &self.source)
            .field("block", &self.blocks.block)
            .field("method", &self.method)
            .finish()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
mod tests {
    use super::*;
    use crate::geometry::Coord;
    use crate::source::{Instrumented, Procedural};

    /// A number that looks random, and is the same for the same voxel of one seed.
    fn noise(seed: u64, c: Coord) -> u64 {
        let mut v = seed
            ^ c.x.wrapping_mul(0x9e37_79b9)
            ^ c.y.wrapping_mul(0x85eb_ca6b)
            ^ c.z.wrapping_mul(0xc2b2_ae35);
        v = (v ^ (v >> 13)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        v ^ (v >> 29)
    }

    /// One block after the other, as plainly as can be.
    fn expected<T: Scalar>(
        voxel: impl Fn(Coord) -> T,
        extent: Extent,
        block: Extent,
        region: Region,
        method: Downsample,
    ) -> Vec<T> {
        let mut all = Vec::new();
        let (start, size) = (region.start, region.extent);
        for z in start.z..start.z + size.z {
            for y in start.y..start.y + size.y {
                for x in start.x..start.x + size.x {
                    let mut values = Vec::new();
                    for k in z * block.z..((z + 1) * block.z).min(extent.z) {
                        for j in y * block.y..((y + 1) * block.y).min(extent.y) {
                            for i in x * block.x..((x + 1) * block.x).min(extent.x) {
                                values.push(voxel(Coord::new(i, j, k)));
                            }
                        }
                    }
                    let numbers: Vec<f64> =
                        values.iter().map(|v| v.to_f64()).filter(|v| !v.is_nan()).collect();
                    all.push(if numbers.is_empty() {
                        values[0]
                    } else {
                        T::from_f64(of_block(&numbers, method))
                    });
                }
            }
        }
        all
    }

    fn of_block(values: &[f64], method: Downsample) -> f64 {
        match method {
            Downsample::Mean => values.iter().sum::<f64>() / values.len() as f64,
            Downsample::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Downsample::Mode => {
                let count = |v: f64| values.iter().filter(|&&w| w == v).count();
                let most = values.iter().map(|&v| count(v)).max().unwrap();
                values.iter().copied().filter(|&v| count(v) == most).fold(f64::INFINITY, f64::min)
            }
        }
    }

    fn check<T: Scalar>(seed: u64, voxel: impl Fn(Coord) -> T + Copy + Send + Sync + 'static) {
        let odd = |bits: u32, most: u64| 1 + 2 * (seed.rotate_right(bits) % most);
        let extent = Extent::new(odd(7, 20), odd(17, 15), odd(27, 7));
        for block in [[2, 2, 2], [2, 1, 3], [5, 7, 4], [64, 64, 64], [1, 1, 1]] {
            for method in [Downsample::Mean, Downsample::Max, Downsample::Mode] {
                let coarse = Downsampled::new(Procedural::new(extent, voxel), block, method).unwrap();
                let whole = Region::whole(coarse.extent());
                let inner = Region::new(
                    Coord::new(whole.extent.x / 3, whole.extent.y / 2, 0),
                    Extent::new(whole.extent.x.div_ceil(2), 1, whole.extent.z),
                );
                for region in [whole, inner] {
                    let mut out = vec![T::zeroed(); voxels(region.extent) as usize];
                    coarse.read(region, &mut out).unwrap();
                    let expected = expected(voxel, extent, block.into(), region, method);
                    let bits = |values: &[T]| values.iter().map(|v| v.to_f64().to_bits()).collect::<Vec<_>>();
                    let same = bits(&out) == bits(&expected);
                    assert!(same, "{method:?} of {block:?}, {region}, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn every_method_is_what_a_plain_loop_gives() {
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new().hash_one(0);
        let noise = move |c| noise(seed, c);
        check(seed, move |c| noise(c) as u16);
        check(seed, move |c| (noise(c) % 5) as u8);
        check(seed, move |c| noise(c) as i32);
        check(seed, move |c| (noise(c) % 3) as i16 - 1);
        // Quarters, whose sums are exact in any order; a third of them NaN.
        check(seed, move |c| match noise(c) {
            n if n.is_multiple_of(3) => f32::NAN,
            n => f32::from((n >> 7) as i8) / 4.0,
        });
        check(seed, move |c| f64::from((noise(c) % 4096) as u16) / 64.0);
    }

    #[test]
    fn no_piece_is_larger_than_promised() {
        let fine = Instrumented::new(Procedural::new(Extent::new(300, 200, 100), |c| c.x as u8));
        let watch = fine.instruments();
        let coarse = Downsampled::new(fine, [3, 2, 1], Downsample::Mean).unwrap();
        let whole = Region::whole(coarse.extent());
        let mut out = vec![0; voxels(whole.extent) as usize];
        coarse.read(whole, &mut out).unwrap();
        assert_eq!(out[7], 22, "voxels 21 to 23");
        let reads = watch.reads_by_region();
        assert!(reads.iter().all(|(region, times)| voxels(region.extent) <= PIECE_VOXELS && *times == 1));
        assert_eq!(reads.iter().map(|(region, _)| voxels(region.extent)).sum::<u64>(), 300 * 200 * 100);
    }

    #[test]
    fn uniform_regions_stay_uniform_where_the_mean_is_sure_to_be_the_same() {
        let half = |value: f64| {
            let fine = Procedural::new(Extent::cube(16), move |_| value)
                .with_uniform(move |r| (r.start.x >= 8).then_some(value));
            Downsampled::new(fine, [2, 2, 2], Downsample::Mean).unwrap()
        };
        let far = Region::new(Coord::new(4, 0, 0), Extent::new(4, 8, 8));
        assert_eq!(half(1.5).uniform(far), Some(1.5));
        assert_eq!(half(1.5).uniform(Region::new(Coord::new(3, 0, 0), Extent::cube(4))), None);
        assert_eq!(half(0.1).uniform(far), None);
        let fine = Procedural::new(Extent::cube(16), |_| 0.1f64).with_uniform(|_| Some(0.1));
        assert_eq!(Downsampled::new(fine, [2, 2, 2], Downsample::Max).unwrap().uniform(far), Some(0.1));
    }

    #[test]
    fn little_is_said_of_what_will_be_read() {
        struct Told(std::sync::Mutex<Vec<Region>>);
        impl TileSource<u8> for Told {
            fn extent(&self) -> Extent {
                Extent::cube(1 << 20)
            }
            fn will_read(&self, regions: &[Region]) {
                self.0.lock().unwrap().extend(regions);
            }
            fn read(&self, _: Region, _: &mut [u8]) -> Result<(), SourceError> {
                Ok(())
            }
        }
        let told = std::sync::Arc::new(Told(Vec::new().into()));
        let coarse = Downsampled::new(told.clone(), [2, 2, 2], Downsample::Mean).unwrap();
        let tile = |x: u64| Region::new(Coord::new(32 * x, 0, 0), Extent::cube(32));
        coarse.will_read(&(0..1000).map(tile).collect::<Vec<_>>());
        coarse.will_read(&[Region::whole(coarse.extent())]);
        let told = told.0.lock().unwrap();
        assert_eq!(told.len(), 64);
        assert_eq!(told[1], Region::new(Coord::new(64, 0, 0), Extent::cube(64)));
    }

    #[test]
    fn bad_blocks_and_calls_are_refused() {
        let new = |block: [u64; 3]| {
            Downsampled::new(Procedural::new(Extent::cube(8), |_| 1u8), block, Downsample::Mode)
        };
        assert!(matches!(new([2, 0, 2]), Err(PyramidError::Block { .. })));
        assert!(matches!(new([1 << 17, 2, 2]), Err(PyramidError::Block { .. })));
        assert!(matches!(new([u64::MAX; 3]), Err(PyramidError::Block { .. })));
        let coarse = new([3, 3, 3]).unwrap();
        assert_eq!(coarse.extent(), Extent::cube(3));
        let outside = Region::new(Coord::new(3, 0, 0), Extent::cube(1));
        assert!(matches!(coarse.read(outside, &mut [0]), Err(SourceError::BadCall { .. })));
    }
}
