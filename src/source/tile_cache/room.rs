//! Owns how much there is in a cache's folder: [`Room`] makes room for what is to be kept by removing what was used least, and stops keeping where the system refuses. Knows files, not tiles.

use std::collections::HashMap;
use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::source::atomic_file::UNFINISHED;

/// Names of files in the folder of a volume.
pub(super) const UNIFORM: &str = "uniform";
pub(super) const RANGES: &str = "ranges";
pub(super) const TILE: &str = ".tile";

/// What files take besides their bytes is no more than what is left of a block of this size.
const BLOCK_BYTES: u64 = 4096;

/// Uses are written to a file's time, for other processes and later ones, no more often than this.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// After how long a file that is not finished was left by a process that ended.
const LEFT_AFTER: Duration = Duration::from_mins(10);

/// How often the folder of a volume is made that others remove at once. Then something is not kept.
const TRIES: usize = 4;

/// How much there is, and when it was used.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    most_bytes: u64,
    off: AtomicBool,
    taken: Mutex<Taken>,
    uses: Mutex<HashMap<PathBuf, Use>>,
    pub(super) counts: Counts,
}

/// What is known of the folder. Its lock is also the right to look at it and to remove files.
#[derive(Debug)]
struct Taken {
    bytes: u64,
    /// What was added since the folder was looked at.
    added_bytes: u64,
}

/// When a file was used by this process, and when it was told so.
#[derive(Clone, Copy, Debug)]
struct Use {
    last: SystemTime,
    told: SystemTime,
}

/// What became of tiles.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) found: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) damaged: AtomicU64,
    kept: AtomicU64,
    removed: AtomicU64,
}

/// What a [`TileCache`](super::TileCache) has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TileCacheStats {
    /// Tiles that were found, those of one value included.
    pub found: u64,
    /// Tiles that were read from their source.
    pub missed: u64,
    /// Of them, those whose file was there, but damaged.
    pub damaged: u64,
    /// Files that were written.
    pub kept: u64,
    /// Files that gave way to others.
    pub removed: u64,
    /// Bytes in the folder, as far as known.
    pub bytes: u64,
}

/// A file of the cache.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// Somebody is writing it, and it stays.
    unfinished: bool,
}

impl Room {
    /// # Errors
    /// The folder cannot be listed.
    pub(super) fn new(folder: PathBuf, most_bytes: u64) -> io::Result<Self> {
        let room = Self {
            folder,
            most_bytes,
            off: AtomicBool::new(false),
            taken: Mutex::new(Taken { bytes: 0, added_bytes: 0 }),
            uses: Mutex::default(),
            counts: Counts::default(),
        };
        let listed = room.list()?;
        room.lock().bytes = listed.iter().map(|file| file.bytes).sum();
        Ok(room)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn is_keeping(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> TileCacheStats {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TileCacheStats {
            found: of(&self.counts.found),
            missed: of(&self.counts.missed),
            damaged: of(&self.counts.damaged),
            kept: of(&self.counts.kept),
            removed: of(&self.counts.removed),
            bytes: self.lock().bytes,
        }
    }

    /// Has `write` write a file of so many bytes, if there is room for it or can be made. Whether it did; the first time that it cannot is the last.
    pub(super) fn keep(&self, path: &Path, bytes: u64, write: impl Fn(&Path) -> io::Result<()>) -> bool {
        let written = self.put(path, on_disk(bytes), write);
        self.counts.kept.fetch_add(u64::from(written), Ordering::Relaxed);
        written
    }

    /// Has `write` add so many bytes to a file, likewise.
    pub(super) fn append(&self, path: &Path, bytes: u64, write: impl Fn(&Path) -> io::Result<()>) -> bool {
        let before = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.put(path, on_disk(before + bytes) - on_disk(before), write)
    }

    fn put(&self, path: &Path, bytes: u64, write: impl Fn(&Path) -> io::Result<()>) -> bool {
        if !self.is_keeping() || !self.make_room(bytes) {
            return false;
        }
        let Err(error) = write_in_folder(path, write) else {
            self.note_use(path);
            return true;
        };
        let mut taken = self.lock();
        taken.bytes = taken.bytes.saturating_sub(bytes);
        drop(taken);
        if error.kind() != io::ErrorKind::NotFound && !self.off.swap(true, Ordering::Relaxed) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "the tile cache cannot be written: no more tiles are kept");
        }
        false
    }

