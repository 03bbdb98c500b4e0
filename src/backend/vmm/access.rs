//! Owns who may use what is mapped: the process, on the host, or one device and another. Undoes what was half done.

use std::ops::Range;

use super::super::Access;
use super::super::cuda::Device;
use super::AddressRange;
use super::cuda::CudaRange;
use super::host::HostRange;
use super::physical::Place;
use super::range::Kind;
use crate::error::BackendError;

impl AddressRange {
    /// Sets what may be done with a range of whole mappings without holes: by these CUDA devices, or, where none are named, by the space's own (on the host: by the
    /// process). What devices that are not named may do stays as it was.
    ///
    /// **Cost**: one call of the system or the driver. On a device its price is per mapping: 22 to 38 us, whatever their size and however many devices are named.
    ///
    /// # Errors
    /// Without asking the system or the driver: [`BackendError::ZeroSize`], [`BackendError::Misaligned`], [`BackendError::OutOfRange`], [`BackendError::NotMapped`] for a
    /// hole, [`BackendError::CutsMapping`], [`BackendError::WrongOwner`] for devices named on the host. [`BackendError::DeviceUnsupported`] for a device that cannot reach
    /// the memory of another one. Then [`BackendError::OutOfMemory`], [`BackendError::System`], [`BackendError::Driver`]; what part of the range has changed by then is
    /// changed back.
    pub fn set_access(
        &mut self,
        range: Range<u64>,
        access: Access,
        devices: &[&Device],
    ) -> Result<(), BackendError> {
        let who = match &self.kind {
            Kind::Host(host) => self.grant_on_host(host, &range, access, devices)?,
            Kind::Cuda(cuda) => self.grant_on_devices(cuda, &range, access, devices)?,
        };
        self.records.set_access(range, access, &who);
        Ok(())
    }

    /// Does what [`AddressRange::set_access`] says, but for the records, and says for whom.
    fn grant_on_host(
        &self,
        host: &HostRange,
        range: &Range<u64>,
        access: Access,
        devices: &[&Device],
    ) -> Result<Vec<Option<i32>>, BackendError> {
        let bytes = range.end.saturating_sub(range.start);
        let run = self.records.check_run("set_access", range.start, bytes)?;
        if !devices.is_empty() {
            let what = "a range of host addresses has no devices";
            return Err(BackendError::WrongOwner { call: "set_access", what });
        }
        if let Err(error) = host.protect(range.start, bytes, access) {
            for (offset_bytes, mapped) in run {
                warn_of(host.protect(offset_bytes, mapped.bytes, mapped.access));
            }
            return Err(error);
        }
        Ok(vec![None])
    }

    /// The same for a device's range.
    fn grant_on_devices(
        &self,
        cuda: &CudaRange,
        range: &Range<u64>,
        access: Access,
        devices: &[&Device],
    ) -> Result<Vec<Option<i32>>, BackendError> {
        let bytes = range.end.saturating_sub(range.start);
        let run: Vec<_> = self.records.check_run("set_access", range.start, bytes)?.collect();
        let own = [cuda.device()];
        let mut devices = if devices.is_empty() { own.to_vec() } else { devices.to_vec() };
        devices.sort_unstable_by_key(|device| device.ordinal());
        devices.dedup_by_key(|device| device.ordinal());
        for device in devices.iter().filter(|_| access != Access::None) {
            for (_, mapped) in &run {
                if let Place::Cuda(memory) = &mapped.held.physical.place
                    && !device.can_access(memory.device())?
                {
                    let what = "access to the memory of another device that is mapped there";
                    return Err(BackendError::DeviceUnsupported { ordinal: device.ordinal(), what });
                }
            }
        }
        let number = |device: &Device| Some(device.ordinal()).filter(|number| *number != own[0].ordinal());
        let grants: Vec<_> = devices.iter().map(|device| (*device, access)).collect();
        if let Err(error) = cuda.set_access(range.start, bytes, &grants) {
            for (offset_bytes, mapped) in run.iter().filter(|_| !error.is_fatal()) {
                let before = |device: &Device| match number(device) {
                    None => mapped.access,
                    Some(peer) => mapped.peers.get(&peer).copied().unwrap_or(Access::None),
                };
                let before: Vec<_> = devices.iter().map(|device| (*device, before(device))).collect();
                warn_of(cuda.set_access(*offset_bytes, mapped.bytes, &before));
            }
            return Err(error);
        }
        Ok(devices.into_iter().map(number).collect())
    }
}

/// Logs that access which was half set could not be set back: the caller is told of the first failure.
fn warn_of(outcome: Result<(), BackendError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "access that was half set could not be set back");
    }
}
