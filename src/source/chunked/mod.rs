//! Owns [`Chunked`]: tiles out of the chunks that a format has, whatever their shape. Knows nothing of any format: a [`ChunkReader`] decodes.
//!
//! ```text
//! chunks |    0    |    1    |    2    |     tile 0 lies in chunk 0 alone, tile 1 needs 0 and 1, tile 2 needs 1 and 2:
//! tiles  |  0  |  1  |  2  |  3  |  4  |     each chunk is decoded once, by whoever comes first, and kept for the others
//! ```
//!
//! A chunk that a region holds as a whole is needed by nobody else: it is decoded for that region alone, straight into place where its voxels lie together there, and not kept.

use std::collections::HashSet;
use std::fmt;

use super::TileSource;
use super::buffer::with_buffer;
use super::call::{check_call, guarded, index};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Voxel;

mod grid;
mod kept;
#[cfg(test)]
mod tests;

use grid::{Grid, Part};
use kept::{Claim, Decoded, Kept};

/// The most bytes that one chunk may have when it is decoded. What a header says is allocated, so this bounds what a header can do.
pub(crate) const MOST_CHUNK_BYTES: u64 = 1 << 30;

/// Bytes of decoded chunks that a source keeps unless told otherwise.
pub(crate) const KEPT_BYTES: u64 = 256 << 20;

/// The most chunks that are announced, or asked about, at once.
const MOST_ASKED: usize = 4096;

/// Which chunk: its number along each axis, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ChunkCoord {
    /// Along the fastest axis.
    pub(crate) x: u64,
    /// Along the middle axis.
    pub(crate) y: u64,
    /// Along the slowest axis.
    pub(crate) z: u64,
}

impl ChunkCoord {
    /// The chunk (x, y, z).
    pub(crate) const fn new(x: u64, y: u64, z: u64) -> Self {
        Self { x, y, z }
    }
}

/// What became of a chunk that was to be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Its voxels were written.
    Voxels,
    /// There is no such chunk: all of its voxels hold the fill value. Nothing needed to be written.
    Missing,
}

/// What decodes the chunks of one volume: a regular grid of boxes of one shape, the first of which begins at the origin.
///
/// Called from several threads at once. A decode must not use other threads: as many of them as there are threads go on together already.
pub(crate) trait ChunkReader<T: Voxel>: Send + Sync {
    /// Size of the volume in voxels. Constant.
    fn extent(&self) -> Extent;

    /// Shape of a chunk in voxels: any sides from 1 on; sides beyond the extent are better cut to it, for they take memory. Constant.
    fn chunk_shape(&self) -> Extent;

    /// What the voxels of chunks hold that are missing. Constant.
    fn fill_value(&self) -> T {
        bytemuck::Zeroable::zeroed()
    }

    /// What messages call the volume: a path or an address.
    fn location(&self) -> String;

    /// Whether it is known without decoding, and without waiting for a network, that there is no such chunk. `false` where that is not known.
    fn missing(&self, chunk: ChunkCoord) -> bool {
        let _ = chunk;
        false
    }

    /// A hint that these chunks are about to be decoded, in this order. Must not block for long.
    fn will_read(&self, chunks: &[ChunkCoord]) {
        let _ = chunks;
    }

    /// Decodes a chunk of the volume.
    ///
    /// **Shape**: `out` always has the voxels of [`ChunkReader::chunk_shape`], x fastest, at the far faces too. What lies outside of the extent there is never looked at, and may be left as it is; every other voxel
    /// must be written, unless the answer is [`Found::Missing`] or an error. What `out` holds before is unspecified.
    ///
    /// # Errors
    /// Whatever keeps the chunk from being decoded: best a [`SourceError::Chunk`]. Who comes later tries again.
    fn decode(&self, chunk: ChunkCoord, out: &mut [T]) -> Result<Found, SourceError>;
}

/// A source whose tiles are gathered from chunks.
///
/// **Cost**: a chunk that lies within one region is decoded for it alone, into place where it is contiguous there, else through a buffer that the thread keeps. Other chunks are decoded once and copied from: they
/// are kept, the least recently used go, so that a batch of tiles decodes each of them once as long as those that its tiles share at a time fit into the bound ([`Chunked::with_kept_bytes`]). Whoever needs a chunk
/// that another thread decodes first does what else there is to do for its region, and then waits for it.
/// Beyond the bound there is at most one chunk for each thread that reads.
pub(crate) struct Chunked<T: Voxel, R> {
    reader: R,
    grid: Grid,
    fill: T,
    kept: Kept<T>,
}

