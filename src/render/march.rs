//! Owns how a ray goes from brick to brick, or from group to group of them: [`march`]. Each that it enters is looked up once; there 64 samples at a time are scanned for those
//! that can matter, and those that do are taken eight at a time:
//!
//! ```text
//!   samples   . . . x x . x x x . . . x x | x x     x: matters; before |: inner, the whole support is in the brick;
//!   batches         1 1   1 1 1       1 1 | 2 2     after it: rim, each voxel comes from the brick that has it
//! ```
//!
//! What does not matter changes nothing, so it does not matter either how samples are grouped. Knows nothing of what they are for: that is the
//! [`Method`]'s.

use std::ops::Range;

use super::grid::{BrickBox, Grid, tile_coord};
use super::held::{Content, Held};
use super::look_up::look_up;
use super::met::{Met, Table};
use super::occupancy::{SkipCache, Weigh};
use super::path::Path;
use super::tally::Tally;
use super::volume::{Brick, Volume};
use crate::view::kernels::{
    Across, Around, Batch, Cells, Coarse, Kernels, LANES, Lanes, SCAN, Samples, Scanned, Stride, Test,
};
use crate::voxel::Scalar;

/// What a ray makes of its samples.
pub(crate) trait Method: Sync {
    /// What it has made of them so far.
    type State: Copy + Send + Sync + std::fmt::Debug;

    /// Before the first sample.
    fn begin(&self) -> Self::State;
    /// What makes a cell important.
    fn weigh(&self) -> Weigh<'_>;
    /// The threshold, if it is the same for all rays however far they are.
    fn lasting_threshold(&self) -> Option<f32>;
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
    /// It has come as far as it was to go.
    Through,
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
    /// Whether a sample that lacks only what lies beside its brick is taken from the brick's own edge, rather than waited for. What it lacked is noted like what is waited for.
    pub(crate) clamps: bool,
    pub(crate) kernels: Kernels<T>,
    /// Where bricks with memory are noted that rays met and that may matter to them, if anywhere.
    pub(crate) met: Option<&'a Met>,
}

/// What a method may ask about a batch.
pub(crate) struct Probe<'r, 'a, T, V> {
    scene: &'r Scene<'a, T, V>,
    held: &'r Held<'a, T>,
    pub(crate) path: &'r Path,
    tally: &'r mut Tally,
    /// The sample that `lanes` count from.
    first: u32,
    lanes: &'r Lanes,
}

/// Something is missing, and the ray waits for it.
#[derive(Debug)]
pub(crate) struct Lacking;

impl<T: Scalar, V: Volume<T>> Probe<'_, '_, T, V> {
    /// Which sample of the ray is in a lane.
    #[inline(always)]
    pub(crate) fn sample(&self, lane: usize) -> u32 {
        self.first + self.lanes[lane & (LANES - 1)]
    }

    /// The gradients at some lanes' samples, per voxel times two: all at once, where nothing of them can be missing.
    #[inline(always)]
    pub(crate) fn gradients_at_once(&self, lanes: u32) -> Option<[Batch; 3]> {
        let kernels = &self.scene.kernels;
        let first = relative(self.path.at(self.first), self.held.low);
        let samples = Samples { first, step: self.path.step, lanes: self.lanes };
        // What is between two samples of the inside is inside.
        let inner = |lane: u32| self.held.has_gradient(self.path.at(self.sample(lane as usize)));
        match &self.held.content {
            Content::Voxels(Some(voxels)) if inner(lanes.trailing_zeros()) && inner(lanes.ilog2()) => {
                return Some(kernels.gradient(voxels, samples));
            }
            Content::Voxels(Some(_)) | Content::Group => {}
            _ => return None,
        }
        let (across, around) = kernels.across.as_ref().zip(self.held.flat.as_ref())?;
        Some(across.gradient(around, samples))
    }

    /// The same one by one, and for which of them they are there: those before the first that lacks a tile. Where rays do not wait all are, missing ones as zero.
    #[inline(never)]
    pub(crate) fn gradients(&mut self, lanes: u32) -> (u32, [Batch; 3]) {
        let mut found = [[0.0; LANES]; 3];
        let mut alone = lanes;
        while alone != 0 {
            let lane = alone.trailing_zeros() as usize & (LANES - 1);
            let k = self.sample(lane);
            match self.gradient_at(self.path.at(k), k) {
                Ok([x, y, z]) => (found[0][lane], found[1][lane], found[2][lane]) = (x, y, z),
                Err(Lacking) => return (lanes & ((1 << lane) - 1), found),
            }
            alone &= alone - 1;
        }
        (lanes, found)
    }

    /// The gradient at any place near the batch.
    #[inline(always)]
    pub(crate) fn gradient_at(&mut self, p: [i64; 3], k: u32) -> Result<[f32; 3], Lacking> {
        let (held, scene) = (self.held, self.scene);
        let found = held.gradient(scene.volume, &scene.grid, p);
        if found.is_none() && scene.clamps {
            // A place before the sample may reach into tiles that the sample itself does not.
            let between = u32::from(p != self.path.at(k));
            self.tally.clamp(needed(&scene.grid, Reach { voxels: 1, samples: between }, self.path, k));
            return Ok(held.gradient(scene.volume, &scene.grid, held.inside(p, 1)).unwrap_or_default());
        }
        found.map_or_else(|| self.lack(p, 1, k).map(|()| [0.0; 3]), Ok)
    }

