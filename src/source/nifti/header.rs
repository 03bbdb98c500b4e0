//! Owns [`NiftiHeader`]: what the fields of a header mean, and that they can be. Knows nothing of files.

use super::fields::{Fields, scalar_type};
use crate::error::SourceError;
use crate::geometry::Extent;
use crate::source::bad::Bad;
use crate::source::{Endian, RawSpec};
use crate::voxel::ScalarType;
use std::path::Path;

/// What the header of a NIfTI file says.
///
/// **Shape**: axes 1 to 3 of the file are x, y and z; axis 4 is time and axis 5 channels, each 1 where the file has fewer axes.
///
/// **Source**: nifti1.h and nifti2.h, <https://nifti.nimh.nih.gov>.
#[derive(Clone, Debug, PartialEq)]
pub struct NiftiHeader {
    version: u8,
    single_file: bool,
    endian: Endian,
    extent: Extent,
    times: u64,
    channels: u64,
    stored_type: ScalarType,
    scaling: Option<(f64, f64)>,
    spacing: [f64; 3],
    time_step: Option<f64>,
    space_unit: Option<&'static str>,
    time_unit: Option<&'static str>,
    sform: Option<NiftiSform>,
    qform: Option<NiftiQform>,
    window: Option<(f64, f64)>,
    description: String,
    pub(super) offset_bytes: u64,
}

/// The header's general affine transform from voxels to a space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NiftiSform {
    /// Which space: 1 the scanner's, 2 another volume's, 3 Talairach's, 4 MNI 152, 5 another template's.
    pub code: i32,
    /// Rows x, y, z of the space (to the right, to the front, upwards); columns by voxel index (i, j, k) and the position of the centre of voxel (0, 0, 0).
    pub matrix: [[f64; 4]; 3],
}

/// The header's rotation and shift from voxels to a space, as they stand there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NiftiQform {
    /// Which space, as in [`NiftiSform::code`].
    pub code: i32,
    /// The last three parts of the unit quaternion; the first is not negative.
    pub quaternion: [f64; 3],
    /// Position of the centre of voxel (0, 0, 0).
    pub offset: [f64; 3],
    /// -1 where the third axis is flipped before the rotation, 1 otherwise.
    pub qfac: f64,
}

impl NiftiQform {
    /// The transform as a matrix, for voxels of this size.
    ///
    /// **Source**: nifti1.h, "method 2".
    #[must_use]
    pub fn matrix(&self, spacing: [f64; 3]) -> [[f64; 4]; 3] {
        let [mut b, mut c, mut d] = self.quaternion;
        let rest = 1.0 - (b * b + c * c + d * d);
        let a = if rest < 1e-7 {
            // A rotation by 180 degrees, but for rounding.
            let length = (b * b + c * c + d * d).sqrt();
            [b, c, d] = [b / length, c / length, d / length];
            0.0
        } else {
            rest.sqrt()
        };
        let [sx, sy, sz] = [spacing[0], spacing[1], spacing[2] * self.qfac];
        let [x, y, z] = self.offset;
        [
            [(a * a + b * b - c * c - d * d) * sx, 2.0 * (b * c - a * d) * sy, 2.0 * (b * d + a * c) * sz, x],
            [2.0 * (b * c + a * d) * sx, (a * a + c * c - b * b - d * d) * sy, 2.0 * (c * d - a * b) * sz, y],
            [2.0 * (b * d - a * c) * sx, 2.0 * (c * d + a * b) * sy, (a * a + d * d - b * b - c * c) * sz, z],
        ]
    }
}

impl NiftiHeader {
    /// Version of the format, 1 or 2.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Whether the voxels follow the header in the same file, or are in another (`.hdr` and `.img`).
    #[must_use]
    pub fn is_single_file(&self) -> bool {
        self.single_file
    }

    /// Order of the bytes of header and voxels.
    #[must_use]
    pub fn endian(&self) -> Endian {
        self.endian
    }

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

