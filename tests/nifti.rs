//! NIfTI files written by hand here: what they mean is read, of both versions and byte orders, and no damage does more than return an error.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "files of a few thousand voxels, made here"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::files::{apply, damage, extents, fixtures, gzip, read, read_whole, region_in};
use proptest::prelude::*;
use tempfile::TempDir;
use vastgrid::source::{Dataset, Endian, Nifti};
use vastgrid::{Coord, Extent, Region, Scalar, ScalarType, SourceError, TileSource};

/// A header by hand: what a test does not say is 0, but for what every header has.
#[derive(Clone, Debug)]
struct Header {
    version: u8,
    endian: Endian,
    single: bool,
    dim: Vec<i64>,
    datatype: i16,
    bitpix: i16,
    pixdim: [f64; 5],
    offset: f64,
    scaling: (f64, f64),
    units: u8,
}

impl Header {
    fn new(dim: &[i64], datatype: i16, bitpix: i16) -> Self {
        Self {
            version: 1,
            endian: Endian::Little,
            single: true,
            dim: dim.to_vec(),
            datatype,
            bitpix,
            pixdim: [1.0; 5],
            offset: 352.0,
            scaling: (0.0, 0.0),
            units: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; if self.version == 1 { 348 } else { 540 }];
        let mut put = |at: usize, mut little: Vec<u8>| {
            if self.endian == Endian::Big {
                little.reverse();
            }
            bytes[at..at + little.len()].copy_from_slice(&little);
        };
        let mut dim = [1i64; 8];
        dim[0] = self.dim.len() as i64;
        dim[1..=self.dim.len()].copy_from_slice(&self.dim);
        if self.version == 1 {
            put(0, 348i32.to_le_bytes().to_vec());
            for (i, n) in dim.iter().enumerate() {
                put(40 + 2 * i, (*n as i16).to_le_bytes().to_vec());
            }
            put(70, self.datatype.to_le_bytes().to_vec());
            put(72, self.bitpix.to_le_bytes().to_vec());
            for (i, n) in self.pixdim.iter().enumerate() {
                put(76 + 4 * i, (*n as f32).to_le_bytes().to_vec());
            }
            for (at, n) in [(108, self.offset), (112, self.scaling.0), (116, self.scaling.1)] {
                put(at, (n as f32).to_le_bytes().to_vec());
            }
            bytes[123] = self.units;
            bytes[344..348].copy_from_slice(if self.single { b"n+1\0" } else { b"ni1\0" });
        } else {
            put(0, 540i32.to_le_bytes().to_vec());
            put(12, self.datatype.to_le_bytes().to_vec());
            put(14, self.bitpix.to_le_bytes().to_vec());
            for (i, n) in dim.iter().enumerate() {
                put(16 + 8 * i, n.to_le_bytes().to_vec());
            }
            for (i, n) in self.pixdim.iter().enumerate() {
                put(104 + 8 * i, n.to_le_bytes().to_vec());
            }
            put(168, (self.offset as i64).to_le_bytes().to_vec());
            put(176, self.scaling.0.to_le_bytes().to_vec());
            put(184, self.scaling.1.to_le_bytes().to_vec());
            put(500, i32::from(self.units).to_le_bytes().to_vec());
            let magic = if self.single { b"n+2\0\r\n\x1a\n" } else { b"ni2\0\r\n\x1a\n" };
            bytes[4..12].copy_from_slice(magic);
        }
        bytes
    }

    /// Header and voxels in one file.
    fn with(&self, voxels: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.resize(self.offset as usize, 0xee);
        [&bytes, voxels].concat()
    }
}

