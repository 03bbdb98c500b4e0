//! Owns the first bytes of a file, as they are or decompressed: what a file is recognised by. Knows nothing of any format.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::SourceError;

/// The first `want` bytes of `file`, fewer where it is shorter.
pub(crate) fn first_bytes(file: &File, path: &Path, want: usize) -> Result<Vec<u8>, SourceError> {
    read_all(Positioned { file, at: 0 }, want).map_err(|source| failed(path, want, source))
}

/// The first `want` bytes of what gzip data at the beginning of `file` decompresses to, fewer where it is shorter or damaged after some of them.
///
/// # Errors
/// [`SourceError::Read`] where not one byte can be decompressed.
#[cfg(any(feature = "nifti", feature = "nrrd"))]
pub(crate) fn first_inflated_bytes(file: &File, path: &Path, want: usize) -> Result<Vec<u8>, SourceError> {
    let compressed = io::BufReader::with_capacity(4096, Positioned { file, at: 0 });
    let mut member = flate2::bufread::MultiGzDecoder::new(compressed);
    let mut bytes = Vec::with_capacity(want);
    match member.by_ref().take(want as u64).read_to_end(&mut bytes) {
        Err(source) if bytes.is_empty() => Err(failed(path, want, source)),
        _ => Ok(bytes),
    }
}

fn failed(path: &Path, want: usize, source: io::Error) -> SourceError {
    SourceError::Read { path: path.to_owned(), offset_bytes: 0, bytes: want as u64, source }
}

fn read_all(from: impl Read, want: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(want);
    from.take(want as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads on from a position without moving the file's own.
pub(super) struct Positioned<'a> {
    pub(super) file: &'a File,
    pub(super) at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
