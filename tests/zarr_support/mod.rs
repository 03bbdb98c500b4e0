//! What the tests of Zarr share: arrays that `zarrs` writes, of any shape and codecs, and voxels as bytes whatever their type.
#![allow(clippy::cast_possible_truncation, reason = "arrays of a few thousand voxels")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use vastgrid::source::{BoxedSource, Dataset, Endian, ZarrSlice};
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, Scalar, SparseArray3D, TileSource};
use zarrs::array::{Array, ArrayBytes, ArrayMetadata};
use zarrs::filesystem::FilesystemStore;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Calls a function of `BoxedSource<T>` with whatever a dataset holds.
macro_rules! with_source {
    ($dataset:expr, $f:expr) => {
        match $dataset {
            Dataset::U8(source) => $f(source),
            Dataset::I8(source) => $f(source),
            Dataset::U16(source) => $f(source),
            Dataset::I16(source) => $f(source),
            Dataset::U32(source) => $f(source),
            Dataset::I32(source) => $f(source),
            Dataset::F16(source) => $f(source),
            Dataset::F32(source) => $f(source),
            Dataset::F64(source) => $f(source),
            other => panic!("a type that this test does not know: {other:?}"),
        }
    };
}

/// All voxels, least significant byte first, read through an array of such tiles that has room for an eighth of them.
pub(crate) fn bytes_through_array(dataset: Dataset, tile: [u64; 3]) -> Vec<u8> {
    trait Bytes {
        fn bytes(self, tile: [u64; 3]) -> Vec<u8>;
    }
    impl<T: Scalar> Bytes for BoxedSource<T> {
        fn bytes(self, tile: [u64; 3]) -> Vec<u8> {
            let region = Region::whole(self.extent());
            let voxels = region.extent.checked_volume().unwrap();
            let budget_bytes = (voxels * size_of::<T>() as u64 / 8).max(64 << 10);
            let pool = Pool::new(HostBackend::new(), budget_bytes).unwrap();
            let array = SparseArray3D::builder(&pool, self).tile(tile).page_bytes(16 << 10).build().unwrap();
            little_endian(array.to_vec(region).unwrap())
        }
    }
    with_source!(dataset, |source| Bytes::bytes(source, tile))
}

/// Voxels of a region, least significant byte first, read from the source itself.
pub(crate) fn bytes_of(dataset: &Dataset, region: Region) -> Result<Vec<u8>, vastgrid::SourceError> {
    trait Bytes {
        fn bytes(&self, region: Region) -> Result<Vec<u8>, vastgrid::SourceError>;
    }
    impl<T: Scalar> Bytes for BoxedSource<T> {
        fn bytes(&self, region: Region) -> Result<Vec<u8>, vastgrid::SourceError> {
            // Not zero before: every voxel must be written.
            let mut out = vec![T::from_f64(77.0); region.extent.checked_volume().unwrap() as usize];
            self.read(region, &mut out)?;
            Ok(little_endian(out))
        }
    }
    with_source!(dataset, |source| Bytes::bytes(source, region))
}

fn little_endian<T: Scalar>(mut voxels: Vec<T>) -> Vec<u8> {
    if Endian::NATIVE == Endian::Big {
        for voxel in &mut voxels {
            *voxel = voxel.swap_bytes();
        }
    }
    bytemuck::cast_slice(&voxels).to_vec()
}

/// An array that a test writes.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) shape: Vec<u64>,
    /// Of chunks, or of shards.
    pub(crate) chunk: Vec<u64>,
    pub(crate) metadata: Value,
    pub(crate) voxel_bytes: usize,
    /// Every so many chunks one is not written.
    pub(crate) missing_every: u64,
    pub(crate) seed: u64,
}

/// Types by their name in version 3, in version 2, and their size; and a fill value that is not zero.
pub(crate) const TYPES: [(&str, &str, usize, i64); 9] = [
    ("uint8", "u1", 1, 7),
    ("int8", "i1", 1, -7),
    ("uint16", "u2", 2, 700),
    ("int16", "i2", 2, -700),
    ("uint32", "u4", 4, 70_000),
    ("int32", "i4", 4, -70_000),
    ("float16", "f2", 2, 3),
    ("float32", "f4", 4, -3),
    ("float64", "f8", 8, 3),
];

