//! Owns what comes of a picture made by a kernel: [`CastRendered`], and how it is read out of the kernel's bytes. Knows nothing of how they came here.

use std::cmp::Reverse;

use super::super::error::RenderError;
use super::super::image::Image;
use super::parameters::{
    COUNTS_BYTES, LACKED_BEYOND, LACKED_WANTED, MAX_LEVELS, MET_WANTED, WANT_BYTES, WANT_LEVEL, WANTS_LOG2,
};
use crate::layout::{Layout, TileCoord, TileId};

/// A picture, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct CastRendered {
    /// The picture.
    pub image: Image,
    /// What it lacks and what it took.
    pub report: CastReport,
}

/// What a picture lacks, and what it took.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CastReport {
    /// The tiles that rays lacked, the one that most rays lacked first, then the nearest.
    pub wanted: Vec<WantedOfLevel>,
    /// How often a ray lacked a tile that the list had no room for.
    pub wanted_beyond: u64,
    /// Rays that met the volume.
    pub rays: u64,
    /// Those of them that lacked a tile of the level that was wanted.
    pub rays_incomplete: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that were leapt over, because they could not matter or because nothing was there.
    pub skipped: u64,
    /// Samples that could matter, by level.
    pub shown: ShownLevels,
    /// Where that was asked for ([`CastPlan::telling_met`](super::CastPlan::telling_met)): the tiles with memory that rays met, and all that they lacked, of every level, in order.
    pub met: Vec<MetOfLevel>,
    /// How often a ray met or lacked a tile that this list had no room for.
    pub met_beyond: u64,
    /// Likewise: rays of which a part was shown from no level, at most.
    pub rays_uncovered: u64,
}

/// A tile that rays met or lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetOfLevel {
    /// Of which level; 0 is the finest.
    pub level: usize,
    /// Which.
    pub tile: TileCoord,
    /// Whether it was there.
    pub there: bool,
    /// Whether any ray wanted this level where it met or lacked it; or else it stood in for a finer one, or would have.
    pub wanted: bool,
    /// How much of the picture lacked it, roughly: counted for each warp of pixels, and for each sample beside it.
    pub lacked: u32,
}

/// A tile that rays lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedOfLevel {
    /// Of which level; 0 is the finest.
    pub level: usize,
    /// Which.
    pub tile: TileCoord,
    /// How many rays lacked it, or nearly: one that comes upon it again after another may count twice.
    pub rays: u32,
    /// How many samples lie before it on the ray that comes nearest.
    pub nearest: u32,
}

/// Samples by the level that was wanted for them, and the one that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownLevels([[u64; MAX_LEVELS + 1]; MAX_LEVELS]);

impl ShownLevels {
    /// Of one level, which is all that was wanted.
    pub(super) fn all_of_one(samples: u64) -> Self {
        let mut all = [[0; MAX_LEVELS + 1]; MAX_LEVELS];
        all[0][0] = samples;
        Self(all)
    }

    /// How many samples for which level `wanted` was wanted showed level `shown`, or nothing.
    #[must_use]
    pub fn samples(&self, wanted: usize, shown: Option<usize>) -> u64 {
        let row = self.0.get(wanted);
        let at = shown.map_or(Some(MAX_LEVELS), |level| Some(level).filter(|&level| level < MAX_LEVELS));
        row.zip(at).and_then(|(row, at)| row.get(at)).copied().unwrap_or(0)
    }

    /// The share of the samples that showed what was wanted; 1 where there was none.
    #[must_use]
    pub fn fidelity(&self) -> f64 {
        let all: u64 = self.0.iter().flatten().sum();
        let right: u64 = (0..MAX_LEVELS).map(|level| self.samples(level, Some(level))).sum();
        if all == 0 { 1.0 } else { right as f64 / all as f64 }
    }
}

/// The words of a kernel's output; the rest of it where it ends early.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes)
}

/// Reads what kernels wrote: pixels, then from `counts_at` on counts, wanted tiles, and so many bytes of tiles that were met.
pub(super) fn decoded(
    output: &[u8],
    width: u32,
    height: u32,
    counts_at: usize,
    met_bytes: usize,
    layouts: &[Layout],
) -> Result<CastRendered, RenderError> {
    let mut image = Image::new(width, height, [0.0; 4])?;
    let wants_at = counts_at + COUNTS_BYTES.next_multiple_of(16);
    let met_at = wants_at + (WANT_BYTES << WANTS_LOG2);
    let (Some(pixels), Some(counts), Some(wants), Some(met)) = (
        output.get(..counts_at),
        output.get(counts_at..wants_at),
        output.get(wants_at..met_at),
        output.get(met_at..met_at + met_bytes),
    ) else {
        return Err(RenderError::Output { bytes: output.len(), expected: met_at + met_bytes });
    };
    for (pixel, bytes) in image.pixels_mut().iter_mut().zip(pixels.as_chunks::<16>().0) {
        *pixel = bytemuck::pod_read_unaligned(bytes);
    }
    let mut counts = words(counts);
    let mut next = || counts.next().unwrap_or(0);
    let [rays, rays_incomplete, samples, skipped, wanted_beyond, rays_uncovered, met_beyond] =
        std::array::from_fn(|_| next());
    let shown = ShownLevels(std::array::from_fn(|_| std::array::from_fn(|_| next())));
    let entries = |bytes: &[u8]| bytes.as_chunks::<WANT_BYTES>().0.iter().map(entry).collect::<Vec<_>>();
    let mut wanted: Vec<_> =
        entries(wants).into_iter().filter_map(|want| wanted_tile(want, layouts)).collect();
    wanted.sort_unstable_by_key(|w| (Reverse(w.rays), w.nearest, w.level, w.tile));
    let mut met: Vec<_> = entries(met).into_iter().filter_map(|met| met_tile(met, layouts)).collect();
    met.sort_unstable_by_key(|met| (met.level, met.tile));
    let report = CastReport {
        wanted,
        wanted_beyond,
        rays,
        rays_incomplete,
        samples,
        skipped,
        shown,
        met,
        met_beyond,
        rays_uncovered,
    };
    Ok(CastRendered { image, report })
}

/// An entry of a table: its key and two counts.
fn entry(bytes: &[u8; WANT_BYTES]) -> (u64, [u32; 2]) {
    let [key, counts] = [0, 8].map(|at| words(&bytes[at..]).next().unwrap_or(0));
    (key, [counts & 0xffff_ffff, counts >> 32].map(|half| u32::try_from(half).unwrap_or(0)))
}

/// The tile that a key names.
fn keyed(key: u64, layouts: &[Layout]) -> Option<(usize, TileCoord)> {
    let level = usize::try_from(key >> WANT_LEVEL).ok()?.checked_sub(1)?;
    Some((level, layouts.get(level)?.tile_coord(TileId(key & ((1 << WANT_LEVEL) - 1)))?))
}

fn wanted_tile((key, [rays, nearer]): (u64, [u32; 2]), layouts: &[Layout]) -> Option<WantedOfLevel> {
    let (level, tile) = keyed(key, layouts)?;
    Some(WantedOfLevel { level, tile, rays, nearest: !nearer })
}

fn met_tile((key, [lacked, how]): (u64, [u32; 2]), layouts: &[Layout]) -> Option<MetOfLevel> {
    let (level, tile) = keyed(key, layouts)?;
    let there = how & (LACKED_WANTED | LACKED_BEYOND) == 0;
    let wanted = how & (MET_WANTED | LACKED_WANTED) != 0;
    Some(MetOfLevel { level, tile, there, wanted, lacked })
}
