//! Owns [`ArrayForm`]: the metadata of a Zarr v3 array, and the codecs that follow from it. Knows nothing of where chunks are put.
//!
//! **Source**: the Zarr v3 core specification, and its codecs `bytes`, `zstd`, `gzip`, `blosc`, `crc32c` and `sharding_indexed`, <https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html>.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::{Value, json};
use zarrs::array::{
    Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits, CodecChain, CodecError, CodecOptions,
    DataType, FillValue, data_type,
};
use zarrs::storage::store::MemoryStore;

use super::options::{Shuffle, ZarrCodec};
use crate::error::StoreError;
use crate::voxel::{Scalar, ScalarType};

/// Bytes of a shard's index for each chunk: where it begins, and how long it is.
const ENTRY_BYTES: usize = 16;

/// Bytes of the index' own checksum.
const CHECKSUM_BYTES: usize = 4;

/// What an array is, axes slowest first.
#[derive(Debug)]
pub(super) struct ArraySpec {
    pub(super) shape: Vec<u64>,
    pub(super) chunk: Vec<u64>,
    /// `None`: each chunk is an object.
    pub(super) shard: Option<Vec<u64>>,
    pub(super) scalar: ScalarType,
    pub(super) fill: Value,
    pub(super) codec: ZarrCodec,
    pub(super) axes: Vec<&'static str>,
    pub(super) attributes: Value,
}

/// An array that a Zarr library has agreed to.
#[derive(Debug)]
pub(super) struct ArrayForm {
    metadata: Value,
    inner: CodecChain,
    /// The level, where Zstandard is all that is done to voxels in this machine's byte order.
    zstd: Option<i32>,
    index: CodecChain,
    chunk: Vec<NonZeroU64>,
    /// Shape of a shard's index.
    index_shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill: FillValue,
    options: CodecOptions,
}

impl ArrayForm {
    /// # Errors
    /// [`StoreError::Metadata`], under the name `location`.
    pub(super) fn new(spec: &ArraySpec, location: &str) -> Result<Self, StoreError> {
        let refused = |source| StoreError::Metadata { location: location.to_owned(), source };
        let inner = inner_codecs(spec);
        let index = json!([bytes_codec(8), { "name": "crc32c" }]);
        let (grid, codecs) = match &spec.shard {
            None => (&spec.chunk, inner.clone()),
            Some(shard) => {
                let sharding = json!({ "name": "sharding_indexed", "configuration": {
                    "chunk_shape": spec.chunk,
                    "codecs": inner,
                    "index_codecs": index,
                    "index_location": "end",
                }});
                (shard, json!([sharding]))
            }
        };
        let mut metadata = json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": spec.shape,
            "data_type": data_type_name(spec.scalar),
            "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": grid } },
            "chunk_key_encoding": { "name": "default", "configuration": { "separator": "/" } },
            "fill_value": spec.fill,
            "codecs": codecs,
            "dimension_names": spec.axes,
        });
        if spec.attributes.as_object().is_some_and(|attributes| !attributes.is_empty()) {
            metadata["attributes"] = spec.attributes.clone();
        }
        let parsed: ArrayMetadata =
            serde_json::from_value(metadata.clone()).map_err(|e| refused(e.into()))?;
        let array = Array::new_with_metadata(Arc::new(MemoryStore::new()), "/", parsed);
        let array = array.map_err(|e| refused(e.into()))?;
        let chain = |codecs: Value| -> Result<CodecChain, Box<dyn std::error::Error + Send + Sync>> {
            let metadata: Vec<_> = serde_json::from_value(codecs)?;
            Ok(CodecChain::from_metadata(&metadata)?)
        };
        let sides = |sides: &[u64]| -> Vec<_> { sides.iter().filter_map(|&s| NonZeroU64::new(s)).collect() };
        let per_shard = spec.shard.as_ref().unwrap_or(&spec.chunk).iter().zip(&spec.chunk);
        let per_shard: Vec<u64> = per_shard.map(|(shard, chunk)| shard / chunk).chain([2]).collect();
        Ok(Self {
            inner: chain(inner).map_err(refused)?,
            zstd: match spec.codec {
                ZarrCodec::Zstd { level } => Some(level),
                _ => None,
            },
            index: chain(index).map_err(refused)?,
            chunk: sides(&spec.chunk),
            index_shape: sides(&per_shard),
            data_type: array.data_type().clone(),
            fill: array.fill_value().clone(),
            // Whoever writes has threads of its own.
            options: CodecOptions::default().with_concurrent_target(1),
            metadata,
        })
    }

    /// What goes into `zarr.json`.
    pub(super) fn metadata(&self) -> Vec<u8> {
        pretty(&self.metadata)
    }

    /// Encodes the voxels of one whole chunk, in this machine's byte order, for `then`.
    pub(super) fn encode<R>(&self, voxels: &[u8], then: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
        if let Some(level) = self.zstd
            && cfg!(target_endian = "little")
        {
            return Ok(compressed(level, voxels, then)?);
        }
        let bytes = ArrayBytes::new_flen(voxels);
        let encoded = self.inner.encode(bytes, &self.chunk, &self.data_type, &self.fill, &self.options)?;
        Ok(then(&encoded))
    }

    /// Undoes [`ArrayForm::encode`].
    pub(super) fn decode(&self, encoded: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        let decoded =
            self.inner.decode(encoded.into(), &self.chunk, &self.data_type, &self.fill, &self.options)?;
        Ok(decoded.into_fixed()?.into_owned())
    }

    /// Length of a shard's index in the object, which ends with it.
    pub(super) fn index_bytes(&self) -> usize {
        self.chunks_per_shard() * ENTRY_BYTES + CHECKSUM_BYTES
    }

    /// Encodes a shard's index.
    pub(super) fn encode_index(&self, index: &[[u64; 2]]) -> Result<Vec<u8>, CodecError> {
        let bytes = ArrayBytes::new_flen(bytemuck::cast_slice::<_, u8>(index));
        let fill = FillValue::from(u64::MAX);
        let encoded =
            self.index.encode(bytes, &self.index_shape, &data_type::uint64(), &fill, &self.options)?;
        Ok(encoded.into_owned())
    }

    /// Undoes [`ArrayForm::encode_index`], and checks that it is whole.
    pub(super) fn decode_index(&self, encoded: Vec<u8>) -> Result<Vec<[u64; 2]>, CodecError> {
        let fill = FillValue::from(u64::MAX);
        let decoded = self.index.decode(
            encoded.into(),
            &self.index_shape,
            &data_type::uint64(),
            &fill,
            &self.options,
        )?;
        let bytes = decoded.into_fixed()?;
        let word = |at: &[u8; 8]| u64::from_ne_bytes(*at);
        Ok(bytes.as_chunks::<8>().0.as_chunks::<2>().0.iter().map(|[a, b]| [word(a), word(b)]).collect())
    }

    pub(super) fn chunks_per_shard(&self) -> usize {
        self.index_shape[..self.index_shape.len() - 1]
            .iter()
            .map(|side| usize::try_from(side.get()).unwrap_or(usize::MAX))
            .product()
    }
}

