//! Owns [`ZeroedWords`]: a slice of atomic words, all zero, of any length that fits the address space, whose memory comes where it is written.
//! Knows nothing of what the words mean.
//!
//! Used for what is indexed by tile or page: a plane over 2^46 bytes in 4 KiB pages has 2^28 words, but takes memory only where pages live.
//! Under loom, whose atomics are no plain words, it is a vector of them.
#![cfg_attr(not(vastgrid_loom), expect(unsafe_code, reason = "a slice over memory that mmap returned"))]

#[cfg(not(vastgrid_loom))]
pub(crate) use mapped::ZeroedWords;
#[cfg(vastgrid_loom)]
pub(crate) use modelled::ZeroedWords;

/// What is there when the frame protocol is model-checked: for the few words of such a test.
#[cfg(vastgrid_loom)]
mod modelled {
    use std::ops::{Deref, Range};

    use crate::error::BackendError;
    use crate::sync::AtomicU64;

    #[derive(Debug)]
    pub(crate) struct ZeroedWords(Vec<AtomicU64>);

    impl ZeroedWords {
        pub(crate) fn forget(&self, words: Range<usize>) {
            self.0[words].iter().for_each(|word| word.store(0, crate::sync::Ordering::Relaxed));
        }

        pub(crate) fn prefetch(&self, _word: usize) {}

        pub(crate) fn new(len: u64) -> Result<Self, BackendError> {
            Ok(Self((0..len).map(|_| AtomicU64::new(0)).collect()))
        }
    }

    impl Deref for ZeroedWords {
        type Target = [AtomicU64];

        fn deref(&self) -> &[AtomicU64] {
            &self.0
        }
    }
}

#[cfg(not(vastgrid_loom))]
mod mapped {
    use std::ffi::c_void;
    use std::fmt;
    use std::ops::{Deref, Range};
    use std::ptr::{self, NonNull};
    use std::sync::atomic::AtomicU64;

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use crate::error::BackendError;

    /// A fixed number of atomic words that start as zero.
    ///
    /// **Cost**: one `mmap` and two `madvise` when it is made, whatever the length. The first write of each 4 KiB (512 words) takes an OS page; reads
    /// of what was never written map the system's shared zero page. The memory is left out of core dumps.
    pub(crate) struct ZeroedWords {
        /// Start of the mapping; dangling, but aligned, where `len` is 0.
        base: NonNull<AtomicU64>,
        /// Length in words.
        len: usize,
    }

    // SAFETY: the mapping is owned by this value alone and freed by any thread with munmap; it is reached only as `AtomicU64`.
    unsafe impl Send for ZeroedWords {}
    // SAFETY: as above; all shared access is atomic.
    unsafe impl Sync for ZeroedWords {}

    impl ZeroedWords {
        /// Reserves `len` words.
        ///
        /// # Errors
        /// [`BackendError::OutOfMemory`] where there is no address space for them (or, under strict overcommit, no memory).
        pub(crate) fn new(len: u64) -> Result<Self, BackendError> {
            let out_of_memory = || BackendError::OutOfMemory { call: "mmap", bytes: len.saturating_mul(8) };
            // A slice takes at most isize::MAX bytes.
            let bytes =
                len.checked_mul(8).filter(|b| isize::try_from(*b).is_ok()).ok_or_else(out_of_memory)?;
            let (Ok(bytes), Ok(len)) = (usize::try_from(bytes), usize::try_from(len)) else {
                return Err(out_of_memory());
            };
            if len == 0 {
                return Ok(Self { base: NonNull::dangling(), len });
            }
            // SAFETY: no address is asked for, so nothing that exists is replaced.
            let base = unsafe {
                mmap_anonymous(
                    ptr::null_mut(),
                    bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE | MapFlags::NORESERVE,
                )
            }
            .map_err(|_| out_of_memory())?;
            for advice in [Advice::LinuxNoHugepage, Advice::LinuxDontDump] {
                // SAFETY: the range is the mapping made above, and neither advice changes its contents. Kernels built without huge pages refuse the
                // first; both are about economy only, so a refusal is no failure.
                let _ = unsafe { madvise(base, bytes, advice) };
            }
            let base = NonNull::new(base.cast()).ok_or_else(out_of_memory)?;
            Ok(Self { base, len })
        }

