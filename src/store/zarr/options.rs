//! Owns [`ZarrOptions`]: every knob of what is written, with its unit and default, and what of them cannot be. Knows nothing of JSON.

use crate::error::StoreError;
use crate::geometry::Extent;

/// The most chunks of a shard: its index has 16 bytes for each, and is in memory while the shard is written.
const MOST_CHUNKS: u64 = 1 << 20;

/// The most bytes of a chunk: it is encoded as a whole, in memory.
const MOST_CHUNK_BYTES: u64 = 1 << 30;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZarrCodec {
    /// Not at all.
    None,
    /// Zstandard.
    Zstd {
        /// From -131072 (fast) to 22 (small).
        level: i32,
    },
    /// Gzip.
    Gzip {
        /// From 0 (fast) to 9 (small).
        level: u32,
    },
    /// Zstandard within Blosc, after shuffling.
    Blosc {
        /// From 0 (fast) to 9 (small).
        level: u8,
        /// What is brought together before compression.
        shuffle: Shuffle,
    },
}

impl Default for ZarrCodec {
    /// Zstandard at level 3.
    fn default() -> Self {
        Self::Zstd { level: 3 }
    }
}

/// What Blosc brings together before it compresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shuffle {
    /// Nothing.
    None,
    /// The first bytes of all voxels, then the second ones, and so on.
    #[default]
    Bytes,
    /// The first bits of all voxels, then the second ones, and so on.
    Bits,
}

/// How a Zarr array or image is written: every knob, with its unit and default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZarrOptions {
    /// What is encoded as a whole, and so read as a whole, in voxels. Default: 64^3.
    pub chunk: Extent,
    /// What is one object (one file), in voxels: a multiple of the chunk along each axis, of at most 2^20 chunks. `None`: each chunk is an object. Default: 256^3.
    pub shard: Option<Extent>,
    /// How chunks are compressed. Default: Zstandard at level 3.
    pub codec: ZarrCodec,
    /// Whether the save takes the place of Zarr that is there. In an object store, where no volume is replaced: of a save that runs or was interrupted, which is removed. Default: no.
    pub replace: bool,
    /// Whether to go on where an earlier save of the same target was interrupted, if one was. It must have been of the same shape and options, with the same [`ZarrOptions::input`]. Default: no; what an interrupted save left in a folder
    /// is removed, and in an object store refused (unless [`ZarrOptions::replace`] is set). Objects that are not of the size that was noted are written again.
    pub resume: bool,
    /// What the voxels are of, such as the name, size and time of a file: a save of something else is not continued with these voxels. Default: nothing.
    pub input: String,
}

impl Default for ZarrOptions {
    fn default() -> Self {
        Self {
            chunk: Extent::cube(64),
            shard: Some(Extent::cube(256)),
            codec: ZarrCodec::default(),
            replace: false,
            resume: false,
            input: String::new(),
        }
    }
}

impl ZarrOptions {
    /// Shape of an object: the shard, or the chunk.
    #[must_use]
    pub fn object(&self) -> Extent {
        self.shard.unwrap_or(self.chunk)
    }

    /// Refuses shapes that cannot be, for voxels of that size.
    ///
    /// # Errors
    /// [`StoreError::Shape`].
    pub fn check(&self, voxel_bytes: usize) -> Result<(), StoreError> {
        let refused = |what, shape, reason| Err(StoreError::Shape { what, shape, reason });
        let bytes = self.chunk.checked_volume().and_then(|v| v.checked_mul(voxel_bytes as u64));
        if self.chunk.is_empty() {
            return refused("chunk", self.chunk, "every side must be at least 1");
        }
        if bytes.is_none_or(|bytes| bytes > MOST_CHUNK_BYTES) {
            return refused("chunk", self.chunk, "more than 2^30 bytes");
        }
        let Some(shard) = self.shard else { return Ok(()) };
        let (chunk, sides) = (self.chunk.to_array(), shard.to_array());
        if shard.is_empty() || (0..3).any(|a| !sides[a].is_multiple_of(chunk[a])) {
            return refused("shard", shard, "every side must be a multiple of the chunk's");
        }
        let chunks = Extent::from([0, 1, 2].map(|a| sides[a] / chunk[a])).checked_volume();
        if chunks.is_none_or(|chunks| chunks > MOST_CHUNKS) {
            return refused("shard", shard, "more than 2^20 chunks");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_be_are_refused_by_name() {
        let check = |chunk: [u64; 3], shard: Option<[u64; 3]>| {
            let options =
                ZarrOptions { chunk: chunk.into(), shard: shard.map(Extent::from), ..ZarrOptions::default() };
            options.check(2).map_err(|e| e.to_string())
        };
        assert_eq!(check([64; 3], Some([256; 3])), Ok(()));
        assert_eq!(check([1, 512, 512], None), Ok(()));
        assert_eq!(check([5, 7, 3], Some([5, 14, 30])), Ok(()));
        for (chunk, shard) in [
            ([0, 1, 1], None),
            ([u64::MAX; 3], None),
            ([1024; 3], None),
            ([64; 3], Some([0; 3])),
            ([64; 3], Some([64, 64, 96])),
            ([1; 3], Some([128; 3])),
            ([1; 3], Some([u64::MAX; 3])),
        ] {
            let error = check(chunk, shard).unwrap_err();
            assert!(error.contains(if shard.is_some() { "shard" } else { "chunk" }), "{error}");
        }
    }
}
