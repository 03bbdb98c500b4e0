//! Owns [`ZarrImage`]: an OME-Zarr image, its levels as volumes, and where and how they are shown. Knows nothing of pyramids.

use std::fmt;
use std::sync::Arc;

use super::array::ZarrArray;
use super::ome::{ImageText, ZarrAxis, ZarrChannel, ZarrLevel};
use super::slice::ZarrSlice;
use super::store::Store;
use crate::error::SourceError;
use crate::source::Dataset;
use crate::source::chunked::KEPT_BYTES;

/// Which of an image's volumes is read, where it has several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZarrSelection {
    /// Place along the axis of time, if there is one.
    pub time: u64,
    /// Place along the axis of channels, if there is one.
    pub channel: u64,
    /// Places along other axes, by name; those that are not in it are at 0.
    pub others: Vec<(String, u64)>,
}

/// An OME-Zarr image: the same volume in several resolutions. Cheap to clone.
///
/// **Units**: spacing and origin are in what [`ZarrImage::units`] names.
#[derive(Clone)]
pub struct ZarrImage {
    store: Arc<Store>,
    path: String,
    text: Arc<ImageText>,
    axes: Arc<[ZarrAxis]>,
    kept_bytes: u64,
}

impl ZarrImage {
    /// `dimensions`: of the array of a level, for versions that name no axes.
    pub(super) fn new(store: Arc<Store>, path: String, text: ImageText, dimensions: usize) -> Self {
        let axes = if text.axes.is_empty() { default_axes(dimensions) } else { text.axes.clone() };
        Self { store, path, text: Arc::new(text), axes: axes.into(), kept_bytes: KEPT_BYTES }
    }

