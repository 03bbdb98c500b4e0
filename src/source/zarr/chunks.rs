//! Owns [`Chunks`]: the chunks of one array, in its own dimensions and bytes: which object holds one, and decoding it. Knows nothing of x, y, z or of voxel types.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use ::zarrs::array::Array;

use super::MOST_OBJECT_BYTES;
use super::fault::{Cause, Fault, caught};
use super::objects::{Coming, Objects, Part};
use super::pipeline::Pipeline;
use super::shards::{Index, Place, Shards};
use crate::error::SourceError;
use crate::source::chunked::Found;

/// The chunks of an array; where they are shards, the inner chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    objects: Arc<dyn Objects>,
    location: String,
    array: Array<()>,
    shape: Vec<NonZeroU64>,
    pipeline: Pipeline,
    shards: Option<Shards>,
}

impl Chunks {
    /// `zarrs` may panic in here.
    pub(super) fn new(objects: Arc<dyn Objects>, location: String, array: Array<()>) -> Result<Self, Cause> {
        let origin = vec![0; array.dimensionality()];
        let outer = array.chunk_shape(&origin)?;
        let (data_type, fill) = (array.data_type(), array.fill_value());
        let (shards, shape, pipeline) =
            if let Some((shards, inner)) = Shards::new(&array.codecs(), &outer, data_type)? {
                let pipeline = Pipeline::new(&inner.codecs, &inner.shape, data_type, fill)?;
                (Some(shards), inner.shape, pipeline)
            } else {
                let pipeline = Pipeline::new(&array.codecs(), &outer, data_type, fill)?;
                (None, outer, pipeline)
            };
        Ok(Self { objects, location, array, shape, pipeline, shards })
    }

