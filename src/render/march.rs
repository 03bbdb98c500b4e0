//! Owns how a ray goes from brick to brick: [`march`]. Each brick that it enters is looked up once; in it the samples fall into three runs:
//!
//! ```text
//!   | rim |          inner          | rim |      inner: the whole support is in the brick, eight samples at a time
//!   ^ k                                   ^ leave    rim: one at a time, each voxel from the brick that has it
//! ```
//!
//! Before samples are taken, cells that cannot matter are leapt over. Knows nothing of what the samples are for: that is the [`Method`]'s.

use super::grid::{BrickBox, Grid, tile_coord};
use super::held::{Content, Held, Table};
use super::occupancy::{SkipCache, Weigh};
use super::path::Path;
use super::tally::Tally;
use super::volume::{Brick, Volume};
use crate::view::kernels::{Batch, Kernels, LANES, Test};
use crate::voxel::Scalar;

/// What a ray makes of its samples.
pub(crate) trait Method: Sync {
    /// What it has made of them so far.
    type State: Copy + Send + Sync + std::fmt::Debug;

    /// Before the first sample.
    fn begin(&self) -> Self::State;
    /// What makes a cell important.
    fn weigh(&self) -> Weigh<'_>;
    /// Cells that are no more important than this change nothing.
    fn threshold(&self, state: &Self::State) -> f32;
    /// How many voxels further than a sample's own support it may read, and how many samples back.
    fn reach(&self) -> Reach;
    /// What makes a sample important.
    fn test(&self, state: &Self::State) -> Test<'_>;
    /// Takes those of the values that passed the test, one bit each; one at least did.
    fn take<T: Scalar, V: Volume<T>>(
        &self,
        state: &mut Self::State,
        values: &Batch,
        passed: u32,
        probe: &mut Probe<'_, '_, T, V>,
    ) -> Took;
    /// The ray's colour, premultiplied.
    fn colour(&self, state: &Self::State) -> [f32; 4];
}

/// What a sample may need beyond its own support.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Voxels to either side.
    pub(crate) voxels: i64,
    /// Samples before it.
    pub(crate) samples: u32,
}

/// How far a batch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// All of it.
    All,
    /// The ray has ended.
    Ended,
    /// The sample in this lane lacks a tile; those before it are taken.
    Lacks(usize),
}

/// Why a ray stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It is complete.
    Ended,
    /// It waits for tiles.
    Waits,
}

/// What all rays of a picture share.
#[derive(Debug)]
pub(crate) struct Scene<'a, T, V> {
    pub(crate) volume: &'a V,
    pub(crate) grid: Grid,
    pub(crate) cache: &'a SkipCache,
    pub(crate) skip_empty: bool,
    /// Whether rays wait for what they lack, or go on without it.
    pub(crate) waits: bool,
    pub(crate) kernels: Kernels<T>,
}

/// What a method may ask about a batch.
pub(crate) struct Probe<'r, 'a, T, V> {
    scene: &'r Scene<'a, T, V>,
    held: &'r Held<'a, T>,
    pub(crate) path: &'r Path,
    tally: &'r mut Tally,
    /// The sample in lane 0.
    pub(crate) first: u32,
    /// The samples whose gradients lie inside the brick, once asked for.
    inner_gradients: Option<(u32, u32)>,
    gradients: Option<[Batch; 3]>,
}

/// Something is missing, and the ray waits for it.
#[derive(Debug)]
pub(crate) struct Lacking;

impl<T: Scalar, V: Volume<T>> Probe<'_, '_, T, V> {
    /// The gradient at a lane's sample, per voxel times two. Where it is missing and rays do not wait: zero. `others` says how many more
    /// lanes are going to be asked for.
    pub(crate) fn gradient(&mut self, lane: usize, others: u32) -> Result<[f32; 3], Lacking> {
        let k = self.first + u32::try_from(lane).unwrap_or(0);
        if let Content::Voxels(Some(voxels)) = &self.held.content {
            let (from, to) = *self.inner_gradients.get_or_insert_with(|| {
                inner_samples(self.path, self.held, self.held.inner_gradient, self.first)
            });
            let wide = self.gradients.is_some() || others >= WORTH_A_BATCH;
            if wide && (from..to).contains(&k) {
                let all = self.gradients.get_or_insert_with(|| {
                    let at = relative(self.path.at(self.first), self.held.origin);
                    (self.scene.kernels.gradient)(voxels, at, &self.path.strides)
                });
                return Ok([all[0][lane], all[1][lane], all[2][lane]]);
            }
        }
        self.gradient_at(self.path.at(k), k)
    }

    /// The gradient at any place near the batch.
    pub(crate) fn gradient_at(&mut self, p: [i64; 3], k: u32) -> Result<[f32; 3], Lacking> {
        let found = self.held.gradient(self.scene.volume, &self.scene.grid, p);
        found.map_or_else(|| self.lack(p, 1, k).map(|()| [0.0; 3]), Ok)
    }