    /// Place of its group in the store; empty where the store is the image.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its name, where the file has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text.name.as_deref()
    }

    /// Version of OME-Zarr, such as `0.5`, where the file says.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.text.version.as_deref()
    }

    /// Whether its voxels are labels of another image's.
    #[must_use]
    pub fn is_label(&self) -> bool {
        self.text.is_label
    }

    /// The axes, in the order of its arrays' dimensions.
    #[must_use]
    pub fn axes(&self) -> &[ZarrAxis] {
        &self.axes
    }

    /// The resolutions, from finest to coarsest.
    #[must_use]
    pub fn levels(&self) -> &[ZarrLevel] {
        &self.text.levels
    }

    /// How the channels are shown, as far as the file says: there may be fewer than there are channels.
    #[must_use]
    pub fn channels(&self) -> &[ZarrChannel] {
        &self.text.channels
    }

    /// Distance of neighbouring voxels of level 0 along x, y and z; 1 where the file does not say, or nothing that could be.
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.scale(0)
    }

    /// The same for any level, as the file has it.
    #[must_use]
    pub fn scale(&self, level: usize) -> [f64; 3] {
        let usable = |s: &f64| s.is_finite() && *s > 0.0;
        self.along(level, |level| &level.scale).map(|scale| scale.filter(usable).unwrap_or(1.0))
    }

    /// Where the centre of level 0's first voxel lies, along x, y and z; 0 where the file does not say.
    #[must_use]
    pub fn origin(&self) -> [f64; 3] {
        self.along(0, |level| &level.translation).map(|at| at.filter(|at| at.is_finite()).unwrap_or(0.0))
    }

    /// What spacing and origin are measured in along x, y and z, such as `micrometer`, where the file says.
    #[must_use]
    pub fn units(&self) -> [Option<&str>; 3] {
        self.xyz().map(|axis| self.axes.get(axis?)?.unit.as_deref())
    }

    /// How many points of time there are: the places along the axis of that kind. `None` without such an axis, or where level 0 cannot be read.
    #[must_use]
    pub fn times(&self) -> Option<u64> {
        self.size_along("time")
    }

    /// How many channels there are: the places along the axis of that kind. `None` without such an axis, or where level 0 cannot be read.
    #[must_use]
    pub fn channel_count(&self) -> Option<u64> {
        self.size_along("channel")
    }

    fn size_along(&self, kind: &str) -> Option<u64> {
        self.array(0).ok()?.shape().get(self.axis_of(kind)?).copied()
    }

    /// The array of a level.
    ///
    /// # Errors
    /// [`SourceError::Store`]: there is none, or its metadata cannot be read.
    pub fn array(&self, level: usize) -> Result<ZarrArray, SourceError> {
        let Some(found) = self.text.levels.get(level) else {
            return Err(SourceError::Unsupported {
                location: self.store.location(&self.path),
                what: "the level",
                value: format!("{level} of {}", self.text.levels.len()),
            });
        };
        self.store.array(&found.path)
    }

    /// What vastgrid wrote beside a level of that path, and what it says of itself.
    pub(super) fn beside(&self, level: &str) -> Result<Option<super::store::Described>, SourceError> {
        let name = level.strip_prefix(&self.path).unwrap_or(level).trim_matches('/');
        let path = format!("{}/vastgrid/ranges/{name}", self.path);
        self.store.array_and_attributes(path.trim_matches('/'))
    }

    /// What tells whether a level's objects are those of before, where they are files.
    pub(super) fn mark(&self, level: &str) -> Result<Option<String>, SourceError> {
        self.store.mark(level)
    }

    /// What messages call a level.
    pub(super) fn location(&self, level: &str) -> String {
        self.store.location(level)
    }

    /// A level as a volume. Each level keeps decoded chunks of its own: half of [`ZarrImage::with_kept_bytes`] for level 0, a quarter for level 1 and so on.
    ///
    /// # Errors
    /// As [`ZarrImage::array`] and [`ZarrArray::dataset`]; a selection that the image does not have.
    pub fn level(&self, level: usize, selection: &ZarrSelection) -> Result<Dataset, SourceError> {
        let array = self.array(level)?;
        let slice = self.slice(&array, selection)?;
        let share = u32::try_from(level + 1).unwrap_or(u32::MAX);
        let kept_bytes = self.kept_bytes.checked_shr(share).unwrap_or(0);
        array.with_kept_bytes(kept_bytes).dataset(&slice)
    }

    /// Sets how many bytes of decoded chunks all levels together keep for other tiles. Default: 256 MiB.
    #[must_use]
    pub fn with_kept_bytes(mut self, bytes: u64) -> Self {
        self.kept_bytes = bytes;
        self
    }

    /// The slice of a level's array that a selection is.
    fn slice(&self, array: &ZarrArray, selection: &ZarrSelection) -> Result<ZarrSlice, SourceError> {
        let refuse = |value: String| {
            Err(SourceError::Unsupported {
                location: self.store.location(array.path()),
                what: "the selection",
                value,
            })
        };
        if array.shape().len() != self.axes.len() {
            let names: Vec<_> = self.axes.iter().map(|axis| axis.name.as_str()).collect();
            return refuse(format!("of axes {names:?} from an array of shape {:?}", array.shape()));
        }
        let [Some(x), y, z] = self.xyz() else {
            return refuse("of an image without an axis in space".into());
        };
        let mut slice = ZarrSlice { x, y, z, at: Vec::new() };
        let (time, channel) = (self.axis_of("time"), self.axis_of("channel"));
        for (kind, axis, index) in [("time", time, selection.time), ("channel", channel, selection.channel)] {
            match axis {
                Some(axis) => slice = slice.with_index(axis, index),
                None if index == 0 => {}
                None => return refuse(format!("{kind} {index} of an image without such an axis")),
            }
        }
        for (name, index) in &selection.others {
            let Some(axis) = self.axes.iter().position(|axis| axis.name == *name) else {
                return refuse(format!("index {index} along {name:?}, which is no axis"));
            };
            slice = slice.with_index(axis, *index);
        }
        Ok(slice)
    }

    /// The axes that are x, y and z: by name, else the last three that are of space.
    fn xyz(&self) -> [Option<usize>; 3] {
        let space: Vec<_> = (0..self.axes.len()).filter(|&axis| self.is_space(axis)).collect();
        let named = ["x", "y", "z"]
            .map(|name| space.iter().copied().find(|&axis| self.axes[axis].name.eq_ignore_ascii_case(name)));
        if let [Some(_), Some(_), _] = named
            && named.iter().flatten().count() == space.len()
        {
            return named;
        }
        let last = |n: usize| space.len().checked_sub(n).and_then(|at| space.get(at).copied());
        [last(1), last(2), last(3)]
    }

    fn is_space(&self, axis: usize) -> bool {
        let axis = &self.axes[axis];
        match axis.kind.as_deref() {
            Some(kind) => kind == "space",
            None => matches!(axis.name.as_str(), "x" | "y" | "z"),
        }
    }

    fn axis_of(&self, kind: &str) -> Option<usize> {
        let by_name = match kind {
            "time" => "t",
            _ => "c",
        };
        let is = |axis: &ZarrAxis| match axis.kind.as_deref() {
            Some(found) => found == kind,
            None => axis.name == by_name,
        };
        self.axes.iter().position(is)
    }

    fn along(&self, level: usize, values: impl Fn(&ZarrLevel) -> &Vec<f64>) -> [Option<f64>; 3] {
        let Some(level) = self.text.levels.get(level) else { return [None; 3] };
        self.xyz().map(|axis| values(level).get(axis?).copied())
    }
}

/// What images of the first versions have: the last of these.
fn default_axes(dimensions: usize) -> Vec<ZarrAxis> {
    let all = [("t", "time"), ("c", "channel"), ("z", "space"), ("y", "space"), ("x", "space")];
    all.iter()
        .skip(all.len().saturating_sub(dimensions))
        .map(|(name, kind)| ZarrAxis { name: (*name).to_owned(), kind: Some((*kind).to_owned()), unit: None })
        .collect()
}

impl fmt::Debug for ZarrImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZarrImage")
            .field("path", &self.path)
            .field("text", &self.text)
            .finish_non_exhaustive()
    }
}
