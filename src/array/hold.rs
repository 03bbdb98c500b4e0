//! Owns holding tiles for a computation that is made at once: others that need memory wait for it.

use crate::backend::Backend;
use crate::error::{Error, LayoutError};
use crate::layout::{Layout, TileId};
use crate::voxel::Voxel;

use super::SparseArray3D;
use super::region::first_failure;

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// Makes the tiles resident, all of them, and keeps them until the guard is dropped.
    ///
    /// # Errors
    /// As [`SparseArray3D::request`], and [`Error::Tile`], the first that failed.
    pub(crate) fn hold(&self, tiles: &[TileId]) -> Result<impl Sized + use<'_, T, B>, Error> {
        let held = self.engine().hold(self.shared(), tiles)?;
        first_failure(&held.report)?;
        Ok(held)
    }

    /// Refuses an array of another extent or in other tiles.
    pub(crate) fn check_alike(&self, other: &Layout) -> Result<(), Error> {
        let layout = self.layout();
        if (layout.extent(), layout.tile_shape()) == (other.extent(), other.tile_shape()) {
            return Ok(());
        }
        Err(LayoutError::NotAlike {
            extent: other.extent(),
            tile: other.tile_shape(),
            other_extent: layout.extent(),
            other_tile: layout.tile_shape(),
        }
        .into())
    }
}
