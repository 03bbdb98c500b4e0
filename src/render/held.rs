//! Owns what a thread holds of the bricks its rays are in: [`Held`], one brick with its 26 neighbours, or a group of bricks. Reads near a brick's rim go to the
//! neighbours. Knows nothing of rays.

use std::sync::Arc;

use super::fine::{Fine, range_of};
use super::grid::{BrickBox, Grid, tile_coord};
use super::occupancy::{Cells, NOTHING};
use super::volume::{Brick, Volume};
use crate::view::kernels::{Around, ROWS_OF_A_GRADIENT, Voxels, differences, split, trilerp};
use crate::voxel::Scalar;

/// A brick, or a group of them, and what lies around it. What every ray that comes by looks at lies side by side.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Held<'a, T> {
    /// Where rays leave it on the lower and on the upper side, see [`Grid::ends`].
    ends: [[i64; 3]; 2],
    /// Its first voxel in fixed point.
    pub(crate) low: [i64; 3],
    /// Which voxels matter, where that does not depend on the ray.
    pub(crate) fine: Option<Arc<Fine>>,
    /// The importance of its most important cell; infinite for a group.
    pub(crate) most: f32,
    /// Its last voxel inside the volume, relative to its first.
    pub(crate) last: [i32; 3],
    pub(crate) content: Content<'a, T>,
    /// All of them as flat memory, where they are there and lie like that.
    pub(crate) flat: Option<Around<'a, T>>,
    /// The brick, or the first one of the group.
    pub(crate) tile: [i64; 3],
    /// Its first voxel.
    pub(crate) origin: [i64; 3],
    /// Those of the (first) brick.
    pub(crate) cells: Arc<Cells>,
    /// x fastest, the (first) brick itself in the middle.
    around: [Brick<'a, T>; 27],
}

/// A brick as the kernels take it.
#[derive(Debug)]
pub(crate) enum Content<'a, T> {
    /// With memory; without kernels where it is too small or too large for them.
    Voxels(Option<Voxels<'a, T>>),
    /// Several bricks, all with memory and flat.
    Group,
    /// One value, and the sample that interpolating it gives (NaN for infinity).
    Uniform(f32),
    Missing,
}

const MIDDLE: usize = 13;
const FAR: usize = 27;

impl<'a, T: Scalar> Held<'a, T> {
    pub(crate) fn new<V: Volume<T>>(volume: &'a V, grid: &Grid, tile: [i64; 3], cells: Arc<Cells>) -> Self {
        let around = std::array::from_fn(|i| {
            let there = std::array::from_fn(|a| tile[a] + [-1, 0, 1][i / [1, 3, 9][a] % 3]);
            look_up(volume, grid, there)
        });
        let [sx, sy] =
            [grid.brick[0], grid.brick[0] * grid.brick[1]].map(|s| usize::try_from(s).unwrap_or(usize::MAX));
        let content = match around[MIDDLE] {
            Brick::Resident(voxels) => Content::Voxels(Voxels::new(voxels, sx, sy)),
            Brick::Uniform(v) => Content::Uniform(trilerp([[[v.to_f32(); 2]; 2]; 2], [0.0; 3])),
            Brick::Missing => Content::Missing,
        };
        let origin = grid.origin(tile);
        let flat = if let Content::Voxels(Some(_)) = content {
            let brick = |[x, y, z]: [i64; 3]| match around[usize::try_from(13 + x + 3 * y + 9 * z).ok()?] {
                Brick::Resident(voxels) => Some(voxels),
                _ => None,
            };
            flat(grid, origin, brick, [1; 3])
        } else {
            None
        };
        let last = grid.last_of(origin, grid.brick);
        let (low, most, ends) = (origin.map(|o| o << 32), cells.most, grid.ends(BrickBox::one(tile)));
        Self { tile, origin, low, most, content, cells, around, flat, fine: None, last, ends }
    }

    /// A group that begins with this brick, if all of it and around it is there and flat. Which voxels matter is still to be said.
    pub(crate) fn widened<V: Volume<T>>(self, volume: &'a V, grid: &Grid, group: BrickBox) -> Option<Self> {
        let brick = |at: [i64; 3]| match look_up(volume, grid, std::array::from_fn(|a| self.tile[a] + at[a]))
        {
            Brick::Resident(voxels) => Some(voxels),
            _ => None,
        };
        let bricks = group.sides();
        let flat = flat(grid, self.origin, brick, bricks)?;
        let last = grid.last_of(self.origin, std::array::from_fn(|a| bricks[a] * grid.brick[a]));
        let (ends, most) = (grid.ends(group), f32::INFINITY);
        Some(Self { content: Content::Group, flat: Some(flat), fine: None, most, last, ends, ..self })
    }

    /// Its sides inside the volume.
    pub(crate) fn sides(&self) -> [usize; 3] {
        self.last.map(|n| usize::try_from(n).unwrap_or(0) + 1)
    }

