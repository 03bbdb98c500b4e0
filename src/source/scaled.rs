//! Owns [`Scaled`]: a source whose values are stored as `(value - intercept) / slope`. Knows nothing of where the voxels come from.
//!
//! ```
//! use vastgrid::source::{Procedural, Scaled};
//! use vastgrid::{Coord, Extent, Region, TileSource};
//!
//! let stored = Procedural::new(Extent::new(3, 1, 1), |c: Coord| c.x as i16);
//! let values: Scaled<_, i16, f32> = Scaled::new(stored, 0.5, -1000.0);
//! let mut out = [0.0; 3];
//! values.read(Region::whole(values.extent()), &mut out)?;
//! assert_eq!(out, [-1000.0, -999.5, -999.0]);
//! # Ok::<(), vastgrid::SourceError>(())
//! ```

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

use super::buffer::with_buffer;
use super::call::check_call;
use super::{Dataset, TileSource};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Scalar;

/// What scaled values may be: `f32` or `f64`.
pub trait Real: Scalar + sealed::Sealed {
    /// Rounded to nearest; NaN stays NaN.
    fn rounded(value: f64) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "documented: rounded to nearest")]
    fn rounded(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    #[inline]
    fn rounded(value: f64) -> Self {
        value
    }
}

/// A source of `A` read as `value * slope + intercept`, computed in `f64` and then rounded to `B` once. NaN stays NaN.
///
/// `f32` holds every value of voxels of 8 and 16 bits apart; voxels of 32 and 64 bits need `f64` ([`Dataset::scaled`] chooses).
///
/// **Cost**: one pass over each region read, through a buffer of the region's size that the thread keeps; in place where both types are the same.
pub struct Scaled<S, A, B> {
    source: S,
    slope: f64,
    intercept: f64,
    types: PhantomData<fn(A) -> B>,
}

impl<S: TileSource<A>, A: Scalar, B: Real> Scaled<S, A, B> {
    /// Reads `source` as `value * slope + intercept`.
    #[must_use]
    pub fn new(source: S, slope: f64, intercept: f64) -> Self {
        Self { source, slope, intercept, types: PhantomData }
    }

    #[inline]
    fn scale(&self, value: A) -> B {
        B::rounded(value.to_f64() * self.slope + self.intercept)
    }
}

impl<S: TileSource<A>, A: Scalar, B: Real> TileSource<B> for Scaled<S, A, B> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn fill_value(&self) -> B {
        self.scale(self.source.fill_value())
    }

    fn uniform(&self, region: Region) -> Option<B> {
        self.source.uniform(region).map(|value| self.scale(value))
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
        if TypeId::of::<A>() == TypeId::of::<B>() {
            let stored: &mut [A] = bytemuck::cast_slice_mut(out);
            self.source.read(region, stored)?;
            for voxel in stored {
                *voxel = bytemuck::cast(self.scale(*voxel));
            }
            return Ok(());
        }
        with_buffer(out.len(), |stored: &mut [A]| {
            self.source.read(region, stored)?;
            for (to, &from) in out.iter_mut().zip(&*stored) {
                *to = self.scale(from);
            }
            Ok(())
        })
    }
}

impl<S: fmt::Debug, A: Scalar, B: Scalar> fmt::Debug for Scaled<S, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scaled")
            .field("source", &self.source)
            .field("slope", &self.slope)
            .field("intercept", &self.intercept)
            .field("from", &A::TYPE)
            .field("to", &B::TYPE)
            .finish()
    }
}

