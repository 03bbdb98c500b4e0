//! Owns how a save into a folder begins: who may write, what an interrupted one left, and what may be replaced. Knows nothing of what is written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::journal::{Journal, Record, complete};
use super::target::Done;
use crate::error::StoreError;
use crate::store::disk::{
    aside_of, beside, exists, failed, file_bytes, parent_and_name, put_back, sync_folder,
};

/// What one finds in a folder that holds Zarr, of which one may take the place.
pub(super) const MARKS: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zattrs"];

/// Whether a save goes on where an earlier one was interrupted, and whether it takes the place of what is there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begin {
    pub(super) resume: bool,
    pub(super) replace: bool,
}

/// A partial folder that is ours alone.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) partial: PathBuf,
    pub(super) lock: File,
    pub(super) journal: Journal,
    /// What is complete already.
    pub(super) done: Vec<Done>,
}

/// Makes or finds the partial folder beside `target`, for a save of what `save` describes.
pub(super) fn begin(target: &Path, save: &str, begin: Begin) -> Result<Begun, StoreError> {
    check_target(target, begin.replace)?;
    let partial = beside(target, ".partial")?;
    let lock = lock(target, &partial)?;
    put_back_or_remove(target, &partial)?;
    // Whoever had the lock may just have published.
    check_target(target, begin.replace)?;
    let (journal, done) = match earlier(&partial)? {
        Some((journal, records)) if begin.resume && goes_on(&partial, &records)? => {
            check_same(target, &records, save)?;
            remove_all(&partial.join("objects"))?;
            (journal, as_recorded(&partial.join("tree"), complete(records))?)
        }
        found => {
            drop(found);
            empty(&partial)?;
            (Journal::create(&partial.join("journal"), save)?, Vec::new())
        }
    };
    for folder in ["objects", "tree"] {
        make_folder(&partial.join(folder))?;
    }
    sync_folder(&partial)?;
    sync_folder(&parent_and_name(&partial)?.0)?;
    Ok(Begun { partial, lock, journal, done })
}

/// How many objects (files) of a save to `target` an interrupted one has completed, which [`ZarrOptions::resume`](super::ZarrOptions::resume) would go on from and a save without it removes; 0 where there is none, and while somebody
/// writes it.
///
/// **Cost**: reads the journal of that save.
///
/// # Errors
/// [`StoreError::File`]; [`StoreError::InTheWay`]: what lies where it would be is no such save.
pub fn unfinished_save(target: impl AsRef<Path>) -> Result<u64, StoreError> {
    let partial = beside(target.as_ref(), ".partial")?;
    let lock = match File::open(&partial) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened.map_err(failed("opening", &partial))?,
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(0),
        Err(e) => return Err(failed("locking", &partial)(e.into())),
    }
    match earlier(&partial)? {
        Some((_, records)) if goes_on(&partial, &records)? => {
            Ok(as_recorded(&partial.join("tree"), complete(records))?.len() as u64)
        }
        _ => Ok(0),
    }
}

/// Removes the partial folder. Where something is in it that no save makes, that stays, and the journal with it, by which the folder is known for what it is.
pub(super) fn clear_away(partial: &Path) -> Result<(), StoreError> {
    empty_but_for_journal(partial)?;
    let entries = fs::read_dir(partial).map_err(failed("reading", partial))?;
    if let Some(other) = entries.flatten().find(|entry| entry.file_name() != "journal") {
        let path = other.path();
        return Err(StoreError::InTheWay { path, reason: "it is nothing that a save makes" });
    }
    remove_all(&partial.join("journal"))?;
    fs::remove_dir(partial).map_err(failed("removing", partial))
}

/// The objects that are there as the journal says. One that is not (a disk lost what it had promised) is removed, and so written again.
fn as_recorded(tree: &Path, complete: Vec<(Done, Option<u64>)>) -> Result<Vec<Done>, StoreError> {
    let mut there = Vec::with_capacity(complete.len());
    for (done, bytes) in complete {
        let path = tree.join(&done.key);
        let found = file_bytes(&path)?;
        if found == bytes {
            there.push(done);
        } else {
            tracing::warn!(path = %path.display(), ?found, expected = ?bytes, "what an interrupted save left is not as it says");
            remove_all(&path)?;
        }
    }
    Ok(there)
}

/// What the target was, and had to be moved aside because the file system cannot swap names: put back, if whoever did so was killed before the new one was in its place; removed, if after that.
fn put_back_or_remove(target: &Path, partial: &Path) -> Result<(), StoreError> {
    let tree = partial.join("tree");
    let aside = aside_of(&tree)?;
    if !exists(&aside)? {
        return Ok(());
    }
    if !exists(target)? {
        put_back(&tree, target)?;
        tracing::warn!(path = %target.display(), "a save that was interrupted had moved it aside: it has its name again");
        return Ok(());
    }
    let records = earlier(partial)?.map(|(_, records)| records);
    let inode = fs::symlink_metadata(target).map_err(failed("looking at", target))?.ino();
    if records.and_then(|records| records.last().cloned()) == Some(Record::Publishing(inode)) {
        return remove_all(&aside);
    }
    let reason = "a save that was interrupted moved it aside, and something else has its name by now";
    Err(StoreError::InTheWay { path: aside, reason })
}

