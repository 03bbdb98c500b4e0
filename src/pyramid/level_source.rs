//! Owns [`LevelSource`]: a level's source whose errors name the level. Knows nothing of arrays.

use std::sync::Arc;

use super::source::SharedSource;
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::prepared::Prepared;
use crate::source::{RangeIndex, TileSource, guarded};
use crate::voxel::Voxel;

/// One level of a pyramid, as its array reads it.
pub(super) struct LevelSource<T> {
    pub(super) level: usize,
    pub(super) source: SharedSource<T>,
}

impl<T> LevelSource<T> {
    /// Calls the source: what goes wrong there, a panic included, is told with the level.
    fn named<R>(&self, call: impl FnOnce() -> Result<R, SourceError>) -> Result<R, SourceError> {
        guarded(call).map_err(|error| SourceError::Level { level: self.level, error: Box::new(error) })
    }
}

impl<T: Voxel> TileSource<T> for LevelSource<T> {
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
        self.source.ranges()
    }

    fn will_read(&self, regions: &[Region]) {
        self.source.will_read(regions);
    }

    fn chunk(&self) -> Option<Extent> {
        self.source.chunk()
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
        self.named(|| self.source.prepared(region))
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        self.named(|| self.source.read(region, out))
    }
}
