//! Owns [`Nrrd`]: reading volumes in the "nearly raw raster data" format. Knows nothing of tiles in memory.
//!
//! Versions 1 to 5; attached and detached headers; the encodings raw and gzip. Raw data is read in place; gzip data, which can be read from its
//! beginning only, is decompressed once into a temporary file that has no name.
//!
//! ```
//! use vastgrid::source::Nrrd;
//! use vastgrid::{Extent, Region, TileSource};
//!
//! let path = std::env::temp_dir().join(format!("vastgrid-doc-{}.nrrd", std::process::id()));
//! std::fs::write(&path, "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 2 1\nspacings: 1 1 2.5\nencoding: raw\n\nvoxels")?;
//!
//! let nrrd = Nrrd::open(&path)?;
//! assert_eq!(nrrd.header().extent(), Extent::new(3, 2, 1));
//! assert_eq!(nrrd.header().spacing(), [1.0, 1.0, 2.5]);
//!
//! let source = nrrd.into_source::<u8>()?;
//! let mut out = [0; 6];
//! source.read(Region::whole(source.extent()), &mut out)?;
//! assert_eq!(&out, b"voxels");
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bad::Bad;
use super::inflate::{Compressed, inflate};
use super::raw::{file_bytes, open_regular};
use super::{Dataset, Endian, RawFile, RawSpec};
use crate::error::SourceError;
use crate::voxel::Scalar;

mod header;
mod text;
mod values;

pub use header::{NrrdEncoding, NrrdHeader};
use text::Text;

/// A NRRD file whose header has been read and whose data has been found.
#[derive(Debug)]
pub struct Nrrd {
    header: NrrdHeader,
    file: File,
    path: PathBuf,
    offset_bytes: u64,
}

impl Nrrd {
    /// Reads the header and finds the data, without reading any of it.
    ///
    /// A detached header names its data file, relative to itself or by an absolute path. **That name is followed wherever it leads**, upwards too: whoever opens
    /// headers of strangers should look at [`NrrdHeader::data_file`] before showing the voxels to them. Only regular files are opened.
    ///
    /// # Errors
    /// * [`SourceError::Open`], [`SourceError::Read`]: the header's or the data's file.
    /// * [`SourceError::Header`]: a field that is missing, there twice, contradicts another, or holds what is not read; it names the field and its value.
    /// * [`SourceError::Truncated`]: raw data that ends before the last voxel.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        let text = Text::read(&file, path)?;
        let attached_bytes = text.data_offset_bytes;
        let header = NrrdHeader::from_text(text).map_err(|bad| bad.in_file(path))?;
        let (file, data_path, begin_bytes) = match (header.data_file(), attached_bytes) {
            (Some(name), _) => {
                let data_path = path.parent().unwrap_or(Path::new("")).join(name);
                (open_regular(&data_path)?, data_path, 0)
            }
            (None, Some(offset_bytes)) => (file, path.to_owned(), offset_bytes),
            (None, None) => {
                let reason = "neither a data file nor a blank line with data after it";
                return Err(Bad::new("data file", "", reason).in_file(path));
            }
        };
        let begin_bytes = skip_lines(&file, &data_path, begin_bytes, header.line_skip)?;
        let offset_bytes = match header.encoding() {
            NrrdEncoding::Raw => raw_offset(&header, &file, &data_path, begin_bytes)?,
            NrrdEncoding::Gzip => begin_bytes,
        };
        Ok(Self { header, file, path: data_path, offset_bytes })
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &NrrdHeader {
        &self.header
    }

    /// The voxels, of the type that the file holds.
    ///
    /// **Cost**: nothing for raw data; for gzip data everything is decompressed into a temporary file (see [`Nrrd::into_source_with`]).
    ///
    /// # Errors
    /// * [`SourceError::VoxelType`]: the file holds another type; [`Nrrd::into_dataset`] takes any.
    /// * Those of decompression: [`SourceError::Scratch`] where the temporary file has no space, [`SourceError::Truncated`] where the data is less than the
    ///   header promises, [`SourceError::Read`] where it is damaged.
    pub fn into_source<T: Scalar>(self) -> Result<RawFile<T>, SourceError> {
        self.into_source_with(|_, _| {})
    }

