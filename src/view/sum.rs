//! Owns the sum of a slice, with the vector instructions that this machine has: memory is what bounds it then. Knows nothing of tiles.

use crate::voxel::Scalar;

/// The sum of all voxels, in 8 lanes that are added up at the end: the same bits on every machine.
pub(crate) fn sum_of<T: Scalar>(voxels: &[T]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: this machine has AVX2.
        return unsafe { with_avx2(voxels) };
    }
    in_lanes(voxels)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<T: Scalar>(voxels: &[T]) -> f64 {
    in_lanes(voxels)
}

#[inline(always)]
fn in_lanes<T: Scalar>(voxels: &[T]) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = voxels.as_chunks::<8>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v.to_f64());
    }
    let rest: f64 = rest.iter().map(|v| v.to_f64()).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(all(test, not(vastgrid_loom)))]
mod tests {
    use super::*;

    #[test]
    fn vector_instructions_change_no_bit() {
        let voxels: Vec<f32> = (0..1003u16).map(|i| (f32::from(i) * 0.37).sin() * 1e3).collect();
        for length in [0, 1, 7, 8, 9, 1003] {
            let (fast, plain) = (sum_of(&voxels[..length]), in_lanes(&voxels[..length]));
            assert_eq!(fast.to_bits(), plain.to_bits(), "{length}");
        }
        assert_eq!(sum_of(&[200u8; 100]), 20_000.0);
    }
}
