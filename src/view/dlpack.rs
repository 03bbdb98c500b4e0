//! Owns tensors as other libraries of this process take them, by the structs of `DLPack` 1: what they look like, and who frees them. Who keeps the memory is the array's business.
//!
//! Python, C++ and other Rust libraries take a [`DLManagedTensorVersioned`] by address, read memory through it in place, and call its deleter when they are done: nothing is copied.
//! [`SparseArray3D::dlpack_tile`](crate::SparseArray3D::dlpack_tile) and [`dlpack_reservation`](crate::SparseArray3D::dlpack_reservation) make them.
//!
//! **Source**: `dlpack.h` 1.1 and its Python specification, <https://dmlc.github.io/dlpack/latest/>. Structs that must be laid out like that header's have its names.

use std::ffi::c_void;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use crate::backend::{Backend, CudaBackend, HostBackend};
use crate::voxel::ScalarType;

/// Version of the structs. Another major number is another layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DLPackVersion {
    /// 1.
    pub major: u32,
    /// Which numbers of types and devices may come up.
    pub minor: u32,
}

/// Where a tensor's memory is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DLDevice {
    /// [`CPU`](Self::CPU) or [`CUDA`](Self::CUDA).
    pub device_type: i32,
    /// The device's number; 0 on the host.
    pub device_id: i32,
}

impl DLDevice {
    /// `kDLCPU`.
    pub const CPU: i32 = 1;
    /// `kDLCUDA`.
    pub const CUDA: i32 = 2;
}

/// What a tensor's elements are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DLDataType {
    /// [`INT`](Self::INT), [`UINT`](Self::UINT) or [`FLOAT`](Self::FLOAT).
    pub code: u8,
    /// Bits of a number.
    pub bits: u8,
    /// Numbers in an element: 1.
    pub lanes: u16,
}

impl DLDataType {
    /// `kDLInt`.
    pub const INT: u8 = 0;
    /// `kDLUInt`.
    pub const UINT: u8 = 1;
    /// `kDLFloat`.
    pub const FLOAT: u8 = 2;

    /// Elements that are one number of that type.
    #[must_use]
    pub const fn of(scalar: ScalarType) -> Self {
        let (code, bits) = match scalar {
            ScalarType::U8 => (Self::UINT, 8),
            ScalarType::I8 => (Self::INT, 8),
            ScalarType::U16 => (Self::UINT, 16),
            ScalarType::I16 => (Self::INT, 16),
            ScalarType::U32 => (Self::UINT, 32),
            ScalarType::I32 => (Self::INT, 32),
            ScalarType::F16 => (Self::FLOAT, 16),
            ScalarType::F32 => (Self::FLOAT, 32),
            ScalarType::F64 => (Self::FLOAT, 64),
        };
        Self { code, bits, lanes: 1 }
    }
}

/// A tensor that owns nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLTensor {
    /// The first element, once `byte_offset` is added to it.
    pub data: *mut c_void,
    /// Where that is.
    pub device: DLDevice,
    /// Number of axes.
    pub ndim: i32,
    /// What the elements are.
    pub dtype: DLDataType,
    /// Elements along each axis, `ndim` of them.
    pub shape: *mut i64,
    /// Elements between neighbours along each axis, `ndim` of them.
    pub strides: *mut i64,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

/// A tensor, and how to be done with it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLManagedTensorVersioned {
    /// Which `DLPack` this is.
    pub version: DLPackVersion,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// To be called once, with the address of this struct, which is gone then.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// Bits such as [`READ_ONLY`](Self::READ_ONLY).
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

impl DLManagedTensorVersioned {
    /// The flag of tensors that are not written to.
    pub const READ_ONLY: u64 = 1;
}

// The header's sizes and places, on 64-bit targets.
const _: () = {
    assert!(size_of::<DLPackVersion>() == 8 && size_of::<DLDevice>() == 8 && size_of::<DLDataType>() == 4);
    assert!(size_of::<DLTensor>() == 48 && size_of::<DLManagedTensorVersioned>() == 80);
    assert!(std::mem::offset_of!(DLTensor, dtype) == 20 && std::mem::offset_of!(DLTensor, shape) == 24);
    assert!(std::mem::offset_of!(DLManagedTensorVersioned, flags) == 24);
    assert!(std::mem::offset_of!(DLManagedTensorVersioned, dl_tensor) == 32);
};

