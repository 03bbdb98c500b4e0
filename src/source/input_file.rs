//! Owns [`InputFile`]: a file of voxels that is read through the system's cache, or past it where all of it is read once. Knows nothing of voxels.
//!
//! ```text
//!                    storage ---> cache ---> tile     a copy more, and what others have in the cache makes room
//! past the cache     storage ----------------> tile   where little of a batch is in the cache already
//!                    storage ---> blocks ----> tile   the same, where bytes do not lie as the storage needs: the blocks around them, through a small buffer
//! ```

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{Advice, AtFlags, OFlags, StatxFlags};

use super::buffer::with_buffer;

/// The least that is read past the cache: what is shorter waits for the storage longer than it would be copied.
const LEAST_BYTES: usize = 64 << 10;

/// What does not lie as reads past the cache must is read in the blocks around it, so many bytes at once, and copied.
const AROUND_BYTES: usize = 512 << 10;

/// So many batches in a row with reads that are too short, and no other goes past the cache.
const MOST_SHORT_BATCHES: usize = 4;

/// Places of a batch that are looked up in the cache.
const LOOKED_UP: usize = 5;

/// A file of voxels, and how it is read.
#[derive(Debug)]
pub(super) struct InputFile {
    file: File,
    past_cache: OnceLock<Option<PastCache>>,
    /// Whether the batch that was announced last is read past the cache.
    goes_past: AtomicBool,
}

impl InputFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, past_cache: OnceLock::new(), goes_past: AtomicBool::new(false) }
    }

    /// The file, to be read through the cache.
    pub(super) fn through_cache(&self) -> &File {
        &self.file
    }

    /// Has batches read past the system's cache from now on, if the file system can.
    pub(super) fn will_read_all(&self) {
        self.past_cache.get_or_init(|| PastCache::open(&self.file));
    }

    /// Chooses how a batch is read of which these are the bytes: whether past the cache.
    pub(super) fn choose_way(&self, ranges: &[(u64, u64)]) -> bool {
        let past = self.past_cache.get().and_then(Option::as_ref);
        let went_past = self.goes_past.load(Ordering::Relaxed);
        let goes_past = past.is_some_and(|past| past.goes_on(went_past) && past.is_best_for(ranges));
        self.goes_past.store(goes_past, Ordering::Relaxed);
        goes_past
    }

    /// Fills `out` with what the file holds from there on.
    ///
    /// # Errors
    /// As [`FileExt::read_exact_at`].
    pub(super) fn read_exact_at(&self, out: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        if self.goes_past.load(Ordering::Relaxed)
            && let Some(past) = self.past_cache.get().and_then(Option::as_ref)
            && past.read(out, offset_bytes)
        {
            return Ok(());
        }
        self.file.read_exact_at(out, offset_bytes)
    }
}

/// The same file, opened in other ways.
#[derive(Debug)]
struct PastCache {
    /// Reads of it go past the cache.
    file: File,
    /// Looks bytes up in the cache. Where they are missing no more than their page comes.
    cached: File,
    memory_align: u64,
    offset_align: u64,
    /// Whether a read of the batch was too short.
    was_short: AtomicBool,
    /// Batches in a row that had such: after some, all others are announced, and read through the cache.
    short_batches: AtomicUsize,
}

impl PastCache {
    /// `None` where the file system cannot, or does not say what it takes.
    fn open(file: &File) -> Option<Self> {
        let [memory_align, offset_align] = direct_alignment(file)?;
        // This file, whatever has its name by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let past = OFlags::DIRECT.bits().cast_signed();
        let past = File::options().read(true).custom_flags(past).open(&path).ok()?;
        let cached = File::open(&path).ok()?;
        rustix::fs::fadvise(&cached, 0, None, Advice::Random).ok()?;
        Some(Self {
            file: past,
            cached,
            memory_align,
            offset_align,
            was_short: AtomicBool::new(false),
            short_batches: AtomicUsize::new(0),
        })
    }

    /// Whether it is worth it, going by the batches so far. `went_past`: the last one did.
    fn goes_on(&self, went_past: bool) -> bool {
        let was_short = self.was_short.swap(false, Ordering::Relaxed);
        if went_past {
            let before = self.short_batches.load(Ordering::Relaxed);
            self.short_batches.store(if was_short { before + 1 } else { 0 }, Ordering::Relaxed);
        }
        self.short_batches.load(Ordering::Relaxed) < MOST_SHORT_BATCHES
    }

