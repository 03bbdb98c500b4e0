//! Owns the inner loops of the ray caster: eight samples of a ray at a time out of one brick, portable and with AVX2. Both give the same bits.
//! Knows nothing of rays, volumes or residency.
//!
//! Positions are voxels in 32.32 fixed point relative to the brick, so that sample `k` is the same wherever its batch began. No input makes a read
//! leave the slice: offsets are clamped to it, so a wrong position gives a wrong value and nothing worse.

#[cfg(target_arch = "x86_64")]
#[path = "kernels_avx2.rs"]
mod avx2;

use crate::voxel::Scalar;

/// Samples in a batch.
pub(crate) const LANES: usize = 8;

/// One value per sample.
pub(crate) type Batch = [f32; LANES];

/// Positions of a batch relative to its first sample.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(crate) struct Strides {
    /// Per axis, multiples of the step in the order 0, 1, 4, 5, 2, 3, 6, 7 (what two AVX2 registers interleave to 0..8).
    multiples: [[i64; LANES]; 3],
}

const ORDER: [i64; LANES] = [0, 1, 4, 5, 2, 3, 6, 7];

impl Strides {
    /// For a step of `step` per sample.
    pub(crate) fn new(step: [i64; 3]) -> Self {
        Self { multiples: step.map(|s| ORDER.map(|i| s.wrapping_mul(i))) }
    }

    /// Position of sample `lane` of the batch that begins at `first`.
    #[inline(always)]
    fn position(&self, first: [i64; 3], lane: i64) -> [i64; 3] {
        std::array::from_fn(|a| first[a].wrapping_add(self.multiples[a][1].wrapping_mul(lane)))
    }
}

/// A brick's voxels, as the kernels want them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voxels<'a, T> {
    /// Between 4 and `i32::MAX` of them.
    voxels: &'a [T],
    stride_y: i32,
    stride_z: i32,
}

impl<'a, T> Voxels<'a, T> {
    /// `None` where the slice is too short or too long for the kernels.
    pub(crate) fn new(voxels: &'a [T], stride_y: usize, stride_z: usize) -> Option<Self> {
        let count = i32::try_from(voxels.len()).ok()?;
        let fits = count >= 4 && stride_y <= voxels.len() && stride_z <= voxels.len();
        let (stride_y, stride_z) = (i32::try_from(stride_y).ok()?, i32::try_from(stride_z).ok()?);
        fits.then_some(Self { voxels, stride_y, stride_z })
    }
}

/// Trilinear samples, and which of them pass the test, one bit each.
pub(crate) type Trilinear<T> = fn(&Voxels<'_, T>, [i64; 3], &Strides, Test<'_>, &mut Batch) -> u32;
/// Central differences along x, y, z, interpolated trilinearly.
pub(crate) type Gradient<T> = fn(&Voxels<'_, T>, [i64; 3], &Strides) -> [Batch; 3];
/// Which of up to 64 samples lie in cells that matter, one bit each.
pub(crate) type Scan = fn(&CellGrid<'_>, [i64; 3], &Strides, f32, u32) -> u64;

/// Which samples matter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test<'a> {
    /// Those whose entry in a table is not zero.
    Seen(Ramp<'a>),
    /// Those whose value is greater.
    Above(f32),
}

impl Test<'_> {
    /// The lanes whose values matter. NaN never does.
    #[inline(always)]
    pub(crate) fn mask(&self, values: &Batch) -> u32 {
        let bits = values.iter().zip(0..).map(|(&value, lane)| u32::from(self.passes(value)) << lane);
        bits.fold(0, |all, bit| all | bit)
    }

    #[inline(always)]
    fn passes(&self, value: f32) -> bool {
        match self {
            Self::Seen(ramp) => {
                let entry = ramp.entries.get(ramp.index(value)).copied().unwrap_or(0.0);
                entry != 0.0 && !value.is_nan()
            }
            Self::Above(least) => value > *least,
        }
    }
}

/// How important the cells of a brick are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellGrid<'a> {
    /// x fastest; fewer than `i32::MAX`.
    importance: &'a [f32],
    /// log2 of a cell's sides in voxels.
    shift: [u32; 3],
    /// Cells between neighbours along y and z.
    stride: [i32; 2],
    /// The last voxel of the brick that is inside the volume: positions beyond it belong to its cell.
    last: [i32; 3],
}

