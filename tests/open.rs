//! What is opened is told by its content, whatever it is called; what is in it is listed; what cannot be says why.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::files::{apply, bytes_through_array, damage, fixtures, gzip, read_whole, sha256};
use common::tiffs::Spec;
use proptest::prelude::*;
use tempfile::TempDir;
use vastgrid::open::{EntryKind, EntrySpace, Format, Opened, Selection, open};
use vastgrid::{Extent, Region, ScalarType, SourceError, TileSource};

fn file_of(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Names that say something else than the content does.
const WRONG_NAMES: [&str; 7] = ["v.tif", "v.nrrd", "v.nii", "v.nii.gz", "v.mhd", "v.jpg", "v"];

#[test]
fn content_counts_and_names_do_not() {
    for (fixture, format) in [
        ("nrrd/raw_i16.nrrd", Format::Nrrd),
        ("nrrd/gzip_i16.nrrd", Format::Nrrd),
        ("nifti/i16.nii.gz", Format::Nifti),
        ("tiff/tiled_u16.tif", Format::Tiff),
        ("tiff/ome_u16.ome.tif", Format::Tiff),
    ] {
        let bytes = fs::read(fixtures().join(fixture)).unwrap();
        let right = open(fixtures().join(fixture)).unwrap();
        assert_eq!((right.format(), right.entries().len()), (format, 1), "{fixture}");
        let hash = |opened: &Opened| {
            sha256(&bytes_through_array(opened.dataset(&Selection::default()).unwrap(), [16, 8, 4]))
        };
        for name in WRONG_NAMES {
            let (_folder, path) = file_of(name, &bytes);
            let opened = open(&path).unwrap();
            assert_eq!((opened.format(), opened.entries()), (format, right.entries()), "{fixture} as {name}");
            assert_eq!(hash(&opened), hash(&right), "{fixture} as {name}");
        }
    }
    let image = b"ObjectType = Image\nNDims = 3\nDimSize = 3 2 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nvoxels";
    for name in WRONG_NAMES {
        let (_folder, path) = file_of(name, image);
        assert_eq!(open(&path).unwrap().format(), Format::MetaImage, "{name}");
    }
}

#[test]
fn a_file_without_a_header_is_opened_by_the_one_beside_it_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = |data: &str| {
        format!(
            "ObjectType = Image\nNDims = 3\nDimSize = 3 2 1\nElementType = MET_UCHAR\nElementDataFile = {data}\n"
        )
    };
    let nrrd = |data: &str| {
        format!("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 2 1\nencoding: raw\ndata file: {data}\n")
    };
    fs::write(at("a.raw"), "voxels").unwrap();
    fs::write(at("a.mhd"), image("a.raw")).unwrap();
    fs::write(at("b.bin"), "voxels").unwrap();
    fs::write(at("b.bin.nhdr"), nrrd("./b.bin")).unwrap();
    // A header of that name, but of another file.
    fs::write(at("c.raw"), "voxels").unwrap();
    fs::write(at("c.mhd"), image("a.raw")).unwrap();
    for (name, format) in [("a.raw", Format::MetaImage), ("b.bin", Format::Nrrd)] {
        let opened = open(at(name)).unwrap();
        assert_eq!(opened.format(), format);
        let source = opened.dataset(&Selection::default()).unwrap().into_source::<u8>();
        assert_eq!(read_whole(&source), b"voxels");
    }
    let error = open(at("c.raw")).unwrap_err();
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error}");
    // A header that is broken, or whose data is too short, is told of, and not what it is the header of.
    fs::write(at("d.raw"), "vox").unwrap();
    fs::write(at("d.mhd"), image("d.raw")).unwrap();
    let error = open(at("d.raw")).unwrap_err();
    assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    assert!(error.to_string().contains("d.raw is too short: 6 bytes"), "{error}");
    fs::write(at("e.raw"), "voxels").unwrap();
    fs::write(at("e.nhdr"), nrrd("e.raw").replace("sizes: 3 2 1", "sizes: 3 2")).unwrap();
    let error = open(at("e.raw")).unwrap_err();
    assert!(error.to_string().contains("e.nhdr: field `sizes` is \"3 2\""), "{error}");
    // Unless it is that of another file; or another one is whole.
    fs::write(at("c.mhd"), image("d.raw")).unwrap();
    let error = open(at("c.raw")).unwrap_err();
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error}");
    fs::write(at("e.raw.mhd"), image("e.raw")).unwrap();
    assert_eq!(open(at("e.raw")).unwrap().format(), Format::MetaImage);
    // Of a pair either name will do.
    for name in ["pair_i16.hdr", "pair_i16.img"] {
        let opened = open(fixtures().join("nifti").join(name)).unwrap();
        assert_eq!(
            (opened.format(), opened.entries()[0].scalar_type),
            (Format::Nifti, Some(ScalarType::I16))
        );
    }
}

