//! Owns [`Tree`]: a save into a folder, whole under its name or not there at all. Knows nothing of Zarr but which files say that a folder holds any.
//!
//! ```text
//! NAME                    what was there before, if anything, until the last moment
//! .NAME.partial/          locked by whoever writes; found again by its name
//!     journal             what the save is of, and which files are complete
//!     objects/            files without a name yet
//!     tree/               what will be NAME: files that are complete, each of which came by a rename; the metadata comes last of all
//!     .tree.replaced/     what was NAME before, where the file system cannot swap names, for as long as nothing has that name
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::begin::{self, Begin, Begun, check_target};
use super::journal::{Journal, Record};
use super::target::{Done, Object, Target};
use super::unnamed::{Files, Unnamed};
use crate::error::StoreError;
use crate::source::objects_mark;
use crate::store::disk::{exists, failed, file_bytes, parent_and_name, rename_new, rename_over, sync_folder};

/// A save into a folder.
#[derive(Debug)]
pub(super) struct Tree {
    target: PathBuf,
    partial: PathBuf,
    replace: bool,
    book: Mutex<Book>,
    /// Folders with names that are not durable yet: noted when the names are there.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    made: Mutex<HashSet<PathBuf>>,
    files: Arc<Files>,
    /// The partial folder, locked for as long as this is open.
    _lock: File,
}

/// The journal, and why nothing is added to it any more.
#[derive(Debug)]
struct Book {
    journal: Journal,
    failed: Option<Arc<StoreError>>,
}

impl Tree {
    /// Begins a save of what `save` describes, or goes on with one. Gives what is complete of it.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::NotReplaced`], [`StoreError::Busy`], [`StoreError::OtherSave`], [`StoreError::InTheWay`], [`StoreError::File`].
    pub(super) fn begin(target: &Path, save: &str, begin: Begin) -> Result<(Self, Vec<Done>), StoreError> {
        let Begun { partial, lock, journal, done } = begin::begin(target, save, begin)?;
        let tree = Self {
            target: target.to_owned(),
            partial,
            replace: begin.replace,
            book: Mutex::new(Book { journal, failed: None }),
            unsynced: Mutex::default(),
            made: Mutex::default(),
            files: Arc::default(),
            _lock: lock,
        };
        Ok((tree, done))
    }

    fn tree(&self) -> PathBuf {
        self.partial.join("tree")
    }

    fn path_of(&self, key: &str) -> PathBuf {
        self.tree().join(key)
    }

    /// Makes the folders that a key needs.
    fn make_way(&self, path: &Path) -> Result<(), StoreError> {
        let top = self.tree();
        let folder = parent_and_name(path)?.0;
        let mut made = locked(&self.made);
        if !made.contains(&folder) {
            fs::create_dir_all(&folder).map_err(failed("making", &folder))?;
            let mut unsynced = locked(&self.unsynced);
            for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&top)) {
                unsynced.insert(above.to_owned());
            }
            made.insert(folder);
        }
        Ok(())
    }

    /// Makes names durable, then adds records. One thread at a time: whoever finds nothing to make durable must not be ahead of another that is about to. Once it failed, it always does: a folder that is made durable a second time is said
    /// to be so, without what the first attempt lost.
    fn record(&self, records: impl FnOnce() -> Result<Vec<Record>, StoreError>) -> Result<(), StoreError> {
        let mut book = locked(&self.book);
        if let Some(error) = &book.failed {
            return Err(StoreError::Shared(error.clone()));
        }
        let folders = std::mem::take(&mut *locked(&self.unsynced));
        let synced = folders.iter().try_for_each(|folder| sync_folder(folder));
        let added = synced.and_then(|()| records()).and_then(|records| book.journal.add(records));
        added.map_err(|error| StoreError::Shared(book.failed.insert(Arc::new(error)).clone()))
    }

    /// Notes a name that came, went, or is another's, so that it becomes durable with the next record.
    fn renamed(&self, path: &Path) -> Result<(), StoreError> {
        let folder = parent_and_name(path)?.0;
        locked(&self.unsynced).insert(folder);
        Ok(())
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut object = self.files.make(&self.objects())?;
        object.append(bytes)?;
        self.name(object, key)
    }

    /// Where files are that have no name yet.
    fn objects(&self) -> PathBuf {
        self.partial.join("objects")
    }

    fn name(&self, object: Unnamed, key: &str) -> Result<(), StoreError> {
        let path = self.path_of(key);
        self.make_way(&path)?;
        if exists(&path)? {
            self.record(|| Ok(vec![Record::Again(key.to_owned())]))?;
        }
        object.name(&path)?;
        self.renamed(&path)
    }

    fn size_of(&self, key: &str) -> Result<Option<u64>, StoreError> {
        file_bytes(&self.path_of(key))
    }
}

