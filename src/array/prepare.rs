//! Owns committing ahead: tiles that get memory before somebody elsewhere, such as a kernel, writes to them.

use crate::backend::Backend;
use crate::engine::Purpose;
use crate::error::Error;
use crate::layout::TileCoord;
use crate::voxel::Voxel;

use super::{Pins, SparseArray3D};

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// Has all of the tiles resident with their contents, those too that hold one value, and forbids their eviction until the guard is dropped: what a kernel is about to write to. The guard may go
    /// once the frame has ended in which they are written. Nothing counts as written for this: stores do, through `vastgrid.cuh`, or [`SparseArray3D::note_written`].
    ///
    /// Tiles that lie around others are a set that is grown: [`compute::written`](crate::compute::written), [`TileSet::dilate`](crate::compute::TileSet::dilate).
    ///
    /// **Cost**: that of a request; a tile that holds one value of at most 4 bytes, or a repeated one, is set by the device, neighbours in memory in one call of the driver, and nothing is copied for it.
    ///
    /// ```
    /// use vastgrid::compute::{self, Beyond, Neighbours};
    /// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, source::Fill};
    ///
    /// # let pool = Pool::new(HostBackend::new(), 8 << 20)?; // or a CudaBackend
    /// # let mut grid = SparseArray3D::builder(&pool, Fill::new(Extent::cube(1 << 13), 0u16)).tile([32; 3]).writable().build()?;
    /// # grid.writer()?.set([100, 100, 100], 1)?;
    /// // All tiles within one tile of what was written.
    /// let band: Vec<_> = compute::written(&grid).dilate(Neighbours::Corners, 1, Beyond::Out).iter().collect();
    /// let pins = grid.prepare_write(&band)?;
    /// assert!(band.iter().all(|&tile| grid.is_resident(tile)));
    /// # assert_eq!(band.len(), 27);
    /// # drop(pins);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ResidencyError::ReadOnly`](crate::ResidencyError::ReadOnly); [`Error::Tile`], the first that could not be loaded; and those of [`SparseArray3D::request`], such as
    /// [`ResidencyError::OverBudget`](crate::ResidencyError::OverBudget) where the budget does not hold all of them at once. Nothing is pinned then.
    pub fn prepare_write(&self, tiles: &[TileCoord]) -> Result<Pins<B>, Error> {
        let ids = self.writable_ids(tiles)?;
        self.pin_for(&ids, Purpose::Write)?.complete()
    }

    /// The same for tiles of which everything is about to be written: nothing is loaded, and each holds the fill value, whatever it held before. That counts as written, but where the source says the
    /// same. Kernels of frames that have ended are waited for, however long they run.
    ///
    /// **Cost**: as [`SparseArray3D::prepare_write`] of tiles that hold one value.
    ///
    /// ```
    /// # use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Procedural};
    /// # let pool = Pool::new(HostBackend::new(), 8 << 20)?;
    /// # let source = Procedural::new(Extent::cube(64), |c: Coord| c.x as u16);
    /// # let mut grid = SparseArray3D::builder(&pool, source).tile([32; 3]).writable().build()?;
    /// let tile = TileCoord::new(1, 0, 0);
    /// let pins = grid.prepare_overwrite(&[tile])?;
    /// assert_eq!(grid.get([32, 0, 0])?, 0);
    /// assert_eq!(grid.written_tiles(), [tile]);
    /// # drop(pins);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`SparseArray3D::prepare_write`]. But for [`ResidencyError::ReadOnly`](crate::ResidencyError::ReadOnly), [`ResidencyError::OutOfBounds`](crate::ResidencyError::OutOfBounds) and
    /// [`ResidencyError::OverBudget`](crate::ResidencyError::OverBudget), they may hold the fill value then, without memory.
    pub fn prepare_overwrite(&mut self, tiles: &[TileCoord]) -> Result<Pins<B>, Error> {
        let mut ids = self.writable_ids(tiles)?;
        ids.sort_unstable();
        ids.dedup();
        self.shared().offsets.renew_identity();
        let (pages, report) = self.engine().pin_blank(self.shared(), &ids)?;
        Pins { handle: self.handle.clone(), pages, report }.complete()
    }
}
