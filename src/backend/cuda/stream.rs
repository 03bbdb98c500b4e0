//! Owns [`Stream`] and [`Event`]: order, and its points. Knows nothing of what is ordered.

use std::ffi::c_void;
use std::ptr;

use super::device::Device;
use super::driver::About;
use super::pattern::{Fill, Pattern};
use super::sys::{CUdeviceptr, CUevent, CUstream, EVENT_BLOCKING_SYNC, EVENT_TIMED, EVENT_UNTIMED};
use crate::error::BackendError;

/// One of several copies to the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub(super) to: CUdeviceptr,
    pub(super) from: *const u8,
    pub(super) bytes: usize,
    /// Where in the reservation, for errors.
    pub(super) offset_bytes: u64,
}

/// A queue of work for the device: what is on it runs in order, and beside what is on other streams. Has no ties to the default stream.
///
/// Dropping it waits for nothing: what was put on it still runs.
#[derive(Debug)]
pub struct Stream {
    device: Device,
    raw: CUstream,
    /// Whether it is ours, to be destroyed.
    owned: bool,
}

impl Stream {
    /// A new one.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn new(device: &Device) -> Result<Self, BackendError> {
        let _current = device.enter()?;
        let raw = device.driver().stream()?;
        Ok(Self { device: device.clone(), raw, owned: true })
    }

    /// A stream that somebody else made, a `CUstream` (or a `cudaStream_t`, which is the same). It is not destroyed.
    ///
    /// # Safety
    /// `stream` is a live stream of the device's context, or null for its default stream, and lives longer than this value.
    #[must_use]
    pub unsafe fn from_raw(device: &Device, stream: *mut c_void) -> Self {
        Self { device: device.clone(), raw: CUstream(stream.expose_provenance()), owned: false }
    }

    /// The stream, a `CUstream`, for other users of the driver; good for as long as this value lives.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.raw.0)
    }

    /// The device that it is on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits until everything on it is done.
    ///
    /// # Errors
    /// [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn synchronize(&self) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        self.device.driver().synchronize(self.raw)
    }

    /// Lets everything that is put on it from now on wait for an event, of this device or another. The calling thread waits for nothing.
    ///
    /// # Errors
    /// [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn wait_event(&self, event: &Event) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        self.device.driver().stream_wait(self.raw, event.raw)
    }

    /// An event that is done when everything that is on the stream now is done.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn record(&self) -> Result<Event, BackendError> {
        let event = Event::new(&self.device, EVENT_UNTIMED)?;
        self.record_in(&event)?;
        Ok(event)
    }

    /// The same, in an event that is there already and stood for something else.
    pub(super) fn record_in(&self, event: &Event) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        self.device.driver().record(event.raw, self.raw)
    }

    /// Begins a copy from host memory to an address of the device.
    ///
    /// # Safety
    /// `from` is readable for `about.bytes`, and stays as it is, unfreed and unwritten, until the copy is done. (Memory that is not page-locked may be read before this returns, or may not.)
    pub(in crate::backend) unsafe fn begin_copy_in(
        &self,
        to: CUdeviceptr,
        from: *const u8,
        about: About,
    ) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        // SAFETY: as the caller promises.
        unsafe { self.device.driver().copy_in(to, from, self.raw, about) }
    }

    /// Begins copies from host memory to addresses of the device, in one call where the driver can.
    ///
    /// # Safety
    /// For each of them as for [`Stream::begin_copy_in`]; if this fails, until the stream has come so far.
    pub(super) unsafe fn begin_copies_in(&self, copies: &[Copy]) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        if copies.len() > 1 && self.device.driver().copies_together() {
            // SAFETY: as the caller promises.
            return unsafe { self.device.driver().copy_in_together(copies, self.raw) };
        }
        for copy in copies {
            let about = About { offset_bytes: copy.offset_bytes, bytes: copy.bytes as u64 };
            // SAFETY: as the caller promises.
            unsafe { self.device.driver().copy_in(copy.to, copy.from, self.raw, about) }?;
        }
        Ok(())
    }

    /// Begins to set memory of the device.
    pub(super) fn begin_fills(&self, fills: &[Fill]) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        let driver = self.device.driver();
        for &Fill { to, bytes, pattern, offset_bytes, .. } in fills {
            let about = About { offset_bytes, bytes };
            match pattern {
                Pattern::U8(value) => driver.fill(to, value, self.raw, about),
                Pattern::U16(value) => driver.fill_u16(to, value, self.raw, about),
                Pattern::U32(value) => driver.fill_u32(to, value, self.raw, about),
            }?;
        }
        Ok(())
    }

    /// Copies from host memory to an address of the device, and waits for it.
    pub(in crate::backend) fn copy_in(&self, to: CUdeviceptr, from: &[u8]) -> Result<(), BackendError> {
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: a slice is readable, and is borrowed until the wait below is over, after which nothing reads it: either the copy is done, or the device is lost.
        unsafe { self.begin_copy_in(to, from.as_ptr(), About::bytes(from.len() as u64)) }?;
        self.synchronize()
    }

    /// Copies from an address of the device to host memory, and waits for it.
    pub(in crate::backend) fn copy_out(&self, from: CUdeviceptr, to: &mut [u8]) -> Result<(), BackendError> {
        if to.is_empty() {
            return Ok(());
        }
        let current = self.device.enter()?;
        // SAFETY: a slice is writable, and is borrowed until the wait below is over, after which nothing writes it: either the copy is done, or the device is lost.
        unsafe {
            self.device.driver().copy_out(to.as_mut_ptr(), from, self.raw, About::bytes(to.len() as u64))
        }?;
        drop(current);
        self.synchronize()
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.owned
            && let Ok(_current) = self.device.enter()
        {
            self.device.driver().destroy_stream(self.raw);
        }
    }
}

