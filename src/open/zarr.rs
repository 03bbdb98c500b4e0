//! Owns what a Zarr store says of its images and arrays, as [`Entry`]s, and the way from those to sources. Knows nothing of metadata.

use std::collections::HashSet;
use std::sync::Arc;

use super::dimensions::Dimensions;
use super::entry::{Entry, EntryAxis, EntryChannel, EntryKind};
use super::selection::Selection;
use crate::error::{PyramidError, SourceError};
use crate::geometry::Extent;
use crate::pyramid::PyramidSource;
use crate::source::{Dataset, Zarr, ZarrArray, ZarrImage, ZarrSelection};
use crate::voxel::Scalar;

/// The images and arrays, as the entries have them.
#[derive(Default)]
pub(super) struct ZarrInside {
    found: Vec<Found>,
}

enum Found {
    Image(ZarrImage),
    Array(ZarrArray, Dimensions),
}

/// What is in a store.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) entries: Vec<Entry>,
    /// What there is, but cannot be read: names, and why.
    pub(super) skipped: Vec<(String, Arc<SourceError>)>,
    pub(super) inside: ZarrInside,
}

impl Listed {
    /// Images first, then the arrays that are no image's level.
    pub(super) fn of(zarr: &Zarr) -> Self {
        let mut listed = Self::default();
        let skipped = zarr.skipped().iter();
        listed.skipped = skipped.map(|(path, error)| (name_of(path), error.clone())).collect();
        let mut levels = HashSet::new();
        for image in zarr.images() {
            match image.first_array() {
                Ok(first) => {
                    levels.extend(image.levels().iter().map(|level| level.path.clone()));
                    listed.push(entry_of_image(image, &first), Found::Image(image.clone()));
                }
                Err(error) => listed.skipped.push((name_of(image.path()), Arc::new(error))),
            }
        }
        for array in zarr.arrays().iter().filter(|array| !levels.contains(array.path())) {
            let dimensions = Dimensions::of(array.dimension_names(), array.shape().len());
            listed.push(entry_of_array(array, &dimensions), Found::Array(array.clone(), dimensions));
        }
        listed
    }

    /// A group may have several images, and each is chosen by its name.
    fn push(&mut self, mut entry: Entry, found: Found) {
        let name = entry.name.clone();
        let mut nth = 0;
        while self.entries.iter().any(|other| other.name == entry.name) {
            nth += 1;
            entry.name = format!("{name}#{nth}");
        }
        self.entries.push(entry);
        self.inside.found.push(found);
    }
}

fn name_of(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// `first` is the finest level that has an array: the finest of all may be missing.
fn entry_of_image(image: &ZarrImage, first: &ZarrArray) -> Entry {
    let levels: Vec<_> = (0..image.levels().len()).map(|level| extent_of(image, level)).collect();
    let mut entry = Entry::new(name_of(image.path()), Extent::default(), first.scalar_type());
    entry.title = image.name().map(str::to_owned);
    entry.kind = if image.is_label() { EntryKind::Labels } else { EntryKind::MultiResolution };
    entry.levels = levels;
    entry.times = image.times().unwrap_or(1);
    entry.channel_count = image.channel_count().unwrap_or(1);
    let shown = |c: &crate::source::ZarrChannel| EntryChannel {
        name: c.label.clone(),
        colour: c.color,
        window: c.window.map(|[low, high]| (low, high)),
    };
    entry.channels = image.channels().iter().map(shown).collect();
    (entry.spacing, entry.origin) = (image.spacing(), image.origin());
    entry.units = image.units().map(|unit| unit.map(str::to_owned));
    let is_finest = image.levels().first().is_some_and(|level| level.path == first.path());
    let is_space = |kind: Option<&str>, name: &str| kind.map_or("xyz".contains(name), |kind| kind == "space");
    let axes = image.axes().iter().enumerate();
    entry.axes = axes
        .map(|(axis, text)| EntryAxis {
            name: text.name.clone(),
            unit: text.unit.clone(),
            // Of a level that is missing the sizes in space are not known.
            size: if is_finest || !is_space(text.kind.as_deref(), &text.name) {
                first.shape().get(axis).copied().unwrap_or(0)
            } else {
                0
            },
        })
        .collect();
    let time = image.axes().iter().position(|axis| axis.kind.as_deref() == Some("time"));
    let step = time.and_then(|axis| image.levels().first()?.scale.get(axis).copied());
    entry.time_step = step.filter(|step| step.is_finite() && *step > 0.0);
    entry.time_unit = time.and_then(|axis| image.axes()[axis].unit.clone());
    entry
}

/// Size of a level as a volume; empty where it cannot be read.
fn extent_of(image: &ZarrImage, level: usize) -> Extent {
    image.level(level, &ZarrSelection::default()).map_or(Extent::default(), |dataset| dataset.extent())
}

fn entry_of_array(array: &ZarrArray, dimensions: &Dimensions) -> Entry {
    let shape = array.shape();
    let size = |axis: Option<usize>| axis.and_then(|axis| shape.get(axis).copied()).unwrap_or(1);
    let extent = Extent::new(size(Some(dimensions.x)), size(dimensions.y), size(dimensions.z));
    let mut entry = Entry::new(name_of(array.path()), extent, array.scalar_type());
    (entry.times, entry.channel_count) = (size(dimensions.time), size(dimensions.channel));
    let names = array.dimension_names();
    let axis = |(axis, size): (usize, &u64)| EntryAxis {
        name: names.get(axis).cloned().flatten().unwrap_or_else(|| dimensions.default_name(axis)),
        unit: None,
        size: *size,
    };
    entry.axes = shape.iter().enumerate().map(axis).collect();
    entry
}

fn of_zarr(selection: &Selection) -> ZarrSelection {
    let Selection { time, channel, others, .. } = selection;
    ZarrSelection { time: *time, channel: *channel, others: others.clone() }
}

impl ZarrInside {
    /// One level of an image, or an array, whose axes `entry` has.
    pub(super) fn dataset(
        &self,
        index: usize,
        entry: &Entry,
        selection: &Selection,
    ) -> Result<Dataset, SourceError> {
        match &self.found[index] {
            Found::Image(image) => image.level(selection.level, &of_zarr(selection)),
            Found::Array(array, dimensions) => {
                let mut slice = dimensions.slice();
                let chosen = [(dimensions.time, selection.time), (dimensions.channel, selection.channel)];
                for (dimension, at) in chosen {
                    if let Some(dimension) = dimension {
                        slice = slice.with_index(dimension, at);
                    }
                }
                for (name, at) in &selection.others {
                    if let Some(dimension) = entry.axes.iter().position(|axis| axis.name == *name) {
                        slice = slice.with_index(dimension, *at);
                    }
                }
                array.dataset(&slice)
            }
        }
    }

    /// All levels of an image; `None` for an array.
    pub(super) fn pyramid<T: Scalar>(
        &self,
        index: usize,
        selection: &Selection,
    ) -> Option<Result<PyramidSource<T>, PyramidError>> {
        match &self.found[index] {
            Found::Image(image) => Some(PyramidSource::from_zarr(image, &of_zarr(selection))),
            Found::Array(..) => None,
        }
    }
}
