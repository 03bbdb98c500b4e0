//! Owns the translation voxel -> tile -> page -> byte. The only place that knows it; knows nothing of what is resident.
//!
//! A tile is a box of 2^a x 2^b x 2^c voxels, contiguous in memory with x fastest. A page is a box of 2^k tiles, contiguous too. Pages
//! follow each other in row-major order, and a [`TileId`] counts tiles *in memory order*, so that
//!
//! ```text
//! byte offset of a voxel = tile id * tile bytes + position in the tile * voxel bytes
//! page of a tile         = tile id >> log2(tiles in a page)
//! ```
//!
//! Tiles at the far faces of an extent that is no multiple of the tile are whole in memory; what lies outside holds the fill value.

use crate::error::LayoutError;
use crate::geometry::{Coord, Extent, Region};

mod divisor;
mod shapes;

use divisor::Divisor;
pub use shapes::LayoutSpec;
use shapes::{Shapes, unshift};

/// A tile, counted in memory order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[doc(alias = "chunk")]
#[doc(alias = "brick")]
pub struct TileId(pub u64);

/// A page, counted in memory order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PageId(pub u64);

/// A position counted in tiles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default)]
#[doc(alias = "chunk index")]
pub struct TileCoord {
    /// Tiles along the fastest axis.
    pub x: u64,
    /// Tiles along the middle axis.
    pub y: u64,
    /// Tiles along the slowest axis.
    pub z: u64,
}

impl TileCoord {
    /// The tile position (x, y, z).
    #[must_use]
    pub const fn new(x: u64, y: u64, z: u64) -> Self {
        Self { x, y, z }
    }
}

impl std::fmt::Display for TileCoord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tile ({}, {}, {})", self.x, self.y, self.z)
    }
}

/// The most address space that an array may take: 2^46 bytes, what both Linux on x86-64 and a CUDA device grant one reservation.
///
/// **Source**: measured; `mmap` of 2^47 bytes fails in a 47-bit user address space, and so does `cuMemAddressReserve`.
pub const MAX_RESERVED_BYTES: u64 = 1 << 46;

/// One axis: how a voxel position contributes to the flat position. All three contributions are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// log2 of the tile's edge.
    pub(crate) tile_shift: u32,
    /// log2 of the page's edge in tiles.
    pub(crate) page_shift: u32,
    /// Where the position in the tile goes: a left shift, in voxels.
    pub(crate) voxel_shift: u32,
    /// Where the tile's position in the page goes: a left shift, in tiles.
    pub(crate) slot_shift: u32,
    /// Tiles between pages that are neighbours along this axis.
    pub(crate) page_stride_tiles: u64,
}

impl Axis {
    /// Position within the tile, in its place.
    #[inline(always)]
    pub(crate) const fn within(&self, v: u64) -> u64 {
        (v & ((1 << self.tile_shift) - 1)) << self.voxel_shift
    }

    /// This axis' part of the tile id, from a position in tiles.
    #[inline(always)]
    pub(crate) const fn slot(&self, t: u64) -> u64 {
        ((t & ((1 << self.page_shift) - 1)) << self.slot_shift)
            + (t >> self.page_shift) * self.page_stride_tiles
    }
}

/// How an array lies in its reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    extent: Extent,
    tiles: Extent,
    pages: Extent,
    /// How many pages a row has, and how many rows a plane.
    row_pages: Divisor,
    plane_rows: Divisor,
    axes: [Axis; 3],
    voxel_shift: u32,
    tile_shift: u32,
    page_shift: u32,
}

impl Layout {
    /// Lays `extent` voxels of `voxel_bytes` each out in tiles and pages.
    ///
    /// Where the tile is not given it takes up to `default_tile_bytes`; where neither page nor its size is given a page is one tile, or as many
    /// as it takes to reach `granularity_bytes`.
    ///
    /// # Errors
    /// [`LayoutError`]: an empty or overflowing extent, shapes that are no powers of two, a page that is no multiple of the granularity, or an
    /// array beyond [`MAX_RESERVED_BYTES`].
    pub fn new(
        extent: Extent,
        voxel_bytes: usize,
        spec: LayoutSpec,
        granularity_bytes: u64,
        default_tile_bytes: u64,
    ) -> Result<Self, LayoutError> {
        let Shapes { voxel_shift, tile, page } =
            Shapes::choose(extent, voxel_bytes, spec, granularity_bytes, default_tile_bytes)?;
        Self::from_shifts(extent, voxel_shift, tile, page)
    }

