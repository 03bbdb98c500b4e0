//! Owns the system calls that the host's side makes beyond those of the host backend, each checked once. Addresses, sizes and file descriptors only; knows nothing of records.
//!
//! | call | for |
//! | --- | --- |
//! | `memfd_create`, `fallocate` | memory that can be mapped more than once, taken when it is made |
//! | `mmap(SHARED, FIXED)` over our own range | mapping it, without a hole before or after |
//! | `mprotect` | access |

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect};
use rustix::process::{Resource, getrlimit};

use super::super::Access;
use super::super::host::sys::{max_map_count, pointer};
use crate::error::BackendError;

/// How much `fallocate` takes at a time: a signal that arrives meanwhile repeats one of these, not all.
const TAKE_BYTES: u64 = 64 << 20;
/// From here up the system is asked how much memory it has before any is taken: asking costs what taking this much costs, or less.
const ASK_FROM_BYTES: u64 = 16 << 20;

/// Memory without an address, filled with zeros, all of it taken now: touching it later cannot fail.
///
/// # Errors
/// [`BackendError::OutOfMemory`] where there is not that much, or the limit on file sizes (`RLIMIT_FSIZE`, which would be a signal) forbids it;
/// [`BackendError::System`] for any other refusal, such as no file descriptor left.
pub(super) fn take_memory(bytes: u64) -> Result<OwnedFd, BackendError> {
    let none = |call| BackendError::OutOfMemory { call, bytes };
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes > limit) || i64::try_from(bytes).is_err()
    {
        return Err(none("fallocate"));
    }
    if bytes >= ASK_FROM_BYTES && available_bytes().is_some_and(|available| bytes > available) {
        return Err(none("fallocate"));
    }
    let refused = |call, errno| match errno {
        Errno::NOMEM | Errno::NOSPC | Errno::FBIG | Errno::DQUOT => none(call),
        _ => BackendError::System { call, offset_bytes: 0, bytes, source: errno.into() },
    };
    let file =
        memfd_create(c"vastgrid", MemfdFlags::CLOEXEC).map_err(|errno| refused("memfd_create", errno))?;
    let mut at = 0;
    while at < bytes {
        let take = TAKE_BYTES.min(bytes - at);
        match fallocate(&file, FallocateFlags::empty(), at, take) {
            Ok(()) => at += take,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(refused("fallocate", errno)),
        }
    }
    Ok(file)
}

/// Memory that the system, and the control group that the process is in, could give; `None` where neither says. An upper bound: others take memory, too.
fn available_bytes() -> Option<u64> {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| free_of(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let limit = ["", group.unwrap_or_default()].into_iter().filter_map(|group| {
        fs::read_to_string(format!("/sys/fs/cgroup/{group}/memory.max")).ok()?.trim().parse().ok()
    });
    limit.chain(free).min()
}

/// What `/proc/meminfo` says is available, swap included.
fn free_of(meminfo: &str) -> Option<u64> {
    let of = |name: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    of("MemAvailable:")?.checked_add(of("SwapFree:").unwrap_or(0))
}

/// Maps memory, from its first byte, without access.
///
/// # Errors
/// [`BackendError::TooManyMappings`], [`BackendError::OutOfMemory`], [`BackendError::System`].
///
/// # Safety
/// The range is whole OS pages inside a reserved range that is ours, and nobody holds a reference to or reads it.
pub(super) unsafe fn map_shared(
    file: impl AsFd,
    start: usize,
    bytes: usize,
    offset_bytes: u64,
) -> Result<(), BackendError> {
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: as the caller promises, only memory of ours is replaced.
    let mapped = unsafe { mmap(pointer(start), bytes, ProtFlags::empty(), flags, file, 0) };
    mapped.map(|_| ()).map_err(|errno| refusal("map", offset_bytes, bytes, errno))
}

/// Sets what the process may do with a range.
///
/// # Errors
/// As [`map_shared`]; part of the range may have changed then.
///
/// # Safety
/// The range is whole mappings of ours. Where access is taken away, nobody reads or writes it any more.
pub(super) unsafe fn protect(
    start: usize,
    bytes: usize,
    access: Access,
    offset_bytes: u64,
) -> Result<(), BackendError> {
    let protection = match access {
        Access::None => MprotectFlags::empty(),
        Access::Read => MprotectFlags::READ,
        Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
    };
    // SAFETY: as the caller promises.
    let protected = unsafe { mprotect(pointer(start), bytes, protection) };
    protected.map_err(|errno| refusal("set_access", offset_bytes, bytes, errno))
}

/// The error for a call that maps or protects.
fn refusal(call: &'static str, offset_bytes: u64, bytes: usize, errno: Errno) -> BackendError {
    let bytes = bytes as u64;
    match errno {
        Errno::NOMEM => out_of_memory(call, bytes),
        _ => BackendError::System { call, offset_bytes, bytes, source: errno.into() },
    }
}

/// The system says ENOMEM for "no memory" and "no addresses" as well as for "too many mappings": they are counted to tell which.
pub(super) fn out_of_memory(call: &'static str, bytes: u64) -> BackendError {
    let limit = max_map_count();
    match mappings_now() {
        // One call makes two at most.
        Ok(mappings) if mappings + 2 >= limit => BackendError::TooManyMappings { call, mappings, limit },
        _ => BackendError::OutOfMemory { call, bytes },
    }
}

/// How many memory mappings the process has. Takes no memory for it: there may be no mapping left to put it in.
fn mappings_now() -> std::io::Result<u64> {
    let mut maps = File::open("/proc/self/maps")?;
    let (mut part, mut lines) = ([0; 4096], 0);
    loop {
        match maps.read(&mut part) {
            Ok(0) => return Ok(lines),
            Ok(bytes) => lines += part.iter().take(bytes).filter(|byte| **byte == b'\n').count() as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_understood() {
        let text = "MemTotal:       24683456 kB\nMemAvailable:   20 kB\nSwapFree:              4 kB\n";
        assert_eq!(free_of(text), Some(24 << 10));
        assert_eq!(free_of("MemAvailable: 7 kB"), Some(7 << 10));
        assert_eq!(free_of("MemTotal: 7 kB"), None);
        assert!(available_bytes().is_some_and(|bytes| bytes > ASK_FROM_BYTES));
    }

    #[test]
    fn more_memory_than_there_is_is_refused_before_any_is_taken() {
        for bytes in [1 << 50, u64::MAX] {
            assert!(matches!(take_memory(bytes), Err(BackendError::OutOfMemory { .. })));
        }
    }
}
