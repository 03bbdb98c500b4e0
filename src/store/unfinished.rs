//! Owns [`Unfinished`]: a file or folder under a hidden name beside the one that it will have. Knows nothing of what is in it.
//!
//! It is locked for as long as it is written. So what a killed process left is known, and removed by whoever begins the next file of that name; where a file system knows no locks, it stays.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::disk::{beside, create_new, failed, parent_and_name};
use crate::error::StoreError;

/// The file that is locked of a folder. One that has none is nobody's to remove: it may be in the making.
pub(super) const LOCK: &str = ".lock";

/// A name of the meantime, which goes with this unless it was given up.
#[derive(Debug)]
pub(super) struct Unfinished(Option<PathBuf>);

impl Unfinished {
    /// A new file beside `target`, which will be `target`.
    ///
    /// **Cost**: the folder is read for what killed processes left.
    pub(super) fn beside(target: &Path) -> Result<(File, Self), StoreError> {
        Self::made(target, false)
    }

    /// A new folder beside `target`, which will be `target`, and the file in it that is locked meanwhile.
    ///
    /// **Cost**: as [`Unfinished::beside`].
    pub(super) fn folder_beside(target: &Path) -> Result<(File, Self), StoreError> {
        Self::made(target, true)
    }

    fn made(target: &Path, is_folder: bool) -> Result<(File, Self), StoreError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        remove_left(target);
        for _ in 0..1000 {
            let nth = MADE.fetch_add(1, Ordering::Relaxed);
            let path = beside(target, &format!(".partial-{}-{nth}", std::process::id()))?;
            match make(&path, is_folder) {
                // One that somebody took for left before it was locked is not ours any more.
                Ok(file) if lock(&file) != Lock::Theirs && is_at(&file, &locked(&path, is_folder)) => {
                    return Ok((file, Self(Some(path))));
                }
                Ok(_) => {}
                // Left by a process of the same number that was killed.
                Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let reason = "there are too many unfinished files of it";
        Err(StoreError::InTheWay { path: target.to_owned(), reason })
    }

    /// Locks a folder again whose lock was removed, since it was about to get its name and did not. Where that fails it stays if the process is killed.
    pub(super) fn lock_again(&self) -> Option<File> {
        let file = create_new(&self.path()?.join(LOCK)).ok()?;
        (lock(&file) == Lock::Ours).then_some(file)
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// It has another name now.
    pub(super) fn renamed(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = remove(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "what was written and not saved could not be removed");
        }
    }
}

/// What is locked of a file or folder: locks of folders themselves are not seen by other machines.
fn locked(path: &Path, is_folder: bool) -> PathBuf {
    if is_folder { path.join(LOCK) } else { path.to_owned() }
}

/// Makes a file or folder, and what is locked of it.
fn make(path: &Path, is_folder: bool) -> Result<File, StoreError> {
    if is_folder {
        fs::create_dir(path).map_err(failed("making", path))?;
    }
    let made = create_new(&locked(path, is_folder));
    if made.is_err() && is_folder {
        // It is empty; what is in the way is told already.
        let _ = fs::remove_dir(path);
    }
    made
}

/// Removes a file, or a folder with all that is in it; a link, and not what it leads to.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[derive(Debug, PartialEq, Eq)]
enum Lock {
    Ours,
    Theirs,
    /// The file system has none.
    Unknown,
}

fn lock(file: &File) -> Lock {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Ours,
        Err(Errno::WOULDBLOCK) => Lock::Theirs,
        Err(_) => Lock::Unknown,
    }
}

/// Whether an open file is still the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, there) = (file.metadata().map(inode), fs::symlink_metadata(path).map(inode));
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

/// Removes unfinished files and folders of `target` that nobody writes. What cannot be looked at or removed stays.
fn remove_left(target: &Path) {
    let Ok((folder, name)) = parent_and_name(target) else { return };
    let prefix = [b".", name.as_encoded_bytes(), b".partial-"].concat();
    let numbered = |name: &OsStr| {
        let numbers = name.as_encoded_bytes().strip_prefix(&prefix[..])?.split(|&b| b == b'-');
        let digits = |number: &[u8]| !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        let mut count = 0;
        let all = numbers.inspect(|_| count += 1).all(digits);
        (all && count == 2).then_some(())
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if numbered(&entry.file_name()).is_none() || !(kind.is_file() || kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let locked = locked(&path, kind.is_dir());
        let Ok(file) = File::options().read(true).write(true).open(&locked) else { continue };
        if lock(&file) != Lock::Ours || !is_at(&file, &locked) {
            continue;
        }
        match remove(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "removed what a process left that ended while it wrote");
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "what a process left could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_writes_is_removed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (_, first) = Unfinished::beside(&at("a.raw")).unwrap();
        let (_file, second) = Unfinished::beside(&at("a.raw")).unwrap();
        // The lock of the first went with its file, as that of a process that is killed does.
        assert!(!first.path().unwrap().exists());
        let others =
            ["a.raw", ".a.raw.partial-7", ".a.raw.partial-7-x", ".b.raw.partial-7-8", ".a.raw.partial-7-8-9"];
        for name in &others {
            fs::write(at(name), "mine").unwrap();
        }
        fs::write(at(".a.raw.partial-7-8"), "left").unwrap();
        fs::create_dir(at(".a.raw.partial-7-9")).unwrap();
        fs::write(at(".a.raw.partial-7-9").join("part"), "left").unwrap();
        fs::write(at(".a.raw.partial-7-9").join(LOCK), "").unwrap();
        // Somebody may be about to lock it.
        fs::create_dir(at(".a.raw.partial-7-11")).unwrap();
        fs::create_dir(at("kept")).unwrap();
        std::os::unix::fs::symlink(at("kept"), at(".a.raw.partial-7-10")).unwrap();
        let (_lock, folder_of) = Unfinished::folder_beside(&at("a.raw")).unwrap();
        let third = Unfinished::beside(&at("a.raw")).unwrap();
        assert!(!at(".a.raw.partial-7-8").exists());
        assert!(!at(".a.raw.partial-7-9").exists());
        assert!(others.iter().all(|name| at(name).exists()));
        assert!(at(".a.raw.partial-7-10").exists() && at(".a.raw.partial-7-11").exists());
        assert!(
            second.path().unwrap().exists() && folder_of.path().unwrap().exists(),
            "they are still written"
        );
        drop((second, third, first, folder_of));
        // The others, the folder that is kept, the link to it, and the one without a lock.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), others.len() + 3);
    }
}
