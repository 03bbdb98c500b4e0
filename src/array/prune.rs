//! Owns giving memory back of tiles that were written to: those that hold one value, and those that are wanted no more.

use crate::backend::Backend;
use crate::error::Error;
use crate::layout::TileCoord;
use crate::voxel::Voxel;

use super::SparseArray3D;

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// Finds those of the tiles that hold one value, bit for bit, and has them give up their memory: they are known to hold that value from then on. Where the source says the same they count as
    /// written no more, so that [`SparseArray3D::written_tiles`] is what really differs. Returns all tiles of the list that hold one value now without memory, in memory order.
    ///
    /// On a device a kernel looks, where the tiles are. Kernels of frames that have ended are waited for, however long they run. Pins keep memory, and not what a tile of one value holds there.
    ///
    /// **Shape**: a tile that reaches past the array's far faces counts with what lies there, which is the fill value unless a kernel or a writer of whole tiles wrote it.
    ///
    /// **Cost**: the tiles that are resident are read once, up to where they are seen to differ, on the host by all threads of rayon's current pool.
    ///
    /// ```
    /// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Fill};
    ///
    /// let pool = Pool::new(HostBackend::new(), 8 << 20)?;
    /// let mut grid = SparseArray3D::builder(&pool, Fill::new(Extent::cube(1 << 13), 0u16)).tile([32; 3]).writable().build()?;
    /// let tiles = [TileCoord::new(3, 0, 0), TileCoord::new(4, 0, 0), TileCoord::new(5, 0, 0)];
    /// let mut writer = grid.writer()?;
    /// writer.tile(tiles[0])?.fill(0); // as it was
    /// writer.tile(tiles[1])?.fill(7);
    /// writer.tile(tiles[2])?[5] = 7;
    /// drop(writer);
    ///
    /// assert_eq!(grid.prune(&tiles)?, tiles[..2]);
    /// assert_eq!(grid.resident_tiles(), tiles[2..]);
    /// assert_eq!(grid.written_tiles(), tiles[1..]);
    /// assert_eq!(grid.get([128, 0, 0])?, 7);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ResidencyError::ReadOnly`](crate::ResidencyError::ReadOnly), [`ResidencyError::OutOfBounds`](crate::ResidencyError::OutOfBounds), [`Error::Backend`]: nothing was done.
    /// [`ResidencyError::LoadsItself`](crate::ResidencyError::LoadsItself): others were busy with one of them for too long; the rest is done.
    pub fn prune(&mut self, tiles: &[TileCoord]) -> Result<Vec<TileCoord>, Error> {
        let mut ids = self.writable_ids(tiles)?;
        ids.sort_unstable();
        ids.dedup();
        let same = self.engine().prune(self.shared(), &ids)?;
        Ok(same.into_iter().filter_map(|tile| self.layout().tile_coord(tile)).collect())
    }

    /// Gives up what was written to these tiles, as [`SparseArray3D::discard_written`], and their memory with it: they hold what their source says, from now on. Kernels of frames that have ended are
    /// waited for, however long they run. Pins keep memory, and not what was there.
    ///
    /// **Cost**: a lock and a table's entry for each tile; pages without tiles are unmapped, and wait in the pool for others to need them.
    ///
    /// ```
    /// # use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, source::Fill};
    /// # let pool = Pool::new(HostBackend::new(), 8 << 20)?;
    /// # let mut grid = SparseArray3D::builder(&pool, Fill::new(Extent::cube(1 << 13), 0u16)).writable().build()?;
    /// grid.writer()?.set([5, 5, 5], 1)?;
    /// grid.reset(&grid.written_tiles())?;
    /// assert!(grid.written_tiles().is_empty() && grid.resident_tiles().is_empty());
    /// assert_eq!(grid.get([5, 5, 5])?, 0);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`SparseArray3D::prune`].
    pub fn reset(&mut self, tiles: &[TileCoord]) -> Result<(), Error> {
        let ids = self.writable_ids(tiles)?;
        self.shared().offsets.renew_identity();
        self.engine().reset(self.shared(), &ids)
    }
}
