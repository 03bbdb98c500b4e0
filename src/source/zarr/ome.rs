//! Owns the text of OME-Zarr: what the attributes of a group say of an image, in versions 0.1 to 0.5. Knows nothing of arrays.
//!
//! Read leniently, for what is in the world has been written by many hands: keys that are not known are passed over, and what can be done without may be missing.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One axis of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZarrAxis {
    /// Its name, such as `x`.
    pub name: String,
    /// What it is: `space`, `time`, `channel` or something else.
    pub kind: Option<String>,
    /// What it is measured in, such as `micrometer`.
    pub unit: Option<String>,
}

/// How one channel of an image is shown.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ZarrChannel {
    /// Its name.
    pub label: Option<String>,
    /// Red, green and blue.
    pub color: Option<[u8; 3]>,
    /// The values that are black and full colour.
    pub window: Option<[f64; 2]>,
    /// Whether it is shown at first.
    pub active: bool,
}

/// One resolution of an image.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ZarrLevel {
    /// Place of its array in the store.
    pub path: String,
    /// Distance of neighbouring voxels along each axis; 1 where nothing says.
    pub scale: Vec<f64>,
    /// Where the centre of the first voxel lies, along each axis; 0 where nothing says.
    pub translation: Vec<f64>,
}

/// What attributes say of one image.
#[derive(Debug)]
pub(super) struct ImageText {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    /// Empty where the version has none: then they are the last of t, c, z, y, x.
    pub(super) axes: Vec<ZarrAxis>,
    pub(super) levels: Vec<ZarrLevel>,
    pub(super) channels: Vec<ZarrChannel>,
    pub(super) is_label: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Multiscale {
    name: Option<String>,
    version: Option<String>,
    #[serde(default)]
    axes: Vec<AxisText>,
    datasets: Vec<DatasetText>,
    #[serde(default)]
    coordinate_transformations: Vec<Transform>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AxisText {
    Name(String),
    Full { name: String, r#type: Option<String>, unit: Option<String> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DatasetText {
    path: String,
    #[serde(default)]
    coordinate_transformations: Vec<Transform>,
}

#[derive(Deserialize)]
struct Transform {
    scale: Option<Vec<f64>>,
    translation: Option<Vec<f64>>,
}

/// The images that the attributes of the group at `path` speak of; the reason where they speak of some, but not so that it can be understood.
pub(super) fn images(
    path: &str,
    attributes: &Map<String, Value>,
) -> Result<Vec<ImageText>, serde_json::Error> {
    let ome = attributes.get("ome").and_then(Value::as_object).unwrap_or(attributes);
    let Some(multiscales) = ome.get("multiscales") else { return Ok(Vec::new()) };
    let multiscales: Vec<Multiscale> = serde_json::from_value(multiscales.clone())?;
    let version = ome.get("version").and_then(Value::as_str);
    let channels = channels(ome.get("omero"));
    let is_label = ome.contains_key("image-label");
    let image = |text: Multiscale| ImageText {
        axes: text.axes.into_iter().map(axis).collect(),
        levels: text
            .datasets
            .into_iter()
            .map(|d| level(path, &d, &text.coordinate_transformations))
            .collect(),
        version: text.version.or_else(|| version.map(str::to_owned)),
        name: text.name,
        channels: channels.clone(),
        is_label,
    };
    Ok(multiscales.into_iter().map(image).collect())
}

fn axis(text: AxisText) -> ZarrAxis {
    match text {
        AxisText::Full { name, r#type, unit } => ZarrAxis { name, kind: r#type, unit },
        // Version 0.3 has names alone, and only these.
        AxisText::Name(name) => {
            let kind = match name.as_str() {
                "x" | "y" | "z" => Some("space"),
                "t" => Some("time"),
                "c" => Some("channel"),
                _ => None,
            };
            ZarrAxis { kind: kind.map(str::to_owned), name, unit: None }
        }
    }
}

fn level(group: &str, text: &DatasetText, of_all: &[Transform]) -> ZarrLevel {
    let path = text.path.trim_matches('/');
    let path = match (group, path) {
        ("", path) => path.to_owned(),
        (group, "" | ".") => group.to_owned(),
        (group, path) => format!("{group}/{path}"),
    };
    let (mut scale, mut translation): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    // Those of the level come first.
    for transform in text.coordinate_transformations.iter().chain(of_all) {
        for (axis, by) in transform.scale.iter().flatten().enumerate() {
            *at(&mut scale, axis, 1.0) *= by;
            *at(&mut translation, axis, 0.0) *= by;
        }
        for (axis, by) in transform.translation.iter().flatten().enumerate() {
            *at(&mut translation, axis, 0.0) += by;
        }
    }
    ZarrLevel { path, scale, translation }
}

/// The entry of an axis, with all before it.
fn at(values: &mut Vec<f64>, axis: usize, neutral: f64) -> &mut f64 {
    if values.len() <= axis {
        values.resize(axis + 1, neutral);
    }
    &mut values[axis]
}

/// What `omero` says of channels; nothing where it cannot be understood, for it only says how to show them.
fn channels(omero: Option<&Value>) -> Vec<ZarrChannel> {
    let list = omero.and_then(|omero| omero.get("channels")).and_then(Value::as_array);
    let channel = |text: &Value| {
        let bound = |key: &str| text.pointer(&format!("/window/{key}")).and_then(Value::as_f64);
        ZarrChannel {
            label: text.get("label").and_then(Value::as_str).map(str::to_owned),
            color: text.get("color").and_then(Value::as_str).and_then(color),
            window: bound("start").zip(bound("end")).map(|(start, end)| [start, end]),
            active: text.get("active").and_then(Value::as_bool).unwrap_or(true),
        }
    };
    list.into_iter().flatten().map(channel).collect()
}

/// From `RRGGBB`, or `RRGGBBAA`.
fn color(text: &str) -> Option<[u8; 3]> {
    let digits = text.trim_start_matches('#');
    if !matches!(digits.len(), 6 | 8) {
        return None;
    }
    let all = u32::from_str_radix(digits.get(..6)?, 16).ok()?;
    let [_, r, g, b] = all.to_be_bytes();
    Some([r, g, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<ImageText> {
        let Value::Object(attributes) = serde_json::from_str(text).unwrap() else { panic!() };
        images("group", &attributes).unwrap()
    }

    #[test]
    fn transformations_of_levels_come_before_those_of_the_image() {
        let images = read(
            r#"{"ome": {"version": "0.5", "unknown": 1, "multiscales": [{"name": "n",
              "axes": [{"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space"}],
              "datasets": [{"path": "s0", "coordinateTransformations":
                 [{"type": "scale", "scale": [0.1, 0.2]}, {"type": "translation", "translation": [1, 2]}]}],
              "coordinateTransformations": [{"type": "scale", "scale": [10, 10]}]}]}}"#,
        );
        let image = &images[0];
        assert_eq!((image.name.as_deref(), image.version.as_deref()), (Some("n"), Some("0.5")));
        assert_eq!(image.axes[0].unit.as_deref(), Some("micrometer"));
        let expected =
            ZarrLevel { path: "group/s0".into(), scale: vec![1.0, 2.0], translation: vec![10.0, 20.0] };
        assert_eq!(image.levels, [expected]);
    }

    #[test]
    fn what_says_how_to_show_channels_is_read_as_far_as_it_can_be_understood() {
        let images = read(
            r#"{"multiscales": [{"version": "0.4", "axes": ["c", "y", "x"], "datasets": [{"path": "0"}]}],
              "omero": {"channels": [
                {"label": "DAPI", "color": "0000FF", "window": {"start": 5, "end": 1500.5, "min": 0, "max": 65535}, "active": false},
                {"color": "ü0000", "window": {"start": 5}}, {"color": "ff000080"}, 7]}}"#,
        );
        let [dapi, odd, red, number] = &images[0].channels[..] else { panic!() };
        assert_eq!(
            dapi,
            &ZarrChannel {
                label: Some("DAPI".into()),
                color: Some([0, 0, 255]),
                window: Some([5.0, 1500.5]),
                active: false
            }
        );
        assert_eq!((odd.color, odd.window, odd.active), (None, None, true));
        assert_eq!((red.color, number.label.as_deref()), (Some([255, 0, 0]), None));
        assert_eq!(images[0].axes[0].kind.as_deref(), Some("channel"));
    }

    #[test]
    fn groups_without_images_have_none_and_what_cannot_be_understood_is_told() {
        assert!(read(r#"{"labels": ["cells"]}"#).is_empty());
        let bad = serde_json::json!({"multiscales": [{"datasets": 7}]});
        assert!(images("", bad.as_object().unwrap()).is_err());
    }
}
