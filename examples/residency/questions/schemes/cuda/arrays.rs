//! Owns what the driver gives for textures: [`Array3D`], an array and the texture of all of it, and [`Block`], physical memory that a sparse one has under some of it.
#![allow(unsafe_code, reason = "calls the driver with structures of its own")]

use vastgrid::cuda::{Device, Stream};

use super::driver::{
    AllocationProperties, ArrayDescriptor, ArrayMapInfo, Copy3D, CopyEnd, Current, Driver, RawArray,
    ResourceDescriptor, SparseProperties, TextureDescriptor,
};
use crate::suite::Failure;

/// Bytes of a voxel.
const VOXEL: usize = size_of::<u16>();
/// `CU_AD_FORMAT_UNSIGNED_INT16`.
const FORMAT_U16: u32 = 2;
/// `CUDA_ARRAY3D_SPARSE`.
const SPARSE: u32 = 0x40;
/// `CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED`.
const ATTRIBUTE_SPARSE: i32 = 112;
/// `CU_TR_ADDRESS_MODE_CLAMP`.
const CLAMP: u32 = 1;
/// `CU_TR_FILTER_MODE_LINEAR`.
const LINEAR: u32 = 1;
/// `CU_MEM_CREATE_USAGE_TILE_POOL`.
const USAGE_TILE_POOL: u16 = 1;
/// `CU_MEM_OPERATION_TYPE_MAP` and `..._UNMAP`.
const MAP: u32 = 1;
const UNMAP: u32 = 2;

/// Where voxels to be copied are, row after row without gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyFrom<'a> {
    Host(&'a [u8]),
    /// An address of the device.
    Device(u64),
}

/// Where they are copied to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyTo<'a> {
    Array(&'a Array3D),
    /// The address of an array in rows of so many voxels, and so many rows a plane.
    Rows(u64, [u32; 2]),
}

/// Begins to copy a box of voxels.
///
/// The caller keeps both ends as they are until the stream has come so far.
pub(crate) fn begin_copy(
    stream: &Stream,
    (to, at): (CopyTo<'_>, [u32; 3]),
    from: CopyFrom<'_>,
    size: [u32; 3],
) -> Result<(), Failure> {
    let driver = Driver::get()?;
    let _current = Current::enter(stream.device())?;
    let [wide, high, deep] = size.map(|voxels| voxels as usize);
    let from = match from {
        CopyFrom::Host(bytes) if bytes.len() < wide * high * deep * VOXEL => {
            return Err(format!("{} bytes are no box of {size:?} voxels", bytes.len()).into());
        }
        CopyFrom::Host(bytes) => CopyEnd::host(bytes.as_ptr(), wide * VOXEL, high),
        CopyFrom::Device(address) => CopyEnd::device(address, wide * VOXEL, high),
    };
    let to = match to {
        CopyTo::Array(array) => CopyEnd::array(array.raw, at, VOXEL),
        CopyTo::Rows(address, [row, rows]) => CopyEnd {
            x_bytes: at[0] as usize * VOXEL,
            y: at[1] as usize,
            z: at[2] as usize,
            ..CopyEnd::device(address, row as usize * VOXEL, rows as usize)
        },
    };
    let copy = Copy3D { from, to, row_bytes: wide * VOXEL, rows: high, planes: deep };
    let about = format_args!("{size:?} voxels to {at:?}");
    driver.call("cuMemcpy3DAsync", driver.symbols.copy_3d, about, |function| {
        // SAFETY: a description of two ends, each inside what it names as far as the driver does not check that itself; the caller keeps both.
        unsafe { function(&raw const copy, stream.as_raw()) }
    })
}

/// A part of a sparse array that gets memory, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) at: [u32; 3],
    pub(crate) size: [u32; 3],
    pub(crate) memory: Option<&'a Block>,
}

/// A three-dimensional array of 16 bits a voxel, and its texture: filtered, from 0 to 1, clamped at the faces.
#[derive(Debug)]
pub(crate) struct Array3D {
    device: Device,
    driver: &'static Driver,
    raw: RawArray,
    texture: u64,
}

impl Array3D {
    /// One with memory under all of it, or, where it is sparse, under nothing.
    pub(crate) fn new(device: &Device, size: [u32; 3], sparse: bool) -> Result<Self, Failure> {
        let driver = Driver::get()?;
        if sparse && driver.attribute(device, ATTRIBUTE_SPARSE) == 0 {
            return Err(format!("{device} has no sparse arrays").into());
        }
        let _current = Current::enter(device)?;
        let flags = if sparse { SPARSE } else { 0 };
        let descriptor =
            ArrayDescriptor { size: size.map(|side| side as usize), format: FORMAT_U16, channels: 1, flags };
        let mut raw: RawArray = std::ptr::null_mut();
        let about = format_args!("{size:?} voxels, flags {flags:#x}");
        driver.call("cuArray3DCreate", driver.symbols.array_create, about, |function| {
            // SAFETY: a place for one handle, and a description that is read before this returns.
            unsafe { function(&raw mut raw, &raw const descriptor) }
        })?;
        let mut array = Self { device: device.clone(), driver, raw, texture: 0 };
        let resource = ResourceDescriptor { kind: 0, array: raw, reserved: [0; 15], flags: 0 };
        let how = TextureDescriptor { address_modes: [CLAMP; 3], filter_mode: LINEAR, ..Default::default() };
        driver.call("cuTexObjectCreate", driver.symbols.texture_create, about, |function| {
            // SAFETY: a place for one handle, and two descriptions that are read before this returns; the array outlives the texture.
            unsafe { function(&raw mut array.texture, &raw const resource, &raw const how, std::ptr::null()) }
        })?;
        Ok(array)
    }

