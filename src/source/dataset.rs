//! Owns [`Dataset`]: a source whose voxel type is known at run time only, from a header or a flag. Knows nothing of formats.
//!
//! ```
//! use vastgrid::source::{Dataset, Procedural};
//! use vastgrid::{Extent, ScalarType};
//!
//! let dataset = Dataset::U8(Box::new(Procedural::new(Extent::cube(8), |c| c.x as u8)));
//! assert_eq!(dataset.scalar_type(), ScalarType::U8);
//! let as_i16 = dataset.into_source::<i16>(); // a program that renders one type reads them all
//! # use vastgrid::TileSource;
//! # assert_eq!(as_i16.extent(), Extent::cube(8));
//! ```

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::raw::open_regular;
use super::{Converted, RawFile, RawSpec, TileSource};
use crate::error::SourceError;
use crate::geometry::Extent;
use crate::voxel::{Scalar, ScalarType};

/// A boxed source of any scalar type.
pub type BoxedSource<T> = Box<dyn TileSource<T>>;

macro_rules! dataset {
    ($($(#[$cfg:meta])? $kind:ident($t:ty)),* $(,)?) => {
        /// A source of one of the shared scalar types.
        #[non_exhaustive]
        pub enum Dataset {
            $(
                $(#[$cfg])?
                #[doc = concat!("Voxels of type `", stringify!($t), "`.")]
                $kind(BoxedSource<$t>),
            )*
        }

        impl Dataset {
            /// The type of its voxels.
            #[must_use]
            pub fn scalar_type(&self) -> ScalarType {
                match self { $($(#[$cfg])? Self::$kind(_) => ScalarType::$kind,)* }
            }

            /// Size in voxels.
            #[must_use]
            pub fn extent(&self) -> Extent {
                match self { $($(#[$cfg])? Self::$kind(source) => source.extent(),)* }
            }

            /// As a source of `T`, through [`Converted`], which costs nothing where that is its type already.
            #[must_use]
            pub fn into_source<T: Scalar>(self) -> BoxedSource<T> {
                match self { $($(#[$cfg])? Self::$kind(source) => Box::new(Converted::new(source)),)* }
            }

            /// Of sources that are made for a type once it is known; `path` is for messages.
            #[cfg(feature = "tiff")]
            pub(super) fn make(
                scalar_type: ScalarType,
                path: &Path,
                maker: impl Make,
            ) -> Result<Self, SourceError> {
                #[cfg(feature = "f16")]
                let _ = path;
                Ok(match scalar_type {
                    $($(#[$cfg])? ScalarType::$kind => Self::$kind(maker.make::<$t>()?),)*
                    #[cfg(not(feature = "f16"))]
                    ScalarType::F16 => return Err(without_f16(path)),
                })
            }

            /// Opens a file without a header whose voxels are of type `scalar_type`.
            ///
            /// # Errors
            /// Those of [`RawFile::open`], and [`SourceError::Header`] for `f16` without the feature of that name.
            pub fn open_raw(
                path: impl AsRef<Path>,
                scalar_type: ScalarType,
                spec: RawSpec,
            ) -> Result<Self, SourceError> {
                let path = path.as_ref();
                Self::from_raw_file(scalar_type, open_regular(path)?, path.to_owned(), spec)
            }

            /// From a file that is open already; `path` is for messages.
            pub(super) fn from_raw_file(
                scalar_type: ScalarType,
                file: File,
                path: PathBuf,
                spec: RawSpec,
            ) -> Result<Self, SourceError> {
                Ok(match scalar_type {
                    $($(#[$cfg])? ScalarType::$kind => RawFile::<$t>::from_file(file, path, spec)?.into(),)*
                    #[cfg(not(feature = "f16"))]
                    ScalarType::F16 => return Err(without_f16(&path)),
                })
            }
        }

        $(
            $(#[$cfg])?
            impl From<RawFile<$t>> for Dataset {
                fn from(source: RawFile<$t>) -> Self {
                    Self::$kind(Box::new(source))
                }
            }
        )*
    };
}

dataset! {
    U8(u8), I8(i8), U16(u16), I16(i16), U32(u32), I32(i32),
    #[cfg(feature = "f16")]
    F16(half::f16),
    F32(f32), F64(f64),
}

/// What makes a source of a type that is known only now.
#[cfg(feature = "tiff")]
pub(super) trait Make {
    /// Of voxels of type `T`.
    fn make<T: Scalar>(self) -> Result<BoxedSource<T>, SourceError>;
}

#[cfg(not(feature = "f16"))]
fn without_f16(path: &Path) -> SourceError {
    SourceError::Header {
        path: path.to_owned(),
        field: "type",
        value: ScalarType::F16.name().to_owned(),
        reason: "vastgrid was built without the feature `f16`",
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({} of {})", self.extent(), self.scalar_type())
    }
}
