//! Several writers of one prefix of an object store, and what a store says that is easily taken for something else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloud_support::proxy::{Fate, Proxy};
use cloud_support::{s3_options, servers};
use common::within;
use vastgrid::source::{RemoteOptions, RemoteStore, Zarr, ZarrSlice};
use vastgrid::store::{TileStore, ZarrCodec, ZarrOptions, ZarrStore};
use vastgrid::{Coord, Extent, Region, StoreError, TileSource};
use zarrs::storage::ListableStorageTraits;

mod cloud_support;
mod common;

const EXTENT: Extent = Extent::new(32, 8, 8);

fn options() -> ZarrOptions {
    ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(8)), ..ZarrOptions::default() }
}

fn resume() -> ZarrOptions {
    ZarrOptions { resume: true, ..options() }
}

fn replace() -> ZarrOptions {
    ZarrOptions { replace: true, ..options() }
}

fn patient(port: u16) -> RemoteOptions {
    RemoteOptions {
        stall_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(40),
        ..s3_options(port)
    }
}

fn begin(url: &str, port: u16, options: &ZarrOptions) -> Result<ZarrStore<u16>, StoreError> {
    ZarrStore::create_url(url, &patient(port), EXTENT, 0u16, options)
}

fn piece(nth: u64) -> Region {
    Region::new(Coord::new(8 * nth, 0, 0), Extent::cube(8))
}

fn fill(store: &ZarrStore<u16>, value: u16) -> Result<(), StoreError> {
    store.write_uniform(Region::whole(EXTENT), value)
}

fn found(url: &str, port: u16) -> Vec<u16> {
    let zarr = Zarr::open_url(url, &patient(port)).unwrap();
    let source = zarr.arrays()[0].source::<u16>(&ZarrSlice::last(3)).unwrap();
    let mut found = vec![0; 2048];
    source.read(Region::whole(EXTENT), &mut found).unwrap();
    found
}

fn keys(url: &str, port: u16) -> Vec<String> {
    let keys = RemoteStore::open(url, &patient(port)).unwrap().list().unwrap();
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

/// The error itself, of which several may have been told.
fn is_busy(error: &StoreError) -> bool {
    match error {
        StoreError::Shared(error) => is_busy(error),
        error => matches!(error, StoreError::Busy { .. }),
    }
}

#[test]
fn a_save_that_is_under_way_is_not_removed_unasked() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "unasked");
        let url = "s3://unasked/array.zarr";
        let first = begin(url, port, &options()).unwrap();
        for flushed in [false, true] {
            let error = begin(url, port, &options()).unwrap_err();
            assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
            if !flushed {
                first.write_uniform(piece(0), 1).unwrap();
                first.flush().unwrap();
            }
        }
        fill(&first, 1).unwrap();
        first.save().unwrap();
        assert_eq!(found(url, port), [1; 2048]);
    });
}

#[test]
fn whoever_is_overtaken_is_told_and_spoils_nothing() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "overtaken");
        for (nth, other) in [replace(), resume()].iter().enumerate() {
            let url = &format!("s3://overtaken/{nth}.zarr");
            let begun = || {
                let store = begin(url, port, &options()).unwrap();
                store.write_uniform(piece(0), 1).unwrap();
                store.flush().unwrap();
                store
            };
            let writes = begun();
            // Nobody has it any more, and yet somebody has.
            let saves = begin(url, port, &resume()).unwrap();
            let discards = begin(url, port, &resume()).unwrap();
            let second = begin(url, port, other).unwrap();
            assert_eq!(second.array().is_complete(piece(0)), other.resume);
            writes.write_uniform(piece(1), 5).unwrap();
            let error = writes.flush().unwrap_err();
            assert!(is_busy(&error), "{error}");
            let error = saves.save().unwrap_err();
            assert!(is_busy(&error), "{error}");
            let error = discards.discard().unwrap_err();
            assert!(is_busy(&error), "{error}");
            fill(&second, 2).unwrap();
            second.flush().unwrap();
            let late = begin(url, port, &resume()).unwrap();
            let error = second.save().unwrap_err();
            assert!(is_busy(&error), "{error}");
            late.save().unwrap();
            assert!(writes.save().is_err());
            assert_eq!(found(url, port), [2; 2048]);
            assert!(!keys(url, port).iter().any(|key| key.contains("vastgrid-save")));
        }
    });
}

#[test]
fn a_volume_that_was_published_meanwhile_is_neither_discarded_nor_written_to() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "published");
        let url = "s3://published/array.zarr";
        let writes = begin(url, port, &options()).unwrap();
        let discards = begin(url, port, &resume()).unwrap();
        let second = begin(url, port, &resume()).unwrap();
        fill(&second, 2).unwrap();
        second.save().unwrap();
        let before = keys(url, port);
        let error = discards.discard().unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        writes.write_uniform(piece(0), 5).unwrap();
        assert!(writes.flush().is_err());
        assert_eq!(keys(url, port), before);
        assert_eq!(found(url, port), [2; 2048]);
    });
}

