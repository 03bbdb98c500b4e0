//! Owns what files of each format say of their volumes, as [`Entry`]s. Knows nothing of voxels.

#[cfg(any(feature = "nifti", feature = "nrrd"))]
use std::path::Path;

use super::entry::Entry;
#[cfg(any(feature = "nifti", feature = "tiff"))]
use super::entry::EntryChannel;
#[cfg(any(feature = "nifti", feature = "nrrd"))]
use super::space::EntrySpace;
#[cfg(any(feature = "nifti", feature = "nrrd"))]
use crate::error::SourceError;

/// The one volume of a NRRD file.
#[cfg(feature = "nrrd")]
pub(super) fn nrrd(path: &Path) -> Result<Entry, SourceError> {
    let nrrd = crate::source::Nrrd::open(path)?;
    let header = nrrd.header();
    let mut entry = Entry::new("0", header.extent(), Some(header.scalar_type()));
    entry.title = header.field("content").map(str::to_owned);
    entry.spacing = header.spacing();
    entry.units = header.units().map(|unit| unit.map(str::to_owned));
    let three = |vector: &[f64]| <[f64; 3]>::try_from(vector).ok().filter(finite);
    let origin = header.space_origin().and_then(three);
    entry.origin = origin.unwrap_or_default();
    if let [Some(x), Some(y), Some(z)] = header.space_directions().map(|direction| direction.and_then(three))
    {
        let at = entry.origin;
        entry.to_space = Some([0, 1, 2].map(|row| [x[row], y[row], z[row], at[row]]));
        entry.space = header.space().map(EntrySpace::of_name);
    }
    Ok(entry.with_axes())
}

/// The one volume of a MetaImage, at its times.
#[cfg(feature = "nrrd")]
pub(super) fn meta_image(path: &Path) -> Result<Entry, SourceError> {
    let image = crate::source::MetaImage::open(path)?;
    let header = image.header();
    let mut entry = Entry::new("0", header.extent(), Some(header.scalar_type()));
    entry.times = header.times();
    entry.time_step = header.time_step().filter(|_| header.times() > 1);
    entry.spacing = header.spacing();
    entry.units = [(); 3].map(|()| Some(header.unit().to_owned()));
    entry.origin = header.offset().filter(finite).unwrap_or_default();
    if let Some(axes) = header.transform().filter(|axes| axes.iter().all(finite)) {
        // Each row of the matrix is the direction of an axis.
        let (spacing, at) = (entry.spacing, entry.origin);
        let column = |axis: usize, row: usize| axes[axis][row] * spacing[axis];
        entry.to_space = Some([0, 1, 2].map(|row| [column(0, row), column(1, row), column(2, row), at[row]]));
        // By convention: the format's field of that purpose says how voxels go, not what the space is.
        entry.space = Some(EntrySpace::LeftPosteriorSuperior);
    }
    Ok(entry.with_axes())
}

#[cfg(feature = "nrrd")]
fn finite(vector: &[f64; 3]) -> bool {
    vector.iter().all(|n| n.is_finite())
}

/// The volumes of a NIfTI file, which are one entry.
#[cfg(feature = "nifti")]
pub(super) fn nifti(path: &Path) -> Result<Entry, SourceError> {
    let nifti = crate::source::Nifti::open(path)?;
    let header = nifti.header();
    let mut entry = Entry::new("0", header.extent(), Some(header.scalar_type()));
    entry.title = Some(header.description().to_owned()).filter(|text| !text.is_empty());
    (entry.times, entry.channel_count) = (header.times(), header.channels());
    entry.time_step = header.time_step().filter(|_| header.times() > 1);
    entry.time_unit = header.time_unit().map(str::to_owned);
    entry.spacing = header.spacing();
    entry.units = [const { None }; 3].map(|_: Option<String>| header.space_unit().map(str::to_owned));
    entry.to_space = header.to_space();
    entry.space = entry.to_space.map(|_| EntrySpace::RightAnteriorSuperior);
    entry.origin = entry.to_space.map_or([0.0; 3], |rows| rows.map(|row| row[3]));
    if let Some(window) = header.window() {
        entry.channels = vec![EntryChannel { window: Some(window), ..EntryChannel::default() }];
    }
    Ok(entry.with_axes())
}

/// The images of a TIFF file.
#[cfg(feature = "tiff")]
pub(super) fn tiff(tiff: &crate::source::Tiff) -> Vec<Entry> {
    let of = |(index, image): (usize, &crate::source::TiffImage)| {
        let mut entry = Entry::new(index.to_string(), image.extent(), image.scalar_type());
        (entry.times, entry.channel_count) = (image.times(), image.channels());
        entry.time_step = image.time_step();
        entry.time_unit = image.time_unit().map(str::to_owned);
        entry.spacing = image.spacing();
        entry.units = image.units().map(|unit| unit.map(str::to_owned));
        let described = (0..image.channels()).map_while(|channel| image.channel(channel));
        entry.channels = described
            .map(|c| EntryChannel { name: c.name.clone(), colour: c.colour, window: image.window() })
            .collect();
        if entry.channels.is_empty() && image.window().is_some() {
            entry.channels = vec![EntryChannel { window: image.window(), ..EntryChannel::default() }];
        }
        entry.with_axes()
    };
    tiff.images().iter().enumerate().map(of).collect()
}