    /// Channels (parts of a vector) at each time.
    #[must_use]
    pub fn channels(&self) -> u64 {
        self.channels
    }

    /// Type of the voxels as they are stored.
    #[must_use]
    pub fn stored_type(&self) -> ScalarType {
        self.stored_type
    }

    /// Type of the voxels as they are read: the stored one, or where values are scaled `f32`, and `f64` for `u32`, `i32` and `f64`.
    #[must_use]
    pub fn scalar_type(&self) -> ScalarType {
        match (self.scaling, self.stored_type) {
            (None, stored) => stored,
            (Some(_), ScalarType::U32 | ScalarType::I32 | ScalarType::F64) => ScalarType::F64,
            (Some(_), _) => ScalarType::F32,
        }
    }

    /// Slope and intercept of values, where they are not 1 and 0 (and the slope is not 0, which means "none"): they are applied when voxels are read.
    #[must_use]
    pub fn scaling(&self) -> Option<(f64, f64)> {
        self.scaling
    }

    /// Distance between neighbouring voxels along x, y and z, or 1 where the file does not say. What version 1 holds as `f32` is given as the shortest decimal that rounds to it.
    ///
    /// **Units**: [`NiftiHeader::space_unit`].
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.spacing
    }

    /// Distance between volumes in time, where the file says.
    ///
    /// **Units**: [`NiftiHeader::time_unit`].
    #[must_use]
    pub fn time_step(&self) -> Option<f64> {
        self.time_step
    }

    /// `m`, `mm` or `um`, where the file says.
    #[must_use]
    pub fn space_unit(&self) -> Option<&'static str> {
        self.space_unit
    }

    /// `s`, `ms`, `us`, `Hz`, `ppm` or `rad/s`, where the file says.
    #[must_use]
    pub fn time_unit(&self) -> Option<&'static str> {
        self.time_unit
    }

    /// The general transform to a space, where the file has one. Other programs prefer it to the rotation.
    #[must_use]
    pub fn sform(&self) -> Option<NiftiSform> {
        self.sform
    }

    /// The rotation and shift to a space, where the file has one.
    #[must_use]
    pub fn qform(&self) -> Option<NiftiQform> {
        self.qform
    }

    /// Rows x, y, z of the transform from voxels to space: that of [`NiftiHeader::sform`], else that of [`NiftiHeader::qform`]. One with a number that is none is as if it were not there.
    #[must_use]
    pub fn to_space(&self) -> Option<[[f64; 4]; 3]> {
        let forms = [self.sform.map(|s| s.matrix), self.qform.map(|q| q.matrix(self.spacing))];
        forms.into_iter().flatten().find(|rows| rows.iter().flatten().all(|n| n.is_finite()))
    }

    /// Least and greatest value to display, where the file says (of scaled values).
    #[must_use]
    pub fn window(&self) -> Option<(f64, f64)> {
        self.window
    }

    /// Whatever text its writer left.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Bytes of one volume.
    pub(super) fn volume_bytes(&self) -> u64 {
        // Checked when the header was read.
        RawSpec::new(self.extent).data_bytes(self.stored_type.bytes()).unwrap_or(u64::MAX)
    }

    /// Where the volume of that time and channel begins in the file of the data.
    pub(super) fn volume_offset_bytes(&self, time: u64, channel: u64) -> u64 {
        let volume = channel.saturating_mul(self.times).saturating_add(time);
        self.offset_bytes.saturating_add(volume.saturating_mul(self.volume_bytes()))
    }

    /// From the first bytes of a file; `path` is for messages.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, SourceError> {
        let fields = Fields::parse(bytes).map_err(|bad| bad.in_file(path))?;
        let stored_type = scalar_type(fields.datatype).map_err(|value| SourceError::Unsupported {
            location: path.display().to_string(),
            what: "voxels of the type",
            value,
        })?;
        Self::from_fields(&fields, stored_type).map_err(|bad| bad.in_file(path))
    }

    fn from_fields(fields: &Fields, stored_type: ScalarType) -> Result<Self, Bad> {
        let bits = i16::try_from(8 * stored_type.bytes()).unwrap_or(0);
        if fields.bitpix != 0 && fields.bitpix != bits {
            return Err(Bad::new("bitpix", fields.bitpix.to_string(), "contradicts `datatype`"));
        }
        let [x, y, z, times, channels] = sizes(&fields.dim)?;
        let extent = Extent::new(x, y, z);
        let all = RawSpec::new(extent).data_bytes(stored_type.bytes());
        if all.and_then(|bytes| bytes.checked_mul(times)?.checked_mul(channels)).is_none() {
            return Err(Bad::new("dim", list(&fields.dim), "more bytes than 64 bits can count"));
        }
        let known = |axis: usize| Some(fields.pixdim[axis].abs()).filter(|s| s.is_finite() && *s > 0.0);
        let step = |axis: usize| known(axis).unwrap_or(1.0);
        let units = fields.xyzt_units;
        Ok(Self {
            version: fields.version,
            single_file: fields.single_file,
            endian: fields.endian,
            extent,
            times,
            channels,
            stored_type,
            scaling: scaling(fields)?,
            spacing: [step(1), step(2), step(3)],
            time_step: known(4),
            space_unit: [None, Some("m"), Some("mm"), Some("um")].get(units & 7).copied().flatten(),
            time_unit: [None, Some("s"), Some("ms"), Some("us"), Some("Hz"), Some("ppm"), Some("rad/s")]
                .get((units >> 3) & 7)
                .copied()
                .flatten(),
            sform: (fields.sform_code > 0)
                .then_some(NiftiSform { code: fields.sform_code, matrix: fields.srow }),
            qform: (fields.qform_code > 0).then_some(NiftiQform {
                code: fields.qform_code,
                quaternion: fields.quatern,
                offset: fields.qoffset,
                qfac: if fields.pixdim[0] < 0.0 { -1.0 } else { 1.0 },
            }),
            window: Some(fields.window)
                .filter(|(low, high)| low.is_finite() && high.is_finite() && low < high),
            description: fields.description.clone(),
            offset_bytes: fields.offset_bytes()?,
        })
    }
}

