//! Owns the calls of `userfaultfd`, by which the OS pages of one range are moved to another: no mapping is split, no table of another range is touched, and where nothing is a touch is a signal
//! (`SIGBUS`) and no memory. Addresses and sizes only.
//!
//! | call | for |
//! | --- | --- |
//! | `UFFDIO_REGISTER` | a range to which OS pages may be moved |
//! | `UFFDIO_MOVE` (Linux 6.8) | moving them |
//! | `UFFDIO_COPY` | what cannot be moved: OS pages that others hold as well, such as a device |
//! | `PAGEMAP_SCAN` (Linux 6.7) | what is where after a move that failed; whether memory is a huge page |
//!
//! Faults themselves are never handled, so that no thread waits for them, and no privilege is needed. From Linux 6.14 on: before, a move that meets the swap cache may stop the kernel.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};
use rustix::process::{Pid, getpid};

use super::sys::{self, Purpose, Range};
use crate::error::BackendError;

/// The kernel from which on OS pages are moved.
const FIRST_KERNEL: (u32, u32) = (6, 14);

// What follows is the kernel's interface: linux/userfaultfd.h and linux/fs.h.

const VERSION: u64 = 0xAA;
/// Only faults of user code are meant: what unprivileged processes may ask for.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);
/// A touch of what is not there is a signal.
const FEATURE_SIGBUS: u64 = 1 << 7;
const FEATURE_MOVE: u64 = 1 << 16;
const REGISTER_MISSING: u64 = 1;

#[repr(C)]
#[derive(Debug)]
struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Debug)]
struct Register {
    start: u64,
    bytes: u64,
    mode: u64,
    ioctls: u64,
}

/// Of a move and of a copy.
#[repr(C)]
#[derive(Debug)]
struct Transfer {
    to: u64,
    from: u64,
    bytes: u64,
    mode: u64,
    /// Set by the kernel: how many bytes were done, or an error.
    done: i64,
}

/// What to look for in a range, and where to put the ranges that are found.
#[repr(C)]
#[derive(Debug, Default)]
struct Scan {
    bytes_of_this: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    found: u64,
    found_len: u64,
    max_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    start: u64,
    end: u64,
    categories: u64,
}

const IN_MEMORY_OR_SWAPPED: u64 = 1 << 3 | 1 << 4;
const HUGE: u64 = 1 << 6;

const CALL_API: Opcode = opcode::read_write::<Api>(0xAA, 0x3F);
const CALL_REGISTER: Opcode = opcode::read_write::<Register>(0xAA, 0x00);
const CALL_COPY: Opcode = opcode::read_write::<Transfer>(0xAA, 0x03);
const CALL_MOVE: Opcode = opcode::read_write::<Transfer>(0xAA, 0x05);
const CALL_SCAN: Opcode = opcode::read_write::<Scan>(b'f', 16);

/// How often a call is made that the kernel says to make again.
const TRIES: usize = 64;

/// The right to move OS pages within this process.
#[derive(Debug)]
pub(super) struct Userfault {
    file: OwnedFd,
    /// `/proc/self/pagemap`.
    page_map: File,
    /// A child that was forked has the file as well. What it registers there would be its parent's memory; what it moves, the kernel refuses.
    process: Pid,
}

/// What this process may use; nothing where the system cannot, or does not let us. Asked once.
pub(super) fn userfault() -> Option<&'static Userfault> {
    static SHARED: OnceLock<Option<Userfault>> = OnceLock::new();
    SHARED.get_or_init(|| Userfault::new().ok()).as_ref()
}

/// The same where a reservation is of moved pages, which there are only where the process may move them.
pub(super) fn required() -> Result<&'static Userfault, BackendError> {
    userfault().ok_or(BackendError::WrongOwner {
        call: "map",
        what: "the reservation is of moved pages, which this process cannot have",
    })
}

/// Whether memory comes in huge pages where that is asked for. Read once.
pub(super) fn has_huge_pages() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let chosen = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        chosen.is_ok_and(|chosen| !chosen.contains("[never]"))
    })
}

