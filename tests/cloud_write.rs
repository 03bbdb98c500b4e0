//! Zarr written into an object store: it appears as a whole or not at all, goes on where it was interrupted, replaces nothing, and survives what lines and servers do.
#![allow(clippy::cast_possible_truncation, reason = "arrays of a few thousand voxels")]

use std::sync::Mutex;
use std::time::Duration;

use cloud_support::proxy::{Fate, Proxy};
use cloud_support::{fresh_seed, impatient, s3_options, servers};
use common::{Random, within};
use vastgrid::source::{RemoteOptions, RemoteStore, Zarr, ZarrSlice};
use vastgrid::store::{PyramidDescription, PyramidWriter, TileStore, ZarrCodec, ZarrOptions, ZarrStore};
use vastgrid::{Coord, Extent, Region, StoreError, TileSource};
use zarrs::storage::ListableStorageTraits;

mod cloud_support;
mod common;

const EXTENT: Extent = Extent::new(40, 24, 20);

fn options() -> ZarrOptions {
    ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(8)), ..ZarrOptions::default() }
}

fn patient(port: u16) -> RemoteOptions {
    RemoteOptions {
        stall_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(20),
        ..s3_options(port)
    }
}

/// The pieces of the volume, each a shard or a part of one at the far faces.
fn pieces() -> Vec<Region> {
    let along = |size: u64| (0..size).step_by(8).map(move |at| (at, 8.min(size - at)));
    let mut pieces = Vec::new();
    for (z, dz) in along(EXTENT.z) {
        for (y, dy) in along(EXTENT.y) {
            for (x, dx) in along(EXTENT.x) {
                pieces.push(Region::new(Coord::new(x, y, z), Extent::new(dx, dy, dz)));
            }
        }
    }
    pieces
}

fn voxels(region: Region, salt: u64) -> Vec<u16> {
    let Region { start, extent } = region;
    let mut voxels = Vec::new();
    for z in start.z..start.z + extent.z {
        for y in start.y..start.y + extent.y {
            for x in start.x..start.x + extent.x {
                voxels.push(common::salted(Coord::new(x, y, z), salt) as u16);
            }
        }
    }
    voxels
}

/// Compares all voxels of the array at `path` of what lies at an address.
fn check(url: &str, remote: &RemoteOptions, path: &str, salt: u64) {
    let zarr = Zarr::open_url(url, remote).unwrap();
    let source = zarr.array(path).unwrap().source::<u16>(&ZarrSlice::last(3)).unwrap();
    let whole = Region::whole(EXTENT);
    let mut found = vec![0; whole.extent.checked_volume().unwrap() as usize];
    source.read(whole, &mut found).unwrap();
    assert!(found == voxels(whole, salt), "{url}/{path}");
}

fn keys(url: &str, remote: &RemoteOptions) -> Vec<String> {
    let keys = RemoteStore::open(url, remote).unwrap().list().unwrap();
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

#[test]
fn a_volume_in_an_object_store_appears_as_a_whole_and_is_not_replaced() {
    within(Duration::from_mins(2), || {
        let salt = fresh_seed() & 0xfff;
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "written");
        let (remote, url) = (patient(port), "s3://written/some/array.zarr");
        let store = ZarrStore::create_url(url, &remote, EXTENT, 0u16, &options()).unwrap();
        for piece in pieces() {
            store.write(piece, &voxels(piece, salt)).unwrap();
        }
        store.flush().unwrap();
        assert!(keys(url, &remote).len() > 40, "its objects are there");
        assert!(Zarr::open_url(url, &remote).is_err(), "and no volume");
        store.save().unwrap();
        check(url, &remote, "", salt);
        assert!(!keys(url, &remote).iter().any(|key| key.contains("vastgrid-save")), "no journal is left");

        let again =
            |options: &ZarrOptions| ZarrStore::create_url(url, &remote, EXTENT, 0u16, options).unwrap_err();
        let error = again(&options());
        assert!(matches!(error, StoreError::Exists { .. }) && error.to_string().contains(url), "{error}");
        let error = again(&ZarrOptions { replace: true, ..options() });
        assert!(matches!(error, StoreError::NotReplaced { .. }), "{error}");
        check(url, &remote, "", salt);
    });
}

