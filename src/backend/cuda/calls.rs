//! Owns the checked calls of the driver: one function each, which turns the driver's code into an error with the call's name. Knows nothing of who owns what.
//!
//! Two rules meet the driver's requirements everywhere below. Handles come from the driver itself and are live: only the owners in this folder hold any, and each
//! gives its own back once, when it is dropped. Results are written to places on the stack that outlive the call. Where host memory is read or written, the
//! function is unsafe and says what it needs. Device addresses are the device's business: a wrong one is an error, or kills the context, but harms no host memory.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use super::driver::{About, Driver};
use super::stream::Copy;
use super::sys::{
    COPY_IN_STREAM_ORDER, CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUmemAccessDesc,
    CUmemAllocationProp, CUmemHandle, CUmemLocation, CUmemcpyAttributes, CUmodule, CUresult, CUsize,
    CUstream, HOST_ALLOC_PORTABLE_MAPPED, MEMORY_TYPE_HOST, POINTER_MEMORY_TYPE, STREAM_NON_BLOCKING, code,
};
use crate::error::BackendError;

type Result<T> = std::result::Result<T, BackendError>;

/// Calls a function of the table: `call!(self.field(arguments))`.
macro_rules! call {
    ($self:ident . $function:ident ( $($argument:expr),* )) => {{
        // SAFETY: the rules at the top of this file: live handles, and places that outlive the call.
        unsafe { ($self.symbols.$function)($($argument),*) }
    }};
}

impl Driver {
    /// `cuDriverGetVersion`: 12040 is 12.4.
    pub(super) fn version(&self) -> Result<i32> {
        let mut version = 0;
        let code = call!(self.driver_get_version(&raw mut version));
        self.check("cuDriverGetVersion", code, About::NOTHING).map(|()| version)
    }

    /// `cuDeviceGetCount`.
    pub(super) fn device_count(&self) -> Result<i32> {
        let mut count = 0;
        let code = call!(self.device_get_count(&raw mut count));
        self.check("cuDeviceGetCount", code, About::NOTHING).map(|()| count)
    }

    /// `cuDeviceGet`.
    pub(super) fn device(&self, ordinal: i32) -> Result<CUdevice> {
        let mut device = 0;
        let code = call!(self.device_get(&raw mut device, ordinal));
        self.check("cuDeviceGet", code, About::NOTHING).map(|()| device)
    }

    /// `cuDeviceGetName`.
    pub(super) fn device_name(&self, device: CUdevice) -> Result<String> {
        let mut name = [0u8; 256];
        // The last byte stays 0, whatever is written.
        let code = call!(self.device_get_name(name.as_mut_ptr().cast::<c_char>(), 255, device));
        self.check("cuDeviceGetName", code, About::NOTHING)?;
        let until_null = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        Ok(until_null.to_string_lossy().into_owned())
    }

    /// `cuDeviceGetUuid`, where the driver has it.
    pub(super) fn device_uuid(&self, device: CUdevice) -> Option<[u8; 16]> {
        let get = self.symbols.device_get_uuid?;
        let mut uuid = [0; 16];
        // SAFETY: the rules at the top of this file; a `CUuuid` is 16 bytes.
        let code = unsafe { get(&raw mut uuid, device) };
        (code == code::SUCCESS).then_some(uuid)
    }

    /// `cuDeviceGetAttribute`.
    pub(super) fn device_attribute(&self, device: CUdevice, attribute: c_int) -> Result<i32> {
        let mut value = 0;
        let code = call!(self.device_get_attribute(&raw mut value, attribute, device));
        self.check("cuDeviceGetAttribute", code, About::NOTHING).map(|()| value)
    }

    /// `cuDeviceCanAccessPeer`.
    pub(super) fn can_access_peer(&self, device: CUdevice, peer: CUdevice) -> Result<bool> {
        let mut can = 0;
        let code = call!(self.device_can_access_peer(&raw mut can, device, peer));
        self.check("cuDeviceCanAccessPeer", code, About::NOTHING).map(|()| can != 0)
    }

