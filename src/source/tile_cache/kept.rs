//! Owns [`KeptTiles`]: a source whose tiles are looked for in a cache first. Knows nothing of what the source is.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::flights::Flights;
use super::room::{Room, TILE, UNIFORM};
use super::tile_file::{self, Unread};
use super::uniform::{self, Uniform};
use crate::error::SourceError;
use crate::geometry::boxes::{copy_shared, grid, voxels};
use crate::geometry::{Coord, Extent, Region};
use crate::source::{ContentKey, RangeIndex, TileSource, check_call, index, with_buffer};
use crate::voxel::Voxel;

/// A source through a [`TileCache`](super::TileCache): see [`TileCache::source`](super::TileCache::source).
///
/// A region that is not a tile is put together from all the tiles that it touches. What fails is not kept. Of several threads that want the same tile at the same time one reads it, as a rule.
pub struct KeptTiles<T, S> {
    source: S,
    room: Arc<Room>,
    key: ContentKey,
    folder: PathBuf,
    tile: Extent,
    uniform: Uniform<T>,
    flights: Flights,
}

impl<T: Voxel, S: TileSource<T>> KeptTiles<T, S> {
    pub(super) fn new(
        room: Arc<Room>,
        source: S,
        key: &ContentKey,
        tile: Extent,
    ) -> Result<Self, SourceError> {
        let extent = source.extent();
        let shape = tile.to_array().into_iter().zip(extent.to_array());
        // No tile is larger than the volume.
        let shape: Vec<_> = shape.map(|(side, most)| side.min(most.max(1))).collect();
        let shape = Extent::new(shape[0], shape[1], shape[2]);
        let fits = shape.checked_volume().and_then(|n| n.checked_mul(size_of::<T>() as u64));
        if tile.is_empty() || fits.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            let (location, voxel_bytes) = (String::new(), size_of::<T>());
            return Err(SourceError::Shape { location, extent: tile, voxel_bytes });
        }
        let key = key
            .clone()
            .with("tile cache", 1)
            .with("extent", extent)
            .with("tile", shape)
            .with("voxel", std::any::type_name::<T>())
            .with("voxel bytes", size_of::<T>())
            .with("big endian", cfg!(target_endian = "big"));
        let folder = room.folder().join(key.to_string());
        let log = folder.join(UNIFORM);
        let uniform = Uniform::load(&log, &key);
        if log.exists() {
            room.used(&log, None);
        }
        Ok(Self { source, room, key, folder, tile: shape, uniform, flights: Flights::default() })
    }

    /// The source itself.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Shape of the tiles that are kept.
    #[must_use]
    pub fn tile(&self) -> Extent {
        self.tile
    }

    /// The tiles that a region touches: the place of each, and its part inside the volume.
    fn tiles(&self, region: Region) -> impl Iterator<Item = (Coord, Region)> + '_ {
        let (extent, shape) = (self.source.extent(), self.tile);
        grid(region, shape).map(move |tile| {
            let Coord { x, y, z } = tile.start;
            (Coord::new(x / shape.x, y / shape.y, z / shape.z), tile.clipped_to(extent))
        })
    }

    fn path(&self, place: Coord) -> PathBuf {
        self.folder.join(format!("{}-{}-{}{TILE}", place.x, place.y, place.z))
    }

    fn is_kept(&self, place: Coord) -> bool {
        self.uniform.get(place).is_some() || self.path(place).exists()
    }

    /// Reads a tile from the folder, if it is there and as it was.
    fn find(&self, place: Coord, tile: Region, out: &mut [T]) -> bool {
        if let Some(value) = self.uniform.get(place) {
            out.fill(value);
            return true;
        }
        let path = self.path(place);
        match tile_file::read(&path, &self.key, tile, bytemuck::cast_slice_mut(out)) {
            Ok(file) => {
                self.room.used(&path, Some(&file));
                return true;
            }
            Err(Unread::Missing) => {}
            // It may be as it was: this process has too many files open, say, or may not read it.
            Err(Unread::Refused(error)) => {
                tracing::warn!(path = %path.display(), %error, "a kept tile could not be read: its source is");
            }
            Err(error @ Unread::Damaged) => {
                tracing::warn!(path = %path.display(), %error, "a kept tile is read from its source again");
                self.room.counts.damaged.fetch_add(1, Ordering::Relaxed);
                let _ = std::fs::remove_file(&path);
            }
        }
        false
    }

    fn one(&self, place: Coord, tile: Region, out: &mut [T]) -> Result<(), SourceError> {
        let counts = &self.room.counts;
        let mut found = self.find(place, tile, out);
        if !found {
            // Where nothing is kept, waiting for somebody else's read is in vain.
            let _flight = self.room.is_keeping().then(|| self.flights.begin(place));
            // Somebody else may have read it since.
            found = self.find(place, tile, out);
            if !found {
                counts.missed.fetch_add(1, Ordering::Relaxed);
                self.source.read(tile, out)?;
                self.keep(place, tile, out);
            }
        }
        counts.found.fetch_add(u64::from(found), Ordering::Relaxed);
        Ok(())
    }

    fn keep(&self, place: Coord, tile: Region, voxels: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(voxels);
        let Some(&first) = voxels.first() else { return };
        if bytes[size_of::<T>()..] == bytes[..bytes.len() - size_of::<T>()] {
            if self.uniform.insert(place, first) {
                let size = uniform::record_bytes::<T>() as u64;
                self.room.append(&self.folder.join(UNIFORM), size, |path| {
                    uniform::append(path, &self.key, place, first)
                });
            }
            return;
        }
        let size = tile_file::bytes(bytes.len() as u64);
        self.room.keep(&self.path(place), size, |path| tile_file::write(path, &self.key, tile, bytes));
    }
}

