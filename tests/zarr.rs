//! Zarr by property: stores that others wrote decode to what they meant, any slice and region equals that part of the whole, each chunk is decoded once for all tiles beside it, and no store,
//! however damaged, does more than return an error.
#![allow(clippy::cast_possible_truncation, reason = "arrays of a few thousand voxels")]

mod zarr_support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest, Sha256};
use vastgrid::source::{Dataset, Zarr, ZarrSelection, ZarrSlice};
use vastgrid::{
    Extent, HostBackend, Pool, PyramidSource, Region, ScalarType, SourceError, SparseArray3D, TileCoord,
    TileSource,
};
use zarr_support::{
    Written, bytes_of, bytes_through_array, copy_folder, files, fixtures, random, region, version_2,
    version_3,
};
use zarrs::filesystem::FilesystemStore;
use zarrs::storage::byte_range::ByteRangeIterator;
use zarrs::storage::{
    ListableStorageTraits, MaybeBytesIterator, ReadableStorageTraits, StorageError, StoreKey, StoreKeys,
    StoreKeysPrefixes, StorePrefix,
};

/// Tiles that divide no fixture's extent or chunks.
const TILES: [[u64; 3]; 3] = [[16, 8, 4], [4, 32, 2], [64, 2, 32]];

// ---- stores written elsewhere --------------------------------------------------------------------------------------------------------------------

#[test]
fn fixtures_decode_to_the_voxels_that_their_writers_wrote() {
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    let mut tested = 0;
    for entry in expected.as_array().unwrap() {
        if !entry["format"].as_str().unwrap().to_lowercase().contains("zarr") {
            continue;
        }
        let path = entry["path"].as_str().unwrap();
        let (store, array) = path.split_once("::").unwrap_or((path, ""));
        let zyx: Vec<u64> = entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let scalar_type = match entry["dtype"].as_str().unwrap() {
            "|u1" => ScalarType::U8,
            "<i2" => ScalarType::I16,
            "<u2" => ScalarType::U16,
            other => panic!("{other}"),
        };
        let zarr = Zarr::open(fixtures().join(store)).unwrap();
        assert!(zarr.skipped().is_empty() && !zarr.is_cut(), "{zarr:?}");
        let listed = zarr.arrays().iter().find(|listed| listed.path() == array).unwrap();
        assert_eq!((listed.shape(), listed.scalar_type()), (&zyx[..], Some(scalar_type)), "{path}");
        for tile in TILES {
            let dataset = listed.dataset(&ZarrSlice::last(3)).unwrap();
            assert_eq!(dataset.extent(), Extent::from_zyx([zyx[0], zyx[1], zyx[2]]));
            let digest = format!("{:x}", Sha256::digest(bytes_through_array(dataset, tile)));
            assert_eq!(digest, entry["sha256"].as_str().unwrap(), "{path} in tiles of {tile:?}");
            tested += 1;
        }
    }
    assert_eq!(tested, 3 * 17, "arrays times tiles");
}

