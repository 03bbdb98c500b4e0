//! Owns what every way of holding a volume can do: [`Scheme`], and the slots in one allocation that two of them keep their blocks in.

use std::sync::Arc;

use rayon::prelude::*;

use super::lru::{Load, Lru};
use super::memory::Buffer;
use super::path::Work;
use super::sampling::{Bricks, along_rays, at_points, touch};
use super::volume::{Store, Volume};
use crate::suite::Failure;

/// A way of holding a volume that is larger than memory.
pub(crate) trait Scheme {
    fn name(&self) -> &str;

    /// Has these tiles in memory, and says how many of them had to be loaded. They stay until the next call.
    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure>;

    /// The sum of the samples along all rays; `None` where a tile was missing.
    fn rays(&self, work: &Work) -> Option<f64>;

    /// The sum of the samples at all points.
    fn points(&self, work: &Work) -> Option<f64>;

    /// The sum of one voxel of every OS page of a tile.
    fn touch(&self, tile: u32) -> Option<u64>;

    /// Bytes that it holds with so many tiles resident: blocks and tables, without what the system needs to map them.
    fn bytes(&self, tiles: u64) -> u64;
}

/// A scheme whose tiles are blocks: samples are taken alike of all of these.
pub(crate) trait Blocks: Bricks {
    /// [`Scheme::name`].
    fn title(&self) -> &str;

    /// [`Scheme::want`].
    fn hold(&mut self, tiles: &[u32]) -> Result<u64, Failure>;

    /// [`Scheme::bytes`].
    fn held_bytes(&self, tiles: u64) -> u64;
}

impl<B: Blocks> Scheme for B {
    fn name(&self) -> &str {
        self.title()
    }

    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.hold(tiles)
    }

    fn rays(&self, work: &Work) -> Option<f64> {
        rays_of(self, work)
    }

    fn points(&self, work: &Work) -> Option<f64> {
        points_of(self, work)
    }

    fn touch(&self, tile: u32) -> Option<u64> {
        touch_of(self, tile)
    }

    fn bytes(&self, tiles: u64) -> u64 {
        self.held_bytes(tiles)
    }
}

/// Makes a scheme with a budget of bytes.
pub(crate) type Maker = for<'v> fn(&'v Arc<Volume>, u64) -> Result<Box<dyn Scheme + 'v>, Failure>;

/// Does something for every load: here where it is one alone, otherwise by as many threads as there are processors.
pub(crate) fn for_each_load<L: Send>(
    mut loads: Vec<L>,
    load: impl Fn(L) -> std::io::Result<()> + Send + Sync,
) -> Result<(), Failure> {
    // To wake another thread costs a good part of what a read from the page cache does.
    if loads.len() == 1
        && let Some(one) = loads.pop()
    {
        return Ok(load(one)?);
    }
    Ok(loads.into_par_iter().with_max_len(1).try_for_each(load)?)
}

/// Samples of a scheme, or why there are none.
pub(crate) fn sampled(scheme: &dyn Scheme, work: &Work) -> Result<f64, Failure> {
    let both = scheme.rays(work).and_then(|sum| Some(sum + scheme.points(work)?));
    both.ok_or_else(|| format!("{}: a tile that was asked for is not there", scheme.name()).into())
}

/// Blocks of one size in one allocation, with an LRU of who has them.
#[derive(Debug)]
pub(crate) struct Slots<'v> {
    lru: Lru,
    loads: Vec<Load>,
    pool: Buffer,
    store: &'v Store,
}

impl<'v> Slots<'v> {
    /// As many blocks as `budget_bytes` hold.
    pub(crate) fn new(store: &'v Store, tiles: u32, budget_bytes: u64, huge: bool) -> Result<Self, Failure> {
        let block_bytes = store.stride() as u64 * 2;
        let slots = u32::try_from(budget_bytes / block_bytes)?.min(tiles);
        let pool = Buffer::new(slots as usize * store.stride(), huge)?;
        Ok(Self { lru: Lru::new(tiles, slots), loads: Vec::new(), pool, store })
    }

    /// The block of a tile.
    #[inline(always)]
    pub(crate) fn block(&self, tile: u32) -> Option<&[u16]> {
        let stride = self.store.stride();
        let first = self.lru.slot_of(tile) as usize * stride;
        // A tile without a slot has a number that is far beyond the pool.
        self.pool.get(first..first + stride)
    }

    pub(crate) fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.lru.want(tiles, &mut self.loads)?;
        // In the order of the pool, which is cut into the blocks that are loaded: each is one thread's alone.
        self.loads.sort_unstable_by_key(|load| load.slot);
        let stride = self.store.stride();
        let (mut rest, mut passed) = (&mut *self.pool, 0);
        let mut blocks = Vec::with_capacity(self.loads.len());
        for load in &self.loads {
            let slot = load.slot as usize;
            let (_, from) = rest.split_at_mut((slot - passed) * stride);
            let (block, beyond) = from.split_at_mut(stride);
            blocks.push((load.tile, block));
            (rest, passed) = (beyond, slot + 1);
        }
        let store = self.store;
        for_each_load(blocks, |(tile, block)| store.read(tile, block))?;
        Ok(self.loads.len() as u64)
    }

    pub(crate) fn bytes(&self, tiles: u64) -> u64 {
        tiles * self.store.stride() as u64 * 2 + self.lru.bytes()
    }
}

/// [`Scheme::rays`] of a scheme of blocks.
pub(crate) fn rays_of<B: Bricks>(bricks: &B, work: &Work) -> Option<f64> {
    along_rays(bricks, &work.rays)
}

/// [`Scheme::points`] of one.
pub(crate) fn points_of<B: Bricks>(bricks: &B, work: &Work) -> Option<f64> {
    at_points(bricks, &work.points)
}

/// [`Scheme::touch`] of one.
pub(crate) fn touch_of<B: Bricks>(bricks: &B, tile: u32) -> Option<u64> {
    touch(bricks, tile)
}
