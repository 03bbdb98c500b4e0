//! Owns [`Pipeline`]: the codecs of an array, applied to one chunk, into memory that is there already and never beyond what the chunk's shape says. Knows nothing of stores.
//!
//! ```text
//! bytes of an object --> bytes-to-bytes codecs, last first --> voxels as stored --> voxels
//!                        zstd, gzip, zlib, bz2: ours, bounded  bytes, transpose: read in place
//!                        all others: zarrs                     all others: zarrs
//! ```
//!
//! `zarrs` decodes a stream to whatever it holds, and gives a zstd chunk as much memory as its header asks for. A few flipped bits would end the process.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::sync::Arc;

use ::zarrs::array::codec::{
    BloscCodec, BytesCodec, Bz2Codec, GzipCodec, TransposeCodec, ZlibCodec, ZstdCodec,
};
use ::zarrs::array::{
    ArrayToArrayCodecTraits, ArrayToBytesCodecTraits, BytesRepresentation, BytesToBytesCodecTraits,
    CodecChain, CodecMetadataOptions, CodecOptions, DataType, FillValue,
};
use ::zarrs::plugin::ExtensionName;

use super::fault::{Cause, Fault};

/// What codecs may add to incompressible bytes, in whatever version.
const SLACK_BYTES: u64 = 1 << 16;

thread_local! {
    /// Making one costs more than decoding a small chunk.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The codecs of the chunks of an array.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Bytes-to-bytes codecs, in the order of decoding.
    steps: Vec<Step>,
    /// Whether what comes out of the last step are the voxels, in the order of `strides`.
    plain: bool,
    /// The other codecs.
    rest: CodecChain,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill: FillValue,
    bytes: u64,
    most_encoded_bytes: u64,
    /// Whether the bytes of each voxel come out in the other order.
    pub(super) swapped: bool,
    /// Voxels between neighbours along each dimension of a decoded chunk.
    pub(super) strides: Vec<u64>,
}

/// One bytes-to-bytes codec, and what it decodes to.
#[derive(Debug)]
struct Step {
    codec: Kind,
    decoded: BytesRepresentation,
    most_bytes: u64,
}

#[derive(Debug)]
enum Kind {
    Zstd,
    Gzip,
    Zlib,
    Bz2,
    Other(Arc<dyn BytesToBytesCodecTraits>),
}

fn options() -> CodecOptions {
    // Others decode other chunks meanwhile.
    CodecOptions::default().with_concurrent_target(1)
}

impl Pipeline {
    /// For chunks of that shape. `zarrs` may panic in here.
    pub(super) fn new(
        chain: &CodecChain,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
    ) -> Result<Self, Cause> {
        let (mut stored, mut stored_type, mut stored_fill) =
            (shape.to_vec(), data_type.clone(), fill.clone());
        for codec in chain.array_to_array_codecs() {
            (stored, stored_type, stored_fill) =
                codec.encoded_representation(&stored, &stored_type, &stored_fill)?;
        }
        let to_bytes = chain.array_to_bytes_codec();
        let mut encoded = to_bytes.encoded_representation(&stored, &stored_type, &stored_fill)?;
        let mut steps = Vec::new();
        for codec in chain.bytes_to_bytes_codecs() {
            steps.push(Step { codec: Kind::of(codec), decoded: encoded, most_bytes: most_bytes(encoded) });
            encoded = codec.encoded_representation(&encoded);
        }
        steps.reverse();
        let voxel_bytes = data_type.fixed_size().ok_or(Fault::Nothing("fixed size of voxels"))?;
        let voxels = shape.iter().try_fold(1u64, |all, side| all.checked_mul(side.get()));
        let bytes = voxels
            .and_then(|voxels| voxels.checked_mul(voxel_bytes as u64))
            .ok_or(Fault::Nothing("chunk of so many voxels"))?;
        let swapped = bytes_swapped(to_bytes, voxel_bytes);
        let strides = plain_strides(chain.array_to_array_codecs(), shape);
        let plain = swapped.is_some() && strides.is_some();
        Ok(Self {
            steps,
            plain,
            rest: CodecChain::new(chain.array_to_array_codecs().to_vec(), to_bytes.clone(), Vec::new()),
            shape: shape.to_vec(),
            data_type: data_type.clone(),
            fill: fill.clone(),
            bytes,
            most_encoded_bytes: most_bytes(encoded),
            swapped: plain && swapped == Some(true),
            strides: strides.filter(|_| plain).unwrap_or_else(|| strides_of(shape)),
        })
    }

