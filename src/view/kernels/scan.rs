//! Owns which samples matter, portable: [`Scan`] looks at each, [`Near`] at groups of eight.

use super::bits::{BLOCK, Bits, Blocks};
use super::{LANES, position, split};

/// Samples that a scan looks at in one stretch.
pub(crate) const SCAN: u32 = 64;

/// Samples that a scan can tell at one look to be of no matter.
pub(crate) const GROUP: u32 = 8;

/// The kernels that look at which samples matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(super) stride: unsafe fn([i64; 3]) -> Stride,
    pub(super) scan: Scan,
    pub(super) near: Near,
}

#[expect(unsafe_code, reason = "calls that need a feature found at run time")]
impl Look {
    /// What is worth working out once for a ray with such steps.
    #[inline(always)]
    pub(crate) fn stride(&self, step: [i64; 3]) -> Stride {
        // SAFETY: `Kernels::select`, which alone hands these out, found all features that they need.
        unsafe { (self.stride)(step) }
    }

    /// Looks at so many samples, [`SCAN`] at a time, as far as the first that matters.
    #[inline(always)]
    pub(crate) fn scan(&self, cells: Cells<'_>, first: [i64; 3], stride: &Stride, samples: u32) -> Scanned {
        // SAFETY: as above.
        unsafe { (self.scan)(cells, first, stride, samples) }
    }

    /// Which of eight groups of eight samples may matter, one bit each: as far as blocks tell of their middles. Only for short strides.
    #[inline(always)]
    pub(crate) fn near(&self, blocks: &Blocks, first: [i64; 3], stride: &Stride) -> u32 {
        // SAFETY: as above.
        unsafe { (self.near)(blocks, first, stride) }
    }
}

/// See [`Look::scan`].
pub(super) type Scan = unsafe fn(Cells<'_>, [i64; 3], &Stride, u32) -> Scanned;

/// See [`Look::near`].
pub(super) type Near = unsafe fn(&Blocks, [i64; 3], &Stride) -> u32;

/// What a scan found: one bit per sample of the first stretch of [`SCAN`] that has one that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// The samples before that stretch; all of them where none matters.
    pub(crate) begin: u32,
    /// Samples that matter.
    pub(crate) matter: u64,
    /// Those of them whose support lies in the brick.
    pub(crate) inner: u64,
}

/// What is known of which samples of a brick matter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cells<'a> {
    /// A number per cell.
    Coarse(&'a Coarse<'a>),
    /// A bit per voxel.
    Fine(&'a Bits),
}

/// Cells that matter where their number is greater than a threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coarse<'a> {
    pub(super) importance: &'a [f32],
    pub(super) threshold: f32,
    /// log2 of a cell's sides in voxels.
    pub(super) shift: [u32; 3],
    /// Cells between neighbours along y and z.
    pub(super) stride: [i32; 2],
    /// The last voxel of the brick that is inside the volume: positions beyond it belong to its cell.
    last: [i32; 3],
}

impl<'a> Coarse<'a> {
    /// `None` where there are too many cells for the kernels, or none.
    #[inline(always)]
    pub(crate) fn new(
        importance: &'a [f32],
        threshold: f32,
        shift: [u32; 3],
        cells: [usize; 3],
        last: [i32; 3],
    ) -> Option<Self> {
        let count = i32::try_from(importance.len()).ok()?;
        let stride = [i32::try_from(cells[0]).ok()?, i32::try_from(cells[0].checked_mul(cells[1])?).ok()?];
        let [x, y, z] = shift;
        let shift = [x.min(31), y.min(31), z.min(31)];
        (count > 0).then_some(Self { importance, threshold, shift, stride, last })
    }
}

impl Cells<'_> {
    /// The last voxel of the brick that is inside the volume.
    #[inline(always)]
    pub(super) fn last(&self) -> [i32; 3] {
        match self {
            Self::Coarse(cells) => cells.last,
            Self::Fine(bits) => bits.last,
        }
    }
}

/// From one sample of a ray to the next, and what scans want to know of that.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(crate) struct Stride {
    /// From the first sample to the middles of eight groups, in 16.16 fixed point.
    pub(super) middles: [[i32; LANES]; 3],
    /// In 32.32 fixed point.
    pub(super) step: [i64; 3],
    /// Whether half a group of samples goes no further than blocks of voxels see around them.
    pub(crate) short: bool,
}

impl Stride {
    #[expect(clippy::cast_possible_truncation, reason = "not looked at where it does not fit")]
    pub(super) fn new(step: [i64; 3]) -> Self {
        // Three and a half samples after each group's first.
        let middles =
            |a: usize| [7, 23, 39, 55, 71, 87, 103, 119].map(|i: i32| i.wrapping_mul((step[a] >> 17) as i32));
        let short = |a: usize| step[a].unsigned_abs() <= 1 << 31;
        Self { middles: [middles(0), middles(1), middles(2)], step, short: short(0) && short(1) && short(2) }
    }
}

