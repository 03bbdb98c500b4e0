//! Owns [`Procedural`]: voxels that are computed, not read. Knows nothing of files or tiles.
//!
//! ```
//! use vastgrid::source::Procedural;
//! use vastgrid::{Coord, Extent, Region, TileSource};
//!
//! // A ball of ones in a volume of 2^60 voxels, of which nothing is ever stored.
//! let centre = 1 << 19;
//! let ball = Procedural::new(Extent::cube(1 << 20), move |c: Coord| {
//!     let d = [c.x, c.y, c.z].map(|v| v.abs_diff(centre).pow(2)).iter().sum::<u64>();
//!     u8::from(d < 100 * 100)
//! })
//! .with_uniform(move |r| (r.start.x > centre + 100).then_some(0)); // these tiles never take memory
//!
//! let mut out = [9; 2];
//! ball.read(Region::new(Coord::new(centre + 99, centre, centre), Extent::new(2, 1, 1)), &mut out)?;
//! assert_eq!(out, [1, 0]);
//! # Ok::<(), vastgrid::SourceError>(())
//! ```

use std::fmt;

use super::TileSource;
use super::call::{check_call, index};
use crate::error::SourceError;
use crate::geometry::{Coord, Extent, Region};
use crate::voxel::Voxel;

type Fill<T> = Box<dyn Fn(Region, &mut [T]) + Send + Sync>;
type Uniform<T> = Box<dyn Fn(Region) -> Option<T> + Send + Sync>;

/// A source whose voxels are computed by a closure.
///
/// **Cost**: one dynamic call per region; the loop over its voxels is compiled together with the closure.
pub struct Procedural<T> {
    extent: Extent,
    fill_value: T,
    fill: Fill<T>,
    uniform: Option<Uniform<T>>,
}

impl<T: Voxel> Procedural<T> {
    /// Computes each voxel by itself.
    #[must_use]
    pub fn new(extent: Extent, voxel: impl Fn(Coord) -> T + Send + Sync + 'static) -> Self {
        Self::by_region(extent, move |region, out| {
            let Region { start, extent } = region;
            let rows = out.chunks_exact_mut(index(extent.x).max(1));
            for (row, voxels) in (0..).zip(rows) {
                let (y, z) = (start.y + row % extent.y, start.z + row / extent.y);
                for (x, out) in (start.x..).zip(voxels) {
                    *out = voxel(Coord { x, y, z });
                }
            }
        })
    }

    /// Computes a whole region at a time, for what is cheaper so.
    ///
    /// **Shape**: the closure is given a half-open region inside the extent and exactly its voxels, x fastest, then y, then z. It writes every one of them:
    /// what they hold before is unspecified.
    #[must_use]
    pub fn by_region(extent: Extent, region: impl Fn(Region, &mut [T]) + Send + Sync + 'static) -> Self {
        Self { extent, fill_value: T::zeroed(), fill: Box::new(region), uniform: None }
    }

    /// Sets what voxels hold that do not exist (zero unless set).
    #[must_use]
    pub fn with_fill(mut self, value: T) -> Self {
        self.fill_value = value;
        self
    }

    /// Adds what is known without computing: the one value that all of a region holds, if there is one. It must agree with the voxels.
    #[must_use]
    pub fn with_uniform(mut self, uniform: impl Fn(Region) -> Option<T> + Send + Sync + 'static) -> Self {
        self.uniform = Some(Box::new(uniform));
        self
    }
}

impl<T: Voxel> TileSource<T> for Procedural<T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn fill_value(&self) -> T {
        self.fill_value
    }

    fn uniform(&self, region: Region) -> Option<T> {
        self.uniform.as_ref().and_then(|uniform| uniform(region))
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call(self.extent, region, out.len())?;
        (self.fill)(region, out);
        Ok(())
    }
}

impl<T: Voxel> fmt::Debug for Procedural<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Procedural")
            .field("extent", &self.extent)
            .field("fill_value", &self.fill_value)
            .field("knows_uniform", &self.uniform.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
mod tests {
    use super::*;

    #[test]
    fn voxels_come_in_order_x_y_z() {
        let source = Procedural::new(Extent::cube(10), |c| (c.z * 100 + c.y * 10 + c.x) as u32);
        let mut out = [0; 12];
        source.read(Region::new(Coord::new(7, 4, 1), Extent::new(3, 2, 2)), &mut out).unwrap();
        assert_eq!(out, [147, 148, 149, 157, 158, 159, 247, 248, 249, 257, 258, 259]);
    }

    #[test]
    fn a_region_without_voxels_calls_nothing() {
        let source: Procedural<u8> = Procedural::new(Extent::cube(10), |_| panic!("called"));
        source.read(Region::new(Coord::new(3, 3, 3), Extent::new(0, 4, 4)), &mut []).unwrap();
        source.read(Region::new(Coord::new(3, 3, 3), Extent::new(4, 0, 4)), &mut []).unwrap();
    }

    #[test]
    fn bad_calls_are_refused() {
        let source = Procedural::new(Extent::cube(10), |_| 1u8);
        let outside = Region::new(Coord::new(9, 0, 0), Extent::new(2, 1, 1));
        assert!(matches!(source.read(outside, &mut [0; 2]), Err(SourceError::BadCall { .. })));
        let inside = Region::whole(Extent::new(2, 1, 1));
        assert!(matches!(source.read(inside, &mut [0; 3]), Err(SourceError::BadCall { .. })));
    }

    #[test]
    fn fill_and_uniform_are_as_told() {
        let source = Procedural::by_region(Extent::cube(8), |_, out| out.fill(3i16)).with_fill(-1000);
        assert_eq!(source.fill_value(), -1000);
        assert_eq!(source.uniform(Region::whole(Extent::cube(8))), None);
        let source = source.with_uniform(|r| (r.start.x >= 4).then_some(3));
        assert_eq!(source.uniform(Region::new(Coord::new(4, 0, 0), Extent::cube(4))), Some(3));
        assert_eq!(source.uniform(Region::whole(Extent::cube(8))), None);
    }
}
