//! `MetaImages` written by hand here: what they mean is read, and no damage does more than return an error.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::format_collect,
    clippy::format_push_string,
    reason = "files of a few thousand voxels, made here"
)]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::files::{apply, damage, extents, gzip, read, read_whole, region_in};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use tempfile::TempDir;
use vastgrid::source::{Endian, MetaImage};
use vastgrid::{Coord, Extent, Region, Scalar, ScalarType, SourceError, TileSource};

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.mha");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn load_u8(bytes: &[u8]) -> Result<Vec<u8>, SourceError> {
    let (_folder, path) = file_of(bytes);
    Ok(read_whole(&MetaImage::open(&path)?.into_dataset()?.into_source::<u8>()))
}

const SIX: &str = "ObjectType = Image\nNDims = 3\nDimSize = 3 2 1\nElementType = MET_UCHAR\n";

fn local(fields: &str, data: &[u8]) -> Vec<u8> {
    [format!("{SIX}{fields}ElementDataFile = LOCAL\n").as_bytes(), data].concat()
}

fn value(c: Coord, time: u64) -> u16 {
    (c.x * 3 + c.y * 97 + c.z * 4_001 + time * 17_011) as u16
}

fn expected(region: Region, time: u64) -> Vec<u16> {
    common::expected_by(region, |c| value(c, time))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    extent: Extent,
    times: Option<u64>,
    big: bool,
    compressed: Option<bool>,
    beside: bool,
    returns: bool,
    /// Bytes before the voxels, or -1: they are what the file ends with.
    header_size: Option<i64>,
}

fn write(case: Case, folder: &Path) -> PathBuf {
    let Extent { x, y, z } = case.extent;
    let (axes, sizes) = match case.times {
        Some(times) => (4, format!("{x} {y} {z} {times}")),
        None => (3, format!("{x} {y} {z}")),
    };
    let mut data = Vec::new();
    for time in 0..case.times.unwrap_or(1) {
        for v in expected(Region::whole(case.extent), time) {
            data.extend(if case.big { v.to_be_bytes() } else { v.to_le_bytes() });
        }
    }
    let mut header = format!(
        "ObjectType = Image\nNDims = {axes}\nBinaryData = True\nBinaryDataByteOrderMSB = {}\nCompressedData = {}\nDimSize = {sizes}\nElementType = MET_USHORT\n",
        if case.big { "True" } else { "False" },
        if case.compressed.is_some() { "True" } else { "False" },
    );
    match (case.compressed, case.header_size) {
        // MetaIO reads gzip data there as well.
        (Some(gz), _) => data = if gz { gzip(&data) } else { zlib(&data) },
        (None, Some(before)) => {
            header += &format!("HeaderSize = {before}\n");
            data = [vec![b'.'; if before < 0 { 13 } else { before as usize }], data].concat();
        }
        (None, None) => {}
    }
    header += if case.beside { "ElementDataFile = sub/v.raw\n" } else { "ElementDataFile = LOCAL\n" };
    if case.returns {
        header = header.replace('\n', "\r\n");
    }
    let path = folder.join("v.mhd");
    if case.beside {
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(folder.join("sub/v.raw"), data).unwrap();
        fs::write(&path, header).unwrap();
    } else {
        fs::write(&path, [header.as_bytes(), &data].concat()).unwrap();
    }
    path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_by_hand_is_read_back(
        (extent, region) in extents(12).prop_flat_map(|e| (Just(e), region_in(e))),
        times in proptest::option::of(1..4u64),
        big: bool,
        compressed: Option<bool>,
        beside: bool,
        returns: bool,
        header_size in proptest::option::of(-1..20i64),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = write(Case { extent, times, big, compressed, beside, returns, header_size }, folder.path());
        let header = MetaImage::open(&path).unwrap().header().clone();
        prop_assert_eq!((header.extent(), header.times()), (extent, times.unwrap_or(1)));
        prop_assert_eq!(header.endian() == Endian::Big, big);
        for time in 0..header.times() {
            let image = MetaImage::open(&path).unwrap().with_time(time).unwrap();
            let source = image.into_dataset().unwrap().into_source::<u16>();
            prop_assert_eq!(read(&source, region), expected(region, time));
            prop_assert_eq!(read_whole(&source), expected(Region::whole(extent), time));
        }
        let error = MetaImage::open(&path).unwrap().with_time(header.times()).unwrap_err();
        prop_assert!(matches!(error, SourceError::NoSuch { .. }), "{}", error);
    }
}

