//! Owns [`Layout`]: how a page's samples lie in its chunks, which are strips or tiles. Knows nothing of where the chunks are.

use super::file::{Directory, TiffFile};
use super::tags;
use crate::error::SourceError;
use crate::source::chunked::MOST_CHUNK_BYTES;
use crate::voxel::ScalarType;

/// The most samples of a pixel.
const MOST_SAMPLES: u64 = 1 << 16;

/// How a page's samples lie. Pages that are equal in this make an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    pub(super) width: u64,
    pub(super) height: u64,
    pub(super) bits: u64,
    pub(super) format: u64,
    pub(super) samples: u64,
    /// Whether each sample has chunks of its own; otherwise the samples of a pixel lie together.
    pub(super) planar: bool,
    pub(super) compression: u64,
    pub(super) predictor: u64,
    /// Whether chunks are tiles, which are whole in the file whatever lies outside of the page; the last strip is cut off.
    pub(super) tiled: bool,
    pub(super) chunk_width: u64,
    pub(super) chunk_height: u64,
    pub(super) photometric: u64,
    /// A smaller copy of another page.
    pub(super) reduced: bool,
    reversed_bits: bool,
}

impl Layout {
    pub(super) fn of(tiff: &TiffFile, directory: &Directory) -> Result<Self, SourceError> {
        let get = |tag, default| Ok::<_, SourceError>(tiff.first(directory, tag)?.unwrap_or(default));
        let side = |tag: tags::Tag| {
            let size = get(tag, 0)?;
            if (1..1 << 32).contains(&size) {
                return Ok(size);
            }
            Err(tiff.bad(tag.name, size.to_string(), "must be from 1 to 2^32 - 1"))
        };
        let (width, height) = (side(tags::WIDTH)?, side(tags::LENGTH)?);
        let samples = get(tags::SAMPLES, 1)?;
        if !(1..MOST_SAMPLES).contains(&samples) {
            return Err(tiff.bad(tags::SAMPLES.name, samples.to_string(), "must be from 1 to 65535"));
        }
        let tiled = directory.has(tags::TILE_OFFSETS);
        let (chunk_width, chunk_height) = if tiled {
            (side(tags::TILE_WIDTH)?, side(tags::TILE_LENGTH)?)
        } else {
            (width, get(tags::ROWS_PER_STRIP, height)?.clamp(1, height))
        };
        Ok(Self {
            width,
            height,
            bits: same(tiff, directory, tags::BITS, 1)?,
            format: same(tiff, directory, tags::SAMPLE_FORMAT, 1)?,
            samples,
            planar: samples > 1 && get(tags::PLANAR, 1)? == 2,
            compression: get(tags::COMPRESSION, 1)?,
            predictor: get(tags::PREDICTOR, 1)?,
            tiled,
            chunk_width,
            chunk_height,
            photometric: get(tags::PHOTOMETRIC, 1)?,
            reduced: get(tags::SUBFILE_TYPE, 0)? & 1 == 1,
            reversed_bits: get(tags::FILL_ORDER, 1)? == 2,
        })
    }

    /// The type of a sample, where it is one that is read.
    pub(super) fn scalar_type(&self) -> Option<ScalarType> {
        Some(match (self.bits, self.format) {
            // Format 4 is "undefined": whole numbers to every other reader.
            (8, 1 | 4) => ScalarType::U8,
            (8, 2) => ScalarType::I8,
            (16, 1 | 4) => ScalarType::U16,
            (16, 2) => ScalarType::I16,
            (32, 1 | 4) => ScalarType::U32,
            (32, 2) => ScalarType::I32,
            (16, 3) => ScalarType::F16,
            (32, 3) => ScalarType::F32,
            (64, 3) => ScalarType::F64,
            _ => return None,
        })
    }

