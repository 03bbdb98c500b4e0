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
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::Path;

use twox_hash::XxHash3_64;

use crate::geometry::Region;
use crate::source::{ContentKey, atomic_file};

const MAGIC: &[u8; 8] = b"VGTILE\0\x01";
const SAID_BYTES: usize = 96;
const TRAILER_BYTES: usize = SAID_BYTES + 8;

/// What is read at once: of a larger piece the beginning would have left the processor's cache before its checksum is taken.
const PIECE_BYTES: usize = 128 << 10;

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
/// **Cost**: opening a file, reading it in pieces that are still near when their checksum is taken, and closing it.
pub(super) fn read(path: &Path, key: &ContentKey, tile: Region, out: &mut [u8]) -> Result<File, Unread> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Missing,
        _ => Unread::Refused(error),
    })?;
    let mut fill = |part: &mut [u8]| {
        file.read_exact(part).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Unread::Damaged,
            _ => Unread::Refused(error),
        })
    };
    let said = said(key, tile, out.len());
    let mut hash = XxHash3_64::with_seed(XxHash3_64::oneshot(&said));
    for part in out.chunks_mut(PIECE_BYTES) {
        fill(part)?;
        hash.write(part);
    }
    let mut trailer = [0; TRAILER_BYTES];
    fill(&mut trailer)?;
    let right = trailer[..SAID_BYTES] == said && trailer[SAID_BYTES..] == hash.finish().to_le_bytes();
    if right { Ok(file) } else { Err(Unread::Damaged) }
}

/// Writes a tile under that name, as a whole or not at all.
pub(super) fn write(path: &Path, key: &ContentKey, tile: Region, voxels: &[u8]) -> io::Result<()> {
    let said = said(key, tile, voxels.len());
    let sum = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&said), voxels);
    atomic_file::write(path, &[voxels, &said, &sum.to_le_bytes()])
}

/// What a tile's file says that it is of.
fn said(key: &ContentKey, tile: Region, voxel_bytes: usize) -> [u8; SAID_BYTES] {
    let mut said = [0; SAID_BYTES];
    said[..8].copy_from_slice(MAGIC);
    said[8..40].copy_from_slice(key.bytes());
    let place = tile.start.to_array().into_iter().chain(tile.extent.to_array());
    for (at, number) in place.chain([voxel_bytes as u64]).enumerate() {
        said[40 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    said
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
