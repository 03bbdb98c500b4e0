//! Owns where tiles come from: the [`TileSource`] trait, and the sources that need no format library. Knows nothing of residency or memory.
//!
//! ```
//! use vastgrid::{Extent, Region, SourceError, TileSource};
//!
//! /// A ramp along x.
//! struct Ramp;
//!
//! impl TileSource<u16> for Ramp {
//!     fn extent(&self) -> Extent {
//!         Extent::new(1 << 16, 4096, 4096)
//!     }
//!     fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
//!         for (i, voxel) in (0..).zip(out) {
//!             *voxel = (region.start.x + i % region.extent.x) as u16;
//!         }
//!         Ok(())
//!     }
//! }
//! ```

use std::sync::Arc;

use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::prepared::Prepared;
use crate::voxel::Voxel;

mod address;
mod ahead;
mod atomic_file;
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff"))]
mod bad;
mod buffer;
mod call;
mod chunked;
mod content_key;
mod convert;
mod dataset;
mod dense;
mod fill;
#[cfg(any(feature = "nifti", feature = "nrrd"))]
mod inflate;
mod input_file;
mod instrumented;
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
mod magic;
#[cfg(feature = "nrrd")]
mod metaimage;
#[cfg(feature = "nifti")]
mod nifti;
#[cfg(feature = "nrrd")]
mod nrrd;
#[cfg(feature = "nrrd")]
mod numbers;
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
mod peek;
mod procedural;
mod range_index;
mod ranged;
mod raw;
#[cfg(feature = "cloud")]
mod remote;
mod rows;
mod runs;
mod scaled;
mod scratch;
#[cfg(feature = "tiff")]
mod tiff;
mod tile_cache;
mod walk;
#[cfg(feature = "zarr")]
mod zarr;

pub use address::is_url;
pub(crate) use buffer::with_buffer;
pub(crate) use call::{check_call, guarded, index};
pub use content_key::ContentKey;
pub use convert::Converted;
pub use dataset::{BoxedSource, Dataset};
pub use dense::Dense;
pub use fill::Fill;
#[cfg(feature = "zarr")]
pub(crate) use input_file::direct_alignment;
#[cfg(all(test, feature = "zarr"))]
pub(crate) use input_file::is_in_memory;
pub use instrumented::{InjectedFault, Instrumented, Instruments};
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
pub(crate) use magic::{GZIP_MAGIC, NiftiMagic, is_meta_image, is_nrrd, is_tiff};
#[cfg(feature = "nrrd")]
pub use metaimage::{MetaImage, MetaImageHeader};
#[cfg(feature = "nifti")]
pub use nifti::{Nifti, NiftiHeader, NiftiQform, NiftiSform};
#[cfg(feature = "nrrd")]
pub use nrrd::{Nrrd, NrrdEncoding, NrrdHeader};
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
pub(crate) use peek::first_bytes;
#[cfg(any(feature = "nifti", feature = "nrrd"))]
pub(crate) use peek::first_inflated_bytes;
pub use procedural::Procedural;
pub use range_index::{RangeIndex, RangeIndexBuilder};
pub use ranged::Ranged;
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
pub(crate) use raw::open_regular;
pub use raw::{AxisOrder, Endian, RawFile, RawSpec};
#[cfg(feature = "cloud")]
pub(crate) use remote::{Came, Put, Tag, shown_url};
#[cfg(feature = "cloud")]
pub use remote::{RemoteOptions, RemoteStore, file_url};
pub use scaled::{Real, Scaled};
pub(crate) use scratch::{scratch_file, scratch_file_in};
#[cfg(feature = "tiff")]
pub use tiff::{Tiff, TiffChannel, TiffImage};
pub use tile_cache::{KeptTiles, TileCache, TileCacheOptions, TileCacheStats};
#[cfg(feature = "zarr")]
pub(crate) use zarr::objects_mark;
#[cfg(feature = "zarr")]
pub use zarr::{
    Zarr, ZarrArray, ZarrAxis, ZarrChannel, ZarrImage, ZarrLevel, ZarrSelection, ZarrSlice, ZarrSource,
};

/// Where the tiles of an array come from.
///
/// Called from several threads at once, from the loading pool or from the thread that made the request. A source may itself read another array, as long as that does not
/// lead back to the tile being loaded ([`ResidencyError::LoadsItself`](crate::ResidencyError::LoadsItself) after the pool's patience).
/// A panic in a source becomes a [`SourceError::Panicked`] of that tile.
pub trait TileSource<T: Voxel>: Send + Sync {
    /// Size of the volume in voxels. Constant.
    fn extent(&self) -> Extent;

    /// What voxels hold that do not exist. Constant.
    fn fill_value(&self) -> T {
        bytemuck::Zeroable::zeroed()
    }

