//! Owns [`NrrdHeader`]: what the fields of a header mean, and that they agree. Knows nothing of files but the name of one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::text::Text;
use super::values;
use crate::geometry::Extent;
use crate::source::bad::Bad;
use crate::source::numbers;
use crate::source::{Endian, RawSpec};
use crate::voxel::ScalarType;

/// How the voxels of a NRRD file are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NrrdEncoding {
    /// As they are.
    Raw,
    /// Compressed as a whole, by gzip.
    Gzip,
}

/// What the header of a NRRD file says.
///
/// **Shape**: a file of two axes is a volume of one plane; of four axes the first or the last must have size 1 and is left out.
///
/// **Source**: <https://teem.sourceforge.net/nrrd/format.html>
#[derive(Clone, Debug, PartialEq)]
pub struct NrrdHeader {
    version: u8,
    extent: Extent,
    scalar_type: ScalarType,
    endian: Option<Endian>,
    encoding: NrrdEncoding,
    spacing: [Option<f64>; 3],
    directions: [Option<Vec<f64>>; 3],
    space_origin: Option<Vec<f64>>,
    units: [Option<String>; 3],
    kinds: [Option<String>; 3],
    pub(super) line_skip: u64,
    /// `None`: the data is what the file ends with.
    pub(super) byte_skip: Option<u64>,
    data_file: Option<PathBuf>,
    fields: Vec<(String, String)>,
    comments: Vec<String>,
    key_values: Vec<(String, String)>,
}

impl NrrdHeader {
    /// Version of the format, from 1 to 5.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Size of the volume in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Type of its voxels.
    #[must_use]
    pub fn scalar_type(&self) -> ScalarType {
        self.scalar_type
    }

    /// Order of the bytes of a voxel; voxels of one byte need none.
    #[must_use]
    pub fn endian(&self) -> Option<Endian> {
        self.endian
    }

    /// How the voxels are encoded.
    #[must_use]
    pub fn encoding(&self) -> NrrdEncoding {
        self.encoding
    }

    /// Distance between neighbouring voxels along x, y and z: the length of the axis' space direction, or else its spacing, or 1 where the file knows neither.
    ///
    /// **Units**: [`NrrdHeader::units`].
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing.map(|s| s.unwrap_or(1.0))
    }

    /// What the spacings are measured in, such as `mm`, where the file says.
    #[must_use]
    pub fn units(&self) -> [Option<&str>; 3] {
        self.units.each_ref().map(Option::as_deref)
    }

    /// What each axis is, such as `domain` or `space`, where the file says.
    #[must_use]
    pub fn kinds(&self) -> [Option<&str>; 3] {
        self.kinds.each_ref().map(Option::as_deref)
    }

    /// Name of the world space, such as `left-posterior-superior`.
    #[must_use]
    pub fn space(&self) -> Option<&str> {
        self.field("space")
    }

    /// Step in world space from a voxel to the next along x, y and z, where the file says.
    #[must_use]
    pub fn space_directions(&self) -> [Option<&[f64]>; 3] {
        self.directions.each_ref().map(Option::as_deref)
    }

    /// Centre of the first voxel in world space.
    #[must_use]
    pub fn space_origin(&self) -> Option<&[f64]> {
        self.space_origin.as_deref()
    }

    /// The file that holds the data, as the header names it; `None` where the data follows the header.
    #[must_use]
    pub fn data_file(&self) -> Option<&Path> {
        self.data_file.as_deref()
    }

    /// Any field as it stands, under the format's own name of it in lower case, such as `content` or `measurement frame`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The comments, in order.
    #[must_use]
    pub fn comments(&self) -> &[String] {
        &self.comments
    }

    /// The key/value pairs, in order.
    #[must_use]
    pub fn key_values(&self) -> &[(String, String)] {
        &self.key_values
    }

    /// Bytes of all voxels.
    pub(super) fn data_bytes(&self) -> u64 {
        // Checked when the header was read.
        RawSpec::new(self.extent).data_bytes(self.scalar_type.bytes()).unwrap_or(u64::MAX)
    }

    pub(super) fn from_text(text: Text) -> Result<Self, Bad> {
        let fields = Fields(&text.fields);
        let scalar_type = values::scalar_type(&fields.required("type")?)?;
        let encoding = encoding(&fields.required("encoding")?)?;
        let endian = fields.get("endian").map(|v| values::endian(&v)).transpose()?;
        if endian.is_none() && scalar_type.bytes() > 1 {
            return Err(Bad::new("endian", "", "needed for voxels of more than one byte"));
        }
        let sizes = sizes(&fields)?;
        let space_dimension = space_dimension(&fields)?;
        let directions = directions(&fields, sizes.len(), space_dimension)?;
        let axes = axes(&sizes, &directions)?;
        let size = |axis: usize| axes[axis].map_or(1, |a| sizes[a]);
        let extent = Extent::new(size(0), size(1), size(2));
        if RawSpec::new(extent).data_bytes(scalar_type.bytes()).is_none() {
            return Err(Bad::new("sizes", fields.required("sizes")?, "more bytes than 64 bits can count"));
        }
        let on_axes = |values: &[String]| axes.map(|axis| axis.and_then(|a| values.get(a).cloned()));
        let directions = axes.map(|axis| axis.and_then(|a| directions.get(a).cloned().flatten()));
        Ok(Self {
            version: text.version,
            extent,
            scalar_type,
            endian,
            encoding,
            spacing: spacing(&fields, sizes.len(), axes, &directions)?,
            directions,
            space_origin: space_origin(&fields, space_dimension)?,
            units: units(&fields, sizes.len(), on_axes)?,
            kinds: on_axes(&kinds(&fields, sizes.len())?),
            line_skip: fields.get("line skip").map_or(Ok(0), |v| numbers::count("line skip", &v))?,
            byte_skip: byte_skip(&fields, encoding)?,
            data_file: data_file(&text.fields)?,
            fields: fields.all().chain(text.other_fields).collect(),
            comments: text.comments,
            key_values: text.key_values,
        })
    }
}

