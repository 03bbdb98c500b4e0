//! Saves as a Zarr library finds them: whole, equal, and only when they are published.
#![allow(clippy::cast_possible_truncation, reason = "a few voxels")]

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zarrs::array::{Array, ArraySubset};
use zarrs::filesystem::FilesystemStore;

use super::*;
use crate::error::StoreError;
use crate::geometry::boxes::{grid, voxels};
use crate::geometry::{Coord, Extent, Region};
use crate::source::index;
use crate::store::TileStore;
use crate::voxel::Scalar;

mod complete;

/// splitmix64, from a seed that is new each time and printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("VASTGRID_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("VASTGRID_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn extent(&mut self, most: u64) -> Extent {
        Extent::new(1 + self.below(most), 1 + self.below(most), 1 + self.below(most))
    }
}

/// A volume of which a third is fill, by the chunk, and a third noise.
fn volume<T: Scalar>(random: &mut Random, extent: Extent, chunk: Extent, fill: T) -> Vec<T> {
    let mut all = vec![fill; index(voxels(extent))];
    for part in grid(Region::whole(extent), chunk) {
        let part = part.clipped_to(extent);
        let kind = random.below(3);
        for c in coords(part) {
            let value = match kind {
                0 => continue,
                1 => T::from_f64(random.below(200) as f64),
                _ => T::from_f64(((c.x + 2 * c.y + 3 * c.z) % 50) as f64),
            };
            all[at(extent, c)] = value;
        }
    }
    all
}

fn coords(part: Region) -> impl Iterator<Item = Coord> {
    let (s, e) = (part.start, part.extent);
    (0..e.z).flat_map(move |z| {
        (0..e.y).flat_map(move |y| (0..e.x).map(move |x| Coord::new(s.x + x, s.y + y, s.z + z)))
    })
}

fn at(extent: Extent, c: Coord) -> usize {
    index(c.x + extent.x * (c.y + extent.y * c.z))
}

fn cut<T: Scalar>(extent: Extent, all: &[T], part: Region) -> Vec<T> {
    coords(part).map(|c| all[at(extent, c)]).collect()
}

/// What a Zarr library finds there.
pub(super) fn read_array<T: Scalar>(root: &Path, name: &str) -> Result<(Vec<u64>, Vec<T>), String> {
    let store = Arc::new(FilesystemStore::new(root).map_err(|e| e.to_string())?);
    let array = Array::open(store, name).map_err(|e| e.to_string())?;
    let all = ArraySubset::new_with_shape(array.shape().to_vec());
    let bytes: zarrs::array::ArrayBytes<'static> =
        array.retrieve_array_subset(&all).map_err(|e| e.to_string())?;
    let bytes = bytes.into_fixed().map_err(|e| e.to_string())?;
    Ok((array.shape().to_vec(), bytemuck::pod_collect_to_vec(&bytes)))
}

fn bits<T: Scalar>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn round_trip<T: Scalar>(random: &mut Random, fill: T, codec: ZarrCodec) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let chunk = random.extent(7);
    let many = random.extent(4);
    let shard = Extent::new(chunk.x * many.x, chunk.y * many.y, chunk.z * many.z);
    let shard = (random.below(3) > 0).then_some(shard);
    let options = ZarrOptions { chunk, shard, codec, ..ZarrOptions::default() };
    let extent = random.extent(40);
    let all = volume(random, extent, chunk, fill);
    let store = ZarrStore::create(&root, extent, fill, &options).unwrap();
    // Boxes of whole chunks, in no order, by three threads.
    let step = random.extent(3);
    let step = Extent::new(chunk.x * step.x, chunk.y * step.y, chunk.z * step.z);
    let mut parts: Vec<_> = grid(Region::whole(extent), step).map(|p| p.clipped_to(extent)).collect();
    for i in (1..parts.len()).rev() {
        parts.swap(i, index(random.below(i as u64 + 1)));
    }
    std::thread::scope(|scope| {
        for mine in parts.chunks(parts.len().div_ceil(3)) {
            let (store, all) = (&store, &all);
            scope.spawn(move || {
                for &part in mine {
                    store.write(part, &cut(extent, all, part)).unwrap();
                }
            });
        }
    });
    assert!(!root.exists());
    store.save().unwrap();
    let (shape, found) = read_array::<T>(&root, "/").unwrap();
    assert_eq!(shape, extent.to_zyx());
    assert!(bits(&found) == bits(&all), "{options:?} {extent}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    // Objects that would hold nothing but the fill value are not there.
    let object = shard.unwrap_or(chunk);
    let filled = grid(Region::whole(extent), object).filter(|object| {
        cut(extent, &all, object.clipped_to(extent)).iter().any(|v| bits(&[*v]) != bits(&[fill]))
    });
    assert_eq!(files(&root).len(), 1 + filled.count(), "{options:?} {extent}");
}

