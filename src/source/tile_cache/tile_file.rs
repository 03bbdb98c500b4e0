//! Owns one tile as a file: its voxels, then what they are of and a checksum. Knows nothing of what else is in the folder.
//!
//! ```text
//! byte   0   the voxels, as in memory (the key tells processors of another byte order apart)
//!   end-104  "VGTILE\0\1"
//!    end-96  the key, 32 bytes
//!    end-64  first voxel and extent along x, y and z, 8 bytes each
//!    end-16  how many bytes of voxels
//!     end-8  XXH3 of the voxels, seeded with that of the 96 bytes before this
//! ```

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::path::Path;

use twox_hash::XxHash3_64;

use crate::geometry::Region;
use crate::source::{ContentKey, atomic_file};

const MAGIC: &[u8; 8] = b"VGTILE\0\x01";
const TRAILER_BYTES: usize = 104;

/// Size of the file of a tile of so many bytes.
pub(super) const fn bytes(voxel_bytes: u64) -> u64 {
    voxel_bytes.saturating_add(TRAILER_BYTES as u64)
}

/// What is wrong with a file that is there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// Its contents are not what they must be.
    #[error("it is damaged, or of something else")]
    Damaged,
    /// The system refused.
    #[error(transparent)]
    Refused(io::Error),
}

/// Reads a tile. `out` is unspecified unless all of it was read and found right.
///
/// **Cost**: three system calls, and a checksum of what was read.
pub(super) fn read(path: &Path, key: &ContentKey, tile: Region, out: &mut [u8]) -> Result<File, Unread> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Missing,
        _ => Unread::Refused(error),
    })?;
    let mut trailer = [0; TRAILER_BYTES];
    if !fill(&mut file, out, &mut trailer).map_err(Unread::Refused)? {
        return Err(Unread::Damaged);
    }
    if trailer == self::trailer(key, tile, out) { Ok(file) } else { Err(Unread::Damaged) }
}

/// Writes a tile under that name, as a whole or not at all.
pub(super) fn write(path: &Path, key: &ContentKey, tile: Region, voxels: &[u8]) -> io::Result<()> {
    atomic_file::write(path, &[voxels, &trailer(key, tile, voxels)])
}

fn trailer(key: &ContentKey, tile: Region, voxels: &[u8]) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..8].copy_from_slice(MAGIC);
    trailer[8..40].copy_from_slice(key.bytes());
    let place = tile.start.to_array().into_iter().chain(tile.extent.to_array());
    for (at, number) in place.chain([voxels.len() as u64]).enumerate() {
        trailer[40 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    let (said, sum) = trailer.split_at_mut(TRAILER_BYTES - 8);
    let seed = XxHash3_64::oneshot(said);
    sum.copy_from_slice(&XxHash3_64::oneshot_with_seed(seed, voxels).to_le_bytes());
    trailer
}

/// Fills both buffers one after the other; `false` where the file is shorter.
fn fill(file: &mut File, voxels: &mut [u8], trailer: &mut [u8]) -> io::Result<bool> {
    let mut slices = [IoSliceMut::new(voxels), IoSliceMut::new(trailer)];
    let mut left = &mut slices[..];
    IoSliceMut::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.read_vectored(left) {
            Ok(0) => return Ok(false),
            Ok(read) => IoSliceMut::advance_slices(&mut left, read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Coord, Extent};

    #[test]
    fn a_tile_comes_back_and_any_change_of_its_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tile");
        let (key, tile) = (ContentKey::new("here"), Region::new(Coord::new(4, 0, 8), Extent::cube(4)));
        let voxels: Vec<u8> = (0..64).collect();
        let mut out = [0; 64];
        assert!(matches!(read(&path, &key, tile, &mut out), Err(Unread::Missing)));
        write(&path, &key, tile, &voxels).unwrap();
        read(&path, &key, tile, &mut out).unwrap();
        assert_eq!(out, *voxels);
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len() as u64, bytes(64));
        for at in 0..good.len() {
            for bit in [0, 7] {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                std::fs::write(&path, &bad).unwrap();
                assert!(matches!(read(&path, &key, tile, &mut out), Err(Unread::Damaged)), "byte {at}");
            }
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(read(&path, &key, tile, &mut out), Err(Unread::Damaged)), "cut off at {at}");
        }
        std::fs::write(&path, &good).unwrap();
        let elsewhere = Region::new(Coord::new(4, 0, 0), Extent::cube(4));
        assert!(matches!(read(&path, &key, elsewhere, &mut out), Err(Unread::Damaged)));
        assert!(matches!(read(&path, &ContentKey::new("there"), tile, &mut out), Err(Unread::Damaged)));
        assert!(matches!(read(&path, &key, tile, &mut [0; 32]), Err(Unread::Damaged)));
        assert!(read(&path, &key, tile, &mut out).is_ok());
    }
}