/// The fields of the format that a header has.
struct Fields<'a>(&'a [(&'static str, Vec<u8>)]);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| String::from_utf8_lossy(v).into_owned())
    }

    fn required(&self, name: &'static str) -> Result<String, Bad> {
        self.get(name).ok_or_else(|| Bad::new(name, "", "the field is missing"))
    }

    fn all(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let all: Vec<_> = self.0.iter().map(|(n, v)| ((*n).to_owned(), lossy(v))).collect();
        all.into_iter()
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Refuses a list that has not one entry for each axis.
fn one_per_axis(field: &'static str, value: &str, entries: usize, axes: usize) -> Result<(), Bad> {
    if entries == axes {
        return Ok(());
    }
    Err(Bad::new(field, value, "must have as many entries as `dimension` says"))
}

fn sizes(fields: &Fields<'_>) -> Result<Vec<u64>, Bad> {
    let dimension = fields.required("dimension")?;
    let axes = match numbers::count("dimension", &dimension)? {
        2 => 2,
        3 => 3,
        4 => 4,
        _ => return Err(Bad::new("dimension", dimension, "only volumes of 2, 3 or 4 axes are read")),
    };
    let value = fields.required("sizes")?;
    let sizes = numbers::counts("sizes", &value)?;
    one_per_axis("sizes", &value, sizes.len(), axes)?;
    if sizes.contains(&0) {
        return Err(Bad::new("sizes", value, "every size must be at least 1"));
    }
    Ok(sizes)
}

fn directions(
    fields: &Fields<'_>,
    axes: usize,
    space_dimension: Option<u64>,
) -> Result<Vec<Option<Vec<f64>>>, Bad> {
    let Some(value) = fields.get("space directions") else { return Ok(Vec::new()) };
    let directions = values::vectors("space directions", &value)?;
    one_per_axis("space directions", &value, directions.len(), axes)?;
    let mut lengths = directions.iter().flatten().map(|v| v.len() as u64);
    if let Some(expected) = space_dimension.or_else(|| lengths.clone().next())
        && lengths.any(|length| length != expected)
    {
        return Err(Bad::new("space directions", value, "every vector must have the dimension of the space"));
    }
    Ok(directions)
}

/// Which axis of the file is x, y and z.
fn axes(sizes: &[u64], directions: &[Option<Vec<f64>>]) -> Result<[Option<usize>; 3], Bad> {
    // Of two axes of size 1 the one goes that has no direction in space.
    let first_is_no_space = matches!((directions.first(), directions.last()), (Some(None), Some(Some(_))));
    match *sizes {
        [_, _] => Ok([Some(0), Some(1), None]),
        [1, _, _, last] if last != 1 || first_is_no_space => Ok([Some(1), Some(2), Some(3)]),
        [_, _, _] | [_, _, _, 1] => Ok([Some(0), Some(1), Some(2)]),
        _ => {
            let value = sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            Err(Bad::new("sizes", value, "of four axes the first or the last must have size 1"))
        }
    }
}

fn spacing(
    fields: &Fields<'_>,
    dimension: usize,
    axes: [Option<usize>; 3],
    directions: &[Option<Vec<f64>>; 3],
) -> Result<[Option<f64>; 3], Bad> {
    const REASON: &str = "must be finite and not zero";
    let mut spacing = [None; 3];
    if let Some(value) = fields.get("spacings") {
        let all = numbers::numbers("spacings", &value)?;
        one_per_axis("spacings", &value, all.len(), dimension)?;
        spacing = axes.map(|axis| axis.map(|a| all[a].abs()).filter(|s| !s.is_nan()));
        if spacing.iter().flatten().any(|s| *s == 0.0 || s.is_infinite()) {
            return Err(Bad::new("spacings", value, REASON));
        }
    }
    for (spacing, direction) in spacing.iter_mut().zip(directions) {
        let length = direction.as_ref().map(|v| v.iter().map(|c| c * c).sum::<f64>().sqrt());
        let Some(length) = length.filter(|l| !l.is_nan()) else { continue };
        if length == 0.0 || length.is_infinite() {
            return Err(Bad::new("space directions", fields.required("space directions")?, REASON));
        }
        *spacing = Some(length);
    }
    Ok(spacing)
}

/// Dimension of the world space, where the header says.
fn space_dimension(fields: &Fields<'_>) -> Result<Option<u64>, Bad> {
    if let Some(value) = fields.get("space dimension") {
        return numbers::count("space dimension", &value).map(Some);
    }
    Ok(fields.get("space").and_then(|space| match space.to_ascii_lowercase().as_str() {
        "right-anterior-superior"
        | "ras"
        | "left-anterior-superior"
        | "las"
        | "left-posterior-superior"
        | "lps"
        | "scanner-xyz"
        | "3d-right-handed"
        | "3d-left-handed" => Some(3),
        "right-anterior-superior-time"
        | "rast"
        | "left-anterior-superior-time"
        | "last"
        | "left-posterior-superior-time"
        | "lpst"
        | "scanner-xyz-time"
        | "3d-right-handed-time"
        | "3d-left-handed-time" => Some(4),
        _ => None,
    }))
}

fn space_origin(fields: &Fields<'_>, space_dimension: Option<u64>) -> Result<Option<Vec<f64>>, Bad> {
    let Some(value) = fields.get("space origin") else { return Ok(None) };
    let mut vectors = values::vectors("space origin", &value)?;
    let (1, Some(Some(origin))) = (vectors.len(), vectors.pop()) else {
        return Err(Bad::new("space origin", value, "must be one vector"));
    };
    if space_dimension.is_some_and(|dimension| dimension != origin.len() as u64) {
        return Err(Bad::new("space origin", value, "must have the dimension of the space"));
    }
    Ok(Some(origin))
}

fn units(
    fields: &Fields<'_>,
    axes: usize,
    on_axes: impl Fn(&[String]) -> [Option<String>; 3],
) -> Result<[Option<String>; 3], Bad> {
    let known = |unit: &String| !matches!(unit.as_str(), "" | "???");
    if let Some(value) = fields.get("units") {
        let units = values::quoted("units", &value)?;
        one_per_axis("units", &value, units.len(), axes)?;
        return Ok(on_axes(&units).map(|unit| unit.filter(known)));
    }
    // Units of the space's own axes belong to the volume's only where all are the same.
    let Some(value) = fields.get("space units") else { return Ok([const { None }; 3]) };
    let units = values::quoted("space units", &value)?;
    let common = units.first().filter(|first| units.iter().all(|u| u == *first)).cloned().filter(known);
    Ok([common.clone(), common.clone(), common])
}

fn kinds(fields: &Fields<'_>, axes: usize) -> Result<Vec<String>, Bad> {
    let Some(value) = fields.get("kinds") else { return Ok(Vec::new()) };
    let kinds: Vec<_> = value.split_ascii_whitespace().map(str::to_owned).collect();
    one_per_axis("kinds", &value, kinds.len(), axes)?;
    Ok(kinds)
}

fn encoding(value: &str) -> Result<NrrdEncoding, Bad> {
    match value.to_ascii_lowercase().as_str() {
        "raw" => Ok(NrrdEncoding::Raw),
        "gzip" | "gz" => Ok(NrrdEncoding::Gzip),
        "txt" | "text" | "ascii" | "hex" | "bzip2" | "bz2" | "zrl" => {
            Err(Bad::new("encoding", value, "of the format's encodings only raw and gzip are read"))
        }
        _ => Err(Bad::new("encoding", value, "no encoding of this format")),
    }
}

fn byte_skip(fields: &Fields<'_>, encoding: NrrdEncoding) -> Result<Option<u64>, Bad> {
    let Some(value) = fields.get("byte skip") else { return Ok(Some(0)) };
    match (value.as_str(), encoding) {
        ("-1", NrrdEncoding::Raw) => Ok(None),
        ("-1", _) => Err(Bad::new("byte skip", value, "-1 goes with the encoding raw only")),
        _ => numbers::count("byte skip", &value).map(Some),
    }
}

fn data_file(fields: &[(&'static str, Vec<u8>)]) -> Result<Option<PathBuf>, Bad> {
    let Some((name, value)) = fields.iter().find(|(name, _)| *name == "data file") else { return Ok(None) };
    if values::is_pattern(value) {
        return Err(Bad::new(name, lossy(value), "data spread over several files is not read"));
    }
    if matches!(value.as_slice(), b"" | b"-") || value.contains(&0) {
        return Err(Bad::new(name, lossy(value), "not the name of a file"));
    }
    Ok(Some(PathBuf::from(OsStr::from_bytes(value))))
}
