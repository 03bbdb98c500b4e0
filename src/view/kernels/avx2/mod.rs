//! Owns the AVX2 versions of the kernels. Must give the bits that the portable ones give: the same operations in the same order, none fused.

#![expect(unsafe_code, reason = "gathers, and calls that need a feature found at run time")]

use std::any::Any;
#[allow(clippy::wildcard_imports, reason = "forty instructions, each named for what it is")]
use std::arch::x86_64::*;

use super::around::Around;
use super::{Across, Batch, FRACTION, Kernels, LANES, Lanes, Look, Ramp, Samples, Test, Voxels};
use crate::voxel::Scalar;

mod across;
mod scan;

use across::{Along, bytes_of, follow, word_of, words_of};
use scan::{groups_near, scan, stride};

/// Whether the machine has all that is used here.
pub(super) fn available() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("lzcnt")
        && std::is_x86_feature_detected!("popcnt")
}

/// The kernels for `T`, if the machine has AVX2 and there are some.
pub(super) fn kernels<T: Scalar>() -> Option<Kernels<T>> {
    if !available() {
        return None;
    }
    let all: [&dyn Any; 5] = [&U8, &I8, &U16, &I16, &F32];
    all.into_iter().find_map(|k| k.downcast_ref::<Kernels<T>>()).copied()
}

/// Calls `work`, compiled with the features that [`available`] found.
pub(super) fn run<R>(work: impl FnOnce() -> R) -> R {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn with_features<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    if !available() {
        return work();
    }
    // SAFETY: all these features were found just now.
    unsafe { with_features(work) }
}

/// The voxels and fractions of eight positions.
#[derive(Clone, Copy)]
struct Positions {
    offset: __m256i,
    fraction: [__m256; 3],
}

/// Lanes 0, 1, 4, 5 and 2, 3, 6, 7, widened to 64 bits: what [`halves`] puts into order.
#[target_feature(enable = "avx2")]
#[inline]
fn widened(lanes: &Lanes) -> [__m256i; 2] {
    // SAFETY: `lanes` is 32 readable bytes; the load needs no alignment.
    let lanes = unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) };
    let zero = _mm256_setzero_si256();
    [_mm256_unpacklo_epi32(lanes, zero), _mm256_unpackhi_epi32(lanes, zero)]
}

/// `first + lane * step`, modulo 2^64.
#[target_feature(enable = "avx2")]
#[inline]
fn places(first: i64, step: i64, [a, b]: [__m256i; 2]) -> [__m256i; 2] {
    let first = _mm256_set1_epi64x(first);
    let (low, high) = (_mm256_set1_epi64x(step), _mm256_set1_epi64x(step >> 32));
    let place = |lane| {
        let upper = _mm256_slli_epi64::<32>(_mm256_mul_epu32(lane, high));
        _mm256_add_epi64(first, _mm256_add_epi64(upper, _mm256_mul_epu32(lane, low)))
    };
    [place(a), place(b)]
}

