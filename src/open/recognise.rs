//! Owns what a file is, by its first bytes, and otherwise by what lies beside it. Knows nothing of what is in it.

use std::fs::File;
use std::path::Path;

use super::format::Format;
use super::opened::Opened;
use super::sidecar;
use crate::error::SourceError;
use crate::source::{GZIP_MAGIC, NiftiMagic, first_bytes, is_meta_image, is_nrrd, is_tiff, open_regular};

/// What there is, for messages.
pub(super) const KNOWN: &str = "NRRD, MetaImage, NIfTI, TIFF and Zarr";

/// Opens a file by its content, or where that tells nothing by the sidecar beside it.
pub(super) fn open(path: &Path) -> Result<Opened, SourceError> {
    let file = open_regular(path)?;
    let start = first_bytes(&file, path, NiftiMagic::V2_BYTES)?;
    if let Some(format) = format_of(&start) {
        return Opened::file(path, format);
    }
    if start.starts_with(&GZIP_MAGIC) {
        let inside = inflated(&file, path)?;
        // Of the formats that are read under gzip as a whole there is this one.
        return match format_of(&inside) {
            Some(Format::Nifti) => Opened::file(path, Format::Nifti),
            _ => Err(unrecognised(path, &inside, "decompressed it begins with")),
        };
    }
    match sidecar::beside(path)? {
        Some((header, format)) => Opened::file(&header, format),
        None => Err(unrecognised(path, &start, "it begins with")),
    }
}

/// The format of a file that begins so.
pub(super) fn format_of(start: &[u8]) -> Option<Format> {
    if is_nrrd(start) {
        Some(Format::Nrrd)
    } else if NiftiMagic::of(start).is_some() {
        Some(Format::Nifti)
    } else if is_tiff(start) {
        Some(Format::Tiff)
    } else if is_meta_image(start) {
        Some(Format::MetaImage)
    } else {
        None
    }
}

#[cfg(any(feature = "nifti", feature = "nrrd"))]
fn inflated(file: &File, path: &Path) -> Result<Vec<u8>, SourceError> {
    crate::source::first_inflated_bytes(file, path, NiftiMagic::V2_BYTES)
}

#[cfg(not(any(feature = "nifti", feature = "nrrd")))]
fn inflated(_: &File, path: &Path) -> Result<Vec<u8>, SourceError> {
    Err(SourceError::NeedsFeature {
        location: path.display().to_string(),
        format: "gzip data, perhaps a NIfTI file,",
        feature: "nifti",
    })
}

/// Says what there is instead.
pub(super) fn unrecognised(path: &Path, start: &[u8], how: &str) -> SourceError {
    let shown = &start[..start.len().min(16)];
    let found = if shown.is_empty() {
        "it is empty".to_owned()
    } else {
        format!("{how} \"{}\"", shown.escape_ascii())
    };
    SourceError::Unrecognised {
        location: path.display().to_string(),
        found,
        known: KNOWN,
        hint: "; raw voxels need a header beside them (.mhd, .nhdr) or to be told their shape",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_format_is_taken_for_another_and_short_starts_are_none() {
        let mut nifti = vec![0; 348];
        nifti[..4].copy_from_slice(&348u32.to_be_bytes());
        nifti[344..].copy_from_slice(b"n+1\0");
        let starts: [(&[u8], Format); 5] = [
            (b"NRRD0004\n", Format::Nrrd),
            (&nifti, Format::Nifti),
            (b"II*\0\x08\0\0\0", Format::Tiff),
            (b"MM\0\x2b\0\x08\0\0", Format::Tiff),
            (b"NDims = 3\n", Format::MetaImage),
        ];
        for (start, format) in starts {
            assert_eq!(format_of(start), Some(format));
            for cut in 0..start.len() {
                let found = format_of(&start[..cut]);
                assert!(found.is_none() || found == Some(format), "{start:?} cut at {cut}");
            }
        }
        for none in [&b""[..], b"II", b"II*", b"MM*\0", b"= 3", b"Dims = 3\n", b"nrrd", &[0; 600]] {
            assert_eq!(format_of(none), None, "{none:?}");
        }
    }
}
