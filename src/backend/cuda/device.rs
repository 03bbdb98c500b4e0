//! Owns [`Device`]: a CUDA device and the context in which everything of it lives. Knows nothing of what is made there.

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::driver::{Driver, driver};
use super::sys::{
    ATTRIBUTE_CAPABILITY_MAJOR, ATTRIBUTE_CAPABILITY_MINOR, ATTRIBUTE_HOST_NUMA_ID,
    ATTRIBUTE_MULTIPROCESSORS, ATTRIBUTE_VIRTUAL_MEMORY, CUcontext, CUdevice,
};
use crate::error::BackendError;

/// A CUDA device. Clones share its context, which lives until the last of them and of everything that was made with one is gone.
///
/// [`Device::open`] retains the device's *primary context*, the one that the CUDA runtime, `PyTorch` and most libraries use: addresses, streams and events of this process are
/// good for all of them. Every call makes the context current for its own duration and puts back the one that the calling thread had.
#[derive(Clone)]
pub struct Device {
    context: Arc<Context>,
}

struct Context {
    driver: &'static Driver,
    raw: CUcontext,
    device: CUdevice,
    /// Whether the primary context was retained, to be released.
    retained: bool,
    name: String,
    multiprocessors: i32,
    capability: (i32, i32),
}

impl Device {
    /// How many devices there are.
    ///
    /// # Errors
    /// [`BackendError::NoDriver`], [`BackendError::NoSymbol`], [`BackendError::NoDevice`] where the driver finds none, [`BackendError::Driver`].
    pub fn count() -> Result<i32, BackendError> {
        driver()?.device_count()
    }

    /// The driver's version: 12040 is CUDA 12.4.
    ///
    /// # Errors
    /// As [`Device::count`].
    pub fn driver_version() -> Result<i32, BackendError> {
        driver()?.version()
    }

    /// The device of that number, counted from 0, and its primary context.
    ///
    /// **Cost**: the first user of a device in a process waits some 0.1 to 1 s for its context.
    ///
    /// # Errors
    /// [`BackendError::NoDriver`], [`BackendError::NoSymbol`], [`BackendError::NoDevice`], [`BackendError::DeviceUnsupported`] for one without virtual memory
    /// management, [`BackendError::OutOfMemory`], [`BackendError::Driver`].
    pub fn open(ordinal: i32) -> Result<Self, BackendError> {
        let driver = driver()?;
        let devices = driver.device_count()?;
        if !(0..devices).contains(&ordinal) {
            return Err(BackendError::NoDevice { ordinal, devices });
        }
        let device = driver.device(ordinal)?;
        let mut context = Context::describe(driver, device)?;
        context.raw = driver.primary_context(device)?;
        context.retained = true;
        Ok(Self { context: Arc::new(context) })
    }

    /// The device of a context that somebody else made, a `CUcontext`: everything is made in that context. It is not destroyed.
    ///
    /// # Errors
    /// [`BackendError::DeviceUnsupported`], [`BackendError::Driver`] where the context is none.
    ///
    /// # Safety
    /// `context` is a live context of this process, and lives longer than every clone of the device and everything that is made with one.
    pub unsafe fn from_raw_context(context: *mut c_void) -> Result<Self, BackendError> {
        let driver = driver()?;
        let raw = CUcontext(context.expose_provenance());
        let current = Current::enter(driver, raw)?;
        let device = driver.current_device()?;
        drop(current);
        let mut context = Context::describe(driver, device)?;
        context.raw = raw;
        Ok(Self { context: Arc::new(context) })
    }

