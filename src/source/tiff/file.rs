//! Owns [`TiffFile`]: an open TIFF file, its directories and the values in them, each read only as far as the file goes. Knows nothing of what any tag means together with others.
//!
//! ```text
//! II 42 [offset]     the file's head: byte order, classic (42) or big (43), and where the first directory is
//! count, count x (tag, type, how many, the values or where they are), offset of the next directory
//! ```
//!
//! **Source**: TIFF, revision 6.0, section 2; BigTIFF as libtiff documents it, <https://libtiff.gitlab.io/libtiff/specification/bigtiff.html>.

use std::io;
use std::path::{Path, PathBuf};

use super::tags::{KNOWN, Tag};
use crate::error::SourceError;
use crate::source::Endian;
use crate::source::bad::Bad;
use crate::source::input_file::InputFile;
use crate::source::magic::is_tiff;
use crate::source::raw::{file_bytes, open_regular};

/// The most entries that a directory of the classic kind can have; big ones have no more here.
const MOST_ENTRIES: u64 = 65_535;

/// A TIFF file that is open.
#[derive(Debug)]
pub(super) struct TiffFile {
    pub(super) file: InputFile,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) endian: Endian,
    big: bool,
    pub(super) first_directory: u64,
}

/// The entries of a directory that are known here.
#[derive(Debug)]
pub(super) struct Directory {
    entries: Vec<Entry>,
    /// Where the next one is, or 0.
    pub(super) next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// The values, or where they are.
    value: [u8; 8],
}

