//! Owns plain memory: [`DeviceBuffer`] in the device, [`PinnedBuffer`] in the host where the device can reach it. Knows nothing of reservations.

use std::ffi::c_void;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use super::device::Device;
use super::driver::About;
use super::stream::Stream;
use super::sys::CUdeviceptr;
use crate::error::BackendError;

/// Memory of a device, in one piece and always there. Dropping it gives it back.
///
/// What it holds is the business of kernels and copies, ordered by the streams that they are on. Its first contents are unspecified.
#[derive(Debug)]
pub struct DeviceBuffer {
    device: Device,
    address: CUdeviceptr,
    bytes: u64,
}

impl DeviceBuffer {
    /// Takes `bytes` of the device's memory.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::Driver`] (also for a size of zero).
    pub fn new(device: &Device, bytes: u64) -> Result<Self, BackendError> {
        let _current = device.enter()?;
        let address = device.driver().alloc(bytes)?;
        Ok(Self { device: device.clone(), address, bytes })
    }

    /// Its first address, good on the device for as long as the buffer lives.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies into its beginning what lies in host memory, on a stream, and waits for it.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`], [`BackendError::WrongOwner`] for a stream of another context, [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn copy_from_host(&self, stream: &Stream, from: &[u8]) -> Result<(), BackendError> {
        self.copy_from_host_at(stream, 0, from)
    }

    /// The same at an offset.
    ///
    /// # Errors
    /// As [`DeviceBuffer::copy_from_host`].
    pub fn copy_from_host_at(
        &self,
        stream: &Stream,
        offset_bytes: u64,
        from: &[u8],
    ) -> Result<(), BackendError> {
        self.check("copy_from_host", stream, offset_bytes, from.len() as u64)?;
        stream.copy_in(self.address + offset_bytes, from)
    }

    /// Copies its beginning out into host memory, on a stream, and waits for it.
    ///
    /// # Errors
    /// As [`DeviceBuffer::copy_from_host`].
    pub fn copy_to_host(&self, stream: &Stream, to: &mut [u8]) -> Result<(), BackendError> {
        self.copy_to_host_at(stream, 0, to)
    }

    /// The same from an offset.
    ///
    /// # Errors
    /// As [`DeviceBuffer::copy_from_host`].
    pub fn copy_to_host_at(
        &self,
        stream: &Stream,
        offset_bytes: u64,
        to: &mut [u8],
    ) -> Result<(), BackendError> {
        self.check("copy_to_host", stream, offset_bytes, to.len() as u64)?;
        stream.copy_out(self.address + offset_bytes, to)
    }

    /// Begins a copy from page-locked memory and returns at once: what comes later on the stream sees it.
    ///
    /// # Errors
    /// As [`DeviceBuffer::copy_from_host`]; [`BackendError::OutOfRange`] also for a range outside `from`.
    ///
    /// # Safety
    /// `from` lives, and nobody writes to the range, until the stream has come so far.
    pub unsafe fn begin_copy_from_pinned(
        &self,
        stream: &Stream,
        offset_bytes: u64,
        from: &PinnedBuffer,
        range: Range<usize>,
    ) -> Result<(), BackendError> {
        let bytes = range.len() as u64;
        let Some(source) = from.get(range.clone()) else {
            let (offset_bytes, reserved_bytes) = (range.start as u64, from.len() as u64);
            let call = "begin_copy_from_pinned";
            return Err(BackendError::OutOfRange { call, offset_bytes, bytes, reserved_bytes });
        };
        self.check("begin_copy_from_pinned", stream, offset_bytes, bytes)?;
        // SAFETY: a part of page-locked memory, which stays as it is for as long as the caller promises.
        unsafe {
            stream.begin_copy_in(self.address + offset_bytes, source.as_ptr(), About { offset_bytes, bytes })
        }
    }

    /// Sets every byte of it, on a stream: what comes later on the stream sees it.
    ///
    /// # Errors
    /// [`BackendError::WrongOwner`] for a stream of another context, [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn fill(&self, stream: &Stream, value: u8) -> Result<(), BackendError> {
        self.fill_at(stream, 0..self.bytes, value)
    }

    /// The same for a range of its bytes.
    ///
    /// # Errors
    /// As [`DeviceBuffer::fill`]; [`BackendError::OutOfRange`] for a range that is not in it.
    pub fn fill_at(&self, stream: &Stream, bytes: Range<u64>, value: u8) -> Result<(), BackendError> {
        let count = bytes.end.saturating_sub(bytes.start);
        // One that ends before it begins is in no buffer.
        let first = if bytes.end < bytes.start { u64::MAX } else { bytes.start };
        self.check("fill", stream, first, count)?;
        if count == 0 {
            return Ok(());
        }
        let _current = self.device.enter()?;
        self.device.driver().fill(self.address + bytes.start, value, stream.raw(), About::bytes(count))
    }

    fn check(
        &self,
        call: &'static str,
        stream: &Stream,
        offset_bytes: u64,
        bytes: u64,
    ) -> Result<(), BackendError> {
        if !stream.device().is_same(&self.device) {
            return Err(BackendError::WrongOwner { call, what: "the stream is of another context" });
        }
        match offset_bytes.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(BackendError::OutOfRange { call, offset_bytes, bytes, reserved_bytes: self.bytes }),
        }
    }
}

