//! Owns [`SourceError`].

use std::path::PathBuf;

use super::BackendError;
use crate::geometry::{Extent, Region};

/// What a message begins with where something is in a file.
fn at(location: &str) -> String {
    if location.is_empty() { String::new() } else { format!("{location}: ") }
}

/// What a message ends with where there is more to tell.
fn also(reasons: &[String]) -> String {
    if reasons.is_empty() {
        String::new()
    } else {
        format!("; of what is there, not read: {}", reasons.join("; "))
    }
}

/// A tile or a file that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Reading a file failed.
    #[error("reading {bytes} bytes at offset {offset_bytes} of {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset_bytes: u64,
        /// How much.
        bytes: u64,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// Opening a file failed.
    #[error("opening {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The file is shorter than its contents must be.
    #[error("{} is too short: {expected_bytes} bytes are needed, {actual_bytes} are there", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes needed.
        expected_bytes: u64,
        /// Bytes found.
        actual_bytes: u64,
    },
    /// A header's field is missing, contradicts another or holds what cannot be.
    #[error("{}: field `{field}` is {value:?}: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it holds (empty where it is missing).
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file holds another voxel type than was asked for.
    #[error("{}: holds {found} voxels, not {wanted}", path.display())]
    VoxelType {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: crate::ScalarType,
        /// What was asked for.
        wanted: crate::ScalarType,
    },
    /// The shape of a volume cannot be.
    #[error("{}a volume of {extent} voxels of {voxel_bytes} bytes: empty, or beyond 64 bits", at(location))]
    Shape {
        /// The file, or the array in it; empty where it is in none.
        location: String,
        /// The shape.
        extent: Extent,
        /// Size of a voxel.
        voxel_bytes: usize,
    },
    /// An index of value ranges that cannot be.
    #[error("value ranges of {extent} voxels in cells of {cell}, {values} values: {reason}")]
    RangeIndex {
        /// Size of the volume.
        extent: Extent,
        /// Shape of a cell.
        cell: Extent,
        /// Values given, or needed.
        values: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The temporary file for decompressed voxels could not be made or written, for want of space or otherwise.
    #[error("a temporary file of {bytes} bytes in {}: {source}", directory.display())]
    Scratch {
        /// Where it was to be; `TMPDIR` chooses another place.
        directory: PathBuf,
        /// Size that it was to have.
        bytes: u64,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The source panicked.
    #[error("the source panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The upload of a tile that had been read failed.
    #[error("the tile was read, but could not be put in place: {0}")]
    Upload(#[source] BackendError),
    /// The source was called with a region that it does not have, or a buffer that does not fit.
    #[error("{}the source of {extent} was asked for {region} into {buffer_voxels} voxels", at(location))]
    BadCall {
        /// The file, or the array in it, where it is known to be in one; else empty.
        location: String,
        /// Extent of the source.
        extent: Extent,
        /// What was asked for.
        region: Region,
        /// Length of the buffer.
        buffer_voxels: usize,
    },
    /// A level of a pyramid could not be read.
    #[error("level {level}: {error}")]
    Level {
        /// The level, 0 = full resolution.
        level: usize,
        /// Why.
        #[source]
        error: Box<SourceError>,
    },
    /// A store of many objects (a folder, or a bucket) could not be listed or read.
    #[error("{doing} {location}: {source}")]
    Store {
        /// What was being done, such as "listing".
        doing: &'static str,
        /// The store, or the object in it.
        location: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chunk could not be decoded.
    #[error("chunk {chunk:?} of {location}: {source}")]
    Chunk {
        /// The array or file that it is of.
        location: String,
        /// Its indices, in the order of the format's own axes.
        chunk: Vec<u64>,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is in order, but holds something that is not read.
    #[error("{location}: {what} {value:?} is not supported")]
    Unsupported {
        /// The file, or the array in it.
        location: String,
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        value: String,
    },
    /// A file, folder or address of no format that is known.
    #[error("{location} is of no known format: {found}; known are {known}{hint}")]
    Unrecognised {
        /// What was to be opened.
        location: String,
        /// What is there instead: the first bytes, or names in a folder.
        found: String,
        /// What would have been known.
        known: &'static str,
        /// What else may help (empty, or begins with a separator).
        hint: &'static str,
    },
    /// The format is known, but was left out when vastgrid was built.
    #[error("{location}: {format} needs vastgrid's feature `{feature}`")]
    NeedsFeature {
        /// What was to be opened.
        location: String,
        /// What it is.
        format: &'static str,
        /// What reads it.
        feature: &'static str,
    },
    /// There is no volume of that name.
    #[error("{location}: there is no volume {name:?}; there are {names:?}{}", also(skipped))]
    NoEntry {
        /// What was opened.
        location: String,
        /// What was asked for; empty where nothing was, and there is none at all.
        name: String,
        /// Those that there are, or the first of them.
        names: Vec<String>,
        /// Why others are not among them, or the first reasons.
        skipped: Vec<String>,
    },
    /// A file of several arrays, channels or points in time has not the one that was asked for.
    #[error("{location}: there is no {what} {index}; it has {count}, counted from 0")]
    NoSuch {
        /// The file.
        location: String,
        /// What was to be chosen.
        what: &'static str,
        /// Which one was asked for.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// An object in a remote store could not be read.
    #[cfg(feature = "cloud")]
    #[error(transparent)]
    Remote(std::sync::Arc<super::RemoteError>),
    /// What several callers waited for failed, for the same reason.
    #[error(transparent)]
    Shared(std::sync::Arc<SourceError>),
    /// An error of the user's own source.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}
