//! Owns [`Pending`]: blocks of coarser levels that lack some of their parts. Knows nothing of what becomes of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::block::{Block, fill};
use crate::geometry::boxes::{copy_shared, voxels};
use crate::geometry::{Coord, Region};
use crate::source::index;
use crate::voxel::Voxel;

/// Blocks that are put together.
#[derive(Debug)]
pub(super) struct Pending<T> {
    blocks: Mutex<HashMap<(usize, Coord), SharedParts<T>>>,
}

/// Whoever adds to a block locks that one alone.
type SharedParts<T> = Arc<Mutex<Parts<T>>>;

/// What there is of a block.
#[derive(Debug)]
struct Parts<T> {
    /// Parts that are missing.
    missing: u64,
    so_far: Option<Block<T>>,
}

impl<T: Voxel> Pending<T> {
    pub(super) fn new() -> Self {
        Self { blocks: Mutex::default() }
    }

    /// Adds a part to the block at that place, of `parts` in all, whose voxels are `region`; gives the block if that was the last one.
    pub(super) fn add(
        &self,
        (level, block): (usize, Coord),
        parts: u64,
        region: Region,
        (part, voxels): (Region, Block<T>),
    ) -> Option<Block<T>> {
        let entry = || Arc::new(Mutex::new(Parts { missing: parts, so_far: None }));
        let found = locked(&self.blocks).entry((level, block)).or_insert_with(entry).clone();
        let mut found = locked(&found);
        found.so_far = Some(match found.so_far.take() {
            None => begun(part, voxels, region),
            Some(so_far) => added(so_far, part, voxels, region),
        });
        found.missing = found.missing.saturating_sub(1);
        if found.missing > 0 {
            return None;
        }
        locked(&self.blocks).remove(&(level, block));
        found.so_far.take()
    }
}

fn begun<T: Voxel>(part: Region, voxels: Block<T>, region: Region) -> Block<T> {
    match voxels {
        Block::Uniform(value) => Block::Uniform(value),
        Block::Voxels(all) if part == region => Block::Voxels(all),
        Block::Voxels(all) => {
            let mut out = room(region);
            copy_shared(part, &all, region, &mut out);
            Block::Voxels(out)
        }
    }
}

fn added<T: Voxel>(so_far: Block<T>, part: Region, voxels: Block<T>, region: Region) -> Block<T> {
    let mut out = match (so_far, &voxels) {
        (Block::Uniform(a), Block::Uniform(b)) if bytemuck::bytes_of(&a) == bytemuck::bytes_of(b) => {
            return Block::Uniform(a);
        }
        // What is still missing is overwritten when it comes.
        (Block::Uniform(value), _) => vec![value; index(self::voxels(region.extent))],
        (Block::Voxels(out), _) => out,
    };
    match voxels {
        Block::Uniform(value) => fill(part, value, region, &mut out),
        Block::Voxels(all) => copy_shared(part, &all, region, &mut out),
    }
    Block::Voxels(out)
}

fn room<T: Voxel>(region: Region) -> Vec<T> {
    vec![T::zeroed(); index(voxels(region.extent))]
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
