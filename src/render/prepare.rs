//! Owns what is worked out once for a picture: [`Prepared`], from camera, transfer function and options, all found good. Knows nothing of bricks.

use super::beam::{Beams, samples_in};
use super::camera::{Axes, Camera};
use super::dvr::Dvr;
use super::error::RenderError;
use super::iso::Iso;
use super::light::Light;
use super::mip::Mip;
use super::occupancy::SkipCache;
use super::options::{Mode, Options};
use super::path::{Course, Path};
use super::table::Table;
use super::transfer::TransferFunction;
use crate::geometry::Extent;
use crate::view::kernels::Look;

/// A picture that can be rendered.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) axes: Axes,
    pub(crate) course: Course,
    pub(crate) options: Options,
    pub(crate) method: AnyMethod,
}

/// One of the methods.
#[derive(Clone, Debug)]
pub(crate) enum AnyMethod {
    Dvr(Dvr),
    Mip(Mip),
    Iso(Iso),
}

impl AnyMethod {
    /// For samples that are `step` apart in the world, in voxels of that spacing.
    pub(crate) fn new(transfer: &TransferFunction, options: &Options, step: f64, spacing: [f64; 3]) -> Self {
        match options.mode {
            Mode::Dvr { shading } => Self::Dvr(Dvr {
                table: Table::new(transfer, Some(step)),
                light: shading.map(|s| Light::new(s, spacing)),
                stop_at_alpha: options.stop_at_alpha,
            }),
            Mode::Mip => Self::Mip(Mip { table: Table::new(transfer, None) }),
            Mode::Iso { value, colour, shading } => {
                Self::Iso(Iso { value, colour, light: Light::new(shading, spacing) })
            }
        }
    }
}

impl Prepared {
    pub(crate) fn new(
        extent: Extent,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) -> Result<Self, RenderError> {
        options.check()?;
        let axes = camera.frame()?;
        let course = Course::new(extent, options)?;
        let method = AnyMethod::new(transfer, options, course.step, options.spacing);
        Ok(Self { axes, course, options: options.clone(), method })
    }

    /// Distance between samples in the world.
    pub(crate) fn step(&self) -> f64 {
        self.course.step
    }

    /// How far apart the rays of neighbouring pixels are, in the world: at the eye, and how much more with every unit of distance.
    pub(crate) fn pixels_apart(&self) -> [f64; 2] {
        let at = |distance| self.axes.apart(distance, self.options.height);
        [at(0.0), at(1.0) - at(0.0)]
    }

    /// How far a place of the world is from the eye.
    pub(crate) fn distance(&self, place: [f64; 3]) -> f64 {
        self.axes.distance(place)
    }

    /// The samples behind a pixel's centre.
    #[inline(always)]
    pub(crate) fn path(&self, x: u32, y: u32) -> Option<Path> {
        let (px, py) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        self.course.path(&self.axes.ray(px, py, self.options.width, self.options.height))
    }

    /// How rays may be bundled, with what the cache knows now.
    pub(crate) fn beams<'a>(&self, cache: &'a SkipCache, look: Look) -> Option<Beams<'a>> {
        Beams::new(cache, look, &self.axes, &self.course, &self.options)
    }

    /// Where anything may matter to the rays of a beam whose first pixel is given.
    #[inline(always)]
    pub(crate) fn spans<'s>(
        &self,
        beams: &Beams<'_>,
        pixel: [u32; 2],
        spans: &'s mut Vec<[f64; 2]>,
    ) -> Option<&'s [[f64; 2]]> {
        beams.spans(&self.axes, &self.options, pixel, spans)
    }

    /// The samples of a ray in a span of distances.
    #[inline(always)]
    pub(crate) fn samples_in(&self, path: &Path, span: [f64; 2]) -> [u32; 2] {
        samples_in(path, self.course.step, span)
    }

    /// Lays a ray's colour over what is behind it.
    pub(crate) fn over_background(&self, colour: [f32; 4], lacking: bool) -> [f32; 4] {
        let hint = if lacking { self.options.missing_colour } else { None };
        let with_hint = hint.map_or(colour, |behind| over(colour, behind));
        over(with_hint, self.options.background)
    }
}

/// A premultiplied colour over a straight one.
fn over([r, g, b, a]: [f32; 4], behind: [f32; 4]) -> [f32; 4] {
    let rest = (1.0 - a) * behind[3];
    [r + rest * behind[0], g + rest * behind[1], b + rest * behind[2], a + rest]
}
