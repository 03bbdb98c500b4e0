//! Owns the volume that questions of cost are asked of: bytes that cost next to nothing to make, in tiles and extents of any power of two.

use vastgrid::source::Procedural;
use vastgrid::{Backend, Coord, Error, Extent, Pool, SparseArray3D, TileCoord, TileSource};

/// Axes of a box of `2^log2` voxels, as near to a cube as may be.
pub(crate) fn shape(log2: u32) -> [u64; 3] {
    [2, 1, 0].map(|more| 1 << ((log2 + more) / 3))
}

/// The value that all of a tile holds, by its first voxel.
pub(crate) fn value(first: Coord) -> u8 {
    let mix = (first.x | first.y << 20 | first.z << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mix.to_be_bytes()[0]
}

/// An array of `2^extent_log2` bytes, in tiles of `2^tile_log2`.
pub(crate) fn array<B: Backend>(
    pool: &Pool<B>,
    extent_log2: u32,
    tile_log2: u32,
    page_bytes: u64,
) -> Result<SparseArray3D<u8, B>, Error> {
    array_of(pool, source(extent_log2), tile_log2, page_bytes)
}

/// The volume itself.
pub(crate) fn source(extent_log2: u32) -> Procedural<u8> {
    Procedural::by_region(Extent::from(shape(extent_log2)), |region, out| out.fill(value(region.start)))
}

/// The same array over another source.
pub(crate) fn array_of<B: Backend>(
    pool: &Pool<B>,
    source: impl TileSource<u8> + 'static,
    tile_log2: u32,
    page_bytes: u64,
) -> Result<SparseArray3D<u8, B>, Error> {
    SparseArray3D::builder(pool, source).tile(shape(tile_log2)).page_bytes(page_bytes).build()
}

/// The first voxel of a tile.
pub(crate) fn first(tile: TileCoord, tile_log2: u32) -> Coord {
    let [x, y, z] = shape(tile_log2);
    Coord::new(tile.x * x, tile.y * y, tile.z * z)
}

/// Tiles of an array along its axes.
pub(crate) fn tiles(extent_log2: u32, tile_log2: u32) -> [u64; 3] {
    let (extent, tile) = (shape(extent_log2), shape(tile_log2));
    [0, 1, 2].map(|axis| extent[axis] / tile[axis])
}

/// The tile of that number in a box that begins at `from`, x fastest; numbers beyond the box begin again.
pub(crate) fn nth(from: TileCoord, [x, y, z]: [u64; 3], n: u64) -> TileCoord {
    TileCoord::new(from.x + n % x, from.y + n / x % y, from.z + n / (x * y) % z)
}