impl Userfault {
    fn new() -> Result<Self, Errno> {
        if sys::kernel() < FIRST_KERNEL {
            return Err(Errno::NOSYS);
        }
        let page_map = File::open("/proc/self/pagemap").map_err(|_| Errno::NOENT)?;
        // SAFETY: the file is used for nothing but what is below: memory of ours, and no faults are handled.
        let file = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY) }?;
        let mut api = Api { version: VERSION, features: FEATURE_SIGBUS | FEATURE_MOVE, ioctls: 0 };
        // SAFETY: the opcode is that of this structure, and touches no memory. A kernel that lacks a feature refuses.
        unsafe { call::<CALL_API, Api>(&file, &mut api) }?;
        let this = Self { file, page_map, process: getpid() };
        this.works().then_some(this).ok_or(Errno::NOSYS)
    }

    /// Moves an OS page, and looks whether it is there and no longer here.
    fn works(&self) -> bool {
        let bytes = sys::os_page_bytes();
        let purpose = Purpose::Touch { huge: false };
        let (Ok(from), Ok(to)) = (Range::new(bytes, bytes, purpose), Range::new(bytes, bytes, purpose))
        else {
            return false;
        };
        // SAFETY: both ranges are ours, one OS page each, and nobody else knows them.
        let registered = unsafe { self.register(to.start(), bytes) };
        // SAFETY: as above.
        unsafe { sys::touch(from.start(), bytes) };
        // SAFETY: as above; there is memory at `from` by now, and only there.
        registered.is_ok()
            && unsafe { self.transfer::<CALL_MOVE>(from.start(), to.start(), bytes) }.1.is_ok()
            && self.leading(to.start(), bytes, IN_MEMORY_OR_SWAPPED) == Ok(bytes)
            && self.leading(from.start(), bytes, IN_MEMORY_OR_SWAPPED) == Ok(0)
    }

    /// How much of a range there is memory for, or in huge pages, from its beginning on without a gap.
    fn leading(&self, start: usize, bytes: usize, categories: u64) -> Result<usize, Errno> {
        let mut found = Found::default();
        let mut scan = Scan {
            bytes_of_this: size_of::<Scan>() as u64,
            start: start as u64,
            end: (start + bytes) as u64,
            found: (&raw mut found).expose_provenance() as u64,
            found_len: 1,
            any_of: categories,
            returned: categories,
            ..Scan::default()
        };
        // Of all that is alike only: what is in memory and what is swapped are two.
        let mut leading = 0;
        while leading < bytes {
            scan.start = (start + leading) as u64;
            // SAFETY: the opcode is that of this structure, which says where one range may be written.
            let count = unsafe { call_that_counts::<CALL_SCAN, Scan>(&self.page_map, &mut scan) }?;
            if count == 0 || found.start != scan.start {
                break;
            }
            let more = usize::try_from(found.end.saturating_sub(found.start)).unwrap_or(0);
            if more == 0 {
                break;
            }
            leading += more;
        }
        Ok(leading.min(bytes))
    }

    /// Whether there is no memory in a range.
    pub(super) fn is_empty(&self, start: usize, bytes: usize) -> bool {
        let os_page = sys::os_page_bytes();
        let is_empty = |at| self.leading(at, os_page, IN_MEMORY_OR_SWAPPED) == Ok(0);
        (start..start + bytes).step_by(os_page).all(is_empty)
    }

    /// Whether all of a range is in huge pages, each mapped as one. Moving them leaves no page table.
    pub(super) fn is_huge(&self, start: usize, bytes: usize) -> bool {
        self.leading(start, bytes, HUGE) == Ok(bytes)
    }

    /// Lets OS pages be moved to a range. What is not there is not touched from then on: that is a signal.
    ///
    /// # Errors
    /// [`BackendError::System`], also in a process that was forked from the one that asked first.
    ///
    /// # Safety
    /// The range is whole OS pages inside a [`Range`] that is ours, made to be touched, and nobody reads what is not there yet.
    pub(super) unsafe fn register(&self, start: usize, bytes: usize) -> Result<(), BackendError> {
        if self.process != getpid() {
            return Err(sys::failure("userfaultfd register", 0, bytes, Errno::PERM));
        }
        let mut register =
            Register { start: start as u64, bytes: bytes as u64, mode: REGISTER_MISSING, ioctls: 0 };
        // SAFETY: the opcode is that of this structure, and the memory is ours, says the caller.
        let registered = unsafe { call::<CALL_REGISTER, Register>(&self.file, &mut register) };
        registered.map_err(|errno| sys::failure("userfaultfd register", 0, bytes, errno))
    }

    /// Moves the memory of a range to one that is registered and has none. The old range has none afterwards.
    ///
    /// **Cost**: 0.15 us for an OS page and 1 us for the call; a huge page is moved as one, in less than 2 us.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`] where an OS page that cannot be moved cannot be copied either, [`BackendError::System`]. The memory is where it was, then.
    ///
    /// # Safety
    /// Both ranges are whole OS pages inside [`Range`]s that are ours, writable, do not overlap, and nobody holds a reference to or reads either. There is memory throughout `from`, and none at `to`.
    pub(super) unsafe fn move_pages(&self, from: usize, to: usize, bytes: usize) -> Result<(), BackendError> {
        // SAFETY: as the caller promises.
        let (mut done, mut result) = unsafe { self.transfer::<CALL_MOVE>(from, to, bytes) };
        if result == Err(Errno::BUSY) {
            // Shared with a process that was forked, most likely. Written to they are ours alone.
            // SAFETY: as the caller promises, for the rest of it.
            unsafe { own(from + done, bytes - done) };
            // SAFETY: as above.
            let (more, again) = unsafe { self.transfer::<CALL_MOVE>(from + done, to + done, bytes - done) };
            (done, result) = (done + more, again);
        }
        if matches!(result, Err(Errno::BUSY | Errno::AGAIN)) && self.process == getpid() {
            // SAFETY: as above.
            result = unsafe { self.copy_pages(from + done, to + done, bytes - done) };
        }
        let Err(errno) = result else { return Ok(()) };
        if done > 0 {
            // SAFETY: as above: this is what was just moved there.
            unsafe { self.bring_back(from, to, done) };
        }
        Err(sys::failure("userfaultfd move", 0, bytes, errno))
    }

    /// Copies the memory of a range to one that is registered and has none, and gives the old one back: what a move comes to. After an error nothing was done.
    ///
    /// # Safety
    /// As [`move_pages`](Self::move_pages).
    unsafe fn copy_pages(&self, from: usize, to: usize, bytes: usize) -> Result<(), Errno> {
        // SAFETY: as the caller promises.
        let (done, copied) = unsafe { self.transfer::<CALL_COPY>(from, to, bytes) };
        let (superfluous, bytes) = if copied.is_ok() { (from, bytes) } else { (to, done) };
        if bytes > 0 {
            // SAFETY: as above: there is a copy of it.
            unsafe { give_back(superfluous, bytes) };
        }
        copied
    }

    /// Undoes a part of a move.
    ///
    /// # Safety
    /// As [`move_pages`](Self::move_pages), after it moved this part.
    unsafe fn bring_back(&self, from: usize, to: usize, bytes: usize) {
        // SAFETY: as the caller promises.
        let (done, moved) = unsafe { self.transfer::<CALL_MOVE>(to, from, bytes) };
        let (from, to, rest) = (from + done, to + done, bytes - done);
        // SAFETY: as above.
        if moved.is_ok() || unsafe { self.copy_pages(to, from, rest) }.is_ok() {
            return;
        }
        // A range that is not registered takes memory when it is touched.
        // SAFETY: as above.
        match unsafe { sys::populate(from, rest) } {
            // SAFETY: as above; both have memory now.
            Ok(_) => unsafe { sys::copy(to, from, rest) },
            Err(error) => {
                tracing::error!(%error, "the contents of a page are lost: it could be moved neither on nor back");
            }
        }
        // SAFETY: as above. Nothing may stay there, whatever becomes of this.
        unsafe { give_back(to, rest) };
    }

    /// Says how many bytes were done, and why no more. Makes the call again where that is all it takes.
    ///
    /// From Linux 6.18 on, until it was mended in 2026, the kernel might go over OS pages twice that it had just moved, and say that there is something already where they go. So it is looked at what is where.
    ///
    /// # Safety
    /// As [`move_pages`](Self::move_pages); `CALL` is of a [`Transfer`].
    unsafe fn transfer<const CALL: Opcode>(
        &self,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> (usize, Result<(), Errno>) {
        let mut done = 0;
        let mut tries = 0;
        while done < bytes {
            let (to, from, left) = (to + done, from + done, bytes - done);
            let mut transfer =
                Transfer { to: to as u64, from: from as u64, bytes: left as u64, mode: 0, done: 0 };
            // SAFETY: the opcode is that of this structure, says the caller, and so is what it does to memory.
            let result = unsafe { call::<CALL, Transfer>(&self.file, &mut transfer) };
            let more = usize::try_from(transfer.done).unwrap_or(0).min(left);
            done += more;
            match result {
                Ok(()) if more == 0 => return (done, Err(Errno::IO)),
                Ok(()) => {}
                // The kernel says that of every move that was not done whole: the next one says why.
                Err(Errno::AGAIN) if more > 0 => {}
                Err(Errno::EXIST) => {
                    let moved = self.moved(from, to, left);
                    if moved == 0 {
                        return (done, Err(Errno::EXIST));
                    }
                    done += moved;
                }
                Err(Errno::AGAIN) if tries < TRIES => {
                    tries += 1;
                    std::thread::yield_now();
                }
                Err(errno) => return (done, Err(errno)),
            }
        }
        (done, Ok(()))
    }

    /// How much of a range was moved to another that had no memory: what is there, and no longer here.
    fn moved(&self, from: usize, to: usize, bytes: usize) -> usize {
        let there = self.leading(to, bytes, IN_MEMORY_OR_SWAPPED).unwrap_or(0);
        let gone = |at: usize| self.leading(at, sys::os_page_bytes(), IN_MEMORY_OR_SWAPPED) == Ok(0);
        (from..from + there).step_by(sys::os_page_bytes()).take_while(|&at| gone(at)).count()
            * sys::os_page_bytes()
    }
}

