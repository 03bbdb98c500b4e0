//! Owns the file of a [`RangeIndex`]. Knows nothing of what it is of: the key says that.
//!
//! ```text
//! byte   0   "VGRANGES"
//!        8   version, 4 bytes; the type's name, 4 bytes, such as "u16\0"
//!       16   the key, 32 bytes
//!       48   extent and cell along x, y and z, 8 bytes each
//!       96   the smallest value of each cell, then the largest of each     numbers and values little-endian
//!      end   XXH3 of all before, 8 bytes
//! ```

use std::io;
use std::path::Path;

use twox_hash::XxHash3_64;

use super::{CellGrid, RangeIndex};
use crate::error::SourceError;
use crate::geometry::Extent;
use crate::source::raw::{file_bytes, open_regular};
use crate::source::{ContentKey, Endian, atomic_file};
use crate::voxel::Scalar;

const MAGIC: &[u8; 8] = b"VGRANGES";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 96;
const SUM_BYTES: usize = 8;

impl<T: Scalar> RangeIndex<T> {
    /// Keeps the index in a file, for [`RangeIndex::load`] with the same key. The file is written under another name first: whoever opens it finds the one before, or all of this.
    ///
    /// **Cost**: two values a cell, written in one go.
    ///
    /// # Errors
    /// [`SourceError::Store`]: it could not be written; then what was there before is there still.
    pub fn save(&self, path: impl AsRef<Path>, key: &ContentKey) -> Result<(), SourceError> {
        let path = path.as_ref();
        let header = header::<T>(self.extent(), self.cell(), key);
        let (least, greatest) = (little_endian(&self.least), little_endian(&self.greatest));
        let parts: [&[u8]; 3] = [&header, bytemuck::cast_slice(&least), bytemuck::cast_slice(&greatest)];
        let sum = sum(&parts).to_le_bytes();
        let written = atomic_file::write(path, &[parts[0], parts[1], parts[2], &sum]);
        written.map_err(|source| SourceError::Store {
            doing: "writing value ranges to",
            location: path.display().to_string(),
            source: source.into(),
        })
    }

    /// The index that was kept in a file under this key. `None` where there is no file, and, with a warning, where it is of something else, damaged, or cannot be read: it is only ever a matter of
    /// speed.
    ///
    /// **Cost**: reads the file, and looks at all of it.
    #[must_use]
    pub fn load(path: impl AsRef<Path>, key: &ContentKey) -> Option<Self> {
        let path = path.as_ref();
        match read(path, key) {
            Ok(index) => Some(index),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "value ranges that were kept are not used");
                None
            }
        }
    }
}

fn read<T: Scalar>(path: &Path, key: &ContentKey) -> io::Result<RangeIndex<T>> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = open_regular(path).map_err(plain)?;
    let bytes = file_bytes(&file, path).map_err(plain)?;
    let most = (HEADER_BYTES + SUM_BYTES) as u64 + RangeIndex::<T>::MOST_CELLS * 2 * size_of::<T>() as u64;
    if bytes > most {
        return Err(wrong("the file is larger than any index"));
    }
    let mut all = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(&mut file, most), &mut all)?;
    let Some((said, stored)) = all.split_last_chunk::<SUM_BYTES>() else {
        return Err(wrong("the file is too short"));
    };
    if sum(&[said]) != u64::from_le_bytes(*stored) {
        return Err(wrong("its checksum is wrong"));
    }
    let Some((found, values)) = said.split_at_checked(HEADER_BYTES) else {
        return Err(wrong("the file is too short"));
    };
    let number = |at: usize| found[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let three = |at: usize| Extent::new(number(at), number(at + 8), number(at + 16));
    let (extent, cell) = (three(48), three(72));
    if found != header::<T>(extent, cell, key) {
        return Err(wrong("it is of another volume, version or type"));
    }
    let grid = CellGrid::new(extent, cell).map_err(io::Error::other)?;
    if values.len() != 2 * grid.len() * size_of::<T>() {
        return Err(wrong("it has not as many values as cells"));
    }
    let (least, greatest) = values.split_at(values.len() / 2);
    let typed = |bytes: &[u8]| little_endian(&bytemuck::pod_collect_to_vec::<u8, T>(bytes));
    RangeIndex::from_parts(extent, cell, typed(least), typed(greatest)).map_err(io::Error::other)
}

/// The system's error, without what we say of it.
fn plain(error: SourceError) -> io::Error {
    match error {
        SourceError::Open { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn header<T: Scalar>(extent: Extent, cell: Extent, key: &ContentKey) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let name = T::TYPE.name().as_bytes();
    header[12..12 + name.len()].copy_from_slice(name);
    header[16..48].copy_from_slice(key.bytes());
    for (at, number) in extent.to_array().into_iter().chain(cell.to_array()).enumerate() {
        header[48 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    header
}

fn sum(parts: &[&[u8]]) -> u64 {
    use std::hash::Hasher;
    let mut hash = XxHash3_64::new();
    for part in parts {
        hash.write(part);
    }
    hash.finish()
}

/// Values in the file's order, from this machine's; and back.
fn little_endian<T: Scalar>(values: &[T]) -> Vec<T> {
    let swap = Endian::NATIVE != Endian::Little;
    values.iter().map(|&v| if swap { v.swap_bytes() } else { v }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> RangeIndex<f32> {
        let (least, greatest) =
            (vec![1.0, f32::NAN, f32::INFINITY, -3.5], vec![2.0, 7.0, f32::NEG_INFINITY, 9.0]);
        RangeIndex::from_parts(Extent::new(30, 5, 1), Extent::new(8, 8, 8), least, greatest).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_again_under_the_same_key_and_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranges");
        let key = ContentKey::new("here").with("etag", 1);
        assert_eq!(RangeIndex::<f32>::load(&path, &key), None);
        index().save(&path, &key).unwrap();
        assert_eq!(RangeIndex::load(&path, &key), Some(index()));
        assert_eq!(RangeIndex::<u32>::load(&path, &key), None);
        assert_eq!(RangeIndex::<f32>::load(&path, &ContentKey::new("here").with("etag", 2)), None);
        let error = index().save(folder.path().join("no/such/folder"), &key).unwrap_err();
        assert!(error.to_string().contains("no/such/folder"), "{error}");
    }

    #[test]
    fn no_damage_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranges");
        let key = ContentKey::new("here");
        index().save(&path, &key).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(RangeIndex::<f32>::load(&path, &key), None, "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(RangeIndex::<f32>::load(&path, &key), None, "cut off at {at}");
        }
        std::fs::write(&path, [good.as_slice(), &[0; 16]].concat()).unwrap();
        assert_eq!(RangeIndex::<f32>::load(&path, &key), None, "longer");
        // A file that says of itself that it is in order, but has too few values for its extent.
        let mut short = good[..HEADER_BYTES + 8].to_vec();
        short.extend(sum(&[&short]).to_le_bytes());
        std::fs::write(&path, &short).unwrap();
        assert_eq!(RangeIndex::<f32>::load(&path, &key), None);
        std::fs::write(&path, &good).unwrap();
        assert!(RangeIndex::<f32>::load(&path, &key).is_some());
    }
}
