//! Owns [`Converted`]: a source of one scalar type read as another. Knows nothing of where the voxels come from.
//!
//! ```
//! use vastgrid::source::{Converted, Procedural};
//! use vastgrid::{Coord, Extent, Region, TileSource};
//!
//! let wide = Procedural::new(Extent::new(3, 1, 1), |c: Coord| [-5.0, 1.5, 1e9][c.x as usize]);
//! let narrow: Converted<_, f64, u8> = Converted::new(wide);
//! let mut out = [0; 3];
//! narrow.read(Region::whole(narrow.extent()), &mut out)?;
//! assert_eq!(out, [0, 2, 255]);
//! # Ok::<(), vastgrid::SourceError>(())
//! ```

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::buffer::with_buffer;
use super::call::check_call;
use super::range_index::is_float;
use super::{RangeIndex, TileSource};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Scalar;

/// A source of `A` read as `B`: each voxel becomes the nearest value of the other type, as [`Scalar::from_f64`] has it. Integers are rounded and saturated at the ends, and a NaN becomes zero; floats keep NaNs and infinities.
///
/// Where both types are the same, voxels pass as they are.
///
/// **Cost**: one pass over each region read, through a buffer of the region's size that the thread keeps; nothing where both types are the same.
pub struct Converted<S, A, B> {
    source: S,
    types: PhantomData<fn(A) -> B>,
}

impl<S: TileSource<A>, A: Scalar, B: Scalar> Converted<S, A, B> {
    /// Reads `source` as voxels of type `B`.
    #[must_use]
    pub fn new(source: S) -> Self {
        Self { source, types: PhantomData }
    }
}

fn same<A: Scalar, B: Scalar>() -> bool {
    TypeId::of::<A>() == TypeId::of::<B>()
}

fn convert<A: Scalar, B: Scalar>(value: A) -> B {
    if same::<A, B>() { bytemuck::cast(value) } else { B::from_f64(value.to_f64()) }
}

impl<S: TileSource<A>, A: Scalar, B: Scalar> TileSource<B> for Converted<S, A, B> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn fill_value(&self) -> B {
        convert(self.source.fill_value())
    }

    fn uniform(&self, region: Region) -> Option<B> {
        self.source.uniform(region).map(convert)
    }

    /// As wide as the source's; where that may have left out NaNs, and they become zero, as wide as to hold zero too.
    fn ranges(&self) -> Option<Arc<RangeIndex<B>>> {
        let ranges = self.source.ranges()?;
        let nan = (is_float::<A>() && !is_float::<B>()).then(|| B::from_f64(0.0));
        let with_nan = |v: B, better: fn(&B, &B) -> bool| nan.filter(|nan| better(nan, &v)).unwrap_or(v);
        Some(Arc::new(
            ranges.converted(|(low, high)| (with_nan(convert(low), B::lt), with_nan(convert(high), B::gt))),
        ))
    }

    fn will_read(&self, regions: &[Region]) {
        self.source.will_read(regions);
    }

    fn chunk(&self) -> Option<Extent> {
        self.source.chunk()
    }

    fn will_read_all(&self) {
        self.source.will_read_all();
    }

    fn kept_bytes(&self) -> u64 {
        self.source.kept_bytes()
    }

    fn keep_at_most(&self, bytes: u64) {
        self.source.keep_at_most(bytes);
    }

    fn read(&self, region: Region, out: &mut [B]) -> Result<(), SourceError> {
        check_call(self.source.extent(), region, out.len())?;
        if same::<A, B>() {
            return self.source.read(region, bytemuck::cast_slice_mut(out));
        }
        with_buffer(out.len(), |voxels: &mut [A]| {
            self.source.read(region, voxels)?;
            for (to, &from) in out.iter_mut().zip(&*voxels) {
                *to = convert(from);
            }
            Ok(())
        })
    }
}

impl<S: fmt::Debug, A: Scalar, B: Scalar> fmt::Debug for Converted<S, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converted")
            .field("source", &self.source)
            .field("from", &A::TYPE)
            .field("to", &B::TYPE)
            .finish()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
mod tests {
    use super::*;
    use crate::geometry::Coord;
    use crate::source::{Procedural, RangeIndexBuilder, Ranged};

    #[test]
    fn values_are_rounded_and_saturated_and_32_bits_are_not_cut_to_24() {
        let source = Procedural::new(Extent::new(4, 1, 1), |c| [0u32, 16_777_217, u32::MAX, 7][c.x as usize])
            .with_fill(1 << 31)
            .with_uniform(|_| Some(70_000));
        let source = std::sync::Arc::new(source);
        let as_i32: Converted<_, u32, i32> = Converted::new(source.clone());
        let mut out = [0; 4];
        as_i32.read(Region::whole(as_i32.extent()), &mut out).unwrap();
        assert_eq!(out, [0, 16_777_217, i32::MAX, 7]);
        let as_u16: Converted<_, u32, u16> = Converted::new(source);
        assert_eq!(as_u16.fill_value(), u16::MAX);
        assert_eq!(as_u16.uniform(Region::whole(Extent::cube(1))), Some(u16::MAX));
    }

