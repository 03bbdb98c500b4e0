//! Owns [`Cached`]: a computed level whose tiles are kept in a [`ComputedTiles`]. Knows nothing of what computes them.

use std::fmt;
use std::sync::Arc;

use super::computed::{ComputedTiles, Key};
use crate::error::SourceError;
use crate::geometry::boxes::{copy_shared, grid, voxels};
use crate::geometry::{Extent, Region};
use crate::source::{RangeIndex, TileSource, check_call, index, with_buffer};
use crate::voxel::Voxel;

/// A source that is asked for each tile once, as long as there is a place to keep it.
///
/// Nobody waits for anybody: two threads that want a tile at the same time both compute it. (A source that waits for its own threads may be handed other tiles meanwhile, and two such
/// would wait for each other.) Where the tiles are those of the arrays, or parts of them, that does not happen within a request.
pub(super) struct Cached<T, S> {
    source: S,
    kept: Arc<ComputedTiles<T>>,
    level: u32,
    tile: Extent,
}

impl<T: Voxel, S: TileSource<T>> Cached<T, S> {
    /// Keeps the tiles of `source`, of a shape without empty sides, under the name `level`.
    pub(super) fn new(source: S, kept: Arc<ComputedTiles<T>>, level: u32, tile: Extent) -> Self {
        Self { source, kept, level, tile }
    }

    /// The tiles that a region touches: the name of each, and its part inside the volume.
    fn tiles(&self, region: Region) -> impl Iterator<Item = (Key, Region)> + '_ {
        let extent = self.source.extent();
        grid(region, self.tile).map(move |tile| ((self.level, tile.start), tile.clipped_to(extent)))
    }

    fn found_uniform(&self, region: Region) -> Option<T> {
        let mut tiles = self.tiles(region);
        let (first, _) = tiles.next()?;
        let value = self.kept.uniform(first)?;
        let same = |other: T| bytemuck::bytes_of(&other) == bytemuck::bytes_of(&value);
        tiles.all(|(key, _)| self.kept.uniform(key).is_some_and(same)).then_some(value)
    }

    fn one(&self, key: Key, tile: Region, out: &mut [T]) -> Result<(), SourceError> {
        if !self.kept.load(key, out) {
            self.source.read(tile, out)?;
            self.kept.keep(key, out);
        }
        Ok(())
    }
}

impl<T: Voxel, S: TileSource<T>> TileSource<T> for Cached<T, S> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn fill_value(&self) -> T {
        self.source.fill_value()
    }

    /// What computed tiles turned out to hold, or what the source knows.
    fn uniform(&self, region: Region) -> Option<T> {
        self.found_uniform(region).or_else(|| self.source.uniform(region))
    }

    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        self.source.ranges()
    }

    fn will_read(&self, regions: &[Region]) {
        let missing: Vec<_> = regions
            .iter()
            .flat_map(|&region| self.tiles(region))
            .filter(|(key, _)| !self.kept.contains(*key))
            .map(|(_, tile)| tile)
            .collect();
        if !missing.is_empty() {
            self.source.will_read(&missing);
        }
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent(), region, out.len())?;
        for (key, tile) in self.tiles(region) {
            if tile == region {
                self.one(key, tile, out)?;
            } else {
                with_buffer(index(voxels(tile.extent)), |buffer: &mut [T]| {
                    self.one(key, tile, buffer)?;
                    copy_shared(tile, buffer, region, out);
                    Ok::<_, SourceError>(())
                })?;
            }
        }
        Ok(())
    }
}

impl<T, S: fmt::Debug> fmt::Debug for Cached<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("source", &self.source)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Coord;
    use crate::source::{Instrumented, Procedural};

    fn value(c: Coord) -> u64 {
        c.x + 1000 * c.y + 1_000_000 * c.z
    }

    #[test]
    fn any_region_is_read_through_whole_tiles_each_once() {
        let extent = Extent::new(70, 40, 33);
        let source = Instrumented::new(Procedural::new(extent, value));
        let watch = source.instruments();
        let cached = Cached::new(source, Arc::new(ComputedTiles::new(1 << 15, 1 << 30)), 3, Extent::cube(32));
        for region in [
            Region::new(Coord::new(30, 31, 2), Extent::new(5, 3, 31)),
            Region::whole(extent),
            Region::new(Coord::new(32, 0, 0), Extent::cube(32)),
            Region::new(Coord::new(64, 32, 32), Extent::new(6, 8, 1)),
        ] {
            let mut out = vec![0; index(voxels(region.extent))];
            cached.read(region, &mut out).unwrap();
            let expected: Vec<_> = grid(region, Extent::cube(1)).map(|voxel| value(voxel.start)).collect();
            assert_eq!(out, expected, "{region}");
        }
        assert_eq!(watch.reads(), 3 * 2 * 2);
        assert!(watch.reads_by_region().iter().all(|(_, times)| *times == 1));
    }

    #[test]
    fn tiles_that_turned_out_to_hold_one_value_are_known_to() {
        let source = Procedural::new(Extent::cube(64), |c| u8::from(c.x >= 32));
        let cached = Cached::new(source, Arc::new(ComputedTiles::new(1 << 15, 0)), 0, Extent::cube(32));
        let far = Region::new(Coord::new(40, 0, 0), Extent::cube(2));
        assert_eq!(cached.uniform(far), None);
        cached.read(Region::whole(Extent::new(64, 4, 4)), &mut vec![0; 1024]).unwrap();
        assert_eq!(cached.uniform(far), Some(1));
        assert_eq!(cached.uniform(Region::new(Coord::new(30, 0, 0), Extent::cube(4))), None, "of two values");
    }

    #[test]
    fn what_fails_is_not_kept() {
        let source = Instrumented::new(Procedural::new(Extent::cube(8), value));
        let watch = source.instruments();
        watch.fail_nth(1);
        let cached = Cached::new(source, Arc::new(ComputedTiles::new(1 << 15, 1 << 20)), 0, Extent::cube(32));
        let whole = Region::whole(Extent::cube(8));
        assert!(cached.read(whole, &mut [0; 512]).is_err());
        assert!(cached.read(whole, &mut [0; 512]).is_ok());
        assert!(cached.read(whole, &mut [0; 512]).is_ok());
        assert_eq!(watch.reads(), 2);
    }
}
