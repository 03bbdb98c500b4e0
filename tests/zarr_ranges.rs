//! What is written of a volume's values beside it is what is known of it when it is opened, and nothing is known where that is damaged or of something else.
#![allow(clippy::cast_possible_truncation, reason = "a few thousand voxels")]

mod convert_support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use convert_support::Random;
use vastgrid::convert::{Conversion, ConvertOptions};
use vastgrid::source::{Procedural, Zarr, ZarrSelection};
use vastgrid::store::{ZarrCodec, ZarrOptions};
use vastgrid::{Coord, Extent, PyramidSource, Region, TileSource};

fn volume(seed: u64, extent: Extent) -> Procedural<i16> {
    Procedural::new(extent, move |c: Coord| {
        let mix = (c.x | c.y << 20 | c.z << 40).wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if c.x < 40 { 0 } else { (mix >> 52) as i16 - 2000 }
    })
}

fn open(path: &Path) -> PyramidSource<i16> {
    PyramidSource::from_zarr(&Zarr::open(path).unwrap().images()[0], &ZarrSelection::default()).unwrap()
}

#[test]
fn ranges_are_known_from_the_start_or_not_at_all() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ome.zarr");
    let mut side = |least: u64| least + random.below(60);
    let extent = Extent::new(side(60), side(40), side(30));
    let chunk = Extent::new(32, 34, 48);
    let zarr = ZarrOptions { chunk, shard: Some(Extent::new(64, 34, 96)), ..ZarrOptions::default() };
    let options = ConvertOptions { coarsest_voxels: 20_000, zarr, ..ConvertOptions::default() };
    Conversion::new(volume(1, extent), options).unwrap().run(&path).unwrap();
    let pyramid = open(&path);
    assert!(pyramid.levels() > 1);
    for level in 0..pyramid.levels() {
        let source = pyramid.source(level).unwrap();
        let index = source.ranges().expect("ranges");
        let (extent, cell, cells) = (source.extent(), index.cell(), index.cells());
        assert_eq!((index.extent(), cell), (extent, Extent::new(16, 17, 16)));
        for place in 0..cells.checked_volume().unwrap() {
            let at = [place % cells.x, place / cells.x % cells.y, place / cells.x / cells.y];
            let start = Coord::new(at[0] * cell.x, at[1] * cell.y, at[2] * cell.z);
            let region = Region::new(start, cell).clipped_to(extent);
            let mut voxels = vec![0; region.extent.checked_volume().unwrap() as usize];
            source.read(region, &mut voxels).unwrap();
            let expected = (*voxels.iter().min().unwrap(), *voxels.iter().max().unwrap());
            assert_eq!(index.cell_range(place as usize), Some(expected), "level {level}, cell {place}");
        }
    }
    let empty = Region::whole(Extent::new(16, 17, 16));
    assert_eq!(pyramid.source(0).unwrap().ranges().unwrap().of(empty), Some((0, 0)));

    // Damage is no error, and nothing is known then.
    let beside = path.join("vastgrid/ranges/s0");
    let metadata = fs::read_to_string(beside.join("zarr.json")).unwrap();
    let cell = serde_json::from_str::<serde_json::Value>(&metadata).unwrap();
    for (pointer, value) in [
        ("/attributes/vastgrid/cell/2", serde_json::json!(0)),
        ("/attributes/vastgrid/cell/2", serde_json::json!(8)),
        ("/attributes/vastgrid/cell", serde_json::json!("16")),
        ("/shape/0", serde_json::json!(1_000_000_000_000_u64)),
        ("/data_type", serde_json::json!("complex64")),
    ] {
        let mut damaged = cell.clone();
        *damaged.pointer_mut(pointer).unwrap() = value;
        fs::write(beside.join("zarr.json"), damaged.to_string()).unwrap();
        let pyramid = open(&path);
        assert!(pyramid.source(0).unwrap().ranges().is_none(), "{pointer}");
        assert!(pyramid.source(1).unwrap().ranges().is_some());
    }
    fs::write(beside.join("zarr.json"), &metadata).unwrap();
    fs::write(beside.join("c/0/0/0/0"), b"no zstd").unwrap();
    assert!(open(&path).source(0).unwrap().ranges().is_none());
    fs::remove_dir_all(&beside).unwrap();
    assert!(open(&path).source(0).unwrap().ranges().is_none());
}

/// All files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.extend(if path.is_dir() { files(&path) } else { vec![path] });
    }
    found.sort();
    found
}

/// Copies a folder, with the times of its files or without.
fn copy(from: &Path, to: &Path, times: bool) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
        if times {
            let modified = file.metadata().unwrap().modified().unwrap();
            File::options().append(true).open(&target).unwrap().set_modified(modified).unwrap();
        }
    }
}

