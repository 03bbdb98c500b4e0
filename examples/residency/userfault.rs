//! Owns the calls of `userfaultfd` that move OS pages, as a program would make them that has no library for it: [`Userfault`].
#![allow(unsafe_code, reason = "the system's calls are what is measured")]

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// The right to move OS pages.
#[derive(Debug)]
pub(crate) struct Userfault(OwnedFd);

// What follows is the kernel's interface: linux/userfaultfd.h.

#[repr(C)]
struct Hello {
    version: u64,
    features: u64,
    calls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    bytes: u64,
    mode: u64,
    calls: u64,
}

#[repr(C)]
struct Move {
    to: u64,
    from: u64,
    bytes: u64,
    mode: u64,
    done: i64,
}

const HELLO: Opcode = opcode::read_write::<Hello>(0xAA, 0x3F);
const REGISTER: Opcode = opcode::read_write::<Register>(0xAA, 0x00);
const MOVE: Opcode = opcode::read_write::<Move>(0xAA, 0x05);
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);
const SIGNAL_AND_MOVE: u64 = 1 << 7 | 1 << 16;
const TRIES: usize = 1000;
/// Before, a move that meets the swap cache may stop the kernel.
const FIRST_KERNEL: [u32; 2] = [6, 14];
/// What is missing.
const MISSING: u64 = 1;

impl Userfault {
    /// Nothing where the system cannot, or does not let us.
    pub(crate) fn new() -> Option<Self> {
        if kernel() < FIRST_KERNEL {
            return None;
        }
        // SAFETY: the file is used for nothing but what is below; no faults are handled.
        let file = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY) }.ok()?;
        let mut hello = Hello { version: 0xAA, features: SIGNAL_AND_MOVE, calls: 0 };
        // SAFETY: the structure is that of the call, which touches no memory.
        unsafe { call::<HELLO, Hello>(&file, &mut hello) }.ok()?;
        Some(Self(file))
    }

    /// Lets OS pages be moved to a range.
    ///
    /// # Safety
    /// The range is the caller's own writable mapping. A touch of what is not there is a signal from then on.
    pub(crate) unsafe fn register(&self, start: *mut u8, bytes: usize) -> Result<(), Errno> {
        let start = start.expose_provenance() as u64;
        let mut register = Register { start, bytes: bytes as u64, mode: MISSING, calls: 0 };
        // SAFETY: the structure is that of the call; the memory is the caller's.
        unsafe { call::<REGISTER, Register>(&self.0, &mut register) }
    }

    /// Moves the memory of a range to one that is registered and has none.
    ///
    /// # Safety
    /// Both are the caller's own, and nothing lives in either.
    pub(crate) unsafe fn move_pages(&self, from: *mut u8, to: *mut u8, bytes: usize) -> Result<(), Errno> {
        // SAFETY: as the caller promises.
        if unsafe { self.move_at_once(from, to, bytes) }.is_ok() {
            return Ok(());
        }
        // Now and then some of it has to be tried again, and some kernels (6.18) do not say that they have moved it: what is there already is that.
        for at in (0..bytes).step_by(rustix::param::page_size()) {
            let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
            let mut tries = 0..TRIES;
            loop {
                // SAFETY: as the caller promises, for a part of it.
                match unsafe { self.move_at_once(from, to, rustix::param::page_size()) } {
                    Ok(()) | Err(Errno::EXIST) => break,
                    Err(Errno::AGAIN) if tries.next().is_some() => std::thread::yield_now(),
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// # Safety
    /// As [`move_pages`](Self::move_pages).
    unsafe fn move_at_once(&self, from: *mut u8, to: *mut u8, bytes: usize) -> Result<(), Errno> {
        let (from, to) = (from.expose_provenance() as u64, to.expose_provenance() as u64);
        let mut all = Move { to, from, bytes: bytes as u64, mode: 0, done: 0 };
        // SAFETY: the structure is that of the call; the memory is the caller's.
        unsafe { call::<MOVE, Move>(&self.0, &mut all) }?;
        if all.done == i64::try_from(bytes).unwrap_or(-1) { Ok(()) } else { Err(Errno::AGAIN) }
    }
}

/// The first two numbers of the kernel's version.
fn kernel() -> [u32; 2] {
    let system = rustix::system::uname();
    let mut numbers = system.release().to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    [(); 2].map(|()| numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// # Safety
/// `CALL` takes and fills in a `T`, and what it does to memory is as the caller's own promises have it.
unsafe fn call<const CALL: Opcode, T>(file: &OwnedFd, value: &mut T) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    let update = unsafe { Updater::<CALL, T>::new(value) };
    // SAFETY: as above.
    unsafe { ioctl(file, update) }
}