    /// `cuDevicePrimaryCtxRetain`.
    pub(super) fn primary_context(&self, device: CUdevice) -> Result<CUcontext> {
        let mut context = CUcontext::NULL;
        let code = call!(self.primary_ctx_retain(&raw mut context, device));
        self.check("cuDevicePrimaryCtxRetain", code, About::NOTHING).map(|()| context)
    }

    /// `cuDevicePrimaryCtxRelease`.
    pub(super) fn release_primary_context(&self, device: CUdevice) {
        self.log("cuDevicePrimaryCtxRelease", call!(self.primary_ctx_release(device)));
    }

    /// `cuCtxGetCurrent`: none where this thread has none, or it cannot be told.
    pub(super) fn current_context(&self) -> CUcontext {
        let mut context = CUcontext::NULL;
        let code = call!(self.ctx_get_current(&raw mut context));
        if code == code::SUCCESS { context } else { CUcontext::NULL }
    }

    /// `cuCtxPushCurrent`.
    pub(super) fn push_context(&self, context: CUcontext) -> Result<()> {
        let code = call!(self.ctx_push_current(context));
        self.check("cuCtxPushCurrent", code, About::NOTHING)
    }

    /// `cuCtxPopCurrent`.
    pub(super) fn pop_context(&self) {
        let mut popped = CUcontext::NULL;
        self.log("cuCtxPopCurrent", call!(self.ctx_pop_current(&raw mut popped)));
    }

    /// `cuCtxGetDevice`: the device of the current context.
    pub(super) fn current_device(&self) -> Result<CUdevice> {
        let mut device = 0;
        let code = call!(self.ctx_get_device(&raw mut device));
        self.check("cuCtxGetDevice", code, About::NOTHING).map(|()| device)
    }

    /// `cuMemGetInfo`: bytes free, and all bytes.
    pub(super) fn memory_info(&self) -> Result<(u64, u64)> {
        let (mut free, mut total) = (0, 0);
        let code = call!(self.mem_get_info(&raw mut free, &raw mut total));
        self.check("cuMemGetInfo", code, About::NOTHING).map(|()| (free, total))
    }

    /// `cuMemGetAllocationGranularity`.
    pub(super) fn granularity(&self, of: &CUmemAllocationProp, option: c_int) -> Result<u64> {
        let mut granularity = 0;
        let code = call!(self.mem_get_allocation_granularity(&raw mut granularity, of, option));
        self.check("cuMemGetAllocationGranularity", code, About::NOTHING).map(|()| granularity)
    }

    /// `cuMemAddressReserve`.
    pub(super) fn reserve(&self, bytes: u64, align_bytes: u64) -> Result<CUdeviceptr> {
        let mut base = 0;
        let code = call!(self.mem_address_reserve(&raw mut base, bytes, align_bytes, 0, 0));
        self.check("cuMemAddressReserve", code, About::bytes(bytes)).map(|()| base)
    }

    /// `cuMemAddressFree`.
    pub(super) fn free_addresses(&self, base: CUdeviceptr, bytes: u64) -> CUresult {
        call!(self.mem_address_free(base, bytes))
    }

    /// `cuMemCreate`.
    pub(super) fn create(&self, bytes: u64, of: &CUmemAllocationProp) -> Result<CUmemHandle> {
        let mut handle = 0;
        let code = call!(self.mem_create(&raw mut handle, bytes, of, 0));
        self.check("cuMemCreate", code, About::bytes(bytes)).map(|()| handle)
    }

    /// `cuMemRelease`.
    pub(super) fn release(&self, handle: CUmemHandle) -> CUresult {
        call!(self.mem_release(handle))
    }

    /// `cuMemMap` of the whole of a handle.
    pub(super) fn map(&self, address: CUdeviceptr, handle: CUmemHandle, about: About) -> Result<()> {
        let code = call!(self.mem_map(address, about.bytes, 0, handle, 0));
        self.check("cuMemMap", code, about)
    }

    /// `cuMemUnmap`.
    pub(super) fn unmap(&self, address: CUdeviceptr, bytes: u64) -> CUresult {
        call!(self.mem_unmap(address, bytes))
    }

