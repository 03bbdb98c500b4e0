//! What is fetched ahead, without any fetching: every order of announcing, fetching and taking leaves the books right.
#![allow(
    clippy::cast_possible_truncation,
    clippy::default_trait_access,
    reason = "objects of a few hundred bytes; a date of a crate that is not a dependency"
)]

use object_store::ObjectMeta;
use object_store::path::Path;

use super::*;
use crate::source::remote::versions::Version;

fn got(bytes: Vec<u8>) -> Got {
    let meta = ObjectMeta {
        location: Path::from("k"),
        last_modified: Default::default(),
        size: bytes.len() as u64,
        e_tag: None,
        version: None,
    };
    Got { version: Version::of(&meta), bytes: bytes.into() }
}

fn range(key: &str, start: u64, end: u64) -> Announced {
    let bytes = end - start;
    Announced { key: key.into(), part: Part::Range(start..end), most_bytes: bytes, wanted_bytes: bytes }
}

/// The bytes of a range of an object whose bytes are their offsets.
fn contents(part: &Part) -> Vec<u8> {
    let Part::Range(range) = part else { panic!("a range") };
    range.clone().map(|offset| offset as u8).collect()
}

fn serve(ahead: &Ahead) -> usize {
    let mut served = 0;
    while let Some(ticket) = ahead.next() {
        ahead.done(&ticket, Some(Ok(Some(got(contents(&ticket.part))))));
        served += 1;
    }
    served
}

fn is_empty(ahead: &Ahead) -> bool {
    let books = ahead.books();
    books.entries.is_empty() && books.by_key.is_empty() && books.bytes == 0 && books.under_way == 0
}

fn take(ahead: &Ahead, key: &str, range: std::ops::Range<u64>) -> Option<Vec<u8>> {
    ahead.take(key, &Part::Range(range)).map(|answer| answer.unwrap().unwrap().bytes.to_vec())
}

#[test]
fn parts_of_what_was_fetched_are_taken_until_all_of_it_was() {
    let ahead = Ahead::new(4, 1000);
    ahead.announce([range("k", 10, 30), range("k", 12, 20), range("k", 40, 50)]);
    assert_eq!(serve(&ahead), 2, "what lies within another is not fetched by itself");
    assert_eq!(take(&ahead, "k", 10..15), Some((10..15).collect()));
    assert_eq!(take(&ahead, "k", 25..31), None, "not all of it");
    assert_eq!(take(&ahead, "other", 10..15), None);
    assert_eq!(take(&ahead, "k", 15..30), Some((15..30).collect()));
    assert_eq!(take(&ahead, "k", 10..15), None, "gone");
    assert_eq!(take(&ahead, "k", 40..50), Some((40..50).collect()));
    assert!(is_empty(&ahead));
}

#[test]
fn what_waits_in_the_queue_is_left_to_whoever_needs_it() {
    let ahead = Ahead::new(1, 1000);
    ahead.announce([range("k", 0, 10), range("k", 20, 30)]);
    let first = ahead.next().unwrap();
    assert!(ahead.next().is_none(), "one at a time");
    assert_eq!(take(&ahead, "k", 20..30), None);
    ahead.done(&first, Some(Ok(None)));
    assert!(ahead.next().is_none(), "nobody fetches it twice");
    assert!(ahead.take("k", &Part::Range(0..10)).unwrap().unwrap().is_none(), "there is no such object");
    assert!(is_empty(&ahead));
}

#[test]
fn whoever_waits_gets_what_comes_a_failure_or_the_word_to_fetch_it() {
    for outcome in 0..3 {
        let ahead = Arc::new(Ahead::new(1, 1000));
        ahead.announce([range("k", 0, 10)]);
        let ticket = ahead.next().unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let ahead = ahead.clone();
                std::thread::spawn(move || ahead.take("k", &Part::Range(0..10)))
            })
            .collect();
        while ahead.books().entries.values().any(|entry| entry.waiting < 3) {
            std::thread::yield_now();
        }
        let failed = Arc::new(RemoteError::Missing { url: "k".into() });
        ahead.done(
            &ticket,
            match outcome {
                0 => Some(Ok(Some(got((0..10).collect())))),
                1 => Some(Err(failed)),
                _ => None,
            },
        );
        let answers: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        match outcome {
            0 => assert_eq!(answers.iter().filter(|answer| answer.is_some()).count(), 1, "taken once"),
            1 => assert!(answers.iter().all(|answer| matches!(answer, Some(Err(_))))),
            _ => assert!(answers.iter().all(Option::is_none)),
        }
        assert!(is_empty(&ahead), "{outcome}");
    }
}

#[test]
fn what_nobody_takes_gives_way_after_a_while() {
    let ahead = Ahead::new(4, 100);
    ahead.announce([range("a", 0, 100), range("b", 0, 50)]);
    assert_eq!(serve(&ahead), 1, "no room for the second");
    ahead.books().forget_stale(Instant::now());
    assert_eq!(ahead.books().entries.len(), 2);
    ahead.books().forget_stale(Instant::now() + 2 * STALE);
    assert!(is_empty(&ahead));
    ahead.announce([range("c", 0, 100)]);
    assert_eq!(serve(&ahead), 1);
    assert_eq!(take(&ahead, "c", 0..100).map(|bytes| bytes.len()), Some(100));
}

#[test]
fn any_order_of_events_leaves_the_books_right() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..50 {
        let ahead = Ahead::new(3, 60);
        let mut under_way: Vec<Ticket> = Vec::new();
        for _ in 0..200 {
            let (key, start) = (["a", "b"][random(2) as usize], random(50));
            match random(4) {
                0 => ahead.announce([range(key, start, start + 1 + random(30))]),
                1 => under_way.extend(ahead.next()),
                2 if !under_way.is_empty() => {
                    let ticket = under_way.swap_remove(random(under_way.len() as u64) as usize);
                    let answer = (random(4) > 0).then(|| Ok(Some(got(contents(&ticket.part)))));
                    ahead.done(&ticket, answer);
                }
                // Nobody waits here, where nobody else would hand it in.
                _ if under_way.iter().all(|ticket| ticket.key != key) => {
                    let end = start + 1 + random(10);
                    if let Some(bytes) = take(&ahead, key, start..end) {
                        assert_eq!(bytes, (start as u8..end as u8).collect::<Vec<_>>());
                    }
                }
                _ => {}
            }
            let books = ahead.books();
            assert_eq!(books.under_way, under_way.len());
            assert_eq!(books.bytes, books.entries.values().map(|entry| entry.held_bytes).sum::<u64>());
            assert!(books.bytes <= 60, "{} bytes held", books.bytes);
        }
        for ticket in under_way {
            ahead.done(&ticket, None);
        }
        ahead.books().forget_stale(Instant::now() + 2 * STALE);
        assert!(is_empty(&ahead));
    }
}