#[test]
fn what_is_unknown_is_told_by_its_first_bytes() {
    let message = |name: &str, bytes: &[u8]| {
        let (_folder, path) = file_of(name, bytes);
        let error = open(&path).unwrap_err();
        assert!(matches!(error, SourceError::Unrecognised { .. }), "{error}");
        error.to_string()
    };
    let png = message("v.nii", b"\x89PNG\r\n\x1a\n");
    assert!(png.contains(r"\x89PNG\r\n") && png.contains("NIfTI") && png.contains(".mhd"), "{png}");
    assert!(message("v.tif", b"").contains("it is empty"));
    let packed = message("v.nii.gz", &gzip(b"what is this"));
    assert!(packed.contains("decompressed it begins with \"what is this\""), "{packed}");
    // NRRD is not read under gzip as a whole.
    assert!(message("v.nrrd.gz", &gzip(b"NRRD0004\n")).contains("NRRD0004"));
    let folder = tempfile::tempdir().unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("it is empty"));
    fs::write(folder.path().join("slice0.dcm"), "x").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("slice0.dcm"), "{error}");
    let missing = open(folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, SourceError::Open { .. }), "{missing}");
    let device = open("/dev/null").unwrap_err();
    assert!(matches!(device, SourceError::Open { .. }), "{device}");
}

#[test]
fn addresses_of_files_are_paths_and_others_go_to_stores() {
    let path = fixtures().join("nrrd/raw_i16.nrrd");
    let opened = open(format!("file://{}", path.display())).unwrap();
    assert_eq!(opened.format(), Format::Nrrd);
    let error = open("what://is/this").unwrap_err();
    assert!(matches!(error, SourceError::Remote(_)), "{error}");
}