#[test]
fn an_interrupted_save_goes_on_or_is_removed() {
    within(Duration::from_mins(2), || {
        let salt = fresh_seed() & 0xfff;
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "interrupted");
        let (remote, url) = (patient(port), "s3://interrupted/image.ome.zarr");
        let description = PyramidDescription::new(vec![(EXTENT, [1.0; 3])]);
        let resume = ZarrOptions { resume: true, ..options() };
        let pieces = pieces();
        let begun =
            |options: &ZarrOptions| PyramidWriter::create_url(url, &remote, &description, 0u16, options);
        let first = begun(&options()).unwrap();
        for piece in &pieces[..20] {
            first.level(0).unwrap().write(*piece, &voxels(*piece, salt)).unwrap();
        }
        first.flush().unwrap();
        drop(first);
        let second = begun(&resume).unwrap();
        let level = second.level(0).unwrap();
        let complete = pieces.iter().filter(|piece| level.is_complete(**piece)).count();
        assert_eq!(complete, 20, "what was flushed is known");
        for piece in pieces.iter().filter(|piece| !level.is_complete(**piece)) {
            level.write(*piece, &voxels(*piece, salt)).unwrap();
        }
        drop(second);
        // Of something else it is not continued, and it is removed by whoever asks for that.
        let other = begun(&ZarrOptions { input: "another".into(), ..resume.clone() }).unwrap_err();
        assert!(matches!(other, StoreError::OtherSave { .. }), "{other}");
        let third = begun(&resume).unwrap();
        for piece in &pieces {
            third.level(0).unwrap().write(*piece, &voxels(*piece, salt)).unwrap();
        }
        third.save().unwrap();
        check(url, &remote, "s0", salt);

        let (url, anew) = ("s3://interrupted/other.zarr", "s3://interrupted/foreign.zarr");
        let left = ZarrStore::create_url(url, &remote, EXTENT, 0u16, &options()).unwrap();
        left.write(pieces[0], &voxels(pieces[0], 1)).unwrap();
        left.flush().unwrap();
        drop(left);
        let before = keys(url, &remote).len();
        let discard = ZarrOptions { replace: true, ..options() };
        let fresh = ZarrStore::create_url(url, &remote, EXTENT, 0u16, &discard).unwrap();
        assert!(before > 1 && keys(url, &remote).len() == 1, "only the new journal is there");
        fresh.discard().unwrap();
        assert_eq!(keys(url, &remote).len(), 0);

        // What is no save of ours is left alone.
        servers::put_object(port, "interrupted", "foreign.zarr/precious", b"mine");
        let error = ZarrStore::create_url(anew, &remote, EXTENT, 0u16, &options()).unwrap_err();
        assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
        assert_eq!(keys(anew, &remote), ["precious"]);
    });
}

#[test]
fn a_long_object_is_put_in_parts() {
    within(Duration::from_mins(4), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "long");
        let (remote, url) = (patient(port), "s3://long/array.zarr");
        // 40 MiB that are not compressed, in one shard.
        let extent = Extent::new(512, 256, 320);
        let options = ZarrOptions {
            chunk: Extent::new(512, 256, 32),
            shard: Some(extent),
            codec: ZarrCodec::None,
            ..ZarrOptions::default()
        };
        let store = ZarrStore::create_url(url, &remote, extent, 0u8, &options).unwrap();
        let value = |region: Region| vec![(region.start.z / 32) as u8 + 1; 512 * 256 * 32];
        let slabs = (0..10).map(|n| Region::new(Coord::new(0, 0, 32 * n), Extent::new(512, 256, 32)));
        slabs.clone().for_each(|slab| store.write(slab, &value(slab)).unwrap());
        store.save().unwrap();
        let zarr = Zarr::open_url(url, &remote).unwrap();
        let source = zarr.arrays()[0].source::<u8>(&ZarrSlice::last(3)).unwrap();
        for slab in slabs {
            let mut found = vec![0; 512 * 256 * 32];
            source.read(slab, &mut found).unwrap();
            assert!(found == value(slab), "{slab}");
        }
    });
}

#[test]
fn writing_survives_what_passes_and_says_what_does_not() {
    within(Duration::from_mins(4), || {
        let seed = fresh_seed();
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "spoilt");
        let dice = Mutex::new(Random::new(seed));
        let proxy = Proxy::new(port, move |_| {
            let fate = match dice.lock().unwrap().below(8) {
                0 => Fate::Answer { status: 503, headers: "", body: vec![] },
                1 => Fate::Reset,
                // The server did it, and nobody hears of that.
                2 => Fate::CutReset(0),
                _ => Fate::Pass,
            };
            (Duration::ZERO, fate)
        });
        let remote = RemoteOptions { attempts: 12, ..patient(proxy.port) };
        let url = "s3://spoilt/array.zarr";
        let store = ZarrStore::create_url(url, &remote, EXTENT, 0u16, &options()).unwrap();
        for piece in pieces() {
            store.write(piece, &voxels(piece, seed & 0xfff)).unwrap();
        }
        store.save().unwrap();
        check(url, &patient(port), "", seed & 0xfff);

        let refuses = Proxy::new(port, |asked| {
            let no = Fate::Answer { status: 403, headers: "", body: vec![] };
            (
                Duration::ZERO,
                if asked.method == "PUT" && asked.path.contains("/c/") { no } else { Fate::Pass },
            )
        });
        let url = "s3://spoilt/refused.zarr";
        let store = ZarrStore::create_url(url, &patient(refuses.port), EXTENT, 0u16, &options()).unwrap();
        let piece = pieces()[0];
        let written = store.write(piece, &voxels(piece, 1));
        let error = written.and_then(|()| store.save()).unwrap_err().to_string();
        assert!(error.contains("c/0/0/0: putting it was refused: HTTP 403"), "{error}");
        assert!(Zarr::open_url(url, &patient(port)).is_err(), "what was not written is not there");
    });
}

#[test]
fn a_web_server_takes_nothing_and_says_so() {
    let error =
        ZarrStore::create_url("http://127.0.0.1:9/v", &impatient(), EXTENT, 0u16, &options()).unwrap_err();
    assert!(error.to_string().contains("takes no objects"), "{error}");
}
