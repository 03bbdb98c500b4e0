//! Owns reductions of the voxels of many tiles to a few numbers: [`fold`], [`sum`], [`min_max`], [`histogram`].

use rayon::prelude::*;

use crate::array::SparseArray3D;
use crate::backend::HostAddressable;
use crate::error::{Error, ResidencyError};
use crate::geometry::{Coord, Extent, Region};
use crate::layout::{Layout, TileCoord};
use crate::view::{Tile, View, sum_of};
use crate::voxel::{Scalar, Voxel, range_of};

use super::TileSet;
use super::steps::{ids, in_memory_order, in_steps, room};

/// Some voxels of a tile, as [`fold`] gives them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Run<'v, T> {
    /// Each by itself, in memory order.
    Voxels(&'v [T]),
    /// So many of one value: a uniform tile, which has no memory.
    Same {
        /// The value.
        value: T,
        /// How many voxels hold it.
        count: u64,
    },
}

/// Folds the voxels of all tiles, with all threads of rayon's current pool, in steps that the budget holds. Voxels past the array's far faces do not count.
///
/// `begin` makes an empty result, `add` puts voxels into one, and `merge` makes one of two, which may be made of any tiles: in which order is not said. For a result that is the same every time
/// all three have to allow for that, as whole numbers do, and sums of floating-point numbers do not ([`sum`] does).
///
/// **Cost**: a request for each step, at most half of the budget that is not pinned, and one pass over memory. A uniform tile needs no memory, and is one call of `add`. Results are made a few for each thread and step.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute::{self, Run}, source::Procedural};
///
/// // 16 MiB in a budget of 1 MiB.
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let source = Procedural::new(Extent::cube(256), |c: Coord| (c.x % 3) as u8);
/// let array = SparseArray3D::builder(&pool, source).build()?;
/// let twos = compute::fold(
///     &array,
///     &compute::all(&array),
///     || 0u64,
///     |twos, run| {
///         *twos += match run {
///             Run::Voxels(voxels) => voxels.iter().filter(|&&v| v == 2).count() as u64,
///             Run::Same { value, count } => if value == 2 { count } else { 0 },
///         }
///     },
///     |a, b| a + b,
/// )?;
/// assert_eq!(twos, 256 * 256 * 85);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// [`ResidencyError::OutOfBounds`]: a tile that the array does not have. [`Error::Tile`], the first that cannot be loaded. The other errors of [`SparseArray3D::request`]; a frame of this thread's own that is open
/// may be in the way ([`ResidencyError::FramesOpen`]).
pub fn fold<T: Voxel, B: HostAddressable, A: Send>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
    begin: impl Fn() -> A + Sync,
    add: impl Fn(&mut A, Run<'_, T>) + Sync,
    merge: impl Fn(A, A) -> A + Sync,
) -> Result<A, Error> {
    let mut all = begin();
    each_step(array, tiles, |step| {
        let found = step.par_iter().try_fold(&begin, |mut found, &tile| {
            each_run(&array.frame(), tile, |run| add(&mut found, run))?;
            Ok::<_, Error>(found)
        });
        let found = found.try_reduce_with(|a, b| Ok(merge(a, b))).transpose()?;
        if let Some(found) = found {
            let before = std::mem::replace(&mut all, begin());
            all = merge(before, found);
        }
        Ok(())
    })?;
    Ok(all)
}

