//! Owns [`Format`]: what can be recognised, what it is called, and which feature reads it. Knows nothing of how it is recognised.

use std::fmt;

/// A format of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// "Nearly raw raster data".
    Nrrd,
    /// Raw voxels with a small text header.
    MetaImage,
    /// Of the Neuroimaging Informatics Technology Initiative, version 1 or 2.
    Nifti,
    /// Pages of a TIFF file.
    Tiff,
    /// Zarr, version 2 or 3, with OME-Zarr images or without.
    Zarr,
}

impl Format {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nrrd => "NRRD",
            Self::MetaImage => "MetaImage",
            Self::Nifti => "NIfTI",
            Self::Tiff => "TIFF",
            Self::Zarr => "Zarr",
        }
    }

    /// The feature of this crate that reads it.
    #[must_use]
    pub fn feature(self) -> &'static str {
        match self {
            Self::Nrrd | Self::MetaImage => "nrrd",
            Self::Nifti => "nifti",
            Self::Tiff => "tiff",
            Self::Zarr => "zarr",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
