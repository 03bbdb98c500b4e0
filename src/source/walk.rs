//! Owns [`walk`]: all that lies in a folder, however deep, in one order. Knows nothing of what that says.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most entries of a folder that are looked at: of more, nothing is said.
pub(crate) const MOST_ENTRIES: usize = 1_000_000;

/// Shows every entry below `root` to `each`: its path from there, and what the system says of it. The order is the same for the same names.
///
/// Links are followed, since what they lead to is part of the contents; but no folder is entered twice, so there is an end to it. A link that leads nowhere is shown as itself, and what goes meanwhile is left out.
///
/// **Cost**: one system call for each entry, two for a link, and the listing of each folder. In memory are the names of one folder, and the paths of those that are yet to be entered.
///
/// # Errors
/// What could not be looked at, and why; `root` itself where there are more than `most` entries.
pub(crate) fn walk(
    root: &Path,
    most: usize,
    each: &mut dyn FnMut(&Path, &Metadata),
) -> Result<(), (PathBuf, io::Error)> {
    let about = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    let top = std::fs::metadata(root).map_err(|error| (root.to_owned(), error))?;
    let (mut entered, mut folders, mut count) = (HashSet::from([about(&top)]), vec![PathBuf::new()], 0_usize);
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let names = match names(&path, most - count) {
            Ok(Some(names)) => names,
            Ok(None) => {
                let error = io::Error::other(format!("more than {most} entries are too many to go through"));
                return Err((root.to_owned(), error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err((path, error)),
        };
        count += names.len();
        for name in names {
            let (within, path) = (folder.join(&name), path.join(&name));
            let metadata = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err((path, error)),
            };
            // A link that leads nowhere, or to itself, is what it is.
            let led_to = metadata.is_symlink().then(|| std::fs::metadata(&path).ok()).flatten();
            let metadata = led_to.unwrap_or(metadata);
            each(&within, &metadata);
            if metadata.is_dir() && entered.insert(about(&metadata)) {
                folders.push(within);
            }
        }
    }
    Ok(())
}

/// The names in a folder, sorted; `None` where there are more than `most`.
fn names(folder: &Path, most: usize) -> io::Result<Option<Vec<OsString>>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if names.len() == most {
            return Ok(None);
        }
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(root: &Path, most: usize) -> Result<Vec<String>, (PathBuf, io::Error)> {
        let mut found = Vec::new();
        walk(root, most, &mut |path, _| found.push(path.display().to_string()))?;
        Ok(found)
    }

    #[test]
    fn all_that_is_there_is_shown_once_and_loops_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("b/c/d")).unwrap();
        std::fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
        for file in ["root/a", "root/b/c/d/e", "elsewhere/f"] {
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        symlink("..", root.join("b/up")).unwrap();
        symlink("nowhere", root.join("b/dangling")).unwrap();
        symlink("itself", root.join("b/itself")).unwrap();
        symlink("../elsewhere", root.join("out")).unwrap();
        let expected =
            ["a", "b", "out", "out/f", "b/c", "b/dangling", "b/itself", "b/up", "b/c/d", "b/c/d/e"];
        assert_eq!(found(&root, 10).unwrap(), expected);
        let (path, error) = found(&root, 9).unwrap_err();
        assert_eq!((path, error.to_string().contains("more than 9 entries")), (root.clone(), true));
        let (path, error) = found(&root.join("a"), 9).unwrap_err();
        assert_eq!((path, error.kind()), (root.join("a"), io::ErrorKind::NotADirectory));
        let none = found(&root.join("none"), 9).unwrap_err();
        assert_eq!((none.0, none.1.kind()), (root.join("none"), io::ErrorKind::NotFound));
    }
}
