//! Remote stores: what is read is what the server has, or an error that says what is wrong, in bounded time, whatever servers and lines do.
//!
//! The servers are packaged ones that the tests start (see `cloud_support/servers.rs`); what goes wrong is done by a proxy before them.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::single_range_in_vec_init,
    clippy::type_complexity,
    reason = "objects of a few thousand bytes, asked for one range at a time"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vastgrid::RemoteError;
use vastgrid::source::{RemoteOptions, RemoteStore};

use cloud_support::proxy::{Asked, Fate, Proxy};
use cloud_support::{fresh_seed, impatient, s3_options, servers};
use common::{Random, within};
use zarrs::storage::{ListableStorageTraits, StorePrefix};

mod cloud_support;
mod common;

fn random_bytes(random: &mut Random, count: usize) -> Vec<u8> {
    (0..count).map(|_| random.below(256) as u8).collect()
}

/// A folder with one file, and a server over it.
fn one_file(contents: &[u8]) -> Option<(tempfile::TempDir, servers::Server)> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("object"), contents).unwrap();
    let server = servers::files(folder.path())?;
    Some((folder, server))
}

fn over(port: u16, options: &RemoteOptions) -> RemoteStore {
    RemoteStore::open(&format!("http://127.0.0.1:{port}"), options).unwrap()
}

fn part<'a>(contents: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    &contents[range.start as usize..range.end as usize]
}

fn random_ranges(random: &mut Random, bytes: u64, most: u64) -> Vec<Range<u64>> {
    (0..=random.below(most))
        .map(|_| {
            let start = random.below(bytes);
            start..start + 1 + random.below((bytes - start).min(5000))
        })
        .collect()
}

/// Reads everything there is to be read of an object, and compares.
fn check_reads(store: &RemoteStore, key: &str, contents: &[u8], random: &mut Random) {
    assert_eq!(store.object(key).unwrap().unwrap(), contents);
    assert_eq!(store.object_bytes(key).unwrap(), Some(contents.len() as u64));
    for _ in 0..10 {
        let ranges = random_ranges(random, contents.len() as u64, 12);
        let found = store.ranges(key, &ranges).unwrap().unwrap();
        assert_eq!(found.len(), ranges.len());
        for (range, found) in ranges.iter().zip(found) {
            assert!(found == part(contents, range), "{range:?}");
        }
        let last = 1 + random.below(contents.len() as u64);
        let found = store.last(key, last).unwrap().unwrap();
        assert!(found == contents[contents.len() - last as usize..], "the last {last}");
    }
    for missing in ["nothing", "no/such/object"] {
        assert_eq!(store.object(missing).unwrap(), None);
        assert_eq!(store.object_bytes(missing).unwrap(), None);
        assert_eq!(store.last(missing, 5).unwrap(), None);
        assert_eq!(store.ranges(missing, &[0..5, 7..9]).unwrap(), None);
    }
    let beyond = contents.len() as u64;
    for error in [
        store.ranges(key, &[beyond - 1..beyond + 1]).unwrap_err(),
        store.last(key, beyond + 1).unwrap_err(),
        store.ranges(key, &[0..u64::MAX]).unwrap_err(),
    ] {
        assert!(
            matches!(*error, RemoteError::Beyond { object_bytes, .. } if object_bytes == beyond),
            "{error}"
        );
    }
}

#[test]
fn parts_of_files_on_a_web_server_are_what_the_files_hold() {
    within(Duration::from_mins(1), || {
        let mut random = Random::new(fresh_seed());
        let contents = random_bytes(&mut random, 100_000);
        let Some((_folder, server)) = one_file(&contents) else { return };
        check_reads(&over(server.port, &impatient()), "object", &contents, &mut random);
    });
}

#[test]
fn parts_of_objects_in_s3_are_what_was_put_there() {
    within(Duration::from_mins(1), || {
        let mut random = Random::new(fresh_seed());
        let contents = random_bytes(&mut random, 100_000);
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "parts");
        servers::put_object(port, "parts", "some/where/object", &contents);
        for options in [s3_options(port), RemoteOptions { anonymous: true, ..s3_options(port) }] {
            let store = RemoteStore::open("s3://parts/some", &options).unwrap();
            check_reads(&store, "where/object", &contents, &mut random);
        }
    });
}

