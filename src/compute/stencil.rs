//! Owns stencils of 27 points: [`stencil27`] over one tile, [`stencil27_into`] over many. No voxel is copied: rows are read where they are.
//!
//! Around a row of a tile lie 8 others, each in one piece in whichever tile has it. For all voxels of the row but the first and the last, the 27 are at constant offsets in those 9 rows, which is what
//! compilers make vectors of; the two ends have their own way.

use crate::array::{SparseArray3D, Writer};
use crate::backend::HostAddressable;
use crate::error::{Error, ResidencyError};
use crate::geometry::Extent;
use crate::layout::TileCoord;
use crate::view::{Tile, View};
use crate::voxel::Voxel;

use super::TileSet;
use super::around::{Around, At, Boundary};
use super::halo::{hold_near, near_each_other, need_near};
use super::reduce::index;
use super::steps::{First, hold, ids, in_memory_order, length, room_within};

/// One row of a tile, or of one beside it, with the voxels before and after it.
#[derive(Clone, Copy)]
struct Row<'v, T> {
    before: T,
    voxels: &'v [T],
    after: T,
}

/// Computes something of each voxel of a tile and its 26 neighbours.
///
/// `compute` gets the 27 voxels as [`Accessor::neighbourhood`](crate::Accessor::neighbourhood) gives them: x fastest, the voxel itself in the middle, at 13.
///
/// **Shape**: `out` is a whole tile, x fastest. What of it lies past the array's far faces is left as it is.
///
/// **Cost**: 27 bit tests for the tile; then, where `compute` is small enough to be compiled into the loop, vectors of voxels along x: about two nanoseconds for a voxel's sum. Tiles of few voxels along x gain little.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord, compute::{self, Boundary}, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 16 << 20)?;
/// let source = Procedural::new(Extent::cube(64), |c: Coord| (c.x + c.y + c.z) as f32);
/// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
/// array.request_region(Region::whole(Extent::cube(64)))?.complete()?;
///
/// let mut means = vec![0.0; 32 * 32 * 32];
/// let mean = |near: &[f32; 27]| near.iter().sum::<f32>() / 27.0;
/// compute::stencil27(&array.frame(), TileCoord::new(0, 0, 0), Boundary::Clamp, &mut means, mean)?;
/// assert_eq!(means[1 + 32 * (1 + 32 * 31)], 33.0); // at (1, 1, 31), with neighbours in the next tile
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// [`ResidencyError::NotThere`]: the tile or one beside it, by name. [`ResidencyError::OutOfBounds`]: the array has no such tile. [`ResidencyError::BufferLength`]: `out` is no tile.
pub fn stencil27<T: Voxel, U>(
    view: &View<'_, T>,
    tile: TileCoord,
    boundary: Boundary<T>,
    out: &mut [U],
    compute: impl Fn(&[T; 27]) -> U,
) -> Result<(), Error> {
    let layout = view.layout();
    ids(layout, &[tile])?;
    if out.len() as u64 != layout.tile_voxels() {
        let (expected_voxels, actual_voxels) = (layout.tile_voxels(), out.len() as u64);
        return Err(ResidencyError::BufferLength { expected_voxels, actual_voxels }.into());
    }
    let size = layout.tile_region(tile).extent;
    let mut around = Around::default();
    around.lay(layout, tile, size, Extent::cube(1), boundary);
    let tiles = around.look_up(view)?;
    let shape = layout.tile_shape();
    let rows = Rows::new(&around, &tiles, [index(shape.x), index(shape.y)], boundary);
    let beyond = rows.uniform_rows();

    let (height, depth) = (index(size.y), index(size.z));
    let mut planes = [0, 1, 2].map(|z| rows.plane(z, &beyond));
    for z in 0..depth {
        for y in 0..height {
            let at = |line: usize| planes[line / 3][y + line % 3];
            let lines: [Row<'_, T>; 9] = std::array::from_fn(at);
            let first = index(shape.x) * (y + index(shape.y) * z);
            if let Some(out) = out.get_mut(first..first + rows.width) {
                along(&lines, out, &compute);
            }
        }
        if z + 1 < depth {
            planes.rotate_left(1);
            planes[2] = rows.plane(z + 3, &beyond);
        }
    }
    Ok(())
}

/// The row in the middle of nine.
#[inline]
fn along<T: Copy, U>(lines: &[Row<'_, T>; 9], out: &mut [U], compute: &impl Fn(&[T; 27]) -> U) {
    let width = out.len();
    let end = |x: usize| -> [T; 27] {
        std::array::from_fn(|i| {
            let line = &lines[i / 3];
            match (x + i % 3).checked_sub(1) {
                None => line.before,
                Some(at) => line.voxels.get(at).copied().unwrap_or(line.after),
            }
        })
    };
    let Some(last) = width.checked_sub(1) else { return };
    out[0] = compute(&end(0));
    out[last] = compute(&end(last));
    let Some(inner) = width.checked_sub(2) else { return };
    // Each of the 27 as a slice of its own, all of one length: then nothing has to be checked in the loop.
    let at = |i: usize| &lines[i / 3].voxels[i % 3..i % 3 + inner];
    let near: [&[T]; 27] = std::array::from_fn(at);
    let out = &mut out[1..=inner];
    for x in 0..inner {
        out[x] = compute(&std::array::from_fn(|i| near[i][x]));
    }
}

/// Where the rows around a tile are.
struct Rows<'a, 'v, T> {
    around: &'a Around,
    tiles: &'a [Tile<'v, T>],
    /// Edges of a tile along x and y.
    edges: [usize; 2],
    /// Voxels of a row inside the array.
    width: usize,
    /// What stands beyond the faces.
    beyond: T,
    /// Which of the tiles along x the row itself is in, and which the voxels before and after it.
    own: usize,
    before: At,
    after: At,
}

impl<'a, 'v, T: Voxel> Rows<'a, 'v, T> {
    fn new(around: &'a Around, tiles: &'a [Tile<'v, T>], edges: [usize; 2], boundary: Boundary<T>) -> Self {
        let beyond = if let Boundary::Fill(value) = boundary { value } else { bytemuck::Zeroable::zeroed() };
        let xs = &around.axes[0].at;
        let own = xs.get(1).copied().flatten().map_or(0, |(slot, _)| slot);
        let (before, after) = (xs.first().copied().flatten(), xs.last().copied().flatten());
        Self { around, tiles, edges, width: xs.len().saturating_sub(2), beyond, own, before, after }
    }

    /// For each of the tiles a row of what it holds everywhere, if it does; and one of what stands beyond the faces.
    fn uniform_rows(&self) -> Vec<Vec<T>> {
        let row = |tile: &Tile<'v, T>| match tile {
            Tile::Uniform(value) => vec![*value; self.width],
            _ => Vec::new(),
        };
        let mut rows: Vec<_> = self.tiles.iter().map(row).collect();
        rows.push(vec![self.beyond; self.width]);
        rows
    }

    /// The rows of a plane; planes and rows count from the one before the tile.
    fn plane<'r>(&self, z: usize, uniform: &'r [Vec<T>]) -> Vec<Row<'r, T>>
    where
        'v: 'r,
    {
        let [_, ys, zs] = &self.around.axes;
        let z = zs.at.get(z).copied().flatten();
        ys.at.iter().map(|&y| self.row(y, z, uniform)).collect()
    }

    fn row<'r>(&self, y: At, z: At, uniform: &'r [Vec<T>]) -> Row<'r, T>
    where
        'v: 'r,
    {
        let (Some((y_slot, y)), Some((z_slot, z))) = (y, z) else {
            let voxels = uniform.last().map_or(&[][..], Vec::as_slice);
            return Row { before: self.beyond, voxels, after: self.beyond };
        };
        let first = self.edges[0] * (y + self.edges[1] * z);
        let one = |at: At| {
            let Some((slot, x)) = at else { return self.beyond };
            match self.tiles[self.around.slot([slot, y_slot, z_slot])] {
                Tile::Resident(voxels) => voxels[first + x],
                Tile::Uniform(value) => value,
                Tile::Missing => self.beyond,
            }
        };
        let own = self.around.slot([self.own, y_slot, z_slot]);
        let voxels = match self.tiles[own] {
            Tile::Resident(voxels) => &voxels[first..first + self.width],
            _ => &uniform[own],
        };
        Row { before: one(self.before), voxels, after: one(self.after) }
    }
}

