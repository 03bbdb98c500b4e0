//! Owns [`GrowableBuffer`]: a buffer that grows and shrinks in place. Knows ranges and memory by their public calls only.

use std::fmt;

use super::super::Access;
use super::{AddressRange, Space};
use crate::error::BackendError;

/// A buffer whose first address never changes: the addresses of its largest size are reserved when it is made, and memory follows as it grows.
///
/// ```
/// use vastgrid::vmm::{GrowableBuffer, Space};
///
/// let mut buffer = GrowableBuffer::new(&Space::host(), 1 << 40)?; // a terabyte of addresses, no memory
/// let base = buffer.base();
/// buffer.append(b"it grows ")?;
/// buffer.append(b"in place")?;
/// buffer.resize(100 << 10)?;
/// let mut text = [0; 17];
/// buffer.read(0, &mut text)?;
/// assert_eq!((&text, buffer.base()), (b"it grows in place", base));
/// assert_eq!(buffer.len_bytes(), 100 << 10);
/// # Ok::<_, vastgrid::BackendError>(())
/// ```
///
/// **Cost**: each growth beyond the capacity makes and maps one more piece of memory, of at least the recommended granularity and an eighth of the capacity: the number
/// of pieces grows with the logarithm of the size, and at most an eighth of the memory (or one granule) is unused. No byte is ever copied.
#[derive(Debug)]
pub struct GrowableBuffer {
    range: AddressRange,
    /// Where each piece of memory begins. The first begins at 0, and each where the one before ends.
    starts: Vec<u64>,
    capacity_bytes: u64,
    len_bytes: u64,
    max_bytes: u64,
}

impl GrowableBuffer {
    /// An empty buffer that can grow to `max_bytes`.
    ///
    /// # Errors
    /// As [`Space::reserve`], for `max_bytes` rounded up to the granularity.
    pub fn new(space: &Space, max_bytes: u64) -> Result<Self, BackendError> {
        let granularity_bytes = space.granularity_bytes();
        let reserve_bytes = max_bytes.checked_next_multiple_of(granularity_bytes);
        // What cannot even be rounded up is refused for its size.
        let reserve_bytes = reserve_bytes.unwrap_or(u64::MAX - u64::MAX % granularity_bytes);
        let range = space.reserve(reserve_bytes, granularity_bytes)?;
        Ok(Self { range, starts: Vec::new(), capacity_bytes: 0, len_bytes: 0, max_bytes })
    }

    /// First address. Never changes.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.range.base()
    }

    /// Its length.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Whether its length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Bytes that have memory: it grows to this length without any call.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The most that it can grow to.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The addresses, and the records of the memory behind them.
    #[must_use]
    pub fn range(&self) -> &AddressRange {
        &self.range
    }

    /// Grows or shrinks to a length. What is there up to the shorter of both is kept; what comes new is unspecified. Shrinking gives back every piece of memory that is
    /// not needed any more, and does not wait for kernels that may still use it: that none does is the caller's business.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`] beyond the largest size. As [`Space::create`], [`AddressRange::map`], [`AddressRange::set_access`] and [`AddressRange::unmap`];
    /// growing leaves length and contents as they were then, and shrinking a length between the old and the new.
    pub fn resize(&mut self, len_bytes: u64) -> Result<(), BackendError> {
        if let Some(more) = len_bytes.checked_sub(self.len_bytes).filter(|more| *more > 0) {
            self.check_growth("resize", more)?;
        }
        if len_bytes > self.capacity_bytes {
            self.add_memory(len_bytes)?;
        }
        // Pieces that begin at the new end or later are not needed; a failure leaves them, and the length.
        while let Some(start) = self.starts.last().copied().filter(|start| *start >= len_bytes) {
            self.range.unmap(start, self.capacity_bytes - start)?;
            self.starts.pop();
            self.capacity_bytes = start;
            self.len_bytes = self.len_bytes.min(start);
        }
        self.len_bytes = len_bytes;
        Ok(())
    }

    /// Grows by these bytes.
    ///
    /// # Errors
    /// As [`GrowableBuffer::resize`] and [`AddressRange::write`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        let more = bytes.len() as u64;
        self.check_growth("append", more)?;
        let old_bytes = self.len_bytes;
        self.resize(old_bytes + more)?;
        let written = self.range.write(old_bytes, bytes);
        if written.is_err() {
            self.len_bytes = old_bytes;
        }
        written
    }

    /// Copies out.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`] beyond the length; then as [`AddressRange::read`].
    pub fn read(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.check_inside("read", offset_bytes, out.len() as u64)?;
        self.range.read(offset_bytes, out)
    }

    /// Copies in, where there is something already.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`] beyond the length; then as [`AddressRange::write`].
    pub fn write(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<(), BackendError> {
        self.check_inside("write", offset_bytes, bytes.len() as u64)?;
        self.range.write(offset_bytes, bytes)
    }

    /// Adds one piece of memory, so that the capacity is at least `needed_bytes`.
    fn add_memory(&mut self, needed_bytes: u64) -> Result<(), BackendError> {
        let granularity_bytes = self.range.space().granularity_bytes();
        let start = self.capacity_bytes;
        let least = (needed_bytes - start).next_multiple_of(granularity_bytes);
        let recommended = self.range.space().recommended_granularity_bytes();
        let wanted = least.next_multiple_of(recommended).max((start / 8).next_multiple_of(recommended));
        let wanted = wanted.min(self.range.bytes() - start);
        let space = self.range.space().clone();
        // Where there is not as much as would be wise, what is needed has to do.
        let physical = match space.create(wanted) {
            Err(BackendError::OutOfMemory { .. }) if wanted > least => space.create(least)?,
            other => other?,
        };
        let bytes = physical.bytes();
        self.range.map(start, &physical)?;
        if let Err(error) = self.range.set_access(start..start + bytes, Access::ReadWrite, &[]) {
            if let Err(error) = self.range.unmap(start, bytes) {
                tracing::warn!(%error, "memory that a buffer could not use could not be unmapped either");
            }
            return Err(error);
        }
        self.starts.push(start);
        self.capacity_bytes = start + bytes;
        Ok(())
    }

    fn check_growth(&self, call: &'static str, bytes: u64) -> Result<(), BackendError> {
        let (offset_bytes, reserved_bytes) = (self.len_bytes, self.max_bytes);
        if bytes > reserved_bytes - offset_bytes {
            return Err(BackendError::OutOfRange { call, offset_bytes, bytes, reserved_bytes });
        }
        Ok(())
    }

    fn check_inside(&self, call: &'static str, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        let reserved_bytes = self.len_bytes;
        match offset_bytes.checked_add(bytes) {
            Some(end) if end <= reserved_bytes => Ok(()),
            _ => Err(BackendError::OutOfRange { call, offset_bytes, bytes, reserved_bytes }),
        }
    }
}

impl fmt::Display for GrowableBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len_bytes, capacity_bytes, max_bytes, .. } = self;
        write!(
            f,
            "{len_bytes} bytes at {:#x} (memory for {capacity_bytes}, addresses for {max_bytes})",
            self.base()
        )
    }
}
