//! Owns the step from typed sources to bytes: [`BytesSource`], [`Typed`]. Everything else in the engine knows only bytes.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::layout::{Layout, TileId};
use crate::planes::{Planes, VoxelWords, to_words};
use crate::prepared::Prepared;
use crate::source::{TileSource, guarded};
use crate::voxel::Voxel;

use super::ranges::Tracking;

/// A source as the engine calls it.
pub(crate) trait BytesSource: Send + Sync + fmt::Debug {
    /// The bytes of the one value that the region is known to hold, if that is known.
    fn uniform(&self, region: Region) -> Result<Option<VoxelWords>, SourceError>;

    /// The same for each of some tiles: tells of those that do. Those that the source panics about are not told of.
    fn uniform_of(&self, layout: &Layout, tiles: &[TileId], found: &mut dyn FnMut(TileId, VoxelWords));

    /// Tells the source which tiles are about to be read. A panic there is left for the read to repeat.
    fn will_read(&self, layout: &Layout, tiles: &[TileId]);

    /// Whether reads are little more than copies of memory.
    fn only_copies(&self) -> bool;

    /// The whole tile's bytes, if they are in memory already.
    fn prepared(
        &self,
        layout: &Layout,
        planes: &Planes,
        tile: TileId,
        region: Region,
    ) -> Result<Option<Arc<dyn Prepared>>, SourceError>;

    /// Notes the ranges of a whole tile's bytes, if ranges are kept.
    fn note_ranges(&self, layout: &Layout, planes: &Planes, tile: TileId, region: Region, bytes: &[u8]);

    /// Fills a whole tile, whose part inside the array is `region`.
    fn load(
        &self,
        layout: &Layout,
        planes: &Planes,
        tile: TileId,
        region: Region,
        out: &mut [u8],
    ) -> Result<(), SourceError>;
}

/// A typed source behind the engine's interface.
pub(crate) struct Typed<T, S> {
    pub(crate) source: S,
    pub(crate) fill: T,
    pub(crate) ranges: Option<Tracking<T>>,
}

impl<T, S> fmt::Debug for Typed<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source of {}", std::any::type_name::<T>())
    }
}

/// The voxels of a tile. What a source makes nothing of need not be computed: this is where the compiler sees that.
#[inline]
fn region_of(layout: &Layout, tile: TileId) -> Region {
    layout.tile_region(layout.tile_coord(tile).unwrap_or_default())
}

impl<T: Voxel, S: TileSource<T>> BytesSource for Typed<T, S> {
    fn uniform(&self, region: Region) -> Result<Option<VoxelWords>, SourceError> {
        guarded(|| Ok(self.source.uniform(region).map(to_words)))
    }

    fn uniform_of(&self, layout: &Layout, tiles: &[TileId], found: &mut dyn FnMut(TileId, VoxelWords)) {
        let left = Cell::new(tiles);
        while !left.get().is_empty() {
            // One that panics ends this, and the next one goes on after it.
            let _ = guarded(|| {
                while let [tile, others @ ..] = left.get() {
                    left.set(others);
                    if let Some(value) = self.source.uniform(region_of(layout, *tile)) {
                        found(*tile, to_words(value));
                    }
                }
                Ok(())
            });
        }
    }

    fn will_read(&self, layout: &Layout, tiles: &[TileId]) {
        let _ = guarded(|| {
            let regions: Vec<_> = tiles.iter().map(|&tile| region_of(layout, tile)).collect();
            self.source.will_read(&regions);
            Ok(())
        });
    }

    fn only_copies(&self) -> bool {
        guarded(|| Ok(self.source.only_copies())).unwrap_or(false)
    }

