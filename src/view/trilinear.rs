//! Owns values between voxels: [`View::trilinear`] and its like, and the one arithmetic of interpolation.

use crate::geometry::{Coord, Extent};
use crate::voxel::Scalar;

use super::{Accessor, View};

impl<T: Scalar> View<'_, T> {
    /// The value at a position between voxels, interpolated along all three axes; `None` where the tile of a voxel that it depends on is not there, the position is outside the array, or not a number.
    ///
    /// **Units**: voxels, as of a [`Camera`](crate::render::Camera) where spacing is 1: voxel `i` has its centre at `i + 0.5`, and the array fills the box from 0 to its extent. Within half a voxel of a face the value
    /// is that of the nearest centres.
    ///
    /// **Cost**: that of [`View::corners`], and seven interpolations.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Procedural};
    ///
    /// let pool = Pool::new(HostBackend::new(), 16 << 20)?;
    /// let source = Procedural::new(Extent::cube(100), |c: Coord| (c.x + 10 * c.y + 100 * c.z) as u16);
    /// let array = SparseArray3D::builder(&pool, source).build()?;
    /// array.request_region(Region::whole(array.extent()))?.complete()?;
    ///
    /// let view = array.frame();
    /// assert_eq!(view.trilinear([7.5, 4.5, 2.5]), Some(247.0)); // the centre of voxel [7, 4, 2]
    /// assert_eq!(view.trilinear([8.25, 5.0, 2.5]), Some(252.75));
    /// assert_eq!(view.trilinear([0.0, 0.5, 0.5]), Some(0.0)); // on a face
    /// assert_eq!(view.trilinear([100.1, 0.5, 0.5]), None);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[doc(alias = "interpolate")]
    #[doc(alias = "sample")]
    #[must_use]
    #[inline(always)]
    pub fn trilinear(&self, at: [f64; 3]) -> Option<f32> {
        let (below, beyond) = place(at, self.layout.extent())?;
        Some(blend(self.corners(below)?, beyond))
    }

    /// Gives the values at many positions to `each`, in order, as [`View::trilinear`] would.
    ///
    /// For positions that lie far from each other, as [`View::corners_each`] is.
    ///
    /// **Cost**: that of [`View::corners_each`], and seven interpolations for each position.
    #[inline]
    pub fn trilinear_each(
        &self,
        positions: impl IntoIterator<Item = [f64; 3]>,
        mut each: impl FnMut(Option<f32>),
    ) {
        let extent = self.layout.extent();
        let outside = (Coord::new(u64::MAX, u64::MAX, u64::MAX), [0.0; 3]);
        let places = positions.into_iter().map(|at| place(at, extent).unwrap_or(outside));
        self.corners_ahead(places, |near, beyond| each(near.map(|near| blend(near, beyond))));
    }
}

impl<T: Scalar> Accessor<'_, T> {
    /// The value at a position between voxels, as [`View::trilinear`] gives it.
    ///
    /// **Cost**: that of [`Accessor::corners`], and seven interpolations.
    #[doc(alias = "interpolate")]
    #[doc(alias = "sample")]
    #[inline(always)]
    pub fn trilinear(&mut self, at: [f64; 3]) -> Option<f32> {
        let (below, beyond) = place(at, self.extent())?;
        Some(blend(self.corners(below)?, beyond))
    }
}

/// The voxel whose centre is the last before a position, and how far beyond that the position is, in voxels. `None` outside the array.
#[inline(always)]
fn place(at: [f64; 3], extent: Extent) -> Option<(Coord, [f32; 3])> {
    let [(x, along_x), (y, along_y), (z, along_z)] =
        [along(at[0], extent.x)?, along(at[1], extent.y)?, along(at[2], extent.z)?];
    Some((Coord { x, y, z }, [along_x, along_y, along_z]))
}

/// [`place`] along an axis of `size` voxels.
#[inline(always)]
fn along(at: f64, size: u64) -> Option<(u64, f32)> {
    let size = size.cast_signed() as f64;
    if !(at >= 0.0 && at <= size) {
        return None;
    }
    // Centres lie from 0 to `last`. Spelled out: of these comparisons there is an instruction each.
    let (centred, last) = (at - 0.5, size - 1.0);
    let centred = if centred > 0.0 { centred } else { 0.0 };
    let centred = if centred < last { centred } else { last };
    // SAFETY: from 0 to less than 2^46, which is the most voxels that an array has along an axis.
    let below: i64 = unsafe { centred.to_int_unchecked() };
    Some((below.cast_unsigned(), fraction(centred - below as f64)))
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "values are interpolated in single precision")]
fn fraction(of: f64) -> f32 {
    of as f32
}

/// The value `beyond` the first of eight voxels.
#[inline(always)]
fn blend<T: Scalar>(near: [T; 8], beyond: [f32; 3]) -> f32 {
    let [a, b, c, d, e, f, g, h] = near.map(Scalar::to_f32);
    trilerp([[[a, b], [c, d]], [[e, f], [g, h]]], beyond)
}

#[inline(always)]
pub(super) fn lerp(a: f32, b: f32, f: f32) -> f32 {
    a + (b - a) * f
}

/// The sample between the corners `c[z][y][x]`.
#[inline(always)]
pub(crate) fn trilerp(c: [[[f32; 2]; 2]; 2], [fx, fy, fz]: [f32; 3]) -> f32 {
    let row = |r: [f32; 2]| lerp(r[0], r[1], fx);
    let slice = |s: [[f32; 2]; 2]| lerp(row(s[0]), row(s[1]), fy);
    lerp(slice(c[0]), slice(c[1]), fz)
}
