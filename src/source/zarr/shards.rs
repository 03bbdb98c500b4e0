//! Owns [`Shards`]: where the inner chunks of a shard lie, as its index says. Knows nothing of what inner chunks hold.
//!
//! `zarrs` has this too, but keeps the index of every shard that was ever read, holds one lock while it reads them, and reads what a damaged index says without a look at how much that is.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::zarrs::array::{
    ArrayToBytesCodecTraits, BytesRepresentation, CodecChain, CodecOptions, DataType, FillValue, data_type,
};
use ::zarrs::metadata::ConfigurationSerialize;
use ::zarrs::metadata_ext::codec::sharding::{ShardingCodecConfiguration, ShardingIndexLocation};
use lru::LruCache;

use super::fault::{Cause, Fault};
use super::objects::{Coming, Objects, Part};

/// Bytes of indices that are kept.
const KEPT_BYTES: u64 = 64 << 20;

/// The most bytes that one index may have: of four million inner chunks.
const MOST_INDEX_BYTES: u64 = 64 << 20;

/// An index that was announced is read by whoever comes first; others may come before that one keeps it.
const INDEX_READERS: u64 = 4;

/// The shards of an array.
#[derive(Debug)]
pub(super) struct Shards {
    /// Inner chunks of a shard along each dimension.
    per_shard: Vec<u64>,
    index_codecs: CodecChain,
    index_shape: Vec<NonZeroU64>,
    /// Bytes of an index as it is stored.
    index_bytes: u64,
    at_end: bool,
    kept: Mutex<LruCache<Vec<u64>, Arc<Index>>>,
    most_kept: u64,
}

/// Where the inner chunks of one shard lie.
#[derive(Debug)]
pub(super) struct Index {
    /// Offset and size of each; empty where there is no such shard.
    entries: Vec<u64>,
    /// Size of the shard, where it was asked for.
    shard_bytes: Option<u64>,
}

/// What a shard is made of: shape and codecs of its inner chunks.
pub(super) struct Inner {
    pub(super) shape: Vec<NonZeroU64>,
    pub(super) codecs: CodecChain,
}

/// An inner chunk in its shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) offset_bytes: u64,
    pub(super) bytes: u64,
}

impl Shards {
    /// From the codecs of an array whose chunks are shards and nothing else; `None` where they are not. `zarrs` may panic in here.
    pub(super) fn new(
        chain: &CodecChain,
        shard: &[NonZeroU64],
        data_type: &DataType,
    ) -> Result<Option<(Self, Inner)>, Cause> {
        let codec = chain.array_to_bytes_codec();
        let alone = chain.array_to_array_codecs().is_empty() && chain.bytes_to_bytes_codecs().is_empty();
        if !alone || !codec.as_any().is::<::zarrs::array::codec::ShardingCodec>() || data_type.is_optional() {
            return Ok(None);
        }
        let Some(configuration) = codec.configuration_v3(&Default::default()) else { return Ok(None) };
        let ShardingCodecConfiguration::V1(sharding) =
            ShardingCodecConfiguration::try_from_configuration(configuration)?
        else {
            return Ok(None);
        };
        let shape = sharding.chunk_shape;
        let fits = |(shard, inner): (&NonZeroU64, &NonZeroU64)| shard.get() % inner.get() == 0;
        if shape.len() != shard.len() || !shard.iter().zip(&shape).all(fits) {
            return Err(Fault::Nothing("whole number of inner chunks in a shard").into());
        }
        let per_shard: Vec<_> =
            shard.iter().zip(&shape).map(|(shard, inner)| shard.get() / inner.get()).collect();
        let entries = per_shard.iter().try_fold(16u64, |all, &side| all.checked_mul(side));
        if entries.is_none_or(|bytes| bytes > MOST_INDEX_BYTES) {
            let actual_bytes = entries.unwrap_or(u64::MAX);
            return Err(Fault::TooLarge { actual_bytes, most_bytes: MOST_INDEX_BYTES }.into());
        }
        let index_codecs = CodecChain::from_metadata(&sharding.index_codecs)?;
        let sides = per_shard.iter().copied().chain([2]);
        let index_shape: Vec<_> = sides.filter_map(NonZeroU64::new).collect();
        let stored = index_codecs.encoded_representation(&index_shape, &data_type::uint64(), &no_entry())?;
        let BytesRepresentation::FixedSize(index_bytes) = stored else {
            return Err(Fault::Nothing("fixed size of the shards' index").into());
        };
        let shards = Self {
            per_shard,
            index_codecs,
            index_shape,
            index_bytes,
            at_end: sharding.index_location == ShardingIndexLocation::End,
            kept: Mutex::new(LruCache::unbounded()),
            most_kept: (KEPT_BYTES / index_bytes.max(1)).max(1),
        };
        Ok(Some((shards, Inner { shape, codecs: CodecChain::from_metadata(&sharding.codecs)? })))
    }

