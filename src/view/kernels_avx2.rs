//! Owns the AVX2 versions of the kernels. Must give the bits that the portable ones give: the same operations in the same order, none fused.

#![expect(unsafe_code, reason = "gathers, and calls that need a feature found at run time")]

use std::any::Any;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_GT_OQ, _CMP_NEQ_UQ, _CMP_ORD_Q, _mm_cvtsi32_si128, _mm256_add_epi32,
    _mm256_add_epi64, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvttps_epi32, _mm256_i32gather_epi32,
    _mm256_i32gather_ps, _mm256_loadu_si256, _mm256_max_epi32, _mm256_max_ps, _mm256_min_epi32,
    _mm256_min_epu32, _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_srl_epi32, _mm256_srli_epi32,
    _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps,
};

use super::{Batch, CellGrid, FRACTION, Kernels, LANES, Ramp, Strides, Test, Voxels};
use crate::voxel::Scalar;

/// The kernels for `T`, if the machine has AVX2 and there are some.
pub(super) fn kernels<T: Scalar>() -> Option<Kernels<T>> {
    if !std::is_x86_feature_detected!("avx2") {
        return None;
    }
    let all: [&dyn Any; 5] = [&U8, &I8, &U16, &I16, &F32];
    all.into_iter().find_map(|k| k.downcast_ref::<Kernels<T>>()).copied()
}

/// The voxels and fractions of eight positions.
#[derive(Clone, Copy)]
struct Positions {
    offset: __m256i,
    fraction: [__m256; 3],
}

#[target_feature(enable = "avx2")]
#[inline]
fn axis(first: i64, multiples: &[i64; LANES]) -> (__m256i, __m256) {
    let base = _mm256_set1_epi64x(first);
    // SAFETY: `multiples` is 64 readable bytes; the load needs no alignment.
    let low = unsafe { _mm256_loadu_si256(multiples.as_ptr().cast()) };
    // SAFETY: the second half of the same 64 bytes, which begins at element 4.
    let high = unsafe { _mm256_loadu_si256(multiples.as_ptr().wrapping_add(4).cast()) };
    let a = _mm256_castsi256_ps(_mm256_add_epi64(base, low));
    let b = _mm256_castsi256_ps(_mm256_add_epi64(base, high));
    let whole = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
    let rest = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
    let fraction = _mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(rest));
    (whole, _mm256_mul_ps(fraction, _mm256_set1_ps(FRACTION)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn positions(first: [i64; 3], strides: &Strides, stride_y: i32, stride_z: i32) -> Positions {
    let (x, fx) = axis(first[0], &strides.multiples[0]);
    let (y, fy) = axis(first[1], &strides.multiples[1]);
    let (z, fz) = axis(first[2], &strides.multiples[2]);
    let y = _mm256_mullo_epi32(y, _mm256_set1_epi32(stride_y));
    let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(stride_z));
    Positions { offset: _mm256_add_epi32(x, _mm256_add_epi32(y, z)), fraction: [fx, fy, fz] }
}

#[target_feature(enable = "avx2")]
#[inline]
fn lerp(a: __m256, b: __m256, f: __m256) -> __m256 {
    _mm256_add_ps(a, _mm256_mul_ps(_mm256_sub_ps(b, a), f))
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(v: __m256) -> Batch {
    let mut out = [0.0; LANES];
    // SAFETY: `out` is 32 writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) };
    out
}

/// `offset`, but no more than leaves `room` voxels of the slice. Lengths are 4 to `i32::MAX`, see [`Voxels::new`].
#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "Voxels::new bounds the length"
)]
fn clamped<T>(voxels: &[T], offset: __m256i, room: usize) -> __m256i {
    _mm256_min_epu32(offset, _mm256_set1_epi32((voxels.len() - room) as i32))
}