    /// Bytes of a decoded chunk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most bytes that an object may have that holds one chunk.
    pub(super) fn most_encoded_bytes(&self) -> u64 {
        self.most_encoded_bytes
    }

    /// Whether objects hold the voxels as they come out: then they are read straight into place.
    pub(super) fn is_stored(&self) -> bool {
        self.plain && self.steps.is_empty()
    }

    /// Decodes a chunk into memory of exactly its size. `zarrs` may panic in here.
    pub(super) fn decode(&self, encoded: &[u8], out: &mut [u8]) -> Result<(), Cause> {
        let mut bytes = Cow::Borrowed(encoded);
        for (nth, step) in (1..).zip(&self.steps) {
            if self.plain && nth == self.steps.len() {
                return step.decode_into(&bytes, out);
            }
            bytes = Cow::Owned(step.decode(&bytes)?);
        }
        if !self.plain {
            let decoded = self.rest.decode(bytes, &self.shape, &self.data_type, &self.fill, &options())?;
            bytes = decoded.into_fixed()?;
        }
        let (expected_bytes, actual_bytes) = (out.len() as u64, bytes.len() as u64);
        if expected_bytes != actual_bytes {
            return Err(Fault::Length { expected_bytes, actual_bytes }.into());
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }
}

/// What is granted to something of that size; exactly that where it is known.
fn most_bytes(representation: BytesRepresentation) -> u64 {
    match representation {
        BytesRepresentation::FixedSize(bytes) => bytes,
        BytesRepresentation::BoundedSize(bytes) => bytes.saturating_mul(2).saturating_add(SLACK_BYTES),
        BytesRepresentation::UnboundedSize => u64::MAX,
    }
}

/// Whether the bytes of voxels are in the other order; `None` where that is not all that the codec does.
fn bytes_swapped(codec: &Arc<dyn ArrayToBytesCodecTraits>, voxel_bytes: usize) -> Option<bool> {
    if !codec.as_any().is::<BytesCodec>() {
        return None;
    }
    let configuration = codec.configuration_v3(&CodecMetadataOptions::default())?;
    match configuration.get("endian").and_then(|endian| endian.as_str()) {
        Some("little") => Some(cfg!(target_endian = "big") && voxel_bytes > 1),
        Some("big") => Some(cfg!(target_endian = "little") && voxel_bytes > 1),
        _ if voxel_bytes == 1 => Some(false),
        _ => None,
    }
}

fn strides_of(shape: &[NonZeroU64]) -> Vec<u64> {
    let mut strides = vec![1; shape.len()];
    for dimension in (1..shape.len()).rev() {
        strides[dimension - 1] = strides[dimension] * shape[dimension].get();
    }
    strides
}

/// Strides of a chunk as it is stored, where transposing is all that is done to its voxels.
fn plain_strides(codecs: &[Arc<dyn ArrayToArrayCodecTraits>], shape: &[NonZeroU64]) -> Option<Vec<u64>> {
    // Which dimension of the array each dimension of what is stored is.
    let mut order: Vec<usize> = (0..shape.len()).collect();
    for codec in codecs {
        if !codec.as_any().is::<TransposeCodec>() {
            return None;
        }
        let configuration = codec.configuration_v3(&CodecMetadataOptions::default())?;
        let of_codec: Vec<usize> = serde_json::from_value(configuration.get("order")?.clone()).ok()?;
        order = of_codec.iter().map(|&d| order.get(d).copied()).collect::<Option<_>>()?;
    }
    let stored: Option<Vec<_>> = order.iter().map(|&d| shape.get(d).copied()).collect();
    let mut strides = vec![0; shape.len()];
    for (&dimension, stride) in order.iter().zip(strides_of(&stored?)) {
        strides[dimension] = stride;
    }
    strides.iter().all(|&stride| stride > 0).then_some(strides)
}

impl Kind {
    fn of(codec: &Arc<dyn BytesToBytesCodecTraits>) -> Self {
        let any = codec.as_any();
        if any.is::<ZstdCodec>() {
            Self::Zstd
        } else if any.is::<GzipCodec>() {
            Self::Gzip
        } else if any.is::<ZlibCodec>() {
            Self::Zlib
        } else if any.is::<Bz2Codec>() {
            Self::Bz2
        } else {
            Self::Other(codec.clone())
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            Self::Bz2 => "bz2",
            Self::Other(_) => "other",
        }
    }

