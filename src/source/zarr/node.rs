//! Owns [`Node`]: what lies at a place in a store, as its metadata says, in either version of the format. Knows nothing of chunks, or of what attributes mean.

use std::sync::Arc;

use ::zarrs::array::{Array, ArrayMetadata, ArrayMetadataV2, ArrayMetadataV3};
use serde_json::{Map, Value};

use super::fault::{Cause, Fault, caught};
use super::objects::{Coming, Objects, Part};
use crate::error::SourceError;

/// The most bytes that a file of metadata may have. Consolidated metadata of many arrays lies in one.
pub(super) const MOST_METADATA_BYTES: u64 = 64 << 20;

/// What is set aside for a file of metadata that is fetched ahead.
const USUAL_METADATA_BYTES: u64 = 16 << 10;

/// What lies at a place in a store.
#[derive(Debug)]
pub(super) struct Node {
    /// Its place, without slashes around it; empty is the root.
    pub(super) path: String,
    /// Which version of the format it is of, 2 or 3.
    pub(super) version: u8,
    /// Empty where there are none, or where they cannot be read.
    pub(super) attributes: Map<String, Value>,
    /// Why the attributes cannot be read.
    pub(super) bad_attributes: Option<SourceError>,
    pub(super) kind: Kind,
}

/// A group, or an array.
#[derive(Debug)]
pub(super) enum Kind {
    Group,
    Array(Box<ArrayText>),
}

/// What an array's metadata says, and what `zarrs` makes of it.
#[derive(Debug)]
pub(super) struct ArrayText {
    pub(super) shape: Vec<u64>,
    /// Shape of the chunks, or of the shards; empty where the grid is not regular.
    pub(super) chunk: Vec<u64>,
    /// As the metadata names it.
    pub(super) type_name: String,
    pub(super) dimension_names: Vec<Option<String>>,
    pub(super) array: Result<Array<()>, Cause>,
}

impl Node {
    /// Hints that nodes are about to be read; those of a group are most often of its own version.
    pub(super) fn will_be_read(objects: &dyn Objects, paths: &[String], version: u8) {
        let names: &[&str] =
            if version == 3 { &["zarr.json"] } else { &["zarr.json", ".zarray", ".zgroup", ".zattrs"] };
        let coming = paths.iter().flat_map(|path| names.iter().map(move |name| format!("{path}/{name}")));
        let coming = coming.map(|name| Coming {
            name,
            part: Part::Whole,
            most_bytes: USUAL_METADATA_BYTES,
            readers: 1,
        });
        objects.will_read(&coming.collect::<Vec<_>>());
    }

    /// Reads what lies at a place; `None` where that is neither an array nor a group.
    ///
    /// # Errors
    /// [`SourceError::Store`]: metadata that cannot be read, is no JSON or lacks what it must have.
    pub(super) fn read(objects: &dyn Objects, path: &str) -> Result<Option<Self>, SourceError> {
        let file = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let failed = |name: &str, source: Cause| {
            let location = objects.location(&file(name));
            SourceError::Store { doing: "reading", location, source }
        };
        let text = |name: &str| json(objects, &file(name)).map_err(|source| failed(name, source));
        let mut bad_attributes = None;
        let (version, kind, attributes) = if let Some(mut text) = text("zarr.json")? {
            let attributes = text.as_object_mut().and_then(|text| text.remove("attributes"));
            let kind = kind_3(path, text).map_err(|source| failed("zarr.json", source))?;
            (3, kind, attributes)
        } else {
            let kind = if let Some(text) = text(".zarray")? {
                let array = array_2(path, text).map_err(|source| failed(".zarray", source))?;
                Kind::Array(Box::new(array))
            } else if text(".zgroup")?.is_some() {
                Kind::Group
            } else {
                return Ok(None);
            };
            let attributes = text(".zattrs").unwrap_or_else(|error| {
                bad_attributes = Some(error);
                None
            });
            (2, kind, attributes)
        };
        let attributes = match attributes {
            Some(Value::Object(attributes)) => attributes,
            _ => Map::new(),
        };
        Ok(Some(Self { path: path.to_owned(), version, attributes, bad_attributes, kind }))
    }
}

