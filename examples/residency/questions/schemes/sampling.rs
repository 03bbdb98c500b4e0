//! Owns trilinear samples: the one arithmetic that every scheme's sums are made of, and the loops over tiles that most of them share.
//!
//! Positions are fixed-point numbers, so that a position along a ray is the same however the ray was split: the sums of all schemes agree bit for bit.

use super::memory::ask_ahead;
use super::volume::{EDGE, EDGE_LOG2, Shape};

/// Bits after the point of a position: a float holds them exactly.
pub(crate) const FRACTION: u32 = 20;
const WITHIN: u32 = EDGE - 1;
/// How many points are looked up before the first of them is read: the misses of as many are under way as a core has room for.
const AHEAD: usize = 16;

/// A position in voxels, fixed-point.
pub(crate) type Point = [u32; 3];

/// Samples at equal steps along a line, every one of them between voxels of wanted tiles. A kernel's `vg_scheme_ray`, too.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Ray {
    pub(crate) first: Point,
    /// At least 1 along every axis.
    pub(crate) step: Point,
    pub(crate) samples: u32,
}

/// The voxel below a position.
#[inline(always)]
pub(crate) fn cell(at: Point) -> [u32; 3] {
    at.map(|v| v >> FRACTION)
}

#[inline(always)]
pub(crate) fn advance(at: &mut Point, step: Point) {
    for (v, step) in at.iter_mut().zip(step) {
        *v += step;
    }
}

/// The value at a position, of the eight voxels around it, x fastest.
#[inline(always)]
pub(crate) fn blend(near: [u16; 8], at: Point) -> f64 {
    let [x, y, z] = at.map(|v| (v & ((1 << FRACTION) - 1)) as f32 * (1.0 / (1u32 << FRACTION) as f32));
    let [a, b, c, d, e, f, g, h] = near.map(f32::from);
    let mix = |low: f32, high: f32, at: f32| low + (high - low) * at;
    let (low, high) = (mix(mix(a, b, x), mix(c, d, x), y), mix(mix(e, f, x), mix(g, h, x), y));
    mix(low, high, z).into()
}

/// The eight voxels around a position, x fastest.
#[inline(always)]
pub(crate) fn corners(cell: [u32; 3]) -> [[u32; 3]; 8] {
    let [[x, y, z], [a, b, c]] = [cell, cell.map(|v| v + 1)];
    [[x, y, z], [a, y, z], [x, b, z], [a, b, z], [x, y, c], [a, y, c], [x, b, c], [a, b, c]]
}

/// A scheme whose tiles are dense blocks of voxels, found by their numbers. What finding one costs is what the schemes differ in.
pub(crate) trait Bricks {
    /// Voxels along an edge of a block: a tile's, or one more where the first voxels of the next tiles are there too.
    const ROW: u32;

    fn shape(&self) -> Shape;

    /// The voxels of a tile, or `None` where it is not there.
    fn brick(&self, tile: u32) -> Option<&[u16]>;
}

/// Voxels from the first of the eight around a position to the last, and that one.
const fn reach<B: Bricks>() -> usize {
    let row = B::ROW as usize;
    row * row + row + 2
}

/// The eight voxels that begin at one of a block.
#[inline(always)]
fn inside<B: Bricks>(brick: &[u16], at: usize) -> Option<[u16; 8]> {
    // One check of bounds for all eight.
    let near = brick.get(at..at + reach::<B>())?;
    let (row, plane) = (B::ROW as usize, (B::ROW * B::ROW) as usize);
    let (last, high) = (plane + row, plane + 1);
    Some([near[0], near[1], near[row], near[row + 1], near[plane], near[high], near[last], near[last + 1]])
}

/// Where a voxel lies in its block.
#[inline(always)]
fn within<B: Bricks>(cell: [u32; 3]) -> usize {
    let [x, y, z] = cell.map(|v| v & WITHIN);
    (x + (y + z * B::ROW) * B::ROW) as usize
}

/// The number of the tile of a voxel.
#[inline(always)]
fn tile_of<B: Bricks>(bricks: &B, cell: [u32; 3]) -> u32 {
    bricks.shape().index(cell.map(|v| v >> EDGE_LOG2))
}