/// The sum of all voxels of the tiles, as `f64`: the same every time, whatever the number of threads and the budget. A tile is summed in 8 lanes, the tiles in memory order; a uniform tile counts as its value times
/// the number of its voxels.
///
/// **Special values**: a NaN makes the sum NaN, and so do infinities of both signs.
///
/// **Cost**: as [`fold`], and 8 bytes for each tile of a step.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let source = Procedural::new(Extent::new(100, 90, 80), |c: Coord| c.z as f32);
/// let array = SparseArray3D::builder(&pool, source).build()?;
/// assert_eq!(compute::sum(&array, &compute::all(&array))?, 9000.0 * (79.0 * 80.0 / 2.0));
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`fold`].
pub fn sum<T: Scalar, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
) -> Result<f64, Error> {
    let mut all = 0.0;
    each_step(array, tiles, |step| {
        let of_tile = |&tile: &TileCoord| {
            let mut sum = 0.0;
            each_run(&array.frame(), tile, |run| {
                sum += match run {
                    Run::Voxels(voxels) => sum_of(voxels),
                    Run::Same { value, count } => value.to_f64() * count as f64,
                };
            })?;
            Ok::<_, Error>(sum)
        };
        let sums: Vec<f64> = step.par_iter().map(of_tile).collect::<Result<_, _>>()?;
        all = sums.into_iter().fold(all, |all, sum| all + sum);
        Ok(())
    })?;
    Ok(all)
}

/// The smallest and the largest voxel of the tiles; `None` where there is none.
///
/// **Special values**: NaNs are left out: `None` where there is nothing else. Zeros of both signs are equal, and either may come out.
///
/// **Cost**: as [`fold`].
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let source = Procedural::new(Extent::cube(100), |c: Coord| c.x as i16 - 50);
/// let array = SparseArray3D::builder(&pool, source).build()?;
/// assert_eq!(compute::min_max(&array, &compute::all(&array))?, Some((-50, 49)));
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`fold`].
pub fn min_max<T: Scalar, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
) -> Result<Option<(T, T)>, Error> {
    let add = |range: &mut Option<(T, T)>, run: Run<'_, T>| {
        let found = match run {
            Run::Voxels(voxels) => voxels,
            Run::Same { ref value, .. } => std::slice::from_ref(value),
        };
        let (low, high) = range_of(std::iter::once(found));
        // Of numbers there are none, it is from infinity down to minus infinity.
        *range = wider(*range, (low <= high).then_some((low, high)));
    };
    fold(array, tiles, || None, add, wider)
}

/// Bins of one width, from `low` to `high`: each begins with its lower end, and the last has `high` too.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bins {
    low: f64,
    high: f64,
    count: usize,
}

impl Bins {
    /// So many bins, or `None` where there are none, or the ends are not finite and in order.
    ///
    /// ```
    /// # use vastgrid::compute::Bins;
    /// assert!(Bins::new(0.0, 1.0, 256).is_some());
    /// assert!(Bins::new(1.0, 0.0, 256).is_none());
    /// ```
    #[must_use]
    pub fn new(low: f64, high: f64, count: usize) -> Option<Self> {
        (count > 0 && low < high && (high - low).is_finite()).then_some(Self { low, high, count })
    }

    /// Lower end of the first bin.
    #[must_use]
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Upper end of the last bin.
    #[must_use]
    pub fn high(&self) -> f64 {
        self.high
    }

    /// How many bins there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

/// How many voxels have which values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    /// Voxels in each bin.
    pub bins: Vec<u64>,
    /// Voxels below the first bin, minus infinity among them.
    pub below: u64,
    /// Voxels above the last bin, infinity among them.
    pub above: u64,
    /// Voxels that are not a number.
    pub nan: u64,
}