/// A point on a stream: [`Stream::record`] makes one.
#[derive(Debug)]
pub struct Event {
    device: Device,
    raw: CUevent,
}

impl Event {
    /// An event with a time, recorded on a stream: [`Event::elapsed_ms`] tells two of them apart.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn timed(stream: &Stream) -> Result<Self, BackendError> {
        let event = Self::new(&stream.device, EVENT_TIMED)?;
        stream.record_in(&event)?;
        Ok(event)
    }

    /// One that stands for nothing yet. Who waits for it spins, or sleeps where `sleeps`.
    pub(super) fn untimed(device: &Device, sleeps: bool) -> Result<Self, BackendError> {
        Self::new(device, if sleeps { EVENT_UNTIMED | EVENT_BLOCKING_SYNC } else { EVENT_UNTIMED })
    }

    fn new(device: &Device, flags: u32) -> Result<Self, BackendError> {
        let _current = device.enter()?;
        let raw = device.driver().event(flags)?;
        Ok(Self { device: device.clone(), raw })
    }

    /// Whether everything that it stands for is done.
    ///
    /// # Errors
    /// [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn is_done(&self) -> Result<bool, BackendError> {
        let _current = self.device.enter()?;
        self.device.driver().is_done(self.raw)
    }

    /// Waits until it is.
    ///
    /// # Errors
    /// [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn wait(&self) -> Result<(), BackendError> {
        let _current = self.device.enter()?;
        self.device.driver().wait(self.raw)
    }

    /// Milliseconds between two timed events that are done.
    ///
    /// # Errors
    /// [`BackendError::Driver`] where one of them is not timed or not done.
    pub fn elapsed_ms(&self, earlier: &Self) -> Result<f32, BackendError> {
        let _current = self.device.enter()?;
        self.device.driver().elapsed_ms(earlier.raw, self.raw)
    }

    /// The event, a `CUevent`, for other users of the driver; good for as long as this value lives.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.raw.0)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_current) = self.device.enter() {
            self.device.driver().destroy_event(self.raw);
        }
    }
}
