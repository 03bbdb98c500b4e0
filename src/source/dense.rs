//! Owns [`Dense`]: a volume that is in memory as a whole already, such as one that is larger than a device's. Knows nothing of files.
//!
//! ```
//! use vastgrid::source::Dense;
//! use vastgrid::{Coord, Extent, Region, TileSource};
//!
//! let voxels: Vec<u16> = (0..4 * 3 * 2).collect();
//! let source = Dense::new(voxels, Extent::new(4, 3, 2))?;
//! let mut out = [0; 4];
//! source.read(Region::new(Coord::new(1, 1, 0), Extent::new(2, 1, 2)), &mut out)?;
//! assert_eq!(out, [5, 6, 17, 18]);
//! # Ok::<(), vastgrid::SourceError>(())
//! ```

use std::fmt;
use std::marker::PhantomData;

use super::TileSource;
use super::call::{check_call, index};
use crate::error::SourceError;
use crate::geometry::{Coord, Extent, Region};
use crate::voxel::Voxel;

/// A source over voxels in memory: a `Vec`, an `Arc<[T]>`, a mapped file, anything that lends a slice.
///
/// **Cost**: a copy of each row of a region. Tiles for a device are copied to page-locked memory first; tiles that are there already are better given by [`TileSource::prepared`].
pub struct Dense<T, V> {
    voxels: V,
    extent: Extent,
    fill_value: T,
    holds: PhantomData<fn() -> T>,
}

impl<T: Voxel, V: AsRef<[T]>> Dense<T, V> {
    /// Over `voxels`, x fastest, then y, then z.
    ///
    /// # Errors
    /// [`SourceError::Shape`] for an extent that is empty or overflows, [`SourceError::BadCall`] where there are more or fewer voxels than it has.
    pub fn new(voxels: V, extent: Extent) -> Result<Self, SourceError> {
        if extent.checked_volume().is_none_or(|volume| volume == 0) {
            let (location, voxel_bytes) = (String::new(), size_of::<T>());
            return Err(SourceError::Shape { location, extent, voxel_bytes });
        }
        check_call(extent, Region::whole(extent), voxels.as_ref().len())?;
        Ok(Self { voxels, extent, fill_value: T::zeroed(), holds: PhantomData })
    }

    /// Sets what voxels hold that do not exist (zero unless set).
    #[must_use]
    pub fn with_fill(mut self, value: T) -> Self {
        self.fill_value = value;
        self
    }
}

impl<T: Voxel, V: AsRef<[T]> + Send + Sync> TileSource<T> for Dense<T, V> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn fill_value(&self) -> T {
        self.fill_value
    }

    fn only_copies(&self) -> bool {
        true
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent, region, out.len())?;
        // A container that lends another slice than it did before is an error, no panic.
        let voxels = self.voxels.as_ref();
        check_call(self.extent, Region::whole(self.extent), voxels.len())?;
        let Region { start: Coord { x, y, z }, extent } = region;
        let width = index(extent.x);
        for (row, to) in (0u64..).zip(out.chunks_exact_mut(width.max(1))) {
            let (y, z) = (y + row % extent.y, z + row / extent.y);
            let from = index((z * self.extent.y + y) * self.extent.x + x);
            to.copy_from_slice(&voxels[from..from + width]);
        }
        Ok(())
    }
}

impl<T: Voxel, V> fmt::Debug for Dense<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dense")
            .field("extent", &self.extent)
            .field("fill_value", &self.fill_value)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_its_voxels() {
        let extent = Extent::new(7, 5, 3);
        let voxels: std::sync::Arc<[u32]> = (0..105).collect();
        let source = Dense::new(voxels.clone(), extent).unwrap().with_fill(9);
        assert_eq!((source.fill_value(), source.only_copies()), (9, true));
        let mut all = vec![0; 105];
        source.read(Region::whole(extent), &mut all).unwrap();
        assert_eq!(all[..], voxels[..]);
        let region = Region::new(Coord::new(2, 1, 1), Extent::new(4, 3, 2));
        let mut part = [0; 24];
        source.read(region, &mut part).unwrap();
        for (i, &v) in (0u32..).zip(&part) {
            assert_eq!(v, (1 + i / 12) * 35 + (1 + i / 4 % 3) * 7 + 2 + i % 4);
        }
        source.read(Region::new(Coord::new(3, 2, 1), Extent::new(0, 2, 1)), &mut []).unwrap();
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let error = Dense::new(vec![0u8; 7], Extent::cube(2)).unwrap_err();
        assert!(matches!(error, SourceError::BadCall { buffer_voxels: 7, .. }), "{error}");
        for extent in [Extent::new(0, 4, 4), Extent::cube(1 << 40)] {
            let error = Dense::new(vec![0u8; 0], extent).unwrap_err();
            assert!(matches!(error, SourceError::Shape { .. }), "{error}");
        }
        let source = Dense::new(vec![0u8; 8], Extent::cube(2)).unwrap();
        assert!(source.read(Region::whole(Extent::cube(3)), &mut [0; 27]).is_err());
    }
}