/// The JSON of an object; `None` where there is no such object.
fn json(objects: &dyn Objects, name: &str) -> Result<Option<Value>, Cause> {
    caught(|| {
        let mut value = None;
        objects.read(name, Part::Whole, MOST_METADATA_BYTES, &mut |bytes| {
            value = Some(serde_json::from_slice(bytes)?);
            Ok(())
        })?;
        Ok(value)
    })
}

fn kind_3(path: &str, text: Value) -> Result<Kind, Cause> {
    match (text.get("zarr_format").and_then(Value::as_u64), text.get("node_type").and_then(Value::as_str)) {
        (Some(3), Some("group")) => Ok(Kind::Group),
        (Some(3), Some("array")) => Ok(Kind::Array(Box::new(array_3(path, text)?))),
        _ => Err(Fault::Nothing("`zarr_format` of 3 and `node_type` of `array` or `group`").into()),
    }
}

fn array_3(path: &str, text: Value) -> Result<ArrayText, Cause> {
    let shape = sizes(text.get("shape")).ok_or(Fault::Nothing("`shape` of whole numbers"))?;
    let grid = text.get("chunk_grid").filter(|grid| grid.get("name").is_some_and(|name| name == "regular"));
    let chunk = sizes(grid.and_then(|grid| grid.pointer("/configuration/chunk_shape"))).unwrap_or_default();
    let type_name = type_name(text.get("data_type"))?;
    let names = text.get("dimension_names").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |d: usize| names.get(d).and_then(Value::as_str).map(str::to_owned);
    let dimension_names = (0..shape.len()).map(name).collect();
    let array = caught(|| {
        let metadata: ArrayMetadataV3 = serde_json::from_value(text)?;
        if let Some((name, _)) = metadata.additional_fields.iter().find(|(_, field)| field.must_understand())
        {
            return Err(Fault::Extension(name.clone()).into());
        }
        if let Some(transformer) = metadata.storage_transformers.first() {
            return Err(Fault::Extension(transformer.name().to_owned()).into());
        }
        array(path, &chunk, ArrayMetadata::V3(metadata))
    });
    Ok(ArrayText { shape, chunk, type_name, dimension_names, array })
}

fn array_2(path: &str, text: Value) -> Result<ArrayText, Cause> {
    let shape = sizes(text.get("shape")).ok_or(Fault::Nothing("`shape` of whole numbers"))?;
    let chunk = sizes(text.get("chunks")).unwrap_or_default();
    let type_name = type_name(text.get("dtype"))?;
    let dimension_names = vec![None; shape.len()];
    let array = caught(|| {
        let metadata: ArrayMetadataV2 = serde_json::from_value(text)?;
        array(path, &chunk, ArrayMetadata::V2(metadata))
    });
    Ok(ArrayText { shape, chunk, type_name, dimension_names, array })
}

/// Made without a store: what is read of it we read ourselves.
fn array(path: &str, chunk: &[u64], metadata: ArrayMetadata) -> Result<Array<()>, Cause> {
    if chunk.iter().try_fold(64u64, |bytes, &side| bytes.checked_mul(side)).is_none() {
        return Err(Fault::Chunk(chunk.to_vec()).into());
    }
    Ok(Array::new_with_metadata(Arc::new(()), &format!("/{path}"), metadata)?)
}

fn sizes(value: Option<&Value>) -> Option<Vec<u64>> {
    value?.as_array()?.iter().map(Value::as_u64).collect()
}

fn type_name(value: Option<&Value>) -> Result<String, Fault> {
    match value {
        Some(Value::String(name)) => Ok(name.clone()),
        // A type with a configuration; version 2 has lists of fields.
        Some(value @ (Value::Object(_) | Value::Array(_))) => {
            Ok(value.get("name").and_then(Value::as_str).map_or_else(|| value.to_string(), str::to_owned))
        }
        _ => Err(Fault::Nothing("data type")),
    }
}
