//! Owns which voxels of a brick matter, as bits that the kernels read: [`Bits`]. Knows nothing of why they do.

/// How far around, in voxels along each axis, blocks look for one ray: half a group of samples half a voxel apart.
pub(crate) const NEAR: usize = 2;

/// How far they look for a beam of rays: as much again, for the rays around the one in the middle. No more than one block.
pub(crate) const WIDE: usize = 4;

/// log2 of a block's side in voxels, see [`Bits::blocks`].
pub(crate) const BLOCK: u32 = 2;

/// A bit per voxel of a brick that is set where samples may matter.
#[derive(Debug)]
pub(crate) struct Bits {
    /// Rows along x of whole words; as many as an `i32` counts, and one at least.
    pub(crate) voxels: Vec<u32>,
    /// Words between neighbours along y and z.
    pub(crate) stride: [i32; 2],
    /// The last voxel.
    pub(crate) last: [i32; 3],
    /// The brick's blocks that are within [`NEAR`] voxels of one that matters; none for a brick too large for it.
    pub(crate) blocks: Option<Blocks>,
    /// Those within [`WIDE`], with one block more on every side of the brick; not for a group of bricks.
    pub(crate) around: Option<Blocks>,
}

/// A bit per block of 4^3 voxels that is set where any voxel of the block, or of some voxels from it, matters: of a brick, or of a whole volume.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Rows along x of whole words; one at least.
    pub(crate) words: Vec<u32>,
    /// log2 of the words between neighbours along y and z.
    pub(crate) shift: [i32; 2],
    /// The last voxel, in 16.16 fixed point.
    pub(crate) last: [i32; 3],
}

/// The longest side that blocks are kept for, in voxels: 16.16 fixed point can tell all its places, and a ray's way beyond them.
const MAX_SIDE: usize = 1 << 14;
/// The most words of blocks: 8 MiB.
const MAX_WORDS: usize = 1 << 21;
const SIDE: usize = 1 << BLOCK;

impl Bits {
    /// For a brick of so many voxels, whose rows are padded to words. `None` where there are too many for the kernels, or none.
    pub(crate) fn new(voxels: Vec<u32>, sides: [usize; 3]) -> Option<Self> {
        let bits = Self::alone(voxels, sides)?;
        let around = Blocks::none(sides.map(|n| n + 2 * SIDE)).map(|mut around| {
            let (padded, shape) = padded(&bits.voxels, sides);
            around.take_voxels(&padded, shape, WIDE);
            around
        });
        Some(Self { around, ..bits })
    }

    /// For a group with such sides, from bricks and where they begin: multiples of 32 along x, or all in one word.
    pub(crate) fn joined<'b>(
        bricks: impl Iterator<Item = ([usize; 3], &'b Self)>,
        sides: [usize; 3],
    ) -> Option<Self> {
        let words = sides[0].div_ceil(32);
        let mut voxels = vec![0; words * sides[1] * sides[2]];
        for ([x, y, z], brick) in bricks {
            let side = |a: usize| usize::try_from(brick.last[a]).map(|last| last + 1).ok();
            let (rows, row_words) = (side(1)?, side(0)?.div_ceil(32));
            for (i, row) in brick.voxels.chunks_exact(row_words).enumerate() {
                let to = x / 32 + words * (y + i % rows + sides[1] * (z + i / rows));
                for (word, bits) in voxels.get_mut(to..to + row_words)?.iter_mut().zip(row) {
                    *word |= bits << (x % 32);
                }
            }
        }
        Self::alone(voxels, sides)
    }

    /// As [`Bits::new`], without what is around.
    fn alone(voxels: Vec<u32>, sides: [usize; 3]) -> Option<Self> {
        let small = |n: usize| i32::try_from(n).ok();
        small(voxels.len()).filter(|&n| n > 0)?;
        let words = sides[0].div_ceil(32);
        let stride = [small(words)?, small(words * sides[1])?];
        let last = [small(sides[0] - 1)?, small(sides[1] - 1)?, small(sides[2] - 1)?];
        let blocks = Blocks::none(sides).map(|mut blocks| {
            blocks.take_voxels(&voxels, [words, sides[1]], NEAR);
            blocks
        });
        Some(Self { voxels, stride, last, blocks, around: None })
    }

