//! Owns the tiles of one value of a volume: [`Uniform`], in memory, and a log of them in the folder. Knows nothing of other tiles.
//!
//! ```text
//! a record   "VGU\1" | the tile along x, y and z, 8 bytes each | the value | XXH3 of the key and all before
//! ```
//!
//! Records are appended, each in one write. One that is damaged, or was not written to its end, is passed over: the next good one is looked for byte by byte.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use twox_hash::XxHash3_64;

use crate::geometry::Coord;
use crate::source::ContentKey;
use crate::voxel::Voxel;

const MAGIC: &[u8; 4] = b"VGU\x01";
const VALUE_AT: usize = 4 + 3 * 8;

/// The most bytes of a log that are read, and the most that it grows to.
pub(super) const MOST_BYTES: u64 = 64 << 20;

/// Tiles of one value, by their places.
#[derive(Debug)]
pub(super) struct Uniform<T> {
    values: Mutex<HashMap<Coord, T>>,
}

impl<T: Voxel> Uniform<T> {
    /// What the log says.
    pub(super) fn load(path: &Path, key: &ContentKey) -> Self {
        let mut values = HashMap::new();
        match read(path) {
            Ok(log) => {
                let damaged = parse(&log, key, |tile, value| {
                    values.insert(tile, value);
                });
                if damaged > 0 {
                    tracing::warn!(path = %path.display(), bytes = damaged, "part of a tile cache's log is damaged");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "a tile cache's log cannot be read"),
        }
        Self { values: Mutex::new(values) }
    }

    pub(super) fn get(&self, tile: Coord) -> Option<T> {
        self.lock().get(&tile).copied()
    }

    /// Takes a tile in. Whether it was not known.
    pub(super) fn insert(&self, tile: Coord, value: T) -> bool {
        self.lock().insert(tile, value).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Coord, T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Size of a record.
pub(super) const fn record_bytes<T>() -> usize {
    VALUE_AT + size_of::<T>() + 8
}

/// Appends a record to the log.
pub(super) fn append<T: Voxel>(path: &Path, key: &ContentKey, tile: Coord, value: T) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    if file.metadata()?.len() > MOST_BYTES {
        return Ok(());
    }
    let record = record(key, tile, value);
    // In one go: what others append at the same time comes before or after. What is cut off is passed over.
    match file.write(&record)? {
        written if written == record.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

fn record<T: Voxel>(key: &ContentKey, tile: Coord, value: T) -> Vec<u8> {
    let mut record = Vec::with_capacity(record_bytes::<T>());
    record.extend(MAGIC);
    tile.to_array().iter().for_each(|number| record.extend(number.to_le_bytes()));
    record.extend(bytemuck::bytes_of(&value));
    record.extend(sum(key, &record).to_le_bytes());
    record
}

fn sum(key: &ContentKey, record: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key.bytes()), record)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut log = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut log)?;
    Ok(log)
}

/// Finds the records, and says how many bytes belong to none.
fn parse<T: Voxel>(log: &[u8], key: &ContentKey, mut found: impl FnMut(Coord, T)) -> usize {
    let (mut left, mut damaged) = (log, 0);
    while !left.is_empty() {
        if let Some((tile, value)) = first(left, key) {
            found(tile, value);
            left = &left[record_bytes::<T>()..];
        } else {
            damaged += 1;
            left = &left[1..];
        }
    }
    damaged
}

/// The record at the beginning, if there is a good one.
fn first<T: Voxel>(log: &[u8], key: &ContentKey) -> Option<(Coord, T)> {
    let record = log.get(..record_bytes::<T>())?;
    let (said, stored) = record.split_last_chunk()?;
    if !said.starts_with(MAGIC) || sum(key, said) != u64::from_le_bytes(*stored) {
        return None;
    }
    let number = |at: usize| said.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let tile = Coord::new(number(4)?, number(12)?, number(20)?);
    Some((tile, bytemuck::try_pod_read_unaligned(&said[VALUE_AT..]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(log: &[u8], key: &ContentKey) -> Vec<(u64, u16)> {
        let mut all = Vec::new();
        parse(log, key, |tile, value: u16| all.push((tile.x, value)));
        all
    }

    #[test]
    fn records_are_found_again_around_any_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uniform");
        let key = ContentKey::new("here");
        for x in 0..3 {
            append(&path, &key, Coord::new(x, 7, 9), 100 + u16::try_from(x).unwrap()).unwrap();
        }
        let log = std::fs::read(&path).unwrap();
        let all = [(0, 100), (1, 101), (2, 102)];
        assert_eq!((log.len(), found(&log, &key)), (3 * record_bytes::<u16>(), all.to_vec()));
        assert_eq!(found(&log, &ContentKey::new("there")), []);
        for at in 0..log.len() {
            let mut bad = log.clone();
            bad[at] ^= 0x10;
            let hit = (at / record_bytes::<u16>()) as u64;
            let expected: Vec<_> = all.into_iter().filter(|(x, _)| *x != hit).collect();
            assert_eq!(found(&bad, &key), expected, "byte {at}");
            bad.remove(at);
            assert_eq!(found(&bad, &key), expected, "without byte {at}");
            let whole = [&log[..at], &log[..]].concat();
            assert!(found(&whole, &key).ends_with(&all), "a record cut off at {at} before them");
        }
        let kept = Uniform::<u16>::load(&path, &key);
        assert_eq!((kept.get(Coord::new(2, 7, 9)), kept.get(Coord::new(2, 7, 8))), (Some(102), None));
        assert!(!kept.insert(Coord::new(2, 7, 9), 102) && kept.insert(Coord::new(3, 7, 9), 1));
    }
}
