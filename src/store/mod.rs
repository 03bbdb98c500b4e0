//! Owns where voxels go: the [`TileStore`] trait, and stores that are files. Knows nothing of residency, of sources or of how levels are computed.
//!
//! ```
//! use vastgrid::store::{RawStore, TileStore};
//! use vastgrid::{Coord, Extent, Region};
//!
//! let path = std::env::temp_dir().join(format!("vastgrid-doc-store-{}.raw", std::process::id()));
//! let store = RawStore::<u16>::create(&path, Extent::new(4, 2, 1))?;
//! store.write(Region::new(Coord::new(0, 1, 0), Extent::new(4, 1, 1)), &[5, 6, 7, 8])?; // rows of zeros are there already
//! assert!(!path.exists()); // nobody sees it before it is whole
//! store.save()?;
//! assert_eq!(std::fs::read(&path)?.len(), 16);
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to write | use |
//! | --- | --- |
//! | a raw file, or one behind a header | [`RawStore`] |
//! | a NRRD file (feature `nrrd`) | `RawStore::create_nrrd` |
//! | a Zarr v3 array (feature `zarr`) | `ZarrStore` |
//! | an OME-Zarr image of several levels (feature `zarr`) | `PyramidWriter` |
//! | several of them that appear as one | [`SaveFolder`] |
//!
//! # What "written" means
//!
//! A target appears under its name when `save` returns, as a whole, or not at all: everything goes into a file or folder beside it that has another name, is made durable, and is renamed. What
//! [`TileStore::write`] was given is safe once [`TileStore::flush`] or `save` returned without an error, and not before (in a [`SaveFolder`], once that is saved). What an interrupted save left is never found under the target's name.

use crate::error::StoreError;
use crate::geometry::boxes::{pieces, voxels};
use crate::geometry::{Extent, Region};
use crate::source::index;
use crate::voxel::Voxel;

mod disk;
mod folder;
#[cfg(feature = "nrrd")]
mod nrrd;
mod raw;
mod scratch;
mod unfinished;
#[cfg(feature = "zarr")]
mod zarr;

pub use folder::SaveFolder;
#[cfg(feature = "nrrd")]
pub use nrrd::NrrdDescription;
pub use raw::RawStore;
pub use scratch::{ScratchFile, ScratchStore};
#[cfg(feature = "zarr")]
pub use zarr::{
    ChannelDescription, LevelStore, PyramidDescription, PyramidWriter, Shuffle, ZarrCodec, ZarrOptions,
    ZarrStore, unfinished_save,
};
#[cfg(feature = "zarr")]
pub(crate) use zarr::{Kept, past_cache_bytes};

/// Where the voxels of a volume go.
///
/// Called from several threads at once. What is never written holds the fill value. A region that is written again replaces what was there; which one stays, of two that are written at the same time, is not said.
pub trait TileStore<T: Voxel>: Send + Sync {
    /// Size of the volume in voxels. Constant.
    fn extent(&self) -> Extent;

    /// What voxels hold that are never written. Constant.
    fn fill_value(&self) -> T {
        bytemuck::Zeroable::zeroed()
    }

    /// Shape of what is written at once: regions begin at a multiple of it along each axis, and end at one or at the volume's far face. Constant.
    ///
    /// A box of 1 takes any region. Writing several pieces at once is as good as one after the other.
    #[doc(alias = "chunk")]
    fn piece(&self) -> Extent;

    /// Writes `region`.
    ///
    /// **Shape**: `region` is half-open, inside the extent, and made of whole pieces; `voxels` are exactly its voxels, densely, x fastest, then y, then z.
    ///
    /// # Errors
    /// [`StoreError::BadCall`]; [`StoreError::Write`], [`StoreError::File`] and the like where there is no space or no permission: the region counts as not written then, and may be written again.
    /// [`StoreError::Shared`]: something that was written earlier is lost, so that nothing can be saved any more.
    fn write(&self, region: Region, voxels: &[T]) -> Result<(), StoreError>;

    /// Writes `value` everywhere in `region`. By default, piece by piece, from a buffer of one.
    ///
    /// # Errors
    /// As [`TileStore::write`].
    fn write_uniform(&self, region: Region, value: T) -> Result<(), StoreError> {
        check_write(self.extent(), self.piece(), region, None)?;
        let most = index(voxels(self.piece()).min(voxels(region.extent)));
        let buffer = vec![value; most];
        pieces(region, self.piece()).try_for_each(|p| self.write(p, &buffer[..index(voxels(p.extent))]))
    }

    /// Makes everything durable that was written before. Others see it no sooner than it is saved.
    ///
    /// # Errors
    /// What kept it from being made durable.
    fn flush(&self) -> Result<(), StoreError>;
}

/// Refuses a region that is not inside, not made of whole pieces, or not as long as its buffer.
fn check_write(
    extent: Extent,
    piece: Extent,
    region: Region,
    buffer_voxels: Option<usize>,
) -> Result<(), StoreError> {
    let (start, bound, side) = (region.start.to_array(), extent.to_array(), piece.to_array());
    let volume = region.extent.checked_volume();
    let fits = volume.is_some_and(|v| buffer_voxels.is_none_or(|len| usize::try_from(v) == Ok(len)));
    let aligned = region.end().map(super::geometry::Coord::to_array).is_some_and(|end| {
        (0..3).all(|a| {
            end[a] <= bound[a]
                && start[a].is_multiple_of(side[a])
                && (end[a].is_multiple_of(side[a]) || end[a] == bound[a])
        })
    });
    if fits && (aligned || region.is_empty() && region.is_within(extent)) {
        return Ok(());
    }
    Err(StoreError::BadCall { extent, region, piece, buffer_voxels: buffer_voxels.unwrap_or(0) })
}
