//! Owns what is said of the machine and the program that figures are of: [`Machine`], the commit, the time of day.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use vastgrid::cuda::Device;

use crate::process;
use crate::suite::{Failure, On};

/// What was measured on, by name.
pub(crate) type Machine = BTreeMap<&'static str, String>;

/// Describes the machine; what it does not tell is `unknown`.
pub(crate) fn describe(on: On) -> Result<Machine, Failure> {
    let mut machine = Machine::new();
    let first = |path: &str| fs::read_to_string(path).ok();
    let unknown = || "unknown".to_owned();
    let cpu = first("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    machine.insert("cpu", cpu.unwrap_or_else(unknown));
    machine.insert("cores", std::thread::available_parallelism().map_or(1, usize::from).to_string());
    machine.insert("memory_bytes", process::field("/proc/meminfo", "MemTotal")?.to_string());
    let kernel = first("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    machine.insert("kernel", kernel.unwrap_or_else(unknown));
    let huge = first("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    machine.insert("huge_pages", huge.unwrap_or_else(unknown));
    if on == On::Cuda {
        let device = Device::open(0)?;
        machine.insert("device", device.name().to_owned());
        machine.insert("device_memory_bytes", device.memory()?.1.to_string());
        machine.insert("devices", Device::count()?.to_string());
        machine.insert("driver", Device::driver_version()?.to_string());
    }
    Ok(machine)
}

/// The commit that the program was built of, as far as its folder still says so.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let folder = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]).filter(|commit| !commit.is_empty()) else {
        return "unknown".to_owned();
    };
    let built = std::env::current_exe().and_then(fs::metadata).and_then(|program| program.modified()).ok();
    let built = built.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let committed = git(&["log", "-1", "--format=%ct"]).and_then(|seconds| seconds.parse::<u64>().ok());
    // Nothing ties a program to the state of its folder but time.
    if let (Some(built), Some(committed)) = (built, committed)
        && built.as_secs() < committed
    {
        return format!("one before {commit}, which is newer than the program");
    }
    let changed = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{commit} and changes") } else { commit }
}

/// Seconds since 1970, as `2026-11-29T20:31:07Z`.
///
/// **Source**: the days' arithmetic is Howard Hinnant's `civil_from_days`.
pub(crate) fn time_of_day(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
