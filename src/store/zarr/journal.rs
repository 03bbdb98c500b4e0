//! Owns the journal of a save: what it is of, and which of its objects are complete, as a file that is only added to. Knows nothing of what the objects are.
//!
//! ```text
//! "vastgrid save 1\n"   then records:   | length u32 | checksum u64 | kind u8, payload ... |      little-endian
//! ```
//!
//! A record that was cut short or damaged ends the journal: it and what follows count as never written.

use std::collections::HashMap;
use std::fs::File;
#[cfg(feature = "cloud")]
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "cloud")]
use std::time::SystemTime;

use super::target::Done;
use crate::error::StoreError;
use crate::store::disk::{create_new, failed};

const MAGIC: &[u8] = b"vastgrid save 1\n";

/// The longest record that is read, and so the longest that is written.
const MOST_RECORD_BYTES: u32 = 1 << 28;

/// What a journal is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// What the save is of, as JSON: the first record.
    Save(String),
    /// An object that is complete, and its size in bytes; `None`: there is nothing in it, and so no object of that name.
    Done(Done, Option<u64>),
    /// The object of that name is about to be another: what was said of it before is so no longer.
    Again(String),
    /// Of which save this part of a journal is, and who writes it.
    By(By),
    /// The folder of that number in the file system is about to get the target's name.
    Publishing(u64),
}

/// Random numbers by which saves and whoever writes them are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct By {
    /// The save, for as long as it is gone on with.
    pub(super) save: u128,
    /// Who writes it at present.
    pub(super) writer: u128,
}

#[cfg(feature = "cloud")]
impl By {
    /// Of a save that is new.
    pub(super) fn new() -> Self {
        // The keys of a hash are random.
        let half = || u128::from(RandomState::new().hash_one((std::process::id(), SystemTime::now())));
        let random = || half() << 64 | half();
        Self { save: random(), writer: random() }
    }

    /// Whose a part of a journal is.
    pub(super) fn of(records: &[Record]) -> Option<Self> {
        records.iter().find_map(|record| if let Record::By(by) = record { Some(*by) } else { None })
    }
}

