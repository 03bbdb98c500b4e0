//! Owns [`Downsample`], the ways in which a block of voxels becomes one, and [`Reducer`], which does it row by row. Knows nothing of sources.

use std::any::TypeId;
use std::cmp::Ordering;
use std::ops::{Add, AddAssign};

use crate::voxel::Scalar;

/// How a block of voxels becomes one voxel of the next level. Blocks that reach beyond a far face count what exists of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Downsample {
    /// The mean. Integers are rounded to the nearest, halves away from zero; floats are summed in double precision. NaN is ignored, unless
    /// all is NaN. For measured values.
    #[default]
    Mean,
    /// The greatest value. NaN is ignored, unless all is NaN. So that bright spots stay in sight.
    Max,
    /// The most frequent value, the smaller of equally frequent ones. NaN is ignored, unless all is NaN. For labels.
    Mode,
}

/// Turns rows of voxels into one row of blocks. Keeps its buffers between rows.
#[derive(Debug)]
pub(crate) struct Reducer<T> {
    method: Downsample,
    /// Of integers: exact, for blocks have at most 2^18 voxels of 32 bits.
    whole_sums: Vec<i64>,
    /// Of integers of 16 bits at most, in small blocks: exact, and twice as many at once.
    short_sums: Vec<i32>,
    sums: Vec<f64>,
    block: Vec<T>,
}

impl<T: Scalar> Reducer<T> {
    pub(crate) fn new(method: Downsample) -> Self {
        Self { method, whole_sums: Vec::new(), short_sums: Vec::new(), sums: Vec::new(), block: Vec::new() }
    }

    /// Each voxel of `out` becomes that of `across` voxels of every row (fewer at the end, where the rows end).
    ///
    /// **Shape**: rows are of equal length, and have voxels for each of `out`.
    pub(crate) fn row<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [T]> + Clone,
        across: usize,
        out: &mut [T],
    ) {
        match self.method {
            Downsample::Mean if is::<T, u8>() => self.mean_of_integers::<u8>(rows, across, out),
            Downsample::Mean if is::<T, i8>() => self.mean_of_integers::<i8>(rows, across, out),
            Downsample::Mean if is::<T, u16>() => self.mean_of_integers::<u16>(rows, across, out),
            Downsample::Mean if is::<T, i16>() => self.mean_of_integers::<i16>(rows, across, out),
            Downsample::Mean if is::<T, u32>() => self.mean_of_integers::<u32>(rows, across, out),
            Downsample::Mean if is::<T, i32>() => self.mean_of_integers::<i32>(rows, across, out),
            Downsample::Mean => self.mean_of_others(&rows, across, out),
            Downsample::Max => max(rows, across, out),
            Downsample::Mode => self.mode(&rows, across, out),
        }
    }

    /// `W` is `T`.
    fn mean_of_integers<'a, W: Whole>(
        &mut self,
        rows: impl Iterator<Item = &'a [T]> + Clone,
        across: usize,
        out: &mut [T],
    ) {
        let voxels = rows.clone().count() * across;
        let rows = rows.map(|row| bytemuck::cast_slice(row));
        let out: &mut [W] = bytemuck::cast_slice_mut(out);
        if size_of::<W>() <= 2 && voxels <= MOST_SHORT {
            let (count, width) = add_up(rows, across, out.len(), &mut self.short_sums, |v: W| v.short());
            means(&self.short_sums, (count, across, width), out);
        } else {
            let (count, width) = add_up(rows, across, out.len(), &mut self.whole_sums, |v: W| v.wide());
            means(&self.whole_sums, (count, across, width), out);
        }
    }

    /// Of floats, and of whatever else is a [`Scalar`]: summed in double precision.
    fn mean_of_others<'a>(
        &mut self,
        rows: &(impl Iterator<Item = &'a [T]> + Clone),
        across: usize,
        out: &mut [T],
    ) {
        let (count, width) = add_up(rows.clone(), across, out.len(), &mut self.sums, Scalar::to_f64);
        let last = out.len().saturating_sub(1);
        for (i, (out, &sum)) in out.iter_mut().zip(&self.sums).enumerate() {
            let in_row = if i == last { width - last * across } else { across };
            let mut mean = sum / (count * in_row) as f64;
            if mean.is_nan() {
                let block = rows.clone().flat_map(|row| row[i * across..].iter().take(across));
                mean = mean_of_numbers(block.map(|v| v.to_f64()));
            }
            // The NaN of a division has a sign that depends on the machine.
            *out = T::from_f64(if mean.is_nan() { f64::NAN } else { mean });
        }
    }

    fn mode<'a>(&mut self, rows: &(impl Iterator<Item = &'a [T]> + Clone), across: usize, out: &mut [T]) {
        for (i, out) in out.iter_mut().enumerate() {
            self.block.clear();
            for row in rows.clone() {
                self.block.extend(row[i * across..].iter().take(across));
            }
            *out = most_frequent(&mut self.block);
        }
    }
}

