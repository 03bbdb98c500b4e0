//! Owns [`RowReader`]: bands of rows of a row-major file as chunks, for tiles of one batch that lie in the same rows. Knows nothing of tiles.
//!
//! ```text
//!        tile 0 tile 1 tile 2        each band is read once, in one piece, and shared; by itself every tile would read
//! band  |######|######|######|...|   the rest of the rows as well, since that is cheaper than a call for each row
//! ```

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunked::{ChunkCoord, ChunkReader, Found};
use super::input_file::InputFile;
use super::raw::{AxisOrder, RawSpec};
use super::runs::{CALL_WORTH_BYTES, ReadFailed};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Scalar;

/// Bytes of a band, about.
const BAND_BYTES: u64 = 128 << 10;

/// Bytes of bands that are kept: those of a row of tiles of 64^3 and a little more.
pub(super) const KEPT_BYTES: u64 = 32 << 20;

/// Reads bands.
#[derive(Debug)]
pub(super) struct RowReader<T> {
    file: Arc<InputFile>,
    path: PathBuf,
    spec: RawSpec,
    band: Extent,
    voxel: PhantomData<fn() -> T>,
}

impl<T: Scalar> RowReader<T> {
    /// `None` where bands are not worth it: rows that are longer than what is read and dropped anyway, and files in another order.
    pub(super) fn new(file: &Arc<InputFile>, path: &Path, spec: RawSpec) -> Option<Self> {
        let row_bytes = spec.extent.x * size_of::<T>() as u64;
        if spec.tile.is_some() || spec.order != AxisOrder::Xyz || row_bytes > CALL_WORTH_BYTES {
            return None;
        }
        // A power of two, as tiles are.
        let count = |bytes: u64, most: u64| (1u64 << (BAND_BYTES / bytes).max(1).ilog2()).min(most);
        let y = count(row_bytes, spec.extent.y);
        let z = if y == spec.extent.y { count(row_bytes * y, spec.extent.z) } else { 1 };
        let band = Extent::new(spec.extent.x, y, z);
        Some(Self { file: file.clone(), path: path.to_owned(), spec, band, voxel: PhantomData })
    }

    /// Whether these regions lie in rows that several of them need: at least four to each on average.
    ///
    /// **Source**: `cargo bench --bench raw_rows`: two tiles to a row are read sooner each by itself, eight together.
    pub(super) fn are_shared(regions: &[Region]) -> bool {
        let mut rows: Vec<_> = regions.iter().map(|region| (region.start.z, region.start.y)).collect();
        rows.sort_unstable();
        rows.dedup();
        regions.len() >= 4 * rows.len()
    }
}

impl<T: Scalar> ChunkReader<T> for RowReader<T> {
    fn extent(&self) -> Extent {
        self.spec.extent
    }

    fn chunk_shape(&self) -> Extent {
        self.band
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn decode(&self, chunk: ChunkCoord, out: &mut [T]) -> Result<Found, SourceError> {
        let Extent { x, y, .. } = self.spec.extent;
        let voxel_bytes = size_of::<T>() as u64;
        let first = x * (chunk.y * self.band.y + y * chunk.z * self.band.z);
        let rows = self.band.y.min(y - chunk.y * self.band.y);
        let planes = self.band.z.min(self.spec.extent.z - chunk.z * self.band.z);
        let voxels = super::call::index(x * rows * planes);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out[..voxels]);
        let offset_bytes = self.spec.offset_bytes + first * voxel_bytes;
        let len = bytes.len() as u64;
        self.file.read_exact_at(bytes, offset_bytes).map_err(|source| {
            ReadFailed { offset_bytes, bytes: len, source }.in_file(self.file.through_cache(), &self.path)
        })?;
        Ok(Found::Voxels)
    }
}
