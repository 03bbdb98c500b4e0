//! Owns what comes of a picture made by a kernel: [`CastRendered`], and how it is read out of the kernel's bytes. Knows nothing of how they came here.

use std::cmp::Reverse;

use super::super::error::RenderError;
use super::super::image::Image;
use super::parameters::{COUNTS_BYTES, MAX_LEVELS, WANT_BYTES, WANT_LEVEL};
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

/// Reads what a kernel wrote: pixels, then from `counts_at` on counts and wanted tiles.
pub(super) fn decoded(
    output: &[u8],
    width: u32,
    height: u32,
    counts_at: usize,
    layouts: &[Layout],
) -> Result<CastRendered, RenderError> {
    let mut image = Image::new(width, height, [0.0; 4])?;
    let wants_at = counts_at + COUNTS_BYTES.next_multiple_of(16);
    let (Some(pixels), Some(counts), Some(wants)) =
        (output.get(..counts_at), output.get(counts_at..wants_at), output.get(wants_at..))
    else {
        return Err(RenderError::ImageSize { width, height, max: super::super::image::MAX_SIDE });
    };
    for (pixel, bytes) in image.pixels_mut().iter_mut().zip(pixels.as_chunks::<16>().0) {
        *pixel = bytemuck::pod_read_unaligned(bytes);
    }
    let mut counts = words(counts);
    let mut next = || counts.next().unwrap_or(0);
    let (rays, rays_incomplete, samples, skipped, wanted_beyond) = (next(), next(), next(), next(), next());
    let mut shown = ShownLevels(std::array::from_fn(|_| std::array::from_fn(|_| next())));
    if layouts.len() == 1 {
        // Kernels of one level do not count by level.
        shown.0[0][0] = samples;
    }
    let mut wanted: Vec<_> =
        wants.as_chunks::<WANT_BYTES>().0.iter().filter_map(|want| wanted_tile(want, layouts)).collect();
    wanted.sort_unstable_by_key(|w| (Reverse(w.rays), w.nearest, w.level, w.tile));
    let report = CastReport { wanted, wanted_beyond, rays, rays_incomplete, samples, skipped, shown };
    Ok(CastRendered { image, report })
}

fn wanted_tile(want: &[u8; WANT_BYTES], layouts: &[Layout]) -> Option<WantedOfLevel> {
    let [key, counts] = [0, 8].map(|at| words(&want[at..]).next().unwrap_or(0));
    let level = usize::try_from(key >> WANT_LEVEL).ok()?.checked_sub(1)?;
    let tile = layouts.get(level)?.tile_coord(TileId(key & ((1 << WANT_LEVEL) - 1)))?;
    let [rays, nearer] = [counts & 0xffff_ffff, counts >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    Some(WantedOfLevel { level, tile, rays, nearest: !nearer })
}
