//! Owns typed reads of resident memory: [`View`], [`Accessor`]. Every unchecked read of an array is in this folder; who may be read when is the engine's business.
//!
//! A read is: which tile (shifts), is its bit set (one load), where in the reservation (shifts and adds), load.
#![expect(unsafe_code, reason = "reads of memory whose tile's bit was seen set, within a frame")]

use crate::sync::{AtomicU64, Ordering};
use std::fmt;
use std::marker::PhantomData;

use crate::geometry::{Coord, Extent};
use crate::layout::{Layout, TileCoord, TileId};
use crate::offsets::AxisOffsets;
use crate::planes::{GROUP_WORDS, Planes, cell_shape};
use crate::voxel::{Scalar, Voxel};

mod accessor;
mod corners;
#[cfg(feature = "dlpack")]
pub mod dlpack;
mod each;
mod frame;
#[cfg(feature = "render")]
pub(crate) mod kernels;
mod sum;
#[cfg(feature = "ndarray")]
mod tile_ndarray;
mod trilinear;
mod write;

pub use accessor::Accessor;
pub use frame::ArrayFrame;
pub(crate) use sum::sum_of;
#[cfg(feature = "ndarray")]
pub(crate) use tile_ndarray::tile_shape;
pub(crate) use write::Cells;

/// What an open frame shows of one array: flat memory behind one bit test per tile.
///
/// Made by [`Frame::view`](crate::Frame::view) and [`SparseArray3D::frame`](crate::SparseArray3D::frame). Shared by reference between threads.
///
/// ```
/// use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, TileCoord, source::Procedural};
///
/// let pool = Pool::new(HostBackend::new(), 16 << 20)?;
/// let source = Procedural::new(Extent::cube(512), |c: Coord| (c.x + c.y) as u16);
/// let array = SparseArray3D::builder(&pool, source).build()?;
/// array.request(&[TileCoord::new(0, 0, 0)])?.complete()?;
///
/// let view = array.frame();
/// assert_eq!(view.get([3, 4, 5]), Some(7));
/// assert_eq!(view.get([500, 0, 0]), None, "not asked for, so not there");
/// # Ok::<_, vastgrid::Error>(())
/// ```
pub struct View<'f, T> {
    base: *const T,
    bits: *const AtomicU64,
    tables: [&'f [u64]; 3],
    /// The tables without their last entries.
    before_last: [&'f [u64]; 3],
    tile_voxels_log2: u32,
    /// Edges of a tile, less one.
    last: [u64; 3],
    /// Voxels between neighbours along y and z in one tile.
    row: usize,
    plane: usize,
    offsets: &'f AxisOffsets,
    layout: &'f Layout,
    planes: &'f Planes,
    reads: PhantomData<&'f [T]>,
}

// SAFETY: a view only reads, and what it reads does not change while its frame is open.
unsafe impl<T: Voxel> Send for View<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Voxel> Sync for View<'_, T> {}

/// What a frame shows of one tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tile<'v, T> {
    /// Its voxels: the whole tile, densely, x fastest. Past the far faces of the array a tile holds the fill value.
    Resident(&'v [T]),
    /// Every voxel of it holds this value.
    Uniform(T),
    /// It is not there: it was not asked for, was evicted, failed to load, or lies outside the array.
    Missing,
}

impl<'f, T: Voxel> View<'f, T> {
    /// # Safety
    /// `base` is the address at which the array of `layout`, `offsets` and `planes` begins, aligned for `T`; for as long as `'f` lives, memory of tiles whose
    /// resident bit is seen set is readable, holds valid `T`s and does not change.
    unsafe fn new(base: *const T, layout: &'f Layout, offsets: &'f AxisOffsets, planes: &'f Planes) -> Self {
        let shape = layout.tile_shape();
        Self {
            base,
            bits: planes.bits().as_ptr(),
            tables: offsets.tables(),
            before_last: offsets.tables().map(|table| &table[..table.len().saturating_sub(1)]),
            tile_voxels_log2: layout.tile_voxels_log2(),
            last: shape.to_array().map(|edge| edge - 1),
            row: index(shape.x),
            plane: index(shape.x * shape.y),
            offsets,
            layout,
            planes,
            reads: PhantomData,
        }
    }

    /// How the array lies in memory.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.layout
    }

    /// Size of the array in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.layout.extent()
    }

    /// The voxel at `[x, y, z]`, or `None` where its tile is not there or the position is outside the array.
    ///
    /// A tile that nobody asked for since the frame began may become invisible in the middle of it, and visible again: its memory stays, but another request wants
    /// it next. To be sure of tiles, ask for them within the frame, or pin them.
    ///
    /// **Cost**: about a nanosecond plus the cache misses of the voxel and of its bit; no system call.
    #[must_use]
    #[inline(always)]
    pub fn get(&self, at: impl Into<Coord>) -> Option<T> {
        let flat = self.flat(at.into())?;
        let slot = flat >> self.tile_voxels_log2;
        // SAFETY: `flat` is a voxel of the array, so `slot` is one of its tiles.
        if unsafe { self.is_resident(slot) } {
            // SAFETY: the tile's bit was seen set.
            Some(unsafe { self.read(flat) })
        } else {
            self.uniform(slot)
        }
    }

    /// A number that no other array of this process has.
    #[cfg(feature = "render")]
    pub(crate) fn identity(&self) -> u64 {
        self.offsets.identity()
    }

    /// A reader that remembers the tile it read last: for loops that stay near.
    #[must_use]
    pub fn accessor(&self) -> Accessor<'_, T> {
        Accessor::new(self)
    }

    /// One tile.
    ///
    /// **Cost**: one bit test; the slice is the array's own memory.
    #[must_use]
    #[inline]
    pub fn tile(&self, t: TileCoord) -> Tile<'_, T> {
        let Some(id) = self.offsets.tile_id(t) else { return Tile::Missing };
        // SAFETY: `id` is a tile of the array.
        if unsafe { self.is_resident(id.0) } {
            // SAFETY: the tile's bit was seen set.
            Tile::Resident(unsafe { self.tile_slice(id.0) })
        } else {
            self.uniform(id.0).map_or(Tile::Missing, Tile::Uniform)
        }
    }

    /// Whether the tile can be read: it is resident or uniform.
    #[must_use]
    pub fn is_readable(&self, t: TileCoord) -> bool {
        self.offsets.tile_id(t).is_some_and(|id| self.planes.is_resident(id) || self.planes.is_uniform(id))
    }

    /// The flat position of a voxel, or `None` outside the array.
    #[inline(always)]
    fn flat(&self, c: Coord) -> Option<u64> {
        let [x, y, z] = self.tables;
        match (x.get(index(c.x)), y.get(index(c.y)), z.get(index(c.z))) {
            (Some(x), Some(y), Some(z)) => Some(x + y + z),
            _ => self.offsets.far(c),
        }
    }

    /// # Safety
    /// `slot` is a tile of the array.
    #[inline(always)]
    unsafe fn is_resident(&self, slot: u64) -> bool {
        // SAFETY: the plane has a group of words for every 64 tiles of the array.
        let word = unsafe { self.bits.add(index((slot >> 6) * GROUP_WORDS)) };
        // SAFETY: the plane outlives `'f`.
        let word = unsafe { &*word };
        word.load(Ordering::Acquire) >> (slot & 63) & 1 == 1
    }

    /// # Safety
    /// `at` is a voxel of a tile whose bit was seen set.
    #[inline(always)]
    unsafe fn read(&self, at: u64) -> T {
        // SAFETY: the offset stays inside the reservation.
        let voxel = unsafe { self.base.add(index(at)) };
        // SAFETY: `new` promises that the memory of such a tile is readable and valid.
        unsafe { *voxel }
    }

    /// # Safety
    /// `slot` is a tile whose bit was seen set.
    #[inline(always)]
    unsafe fn tile_slice(&self, slot: u64) -> &[T] {
        // SAFETY: the offset stays inside the reservation.
        let first = unsafe { self.base.add(index(slot << self.tile_voxels_log2)) };
        // SAFETY: `new` promises that the whole tile is readable, valid and constant.
        unsafe { std::slice::from_raw_parts(first, 1 << self.tile_voxels_log2) }
    }

    #[inline]
    fn uniform(&self, slot: u64) -> Option<T> {
        self.planes.is_uniform(TileId(slot)).then(|| self.planes.uniform_value(TileId(slot)))
    }
}

