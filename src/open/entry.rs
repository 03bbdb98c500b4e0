//! Owns [`Entry`]: what is known of one volume before any of it is read. Knows nothing of formats.

use std::fmt;

use super::space::EntrySpace;
use crate::geometry::Extent;
use crate::voxel::ScalarType;

/// One volume, perhaps at several times, in several channels and resolutions, with what its format says of it.
///
/// **Shape**: everything in space is along x, y and z.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name, to choose it by: of a Zarr store the path of its group or array (`/` for the root; with `#1`, `#2` and so on behind it for all but the first of several images in one group), of files a number from 0 on.
    pub name: String,
    /// A title that its writer gave it.
    pub title: Option<String>,
    /// Whether it has one resolution or several.
    pub kind: EntryKind,
    /// Size of each level in voxels, from finest to coarsest; empty (`Extent::default()`) where a level cannot be read.
    pub levels: Vec<Extent>,
    /// Type of the voxels as they are read; `None` where it is one that is not.
    pub scalar_type: Option<ScalarType>,
    /// The axes, slowest first, with those of size 1 that the format has. Places along those that are neither x, y, z, time nor channel are chosen by name ([`Selection::others`](super::Selection::others)).
    pub axes: Vec<EntryAxis>,
    /// Points in time.
    pub times: u64,
    /// Distance of points in time, where the format says.
    pub time_step: Option<f64>,
    /// What that is measured in, such as `s`, where the format says.
    pub time_unit: Option<String>,
    /// How many channels there are.
    pub channel_count: u64,
    /// What the format says of the first of them.
    pub channels: Vec<EntryChannel>,
    /// Distance of neighbouring voxels of the finest level along the voxels' own x, y and z, 1 where the format does not say.
    pub spacing: [f64; 3],
    /// What spacing and origin are measured in, such as `mm`, where the format says.
    pub units: [Option<String>; 3],
    /// Position of the centre of the first voxel, 0 where the format does not say: in the space that [`Entry::to_space`] leads to, or without one along the voxels' own axes. Of other voxels see [`Entry::position`]: adding multiples of the
    /// spacing is wrong where the volume [is turned](Entry::is_turned).
    pub origin: [f64; 3],
    /// Rows x, y, z of the transform from voxel indices to the format's own space, where it has one (NIfTI, NRRD, MetaImage), by columns i, j, k and 1. All are finite.
    pub to_space: Option<[[f64; 4]; 3]>,
    /// Which space that is, where there is one and the format says.
    pub space: Option<EntrySpace>,
}

/// Whether an entry has one resolution or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// One resolution.
    Array,
    /// As many as [`Entry::levels`].
    MultiResolution,
    /// The same, of labels of another entry's voxels.
    Labels,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EntryAxis {
    /// Its name, such as `z` or `t`.
    pub name: String,
    /// What it is measured in, such as `mm`.
    pub unit: Option<String>,
    /// Its size at the finest level.
    pub size: u64,
}

/// How a channel is shown.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EntryChannel {
    /// Its name.
    pub name: Option<String>,
    /// Red, green, blue.
    pub colour: Option<[u8; 3]>,
    /// Least and greatest value to display.
    pub window: Option<(f64, f64)>,
}

impl Entry {
    /// One volume of which only the size is known.
    pub(super) fn new(name: impl Into<String>, extent: Extent, scalar_type: Option<ScalarType>) -> Self {
        Self {
            name: name.into(),
            title: None,
            kind: EntryKind::Array,
            levels: vec![extent],
            scalar_type,
            axes: Vec::new(),
            times: 1,
            time_step: None,
            time_unit: None,
            channel_count: 1,
            channels: Vec::new(),
            spacing: [1.0; 3],
            units: [const { None }; 3],
            origin: [0.0; 3],
            to_space: None,
            space: None,
        }
    }

    /// Size of the finest level in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.levels.first().copied().unwrap_or_default()
    }

    /// The axes of a file of times, channels and volumes, from what is known already.
    #[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff"))]
    pub(super) fn with_axes(mut self) -> Self {
        let Extent { x, y, z } = self.extent();
        let axis = |name: &str, unit: Option<String>, size| EntryAxis { name: name.to_owned(), unit, size };
        let [ux, uy, uz] = self.units.clone();
        if self.times > 1 {
            self.axes.push(axis("t", self.time_unit.clone(), self.times));
        }
        if self.channel_count > 1 {
            self.axes.push(axis("c", None, self.channel_count));
        }
        self.axes.extend([axis("z", uz, z), axis("y", uy, y), axis("x", ux, x)]);
        self
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.extent())?;
        match self.scalar_type {
            Some(scalar_type) => write!(f, " of {scalar_type}")?,
            None => write!(f, " of a type that is not read")?,
        }
        let many = |f: &mut fmt::Formatter<'_>, count: u64, what: &str| {
            if count > 1 { write!(f, ", {count} {what}") } else { Ok(()) }
        };
        many(f, self.levels.len() as u64, "levels")?;
        many(f, self.times, "times")?;
        many(f, self.channel_count, "channels")
    }
}
