//! Owns every call of the operating system that the host backend makes, each checked once. Addresses and sizes only; knows nothing of pages or books.
//!
//! | call | for |
//! | --- | --- |
//! | `mmap(NORESERVE)` | address ranges: without access, or writable with memory on first touch |
//! | `mremap(MAYMOVE, FIXED, DONTUNMAP)` | memory from one address to another, leaving the old range mapped, so that no hole ever opens |
//! | `mmap(FIXED)` over our own range | freeing what lies there and reserving it again, in one step |
//! | `mmap(SHARED)` | the same, of memory that can be mapped several times: moving its mapping leaves another one behind |
//! | `madvise` | populate, give back, huge pages, core dumps |

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mremap_fixed, munmap};

use crate::error::BackendError;

/// What a huge page of this system is aligned to and what memory a huge page takes.
pub(super) const HUGE_BYTES: usize = 2 << 20;

/// Size of an OS page.
pub(in crate::backend) fn os_page_bytes() -> usize {
    rustix::param::page_size()
}

/// `vm.max_map_count`, or the kernel's default where it cannot be read. Read once.
pub(in crate::backend) fn max_map_count() -> u64 {
    static COUNT: OnceLock<u64> = OnceLock::new();
    *COUNT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(65_530)
    })
}

/// What a range of addresses is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Purpose {
    /// No access until memory is moved here.
    Reserve,
    /// Memory comes with the first touch, in OS pages, or in huge pages where the system has them.
    Touch {
        /// Whether huge pages are wanted.
        huge: bool,
    },
    /// The same, of memory that can be mapped several times.
    Share {
        /// Whether huge pages are wanted.
        huge: bool,
    },
}

/// A range of addresses that is ours until dropped.
#[derive(Debug)]
pub(in crate::backend) struct Range {
    start: usize,
    bytes: usize,
}

impl Range {
    /// Takes a range of addresses that nothing else uses.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`] where there are none left, [`BackendError::System`] for any other refusal.
    pub(in crate::backend) fn new(
        bytes: usize,
        align_bytes: usize,
        purpose: Purpose,
    ) -> Result<Self, BackendError> {
        let range = Self::map(bytes, purpose)?;
        if range.start.is_multiple_of(align_bytes) {
            return Ok(range.advised(purpose));
        }
        drop(range);
        // Take more than is needed, then give the two ends back.
        let wide = bytes
            .checked_add(align_bytes)
            .ok_or(BackendError::OutOfMemory { call: "mmap", bytes: bytes as u64 })?;
        let wide = Self::map(wide, purpose)?;
        let start = wide.start.next_multiple_of(align_bytes);
        let (wide_start, wide_end) = (wide.start, wide.start + wide.bytes);
        std::mem::forget(wide);
        let range = Self { start, bytes };
        for (end_start, end) in [(wide_start, start), (start + bytes, wide_end)] {
            if end_start < end {
                drop(Self { start: end_start, bytes: end - end_start });
            }
        }
        Ok(range.advised(purpose))
    }

    fn map(bytes: usize, purpose: Purpose) -> Result<Self, BackendError> {
        let protection = match purpose {
            Purpose::Reserve => ProtFlags::empty(),
            Purpose::Touch { .. } | Purpose::Share { .. } => ProtFlags::READ | ProtFlags::WRITE,
        };
        let sharing =
            if matches!(purpose, Purpose::Share { .. }) { MapFlags::SHARED } else { MapFlags::PRIVATE };
        let flags = sharing | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }
            .map_err(|errno| failure("mmap", 0, bytes, errno))?;
        Ok(Self { start: start.expose_provenance(), bytes })
    }

    /// Both pieces of advice are about economy only, so that a system that refuses them (built without huge pages, say) is still served.
    ///
    /// A range without access needs none: what was never written is not dumped, and memory moved in brings its own. That keeps the mappings alike, so
    /// that the kernel merges what [`reserve_again`] leaves with its neighbours.
    fn advised(self, purpose: Purpose) -> Self {
        if let Purpose::Touch { huge } | Purpose::Share { huge } = purpose {
            advise(self.start, self.bytes, huge);
        }
        self
    }

    /// First address.
    pub(in crate::backend) fn start(&self) -> usize {
        self.start
    }

    /// Size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever holds an address in it holds what keeps this value alive.
        let _ = unsafe { munmap(pointer(self.start), self.bytes) };
    }
}