#[test]
fn of_two_that_begin_or_publish_at_the_same_moment_one_is_told() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "moment");
        let url = "s3://moment/array.zarr";
        let first: Arc<Mutex<Option<ZarrStore<u16>>>> = Arc::default();
        let (has, over) = (first.clone(), AtomicBool::new(false));
        // Somebody else is quicker, by the time of one request.
        let proxy = Proxy::new(port, move |asked| {
            let is = |end: &str| asked.method == "PUT" && asked.path.ends_with(end);
            let begins = is("/00000000") && !over.load(Ordering::Relaxed);
            let publishes = is("array.zarr/zarr.json");
            if begins || publishes {
                over.store(true, Ordering::Relaxed);
                let how = if begins { options() } else { resume() };
                let quicker = std::thread::spawn(move || begin(url, port, &how).unwrap()).join().unwrap();
                if publishes {
                    std::thread::spawn(move || quicker.save().unwrap()).join().unwrap();
                } else {
                    *has.lock().unwrap() = Some(quicker);
                }
            }
            (Duration::ZERO, Fate::Pass)
        });
        let error = begin(url, proxy.port, &options()).unwrap_err();
        assert!(is_busy(&error), "{error}");
        drop(first.lock().unwrap().take().expect("it has begun"));
        let slower = begin(url, proxy.port, &resume()).unwrap();
        fill(&slower, 3).unwrap();
        let error = slower.save().unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        assert_eq!(found(url, port), [3; 2048]);
    });
}

#[test]
fn an_object_that_is_not_as_it_was_remembered_is_put_again() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "spoiled");
        let url = "s3://spoiled/array.zarr";
        // One is lost, although the store said that it has it.
        let proxy = Proxy::new(port, |asked| {
            let lost = asked.method == "PUT" && asked.path.ends_with("/c/0/0/1");
            let said = Fate::Answer { status: 200, headers: "ETag: \"lost\"\r\n", body: vec![] };
            (Duration::ZERO, if lost { said } else { Fate::Pass })
        });
        let store = begin(url, proxy.port, &options()).unwrap();
        fill(&store, 4).unwrap();
        // One is written again, and is another then.
        store.write_uniform(Region::new(Coord::default(), Extent::cube(4)), 0).unwrap();
        store.flush().unwrap();
        drop(store);
        let store = begin(url, port, &resume()).unwrap();
        let complete = [0, 1, 2, 3].map(|nth| store.array().is_complete(piece(nth)));
        assert_eq!(complete, [true, false, true, true]);
        store.write_uniform(piece(1), 4).unwrap();
        store.write_uniform(Region::new(Coord::default(), Extent::cube(4)), 4).unwrap();
        store.save().unwrap();
        assert_eq!(found(url, port), [4; 2048]);
    });
}

#[test]
fn what_is_left_of_a_save_is_removed_page_by_page() {
    within(Duration::from_mins(4), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "pages");
        let url = "s3://pages/array.zarr";
        drop(begin(url, port, &options()).unwrap());
        // S3 lists a thousand on a page.
        for nth in 0..2010 {
            servers::put_object(port, "pages", &format!("array.zarr/c/0/0/{nth}"), b"");
        }
        servers::put_object(port, "pages", "other.zarr/zarr.json", b"mine");
        let store = begin(url, port, &replace()).unwrap();
        assert_eq!(keys(url, port), [".vastgrid-save/00000000"]);
        store.discard().unwrap();
        assert_eq!(keys("s3://pages", port), ["other.zarr/zarr.json"]);
    });
}

#[test]
fn a_page_without_names_is_not_the_end_of_a_listing() {
    let page = |names: &[&str], next: Option<&str>| {
        let object = |name: &&str| {
            format!(
                "<Contents><Key>{name}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag><Size>1</Size></Contents>"
            )
        };
        let objects: String = names.iter().map(object).collect();
        let next = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
        format!("<ListBucketResult>{objects}{}</ListBucketResult>", next.unwrap_or_default()).into_bytes()
    };
    let proxy = Proxy::new(9, move |asked| {
        let with = |token: &str| asked.path.contains(&format!("continuation-token={token}"));
        let body = match asked.path.split('?').next() {
            Some(path) if path.starts_with("/circles") => {
                if with("a") {
                    page(&["v/b"], Some("a"))
                } else {
                    page(&["v/a"], Some("a"))
                }
            }
            _ if with("one") => page(&[], Some("two")),
            _ if with("two") => page(&[], Some("three")),
            _ if with("three") => page(&["v/b"], None),
            _ => page(&["v/a"], Some("one")),
        };
        (Duration::ZERO, Fate::Answer { status: 200, headers: "", body })
    });
    let list = |url: &str| RemoteStore::open(url, &patient(proxy.port)).unwrap().list();
    let found: Vec<_> = list("s3://names/v").unwrap().iter().map(|key| key.as_str().to_owned()).collect();
    assert_eq!(found, ["a", "b"]);
    let error = list("s3://circles/v").unwrap_err().to_string();
    assert!(error.contains("goes in circles"), "{error}");
}

#[test]
fn a_long_object_whose_answer_was_lost_is_there() {
    within(Duration::from_mins(4), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "lost");
        let lost = AtomicBool::new(false);
        let proxy = Proxy::new(port, move |asked| {
            let completes = asked.method == "POST" && asked.path.contains("uploadId=");
            let first = completes && !lost.swap(true, Ordering::Relaxed);
            (Duration::ZERO, if first { Fate::CutReset(0) } else { Fate::Pass })
        });
        let url = "s3://lost/array.zarr";
        // 40 MiB that are not compressed, in one object.
        let extent = Extent::new(512, 256, 320);
        let chunk = Extent::new(512, 256, 32);
        let options =
            ZarrOptions { chunk, shard: Some(extent), codec: ZarrCodec::None, ..ZarrOptions::default() };
        let store = ZarrStore::create_url(url, &patient(proxy.port), extent, 0u8, &options).unwrap();
        store.write_uniform(Region::whole(extent), 3).unwrap();
        store.save().unwrap();
        let posts = proxy
            .asked()
            .iter()
            .filter(|asked| asked.path.contains("uploadId=") && asked.method == "POST")
            .count();
        assert_eq!(posts, 2, "it was tried again");
        assert!(keys(url, port).contains(&"c/0/0/0".to_owned()));
    });
}
