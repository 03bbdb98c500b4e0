//! Owns how values become colour and opacity: [`TransferFunction`]. Its text form is in `transfer_text`, its table for rendering in `table`.
//!
//! ```
//! use vastgrid::render::TransferFunction;
//!
//! let bones = TransferFunction::new(&[(200.0, 0.0), (1200.0, 0.9)], &[(0.0, [1.0, 0.9, 0.8])], 1.0)?;
//! assert_eq!(bones.evaluate(700.0)[3], 0.45);
//! assert_eq!(TransferFunction::from_text(&bones.to_text())?, bones);
//! # Ok::<(), vastgrid::render::RenderError>(())
//! ```

use super::error::{RenderError, checked};

/// Two piecewise linear functions of the value: opacity and colour.
///
/// Between points values are interpolated; before the first and after the last point the function stays as it is there. Two points at the
/// same value are a step.
#[derive(Clone, Debug, PartialEq)]
#[doc(alias = "colour map")]
#[doc(alias = "lut")]
pub struct TransferFunction {
    opacity: Vec<(f32, f32)>,
    colour: Vec<(f32, [f32; 3])>,
    unit_distance: f32,
}

/// The most points of either list.
pub const MAX_POINTS: usize = 4096;

impl TransferFunction {
    /// From points in rising order of value: (value, opacity) and (value, colour), each component from 0 to 1.
    ///
    /// **Units**: opacity is what a ray meets along `unit_distance` of the world.
    ///
    /// # Errors
    /// [`RenderError::TransferPoint`] where a list is empty, too long or out of order, or a number out of range; [`RenderError::Value`] for the distance.
    pub fn new(
        opacity: &[(f32, f32)],
        colour: &[(f32, [f32; 3])],
        unit_distance: f32,
    ) -> Result<Self, RenderError> {
        check_points("opacity", opacity.iter().map(|&(v, a)| (v, [a; 3])))?;
        check_points("colour", colour.iter().copied())?;
        checked("unit distance", unit_distance.into(), "above 0", |v| v > 0.0)?;
        Ok(Self { opacity: opacity.to_vec(), colour: colour.to_vec(), unit_distance })
    }

    /// Black and clear at `low` to white and opaque at `high`.
    ///
    /// # Errors
    /// [`RenderError::TransferPoint`] where they are not finite or out of order.
    pub fn grey_ramp(low: f32, high: f32) -> Result<Self, RenderError> {
        Self::new(&[(low, 0.0), (high, 1.0)], &[(low, [0.0; 3]), (high, [1.0; 3])], 1.0)
    }

    /// The same function, stretched so that its domain lies where a radiologist's window does: `width` wide around `level`.
    ///
    /// # Errors
    /// [`RenderError::Value`] where they are not finite, or the width not above 0.
    pub fn window_level(&self, width: f32, level: f32) -> Result<Self, RenderError> {
        checked("window width", width.into(), "above 0", |v| v > 0.0)?;
        checked("window level", level.into(), "finite", |_| true)?;
        let (low, high) = self.domain();
        let scale = if high > low { width / (high - low) } else { 0.0 };
        let moved = |v: f32| (level - 0.5 * width) + (v - low) * scale;
        let opacity: Vec<_> = self.opacity.iter().map(|&(v, a)| (moved(v), a)).collect();
        let colour: Vec<_> = self.colour.iter().map(|&(v, c)| (moved(v), c)).collect();
        Self::new(&opacity, &colour, self.unit_distance)
    }

    /// The same function with opacities per another distance.
    ///
    /// # Errors
    /// [`RenderError::Value`] where the distance is not finite and above 0.
    pub fn with_unit_distance(&self, unit_distance: f32) -> Result<Self, RenderError> {
        Self::new(&self.opacity, &self.colour, unit_distance)
    }