    /// Notes that a file was used; where that was not told of late, tells it the file's time, through `file` where it is open.
    pub(super) fn used(&self, path: &Path, file: Option<&File>) {
        if !self.note_use(path) {
            return;
        }
        let opened = if file.is_none() { File::open(path).ok() } else { None };
        if let Some(file) = file.or(opened.as_ref()) {
            // A hint to others only: where the folder is not ours, it stays as it is.
            let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
            let _ = rustix::fs::futimens(file, &times);
        }
    }

    /// Whether the file is to be told.
    fn note_use(&self, path: &Path) -> bool {
        let now = SystemTime::now();
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = uses.get_mut(path) {
            known.last = now;
            let due = now.duration_since(known.told).is_ok_and(|since| since >= TOLD_EVERY);
            if due {
                known.told = now;
            }
            return due;
        }
        uses.insert(path.to_owned(), Use { last: now, told: now });
        true
    }

    /// Takes so many bytes, after removing what was used least where they are not there. Whether they are.
    fn make_room(&self, bytes: u64) -> bool {
        let mut taken = self.lock();
        let after = taken.bytes.saturating_add(bytes);
        let look = after > self.most_bytes || taken.added_bytes > self.most_bytes / 16;
        if look && bytes <= self.most_bytes {
            match self.list() {
                Ok(listed) => *taken = Taken { bytes: self.shrink(listed, bytes), added_bytes: 0 },
                Err(error) => {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, %error, "the tile cache cannot be listed: nothing is removed from it");
                }
            }
        }
        let fits = taken.bytes.saturating_add(bytes) <= self.most_bytes;
        if fits {
            taken.bytes += bytes;
            taken.added_bytes += bytes;
        }
        fits
    }

    /// Removes what was used least, until there are so many bytes to spare, and an eighth of all so that this need not be done again soon. Says how many bytes there are.
    fn shrink(&self, mut listed: Vec<Listed>, bytes: u64) -> u64 {
        let mut total: u64 = listed.iter().map(|file| file.bytes).sum();
        if total.saturating_add(bytes) <= self.most_bytes {
            return total;
        }
        let enough = (self.most_bytes - self.most_bytes / 8).saturating_sub(bytes);
        listed.sort_by_key(|file| file.used);
        for file in listed.into_iter().filter(|file| !file.unfinished) {
            if total <= enough {
                break;
            }
            match std::fs::remove_file(&file.path) {
                Ok(()) => {
                    self.counts.removed.fetch_add(1, Ordering::Relaxed);
                }
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => continue,
            }
            total = total.saturating_sub(file.bytes);
        }
        total
    }

    /// All files of the cache. What processes left unfinished that were killed is removed, and so are folders with nothing in them.
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for volume in std::fs::read_dir(&self.folder)? {
            let Ok(volume) = volume else { continue };
            if !is_volume(&volume) {
                continue;
            }
            // One that goes meanwhile has nothing in it.
            let Ok(files) = std::fs::read_dir(volume.path()) else { continue };
            let before = listed.len();
            listed.extend(files.flatten().filter_map(|file| listed_file(&file)));
            if listed.len() == before {
                // Not done where there is anything.
                let _ = std::fs::remove_dir(volume.path());
            }
        }
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashMap::with_capacity(listed.len());
        for file in &mut listed {
            if let Some((path, of)) = uses.remove_entry(&file.path) {
                file.used = file.used.max(of.last);
                known.insert(path, of);
            }
        }
        *uses = known;
        Ok(listed)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The volume's folder is made when there is something for it, and again where another process, to which it looked empty, was faster in removing it.
fn write_in_folder(path: &Path, write: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut written = write(path);
    for _ in 0..TRIES {
        match (&written, path.parent()) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                written = write(path);
            }
            _ => break,
        }
    }
    written
}