    /// The sample at any place near the batch. Where it is missing and rays do not wait: `None`.
    pub(crate) fn value_at(&mut self, p: [i64; 3], k: u32) -> Result<Option<f32>, Lacking> {
        let (held, scene) = (self.held, self.scene);
        let found = held.sample(scene.volume, &scene.grid, p);
        if found.is_none() && scene.clamps {
            self.tally.clamp(needed(&scene.grid, Reach { voxels: 0, samples: 1 }, self.path, k));
            return Ok(held.sample(scene.volume, &scene.grid, held.inside(p, 0)));
        }
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

/// Follows a ray through the samples that are left.
///
/// When it waits, the first one left is the sample that lacks something, and its box of tiles is in the tally.
#[inline(always)]
pub(crate) fn march<'a, T: Scalar, V: Volume<T>, M: Method>(
    scene: &Scene<'a, T, V>,
    method: &M,
    table: &mut Table<'a, T>,
    path: &Path,
    left: &mut Range<u32>,
    state: &mut M::State,
    tally: &mut Tally,
) -> Halt {
    let (k, until) = (&mut left.start, left.end);
    let (grid, stride) = (&scene.grid, scene.kernels.look.stride(path.step));
    while *k < until {
        let p = path.at(*k);
        let tile = grid.brick_below(p);
        let Table { bricks, groups } = &mut *table;
        let held = &**bricks.get(tile, || look_up(scene, method, tile, groups));
        let leave = k.saturating_add(path.run(p, held.ends(path.step))).min(until);
        if scene.skip_empty && held.most <= method.threshold(state) {
            tally.skipped += u64::from(leave - *k);
            *k = leave;
            continue;
        }
        let mut visit = Visit { scene, method, held, path, stride: &stride, tally };
        if let Some(halt) = visit.brick(k, leave, state) {
            if halt == Halt::Waits {
                tally.wait(needed(grid, method.reach(), path, *k));
            }
            return halt;
        }
    }
    Halt::Through
}

/// A ray in a brick.
struct Visit<'r, 'a, T, V, M> {
    scene: &'r Scene<'a, T, V>,
    method: &'r M,
    held: &'r Held<'a, T>,
    path: &'r Path,
    stride: &'r Stride,
    tally: &'r mut Tally,
}

impl<T: Scalar, V: Volume<T>, M: Method> Visit<'_, '_, T, V, M> {
    /// Takes the samples from `*k` to `leave`, all of which have their lower voxel in the brick.
    #[inline(always)]
    fn brick(&mut self, k: &mut u32, leave: u32, state: &mut M::State) -> Option<Halt> {
        while *k < leave {
            let Scanned { begin: nothing, matter: mut left, inner } = self.scan(*k, leave - *k, state);
            let begin = *k + nothing;
            let count = (leave - begin).min(SCAN);
            self.tally.skipped += u64::from(nothing + count - left.count_ones());
            if left == 0 {
                *k = leave;
                return None;
            }
            if matches!(self.held.content, Content::Missing) {
                *k = begin + left.trailing_zeros();
                return self.missing(k, leave);
            }
            let across = self.scene.kernels.across.as_ref().zip(self.held.flat.as_ref());
            while left != 0 {
                *k = begin + left.trailing_zeros();
                let is_inner = inner >> left.trailing_zeros() & 1 == 1;
                let other = left & if is_inner { !inner } else { inner };
                // As many as there are before one of the other kind, but no more than eight; of both kinds where there is a kernel for that.
                let same = left & (other & other.wrapping_neg()).wrapping_sub(1);
                let (lanes, used) = first_lanes(if across.is_some() { left } else { same });
                let all_inner = is_inner && lanes.iter().all(|&lane| lane < other.trailing_zeros());
                let across = across.filter(|_| !all_inner);
                let (halt, taken) = if is_inner || across.is_some() {
                    (self.at_once(across, begin, &lanes, used, k, state), used)
                } else {
                    self.rim(begin, &lanes, used, k, state)
                };
                if halt.is_some() {
                    return halt;
                }
                for _ in 0..taken {
                    left &= left - 1;
                }
            }
            *k = begin + count;
        }
        None
    }

