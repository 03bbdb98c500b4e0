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

use super::TileSource;
use super::buffer::with_buffer;
use super::call::check_call;
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Scalar;

/// A source of `A` read as `B`: each voxel becomes the nearest value of the other type, rounded for integers and saturated at the ends, NaN as zero.
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

    fn will_read(&self, regions: &[Region]) {
        self.source.will_read(regions);
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
    use crate::source::Procedural;

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
    fn bad_calls_are_refused_before_anything_is_read() {
        let source = Procedural::by_region(Extent::cube(2), |_, _: &mut [u8]| panic!("called"));
        let converted: Converted<_, u8, f32> = Converted::new(source);
        let result = converted.read(Region::whole(Extent::cube(3)), &mut [0.0; 27]);
        assert!(matches!(result, Err(SourceError::BadCall { .. })));
    }
}
