//! Owns tiles as views of `ndarray`: [`View::tile_ndarray`], and the shape that such views have.

use ndarray::{ArrayView3, ShapeBuilder, StrideShape};

use crate::layout::{Layout, TileCoord};
use crate::voxel::Voxel;

use super::{Tile, View, index};

impl<T: Voxel> View<'_, T> {
    /// One tile as a view of the crate `ndarray`, in place; `None` where it has no memory: it is not there, or it is uniform ([`View::tile`] tells which).
    ///
    /// **Shape**: `[z, y, x]`, what of the tile lies inside the array. Rows along x are contiguous; a tile that lies in the array as a whole is so throughout.
    ///
    /// **Cost**: that of [`View::tile`], and nanoseconds.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Procedural};
    ///
    /// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// let source = Procedural::new(Extent::new(40, 32, 32), |c: Coord| (c.x + 100 * c.z) as f32);
    /// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
    /// array.request(&[TileCoord::new(1, 0, 0)])?.complete()?;
    ///
    /// let view = array.frame();
    /// let tile = view.tile_ndarray(TileCoord::new(1, 0, 0)).unwrap();
    /// assert_eq!(tile.shape(), [32, 32, 8]); // at the far face along x
    /// assert_eq!(tile[[2, 0, 1]], 233.0);
    /// assert_eq!(tile.sum(), (32..40).flat_map(|x| (0..32).map(move |z| 32 * (x + 100 * z))).sum::<u32>() as f32);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[must_use]
    pub fn tile_ndarray(&self, tile: TileCoord) -> Option<ArrayView3<'_, T>> {
        match self.tile(tile) {
            Tile::Resident(voxels) => ArrayView3::from_shape(tile_shape(self.layout, tile), voxels).ok(),
            Tile::Uniform(_) | Tile::Missing => None,
        }
    }
}

/// Shape and strides, in the order z, y, x, of what of a tile lies inside the array.
pub(crate) fn tile_shape(layout: &Layout, tile: TileCoord) -> StrideShape<ndarray::Ix3> {
    let (inside, whole) = (layout.tile_region(tile).extent, layout.tile_shape());
    let shape = ndarray::Dim([index(inside.z), index(inside.y), index(inside.x)]);
    shape.strides(ndarray::Dim([index(whole.x * whole.y), index(whole.x), 1]))
}
