//! Owns [`Ranged`]: any source, with an index of its values that somebody else made. Knows nothing of how.

use std::sync::Arc;

use super::{RangeIndex, TileSource};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::prepared::Prepared;
use crate::voxel::{Scalar, Voxel};

/// A source of whose values more is known than it knows itself.
///
/// ```
/// use std::sync::Arc;
/// use vastgrid::source::{Procedural, RangeIndex, Ranged};
/// use vastgrid::{Extent, TileSource};
///
/// // Of the two halves of this volume the second one is empty.
/// let source = Procedural::new(Extent::new(16, 8, 8), |c| u8::from(c.x < 8) * 200);
/// let index = RangeIndex::from_parts(source.extent(), Extent::cube(8), vec![200, 0], vec![200, 0])?;
/// let source = Ranged::new(source, Arc::new(index))?;
/// assert_eq!(source.ranges().unwrap().known(), 2);
/// # Ok::<(), vastgrid::SourceError>(())
/// ```
#[derive(Debug)]
pub struct Ranged<S, T> {
    source: S,
    index: Arc<RangeIndex<T>>,
}

impl<S: TileSource<T>, T: Scalar> Ranged<S, T> {
    /// Adds an index, which must agree with the source's voxels: where it does not, pictures lack what it says is not there. It takes the place of the source's own.
    ///
    /// # Errors
    /// [`SourceError::RangeIndex`]: it is of a volume of another extent.
    pub fn new(source: S, index: Arc<RangeIndex<T>>) -> Result<Self, SourceError> {
        if index.extent() != source.extent() {
            let (extent, cell, values) = (index.extent(), index.cell(), index.least().len() as u64);
            return Err(SourceError::RangeIndex {
                extent,
                cell,
                values,
                reason: "the source has another extent",
            });
        }
        Ok(Self { source, index })
    }
}

impl<S: TileSource<T>, T: Voxel> TileSource<T> for Ranged<S, T> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn fill_value(&self) -> T {
        self.source.fill_value()
    }

    fn uniform(&self, region: Region) -> Option<T> {
        self.source.uniform(region)
    }

    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        Some(self.index.clone())
    }

    fn will_read(&self, regions: &[Region]) {
        self.source.will_read(regions);
    }

    fn chunk(&self) -> Option<Extent> {
        self.source.chunk()
    }

    fn will_read_all(&self) {
        self.source.will_read_all();
    }

    fn kept_bytes(&self) -> u64 {
        self.source.kept_bytes()
    }

    fn keep_at_most(&self, bytes: u64) {
        self.source.keep_at_most(bytes);
    }

    fn only_copies(&self) -> bool {
        self.source.only_copies()
    }

    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        self.source.prepared(region)
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        self.source.read(region, out)
    }
}
