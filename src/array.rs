//! Owns what users hold: [`SparseArray3D`], its builder, and [`Pins`]. Everything that happens to pages is the engine's business.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::{Backend, HostAddressable, HostBackend};
use crate::engine::{ArrayShared, Engine, Purpose, Report};
use crate::error::{Error, ResidencyError, SourceError};
use crate::geometry::{Coord, Extent, Region};
use crate::layout::{Layout, PageId, TileCoord, TileId};
use crate::pool::Pool;
use crate::source::TileSource;
use crate::view::ArrayFrame;
use crate::voxel::Voxel;

mod builder;
#[cfg(feature = "dlpack")]
mod dlpack;
#[cfg(all(test, not(vastgrid_loom)))]
mod drained;
mod fork;
mod hold;
mod prepare;
mod prune;
mod ranges;
mod region;
#[cfg(feature = "ndarray")]
mod tile_ndarray;
mod writer;
mod written;

pub use builder::ArrayBuilder;
pub use writer::Writer;

/// The most tiles that one call takes: lists of more, and what is noted of each, are no sensible thing to have.
const MOST_TILES: u64 = 1 << 26;

/// A 3-D array of `T` that is reserved in full and resident in part.
///
/// The whole extent has addresses; tiles get memory when they are asked for and lose it, least recently used first, when the pool's budget is needed for
/// others. `Send + Sync`: any thread may ask and read.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, source::Procedural};
///
/// // 2^40 voxels, a budget of 8 MiB.
/// let pool = Pool::new(HostBackend::new(), 8 << 20)?;
/// let source = Procedural::new(Extent::new(1 << 14, 1 << 13, 1 << 13), |c: Coord| (c.x ^ c.y ^ c.z) as u8);
/// let array = SparseArray3D::builder(&pool, source).build()?;
///
/// assert_eq!(array.get([9999, 1, 2])?, (9999 ^ 1 ^ 2) as u8);
/// assert!(pool.stats().used_bytes <= 8 << 20);
/// # Ok::<_, vastgrid::Error>(())
/// ```
pub struct SparseArray3D<T: Voxel, B: Backend = HostBackend> {
    handle: Arc<Handle<B>>,
    voxels: PhantomData<fn() -> T>,
}

/// Keeps an array in its pool. Knows no voxel type.
pub(crate) struct Handle<B: Backend> {
    engine: Arc<Engine<B>>,
    shared: Arc<ArrayShared<B>>,
}

impl<B: Backend> Handle<B> {
    pub(crate) fn shared(&self) -> &Arc<ArrayShared<B>> {
        &self.shared
    }
}