#[test]
fn google_and_azure_are_asked_in_their_own_way() {
    within(Duration::from_mins(1), || {
        // A web server over such a tree answers as they do, as far as reading goes.
        let mut random = Random::new(fresh_seed());
        let contents = random_bytes(&mut random, 50_000);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("box/some")).unwrap();
        std::fs::write(folder.path().join("box/some/object"), &contents).unwrap();
        let Some(server) = servers::files(folder.path()) else { return };
        let endpoint = Some(format!("http://127.0.0.1:{}", server.port));
        let google = RemoteOptions { endpoint: endpoint.clone(), ..impatient() };
        let store = RemoteStore::open("gs://box/some", &google).unwrap();
        check_reads(&store, "object", &contents, &mut random);
        let account = vec![("azure_storage_account_name".to_owned(), "somebody".to_owned())];
        let azure = RemoteOptions { endpoint, settings: account, ..impatient() };
        for url in ["az://box/some", "abfss://box/some"] {
            check_reads(&RemoteStore::open(url, &azure).unwrap(), "object", &contents, &mut random);
        }
    });
}

#[test]
fn a_bucket_is_listed_page_by_page_and_below_the_address_alone() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        servers::make_bucket(port, "listed");
        for key in ["v/zarr.json", "v/0/zarr.json", "v/0/c/0/0", "v/1/zarr.json", "vv/zarr.json", "zarr.json"]
        {
            servers::put_object(port, "listed", key, key.as_bytes());
        }
        // More than a page of a thousand.
        for i in 0..1005 {
            servers::put_object(port, "listed", &format!("v/many/{i}"), b"");
        }
        let options = RemoteOptions { stall_timeout: Duration::from_secs(5), ..s3_options(port) };
        let store = RemoteStore::open("s3://listed/v", &options).unwrap();
        let dir = |prefix: &str| {
            let listed = store.list_dir(&StorePrefix::new(prefix).unwrap()).unwrap();
            let keys: Vec<_> = listed.keys().iter().map(|key| key.as_str().to_owned()).collect();
            let folders: Vec<_> = listed.prefixes().iter().map(|prefix| prefix.as_str().to_owned()).collect();
            (keys, folders)
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(dir(""), (names(&["zarr.json"]), names(&["0/", "1/", "many/"])));
        assert_eq!(dir("0/"), (names(&["0/zarr.json"]), names(&["0/c/"])));
        assert_eq!(dir("nothing/"), (vec![], vec![]));
        assert_eq!(dir("many/").0.len(), 1005);
        assert_eq!(store.list().unwrap().len(), 1009);
        assert_eq!(store.size_prefix(&StorePrefix::new("0/").unwrap()).unwrap(), 22);
        let all = RemoteStore::open("s3://listed", &options).unwrap();
        assert_eq!(all.list().unwrap().len(), 1011);
    });
}

/// What may happen to an answer and pass again.
fn passing_fault(random: &mut Random, bytes: usize) -> (Duration, Fate) {
    let cut = random.below(bytes as u64 + 1) as usize;
    let answer = |status, headers| Fate::Answer { status, headers, body: b"busy".to_vec() };
    let fate = match random.below(16) {
        0 => answer(503, ""),
        1 => answer(500, ""),
        2 => answer(429, "Retry-After: 0\r\n"),
        3 => Fate::Close,
        4 => Fate::Reset,
        5 => Fate::Cut(cut),
        6 => Fate::CutReset(cut),
        7 => Fate::Stall(cut),
        8 => Fate::Shorter(1 + cut / 2),
        9 => Fate::Longer(1 + cut),
        10 => Fate::Headers(vec![("content-length", "1000000000000000000".into())]),
        11 => Fate::Headers(vec![("content-range", "bytes 0-18446744073709551614/100".into())]),
        _ => Fate::Pass,
    };
    (Duration::from_millis(random.below(8)), fate)
}

