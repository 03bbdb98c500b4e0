//! Owns the file operations that saves are made of: new files, renames that replace nothing or swap, and what makes both durable. Knows nothing of what is in the files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::error::StoreError;

/// The error of something that could not be done with a file or folder.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { doing, path: path.to_owned(), source }
}

/// The folder that holds `path`, and what `path` is called in it.
///
/// # Errors
/// [`StoreError::File`]: `path` ends with no name, such as `..`.
pub(super) fn parent_and_name(path: &Path) -> Result<(PathBuf, OsString), StoreError> {
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file or folder");
    let name = path.file_name().ok_or_else(nameless).map_err(failed("writing to", path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name.to_owned()))
}

/// `.NAMEsuffix`, beside a file or folder of that name.
pub(super) fn beside(path: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
    let (parent, name) = parent_and_name(path)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    Ok(parent.join(hidden))
}

/// Makes a file that was not there.
pub(super) fn create_new(path: &Path) -> Result<File, StoreError> {
    File::options().read(true).write(true).create_new(true).open(path).map_err(failed("making", path))
}

/// Whether anything is there, if only a link that leads nowhere.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("looking at", path)(e)),
    }
}

/// Size of a file, if there is one.
#[cfg(any(test, feature = "zarr"))]
pub(super) fn file_bytes(path: &Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("looking at", path)(e)),
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let sync = || File::open(path)?.sync_all();
    match sync() {
        // Some file systems cannot, and need not.
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        outcome => outcome.map_err(failed("making durable", path)),
    }
}

/// Gives `from` the name `to`, which must be free.
///
/// # Errors
/// [`StoreError::Exists`]; [`StoreError::File`].
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<(), StoreError> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Err(StoreError::Exists { path: to.to_owned() }),
        // Not every file system can tell whether a name is free and take it in one step.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if exists(to)? {
                return Err(StoreError::Exists { path: to.to_owned() });
            }
            fs::rename(from, to).map_err(failed("renaming to", to))
        }
        Err(e) => Err(failed("renaming to", to)(e.into())),
    }
}

/// Where [`rename_over`] puts what it cannot swap with `from`.
#[cfg(any(test, feature = "zarr"))]
pub(super) fn aside_of(from: &Path) -> Result<PathBuf, StoreError> {
    beside(from, ".replaced")
}

/// Gives `from` the name `to`; what was called so, if anything, is called `from` afterwards, or [`aside_of`] it.
///
/// Where the file system cannot swap names, nothing is called `to` for a moment: killed then, what was called so is [`aside_of`] `from`, and whoever comes next has to put it back ([`put_back`]).
#[cfg(any(test, feature = "zarr"))]
pub(super) fn rename_over(from: &Path, to: &Path) -> Result<(), StoreError> {
    match swap(from, to) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => rename_new(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => rename_in_turns(from, to),
        Err(e) => Err(failed("renaming to", to)(e.into())),
    }
}

/// Puts back what was [`aside_of`] `from`, where nothing is called `to`. Whether there was any.
///
/// # Errors
/// [`StoreError::Exists`]; [`StoreError::File`].
#[cfg(any(test, feature = "zarr"))]
pub(super) fn put_back(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let aside = aside_of(from)?;
    if !exists(&aside)? {
        return Ok(false);
    }
    rename_new(&aside, to)?;
    sync_folder(&parent_and_name(to)?.0)?;
    sync_folder(&parent_and_name(from)?.0)?;
    Ok(true)
}

#[cfg(any(test, feature = "zarr"))]
fn swap(from: &Path, to: &Path) -> Result<(), Errno> {
    #[cfg(test)]
    if tests::IN_TURNS.get().is_some() {
        return Err(Errno::INVAL);
    }
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)
}

/// [`rename_over`] for file systems that cannot swap names.
#[cfg(any(test, feature = "zarr"))]
fn rename_in_turns(from: &Path, to: &Path) -> Result<(), StoreError> {
    match rename_new(to, &aside_of(from)?) {
        Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        outcome => outcome?,
    }
    #[cfg(test)]
    if tests::IN_TURNS.get() == Some(tests::Killed::Between) {
        return Err(failed("being killed at", to)(io::Error::other("a test")));
    }
    if let Err(error) = rename_new(from, to) {
        put_back(from, to)?;
        return Err(error);
    }
    #[cfg(test)]
    if tests::IN_TURNS.get() == Some(tests::Killed::After) {
        return Err(failed("being killed at", to)(io::Error::other("a test")));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    /// Where a thread ends that renames in turns.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::store) enum Killed {
        Never,
        Between,
        After,
    }

    thread_local! {
        /// Set: this thread finds no file system that could swap names.
        pub(in crate::store) static IN_TURNS: Cell<Option<Killed>> = const { Cell::new(None) };
    }

    #[test]
    fn names_beside_are_hidden_and_stay_in_the_folder() {
        assert_eq!(beside(Path::new("a/b.zarr"), ".partial").unwrap(), Path::new("a/.b.zarr.partial"));
        assert_eq!(beside(Path::new("b"), ".partial").unwrap(), Path::new("./.b.partial"));
        for nameless in ["..", "/", "", "a/.."] {
            assert!(matches!(beside(Path::new(nameless), ""), Err(StoreError::File { .. })), "{nameless}");
        }
    }

    #[test]
    fn renames_replace_nothing_or_swap() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("new")).unwrap();
        fs::write(at("new/inside"), "new").unwrap();
        fs::create_dir(at("old")).unwrap();
        assert!(matches!(rename_new(&at("new"), &at("old")), Err(StoreError::Exists { .. })));
        rename_over(&at("new"), &at("old")).unwrap();
        assert_eq!(fs::read(at("old/inside")).unwrap(), b"new");
        assert!(at("new").is_dir() && !at("new/inside").exists());
        rename_over(&at("old"), &at("free")).unwrap();
        assert!(at("free/inside").exists() && !exists(&at("old")).unwrap());
        assert!(matches!(rename_new(&at("nothing"), &at("other")), Err(StoreError::File { .. })));
    }

    #[test]
    fn what_cannot_be_swapped_is_moved_aside_and_can_be_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let make = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("inside"), name).unwrap();
        };
        make("old");
        make("new");
        IN_TURNS.set(Some(Killed::Between));
        rename_over(&at("new"), &at("old")).unwrap_err();
        assert!(!exists(&at("old")).unwrap());
        assert!(put_back(&at("new"), &at("old")).unwrap());
        assert_eq!(fs::read(at("old/inside")).unwrap(), b"old");
        assert!(!put_back(&at("new"), &at("old")).unwrap(), "there is nothing more to put back");
        IN_TURNS.set(Some(Killed::Never));
        rename_over(&at("new"), &at("old")).unwrap();
        assert_eq!(fs::read(at("old/inside")).unwrap(), b"new");
        assert_eq!(fs::read(at(".new.replaced/inside")).unwrap(), b"old");
        make("new");
        rename_over(&at("new"), &at("free")).unwrap();
        assert!(matches!(put_back(&at("new"), &at("free")), Err(StoreError::Exists { .. })));
        IN_TURNS.set(None);
    }
}
