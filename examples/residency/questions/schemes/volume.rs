//! Owns the volume that every scheme holds: its shape, its two files, and reading one piece of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use rustix::fs::{Advice, fadvise};
use vastgrid::{Extent, TileCoord};

use crate::suite::Failure;

/// Voxels along an edge of a tile, as a power of two. 64^3 voxels of 16 bits, what microscopes and scanners give, are 512 KiB: large enough that system calls do not
/// drown the copies, small enough that a moving box of tiles is a fair cover of what is looked at.
pub(crate) const EDGE_LOG2: u32 = 6;
/// Voxels along an edge of a tile.
pub(crate) const EDGE: u32 = 1 << EDGE_LOG2;
/// Voxels of a tile.
pub(crate) const TILE_VOXELS: usize = (EDGE as usize).pow(3);
/// Bytes of a tile.
pub(crate) const TILE_BYTES: usize = TILE_VOXELS * size_of::<u16>();
/// Voxels along an edge of a tile and the first of the next, which is all that trilinear sampling asks of its neighbours.
pub(crate) const BORDERED_EDGE: u32 = EDGE + 1;
/// Voxels from one such brick to the next, in the file and in memory: whole OS pages, so that the copies are aligned.
pub(crate) const BORDERED_STRIDE: usize = (BORDERED_EDGE as usize).pow(3).next_multiple_of(2048);

/// How many tiles there are along each axis, and voxels along a tile's edges: powers of two, given by their logarithms, so that looking one up is shifts whoever does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) log2: [u32; 3],
    pub(crate) edges_log2: [u32; 3],
}

impl Shape {
    /// Of the host's tiles, [`EDGE`] voxels along each axis.
    pub(crate) fn of_cubes(log2: [u32; 3]) -> Self {
        Self { log2, edges_log2: [EDGE_LOG2; 3] }
    }

    /// Bytes of a tile.
    pub(crate) fn tile_bytes(self) -> u64 {
        size_of::<u16>() as u64 * (1 << self.edges_log2.iter().sum::<u32>())
    }

    /// The first voxel of the tile at a position in tiles.
    pub(crate) fn first_voxel(self, at: [u32; 3]) -> [u32; 3] {
        std::array::from_fn(|k| at[k] << self.edges_log2[k])
    }

    pub(crate) fn tiles(self) -> [u32; 3] {
        self.log2.map(|log2| 1 << log2)
    }

    pub(crate) fn tile_count(self) -> u32 {
        1 << self.log2.iter().sum::<u32>()
    }

    /// Bytes of the volume.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.tile_count()) * self.tile_bytes()
    }

    pub(crate) fn voxels(self) -> [u32; 3] {
        self.first_voxel(self.tiles())
    }

    pub(crate) fn extent(self) -> Extent {
        let [x, y, z] = self.voxels();
        Extent::new(x.into(), y.into(), z.into())
    }

    /// Number of the tile at a position in tiles, x fastest.
    #[inline(always)]
    pub(crate) fn index(self, [x, y, z]: [u32; 3]) -> u32 {
        x | (y | z << self.log2[1]) << self.log2[0]
    }

    #[inline(always)]
    pub(crate) fn position(self, tile: u32) -> [u32; 3] {
        let [x, y, _] = self.log2;
        [tile & ((1 << x) - 1), tile >> x & ((1 << y) - 1), tile >> (x + y)]
    }

    #[inline(always)]
    pub(crate) fn coord(self, tile: u32) -> TileCoord {
        let [x, y, z] = self.position(tile);
        TileCoord::new(x.into(), y.into(), z.into())
    }
}

/// The value of every voxel.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash")]
pub(crate) fn value(x: u32, y: u32, z: u32) -> u16 {
    let h = x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ z.wrapping_mul(83_492_791);
    (h ^ h >> 13) as u16
}

/// Fills a piece of so many voxels along each axis, the first of them its tile's own; past the far faces of the volume comes the last voxel again.
pub(crate) fn fill(shape: Shape, tile: u32, [wide, high, deep]: [u32; 3], piece: &mut [u16]) {
    let last = shape.voxels().map(|voxels| voxels - 1);
    let first = shape.first_voxel(shape.position(tile));
    for (row, voxels) in (0..high * deep).zip(piece.chunks_exact_mut(wide as usize)) {
        let (y, z) = (row % high, row / high);
        let (y, z) = ((first[1] + y).min(last[1]), (first[2] + z).min(last[2]));
        for (x, voxel) in (first[0]..).zip(voxels) {
            *voxel = value(x.min(last[0]), y, z);
        }
    }
}

/// A file of pieces of one size, one for each tile, and how it is read.
#[derive(Debug)]
pub(crate) struct Store {
    file: File,
    /// The same, opened without advice on how it is read.
    pub(crate) plain: File,
    /// Voxels from one piece to the next.
    stride: usize,
    tiles: u32,
    /// Whether what was read is dropped from the page cache at once.
    forgets: AtomicBool,
}

