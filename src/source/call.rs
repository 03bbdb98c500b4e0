//! Owns the check of what a source is called with. Knows nothing of any format.

use crate::error::SourceError;
use crate::geometry::{Extent, Region};

/// Refuses a region that leaves `extent`, and a buffer that does not hold exactly its voxels.
pub(crate) fn check_call(extent: Extent, region: Region, buffer_voxels: usize) -> Result<(), SourceError> {
    let fits = region.extent.checked_volume().is_some_and(|v| usize::try_from(v) == Ok(buffer_voxels));
    if fits && region.is_within(extent) {
        Ok(())
    } else {
        Err(SourceError::BadCall { extent, region, buffer_voxels })
    }
}

/// A count of voxels of a buffer that exists, as an index. (Whatever a buffer holds can be indexed, so nothing is cut off.)
#[expect(clippy::cast_possible_truncation, reason = "never larger than a buffer that exists")]
pub(crate) const fn index(voxels: u64) -> usize {
    voxels as usize
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
