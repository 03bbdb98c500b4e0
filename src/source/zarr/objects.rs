//! Owns [`Objects`]: how the objects of a store are read and its folders listed, in a folder of files or through `zarrs`. Knows nothing of what they hold.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ::zarrs::storage::byte_range::ByteRange;
use ::zarrs::storage::{ReadableListableStorageTraits, StoreKey, StorePrefix};

use super::fault::{Cause, Fault};

/// A part of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// So many bytes from an offset on.
    At { offset_bytes: u64, bytes: u64 },
    /// So many bytes at its end.
    Last { bytes: u64 },
}

/// A part that is about to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Coming {
    pub(super) name: String,
    pub(super) part: Part,
    /// About how many bytes it has, or at most.
    pub(super) most_bytes: u64,
    /// How often it is going to be read.
    pub(super) readers: u64,
}

/// What is done with the bytes of a part.
pub(super) type Use<'u> = &'u mut dyn FnMut(&[u8]) -> Result<(), Cause>;

/// The objects of a store, by name: parts separated by `/`, none of them empty.
pub(super) trait Objects: Send + Sync + fmt::Debug {
    /// Shows a part of an object to `with`; `false` where there is no such object. `most_bytes`: more is an error, and is not read.
    fn read(&self, name: &str, part: Part, most_bytes: u64, with: Use<'_>) -> Result<bool, Cause>;

    /// Reads an object of exactly that size, or from an offset on, straight into `out`; `false` where there is no such object.
    fn read_into(&self, name: &str, offset_bytes: Option<u64>, out: &mut [u8]) -> Result<bool, Cause>;

    /// Size of an object; `None` where there is none.
    fn size(&self, name: &str) -> Result<Option<u64>, Cause>;

    /// Whether looking at an object costs microseconds: then it is looked at before it is read.
    fn is_near(&self) -> bool;

    /// Hints that parts are about to be read, in this order.
    fn will_read(&self, parts: &[Coming]);

    /// Does something that waits for this store beside all else, if it is worth that: for what finds out what else will be read.
    fn aside(&self, work: Box<dyn FnOnce() + Send>) {
        drop(work);
    }

    /// The version of what was read, where the store can tell.
    fn version(&self) -> Option<String> {
        None
    }

    /// Where its objects are files, if they are.
    fn root(&self) -> Option<&Path> {
        None
    }

    /// Names of the folders in a folder (empty: the root), sorted; at most so many.
    fn folders(&self, folder: &str, most: usize) -> Result<Vec<String>, Cause>;

    /// What messages call an object (empty: the store).
    fn location(&self, name: &str) -> String;
}

/// A store of `zarrs`.
pub(super) struct Stored {
    storage: Arc<dyn ReadableListableStorageTraits>,
    name: String,
}

impl Stored {
    pub(super) fn new(storage: Arc<dyn ReadableListableStorageTraits>, name: String) -> Self {
        Self { storage, name }
    }
}

impl Objects for Stored {
    fn read(&self, name: &str, part: Part, most_bytes: u64, with: Use<'_>) -> Result<bool, Cause> {
        let key = StoreKey::new(name)?;
        let bytes = match part {
            Part::Whole => self.storage.get(&key)?,
            Part::At { offset_bytes, bytes } => {
                self.storage.get_partial(&key, ByteRange::FromStart(offset_bytes, Some(bytes)))?
            }
            Part::Last { bytes } => self.storage.get_partial(&key, ByteRange::Suffix(bytes))?,
        };
        let Some(bytes) = bytes else { return Ok(false) };
        let actual_bytes = bytes.len() as u64;
        match part {
            Part::At { bytes: expected_bytes, .. } | Part::Last { bytes: expected_bytes }
                if expected_bytes != actual_bytes =>
            {
                Err(Fault::Length { expected_bytes, actual_bytes }.into())
            }
            _ if actual_bytes > most_bytes => Err(Fault::TooLarge { actual_bytes, most_bytes }.into()),
            _ => with(&bytes).map(|()| true),
        }
    }

    fn read_into(&self, name: &str, offset_bytes: Option<u64>, out: &mut [u8]) -> Result<bool, Cause> {
        let expected_bytes = out.len() as u64;
        let part =
            offset_bytes.map_or(Part::Whole, |offset_bytes| Part::At { offset_bytes, bytes: expected_bytes });
        self.read(name, part, u64::MAX, &mut |bytes| {
            let actual_bytes = bytes.len() as u64;
            if actual_bytes != expected_bytes {
                return Err(Fault::Length { expected_bytes, actual_bytes }.into());
            }
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn size(&self, name: &str) -> Result<Option<u64>, Cause> {
        Ok(self.storage.size_key(&StoreKey::new(name)?)?)
    }

    fn is_near(&self) -> bool {
        false
    }

    fn will_read(&self, _parts: &[Coming]) {}

    fn folders(&self, folder: &str, most: usize) -> Result<Vec<String>, Cause> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let found = self.storage.list_dir(&StorePrefix::new(&*prefix)?)?;
        let names = found.prefixes().iter().filter_map(|path| {
            let name = path.as_str().strip_prefix(&*prefix)?.trim_end_matches('/');
            (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
        });
        let mut names: Vec<_> = names.take(most).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn location(&self, name: &str) -> String {
        if name.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{name}", self.name.trim_end_matches('/'))
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stored").field(&self.name).finish()
    }
}
