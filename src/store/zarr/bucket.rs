//! Owns [`Bucket`]: a save into an object store, seen as a whole or not at all. Knows nothing of Zarr but which object makes a volume of a prefix.
//!
//! ```text
//! PREFIX/.vastgrid-save/00000000           what the save is of, and who writes it; only ever replaced by whoever knows what is there
//! PREFIX/.vastgrid-save/00000001, 2, ...   which objects are complete; removed in the end, the first one last
//! PREFIX/s0/c/0/0/0, ...                   objects, under their names as soon as each is complete
//! PREFIX/zarr.json                         last of all, and only if nobody else put one: with it there is a volume
//! ```
//!
//! An object store renames nothing and locks nothing. So a volume is not replaced but written to a prefix of its own, and a save belongs to whoever's number is in the journal's first object: who takes it over puts another one there, and who
//! had it finds that out before the next object, and leaves it. What was on its way at that moment still arrives.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::zarrs::storage::Bytes;

use super::begin::{Begin, MARKS, check_same};
use super::blocks::{Blocked, Blocks};
use super::journal::{By, Record, complete, encoded, records};
use super::target::{Done, Object, Target};
use crate::error::{RemoteError, StoreError};
use crate::source::{Came, Put, RemoteOptions, RemoteStore, Tag, scratch_file};

/// Where the journal is.
const JOURNAL: &str = ".vastgrid-save/";

/// How often what is below a prefix is listed again to see that all of it was removed.
const MOST_PASSES: usize = 8;

/// A save into an object store.
#[derive(Debug)]
pub(super) struct Bucket {
    store: RemoteStore,
    by: By,
    /// Number of the journal's next object.
    next: Mutex<u64>,
    /// Sizes of objects that are put and not noted as complete.
    put: Mutex<HashMap<String, u64>>,
    /// Hashes of the names of those that are.
    noted: Mutex<HashSet<u64>>,
    hasher: RandomState,
    unfinished: Arc<Blocks>,
}

impl Bucket {
    /// Begins a save of what `save` describes, or goes on with one. Gives what is complete of it.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::NotReplaced`], [`StoreError::Busy`], [`StoreError::OtherSave`], [`StoreError::InTheWay`], [`StoreError::Remote`], [`StoreError::File`].
    pub(super) fn begin(
        url: &str,
        options: &RemoteOptions,
        save: &str,
        begin: Begin,
    ) -> Result<(Self, Vec<Done>), StoreError> {
        let store = RemoteStore::open(url, options).map_err(Arc::new)?;
        let path = PathBuf::from(store.url());
        store.writable()?;
        if is_volume(&store)? {
            if begin.replace {
                let reason = "a volume in an object store is written anew elsewhere";
                return Err(StoreError::NotReplaced { path, reason });
            }
            return Err(StoreError::Exists { path });
        }
        let file = scratch_file(0).map_err(|error| StoreError::File {
            doing: "making a temporary file in",
            path: std::env::temp_dir(),
            source: std::io::Error::other(error),
        })?;
        let mut bucket = Self {
            store,
            by: By::new(),
            next: Mutex::new(1),
            put: Mutex::default(),
            noted: Mutex::default(),
            hasher: RandomState::new(),
            unfinished: Blocks::new(file),
        };
        let busy = || StoreError::Busy { path: path.clone() };
        let Some((text, tag)) = bucket.store.tagged(&journal(0))? else {
            bucket.check_empty()?;
            let head = bucket.text(&[Record::Save(save.to_owned())])?;
            if bucket.store.put(&journal(0), &head, Put::Keep)? == Came::Kept {
                return Err(busy());
            }
            return Ok((bucket, Vec::new()));
        };
        let before = records(&text);
        let whose = By::of(&before);
        match (before.first(), whose) {
            (Some(Record::Save(_)), Some(whose)) if begin.resume => {
                check_same(&path, &before, save)?;
                bucket.by.save = whose.save;
                let head = bucket.text(&[Record::Save(save.to_owned())])?;
                if bucket.store.put_over(&journal(0), &head, tag)? == Came::Kept {
                    return Err(busy());
                }
                let done = bucket.go_on()?;
                return Ok((bucket, done));
            }
            // One of which somebody began to remove what is there cannot be gone on with.
            (Some(Record::By(_)), _) if begin.resume || begin.replace => {}
            (Some(Record::Save(_) | Record::By(_)), _) if begin.replace => {}
            (Some(Record::Save(_) | Record::By(_)), _) => {
                let reason = "a save is under way there, or was interrupted: it may be gone on with (`resume`) or removed (`replace`)";
                return Err(StoreError::InTheWay { path, reason });
            }
            _ => return Err(StoreError::InTheWay { path, reason: "its journal is none of a save" }),
        }
        if bucket.store.put_over(&journal(0), &bucket.text(&[])?, tag)? == Came::Kept {
            return Err(busy());
        }
        bucket.remove_all()?;
        // Nobody goes on with it before all of what was there is gone.
        let head = bucket.text(&[Record::Save(save.to_owned())])?;
        let (_, tag) = bucket.ours()?;
        if bucket.store.put_over(&journal(0), &head, tag)? == Came::Kept {
            return Err(busy());
        }
        Ok((bucket, Vec::new()))
    }

