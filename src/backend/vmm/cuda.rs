//! Owns a CUDA device's side: a range of its addresses, and its memory mapped there. Checks nothing that the records check.

use std::sync::Arc;

use super::super::Access;
use super::super::cuda::memory::{Granularity, Mapping, Physical, Reserved};
use super::super::cuda::{Device, Stream};
use crate::error::BackendError;

/// Memory of a device at an address; dropping it unmaps.
pub(super) type CudaMapping = Mapping<Arc<Physical>>;

/// A device, and what it says of its memory.
#[derive(Clone, Debug)]
pub(super) struct CudaSpace {
    device: Device,
    granularity: Granularity,
    /// What copies run on.
    stream: Arc<Stream>,
}

impl CudaSpace {
    pub(super) fn new(device: &Device) -> Result<Self, BackendError> {
        let granularity = Granularity::of(device)?;
        let stream = Arc::new(Stream::new(device)?);
        Ok(Self { device: device.clone(), granularity, stream })
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn granularity(&self) -> Granularity {
        self.granularity
    }

    pub(super) fn create(&self, bytes: u64) -> Result<Arc<Physical>, BackendError> {
        Physical::new(&self.device, bytes).map(Arc::new)
    }
}

/// A range of addresses of a device. All offsets and sizes that it is given lie inside it.
#[derive(Debug)]
pub(super) struct CudaRange {
    reserved: Arc<Reserved>,
    /// What lies before the range's first address, where the driver could not align it.
    before_bytes: u64,
    stream: Arc<Stream>,
}

impl CudaRange {
    pub(super) fn new(space: &CudaSpace, bytes: u64, align_bytes: u64) -> Result<Self, BackendError> {
        let granularity_bytes = space.granularity.minimum_bytes;
        let align_bytes = align_bytes.max(granularity_bytes);
        let (reserved, before_bytes) = match Reserved::new(&space.device, bytes, align_bytes) {
            Err(BackendError::Driver { .. } | BackendError::Misaligned { .. })
                if align_bytes > granularity_bytes =>
            {
                aligned_within(&space.device, bytes, align_bytes, granularity_bytes)?
            }
            reserved => (reserved?, 0),
        };
        Ok(Self { reserved: Arc::new(reserved), before_bytes, stream: Arc::clone(&space.stream) })
    }

    pub(super) fn base(&self) -> u64 {
        self.address(0)
    }

    /// Address of an offset in the range, which fits because the range does.
    fn address(&self, offset_bytes: u64) -> u64 {
        self.reserved.base() + self.before_bytes + offset_bytes
    }

    /// The device that the range was reserved through.
    pub(super) fn device(&self) -> &Device {
        self.reserved.device()
    }

    /// Maps memory where none is.
    pub(super) fn map(&self, offset_bytes: u64, memory: &Arc<Physical>) -> Result<CudaMapping, BackendError> {
        let mapping = Mapping::new(&self.reserved, self.before_bytes + offset_bytes, Arc::clone(memory));
        mapping.map_err(|(error, _)| self.told_of_range(error))
    }

    /// Unmaps; where that fails the mapping is still there, and handed back.
    pub(super) fn unmap(&self, mapping: CudaMapping) -> Result<(), (BackendError, CudaMapping)> {
        mapping.unmap().map(drop).map_err(|(error, mapping)| (self.told_of_range(error), mapping))
    }

    /// Sets what devices may do with a range of whole mappings. Where that fails part of it may have changed.
    pub(super) fn set_access(
        &self,
        offset_bytes: u64,
        bytes: u64,
        access: &[(&Device, Access)],
    ) -> Result<(), BackendError> {
        let set = self.reserved.set_access(self.before_bytes + offset_bytes, bytes, access);
        set.map_err(|error| self.told_of_range(error))
    }

    /// An error with its offset counted from the range's first address, not the reservation's.
    fn told_of_range(&self, mut error: BackendError) -> BackendError {
        if let BackendError::Driver { offset_bytes, .. } = &mut error {
            *offset_bytes -= self.before_bytes.min(*offset_bytes);
        }
        error
    }

    /// Copies out of one mapping, and waits for it.
    pub(super) fn read(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.stream.copy_out(self.address(offset_bytes), out)
    }

    /// Copies into one mapping, and waits for it.
    pub(super) fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), BackendError> {
        self.stream.copy_in(self.address(offset_bytes), bytes)
    }
}

/// More addresses than are needed, among which enough begin at a multiple of the alignment: what comes before them is the second value.
fn aligned_within(
    device: &Device,
    bytes: u64,
    align_bytes: u64,
    granularity_bytes: u64,
) -> Result<(Reserved, u64), BackendError> {
    let none = || BackendError::OutOfMemory { call: "cuMemAddressReserve", bytes };
    let wide_bytes = bytes.checked_add(align_bytes).ok_or_else(none)?;
    let wide = Reserved::new(device, wide_bytes, granularity_bytes)?;
    let start = wide.base().checked_next_multiple_of(align_bytes).ok_or_else(none)?;
    let before_bytes = start - wide.base();
    Ok((wide, before_bytes))
}
