//! Owns what the CUDA driver's binary interface looks like: handles, structures, constants and the table of its functions. Calls nothing, and knows nothing of errors.
//!
//! Handles are opaque pointers to the driver and plain numbers to us: nothing here ever looks through one. Sizes and offsets are those of the headers of CUDA 12.9 and
//! 13.5, and are checked when this is compiled.
//!
//! **Source**: `cuda.h`, whose macros give some functions another name (`_v2`) than the one they are written with.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libloading::Library;

/// Where the driver is.
pub(in crate::backend) const LIBRARY: &str = "libcuda.so.1";

/// `CUresult`.
pub(in crate::backend) type CUresult = c_int;
/// `CUdevice`: a number, the ordinal in practice.
pub(in crate::backend) type CUdevice = c_int;
/// `CUdeviceptr`: an address of a device.
pub(in crate::backend) type CUdeviceptr = u64;
/// `CUmemGenericAllocationHandle`.
pub(in crate::backend) type CUmemHandle = u64;
/// `size_t`, of 64 bits on everything that this crate builds for.
pub(in crate::backend) type CUsize = u64;

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(in crate::backend) struct $name(pub(in crate::backend) usize);

        impl $name {
            /// No handle.
            pub(in crate::backend) const NULL: Self = Self(0);
        }
    )*};
}

handles! {
    /// A context.
    CUcontext;
    /// A stream.
    CUstream;
    /// An event.
    CUevent;
    /// A module: loaded code.
    CUmodule;
    /// A kernel.
    CUfunction;
}

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct CUmemLocation {
    pub(in crate::backend) kind: c_int,
    pub(in crate::backend) id: c_int,
}

/// `CUmemAllocationProp`, its `allocFlags` spelled out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct CUmemAllocationProp {
    pub(in crate::backend) kind: c_int,
    pub(in crate::backend) requested_handle_types: c_int,
    pub(in crate::backend) location: CUmemLocation,
    pub(in crate::backend) win32_handle_meta_data: usize,
    pub(in crate::backend) compression_type: u8,
    pub(in crate::backend) gpu_direct_rdma_capable: u8,
    pub(in crate::backend) usage: u16,
    pub(in crate::backend) reserved: [u8; 4],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct CUmemAccessDesc {
    pub(in crate::backend) location: CUmemLocation,
    pub(in crate::backend) flags: c_int,
}

/// `CUmemcpyAttributes`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct CUmemcpyAttributes {
    pub(in crate::backend) source_access_order: c_int,
    pub(in crate::backend) source_location_hint: CUmemLocation,
    pub(in crate::backend) destination_location_hint: CUmemLocation,
    pub(in crate::backend) flags: c_uint,
}

const _: () = {
    assert!(size_of::<CUmemcpyAttributes>() == 24 && align_of::<CUmemcpyAttributes>() == 4);
    assert!(std::mem::offset_of!(CUmemcpyAttributes, source_access_order) == 0);
    assert!(std::mem::offset_of!(CUmemcpyAttributes, source_location_hint) == 4);
    assert!(std::mem::offset_of!(CUmemcpyAttributes, destination_location_hint) == 12);
    assert!(std::mem::offset_of!(CUmemcpyAttributes, flags) == 20);
    assert!(size_of::<usize>() == 8 && size_of::<CUsize>() == size_of::<usize>());
    assert!(size_of::<CUcontext>() == size_of::<*mut c_void>());
    assert!(align_of::<CUcontext>() == align_of::<*mut c_void>());
    assert!(size_of::<CUmemLocation>() == 8 && align_of::<CUmemLocation>() == 4);
    assert!(std::mem::offset_of!(CUmemLocation, kind) == 0);
    assert!(std::mem::offset_of!(CUmemLocation, id) == 4);
    assert!(size_of::<CUmemAllocationProp>() == 32 && align_of::<CUmemAllocationProp>() == 8);
    assert!(std::mem::offset_of!(CUmemAllocationProp, kind) == 0);
    assert!(std::mem::offset_of!(CUmemAllocationProp, requested_handle_types) == 4);
    assert!(std::mem::offset_of!(CUmemAllocationProp, location) == 8);
    assert!(std::mem::offset_of!(CUmemAllocationProp, win32_handle_meta_data) == 16);
    assert!(std::mem::offset_of!(CUmemAllocationProp, compression_type) == 24);
    assert!(std::mem::offset_of!(CUmemAllocationProp, gpu_direct_rdma_capable) == 25);
    assert!(std::mem::offset_of!(CUmemAllocationProp, usage) == 26);
    assert!(std::mem::offset_of!(CUmemAllocationProp, reserved) == 28);
    assert!(size_of::<CUmemAccessDesc>() == 12 && align_of::<CUmemAccessDesc>() == 4);
    assert!(std::mem::offset_of!(CUmemAccessDesc, location) == 0);
    assert!(std::mem::offset_of!(CUmemAccessDesc, flags) == 8);
};

/// Codes of `CUresult` that are told apart.
pub(in crate::backend) mod code {
    use super::CUresult;

