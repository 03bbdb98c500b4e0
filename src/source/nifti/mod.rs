//! Owns [`Nifti`]: reading volumes of the Neuroimaging Informatics Technology Initiative's format. Knows nothing of tiles in memory.
//!
//! Versions 1 and 2; one file (`.nii`) or a pair (`.hdr` and `.img`); both byte orders; compressed by gzip or not, whatever the names say. Plain voxels are read in place;
//! compressed ones, which can be read from their beginning only, are decompressed once into a temporary file that has no name.
//!
//! ```no_run
//! use vastgrid::source::Nifti;
//!
//! let nifti = Nifti::open("bold.nii.gz")?;
//! println!("{} voxels of {:?} {:?}", nifti.header().extent(), nifti.header().spacing(), nifti.header().space_unit());
//! let source = nifti.with_time(3)?.into_dataset()?.into_source::<f32>();
//! # Ok::<(), vastgrid::SourceError>(())
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::inflate::{Compressed, inflate};
use super::magic::{GZIP_MAGIC, NiftiMagic};
use super::peek::{first_bytes, first_inflated_bytes};
use super::raw::open_regular;
use super::{Dataset, RawSpec};
use crate::error::SourceError;

mod fields;
mod header;

pub use header::{NiftiHeader, NiftiQform, NiftiSform};

/// A NIfTI file whose header has been read and whose data has been found.
#[derive(Debug)]
pub struct Nifti {
    header: NiftiHeader,
    file: File,
    path: PathBuf,
    compressed: bool,
    time: u64,
    channel: u64,
}

impl Nifti {
    /// Reads the header and finds the data, without reading any of it. `path` names the one file, or either of a pair.
    ///
    /// # Errors
    /// * [`SourceError::Open`], [`SourceError::Read`]: the file, or the other one of a pair.
    /// * [`SourceError::Header`]: no NIfTI header, or a field that cannot be; it names the field and its value.
    /// * [`SourceError::Unsupported`]: voxels that are no single number of at most 32 bits or `f64`; it names their type.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let file = Begun::open(path)?;
        if NiftiMagic::of(&file.start).is_some() {
            let header = NiftiHeader::parse(&file.start, path)?;
            let data = match header.is_single_file() {
                true => file,
                false => Begun::open(&other_of_pair(path, "img"))?,
            };
            return Ok(Self::new(header, data));
        }
        // Voxels without a header: there may be one beside them.
        let beside = other_of_pair(path, "hdr");
        match Begun::open(&beside) {
            Ok(found) if NiftiMagic::of(&found.start).is_some_and(|magic| !magic.single_file) => {
                Ok(Self::new(NiftiHeader::parse(&found.start, &beside)?, file))
            }
            // Says that, and how, the file named is none.
            _ => NiftiHeader::parse(&file.start, path).map(|header| Self::new(header, file)),
        }
    }

    fn new(header: NiftiHeader, data: Begun) -> Self {
        let Begun { file, path, compressed, .. } = data;
        Self { header, file, path, compressed, time: 0, channel: 0 }
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &NiftiHeader {
        &self.header
    }

    /// Whether the voxels are compressed, so that all up to the volume's last have to be decompressed before the first is read.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Chooses the volume of another time than 0.
    ///
    /// # Errors
    /// [`SourceError::NoSuch`]: the file has no more than [`NiftiHeader::times`].
    pub fn with_time(mut self, time: u64) -> Result<Self, SourceError> {
        self.time = self.within("time point", time, self.header.times())?;
        Ok(self)
    }

    /// Chooses another channel than 0.
    ///
    /// # Errors
    /// [`SourceError::NoSuch`]: the file has no more than [`NiftiHeader::channels`].
    pub fn with_channel(mut self, channel: u64) -> Result<Self, SourceError> {
        self.channel = self.within("channel", channel, self.header.channels())?;
        Ok(self)
    }

    fn within(&self, what: &'static str, index: u64, count: u64) -> Result<u64, SourceError> {
        let location = || self.path.display().to_string();
        if index < count {
            Ok(index)
        } else {
            Err(SourceError::NoSuch { location: location(), what, index, count })
        }
    }

    /// The voxels of the volume chosen, scaled where the header says, of the type [`NiftiHeader::scalar_type`].
    ///
    /// **Cost**: nothing where the file is not compressed (see [`Nifti::into_dataset_with`]).
    ///
    /// # Errors
    /// [`SourceError::Truncated`] where the data is less than the header promises, and those of decompression: [`SourceError::Scratch`] where the temporary file has no space,
    /// [`SourceError::Read`] where it is damaged.
    pub fn into_dataset(self) -> Result<Dataset, SourceError> {
        self.into_dataset_with(|_, _| {})
    }

    /// The same, telling how far decompression is: `progress(bytes done, bytes in all)`, every 256 KiB or less. Plain data needs none and calls nothing.
    ///
    /// **Cost**: half a MiB of memory whatever the size; the temporary file takes the size of one volume, and no more whatever the compressed data holds.
    ///
    /// # Errors
    /// Those of [`Nifti::into_dataset`].
    pub fn into_dataset_with(self, mut progress: impl FnMut(u64, u64)) -> Result<Dataset, SourceError> {
        let header = &self.header;
        let mut spec = RawSpec { endian: header.endian(), ..RawSpec::new(header.extent()) };
        let offset_bytes = header.volume_offset_bytes(self.time, self.channel);
        let file = if self.compressed {
            let compressed = Compressed {
                file: &self.file,
                path: &self.path,
                offset_bytes: 0,
                or_zlib: false,
                skip_bytes: offset_bytes,
                keep_bytes: header.volume_bytes(),
            };
            inflate(&compressed, &mut progress)?
        } else {
            spec.offset_bytes = offset_bytes;
            self.file
        };
        let dataset = Dataset::from_raw_file(header.stored_type(), file, self.path, spec)?;
        let (slope, intercept) = header.scaling().unwrap_or((1.0, 0.0));
        Ok(dataset.scaled(slope, intercept))
    }
}

/// A file that is open, and the bytes that it begins with.
struct Begun {
    file: File,
    path: PathBuf,
    compressed: bool,
    /// Decompressed.
    start: Vec<u8>,
}

impl Begun {
    fn open(path: &Path) -> Result<Self, SourceError> {
        let file = open_regular(path)?;
        let mut start = first_bytes(&file, path, fields::MAX_BYTES)?;
        let compressed = start.starts_with(&GZIP_MAGIC);
        if compressed {
            start = first_inflated_bytes(&file, path, fields::MAX_BYTES)?;
        }
        Ok(Self { file, path: path.to_owned(), compressed, start })
    }
}

/// The other file of a pair: of the same name but for the extension, compressed or not, in either case; where there is none, what it would be called.
fn other_of_pair(path: &Path, extension: &str) -> PathBuf {
    let is = |path: &Path, what: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(what));
    let plain = if is(path, "gz") { path.with_extension("") } else { path.to_owned() };
    let named = |extension: OsString| plain.with_extension(extension);
    let upper = extension.to_uppercase();
    let names = [extension.to_owned(), format!("{extension}.gz"), upper.clone(), format!("{upper}.GZ")];
    let found = names.into_iter().map(|name| named(name.into())).find(|path| path.is_file());
    found.unwrap_or_else(|| named(extension.into()))
}
