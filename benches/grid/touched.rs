//! Owns what SPGrid does with a block's memory, since its sources cannot be had here: one range of addresses that can all be written, where memory comes with the first touch, a fault for each OS
//! page of it, and is given back by `MADV_DONTNEED`.
#![allow(unsafe_code, reason = "memory that is written and given back by address is what is measured")]

use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A range of addresses whose memory comes and goes.
pub(crate) struct Touched {
    base: NonNull<u8>,
    bytes: usize,
}

impl Touched {
    pub(crate) fn new(bytes: usize) -> Self {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: no address is given, so that no mapping is replaced.
        let base =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) };
        let base: NonNull<u8> = NonNull::new(base.unwrap().cast()).unwrap();
        // SAFETY: the range is the one above, and advice on the size of its pages changes nothing that it holds.
        unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxNoHugepage) }.unwrap();
        Self { base, bytes }
    }

    /// `bytes` from `offset` on.
    fn place(&mut self, offset: usize, bytes: usize) -> &mut [u8] {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: the offset lies within the range.
        let start = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: all of it lies within the range, which can be written, reads as zero where nothing was, and is borrowed as long as the slice is.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }

    /// Writes from `offset` on.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.place(offset, bytes.len()).copy_from_slice(bytes);
    }

    /// Gives back the memory of whole OS pages.
    pub(crate) fn give_back(&mut self, offset: usize, bytes: usize) {
        let place = self.place(offset, bytes).as_mut_ptr();
        // SAFETY: the pages lie within the range, and nobody has borrowed them any more.
        unsafe { madvise(place.cast(), bytes, Advice::LinuxDontNeed) }.unwrap();
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and nobody has borrowed it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
