//! Owns [`ContentKey`]: what kept voxels are found again by, and told from those of another version. Knows nothing of what is kept.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::walk::{MOST_ENTRIES, walk};
use crate::error::SourceError;

/// Which contents: where a volume is, and which version of it. Voxels that are kept under a key are only given to who comes with the same one.
///
/// ```
/// use vastgrid::source::ContentKey;
///
/// let key = |etag| ContentKey::new("https://example.org/brain.zarr").with("etag", etag).with("array", "0").with("channel", 2);
/// assert_eq!(key("a1"), key("a1"));
/// assert_ne!(key("a1"), key("a2")); // somebody replaced it
/// ```
///
/// Everything belongs into it that the voxels depend on: the location, what tells versions of it apart (an entity tag; size and time of a file), the array in it, channel and time,
/// scale and offset. What a [`TileCache`](super::TileCache) adds itself: the extent, the voxel type and the shape of its tiles.
///
/// It is a SHA-256 of all that: what went into it cannot be read from what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey([u8; 32]);

impl ContentKey {
    /// A key of a volume at that location.
    #[must_use]
    pub fn new(location: impl fmt::Display) -> Self {
        Self([0; 32]).with("location", location)
    }

    /// The key of the same volume with a property more. The order counts.
    #[must_use]
    pub fn with(self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        let mut hash = Sha256::new();
        hash.update(self.0);
        // Lengths, so that nothing of one can be taken for the other.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(value);
        Self(hash.finalize().into())
    }

    /// A key of a local file, or of a folder with all that lies in it: its location as the system resolves it, its size, when it was changed, and which file it is.
    ///
    /// A folder is told by the same of every entry in it, however deep: a chunk of a Zarr store that is written again gives another key. Links are followed, into each folder once. Nothing is read of any file, so who sets a
    /// file's times back is not noticed unless the system's own record of the change is another one.
    ///
    /// **Cost**: a few system calls; for a folder one for each entry (two for a link) and the listing of each folder in it, which takes seconds for a million. Memory for the names of one folder.
    ///
    /// # Errors
    /// [`SourceError::Open`]: it, or something in it, is not there or may not be looked at; a folder has more than a million entries. Make a key of what the format has then, such as a version that somebody keeps.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let failed = |source| SourceError::Open { path: path.to_owned(), source };
        let resolved = std::fs::canonicalize(path).map_err(failed)?;
        let metadata = std::fs::metadata(&resolved).map_err(failed)?;
        let key = Self::new(format_args!("{:?}", resolved.as_os_str().as_bytes())).with_metadata(&metadata);
        if metadata.is_dir() { key.with_entries(&resolved, MOST_ENTRIES) } else { Ok(key) }
    }

    fn with_entries(self, folder: &Path, most: usize) -> Result<Self, SourceError> {
        let mut all = Sha256::new();
        let walked = walk(folder, most, &mut |name, metadata| {
            let name = name.as_os_str().as_bytes();
            all.update((name.len() as u64).to_le_bytes());
            all.update(name);
            let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
            all.update(times.map(i64::to_le_bytes).as_flattened());
            all.update([metadata.len(), metadata.ino(), metadata.dev()].map(u64::to_le_bytes).as_flattened());
        });
        walked.map_err(|(path, source)| SourceError::Open { path, source })?;
        Ok(self.with("entries", Self(all.finalize().into())))
    }

    fn with_metadata(self, metadata: &std::fs::Metadata) -> Self {
        let of = |seconds: i64, nanoseconds: i64| format!("{seconds}.{nanoseconds}");
        self.with("bytes", metadata.len())
            .with("modified", of(metadata.mtime(), metadata.mtime_nsec()))
            // When the system last changed anything of it: writers can set the other time.
            .with("changed", of(metadata.ctime(), metadata.ctime_nsec()))
            .with("file", format_args!("{} of {}", metadata.ino(), metadata.dev()))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentKey {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_cannot_be_taken_for_each_other() {
        let base = || ContentKey::new("here");
        let keys = [
            base(),
            base().with("a", "bc"),
            base().with("ab", "c"),
            base().with("a", "b").with("c", ""),
            base().with("c", "").with("a", "b"),
            ContentKey::new("").with("location", "here"),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|b| a != b && a.to_string() != b.to_string()), "{i}");
            assert_eq!(a.to_string().len(), 64);
        }
    }

    #[test]
    fn a_file_that_changes_has_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.raw");
        std::fs::write(&path, [1; 100]).unwrap();
        let (file, within) =
            (ContentKey::of_path(&path).unwrap(), ContentKey::of_path(folder.path()).unwrap());
        assert_eq!(file, ContentKey::of_path(&path).unwrap());
        assert_eq!(
            file,
            ContentKey::of_path(folder.path().join("../").join(folder.path()).join("volume.raw")).unwrap()
        );
        // Times of files have the resolution of a clock's tick.
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(&path, [2; 100]).unwrap();
        assert_ne!(file, ContentKey::of_path(&path).unwrap(), "same size, other bytes");
        assert_ne!(within, ContentKey::of_path(folder.path()).unwrap());
        assert!(matches!(ContentKey::of_path(folder.path().join("none")), Err(SourceError::Open { .. })));
    }

    #[test]
    fn a_folder_whose_chunk_changes_however_deep_has_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let (root, chunks) = (folder.path(), folder.path().join("image/s0/c/3/1"));
        std::fs::create_dir_all(&chunks).unwrap();
        std::fs::write(root.join("zarr.json"), "{}").unwrap();
        std::fs::write(chunks.join("4"), [1; 100]).unwrap();
        let key = || ContentKey::of_path(root).unwrap();
        let mut keys = vec![key()];
        assert_eq!(keys[0], key());
        // Times of files have the resolution of a clock's tick.
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(chunks.join("4"), [2; 100]).unwrap();
        keys.push(key());
        // Not even the time that writers can set is needed.
        let modified = std::fs::metadata(chunks.join("4")).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(chunks.join("4"), [3; 100]).unwrap();
        std::fs::File::options().append(true).open(chunks.join("4")).unwrap().set_modified(modified).unwrap();
        keys.push(key());
        std::fs::write(chunks.join("5"), [3; 100]).unwrap();
        keys.push(key());
        std::fs::remove_file(chunks.join("4")).unwrap();
        keys.push(key());
        std::fs::rename(chunks.join("5"), chunks.join("4")).unwrap();
        keys.push(key());
        for (i, a) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(a), "{i}");
        }
    }

    #[test]
    fn a_folder_of_too_many_entries_has_no_key() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let key = |most| ContentKey::new("here").with_entries(folder.path(), most);
        assert!(key(3).is_ok());
        let error = key(2).unwrap_err();
        assert!(matches!(&error, SourceError::Open { path, .. } if path == folder.path()), "{error}");
    }
}
