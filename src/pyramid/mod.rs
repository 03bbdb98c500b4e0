//! Owns volumes of several resolutions: [`PyramidSource`], where the levels come from, and [`Pyramid3D`], the arrays that they are read through. Knows nothing of pages or pictures.
//!
//! Level 0 is the full resolution. The coarsest level is resident from the start and stays, so there is always something to look at; the others are arrays like any other, and share
//! one budget with it.
//!
//! ```
//! use vastgrid::{Extent, HostBackend, Pool, Pyramid3D, PyramidSource, Region};
//!
//! // 16 GiB of voxels by formula, through 32 MiB.
//! let source = PyramidSource::procedural(Extent::cube(2048), |[x, y, z]| ((x * y + z) % 65_536.0) as u16)?;
//! let pool = Pool::new(HostBackend::new(), 32 << 20)?;
//! let pyramid = Pyramid3D::builder(&pool, source).tile([32, 32, 32]).build()?;
//!
//! let point = [1000, 1001, 1002]; // a voxel of level 0
//! assert_eq!(pyramid.finest_resident(point), Some(4)); // the coarsest of five
//! let coarse = pyramid.coarsest().frame();
//! assert!(coarse.get(pyramid.geometry(4).unwrap().voxel_of(point)).is_some());
//!
//! let fine = pyramid.level(0)?; // a `SparseArray3D`
//! fine.request_region(Region::new(point.into(), Extent::cube(64)))?.complete()?;
//! assert_eq!(pyramid.finest_resident(point), Some(0));
//! # Ok::<_, vastgrid::Error>(())
//! ```
//!
//! | for levels | use |
//! | --- | --- |
//! | that a file has | [`PyramidSource::builder`]; those that cannot be opened are listed with their reason |
//! | of an OME-Zarr image | `PyramidSource::from_zarr`, with the feature `zarr` |
//! | computed from one volume | [`PyramidSource::derive`], by [`Downsample::Mean`], `Max` or `Mode` |
//! | computed where a file has too few | [`PyramidSource::with_derived`] |
//! | by formula | [`PyramidSource::procedural`] |
//! | computed some other way | any [`TileSource`](crate::TileSource), or [`Downsampled`] and [`Strided`] by themselves |

mod array;
mod blocks;
mod builder;
mod cached;
mod computed;
mod derive;
mod downsample;
mod downsampled;
mod geometry;
mod level_source;
mod source;
mod source_builder;
mod strided;
#[cfg(feature = "zarr")]
mod zarr;

pub use array::Pyramid3D;
pub use builder::PyramidBuilder;
pub use derive::DeriveOptions;
#[cfg(feature = "zarr")]
pub(crate) use derive::steps;
pub use downsample::Downsample;
#[cfg(feature = "zarr")]
pub(crate) use downsample::Reducer;
pub use downsampled::Downsampled;
pub use geometry::LevelGeometry;
pub use source::{PyramidSource, SharedSource};
pub use source_builder::PyramidSourceBuilder;
pub use strided::Strided;