impl Store {
    /// Makes the file: pieces of `edge`^3 voxels.
    fn make(path: &Path, shape: Shape, (edge, stride): (u32, usize)) -> Result<Self, Failure> {
        let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let file = File::options().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        (0..shape.tile_count())
            .into_par_iter()
            .try_for_each_init(
                || vec![0u16; stride],
                |piece, tile| {
                    fill(shape, tile, [edge; 3], piece);
                    file.write_all_at(bytemuck::cast_slice(piece), u64::from(tile) * stride as u64 * 2)
                },
            )
            .map_err(failed)?;
        // Pages that are still to be written could neither be dropped from the cache nor would they leave the measurements alone.
        file.sync_data().map_err(failed)?;
        let open = || File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let (file, plain) = (open()?, open()?);
        // Tiles are read as a whole: what the system would read beyond them nobody asked for.
        fadvise(&file, 0, None, Advice::Random)?;
        let (tiles, forgets) = (shape.tile_count(), AtomicBool::new(false));
        Ok(Self { file, plain, stride, tiles, forgets })
    }

    /// Voxels of a piece.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Reads a piece, in one call where the system agrees.
    pub(crate) fn read(&self, tile: u32, out: &mut [u16]) -> io::Result<()> {
        let at = u64::from(tile) * self.stride as u64 * 2;
        self.file.read_exact_at(bytemuck::cast_slice_mut(out), at)?;
        if self.forgets() { self.forget(tile) } else { Ok(()) }
    }

    /// Whether a scheme that does not copy has to drop what it evicts from the page cache.
    pub(crate) fn forgets(&self) -> bool {
        self.forgets.load(Ordering::Relaxed)
    }

    /// Drops a piece from the page cache.
    pub(crate) fn forget(&self, tile: u32) -> io::Result<()> {
        let bytes = self.stride as u64 * 2;
        Ok(fadvise(&self.file, u64::from(tile) * bytes, bytes.try_into().ok(), Advice::DontNeed)?)
    }

    /// How many pieces are no longer in the page cache, by their first byte; `None` where the system does not tell.
    pub(crate) fn left_cache(&self) -> Option<u32> {
        let mut left = 0;
        for tile in 0..self.tiles {
            let mut byte = [0];
            let at = u64::from(tile) * self.stride as u64 * 2;
            let mut into = [io::IoSliceMut::new(&mut byte)];
            match rustix::io::preadv2(&self.file, &mut into, at, rustix::io::ReadWriteFlags::NOWAIT) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => left += 1,
                Err(_) => return None,
            }
        }
        Some(left)
    }

    /// From now on the page cache is to hold nothing, if `forgets`; otherwise everything.
    pub(crate) fn forget_all(&self, forgets: bool) -> io::Result<()> {
        self.forgets.store(forgets, Ordering::Relaxed);
        if forgets {
            return Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?);
        }
        let mut piece = vec![0; self.stride];
        (0..self.tiles).try_for_each(|tile| self.read(tile, &mut piece))
    }
}

/// The volume, as files without names: they are gone with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) shape: Shape,
    /// Tile after tile.
    pub(crate) tiles: Store,
    /// Tile after tile, each with the first voxels of the next ones.
    pub(crate) bordered: Store,
    /// Whether the folder lies in memory, so that its files are never read from anywhere.
    pub(crate) in_memory: bool,
}

impl Volume {
    /// Makes both files in the temporary folder.
    pub(crate) fn make(shape: Shape) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let system = rustix::fs::statvfs(folder.path())?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let needed = u64::from(shape.tile_count()) * (TILE_BYTES + BORDERED_STRIDE * 2) as u64;
        if free < needed {
            let folder = folder.path().display();
            return Err(
                format!("{folder} has {free} bytes free, and the volume's files take {needed}").into()
            );
        }
        let in_memory = rustix::fs::statfs(folder.path())?.f_type == 0x0102_1994;
        let tiles = Store::make(&folder.path().join("tiles.raw"), shape, (EDGE, TILE_VOXELS))?;
        let bordered =
            Store::make(&folder.path().join("bordered.raw"), shape, (BORDERED_EDGE, BORDERED_STRIDE))?;
        // Open files stay without it.
        folder.close().map_err(|error| format!("cannot remove a temporary folder: {error}"))?;
        Ok(Self { shape, tiles, bordered, in_memory })
    }

    /// See [`Store::forget_all`].
    pub(crate) fn forget_all(&self, forgets: bool) -> Result<(), Failure> {
        self.tiles.forget_all(forgets)?;
        Ok(self.bordered.forget_all(forgets)?)
    }
}