#[test]
fn whatever_passes_again_is_overcome_or_told() {
    within(Duration::from_mins(2), || {
        let mut random = Random::new(fresh_seed());
        let contents = Arc::new(random_bytes(&mut random, 60_000));
        let Some((_folder, server)) = one_file(&contents) else { return };
        let dice = std::sync::Mutex::new(random.clone());
        let proxy = Proxy::new(server.port, move |_| passing_fault(&mut dice.lock().unwrap(), 3000));
        let options = RemoteOptions {
            stall_timeout: Duration::from_millis(150),
            attempts: 5,
            first_backoff: Duration::from_millis(1),
            ..impatient()
        };
        let store = over(proxy.port, &options);
        let (mut right, mut told) = (0, 0);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|reader| {
                    let (store, contents) = (store.clone(), contents.clone());
                    let mut random = Random::new(random.below(1 << 30) + reader);
                    scope.spawn(move || {
                        let mut counts = (0, 0);
                        for _ in 0..60 {
                            let ranges = random_ranges(&mut random, contents.len() as u64, 2);
                            match store.ranges("object", &ranges) {
                                Ok(found) => {
                                    for (range, found) in ranges.iter().zip(found.unwrap()) {
                                        assert!(found == part(&contents, range), "{range:?}");
                                    }
                                    counts.0 += 1;
                                }
                                Err(error) => {
                                    let text = error.to_string();
                                    assert!(text.contains("/object: bytes "), "{text}");
                                    assert!(matches!(*error, RemoteError::GaveUp { .. }), "{text}");
                                    counts.1 += 1;
                                }
                            }
                        }
                        counts
                    })
                })
                .collect();
            for reader in readers {
                let counts = reader.join().unwrap();
                right += counts.0;
                told += counts.1;
            }
        });
        println!("{right} right, {told} told, {} requests", proxy.asked().len());
        // Three of four answers are spoilt: about a quarter of the reads fail five times in a row.
        assert!(right > 60, "only {right} of 240 reads came through");
        assert!(proxy.asked().len() > 300, "the proxy did nothing");
    });
}

/// What a read comes to where every answer meets the same fate, and how long that takes.
fn always(
    options: &RemoteOptions,
    fate: impl Fn(&Asked) -> Fate + Send + Sync + 'static,
) -> Option<(Result<Vec<u8>, Arc<RemoteError>>, usize, Duration)> {
    let (_folder, server) = one_file(&[7; 1000])?;
    let proxy = Proxy::new(server.port, move |asked| (Duration::ZERO, fate(asked)));
    let store = over(proxy.port, options);
    let begun = Instant::now();
    let read = store.ranges("object", &[100..300]).map(|found| found.unwrap()[0].to_vec());
    Some((read, proxy.asked().len(), begun.elapsed()))
}

#[test]
fn what_does_not_pass_is_told_in_bounded_time_with_its_cause() {
    within(Duration::from_mins(2), || {
        let answer = |status, body: &str| Fate::Answer { status, headers: "", body: body.into() };
        let huge = || Fate::Answer { status: 500, headers: "", body: vec![b'x'; 20 << 20] };
        let long = |headers: Vec<(&'static str, String)>| Fate::Headers(headers);
        // What happens, how often it is tried, and what the error says.
        let cases: Vec<(Fate, usize, &str)> = vec![
            (
                answer(503, "<Error><Code>SlowDown</Code><Message>Less.</Message></Error>"),
                3,
                "HTTP 503 Service Unavailable: SlowDown: Less.",
            ),
            (answer(429, "slowly"), 3, "HTTP 429 Too Many Requests: slowly"),
            (huge(), 3, "HTTP 500 Internal Server Error"),
            (answer(403, ""), 1, "was refused: HTTP 403"),
            (answer(401, ""), 1, "was refused: HTTP 401"),
            (answer(400, "nonsense"), 1, "HTTP 400 Bad Request: nonsense"),
            (answer(200, "all of it"), 1, "sends no parts"),
            (Fate::Close, 3, "connection closed"),
            (Fate::Reset, 3, "eset"),
            (Fate::Cut(50), 3, "after 50 of 200 bytes"),
            (Fate::CutReset(0), 3, ""),
            (Fate::Stall(60), 3, "silence for 400ms after 60 of 200 bytes"),
            (Fate::Silence, 3, "no answer within 400ms"),
            (Fate::Shorter(10), 3, "190 of 200 bytes came"),
            (Fate::Longer(10), 3, "more than the 200 bytes"),
            (long(vec![("content-range", "bytes 0-199/1000".into())]), 3, "100..300"),
            (long(vec![("content-range", "bytes nonsense".into())]), 3, "nonsense"),
            (long(vec![("content-range", format!("bytes 0-{}/9", u64::MAX))]), 3, "beyond 64 bits"),
            (long(vec![("content-length", u64::MAX.to_string())]), 3, ""),
        ];
        for (fate, attempts, says) in cases {
            let its = fate.clone();
            let Some((read, asked, took)) = always(&impatient(), move |_| its.clone()) else { return };
            let shown: String = format!("{fate:?}").chars().take(100).collect();
            let error = read.expect_err(&shown).to_string();
            println!("{shown}: {error} ({took:?})");
            assert!(error.contains(says), "{shown}: {error}");
            assert_eq!(asked, attempts, "{shown}: {error}");
            assert!(error.contains("/object") && error.len() < 400, "{shown}: {error}");
            if attempts > 1 {
                assert!(error.contains("bytes 100 to 300 failed 3 time(s)"), "{shown}: {error}");
            }
            assert!(took < Duration::from_secs(5), "{shown} took {took:?}");
        }
    });
}

/// Nothing of a secret may be in an error, whatever it is about.
fn open_error(url: &str, options: &RemoteOptions) -> String {
    let begun = Instant::now();
    let error = match RemoteStore::open(url, options) {
        Err(error) => error.to_string(),
        Ok(store) => store.object("object").unwrap_err().to_string(),
    };
    println!("{url}: {error} ({:?})", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10), "{url} took {:?}", begun.elapsed());
    assert!(!error.contains("s3cret"), "{error}");
    error
}

