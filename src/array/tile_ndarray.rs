//! Owns [`Writer::tile_ndarray`].

use ndarray::ArrayViewMut3;

use crate::backend::HostAddressable;
use crate::error::Error;
use crate::layout::TileCoord;
use crate::view::tile_shape;
use crate::voxel::Voxel;

use super::{Writer, no_such_tile};

impl<T: Voxel, B: HostAddressable> Writer<'_, T, B> {
    /// One tile as a view of the crate `ndarray`, to be read and written in place.
    ///
    /// **Shape**: `[z, y, x]`, what of the tile lies inside the array; as [`View::tile_ndarray`](crate::View::tile_ndarray).
    ///
    /// ```
    /// # use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Fill};
    /// # let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// # let source = Fill::new(Extent::cube(64), 1.0f32);
    /// # let mut array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).writable().build()?;
    /// let mut writer = array.writer()?;
    /// let mut tile = writer.tile_ndarray(TileCoord::new(1, 0, 0))?;
    /// tile += 2.0;
    /// tile[[3, 2, 1]] = 7.0; // z, y, x
    /// drop(writer);
    /// assert_eq!((array.get([33, 2, 3])?, array.get([32, 2, 3])?), (7.0, 3.0));
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Writer::tile`].
    pub fn tile_ndarray(&mut self, tile: TileCoord) -> Result<ArrayViewMut3<'_, T>, Error> {
        let layout = self.array().layout().clone();
        let voxels = self.tile(tile)?;
        ArrayViewMut3::from_shape(tile_shape(&layout, tile), voxels).map_err(|_| no_such_tile(&layout, tile))
    }
}
