//! Owns [`Zarr`]: what is in a Zarr store, version 2 or 3 of the format, and volumes out of it. Knows nothing of pyramids, or of where an array's tiles go.
//!
//! Codecs, data types and metadata are `zarrs`'s. Ours is what has to be quick or must not be believed: reading objects, finding inner chunks in shards, decompressing into place.
//!
//! ```
//! use vastgrid::source::{Zarr, ZarrSlice};
//! use vastgrid::{HostBackend, Pool, SparseArray3D};
//!
//! # let folder = std::env::temp_dir().join(format!("vastgrid-doc-{}.zarr", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # std::fs::write(folder.join("0.0.0"), [1u8; 64])?;
//! # std::fs::write(folder.join(".zarray"), r#"{"zarr_format": 2, "shape": [8, 4, 4], "chunks": [4, 4, 4],
//! #     "dtype": "|u1", "compressor": null, "fill_value": 7, "order": "C", "filters": null}"#)?;
//! let zarr = Zarr::open(&folder)?; // a folder; `Zarr::over` takes any store of `zarrs`
//! let array = &zarr.arrays()[0];
//! assert_eq!((array.shape(), array.chunk_shape()), (&[8, 4, 4][..], vec![4, 4, 4]));
//!
//! let source = array.source::<u8>(&ZarrSlice::last(3))?; // z, y, x
//! let pool = Pool::new(HostBackend::new(), 1 << 20)?;
//! let volume = SparseArray3D::builder(&pool, source).build()?;
//! let voxels = volume.to_vec(vastgrid::Region::whole(volume.extent()))?;
//! assert_eq!((voxels[0], voxels[64]), (1, 7)); // the second chunk is not stored
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ::zarrs::storage::ReadableListableStorageTraits;

use super::chunked::MOST_CHUNK_BYTES;
use crate::error::SourceError;

mod array;
mod chunks;
mod fault;
mod folder;
mod image;
mod node;
mod objects;
mod objects_mark;
mod ome;
mod pipeline;
mod ranges;
mod reader;
mod shards;
mod slice;
mod store;
#[cfg(feature = "cloud")]
mod url;

pub use array::{ZarrArray, ZarrSource};
pub use image::{ZarrImage, ZarrSelection};
pub(crate) use objects_mark::objects_mark;
pub use ome::{ZarrAxis, ZarrChannel, ZarrLevel};
pub use slice::ZarrSlice;

use folder::Folder;
use objects::{Objects, Stored};
use store::{Found, Store};

/// The most bytes that are read of one object, or made of one between two codecs, where nothing says how many it should be.
const MOST_OBJECT_BYTES: u64 = 2 * MOST_CHUNK_BYTES;

/// A Zarr store that was opened, and what is in it. Cheap to clone.
///
/// **Cost**: opening reads the metadata of every group and array, one small file each (three at most), of at most 4096 and 12 groups deep, and lists the folders of groups alone: files of chunks are not looked at. Consolidated
/// metadata is not used.
#[derive(Clone)]
pub struct Zarr {
    store: Arc<Store>,
    images: Arc<[ZarrImage]>,
    found: Arc<Found>,
}

impl Zarr {
    /// Opens a folder that is a Zarr array or group.
    ///
    /// # Errors
    /// * [`SourceError::Open`]: no such folder, or no permission.
    /// * [`SourceError::Store`]: it is neither an array nor a group, or its metadata cannot be read. What lies deeper and cannot be read is no error: see [`Zarr::skipped`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let folder = std::fs::metadata(path).and_then(|metadata| {
            if metadata.is_dir() { Ok(()) } else { Err(std::io::ErrorKind::NotADirectory.into()) }
        });
        folder.map_err(|source| SourceError::Open { path: path.to_owned(), source })?;
        Self::of(Arc::new(Folder::new(path)))
    }

    /// Opens whatever `zarrs` can read and list; `name` is for messages. A store that cannot be listed has the array at its root, or the levels that its root's attributes name.
    ///
    /// # Errors
    /// [`SourceError::Store`], as [`Zarr::open`].
    pub fn over(
        storage: Arc<dyn ReadableListableStorageTraits>,
        name: impl Into<String>,
    ) -> Result<Self, SourceError> {
        Self::of(Arc::new(Stored::new(storage, name.into())))
    }

    fn of(objects: Arc<dyn Objects>) -> Result<Self, SourceError> {
        let (store, mut found) = Store::list(objects)?;
        let store = Arc::new(store);
        let images = std::mem::take(&mut found.images).into_iter();
        let images =
            images.map(|(path, text, dimensions)| ZarrImage::new(store.clone(), path, text, dimensions));
        Ok(Self { images: images.collect(), store, found: Arc::new(found) })
    }

    /// What messages call it: its path, or the name that it was given.
    #[must_use]
    pub fn name(&self) -> String {
        self.store.location("")
    }

    /// The version of its metadata, where the store can tell: one of remote stores (see `RemoteStore::version`); of a folder there is none.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.store.version()
    }

    /// Its arrays, those nearest to the root first. One that cannot be read, for its type or a codec, is among them: it says why when it is to be read.
    #[must_use]
    pub fn arrays(&self) -> &[ZarrArray] {
        self.store.arrays()
    }

    /// The array at a place, such as `sub/s0`, whether it was listed or not.
    ///
    /// # Errors
    /// [`SourceError::Store`]: there is none, or its metadata cannot be read.
    pub fn array(&self, path: &str) -> Result<ZarrArray, SourceError> {
        self.store.array(path)
    }

    /// Its OME-Zarr images, those nearest to the root first; labels too ([`ZarrImage::is_label`]).
    #[must_use]
    pub fn images(&self) -> &[ZarrImage] {
        &self.images
    }

    /// What could not be read while listing, with the reason.
    #[must_use]
    pub fn skipped(&self) -> &[(String, Arc<SourceError>)] {
        &self.found.skipped
    }

    /// Whether there are more arrays and groups than are listed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.found.cut
    }
}

impl fmt::Debug for Zarr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zarr")
            .field("name", &self.name())
            .field("arrays", &self.arrays())
            .field("images", &self.images())
            .field("skipped", &self.found.skipped)
            .finish_non_exhaustive()
    }
}
