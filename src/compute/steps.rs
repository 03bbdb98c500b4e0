//! Owns cutting lists of tiles into steps that the budget holds. Knows nothing of what is computed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::array::{SparseArray3D, no_such_tile};
use crate::backend::Backend;
use crate::error::{Error, ResidencyError};
use crate::layout::{Layout, PageId, TileCoord, TileId};
use crate::voxel::Voxel;

use super::TileSet;

/// The most that one step holds.
const STEP_BYTES: u64 = 64 << 20;

/// The most tiles that one step has, however little memory they need.
const STEP_TILES: usize = 1 << 14;

/// Tiles that are put in order at a time: a set may have far more than a list of them should.
const ORDERED_TILES: usize = 1 << 18;

/// The pages that a step needs, of one array or several.
#[derive(Debug, Default)]
pub struct Pages {
    /// With the address of each one's array.
    seen: HashSet<(usize, PageId)>,
    bytes: u64,
    /// What is needed of each pool, and what it may have at most.
    pools: Vec<PoolNeed>,
}

#[derive(Debug)]
struct PoolNeed {
    pool: u64,
    needed_bytes: u64,
    budget_bytes: u64,
}

impl Pages {
    /// Counts what it needs to read a tile: nothing, where it is uniform.
    pub(super) fn add<T: Voxel, B: Backend>(&mut self, array: &SparseArray3D<T, B>, tile: TileCoord) {
        if !array.is_uniform(tile) {
            self.add_written(array, tile);
        }
    }

    /// Counts what it needs to write a tile: its page, uniform or not.
    pub(super) fn add_written<T: Voxel, B: Backend>(&mut self, array: &SparseArray3D<T, B>, tile: TileCoord) {
        let layout = array.layout();
        if let Some(id) = layout.tile_id(tile)
            && self.seen.insert((std::ptr::from_ref(array).addr(), layout.page_of(id)))
        {
            self.bytes += layout.page_bytes();
            let engine = array.engine();
            if let Some(need) = self.pools.iter_mut().find(|need| need.pool == engine.id) {
                need.needed_bytes += layout.page_bytes();
            } else {
                let (needed_bytes, budget_bytes) = (layout.page_bytes(), engine.budget());
                self.pools.push(PoolNeed { pool: engine.id, needed_bytes, budget_bytes });
            }
        }
    }

    /// What is needed at once, and more than a budget will ever hold.
    fn check(&self) -> Result<(), ResidencyError> {
        match self.pools.iter().find(|need| need.needed_bytes > need.budget_bytes) {
            Some(&PoolNeed { needed_bytes, budget_bytes, .. }) => {
                Err(ResidencyError::OverBudget { needed_bytes, budget_bytes })
            }
            None => Ok(()),
        }
    }
}

/// The most that a step may hold of an array's budget.
pub(super) fn room<T: Voxel, B: Backend>(array: &SparseArray3D<T, B>) -> u64 {
    room_within(array.unpinned_budget())
}

/// The most that a step may hold of that.
pub(super) fn room_within(unpinned_bytes: u64) -> u64 {
    (unpinned_bytes / 2).min(STEP_BYTES)
}

/// The place in memory of each tile.
///
/// # Errors
/// [`ResidencyError::OutOfBounds`].
pub(super) fn ids(layout: &Layout, tiles: &[TileCoord]) -> Result<Vec<TileId>, Error> {
    tiles.iter().map(|&t| layout.tile_id(t).ok_or_else(|| no_such_tile(layout, t))).collect()
}

/// Gives the tiles of a set to `work`, a list of some at a time, each list in memory order.
pub(super) fn in_memory_order(
    layout: &Layout,
    tiles: &TileSet,
    mut work: impl FnMut(&[TileCoord]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut all = tiles.iter();
    loop {
        let mut some: Vec<_> = all.by_ref().take(ORDERED_TILES).collect();
        if some.is_empty() {
            return Ok(());
        }
        ids(layout, &some)?;
        some.sort_unstable_by_key(|&t| layout.tile_id_unchecked(t));
        work(&some)?;
    }
}

/// How many tiles, from the first on, need no more than `room` bytes of pages; one at least.
pub(super) fn length(tiles: &[TileCoord], room: u64, needs: impl Fn(TileCoord, &mut Pages)) -> usize {
    let mut pages = Pages::default();
    let fits = |&&tile: &&TileCoord| {
        needs(tile, &mut pages);
        pages.bytes <= room
    };
    tiles.iter().take(STEP_TILES).take_while(fits).count().max(1)
}

/// Refuses what a whole budget will never hold, rather than wait for room: of a step of one tile whose inputs are held, so that it is known which of those have no memory.
///
/// # Errors
/// [`ResidencyError::OverBudget`].
pub(super) fn check(step: &[TileCoord], needs: impl Fn(TileCoord, &mut Pages)) -> Result<(), Error> {
    let &[tile] = step else { return Ok(()) };
    let mut pages = Pages::default();
    needs(tile, &mut pages);
    Ok(pages.check()?)
}

/// Holds what a step needs. One that finds no room, since others hold some, is halved: returns what is left of it.
pub(super) fn hold<H>(
    step: &[TileCoord],
    hold: impl Fn(&[TileCoord]) -> Result<H, Error>,
) -> Result<(&[TileCoord], H), Error> {
    let mut step = step;
    loop {
        match hold(step) {
            Err(Error::Residency(
                ResidencyError::NothingToEvict { .. } | ResidencyError::OverBudget { .. },
            )) if step.len() > 1 => {
                step = &step[..step.len() / 2];
            }
            held => return Ok((step, held?)),
        }
    }
}

/// Cuts a list into steps of at most `room` bytes of pages, holds what each needs, and has it worked on.
pub(super) fn in_steps<H>(
    tiles: &[TileCoord],
    room: impl Fn() -> u64,
    needs: impl Fn(TileCoord, &mut Pages),
    hold_all: impl Fn(&[TileCoord]) -> Result<H, Error>,
    mut work: impl FnMut(&[TileCoord]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = tiles;
    while !left.is_empty() {
        let length = length(left, room(), &needs);
        let (step, held) = hold(&left[..length], &hold_all)?;
        work(step)?;
        drop(held);
        left = &left[step.len()..];
    }
    Ok(())
}

/// The first error of several threads.
#[derive(Debug, Default)]
pub(super) struct First(Mutex<Option<Error>>);

impl First {
    pub(super) fn note(&self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// The error, if there was one.
    pub(super) fn done(self) -> Result<(), Error> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}
