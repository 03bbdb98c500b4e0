//! Owns the errors of writing: what could not be put where. Knows nothing of formats.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::geometry::{Extent, Region};

/// Voxels that could not be written, or a save that could not be begun or published. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The target is there already, and nobody asked to replace it.
    #[error("{} exists already", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target is there, and is nothing that this kind of save may take the place of.
    #[error("{} is not replaced: {reason}", path.display())]
    NotReplaced {
        /// The target.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The same target is being written by another process, or elsewhere in this one.
    #[error("{} is being written by someone else", path.display())]
    Busy {
        /// The target.
        path: PathBuf,
    },
    /// Something could not be done with a file or a folder: no permission, no space, a read-only file system.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was to be done, such as "making".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// Writing failed, for want of space or otherwise.
    #[error("writing {bytes} bytes at offset {offset_bytes} of {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset_bytes: u64,
        /// How much.
        bytes: u64,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// What was written cannot be read back, or is not what was written.
    #[error("{location} cannot be read back: {source}")]
    ReadBack {
        /// The file or object.
        location: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shape that cannot be.
    #[error("a {what} of {shape}: {reason}")]
    Shape {
        /// What has it, such as "shard".
        what: &'static str,
        /// The shape, in voxels.
        shape: Extent,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A store was told to write a region that it does not have, or not in the pieces that it takes, or from a buffer that does not fit.
    #[error("{region} from {buffer_voxels} voxels, into a store of {extent} that takes pieces of {piece}")]
    BadCall {
        /// Extent of the store.
        extent: Extent,
        /// What was to be written.
        region: Region,
        /// What is written at once.
        piece: Extent,
        /// Length of the buffer.
        buffer_voxels: usize,
    },
    /// There is no such level.
    #[error("level {level} of {levels}")]
    NoLevel {
        /// The level asked for, 0 = full resolution.
        level: usize,
        /// How many there are.
        levels: usize,
    },
    /// A chunk could not be encoded.
    #[error("chunk {chunk:?} of {location}: {source}")]
    Chunk {
        /// The array that it is of.
        location: String,
        /// Its indices, in the order of the format's own axes.
        chunk: Vec<u64>,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What describes an array is refused by the format's own library.
    #[error("{location}: {source}")]
    Metadata {
        /// The array or group.
        location: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The save that was interrupted there is of something else, so it is not continued.
    #[error("{}: the interrupted save has `{field}` {found}, not {wanted}", path.display())]
    OtherSave {
        /// Where it is.
        path: PathBuf,
        /// What differs.
        field: String,
        /// What the interrupted save has.
        found: String,
        /// What this one has.
        wanted: String,
    },
    /// What is in the place of an interrupted save is none, so it is neither continued nor removed.
    #[error("{} is in the way: {reason}", path.display())]
    InTheWay {
        /// What is there.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An object in a remote store could not be put, read back or removed.
    #[cfg(feature = "cloud")]
    #[error(transparent)]
    Remote(Arc<super::RemoteError>),
    /// An error that several callers get: once an object could not be made durable, nothing can be saved any more.
    #[error(transparent)]
    Shared(Arc<StoreError>),
}
