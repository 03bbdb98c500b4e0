//! Zarr in remote stores: fixtures decode to what their writers wrote, through a web server and S3; whatever servers and lines do, a tile is right or says what is wrong; and many requests are under way
//! although few threads decode.
#![allow(clippy::cast_possible_truncation, reason = "arrays of a few thousand voxels")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloud_support::proxy::{Asked, Fate, Proxy};
use cloud_support::{fresh_seed, impatient, s3_options, servers};
use common::{Random, within};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vastgrid::source::{Dataset, RemoteOptions, Zarr, ZarrSlice};
use vastgrid::{Coord, Extent, HostBackend, Pool, PoolConfig, Region, SourceError, SparseArray3D, TileCoord};
use zarr_support::{Written, bytes_of, bytes_through_array, fixtures, region};

mod cloud_support;
mod common;
#[allow(dead_code, reason = "tests of folders use the rest")]
mod zarr_support;

/// Checks every Zarr fixture, each opened by `open`.
fn check_fixtures(open: impl Fn(&str) -> Zarr) {
    let expected: Value =
        serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    let mut tested = 0;
    for entry in expected.as_array().unwrap() {
        if !entry["format"].as_str().unwrap().to_lowercase().contains("zarr") {
            continue;
        }
        let path = entry["path"].as_str().unwrap();
        let (store, array) = path.split_once("::").unwrap_or((path, ""));
        let zarr = open(store);
        assert!(zarr.version().is_some());
        let listed = zarr.arrays().iter().find(|listed| listed.path() == array);
        let listed = listed.unwrap_or_else(|| panic!("{path}: {:?}", zarr.skipped()));
        let dataset = listed.dataset(&ZarrSlice::last(3)).unwrap();
        let digest = format!("{:x}", Sha256::digest(bytes_through_array(dataset, [16, 8, 4])));
        assert_eq!(digest, entry["sha256"].as_str().unwrap(), "{path}");
        tested += 1;
    }
    assert_eq!(tested, 17);
}

#[test]
fn fixtures_on_a_web_server_decode_to_the_voxels_that_their_writers_wrote() {
    within(Duration::from_mins(2), || {
        let Some(server) = servers::files(&fixtures()) else { return };
        let url = |store: &str| format!("http://127.0.0.1:{}/{store}/", server.port);
        check_fixtures(|store| Zarr::open_url(&url(store), &RemoteOptions::anonymous()).unwrap());
        // What a web server cannot list is told.
        let brain = Zarr::open_url(&url("ome_zarr/brain_v0.5.ome.zarr"), &impatient()).unwrap();
        assert_eq!(brain.images().len(), 1);
        let skipped = brain.skipped();
        assert!(
            skipped.iter().any(|(_, error)| error.to_string().contains("cannot be listed")),
            "{skipped:?}"
        );
        let group = Zarr::open_url(&url("zarr_v2/group_consolidated.zarr"), &impatient()).unwrap();
        assert!(group.skipped().is_empty(), "{:?}", group.skipped());
    });
}

#[test]
fn fixtures_in_s3_decode_to_the_voxels_that_their_writers_wrote() {
    within(Duration::from_mins(4), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "fixtures");
        for folder in ["zarr_v2", "zarr_v3", "ome_zarr"] {
            servers::put_folder(port, "fixtures", folder, &fixtures().join(folder));
        }
        let options = RemoteOptions { stall_timeout: Duration::from_secs(10), ..s3_options(port) };
        check_fixtures(|store| {
            let zarr = Zarr::open_url(&format!("s3://fixtures/{store}"), &options).unwrap();
            assert!(zarr.skipped().is_empty(), "{:?}", zarr.skipped());
            zarr
        });
    });
}

#[test]
fn an_address_of_a_file_is_a_folder() {
    let path = fixtures().join("zarr_v3/raw_i16.zarr");
    let zarr = Zarr::open_url(&format!("file://{}", path.display()), &impatient()).unwrap();
    assert_eq!(zarr.arrays()[0].shape(), Zarr::open(&path).unwrap().arrays()[0].shape());
    let error = Zarr::open_url("file:///no/such/folder", &impatient()).unwrap_err();
    assert!(matches!(error, SourceError::Open { .. }), "{error}");
}

