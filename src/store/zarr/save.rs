//! Owns [`Save`]: one save from its beginning to its publication, and [`ZarrStore`], a save of a single array. Knows nothing of images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::array::{ArrayForm, ArraySpec, fill_value};
use super::begin::Begin;
#[cfg(feature = "cloud")]
use super::bucket::Bucket;
use super::finisher::Finisher;
use super::level_store::LevelStore;
use super::options::ZarrOptions;
use super::target::{Done, Target};
use super::tree::Tree;
use crate::error::StoreError;
use crate::geometry::{Extent, Region};
#[cfg(feature = "cloud")]
use crate::source::{RemoteOptions, shown_url};
use crate::store::TileStore;
use crate::voxel::Scalar;

/// Where a save goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Folder(&'a Path),
    #[cfg(feature = "cloud")]
    Url(&'a str, &'a RemoteOptions),
}

impl Place<'_> {
    /// What messages call a place in it (empty: all of it).
    pub(super) fn location(&self, key: &str) -> String {
        match self {
            Self::Folder(path) => path.join(key).display().to_string(),
            #[cfg(feature = "cloud")]
            Self::Url(url, _) => shown_url(url, key),
        }
    }
}

/// A save in the making.
#[derive(Debug)]
pub(super) struct Save {
    pub(super) finisher: Arc<Finisher>,
    path: PathBuf,
    /// What an interrupted save left that is complete.
    pub(super) done: Vec<Done>,
}

