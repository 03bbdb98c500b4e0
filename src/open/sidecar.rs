//! Owns the search for the header of a file without one: beside it, under the names that such headers have. Knows nothing of what they say but which file they are of.

use std::path::{Path, PathBuf};

use super::format::Format;
use super::recognise::format_of;
use crate::error::SourceError;
use crate::source::{NiftiMagic, first_bytes, open_regular};

/// Extensions of headers, and what they are of.
const EXTENSIONS: [(&str, Format); 3] =
    [("mhd", Format::MetaImage), ("nhdr", Format::Nrrd), ("hdr", Format::Nifti)];

/// The header that names `path` as its data: of the same name but for the extension, or with one more.
///
/// # Errors
/// Those of a header under such a name that is none, where no other names `path`: it most likely is the one.
pub(super) fn beside(path: &Path) -> Result<Option<(PathBuf, Format)>, SourceError> {
    let mut broken = None;
    for (extension, format) in EXTENSIONS {
        let mut longer = path.as_os_str().to_owned();
        longer.push(".");
        longer.push(extension);
        for header in [path.with_extension(extension), longer.into()] {
            if header == path || !is_header(&header, format) {
                continue;
            }
            match names(&header, format, path) {
                Ok(true) => return Ok(Some((header, format))),
                Ok(false) => {}
                Err(error) => broken = broken.or(Some(error)),
            }
        }
    }
    broken.map_or(Ok(None), Err)
}

fn is_header(header: &Path, format: Format) -> bool {
    let start = open_regular(header).and_then(|file| first_bytes(&file, header, NiftiMagic::V2_BYTES));
    start.is_ok_and(|start| match format {
        Format::Nifti => NiftiMagic::of(&start).is_some_and(|magic| !magic.single_file),
        _ => format_of(&start) == Some(format),
    })
}

/// The data file that a header names, if it names one; `None` where any of its name is the right one.
#[cfg(feature = "nrrd")]
fn data_file(header: &Path, format: Format) -> Option<Result<Option<PathBuf>, SourceError>> {
    use crate::source::{MetaImage, Nrrd};
    match format {
        Format::MetaImage => {
            Some(MetaImage::open(header).map(|image| image.header().data_file().map(Path::to_owned)))
        }
        Format::Nrrd => Some(Nrrd::open(header).map(|nrrd| nrrd.header().data_file().map(Path::to_owned))),
        // A pair has one name.
        _ => None,
    }
}

/// Taken for granted: what is said then is that the feature is needed.
#[cfg(not(feature = "nrrd"))]
fn data_file(_: &Path, _: Format) -> Option<Result<Option<PathBuf>, SourceError>> {
    None
}

/// Whether the header's data is this file.
fn names(header: &Path, format: Format, path: &Path) -> Result<bool, SourceError> {
    let Some(data_file) = data_file(header, format) else { return Ok(true) };
    match data_file {
        Ok(Some(data_file)) => Ok(is_same(&header.parent().unwrap_or(Path::new("")).join(data_file), path)),
        // The data follows the header.
        Ok(None) => Ok(false),
        // The header names another file, and that is what cannot be read.
        Err(
            SourceError::Open { path: other, .. }
            | SourceError::Read { path: other, .. }
            | SourceError::Truncated { path: other, .. }
            | SourceError::Header { path: other, .. },
        ) if other != header && !is_same(&other, path) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