#[test]
fn every_type_is_read_and_others_are_named() {
    fn check<T: Scalar>(name: &str, values: [f64; 2]) {
        let voxels: Vec<T> = values.iter().map(|v| T::from_f64(*v)).collect();
        let header = format!("NDims = 2\nDimSize = 2 1\nElementType = {name}\nElementDataFile = LOCAL\n");
        let bytes = [header.as_bytes(), bytemuck::cast_slice(&voxels)].concat();
        let (_folder, path) = file_of(&bytes);
        let dataset = MetaImage::open(&path).unwrap().into_dataset().unwrap();
        assert_eq!((dataset.scalar_type(), dataset.extent()), (T::TYPE, Extent::new(2, 1, 1)));
        assert_eq!(read_whole(&dataset.into_source::<T>()), voxels);
    }
    check::<u8>("MET_UCHAR", [1.0, 255.0]);
    check::<i8>("MET_CHAR", [-2.0, 127.0]);
    check::<u16>("MET_USHORT", [1.0, 65_535.0]);
    check::<i16>("MET_SHORT", [-2.0, 258.0]);
    check::<u32>("MET_UINT", [1.0, 4_294_967_295.0]);
    check::<i32>("MET_INT", [-2.0, 16_909_060.0]);
    check::<f32>("MET_FLOAT", [-2.5, 1e30]);
    check::<f64>("MET_DOUBLE", [-2.5, 1e300]);
    for name in ["MET_LONG", "MET_ULONG_LONG", "MET_UCHAR_ARRAY", "MET_NONE", "short", ""] {
        let bytes = format!("NDims = 3\nDimSize = 1 1 1\nElementType = {name}\nElementDataFile = LOCAL\n");
        let error = load_u8(bytes.as_bytes()).unwrap_err();
        let SourceError::Unsupported { value, .. } = error else { panic!("{error}") };
        assert_eq!(value, name);
    }
}

#[test]
fn geometry_is_as_the_header_has_it() {
    let header = |fields: &str| {
        let (_folder, path) = file_of(&local(fields, b"voxels"));
        MetaImage::open(&path).unwrap().header().clone()
    };
    let none = header("");
    assert_eq!((none.spacing(), none.offset(), none.transform()), ([1.0; 3], None, None));
    let all = header(
        "Comment = a = b\nComment = twice\nElementSize = 9 9 9\nElementSpacing = 0.5 0.5 -2\nOffset = 1 -2 3e1\nTransformMatrix = 0 1 0 1 0 0 0 0 1\nAnatomicalOrientation = RAI\n",
    );
    assert_eq!((all.spacing(), all.offset()), ([0.5, 0.5, 2.0], Some([1.0, -2.0, 30.0])));
    assert_eq!(all.transform().unwrap()[0], [0.0, 1.0, 0.0]);
    assert_eq!((all.field("AnatomicalOrientation"), all.field("Comment")), (Some("RAI"), Some("a = b")));
    assert_eq!(all.scalar_type(), ScalarType::U8);
    assert_eq!(header("ElementSize = 1 2 3\n").spacing(), [1.0, 2.0, 3.0]);
}