/// The 16 bits at each offset in the lower half, those after them in the upper.
#[target_feature(enable = "avx2")]
#[inline]
fn words<T>(voxels: &[T], offset: __m256i) -> __m256i {
    const { assert!(size_of::<T>() == 2) };
    let at = clamped(voxels, offset, 2);
    // SAFETY: every lane of `at` is at most len - 2, so the four bytes at twice that are inside the slice; the indices are not negative as len fits an i32.
    unsafe { _mm256_i32gather_epi32::<2>(voxels.as_ptr().cast(), at) }
}

/// The byte at each offset in the lowest quarter, the one after it in the next.
#[target_feature(enable = "avx2")]
#[inline]
fn bytes<T>(voxels: &[T], offset: __m256i) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    let at = clamped(voxels, offset, 2);
    let from = clamped(voxels, at, 4);
    // SAFETY: every lane of `from` is at most len - 4, so the four bytes there are inside the slice; the indices are not negative as len fits an i32.
    let read = unsafe { _mm256_i32gather_epi32::<1>(voxels.as_ptr().cast(), from) };
    _mm256_srlv_epi32(read, _mm256_slli_epi32::<3>(_mm256_sub_epi32(at, from)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn pairs_u8(voxels: &[u8], offset: __m256i) -> [__m256; 2] {
    let (read, byte) = (bytes(voxels, offset), _mm256_set1_epi32(0xff));
    let second = _mm256_and_si256(_mm256_srli_epi32::<8>(read), byte);
    [_mm256_cvtepi32_ps(_mm256_and_si256(read, byte)), _mm256_cvtepi32_ps(second)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn pairs_i8(voxels: &[i8], offset: __m256i) -> [__m256; 2] {
    let read = bytes(voxels, offset);
    let first = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(read));
    let second = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<16>(read));
    [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn pairs_u16(voxels: &[u16], offset: __m256i) -> [__m256; 2] {
    let read = words(voxels, offset);
    let first = _mm256_and_si256(read, _mm256_set1_epi32(0xffff));
    [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(read))]
}

#[target_feature(enable = "avx2")]
#[inline]
fn pairs_i16(voxels: &[i16], offset: __m256i) -> [__m256; 2] {
    let read = words(voxels, offset);
    let first = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(read));
    [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(_mm256_srai_epi32::<16>(read))]
}

#[target_feature(enable = "avx2")]
#[inline]
fn pairs_f32(voxels: &[f32], offset: __m256i) -> [__m256; 2] {
    let at = clamped(voxels, offset, 2);
    // SAFETY: every lane of `at` is at most len - 2 and not negative, as len fits an i32.
    let first = unsafe { _mm256_i32gather_ps::<4>(voxels.as_ptr(), at) };
    let next = _mm256_add_epi32(at, _mm256_set1_epi32(1));
    // SAFETY: every lane of `next` is at most len - 1 and not negative, as len fits an i32.
    let second = unsafe { _mm256_i32gather_ps::<4>(voxels.as_ptr(), next) };
    [first, second]
}

macro_rules! kernels_of {
    ($t:ty, $name:ident, $module:ident, $pairs:ident) => {
        const $name: Kernels<$t> = Kernels {
            trilinear: |v, first, strides, test, out| {
                // SAFETY: `kernels`, which alone hands this out, found AVX2 on this machine.
                unsafe { $module::trilinear(v, first, strides, test, out) }
            },
            gradient: |v, first, strides| {
                // SAFETY: as above.
                unsafe { $module::gradient(v, first, strides) }
            },
            scan: |cells, first, strides, threshold, count| {
                // SAFETY: as above.
                unsafe { scan(cells, first, strides, threshold, count) }
            },
        };

        mod $module {
            use super::*;

            #[target_feature(enable = "avx2")]
            pub(super) fn trilinear(
                v: &Voxels<'_, $t>,
                first: [i64; 3],
                strides: &Strides,
                test: Test<'_>,
                out: &mut Batch,
            ) -> u32 {
                let p = positions(first, strides, v.stride_y, v.stride_z);
                let [fx, fy, fz] = p.fraction;
                let (down, back) = (_mm256_set1_epi32(v.stride_y), _mm256_set1_epi32(v.stride_z));
                let row = |at| {
                    let [a, b] = $pairs(v.voxels, at);
                    lerp(a, b, fx)
                };
                let slice = |at| lerp(row(at), row(_mm256_add_epi32(at, down)), fy);
                let values = lerp(slice(p.offset), slice(_mm256_add_epi32(p.offset, back)), fz);
                *out = store(values);
                mask(values, test)
            }

            #[target_feature(enable = "avx2")]
            pub(super) fn gradient(v: &Voxels<'_, $t>, first: [i64; 3], strides: &Strides) -> [Batch; 3] {
                let p = positions(first, strides, v.stride_y, v.stride_z);
                let [fx, fy, fz] = p.fraction;
                let at = |y: i32, z: i32| {
                    let by = y.wrapping_mul(v.stride_y).wrapping_add(z.wrapping_mul(v.stride_z));
                    _mm256_add_epi32(p.offset, _mm256_set1_epi32(by))
                };
                let row = |y, z| {
                    let [a, b] = $pairs(v.voxels, at(y, z));
                    lerp(a, b, fx)
                };
                // A row's sample, and its difference along x.
                let both = |y, z| {
                    let [before, here] = $pairs(v.voxels, _mm256_sub_epi32(at(y, z), _mm256_set1_epi32(1)));
                    let [next, after] = $pairs(v.voxels, _mm256_add_epi32(at(y, z), _mm256_set1_epi32(1)));
                    let along = lerp(_mm256_sub_ps(next, before), _mm256_sub_ps(after, here), fx);
                    (lerp(here, next, fx), along)
                };
                let ((r11, x11), (r21, x21)) = (both(0, 0), both(1, 0));
                let ((r12, x12), (r22, x22)) = (both(0, 1), both(1, 1));
                let x = lerp(lerp(x11, x21, fy), lerp(x12, x22, fy), fz);
                let y1 = lerp(_mm256_sub_ps(r21, row(-1, 0)), _mm256_sub_ps(row(2, 0), r11), fy);
                let y2 = lerp(_mm256_sub_ps(r22, row(-1, 1)), _mm256_sub_ps(row(2, 1), r12), fy);
                let z1 = lerp(_mm256_sub_ps(r12, row(0, -1)), _mm256_sub_ps(r22, row(1, -1)), fy);
                let z2 = lerp(_mm256_sub_ps(row(0, 2), r11), _mm256_sub_ps(row(1, 2), r21), fy);
                [store(x), store(lerp(y1, y2, fz)), store(lerp(z1, z2, fz))]
            }
        }
    };
}

kernels_of!(u8, U8, of_u8, pairs_u8);
kernels_of!(i8, I8, of_i8, pairs_i8);
kernels_of!(u16, U16, of_u16, pairs_u16);
kernels_of!(i16, I16, of_i16, pairs_i16);
kernels_of!(f32, F32, of_f32, pairs_f32);

#[target_feature(enable = "avx2")]
#[inline]
fn mask(v: __m256, test: Test<'_>) -> u32 {
    let passes = match test {
        Test::Seen(ramp) => seen(v, ramp),
        Test::Above(least) => _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_set1_ps(least)),
    };
    _mm256_movemask_ps(passes).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a table has at most 65 535 entries"
)]
fn seen(v: __m256, ramp: Ramp<'_>) -> __m256 {
    if ramp.entries.is_empty() {
        return _mm256_setzero_ps();
    }
    let x = _mm256_mul_ps(_mm256_sub_ps(v, _mm256_set1_ps(ramp.low)), _mm256_set1_ps(ramp.per_value));
    // The second operand is what `max` gives for NaN.
    let x = _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), _mm256_set1_ps(ramp.last));
    let last = ramp.entries.len().min(i32::MAX as usize) as i32 - 1;
    let at = _mm256_min_epu32(_mm256_cvttps_epi32(x), _mm256_set1_epi32(last));
    // SAFETY: every lane of `at` is at most the last index and not negative.
    let entries = unsafe { _mm256_i32gather_ps::<4>(ramp.entries.as_ptr(), at) };
    let seen = _mm256_cmp_ps::<_CMP_NEQ_UQ>(entries, _mm256_setzero_ps());
    let number = _mm256_cmp_ps::<_CMP_ORD_Q>(v, v);
    _mm256_and_ps(seen, number)
}