impl Target for Arc<Tree> {
    fn write_past_cache(&self, most_bytes: u64) {
        self.files.write_past_cache(most_bytes);
    }

    fn begin(&self) -> Result<Box<dyn Object>, StoreError> {
        Ok(Box::new(Unfinished { object: self.files.make_large(&self.objects())?, tree: self.clone() }))
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.size_of(key)
    }

    fn read(&self, key: &str, offset_bytes: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let path = self.path_of(key);
        let mut read = || File::open(&path)?.read_exact_at(out, offset_bytes);
        let failed =
            |e: io::Error| StoreError::ReadBack { location: path.display().to_string(), source: e.into() };
        read().map_err(failed)
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path_of(key);
        if !exists(&path)? {
            return Ok(());
        }
        self.record(|| Ok(vec![Record::Again(key.to_owned())]))?;
        fs::remove_file(&path).map_err(failed("removing", &path))?;
        self.renamed(&path)
    }

    fn commit(&self, done: &[Done]) -> Result<(), StoreError> {
        let recorded = |done: &Done| Ok(Record::Done(done.clone(), self.size_of(&done.key)?));
        self.record(|| done.iter().map(recorded).collect())
    }

    fn publish(&self, metadata: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let Some((root, others)) = metadata.split_last() else { return Ok(()) };
        others.iter().try_for_each(|(key, bytes)| self.put(key, bytes))?;
        self.record(|| Ok(Vec::new()))?;
        check_target(&self.target, self.replace)?;
        self.put(&root.0, &root.1)?;
        let tree = self.tree();
        let inode = fs::metadata(&tree).map_err(failed("looking at", &tree))?.ino();
        self.record(|| Ok(vec![Record::Publishing(inode)]))?;
        if self.replace {
            rename_over(&tree, &self.target)?;
        } else {
            rename_new(&tree, &self.target)?;
        }
        sync_folder(&parent_and_name(&self.target)?.0)?;
        // It is published; what is left of the making, and of what was there before, is only in the way.
        if let Err(error) = begin::clear_away(&self.partial) {
            tracing::warn!(%error, "the target is saved, but what was needed for that could not be removed");
        }
        Ok(())
    }

    fn mark(&self, array: &str, metadata: &[u8]) -> Option<String> {
        let mark = objects_mark(&self.path_of(array), metadata);
        let mark = mark.map_err(|(path, error)| {
            let path = path.display();
            tracing::warn!(%path, %error, "ranges of values that are written will not be used: objects cannot be gone through");
        });
        mark.ok()
    }

    fn discard(&self) -> Result<(), StoreError> {
        begin::clear_away(&self.partial)
    }

    fn location(&self, key: &str) -> String {
        self.target.join(key).display().to_string()
    }
}

/// A file without a name, and the tree that it will be in.
#[derive(Debug)]
struct Unfinished {
    object: Unnamed,
    tree: Arc<Tree>,
}

impl Object for Unfinished {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.object.append(bytes)
    }

    fn finish(self: Box<Self>, key: &str) -> Result<(), StoreError> {
        self.tree.name(self.object, key)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
