//! Owns [`ContentKey`]: what kept voxels are found again by, and told from those of another version. Knows nothing of what is kept.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

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

    /// A key of a local file, or of a folder's own entries: its location as the system resolves it, its size, when it was changed, and which file it is.
    ///
    /// A folder is told by what lies directly in it, names, sizes and times: of something deeper that changes it knows nothing. Add what the format has, such as the bytes of its metadata.
    ///
    /// **Cost**: a few system calls; for a folder one for each entry.
    ///
    /// # Errors
    /// [`SourceError::Open`]: it is not there, or may not be looked at.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let of = || -> std::io::Result<Self> {
            let resolved = std::fs::canonicalize(path)?;
            let metadata = std::fs::metadata(&resolved)?;
            let mut key =
                Self::new(format_args!("{:?}", resolved.as_os_str().as_bytes())).with_metadata(&metadata);
            if metadata.is_dir() {
                let mut entries = std::fs::read_dir(&resolved)?.collect::<Result<Vec<_>, _>>()?;
                entries.sort_by_key(std::fs::DirEntry::file_name);
                for entry in entries {
                    key = key.with("entry", format_args!("{:?}", entry.file_name().as_bytes()));
                    // One that goes meanwhile is none.
                    key = entry.metadata().map_or(key.clone(), |metadata| key.with_metadata(&metadata));
                }
            }
            Ok(key)
        };
        of().map_err(|source| SourceError::Open { path: path.to_owned(), source })
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
}
