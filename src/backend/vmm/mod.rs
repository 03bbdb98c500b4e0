//! Owns the low-level layer: reserved addresses, physical memory, and mappings of one into the other, for the host and for CUDA devices alike. Bytes only: no tiles,
//! no budget, no policy. [`crate::SparseArray3D`] is what most users want; this is for those who build something else of the same parts.
//!
//! | file | owns |
//! | --- | --- |
//! | `space` | where memory lives: [`Space`] |
//! | `range`, `access` | [`AddressRange`]: mapping and copies; who may do what |
//! | `physical` | [`PhysicalMemory`] |
//! | `growable` | [`GrowableBuffer`] |
//! | `records` | what is mapped where, and what may be asked |
//! | `host`, `sys` | this process' addresses, and the system calls |
//! | `cuda` | addresses and memory of CUDA devices |
//!
//! # The tour
//!
//! **Reserve addresses, make memory, map it, set access.** Sizes and offsets are multiples of the granularity:
//!
//! ```
//! use vastgrid::backend::Access;
//! use vastgrid::vmm::Space;
//!
//! let space = Space::host();
//! let granule = space.recommended_granularity_bytes();
//! let mut range = space.reserve(1 << 40, granule)?; // a terabyte of addresses, no memory
//! assert!(range.contains(range.base()) && !range.contains(range.end()));
//!
//! let memory = space.create(granule)?;
//! range.map(0, &memory)?;
//! range.set_access(0..granule, Access::ReadWrite, &[])?;
//! range.write(0, b"hello")?;
//! # Ok::<_, vastgrid::BackendError>(())
//! ```
//!
//! **One memory at many addresses** shows the same bytes everywhere, each with its own access. The records say what is where:
//!
//! ```
//! # use vastgrid::backend::Access;
//! # use vastgrid::{BackendError, vmm::Space};
//! # let space = Space::host();
//! # let granule = space.recommended_granularity_bytes();
//! # let mut range = space.reserve(1 << 40, granule)?;
//! # let memory = space.create(granule)?;
//! # range.map(0, &memory)?;
//! # range.set_access(0..granule, Access::ReadWrite, &[])?;
//! # range.write(0, b"hello")?;
//! let far = 1000 * granule;
//! range.map(far, &memory)?;
//! range.set_access(far..far + granule, Access::Read, &[])?;
//! let mut seen = [0; 5];
//! range.read(far, &mut seen)?;
//! assert_eq!(&seen, b"hello");
//! assert!(matches!(range.write(far, b"no"), Err(BackendError::NoAccess { .. })));
//!
//! let records = range.mappings();
//! assert_eq!((records.len(), records[1].offset_bytes, records[1].access), (2, far, Access::Read));
//! assert!(records.iter().all(|r| r.physical == memory.id()));
//!
//! range.unmap(0, granule)?;
//! drop(memory); // its other mapping keeps it
//! range.read(far, &mut seen)?;
//! assert_eq!(&seen, b"hello");
//! # Ok::<_, BackendError>(())
//! ```
//!
//! **What cannot be is an error** before the system or the driver hears of it, and changes nothing:
//!
//! ```
//! # use vastgrid::backend::Access;
//! # use vastgrid::{BackendError, vmm::Space};
//! # let space = Space::host();
//! # let granule = space.recommended_granularity_bytes();
//! # let mut range = space.reserve(1 << 40, granule)?;
//! # let memory = space.create(granule)?;
//! range.map(0, &memory)?;
//! assert!(matches!(range.map(0, &memory), Err(BackendError::AlreadyMapped { .. })));
//! assert!(matches!(range.map(1, &memory), Err(BackendError::Misaligned { .. })));
//! let hole = range.set_access(0..2 * granule, Access::Read, &[]);
//! assert!(matches!(hole, Err(BackendError::NotMapped { offset_bytes, .. }) if offset_bytes == granule));
//! # Ok::<_, BackendError>(())
//! ```
//!
//! **A buffer that grows in place**: [`GrowableBuffer`].
//!
//! # On the host
//!
//! Memory is a file without a name (a *memfd*) of its own, taken whole when it is made: one file descriptor each, until it is dropped and mapped nowhere. A forked process
//! shares it. Each mapping takes two of the memory mappings that the system allows a process (`vm.max_map_count`), of which this layer and all host backends of the
//! process together use half at most.
//!
//! # On CUDA devices
//!
//! Access is per device: a range is reserved through one device, memory of any device can be mapped into it, and [`AddressRange::set_access`] names who may use it:
//!
//! ```no_run
//! use vastgrid::cuda::Device;
//! use vastgrid::vmm::{Access, Space};
//!
//! let (a, b) = (Device::open(0)?, Device::open(1)?);
//! let (here, there) = (Space::cuda(&a)?, Space::cuda(&b)?);
//! let granule = here.granularity_bytes().max(there.granularity_bytes());
//! let mut range = here.reserve(1 << 40, granule)?;
//! range.map(0, &here.create(granule)?)?;       // memory of the first device,
//! range.map(granule, &there.create(granule)?)?; // and of the second, in one range
//! range.set_access(0..2 * granule, Access::ReadWrite, &[&a, &b])?; // that kernels of both may use
//! # Ok::<_, vastgrid::BackendError>(())
//! ```
//!
//! Setting access and unmapping cost some 20 us each per mapping, whatever its size: few large ones are better than many small ones. Nothing here waits for kernels:
//! unmapping what one still uses kills the device's context, and every later call fails with [`crate::BackendError::DeviceLost`].

mod access;
mod cuda;
mod growable;
#[expect(unsafe_code, reason = "maps memory that nobody uses")]
mod host;
mod physical;
#[expect(unsafe_code, reason = "copies what the records allow, and hands it out as slices")]
mod range;
mod records;
mod space;
#[expect(unsafe_code, reason = "the boundary to the system")]
mod sys;

pub use super::Access;
pub use growable::GrowableBuffer;
pub use physical::{PhysicalId, PhysicalMemory};
pub use range::{AddressRange, MappingRecord};
pub use space::Space;