    /// The sample at any place near the batch. Where it is missing and rays do not wait: `None`.
    pub(crate) fn value_at(&mut self, p: [i64; 3], k: u32) -> Result<Option<f32>, Lacking> {
        let found = self.held.sample(self.scene.volume, &self.scene.grid, p);
        found.map_or_else(|| self.lack(p, 0, k).map(|()| None), |v| Ok(Some(v)))
    }

    fn lack(&mut self, p: [i64; 3], reach: i64, k: u32) -> Result<(), Lacking> {
        if self.scene.waits {
            return Err(Lacking);
        }
        want_support(self.scene, p, reach, k, self.tally);
        Ok(())
    }
}

/// Gradients that cost as much one by one as eight at a time.
const WORTH_A_BATCH: u32 = 2;

/// Follows a ray from sample `*k` on.
///
/// When it waits, `*k` is the sample that lacks something, and its box of tiles is in the tally.
pub(crate) fn march<'a, T: Scalar, V: Volume<T>, M: Method>(
    scene: &Scene<'a, T, V>,
    method: &M,
    table: &mut Table<'a, T>,
    path: &Path,
    k: &mut u32,
    state: &mut M::State,
    tally: &mut Tally,
) -> Halt {
    let grid = &scene.grid;
    while *k < path.samples {
        let p = path.at(*k);
        let voxel = grid.voxel_below(p);
        let tile = std::array::from_fn(|a| grid.brick_of(a, voxel[a]));
        let held = table
            .get(scene.volume, grid, tile, || scene.cache.cells(scene.volume, grid, method.weigh(), tile));
        let high = std::array::from_fn(|a| (held.origin[a] + grid.brick[a]) << 32);
        let leave = k.saturating_add(path.run(p, held.origin.map(|o| o << 32), high)).min(path.samples);
        if scene.skip_empty && held.cells.most <= method.threshold(state) {
            tally.skipped += u64::from(leave - *k);
            *k = leave;
            continue;
        }
        let mut visit = Visit { scene, method, held, path, tally };
        if let Some(halt) = visit.brick(k, leave, state) {
            if halt == Halt::Waits {
                tally.wait(needed(scene, method.reach(), path, *k));
            }
            return halt;
        }
    }
    Halt::Ended
}

/// A ray in a brick.
struct Visit<'r, 'a, T, V, M> {
    scene: &'r Scene<'a, T, V>,
    method: &'r M,
    held: &'r Held<'a, T>,
    path: &'r Path,
    tally: &'r mut Tally,
}

impl<T: Scalar, V: Volume<T>, M: Method> Visit<'_, '_, T, V, M> {
    /// Takes the samples from `*k` to `leave`, all of which have their lower voxel in the brick.
    #[inline(always)]
    fn brick(&mut self, k: &mut u32, leave: u32, state: &mut M::State) -> Option<Halt> {
        let mut inner = None;
        while *k < leave {
            let (begin, count) = (*k, (leave - *k).min(64));
            let mut matter = self.scan(begin, count, state);
            while matter != 0 {
                *k = begin + matter.trailing_zeros();
                let (from, to) = match self.held.content {
                    Content::Missing => return self.missing(k, leave),
                    Content::Voxels(None) => (leave, leave),
                    Content::Voxels(Some(_)) | Content::Uniform(_) => *inner.get_or_insert_with(|| {
                        let (from, to) = inner_samples(self.path, self.held, self.held.inner, *k);
                        (from.min(leave), to.min(leave))
                    }),
                };
                let halt = if *k < from {
                    self.rim(k, from, state)
                } else if *k < to {
                    self.inner(k, to, state)
                } else {
                    self.rim(k, leave, state)
                };
                if halt.is_some() {
                    return halt;
                }
                let done = *k - begin;
                matter = if done < 64 { matter >> done << done } else { 0 };
            }
            let end = begin + count;
            self.tally.skipped += u64::from(end.saturating_sub(*k));
            *k = end.max(*k);
        }
        None
    }

    /// Which of the samples from `k` on lie in cells that matter, one bit each.
    #[inline(always)]
    fn scan(&self, k: u32, count: u32, state: &M::State) -> u64 {
        let (grid, held) = (&self.scene.grid, self.held);
        let cells = if self.scene.skip_empty { held.cell_grid(grid) } else { None };
        cells.map_or(u64::MAX >> (64 - count), |cells| {
            let at = relative(self.path.at(k), held.origin);
            (self.scene.kernels.scan)(&cells, at, &self.path.strides, self.method.threshold(state), count)
        })
    }

