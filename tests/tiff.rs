//! TIFF files written by hand here and by the crate `tiff`: any region is that part of the whole, pages become z, channels and times as their file says, and no damage does more than return an error.
#![allow(clippy::cast_possible_truncation, reason = "files of a few thousand voxels, made here")]

mod common;

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use common::files::{apply, damage, read, read_whole, region_in};
use common::tiffs::Spec;
use proptest::prelude::*;
use tempfile::TempDir;
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};
use tiff::tags::{Predictor, Tag};
use vastgrid::source::{Dataset, Endian, Tiff};
use vastgrid::{Coord, Extent, Region, Scalar, ScalarType, SourceError, TileSource};

fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.dat");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn open(bytes: &[u8]) -> Result<Tiff, SourceError> {
    let (_folder, path) = file_of(bytes);
    Tiff::open(&path)
}

/// A sample that tells where it is.
fn value(x: u64, y: u64, page: u64, sample: u64) -> u16 {
    (x * 3 + y * 211 + page * 5_003 + sample * 20_011 + 7) as u16
}

fn write(spec: &Spec) -> Vec<u8> {
    spec.write(|x, y, page, sample| value(x, y, page, sample).into())
}

/// Planes of a volume are pages, by this rule.
fn expected(spec: &Spec, region: Region, sample: u64, page_of: impl Fn(u64) -> u64) -> Vec<u16> {
    let [width, height] = spec.tile.unwrap_or([spec.width, spec.rows]);
    common::expected_by(region, |c| {
        let page = page_of(c.z);
        let missing =
            spec.missing.is_some_and(|every| (c.x / width + c.y / height + page).is_multiple_of(every));
        if missing { 0 } else { value(c.x, c.y, page, sample) }
    })
}

fn u16s(dataset: Dataset) -> Box<dyn TileSource<u16>> {
    match dataset {
        Dataset::U16(source) => source,
        other => panic!("{other:?}"),
    }
}

