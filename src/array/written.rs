//! Owns what was written to an array as a whole: which tiles, and writing them to a store.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::backend::Backend;
use crate::error::{Error, StoreError};
use crate::geometry::{Coord, Extent, Region};
use crate::layout::TileCoord;
use crate::store::TileStore;
use crate::voxel::Voxel;

use super::SparseArray3D;

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// The tiles that were written to and not given up since, in memory order, wherever their contents are now: in memory, or in the array's scratch store. Empty for arrays that are not writable.
    /// On a device, kernels of frames that have ended are waited for first, however long they run.
    ///
    /// **Cost**: a short lock, and a look at every such tile.
    ///
    /// ```
    /// use vastgrid::{Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord, source::Fill};
    ///
    /// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
    /// let fill = Fill::new(Extent::cube(1 << 13), 0u8);
    /// let mut array = SparseArray3D::builder(&pool, fill).tile([32, 32, 32]).writable().build()?;
    /// array.writer()?.set([100, 0, 0], 7)?;
    /// array.evict(Region::whole(Extent::cube(128)))?; // it goes to the scratch store
    /// assert_eq!(array.written_tiles(), [TileCoord::new(3, 0, 0)]);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[must_use]
    pub fn written_tiles(&self) -> Vec<TileCoord> {
        let tiles = self.engine().written_tiles(self.shared());
        tiles.into_iter().filter_map(|tile| self.layout().tile_coord(tile)).collect()
    }

    /// Writes what was written to this array, and nothing else, to a store of the same extent: its pieces that tiles of [`SparseArray3D::written_tiles`] lie in, as the array has them. Everywhere else the store keeps
    /// its own fill value, so that a grid of 2^40 voxels costs what was touched of it.
    ///
    /// What was written here stays written; the store is to be saved or flushed afterwards, and others see it no sooner.
    ///
    /// **Cost**: every such piece is read once through the budget, and written by rayon's threads, one piece each at a time.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Fill, store::RawStore};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("grid.raw");
    /// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(64), 0u16)).writable().build()?;
    /// array.writer()?.fill(Region::new(Coord::new(10, 10, 10), Extent::cube(20)), 7)?;
    ///
    /// let store = RawStore::<u16>::create(&path, Extent::cube(64))?;
    /// array.write_to(&store)?;
    /// store.save()?; // now it is there, as a whole
    /// assert_eq!(std::fs::read(&path)?.iter().filter(|&&byte| byte == 7).count(), 20 * 20 * 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StoreError::BadCall`]: the store has another extent. What keeps a piece from being read or written, the first of them: others may have been written then.
    pub fn write_to(&self, store: &impl TileStore<T>) -> Result<(), Error> {
        let (extent, shape, piece) = (self.extent(), self.layout().tile_shape(), store.piece());
        if store.extent() != extent {
            let (extent, region) = (store.extent(), Region::whole(extent));
            return Err(StoreError::BadCall { extent, region, piece, buffer_voxels: 0 }.into());
        }
        // A store that takes anything gets tiles.
        let side = |piece: u64, tile: u64| {
            if piece.is_multiple_of(tile) { piece } else { piece * tile.div_ceil(piece) }
        };
        let piece = Extent::new(side(piece.x, shape.x), side(piece.y, shape.y), side(piece.z, shape.z));
        let mut pieces = BTreeSet::new();
        for tile in self.written_tiles() {
            let region = self.layout().tile_region(tile);
            let last = region.end().unwrap_or(region.start);
            for z in region.start.z / piece.z..=(last.z - 1) / piece.z {
                for y in region.start.y / piece.y..=(last.y - 1) / piece.y {
                    pieces.extend((region.start.x / piece.x..=(last.x - 1) / piece.x).map(|x| [z, y, x]));
                }
            }
        }
        let pieces: Vec<_> = pieces.into_iter().collect();
        pieces.into_par_iter().with_max_len(1).try_for_each(|[z, y, x]| {
            let start = Coord::new(x * piece.x, y * piece.y, z * piece.z);
            let region = Region::new(start, piece).clipped_to(extent);
            store.write(region, &self.to_vec(region)?)?;
            Ok(())
        })
    }
}