    /// The context, a `CUcontext`, for other users of the driver. It is good for as long as a clone of this device is there.
    #[must_use]
    pub fn as_raw_context(&self) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.context.raw.0)
    }

    /// Its number, counted from 0.
    #[must_use]
    pub fn ordinal(&self) -> i32 {
        self.context.device
    }

    /// Its name, such as `NVIDIA H200`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.context.name
    }

    /// What tells it apart from every other device, where the driver can say.
    #[must_use]
    pub fn uuid(&self) -> Option<[u8; 16]> {
        self.context.driver.device_uuid(self.context.device)
    }

    /// How many multiprocessors it has.
    #[must_use]
    pub fn multiprocessors(&self) -> u32 {
        self.context.multiprocessors.unsigned_abs()
    }

    /// Its compute capability, major and minor: (9, 0) for an H100.
    #[must_use]
    pub fn compute_capability(&self) -> (u32, u32) {
        let (major, minor) = self.context.capability;
        (major.unsigned_abs(), minor.unsigned_abs())
    }

    /// The host's NUMA node next to the device, where the driver knows one.
    #[must_use]
    pub fn host_numa_node(&self) -> Option<i32> {
        let node = self.context.driver.device_attribute(self.context.device, ATTRIBUTE_HOST_NUMA_ID);
        node.ok().filter(|node| *node >= 0)
    }

    /// Its memory in bytes: what is free now, whoever uses the rest, and all of it.
    ///
    /// # Errors
    /// [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn memory(&self) -> Result<(u64, u64), BackendError> {
        let _current = self.enter()?;
        self.context.driver.memory_info()
    }

    /// Whether this device can read and write the memory of another.
    ///
    /// # Errors
    /// [`BackendError::Driver`].
    pub fn can_access(&self, other: &Self) -> Result<bool, BackendError> {
        if self.context.device == other.context.device {
            return Ok(true);
        }
        self.context.driver.can_access_peer(self.context.device, other.context.device)
    }

    /// Whether both share one context.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.context.raw == other.context.raw
    }

    /// Whether bytes lie in page-locked memory that the driver knows, from the first to the last.
    pub(in crate::backend) fn is_pinned(&self, bytes: &[u8]) -> Result<bool, BackendError> {
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return Ok(false) };
        let _current = self.enter()?;
        let driver = self.context.driver;
        Ok(driver.is_pinned(first) && driver.is_pinned(last))
    }

    pub(in crate::backend) fn driver(&self) -> &'static Driver {
        self.context.driver
    }

    /// Makes the context current on this thread, until the guard is dropped.
    pub(in crate::backend) fn enter(&self) -> Result<Current, BackendError> {
        Current::enter(self.context.driver, self.context.raw)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("ordinal", &self.context.device)
            .field("name", &self.context.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CUDA device {} ({})", self.context.device, self.context.name)
    }
}

impl Context {
    /// All but the context itself.
    fn describe(driver: &'static Driver, device: CUdevice) -> Result<Self, BackendError> {
        let attribute = |which| driver.device_attribute(device, which);
        if attribute(ATTRIBUTE_VIRTUAL_MEMORY)? == 0 {
            let what = "virtual memory management";
            return Err(BackendError::DeviceUnsupported { ordinal: device, what });
        }
        Ok(Self {
            driver,
            raw: CUcontext::NULL,
            device,
            retained: false,
            name: driver.device_name(device)?,
            multiprocessors: attribute(ATTRIBUTE_MULTIPROCESSORS)?,
            capability: (attribute(ATTRIBUTE_CAPABILITY_MAJOR)?, attribute(ATTRIBUTE_CAPABILITY_MINOR)?),
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.retained {
            self.driver.release_primary_context(self.device);
        }
    }
}

/// While this lives, a context is current on the thread that made it.
///
/// **Cost**: one call of the driver where the context is current already, three where it is not; some 50 ns each.
#[must_use = "the context is current for as long as this lives"]
pub(in crate::backend) struct Current {
    /// What pops the context, if it was pushed.
    pop: Option<&'static Driver>,
    /// A context is current on one thread.
    _here: std::marker::PhantomData<*mut ()>,
}

impl Current {
    fn enter(driver: &'static Driver, context: CUcontext) -> Result<Self, BackendError> {
        let pop = if driver.current_context() == context {
            None
        } else {
            driver.push_context(context)?;
            Some(driver)
        };
        Ok(Self { pop, _here: std::marker::PhantomData })
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(driver) = self.pop {
            driver.pop_context();
        }
    }
}