    /// Where a ray in that direction leaves it, along each axis.
    #[inline(always)]
    pub(crate) fn ends(&self, direction: [i64; 3]) -> [i64; 3] {
        let along = |a: usize| if direction[a] > 0 { self.ends[1][a] } else { self.ends[0][a] };
        [along(0), along(1), along(2)]
    }

    /// The place nearest to `p` whose support lies in the brick, that of a gradient with a reach of 1. (Bricks shorter than a support have none.)
    pub(crate) fn inside(&self, p: [i64; 3], reach: i64) -> [i64; 3] {
        std::array::from_fn(|a| {
            let (low, last) = (self.origin[a], i64::from(self.last[a]));
            // The last voxel as the upper one of a support.
            let high = ((low + (last - reach).max(0)) << 32) - 1;
            p[a].min(high).max((low + reach.min(last)) << 32)
        })
    }

    /// Whether the support of a gradient lies in the brick.
    #[inline(always)]
    pub(crate) fn has_gradient(&self, p: [i64; 3]) -> bool {
        (0..3).all(|a| (1..i64::from(self.last[a]) - 1).contains(&((p[a] >> 32) - self.origin[a])))
    }

    /// How many of the seven bricks after this one are missing (those beyond the volume count, always).
    pub(crate) fn missing_after(&self) -> usize {
        let after = [1, 3, 4, 9, 10, 12, 13].map(|i| MIDDLE + i);
        after.iter().filter(|&&i| matches!(self.around[i], Brick::Missing)).count()
    }

    /// The brick and those around it that have memory: those after it alone, or `all`.
    pub(crate) fn with_memory(&self, all: bool) -> impl Iterator<Item = [i64; 3]> + '_ {
        let apart = |i: usize| [1, 3, 9].map(|weight| i64::try_from(i / weight % 3).unwrap_or(1) - 1);
        let around = self.around.iter().enumerate().filter(|(_, brick)| matches!(brick, Brick::Resident(_)));
        let around = around.map(move |(i, _)| apart(i)).filter(move |d| all || d.iter().all(|&d| d >= 0));
        around.map(|d| std::array::from_fn(|a| self.tile[a] + d[a]))
    }

    /// A row of the brick's own voxels.
    pub(crate) fn row(&self, grid: &Grid, y: usize, z: usize) -> Option<&'a [T]> {
        let Brick::Resident(voxels) = self.around[MIDDLE] else { return None };
        let [nx, ny, nz] = grid.brick.map(|n| usize::try_from(n).unwrap_or(0));
        let from = nx * (y + ny * z);
        if y < ny && z < nz { voxels.get(from..from + nx) } else { None }
    }

    /// The range of a voxel in or next to the brick: all values where it is missing, none beyond the volume.
    pub(crate) fn range_at<V: Volume<T>>(&self, volume: &V, grid: &Grid, at: [usize; 3]) -> (f32, f32) {
        let voxel: [i64; 3] = std::array::from_fn(|a| self.origin[a] + i64::try_from(at[a]).unwrap_or(0));
        if (0..3).any(|a| voxel[a] >= grid.extent[a]) {
            return NOTHING;
        }
        let [x, y, z] = [0, 1, 2].map(|a| self.place(grid, a, voxel[a]));
        self.voxel(volume, grid, x, y, z).map_or((f32::NEG_INFINITY, f32::INFINITY), range_of)
    }

    /// A sample anywhere near the brick, from whichever bricks its support touches; `None` where one of them is missing.
    #[inline(always)]
    pub(crate) fn sample<V: Volume<T>>(&self, volume: &V, grid: &Grid, p: [i64; 3]) -> Option<f32> {
        let ((x, fx), (y, fy), (z, fz)) = (
            self.support::<2>(grid, 0, p[0], 0),
            self.support::<2>(grid, 1, p[1], 0),
            self.support::<2>(grid, 2, p[2], 0),
        );
        let row = |y, z| self.run::<2, V>(volume, grid, &x, y, z);
        Some(trilerp(
            [[row(y[0], z[0])?, row(y[1], z[0])?], [row(y[0], z[1])?, row(y[1], z[1])?]],
            [fx, fy, fz],
        ))
    }

    /// A gradient anywhere near the brick; `None` where part of its support is missing.
    #[inline(always)]
    pub(crate) fn gradient<V: Volume<T>>(&self, volume: &V, grid: &Grid, p: [i64; 3]) -> Option<[f32; 3]> {
        let (x, fx) = self.support::<4>(grid, 0, p[0], 1);
        let (y, fy) = self.support::<4>(grid, 1, p[1], 1);
        let (z, fz) = self.support::<4>(grid, 2, p[2], 1);
        let mut voxels = [[[0.0; 4]; 4]; 4];
        for (iy, iz) in ROWS_OF_A_GRADIENT {
            voxels[iz][iy] = self.run::<4, V>(volume, grid, &x, y[iy], z[iz])?;
        }
        Some(differences(&voxels, [fx, fy, fz]))
    }

    /// N voxels along x: from one slice where they lie in one brick, one by one where they do not.
    #[inline(always)]
    fn run<const N: usize, V: Volume<T>>(
        &self,
        volume: &V,
        grid: &Grid,
        x: &[Place; N],
        y: Place,
        z: Place,
    ) -> Option<[f32; N]> {
        let from = x[0].offset + y.offset + z.offset;
        if let Some(Brick::Resident(voxels)) = self.around.get(x[0].slot + y.slot + z.slot)
            && x[N - 1].offset == x[0].offset + N - 1
        {
            // Rising offsets are in one brick, as each begins again at 0.
            let run = voxels.get(from..from + N)?.first_chunk::<N>()?;
            return Some(run.map(Scalar::to_f32));
        }
        let mut run = [0.0; N];
        for (value, &x) in run.iter_mut().zip(x) {
            *value = self.voxel(volume, grid, x, y, z)?;
        }
        Some(run)
    }

    /// Where the N voxels of a support are along an axis, the first being `before` voxels before the one below `p`; and the fraction.
    #[inline(always)]
    fn support<const N: usize>(&self, grid: &Grid, axis: usize, p: i64, before: i64) -> ([Place; N], f32) {
        let last = grid.extent[axis] - 1;
        let (below, fraction) = split(p.max(0).min(last << 32));
        let mut places = [Place { voxel: 0, slot: 0, offset: 0 }; N];
        for (place, voxel) in places.iter_mut().zip(i64::from(below) - before..) {
            *place = self.place(grid, axis, voxel.max(0).min(last));
        }
        (places, fraction)
    }

    #[inline(always)]
    fn place(&self, grid: &Grid, axis: usize, voxel: i64) -> Place {
        let weight = [1, 3, 9][axis];
        let edge = grid.brick[axis];
        let local = voxel - self.origin[axis];
        // 0 for the brick before, 1 for this one, 2 for the next.
        let near = usize::from(local >= 0) + usize::from(local >= edge);
        let within = local - [-edge, 0, edge][near];
        if !(0..edge).contains(&within) {
            return Place { voxel, slot: FAR, offset: 0 };
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within a brick that fits memory"
        )]
        let offset = (within * grid.stride[axis]) as usize;
        Place { voxel, slot: near * weight, offset }
    }

    #[inline(always)]
    fn voxel<V: Volume<T>>(&self, volume: &V, grid: &Grid, x: Place, y: Place, z: Place) -> Option<f32> {
        let slot = x.slot + y.slot + z.slot;
        let Some(&brick) = self.around.get(slot) else {
            return far(volume, grid, [x.voxel, y.voxel, z.voxel]);
        };
        match brick {
            Brick::Resident(voxels) => voxels.get(x.offset + y.offset + z.offset).map(|v| v.to_f32()),
            Brick::Uniform(value) => Some(value.to_f32()),
            Brick::Missing => None,
        }
    }
}

