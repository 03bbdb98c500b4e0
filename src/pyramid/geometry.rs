//! Owns [`LevelGeometry`]: where the voxels of a level lie in level 0. The one place that converts between levels; knows nothing of sources.
//!
//! ```text
//! level 0   | 0 | 1 | 2 | 3 | 4 | 5 | 6 |      7 voxels
//! level 1   |   0   |   1   |   2   |   3   |  4 voxels, factor 2; centres at 0.5, 2.5, 4.5, 6.5
//! ```

use crate::geometry::{Coord, Extent, Region};

/// Where the voxels of one level of a pyramid lie in level 0.
///
/// Voxel `i` of a level with factor `f` covers level-0 voxels `[i f, (i + 1) f)`; its centre lies at level-0 coordinate `(i + 0.5) f - 0.5`. (Coordinates count voxels, with the
/// centre of level-0 voxel `n` at `n`.) Along each axis by itself.
///
/// ```
/// use vastgrid::Extent;
/// use vastgrid::pyramid::LevelGeometry;
///
/// let level = LevelGeometry::new(Extent::new(7, 7, 5), [2.0, 2.0, 1.0]);
/// assert_eq!(level.extent(), Extent::new(4, 4, 5));
/// assert_eq!(level.centre([1, 0, 3]), [2.5, 0.5, 3.0]);
/// assert_eq!(level.to_level([2.5, 0.5, 3.0]), [1.0, 0.0, 3.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelGeometry {
    extent: Extent,
    full: Extent,
    factor: [f64; 3],
}

impl LevelGeometry {
    /// The level of `full`, the extent of level 0, that is reduced by `factor` along x, y and z, its extent rounded up. Factors that are no numbers of at least 1 count as 1.
    #[must_use]
    pub fn new(full: Extent, factor: [f64; 3]) -> Self {
        let factor = factor.map(|f| if f.is_finite() { f.max(1.0) } else { 1.0 });
        Self { extent: reduced(full, factor, f64::ceil), full, factor }
    }

