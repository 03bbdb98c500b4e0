//! Owns boxes and positions of voxels: [`Coord`], [`Extent`], [`Region`]. Knows nothing of tiles, bytes or memory.
//!
//! ```
//! use vastgrid::{Coord, Extent, Region};
//!
//! let volume = Extent::new(300, 200, 100);
//! let corner = Region::new(Coord::new(290, 0, 0), Extent::new(32, 32, 32));
//! assert_eq!(corner.clipped_to(volume).extent, Extent::new(10, 32, 32));
//! ```

use std::fmt;

pub(crate) mod boxes;

/// A position in voxels. `x` varies fastest in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Coord {
    /// Position along the fastest axis.
    pub x: u64,
    /// Position along the middle axis.
    pub y: u64,
    /// Position along the slowest axis.
    pub z: u64,
}

impl Coord {
    /// The position (x, y, z).
    #[must_use]
    #[inline]
    pub const fn new(x: u64, y: u64, z: u64) -> Self {
        Self { x, y, z }
    }

    /// From the order of `NumPy` and Zarr, slowest axis first.
    #[must_use]
    #[inline]
    pub const fn from_zyx([z, y, x]: [u64; 3]) -> Self {
        Self { x, y, z }
    }

    /// In the order of `NumPy` and Zarr, slowest axis first.
    #[must_use]
    #[inline]
    pub const fn to_zyx(self) -> [u64; 3] {
        [self.z, self.y, self.x]
    }

    /// As an array, fastest axis first.
    #[must_use]
    #[inline]
    pub const fn to_array(self) -> [u64; 3] {
        [self.x, self.y, self.z]
    }
}

impl From<[u64; 3]> for Coord {
    /// From `[x, y, z]`.
    #[inline]
    fn from([x, y, z]: [u64; 3]) -> Self {
        Self { x, y, z }
    }
}

impl fmt::Display for Coord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}, {})", self.x, self.y, self.z)
    }
}

/// A size in voxels (or in whatever the context counts) along each axis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[doc(alias = "shape")]
#[doc(alias = "dimensions")]
pub struct Extent {
    /// Size along the fastest axis.
    pub x: u64,
    /// Size along the middle axis.
    pub y: u64,
    /// Size along the slowest axis.
    pub z: u64,
}

impl Extent {
    /// The size x by y by z.
    #[must_use]
    #[inline]
    pub const fn new(x: u64, y: u64, z: u64) -> Self {
        Self { x, y, z }
    }

    /// A cube of the given edge.
    #[must_use]
    #[inline]
    pub const fn cube(edge: u64) -> Self {
        Self { x: edge, y: edge, z: edge }
    }

    /// From the order of `NumPy` and Zarr, slowest axis first.
    #[must_use]
    #[inline]
    pub const fn from_zyx([z, y, x]: [u64; 3]) -> Self {
        Self { x, y, z }
    }

    /// In the order of `NumPy` and Zarr, slowest axis first.
    #[must_use]
    #[inline]
    pub const fn to_zyx(self) -> [u64; 3] {
        [self.z, self.y, self.x]
    }

    /// As an array, fastest axis first.
    #[must_use]
    #[inline]
    pub const fn to_array(self) -> [u64; 3] {
        [self.x, self.y, self.z]
    }

    /// Number of voxels, or `None` where that overflows 64 bits.
    #[must_use]
    pub const fn checked_volume(self) -> Option<u64> {
        match self.x.checked_mul(self.y) {
            Some(area) => area.checked_mul(self.z),
            None => None,
        }
    }

    /// Whether any side is zero.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.x == 0 || self.y == 0 || self.z == 0
    }

    /// Whether `c` lies inside the box from the origin to this extent.
    #[must_use]
    #[inline]
    pub const fn contains(self, c: Coord) -> bool {
        c.x < self.x && c.y < self.y && c.z < self.z
    }
}