    /// Refuses a prefix that has anything below it.
    fn check_empty(&self) -> Result<(), StoreError> {
        let mut empty = true;
        self.store.each_page("", |page| {
            empty = page.is_empty();
            Ok::<_, StoreError>(empty)
        })?;
        let path = PathBuf::from(self.store.url());
        let reason = "there are objects, and no journal of a save";
        if empty { Ok(()) } else { Err(StoreError::InTheWay { path, reason }) }
    }

    /// What is complete of a save that was taken over. What is not as its journal says is removed.
    fn go_on(&mut self) -> Result<Vec<Done>, StoreError> {
        let mut keys = Vec::new();
        self.store.each_page(JOURNAL, |page| {
            keys.extend(page.into_iter().filter_map(|(key, _)| Some((number(&key)?, key))));
            Ok::<_, StoreError>(true)
        })?;
        keys.sort_unstable();
        self.next = Mutex::new(keys.last().map_or(0, |(number, _)| *number) + 1);
        let mut all = Vec::new();
        for (_, key) in keys.iter().filter(|(number, _)| *number > 0) {
            let text = self.store.object(key)?.ok_or_else(|| self.missing(key))?;
            let records = records(&text);
            // Somebody else's, of a save that was here before, may have come late.
            if By::of(&records).is_some_and(|by| by.save == self.by.save) {
                all.extend(records);
            }
        }
        let expected: HashMap<String, (Done, Option<u64>)> =
            complete(all).into_iter().map(|(done, bytes)| (done.key.clone(), (done, bytes))).collect();
        let mut there = HashMap::new();
        self.store.each_page("", |page| {
            there.extend(page.into_iter().filter(|(key, _)| expected.contains_key(key)));
            Ok::<_, StoreError>(true)
        })?;
        let (mut done, mut wrong) = (Vec::new(), Vec::new());
        for (key, (object, bytes)) in expected {
            if there.get(&key).copied() == bytes {
                done.push(object);
            } else {
                wrong.push(key);
            }
        }
        self.store.remove(&wrong)?;
        self.remember(&done);
        Ok(done)
    }