#[test]
fn fixture_metadata_says_what_their_writers_said() {
    let open = |path: &str| Zarr::open(fixtures().join(path)).unwrap();
    let sharded = open("zarr_v3/sharded_i16.zarr");
    let array = &sharded.arrays()[0];
    assert_eq!((array.chunk_shape(), array.shard_shape()), (vec![8; 3], Some(&[32, 32, 32][..])));
    assert_eq!((array.type_name(), array.fill_value(), array.path()), ("int16", Some(0.0), ""));
    let sparse = open("zarr_v2/sparse_fill-1000_i16.zarr");
    assert_eq!((sparse.arrays()[0].type_name(), sparse.arrays()[0].fill_value()), ("<i2", Some(-1000.0)));
    assert_eq!(sparse.arrays()[0].shard_shape(), None);
    let group = open("zarr_v2/group_consolidated.zarr");
    assert_eq!(group.arrays()[0].path(), "sub/i16");
    assert_eq!(group.array("/sub/i16/").unwrap().shape(), [45, 37, 29]);
    for version in ["0.4", "0.5"] {
        let zarr = open(&format!("ome_zarr/brain_v{version}.ome.zarr"));
        let [image] = zarr.images() else { panic!("{zarr:?}") };
        assert_eq!((image.version(), image.levels().len(), image.is_label()), (Some(version), 3, false));
        assert_eq!(image.spacing(), [1.0, 1.0, 1.5]);
        assert_eq!(image.scale(2), [4.0, 4.0, 6.0]);
        assert_eq!((image.origin(), image.units()), ([0.0; 3], [Some("millimeter"); 3]));
        assert_eq!((image.times(), image.channel_count(), image.channels().len()), (None, None, 0));
        let level = image.level(1, &ZarrSelection::default()).unwrap();
        assert_eq!(level.extent(), Extent::new(64, 64, 42));
        assert!(image.level(1, &ZarrSelection { channel: 1, ..Default::default() }).is_err());
        assert!(image.level(3, &ZarrSelection::default()).is_err());
    }
    let v5 = open("ome_zarr/brain_v0.5.ome.zarr");
    assert_eq!(v5.array("s1").unwrap().dimension_names()[0].as_deref(), Some("z"));
}

#[test]
fn tiles_of_chunks_that_are_not_stored_take_no_memory() {
    for path in ["zarr_v2/sparse_fill-1000_i16.zarr", "zarr_v3/sparse_fill-1000_i16.zarr"] {
        let zarr = Zarr::open(fixtures().join(path)).unwrap();
        let source = zarr.arrays()[0].source::<i16>(&ZarrSlice::last(3)).unwrap();
        let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
        let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build().unwrap();
        // Chunk 0, 0, 0 is not there; 2, 2, 2 is.
        let loaded =
            array.request(&[TileCoord::new(0, 0, 0), TileCoord::new(2, 2, 2)]).unwrap().complete().unwrap();
        assert_eq!((loaded.uniform, loaded.loaded), (1, 1), "{path}");
    }
}

// ---- stores written here -------------------------------------------------------------------------------------------------------------------------

fn reads_back(written: &Written, seed: u64) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let all = written.write(folder.path());
    let near = Zarr::open(folder.path()).unwrap();
    let far = Zarr::over(Arc::new(FilesystemStore::new(folder.path()).unwrap()), "far").unwrap();
    let mut random = random(seed);
    for zarr in [near, far] {
        let array = zarr.arrays()[0].clone().with_kept_bytes([0, 3000, 1 << 20][seed as usize % 3]);
        let slice = written.slice(random());
        let dataset = array.dataset(&slice).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for _ in 0..4 {
            let region = region(dataset.extent(), random());
            let bytes = bytes_of(&dataset, region).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let expected = written.expected(&all, &slice, region);
            prop_assert!(bytes == expected, "{region} of {slice:?} from {}", zarr.name());
            if let Some(uniform) = uniform_bytes(&dataset, region) {
                let same = expected.chunks_exact(written.voxel_bytes).all(|voxel| voxel == uniform);
                prop_assert!(same, "{region} is not uniform");
            }
        }
        let whole = written.expected(&all, &slice, Region::whole(dataset.extent()));
        prop_assert!(bytes_through_array(dataset, [8, 4, 2]) == whole, "{slice:?} through an array");
    }
    Ok(())
}

fn uniform_bytes(dataset: &Dataset, region: Region) -> Option<Vec<u8>> {
    macro_rules! uniform {
        ($($kind:ident),*) => {
            match dataset {
                $(Dataset::$kind(source) => source.uniform(region).map(|v| bytemuck::bytes_of(&v).to_vec()),)*
                other => panic!("{other:?}"),
            }
        };
    }
    let mut bytes = uniform!(U8, I8, U16, I16, U32, I32, F16, F32, F64)?;
    if cfg!(target_endian = "big") {
        bytes.reverse();
    }
    Some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn arrays_of_version_3_read_back_whatever_their_shape_and_codecs(written in version_3(), seed in any::<u64>()) {
        reads_back(&written, seed)?;
    }

    #[test]
    fn arrays_of_version_2_read_back_whatever_their_shape_and_codecs(written in version_2(), seed in any::<u64>()) {
        reads_back(&written, seed)?;
    }
}