    fn from_shifts(extent: Extent, voxel_shift: u32, t: [u32; 3], p: [u32; 3]) -> Result<Self, LayoutError> {
        let tile_shift: u32 = t.iter().sum();
        let page_shift: u32 = p.iter().sum();
        let tiles = tile_counts(extent, t);
        let pages = tile_counts(tiles, p);
        let too_large = || LayoutError::BeyondAddressSpace { extent, max_bytes: MAX_RESERVED_BYTES };
        let page_count = pages.checked_volume().ok_or_else(too_large)?;
        let page_bytes = 1u64 << (page_shift + tile_shift + voxel_shift);
        let bytes = page_count.checked_mul(page_bytes).ok_or_else(too_large)?;
        if bytes > MAX_RESERVED_BYTES {
            return Err(too_large());
        }
        let axis = |i: usize, voxel_shift, slot_shift, page_stride: u64| Axis {
            tile_shift: t[i],
            page_shift: p[i],
            voxel_shift,
            slot_shift,
            page_stride_tiles: page_stride << page_shift,
        };
        let axes = [
            axis(0, 0, 0, 1),
            axis(1, t[0], p[0], pages.x),
            axis(2, t[0] + t[1], p[0] + p[1], pages.x * pages.y),
        ];
        let row_pages = Divisor::new(pages.x, page_count);
        let plane_rows = Divisor::new(pages.y, page_count);
        Ok(Self { extent, tiles, pages, row_pages, plane_rows, axes, voxel_shift, tile_shift, page_shift })
    }

    /// Size of the array in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Shape of a tile in voxels.
    #[must_use]
    #[inline]
    pub fn tile_shape(&self) -> Extent {
        unshift([self.axes[0].tile_shift, self.axes[1].tile_shift, self.axes[2].tile_shift])
    }

    /// Shape of a page in tiles.
    #[must_use]
    pub fn page_shape(&self) -> Extent {
        unshift([self.axes[0].page_shift, self.axes[1].page_shift, self.axes[2].page_shift])
    }

    /// Tiles along each axis that hold voxels of the array.
    #[must_use]
    pub fn tiles(&self) -> Extent {
        self.tiles
    }

    /// Pages along each axis.
    #[must_use]
    pub fn pages(&self) -> Extent {
        self.pages
    }

    /// Number of pages.
    #[must_use]
    #[inline]
    pub fn page_count(&self) -> u64 {
        self.pages.x * self.pages.y * self.pages.z
    }

    /// Number of tile ids: pages times tiles in a page. At the far faces some ids stand for tiles that hold no voxel of the array.
    #[must_use]
    pub fn tile_slots(&self) -> u64 {
        self.page_count() << self.page_shift
    }

    /// Tiles in a page.
    #[must_use]
    pub fn tiles_per_page(&self) -> u64 {
        1 << self.page_shift
    }

    /// Voxels in a tile.
    #[must_use]
    pub fn tile_voxels(&self) -> u64 {
        1 << self.tile_shift
    }

    /// Bytes of a voxel.
    #[must_use]
    pub fn voxel_bytes(&self) -> u64 {
        1 << self.voxel_shift
    }

    /// Bytes of a tile.
    #[must_use]
    #[inline]
    pub fn tile_bytes(&self) -> u64 {
        1 << (self.tile_shift + self.voxel_shift)
    }

    /// Bytes of a page.
    #[must_use]
    #[inline]
    pub fn page_bytes(&self) -> u64 {
        1 << (self.page_shift + self.tile_shift + self.voxel_shift)
    }

