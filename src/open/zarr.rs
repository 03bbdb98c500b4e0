//! Owns what a Zarr store says of its images and arrays, as [`Entry`]s, and the way from those to sources. Knows nothing of metadata.

use std::collections::HashSet;

use super::entry::{Entry, EntryAxis, EntryChannel, EntryKind};
use super::selection::Selection;
use crate::error::{PyramidError, SourceError};
use crate::geometry::Extent;
use crate::pyramid::PyramidSource;
use crate::source::{Dataset, Zarr, ZarrArray, ZarrImage, ZarrSelection, ZarrSlice};
use crate::voxel::Scalar;

/// The images and arrays, as the entries have them.
pub(super) struct ZarrInside {
    found: Vec<Found>,
}

enum Found {
    Image(ZarrImage),
    Array(ZarrArray, Dimensions),
}

/// Which dimensions of an array are times and channels.
#[derive(Clone, Copy, Default)]
struct Dimensions {
    time: Option<usize>,
    channel: Option<usize>,
}

/// Images first, then the arrays that are no image's level.
pub(super) fn entries(zarr: Zarr) -> (Vec<Entry>, ZarrInside) {
    let (mut entries, mut found) = (Vec::new(), Vec::new());
    let mut levels = HashSet::new();
    for image in zarr.images() {
        levels.extend(image.levels().iter().map(|level| level.path.clone()));
        entries.push(entry_of_image(image));
        found.push(Found::Image(image.clone()));
    }
    for array in zarr.arrays().iter().filter(|array| !levels.contains(array.path())) {
        let dimensions = Dimensions::of(array);
        entries.push(entry_of_array(array, dimensions));
        found.push(Found::Array(array.clone(), dimensions));
    }
    (entries, ZarrInside { found })
}

fn name_of(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

fn entry_of_image(image: &ZarrImage) -> Entry {
    let levels: Vec<_> = (0..image.levels().len()).map(|level| extent_of(image, level)).collect();
    let first = image.array(0).ok();
    let scalar_type = first.as_ref().and_then(ZarrArray::scalar_type);
    let mut entry = Entry::new(name_of(image.path()), Extent::default(), scalar_type);
    entry.title = image.name().map(str::to_owned);
    entry.kind = if image.is_label() { EntryKind::Labels } else { EntryKind::MultiResolution };
    entry.levels = levels;
    // Where level 0 cannot be read nobody knows: then whatever is asked for is left to the level to refuse.
    let unknown = if first.is_none() { u64::MAX } else { 1 };
    entry.times = image.times().unwrap_or(unknown);
    entry.channel_count = image.channel_count().unwrap_or(unknown);
    let shown = |c: &crate::source::ZarrChannel| EntryChannel {
        name: c.label.clone(),
        colour: c.color,
        window: c.window.map(|[low, high]| (low, high)),
    };
    entry.channels = image.channels().iter().map(shown).collect();
    (entry.spacing, entry.origin) = (image.spacing(), image.origin());
    entry.units = image.units().map(|unit| unit.map(str::to_owned));
    let sizes = first.as_ref().map_or(&[][..], ZarrArray::shape);
    let axes = image.axes().iter().enumerate();
    entry.axes = axes
        .map(|(axis, text)| EntryAxis {
            name: text.name.clone(),
            unit: text.unit.clone(),
            size: sizes.get(axis).copied().unwrap_or(0),
        })
        .collect();
    let time = image.axes().iter().position(|axis| axis.kind.as_deref() == Some("time"));
    let step = time.and_then(|axis| image.levels().first()?.scale.get(axis).copied());
    entry.time_step = step.filter(|step| step.is_finite() && *step > 0.0);
    entry
}

/// Size of a level as a volume; empty where it cannot be read.
fn extent_of(image: &ZarrImage, level: usize) -> Extent {
    image.level(level, &ZarrSelection::default()).map_or(Extent::default(), |dataset| dataset.extent())
}

fn entry_of_array(array: &ZarrArray, dimensions: Dimensions) -> Entry {
    let shape = array.shape();
    let slice = ZarrSlice::last(shape.len());
    let size = |axis: Option<usize>| axis.and_then(|axis| shape.get(axis).copied()).unwrap_or(1);
    let extent = Extent::new(size(Some(slice.x)), size(slice.y), size(slice.z));
    let mut entry = Entry::new(name_of(array.path()), extent, array.scalar_type());
    (entry.times, entry.channel_count) = (size(dimensions.time), size(dimensions.channel));
    let names = array.dimension_names();
    let axis = |(axis, size): (usize, &u64)| EntryAxis {
        name: names
            .get(axis)
            .cloned()
            .flatten()
            .unwrap_or_else(|| default_name(axis, shape.len(), dimensions)),
        unit: None,
        size: *size,
    };
    entry.axes = shape.iter().enumerate().map(axis).collect();
    entry
}

fn default_name(axis: usize, count: usize, dimensions: Dimensions) -> String {
    match axis {
        _ if dimensions.time == Some(axis) => "t".into(),
        _ if dimensions.channel == Some(axis) => "c".into(),
        _ if axis + 3 >= count => ["z", "y", "x"][(axis + 3 - count).min(2)].into(),
        _ => format!("dimension {axis}"),
    }
}

impl Dimensions {
    /// By name, or where there are none t, c, z, y, x from the last on.
    fn of(array: &ZarrArray) -> Self {
        let before_space = array.shape().len().saturating_sub(3);
        let names = array.dimension_names();
        let named = |short: &str, long: &str| {
            let is = |name: &str| name.eq_ignore_ascii_case(short) || name.eq_ignore_ascii_case(long);
            names.iter().take(before_space).position(|name| name.as_deref().is_some_and(is))
        };
        if names.iter().any(Option::is_some) {
            return Self { time: named("t", "time"), channel: named("c", "channel") };
        }
        Self { time: before_space.checked_sub(2), channel: before_space.checked_sub(1) }
    }
}

fn of_zarr(selection: &Selection) -> ZarrSelection {
    ZarrSelection { time: selection.time, channel: selection.channel, ..ZarrSelection::default() }
}

impl ZarrInside {
    /// One level of an image, or an array.
    pub(super) fn dataset(&self, index: usize, selection: &Selection) -> Result<Dataset, SourceError> {
        match &self.found[index] {
            Found::Image(image) => image.level(selection.level, &of_zarr(selection)),
            Found::Array(array, dimensions) => {
                let mut slice = ZarrSlice::last(array.shape().len());
                let chosen = [(dimensions.time, selection.time), (dimensions.channel, selection.channel)];
                for (dimension, at) in chosen {
                    if let Some(dimension) = dimension {
                        slice = slice.with_index(dimension, at);
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