    /// How much is kept.
    pub(crate) fn words(&self) -> usize {
        let blocks = [&self.blocks, &self.around].into_iter().flatten().map(|blocks| blocks.words.len());
        self.voxels.len() + blocks.sum::<usize>()
    }
}

impl Blocks {
    /// No block set, of a volume with such sides. `None` where there are too many, or none.
    pub(crate) fn none(sides: [usize; 3]) -> Option<Self> {
        let [bx, by, bz] = sides.map(|n| n.div_ceil(SIDE));
        let row = bx.div_ceil(32).next_power_of_two();
        let slice = row * by.next_power_of_two();
        if sides.iter().any(|&n| n == 0 || n > MAX_SIDE) || slice.checked_mul(bz)? > MAX_WORDS {
            return None;
        }
        let last = |n: usize| i32::try_from(n - 1).map(|n| n << 16).ok();
        let shift = [row.trailing_zeros().cast_signed(), slice.trailing_zeros().cast_signed()];
        Some(Self {
            words: vec![0; slice * bz],
            shift,
            last: [last(sides[0])?, last(sides[1])?, last(sides[2])?],
        })
    }

    /// Sets the blocks that are within `reach` voxels of one whose bit is set, in rows of so many words, slices of so many rows.
    fn take_voxels(&mut self, voxels: &[u32], [words, rows]: [usize; 2], reach: usize) {
        let near = near(voxels, [words, rows], reach);
        for (z, slices) in near.chunks(SIDE * words * rows).enumerate() {
            for y in 0..rows.div_ceil(SIDE) {
                for x in 0..words {
                    // Of the rows of these blocks all together.
                    let slices = slices.chunks_exact(words * rows);
                    let of_slice = |slice: &[u32]| {
                        let rows = slice.chunks_exact(words).skip(y * SIDE).take(SIDE);
                        rows.fold(0, |all, row| all | row[x])
                    };
                    let word = slices.fold(0, |all, slice| all | of_slice(slice));
                    for part in (0..32 / SIDE).filter(|part| word >> (part * SIDE) & ((1 << SIDE) - 1) != 0) {
                        self.set([x * 32 / SIDE + part, y, z]);
                    }
                }
            }
        }
    }

    /// Sets a block, if there is one.
    fn set(&mut self, [x, y, z]: [usize; 3]) {
        let last = self.last.map(|n| usize::try_from(n >> 16).unwrap_or(0) / SIDE);
        if x <= last[0] && y <= last[1] && z <= last[2] {
            self.words[(x >> 5) + (y << self.shift[0]) + (z << self.shift[1])] |= 1 << (x & 31);
        }
    }

    /// Takes over [`Bits::around`] of a brick whose first voxel is at `origin`, a multiple of 4.
    pub(crate) fn add(&mut self, origin: [usize; 3], around: &Self) {
        let (row, rows) = (1usize << around.shift[0], 1usize << (around.shift[1] - around.shift[0]));
        for (i, word) in around.words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                let x = (i % row) * 32 + left.trailing_zeros() as usize;
                left &= left - 1;
                self.set_around(origin, [x, i / row % rows, i / row / rows]);
            }
        }
    }

    /// Sets a brick's blocks and those around it: nothing is known of it.
    pub(crate) fn add_unknown(&mut self, origin: [usize; 3], sides: [usize; 3]) {
        let last = self.last.map(|n| usize::try_from(n >> 16).unwrap_or(0) / SIDE);
        let low = origin.map(|o| (o / SIDE).saturating_sub(1));
        let high = [0, 1, 2].map(|a| ((origin[a] + sides[a]).div_ceil(SIDE)).min(last[a]));
        for (y, z) in (low[2]..=high[2]).flat_map(|z| (low[1]..=high[1]).map(move |y| (y, z))) {
            let row = (y << self.shift[0]) + (z << self.shift[1]);
            for word in low[0] >> 5..=high[0] >> 5 {
                let from = if word == low[0] >> 5 { low[0] & 31 } else { 0 };
                let to = if word == high[0] >> 5 { high[0] & 31 } else { 31 };
                self.words[row + word] |= u32::MAX >> (31 - to) & u32::MAX << from;
            }
        }
    }

    /// Sets a block that is counted from the one before a brick's first.
    fn set_around(&mut self, origin: [usize; 3], block: [usize; 3]) {
        let at = |a: usize| (origin[a] / SIDE + block[a]).checked_sub(1);
        if let (Some(x), Some(y), Some(z)) = (at(0), at(1), at(2)) {
            self.set([x, y, z]);
        }
    }
}