        /// Has the processor fetch a word that is wanted soon, where it can be told to. Does not wait for it.
        #[inline(always)]
        pub(crate) fn prefetch(&self, word: usize) {
            #[cfg(target_arch = "x86_64")]
            if word < self.len {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint, which faults nowhere; every x86-64 processor has it. The address is inside the mapping.
                unsafe { _mm_prefetch(self.base.as_ptr().wrapping_add(word).cast::<i8>(), _MM_HINT_T0) };
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = word;
        }

        /// Gives the memory of words back that matter no more: those of whole OS pages among them are zero from now on, others may stay as they are. To be called where nobody writes to them; reads
        /// meanwhile find each as it was, or zero.
        ///
        /// **Cost**: one `madvise`.
        pub(crate) fn forget(&self, words: Range<usize>) {
            let os_page = rustix::param::page_size() / size_of::<AtomicU64>();
            let (first, end) =
                (words.start.next_multiple_of(os_page), words.end.min(self.len) / os_page * os_page);
            if first >= end {
                return;
            }
            let at = self.base.as_ptr().wrapping_add(first).cast::<c_void>();
            // SAFETY: whole OS pages of the mapping that `new` made, which is private and anonymous: they read as zero afterwards, as fresh ones do. A refusal leaves all as it was.
            let _ = unsafe { madvise(at, (end - first) * size_of::<AtomicU64>(), Advice::LinuxDontNeed) };
        }
    }

    impl Deref for ZeroedWords {
        type Target = [AtomicU64];

        #[inline]
        fn deref(&self) -> &[AtomicU64] {
            // SAFETY: `base` is the start of a live private mapping of `len` words that `new` made and only `drop` ends (or dangling with `len` 0);
            // mmap aligns it to an OS page, its bytes start as zero, and every bit pattern is an `AtomicU64`.
            unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
        }
    }

    impl Drop for ZeroedWords {
        fn drop(&mut self) {
            if self.len > 0 {
                // SAFETY: `new` mapped exactly this range, and no borrow of it outlives `self`. The product did not overflow there.
                let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len * 8) };
            }
        }
    }

    impl fmt::Debug for ZeroedWords {
        /// The length only: printing the words would read, and so map, them all.
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("ZeroedWords").field("len", &self.len).finish_non_exhaustive()
        }
    }
}

#[cfg(all(test, not(vastgrid_loom)))]
mod tests {
    use super::*;
    use crate::error::BackendError;
    use std::sync::atomic::Ordering;

    #[test]
    fn huge_lengths_are_zero_and_writable_everywhere() {
        let words = ZeroedWords::new(1 << 37).unwrap();
        assert_eq!(words.len(), 1 << 37);
        for at in [0, 1, 511, 512, (1 << 36) + 7, (1 << 37) - 1] {
            assert_eq!(words[at].load(Ordering::Relaxed), 0);
            words[at].store(at as u64 + 1, Ordering::Relaxed);
        }
        assert_eq!(words[(1 << 37) - 1].load(Ordering::Relaxed), 1 << 37);
        assert_eq!(words[(1 << 37) - 2].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_forgotten_is_zero_again_and_nothing_beside_it_is() {
        let words = ZeroedWords::new(10_000).unwrap();
        let set = || (0..10_000).for_each(|i| words[i].store(7, Ordering::Relaxed));
        let zero = || words.iter().filter(|word| word.load(Ordering::Relaxed) == 0).count();
        let os_page = rustix::param::page_size() / 8;
        set();
        words.forget(1..os_page);
        words.forget(9_999..9_999);
        assert_eq!(zero(), 0, "parts of OS pages stay");
        words.forget(1..2 * os_page + 1);
        assert!(words[os_page..2 * os_page].iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert_eq!(zero(), os_page);
        set();
        words.forget(0..usize::MAX);
        assert_eq!(zero(), 10_000 / os_page * os_page);
    }

    #[test]
    fn nothing_and_too_much() {
        assert!(ZeroedWords::new(0).unwrap().is_empty());
        for len in [1 << 44, 1 << 60, u64::MAX] {
            assert!(matches!(ZeroedWords::new(len), Err(BackendError::OutOfMemory { call: "mmap", .. })));
        }
    }

    #[test]
    fn dropping_gives_the_addresses_back() {
        // 2^47 bytes of user addresses: a leak of 2^43 bytes each would run out within 16 rounds.
        for _ in 0..64 {
            drop(ZeroedWords::new(1 << 40).unwrap());
        }
    }

    #[test]
    fn threads_share_it() {
        let words = ZeroedWords::new(1000).unwrap();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| words.iter().for_each(|w| _ = w.fetch_add(1, Ordering::Relaxed)));
            }
        });
        assert!(words.iter().all(|w| w.load(Ordering::Relaxed) == 4));
    }
}