impl From<[u64; 3]> for Extent {
    /// From `[x, y, z]`.
    #[inline]
    fn from([x, y, z]: [u64; 3]) -> Self {
        Self { x, y, z }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.x, self.y, self.z)
    }
}

/// A half-open box of voxels: from `start` up to, but not including, `start + extent`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Region {
    /// First voxel.
    pub start: Coord,
    /// Size.
    pub extent: Extent,
}

impl Region {
    /// The box that begins at `start`.
    #[must_use]
    #[inline]
    pub const fn new(start: Coord, extent: Extent) -> Self {
        Self { start, extent }
    }

    /// The box from the origin.
    #[must_use]
    pub const fn whole(extent: Extent) -> Self {
        Self { start: Coord::new(0, 0, 0), extent }
    }

    /// One past the last voxel, or `None` where that overflows 64 bits.
    #[must_use]
    pub fn end(&self) -> Option<Coord> {
        Some(Coord {
            x: self.start.x.checked_add(self.extent.x)?,
            y: self.start.y.checked_add(self.extent.y)?,
            z: self.start.z.checked_add(self.extent.z)?,
        })
    }

    /// Whether the box has no voxel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.extent.is_empty()
    }

    /// Whether the whole box lies inside the box from the origin to `bounds`.
    #[must_use]
    pub fn is_within(&self, bounds: Extent) -> bool {
        self.end().is_some_and(|e| e.x <= bounds.x && e.y <= bounds.y && e.z <= bounds.z)
    }

    /// Whether `c` lies inside.
    #[must_use]
    #[inline]
    pub const fn contains(&self, c: Coord) -> bool {
        c.x >= self.start.x
            && c.y >= self.start.y
            && c.z >= self.start.z
            && c.x - self.start.x < self.extent.x
            && c.y - self.start.y < self.extent.y
            && c.z - self.start.z < self.extent.z
    }

    /// The part that lies inside the box from the origin to `bounds` (empty where there is none).
    #[must_use]
    #[inline]
    pub fn clipped_to(&self, bounds: Extent) -> Self {
        let clip = |start: u64, size: u64, bound: u64| size.min(bound.saturating_sub(start));
        Self {
            start: self.start,
            extent: Extent {
                x: clip(self.start.x, self.extent.x, bounds.x),
                y: clip(self.start.y, self.extent.y, bounds.y),
                z: clip(self.start.z, self.extent.z, bounds.z),
            },
        }
    }

    /// The part that both boxes share, if any.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (a, b) = (self.end()?, other.end()?);
        let start = Coord {
            x: self.start.x.max(other.start.x),
            y: self.start.y.max(other.start.y),
            z: self.start.z.max(other.start.z),
        };
        let end = Coord { x: a.x.min(b.x), y: a.y.min(b.y), z: a.z.min(b.z) };
        (start.x < end.x && start.y < end.y && start.z < end.z).then(|| Self {
            start,
            extent: Extent { x: end.x - start.x, y: end.y - start.y, z: end.z - start.z },
        })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.extent, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersection_is_the_shared_box() {
        let a = Region::new(Coord::new(0, 0, 0), Extent::cube(10));
        let b = Region::new(Coord::new(8, 9, 4), Extent::cube(10));
        let both = a.intersection(&b).unwrap();
        assert_eq!(both, Region::new(Coord::new(8, 9, 4), Extent::new(2, 1, 6)));
        assert_eq!(a.intersection(&Region::new(Coord::new(10, 0, 0), Extent::cube(1))), None);
    }

    #[test]
    fn ends_that_overflow_are_not_within_anything() {
        let r = Region::new(Coord::new(u64::MAX, 0, 0), Extent::cube(2));
        assert_eq!(r.end(), None);
        assert!(!r.is_within(Extent::cube(u64::MAX)));
        assert!(!r.contains(Coord::new(0, 0, 0)), "no wrap-around");
    }
}