#[test]
fn a_store_that_cannot_be_reached_says_why() {
    within(Duration::from_mins(2), || {
        let options = impatient();
        let unresolved = open_error("http://no.such.host.invalid/v.zarr?key=s3cret", &options);
        assert!(unresolved.contains("http://no.such.host.invalid/v.zarr/object"), "{unresolved}");
        assert!(unresolved.contains("lookup") || unresolved.contains("dns"), "{unresolved}");

        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = open_error(&format!("http://user:s3cret@127.0.0.1:{free}/v"), &options);
        assert!(refused.contains("refused") && refused.contains("3 time(s)"), "{refused}");

        if let Some((_folder, plain)) = one_file(&[1; 10]) {
            let tls = open_error(&format!("https://127.0.0.1:{}/v", plain.port), &options);
            assert!(tls.contains("InvalidContentType"), "{tls}");
            assert!(tls.contains("1 time(s)"), "trying again does not help: {tls}");
        }

        let forbidden = RemoteOptions { allow_http: false, ..options.clone() };
        let text = open_error("http://127.0.0.1/v", &forbidden);
        assert!(text.contains("not allowed"), "{text}");
        let text = open_error("ftp://user:s3cret@host/v", &options);
        assert!(text.contains("ftp"), "{text}");
        let unknown = RemoteOptions { settings: vec![("aws_nonsense".into(), "s3cret".into())], ..options };
        let text = open_error("s3://bucket/v", &unknown);
        assert!(text.contains("aws_nonsense"), "{text}");
    });
}

#[test]
fn missing_credentials_and_buckets_have_errors_of_their_own() {
    within(Duration::from_mins(2), || {
        let Some(port) = servers::s3() else { return };
        let text = open_error("s3://no-such-bucket-here/v", &s3_options(port));
        assert!(text.contains("NoSuchBucket"), "{text}");
        servers::make_bucket(port, "private");
        servers::put_private(port, "private", "object", b"mine");
        let anonymous = RemoteOptions { anonymous: true, ..s3_options(port) };
        let text = open_error("s3://private", &anonymous);
        assert!(text.contains("refused") && text.contains("forbidden_is_missing"), "{text}");
        let lenient = RemoteOptions { forbidden_is_missing: true, ..anonymous };
        assert_eq!(RemoteStore::open("s3://private", &lenient).unwrap().object("object").unwrap(), None);
        let mine = RemoteStore::open("s3://private", &s3_options(port)).unwrap();
        assert_eq!(mine.object("object").unwrap().unwrap(), &b"mine"[..]);

        // Half of a key pair, and none at all: the machine's own role is asked for then, here of a port where nobody is.
        let half = RemoteOptions {
            settings: vec![("aws_access_key_id".into(), "s3cret".into())],
            ..s3_options(port)
        };
        let none = RemoteOptions {
            settings: vec![("aws_metadata_endpoint".into(), "http://127.0.0.1:9".into())],
            ..s3_options(port)
        };
        let credential = |name: &str| ["KEY", "TOKEN", "CREDENTIALS"].iter().any(|part| name.contains(part));
        if std::env::vars().any(|(name, _)| name.starts_with("AWS_") && credential(&name)) {
            println!("skipped: there are credentials in the environment");
            return;
        }
        let text = open_error("s3://private", &half);
        assert!(text.contains("Missing SecretAccessKey"), "{text}");
        let text = open_error("s3://private", &none);
        assert!(text.contains("credentials for s3://private") && text.contains("anonymous"), "{text}");
    });
}