/// Combinations of bytes-to-bytes codecs of version 3, for voxels of that size.
fn bytes_codecs(which: usize, voxel_bytes: usize) -> Vec<Value> {
    let zstd = |checksum: bool| json!({"name": "zstd", "configuration": {"level": 1, "checksum": checksum}});
    let gzip = json!({"name": "gzip", "configuration": {"level": 1}});
    let crc = json!({"name": "crc32c"});
    let blosc = json!({"name": "blosc", "configuration":
        {"typesize": voxel_bytes, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}});
    match which {
        0 => vec![],
        1 => vec![zstd(false)],
        2 => vec![gzip],
        3 => vec![blosc],
        4 => vec![crc],
        5 => vec![zstd(true), crc],
        6 => vec![json!({"name": "numcodecs.zlib", "configuration": {"level": 1}})],
        7 => vec![json!({"name": "numcodecs.bz2", "configuration": {"level": 1}})],
        8 => vec![
            json!({"name": "numcodecs.shuffle", "configuration": {"elementsize": voxel_bytes}}),
            zstd(false),
        ],
        _ => vec![zstd(false), gzip, crc],
    }
}

/// Any array of version 3 that we read, of a few thousand voxels.
pub(crate) fn version_3() -> impl Strategy<Value = Written> {
    let dimensions = prop::collection::vec((1u64..20, 1u64..12, 1u64..4), 2..=5);
    (dimensions, 0..TYPES.len(), 0..10usize, any::<u64>(), any::<[bool; 4]>(), 2u64..6).prop_map(
        |(dimensions, kind, codecs, seed, [big, transposed, sharded, index_first], missing_every)| {
            let short = |d: usize, side: u64| if dimensions.len() - d > 3 { side % 3 + 1 } else { side };
            let shape: Vec<_> = dimensions.iter().enumerate().map(|(d, s)| short(d, s.0)).collect();
            let inner: Vec<_> = dimensions.iter().enumerate().map(|(d, s)| short(d, s.1)).collect();
            let (name, _, voxel_bytes, fill) = TYPES[kind];
            let mut chain = Vec::new();
            if transposed {
                let mut order: Vec<_> = (0..shape.len()).collect();
                order.rotate_left(seed as usize % shape.len());
                if seed % 3 == 0 {
                    order.reverse();
                }
                chain.push(json!({"name": "transpose", "configuration": {"order": order}}));
            }
            chain.push(json!({"name": "bytes", "configuration": {"endian": if big { "big" } else { "little" }}}));
            chain.extend(bytes_codecs(codecs, voxel_bytes));
            let mut chunk = inner.clone();
            if sharded {
                chunk = inner.iter().zip(&dimensions).map(|(side, d)| side * d.2).collect();
                let location = if index_first { "start" } else { "end" };
                chain = vec![json!({"name": "sharding_indexed", "configuration": {
                    "chunk_shape": inner, "codecs": chain, "index_location": location,
                    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}})];
            }
            let metadata = json!({"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": name,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": if big { "/" } else { "." }}},
                "fill_value": fill, "codecs": chain, "attributes": {}});
            Written { shape, chunk, metadata, voxel_bytes, missing_every, seed }
        },
    )
}

