//! Owns [`RawStore`]: voxels into a raw file, perhaps behind a header, that appears when it is whole. Knows nothing of formats.

use std::fs::{self, File};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{exists, failed, parent_and_name, rename_new, sync_folder};
use super::unfinished::Unfinished;
use super::{TileStore, check_write};
use crate::error::StoreError;
use crate::geometry::boxes::voxels;
use crate::geometry::{Coord, Extent, Region};
use crate::source::{index, with_buffer};
use crate::voxel::Voxel;

/// The most that is written at once where one value is written everywhere.
const SPAN_BYTES: u64 = 1 << 20;

/// A raw file in the making: one dense array, x fastest, in this machine's byte order, perhaps behind a header.
///
/// It is written under another name beside its own ([`RawStore::save`] renames it), so that nobody finds a part of it. What is never written is zero, and takes no space where the file system knows holes. Dropped without `save`,
/// or killed, it does not appear; killed, it leaves a hidden file behind (`.NAME.partial-...`), which the next save of that name removes if nobody writes it any more.
///
/// **Cost**: a positioned write for each stretch that is contiguous in the file: whole planes, or rows.
#[derive(Debug)]
pub struct RawStore<T> {
    // Before the file, which has the lock.
    written: Unfinished,
    file: File,
    target: PathBuf,
    /// Why it could not be made durable, once it could not.
    lost: Mutex<Option<Arc<StoreError>>>,
    extent: Extent,
    offset_bytes: u64,
    replace: bool,
    voxel: PhantomData<fn(T)>,
}

impl<T: Voxel> RawStore<T> {
    /// Begins a file at `path`, where nothing is yet.
    ///
    /// # Errors
    /// [`StoreError::Exists`]; [`StoreError::Shape`]: an empty extent, or more bytes than a file can have; [`StoreError::File`].
    pub fn create(path: impl AsRef<Path>, extent: Extent) -> Result<Self, StoreError> {
        Self::create_behind(path, extent, &[], false)
    }

    /// The same, in the place of a file that is there. That one stays until [`RawStore::save`].
    ///
    /// # Errors
    /// As [`RawStore::create`], and [`StoreError::NotReplaced`] where something else than a file is there: a link is something else, wherever it leads.
    pub fn replace(path: impl AsRef<Path>, extent: Extent) -> Result<Self, StoreError> {
        Self::create_behind(path, extent, &[], true)
    }

    /// Begins a file whose voxels follow `header`; where `replace` is set, in the place of a file that is there.
    ///
    /// # Errors
    /// As [`RawStore::create`] and [`RawStore::replace`].
    pub fn create_behind(
        path: impl AsRef<Path>,
        extent: Extent,
        header: &[u8],
        replace: bool,
    ) -> Result<Self, StoreError> {
        let target = path.as_ref().to_owned();
        let shape = |reason| StoreError::Shape { what: "raw file", shape: extent, reason };
        if extent.is_empty() {
            return Err(shape("every side must be at least 1"));
        }
        let offset_bytes = header.len() as u64;
        let bytes = extent.checked_volume().and_then(|v| v.checked_mul(size_of::<T>() as u64));
        let bytes = bytes.and_then(|b| b.checked_add(offset_bytes)).filter(|b| i64::try_from(*b).is_ok());
        let bytes = bytes.ok_or_else(|| shape("more bytes than a file can have"))?;
        check_target(&target, replace)?;
        let (file, written) = Unfinished::beside(&target)?;
        file.set_len(bytes).map_err(failed("making room in", written.path().unwrap_or(&target)))?;
        let lost = Mutex::default();
        let store = Self { file, target, written, lost, extent, offset_bytes, replace, voxel: PhantomData };
        store.put(0, header)?;
        Ok(store)
    }

    /// The file's name once it is saved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// [`StoreError::Exists`]: somebody made one meanwhile; [`StoreError::File`], [`StoreError::Shared`]. What was written is gone then, and what was there before is as it was; only where it is the folder that could not be made durable, the file
    /// has its name already, which it may lose if the machine goes down.
    pub fn save(mut self) -> Result<(), StoreError> {
        self.flush()?;
        let Some(path) = self.written.path() else { return Ok(()) };
        if self.replace {
            check_target(&self.target, true)?;
            fs::rename(path, &self.target).map_err(failed("renaming to", &self.target))?;
        } else {
            rename_new(path, &self.target)?;
        }
        self.written.renamed();
        sync_folder(&parent_and_name(&self.target)?.0)
    }

