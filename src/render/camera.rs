//! Owns where a picture is taken from: [`Camera`], [`Orbit`] and the [`Ray`]s they send out. Knows nothing of volumes but their size.
//!
//! ```
//! use vastgrid::{Extent, render::Camera};
//!
//! let camera = Camera::fit(Extent::cube(64), [1.0; 3]);
//! let ray = camera.ray(256.0, 256.0, 512, 512)?;
//! assert_eq!(ray.direction, [0.0, 0.0, -1.0]);
//! # Ok::<(), vastgrid::render::RenderError>(())
//! ```

use glam::{DQuat, DVec3};

use super::error::{RenderError, checked};
use crate::geometry::Extent;

/// How rays leave the camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Projection {
    /// All from the eye.
    Perspective {
        /// The angle between the picture's lower and upper edge.
        fov_degrees: f64,
    },
    /// All in one direction.
    Orthographic {
        /// Height of the picture in the world.
        height: f64,
    },
}

/// Where a picture is taken from.
///
/// **Units**: the world's. Voxel `i` has its centre at `(i + 0.5) * spacing`, so the volume fills the box from 0 to `extent * spacing`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Where the camera is.
    pub eye: [f64; 3],
    /// What it looks at, and turns around.
    pub target: [f64; 3],
    /// What is upwards in the picture, roughly.
    pub up: [f64; 3],
    /// How rays leave it.
    pub projection: Projection,
}

/// A camera by where it stands around its target. z is up; azimuth 0 looks along y, elevation 90 looks down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orbit {
    /// What it looks at.
    pub target: [f64; 3],
    /// How far it went around the z axis, anticlockwise seen from above.
    pub azimuth_degrees: f64,
    /// How far it stands above the target; kept short of straight up and down.
    pub elevation_degrees: f64,
    /// How far away.
    pub distance: f64,
    /// The angle between the picture's lower and upper edge.
    pub fov_degrees: f64,
}

/// A half-line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ray {
    /// Where it begins, in the world.
    pub origin: [f64; 3],
    /// Where it goes; of length 1.
    pub direction: [f64; 3],
}

impl Camera {
    /// VTK's default angle.
    const FIT_DEGREES: f64 = 30.0;

    /// A camera at `eye` that looks at `target`.
    #[must_use]
    pub const fn look_at(eye: [f64; 3], target: [f64; 3], up: [f64; 3], projection: Projection) -> Self {
        Self { eye, target, up, projection }
    }

    /// Looks along -z with y up, from where the sphere around all voxel centres just fits.
    ///
    /// **Source**: what `vtkRenderer::ResetCamera` does, so that pictures are comparable.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a camera's distance need not be exact")]
    pub fn fit(extent: Extent, spacing: [f64; 3]) -> Self {
        let size = DVec3::from(extent.to_array().map(|n| n as f64));
        let spacing = DVec3::from(spacing);
        let between_centres = ((size - DVec3::ONE).max(DVec3::ZERO) * spacing).length();
        let radius = 0.5 * if between_centres > 0.0 { between_centres } else { spacing.length() };
        let target = size * spacing * 0.5;
        let distance = radius / (0.5 * Self::FIT_DEGREES).to_radians().sin();
        Self {
            eye: (target + DVec3::Z * distance).into(),
            target: target.into(),
            up: [0.0, 1.0, 0.0],
            projection: Projection::Perspective { fov_degrees: Self::FIT_DEGREES },
        }
    }

    /// A camera that stands around its target.
    #[must_use]
    pub fn orbit(orbit: Orbit) -> Self {
        let azimuth = orbit.azimuth_degrees.to_radians();
        let elevation = orbit.elevation_degrees.clamp(-89.9, 89.9).to_radians();
        let outward =
            DVec3::new(azimuth.sin() * elevation.cos(), -azimuth.cos() * elevation.cos(), elevation.sin());
        Self {
            eye: (DVec3::from(orbit.target) + outward * orbit.distance).into(),
            target: orbit.target,
            up: [0.0, 0.0, 1.0],
            projection: Projection::Perspective { fov_degrees: orbit.fov_degrees },
        }
    }

    /// Moves the eye around the target, about the picture's upward axis. As VTK's `Azimuth`.
    #[must_use]
    pub fn azimuth(self, degrees: f64) -> Self {
        let Ok(frame) = self.frame() else { return self };
        self.turned(frame.up, degrees)
    }

    /// Moves the eye around the target, about the picture's sideward axis, upwards. As VTK's `Elevation` and `OrthogonalizeViewUp`.
    #[must_use]
    pub fn elevation(self, degrees: f64) -> Self {
        let Ok(frame) = self.frame() else { return self };
        self.turned(-frame.right, degrees)
    }

