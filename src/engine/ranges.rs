//! Owns the value ranges of a tile's cells, noted while the tile is still in the cache, and the source's own index of them as the planes ask it.

use std::sync::Arc;

use crate::geometry::{Extent, Region};
use crate::layout::Layout;
use crate::planes::{KnownRanges, cell_shape, pack_range};
use crate::source::RangeIndex;
use crate::sync::{AtomicU64, Ordering};
use crate::voxel::Scalar;

/// What an array does to keep ranges.
pub(crate) struct Tracking<T> {
    /// Notes the ranges of a tile's cells: the tile, its layout, its part inside the array, where they go.
    pub(super) note: fn(&[T], &Layout, Extent, &[AtomicU64]),
    /// The source's index as the planes ask it.
    pub(crate) known: fn(Arc<RangeIndex<T>>) -> Arc<dyn KnownRanges>,
}

impl<T> Clone for Tracking<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Tracking<T> {}

impl<T: Scalar> Tracking<T> {
    pub(crate) const fn new() -> Self {
        Self { note: cell_ranges::<T>, known: |index| Arc::new(Indexed(index)) }
    }
}

/// An index, as `f32`.
#[derive(Debug)]
struct Indexed<T>(Arc<RangeIndex<T>>);

impl<T: Scalar> KnownRanges for Indexed<T> {
    fn of(&self, region: Region) -> Option<(f32, f32)> {
        // Of whole numbers, what stands for the range of nothing is as wide as they are: it is never in an index.
        let (min, max) = self.0.of(region)?;
        Some((min.to_f32(), max.to_f32()))
    }

    fn cells(&self) -> u64 {
        self.0.least().len() as u64
    }
}

/// Notes the smallest and largest value of each cell of `tile`, over the voxels in its part inside the array, `inside`. NaNs are left out.
///
/// **Cost**: one pass over the tile, about as fast as summing it.
#[expect(clippy::cast_possible_truncation, reason = "positions in a tile, which is in memory")]
fn cell_ranges<T: Scalar>(tile: &[T], layout: &Layout, inside: Extent, words: &[AtomicU64]) {
    let [w, h, _] = layout.tile_shape().to_array().map(|v| v as usize);
    let [cw, ch, cd] = cell_shape(layout).to_array().map(|v| v as usize);
    let [iw, ih, id] = inside.to_array().map(|v| v as usize);
    let (columns, lines) = (w / cw, h / ch);
    for (i, word) in words.iter().enumerate() {
        let first = [i % columns * cw, i / columns % lines * ch, i / columns / lines * cd];
        let end = [(first[0] + cw).min(iw), (first[1] + ch).min(ih), (first[2] + cd).min(id)];
        let mut range: Option<(T, T)> = None;
        for z in first[2]..end[2] {
            for y in first[1]..end[1] {
                if first[0] >= end[0] {
                    continue;
                }
                let at = (z * h + y) * w;
                for &v in &tile[at + first[0]..at + end[0]] {
                    range = Some(match range {
                        Some((min, max)) => (if v < min { v } else { min }, if v > max { v } else { max }),
                        None if is_nan(v) => continue,
                        None => (v, v),
                    });
                }
            }
        }
        let range =
            range.map_or((f32::INFINITY, f32::NEG_INFINITY), |(min, max)| (min.to_f32(), max.to_f32()));
        word.store(pack_range(range), Ordering::Relaxed);
    }
}

#[expect(clippy::eq_op, reason = "only a NaN differs from itself")]
fn is_nan<T: Scalar>(v: T) -> bool {
    v != v
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::LayoutSpec;
    use crate::planes::unpack_range;

    #[test]
    fn ranges_are_those_of_the_voxels_inside() {
        let spec = LayoutSpec { tile: Some(Extent::cube(16)), ..LayoutSpec::default() };
        let layout = Layout::new(Extent::cube(10), 4, spec, 1, 1 << 16).unwrap();
        let mut tile = vec![-1e9f32; 4096];
        for (i, v) in tile.iter_mut().enumerate() {
            let (x, y, z) = (i % 16, i / 16 % 16, i / 256);
            if x < 10 && y < 10 && z < 10 {
                *v = (x + 100 * y + 10_000 * z) as f32;
            }
        }
        tile[0] = f32::NAN;
        let words: Vec<_> = (0..8).map(|_| AtomicU64::new(0)).collect();
        cell_ranges(&tile, &layout, Extent::cube(10), &words);
        let at = |i: usize| unpack_range(words[i].load(Ordering::Relaxed));
        assert_eq!(at(0), Some((1.0, 70_707.0)));
        assert_eq!(at(1), Some((8.0, 70_709.0)));
        assert_eq!(at(7), Some((80_808.0, 90_909.0)));
    }
}