#[test]
fn every_type_and_codec_comes_back_through_a_zarr_library() {
    let mut random = Random::new();
    let codecs = [
        ZarrCodec::None,
        ZarrCodec::Zstd { level: 1 },
        ZarrCodec::Gzip { level: 1 },
        ZarrCodec::Blosc { level: 5, shuffle: Shuffle::Bytes },
        ZarrCodec::Blosc { level: 1, shuffle: Shuffle::None },
    ];
    for codec in codecs {
        let r = &mut random;
        round_trip::<u8>(r, 0, codec);
        round_trip::<i8>(r, -7, codec);
        round_trip::<u16>(r, 65_535, codec);
        round_trip::<i16>(r, -1, codec);
        round_trip::<u32>(r, 7, codec);
        round_trip::<i32>(r, i32::MIN, codec);
        round_trip::<half::f16>(r, half::f16::NEG_INFINITY, codec);
        round_trip::<f32>(r, f32::from_bits(0xffc1_2345), codec);
        round_trip::<f64>(r, f64::NAN, codec);
    }
}

#[test]
fn the_last_write_stays_whatever_was_flushed_or_interrupted() {
    let mut random = Random::new();
    for round in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a.zarr");
        let (chunk, extent) = (random.extent(4), random.extent(24));
        let shard = (round % 3 > 0).then(|| Extent::new(chunk.x * 2, chunk.y * 3, chunk.z));
        let mut options = ZarrOptions { chunk, shard, ..ZarrOptions::default() };
        let fill = 3u16;
        let chunks: Vec<_> = grid(Region::whole(extent), chunk).map(|c| c.clipped_to(extent)).collect();
        let mut store = ZarrStore::create(&root, extent, fill, &options).unwrap();
        options.resume = true;
        // What each chunk holds; the second, what it held when that was last made durable.
        let mut now: HashMap<Region, Vec<u16>> = HashMap::new();
        let mut durable = now.clone();
        for _ in 0..80 {
            match random.below(20) {
                0 => {
                    store.flush().unwrap();
                    durable = now.clone();
                }
                1 => {
                    drop(store);
                    store = ZarrStore::create(&root, extent, fill, &options).unwrap();
                    // What was not made durable may be there or not: it is written again.
                    for (part, voxels) in &now {
                        if durable.get(part) != Some(voxels) {
                            store.write(*part, voxels).unwrap();
                        }
                    }
                }
                2 => {
                    let part = chunks[index(random.below(chunks.len() as u64))];
                    let value = u16::try_from(random.below(4)).unwrap();
                    store.write_uniform(part, value).unwrap();
                    now.insert(part, vec![value; index(voxels(part.extent))]);
                }
                _ => {
                    let part = chunks[index(random.below(chunks.len() as u64))];
                    let values: Vec<_> = coords(part).map(|_| random.next() as u16 % 4).collect();
                    store.write(part, &values).unwrap();
                    now.insert(part, values);
                }
            }
        }
        store.save().unwrap();
        let (_, found) = read_array::<u16>(&root, "/").unwrap();
        for &part in &chunks {
            let fills = vec![fill; index(voxels(part.extent))];
            assert_eq!(&cut(extent, &found, part), now.get(&part).unwrap_or(&fills), "round {round}");
        }
    }
}

fn small() -> (Extent, ZarrOptions) {
    let options =
        ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(8)), ..ZarrOptions::default() };
    (Extent::new(20, 9, 7), options)
}

