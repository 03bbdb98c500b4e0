//! Owns files without a name, for what has to be decompressed or computed once. Knows nothing of what is in them.
//!
//! The file is gone when its last user closes it, however the process ends.

use std::fs::File;
use std::path::Path;
#[cfg(any(feature = "nifti", feature = "nrrd"))]
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::SourceError;

/// A file without a name, being written from its beginning to its end.
#[cfg(any(feature = "nifti", feature = "nrrd"))]
#[derive(Debug)]
pub(super) struct Scratch {
    file: File,
    directory: PathBuf,
    promised_bytes: u64,
}

#[cfg(any(feature = "nifti", feature = "nrrd"))]
impl Scratch {
    /// Makes one, as [`scratch_file`].
    ///
    /// # Errors
    /// As [`scratch_file`].
    pub(super) fn new(promised_bytes: u64) -> Result<Self, SourceError> {
        let directory = std::env::temp_dir();
        Ok(Self { file: scratch_file_in(&directory, promised_bytes)?, directory, promised_bytes })
    }

    /// Appends.
    ///
    /// # Errors
    /// [`SourceError::Scratch`], such as when the disk is full.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        use std::io::Write;
        self.file.write_all(bytes).map_err(|source| SourceError::Scratch {
            directory: self.directory.clone(),
            bytes: self.promised_bytes,
            source,
        })
    }

    /// The file, to be read at positions.
    pub(super) fn into_file(self) -> File {
        self.file
    }
}

/// Makes a file without a name in the system's directory for temporary files (`TMPDIR`, or `/tmp`; where that is in memory, so is this file).
///
/// # Errors
/// [`SourceError::Scratch`]: the directory cannot be written, or has not `promised_bytes` left.
pub(crate) fn scratch_file(promised_bytes: u64) -> Result<File, SourceError> {
    scratch_file_in(&std::env::temp_dir(), promised_bytes)
}

/// The same in another directory.
///
/// # Errors
/// As [`scratch_file`].
pub(crate) fn scratch_file_in(directory: &Path, promised_bytes: u64) -> Result<File, SourceError> {
    let open = || -> std::io::Result<File> {
        let file = unnamed(directory).or_else(|e| match e {
            // File systems and kernels without O_TMPFILE answer with one of these.
            Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT => created_and_unlinked(directory),
            other => Err(other),
        })?;
        let system = rustix::fs::fstatvfs(&file)?;
        // Better to say so now than to fill the disk first. (A file system of unknown size says 0 blocks.)
        if system.f_blocks > 0 && system.f_bavail.saturating_mul(system.f_frsize) < promised_bytes {
            return Err(Errno::NOSPC.into());
        }
        Ok(file)
    };
    open().map_err(|source| SourceError::Scratch {
        directory: directory.to_owned(),
        bytes: promised_bytes,
        source,
    })
}

fn unnamed(directory: &Path) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

fn created_and_unlinked(directory: &Path) -> Result<File, Errno> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    for _ in 0..1000 {
        let nth = MADE.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".vastgrid-{}-{nth}", std::process::id()));
        match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                rustix::fs::unlink(&path)?;
                return Ok(file.into());
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EXIST)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn both_ways_leave_nothing_behind_and_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let files = [unnamed(directory.path()), created_and_unlinked(directory.path())];
        let mut tried = 0;
        for file in files.into_iter().flatten() {
            file.write_all_at(b"voxels", 3).unwrap();
            let mut back = [0; 6];
            file.read_exact_at(&mut back, 3).unwrap();
            assert_eq!(&back, b"voxels");
            assert_eq!(file.metadata().unwrap().nlink(), 0);
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
            tried += 1;
        }
        assert!(tried >= 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_fit_is_refused_at_once_and_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let error = scratch_file_in(directory.path(), u64::MAX).unwrap_err();
        let SourceError::Scratch { directory: named, bytes: u64::MAX, source } = error else {
            panic!("{error}")
        };
        assert_eq!(named, directory.path());
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_directory_that_is_none_is_an_error() {
        let error = scratch_file_in(Path::new("/nowhere/at/all"), 1).unwrap_err();
        assert!(matches!(error, SourceError::Scratch { .. }), "{error}");
    }

    #[cfg(any(feature = "nifti", feature = "nrrd"))]
    #[test]
    fn a_full_disk_is_reported_when_it_happens() {
        let Ok(file) = File::options().write(true).open("/dev/full") else {
            eprintln!("skipped: this system has no /dev/full");
            return;
        };
        let mut scratch = Scratch { file, directory: "/dev".into(), promised_bytes: 6 };
        let error = scratch.append(b"voxels").unwrap_err();
        let SourceError::Scratch { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }
}
