//! Owns ready-made transfer functions: [`Preset`]. Knows nothing of how they are used.

use super::error::RenderError;
use super::transfer::TransferFunction;

/// A ready-made transfer function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Contrast-filled vessels, wire and bone in a CT whose values run from 0 (air) to 2000.
    CtAngio,
    /// Bone alone, in the same values.
    Bone,
    /// Skin and what lies above it, in the same values.
    Skin,
    /// Black and clear to white and opaque over the values' range.
    GreyRamp,
    /// Grey and opaque but at the very bottom: for the greatest value along a ray.
    Mip,
    /// Cold to warm over the values' range, faint below and dense above: for fields without a scale of their own.
    Heat,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::CtAngio, Self::Bone, Self::Skin, Self::GreyRamp, Self::Mip, Self::Heat];

    /// A short name, such as `ct-angio`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CtAngio => "ct-angio",
            Self::Bone => "bone",
            Self::Skin => "skin",
            Self::GreyRamp => "grey",
            Self::Mip => "mip",
            Self::Heat => "heat",
        }
    }

    /// The preset of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The function. The CT presets have values of their own; the others span `range`, the volume's least and greatest value.
    ///
    /// # Errors
    /// [`RenderError::TransferPoint`] where the range is not finite or falls.
    pub fn transfer_function(self, range: (f32, f32)) -> Result<TransferFunction, RenderError> {
        let (low, high) = range;
        let at = |part: f32| low + (high - low) * part;
        match self {
            Self::CtAngio => TransferFunction::new(
                &[(0.0, 0.0), (200.0, 0.0), (400.0, 0.15), (700.0, 0.4), (1200.0, 0.9), (2000.0, 1.0)],
                &[(0.0, [0.0; 3]), (400.0, [0.8, 0.3, 0.2]), (800.0, [1.0, 0.8, 0.6]), (2000.0, [1.0; 3])],
                1.0,
            ),
            Self::Bone => TransferFunction::new(
                &[(1000.0, 0.0), (1250.0, 0.3), (1600.0, 0.95)],
                &[(1000.0, [0.85, 0.7, 0.55]), (1300.0, [0.95, 0.9, 0.8]), (1800.0, [1.0; 3])],
                1.0,
            ),
            Self::Skin => TransferFunction::new(
                &[(100.0, 0.0), (250.0, 0.12), (450.0, 0.12), (900.0, 0.5), (1500.0, 0.95)],
                &[(100.0, [0.75, 0.5, 0.4]), (500.0, [0.95, 0.7, 0.6]), (1200.0, [1.0, 0.95, 0.9])],
                1.0,
            ),
            Self::GreyRamp => TransferFunction::grey_ramp(low, high),
            Self::Mip => TransferFunction::new(
                &[(low, 0.0), (at(0.02), 1.0), (high, 1.0)],
                &[(low, [0.0; 3]), (high, [1.0; 3])],
                1.0,
            ),
            Self::Heat => TransferFunction::new(
                &[(low, 0.0), (at(0.2), 0.0), (at(0.5), 0.05), (high, 0.6)],
                &[
                    (low, [0.1, 0.2, 0.6]),
                    (at(0.35), [0.3, 0.7, 0.8]),
                    (at(0.6), [0.95, 0.85, 0.4]),
                    (high, [0.9, 0.2, 0.1]),
                ],
                1.0,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_a_name_and_a_function() {
        for preset in Preset::ALL {
            assert_eq!(Preset::from_name(preset.name()), Some(preset));
            let f = preset.transfer_function((0.0, 2000.0)).unwrap();
            assert!(f.evaluate(2000.0)[3] > f.evaluate(0.0)[3], "{preset:?}");
            assert_eq!(TransferFunction::from_text(&f.to_text()).unwrap(), f);
        }
        assert!(Preset::Heat.transfer_function((f32::NAN, 1.0)).is_err());
        assert!(Preset::GreyRamp.transfer_function((5.0, 5.0)).is_ok(), "a volume of one value");
    }
}