impl<B: Backend> Drop for Handle<B> {
    fn drop(&mut self) {
        self.engine.remove_array(&self.shared);
    }
}

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// Begins an array over `source` in `pool`.
    pub fn builder<S: TileSource<T> + 'static>(pool: &Pool<B>, source: S) -> ArrayBuilder<T, B, S> {
        ArrayBuilder::new(pool.clone(), source)
    }

    /// Size in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.layout().extent()
    }

    /// How the array lies in its reservation.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.shared().layout
    }

    /// First address of the reservation, on the host or on the device; 0 for backends without addresses.
    ///
    /// Voxel `c` lies at `base_address() + layout().voxel_offset_bytes(c)`. The address is valid for as long as the array lives; what lies there may be read only within a
    /// frame, and only where its tile is resident.
    #[must_use]
    pub fn base_address(&self) -> u64 {
        self.engine().backend.base_address(&self.shared().reservation)
    }

    /// Makes the tiles resident: those that are missing are loaded, in parallel.
    ///
    /// **Cost**: about two nanoseconds for a tile that is there. For the others one call of the source each, and the backend's mapping calls for each page.
    /// When this returns, the tiles are the last that would be evicted; they are sure to stay only while a frame that was opened before is open, or while pinned.
    ///
    /// # Errors
    /// [`ResidencyError::OutOfBounds`]; [`ResidencyError::OverBudget`] where the tiles' pages are larger than the budget; [`ResidencyError::NothingToEvict`] and
    /// [`ResidencyError::FramesOpen`] where nothing may be evicted; [`Error::Backend`]. Then the array is as before; on a backend that copies by itself (CUDA) a large request is made
    /// in batches, of which the one that failed is undone and earlier ones stay. Tiles that fail to load are no error here: see [`Report::failed`].
    #[doc(alias = "load")]
    #[doc(alias = "prefetch")]
    pub fn request(&self, tiles: &[TileCoord]) -> Result<Report, Error> {
        self.engine().request(self.shared(), &self.ids(tiles)?)
    }

    /// Makes every tile that the region touches resident.
    ///
    /// # Errors
    /// As [`SparseArray3D::request`]; [`ResidencyError::TooManyTiles`] for more than 2^26 of them. The region must lie inside the array.
    pub fn request_region(&self, region: Region) -> Result<Report, Error> {
        self.request(&self.tiles_in(region)?)
    }

    /// Makes as many of the tiles resident as the budget holds beside what is pinned, in the order given; the rest is counted in [`Report::left_out`].
    ///
    /// # Errors
    /// As [`SparseArray3D::request`], but for [`ResidencyError::OverBudget`].
    pub fn request_fitting(&self, tiles: &[TileCoord]) -> Result<Report, Error> {
        let ids = self.ids(tiles)?;
        let fitting = self.engine().fitting(self.shared(), &ids);
        let report = self.engine().request(self.shared(), &ids[..fitting])?;
        Ok(Report { left_out: (ids.len() - fitting) as u64, ..report })
    }

    /// Makes the tiles resident and forbids their eviction until the guard is dropped.
    ///
    /// # Errors
    /// As [`SparseArray3D::request`]; nothing is pinned then. Tiles that failed to load are in [`Pins::report`].
    #[doc(alias = "fix")]
    #[doc(alias = "lock")]
    pub fn pin(&self, tiles: &[TileCoord]) -> Result<Pins<B>, Error> {
        self.pin_for(&self.ids(tiles)?, Purpose::Read)
    }

    fn pin_for(&self, tiles: &[TileId], purpose: Purpose) -> Result<Pins<B>, Error> {
        let (pages, report) = self.engine().pin(self.shared(), tiles, purpose)?;
        Ok(Pins { handle: self.handle.clone(), pages, report })
    }

    /// Pins every tile that the region touches.
    ///
    /// # Errors
    /// As [`SparseArray3D::pin`]; [`ResidencyError::TooManyTiles`] for more than 2^26 of them.
    pub fn pin_region(&self, region: Region) -> Result<Pins<B>, Error> {
        self.pin(&self.tiles_in(region)?)
    }

    /// Evicts the pages that the region touches, as far as they are neither pinned nor hold what kernels wrote, and gives their memory back. Returns how many pages went.
    ///
    /// # Errors
    /// [`ResidencyError::OutOfBounds`], [`ResidencyError::FramesOpen`], [`Error::Backend`]: nothing was evicted then.
    pub fn evict(&self, region: Region) -> Result<u64, Error> {
        self.check_bounds(region)?;
        let mut pages: Vec<_> = self
            .engine()
            .resident_tiles(self.shared())
            .into_iter()
            .filter(|&t| self.layout().tile_region(t).intersection(&region).is_some())
            .map(|t| self.layout().page_of(self.layout().tile_id_unchecked(t)))
            .collect();
        pages.dedup();
        self.engine().evict(self.shared(), &pages)
    }

    /// Says that kernels wrote to these tiles, as far as they are resident: what they hold is written back before their memory goes, and [`SparseArray3D::read_region`] gives what was written. To
    /// be called before the frame ends in which they are written. Stores through `vastgrid.cuh` say so by themselves.
    ///
    /// # Errors
    /// [`ResidencyError::ReadOnly`], [`ResidencyError::OutOfBounds`].
    pub fn note_written(&self, tiles: &[TileCoord]) -> Result<(), Error> {
        let ids = self.writable_ids(tiles)?;
        self.engine().note_written(self.shared().id, &ids);
        Ok(())
    }

    /// Gives up what was written to these tiles: their pages may be evicted again, and they are loaded from the source the next time that they are asked for after that.
    /// Until then they show what was written. Kernels of earlier frames are waited for, however long they run.
    ///
    /// # Errors
    /// [`ResidencyError::ReadOnly`], [`ResidencyError::OutOfBounds`].
    pub fn discard_written(&self, tiles: &[TileCoord]) -> Result<(), Error> {
        let ids = self.writable_ids(tiles)?;
        self.engine().settle();
        self.engine().discard(self.shared(), &ids);
        self.shared().offsets.renew_identity();
        Ok(())
    }

    fn writable_ids(&self, tiles: &[TileCoord]) -> Result<Vec<TileId>, Error> {
        if !self.shared().is_writable() {
            return Err(ResidencyError::ReadOnly.into());
        }
        self.ids(tiles)
    }

    /// The tiles that are resident now, in memory order. Others may come and go while the list is read.
    #[must_use]
    pub fn resident_tiles(&self) -> Vec<TileCoord> {
        self.engine().resident_tiles(self.shared())
    }

    /// Whether the tile is resident now.
    #[must_use]
    pub fn is_resident(&self, tile: TileCoord) -> bool {
        self.layout().tile_id(tile).is_some_and(|id| self.shared().planes.is_resident(id))
    }

    /// Whether the tile can be read now: it is resident, or known to hold one value.
    pub(crate) fn is_readable(&self, tile: TileCoord) -> bool {
        let planes = &self.shared().planes;
        self.layout().tile_id(tile).is_some_and(|id| planes.is_resident(id) || planes.is_uniform(id))
    }

    /// Whether the tile is known to hold one value, and so has no memory. `false` for one outside.
    #[must_use]
    pub fn is_uniform(&self, tile: TileCoord) -> bool {
        self.layout().tile_id(tile).is_some_and(|id| self.shared().planes.is_uniform(id))
    }

    /// Bytes of the pool's budget that neither pins hold nor [writers](crate::Writer) between one write and the next.
    #[must_use]
    pub fn unpinned_budget(&self) -> u64 {
        self.engine().unpinned_budget()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle<B>> {
        &self.handle
    }

    pub(crate) fn engine(&self) -> &Arc<Engine<B>> {
        &self.handle.engine
    }

    pub(crate) fn shared(&self) -> &Arc<ArrayShared<B>> {
        &self.handle.shared
    }

    fn ids(&self, tiles: &[TileCoord]) -> Result<Vec<TileId>, Error> {
        let offsets = &self.shared().offsets;
        let mut ids = Vec::with_capacity(tiles.len());
        for &t in tiles {
            ids.push(offsets.tile_id(t).ok_or_else(|| no_such_tile(self.layout(), t))?);
        }
        Ok(ids)
    }

    fn check_bounds(&self, region: Region) -> Result<(), Error> {
        if region.is_within(self.extent()) {
            return Ok(());
        }
        Err(ResidencyError::OutOfBounds { region, extent: self.extent() }.into())
    }

    /// The tiles of a region.
    ///
    /// # Errors
    /// As [`SparseArray3D::check_tiles`].
    fn tiles_in(&self, region: Region) -> Result<Vec<TileCoord>, Error> {
        self.check_tiles(region)?;
        Ok(self.layout().tiles_in(region).collect())
    }

    /// # Errors
    /// [`ResidencyError::OutOfBounds`]; [`ResidencyError::TooManyTiles`].
    fn check_tiles(&self, region: Region) -> Result<(), Error> {
        self.check_bounds(region)?;
        let Some(end) = region.end().filter(|_| !region.is_empty()) else { return Ok(()) };
        let last = Coord::new(end.x - 1, end.y - 1, end.z - 1);
        let [first, last] = [region.start, last].map(|c| self.layout().tile_of(c));
        let across = |a: u64, b: u64| u128::from(b - a + 1);
        let tiles = across(first.x, last.x) * across(first.y, last.y) * across(first.z, last.z);
        if tiles > u128::from(MOST_TILES) {
            let tiles = u64::try_from(tiles).unwrap_or(u64::MAX);
            return Err(ResidencyError::TooManyTiles { region, tiles, most_tiles: MOST_TILES }.into());
        }
        Ok(())
    }
}

