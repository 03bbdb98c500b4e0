//! Owns where tiles go that were written to and lost their memory: the [`ScratchStore`] trait, and [`ScratchFile`]. Knows nothing of residency.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{SourceError, StoreError};
use crate::source::scratch_file_in;

/// Keeps tiles that were written to and had to leave memory, until they are needed again: of one array and of its forks ([`SparseArray3D::fork`](crate::SparseArray3D::fork)). Nobody else ever sees them, and they need not outlive those.
///
/// Called from several threads at once. What is kept has a number that was never used before, whatever tile it is of, and is never changed: a tile that is written anew is kept under another number, and the old one is forgotten when
/// no array needs it any more. All tiles have the same size.
pub trait ScratchStore: Send + Sync + fmt::Debug {
    /// Keeps a tile's bytes. The array lets go of its own copy once this returned without an error, and not before.
    ///
    /// # Errors
    /// There is no space, or no way to write: the tile stays in memory, and is given again, under another number, the next time that its memory is wanted. This number is not used any more.
    fn keep(&self, number: u64, bytes: &[u8]) -> Result<(), StoreError>;

    /// Reads back what is kept under a number, bit for bit. Several may read at once.
    ///
    /// # Errors
    /// It cannot be read, or is not kept.
    fn read(&self, number: u64, out: &mut [u8]) -> Result<(), StoreError>;

    /// Nobody needs what is kept under the number any more.
    fn forget(&self, number: u64);
}

/// A file without a name, which is gone when the array is, however the process ends: the scratch store of arrays that are not given another one.
///
/// It is made when the first tile comes, and grows to as many tiles as are kept at one time.
pub struct ScratchFile {
    directory: PathBuf,
    file: OnceLock<File>,
    slots: Mutex<Slots>,
}

/// Where tiles lie by their numbers, in tiles from the beginning of the file.
#[derive(Debug, Default)]
struct Slots {
    of: HashMap<u64, u64>,
    free: Vec<u64>,
    end: u64,
}

impl Default for ScratchFile {
    /// In the system's directory for temporary files (`TMPDIR`, or `/tmp`; where that is in memory, so is what goes there).
    fn default() -> Self {
        Self::new(std::env::temp_dir())
    }
}

impl ScratchFile {
    /// In a directory, which has to be there by the time that the first tile comes.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref().to_owned();
        Self { directory, file: OnceLock::new(), slots: Mutex::default() }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> Result<&File, StoreError> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let made = scratch_file_in(&self.directory, 0).map_err(|error| match error {
            SourceError::Scratch { directory, source, .. } => {
                StoreError::File { doing: "making a temporary file in", path: directory, source }
            }
            other => StoreError::ReadBack { location: "a temporary file".into(), source: other.into() },
        })?;
        Ok(self.file.get_or_init(|| made))
    }
}

impl ScratchStore for ScratchFile {
    fn keep(&self, number: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let file = self.file()?;
        let (slot, is_new) = {
            let mut slots = self.slots();
            match slots.of.get(&number) {
                Some(&slot) => (slot, false),
                None => (slots.take(), true),
            }
        };
        let (length, path) = (bytes.len() as u64, &self.directory);
        let offset_bytes = slot * length;
        let written = file.write_all_at(bytes, offset_bytes);
        let mut slots = self.slots();
        match written {
            Ok(()) => {
                slots.of.insert(number, slot);
                Ok(())
            }
            Err(source) => {
                if is_new {
                    slots.free.push(slot);
                }
                let path = path.join("(a temporary file without a name)");
                Err(StoreError::Write { path, offset_bytes, bytes: length, source })
            }
        }
    }

    fn read(&self, number: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let slot = self.slots().of.get(&number).copied();
        let read = match (slot, self.file.get()) {
            (Some(slot), Some(file)) => file.read_exact_at(out, slot * out.len() as u64),
            _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "it is not kept")),
        };
        read.map_err(|source| StoreError::ReadBack {
            location: format!("tile {number} in a temporary file in {}", self.directory.display()),
            source: source.into(),
        })
    }

    fn forget(&self, number: u64) {
        let mut slots = self.slots();
        if let Some(slot) = slots.of.remove(&number) {
            slots.free.push(slot);
        }
    }
}

impl Slots {
    fn take(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }
}

impl fmt::Debug for ScratchFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiles = self.slots().of.len();
        f.debug_struct("ScratchFile")
            .field("directory", &self.directory)
            .field("tiles", &tiles)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_come_back_and_room_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = ScratchFile::new(folder.path());
        let mut out = [0; 16];
        assert!(matches!(scratch.read(7, &mut out), Err(StoreError::ReadBack { .. })));
        for tile in 0..5u8 {
            scratch.keep(tile.into(), &[tile; 16]).unwrap();
        }
        scratch.keep(3, &[33; 16]).unwrap();
        scratch.forget(1);
        scratch.keep(1 << 60, &[9; 16]).unwrap();
        for (tile, value) in [(0, 0), (2, 2), (3, 33), (4, 4), (1 << 60, 9)] {
            scratch.read(tile, &mut out).unwrap();
            assert_eq!(out, [value; 16]);
        }
        assert!(scratch.read(1, &mut out).is_err());
        assert_eq!(scratch.file.get().unwrap().metadata().unwrap().len(), 5 * 16);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let scratch = ScratchFile::new("/nowhere/at/all");
        let error = scratch.keep(0, &[1]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
