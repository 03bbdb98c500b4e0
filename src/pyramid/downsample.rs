//! Owns [`Downsample`], the ways in which a block of voxels becomes one, and [`Reducer`], which does it row by row. Knows nothing of sources.

use std::cmp::Ordering;

use crate::voxel::{Scalar, ScalarType};

/// How a block of voxels becomes one voxel of the next level. Blocks that reach beyond a far face count what exists of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Downsample {
    /// The mean. Integers are rounded to the nearest, halves away from zero. NaN is ignored, unless all is NaN. For measured values.
    #[default]
    Mean,
    /// The greatest value. NaN is ignored, unless all is NaN. So that bright spots stay in sight.
    Max,
    /// The most frequent value, the smaller of equally frequent ones. NaN is ignored, unless all is NaN. For labels.
    Mode,
}

/// Turns rows of voxels into one row of blocks. Keeps its buffers between rows.
#[derive(Debug)]
pub(super) struct Reducer<T> {
    method: Downsample,
    sums: Vec<f64>,
    counts: Vec<u32>,
    block: Vec<T>,
}

impl<T: Scalar> Reducer<T> {
    pub(super) fn new(method: Downsample) -> Self {
        Self { method, sums: Vec::new(), counts: Vec::new(), block: Vec::new() }
    }

    /// Each voxel of `out` becomes that of `across` voxels of every row (fewer at the end, where the rows end).
    ///
    /// **Shape**: rows are of equal length, and have voxels for each of `out`.
    pub(super) fn row<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [T]> + Clone,
        across: usize,
        out: &mut [T],
    ) {
        match self.method {
            Downsample::Mean if is_float::<T>() => self.mean_of_numbers(rows, across, out),
            Downsample::Mean => self.mean(rows, across, out),
            Downsample::Max => max(rows, across, out),
            Downsample::Mode => self.mode(&rows, across, out),
        }
    }

    /// Of integers: the sum is exact (blocks have at most 2^18 voxels of 32 bits), and so is which integer is nearest.
    fn mean<'a>(&mut self, rows: impl Iterator<Item = &'a [T]>, across: usize, out: &mut [T]) {
        self.sums.clear();
        self.sums.resize(out.len(), 0.0);
        let (mut count, mut width) = (0, 0);
        for row in rows {
            count += 1;
            width = row.len();
            if across == 2 {
                let (pairs, rest) = row.as_chunks::<2>();
                for (sum, [a, b]) in self.sums.iter_mut().zip(pairs) {
                    *sum += a.to_f64() + b.to_f64();
                }
                if let (Some(last), Some(v)) = (self.sums.last_mut(), rest.first()) {
                    *last += v.to_f64();
                }
            } else {
                for (sum, block) in self.sums.iter_mut().zip(row.chunks(across)) {
                    *sum += block.iter().map(|v| v.to_f64()).sum::<f64>();
                }
            }
        }
        let last = out.len().saturating_sub(1);
        for (i, (out, sum)) in out.iter_mut().zip(&self.sums).enumerate() {
            let in_row = if i == last { width - last * across } else { across };
            *out = T::from_f64(sum / (count * in_row) as f64);
        }
    }

    /// Of floats: summed in double precision.
    fn mean_of_numbers<'a>(&mut self, rows: impl Iterator<Item = &'a [T]>, across: usize, out: &mut [T]) {
        self.sums.clear();
        self.sums.resize(out.len(), 0.0);
        self.counts.clear();
        self.counts.resize(out.len(), 0);
        for row in rows {
            for ((sum, count), block) in self.sums.iter_mut().zip(&mut self.counts).zip(row.chunks(across)) {
                for v in block.iter().map(|v| v.to_f64()) {
                    *sum += if v.is_nan() { 0.0 } else { v };
                    *count += u32::from(!v.is_nan());
                }
            }
        }
        for ((out, sum), &count) in out.iter_mut().zip(&self.sums).zip(&self.counts) {
            // 0 / 0, and infinities of both signs, are NaN.
            let mean = sum / f64::from(count);
            *out = if mean.is_nan() { nan() } else { T::from_f64(mean) };
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

fn max<'a, T: Scalar>(rows: impl Iterator<Item = &'a [T]>, across: usize, out: &mut [T]) {
    for (nth, row) in rows.enumerate() {
        for (out, block) in out.iter_mut().zip(row.chunks(across)) {
            let (first, rest) = if nth == 0 { (block[0], &block[1..]) } else { (*out, block) };
            *out = rest.iter().fold(first, |most, &v| if v > most || is_nan(most) { v } else { most });
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

pub(super) fn is_float<T: Scalar>() -> bool {
    matches!(T::TYPE, ScalarType::F16 | ScalarType::F32 | ScalarType::F64)
}

/// NaN of a type that has one, or zero.
fn nan<T: Scalar>() -> T {
    let cast = match T::TYPE {
        ScalarType::F16 => bytemuck::try_cast(0x7e00_u16),
        ScalarType::F32 => bytemuck::try_cast(f32::NAN),
        ScalarType::F64 => bytemuck::try_cast(f64::NAN),
        _ => return T::zeroed(),
    };
    cast.unwrap_or(T::zeroed())
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
