//! What tests of files share: how voxels are read and hashed, regions at random, and damage.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use vastgrid::source::{BoxedSource, Dataset, Endian};
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, Scalar, SparseArray3D, TileSource};

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn read<T: Scalar>(source: &dyn TileSource<T>, region: Region) -> Vec<T> {
    // Not zero before: every voxel must be written.
    let mut out = vec![T::from_f64(77.0); usize::try_from(region.extent.checked_volume().unwrap()).unwrap()];
    source.read(region, &mut out).unwrap();
    out
}

pub(crate) fn read_whole<T: Scalar>(source: &dyn TileSource<T>) -> Vec<T> {
    read(source, Region::whole(source.extent()))
}

/// All voxels, least significant byte first, read through an array of such tiles that has room for an eighth of them.
pub(crate) fn bytes_through_array(dataset: Dataset, tile: [u64; 3]) -> Vec<u8> {
    fn of<T: Scalar>(source: BoxedSource<T>, tile: [u64; 3]) -> Vec<u8> {
        let region = Region::whole(source.extent());
        let voxels = region.extent.checked_volume().unwrap();
        let budget_bytes = (voxels * size_of::<T>() as u64 / 8).max(64 << 10);
        let pool = Pool::new(HostBackend::new(), budget_bytes).unwrap();
        let array = SparseArray3D::builder(&pool, source).tile(tile).page_bytes(16 << 10).build().unwrap();
        let mut voxels = array.to_vec(region).unwrap();
        if Endian::NATIVE == Endian::Big {
            for voxel in &mut voxels {
                *voxel = voxel.swap_bytes();
            }
        }
        bytemuck::cast_slice(&voxels).to_vec()
    }
    match dataset {
        Dataset::U8(source) => of(source, tile),
        Dataset::I8(source) => of(source, tile),
        Dataset::U16(source) => of(source, tile),
        Dataset::I16(source) => of(source, tile),
        Dataset::U32(source) => of(source, tile),
        Dataset::I32(source) => of(source, tile),
        Dataset::F16(source) => of(source, tile),
        Dataset::F32(source) => of(source, tile),
        Dataset::F64(source) => of(source, tile),
        other => panic!("a type that this test does not know: {other:?}"),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

pub(crate) fn region_in(extent: Extent) -> impl Strategy<Value = Region> {
    let axis = |size: u64| (0..size).prop_flat_map(move |start| (Just(start), 0..=size - start));
    (axis(extent.x), axis(extent.y), axis(extent.z))
        .prop_map(|(x, y, z)| Region::new(Coord::new(x.0, y.0, z.0), Extent::new(x.1, y.1, z.1)))
}

pub(crate) fn extents(most: u64) -> impl Strategy<Value = Extent> {
    (1..=most, 1..=most, 1..=most).prop_map(|(x, y, z)| Extent::new(x, y, z))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Drop(usize, usize),
    Repeat(usize, usize),
    Insert(usize, &'static str),
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..2048usize;
    let words = [
        "\n",
        ": ",
        ":=",
        "#",
        "-1",
        "0",
        "18446744073709551615",
        "99999999999999999999999",
        "(",
        ")",
        "none",
        "\"",
        "nan",
        "inf",
        "1e999",
        "%d 1 9 1",
        "LIST",
        "\u{fffd}",
        "\0",
        "sizes: 1000000 1000000 1000000\n",
        "block",
        "encoding: raw\n",
        "line skip: 4294967296\n",
        "byte skip: 18446744073709551615\n",
        "dimension: 2\n",
    ];
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        at.clone().prop_map(Damage::Cut),
        (at.clone(), 1..40usize).prop_map(|(at, n)| Damage::Drop(at, n)),
        (at.clone(), 1..80usize).prop_map(|(at, n)| Damage::Repeat(at, n)),
        (at, proptest::sample::select(words.to_vec())).prop_map(|(at, word)| Damage::Insert(at, word)),
    ]
}

pub(crate) fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let within = |at: usize, len: usize| at % (len + 1);
    let len = bytes.len();
    match *damage {
        Damage::Flip(at, bits) if len > 0 => bytes[at % len] ^= bits,
        Damage::Flip(..) => {}
        Damage::Cut(at) => bytes.truncate(within(at, len)),
        Damage::Drop(at, n) => {
            let at = within(at, len);
            bytes.drain(at..(at + n).min(len));
        }
        Damage::Repeat(at, n) => {
            let at = within(at, len);
            let piece = bytes[at..(at + n).min(len)].to_vec();
            bytes.splice(at..at, piece);
        }
        Damage::Insert(at, word) => {
            let at = within(at, len);
            bytes.splice(at..at, word.bytes());
        }
    }
}