/// The error for a tile that an array of that layout does not have.
#[cold]
pub(crate) fn no_such_tile(layout: &Layout, t: TileCoord) -> Error {
    let shape = layout.tile_shape();
    let start =
        Coord::new(t.x.saturating_mul(shape.x), t.y.saturating_mul(shape.y), t.z.saturating_mul(shape.z));
    ResidencyError::OutOfBounds { region: Region::new(start, shape), extent: layout.extent() }.into()
}

impl<T: Voxel, B: HostAddressable> SparseArray3D<T, B> {
    /// Opens a frame of the array's pool and shows this array in it.
    ///
    /// **Cost**: tens of nanoseconds; no lock, no system call.
    #[must_use]
    pub fn frame(&self) -> ArrayFrame<'_, T, B> {
        ArrayFrame::new(self.engine(), self.shared())
    }

    /// One voxel, loaded if need be: a convenience that opens a frame for it.
    ///
    /// # Errors
    /// [`ResidencyError::OutOfBounds`], [`Error::Tile`] where the tile fails to load, and the errors of [`SparseArray3D::request`].
    pub fn get(&self, at: impl Into<Coord>) -> Result<T, Error> {
        let c = at.into();
        self.shared().check()?;
        if let Some(value) = self.frame().get(c) {
            return Ok(value);
        }
        let region = Region::new(c, Extent::cube(1));
        self.check_bounds(region)?;
        let tile = self.layout().tile_of(c);
        let held = self.engine().hold(self.shared(), &[self.layout().tile_id_unchecked(tile)])?;
        if let Some(failed) = held.report.failed.first() {
            return Err(Error::Tile { tile, error: failed.error.clone() });
        }
        self.frame().get(c).ok_or_else(|| {
            let error = SourceError::Other("the tile went although it was held".into());
            Error::Tile { tile, error: Arc::new(error) }
        })
    }
}

