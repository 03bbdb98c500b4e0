//! What is written is opened by zarr-python, TensorStore and the OME-Zarr model, values equal.
//!
//! Needs a Python with the packages `zarr`, `tensorstore` and `ome-zarr-models`: `VASTGRID_ZARR_PYTHON` names it. With `VASTGRID_REQUIRE_ZARR_PYTHON=1` it must be there.

mod convert_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use convert_support::Random;
use serde_json::{Value, json};
use vastgrid::convert::{Conversion, ConvertOptions, Progress, copy_region};
use vastgrid::pyramid::{DeriveOptions, Downsample};
use vastgrid::source::Procedural;
use vastgrid::store::{ChannelDescription, RawStore, Shuffle, ZarrCodec, ZarrOptions};
use vastgrid::{Coord, Extent, PyramidSource, Region, Scalar, TileSource};

fn volume<T: Scalar>(seed: u64, extent: Extent) -> Procedural<T> {
    Procedural::new(extent, move |c: Coord| {
        let mix = (c.x | c.y << 20 | c.z << 40).wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match mix >> 61 {
            _ if c.z > extent.z / 2 && c.x > extent.x / 3 => T::zeroed(),
            // Not a number, of types that have it.
            0 => T::from_f64(f64::INFINITY),
            _ => T::from_f64((mix >> 40) as f64 / 256.0 - 9000.0),
        }
    })
}

/// Converts a volume; gives what a reader should find.
fn image<T: Scalar>(folder: &Path, random: &mut Random, codec: ZarrCodec, sharded: bool) -> Value {
    let name = format!("{}-{codec:?}-{sharded}", T::TYPE).replace([' ', '{', '}', ':', ','], "");
    let seed = random.next();
    let mut side = |least: u64, most: u64| least + random.below(most - least);
    let extent = Extent::new(side(30, 90), side(30, 90), side(20, 60));
    let chunk = Extent::new(side(5, 40), side(5, 40), side(5, 40));
    let shard =
        sharded.then(|| Extent::new(chunk.x * side(1, 4), chunk.y * side(1, 4), chunk.z * side(1, 4)));
    let method = Downsample::Max;
    let options = ConvertOptions {
        method,
        coarsest_voxels: 5000,
        spacing: [0.5, 0.5, 1.5],
        origin: [1.0, -2.0, 0.0],
        units: ["micrometer"; 3].map(|unit| Some(unit.into())),
        name: Some(name.clone()),
        channel: Some(ChannelDescription {
            label: Some("test".into()),
            color: [0, 255, 0],
            window: [0.0, 100.0],
            limits: [-9000.0, 60_000.0],
        }),
        zarr: ZarrOptions { chunk, shard, codec, ..ZarrOptions::default() },
        ..ConvertOptions::default()
    };
    let derive =
        DeriveOptions { spacing: options.spacing, coarsest_voxels: 5000, ..DeriveOptions::default() };
    Conversion::new(volume::<T>(seed, extent), options).unwrap().run(folder.join(&name)).unwrap();
    let expected = PyramidSource::derive(volume::<T>(seed, extent), method, derive).unwrap();
    let mut levels = Vec::new();
    for level in 0..expected.levels() {
        let source = expected.source(level).unwrap();
        let whole = Region::whole(source.extent());
        let raw = format!("{name}.{level}.raw");
        let store = RawStore::<T>::create(folder.join(&raw), whole.extent).unwrap();
        copy_region(source.clone(), whole, &store, 16 << 20, None, &Progress::new(1)).unwrap();
        store.save().unwrap();
        let shape = whole.extent.to_zyx();
        levels.push(json!({ "path": format!("s{level}"), "raw": raw, "type": numpy::<T>(), "shape": shape }));
    }
    json!({ "name": name, "levels": levels })
}

fn numpy<T: Scalar>() -> String {
    let (kind, bits) = T::TYPE.name().split_at(1);
    let kind = match kind {
        "u" => "uint",
        "i" => "int",
        _ => "float",
    };
    format!("{kind}{bits}")
}

#[test]
fn other_readers_find_what_was_written() {
    let must = std::env::var_os("VASTGRID_REQUIRE_ZARR_PYTHON").is_some_and(|v| v == "1");
    let Some(python) = std::env::var_os("VASTGRID_ZARR_PYTHON") else {
        assert!(!must, "VASTGRID_ZARR_PYTHON names no Python");
        eprintln!("skipped: VASTGRID_ZARR_PYTHON names no Python with zarr, tensorstore and ome-zarr-models");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (at, r) = (folder.path(), &mut Random::new());
    let zstd = ZarrCodec::default();
    let images = json!([
        image::<u8>(at, r, zstd, true),
        image::<i8>(at, r, zstd, false),
        image::<u16>(at, r, zstd, true),
        image::<i16>(at, r, ZarrCodec::None, true),
        image::<u32>(at, r, ZarrCodec::Gzip { level: 5 }, true),
        image::<i32>(at, r, ZarrCodec::Gzip { level: 1 }, false),
        image::<f32>(at, r, ZarrCodec::Blosc { level: 5, shuffle: Shuffle::Bytes }, true),
        image::<f64>(at, r, ZarrCodec::Blosc { level: 3, shuffle: Shuffle::Bits }, false),
        image::<half::f16>(at, r, ZarrCodec::Zstd { level: -5 }, true),
        image::<f32>(at, r, ZarrCodec::None, false),
    ]);
    fs::write(at.join("expected.json"), images.to_string()).unwrap();
    let output = Command::new(python).arg("tests/zarr_readers.py").arg(at).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{said}");
}