/// Computes something of each voxel of many tiles and its 26 neighbours, with all threads of rayon's current pool, and writes it to another array at the same place, in steps that the budget holds.
///
/// **Cost**: as [`stencil27`] and [`Writer::for_each_tile`], a request for each step, of tiles near each other. What the writer holds is let go of between steps.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute::{self, Boundary}, source::{Fill, Procedural}};
///
/// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
/// let extent = Extent::cube(100);
/// let heights = Procedural::new(extent, |c: Coord| c.z as f32);
/// let heights = SparseArray3D::builder(&pool, heights).tile([32, 32, 32]).build()?;
/// let mut slopes = SparseArray3D::builder(&pool, Fill::new(extent, 0.0f32)).tile([32, 32, 32]).writable().build()?;
///
/// let slope = |near: &[f32; 27]| (near[22] - near[4]) / 2.0; // along z
/// compute::stencil27_into(&mut slopes.writer()?, &heights, &compute::all(&heights), Boundary::Clamp, slope)?;
/// assert_eq!(slopes.get([50, 50, 50])?, 1.0);
/// assert_eq!(slopes.get([50, 50, 99])?, 0.5);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`fold`](super::fold) and [`Writer::tile`]. [`LayoutError::NotAlike`](crate::LayoutError::NotAlike): the arrays differ in extent or in the shape of their tiles. Some tiles may have been written then.
pub fn stencil27_into<T: Voxel, U: Voxel, B: HostAddressable>(
    writer: &mut Writer<'_, U, B>,
    from: &SparseArray3D<T, B>,
    tiles: &TileSet,
    boundary: Boundary<T>,
    compute: impl Fn(&[T; 27]) -> U + Sync,
) -> Result<(), Error> {
    let layout = writer.array().layout().clone();
    from.check_alike(&layout)?;
    let rim = Extent::cube(1);
    in_memory_order(&layout, tiles, |tiles| {
        let tiles = near_each_other(tiles);
        let mut left = &tiles[..];
        while !left.is_empty() {
            writer.let_go();
            let room = room_within(writer.array().unpinned_budget().min(from.unpinned_budget()));
            let length = length(left, room, |tile, pages| {
                pages.add_written(writer.array(), tile);
                need_near(from, tile, rim, boundary, pages);
            });
            let (step, held) = hold(&left[..length], |step| hold_near(from, step, rim, boundary))?;
            let first = First::default();
            writer.for_each_tile(step, |tile, out| {
                first.note(stencil27(&from.frame(), tile, boundary, out, &compute));
            })?;
            first.done()?;
            drop(held);
            left = &left[step.len()..];
        }
        Ok(())
    })
}
