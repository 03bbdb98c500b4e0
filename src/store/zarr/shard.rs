//! Owns [`Shard`]: an object that is put together chunk by chunk, in any order. Knows nothing of voxels.
//!
//! Chunks go to the object as they come; in memory is where each of them is. So a shard takes 16 bytes of memory for each of its chunks, whatever their size.

use super::array::ArrayForm;
use super::target::{Object, Target};
use crate::error::StoreError;

/// Marks a chunk that is not there: it holds the fill value.
const ABSENT: [u64; 2] = [u64::MAX; 2];

/// The most bytes that are copied at once from an earlier object.
const COPY_BYTES: usize = 1 << 20;

/// A shard, or, where chunks are objects themselves, a single chunk.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) key: String,
    object: Option<Box<dyn Object>>,
    bytes: u64,
    index: Vec<[u64; 2]>,
    /// A bit for each chunk that was put.
    put: Vec<u64>,
    /// Chunks within the volume that were not put yet.
    missing: usize,
    /// Whether an object of its name is there already.
    existed: bool,
    /// Whether that one has all of its chunks, so that nobody knows which is the last to be put.
    again: bool,
}

impl Shard {
    /// A shard of which `chunks` will be put, of the `places` that it has.
    pub(super) fn new(key: String, places: usize, chunks: usize) -> Self {
        let put = vec![0; places.div_ceil(64)];
        let index = vec![ABSENT; places];
        Self { key, object: None, bytes: 0, index, put, missing: chunks, existed: false, again: false }
    }

    /// Whether all chunks were put that there are, and it is best finished now.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0 && !self.again
    }

    /// Whether all chunks were put that there are.
    pub(super) fn has_all(&self) -> bool {
        self.missing == 0
    }

    /// Whether anything was put.
    pub(super) fn is_touched(&self) -> bool {
        self.put.iter().any(|&word| word != 0)
    }

    /// Puts a chunk at its place: its bytes, or nothing where it holds the fill value.
    ///
    /// # Errors
    /// Those of the object; the shard is as before then.
    pub(super) fn put(
        &mut self,
        place: usize,
        encoded: Option<&[u8]>,
        target: &dyn Target,
    ) -> Result<(), StoreError> {
        let entry = match encoded {
            None => ABSENT,
            Some(encoded) => {
                let object = match &mut self.object {
                    Some(object) => object,
                    none => none.insert(target.begin()?),
                };
                object.append(encoded)?;
                let entry = [self.bytes, encoded.len() as u64];
                self.bytes += encoded.len() as u64;
                entry
            }
        };
        self.index[place] = entry;
        let (word, bit) = (place / 64, 1 << (place % 64));
        if self.put[word] & bit == 0 {
            self.put[word] |= bit;
            self.missing = self.missing.saturating_sub(1);
        }
        Ok(())
    }

    /// Goes on from the object of its name, if there is one: its chunks are copied, those that hold something. `complete`: all of its chunks were put before.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub(super) fn go_on(
        &mut self,
        form: &ArrayForm,
        target: &dyn Target,
        sharded: bool,
        complete: bool,
    ) -> Result<(), StoreError> {
        let Some(bytes) = target.size(&self.key)? else { return Ok(()) };
        self.existed = true;
        if !sharded {
            // A chunk that is an object is replaced as a whole.
            return Ok(());
        }
        self.again = complete;
        if complete {
            self.missing = 0;
        }
        let (index, data_bytes) = read_index(form, target, &self.key, bytes)?;
        let mut buffer = Vec::new();
        for (place, [offset_bytes, length]) in index.into_iter().enumerate() {
            if [offset_bytes, length] == ABSENT {
                continue;
            }
            let end = offset_bytes.checked_add(length).filter(|&end| end <= data_bytes);
            let length = end.and_then(|_| usize::try_from(length).ok());
            let Some(length) = length else { return Err(damaged(target, &self.key)) };
            let object = match &mut self.object {
                Some(object) => object,
                none => none.insert(target.begin()?),
            };
            for done in (0..length).step_by(COPY_BYTES) {
                buffer.resize(COPY_BYTES.min(length - done), 0);
                target.read(&self.key, offset_bytes + done as u64, &mut buffer)?;
                object.append(&buffer)?;
            }
            self.index[place] = [self.bytes, length as u64];
            self.bytes += length as u64;
        }
        Ok(())
    }

    /// The object, with its index where it has one; `None` where there is nothing in it. After an error the shard is as it was.
    ///
    /// # Errors
    /// Those of the object.
    pub(super) fn close(
        &mut self,
        form: &ArrayForm,
        sharded: bool,
        target: &dyn Target,
    ) -> Result<Option<Box<dyn Object>>, StoreError> {
        if self.index.iter().all(|&entry| entry == ABSENT) {
            if self.existed {
                target.remove(&self.key)?;
            }
            return Ok(None);
        }
        if sharded && let Some(object) = &mut self.object {
            let index = form.encode_index(&self.index).map_err(|source| StoreError::Chunk {
                location: target.location(&self.key),
                chunk: Vec::new(),
                source: source.into(),
            })?;
            object.append(&index)?;
        }
        Ok(self.object.take())
    }
}

/// Reads a finished shard's index; gives it, and where it begins.
fn read_index(
    form: &ArrayForm,
    target: &dyn Target,
    key: &str,
    bytes: u64,
) -> Result<(Vec<[u64; 2]>, u64), StoreError> {
    let mut encoded = vec![0; form.index_bytes()];
    let data_bytes = bytes.checked_sub(encoded.len() as u64).ok_or_else(|| damaged(target, key))?;
    target.read(key, data_bytes, &mut encoded)?;
    let index = form.decode_index(encoded);
    let index =
        index.map_err(|e| StoreError::ReadBack { location: target.location(key), source: e.into() })?;
    Ok((index, data_bytes))
}

/// Reads a chunk out of a finished object and decodes it; `None` where it holds the fill value.
///
/// # Errors
/// [`StoreError::ReadBack`].
pub(super) fn read_chunk(
    form: &ArrayForm,
    target: &dyn Target,
    key: &str,
    place: Option<usize>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(bytes) = target.size(key)? else { return Ok(None) };
    let (offset_bytes, length) = match place {
        None => (0, bytes),
        Some(place) => {
            let (index, data_bytes) = read_index(form, target, key, bytes)?;
            let entry = index.get(place).copied().unwrap_or(ABSENT);
            if entry == ABSENT {
                return Ok(None);
            }
            if entry[0].checked_add(entry[1]).is_none_or(|end| end > data_bytes) {
                return Err(damaged(target, key));
            }
            (entry[0], entry[1])
        }
    };
    let mut encoded = vec![0; usize::try_from(length).map_err(|_| damaged(target, key))?];
    target.read(key, offset_bytes, &mut encoded)?;
    let decoded = form.decode(encoded);
    decoded.map(Some).map_err(|e| StoreError::ReadBack { location: target.location(key), source: e.into() })
}

fn damaged(target: &dyn Target, key: &str) -> StoreError {
    let source = "its index points beyond its end".into();
    StoreError::ReadBack { location: target.location(key), source }
}
