//! Files that the reference libraries of their formats wrote decode to what those say, through an array, whatever its tiles.

mod common;

use std::fs::{self, File};
use std::path::Path;

use common::files::{bytes_through_array, fixtures, sha256};
use flate2::read::MultiGzDecoder;
use vastgrid::source::{Dataset, Endian, Nifti, Nrrd, RawSpec, Tiff};
use vastgrid::{Extent, ScalarType};

/// Tiles that divide no fixture's extent.
const TILES: [[u64; 3]; 3] = [[16, 8, 4], [4, 32, 2], [64, 2, 32]];

#[test]
fn fixtures_decode_to_the_voxels_that_their_writers_wrote() {
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut tested = 0;
    for entry in expected.as_array().unwrap() {
        let (path, format) = (entry["path"].as_str().unwrap(), entry["format"].as_str().unwrap());
        let zyx: Vec<u64> = entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let extent = Extent::from_zyx([zyx[0], zyx[1], zyx[2]]);
        let mut scalar_type = match entry["dtype"].as_str().unwrap() {
            "|u1" => ScalarType::U8,
            "<i2" => ScalarType::I16,
            "<u2" => ScalarType::U16,
            "<f4" => ScalarType::F32,
            other => panic!("{other}"),
        };
        let mut hash = entry["sha256"].as_str().unwrap().to_owned();
        if entry["note"].as_str().unwrap().contains("scaled values equal raw/f32") {
            // The list has the hash of what is stored.
            let values = expected.as_array().unwrap().iter().find(|e| e["path"] == "raw/f32_45x37x29.raw.gz");
            hash = values.unwrap()["sha256"].as_str().unwrap().to_owned();
            scalar_type = ScalarType::F32;
        }
        for tile in TILES {
            let path = &fixtures().join(path);
            let dataset = match format {
                "raw" => unpacked(path, folder.path(), scalar_type, extent),
                "NRRD" => Nrrd::open(path).unwrap().into_dataset().unwrap(),
                "TIFF" => Tiff::open(path).unwrap().dataset(0, 0, 0).unwrap(),
                "NIfTI" => Nifti::open(path).unwrap().into_dataset().unwrap(),
                // Of other tests.
                _ => continue,
            };
            assert_eq!(
                (dataset.extent(), dataset.scalar_type()),
                (extent, scalar_type),
                "{}",
                path.display()
            );
            let bytes = bytes_through_array(dataset, tile);
            assert_eq!(sha256(&bytes), hash, "{} in tiles of {tile:?}", path.display());
            tested += 1;
        }
    }
    assert_eq!(tested, 3 * 16, "files times tiles");
}

/// Raw files are kept under gzip, only to be small.
fn unpacked(path: &Path, folder: &Path, scalar_type: ScalarType, extent: Extent) -> Dataset {
    let unpacked = folder.join("unpacked.raw");
    let mut packed = MultiGzDecoder::new(File::open(path).unwrap());
    std::io::copy(&mut packed, &mut File::create(&unpacked).unwrap()).unwrap();
    let spec = RawSpec { endian: Endian::Little, ..RawSpec::new(extent) };
    Dataset::open_raw(&unpacked, scalar_type, spec).unwrap()
}
