//! Owns what files of each format begin with. Knows nothing of what follows; there whatever features are.

use super::Endian;

/// **Source**: RFC 1952, section 2.3.1, ID1 and ID2.
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The keys that a MetaImage's header may begin with.
///
/// **Source**: MetaIO's documentation, "Quick Start" and "Reference: Tags of MetaImage", <https://itk.org/Wiki/ITK/MetaIO/Documentation>.
const META_IMAGE_KEYS: [&str; 4] = ["ObjectType", "NDims", "Comment", "BinaryData"];

/// Whether a file that begins with these bytes is a NRRD file.
pub(crate) fn is_nrrd(start: &[u8]) -> bool {
    start.starts_with(b"NRRD")
}

/// Whether a file that begins with these bytes is a TIFF file, classic or big.
pub(crate) fn is_tiff(start: &[u8]) -> bool {
    matches!(start, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..])
}

/// Whether a file that begins with these bytes is a MetaImage's header.
pub(crate) fn is_meta_image(start: &[u8]) -> bool {
    let line = start.split(|&b| b == b'\n').next().unwrap_or_default();
    let Some(at) = line.iter().position(|&b| b == b'=') else { return false };
    META_IMAGE_KEYS.iter().any(|key| key.as_bytes() == line[..at].trim_ascii())
}

/// What a NIfTI header begins with: its length and its magic, which both have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NiftiMagic {
    pub(crate) version: u8,
    /// Whether the voxels follow in the same file.
    pub(crate) single_file: bool,
    pub(crate) endian: Endian,
}

impl NiftiMagic {
    /// Bytes of a header of version 1.
    pub(crate) const V1_BYTES: usize = 348;
    /// Bytes of a header of version 2: no other format needs more to be recognised.
    pub(crate) const V2_BYTES: usize = 540;

    /// `None`: no NIfTI header.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let endian = |bytes: usize| {
            let bytes = u32::try_from(bytes).ok()?;
            let orders = [(bytes.to_le_bytes(), Endian::Little), (bytes.to_be_bytes(), Endian::Big)];
            orders.into_iter().find(|(of, _)| *of == length).map(|(_, endian)| endian)
        };
        if let Some(endian) = endian(Self::V1_BYTES) {
            let single_file = match bytes.get(344..348)? {
                b"n+1\0" => true,
                b"ni1\0" => false,
                _ => return None,
            };
            return Some(Self { version: 1, single_file, endian });
        }
        let endian = endian(Self::V2_BYTES)?;
        // What follows the name shows whether a transfer has changed line endings.
        let single_file = match bytes.get(4..12)? {
            b"n+2\0\r\n\x1a\n" => true,
            b"ni2\0\r\n\x1a\n" => false,
            _ => return None,
        };
        Some(Self { version: 2, single_file, endian })
    }

    #[cfg(feature = "nifti")]
    pub(crate) fn header_bytes(self) -> usize {
        if self.version == 1 { Self::V1_BYTES } else { Self::V2_BYTES }
    }
}
