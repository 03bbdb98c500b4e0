//! Owns [`Plain`]: the same tiles at the same places as in an array, with no library over them: what addresses cost by themselves.
#![allow(unsafe_code, reason = "the system's calls, and reads without a check, are what is measured")]

use std::collections::HashSet;
use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mremap_fixed, munmap};
use vastgrid::{Coord, Layout, TileCoord};

use crate::measure::nanoseconds;
use crate::suite::Failure;
use crate::userfault::Userfault;

/// Addresses without memory.
const RESERVED: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

/// Addresses for a whole array of bytes, and memory for some of its tiles.
pub(super) struct Plain {
    first: NonNull<u8>,
    layout: Layout,
    tile_bytes: usize,
    /// What each coordinate adds to a voxel's place, x first, as an array has it.
    tables: [Vec<usize>; 3],
    /// The tiles that have memory.
    there: Vec<TileCoord>,
    moves: Moves,
}

/// What is moved.
enum Moves {
    /// OS pages: what the crate does with tiles of this size where the system can.
    Pages(Userfault),
    Mappings,
}

impl Plain {
    /// Reserves addresses for an array of bytes whose pages are tiles.
    pub(super) fn new(layout: &Layout) -> Result<Self, Failure> {
        if layout.voxel_bytes() != 1 || layout.tiles_per_page() != 1 {
            return Err("plain memory is of bytes, a tile for a page".into());
        }
        let bytes = usize::try_from(layout.reserved_bytes())?;
        let moves = Userfault::new().map_or(Moves::Mappings, Moves::Pages);
        let access = match &moves {
            Moves::Pages(_) => ProtFlags::READ | ProtFlags::WRITE,
            Moves::Mappings => ProtFlags::empty(),
        };
        // SAFETY: no address is given, so that no mapping is replaced.
        let first = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, RESERVED) }
            .map_err(|errno| format!("{bytes} bytes of addresses: {errno}"))?;
        let first = NonNull::new(first.cast::<u8>()).ok_or("the system gave the address 0")?;
        let [x, y, z] = layout.extent().to_array();
        let table = |side: u64, at: fn(u64) -> Coord| {
            (0..side).map(|v| place(layout, at(v))).collect::<Result<Vec<_>, _>>()
        };
        let tables = [
            table(x, |v| Coord::new(v, 0, 0))?,
            table(y, |v| Coord::new(0, v, 0))?,
            table(z, |v| Coord::new(0, 0, v))?,
        ];
        let tile_bytes = usize::try_from(layout.tile_bytes())?;
        let plain = Self { first, layout: layout.clone(), tile_bytes, tables, there: Vec::new(), moves };
        if let Moves::Pages(userfault) = &plain.moves {
            // SAFETY: the mapping just made, as a whole, which is written to in small pages.
            unsafe { madvise(first.as_ptr().cast(), bytes, Advice::LinuxNoHugepage) }?;
            // SAFETY: as above; tiles that have no memory are not read.
            unsafe { userfault.register(first.as_ptr(), bytes) }?;
        }
        Ok(plain)
    }

    /// Where a tile of the array lies.
    fn address(&self, tile: TileCoord) -> Result<*mut u8, Failure> {
        let id = self.layout.tile_id(tile).ok_or("a tile that the array does not have")?;
        let offset = usize::try_from(self.layout.tile_offset_bytes(id))?;
        Ok(self.first.as_ptr().wrapping_add(offset))
    }

    /// Gives new memory to a tile.
    pub(super) fn map(&mut self, tile: TileCoord) -> Result<(), Failure> {
        if self.there.contains(&tile) {
            return Err(format!("{tile} has memory already").into());
        }
        let (at, access) = (self.address(tile)?, ProtFlags::READ | ProtFlags::WRITE);
        let (place, flags) = match &self.moves {
            Moves::Pages(_) => (ptr::null_mut(), RESERVED),
            Moves::Mappings => (at.cast(), RESERVED | MapFlags::FIXED),
        };
        // SAFETY: addresses that this alone has reserved, and where nothing lives yet, or new ones.
        let made = unsafe { mmap_anonymous(place, self.tile_bytes, access, flags) }?;
        // SAFETY: the mapping just made.
        unsafe { madvise(made, self.tile_bytes, Advice::LinuxNoHugepage) }?;
        // SAFETY: as above.
        unsafe { madvise(made, self.tile_bytes, Advice::LinuxPopulateWrite) }?;
        if let Moves::Pages(userfault) = &self.moves {
            // SAFETY: the mapping just made, and a tile that has no memory yet.
            unsafe { userfault.move_pages(made.cast(), at, self.tile_bytes) }
                .map_err(|errno| format!("a new tile to its place: {errno}"))?;
            // SAFETY: nothing refers to it.
            unsafe { munmap(made, self.tile_bytes) }?;
        }
        self.there.push(tile);
        Ok(())
    }

    /// Gives the memory of the tiles that have some to these, as many, each filled with its value: nanoseconds for each. None of them has any yet.
    pub(super) fn swap(&mut self, tiles: &[(TileCoord, u8)]) -> Result<f64, Failure> {
        let all: HashSet<_> = self.there.iter().chain(tiles.iter().map(|(tile, _)| tile)).collect();
        if tiles.len() != self.there.len() || all.len() != 2 * tiles.len() {
            return Err("memory goes to other tiles, as many as have some".into());
        }
        let new: Vec<_> = tiles
            .iter()
            .map(|&(tile, value)| Ok((self.address(tile)?, value)))
            .collect::<Result<_, Failure>>()?;
        let old: Vec<_> = self.there.iter().map(|&tile| self.address(tile)).collect::<Result<_, _>>()?;
        let (time, moved) = nanoseconds(tiles.len() as u64, || {
            old.iter().zip(&new).try_for_each(|(&old, &(new, value))| {
                self.relocate(old, new)?;
                // SAFETY: just moved there, for writing, and borrowed exclusively.
                unsafe { ptr::write_bytes(new, value, self.tile_bytes) };
                Ok::<_, Errno>(())
            })
        });
        moved.map_err(|errno| format!("memory of tiles for others: {errno}"))?;
        self.there = tiles.iter().map(|&(tile, _)| tile).collect();
        Ok(time)
    }

    /// Takes all of another's memory for as many tiles of its own. It has none yet.
    pub(super) fn take(&mut self, other: &mut Self, tiles: &[TileCoord]) -> Result<(), Failure> {
        if !self.there.is_empty() || tiles.len() != other.there.len() || self.tile_bytes != other.tile_bytes {
            return Err("memory goes to one that has none, for as many tiles of the same size".into());
        }
        for (&old, &new) in other.there.iter().zip(tiles) {
            self.relocate(other.address(old)?, self.address(new)?)
                .map_err(|errno| format!("the memory of {old} for {new}: {errno}"))?;
        }
        other.there.clear();
        self.there.extend_from_slice(tiles);
        Ok(())
    }

    /// Moves the memory of a tile that has some, which nothing borrows from, to another one, which has none.
    fn relocate(&self, old: *mut u8, new: *mut u8) -> Result<(), Errno> {
        let bytes = self.tile_bytes;
        if let Moves::Pages(userfault) = &self.moves {
            // SAFETY: both are this one's alone, says the caller, and registered.
            return unsafe { userfault.move_pages(old, new, bytes) };
        }
        let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
        // SAFETY: both are this one's alone, says the caller.
        unsafe { mremap_fixed(old.cast(), bytes, bytes, flags, new.cast()) }?;
        let reserved = RESERVED | MapFlags::FIXED;
        // SAFETY: what the move has left, in which nothing lives any more.
        unsafe { mmap_anonymous(old.cast(), bytes, ProtFlags::empty(), reserved) }.map(|_| ())
    }

    /// Reads of voxels that all have memory; `None` where one has not.
    pub(super) fn reads<'p>(&'p self, voxels: &'p [Coord]) -> Option<PlainReads<'p>> {
        let there: HashSet<_> = self.there.iter().collect();
        let have = voxels.iter().all(|&voxel| there.contains(&self.layout.tile_of(voxel)));
        have.then_some(PlainReads { plain: self, voxels })
    }
}