/// A store that counts what is read of it.
struct Counting {
    inner: FilesystemStore,
    reads: Mutex<HashMap<String, usize>>,
}

impl Counting {
    fn new(folder: &Path) -> Arc<Self> {
        Arc::new(Self { inner: FilesystemStore::new(folder).unwrap(), reads: Mutex::default() })
    }

    fn count(&self, what: String) {
        *self.reads.lock().unwrap().entry(what).or_default() += 1;
    }
}

impl ReadableStorageTraits for Counting {
    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        let ranges: Vec<_> = ranges.collect();
        for range in &ranges {
            self.count(format!("{key} {range:?}"));
        }
        self.inner.get_partial_many(key, Box::new(ranges.into_iter()))
    }
    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        self.inner.size_key(key)
    }
    fn supports_get_partial(&self) -> bool {
        true
    }
}

impl ListableStorageTraits for Counting {
    fn list(&self) -> Result<StoreKeys, StorageError> {
        panic!("lists everything, chunks too")
    }
    fn list_prefix(&self, _: &StorePrefix) -> Result<StoreKeys, StorageError> {
        panic!("lists everything, chunks too")
    }
    fn list_dir(&self, prefix: &StorePrefix) -> Result<StoreKeysPrefixes, StorageError> {
        self.count(format!("list {prefix}"));
        self.inner.list_dir(prefix)
    }
    fn size_prefix(&self, prefix: &StorePrefix) -> Result<u64, StorageError> {
        self.inner.size_prefix(prefix)
    }
}

#[test]
fn a_batch_reads_each_chunk_once_whatever_its_tiles() {
    for (path, objects) in [
        ("zarr_v3/raw_i16.zarr", 8),
        ("zarr_v3/gzip_i16.zarr", 8),
        ("zarr_v2/orderF_i16.zarr", 8),
        // 6 x 5 x 4 inner chunks, of which one holds fill alone and is not stored, and the indices of four shards. Inner chunks outside of the extent are never read.
        ("zarr_v3/sharded_i16.zarr", 6 * 5 * 4 - 1 + 4),
    ] {
        for tile in TILES {
            let storage = Counting::new(&fixtures().join(path));
            let zarr = Zarr::over(storage.clone(), path).unwrap();
            let dataset = zarr.arrays()[0].dataset(&ZarrSlice::last(3)).unwrap();
            let pool = Pool::new(HostBackend::new(), 64 << 20).unwrap();
            let array =
                SparseArray3D::builder(&pool, dataset.into_source::<i32>()).tile(tile).build().unwrap();
            storage.reads.lock().unwrap().clear();
            let _ = array.request_region(Region::whole(array.extent())).unwrap().complete().unwrap();
            let reads = storage.reads.lock().unwrap();
            assert_eq!(reads.len(), objects, "{path} in tiles of {tile:?}: {reads:?}");
            let twice: Vec<_> = reads.iter().filter(|(_, count)| **count > 1).collect();
            // Two threads may read the index of a shard at once.
            assert!(
                twice.iter().all(|(what, _)| what.contains("Suffix")),
                "{path} in tiles of {tile:?}: {twice:?}"
            );
        }
    }
}

#[test]
fn opening_lists_groups_and_looks_at_no_chunk() {
    let storage = Counting::new(&fixtures().join("ome_zarr/brain_v0.4.ome.zarr"));
    let zarr = Zarr::over(storage.clone(), "brain").unwrap();
    assert_eq!(zarr.arrays().len(), 3);
    let reads = storage.reads.lock().unwrap();
    let lists: Vec<_> = reads.keys().filter(|what| what.starts_with("list")).collect();
    assert_eq!(lists, ["list "], "the root alone");
    assert!(
        reads
            .keys()
            .all(|what| what.starts_with("list") || what.contains(".z") || what.contains("zarr.json"))
    );
}

