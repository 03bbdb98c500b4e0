//! Owns [`Bucket`]: a save into an object store, seen as a whole or not at all. Knows nothing of Zarr but which object makes a volume of a prefix.
//!
//! ```text
//! PREFIX/.vastgrid-save/00000000, 1, ...   what the save is of, and which objects are complete; removed in the end
//! PREFIX/s0/c/0/0/0, ...                   objects, under their names as soon as each is complete
//! PREFIX/zarr.json                         last of all, and only if nobody else put one: with it there is a volume
//! ```
//!
//! An object store renames nothing and locks nothing. So a volume is not replaced but written to a prefix of its own, and two writers of one prefix are noticed when the second one is about to publish.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ::zarrs::storage::Bytes;

use super::begin::{Begin, MARKS, check_same};
use super::journal::{Record, encoded, records};
use super::target::{Done, Object, Target};
use crate::error::{RemoteError, StoreError};
use crate::source::{Put, RemoteOptions, RemoteStore, scratch_file};

/// Where the journal is.
const JOURNAL: &str = ".vastgrid-save/";

/// A save into an object store.
#[derive(Debug)]
pub(super) struct Bucket {
    store: RemoteStore,
    /// Number of the journal's next object.
    next: Mutex<u64>,
}

impl Bucket {
    /// Begins a save of what `save` describes, or goes on with one. Gives what is complete of it.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::NotReplaced`], [`StoreError::OtherSave`], [`StoreError::InTheWay`], [`StoreError::Remote`].
    pub(super) fn begin(
        url: &str,
        options: &RemoteOptions,
        save: &str,
        begin: Begin,
    ) -> Result<(Self, Vec<Done>), StoreError> {
        let store = RemoteStore::open(url, options).map_err(Arc::new)?;
        let path = PathBuf::from(store.url());
        if begin.replace {
            return Err(StoreError::NotReplaced {
                path,
                reason: "a volume in an object store is written anew elsewhere",
            });
        }
        store.writable()?;
        let mut keys = store.keys()?;
        keys.sort_unstable();
        if keys.iter().any(|key| MARKS.contains(&key.as_str())) {
            return Err(StoreError::Exists { path });
        }
        let (journal, others): (Vec<String>, Vec<String>) =
            keys.into_iter().partition(|key| key.starts_with(JOURNAL));
        if journal.is_empty() && !others.is_empty() {
            return Err(StoreError::InTheWay { path, reason: "there are objects, and no journal of a save" });
        }
        if begin.resume
            && let Some(before) = read_journal(&store, &journal)?
        {
            check_same(&path, &before, save)?;
            let next = Mutex::new(journal.iter().filter_map(|key| number(key)).max().unwrap_or(0) + 1);
            let done = before.into_iter().filter_map(|record| match record {
                Record::Done(done) => Some(done),
                _ => None,
            });
            return Ok((Self { store, next }, done.collect()));
        }
        // The journal last: as long as it is there, the rest is known for what it is.
        store.remove(&others)?;
        store.remove(&journal)?;
        let bucket = Self { store, next: Mutex::new(0) };
        bucket.note(&[Record::Save(save.to_owned())])?;
        Ok((bucket, Vec::new()))
    }

    fn note(&self, records: &[Record]) -> Result<(), StoreError> {
        let number = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let number = *next;
            *next += 1;
            number
        };
        let key = format!("{JOURNAL}{number:08}");
        if self.store.put(&key, &Bytes::from(encoded(records)), Put::Keep)? {
            return Ok(());
        }
        Err(StoreError::Busy { path: PathBuf::from(self.store.url()) })
    }

    fn put(&self, (key, bytes): &(String, Vec<u8>), put: Put) -> Result<bool, StoreError> {
        Ok(self.store.put(key, &Bytes::from(bytes.clone()), put)?)
    }

    fn remove_journal(&self) -> Result<(), StoreError> {
        let last = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<String> = (0..last).map(|number| format!("{JOURNAL}{number:08}")).collect();
        Ok(self.store.remove(&keys)?)
    }
}

/// The number of an object of the journal.
fn number(key: &str) -> Option<u64> {
    key.strip_prefix(JOURNAL)?.parse().ok()
}

/// What the journal says, or `None` where there is none that says anything.
fn read_journal(store: &RemoteStore, keys: &[String]) -> Result<Option<Vec<Record>>, StoreError> {
    let mut all = Vec::new();
    for key in keys {
        let missing = || StoreError::Remote(Arc::new(RemoteError::Missing { url: store.show(key) }));
        all.extend(records(&store.object(key)?.ok_or_else(missing)?));
    }
    Ok(matches!(all.first(), Some(Record::Save(_))).then_some(all))
}

impl Target for Arc<Bucket> {
    fn begin(&self) -> Result<Box<dyn Object>, StoreError> {
        let file = scratch_file(0).map_err(|error| StoreError::File {
            doing: "making a temporary file in",
            path: std::env::temp_dir(),
            source: std::io::Error::other(error),
        })?;
        Ok(Box::new(Unfinished { file, bytes: 0, bucket: self.clone() }))
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.store.object_bytes(key)?)
    }

    fn read(&self, key: &str, offset_bytes: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let end = offset_bytes.saturating_add(out.len() as u64);
        let range = offset_bytes..end;
        let part = self.store.ranges(key, std::slice::from_ref(&range))?.and_then(|mut parts| parts.pop());
        let missing = || StoreError::Remote(Arc::new(RemoteError::Missing { url: self.store.show(key) }));
        out.copy_from_slice(&part.ok_or_else(missing)?);
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        Ok(self.store.remove(&[key.to_owned()])?)
    }

    fn commit(&self, done: &[Done]) -> Result<(), StoreError> {
        if done.is_empty() {
            return Ok(());
        }
        let records: Vec<Record> = done.iter().cloned().map(Record::Done).collect();
        self.note(&records)
    }

    fn publish(&self, metadata: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let Some((root, others)) = metadata.split_last() else { return Ok(()) };
        for object in others {
            self.put(object, Put::Replace)?;
        }
        if !self.put(root, Put::Keep)? {
            return Err(StoreError::Exists { path: PathBuf::from(self.store.url()) });
        }
        // It is published; the journal is only in the way.
        if let Err(error) = self.remove_journal() {
            tracing::warn!(%error, "the volume is saved, but the journal of that could not be removed");
        }
        Ok(())
    }

    fn discard(&self) -> Result<(), StoreError> {
        let (journal, others): (Vec<String>, Vec<String>) =
            self.store.keys()?.into_iter().partition(|key| key.starts_with(JOURNAL));
        self.store.remove(&others)?;
        Ok(self.store.remove(&journal)?)
    }

    fn location(&self, key: &str) -> String {
        self.store.show(key)
    }
}

/// An object that is put together in a file of this machine, and uploaded when it is complete.
#[derive(Debug)]
struct Unfinished {
    file: File,
    bytes: u64,
    bucket: Arc<Bucket>,
}

impl Object for Unfinished {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, self.bytes).map_err(|source| StoreError::Write {
            path: std::env::temp_dir(),
            offset_bytes: self.bytes,
            bytes: bytes.len() as u64,
            source,
        })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>, key: &str) -> Result<(), StoreError> {
        Ok(self.bucket.store.put_file(key, &self.file, self.bytes)?)
    }
}
