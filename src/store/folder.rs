//! Owns [`SaveFolder`]: a folder that appears when everything in it is whole. Knows nothing of what is in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::disk::{exists, failed, parent_and_name, rename_new, sync_folder};
use super::unfinished::{LOCK, Unfinished};
use crate::error::StoreError;

/// A folder in the making, for several volumes that are to appear as one: the fields of a simulation at one step, or a volume and what was computed of it.
///
/// It is another folder beside its own until [`SaveFolder::save`] renames it, so that nobody finds some of the volumes, or those of different steps. Dropped without that, or killed, nothing of it appears, **what the stores
/// in it have saved included**; killed, it leaves a hidden folder behind (`.NAME.partial-...`), which the next of that name removes if nobody writes it any more. A save in it cannot be gone on with.
///
/// **Cost**: the folder around it is read for what killed processes left of that name.
///
/// ```
/// use vastgrid::source::Fill;
/// use vastgrid::store::{RawStore, SaveFolder};
/// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("step-0007");
/// let (pool, extent) = (Pool::new(HostBackend::new(), 4 << 20)?, Extent::cube(32));
/// let field = |value: f32| SparseArray3D::builder(&pool, Fill::new(extent, value)).writable().build();
/// let fields = [("pressure", field(1.0)?), ("density", field(2.0)?)];
///
/// let mut step = SaveFolder::create(&path)?;
/// for (name, field) in &fields {
///     let store = RawStore::create(step.join(name)?, extent)?;
///     field.write_all_to(&store)?;
///     store.save()?;
/// }
/// assert!(!path.exists());
/// step.save()?; // now both are there
/// assert_eq!(std::fs::metadata(path.join("density"))?.len(), 4 * 32 * 32 * 32);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SaveFolder {
    // Before what is locked in it.
    written: Unfinished,
    lock: Option<File>,
    target: PathBuf,
    made: PathBuf,
}

impl SaveFolder {
    /// Begins a folder at `path`, where nothing is yet.
    ///
    /// # Errors
    /// [`StoreError::Exists`]; [`StoreError::File`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let target = path.as_ref().to_owned();
        if exists(&target)? {
            return Err(StoreError::Exists { path: target });
        }
        let (lock, written) = Unfinished::folder_beside(&target)?;
        let made = written.path().unwrap_or(&target).to_owned();
        Ok(Self { written, lock: Some(lock), target, made })
    }

    /// The folder's name once it is saved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Where a store or file is to be made that will be `path().join(name)`.
    ///
    /// # Errors
    /// [`StoreError::File`]: not a name by itself, but several, or one that leads out of the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> Result<PathBuf, StoreError> {
        let name = name.as_ref();
        let mut parts = name.components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a name in it");
            return Err(failed("making", &self.made.join(name))(source));
        }
        Ok(self.made.join(name))
    }

    /// Gives the folder its name, and makes that durable. What the stores in it have saved is durable already; a file that was written in another way is its writer's to sync. Does nothing the second time.
    ///
    /// # Errors
    /// [`StoreError::InTheWay`]: something in it was begun and not saved; [`StoreError::Exists`]: somebody made one meanwhile; [`StoreError::File`]. It can be tried again then. Only where it is the folder around that could
    /// not be made durable, it has its name already, which it may lose if the machine goes down.
    pub fn save(&mut self) -> Result<(), StoreError> {
        if self.written.path().is_none() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.made).map_err(failed("reading", &self.made))? {
            let entry = entry.map_err(failed("reading", &self.made))?;
            if is_unfinished(&entry.file_name()) {
                let reason = "a save in the folder was begun and has not ended";
                return Err(StoreError::InTheWay { path: entry.path(), reason });
            }
        }
        if let Err(error) = self.name() {
            self.lock = self.written.lock_again();
            return Err(error);
        }
        self.written.renamed();
        self.lock = None;
        sync_folder(&parent_and_name(&self.target)?.0)
    }

    fn name(&self) -> Result<(), StoreError> {
        match fs::remove_file(self.made.join(LOCK)) {
            // It could not be locked again after an attempt before.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome.map_err(failed("removing", &self.made.join(LOCK)))?,
        }
        sync_folder(&self.made)?;
        rename_new(&self.made, &self.target)
    }
}

/// Whether a file or folder is called as one of a save that has not ended.
fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.windows(8).any(|part| part == b".partial")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::geometry::Extent;
    use crate::store::RawStore;

    #[test]
    fn all_of_it_appears_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        let [mut first, mut second] = [(); 2].map(|()| SaveFolder::create(&path).unwrap());
        for (step, text) in [(&first, "a"), (&second, "b")] {
            fs::write(step.join("u").unwrap(), text).unwrap();
            fs::create_dir(step.join("v").unwrap()).unwrap();
            fs::write(step.join("v").unwrap().join("w"), text).unwrap();
        }
        assert!(!path.exists());
        second.save().unwrap();
        second.save().unwrap();
        assert_eq!(fs::read_to_string(path.join("v/w")).unwrap(), "b");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "its lock is gone");
        assert!(matches!(first.save(), Err(StoreError::Exists { path: at }) if at == path));
        assert!(first.join(LOCK).unwrap().exists(), "whoever comes knows that it is still written");
        assert!(matches!(SaveFolder::create(&path), Err(StoreError::Exists { .. })));
        // What could not be saved is there to be saved once it can.
        fs::rename(&path, folder.path().join("older")).unwrap();
        first.save().unwrap();
        assert_eq!(fs::read_to_string(path.join("u")).unwrap(), "a");
        drop((first, second, SaveFolder::create(folder.path().join("other")).unwrap()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
        let nowhere = SaveFolder::create(folder.path().join("no/such")).unwrap_err();
        assert!(matches!(nowhere, StoreError::File { .. }), "{nowhere}");
    }

    #[test]
    fn nothing_unfinished_is_published_and_no_name_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        let mut step = SaveFolder::create(&path).unwrap();
        for name in ["", ".", "..", "a/b", "/a", "../a"] {
            assert!(matches!(step.join(name), Err(StoreError::File { .. })), "{name}");
        }
        let store = RawStore::<u8>::create(step.join("u").unwrap(), Extent::cube(4)).unwrap();
        assert!(matches!(step.save(), Err(StoreError::InTheWay { .. })));
        assert!(!path.exists());
        store.save().unwrap();
        step.save().unwrap();
        assert_eq!(fs::metadata(path.join("u")).unwrap().len(), 64);
    }
}