#[test]
fn a_store_that_cannot_be_listed_has_the_levels_that_its_root_names() {
    struct Unlistable(FilesystemStore);
    impl ReadableStorageTraits for Unlistable {
        fn get_partial_many<'a>(
            &'a self,
            key: &StoreKey,
            ranges: ByteRangeIterator<'a>,
        ) -> Result<MaybeBytesIterator<'a>, StorageError> {
            self.0.get_partial_many(key, ranges)
        }
        fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
            self.0.size_key(key)
        }
        fn supports_get_partial(&self) -> bool {
            true
        }
    }
    impl ListableStorageTraits for Unlistable {
        fn list(&self) -> Result<StoreKeys, StorageError> {
            Err(StorageError::Unsupported("no listing".into()))
        }
        fn list_prefix(&self, _: &StorePrefix) -> Result<StoreKeys, StorageError> {
            self.list()
        }
        fn list_dir(&self, _: &StorePrefix) -> Result<StoreKeysPrefixes, StorageError> {
            Err(StorageError::Unsupported("no listing".into()))
        }
        fn size_prefix(&self, _: &StorePrefix) -> Result<u64, StorageError> {
            Err(StorageError::Unsupported("no listing".into()))
        }
    }
    let folder = fixtures().join("ome_zarr/brain_v0.5.ome.zarr");
    let zarr = Zarr::over(Arc::new(Unlistable(FilesystemStore::new(folder).unwrap())), "http").unwrap();
    assert_eq!(
        zarr.arrays().iter().map(vastgrid::source::ZarrArray::path).collect::<Vec<_>>(),
        ["s0", "s1", "s2"]
    );
    assert!(zarr.skipped()[0].1.to_string().contains("no listing"));
    zarr.images()[0].level(0, &ZarrSelection::default()).unwrap();
}

#[test]
fn channels_and_times_are_chosen_by_their_axes() {
    let folder = tempfile::tempdir().unwrap();
    let written = Written {
        shape: vec![2, 3, 4, 5, 6],
        chunk: vec![1, 2, 4, 3, 6],
        metadata: json!({"zarr_format": 2, "shape": [2, 3, 4, 5, 6], "chunks": [1, 2, 4, 3, 6], "dtype": "<u2",
            "compressor": null, "filters": null, "fill_value": 9, "order": "C"}),
        voxel_bytes: 2,
        missing_every: u64::MAX,
        seed: 5,
    };
    let all = written.write(&folder.path().join("0"));
    fs::write(folder.path().join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
    let attributes = json!({"multiscales": [{"version": "0.4", "name": "cells",
        "axes": [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"},
            {"name": "z", "type": "space", "unit": "micrometer"}, {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [10.0, 1.0, 0.5, 0.1, 0.2]},
            {"type": "translation", "translation": [0, 0, 3, 2, 1]}]}]}],
        "omero": {"channels": [{"label": "DAPI", "color": "0000FF", "window": {"start": 1, "end": 90}}]}});
    fs::write(folder.path().join(".zattrs"), attributes.to_string()).unwrap();
    let zarr = Zarr::open(folder.path()).unwrap();
    let image = &zarr.images()[0];
    assert_eq!((image.times(), image.channel_count()), (Some(2), Some(3)));
    assert_eq!((image.spacing(), image.origin()), ([0.2, 0.1, 0.5], [1.0, 2.0, 3.0]));
    assert_eq!(image.channels()[0].window, Some([1.0, 90.0]));
    for (time, channel) in [(0, 0), (1, 2), (0, 1)] {
        let selection = ZarrSelection { time, channel, ..Default::default() };
        let dataset = image.level(0, &selection).unwrap();
        let whole = Region::whole(Extent::new(6, 5, 4));
        let slice = ZarrSlice::last(5).with_index(0, time).with_index(1, channel);
        assert_eq!(bytes_of(&dataset, whole).unwrap(), written.expected(&all, &slice, whole));
    }
    for (time, channel) in [(2, 0), (0, 3)] {
        let error = image.level(0, &ZarrSelection { time, channel, ..Default::default() }).unwrap_err();
        assert!(matches!(error, SourceError::NoSuch { .. }), "{error}");
    }
}