#[test]
fn a_secret_in_an_address_goes_with_requests_and_into_no_error() {
    within(Duration::from_mins(1), || {
        let Some((_folder, server)) = one_file(&[1; 100]) else { return };
        let proxy = Proxy::new(server.port, |asked| {
            let fate = if asked.path.contains("object") { Fate::Pass } else { Fate::Close };
            (Duration::ZERO, fate)
        });
        let url = format!("http://127.0.0.1:{}/?token=s3cret", proxy.port);
        let store = RemoteStore::open(&url, &impatient()).unwrap();
        assert_eq!(store.object("object").unwrap().unwrap().len(), 100);
        assert_eq!(proxy.asked()[0].path, "/object?token=s3cret");
        let error = store.object("other").unwrap_err().to_string();
        assert!(error.contains("/other") && !error.contains("s3cret"), "{error}");
        assert!(!format!("{store:?}").contains("s3cret"));
        let options = RemoteOptions { settings: vec![("a".into(), "s3cret".into())], ..impatient() };
        assert!(!format!("{options:?}").contains("s3cret"));
    });
}

#[test]
fn an_object_that_changes_between_its_parts_is_an_error() {
    within(Duration::from_mins(1), || {
        let Some((folder, server)) = one_file(&[1; 1000]) else { return };
        let path = folder.path().join("object");
        // With tags; with times alone; and where the server compares the tag itself.
        for mode in ["tags", "times", "conditions"] {
            std::fs::write(&path, [1; 1000]).unwrap();
            let changed = Arc::new(AtomicBool::new(false));
            let its = changed.clone();
            let proxy = Proxy::new(server.port, move |asked| {
                let changed = its.load(Ordering::SeqCst);
                let day = if changed { "Wed, 02" } else { "Tue, 01" };
                let time = ("last-modified", format!("{day} Dec 2020 00:00:00 GMT"));
                let fate = match mode {
                    "times" => Fate::Headers(vec![time, ("etag", String::new())]),
                    "conditions" if changed && asked.if_match.is_some() => {
                        Fate::Answer { status: 412, headers: "", body: vec![] }
                    }
                    _ => Fate::Pass,
                };
                (Duration::ZERO, fate)
            });
            let store = over(proxy.port, &impatient());
            assert_eq!(store.last("object", 10).unwrap().unwrap(), &[1; 10][..], "{mode}");
            assert_eq!(store.ranges("object", &[0..10]).unwrap().unwrap()[0], &[1; 10][..], "{mode}");
            std::fs::write(&path, [2; 1000]).unwrap();
            changed.store(true, Ordering::SeqCst);
            for _ in 0..2 {
                let error = store.ranges("object", &[500..510]).unwrap_err();
                println!("{mode}: {error}");
                assert!(matches!(*error, RemoteError::Changed { .. }), "{mode}: {error}");
            }
            let again = over(proxy.port, &impatient());
            assert_eq!(again.ranges("object", &[500..510]).unwrap().unwrap()[0], &[2; 10][..], "{mode}");
            std::fs::remove_file(&path).unwrap();
            if mode == "tags" {
                let error = again.ranges("object", &[500..510]).unwrap_err();
                assert!(error.to_string().contains("not there any more"), "{error}");
            }
        }
    });
}

