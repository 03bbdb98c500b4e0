//! Owns reads of voxels that may lie in several bricks.

#[allow(clippy::wildcard_imports, reason = "each named for what it is")]
use std::arch::x86_64::*;

use super::super::around::{Around, Axis};

/// The voxels of eight samples along one axis of several bricks.
#[derive(Clone, Copy)]
pub(super) struct Along {
    /// The voxel below each.
    voxel: __m256i,
    pub(super) fraction: __m256,
    axis: Axis,
}

impl Along {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(first: i64, step: i64, lanes: [__m256i; 2], axis: Axis) -> Self {
        let (voxel, fraction) = super::axis(first, step, lanes);
        // Samples beyond the outermost voxels are the outermost voxels.
        let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(axis.low), voxel);
        let beyond = _mm256_cmpgt_epi32(voxel, _mm256_set1_epi32(axis.high - 1));
        let outside = _mm256_castsi256_ps(_mm256_or_si256(below, beyond));
        let (low, high) = (_mm256_set1_epi32(axis.low), _mm256_set1_epi32(axis.high));
        let voxel = _mm256_min_epi32(_mm256_max_epi32(voxel, low), high);
        Self { voxel, fraction: _mm256_andnot_ps(outside, fraction), axis }
    }

    /// This axis' part of the places of the voxels so far above those below the samples.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn place<const ABOVE: i32>(&self) -> __m256i {
        let Axis { stride, edge, before, after, low, high } = self.axis;
        let mut voxel = _mm256_add_epi32(self.voxel, _mm256_set1_epi32(ABOVE));
        if ABOVE > 0 {
            voxel = _mm256_min_epi32(voxel, _mm256_set1_epi32(high));
        } else if ABOVE < 0 {
            voxel = _mm256_max_epi32(voxel, _mm256_set1_epi32(low));
        }
        let is_before = _mm256_srai_epi32::<31>(voxel);
        let is_after = _mm256_cmpgt_epi32(voxel, _mm256_set1_epi32(edge - 1));
        let brick = _mm256_or_si256(
            _mm256_and_si256(is_before, _mm256_set1_epi32(before)),
            _mm256_and_si256(is_after, _mm256_set1_epi32(after)),
        );
        let within = if stride == 1 { voxel } else { _mm256_mullo_epi32(voxel, _mm256_set1_epi32(stride)) };
        _mm256_add_epi32(brick, within)
    }
}

/// Whether all of the places in `b` are right after those in `a`.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn follow(a: __m256i, b: __m256i) -> bool {
    let next = _mm256_cmpeq_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(1)), b);
    _mm256_movemask_epi8(next) == -1
}

/// Voxels of two bytes and those that follow them in memory.
///
/// # Safety
/// As [`word_of`], for each voxel and the one after it.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn words_of<T>(around: &Around<'_, T>, place: __m256i) -> __m256i {
    let base = std::ptr::with_exposed_provenance::<i32>(around.base);
    // SAFETY: the four bytes are two voxels of the bricks.
    unsafe { _mm256_i32gather_epi32::<2>(base, place) }
}

/// The aligned four bytes that each voxel is in, shifted so that it comes first.
///
/// # Safety
/// `around` was made by [`Around::new`], and `place` is a sum of [`Along::place`] of its axes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn word_of<T>(around: &Around<'_, T>, place: __m256i) -> __m256i {
    const { assert!(matches!(size_of::<T>(), 1 | 2 | 4)) };
    let base = std::ptr::with_exposed_provenance::<i32>(around.base);
    // Bases are aligned to four bytes, so the lowest bits of the place tell where in the word the voxel is.
    let (word, within) = match size_of::<T>() {
        1 => (
            _mm256_srai_epi32::<2>(place),
            _mm256_and_si256(_mm256_slli_epi32::<3>(place), _mm256_set1_epi32(24)),
        ),
        2 => (
            _mm256_srai_epi32::<1>(place),
            _mm256_and_si256(_mm256_slli_epi32::<4>(place), _mm256_set1_epi32(16)),
        ),
        _ => (place, _mm256_setzero_si256()),
    };
    // SAFETY: such a place is a voxel of one of the bricks, whose provenance `Around::new` exposed. It found their addresses and lengths to be multiples of four
    // bytes, so the aligned word around it belongs to the same brick.
    let read = unsafe { _mm256_i32gather_epi32::<4>(base, word) };
    _mm256_srlv_epi32(read, within)
}