/// A backend whose memory `DLPack` has a word for.
pub trait DlpackBackend: Backend {
    /// Where its memory is.
    fn dlpack_device(&self) -> DLDevice;
}

impl DlpackBackend for HostBackend {
    fn dlpack_device(&self) -> DLDevice {
        DLDevice { device_type: DLDevice::CPU, device_id: 0 }
    }
}

impl DlpackBackend for CudaBackend {
    fn dlpack_device(&self) -> DLDevice {
        DLDevice { device_type: DLDevice::CUDA, device_id: self.device().ordinal() }
    }
}

/// The most axes of a tensor of this crate.
const MOST_AXES: usize = 6;

/// What a tensor is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<const AXES: usize> {
    /// Address of the first element.
    pub(crate) address: u64,
    pub(crate) device: DLDevice,
    pub(crate) scalar: ScalarType,
    /// Elements along each axis, slowest first.
    pub(crate) shape: [u64; AXES],
    /// Elements between neighbours along each axis.
    pub(crate) strides: [u64; AXES],
}

/// One allocation: what the consumer is given, what that points to, and what keeps the memory.
struct Held {
    managed: DLManagedTensorVersioned,
    shape: [i64; MOST_AXES],
    strides: [i64; MOST_AXES],
    _owner: Box<dyn Send>,
}

/// A tensor of an array's memory, which stays where it is for as long as this lives, or until whoever took it over calls its deleter.
///
/// Its axes are z, y, x, as those of `NumPy`; its flag says that it is read only.
pub struct Tensor {
    managed: NonNull<DLManagedTensorVersioned>,
}

// SAFETY: what it owns is `Send`, and its deleter may be called on any thread.
unsafe impl Send for Tensor {}
// SAFETY: by reference it only shows numbers and addresses, which do not change; what keeps the memory is not looked at.
unsafe impl Sync for Tensor {}

impl Tensor {
    /// A tensor that drops `owner` when it is deleted. That keeps the memory.
    pub(crate) fn new<const AXES: usize>(spec: Spec<AXES>, owner: Box<dyn Send>) -> Self {
        const { assert!(AXES <= MOST_AXES) };
        let signed = |from: [u64; AXES]| {
            let mut all = [0; MOST_AXES];
            for (to, from) in all.iter_mut().zip(from) {
                *to = i64::try_from(from).unwrap_or(i64::MAX); // no array has that many voxels
            }
            all
        };
        let dl_tensor = DLTensor {
            data: ptr::with_exposed_provenance_mut(usize::try_from(spec.address).unwrap_or(0)),
            device: spec.device,
            ndim: i32::try_from(AXES).unwrap_or(0),
            dtype: DLDataType::of(spec.scalar),
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        };
        let managed = DLManagedTensorVersioned {
            version: DLPackVersion { major: 1, minor: 0 },
            manager_ctx: ptr::null_mut(),
            deleter: Some(delete),
            flags: DLManagedTensorVersioned::READ_ONLY,
            dl_tensor,
        };
        let held = Held { managed, shape: signed(spec.shape), strides: signed(spec.strides), _owner: owner };
        let held = NonNull::from(Box::leak(Box::new(held)));
        let raw = held.as_ptr();
        // SAFETY: `held` was allocated in the line before and nobody else knows of it; so it is for the lines that follow.
        let shape = unsafe { &raw mut (*raw).shape };
        // SAFETY: as above.
        let strides = unsafe { &raw mut (*raw).strides };
        // SAFETY: as above.
        let managed = unsafe { &raw mut (*raw).managed };
        let finished = |mut unfinished: DLManagedTensorVersioned| {
            unfinished.manager_ctx = raw.cast();
            unfinished.dl_tensor.shape = shape.cast();
            unfinished.dl_tensor.strides = strides.cast();
            unfinished
        };
        // SAFETY: as above.
        let unfinished = unsafe { managed.read() };
        // SAFETY: as above.
        unsafe { managed.write(finished(unfinished)) };
        // SAFETY: the address of a part of an allocation.
        Self { managed: unsafe { NonNull::new_unchecked(managed) } }
    }