/// A journal that is open for adding to.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Journal {
    /// Begins a journal where none is.
    pub(super) fn create(path: &Path, save: &str) -> Result<Self, StoreError> {
        let file = create_new(path)?;
        let mut journal = Self { file, path: path.to_owned(), bytes: 0 };
        let mut text = MAGIC.to_vec();
        encode(&Record::Save(save.to_owned()), &mut text).map_err(failed("adding to", path))?;
        journal.append(&text)?;
        Ok(journal)
    }

    /// Reads a journal, and opens it for adding to after its last whole record. `None` where the file is none.
    pub(super) fn open(path: &Path) -> Result<Option<(Self, Vec<Record>)>, StoreError> {
        let open = File::options().read(true).write(true).open(path);
        let file = open.map_err(failed("opening", path))?;
        let mut reader = BufReader::new(&file);
        let mut magic = [0; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(failed("reading", path)(e)),
            _ => return Ok(None),
        }
        let mut bytes = MAGIC.len() as u64;
        let mut records = Vec::new();
        while let Some((record, length)) = next(&mut reader).map_err(failed("reading", path))? {
            bytes += length;
            records.push(record);
        }
        drop(reader);
        file.set_len(bytes).map_err(failed("cutting off the damaged end of", path))?;
        Ok(Some((Self { file, path: path.to_owned(), bytes }, records)))
    }

    /// Adds records, durably.
    ///
    /// # Errors
    /// [`StoreError::File`]: a record that is too long to be read again, or the file cannot be made durable; [`StoreError::Write`]. Nothing is added then.
    pub(super) fn add(&mut self, records: impl IntoIterator<Item = Record>) -> Result<(), StoreError> {
        let mut text = Vec::new();
        for record in records {
            encode(&record, &mut text).map_err(failed("adding to", &self.path))?;
        }
        if text.is_empty() { Ok(()) } else { self.append(&text) }
    }

    fn append(&mut self, text: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(text, self.bytes).map_err(|source| StoreError::Write {
            path: self.path.clone(),
            offset_bytes: self.bytes,
            bytes: text.len() as u64,
            source,
        })?;
        self.file.sync_all().map_err(failed("making durable", &self.path))?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// Records as they stand in a journal.
#[cfg(feature = "cloud")]
pub(super) fn encoded(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    records.iter().try_for_each(|record| encode(record, &mut text))?;
    Ok(text)
}

/// The records of a part of a journal, up to the first that is not whole.
#[cfg(feature = "cloud")]
pub(super) fn records(mut text: &[u8]) -> Vec<Record> {
    // Reading from memory does not fail.
    std::iter::from_fn(|| next(&mut text).ok().flatten()).map(|(record, _)| record).collect()
}

/// The objects that are complete, and their sizes, by what was said last of each.
pub(super) fn complete(records: impl IntoIterator<Item = Record>) -> Vec<(Done, Option<u64>)> {
    let mut complete = HashMap::new();
    for record in records {
        match record {
            Record::Done(done, bytes) => {
                complete.insert(done.key.clone(), (done, bytes));
            }
            Record::Again(key) => {
                complete.remove(&key);
            }
            Record::Save(_) | Record::By(_) | Record::Publishing(_) => {}
        }
    }
    complete.into_values().collect()
}

/// # Errors
/// The record would be too long to be read again.
fn encode(record: &Record, out: &mut Vec<u8>) -> io::Result<()> {
    let mut payload = Vec::new();
    let long = match record {
        Record::Save(save) => save.len(),
        Record::Done(done, _) => done.key.len() + done.note.len() + 10,
        Record::Again(key) => key.len(),
        Record::By(_) | Record::Publishing(_) => 0,
    };
    let most = usize::try_from(MOST_RECORD_BYTES).unwrap_or(usize::MAX);
    if long >= most {
        let text = format!("a record of {long} bytes, of at most {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match record {
        Record::Save(save) => {
            payload.push(b'S');
            payload.extend_from_slice(save.as_bytes());
        }
        Record::Done(Done { key, note }, bytes) => {
            payload.push(b'O');
            payload.extend_from_slice(&bytes.unwrap_or(u64::MAX).to_le_bytes());
            payload.extend_from_slice(key.as_bytes());
            payload.push(0);
            payload.extend_from_slice(note);
        }
        Record::Again(key) => {
            payload.push(b'A');
            payload.extend_from_slice(key.as_bytes());
        }
        Record::By(By { save, writer }) => {
            payload.push(b'B');
            payload.extend_from_slice(&save.to_le_bytes());
            payload.extend_from_slice(&writer.to_le_bytes());
        }
        Record::Publishing(inode) => {
            payload.push(b'P');
            payload.extend_from_slice(&inode.to_le_bytes());
        }
    }
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&checksum(&payload).to_le_bytes());
    out.append(&mut payload);
    Ok(())
}

/// The next record and its length with everything, or `None` at the end or at the first that is not whole.
fn next(reader: &mut impl Read) -> io::Result<Option<(Record, u64)>> {
    let mut head = [0; 12];
    if !fill(reader, &mut head)? {
        return Ok(None);
    }
    let (length, sum) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
    if length > MOST_RECORD_BYTES {
        return Ok(None);
    }
    let mut payload = Vec::new();
    reader.by_ref().take(length.into()).read_to_end(&mut payload)?;
    if payload.len() as u64 != u64::from(length) || checksum(&payload).to_le_bytes() != *sum {
        return Ok(None);
    }
    Ok(decode(&payload).map(|record| (record, 12 + u64::from(length))))
}

fn decode(payload: &[u8]) -> Option<Record> {
    let (&kind, rest) = payload.split_first()?;
    Some(match kind {
        b'S' => Record::Save(String::from_utf8(rest.to_vec()).ok()?),
        b'O' => {
            let (bytes, rest) = rest.split_first_chunk()?;
            let bytes = Some(u64::from_le_bytes(*bytes)).filter(|&bytes| bytes != u64::MAX);
            let end = rest.iter().position(|&b| b == 0)?;
            let key = String::from_utf8(rest[..end].to_vec()).ok()?;
            Record::Done(Done { key, note: rest[end + 1..].to_vec() }, bytes)
        }
        b'A' => Record::Again(String::from_utf8(rest.to_vec()).ok()?),
        b'B' => {
            let (save, writer) = rest.split_first_chunk()?;
            let (save, writer) = (u128::from_le_bytes(*save), u128::from_le_bytes(writer.try_into().ok()?));
            Record::By(By { save, writer })
        }
        b'P' => Record::Publishing(u64::from_le_bytes(rest.try_into().ok()?)),
        _ => return None,
    })
}

/// Whether there was enough.
fn fill(reader: &mut impl Read, out: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(out) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// FNV-1a: enough to tell what was written from what was cut short.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &b| (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(key: &str, note: &[u8], bytes: Option<u64>) -> Record {
        Record::Done(Done { key: key.into(), note: note.to_vec() }, bytes)
    }

    fn records() -> Vec<Record> {
        let by = By { save: u128::MAX / 3, writer: 1 << 90 };
        vec![
            Record::By(by),
            done("s0/c/0/0/1", b"", None),
            done("s1/c/0/0/0", &[0, 1, 2, 0], Some(1 << 40)),
            Record::Again("s1/c/0/0/0".into()),
            Record::Publishing(77),
        ]
    }

    fn read(path: &Path) -> Vec<Record> {
        Journal::open(path).unwrap().unwrap().1
    }

    #[test]
    fn what_is_added_is_found_and_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path, "{}").unwrap();
        journal.add(records()).unwrap();
        let mut expected = vec![Record::Save("{}".into())];
        expected.extend(records());
        assert_eq!(read(&path), expected);
        let (mut journal, _) = Journal::open(&path).unwrap().unwrap();
        journal.add([Record::Publishing(5)]).unwrap();
        expected.push(Record::Publishing(5));
        assert_eq!(read(&path), expected);
    }

    #[test]
    fn what_was_said_last_of_an_object_holds() {
        let all = [
            done("a", b"1", Some(1)),
            done("b", b"", None),
            done("a", b"2", Some(2)),
            done("c", b"", Some(3)),
            Record::Again("c".into()),
            Record::Again("d".into()),
        ];
        let mut found: Vec<_> =
            complete(all).into_iter().map(|(done, bytes)| (done.key, done.note, bytes)).collect();
        found.sort();
        assert_eq!(found, [("a".into(), b"2".to_vec(), Some(2)), ("b".into(), vec![], None)]);
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path, "save").unwrap();
        let long = done("a", &vec![0; usize::try_from(MOST_RECORD_BYTES).unwrap()], Some(1));
        let error = journal.add([done("b", b"", None), long]).unwrap_err();
        assert!(error.to_string().contains("a record of 268435467 bytes"), "{error}");
        journal.add([done("c", b"", None)]).unwrap();
        assert_eq!(read(&path), [Record::Save("save".into()), done("c", b"", None)]);
    }

    #[test]
    fn a_journal_that_was_cut_or_damaged_anywhere_ends_before_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::create(&path, "save").unwrap().add(records()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let all = read(&path);
        for at in MAGIC.len()..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            let cut = read(&path);
            assert!(cut.len() < all.len() && all.starts_with(&cut), "cut at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            let (mut journal, found) = Journal::open(&path).unwrap().unwrap();
            assert!(found.len() < all.len() && all.starts_with(&found), "damaged at {at}");
            journal.add(records()).unwrap();
            assert_eq!(read(&path).len(), found.len() + records().len(), "added after what was whole");
        }
        for none in [&whole[..MAGIC.len() - 1], b"", b"something else entirely"] {
            std::fs::write(&path, none).unwrap();
            assert!(Journal::open(&path).unwrap().is_none());
        }
    }
}
