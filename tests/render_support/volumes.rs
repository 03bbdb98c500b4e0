//! Test volumes: a field of blobs, and bricks that come and go.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "small volumes"
)]

use vastgrid::render::{Brick, Volume};
use vastgrid::{Extent, Scalar, TileCoord};

/// A small generator of numbers.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// Smooth blobs in empty space, values from 0 to 255.
pub(crate) fn blobs<T: Scalar>(extent: Extent) -> Vec<T> {
    let centres =
        [[0.3, 0.4, 0.35, 0.2], [0.7, 0.6, 0.6, 0.25], [0.5, 0.15, 0.8, 0.12], [1.0, 1.0, 0.1, 0.2]];
    let [nx, ny, nz] = extent.to_array().map(|n| n as usize);
    let mut voxels = Vec::with_capacity(nx * ny * nz);
    for i in 0..nx * ny * nz {
        let p = [i % nx, i / nx % ny, i / nx / ny].map(|v| v as f64);
        let near = |c: &[f64; 4]| {
            let r = [nx, ny, nz].map(|n| n as f64);
            let d = (0..3).map(|a| (p[a] / r[a] - c[a]).powi(2)).sum::<f64>().sqrt();
            (1.0 - d / c[3]).max(0.0)
        };
        let value: f64 = centres.iter().map(near).sum::<f64>() * 400.0;
        voxels.push(T::from_f64(value.min(255.0)));
    }
    voxels
}

/// A volume in cubic bricks, each of which may be missing or uniform.
#[derive(Clone)]
pub(crate) struct Bricked<T> {
    extent: Extent,
    edge: u64,
    cell: u64,
    tiles: Extent,
    /// Bricks one after the other, and which comes where.
    all: Vec<T>,
    places: Vec<usize>,
    ranges: Vec<Vec<(f32, f32)>>,
    there: Vec<bool>,
    known: Vec<bool>,
    uniform: Vec<Option<T>>,
}

impl<T: Scalar> Bricked<T> {
    /// Bricks in no order.
    pub(crate) fn new(voxels: &[T], extent: Extent, edge: u64, cell: u64) -> Self {
        let bricked = Self::in_line(voxels, extent, edge, cell);
        let (mut places, mut random) = (bricked.places.clone(), Random(7));
        for i in (1..places.len()).rev() {
            places.swap(i, random.below(i + 1));
        }
        bricked.placed(places)
    }

    /// Bricks in pages of so many along each axis, as arrays have them.
    pub(crate) fn in_pages(voxels: &[T], extent: Extent, edge: u64, cell: u64, page: [u64; 3]) -> Self {
        let bricked = Self::in_line(voxels, extent, edge, cell);
        let tiles = bricked.tiles.to_array();
        let flat = |at: [u64; 3], of: [u64; 3]| at[0] + of[0] * (at[1] + of[1] * at[2]);
        let place = |i: u64| {
            let tile = [i % tiles[0], i / tiles[0] % tiles[1], i / tiles[0] / tiles[1]];
            let pages = [0, 1, 2].map(|a| tiles[a].div_ceil(page[a]));
            let first = flat([0, 1, 2].map(|a| tile[a] / page[a]), pages) * page.iter().product::<u64>();
            (first + flat([0, 1, 2].map(|a| tile[a] % page[a]), page)) as usize
        };
        let places = (0..bricked.tile_count() as u64).map(place).collect();
        bricked.placed(places)
    }

    /// The bricks moved to other places in memory.
    fn placed(mut self, places: Vec<usize>) -> Self {
        let volume = self.edge.pow(3) as usize;
        let room = places.iter().max().map_or(0, |last| last + 1);
        let mut all = vec![T::from_f64(77.0); room * volume];
        for (i, &place) in places.iter().enumerate() {
            all[place * volume..][..volume].copy_from_slice(self.voxels(i));
        }
        (self.all, self.places) = (all, places);
        self
    }

    /// Bricks that follow each other in memory as they do in the volume, so that all of it is flat memory.
    pub(crate) fn in_line(voxels: &[T], extent: Extent, edge: u64, cell: u64) -> Self {
        let tiles = Extent::from(extent.to_array().map(|n| n.div_ceil(edge)));
        let count = (tiles.x * tiles.y * tiles.z) as usize;
        let per_edge = edge / cell;
        let empty = (f32::INFINITY, f32::NEG_INFINITY);
        let volume = edge.pow(3) as usize;
        let mut all = vec![T::from_f64(77.0); volume * count];
        let mut ranges = vec![vec![empty; per_edge.pow(3) as usize]; count];
        for (i, &v) in (0u64..).zip(voxels) {
            let (x, y, z) = (i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y);
            let tile = (x / edge + tiles.x * (y / edge + tiles.y * (z / edge))) as usize;
            let [x, y, z] = [x % edge, y % edge, z % edge];
            all[volume * tile + (x + edge * (y + edge * z)) as usize] = v;
            let cell = (x / cell + per_edge * (y / cell + per_edge * (z / cell))) as usize;
            let range = &mut ranges[tile][cell];
            *range = (range.0.min(v.to_f32()), range.1.max(v.to_f32()));
        }
        let (there, known) = (vec![true; count], vec![true; count]);
        let (places, uniform) = ((0..count).collect(), vec![None; count]);
        Self { extent, edge, cell, tiles, all, places, ranges, there, known, uniform }
    }

    fn index(&self, t: TileCoord) -> usize {
        (t.x + self.tiles.x * (t.y + self.tiles.y * t.z)) as usize
    }

    pub(crate) fn tile_count(&self) -> usize {
        self.places.len()
    }

    fn voxels(&self, tile: usize) -> &[T] {
        let volume = self.edge.pow(3) as usize;
        &self.all[self.places[tile] * volume..][..volume]
    }

    pub(crate) fn evict_all(&mut self, ranges_known: bool) {
        self.there.fill(false);
        if !ranges_known {
            self.known.fill(false);
        }
    }

    pub(crate) fn load(&mut self, tile: TileCoord) {
        let i = self.index(tile);
        self.there[i] = true;
        self.known[i] = true;
    }

    pub(crate) fn evict(&mut self, tile: TileCoord) {
        let i = self.index(tile);
        self.there[i] = false;
    }

    pub(crate) fn make_uniform(&mut self, tile: TileCoord) {
        let i = self.index(tile);
        self.uniform[i] = Some(self.voxels(i)[0]);
        self.known[i] = false;
    }
}

impl<T: Scalar> Volume<T> for Bricked<T> {
    fn extent(&self) -> Extent {
        self.extent
    }
    fn brick_shape(&self) -> Extent {
        Extent::cube(self.edge)
    }
    fn brick(&self, tile: TileCoord) -> Brick<'_, T> {
        let i = self.index(tile);
        match self.uniform[i] {
            Some(value) => Brick::Uniform(value),
            None if self.there[i] => Brick::Resident(self.voxels(i)),
            None => Brick::Missing,
        }
    }
    fn cell_shape(&self) -> Extent {
        Extent::cube(self.cell)
    }
    fn cell_range(&self, tile: TileCoord, cell: usize) -> Option<(f32, f32)> {
        let i = self.index(tile);
        self.known[i].then(|| self.ranges[i][cell])
    }
}