    fn turned(self, axis: DVec3, degrees: f64) -> Self {
        let turn = DQuat::from_axis_angle(axis, degrees.to_radians());
        let (eye, target) = (DVec3::from(self.eye), DVec3::from(self.target));
        let up = self.frame().map_or(DVec3::from(self.up), |f| f.up);
        Self { eye: (target + turn * (eye - target)).into(), up: (turn * up).into(), ..self }
    }

    /// Goes nearer by a factor: 2 halves the distance (or the height of an orthographic picture).
    #[must_use]
    pub fn dolly(self, factor: f64) -> Self {
        if !(factor.is_finite() && factor > 0.0) {
            return self;
        }
        match self.projection {
            Projection::Perspective { .. } => {
                let (eye, target) = (DVec3::from(self.eye), DVec3::from(self.target));
                Self { eye: (target + (eye - target) / factor).into(), ..self }
            }
            Projection::Orthographic { height } => {
                Self { projection: Projection::Orthographic { height: height / factor }, ..self }
            }
        }
    }

    /// Moves eye and target sideways, in heights of the picture at the target.
    #[must_use]
    pub fn pan(self, right: f64, up: f64) -> Self {
        let Ok(frame) = self.frame() else { return self };
        let by = (frame.right * right + frame.up * up) * self.height_at_target();
        Self {
            eye: (DVec3::from(self.eye) + by).into(),
            target: (DVec3::from(self.target) + by).into(),
            ..self
        }
    }

    /// The same view of the target in parallel projection.
    #[must_use]
    pub fn orthographic(self) -> Self {
        Self { projection: Projection::Orthographic { height: self.height_at_target() }, ..self }
    }

    /// The same size of the target in perspective.
    #[must_use]
    pub fn perspective(self, fov_degrees: f64) -> Self {
        let half = (0.5 * fov_degrees).to_radians().tan();
        let (eye, target) = (DVec3::from(self.eye), DVec3::from(self.target));
        let distance = 0.5 * self.height_at_target() / half;
        let eye = target + (eye - target).normalize_or_zero() * distance;
        Self { eye: eye.into(), projection: Projection::Perspective { fov_degrees }, ..self }
    }

    fn height_at_target(&self) -> f64 {
        match self.projection {
            Projection::Perspective { fov_degrees } => {
                let distance = DVec3::from(self.eye).distance(self.target.into());
                2.0 * distance * (0.5 * fov_degrees).to_radians().tan()
            }
            Projection::Orthographic { height } => height,
        }
    }

    /// The ray through (`px`, `py`) of a picture: x to the right, y downwards, the first pixel's centre at (0.5, 0.5).
    ///
    /// # Errors
    /// [`RenderError::Camera`] and [`RenderError::Value`] where the camera is not finite or looks nowhere; [`RenderError::ImageSize`].
    pub fn ray(&self, px: f64, py: f64, width: u32, height: u32) -> Result<Ray, RenderError> {
        if width == 0 || height == 0 {
            return Err(RenderError::ImageSize { width, height, max: super::image::MAX_SIDE });
        }
        Ok(self.frame()?.ray(px, py, width, height))
    }

    /// The camera's axes, checked once for all rays of a picture.
    pub(crate) fn frame(&self) -> Result<Axes, RenderError> {
        let (eye, target, up) = (DVec3::from(self.eye), DVec3::from(self.target), DVec3::from(self.up));
        if !(eye.is_finite() && target.is_finite() && up.is_finite()) {
            return Err(RenderError::Camera { problem: "eye, target or up is not finite" });
        }
        let nowhere = RenderError::Camera { problem: "eye and target are the same" };
        let forward = (target - eye).try_normalize().ok_or(nowhere)?;
        let no_up = RenderError::Camera { problem: "up is zero or along the line of sight" };
        let right = forward.cross(up.normalize_or_zero());
        if right.length() < 1e-9 {
            return Err(no_up);
        }
        let right = right.normalize();
        let (half_height, parallel) = match self.projection {
            Projection::Perspective { fov_degrees } => {
                let fov =
                    checked("fov_degrees", fov_degrees, "above 0, below 180", |v| v > 0.0 && v < 180.0)?;
                ((0.5 * fov).to_radians().tan(), false)
            }
            Projection::Orthographic { height } => {
                (0.5 * checked("orthographic height", height, "above 0", |v| v > 0.0)?, true)
            }
        };
        Ok(Axes { eye, right, up: right.cross(forward), forward, half_height, parallel })
    }
}

