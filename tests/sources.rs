//! Where tiles come from, by property: files written elsewhere decode to the voxels their writers meant, any region equals that part of the whole, and no
//! file, however damaged, does more than return an error.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use common::files::{apply, damage, extents, fixtures, gzip, read, read_whole, region_in, sha256};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;
use vastgrid::source::{
    AxisOrder, Converted, Dataset, Endian, Nrrd, NrrdEncoding, Procedural, RawFile, RawSpec,
};
use vastgrid::{Coord, Extent, Region, Scalar, ScalarType, SourceError, TileSource};

// ---- files written elsewhere ---------------------------------------------------------------------------------------------------------------------

#[test]
fn fixture_headers_say_what_their_writer_said() {
    for file in ["raw_i16.nrrd", "gzip_i16.nrrd", "detached_i16.nhdr"] {
        let nrrd = Nrrd::open(fixtures().join("nrrd").join(file)).unwrap();
        let header = nrrd.header();
        assert_eq!(header.version(), 5);
        assert_eq!(header.spacing().map(|s| s.to_string()), ["0.9", "0.9", "1.5"]);
        assert_eq!(header.space(), Some("left-posterior-superior"));
        assert_eq!(header.space_origin(), Some(&[-90.0, -126.0, -72.0][..]));
        assert_eq!(header.space_directions()[2], Some(&[0.0, 0.0, 1.5][..]));
        assert_eq!(header.kinds(), [Some("domain"); 3]);
        assert!(header.comments()[0].contains("pynrrd"));
        assert_eq!(header.encoding() == NrrdEncoding::Raw, file.starts_with("raw"));
        assert_eq!(header.data_file().is_some(), file.starts_with("detached"));
    }
}

#[test]
fn the_default_volume_is_the_one_that_the_notice_names() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/stent.nrrd");
    let mut seen = Vec::new();
    let nrrd = Nrrd::open(path).unwrap();
    let source = nrrd.into_source_with::<i16>(|done, total| seen.push((done, total))).unwrap();
    assert_eq!(source.extent(), Extent::new(128, 128, 256));
    let total = 128 * 128 * 256 * 2;
    assert!(seen.is_sorted() && seen.iter().all(|s| s.1 == total), "progress goes forwards");
    assert_eq!(seen.last(), Some(&(total, total)), "and to the end");
    assert!(seen.len() > 8, "in steps");
    // Of array `arr_0` in imageio's stent.npz, C order, little-endian.
    assert_eq!(
        sha256(bytemuck::cast_slice(&read_whole(&source))),
        "8431cfdc59600c1a6e2b68adeac61a8535d01cfdba236150b92101f984454da1"
    );
}

// ---- raw files -----------------------------------------------------------------------------------------------------------------------------------

/// A voxel that tells where it is.
fn voxel(c: Coord) -> u32 {
    u32::try_from(c.x * 1_000_003 + c.y * 10_007 + c.z * 101 + 0x0102_0300).unwrap()
}

/// Writes voxels in whatever order `spec` says, the slow and obvious way.
fn write_raw(path: &Path, spec: &RawSpec) {
    let tile = spec.tile.unwrap_or(spec.extent);
    let (extent, tile_xyz) = (spec.extent.to_array(), tile.to_array());
    let order = spec.order.axes();
    let boxes = |size: [u64; 3]| {
        // All positions in a box, in the file's order.
        let [fast, middle, slow] = order.map(|axis| size[axis]);
        (0..slow * middle * fast).map(move |i| {
            let mut at = [0; 3];
            for (axis, n) in order.into_iter().zip([i % fast, i / fast % middle, i / fast / middle]) {
                at[axis] = n;
            }
            at
        })
    };
    let tiles = [0, 1, 2].map(|axis| extent[axis].div_ceil(tile_xyz[axis]));
    let mut bytes = vec![0xee; usize::try_from(spec.offset_bytes).unwrap()];
    for t in boxes(tiles) {
        for v in boxes(tile_xyz) {
            let c = [0, 1, 2].map(|axis| t[axis] * tile_xyz[axis] + v[axis]);
            let value = if spec.extent.contains(c.into()) { voxel(c.into()) } else { 0xdead_beef };
            bytes.extend(match spec.endian {
                Endian::Little => value.to_le_bytes(),
                Endian::Big => value.to_be_bytes(),
            });
        }
    }
    fs::write(path, bytes).unwrap();
}