    /// `cuMemSetAccess`.
    pub(super) fn set_access(
        &self,
        address: CUdeviceptr,
        access: &[CUmemAccessDesc],
        about: About,
    ) -> Result<()> {
        let code = call!(self.mem_set_access(address, about.bytes, access.as_ptr(), access.len() as u64));
        self.check("cuMemSetAccess", code, about)
    }

    /// `cuMemAlloc`.
    pub(super) fn alloc(&self, bytes: u64) -> Result<CUdeviceptr> {
        let mut address = 0;
        let code = call!(self.mem_alloc(&raw mut address, bytes));
        self.check("cuMemAlloc", code, About::bytes(bytes)).map(|()| address)
    }

    /// `cuMemFree`.
    pub(super) fn free(&self, address: CUdeviceptr) {
        self.log("cuMemFree", call!(self.mem_free(address)));
    }

    /// `cuMemHostAlloc`, for all contexts and at an address of the device, too.
    pub(super) fn host_alloc(&self, bytes: u64) -> Result<*mut c_void> {
        let mut memory = ptr::null_mut();
        let code = call!(self.mem_host_alloc(&raw mut memory, bytes, HOST_ALLOC_PORTABLE_MAPPED));
        self.check("cuMemHostAlloc", code, About::bytes(bytes)).map(|()| memory)
    }

    /// `cuMemFreeHost`.
    ///
    /// # Safety
    /// The memory came from [`Driver::host_alloc`], and nobody uses it any more: no copy either.
    pub(super) unsafe fn free_host(&self, memory: *mut c_void) {
        self.log("cuMemFreeHost", call!(self.mem_free_host(memory)));
    }

    /// `cuMemHostGetDevicePointer`.
    pub(super) fn device_address_of(&self, memory: *mut c_void) -> Result<CUdeviceptr> {
        let mut address = 0;
        let code = call!(self.mem_host_get_device_pointer(&raw mut address, memory, 0));
        self.check("cuMemHostGetDevicePointer", code, About::NOTHING).map(|()| address)
    }

    /// `cuPointerGetAttributes`: whether the driver knows an address as page-locked host memory. Of any other host memory it knows nothing, which is no error here, unlike in
    /// `cuPointerGetAttribute`.
    pub(super) fn is_pinned(&self, address: *const u8) -> bool {
        let mut kind: c_uint = 0;
        let mut places = [(&raw mut kind).cast::<c_void>()];
        let address = address.expose_provenance() as u64;
        let code = call!(self.pointer_get_attributes(
            1,
            &raw const POINTER_MEMORY_TYPE,
            places.as_mut_ptr(),
            address
        ));
        code == code::SUCCESS && kind == MEMORY_TYPE_HOST
    }

    /// `cuMemcpyHtoDAsync`.
    ///
    /// # Safety
    /// `from` is readable for `about.bytes`, and stays as it is, unfreed and unwritten, until the copy is done. (Memory that is not page-locked may be read before this returns, or may not.)
    pub(super) unsafe fn copy_in(
        &self,
        to: CUdeviceptr,
        from: *const u8,
        stream: CUstream,
        about: About,
    ) -> Result<()> {
        let code = call!(self.memcpy_htod_async(to, from.cast::<c_void>(), about.bytes, stream));
        self.check("cuMemcpyHtoDAsync", code, about)
    }

    /// Whether several copies can go in one call.
    pub(super) fn copies_together(&self) -> bool {
        self.symbols.memcpy_batch_async.is_some() || self.symbols.memcpy_batch_async_12.is_some()
    }