    fn put(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, offset_bytes).map_err(|source| StoreError::Write {
            path: self.target.clone(),
            offset_bytes,
            bytes: bytes.len() as u64,
            source,
        })
    }

    /// Where a voxel lies in the file.
    fn offset_of(&self, c: Coord) -> u64 {
        let voxel = c.x + self.extent.x * (c.y + self.extent.y * c.z);
        self.offset_bytes + voxel * size_of::<T>() as u64
    }

    /// The stretches of a region that are contiguous in the file: where each begins, and the voxels of each.
    fn stretches(&self, region: Region) -> (impl Iterator<Item = u64>, u64) {
        let size = region.extent;
        let (whole_rows, whole_planes) = (size.x == self.extent.x, size.y == self.extent.y);
        let (rows, planes, length) = match (whole_rows, whole_planes) {
            _ if size.is_empty() => (0, 0, 1),
            (true, true) => (1, 1, voxels(size)),
            (true, false) => (1, size.z, size.x * size.y),
            (false, _) => (size.y, size.z, size.x),
        };
        let places = (0..planes).flat_map(move |z| (0..rows).map(move |y| (y, z)));
        let start = region.start;
        (places.map(move |(y, z)| self.offset_of(Coord::new(start.x, start.y + y, start.z + z))), length)
    }
}

impl<T: Voxel> TileStore<T> for RawStore<T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn piece(&self) -> Extent {
        Extent::cube(1)
    }

    fn write(&self, region: Region, voxels: &[T]) -> Result<(), StoreError> {
        check_write(self.extent, self.piece(), region, Some(voxels.len()))?;
        let (places, length) = self.stretches(region);
        let mut pieces = voxels.chunks(index(length));
        places
            .zip(&mut pieces)
            .try_for_each(|(offset_bytes, piece)| self.put(offset_bytes, bytemuck::cast_slice(piece)))
    }

    fn write_uniform(&self, region: Region, value: T) -> Result<(), StoreError> {
        check_write(self.extent, self.piece(), region, None)?;
        let (places, length) = self.stretches(region);
        let voxel_bytes = size_of::<T>().max(1) as u64;
        let span = length.min((SPAN_BYTES / voxel_bytes).max(1));
        with_buffer(index(span), |buffer: &mut [T]| {
            buffer.fill(value);
            let bytes: &[u8] = bytemuck::cast_slice(buffer);
            for offset_bytes in places {
                for done in (0..length).step_by(index(span)) {
                    let part = index(span.min(length - done) * voxel_bytes);
                    self.put(offset_bytes + done * voxel_bytes, &bytes[..part])?;
                }
            }
            Ok(())
        })
    }

    /// Once it failed, it always does: a second attempt is said to have succeeded, without what the first one lost.
    fn flush(&self) -> Result<(), StoreError> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_none() {
            let synced = self.file.sync_all().map_err(failed("making durable", &self.target));
            *lost = synced.err().map(Arc::new);
        }
        lost.as_ref().map_or(Ok(()), |error| Err(StoreError::Shared(error.clone())))
    }
}

/// Refuses a target that is there and may not be replaced.
fn check_target(target: &Path, replace: bool) -> Result<(), StoreError> {
    if !exists(target)? {
        return Ok(());
    }
    if !replace {
        return Err(StoreError::Exists { path: target.to_owned() });
    }
    let metadata = fs::symlink_metadata(target).map_err(failed("looking at", target))?;
    if metadata.is_file() {
        return Ok(());
    }
    Err(StoreError::NotReplaced { path: target.to_owned(), reason: "it is no regular file" })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "a few voxels")]
mod tests {
    use super::*;

    fn file_in(folder: &Path) -> PathBuf {
        folder.join("volume.raw")
    }