impl<T: Voxel, S: TileSource<T>> TileSource<T> for KeptTiles<T, S> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn fill_value(&self) -> T {
        self.source.fill_value()
    }

    /// What tiles turned out to hold, or what the source knows.
    fn uniform(&self, region: Region) -> Option<T> {
        let mut tiles = self.tiles(region);
        let mut known = || {
            let value = self.uniform.get(tiles.next()?.0)?;
            let same = |other: T| bytemuck::bytes_of(&other) == bytemuck::bytes_of(&value);
            tiles.all(|(place, _)| self.uniform.get(place).is_some_and(same)).then_some(value)
        };
        known().or_else(|| self.source.uniform(region))
    }

    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        self.source.ranges()
    }

    /// Passes on what is not kept.
    fn will_read(&self, regions: &[Region]) {
        let all = regions.iter().flat_map(|&region| self.tiles(region));
        let missing: Vec<_> = all.filter(|(place, _)| !self.is_kept(*place)).map(|(_, tile)| tile).collect();
        if !missing.is_empty() {
            self.source.will_read(&missing);
        }
    }

    fn will_read_all(&self) {
        self.source.will_read_all();
    }

    fn chunk(&self) -> Option<Extent> {
        self.source.chunk()
    }

    fn kept_bytes(&self) -> u64 {
        self.source.kept_bytes()
    }

    fn keep_at_most(&self, bytes: u64) {
        self.source.keep_at_most(bytes);
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent(), region, out.len())?;
        for (place, tile) in self.tiles(region) {
            if tile == region {
                self.one(place, tile, out)?;
            } else {
                with_buffer(index(voxels(tile.extent)), |buffer: &mut [T]| {
                    self.one(place, tile, buffer)?;
                    copy_shared(tile, buffer, region, out);
                    Ok::<_, SourceError>(())
                })?;
            }
        }
        Ok(())
    }
}

impl<T, S: fmt::Debug> fmt::Debug for KeptTiles<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTiles")
            .field("source", &self.source)
            .field("folder", &self.folder)
            .field("tile", &self.tile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Dense, TileCache, TileCacheOptions};

    #[test]
    fn a_kept_tile_is_removed_if_it_is_damaged_and_not_if_it_cannot_be_read_now() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TileCache::open(folder.path(), TileCacheOptions::default()).unwrap();
        let extent = Extent::cube(4);
        let source = Dense::new((0..64u8).collect::<Vec<_>>(), extent).unwrap();
        let kept = cache.source(source, &ContentKey::new("here"), extent).unwrap();
        let (place, tile) = (Coord::new(0, 0, 0), Region::whole(extent));
        let path = kept.path(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut out = [0; 64];
        // The system refuses to open it: a link that leads to itself.
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(!kept.find(place, tile, &mut out));
        assert!(path.is_symlink());
        assert_eq!(cache.stats().damaged, 0);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "no tile").unwrap();
        assert!(!kept.find(place, tile, &mut out));
        assert!(!path.exists());
        assert_eq!(cache.stats().damaged, 1);
    }
}