/// A camera that was found good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axes {
    pub(crate) eye: DVec3,
    pub(crate) right: DVec3,
    pub(crate) up: DVec3,
    pub(crate) forward: DVec3,
    /// At distance 1 in perspective, in the world otherwise.
    pub(crate) half_height: f64,
    pub(crate) parallel: bool,
}

impl Axes {
    /// How far a place is from the eye.
    pub(crate) fn distance(&self, place: [f64; 3]) -> f64 {
        self.eye.distance(place.into())
    }

    /// How far apart the rays of neighbouring pixels are at most, as far from the eye: directions are at least 1 long before they are made that, which only
    /// brings them closer.
    pub(crate) fn apart(&self, distance: f64, height: u32) -> f64 {
        let pixel = 2.0 * self.half_height / f64::from(height);
        if self.parallel { pixel } else { pixel * distance }
    }

    #[inline(always)]
    pub(crate) fn ray(&self, px: f64, py: f64, width: u32, height: u32) -> Ray {
        let (w, h) = (f64::from(width), f64::from(height));
        let x = (2.0 * px - w) / h * self.half_height;
        let y = (h - 2.0 * py) / h * self.half_height;
        let aside = self.right * x + self.up * y;
        if self.parallel {
            Ray { origin: (self.eye + aside).into(), direction: self.forward.into() }
        } else {
            Ray { origin: self.eye.into(), direction: (self.forward + aside).normalize().into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: [f64; 3], b: [f64; 3]) -> bool {
        DVec3::from(a).distance(b.into()) < 1e-9
    }

    #[test]
    fn fit_and_elevation_are_vtk_s() {
        let camera = Camera::fit(Extent::new(128, 128, 256), [1.0; 3]);
        let radius = 0.5 * (2.0f64 * 127.0 * 127.0 + 255.0 * 255.0).sqrt();
        let distance = radius / 15f64.to_radians().sin();
        assert!(near(camera.eye, [64.0, 64.0, 128.0 + distance]));
        let below = camera.elevation(-80.0);
        let (sin, cos) = 80f64.to_radians().sin_cos();
        assert!(near(below.eye, [64.0, 64.0 - distance * sin, 128.0 + distance * cos]));
        assert!(near(below.up, [0.0, cos, sin]));
    }

    #[test]
    fn azimuth_turns_anticlockwise_seen_from_above() {
        let camera = Camera::look_at(
            [0.0, 0.0, 1.0],
            [0.0; 3],
            [0.0, 1.0, 0.0],
            Projection::Orthographic { height: 1.0 },
        );
        assert!(near(camera.azimuth(90.0).eye, [1.0, 0.0, 0.0]));
        let orbit = Orbit {
            target: [0.0; 3],
            azimuth_degrees: 90.0,
            elevation_degrees: 0.0,
            distance: 2.0,
            fov_degrees: 30.0,
        };
        assert!(near(Camera::orbit(orbit).eye, [2.0, 0.0, 0.0]));
    }

    #[test]
    fn rays_go_through_their_pixels() {
        let camera = Camera::fit(Extent::cube(10), [1.0; 3]).orthographic();
        let left = camera.ray(0.5, 5.0, 10, 10).unwrap();
        let right = camera.ray(9.5, 5.0, 10, 10).unwrap();
        assert!(left.origin[0] < right.origin[0]);
        let top = camera.ray(5.0, 0.5, 10, 10).unwrap();
        assert!(top.origin[1] > right.origin[1], "row 0 is at the top");
        let same = camera.perspective(40.0).orthographic();
        assert!(matches!((same.projection, camera.projection),
            (Projection::Orthographic { height: a }, Projection::Orthographic { height: b }) if (a - b).abs() < 1e-9));
    }

    #[test]
    fn cameras_that_look_nowhere_are_refused() {
        let good = Camera::fit(Extent::cube(10), [1.0; 3]);
        for bad in [
            Camera { eye: good.target, ..good },
            Camera { up: [0.0; 3], ..good },
            Camera { up: [0.0, 0.0, 1.0], ..good },
            Camera { eye: [f64::NAN; 3], ..good },
            Camera { projection: Projection::Perspective { fov_degrees: 180.0 }, ..good },
            Camera { projection: Projection::Orthographic { height: 0.0 }, ..good },
        ] {
            assert!(bad.ray(0.0, 0.0, 8, 8).is_err(), "{bad:?}");
            let _ = bad.azimuth(5.0).elevation(5.0).dolly(0.0).pan(1.0, 1.0);
        }
        assert!(good.ray(0.0, 0.0, 0, 8).is_err());
    }
}
