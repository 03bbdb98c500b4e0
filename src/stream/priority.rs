//! Owns the order in which wanted tiles are loaded: [`Priority`]. Knows nothing of tiles.

use std::cmp::Ordering;

/// What a tile is wanted for. What is visible comes before what may become so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// The picture lacks it.
    #[default]
    Visible,
    /// Some picture to come may lack it.
    Prefetch,
}

/// How urgently a tile is wanted. **What comes first is less**: visible before prefetched, then coarse levels before fine ones, then near before far.
///
/// ```
/// use vastgrid::Priority;
///
/// let mut wants = [
///     Priority::prefetch(5, 0.0),
///     Priority::visible(0, f32::NAN),
///     Priority::visible(0, 7.0),
///     Priority::visible(0, 2.0),
///     Priority::visible(3, 90.0),
/// ];
/// wants.sort();
/// let order: Vec<_> = wants.iter().map(|p| (p.level, p.distance)).collect();
/// assert_eq!(order[..3], [(3, 90.0), (0, 2.0), (0, 7.0)]);
/// assert!(order[3].1.is_nan());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Priority {
    /// What for.
    pub urgency: Urgency,
    /// The level of a pyramid that the tile belongs to, 0 = full resolution: greater ones come first, because they cover more with less.
    pub level: u8,
    /// How far away it is, in whatever unit the caller compares by. Not a number comes last.
    pub distance: f32,
}

impl Priority {
    /// For a tile that the picture lacks.
    #[must_use]
    pub const fn visible(level: u8, distance: f32) -> Self {
        Self { urgency: Urgency::Visible, level, distance }
    }

    /// For a tile that a picture to come may lack.
    #[must_use]
    pub const fn prefetch(level: u8, distance: f32) -> Self {
        Self { urgency: Urgency::Prefetch, level, distance }
    }
}

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> Ordering {
        self.urgency
            .cmp(&other.urgency)
            .then(other.level.cmp(&self.level))
            .then_with(|| by_distance(self.distance, other.distance))
    }
}

/// A total order: the two zeros are one, and so are all that are no numbers.
fn by_distance(a: f32, b: f32) -> Ordering {
    if a.is_nan() || b.is_nan() {
        return a.is_nan().cmp(&b.is_nan());
    }
    // Adding zero makes -0 into 0.
    (a + 0.0).total_cmp(&(b + 0.0))
}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Priority {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Priority {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_outweighs_level_and_level_outweighs_distance() {
        let order = [
            Priority::visible(2, 9.0),
            Priority::visible(1, f32::NEG_INFINITY),
            Priority::visible(1, -1.0),
            Priority::visible(1, 0.0),
            Priority::visible(1, f32::INFINITY),
            Priority::visible(1, f32::NAN),
            Priority::visible(0, 0.0),
            Priority::prefetch(9, 0.0),
        ];
        assert!(order.is_sorted_by(|a, b| a < b));
        for p in order {
            assert_eq!(p, p);
        }
    }

    #[test]
    fn the_order_is_total_whatever_the_distance() {
        assert_eq!(Priority::visible(0, -0.0), Priority::visible(0, 0.0));
        assert_eq!(Priority::visible(0, f32::NAN), Priority::visible(0, -f32::NAN));
        assert!(Priority::visible(0, -f32::NAN) > Priority::visible(0, f32::INFINITY));
    }
}
