//! Owns [`Module`] and [`Function`]: code on the device, and launching it. Knows nothing of what kernels do.

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use super::device::Device;
use super::driver::About;
use super::stream::Stream;
use super::sys::{CUfunction, CUmodule, CUresult, JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
use crate::error::BackendError;

/// How much of a compiler's complaints is kept.
const LOG_BYTES: usize = 8 << 10;

/// Code on a device. Lives until it and every [`Function`] of it are gone.
#[derive(Debug)]
pub struct Module {
    inner: Arc<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    device: Device,
    raw: CUmodule,
}

impl Module {
    /// Has the driver compile PTX for the device.
    ///
    /// **Cost**: milliseconds to seconds, by how much code it is; the driver keeps what it compiled in a cache of its own.
    ///
    /// # Errors
    /// [`BackendError::Ptx`] with what the compiler says, where the text is wrong or newer than the driver; [`BackendError::OutOfMemory`],
    /// [`BackendError::DeviceLost`], [`BackendError::Driver`].
    pub fn load(device: &Device, ptx: &str) -> Result<Self, BackendError> {
        let refused = |code: CUresult, name: String, log: String| BackendError::Ptx { name, code, log };
        let Ok(text) = CString::new(ptx) else {
            let log = "the text holds a byte of value 0".to_owned();
            return Err(refused(218, "CUDA_ERROR_INVALID_PTX".to_owned(), log));
        };
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        // The size is passed as if it was a pointer, and one byte less than there is: the last stays 0.
        let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(LOG_BYTES - 1)];
        let _current = device.enter()?;
        let driver = device.driver();
        match driver.load_module(&text, &mut options, &mut values) {
            Ok(raw) => Ok(Self { inner: Arc::new(Loaded { device: device.clone(), raw }) }),
            // Invalid image, no code for this device, invalid PTX, no compiler, PTX too new, compiling is off; invalid source.
            Err(code @ (200 | 209 | 218 | 221 | 222 | 223 | 300)) => {
                let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
                Err(refused(code, driver.name(code), log.trim().to_owned()))
            }
            Err(code) => Err(driver
                .check("cuModuleLoadDataEx", code, About::bytes(ptx.len() as u64))
                .err()
                .unwrap_or_else(|| refused(code, driver.name(code), String::new()))),
        }
    }

    /// A kernel by its name in the code (without mangling: declare it `extern "C"`).
    ///
    /// # Errors
    /// [`BackendError::Driver`] with `CUDA_ERROR_NOT_FOUND` where there is none.
    pub fn function(&self, name: &str) -> Result<Function, BackendError> {
        let not_found = || BackendError::Driver {
            call: "cuModuleGetFunction",
            code: 500,
            name: "CUDA_ERROR_NOT_FOUND".to_owned(),
            offset_bytes: 0,
            bytes: 0,
        };
        let name = CString::new(name).map_err(|_| not_found())?;
        let _current = self.inner.device.enter()?;
        let raw = self.inner.device.driver().function(self.inner.raw, &name)?;
        Ok(Function { module: Arc::clone(&self.inner), raw })
    }

    /// The device that it is on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Ok(_current) = self.device.enter() {
            self.device.driver().unload_module(self.raw);
        }
    }
}

/// A value for a kernel's parameter. It borrows the value, which is copied when the kernel is launched.
#[derive(Clone, Copy, Debug)]
pub struct Arg<'a> {
    value: *const c_void,
    bytes: usize,
    _value: PhantomData<&'a ()>,
}

impl<'a> Arg<'a> {
    /// A value as the parameter's type has it: an address is a `u64`, an `int` an `i32`, a structure one that is `repr(C)` with the same fields.
    pub fn new<T: Copy>(value: &'a T) -> Self {
        Self { value: ptr::from_ref(value).cast::<c_void>(), bytes: size_of::<T>(), _value: PhantomData }
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A kernel. Keeps its module.
#[derive(Debug)]
pub struct Function {
    module: Arc<Loaded>,
    raw: CUfunction,
}

impl Function {
    /// Puts the kernel on a stream: `grid` blocks of `block` threads each, x first, with so much shared memory per block beside what the code declares.
    ///
    /// **Cost**: some microseconds. It waits for nothing.
    ///
    /// # Errors
    /// [`BackendError::WrongOwner`] for a stream of another context, [`BackendError::Driver`] for a shape that the device refuses, [`BackendError::DeviceLost`] where an
    /// earlier kernel went wrong.
    ///
    /// # Safety
    /// `args` are one for each parameter of the kernel, in order, of the parameter's size. All memory that the kernel reads or writes stays mapped and allocated
    /// until it is done (for an array: a frame holds it), it writes to no pinned memory that the host looks at meanwhile, and to nothing that is only lent
    /// for reading. A kernel that reads what is not mapped ends the context: every later call fails with [`BackendError::DeviceLost`].
    pub unsafe fn launch(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        args: &[Arg<'_>],
    ) -> Result<(), BackendError> {
        if !stream.device().is_same(&self.module.device) {
            let what = "the stream is of another context";
            return Err(BackendError::WrongOwner { call: "cuLaunchKernel", what });
        }
        // The driver takes pointers to what it may change, and changes nothing.
        let mut values: Vec<*mut c_void> = args.iter().map(|arg| arg.value.cast_mut()).collect();
        let _current = self.module.device.enter()?;
        let driver = self.module.device.driver();
        // SAFETY: each pointer is to a live value, of the size that the caller promises; the rest is what the caller promises.
        unsafe { driver.launch(self.raw, (grid, block), shared_bytes, stream.raw(), &mut values) }
    }
}
