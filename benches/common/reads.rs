//! Loops over workload G1024 that several benches time: reads at random, and the 27-point sum at every voxel of the inner tiles.

use vastgrid::{Coord, View};

use super::G1024;
use super::plain::Plain;

/// A position in 10 bits an axis: what is read where is streamed past the caches, and takes less of them so.
#[derive(Clone, Copy)]
pub(crate) struct Packed(u32);

impl Packed {
    pub(crate) fn all(at: &[Coord]) -> Vec<Self> {
        at.iter().map(|c| Self((c.x | c.y << 10 | c.z << 20) as u32)).collect()
    }

    #[inline(always)]
    pub(crate) fn xyz(self) -> [u32; 3] {
        [self.0 & 1023, self.0 >> 10 & 1023, self.0 >> 20]
    }

    #[inline(always)]
    pub(crate) fn coord(self) -> Coord {
        let [x, y, z] = self.xyz();
        Coord::new(x.into(), y.into(), z.into())
    }
}

pub(crate) fn by_get(view: &View<'_, f32>, at: &[Packed]) -> f64 {
    at.iter().map(|c| f64::from(view.get(c.coord()).unwrap_or_default())).sum()
}

pub(crate) fn by_get_each(view: &View<'_, f32>, at: &[Packed]) -> f64 {
    let mut sum = 0.0;
    view.get_each(at.iter().map(|c| c.coord()), |voxel| sum += f64::from(voxel.unwrap_or_default()));
    sum
}

pub(crate) fn by_accessor(view: &View<'_, f32>, at: &[Packed]) -> f64 {
    let mut accessor = view.accessor();
    at.iter().map(|c| f64::from(accessor.get(c.coord()).unwrap_or_default())).sum()
}

pub(crate) fn by_plain(plain: &Plain, at: &[Packed]) -> f64 {
    at.iter().map(|c| c.xyz()).map(|[x, y, z]| f64::from(plain.get(x, y, z))).sum()
}

/// 27-point sums here and there.
pub(crate) fn stencils(view: &View<'_, f32>, at: &[Packed]) -> f64 {
    let mut accessor = view.accessor();
    let mut around = |c: &Packed| accessor.neighbourhood(c.coord()).map_or(0.0, |near| near.iter().sum());
    at.iter().map(|c| f64::from(around(c))).sum()
}

/// Something at every voxel of the inner tiles, in memory order.
fn sweep(workload: &G1024, mut stencil: impl FnMut(u64, u64, u64) -> f32) -> f64 {
    let mut sum = 0.0;
    for &tile in &workload.inner {
        let first = G1024::origin(tile);
        for z in first.z..first.z + 64 {
            for y in first.y..first.y + 64 {
                for x in first.x..first.x + 64 {
                    sum += f64::from(stencil(x, y, z));
                }
            }
        }
    }
    sum
}

/// The 27-point sum by one read of the neighbourhood each.
pub(crate) fn sweep_accessor(workload: &G1024, view: &View<'_, f32>) -> f64 {
    let mut accessor = view.accessor();
    sweep(workload, |x, y, z| accessor.neighbourhood([x, y, z]).map_or(0.0, |near| near.iter().sum()))
}

pub(crate) fn sweep_plain(workload: &G1024, plain: &Plain) -> f64 {
    sweep(workload, |x, y, z| {
        let (x, y, z) = (x as u32, y as u32, z as u32);
        let mut sum = 0.0;
        for c in z - 1..z + 2 {
            for b in y - 1..y + 2 {
                for a in x - 1..x + 2 {
                    sum += plain.get(a, b, c);
                }
            }
        }
        sum
    })
}