/// Where a voxel is along one axis.
#[derive(Clone, Copy)]
struct Place {
    voxel: i64,
    /// This axis' part of the index into the bricks around; `FAR` where it is beyond them.
    slot: usize,
    /// This axis' part of the offset into the brick.
    offset: usize,
}

/// A voxel that is in none of the bricks around: bricks are shorter than a support there.
#[cold]
fn far<T: Scalar, V: Volume<T>>(volume: &V, grid: &Grid, voxel: [i64; 3]) -> Option<f32> {
    let tile = std::array::from_fn(|a| grid.brick_of(a, voxel[a]));
    let origin = grid.origin(tile);
    match look_up(volume, grid, tile) {
        Brick::Resident(voxels) => {
            let offset: i64 = (0..3).map(|a| (voxel[a] - origin[a]) * grid.stride[a]).sum();
            usize::try_from(offset).ok().and_then(|i| voxels.get(i)).map(|v| v.to_f32())
        }
        Brick::Uniform(value) => Some(value.to_f32()),
        Brick::Missing => None,
    }
}

/// A box of bricks that begins with the voxel `origin`, and those around it, as flat memory.
fn flat<'a, T>(
    grid: &Grid,
    origin: [i64; 3],
    brick: impl Fn([i64; 3]) -> Option<&'a [T]>,
    bricks: [i64; 3],
) -> Option<Around<'a, T>> {
    let beyond = [0, 1, 2].map(|a| grid.extent[a] - 1 - origin[a]);
    Around::new(brick, bricks, grid.brick, origin.map(|o| -o), beyond)
}

fn look_up<'a, T: Scalar, V: Volume<T>>(volume: &'a V, grid: &Grid, tile: [i64; 3]) -> Brick<'a, T> {
    if !grid.has(tile) {
        return Brick::Missing;
    }
    match volume.brick(tile_coord(tile)) {
        Brick::Resident(voxels) if voxels.len() < grid.brick_voxels => Brick::Missing,
        brick => brick,
    }
}