    /// Whether these ranges are long, and most of them not in the cache, by a few places in them. Other ones each time, since what is looked up comes into the cache.
    fn is_best_for(&self, ranges: &[(u64, u64)]) -> bool {
        let bytes = ranges.iter().fold(0, |sum: u64, (start, end)| sum.saturating_add(end - start));
        if bytes / (ranges.len() as u64).max(1) < LEAST_BYTES as u64 {
            return false;
        }
        let random = RandomState::new();
        let missing = (0..LOOKED_UP).filter(|nth| {
            let mut hasher = random.build_hasher();
            hasher.write_usize(*nth);
            let place = hasher.finish();
            let Some((start, end)) = ranges.get((place >> 32) as usize % ranges.len().max(1)) else {
                return false;
            };
            let at = start + (place & 0xffff_ffff) % (end - start).max(1);
            is_in_memory(&self.cached, at) == Some(false)
        });
        missing.count() > LOOKED_UP / 2
    }

    /// Whether all of it was read. What cannot be read in this way can be in the other, or its error is told there.
    fn read(&self, out: &mut [u8], offset_bytes: u64) -> bool {
        if out.len() < LEAST_BYTES {
            self.was_short.store(true, Ordering::Relaxed);
            return false;
        }
        let is_aligned = (out.as_ptr().addr() as u64).is_multiple_of(self.memory_align)
            && offset_bytes.is_multiple_of(self.offset_align)
            && (out.len() as u64).is_multiple_of(self.offset_align);
        if is_aligned {
            self.file.read_exact_at(out, offset_bytes).is_ok()
        } else {
            self.read_around(out, offset_bytes).is_some()
        }
    }

    /// Reads the blocks of the storage that the bytes lie in, and copies what was asked for.
    fn read_around(&self, out: &mut [u8], offset_bytes: u64) -> Option<()> {
        let [memory_align, align] = [self.memory_align, self.offset_align].map(|a| usize::try_from(a).ok());
        let (memory_align, align) = (memory_align?, align?);
        let block_bytes = AROUND_BYTES.next_multiple_of(align);
        with_buffer(block_bytes + memory_align, |room: &mut [u8]| {
            let first = room.as_ptr().addr().next_multiple_of(memory_align) - room.as_ptr().addr();
            let mut done = 0;
            while done < out.len() {
                let at = offset_bytes.checked_add(done as u64)?;
                let before = usize::try_from(at % self.offset_align).ok()?;
                let wanted = (before + out.len() - done).next_multiple_of(align).min(block_bytes);
                let room = &mut room[first..first + wanted];
                // The last block of a file may be shorter.
                let read = self.file.read_at(room, at - before as u64).ok()?;
                let found = room[..read].get(before..).filter(|found| !found.is_empty())?;
                let found = &found[..found.len().min(out.len() - done)];
                out[done..done + found.len()].copy_from_slice(found);
                done += found.len();
            }
            Some(())
        })
    }
}

/// What places in memory, and places and lengths in the file, must be multiples of where it is read or written past the cache; `None` where the file system cannot, or does not say so.
pub(crate) fn direct_alignment(file: &File) -> Option<[u64; 2]> {
    let told = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let alignment = [told.stx_dio_mem_align, told.stx_dio_offset_align].map(u64::from);
    (!alignment.contains(&0)).then_some(alignment)
}