    /// Bytes of address space that the array takes.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.page_count() * self.page_bytes()
    }

    /// The tile that holds voxel `c`, wherever it lies.
    #[must_use]
    #[inline]
    pub fn tile_of(&self, c: Coord) -> TileCoord {
        TileCoord {
            x: c.x >> self.axes[0].tile_shift,
            y: c.y >> self.axes[1].tile_shift,
            z: c.z >> self.axes[2].tile_shift,
        }
    }

    /// Whether the tile holds voxels of the array.
    #[must_use]
    #[inline]
    pub fn contains_tile(&self, t: TileCoord) -> bool {
        t.x < self.tiles.x && t.y < self.tiles.y && t.z < self.tiles.z
    }

    /// The tile's place in memory order, or `None` where the array has no such tile.
    #[must_use]
    #[inline]
    pub fn tile_id(&self, t: TileCoord) -> Option<TileId> {
        self.contains_tile(t).then(|| self.tile_id_unchecked(t))
    }

    #[inline(always)]
    pub(crate) fn tile_id_unchecked(&self, t: TileCoord) -> TileId {
        TileId(self.axes[0].slot(t.x) + self.axes[1].slot(t.y) + self.axes[2].slot(t.z))
    }

    /// The tile at that place, or `None` where it holds no voxel of the array.
    #[must_use]
    #[inline]
    pub fn tile_coord(&self, id: TileId) -> Option<TileCoord> {
        let page = id.0 >> self.page_shift;
        if page >= self.page_count() {
            return None;
        }
        let row = self.row_pages.divide(page);
        let plane = self.plane_rows.divide(row);
        let p = [page - row * self.pages.x, row - plane * self.pages.y, plane];
        let in_page = |i: usize| (id.0 >> self.axes[i].slot_shift) & ((1 << self.axes[i].page_shift) - 1);
        let t = TileCoord {
            x: (p[0] << self.axes[0].page_shift) + in_page(0),
            y: (p[1] << self.axes[1].page_shift) + in_page(1),
            z: (p[2] << self.axes[2].page_shift) + in_page(2),
        };
        self.contains_tile(t).then_some(t)
    }

    /// The page that a tile lies in.
    #[must_use]
    #[inline]
    pub fn page_of(&self, id: TileId) -> PageId {
        PageId(id.0 >> self.page_shift)
    }

    /// The tile ids of a page, as a half-open range.
    #[must_use]
    pub fn tiles_of_page(&self, page: PageId) -> std::ops::Range<u64> {
        page.0 << self.page_shift..(page.0 + 1) << self.page_shift
    }

    /// The voxels of a tile that lie inside the array.
    #[must_use]
    #[inline]
    pub fn tile_region(&self, t: TileCoord) -> Region {
        let shape = self.tile_shape();
        let start = Coord::new(
            t.x << self.axes[0].tile_shift,
            t.y << self.axes[1].tile_shift,
            t.z << self.axes[2].tile_shift,
        );
        Region::new(start, shape).clipped_to(self.extent)
    }

    /// Byte offset of a tile in the reservation.
    #[must_use]
    #[inline]
    pub fn tile_offset_bytes(&self, id: TileId) -> u64 {
        id.0 << (self.tile_shift + self.voxel_shift)
    }

    /// Byte offset of a page in the reservation.
    #[must_use]
    #[inline]
    pub fn page_offset_bytes(&self, id: PageId) -> u64 {
        id.0 << (self.page_shift + self.tile_shift + self.voxel_shift)
    }

    /// Byte offset of a voxel in the reservation, or `None` outside the array.
    #[must_use]
    pub fn voxel_offset_bytes(&self, c: Coord) -> Option<u64> {
        self.extent.contains(c).then(|| {
            let id = self.tile_id_unchecked(self.tile_of(c));
            (id.0 << self.tile_shift | self.within_tile(c)) << self.voxel_shift
        })
    }

    /// Position of a voxel in its tile.
    #[must_use]
    #[inline(always)]
    pub fn within_tile(&self, c: Coord) -> u64 {
        self.axes[0].within(c.x) | self.axes[1].within(c.y) | self.axes[2].within(c.z)
    }

    /// The tiles that a region touches, in memory-friendly order (x fastest); empty where the region is.
    pub fn tiles_in(&self, region: Region) -> impl Iterator<Item = TileCoord> + use<> {
        let region = region.clipped_to(self.extent);
        let last = |start: u64, size: u64, i: usize| {
            let shift = self.axes[i].tile_shift;
            if region.is_empty() { 0..0 } else { start >> shift..((start + size - 1) >> shift) + 1 }
        };
        let x = last(region.start.x, region.extent.x, 0);
        let y = last(region.start.y, region.extent.y, 1);
        let z = last(region.start.z, region.extent.z, 2);
        z.flat_map(move |z| {
            let x = x.clone();
            y.clone().flat_map(move |y| x.clone().map(move |x| TileCoord { x, y, z }))
        })
    }

    pub(crate) fn axes(&self) -> &[Axis; 3] {
        &self.axes
    }

    pub(crate) fn tile_voxels_log2(&self) -> u32 {
        self.tile_shift
    }
}