    /// `cuMemcpyBatchAsync`, in the form of CUDA 13 or of CUDA 12.8.
    ///
    /// # Safety
    /// As [`Driver::copy_in`], for each copy; also where this fails, since some may have been begun.
    pub(super) unsafe fn copy_in_together(&self, copies: &[Copy], stream: CUstream) -> Result<()> {
        let to: Vec<CUdeviceptr> = copies.iter().map(|copy| copy.to).collect();
        let from: Vec<CUdeviceptr> =
            copies.iter().map(|copy| copy.from.expose_provenance() as CUdeviceptr).collect();
        let sizes: Vec<CUsize> = copies.iter().map(|copy| copy.bytes as CUsize).collect();
        let anywhere = CUmemLocation { kind: 0, id: 0 };
        let attributes = CUmemcpyAttributes {
            source_access_order: COPY_IN_STREAM_ORDER,
            source_location_hint: anywhere,
            destination_location_hint: anywhere,
            flags: 0,
        };
        // The attributes are those of all copies from the first on.
        let first: CUsize = 0;
        let (count, mut failed) = (copies.len() as CUsize, CUsize::MAX);
        let (to, from, sizes) = (to.as_ptr(), from.as_ptr(), sizes.as_ptr());
        let code = match (self.symbols.memcpy_batch_async, self.symbols.memcpy_batch_async_12) {
            // SAFETY: arrays of `count` copies and one of attributes, all of them live; each copy is what the caller promises.
            (Some(call), _) => unsafe {
                call(to, from, sizes, count, &raw const attributes, &raw const first, 1, stream)
            },
            // SAFETY: as above, and a place for the number of the copy that fails.
            (None, Some(call)) => unsafe {
                call(
                    to,
                    from,
                    sizes,
                    count,
                    &raw const attributes,
                    &raw const first,
                    1,
                    &raw mut failed,
                    stream,
                )
            },
            (None, None) => {
                return Err(BackendError::NoSymbol { library: "libcuda.so.1", symbol: "cuMemcpyBatchAsync" });
            }
        };
        let bytes = copies.iter().map(|copy| copy.bytes as u64).sum();
        let about = About { offset_bytes: copies.first().map_or(0, |copy| copy.offset_bytes), bytes };
        self.check("cuMemcpyBatchAsync", code, about)
    }

    /// `cuMemcpyDtoHAsync`.
    ///
    /// # Safety
    /// `to` is writable for `about.bytes`, and nobody else uses it until the copy is done.
    pub(super) unsafe fn copy_out(
        &self,
        to: *mut u8,
        from: CUdeviceptr,
        stream: CUstream,
        about: About,
    ) -> Result<()> {
        let code = call!(self.memcpy_dtoh_async(to.cast::<c_void>(), from, about.bytes, stream));
        self.check("cuMemcpyDtoHAsync", code, about)
    }

    /// `cuMemsetD8Async`.
    pub(super) fn fill(&self, to: CUdeviceptr, value: u8, stream: CUstream, about: About) -> Result<()> {
        let code = call!(self.memset_d8_async(to, value, about.bytes, stream));
        self.check("cuMemsetD8Async", code, about)
    }

    /// `cuMemsetD16Async`.
    pub(super) fn fill_u16(&self, to: CUdeviceptr, value: u16, stream: CUstream, about: About) -> Result<()> {
        let code = call!(self.memset_d16_async(to, value, about.bytes / 2, stream));
        self.check("cuMemsetD16Async", code, about)
    }

    /// `cuMemsetD32Async`.
    pub(super) fn fill_u32(&self, to: CUdeviceptr, value: u32, stream: CUstream, about: About) -> Result<()> {
        let code = call!(self.memset_d32_async(to, value, about.bytes / 4, stream));
        self.check("cuMemsetD32Async", code, about)
    }

    /// `cuStreamCreate`, without ties to the default stream.
    pub(super) fn stream(&self) -> Result<CUstream> {
        let mut stream = CUstream::NULL;
        let code = call!(self.stream_create(&raw mut stream, STREAM_NON_BLOCKING));
        self.check("cuStreamCreate", code, About::NOTHING).map(|()| stream)
    }

    /// `cuStreamDestroy`: returns at once; what is on the stream still runs.
    pub(super) fn destroy_stream(&self, stream: CUstream) {
        self.log("cuStreamDestroy", call!(self.stream_destroy(stream)));
    }

