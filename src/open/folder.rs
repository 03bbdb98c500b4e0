//! Owns what a folder is, by the files in it. Knows nothing of what is in them.

use std::path::Path;

use super::opened::Opened;
use super::recognise::KNOWN;
use crate::error::SourceError;

/// Files that make a folder a Zarr array or group, of version 2 or 3.
const ZARR: [&str; 4] = ["zarr.json", ".zarray", ".zgroup", ".zattrs"];

/// The most names that a message tells.
const MOST_NAMES: usize = 5;

/// Opens a folder.
pub(super) fn open(path: &Path) -> Result<Opened, SourceError> {
    if ZARR.iter().any(|name| path.join(name).is_file()) {
        return Opened::zarr_folder(path);
    }
    let failed = |source| SourceError::Open { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)?.take(MOST_NAMES + 1) {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let more = if names.len() > MOST_NAMES { " and more" } else { "" };
    names.truncate(MOST_NAMES);
    let found = if names.is_empty() { "it is empty".to_owned() } else { format!("it holds {names:?}{more}") };
    Err(SourceError::Unrecognised {
        location: path.display().to_string(),
        found,
        known: KNOWN,
        hint: "; of folders only those of Zarr are read",
    })
}