    /// Up to eight samples whose whole support is in the brick.
    #[inline(always)]
    fn inner(&mut self, k: &mut u32, end: u32, state: &mut M::State) -> Option<Halt> {
        let test = self.method.test(state);
        let mut values = [0.0; LANES];
        let passed = match &self.held.content {
            Content::Voxels(Some(voxels)) => {
                let at = relative(self.path.at(*k), self.held.origin);
                (self.scene.kernels.trilinear)(voxels, at, &self.path.strides, test, &mut values)
            }
            Content::Uniform(value) => {
                values = [*value; LANES];
                test.mask(&values)
            }
            Content::Voxels(None) | Content::Missing => return self.rim(k, end, state),
        };
        self.take(&values, passed, (end - *k).min(8), k, state)
    }

    /// Up to eight samples whose support may reach into other bricks.
    #[inline(always)]
    fn rim(&mut self, k: &mut u32, end: u32, state: &mut M::State) -> Option<Halt> {
        let (mut values, mut count) = ([0.0; LANES], 0u32);
        while *k + count < end && count < 8 {
            let at = self.path.at(*k + count);
            let Some(value) = self.held.sample(self.scene.volume, &self.scene.grid, at) else { break };
            values[count as usize] = value;
            count += 1;
        }
        if count > 0 {
            let passed = self.method.test(state).mask(&values);
            return self.take(&values, passed, count, k, state);
        }
        if self.scene.waits {
            return Some(Halt::Waits);
        }
        want_support(self.scene, self.path.at(*k), 0, *k, self.tally);
        *k += 1;
        None
    }

    #[inline(always)]
    fn take(
        &mut self,
        values: &Batch,
        passed: u32,
        count: u32,
        k: &mut u32,
        state: &mut M::State,
    ) -> Option<Halt> {
        self.tally.samples += u64::from(count);
        let passed = passed & ((1u32 << count) - 1);
        if passed == 0 {
            *k += count;
            return None;
        }
        let mut probe = Probe {
            scene: self.scene,
            held: self.held,
            path: self.path,
            tally: self.tally,
            first: *k,
            inner_gradients: None,
            gradients: None,
        };
        match self.method.take(state, values, passed, &mut probe) {
            Took::All => {
                *k += count;
                None
            }
            Took::Ended => Some(Halt::Ended),
            Took::Lacks(lane) => {
                *k += u32::try_from(lane).unwrap_or(0);
                Some(Halt::Waits)
            }
        }
    }

    /// A brick that is not there, and a sample in it that could matter.
    fn missing(&mut self, k: &mut u32, leave: u32) -> Option<Halt> {
        if self.scene.waits {
            return Some(Halt::Waits);
        }
        self.tally.want(tile_coord(self.held.tile), *k);
        *k = leave;
        None
    }
}

/// The samples from `k` on that lie in a box of the brick: from, to.
#[inline(always)]
fn inner_samples<T>(path: &Path, held: &Held<'_, T>, [low, high]: [[i64; 3]; 2], k: u32) -> (u32, u32) {
    let edge = |v: [i64; 3]| -> [i64; 3] { std::array::from_fn(|a| (held.origin[a] + v[a]) << 32) };
    let (low, high) = (edge(low), edge(high));
    let from = k.saturating_add(path.until(path.at(k), low, high));
    if from >= path.samples {
        return (from, from);
    }
    let p = path.at(from);
    let inside = (0..3).all(|a| low[a] <= p[a] && p[a] < high[a]);
    (from, if inside { from.saturating_add(path.run(p, low, high)) } else { from })
}

/// A position relative to a brick.
#[inline(always)]
fn relative(p: [i64; 3], origin: [i64; 3]) -> [i64; 3] {
    std::array::from_fn(|a| p[a] - (origin[a] << 32))
}

/// Notes the tiles that the support of a sample lacks.
fn want_support<T: Scalar, V: Volume<T>>(
    scene: &Scene<'_, T, V>,
    p: [i64; 3],
    reach: i64,
    k: u32,
    tally: &mut Tally,
) {
    let below = scene.grid.voxel_below(p);
    let tiles = scene.grid.bricks_between(below.map(|v| v - reach), below.map(|v| v + 1 + reach));
    for tile in tiles.tiles() {
        if matches!(scene.volume.brick(tile), Brick::Missing) {
            tally.want(tile, k);
        }
    }
}

/// All tiles that sample `k` may need at once.
fn needed<T, V>(scene: &Scene<'_, T, V>, reach: Reach, path: &Path, k: u32) -> BrickBox {
    let (a, b) = (
        scene.grid.voxel_below(path.at(k.saturating_sub(reach.samples))),
        scene.grid.voxel_below(path.at(k)),
    );
    let low = std::array::from_fn(|i| a[i].min(b[i]) - reach.voxels);
    let high = std::array::from_fn(|i| a[i].max(b[i]) + 1 + reach.voxels);
    scene.grid.bricks_between(low, high)
}