    #[test]
    fn the_same_type_passes_bit_for_bit() {
        let odd = f32::from_bits(0x7fc1_2345);
        let source = Procedural::new(Extent::cube(2), move |_| odd).with_fill(odd);
        let same: Converted<_, f32, f32> = Converted::new(source);
        let mut out = [0.0; 8];
        same.read(Region::whole(same.extent()), &mut out).unwrap();
        assert!(out.iter().chain([&same.fill_value()]).all(|v| v.to_bits() == odd.to_bits()));
    }

    #[test]
    fn floats_of_another_width_keep_nans_and_infinities() {
        fn kept<A: Scalar, B: Scalar>() {
            let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.5].map(A::from_f64);
            let source = Procedural::new(Extent::new(4, 1, 1), move |c| values[c.x as usize])
                .with_fill(values[0])
                .with_uniform(move |_| Some(values[0]));
            let source = Ranged::new(source, {
                let cell = Extent::new(1, 1, 1);
                let builder = RangeIndexBuilder::new(Extent::new(4, 1, 1), cell).unwrap();
                for (x, value) in (0..).zip(values) {
                    builder.note(Region::new(Coord::new(x, 0, 0), cell), &[value]).unwrap();
                }
                Arc::new(builder.finish())
            });
            let converted: Converted<_, A, B> = Converted::new(source.unwrap());
            let mut out = [B::zeroed(); 4];
            converted.read(Region::whole(converted.extent()), &mut out).unwrap();
            let out = out.map(B::to_f64);
            let name = format!("{} as {}", A::TYPE, B::TYPE);
            assert!(out[0].is_nan() && converted.fill_value().to_f64().is_nan(), "{name}");
            assert!(converted.uniform(Region::whole(converted.extent())).unwrap().to_f64().is_nan());
            assert_eq!(out[1..], [f64::INFINITY, f64::NEG_INFINITY, -2.5], "{name}");
            // A NaN is nothing that a range must hold, and becomes nothing that it must.
            let ranges = converted.ranges().unwrap();
            let of = |i| ranges.cell_range(i).map(|(low, high)| [low.to_f64(), high.to_f64()]);
            assert_eq!(of(0), Some([f64::INFINITY, f64::NEG_INFINITY]), "{name}");
            assert_eq!((of(1), of(3)), (Some([f64::INFINITY; 2]), Some([-2.5; 2])), "{name}");
        }
        kept::<f32, f64>();
        kept::<f64, f32>();
        #[cfg(feature = "f16")]
        {
            kept::<half::f16, f32>();
            kept::<f64, half::f16>();
        }
    }

    #[test]
    fn ranges_hold_what_voxels_become() {
        let values = [f32::NAN, 300.0, 7.4, -3.0, 1e9, 2.5, 100.0, 120.0];
        let source = Procedural::new(Extent::new(8, 1, 1), move |c| values[c.x as usize]);
        let cell = Extent::new(2, 1, 1);
        let builder = RangeIndexBuilder::new(source.extent(), cell).unwrap();
        for x in [0, 2, 6] {
            let region = Region::new(Coord::new(x, 0, 0), cell);
            let mut out = [0.0; 2];
            source.read(region, &mut out).unwrap();
            builder.note(region, &out).unwrap();
        }
        let source = Ranged::new(source, Arc::new(builder.finish())).unwrap();
        let as_u8: Converted<_, f32, u8> = Converted::new(source);
        let ranges = as_u8.ranges().unwrap();
        let of = |i| ranges.cell_range(i);
        assert_eq!([of(0), of(1), of(2), of(3)], [Some((0, 255)), Some((0, 7)), None, Some((0, 120))]);
        let mut out = [0; 8];
        as_u8.read(Region::whole(as_u8.extent()), &mut out).unwrap();
        for (i, v) in out.into_iter().enumerate() {
            assert!(of(i / 2).is_none_or(|(low, high)| low <= v && v <= high), "{i}");
        }
    }

    #[test]
    fn bad_calls_are_refused_before_anything_is_read() {
        let source = Procedural::by_region(Extent::cube(2), |_, _: &mut [u8]| panic!("called"));
        let converted: Converted<_, u8, f32> = Converted::new(source);
        let result = converted.read(Region::whole(Extent::cube(3)), &mut [0.0; 27]);
        assert!(matches!(result, Err(SourceError::BadCall { .. })));
    }
}