impl<T: Scalar> View<'_, T> {
    /// Shape of the cells that [`View::cell_range`] speaks of, in voxels: it divides the tile.
    #[must_use]
    pub fn cell_shape(&self) -> Extent {
        cell_shape(self.layout)
    }

    /// Smallest and largest value of a cell of a tile (cells counted x fastest), over the cell's voxels inside the array; `None` where it is not known.
    ///
    /// Known for uniform tiles, and, in an array built with [`track_ranges`](crate::ArrayBuilder::track_ranges), for tiles that were loaded once, even if
    /// they were evicted since, and where the source knows more ([`TileSource::ranges`](crate::TileSource::ranges)): then the cell's values lie in the range, which may be wider. NaNs are left out: a cell of nothing but NaNs, or without any voxel of the array, has a range from infinity down to minus infinity.
    #[must_use]
    pub fn cell_range(&self, t: TileCoord, cell: usize) -> Option<(f32, f32)> {
        let id = self.layout.tile_id(t)?;
        if let Some(value) = self.uniform(id.0) {
            let value = value.to_f32();
            return Some(if value.is_nan() { (f32::INFINITY, f32::NEG_INFINITY) } else { (value, value) });
        }
        self.planes.ranges()?.of_cell(self.layout, (t, id), cell)
    }
}

impl<T> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("base", &self.base)
            .field("extent", &self.layout.extent())
            .finish_non_exhaustive()
    }
}

/// An offset as an index.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "64-bit targets are the only ones")]
fn index(i: u64) -> usize {
    i as usize
}

/// Has the line of an address brought to the caches.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing that anybody could tell, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    let _ = at;
}
