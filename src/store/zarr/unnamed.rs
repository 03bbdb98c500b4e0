//! Owns [`Unnamed`]: a file of a save that has no name yet, and [`Files`], which makes them. Knows nothing of where it will be.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::past_cache::{Failed, PastCache, Tail};
use crate::error::StoreError;
use crate::store::disk::{create_new, failed};

/// Files that are kept open between appends; beyond that each is opened for every append.
const MOST_OPEN: usize = 128;

/// Numbers for files without a name, and how many of them are open.
#[derive(Debug, Default)]
pub(super) struct Files {
    made: AtomicU64,
    open: AtomicUsize,
    past_cache: OnceLock<Option<Arc<PastCache>>>,
}

impl Files {
    /// Has large files written past the system's cache from now on, as many as that memory is enough for, where the file system can.
    pub(super) fn write_past_cache(&self, most_bytes: u64) {
        self.past_cache.get_or_init(|| PastCache::new(most_bytes).map(Arc::new));
    }

    /// A file that is written past the cache where that can be done.
    pub(super) fn make_large(self: &Arc<Self>, folder: &Path) -> Result<Unnamed, StoreError> {
        let mut made = self.make(folder)?;
        let past_cache = self.past_cache.get().and_then(Option::as_ref);
        made.tail = past_cache.and_then(|past_cache| past_cache.tail(&made.path));
        Ok(made)
    }

    pub(super) fn make(self: &Arc<Self>, folder: &Path) -> Result<Unnamed, StoreError> {
        let nth = self.made.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(nth.to_string());
        let file = create_new(&path)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Unnamed { file: Some(file), tail: None, path, bytes: 0, files: self.clone(), named: false })
    }
}

/// A file without a name.
#[derive(Debug)]
pub(super) struct Unnamed {
    file: Option<File>,
    /// Its end, where it is written past the cache.
    tail: Option<Tail>,
    path: PathBuf,
    bytes: u64,
    files: Arc<Files>,
    named: bool,
}

impl Unnamed {
    /// The file, to be written through the cache, and its end, where it has one to be written past it.
    fn open(&mut self) -> Result<(&File, Option<&mut Tail>), StoreError> {
        let file = if let Some(file) = self.file.take() {
            file
        } else {
            let open = File::options().read(true).write(true).open(&self.path);
            let file = open.map_err(failed("opening", &self.path))?;
            self.files.open.fetch_add(1, Ordering::Relaxed);
            file
        };
        Ok((self.file.insert(file), self.tail.as_mut()))
    }

    /// Appends all or nothing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let offset_bytes = self.bytes;
        let appended = match self.open()? {
            (file, Some(tail)) => tail.append(bytes, file),
            (file, None) => file.write_all_at(bytes, offset_bytes).map_err(|source| Failed {
                offset_bytes,
                bytes: bytes.len(),
                source,
            }),
        };
        appended.map_err(|failed| self.not_written(failed))?;
        self.bytes += bytes.len() as u64;
        if self.files.open.load(Ordering::Relaxed) > MOST_OPEN {
            self.close();
        }
        Ok(())
    }

    /// Makes it durable, then gives it its name, in the place of what has it.
    pub(super) fn name(mut self, path: &Path) -> Result<(), StoreError> {
        if let (file, Some(tail)) = self.open()? {
            tail.finish(file).map_err(|failed| self.not_written(failed))?;
            self.tail = None;
        }
        self.open()?.0.sync_data().map_err(failed("making durable", &self.path))?;
        fs::rename(&self.path, path).map_err(failed("renaming to", path))?;
        self.named = true;
        Ok(())
    }

    fn not_written(&self, Failed { offset_bytes, bytes, source }: Failed) -> StoreError {
        StoreError::Write { path: self.path.clone(), offset_bytes, bytes: bytes as u64, source }
    }

    fn close(&mut self) {
        if self.file.take().is_some() {
            self.files.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        self.close();
        if !self.named {
            // What cannot be removed is removed when the save is continued, or goes with its folder.
            let _ = fs::remove_file(&self.path);
        }
    }
}
