//! Owns the run-time compiler: NVRTC, where the machine has it, behind one checked function. Knows nothing of what is compiled or where it runs.

#![expect(unsafe_code, reason = "NVRTC is a C library that is looked for at run time")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;

use super::ptx::VASTGRID_CUH;
use crate::error::BackendError;

/// What the library is called, newest first; the loader's own search path finds it.
const NAMES: [&str; 4] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"];
/// What the toolkit's folder is named by, where the loader does not know it.
const FOLDERS: [&str; 2] = ["CUDA_PATH", "CUDA_HOME"];
/// Where the toolkit is where nothing names it.
const USUAL: &str = "/usr/local/cuda";
/// What a device must be at least where the caller does not say.
const ARCHITECTURE: &str = "--gpu-architecture=compute_75";

const SUCCESS: c_int = 0;
const INVALID_INPUT: c_int = 3;

/// `nvrtcProgram`.
type Program = *mut c_void;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Name = unsafe extern "C" fn(c_int) -> *const c_char;

/// The library's functions.
///
/// **Source**: `nvrtc.h` of CUDA 11.2 to 13; none of these changed in between.
struct Nvrtc {
    create: Create,
    destroy: Destroy,
    compile: Compile,
    log_size: Size,
    log: Text,
    ptx_size: Size,
    ptx: Text,
    name: Name,
    /// Keeps the functions where they are.
    _library: Library,
}

/// Compiles CUDA C++ to PTX with the NVRTC of this machine. `name` is what the compiler calls the source in its messages; `#include "vastgrid.cuh"` gets the header that this crate ships.
///
/// Options are NVRTC's, such as `-DVG_TILE_LOG2=6,6,6`. Without `--gpu-architecture` (or `-arch`) among them the code is for compute capability 7.5 and later.
///
/// A driver refuses PTX of a compiler newer than itself with `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`: then an older NVRTC must come first in the loader's search path.
///
/// **Cost**: the first call loads the library; each compiles, for tens of milliseconds and more.
///
/// # Errors
/// [`BackendError::NoDriver`] where there is no NVRTC, naming every library that was tried; [`BackendError::NoSymbol`] where it is too old; [`BackendError::Ptx`] with the compiler's log where it refuses
/// the source.
pub fn compile(source: &str, name: &str, options: &[&str]) -> Result<String, BackendError> {
    let text = |what: &str, text: &str| {
        CString::new(text).map_err(|at| BackendError::Ptx {
            name: "NVRTC_ERROR_INVALID_INPUT".to_owned(),
            code: INVALID_INPUT,
            log: format!("the {what} has a zero byte at {}", at.nul_position()),
        })
    };
    let source = text("source", source)?;
    let name = text("name", name)?;
    let mut options = options.iter().map(|option| text("option", option)).collect::<Result<Vec<_>, _>>()?;
    let is_architecture =
        |o: &CString| o.as_bytes().starts_with(b"--gpu-architecture") || o.as_bytes().starts_with(b"-arch");
    if !options.iter().any(is_architecture) {
        options.push(text("option", ARCHITECTURE)?);
    }
    let header = text("header", VASTGRID_CUH)?;
    nvrtc()?.compile(&source, &name, &header, &options)
}

/// The library, loaded once; a failure is remembered no more than it lasts.
fn nvrtc() -> Result<&'static Nvrtc, BackendError> {
    static LOADED: OnceLock<Nvrtc> = OnceLock::new();
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let loaded = Nvrtc::load()?;
    Ok(LOADED.get_or_init(|| loaded))
}

/// Every path that is tried, in order.
fn candidates() -> Vec<PathBuf> {
    let mut all: Vec<_> = NAMES.iter().map(PathBuf::from).collect();
    let named = FOLDERS.iter().filter_map(|name| std::env::var_os(name).map(PathBuf::from));
    all.extend(named.chain([PathBuf::from(USUAL)]).map(|folder| folder.join("lib64/libnvrtc.so")));
    all
}

impl Nvrtc {
    fn load() -> Result<Self, BackendError> {
        let mut tried = Vec::new();
        for path in candidates() {
            // SAFETY: NVRTC's initialisers have no conditions; the names stand for nothing else.
            match unsafe { Library::new(&path) } {
                Ok(library) => return Self::resolve(library),
                Err(_) => tried.push(path.display().to_string()),
            }
        }
        Err(BackendError::NoDriver {
            library: "libnvrtc, the run-time compiler,",
            cause: format!("tried {}", tried.join(", ")),
        })
    }