impl<'a> CellGrid<'a> {
    /// `None` where there are too many cells for the kernels, or none.
    pub(crate) fn new(
        importance: &'a [f32],
        shift: [u32; 3],
        cells: [usize; 3],
        last: [i64; 3],
    ) -> Option<Self> {
        let count = i32::try_from(importance.len()).ok()?;
        let stride = [i32::try_from(cells[0]).ok()?, i32::try_from(cells[0].checked_mul(cells[1])?).ok()?];
        let [x, y, z] = last.map(|n| i32::try_from(n).ok());
        (count > 0).then_some(Self {
            importance,
            shift: shift.map(|s| s.min(31)),
            stride,
            last: [x?, y?, z?],
        })
    }
}

/// A table over a range of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ramp<'a> {
    /// The entries, one at least.
    pub(crate) entries: &'a [f32],
    /// The value at which the first entry begins.
    pub(crate) low: f32,
    /// Entries per unit of value.
    pub(crate) per_value: f32,
    /// Index of the last entry, as a float.
    pub(crate) last: f32,
}

impl Ramp<'_> {
    /// Where a value's entry is. Rises with the value; NaN has index 0.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the table first")]
    pub(crate) fn index(&self, value: f32) -> usize {
        let x = (value - self.low) * self.per_value;
        let x = if x > 0.0 { x } else { 0.0 };
        (if x < self.last { x } else { self.last }) as usize
    }
}

/// The kernels for one voxel type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels<T> {
    pub(crate) trilinear: Trilinear<T>,
    pub(crate) gradient: Gradient<T>,
    pub(crate) scan: Scan,
}

impl<T: Scalar> Kernels<T> {
    /// The fastest that this machine has, or the portable ones where `simd` is false.
    pub(crate) fn select(simd: bool) -> Self {
        #[cfg(target_arch = "x86_64")]
        if simd && let Some(kernels) = avx2::kernels::<T>() {
            return kernels;
        }
        let _ = simd;
        Self { trilinear: trilinear::<T>, gradient: gradient::<T>, scan }
    }
}

/// Splits 32.32 into the voxel and the 24 highest bits of the fraction.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "24 bits fit a float exactly"
)]
pub(crate) fn split(p: i64) -> (i32, f32) {
    ((p >> 32) as i32, ((p as u32) >> 8) as i32 as f32 * FRACTION)
}

/// 2^-24.
pub(crate) const FRACTION: f32 = 1.0 / 16_777_216.0;

#[inline(always)]
pub(crate) fn lerp(a: f32, b: f32, f: f32) -> f32 {
    a + (b - a) * f
}

/// The sample between the corners `c[z][y][x]`.
#[inline(always)]
pub(crate) fn trilerp(c: [[[f32; 2]; 2]; 2], [fx, fy, fz]: [f32; 3]) -> f32 {
    let row = |r: [f32; 2]| lerp(r[0], r[1], fx);
    let slice = |s: [[f32; 2]; 2]| lerp(row(s[0]), row(s[1]), fy);
    lerp(slice(c[0]), slice(c[1]), fz)
}

/// Interpolated central differences out of a 4 x 4 x 4 neighbourhood that begins at (-1, -1, -1). `at(x, y, z)` is asked for 32 of them.
#[inline(always)]
pub(crate) fn differences(at: impl Fn(usize, usize, usize) -> f32, [fx, fy, fz]: [f32; 3]) -> [f32; 3] {
    let row = |y, z| lerp(at(1, y, z), at(2, y, z), fx);
    let along = |y, z| lerp(at(2, y, z) - at(0, y, z), at(3, y, z) - at(1, y, z), fx);
    let (r11, r21, r12, r22) = (row(1, 1), row(2, 1), row(1, 2), row(2, 2));
    let x = lerp(lerp(along(1, 1), along(2, 1), fy), lerp(along(1, 2), along(2, 2), fy), fz);
    let y1 = lerp(r21 - row(0, 1), row(3, 1) - r11, fy);
    let y2 = lerp(r22 - row(0, 2), row(3, 2) - r12, fy);
    let z1 = lerp(r12 - row(1, 0), r22 - row(2, 0), fy);
    let z2 = lerp(row(1, 3) - r11, row(2, 3) - r21, fy);
    [x, lerp(y1, y2, fz), lerp(z1, z2, fz)]
}