    /// The type of a sample.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] that names whatever keeps these pages from being read.
    pub(super) fn check(&self, tiff: &TiffFile) -> Result<ScalarType, SourceError> {
        let kind = match self.format {
            1 | 4 => "whole numbers without sign",
            2 => "whole numbers with sign",
            3 => "floating-point numbers",
            5 | 6 => "complex numbers",
            _ => "an unknown format",
        };
        let samples = || tiff.unsupported("samples of", format!("{} bits, {kind}", self.bits));
        let scalar_type = self.scalar_type().ok_or_else(samples)?;
        if !matches!(self.compression, 1 | 5 | 7 | 8 | 32_773 | 32_946 | 50_000) {
            return Err(tiff.unsupported("the compression", compression_name(self.compression)));
        }
        if self.compression == 7 && (self.samples_together() > 1 || self.bits != 8) {
            return Err(
                tiff.unsupported("the compression", "JPEG of other than one sample of 8 bits a pixel")
            );
        }
        if self.photometric == 6 && self.samples > 1 {
            // Of these some samples stand for several pixels.
            return Err(tiff.unsupported("the colours", "YCbCr"));
        }
        if self.reversed_bits && self.compression != 1 {
            return Err(tiff.unsupported("the bit order", "FillOrder 2"));
        }
        let floating = self.format == 3;
        if self.is_compressed() && !matches!((self.predictor, floating), (1 | 2, _) | (3, true)) {
            return Err(tiff.unsupported("the predictor", self.predictor.to_string()));
        }
        let most_bytes = if self.is_compressed() { MOST_CHUNK_BYTES } else { u64::MAX };
        if self.chunk_bytes().is_none_or(|bytes| bytes > most_bytes) {
            let shape = format!("{} x {} of {} samples", self.chunk_width, self.chunk_height, self.samples);
            return Err(tiff.unsupported("strips or tiles of", shape));
        }
        Ok(scalar_type)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compression != 1
    }

    /// Bytes of one sample.
    pub(super) fn sample_bytes(&self) -> u64 {
        self.bits / 8
    }

    /// Samples that lie together for each pixel of a chunk.
    pub(super) fn samples_together(&self) -> u64 {
        if self.planar { 1 } else { self.samples }
    }

    /// Chunks across and down.
    pub(super) fn chunks(&self) -> [u64; 2] {
        [self.width.div_ceil(self.chunk_width), self.height.div_ceil(self.chunk_height)]
    }

    /// Chunks of a page, of all samples.
    pub(super) fn chunk_count(&self) -> u64 {
        let [across, down] = self.chunks();
        across.saturating_mul(down).saturating_mul(if self.planar { self.samples } else { 1 })
    }

    /// Rows that the file has of a chunk in this row of chunks.
    pub(super) fn rows_of(&self, down: u64) -> u64 {
        let left = self.height.saturating_sub(down.saturating_mul(self.chunk_height));
        if self.tiled { self.chunk_height } else { left.min(self.chunk_height) }
    }

    /// Bytes of a whole chunk without compression; `None` beyond 64 bits.
    pub(super) fn chunk_bytes(&self) -> Option<u64> {
        self.chunk_width
            .checked_mul(self.chunk_height)?
            .checked_mul(self.samples_together())?
            .checked_mul(self.sample_bytes())
    }

    /// Bytes of a whole page without compression; `None` beyond 64 bits.
    pub(super) fn page_bytes(&self) -> Option<u64> {
        self.width.checked_mul(self.height)?.checked_mul(self.samples)?.checked_mul(self.sample_bytes())
    }
}

/// The number that a tag has for every sample.
fn same(tiff: &TiffFile, directory: &Directory, tag: tags::Tag, default: u64) -> Result<u64, SourceError> {
    let Some(all) = tiff.list(directory, tag, MOST_SAMPLES)? else { return Ok(default) };
    let first = all.first().copied().unwrap_or(default);
    if all.iter().all(|other| *other == first) {
        return Ok(first);
    }
    Err(tiff.unsupported("samples of different kinds, with a", format!("{} of {all:.20?}", tag.name)))
}

/// What a compression is called.
pub(super) fn compression_name(number: u64) -> String {
    let name = match number {
        1 => "none",
        2..=4 => "CCITT fax",
        5 => "LZW",
        6 => "old-style JPEG",
        7 => "JPEG",
        8 | 32_946 => "deflate",
        32_773 => "PackBits",
        33_003 | 33_005 | 34_712 => "JPEG 2000",
        34_887 => "LERC",
        34_892 => "lossy JPEG",
        34_925 => "LZMA",
        34_933 => "PNG",
        34_934 => "JPEG XR",
        50_000 => "zstd",
        50_001 => "WebP",
        50_002 => "JPEG XL",
        _ => return format!("number {number}"),
    };
    name.to_owned()
}
