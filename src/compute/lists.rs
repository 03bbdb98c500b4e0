//! Owns the lists of tiles that computations begin with, as sets: what is resident, what was written, everything.

use crate::array::SparseArray3D;
use crate::backend::Backend;
use crate::geometry::Region;
use crate::voxel::Voxel;

use super::TileSet;

/// The tiles that are resident now. Others may come and go meanwhile.
///
/// **Cost**: a short lock, and one insertion for each.
///
/// ```
/// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, TileCoord, compute, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
/// let source = Procedural::new(Extent::cube(256), |c: vastgrid::Coord| c.x as u8);
/// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
/// array.request(&[TileCoord::new(1, 2, 3)])?.complete()?;
/// assert_eq!(compute::resident(&array).iter().collect::<Vec<_>>(), [TileCoord::new(1, 2, 3)]);
/// assert_eq!(compute::all(&array).len(), 512);
/// # Ok::<_, vastgrid::Error>(())
/// ```
#[must_use]
pub fn resident<T: Voxel, B: Backend>(array: &SparseArray3D<T, B>) -> TileSet {
    TileSet::of(array.layout().tiles(), array.resident_tiles())
}

/// The tiles that were written to and not given up, wherever their contents are: [`SparseArray3D::written_tiles`].
///
/// **Cost**: as [`resident`].
///
/// ```
/// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, TileCoord, compute, source::Fill};
///
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(1 << 13), 0u8)).tile([32, 32, 32]).writable().build()?;
/// array.writer()?.set([100, 0, 0], 7)?;
/// assert_eq!(compute::written(&array).iter().collect::<Vec<_>>(), [TileCoord::new(3, 0, 0)]);
/// # Ok::<_, vastgrid::Error>(())
/// ```
#[must_use]
pub fn written<T: Voxel, B: Backend>(array: &SparseArray3D<T, B>) -> TileSet {
    TileSet::of(array.layout().tiles(), array.written_tiles())
}

/// All tiles of the array, those included that nothing was ever done with: of a large sparse array [`written`] and [`resident`] are rarely more than a few of them, and a pass over 2^29 tiles takes minutes even where none
/// has memory.
///
/// **Cost**: one insertion for 64 tiles. The set borrows nothing, so that it can be made before the [`Writer`](crate::Writer) that it is for: `let tiles = all(&array); map(&mut array.writer()?, &tiles, ...)`.
#[must_use]
pub fn all<T: Voxel, B: Backend>(array: &SparseArray3D<T, B>) -> TileSet {
    TileSet::from_region(array.layout(), Region::whole(array.extent()))
}