fn specs() -> impl Strategy<Value = (Spec, Region)> {
    let size = (1..40u64, 1..30u64, 1..6u64);
    let chunks = (proptest::option::of((1..20u64, 1..20u64)), 1..32u64, 0..3usize);
    let samples = (1..4u64, any::<bool>());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(2..5u64));
    (size, chunks, samples, flags)
        .prop_map(
            |(
                (width, height, pages),
                (tile, rows, gap),
                (samples, planar),
                (big_endian, big, deflate, missing),
            )| Spec {
                endian: if big_endian { Endian::Big } else { Endian::Little },
                big,
                samples,
                planar: planar && samples > 1,
                tile: tile.map(|(x, y)| [x, y]),
                rows,
                deflate,
                missing,
                gap,
                ..Spec::new(width, height, pages)
            },
        )
        .prop_flat_map(|spec| {
            let extent = Extent::new(spec.width, spec.height, spec.pages);
            (Just(spec), region_in(extent))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_region_of_any_sample_is_that_part_of_the_whole((spec, region) in specs()) {
        let tiff = open(&write(&spec)).unwrap();
        let [image] = tiff.images() else { panic!("{:?}", tiff.images()) };
        prop_assert_eq!(image.extent(), Extent::new(spec.width, spec.height, spec.pages));
        prop_assert_eq!((image.times(), image.channels()), (1, spec.samples));
        for sample in 0..spec.samples {
            let source = u16s(tiff.dataset(0, 0, sample).unwrap());
            prop_assert_eq!(read(&source, region), expected(&spec, region, sample, |z| z));
            prop_assert_eq!(read_whole(&source), expected(&spec, Region::whole(image.extent()), sample, |z| z));
        }
        for (image, time, channel) in [(1, 0, 0), (0, 1, 0), (0, 0, spec.samples), (usize::MAX, u64::MAX, u64::MAX)] {
            let error = tiff.dataset(image, time, channel).unwrap_err();
            prop_assert!(matches!(error, SourceError::NoSuch { .. }), "{}", error);
        }
    }
}

#[test]
fn every_type_is_read_and_others_are_named() {
    fn check<T: Scalar>(format: u64, values: [f64; 2]) {
        for (endian, deflate) in
            [(Endian::Little, false), (Endian::Big, false), (Endian::Little, true), (Endian::Big, true)]
        {
            let bits = 8 * size_of::<T>() as u64;
            let voxels = values.map(T::from_f64);
            let spec = Spec { endian, deflate, bits, format, ..Spec::new(2, 1, 1) };
            let bytes = spec.write(|x, _, _, _| {
                let mut bytes = [0; 8];
                bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&voxels[x as usize]));
                u64::from_le_bytes(bytes)
            });
            let dataset = open(&bytes).unwrap().dataset(0, 0, 0).unwrap();
            assert_eq!(dataset.scalar_type(), T::TYPE);
            assert_eq!(read_whole(&dataset.into_source::<T>()), voxels);
        }
    }
    check::<u8>(1, [1.0, 255.0]);
    check::<u8>(4, [1.0, 255.0]);
    check::<i8>(2, [-2.0, 127.0]);
    check::<u16>(1, [1.0, 65_535.0]);
    check::<i16>(2, [-2.0, 258.0]);
    check::<u32>(1, [1.0, 4_294_967_295.0]);
    check::<i32>(2, [-2.0, 16_909_060.0]);
    check::<half::f16>(3, [-2.5, 0.125]);
    check::<f32>(3, [-2.5, 1e30]);
    check::<f64>(3, [-2.5, 1e300]);
    let named = |spec: Spec| {
        let tiff = open(&spec.write(|_, _, _, _| 0)).unwrap();
        assert_eq!(tiff.images()[0].scalar_type().is_none(), spec.bits != 16 || spec.format > 4);
        match tiff.dataset(0, 0, 0) {
            Err(SourceError::Unsupported { what, value, .. }) => format!("{what} {value}"),
            other => panic!("{other:?}"),
        }
    };
    let base = Spec::new(8, 2, 1);
    assert_eq!(named(Spec { bits: 64, ..base.clone() }), "samples of 64 bits, whole numbers without sign");
    assert_eq!(named(Spec { bits: 64, format: 6, ..base.clone() }), "samples of 64 bits, complex numbers");
    assert_eq!(
        named(Spec { more: vec![(258, 3, vec![12])], bits: 8, ..base.clone() }),
        "samples of 12 bits, whole numbers without sign"
    );
    let with = |tag, value| Spec { more: vec![(tag, 3, vec![value])], ..base.clone() };
    assert_eq!(named(with(259, 34_887)), "the compression LERC");
    assert_eq!(named(with(259, 34_712)), "the compression JPEG 2000");
    assert_eq!(named(with(259, 4)), "the compression CCITT fax");
    assert_eq!(named(with(259, 777)), "the compression number 777");
    assert_eq!(named(with(259, 7)), "the compression JPEG of other than one sample of 8 bits a pixel");
    assert_eq!(named(Spec { deflate: true, ..with(317, 9) }), "the predictor 9");
    assert_eq!(named(Spec { deflate: true, ..with(317, 3) }), "the predictor 3");
    assert_eq!(named(Spec { samples: 3, ..with(262, 6) }), "the colours YCbCr");
}

/// A stack that the crate's own encoder writes.
fn by_encoder(compression: Compression, predictor: Predictor, voxels: &[u16], extent: [u32; 3]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder =
        TiffEncoder::new(&mut bytes).unwrap().with_compression(compression).with_predictor(predictor);
    for page in voxels.chunks((extent[0] * extent[1]) as usize) {
        let mut image = encoder.new_image::<colortype::Gray16>(extent[0], extent[1]).unwrap();
        image.rows_per_strip(7).unwrap();
        image.write_data(page).unwrap();
    }
    bytes.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_crates_encoder_writes_is_read_back(
        (x, y, z) in (1..40u32, 1..40u32, 1..4u32),
        seed: u64,
        noise in 1..0xffffu64,
    ) {
        let mut random = common::Random::new(seed);
        let voxels: Vec<u16> = (0..x * y * z).map(|_| random.below(noise) as u16).collect();
        for (name, compression) in [
            ("none", Compression::Uncompressed),
            ("LZW", Compression::Lzw),
            ("PackBits", Compression::Packbits),
            ("deflate", Compression::Deflate(DeflateLevel::Balanced)),
        ] {
            for predictor in [Predictor::None, Predictor::Horizontal] {
                // Without compression some readers apply a predictor, and some do not.
                if name == "none" && predictor == Predictor::Horizontal {
                    continue;
                }
                let tiff = open(&by_encoder(compression, predictor, &voxels, [x, y, z])).unwrap();
                let source = u16s(tiff.dataset(0, 0, 0).unwrap());
                prop_assert_eq!(source.extent(), Extent::new(x.into(), y.into(), z.into()));
                prop_assert!(read_whole(&source) == voxels, "{} {:?}", name, predictor);
            }
        }
    }
}