/// The bits with room for one block on every side; and words in a row, rows in a slice.
fn padded(voxels: &[u32], [nx, ny, nz]: [usize; 3]) -> (Vec<u32>, [usize; 2]) {
    let (words, wide, rows) = (nx.div_ceil(32), (nx + 2 * SIDE).div_ceil(32), ny + 2 * SIDE);
    let mut padded = vec![0u32; wide * rows * (nz + 2 * SIDE)];
    for (i, row) in voxels.chunks_exact(words).enumerate() {
        let to = wide * (i % ny + SIDE + rows * (i / ny + SIDE));
        for (x, word) in row.iter().enumerate() {
            padded[to + x] |= word << SIDE;
            if let Some(next) = padded[to..to + wide].get_mut(x + 1) {
                *next |= word >> (32 - SIDE);
            }
        }
    }
    (padded, [wide, rows])
}

/// Which bits have any that is set up to `reach` away, from 1 to 16, along each axis: rows of `words` words, slices of `rows` rows.
fn near(bits: &[u32], [words, rows]: [usize; 2], reach: usize) -> Vec<u32> {
    let mut along_x = vec![0; bits.len()];
    for (row, out) in bits.chunks_exact(words).zip(along_x.chunks_exact_mut(words)) {
        for (i, word) in out.iter_mut().enumerate() {
            // Three words as one number, of which the middle one is wanted, and no more of the others than reaches it.
            let get = |i: usize| u64::from(row.get(i).copied().unwrap_or(0));
            let before = if i > 0 { get(i - 1) } else { 0 };
            let wide = before >> (32 - reach) | get(i) << reach | get(i + 1) << (32 + reach);
            let spread = (1..=reach).fold(wide, |all, by| all | wide << by | wide >> by);
            #[expect(clippy::cast_possible_truncation, reason = "the middle word")]
            (*word = (spread >> reach) as u32);
        }
    }
    let along_y = spread(&along_x, words, words * rows, reach);
    spread(&along_y, words * rows, bits.len(), reach)
}

