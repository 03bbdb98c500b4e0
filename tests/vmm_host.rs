//! What the low-level layer does to this process: protection of its addresses, holes, limits, and what is left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vastgrid::BackendError;
use vastgrid::vmm::{Access, AddressRange, GrowableBuffer, PhysicalMemory, Space};

const PAGE: u64 = 4096;

/// Each test counts what the process holds, so that they run one by one.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn map(range: &mut AddressRange, offset: u64, memory: &PhysicalMemory) {
    range.map(offset, memory).unwrap();
    range.set_access(offset..offset + memory.bytes(), Access::ReadWrite, &[]).unwrap();
}

/// Start, end and permissions of every memory mapping that touches a range, as the system tells it.
fn system_mappings(range: &AddressRange) -> Vec<(u64, u64, String)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let parse = |line: &str| {
        let (addresses, rest) = line.split_once(' ').unwrap();
        let (start, end) = addresses.split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        (address(start), address(end), rest[..4].to_owned())
    };
    maps.lines().map(parse).filter(|(start, end, _)| *start < range.end() && *end > range.base()).collect()
}

/// The permissions of each OS page of a range; panics where there is a hole.
fn permissions(range: &AddressRange) -> Vec<String> {
    let mappings = system_mappings(range);
    let page = |address: u64| {
        let found = mappings.iter().find(|(start, end, _)| (*start..*end).contains(&address));
        found.unwrap_or_else(|| panic!("a hole at {address:#x} in {range}")).2.clone()
    };
    (0..range.bytes() / PAGE).map(|index| page(range.base() + index * PAGE)).collect()
}

/// The files, in `/proc`, that hold the layer's memory.
fn memfds() -> Vec<PathBuf> {
    let files = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let ours =
        |file: &PathBuf| fs::read_link(file).is_ok_and(|to| to.to_string_lossy().contains("memfd:vastgrid"));
    files.filter(ours).collect()
}

fn mappings_of_memfds() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|l| l.contains("memfd:vastgrid")).count()
}

#[test]
fn the_system_protects_what_the_records_say() {
    let _alone = alone();
    let space = Space::host();
    let mut range = space.reserve(6 * PAGE, PAGE).unwrap();
    assert_eq!(permissions(&range), ["---p"; 6]);
    let (one, two) = (space.create(PAGE).unwrap(), space.create(2 * PAGE).unwrap());
    range.map(PAGE, &one).unwrap();
    range.map(2 * PAGE, &two).unwrap();
    range.map(5 * PAGE, &one).unwrap();
    assert_eq!(permissions(&range), ["---p", "---s", "---s", "---s", "---p", "---s"]);
    range.set_access(PAGE..4 * PAGE, Access::ReadWrite, &[]).unwrap();
    range.set_access(5 * PAGE..6 * PAGE, Access::Read, &[]).unwrap();
    assert_eq!(permissions(&range), ["---p", "rw-s", "rw-s", "rw-s", "---p", "r--s"]);
    range.set_access(2 * PAGE..4 * PAGE, Access::None, &[]).unwrap();
    assert_eq!(permissions(&range), ["---p", "rw-s", "---s", "---s", "---p", "r--s"]);
    range.unmap(PAGE, 3 * PAGE).unwrap();
    assert_eq!(permissions(&range), ["---p", "---p", "---p", "---p", "---p", "r--s"]);
}

#[test]
fn new_memory_is_zero_and_taken_when_it_is_made() {
    let _alone = alone();
    let space = Space::host();
    let memory = space.create(64 << 20).unwrap();
    let taken: u64 = memfds().iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum();
    assert_eq!(taken, 64 << 20);
    let mut range = space.reserve(64 << 20, 1).unwrap();
    map(&mut range, 0, &memory);
    let mut out = vec![1; 64 << 20];
    range.read(0, &mut out).unwrap();
    assert!(out.iter().all(|byte| *byte == 0));
}

