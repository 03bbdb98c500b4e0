//! Owns reading boxes of any size into dense buffers, tile by tile through the budget.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::Backend;
use crate::engine::Report;
use crate::error::{Error, ResidencyError, SourceError};
use crate::geometry::{Coord, Extent, Region};
use crate::layout::TileId;
use crate::voxel::Voxel;

use super::SparseArray3D;

/// The most that one step of a large read asks for.
const STEP_BYTES: u64 = 64 << 20;

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// Reads a box into a dense buffer, however large the box is and however small the budget.
    ///
    /// **Shape**: `out` gets the region's voxels densely, x fastest, then y, then z.
    /// On a device, kernels of frames that have ended are waited for first, however long they run: what they wrote is there to be read.
    ///
    /// **Cost**: tiles that are missing are loaded, in parallel, in steps of at most half of the budget that is not pinned; every tile is copied once.
    ///
    /// # Errors
    /// [`ResidencyError::OutOfBounds`], [`ResidencyError::BufferLength`], [`Error::Tile`] for the first tile that fails to load, and the errors of
    /// [`SparseArray3D::request`]. `out` may have been written in part then.
    pub fn read_region(&self, region: Region, out: &mut [T]) -> Result<(), Error> {
        self.check_bounds(region)?;
        let expected_voxels = region.extent.checked_volume().unwrap_or(u64::MAX);
        if expected_voxels != out.len() as u64 {
            return Err(
                ResidencyError::BufferLength { expected_voxels, actual_voxels: out.len() as u64 }.into()
            );
        }
        // What kernels of frames that have ended were told to write is there to be read.
        self.engine().settle();
        let layout = self.layout();
        let page_bytes = layout.page_bytes();
        let step_bytes = (self.engine().unpinned_budget() / 2).clamp(page_bytes, STEP_BYTES.max(page_bytes));
        let mut tiles = layout.tiles_in(region).peekable();
        let mut step = Vec::new();
        let mut scratch = vec![bytemuck::Zeroable::zeroed(); as_usize(layout.tile_voxels())];
        while tiles.peek().is_some() {
            step.clear();
            let mut pages = std::collections::HashSet::new();
            while let Some(tile) = tiles.next_if(|&t| {
                let page = layout.page_of(layout.tile_id_unchecked(t));
                pages.contains(&page)
                    || ((pages.len() as u64) < step_bytes / page_bytes && pages.insert(page))
            }) {
                step.push(layout.tile_id_unchecked(tile));
            }
            self.read_step(&mut step, pages.len(), region, &mut scratch, out)?;
        }
        Ok(())
    }

    /// Reads a box into a new dense buffer.
    ///
    /// # Errors
    /// As [`SparseArray3D::read_region`].
    pub fn to_vec(&self, region: Region) -> Result<Vec<T>, Error> {
        self.check_bounds(region)?;
        let voxels =
            region.extent.checked_volume().and_then(|v| usize::try_from(v).ok()).unwrap_or(usize::MAX);
        let mut out = Vec::new();
        let bytes = (voxels as u64).saturating_mul(self.layout().voxel_bytes());
        out.try_reserve_exact(voxels)
            .map_err(|_| crate::BackendError::OutOfMemory { call: "to_vec", bytes })?;
        out.resize(voxels, bytemuck::Zeroable::zeroed());
        self.read_region(region, &mut out)?;
        Ok(out)
    }

    /// Has the step's tiles loaded together, then reads them page by page. Only one page is held at a time: readers that each held several and waited for more would
    /// wait for each other.
    fn read_step(
        &self,
        tiles: &mut [TileId],
        pages: usize,
        region: Region,
        scratch: &mut [T],
        out: &mut [T],
    ) -> Result<(), Error> {
        tiles.sort_unstable();
        if pages > 1 {
            match self.engine().request(self.shared(), tiles) {
                // Whatever is in the way of all of them may leave room for one.
                Err(Error::Residency(
                    ResidencyError::NothingToEvict { .. } | ResidencyError::OverBudget { .. },
                )) => {}
                report => first_failure(&report?)?,
            }
        }
        let layout = self.layout();
        for tiles in tiles.chunk_by(|a, b| layout.page_of(*a) == layout.page_of(*b)) {
            let held = self.engine().hold(self.shared(), tiles)?;
            first_failure(&held.report)?;
            for &tile in tiles {
                self.read_tile(tile, region, scratch, out)?;
            }
        }
        Ok(())
    }

    /// Reads a tile that is held.
    fn read_tile(&self, id: TileId, region: Region, scratch: &mut [T], out: &mut [T]) -> Result<(), Error> {
        let (layout, planes) = (self.layout(), &self.shared().planes);
        let tile = layout.tile_coord(id).unwrap_or_default();
        let Some(part) = layout.tile_region(tile).intersection(&region) else { return Ok(()) };
        if planes.is_resident(id) {
            let bytes = bytemuck::cast_slice_mut(scratch);
            self.engine().backend.read(&self.shared().reservation, layout.tile_offset_bytes(id), bytes)?;
        } else if planes.is_uniform(id) {
            scratch.fill(planes.uniform_value(id));
        } else {
            let error = SourceError::Other("the tile went although it was held".into());
            return Err(Error::Tile { tile, error: Arc::new(error) });
        }
        copy_part(layout.tile_shape(), scratch, part, region, out);
        Ok(())
    }
}

