//! Owns the calls of the CUDA driver that rivals need and the library does not: three-dimensional arrays, textures of them, and memory that is put under parts of them. Loaded when first asked for; what a
//! driver lacks is said when it is called.
//!
//! **Source**: `cuda.h` of CUDA 12.9; the sizes below are its structures'.
#![allow(unsafe_code, reason = "calls the driver")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt::Display;
use std::sync::OnceLock;

use libloading::Library;
use vastgrid::cuda::Device;

use crate::suite::Failure;

/// `CUarray`: opaque.
pub(crate) type RawArray = *mut c_void;

/// `CUDA_ARRAY3D_DESCRIPTOR`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrayDescriptor {
    pub(crate) size: [usize; 3],
    pub(crate) format: c_uint,
    pub(crate) channels: c_uint,
    pub(crate) flags: c_uint,
}

/// `CUDA_ARRAY_SPARSE_PROPERTIES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SparseProperties {
    pub(crate) tile: [c_uint; 3],
    pub(crate) mip_tail_first_level: c_uint,
    pub(crate) mip_tail_bytes: u64,
    pub(crate) flags: c_uint,
    reserved: [c_uint; 4],
}

/// `CUDA_RESOURCE_DESC` of an array.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceDescriptor {
    pub(crate) kind: c_uint,
    pub(crate) array: RawArray,
    pub(crate) reserved: [u64; 15],
    pub(crate) flags: c_uint,
}

/// `CUDA_TEXTURE_DESC`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TextureDescriptor {
    pub(crate) address_modes: [c_uint; 3],
    pub(crate) filter_mode: c_uint,
    pub(crate) flags: c_uint,
    pub(crate) anisotropy: c_uint,
    pub(crate) mip_filter_mode: c_uint,
    pub(crate) mip_levels: [f32; 3],
    pub(crate) border: [f32; 4],
    pub(crate) reserved: [c_int; 12],
}

/// One side of a `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyEnd {
    pub(crate) x_bytes: usize,
    pub(crate) y: usize,
    pub(crate) z: usize,
    pub(crate) level: usize,
    pub(crate) kind: c_uint,
    pub(crate) host: *const c_void,
    pub(crate) device: u64,
    pub(crate) array: RawArray,
    pub(crate) reserved: usize,
    pub(crate) row_bytes: usize,
    pub(crate) rows: usize,
}

impl CopyEnd {
    /// `CUmemorytype`.
    const HOST: c_uint = 1;
    const DEVICE: c_uint = 2;
    const ARRAY: c_uint = 3;

    const NOTHING: Self = Self {
        x_bytes: 0,
        y: 0,
        z: 0,
        level: 0,
        kind: 0,
        host: std::ptr::null(),
        device: 0,
        array: std::ptr::null_mut(),
        reserved: 0,
        row_bytes: 0,
        rows: 0,
    };

    pub(crate) fn host(from: *const u8, row_bytes: usize, rows: usize) -> Self {
        Self { kind: Self::HOST, host: from.cast(), row_bytes, rows, ..Self::NOTHING }
    }

    pub(crate) fn device(address: u64, row_bytes: usize, rows: usize) -> Self {
        Self { kind: Self::DEVICE, device: address, row_bytes, rows, ..Self::NOTHING }
    }

    pub(crate) fn array(array: RawArray, [x, y, z]: [u32; 3], voxel_bytes: usize) -> Self {
        let (y, z) = (y as usize, z as usize);
        Self { kind: Self::ARRAY, array, x_bytes: x as usize * voxel_bytes, y, z, ..Self::NOTHING }
    }
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy3D {
    pub(crate) from: CopyEnd,
    pub(crate) to: CopyEnd,
    pub(crate) row_bytes: usize,
    pub(crate) rows: usize,
    pub(crate) planes: usize,
}

/// `CUmemAllocationProp`, `allocFlags` spelled out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocationProperties {
    pub(crate) kind: c_int,
    pub(crate) handle_types: c_int,
    pub(crate) location_kind: c_int,
    pub(crate) location: c_int,
    pub(crate) win32: usize,
    pub(crate) compression: u8,
    pub(crate) rdma: u8,
    pub(crate) usage: u16,
    pub(crate) reserved: [u8; 4],
}

/// `CUarrayMapInfo` of a part of a level.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrayMapInfo {
    pub(crate) resource_kind: c_uint,
    pub(crate) array: RawArray,
    pub(crate) subresource_kind: c_uint,
    /// The next ones are a union aligned to 8 bytes.
    pub(crate) pad: c_uint,
    pub(crate) level: c_uint,
    pub(crate) layer: c_uint,
    pub(crate) offset: [c_uint; 3],
    pub(crate) extent: [c_uint; 3],
    pub(crate) operation: c_uint,
    pub(crate) handle_kind: c_uint,
    pub(crate) handle: u64,
    pub(crate) offset_bytes: u64,
    pub(crate) devices: c_uint,
    pub(crate) flags: c_uint,
    pub(crate) reserved: [c_uint; 2],
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<ArrayDescriptor>() == 40 && offset_of!(ArrayDescriptor, format) == 24);
    assert!(size_of::<SparseProperties>() == 48 && offset_of!(SparseProperties, mip_tail_bytes) == 16);
    assert!(size_of::<ResourceDescriptor>() == 144 && offset_of!(ResourceDescriptor, flags) == 136);
    assert!(size_of::<TextureDescriptor>() == 104 && offset_of!(TextureDescriptor, border) == 40);
    assert!(size_of::<CopyEnd>() == 88 && offset_of!(CopyEnd, array) == 56);
    assert!(size_of::<Copy3D>() == 200 && offset_of!(Copy3D, row_bytes) == 176);
    assert!(size_of::<AllocationProperties>() == 32 && offset_of!(AllocationProperties, usage) == 26);
    assert!(size_of::<ArrayMapInfo>() == 96 && offset_of!(ArrayMapInfo, level) == 24);
    assert!(offset_of!(ArrayMapInfo, operation) == 56 && offset_of!(ArrayMapInfo, handle) == 64);
};