/// JSON for people, with a newline at its end.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}

/// Buffers beyond this go after use, so that one large chunk does not keep memory for good.
const KEPT_BYTES: usize = 64 << 20;

thread_local! {
    static ZSTD: RefCell<Option<Zstd>> = const { RefCell::new(None) };
}

/// A compressor and what it compresses into. Each works in memory of its own, a megabyte and more, which it would be given anew, page by page, for every chunk.
struct Zstd {
    level: i32,
    compressor: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
}

impl Zstd {
    fn new(level: i32) -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        compressor.include_checksum(true)?;
        Ok(Self { level, compressor, out: Vec::new() })
    }
}

/// Has `then` use what the codec `zstd` makes of the bytes, with a checksum.
///
/// **Cost**: no allocation where this thread has compressed as much before, up to 64 MiB.
fn compressed<R>(level: i32, bytes: &[u8], then: impl FnOnce(&[u8]) -> R) -> std::io::Result<R> {
    // Out of reach meanwhile, so that `then` may compress, too.
    let kept = ZSTD.take().filter(|kept| kept.level == level);
    let mut kept = kept.map_or_else(|| Zstd::new(level), Ok)?;
    kept.out.clear();
    kept.out.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
    kept.compressor.compress_to_buffer(bytes, &mut kept.out)?;
    let done = then(&kept.out);
    if kept.out.capacity() <= KEPT_BYTES {
        ZSTD.set(Some(kept));
    }
    Ok(done)
}

fn bytes_codec(voxel_bytes: usize) -> Value {
    if voxel_bytes == 1 {
        json!({ "name": "bytes" })
    } else {
        json!({ "name": "bytes", "configuration": { "endian": "little" } })
    }
}

fn inner_codecs(spec: &ArraySpec) -> Value {
    let voxel_bytes = spec.scalar.bytes();
    let bytes = bytes_codec(voxel_bytes);
    match spec.codec {
        ZarrCodec::None => json!([bytes]),
        ZarrCodec::Zstd { level } => {
            json!([bytes, { "name": "zstd", "configuration": { "level": level, "checksum": true } }])
        }
        ZarrCodec::Gzip { level } => json!([bytes, { "name": "gzip", "configuration": { "level": level } }]),
        ZarrCodec::Blosc { level, shuffle } => {
            let shuffle = match shuffle {
                Shuffle::None => "noshuffle",
                Shuffle::Bytes => "shuffle",
                Shuffle::Bits => "bitshuffle",
            };
            json!([bytes, { "name": "blosc", "configuration": {
                "cname": "zstd", "clevel": level, "shuffle": shuffle, "typesize": voxel_bytes, "blocksize": 0,
            }}])
        }
    }
}