    fn failed(&self, source: impl Into<Cause>) -> Cause {
        let codec = match self {
            Self::Other(codec) => {
                codec.name_v3().or_else(|| codec.name_v2()).unwrap_or_default().into_owned()
            }
            known => known.name().to_owned(),
        };
        Fault::Codec { codec, source: source.into() }.into()
    }

    /// The decoding stream of a codec that is one.
    fn stream<'e>(&self, encoded: &'e [u8]) -> Option<Box<dyn Read + 'e>> {
        match self {
            Self::Gzip => Some(Box::new(flate2::bufread::GzDecoder::new(encoded))),
            Self::Zlib => Some(Box::new(flate2::bufread::ZlibDecoder::new(encoded))),
            Self::Bz2 => Some(Box::new(bzip2::bufread::BzDecoder::new(encoded))),
            Self::Zstd | Self::Other(_) => None,
        }
    }
}

impl Step {
    /// Decodes into memory of exactly the size of what comes out.
    fn decode_into(&self, encoded: &[u8], out: &mut [u8]) -> Result<(), Cause> {
        let (codec, expected_bytes) = (self.codec.name(), out.len() as u64);
        let actual_bytes = if let Some(mut stream) = self.codec.stream(encoded) {
            let filled = fill(&mut *stream, out).map_err(|e| self.codec.failed(e))?;
            // One more byte, of which there is none; and with it the checks at the stream's end.
            if filled == out.len() && fill(&mut *stream, &mut [0]).map_err(|e| self.codec.failed(e))? > 0 {
                return Err(Fault::Longer { codec, expected_bytes }.into());
            }
            filled
        } else if matches!(self.codec, Kind::Zstd) {
            unzstd(encoded, out).map_err(|e| self.codec.failed(e))?
        } else {
            let bytes = self.decode(encoded)?;
            if bytes.len() == out.len() {
                out.copy_from_slice(&bytes);
            }
            bytes.len()
        };
        if actual_bytes != out.len() {
            return Err(Fault::Shorter { codec, expected_bytes, actual_bytes: actual_bytes as u64 }.into());
        }
        Ok(())
    }

    /// Decodes to what the next step takes.
    fn decode(&self, encoded: &[u8]) -> Result<Vec<u8>, Cause> {
        // Where a codec does not say what it makes of a chunk, no object of one is larger than all it could be.
        let most_bytes = self.most_bytes.min(super::MOST_OBJECT_BYTES);
        if let Kind::Other(codec) = &self.codec {
            screen(codec, encoded, most_bytes)?;
            let bytes = codec.decode(Cow::Borrowed(encoded), &self.decoded, &options());
            return bytes.map(Cow::into_owned).map_err(|e| self.codec.failed(e));
        }
        let mut bytes = Vec::new();
        if let Some(stream) = self.codec.stream(encoded) {
            let read = stream.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|e| self.codec.failed(e))?;
        } else {
            bytes.try_reserve_exact(usize::try_from(most_bytes)?)?;
            unzstd(encoded, &mut bytes).map_err(|e| self.codec.failed(e))?;
        }
        if bytes.len() as u64 > most_bytes {
            return Err(Fault::Longer { codec: self.codec.name(), expected_bytes: most_bytes }.into());
        }
        Ok(bytes)
    }
}

/// Refuses what says itself that it is more than it may be, before it is given the memory for it.
fn screen(codec: &Arc<dyn BytesToBytesCodecTraits>, encoded: &[u8], most_bytes: u64) -> Result<(), Fault> {
    // Bytes 4 to 7 of a blosc chunk are what it decodes to.
    if codec.as_any().is::<BloscCodec>()
        && let Some(&[a, b, c, d]) = encoded.get(4..8)
        && u64::from(u32::from_le_bytes([a, b, c, d])) > most_bytes
    {
        return Err(Fault::Longer { codec: "blosc", expected_bytes: most_bytes });
    }
    Ok(())
}

/// Reads until `out` is full or the stream ends.
fn fill(stream: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match stream.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Decodes zstd frames into the room that there is, and no further.
fn unzstd(encoded: &[u8], out: &mut (impl zstd::zstd_safe::WriteBuf + ?Sized)) -> io::Result<usize> {
    ZSTD.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(encoded, out)
    })
}
