//! Owns [`SaveFolder`]: a folder that appears when everything in it is whole. Knows nothing of what is in it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::disk::{exists, parent_and_name, rename_new, sync_folder};
use super::unfinished::Unfinished;
use crate::error::StoreError;

/// A folder in the making, for several volumes that are to appear as one: the fields of a simulation at one step, or a volume and what was computed of it.
///
/// It is another folder beside its own until [`SaveFolder::save`] renames it, so that nobody finds some of the volumes, or those of different steps. Dropped without `save`, or killed, it does not appear;
/// killed, it leaves a hidden folder behind (`.NAME.partial-...`), which the next of that name removes if nobody writes it any more.
///
/// **Cost**: a few system calls.
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
/// let step = SaveFolder::create(&path)?;
/// for (name, field) in &fields {
///     let store = RawStore::create(step.join(name), extent)?;
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
    // Before what locks it.
    written: Unfinished,
    lock: File,
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
        Ok(Self { written, lock, target, made })
    }

    /// The folder's name once it is saved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// The name that a store or file of this folder is to be made under. What is there under another name once the folder is saved.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.made.join(name)
    }

    /// Gives the folder its name, and makes that durable. What the stores in it have saved is durable already; a file that was written in another way is its writer's to sync.
    ///
    /// # Errors
    /// [`StoreError::Exists`]: somebody made one meanwhile; [`StoreError::File`]. What is in it is gone then; only where it is the folder around that could not be made durable, it has its name already,
    /// which it may lose if the machine goes down.
    pub fn save(mut self) -> Result<(), StoreError> {
        sync_folder(&self.made)?;
        rename_new(&self.made, &self.target)?;
        self.written.renamed();
        drop(self.lock);
        sync_folder(&parent_and_name(&self.target)?.0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_of_it_appears_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        let [first, second] = [(); 2].map(|()| SaveFolder::create(&path).unwrap());
        for (step, text) in [(&first, "a"), (&second, "b")] {
            fs::write(step.join("u"), text).unwrap();
            fs::create_dir(step.join("v")).unwrap();
            fs::write(step.join("v").join("w"), text).unwrap();
        }
        assert!(!path.exists());
        second.save().unwrap();
        assert_eq!(fs::read_to_string(path.join("v/w")).unwrap(), "b");
        assert!(matches!(first.save(), Err(StoreError::Exists { path: at }) if at == path));
        assert!(matches!(SaveFolder::create(&path), Err(StoreError::Exists { .. })));
        drop(SaveFolder::create(folder.path().join("other")).unwrap());
        assert_eq!(fs::read_to_string(path.join("u")).unwrap(), "b");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let nowhere = SaveFolder::create(folder.path().join("no/such")).unwrap_err();
        assert!(matches!(nowhere, StoreError::File { .. }), "{nowhere}");
    }
}