/// Whether this is the folder of a volume: nothing else is ever looked into.
fn is_volume(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_key = name.to_str().is_some_and(|name| {
        name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    });
    is_key && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// A file that is the cache's, unless it was left unfinished and is removed.
fn listed_file(entry: &DirEntry) -> Option<Listed> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let unfinished = name.starts_with(UNFINISHED);
    if !(unfinished || name == UNIFORM || name == RANGES || name.ends_with(TILE)) {
        return None;
    }
    let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let left = unfinished && SystemTime::now().duration_since(used).is_ok_and(|since| since > LEFT_AFTER);
    if left && std::fs::remove_file(entry.path()).is_ok() {
        return None;
    }
    Some(Listed { path: entry.path(), bytes: on_disk(metadata.len()), used, unfinished })
}

fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(folder: &Path) -> PathBuf {
        folder.join("0123456789abcdef".repeat(4))
    }

    fn write(path: &Path) -> io::Result<()> {
        std::fs::write(path, [1; 4000])
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_least_goes_first_and_there_is_never_more_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path().to_owned(), 16 * BLOCK_BYTES).unwrap();
        let path = |n: u32| volume(folder.path()).join(format!("{n:02}.tile"));
        for n in 0..16 {
            assert!(room.keep(&path(n), 4000, write));
            std::thread::sleep(Duration::from_millis(2));
        }
        room.used(&path(0), None);
        room.used(&path(5), None);
        assert!(room.keep(&path(16), 4000, write));
        // An eighth of 16 is 2, and one for the new one: 1, 2 and 3 have gone.
        assert_eq!((room.stats().removed, room.stats().bytes), (3, 14 * BLOCK_BYTES));
        let left = names(&volume(folder.path()));
        assert!(
            ["00.tile", "04.tile", "05.tile", "16.tile"].iter().all(|name| left.contains(&(*name).into()))
        );
        assert_eq!(left.len(), 14);
        assert!(!room.keep(&path(99), 17 * BLOCK_BYTES, write), "larger than the bound");
        assert!(room.is_keeping());
    }

    #[test]
    fn what_another_process_adds_is_seen_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("photographs")).unwrap();
        let foreign = [folder.path().join("photographs/1.tile"), folder.path().join("thesis.tile")];
        for path in &foreign {
            write(path).unwrap();
        }
        let both = || Room::new(folder.path().to_owned(), 16 * BLOCK_BYTES).unwrap();
        let (one, other) = (both(), both());
        let path = |n: u32| volume(folder.path()).join(format!("{n}.tile"));
        for n in 0..60 {
            assert!([&one, &other][n as usize % 2].keep(&path(n), 4000, write));
            let files = names(&volume(folder.path())).len();
            // A sixteenth for each of them, and what is to be written.
            assert!(files <= 16 + 2 * 2, "{files} files");
        }
        std::fs::write(volume(folder.path()).join("notes.txt"), "mine").unwrap();
        for n in 60..90 {
            assert!(one.keep(&path(n), 4000, write));
        }
        assert!(volume(folder.path()).join("notes.txt").exists());
        assert!(foreign.iter().all(|path| path.exists()));
    }

    #[test]
    fn what_was_left_unfinished_and_empty_folders_go() {
        let folder = tempfile::tempdir().unwrap();
        let (left, empty) = (volume(folder.path()), folder.path().join("f".repeat(64)));
        std::fs::create_dir_all(&left).unwrap();
        std::fs::create_dir_all(&empty).unwrap();
        let (old, new) = (left.join(".unfinished-1-1"), left.join(".unfinished-1-2"));
        write(&old).unwrap();
        write(&new).unwrap();
        let long_ago = SystemTime::now() - 2 * LEFT_AFTER;
        File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        let room = Room::new(folder.path().to_owned(), 1 << 20).unwrap();
        assert!(!old.exists() && new.exists() && !empty.exists());
        assert_eq!(room.stats().bytes, BLOCK_BYTES);
    }

    #[test]
    fn one_refusal_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path().to_owned(), 1 << 20).unwrap();
        let path = volume(folder.path()).join("1.tile");
        assert!(!room.keep(&path, 4000, |_| Err(io::ErrorKind::StorageFull.into())));
        assert_eq!((room.is_keeping(), room.stats().bytes), (false, 0));
        assert!(!room.keep(&path, 4000, |_| panic!("asked again")));
    }
}
