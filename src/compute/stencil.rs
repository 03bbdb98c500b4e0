//! Owns stencils of 27 points: [`stencil27`] over one tile, [`stencil27_into`] over many.
//!
//! Three planes of a tile at a time are kept with a rim of one voxel, wherever that comes from: each voxel is copied once, within the nearest cache. Then for every voxel of a row, the first and the last too, the
//! 27 are at constant offsets in 9 rows, which is what compilers make vectors of.

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
use super::steps::{First, Pages, check, hold, ids, in_memory_order, length, room_within};

/// Computes something of each voxel of a tile and its 26 neighbours.
///
/// `compute` gets the 27 voxels as [`Accessor::neighbourhood`](crate::Accessor::neighbourhood) gives them: x fastest, the voxel itself in the middle, at 13.
///
/// **Shape**: `out` is a whole tile, x fastest. What of it lies past the array's far faces is left as it is.
///
/// **Cost**: 27 bit tests for the tile, three planes of memory, and one copy of each voxel within it; then, where `compute` is small enough to be compiled into the loop, vectors of voxels along x: about two
/// nanoseconds for a voxel's sum. Tiles of few voxels along x gain little.
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
    let edges = [index(shape.x), index(shape.y)];
    let source = Source { around: &around, tiles: &tiles, edges, beyond: boundary.beyond() };

    let [width, height, depth] = size.to_array().map(index);
    let mut planes = [0, 1, 2].map(|z| source.plane(z, Vec::with_capacity((width + 2) * (height + 2))));
    for z in 0..depth {
        for y in 0..height {
            let line = |i: usize| {
                let first = (y + i % 3) * (width + 2);
                &planes[i / 3][first..first + width + 2]
            };
            let first = edges[0] * (y + edges[1] * z);
            along(&std::array::from_fn(line), &mut out[first..first + width], &compute);
        }
        planes.rotate_left(1);
        if z + 1 < depth {
            planes[2] = source.plane(z + 3, std::mem::take(&mut planes[2]));
        }
    }
    Ok(())
}

/// The row in the middle of nine, which reach one voxel further on both sides. Not inlined: as an argument `out` is known to be apart from the rows, so that there is nothing to check before vectors are made.
#[inline(never)]
fn along<T: Copy, U>(lines: &[&[T]; 9], out: &mut [U], compute: &impl Fn(&[T; 27]) -> U) {
    let width = out.len();
    // Three slices of one length for each row: then nothing has to be checked in the loop.
    let of = |i: usize| -> [&[T]; 3] { [&lines[i][..width], &lines[i][1..=width], &lines[i][2..width + 2]] };
    let [l0, l1, l2, l3, l4, l5, l6, l7, l8] = std::array::from_fn(of);
    for x in 0..width {
        let of = |line: [&[T]; 3]| [line[0][x], line[1][x], line[2][x]];
        // Spelled out, so that the 27 values live in registers rather than in an array that is filled and read again.
        let [[a, b, c], [d, e, f], [g, h, i]] = [of(l0), of(l1), of(l2)];
        let [[j, k, l], [m, n, o], [p, q, r]] = [of(l3), of(l4), of(l5)];
        let [[s, t, u], [v, w, y], [z, z1, z2]] = [of(l6), of(l7), of(l8)];
        out[x] =
            compute(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, y, z, z1, z2]);
    }
}

/// Where a tile's planes and those around them come from.
struct Source<'a, 'v, T> {
    around: &'a Around,
    tiles: &'a [Tile<'v, T>],
    /// Edges of a tile along x and y.
    edges: [usize; 2],
    /// What stands beyond the faces.
    beyond: T,
}

impl<T: Voxel> Source<'_, '_, T> {
    /// A plane with a rim of one voxel, into a buffer; planes count from the one before the tile.
    fn plane(&self, z: usize, mut buffer: Vec<T>) -> Vec<T> {
        let [xs, ys, zs] = &self.around.axes;
        let z = zs.at.get(z).copied().flatten();
        buffer.clear();
        for &y in &ys.at {
            let (Some((y_slot, y)), Some((z_slot, z))) = (y, z) else {
                buffer.resize(buffer.len() + xs.at.len(), self.beyond);
                continue;
            };
            let first = self.edges[0] * (y + self.edges[1] * z);
            let [Some(&before), Some(&own), Some(&after)] = [xs.at.first(), xs.at.get(1), xs.at.last()]
            else {
                continue;
            };
            let tile = |slot: usize| self.tiles[self.around.slot([slot, y_slot, z_slot])];
            let one = |at: At| match at.map(|(slot, x)| (tile(slot), x)) {
                Some((Tile::Resident(voxels), x)) => voxels[first + x],
                Some((Tile::Uniform(value), _)) => value,
                Some((Tile::Missing, _)) | None => self.beyond,
            };
            buffer.push(one(before));
            // The row itself lies in one tile, from its first voxel on.
            let width = xs.at.len() - 2;
            match own.map(|(slot, _)| tile(slot)) {
                Some(Tile::Resident(voxels)) => buffer.extend_from_slice(&voxels[first..first + width]),
                _ => buffer.resize(buffer.len() + width, one(own)),
            }
            buffer.push(one(after));
        }
        buffer
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
/// As [`fold`](super::fold) and [`Writer::tile`]. [`ResidencyError::OverBudget`](crate::ResidencyError::OverBudget): the budget does not hold a tile that is written and those around it that are read, 28 at most. [`LayoutError::NotAlike`](crate::LayoutError::NotAlike): the arrays differ in extent or in the shape of their tiles. Some tiles may have been written then.
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
            let needs = |tile, pages: &mut Pages| {
                pages.add_written(writer.array(), tile);
                need_near(from, tile, rim, boundary, pages);
            };
            let length = length(left, room, needs);
            let (step, held) = hold(&left[..length], |step| hold_near(from, step, rim, boundary))?;
            check(step, needs)?;
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
