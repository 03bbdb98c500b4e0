//! Owns what becomes of tiles that are missing and of which nothing is known: rays pass them, several at once, and note them when a coarser level has shown what lies there: [`Missing`]. Before
//! anything is loaded these are nearly all, so what is asked of one is a few bits:
//!
//! ```text
//!   look_up       the tile, the 26 around it, the ranges of its cells and of those beside it: for tiles that are there, and for those of which ranges are known
//!   glance        the tile, and one range; kept for 4^3 tiles together
//! ```
//!
//! Knows nothing of coarser levels.

use std::ops::Range;

use super::super::held::Content;
use super::super::look_up::{Glance, glance, look_up};
use super::super::march::{Method, Scene};
use super::super::met::{Latest, Table};
use super::super::path::Path;
use super::super::volume::Volume;
use crate::voxel::Scalar;

/// What the rays of a band know of a level's missing tiles.
pub(super) struct Missing {
    glances: Latest<Glances, 8>,
    /// Tiles that were noted of late: once for all rays of a block of pixels that come to one.
    noted: Latest<(), 8>,
}

/// Of 4^3 tiles: which were glanced at, and what that showed.
#[derive(Debug, Default)]
struct Glances {
    unknown: u64,
    there: u64,
    unclear: u64,
}

/// A tile that a ray passed.
pub(super) struct Passed {
    /// The first sample in it.
    pub(super) sample: u32,
    pub(super) tile: [i64; 3],
}

impl Missing {
    pub(super) fn new() -> Self {
        Self { glances: Latest::new(), noted: Latest::new() }
    }

    /// Passes the tiles that are missing at the first sample left and right after it, of which nothing is known. Whether there was any.
    #[inline(always)]
    pub(super) fn pass<'a, T: Scalar, V: Volume<T>, M: Method>(
        &mut self,
        scene: &Scene<'a, T, V>,
        method: &M,
        table: &mut Table<'a, T>,
        path: &Path,
        left: &mut Range<u32>,
        passed: &mut Vec<Passed>,
    ) -> bool {
        let begin = left.start;
        while left.start < left.end {
            let p = path.at(left.start);
            let tile = scene.grid.brick_below(p);
            match self.glance(scene, tile) {
                Glance::Unknown => {}
                Glance::There if left.start == begin => break,
                Glance::There | Glance::Unclear => {
                    let Table { bricks, groups } = &mut *table;
                    let held = bricks.get(tile, || look_up(scene, method, tile, groups));
                    if !(matches!(held.content, Content::Missing) && held.most == f32::INFINITY) {
                        break;
                    }
                }
            }
            passed.push(Passed { sample: left.start, tile });
            let run = path.run(p, scene.grid.ends_of(tile, path.step));
            left.start = left.start.saturating_add(run).min(left.end);
        }
        left.start > begin
    }

    #[inline(always)]
    fn glance<T: Scalar, V: Volume<T>>(&mut self, scene: &Scene<'_, T, V>, tile: [i64; 3]) -> Glance {
        let [x, y, z] = tile.map(|t| t & 3);
        let bit = 1u64 << (x + 4 * y + 16 * z);
        let glances = self.glances.get(tile.map(|t| t >> 2), Glances::default);
        if glances.unknown & bit != 0 {
            return Glance::Unknown;
        }
        if (glances.there | glances.unclear) & bit == 0 {
            let found = glance(scene, tile);
            *match found {
                Glance::Unknown => &mut glances.unknown,
                Glance::There => &mut glances.there,
                Glance::Unclear => &mut glances.unclear,
            } |= bit;
            return found;
        }
        if glances.there & bit != 0 { Glance::There } else { Glance::Unclear }
    }

    /// Calls `note`, unless it did so for this tile of late.
    #[inline(always)]
    pub(super) fn note(&mut self, tile: [i64; 3], note: impl FnOnce()) {
        self.noted.get(tile, note);
    }
}
