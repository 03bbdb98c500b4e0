//! Owns [`Opened`]: what was found, and the way from there to sources. Each format's own part is below or in its file.

use std::fmt;
use std::path::Path;
#[cfg(any(feature = "nifti", feature = "nrrd"))]
use std::path::PathBuf;

use super::entry::{Entry, EntryKind};
use super::format::Format;
use super::selection::Selection;
use crate::error::{Error, SourceError};
use crate::pyramid::PyramidSource;
use crate::source::Dataset;
use crate::voxel::Scalar;

/// What was opened, and what is in it.
pub struct Opened {
    location: String,
    version: Option<String>,
    format: Format,
    entries: Vec<Entry>,
    inside: Inside,
}

/// What voxels come from. Files are opened again for each dataset.
enum Inside {
    #[cfg(feature = "nrrd")]
    Nrrd(PathBuf),
    #[cfg(feature = "nrrd")]
    MetaImage(PathBuf),
    #[cfg(feature = "nifti")]
    Nifti(PathBuf),
    #[cfg(feature = "tiff")]
    Tiff(crate::source::Tiff),
    #[cfg(feature = "zarr")]
    Zarr(super::zarr::ZarrInside),
}

impl Opened {
    /// A file of a format that is known.
    #[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff"))]
    pub(super) fn file(path: &Path, format: Format) -> Result<Self, SourceError> {
        let (entries, inside) = match format {
            #[cfg(feature = "nrrd")]
            Format::Nrrd => (vec![super::files::nrrd(path)?], Inside::Nrrd(path.to_owned())),
            #[cfg(feature = "nrrd")]
            Format::MetaImage => (vec![super::files::meta_image(path)?], Inside::MetaImage(path.to_owned())),
            #[cfg(feature = "nifti")]
            Format::Nifti => (vec![super::files::nifti(path)?], Inside::Nifti(path.to_owned())),
            #[cfg(feature = "tiff")]
            Format::Tiff => {
                let tiff = crate::source::Tiff::open(path)?;
                (super::files::tiff(&tiff), Inside::Tiff(tiff))
            }
            // With all features, only what a folder is.
            _ => return Err(needs_feature(path, format)),
        };
        Ok(Self { location: path.display().to_string(), version: None, format, entries, inside })
    }

    /// Says what is needed.
    #[cfg(not(any(feature = "nifti", feature = "nrrd", feature = "tiff")))]
    pub(super) fn file(path: &Path, format: Format) -> Result<Self, SourceError> {
        Err(needs_feature(path, format))
    }

    /// A folder of Zarr.
    #[cfg(feature = "zarr")]
    pub(super) fn zarr_folder(path: &Path) -> Result<Self, SourceError> {
        crate::source::Zarr::open(path).map(|zarr| Self::zarr(&zarr))
    }

    /// Says what is needed.
    #[cfg(not(feature = "zarr"))]
    pub(super) fn zarr_folder(path: &Path) -> Result<Self, SourceError> {
        Err(needs_feature(path, Format::Zarr))
    }

    /// A Zarr store, wherever it is.
    #[cfg(feature = "zarr")]
    pub(super) fn zarr(zarr: &crate::source::Zarr) -> Self {
        let location = zarr.name();
        let (entries, inside) = super::zarr::entries(zarr);
        // After all that was read.
        let version = zarr.version();
        Self { location, version, format: Format::Zarr, entries, inside: Inside::Zarr(inside) }
    }

    /// What was opened: the path of the file whose header was read, the folder, or the address.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The version of what is at an address, as its metadata tells it, for a [`ContentKey`](crate::source::ContentKey); `None` of files and folders, for which there is [`ContentKey::of_path`](crate::source::ContentKey::of_path).
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// What is in it. An array that cannot be read is among them, and says why when it is to be read; there may be none in an empty Zarr group.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that a selection means.
    ///
    /// # Errors
    /// [`SourceError::NoEntry`]: none of that name, or none at all; it tells those that there are.
    pub fn entry(&self, selection: &Selection) -> Result<&Entry, SourceError> {
        self.index(selection).map(|index| &self.entries[index])
    }

