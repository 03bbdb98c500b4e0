//! What the example viewer tells a page, and what it does when a page asks: true pictures, budgets, freezing, sources that stall or fail.

mod viewer_support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use vastgrid::trace::Trace;
use viewer_support::page::Page;
use viewer_support::{Served, raw, text};

#[test]
fn every_picture_says_how_true_it_is_and_how_long_it_took() {
    let served = Served::new(&[]);
    let mut page = Page::of(&served);
    assert_eq!(page.hello["extent"], json!([128, 128, 256]));
    assert_eq!(page.hello["levels"].as_array().unwrap().len(), 3);
    page.view(&json!({}));
    let first = page.until("a picture", |told| !told.picture.is_empty());
    assert_eq!(&first.picture[..2], b"\xff\xd8", "JPEG at first");
    assert_eq!(first.status["quality"]["uncovered_rays"], 0, "no hole");
    let last = page.settled();
    assert_eq!(&last.picture[1..4], b"PNG");
    let status = &last.status;
    assert_eq!((&status["quality"]["exact"], &status["quality"]["missing_tiles"]), (&json!(true), &json!(0)));
    let (first_ms, full_ms) = (status["first_ms"].as_f64().unwrap(), status["full_ms"].as_f64().unwrap());
    assert!(0.0 < first_ms && first_ms <= full_ms, "{first_ms} {full_ms}");
    // Windows without room, and views from nowhere.
    for odd in [
        json!({ "width": 0, "height": 0 }),
        json!({ "zoom": 1e300 }),
        json!({ "target": [1e300, 0, 0] }),
        json!({ "clip": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]] }),
    ] {
        page.view(&odd);
        let told = page.settled();
        assert_eq!(told.status["error"], "", "{odd}");
    }
}

#[test]
fn the_budget_shrinks_and_grows_and_what_it_cannot_be_is_said() {
    let served = Served::new(&[]);
    let mut page = Page::of(&served);
    page.view(&json!({}));
    page.settled();
    page.send(&json!({ "budget": 1 << 20 }));
    let small = page.until("1 MiB", |told| told.status["budget_bytes"] == 1 << 20);
    assert!(small.status["used_bytes"].as_u64().unwrap() <= 1 << 20, "{}", small.status);
    let small = page.settled();
    assert_eq!(small.status["quality"]["exact"], true, "{}", small.status);
    assert_eq!(small.status["quality"]["finished"], true, "tile by tile: {}", small.status);
    assert!(small.status["used_bytes"].as_u64().unwrap() <= 1 << 20);
    for bytes in [0, 1000, 1 << 16, 1u64 << 62] {
        page.send(&json!({ "budget": bytes }));
        let told = page.until("refused", |told| told.status["error"] != "");
        assert_eq!(told.status["budget_bytes"], 1 << 20, "{bytes}: as before");
        page.settled();
    }
    // The coarsest level, and nothing besides.
    page.send(&json!({ "budget": 1 << 17 }));
    let least = page.until("the least", |told| {
        told.status["state"] == "converged" && told.status["budget_bytes"] == 1 << 17
    });
    assert_eq!((&least.status["error"], &least.status["quality"]["limit"]), (&json!(""), &json!("budget")));
    assert_eq!(least.status["quality"]["uncovered_rays"], 0);
    page.send(&json!({ "budget": 16 << 20 }));
    let large = page.until("all of it", |told| {
        told.status["state"] == "converged" && told.status["budget_bytes"] == 16 << 20
    });
    assert_eq!(large.status["quality"]["exact"], true);
    assert_eq!(large.status["quality"]["finished"], false, "at once: {}", large.status);
}

#[test]
fn what_is_frozen_stays_and_what_is_flushed_begins_anew() {
    let served = Served::new(&["--budget", "32MiB"]);
    let mut page = Page::of(&served);
    page.send(&json!({ "overlay": true }));
    page.view(&json!({}));
    let settled = page.settled();
    assert!(!settled.status["overlay"]["tiles"].as_array().unwrap().is_empty());
    let loads = settled.status["loads"].clone();
    page.send(&json!({ "freeze": true }));
    page.view(&json!({ "azimuth": 200, "zoom": 3 }));
    let frozen = page.until("frozen", |told| told.status["state"] == "frozen");
    assert_eq!((&frozen.status["loads"], &frozen.status["evictions"]), (&loads, &json!(0)));
    page.send(&json!({ "freeze": false }));
    page.settled();
    page.send(&json!({ "flush": null }));
    let flushed = page.until("flushed", |told| !told.picture.is_empty());
    assert!(flushed.status["evictions"].as_u64().unwrap() > 0);
    assert_eq!(page.settled().status["quality"]["exact"], true);
    page.send(&json!({ "pick": [0.5, 0.5] }));
    let told = page.until("a place", |told| !told.status["picked"].is_null());
    assert_eq!(told.status["picked"]["at"].as_array().unwrap().len(), 3);
}