#[test]
fn slices_are_the_memory() {
    let _alone = alone();
    let space = Space::host();
    let mut range = space.reserve(4 * PAGE, 1).unwrap();
    let memory = space.create(PAGE).unwrap();
    map(&mut range, 0, &memory);
    map(&mut range, PAGE, &memory);
    #[expect(unsafe_code, reason = "what is tested")]
    {
        // SAFETY: nobody else knows the memory, and one slice lives at a time.
        unsafe { range.slice_mut(5..8) }.unwrap().copy_from_slice(b"abc");
        // SAFETY: as above.
        assert_eq!(unsafe { range.slice(PAGE + 5..PAGE + 8) }.unwrap(), b"abc");
        // SAFETY: as above.
        let beyond = unsafe { range.slice(PAGE..3 * PAGE) }.unwrap_err();
        assert!(matches!(beyond, BackendError::NotMapped { offset_bytes: 8192, .. }), "{beyond}");
        range.set_access(0..PAGE, Access::Read, &[]).unwrap();
        // SAFETY: as above.
        let refused = unsafe { range.slice_mut(0..1) }.unwrap_err();
        assert!(matches!(refused, BackendError::NoAccess { .. }), "{refused}");
        // SAFETY: mapped, readable, and nobody writes.
        assert_eq!(unsafe { range.as_ptr().unwrap().wrapping_add(6).read() }, b'b');
    }
}

/// Somebody else in the process maps and unmaps all the time, at addresses of the system's choice.
#[expect(unsafe_code, reason = "maps and unmaps as any other part of a program would")]
fn intrude(range: std::ops::Range<u64>, stop: &AtomicBool) -> u64 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let bytes = if count % 2 == 0 { 4096 } else { 16384 };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }.unwrap();
        let address = start.addr() as u64;
        assert!(
            !range.contains(&address) && !range.contains(&(address + bytes as u64 - 1)),
            "inside the range"
        );
        // SAFETY: just mapped, and known to nobody else.
        unsafe { start.cast::<u8>().write_volatile(77) };
        // SAFETY: as above.
        assert_eq!(unsafe { start.cast::<u8>().read_volatile() }, 77, "somebody wrote here");
        // SAFETY: as above.
        unsafe { munmap(start, bytes) }.unwrap();
        count += 1;
    }
    count
}