/// The voxels and the fractions' bits of eight places.
#[target_feature(enable = "avx2")]
#[inline]
fn halves([a, b]: [__m256i; 2]) -> (__m256i, __m256i) {
    let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    let whole = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
    (whole, _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(a, b)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn axis(first: i64, step: i64, lanes: [__m256i; 2]) -> (__m256i, __m256) {
    let (whole, rest) = halves(places(first, step, lanes));
    let fraction = _mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(rest));
    (whole, _mm256_mul_ps(fraction, _mm256_set1_ps(FRACTION)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn positions(first: [i64; 3], step: [i64; 3], lanes: &Lanes, stride_y: i32, stride_z: i32) -> Positions {
    let lanes = widened(lanes);
    let (x, fx) = axis(first[0], step[0], lanes);
    let (y, fy) = axis(first[1], step[1], lanes);
    let (z, fz) = axis(first[2], step[2], lanes);
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

/// Interpolated central differences. `$all` gives the four voxels along x of a row, `$inner` the middle two; rows by y and z around the sample's.
macro_rules! gradient_of {
    ($all:ident, $inner:ident, $fx:ident, $fy:ident, $fz:ident) => {{
        let (r11, r21, r12, r22) = ($all!(0, 0), $all!(1, 0), $all!(0, 1), $all!(1, 1));
        let (a0, b0) = (lerp(r11[0], r12[0], $fz), lerp(r21[0], r22[0], $fz));
        let (a1, b1) = (lerp(r11[1], r12[1], $fz), lerp(r21[1], r22[1], $fz));
        let (a2, b2) = (lerp(r11[2], r12[2], $fz), lerp(r21[2], r22[2], $fz));
        let (a3, b3) = (lerp(r11[3], r12[3], $fz), lerp(r21[3], r22[3], $fz));
        let x = lerp(
            _mm256_sub_ps(lerp(a2, b2, $fy), lerp(a0, b0, $fy)),
            _mm256_sub_ps(lerp(a3, b3, $fy), lerp(a1, b1, $fy)),
            $fx,
        );
        let ([p1, p2], [q1, q2]) = ($inner!(-1, 0), $inner!(-1, 1));
        let ([s1, s2], [t1, t2]) = ($inner!(2, 0), $inner!(2, 1));
        let y = lerp(
            slope([lerp(p1, q1, $fz), a1, b1, lerp(s1, t1, $fz)], $fy),
            slope([lerp(p2, q2, $fz), a2, b2, lerp(s2, t2, $fz)], $fy),
            $fx,
        );
        let ([c1, c2], [d1, d2]) = ($inner!(0, -1), $inner!(1, -1));
        let ([e1, e2], [f1, f2]) = ($inner!(0, 2), $inner!(1, 2));
        let z = lerp(
            lerp(slope([c1, r11[1], r12[1], e1], $fz), slope([d1, r21[1], r22[1], f1], $fz), $fy),
            lerp(slope([c2, r11[2], r12[2], e2], $fz), slope([d2, r21[2], r22[2], f2], $fz), $fy),
            $fx,
        );
        [store(x), store(y), store(z)]
    }};
}

/// The interpolated difference of four values in a row.
#[target_feature(enable = "avx2")]
#[inline]
fn slope([before, here, next, after]: [__m256; 4], f: __m256) -> __m256 {
    lerp(_mm256_sub_ps(next, before), _mm256_sub_ps(after, here), f)
}

macro_rules! kernels_of {
    ($t:ty, $name:ident, $module:ident, $pairs:ident, $first:ident) => {
        const $name: Kernels<$t> = Kernels {
            trilinear: $module::trilinear,
            gradient: $module::gradient,
            look: Look { stride, scan, near: groups_near },
            across: Some(Across { trilinear: $module::trilinear_across, gradient: $module::gradient_across }),
        };

        mod $module {
            use super::*;

            #[target_feature(enable = "avx2")]
            pub(super) fn trilinear(
                v: &Voxels<'_, $t>,
                Samples { first, step, lanes }: Samples<'_>,
                test: Test<'_>,
                out: &mut Batch,
            ) -> u32 {
                let p = positions(first, step, lanes, v.stride_y, v.stride_z);
                let [fx, fy, fz] = p.fraction;
                let (down, back) = (_mm256_set1_epi32(v.stride_y), _mm256_set1_epi32(v.stride_z));
                let row = |at| {
                    let [a, b] = $pairs(v.all, at);
                    lerp(a, b, fx)
                };
                let slice = |at| lerp(row(at), row(_mm256_add_epi32(at, down)), fy);
                let values = lerp(slice(p.offset), slice(_mm256_add_epi32(p.offset, back)), fz);
                *out = store(values);
                mask(values, test)
            }

            #[target_feature(enable = "avx2")]
            pub(super) fn gradient(
                v: &Voxels<'_, $t>,
                Samples { first, step, lanes }: Samples<'_>,
            ) -> [Batch; 3] {
                let p = positions(first, step, lanes, v.stride_y, v.stride_z);
                let [fx, fy, fz] = p.fraction;
                macro_rules! at {
                    ($x:expr, $y:expr, $z:expr) => {{
                        let (y, z): (i32, i32) = ($y, $z);
                        let rows = y.wrapping_mul(v.stride_y).wrapping_add(z.wrapping_mul(v.stride_z));
                        _mm256_add_epi32(p.offset, _mm256_set1_epi32(rows.wrapping_add($x)))
                    }};
                }
                macro_rules! inner {
                    ($y:expr, $z:expr) => {
                        $pairs(v.all, at!(0, $y, $z))
                    };
                }
                macro_rules! all {
                    ($y:expr, $z:expr) => {{
                        let [before, here] = $pairs(v.all, at!(-1, $y, $z));
                        let [next, after] = $pairs(v.all, at!(1, $y, $z));
                        [before, here, next, after]
                    }};
                }
                gradient_of!(all, inner, fx, fy, fz)
            }

            #[target_feature(enable = "avx2")]
            pub(super) fn trilinear_across(
                v: &Around<'_, $t>,
                Samples { first, step, lanes }: Samples<'_>,
                test: Test<'_>,
                out: &mut Batch,
            ) -> u32 {
                let lanes = widened(lanes);
                let x = Along::new(first[0], step[0], lanes, &v.axes[0]);
                let y = Along::new(first[1], step[1], lanes, &v.axes[1]);
                let z = Along::new(first[2], step[2], lanes, &v.axes[2]);
                let ([x0, x1], [y0, y1]) =
                    ([x.place::<0>(), x.place::<1>()], [y.place::<0>(), y.place::<1>()]);
                let [z0, z1] = [z.place::<0>(), z.place::<1>()];
                let (fx, fy, fz) = (x.fraction, y.fraction, z.fraction);
                let joined = follow(x0, x1);
                macro_rules! row {
                    ($y:expr, $z:expr) => {{
                        let [a, b] = pair(v, _mm256_add_epi32($y, $z), [x0, x1], joined);
                        lerp(a, b, fx)
                    }};
                }
                let near = lerp(row!(y0, z0), row!(y1, z0), fy);
                let values = lerp(near, lerp(row!(y0, z1), row!(y1, z1), fy), fz);
                *out = store(values);
                mask(values, test)
            }

            #[target_feature(enable = "avx2")]
            pub(super) fn gradient_across(
                v: &Around<'_, $t>,
                Samples { first, step, lanes }: Samples<'_>,
            ) -> [Batch; 3] {
                let lanes = widened(lanes);
                let x = Along::new(first[0], step[0], lanes, &v.axes[0]);
                let y = Along::new(first[1], step[1], lanes, &v.axes[1]);
                let z = Along::new(first[2], step[2], lanes, &v.axes[2]);
                let [x0, x1, x2, x3] = [x.place::<-1>(), x.place::<0>(), x.place::<1>(), x.place::<2>()];
                let rows_y = [y.place::<-1>(), y.place::<0>(), y.place::<1>(), y.place::<2>()];
                let rows_z = [z.place::<-1>(), z.place::<0>(), z.place::<1>(), z.place::<2>()];
                let (fx, fy, fz) = (x.fraction, y.fraction, z.fraction);
                let joined = follow(x0, x1) && follow(x1, x2) && follow(x2, x3);
                macro_rules! row {
                    ($y:expr, $z:expr) => {
                        _mm256_add_epi32(rows_y[($y + 1) as usize], rows_z[($z + 1) as usize])
                    };
                }
                macro_rules! inner {
                    ($y:expr, $z:expr) => {
                        pair(v, row!($y, $z), [x1, x2], joined)
                    };
                }
                macro_rules! all {
                    ($y:expr, $z:expr) => {{
                        let [before, here] = pair(v, row!($y, $z), [x0, x1], joined);
                        let [next, after] = pair(v, row!($y, $z), [x2, x3], joined);
                        [before, here, next, after]
                    }};
                }
                gradient_of!(all, inner, fx, fy, fz)
            }

            /// The voxels at two places of a row, sums of [`Along::place`]s; `joined` if each second one follows the first.
            #[target_feature(enable = "avx2")]
            #[inline]
            fn pair(v: &Around<'_, $t>, row: __m256i, [a, b]: [__m256i; 2], joined: bool) -> [__m256; 2] {
                let (a, b) = (_mm256_add_epi32(row, a), _mm256_add_epi32(row, b));
                if joined && size_of::<$t>() == 1 {
                    // SAFETY: the callers above add up one place of each axis, and both voxels are there.
                    let both = unsafe { bytes_of(v, a) };
                    return [$first(both), $first(_mm256_srli_epi32::<8>(both))];
                }
                if joined && size_of::<$t>() == 2 {
                    // SAFETY: as above.
                    let both = unsafe { words_of(v, a) };
                    return [$first(both), $first(_mm256_srli_epi32::<16>(both))];
                }
                // SAFETY: the callers above add up one place of each axis.
                let (a, b) = unsafe { (word_of(v, a), word_of(v, b)) };
                [$first(a), $first(b)]
            }
        }
    };
}

/// The first voxel in each word, as a number.
#[target_feature(enable = "avx2")]
#[inline]
fn first_u8(word: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_and_si256(word, _mm256_set1_epi32(0xff)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn first_i8(word: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(word)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn first_u16(word: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_and_si256(word, _mm256_set1_epi32(0xffff)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn first_i16(word: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(word)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn first_f32(word: __m256i) -> __m256 {
    _mm256_castsi256_ps(word)
}

kernels_of!(u8, U8, of_u8, pairs_u8, first_u8);
kernels_of!(i8, I8, of_i8, pairs_i8, first_i8);
kernels_of!(u16, U16, of_u16, pairs_u16, first_u16);
kernels_of!(i16, I16, of_i16, pairs_i16, first_i16);
kernels_of!(f32, F32, of_f32, pairs_f32, first_f32);

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
fn seen(v: __m256, ramp: Ramp<'_>) -> __m256 {
    if ramp.entries.is_empty() {
        return _mm256_setzero_ps();
    }
    let x = _mm256_mul_ps(_mm256_sub_ps(v, _mm256_set1_ps(ramp.low)), _mm256_set1_ps(ramp.per_value));
    // The second operand is what `max` gives for NaN.
    let x = _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), _mm256_set1_ps(ramp.last));
    let entries = numbers(ramp.entries, _mm256_cvttps_epi32(x));
    let seen = _mm256_cmp_ps::<_CMP_NEQ_UQ>(entries, _mm256_setzero_ps());
    let number = _mm256_cmp_ps::<_CMP_ORD_Q>(v, v);
    _mm256_and_ps(seen, number)
}

/// Entries of a table that is not empty; an index beyond it gives the last one.
#[target_feature(enable = "avx2")]
#[inline]
fn numbers(all: &[f32], at: __m256i) -> __m256 {
    let at = _mm256_min_epu32(at, last_index(all));
    // SAFETY: every lane of `at` is at most the last index and not negative; `Coarse` and `seen` refuse empty slices.
    unsafe { _mm256_i32gather_ps::<4>(all.as_ptr(), at) }
}

/// As [`numbers`].
#[target_feature(enable = "avx2")]
#[inline]
fn words_at(all: &[u32], at: __m256i) -> __m256i {
    let at = _mm256_min_epu32(at, last_index(all));
    // SAFETY: every lane of `at` is at most the last index and not negative; `Bits` refuses empty slices.
    unsafe { _mm256_i32gather_epi32::<4>(all.as_ptr().cast(), at) }
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most i32::MAX")]
fn last_index<N>(all: &[N]) -> __m256i {
    _mm256_set1_epi32((all.len().min(i32::MAX as usize) as i32) - 1)
}