/// Whether a byte of the file can be read without waiting for the storage; `None` where the system does not tell.
pub(crate) fn is_in_memory(file: &File, offset_bytes: u64) -> Option<bool> {
    let mut byte = [0];
    let read = rustix::io::preadv2(
        file,
        &mut [io::IoSliceMut::new(&mut byte)],
        offset_bytes,
        rustix::io::ReadWriteFlags::NOWAIT,
    );
    match read {
        Ok(_) => Some(true),
        Err(rustix::io::Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BYTES: usize = 4 << 20;

    /// A file that is on the disk, and what it holds; `None` where its file system has no way past the cache.
    fn file() -> Option<(InputFile, Vec<u8>)> {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> =
            (0u32..).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).take(BYTES).collect();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        let file = InputFile::new(file);
        file.will_read_all();
        let has_way = match file.past_cache.get() {
            Some(Some(past)) => is_in_memory(&past.cached, 0).is_some(),
            _ => false,
        };
        if !has_way {
            eprintln!(
                "skipped: nothing is read past the cache of this file system, or it does not tell what is there"
            );
        }
        has_way.then_some((file, bytes))
    }

    fn forget(file: &InputFile) {
        rustix::fs::fadvise(file.through_cache(), 0, None, Advice::DontNeed).unwrap();
    }

    /// Room for `bytes`, `shift` bytes beyond an OS page.
    fn room(bytes: usize, shift: usize) -> (Vec<u8>, usize) {
        let room = vec![0; bytes + (8 << 10)];
        let first = room.as_ptr().addr().next_multiple_of(4096) - room.as_ptr().addr();
        (room, first + shift)
    }

    #[test]
    fn what_is_not_in_the_cache_is_read_past_it_and_the_same() {
        let Some((file, bytes)) = file() else { return };
        forget(&file);
        assert!(file.choose_way(&[(0, BYTES as u64)]));
        for (offset, count) in [(0, 1 << 20), (1 << 20, 1 << 19), (2 << 20, LEAST_BYTES)] {
            let (mut room, first) = room(count, 0);
            file.read_exact_at(&mut room[first..first + count], offset as u64).unwrap();
            assert_eq!(room[first..first + count], bytes[offset..offset + count]);
        }
        let read = (0..(2 << 20) + LEAST_BYTES as u64).step_by(4096);
        let came = read.filter(|&at| {
            is_in_memory(&file.past_cache.get().unwrap().as_ref().unwrap().cached, at) == Some(true)
        });
        // Looking up brings pages as well, those before it among them.
        assert!(came.count() <= 2 * LOOKED_UP, "it came into the cache");
    }

    #[test]
    fn what_is_in_the_cache_is_read_there() {
        let Some((file, bytes)) = file() else { return };
        let mut all = vec![0; BYTES];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(!file.choose_way(&[(0, BYTES as u64)]));
        assert!(!file.choose_way(&[]));
        assert!(!file.choose_way(&[(5, 5)]));
        assert_eq!(all, bytes);
    }

    #[test]
    fn what_does_not_lie_as_it_must_is_read_past_the_cache_all_the_same() {
        let Some((file, bytes)) = file() else { return };
        let past = file.past_cache.get().unwrap().as_ref().unwrap();
        let most = BYTES - (2 << 20);
        for (offset, count, shift) in [
            (1, 1 << 17, 0),
            (4096, (1 << 17) + 1, 0),
            (8192, 1 << 17, 1),
            (511, most, 3),
            (BYTES - most - 1, most + 1, 0),
            (BYTES - LEAST_BYTES, LEAST_BYTES, 5),
        ] {
            forget(&file);
            let (mut room, first) = room(count, shift);
            assert!(past.read(&mut room[first..first + count], offset as u64), "{offset} {count}");
            assert!(room[first..first + count] == bytes[offset..offset + count], "{offset} {count}");
            assert!(room[..first].iter().chain(&room[first + count..]).all(|&byte| byte == 0));
        }
        assert!(file.choose_way(&[(0, BYTES as u64)]));
        let (mut room, first) = room(1 << 17, 1);
        assert!(
            !past.read(&mut room[first..first + (1 << 17)], BYTES as u64 - 1000),
            "not all of it is there"
        );
        // A file that ends within a block.
        let end = BYTES - 300;
        file.through_cache().set_len(end as u64).unwrap();
        assert!(past.read(&mut room[first..first + LEAST_BYTES], (end - LEAST_BYTES) as u64));
        assert!(room[first..first + LEAST_BYTES] == bytes[end - LEAST_BYTES..end]);
    }

    #[test]
    fn what_is_short_is_read_through_the_cache_and_after_some_batches_everything() {
        let Some((file, bytes)) = file() else { return };
        let all = [(0, BYTES as u64)];
        forget(&file);
        let rows: Vec<_> = (0..100).map(|row| (row << 15, (row << 15) + 20_000)).collect();
        assert!(!file.choose_way(&rows), "they are short");
        for _ in 0..3 {
            // One batch without any between them, and it begins anew.
            for _ in 1..MOST_SHORT_BATCHES {
                assert!(file.choose_way(&all));
                let mut some = [0; 5];
                file.read_exact_at(&mut some, 3).unwrap();
                assert_eq!(some, bytes[3..8]);
                forget(&file);
            }
            assert!(file.choose_way(&all));
        }
        for _ in 0..MOST_SHORT_BATCHES {
            assert!(file.choose_way(&all));
            file.read_exact_at(&mut [0; 5], 3).unwrap();
            forget(&file);
        }
        // All others are read through the cache, and announced, though nothing is there.
        for _ in 0..2 {
            assert!(!file.choose_way(&all));
        }
    }

    #[test]
    fn a_file_that_has_become_shorter_is_told_as_ever() {
        let Some((file, _)) = file() else { return };
        file.through_cache().set_len(1 << 20).unwrap();
        file.goes_past.store(true, Ordering::Relaxed);
        let (mut room, first) = room(1 << 20, 0);
        let read = file.read_exact_at(&mut room[first..first + (1 << 20)], 2 << 20);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
