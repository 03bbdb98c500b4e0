//! The example viewer in a real browser, headless: it shows a picture, turns, changes its colours, shrinks and grows its budget, shows tiles, and fits a phone.
//!
//! Skipped where there is no Chromium in the `PATH` and none is named by `$CHROMIUM`. Screenshots go to the folder `$VASTGRID_SCREENSHOTS`, where that is set.

mod viewer_support;

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use viewer_support::Served;
use viewer_support::browser::{Browser, chromium};

fn browser() -> Option<Browser> {
    let found = chromium();
    if found.is_none() {
        println!("skipped: no Chromium");
    }
    found.map(|chromium| Browser::new(&chromium))
}

/// Keeps what the window shows, if anyone wants to see it.
fn keep(browser: &mut Browser, name: &str) {
    let shot = browser.screenshot();
    let bytes = decoded(&shot);
    assert_eq!(&bytes[1..4], b"PNG", "{name}");
    if let Some(folder) = std::env::var_os("VASTGRID_SCREENSHOTS").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn decoded(base64: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = base64.bytes().filter(|&c| c != b'=').map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let word = four.iter().enumerate().fold(0u32, |word, (i, &d)| word | u32::from(d) << (18 - 6 * i));
        bytes.extend(&word.to_be_bytes()[1..four.len()]);
    }
    bytes
}

/// What the canvas shows, in whatever words tell one picture from another.
fn canvas(browser: &mut Browser, id: &str) -> String {
    browser.value(&format!("document.getElementById('{id}').toDataURL()")).as_str().unwrap().to_owned()
}

/// A window of that size, for fingers or a mouse, with the scan in it, as good as it gets.
fn opened(width: u32, height: u32, scale: u32, touch: bool) -> Option<(Browser, Served)> {
    let mut browser = browser()?;
    let served = Served::new(&[]);
    browser.resize(width, height, scale, touch);
    browser.go(&format!("http://{}/", served.address));
    browser.until(SETTLED);
    Some((browser, served))
}

const SETTLED: &str = "last && status.state === 'converged'";

