//! Owns [`objects_mark`]: what tells whether the objects of an array in a folder are those that were there when it was made. Knows nothing of what they hold.

use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::source::walk::{MOST_ENTRIES, walk};

/// The mark of an array in a folder: 64 hexadecimal digits, of the bytes of its metadata and of the name, the size and the time of each of its objects (to the nanosecond). Files whose name begins with a dot are none.
///
/// It is the same wherever the folder lies, and for a copy that keeps times.
///
/// **Cost**: one call for each object, and the listing of each folder; nothing is read. A folder that is not there has no objects.
///
/// # Errors
/// What could not be looked at, and why; more than a million entries.
pub(crate) fn objects_mark(folder: &Path, metadata: &[u8]) -> Result<String, (PathBuf, io::Error)> {
    let mut all = Sha256::new();
    all.update((metadata.len() as u64).to_le_bytes());
    all.update(metadata);
    let walked = walk(folder, MOST_ENTRIES, &mut |name, about| {
        let hidden = name.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
        // The metadata counts by its bytes.
        if about.is_dir() || hidden || name == Path::new("zarr.json") {
            return;
        }
        let name = name.as_os_str().as_bytes();
        all.update((name.len() as u64).to_le_bytes());
        all.update(name);
        all.update(about.len().to_le_bytes());
        all.update([about.mtime(), about.mtime_nsec()].map(i64::to_le_bytes).as_flattened());
    });
    match walked {
        Err((path, error)) if error.kind() == io::ErrorKind::NotFound && path == folder => {}
        walked => walked?,
    }
    let mut mark = String::with_capacity(64);
    for byte in all.finalize() {
        // A string takes all that is written to it.
        let _ = write!(mark, "{byte:02x}");
    }
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_mark_is_of_names_sizes_times_and_metadata_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("s0");
        assert_eq!(objects_mark(&root, b"{}").unwrap(), objects_mark(folder.path(), b"{}").unwrap());
        fs::create_dir_all(root.join("c/0/0")).unwrap();
        let put = |name: &str, bytes: &[u8], nanoseconds: u64| {
            fs::write(root.join(name), bytes).unwrap();
            let time =
                SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 0) + Duration::from_nanos(nanoseconds);
            File::options().append(true).open(root.join(name)).unwrap().set_modified(time).unwrap();
        };
        let mark = || objects_mark(&root, b"{}").unwrap();
        put("c/0/0/0", b"chunk", 1000);
        put("c/0/0/1", b"chunk", 1000);
        let first = mark();
        put("zarr.json", b"{}", 5000);
        put(".nfs0000", b"", 5000);
        fs::create_dir(root.join("c/1")).unwrap();
        put("c/0/0/1", b"other", 1000);
        assert_eq!(mark(), first, "neither of what is no object, nor of what would have to be read");
        let elsewhere = folder.path().join("t0");
        fs::rename(&root, &elsewhere).unwrap();
        assert_eq!(objects_mark(&elsewhere, b"{}").unwrap(), first);
        assert_ne!(objects_mark(&elsewhere, b"{ }").unwrap(), first);
        fs::rename(&elsewhere, &root).unwrap();
        put("c/0/0/1", b"other", 1100);
        assert_ne!(mark(), first, "a time");
        put("c/0/0/1", b"chunk more", 1000);
        assert_ne!(mark(), first, "a size");
        fs::rename(root.join("c/0/0/1"), root.join("c/0/0/2")).unwrap();
        put("c/0/0/2", b"chunk", 1000);
        assert_ne!(mark(), first, "a name");
        fs::remove_file(root.join("c/0/0/2")).unwrap();
        assert_ne!(mark(), first, "a number");
    }
}