/// The voxels along one axis, of eight samples at a time.
#[derive(Clone, Copy)]
struct Walk {
    low: __m256i,
    high: __m256i,
    /// Eight steps.
    by: __m256i,
    last: __m256i,
    shift: __m128i,
}

impl Walk {
    #[target_feature(enable = "avx2")]
    #[inline]
    #[expect(clippy::cast_possible_wrap, reason = "at most 31")]
    fn new(first: i64, multiples: &[i64; LANES], last: i32, shift: u32) -> Self {
        let base = _mm256_set1_epi64x(first);
        // SAFETY: `multiples` is 64 readable bytes; the load needs no alignment.
        let low = unsafe { _mm256_loadu_si256(multiples.as_ptr().cast()) };
        // SAFETY: the second half of the same 64 bytes, which begins at element 4.
        let high = unsafe { _mm256_loadu_si256(multiples.as_ptr().wrapping_add(4).cast()) };
        Self {
            low: _mm256_add_epi64(base, low),
            high: _mm256_add_epi64(base, high),
            by: _mm256_set1_epi64x(multiples[1].wrapping_mul(8)),
            last: _mm256_set1_epi32(last),
            shift: _mm_cvtsi32_si128(shift as i32),
        }
    }

    /// The cells of these samples, and on to the next eight.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn cells(&mut self) -> __m256i {
        let (a, b) = (_mm256_castsi256_ps(self.low), _mm256_castsi256_ps(self.high));
        let voxel = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
        let inside = _mm256_min_epi32(_mm256_max_epi32(voxel, _mm256_setzero_si256()), self.last);
        self.low = _mm256_add_epi64(self.low, self.by);
        self.high = _mm256_add_epi64(self.high, self.by);
        _mm256_srl_epi32(inside, self.shift)
    }
}

