//! Owns virtual memory as the driver has it, one type per resource: [`Reserved`] addresses, [`Physical`] memory, and a [`Mapping`] of one into the other. Knows nothing of
//! who uses them for what; what may be asked is checked by those who keep books.
//!
//! ```text
//!   Reserved (cuMemAddressReserve) <── Mapping (cuMemMap) ──> Physical (cuMemCreate)
//!        freed when no mapping is left       unmapped             released when no mapping is left
//! ```

use std::borrow::Borrow;
use std::sync::Arc;

use super::device::Device;
use super::driver::About;
use super::sys::{
    ACCESS_NONE, ACCESS_READ, ACCESS_READ_WRITE, ALLOCATION_PINNED, CUdeviceptr, CUmemAccessDesc,
    CUmemAllocationProp, CUmemHandle, CUmemLocation, GRANULARITY_MINIMUM, GRANULARITY_RECOMMENDED,
    LOCATION_DEVICE,
};
use crate::backend::Access;
use crate::error::BackendError;

/// What physical memory of a device is asked for by.
fn properties(device: &Device) -> CUmemAllocationProp {
    CUmemAllocationProp {
        kind: ALLOCATION_PINNED,
        requested_handle_types: 0,
        location: CUmemLocation { kind: LOCATION_DEVICE, id: device.ordinal() },
        win32_handle_meta_data: 0,
        compression_type: 0,
        gpu_direct_rdma_capable: 0,
        usage: 0,
        reserved: [0; 4],
    }
}

/// The sizes that physical memory is made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Granularity {
    /// Every size and offset is a multiple of it.
    pub(in crate::backend) minimum_bytes: u64,
    /// And had better be of this.
    pub(in crate::backend) recommended_bytes: u64,
}

impl Granularity {
    /// What the driver says of the device's memory.
    ///
    /// # Errors
    /// [`BackendError::Driver`]; [`BackendError::DeviceUnsupported`] where it says what cannot be.
    pub(in crate::backend) fn of(device: &Device) -> Result<Self, BackendError> {
        let properties = properties(device);
        let _current = device.enter()?;
        let ask = |option| device.driver().granularity(&properties, option);
        let (minimum_bytes, recommended_bytes) = (ask(GRANULARITY_MINIMUM)?, ask(GRANULARITY_RECOMMENDED)?);
        if !minimum_bytes.is_power_of_two() || !recommended_bytes.is_multiple_of(minimum_bytes) {
            let what = "a granularity that is a power of two";
            return Err(BackendError::DeviceUnsupported { ordinal: device.ordinal(), what });
        }
        Ok(Self { minimum_bytes, recommended_bytes })
    }
}

/// A range of addresses without memory. Dropping it gives the addresses back; mappings hold on to it.
#[derive(Debug)]
pub(in crate::backend) struct Reserved {
    device: Device,
    base: CUdeviceptr,
    bytes: u64,
}

impl Reserved {
    /// Reserves `bytes`, the first of them at a multiple of `align_bytes` (1 for no wish; the granularity is kept anyway).
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`] where there are not that many addresses, [`BackendError::Driver`].
    pub(in crate::backend) fn new(
        device: &Device,
        bytes: u64,
        align_bytes: u64,
    ) -> Result<Self, BackendError> {
        let _current = device.enter()?;
        // To the driver no wish is 0.
        let wish = if align_bytes > 1 { align_bytes } else { 0 };
        let base = device.driver().reserve(bytes, wish)?;
        // From here on dropping it gives the addresses back.
        let reserved = Self { device: device.clone(), base, bytes };
        if align_bytes > 1 && !base.is_multiple_of(align_bytes) {
            return Err(BackendError::Misaligned {
                call: "cuMemAddressReserve",
                offset_bytes: base,
                bytes,
                granularity_bytes: align_bytes,
            });
        }
        Ok(reserved)
    }

    /// The first address.
    pub(in crate::backend) fn base(&self) -> u64 {
        self.base
    }

    /// The device that it was reserved through. Memory of others can be mapped as well.
    pub(in crate::backend) fn device(&self) -> &Device {
        &self.device
    }

    /// Sets what each of some devices may do with a range in which everything is mapped. Devices that are not named keep what they had.
    ///
    /// **Cost**: 22 to 38 us for every mapping in the range, however many devices are named.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::Driver`].
    pub(in crate::backend) fn set_access(
        &self,
        offset_bytes: u64,
        bytes: u64,
        access: &[(&Device, Access)],
    ) -> Result<(), BackendError> {
        let describe = |(device, access): &(&Device, Access)| CUmemAccessDesc {
            location: CUmemLocation { kind: LOCATION_DEVICE, id: device.ordinal() },
            flags: match access {
                Access::None => ACCESS_NONE,
                Access::Read => ACCESS_READ,
                Access::ReadWrite => ACCESS_READ_WRITE,
            },
        };
        let about = About { offset_bytes, bytes };
        let _current = self.device.enter()?;
        // One device is the rule, and takes no list on the heap.
        match access {
            [one] => self.device.driver().set_access(self.base + offset_bytes, &[describe(one)], about),
            many => {
                let many: Vec<_> = many.iter().map(describe).collect();
                self.device.driver().set_access(self.base + offset_bytes, &many, about)
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let driver = self.device.driver();
        if let Ok(_current) = self.device.enter() {
            driver.log("cuMemAddressFree", driver.free_addresses(self.base, self.bytes));
        }
    }
}

/// Physical memory without an address. Dropping it gives it back, as soon as it is mapped nowhere.
#[derive(Debug)]
pub(in crate::backend) struct Physical {
    device: Device,
    /// `None` once it was released.
    handle: Option<CUmemHandle>,
    bytes: u64,
}

impl Physical {
    /// Makes `bytes` of memory, a multiple of the granularity there.
    ///
    /// **Cost**: 7 to 140 us, by size.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::Driver`].
    pub(in crate::backend) fn new(device: &Device, bytes: u64) -> Result<Self, BackendError> {
        let _current = device.enter()?;
        let handle = device.driver().create(bytes, &properties(device))?;
        Ok(Self { device: device.clone(), handle: Some(handle), bytes })
    }

    /// The size.
    pub(in crate::backend) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The device that it was made through.
    pub(in crate::backend) fn device(&self) -> &Device {
        &self.device
    }

    /// Gives it back now, with a report.
    ///
    /// # Errors
    /// [`BackendError::Driver`], [`BackendError::DeviceLost`].
    pub(in crate::backend) fn release(mut self) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        let Some(handle) = self.handle.take() else { return Ok(()) };
        let driver = self.device.driver();
        driver.check("cuMemRelease", driver.release(handle), About::bytes(self.bytes))
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        let driver = self.device.driver();
        if let Some(handle) = self.handle.take()
            && let Ok(_current) = self.device.enter()
        {
            driver.log("cuMemRelease", driver.release(handle));
        }
    }
}

