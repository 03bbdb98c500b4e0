//! Owns what of an array leaves as a tensor: a pinned tile, or all of the reservation. What a tensor is, is the view's business.

use std::sync::Arc;

use crate::error::{Error, LayoutError, ResidencyError};
use crate::layout::{Layout, TileCoord};
use crate::view::dlpack::{DlpackBackend, ReservationTensor, Spec, Tensor};
use crate::voxel::Scalar;

use super::SparseArray3D;

impl<T: Scalar, B: DlpackBackend> SparseArray3D<T, B> {
    /// A tile as a `DLPack` tensor, in place: loaded if need be, and pinned until the tensor is dropped or deleted, also where the array itself is dropped before.
    ///
    /// **Shape**: `[z, y, x]`, what of the tile lies inside the array; x is contiguous, and rows are as far apart as the tile is wide.
    ///
    /// The tensor is read only. What is written to the array while it is there shows in it, and nobody keeps readers and writers apart: let [`Writer`](crate::Writer) and kernels be done before consumers read.
    /// On a device the tile's contents have arrived when this returns, on every stream; work that reads it is done before the deleter is called.
    ///
    /// **Cost**: that of [`SparseArray3D::pin`], and one allocation.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Procedural};
    ///
    /// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// let source = Procedural::new(Extent::new(100, 80, 60), |c: Coord| c.x as f32);
    /// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
    ///
    /// let tensor = array.dlpack_tile(TileCoord::new(3, 0, 1))?;
    /// assert_eq!(tensor.shape(), [28, 32, 4]); // at the far faces
    /// assert_eq!(tensor.strides(), [1024, 32, 1]);
    /// // For a Python capsule: `tensor.into_raw()`.
    /// assert!(pool.stats().pinned_bytes > 0);
    /// drop(tensor);
    /// assert_eq!(pool.stats().pinned_bytes, 0);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`SparseArray3D::pin`]; [`Error::Tile`] where the tile fails to load; [`ResidencyError::OneValue`] where it holds one value and so has no memory.
    pub fn dlpack_tile(&self, tile: TileCoord) -> Result<Tensor, Error> {
        let pins = self.pin(&[tile])?.complete()?;
        let layout = self.layout();
        let id = layout.tile_id(tile).ok_or_else(|| super::no_such_tile(layout, tile))?;
        if !self.shared().planes.is_resident(id) {
            let error = if self.shared().planes.is_uniform(id) {
                ResidencyError::OneValue { tile }
            } else {
                ResidencyError::NotThere { tile }
            };
            return Err(error.into());
        }
        let (inside, whole) = (layout.tile_region(tile).extent, layout.tile_shape());
        let spec = Spec {
            address: self.base_address() + layout.tile_offset_bytes(id),
            device: self.engine().backend.dlpack_device(),
            scalar: T::TYPE,
            shape: [inside.z, inside.y, inside.x],
            strides: [whole.x * whole.y, whole.x, 1],
        };
        Ok(Tensor::new(spec, Box::new(pins)))
    }

    /// The whole reservation as a `DLPack` tensor, without loading or pinning anything; the array's addresses stay until the tensor is dropped or deleted.
    ///
    /// **Shape**: `[tile z, tile y, tile x, z, y, x]`, where the last three are positions in the tile. Tiles at the far faces are whole; past the faces they hold the fill value.
    ///
    /// Only tiles that are resident have memory, so the tensor is made in two steps, of which the second is `unsafe`: [`ReservationTensor::into_tensor`] has the rules.
    ///
    /// **Cost**: one allocation.
    ///
    /// # Errors
    /// [`LayoutError::NoStrides`]: tiles do not lie evenly along an axis. They always do where a page is one tile; else along an axis on which a page is one tile wide or as wide as the array, or where pages
    /// are as wide as the array on all faster axes and one tile on all slower ones. [`ResidencyError::Poisoned`].
    pub fn dlpack_reservation(&self) -> Result<ReservationTensor, Error> {
        self.shared().check()?;
        let layout = self.layout();
        let (tiles, tile) = (layout.tiles(), layout.tile_shape());
        let [x, y, z] = tile_strides(layout)?;
        let spec = Spec {
            address: self.base_address(),
            device: self.engine().backend.dlpack_device(),
            scalar: T::TYPE,
            shape: [tiles.z, tiles.y, tiles.x, tile.z, tile.y, tile.x],
            strides: [z, y, x, tile.x * tile.y, tile.x, 1],
        };
        Ok(ReservationTensor::new(spec, Box::new(Arc::clone(self.handle()))))
    }
}

/// Voxels between tiles that are neighbours along x, y and z, where it is the same number within a page as from page to page.
fn tile_strides(layout: &Layout) -> Result<[u64; 3], LayoutError> {
    let pages = layout.pages();
    let mut strides = [0; 3];
    for ((axis, pages), stride) in layout.axes().iter().zip([pages.x, pages.y, pages.z]).zip(&mut strides) {
        let within = 1 << axis.slot_shift;
        let tiles = if axis.page_shift == 0 {
            axis.page_stride_tiles
        } else if pages == 1 || within << axis.page_shift == axis.page_stride_tiles {
            within
        } else {
            return Err(LayoutError::NoStrides {
                tile: layout.tile_shape(),
                page: layout.page_shape(),
                pages: layout.pages(),
            });
        };
        *stride = tiles << layout.tile_voxels_log2();
    }
    Ok(strides)
}