impl<T: Scalar> Voxels<'_, T> {
    /// The voxel `d` away from `from`; 0 outside the slice.
    #[inline(always)]
    fn at(&self, from: [i32; 3], d: [i64; 3]) -> f32 {
        let [x, y, z] = [0, 1, 2].map(|a| i64::from(from[a]) + d[a]);
        let rows =
            y.wrapping_mul(i64::from(self.stride_y)).wrapping_add(z.wrapping_mul(i64::from(self.stride_z)));
        let offset = usize::try_from(x.wrapping_add(rows)).ok();
        offset.and_then(|i| self.voxels.get(i)).map_or(0.0, |v| v.to_f32())
    }
}

fn each(strides: &Strides, first: [i64; 3], mut f: impl FnMut(usize, [i32; 3], [f32; 3])) {
    for (lane, n) in (0..).zip(0..LANES) {
        let parts = strides.position(first, lane).map(split);
        f(n, parts.map(|p| p.0), parts.map(|p| p.1));
    }
}

fn trilinear<T: Scalar>(
    v: &Voxels<'_, T>,
    first: [i64; 3],
    strides: &Strides,
    test: Test<'_>,
    out: &mut Batch,
) -> u32 {
    each(strides, first, |n, from, fraction| {
        let row = |y, z| [v.at(from, [0, y, z]), v.at(from, [1, y, z])];
        out[n] = trilerp([[row(0, 0), row(1, 0)], [row(0, 1), row(1, 1)]], fraction);
    });
    test.mask(out)
}

fn gradient<T: Scalar>(v: &Voxels<'_, T>, first: [i64; 3], strides: &Strides) -> [Batch; 3] {
    let mut out = [[0.0; LANES]; 3];
    each(strides, first, |n, from, fraction| {
        #[expect(clippy::cast_possible_wrap, reason = "0 to 3")]
        let at = |x, y, z| v.at(from, [x as i64 - 1, y as i64 - 1, z as i64 - 1]);
        let g = differences(at, fraction);
        for (axis, value) in out.iter_mut().zip(g) {
            axis[n] = value;
        }
    });
    out
}