    /// The one value that all of `region` is known to hold, if that is known **without reading it**: such tiles never take memory.
    fn uniform(&self, region: Region) -> Option<T> {
        let _ = region;
        None
    }

    /// What is known of the values **without reading any**: the smallest and largest of each cell of the volume, or of some of them. Empty space is skipped by it before anything is
    /// loaded ([`track_ranges`](crate::ArrayBuilder::track_ranges)). It must agree with the voxels. Asked for when an array is built; `None` by default.
    ///
    /// [`Ranged`] adds what is known to a source that does not.
    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        None
    }

    /// A hint that these regions are about to be read, in this order, by several threads: a source over slow storage may begin to fetch them. Does nothing by default.
    ///
    /// Called once for each batch of more than one tile, before its memory is mapped. Must not block for long.
    fn will_read(&self, regions: &[Region]) {
        let _ = regions;
    }

    /// A hint that everything is about to be read, each part once or twice, in large pieces: a raw file is then read past the system's cache where it is not in it already, which saves a copy and leaves
    /// what others have there. It holds for as long as the source lives: who reads parts again and again had better open it anew. Does nothing by default.
    fn will_read_all(&self) {}

    /// Whether a read is little more than a copy of memory, as from a volume that is in memory as a whole: then five eighths of the loading threads, and ten at the most, do it where copies to a device compete
    /// with them for the same memory, which all of them together would only slow down. A hint; constant; `false` by default.
    fn only_copies(&self) -> bool {
        false
    }

    /// Shape of what is decoded as a whole whatever part of it is read, if there is such a thing: who reads everything reads best in such pieces, else in rows along x. A hint; constant; `None` by default.
    fn chunk(&self) -> Option<Extent> {
        None
    }

    /// Bytes of memory that it takes at most to keep what it has read or decoded, beside the memory of whoever reads. None by default.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Asks it to keep no more than that from now on, for a budget that is smaller. Where it keeps what other tiles need, some is read or decoded again then. Does nothing by default.
    fn keep_at_most(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The voxels of `region` as they are in memory, if they are: whoever needs them copies them from there, once, and [`TileSource::read`] is not called. A GPU copies
    /// straight from page-locked memory ([`cuda::PinnedBuffer`](crate::cuda::PinnedBuffer)).
    ///
    /// Asked for whole tiles only. `None`, the default, where there is nothing of the kind.
    ///
    /// # Errors
    /// As [`TileSource::read`]; so is a length that is not that of the region's voxels.
    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        let _ = region;
        Ok(None)
    }

    /// Reads `region`.
    ///
    /// **Shape**: `region` is half-open and lies inside the extent; `out` holds exactly its voxels, densely, x fastest, then y, then z. Every voxel of `out`
    /// must be written: its contents before that are unspecified (any bit pattern).
    ///
    /// # Errors
    /// Whatever keeps this region from being read. It is reported for the tile; other tiles of the same request are not affected.
    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError>;
}

impl<T: Voxel, S: TileSource<T> + ?Sized> TileSource<T> for Arc<S> {
    fn extent(&self) -> Extent {
        (**self).extent()
    }
    fn fill_value(&self) -> T {
        (**self).fill_value()
    }
    fn uniform(&self, region: Region) -> Option<T> {
        (**self).uniform(region)
    }
    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        (**self).ranges()
    }
    fn will_read(&self, regions: &[Region]) {
        (**self).will_read(regions);
    }
    fn will_read_all(&self) {
        (**self).will_read_all();
    }
    fn only_copies(&self) -> bool {
        (**self).only_copies()
    }
    fn chunk(&self) -> Option<Extent> {
        (**self).chunk()
    }
    fn kept_bytes(&self) -> u64 {
        (**self).kept_bytes()
    }
    fn keep_at_most(&self, bytes: u64) {
        (**self).keep_at_most(bytes);
    }
    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        (**self).prepared(region)
    }
    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        (**self).read(region, out)
    }
}

impl<T: Voxel, S: TileSource<T> + ?Sized> TileSource<T> for Box<S> {
    fn extent(&self) -> Extent {
        (**self).extent()
    }
    fn fill_value(&self) -> T {
        (**self).fill_value()
    }
    fn uniform(&self, region: Region) -> Option<T> {
        (**self).uniform(region)
    }
    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        (**self).ranges()
    }
    fn will_read(&self, regions: &[Region]) {
        (**self).will_read(regions);
    }
    fn will_read_all(&self) {
        (**self).will_read_all();
    }
    fn only_copies(&self) -> bool {
        (**self).only_copies()
    }
    fn chunk(&self) -> Option<Extent> {
        (**self).chunk()
    }
    fn kept_bytes(&self) -> u64 {
        (**self).kept_bytes()
    }
    fn keep_at_most(&self, bytes: u64) {
        (**self).keep_at_most(bytes);
    }
    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        (**self).prepared(region)
    }
    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        (**self).read(region, out)
    }
}
