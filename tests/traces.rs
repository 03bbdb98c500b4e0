//! Traces: what was recorded is what a replay on the model gives, twice; and whatever a file holds, reading it is no panic.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::explored::{self, PAGE, around, hills, look, threadless};
use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::Camera;
use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::trace::{ReplayOptions, ReplaySteps, Trace, TraceError, TraceTile};
use vastgrid::{Coord, Explorer, Extent, HostBackend, Region, SourceError, StreamOptions, TileSource};

/// Hills and valleys; nothing at all in a quarter of the volume, which is known without reading it.
struct Hills(LevelGeometry);

impl TileSource<u8> for Hills {
    fn extent(&self) -> Extent {
        self.0.extent()
    }

    fn uniform(&self, region: Region) -> Option<u8> {
        let end = region.start.x + region.extent.x;
        (end as f64 * self.0.factor()[0] <= 32.0).then_some(0)
    }

    fn read(&self, region: Region, out: &mut [u8]) -> Result<(), SourceError> {
        let geometry = self.0;
        let value = move |c: Coord| {
            let [x, y, z] = geometry.centre(c);
            if x < 32.0 {
                return 0;
            }
            hills([x, y, z])
        };
        Procedural::new(geometry.extent(), value).read(region, out)
    }
}

fn explorer(pages: u64, options: StreamOptions) -> (Explorer<u8, HostBackend>, Vec<Instruments>) {
    let mut instruments = Vec::new();
    let explorer = explored::explorer(pages, 2, options, |geometry| {
        let source = Instrumented::new(Hills(geometry));
        instruments.push(source.instruments());
        source
    });
    (explorer, instruments)
}

fn camera(step: u32) -> Camera {
    around(f64::from(step) * 4.0, 110.0)
}

/// A walk, with so many requests made after each picture.
fn record(pages: u64, batch_tiles: usize, steps: usize) -> Trace {
    let (mut explorer, instruments) = explorer(pages, threadless(batch_tiles));
    instruments[0].fail_region(Region::new(Coord::new(48, 0, 50), Extent::new(8, 112, 8)));
    explorer.record();
    for step in 0..30 {
        match step {
            10 => explorer.pyramid().pool().set_budget((pages - 9) * PAGE).unwrap(),
            20 => explorer.pyramid().pool().set_budget((pages + 9) * PAGE).unwrap(),
            _ => {}
        }
        look(&mut explorer, &camera(step));
        for _ in 0..steps {
            explorer.streamer().step();
        }
    }
    explorer.take_trace().unwrap()
}

fn outcomes(trace: &Trace) -> Vec<vastgrid::trace::TraceOutcome> {
    trace.frames.iter().map(|frame| frame.outcome.clone()).collect()
}

#[test]
fn a_replay_gives_what_was_recorded_and_gives_it_twice() {
    for (pages, batch_tiles, steps) in [(60, 1, 12), (60, 4, 3), (4096, 16, 2), (25, 1, 40)] {
        let trace = record(pages, batch_tiles, steps);
        let all = outcomes(&trace);
        let count = |of: fn(&vastgrid::trace::TraceOutcome) -> usize| all.iter().map(of).sum::<usize>();
        let (loaded, uniform) = (count(|o| o.loaded.len()), count(|o| o.uniform.len()));
        assert!(loaded > 40 && uniform > 0, "something happens: {loaded} loaded, {uniform} uniform");
        assert!(count(|o| o.failed.len()) > 0 && trace.frames.iter().any(|f| f.outcome.hits > 0));
        assert!(pages > 100 || count(|o| o.evicted.len()) > 20, "the budget is felt");
        let first = trace.replay(&ReplayOptions::default()).unwrap();
        for (i, (recorded, replayed)) in all.iter().zip(&first).enumerate() {
            assert_eq!(recorded, replayed, "picture {i} at {pages} pages, {batch_tiles} tiles at a time");
        }
        assert_eq!(trace.replay(&ReplayOptions::default()).unwrap(), first);
    }
}

