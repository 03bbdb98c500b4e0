//! Owns the host's side: a range of this process' addresses, and memory files mapped into it. Checks nothing that the records check; knows no devices.
//!
//! No hole ever opens in a range: mapping replaces a piece of the reservation, and unmapping replaces the mapping, each in one call.

use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::Arc;

use super::super::Access;
use super::super::host::mappings::{Mappings, Taken};
use super::super::host::sys::{self as reserved, Purpose, os_page_bytes};
use super::sys;
use crate::error::BackendError;

/// A mapping, and the piece of the reservation behind it.
const MAPPINGS_PER_MAP: u64 = 2;

/// Size of the smallest mapping.
pub(super) fn granularity_bytes() -> u64 {
    os_page_bytes() as u64
}

/// Memory without an address.
#[derive(Debug)]
pub(super) struct HostMemory {
    file: OwnedFd,
}

impl HostMemory {
    pub(super) fn new(bytes: u64) -> Result<Self, BackendError> {
        Ok(Self { file: sys::take_memory(bytes)? })
    }
}

/// A range of addresses without a hole. All offsets and sizes that it is given lie inside it.
#[derive(Debug)]
pub(super) struct HostRange {
    range: reserved::Range,
    mappings: Arc<Mappings>,
    /// For the reservation itself.
    _taken: Taken,
}

impl HostRange {
    pub(super) fn new(bytes: u64, align_bytes: u64) -> Result<Self, BackendError> {
        let none = |_| BackendError::OutOfMemory { call: "reserve", bytes };
        let size = usize::try_from(bytes).map_err(none)?;
        let align = usize::try_from(align_bytes).map_err(none)?.max(os_page_bytes());
        let mappings = Mappings::new(None, None);
        let taken = mappings.take("reserve", 1)?;
        let range = reserved::Range::new(size, align, Purpose::Reserve);
        Ok(Self { range: range.map_err(|error| told_apart(error, "reserve"))?, mappings, _taken: taken })
    }

    pub(super) fn base(&self) -> u64 {
        self.range.start() as u64
    }

    /// Address of an offset in the range, which fits because the range does.
    fn address(&self, offset_bytes: u64) -> usize {
        self.range.start() + size(offset_bytes)
    }

    /// Maps memory where none is.
    pub(super) fn map(
        &self,
        offset_bytes: u64,
        bytes: u64,
        memory: &HostMemory,
    ) -> Result<Taken, BackendError> {
        let taken = self.mappings.take("map", MAPPINGS_PER_MAP)?;
        let (start, bytes) = (self.address(offset_bytes), size(bytes));
        // SAFETY: the records, which hold nothing there, say that the range is ours, whole OS pages, and used by nobody.
        if let Err(error) = unsafe { sys::map_shared(&memory.file, start, bytes, offset_bytes) } {
            // SAFETY: as above.
            unsafe { reserved::mend(start, bytes) };
            return Err(error);
        }
        Ok(taken)
    }

    /// Frees a range of whole mappings and reserves it again in the same step.
    pub(super) fn unmap(&self, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        let (start, bytes) = (self.address(offset_bytes), size(bytes));
        // SAFETY: whole mappings of this range; its exclusive borrow says that no slice of it lives, and raw pointers into it are their holder's business.
        match unsafe { reserved::reserve_again(start, bytes) } {
            // SAFETY: as above. Where there was a hole to mend, the mapping is gone, which is what was asked for.
            Err(error) if !unsafe { reserved::mend(start, bytes) } => Err(told_apart(error, "unmap")),
            _ => Ok(()),
        }
    }

    /// Sets what the process may do with a range of whole mappings. Where that fails part of the range may have changed.
    pub(super) fn protect(&self, offset_bytes: u64, bytes: u64, access: Access) -> Result<(), BackendError> {
        // SAFETY: as in `unmap`.
        unsafe { sys::protect(self.address(offset_bytes), size(bytes), access, offset_bytes) }
    }

    /// Copies out of one mapping.
    ///
    /// # Safety
    /// It is mapped, readable, and written by nobody meanwhile.
    pub(super) unsafe fn read(&self, offset_bytes: u64, out: &mut [u8]) {
        let (from, to) = (self.address(offset_bytes), out.as_mut_ptr().expose_provenance());
        // SAFETY: as the caller promises; a slice that is exclusively borrowed overlaps no memory that may be read.
        unsafe { reserved::copy(from, to, out.len()) };
    }

    /// Copies into one mapping.
    ///
    /// # Safety
    /// It is mapped, writable, and used by nobody else meanwhile.
    pub(super) unsafe fn write(&self, offset_bytes: u64, bytes: &[u8]) {
        let (from, to) = (bytes.as_ptr().expose_provenance(), self.address(offset_bytes));
        // SAFETY: as the caller promises; a slice that is borrowed overlaps no memory that may be written.
        unsafe { reserved::copy(from, to, bytes.len()) };
    }

    /// The address of an offset as a pointer.
    pub(super) fn pointer(&self, offset_bytes: u64) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.address(offset_bytes))
    }
}

/// Says what a call ran out of.
fn told_apart(error: BackendError, call: &'static str) -> BackendError {
    match error {
        BackendError::OutOfMemory { bytes, .. } => sys::out_of_memory(call, bytes),
        other => other,
    }
}

/// Sizes and offsets inside a range of this process' addresses fit its `usize`.
#[expect(clippy::cast_possible_truncation, reason = "the crate needs 64-bit processors")]
fn size(bytes: u64) -> usize {
    bytes as usize
}
