//! Owns [`Halo`]: a tile and what lies around it in one dense buffer, and [`for_each_halo`] over many.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::array::SparseArray3D;
use crate::backend::HostAddressable;
use crate::error::{BackendError, Error};
use crate::geometry::{Extent, Region};
use crate::layout::{Layout, TileCoord};
use crate::view::{Tile, View};
use crate::voxel::Voxel;

use super::TileSet;
use super::around::{Around, Axis, Boundary};
use super::reduce::index;
use super::steps::{Pages, ids, in_memory_order, in_steps, room};

/// Gathers tiles with a rim around them: a buffer, to be used again for tile after tile.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord, compute::{Boundary, Halo}, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 16 << 20)?;
/// let source = Procedural::new(Extent::cube(64), |c: Coord| (c.x + 100 * c.y) as f32);
/// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
/// array.request_region(Region::whole(Extent::cube(64)))?.complete()?;
///
/// let view = array.frame();
/// let mut halo = Halo::new(view.layout(), Extent::cube(2), Boundary::Fill(-1.0))?;
/// let block = halo.gather(&view, TileCoord::new(1, 0, 0))?;
/// assert_eq!(block.shape(), Extent::cube(36));
/// assert_eq!(block.get([0, 0, 0]), Some(32.0)); // counted from the tile's first voxel
/// assert_eq!(block.get([-2, 33, 1]), Some(30.0 + 3300.0));
/// assert_eq!(block.get([0, -1, 0]), Some(-1.0)); // beyond the face
/// # Ok::<_, vastgrid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Halo<T> {
    voxels: Vec<T>,
    shape: Extent,
    tile: Extent,
    rim: Extent,
    boundary: Boundary<T>,
    around: Around,
    pieces: Vec<Piece>,
}

/// Neighbours along x that are copied at once.
#[derive(Clone, Copy, Debug)]
struct Piece {
    to: usize,
    length: usize,
    /// Which tile along x, and where in its row; `None` beyond the faces.
    from: Option<(usize, usize)>,
}

/// A tile with the voxels around it, densely, x fastest. Positions count from the tile's first voxel.
#[derive(Clone, Copy, Debug)]
pub struct Block<'h, T> {
    voxels: &'h [T],
    tile: TileCoord,
    region: Region,
    shape: Extent,
    halo: Extent,
}

impl<T: Voxel> Halo<T> {
    /// A buffer for tiles of that layout with `halo` voxels on either side along each axis: any number, 0 too.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`].
    pub fn new(layout: &Layout, halo: impl Into<Extent>, boundary: Boundary<T>) -> Result<Self, Error> {
        let (tile, halo) = (layout.tile_shape(), halo.into());
        let side = |tile: u64, halo: u64| tile.saturating_add(halo.saturating_mul(2));
        let shape = Extent::new(side(tile.x, halo.x), side(tile.y, halo.y), side(tile.z, halo.z));
        let count = shape.checked_volume().unwrap_or(u64::MAX);
        let mut voxels = Vec::new();
        voxels.try_reserve_exact(usize::try_from(count).unwrap_or(usize::MAX)).map_err(|_| {
            BackendError::OutOfMemory { call: "halo", bytes: count.saturating_mul(layout.voxel_bytes()) }
        })?;
        voxels.resize(index(count), bytemuck::Zeroable::zeroed());
        Ok(Self { voxels, shape, tile, rim: halo, boundary, around: Around::default(), pieces: Vec::new() })
    }