/// Says of memory that is ours in which pages it is to come, and that it is of no use in a core dump.
fn advise(start: usize, bytes: usize, huge: bool) {
    let size = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
    for advice in [size, Advice::LinuxDontDump] {
        // SAFETY: neither piece of advice changes the contents of any memory.
        let _ = unsafe { madvise(pointer(start), bytes, advice) };
    }
}

/// Moves the memory of a range to another, which loses what it had. The old range stays mapped and becomes empty; one made to be shared still maps the same memory, without having been
/// touched: the memory is at both places then.
///
/// **Cost**: one call, 5 to 15 us for up to 2 MiB, and no page fault afterwards.
///
/// # Safety
/// Both ranges are whole OS pages inside [`Range`]s that are ours, they do not overlap, and nobody holds a reference to or reads either.
pub(super) unsafe fn move_memory(from: usize, to: usize, bytes: usize) -> Result<(), BackendError> {
    let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
    // SAFETY: as the caller promises; DONTUNMAP keeps `from` mapped and FIXED replaces `to` within one lock of the address space.
    let moved = unsafe { mremap_fixed(pointer(from), bytes, bytes, flags, pointer(to)) };
    moved.map(|_| ()).map_err(|errno| failure("mremap", 0, bytes, errno))
}

/// Frees whatever memory a range has and reserves it again without access, in one step.
///
/// # Safety
/// The range is whole OS pages inside a [`Range`] that is ours, and nobody holds a reference to or reads it.
pub(in crate::backend) unsafe fn reserve_again(start: usize, bytes: usize) -> Result<(), BackendError> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: as the caller promises, only memory of ours is replaced.
    let mapped = unsafe { mmap_anonymous(pointer(start), bytes, ProtFlags::empty(), flags) };
    mapped.map(|_| ()).map_err(|errno| failure("mmap", 0, bytes, errno))
}

/// Reserves a range again after a move or a map to it failed, if the failure left a hole there (the kernel clears the target first; what can go wrong after that are
/// allocations that do not fail in practice), and says whether it did. Never replaces anything: by now it might be another thread's.
///
/// # Safety
/// As [`reserve_again`].
pub(in crate::backend) unsafe fn mend(start: usize, bytes: usize) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: nothing that exists is replaced.
    unsafe { mmap_anonymous(pointer(start), bytes, ProtFlags::empty(), flags) }.is_ok()
}

/// Whether the system frees the page tables of whole 2 MiB whose memory is [given back](give_back): Linux 6.14 on x86-64, unless it was built without `CONFIG_PT_RECLAIM`.
pub(super) fn gives_tables_back() -> bool {
    cfg!(target_arch = "x86_64") && kernel() >= (6, 14)
}

/// Version of the running kernel; 0 where it does not say. Asked once.
pub(super) fn kernel() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let system = rustix::system::uname();
        let mut numbers = system.release().to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        (next(), next())
    })
}

/// Gives the memory of a range back; it reads as zero from then on and can be written again.
///
/// # Safety
/// The range is whole OS pages inside a [`Range`] that is ours, made to be touched, and nobody holds a reference to it.
pub(super) unsafe fn give_back(start: usize, bytes: usize) -> Result<(), BackendError> {
    // SAFETY: as the caller promises.
    let given = unsafe { madvise(pointer(start), bytes, Advice::LinuxDontNeed) };
    given.map_err(|errno| failure("madvise", 0, bytes, errno))
}

/// The same for a range of memory that can be mapped several times: it is given back wherever it is mapped.
///
/// # Safety
/// The range is whole OS pages inside a [`Range`] that is ours, made to be shared, and nobody holds a reference to its memory at any place.
pub(super) unsafe fn give_back_shared(start: usize, bytes: usize) -> Result<(), BackendError> {
    // SAFETY: as the caller promises.
    let given = unsafe { madvise(pointer(start), bytes, Advice::LinuxRemove) };
    given.map_err(|errno| failure("madvise", 0, bytes, errno))
}