fn tile_counts(e: Extent, s: [u32; 3]) -> Extent {
    let up = |v: u64, s: u32| ((v - 1) >> s) + 1;
    Extent::new(up(e.x, s[0]), up(e.y, s[1]), up(e.z, s[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(extent: Extent, tile: Extent, page: Extent) -> Layout {
        let spec = LayoutSpec { tile: Some(tile), page: Some(page), page_bytes: None };
        Layout::new(extent, 1, spec, 1, 1).unwrap()
    }

    #[test]
    fn every_voxel_has_its_own_byte_and_every_id_its_own_tile() {
        let l = layout(Extent::new(13, 7, 9), Extent::new(4, 2, 2), Extent::new(1, 2, 2));
        let mut seen = std::collections::HashSet::new();
        for z in 0..9 {
            for y in 0..7 {
                for x in 0..13 {
                    let c = Coord::new(x, y, z);
                    let at = l.voxel_offset_bytes(c).unwrap();
                    assert!(at < l.reserved_bytes());
                    assert!(seen.insert(at), "{c} shares its byte");
                    let id = l.tile_id(l.tile_of(c)).unwrap();
                    assert_eq!(l.tile_coord(id), Some(l.tile_of(c)));
                    assert_eq!(at, l.tile_offset_bytes(id) + l.within_tile(c));
                    assert!(l.tiles_of_page(l.page_of(id)).contains(&id.0));
                }
            }
        }
        let real = (0..l.tile_slots()).filter(|&i| l.tile_coord(TileId(i)).is_some()).count() as u64;
        assert_eq!(Some(real), l.tiles().checked_volume());
        assert_eq!(l.tile_coord(TileId(l.tile_slots())), None);
        assert_eq!(l.tile_id(TileCoord::new(4, 0, 0)), None);
    }

    #[test]
    fn extents_up_to_the_address_space_and_not_beyond() {
        let spec = LayoutSpec::default();
        let most = Extent::new(1 << 16, 1 << 15, 1 << 15);
        assert_eq!(Layout::new(most, 1, spec, 4096, 1 << 20).unwrap().reserved_bytes(), MAX_RESERVED_BYTES);
        let line = Layout::new(Extent::new(1 << 46, 1, 1), 1, spec, 4096, 1 << 20).unwrap();
        assert_eq!(line.tile_shape(), Extent::new(1 << 20, 1, 1));
        for e in [Extent::new(1 << 46, 2, 1), Extent::cube(u64::MAX), Extent::new(u64::MAX, 1, 1)] {
            let err = Layout::new(e, 1, spec, 4096, 1 << 20).unwrap_err();
            assert!(matches!(err, LayoutError::BeyondAddressSpace { .. }), "{err}");
        }
    }

    #[test]
    fn tiles_in_a_region_are_those_it_touches() {
        let l = layout(Extent::cube(16), Extent::cube(4), Extent::cube(1));
        let r = Region::new(Coord::new(3, 4, 12), Extent::new(2, 4, 100));
        let got: Vec<_> = l.tiles_in(r).collect();
        assert_eq!(got, [TileCoord::new(0, 1, 3), TileCoord::new(1, 1, 3)]);
        assert_eq!(l.tiles_in(Region::new(Coord::new(16, 0, 0), Extent::cube(1))).count(), 0);
    }
}