    fn prepared(
        &self,
        layout: &Layout,
        planes: &Planes,
        tile: TileId,
        region: Region,
    ) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        if region.extent != layout.tile_shape() {
            return Ok(None);
        }
        guarded(|| {
            let Some(prepared) = self.source.prepared(region)? else { return Ok(None) };
            let bytes = prepared.bytes();
            if bytes.len() as u64 != layout.tile_bytes() {
                let buffer_voxels = bytes.len() / size_of::<T>();
                let (location, extent) = (String::new(), self.source.extent());
                return Err(SourceError::BadCall { location, extent, region, buffer_voxels });
            }
            if self.ranges.is_some() {
                // Bytes that are not aligned for T cannot be looked at as they are: they are read into memory that is.
                let Ok(voxels) = bytemuck::try_cast_slice::<u8, T>(bytes) else { return Ok(None) };
                self.note_voxels(layout, planes, tile, region, voxels);
            }
            Ok(Some(prepared))
        })
    }

    fn note_ranges(&self, layout: &Layout, planes: &Planes, tile: TileId, region: Region, bytes: &[u8]) {
        if self.ranges.is_none() {
            return;
        }
        if let Ok(voxels) = bytemuck::try_cast_slice::<u8, T>(bytes) {
            return self.note_voxels(layout, planes, tile, region, voxels);
        }
        let mut voxels = vec![self.fill; bytes.len() / size_of::<T>()];
        bytemuck::cast_slice_mut(&mut voxels).copy_from_slice(bytes);
        self.note_voxels(layout, planes, tile, region, &voxels);
    }

    fn load(
        &self,
        layout: &Layout,
        planes: &Planes,
        tile: TileId,
        region: Region,
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        guarded(|| {
            if let Ok(voxels) = bytemuck::try_cast_slice_mut::<u8, T>(out) {
                return self.load_voxels(layout, planes, tile, region, voxels);
            }
            // Memory that is not aligned for T, such as a heap buffer: read into some that is.
            let mut voxels = vec![self.fill; out.len() / size_of::<T>()];
            self.load_voxels(layout, planes, tile, region, &mut voxels)?;
            out.copy_from_slice(bytemuck::cast_slice(&voxels));
            Ok(())
        })
    }
}

impl<T: Voxel, S: TileSource<T>> Typed<T, S> {
    fn load_voxels(
        &self,
        layout: &Layout,
        planes: &Planes,
        tile: TileId,
        region: Region,
        out: &mut [T],
    ) -> Result<(), SourceError> {
        let shape = layout.tile_shape();
        if region.extent == shape {
            self.source.read(region, out)?;
        } else {
            self.load_rim(shape, region, out)?;
        }
        self.note_voxels(layout, planes, tile, region, out);
        Ok(())
    }

    fn note_voxels(&self, layout: &Layout, planes: &Planes, tile: TileId, region: Region, voxels: &[T]) {
        if let (Some(tracking), Some(ranges)) = (self.ranges, planes.ranges()) {
            (tracking.note)(voxels, layout, region.extent, ranges.words(tile));
            ranges.note(tile);
        }
    }

    /// A tile at a far face: reads its part inside the array densely, into its beginning, and spreads it, with the fill value around it.
    fn load_rim(&self, shape: Extent, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        let [w, h, d] = region.extent.to_array().map(as_usize);
        let [row, plane] = [as_usize(shape.x), as_usize(shape.x * shape.y)];
        self.source.read(region, &mut out[..w * h * d])?;
        // What follows each other in the tile as in the array stays together.
        let (run, in_plane) = if w == row { (w * h, 1) } else { (w, h) };
        let mut end = out.len();
        // The last first: each goes to where only those are that have gone, and itself.
        for i in (0..in_plane * d).rev() {
            let at = i % in_plane * row + i / in_plane * plane;
            if at != i * run {
                out.copy_within(i * run..(i + 1) * run, at);
            }
            out[at + run..end].fill(self.fill);
            end = at;
        }
        Ok(())
    }
}

/// Sizes within a tile, which is in memory and so fits.
#[expect(clippy::cast_possible_truncation, reason = "64-bit targets are the only ones")]
fn as_usize(v: u64) -> usize {
    v as usize
}