/// Frees whatever memory a range made to be touched has, and the tables that mapped it: what is touched next there comes in huge pages again, where that is what it was made for. It reads as zero from then on.
///
/// **Cost**: 5 us.
///
/// # Safety
/// The range is whole OS pages inside a [`Range`] that is ours, made to be touched, in huge pages or not as is said here, and nobody holds a reference to it.
pub(super) unsafe fn touch_again(start: usize, bytes: usize, huge: bool) -> Result<(), BackendError> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: as the caller promises, only memory of ours is replaced.
    let mapped = unsafe { mmap_anonymous(pointer(start), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) };
    mapped.map_err(|errno| failure("mmap", 0, bytes, errno))?;
    // As its neighbours, with which it becomes one mapping again.
    advise(start, bytes, huge);
    Ok(())
}

/// Takes memory for a range now, so that running out is an error and not a signal at the first touch. Contents are kept.
///
/// Says `false` where the system (before Linux 5.14) cannot: then nothing was done.
///
/// # Safety
/// The range is whole OS pages inside a [`Range`] that is ours, made to be touched.
pub(super) unsafe fn populate(start: usize, bytes: usize) -> Result<bool, BackendError> {
    // SAFETY: as the caller promises; populating changes no contents.
    match unsafe { madvise(pointer(start), bytes, Advice::LinuxPopulateWrite) } {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(failure("madvise", 0, bytes, errno)),
    }
}

/// Touches every OS page of a range, overwriting a byte of each.
///
/// # Safety
/// As [`populate`], and nobody else uses the range.
pub(super) unsafe fn touch(start: usize, bytes: usize) {
    for at in (start..start + bytes).step_by(os_page_bytes()) {
        // SAFETY: the address lies in the range that the caller alone uses, and is writable.
        unsafe { pointer(at).cast::<u8>().write_volatile(0) };
    }
}

/// Copies from one range of ours to another.
///
/// # Safety
/// The ranges do not overlap, `from` is readable and `to` is writable, and nobody else uses `to` or writes `from` meanwhile.
pub(in crate::backend) unsafe fn copy(from: usize, to: usize, bytes: usize) {
    // SAFETY: as the caller promises.
    unsafe { ptr::copy_nonoverlapping(pointer(from).cast::<u8>(), pointer(to).cast::<u8>(), bytes) };
}

/// The bytes of a range.
///
/// # Safety
/// The range is readable memory inside a [`Range`] that outlives `'a`, and nobody writes to it meanwhile.
pub(super) unsafe fn bytes<'a>(start: usize, bytes: usize) -> &'a [u8] {
    // SAFETY: as the caller promises; u8 has neither alignment nor invalid values.
    unsafe { std::slice::from_raw_parts(pointer(start).cast::<u8>(), bytes) }
}

/// The bytes of a range, to be written.
///
/// # Safety
/// The range is writable memory inside a [`Range`] that outlives `'a`, and nobody else uses it meanwhile.
pub(super) unsafe fn bytes_mut<'a>(start: usize, bytes: usize) -> &'a mut [u8] {
    // SAFETY: as the caller promises; u8 has neither alignment nor invalid values.
    unsafe { std::slice::from_raw_parts_mut(pointer(start).cast::<u8>(), bytes) }
}

/// Whether memory can be moved without leaving a hole (Linux 5.7 and later; memory to be shared, 5.13). Each is tried once.
pub(super) fn can_move(shared: bool) -> bool {
    static CAN: [OnceLock<bool>; 2] = [OnceLock::new(), OnceLock::new()];
    *CAN[usize::from(shared)].get_or_init(|| {
        let page = os_page_bytes();
        let purpose = if shared { Purpose::Share { huge: false } } else { Purpose::Touch { huge: false } };
        let (Ok(from), Ok(to)) = (Range::new(page, page, purpose), Range::new(page, page, Purpose::Reserve))
        else {
            return false;
        };
        // SAFETY: both ranges are ours, one OS page each, and nobody else knows them.
        unsafe { move_memory(from.start(), to.start(), page) }.is_ok()
    })
}

pub(in crate::backend) fn pointer(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

/// An error of the system as one of ours.
pub(super) fn failure(call: &'static str, offset_bytes: u64, bytes: usize, errno: Errno) -> BackendError {
    let bytes = bytes as u64;
    match errno {
        Errno::NOMEM => BackendError::OutOfMemory { call, bytes },
        _ => BackendError::System { call, offset_bytes, bytes, source: errno.into() },
    }
}