#[test]
fn headers_that_cannot_be_are_refused_by_field_and_value() {
    let refused = |change: &str| {
        let key = change.split(" = ").next().unwrap();
        let lines = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\n";
        let kept: String = lines.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect();
        let last = if change.contains("ElementDataFile") { "" } else { "ElementDataFile = LOCAL\n" };
        let bytes = [format!("ObjectType = Image\n{kept}{change}\n{last}").as_bytes(), &[0; 256]].concat();
        match load_u8(&bytes) {
            Err(SourceError::Header { field, value, .. }) => (field, value),
            other => panic!("{change}: {other:?}"),
        }
    };
    for line in [
        "NDims = 1",
        "NDims = 5",
        "NDims = three",
        "DimSize = 2 2",
        "DimSize = 2 2 2 2",
        "DimSize = 2 -2 2",
        "DimSize = 2 0 2",
        "DimSize = 99999999999999999999 1 1",
        "DimSize = 4294967296 4294967296 4294967296",
        "DimSize =",
        "BinaryData = False",
        "ElementNumberOfChannels = 3",
        "CompressedData = maybe",
        "BinaryDataByteOrderMSB = middle",
        "ElementSpacing = 1 1",
        "ElementSpacing = 1 1 one",
        "ElementSpacing = 1 0 1",
        "ElementSpacing = 1 inf 1",
        "Offset = 1 1",
        "TransformMatrix = 1 0 0 1",
        "TransformMatrix = 1 0 0 0 1 0 0 0",
        "HeaderSize = -2",
        "HeaderSize = x",
        "ElementDataFile = LIST",
        "ElementDataFile = slice%03d.raw 1 4 1",
        "ElementDataFile =",
    ] {
        let (name, value) = line.split_once('=').unwrap();
        assert_eq!(refused(line), (name.trim(), value.trim().to_owned()));
    }
    assert_eq!(refused("CompressedData = True\nHeaderSize = 4").0, "HeaderSize");
    assert_eq!(refused("Offset = 1 2 3\nOffset = 1 2 3"), ("header line", "Offset = 1 2 3".into()));
    assert_eq!(refused("what is this"), ("header line", "what is this".into()));
    let missing = load_u8(b"NDims = 3\nDimSize = 1 1 1\nElementDataFile = LOCAL\n").unwrap_err();
    assert!(matches!(missing, SourceError::Header { field: "ElementType", .. }), "{missing}");
    let endless = [b"NDims = 3\n".to_vec(), b"Comment = on and on\n".repeat(1 << 14)].concat();
    let error = load_u8(&endless).unwrap_err();
    assert!(matches!(error, SourceError::Header { field: "ElementDataFile", .. }), "{error}");
    for not_one in [&b""[..], b"NRRD0004\n", b"\0\0\0", b"Objects = Image\n"] {
        let error = load_u8(not_one).unwrap_err();
        assert!(matches!(error, SourceError::Header { field: "first line", .. }), "{error}");
    }
}

#[test]
fn what_is_promised_and_not_there_is_a_truncation() {
    for fields in ["", "HeaderSize = 3\n", "HeaderSize = -1\n", "HeaderSize = 18446744073709551615\n"] {
        let error = load_u8(&local(fields, b"voxel")).unwrap_err();
        assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    }
    assert_eq!(load_u8(&local("HeaderSize = -1\n", b"more and voxels")).unwrap(), b"voxels");
    let error = load_u8(&local("CompressedData = True\n", &zlib(b"voxel"))).unwrap_err();
    assert!(matches!(error, SourceError::Truncated { expected_bytes: 6, actual_bytes: 5, .. }), "{error}");
    let error = load_u8(&local("CompressedData = True\n", b"not compressed at all")).unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
    let good = local("CompressedData = True\n", &zlib(b"voxels"));
    assert_eq!(load_u8(&good).unwrap(), b"voxels");
    for cut in 0..good.len() {
        // What is cut off may be no more than the checksum, which comes after the last voxel.
        assert!(load_u8(&good[..cut]).is_err() || cut + 4 >= good.len(), "cut at {cut}");
    }
    for name in ["none.raw", ".", "/dev/zero"] {
        let error = load_u8(format!("{SIX}ElementDataFile = {name}\n").as_bytes()).unwrap_err();
        let SourceError::Open { path, .. } = error else { panic!("{error}") };
        assert!(path.as_os_str().as_encoded_bytes().ends_with(name.as_bytes()), "{}", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_does_more_than_return_an_error(
        damages in proptest::collection::vec(damage(), 1..6),
        compressed: bool,
    ) {
        let data = if compressed { zlib(&[7; 120]) } else { vec![7; 120] };
        let header = format!(
            "ObjectType = Image\nNDims = 4\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {}\nTransformMatrix = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\nOffset = 1 2 3 4\nElementSpacing = 1 1 2 1\nDimSize = 5 4 3 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
            if compressed { "True" } else { "False" },
        );
        let mut bytes = [header.as_bytes(), &data].concat();
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        let (_folder, path) = file_of(&bytes);
        if let Ok(image) = MetaImage::open(&path) {
            let promised = image.header().extent().checked_volume().unwrap() * image.header().scalar_type().bytes() as u64;
            let mut most = 0;
            if let Ok(dataset) = image.into_dataset_with(|done, _| most = most.max(done)) {
                let source = dataset.into_source::<f32>();
                prop_assert!(source.read(Region::whole(Extent::cube(1)), &mut [0.0]).is_ok());
            }
            prop_assert!(most <= promised);
        }
    }
}
