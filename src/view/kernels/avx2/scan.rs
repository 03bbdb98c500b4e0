//! Owns the look at which samples matter.

#[allow(clippy::wildcard_imports, reason = "each named for what it is")]
use std::arch::x86_64::*;

use super::super::bits::{BLOCK, Bits, Blocks};
use super::super::{Cells, GROUP, LANES, SCAN, Scanned, Stride, position};
use super::{halves, numbers, places, widened, words_at};

/// The samples of a scan along one axis, eight at a time.
#[derive(Clone, Copy)]
struct Walk {
    first: i64,
    step: i64,
    /// Of the first eight samples, from the first.
    ways: [__m256i; 2],
    last: __m256i,
    /// The voxel before the last: the last one whose support is in the brick.
    inner: __m256i,
}

impl Walk {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(first: i64, step: i64, lanes: [__m256i; 2], last: i32) -> Self {
        Self {
            first,
            step,
            ways: places(0, step, lanes),
            last: _mm256_set1_epi32(last),
            inner: _mm256_set1_epi32(last.saturating_sub(1)),
        }
    }

    /// The voxels of the samples from `begin` on as far as the brick goes, and which are not inner.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn voxels<const CLAMPED: bool>(&self, begin: u32) -> (__m256i, __m256i) {
        let (from, [a, b]) = (self.from(begin), self.ways);
        let (voxel, _) = halves([_mm256_add_epi64(from, a), _mm256_add_epi64(from, b)]);
        let above = _mm256_cmpgt_epi32(voxel, self.inner);
        if CLAMPED {
            let below = _mm256_cmpgt_epi32(_mm256_setzero_si256(), voxel);
            (self.clamped(voxel), _mm256_or_si256(above, below))
        } else {
            (voxel, above)
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn from(&self, sample: u32) -> __m256i {
        _mm256_set1_epi64x(self.first.wrapping_add(self.step.wrapping_mul(i64::from(sample))))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn clamped(&self, voxel: __m256i) -> __m256i {
        _mm256_min_epi32(_mm256_max_epi32(voxel, _mm256_setzero_si256()), self.last)
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn scan(cells: Cells<'_>, first: [i64; 3], stride: &Stride, samples: u32) -> Scanned {
    let (mut begin, mut from) = (0, first);
    while begin < samples {
        let count = (samples - begin).min(SCAN);
        let groups = (1u32 << count.div_ceil(GROUP)) - 1;
        let groups = match cells {
            Cells::Fine(Bits { blocks: Some(blocks), .. }) if stride.short => {
                groups & groups_near(blocks, from, stride)
            }
            _ => groups,
        };
        if groups != 0 {
            let (matter, inner) = stretch(cells, from, stride.step, count, groups);
            if matter != 0 {
                return Scanned { begin, matter, inner };
            }
        }
        begin = begin.saturating_add(SCAN);
        from = position(from, stride.step, SCAN);
    }
    Scanned { begin: samples, matter: 0, inner: 0 }
}

/// Which groups of eight samples have voxels near their middles that matter. In 16.16 fixed point, whose error is far below the quarter of a voxel that
/// [`super::super::bits::NEAR`] has to spare.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn groups_near(blocks: &Blocks, first: [i64; 3], stride: &Stride) -> u32 {
    let x = middle_blocks(first[0], &stride.middles[0], &blocks.last[0]);
    let y = middle_blocks(first[1], &stride.middles[1], &blocks.last[1]);
    let z = middle_blocks(first[2], &stride.middles[2], &blocks.last[2]);
    // Constants from memory: the port that moves them from registers is the busiest one.
    let row = _mm256_sllv_epi32(y, _mm256_set1_epi32(blocks.shift[0]));
    let rows = _mm256_add_epi32(row, _mm256_sllv_epi32(z, _mm256_set1_epi32(blocks.shift[1])));
    _mm256_movemask_ps(bits_at(&blocks.words, x, rows)).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "places in a small brick, or next to it")]
fn middle_blocks(first: i64, middles: &[i32; LANES], last: &i32) -> __m256i {
    // SAFETY: `middles` is 32 readable bytes; the load needs no alignment.
    let way = unsafe { _mm256_loadu_si256(middles.as_ptr().cast()) };
    let place = _mm256_add_epi32(_mm256_set1_epi32((first >> 16) as i32), way);
    let place = _mm256_min_epi32(_mm256_max_epi32(place, _mm256_setzero_si256()), _mm256_set1_epi32(*last));
    _mm256_srli_epi32::<{ 16 + BLOCK.cast_signed() }>(place)
}

/// At most [`SCAN`] samples: which of those in the groups matter, and which of those are inner.
#[target_feature(enable = "avx2")]
#[inline]
fn stretch(cells: Cells<'_>, first: [i64; 3], step: [i64; 3], count: u32, groups: u32) -> (u64, u64) {
    let (lanes, last) = (widened(&[0, 1, 2, 3, 4, 5, 6, 7]), cells.last());
    let walks = [
        Walk::new(first[0], step[0], lanes, last[0]),
        Walk::new(first[1], step[1], lanes, last[1]),
        Walk::new(first[2], step[2], lanes, last[2]),
    ];
    // Where both ends are in the brick everything between them is.
    let end = position(first, step, count.saturating_sub(1));
    let inside = |p: i64, a: usize| (0..=i64::from(last[a])).contains(&(p >> 32));
    let (matter, rims) = if (0..3).all(|a| inside(first[a], a) && inside(end[a], a)) {
        scan_groups::<false>(cells, &walks, groups)
    } else {
        scan_groups::<true>(cells, &walks, groups)
    };
    let matter = matter & if count < SCAN { (1 << count) - 1 } else { u64::MAX };
    (matter, matter & !rims)
}

#[target_feature(enable = "avx2")]
#[inline]
fn scan_groups<const CLAMPED: bool>(cells: Cells<'_>, walks: &[Walk; 3], mut groups: u32) -> (u64, u64) {
    let (mut matter, mut rims) = (0u64, 0u64);
    while groups != 0 {
        let begin = groups.trailing_zeros() * GROUP;
        groups &= groups - 1;
        let (x, rim_x) = walks[0].voxels::<CLAMPED>(begin);
        let (y, rim_y) = walks[1].voxels::<CLAMPED>(begin);
        let (z, rim_z) = walks[2].voxels::<CLAMPED>(begin);
        let matters = match cells {
            Cells::Coarse(cells) => {
                let x = _mm256_srl_epi32(x, _mm_cvtsi32_si128(cells.shift[0].cast_signed()));
                let y = _mm256_srl_epi32(y, _mm_cvtsi32_si128(cells.shift[1].cast_signed()));
                let z = _mm256_srl_epi32(z, _mm_cvtsi32_si128(cells.shift[2].cast_signed()));
                let importance = numbers(cells.importance, _mm256_add_epi32(x, rows(y, z, cells.stride)));
                _mm256_cmp_ps::<_CMP_GT_OQ>(importance, _mm256_set1_ps(cells.threshold))
            }
            Cells::Fine(bits) => bits_at(&bits.voxels, x, rows(y, z, bits.stride)),
        };
        let rim = _mm256_or_si256(_mm256_or_si256(rim_x, rim_y), rim_z);
        matter |= u64::from(_mm256_movemask_ps(matters).cast_unsigned()) << begin;
        rims |= u64::from(_mm256_movemask_ps(_mm256_castsi256_ps(rim)).cast_unsigned()) << begin;
    }
    (matter, rims)
}

/// Bits along x in rows that begin at those words, as signs.
#[target_feature(enable = "avx2")]
#[inline]
fn bits_at(all: &[u32], x: __m256i, rows: __m256i) -> __m256 {
    let word = words_at(all, _mm256_add_epi32(_mm256_srli_epi32::<5>(x), rows));
    _mm256_castsi256_ps(_mm256_sllv_epi32(word, _mm256_andnot_si256(x, _mm256_set1_epi32(31))))
}

#[target_feature(enable = "avx2")]
#[inline]
fn rows(y: __m256i, z: __m256i, [down, back]: [i32; 2]) -> __m256i {
    let row = _mm256_mullo_epi32(y, _mm256_set1_epi32(down));
    _mm256_add_epi32(row, _mm256_mullo_epi32(z, _mm256_set1_epi32(back)))
}

/// As [`Stride::new`]. Loads as wide as the stores, which need not wait for them, are worth a function of its own.
#[target_feature(enable = "avx2")]
#[expect(clippy::cast_possible_truncation, reason = "not looked at where it does not fit")]
pub(super) fn stride(step: [i64; 3]) -> Stride {
    let mut stride = Stride::new(step);
    for (middles, step) in stride.middles.iter_mut().zip(step) {
        let step = _mm256_set1_epi32((step >> 17) as i32);
        let ways = _mm256_mullo_epi32(step, _mm256_setr_epi32(7, 23, 39, 55, 71, 87, 103, 119));
        // SAFETY: `middles` is 32 writable bytes; the store needs no alignment.
        unsafe { _mm256_storeu_si256(middles.as_mut_ptr().cast(), ways) };
    }
    stride
}