    /// Which of the samples from `k` on matter, and which have their support in the brick.
    #[inline(always)]
    fn scan(&self, k: u32, samples: u32, state: &M::State) -> Scanned {
        let (scene, held) = (self.scene, self.held);
        let (at, look) = (relative(self.path.at(k), held.low), &scene.kernels.look);
        if let (Some(fine), true) = (&held.fine, scene.skip_empty) {
            let mut found = look.scan(Cells::Fine(&fine.bits), at, self.stride, samples);
            if matches!(held.content, Content::Group) {
                found.inner = 0;
            }
            return found;
        }
        let (grid, threshold) = (&scene.grid, self.method.threshold(state));
        let cells = if scene.skip_empty {
            Coarse::new(&held.cells.importance, threshold, grid.cell_shift, grid.cells, held.last)
        } else {
            Coarse::new(&[f32::INFINITY], 0.0, [31; 3], [1; 3], held.last)
        };
        let mut found = match &cells {
            Some(cells) => look.scan(Cells::Coarse(cells), at, self.stride, samples),
            None => Scanned { begin: 0, matter: u64::MAX >> SCAN.saturating_sub(samples), inner: 0 },
        };
        if matches!(held.content, Content::Voxels(None)) {
            found.inner = 0;
        }
        found
    }

    /// Samples whose whole support is in the brick, or in flat memory around it.
    #[inline(always)]
    fn at_once(
        &mut self,
        across: Option<(&Across<T>, &Around<'_, T>)>,
        begin: u32,
        lanes: &Lanes,
        used: u32,
        k: &mut u32,
        state: &mut M::State,
    ) -> Option<Halt> {
        let first = relative(self.path.at(begin), self.held.low);
        let samples = Samples { first, step: self.path.step, lanes };
        let test = self.method.test(state);
        let mut values = [0.0; LANES];
        let passed = match (across, &self.held.content) {
            (Some((kernels, around)), _) => kernels.trilinear(around, samples, test, &mut values),
            (None, Content::Voxels(Some(voxels))) => {
                self.scene.kernels.trilinear(voxels, samples, test, &mut values)
            }
            (None, Content::Uniform(value)) => {
                values = [*value; LANES];
                test.mask(&values)
            }
            // None has inner samples.
            (None, Content::Voxels(None) | Content::Group | Content::Missing) => 0,
        };
        self.take(begin, lanes, used, &values, passed, k, state)
    }

    /// Samples whose support may reach into other bricks; how many of them were dealt with.
    #[inline(always)]
    fn rim(
        &mut self,
        begin: u32,
        lanes: &Lanes,
        used: u32,
        k: &mut u32,
        state: &mut M::State,
    ) -> (Option<Halt>, u32) {
        let (mut values, mut taken) = ([f32::NAN; LANES], 0);
        for (value, lane) in values.iter_mut().zip(lanes).take(used as usize) {
            let at = self.path.at(begin + lane);
            match self.held.sample(self.scene.volume, &self.scene.grid, at) {
                Some(found) => *value = found,
                None if self.scene.clamps => {
                    let (scene, reach) = (self.scene, Reach { voxels: 0, samples: 0 });
                    self.tally.clamp(needed(&scene.grid, reach, self.path, begin + lane));
                    let inside = self.held.sample(scene.volume, &scene.grid, self.held.inside(at, 0));
                    *value = inside.unwrap_or(f32::NAN);
                }
                None if self.scene.waits => break,
                // Not a number, which contributes nothing.
                None => want_support(self.scene, at, 0, begin + lane, self.tally),
            }
            taken += 1;
        }
        if taken == 0 {
            return (Some(Halt::Waits), 0);
        }
        let passed = self.method.test(state).mask(&values);
        (self.take(begin, lanes, taken, &values, passed, k, state), taken)
    }

    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "one call in two places, inlined")]
    fn take(
        &mut self,
        begin: u32,
        lanes: &Lanes,
        used: u32,
        values: &Batch,
        passed: u32,
        k: &mut u32,
        state: &mut M::State,
    ) -> Option<Halt> {
        self.tally.samples += u64::from(used);
        let passed = passed & ((1u32 << used) - 1);
        if passed == 0 {
            return None;
        }
        let (scene, held, path) = (self.scene, self.held, self.path);
        let mut probe = Probe { scene, held, path, tally: self.tally, first: begin, lanes };
        match self.method.take(state, values, passed, &mut probe) {
            Took::All => None,
            Took::Ended => Some(Halt::Ended),
            Took::Lacks(lane) => {
                *k = probe.sample(lane);
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

/// The first samples of a set, eight at most, and how many they are.
#[inline(always)]
fn first_lanes(mut set: u64) -> (Lanes, u32) {
    let used = set.count_ones().min(8);
    let mut lanes = [set.trailing_zeros(); LANES];
    for lane in lanes.iter_mut().take(used as usize) {
        *lane = set.trailing_zeros();
        set &= set.wrapping_sub(1);
    }
    (lanes, used)
}

/// A position relative to a brick.
#[inline(always)]
fn relative(p: [i64; 3], low: [i64; 3]) -> [i64; 3] {
    [p[0] - low[0], p[1] - low[1], p[2] - low[2]]
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
pub(crate) fn needed(grid: &Grid, reach: Reach, path: &Path, k: u32) -> BrickBox {
    let a = grid.voxel_below(path.at(k.saturating_sub(reach.samples)));
    let b = grid.voxel_below(path.at(k));
    let low = std::array::from_fn(|i| a[i].min(b[i]) - reach.voxels);
    let high = std::array::from_fn(|i| a[i].max(b[i]) + 1 + reach.voxels);
    grid.bricks_between(low, high)
}
