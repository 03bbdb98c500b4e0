//! Owns what a picture of several levels says of itself, and the counts that this is made of. Knows nothing of rays.

use super::super::image::Image;
use super::super::tally::Tally;
use crate::layout::TileCoord;

/// A picture of several levels, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedLevels {
    /// The picture.
    pub image: Image,
    /// What it shows, what it lacks and what it took.
    pub report: LevelsReport,
}

/// What a picture of several levels shows, lacks and took. Levels are counted as they were given.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LevelsReport {
    /// Tiles that rays lacked: of the level that was wanted, and of those that would have stood in. Coarse levels first, then those that most rays lacked.
    pub lacked: Vec<LackedTile>,
    /// How often rays lacked tiles that are not among `lacked`: because all of them came while the picture was made, or there was no room to tell of them. The next one has more to show, or to tell.
    pub came: u64,
    /// Tiles with memory that rays met, level by level, and that may have mattered to them: the others need not stay.
    pub met: Vec<Vec<MetTile>>,
    /// Steps of level 0 by the level that was wanted there (first) and the level that was shown (second).
    pub shown: Vec<Vec<u64>>,
    /// Steps where no level had anything to show.
    pub uncovered: u64,
    /// Rays that met the volume.
    pub rays: u64,
    /// Those of them that lacked a tile of the level that they wanted.
    pub rays_incomplete: u64,
    /// Those of them of which a part was shown from no level.
    pub rays_uncovered: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that were leapt over because they could not matter.
    pub skipped: u64,
}

impl LevelsReport {
    /// Whether all that was wanted was shown.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rays_incomplete == 0
    }
}

/// A tile of a level that rays met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetTile {
    /// Which.
    pub tile: TileCoord,
    /// Whether any of them wanted this level; or else it only stood in for a finer one.
    pub wanted: bool,
    /// How far its middle is from the eye, in the world.
    pub distance: f64,
}

/// A tile of a level that rays lacked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LackedTile {
    /// Of which level.
    pub level: usize,
    /// Which.
    pub tile: TileCoord,
    /// How much of the picture lacked it, roughly: counted for each block of pixels whose rays came to it, and for each sample that lacked only a part of it.
    pub rays: u32,
    /// Whether any of them wanted this level; or else it would only have stood in for a finer one.
    pub wanted: bool,
    /// How far its middle is from the eye, in the world.
    pub distance: f64,
}

/// Counts of one band, to be added up.
pub(super) struct Counts {
    /// As scenes are: two for each level.
    pub(super) tallies: Vec<Tally>,
    pub(super) shown: Vec<Vec<u64>>,
    pub(super) uncovered: u64,
    pub(super) rays: u64,
    pub(super) rays_incomplete: u64,
    pub(super) rays_uncovered: u64,
}

impl Counts {
    pub(super) fn new(levels: usize) -> Self {
        Self {
            tallies: (0..2 * levels).map(|_| Tally::default()).collect(),
            shown: vec![vec![0; levels]; levels],
            uncovered: 0,
            rays: 0,
            rays_incomplete: 0,
            rays_uncovered: 0,
        }
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.tallies = self.tallies.into_iter().zip(other.tallies).map(|(a, b)| a.and(b)).collect();
        for (mine, other) in self.shown.iter_mut().flatten().zip(other.shown.into_iter().flatten()) {
            *mine += other;
        }
        self.uncovered += other.uncovered;
        self.rays += other.rays;
        self.rays_incomplete += other.rays_incomplete;
        self.rays_uncovered += other.rays_uncovered;
        self
    }
}
