//! Owns [`PyramidWriter`]: several levels of one volume as an OME-Zarr image, with the ranges of their values. Knows nothing of how levels are computed.

use std::path::Path;

use serde_json::{Value, json};

use super::array::{ArrayForm, ArraySpec, pretty};
use super::level_store::LevelStore;
use super::ome::PyramidDescription;
use super::options::{ZarrCodec, ZarrOptions};
use super::ranges::Ranges;
use super::save::{Place, Save, fields, volume_form};
use super::target::Done;
use crate::error::StoreError;
use crate::geometry::boxes::pieces;
use crate::geometry::{Extent, Region};
#[cfg(feature = "cloud")]
use crate::source::RemoteOptions;
use crate::store::TileStore;
use crate::voxel::Scalar;

/// The most cells along an axis of a chunk of ranges.
const RANGES_SIDE: u64 = 64;

/// An OME-Zarr 0.5 image in the making, on Zarr v3: each level is a [`TileStore`], and all appear together when they are saved.
///
/// As a [`ZarrStore`](super::ZarrStore), it is put together in a folder beside its own, and an interrupted save can be gone on with. Beside the levels (`s0`, `s1`, ...) it has the smallest and largest value of each cell of each level, in arrays
/// of shape `[z, y, x, 2]` under `vastgrid/ranges`, which the root's attribute `vastgrid` names; other readers need not know of them.
///
/// ```
/// use vastgrid::store::{PyramidDescription, PyramidWriter, TileStore, ZarrOptions};
/// use vastgrid::{Extent, Region};
///
/// let folder = std::env::temp_dir().join(format!("vastgrid-doc-{}.ome.zarr", std::process::id()));
/// let levels = vec![(Extent::cube(64), [1.0; 3]), (Extent::cube(32), [2.0; 3])];
/// let units = ["micrometer"; 3].map(|unit| Some(unit.into()));
/// let description = PyramidDescription { units, ..PyramidDescription::new(levels) };
/// let image = PyramidWriter::create(&folder, &description, 0u16, &ZarrOptions::default())?;
/// image.level(0)?.write(Region::whole(Extent::cube(64)), &[3; 64 * 64 * 64])?;
/// image.level(1)?.write(Region::whole(Extent::cube(32)), &[3; 32 * 32 * 32])?;
/// image.save()?;
/// assert!(folder.join("s1/zarr.json").exists());
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PyramidWriter<T> {
    // Before the save, so that nothing is written any more when that ends.
    levels: Vec<LevelStore<T>>,
    description: PyramidDescription,
    save: Save,
}