    /// The same, telling how far decompression is: `progress(bytes done, bytes in all)`, every 256 KiB or less. Raw data needs none and calls nothing.
    ///
    /// **Cost**: half a MiB of memory whatever the size; the temporary file takes the size of all voxels, and no more whatever the compressed data holds.
    ///
    /// # Errors
    /// Those of [`Nrrd::into_source`].
    pub fn into_source_with<T: Scalar>(
        self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<RawFile<T>, SourceError> {
        let found = self.header.scalar_type();
        if found != T::TYPE {
            return Err(SourceError::VoxelType { path: self.path, found, wanted: T::TYPE });
        }
        let (file, path, spec) = self.into_raw(&mut progress)?;
        RawFile::from_file(file, path, spec)
    }

    /// The voxels, of whatever type they are.
    ///
    /// # Errors
    /// Those of [`Nrrd::into_source`].
    pub fn into_dataset(self) -> Result<Dataset, SourceError> {
        self.into_dataset_with(|_, _| {})
    }

    /// The same, telling how far decompression is, as [`Nrrd::into_source_with`] does.
    ///
    /// # Errors
    /// Those of [`Nrrd::into_source`].
    pub fn into_dataset_with(self, mut progress: impl FnMut(u64, u64)) -> Result<Dataset, SourceError> {
        let scalar_type = self.header.scalar_type();
        let (file, path, spec) = self.into_raw(&mut progress)?;
        Dataset::from_raw_file(scalar_type, file, path, spec)
    }

    fn into_raw(self, progress: &mut dyn FnMut(u64, u64)) -> Result<(File, PathBuf, RawSpec), SourceError> {
        let mut spec = RawSpec::new(self.header.extent());
        spec.endian = self.header.endian().unwrap_or(Endian::NATIVE);
        if self.header.encoding() == NrrdEncoding::Raw {
            spec.offset_bytes = self.offset_bytes;
            return Ok((self.file, self.path, spec));
        }
        let compressed = Compressed {
            file: &self.file,
            path: &self.path,
            offset_bytes: self.offset_bytes,
            or_zlib: false,
            skip_bytes: self.header.byte_skip.unwrap_or(0),
            keep_bytes: self.header.data_bytes(),
        };
        Ok((inflate(&compressed, progress)?, self.path, spec))
    }
}

/// Where raw data begins; checks that all of it is there.
fn raw_offset(header: &NrrdHeader, file: &File, path: &Path, begin_bytes: u64) -> Result<u64, SourceError> {
    let actual_bytes = file_bytes(file, path)?;
    let data_bytes = header.data_bytes();
    // Bytes skipped are counted from the beginning, or with -1 the data is what the file ends with.
    let first_bytes = begin_bytes.saturating_add(header.byte_skip.unwrap_or(0));
    let expected_bytes = first_bytes.saturating_add(data_bytes);
    if expected_bytes > actual_bytes {
        return Err(SourceError::Truncated { path: path.to_owned(), expected_bytes, actual_bytes });
    }
    Ok(if header.byte_skip.is_none() { actual_bytes - data_bytes } else { first_bytes })
}

/// Where the line after `lines` lines begins.
fn skip_lines(file: &File, path: &Path, begin_bytes: u64, lines: u64) -> Result<u64, SourceError> {
    let mut at = begin_bytes;
    let mut left = lines;
    let mut chunk = if left == 0 { Vec::new() } else { vec![0; 64 << 10] };
    while left > 0 {
        let read = match file.read_at(&mut chunk, at) {
            Ok(0) => {
                return Err(
                    Bad::new("line skip", lines.to_string(), "the file has fewer lines").in_file(path)
                );
            }
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => {
                let bytes = chunk.len() as u64;
                return Err(SourceError::Read { path: path.to_owned(), offset_bytes: at, bytes, source });
            }
        };
        let mut used = read;
        for (i, _) in chunk[..read].iter().enumerate().filter(|(_, b)| **b == b'\n') {
            left -= 1;
            if left == 0 {
                used = i + 1;
                break;
            }
        }
        at += used as u64;
    }
    Ok(at)
}
