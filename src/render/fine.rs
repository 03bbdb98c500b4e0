//! Owns which single voxels of a resident brick matter: [`Fine`], one bit each. Cells say what need not be loaded; these say what need not be sampled.
//!
//! A voxel's bit is set unless no sample between it and its upper neighbours can matter. It comes from the voxels themselves, those of the next
//! bricks included as far as they are there; where one is missing the bit is set.

use std::ops::Range;
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

/// Voxels that are asked about at once: those of a word.
pub(crate) const WORD: usize = 32;

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
        let [nx, ny, nz] = held.sides();
        let (words, wide) = (nx.div_ceil(WORD), nx + 1);
        let mut bits = vec![0; words * ny * nz];
        let [mut below, mut above] = [(); 2].map(|()| Slice::new(wide * (ny + 1)));
        below.fill(held, volume, grid, [nx, ny], 0);
        for (z, slice) in bits.chunks_exact_mut(words * ny).enumerate() {
            above.fill(held, volume, grid, [nx, ny], z + 1);
            for (y, row) in slice.chunks_exact_mut(words).enumerate() {
                for (word, bits) in row.iter_mut().enumerate() {
                    let from = word * WORD;
                    let in_doubt =
                        cells_of(held, grid, question.threshold, [from, y, z], nx.min(from + WORD));
                    if in_doubt != 0 {
                        let [low, high] = below.with(&above, y * wide + from..y * wide + nx.min(from + WORD));
                        *bits = in_doubt & question.weigh.more_important(&low, &high, question.threshold);
                    }
                }
            }
            std::mem::swap(&mut below, &mut above);
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

/// Which of the voxels from one on, up to before `end`, are in cells that matter.
fn cells_of<T: Scalar>(
    held: &Held<'_, T>,
    grid: &Grid,
    threshold: f32,
    [x, y, z]: [usize; 3],
    end: usize,
) -> u32 {
    let [side, sy, sz] = [0, 1, 2].map(|a| grid.cell_shift[a]);
    let row = grid.cells[0] * ((y >> sy) + grid.cells[1] * (z >> sz));
    let mut matter = 0;
    for cell in x >> side..=(end - 1) >> side {
        if held.cells.importance.get(row + cell).is_none_or(|&i| i > threshold) {
            let (from, to) = ((cell << side).max(x) - x, ((cell + 1) << side).min(end) - x);
            matter |= u32::MAX >> (WORD - (to - from)) << from;
        }
    }
    matter
}

impl Slice {
    fn new(voxels: usize) -> Self {
        Self { low: vec![0.0; voxels], high: vec![0.0; voxels] }
    }

    /// Becomes the one that lies so far up. In loops over whole rows, that vector instructions can be made of.
    fn fill<T: Scalar, V: Volume<T>>(
        &mut self,
        held: &Held<'_, T>,
        volume: &V,
        grid: &Grid,
        [nx, ny]: [usize; 2],
        z: usize,
    ) {
        let wide = nx + 1;
        let rows = self.low.chunks_exact_mut(wide).zip(self.high.chunks_exact_mut(wide));
        for (y, (low, high)) in rows.enumerate() {
            let row = if y < ny { held.row(grid, y, z).and_then(|row| row.get(..nx)) } else { None };
            let row = row.unwrap_or_default();
            for ((voxel, low), high) in row.iter().zip(&mut *low).zip(&mut *high) {
                (*low, *high) = range_of(voxel.to_f32());
            }
            for x in row.len()..wide {
                (low[x], high[x]) = held.range_at(volume, grid, [x, y, z]);
            }
        }
        for by in [1, wide] {
            for i in 0..self.low.len() - by {
                self.low[i] = least(self.low[i], self.low[i + by]);
            }
            for i in 0..self.high.len() - by {
                self.high[i] = greatest(self.high[i], self.high[i + by]);
            }
        }
    }

    /// The hulls of some places of two slices; nothing after them.
    fn with(&self, other: &Self, places: Range<usize>) -> [[f32; WORD]; 2] {
        let (mut low, mut high) = ([NOTHING.0; WORD], [NOTHING.1; WORD]);
        for ((to, a), b) in low.iter_mut().zip(&self.low[places.clone()]).zip(&other.low[places.clone()]) {
            *to = least(*a, *b);
        }
        for ((to, a), b) in high.iter_mut().zip(&self.high[places.clone()]).zip(&other.high[places]) {
            *to = greatest(*a, *b);
        }
        [low, high]
    }
}

/// None of these is NaN, so that one instruction does.
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn greatest(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The range of one value: none for NaN.
pub(crate) fn range_of(value: f32) -> (f32, f32) {
    if value.is_nan() { NOTHING } else { (value, value) }
}
