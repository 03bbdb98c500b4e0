//! Owns [`Fill`]: one value everywhere. Where arrays begin that are written to.

use super::TileSource;
use super::call::check_call;
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Voxel;

/// A volume that holds one value: what an array begins with that is written to.
///
/// Nothing of it takes memory, whatever the extent.
///
/// ```
/// use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, source::Fill};
///
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(1 << 13), -1.0f32)).build()?;
/// assert_eq!(array.get([8000, 1, 2])?, -1.0);
/// assert_eq!(pool.stats().used_bytes, 0);
/// # Ok::<_, vastgrid::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fill<T> {
    extent: Extent,
    value: T,
}

impl<T: Voxel> Fill<T> {
    /// `value` at every voxel of `extent`. It is the array's fill value too.
    pub fn new(extent: Extent, value: T) -> Self {
        Self { extent, value }
    }
}

impl<T: Voxel> TileSource<T> for Fill<T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn fill_value(&self) -> T {
        self.value
    }

    fn uniform(&self, _: Region) -> Option<T> {
        Some(self.value)
    }

    fn only_copies(&self) -> bool {
        true
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent, region, out.len())?;
        out.fill(self.value);
        Ok(())
    }
}