impl<T: Scalar> PyramidWriter<T> {
    /// Begins an image at `path`, or goes on with one. Voxels that are never written hold `fill`.
    ///
    /// # Errors
    /// As [`ZarrStore::create`](super::ZarrStore::create); [`StoreError::NoLevel`] where `description` has none, [`StoreError::Metadata`] for numbers in it that cannot be written.
    pub fn create(
        path: impl AsRef<Path>,
        description: &PyramidDescription,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<Self, StoreError> {
        Self::create_at(Place::Folder(path.as_ref()), description, fill, options)
    }

    /// Begins an image in an object store, or goes on with one, as [`ZarrStore::create_url`](super::ZarrStore::create_url).
    ///
    /// # Errors
    /// As [`PyramidWriter::create`] and [`ZarrStore::create_url`](super::ZarrStore::create_url).
    #[cfg(feature = "cloud")]
    pub fn create_url(
        url: &str,
        remote: &RemoteOptions,
        description: &PyramidDescription,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<Self, StoreError> {
        Self::create_at(Place::Url(url, remote), description, fill, options)
    }

    fn create_at(
        place: Place<'_>,
        description: &PyramidDescription,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<Self, StoreError> {
        let forms = forms(description, fill, options, |name| place.location(name))?;
        let mut of = fields(description.levels[0].0, fill, options);
        of["image"] = description.attributes();
        of["sizes"] = description.levels.iter().map(|(extent, _)| json!(extent.to_array())).collect();
        of["ranges"] = json!(description.ranges);
        let mut save = Save::begin(place, &of, options)?;
        let done = std::mem::take(&mut save.done);
        let level = |(name, extent, form)| {
            let ranges = description.ranges.then(|| Ranges::new(extent, options)).flatten();
            let finisher = save.finisher.clone();
            LevelStore::new(name, (extent, fill), options, form, finisher, ranges, &done)
        };
        let levels = forms.into_iter().map(level).collect();
        Ok(Self { levels, description: description.clone(), save })
    }

    /// Refuses what [`PyramidWriter::create`] would refuse wherever it is.
    pub(crate) fn check(
        description: &PyramidDescription,
        fill: T,
        options: &ZarrOptions,
    ) -> Result<(), StoreError> {
        forms(description, fill, options, str::to_owned).map(drop)
    }

    /// Has what is written from now on go past the system's cache, with buffers of so much memory ([`past_cache_bytes`](super::past_cache_bytes)), where that can be done.
    pub(crate) fn write_past_cache(&self, most_bytes: u64) {
        self.save.finisher.target().write_past_cache(most_bytes);
    }

    /// The folder, or the address, that it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.save.path()
    }

    /// How many levels there are.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// A level, 0 = full resolution.
    ///
    /// # Errors
    /// [`StoreError::NoLevel`].
    pub fn level(&self, level: usize) -> Result<&LevelStore<T>, StoreError> {
        self.levels.get(level).ok_or(StoreError::NoLevel { level, levels: self.levels.len() })
    }

    /// Makes everything durable that was written to any level.
    ///
    /// # Errors
    /// As [`TileStore::flush`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.levels.iter().try_for_each(TileStore::flush)
    }

    /// Makes everything durable and gives the folder its name.
    ///
    /// # Errors
    /// As [`TileStore::flush`]; [`StoreError::Exists`] where somebody made something of that name meanwhile. What was written stays beside it, to go on with.
    pub fn save(self) -> Result<(), StoreError> {
        self.flush()?;
        let mut metadata = Vec::new();
        let mut ranges = Vec::new();
        for (level, name) in self.levels.iter().zip((0..).map(PyramidDescription::path)) {
            let described = level.metadata();
            if let Some(of_level) = level.ranges() {
                let group = format!("vastgrid/ranges/{name}");
                let mark = self.save.finisher.target().mark(&name, &described.1);
                metadata.push(write_ranges(of_level, &group, mark, &self.save)?);
                ranges.push((name, json!(group)));
            }
            metadata.push(described);
        }
        let mut attributes = json!({ "ome": self.description.attributes() });
        if !ranges.is_empty() {
            attributes["vastgrid"] = json!({ "ranges": Value::Object(ranges.into_iter().collect()) });
            for group in ["vastgrid", "vastgrid/ranges"] {
                metadata.push((format!("{group}/zarr.json"), group_metadata(&json!({}))));
            }
        }
        metadata.push(("zarr.json".into(), group_metadata(&attributes)));
        drop(self.levels);
        self.save.publish(&metadata)
    }

    /// Gives up, and removes what was written.
    ///
    /// # Errors
    /// As [`ZarrStore::discard`](super::ZarrStore::discard).
    pub fn discard(self) -> Result<(), StoreError> {
        drop(self.levels);
        self.save.discard()
    }
}

/// What each level is called, its size and its form.
fn forms<T: Scalar>(
    description: &PyramidDescription,
    fill: T,
    options: &ZarrOptions,
    location: impl Fn(&str) -> String,
) -> Result<Vec<(String, Extent, ArrayForm)>, StoreError> {
    options.check(size_of::<T>())?;
    description.check()?;
    let named = description.levels.iter().enumerate();
    let forms = named.map(|(level, (extent, _))| {
        let name = PyramidDescription::path(level);
        let form = volume_form(*extent, fill, options, &location(&name))?;
        Ok((name, *extent, form))
    });
    forms.collect()
}

fn group_metadata(attributes: &Value) -> Vec<u8> {
    pretty(&json!({ "zarr_format": 3, "node_type": "group", "attributes": attributes }))
}

/// Writes the ranges of a level as an array called `name`, with the mark of the objects that they are of; gives what describes it.
fn write_ranges<T: Scalar>(
    ranges: &Ranges<T>,
    name: &str,
    mark: Option<String>,
    save: &Save,
) -> Result<(String, Vec<u8>), StoreError> {
    let (cells, target) = (ranges.cells(), save.finisher.target());
    let side = cells.to_array().map(|cells| cells.min(RANGES_SIDE));
    let mut ours = json!({ "cell": ranges.cell().to_zyx() });
    if let Some(mark) = mark {
        ours["objects"] = json!(mark);
    }
    let spec = ArraySpec {
        shape: [&cells.to_zyx()[..], &[2]].concat(),
        chunk: vec![side[2], side[1], side[0], 2],
        shard: None,
        scalar: T::TYPE,
        fill: json!(0),
        codec: ZarrCodec::default(),
        axes: vec!["z", "y", "x", "range"],
        attributes: json!({ "vastgrid": ours }),
    };
    let form = ArrayForm::new(&spec, &target.location(name))?;
    let zero = T::from_f64(0.0);
    for part in pieces(Region::whole(cells), side.into()) {
        let whole = Region::new(part.start, side.into());
        let chunk: Vec<[T; 2]> = if part == whole {
            ranges.of_cells(whole)
        } else {
            let mut chunk =
                vec![[zero; 2]; whole.extent.to_array().into_iter().map(crate::source::index).product()];
            crate::geometry::boxes::copy_shared(part, &ranges.of_cells(part), whole, &mut chunk);
            chunk
        };
        let at = [0, 1, 2].map(|a| part.start.to_array()[a] / side[a]);
        let mut object = target.begin()?;
        let put = form.encode(bytemuck::cast_slice(chunk.as_flattened()), |encoded| object.append(encoded));
        put.map_err(|source| StoreError::Chunk {
            location: target.location(name),
            chunk: vec![at[2], at[1], at[0], 0],
            source: source.into(),
        })??;
        object.finish(&format!("{name}/c/{}/{}/{}/0", at[2], at[1], at[0]))?;
    }
    target.commit(&[] as &[Done])?;
    Ok((format!("{name}/zarr.json"), form.metadata()))
}
