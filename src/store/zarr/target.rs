//! Owns [`Target`] and [`Object`]: where the objects of a save go, and how it is published. Knows nothing of what is in them.
//!
//! In a folder an object is a file, and publishing is a rename ([`Tree`](super::tree::Tree)). In an object store an object is an upload, the save a new prefix, and publishing to put the root's metadata last.

use std::fmt;

use crate::error::StoreError;

/// An object that will not be touched again, and what is to be known of it when an interrupted save is continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// Its name; nothing has it where the object would hold nothing.
    pub(super) key: String,
    /// Whatever whoever wrote it wants to find again.
    pub(super) note: Vec<u8>,
}

/// A save in the making. Nobody sees any of it under the target's name before it is published.
pub(super) trait Target: fmt::Debug + Send + Sync {
    /// Has objects that are begun from now on written past the system's cache, with buffers of so much memory, where that can be done.
    fn write_past_cache(&self, most_bytes: u64) {
        let _ = most_bytes;
    }

    /// Begins an object that has no name yet.
    fn begin(&self) -> Result<Box<dyn Object>, StoreError>;

    /// Size of a finished object in bytes, if there is one of that name.
    fn size(&self, key: &str) -> Result<Option<u64>, StoreError>;

    /// Fills `out` from a finished object.
    fn read(&self, key: &str, offset_bytes: u64, out: &mut [u8]) -> Result<(), StoreError>;

    /// Removes a finished object, if there is one.
    fn remove(&self, key: &str) -> Result<(), StoreError>;

    /// Makes names durable, and remembers that these objects are complete: a continued save finds them.
    fn commit(&self, done: &[Done]) -> Result<(), StoreError>;

    /// Puts what describes the objects, in that order, the root last, and makes everything visible under the target's name. All objects are finished and committed.
    fn publish(&self, metadata: &[(String, Vec<u8>)]) -> Result<(), StoreError>;

    /// What tells later whether somebody touched the objects of a finished array, where that can be told.
    fn mark(&self, array: &str, metadata: &[u8]) -> Option<String> {
        let _ = (array, metadata);
        None
    }

    /// Removes everything of the save.
    fn discard(&self) -> Result<(), StoreError>;

    /// An object's place, for messages.
    fn location(&self, key: &str) -> String;
}

/// An object that is being written, from its beginning to its end. Dropped without being finished, it is gone.
pub(super) trait Object: fmt::Debug + Send {
    /// Appends all of `bytes`, or nothing: after an error the object is as long as it was.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes the object durable, then gives it its name, all at once, in the place of an earlier one if there is one.
    fn finish(self: Box<Self>, key: &str) -> Result<(), StoreError>;
}