#[test]
fn times_channels_and_images_are_listed_and_chosen() {
    let description =
        "ImageJ=1\nimages=12\nchannels=2\nslices=3\nframes=2\nunit=um\nspacing=2\nmin=1\nmax=9\n";
    let spec = Spec { description: description.into(), bits: 8, ..Spec::new(4, 3, 12) };
    let (_folder, path) = file_of("v", &spec.write(|_, _, page, _| page));
    let opened = open(&path).unwrap();
    let entry = opened.entry(&Selection::default()).unwrap();
    assert_eq!(
        (entry.name.as_str(), entry.extent(), entry.kind),
        ("0", Extent::new(4, 3, 3), EntryKind::Array)
    );
    assert_eq!((entry.times, entry.channel_count, entry.spacing), (2, 2, [1.0, 1.0, 2.0]));
    assert_eq!((entry.units[2].as_deref(), entry.channels[0].window), (Some("um"), Some((1.0, 9.0))));
    let axes: Vec<_> = entry.axes.iter().map(|axis| (axis.name.as_str(), axis.size)).collect();
    assert_eq!(axes, [("t", 2), ("c", 2), ("z", 3), ("y", 3), ("x", 4)]);
    assert_eq!(entry.to_string(), "0: 4 x 3 x 3 of u8, 2 times, 2 channels");
    for (time, channel) in [(0, 0), (1, 0), (1, 1)] {
        let selection = Selection { time, channel, ..Selection::default() };
        let expected = (0..3).flat_map(|z| vec![u8::try_from(channel + 2 * (z + 3 * time)).unwrap(); 12]);
        let expected: Vec<u8> = expected.collect();
        assert_eq!(read_whole(&opened.dataset(&selection).unwrap().into_source::<u8>()), expected);
        let levels = opened.pyramid::<u8>(&selection).unwrap();
        assert_eq!((levels.levels(), levels.spacing()), (1, [1.0, 1.0, 2.0]));
        assert_eq!(read_whole(levels.source(0).unwrap()), expected);
    }
    for selection in [
        Selection { time: 2, ..Selection::default() },
        Selection { channel: u64::MAX, ..Selection::default() },
        Selection { level: 1, ..Selection::default() },
    ] {
        let error = opened.dataset(&selection).unwrap_err();
        assert!(matches!(error, SourceError::NoSuch { .. }), "{error}");
        assert!(opened.pyramid::<u8>(&selection).is_err());
    }
    let error = opened.dataset(&Selection { entry: Some("1".into()), ..Selection::default() }).unwrap_err();
    assert!(error.to_string().contains(r#"no volume "1"; there are ["0"]"#), "{error}");
}

#[test]
fn zarr_folders_list_images_by_their_levels_and_other_arrays() {
    let opened = open(fixtures().join("ome_zarr/brain_v0.5.ome.zarr")).unwrap();
    assert_eq!((opened.format(), opened.entries().len()), (Format::Zarr, 1));
    let entry = &opened.entries()[0];
    assert_eq!((entry.name.as_str(), entry.kind), ("/", EntryKind::MultiResolution));
    assert_eq!((entry.levels.len(), entry.extent()), (3, Extent::new(128, 128, 84)));
    assert_eq!((entry.spacing, entry.units[0].as_deref()), ([1.0, 1.0, 1.5], Some("millimeter")));
    let levels = opened.pyramid::<u8>(&Selection::default()).unwrap();
    assert_eq!((levels.levels(), levels.spacing()), (3, [1.0, 1.0, 1.5]));
    for level in 0..3 {
        let selection = Selection { level, ..Selection::default() };
        assert_eq!(opened.dataset(&selection).unwrap().extent(), entry.levels[level]);
    }
    let array = open(fixtures().join("zarr_v3/raw_i16.zarr")).unwrap();
    let entry = &array.entries()[0];
    assert_eq!(
        (entry.kind, entry.extent(), entry.scalar_type),
        (EntryKind::Array, Extent::new(29, 37, 45), Some(ScalarType::I16))
    );
    let group = open(fixtures().join("zarr_v2/group_consolidated.zarr")).unwrap();
    assert_eq!(group.entries()[0].name, "sub/i16");
    let chosen = Selection { entry: Some("sub/i16".into()), ..Selection::default() };
    assert_eq!(group.dataset(&chosen).unwrap().extent(), group.entries()[0].extent());
}

#[test]
fn spaces_are_told_where_the_format_has_them() {
    let nrrd = open(fixtures().join("nrrd/raw_i16.nrrd")).unwrap();
    let entry = &nrrd.entries()[0];
    assert_eq!(entry.origin, [-90.0, -126.0, -72.0]);
    assert_eq!(entry.to_space.unwrap()[2], [0.0, 0.0, 1.5, -72.0]);
    let nifti = open(fixtures().join("nifti/u8.nii.gz")).unwrap();
    let entry = &nifti.entries()[0];
    assert_eq!((entry.origin, entry.units[0].as_deref()), ([90.0, -126.0, -72.0], Some("mm")));
    let header = b"ObjectType = Image\nNDims = 3\nElementSpacing = 2 3 4\nOffset = 5 6 7\nTransformMatrix = 0 1 0 1 0 0 0 0 1\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nv";
    let (_folder, path) = file_of("v", header);
    let space = open(&path).unwrap().entries()[0].to_space.unwrap();
    assert_eq!(space, [[0.0, 3.0, 0.0, 5.0], [2.0, 0.0, 0.0, 6.0], [0.0, 0.0, 4.0, 7.0]]);
    // Which space each format speaks of, and what spacing and origin alone would make of it.
    let (nrrd, nifti, image) = (nrrd.entries()[0].clone(), entry, open(&path).unwrap().entries()[0].clone());
    assert_eq!(nrrd.space, Some(EntrySpace::LeftPosteriorSuperior));
    assert_eq!(nifti.space, Some(EntrySpace::RightAnteriorSuperior));
    assert_eq!(image.space, Some(EntrySpace::LeftPosteriorSuperior));
    assert_eq!((nrrd.is_turned(), nifti.is_turned(), image.is_turned()), (false, true, true));
    assert_eq!(nrrd.scale_and_translation(), (nrrd.spacing, nrrd.origin));
    assert_eq!(nifti.scale_and_translation(), (nifti.spacing, [0.0; 3]));
    assert_eq!(image.position([1.0, 2.0, 3.0]), [5.0 + 2.0 * 3.0, 6.0 + 2.0, 7.0 + 3.0 * 4.0]);
}

#[test]
fn a_transform_with_a_number_that_is_none_is_not_told() {
    let mut bytes = fs::read(fixtures().join("nifti/pair_i16.hdr")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.hdr");
    fs::copy(fixtures().join("nifti/pair_i16.img"), folder.path().join("v.img")).unwrap();
    bytes[280..284].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let entry = open(&path).unwrap().entries()[0].clone();
    assert_eq!((entry.to_space, entry.space.as_ref(), entry.origin), (None, None, [0.0; 3]));
    let header = b"ObjectType = Image\nNDims = 3\nOffset = 5 nan 7\nTransformMatrix = 0 1 0 1 0 inf 0 0 1\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nv";
    let (_folder, path) = file_of("v", header);
    let entry = open(&path).unwrap().entries()[0].clone();
    assert_eq!((entry.to_space, entry.space.as_ref(), entry.origin), (None, None, [0.0; 3]));
}

#[test]
fn times_have_a_distance_and_a_unit_where_the_format_says() {
    let description = r#"<OME><Image><Pixels DimensionOrder="XYZCT" SizeX="4" SizeY="3" SizeZ="1" SizeC="1" SizeT="2" TimeIncrement="1.5" TimeIncrementUnit="min" PhysicalSizeX="2" PhysicalSizeXUnit="nm"/></Image></OME>"#;
    let spec = Spec { description: description.into(), bits: 8, ..Spec::new(4, 3, 2) };
    let (_folder, path) = file_of("v", &spec.write(|_, _, page, _| page));
    let entry = open(&path).unwrap().entries()[0].clone();
    assert_eq!((entry.time_step, entry.time_unit.as_deref()), (Some(1.5), Some("min")));
    assert_eq!((entry.axes[0].name.as_str(), entry.axes[0].unit.as_deref()), ("t", Some("min")));
    assert_eq!(entry.units, [Some("nm".to_owned()), None, None]);
    let header = |step: &str| {
        let text = format!(
            "ObjectType = Image\nNDims = 4\nElementSpacing = 1 1 1 {step}\nDistanceUnits = um\nDimSize = 1 1 1 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nvw"
        );
        let (_folder, path) = file_of("v", text.as_bytes());
        open(&path).unwrap().entries()[0].clone()
    };
    assert_eq!((header("2.5").time_step, header("0").time_step), (Some(2.5), None));
    assert_eq!((header("2.5").time_unit, header("0").units[0].as_deref()), (None, Some("um")));
}

fn starts() -> Vec<Vec<u8>> {
    let fixture = |name: &str| fs::read(fixtures().join(name)).unwrap();
    let mut all: Vec<_> = [
        "nrrd/raw_i16.nrrd",
        "nrrd/gzip_i16.nrrd",
        "nifti/scaled_i16.nii.gz",
        "nifti/pair_i16.hdr",
        "tiff/deflate_u16.tif",
    ]
    .map(fixture)
    .into();
    all.push(b"ObjectType = Image\nNDims = 3\nDimSize = 3 2 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nvoxels".to_vec());
    all.push(gzip(&fixture("nifti/pair_i16.hdr")));
    all
}

fn use_it(path: &Path) {
    let Ok(opened) = open(path) else { return };
    for entry in opened.entries().iter().take(4) {
        let selection = Selection { entry: Some(entry.name.clone()), ..Selection::default() };
        let Ok(dataset) = opened.dataset(&selection) else { continue };
        let source = dataset.into_source::<f32>();
        let region = Region::whole(Extent::cube(4)).clipped_to(source.extent());
        let _ = source
            .read(region, &mut vec![0.0; usize::try_from(region.extent.checked_volume().unwrap()).unwrap()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_does_more_than_return_an_error(
        start in proptest::sample::select(starts()),
        damages in proptest::collection::vec(damage(), 0..6),
        name in proptest::sample::select(WRONG_NAMES.to_vec()),
    ) {
        let mut bytes = start;
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        let (_folder, path) = file_of(name, &bytes);
        use_it(&path);
    }
}