fn dataset_at(url: &str, array: &str, options: &RemoteOptions) -> Result<Dataset, SourceError> {
    Zarr::open_url(url, options)?.array(array)?.dataset(&ZarrSlice::last(3))
}

#[test]
fn tiles_are_right_or_told_whatever_the_line_does() {
    within(Duration::from_mins(3), || {
        let seed = fresh_seed();
        let Some(server) = servers::files(&fixtures()) else { return };
        let stores = [
            ("zarr_v3/sharded_i16.zarr", ""),
            ("zarr_v2/blosc_lz4_sh1_i16.zarr", ""),
            ("ome_zarr/brain_v0.5.ome.zarr", "s1"),
        ];
        for (nth, (store, array)) in (0..).zip(stores) {
            let local = Zarr::open(fixtures().join(store)).unwrap();
            let local = local.array(array).unwrap().dataset(&ZarrSlice::last(3)).unwrap();
            let dice = std::sync::Mutex::new(Random::new(seed + nth));
            let proxy = Proxy::new(server.port, move |asked| {
                let mut random = dice.lock().unwrap();
                let bytes = random.below(3000) as usize;
                let fate = match random.below(10) {
                    0 => Fate::Answer { status: 503, headers: "", body: vec![] },
                    1 => Fate::Reset,
                    2 => Fate::Cut(bytes),
                    3 => Fate::Stall(bytes),
                    // Of a whole object its length is all that says how long it is.
                    4 if asked.range.is_some() => Fate::Shorter(1 + bytes),
                    _ => Fate::Pass,
                };
                (Duration::from_millis(random.below(5)), fate)
            });
            let options = RemoteOptions {
                stall_timeout: Duration::from_millis(150),
                attempts: 3,
                first_backoff: Duration::from_millis(1),
                ..impatient()
            };
            let url = format!("http://127.0.0.1:{}/{store}", proxy.port);
            let dataset = (0..50).find_map(|_| match dataset_at(&url, array, &options) {
                Ok(dataset) => Some(dataset),
                Err(error) => {
                    assert!(error.to_string().contains("http://127.0.0.1"), "{error}");
                    None
                }
            });
            let dataset = dataset.expect("it opens once in fifty times");
            let (mut right, mut told) = (0, 0);
            for n in 0..80 {
                let region = region(dataset.extent(), seed ^ n);
                match bytes_of(&dataset, region) {
                    Ok(bytes) => {
                        assert!(bytes == bytes_of(&local, region).unwrap(), "{store}: {region}");
                        right += 1;
                    }
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains(&url) && text.contains("time(s) in"), "{text}");
                        told += 1;
                    }
                }
            }
            println!("{store}: {right} right, {told} told, {} requests", proxy.asked().len());
            assert!(right > 10, "only {right} came through");
        }
    });
}