impl<T: Voxel, R: ChunkReader<T>> Chunked<T, R> {
    /// Reads through `reader`.
    ///
    /// # Errors
    /// [`SourceError::Shape`] for an extent or a chunk that is empty or beyond 64 bits, [`SourceError::Unsupported`] for chunks beyond [`MOST_CHUNK_BYTES`].
    pub(crate) fn new(reader: R) -> Result<Self, SourceError> {
        let (extent, chunk) = (reader.extent(), reader.chunk_shape());
        let voxel_bytes = size_of::<T>();
        for shape in [extent, chunk] {
            let bytes = shape.checked_volume().and_then(|v| v.checked_mul(voxel_bytes as u64));
            if bytes.is_none_or(|bytes| bytes == 0) {
                return Err(SourceError::Shape { extent: shape, voxel_bytes });
            }
        }
        let grid = Grid::new(extent, chunk);
        let bytes = grid.chunk_voxels() as u64 * voxel_bytes as u64;
        if bytes > MOST_CHUNK_BYTES {
            return Err(SourceError::Unsupported {
                location: reader.location(),
                what: "the chunk shape",
                value: format!("{chunk}: {bytes} bytes decoded, of at most {MOST_CHUNK_BYTES}"),
            });
        }
        let fill = reader.fill_value();
        Ok(Self { reader, grid, fill, kept: Kept::new(grid.chunk_voxels(), KEPT_BYTES) })
    }

    /// Sets how many bytes of decoded chunks are kept for other tiles (default: [`KEPT_BYTES`]). One is kept however large it is.
    #[must_use]
    pub(crate) fn with_kept_bytes(mut self, bytes: u64) -> Self {
        self.kept = Kept::new(self.grid.chunk_voxels(), bytes);
        self
    }

    /// What decodes the chunks.
    #[cfg(any(test, feature = "zarr"))]
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// Decodes; a panic is an error.
    fn decode(&self, chunk: ChunkCoord, out: &mut [T]) -> Result<Found, SourceError> {
        kept::while_decoding(|| guarded(|| self.reader.decode(chunk, out)))
    }

    /// A chunk that nobody else needs, or that cannot be waited for.
    fn alone(&self, chunk: ChunkCoord, part: &Part, out: &mut [T]) -> Result<(), SourceError> {
        if let Some(kept) = self.kept.find(chunk) {
            self.copy(&kept, part, out);
        } else if let Some(place) = part.contiguous() {
            let out = &mut out[place];
            if self.decode(chunk, out)? == Found::Missing {
                out.fill(self.fill);
            }
        } else {
            with_buffer(self.grid.chunk_voxels(), |voxels: &mut [T]| {
                match self.decode(chunk, voxels)? {
                    Found::Voxels => part.copy(voxels, out),
                    Found::Missing => part.fill(self.fill, out),
                }
                Ok::<_, SourceError>(())
            })?;
        }
        Ok(())
    }

    fn copy(&self, decoded: &Decoded<T>, part: &Part, out: &mut [T]) {
        match decoded {
            Decoded::Voxels(voxels) => part.copy(voxels, out),
            Decoded::Missing => part.fill(self.fill, out),
        }
    }
}

impl<T: Voxel, R: ChunkReader<T>> TileSource<T> for Chunked<T, R> {
    fn extent(&self) -> Extent {
        self.grid.extent()
    }

    fn fill_value(&self) -> T {
        self.fill
    }

    /// The fill value, where all chunks of the region are known to be missing.
    fn uniform(&self, region: Region) -> Option<T> {
        let region = region.clipped_to(self.grid.extent());
        if region.is_empty() || self.grid.count_of(region) > MOST_ASKED as u64 {
            return None;
        }
        self.grid.chunks_of(region).all(|chunk| self.reader.missing(chunk)).then_some(self.fill)
    }

    /// Announces the chunks of the regions, each once, but those that are here already.
    fn will_read(&self, regions: &[Region]) {
        let (mut seen, mut chunks) = (HashSet::new(), Vec::new());
        let regions = regions.iter().map(|region| region.clipped_to(self.grid.extent()));
        for chunk in regions.flat_map(|region| self.grid.chunks_of(region)).take(16 * MOST_ASKED) {
            if seen.insert(chunk) {
                chunks.push(chunk);
            }
            if chunks.len() == MOST_ASKED {
                break;
            }
        }
        self.kept.retain_absent(&mut chunks);
        if !chunks.is_empty() {
            self.reader.will_read(&chunks);
        }
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.grid.extent(), region, out.len())?;
        let mut others = Vec::new();
        for chunk in self.grid.chunks_of(region) {
            let part = self.grid.part(chunk, region);
            if part.is_whole_chunk() {
                self.alone(chunk, &part, out)?;
                continue;
            }
            match self.kept.claim(chunk) {
                Claim::Kept(decoded) => self.copy(&decoded, &part, out),
                Claim::Yours(claimed) => {
                    let decoded = claimed.decode(|voxels| self.decode(chunk, voxels))?;
                    self.copy(&decoded, &part, out);
                }
                // All else first, so that threads with neighbouring tiles decode different chunks.
                Claim::Others(flight) => others.push((chunk, flight)),
            }
        }
        for (chunk, flight) in others {
            let part = self.grid.part(chunk, region);
            if kept::is_decoding() {
                // Whoever decodes it may be waiting for what this thread decodes further up its stack.
                self.alone(chunk, &part, out)?;
            } else {
                let decoded = flight.wait()?;
                self.copy(&decoded, &part, out);
            }
        }
        Ok(())
    }
}

impl<T: Voxel, R> fmt::Debug for Chunked<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunked").field("grid", &self.grid).field("fill", &self.fill).finish_non_exhaustive()
    }
}
