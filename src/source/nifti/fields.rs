//! Owns the fields of a NIfTI header as they stand in its bytes, of both versions and byte orders. Knows nothing of what they mean together.

use nifti::{Endianness, NiftiType};

use crate::source::Endian;
use crate::source::bad::Bad;
use crate::source::magic::NiftiMagic;
use crate::voxel::ScalarType;

/// The longest header.
pub(super) const MAX_BYTES: usize = NiftiMagic::V2_BYTES;

/// A header's fields, those of version 1 widened to what version 2 has.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) version: u8,
    pub(super) single_file: bool,
    pub(super) endian: Endian,
    pub(super) dim: [i64; 8],
    pub(super) datatype: i16,
    pub(super) bitpix: i16,
    pub(super) pixdim: [f64; 8],
    vox_offset: f64,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    pub(super) window: (f64, f64),
    pub(super) description: String,
    pub(super) qform_code: i32,
    pub(super) sform_code: i32,
    pub(super) quatern: [f64; 3],
    pub(super) qoffset: [f64; 3],
    pub(super) srow: [[f64; 4]; 3],
    pub(super) xyzt_units: usize,
}

impl Fields {
    /// From the first bytes of a file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Bad> {
        let start = || String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned();
        let kind = NiftiMagic::of(bytes).ok_or_else(|| Bad::new("magic", start(), "not a NIfTI file"))?;
        let Some(header) = bytes.get(..kind.header_bytes()) else {
            return Err(Bad::new("sizeof_hdr", kind.header_bytes().to_string(), "more than the file has"));
        };
        if kind.version == 1 {
            Self::of_version_1(kind, header)
        } else {
            Ok(Self::of_version_2(kind, header))
        }
    }

    fn of_version_1(kind: NiftiMagic, header: &[u8]) -> Result<Self, Bad> {
        // That crate decides the byte order by the number of axes, this one by the header's length: what contradicts itself is refused.
        let contradicts = || {
            let at = At { bytes: header, endian: kind.endian };
            let dim: [i16; 8] =
                [0, 1, 2, 3, 4, 5, 6, 7].map(|axis| i16::from_le_bytes(at.array(40 + 2 * axis)));
            let dim = dim.map(|n| n.to_string()).join(" ");
            Bad::new("dim", dim, "contradicts the byte order that `sizeof_hdr` has")
        };
        let raw = nifti::NiftiHeader::from_reader(header).map_err(|_| contradicts())?;
        let endian = if raw.endianness == Endianness::Big { Endian::Big } else { Endian::Little };
        if endian != kind.endian {
            return Err(contradicts());
        }
        Ok(Self {
            version: 1,
            single_file: kind.single_file,
            endian,
            // Signed in the format, whatever that crate makes of them.
            dim: raw.dim.map(|n| i64::from(n.cast_signed())),
            datatype: raw.datatype,
            bitpix: raw.bitpix,
            pixdim: raw.pixdim.map(shortest),
            vox_offset: raw.vox_offset.into(),
            slope: raw.scl_slope.into(),
            intercept: raw.scl_inter.into(),
            window: (raw.cal_min.into(), raw.cal_max.into()),
            description: text(&raw.descrip),
            qform_code: raw.qform_code.into(),
            sform_code: raw.sform_code.into(),
            quatern: [raw.quatern_b, raw.quatern_c, raw.quatern_d].map(f64::from),
            qoffset: [raw.quatern_x, raw.quatern_y, raw.quatern_z].map(f64::from),
            srow: [raw.srow_x, raw.srow_y, raw.srow_z].map(|row| row.map(f64::from)),
            xyzt_units: raw.xyzt_units.into(),
        })
    }

    /// **Source**: nifti2.h.
    fn of_version_2(kind: NiftiMagic, header: &[u8]) -> Self {
        let at = At { bytes: header, endian: kind.endian };
        let codes = [344, 348, 500].map(|offset| i32::from_le_bytes(at.array(offset)));
        Self {
            version: 2,
            single_file: kind.single_file,
            endian: kind.endian,
            dim: at.eight(16).map(i64::from_le_bytes),
            datatype: i16::from_le_bytes(at.array(12)),
            bitpix: i16::from_le_bytes(at.array(14)),
            pixdim: at.eight(104).map(f64::from_le_bytes),
            vox_offset: {
                // Exact up to 2^53, beyond which no file goes.
                i64::from_le_bytes(at.array(168)) as f64
            },
            slope: at.f64(176),
            intercept: at.f64(184),
            window: (at.f64(200), at.f64(192)),
            description: text(header.get(240..320).unwrap_or_default()),
            qform_code: codes[0],
            sform_code: codes[1],
            quatern: [352, 360, 368].map(|offset| at.f64(offset)),
            qoffset: [376, 384, 392].map(|offset| at.f64(offset)),
            srow: [400, 432, 464].map(|row| [0, 8, 16, 24].map(|column| at.f64(row + column))),
            xyzt_units: usize::try_from(codes[2]).unwrap_or(0),
        }
    }

    /// Where the voxels begin in their file.
    pub(super) fn offset_bytes(&self) -> Result<u64, Bad> {
        let bad = |reason| Bad::new("vox_offset", self.vox_offset.to_string(), reason);
        let header_bytes = if self.version == 1 { NiftiMagic::V1_BYTES } else { NiftiMagic::V2_BYTES } as u64;
        if self.single_file && self.vox_offset == 0.0 {
            return Ok(header_bytes + 4);
        }
        // 2^53 and more: no file is that long.
        if self.vox_offset.fract() != 0.0 || !(0.0..9_007_199_254_740_992.0).contains(&self.vox_offset) {
            return Err(bad("must be a whole number of bytes"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        let offset = self.vox_offset as u64;
        if self.single_file && offset < header_bytes {
            return Err(bad("lies within the header"));
        }
        Ok(offset)
    }
}

/// Bytes of a header, as if least significant ones came first.
struct At<'a> {
    bytes: &'a [u8],
    endian: Endian,
}

impl At<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut array = [0; N];
        if let Some(found) = self.bytes.get(offset..offset + N) {
            array.copy_from_slice(found);
        }
        if self.endian == Endian::Big {
            array.reverse();
        }
        array
    }

    fn eight(&self, offset: usize) -> [[u8; 8]; 8] {
        [0, 8, 16, 24, 32, 40, 48, 56].map(|next| self.array(offset + next))
    }

    fn f64(&self, offset: usize) -> f64 {
        f64::from_le_bytes(self.array(offset))
    }
}