/// The eight voxels around a position whose neighbours lie in other tiles: one look-up for each tile that there is, two mostly.
#[inline(never)]
fn across<B: Bricks>(bricks: &B, cell: [u32; 3]) -> Option<[u16; 8]> {
    // Of a corner's number, the axes along which the next tile begins: corners that agree in these lie in one tile.
    let beyond = |k: usize| usize::from(cell[k] & WITHIN == WITHIN) << k;
    let crossed = beyond(0) | beyond(1) | beyond(2);
    let (mut tiles, mut near) = ([&[][..]; 8], [0; 8]);
    for (k, corner) in corners(cell).into_iter().enumerate() {
        if k & crossed == k {
            tiles[k] = bricks.brick(tile_of(bricks, corner))?;
        }
        near[k] = *tiles[k & crossed].get(within::<B>(corner))?;
    }
    Some(near)
}

/// The sum of all samples of rays, or `None` where a tile is missing: the block is looked up once for all samples that a ray has in its tile, and how many those are is computed
/// beforehand, so that the inner loop tests nothing.
pub(crate) fn along_rays<B: Bricks>(bricks: &B, rays: &[Ray]) -> Option<f64> {
    let mut sum = 0.0;
    for ray in rays {
        let (mut at, mut left) = (ray.first, ray.samples);
        while left > 0 {
            let first = cell(at);
            let brick = bricks.brick(tile_of(bricks, first))?;
            // The first position beyond those whose eight voxels lie in the block.
            let end = first.map(|v| ((v & !WITHIN) + B::ROW - 1) << FRACTION);
            if (0..3).all(|k| at[k] < end[k]) {
                let steps = |k: usize| (end[k] - at[k] - 1) / ray.step[k] + 1;
                let run = steps(0).min(steps(1)).min(steps(2)).min(left);
                for _ in 0..run {
                    sum += blend(inside::<B>(brick, within::<B>(cell(at)))?, at);
                    advance(&mut at, ray.step);
                }
                left -= run;
            } else {
                sum += blend(across(bricks, first)?, at);
                advance(&mut at, ray.step);
                left -= 1;
            }
        }
    }
    Some(sum)
}

/// The sum of samples at points anywhere, or `None` where a tile is missing: each point's lines are asked for some points ahead.
pub(crate) fn at_points<B: Bricks>(bricks: &B, points: &[Point]) -> Option<f64> {
    const RIM: usize = usize::MAX;
    let mut ring = [(&[][..], RIM); AHEAD];
    let mut sum = 0.0;
    for i in 0..points.len() + AHEAD {
        let place = &mut ring[i % AHEAD];
        if let Some(&point) = i.checked_sub(AHEAD).and_then(|i| points.get(i)) {
            let near = match *place {
                (_, RIM) => across(bricks, cell(point)),
                (brick, at) => inside::<B>(brick, at),
            };
            sum += blend(near?, point);
        }
        if let Some(&point) = points.get(i) {
            let first = cell(point);
            let brick = bricks.brick(tile_of(bricks, first))?;
            let whole = first.iter().all(|v| v & WITHIN < B::ROW - 1);
            let at = within::<B>(first);
            for line in [0, B::ROW, B::ROW * B::ROW, B::ROW * B::ROW + B::ROW] {
                ask_ahead(brick, at + line as usize);
            }
            *place = (brick, if whole { at } else { RIM });
        }
    }
    Some(sum)
}

/// A voxel of every OS page of a tile, summed: so that every scheme has paid for what it put off.
pub(crate) fn touch<B: Bricks>(bricks: &B, tile: u32) -> Option<u64> {
    // The first voxels of rows of the tile itself, which every kind of block has.
    let brick = bricks.brick(tile)?;
    let mut sum = 0;
    for row in (0..EDGE * EDGE).step_by(4096 / (EDGE as usize * 2)) {
        sum += u64::from(*brick.get(within::<B>([0, row % EDGE, row / EDGE]))?);
    }
    Some(sum)
}