/// Every word with those up to `reach` times `stride` away, within each `whole` words.
fn spread(bits: &[u32], stride: usize, whole: usize, reach: usize) -> Vec<u32> {
    let mut out = bits.to_vec();
    for (part, out) in bits.chunks_exact(whole).zip(out.chunks_exact_mut(whole)) {
        for by in (1..=reach).map(|n| n * stride).filter(|&by| by < whole) {
            let (first, second) = (&part[..whole - by], &part[by..]);
            out[by..].iter_mut().zip(first).for_each(|(out, word)| *out |= word);
            out.iter_mut().zip(second).for_each(|(out, word)| *out |= word);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_set(blocks: &Blocks, [x, y, z]: [usize; 3]) -> bool {
        blocks.words[x / 32 + (y << blocks.shift[0]) + (z << blocks.shift[1])] >> (x % 32) & 1 == 1
    }

    fn one(sides: [usize; 3], at: [usize; 3]) -> Bits {
        let words = sides[0].div_ceil(32);
        let mut voxels = vec![0; words * sides[1] * sides[2]];
        voxels[at[0] / 32 + words * (at[1] + sides[1] * at[2])] = 1 << (at[0] % 32);
        Bits::new(voxels, sides).unwrap()
    }

    fn sees(block: [usize; 3], voxel: [usize; 3], reach: usize) -> bool {
        (0..3).all(|a| (4 * block[a]..4 * block[a] + 4).any(|v| v.abs_diff(voxel[a]) <= reach))
    }

    fn all([x, y, z]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
        (0..x * y * z).map(move |i| [i % x, i / x % y, i / x / y])
    }

    #[test]
    fn blocks_see_as_far_as_they_say() {
        for at in [[0, 0, 0], [69, 8, 10], [33, 4, 5], [31, 3, 7], [64, 0, 10]] {
            let bits = one([70, 9, 11], at);
            let (blocks, around) = (bits.blocks.unwrap(), bits.around.unwrap());
            assert!(all([18, 3, 3]).all(|b| is_set(&blocks, b) == sees(b, at, NEAR)), "{at:?}");
            let at = at.map(|v| v + SIDE);
            assert!(all([20, 5, 5]).all(|b| is_set(&around, b) == sees(b, at, WIDE)), "{at:?}");
        }
    }

    #[test]
    fn a_volume_takes_over_what_its_bricks_know() {
        let sides = [72, 24, 13];
        for (origin, at) in [([32, 8, 0], [0, 0, 0]), ([32, 16, 8], [31, 7, 4]), ([0, 0, 0], [30, 7, 7])] {
            let mut volume = Blocks::none(sides).unwrap();
            volume.add(origin, one([32, 8, 8], at).around.as_ref().unwrap());
            let voxel = [0, 1, 2].map(|a| origin[a] + at[a]);
            assert!(all([18, 6, 4]).all(|b| is_set(&volume, b) == sees(b, voxel, WIDE)), "{origin:?} {at:?}");
        }
        let mut volume = Blocks::none([400, 24, 13]).unwrap();
        volume.add_unknown([124, 8, 0], [160, 8, 8]);
        let set = all([100, 6, 4]).filter(|&b| is_set(&volume, b));
        assert!(set.eq(
            all([100, 6, 4]).filter(|b| (30..=71).contains(&b[0]) && (1..=4).contains(&b[1]) && b[2] <= 2)
        ));
        let mut volume = Blocks::none(sides).unwrap();
        volume.add_unknown([64, 0, 8], [32, 8, 8]);
        let set: Vec<_> = all([18, 6, 4]).filter(|&b| is_set(&volume, b)).collect();
        assert_eq!((set.len(), set[0], *set.last().unwrap()), (3 * 3 * 3, [15, 0, 1], [17, 2, 3]));
    }

    #[test]
    fn joined_bricks_know_what_one_brick_would() {
        for (edge, at) in [(8, [21, 3, 9]), (32, [70, 37, 33]), (16, [31, 16, 15]), (64, [64, 0, 0])] {
            let sides = [75, 40, 50];
            let origin = at.map(|v| v / edge * edge);
            let part =
                one([0, 1, 2].map(|a| edge.min(sides[a] - origin[a])), [0, 1, 2].map(|a| at[a] % edge));
            let (joined, whole) =
                (Bits::joined([(origin, &part)].into_iter(), sides).unwrap(), one(sides, at));
            assert!(joined.voxels == whole.voxels && joined.last == whole.last, "{edge} {at:?}");
            assert_eq!(joined.blocks.unwrap().words, whole.blocks.unwrap().words, "{edge} {at:?}");
        }
    }

    #[test]
    fn too_large_volumes_have_no_blocks() {
        assert!(Blocks::none([1 << 15, 1, 1]).is_none());
        assert!(Blocks::none([1 << 14, 1 << 14, 1 << 14]).is_none());
        assert!(Blocks::none([1024; 3]).is_some());
    }

    #[test]
    fn no_voxels_are_refused() {
        assert!(Bits::new(Vec::new(), [0, 1, 1]).is_none());
    }
}
