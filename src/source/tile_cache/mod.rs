//! Owns [`TileCache`]: decoded tiles of slow sources, kept in a folder from one process to the next. Knows nothing of what the sources are.
//!
//! | file | owns |
//! | --- | --- |
//! | `kept` | a source through the cache |
//! | `tile_file` | one tile as a file |
//! | `uniform` | tiles of one value, which have no file |
//! | `room` | how much there is, what was used last, and what goes |
//! | `flights` | who is reading what |
//!
//! ```text
//!   folder/
//!     8c1f..e2/            a volume: its key with extent, type and shape of tiles
//!       3-0-12.tile        a tile: its voxels, then whose they are, and a checksum
//!       uniform            a log of tiles of one value
//!       .unfinished-91-7   a tile being written; it gets its name when it is there as a whole
//!     05ab..77/
//!       ranges             value ranges of a volume
//! ```
//!
//! A file is believed if its checksum and what it says it is of are right. So it does not matter where a process was killed, nor who else writes to the folder: the worst is that a tile is read from its
//! source again. No locks between processes: each removes what was used least when the folder becomes too large by what it knows, and looks at the folder again after a sixteenth of its bound.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::SourceError;
use crate::geometry::Extent;
use crate::source::{ContentKey, RangeIndex, TileSource};
use crate::voxel::{Scalar, Voxel};

mod flights;
mod kept;
mod room;
mod tile_file;
mod uniform;

pub use kept::KeptTiles;
pub use room::TileCacheStats;

use room::Room;

/// What a [`TileCache`] is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileCacheOptions {
    /// The most bytes of files in the folder, all volumes together. With n processes at once it may become n sixteenths more. Default: 16 GiB.
    pub most_bytes: u64,
}

impl Default for TileCacheOptions {
    fn default() -> Self {
        Self { most_bytes: 16 << 30 }
    }
}

/// A folder that keeps decoded tiles of slow or remote sources, so that they are read from there once, and not again by the next process.
///
/// The least recently used go when there are too many. Whatever happens to the folder or to a process, no wrong voxel is read: damaged files are noticed, and read from the source again. Where the
/// folder cannot be written any more (a full disk, no permission), the cache keeps no more from then on, says so in a warning, and sources go on as without it. Clones share the folder.
///
/// ```
/// use vastgrid::source::{ContentKey, Instrumented, Procedural, TileCache, TileCacheOptions};
/// use vastgrid::{Extent, Region, TileSource};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let cache = TileCache::open(folder, TileCacheOptions { most_bytes: 1 << 30 })?;
/// let far_away = Instrumented::new(Procedural::new(Extent::cube(256), |c| (c.x ^ c.y) as u16));
/// let reads = far_away.instruments();
/// let key = ContentKey::new("https://example.org/volume.zarr").with("etag", "\"5e1-7c\"").with("array", "0");
/// let source = cache.source(far_away, &key, Extent::cube(64))?;
///
/// let (tile, mut voxels) = (Region::whole(Extent::cube(64)), vec![0; 1 << 18]);
/// source.read(tile, &mut voxels)?;
/// source.read(tile, &mut voxels)?; // from the folder
/// assert_eq!(reads.reads(), 1);
/// # Ok::<(), vastgrid::SourceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TileCache {
    room: Arc<Room>,
}

impl TileCache {
    /// Keeps tiles in that folder, which is made if it is not there. Several processes may use one at once. What else is in the folder is left alone.
    ///
    /// **Cost**: a look at the name and size of each file in it.
    ///
    /// # Errors
    /// [`SourceError::Store`]: it cannot be made or listed. (One that cannot be written is no error: what is there is read.)
    pub fn open(folder: impl Into<PathBuf>, options: TileCacheOptions) -> Result<Self, SourceError> {
        let folder = folder.into();
        let location = folder.display().to_string();
        let room = std::fs::create_dir_all(&folder).and_then(|()| Room::new(folder, options.most_bytes));
        let failed = |source| SourceError::Store {
            doing: "opening the tile cache in",
            location,
            source: Box::new(source),
        };
        Ok(Self { room: Arc::new(room.map_err(failed)?) })
    }

    /// A source through the cache: tiles of the shape `tile` are read from `source` as a whole, once, and kept. Best are those of the arrays that will read it, or a multiple.
    ///
    /// `key` has to say all that the voxels depend on, see [`ContentKey`]. Extent, voxel type and `tile` are added here.
    ///
    /// **Cost**: a tile that is kept costs opening, reading and closing a file of its voxels, and a checksum; one that is not, besides the source's own cost, making and renaming a file.
    /// Tiles of one value are known without being read, and take 40 bytes and the value. In memory, some 300 bytes for each tile that was used.
    ///
    /// # Errors
    /// [`SourceError::Shape`]: a side of `tile` is zero, or it is larger than can be addressed.
    pub fn source<T: Voxel, S: TileSource<T>>(
        &self,
        source: S,
        key: &ContentKey,
        tile: impl Into<Extent>,
    ) -> Result<KeptTiles<T, S>, SourceError> {
        KeptTiles::new(self.room.clone(), source, key, tile.into())
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.room.folder()
    }

    /// Whether tiles are still kept: not after one could not be written.
    #[must_use]
    pub fn is_keeping(&self) -> bool {
        self.room.is_keeping()
    }

    /// What was found and kept so far, by this and its clones.
    #[must_use]
    pub fn stats(&self) -> TileCacheStats {
        self.room.stats()
    }

    /// Keeps what is known of a volume's values, for [`TileCache::load_ranges`] with the same key. Where it cannot be written, there is a warning, and nothing is kept.
    pub fn save_ranges<T: Scalar>(&self, key: &ContentKey, ranges: &RangeIndex<T>) {
        let bytes = (ranges.least().len() * 2 * size_of::<T>()) as u64;
        self.room.keep(&self.ranges_path(key), bytes, |path| {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            ranges.save(path, key).map_err(std::io::Error::other)
        });
    }

    /// What was kept of a volume's values under that key; see [`RangeIndex::load`]. [`Ranged`](super::Ranged) gives it to a source.
    #[must_use]
    pub fn load_ranges<T: Scalar>(&self, key: &ContentKey) -> Option<RangeIndex<T>> {
        let path = self.ranges_path(key);
        let found = RangeIndex::load(&path, key)?;
        self.room.used(&path, None);
        Some(found)
    }

    fn ranges_path(&self, key: &ContentKey) -> PathBuf {
        self.folder().join(key.to_string()).join(room::RANGES)
    }
}
