//! Owns the step from arrays to pictures: a [`View`] as a [`Volume`], and [`render_exact`], which loads what the rays ask for until the picture is whole.

use std::collections::HashSet;

use super::{
    Brick, Camera, ExactRender, Image, Options, Progress, RenderError, TileGroup, TransferFunction, Volume,
};
use crate::array::SparseArray3D;
use crate::backend::{Backend, HostAddressable};
use crate::error::Error;
use crate::geometry::Extent;
use crate::layout::{Layout, TileCoord};
use crate::view::{Tile, View};
use crate::voxel::Scalar;

impl<T: Scalar> Volume<T> for View<'_, T> {
    fn extent(&self) -> Extent {
        Self::extent(self)
    }

    fn brick_shape(&self) -> Extent {
        self.layout().tile_shape()
    }

    fn brick(&self, tile: TileCoord) -> Brick<'_, T> {
        match self.tile(tile) {
            Tile::Resident(voxels) => Brick::Resident(voxels),
            Tile::Uniform(value) => Brick::Uniform(value),
            Tile::Missing => Brick::Missing,
        }
    }

    fn cell_shape(&self) -> Extent {
        Self::cell_shape(self)
    }

    fn cell_range(&self, tile: TileCoord, cell: usize) -> Option<(f32, f32)> {
        Self::cell_range(self, tile, cell)
    }

    fn version(&self) -> u64 {
        self.identity()
    }
}

/// The picture that unlimited memory would give, bit for bit, under any budget that holds the pages of one sample's support.
///
/// Rays go as far as what is resident lets them; then what they lack next is loaded, as much at a time as the budget holds beside what is pinned, and they go on.
/// `progress` is called after each turn.
///
/// **Cost**: a tile is loaded once per turn that needs it and finds it evicted; with a budget for the tiles along one row of the picture that is close to once.
/// [`track_ranges`](crate::ArrayBuilder::track_ranges) lets later turns and pictures skip empty space.
///
/// # Errors
/// [`RenderError::Array`]: a tile that fails to load, a budget below one sample's support ([`crate::ResidencyError::OverBudget`]), or too much of it pinned.
/// The other variants: a camera, transfer function or option that cannot be.
pub fn render_exact<T: Scalar, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Image, RenderError> {
    let mut picture = ExactRender::new(array.extent(), camera, transfer, options)?;
    until_done(array, progress, || picture.advance::<T, View<'_, T>>(&array.frame()))?;
    picture.image()
}

/// Has rays go on by `turn` and loads what they wait for, until none does.
pub(super) fn until_done<T: Scalar, B: Backend>(
    array: &SparseArray3D<T, B>,
    progress: &mut dyn FnMut(&Progress),
    mut turn: impl FnMut() -> Result<Progress, RenderError>,
) -> Result<(), RenderError> {
    let (mut pins, mut before) = (None, None);
    loop {
        let turn = turn()?;
        drop(pins.take());
        progress(&turn);
        if turn.done {
            return Ok(());
        }
        let first = turn.wanted.first().cloned();
        if turn.samples == 0 && first.is_some() && first == before {
            return Err(RenderError::Stuck { rays: turn.rays_left });
        }
        before = first;
        let tiles = fitting(&turn.wanted, array.layout(), array.unpinned_budget());
        let held = array.pin(&tiles).map_err(Box::new)?;
        if let Some(failed) = held.report().failed.first() {
            return Err(Box::new(Error::Tile { tile: failed.tile, error: failed.error.clone() }).into());
        }
        pins = Some(held);
    }
}

/// The tiles of as many groups as fit into `bytes` of pages; at least those of the first.
fn fitting(groups: &[TileGroup], layout: &Layout, bytes: u64) -> Vec<TileCoord> {
    let room = bytes / layout.page_bytes();
    let (mut tiles, mut pages) = (HashSet::new(), HashSet::new());
    for group in groups {
        let more: HashSet<_> =
            group.tiles.iter().filter_map(|&t| layout.tile_id(t)).map(|id| layout.page_of(id)).collect();
        let new = more.difference(&pages).count() as u64;
        if pages.len() as u64 + new > room && !tiles.is_empty() {
            continue;
        }
        pages.extend(more);
        tiles.extend(group.tiles.iter().copied());
    }
    tiles.into_iter().collect()
}
