//! Owns the inner loops of the ray caster: eight samples of a ray at a time, portable and with AVX2. Both give the same bits. Knows nothing of rays, volumes or residency.
//!
//! ```text
//! values.rs   samples and gradients out of one brick        around.rs   out of a brick and those around it
//! scan.rs     which samples matter                          bits.rs     which voxels do
//! avx2/       all of it with vector instructions
//! ```
//!
//! Positions are voxels in 32.32 fixed point relative to the brick, so that sample `k` is the same wherever its batch began. No input makes a read
//! leave the bricks: voxels are clamped to them, so a wrong position gives a wrong value and nothing worse.

use crate::voxel::Scalar;

mod around;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod bits;
mod scan;
mod values;

pub(crate) use super::trilinear::trilerp;
pub(crate) use around::Around;
use around::{GradientAcross, TrilinearAcross};
pub(crate) use scan::{Cells, Coarse, GROUP, Look, SCAN, Scanned, Stride};
use values::{Gradient, Trilinear};
pub(crate) use values::{ROWS_OF_A_GRADIENT, Ramp, Test, Voxels, differences};

/// Samples in a batch.
pub(crate) const LANES: usize = 8;

/// One value per sample.
pub(crate) type Batch = [f32; LANES];

/// Which samples make up a batch, counted from where it begins. Unused ones repeat any other.
pub(crate) type Lanes = [u32; LANES];

/// The samples of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples<'l> {
    /// Where the lanes count from.
    pub(crate) first: [i64; 3],
    /// From one sample to the next.
    pub(crate) step: [i64; 3],
    pub(crate) lanes: &'l Lanes,
}

/// The place of a sample: `first` plus `lane` steps.
#[inline(always)]
fn position(first: [i64; 3], step: [i64; 3], lane: u32) -> [i64; 3] {
    let along = |a: usize| first[a].wrapping_add(step[a].wrapping_mul(i64::from(lane)));
    [along(0), along(1), along(2)]
}

/// The kernels for one voxel type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels<T> {
    trilinear: Trilinear<T>,
    gradient: Gradient<T>,
    pub(crate) look: Look,
    /// Where there are none, samples across bricks are taken one by one.
    pub(crate) across: Option<Across<T>>,
}

/// The kernels for samples whose support may lie in several bricks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Across<T> {
    trilinear: TrilinearAcross<T>,
    gradient: GradientAcross<T>,
}

impl<T: Scalar> Kernels<T> {
    /// The fastest that this machine has, or the portable ones where `simd` is false.
    pub(crate) fn select(simd: bool) -> Self {
        #[cfg(target_arch = "x86_64")]
        if simd && let Some(kernels) = avx2::kernels::<T>() {
            return kernels;
        }
        let _ = simd;
        Self {
            trilinear: values::trilinear::<T>,
            gradient: values::gradient::<T>,
            look: Look { stride: Stride::new, scan: scan::scan, near: scan::near },
            across: None,
        }
    }
}

#[expect(unsafe_code, reason = "calls that need a feature found at run time")]
impl<T> Kernels<T> {
    /// Trilinear samples, and which of them pass the test, one bit each.
    #[inline(always)]
    pub(crate) fn trilinear(
        &self,
        voxels: &Voxels<'_, T>,
        samples: Samples<'_>,
        test: Test<'_>,
        out: &mut Batch,
    ) -> u32 {
        // SAFETY: `select`, which alone hands these out, found all features that they need.
        unsafe { (self.trilinear)(voxels, samples, test, out) }
    }

    /// Central differences along x, y, z, interpolated trilinearly.
    #[inline(always)]
    pub(crate) fn gradient(&self, voxels: &Voxels<'_, T>, samples: Samples<'_>) -> [Batch; 3] {
        // SAFETY: as above.
        unsafe { (self.gradient)(voxels, samples) }
    }
}

#[expect(unsafe_code, reason = "calls that need a feature found at run time")]
impl<T> Across<T> {
    /// As [`Kernels::trilinear`], for samples whose support may reach into the next bricks.
    #[inline(always)]
    pub(crate) fn trilinear(
        &self,
        around: &Around<'_, T>,
        samples: Samples<'_>,
        test: Test<'_>,
        out: &mut Batch,
    ) -> u32 {
        // SAFETY: `Kernels::select`, which alone hands these out, found all features that they need.
        unsafe { (self.trilinear)(around, samples, test, out) }
    }

    /// As [`Kernels::gradient`], for samples whose support may reach into the next bricks.
    #[inline(always)]
    pub(crate) fn gradient(&self, around: &Around<'_, T>, samples: Samples<'_>) -> [Batch; 3] {
        // SAFETY: as above.
        unsafe { (self.gradient)(around, samples) }
    }
}

/// Calls `work`, compiled once more for the machine's vector and bit instructions where it has them: what is inlined into the closure benefits.
#[inline(always)]
pub(crate) fn compiled_for_machine<R>(simd: bool, work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if simd && avx2::available() {
        return avx2::run(work);
    }
    let _ = simd;
    work()
}

/// Splits 32.32 into the voxel and the 24 highest bits of the fraction.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the halves of a number; 24 bits fit a float exactly"
)]
pub(crate) fn split(p: i64) -> (i32, f32) {
    ((p >> 32) as i32, ((p as u32) >> 8).cast_signed() as f32 * FRACTION)
}

/// 2^-24.
pub(crate) const FRACTION: f32 = 1.0 / 16_777_216.0;
