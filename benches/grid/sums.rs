//! The 27-point sweep tile by tile, and sums of slices in the loops that each is compared by.

use vastgrid::View;
use vastgrid::compute::{self, Boundary, Halo};

use crate::common::G1024;

/// The 27-point sum at every voxel of the inner tiles, tile by tile.
pub(crate) fn sweep_stencil(
    workload: &G1024,
    view: &View<'_, f32>,
    out: &mut [f32],
    of: impl Fn(&[f32; 27]) -> f32 + Copy,
) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        compute::stencil27(view, G1024::coord(tile), Boundary::Clamp, out, of).unwrap();
        sum += add_exactly(out);
    }
    sum
}

/// One after the other: each waits for the one before.
pub(crate) fn in_order(near: &[f32; 27]) -> f32 {
    near.iter().sum()
}

/// Three at a time, which wait for each other less.
pub(crate) fn by_rows(near: &[f32; 27]) -> f32 {
    near.chunks_exact(3).map(|row| row[0] + row[1] + row[2]).sum()
}

/// The same, with every tile gathered with a halo of one voxel first.
pub(crate) fn sweep_halo(workload: &G1024, view: &View<'_, f32>, halo: &mut Halo<f32>) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        let block = halo.gather(view, G1024::coord(tile)).unwrap();
        let ([_, row, plane], voxels) = (block.strides(), block.voxels());
        for z in 0..64 {
            for y in 0..64 {
                let lines: [&[f32]; 9] = std::array::from_fn(|i| {
                    let first = (y + i % 3) * row + (z + i / 3) * plane;
                    &voxels[first..first + 66]
                });
                let mut out = [0.0; 64];
                for (x, out) in out.iter_mut().enumerate() {
                    *out = lines.iter().map(|line| line[x] + line[x + 1] + line[x + 2]).sum();
                }
                sum += add_exactly(&out);
            }
        }
    }
    sum
}

/// In 16 lanes, in pieces short enough for `f32`.
pub(crate) fn add(voxels: &[f32]) -> f64 {
    let piece = |piece: &[f32]| {
        let mut lanes = [0.0f32; 16];
        for chunk in piece.chunks_exact(16) {
            lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
        }
        f64::from(lanes.iter().sum::<f32>())
    };
    voxels.chunks(512).map(piece).sum()
}

/// In 8 lanes of `f64`: exact enough to tell one sweep from another.
pub(crate) fn add_exactly(voxels: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for chunk in voxels.chunks_exact(8) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane += f64::from(v));
    }
    lanes.iter().sum()
}
