//! Owns [`Blocks`]: objects that are not finished yet, any number of them in one temporary file. Knows nothing of what is in them.
//!
//! The file has no name, so that nothing is left of it whatever becomes of the process. It is cut into blocks, each of one object; those of an object that is gone are given to the next.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Length of a block. What is not written of it takes no space, where the file system knows holes.
const BLOCK_BYTES: u64 = 1 << 20;

/// A temporary file in blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    file: File,
    /// Blocks that are of no object any more, and how many there are in all.
    free: Mutex<(Vec<u64>, u64)>,
}

/// An object in blocks.
#[derive(Debug)]
pub(super) struct Blocked {
    of: Arc<Blocks>,
    blocks: Vec<u64>,
    bytes: u64,
}

impl Blocks {
    pub(super) fn new(file: File) -> Arc<Self> {
        Arc::new(Self { file, free: Mutex::default() })
    }

    /// An object without any bytes.
    pub(super) fn object(self: &Arc<Self>) -> Blocked {
        Blocked { of: self.clone(), blocks: Vec::new(), bytes: 0 }
    }

    fn take(&self) -> u64 {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.0.pop().unwrap_or_else(|| {
            free.1 += 1;
            free.1 - 1
        })
    }
}

impl Blocked {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends all or nothing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.bytes + bytes.len() as u64;
        while (self.blocks.len() as u64) * BLOCK_BYTES < end {
            self.blocks.push(self.of.take());
        }
        let mut left = bytes;
        for (at, length) in self.parts(self.bytes, bytes.len()) {
            let (part, rest) = left.split_at(length);
            self.of.file.write_all_at(part, at)?;
            left = rest;
        }
        self.bytes = end;
        Ok(())
    }

    /// Fills `out` from what begins at an offset.
    pub(super) fn read(&self, offset_bytes: u64, out: &mut [u8]) -> io::Result<()> {
        if offset_bytes.checked_add(out.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut left = out;
        for (at, length) in self.parts(offset_bytes, left.len()) {
            let (part, rest) = left.split_at_mut(length);
            self.of.file.read_exact_at(part, at)?;
            left = rest;
        }
        Ok(())
    }

    /// Where in the file a stretch of the object lies: offset and length of each part, in order.
    fn parts(&self, from: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
        let (mut at, mut left) = (from, length as u64);
        std::iter::from_fn(move || {
            let block = self.blocks.get(usize::try_from(at / BLOCK_BYTES).ok()?)?;
            let within = at % BLOCK_BYTES;
            let part = left.min(BLOCK_BYTES - within);
            (at, left) = (at + part, left - part);
            let length = usize::try_from(part).ok().filter(|&length| length > 0)?;
            Some((block * BLOCK_BYTES + within, length))
        })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.of.free.lock().unwrap_or_else(PoisonError::into_inner).0.append(&mut self.blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_one_file_keep_their_bytes_and_leave_their_room_to_others() {
        let blocks = Blocks::new(tempfile::tempfile().unwrap());
        let bytes = |salt: u64, length: u64| -> Vec<u8> {
            (0..length).map(|i| (i.wrapping_mul(salt) >> 7).to_le_bytes()[0]).collect()
        };
        let lengths = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5];
        for round in 0..3 {
            let mut objects: Vec<_> = lengths.iter().map(|_| blocks.object()).collect();
            // Turn by turn, so that their blocks are mixed.
            for piece in 0..3 {
                for (salt, (object, length)) in (round + 3..).zip(objects.iter_mut().zip(lengths)) {
                    let all = bytes(salt, length);
                    let part = all.chunks(all.len().div_ceil(3).max(1)).nth(piece).unwrap_or_default();
                    object.append(part).unwrap();
                }
            }
            for (salt, (object, length)) in (round + 3..).zip(objects.iter().zip(lengths)) {
                assert_eq!(object.bytes(), length);
                let mut found = vec![0; usize::try_from(length).unwrap()];
                object.read(0, &mut found).unwrap();
                assert!(found == bytes(salt, length), "{length} bytes, round {round}");
                let from = found.len() / 2;
                let mut half = vec![0; found.len() - from];
                object.read(from as u64, &mut half).unwrap();
                assert!(half == found[from..]);
                assert!(object.read(1, &mut found).is_err() || found.is_empty());
            }
        }
        assert_eq!(blocks.free.lock().unwrap().1, 1 + 1 + 1 + 3, "no round takes more than the first");
    }
}