/// One page of 16 x 8 whose one strip is `strip`.
fn one_strip(compression: u64, bits: u64, more: Vec<(u16, u16, Vec<u64>)>, strip: &[u8]) -> Vec<u8> {
    let mut spec = Spec { bits, ..Spec::new(16, 8, 1) };
    // The writer's own strip comes first, right after the head.
    spec.more = vec![(259, 3, vec![compression]), (279, 4, vec![strip.len() as u64])];
    spec.more.extend(more);
    let probe = spec.write(|_, _, _, _| 0);
    spec.more.push((273, 4, vec![probe.len() as u64]));
    let mut bytes = spec.write(|_, _, _, _| 0);
    assert_eq!(bytes.len(), probe.len());
    bytes.extend_from_slice(strip);
    bytes
}

#[test]
fn jpeg_strips_are_decoded_and_those_of_another_size_refused() {
    let grey: Vec<u8> = (0..16 * 8).map(|i| 40 + (i % 16) * 8 + i / 16).collect();
    let jpeg = |width: u16, height: u16, colour| {
        let mut bytes = Vec::new();
        let pixels = vec![100; usize::from(width) * usize::from(height) * 3];
        let pixels =
            if (width, height, colour) == (16, 8, jpeg_encoder::ColorType::Luma) { &grey } else { &pixels };
        jpeg_encoder::Encoder::new(&mut bytes, 95).encode(pixels, width, height, colour).unwrap();
        bytes
    };
    let load = |strip: &[u8]| open(&one_strip(7, 8, vec![], strip))?.dataset(0, 0, 0);
    let good = jpeg(16, 8, jpeg_encoder::ColorType::Luma);
    let voxels = read_whole(&load(&good).unwrap().into_source::<u8>());
    for (ours, theirs) in voxels.iter().zip(&grey) {
        assert!(ours.abs_diff(*theirs) <= 4, "{voxels:?}");
    }
    let tall = jpeg(16, 16, jpeg_encoder::ColorType::Luma);
    let rgb = jpeg(16, 8, jpeg_encoder::ColorType::Rgb);
    let mut huge = good.clone();
    let at = huge.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    huge[at + 5..at + 9].fill(0xff);
    for bad in [&tall[..], &rgb, &huge, &good[..40], b"", b"no JPEG at all"] {
        let source = load(bad).unwrap().into_source::<u8>();
        let result = source.read(Region::whole(source.extent()), &mut [0; 128]);
        // A strip of no bytes is one that is missing.
        assert!(bad.is_empty() == result.is_ok(), "{result:?}");
    }
}

#[test]
fn zstd_strips_are_decoded() {
    let voxels: Vec<u16> = (0..128).map(|i| i * i).collect();
    let bytes: Vec<u8> = voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
    // A frame of one raw block: magic, single segment of 256 bytes, last block's size in the upper 21 bits.
    let frame =
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x60, 0, 0][..], &(256u32 << 3 | 1).to_le_bytes()[..3], &bytes].concat();
    let dataset = open(&one_strip(50_000, 16, vec![], &frame)).unwrap().dataset(0, 0, 0).unwrap();
    assert_eq!(read_whole(&u16s(dataset)), voxels);
}

#[test]
fn floating_point_predictors_are_undone_in_tiles_that_stand_over() {
    // 5 x 3 in a tile of 16 x 16: bytes of each row by significance, then differences.
    let values = |x: usize, y: usize| if x < 5 && y < 3 { x as f32 * 0.1 - y as f32 } else { 9.0 };
    let mut tile = Vec::new();
    for y in 0..16 {
        let row: Vec<[u8; 4]> = (0..16).map(|x| values(x, y).to_be_bytes()).collect();
        let planes: Vec<u8> =
            (0..4).flat_map(|b| row.iter().map(move |v| v[b]).collect::<Vec<_>>()).collect();
        let differences =
            planes.iter().enumerate().map(|(i, b)| b.wrapping_sub(if i > 0 { planes[i - 1] } else { 0 }));
        tile.extend(differences);
    }
    // Not compressed is what `deflate` stores here; the predictor only goes with compression.
    let spec = Spec { bits: 8, tile: Some([64, 16]), deflate: true, ..Spec::new(64, 16, 1) };
    let mut spec = Spec { more: vec![(317, 3, vec![3])], ..spec };
    spec.more.extend([
        (256, 4, vec![5]),
        (257, 4, vec![3]),
        (258, 3, vec![32]),
        (339, 3, vec![3]),
        (322, 4, vec![16]),
        (323, 4, vec![16]),
    ]);
    let bytes = spec.write(|x, y, _, _| tile[(y * 64 + x) as usize].into());
    let source = open(&bytes).unwrap().dataset(0, 0, 0).unwrap().into_source::<f32>();
    let expected: Vec<f32> = (0..15).map(|i| values(i % 5, i / 5)).collect();
    assert_eq!(read_whole(&source), expected);
}