    /// The tensor as consumers see it. What it points to lives as long as this.
    #[must_use]
    pub fn as_raw(&self) -> NonNull<DLManagedTensorVersioned> {
        self.managed
    }

    /// Hands the tensor over, such as to a Python capsule named `dltensor_versioned`. Whoever has it calls its deleter once, on any thread, when nobody reads its memory any more; until then its memory stays.
    #[must_use = "whoever has it calls its deleter"]
    pub fn into_raw(self) -> NonNull<DLManagedTensorVersioned> {
        ManuallyDrop::new(self).managed
    }

    /// Address of the first element.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.tensor().data.expose_provenance() as u64
    }

    /// Where the memory is.
    #[must_use]
    pub fn device(&self) -> DLDevice {
        self.tensor().device
    }

    /// Elements along each axis, slowest first.
    #[must_use]
    pub fn shape(&self) -> &[i64] {
        let tensor = self.tensor();
        // SAFETY: `new` points this to as many numbers as there are axes, in the same allocation; they live as long as `self`, and nobody changes them.
        unsafe { std::slice::from_raw_parts(tensor.shape, axes(tensor)) }
    }

    /// Elements between neighbours along each axis.
    #[must_use]
    pub fn strides(&self) -> &[i64] {
        let tensor = self.tensor();
        // SAFETY: as for the shape.
        unsafe { std::slice::from_raw_parts(tensor.strides, axes(tensor)) }
    }

    fn tensor(&self) -> &DLTensor {
        // SAFETY: the allocation lives as long as `self`; it is read by reference alone.
        let managed = unsafe { self.managed.as_ref() };
        &managed.dl_tensor
    }
}

fn axes(tensor: &DLTensor) -> usize {
    usize::try_from(tensor.ndim).unwrap_or(0)
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and `into_raw` did not hand it over: nobody else deletes it.
        unsafe { delete(self.managed.as_ptr()) };
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("address", &self.address())
            .field("device", &self.device())
            .field("shape", &self.shape())
            .field("strides", &self.strides())
            .finish()
    }
}

/// The deleter.
///
/// # Safety
/// `managed` is null, or what [`Tensor::new`] made, deleted for the first time.
unsafe extern "C" fn delete(managed: *mut DLManagedTensorVersioned) {
    if managed.is_null() {
        return;
    }
    // SAFETY: the caller's promise.
    let held = unsafe { (*managed).manager_ctx };
    // SAFETY: `Tensor::new` leaked this box, and this is the first time that it comes back.
    drop(unsafe { Box::from_raw(held.cast::<Held>()) });
}

/// A whole reservation, of which tiles are resident here and there: shape and strides may be looked at, memory may not.
#[derive(Debug)]
pub struct ReservationTensor {
    tensor: Tensor,
}

impl ReservationTensor {
    pub(crate) fn new(spec: Spec<6>, owner: Box<dyn Send>) -> Self {
        Self { tensor: Tensor::new(spec, owner) }
    }

    /// Address of the first voxel of the array.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.tensor.address()
    }

    /// Tiles along z, y, x, and voxels of a tile along z, y, x.
    #[must_use]
    pub fn shape(&self) -> &[i64] {
        self.tensor.shape()
    }

    /// Voxels between neighbours along each of these axes.
    #[must_use]
    pub fn strides(&self) -> &[i64] {
        self.tensor.strides()
    }

    /// The tensor, for consumers.
    ///
    /// # Safety
    /// Whoever gets the tensor reads only elements of tiles that are resident while it reads: those that are pinned, or that were seen resident within a frame that is still open
    /// ([`SparseArray3D::pin`](crate::SparseArray3D::pin), [`View::is_readable`](crate::View::is_readable) and not uniform). Nobody copies, prints or reduces it as a whole, and
    /// nobody writes through it. Behind other tiles there may be no memory (on the host a read ends the process, on a device it ends the context), or memory that is being loaded. Nobody writes to the
    /// array meanwhile, as through a [`Writer`](crate::Writer).
    #[must_use]
    pub unsafe fn into_tensor(self) -> Tensor {
        self.tensor
    }
}
