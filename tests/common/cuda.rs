//! The CUDA device that tests run on, where there is one.

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vastgrid::cuda::{CudaConfig, Device};
use vastgrid::{BackendError, CudaBackend};

/// Device 0, open until the process ends; `None` where there is none, and the reason on the screen. With `VASTGRID_REQUIRE_CUDA=1` its absence is a failure.
pub(crate) fn device_or_skip() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let opened = DEVICE.get_or_init(|| open_or_skip(0));
    if opened.is_none() {
        println!("skipped: no CUDA device");
    }
    opened.clone()
}

/// A device of its own for the caller; `None` where there is none, in the same way. A machine with one device has what `VASTGRID_REQUIRE_CUDA` asks for.
pub(crate) fn open_or_skip(ordinal: i32) -> Option<Device> {
    let error = match Device::open(ordinal) {
        Ok(device) => return Some(device),
        Err(error) => error,
    };
    let others = matches!(error, BackendError::NoDevice { devices: 1.., .. });
    let required = std::env::var("VASTGRID_REQUIRE_CUDA").is_ok_and(|v| v == "1");
    assert!(!required || others, "VASTGRID_REQUIRE_CUDA=1, but {error}");
    println!("skipped: no CUDA device {ordinal} ({error})");
    None
}

/// A backend on that device which stages little, so that its memory is soon there and soon used again.
pub(crate) fn backend_or_skip() -> Option<CudaBackend> {
    device_or_skip().map(small_backend)
}

/// The same on a device that is there.
pub(crate) fn small_backend(device: Device) -> CudaBackend {
    CudaBackend::on(device, CudaConfig { staging_bytes: 16 << 20, ..CudaConfig::default() }).unwrap()
}

static CARD: RwLock<()> = RwLock::new(());

/// Held by tests that look at the device's free memory, or take all of it: no other test of the program has the device meanwhile.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    CARD.write().unwrap_or_else(PoisonError::into_inner)
}

/// Held by tests that run beside each other, and not beside such.
pub(crate) fn beside() -> RwLockReadGuard<'static, ()> {
    CARD.read().unwrap_or_else(PoisonError::into_inner)
}
