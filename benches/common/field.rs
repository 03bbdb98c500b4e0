//! Workload G1024 on the CPU, in the arithmetic of the kernels: what their results are checked against.

use vastgrid::Coord;

use super::{G1024, SplitMix};

/// Parallel rays, as `g_rays` in `kernels/g1024.cuh`, which says what the fields are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rays {
    first: [f32; 2],
    tilt: [f32; 2],
    spacing: f32,
    ahead: f32,
    pub(crate) steps: u32,
}

impl Rays {
    /// Rays that start and tilt at random, and stay between the centres of the outermost voxels.
    pub(crate) fn random(random: &mut SplitMix) -> Self {
        let mut unit = || (random.next() >> 40) as f32 / (1 << 24) as f32;
        let steps = 1022;
        // Astray by 10 to 30 voxels to either side over the whole way.
        let mut tilt = || (0.01 + 0.02 * unit()) * if unit() < 0.5 { -1.0 } else { 1.0 };
        let tilt = [tilt(), tilt()];
        let spacing = 0.96;
        let first = tilt.map(|t| 0.75 + unit() + if t < 0.0 { -t * steps as f32 } else { 0.0 });
        Self { first, tilt, spacing, ahead: 0.5 + 0.9 * unit(), steps }
    }
}

/// The values of all voxels.
pub(crate) struct Field {
    active: Vec<bool>,
}

impl Field {
    pub(crate) fn new(workload: &G1024) -> Self {
        let mut active = vec![false; 4096];
        workload.tiles.iter().for_each(|&t| active[t as usize] = true);
        Self { active }
    }

    fn at(&self, x: u32, y: u32, z: u32) -> f32 {
        if self.active[(x >> 6 | y >> 6 << 4 | z >> 6 << 8) as usize] {
            G1024::value(Coord::new(x.into(), y.into(), z.into()))
        } else {
            0.0
        }
    }

    /// A voxel by its coordinates, ten bits each.
    pub(crate) fn packed(&self, c: u32) -> f32 {
        self.at(c & 1023, c >> 10 & 1023, c >> 20)
    }

    /// The sum of the bits of the 27-point sums of a tile's voxels; past the domain's faces the nearest voxel stands in.
    pub(crate) fn stencil_bits(&self, tile: u32) -> u64 {
        // The tile and one voxel around it.
        const SIDE: usize = 66;
        let first = G1024::origin(tile);
        let near = |first: u64, i: usize| (first as u32 + i as u32).saturating_sub(1).min(1023);
        let mut around = Vec::with_capacity(SIDE * SIDE * SIDE);
        for z in 0..SIDE {
            for y in 0..SIDE {
                around
                    .extend((0..SIDE).map(|x| self.at(near(first.x, x), near(first.y, y), near(first.z, z))));
            }
        }
        let mut bits = 0;
        for i in 0..64 * 64 * 64 {
            let corner = (i & 63) + SIDE * (i >> 6 & 63) + SIDE * SIDE * (i >> 12);
            let mut sums = [0f32; 3];
            for row in 0..9 {
                let at = corner + SIDE * (row % 3) + SIDE * SIDE * (row / 3);
                for (sum, v) in sums.iter_mut().zip(&around[at..at + 3]) {
                    *sum = if row == 0 { *v } else { *sum + v };
                }
            }
            bits += u64::from(((sums[0] + sums[1]) + sums[2]).to_bits());
        }
        bits
    }

    /// The sum of the samples along a ray.
    pub(crate) fn ray(&self, rays: &Rays, axis: usize, u: u32, v: u32) -> f32 {
        let start = [u, v].map(|i| i as f32);
        let start = [0, 1].map(|i| start[i].mul_add(rays.spacing, rays.first[i]));
        let mut sum = 0.0;
        for k in 0..rays.steps {
            let t = k as f32;
            let mut p = [0.0; 3];
            p[axis] = t + rays.ahead;
            p[2 - axis] = t.mul_add(rays.tilt[0], start[0]);
            p[1] = t.mul_add(rays.tilt[1], start[1]);
            sum += self.sample(p);
        }
        sum
    }

    /// Trilinear, voxel i having its centre at i + 0.5.
    fn sample(&self, p: [f32; 3]) -> f32 {
        let q = p.map(|p| p - 0.5);
        let [x, y, z] = q.map(|q| q as u32);
        let f = q.map(f32::fract);
        let lerp = |a: f32, b: f32, f: f32| (b - a).mul_add(f, a);
        let row = |y: u32, z: u32| lerp(self.at(x, y, z), self.at(x + 1, y, z), f[0]);
        lerp(lerp(row(y, z), row(y + 1, z), f[1]), lerp(row(y, z + 1), row(y + 1, z + 1), f[1]), f[2])
    }
}
