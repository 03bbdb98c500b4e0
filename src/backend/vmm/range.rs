//! Owns [`AddressRange`]: reserved addresses, and the records of what is mapped there; who may use it is in `access`. Every call is checked against the records before the system or the driver hears of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::super::Access;
use super::super::host::mappings::Taken;
use super::cuda::{CudaMapping, CudaRange};
use super::host::HostRange;
use super::physical::{Physical, Place};
use super::records::{Mapped, Records};
use super::{PhysicalId, PhysicalMemory, Space};
use crate::error::BackendError;

/// One mapping in an [`AddressRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappingRecord {
    /// Where it begins, as an offset in the range.
    pub offset_bytes: u64,
    /// Its size.
    pub bytes: u64,
    /// What is mapped there.
    pub physical: PhysicalId,
    /// The number of the CUDA device whose memory that is; `None` where it is the host's.
    pub device: Option<i32>,
    /// What the process (on the host) or the space's own device may do there.
    pub access: Access,
    /// What other devices may do there, by their number; those that were never named are not listed and may do nothing.
    pub peers: Vec<(i32, Access)>,
}

impl fmt::Display for MappingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset_bytes, bytes, physical, access, .. } = self;
        write!(f, "{physical}, {bytes} bytes at offset {offset_bytes}, access {access:?}")
    }
}

/// Addresses that are ours until dropped, into which memory is mapped and from which it is taken again. Made by [`Space::reserve`].
///
/// Dropping it unmaps what is mapped and gives the addresses back. Calls that change what is mapped take the range exclusively: who shares one between threads puts
/// it behind a lock.
///
/// **Units**: offsets are bytes from the range's first address. Ranges are half-open.
#[derive(Debug)]
pub struct AddressRange {
    // Dropped in this order: mappings before the addresses they lie at.
    pub(super) records: Records<Held>,
    pub(super) kind: Kind,
    space: Space,
    addresses: Range<u64>,
}

/// The addresses themselves.
#[derive(Debug)]
pub(super) enum Kind {
    Host(HostRange),
    Cuda(CudaRange),
}

/// What a record holds on to.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) physical: Arc<Physical>,
    mapping: Mapping,
}

/// What ends with a mapping.
#[derive(Debug)]
enum Mapping {
    Host { _taken: Taken },
    Cuda(CudaMapping),
}

impl AddressRange {
    pub(super) fn new(space: Space, kind: Kind, bytes: u64) -> Result<Self, BackendError> {
        let base = match &kind {
            Kind::Host(host) => host.base(),
            Kind::Cuda(cuda) => cuda.base(),
        };
        let end = base.checked_add(bytes).ok_or(BackendError::OutOfMemory { call: "reserve", bytes })?;
        let records = Records::new(bytes, space.granularity_bytes());
        Ok(Self { records, kind, space, addresses: base..end })
    }