fn file_of(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn open(bytes: &[u8]) -> Result<Nifti, SourceError> {
    let (_folder, path) = file_of("v.nii", bytes);
    Nifti::open(&path)
}

/// The field and the value that a header is refused for.
fn refused(header: &Header) -> (&'static str, String) {
    match open(&header.with(&[0; 64])) {
        Err(SourceError::Header { field, value, .. }) => (field, value),
        Err(other) => panic!("{header:?}: {other}"),
        Ok(nifti) => panic!("{header:?}: {:?}", nifti.header()),
    }
}

/// A value that tells where and when it is.
fn value(c: Coord, time: u64, channel: u64) -> i32 {
    (c.x * 7 + c.y * 1_009 + c.z * 100_003 + time * 7_000_003 + channel * 50_000_017) as i32 - 900_000
}

fn expected(region: Region, time: u64, channel: u64) -> Vec<i32> {
    common::expected_by(region, |c| value(c, time, channel))
}

#[derive(Clone, Debug)]
struct Case {
    header: Header,
    extent: Extent,
    times: u64,
    channels: u64,
    axes: usize,
    compressed: bool,
    region: Region,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (extents(12), 1..4u64, 1..4u64, 3..6usize);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0..40u32);
    (shape, flags).prop_flat_map(|(shape, flags)| (Just(shape), Just(flags), region_in(shape.0))).prop_map(
        |((extent, times, channels, axes), (v2, big, single, compressed, more), region)| {
            let times = if axes > 3 { times } else { 1 };
            let channels = if axes > 4 { channels } else { 1 };
            let all = [extent.x, extent.y, extent.z, times, channels];
            let dim: Vec<i64> = all[..axes].iter().map(|n| *n as i64).collect();
            let mut header = Header::new(&dim, 8, 32);
            header.version = if v2 { 2 } else { 1 };
            header.endian = if big { Endian::Big } else { Endian::Little };
            header.single = single;
            header.offset = f64::from(more)
                + if !single {
                    0.0
                } else if v2 {
                    544.0
                } else {
                    352.0
                };
            Case { header, extent, times, channels, axes, compressed, region }
        },
    )
}