/// The shortest decimal that rounds to this `f32`, as `f64`: what its writer meant.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

/// The type of that code, or the name of one that is not read.
pub(super) fn scalar_type(code: i16) -> Result<ScalarType, String> {
    use NiftiType as T;
    let known = [
        T::Uint8,
        T::Int8,
        T::Uint16,
        T::Int16,
        T::Uint32,
        T::Int32,
        T::Float32,
        T::Float64,
        T::Int64,
        T::Uint64,
        T::Float128,
        T::Complex64,
        T::Complex128,
        T::Complex256,
        T::Rgb24,
        T::Rgba32,
    ];
    let found = known.into_iter().find(|t| u16::try_from(code) == Ok(*t as u16));
    match found {
        Some(T::Uint8) => Ok(ScalarType::U8),
        Some(T::Int8) => Ok(ScalarType::I8),
        Some(T::Uint16) => Ok(ScalarType::U16),
        Some(T::Int16) => Ok(ScalarType::I16),
        Some(T::Uint32) => Ok(ScalarType::U32),
        Some(T::Int32) => Ok(ScalarType::I32),
        Some(T::Float32) => Ok(ScalarType::F32),
        Some(T::Float64) => Ok(ScalarType::F64),
        Some(other) => Err(format!("{other:?}").to_lowercase()),
        None => Err(format!("code {code}")),
    }
}
