//! Owns what a [`LevelStore`] says of what is complete, and how that is read back. Knows nothing of how it is written.

use super::level_store::LevelStore;
use super::shard::read_chunk;
use crate::error::StoreError;
use crate::geometry::boxes::{copy_shared, grid, pieces, voxels};
use crate::geometry::{Coord, Region};
use crate::source::index;
use crate::store::check_write;
use crate::voxel::Scalar;

impl<T: Scalar> LevelStore<T> {
    /// Whether every object that `region` touches has all of its chunks, from this save or from the interrupted one that it goes on with. [`LevelStore::read_back`] reads it. While a chunk of a complete object is written again that
    /// object is not, until it is flushed.
    #[must_use]
    pub fn is_complete(&self, region: Region) -> bool {
        self.lacking(region).is_none()
    }

    /// An object that `region` touches and that is not complete.
    fn lacking(&self, region: Region) -> Option<Coord> {
        self.objects_in(region).find(|object| {
            let state = self.state();
            !state.complete.contains(*object) || state.open.contains_key(object)
        })
    }

    /// Whether the interrupted save had completed every object that `region` touches: the same for as long as this save goes on.
    pub(crate) fn was_found(&self, region: Region) -> bool {
        self.objects_in(region).all(|object| self.found.contains(object))
    }

    fn objects_in(&self, region: Region) -> impl Iterator<Item = Coord> {
        let side = self.object;
        grid(region, side).map(move |object| {
            Coord::new(object.start.x / side.x, object.start.y / side.y, object.start.z / side.z)
        })
    }

    /// Reads what [`LevelStore::is_complete`] says is there.
    ///
    /// **Shape**: as [`TileStore::write`](crate::store::TileStore::write).
    ///
    /// # Errors
    /// [`StoreError::BadCall`]; [`StoreError::ReadBack`], for what is not complete, too.
    pub fn read_back(&self, region: Region, out: &mut [T]) -> Result<(), StoreError> {
        check_write(self.extent, self.chunk, region, Some(out.len()))?;
        if let Some(object) = self.lacking(region) {
            let location = self.finisher.target().location(&self.key(object));
            return Err(StoreError::ReadBack { location, source: "it is not complete".into() });
        }
        for chunk in pieces(region, self.chunk) {
            let (object, place) = self.place_of(chunk.start);
            let key = self.key(object);
            self.finisher.wait_for(&key)?;
            let place = self.sharded.then_some(place);
            let whole = Region::new(chunk.start, self.chunk);
            match read_chunk(&self.form, &**self.finisher.target(), &key, place)? {
                Some(bytes) => {
                    let decoded: Vec<T> = bytemuck::pod_collect_to_vec(&bytes);
                    if decoded.len() as u64 != voxels(self.chunk) {
                        let location = self.finisher.target().location(&key);
                        let source = "a chunk of another length".into();
                        return Err(StoreError::ReadBack { location, source });
                    }
                    copy_shared(whole, &decoded, region, out);
                }
                None => fill_part(chunk, self.fill, region, out),
            }
        }
        Ok(())
    }
}

/// Fills the part of a region's buffer.
fn fill_part<T: Copy>(part: Region, value: T, region: Region, out: &mut [T]) {
    let width = index(part.extent.x);
    for z in part.start.z..part.start.z + part.extent.z {
        for y in part.start.y..part.start.y + part.extent.y {
            let row = (z - region.start.z) * region.extent.y + (y - region.start.y);
            let at = index(row * region.extent.x + (part.start.x - region.start.x));
            out[at..at + width].fill(value);
        }
    }
}