#[target_feature(enable = "avx2")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "CellGrid::new bounds the length"
)]
fn scan(cells: &CellGrid<'_>, first: [i64; 3], strides: &Strides, threshold: f32, count: u32) -> u64 {
    let walk = |a: usize| Walk::new(first[a], &strides.multiples[a], cells.last[a], cells.shift[a]);
    let (mut x, mut y, mut z) = (walk(0), walk(1), walk(2));
    let (down, back) = (_mm256_set1_epi32(cells.stride[0]), _mm256_set1_epi32(cells.stride[1]));
    let last = _mm256_set1_epi32(cells.importance.len() as i32 - 1);
    let threshold = _mm256_set1_ps(threshold);
    let count = count.min(64);
    let mut mask = 0;
    for done in (0..count).step_by(LANES) {
        let rows = _mm256_add_epi32(_mm256_mullo_epi32(y.cells(), down), _mm256_mullo_epi32(z.cells(), back));
        let at = _mm256_min_epu32(_mm256_add_epi32(x.cells(), rows), last);
        // SAFETY: every lane of `at` is at most the last index and not negative; `CellGrid::new` refuses an empty slice.
        let importance = unsafe { _mm256_i32gather_ps::<4>(cells.importance.as_ptr(), at) };
        let matters = _mm256_cmp_ps::<_CMP_GT_OQ>(importance, threshold);
        mask |= u64::from(_mm256_movemask_ps(matters).cast_unsigned()) << done;
    }
    if count < 64 { mask & ((1 << count) - 1) } else { mask }
}
