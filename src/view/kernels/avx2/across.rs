//! Owns reads of voxels that may lie in several bricks.

#[allow(clippy::wildcard_imports, reason = "each named for what it is")]
use std::arch::x86_64::*;

use super::super::around::{Around, Axis};

/// The voxels of eight samples along one axis of several bricks.
#[derive(Clone, Copy)]
pub(super) struct Along<'v> {
    /// The voxel below each.
    voxel: __m256i,
    pub(super) fraction: __m256,
    axis: &'v Axis,
}

impl<'v> Along<'v> {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(first: i64, step: i64, lanes: [__m256i; 2], axis: &'v Axis) -> Self {
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
        let Axis { ways, shift, stride, low, high } = self.axis;
        let mut voxel = _mm256_add_epi32(self.voxel, _mm256_set1_epi32(ABOVE));
        if ABOVE > 0 {
            voxel = _mm256_min_epi32(voxel, _mm256_set1_epi32(*high));
        } else if ABOVE < 0 {
            voxel = _mm256_max_epi32(voxel, _mm256_set1_epi32(*low));
        }
        // SAFETY: `ways` is 32 readable bytes; the load needs no alignment.
        let ways = unsafe { _mm256_loadu_si256(ways.as_ptr().cast()) };
        // Of the brick only the lowest three bits count, which are all set for the one before the first.
        let way = _mm256_permutevar8x32_epi32(ways, _mm256_srlv_epi32(voxel, _mm256_set1_epi32(*shift)));
        let within = if *stride == 1 { voxel } else { _mm256_mullo_epi32(voxel, _mm256_set1_epi32(*stride)) };
        _mm256_add_epi32(way, within)
    }
}

/// Whether all of the places in `b` are right after those in `a`.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn follow(a: __m256i, b: __m256i) -> bool {
    let next = _mm256_cmpeq_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(1)), b);
    _mm256_movemask_epi8(next) == -1
}

/// Voxels of one byte and those that follow them in memory.
///
/// # Safety
/// As [`word_of`], for each voxel and the one after it.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn bytes_of<T>(around: &Around<'_, T>, place: __m256i) -> __m256i {
    let base = std::ptr::with_exposed_provenance::<i32>(around.base);
    // A read from the voxel on could end in another brick, so it begins up to two voxels before, in the same aligned word.
    let before = _mm256_min_epu32(_mm256_and_si256(place, _mm256_set1_epi32(3)), _mm256_set1_epi32(2));
    let from = _mm256_sub_epi32(place, before);
    // SAFETY: bases and bricks are aligned to four bytes, so the four bytes from there on end with the word that the voxel is in, or with the voxel after it.
    let read = unsafe { _mm256_i32gather_epi32::<1>(base, from) };
    _mm256_srlv_epi32(read, _mm256_slli_epi32::<3>(before))
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
