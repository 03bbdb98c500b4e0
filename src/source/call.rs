//! Owns how sources are called: the check of what with, and panics as errors. Knows nothing of any format.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::SourceError;
use crate::geometry::{Extent, Region};

/// Refuses a region that leaves `extent`, and a buffer that does not hold exactly its voxels.
pub(crate) fn check_call(extent: Extent, region: Region, buffer_voxels: usize) -> Result<(), SourceError> {
    check_call_of(String::new, extent, region, buffer_voxels)
}

/// The same, of a source that can say which file it reads.
pub(crate) fn check_call_of(
    location: impl FnOnce() -> String,
    extent: Extent,
    region: Region,
    buffer_voxels: usize,
) -> Result<(), SourceError> {
    let fits = region.extent.checked_volume().is_some_and(|v| usize::try_from(v) == Ok(buffer_voxels));
    if fits && region.is_within(extent) {
        Ok(())
    } else {
        Err(SourceError::BadCall { location: location(), extent, region, buffer_voxels })
    }
}

/// A count of voxels of a buffer that exists, as an index. (Whatever a buffer holds can be indexed, so nothing is cut off.)
#[expect(clippy::cast_possible_truncation, reason = "never larger than a buffer that exists")]
pub(crate) const fn index(voxels: u64) -> usize {
    voxels as usize
}

/// Calls into a source: a panic there is an error of the tile.
pub(crate) fn guarded<R>(call: impl FnOnce() -> Result<R, SourceError>) -> Result<R, SourceError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let message = message(panic.as_ref());
        // What was thrown may panic again when it is dropped.
        std::mem::forget(panic);
        Err(SourceError::Panicked { message })
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Coord;

    #[test]
    fn only_regions_inside_with_a_buffer_of_their_size_pass() {
        let extent = Extent::new(10, 5, 2);
        let at = |x, e| Region::new(Coord::new(x, 0, 0), e);
        assert!(check_call(extent, at(4, Extent::new(6, 5, 2)), 60).is_ok());
        assert!(check_call(extent, at(4, Extent::new(6, 5, 2)), 59).is_err());
        assert!(check_call(extent, at(5, Extent::new(6, 5, 2)), 60).is_err());
        assert!(check_call(extent, at(u64::MAX, Extent::new(2, 1, 1)), 2).is_err());
        assert!(check_call(extent, at(0, Extent::cube(1 << 40)), 0).is_err(), "a volume that overflows");
    }
}
