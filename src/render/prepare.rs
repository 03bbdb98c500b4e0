//! Owns what is worked out once for a picture: [`Prepared`], from camera, transfer function and options, all found good. Knows nothing of bricks.

use super::camera::{Axes, Camera};
use super::dvr::Dvr;
use super::error::RenderError;
use super::iso::Iso;
use super::light::Light;
use super::mip::Mip;
use super::options::{Mode, Options};
use super::path::{Course, Path};
use super::table::Table;
use super::transfer::TransferFunction;
use crate::geometry::Extent;

/// A picture that can be rendered.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    axes: Axes,
    course: Course,
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
        let method = match options.mode {
            Mode::Dvr { shading } => AnyMethod::Dvr(Dvr {
                table: Table::new(transfer, Some(course.step)),
                light: shading.map(|s| Light::new(s, options)),
                stop_at_alpha: options.stop_at_alpha,
            }),
            Mode::Mip => AnyMethod::Mip(Mip { table: Table::new(transfer, None) }),
            Mode::Iso { value, colour, shading } => {
                AnyMethod::Iso(Iso { value, colour, light: Light::new(shading, options) })
            }
        };
        Ok(Self { axes, course, options: options.clone(), method })
    }

    /// The samples behind a pixel's centre.
    #[inline(always)]
    pub(crate) fn path(&self, x: u32, y: u32) -> Option<Path> {
        let (px, py) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        self.course.path(&self.axes.ray(px, py, self.options.width, self.options.height))
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
