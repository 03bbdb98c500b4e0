//! Owns what is looked at and how: [`View`], as the page sends it and the command line gives it. Every number of it is checked here.

use clap::ValueEnum;
use serde::Deserialize;
use vastgrid::Extent;
use vastgrid::render::{
    Camera, ClipBox, Mode, Options, Orbit, Preset, Projection, RenderError, Shading, TransferFunction,
};

/// What lies behind the volume; the page has the same colour.
const BACKGROUND: [f32; 4] = [0.043, 0.051, 0.067, 1.0];
/// A little brighter than VTK's.
const LIGHT: Shading = Shading { ambient: 0.3, diffuse: 0.8, specular: 0.3, power: 24.0 };
const SURFACE: [f32; 3] = [0.93, 0.87, 0.78];

/// What a ray makes of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shown {
    /// Emission and absorption
    Dvr,
    /// The same, lit from the eye
    #[default]
    Shaded,
    /// The greatest value
    Mip,
    /// The first place where a value is reached
    Iso,
}

/// What a view needs to know of the volume.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) extent: Extent,
    pub(crate) spacing: [f64; 3],
    /// Least and greatest value, of a sample.
    pub(crate) range: (f32, f32),
    /// The usual transfer function.
    pub(crate) palette: Palette,
    /// Whether a ray meets the same opacity within as many pixels from near and from far. For what is as porous at every scale.
    pub(crate) fades_by_pixels: bool,
    /// Bytes of all its voxels, where a picture of every one of them is worth making.
    pub(crate) whole_bytes: Option<u64>,
    /// How near the page begins.
    pub(crate) zoom: f64,
}

/// A transfer function by name: the library's, and one for things of many materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    Preset(Preset),
    Strata,
}

impl Palette {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Preset::ALL.into_iter().map(Self::Preset).chain([Self::Strata])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Preset(preset) => preset.name(),
            Self::Strata => "strata",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|palette| palette.name() == name)
    }

    fn function(self, range: (f32, f32)) -> Result<TransferFunction, RenderError> {
        let (low, high) = range;
        let at = |part: f32| low + (high - low) * part;
        match self {
            Self::Preset(preset) => preset.transfer_function(range),
            Self::Strata => TransferFunction::new(
                &[(low, 0.0), (at(0.43), 0.0), (at(0.55), 0.5), (high, 0.9)],
                &[
                    (at(0.43), [0.13, 0.19, 0.33]),
                    (at(0.57), [0.14, 0.36, 0.46]),
                    (at(0.64), [0.40, 0.60, 0.54]),
                    (at(0.70), [0.88, 0.82, 0.64]),
                    (at(0.78), [0.90, 0.56, 0.28]),
                    (at(0.88), [0.68, 0.22, 0.18]),
                    (at(0.98), [1.00, 0.84, 0.45]),
                ],
                1.0,
            ),
        }
    }
}

/// What is looked at, from where, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct View {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) azimuth: f64,
    pub(crate) elevation: f64,
    pub(crate) zoom: f64,
    /// What the camera turns around, from the volume's centre, in the world.
    pub(crate) target: [f64; 3],
    pub(crate) ortho: bool,
    pub(crate) mode: Shown,
    pub(crate) iso: Option<f32>,
    pub(crate) preset: Option<String>,
    pub(crate) window: Option<f32>,
    pub(crate) level: Option<f32>,
    pub(crate) step: f64,
    /// Corners of the part that is shown, in parts of the volume.
    pub(crate) clip: [[f64; 3]; 2],
}

impl Default for View {
    fn default() -> Self {
        Self {
            width: 800,
            height: 600,
            azimuth: 25.0,
            elevation: 10.0,
            zoom: 1.15,
            target: [0.0; 3],
            ortho: false,
            mode: Shown::Shaded,
            iso: None,
            preset: None,
            window: None,
            level: None,
            step: 0.5,
            clip: [[0.0; 3], [1.0; 3]],
        }
    }
}

impl View {
    /// The view with every number brought to where it makes sense.
    ///
    /// # Errors
    /// A number that is not finite, or a name that nothing has.
    pub(crate) fn checked(mut self) -> Result<Self, String> {
        let numbers = [self.azimuth, self.elevation, self.zoom, self.step].into_iter();
        let numbers = numbers.chain(self.target).chain(self.clip.into_iter().flatten());
        let numbers = numbers.chain([self.iso, self.window, self.level].into_iter().flatten().map(f64::from));
        if let Some(bad) = numbers.into_iter().find(|n| !n.is_finite()) {
            return Err(format!("a number of the view is {bad}"));
        }
        if let Some(name) = self.preset.as_deref().filter(|name| Palette::from_name(name).is_none()) {
            let names: Vec<_> = Palette::all().map(Palette::name).collect();
            return Err(format!("no preset is named {name:.40}: there are {}", names.join(", ")));
        }
        self.width = self.width.clamp(16, 2048);
        self.height = self.height.clamp(16, 2048);
        self.azimuth %= 360.0;
        self.elevation = self.elevation.clamp(-89.9, 89.9);
        self.zoom = self.zoom.clamp(0.05, 1e5);
        self.step = self.step.clamp(0.2, 8.0);
        self.window = self.window.map(|w| w.clamp(1e-6, 1e30));
        self.level = self.level.map(|l| l.clamp(-1e30, 1e30));
        let [low, high] = &mut self.clip;
        for (low, high) in low.iter_mut().zip(high) {
            *low = low.clamp(0.0, 1.0);
            *high = high.clamp(*low, 1.0);
        }
        Ok(self)
    }

