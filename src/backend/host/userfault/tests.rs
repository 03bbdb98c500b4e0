//! The kernel's part of the bargain, and what is done where it does not keep it.

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
fn the_kernel_has_a_version() {
    assert!(sys::kernel() >= (3, 0), "{:?}", sys::kernel());
}

#[test]
fn what_was_moved_already_is_found() {
    const BYTES: usize = 64 << 10;
    let Some(userfault) = userfault() else { return eprintln!("skipped: no userfaultfd here") };
    let (from, to) = (range(BYTES, false), range(BYTES, false));
    fill(from.start(), BYTES);
    // SAFETY: ranges of the test's own.
    unsafe { userfault.register(to.start(), BYTES) }.unwrap();
    for (at, bytes) in [(0, 12 << 10), (20 << 10, 4096)] {
        // As a kernel does that forgets to say so.
        // SAFETY: as above.
        unsafe { userfault.move_pages(from.start() + at, to.start() + at, bytes) }.unwrap();
    }
    assert_eq!(userfault.moved(from.start(), to.start(), BYTES), 12 << 10);
    assert_eq!(userfault.moved(from.start() + (12 << 10), to.start() + (12 << 10), BYTES / 2), 0);
    // SAFETY: as above; what is not there is what was moved.
    unsafe { userfault.move_pages(from.start(), to.start(), BYTES) }.unwrap();
    assert!(holds(to.start(), BYTES));
    assert_eq!((resident(from.start(), BYTES), resident(to.start(), BYTES)), (0, BYTES));
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
fn memory_is_moved_after_a_fork() {
    const BYTES: usize = 64 << 10;
    let Some(userfault) = userfault() else { return eprintln!("skipped: no userfaultfd here") };
    let (from, to) = (range(BYTES, false), range(BYTES, false));
    // SAFETY: ranges of the test's own.
    unsafe { userfault.register(to.start(), BYTES) }.unwrap();
    fill(from.start(), BYTES);
    let mut child = std::process::Command::new("true");
    // SAFETY: nothing is done. (It has the child made by a fork, which shares all memory until one of both writes to it.)
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut child, || Ok(())) };
    assert!(child.status().unwrap().success());
    // SAFETY: as above.
    let (_, moved) = unsafe { userfault.transfer::<CALL_MOVE>(from.start(), to.start(), BYTES) };
    assert_eq!(moved, Err(Errno::BUSY), "the system does not move what was shared");
    // SAFETY: as above.
    unsafe { own(from.start(), 8192) };
    // SAFETY: as above.
    let (done, moved) = unsafe { userfault.transfer::<CALL_MOVE>(from.start(), to.start(), BYTES) };
    assert_eq!((done, moved), (8192, Err(Errno::BUSY)), "what was written to is this process' own");
    // SAFETY: as above.
    unsafe { userfault.move_pages(from.start() + done, to.start() + done, BYTES - done) }.unwrap();
    assert!(holds(to.start(), BYTES));
    assert_eq!((resident(from.start(), BYTES), resident(to.start(), BYTES)), (0, BYTES));
}

#[test]
fn what_cannot_be_moved_is_copied() {
    const BYTES: usize = 64 << 10;
    let Some(userfault) = userfault() else { return eprintln!("skipped: no userfaultfd here") };
    for taken in [false, true] {
        let (from, to) = (range(BYTES, false), range(BYTES, false));
        fill(from.start(), BYTES);
        if taken {
            // SAFETY: ranges of the test's own.
            unsafe { sys::touch(to.start() + BYTES - 4096, 4096) };
        }
        // SAFETY: as above.
        unsafe { userfault.register(to.start(), BYTES) }.unwrap();
        // SAFETY: as above.
        let copied = unsafe { userfault.copy_pages(from.start(), to.start(), BYTES) };
        assert_eq!(copied.is_err(), taken);
        let there = if taken { &from } else { &to };
        assert!(holds(there.start(), BYTES));
        let expected = if taken { (BYTES, 4096) } else { (0, BYTES) };
        assert_eq!((resident(from.start(), BYTES), resident(to.start(), BYTES)), expected);
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