pub(super) fn scan(cells: Cells<'_>, first: [i64; 3], stride: &Stride, samples: u32) -> Scanned {
    let mut found = Scanned { begin: 0, matter: 0, inner: 0 };
    let last = cells.last();
    for sample in 0..samples {
        let lane = sample % SCAN;
        if lane == 0 && found.matter != 0 {
            return found;
        }
        found.begin = sample - lane;
        let voxel = position(first, stride.step, sample).map(|p| split(p).0);
        let clamped = [0, 1, 2].map(|a| voxel[a].max(0).min(last[a]));
        let at = |[x, y, z]: [i32; 3], stride: [i32; 2]| {
            let rows = y.wrapping_mul(stride[0]).wrapping_add(z.wrapping_mul(stride[1]));
            usize::try_from(x.wrapping_add(rows)).ok()
        };
        let matters = match cells {
            Cells::Coarse(cells) => {
                let [x, y, z] = [0, 1, 2].map(|a| clamped[a] >> cells.shift[a]);
                let importance = at([x, y, z], cells.stride).and_then(|i| cells.importance.get(i));
                importance.is_none_or(|&importance| importance > cells.threshold)
            }
            Cells::Fine(bits) => {
                let [x, y, z] = clamped;
                let word = at([x >> 5, y, z], bits.stride).and_then(|i| bits.voxels.get(i));
                word.is_none_or(|word| word >> (x & 31) & 1 == 1)
            }
        };
        let inner = [0, 1, 2].iter().all(|&a| (0..last[a]).contains(&voxel[a]));
        found.matter |= u64::from(matters) << lane;
        found.inner |= u64::from(inner && matters) << lane;
    }
    if found.matter == 0 {
        found.begin = samples;
    }
    found
}

#[expect(clippy::cast_possible_truncation, reason = "places in a small volume, or next to it")]
pub(super) fn near(blocks: &Blocks, first: [i64; 3], stride: &Stride) -> u32 {
    let mut found = 0;
    for group in 0..LANES {
        let block = |a: usize| {
            let place = ((first[a] >> 16) as i32).wrapping_add(stride.middles[a][group]);
            usize::try_from(place.max(0).min(blocks.last[a]) >> (16 + BLOCK)).unwrap_or(0)
        };
        let (x, row) = (block(0), (block(1) << blocks.shift[0]) + (block(2) << blocks.shift[1]));
        let set = blocks.words.get((x >> 5) + row).is_none_or(|word| word >> (x & 31) & 1 == 1);
        found |= u32::from(set) << group;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::*;

    #[test]
    fn looks_at_groups_agree_and_miss_nothing_that_matters() {
        let words: Vec<u32> = (0..2 * 40 * 30u32).map(|i| u32::from(i % 97 == 5) << (i % 31)).collect();
        let bits = Bits::new(words, [60, 40, 30]).unwrap();
        let (mut matter, mut none) = (0, 0);
        for i in 0..3000i64 {
            let first = [(i % 60) << 32, i << 26, (i % 37 - 2) << 32];
            let step = [(1 << 31) - (i << 20), (1 << 30) - (i << 20), (i % 5 - 2) << 29];
            let look = |simd| {
                Kernels::<u8>::select(simd).look.near(
                    bits.blocks.as_ref().unwrap(),
                    first,
                    &Stride::new(step),
                )
            };
            assert_eq!(look(true), look(false), "{i}");
            for group in (0..8).filter(|group| look(true) >> group & 1 == 0) {
                let from = position(first, step, group * GROUP);
                let found = scan(Cells::Fine(&bits), from, &Stride::new(step), GROUP);
                assert_eq!(found.matter, 0, "{i} {group}");
                none += 1;
            }
            matter += look(true).count_ones();
        }
        assert!(none > 1000 && matter > 1000, "{none} {matter}");
    }

    #[test]
    fn scans_agree_and_stay_in_the_brick() {
        let importance: Vec<f32> = (0..4 * 3 * 2u8).map(|i| f32::from(i * 7 % 5)).collect();
        let words: Vec<u32> = (0..2 * 6 * 16u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
        let last = [40, 5, 15];
        let coarse = Coarse::new(&importance, 2.0, [4, 1, 3], [3, 3, 2], last).unwrap();
        let dense = Bits::new(words, [41, 6, 16]).unwrap();
        let few = (0..192u32).map(|i| u32::from(i % 5 == 0) << (i % 31)).collect();
        let few = Bits::new(few, [41, 6, 16]).unwrap();
        for cells in [Cells::Coarse(&coarse), Cells::Fine(&dense), Cells::Fine(&few)] {
            let mut matters = 0;
            for i in 0..500i64 {
                let first = [i * 323_456_789 - (3 << 32), i * 77_777_777, (i << 27) - (1 << 32)];
                let step = [(1 << 30) - (i << 24), (1 << 28) - (i << 21), i << 20];
                let scan = |simd, count| {
                    Kernels::<u8>::select(simd).look.scan(cells, first, &Stride::new(step), count)
                };
                for count in [1, 7, 8, 9, 63, 64, 65, 200] {
                    let got = scan(true, count);
                    assert_eq!(got, scan(false, count), "{i} {count}");
                    let (all, asked) = (scan(true, 64), u64::MAX >> 64u32.saturating_sub(count).min(63));
                    if got.begin == 0 {
                        assert_eq!((got.matter, got.inner), (all.matter & asked, all.inner & asked));
                    } else {
                        assert!(all.matter & asked == 0 && got.begin <= count, "{got:?}");
                    }
                    matters += got.matter.count_ones();
                }
            }
            assert!(matters > 0, "{cells:?}");
        }
        assert!(Coarse::new(&[], 0.0, [0; 3], [0; 3], [0; 3]).is_none());
    }
}