    fn index(&self, selection: &Selection) -> Result<usize, SourceError> {
        let index = if let Some(name) = &selection.entry {
            self.entries.iter().position(|entry| entry.name == *name)
        } else {
            let first = |kind| self.entries.iter().position(|entry| entry.kind == kind);
            [EntryKind::MultiResolution, EntryKind::Array, EntryKind::Labels].into_iter().find_map(first)
        };
        index.ok_or_else(|| SourceError::NoEntry {
            location: self.location.clone(),
            name: selection.entry.clone().unwrap_or_default(),
            names: self.entries.iter().take(20).map(|entry| entry.name.clone()).collect(),
        })
    }

    /// One volume, of whatever type it is.
    ///
    /// **Cost**: nothing is read; but a volume that can be read from its beginning only is decompressed into a temporary file ([`Opened::dataset_with`] tells how far that is).
    ///
    /// # Errors
    /// [`SourceError::NoEntry`], [`SourceError::NoSuch`]; those of the format; those of decompression.
    pub fn dataset(&self, selection: &Selection) -> Result<Dataset, SourceError> {
        self.dataset_with(selection, |_, _| {})
    }

    /// The same, telling how far decompression is: `progress(bytes done, bytes in all)`. What needs none calls nothing.
    ///
    /// # Errors
    /// As [`Opened::dataset`].
    pub fn dataset_with(
        &self,
        selection: &Selection,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Dataset, SourceError> {
        let index = self.index(selection)?;
        let progress: &mut dyn FnMut(u64, u64) = &mut progress;
        // Of the other formats nothing is decompressed as a whole.
        #[cfg(not(any(feature = "nifti", feature = "nrrd")))]
        let _ = progress;
        self.check(&self.entries[index], selection)?;
        match &self.inside {
            #[cfg(feature = "nrrd")]
            Inside::Nrrd(path) => crate::source::Nrrd::open(path)?.into_dataset_with(progress),
            #[cfg(feature = "nrrd")]
            Inside::MetaImage(path) => {
                crate::source::MetaImage::open(path)?.with_time(selection.time)?.into_dataset_with(progress)
            }
            #[cfg(feature = "nifti")]
            Inside::Nifti(path) => {
                let nifti = crate::source::Nifti::open(path)?.with_time(selection.time)?;
                nifti.with_channel(selection.channel)?.into_dataset_with(progress)
            }
            #[cfg(feature = "tiff")]
            Inside::Tiff(tiff) => tiff.dataset(index, selection.time, selection.channel),
            #[cfg(feature = "zarr")]
            Inside::Zarr(zarr) => zarr.dataset(index, selection),
        }
    }

    /// The levels that there are, of voxels of type `T` (converted where the file holds another). One where the format knows no more; [`PyramidSource::derive`] makes coarser ones of a volume.
    ///
    /// **Cost**: as [`Opened::dataset`].
    ///
    /// # Errors
    /// As [`Opened::dataset`], and [`PyramidError`](crate::PyramidError) where levels do not fit each other, or none can be read.
    pub fn pyramid<T: Scalar>(&self, selection: &Selection) -> Result<PyramidSource<T>, Error> {
        let index = self.index(selection)?;
        self.check(&self.entries[index], selection)?;
        #[cfg(feature = "zarr")]
        if let Inside::Zarr(zarr) = &self.inside
            && let Some(levels) = zarr.pyramid(index, selection)
        {
            return levels.map_err(Error::from);
        }
        let source = self.dataset(selection)?.into_source::<T>();
        let levels = PyramidSource::builder().level([1.0; 3], source);
        Ok(levels.spacing(self.entries[index].spacing).build()?)
    }

    /// Refuses what the entry does not have.
    fn check(&self, entry: &Entry, selection: &Selection) -> Result<(), SourceError> {
        let asked = [
            ("time point", selection.time, entry.times),
            ("channel", selection.channel, entry.channel_count),
            ("level", selection.level as u64, entry.levels.len() as u64),
        ];
        for (what, index, count) in asked {
            if index >= count {
                let location = format!("{} ({})", self.location, entry.name);
                return Err(SourceError::NoSuch { location, what, index, count });
            }
        }
        Ok(())
    }
}

fn needs_feature(path: &Path, format: Format) -> SourceError {
    SourceError::NeedsFeature {
        location: path.display().to_string(),
        format: format.name(),
        feature: format.feature(),
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("location", &self.location)
            .field("format", &self.format)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}
