//! Owns what every scheme's sums have to be: the same samples computed by the host, of the volume's values themselves and not of any memory that holds them.
//!
//! A sample is made of the operations that the kernels make it of (`assets/kernels/schemes.cuh`), each rounded once; a ray's samples are added up in their order, and sums of rays and points as integers.

use rayon::prelude::*;

use super::super::path::Work;
use super::super::sampling::{FRACTION, Point, Ray, advance, cell, corners};
use super::super::volume::{Shape, value};

/// `a * b + c`, rounded once. Products of floats are exact in 64 bits, and so are the sums here: differences of 16-bit values times fractions of 20 bits.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding")]
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(c)) as f32
}

/// The value at a position.
#[inline(always)]
pub(crate) fn sample(at: Point) -> f32 {
    let [x, y, z] = at.map(|v| (v & ((1 << FRACTION) - 1)) as f32 * (1.0 / (1u32 << FRACTION) as f32));
    let [a, b, c, d, e, f, g, h] = corners(cell(at)).map(|[x, y, z]| f32::from(value(x, y, z)));
    let mix = |low: f32, high: f32, at: f32| fused(high - low, at, low);
    let (low, high) = (mix(mix(a, b, x), mix(c, d, x), y), mix(mix(e, f, x), mix(g, h, x), y));
    mix(low, high, z)
}

/// A sum as an integer.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the kernels do")]
fn whole(sum: f32) -> u64 {
    (sum * 64.0) as u64
}

fn along(ray: &Ray) -> u64 {
    let (mut sum, mut at) = (0.0, ray.first);
    for _ in 0..ray.samples {
        sum += sample(at);
        advance(&mut at, ray.step);
    }
    whole(sum)
}

/// The sum along all rays.
pub(crate) fn rays(work: &Work) -> u64 {
    work.rays.par_iter().with_min_len(64).map(along).sum()
}

/// The sum at all points.
pub(crate) fn points(work: &Work) -> u64 {
    work.points.par_iter().with_min_len(4096).map(|&at| whole(sample(at))).sum()
}

/// The sum of a tile's voxels, each weighted by where it is.
pub(crate) fn tile(shape: Shape, tile: u32) -> u64 {
    let [a, b, c] = shape.first_voxel(shape.position(tile));
    let [wide, high, deep] = shape.edges_log2.map(|log2| 1 << log2);
    let mut sum = 0;
    for z in 0..deep {
        for y in 0..high {
            for x in 0..wide {
                let weight = 1 + ((x + 131 * y + 1031 * z) & 255);
                sum += u64::from(value(a + x, b + y, c + z)) * u64::from(weight);
            }
        }
    }
    sum
}

/// Those of all tiles.
pub(crate) fn tiles(shape: Shape) -> Vec<u64> {
    (0..shape.tile_count()).into_par_iter().map(|number| tile(shape, number)).collect()
}