    /// `cuStreamSynchronize`.
    pub(super) fn synchronize(&self, stream: CUstream) -> Result<()> {
        let code = call!(self.stream_synchronize(stream));
        self.check("cuStreamSynchronize", code, About::NOTHING)
    }

    /// `cuStreamWaitEvent`.
    pub(super) fn stream_wait(&self, stream: CUstream, event: CUevent) -> Result<()> {
        let code = call!(self.stream_wait_event(stream, event, 0));
        self.check("cuStreamWaitEvent", code, About::NOTHING)
    }

    /// `cuEventCreate`.
    pub(super) fn event(&self, flags: c_uint) -> Result<CUevent> {
        let mut event = CUevent::NULL;
        let code = call!(self.event_create(&raw mut event, flags));
        self.check("cuEventCreate", code, About::NOTHING).map(|()| event)
    }

    /// `cuEventDestroy`.
    pub(super) fn destroy_event(&self, event: CUevent) {
        self.log("cuEventDestroy", call!(self.event_destroy(event)));
    }

    /// `cuEventRecord`.
    pub(super) fn record(&self, event: CUevent, stream: CUstream) -> Result<()> {
        let code = call!(self.event_record(event, stream));
        self.check("cuEventRecord", code, About::NOTHING)
    }

    /// `cuEventQuery`.
    pub(super) fn is_done(&self, event: CUevent) -> Result<bool> {
        match call!(self.event_query(event)) {
            code::NOT_READY => Ok(false),
            code => self.check("cuEventQuery", code, About::NOTHING).map(|()| true),
        }
    }

    /// `cuEventSynchronize`.
    pub(super) fn wait(&self, event: CUevent) -> Result<()> {
        let code = call!(self.event_synchronize(event));
        self.check("cuEventSynchronize", code, About::NOTHING)
    }

    /// `cuEventElapsedTime`.
    pub(super) fn elapsed_ms(&self, start: CUevent, end: CUevent) -> Result<f32> {
        let mut elapsed = 0.0;
        let code = call!(self.event_elapsed_time(&raw mut elapsed, start, end));
        self.check("cuEventElapsedTime", code, About::NOTHING).map(|()| elapsed)
    }

    /// `cuModuleLoadDataEx`: the module or the code, which `module` knows how to read.
    pub(super) fn load_module(
        &self,
        image: &CStr,
        options: &mut [c_int],
        values: &mut [*mut c_void],
    ) -> std::result::Result<CUmodule, CUresult> {
        let mut module = CUmodule::NULL;
        let count = options.len().min(values.len());
        let count = c_uint::try_from(count).unwrap_or(0);
        let code = call!(self.module_load_data_ex(
            &raw mut module,
            image.as_ptr().cast::<c_void>(),
            count,
            options.as_mut_ptr(),
            values.as_mut_ptr()
        ));
        if code == code::SUCCESS { Ok(module) } else { Err(code) }
    }

    /// `cuModuleGetFunction`.
    pub(super) fn function(&self, module: CUmodule, name: &CStr) -> Result<CUfunction> {
        let mut function = CUfunction::NULL;
        let code = call!(self.module_get_function(&raw mut function, module, name.as_ptr()));
        self.check("cuModuleGetFunction", code, About::NOTHING).map(|()| function)
    }

    /// `cuModuleUnload`.
    pub(super) fn unload_module(&self, module: CUmodule) {
        self.log("cuModuleUnload", call!(self.module_unload(module)));
    }

    /// `cuLaunchKernel`.
    ///
    /// # Safety
    /// `arguments` point to as many values as the kernel has parameters, of their sizes; they are copied before this returns. What the kernel does to memory is its
    /// author's business.
    pub(super) unsafe fn launch(
        &self,
        function: CUfunction,
        (grid, block): ([u32; 3], [u32; 3]),
        shared_bytes: u32,
        stream: CUstream,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        let code = call!(self.launch_kernel(
            function,
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            shared_bytes,
            stream,
            arguments.as_mut_ptr(),
            ptr::null_mut()
        ));
        self.check("cuLaunchKernel", code, About::NOTHING)
    }
}
