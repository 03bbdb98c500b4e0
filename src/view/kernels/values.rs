//! Owns samples and gradients out of one brick, portable.

use super::{Batch, LANES, Samples, position, split};
use crate::view::trilinear::{lerp, trilerp};
use crate::voxel::Scalar;

/// A brick's voxels, as the kernels want them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voxels<'a, T> {
    /// Between 4 and `i32::MAX` voxels.
    pub(super) all: &'a [T],
    pub(super) stride_y: i32,
    pub(super) stride_z: i32,
}

impl<'a, T> Voxels<'a, T> {
    /// `None` where the slice is too short or too long for the kernels.
    pub(crate) fn new(voxels: &'a [T], stride_y: usize, stride_z: usize) -> Option<Self> {
        let count = i32::try_from(voxels.len()).ok()?;
        let fits = count >= 4 && stride_y <= voxels.len() && stride_z <= voxels.len();
        let (stride_y, stride_z) = (i32::try_from(stride_y).ok()?, i32::try_from(stride_z).ok()?);
        fits.then_some(Self { all: voxels, stride_y, stride_z })
    }
}

/// Trilinear samples, and which of them pass the test, one bit each.
pub(super) type Trilinear<T> = unsafe fn(&Voxels<'_, T>, Samples<'_>, Test<'_>, &mut Batch) -> u32;
/// Central differences along x, y, z, interpolated trilinearly.
pub(super) type Gradient<T> = unsafe fn(&Voxels<'_, T>, Samples<'_>) -> [Batch; 3];

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
        self.place(value) as usize
    }

    /// The same in 32 bits, of which vector instructions make more at once.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the table first")]
    pub(crate) fn index_32(&self, value: f32) -> u32 {
        (self.place(value) as i32).cast_unsigned()
    }

    #[inline(always)]
    fn place(&self, value: f32) -> f32 {
        let x = (value - self.low) * self.per_value;
        let x = if x > 0.0 { x } else { 0.0 };
        if x < self.last { x } else { self.last }
    }
}

/// Interpolated central differences out of a 4 x 4 x 4 neighbourhood that begins at (-1, -1, -1), along z, then y, then x. `row(y, z)` is asked
/// for the rows along x of [`ROWS_OF_A_GRADIENT`]; the outer ones' ends do not count.
#[inline(always)]
pub(crate) fn differences(rows: &[[[f32; 4]; 4]; 4], [fx, fy, fz]: [f32; 3]) -> [f32; 3] {
    let row = |y: usize, z: usize| rows[z][y];
    let each = |f: &dyn Fn(usize) -> f32| [f(0), f(1), f(2), f(3)];
    let mix = |a: [f32; 4], b: [f32; 4], f: f32| each(&|i| lerp(a[i], b[i], f));
    let minus = |a: [f32; 4], b: [f32; 4]| each(&|i| a[i] - b[i]);
    // The four rows at the sample's z, and the two in its middle's differences along z.
    let at = |y| mix(row(y, 1), row(y, 2), fz);
    let (y0, y1, y2, y3) = (at(0), at(1), at(2), at(3));
    let along_z = |y| mix(minus(row(y, 2), row(y, 0)), minus(row(y, 3), row(y, 1)), fz);
    let value = mix(y1, y2, fy);
    let dy = mix(minus(y2, y0), minus(y3, y1), fy);
    let dz = mix(along_z(1), along_z(2), fy);
    [lerp(value[2] - value[0], value[3] - value[1], fx), lerp(dy[1], dy[2], fx), lerp(dz[1], dz[2], fx)]
}

/// The rows along x, by y and z, that a gradient takes.
pub(crate) const ROWS_OF_A_GRADIENT: [(usize, usize); 12] =
    [(1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (3, 2), (1, 3), (2, 3)];

impl<T: Scalar> Voxels<'_, T> {
    /// The voxel `d` away from `from`; 0 outside the slice.
    #[inline(always)]
    fn at(&self, from: [i32; 3], d: [i64; 3]) -> f32 {
        let [x, y, z] = [0, 1, 2].map(|a| i64::from(from[a]) + d[a]);
        let rows =
            y.wrapping_mul(i64::from(self.stride_y)).wrapping_add(z.wrapping_mul(i64::from(self.stride_z)));
        let offset = usize::try_from(x.wrapping_add(rows)).ok();
        offset.and_then(|i| self.all.get(i)).map_or(0.0, |v| v.to_f32())
    }
}

pub(super) fn trilinear<T: Scalar>(
    v: &Voxels<'_, T>,
    Samples { first, step, lanes }: Samples<'_>,
    test: Test<'_>,
    out: &mut Batch,
) -> u32 {
    for (value, &lane) in out.iter_mut().zip(lanes) {
        let [(x, fx), (y, fy), (z, fz)] = position(first, step, lane).map(split);
        let row = |dy, dz| [v.at([x, y, z], [0, dy, dz]), v.at([x, y, z], [1, dy, dz])];
        *value = trilerp([[row(0, 0), row(1, 0)], [row(0, 1), row(1, 1)]], [fx, fy, fz]);
    }
    test.mask(out)
}