    /// The least and the greatest value that any point lies at.
    #[must_use]
    pub fn domain(&self) -> (f32, f32) {
        let values = || self.opacity.iter().map(|p| p.0).chain(self.colour.iter().map(|p| p.0));
        (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
    }

    /// The opacity points.
    #[must_use]
    pub fn opacity(&self) -> &[(f32, f32)] {
        &self.opacity
    }

    /// The colour points.
    #[must_use]
    pub fn colour(&self) -> &[(f32, [f32; 3])] {
        &self.colour
    }

    /// The distance in the world that opacities are given for.
    #[must_use]
    pub fn unit_distance(&self) -> f32 {
        self.unit_distance
    }

    /// Red, green, blue and opacity (not premultiplied) of a value. NaN is clear black.
    #[must_use]
    pub fn evaluate(&self, value: f32) -> [f32; 4] {
        if value.is_nan() {
            return [0.0; 4];
        }
        let [r, g, b] = interpolate(&self.colour, value, |a, b, f| {
            [a[0] + (b[0] - a[0]) * f, a[1] + (b[1] - a[1]) * f, a[2] + (b[2] - a[2]) * f]
        });
        [r, g, b, interpolate(&self.opacity, value, |a, b, f| a + (b - a) * f)]
    }

    /// The least distance between two points that are no step, or `None` where there is none.
    pub(crate) fn shortest_segment(&self) -> Option<f32> {
        fn least<C>(points: &[(f32, C)]) -> f32 {
            let gaps = points.windows(2).map(|p| p[1].0 - p[0].0);
            gaps.filter(|&gap| gap > 0.0).fold(f32::INFINITY, f32::min)
        }
        Some(least(&self.opacity).min(least(&self.colour))).filter(|gap| gap.is_finite())
    }
}

fn interpolate<C: Copy + Default>(points: &[(f32, C)], value: f32, mix: impl Fn(C, C, f32) -> C) -> C {
    let after = points.partition_point(|p| p.0 <= value);
    let before = after.checked_sub(1).and_then(|i| points.get(i));
    match (before, points.get(after)) {
        (Some(a), Some(b)) => mix(a.1, b.1, (value - a.0) / (b.0 - a.0)),
        (Some(only), None) | (None, Some(only)) => only.1,
        (None, None) => C::default(),
    }
}

fn check_points(
    list: &'static str,
    points: impl ExactSizeIterator<Item = (f32, [f32; 3])>,
) -> Result<(), RenderError> {
    let bad = |index, problem| Err(RenderError::TransferPoint { list, index, problem });
    match points.len() {
        0 => return bad(0, "there must be one at least"),
        n if n > MAX_POINTS => return bad(MAX_POINTS, "there are too many"),
        _ => {}
    }
    let mut last = f32::NEG_INFINITY;
    for (index, (value, parts)) in points.enumerate() {
        if !value.is_finite() || value.abs() > 1e30 {
            return bad(index, "the value must be a number within -1e30 to 1e30");
        }
        if value < last {
            return bad(index, "values must not fall");
        }
        if !parts.iter().all(|p| (0.0..=1.0).contains(p)) {
            return bad(index, "every part must be from 0 to 1");
        }
        last = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_joined_by_lines_and_held_at_the_ends() {
        let steps = [(0.0, 0.0), (10.0, 0.5), (10.0, 1.0), (20.0, 0.0)];
        let f = TransferFunction::new(&steps, &[(5.0, [1.0, 0.0, 0.0])], 1.0).unwrap();
        let alpha = |v| f.evaluate(v)[3];
        assert_eq!(
            [alpha(-1.0), alpha(5.0), alpha(10.0), alpha(15.0), alpha(21.0)],
            [0.0, 0.25, 1.0, 0.5, 0.0]
        );
        assert_eq!(f.evaluate(f32::NAN), [0.0; 4]);
        assert_eq!(f.evaluate(-99.0)[0], 1.0);
        assert_eq!(f.shortest_segment(), Some(10.0));
    }

    #[test]
    fn a_window_maps_the_domain() {
        let f = TransferFunction::grey_ramp(0.0, 1.0).unwrap().window_level(400.0, 40.0).unwrap();
        assert_eq!(f.domain(), (-160.0, 240.0));
        assert_eq!(f.evaluate(40.0), [0.5; 4]);
        assert!(f.window_level(0.0, 1.0).is_err() && f.window_level(1.0, f32::NAN).is_err());
    }

    #[test]
    fn bad_points_are_refused() {
        let white = [(0.0, [1.0; 3])];
        let new = |points: &[(f32, f32)]| TransferFunction::new(points, &white, 1.0);
        assert!(new(&[]).is_err() && new(&[(f32::NAN, 0.0)]).is_err() && new(&[(0.0, 1.5)]).is_err());
        assert!(new(&[(1.0, 0.0), (0.0, 0.0)]).is_err() && new(&vec![(0.0, 0.0); MAX_POINTS + 1]).is_err());
        assert!(TransferFunction::new(&[(0.0, 0.0)], &white, 0.0).is_err());
        assert!(TransferFunction::grey_ramp(1.0, 0.0).is_err());
    }
}