/// The first tile of a request that failed.
pub(super) fn first_failure(report: &Report) -> Result<(), Error> {
    report.failed.first().map_or(Ok(()), |f| Err(Error::Tile { tile: f.tile, error: f.error.clone() }))
}

/// Where the rows of `part` lie in a tile of that shape.
pub(super) fn rows(shape: Extent, part: Region) -> impl Iterator<Item = Range<usize>> {
    let from = Coord::new(part.start.x % shape.x, part.start.y % shape.y, part.start.z % shape.z);
    let width = as_usize(part.extent.x);
    (0..part.extent.z).flat_map(move |z| {
        (0..part.extent.y).map(move |y| {
            let first = as_usize(from.x + shape.x * (from.y + y + shape.y * (from.z + z)));
            first..first + width
        })
    })
}

/// Copies the voxels of `part` from their place in the buffer of `region` to a tile.
pub(super) fn copy_into<T: Copy>(shape: Extent, tile: &mut [T], part: Region, region: Region, voxels: &[T]) {
    let mut rows = rows(shape, part);
    let first = [part.start.x - region.start.x, part.start.y - region.start.y, part.start.z - region.start.z];
    for z in first[2]..first[2] + part.extent.z {
        for y in first[1]..first[1] + part.extent.y {
            let from = as_usize(first[0] + region.extent.x * (y + region.extent.y * z));
            let Some(row) = rows.next() else { return };
            let width = row.len();
            tile[row].copy_from_slice(&voxels[from..from + width]);
        }
    }
}

/// Copies the voxels of `part` from a tile to their place in the buffer of `region`.
fn copy_part<T: Copy>(shape: Extent, tile: &[T], part: Region, region: Region, out: &mut [T]) {
    let from = Coord::new(part.start.x % shape.x, part.start.y % shape.y, part.start.z % shape.z);
    let to = Coord::new(
        part.start.x - region.start.x,
        part.start.y - region.start.y,
        part.start.z - region.start.z,
    );
    let width = as_usize(part.extent.x);
    for z in 0..part.extent.z {
        for y in 0..part.extent.y {
            let source = as_usize(from.x + shape.x * (from.y + y + shape.y * (from.z + z)));
            let target = as_usize(to.x + region.extent.x * (to.y + y + region.extent.y * (to.z + z)));
            out[target..target + width].copy_from_slice(&tile[source..source + width]);
        }
    }
}

/// Positions in buffers that exist.
#[expect(clippy::cast_possible_truncation, reason = "64-bit targets are the only ones")]
fn as_usize(v: u64) -> usize {
    v as usize
}