pub(super) fn gradient<T: Scalar>(
    v: &Voxels<'_, T>,
    Samples { first, step, lanes }: Samples<'_>,
) -> [Batch; 3] {
    let mut out = [[0.0; LANES]; 3];
    for (n, &lane) in lanes.iter().enumerate() {
        let [(x, fx), (y, fy), (z, fz)] = position(first, step, lane).map(split);
        let mut rows = [[[0.0; 4]; 4]; 4];
        for ((row, plane), (dy, dz)) in ROWS_OF_A_GRADIENT.into_iter().zip(ROWS_OF_A_GRADIENT.map(row_at)) {
            rows[plane][row] = [-1, 0, 1, 2].map(|dx| v.at([x, y, z], [dx, dy, dz]));
        }
        for (axis, value) in out.iter_mut().zip(differences(&rows, [fx, fy, fz])) {
            axis[n] = value;
        }
    }
    out
}

#[expect(clippy::cast_possible_wrap, reason = "0 to 3")]
fn row_at((y, z): (usize, usize)) -> (i64, i64) {
    (y as i64 - 1, z as i64 - 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Kernels, Lanes};
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

    const ALL: Lanes = [0, 1, 2, 3, 4, 5, 6, 7];

    fn sample<T: Scalar>(k: &Kernels<T>, v: &Voxels<'_, T>, first: [i64; 3], step: [i64; 3]) -> Batch {
        let mut values = [0.0; LANES];
        k.trilinear(v, Samples { first, step, lanes: &ALL }, Test::Above(0.0), &mut values);
        values
    }

    fn both_give_the_same_bits<T: Scalar>() {
        let voxels = noise::<T>(8 * 16 * 4);
        let v = Voxels::new(&voxels, 8, 128).unwrap();
        let (fast, slow) = (Kernels::<T>::select(true), Kernels::<T>::select(false));
        for i in 0..2000i64 {
            let one = 1i64 << 32;
            let first = [one + i * 7_919_311, one + i * 15_485_863 / 2, one + i * 1_299_709 / 8];
            let step = [one / 3 - i * 1_000_003, one / 60 + 77 * i, one / 50 - 3 * i];
            let lanes = if i % 2 == 0 { ALL } else { [0, 2, 3, 5, 8, 9, 11, 11] };
            let test = Test::Above(5000.0);
            let samples = Samples { first, step, lanes: &lanes };
            let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
            let masks =
                (fast.trilinear(&v, samples, test, &mut a), slow.trilinear(&v, samples, test, &mut b));
            assert_eq!((a.map(f32::to_bits), masks.0), (b.map(f32::to_bits), masks.1), "{i}");
            let bits = |g: [Batch; 3]| g.map(|a| a.map(f32::to_bits));
            let (a, b) = (fast.gradient(&v, samples), slow.gradient(&v, samples));
            assert_eq!(bits(a), bits(b), "{i}");
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
                    let _ = k.gradient(
                        &v,
                        Samples { first: [wild; 3], step: [wild; 3], lanes: &[u32::MAX; LANES] },
                    );
                }
            }
        }
        last::<u8>();
        last::<i16>();
        last::<f32>();
    }

    #[test]
    fn a_linear_field_has_its_slope() {
        let field = |i: u16| f32::from(i % 8) + 2.0 * f32::from(i / 8 % 8) - 3.0 * f32::from(i / 64);
        let voxels: Vec<f32> = (0..512).map(field).collect();
        let v = Voxels::new(&voxels, 8, 64).unwrap();
        let half = 1i64 << 31;
        for simd in [false, true] {
            let k = Kernels::<f32>::select(simd);
            let step = [half, half / 2, half / 4];
            let g = k.gradient(&v, Samples { first: [3 * half; 3], step, lanes: &ALL });
            assert_eq!([g[0][3], g[1][3], g[2][3]].map(f32::to_bits), [2.0f32, 4.0, -6.0].map(f32::to_bits));
            let value = sample(&k, &v, [3 * half; 3], step)[4];
            assert_eq!(value.to_bits(), (3.5f32 + 2.0 * 2.5 - 3.0 * 2.0).to_bits());
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
                    let k = Kernels::<f32>::select(simd);
                    let mask = k.trilinear(
                        &v,
                        Samples { first: [0; 3], step: [1 << 28; 3], lanes: &ALL },
                        test,
                        &mut values,
                    );
                    assert_eq!(mask, test.mask(&values), "{value} {test:?} {simd}");
                    assert!(mask == 0 || !value.is_nan());
                }
            }
        }
        assert_eq!(Test::Above(1.1).mask(&odd), 0b0111_0000);
        assert_eq!(Test::Seen(ramp).mask(&odd) & 0b10, 0);
    }
}
