//! Owns the calls of `userfaultfd`, by which the OS pages of one range are moved to another: no mapping is split, no table of another range is touched, and where nothing is a touch is a signal
//! (`SIGBUS`) and no memory. Addresses and sizes only.
//!
//! | call | for |
//! | --- | --- |
//! | `UFFDIO_REGISTER` | a range to which OS pages may be moved |
//! | `UFFDIO_MOVE` (Linux 6.8) | moving them |
//! | `UFFDIO_COPY` | what cannot be moved: OS pages that others hold as well, such as a forked process or a device |
//!
//! Faults themselves are never handled, so that no thread waits for them, and no privilege is needed.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};
use rustix::process::{Pid, getpid};

use super::sys::{self, Purpose, Range};
use crate::error::BackendError;

// What follows is the kernel's interface: linux/userfaultfd.h.

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

const CALL_API: Opcode = opcode::read_write::<Api>(0xAA, 0x3F);
const CALL_REGISTER: Opcode = opcode::read_write::<Register>(0xAA, 0x00);
const CALL_COPY: Opcode = opcode::read_write::<Transfer>(0xAA, 0x03);
const CALL_MOVE: Opcode = opcode::read_write::<Transfer>(0xAA, 0x05);

/// How often a call is made that the kernel says to make again.
const TRIES: usize = 64;

/// The right to move OS pages within this process.
#[derive(Debug)]
pub(super) struct Userfault {
    file: OwnedFd,
    /// A child that was forked has the file as well. What it registers there would be its parent's memory; what it moves, the kernel refuses.
    process: Pid,
}

/// What this process may use; nothing where the system cannot, or does not let us. Asked once.
pub(super) fn userfault() -> Option<&'static Userfault> {
    static SHARED: OnceLock<Option<Userfault>> = OnceLock::new();
    SHARED.get_or_init(|| Userfault::new().ok()).as_ref()
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
        // SAFETY: the file is used for nothing but what is below: memory of ours, and no faults are handled.
        let file = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY) }?;
        let mut api = Api { version: VERSION, features: FEATURE_SIGBUS | FEATURE_MOVE, ioctls: 0 };
        // SAFETY: the opcode is that of this structure, and touches no memory. A kernel that lacks a feature refuses.
        unsafe { call::<CALL_API, Api>(&file, &mut api) }?;
        let this = Self { file, process: getpid() };
        this.works().then_some(this).ok_or(Errno::NOSYS)
    }

    /// Moves a page there and another back.
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
        registered.is_ok() && unsafe { self.transfer::<CALL_MOVE>(from.start(), to.start(), bytes) }.1.is_ok()
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
    /// **Cost**: 0.3 us for an OS page and 1 us for the call; a huge page is moved as one, in 3 us.
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
        if matches!(result, Err(Errno::BUSY | Errno::AGAIN)) {
            // SAFETY: as above.
            let (more, copied) = unsafe { self.transfer::<CALL_COPY>(from + done, to + done, bytes - done) };
            if copied.is_ok() {
                // SAFETY: as above; what was there is a copy by now.
                return unsafe { sys::give_back(from + done, bytes - done) };
            }
            // What was copied is still at its old place.
            // SAFETY: as above: what is there is ours, and a copy.
            let _ = unsafe { sys::give_back(to + done, more) };
            result = copied;
        }
        let Err(errno) = result else { return Ok(()) };
        if done > 0 {
            // SAFETY: as above: this is what was just moved there.
            unsafe { self.bring_back(from, to, done) };
        }
        Err(sys::failure("userfaultfd move", 0, bytes, errno))
    }

    /// Undoes a part of a move.
    ///
    /// # Safety
    /// As [`move_pages`](Self::move_pages), after it moved this part.
    unsafe fn bring_back(&self, from: usize, to: usize, bytes: usize) {
        // SAFETY: as the caller promises.
        let (done, moved) = unsafe { self.transfer::<CALL_MOVE>(to, from, bytes) };
        if moved.is_ok() {
            return;
        }
        // A range that is not registered takes memory with the first touch.
        let (from, to, rest) = (from + done, to + done, bytes - done);
        // SAFETY: as above.
        if unsafe { sys::populate(from, rest) }.is_ok() {
            // SAFETY: as above; both have memory now.
            unsafe { sys::copy(to, from, rest) };
            // SAFETY: as above.
            let _ = unsafe { sys::give_back(to, rest) };
        }
    }

    /// Says how many bytes were done, and why no more. Makes the call again where that is all it takes.
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
            let (to, from, left) = ((to + done) as u64, (from + done) as u64, (bytes - done) as u64);
            let mut transfer = Transfer { to, from, bytes: left, mode: 0, done: 0 };
            // SAFETY: the opcode is that of this structure, says the caller, and so is what it does to memory.
            let result = unsafe { call::<CALL, Transfer>(&self.file, &mut transfer) };
            let more = usize::try_from(transfer.done).unwrap_or(0).min(bytes - done);
            done += more;
            match result {
                Ok(()) if more == 0 => return (done, Err(Errno::IO)),
                Ok(()) => {}
                // The kernel says that of every move that was not done whole: the next one says why.
                Err(Errno::AGAIN) if more > 0 => {}
                Err(Errno::AGAIN) if tries < TRIES => {
                    tries += 1;
                    std::thread::yield_now();
                }
                Err(errno) => return (done, Err(errno)),
            }
        }
        (done, Ok(()))
    }
}

