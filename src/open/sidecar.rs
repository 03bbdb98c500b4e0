//! Owns the search for the header of a file without one: beside it, under the names that such headers have. Knows nothing of what they say but which file they are of.

use std::path::{Path, PathBuf};

use super::format::Format;
use super::recognise::format_of;
use crate::source::{NiftiMagic, first_bytes, open_regular};

/// Extensions of headers, and what they are of.
const EXTENSIONS: [(&str, Format); 3] =
    [("mhd", Format::MetaImage), ("nhdr", Format::Nrrd), ("hdr", Format::Nifti)];

/// The header that names `path` as its data: of the same name but for the extension, or with one more.
pub(super) fn beside(path: &Path) -> Option<(PathBuf, Format)> {
    let mut candidates = Vec::new();
    for (extension, format) in EXTENSIONS {
        candidates.push((path.with_extension(extension), format));
        let mut longer = path.as_os_str().to_owned();
        longer.push(".");
        longer.push(extension);
        candidates.push((longer.into(), format));
    }
    candidates
        .into_iter()
        .find(|(header, format)| header != path && is_header(header, *format) && names(header, *format, path))
}

fn is_header(header: &Path, format: Format) -> bool {
    let start = open_regular(header).and_then(|file| first_bytes(&file, header, NiftiMagic::V2_BYTES));
    start.is_ok_and(|start| match format {
        Format::Nifti => NiftiMagic::of(&start).is_some_and(|magic| !magic.single_file),
        _ => format_of(&start) == Some(format),
    })
}

/// Whether the header's data is this file.
#[cfg(feature = "nrrd")]
fn names(header: &Path, format: Format, path: &Path) -> bool {
    let data_file: Option<PathBuf> = match format {
        Format::MetaImage => crate::source::MetaImage::open(header)
            .ok()
            .and_then(|image| image.header().data_file().map(Path::to_owned)),
        Format::Nrrd => crate::source::Nrrd::open(header)
            .ok()
            .and_then(|nrrd| nrrd.header().data_file().map(Path::to_owned)),
        // A pair has one name.
        _ => return true,
    };
    let Some(data_file) = data_file else { return false };
    let named = header.parent().unwrap_or(Path::new("")).join(data_file);
    let same = || Some(named.canonicalize().ok()? == path.canonicalize().ok()?);
    same().unwrap_or(false)
}

/// Without the format's feature that is taken for granted: what is said then is that the feature is needed.
#[cfg(not(feature = "nrrd"))]
fn names(_: &Path, _: Format, _: &Path) -> bool {
    true
}