impl TiffFile {
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = open_regular(path)?;
        let bytes = file_bytes(&file, path)?;
        let mut tiff = Self {
            file: InputFile::new(file),
            path: path.to_owned(),
            bytes,
            endian: Endian::Little,
            big: false,
            first_directory: 0,
        };
        let mut head = [0; 16];
        let len = usize::try_from(bytes).map_or(16, |bytes| bytes.min(16));
        tiff.read(0, &mut head[..len])?;
        if !is_tiff(&head) {
            let start = String::from_utf8_lossy(&head[..len.min(4)]).into_owned();
            return Err(tiff.bad("magic", start, "not a TIFF file"));
        }
        tiff.endian = if head[0] == b'M' { Endian::Big } else { Endian::Little };
        tiff.big = head[2] == 43 || head[3] == 43;
        if tiff.big && (tiff.number(&head[4..6]), tiff.number(&head[6..8])) != (8, 0) {
            let sizes = format!("{:?}", &head[4..8]);
            return Err(tiff.bad("magic", sizes, "a big TIFF file has offsets of 8 bytes"));
        }
        tiff.first_directory = tiff.number(if tiff.big { &head[8..16] } else { &head[4..8] });
        Ok(tiff)
    }

    pub(super) fn bad(
        &self,
        field: &'static str,
        value: impl AsRef<str>,
        reason: &'static str,
    ) -> SourceError {
        Bad::new(field, value, reason).in_file(&self.path)
    }

    pub(super) fn unsupported(&self, what: &'static str, value: impl Into<String>) -> SourceError {
        SourceError::Unsupported { location: self.path.display().to_string(), what, value: value.into() }
    }

    /// Reads bytes that have to be there.
    pub(super) fn read(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let bytes = out.len() as u64;
        let path = || self.path.clone();
        self.file.read_exact_at(out, offset_bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => SourceError::Truncated {
                path: path(),
                expected_bytes: offset_bytes.saturating_add(bytes),
                actual_bytes: self.bytes,
            },
            _ => SourceError::Read { path: path(), offset_bytes, bytes, source },
        })
    }

    /// Refuses what the file does not have.
    pub(super) fn check_inside(&self, offset_bytes: u64, bytes: u64) -> Result<(), SourceError> {
        let expected_bytes = offset_bytes.saturating_add(bytes);
        if expected_bytes <= self.bytes {
            return Ok(());
        }
        Err(SourceError::Truncated { path: self.path.clone(), expected_bytes, actual_bytes: self.bytes })
    }

    /// A whole number of at most 8 bytes in the file's byte order.
    fn number(&self, bytes: &[u8]) -> u64 {
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self.endian {
            Endian::Little => bytes.iter().rev().fold(0, fold),
            Endian::Big => bytes.iter().fold(0, fold),
        }
    }

    /// The directory that begins at `at`.
    pub(super) fn directory(&self, at: u64) -> Result<Directory, SourceError> {
        let (count_bytes, entry_bytes, next_bytes) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        // Most are short: one read.
        let mut start = [0; 512];
        self.check_inside(at, count_bytes)?;
        let len = usize::try_from(self.bytes - at).map_or(start.len(), |left| left.min(start.len()));
        self.read(at, &mut start[..len])?;
        let count = self.number(&start[..if self.big { 8 } else { 2 }]);
        if count > MOST_ENTRIES {
            return Err(self.bad("directory", count.to_string(), "more entries than there are tags"));
        }
        let bytes = count_bytes + count * entry_bytes + next_bytes;
        self.check_inside(at, bytes)?;
        let all = if bytes <= start.len() as u64 {
            start[..usize::try_from(bytes).unwrap_or(0)].to_vec()
        } else {
            let mut all = vec![0; usize::try_from(bytes).unwrap_or(0)];
            self.read(at, &mut all)?;
            all
        };
        let (_, rest) = all.split_at(if self.big { 8 } else { 2 });
        let (entries, next) = rest.split_at(rest.len() - if self.big { 8 } else { 4 });
        let mut known: Vec<Entry> = Vec::new();
        for bytes in entries.chunks_exact(if self.big { 20 } else { 12 }) {
            let entry = self.entry(bytes);
            // Of two the first one counts.
            if KNOWN.contains(&entry.tag) && known.iter().all(|other| other.tag != entry.tag) {
                known.push(entry);
            }
        }
        Ok(Directory { entries: known, next: self.number(next) })
    }

    fn entry(&self, bytes: &[u8]) -> Entry {
        let (count, value) = bytes[4..].split_at(if self.big { 8 } else { 4 });
        let mut entry = Entry {
            tag: u16::try_from(self.number(&bytes[..2])).unwrap_or(0),
            kind: u16::try_from(self.number(&bytes[2..4])).unwrap_or(0),
            count: self.number(count),
            value: [0; 8],
        };
        entry.value[..value.len()].copy_from_slice(value);
        entry
    }

    /// The bytes of a tag's values and their type, at most `most_bytes` of them.
    fn bytes_of(&self, entry: &Entry, tag: Tag, most_bytes: u64) -> Result<Vec<u8>, SourceError> {
        let each = u64::from(value_bytes(entry.kind));
        let Some(bytes) = entry.count.checked_mul(each).filter(|_| each > 0) else {
            return Err(self.bad(tag.name, format!("{} of type {}", entry.count, entry.kind), "cannot be"));
        };
        let in_place: usize = if self.big { 8 } else { 4 };
        let wanted = bytes.min(most_bytes);
        if bytes <= in_place as u64 {
            return Ok(entry.value[..usize::try_from(wanted).unwrap_or(0)].to_vec());
        }
        let at = self.number(&entry.value[..in_place]);
        // Before any memory is taken.
        self.check_inside(at, bytes)?;
        let mut out = vec![0; usize::try_from(wanted).unwrap_or(0)];
        self.read(at, &mut out)?;
        Ok(out)
    }

    /// The whole numbers of a tag, of which there are at most `most`.
    pub(super) fn list(
        &self,
        directory: &Directory,
        tag: Tag,
        most: u64,
    ) -> Result<Option<Vec<u64>>, SourceError> {
        let Some(entry) = directory.find(tag) else { return Ok(None) };
        let each = match entry.kind {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            kind => return Err(self.bad(tag.name, format!("type {kind}"), "must be whole numbers")),
        };
        if entry.count == 0 || entry.count > most {
            return Err(self.bad(tag.name, format!("{} values", entry.count), "too many, or none"));
        }
        let bytes = self.bytes_of(entry, tag, u64::MAX)?;
        Ok(Some(bytes.chunks_exact(each).map(|bytes| self.number(bytes)).collect()))
    }

    /// The first whole number of a tag.
    pub(super) fn first(&self, directory: &Directory, tag: Tag) -> Result<Option<u64>, SourceError> {
        Ok(self.list(directory, tag, 1 << 16)?.and_then(|all| all.first().copied()))
    }

    /// A tag's one fraction, where it is one.
    pub(super) fn fraction(&self, directory: &Directory, tag: Tag) -> Option<f64> {
        let entry = directory.find(tag).filter(|entry| entry.kind == 5 && entry.count == 1)?;
        let bytes = self.bytes_of(entry, tag, 8).ok()?;
        let (above, below) = (self.number(bytes.get(..4)?), self.number(bytes.get(4..8)?));
        Some(above as f64 / below as f64)
    }

    /// A tag's text or bytes, at most `most_bytes` of them, without the zero that ends them; empty where there are none.
    pub(super) fn text(
        &self,
        directory: &Directory,
        tag: Tag,
        most_bytes: u64,
    ) -> Result<Vec<u8>, SourceError> {
        let Some(entry) = directory.find(tag).filter(|entry| matches!(entry.kind, 1 | 2 | 7)) else {
            return Ok(Vec::new());
        };
        self.bytes_of(entry, tag, most_bytes)
    }
}

impl Directory {
    fn find(&self, tag: Tag) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag.id)
    }

    pub(super) fn has(&self, tag: Tag) -> bool {
        self.find(tag).is_some()
    }
}

/// Bytes of one value of a type; 0 for types that do not exist.
fn value_bytes(kind: u16) -> u8 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 0,
    }
}