#[test]
fn a_pyramid_has_the_levels_that_can_be_read_and_the_reason_where_one_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let attributes = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(fixtures().join("ome_zarr/brain_v0.4.ome.zarr/.zattrs")).unwrap())
            .unwrap()
    };
    let opened = |change: &dyn Fn(&mut serde_json::Value), remove: &str| {
        let root = folder.path();
        copy_folder(&fixtures().join("ome_zarr/brain_v0.4.ome.zarr"), root);
        let mut text = attributes();
        change(&mut text["multiscales"][0]);
        fs::write(root.join(".zattrs"), text.to_string()).unwrap();
        if !remove.is_empty() {
            fs::remove_dir_all(root.join(remove)).unwrap();
        }
        let zarr = Zarr::open(root).unwrap();
        PyramidSource::<f32>::from_zarr(&zarr.images()[0], &ZarrSelection::default())
    };
    let factors = |pyramid: &PyramidSource<f32>| -> Vec<_> {
        (0..pyramid.levels()).map(|level| pyramid.geometry(level).unwrap().factor()[2]).collect()
    };
    let sound = opened(&|_| {}, "").unwrap();
    assert_eq!((sound.coarsest_level(), factors(&sound)), (2, vec![1.0, 2.0, 4.0]));
    assert_eq!((sound.extent(), sound.spacing()), (Extent::new(128, 128, 84), [1.0, 1.0, 1.5]));
    // Scales of single precision, and none at all.
    let scale = |level: usize, by: f64| {
        move |text: &mut serde_json::Value| {
            let scale = &mut text["datasets"][level]["coordinateTransformations"][0]["scale"];
            *scale = json!([by, by * 2.0 / 3.0, by * 2.0 / 3.0]);
        }
    };
    assert_eq!(factors(&opened(&scale(1, 3.000_000_2), "").unwrap()), [1.0, 2.0, 4.0]);
    let without = |text: &mut serde_json::Value| {
        for level in 0..3 {
            text["datasets"][level].as_object_mut().unwrap().remove("coordinateTransformations");
        }
    };
    let shaped = opened(&without, "").unwrap();
    assert_eq!((factors(&shaped), shaped.spacing()), (vec![1.0, 2.0, 4.0], [1.0; 3]));
    // Levels that are gone, or not what they say.
    let reason = |pyramid: &PyramidSource<f32>, level| pyramid.source(level).err().unwrap().to_string();
    let gone = opened(&|_| {}, "s1").unwrap();
    assert_eq!((gone.levels(), gone.coarsest_level()), (3, 2));
    assert!(
        reason(&gone, 1).contains("s1") && reason(&gone, 1).contains("no array there"),
        "{}",
        reason(&gone, 1)
    );
    let first = opened(&|_| {}, "s0").unwrap();
    assert_eq!((first.extent(), factors(&first)), (Extent::new(128, 128, 84), vec![1.0, 2.0, 4.0]));
    let lies = opened(&scale(2, 9.0), "").unwrap();
    assert!(reason(&lies, 2).contains("another shape"), "{}", reason(&lies, 2));
    let finer = opened(&scale(2, 1.5), "").unwrap();
    assert!(reason(&finer, 2).contains("coarser"), "{}", reason(&finer, 2));
    for bad in [0.0, -1.0] {
        let odd = opened(&scale(1, bad), "").unwrap();
        assert_eq!(odd.coarsest_level(), 2, "the others are there");
    }
    let nothing = opened(&|text| text["datasets"] = json!([{"path": "s9"}]), "").unwrap_err();
    assert!(nothing.to_string().contains("s9"), "{nothing}");
}

// ---- damage --------------------------------------------------------------------------------------------------------------------------------------