/// Makes a call of a `userfaultfd`.
///
/// # Safety
/// `CALL` takes and fills in a `T`, and what it does to memory is as the caller's own promises have it.
unsafe fn call<const CALL: Opcode, T>(file: &OwnedFd, value: &mut T) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    let update = unsafe { Updater::<CALL, T>::new(value) };
    // SAFETY: as above.
    unsafe { ioctl(file, update) }
}

/// Makes OS pages this process' own, with their contents.
///
/// # Safety
/// The range is writable memory of ours, which nobody else uses.
unsafe fn own(start: usize, bytes: usize) {
    for at in (start..start + bytes).step_by(sys::os_page_bytes()) {
        // SAFETY: as the caller promises; a byte has no alignment. An atomic operation, so that it is a write although it changes nothing.
        let byte = unsafe { AtomicU8::from_ptr(sys::pointer(at).cast()) };
        byte.fetch_or(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, SeekFrom};

    use super::*;

    fn range(bytes: usize, huge: bool) -> Range {
        Range::new(bytes, bytes, Purpose::Touch { huge }).unwrap()
    }

    fn pattern(at: usize) -> u8 {
        (at / 7 % 251).to_le_bytes()[0]
    }

    fn fill(start: usize, bytes: usize) {
        // SAFETY: memory of a range of the test's own.
        let memory = unsafe { sys::bytes_mut(start, bytes) };
        memory.iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(at));
    }

    fn holds(start: usize, bytes: usize) -> bool {
        // SAFETY: as above.
        let memory = unsafe { sys::bytes(start, bytes) };
        memory.iter().enumerate().all(|(at, byte)| *byte == pattern(at))
    }

    /// Bytes of a range that have memory.
    fn resident(start: usize, bytes: usize) -> usize {
        let os_page = sys::os_page_bytes();
        let mut pages = vec![0u8; 8 * bytes / os_page];
        let mut map = File::open("/proc/self/pagemap").unwrap();
        map.seek(SeekFrom::Start((start / os_page * 8) as u64)).unwrap();
        map.read_exact(&mut pages).unwrap();
        // Present or swapped out.
        pages.chunks_exact(8).filter(|entry| entry[7] & 0xC0 != 0).count() * os_page
    }

    #[test]
    fn memory_is_moved_with_its_contents_and_leaves_nothing() {
        let Some(userfault) = userfault() else { return eprintln!("skipped: no userfaultfd here") };
        for (bytes, huge) in [(4096, false), (64 << 10, false), (1 << 20, false), (2 << 20, true)] {
            let (from, to) = (range(bytes, huge), range(bytes, huge));
            fill(from.start(), bytes);
            // SAFETY: ranges of the test's own.
            unsafe { userfault.register(to.start(), bytes) }.unwrap();
            // SAFETY: as above.
            unsafe { userfault.move_pages(from.start(), to.start(), bytes) }.unwrap();
            assert!(holds(to.start(), bytes), "{bytes}");
            assert_eq!((resident(from.start(), bytes), resident(to.start(), bytes)), (0, bytes));
        }
    }

    #[test]
    fn a_move_that_fails_halfway_leaves_memory_where_it_was() {
        const BYTES: usize = 64 << 10;
        let Some(userfault) = userfault() else { return eprintln!("skipped: no userfaultfd here") };
        for registered in [false, true] {
            let (from, to) = (range(BYTES, false), range(BYTES, false));
            fill(from.start(), BYTES);
            // SAFETY: ranges of the test's own. The last OS page of where it goes is taken.
            unsafe { sys::touch(to.start() + BYTES - 4096, 4096) };
            // SAFETY: as above.
            unsafe { userfault.register(to.start(), BYTES) }.unwrap();
            if registered {
                // SAFETY: as above.
                unsafe { userfault.register(from.start(), BYTES) }.unwrap();
            }
            // SAFETY: as above.
            let error = unsafe { userfault.move_pages(from.start(), to.start(), BYTES) }.unwrap_err();
            assert!(error.to_string().contains("userfaultfd move"), "{error}");
            assert!(holds(from.start(), BYTES));
            assert_eq!((resident(from.start(), BYTES), resident(to.start(), BYTES)), (BYTES, 4096));
        }
    }
}