// ---- pages as channels and times ------------------------------------------------------------------------------------------------------------------

#[test]
fn hyperstacks_of_imagej_are_told_apart() {
    let description = "ImageJ=1.53t\nimages=24\nchannels=2\nslices=4\nframes=3\nhyperstack=true\nmode=grayscale\nunit=\\u00B5m\nspacing=2.5\nmin=0.0\nmax=255.0\n";
    let spec = Spec {
        description: description.into(),
        more: vec![(282, 5, vec![2_000_000, 1_000_000]), (283, 5, vec![4, 1]), (296, 3, vec![1])],
        ..Spec::new(7, 5, 24)
    };
    let tiff = open(&write(&spec)).unwrap();
    let image = &tiff.images()[0];
    assert_eq!((image.extent(), image.channels(), image.times()), (Extent::new(7, 5, 4), 2, 3));
    assert_eq!(
        (image.spacing(), image.unit(), image.window()),
        ([0.5, 0.25, 2.5], Some("um"), Some((0.0, 255.0)))
    );
    for (time, channel) in [(0, 0), (0, 1), (2, 0), (2, 1), (1, 1)] {
        let source = u16s(tiff.dataset(0, time, channel).unwrap());
        let whole = Region::whole(image.extent());
        assert_eq!(
            read_whole(&source),
            expected(&spec, whole, 0, |z| channel + 2 * (z + 4 * time)),
            "t {time} c {channel}"
        );
    }
    // A description that does not fit the pages is none.
    let other = Spec { pages: 23, ..spec };
    assert_eq!(open(&write(&other)).unwrap().images()[0].extent(), Extent::new(7, 5, 23));
}

#[test]
fn large_stacks_of_imagej_have_one_directory_and_all_samples_behind_it() {
    for (endian, samples) in [(Endian::Big, 1), (Endian::Little, 1), (Endian::Big, 3)] {
        let description = "ImageJ=1.53t\nimages=6\nslices=3\nframes=2\n".to_owned();
        let spec = Spec { endian, samples, description, rows: 2, ..Spec::new(7, 5, 1) };
        // The strips of the one page come right after the head: the directory is behind them, and the other pages behind that.
        let mut bytes = write(&spec);
        let page_bytes = 7 * 5 * 2 * samples as usize;
        let at = bytes.len() as u64;
        for page in 0..6 {
            let other = Spec { description: String::new(), ..spec.clone() };
            let all = other.write(|x, y, _, sample| value(x, y, page, sample).into());
            bytes.extend_from_slice(&all[8..8 + page_bytes]);
        }
        let moved = (0..3).map(|strip| at + strip * 2 * 7 * 2 * samples).collect();
        let mut whole =
            Spec { more: vec![(273, 4, moved)], ..spec.clone() }.write(|x, y, _, s| value(x, y, 0, s).into());
        whole.extend_from_slice(&bytes[whole.len()..]);
        let tiff = open(&whole).unwrap();
        let image = &tiff.images()[0];
        assert_eq!((image.extent(), image.times(), image.channels()), (Extent::new(7, 5, 3), 2, samples));
        for time in 0..2 {
            let source = u16s(tiff.dataset(0, time, samples - 1).unwrap());
            let region = Region::new(Coord::new(1, 1, 1), Extent::new(5, 4, 2));
            assert_eq!(read(&source, region), expected(&spec, region, samples - 1, |z| z + 3 * time));
        }
        let error = open(&whole[..whole.len() - 1]).unwrap_err();
        assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    }
    let lie = Spec { description: "ImageJ=1\nimages=99999999999\n".into(), ..Spec::new(1, 1, 1) };
    let error = open(&write(&lie)).unwrap_err();
    assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
}