fn is<T: 'static, W: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<W>()
}

/// What the sums of blocks become, each of `across` voxels of `count` rows, which are `width` long.
fn means<W: Whole, S: Sum>(sums: &[S], (count, across, width): (usize, usize, usize), out: &mut [W]) {
    let whole = |voxels: usize| i64::try_from(voxels).unwrap_or(i64::MAX);
    let (voxels, blocks) = (whole(count * across), out.len());
    if voxels.count_ones() == 1 {
        // Most blocks have 2, 4 or 8 voxels.
        let (half, shift) = (S::of(voxels / 2), voxels.trailing_zeros());
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = W::narrow(sum.halved(half, shift));
        }
    } else {
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = W::narrow(rounded(sum.into(), voxels));
        }
    }
    if let (Some(last), Some(&sum)) = (out.last_mut(), sums.last()) {
        *last = W::narrow(rounded(sum.into(), whole(count * (width - (blocks - 1) * across))));
    }
}

/// Adds the voxels of each block up into `sums`. Gives the number of rows, and their width.
fn add_up<'a, T: Scalar, S: Copy + Default + Add<Output = S> + AddAssign>(
    rows: impl Iterator<Item = &'a [T]>,
    across: usize,
    blocks: usize,
    sums: &mut Vec<S>,
    summand: impl Fn(T) -> S,
) -> (usize, usize) {
    sums.clear();
    sums.resize(blocks, S::default());
    let (mut count, mut width) = (0, 0);
    for row in rows {
        count += 1;
        width = row.len();
        if across == 2 {
            let (pairs, rest) = row.as_chunks::<2>();
            for (sum, &[a, b]) in sums.iter_mut().zip(pairs) {
                *sum += summand(a) + summand(b);
            }
            if let (Some(last), Some(&v)) = (sums.last_mut(), rest.first()) {
                *last += summand(v);
            }
        } else {
            for (sum, block) in sums.iter_mut().zip(row.chunks(across)) {
                *sum = block.iter().fold(*sum, |sum, &v| sum + summand(v));
            }
        }
    }
    (count, width)
}

/// The mean of what is not NaN, or NaN: of nothing (0 / 0), and of infinities of both signs.
fn mean_of_numbers(values: impl Iterator<Item = f64>) -> f64 {
    let numbers = values.filter(|v| !v.is_nan());
    let (sum, count) = numbers.fold((0.0, 0u32), |(sum, count), v| (sum + v, count + 1));
    sum / f64::from(count)
}

/// The nearest integer to `sum / count`, halves away from zero.
fn rounded(sum: i64, count: i64) -> i64 {
    let nearest = sum.abs() + count / 2;
    let size = nearest / count;
    if sum < 0 { -size } else { size }
}

/// The most voxels of 16 bits whose sum, and half of it, have 31 bits.
const MOST_SHORT: usize = 1 << 14;

/// An integer of at most 32 bits.
trait Whole: Scalar {
    fn wide(self) -> i64;
    /// For types of 16 bits at most.
    fn short(self) -> i32;
    /// Of what lies between values of this type.
    fn narrow(value: i64) -> Self;
}

macro_rules! whole {
    ($($t:ty),*) => {$(
        impl Whole for $t {
            #[inline(always)]
            fn wide(self) -> i64 {
                i64::from(self)
            }
            #[inline(always)]
            #[allow(clippy::cast_possible_wrap, clippy::cast_lossless, reason = "not of every type, and not called for those")]
            fn short(self) -> i32 {
                self as i32
            }
            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "between values of this type")]
            #[allow(clippy::cast_sign_loss, reason = "not every type is unsigned")]
            fn narrow(value: i64) -> Self {
                value as Self
            }
        }
    )*};
}
whole!(u8, i8, u16, i16, u32, i32);

/// A sum of integers.
trait Sum: Copy + Into<i64> {
    fn of(small: i64) -> Self;
    /// Divided by 2^shift, twice `half`, to the nearest, halves away from zero.
    fn halved(self, half: Self, shift: u32) -> i64;
}

macro_rules! sum {
    ($($t:ty),*) => {$(
        impl Sum for $t {
            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "of no more voxels than the type is for")]
            fn of(small: i64) -> Self {
                small as Self
            }
            #[inline(always)]
            #[allow(clippy::useless_conversion, reason = "not of every type")]
            fn halved(self, half: Self, shift: u32) -> i64 {
                // Shifts round towards minus infinity: halves below zero must not be lifted over it.
                let lift = if self < 0 { (half - 1).max(0) } else { half };
                i64::from((self + lift) >> shift)
            }
        }
    )*};
}
sum!(i32, i64);

