//! Owns writing to an array on the host: [`Writer`]. Which memory is written is the view's business, what becomes of it the engine's.

use std::collections::HashSet;
use std::fmt;

use rayon::prelude::*;

use crate::backend::{HostAddressable, HostBackend};
use crate::engine::Purpose;
use crate::error::{Error, ResidencyError};
use crate::geometry::{Coord, Extent, Region};
use crate::layout::{PageId, TileCoord, TileId};
use crate::planes::to_words;
use crate::view::Cells;
use crate::voxel::Voxel;

use super::SparseArray3D;
use super::region::{copy_into, first_failure};

/// The most that one step of a large write holds.
const STEP_BYTES: u64 = 64 << 20;

/// The most pages that one step holds: what is kept of each meanwhile is a good part of a page of 4 KiB.
const STEP_PAGES: u64 = 4096;

/// The most tiles that are told at once what they hold: others get their turn in between.
const FILL_TILES: usize = 1 << 14;

/// Writes to an array. There is one at a time, and nobody reads the array through a frame meanwhile: the borrow says so.
///
/// Tiles get memory when they are first written to, with their source's contents, and stay in memory while the writer holds them: it holds those that it was at last, up to half of the budget
/// that neither pins nor other writers hold, and lets go of them when it is dropped ([`Writer::let_go`]: before). What was written is kept from then on: where its memory is wanted for others it goes to the array's scratch store first
/// ([`ArrayBuilder::writable`](crate::ArrayBuilder::writable)).
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Fill};
///
/// // 2^40 voxels, none of which takes memory, in a budget of 4 MiB.
/// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
/// let extent = Extent::new(1 << 14, 1 << 13, 1 << 13);
/// let mut array = SparseArray3D::builder(&pool, Fill::new(extent, 0.0f32)).tile([32, 32, 32]).writable().build()?;
///
/// let mut writer = array.writer()?;
/// for i in 0..1000 {
///     writer.set([16 * i, 8 * i, 8 * i], 1.0)?; // far more tiles than the budget holds
/// }
/// drop(writer);
///
/// assert_eq!(array.get([16, 8, 8])?, 1.0);
/// assert!(pool.stats().used_bytes <= 4 << 20);
/// # Ok::<_, vastgrid::Error>(())
/// ```
///
/// While there is a writer nobody reads:
///
/// ```compile_fail,E0502
/// # use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, source::Fill};
/// # let pool = Pool::new(HostBackend::new(), 4 << 20)?;
/// # let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(64), 0u8)).writable().build()?;
/// let view = array.frame();
/// array.writer()?.set([0, 0, 0], 1)?;
/// assert_eq!(view.get([0, 0, 0]), Some(0));
/// # Ok::<_, vastgrid::Error>(())
/// ```
pub struct Writer<'a, T: Voxel, B: HostAddressable = HostBackend> {
    array: &'a SparseArray3D<T, B>,
    cells: Cells<'a, T>,
    /// Tiles that are open, and the pages that are held for them, each once.
    open: Vec<TileId>,
    held: HashSet<PageId>,
}

impl<T: Voxel, B: HostAddressable> SparseArray3D<T, B> {
    /// Begins to write.
    ///
    /// **Cost**: next to nothing; no system call.
    ///
    /// # Errors
    /// [`ResidencyError::ReadOnly`]: the array was not built as writable. [`ResidencyError::Poisoned`].
    pub fn writer(&mut self) -> Result<Writer<'_, T, B>, Error> {
        if !self.shared().is_writable() {
            return Err(ResidencyError::ReadOnly.into());
        }
        self.shared().check()?;
        // What pictures found out about its voxels is found by that.
        self.shared().offsets.renew_identity();
        let cells = Cells::of(self.engine(), self.shared());
        Ok(Writer { array: self, cells, open: Vec::new(), held: HashSet::new() })
    }
}

