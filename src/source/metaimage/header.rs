//! Owns [`MetaImageHeader`]: the lines of a header, what they mean, and that they agree. Knows nothing of files but the name of one.
//!
//! ```text
//! ObjectType = Image          lines `key = value`; each key once
//! NDims = 3
//! DimSize = 512 512 300       x first
//! ElementType = MET_SHORT
//! ElementDataFile = scan.raw  the last line: where the voxels are, or LOCAL where they follow it
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::SourceError;
use crate::geometry::Extent;
use crate::source::bad::Bad;
use crate::source::call::index;
use crate::source::magic::is_meta_image;
use crate::source::numbers::{count, counts, numbers};
use crate::source::{Endian, RawSpec};
use crate::voxel::ScalarType;

/// The longest header that is read.
pub(super) const MAX_BYTES: usize = 64 << 10;
const MAX_FIELDS: usize = 1000;

/// What the header of a MetaImage says.
///
/// **Shape**: a file of two axes is a volume of one plane; the fourth axis is time.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaImageHeader {
    extent: Extent,
    times: u64,
    scalar_type: ScalarType,
    endian: Endian,
    spacing: [f64; 3],
    time_step: Option<f64>,
    offset: Option<[f64; 3]>,
    transform: Option<[[f64; 3]; 3]>,
    compressed: bool,
    /// Bytes before the voxels; `None`: they are what the file ends with.
    pub(super) header_bytes: Option<u64>,
    data_file: Option<PathBuf>,
    fields: Vec<(String, String)>,
}

impl MetaImageHeader {
    /// Size of one volume in voxels.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Volumes in time.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.times
    }

    /// Type of the voxels.
    #[must_use]
    pub fn scalar_type(&self) -> ScalarType {
        self.scalar_type
    }

    /// Order of the bytes of a voxel; where the header does not say, least significant byte first.
    #[must_use]
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// Distance between neighbouring voxels along x, y and z: `ElementSpacing`, or else `ElementSize`, or 1 where the file has neither.
    ///
    /// **Units**: [`MetaImageHeader::unit`].
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// What spacing and offset are measured in: `DistanceUnits`, or `mm`, by convention, where the file does not say.
    #[must_use]
    pub fn unit(&self) -> &str {
        self.field("DistanceUnits").filter(|unit| !matches!(*unit, "" | "?")).unwrap_or("mm")
    }

    /// Distance between volumes in time, where the file says: the fourth number of `ElementSpacing`. The format has no unit of it.
    #[must_use]
    pub fn time_step(&self) -> Option<f64> {
        self.time_step
    }

    /// Position of the centre of the first voxel (`Offset`, `Position` or `Origin`), where the file says.
    #[must_use]
    pub fn offset(&self) -> Option<[f64; 3]> {
        self.offset
    }

    /// Directions of the x, y and z axes (`TransformMatrix`, `Rotation` or `Orientation`), where the file says.
    #[must_use]
    pub fn transform(&self) -> Option<[[f64; 3]; 3]> {
        self.transform
    }

    /// Whether the voxels are compressed (by zlib).
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// The file that holds the voxels, as the header names it; `None` where they follow the header.
    #[must_use]
    pub fn data_file(&self) -> Option<&Path> {
        self.data_file.as_deref()
    }

    /// Any field as it stands.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Bytes of one volume.
    pub(super) fn volume_bytes(&self) -> u64 {
        // Checked when the header was read.
        RawSpec::new(self.extent).data_bytes(self.scalar_type.bytes()).unwrap_or(u64::MAX)
    }

    /// From the first bytes of a file, as a header and where the data begins after it; `path` is for messages.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<(Self, u64), SourceError> {
        let (fields, data_at) = lines(bytes).map_err(|bad| bad.in_file(path))?;
        let fields = Fields(fields);
        let name = fields.required("ElementType").map_err(|bad| bad.in_file(path))?;
        let scalar_type = scalar_type(name).ok_or_else(|| SourceError::Unsupported {
            location: path.display().to_string(),
            what: "voxels of the type",
            value: name.chars().take(40).collect(),
        })?;
        let header = Self::from_fields(&fields, scalar_type).map_err(|bad| bad.in_file(path))?;
        Ok((header, data_at))
    }

    fn from_fields(fields: &Fields<'_>, scalar_type: ScalarType) -> Result<Self, Bad> {
        for (key, wanted) in
            [("ObjectType", "Image"), ("BinaryData", "True"), ("ElementNumberOfChannels", "1")]
        {
            if let Some(value) = fields.get(key).filter(|value| !value.eq_ignore_ascii_case(wanted)) {
                return Err(Bad::new(key, value, "only images of binary voxels of one channel are read"));
            }
        }
        let (extent, times) = sizes(fields)?;
        if RawSpec::new(extent).data_bytes(scalar_type.bytes()).and_then(|b| b.checked_mul(times)).is_none() {
            return Err(Bad::new(
                "DimSize",
                fields.required("DimSize")?,
                "more bytes than 64 bits can count",
            ));
        }
        let (data_file, header_bytes) = (data_file(fields)?, header_bytes(fields)?);
        let compressed = fields.flag(&["CompressedData"])?;
        if compressed && header_bytes != Some(0) {
            let value = fields.required("HeaderSize")?;
            return Err(Bad::new("HeaderSize", value, "must be 0 where the data is compressed"));
        }
        let big = fields.flag(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])?;
        Ok(Self {
            extent,
            times,
            scalar_type,
            endian: if big { Endian::Big } else { Endian::Little },
            spacing: spacing(fields)?,
            time_step: time_step(fields)?,
            offset: fields.vector(&["Offset", "Position", "Origin"])?,
            transform: transform(fields)?,
            compressed,
            header_bytes,
            data_file,
            fields: fields.0.iter().map(|(k, v)| (lossy(k), lossy(v))).collect(),
        })
    }
}