    pub(in crate::backend) const SUCCESS: CUresult = 0;
    pub(in crate::backend) const OUT_OF_MEMORY: CUresult = 2;
    pub(in crate::backend) const DEINITIALIZED: CUresult = 4;
    pub(in crate::backend) const STUB_LIBRARY: CUresult = 34;
    pub(in crate::backend) const NO_DEVICE: CUresult = 100;
    pub(in crate::backend) const NOT_READY: CUresult = 600;
}

/// `CU_MEMCPY_SRC_ACCESS_ORDER_STREAM`: the source is read when the stream comes to it.
pub(in crate::backend) const COPY_IN_STREAM_ORDER: c_int = 1;
/// `CUmemAllocationType`: the only one.
pub(in crate::backend) const ALLOCATION_PINNED: c_int = 1;
/// `CUmemLocationType`.
pub(in crate::backend) const LOCATION_DEVICE: c_int = 1;
/// `CUmemAccess_flags`.
pub(in crate::backend) const ACCESS_NONE: c_int = 0;
/// `CUmemAccess_flags`.
pub(in crate::backend) const ACCESS_READ: c_int = 1;
/// `CUmemAccess_flags`.
pub(in crate::backend) const ACCESS_READ_WRITE: c_int = 3;
/// `CUmemAllocationGranularity_flags`.
pub(in crate::backend) const GRANULARITY_MINIMUM: c_int = 0;
/// `CUmemAllocationGranularity_flags`.
pub(in crate::backend) const GRANULARITY_RECOMMENDED: c_int = 1;
/// `CUdevice_attribute`.
pub(in crate::backend) const ATTRIBUTE_MULTIPROCESSORS: c_int = 16;
/// `CUdevice_attribute`.
pub(in crate::backend) const ATTRIBUTE_CAPABILITY_MAJOR: c_int = 75;
/// `CUdevice_attribute`.
pub(in crate::backend) const ATTRIBUTE_CAPABILITY_MINOR: c_int = 76;
/// `CUdevice_attribute`.
pub(in crate::backend) const ATTRIBUTE_VIRTUAL_MEMORY: c_int = 102;
/// `CUdevice_attribute`.
pub(in crate::backend) const ATTRIBUTE_HOST_NUMA_ID: c_int = 134;
/// `CUpointer_attribute`.
pub(in crate::backend) static POINTER_MEMORY_TYPE: c_int = 2;
/// `CUmemorytype`.
pub(in crate::backend) const MEMORY_TYPE_HOST: c_uint = 1;
/// `CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP`.
pub(in crate::backend) const HOST_ALLOC_PORTABLE_MAPPED: c_uint = 1 | 2;
/// `CU_STREAM_NON_BLOCKING`: waits for nothing on the default stream, and the reverse.
pub(in crate::backend) const STREAM_NON_BLOCKING: c_uint = 1;
/// `CU_EVENT_DEFAULT`.
pub(in crate::backend) const EVENT_TIMED: c_uint = 0;
/// `CU_EVENT_BLOCKING_SYNC`: who waits sleeps.
pub(in crate::backend) const EVENT_BLOCKING_SYNC: c_uint = 1;
/// `CU_EVENT_DISABLE_TIMING`.
pub(in crate::backend) const EVENT_UNTIMED: c_uint = 2;
/// `CUjit_option`.
pub(in crate::backend) const JIT_ERROR_LOG_BUFFER: c_int = 5;
/// `CUjit_option`.
pub(in crate::backend) const JIT_ERROR_LOG_BUFFER_SIZE_BYTES: c_int = 6;

macro_rules! symbols {
    (
        required { $($field:ident = $symbol:literal ($($arg:ty),* $(,)?);)* }
        optional { $($may:ident = $may_symbol:literal ($($may_arg:ty),* $(,)?);)* }
    ) => {
        /// The driver's functions.
        #[derive(Debug)]
        pub(in crate::backend) struct Symbols {
            $(pub(in crate::backend) $field: unsafe extern "C" fn($($arg),*) -> CUresult,)*
            $(pub(in crate::backend) $may: Option<unsafe extern "C" fn($($may_arg),*) -> CUresult>,)*
        }

        impl Symbols {
            /// Looks every function up.
            ///
            /// # Errors
            /// The name of the first that is missing.
            pub(in crate::backend) fn load(library: &Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the driver's function of this name has this signature (`cuda.h`); the library is never unloaded.
                        let found = unsafe {
                            library.get::<unsafe extern "C" fn($($arg),*) -> CUresult>(concat!($symbol, "\0").as_bytes())
                        };
                        *found.map_err(|_| $symbol)?
                    },)*
                    $($may: {
                        // SAFETY: as above.
                        let found = unsafe {
                            library.get::<unsafe extern "C" fn($($may_arg),*) -> CUresult>(concat!($may_symbol, "\0").as_bytes())
                        };
                        found.ok().map(|symbol| *symbol)
                    },)*
                })
            }
        }
    };
}