/// Sizes along x, y, z, time and channels.
fn sizes(dim: &[i64; 8]) -> Result<[u64; 5], Bad> {
    let axes = usize::try_from(dim[0]).ok().filter(|axes| (1..=7).contains(axes));
    let axes = axes.ok_or_else(|| Bad::new("dim", list(dim), "the number of axes must be from 1 to 7"))?;
    let mut sizes = [1; 7];
    for (axis, size) in sizes.iter_mut().enumerate().take(axes) {
        // Writers leave 0 for axes beyond space that they count but do not use.
        let found = if axis >= 3 && dim[axis + 1] == 0 { 1 } else { dim[axis + 1] };
        *size = u64::try_from(found)
            .ok()
            .filter(|&size| size > 0)
            .ok_or_else(|| Bad::new("dim", list(dim), "every size must be at least 1"))?;
    }
    let [x, y, z, times, channels, rest @ ..] = sizes;
    if rest != [1, 1] {
        return Err(Bad::new("dim", list(dim), "of axes 6 and 7 only size 1 is read"));
    }
    Ok([x, y, z, times, channels])
}

fn list(dim: &[i64; 8]) -> String {
    dim.map(|n| n.to_string()).join(" ")
}

/// Slope and intercept, where they change anything.
fn scaling(fields: &Fields) -> Result<Option<(f64, f64)>, Bad> {
    let (slope, intercept) = (fields.slope, fields.intercept);
    if slope == 0.0 || !slope.is_finite() || (slope == 1.0 && intercept == 0.0) {
        return Ok(None);
    }
    if !intercept.is_finite() {
        return Err(Bad::new(
            "scl_inter",
            intercept.to_string(),
            "must be a number where `scl_slope` is one",
        ));
    }
    Ok(Some((slope, intercept)))
}