/// Opens whatever is there and reads some of it: errors are fine, anything else that ends the process is not.
fn read_all(folder: &Path, seed: u64) {
    let Ok(zarr) = Zarr::open(folder) else { return };
    let mut random = random(seed);
    for array in zarr.arrays() {
        let Ok(dataset) = array.dataset(&ZarrSlice::last(array.shape().len())) else { continue };
        for _ in 0..3 {
            let extent = dataset.extent();
            let size = |side: u64| side.min(64);
            let region = region(Extent::new(size(extent.x), size(extent.y), size(extent.z)), random());
            let _ = bytes_of(&dataset, region);
            let _ = uniform_bytes(&dataset, region);
        }
    }
    for image in zarr.images() {
        for level in 0..image.levels().len().min(4) {
            let _ = image.level(level, &ZarrSelection::default()).map(|dataset| dataset.extent());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn damage_to_any_file_ends_in_an_error_or_in_other_voxels(written in prop_oneof![version_3(), version_2()], seed in any::<u64>()) {
        let folder = tempfile::tempdir().unwrap();
        written.write(folder.path());
        let mut random = random(seed);
        for _ in 0..8 {
            let all = files(folder.path());
            let file = &all[random() as usize % all.len()];
            let mut bytes = fs::read(file).unwrap();
            let at = random() as usize % (bytes.len() + 1);
            match random() % 4 {
                0 => bytes.truncate(at),
                1 | 2 if at < bytes.len() => bytes[at] ^= 1 << (random() % 8),
                _ => {
                    // Eight bytes of any kind, such as an offset or a size.
                    let word = [0, u64::MAX, random(), 1 << (random() % 64)][random() as usize % 4];
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
                }
            }
            fs::write(file, bytes).unwrap();
            read_all(folder.path(), random());
        }
    }
}

#[test]
fn flipped_bits_are_found_wherever_there_is_a_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let with_crc = json!({"zarr_format": 3, "node_type": "array", "shape": [16, 16, 16], "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 16, 16]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "attributes": {},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]});
    let written = Written {
        shape: vec![16; 3],
        chunk: vec![16; 3],
        metadata: with_crc,
        voxel_bytes: 2,
        missing_every: u64::MAX,
        seed: 3,
    };
    written.write(folder.path());
    let chunk = folder.path().join("c/0/0/0");
    let sound = fs::read(&chunk).unwrap();
    for at in (0..sound.len()).step_by(97) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&chunk, bytes).unwrap();
        let zarr = Zarr::open(folder.path()).unwrap();
        let dataset = zarr.arrays()[0].dataset(&ZarrSlice::last(3)).unwrap();
        let error = bytes_of(&dataset, Region::whole(dataset.extent())).unwrap_err();
        let SourceError::Chunk { location, chunk, .. } = &error else { panic!("{error}") };
        assert!(location.contains(folder.path().to_str().unwrap()) && chunk == &[0, 0, 0], "{error}");
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}

/// The error of reading the only array of a store, after a change to its metadata or files.
fn failure(folder: &Path) -> String {
    let zarr = match Zarr::open(folder) {
        Ok(zarr) => zarr,
        Err(error) => return error.to_string(),
    };
    let array = &zarr.arrays()[0];
    match array.dataset(&ZarrSlice::last(array.shape().len())) {
        Err(error) => error.to_string(),
        Ok(dataset) => match bytes_of(&dataset, region(Extent::cube(1), 1)) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{array:?} was read"),
        },
    }
}

#[test]
fn metadata_that_cannot_be_is_refused_with_its_values() {
    let sound = |codecs: serde_json::Value| {
        json!({"zarr_format": 3, "node_type": "array", "shape": [64, 64, 64], "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 16, 16]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "attributes": {}, "codecs": codecs})
    };
    let plain = || sound(json!([{"name": "bytes", "configuration": {"endian": "little"}}]));
    let sharded = |inner: [u64; 3]| {
        sound(json!([{"name": "sharding_indexed", "configuration": {"chunk_shape": inner,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}}]))
    };
    let with = |mut metadata: serde_json::Value, key: &str, value: serde_json::Value| {
        metadata[key] = value;
        metadata
    };
    let grid = |shape: [u64; 3]| json!({"name": "regular", "configuration": {"chunk_shape": shape}});
    for (metadata, told) in [
        (with(plain(), "data_type", json!("complex128")), "complex128"),
        (with(plain(), "data_type", json!("uint64")), "uint64"),
        (with(plain(), "data_type", json!("string")), "string"),
        (with(plain(), "data_type", json!("surprise")), "surprise"),
        (with(plain(), "codecs", json!([{"name": "surprise"}])), "surprise"),
        (with(plain(), "chunk_grid", json!({"name": "surprise"})), "surprise"),
        (with(plain(), "chunk_grid", grid([1024, 1024, 1024])), "2147483648"),
        (with(plain(), "chunk_grid", grid([1 << 40, 1 << 40, 1])), "chunk"),
        (with(plain(), "chunk_grid", grid([0, 1, 1])), "0"),
        (with(plain(), "shape", json!([0, 64, 64])), "64 x 64 x 0"),
        (with(plain(), "shape", json!([u64::MAX, u64::MAX, 2])), "beyond 64 bits"),
        (with(plain(), "shape", json!([-1, 64, 64])), "shape"),
        (with(plain(), "fill_value", json!("surprise")), "surprise"),
        (with(plain(), "surprise", json!({"must_understand": true})), "surprise"),
        (with(plain(), "storage_transformers", json!([{"name": "surprise"}])), "surprise"),
        (with(sharded([1, 1, 1]), "chunk_grid", grid([1024, 1024, 1024])), "17179869184"),
        (with(sharded([5, 16, 16]), "shape", json!([64, 64, 64])), "inner chunks"),
        (json!({"zarr_format": 3}), "node_type"),
        (json!({"zarr_format": 4, "node_type": "array"}), "zarr_format"),
        (json!([]), "zarr_format"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zarr.json"), metadata.to_string()).unwrap();
        let error = failure(folder.path());
        assert!(error.contains(told), "{told}: {error}");
        assert!(
            error.contains(folder.path().to_str().unwrap())
                || told == "64 x 64 x 0"
                || told == "beyond 64 bits",
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("zarr.json"), "{").unwrap();
    assert!(failure(folder.path()).contains("zarr.json"));
}

#[test]
fn objects_that_hold_more_or_less_than_their_chunk_are_refused_before_there_is_memory_for_them() {
    let write = |codec: serde_json::Value, bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let metadata = json!({"zarr_format": 3, "node_type": "array", "shape": [16, 16, 16], "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 16, 16]}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "attributes": {},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, codec]});
        fs::write(folder.path().join("zarr.json"), metadata.to_string()).unwrap();
        fs::create_dir_all(folder.path().join("c/0/0")).unwrap();
        fs::write(folder.path().join("c/0/0/0"), bytes).unwrap();
        failure(folder.path())
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let gzip_codec = || json!({"name": "gzip", "configuration": {"level": 1}});
    // 64 MiB in 64 KiB.
    let error = write(gzip_codec(), &gzip(&vec![0; 64 << 20]));
    assert!(error.contains("gzip") && error.contains("more than the 8192 bytes"), "{error}");
    let error = write(gzip_codec(), &gzip(&[0; 100]));
    assert!(error.contains("100 bytes, not the 8192"), "{error}");
    // A zstd frame whose header says that it holds 2^60 bytes, and one of a run of 100 MiB.
    let zstd_codec = || json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}});
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE0];
    frame.extend((1u64 << 60).to_le_bytes());
    frame.extend([0x01, 0, 0]);
    let error = write(zstd_codec(), &frame);
    assert!(error.contains("zstd"), "{error}");
    // A blosc header of 2^31 - 1 bytes.
    let blosc_codec = json!({"name": "blosc", "configuration":
        {"typesize": 2, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}});
    let mut header = vec![2, 1, 1, 2];
    header.extend(0x7FFF_FFFFu32.to_le_bytes());
    header.extend([0; 24]);
    let error = write(blosc_codec, &header);
    assert!(error.contains("blosc") && error.contains("8192"), "{error}");
}

#[test]
fn an_index_that_points_out_of_its_shard_is_refused_before_there_is_memory_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let written = Written {
        shape: vec![8, 8, 8],
        chunk: vec![8, 8, 8],
        metadata: json!({"zarr_format": 3, "node_type": "array", "shape": [8, 8, 8], "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 8, 8]}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "attributes": {},
            "codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [4, 8, 8],
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}}]}),
        voxel_bytes: 2,
        missing_every: u64::MAX,
        seed: 1,
    };
    let shard = folder.path().join("c/0/0/0");
    let mut sound = Vec::new();
    // Until both inner chunks hold something.
    for seed in 0.. {
        Written { seed, ..written.clone() }.write(folder.path());
        sound = fs::read(&shard).unwrap_or_default();
        if sound.len() == 1024 + 32 {
            break;
        }
    }
    for (offset, size, told) in [
        (u64::MAX - 1, 512, "1056"),
        (0, 1 << 50, "1125899906842624"),
        (1000, 512, "1000 + 512"),
        (0, 511, "511"),
    ] {
        let mut bytes = sound.clone();
        bytes[1024..1032].copy_from_slice(&u64::to_le_bytes(offset));
        bytes[1032..1040].copy_from_slice(&u64::to_le_bytes(size));
        fs::write(&shard, bytes).unwrap();
        let error = failure(folder.path());
        assert!(error.contains(told), "{offset} + {size}: {error}");
    }
    fs::write(&shard, &sound[..20]).unwrap();
    assert!(failure(folder.path()).contains("no room for its index"));
}