impl<T: Voxel, B: Backend> fmt::Debug for SparseArray3D<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SparseArray3D")
            .field("voxel", &std::any::type_name::<T>())
            .field("extent", &self.extent())
            .field("tile", &self.layout().tile_shape())
            .field("page_tiles", &self.layout().page_shape())
            .field("backend", &self.engine().backend.caps().name)
            .finish_non_exhaustive()
    }
}

/// Keeps tiles resident until it is dropped. Outlives frames, threads and the array's own handle.
#[must_use = "tiles stay pinned only while this lives"]
pub struct Pins<B: Backend> {
    handle: Arc<Handle<B>>,
    pages: Vec<PageId>,
    report: Report,
}

impl<B: Backend> Pins<B> {
    /// What became of the request.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The pins, if every tile loaded.
    ///
    /// # Errors
    /// [`Error::Tile`], the first failure; the pins are given up.
    pub fn complete(self) -> Result<Self, Error> {
        match self.report.failed.first() {
            None => Ok(self),
            Some(f) => Err(Error::Tile { tile: f.tile, error: f.error.clone() }),
        }
    }

    /// Bytes of the budget that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages.len() as u64 * self.handle.shared.layout.page_bytes()
    }
}

impl<B: Backend> Drop for Pins<B> {
    fn drop(&mut self) {
        self.handle.engine.unpin(&self.handle.shared, &self.pages);
    }
}

impl<B: Backend> fmt::Debug for Pins<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins")
            .field("pages", &self.pages.len())
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
