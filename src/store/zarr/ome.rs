//! Owns what an OME-Zarr image says of itself: [`PyramidDescription`], and the JSON that it becomes. Knows nothing of voxels.
//!
//! **Source**: OME-Zarr 0.5, <https://ngff.openmicroscopy.org/0.5/>.

use serde_json::{Map, Value, json};

use crate::error::StoreError;
use crate::geometry::Extent;

/// What an image of several levels is.
#[derive(Clone, Debug, PartialEq)]
pub struct PyramidDescription {
    /// What it is called. Default: nothing.
    pub name: Option<String>,
    /// Size of each level in voxels, the finest first, and what it is reduced by along x, y and z, which is 1 for the first.
    pub levels: Vec<(Extent, [f64; 3])>,
    /// Distance of level-0 voxels along x, y and z. Default: 1.
    pub spacing: [f64; 3],
    /// Where the centre of the first level-0 voxel lies. Default: 0.
    pub origin: [f64; 3],
    /// What both are measured in along x, y and z, by the names of UDUNITS-2, such as `micrometer`: `["micrometer"; 3].map(|unit| Some(unit.into()))`. Default: nothing.
    pub units: [Option<String>; 3],
    /// How levels were computed, such as `mean`. Default: nothing.
    pub method: Option<String>,
    /// How to show it. Default: nothing.
    pub channel: Option<ChannelDescription>,
    /// Whether the smallest and largest value of each cell of every level is written, too, so that readers know what is where. Default: yes.
    pub ranges: bool,
}

/// How to show voxels.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelDescription {
    /// What they are called.
    pub label: Option<String>,
    /// Red, green and blue of the largest value.
    pub color: [u8; 3],
    /// The values that are shown as black and as the colour.
    pub window: [f64; 2],
    /// The smallest and the largest value that there is to choose from.
    pub limits: [f64; 2],
}

impl PyramidDescription {
    /// Levels as told, everything else by default.
    #[must_use]
    pub fn new(levels: Vec<(Extent, [f64; 3])>) -> Self {
        Self {
            name: None,
            levels,
            spacing: [1.0; 3],
            origin: [0.0; 3],
            units: [None, None, None],
            method: None,
            channel: None,
            ranges: true,
        }
    }

    /// Refuses numbers that are none, and factors that are no levels.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let refused = |what: &str, values: String| {
            let source = format!("{values} cannot be written").into();
            Err(StoreError::Metadata { location: what.to_owned(), source })
        };
        if self.levels.is_empty() {
            return Err(StoreError::NoLevel { level: 0, levels: 0 });
        }
        let positive = |values: &[f64; 3]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        if !positive(&self.spacing) {
            return refused("spacing", format!("{:?}", self.spacing));
        }
        if self.origin.iter().any(|v| !v.is_finite()) {
            return refused("origin", format!("{:?}", self.origin));
        }
        for (level, (extent, factor)) in self.levels.iter().enumerate() {
            if !positive(factor) || level == 0 && *factor != [1.0; 3] {
                return refused("factors", format!("{factor:?} of level {level}"));
            }
            if extent.is_empty() {
                let reason = "every side must be at least 1";
                return Err(StoreError::Shape { what: "level", shape: *extent, reason });
            }
        }
        if let Some(channel) = &self.channel
            && channel.window.iter().chain(&channel.limits).any(|v| !v.is_finite())
        {
            return refused("window", format!("{:?} of {:?}", channel.window, channel.limits));
        }
        Ok(())
    }

    /// What a level's array is called.
    pub(super) fn path(level: usize) -> String {
        format!("s{level}")
    }

    /// The image's part of the root's attributes.
    pub(super) fn attributes(&self) -> Value {
        let zyx = |[x, y, z]: [f64; 3]| json!([z, y, x]);
        let axis = |name: &str, unit: &Option<String>| {
            let mut axis = json!({ "name": name, "type": "space" });
            if let Some(unit) = unit {
                axis["unit"] = json!(unit);
            }
            axis
        };
        let datasets = self.levels.iter().enumerate().map(|(level, (_, factor))| {
            let scale = [0, 1, 2].map(|a| self.spacing[a] * factor[a]);
            // The centre of a level's first voxel is that of the voxels below it.
            let first = [0, 1, 2].map(|a| self.origin[a] + self.spacing[a] * (factor[a] - 1.0) / 2.0);
            json!({ "path": Self::path(level), "coordinateTransformations": [
                { "type": "scale", "scale": zyx(scale) },
                { "type": "translation", "translation": zyx(first) },
            ]})
        });
        let [x, y, z] = &self.units;
        let mut image = Map::new();
        if let Some(name) = &self.name {
            image.insert("name".into(), json!(name));
        }
        image.insert("axes".into(), json!([axis("z", z), axis("y", y), axis("x", x)]));
        image.insert("datasets".into(), json!(datasets.collect::<Vec<_>>()));
        if let Some(method) = &self.method {
            image.insert("type".into(), json!(method));
        }
        let mut ome = json!({ "version": "0.5", "multiscales": [image] });
        if let Some(channel) = &self.channel {
            ome["omero"] = channel.omero();
        }
        ome
    }
}

