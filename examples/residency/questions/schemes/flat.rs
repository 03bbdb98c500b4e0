//! Owns what this crate does: the whole volume is a range of addresses, the wanted tiles of it have memory, and nothing lies between a position and its voxel but a bit that says whether it is there.
//!
//! It reads tiles with the very call that its rivals read them with, and keeps the same budget. Points are read by the call that is for them, rays tile by tile as slices, which is how the rivals read theirs; and, beside
//! that, both in each of the ways that the crate offers.

use std::sync::Arc;

use vastgrid::source::TileSource;
use vastgrid::{Extent, HostBackend, Pool, Region, SourceError, SparseArray3D, Tile, TileCoord, View};

use super::path::Work;
use super::sampling::{Bricks, Point, advance, blend, cell, corners};
use super::scheme::{Scheme, points_of, rays_of, touch_of};
use super::volume::{EDGE, EDGE_LOG2, Shape, TILE_BYTES, Volume};
use crate::suite::Failure;

/// How voxels are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Points by the eight voxels around many of them; rays tile by tile.
    Best,
    /// All of it tile by tile.
    Slices,
    /// All of it by the eight voxels around one position after the other, the last tile remembered.
    Accessor,
    /// All of it voxel by voxel.
    Get,
}

/// The volume's file of tiles, as the crate reads it.
#[derive(Debug)]
struct Tiles(Arc<Volume>);

impl TileSource<u16> for Tiles {
    fn extent(&self) -> Extent {
        self.0.shape.extent()
    }

    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        let first = region.start.to_array();
        // Whole tiles alone are asked for, whose numbers are small.
        let tile = self.0.shape.index(first.map(|at| u32::try_from(at >> EDGE_LOG2).unwrap_or(u32::MAX)));
        self.0.tiles.read(tile, out).map_err(|error| SourceError::Other(error.into()))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Flat {
    name: String,
    shape: Shape,
    pool: Pool<HostBackend>,
    array: Arc<SparseArray3D<u16>>,
    how: How,
    coords: Vec<TileCoord>,
}

impl Flat {
    /// In pages of so many tiles: one, or as many as make a huge page.
    pub(crate) fn new(volume: &Arc<Volume>, budget_bytes: u64, page_tiles: u64) -> Result<Self, Failure> {
        let pool = Pool::new(HostBackend::new(), budget_bytes)?;
        let array = SparseArray3D::builder(&pool, Tiles(volume.clone()))
            .tile([u64::from(EDGE); 3])
            .page_bytes(page_tiles * TILE_BYTES as u64)
            .build()?;
        let name = match page_tiles {
            1 => "flat".to_owned(),
            tiles => format!("flat, pages of {tiles} tiles"),
        };
        let (shape, how, coords) = (volume.shape, How::Best, Vec::new());
        Ok(Self { name, shape, pool, array: Arc::new(array), how, coords })
    }

    /// The same array, read in another way.
    pub(crate) fn by(&self, how: How) -> Self {
        let name = match how {
            How::Best => self.name.clone(),
            How::Slices => format!("{}, by slices", self.name),
            How::Accessor => format!("{}, by accessor", self.name),
            How::Get => format!("{}, by get", self.name),
        };
        Self { name, how, ..self.clone() }
    }
}

/// Tiles of an open frame as blocks.
struct Slices<'v> {
    view: &'v View<'v, u16>,
    shape: Shape,
}

impl Bricks for Slices<'_> {
    const ROW: u32 = EDGE;

    #[inline(always)]
    fn shape(&self) -> Shape {
        self.shape
    }

    #[inline(always)]
    fn brick(&self, tile: u32) -> Option<&[u16]> {
        match self.view.tile(self.shape.coord(tile)) {
            Tile::Resident(voxels) => Some(voxels),
            Tile::Uniform(_) | Tile::Missing => None,
        }
    }
}

/// The value at a position, of voxels that are read one by one.
#[inline(always)]
fn sample(view: &View<'_, u16>, at: Point) -> Option<f64> {
    let mut near = [0; 8];
    for (voxel, corner) in near.iter_mut().zip(corners(cell(at))) {
        *voxel = view.get(corner.map(u64::from))?;
    }
    Some(blend(near, at))
}

/// The sum along rays, of samples that are taken one by one.
#[inline(always)]
fn along(work: &Work, mut sample: impl FnMut(Point) -> Option<f64>) -> Option<f64> {
    let mut sum = 0.0;
    for ray in &work.rays {
        let mut at = ray.first;
        for _ in 0..ray.samples {
            sum += sample(at)?;
            advance(&mut at, ray.step);
        }
    }
    Some(sum)
}

/// The sum at points by [`View::corners_each`].
fn each(view: &View<'_, u16>, points: &[Point]) -> Option<f64> {
    let (mut sum, mut whole, mut given) = (0.0, true, points.iter());
    let cells = points.iter().map(|&point| cell(point).map(u64::from));
    view.corners_each(cells, |near| match (near, given.next()) {
        (Some(near), Some(&point)) => sum += blend(near, point),
        _ => whole = false,
    });
    whole.then_some(sum)
}

impl Scheme for Flat {
    fn name(&self) -> &str {
        &self.name
    }

    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.coords.clear();
        self.coords.extend(tiles.iter().map(|&tile| self.shape.coord(tile)));
        Ok(self.array.request(&self.coords)?.complete()?.loaded)
    }

    fn rays(&self, work: &Work) -> Option<f64> {
        let view = self.array.frame();
        match self.how {
            How::Best | How::Slices => rays_of(&Slices { view: &view, shape: self.shape }, work),
            How::Accessor => {
                let mut accessor = view.accessor();
                along(work, |at| Some(blend(accessor.corners(cell(at).map(u64::from))?, at)))
            }
            How::Get => along(work, |at| sample(&view, at)),
        }
    }

    fn points(&self, work: &Work) -> Option<f64> {
        let view = self.array.frame();
        // Added up one after the other under every scheme: the sums agree bit for bit.
        let mut points = work.points.iter().copied();
        match self.how {
            How::Best => each(&view, &work.points),
            How::Slices => points_of(&Slices { view: &view, shape: self.shape }, work),
            How::Accessor => {
                let mut accessor = view.accessor();
                points.try_fold(0.0, |sum, at| {
                    Some(sum + blend(accessor.corners(cell(at).map(u64::from))?, at))
                })
            }
            How::Get => points.try_fold(0.0, |sum, at| Some(sum + sample(&view, at)?)),
        }
    }

    fn touch(&self, tile: u32) -> Option<u64> {
        touch_of(&Slices { view: &self.array.frame(), shape: self.shape }, tile)
    }

    fn bytes(&self, _tiles: u64) -> u64 {
        // Pages as they are, and for every tile of the volume at most a stamp, a value, and its bits.
        self.pool.stats().used_bytes + u64::from(self.shape.tile_count()) * 17
    }
}
