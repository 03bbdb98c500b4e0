//! What is written of a volume's values beside it is what is known of it when it is opened, and nothing is known where that is damaged or of something else.
#![allow(clippy::cast_possible_truncation, reason = "a few thousand voxels")]

mod convert_support;

use std::fs;
use std::path::Path;

use convert_support::Random;
use vastgrid::convert::{Conversion, ConvertOptions};
use vastgrid::source::{Procedural, Zarr, ZarrSelection};
use vastgrid::store::ZarrOptions;
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
    let chunk = Extent::new(32, 17, 24);
    let zarr = ZarrOptions { chunk, shard: Some(Extent::new(64, 17, 48)), ..ZarrOptions::default() };
    let options = ConvertOptions { coarsest_voxels: 20_000, zarr, ..ConvertOptions::default() };
    Conversion::new(volume(1, extent), options).unwrap().run(&path).unwrap();
    let pyramid = open(&path);
    assert!(pyramid.levels() > 1);
    for level in 0..pyramid.levels() {
        let source = pyramid.source(level).unwrap();
        let index = source.ranges().expect("ranges");
        let (extent, cell, cells) = (source.extent(), index.cell(), index.cells());
        assert_eq!((index.extent(), cell), (extent, Extent::new(16, 17, 24)));
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
    let empty = Region::whole(Extent::new(16, 17, 24));
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