#[test]
fn a_server_that_knows_no_last_bytes_is_asked_for_the_size() {
    within(Duration::from_mins(1), || {
        let contents: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        let Some((_folder, server)) = one_file(&contents) else { return };
        for status in [400, 416, 501, 200] {
            let proxy = Proxy::new(server.port, move |asked| {
                let last = asked.range.as_deref().is_some_and(|range| range.starts_with("bytes=-"));
                let answer = Fate::Answer { status, headers: "", body: vec![] };
                (Duration::ZERO, if last { answer } else { Fate::Pass })
            });
            let store = over(proxy.port, &impatient());
            for (request, bytes) in [(3, 10), (2, 20)] {
                let before = proxy.asked().len();
                assert_eq!(store.last("object", bytes).unwrap().unwrap(), contents[1000 - bytes as usize..]);
                assert_eq!(proxy.asked().len() - before, request, "{status}: it is not tried in vain twice");
            }
            assert_eq!(store.last("nothing", 10).unwrap(), None);
        }
    });
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    within(Duration::from_mins(1), || {
        let Some((_folder, server)) = one_file(&[1; 100]) else { return };
        let proxy = Proxy::new(server.port, |asked| {
            let busy = Fate::Answer { status: 503, headers: "Retry-After: 1\r\n", body: vec![] };
            (Duration::ZERO, if asked.nth == 0 { busy } else { Fate::Pass })
        });
        let options = RemoteOptions { max_backoff: Duration::from_millis(700), ..impatient() };
        let begun = Instant::now();
        assert_eq!(over(proxy.port, &options).object("object").unwrap().unwrap().len(), 100);
        // What the server asks for, as far as the caller has that patience.
        assert!((700..2000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    });
}

#[test]
fn an_object_beyond_the_limit_is_not_read() {
    within(Duration::from_mins(1), || {
        let Some((_folder, server)) = one_file(&[1; 5000]) else { return };
        let options = RemoteOptions { max_object_bytes: 4000, ..impatient() };
        let store = over(server.port, &options);
        for error in [store.object("object").unwrap_err(), store.ranges("object", &[0..4001]).unwrap_err()] {
            assert!(matches!(*error, RemoteError::TooLarge { limit_bytes: 4000, .. }), "{error}");
        }
        assert_eq!(store.ranges("object", &[0..4000]).unwrap().unwrap()[0].len(), 4000);
    });
}

#[test]
fn a_thread_of_another_runtime_reads_too() {
    within(Duration::from_mins(1), || {
        let Some((_folder, server)) = one_file(&[1; 100]) else { return };
        for threads in [1, 3] {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap();
            let port = server.port;
            let read = runtime.block_on(async move {
                tokio::spawn(async move { over(port, &impatient()).object("object").unwrap() }).await.unwrap()
            });
            assert_eq!(read.unwrap().len(), 100);
        }
    });
}

/// A folder of equal objects that nobody has fetched, behind a line on which every request takes so long.
fn slow_objects(
    count: usize,
    bytes: usize,
    delay_ms: u64,
) -> Option<(tempfile::TempDir, servers::Server, Proxy)> {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..count {
        std::fs::write(folder.path().join(i.to_string()), vec![i as u8; bytes]).unwrap();
    }
    let server = servers::files(folder.path())?;
    let proxy = Proxy::new(server.port, move |_| (Duration::from_millis(delay_ms), Fate::Pass));
    Some((folder, server, proxy))
}

fn read_objects(store: &RemoteStore, count: usize, bytes: usize) -> Duration {
    let begun = Instant::now();
    for i in 0..count {
        assert_eq!(store.object(&i.to_string()).unwrap().unwrap(), vec![i as u8; bytes], "object {i}");
    }
    begun.elapsed()
}

#[test]
fn what_is_announced_is_fetched_many_at_a_time_and_once() {
    within(Duration::from_mins(2), || {
        let (count, bytes) = (200, 4000);
        let Some((_folder, _server, proxy)) = slow_objects(count, bytes, 20) else { return };
        let names = || (0..count).map(|i| (i.to_string(), bytes as u64));
        let alone = read_objects(&over(proxy.port, &impatient()), count, bytes);
        assert_eq!((proxy.most_under_way(), proxy.asked().len()), (1, count));

        let store = over(proxy.port, &RemoteOptions { max_requests: 16, ..impatient() });
        store.announce_objects(names());
        let ahead = read_objects(&store, count, bytes);
        println!(
            "one thread: {alone:?} alone, {ahead:?} with 16 ahead, {:.1} x",
            alone.as_secs_f64() / ahead.as_secs_f64()
        );
        assert_eq!(proxy.asked().len(), 2 * count, "each object once");
        // 16 ahead, and what the thread that reads asks for itself where it comes first.
        assert!((8..=17).contains(&proxy.most_under_way()), "{} under way", proxy.most_under_way());
        assert!(ahead * 4 < alone, "{ahead:?} against {alone:?}");

        // What was taken is gone: whoever reads it again asks again.
        assert_eq!(store.object("7").unwrap().unwrap(), vec![7; bytes]);
        assert_eq!(proxy.asked().len(), 2 * count + 1);
    });
}

#[test]
fn what_is_fetched_ahead_is_bounded_in_bytes() {
    within(Duration::from_mins(1), || {
        let (count, bytes) = (40, 10_000);
        let Some((_folder, _server, proxy)) = slow_objects(count, bytes, 1) else { return };
        let options = RemoteOptions { ahead_bytes: 10 * bytes as u64, ..impatient() };
        let store = over(proxy.port, &options);
        store.announce_objects((0..count).map(|i| (i.to_string(), bytes as u64)));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(proxy.asked().len(), 10, "so many have room");
        // What is needed first is not kept waiting by what was announced before it, and everything comes once.
        assert_eq!(store.object("39").unwrap().unwrap(), vec![39; bytes]);
        assert_eq!(proxy.asked().len(), 11);
        read_objects(&store, count - 1, bytes);
        assert_eq!(proxy.asked().len(), count);
    });
}

#[test]
fn a_failure_ahead_is_told_to_whoever_waits_and_forgotten() {
    within(Duration::from_mins(1), || {
        let Some((_folder, server)) = one_file(&[3; 1000]) else { return };
        let broken = Arc::new(AtomicBool::new(true));
        let its = broken.clone();
        let proxy = Proxy::new(server.port, move |_| {
            let fate = if its.load(Ordering::SeqCst) { Fate::Close } else { Fate::Pass };
            (Duration::from_millis(100), fate)
        });
        let store = over(proxy.port, &impatient());
        store.announce_objects([("object".to_owned(), 1000)]);
        std::thread::sleep(Duration::from_millis(50));
        let error = store.object("object").unwrap_err();
        assert!(matches!(*error, RemoteError::GaveUp { attempts: 3, .. }), "{error}");
        assert_eq!(proxy.asked().len(), 3, "whoever waits does not begin anew");
        broken.store(false, Ordering::SeqCst);
        assert_eq!(store.object("object").unwrap().unwrap(), &[3; 1000][..]);
        store.announce_objects([("nothing".to_owned(), 1000)]);
        assert_eq!(store.object("nothing").unwrap(), None);
    });
}

#[test]
fn near_parts_are_fetched_together_and_far_ones_at_the_same_time() {
    within(Duration::from_mins(1), || {
        let mut random = Random::new(fresh_seed());
        let contents = random_bytes(&mut random, 200_000);
        let Some((_folder, server)) = one_file(&contents) else { return };
        let proxy = Proxy::new(server.port, |_| (Duration::from_millis(50), Fate::Pass));
        let store = over(proxy.port, &RemoteOptions { coalesce_bytes: 1000, ..impatient() });
        let ranges = [100..200, 1200..1300, 50_000..50_100, 199_000..199_100, 2300..2301];
        for announced in [false, true] {
            let before = proxy.asked().len();
            if announced {
                store.announce_ranges("object", &ranges, 1);
            }
            let found = store.ranges("object", &ranges).unwrap().unwrap();
            for (range, found) in ranges.iter().zip(found) {
                assert!(found == part(&contents, range), "{range:?}");
            }
            let asked: Vec<_> =
                proxy.asked()[before..].iter().filter_map(|asked| asked.range.clone()).collect();
            assert_eq!(asked.len(), 3, "{asked:?}");
            assert!(asked.contains(&"bytes=100-2300".to_owned()), "{asked:?}");
        }
        assert_eq!(proxy.most_under_way(), 3);
        // A part of what was announced is taken by itself, as inner chunks are; the rest stays.
        let before = proxy.asked().len();
        store.announce_ranges("object", &ranges[..2], 1);
        for range in &ranges[..2] {
            let found = store.ranges("object", std::slice::from_ref(range)).unwrap().unwrap();
            assert!(found[0] == part(&contents, range));
        }
        assert_eq!(proxy.asked().len() - before, 1);
        let found = store.ranges("object", &ranges[..1]).unwrap().unwrap();
        assert!(found[0] == part(&contents, &ranges[0]));
        assert_eq!(proxy.asked().len() - before, 2, "all of it was taken");
    });
}
