//! Owns files that are there as a whole or not at all, whenever the process ends: written under another name, then renamed. Knows nothing of what is in them.
//!
//! Nothing is synced: after a power failure such a file may hold anything, so whoever reads it has to check.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What names of files begin with that are being written. Those of a process that was killed stay until somebody removes them.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Writes the parts, one after the other, as the file of that name, in place of what had it.
///
/// **Cost**: a file made, one write where the system takes all of it at once, a rename.
///
/// # Errors
/// The system's; nothing of the new file is left then, and the old one is as it was.
pub(super) fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let (mut file, unfinished) = create_beside(path)?;
    let written = write_all(&mut file, parts).and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn create_beside(path: &Path) -> io::Result<(File, std::path::PathBuf)> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new(""));
    for _ in 0..1000 {
        let nth = MADE.fetch_add(1, Ordering::Relaxed);
        // Processes of the same number, in containers that share the folder, are told apart by the system's refusal.
        let unfinished = folder.join(format!("{UNFINISHED}{}-{nth}", std::process::id()));
        match File::options().write(true).create_new(true).open(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (file, unfinished)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write_all(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_as_a_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, &[b"some", b"", b"thing"]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"something");
        write(&path, &[b"", b"else"]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"else");
        write(&path, &[]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        // A folder cannot be replaced by a file.
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(write(&taken, &[b"voxels"]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("no/such/folder"), &[b"voxels"]).is_err());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let Ok(mut full) = File::options().write(true).open("/dev/full") else {
            eprintln!("skipped: this system has no /dev/full");
            return;
        };
        assert_eq!(write_all(&mut full, &[b"voxels"]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
