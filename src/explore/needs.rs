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
    /// Tiles that were evicted a short while ago, and are left alone: of those that it lacked, and of those that went while it was made.
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
        // Where the view stays the same, what it lacks is read at once: what it needs is not evicted for something else.
        let rests =
            |tile| known.moves && known.ghosts.since(tile).is_some_and(|since| known.picture < since + REST);
        for lacked in report.lacked.iter().filter(|lacked| lacked.level == i) {
            let tile = TraceTile { level, tile: lacked.tile };
            self.missing += 1;
            if known.failed.contains(&tile) {
                self.failed += 1;
                continue;
            }
            count(tile, lacked.wanted);
            if rests(tile) {
                self.resting += 1;
                continue;
            }
            self.requests.push((tile, what_for(lacked.wanted), lacked.distance));
        }
        // What was shown stays, but for what is nearer. The coarsest level is pinned: what it lacks failed.
        for met in report.met.get(i).into_iter().flatten().filter(|_| level != known.coarsest) {
            let tile = TraceTile { level, tile: met.tile };
            count(tile, met.wanted);
            // It may have been evicted while the picture was made.
            if rests(tile) {
                self.resting += 1;
            } else {
                self.requests.push((tile, what_for(met.wanted), met.distance));
            }
        }
        if level != known.coarsest {
            self.needed_bytes += needed.len() as u64 * layout.page_bytes();
            self.besides_bytes += besides.difference(&needed).count() as u64 * layout.page_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::{LayoutSpec, TileCoord};
    use crate::render::{LackedTile, MetTile};

    #[test]
    fn what_was_evicted_of_late_is_not_wanted_while_the_view_moves_and_at_once_where_it_does_not() {
        let spec = LayoutSpec { tile: Some(Extent::cube(16)), ..LayoutSpec::default() };
        let layout = Layout::new(Extent::cube(64), 1, spec, 4096, 4096).unwrap();
        let at = |x| TileCoord::new(x, 0, 0);
        let tile = |x| TraceTile { level: 0, tile: at(x) };
        let lacked = |x| LackedTile { level: 0, tile: at(x), rays: 1, wanted: true, distance: 1.0 };
        // One that it lacks and one that it showed went before picture 10, another one long ago.
        let report = LevelsReport {
            lacked: vec![lacked(0), lacked(1), lacked(2)],
            met: vec![vec![MetTile { tile: at(3), wanted: true, distance: 1.0 }]],
            ..LevelsReport::default()
        };
        let (mut ghosts, failed) = (Ghosts::default(), HashSet::new());
        ghosts.evicted(tile(2), 1);
        ghosts.evicted(tile(1), 10);
        ghosts.evicted(tile(3), 10);
        let wanted = |picture, moves| {
            let mut needs = Needs::default();
            let known = Known { failed: &failed, ghosts: &ghosts, picture, moves, coarsest: 1 };
            needs.add(0, 0, &layout, &report, known);
            assert_eq!((needs.missing, needs.needed_bytes), (3, 4 * 4096));
            let tiles: Vec<_> = needs.requests.iter().map(|(tile, ..)| tile.tile.x).collect();
            (tiles, needs.resting)
        };
        assert_eq!(wanted(11, true), (vec![0], 3));
        assert_eq!(wanted(33, true), (vec![0, 2], 2));
        assert_eq!(wanted(9 + REST, true), (vec![0, 2], 2));
        assert_eq!(wanted(10 + REST, true), (vec![0, 1, 2, 3], 0));
        assert_eq!(wanted(11, false), (vec![0, 1, 2, 3], 0));
    }
}