/// Refuses a target that is there, unless it may be replaced: nobody means to lose a folder of something else.
pub(super) fn check_target(target: &Path, replace: bool) -> Result<(), StoreError> {
    if !exists(target)? {
        return Ok(());
    }
    if !replace {
        return Err(StoreError::Exists { path: target.to_owned() });
    }
    let refused = |reason| Err(StoreError::NotReplaced { path: target.to_owned(), reason });
    let metadata = fs::symlink_metadata(target).map_err(failed("looking at", target))?;
    if !metadata.is_dir() {
        return refused("it is no folder");
    }
    let mut entries = fs::read_dir(target).map_err(failed("reading", target))?;
    if entries.next().is_some() && !MARKS.iter().any(|mark| target.join(mark).is_file()) {
        return refused("it is a folder of something else than Zarr");
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        outcome => outcome.map_err(failed("making", path)),
    }
}

/// Makes the partial folder where there is none, and locks it.
fn lock(target: &Path, partial: &Path) -> Result<File, StoreError> {
    for _ in 0..100 {
        make_folder(partial)?;
        let folder = match File::open(partial) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed("opening", partial))?,
        };
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Busy { path: target.to_owned() }),
            Err(e) => return Err(failed("locking", partial)(e.into())),
        }
        // The folder may have gone, with a save that was published, between opening and locking it.
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let ours = folder.metadata().map_err(failed("looking at", partial))?;
        if fs::metadata(partial).is_ok_and(|there| same(&there, &ours)) {
            return Ok(folder);
        }
    }
    Err(StoreError::Busy { path: target.to_owned() })
}

/// The journal of an earlier save, if one was begun here.
fn earlier(partial: &Path) -> Result<Option<(Journal, Vec<Record>)>, StoreError> {
    let path = partial.join("journal");
    if exists(&path)? {
        if let Some((journal, records)) = Journal::open(&path)? {
            return Ok(Some((journal, records)));
        }
        // A save that was killed while it made its journal has nothing else yet.
        let small = fs::metadata(&path).is_ok_and(|m| m.len() < 16);
        if small && !exists(&partial.join("tree"))? {
            return Ok(None);
        }
        return Err(StoreError::InTheWay { path, reason: "it is no journal of a save" });
    }
    let mut entries = fs::read_dir(partial).map_err(failed("reading", partial))?;
    if entries.next().is_none() {
        return Ok(None);
    }
    Err(StoreError::InTheWay { path: partial.to_owned(), reason: "there is no journal of a save in it" })
}

/// Whether an earlier save is one to go on with: it was not published in the end.
fn goes_on(partial: &Path, records: &[Record]) -> Result<bool, StoreError> {
    let Some(Record::Publishing(inode)) = records.last() else { return Ok(!records.is_empty()) };
    let tree = partial.join("tree");
    match fs::metadata(&tree) {
        Ok(metadata) => Ok(metadata.ino() == *inode),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("looking at", &tree)(e)),
    }
}

/// Refuses to go on with a save of something else; names the first thing that differs.
pub(super) fn check_same(target: &Path, records: &[Record], save: &str) -> Result<(), StoreError> {
    let Some(Record::Save(before)) = records.first() else { return Ok(()) };
    if before == save {
        return Ok(());
    }
    let parse =
        |text: &str| serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(text).unwrap_or_default();
    let (before, now) = (parse(before), parse(save));
    let differs = now.keys().chain(before.keys()).find(|key| now.get(*key) != before.get(*key));
    let field = differs.cloned().unwrap_or_default();
    let value = |of: &serde_json::Map<_, serde_json::Value>| {
        of.get(&field).map_or("nothing".to_owned(), ToString::to_string)
    };
    Err(StoreError::OtherSave { path: target.to_owned(), found: value(&before), wanted: value(&now), field })
}

/// Removes what is in the partial folder, the journal last: as long as it is there, the folder is known for what it is.
fn empty(partial: &Path) -> Result<(), StoreError> {
    empty_but_for_journal(partial)?;
    remove_all(&partial.join("journal"))
}

fn empty_but_for_journal(partial: &Path) -> Result<(), StoreError> {
    let tree = partial.join("tree");
    for path in [&tree, &partial.join("objects"), &aside_of(&tree)?] {
        remove_all(path)?;
    }
    sync_folder(partial)
}

fn remove_all(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(e)),
        _ => Ok(()),
    }
}