macro_rules! symbols {
    ($($field:ident = $symbol:literal ($($arg:ty),* $(,)?);)*) => {
        /// The driver's functions, those that it has.
        #[derive(Debug)]
        pub(crate) struct Symbols {
            $(pub(crate) $field: Option<unsafe extern "C" fn($($arg),*) -> c_int>,)*
        }

        impl Symbols {
            fn load(library: &Library) -> Self {
                Self {
                    $($field: {
                        // SAFETY: the driver's function of this name has this signature (`cuda.h`); the library is never unloaded.
                        let found = unsafe {
                            library.get::<unsafe extern "C" fn($($arg),*) -> c_int>(concat!($symbol, "\0").as_bytes())
                        };
                        found.ok().map(|symbol| *symbol)
                    },)*
                }
            }
        }
    };
}

symbols! {
    get_error_name = "cuGetErrorName"(c_int, *mut *const c_char);
    device_get_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
    ctx_push_current = "cuCtxPushCurrent_v2"(*mut c_void);
    ctx_pop_current = "cuCtxPopCurrent_v2"(*mut *mut c_void);
    array_create = "cuArray3DCreate_v2"(*mut RawArray, *const ArrayDescriptor);
    array_destroy = "cuArrayDestroy"(RawArray);
    array_sparse_properties = "cuArrayGetSparseProperties"(*mut SparseProperties, RawArray);
    texture_create = "cuTexObjectCreate"(*mut u64, *const ResourceDescriptor, *const TextureDescriptor, *const c_void);
    texture_destroy = "cuTexObjectDestroy"(u64);
    copy_3d = "cuMemcpy3DAsync_v2"(*const Copy3D, *mut c_void);
    granularity = "cuMemGetAllocationGranularity"(*mut usize, *const AllocationProperties, c_int);
    mem_create = "cuMemCreate"(*mut u64, usize, *const AllocationProperties, u64);
    mem_release = "cuMemRelease"(u64);
    map_array = "cuMemMapArrayAsync"(*mut ArrayMapInfo, c_uint, *mut c_void);
}

/// The driver of this process.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) symbols: Symbols,
    /// Never unloaded.
    _library: Library,
}

impl Driver {
    /// The driver, which the library has initialised by the time that there is a [`Device`].
    pub(crate) fn get() -> Result<&'static Self, Failure> {
        static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
        let load = || {
            // SAFETY: the driver's library runs nothing on loading that asks anything of us; it is loaded already.
            let library = unsafe { Library::new("libcuda.so.1") }.map_err(|error| error.to_string())?;
            Ok(Self { symbols: Symbols::load(&library), _library: library })
        };
        DRIVER.get_or_init(load).as_ref().map_err(|error| format!("libcuda.so.1: {error}").into())
    }

    /// Calls a function, if the driver has it, and says which call failed, with what, and why.
    pub(crate) fn call<F>(
        &self,
        name: &str,
        symbol: Option<F>,
        about: impl Display,
        call: impl FnOnce(F) -> c_int,
    ) -> Result<(), Failure> {
        let function = symbol.ok_or_else(|| format!("the driver has no {name}"))?;
        match call(function) {
            0 => Ok(()),
            code => Err(format!("{name} of {about}: {} ({code})", self.error_name(code)).into()),
        }
    }

    fn error_name(&self, code: c_int) -> String {
        let mut name: *const c_char = std::ptr::null();
        if let Some(function) = self.symbols.get_error_name {
            // SAFETY: `name` is a place for one pointer.
            let _ = unsafe { function(code, &raw mut name) };
        }
        if name.is_null() {
            return "an error without a name".to_owned();
        }
        // SAFETY: the driver says that it is a string, which is never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// An attribute of a device; 0 where the driver does not know it.
    pub(crate) fn attribute(&self, device: &Device, which: c_int) -> c_int {
        let mut value = 0;
        let found = self.call("cuDeviceGetAttribute", self.symbols.device_get_attribute, which, |function| {
            // SAFETY: `value` is a place for a number.
            unsafe { function(&raw mut value, which, device.ordinal()) }
        });
        if found.is_ok() { value } else { 0 }
    }
}

/// While this lives, the device's context is current on the thread that made it.
#[must_use = "the context is current for as long as this lives"]
pub(crate) struct Current(&'static Driver);

impl Current {
    pub(crate) fn enter(device: &Device) -> Result<Self, Failure> {
        let driver = Driver::get()?;
        driver.call("cuCtxPushCurrent", driver.symbols.ctx_push_current, device, |function| {
            // SAFETY: the context lives as long as the device, which is borrowed by whoever calls.
            unsafe { function(device.as_raw_context()) }
        })?;
        Ok(Self(driver))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        let _ = self.0.call("cuCtxPopCurrent", self.0.symbols.ctx_pop_current, "a context", |function| {
            // SAFETY: `popped` is a place for one context.
            unsafe { function(&raw mut popped) }
        });
    }
}
