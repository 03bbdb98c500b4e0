//! Owns [`TiffImage`]: a volume that a file's pages make, in space, time and channels, and where its voxels lie. Knows nothing of how they are read.

use super::chain::{Group, MOST_PAGES, Resolution};
use super::file::TiffFile;
use super::imagej::ImageJ;
use super::layout::{Layout, compression_name};
use super::ome::Ome;
use super::tags;
use crate::error::SourceError;
use crate::geometry::Extent;
use crate::voxel::ScalarType;

/// A volume of a TIFF file: pages that are alike.
///
/// **Shape**: pages are z, unless the file says that they are channels or points in time (as `ImageJ` and OME do). Several samples a pixel are channels.
#[derive(Clone, Debug)]
pub struct TiffImage {
    pub(super) layout: Layout,
    slices: u64,
    times: u64,
    /// Those that have pages of their own.
    page_channels: u64,
    /// The page of each plane: z fastest, then channels, then time.
    planes: Vec<u64>,
    pub(super) without_directories: bool,
    spacing: [f64; 3],
    units: [Option<String>; 3],
    time_step: Option<f64>,
    time_unit: Option<String>,
    window: Option<(f64, f64)>,
    channels: Vec<TiffChannel>,
}

/// What the file says of a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TiffChannel {
    /// Its name.
    pub name: Option<String>,
    /// Its colour: red, green, blue.
    pub colour: Option<[u8; 3]>,
}

impl TiffImage {
    /// Size of one volume in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        Extent::new(self.layout.width, self.layout.height, self.slices)
    }

    /// Volumes in time.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.times
    }

    /// Channels: those with pages of their own, times the samples of a pixel.
    #[must_use]
    pub fn channels(&self) -> u64 {
        self.page_channels * self.layout.samples
    }

    /// Type of the voxels; `None` where it is one that is not read.
    #[must_use]
    pub fn scalar_type(&self) -> Option<ScalarType> {
        self.layout.scalar_type()
    }

    /// Distance between neighbouring voxels along x, y and z. What the file does not say is 1, as `ImageJ` has it; but where nobody says what pages are, which have no place for it, their distance is that of pixels along x.
    ///
    /// **Units**: [`TiffImage::units`].
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// What the spacing is measured in along x, y and z, such as `um` or `mm`, where the file says. Sizes that OME-XML has in several units are converted to that of the first axis, where it is known how.
    #[must_use]
    pub fn units(&self) -> [Option<&str>; 3] {
        self.units.each_ref().map(Option::as_deref)
    }

    /// The same, where all axes of which the file says it have one.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        let first = self.units.iter().flatten().next()?;
        self.units.iter().flatten().all(|unit| unit == first).then_some(first)
    }

    /// Distance of volumes in time, where the file says.
    #[must_use]
    pub fn time_step(&self) -> Option<f64> {
        self.time_step
    }

    /// What that is measured in, such as `s`; `None` without a distance.
    #[must_use]
    pub fn time_unit(&self) -> Option<&str> {
        self.time_unit.as_deref()
    }

    /// Least and greatest value to display, where the file says.
    #[must_use]
    pub fn window(&self) -> Option<(f64, f64)> {
        self.window
    }

    /// Names and colours of the channels, as far as the file has them.
    #[must_use]
    pub fn channel(&self, channel: u64) -> Option<&TiffChannel> {
        self.channels.get(usize::try_from(channel).ok()?)
    }

    /// How its strips or tiles are compressed, such as `none` or `deflate`.
    #[must_use]
    pub fn compression(&self) -> String {
        compression_name(self.layout.compression)
    }

    /// Whether the file says that this is a smaller copy of another of its images.
    #[must_use]
    pub fn is_reduced(&self) -> bool {
        self.layout.reduced
    }

    /// The pages of one volume, and which of the samples of a pixel is its voxel.
    pub(super) fn volume(&self, time: u64, channel: u64) -> (Vec<u64>, u64) {
        let (page_channel, sample) = (channel / self.layout.samples, channel % self.layout.samples);
        let first = (time * self.page_channels + page_channel) * self.slices;
        let range =
            usize::try_from(first).unwrap_or(usize::MAX)..usize::try_from(first + self.slices).unwrap_or(0);
        (self.planes.get(range).unwrap_or_default().to_vec(), sample)
    }

    /// Pages as z, and nothing else known.
    pub(super) fn plain(group: Group) -> Self {
        let (spacing, unit) = spacing_of(group.resolution);
        Self {
            layout: group.layout,
            slices: group.pages.len() as u64,
            times: 1,
            page_channels: 1,
            planes: group.pages,
            without_directories: false,
            spacing,
            units: [unit.clone(), unit.clone(), unit],
            time_step: None,
            time_unit: None,
            window: None,
            channels: Vec::new(),
        }
    }

    /// The same pages as OME-XML has them.
    ///
    /// # Errors
    /// The reason why these cannot be those pages.
    pub(super) fn arranged_by_ome(&mut self, ome: Ome) -> Result<(), String> {
        let Layout { samples, width, height, .. } = self.layout;
        if ome.size[..2] != [width, height] {
            let [x, y, _] = ome.size;
            return Err(format!("planes are {x} x {y}, and pages {width} x {height}"));
        }
        if !ome.channels.is_multiple_of(samples) {
            return Err(format!("there are {} channels, and {samples} samples a pixel", ome.channels));
        }
        let channels = ome.channels / samples;
        let order = ome.pages(self.planes.len() as u64, channels)?;
        let page = |n: u64| usize::try_from(n).ok().and_then(|n| self.planes.get(n)).copied();
        // All are among them.
        self.planes = order.into_iter().filter_map(page).collect();
        (self.slices, self.times, self.page_channels) = (ome.size[2], ome.times, channels);
        self.spacing = ome.spacing.map(|s| s.unwrap_or(1.0));
        self.units = ome.units;
        (self.time_step, self.time_unit) = (ome.time_step, ome.time_unit);
        self.channels =
            ome.channel.into_iter().map(|c| TiffChannel { name: c.name, colour: c.colour }).collect();
        Ok(())
    }

    /// The same pages as `ImageJ` has them, and those of large stacks, which have no directories: their samples go on behind those of the first page.
    ///
    /// # Errors
    /// [`SourceError::Truncated`]: the file ends before the last of them.
    pub(super) fn arranged_by_imagej(
        &mut self,
        imagej: &ImageJ,
        tiff: &TiffFile,
        resolution: Resolution,
    ) -> Result<(), SourceError> {
        if let [first_page] = self.planes[..]
            && imagej.images > 1
            && !self.layout.is_compressed()
            && !self.layout.planar
            && let Some(page_bytes) = self.layout.page_bytes()
            && let Some(offset_bytes) = contiguous_from(tiff, &self.layout, first_page)?
        {
            if imagej.images > MOST_PAGES as u64 {
                return Err(tiff.unsupported("more pages than", MOST_PAGES.to_string()));
            }
            tiff.check_inside(offset_bytes, page_bytes.saturating_mul(imagej.images))?;
            self.planes = (0..imagej.images).map(|n| offset_bytes + n * page_bytes).collect();
            self.without_directories = true;
        }
        let [channels, slices, frames] = imagej.shape(self.planes.len() as u64);
        let mut planes = Vec::with_capacity(self.planes.len());
        for t in 0..frames {
            for c in 0..channels {
                for z in 0..slices {
                    let page = usize::try_from(c + channels * (z + slices * t)).unwrap_or(usize::MAX);
                    planes.extend(self.planes.get(page).copied());
                }
            }
        }
        self.planes = planes;
        (self.slices, self.times, self.page_channels) = (slices, frames, channels);
        let along = |pixels: Option<f64>| pixels.map_or(1.0, f64::recip);
        let [x, y] = [along(positive(resolution.x)), along(positive(resolution.y))];
        self.spacing = [x, y, imagej.spacing.unwrap_or(1.0)];
        self.units = [(); 3].map(|()| imagej.unit.clone());
        self.time_step = imagej.time_step;
        self.time_unit = imagej.time_step.map(|_| imagej.time_unit.clone());
        self.window = imagej.window;
        Ok(())
    }
}