#[test]
fn planes_of_ome_go_as_its_xml_says() {
    let description = r#"<?xml version="1.0"?><OME><Image><Pixels DimensionOrder="XYCTZ" SizeX="7" SizeY="5" SizeZ="2" SizeC="3" SizeT="2" PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="2" TimeIncrement="1.5"><Channel Name="red"/><Channel Name="green" Color="16711935"/><Channel/><TiffData/></Pixels></Image></OME>"#;
    let spec = Spec { description: description.into(), ..Spec::new(7, 5, 12) };
    let tiff = open(&write(&spec)).unwrap();
    let image = &tiff.images()[0];
    assert_eq!((image.extent(), image.channels(), image.times()), (Extent::new(7, 5, 2), 3, 2));
    assert_eq!((image.spacing(), image.unit(), image.time_step()), ([0.5, 0.5, 2.0], Some("um"), Some(1.5)));
    assert_eq!(image.channel(0).unwrap().name.as_deref(), Some("red"));
    assert_eq!(image.channel(1).unwrap().colour, Some([0, 255, 0]));
    assert!(image.channel(3).is_none());
    for (time, channel) in [(0, 0), (1, 2), (0, 1)] {
        let source = u16s(tiff.dataset(0, time, channel).unwrap());
        let whole = Region::whole(image.extent());
        assert_eq!(read_whole(&source), expected(&spec, whole, 0, |z| channel + 3 * (time + 2 * z)));
    }
    // Samples of a pixel are channels too.
    let rgb = description.replace("SizeT=\"2\"", "SizeT=\"4\"");
    let spec = Spec { description: rgb, samples: 3, ..Spec::new(7, 5, 8) };
    let tiff = open(&write(&spec)).unwrap();
    assert_eq!((tiff.images()[0].channels(), tiff.images()[0].times()), (3, 4));
    let source = u16s(tiff.dataset(0, 3, 2).unwrap());
    assert_eq!(read_whole(&source), expected(&spec, Region::whole(source.extent()), 2, |z| 3 + 4 * z));
}

#[test]
fn what_ome_says_that_pages_cannot_be_is_refused_and_read_as_pages_where_asked() {
    let description = r#"<OME UUID="urn:uuid:1b85"><Image><Pixels DimensionOrder="XYCTZ" SizeX="7" SizeY="5" SizeZ="2" SizeC="3" SizeT="2"><TiffData/></Pixels></Image></OME>"#;
    for (wrong, reason) in [
        (description.replace("SizeX=\"7\"", "SizeX=\"8\""), "planes are 8 x 5, and pages 7 x 5"),
        (description.replace("SizeZ=\"2\"", "SizeZ=\"3\""), "3 z, 3 c and 2 t in 12 pages"),
        (description.replace("<TiffData/>", "<TiffData IFD=\"5\"/>"), "the plane z 1, c 0, t 0 has no page"),
        (description.replace("<TiffData/>", "<TiffData IFD=\"12\"/>"), "beyond the 12 pages"),
        (
            description.replace(
                "<TiffData/>",
                "<TiffData><UUID FileName=\"other.tif\">urn:uuid:2</UUID></TiffData>",
            ),
            "planes are in other.tif",
        ),
        (r#"<OME><BinaryOnly MetadataFile="a.companion.ome"/></OME>"#.into(), "said in a.companion.ome"),
    ] {
        let (_folder, path) = file_of(&write(&Spec { description: wrong, ..Spec::new(7, 5, 12) }));
        let error = Tiff::open(&path).unwrap_err();
        assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(reason) && message.contains("v.dat: OME-XML"), "{message}");
        assert_eq!(Tiff::open_pages(&path).unwrap().images()[0].extent(), Extent::new(7, 5, 12));
    }
}