#[test]
fn a_save_of_something_else_is_not_continued_and_one_of_the_same_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let (extent, options) = small();
    let first = Region::whole(Extent::new(8, 8, 7));
    let store = ZarrStore::create(&root, extent, 0u16, &options).unwrap();
    assert!(matches!(ZarrStore::create(&root, extent, 0u16, &options), Err(StoreError::Busy { .. })));
    let voxels: Vec<u16> = (0..448).collect();
    store.write(first, &voxels).unwrap();
    store.write_uniform(Region::new(Coord::new(8, 0, 0), Extent::new(8, 8, 7)), 0).unwrap();
    drop(store);

    let resume = ZarrOptions { resume: true, ..options.clone() };
    let field = |error: StoreError| match error {
        StoreError::OtherSave { field, .. } => field,
        other => panic!("{other}"),
    };
    let again = |options: &ZarrOptions| ZarrStore::create(&root, extent, 0u16, options);
    let other = ZarrOptions { codec: ZarrCodec::None, ..resume.clone() };
    assert_eq!(field(again(&other).unwrap_err()), "codec");
    let other = ZarrOptions { input: "another.raw".into(), ..resume.clone() };
    assert_eq!(field(again(&other).unwrap_err()), "input");
    let other = ZarrStore::create(&root, Extent::new(20, 9, 8), 0u16, &resume);
    assert_eq!(field(other.unwrap_err()), "shape");
    assert_eq!(field(ZarrStore::create(&root, extent, 1u16, &resume).unwrap_err()), "fill");
    assert_eq!(field(ZarrStore::create(&root, extent, 0i16, &resume).unwrap_err()), "type");

    let store = again(&resume).unwrap();
    assert!(store.array().is_complete(first));
    assert!(store.array().is_complete(Region::whole(Extent::new(16, 8, 7))), "one that holds nothing, too");
    assert!(!store.array().is_complete(Region::whole(Extent::new(17, 8, 7))));
    let mut back = vec![1; 448];
    store.array().read_back(first, &mut back).unwrap();
    assert_eq!(back, voxels);
    drop(store);
    // Not asked to go on: begun anew.
    let store = again(&options).unwrap();
    assert!(!store.array().is_complete(first));
    store.discard().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn nothing_of_an_unfinished_save_opens_as_zarr() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.ome.zarr");
    let (extent, options) = small();
    let description = PyramidDescription::new(vec![(extent, [1.0; 3]), (Extent::new(10, 5, 4), [2.0; 3])]);
    let image = PyramidWriter::create(&root, &description, 0u16, &options).unwrap();
    for level in 0..2 {
        let level = image.level(level).unwrap();
        level.write_uniform(Region::whole(level.extent()), 5).unwrap();
    }
    image.flush().unwrap();
    let partial = folder.path().join(".a.ome.zarr.partial");
    assert!(files(&partial.join("tree")).len() > 4);
    for place in [&root, &partial, &partial.join("tree")] {
        let store = Arc::new(FilesystemStore::new(place).unwrap());
        for node in ["/", "/s0", "/tree", "/tree/s1"] {
            assert!(zarrs::group::Group::open(store.clone(), node).is_err(), "{}{node}", place.display());
            assert!(Array::open(store.clone(), node).is_err(), "{}{node}", place.display());
        }
    }
    image.save().unwrap();
    assert!(!partial.exists());
    assert_eq!(read_array::<u16>(&root, "/s1").unwrap().1, vec![5; 200]);
}

#[test]
fn images_have_ranges_of_all_levels_and_metadata_that_the_model_takes() {
    use ome_zarr_metadata::Validate;
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.ome.zarr");
    let (chunk, extent) = (Extent::new(32, 17, 8), Extent::new(70, 40, 20));
    let options = ZarrOptions { chunk, shard: Some(Extent::new(64, 34, 8)), ..ZarrOptions::default() };
    let levels = vec![(extent, [1.0; 3]), (Extent::new(35, 20, 10), [2.0; 3])];
    let image = PyramidWriter::create(&root, &PyramidDescription::new(levels), 0f32, &options).unwrap();
    let all = volume(&mut random, extent, chunk, 0f32);
    for part in grid(Region::whole(extent), chunk).map(|p| p.clipped_to(extent)).skip(1) {
        image.level(0).unwrap().write(part, &cut(extent, &all, part)).unwrap();
    }
    image.save().unwrap();
    let (shape, ranges) = read_array::<f32>(&root, "/vastgrid/ranges/s0").unwrap();
    let cell = Extent::new(16, 17, 8);
    assert_eq!(shape, [3, 3, 5, 2]);
    for (nth, part) in grid(Region::whole(extent), cell).enumerate() {
        let part = part.clipped_to(extent);
        let values = cut(extent, &all, part);
        let unwritten = Region::whole(chunk).intersection(&part).is_some();
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let expected = if unwritten { [1.0, 0.0] } else { [least, greatest] };
        assert_eq!(ranges[2 * nth..2 * nth + 2], expected, "cell {nth}");
    }
    let root: serde_json::Value = serde_json::from_slice(&fs::read(root.join("zarr.json")).unwrap()).unwrap();
    assert_eq!(root["attributes"]["vastgrid"]["ranges"]["s1"], "vastgrid/ranges/s1");
    let metadata: ome_zarr_metadata::v0_5::OmeZarrGroupMetadata = serde_json::from_value(root).unwrap();
    metadata.validate().unwrap();
}

