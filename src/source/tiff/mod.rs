//! Owns [`Tiff`]: reading volumes out of the pages of TIFF files. Knows nothing of tiles in memory.
//!
//! Classic and big files of both byte orders; strips and tiles; one or several samples a pixel, together or apart; without compression (read in place) or with deflate, LZW, zstd, `PackBits` and, for single
//! samples of 8 bits, JPEG (decoded by the crate `tiff`). Directories are read here, within bounds: pages are found once, and where their chunks are when a page is first read.
//!
//! ```no_run
//! use vastgrid::source::Tiff;
//!
//! let tiff = Tiff::open("embryo.ome.tif")?;
//! for image in tiff.images() {
//!     println!("{} voxels of {:?} {:?}, {} channels", image.extent(), image.spacing(), image.unit(), image.channels());
//! }
//! let source = tiff.dataset(0, 0, 1)?.into_source::<u16>(); // of the first image: time 0, channel 1
//! # Ok::<(), vastgrid::SourceError>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use super::chunked::Chunked;
use super::dataset::Make;
use super::{BoxedSource, Dataset};
use crate::error::SourceError;
use crate::voxel::Scalar;

mod chain;
mod chunks;
mod file;
mod image;
mod imagej;
mod jpeg;
mod layout;
mod ome;
mod pages;
mod table;
mod tags;
mod units;
mod xml;

use chunks::TiffChunks;
use file::TiffFile;
pub use image::{TiffChannel, TiffImage};
use imagej::ImageJ;
use ome::Ome;
use pages::{Pages, RawPages};
use table::Tables;

/// The most bytes of a description that are read.
const DESCRIPTION_BYTES: u64 = 64 << 20;

/// More than any of the compressions can do: what a chunk would need that is larger than this many times the file is not there.
const MOST_COMPRESSED: u64 = 1 << 16;

/// A TIFF file whose pages have been found.
#[derive(Debug)]
pub struct Tiff {
    file: Arc<TiffFile>,
    images: Vec<TiffImage>,
    description: Vec<u8>,
}

impl Tiff {
    /// Finds all pages, and what the file says of their order.
    ///
    /// **Cost**: one read of 512 bytes for each page. Memory: 16 bytes a page.
    ///
    /// # Errors
    /// * [`SourceError::Open`], [`SourceError::Read`]: the file.
    /// * [`SourceError::Header`]: no TIFF file, a tag whose value cannot be, or a chain of directories that goes in circles.
    /// * [`SourceError::Truncated`]: a directory or a value that lies beyond the file's end.
    /// * [`SourceError::Unsupported`]: more than 2^20 pages, or samples of different kinds in one page; OME-XML that says of planes what these pages cannot be, such as that some are in other files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::arranged(path.as_ref(), true)
    }

    /// The same, but pages are z whatever the file says of their order: for files whose description does not fit them, or is of a set that they are one of.
    ///
    /// # Errors
    /// As [`Tiff::open`], but for those of descriptions.
    pub fn open_pages(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::arranged(path.as_ref(), false)
    }

    fn arranged(path: &Path, as_described: bool) -> Result<Self, SourceError> {
        let file = TiffFile::open(path)?;
        let groups = chain::groups(&file)?;
        let directory = file.directory(file.first_directory)?;
        let description = file.text(&directory, tags::DESCRIPTION, DESCRIPTION_BYTES)?;
        let description = description.split(|&b| b == 0).next().unwrap_or_default().to_vec();
        let resolution = groups.first().map(|group| group.resolution).unwrap_or_default();
        let mut images: Vec<_> = groups.into_iter().map(TiffImage::plain).collect();
        // Both describe the image of the first page.
        if let Some(first) = images.first_mut().filter(|_| as_described) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let unfit = |reason| file.unsupported("OME-XML that says", reason);
            if let Some(ome) = Ome::parse(&description, &name).map_err(unfit)? {
                first.arranged_by_ome(ome).map_err(unfit)?;
            } else if let Some(imagej) = ImageJ::parse(&description) {
                first.arranged_by_imagej(&imagej, &file, resolution)?;
            }
        }
        Ok(Self { file: Arc::new(file), images, description })
    }

    /// The volumes: pages that are alike are one. In the order of their first pages; never empty.
    #[must_use]
    pub fn images(&self) -> &[TiffImage] {
        &self.images
    }

    /// The first page's description: whatever text its writer left, such as OME-XML.
    #[must_use]
    pub fn description(&self) -> &[u8] {
        &self.description
    }

    /// The voxels of one image at one time and of one channel, as they are stored (colours, palettes and "white is zero" are not applied).
    ///
    /// # Errors
    /// * [`SourceError::NoSuch`]: no such image, time or channel.
    /// * [`SourceError::Unsupported`]: a compression or a kind of samples that is not read, by name; or strips or tiles of more than 1 GiB that would have to be decoded as a whole.
    pub fn dataset(&self, image: usize, time: u64, channel: u64) -> Result<Dataset, SourceError> {
        let no_such = |what, index, count| SourceError::NoSuch {
            location: self.file.path.display().to_string(),
            what,
            index,
            count,
        };
        let count = self.images.len() as u64;
        let found = self.images.get(image).ok_or_else(|| no_such("image", image as u64, count))?;
        if time >= found.times() {
            return Err(no_such("time point", time, found.times()));
        }
        if channel >= found.channels() {
            return Err(no_such("channel", channel, found.channels()));
        }
        let (layout, file) = (found.layout, &self.file);
        let scalar_type = layout.check(file)?;
        let chunk_bytes = layout.chunk_bytes().unwrap_or(u64::MAX);
        if layout.is_compressed() && chunk_bytes / MOST_COMPRESSED > file.bytes {
            let shape = format!("{} x {}", layout.chunk_width, layout.chunk_height);
            return Err(file.bad(
                "strip or tile",
                shape,
                "larger than the file could hold in any compression",
            ));
        }
        let (planes, sample) = found.volume(time, channel);
        let tables = Arc::new(Tables::new(file.clone(), layout));
        let without_directories = found.without_directories;
        Dataset::make(scalar_type, &file.path, Pages { tables, planes, without_directories, sample })
    }
}

impl Make for Pages {
    fn make<T: Scalar>(self) -> Result<BoxedSource<T>, SourceError> {
        if self.layout().is_compressed() {
            return Ok(Box::new(Chunked::<T, _>::new(TiffChunks::new(self))?));
        }
        Ok(Box::new(RawPages::new(self)))
    }
}
