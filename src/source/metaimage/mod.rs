//! Owns [`MetaImage`]: raw volumes with a small text header, in a file beside (`.mhd`) or before the voxels (`.mha`). Knows nothing of tiles in memory.
//!
//! Plain voxels are read in place; compressed ones are decompressed once into a temporary file that has no name.
//!
//! ```
//! use vastgrid::source::MetaImage;
//! use vastgrid::{Extent, Region, TileSource};
//!
//! let folder = std::env::temp_dir().join(format!("vastgrid-doc-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! std::fs::write(folder.join("v.raw"), "voxels")?;
//! std::fs::write(folder.join("v.mhd"), "ObjectType = Image\nNDims = 3\nDimSize = 3 2 1\nElementType = MET_UCHAR\nElementDataFile = v.raw\n")?;
//!
//! let image = MetaImage::open(folder.join("v.mhd"))?;
//! assert_eq!(image.header().extent(), Extent::new(3, 2, 1));
//! let source = image.into_dataset()?.into_source::<u8>();
//! let mut out = [0; 6];
//! source.read(Region::whole(source.extent()), &mut out)?;
//! assert_eq!(&out, b"voxels");
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use super::inflate::{Compressed, inflate};
use super::peek::first_bytes;
use super::raw::{file_bytes, open_regular};
use super::{Dataset, RawSpec};
use crate::error::SourceError;

mod header;

pub use header::MetaImageHeader;

/// A MetaImage whose header has been read and whose data has been found.
#[derive(Debug)]
pub struct MetaImage {
    header: MetaImageHeader,
    file: File,
    path: PathBuf,
    /// Where the first volume begins, or the compressed data.
    offset_bytes: u64,
    time: u64,
}

impl MetaImage {
    /// Reads the header and finds the data, without reading any of it.
    ///
    /// A header names its data file, relative to itself or by an absolute path. **That name is followed wherever it leads**, upwards too: whoever opens headers of strangers should look at
    /// [`MetaImageHeader::data_file`] before showing the voxels to them. Only regular files are opened.
    ///
    /// # Errors
    /// * [`SourceError::Open`], [`SourceError::Read`]: the header's or the data's file.
    /// * [`SourceError::Header`]: a field that is missing, there twice, contradicts another, or holds what is not read; it names the field and its value.
    /// * [`SourceError::Unsupported`]: an element type that is not read (`long`, whose size depends on the machine, among them).
    /// * [`SourceError::Truncated`]: plain data that ends before the last voxel.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        let (header, data_at) = MetaImageHeader::parse(&first_bytes(&file, path, header::MAX_BYTES)?, path)?;
        let (file, path, begin_bytes) = match header.data_file() {
            Some(name) => {
                let path = path.parent().unwrap_or(Path::new("")).join(name);
                (open_regular(&path)?, path, 0)
            }
            None => (file, path.to_owned(), data_at),
        };
        let mut offset_bytes = begin_bytes;
        if !header.is_compressed() {
            let (actual_bytes, data_bytes) =
                (file_bytes(&file, &path)?, header.volume_bytes() * header.times());
            let first_bytes = begin_bytes.saturating_add(header.header_bytes.unwrap_or(0));
            let expected_bytes = first_bytes.saturating_add(data_bytes);
            if expected_bytes > actual_bytes {
                return Err(SourceError::Truncated { path, expected_bytes, actual_bytes });
            }
            let ends_with_it = header.header_bytes.is_none();
            offset_bytes = if ends_with_it { actual_bytes - data_bytes } else { first_bytes };
        }
        Ok(Self { header, file, path, offset_bytes, time: 0 })
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &MetaImageHeader {
        &self.header
    }

    /// Chooses the volume of another time than 0.
    ///
    /// # Errors
    /// [`SourceError::NoSuch`]: the file has no more than [`MetaImageHeader::times`].
    pub fn with_time(mut self, time: u64) -> Result<Self, SourceError> {
        let (location, count) = (self.path.display().to_string(), self.header.times());
        if time >= count {
            return Err(SourceError::NoSuch { location, what: "time point", index: time, count });
        }
        self.time = time;
        Ok(self)
    }

    /// The voxels of the volume chosen, of whatever type they are.
    ///
    /// **Cost**: nothing for plain data; see [`MetaImage::into_dataset_with`].
    ///
    /// # Errors
    /// Those of decompression: [`SourceError::Scratch`] where the temporary file has no space, [`SourceError::Truncated`] where the data is less than the header promises,
    /// [`SourceError::Read`] where it is damaged.
    pub fn into_dataset(self) -> Result<Dataset, SourceError> {
        self.into_dataset_with(|_, _| {})
    }

    /// The same, telling how far decompression is: `progress(bytes done, bytes in all)`, every 256 KiB or less. Plain data needs none and calls nothing.
    ///
    /// **Cost**: half a MiB of memory whatever the size; the temporary file takes the size of one volume, and no more whatever the compressed data holds.
    ///
    /// # Errors
    /// Those of [`MetaImage::into_dataset`].
    pub fn into_dataset_with(self, mut progress: impl FnMut(u64, u64)) -> Result<Dataset, SourceError> {
        let header = &self.header;
        let mut spec = RawSpec { endian: header.endian(), ..RawSpec::new(header.extent()) };
        let before_bytes = header.volume_bytes().saturating_mul(self.time);
        let file = if header.is_compressed() {
            let compressed = Compressed {
                file: &self.file,
                path: &self.path,
                offset_bytes: self.offset_bytes,
                or_zlib: true,
                skip_bytes: before_bytes,
                keep_bytes: header.volume_bytes(),
            };
            inflate(&compressed, &mut progress)?
        } else {
            spec.offset_bytes = self.offset_bytes.saturating_add(before_bytes);
            self.file
        };
        Dataset::from_raw_file(header.scalar_type(), file, self.path, spec)
    }
}