type Lines<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Keys and values up to `ElementDataFile`, and where the line after it begins.
fn lines(bytes: &[u8]) -> Result<(Lines<'_>, u64), Bad> {
    if !is_meta_image(bytes) {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]);
        return Err(Bad::new("first line", start, "not the header of a MetaImage"));
    }
    let mut fields: Lines<'_> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |len| at + len);
        if end == MAX_BYTES || fields.len() == MAX_FIELDS {
            break;
        }
        let line = bytes[at..end].trim_ascii();
        at = end + 1;
        if line.is_empty() {
            continue;
        }
        let Some(equals) = line.iter().position(|&b| b == b'=') else {
            return Err(Bad::new("header line", lossy(line), "must be `key = value`"));
        };
        let (key, value) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
        if key != b"Comment" && fields.iter().any(|(other, _)| *other == key) {
            return Err(Bad::new("header line", lossy(line), "the key is there twice"));
        }
        fields.push((key, value));
        if key == b"ElementDataFile" {
            return Ok((fields, at.min(bytes.len()) as u64));
        }
    }
    Err(Bad::new(
        "ElementDataFile",
        "",
        "the field is missing; it ends a header, which has at most 1000 lines and 64 KiB",
    ))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Fields<'a>(Lines<'a>);

impl<'a> Fields<'a> {
    fn bytes(&self, key: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(k, _)| *k == key.as_bytes()).map(|(_, value)| *value)
    }

    /// The value, where it is text.
    fn get(&self, key: &str) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(key)?).ok()
    }

    fn required(&self, key: &'static str) -> Result<&'a str, Bad> {
        self.get(key).ok_or_else(|| Bad::new(key, "", "the field is missing"))
    }

    /// The first of some keys that is there.
    fn first(&self, keys: &[&'static str]) -> Option<(&'static str, &'a str)> {
        keys.iter().find_map(|&key| Some((key, self.get(key)?)))
    }

    fn axes(&self) -> Result<u64, Bad> {
        count("NDims", self.required("NDims")?)
    }

    fn flag(&self, keys: &[&'static str]) -> Result<bool, Bad> {
        let Some((key, value)) = self.first(keys) else { return Ok(false) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Bad::new(key, value, "must be True or False")),
        }
    }

    /// One number for each of the first three axes.
    fn vector(&self, keys: &[&'static str]) -> Result<Option<[f64; 3]>, Bad> {
        let Some((key, value)) = self.first(keys) else { return Ok(None) };
        let all = numbers(key, value)?;
        if all.len() as u64 != self.axes()? {
            return Err(Bad::new(key, value, "must have as many numbers as `NDims` says"));
        }
        Ok(Some([0, 1, 2].map(|axis| all.get(axis).copied().unwrap_or(0.0))))
    }
}

fn sizes(fields: &Fields<'_>) -> Result<(Extent, u64), Bad> {
    let axes = fields.axes()?;
    if !(2..=4).contains(&axes) {
        return Err(Bad::new("NDims", axes.to_string(), "only volumes of 2, 3 or 4 axes are read"));
    }
    let value = fields.required("DimSize")?;
    let sizes = counts("DimSize", value)?;
    if sizes.len() as u64 != axes {
        return Err(Bad::new("DimSize", value, "must have as many numbers as `NDims` says"));
    }
    if sizes.contains(&0) {
        return Err(Bad::new("DimSize", value, "every size must be at least 1"));
    }
    let size = |axis: usize| sizes.get(axis).copied().unwrap_or(1);
    Ok((Extent::new(size(0), size(1), size(2)), size(3)))
}

fn spacing(fields: &Fields<'_>) -> Result<[f64; 3], Bad> {
    const KEYS: [&str; 2] = ["ElementSpacing", "ElementSize"];
    let Some(found) = fields.vector(&KEYS)? else { return Ok([1.0; 3]) };
    // A plane has no distance to the next.
    let planes = if sizes(fields)?.0.z == 1 && found[2] == 0.0 { 1.0 } else { found[2] };
    let spacing = [found[0].abs(), found[1].abs(), planes.abs()];
    if spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Ok(spacing);
    }
    let (key, value) = fields.first(&KEYS).unwrap_or_default();
    Err(Bad::new(key, value, "must be finite and not zero"))
}

fn time_step(fields: &Fields<'_>) -> Result<Option<f64>, Bad> {
    let Some(value) = fields.get("ElementSpacing") else { return Ok(None) };
    let step = numbers("ElementSpacing", value)?.get(3).copied();
    Ok(step.filter(|step| step.is_finite() && *step > 0.0))
}

fn transform(fields: &Fields<'_>) -> Result<Option<[[f64; 3]; 3]>, Bad> {
    let Some((key, value)) = fields.first(&["TransformMatrix", "Rotation", "Orientation"]) else {
        return Ok(None);
    };
    let all = numbers(key, value)?;
    let axes = fields.axes()?;
    if all.len() as u64 != axes * axes {
        return Err(Bad::new(key, value, "must be a square of as many numbers as there are axes"));
    }
    let mut matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for (row, numbers) in matrix.iter_mut().zip(all.chunks(index(axes))) {
        row.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from);
    }
    Ok(Some(matrix))
}