/// Writes a case; returns what to open.
fn write(case: &Case, folder: &Path) -> PathBuf {
    let whole = Region::whole(case.extent);
    let mut voxels = Vec::new();
    for channel in 0..case.channels {
        for time in 0..case.times {
            for v in expected(whole, time, channel) {
                voxels.extend(match case.header.endian {
                    Endian::Little => v.to_le_bytes(),
                    Endian::Big => v.to_be_bytes(),
                });
            }
        }
    }
    let packed = |bytes: Vec<u8>| if case.compressed { gzip(&bytes) } else { bytes };
    // Names say nothing: what is compressed is told by its content.
    if case.header.single {
        let path = folder.join("volume.dat");
        fs::write(&path, packed(case.header.with(&voxels))).unwrap();
        return path;
    }
    let data = [vec![0xee; case.header.offset as usize], voxels].concat();
    let end = if case.compressed { ".gz" } else { "" };
    fs::write(folder.join(format!("volume.img{end}")), packed(data)).unwrap();
    fs::write(folder.join("volume.hdr"), case.header.bytes()).unwrap();
    // Either name will do.
    folder.join(if case.axes == 4 { format!("volume.img{end}") } else { "volume.hdr".into() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_by_hand_is_read_back(case in cases()) {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&case, folder.path());
        let header = Nifti::open(&path).unwrap().header().clone();
        prop_assert_eq!((header.extent(), header.times(), header.channels()), (case.extent, case.times, case.channels));
        prop_assert_eq!((header.version(), header.endian()), (case.header.version, case.header.endian));
        for channel in 0..case.channels {
            for time in 0..case.times {
                let nifti = Nifti::open(&path).unwrap().with_channel(channel).unwrap().with_time(time).unwrap();
                prop_assert_eq!(nifti.is_compressed(), case.compressed);
                let source = nifti.into_dataset().unwrap().into_source::<i32>();
                prop_assert_eq!(read(&source, case.region), expected(case.region, time, channel));
                prop_assert_eq!(read_whole(&source), expected(Region::whole(case.extent), time, channel));
            }
        }
        for beyond in [case.times, u64::MAX] {
            let error = Nifti::open(&path).unwrap().with_time(beyond).unwrap_err();
            prop_assert!(matches!(error, SourceError::NoSuch { index, .. } if index == beyond), "{}", error);
        }
        let error = Nifti::open(&path).unwrap().with_channel(case.channels).unwrap_err();
        prop_assert!(matches!(error, SourceError::NoSuch { .. }), "{}", error);
    }
}

#[test]
fn every_type_is_read_and_others_are_named() {
    fn check<T: Scalar>(datatype: i16, values: [f64; 2]) {
        let voxels: Vec<T> = values.iter().map(|v| T::from_f64(*v)).collect();
        for endian in [Endian::Little, Endian::Big] {
            let mut header = Header::new(&[2, 1, 1], datatype, 8 * size_of::<T>() as i16);
            header.endian = endian;
            let stored: Vec<T> =
                voxels.iter().map(|v| if endian == Endian::NATIVE { *v } else { v.swap_bytes() }).collect();
            let dataset = open(&header.with(bytemuck::cast_slice(&stored))).unwrap().into_dataset().unwrap();
            assert_eq!(dataset.scalar_type(), T::TYPE);
            assert_eq!(read_whole(&dataset.into_source::<T>()), voxels);
        }
    }
    check::<u8>(2, [1.0, 255.0]);
    check::<i16>(4, [-2.0, 258.0]);
    check::<i32>(8, [-2.0, 16_909_060.0]);
    check::<f32>(16, [-2.5, 1e30]);
    check::<f64>(64, [-2.5, 1e300]);
    check::<i8>(256, [-2.0, 127.0]);
    check::<u16>(512, [2.0, 65_535.0]);
    check::<u32>(768, [2.0, 4_294_967_295.0]);
    for (datatype, name) in [
        (32, "complex64"),
        (128, "rgb24"),
        (1024, "int64"),
        (1280, "uint64"),
        (1536, "float128"),
        (1792, "complex128"),
        (2048, "complex256"),
        (2304, "rgba32"),
        (1, "code 1"),
        (-7, "code -7"),
    ] {
        let error = open(&Header::new(&[2, 2, 2], datatype, 0).with(&[0; 256])).unwrap_err();
        let SourceError::Unsupported { what, value, .. } = error else { panic!("{error}") };
        assert_eq!((what, value.as_str()), ("voxels of the type", name));
    }
}

#[test]
fn values_are_scaled_where_the_header_says() {
    let scaled = |datatype, bitpix, stored: &[u8], scaling| {
        let mut header = Header::new(&[2, 1, 1], datatype, bitpix);
        header.scaling = scaling;
        let nifti = open(&header.with(stored))?;
        let (says, dataset) = (nifti.header().scalar_type(), nifti.into_dataset()?);
        assert_eq!(says, dataset.scalar_type());
        Ok::<_, SourceError>(dataset)
    };
    let bytes: Vec<u8> = [-3i16, 1000].iter().flat_map(|v| v.to_le_bytes()).collect();
    let values = |scaling| match scaled(4, 16, &bytes, scaling)? {
        Dataset::F32(source) => Ok(Some(read_whole(&source))),
        Dataset::I16(source) => {
            assert_eq!(read_whole(&source), [-3, 1000]);
            Ok(None)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(values((0.5, -10.0)).unwrap(), Some(vec![-11.5, 490.0]));
    assert_eq!(values((-1.0, 0.0)).unwrap(), Some(vec![3.0, -1000.0]));
    assert_eq!(values((1.0, 5.0)).unwrap(), Some(vec![2.0, 1005.0]));
    // A slope of 0, or none that can be, means that there is no scaling.
    for none in [(1.0, 0.0), (0.0, 7.0), (f64::NAN, 7.0), (f64::INFINITY, 7.0)] {
        assert_eq!(values(none).unwrap(), None, "{none:?}");
    }
    let error = values((2.0, f64::NAN)).unwrap_err();
    assert!(matches!(error, SourceError::Header { field: "scl_inter", .. }), "{error}");
    // What f32 cannot hold apart.
    let bytes: Vec<u8> = [i32::MAX, i32::MAX - 1].iter().flat_map(|v| v.to_le_bytes()).collect();
    let Dataset::F64(source) = scaled(8, 32, &bytes, (2.0, 1.0)).unwrap() else { panic!("no f64") };
    assert_eq!(read_whole(&source), [4_294_967_295.0, 4_294_967_293.0]);
}

#[test]
fn spacing_units_and_spaces_are_as_the_header_has_them() {
    let mut header = Header::new(&[2, 1, 1, 3], 2, 8);
    header.pixdim = [-1.0, 0.9, -0.3, f64::NAN, 2.5];
    header.units = 2 | 8;
    let nifti = open(&header.with(&[0; 8])).unwrap();
    // 0.9 and not 0.8999999761581421.
    assert_eq!((nifti.header().spacing(), nifti.header().time_step()), ([0.9, 0.3, 1.0], Some(2.5)));
    assert_eq!((nifti.header().space_unit(), nifti.header().time_unit()), (Some("mm"), Some("s")));
    assert_eq!(
        (nifti.header().sform(), nifti.header().qform(), nifti.header().to_space()),
        (None, None, None)
    );
    header.units = 0;
    header.pixdim[4] = 0.0;
    let nifti = open(&header.with(&[0; 8])).unwrap();
    assert_eq!((nifti.header().space_unit(), nifti.header().time_unit()), (None, None));
    assert_eq!(nifti.header().time_step(), None);
    // The writer's transform turns x to y and y to -x.
    let mut bytes = fs::read(fixtures().join("nifti/pair_i16.hdr")).unwrap();
    let (_folder, path) = file_of("v.hdr", &bytes);
    fs::copy(fixtures().join("nifti/pair_i16.img"), path.with_extension("img")).unwrap();
    let sform = Nifti::open(&path).unwrap().header().sform().unwrap();
    assert_eq!((sform.code, sform.matrix.map(|row| row[3])), (2, [90.0, -126.0, -72.0]));
    assert_eq!(sform.matrix[2], [0.0, 0.0, 1.5, -72.0]);
    // Its quaternion says the same; it only has no code, which means that it is not to be used.
    bytes[252..256].copy_from_slice(&[1, 0, 0, 0]);
    fs::write(&path, &bytes).unwrap();
    let header = Nifti::open(&path).unwrap().header().clone();
    let (qform, matrix) = (header.qform().unwrap(), header.to_space().unwrap());
    assert_eq!((qform.code, qform.qfac, header.sform()), (1, -1.0, None));
    for (ours, theirs) in matrix.iter().flatten().zip(sform.matrix.iter().flatten()) {
        assert!((ours - theirs).abs() < 1e-6, "{matrix:?} and {:?}", sform.matrix);
    }
    // Of a transform with a number that is none nothing is used, but the other one.
    (bytes[254], bytes[280 + 7]) = (2, 0x7f);
    bytes[280 + 4..280 + 7].copy_from_slice(&[0, 0, 0xc0]);
    fs::write(&path, &bytes).unwrap();
    let header = Nifti::open(&path).unwrap().header().clone();
    assert!(header.sform().unwrap().matrix[0][1].is_nan());
    assert_eq!(header.to_space(), Some(matrix));
    bytes[268..272].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_eq!(Nifti::open(&path).unwrap().header().to_space(), None);
}

#[test]
fn headers_that_cannot_be_are_refused_by_field_and_value() {
    let good = Header::new(&[2, 2, 2], 4, 16);
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        refused(&header)
    };
    let dim = |dim: &[i64]| with(&|h| h.dim = dim.to_vec());
    assert_eq!(dim(&[]), ("dim", "0 1 1 1 1 1 1 1".into()));
    assert_eq!(dim(&[2, 0, 2]), ("dim", "3 2 0 2 1 1 1 1".into()));
    assert_eq!(dim(&[2, -5, 2]), ("dim", "3 2 -5 2 1 1 1 1".into()));
    assert_eq!(dim(&[2, 2, 2, 1, 1, 2]), ("dim", "6 2 2 2 1 1 2 1".into()));
    assert_eq!(with(&|h| h.bitpix = 8), ("bitpix", "8".into()));
    for offset in [-1.0, 100.0, 352.5, f64::NAN, f64::INFINITY, 1e30] {
        let header = Header { offset, ..good.clone() };
        let error = open(&[header.bytes(), vec![0; 64]].concat()).unwrap_err();
        assert!(matches!(error, SourceError::Header { field: "vox_offset", .. }), "{offset}: {error}");
    }
    let huge = |h: &mut Header| (h.version, h.offset, h.dim) = (2, 544.0, vec![1 << 40; 3]);
    assert_eq!(with(&huge).0, "dim");
    let long = |h: &mut Header| (h.version, h.offset, h.dim) = (2, 544.0, vec![2, 2, 2, i64::MAX, 2]);
    assert_eq!(with(&long).0, "dim");
    // Axes that are counted but not used.
    assert!(open(&Header { dim: vec![2, 2, 2, 0, 0], ..good.clone() }.with(&[0; 16])).is_ok());
    // Compared with what the file has only when it is read.
    let promise = Header { version: 2, offset: 544.0, dim: vec![1 << 30, 1 << 30, 1], ..good.clone() };
    let error = open(&promise.with(&[0; 16])).unwrap().into_dataset().unwrap_err();
    assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    let error = open(&gzip(&promise.with(&[0; 16]))).unwrap().into_dataset().unwrap_err();
    assert!(matches!(error, SourceError::Scratch { .. }), "{error}");
    // A first axis count that is big-endian in a header whose length is little-endian.
    let mut bytes = good.with(&[0; 16]);
    bytes.swap(40, 41);
    let error = open(&bytes).unwrap_err();
    assert!(matches!(error, SourceError::Header { field: "dim", .. }), "{error}");
    assert!(error.to_string().contains("field `dim` is \"768 2 2 2 1 1 1 1\""), "{error}");
}

#[test]
fn no_nifti_file_is_named_as_such() {
    for bytes in
        [&b""[..], b"\x5c\x01\0\0", b"something else", &[0; 600], &gzip(b"something else"), &gzip(b"")]
    {
        let error = open(bytes).unwrap_err();
        assert!(matches!(error, SourceError::Header { field: "magic", .. }), "{error}");
    }
    let error = open(b"\x1f\x8bnot gzip at all").unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Nifti::open(folder.path()).unwrap_err(), SourceError::Open { .. }));
    assert!(matches!(Nifti::open(folder.path().join("none.nii")).unwrap_err(), SourceError::Open { .. }));
    // Half a pair names the other half.
    fs::copy(fixtures().join("nifti/pair_i16.hdr"), folder.path().join("half.hdr")).unwrap();
    let error = Nifti::open(folder.path().join("half.hdr")).unwrap_err();
    let SourceError::Open { path, .. } = &error else { panic!("{error}") };
    assert!(path.ends_with("half.img"), "{error}");
}