#[test]
fn a_file_that_names_itself_as_that_of_every_plane_is_read_as_it_says() {
    // As Bio-Formats writes them.
    let planes: Vec<String> = (0..12u64)
        .map(|page| {
            let (c, t, z) = (page % 3, page / 3 % 2, page / 6);
            format!(r#"<TiffData FirstC="{c}" FirstT="{t}" FirstZ="{z}" IFD="{page}" PlaneCount="1"><UUID FileName="NAME">urn:uuid:1b85</UUID></TiffData>"#)
        })
        .collect();
    let planes = planes.concat();
    let description = format!(
        r#"<OME UUID="ROOT"><Image><Pixels DimensionOrder="XYCTZ" SizeX="7" SizeY="5" SizeZ="2" SizeC="3" SizeT="2" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="500" PhysicalSizeYUnit="nm">{planes}</Pixels></Image></OME>"#
    );
    for (name, root) in [("v.dat", "urn:uuid:0"), ("its name before.tif", "urn:uuid:1b85")] {
        let description = description.replace("NAME", name).replace("ROOT", root);
        let spec = Spec { description, ..Spec::new(7, 5, 12) };
        let tiff = open(&write(&spec)).unwrap();
        let image = &tiff.images()[0];
        assert_eq!((image.extent(), image.channels(), image.times()), (Extent::new(7, 5, 2), 3, 2), "{name}");
        // The distance of planes is nowhere.
        assert_eq!((image.spacing(), image.unit()), ([0.5, 0.5, 1.0], Some("um")));
        assert_eq!(image.units(), [Some("um"), Some("um"), None]);
        let source = u16s(tiff.dataset(0, 1, 2).unwrap());
        let whole = Region::whole(image.extent());
        assert_eq!(read_whole(&source), expected(&spec, whole, 0, |z| 2 + 3 * (1 + 2 * z)));
    }
}

#[test]
fn pages_that_differ_are_images_of_their_own() {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
    for (width, height, reduced) in [(8, 6, 0u32), (8, 6, 0), (4, 3, 1), (8, 6, 0), (4, 3, 1)] {
        let mut image = encoder.new_image::<colortype::Gray8>(width, height).unwrap();
        image.encoder().write_tag(Tag::NewSubfileType, reduced).unwrap();
        image.write_data(&vec![width as u8; (width * height) as usize]).unwrap();
    }
    let tiff = open(&bytes.into_inner()).unwrap();
    let found: Vec<_> = tiff.images().iter().map(|i| (i.extent(), i.is_reduced())).collect();
    assert_eq!(found, [(Extent::new(8, 6, 3), false), (Extent::new(4, 3, 2), true)]);
    assert_eq!(read_whole(&tiff.dataset(1, 0, 0).unwrap().into_source::<u8>()), [4; 24]);
}

// ---- what cannot be --------------------------------------------------------------------------------------------------------------------------------

fn refused(more: Vec<(u16, u16, Vec<u64>)>) -> (&'static str, String) {
    let bytes = write(&Spec { more, ..Spec::new(8, 4, 1) });
    match open(&bytes).and_then(|tiff| {
        let source = tiff.dataset(0, 0, 0)?.into_source::<u16>();
        source.read(Region::whole(Extent::cube(1)), &mut [0])
    }) {
        Err(SourceError::Header { field, value, .. }) => (field, value),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tags_that_cannot_be_are_refused_by_name_and_value() {
    let owned = |field, value: &str| (field, value.to_owned());
    assert_eq!(refused(vec![(256, 4, vec![0])]), owned("ImageWidth", "0"));
    assert_eq!(refused(vec![(257, 5, vec![4, 1])]), owned("ImageLength", "type 5"));
    assert_eq!(refused(vec![(277, 3, vec![0])]), owned("SamplesPerPixel", "0"));
    assert_eq!(refused(vec![(278, 4, vec![1])]), owned("StripOffsets", "1 values"));
    assert_eq!(refused(vec![(273, 4, vec![8; 3])]), owned("StripOffsets", "3 values"));
    assert_eq!(
        refused(vec![(324, 4, vec![8]), (322, 4, vec![16]), (323, 4, vec![0])]),
        owned("TileLength", "0")
    );
    assert_eq!(refused(vec![(324, 4, vec![8]), (322, 4, vec![16])]), owned("TileLength", "0"));
}

#[test]
fn chains_in_circles_and_counts_beyond_the_file_are_refused() {
    for (big, endian) in [(false, Endian::Little), (true, Endian::Big)] {
        let spec = Spec { endian, big, ..Spec::new(4, 4, 3) };
        let good = write(&spec);
        let link = good.len() - if big { 8 } else { 4 };
        let first = &good[if big { 8..16 } else { 4..8 }];
        let mut circle = good.clone();
        circle[link..].copy_from_slice(first);
        let error = open(&circle).unwrap_err();
        assert!(matches!(error, SourceError::Header { field: "directory", .. }), "{error}");
        let mut beyond = good.clone();
        beyond[link..].fill(0x7f);
        let error = open(&beyond).unwrap_err();
        assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    }
    // More entries than there are tags.
    let mut bytes = b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec();
    bytes.extend(u64::MAX.to_le_bytes());
    let error = open(&bytes).unwrap_err();
    assert!(matches!(error, SourceError::Header { field: "directory", .. }), "{error}");
    for not_one in [&b""[..], b"II", b"II*", b"MM*\0\0\0\0\x08", b"PK\x03\x04", b"II*\0\0\0\0\0"] {
        let error = open(not_one).unwrap_err();
        assert!(matches!(error, SourceError::Header { .. } | SourceError::Truncated { .. }), "{error}");
    }
    // A tile that would take 64 GiB, in a file of a few hundred bytes.
    let spec = Spec { deflate: true, tile: Some([16, 16]), ..Spec::new(16, 16, 1) };
    let huge = Spec { more: vec![(322, 4, vec![1 << 18]), (323, 4, vec![1 << 17])], ..spec.clone() };
    let error = open(&write(&huge)).unwrap().dataset(0, 0, 0).unwrap_err();
    assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
    let large = Spec { more: vec![(322, 4, vec![1 << 14]), (323, 4, vec![1 << 14])], ..spec };
    let error = open(&write(&large)).unwrap().dataset(0, 0, 0).unwrap_err();
    assert!(matches!(error, SourceError::Header { field: "strip or tile", .. }), "{error}");
}

/// Opens and reads all that there is, up to some thousand voxels; returns how many.
fn read_all(bytes: &[u8]) -> u64 {
    let Ok(tiff) = open(bytes) else { return 0 };
    let mut voxels = 0;
    for (index, image) in tiff.images().iter().enumerate().take(8) {
        for channel in 0..image.channels().min(3) {
            let Ok(dataset) = tiff.dataset(index, image.times() - 1, channel) else { continue };
            let source = dataset.into_source::<f64>();
            let region = Region::whole(Extent::new(40, 40, 4)).clipped_to(source.extent());
            let count = region.extent.checked_volume().unwrap();
            if source.read(region, &mut vec![0.0; count as usize]).is_ok() {
                voxels += count;
            }
        }
    }
    voxels
}

#[test]
fn truncation_is_an_error_at_every_byte() {
    for (deflate, big) in [(false, false), (true, true)] {
        let spec = Spec { deflate, big, rows: 2, samples: 2, ..Spec::new(5, 3, 2) };
        let good = write(&spec);
        assert_eq!(read_all(&good), 2 * 30);
        for cut in 0..good.len() {
            assert_eq!(read_all(&good[..cut]), 0, "cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_does_more_than_return_an_error(
        damages in proptest::collection::vec(damage(), 1..6),
        (spec, _) in specs(),
        imagej: bool,
    ) {
        let description = if imagej {
            format!("ImageJ=1\nimages={0}\nslices={0}\nunit=\\u00B5m\n", spec.pages)
        } else {
            format!(r#"<OME><Image><Pixels DimensionOrder="XYCTZ" SizeX="{}" SizeY="{}" SizeZ="{}" SizeC="{}" SizeT="1"><Channel Name="&lt;"/><TiffData IFD="0" PlaneCount="{}"/></Pixels></Image></OME>"#, spec.width, spec.height, spec.pages, spec.samples, spec.pages)
        };
        let mut bytes = write(&Spec { description, ..spec });
        prop_assert!(read_all(&bytes) > 0);
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        read_all(&bytes);
    }
}

#[test]
fn the_type_of_a_fixture_is_told_before_it_is_read() {
    let path = common::files::fixtures().join("tiff/ome_u16.ome.tif");
    let tiff = Tiff::open(path).unwrap();
    let image = &tiff.images()[0];
    assert_eq!((image.scalar_type(), image.compression().as_str()), (Some(ScalarType::U16), "none"));
    assert!(String::from_utf8_lossy(tiff.description()).contains("DimensionOrder"));
    assert_eq!((tiff.images().len(), image.spacing(), image.unit()), (1, [0.9, 0.9, 1.5], Some("um")));
}
