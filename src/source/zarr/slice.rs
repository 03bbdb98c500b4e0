//! Owns [`ZarrSlice`]: which dimensions of an array are x, y and z, and where along the others. Knows nothing of chunks.

use crate::error::SourceError;
use crate::geometry::Extent;

/// Three dimensions of an array, or fewer, that are read as a volume, at fixed places along all others.
///
/// ```
/// use vastgrid::source::ZarrSlice;
///
/// // An array of t, c, z, y, x: the second channel at time 7.
/// let slice = ZarrSlice::last(5).with_index(0, 7).with_index(1, 1);
/// assert_eq!((slice.z, slice.y, slice.x), (Some(2), Some(3), 4));
/// // A picture is a volume of one plane.
/// assert_eq!(ZarrSlice::last(2).z, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZarrSlice {
    /// The dimension that is x.
    pub x: usize,
    /// The dimension that is y; without one the volume is one row.
    pub y: Option<usize>,
    /// The dimension that is z; without one the volume is one plane.
    pub z: Option<usize>,
    /// Where along the others: dimension and place. Dimensions that are not in it are at 0.
    pub at: Vec<(usize, u64)>,
}

impl ZarrSlice {
    /// Of an array of so many dimensions the last three, as z, y and x; all others at 0.
    #[must_use]
    pub fn last(dimensions: usize) -> Self {
        let back = |n: usize| dimensions.checked_sub(n);
        Self { x: back(1).unwrap_or(0), y: back(2), z: back(3), at: Vec::new() }
    }

    /// Sets the place along another dimension.
    #[must_use]
    pub fn with_index(mut self, dimension: usize, index: u64) -> Self {
        self.at.retain(|(d, _)| *d != dimension);
        self.at.push((dimension, index));
        self
    }

    /// The dimensions that are x, y and z.
    pub(super) fn axes(&self) -> [Option<usize>; 3] {
        [Some(self.x), self.y, self.z]
    }

    /// Size of the volume along x, y and z, from values per dimension.
    pub(super) fn pick(&self, of_dimensions: &[u64]) -> [u64; 3] {
        self.axes().map(|axis| axis.and_then(|d| of_dimensions.get(d).copied()).unwrap_or(1))
    }

    /// The place along every dimension; 0 along x, y and z.
    pub(super) fn origin(&self, dimensions: usize) -> Vec<u64> {
        let mut origin = vec![0; dimensions];
        for &(dimension, index) in &self.at {
            if let Some(at) = origin.get_mut(dimension) {
                *at = index;
            }
        }
        origin
    }

    /// Refuses dimensions and places that an array of this shape does not have. Returns the volume's extent.
    pub(super) fn check(&self, location: &str, shape: &[u64]) -> Result<Extent, SourceError> {
        let refuse = |reason: String| {
            Err(SourceError::Unsupported {
                location: location.to_owned(),
                what: "the slice",
                value: format!("{reason} of an array of shape {shape:?}"),
            })
        };
        let used: Vec<_> = self.axes().into_iter().flatten().collect();
        for (nth, &dimension) in used.iter().enumerate() {
            if dimension >= shape.len() || used[..nth].contains(&dimension) {
                return refuse(format!("x, y, z at dimensions {used:?}"));
            }
        }
        for &(dimension, index) in &self.at {
            match shape.get(dimension) {
                Some(&count) if !used.contains(&dimension) => {
                    if index >= count {
                        let location = format!("{location}, dimension {dimension}");
                        return Err(SourceError::NoSuch { location, what: "place", index, count });
                    }
                }
                _ => return refuse(format!("index {index} along dimension {dimension}")),
            }
        }
        Ok(Extent::from(self.pick(shape)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dimensions_and_places_that_are_there_pass() {
        let shape = [3, 2, 30, 40, 50];
        let last = ZarrSlice::last(5);
        assert_eq!(last.check("a", &shape).unwrap(), Extent::new(50, 40, 30));
        assert_eq!(last.clone().with_index(0, 1).with_index(0, 2).origin(5), [2, 0, 0, 0, 0]);
        assert_eq!(ZarrSlice::last(2).check("a", &[7, 9]).unwrap(), Extent::new(9, 7, 1));
        assert_eq!(ZarrSlice::last(1).check("a", &[7]).unwrap(), Extent::new(7, 1, 1));
        let turned = ZarrSlice { x: 2, y: Some(4), z: Some(0), at: vec![(3, 39)] };
        assert_eq!(turned.check("a", &shape).unwrap(), Extent::new(30, 50, 3));
        let beyond = last.clone().with_index(0, 3).check("a", &shape).unwrap_err();
        assert_eq!(beyond.to_string(), "a, dimension 0: there is no place 3; it has 3, counted from 0");
        for bad in [
            last.clone().with_index(2, 0),
            last.with_index(5, 0),
            ZarrSlice::last(6),
            ZarrSlice { y: Some(2), ..ZarrSlice::last(5) },
        ] {
            assert!(matches!(bad.check("a", &shape), Err(SourceError::Unsupported { .. })), "{bad:?}");
        }
        assert!(ZarrSlice::last(0).check("a", &[]).is_err(), "an array without dimensions");
    }
}
