//! Owns the loaded driver: the library is opened once, its functions are looked up once, and every code that they return becomes an error with the call's name. The
//! calls themselves are in `calls`.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use libloading::Library;

use super::sys::{CUresult, LIBRARY, Symbols, code};
use crate::error::BackendError;

/// The driver of this process.
#[derive(Debug)]
pub(in crate::backend) struct Driver {
    pub(super) symbols: Symbols,
    /// Never unloaded: destructors of the process' last moments may still call into it.
    _library: Library,
}

/// Why there is no driver; kept, because whoever asks again gets the same answer.
#[derive(Clone, Debug)]
enum NoDriver {
    Library(String),
    Symbol(&'static str),
    Init(CUresult, String),
}

/// What a call was about, for its error.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::backend) struct About {
    pub(in crate::backend) offset_bytes: u64,
    pub(in crate::backend) bytes: u64,
}

impl About {
    /// Nothing with an offset or a size.
    pub(in crate::backend) const NOTHING: Self = Self { offset_bytes: 0, bytes: 0 };

    pub(in crate::backend) fn bytes(bytes: u64) -> Self {
        Self { offset_bytes: 0, bytes }
    }
}

/// The driver, loaded and initialised by the first call.
///
/// # Errors
/// [`BackendError::NoDriver`], [`BackendError::NoSymbol`], [`BackendError::NoDevice`] where the driver finds no device at all, [`BackendError::Driver`].
pub(in crate::backend) fn driver() -> Result<&'static Driver, BackendError> {
    static DRIVER: OnceLock<Result<Driver, NoDriver>> = OnceLock::new();
    match DRIVER.get_or_init(Driver::load) {
        Ok(driver) => Ok(driver),
        Err(NoDriver::Library(cause)) => {
            Err(BackendError::NoDriver { library: LIBRARY, cause: cause.clone() })
        }
        Err(NoDriver::Symbol(symbol)) => Err(BackendError::NoSymbol { library: LIBRARY, symbol }),
        Err(NoDriver::Init(code::NO_DEVICE, _)) => Err(BackendError::NoDevice { ordinal: 0, devices: 0 }),
        Err(NoDriver::Init(code, name)) => Err(BackendError::Driver {
            call: "cuInit",
            code: *code,
            name: name.clone(),
            offset_bytes: 0,
            bytes: 0,
        }),
    }
}

/// What an error says, and what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Driver {
    fn load() -> Result<Self, NoDriver> {
        // SAFETY: the driver's library runs nothing on loading that asks anything of us.
        let library = unsafe { Library::new(LIBRARY) }.map_err(|error| NoDriver::Library(told(&error)))?;
        let symbols = Symbols::load(&library).map_err(NoDriver::Symbol)?;
        let driver = Self { symbols, _library: library };
        // SAFETY: the flags must be 0, and are.
        match unsafe { (driver.symbols.init)(0) } {
            code::SUCCESS => Ok(driver),
            code::STUB_LIBRARY => {
                Err(NoDriver::Library("it is the stub that programs are linked with, not a driver".into()))
            }
            code => Err(NoDriver::Init(code, driver.name(code))),
        }
    }

    /// The name of a code, such as `CUDA_ERROR_INVALID_VALUE`.
    pub(super) fn name(&self, code: CUresult) -> String {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: `name` is a place for one pointer.
        let result = unsafe { (self.symbols.get_error_name)(code, &raw mut name) };
        if result != code::SUCCESS || name.is_null() {
            return "an error without a name".into();
        }
        // SAFETY: the driver says that it is a string, which is never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// What a code means.
    pub(in crate::backend) fn check(
        &self,
        call: &'static str,
        code: CUresult,
        about: About,
    ) -> Result<(), BackendError> {
        if code == code::SUCCESS { Ok(()) } else { Err(failure(call, code, self.name(code), about)) }
    }

    /// Logs a failure that nobody can be told of, such as one in a destructor. That the driver has shut down before us, at the end of the process, is no
    /// failure, and of a lost device somebody was told already.
    pub(super) fn log(&self, call: &'static str, code: CUresult) {
        if code != code::SUCCESS && code != code::DEINITIALIZED && !is_sticky(code) {
            let name = self.name(code);
            tracing::warn!(call, code, name, "a CUDA resource could not be given back");
        }
    }
}

/// Whether a code means that the context is dead, and every later call fails with it.
///
/// **Source**: the codes of which `cuda.h` says that "the process must be terminated and relaunched", and a context that somebody destroyed.
pub(super) fn is_sticky(code: CUresult) -> bool {
    // ECC, NVLink, contained; illegal address; launch time-out; context destroyed, assert; hardware stack, illegal instruction, misaligned address, invalid address
    // space, invalid program counter, launch failed; tensor memory leak.
    matches!(code, 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721)
}

fn failure(call: &'static str, code: CUresult, name: String, about: About) -> BackendError {
    let About { offset_bytes, bytes } = about;
    match code {
        code::OUT_OF_MEMORY => BackendError::OutOfMemory { call, bytes },
        code if is_sticky(code) => BackendError::DeviceLost { call, code, name },
        code => BackendError::Driver { call, code, name, offset_bytes, bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: CUresult) -> BackendError {
        failure("cuMemMap", code, "CUDA_ERROR_X".into(), About { offset_bytes: 64, bytes: 4096 })
    }

    #[test]
    fn codes_become_the_errors_that_callers_tell_apart() {
        assert!(matches!(of(2), BackendError::OutOfMemory { call: "cuMemMap", bytes: 4096 }));
        for code in [214, 220, 700, 702, 709, 710, 714, 717, 719] {
            assert!(of(code).is_fatal(), "{code}");
        }
        for code in [1, 3, 4, 100, 201, 500, 600, 701, 703, 713, 720, 999] {
            assert!(!of(code).is_fatal(), "{code}");
            assert!(matches!(of(code), BackendError::Driver { .. }), "{code}");
        }
        let error = of(1);
        assert_eq!(
            error.to_string(),
            "cuMemMap of 4096 bytes at offset 64 failed: CUDA_ERROR_X (1)",
            "the call, its values, the code and its name"
        );
    }

    #[test]
    fn a_driver_is_there_or_its_absence_has_a_name_and_stays() {
        let text = |outcome: Result<&Driver, BackendError>| outcome.err().map(|e| e.to_string());
        assert_eq!(text(driver()), text(driver()));
        match driver() {
            Ok(driver) => assert_eq!(driver.name(1), "CUDA_ERROR_INVALID_VALUE"),
            Err(BackendError::NoDriver { library, cause }) => {
                assert!(library == "libcuda.so.1" && cause.contains("libcuda"), "{cause}");
            }
            Err(BackendError::NoDevice { devices: 0, .. }) => {}
            Err(other) => panic!("a driver that cannot be used: {other}"),
        }
    }
}