/// Makes a call of the kernel.
///
/// # Safety
/// `CALL` takes and fills in a `T`, and what it does to memory is as the caller's own promises have it.
unsafe fn call<const CALL: Opcode, T>(file: impl AsFd, value: &mut T) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    let update = unsafe { Updater::<CALL, T>::new(value) };
    // SAFETY: as above.
    unsafe { ioctl(file, update) }
}

/// The same of one that says how many of something it found.
///
/// # Safety
/// As [`call`].
unsafe fn call_that_counts<const CALL: Opcode, T>(file: impl AsFd, value: &mut T) -> Result<usize, Errno> {
    // SAFETY: as the caller promises.
    unsafe { ioctl(file, Counter::<CALL, T>(value)) }
}

/// A call that fills in a `T` and returns a number.
struct Counter<'a, const CALL: Opcode, T>(&'a mut T);

// SAFETY: the opcode is of a call that takes a pointer to a `T`, which it may write to; what it returns is its output.
unsafe impl<const CALL: Opcode, T> Ioctl for Counter<'_, CALL, T> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        CALL
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<usize, Errno> {
        usize::try_from(output).map_err(|_| Errno::OVERFLOW)
    }
}

/// Makes OS pages this process' own, with their contents.
///
/// # Safety
/// The range is writable memory of ours, which nobody else uses.
unsafe fn own(start: usize, bytes: usize) {
    for at in (start..start + bytes).step_by(sys::os_page_bytes()) {
        let at = sys::pointer(at).cast::<u8>();
        // SAFETY: as the caller promises.
        let byte = unsafe { at.read_volatile() };
        // SAFETY: as above.
        unsafe { at.write_volatile(byte) };
    }
}

/// Gives memory back of which there is a copy.
///
/// # Safety
/// As [`sys::give_back`].
unsafe fn give_back(start: usize, bytes: usize) {
    // SAFETY: as the caller promises.
    if let Err(error) = unsafe { sys::give_back(start, bytes) } {
        tracing::warn!(%error, "memory that was copied elsewhere could not be given back");
    }
}

#[cfg(test)]
mod tests;
