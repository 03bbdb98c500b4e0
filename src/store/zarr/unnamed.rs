//! Owns [`Unnamed`]: a file of a save that has no name yet, and [`Files`], which makes them. Knows nothing of where it will be.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::StoreError;
use crate::store::disk::{create_new, failed};

/// Files that are kept open between appends; beyond that each is opened for every append.
const MOST_OPEN: usize = 128;

/// Numbers for files without a name, and how many of them are open.
#[derive(Debug, Default)]
pub(super) struct Files {
    made: AtomicU64,
    open: AtomicUsize,
}

impl Files {
    pub(super) fn make(self: &Arc<Self>, folder: &Path) -> Result<Unnamed, StoreError> {
        let nth = self.made.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(nth.to_string());
        let file = create_new(&path)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Unnamed { file: Some(file), path, bytes: 0, files: self.clone(), named: false })
    }
}

/// A file without a name.
#[derive(Debug)]
pub(super) struct Unnamed {
    file: Option<File>,
    path: PathBuf,
    bytes: u64,
    files: Arc<Files>,
    named: bool,
}

impl Unnamed {
    fn open(&mut self) -> Result<&File, StoreError> {
        let file = if let Some(file) = self.file.take() {
            file
        } else {
            let open = File::options().read(true).write(true).open(&self.path);
            let file = open.map_err(failed("opening", &self.path))?;
            self.files.open.fetch_add(1, Ordering::Relaxed);
            file
        };
        Ok(self.file.insert(file))
    }

    /// Appends all or nothing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let offset_bytes = self.bytes;
        self.open()?.write_all_at(bytes, offset_bytes).map_err(|source| StoreError::Write {
            path: self.path.clone(),
            offset_bytes,
            bytes: bytes.len() as u64,
            source,
        })?;
        self.bytes += bytes.len() as u64;
        if self.files.open.load(Ordering::Relaxed) > MOST_OPEN {
            self.close();
        }
        Ok(())
    }

    /// Makes it durable, then gives it its name, in the place of what has it.
    pub(super) fn name(mut self, path: &Path) -> Result<(), StoreError> {
        self.open()?.sync_data().map_err(failed("making durable", &self.path))?;
        fs::rename(&self.path, path).map_err(failed("renaming to", path))?;
        self.named = true;
        Ok(())
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