    fn resolve(library: Library) -> Result<Self, BackendError> {
        fn function<T: Copy>(library: &Library, symbol: &'static str) -> Result<T, BackendError> {
            // SAFETY: T is the type that `nvrtc.h` gives the function of that name, below.
            let found = unsafe { library.get::<T>(symbol) };
            found.map(|f| *f).map_err(|_| BackendError::NoSymbol { library: "libnvrtc", symbol })
        }
        Ok(Self {
            create: function::<Create>(&library, "nvrtcCreateProgram")?,
            destroy: function::<Destroy>(&library, "nvrtcDestroyProgram")?,
            compile: function::<Compile>(&library, "nvrtcCompileProgram")?,
            log_size: function::<Size>(&library, "nvrtcGetProgramLogSize")?,
            log: function::<Text>(&library, "nvrtcGetProgramLog")?,
            ptx_size: function::<Size>(&library, "nvrtcGetPTXSize")?,
            ptx: function::<Text>(&library, "nvrtcGetPTX")?,
            name: function::<Name>(&library, "nvrtcGetErrorString")?,
            _library: library,
        })
    }

    fn compile(
        &self,
        source: &CStr,
        name: &CStr,
        header: &CStr,
        options: &[CString],
    ) -> Result<String, BackendError> {
        let mut handle: Program = ptr::null_mut();
        let (headers, names) = ([header.as_ptr()], [c"vastgrid.cuh".as_ptr()]);
        // SAFETY: all strings end in a zero byte and outlive the call; there is one header and one name of it.
        let code = unsafe {
            (self.create)(
                &raw mut handle,
                source.as_ptr(),
                name.as_ptr(),
                1,
                headers.as_ptr(),
                names.as_ptr(),
            )
        };
        self.check(code, String::new)?;
        let program = Live { nvrtc: self, handle };
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        // SAFETY: the program was made just now; `pointers` holds as many strings as `count` says, or more.
        let code = unsafe { (self.compile)(program.handle, count, pointers.as_ptr()) };
        self.check(code, || program.text(self.log_size, self.log).unwrap_or_default())?;
        program.text(self.ptx_size, self.ptx)
    }

    fn check(&self, code: c_int, log: impl FnOnce() -> String) -> Result<(), BackendError> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: any code may be asked for.
        let name = unsafe { (self.name)(code) };
        let name = if name.is_null() {
            "NVRTC_ERROR".to_owned()
        } else {
            // SAFETY: a static string that ends in a zero byte.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        };
        Err(BackendError::Ptx { name, code, log: log() })
    }
}

/// A program until it is destroyed.
struct Live<'n> {
    nvrtc: &'n Nvrtc,
    handle: Program,
}

impl Live<'_> {
    /// One of the program's texts.
    fn text(&self, size: Size, text: Text) -> Result<String, BackendError> {
        let mut bytes = 0usize;
        // SAFETY: the program lives, and the size goes into a variable of that type.
        let code = unsafe { size(self.handle, &raw mut bytes) };
        self.nvrtc.check(code, String::new)?;
        let mut buffer = vec![0u8; bytes];
        if bytes > 0 {
            // SAFETY: the buffer is as long as the library just said that the text is, its zero byte included.
            let code = unsafe { text(self.handle, buffer.as_mut_ptr().cast()) };
            self.nvrtc.check(code, String::new)?;
        }
        let end = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
        Ok(String::from_utf8_lossy(&buffer[..end]).trim_end().to_owned())
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        // SAFETY: the program lives, and nothing uses it after this. What the call returns changes nothing.
        unsafe { (self.nvrtc.destroy)(&raw mut self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is a compiler; says so if not.
    fn there() -> bool {
        match nvrtc() {
            Ok(_) => true,
            Err(error) => {
                assert!(error.to_string().contains("libnvrtc.so.12"), "{error}");
                let required = std::env::var("VASTGRID_REQUIRE_NVRTC").is_ok_and(|value| value == "1");
                assert!(!required, "VASTGRID_REQUIRE_NVRTC=1, but {error}");
                println!("skipped: {error}");
                false
            }
        }
    }

    #[test]
    fn a_kernel_that_includes_the_header_compiles() {
        if !there() {
            return;
        }
        let source = "#include \"vastgrid.cuh\"\nextern \"C\" __global__ void first(vg_grid g, float* out) { vg_accessor<float> a(g); a.get(0, 0, 0, out); }";
        let ptx = compile(source, "first.cu", &["-DVG_TILE_LOG2=6,6,6"]).unwrap();
        assert!(ptx.contains(".entry first(") && ptx.contains(".target sm_75"), "{ptx}");
    }

    #[test]
    fn what_does_not_compile_comes_with_the_log() {
        if !there() {
            return;
        }
        let error = compile("__global__ void f() { nonsense; }", "wrong.cu", &[]).unwrap_err();
        let BackendError::Ptx { name, code, log } = error else { panic!("{error}") };
        assert_eq!((name.as_str(), code), ("NVRTC_ERROR_COMPILATION", 6));
        assert!(log.contains("wrong.cu(1)") && log.contains("nonsense"), "{log}");
        let error = compile("", "empty.cu", &["--no-such-option"]).unwrap_err();
        assert!(error.to_string().contains("NVRTC_ERROR_INVALID_OPTION"), "{error}");
    }

    #[test]
    fn a_zero_byte_is_refused_before_anything_is_loaded() {
        let error = compile("a\0b", "zero.cu", &[]).unwrap_err();
        assert!(error.to_string().contains("the source has a zero byte at 1"), "{error}");
    }
}