#[test]
fn what_a_page_has_no_reason_to_send_ends_its_connection() {
    let served = Served::new(&[]);
    for (message, says) in [
        (json!({ "view": { "zoom": "near" } }), "invalid type"),
        (json!({ "view": { "preset": "sepia" } }), "no preset is named sepia"),
        (json!({ "view": { "nonsense": 1 } }), "nonsense"),
        (json!({ "budget": -1 }), "invalid value"),
        (json!({ "pick": [2, 0] }), "no place"),
        (json!({ "dance": null }), "dance"),
    ] {
        let mut page = Page::of(&served);
        page.send(&message);
        let reason = loop {
            match page.next() {
                Ok(_) => {}
                Err(reason) => break reason,
            }
        };
        assert!(reason.contains(says), "{message}: {reason}");
    }
}

/// 96 x 96 x 96 voxels with something to see everywhere.
fn hills(dir: &TempDir, name: &str) -> String {
    let mut out = Vec::new();
    for z in 0..96u32 {
        for y in 0..96u32 {
            out.extend((0..96u32).map(|x| u8::try_from((x * y / 9 + z * 3) % 251).unwrap()));
        }
    }
    let path = dir.path().join(name);
    fs::write(&path, out).unwrap();
    text(&path)
}

const HILLS: [&str; 6] = ["--shape", "96x96x96", "--type", "u8", "--tile", "16"];

#[test]
fn what_cannot_be_read_any_more_is_shown_coarser_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let path = hills(&dir, "hills");
    let whole = fs::read(&path).unwrap();
    let served = Served::new(&[&[path.as_str()], &HILLS[..]].concat());
    fs::write(&path, &whole[..whole.len() / 3]).unwrap();
    let mut page = Page::of(&served);
    page.view(&json!({ "zoom": 4, "mode": "dvr" }));
    let failed = page.until("failures", |told| told.status["state"] == "converged");
    assert!(failed.status["quality"]["failed_tiles"].as_u64().unwrap() > 0, "{}", failed.status);
    assert_eq!(failed.status["quality"]["limit"], "tiles failed");
    assert_eq!(failed.status["quality"]["uncovered_rays"], 0, "no hole");
    assert!(failed.status["trouble"].as_str().unwrap().contains("level 0"), "{}", failed.status["trouble"]);
    fs::write(&path, &whole).unwrap();
    page.send(&json!({ "retry": null }));
    let mended = page.until("mended", |told| told.status["quality"]["exact"] == true);
    assert_eq!(mended.status["trouble"], "");
}

#[test]
fn a_source_that_stalls_keeps_no_picture_waiting() {
    let dir = TempDir::new().unwrap();
    let path = hills(&dir, "hills");
    let args = [&[path.as_str(), "--delay", "300"], &HILLS[..]].concat();
    let served = Served::new(&args);
    let mut page = Page::of(&served);
    page.view(&json!({ "zoom": 4, "mode": "dvr" }));
    let mut before = 0;
    let last = page.until("settled", |told| {
        assert_eq!(told.status["quality"]["uncovered_rays"], 0);
        before += u32::from(told.status["quality"]["missing_tiles"].as_u64().unwrap() > 0);
        told.status["state"] == "converged"
    });
    assert!(before >= 3, "it says so {before} times while things load");
    assert_eq!(last.status["quality"]["exact"], true);
}

#[test]
fn voxels_that_are_no_numbers_do_no_harm() {
    let dir = TempDir::new().unwrap();
    let odd = |v: u16| match v {
        0 => f32::NAN,
        1..30 => f32::NEG_INFINITY,
        v => f32::from(v),
    };
    let path = raw(&dir, "odd", |v| odd(v).to_le_bytes());
    let served = Served::new(&[&path, "--shape", "24x18x14", "--type", "f32", "--tile", "8"]);
    let mut page = Page::of(&served);
    for mode in ["dvr", "shaded", "mip", "iso"] {
        page.view(&json!({ "mode": mode }));
        let told = page.settled();
        assert_eq!(told.status["error"], "", "{mode}");
    }
}

#[test]
fn what_each_page_looked_at_is_recorded_even_when_the_viewer_is_interrupted() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("new/recordings");
    let mut served = Served::new(&["--record", &text(&folder)]);
    let recorded = |number: u32| folder.join(format!("{number}.trace"));
    let turns = |azimuths: &[f64]| {
        let mut page = Page::of(&served);
        for &azimuth in azimuths {
            page.view(&json!({ "azimuth": azimuth }));
            page.settled();
        }
        page
    };
    drop(turns(&[0.0, 40.0, 80.0]));
    let begun = Instant::now();
    while !recorded(1).is_file() {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing was recorded");
        std::thread::sleep(Duration::from_millis(20));
    }
    let _still_open = turns(&[10.0]);
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(served.child.wait().unwrap().success());
    let [first, second] = [1, 2].map(|number| Trace::read(recorded(number)).unwrap());
    assert!(first.frames.len() >= 3 && !second.frames.is_empty());
    assert!(first.frames.iter().any(|frame| !frame.outcome.loaded.is_empty()), "tiles came");
    assert_eq!(first.levels.len(), 3);
    assert!(!recorded(3).exists(), "one for each page");
}
