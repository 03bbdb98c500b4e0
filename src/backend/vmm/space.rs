//! Owns [`Space`]: where memory lives, and what can be made there. Checks sizes; leaves the rest to what it makes.

use std::fmt;

use super::super::cuda::Device;
use super::cuda::{CudaRange, CudaSpace};
use super::host::{self, HostMemory, HostRange};
use super::physical::Place;
use super::range::Kind;
use super::records::{check_create, check_reserve};
use super::{AddressRange, PhysicalMemory};
use crate::error::BackendError;
use crate::layout::MAX_RESERVED_BYTES;

/// What mappings on the host should not be smaller than: below this, making them costs more than touching new memory.
const HOST_RECOMMENDED_BYTES: u64 = 64 << 10;

/// Where memory lives: in the host, or in a CUDA device. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Space {
    pub(super) place: SpacePlace,
}

#[derive(Clone, Debug)]
pub(super) enum SpacePlace {
    Host,
    Cuda(CudaSpace),
}

impl Space {
    /// The host: ranges are addresses of this process, and memory is its own.
    #[must_use]
    pub fn host() -> Self {
        Self { place: SpacePlace::Host }
    }

    /// A CUDA device: ranges are addresses for its kernels, and memory is its own. Memory of other devices can be mapped into its ranges, too.
    ///
    /// # Errors
    /// [`BackendError::DeviceUnsupported`] where the device says of a granularity what cannot be; [`BackendError::OutOfMemory`], [`BackendError::Driver`].
    pub fn cuda(device: &Device) -> Result<Self, BackendError> {
        Ok(Self { place: SpacePlace::Cuda(CudaSpace::new(device)?) })
    }

    /// The number of the CUDA device; `None` for the host.
    #[must_use]
    pub fn device(&self) -> Option<i32> {
        match &self.place {
            SpacePlace::Host => None,
            SpacePlace::Cuda(cuda) => Some(cuda.device().ordinal()),
        }
    }

    /// The smallest size that can be mapped: every size and offset is a multiple of it. A power of two.
    #[must_use]
    pub fn granularity_bytes(&self) -> u64 {
        match &self.place {
            SpacePlace::Host => host::granularity_bytes(),
            SpacePlace::Cuda(cuda) => cuda.granularity().minimum_bytes,
        }
    }

    /// A multiple of the granularity that sizes had better be a multiple of, too.
    #[must_use]
    pub fn recommended_granularity_bytes(&self) -> u64 {
        match &self.place {
            SpacePlace::Host => HOST_RECOMMENDED_BYTES.max(host::granularity_bytes()),
            SpacePlace::Cuda(cuda) => cuda.granularity().recommended_bytes,
        }
    }

    /// Reserves a range of addresses without memory: nothing else in the process is ever given an address inside, until it is dropped.
    ///
    /// `align_bytes` is what the first address is a multiple of: any power of two, 1 for no wish. The granularity is always kept.
    ///
    /// **Cost**: one or two calls of the system or the driver, whatever the size.
    ///
    /// # Errors
    /// Without asking the system or the driver: [`BackendError::ZeroSize`], [`BackendError::Alignment`] for zero or no power of two, [`BackendError::Misaligned`] for
    /// no multiple of the granularity, [`BackendError::ReserveSize`] beyond 2^46 bytes. Then [`BackendError::OutOfMemory`] where there are not that many addresses left,
    /// [`BackendError::TooManyMappings`], [`BackendError::System`], [`BackendError::Driver`].
    pub fn reserve(&self, bytes: u64, align_bytes: u64) -> Result<AddressRange, BackendError> {
        check_reserve(bytes, align_bytes, self.granularity_bytes(), MAX_RESERVED_BYTES)?;
        let kind = match &self.place {
            SpacePlace::Host => Kind::Host(HostRange::new(bytes, align_bytes)?),
            SpacePlace::Cuda(cuda) => Kind::Cuda(CudaRange::new(cuda, bytes, align_bytes)?),
        };
        AddressRange::new(self.clone(), kind, bytes)
    }

    /// Makes physical memory. On the host it is filled with zeros; on a device its contents are unspecified.
    ///
    /// **Cost**: on the host all of the memory is taken now (0.2 to 1 us per 4 KiB), so that running out is an error here and not a signal later, and so is one file
    /// descriptor. On a device one driver call.
    ///
    /// # Errors
    /// Without asking the system or the driver: [`BackendError::ZeroSize`], [`BackendError::Misaligned`] for no multiple of the granularity. Then
    /// [`BackendError::OutOfMemory`], [`BackendError::System`] (such as no file descriptor left), [`BackendError::Driver`].
    pub fn create(&self, bytes: u64) -> Result<PhysicalMemory, BackendError> {
        check_create(bytes, self.granularity_bytes())?;
        let place = match &self.place {
            SpacePlace::Host => Place::Host(HostMemory::new(bytes)?),
            SpacePlace::Cuda(cuda) => Place::Cuda(cuda.create(bytes)?),
        };
        Ok(PhysicalMemory::new(bytes, place))
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device() {
            None => f.write_str("the host"),
            Some(ordinal) => write!(f, "CUDA device {ordinal}"),
        }
    }
}