#[test]
fn no_other_mapping_ever_lands_in_a_range() {
    let _alone = alone();
    let space = Space::host();
    let places = 8;
    let mut range = space.reserve(places * 4 * PAGE, PAGE).unwrap();
    let memories: Vec<_> = (1..4).map(|pages| space.create(pages * PAGE).unwrap()).collect();
    let stop = AtomicBool::new(false);
    let addresses = range.base()..range.end();
    std::thread::scope(|scope| {
        let intruders: Vec<_> = (0..3).map(|_| scope.spawn(|| intrude(addresses.clone(), &stop))).collect();
        for round in 0..3000_u64 {
            for place in 0..places {
                let memory = &memories[usize::try_from((round + place) % 3).unwrap()];
                map(&mut range, place * 4 * PAGE, memory);
                range.write(place * 4 * PAGE, &[1]).unwrap();
            }
            for place in 0..places {
                let bytes = memories[usize::try_from((round + place) % 3).unwrap()].bytes();
                range.unmap(place * 4 * PAGE, bytes).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for intruder in intruders {
            assert!(intruder.join().unwrap() > 0);
        }
    });
    assert_eq!(permissions(&range), ["---p"; 32]);
}

#[test]
fn nothing_is_left_behind() {
    let _alone = alone();
    let before = (memfds().len(), mappings_of_memfds());
    assert_eq!(before, (0, 0));
    let space = Space::host();
    for _ in 0..20 {
        let mut range = space.reserve(1 << 30, PAGE).unwrap();
        let memories: Vec<_> = (0..10).map(|_| space.create(3 * PAGE).unwrap()).collect();
        for (at, memory) in (0..).zip(&memories) {
            map(&mut range, at * 6 * PAGE, memory);
        }
        assert_eq!((memfds().len(), mappings_of_memfds()), (10, 10));
        let _ = range.map(0, &memories[0]).unwrap_err();
        drop(memories);
        assert_eq!(memfds().len(), 10, "the mappings keep the memory");
        range.unmap(0, 3 * PAGE).unwrap();
        assert_eq!((memfds().len(), mappings_of_memfds()), (9, 9));
        let addresses = range.base();
        drop(range);
        assert_eq!((memfds().len(), mappings_of_memfds()), (0, 0));
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.lines().any(|line| line.starts_with(&format!("{addresses:x}-"))), "the addresses");
    }
    let mut buffer = GrowableBuffer::new(&space, 1 << 40).unwrap();
    buffer.resize(50 << 20).unwrap();
    drop(buffer);
    assert_eq!((memfds().len(), mappings_of_memfds()), before);
}

#[test]
fn too_many_mappings_are_an_error_that_names_the_sysctl() {
    let _alone = alone();
    let limit: u64 = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    if limit > 1 << 20 {
        eprintln!("skipped: vm.max_map_count is {limit}: reaching it would take too long");
        return;
    }
    let space = Space::host();
    let memory = space.create(PAGE).unwrap();
    let mut range = space.reserve(4 * limit * PAGE, PAGE).unwrap();
    let (mut at, error) = (0, loop_until_refused(&mut range, &memory));
    assert!(matches!(error, BackendError::TooManyMappings { limit: most, .. } if most <= limit), "{error}");
    assert!(error.to_string().contains("vm.max_map_count"), "{error}");
    let mapped = range.mappings();
    assert!(mapped.len() as u64 > limit / 8, "{}", mapped.len());
    // What is there works, and what is given back can be had again.
    range.set_access(0..PAGE, Access::ReadWrite, &[]).unwrap();
    range.write(0, &[5]).unwrap();
    for record in &mapped[..10] {
        range.unmap(record.offset_bytes, record.bytes).unwrap();
        at = record.offset_bytes;
    }
    map(&mut range, at, &memory);
}

fn loop_until_refused(range: &mut AddressRange, memory: &PhysicalMemory) -> BackendError {
    loop_until_refused_from(0, range, memory)
}

fn loop_until_refused_from(first: u64, range: &mut AddressRange, memory: &PhysicalMemory) -> BackendError {
    for at in first.. {
        if let Err(error) = range.map(at * 2 * PAGE, memory) {
            return error;
        }
    }
    unreachable!("the loop has no end")
}

#[test]
#[expect(unsafe_code, reason = "takes mappings as any other part of a program would")]
fn mappings_that_others_took_are_an_error_that_names_the_sysctl() {
    let test = "mappings_that_others_took_are_an_error_that_names_the_sysctl";
    if !limited(test) {
        return in_a_shell(test, ":");
    }
    let limit: usize = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    if limit > 1 << 20 {
        eprintln!("skipped: vm.max_map_count is {limit}: reaching it would take too long");
        return;
    }
    let space = Space::host();
    let memory = space.create(PAGE).unwrap();
    let mut range = space.reserve(1000 * PAGE, PAGE).unwrap();
    map(&mut range, 0, &memory);
    range.write(0, &[5]).unwrap();
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: no address is asked for.
    let wide =
        unsafe { mmap_anonymous(std::ptr::null_mut(), limit * 8192, ProtFlags::empty(), flags) }.unwrap();
    let mut places = (0..limit).map(|index| wide.wrapping_byte_add(index * 8192));
    // Again and again: the allocator gives mappings back now and then.
    let mut take_all = || {
        let fixed = flags | MapFlags::FIXED;
        // SAFETY: inside of what was just mapped, which nobody uses.
        let refused = |at| unsafe { mmap_anonymous(at, 4096, ProtFlags::READ, fixed) }.is_err();
        assert!(places.any(refused), "all of the places were mapped");
    };
    take_all();
    let error = loop_until_refused_from(1, &mut range, &memory);
    assert!(matches!(error, BackendError::TooManyMappings { call: "map", .. }), "{error}");
    let mut out = [0];
    range.read(0, &mut out).unwrap();
    assert_eq!(out, [5]);
    // Not even one that replaces another is to be had, and the records stay true.
    let before = range.mappings();
    take_all();
    let error = range.unmap(0, PAGE).unwrap_err();
    assert!(matches!(error, BackendError::TooManyMappings { call: "unmap", .. }), "{error}");
    take_all();
    let error = space.reserve(PAGE, PAGE).unwrap_err();
    assert!(matches!(error, BackendError::TooManyMappings { call: "reserve", .. }), "{error}");
    assert_eq!(range.mappings(), before);
    range.read(0, &mut out).unwrap();
    // SAFETY: as mapped, and nobody uses it.
    unsafe { munmap(wide, limit * 8192) }.unwrap();
    map(&mut range, 500 * PAGE, &memory);
    assert!(
        range
            .mappings()
            .iter()
            .all(|r| permissions(&range)[usize::try_from(r.offset_bytes / PAGE).unwrap()].ends_with('s'))
    );
}

/// Runs one test of this program in a process of its own, in a shell that sets a limit first. A process without memory or mappings may fail for a reason of its own (its allocator, its messages), so it has ten attempts,
/// of a minute each.
fn in_a_shell(test: &str, limit: &str) {
    let program = std::env::current_exe().unwrap();
    let script = format!("{limit}; exec timeout 60 \"$0\" --exact {test} --nocapture");
    let mut outputs = Vec::new();
    for _ in 0..10 {
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(&program)
            .env("VASTGRID_TEST_LIMITED", test)
            // Who has no memory left to print one waits for ever.
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        if output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed") {
            return;
        }
        outputs.push(output);
    }
    panic!("{limit}: {outputs:?}");
}