/// Any array of version 2 that we read.
pub(crate) fn version_2() -> impl Strategy<Value = Written> {
    let dimensions = prop::collection::vec((1u64..20, 1u64..12), 2..=4);
    (dimensions, 0..TYPES.len(), 0..6usize, any::<u64>(), any::<[bool; 3]>(), 2u64..6).prop_map(
        |(dimensions, kind, codec, seed, [big, fortran, slash], missing_every)| {
            let (shape, chunk): (Vec<_>, Vec<_>) = dimensions.into_iter().unzip();
            let (_, name, voxel_bytes, fill) = TYPES[kind];
            let order = match (voxel_bytes, big) {
                (1, _) => "|",
                (_, true) => ">",
                _ => "<",
            };
            let compressor = match codec {
                0 => Value::Null,
                1 => json!({"id": "zlib", "level": 1}),
                2 => json!({"id": "gzip", "level": 1}),
                3 => json!({"id": "bz2", "level": 1}),
                4 => json!({"id": "zstd", "level": 1}),
                _ => json!({"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}),
            };
            let metadata = json!({"zarr_format": 2, "shape": shape, "chunks": chunk, "dtype": format!("{order}{name}"),
                "compressor": compressor, "filters": null, "fill_value": fill, "order": if fortran { "F" } else { "C" },
                "dimension_separator": if slash { "/" } else { "." }});
            Written { shape, chunk, metadata, voxel_bytes, missing_every, seed }
        },
    )
}

pub(crate) fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

impl Written {
    /// Has `zarrs` write the array into a folder. Returns its voxels, in the array's own order.
    pub(crate) fn write(&self, folder: &Path) -> Vec<Vec<u8>> {
        let storage = Arc::new(FilesystemStore::new(folder).unwrap());
        let metadata = if self.metadata["zarr_format"] == 3 {
            ArrayMetadata::V3(serde_json::from_value(self.metadata.clone()).unwrap())
        } else {
            ArrayMetadata::V2(serde_json::from_value(self.metadata.clone()).unwrap())
        };
        let array = Array::new_with_metadata(storage, "/", metadata).unwrap();
        array.store_metadata().unwrap();
        let fill = array.fill_value().as_ne_bytes().to_vec();
        let voxels = self.shape.iter().product::<u64>() as usize;
        let mut all = vec![fill.clone(); voxels];
        let mut random = random(self.seed);
        let grid = array.chunk_grid_shape().to_vec();
        for chunk in positions(&grid) {
            if random().is_multiple_of(self.missing_every) {
                continue;
            }
            let mut bytes = Vec::new();
            // Inner chunks of fill alone are not stored in shards.
            let (all_fill, half_fill) = (random().is_multiple_of(8), random().is_multiple_of(2));
            for within in positions(&self.chunk) {
                let at: Vec<_> =
                    chunk.iter().zip(&self.chunk).zip(&within).map(|((c, side), w)| c * side + w).collect();
                let filled = all_fill || half_fill && within[0] < self.chunk[0] / 2;
                let voxel: Vec<u8> = if filled {
                    fill.clone()
                } else {
                    let few = random();
                    (0..self.voxel_bytes).map(|byte| (few >> (8 * byte) & 0x3) as u8).collect()
                };
                if at.iter().zip(&self.shape).all(|(at, size)| at < size) {
                    all[self.place(&at)].clone_from(&voxel);
                }
                bytes.extend(voxel);
            }
            array.store_chunk(&chunk, ArrayBytes::new_flen(bytes)).unwrap();
        }
        all
    }

    fn place(&self, at: &[u64]) -> usize {
        at.iter().zip(&self.shape).fold(0, |all, (at, size)| all * *size as usize + *at as usize)
    }

    /// A slice of it at random: any dimensions as x, y, z.
    pub(crate) fn slice(&self, seed: u64) -> ZarrSlice {
        let mut random = random(seed);
        let mut dimensions: Vec<_> = (0..self.shape.len()).collect();
        if random().is_multiple_of(2) {
            for i in (1..dimensions.len()).rev() {
                dimensions.swap(i, (random() % (i as u64 + 1)) as usize);
            }
        }
        let z = dimensions.len().checked_sub(3).map(|at| dimensions[at]);
        let [.., y, x] = dimensions[..] else { panic!("two dimensions at least") };
        let mut slice = ZarrSlice { x, y: Some(y), z, at: Vec::new() };
        for &d in &dimensions[..dimensions.len().saturating_sub(3)] {
            slice = slice.with_index(d, random() % self.shape[d]);
        }
        slice
    }

    /// The voxels of a region of a slice, as bytes, least significant first.
    pub(crate) fn expected(&self, all: &[Vec<u8>], slice: &ZarrSlice, region: Region) -> Vec<u8> {
        let mut at = vec![0; self.shape.len()];
        for &(d, index) in &slice.at {
            at[d] = index;
        }
        let mut bytes = Vec::new();
        let Region { start, extent } = region;
        for z in start.z..start.z + extent.z {
            for y in start.y..start.y + extent.y {
                for x in start.x..start.x + extent.x {
                    for (d, value) in [(Some(slice.x), x), (slice.y, y), (slice.z, z)] {
                        if let Some(d) = d {
                            at[d] = value;
                        }
                    }
                    let voxel = all[self.place(&at)].iter();
                    if cfg!(target_endian = "big") { bytes.extend(voxel.rev()) } else { bytes.extend(voxel) }
                }
            }
        }
        bytes
    }
}

/// All positions in a box, the last dimension fastest.
pub(crate) fn positions(shape: &[u64]) -> Vec<Vec<u64>> {
    let count = shape.iter().product::<u64>();
    let position = |nth: u64| {
        let mut rest = nth;
        let mut at: Vec<_> = shape
            .iter()
            .rev()
            .map(|size| {
                let here = rest % size;
                rest /= size;
                here
            })
            .collect();
        at.reverse();
        at
    };
    (0..count).map(position).collect()
}

/// A region of an extent at random.
pub(crate) fn region(extent: Extent, seed: u64) -> Region {
    let mut random = random(seed);
    let mut axis = |size: u64| {
        let start = random() % size;
        (start, 1 + random() % (size - start))
    };
    let (x, y, z) = (axis(extent.x), axis(extent.y), axis(extent.z));
    Region::new(Coord::new(x.0, y.0, z.0), Extent::new(x.1, y.1, z.1))
}

/// All files under a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Copies a folder with all that is in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::write(copy, std::fs::read(file).unwrap()).unwrap();
    }
}