/// Physical memory at an address: `P` is what keeps the memory, such as a [`Physical`] or an `Arc` of one. Dropping it unmaps.
///
/// Nothing here waits for kernels or copies: that nothing uses the addresses any more is the caller's business, or else the device's context dies.
#[derive(Debug)]
pub(in crate::backend) struct Mapping<P: Borrow<Physical>> {
    at: Arc<Reserved>,
    offset_bytes: u64,
    /// `None` once it was unmapped.
    physical: Option<P>,
}

impl<P: Borrow<Physical>> Mapping<P> {
    /// Maps the whole of `physical`. Nobody has access to it yet.
    ///
    /// **Cost**: about 1 us.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`], [`BackendError::OutOfMemory`], [`BackendError::Driver`], and what was to be mapped.
    pub(in crate::backend) fn new(
        at: &Arc<Reserved>,
        offset_bytes: u64,
        physical: P,
    ) -> Result<Self, (BackendError, P)> {
        let (memory, driver) = (physical.borrow(), at.device.driver());
        let about = About { offset_bytes, bytes: memory.bytes };
        let map = || {
            let end = offset_bytes.checked_add(memory.bytes).filter(|end| *end <= at.bytes);
            let (Some(_), Some(handle)) = (end, memory.handle) else {
                let (bytes, reserved_bytes) = (memory.bytes, at.bytes);
                return Err(BackendError::OutOfRange {
                    call: "cuMemMap",
                    offset_bytes,
                    bytes,
                    reserved_bytes,
                });
            };
            let _current = at.device.enter()?;
            driver.map(at.base + offset_bytes, handle, about)
        };
        match map() {
            Ok(()) => Ok(Self { at: Arc::clone(at), offset_bytes, physical: Some(physical) }),
            Err(error) => Err((error, physical)),
        }
    }

    /// Unmaps, and hands back what was mapped.
    ///
    /// **Cost**: 14 to 25 us.
    ///
    /// # Errors
    /// [`BackendError::Driver`], [`BackendError::DeviceLost`], and the mapping, which is still there.
    pub(in crate::backend) fn unmap(mut self) -> Result<P, (BackendError, Self)> {
        let bytes = self.physical.as_ref().map_or(0, |p| p.borrow().bytes);
        let driver = self.at.device.driver();
        let about = About { offset_bytes: self.offset_bytes, bytes };
        let unmapped = self.at.device.enter().and_then(|_current| {
            driver.check("cuMemUnmap", driver.unmap(self.at.base + self.offset_bytes, bytes), about)
        });
        match (unmapped, self.physical.take()) {
            (Ok(()), Some(physical)) => Ok(physical),
            (outcome, physical) => {
                self.physical = physical;
                let gone = BackendError::NotMapped { call: "cuMemUnmap", offset_bytes: self.offset_bytes };
                Err((outcome.err().unwrap_or(gone), self))
            }
        }
    }
}

impl<P: Borrow<Physical>> Mapping<P> {
    /// What keeps the memory.
    pub(in crate::backend) fn keeper(&self) -> Option<&P> {
        self.physical.as_ref()
    }

    /// The same mapping, with the same memory kept by something else; and what kept it until now.
    pub(in crate::backend) fn kept_by<Q: Borrow<Physical>>(mut self, keeper: Q) -> (Mapping<Q>, Option<P>) {
        let before = self.physical.take();
        let (at, offset_bytes) = (Arc::clone(&self.at), self.offset_bytes);
        (Mapping { at, offset_bytes, physical: Some(keeper) }, before)
    }
}

impl<P: Borrow<Physical>> Drop for Mapping<P> {
    fn drop(&mut self) {
        let driver = self.at.device.driver();
        if let Some(physical) = self.physical.take()
            && let Ok(_current) = self.at.device.enter()
        {
            let bytes = physical.borrow().bytes;
            driver.log("cuMemUnmap", driver.unmap(self.at.base + self.offset_bytes, bytes));
        }
    }
}
