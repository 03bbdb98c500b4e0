//! Owns what is counted while rays are cast, and what they lacked. Knows nothing of how they are cast.

use std::collections::HashMap;

use super::grid::BrickBox;
use crate::layout::TileCoord;

/// Counts of one thread, to be added up.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rays: u64,
    pub(crate) rays_incomplete: u64,
    pub(crate) samples: u64,
    pub(crate) skipped: u64,
    /// Tiles that rays lacked and went on without.
    wanted: HashMap<TileCoord, Want>,
    /// Whether a sample was taken from the edge of its brick, for want of what lies beside it.
    pub(crate) clamped: bool,
    /// Boxes of tiles that rays wait for.
    waiting: HashMap<BrickBox, u32>,
    /// The present ray, and whether it lacked anything.
    ray: u64,
    lacking: bool,
}

#[derive(Clone, Copy, Debug)]
struct Want {
    rays: u32,
    nearest: u32,
    last_ray: u64,
}

/// A tile that rays lacked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WantedTile {
    /// Which.
    pub tile: TileCoord,
    /// How many rays lacked it.
    pub rays: u32,
    /// How many samples lie before it on the ray that comes nearest.
    pub nearest: u32,
}

impl Tally {
    pub(crate) fn begin_ray(&mut self) {
        self.rays += 1;
        self.ray += 1;
        self.lacking = false;
    }

    /// Whether the present ray lacked anything.
    pub(crate) fn lacking(&self) -> bool {
        self.lacking
    }

    /// The present ray lacks a tile at sample `k`.
    pub(crate) fn want(&mut self, tile: TileCoord, k: u32) {
        if !self.lacking {
            self.lacking = true;
            self.rays_incomplete += 1;
        }
        let ray = self.ray;
        let want = self.wanted.entry(tile).or_insert(Want { rays: 0, nearest: k, last_ray: 0 });
        want.rays += u32::from(want.last_ray != ray);
        want.nearest = want.nearest.min(k);
        want.last_ray = ray;
    }

    /// The present ray waits for a box of tiles.
    pub(crate) fn wait(&mut self, tiles: BrickBox) {
        *self.waiting.entry(tiles).or_default() += 1;
    }

    /// A sample lacks some of a box of tiles, and is taken from the edge of one that is there.
    pub(crate) fn clamp(&mut self, tiles: BrickBox) {
        self.clamped = true;
        self.wait(tiles);
    }

    /// The counts of both.
    pub(crate) fn and(mut self, mut other: Self) -> Self {
        if self.wanted.len() + self.waiting.len() < other.wanted.len() + other.waiting.len() {
            std::mem::swap(&mut self, &mut other);
        }
        self.rays += other.rays;
        self.rays_incomplete += other.rays_incomplete;
        self.samples += other.samples;
        self.skipped += other.skipped;
        for (tile, want) in other.wanted {
            let mine = self.wanted.entry(tile).or_insert(Want { rays: 0, ..want });
            mine.rays = mine.rays.saturating_add(want.rays);
            mine.nearest = mine.nearest.min(want.nearest);
        }
        for (tiles, rays) in other.waiting {
            *self.waiting.entry(tiles).or_default() += rays;
        }
        self
    }

    /// Most rays first, then the nearest.
    pub(crate) fn wanted(&self) -> Vec<WantedTile> {
        let all = self.wanted.iter();
        let mut all: Vec<_> =
            all.map(|(&tile, w)| WantedTile { tile, rays: w.rays, nearest: w.nearest }).collect();
        all.sort_unstable_by_key(|w| (std::cmp::Reverse(w.rays), w.nearest, w.tile));
        all
    }

    /// Most rays first.
    pub(crate) fn waiting(&self) -> Vec<(BrickBox, u32)> {
        let mut all: Vec<_> = self.waiting.iter().map(|(&tiles, &rays)| (tiles, rays)).collect();
        all.sort_unstable_by_key(|&(tiles, rays)| (std::cmp::Reverse(rays), tiles));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ray_counts_once_and_the_most_wanted_come_first() {
        let tile = |x| TileCoord::new(x, 0, 0);
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.begin_ray();
        a.want(tile(1), 9);
        a.want(tile(1), 4);
        a.want(tile(2), 12);
        for k in [7, 8] {
            b.begin_ray();
            b.want(tile(2), k);
        }
        b.begin_ray();
        let sum = a.and(b);
        let found: Vec<_> = sum.wanted().iter().map(|w| (w.tile.x, w.rays, w.nearest)).collect();
        assert_eq!(found, [(2, 3, 7), (1, 1, 4)]);
        assert_eq!((sum.rays, sum.rays_incomplete), (4, 3));
    }
}
