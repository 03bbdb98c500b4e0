//! Owns writing what is computed voxel by voxel: [`map`] of an array itself, [`zip`] of others.

use crate::array::Writer;
use crate::backend::HostAddressable;
use crate::error::Error;
use crate::geometry::Coord;
use crate::voxel::Voxel;

use super::TileSet;
use super::inputs::Inputs;
use super::reduce::rows;
use super::steps::{First, Pages, check, hold, in_memory_order, length, room_within};

/// Writes to each voxel of the tiles what `compute` makes of its position and of what it held, with all threads of rayon's current pool, in steps that the budget holds.
///
/// **Cost**: as [`Writer::for_each_tile`]. All tiles get memory, those that were uniform too.
///
/// ```
/// use vastgrid::{Extent, HostBackend, Pool, Region, SparseArray3D, compute::{self, TileSet}, source::Fill};
///
/// // 32 MiB in a budget of 2 MiB.
/// let pool = Pool::new(HostBackend::new(), 2 << 20)?;
/// let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(1 << 12), 1.0f32)).writable().build()?;
/// let part = TileSet::from_region(array.layout(), Region::whole(Extent::cube(200)));
/// compute::map(&mut array.writer()?, &part, |at, old| old + at.x as f32)?;
/// assert_eq!(array.get([7, 190, 190])?, 8.0);
/// assert_eq!(array.get([7, 4000, 190])?, 1.0);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`Writer::tile`]; a tile that the array does not have. Some tiles may have been written then.
pub fn map<T: Voxel, B: HostAddressable>(
    writer: &mut Writer<'_, T, B>,
    tiles: &TileSet,
    compute: impl Fn(Coord, T) -> T + Sync,
) -> Result<(), Error> {
    zip(writer, (), tiles, |at, voxel, ()| *voxel = compute(at, *voxel))
}

/// Gives each voxel of the tiles to `compute`, to be read and written, with its position and the voxels of other arrays at the same place. With all threads of rayon's current pool, in steps
/// of which the budget holds the tiles of all arrays.
///
/// The arrays have to be of one extent, in tiles of one shape. That none of them is the one that is written is seen to by the borrow ([`Inputs`]).
///
/// **Cost**: as [`Writer::for_each_tile`], and a request for each array and step. Uniform tiles that are read need no memory; all that are written get some. What the writer holds is let go of
/// between steps.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute, source::{Fill, Procedural}};
///
/// let pool = Pool::new(HostBackend::new(), 2 << 20)?;
/// let extent = Extent::cube(100);
/// let a = SparseArray3D::builder(&pool, Procedural::new(extent, |c: Coord| c.x as u8)).tile([32, 32, 32]).build()?;
/// let b = SparseArray3D::builder(&pool, Procedural::new(extent, |c: Coord| c.y as f32)).tile([32, 32, 32]).build()?;
/// let mut sum = SparseArray3D::builder(&pool, Fill::new(extent, 0.0f32)).tile([32, 32, 32]).writable().build()?;
///
/// compute::zip(&mut sum.writer()?, (&a, &b), &compute::all(&a), |_, sum, (a, b)| *sum = f32::from(a) + b)?;
/// assert_eq!(sum.get([30, 50, 99])?, 80.0);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`map`] and [`fold`](super::fold). [`ResidencyError::OverBudget`](crate::ResidencyError::OverBudget): the budget does not hold a page of each array at once. [`LayoutError::NotAlike`](crate::LayoutError::NotAlike): the arrays differ in extent or in the shape of their tiles.
#[expect(clippy::needless_pass_by_value, reason = "references, and tuples of them")]
pub fn zip<T: Voxel, B: HostAddressable, I: Inputs>(
    writer: &mut Writer<'_, T, B>,
    inputs: I,
    tiles: &TileSet,
    compute: impl Fn(Coord, &mut T, I::Voxels) + Sync,
) -> Result<(), Error> {
    let layout = writer.array().layout().clone();
    inputs.check_alike(&layout)?;
    in_memory_order(&layout, tiles, |tiles| {
        let mut left = tiles;
        while !left.is_empty() {
            writer.let_go();
            let room = room_within(writer.array().unpinned_budget().min(inputs.unpinned_budget()));
            let needs = |tile, pages: &mut Pages| {
                pages.add_written(writer.array(), tile);
                inputs.need(tile, pages);
            };
            let length = length(left, room, needs);
            let hold_all = |step: &[_]| {
                let mut held = Vec::new();
                inputs.hold(step, &mut held).map(|()| held)
            };
            let (step, held) = hold(&left[..length], hold_all)?;
            check(step, needs)?;
            let first = First::default();
            writer.for_each_tile(step, |tile, out| {
                let frames = inputs.frames();
                let found = I::tiles(&frames, tile).map(|tiles| {
                    for (start, range) in rows(&layout, layout.tile_region(tile)) {
                        let row = I::row(&tiles, range.clone());
                        for ((i, x), voxel) in (start.x..).enumerate().zip(&mut out[range]) {
                            compute(Coord { x, ..start }, voxel, I::at(row, i));
                        }
                    }
                });
                first.note(found);
            })?;
            first.done()?;
            drop(held);
            left = &left[step.len()..];
        }
        Ok(())
    })
}
