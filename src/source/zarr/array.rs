//! Owns [`ZarrArray`], one array of a store, and [`ZarrSource`], a volume out of it. Knows nothing of images.

use std::fmt;
use std::sync::Arc;

use ::zarrs::plugin::ExtensionName;

use super::chunks::Chunks;
use super::fault::{Cause, caught};
use super::node::ArrayText;
use super::objects::Objects;
use super::reader::Reader;
use super::slice::ZarrSlice;
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::source::chunked::{Chunked, KEPT_BYTES};
use crate::source::{Dataset, TileSource};
use crate::voxel::{Scalar, ScalarType};

/// An array of a Zarr store, of any number of dimensions. Cheap to clone.
///
/// **Shape**: sizes and indices are in the array's own order of dimensions, the last of which is the fastest.
#[derive(Clone)]
pub struct ZarrArray {
    text: Arc<Text>,
    kept_bytes: u64,
}

struct Text {
    path: String,
    location: String,
    shape: Vec<u64>,
    outer: Vec<u64>,
    type_name: String,
    dimension_names: Vec<Option<String>>,
    scalar_type: Option<ScalarType>,
    /// What reads it, or why nothing can.
    chunks: Result<Arc<Chunks>, Arc<SourceError>>,
}

impl ZarrArray {
    pub(super) fn new(objects: &Arc<dyn Objects>, path: &str, text: ArrayText) -> Self {
        let ArrayText { shape, chunk: outer, type_name, dimension_names, array } = text;
        let location = objects.location(path);
        let scalar_type = array.as_ref().ok().and_then(|array| scalar_type(&array.data_type().name_v3()?));
        let chunks = array.and_then(|array| caught(|| Chunks::new(objects.clone(), location.clone(), array)));
        let chunks = match chunks {
            Ok(chunks) => Ok(Arc::new(chunks)),
            Err(cause) => Err(Arc::new(unsupported(&location, &cause))),
        };
        let text = Text {
            path: path.to_owned(),
            location,
            shape,
            outer,
            type_name,
            dimension_names,
            scalar_type,
            chunks,
        };
        Self { text: Arc::new(text), kept_bytes: KEPT_BYTES }
    }

    /// Its place in the store, such as `sub/s0`; empty where the store is an array itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text.path
    }

    /// Size along each dimension.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.text.shape
    }

    /// Shape of what is decoded at once: of a chunk, or in a shard of an inner chunk. Empty where the array cannot be read.
    #[must_use]
    pub fn chunk_shape(&self) -> Vec<u64> {
        self.text.chunks.as_ref().map_or(Vec::new(), |c| c.shape().iter().map(|side| side.get()).collect())
    }

    /// Shape of the shards, where chunks lie in shards.
    #[must_use]
    pub fn shard_shape(&self) -> Option<&[u64]> {
        self.text.chunks.as_ref().ok().filter(|chunks| chunks.are_inner()).map(|_| self.text.outer.as_slice())
    }

    /// The type of its voxels, as the metadata names it: `<i2` in version 2 of the format, `int16` in version 3.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.text.type_name
    }

    /// The type of its voxels, if it is one of ours.
    #[must_use]
    pub fn scalar_type(&self) -> Option<ScalarType> {
        self.text.scalar_type
    }

    /// Names of the dimensions, as far as the metadata has some.
    #[must_use]
    pub fn dimension_names(&self) -> &[Option<String>] {
        &self.text.dimension_names
    }

    /// What voxels hold that are not stored. `None` where the array cannot be read.
    #[must_use]
    pub fn fill_value(&self) -> Option<f64> {
        macro_rules! fill {
            ($($kind:ident($t:ty)),*) => {
                match self.text.scalar_type? {
                    $(ScalarType::$kind => self.fill_as::<$t>(),)*
                    #[cfg(feature = "f16")]
                    ScalarType::F16 => self.fill_as::<half::f16>(),
                    #[cfg(not(feature = "f16"))]
                    ScalarType::F16 => None,
                }
            };
        }
        fill!(U8(u8), I8(i8), U16(u16), I16(i16), U32(u32), I32(i32), F32(f32), F64(f64))
    }

    fn fill_as<T: Scalar>(&self) -> Option<f64> {
        let chunks = self.text.chunks.as_ref().ok()?;
        bytemuck::try_pod_read_unaligned(chunks.array().fill_value().as_ne_bytes()).ok().map(T::to_f64)
    }

    /// Sets how many bytes of decoded chunks each source keeps for other tiles that need a part of them. Default: 256 MiB; one chunk is kept however large it is. Chunks that lie within one tile are not kept.
    #[must_use]
    pub fn with_kept_bytes(mut self, bytes: u64) -> Self {
        self.kept_bytes = bytes;
        self
    }

    /// A volume out of the array, of whatever type it holds.
    ///
    /// # Errors
    /// * [`SourceError::Unsupported`]: a type, codec, chunk grid or extension that is not read; chunks of more than 1 GiB; a slice along dimensions that the array does not have.
    /// * [`SourceError::NoSuch`]: a place beyond the size of a dimension.
    /// * [`SourceError::Shape`]: an array without voxels, or of more than 64 bits can count.
    pub fn dataset(&self, slice: &ZarrSlice) -> Result<Dataset, SourceError> {
        macro_rules! dataset {
            ($kind:expr; $($name:ident($t:ty)),*) => {
                match $kind {
                    $(Some(ScalarType::$name) => Dataset::$name(Box::new(self.source::<$t>(slice)?)),)*
                    #[cfg(feature = "f16")]
                    Some(ScalarType::F16) => Dataset::F16(Box::new(self.source::<half::f16>(slice)?)),
                    _ => return Err(self.no_such_type()),
                }
            };
        }
        self.chunks()?;
        Ok(
            dataset!(self.text.scalar_type; U8(u8), I8(i8), U16(u16), I16(i16), U32(u32), I32(i32), F32(f32), F64(f64)),
        )
    }

    /// A volume out of the array, which holds voxels of type `T`.
    ///
    /// # Errors
    /// As [`ZarrArray::dataset`], and [`SourceError::VoxelType`] where it holds others.
    pub fn source<T: Scalar>(&self, slice: &ZarrSlice) -> Result<ZarrSource<T>, SourceError> {
        let chunks = self.chunks()?;
        let Some(found) = self.text.scalar_type else { return Err(self.no_such_type()) };
        if found != T::TYPE {
            return Err(SourceError::VoxelType {
                path: self.text.location.clone().into(),
                found,
                wanted: T::TYPE,
            });
        }
        let chunked = Chunked::new(Reader::new(chunks.clone(), slice)?)?;
        Ok(ZarrSource { chunked: chunked.with_kept_bytes(self.kept_bytes) })
    }

    fn chunks(&self) -> Result<&Arc<Chunks>, SourceError> {
        self.text.chunks.as_ref().map_err(|reason| SourceError::Shared(reason.clone()))
    }

    fn no_such_type(&self) -> SourceError {
        SourceError::Unsupported {
            location: self.text.location.clone(),
            what: "the data type",
            value: self.text.type_name.clone(),
        }
    }
}