    /// The shard that an inner chunk lies in, and its number there.
    pub(super) fn split(&self, chunk: &[u64]) -> (Vec<u64>, Vec<u64>) {
        chunk.iter().zip(&self.per_shard).map(|(&at, &side)| (at / side, at % side)).unzip()
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Vec<u64>, Arc<Index>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index of a shard, if it is here.
    pub(super) fn kept(&self, shard: &[u64]) -> Option<Arc<Index>> {
        self.lock().get(shard).cloned()
    }

    /// Forgets the index of a shard, which may have changed.
    pub(super) fn forget(&self, shard: &[u64]) {
        self.lock().pop(shard);
    }

    fn index_part(&self) -> Part {
        let bytes = self.index_bytes;
        if self.at_end { Part::Last { bytes } } else { Part::At { offset_bytes: 0, bytes } }
    }

    /// The index of the shard of that name, to be announced.
    pub(super) fn index_coming(&self, name: String) -> Coming {
        Coming { name, part: self.index_part(), most_bytes: self.index_bytes, readers: INDEX_READERS }
    }

    /// Reads the index of a shard whose name is `name`, and keeps it. `zarrs` may panic in here.
    pub(super) fn read(&self, objects: &dyn Objects, shard: &[u64], name: &str) -> Result<Arc<Index>, Cause> {
        let mut index = Index { entries: Vec::new(), shard_bytes: None };
        if objects.is_near() {
            let Some(shard_bytes) = objects.size(name)? else { return Ok(Arc::new(index)) };
            if shard_bytes < self.index_bytes {
                return Err(Fault::NoIndex { shard_bytes, index_bytes: self.index_bytes }.into());
            }
            index.shard_bytes = Some(shard_bytes);
        }
        let there = objects.read(name, self.index_part(), self.index_bytes, &mut |bytes| {
            index.entries = self.decode(bytes)?;
            Ok(())
        })?;
        let index = Arc::new(index);
        // A shard that is missing costs nothing to look for again where it is near, and may come.
        if there || !objects.is_near() {
            let mut kept = self.lock();
            kept.put(shard.to_vec(), index.clone());
            while kept.len() as u64 > self.most_kept {
                kept.pop_lru();
            }
        }
        Ok(index)
    }

    fn decode(&self, encoded: &[u8]) -> Result<Vec<u64>, Cause> {
        let options = CodecOptions::default().with_concurrent_target(1);
        let decoded = self.index_codecs.decode(
            Cow::Borrowed(encoded),
            &self.index_shape,
            &data_type::uint64(),
            &no_entry(),
            &options,
        )?;
        let bytes = decoded.into_fixed()?;
        let entries: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let expected_bytes = self.index_shape.iter().map(|side| side.get()).product::<u64>() * 8;
        let actual_bytes = bytes.len() as u64;
        if actual_bytes != expected_bytes {
            return Err(Fault::Length { expected_bytes, actual_bytes }.into());
        }
        Ok(entries)
    }

    /// Where an inner chunk lies; `None` where it is missing.
    ///
    /// # Errors
    /// [`Fault::Index`]: outside of the shard, or more than `most_bytes`.
    pub(super) fn place(
        &self,
        index: &Index,
        inner: &[u64],
        most_bytes: u64,
    ) -> Result<Option<Place>, Fault> {
        let nth = inner.iter().zip(&self.per_shard).fold(0u64, |all, (&at, &side)| all * side + at);
        let at = usize::try_from(nth).unwrap_or(usize::MAX).saturating_mul(2);
        let Some(&[offset_bytes, bytes]) = index.entries.get(at..at.saturating_add(2)) else {
            return Ok(None);
        };
        if (offset_bytes, bytes) == (u64::MAX, u64::MAX) {
            return Ok(None);
        }
        let shard_bytes = index.shard_bytes.unwrap_or(u64::MAX);
        if bytes > most_bytes || offset_bytes.checked_add(bytes).is_none_or(|end| end > shard_bytes) {
            return Err(Fault::Index { inner: inner.to_vec(), offset_bytes, bytes, shard_bytes, most_bytes });
        }
        Ok(Some(Place { offset_bytes, bytes }))
    }
}

/// Offset and size of an inner chunk that is missing.
fn no_entry() -> FillValue {
    FillValue::from(u64::MAX)
}