/// Counts the voxels of the tiles in bins: a value goes into bin `floor((value - low) * count / (high - low))`, computed in `f64`, `high` itself into the last.
///
/// **Special values**: NaNs and what lies outside the bins are counted by themselves.
///
/// **Cost**: as [`fold`], and 8 bytes for each bin a few times for each thread.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
/// let source = Procedural::new(Extent::cube(100), |c: Coord| c.x as u8);
/// let array = SparseArray3D::builder(&pool, source).build()?;
/// let bins = compute::Bins::new(0.0, 50.0, 5).unwrap();
/// let histogram = compute::histogram(&array, &compute::all(&array), bins)?;
/// assert_eq!(histogram.bins, [100_000, 100_000, 100_000, 100_000, 110_000]); // 50 itself is in the last
/// assert_eq!(histogram.above, 490_000);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`fold`].
pub fn histogram<T: Scalar, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
    bins: Bins,
) -> Result<Histogram, Error> {
    let begin = || Histogram { bins: vec![0; bins.count], below: 0, above: 0, nan: 0 };
    let add = |all: &mut Histogram, run: Run<'_, T>| match run {
        Run::Voxels(voxels) => voxels.iter().for_each(|v| all.count(bins, v.to_f64(), 1)),
        Run::Same { value, count } => all.count(bins, value.to_f64(), count),
    };
    fold(array, tiles, begin, add, |mut a, b| {
        a.bins.iter_mut().zip(b.bins).for_each(|(a, b)| *a += b);
        Histogram { bins: a.bins, below: a.below + b.below, above: a.above + b.above, nan: a.nan + b.nan }
    })
}

impl Histogram {
    #[inline]
    fn count(&mut self, bins: Bins, value: f64, count: u64) {
        if value >= bins.low && value <= bins.high {
            let scale = bins.count as f64 / (bins.high - bins.low);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and saturated"
            )]
            let bin = ((value - bins.low) * scale) as usize;
            self.bins[bin.min(bins.count - 1)] += count;
        } else if value < bins.low {
            self.below += count;
        } else if value > bins.high {
            self.above += count;
        } else {
            self.nan += count;
        }
    }
}

/// Has the tiles worked on in steps, while they are held.
fn each_step<T: Voxel, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
    mut work: impl FnMut(&[TileCoord]) -> Result<(), Error>,
) -> Result<(), Error> {
    let layout = array.layout();
    in_memory_order(layout, tiles, |tiles| {
        in_steps(
            tiles,
            || room(array),
            |tile, pages| pages.add(array, tile),
            |step| array.hold(&ids(layout, step)?),
            &mut work,
        )
    })
}

/// Gives the voxels of a tile that lie inside the array to `add`.
fn each_run<T: Voxel>(
    view: &View<'_, T>,
    tile: TileCoord,
    mut add: impl FnMut(Run<'_, T>),
) -> Result<(), Error> {
    let layout = view.layout();
    let region = layout.tile_region(tile);
    match view.tile(tile) {
        Tile::Resident(voxels) if region.extent == layout.tile_shape() => add(Run::Voxels(voxels)),
        Tile::Resident(voxels) => {
            rows(layout, region).for_each(|(_, row)| add(Run::Voxels(&voxels[row])));
        }
        Tile::Uniform(value) => {
            add(Run::Same { value, count: region.extent.checked_volume().unwrap_or(u64::MAX) });
        }
        Tile::Missing => return Err(ResidencyError::NotThere { tile }.into()),
    }
    Ok(())
}

/// The rows of a tile's part inside the array: the first voxel, and where the row lies in the tile.
pub(super) fn rows(layout: &Layout, region: Region) -> impl Iterator<Item = (Coord, std::ops::Range<usize>)> {
    let Extent { x: row, y: rows, .. } = layout.tile_shape();
    let Region { start, extent } = region;
    (0..extent.z).flat_map(move |z| {
        (0..extent.y).map(move |y| {
            let first = index(row * (y + rows * z));
            (Coord::new(start.x, start.y + y, start.z + z), first..first + index(extent.x))
        })
    })
}

fn wider<T: Scalar>(a: Option<(T, T)>, b: Option<(T, T)>) -> Option<(T, T)> {
    let (Some((low, high)), Some((l, h))) = (a, b) else { return a.or(b) };
    Some((if l < low { l } else { low }, if h > high { h } else { high }))
}

/// A place in a tile, which is in memory and so fits.
#[expect(clippy::cast_possible_truncation, reason = "64-bit targets are the only ones")]
pub(super) fn index(v: u64) -> usize {
    v as usize
}