impl Drop for DeviceBuffer {
    /// Waits for the device, as the driver does here: not for use while something streams.
    fn drop(&mut self) {
        if let Ok(_current) = self.device.enter() {
            self.device.driver().free(self.address);
        }
    }
}

/// Page-locked memory of the host: copies from and to it run at the speed of the bus and by themselves, and kernels can read it in place. It starts as zeros.
///
/// As a slice it is [`Prepared`](crate::Prepared) memory: a source that hands out tiles from it saves a copy.
///
/// **Cost**: the system pins every OS page: about 0.2 ms per MiB. Not for small things, and none of it can be swapped out.
pub struct PinnedBuffer {
    device: Device,
    memory: NonNull<u8>,
    bytes: usize,
    device_address: CUdeviceptr,
}

// SAFETY: the memory is owned by this value alone, is reached through `&` and `&mut` of it as any bytes are, and can be freed from any thread.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// Takes `bytes` of memory that every device of the process can reach.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::Driver`] (also for a size of zero).
    pub fn new(device: &Device, bytes: usize) -> Result<Self, BackendError> {
        let _current = device.enter()?;
        let driver = device.driver();
        let raw = driver.host_alloc(bytes as u64)?;
        let out_of_memory = || BackendError::OutOfMemory { call: "cuMemHostAlloc", bytes: bytes as u64 };
        let memory = NonNull::new(raw.cast::<u8>()).ok_or_else(out_of_memory)?;
        // SAFETY: the driver gave us so many bytes, which nobody else knows.
        unsafe { memory.write_bytes(0, bytes) };
        let device_address = driver.device_address_of(raw).inspect_err(|_| {
            // SAFETY: allocated above, and nobody else knows it.
            unsafe { driver.free_host(raw) };
        })?;
        Ok(Self { device: device.clone(), memory, bytes, device_address })
    }

    /// A part of it that keeps the whole: a tile's bytes, say, for a source that has them ready ([`Prepared`](crate::Prepared)). `None` where there is no such part.
    #[must_use]
    pub fn part(self: &Arc<Self>, range: Range<usize>) -> Option<PinnedPart> {
        self.get(range.clone())?;
        Some(PinnedPart { buffer: self.clone(), range })
    }

    /// Where kernels find it. Whoever lets one write there sees to it that nobody looks at the slice meanwhile.
    #[must_use]
    pub fn device_address(&self) -> u64 {
        self.device_address
    }

    /// Its first byte; borrows nothing.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.memory
    }
}

impl Deref for PinnedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes of live memory, written when it was made; `&self` keeps everyone else from writing them.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.bytes) }
    }
}

impl DerefMut for PinnedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.bytes) }
    }
}

impl AsRef<[u8]> for PinnedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PinnedBuffer {
    /// The size only: nobody wants to see so many bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedBuffer").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A part of a [`PinnedBuffer`], which it keeps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PinnedPart {
    buffer: Arc<PinnedBuffer>,
    range: Range<usize>,
}

impl AsRef<[u8]> for PinnedPart {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if let Ok(_current) = self.device.enter() {
            // SAFETY: allocated by `new` and freed here alone. Copies from or to it either ended before the call that began them returned, or their owner holds this
            // buffer until they are done.
            unsafe { self.device.driver().free_host(self.memory.as_ptr().cast::<c_void>()) };
        }
    }
}