#[test]
fn ranges_count_only_while_the_objects_are_those_that_they_were_written_with() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ome.zarr");
    // Not compressed: other voxels take as many bytes.
    let zarr = ZarrOptions {
        chunk: Extent::cube(16),
        shard: Some(Extent::cube(32)),
        codec: ZarrCodec::None,
        ..ZarrOptions::default()
    };
    let options = ConvertOptions { coarsest_voxels: 8192, zarr, ..ConvertOptions::default() };
    Conversion::new(volume(random.next(), Extent::cube(64)), options).unwrap().run(&path).unwrap();
    let known = |path: &Path| [0, 1].map(|level| open(path).source(level).unwrap().ranges().is_some());
    assert_eq!(known(&path), [true, true]);
    assert_eq!(known(&path), [true, true], "to open it changes nothing");
    let (kept, not_kept) = (folder.path().join("kept"), folder.path().join("not kept"));
    copy(&path, &kept, true);
    assert_eq!(known(&kept), [true, true]);
    copy(&path, &not_kept, false);
    assert_eq!(known(&not_kept), [false, false], "a copy without times may hold anything");
    let moved = folder.path().join("moved.ome.zarr");
    fs::rename(&path, &moved).unwrap();
    assert_eq!(known(&moved), [true, true]);

    // Somebody else writes a chunk, of as many bytes.
    let shards = files(&moved.join("s0/c"));
    let shard = &shards[random.below(shards.len() as u64) as usize];
    let whole = fs::read(shard).unwrap();
    let mut bytes = whole.clone();
    let voxels = bytes.len() / 2;
    bytes[..voxels].fill(0x77);
    let written = shard.metadata().unwrap().modified().unwrap();
    fs::write(shard, bytes).unwrap();
    let source = open(&moved);
    let mut voxels = vec![0; 64 * 64 * 64];
    source.source(0).unwrap().read(Region::whole(Extent::cube(64)), &mut voxels).unwrap();
    assert!(voxels.contains(&0x7777), "the chunk is another one");
    assert_eq!(known(&moved), [false, true], "of that level alone");
    fs::write(shard, whole).unwrap();
    File::options().append(true).open(shard).unwrap().set_modified(written).unwrap();
    assert_eq!(known(&moved), [true, true], "as it was");

    // A chunk that goes is one of the fill value.
    let aside = folder.path().join("aside");
    fs::rename(shard, &aside).unwrap();
    assert_eq!(known(&moved), [false, true]);
    fs::rename(&aside, shard).unwrap();
    assert_eq!(known(&moved), [true, true]);
    // So does the fill value matter, and with it what else describes the level.
    let metadata = fs::read_to_string(moved.join("s1/zarr.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    other["fill_value"] = 5.into();
    fs::write(moved.join("s1/zarr.json"), other.to_string()).unwrap();
    assert_eq!(known(&moved), [true, false]);
    fs::write(moved.join("s1/zarr.json"), metadata).unwrap();
    // Ranges that say nothing of what they are of are not believed.
    let ranges = moved.join("vastgrid/ranges/s1/zarr.json");
    let mut without: serde_json::Value = serde_json::from_slice(&fs::read(&ranges).unwrap()).unwrap();
    assert!(without["attributes"]["vastgrid"].as_object_mut().unwrap().remove("objects").is_some());
    fs::write(&ranges, without.to_string()).unwrap();
    assert_eq!(known(&moved), [true, false]);
}

#[test]
fn ranges_of_floats_hold_what_nans_become_in_whole_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ome.zarr");
    let source = Procedural::new(Extent::cube(32), |c: Coord| match (c.x < 16, c.y < 16) {
        (true, _) if c.z.is_multiple_of(3) => f32::NAN,
        (_, true) => 40.0,
        _ => -40.0,
    });
    let zarr = ZarrOptions { chunk: Extent::cube(16), shard: None, ..ZarrOptions::default() };
    let options = ConvertOptions { coarsest_voxels: 1 << 15, zarr, ..ConvertOptions::default() };
    Conversion::new(source, options).unwrap().run(&path).unwrap();
    let image = Zarr::open(&path).unwrap().images()[0].clone();
    let floats = image.ranges::<f32>(0).unwrap().unwrap();
    let whole = image.ranges::<i16>(0).unwrap().unwrap();
    let of = |nth| (floats.cell_range(nth).unwrap(), whole.cell_range(nth).unwrap());
    assert_eq!(of(0), ((40.0, 40.0), (0, 40)));
    assert_eq!(of(2), ((-40.0, -40.0), (-40, 0)));
}