    /// Fills the buffer with a tile and what lies around it. Where the tile reaches past the array's far faces, the boundary stands there too.
    ///
    /// **Cost**: a bit test for each tile that it reaches into (27, where the halo is no wider than a tile), and copies of whole rows.
    ///
    /// # Errors
    /// [`ResidencyError::NotThere`](crate::ResidencyError::NotThere): one of those tiles, by name. [`ResidencyError::OutOfBounds`](crate::ResidencyError::OutOfBounds): the array has no such tile.
    /// [`LayoutError::NotAlike`](crate::LayoutError::NotAlike): the halo is for tiles of another shape.
    pub fn gather(&mut self, view: &View<'_, T>, tile: TileCoord) -> Result<Block<'_, T>, Error> {
        let layout = view.layout();
        ids(layout, &[tile])?;
        if layout.tile_shape() != self.tile {
            let (extent, other_extent) = (layout.extent(), layout.extent());
            let error = crate::LayoutError::NotAlike {
                extent,
                tile: self.tile,
                other_extent,
                other_tile: layout.tile_shape(),
            };
            return Err(error.into());
        }
        self.around.lay(layout, tile, self.tile, self.rim, self.boundary);
        let tiles = self.around.look_up(view)?;
        cut(&self.around.axes[0], &mut self.pieces);
        let [_, ys, zs] = &self.around.axes;
        let (row, plane) = (index(self.tile.x), index(self.tile.x * self.tile.y));
        let beyond = self.boundary.beyond();
        let lines = zs.at.iter().flat_map(|&z| ys.at.iter().map(move |&y| (y, z)));
        for (line, (y, z)) in self.voxels.chunks_exact_mut(index(self.shape.x)).zip(lines) {
            let (Some((y_slot, y)), Some((z_slot, z))) = (y, z) else {
                line.fill(beyond);
                continue;
            };
            let first = self.around.slot([0, y_slot, z_slot]);
            for piece in &self.pieces {
                let to = &mut line[piece.to..piece.to + piece.length];
                let Some((slot, x)) = piece.from else {
                    to.fill(beyond);
                    continue;
                };
                match tiles[first + slot] {
                    Tile::Resident(voxels) => {
                        let at = x + y * row + z * plane;
                        // A single voxel is not worth a call.
                        if let [one] = to {
                            *one = voxels[at];
                        } else {
                            to.copy_from_slice(&voxels[at..at + piece.length]);
                        }
                    }
                    Tile::Uniform(value) => to.fill(value),
                    // They were all found.
                    Tile::Missing => to.fill(beyond),
                }
            }
        }
        let region = layout.tile_region(tile);
        Ok(Block { voxels: &self.voxels, tile, region, shape: self.shape, halo: self.rim })
    }
}

/// Cuts the positions along x into pieces that follow each other in memory.
fn cut(axis: &Axis, pieces: &mut Vec<Piece>) {
    pieces.clear();
    for (to, &from) in axis.at.iter().enumerate() {
        if let Some(last) = pieces.last_mut()
            && match (last.from, from) {
                (Some((slot, x)), Some((s, at))) => slot == s && x + last.length == at,
                (None, None) => true,
                _ => false,
            }
        {
            last.length += 1;
        } else {
            pieces.push(Piece { to, length: 1, from });
        }
    }
}

impl<'h, T: Copy> Block<'h, T> {
    /// All voxels.
    #[must_use]
    pub fn voxels(&self) -> &'h [T] {
        self.voxels
    }

    /// Size of the buffer: the tile's shape and twice the halo.
    #[must_use]
    pub fn shape(&self) -> Extent {
        self.shape
    }

    /// Voxels around the tile, on either side along each axis.
    #[must_use]
    pub fn halo(&self) -> Extent {
        self.halo
    }

    /// The tile.
    #[must_use]
    pub fn tile(&self) -> TileCoord {
        self.tile
    }

    /// The voxels of the array that are the tile's: less than its shape at a far face.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }

    /// Places in the buffer between neighbours along x, y and z.
    #[must_use]
    pub fn strides(&self) -> [usize; 3] {
        [1, index(self.shape.x), index(self.shape.x * self.shape.y)]
    }

    /// The place of the tile's voxel (x, y, z) in the buffer, or `None` where that is outside the buffer.
    #[must_use]
    pub fn place(&self, [x, y, z]: [i64; 3]) -> Option<usize> {
        let along = |at: i64, halo: u64, size: u64| halo.checked_add_signed(at).filter(|&at| at < size);
        let x = along(x, self.halo.x, self.shape.x)?;
        let y = along(y, self.halo.y, self.shape.y)?;
        let z = along(z, self.halo.z, self.shape.z)?;
        Some(index(x + self.shape.x * (y + self.shape.y * z)))
    }

    /// The voxel there.
    #[must_use]
    pub fn get(&self, at: [i64; 3]) -> Option<T> {
        self.voxels.get(self.place(at)?).copied()
    }
}