#[test]
fn a_recording_is_the_same_twice() {
    let single = rayon_like(|| record(60, 1, 12));
    assert_eq!(single, rayon_like(|| record(60, 1, 12)));
    assert_eq!(
        single.to_string(),
        record(60, 1, 12).to_string(),
        "by however many threads pictures are made"
    );
}

/// On another thread than the test's own.
fn rayon_like(work: impl FnOnce() -> Trace + Send) -> Trace {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn other_budgets_and_steps_are_the_same_each_time_and_keep_to_the_budget() {
    let trace = record(60, 1, 12);
    let mut last = 0;
    for pages in [20, 40, 80, 160] {
        let options = ReplayOptions { budget_bytes: Some(pages * PAGE), steps: ReplaySteps::All };
        let outcomes = trace.replay(&options).unwrap();
        assert_eq!(outcomes, trace.replay(&options).unwrap());
        let (mut there, mut hits) = (0, 0);
        for outcome in &outcomes {
            there += outcome.loaded.len();
            there -= outcome.evicted.len();
            assert!(there as u64 <= pages, "{there} tiles in {pages} pages");
            hits += outcome.hits;
        }
        assert!(hits >= last, "{hits} hits at {pages} pages, {last} at fewer");
        last = hits;
    }
    let few = ReplayOptions { steps: ReplaySteps::Requests(2), ..ReplayOptions::default() };
    let outcomes = trace.replay(&few).unwrap();
    assert!(outcomes.iter().all(|o| o.loaded.len() <= 2) && outcomes.iter().any(|o| o.loaded.len() == 2));
    assert!(trace.replay(&ReplayOptions { budget_bytes: Some(1), ..few }).is_err(), "no page fits");
}

#[test]
fn what_threads_did_is_recorded_too() {
    let (mut explorer, _) = explorer(60, StreamOptions::default());
    assert!(explorer.take_trace().is_none());
    explorer.record();
    for step in 0..10 {
        look(&mut explorer, &camera(step));
        explorer.wait_idle(Duration::from_secs(20));
    }
    let loaded = explorer.streamer().status().loaded;
    let trace = explorer.take_trace().unwrap();
    assert_eq!(trace.frames.iter().map(|f| f.outcome.loaded.len() as u64).sum::<u64>(), loaded);
    assert!(explorer.take_trace().is_none());
    assert_eq!(
        trace.replay(&ReplayOptions::default()).unwrap(),
        trace.replay(&ReplayOptions::default()).unwrap()
    );
}

#[test]
fn a_file_says_all_that_the_trace_does() {
    let trace = record(60, 2, 6);
    assert_eq!(Trace::parse(&trace.to_string()).unwrap(), trace);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walk.trace");
    trace.write(&path).unwrap();
    assert_eq!(Trace::read(&path).unwrap(), trace);
    let nowhere = folder.path().join("no/such/folder");
    assert!(trace.write(&nowhere).unwrap_err().to_string().contains("no/such/folder"));
}

const SMALL: &str = "vastgrid-trace 1
voxel 1
batch 1
level 64 64 64 by 1 1 1 tile 16 16 16 page 1 1 1
level 32 32 32 by 2 2 2 tile 16 16 16 page 1 1 1 # the coarsest
frame
camera 1 2 3 4 5 6 0 0 1 perspective 45
budget 65536
want 0 7*3 12
frame # the same again
drop 0 8
load 0 7
";

#[test]
fn what_is_wrong_with_a_file_is_told_by_line_and_word() {
    let trace = Trace::parse(SMALL).unwrap();
    assert_eq!((trace.frames.len(), trace.frames[1].changes.len()), (2, 1));
    let mut requests = trace.requests();
    assert_eq!(requests.next_frame().unwrap().1.len(), 4);
    assert_eq!(requests.next_frame().unwrap().1.len(), 3);
    for (from, to, told) in [
        ("vastgrid-trace 1", "vastgrid-trace 2", "line 1: begins with \"vastgrid-trace 2\""),
        ("voxel 1", "voxel 3", "line 2: bytes of a voxel is \"3\""),
        ("voxel 1", "", "no `voxel`"),
        ("batch 1", "batch 0", "line 3: tiles of a request is \"0\""),
        ("batch 1", "batch 1 2", "line 3: a word at the end is \"2\""),
        ("batch 1\n", "", "no `batch`"),
        ("64 64 64 by", "64 64 0 by", "line 4: an extent is \"0\""),
        ("64 64 64 by", "64 64 by", "line 4: an extent is \"by\""),
        ("by 1 1 1 tile", "by 1 nan 1 tile", "line 4: a factor is \"nan\""),
        ("by 1 1 1 tile", "by 1 0.5 1 tile", "line 4: a factor is"),
        ("tile 16 16 16 page 1 1 1\nlevel", "tile 16 15 16 page 1 1 1\nlevel", "line 4: a level: "),
        ("level 64 64 64", "level 99999999999 99999999999 99999999999", "line 4: a level: "),
        (
            "tile 16 16 16 page 1 1 1 #",
            "tile 16 16 16 page 1 1 1 absnt #",
            "line 5: a word at the end is \"absnt\"",
        ),
        ("frame\ncamera", "camera", "line 6: no `frame`"),
        ("camera 1 2 3 4", "camera 1 2 inf 4", "line 7: an eye is \"inf\""),
        ("perspective 45", "fisheye 45", "line 7: a projection is \"fisheye\""),
        ("perspective 45", "perspective -1", "line 7: an angle is \"-1\""),
        ("budget 65536\n", "", "no `budget`"),
        ("camera 1 2 3 4 5 6 0 0 1 perspective 45\n", "", "no `camera`"),
        ("want 0 7*3", "want 2 7*3", "line 9: a level is \"2\""),
        ("want 0 7*3", "want 0 63*2", "line 9: tile 63 of 2 at level 0: the level has 64 tiles"),
        ("want 0 7*3", "want 0 7*18446744073709551615", "line 9: tile 7 of 18446744073709551615"),
        ("want 0 7*3", "want 0 7*0", "line 9: tile 7 of 0"),
        ("want 0 7*3", "want 0 -7", "line 9: a tile is \"-7\""),
        ("want 0 7*3 12", "want 0 7*3 8", "line 9: a tile is"),
        ("drop 0 8", "bias 99", "line 11: a bias is \"99\""),
        ("drop 0 8", "order far", "line 11: an order is \"far\""),
        ("drop 0 8", "level 64 64 64 by 1 1 1 tile 16 16 16 page 1 1 1", "line 11: `level` is"),
        ("load 0 7", "lode 0 7", "line 12: a line's first word is \"lode\""),
        ("load 0 7", "hits -1", "line 12: tiles is \"-1\""),
    ] {
        let text = SMALL.replacen(from, to, 1);
        assert_ne!(text, SMALL, "{from}");
        let error = Trace::parse(&text).unwrap_err().to_string();
        assert!(error.contains(told), "{from} -> {to}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.trace");
    std::fs::write(&path, SMALL.replace("voxel 1", "voxel x")).unwrap();
    let error = Trace::read(&path).unwrap_err();
    assert!(
        matches!(error, TraceError::File { .. }) && error.to_string().contains("broken.trace: line 2"),
        "{error}"
    );
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(Trace::read(&path).is_err());
}

#[test]
fn a_small_file_does_not_make_much_of_itself() {
    let large = SMALL.replace("level 64 64 64", "level 1048576 1024 1024");
    assert!(Trace::parse(&large).is_ok(), "a large volume takes no memory");
    // Its coarsest level would, all of which is pinned.
    let pinned = large.replace("level 32 32 32", "level 524288 512 512");
    let told = Trace::parse(&pinned);
    assert!(matches!(told, Err(TraceError::TooMany { what: "tiles of the coarsest level", .. })), "{told:?}");
    let all = large.replace("7*3 12", "0*200000000");
    assert!(matches!(Trace::parse(&all), Err(TraceError::TooMany { line: 9, what: "tiles", .. })));
    let many = format!("{SMALL}{}", "frame\n".repeat(1 << 16));
    assert!(matches!(Trace::parse(&many), Err(TraceError::TooMany { what: "frames", .. })));
    let levels = SMALL.replacen(
        "level",
        &format!("{}level", "level 9 9 9 by 1 1 1 tile 1 1 1 page 1 1 1\n".repeat(20)),
        1,
    );
    assert!(matches!(Trace::parse(&levels), Err(TraceError::TooMany { what: "levels", .. })));
    // Nor does a replay: tiles of 16 TiB beside such of 4 KiB.
    let unlike = SMALL
        .replace(
            "level 64 64 64 by 1 1 1 tile 16 16 16",
            "level 65536 32768 16384 by 1 1 1 tile 32768 32768 16384",
        )
        .replace("0 7*3 12", "0 0*2")
        .replace("drop 0 8\nload 0 7", "load 0 1");
    let beyond = ReplayOptions { budget_bytes: Some(u64::MAX), steps: ReplaySteps::All };
    let told = Trace::parse(&unlike).unwrap().replay(&beyond);
    assert!(
        told.is_err() || told.is_ok_and(|outcomes| outcomes.iter().all(|outcome| outcome.loaded.is_empty()))
    );
    let long = SMALL.replace("perspective", &"x".repeat(1 << 20));
    assert!(Trace::parse(&long).unwrap_err().to_string().len() < 300);
}

#[test]
fn whatever_a_file_holds_it_is_read_or_refused() {
    let text = record(40, 1, 3).to_string();
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random(3) {
            let (at, letters) = (random(bytes.len()), b"0123456789-.* \nabelx#");
            match random(3) {
                0 => bytes[at] = letters[random(letters.len())],
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, letters[random(letters.len())]),
            }
        }
        match Trace::parse(std::str::from_utf8(&bytes).unwrap()) {
            Ok(trace) => {
                read += 1;
                let again = trace.to_string();
                assert!(Trace::parse(&again).unwrap().to_string() == again, "as it was");
                // Whatever it asks for, it is done or refused.
                if read % 20 == 0 {
                    let small = ReplayOptions { budget_bytes: Some(40 * PAGE), ..ReplayOptions::default() };
                    let _ = trace.replay(&small);
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 20 && refused > 20, "{read} read, {refused} refused");
}

#[test]
fn a_trace_made_by_hand_is_refused_where_it_cannot_be() {
    let good = Trace::parse(SMALL).unwrap();
    let mut trace = good.clone();
    trace.frames[0].changes[0].0 = TraceTile { level: 0, tile: vastgrid::TileCoord::new(9, 0, 0) };
    assert!(trace.replay(&ReplayOptions::default()).is_err());
    let mut trace = good.clone();
    trace.levels[0].tile = Extent::new(0, 3, 7);
    assert!(trace.replay(&ReplayOptions::default()).is_err());
    let _ = trace.to_string();
    let mut trace = good;
    trace.levels[1].is_available = false;
    trace.levels[0].is_available = false;
    let _ = trace.replay(&ReplayOptions::default());
}

#[test]
fn the_recorded_traces_replay_as_they_were_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/traces");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "trace") {
            continue;
        }
        assert!(path.metadata().unwrap().len() < 120 << 10, "{} is too large", path.display());
        let trace = Trace::read(&path).unwrap();
        assert_eq!(trace.to_string(), std::fs::read_to_string(&path).unwrap());
        let first = trace.replay(&ReplayOptions::default()).unwrap();
        // Those of the viewer were recorded while its threads loaded, which nobody does a second time alike.
        if !path.file_stem().unwrap().to_string_lossy().starts_with("viewer_") {
            assert_eq!(first, outcomes(&trace), "{}", path.display());
        }
        assert_eq!(first, trace.replay(&ReplayOptions::default()).unwrap());
        assert!(first.iter().map(|o| o.evicted.len()).sum::<usize>() > 100, "{}", path.display());
        names.push(path.file_stem().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["cuts", "orbit", "through", "viewer_ct", "viewer_planet", "zoom"]);
}