/// An array of 128 x 64 x 64 voxels of 2 bytes in chunks of 16^3, none of them missing; in shards of 64^3, if asked for.
fn written(folder: &Path, sharded: bool, seed: u64) -> Vec<u8> {
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let (chunk, chain) = if sharded {
        let sharding = json!({"name": "sharding_indexed", "configuration": {"chunk_shape": [16, 16, 16], "codecs": [bytes],
            "index_location": "end", "index_codecs": [bytes, {"name": "crc32c"}]}});
        (vec![64, 64, 64], vec![sharding])
    } else {
        (vec![16, 16, 16], vec![bytes])
    };
    let shape = vec![64, 64, 128];
    let metadata = json!({"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 9, "codecs": chain, "attributes": {}});
    let array = Written { shape, chunk, metadata, voxel_bytes: 2, missing_every: u64::MAX, seed };
    array.write(folder).concat()
}

/// Loads all tiles of 16^3 voxels in one request, with two threads; how long that takes.
fn load_all(url: &str, options: &RemoteOptions, expected: &[u8]) -> Duration {
    let zarr = Zarr::open_url(url, options).unwrap();
    let source = zarr.arrays()[0].source::<u16>(&ZarrSlice::last(3)).unwrap();
    let config = PoolConfig { budget_bytes: 4 << 20, threads: 2, ..PoolConfig::default() };
    let pool = Pool::with_config(HostBackend::new(), config).unwrap();
    let array = SparseArray3D::builder(&pool, source).tile(Extent::cube(16)).build().unwrap();
    let whole = Region::whole(array.extent());
    let begun = Instant::now();
    assert_eq!(array.request_region(whole).unwrap().complete().unwrap().loaded, 128);
    let took = begun.elapsed();
    assert!(bytemuck::cast_slice::<u16, u8>(&array.to_vec(whole).unwrap()) == expected);
    took
}

#[test]
fn many_requests_are_under_way_although_two_threads_decode() {
    within(Duration::from_mins(3), || {
        let seed = fresh_seed();
        for sharded in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let expected = written(folder.path(), sharded, seed);
            let Some(server) = servers::files(folder.path()) else { return };
            let run = |max_requests: usize| {
                let proxy = Proxy::new(server.port, |_| (Duration::from_millis(20), Fate::Pass));
                let url = format!("http://127.0.0.1:{}", proxy.port);
                let options = RemoteOptions { max_requests, ..impatient() };
                let took = load_all(&url, &options, &expected);
                (took, proxy.asked().len(), proxy.most_under_way())
            };
            let (alone, requests, under_way) = run(0);
            assert!(under_way <= 3, "{under_way} under way without any ahead");
            for max_requests in [4, 32] {
                let (took, its, under_way) = run(max_requests);
                let times = alone.as_secs_f64() / took.as_secs_f64();
                println!(
                    "sharded {sharded}, {max_requests} ahead: {took:?} and {its} requests, {under_way} at a time; alone {alone:?} and {requests}: {times:.1} x"
                );
                if max_requests == 32 {
                    assert!(times > 2.0, "{took:?} against {alone:?}");
                }
                assert!(its <= requests, "nothing is fetched twice: {its} of {requests}");
            }
        }
    });
}

#[test]
fn a_shard_that_is_written_anew_is_an_error_and_never_a_mixture() {
    within(Duration::from_mins(1), || {
        let mut seed = fresh_seed();
        let folder = tempfile::tempdir().unwrap();
        let mut before = written(folder.path(), true, seed);
        let Some(server) = servers::files(folder.path()) else { return };
        let url = format!("http://127.0.0.1:{}", server.port);
        let open = || dataset_at(&url, "", &impatient()).unwrap();
        let tile = |x: u64| Region::new(Coord::new(16 * x, 0, 0), Extent::cube(16));
        // A chunk that the old index knows to be missing is not asked for, and rightly what it was.
        let is_there = |bytes: &[u8]| bytes.windows(4).any(|voxels| voxels[..2] != voxels[2..]);
        while !is_there(&bytes_of(&open(), tile(1)).unwrap()) {
            seed += 1;
            before = written(folder.path(), true, seed);
        }
        let dataset = open();
        let old = bytes_of(&dataset, tile(0)).unwrap();
        let after = written(folder.path(), true, seed + 1);
        assert_ne!(before, after);
        let error = bytes_of(&dataset, tile(1)).unwrap_err();
        assert!(error.to_string().contains("changed while it was read"), "{error}");
        let new = open();
        assert_ne!(bytes_of(&new, tile(0)).unwrap(), old);
        assert!(bytes_of(&new, Region::whole(new.extent())).unwrap() == after);
    });
}

#[test]
fn a_chunk_that_is_missing_is_fill_and_one_that_is_forbidden_is_told() {
    within(Duration::from_mins(1), || {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), false, 5);
        let Some(server) = servers::files(folder.path()) else { return };
        let judge = |asked: &Asked| {
            let said = |status| Fate::Answer { status, headers: "", body: vec![] };
            let fate = match asked.path.as_str() {
                "/c/0/0/1" => said(404),
                "/c/0/0/2" => said(403),
                "/c/0/0/3" => Fate::Close,
                _ => Fate::Pass,
            };
            (Duration::ZERO, fate)
        };
        let proxy = Proxy::new(server.port, judge);
        let url = format!("http://127.0.0.1:{}", proxy.port);
        for forbidden_is_missing in [false, true] {
            let options = RemoteOptions { forbidden_is_missing, ..impatient() };
            let zarr = Zarr::open_url(&url, &options).unwrap();
            let source = zarr.arrays()[0].source::<u16>(&ZarrSlice::last(3)).unwrap();
            let pool = Pool::new(HostBackend::new(), 4 << 20).unwrap();
            let array = SparseArray3D::builder(&pool, source).tile(Extent::cube(16)).build().unwrap();
            let tiles: Vec<_> = (0..5).map(|x| TileCoord::new(x, 0, 0)).collect();
            let report = array.request(&tiles).unwrap();
            let told: Vec<_> =
                report.failed.iter().map(|failure| (failure.tile.x, failure.error.to_string())).collect();
            let text = |x: u64| told.iter().find(|(its, _)| *its == x).map_or("", |(_, text)| text.as_str());
            assert!(text(3).contains("c/0/0/3: the whole object failed 3 time(s)"), "{told:?}");
            assert_eq!(
                text(2).contains("c/0/0/2: the whole object was refused: HTTP 403"),
                !forbidden_is_missing
            );
            assert_eq!(told.len(), if forbidden_is_missing { 1 } else { 2 }, "{told:?}");
            assert_eq!(array.get([16, 0, 0]).unwrap(), 9, "missing is fill");
            assert!(array.is_resident(TileCoord::new(4, 0, 0)), "the others are there");
        }
    });
}