/// Gathers each tile of a set with what lies around it and gives it to `work`, with all threads of rayon's current pool. The tiles and those around them are loaded in steps that the budget holds.
///
/// **Cost**: a request for each step, of tiles near each other; one buffer for each thread and step at least. A tile that many are near is loaded again where the budget does not hold all of them.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute::{self, Boundary}, source::Procedural};
///
/// // Voxels that are larger than the next one along x.
/// let pool = Pool::new(HostBackend::new(), 2 << 20)?;
/// let source = Procedural::new(Extent::cube(100), |c: Coord| (c.x % 10) as u8);
/// let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
/// let drops = AtomicU64::new(0);
/// compute::for_each_halo(&array, &compute::all(&array), Extent::new(1, 0, 0), Boundary::Clamp, |block| {
///     let inside = block.region().extent;
///     let mut found = 0;
///     for z in 0..inside.z as i64 {
///         for y in 0..inside.y as i64 {
///             for x in 0..inside.x as i64 {
///                 found += u64::from(block.get([x, y, z]) > block.get([x + 1, y, z]));
///             }
///         }
///     }
///     drops.fetch_add(found, Ordering::Relaxed);
/// })?;
/// assert_eq!(drops.into_inner(), 9 * 100 * 100);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// # Errors
/// As [`fold`](super::fold). [`ResidencyError::OverBudget`](crate::ResidencyError::OverBudget): the budget does not hold one tile and those around it.
pub fn for_each_halo<T: Voxel, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
    halo: impl Into<Extent>,
    boundary: Boundary<T>,
    work: impl Fn(&Block<'_, T>) + Sync,
) -> Result<(), Error> {
    let (layout, halo) = (array.layout(), halo.into());
    // One that is too large is refused before anything is loaded.
    let empty = Halo::new(layout, halo, boundary)?;
    each_near(array, tiles, halo, boundary, |step| {
        let gather = |buffer: &mut Halo<T>, &tile: &TileCoord| {
            let block = buffer.gather(&array.frame(), tile)?;
            work(&block);
            Ok(())
        };
        step.par_iter().try_for_each_init(|| empty.clone(), gather)
    })
}

/// Has the tiles worked on in steps, while they and what lies around them are held.
fn each_near<T: Voxel, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tiles: &TileSet,
    halo: Extent,
    boundary: Boundary<T>,
    mut work: impl FnMut(&[TileCoord]) -> Result<(), Error>,
) -> Result<(), Error> {
    in_memory_order(array.layout(), tiles, |tiles| {
        let tiles = near_each_other(tiles);
        let needs = |tile, pages: &mut Pages| need_near(array, tile, halo, boundary, pages);
        let hold = |step: &[TileCoord]| hold_near(array, step, halo, boundary);
        in_steps(&tiles, || room(array), needs, hold, &mut work)
    })
}

/// Counts the pages of a tile and of what lies around it.
pub(super) fn need_near<T: Voxel, B: HostAddressable>(
    array: &SparseArray3D<T, B>,
    tile: TileCoord,
    halo: Extent,
    boundary: Boundary<T>,
    pages: &mut Pages,
) {
    let mut around = Around::default();
    around.lay(array.layout(), tile, array.layout().tile_shape(), halo, boundary);
    around.tiles().for_each(|tile| pages.add(array, tile));
}

/// Holds tiles and what lies around them.
pub(super) fn hold_near<'a, T: Voxel, B: HostAddressable>(
    array: &'a SparseArray3D<T, B>,
    tiles: &[TileCoord],
    halo: Extent,
    boundary: Boundary<T>,
) -> Result<impl Sized + use<'a, T, B>, Error> {
    let layout = array.layout();
    let mut around = Around::default();
    let mut needed = Vec::new();
    for &tile in tiles {
        around.lay(layout, tile, layout.tile_shape(), halo, boundary);
        needed.extend(around.tiles().map(|tile| layout.tile_id_unchecked(tile)));
    }
    needed.sort_unstable();
    needed.dedup();
    array.hold(&needed)
}

/// Tiles in the order of a Z-curve: those near each other in the list are near each other, so that they have neighbours in common.
pub(super) fn near_each_other(tiles: &[TileCoord]) -> Vec<TileCoord> {
    let mut tiles = tiles.to_vec();
    tiles.sort_unstable_by(|a, b| {
        let differs = [a.z ^ b.z, a.y ^ b.y, a.x ^ b.x];
        let (a, b) = ([a.z, a.y, a.x], [b.z, b.y, b.x]);
        // The axis in which they differ in the highest bit decides.
        let first =
            (1..3).fold(
                0,
                |top, i| if differs[i].leading_zeros() < differs[top].leading_zeros() { i } else { top },
            );
        if differs[first] == 0 { Ordering::Equal } else { a[first].cmp(&b[first]) }
    });
    tiles
}
