//! Owns what a voxel may be: [`Voxel`] (any plain data) and [`Scalar`] (a number that can be rendered and ranged).

use std::fmt::Debug;

mod range;

pub(crate) use range::range_of;
#[cfg(feature = "zarr")]
pub(crate) use range::ranges_along;

/// One element of an array: plain data of 1, 2, 4, 8, 16, 32 or 64 bytes.
///
/// Implemented for every type that is [`bytemuck::Pod`], comparable and printable; sizes that are no power of two are refused
/// when an array is built ([`LayoutError::VoxelSize`](crate::LayoutError::VoxelSize)).
pub trait Voxel: bytemuck::Pod + PartialEq + Debug + Send + Sync + 'static {}

impl<T: bytemuck::Pod + PartialEq + Debug + Send + Sync + 'static> Voxel for T {}

/// The scalar types that files, tools and renderers share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[doc(alias = "dtype")]
#[non_exhaustive]
pub enum ScalarType {
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// IEEE 754 half precision.
    F16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

impl ScalarType {
    /// Size of one voxel.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The name that Rust, `NumPy` and this crate's files use, such as `i16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The type of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::U8, Self::I8, Self::U16, Self::I16, Self::U32, Self::I32, Self::F16, Self::F32, Self::F64]
            .into_iter()
            .find(|t| t.name() == name)
    }
}

impl std::fmt::Display for ScalarType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A voxel that is one number: what can be ranged (per-tile minimum and maximum) and rendered.
pub trait Scalar: Voxel + PartialOrd {
    /// Which of the shared scalar types this is.
    const TYPE: ScalarType;

    /// The value as `f32`, rounded to nearest where it does not fit exactly.
    fn to_f32(self) -> f32;

    /// The value as `f64`: exact for every one of the shared types.
    fn to_f64(self) -> f64;

    /// The nearest value of this type: rounded and saturated at the ends for integers, of which NaN becomes zero; of floats NaN stays NaN, and infinity and what is beyond the largest number become infinity.
    fn from_f64(value: f64) -> Self;

    /// The bytes in the other order, for files of foreign endianness.
    #[must_use]
    fn swap_bytes(self) -> Self;
}

macro_rules! integer {
    ($($t:ty => $kind:ident),*) => {$(
        impl Scalar for $t {
            const TYPE: ScalarType = ScalarType::$kind;
            #[inline(always)]
            #[allow(clippy::cast_lossless, reason = "lossless for some of the types only")]
            fn to_f32(self) -> f32 { self as f32 }
            #[inline]
            fn to_f64(self) -> f64 { f64::from(self) }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as documented; not every type needs both")]
            fn from_f64(value: f64) -> Self { value.round() as Self }
            fn swap_bytes(self) -> Self { <$t>::swap_bytes(self) }
        }
    )*};
}
integer!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32);

impl Scalar for f32 {
    const TYPE: ScalarType = ScalarType::F32;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[expect(clippy::cast_possible_truncation, reason = "documented: the nearest value")]
    fn from_f64(value: f64) -> Self {
        value as Self
    }
    fn swap_bytes(self) -> Self {
        Self::from_bits(self.to_bits().swap_bytes())
    }
}

impl Scalar for f64 {
    const TYPE: ScalarType = ScalarType::F64;
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "documented: rounded to nearest")]
    fn to_f32(self) -> f32 {
        self as f32
    }
    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
    fn swap_bytes(self) -> Self {
        Self::from_bits(self.to_bits().swap_bytes())
    }
}

#[cfg(feature = "f16")]
impl Scalar for half::f16 {
    const TYPE: ScalarType = ScalarType::F16;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }
    #[inline]
    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }
    fn from_f64(value: f64) -> Self {
        Self::from_f64(value)
    }
    fn swap_bytes(self) -> Self {
        Self::from_bits(self.to_bits().swap_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_round_trip() {
        for t in [ScalarType::U8, ScalarType::I16, ScalarType::F16, ScalarType::F64] {
            assert_eq!(ScalarType::from_name(t.name()), Some(t));
        }
        assert_eq!(size_of::<u16>(), u16::TYPE.bytes());
        assert_eq!(ScalarType::from_name("complex64"), None);
    }

    #[test]
    fn from_f64_saturates_and_rounds() {
        assert_eq!(u8::from_f64(300.0), 255);
        assert_eq!(i16::from_f64(-1.5), -2);
        assert_eq!(u16::from_f64(f64::NAN), 0);
    }

    #[test]
    fn floats_keep_what_is_no_number_and_what_is_infinite() {
        fn kept<T: Scalar>() {
            assert!(T::from_f64(f64::NAN).to_f64().is_nan(), "{}", T::TYPE);
            for infinite in [f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(T::from_f64(infinite).to_f64(), infinite, "{}", T::TYPE);
            }
        }
        kept::<f32>();
        kept::<f64>();
        #[cfg(feature = "f16")]
        kept::<half::f16>();
    }
}