    #[test]
    fn regions_land_where_they_belong_behind_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        let extent = Extent::new(5, 4, 3);
        let store = RawStore::<u16>::create_behind(&path, extent, b"head", false).unwrap();
        let mut expected = vec![0u16; 60];
        for (nth, (at, size)) in
            [([0, 0, 1], [5, 4, 1]), ([0, 1, 0], [5, 2, 3]), ([1, 0, 0], [2, 4, 2]), ([4, 3, 2], [1, 1, 1])]
                .into_iter()
                .enumerate()
        {
            let region = Region::new(at.into(), size.into());
            let values: Vec<u16> =
                (0..).map(|i| 100 * nth as u16 + i).take(index(voxels(region.extent))).collect();
            if nth == 1 {
                store.write_uniform(region, 7).unwrap();
            } else {
                store.write(region, &values).unwrap();
            }
            let mut values = values.into_iter();
            for z in at[2]..at[2] + size[2] {
                for y in at[1]..at[1] + size[1] {
                    for x in at[0]..at[0] + size[0] {
                        let value = values.next().unwrap();
                        expected[index(x + 5 * (y + 4 * z))] = if nth == 1 { 7 } else { value };
                    }
                }
            }
        }
        store.save().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!((&bytes[..4], &bytes[4..]), (&b"head"[..], bytemuck::cast_slice(&expected)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn nothing_appears_unless_saved_and_nothing_is_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        drop(RawStore::<u8>::create(&path, Extent::cube(2)).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let late = RawStore::<u8>::create(&path, Extent::cube(2)).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(late.save(), Err(StoreError::Exists { .. })));
        assert!(matches!(RawStore::<u8>::create(&path, Extent::cube(2)), Err(StoreError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let asked = RawStore::<u8>::replace(&path, Extent::cube(2)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        asked.save().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 8]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = RawStore::<u8>::replace(folder.path(), Extent::cube(2)).unwrap_err();
        assert!(matches!(error, StoreError::NotReplaced { .. }), "{error}");
    }

    #[test]
    fn what_was_lost_once_is_not_said_to_be_durable_at_a_second_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        let mut store = RawStore::<u8>::create(&path, Extent::cube(2)).unwrap();
        store.flush().unwrap();
        // A pipe cannot be made durable.
        let pipe = File::from(std::os::fd::OwnedFd::from(std::io::pipe().unwrap().1));
        let good = std::mem::replace(&mut store.file, pipe);
        assert!(store.flush().is_err());
        store.file = good;
        let error = store.flush().unwrap_err();
        assert!(matches!(error, StoreError::Shared(_)), "{error}");
        assert!(store.save().is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (file_in(folder.path()), folder.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        for there in [false, true] {
            if there {
                fs::write(&elsewhere, "mine").unwrap();
            }
            let error = RawStore::<u8>::replace(&path, Extent::cube(2)).unwrap_err();
            assert!(matches!(error, StoreError::NotReplaced { .. }), "{error}");
            let error = RawStore::<u8>::create(&path, Extent::cube(2)).unwrap_err();
            assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let late = RawStore::<u8>::replace(&path, Extent::cube(2)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(late.save(), Err(StoreError::NotReplaced { .. })));
        assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        for extent in [Extent::cube(0), Extent::cube(u64::MAX), Extent::new(1 << 62, 2, 1)] {
            let error = RawStore::<u16>::create(&path, extent).unwrap_err();
            assert!(matches!(error, StoreError::Shape { .. }), "{error}");
        }
        let nowhere = RawStore::<u8>::create("/nowhere/at/all", Extent::cube(1)).unwrap_err();
        assert!(nowhere.to_string().contains("/nowhere/at/.all.partial"), "{nowhere}");
        let store = RawStore::<u8>::create(&path, Extent::cube(4)).unwrap();
        let outside = Region::new(Coord::new(3, 0, 0), Extent::new(2, 1, 1));
        assert!(matches!(store.write(outside, &[0; 2]), Err(StoreError::BadCall { .. })));
        assert!(matches!(
            store.write(Region::whole(Extent::cube(2)), &[0; 7]),
            Err(StoreError::BadCall { .. })
        ));
        store.write(Region::default(), &[]).unwrap();
    }
}