symbols! {
    required {
        init = "cuInit"(c_uint);
        get_error_name = "cuGetErrorName"(CUresult, *mut *const c_char);
        driver_get_version = "cuDriverGetVersion"(*mut c_int);
        device_get_count = "cuDeviceGetCount"(*mut c_int);
        device_get = "cuDeviceGet"(*mut CUdevice, c_int);
        device_get_name = "cuDeviceGetName"(*mut c_char, c_int, CUdevice);
        device_get_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, CUdevice);
        device_can_access_peer = "cuDeviceCanAccessPeer"(*mut c_int, CUdevice, CUdevice);
        primary_ctx_retain = "cuDevicePrimaryCtxRetain"(*mut CUcontext, CUdevice);
        primary_ctx_release = "cuDevicePrimaryCtxRelease_v2"(CUdevice);
        ctx_get_current = "cuCtxGetCurrent"(*mut CUcontext);
        ctx_push_current = "cuCtxPushCurrent_v2"(CUcontext);
        ctx_pop_current = "cuCtxPopCurrent_v2"(*mut CUcontext);
        ctx_get_device = "cuCtxGetDevice"(*mut CUdevice);
        mem_get_info = "cuMemGetInfo_v2"(*mut CUsize, *mut CUsize);
        mem_get_allocation_granularity = "cuMemGetAllocationGranularity"(*mut CUsize, *const CUmemAllocationProp, c_int);
        mem_address_reserve = "cuMemAddressReserve"(*mut CUdeviceptr, CUsize, CUsize, CUdeviceptr, u64);
        mem_address_free = "cuMemAddressFree"(CUdeviceptr, CUsize);
        mem_create = "cuMemCreate"(*mut CUmemHandle, CUsize, *const CUmemAllocationProp, u64);
        mem_release = "cuMemRelease"(CUmemHandle);
        mem_map = "cuMemMap"(CUdeviceptr, CUsize, CUsize, CUmemHandle, u64);
        mem_unmap = "cuMemUnmap"(CUdeviceptr, CUsize);
        mem_set_access = "cuMemSetAccess"(CUdeviceptr, CUsize, *const CUmemAccessDesc, CUsize);
        mem_alloc = "cuMemAlloc_v2"(*mut CUdeviceptr, CUsize);
        mem_free = "cuMemFree_v2"(CUdeviceptr);
        mem_host_alloc = "cuMemHostAlloc"(*mut *mut c_void, CUsize, c_uint);
        mem_free_host = "cuMemFreeHost"(*mut c_void);
        mem_host_get_device_pointer = "cuMemHostGetDevicePointer_v2"(*mut CUdeviceptr, *mut c_void, c_uint);
        pointer_get_attributes = "cuPointerGetAttributes"(c_uint, *const c_int, *mut *mut c_void, CUdeviceptr);
        memcpy_htod_async = "cuMemcpyHtoDAsync_v2"(CUdeviceptr, *const c_void, CUsize, CUstream);
        memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2"(*mut c_void, CUdeviceptr, CUsize, CUstream);
        memset_d8_async = "cuMemsetD8Async"(CUdeviceptr, u8, CUsize, CUstream);
        memset_d16_async = "cuMemsetD16Async"(CUdeviceptr, u16, CUsize, CUstream);
        memset_d32_async = "cuMemsetD32Async"(CUdeviceptr, c_uint, CUsize, CUstream);
        stream_create = "cuStreamCreate"(*mut CUstream, c_uint);
        stream_destroy = "cuStreamDestroy_v2"(CUstream);
        stream_synchronize = "cuStreamSynchronize"(CUstream);
        stream_wait_event = "cuStreamWaitEvent"(CUstream, CUevent, c_uint);
        event_create = "cuEventCreate"(*mut CUevent, c_uint);
        event_destroy = "cuEventDestroy_v2"(CUevent);
        event_record = "cuEventRecord"(CUevent, CUstream);
        event_query = "cuEventQuery"(CUevent);
        event_synchronize = "cuEventSynchronize"(CUevent);
        event_elapsed_time = "cuEventElapsedTime"(*mut f32, CUevent, CUevent);
        module_load_data_ex = "cuModuleLoadDataEx"(*mut CUmodule, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
        module_get_function = "cuModuleGetFunction"(*mut CUfunction, CUmodule, *const c_char);
        module_unload = "cuModuleUnload"(CUmodule);
        launch_kernel = "cuLaunchKernel"(
            CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void,
        );
    }
    optional {
        device_get_uuid = "cuDeviceGetUuid_v2"(*mut [u8; 16], CUdevice);
        // CUDA 13's, and CUDA 12.8's, which says besides which copy failed.
        memcpy_batch_async = "cuMemcpyBatchAsync_v2"(
            *const CUdeviceptr, *const CUdeviceptr, *const CUsize, CUsize, *const CUmemcpyAttributes, *const CUsize, CUsize, CUstream,
        );
        memcpy_batch_async_12 = "cuMemcpyBatchAsync"(
            *const CUdeviceptr, *const CUdeviceptr, *const CUsize, CUsize, *const CUmemcpyAttributes, *const CUsize, CUsize, *mut CUsize, CUstream,
        );
    }
}
