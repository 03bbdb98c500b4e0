//! Owns [`SparseArray3D::known_ranges`]: what an array has learnt of its values, to be kept for the next time. Knows nothing of where it is kept.

use super::SparseArray3D;
use crate::backend::Backend;
use crate::error::Error;
use crate::geometry::Extent;
use crate::planes::{cell_region, unpack_range};
use crate::source::{RangeIndex, RangeIndexBuilder};
use crate::sync::Ordering;
use crate::voxel::{Scalar, ScalarType};

impl<T: Scalar, B: Backend> SparseArray3D<T, B> {
    /// What is known of the values: of tiles that were loaded once, of uniform ones, and what the source knew. The rest of the cells are unknown. Of an array built without
    /// [`track_ranges`](crate::ArrayBuilder::track_ranges) nothing is.
    ///
    /// Kept with [`RangeIndex::save`] and given to the source the next time with [`Ranged`](crate::source::Ranged), it has the first picture leap over what this array has found empty.
    ///
    /// **Shape**: cells of the shape `cell`; those of the array itself are of 8 voxels a side, or of a tile's where that is less. [`RangeIndex::cell_for`] finds one that keeps an index small.
    ///
    /// **Cost**: a look at each cell of the index, and of the tiles that something was learnt of.
    ///
    /// # Errors
    /// [`SourceError::RangeIndex`](crate::SourceError::RangeIndex): an empty cell, or one so small that there are too many.
    pub fn known_ranges(&self, cell: impl Into<Extent>) -> Result<RangeIndex<T>, Error> {
        let (layout, planes) = (self.layout(), &self.shared().planes);
        let builder = RangeIndexBuilder::new(layout.extent(), cell.into())?;
        let Some(ranges) = planes.ranges() else { return Ok(builder.finish()) };
        for tile in ranges.noted() {
            let Some(at) = layout.tile_coord(tile) else { continue };
            if planes.is_uniform(tile) {
                builder.note_uniform(layout.tile_region(at), planes.uniform_value(tile))?;
                continue;
            }
            for (cell, word) in ranges.words(tile).iter().enumerate() {
                let region = cell_region(layout, at, cell);
                if let Some(range) = unpack_range(word.load(Ordering::Relaxed))
                    && !region.is_empty()
                {
                    builder.note_range(region, widest(range))?;
                }
            }
        }
        if let Some(known) = ranges.known() {
            builder.fill_unknown(|region| known.of(region).map(widest));
        }
        Ok(builder.finish())
    }
}

/// All values of the type that are rounded into a range.
fn widest<T: Scalar>((low, high): (f32, f32)) -> (T, T) {
    let exact = !matches!(T::TYPE, ScalarType::I32 | ScalarType::U32 | ScalarType::F64);
    if exact || low > high {
        return (T::from_f64(f64::from(low)), T::from_f64(f64::from(high)));
    }
    let half_way = |from: f32, to: f32| {
        if from.is_infinite() {
            return f64::from(to);
        }
        let half = f64::midpoint(f64::from(from), f64::from(to));
        // Half way between two numbers belongs to one of them.
        #[expect(clippy::cast_possible_truncation, reason = "rounding is the question")]
        let rounded = half as f32;
        match rounded == from {
            true => half,
            false if to < from => half.next_up(),
            false => half.next_down(),
        }
    };
    (T::from_f64(half_way(low, low.next_down())), T::from_f64(half_way(high, high.next_up())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_range_holds_what_is_rounded_into_it_and_little_else() {
        let mut state = 3u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        };
        let specials = [0.0, -0.0, 1e300, -1e300, f64::MAX, f64::MIN, f64::INFINITY, 1e-320, 5.0, 0.1];
        for i in 0..20_000 {
            let v = specials.get(i).copied().unwrap_or_else(|| f64::from_bits(random()));
            if v.is_nan() {
                continue;
            }
            let rounded = v.to_f32();
            let (low, high) = widest::<f64>((rounded, rounded));
            assert!(low <= v && v <= high, "{v:e} is not from {low:e} to {high:e}");
            if rounded.is_finite() && rounded.abs() < f32::MAX {
                assert_eq!((low.to_f32(), high.to_f32()), (rounded, rounded), "{v:e}");
            }
        }
        for _ in 0..20_000 {
            let [v, w] = [random(), random()].map(|bits| u32::try_from(bits >> 32).unwrap_or(0));
            let w = w.cast_signed();
            let (low, high) = widest::<u32>((v.to_f32(), v.to_f32()));
            assert!(low <= v && v <= high, "{v}: {low} to {high}");
            let (low, high) = widest::<i32>((w.to_f32(), w.to_f32()));
            assert!(low <= w && w <= high, "{w}: {low} to {high}");
        }
        assert_eq!(widest::<u32>((7.0, 4096.0)), (7, 4096));
        assert_eq!(widest::<u8>((7.0, 255.0)), (7, 255));
        let nothing = (f32::INFINITY, f32::NEG_INFINITY);
        assert_eq!(widest::<f64>(nothing), (f64::INFINITY, f64::NEG_INFINITY));
    }
}