/// Which of our types a type of the format is.
fn scalar_type(name: &str) -> Option<ScalarType> {
    Some(match name {
        "uint8" => ScalarType::U8,
        "int8" => ScalarType::I8,
        "uint16" => ScalarType::U16,
        "int16" => ScalarType::I16,
        "uint32" => ScalarType::U32,
        "int32" => ScalarType::I32,
        "float16" => ScalarType::F16,
        "float32" => ScalarType::F32,
        "float64" => ScalarType::F64,
        _ => return None,
    })
}

fn unsupported(location: &str, cause: &Cause) -> SourceError {
    SourceError::Unsupported { location: location.to_owned(), what: "the array", value: cause.to_string() }
}

impl fmt::Debug for ZarrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZarrArray")
            .field("path", &self.text.path)
            .field("shape", &self.text.shape)
            .field("chunk", &self.chunk_shape())
            .field("shard", &self.shard_shape())
            .field("type", &self.text.type_name)
            .field("unreadable", &self.text.chunks.as_ref().err().map(ToString::to_string))
            .finish_non_exhaustive()
    }
}

/// A volume out of a Zarr array.
///
/// **Cost**: a tile that is exactly one chunk is decoded straight into place; without codecs it is read there. Other tiles share the chunks beside them, each of which is decoded once and kept
/// ([`ZarrArray::with_kept_bytes`]). Chunks that are not stored are not read, and tiles of none but those are uniform; in a folder that takes a look at each file, in other stores it is known of shards alone,
/// once one of their chunks has been read. Any number of threads may read at once; a decode uses one.
pub struct ZarrSource<T: Scalar> {
    chunked: Chunked<T, Reader<T>>,
}

impl<T: Scalar> TileSource<T> for ZarrSource<T> {
    fn extent(&self) -> Extent {
        self.chunked.extent()
    }

    fn fill_value(&self) -> T {
        self.chunked.fill_value()
    }

    fn uniform(&self, region: Region) -> Option<T> {
        self.chunked.uniform(region)
    }

    fn will_read(&self, regions: &[Region]) {
        self.chunked.will_read(regions);
    }

    fn chunk(&self) -> Option<Extent> {
        self.chunked.chunk()
    }

    fn kept_bytes(&self) -> u64 {
        self.chunked.kept_bytes()
    }

    fn keep_at_most(&self, bytes: u64) {
        self.chunked.keep_at_most(bytes);
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        self.chunked.read(region, out)
    }
}

impl<T: Scalar> fmt::Debug for ZarrSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ZarrSource").field(self.chunked.reader()).finish()
    }
}
