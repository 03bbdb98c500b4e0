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

    /// Writes from `offset` on, in bytes.
    pub(crate) fn write(&mut self, offset: usize, values: &[f32]) {
        assert!(offset.is_multiple_of(align_of::<f32>()) && offset + size_of_val(values) <= self.bytes);
        // SAFETY: the place lies within the range, aligned, and is borrowed by nobody.
        unsafe {
            let to = self.base.as_ptr().add(offset).cast::<f32>();
            ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
        }
    }

    /// Gives back the memory of whole OS pages.
    pub(crate) fn give_back(&mut self, offset: usize, bytes: usize) {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: the pages lie within the range, which nobody has borrowed.
        unsafe { madvise(self.base.as_ptr().add(offset).cast(), bytes, Advice::LinuxDontNeed) }.unwrap();
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and nobody has borrowed it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