impl Dataset {
    /// The same voxels as `value * slope + intercept`: of type `f32` where they are of 8 or 16 bits or `f32` themselves, and `f64` where they are `u32`, `i32` or `f64`,
    /// whose values `f32` cannot hold apart. As they are where the slope is 1 and the intercept 0.
    #[must_use]
    pub fn scaled(self, slope: f64, intercept: f64) -> Self {
        fn to<A: Scalar, B: Real>(source: Box<dyn TileSource<A>>, by: (f64, f64)) -> Box<dyn TileSource<B>> {
            Box::new(Scaled::new(source, by.0, by.1))
        }
        if slope == 1.0 && intercept == 0.0 {
            return self;
        }
        let by = (slope, intercept);
        match self {
            Self::U8(source) => Self::F32(to(source, by)),
            Self::I8(source) => Self::F32(to(source, by)),
            Self::U16(source) => Self::F32(to(source, by)),
            Self::I16(source) => Self::F32(to(source, by)),
            #[cfg(feature = "f16")]
            Self::F16(source) => Self::F32(to(source, by)),
            Self::F32(source) => Self::F32(to(source, by)),
            Self::U32(source) => Self::F64(to(source, by)),
            Self::I32(source) => Self::F64(to(source, by)),
            Self::F64(source) => Self::F64(to(source, by)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
mod tests {
    use super::*;
    use crate::source::Procedural;
    use crate::voxel::ScalarType;

    fn whole<T: Scalar>(source: &dyn TileSource<T>) -> Vec<T> {
        let extent = source.extent();
        let mut out = vec![T::from_f64(77.0); usize::try_from(extent.checked_volume().unwrap()).unwrap()];
        source.read(Region::whole(extent), &mut out).unwrap();
        out
    }

    #[test]
    fn values_are_computed_in_f64_and_rounded_once() {
        let stored = Procedural::new(Extent::new(4, 1, 1), |c| [i16::MIN, -1, 0, i16::MAX][c.x as usize]);
        let (slope, intercept) = (f64::from(0.1f32), 1e3);
        let scaled: Scaled<_, i16, f32> = Scaled::new(stored, slope, intercept);
        let expected = [i16::MIN, -1, 0, i16::MAX].map(|v| (f64::from(v) * slope + intercept) as f32);
        assert_eq!(whole(&scaled), expected);
    }

    #[test]
    fn what_f32_cannot_hold_apart_becomes_f64() {
        let near = || Procedural::new(Extent::new(2, 1, 1), |c| i32::MAX - c.x as i32);
        let Dataset::F64(source) = Dataset::I32(Box::new(near())).scaled(0.5, 0.0) else { panic!("not f64") };
        assert_eq!(whole(&source), [f64::from(i32::MAX) * 0.5, f64::from(i32::MAX - 1) * 0.5]);
        let same = Dataset::I32(Box::new(near())).scaled(1.0, 0.0);
        assert_eq!(same.scalar_type(), ScalarType::I32, "nothing to do");
        let small = Dataset::U8(Box::new(Procedural::new(Extent::cube(1), |_| 3u8))).scaled(2.0, 1.0);
        assert_eq!(small.scalar_type(), ScalarType::F32);
    }

    #[test]
    fn the_same_type_is_scaled_in_place_and_nan_stays() {
        let source = Procedural::new(Extent::new(2, 1, 1), |c| [f32::NAN, 3.0][c.x as usize])
            .with_fill(2.0)
            .with_uniform(|_| Some(1.0));
        let scaled: Scaled<_, f32, f32> = Scaled::new(source, 2.0, 1.0);
        let values = whole(&scaled);
        assert!(values[0].is_nan() && values[1] == 7.0, "{values:?}");
        assert_eq!((scaled.fill_value(), scaled.uniform(Region::default())), (5.0, Some(3.0)));
    }

    #[test]
    fn bad_calls_are_refused_before_anything_is_read() {
        let source = Procedural::by_region(Extent::cube(2), |_, _: &mut [u8]| panic!("called"));
        let scaled: Scaled<_, u8, f32> = Scaled::new(source, 2.0, 0.0);
        let result = scaled.read(Region::whole(Extent::cube(3)), &mut [0.0; 27]);
        assert!(matches!(result, Err(SourceError::BadCall { .. })));
    }
}