/// Voxels that have memory for as long as this lives.
pub(super) struct PlainReads<'p> {
    plain: &'p Plain,
    voxels: &'p [Coord],
}

impl PlainReads<'_> {
    /// Adds them up.
    pub(super) fn sum(&self) -> Option<u64> {
        let [x, y, z] = &self.plain.tables;
        let along = |table: &Vec<usize>, v: u64| usize::try_from(v).ok().and_then(|v| table.get(v).copied());
        self.voxels.iter().try_fold(0, |sum, voxel| {
            let at = along(x, voxel.x)? + along(y, voxel.y)? + along(z, voxel.z)?;
            // SAFETY: a voxel of a tile that is mapped, which stays so for as long as `plain` is borrowed.
            Some(sum + u64::from(unsafe { *self.plain.first.as_ptr().wrapping_add(at) }))
        })
    }
}

fn place(layout: &Layout, voxel: Coord) -> Result<usize, Failure> {
    let offset = layout.voxel_offset_bytes(voxel).ok_or("a voxel outside the array")?;
    Ok(usize::try_from(offset)?)
}

impl Drop for Plain {
    fn drop(&mut self) {
        let bytes = usize::try_from(self.layout.reserved_bytes()).unwrap_or_default();
        // SAFETY: what was reserved when this was made.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), bytes) };
    }
}