impl<T: Voxel, B: HostAddressable> Writer<'_, T, B> {
    /// The array, for its layout and its lists of tiles.
    #[must_use]
    pub fn array(&self) -> &SparseArray3D<T, B> {
        self.array
    }

    /// Writes one voxel.
    ///
    /// **Cost**: a few nanoseconds in a tile that the writer holds; else that of a request for the tile.
    ///
    /// # Errors
    /// As [`Writer::tile`].
    #[inline]
    pub fn set(&mut self, at: impl Into<Coord>, value: T) -> Result<(), Error> {
        *self.voxel(at)? = value;
        Ok(())
    }

    /// One voxel, to be read and written.
    ///
    /// **Cost**: as [`Writer::set`].
    ///
    /// # Errors
    /// As [`Writer::tile`].
    #[inline]
    pub fn voxel(&mut self, at: impl Into<Coord>) -> Result<&mut T, Error> {
        let at = at.into();
        if self.cells.voxel(at).is_none() {
            self.open_at(at)?;
        }
        let array = self.array;
        self.cells.voxel(at).ok_or_else(|| outside(array.extent(), at))
    }

    #[cold]
    fn open_at(&mut self, at: Coord) -> Result<(), Error> {
        if !self.array.extent().contains(at) {
            return Err(outside(self.array.extent(), at));
        }
        let layout = self.array.layout();
        self.open(&[layout.tile_id_unchecked(layout.tile_of(at))], Purpose::Write)
    }

    /// The voxels of one tile, x fastest, to be read and written. What of it lies past the array's far faces is nobody's.
    ///
    /// # Errors
    /// [`ResidencyError::OutOfBounds`], [`Error::Tile`] where the tile cannot be loaded, [`Error::WriteBack`] where another had to be written back for it and could not, and the other errors of
    /// [`SparseArray3D::request`]. Nothing that was written is lost then.
    pub fn tile(&mut self, tile: TileCoord) -> Result<&mut [T], Error> {
        let id = self.array.ids(&[tile])?;
        self.open(&id, Purpose::Write)?;
        self.cells.tile(id[0]).ok_or_else(|| super::no_such_tile(self.array.layout(), tile))
    }

    /// The voxels of several tiles, as far as the budget holds them at once, in the order given.
    ///
    /// Two references to one tile cannot be had:
    ///
    /// ```compile_fail,E0499
    /// # use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Fill};
    /// # let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// # let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(64), 0u8)).writable().build()?;
    /// let mut writer = array.writer()?;
    /// let one = writer.tile(TileCoord::new(0, 0, 0))?;
    /// let same = writer.tile(TileCoord::new(0, 0, 0))?;
    /// one[0] = same[0];
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Writer::tile`]. [`ResidencyError::Twice`]: a tile was named twice. [`ResidencyError::OverBudget`]: they are too many.
    pub fn tiles(&mut self, tiles: &[TileCoord]) -> Result<Vec<&mut [T]>, Error> {
        let ids = self.array.ids(tiles)?;
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let tile = self.array.layout().tile_coord(pair[0]).unwrap_or_default();
            return Err(ResidencyError::Twice { tile }.into());
        }
        self.open(&ids, Purpose::Write)?;
        let layout = self.array.layout();
        let slices = self.cells.tiles(&ids).into_iter().zip(tiles);
        slices.map(|(slice, &tile)| slice.ok_or_else(|| super::no_such_tile(layout, tile))).collect()
    }

    /// Has all threads of rayon's current pool write to tiles, each to tiles of its own, in steps that the budget holds. A tile that is named twice is given once.
    ///
    /// **Cost**: a request for each step; tiles that are missing are loaded in parallel.
    ///
    /// ```
    /// # use vastgrid::{Extent, HostBackend, Pool, Region, SparseArray3D, source::Fill};
    /// # let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// # let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(256), 0u16)).writable().build()?;
    /// let mut writer = array.writer()?;
    /// let tiles: Vec<_> = writer.array().layout().tiles_in(Region::whole(Extent::cube(256))).collect();
    /// writer.for_each_tile(&tiles, |tile, voxels| voxels.fill(tile.x as u16))?;
    /// # drop(writer);
    /// # assert_eq!(array.get([255, 0, 0])?, (255 / array.layout().tile_shape().x) as u16);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Writer::tile`]. Tiles of the steps before it have been given to `write` then, the others not.
    ///
    /// # Panics
    /// Where `write` does; other tiles of its step may or may not have been written then. Nothing is poisoned.
    pub fn for_each_tile(
        &mut self,
        tiles: &[TileCoord],
        write: impl Fn(TileCoord, &mut [T]) + Sync,
    ) -> Result<(), Error> {
        let mut ids = self.array.ids(tiles)?;
        ids.sort_unstable();
        ids.dedup();
        let layout = self.array.layout();
        for step in self.steps(&ids) {
            self.open(step, Purpose::Write)?;
            let all: Vec<_> = self.cells.tiles(step).into_iter().zip(step).collect();
            all.into_par_iter().with_max_len(1).for_each(|(voxels, &id)| {
                if let (Some(voxels), Some(tile)) = (voxels, layout.tile_coord(id)) {
                    write(tile, voxels);
                }
            });
        }
        Ok(())
    }

    /// Writes a box from a dense buffer, however small the budget.
    ///
    /// **Shape**: `voxels` are the region's, densely, x fastest, then y, then z.
    ///
    /// **Cost**: tiles that lie in the region are not loaded first; every voxel is copied once.
    ///
    /// # Errors
    /// [`ResidencyError::OutOfBounds`], [`ResidencyError::TooManyTiles`] for more than 2^26 of them, [`ResidencyError::BufferLength`], and as [`Writer::tile`]: a part of the region may have been written then.
    pub fn write_region(&mut self, region: Region, voxels: &[T]) -> Result<(), Error> {
        self.array.check_bounds(region)?;
        let expected_voxels = region.extent.checked_volume().unwrap_or(u64::MAX);
        let actual_voxels = voxels.len() as u64;
        if expected_voxels != actual_voxels {
            return Err(ResidencyError::BufferLength { expected_voxels, actual_voxels }.into());
        }
        self.each_part(region, |shape, part, tile| copy_into(shape, tile, part, region, voxels))
    }

    /// Writes one value everywhere in a box. Tiles that lie in it as a whole need no memory: they give up what they have, and are known to hold that value.
    ///
    /// **Cost**: outside the budget, 90 to 140 bytes in tables and bits for each tile that lies in it as a whole (as the process grows, at 2^18 to 2^21 tiles of a value of up to 8 bytes); writes to those that lie in it in part.
    /// Where an array is to hold one value nearly everywhere, a source that says so ([`Fill`](crate::source::Fill)) costs nothing.
    ///
    /// # Errors
    /// As [`Writer::write_region`].
    pub fn fill(&mut self, region: Region, value: T) -> Result<(), Error> {
        self.array.check_tiles(region)?;
        let layout = self.array.layout();
        let mut whole = Vec::new();
        for tile in layout.tiles_in(region) {
            if layout.tile_region(tile).intersection(&region) == Some(layout.tile_region(tile)) {
                whole.push(layout.tile_id_unchecked(tile));
                if whole.len() == FILL_TILES {
                    self.fill_whole(&mut whole, value)?;
                }
            } else if let Some(part) = layout.tile_region(tile).intersection(&region) {
                let shape = layout.tile_shape();
                self.open(&[layout.tile_id_unchecked(tile)], Purpose::Write)?;
                if let Some(voxels) = self.cells.tile(layout.tile_id_unchecked(tile)) {
                    super::region::rows(shape, part).for_each(|row| voxels[row].fill(value));
                }
            }
        }
        self.fill_whole(&mut whole, value)
    }

    /// Has whole tiles hold one value, and takes them off the list.
    fn fill_whole(&mut self, tiles: &mut Vec<TileId>, value: T) -> Result<(), Error> {
        self.let_go();
        self.array.engine().fill(self.array.shared(), tiles, to_words(value))?;
        tiles.clear();
        Ok(())
    }

    /// Lets go of all tiles that are held: their memory may be wanted by others.
    pub fn let_go(&mut self) {
        self.cells.close();
        for tile in self.open.drain(..) {
            self.array.shared().planes.set_open(tile, false);
        }
        if !self.held.is_empty() {
            let pages: Vec<_> = self.held.drain().collect();
            self.array.engine().keep_open_no_more(pages.len() as u64 * self.array.layout().page_bytes());
            self.array.engine().release_pages(self.array.shared(), &pages);
        }
    }

    /// Gives the part of the region in each of its tiles to `write`, with the tile's shape and voxels.
    fn each_part(
        &mut self,
        region: Region,
        write: impl Fn(Extent, Region, &mut [T]) + Sync,
    ) -> Result<(), Error> {
        let layout = self.array.layout();
        let shape = layout.tile_shape();
        let mut whole = Vec::new();
        let mut cut = Vec::new();
        for tile in self.array.tiles_in(region)? {
            let id = layout.tile_id_unchecked(tile);
            // What lies past the array's far faces would not be written.
            let all = Region::new(layout.tile_region(tile).start, shape);
            let is_whole = all.intersection(&region) == Some(all);
            if is_whole { whole.push(id) } else { cut.push(id) }
        }
        for (mut tiles, purpose) in [(whole, Purpose::Overwrite), (cut, Purpose::Write)] {
            tiles.sort_unstable();
            for step in self.steps(&tiles) {
                self.open(step, purpose)?;
                let all: Vec<_> = self.cells.tiles(step).into_iter().zip(step).collect();
                all.into_par_iter().with_max_len(1).for_each(|(voxels, &id)| {
                    let part =
                        layout.tile_coord(id).and_then(|tile| layout.tile_region(tile).intersection(&region));
                    if let (Some(voxels), Some(part)) = (voxels, part) {
                        write(shape, part, voxels);
                    }
                });
            }
        }
        Ok(())
    }

    /// Cuts tiles in memory order into steps that the budget holds.
    fn steps<'t>(&self, tiles: &'t [TileId]) -> impl Iterator<Item = &'t [TileId]> + use<'t, T, B> {
        let (layout, most) = (self.array.layout().clone(), self.most_pages());
        let mut left = tiles;
        std::iter::from_fn(move || {
            if left.is_empty() {
                return None;
            }
            let pages = left.chunk_by(|a, b| layout.page_of(*a) == layout.page_of(*b));
            let length = pages.take(most).map(<[_]>::len).sum();
            let (step, rest) = left.split_at(length);
            left = rest;
            Some(step)
        })
    }

    /// How many pages are held at a time, but where more are asked for at once.
    fn most_pages(&self) -> usize {
        let page_bytes = self.array.layout().page_bytes();
        let own = self.held.len() as u64 * page_bytes;
        let unpinned = self.array.engine().unpinned_budget() + own;
        let bytes = (unpinned / 2).min(STEP_BYTES);
        usize::try_from((bytes / page_bytes).clamp(1, STEP_PAGES)).unwrap_or(usize::MAX)
    }

    /// Makes tiles resident, holds them, and lets them be written to.
    fn open(&mut self, tiles: &[TileId], purpose: Purpose) -> Result<(), Error> {
        let (engine, shared) = (self.array.engine(), self.array.shared());
        let planes = &shared.planes;
        let mut closed: Vec<_> = tiles.iter().copied().filter(|&tile| !planes.is_open(tile)).collect();
        if closed.is_empty() {
            return Ok(());
        }
        let layout = self.array.layout();
        let pages: HashSet<_> = closed.iter().map(|&tile| layout.page_of(tile)).collect();
        if !self.held.is_empty() && self.held.len() + pages.len() > self.most_pages() {
            self.let_go();
            closed = tiles.to_vec();
        }
        closed.sort_unstable();
        closed.dedup();
        let held = if self.held.is_empty() {
            engine.hold_for(shared, &closed, purpose)?
        } else {
            match engine.hold_at_once(shared, &closed, purpose) {
                // What this holds itself may be what is in the way: only without it is anything waited for.
                Err(Error::Residency(_)) => {
                    self.let_go();
                    closed = tiles.to_vec();
                    closed.sort_unstable();
                    closed.dedup();
                    engine.hold_for(shared, &closed, purpose)?
                }
                held => held?,
            }
        };
        first_failure(&held.report)?;
        for page in held.keep() {
            if self.held.insert(page) {
                engine.keep_open(layout.page_bytes());
            } else {
                engine.release_pages(shared, &[page]);
            }
        }
        for tile in closed {
            shared.planes.set_open(tile, true);
            self.open.push(tile);
        }
        Ok(())
    }
}

#[cold]
fn outside(extent: Extent, at: Coord) -> Error {
    ResidencyError::OutOfBounds { region: Region::new(at, Extent::cube(1)), extent }.into()
}

impl<T: Voxel, B: HostAddressable> Drop for Writer<'_, T, B> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<T: Voxel, B: HostAddressable> fmt::Debug for Writer<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("extent", &self.array.extent())
            .field("tiles", &self.open.len())
            .finish_non_exhaustive()
    }
}