    /// First address. Never changes.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.addresses.start
    }

    /// Size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.addresses.end - self.addresses.start
    }

    /// The address behind the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.addresses.end
    }

    /// Whether an address lies inside.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        self.addresses.contains(&address)
    }

    /// Where it was reserved.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What is mapped, in the order of the offsets.
    #[must_use]
    pub fn mappings(&self) -> Vec<MappingRecord> {
        let record = |(offset_bytes, mapped): (u64, &Mapped<Held>)| MappingRecord {
            offset_bytes,
            bytes: mapped.bytes,
            physical: mapped.held.physical.id(),
            device: mapped.held.physical.device(),
            access: mapped.access,
            peers: mapped.peers.iter().map(|(device, access)| (*device, *access)).collect(),
        };
        self.records.iter().map(record).collect()
    }

    /// Maps physical memory, all of it, at an offset. It may be mapped elsewhere, too. No access is set: [`AddressRange::set_access`] comes next.
    ///
    /// **Cost**: one call of the system or the driver. On the host two of the memory mappings that the system allows a process.
    ///
    /// # Errors
    /// Without asking the system or the driver: [`BackendError::WrongOwner`] for host memory in a device's range or the reverse, [`BackendError::Misaligned`],
    /// [`BackendError::OutOfRange`], [`BackendError::AlreadyMapped`] with the first offset that is taken, [`BackendError::TooManyMappings`]. Then
    /// [`BackendError::OutOfMemory`], [`BackendError::System`], [`BackendError::Driver`]; nothing has changed after any of them.
    pub fn map(&mut self, offset_bytes: u64, physical: &PhysicalMemory) -> Result<(), BackendError> {
        let bytes = physical.bytes();
        let mapping = match (&self.kind, &physical.inner.place) {
            (Kind::Host(host), Place::Host(memory)) => {
                self.records.check_map(offset_bytes, bytes)?;
                Mapping::Host { _taken: host.map(offset_bytes, bytes, memory)? }
            }
            (Kind::Cuda(cuda), Place::Cuda(memory)) => {
                self.records.check_map(offset_bytes, bytes)?;
                Mapping::Cuda(cuda.map(offset_bytes, memory)?)
            }
            _ => {
                let what =
                    "host memory goes into ranges of the host, and CUDA memory into ranges of CUDA devices";
                return Err(BackendError::WrongOwner { call: "map", what });
            }
        };
        let physical = Arc::clone(&physical.inner);
        self.records.insert(offset_bytes, bytes, Held { physical, mapping });
        Ok(())
    }

    /// Takes whole mappings away from a range without holes. The addresses stay reserved.
    ///
    /// It does not wait for anything: that no kernel, and nobody who holds a pointer, uses the memory any more is the caller's business.
    ///
    /// **Cost**: on the host one system call, whatever the number of mappings. On a device one driver call per mapping.
    ///
    /// # Errors
    /// Without asking the system or the driver: [`BackendError::ZeroSize`], [`BackendError::Misaligned`], [`BackendError::OutOfRange`], [`BackendError::NotMapped`] for a
    /// hole, [`BackendError::CutsMapping`] where the range begins or ends inside a mapping. Then [`BackendError::System`], [`BackendError::Driver`]: the records tell which
    /// mappings are gone.
    pub fn unmap(&mut self, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        let run = self.records.check_run("unmap", offset_bytes, bytes)?;
        let starts: Vec<u64> = run.map(|(start, _)| start).collect();
        match &self.kind {
            Kind::Host(host) => {
                host.unmap(offset_bytes, bytes)?;
                for start in starts {
                    self.records.remove(start);
                }
            }
            Kind::Cuda(_) => starts.into_iter().try_for_each(|start| self.unmap_one(start))?,
        }
        Ok(())
    }

    /// Unmaps one mapping of a device's range. Where that fails the record stays, as it was.
    fn unmap_one(&mut self, start: u64) -> Result<(), BackendError> {
        let Some(mapped) = self.records.remove(start) else { return Ok(()) };
        let Mapped { bytes, access, peers, held: Held { physical, mapping } } = mapped;
        let (Kind::Cuda(cuda), Mapping::Cuda(mapping)) = (&self.kind, mapping) else { return Ok(()) };
        cuda.unmap(mapping).map_err(|(error, mapping)| {
            let held = Held { physical, mapping: Mapping::Cuda(mapping) };
            self.records.put_back(start, Mapped { bytes, access, peers, held });
            error
        })
    }

    /// Copies mapped memory out, synchronously. Ordered against every other [`AddressRange::read`] and [`AddressRange::write`] of the same physical memory, through
    /// whatever addresses; not against kernels, nor against those who use pointers.
    ///
    /// **Cost**: one copy, or one synchronous driver copy, per mapping that the range touches.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`], [`BackendError::NotMapped`], [`BackendError::NoAccess`] without the range's own right to read; then [`BackendError::Driver`].
    pub fn read(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), BackendError> {
        let pieces = self.records.pieces("read", offset_bytes, out.len() as u64, false)?;
        let mut rest = out;
        for piece in pieces {
            let (now, later) = rest.split_at_mut(length(&piece.range));
            rest = later;
            let _ordered = piece.held.physical.reading();
            match &self.kind {
                // SAFETY: the records say that it is mapped and readable, and the guard that nobody writes.
                Kind::Host(host) => unsafe { host.read(piece.range.start, now) },
                Kind::Cuda(cuda) => cuda.read(piece.range.start, now)?,
            }
        }
        Ok(())
    }

    /// Copies into mapped memory, synchronously. Ordered as [`AddressRange::read`] is.
    ///
    /// **Cost**: as [`AddressRange::read`].
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`], [`BackendError::NotMapped`], [`BackendError::NoAccess`] without the range's own right to write: nothing is written then. Then
    /// [`BackendError::Driver`].
    pub fn write(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<(), BackendError> {
        let pieces = self.records.pieces("write", offset_bytes, bytes.len() as u64, true)?;
        let mut rest = bytes;
        for piece in pieces {
            let (now, later) = rest.split_at(length(&piece.range));
            rest = later;
            let _ordered = piece.held.physical.writing();
            match &self.kind {
                // SAFETY: the records say that it is mapped and writable, and the guard that nobody else uses it.
                Kind::Host(host) => unsafe { host.write(piece.range.start, now) },
                Kind::Cuda(cuda) => cuda.write(piece.range.start, now)?,
            }
        }
        Ok(())
    }

    /// The first address as a pointer; `None` in a device's range.
    ///
    /// What lies behind it may be read, or written, as long as and where the records say that the process may, that is: until the mapping is unmapped, its access is
    /// taken away, or the range is dropped. Anything else is a segmentation fault. Memory that is mapped twice is one memory: the rules of aliasing and of data
    /// races are on the bytes, not on the addresses.
    #[must_use]
    pub fn as_ptr(&self) -> Option<*mut u8> {
        match &self.kind {
            Kind::Host(host) => Some(host.pointer(0)),
            Kind::Cuda(_) => None,
        }
    }

    /// Mapped memory of the host as a slice, without a copy. What is mapped cannot be changed while it lives:
    ///
    /// ```compile_fail,E0502
    /// # use vastgrid::vmm::AddressRange;
    /// fn hold(mut range: AddressRange) -> Result<u8, vastgrid::BackendError> {
    ///     let slice = unsafe { range.slice(0..4096) }?;
    ///     range.unmap(0, 4096)?;
    ///     Ok(slice[0])
    /// }
    /// ```
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`], [`BackendError::NotMapped`], [`BackendError::NoAccess`]; [`BackendError::WrongOwner`] in a device's range.
    ///
    /// # Safety
    /// While the slice lives nobody writes to the memory: not through another address at which it is mapped, not through a pointer, not in a forked process.
    pub unsafe fn slice(&self, range: Range<u64>) -> Result<&[u8], BackendError> {
        let (start, length) = self.sliced("slice", &range, false)?;
        // SAFETY: the records say that it is mapped and readable, and the borrow that it stays so; the rest is the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts(start, length) })
    }

    /// Mapped memory of the host as a slice to write to.
    ///
    /// # Errors
    /// As [`AddressRange::slice`].
    ///
    /// # Safety
    /// While the slice lives nobody else reads or writes the memory: not through another address at which it is mapped, not through a pointer, not in a forked process.
    pub unsafe fn slice_mut(&mut self, range: Range<u64>) -> Result<&mut [u8], BackendError> {
        let (start, length) = self.sliced("slice_mut", &range, true)?;
        // SAFETY: the records say that it is mapped and writable, and the borrow that it stays so; the rest is the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(start, length) })
    }

    fn sliced(
        &self,
        call: &'static str,
        range: &Range<u64>,
        writes: bool,
    ) -> Result<(*mut u8, usize), BackendError> {
        let bytes = range.end.saturating_sub(range.start);
        self.records.pieces(call, range.start, bytes, writes)?;
        match &self.kind {
            Kind::Host(host) => Ok((host.pointer(range.start), length(&(0..bytes)))),
            Kind::Cuda(_) => Err(BackendError::WrongOwner {
                call,
                what: "a device's memory cannot be looked at from the host",
            }),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, end, bytes) = (self.base(), self.end(), self.bytes());
        write!(f, "{base:#x}..{end:#x} ({bytes} bytes of addresses of {})", self.space)
    }
}

/// Length of a piece of a slice, or of a range of this process' addresses.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it fits, as the whole does, and the crate needs 64-bit processors"
)]
fn length(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}