    /// The journal's first object, which says that this save is ours.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: somebody took it over. [`StoreError::Exists`]: and published it.
    fn ours(&self) -> Result<(Bytes, Tag), StoreError> {
        let found = self.store.tagged(&journal(0))?;
        if let Some(found) = found.filter(|(text, _)| By::of(&records(text)) == Some(self.by)) {
            return Ok(found);
        }
        let path = PathBuf::from(self.store.url());
        if is_volume(&self.store)? {
            Err(StoreError::Exists { path })
        } else {
            Err(StoreError::Busy { path })
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.ours().map(|_| ())
    }

    /// Records as one object of the journal, which says whose it is.
    fn text(&self, records: &[Record]) -> Result<Bytes, StoreError> {
        let all = [records, &[Record::By(self.by)]].concat();
        encoded(&all).map(Bytes::from).map_err(|source| StoreError::File {
            doing: "adding to the journal of",
            path: PathBuf::from(self.store.url()),
            source,
        })
    }

    fn note(&self, records: &[Record]) -> Result<(), StoreError> {
        self.check()?;
        let number = {
            let mut next = locked(&self.next);
            let number = *next;
            *next += 1;
            number
        };
        if self.store.put(&journal(number), &self.text(records)?, Put::Keep)? == Came::Kept {
            return Err(StoreError::Busy { path: PathBuf::from(self.store.url()) });
        }
        Ok(())
    }

    /// Notes that an object will be another, if it was noted as complete. Checks that the save is ours in any case.
    fn again(&self, key: &str) -> Result<(), StoreError> {
        if locked(&self.noted).remove(&self.hasher.hash_one(key)) {
            self.note(&[Record::Again(key.to_owned())])
        } else {
            self.check()
        }
    }

    fn remember(&self, done: &[Done]) {
        locked(&self.noted).extend(done.iter().map(|done| self.hasher.hash_one(&done.key)));
    }

    /// Removes what is below the prefix but for the journal's first object, as long as the save is ours and no volume.
    fn remove_all(&self) -> Result<(), StoreError> {
        let path = PathBuf::from(self.store.url());
        for _ in 0..MOST_PASSES {
            let mut any = false;
            self.store.each_page("", |page| {
                let first = journal(0);
                let keys: Vec<_> = page.into_iter().map(|(key, _)| key).filter(|key| *key != first).collect();
                if keys.iter().any(|key| MARKS.contains(&key.as_str())) {
                    return Err(StoreError::Exists { path: path.clone() });
                }
                if !keys.is_empty() {
                    any = true;
                    self.check()?;
                    self.store.remove(&keys)?;
                }
                Ok(true)
            })?;
            if !any {
                return Ok(());
            }
        }
        Err(StoreError::Busy { path })
    }

    fn remove_journal(&self) -> Result<(), StoreError> {
        self.store.each_page(JOURNAL, |page| {
            let keys = page.into_iter().map(|(key, _)| key).filter(|key| *key != journal(0));
            self.store.remove(&keys.collect::<Vec<_>>())?;
            Ok::<_, StoreError>(true)
        })?;
        Ok(self.store.remove(&[journal(0)])?)
    }

    fn missing(&self, key: &str) -> StoreError {
        StoreError::Remote(Arc::new(RemoteError::Missing { url: self.store.show(key) }))
    }
}

/// Whether something is published there.
fn is_volume(store: &RemoteStore) -> Result<bool, StoreError> {
    for mark in MARKS {
        if store.object_bytes(mark)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The name of an object of the journal.
fn journal(number: u64) -> String {
    format!("{JOURNAL}{number:08}")
}

fn number(key: &str) -> Option<u64> {
    key.strip_prefix(JOURNAL)?.parse().ok()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target for Arc<Bucket> {
    fn begin(&self) -> Result<Box<dyn Object>, StoreError> {
        Ok(Box::new(Unfinished { object: self.unfinished.object(), bucket: self.clone() }))
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.store.object_bytes(key)?)
    }

    fn read(&self, key: &str, offset_bytes: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let end = offset_bytes.saturating_add(out.len() as u64);
        let range = offset_bytes..end;
        let part = self.store.ranges(key, std::slice::from_ref(&range))?.and_then(|mut parts| parts.pop());
        out.copy_from_slice(&part.ok_or_else(|| self.missing(key))?);
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.again(key)?;
        Ok(self.store.remove(&[key.to_owned()])?)
    }

    fn commit(&self, done: &[Done]) -> Result<(), StoreError> {
        if done.is_empty() {
            return Ok(());
        }
        let record = |done: &Done| Record::Done(done.clone(), locked(&self.put).remove(&done.key));
        self.note(&done.iter().map(record).collect::<Vec<_>>())?;
        self.remember(done);
        Ok(())
    }

    fn publish(&self, metadata: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let Some(((root, contents), others)) = metadata.split_last() else { return Ok(()) };
        self.check()?;
        for (key, contents) in others {
            self.store.put(key, &Bytes::from(contents.clone()), Put::Replace)?;
        }
        self.check()?;
        match self.store.put(root, &Bytes::from(contents.clone()), Put::Keep)? {
            Came::Put => {}
            // Two saves of the same have equal roots: it is ours if the save still is.
            Came::Equal => self.check()?,
            Came::Kept => return Err(StoreError::Exists { path: PathBuf::from(self.store.url()) }),
        }
        // It is published; the journal is only in the way.
        if let Err(error) = self.remove_journal() {
            tracing::warn!(%error, "the volume is saved, but the journal of that could not be removed");
        }
        Ok(())
    }

    fn discard(&self) -> Result<(), StoreError> {
        let (_, tag) = self.ours()?;
        if is_volume(&self.store)? {
            return Err(StoreError::Exists { path: PathBuf::from(self.store.url()) });
        }
        if self.store.put_over(&journal(0), &self.text(&[])?, tag)? == Came::Kept {
            return Err(StoreError::Busy { path: PathBuf::from(self.store.url()) });
        }
        self.remove_all()?;
        Ok(self.store.remove(&[journal(0)])?)
    }

    fn location(&self, key: &str) -> String {
        self.store.show(key)
    }
}

/// An object that is put together on this machine, and uploaded when it is complete.
#[derive(Debug)]
struct Unfinished {
    object: Blocked,
    bucket: Arc<Bucket>,
}

impl Object for Unfinished {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let offset_bytes = self.object.bytes();
        self.object.append(bytes).map_err(|source| StoreError::Write {
            path: std::env::temp_dir(),
            offset_bytes,
            bytes: bytes.len() as u64,
            source,
        })
    }

    fn finish(self: Box<Self>, key: &str) -> Result<(), StoreError> {
        let Self { object, bucket } = *self;
        bucket.again(key)?;
        let bytes = object.bytes();
        bucket.store.put_long(key, bytes, |offset_bytes, out| object.read(offset_bytes, out))?;
        locked(&bucket.put).insert(key.to_owned(), bytes);
        Ok(())
    }
}