#[test]
fn it_loads_turns_changes_its_colours_and_its_budget_and_shows_tiles() {
    let Some((mut browser, _served)) = opened(1280, 800, 1, false) else { return };
    assert_eq!(browser.value("status.quality.exact"), json!(true), "half of it holds the picture");
    assert_eq!(browser.value("document.getElementById('state').textContent"), json!("exact"));
    assert!(browser.value("status.first_ms <= status.full_ms && status.first_ms > 0") == json!(true));
    let first = canvas(&mut browser, "canvas");
    keep(&mut browser, "desktop.png");

    let azimuth = browser.value("view.azimuth").as_f64().unwrap();
    browser.drag([400.0, 400.0], [560.0, 430.0]);
    browser.until(&format!("Math.abs(view.azimuth - {azimuth}) > 30 && {SETTLED}"));
    let turned = canvas(&mut browser, "canvas");
    assert!(turned != first, "turned");

    browser.value("$('preset').value = 'bone'; $('preset').dispatchEvent(new Event('change'))");
    browser.until(&format!("view.preset === 'bone' && status.full_ms !== null && {SETTLED}"));
    browser.until(&format!("document.getElementById('canvas').toDataURL() !== {turned:?}"));

    // The slider's end is the coarsest level and one page; and back.
    let before = browser.value("status.budget_bytes").as_u64().unwrap();
    let budget = |bytes: &str| {
        format!("$('budget').value = Math.log2({bytes}); $('budget').dispatchEvent(new Event('input'))")
    };
    let evictions = browser.value("status.evictions").as_u64().unwrap();
    browser.value(&budget("1 << 20"));
    browser.until(&format!("Math.abs(status.budget_bytes - (1 << 20)) < 8 && {SETTLED}"));
    let used = browser.value("status.used_bytes").as_u64().unwrap();
    assert!(used <= 1 << 20, "{used}");
    assert!(browser.value("status.evictions").as_u64().unwrap() > evictions, "pages went");
    assert_eq!(browser.value("status.quality.finished"), json!(true), "tile by tile");
    browser.click("overlay");
    browser.until(&format!("drawn && drawn.tiles.length > 0 && !$('legend').hidden && {SETTLED}"));
    keep(&mut browser, "budget-of-1-mib.png");
    browser.value(&budget(&before.to_string()));
    browser
        .until(&format!("Math.abs(status.budget_bytes - {before}) < 8 && status.quality.exact && {SETTLED}"));

    let tiles = canvas(&mut browser, "tiles");
    keep(&mut browser, "tiles.png");
    browser.click("overlay");
    browser.until("$('legend').hidden");
    assert!(canvas(&mut browser, "tiles") != tiles, "tiles can be hidden");

    browser.click("freeze");
    browser.until("status.frozen && status.state === 'frozen'");
    browser.click("freeze");
    browser.until(&format!("!status.frozen && {SETTLED}"));
    let evictions = browser.value("status.evictions").as_u64().unwrap();
    browser.click("flush");
    browser.until(&format!("status.evictions > {evictions} && status.quality.exact && {SETTLED}"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn it_fits_a_phone() {
    let Some((mut browser, _served)) = opened(390, 844, 2, true) else { return };
    let fits = "document.documentElement.scrollWidth <= innerWidth && $('status').getBoundingClientRect().bottom <= innerHeight + 1";
    assert_eq!(browser.value(fits), json!(true));
    keep(&mut browser, "phone.png");
    browser.click("menu");
    browser.until("$('panel').classList.contains('open')");
    std::thread::sleep(std::time::Duration::from_millis(400));
    keep(&mut browser, "phone-controls.png");
    browser.click("overlay");
    browser.click("menu");
    browser.until(&format!("drawn && !$('panel').classList.contains('open') && {SETTLED}"));
    std::thread::sleep(std::time::Duration::from_millis(400));
    keep(&mut browser, "phone-tiles.png");
    // A window without room for a picture does no harm.
    browser.resize(390, 60, 1, true);
    std::thread::sleep(std::time::Duration::from_millis(300));
    browser.resize(390, 700, 1, true);
    browser.until(&format!("last && last.height > 100 && {SETTLED}"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn a_volume_of_32_tebibytes_can_be_flown_through() {
    let Some(mut browser) = browser() else { return };
    let served = Served::new(&["--demo", "huge", "--budget", "256MiB"]);
    browser.resize(900, 640, 1, false);
    browser.go(&format!("http://{}/", served.address));
    browser.until("last && status.first_ms !== null");
    assert_eq!(browser.value("about.extent.join()"), json!("32768,32768,32768"));
    browser.until("status.quality.share > 0.9 && status.quality.uncovered_rays === 0");
    keep(&mut browser, "huge.png");
    let (zoom, first) = (browser.value("view.zoom").as_f64().unwrap(), canvas(&mut browser, "canvas"));
    let number = browser.value("status.number").as_u64().unwrap();
    for _ in 0..6 {
        browser.wheel([300.0, 250.0], -300.0);
        std::thread::sleep(std::time::Duration::from_millis(80));
    }
    browser.until(&format!("view.zoom > {zoom} * 4 && wheel.place"));
    browser.until(&format!("status.number > {number} + 8 && status.state === 'loading'"));
    browser.until("status.quality.share > 0.5 && status.quality.uncovered_rays === 0");
    assert!(canvas(&mut browser, "canvas") != first, "nearer");
    keep(&mut browser, "huge-near.png");
    let target = browser.value("view.target.join()");
    browser.key("keyDown", "w");
    std::thread::sleep(std::time::Duration::from_millis(500));
    browser.key("keyUp", "w");
    assert!(browser.value("view.target.join()") != target, "flown on");
    browser.click("overlay");
    browser.until("drawn && drawn.tiles.length > 0 && status.quality.share > 0.3");
    keep(&mut browser, "huge-tiles.png");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
