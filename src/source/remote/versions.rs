//! Owns which version of an object was seen first, so that parts of different versions are never taken for one object, and which versions the metadata had. Knows nothing of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use object_store::ObjectMeta;

/// Objects whose versions are remembered: those read by parts, such as shards. What is forgotten is what was not read for longest.
const MOST_OBJECTS: usize = 1 << 18;

/// What a store says of an object by which another version of it would be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    etag: Option<String>,
    /// Milliseconds since 1970 (0 where the server does not say).
    modified_ms: i64,
    bytes: u64,
}

impl Version {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self {
            etag: meta.e_tag.clone(),
            modified_ms: meta.last_modified.timestamp_millis(),
            bytes: meta.size,
        }
    }

    /// What a request may be bound to: a tag that stands for the very bytes, as a weak one (`W/`) does not.
    pub(super) fn condition(&self) -> Option<String> {
        self.etag.clone().filter(|tag| !tag.starts_with("W/"))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn same(&self, other: &Self) -> bool {
        let rest = self.bytes == other.bytes;
        match (&self.etag, &other.etag) {
            (Some(own), Some(its)) => own == its && rest,
            _ => self.modified_ms == other.modified_ms && rest,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes)?;
        match &self.etag {
            Some(tag) => write!(f, " tagged {tag}"),
            None => write!(f, " of {} ms", self.modified_ms),
        }
    }
}

/// The versions of one store's objects.
#[derive(Debug)]
pub(super) struct Versions {
    seen: Mutex<LruCache<String, Version>>,
    metadata: Mutex<BTreeMap<String, u64>>,
}

impl Versions {
    pub(super) fn new() -> Self {
        Self { seen: Mutex::new(LruCache::unbounded()), metadata: Mutex::default() }
    }

    /// The version of an object that was read by parts before.
    pub(super) fn seen(&self, key: &str) -> Option<Version> {
        lock(&self.seen).get(key).cloned()
    }

    /// Notes the version of an object that is read by parts, or says which one was noted before, if it was another.
    pub(super) fn note(&self, key: &str, now: &Version) -> Result<(), Version> {
        let mut seen = lock(&self.seen);
        if let Some(before) = seen.get(key) {
            return if before.same(now) { Ok(()) } else { Err(before.clone()) };
        }
        seen.put(key.to_owned(), now.clone());
        if seen.len() > MOST_OBJECTS {
            seen.pop_lru();
        }
        Ok(())
    }

    /// Forgets the version of an object, which is about to be another.
    pub(super) fn forget(&self, key: &str) {
        lock(&self.seen).pop(key);
    }

    /// Notes what metadata says, and its version.
    pub(super) fn note_metadata(&self, key: &str, now: &Version, contents: &[u8]) {
        let tag = now.etag.as_deref().unwrap_or_default();
        let hash = fnv(fnv(fnv(SEED, tag.as_bytes()), &now.modified_ms.to_le_bytes()), contents);
        lock(&self.metadata).insert(key.to_owned(), hash);
    }

    /// The version of all metadata that was read until now.
    pub(super) fn of_metadata(&self) -> String {
        let metadata = lock(&self.metadata);
        let all =
            metadata.iter().fold(SEED, |hash, (key, its)| fnv(fnv(hash, key.as_bytes()), &its.to_le_bytes()));
        format!("{all:016x}")
    }
}

/// No invariant spans two statements under these locks: a panic elsewhere leaves them as they are.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a of 64 bits, with a separator: the same in every build, as a version on disk has to be.
///
/// **Source**: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    step(bytes.iter().fold(seed, |hash, byte| step(hash, *byte)), 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: Option<&str>, modified_ms: i64, bytes: u64) -> Version {
        Version { etag: etag.map(str::to_owned), modified_ms, bytes }
    }

    #[test]
    fn another_version_is_told_and_the_first_is_kept() {
        let versions = Versions::new();
        let first = version(Some("\"a\""), 1, 10);
        assert_eq!(versions.note("k", &first), Ok(()));
        assert_eq!(versions.note("k", &version(Some("\"a\""), 2, 10)), Ok(()), "a tag says more than a time");
        assert_eq!(versions.note("k", &version(Some("\"b\""), 1, 10)), Err(first.clone()));
        assert_eq!(versions.note("k", &version(Some("\"a\""), 1, 11)), Err(first.clone()), "another length");
        assert_eq!(versions.note("k", &version(None, 2, 10)), Err(first.clone()), "no tag: the time counts");
        assert_eq!(versions.note("k", &version(None, 1, 10)), Ok(()));
        assert_eq!(versions.seen("k"), Some(first));
        assert_eq!(version(Some("W/\"a\""), 1, 1).condition(), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let versions = Versions::new();
        for i in 0..=MOST_OBJECTS {
            versions.note(&i.to_string(), &version(None, 0, 1)).unwrap();
        }
        assert_eq!(lock(&versions.seen).len(), MOST_OBJECTS);
        assert_eq!(versions.seen("0"), None);
    }

    #[test]
    fn the_version_of_metadata_follows_each_of_its_parts() {
        let of = |parts: &[(&str, &str, i64, &str)]| {
            let versions = Versions::new();
            for (key, tag, at, contents) in parts {
                versions.note_metadata(key, &version(Some(tag), *at, 1), contents.as_bytes());
            }
            versions.of_metadata()
        };
        let base = of(&[("zarr.json", "t", 1, "{}"), ("0/zarr.json", "u", 1, "{}")]);
        assert_eq!(
            base,
            of(&[("0/zarr.json", "u", 1, "{}"), ("zarr.json", "t", 1, "{}")]),
            "whatever the order"
        );
        for other in [
            of(&[("zarr.json", "T", 1, "{}"), ("0/zarr.json", "u", 1, "{}")]),
            of(&[("zarr.json", "t", 2, "{}"), ("0/zarr.json", "u", 1, "{}")]),
            of(&[("zarr.json", "t", 1, "{ }"), ("0/zarr.json", "u", 1, "{}")]),
            of(&[("zarr.json", "t", 1, "{}")]),
        ] {
            assert_ne!(base, other);
        }
    }
}