fn header_bytes(fields: &Fields<'_>) -> Result<Option<u64>, Bad> {
    match fields.get("HeaderSize") {
        None => Ok(Some(0)),
        Some("-1") => Ok(None),
        Some(value) => count("HeaderSize", value).map(Some),
    }
}

fn data_file(fields: &Fields<'_>) -> Result<Option<PathBuf>, Bad> {
    const KEY: &str = "ElementDataFile";
    let value = fields.bytes(KEY).unwrap_or_default();
    if value.eq_ignore_ascii_case(b"LOCAL") {
        return Ok(None);
    }
    // MetaIO takes LIST, and a pattern with three numbers after it, for many files.
    if value.starts_with(b"LIST") || value.contains(&b'%') && value.contains(&b' ') {
        return Err(Bad::new(KEY, lossy(value), "data spread over several files is not read"));
    }
    if value.is_empty() || value.contains(&0) {
        return Err(Bad::new(KEY, lossy(value), "not the name of a file"));
    }
    Ok(Some(PathBuf::from(OsStr::from_bytes(value))))
}

/// The type of that name, where it is one that is read.
fn scalar_type(name: &str) -> Option<ScalarType> {
    Some(match name {
        "MET_UCHAR" => ScalarType::U8,
        "MET_CHAR" => ScalarType::I8,
        "MET_USHORT" => ScalarType::U16,
        "MET_SHORT" => ScalarType::I16,
        "MET_UINT" => ScalarType::U32,
        "MET_INT" => ScalarType::I32,
        "MET_FLOAT" => ScalarType::F32,
        "MET_DOUBLE" => ScalarType::F64,
        // Of 4 or 8 bytes, as the machine had it that wrote them.
        _ => return None,
    })
}