fn max<'a, T: Scalar>(rows: impl Iterator<Item = &'a [T]>, across: usize, out: &mut [T]) {
    for (nth, row) in rows.enumerate() {
        let greater = |most: T, v: T| if v > most || is_nan(most) { v } else { most };
        if across == 2 && nth > 0 {
            let (pairs, rest) = row.as_chunks::<2>();
            for (out, &[a, b]) in out.iter_mut().zip(pairs) {
                *out = greater(*out, greater(a, b));
            }
            if let (Some(last), Some(&v)) = (out.last_mut(), rest.first()) {
                *last = greater(*last, v);
            }
            continue;
        }
        for (out, block) in out.iter_mut().zip(row.chunks(across)) {
            let (first, rest) = if nth == 0 { (block[0], &block[1..]) } else { (*out, block) };
            *out = rest.iter().fold(first, |most, &v| greater(most, v));
        }
    }
}

/// The most frequent of at least one value. Reorders them.
fn most_frequent<T: Scalar>(block: &mut Vec<T>) -> T {
    let first = block[0];
    // Most blocks of labels hold one.
    if block.iter().all(|v| *v == first) {
        return first;
    }
    block.retain(|v| !is_nan(*v));
    block.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let mut best = (first, 0);
    for run in block.chunk_by(|a, b| a == b) {
        if run.len() > best.1 {
            best = (run[0], run.len());
        }
    }
    best.0
}

#[expect(clippy::eq_op, reason = "what is not itself is NaN, whatever the type")]
fn is_nan<T: Scalar>(v: T) -> bool {
    v != v
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T: Scalar>(method: Downsample, rows: &[&[T]]) -> T {
        let mut out = [T::zeroed()];
        Reducer::new(method).row(rows.iter().copied(), rows[0].len(), &mut out);
        out[0]
    }

    #[test]
    fn means_of_integers_are_rounded_half_away_from_zero() {
        assert_eq!(one(Downsample::Mean, &[&[1u8, 2]]), 2);
        assert_eq!(one(Downsample::Mean, &[&[-1i16, -2]]), -2);
        assert_eq!(one(Downsample::Mean, &[&[-1i16, 0], &[0, 0]]), 0);
        assert_eq!(one(Downsample::Mean, &[&[u32::MAX, u32::MAX], &[u32::MAX, u32::MAX - 1]]), u32::MAX);
        assert_eq!(one(Downsample::Mean, &[&[i32::MIN, i32::MIN]]), i32::MIN);
        assert_eq!(one(Downsample::Mean, &[&[1u8, 1, 2]]), 1);
        assert_eq!(one(Downsample::Mean, &[&[-1i8, -2, -2]]), -2);
        for (sum, count) in (-40..40).flat_map(|sum| (1..20).map(move |count| (sum, count))) {
            assert_eq!(rounded(sum, count) as f64, (sum as f64 / count as f64).round(), "{sum} / {count}");
        }
    }

    #[test]
    fn nan_is_ignored_unless_there_is_nothing_else() {
        let nan = f32::NAN;
        for method in [Downsample::Mean, Downsample::Max, Downsample::Mode] {
            assert_eq!(one(method, &[&[nan, -3.0], &[nan, nan]]), -3.0, "{method:?}");
            assert!(one(method, &[&[nan, nan], &[nan, nan]]).is_nan(), "{method:?}");
            assert!(one(method, &[&[half::f16::NAN, half::f16::NAN]]).is_nan(), "{method:?}");
        }
        assert_eq!(one(Downsample::Mean, &[&[f32::INFINITY, 1.0]]), f32::INFINITY);
        assert!(one(Downsample::Mean, &[&[f32::INFINITY, f32::NEG_INFINITY]]).is_nan());
        assert!(one(Downsample::Mean, &[&[f64::NAN, f64::NAN]]).is_nan());
    }

    #[test]
    fn ties_of_modes_go_to_the_smaller() {
        assert_eq!(one(Downsample::Mode, &[&[7u8, 3], &[3, 7]]), 3);
        assert_eq!(one(Downsample::Mode, &[&[9u8, 3], &[9, 1]]), 9);
        assert_eq!(one(Downsample::Mode, &[&[-1i32, -2]]), -2);
    }

    #[test]
    fn the_last_block_of_a_row_may_be_short() {
        let mut out = [0u16; 3];
        Reducer::new(Downsample::Mean).row([&[1, 3, 5, 7, 100][..]].into_iter(), 2, &mut out);
        assert_eq!(out, [2, 6, 100]);
        Reducer::new(Downsample::Max).row([&[1, 3, 9, 7, 100][..]].into_iter(), 4, &mut out[..2]);
        assert_eq!(out[..2], [9, 100]);
        Reducer::new(Downsample::Mean).row([&[0, 3, 6, 7, 100][..]].into_iter(), 3, &mut out[..2]);
        assert_eq!(out[..2], [3, 54]);
    }
}
