//! Owns [`open()`]: what a path or an address is, told by its content, what volumes are in it, and how they are read. Knows nothing of arrays in memory.
//!
//! | format | recognised by | feature |
//! | --- | --- | --- |
//! | NRRD | `NRRD` | `nrrd` |
//! | MetaImage | a first line such as `ObjectType = Image` | `nrrd` |
//! | NIfTI, also under gzip | the header's length and its magic; an `.img` file by the `.hdr` beside it | `nifti` |
//! | TIFF | `II` or `MM`, and 42 or 43 | `tiff` |
//! | Zarr, OME-Zarr | a folder with `zarr.json`, `.zarray`, `.zgroup` or `.zattrs` | `zarr` |
//! | the same in a store | an address (`s3://`, `https://`, `gs://`, `az://`) | `cloud` |
//! | raw voxels | a sidecar beside them (`.mhd`, `.nhdr`) that names the file | `nrrd` |
//!
//! Names and extensions count for nothing but the last: a file without a header is looked for in the headers beside it.
//!
//! ```
//! use vastgrid::open::Selection;
//!
//! # #[cfg(feature = "nrrd")] {
//! let volume = vastgrid::open("assets/stent.nrrd")?;
//! for entry in volume.entries() {
//!     println!("{}: {} voxels of {:?}, {:?}", entry.name, entry.extent(), entry.scalar_type, entry.spacing);
//! }
//! let source = volume.dataset(&Selection::default())?.into_source::<i16>();
//! let levels = volume.pyramid::<i16>(&Selection::default())?; // of an OME-Zarr image all that it has
//! # assert_eq!(levels.levels(), 1);
//! # }
//! # Ok::<(), vastgrid::Error>(())
//! ```

use std::ffi::OsStr;
use std::path::Path;

use crate::error::SourceError;

#[cfg(feature = "zarr")]
mod dimensions;
mod entry;
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff"))]
mod files;
mod folder;
mod format;
mod opened;
mod recognise;
mod remote;
mod selection;
mod sidecar;
mod space;
#[cfg(feature = "zarr")]
mod zarr;

pub use entry::{Entry, EntryAxis, EntryChannel, EntryKind};
pub use format::Format;
pub use opened::Opened;
pub use remote::OpenOptions;
pub use selection::Selection;
pub use space::EntrySpace;

/// Opens a file, a folder or an address, whatever it is.
///
/// **Cost**: headers and metadata are read, no voxels. Of a TIFF file all directories, of a Zarr folder the metadata of all groups and arrays.
///
/// # Errors
/// * [`SourceError::Open`], [`SourceError::Read`]: no such thing, or no permission.
/// * [`SourceError::Unrecognised`]: of no format that is known; it tells the first bytes.
/// * [`SourceError::NeedsFeature`]: of one that this build has not.
/// * Those of the format: [`SourceError::Header`], [`SourceError::Unsupported`], [`SourceError::Truncated`], [`SourceError::Store`], [`SourceError::Remote`].
pub fn open(location: impl AsRef<OsStr>) -> Result<Opened, SourceError> {
    open_with(location, &OpenOptions::default())
}

/// The same with options.
///
/// # Errors
/// As [`open()`].
pub fn open_with(location: impl AsRef<OsStr>, options: &OpenOptions) -> Result<Opened, SourceError> {
    let location = location.as_ref();
    if let Some(url) = location.to_str().filter(|text| crate::source::is_url(text)) {
        return remote::open(url, options);
    }
    let path = Path::new(location);
    if path.is_dir() { folder::open(path) } else { recognise::open(path) }
}