impl Save {
    /// Begins a save at `place`, or goes on with one that was of the same: `of` is a JSON object that says of what.
    pub(super) fn begin(place: Place<'_>, of: &Value, options: &ZarrOptions) -> Result<Self, StoreError> {
        let begin = Begin { resume: options.resume, replace: options.replace };
        let (target, done): (Arc<dyn Target>, _) = match place {
            Place::Folder(path) => {
                let (tree, done) = Tree::begin(path, &of.to_string(), begin)?;
                (Arc::new(Arc::new(tree)), done)
            }
            #[cfg(feature = "cloud")]
            Place::Url(url, remote) => {
                let (bucket, done) = Bucket::begin(url, remote, &of.to_string(), begin)?;
                (Arc::new(Arc::new(bucket)), done)
            }
        };
        let path = PathBuf::from(target.location(""));
        Ok(Self { finisher: Arc::new(Finisher::new(target)?), path, done })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes what was flushed, with what describes it, the root last.
    pub(super) fn publish(self, metadata: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        self.finisher.settle()?;
        self.finisher.target().publish(metadata)
    }

    /// Removes what was written.
    pub(super) fn discard(self) -> Result<(), StoreError> {
        // Nothing must be on its way there any more; what failed is discarded with the rest.
        let _ = self.finisher.settle();
        self.finisher.target().discard()
    }
}

/// The fields of a save that must be the same for an interrupted one to be continued.
pub(super) fn fields<T: Scalar>(extent: Extent, fill: T, options: &ZarrOptions) -> Value {
    let ZarrOptions { chunk, shard, codec, input, .. } = options;
    json!({
        "input": input,
        "type": T::TYPE.name(),
        "shape": extent.to_array(),
        "fill": fill_value(fill),
        "chunk": chunk.to_array(),
        "shard": shard.map(Extent::to_array),
        "codec": format!("{codec:?}"),
    })
}

/// The form of a volume's array.
pub(super) fn volume_form<T: Scalar>(
    extent: Extent,
    fill: T,
    options: &ZarrOptions,
    location: &str,
) -> Result<ArrayForm, StoreError> {
    if extent.is_empty() {
        let reason = "every side must be at least 1";
        return Err(StoreError::Shape { what: "volume", shape: extent, reason });
    }
    let spec = ArraySpec {
        shape: extent.to_zyx().to_vec(),
        chunk: options.chunk.to_zyx().to_vec(),
        shard: options.shard.map(|shard| shard.to_zyx().to_vec()),
        scalar: T::TYPE,
        fill: fill_value(fill),
        codec: options.codec,
        axes: vec!["z", "y", "x"],
        attributes: json!({}),
    };
    ArrayForm::new(&spec, location)
}

/// A Zarr v3 array in the making, of axes z, y and x: what is written to it appears when it is saved, as a whole.
///
/// It is put together in a folder beside its own (`.NAME.partial`), which an interrupted save leaves behind and [`ZarrOptions::resume`] goes on with. How shards are written says [`LevelStore`].
///
/// ```
/// use vastgrid::store::{TileStore, ZarrOptions, ZarrStore};
/// use vastgrid::{Extent, Region};
///
/// let folder = std::env::temp_dir().join(format!("vastgrid-doc-{}.zarr", std::process::id()));
/// let options = ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(8)), ..ZarrOptions::default() };
/// let store = ZarrStore::create(&folder, Extent::new(20, 20, 20), 0u16, &options)?;
/// store.write(Region::whole(Extent::cube(8)), &[7; 512])?; // whole chunks, as many as one likes
/// assert!(!folder.exists());
/// store.save()?;
/// assert!(folder.join("zarr.json").exists());
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ZarrStore<T> {
    // Before the save, so that nothing is written any more when that ends.
    array: LevelStore<T>,
    save: Save,
}

impl<T: Scalar> ZarrStore<T> {
    /// Begins an array of `extent` at `path`, or goes on with one. Voxels that are never written hold `fill`.
    ///
    /// # Errors
    /// * [`StoreError::Shape`]: an extent, chunk or shard that cannot be.
    /// * [`StoreError::Exists`], [`StoreError::NotReplaced`]: something is at `path`.
    /// * [`StoreError::Busy`]: it is being written already.
    /// * [`StoreError::OtherSave`], [`StoreError::InTheWay`]: what an interrupted save left is of something else.
    /// * [`StoreError::File`]: no permission, no space. [`StoreError::Metadata`]: a codec's level that is out of its range.
    pub fn create(
        path: impl AsRef<Path>,
        extent: Extent,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<Self, StoreError> {
        Self::create_at(Place::Folder(path.as_ref()), extent, fill, options)
    }

    /// Begins an array in an object store, or goes on with one: at an address such as `s3://bucket/prefix` (see [`RemoteOptions`]). There it is put together under its own prefix, and its metadata put last; a volume that is there is
    /// never replaced.
    ///
    /// An object store cannot tell a save that runs from one that was interrupted. So what either left is touched only if the options say so: [`ZarrOptions::resume`] goes on with it, [`ZarrOptions::replace`] removes it. Whoever was writing it
    /// then gets [`StoreError::Busy`] before it puts its next object, notes what is complete, publishes or discards, and after a publication [`StoreError::Exists`]. The object that it is putting at that very moment still arrives: end a save
    /// that runs before you remove it.
    ///
    /// **Cost**: besides the objects, a small request before each, and two for every 16. Shards that are not complete are put together in one temporary file in the system's folder for such (`TMPDIR`), which takes the room of all of them as they are
    /// encoded, however many; it has no name, so nothing is left of it. Going on lists all that is there; so does removing it, page by page.
    ///
    /// # Errors
    /// As [`ZarrStore::create`], and [`StoreError::Remote`]. [`StoreError::InTheWay`]: there is a save that is neither to be gone on with nor removed. [`StoreError::NotReplaced`]: with [`ZarrOptions::replace`], where a volume is.
    #[cfg(feature = "cloud")]
    pub fn create_url(
        url: &str,
        remote: &RemoteOptions,
        extent: Extent,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<Self, StoreError> {
        Self::create_at(Place::Url(url, remote), extent, fill, options)
    }

    fn create_at(
        place: Place<'_>,
        extent: Extent,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<Self, StoreError> {
        options.check(size_of::<T>())?;
        let form = volume_form(extent, fill, options, &place.location(""))?;
        let mut save = Save::begin(place, &fields(extent, fill, options), options)?;
        let (finisher, done) = (save.finisher.clone(), std::mem::take(&mut save.done));
        let array = LevelStore::new(String::new(), (extent, fill), options, form, finisher, None, &done);
        Ok(Self { array, save })
    }

    /// The folder, or the address, that it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.save.path()
    }

    /// The array, to see what is complete of a save that goes on.
    #[must_use]
    pub fn array(&self) -> &LevelStore<T> {
        &self.array
    }

    /// Makes everything durable and gives the folder its name.
    ///
    /// # Errors
    /// As [`TileStore::flush`]; [`StoreError::Exists`] where somebody made something of that name meanwhile, [`StoreError::Busy`] where somebody took the save over. What was written stays, to go on with.
    pub fn save(self) -> Result<(), StoreError> {
        self.array.flush()?;
        self.save.publish(&[self.array.metadata()])
    }

    /// Gives up, and removes what was written.
    ///
    /// # Errors
    /// [`StoreError::File`]. [`StoreError::InTheWay`]: something is beside it that it did not make. In an object store also [`StoreError::Remote`], and [`StoreError::Busy`] or [`StoreError::Exists`] where somebody took the save over, or published it.
    pub fn discard(self) -> Result<(), StoreError> {
        drop(self.array);
        self.save.discard()
    }
}

impl<T: Scalar> TileStore<T> for ZarrStore<T> {
    fn extent(&self) -> Extent {
        self.array.extent()
    }
    fn fill_value(&self) -> T {
        self.array.fill_value()
    }
    fn piece(&self) -> Extent {
        self.array.piece()
    }
    fn write(&self, region: Region, voxels: &[T]) -> Result<(), StoreError> {
        self.array.write(region, voxels)
    }
    fn write_uniform(&self, region: Region, value: T) -> Result<(), StoreError> {
        self.array.write_uniform(region, value)
    }
    fn flush(&self) -> Result<(), StoreError> {
        self.array.flush()
    }
}