fn scan(cells: &CellGrid<'_>, first: [i64; 3], strides: &Strides, threshold: f32, count: u32) -> u64 {
    let mut mask = 0;
    for lane in 0..count.min(64) {
        let voxel = strides.position(first, i64::from(lane)).map(|p| split(p).0);
        let [x, y, z] = [0, 1, 2].map(|a| voxel[a].max(0).min(cells.last[a]) >> cells.shift[a]);
        let index = usize::try_from(x + y * cells.stride[0] + z * cells.stride[1]).ok();
        let importance = index.and_then(|i| cells.importance.get(i)).copied().unwrap_or(f32::INFINITY);
        mask |= u64::from(importance > threshold) << lane;
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A brick of noise, and a batch that crosses it.
    fn noise<T: Scalar>(count: usize) -> Vec<T> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            T::from_f64(f64::from((state >> 40) as u32 % 60_000) - 20_000.0)
        };
        (0..count).map(|_| next()).collect()
    }

    fn sample<T: Scalar>(k: &Kernels<T>, v: &Voxels<'_, T>, first: [i64; 3], step: [i64; 3]) -> Batch {
        let mut values = [0.0; LANES];
        (k.trilinear)(v, first, &Strides::new(step), Test::Above(0.0), &mut values);
        values
    }

    fn both_give_the_same_bits<T: Scalar>() {
        let voxels = noise::<T>(8 * 16 * 4);
        let v = Voxels::new(&voxels, 8, 128).unwrap();
        let (fast, slow) = (Kernels::<T>::select(true), Kernels::<T>::select(false));
        for i in 0..2000i64 {
            let one = 1i64 << 32;
            let first = [one + i * 7_919_311, one + i * 15_485_863 / 2, one + i * 1_299_709 / 8];
            let strides = Strides::new([one / 3 - i * 1_000_003, one + 77 * i, one / 50]);
            let test = Test::Above(5000.0);
            let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
            let masks = (
                (fast.trilinear)(&v, first, &strides, test, &mut a),
                (slow.trilinear)(&v, first, &strides, test, &mut b),
            );
            assert_eq!((a.map(f32::to_bits), masks.0), (b.map(f32::to_bits), masks.1), "{i}");
            let bits = |g: [Batch; 3]| g.map(|a| a.map(f32::to_bits));
            assert_eq!(
                bits((fast.gradient)(&v, first, &strides)),
                bits((slow.gradient)(&v, first, &strides)),
                "{i}"
            );
        }
    }

    #[test]
    fn vector_and_portable_kernels_give_the_same_bits() {
        both_give_the_same_bits::<u8>();
        both_give_the_same_bits::<i8>();
        both_give_the_same_bits::<u16>();
        both_give_the_same_bits::<i16>();
        both_give_the_same_bits::<f32>();
        both_give_the_same_bits::<f64>();
    }

    #[test]
    fn the_last_voxels_of_a_slice_are_read_and_nothing_beyond() {
        fn last<T: Scalar>() {
            let voxels = noise::<T>(2 * 2 * 2);
            let v = Voxels::new(&voxels, 2, 4).unwrap();
            let almost = (1i64 << 32) - 1;
            for simd in [false, true] {
                let k = Kernels::<T>::select(simd);
                let got = sample(&k, &v, [almost; 3], [0; 3])[0];
                assert!((got - voxels[7].to_f32()).abs() <= 0.02, "{got} {:?}", voxels[7]);
                for wild in [i64::MIN, -1, i64::MAX, 1 << 40] {
                    let _ = sample(&k, &v, [wild; 3], [wild; 3]);
                    let _ = (k.gradient)(&v, [wild; 3], &Strides::new([wild; 3]));
                }
            }
        }
        last::<u8>();
        last::<i16>();
        last::<f32>();
    }

    #[test]
    fn a_linear_field_has_its_slope() {
        let voxels: Vec<f32> = (0..512u16)
            .map(|i| f32::from(i % 8) + 2.0 * f32::from(i / 8 % 8) - 3.0 * f32::from(i / 64))
            .collect();
        let v = Voxels::new(&voxels, 8, 64).unwrap();
        let half = 1i64 << 31;
        for simd in [false, true] {
            let k = Kernels::<f32>::select(simd);
            let strides = Strides::new([half, half / 2, half / 4]);
            let g = (k.gradient)(&v, [3 * half, 3 * half, 3 * half], &strides);
            assert_eq!([g[0][3], g[1][3], g[2][3]], [2.0, 4.0, -6.0]);
            let values = sample(&k, &v, [3 * half; 3], [half, half / 2, half / 4]);
            assert_eq!(values[4], 3.5 + 2.0 * 2.5 - 3.0 * 2.0);
        }
    }

    #[test]
    fn tests_agree_and_leave_out_nan() {
        let entries: Vec<f32> = (0..100).map(|i| if i % 7 < 3 { 0.0 } else { 0.1 }).collect();
        let ramp = Ramp { entries: &entries, low: -5.0, per_value: 9.7, last: 99.0 };
        let odd = [-9.0, f32::NAN, 0.3, 1.1, 4.999, 900.0, f32::INFINITY, f32::NEG_INFINITY];
        for value in odd {
            let voxels = [value; 8];
            let v = Voxels::new(&voxels, 2, 4).unwrap();
            for test in [Test::Seen(ramp), Test::Above(1.1), Test::Above(f32::NEG_INFINITY)] {
                for simd in [false, true] {
                    let mut values = [0.0; LANES];
                    let (k, strides) = (Kernels::<f32>::select(simd), Strides::new([1 << 28; 3]));
                    let mask = (k.trilinear)(&v, [0; 3], &strides, test, &mut values);
                    assert_eq!(mask, test.mask(&values), "{value} {test:?} {simd}");
                    assert!(mask == 0 || !value.is_nan());
                }
            }
        }
        assert_eq!(Test::Above(1.1).mask(&odd), 0b0111_0000);
        assert_eq!(Test::Seen(ramp).mask(&odd) & 0b10, 0);
    }

    #[test]
    fn scans_agree_and_stay_in_the_brick() {
        let importance: Vec<f32> = (0..4 * 3 * 2u8).map(|i| f32::from(i * 7 % 5)).collect();
        let cells = CellGrid::new(&importance, [2, 1, 3], [4, 3, 2], [14, 5, 15]).unwrap();
        for i in 0..500i64 {
            let first = [i * 123_456_789 - (3 << 32), i * 77_777_777, (i << 27) - (1 << 32)];
            let strides = Strides::new([(1 << 30) - (i << 24), (1 << 28) - (i << 21), i << 20]);
            let scan = |simd, count| (Kernels::<u8>::select(simd).scan)(&cells, first, &strides, 2.0, count);
            for count in [1, 7, 8, 9, 63, 64] {
                assert_eq!(scan(true, count), scan(false, count), "{i} {count}");
                assert_eq!(scan(true, count), scan(true, 64) & (u64::MAX >> (64 - count)));
            }
        }
        assert!(CellGrid::new(&[], [0; 3], [0; 3], [0; 3]).is_none());
    }
}
