//! Owns [`SparseArray3D::written_tiles`]: which tiles hold what their source does not.

use crate::backend::Backend;
use crate::layout::TileCoord;
use crate::voxel::Voxel;

use super::SparseArray3D;

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// The tiles that were written to and not given up ([`SparseArray3D::discard_written`]), in memory or in the scratch store, in memory order. Empty for an array that is not writable.
    ///
    /// **Cost**: a short lock, and time in proportion to the tiles.
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
        tiles.into_iter().filter_map(|id| self.layout().tile_coord(id)).collect()
    }
}