#[test]
fn the_version_is_another_when_the_volume_is_written_anew() {
    within(Duration::from_mins(1), || {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), false, 5);
        let Some(server) = servers::files(folder.path()) else { return };
        let url = format!("http://127.0.0.1:{}", server.port);
        let version = |options: &RemoteOptions| Zarr::open_url(&url, options).unwrap().version().unwrap();
        let first = version(&impatient());
        assert_eq!(version(&impatient()), first);
        let path = folder.path().join("zarr.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"attributes\": {}", "\"attributes\": {\"a\": 1}") + " ").unwrap();
        assert_ne!(version(&impatient()), first);
        let given = RemoteOptions { version: Some("2024-05".into()), ..impatient() };
        assert_eq!(version(&given), "2024-05");
    });
}

#[test]
fn an_address_without_a_volume_says_so() {
    within(Duration::from_mins(1), || {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zarr.json"), "{ \"zarr_format\": 3, ").unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        let Some(server) = servers::files(folder.path()) else { return };
        let url = format!("http://127.0.0.1:{}", server.port);
        let text = |url: &str| Zarr::open_url(url, &impatient()).unwrap_err().to_string();
        assert!(
            text(&format!("{url}/empty")).contains(&format!("{url}/empty")),
            "{}",
            text(&format!("{url}/empty"))
        );
        assert!(text(&url).contains(&format!("{url}/zarr.json")), "{}", text(&url));
        assert!(text("gopher://x/y").contains("gopher"));
        let stopped = Arc::new(AtomicBool::new(false));
        let its = stopped.clone();
        let proxy = Proxy::new(server.port, move |_| {
            let stopped = its.load(Ordering::SeqCst);
            (Duration::ZERO, if stopped { Fate::Silence } else { Fate::Pass })
        });
        stopped.store(true, Ordering::SeqCst);
        let silent = text(&format!("http://127.0.0.1:{}", proxy.port));
        assert!(silent.contains("no answer within"), "{silent}");
    });
}

#[test]
fn an_address_is_opened_as_a_path_is_and_fetched_ahead() {
    within(Duration::from_mins(1), || {
        let Some(server) = servers::files(&fixtures()) else { return };
        let proxy = Proxy::new(server.port, |_| (Duration::from_millis(20), Fate::Pass));
        let url = format!("http://127.0.0.1:{}/ome_zarr/brain_v0.5.ome.zarr", proxy.port);
        let options = vastgrid::open::OpenOptions { remote: impatient() };
        let opened = vastgrid::open::open_with(&url, &options).unwrap();
        assert_eq!((opened.location(), opened.version().is_some()), (url.as_str(), true));
        let local = vastgrid::open(fixtures().join("ome_zarr/brain_v0.5.ome.zarr")).unwrap();
        assert_eq!(local.version(), None);
        assert_eq!(opened.entries()[0].levels, local.entries()[0].levels);
        let voxels = |opened: &vastgrid::open::Opened| {
            let dataset = opened.dataset(&vastgrid::open::Selection::default()).unwrap();
            bytes_through_array(dataset, [16, 16, 16])
        };
        assert!(voxels(&opened) == voxels(&local));
        assert!(proxy.most_under_way() > 3, "{} at a time", proxy.most_under_way());
    });
}