    /// The texture, for kernels.
    pub(crate) fn texture(&self) -> u64 {
        self.texture
    }

    /// Of a sparse one: what the driver calls a tile, in voxels, and the rest.
    pub(crate) fn sparse_properties(&self) -> Result<SparseProperties, Failure> {
        let _current = Current::enter(&self.device)?;
        let mut found = SparseProperties::default();
        let symbol = self.driver.symbols.array_sparse_properties;
        self.driver.call("cuArrayGetSparseProperties", symbol, "an array", |function| {
            // SAFETY: a place for the answer, and a live array.
            unsafe { function(&raw mut found, self.raw) }
        })?;
        Ok(found)
    }

    /// Begins to put memory under parts of a sparse one, or to take it away, all in one call. The caller keeps the memory until the stream has come so far.
    pub(crate) fn begin_map(&self, stream: &Stream, parts: &[Part<'_>]) -> Result<(), Failure> {
        let _current = Current::enter(&self.device)?;
        let mut infos: Vec<_> = parts.iter().map(|part| self.info(part)).collect();
        let count = u32::try_from(infos.len())?;
        let first = parts.first().map(|part| (part.at, part.size, part.memory.is_some()));
        let about = format_args!("{count} parts, the first {first:?} (at, size, mapped)");
        self.driver.call("cuMemMapArrayAsync", self.driver.symbols.map_array, about, |function| {
            // SAFETY: so many descriptions, of parts of a live array and of live memory, which the caller keeps.
            unsafe { function(infos.as_mut_ptr(), count, stream.as_raw()) }
        })
    }

    fn info(&self, part: &Part<'_>) -> ArrayMapInfo {
        ArrayMapInfo {
            resource_kind: 0,
            array: self.raw,
            subresource_kind: 0,
            pad: 0,
            level: 0,
            layer: 0,
            offset: part.at,
            extent: part.size,
            operation: if part.memory.is_some() { MAP } else { UNMAP },
            handle_kind: 0,
            handle: part.memory.map_or(0, |memory| memory.raw),
            offset_bytes: 0,
            devices: 1 << self.device.ordinal(),
            flags: 0,
            reserved: [0; 2],
        }
    }
}

impl Drop for Array3D {
    /// Nothing on the device may use it any more, and a sparse one has no memory under it.
    fn drop(&mut self) {
        let Ok(_current) = Current::enter(&self.device) else { return };
        let symbols = &self.driver.symbols;
        if self.texture != 0 {
            let _ =
                self.driver.call("cuTexObjectDestroy", symbols.texture_destroy, "a texture", |function| {
                    // SAFETY: ours, and nobody else's.
                    unsafe { function(self.texture) }
                });
        }
        let _ = self.driver.call("cuArrayDestroy", symbols.array_destroy, "an array", |function| {
            // SAFETY: as above.
            unsafe { function(self.raw) }
        });
    }
}

/// Physical memory of the device that parts of sparse arrays can get.
#[derive(Debug)]
pub(crate) struct Block {
    device: Device,
    driver: &'static Driver,
    raw: u64,
}

impl Block {
    /// As many bytes, which the device's granularity divides.
    pub(crate) fn new(device: &Device, bytes: u64) -> Result<Self, Failure> {
        let driver = Driver::get()?;
        let _current = Current::enter(device)?;
        let properties = AllocationProperties {
            kind: 1,
            handle_types: 0,
            location_kind: 1,
            location: device.ordinal(),
            win32: 0,
            compression: 0,
            rdma: 0,
            usage: USAGE_TILE_POOL,
            reserved: [0; 4],
        };
        let mut granularity = 0;
        let symbol = driver.symbols.granularity;
        driver.call("cuMemGetAllocationGranularity", symbol, "a tile pool", |function| {
            // SAFETY: a place for a size, and a description that is read before this returns.
            unsafe { function(&raw mut granularity, &raw const properties, 0) }
        })?;
        let size = usize::try_from(bytes)?;
        if granularity == 0 || size % granularity != 0 {
            return Err(format!(
                "memory for tiles comes in {granularity} bytes, which do not divide {bytes}"
            )
            .into());
        }
        let mut raw = 0;
        let about = format_args!("{bytes} bytes for a tile pool");
        driver.call("cuMemCreate", driver.symbols.mem_create, about, |function| {
            // SAFETY: as above.
            unsafe { function(&raw mut raw, size, &raw const properties, 0) }
        })?;
        Ok(Self { device: device.clone(), driver, raw })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Ok(_current) = Current::enter(&self.device) else { return };
        let _ = self.driver.call("cuMemRelease", self.driver.symbols.mem_release, "a block", |function| {
            // SAFETY: ours; where it is still under an array it lives until that is gone.
            unsafe { function(self.raw) }
        });
    }
}