    /// The same level with an extent of its own, such as one that was rounded down.
    pub(super) fn with_extent(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    /// The level's extent if its writer rounded down, but 1 at least.
    pub(super) fn extent_rounded_down(&self) -> Extent {
        reduced(self.full, self.factor, f64::floor)
    }

    /// Size of the level in its own voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Size of level 0 in voxels.
    #[must_use]
    pub fn full_extent(&self) -> Extent {
        self.full
    }

    /// Level-0 voxels per voxel of this level along x, y and z.
    #[must_use]
    pub fn factor(&self) -> [f64; 3] {
        self.factor
    }

    /// Where the centre of a voxel of this level lies in level 0.
    #[must_use]
    #[inline]
    pub fn centre(&self, voxel: impl Into<Coord>) -> [f64; 3] {
        let Coord { x, y, z } = voxel.into();
        self.to_full([x as f64, y as f64, z as f64])
    }

    /// A position of level 0 in coordinates of this level: `(p + 0.5) / f - 0.5`.
    #[must_use]
    #[inline]
    pub fn to_level(&self, [x, y, z]: [f64; 3]) -> [f64; 3] {
        let f = self.factor;
        [(x + 0.5) / f[0] - 0.5, (y + 0.5) / f[1] - 0.5, (z + 0.5) / f[2] - 0.5]
    }

    /// A position of this level in coordinates of level 0: `(q + 0.5) f - 0.5`.
    #[must_use]
    #[inline]
    pub fn to_full(&self, [x, y, z]: [f64; 3]) -> [f64; 3] {
        let f = self.factor;
        [(x + 0.5) * f[0] - 0.5, (y + 0.5) * f[1] - 0.5, (z + 0.5) * f[2] - 0.5]
    }

    /// The voxel of this level that stands for a voxel of level 0: the one that covers its centre, or the nearest where the level's extent was rounded down.
    ///
    /// Positions outside level 0 give voxels outside the level, or its last one.
    #[must_use]
    pub fn voxel_of(&self, full: impl Into<Coord>) -> Coord {
        let (full, extent) = (full.into().to_array(), self.extent.to_array());
        let [x, y, z] = [0, 1, 2].map(|a| {
            let voxel = whole(((full[a] as f64 + 0.5) / self.factor[a]).floor());
            if full[a] < self.full.to_array()[a] { voxel.min(extent[a].saturating_sub(1)) } else { voxel }
        });
        Coord { x, y, z }
    }

    /// The voxels of level 0 that a box of this level covers at least in part, clipped to level 0.
    ///
    /// **Shape**: half-open boxes both. Where the level's extent was rounded down, the last voxels of level 0 are covered by none.
    #[must_use]
    pub fn region_of(&self, region: Region) -> Region {
        let (start, extent) = (region.start.to_array(), region.extent.to_array());
        let ends = [0, 1, 2].map(|a| {
            let from = whole((start[a] as f64 * self.factor[a]).floor());
            let to = whole((start[a].saturating_add(extent[a]) as f64 * self.factor[a]).ceil());
            (from, if extent[a] == 0 { from } else { to })
        });
        let [x, y, z] = ends.map(|(from, _)| from);
        let [w, h, d] = ends.map(|(from, to)| to - from);
        Region::new(Coord { x, y, z }, Extent { x: w, y: h, z: d }).clipped_to(self.full)
    }
}

/// What is left of an extent along each axis, but 1 at least where there is anything.
fn reduced(full: Extent, factor: [f64; 3], round: fn(f64) -> f64) -> Extent {
    let full = full.to_array();
    let [x, y, z] = [0, 1, 2].map(|a| whole(round(full[a] as f64 / factor[a])).max(1).min(full[a]));
    Extent { x, y, z }
}

/// A whole number as an integer; `as` saturates.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded before, never negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_and_positions_agree_for_any_factor() {
        for factor in [[1.0; 3], [2.0, 3.0, 1.0], [2.5, 7.0, 1.125]] {
            let level = LevelGeometry::new(Extent::new(101, 77, 50), factor);
            for voxel in [[0, 0, 0], [1, 2, 3], [30, 10, 44]] {
                let back = level.to_level(level.centre(voxel));
                for axis in 0..3 {
                    assert!((back[axis] - voxel[axis] as f64).abs() < 1e-9, "{factor:?} {voxel:?} {back:?}");
                    let edge = voxel[axis] as f64 * factor[axis];
                    let middle = edge + (factor[axis] - 1.0) / 2.0;
                    assert!((level.centre(voxel)[axis] - middle).abs() < 1e-9);
                }
            }
        }
        let level = LevelGeometry::new(Extent::cube(64), [4.0; 3]);
        assert_eq!(level.to_level([1.5, 5.5, 0.0]), [0.0, 1.0, -0.375]);
    }

    #[test]
    fn every_level_0_voxel_is_covered_once_and_found_again() {
        for factor in [[2.0, 3.0, 5.0], [1.5, 2.25, 1.0]] {
            let level = LevelGeometry::new(Extent::new(13, 11, 7), factor);
            for x in 0..13 {
                let voxel = level.voxel_of([x, 0, 0]);
                assert!(level.extent().contains(voxel));
                assert!(level.region_of(Region::new(voxel, Extent::cube(1))).contains(Coord::new(x, 0, 0)));
            }
        }
        let level = LevelGeometry::new(Extent::new(7, 7, 7), [2.0; 3]);
        let last = Region::new(Coord::new(3, 3, 3), Extent::cube(1));
        assert_eq!(level.region_of(last), Region::new(Coord::new(6, 6, 6), Extent::cube(1)), "clipped");
    }

    #[test]
    fn levels_that_were_rounded_down_answer_with_their_last_voxel() {
        let level = LevelGeometry::new(Extent::cube(7), [2.0; 3]);
        assert_eq!(level.extent_rounded_down(), Extent::cube(3));
        let level = level.with_extent(Extent::cube(3));
        assert_eq!(level.voxel_of([6, 0, 5]), Coord::new(2, 0, 2));
        assert_eq!(level.voxel_of([7, 0, 0]).x, 3, "outside stays outside");
        assert_eq!(LevelGeometry::new(Extent::cube(1), [8.0; 3]).extent_rounded_down(), Extent::cube(1));
    }

    #[test]
    fn odd_values_do_no_harm() {
        let level = LevelGeometry::new(Extent::cube(8), [f64::NAN, f64::INFINITY, -2.0]);
        assert_eq!((level.factor(), level.extent()), ([1.0; 3], Extent::cube(8)));
        let huge = LevelGeometry::new(Extent::cube(u64::MAX), [2.0; 3]);
        let beyond = huge.region_of(Region::new(Coord::new(u64::MAX, 0, 0), Extent::cube(5)));
        assert!(beyond.is_empty());
        assert!(huge.region_of(Region::default()).is_empty());
        assert_eq!(LevelGeometry::new(Extent::cube(0), [2.0; 3]).extent(), Extent::cube(0));
    }
}