    /// The camera: it turns around the target with z upwards; at zoom 1 the whole volume just fits.
    pub(crate) fn camera(&self, facts: &Facts) -> Camera {
        let fit = Camera::fit(facts.extent, facts.spacing);
        let Projection::Perspective { fov_degrees } = fit.projection else { return fit };
        let fits = (fit.eye[2] - fit.target[2]).abs();
        let axis = |i: usize| fit.target[i] + self.target[i].clamp(-fits, fits);
        let camera = Camera::orbit(Orbit {
            target: [axis(0), axis(1), axis(2)],
            azimuth_degrees: self.azimuth,
            elevation_degrees: self.elevation,
            distance: fits / (self.zoom * self.narrow()),
            fov_degrees,
        });
        if self.ortho { camera.orthographic() } else { camera }
    }

    /// Upright pictures are taken from farther away, so that not too much is cut off at the sides.
    fn narrow(&self) -> f64 {
        (1.5 * f64::from(self.width) / f64::from(self.height)).min(1.0)
    }

    pub(crate) fn transfer(&self, facts: &Facts) -> Result<TransferFunction, RenderError> {
        let named = self.preset.as_deref().and_then(Palette::from_name);
        let usual = if self.mode == Shown::Mip { Palette::Preset(Preset::Mip) } else { facts.palette };
        let function = facts.transfer(named.unwrap_or(usual))?;
        let (window, level) = window_of(&function);
        let function = function.window_level(self.window.unwrap_or(window), self.level.unwrap_or(level))?;
        if !facts.fades_by_pixels {
            return Ok(function);
        }
        #[expect(clippy::cast_possible_truncation, reason = "an opacity need not be exact")]
        function.with_unit_distance((0.5 * self.pixel(facts)).max(1e-3) as f32)
    }

    /// The size of a pixel at the target, in the world.
    pub(crate) fn pixel(&self, facts: &Facts) -> f64 {
        let camera = self.camera(facts);
        let height = match camera.projection {
            Projection::Orthographic { height } => height,
            Projection::Perspective { fov_degrees } => {
                let apart = [0, 1, 2].map(|i| (camera.eye[i] - camera.target[i]).powi(2));
                2.0 * apart.iter().sum::<f64>().sqrt() * (0.5 * fov_degrees).to_radians().tan()
            }
        };
        height / f64::from(self.height.max(1))
    }

    /// How to render it, each side divided by `shrink`.
    #[expect(clippy::cast_precision_loss, reason = "a clipping plane need not be exact")]
    pub(crate) fn options(&self, facts: &Facts, shrink: u32) -> Options {
        let value = self.iso.unwrap_or_else(|| facts.surface());
        let corner = |part: [f64; 3]| {
            let size = facts.extent.to_array();
            [0, 1, 2].map(|axis| part[axis] * size[axis] as f64)
        };
        let whole = self.clip == [[0.0; 3], [1.0; 3]];
        Options {
            width: (self.width / shrink).max(1),
            height: (self.height / shrink).max(1),
            mode: match self.mode {
                Shown::Dvr => Mode::Dvr { shading: None },
                Shown::Shaded => Mode::Dvr { shading: Some(LIGHT) },
                Shown::Mip => Mode::Mip,
                Shown::Iso => Mode::Iso { value, colour: SURFACE, shading: LIGHT },
            },
            step_voxels: self.step,
            spacing: facts.spacing,
            clip: (!whole).then(|| ClipBox { low: corner(self.clip[0]), high: corner(self.clip[1]) }),
            background: BACKGROUND,
            ..Options::default()
        }
    }
}

impl Facts {
    /// A palette, brought to the volume's values where those are nothing like its own.
    pub(crate) fn transfer(&self, palette: Palette) -> Result<TransferFunction, RenderError> {
        let (low, high) = self.range;
        let function = palette.function(self.range)?;
        let like_ct = (500.0..20_000.0).contains(&(high - low)) && high > 500.0;
        if like_ct || high <= low {
            return Ok(function);
        }
        function.window_level(high - low, low + 0.5 * (high - low))
    }

    /// A value whose surface is worth a look: where the usual transfer function begins to be opaque, or in the middle of the values.
    pub(crate) fn surface(&self) -> f32 {
        let (low, high) = self.range;
        let values = (0..=200u8).map(|i| low + (high - low) * f32::from(i) / 200.0);
        let function = self.transfer(self.palette).ok();
        let opaque = |value: &f32| function.as_ref().is_some_and(|f| f.evaluate(*value)[3] >= 0.2);
        values.into_iter().find(opaque).unwrap_or(low + 0.5 * (high - low))
    }
}

/// Width and middle of the values that a transfer function spans.
pub(crate) fn window_of(function: &TransferFunction) -> (f32, f32) {
    let (low, high) = function.domain();
    ((high - low).max(f32::MIN_POSITIVE), low + 0.5 * (high - low))
}