#[test]
fn truncation_is_refused_at_every_byte() {
    for (version, offset) in [(1, 352.0), (2, 544.0)] {
        let header = Header { version, offset, ..Header::new(&[3, 2, 1], 2, 8) };
        let good = header.with(b"voxels");
        let load = |bytes: &[u8]| {
            Ok::<_, SourceError>(read_whole(&open(bytes)?.into_dataset()?.into_source::<u8>()))
        };
        assert_eq!(load(&good).unwrap(), b"voxels");
        assert_eq!(load(&gzip(&good)).unwrap(), b"voxels");
        for cut in 0..good.len() {
            assert!(load(&good[..cut]).is_err(), "cut at {cut}");
            assert!(load(&gzip(&good[..cut])).is_err(), "cut at {cut} before compression");
        }
        let packed = gzip(&good);
        for cut in 0..packed.len() {
            // What is cut off may be no more than the checksum, which comes after the last voxel.
            if let Ok(voxels) = load(&packed[..cut]) {
                assert_eq!(voxels, b"voxels", "cut at {cut}");
                assert!(cut + 8 >= packed.len(), "cut at {cut}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_does_more_than_return_an_error(
        damages in proptest::collection::vec(damage(), 1..6),
        v2: bool, big: bool, compressed: bool, after: bool,
    ) {
        let mut header = Header::new(&[5, 4, 3, 2], 4, 16);
        header.scaling = (0.5, 3.0);
        header.endian = if big { Endian::Big } else { Endian::Little };
        (header.version, header.offset) = if v2 { (2, 544.0) } else { (1, 352.0) };
        let mut bytes = header.with(&[7; 240]);
        let damaged = |bytes: &mut Vec<u8>| damages.iter().for_each(|damage| apply(bytes, damage));
        if !(compressed && after) {
            damaged(&mut bytes);
        }
        if compressed {
            bytes = gzip(&bytes);
            if after {
                damaged(&mut bytes);
            }
        }
        if let Ok(nifti) = open(&bytes) {
            let promised = nifti.header().extent().checked_volume().unwrap() * nifti.header().stored_type().bytes() as u64;
            let mut most = 0;
            if let Ok(dataset) = nifti.into_dataset_with(|done, _| most = most.max(done)) {
                let source = dataset.into_source::<f32>();
                prop_assert!(source.read(Region::whole(Extent::cube(1)), &mut [0.0]).is_ok());
            }
            prop_assert!(most <= promised);
        }
    }
}

#[test]
fn progress_of_decompression_goes_to_the_end() {
    let path = fixtures().join("nifti/f32.nii.gz");
    let mut seen = Vec::new();
    let dataset = Nifti::open(path).unwrap().into_dataset_with(|done, all| seen.push((done, all))).unwrap();
    let bytes = dataset.extent().checked_volume().unwrap() * ScalarType::F32.bytes() as u64;
    assert!(seen.is_sorted() && seen.last() == Some(&(bytes, bytes)), "{seen:?}");
}
