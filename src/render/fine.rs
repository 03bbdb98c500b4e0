//! Owns which single voxels of a resident brick matter: [`Fine`], one bit each. Cells say what need not be loaded; these say what need not be sampled.
//!
//! A voxel's bit is set unless no sample between it and its upper neighbours can matter. It comes from the voxels themselves, those of the next
//! bricks included as far as they are there; where one is missing the bit is set.

use std::sync::Arc;

use super::grid::Grid;
use super::held::Held;
use super::occupancy::{NOTHING, Weigh};
use super::volume::Volume;
use crate::view::kernels::bits::Bits;
use crate::voxel::Scalar;

/// A bit per voxel of a brick, or of a group of them.
#[derive(Debug)]
pub(crate) struct Fine {
    /// Of the voxels inside the volume.
    pub(crate) bits: Bits,
    /// How many of the bricks that it depends on were missing.
    pub(crate) missing: usize,
}

/// The hulls of 2 x 2 voxels of a slice: least and greatest.
struct Slice {
    low: Vec<f32>,
    high: Vec<f32>,
}

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) weigh: Weigh<'a>,
    /// More important than this matters.
    pub(crate) threshold: f32,
}

impl Fine {
    /// `None` where the brick is too large for the kernels.
    ///
    /// **Cost**: one pass over the brick and, for the cells that matter, one look at the table per voxel.
    pub(crate) fn new<T: Scalar, V: Volume<T>>(
        held: &Held<'_, T>,
        volume: &V,
        grid: &Grid,
        question: Question<'_>,
    ) -> Option<Self> {
        let [nx, ny, nz] = held.last.map(|n| usize::try_from(n).unwrap_or(0) + 1);
        let words = nx.div_ceil(32);
        let mut bits = vec![0; words * ny * nz];
        let mut below = Slice::new(held, volume, grid, [nx, ny], 0);
        for (z, slice) in bits.chunks_exact_mut(words * ny).enumerate() {
            let above = Slice::new(held, volume, grid, [nx, ny], z + 1);
            for (y, row) in slice.chunks_exact_mut(words).enumerate() {
                let from = y * (nx + 1);
                let hull = |x: usize| {
                    let i = from + x;
                    (below.low[i].min(above.low[i]), below.high[i].max(above.high[i]))
                };
                let [side, sy, sz] = [0, 1, 2].map(|a| grid.cell_shift[a]);
                let first_cell = grid.cells[0] * ((y >> sy) + grid.cells[1] * (z >> sz));
                for cell in 0..=(nx - 1) >> side {
                    if held.cells.importance.get(first_cell + cell).is_some_and(|&i| i <= question.threshold)
                    {
                        continue;
                    }
                    for x in cell << side..((cell + 1) << side).min(nx) {
                        let matters = question.weigh.importance(hull(x)) > question.threshold;
                        row[x / 32] |= u32::from(matters) << (x % 32);
                    }
                }
            }
            below = above;
        }
        Some(Self { bits: Bits::new(bits, [nx, ny, nz])?, missing: held.missing_after() })
    }

    /// Of a group with such sides, from its bricks and where they begin; those in which nothing matters are not needed.
    pub(crate) fn joined(
        origin: [i64; 3],
        bricks: &[([i64; 3], Arc<Self>)],
        sides: [usize; 3],
    ) -> Option<Self> {
        let from = |at: &[i64; 3]| [0, 1, 2].map(|a| usize::try_from(at[a] - origin[a]).unwrap_or(0));
        let bits = Bits::joined(bricks.iter().map(|(at, fine)| (from(at), &fine.bits)), sides)?;
        Some(Self { bits, missing: 0 })
    }
}

impl Slice {
    fn new<T: Scalar, V: Volume<T>>(
        held: &Held<'_, T>,
        volume: &V,
        grid: &Grid,
        [nx, ny]: [usize; 2],
        z: usize,
    ) -> Self {
        let wide = nx + 1;
        let (mut low, mut high) = (Vec::with_capacity(wide * (ny + 1)), Vec::with_capacity(wide * (ny + 1)));
        for y in 0..=ny {
            let row = if y < ny { held.row(grid, y, z).and_then(|row| row.get(..nx)) } else { None };
            let inside = row.map_or(0, <[T]>::len);
            let here = row.unwrap_or_default().iter().map(|v| range_of(v.to_f32()));
            let beyond = (inside..wide).map(|x| held.range_at(volume, grid, [x, y, z]));
            for (least, greatest) in here.chain(beyond) {
                low.push(least);
                high.push(greatest);
            }
        }
        for by in [1, wide] {
            for i in 0..low.len() - by {
                low[i] = low[i].min(low[i + by]);
                high[i] = high[i].max(high[i + by]);
            }
        }
        Self { low, high }
    }
}

/// The range of one value: none for NaN.
pub(crate) fn range_of(value: f32) -> (f32, f32) {
    if value.is_nan() { NOTHING } else { (value, value) }
}