    /// What messages call the array.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    pub(super) fn array(&self) -> &Array<()> {
        &self.array
    }

    /// Shape of a chunk.
    pub(super) fn shape(&self) -> &[NonZeroU64] {
        &self.shape
    }

    pub(super) fn are_inner(&self) -> bool {
        self.shards.is_some()
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    fn name(&self, object: &[u64]) -> String {
        self.array.chunk_key(object).as_str().to_owned()
    }

    fn most_bytes(&self) -> u64 {
        self.pipeline.most_encoded_bytes().min(MOST_OBJECT_BYTES)
    }

    /// Decodes a chunk, whose number is within the grid, into memory of exactly its size: bytes and strides as the pipeline says.
    pub(super) fn decode(&self, chunk: &[u64], out: &mut [u8]) -> Result<Found, SourceError> {
        let found = caught(|| match &self.shards {
            None => self.decode_object(&self.name(chunk), Part::Whole, out),
            Some(shards) => self.decode_inner(shards, chunk, out),
        });
        match found {
            Ok(true) => Ok(Found::Voxels),
            Ok(false) => Ok(Found::Missing),
            Err(source) => {
                Err(SourceError::Chunk { location: self.location.clone(), chunk: chunk.to_vec(), source })
            }
        }
    }

    /// Decodes an object, or a part of one; `false` where there is none.
    fn decode_object(&self, name: &str, part: Part, out: &mut [u8]) -> Result<bool, Cause> {
        if self.pipeline.is_stored() {
            let offset_bytes = match part {
                Part::At { offset_bytes, bytes } if bytes == out.len() as u64 => Some(offset_bytes),
                Part::At { bytes: actual_bytes, .. } => {
                    return Err(Fault::Length { expected_bytes: out.len() as u64, actual_bytes }.into());
                }
                Part::Whole | Part::Last { .. } => None,
            };
            return self
                .objects
                .read_into(name, offset_bytes, out)
                .map_err(|cause| self.of_object(name, cause));
        }
        let mut decode = |bytes: &[u8]| self.pipeline.decode(bytes, out);
        let read = self.objects.read(name, part, self.most_bytes(), &mut decode);
        read.map_err(|cause| self.of_object(name, cause))
    }

    /// What the system says names no file: adds which one it was.
    fn of_object(&self, name: &str, cause: Cause) -> Cause {
        match cause.downcast::<io::Error>() {
            Ok(error) => {
                io::Error::new(error.kind(), format!("{}: {error}", self.objects.location(name))).into()
            }
            Err(cause) => cause,
        }
    }

    fn decode_inner(&self, shards: &Shards, chunk: &[u64], out: &mut [u8]) -> Result<bool, Cause> {
        let (shard, inner) = shards.split(chunk);
        let name = self.name(&shard);
        if let Some(index) = shards.kept(&shard) {
            let decoded = self.decode_placed(shards, &index, &inner, &name, out);
            if decoded.is_ok() {
                return decoded;
            }
            // The shard may have been written anew since its index was read.
            shards.forget(&shard);
        }
        let index = shards.read(&*self.objects, &shard, &name);
        let index = index.map_err(|cause| self.of_object(&name, cause))?;
        self.decode_placed(shards, &index, &inner, &name, out)
    }

    fn decode_placed(
        &self,
        shards: &Shards,
        index: &Index,
        inner: &[u64],
        name: &str,
        out: &mut [u8],
    ) -> Result<bool, Cause> {
        match shards.place(index, inner, self.most_bytes())? {
            None => Ok(false),
            Some(Place { offset_bytes, bytes }) => {
                self.decode_object(name, Part::At { offset_bytes, bytes }, out)
            }
        }
    }

    /// Whether it is known that there is no such chunk, or can be known within microseconds.
    pub(super) fn missing(&self, chunk: &[u64]) -> bool {
        caught(|| self.look(chunk)).unwrap_or(false)
    }

    fn look(&self, chunk: &[u64]) -> Result<bool, Cause> {
        let near = self.objects.is_near();
        let Some(shards) = &self.shards else {
            return Ok(near && self.objects.size(&self.name(chunk))?.is_none());
        };
        let (shard, inner) = shards.split(chunk);
        let index = match shards.kept(&shard) {
            Some(index) => index,
            None if near => shards.read(&*self.objects, &shard, &self.name(&shard))?,
            None => return Ok(false),
        };
        Ok(shards.place(&index, &inner, u64::MAX)?.is_none())
    }

    /// Hints that chunks are about to be decoded.
    pub(super) fn will_read(self: &Arc<Self>, chunks: impl Iterator<Item = Vec<u64>>) {
        // Only a hint: whatever is wrong is met again by the read.
        let _ = caught(|| {
            match &self.shards {
                None => self.objects.will_read(&chunks.map(|chunk| self.coming(&chunk)).collect::<Vec<_>>()),
                Some(shards) => self.shards_will_be_read(shards, chunks),
            }
            Ok(())
        });
    }

    fn coming(&self, chunk: &[u64]) -> Coming {
        let most_bytes = self.pipeline.bytes().min(self.most_bytes());
        Coming { name: self.name(chunk), part: Part::Whole, most_bytes, readers: 1 }
    }

    /// Where a shard's index is here, its chunks are announced; elsewhere the indices are, and their chunks once those have come.
    fn shards_will_be_read(self: &Arc<Self>, shards: &Shards, chunks: impl Iterator<Item = Vec<u64>>) {
        let mut by_shard: Vec<(Vec<u64>, Vec<Vec<u64>>)> = Vec::new();
        let mut places = HashMap::new();
        for (shard, inner) in chunks.map(|chunk| shards.split(&chunk)) {
            let place = *places.entry(shard).or_insert_with_key(|shard| {
                by_shard.push((shard.clone(), Vec::new()));
                by_shard.len() - 1
            });
            by_shard[place].1.push(inner);
        }
        let (known, unknown): (Vec<_>, Vec<_>) = by_shard
            .into_iter()
            .map(|(shard, inner)| (shards.kept(&shard), shard, inner))
            .partition(|(index, ..)| index.is_some());
        for (index, shard, inner) in known {
            if let Some(index) = index {
                self.inner_will_be_read(shards, &index, &shard, &inner);
            }
        }
        if unknown.is_empty() || self.objects.is_near() {
            return;
        }
        let indices = unknown.iter().map(|(_, shard, _)| shards.index_coming(self.name(shard)));
        self.objects.will_read(&indices.collect::<Vec<_>>());
        let chunks = self.clone();
        self.objects.aside(Box::new(move || {
            let Some(shards) = &chunks.shards else { return };
            for (_, shard, inner) in unknown {
                let _ = caught(|| {
                    let index = match shards.kept(&shard) {
                        Some(index) => index,
                        None => shards.read(&*chunks.objects, &shard, &chunks.name(&shard))?,
                    };
                    chunks.inner_will_be_read(shards, &index, &shard, &inner);
                    Ok(())
                });
            }
        }));
    }

    fn inner_will_be_read(&self, shards: &Shards, index: &Index, shard: &[u64], inner: &[Vec<u64>]) {
        let name = self.name(shard);
        let parts = inner.iter().filter_map(|inner| {
            let Place { offset_bytes, bytes } = shards.place(index, inner, self.most_bytes()).ok()??;
            let part = Part::At { offset_bytes, bytes };
            Some(Coming { name: name.clone(), part, most_bytes: bytes, readers: 1 })
        });
        self.objects.will_read(&parts.collect::<Vec<_>>());
    }
}
