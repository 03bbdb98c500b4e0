//! Owns what the system says of this process and of its memory, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::suite::Failure;

/// The memory mappings that this process has: lines of `/proc/self/maps`.
pub(crate) fn memory_mappings() -> Result<u64, Failure> {
    Ok(read("/proc/self/maps")?.lines().count() as u64)
}

/// File descriptors that this process holds.
pub(crate) fn descriptors() -> Result<u64, Failure> {
    let path = "/proc/self/fd";
    Ok(fs::read_dir(path).map_err(|error| format!("{path}: {error}"))?.count() as u64)
}

/// Bytes of memory that this process has in all (`VmRSS`).
pub(crate) fn resident_bytes() -> Result<u64, Failure> {
    field("/proc/self/status", "VmRSS")
}

/// Bytes of the tables by which the system finds this process' memory (`VmPTE`).
pub(crate) fn page_table_bytes() -> Result<u64, Failure> {
    field("/proc/self/status", "VmPTE")
}

/// Bytes that programs can still have without swapping.
pub(crate) fn available_bytes() -> Result<u64, Failure> {
    field("/proc/meminfo", "MemAvailable")
}

/// What all threads of this process have had of the processors. Others that want them too do not stretch it as they stretch the time of day.
pub(crate) fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(spent.tv_nsec).unwrap_or_default())
}

/// A field in kilobytes, as bytes.
pub(crate) fn field(path: &str, name: &str) -> Result<u64, Failure> {
    let text = read(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.ok_or_else(|| format!("{path} has no field {name}"))?.trim();
    let number = value.strip_suffix(" kB").unwrap_or(value);
    let kilobytes: u64 = number.parse().map_err(|_| format!("{path}: {name} is '{value}', not a number"))?;
    Ok(kilobytes.saturating_mul(1024))
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}").into())
}