impl ChannelDescription {
    fn omero(&self) -> Value {
        let [r, g, b] = self.color;
        let (window, limits) = (self.window, self.limits);
        let mut channel = json!({
            "active": true,
            "color": format!("{r:02X}{g:02X}{b:02X}"),
            "window": { "start": window[0], "end": window[1], "min": limits[0], "max": limits[1] },
        });
        if let Some(label) = &self.label {
            channel["label"] = json!(label);
        }
        json!({ "channels": [channel] })
    }
}

#[cfg(test)]
mod tests {
    use ome_zarr_metadata::Validate;
    use ome_zarr_metadata::v0_5::OmeZarrGroupAttributes;

    use super::*;

    fn full() -> PyramidDescription {
        let levels = vec![
            (Extent::new(100, 50, 20), [1.0; 3]),
            (Extent::new(50, 25, 20), [2.0, 2.0, 1.0]),
            (Extent::new(25, 13, 10), [4.0, 4.0, 2.0]),
        ];
        PyramidDescription {
            name: Some("head".into()),
            spacing: [0.5, 0.25, 2.0],
            origin: [10.0, -3.0, 0.125],
            units: [Some("millimeter".into()), None, Some("micrometer".into())],
            method: Some("mean".into()),
            channel: Some(ChannelDescription {
                label: Some("CT".into()),
                color: [255, 128, 0],
                window: [-100.0, 400.0],
                limits: [-1024.0, 3071.0],
            }),
            ..PyramidDescription::new(levels)
        }
    }

    #[test]
    fn the_models_reader_agrees_and_finds_voxels_where_they_are() {
        let description = full();
        description.check().unwrap();
        let attributes = json!({ "ome": description.attributes() });
        let parsed: OmeZarrGroupAttributes = serde_json::from_value(attributes.clone()).unwrap();
        parsed.validate().unwrap();
        assert_eq!(attributes["ome"]["omero"]["channels"][0]["color"], "FF8000");
        let axes = &attributes["ome"]["multiscales"][0]["axes"];
        assert_eq!(
            *axes,
            json!([
                { "name": "z", "type": "space", "unit": "micrometer" },
                { "name": "y", "type": "space" },
                { "name": "x", "type": "space", "unit": "millimeter" },
            ])
        );
        // Where a level's voxel lies in the world, and where its place in level 0 does.
        for (level, (_, factor)) in description.levels.iter().enumerate() {
            let dataset = &attributes["ome"]["multiscales"][0]["datasets"][level];
            assert_eq!(dataset["path"], format!("s{level}"));
            let number = |kind: usize, name: &str, axis: usize| {
                dataset["coordinateTransformations"][kind][name][2 - axis].as_f64().unwrap()
            };
            let voxel = [3.0, 1.0, 2.0];
            for axis in 0..3 {
                let world = number(0, "scale", axis) * voxel[axis] + number(1, "translation", axis);
                let full = (voxel[axis] + 0.5) * factor[axis] - 0.5;
                let expected = description.origin[axis] + description.spacing[axis] * full;
                assert!((world - expected).abs() < 1e-12, "level {level}, axis {axis}: {world} {expected}");
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let refused = |change: fn(&mut PyramidDescription)| {
            let mut description = full();
            change(&mut description);
            description.check().unwrap_err().to_string()
        };
        assert!(refused(|d| d.spacing[1] = f64::NAN).contains("spacing"));
        assert!(refused(|d| d.spacing[1] = 0.0).contains("spacing"));
        assert!(refused(|d| d.origin[0] = f64::INFINITY).contains("origin"));
        assert!(refused(|d| d.levels[0].1[2] = 2.0).contains("level 0"));
        assert!(refused(|d| d.levels[2].0.y = 0).contains("level"));
        assert!(refused(|d| d.levels.clear()).contains("level 0 of 0"));
        assert!(refused(|d| d.channel.as_mut().unwrap().window[0] = f64::NAN).contains("window"));
    }
}
