//! Owns what the rivals need of the system and safe code has no words for: memory in huge pages, a file as memory, and asking for memory ahead of reading it.
#![allow(unsafe_code, reason = "the rivals are written as one would without a library")]

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::suite::Failure;

const HUGE_BYTES: usize = 2 << 20;

/// A mapping of this process' own, given back when it is dropped.
#[derive(Debug)]
struct Mapping {
    first: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory that this alone has.
unsafe impl Send for Mapping {}
// SAFETY: as above; writing takes it exclusively.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(first: *mut std::ffi::c_void, bytes: usize) -> Result<Self, Failure> {
        let first = NonNull::new(first.cast()).ok_or("a mapping at address 0")?;
        Ok(Self { first, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what was mapped when this was made; every reference to it borrows it.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.bytes) };
    }
}

/// Zeroed voxels in one allocation, in huge pages where the system has them and they are asked for.
#[derive(Debug)]
pub(crate) struct Buffer {
    mapping: Mapping,
    /// Where the first whole huge page begins.
    skipped: usize,
    voxels: usize,
}

impl Buffer {
    pub(crate) fn new(voxels: usize, huge: bool) -> Result<Self, Failure> {
        let bytes = voxels.saturating_mul(2).next_multiple_of(HUGE_BYTES).saturating_add(HUGE_BYTES);
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a fresh mapping, at an address of the system's choice.
        let first = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, flags) }
            .map_err(|error| format!("cannot map {bytes} bytes of memory: {error}"))?;
        let mapping = Mapping::new(first, bytes)?;
        let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // A system built without huge pages refuses the advice and serves as well.
        // SAFETY: the mapping just made, whose contents the advice does not change.
        let _ = unsafe { madvise(first, bytes, advice) };
        let skipped = first.cast::<u8>().align_offset(HUGE_BYTES).min(HUGE_BYTES);
        Ok(Self { mapping, skipped, voxels })
    }

    fn first(&self) -> *mut u16 {
        self.mapping.first.as_ptr().wrapping_add(self.skipped).cast()
    }
}

impl Deref for Buffer {
    type Target = [u16];

    #[inline(always)]
    fn deref(&self) -> &[u16] {
        // SAFETY: as many voxels and one huge page more were mapped, readable, zeroed, and aligned to OS pages at least.
        unsafe { std::slice::from_raw_parts(self.first(), self.voxels) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u16] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.first(), self.voxels) }
    }
}

/// A file of voxels as memory, to be read.
#[derive(Debug)]
pub(crate) struct FileMap {
    mapping: Mapping,
}

impl FileMap {
    /// Maps the first `bytes` of a file that nobody writes to or shortens while it is mapped: one of our own, in a folder of our own.
    pub(crate) fn new(file: &File, bytes: usize) -> Result<Self, Failure> {
        if file.metadata()?.len() < bytes as u64 {
            return Err(format!("the file to map is shorter than {bytes} bytes").into());
        }
        // SAFETY: a fresh mapping, at an address of the system's choice.
        let first = unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0) }
            .map_err(|error| format!("cannot map {bytes} bytes of a file: {error}"))?;
        Ok(Self { mapping: Mapping::new(first, bytes)? })
    }

    /// Gives advice on a range of bytes, one that leaves what is read there as it is.
    pub(crate) fn advise(&self, range: Range<usize>, advice: FileAdvice) -> io::Result<()> {
        if range.start > range.end || range.end > self.mapping.bytes {
            let what = format!("advice on bytes {range:?} of a mapping of {}", self.mapping.bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let advice = match advice {
            FileAdvice::Random => Advice::Random,
            FileAdvice::WillNeed => Advice::WillNeed,
            FileAdvice::Populate => Advice::LinuxPopulateRead,
            FileAdvice::LetGo => Advice::LinuxDontNeed,
        };
        let first = self.mapping.first.as_ptr().wrapping_add(range.start);
        // SAFETY: inside the mapping, which is one of a file for reading alone: dropping its pages changes nothing that is read.
        Ok(unsafe { madvise(first.cast(), range.len(), advice) }?)
    }
}

/// What may be advised of a mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileAdvice {
    /// Reads will be anywhere: nothing is read beyond what is touched.
    Random,
    /// It will be read soon: begin to bring it to the page cache.
    WillNeed,
    /// Bring it to the page cache, and map its pages, now.
    Populate,
    /// Unmap its pages.
    LetGo,
}

impl Deref for FileMap {
    type Target = [u16];

    #[inline(always)]
    fn deref(&self) -> &[u16] {
        // SAFETY: mapped, readable, aligned to OS pages; the file does not change, as `new` asks for.
        unsafe { std::slice::from_raw_parts(self.mapping.first.as_ptr().cast(), self.mapping.bytes / 2) }
    }
}

/// Has the line of a voxel brought to the caches; nothing where there is no such voxel.
#[inline(always)]
pub(crate) fn ask_ahead(voxels: &[u16], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing that anybody could tell, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(voxels.as_ptr().wrapping_add(at).cast()) };
    }
    let _ = (voxels, at);
}
