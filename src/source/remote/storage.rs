//! Owns how a remote store looks to the `zarrs` crate: keys, byte ranges, listings, its kind of error. Knows nothing of arrays.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use zarrs::storage::byte_range::{ByteRange, ByteRangeIterator};
use zarrs::storage::{
    Bytes, ListableStorageTraits, MaybeBytes, MaybeBytesIterator, ReadableStorageTraits, StorageError,
    StoreKey, StoreKeys, StoreKeysPrefixes, StorePrefix,
};

use super::listing::{Listed, list};
use super::store::RemoteStore;
use crate::error::RemoteError;

impl ReadableStorageTraits for RemoteStore {
    fn get(&self, key: &StoreKey) -> Result<MaybeBytes, StorageError> {
        self.object(key.as_str()).map_err(of_zarrs)
    }

    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        byte_ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        let wanted: Vec<ByteRange> = byte_ranges.collect();
        let Some(parts) = self.parts(key.as_str(), &wanted)? else { return Ok(None) };
        Ok(Some(Box::new(parts.into_iter().map(Ok))))
    }

    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        self.object_bytes(key.as_str()).map_err(of_zarrs)
    }

    fn supports_get_partial(&self) -> bool {
        true
    }
}

impl RemoteStore {
    fn parts(&self, key: &str, wanted: &[ByteRange]) -> Result<Option<Vec<Bytes>>, StorageError> {
        let mut parts = vec![Bytes::new(); wanted.len()];
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut places = Vec::new();
        for (place, range) in wanted.iter().enumerate() {
            let part = match *range {
                ByteRange::FromStart(0, None) => self.object(key),
                ByteRange::FromStart(start, None) => self.rest(key, start),
                ByteRange::Suffix(bytes) => self.last(key, bytes),
                ByteRange::FromStart(start, Some(bytes)) => {
                    let end = start.checked_add(bytes).ok_or_else(|| {
                        of_zarrs(Arc::new(RemoteError::Beyond {
                            url: self.show(key),
                            what: format!("{bytes} bytes from {start}"),
                            object_bytes: u64::MAX,
                        }))
                    })?;
                    ranges.push(start..end);
                    places.push(place);
                    continue;
                }
            };
            let Some(part) = part.map_err(of_zarrs)? else { return Ok(None) };
            parts[place] = part;
        }
        if !ranges.is_empty() {
            let Some(found) = self.ranges(key, &ranges).map_err(of_zarrs)? else { return Ok(None) };
            for (place, part) in places.into_iter().zip(found) {
                parts[place] = part;
            }
        }
        Ok(Some(parts))
    }

    /// From `start` to the end, wherever that is.
    fn rest(&self, key: &str, start: u64) -> Result<Option<Bytes>, Arc<RemoteError>> {
        let Some(bytes) = self.object_bytes(key)? else { return Ok(None) };
        if start > bytes {
            return Err(Arc::new(RemoteError::Beyond {
                url: self.show(key),
                what: format!("bytes from {start}"),
                object_bytes: bytes,
            }));
        }
        Ok(self.ranges(key, &[start..bytes])?.and_then(|mut parts| parts.pop()))
    }
}

impl ListableStorageTraits for RemoteStore {
    fn list(&self) -> Result<StoreKeys, StorageError> {
        self.list_prefix(&StorePrefix::root())
    }

    fn list_prefix(&self, prefix: &StorePrefix) -> Result<StoreKeys, StorageError> {
        keys(list(self, prefix.as_str(), true).map_err(of_zarrs)?)
    }

    fn list_dir(&self, prefix: &StorePrefix) -> Result<StoreKeysPrefixes, StorageError> {
        let mut listed = list(self, prefix.as_str(), false).map_err(of_zarrs)?;
        let folders = std::mem::take(&mut listed.folders);
        let folders: Result<Vec<_>, _> =
            folders.into_iter().map(|folder| StorePrefix::new(folder + "/")).collect();
        Ok(StoreKeysPrefixes::new(keys(listed)?, folders?))
    }

    fn size_prefix(&self, prefix: &StorePrefix) -> Result<u64, StorageError> {
        let listed = list(self, prefix.as_str(), true).map_err(of_zarrs)?;
        Ok(listed.objects.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes)))
    }
}

fn keys(listed: Listed) -> Result<StoreKeys, StorageError> {
    let mut keys: Vec<StoreKey> =
        listed.objects.into_iter().map(|(key, _)| StoreKey::new(key)).collect::<Result<_, _>>()?;
    keys.sort();
    Ok(keys)
}

/// As the `zarrs` crate passes it on: it shows the same text, and keeps the cause.
fn of_zarrs(error: Arc<RemoteError>) -> StorageError {
    StorageError::IOError(Arc::new(io::Error::other(error)))
}