fn truth(extent: Extent) -> Procedural<u32> {
    Procedural::new(extent, voxel)
}

fn specs() -> impl Strategy<Value = RawSpec> {
    let tile = proptest::option::of(extents(7));
    let order = proptest::sample::select(&AxisOrder::ALL[..]);
    (extents(20), 0..9u64, any::<bool>(), order, tile).prop_map(|(extent, offset_bytes, big, order, tile)| {
        let endian = if big { Endian::Big } else { Endian::Little };
        RawSpec { extent, offset_bytes, endian, order, tile }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_region_of_any_raw_file_is_that_part_of_the_whole(
        (spec, regions) in specs().prop_flat_map(|s| (Just(s), proptest::collection::vec(region_in(s.extent), 1..6))),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.raw");
        write_raw(&path, &spec);
        let source = RawFile::<u32>::open(&path, spec).unwrap();
        let truth = truth(spec.extent);
        prop_assert_eq!(read_whole(&source), read_whole(&truth));
        for region in regions {
            prop_assert_eq!(read(&source, region), read(&truth, region), "{}", region);
        }
    }
}

#[test]
fn rows_too_long_for_the_buffer_are_read_in_every_order() {
    // 100 000 voxels of 4 bytes are more than one call reads into the buffer.
    for (order, extent) in [
        (AxisOrder::Xyz, Extent::new(100_000, 3, 2)),
        (AxisOrder::Yxz, Extent::new(3, 100_000, 2)),
        (AxisOrder::Zyx, Extent::new(2, 3, 100_000)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.raw");
        // Values would overflow 32 bits that far out, so the axes wrap.
        let wrapped = |c: Coord| voxel(Coord::new(c.x % 997, c.y % 991, c.z % 983));
        let source = Procedural::new(extent, wrapped);
        let [fast, middle, slow] = order.axes().map(|axis| extent.to_array()[axis]);
        let mut bytes = Vec::new();
        for i in 0..fast * middle * slow {
            let mut at = [0; 3];
            for (axis, n) in order.axes().into_iter().zip([i % fast, i / fast % middle, i / fast / middle]) {
                at[axis] = n;
            }
            bytes.extend(wrapped(at.into()).to_ne_bytes());
        }
        fs::write(&path, bytes).unwrap();
        let file = RawFile::<u32>::open(&path, RawSpec { order, ..RawSpec::new(extent) }).unwrap();
        assert!(read_whole(&file) == read_whole(&source), "{order:?}");
        let (a, b) = (Coord::new(1, 1, 1), Extent::new(extent.x - 1, extent.y - 1, extent.z - 1));
        assert!(
            read(&file, Region::new(a, b)) == read(&source, Region::new(a, b)),
            "{order:?}, without its rim"
        );
    }
}

#[test]
fn every_scalar_type_is_read_from_both_byte_orders() {
    fn check<T: Scalar>(values: &[f64]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.raw");
        let voxels: Vec<T> = values.iter().map(|&v| T::from_f64(v)).collect();
        let extent = Extent::new(voxels.len() as u64, 1, 1);
        for endian in [Endian::Little, Endian::Big] {
            let swapped: Vec<T> =
                voxels.iter().map(|v| if endian == Endian::NATIVE { *v } else { v.swap_bytes() }).collect();
            fs::write(&path, bytemuck::cast_slice::<T, u8>(&swapped)).unwrap();
            let spec = RawSpec { endian, ..RawSpec::new(extent) };
            let dataset = Dataset::open_raw(&path, T::TYPE, spec).unwrap();
            assert_eq!(dataset.scalar_type(), T::TYPE);
            assert_eq!(read_whole(&dataset.into_source::<T>()), voxels);
        }
    }
    let integers = [0.0, 1.0, 77.0, 127.0];
    check::<u8>(&integers);
    check::<i8>(&integers);
    check::<u16>(&[1.0, 258.0, 65_535.0]);
    check::<i16>(&[-1.0, 258.0, -32_768.0]);
    check::<u32>(&[1.0, 16_909_060.0, 4_294_967_295.0]);
    check::<i32>(&[1.0, -16_909_060.0]);
    check::<half::f16>(&[1.5, -0.125]);
    check::<f32>(&[1.5, -1e-30, 3e38]);
    check::<f64>(&[1.5, -1e-300]);
}

#[test]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
fn a_dataset_of_one_type_is_read_as_another() {
    let dataset =
        Dataset::I16(Box::new(Procedural::new(Extent::new(3, 1, 1), |c| [-7i16, 300, 5][c.x as usize])));
    assert_eq!(read_whole(&dataset.into_source::<u8>()), [0, 255, 5]);
    let twice: Converted<_, f32, i16> =
        Converted::new(Converted::<_, u8, f32>::new(Procedural::new(Extent::cube(2), |c| c.x as u8)));
    assert_eq!(read_whole(&twice), [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_raw_file_is_refused_when_a_byte_is_missing_and_when_it_goes_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.raw");
    for tile in [None, Some(Extent::new(4, 2, 3))] {
        let spec = RawSpec { offset_bytes: 5, tile, ..RawSpec::new(Extent::new(8, 4, 3)) };
        write_raw(&path, &spec);
        let needed = spec.offset_bytes + spec.data_bytes(4).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), needed);
        let source = RawFile::<u32>::open(&path, spec).unwrap();
        for bytes in [needed - 1, needed - 4, 5, 4, 0] {
            File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
            let error = RawFile::<u32>::open(&path, spec).unwrap_err();
            let SourceError::Truncated { expected_bytes, actual_bytes, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((expected_bytes, actual_bytes), (needed, bytes));
            // The one that is open says so, too, when it gets there.
            let error = source.read(Region::whole(spec.extent), &mut [0; 96]).unwrap_err();
            assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
        }
    }
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.raw");
    fs::write(&path, [0; 64]).unwrap();
    let open = |spec| RawFile::<u32>::open(&path, spec).unwrap_err();
    let base = RawSpec::new(Extent::cube(2));
    for spec in [
        RawSpec::new(Extent::new(0, 1, 1)),
        RawSpec::new(Extent::cube(1 << 22)),
        RawSpec::new(Extent::new(1 << 62, 1, 1)),
        RawSpec { tile: Some(Extent::new(1, 0, 1)), ..base },
        RawSpec { tile: Some(Extent::cube(1 << 22)), ..base },
        RawSpec { offset_bytes: u64::MAX, ..base },
    ] {
        assert!(matches!(open(spec), SourceError::Shape { .. }), "{spec:?}");
        assert!(open(spec).to_string().contains("v.raw: a volume of "), "{}", open(spec));
    }
    assert!(matches!(open(RawSpec::new(Extent::cube(1 << 20))), SourceError::Truncated { .. }));
    let directory = RawFile::<u8>::open(folder.path(), base).unwrap_err();
    assert!(matches!(directory, SourceError::Open { .. }), "{directory}");
    let missing = RawFile::<u8>::open(folder.path().join("none"), base).unwrap_err();
    assert!(matches!(missing, SourceError::Open { .. }), "{missing}");
    let source = RawFile::<u8>::open(&path, base).unwrap();
    let outside = source.read(Region::new(Coord::new(1, 0, 0), Extent::cube(2)), &mut [0; 8]).unwrap_err();
    assert!(matches!(outside, SourceError::BadCall { .. }), "{outside}");
    assert!(outside.to_string().contains("v.raw: the source of 2 x 2 x 2 was asked for "), "{outside}");
}

// ---- NRRD ----------------------------------------------------------------------------------------------------------------------------------------

/// A folder with one file in it.
fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.nrrd");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn attached(header: &str, data: &[u8]) -> Vec<u8> {
    [header.as_bytes(), b"\n", data].concat()
}

/// Opens and reads as `u8`, whatever comes first going wrong.
fn load_u8(bytes: &[u8]) -> Result<Vec<u8>, SourceError> {
    let (_folder, path) = file_of(bytes);
    let source = Nrrd::open(&path)?.into_source::<u8>()?;
    Ok(read_whole(&source))
}

const SIX: &str = "NRRD0001\ntype: uchar\ndimension: 3\nsizes: 3 2 1\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_by_hand_is_read_back(
        extent in extents(12),
        big: bool,
        packed: bool,
        returns: bool,
        detached: bool,
        (lines, bytes) in (0..3usize, 0..5usize),
        four: Option<bool>,
    ) {
        let voxels = read_whole(&truth(extent));
        let data: Vec<u8> =
            voxels.iter().flat_map(|v| if big { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        let Extent { x, y, z } = extent;
        let sizes = match four {
            None => format!("dimension: 3\nsizes: {x} {y} {z}"),
            // Where z is 1 as well, the leading axis is told apart by having no direction in space.
            Some(true) => format!("dimension: 4\nsizes: 1 {x} {y} {z}\nspace dimension: 3\nspace directions: none (1,0,0) (0,1,0) (0,0,1)"),
            Some(false) => format!("dimension: 4\nsizes: {x} {y} {z} 1"),
        };
        let mut header = format!(
            "NRRD0005\n# by hand\ntype: unsigned int\n{sizes}\nencoding: {}\nendian: {}\nline skip: {lines}\nbyte skip: {bytes}\nname:=a\\nb\n{}",
            if packed { "gz" } else { "raw" },
            if big { "big" } else { "little" },
            if detached { "data file: ./sub/v.data\n" } else { "" },
        );
        if returns {
            header = header.replace('\n', "\r\n");
        }
        let end = if returns { "\r\n" } else { "\n" };
        // Lines come before decompression, bytes after.
        let skipped = [vec![b'.'; bytes], data].concat();
        let body = if packed { gzip(&skipped) } else { skipped };
        let body = [b"line\n".repeat(lines), body].concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.nhdr");
        if detached {
            fs::create_dir(folder.path().join("sub")).unwrap();
            fs::write(folder.path().join("sub/v.data"), body).unwrap();
            fs::write(&path, header).unwrap();
        } else {
            fs::write(&path, [header.as_bytes(), end.as_bytes(), &body].concat()).unwrap();
        }
        let nrrd = Nrrd::open(&path).unwrap();
        prop_assert_eq!(nrrd.header().extent(), extent);
        prop_assert_eq!(nrrd.header().comments(), ["by hand"]);
        prop_assert_eq!(nrrd.header().key_values(), [("name".to_owned(), "a\nb".to_owned())]);
        prop_assert!(read_whole(&nrrd.into_source::<u32>().unwrap()) == voxels);
    }
}

#[test]
fn raw_data_may_be_what_the_file_ends_with() {
    let bytes = attached(&format!("{SIX}encoding: raw\nbyteskip: -1\n"), b"other headers....voxels");
    assert_eq!(load_u8(&bytes).unwrap(), b"voxels");
}

#[test]
fn gzip_members_are_joined_and_what_follows_them_is_ignored() {
    let header = format!("{SIX}encoding: gzip\n");
    let parts = [gzip(b"vo"), gzip(b""), gzip(b"xels")].concat();
    assert_eq!(load_u8(&attached(&header, &parts)).unwrap(), b"voxels");
    let garbage = [gzip(b"voxels"), b"\0\0garbage".to_vec()].concat();
    assert_eq!(load_u8(&attached(&header, &garbage)).unwrap(), b"voxels");
    let more = gzip(b"voxels and more");
    assert_eq!(load_u8(&attached(&header, &more)).unwrap(), b"voxels");
}

#[test]
fn damaged_gzip_data_is_an_error_and_never_voxels() {
    let header = format!("{SIX}encoding: gzip\n");
    let good = gzip(b"voxels");
    assert!(load_u8(&attached(&header, &good)).is_ok());
    for cut in 0..good.len() {
        let error = load_u8(&attached(&header, &good[..cut])).unwrap_err();
        assert!(
            matches!(error, SourceError::Truncated { .. } | SourceError::Read { .. }),
            "cut at {cut}: {error}"
        );
    }
    let mut wrong_checksum = good.clone();
    let at = good.len() - 5;
    wrong_checksum[at] ^= 1;
    let error = load_u8(&attached(&header, &wrong_checksum)).unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
    let error = load_u8(&attached(&header, &gzip(b"voxel"))).unwrap_err();
    assert!(matches!(error, SourceError::Truncated { expected_bytes: 6, actual_bytes: 5, .. }), "{error}");
    let error = load_u8(&attached(&header, b"not compressed at all")).unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
}

#[test]
fn a_gzip_bomb_stops_at_what_the_header_promises() {
    // 64 MiB of zeros in 64 KiB, under a header that promises 6 bytes.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let (_folder, path) = file_of(&attached(&format!("{SIX}encoding: gzip\n"), &bomb));
    let mut done = 0;
    let source = Nrrd::open(&path).unwrap().into_source_with::<u8>(|bytes, _| done = bytes).unwrap();
    assert_eq!((done, read_whole(&source)), (6, vec![0; 6]));
}

#[test]
fn truncation_of_an_attached_raw_file_is_refused_at_every_byte() {
    let good = attached(&format!("{SIX}encoding: raw\n"), b"voxels");
    assert!(load_u8(&good).is_ok());
    for cut in 0..good.len() {
        assert!(load_u8(&good[..cut]).is_err(), "cut at {cut}");
    }
}

/// The field and the value that a header of these fields is refused for.
fn refused(fields: &str) -> (&'static str, String) {
    let (_folder, path) = file_of(&attached(&format!("NRRD0005\n{fields}\n"), &[0; 4096]));
    match Nrrd::open(&path) {
        Err(SourceError::Header { field, value, .. }) => (field, value),
        Err(other) => panic!("{fields}: {other}"),
        Ok(nrrd) => panic!("{fields}: {:?}", nrrd.header()),
    }
}

const GOOD: [&str; 5] = ["type: short", "dimension: 3", "sizes: 4 4 4", "encoding: raw", "endian: little"];

/// The same, where `lines` replace the good field of the first one's name, or come in addition.
fn refused_with(lines: &str) -> (&'static str, String) {
    let name = |line: &str| line.split(':').next().map(str::to_owned);
    let kept = GOOD.into_iter().filter(|good| name(good) != name(lines));
    refused(&kept.chain([lines]).collect::<Vec<_>>().join("\n"))
}

#[test]
fn headers_that_cannot_be_are_refused_by_field_and_value() {
    for line in [
        "sizes: 4 4",
        "sizes: 4 4 4 4",
        "sizes: 4 -4 4",
        "sizes: 4 four 4",
        "sizes: 0 4 4",
        "sizes: 4 4 4.0",
        "sizes:",
        "sizes: 99999999999999999999 1 1",
        "sizes: 4294967296 4294967296 4294967296",
        "dimension: 1",
        "dimension: 5",
        "dimension: -3",
        "dimension: three",
        "dimension: 18446744073709551616",
        "type: block",
        "type: char",
        "type: int64",
        "type: complex",
        "type:",
        "encoding: ascii",
        "encoding: hex",
        "encoding: bzip2",
        "encoding: zrl",
        "encoding: lzma",
        "encoding:",
        "endian: middle",
        "line skip: -1",
        "line skip: x",
        "line skip: 1000000",
        "line skip: 18446744073709551615",
        "byte skip: -2",
        "byte skip: 1.5",
        "byte skip: x",
        "spacings: 1 1",
        "spacings: 1 1 one",
        "spacings: 1 1 0",
        "spacings: 1 inf 1",
        "space directions: (1,0,0) (0,1,0)",
        "space directions: (1,0,0) (0,1,0) (0,0)",
        "space directions: (0,0,0) (0,1,0) (0,0,1)",
        "space directions: (1,0,0) (0,1,0) 3",
        "space origin: (0,0",
        "space origin: (0) (0)",
        "space dimension: many",
        "kinds: domain domain",
        "units: \"mm\"",
        "units: mm mm mm",
        "data file: LIST",
        "data file: slice%03d.raw 1 4 1",
        "data file: -",
        "data file:",
    ] {
        let (name, value) = line.split_once(':').unwrap();
        assert_eq!(refused_with(line), (name, value.trim().to_owned()));
    }
}

#[test]
fn fields_that_are_missing_double_or_contradict_each_other_are_refused() {
    for missing in ["type", "dimension", "sizes", "encoding", "endian"] {
        let rest: Vec<_> = GOOD.into_iter().filter(|line| !line.starts_with(missing)).collect();
        assert_eq!(refused(&rest.join("\n")), (missing, String::new()));
    }
    let owned = |field, value: &str| (field, value.to_owned());
    assert_eq!(refused_with("dimension: 2"), owned("sizes", "4 4 4"));
    assert_eq!(refused_with("byte skip: 7\nbyteskip: 7"), owned("byte skip", "7"));
    assert_eq!(refused_with("encoding: gzip\nbyte skip: -1"), owned("byte skip", "-1"));
    assert_eq!(refused_with("space: LPS\nspace origin: (0,0)"), owned("space origin", "(0,0)"));
    let four = "type: uchar\ndimension: 4\nsizes: 2 2 1 2\nencoding: raw";
    assert_eq!(refused(four), owned("sizes", "2 2 1 2"));
}

#[test]
fn a_size_that_can_be_counted_but_is_not_there_is_a_truncation() {
    for (encoding, sizes) in
        [("raw", "9223372036854775807 1 1"), ("raw", "4294967296 4294967295 1"), ("gzip", "4 4 1000")]
    {
        let header = format!("NRRD0001\ntype: uchar\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}\n");
        let error = load_u8(&attached(&header, &gzip(&[0; 9]))).unwrap_err();
        assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    }
    // More than any disk holds is refused before anything is written.
    let header = "NRRD0001\ntype: uchar\ndimension: 3\nsizes: 4294967296 4294967295 1\nencoding: gzip\n";
    let error = load_u8(&attached(header, &gzip(&[0; 9]))).unwrap_err();
    assert!(matches!(error, SourceError::Scratch { .. }), "{error}");
}

#[test]
fn a_header_without_an_end_is_read_no_further_than_a_mebibyte() {
    let endless = [SIX.as_bytes(), b"encoding: raw\n", &b"# on and on\n".repeat(1 << 20)].concat();
    let (_folder, path) = file_of(&endless);
    let error = Nrrd::open(&path).unwrap_err();
    assert!(matches!(error, SourceError::Header { field: "header", .. }), "{error}");
    let (_folder, path) = file_of(&[b"NRRD0001".to_vec(), vec![b'x'; 1 << 20]].concat());
    let Err(SourceError::Header { value, .. }) = Nrrd::open(&path) else { panic!("not refused") };
    assert!(value.len() <= 200, "a message of {} bytes", value.len());
}

#[test]
fn a_detached_header_names_what_it_cannot_open_and_opens_regular_files_only() {
    for name in ["none.raw", ".", "/dev/zero"] {
        let (_folder, path) = file_of(format!("{SIX}encoding: raw\ndata file: {name}\n").as_bytes());
        let error = Nrrd::open(&path).unwrap_err();
        let SourceError::Open { path, .. } = error else { panic!("{error}") };
        assert!(path.as_os_str().as_encoded_bytes().ends_with(name.as_bytes()), "{}", path.display());
    }
}

#[test]
fn the_wrong_type_is_named_and_a_dataset_takes_any() {
    let (_folder, path) = file_of(&attached(&format!("{SIX}encoding: raw\n"), b"voxels"));
    let error = Nrrd::open(&path).unwrap().into_source::<i16>().unwrap_err();
    assert!(matches!(error, SourceError::VoxelType { found: ScalarType::U8, wanted: ScalarType::I16, .. }));
    let dataset = Nrrd::open(&path).unwrap().into_dataset().unwrap();
    assert_eq!(read_whole(&dataset.into_source::<i16>()), b"voxels".map(i16::from));
}

#[test]
fn geometry_comes_from_directions_or_spacings_or_neither() {
    let spacing = |fields: &str| {
        let (_folder, path) = file_of(&attached(&format!("{SIX}encoding: raw\n{fields}\n"), b"voxels"));
        let nrrd = Nrrd::open(&path).unwrap();
        (nrrd.header().spacing(), nrrd.header().units().map(|u| u.map(str::to_owned)))
    };
    let mm = || Some("mm".to_owned());
    assert_eq!(spacing("content: x"), ([1.0; 3], [None, None, None]));
    assert_eq!(
        spacing("spacings: 2 -3 nan\nunits: \"mm\" \"\" \"mm\""),
        ([2.0, 3.0, 1.0], [mm(), None, mm()])
    );
    let directions = "space: LPS\nspace directions: (3,4,0) none (0,0,-2)\nspace units: \"mm\" \"mm\" \"mm\"";
    assert_eq!(spacing(directions), ([5.0, 1.0, 2.0], [mm(), mm(), mm()]));
}

#[test]
fn two_axes_make_a_volume_of_one_plane() {
    let header = "NRRD0001\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\n";
    let (_folder, path) = file_of(&attached(header, b"voxels"));
    assert_eq!(Nrrd::open(&path).unwrap().header().extent(), Extent::new(3, 2, 1));
}

/// A header that is good but for what happens to it below.
fn good_header() -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(fixtures().join("nrrd/detached_i16.nhdr")).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damaged_header_does_more_than_return_an_error(
        damages in proptest::collection::vec(damage(), 1..6),
        attach: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.nhdr");
        let data = fs::read(fixtures().join("nrrd/detached_i16.raw.gz")).unwrap();
        let mut bytes = good_header();
        if attach {
            let header = String::from_utf8(bytes).unwrap().replace("data file: detached_i16.raw.gz\n", "");
            bytes = attached(&header, &data);
        } else {
            fs::write(folder.path().join("detached_i16.raw.gz"), &data).unwrap();
        }
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(nrrd) = Nrrd::open(&path) {
            // What is promised is bounded by the extent that the header states, and what is read by what is there.
            let promised = nrrd.header().extent().checked_volume().unwrap() * nrrd.header().scalar_type().bytes() as u64;
            let mut most = 0;
            if let Ok(dataset) = nrrd.into_dataset_with(|done, _| most = most.max(done)) {
                let source = dataset.into_source::<f32>();
                let corner = Region::whole(Extent::cube(1));
                prop_assert!(source.read(corner, &mut [0.0]).is_ok());
            }
            prop_assert!(most <= promised);
        }
    }
}