#[test]
fn what_is_there_is_replaced_only_when_asked_and_only_if_it_is_zarr() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let (extent, options) = small();
    let replace = ZarrOptions { replace: true, ..options.clone() };
    let save = |options: &ZarrOptions, value: u16| -> Result<(), StoreError> {
        let store = ZarrStore::create(&root, extent, 0u16, options)?;
        store.write_uniform(Region::whole(extent), value)?;
        store.save()
    };
    save(&options, 1).unwrap();
    assert!(matches!(save(&options, 2), Err(StoreError::Exists { .. })));
    assert_eq!(read_array::<u16>(&root, "/").unwrap().1[0], 1);
    save(&replace, 2).unwrap();
    assert_eq!(read_array::<u16>(&root, "/").unwrap().1[0], 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    // Until the last moment what was there is what one sees.
    let late = ZarrStore::create(&root, extent, 0u16, &replace).unwrap();
    late.write_uniform(Region::whole(extent), 3).unwrap();
    late.flush().unwrap();
    assert_eq!(read_array::<u16>(&root, "/").unwrap().1[0], 2);
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("thesis.txt"), "mine").unwrap();
    assert!(matches!(late.save(), Err(StoreError::NotReplaced { .. })));
    assert!(matches!(save(&replace, 4), Err(StoreError::NotReplaced { .. })));
    assert_eq!(fs::read(root.join("thesis.txt")).unwrap(), b"mine");
    // What was written is not lost.
    fs::remove_dir_all(&root).unwrap();
    let resume = ZarrOptions { resume: true, ..replace };
    ZarrStore::create(&root, extent, 0u16, &resume).unwrap().save().unwrap();
    assert_eq!(read_array::<u16>(&root, "/").unwrap().1, vec![3; 1260]);
}

#[test]
fn what_is_no_save_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let partial = folder.path().join(".a.zarr.partial");
    let (extent, options) = small();
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("mine"), "mine").unwrap();
    for resume in [false, true] {
        let options = ZarrOptions { resume, ..options.clone() };
        let error = ZarrStore::create(&root, extent, 0u16, &options).unwrap_err();
        assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
    }
    fs::write(partial.join("journal"), "dear diary, today I wrote a renderer").unwrap();
    let error = ZarrStore::create(&root, extent, 0u16, &options).unwrap_err();
    assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
    assert_eq!(fs::read(partial.join("mine")).unwrap(), b"mine");
}

#[test]
fn calls_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let (extent, options) = small();
    let store = ZarrStore::create(&root, extent, 0u8, &options).unwrap();
    let at = |start: [u64; 3], size: [u64; 3]| Region::new(start.into(), size.into());
    for (region, len) in [
        (at([1, 0, 0], [4, 4, 4]), 64),
        (at([0, 0, 0], [5, 4, 4]), 80),
        (at([16, 8, 4], [8, 4, 4]), 128),
        (at([0, 0, 0], [4, 4, 4]), 63),
        (at([0, 0, 0], [1 << 40, 1 << 40, 1 << 40]), 64),
        (at([u64::MAX - 3, 0, 0], [4, 4, 4]), 64),
    ] {
        let error = store.write(region, &vec![1; len]).unwrap_err();
        assert!(matches!(error, StoreError::BadCall { .. }), "{error}");
    }
    store.write(at([16, 8, 4], [4, 1, 3]), &[1; 12]).unwrap();
    store.write(at([4, 4, 4], [0, 0, 0]), &[]).unwrap();
    let none = ZarrStore::create(folder.path().join("b"), Extent::new(0, 1, 1), 0u8, &options);
    assert!(matches!(none, Err(StoreError::Shape { .. })));
    let level = ZarrOptions { codec: ZarrCodec::Gzip { level: 77 }, ..options.clone() };
    let error = ZarrStore::create(folder.path().join("b"), extent, 0u8, &level).unwrap_err();
    assert!(matches!(error, StoreError::Metadata { .. }), "{error}");
    let error = ZarrStore::create("/nowhere/at/all", extent, 0u8, &options).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/.all.partial"), "{error}");
    let error = ZarrStore::create(folder.path().join(".."), extent, 0u8, &options).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. } | StoreError::File { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