#[test]
fn a_shard_that_is_written_anew_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixtures().join("zarr_v3/sharded_i16.zarr"), folder.path());
    let zarr = Zarr::open(folder.path()).unwrap();
    let dataset = zarr.arrays()[0].dataset(&ZarrSlice::last(3)).unwrap();
    let inner = |x| Region::new([x, 0, 0].into(), Extent::cube(8));
    let before = bytes_of(&dataset, inner(0)).unwrap();
    // The same inner chunks elsewhere: another shard's, whose sizes are others.
    fs::copy(folder.path().join("c/1/0/0"), folder.path().join("c/0/0/0")).unwrap();
    let fresh = Zarr::open(folder.path()).unwrap().arrays()[0].dataset(&ZarrSlice::last(3)).unwrap();
    for x in [8, 16, 0] {
        assert_eq!(bytes_of(&dataset, inner(x)).unwrap(), bytes_of(&fresh, inner(x)).unwrap(), "at {x}");
    }
    assert_ne!(bytes_of(&fresh, inner(0)).unwrap(), before);
    fs::remove_file(folder.path().join("c/0/0/0")).unwrap();
    assert!(bytes_of(&fresh, inner(20)).unwrap().iter().all(|byte| *byte == 0), "what is gone is fill");
}

#[test]
fn what_is_no_store_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let error = Zarr::open(folder.path().join("nothing")).unwrap_err();
    assert!(matches!(error, SourceError::Open { .. }), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(Zarr::open(&file).unwrap_err(), SourceError::Open { .. }));
    let error = Zarr::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("no zarr.json, .zarray or .zgroup there"), "{error}");
    copy_folder(&fixtures().join("zarr_v2/raw_i16.zarr"), folder.path());
    let zarr = Zarr::open(folder.path()).unwrap();
    let error = zarr.arrays()[0].source::<u8>(&ZarrSlice::last(3)).unwrap_err();
    assert!(
        matches!(error, SourceError::VoxelType { found: ScalarType::I16, wanted: ScalarType::U8, .. }),
        "{error}"
    );
    assert!(zarr.array("../raw_i16.zarr").is_err(), "no way out of the store");
    // A chunk that is a folder, and one that cannot be read.
    fs::remove_file(folder.path().join("0.0.0")).unwrap();
    fs::create_dir(folder.path().join("0.0.0")).unwrap();
    assert!(failure(folder.path()).contains("not a regular file"));
}
