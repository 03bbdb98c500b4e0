//! Owns what a picture's report asks for: [`Needs`], which tiles, what for, and how much memory they take. Knows nothing of how they are loaded.

use std::collections::HashSet;

use super::ghosts::Ghosts;
use crate::layout::Layout;
use crate::render::LevelsReport;
use crate::trace::{TraceTile, TraceUse};

/// How long a tile that was evicted is left alone while the view moves, in pictures.
pub(super) const REST: u64 = 32;

/// What a picture needs.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// What is to be wanted, how, and how far away it is.
    pub(super) requests: Vec<(TraceTile, TraceUse, f64)>,
    /// Bytes of pages of the levels that are wanted.
    pub(super) needed_bytes: u64,
    /// Bytes of pages that only stand in.
    pub(super) besides_bytes: u64,
    /// Tiles that it lacked.
    pub(super) missing: u64,
    /// Those of them that failed.
    pub(super) failed: u64,
    /// Those of them that were evicted a short while ago, and are left alone.
    pub(super) resting: u64,
}

/// What has to be known besides the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) failed: &'a HashSet<TraceTile>,
    pub(super) ghosts: &'a Ghosts,
    /// The number of the picture.
    pub(super) picture: u64,
    /// Whether what is looked at is not what was before.
    pub(super) moves: bool,
    /// The level that is always there.
    pub(super) coarsest: usize,
}

impl Needs {
    /// Adds what a picture lacked and met of a level, which is the `i`th of those that it was made of.
    pub(super) fn add(
        &mut self,
        i: usize,
        level: usize,
        layout: &Layout,
        report: &LevelsReport,
        known: Known<'_>,
    ) {
        let (mut needed, mut besides) = (HashSet::new(), HashSet::new());
        let page = |tile: TraceTile| layout.tile_id(tile.tile).map(|id| layout.page_of(id));
        let mut count = |tile: TraceTile, wanted: bool| {
            if wanted { &mut needed } else { &mut besides }.extend(page(tile));
        };
        let what_for = |wanted: bool| if wanted { TraceUse::Want } else { TraceUse::StandIn };
        for lacked in report.lacked.iter().filter(|lacked| lacked.level == i) {
            let tile = TraceTile { level, tile: lacked.tile };
            self.missing += 1;
            if known.failed.contains(&tile) {
                self.failed += 1;
                continue;
            }
            count(tile, lacked.wanted);
            // Where the view stays the same, what it lacks is read at once: what it needs is not evicted for something else.
            if known.moves && known.ghosts.since(tile).is_some_and(|since| known.picture < since + REST) {
                self.resting += 1;
                continue;
            }
            self.requests.push((tile, what_for(lacked.wanted), lacked.distance));
        }
        // What was shown stays, but for what is nearer. The coarsest level is pinned: what it lacks failed.
        for met in report.met.get(i).into_iter().flatten().filter(|_| level != known.coarsest) {
            let tile = TraceTile { level, tile: met.tile };
            count(tile, met.wanted);
            self.requests.push((tile, what_for(met.wanted), met.distance));
        }
        if level != known.coarsest {
            self.needed_bytes += needed.len() as u64 * layout.page_bytes();
            self.besides_bytes += besides.difference(&needed).count() as u64 * layout.page_bytes();
        }
    }
}
