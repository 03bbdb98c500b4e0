//! Owns how a Zarr store at an address is read: a remote store's objects as the rest of this folder wants them. Knows nothing of requests, and nothing of what objects hold.

use std::sync::Arc;

use super::Zarr;
use super::fault::{Cause, Fault};
use super::objects::{Coming, Objects, Part, Use};
use crate::error::SourceError;
use crate::source::remote::{RemoteOptions, RemoteStore, file_url};

impl Zarr {
    /// Opens what lies at an address: `s3://bucket/path`, `gs://bucket/path`, `az://container/path`, `http(s)://host/path`, `file:///path`.
    ///
    /// A plain web server cannot list: there the array at the root is found, the levels that its attributes name, and what consolidated metadata tells; that more could not be listed stands in [`Zarr::skipped`].
    ///
    /// **Cost**: one to four requests for the root, then one for each group's listing, and those for the metadata of its children many at a time. Tiles are fetched ahead, many requests at a time, when a batch of them
    /// is asked for ([`TileSource::will_read`](crate::TileSource::will_read)); shards by inner chunk.
    ///
    /// # Errors
    /// [`SourceError::Remote`]: the address, the options or the credentials. [`SourceError::Store`], as [`Zarr::open`].
    pub fn open_url(url: &str, options: &RemoteOptions) -> Result<Self, SourceError> {
        if let Some(path) = file_url(url)? {
            return Self::open(path);
        }
        Self::of(Arc::new(RemoteStore::open(url, options)?))
    }
}

impl Objects for RemoteStore {
    fn read(&self, name: &str, part: Part, most_bytes: u64, with: Use<'_>) -> Result<bool, Cause> {
        let bytes = match part {
            Part::Whole => self.object_within(name, most_bytes)?,
            Part::At { bytes, .. } | Part::Last { bytes } if bytes > most_bytes => {
                return Err(Fault::TooLarge { actual_bytes: bytes, most_bytes }.into());
            }
            Part::At { offset_bytes, bytes } => {
                let end = offset_bytes.checked_add(bytes).ok_or(Fault::Nothing("such range of bytes"))?;
                self.ranges(name, &[offset_bytes..end])?.and_then(|mut parts| parts.pop())
            }
            Part::Last { bytes } => self.last(name, bytes)?,
        };
        bytes.map_or(Ok(false), |bytes| with(&bytes).map(|()| true))
    }

    fn read_into(&self, name: &str, offset_bytes: Option<u64>, out: &mut [u8]) -> Result<bool, Cause> {
        let expected_bytes = out.len() as u64;
        let part =
            offset_bytes.map_or(Part::Whole, |offset_bytes| Part::At { offset_bytes, bytes: expected_bytes });
        self.read(name, part, expected_bytes, &mut |bytes| {
            let actual_bytes = bytes.len() as u64;
            if actual_bytes != expected_bytes {
                return Err(Fault::Length { expected_bytes, actual_bytes }.into());
            }
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn size(&self, name: &str) -> Result<Option<u64>, Cause> {
        Ok(self.object_bytes(name)?)
    }

    fn is_near(&self) -> bool {
        false
    }

    fn will_read(&self, parts: &[Coming]) {
        let mut rest = parts;
        while let Some(first) = rest.first() {
            // What is announced at once: parts of one object, or objects of one kind of part.
            let together = |coming: &&Coming| match (coming.part, first.part) {
                (Part::At { .. }, Part::At { .. }) => {
                    coming.name == first.name && coming.readers == first.readers
                }
                (Part::Last { .. }, Part::Last { .. }) => coming.readers == first.readers,
                (Part::Whole, Part::Whole) => true,
                _ => false,
            };
            let (now, later) = rest.split_at(rest.iter().take_while(together).count().max(1));
            let sizes = now.iter().map(|coming| (coming.name.clone(), coming.most_bytes));
            match first.part {
                Part::Whole => self.announce_objects(sizes),
                Part::Last { .. } => self.announce_last(sizes, first.readers),
                Part::At { .. } => {
                    let ranges = now.iter().filter_map(|coming| match coming.part {
                        Part::At { offset_bytes, bytes } => {
                            Some(offset_bytes..offset_bytes.checked_add(bytes)?)
                        }
                        Part::Whole | Part::Last { .. } => None,
                    });
                    self.announce_ranges(&first.name, &ranges.collect::<Vec<_>>(), first.readers);
                }
            }
            rest = later;
        }
    }

    fn aside(&self, work: Box<dyn FnOnce() + Send>) {
        self.do_aside(work);
    }

    fn version(&self) -> Option<String> {
        Some(RemoteStore::version(self))
    }

    fn folders(&self, folder: &str, most: usize) -> Result<Vec<String>, Cause> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let found = self.folders_below(&prefix)?;
        let names = found.iter().filter_map(|path| path.strip_prefix(&*prefix));
        Ok(names.filter(|name| !name.is_empty()).take(most).map(str::to_owned).collect())
    }

    fn location(&self, name: &str) -> String {
        self.show(name)
    }
}
