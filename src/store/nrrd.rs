//! Owns the header of NRRD files that are written. Knows nothing of how voxels get into them.
//!
//! **Source**: <https://teem.sourceforge.net/nrrd/format.html>

use std::fmt::Write;
use std::path::Path;

use super::RawStore;
use crate::error::StoreError;
use crate::geometry::Extent;
use crate::voxel::{Scalar, ScalarType};

/// What a NRRD file says of its voxels besides their number and type.
#[derive(Clone, Debug, PartialEq)]
pub struct NrrdDescription {
    /// Distance of voxels along x, y and z. Default: 1.
    pub spacing: [f64; 3],
    /// Where the centre of the first voxel lies, in the space that `directions` are of. Default: 0.
    pub origin: [f64; 3],
    /// Steps in space from a voxel to the next along x, y and z, which take the place of `spacing`. Default: `spacing` along the space's own axes.
    pub directions: Option<[[f64; 3]; 3]>,
    /// Which space that is, by the format's name, such as `left-posterior-superior`; it must be one of three dimensions. Default: nothing.
    pub space: Option<String>,
    /// What both are measured in, such as `mm`. Default: nothing.
    pub unit: Option<String>,
}

impl Default for NrrdDescription {
    fn default() -> Self {
        Self { spacing: [1.0; 3], origin: [0.0; 3], directions: None, space: None, unit: None }
    }
}

impl<T: Scalar> RawStore<T> {
    /// Begins a NRRD file with an attached header and raw data, as [`RawStore::create`] or, where `replace` is set, [`RawStore::replace`].
    ///
    /// ```
    /// use vastgrid::source::Nrrd;
    /// use vastgrid::store::{NrrdDescription, RawStore, TileStore};
    /// use vastgrid::{Extent, Region};
    ///
    /// let path = std::env::temp_dir().join(format!("vastgrid-doc-store-{}.nrrd", std::process::id()));
    /// let description = NrrdDescription { spacing: [0.5, 0.5, 2.0], ..NrrdDescription::default() };
    /// let store = RawStore::create_nrrd(&path, Extent::new(3, 2, 1), &description, false)?;
    /// store.write(Region::whole(Extent::new(3, 2, 1)), &[1i16, 2, 3, 4, 5, 6])?;
    /// store.save()?;
    /// assert_eq!(Nrrd::open(&path)?.header().spacing(), [0.5, 0.5, 2.0]);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawStore::create`] and [`RawStore::replace`]; [`StoreError::Metadata`]: the format has no such type, or a number that is none.
    pub fn create_nrrd(
        path: impl AsRef<Path>,
        extent: Extent,
        description: &NrrdDescription,
        replace: bool,
    ) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let header = header::<T>(extent, description).map_err(|reason| StoreError::Metadata {
            location: path.display().to_string(),
            source: reason.into(),
        })?;
        Self::create_behind(path, extent, header.as_bytes(), replace)
    }
}

fn header<T: Scalar>(extent: Extent, description: &NrrdDescription) -> Result<String, String> {
    let NrrdDescription { spacing, origin, directions, space, unit } = description;
    if spacing.iter().any(|s| !s.is_finite() || *s <= 0.0) || origin.iter().any(|o| !o.is_finite()) {
        return Err(format!("spacing {spacing:?} and origin {origin:?} cannot be written"));
    }
    let [x, y, z] = *spacing;
    let steps = directions.unwrap_or([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]]);
    let is_step = |step: &[f64; 3]| step.iter().all(|n| n.is_finite()) && step.iter().any(|n| *n != 0.0);
    if !steps.iter().all(is_step) {
        return Err(format!("directions {steps:?} cannot be written"));
    }
    let name = type_name(T::TYPE).ok_or_else(|| format!("NRRD has no {}", T::TYPE))?;
    let mut text = format!("NRRD0004\ntype: {name}\ndimension: 3\n");
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Text takes what it is given.
        let _ = text.write_fmt(arguments);
    };
    // The one says the other.
    match space {
        Some(space) => line(format_args!("space: {}\n", space.replace(char::is_control, " "))),
        None => line(format_args!("space dimension: 3\n")),
    }
    line(format_args!("sizes: {} {} {}\n", extent.x, extent.y, extent.z));
    let [x, y, z] = steps.map(|[x, y, z]| format!("({x:?},{y:?},{z:?})"));
    line(format_args!("space directions: {x} {y} {z}\n"));
    line(format_args!("space origin: ({:?},{:?},{:?})\n", origin[0], origin[1], origin[2]));
    if let Some(unit) = unit {
        let unit: String = unit.chars().filter(|c| !c.is_control()).collect();
        let unit = unit.replace('"', "\\\"");
        line(format_args!("space units: \"{unit}\" \"{unit}\" \"{unit}\"\n"));
    }
    line(format_args!("kinds: domain domain domain\n"));
    if T::TYPE.bytes() > 1 {
        line(format_args!("endian: {}\n", if cfg!(target_endian = "big") { "big" } else { "little" }));
    }
    line(format_args!("encoding: raw\n\n"));
    Ok(text)
}

fn type_name(scalar: ScalarType) -> Option<&'static str> {
    Some(match scalar {
        ScalarType::U8 => "uint8",
        ScalarType::I8 => "int8",
        ScalarType::U16 => "uint16",
        ScalarType::I16 => "int16",
        ScalarType::U32 => "uint32",
        ScalarType::I32 => "int32",
        ScalarType::F32 => "float",
        ScalarType::F64 => "double",
        ScalarType::F16 => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_take_the_place_of_spacing_and_must_lead_somewhere() {
        let written = |description: &NrrdDescription| header::<u8>(Extent::cube(2), description);
        let turned = NrrdDescription {
            directions: Some([[0.0, -2.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 3.0]]),
            space: Some("left-posterior-superior\n\nencoding: hex".into()),
            ..NrrdDescription::default()
        };
        let text = written(&turned).unwrap();
        assert!(text.contains("space directions: (0.0,-2.0,0.0) (0.5,0.0,0.0) (0.0,0.0,3.0)\n"), "{text}");
        assert!(text.contains("space: left-posterior-superior  encoding: hex\n"), "{text}");
        assert!(!text.contains("space dimension"), "{text}");
        let plain = written(&NrrdDescription::default()).unwrap();
        assert!(plain.contains("space dimension: 3\n") && !plain.contains("space: "), "{plain}");
        for bad in [[0.0; 3], [f64::NAN, 1.0, 0.0]] {
            let directions = Some([[1.0, 0.0, 0.0], bad, [0.0, 0.0, 1.0]]);
            let error = written(&NrrdDescription { directions, ..NrrdDescription::default() }).unwrap_err();
            assert!(error.contains("cannot be written"), "{error}");
        }
    }
}