fn data_type_name(scalar: ScalarType) -> &'static str {
    match scalar {
        ScalarType::U8 => "uint8",
        ScalarType::I8 => "int8",
        ScalarType::U16 => "uint16",
        ScalarType::I16 => "int16",
        ScalarType::U32 => "uint32",
        ScalarType::I32 => "int32",
        ScalarType::F16 => "float16",
        ScalarType::F32 => "float32",
        ScalarType::F64 => "float64",
    }
}

/// A value as the format has it in `fill_value`: exact, to the last bit of a NaN.
pub(super) fn fill_value<T: Scalar>(value: T) -> Value {
    let number = value.to_f64();
    match T::TYPE {
        ScalarType::F16 | ScalarType::F32 | ScalarType::F64 if number.is_nan() => {
            let mut bytes = bytemuck::bytes_of(&value).to_vec();
            if cfg!(target_endian = "little") {
                bytes.reverse();
            }
            let digits = bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
            match digits.as_str() {
                "7e00" | "7fc00000" | "7ff8000000000000" => json!("NaN"),
                other => json!(format!("0x{other}")),
            }
        }
        ScalarType::F16 | ScalarType::F32 | ScalarType::F64 if number.is_infinite() => {
            json!(if number > 0.0 { "Infinity" } else { "-Infinity" })
        }
        ScalarType::F16 | ScalarType::F32 | ScalarType::F64 => json!(number),
        // Whole numbers of up to 32 bits are exact in doubles.
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 32 bits")]
        _ => json!(number as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_values_are_exact() {
        assert_eq!(fill_value(-5i16), json!(-5));
        assert_eq!(fill_value(u32::MAX), json!(u32::MAX));
        assert_eq!(fill_value(0.1f64), json!(0.1));
        assert_eq!(fill_value(f32::NAN), json!("NaN"));
        assert_eq!(fill_value(f32::from_bits(0xffc1_2345)), json!("0xffc12345"));
        assert_eq!(fill_value(half::f16::NEG_INFINITY), json!("-Infinity"));
        for (value, scalar) in [
            (fill_value(f32::from_bits(0x7fa0_0001)), ScalarType::F32),
            (fill_value(f64::NAN), ScalarType::F64),
            (fill_value(-0.0f64), ScalarType::F64),
            (fill_value(half::f16::from_f32(0.1)), ScalarType::F16),
        ] {
            let form = ArrayForm::new(&spec(scalar, value.clone(), ZarrCodec::None, None), "a").unwrap();
            let expected: &[u8] = match scalar {
                ScalarType::F32 => &0x7fa0_0001_u32.to_ne_bytes(),
                ScalarType::F16 => &half::f16::from_f32(0.1).to_ne_bytes(),
                _ if value == json!("NaN") => &f64::NAN.to_ne_bytes(),
                _ => &(-0.0f64).to_ne_bytes(),
            };
            assert_eq!(form.fill.as_ne_bytes(), expected, "{value}");
        }
    }

    fn spec(scalar: ScalarType, fill: Value, codec: ZarrCodec, shard: Option<Vec<u64>>) -> ArraySpec {
        let (shape, chunk, axes) = (vec![9, 9, 9], vec![2, 3, 4], vec!["z", "y", "x"]);
        ArraySpec { shape, chunk, shard, scalar, fill, codec, axes, attributes: json!({}) }
    }

    #[test]
    fn chunks_and_indices_come_back_and_damage_to_an_index_is_seen() {
        for codec in [
            ZarrCodec::None,
            ZarrCodec::default(),
            ZarrCodec::Gzip { level: 4 },
            ZarrCodec::Blosc { level: 5, shuffle: Shuffle::Bits },
        ] {
            let form =
                ArrayForm::new(&spec(ScalarType::U16, json!(0), codec, Some(vec![4, 6, 4])), "a").unwrap();
            let voxels: Vec<u16> = (0..24).collect();
            let encoded = form.encode(bytemuck::cast_slice(&voxels), <[u8]>::to_vec).unwrap();
            assert_eq!(form.decode(encoded).unwrap(), bytemuck::cast_slice::<_, u8>(&voxels), "{codec:?}");
            assert_eq!(form.chunks_per_shard(), 4);
            let index = vec![[0, 5], [u64::MAX; 2], [5, 9], [14, 1]];
            let mut encoded = form.encode_index(&index).unwrap();
            assert_eq!(encoded.len(), form.index_bytes());
            assert_eq!(form.decode_index(encoded.clone()).unwrap(), index);
            encoded[17] ^= 1;
            assert!(form.decode_index(encoded).is_err());
        }
    }

    #[test]
    fn what_the_library_refuses_is_an_error() {
        let error =
            ArrayForm::new(&spec(ScalarType::U8, json!("no"), ZarrCodec::None, None), "a").unwrap_err();
        assert!(matches!(&error, StoreError::Metadata { location, .. } if location == "a"), "{error}");
    }
}
