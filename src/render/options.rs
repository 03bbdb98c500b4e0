//! Owns how a picture is asked for: [`Options`] and what it is made of. Knows nothing of volumes.

use super::error::{RenderError, checked};
use super::image::MAX_SIDE;

/// How a picture is made. `..Options::default()` fills in the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Pixels in a row (512).
    pub width: u32,
    /// Rows (512).
    pub height: u32,
    /// What a ray makes of its samples (emission and absorption, unshaded).
    pub mode: Mode,
    /// Distance between samples, in voxels of the finest spacing (0.5).
    pub step_voxels: f64,
    /// Size of a voxel in the world, x, y, z (1).
    pub spacing: [f64; 3],
    /// The part of the volume to show (all).
    pub clip: Option<ClipBox>,
    /// What lies behind: straight red, green, blue, alpha (nothing).
    pub background: [f32; 4],
    /// A ray ends once it is this opaque (0.995); 1 lets it go on.
    pub stop_at_alpha: f32,
    /// Straight colour and alpha laid behind rays that missed a tile (none): says where the picture will change.
    pub missing_colour: Option<[f32; 4]>,
    /// Whether empty space is leapt over (yes). The picture is the same bit for bit.
    pub skip_empty: bool,
    /// Whether vector instructions are used where the machine has them (yes). The picture is the same bit for bit.
    pub simd: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            width: 512,
            height: 512,
            mode: Mode::Dvr { shading: None },
            step_voxels: 0.5,
            spacing: [1.0; 3],
            clip: None,
            background: [0.0; 4],
            stop_at_alpha: 0.995,
            missing_colour: None,
            skip_empty: true,
            simd: true,
        }
    }
}

/// What a ray makes of its samples.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// Emission and absorption, front to back.
    Dvr {
        /// Shaded by the gradient, if at all.
        shading: Option<Shading>,
    },
    /// The greatest value, shown through the transfer function with its opacity as it is.
    Mip,
    /// The first place where the value is at least `value`, opaque.
    Iso {
        /// The value.
        value: f32,
        /// Its colour.
        colour: [f32; 3],
        /// How it is lit.
        shading: Shading,
    },
}

/// Blinn-Phong with a light at the eye; both sides are lit alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shading {
    /// Share of the colour that is there without light (0.1).
    pub ambient: f32,
    /// Share that depends on the angle (0.7).
    pub diffuse: f32,
    /// White added where the surface faces the eye (0.2).
    pub specular: f32,
    /// How narrow that highlight is (10).
    pub power: f32,
}

impl Default for Shading {
    fn default() -> Self {
        Self { ambient: 0.1, diffuse: 0.7, specular: 0.2, power: 10.0 }
    }
}

/// A part of the volume, in voxels: 0 to the extent is all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipBox {
    /// The low corner, x, y, z.
    pub low: [f64; 3],
    /// The high corner.
    pub high: [f64; 3],
}

impl Options {
    /// Refuses what cannot be rendered.
    ///
    /// # Errors
    /// [`RenderError::ImageSize`] and [`RenderError::Value`].
    pub fn check(&self) -> Result<(), RenderError> {
        let (width, height) = (self.width, self.height);
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(RenderError::ImageSize { width, height, max: MAX_SIDE });
        }
        checked("step_voxels", self.step_voxels, "from 0.0001 to 10000", |v| (1e-4..=1e4).contains(&v))?;
        for s in self.spacing {
            checked("spacing", s, "from 1e-12 to 1e12", |v| (1e-12..=1e12).contains(&v))?;
        }
        let least = self.spacing.into_iter().fold(f64::INFINITY, f64::min);
        for s in self.spacing {
            checked("spacing relative to the finest", s / least, "at most 1e6", |v| v <= 1e6)?;
        }
        checked("stop_at_alpha", self.stop_at_alpha.into(), "above 0, at most 1", |v| v > 0.0 && v <= 1.0)?;
        for c in self.background.into_iter().chain(self.missing_colour.unwrap_or_default()) {
            unit("a component of background or missing_colour", c)?;
        }
        if let Some(clip) = self.clip {
            for (low, high) in clip.low.into_iter().zip(clip.high) {
                checked("clip", low, "finite", |_| true)?;
                checked("clip", high, "finite and no less than the low corner", |v| v >= low)?;
            }
        }
        self.mode.check()
    }
}

impl Mode {
    fn check(&self) -> Result<(), RenderError> {
        match *self {
            Self::Mip | Self::Dvr { shading: None } => Ok(()),
            Self::Dvr { shading: Some(shading) } => shading.check(),
            Self::Iso { value, colour, shading } => {
                checked("iso value", value.into(), "finite", |_| true)?;
                for c in colour {
                    unit("a component of the iso colour", c)?;
                }
                shading.check()
            }
        }
    }
}

impl Shading {
    fn check(&self) -> Result<(), RenderError> {
        for c in [self.ambient, self.diffuse, self.specular] {
            unit("ambient, diffuse or specular", c)?;
        }
        checked("specular power", self.power.into(), "from 1 to 1000", |v| (1.0..=1000.0).contains(&v))?;
        Ok(())
    }
}

fn unit(what: &'static str, value: f32) -> Result<(), RenderError> {
    checked(what, value.into(), "from 0 to 1", |v| (0.0..=1.0).contains(&v)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_options_are_refused() {
        let ok = Options::default();
        assert!(ok.check().is_ok());
        let clip = |low, high| Some(ClipBox { low: [low; 3], high: [high; 3] });
        let shading = Some(Shading { power: f32::NAN, ..Shading::default() });
        for bad in [
            Options { width: 0, ..ok.clone() },
            Options { height: u32::MAX, ..ok.clone() },
            Options { step_voxels: 0.0, ..ok.clone() },
            Options { step_voxels: -1.0, ..ok.clone() },
            Options { step_voxels: f64::NAN, ..ok.clone() },
            Options { spacing: [1.0, 0.0, 1.0], ..ok.clone() },
            Options { spacing: [1.0, f64::INFINITY, 1.0], ..ok.clone() },
            Options { spacing: [1e-6, 1.0, 1e7], ..ok.clone() },
            Options { stop_at_alpha: 0.0, ..ok.clone() },
            Options { background: [0.0, 2.0, 0.0, 1.0], ..ok.clone() },
            Options { missing_colour: Some([f32::NAN; 4]), ..ok.clone() },
            Options { clip: clip(5.0, 4.0), ..ok.clone() },
            Options { clip: clip(f64::NAN, 4.0), ..ok.clone() },
            Options { mode: Mode::Dvr { shading }, ..ok.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