/// Whether this is the process that [`in_a_shell`] made for this test.
fn limited(test: &str) -> bool {
    std::env::var("VASTGRID_TEST_LIMITED").is_ok_and(|name| name == test)
}

#[test]
fn a_limit_on_file_sizes_is_out_of_memory_and_no_signal() {
    let test = "a_limit_on_file_sizes_is_out_of_memory_and_no_signal";
    if !limited(test) {
        return in_a_shell(test, "ulimit -f 64");
    }
    let space = Space::host();
    let error = space.create(1 << 20).unwrap_err();
    assert!(matches!(error, BackendError::OutOfMemory { bytes, .. } if bytes == 1 << 20), "{error}");
    space.create(PAGE).unwrap();
}

#[test]
fn no_file_descriptor_left_is_the_systems_error() {
    let test = "no_file_descriptor_left_is_the_systems_error";
    if !limited(test) {
        return in_a_shell(test, "ulimit -n 64");
    }
    let space = Space::host();
    let mut memories = Vec::new();
    let error = loop {
        match space.create(PAGE) {
            Ok(memory) => memories.push(memory),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BackendError::System { call: "memfd_create", .. }), "{error}");
    assert!(memories.len() > 30, "{}", memories.len());
    memories.pop();
    space.create(PAGE).unwrap();
}

#[test]
fn no_addresses_left_is_out_of_memory() {
    let test = "no_addresses_left_is_out_of_memory";
    if !limited(test) {
        return in_a_shell(test, "ulimit -v 4194304");
    }
    let space = Space::host();
    let error = space.reserve(1 << 40, PAGE).unwrap_err();
    assert!(matches!(error, BackendError::OutOfMemory { .. }), "{error}");
    let mut buffer = GrowableBuffer::new(&space, 1 << 30).unwrap();
    buffer.append(&[7; 5000]).unwrap();
}