/// Where the samples of a page begin, if they lie in one piece.
fn contiguous_from(tiff: &TiffFile, layout: &Layout, page: u64) -> Result<Option<u64>, SourceError> {
    let directory = tiff.directory(page)?;
    if layout.tiled {
        return Ok(None);
    }
    let offsets = tiff.list(&directory, tags::STRIP_OFFSETS, layout.chunk_count())?.unwrap_or_default();
    let strip_bytes = layout.chunk_bytes().unwrap_or(u64::MAX);
    let together = offsets.windows(2).all(|pair| pair[0].checked_add(strip_bytes) == Some(pair[1]));
    Ok(offsets.first().copied().filter(|first| *first > 0 && together))
}

fn positive(number: Option<f64>) -> Option<f64> {
    number.filter(|n| n.is_finite() && *n > 0.0)
}

/// Spacing and unit of pages of which nothing is known but their resolution.
fn spacing_of(resolution: Resolution) -> ([f64; 3], Option<String>) {
    let (Some(x), Some(y)) = (positive(resolution.x), positive(resolution.y)) else {
        return ([1.0; 3], None);
    };
    // Programs that know no resolution write 1.
    if (x, y) == (1.0, 1.0) {
        return ([1.0; 3], None);
    }
    let (length, unit) = match resolution.unit {
        2 => (25.4, Some("mm".to_owned())),
        3 => (10.0, Some("mm".to_owned())),
        _ => (1.0, None),
    };
    ([length / x, length / y, length / x], unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_become_spacings() {
        let of = |x, y, unit| spacing_of(Resolution { x, y, unit });
        let mm = || Some("mm".to_owned());
        assert_eq!(of(Some(25.4), Some(12.7), 2), ([1.0, 2.0, 1.0], mm()));
        assert_eq!(of(Some(100.0), Some(50.0), 3), ([0.1, 0.2, 0.1], mm()));
        assert_eq!(of(Some(4.0), Some(2.0), 1), ([0.25, 0.5, 0.25], None));
        for none in [of(None, Some(2.0), 2), of(Some(1.0), Some(1.0), 2), of(Some(0.0), Some(f64::NAN), 3)] {
            assert_eq!(none, ([1.0; 3], None));
        }
    }
}
