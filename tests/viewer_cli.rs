//! What the example viewer does with its arguments: pictures, files, ports, and what it says when something is wrong.
//!
//! The binary is the one that `cargo test` builds beside the tests.

mod viewer_support;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use viewer_support::{Served, ball, raw, text, viewer};

fn run(args: &[&str]) -> Output {
    viewer().args(args).output().unwrap()
}

/// Runs it, expects a failure of this exit code, and returns what it said.
fn failure(args: &[&str], code: i32) -> String {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    said
}

/// Renders into a file of its own and returns its bytes and what was printed.
fn picture(dir: &TempDir, name: &str, args: &[&str]) -> (Vec<u8>, String) {
    let path = text(&dir.path().join(name));
    let output = run(&[&["--png", &path, "--size", "96x72"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    (fs::read(&path).unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_budget_of_eight_tiles_gives_the_picture_of_a_large_one() {
    let dir = TempDir::new().unwrap();
    for mode in ["dvr", "shaded", "mip", "iso"] {
        let (large, _) = picture(&dir, "large.png", &["--mode", mode, "--budget", "64MiB"]);
        let (small, said) = picture(&dir, "small.png", &["--mode", mode, "--budget", "512KiB"]);
        assert!(small == large, "{mode}: another picture");
        assert!(said.contains("at most 524288 bytes of the budget of 524288 used"), "{said}");
        assert!(!said.contains(" 0 pages evicted"), "{mode}: the budget was never full: {said}");
    }
}

#[test]
fn zarr_folders_are_shown_in_either_version() {
    let dir = TempDir::new().unwrap();
    let fixture = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let (old, _) = picture(&dir, "old.png", &[&fixture("ome_zarr/brain_v0.4.ome.zarr")]);
    let (new, _) = picture(&dir, "new.png", &[&fixture("ome_zarr/brain_v0.5.ome.zarr")]);
    let (array, _) = picture(&dir, "array.png", &[&fixture("zarr_v3/sharded_i16.zarr")]);
    assert!(old == new && new != array);
    let text_of = failure(&["--png", "x.png", &text(dir.path())], 1);
    assert!(text_of.contains("of folders only those of Zarr are read"), "{text_of}");
}

#[test]
fn what_is_asked_for_is_what_is_shown() {
    let dir = TempDir::new().unwrap();
    let (first, _) = picture(&dir, "first.png", &[]);
    assert_eq!(&first[1..4], b"PNG");
    assert_eq!((&first[16..20], &first[20..24]), (&[0, 0, 0, 96][..], &[0, 0, 0, 72][..]));
    for other in [
        &["--azimuth", "-100"][..],
        &["--elevation", "80"],
        &["--zoom", "2"],
        &["--mode", "mip"],
        &["--mode", "iso", "--iso", "900"],
        &["--preset", "skin"],
        &["--window", "500"],
        &["--level", "500"],
        &["--step", "2"],
        &["--ortho"],
        &["--spacing", "1x1x2"],
    ] {
        assert!(picture(&dir, "other.png", other).0 != first, "{other:?} changed nothing");
    }
}

#[test]
fn raw_files_of_every_type_and_order_show_the_same() {
    let dir = TempDir::new().unwrap();
    let byte = |v: u16| [u8::try_from(v).unwrap()];
    let files = [
        ("u8", "little", raw(&dir, "u8", byte)),
        ("u16", "little", raw(&dir, "u16", u16::to_le_bytes)),
        ("u16", "big", raw(&dir, "u16be", u16::to_be_bytes)),
        ("i16", "little", raw(&dir, "i16", u16::to_le_bytes)),
        ("u32", "big", raw(&dir, "u32", |v| u32::from(v).to_be_bytes())),
        ("i32", "little", raw(&dir, "i32", |v| u32::from(v).to_le_bytes())),
        ("f32", "little", raw(&dir, "f32", |v| f32::from(v).to_le_bytes())),
        ("f64", "big", raw(&dir, "f64", |v| f64::from(v).to_be_bytes())),
    ];
    let mut pictures = Vec::new();
    for (scalar, endian, path) in &files {
        let args = [path, "--shape", "24x18x14", "--type", scalar, "--endian", endian, "--tile", "8"];
        pictures.push(picture(&dir, &format!("{scalar}-{endian}.png"), &args).0);
    }
    let empty = raw(&dir, "empty", |_| [0u8]);
    let (empty, _) = picture(&dir, "empty.png", &[&empty, "--shape", "24x18x14", "--type", "u8"]);
    assert!(pictures[0] != empty, "there is something to see");
    for (picture, (scalar, endian, _)) in pictures.iter().zip(&files) {
        assert!(*picture == pictures[0], "{scalar} {endian}");
    }
    // The same voxels, z fastest, behind a header of seven bytes.
    let mut out = vec![0u8; 7];
    for x in 0..24 {
        for y in 0..18 {
            out.extend((0..14).flat_map(|z| byte(ball([x, y, z]))));
        }
    }
    let path = dir.path().join("zyx");
    fs::write(&path, out).unwrap();
    let args = [&text(&path), "--shape", "24x18x14", "--type", "u8", "--order", "zyx", "--offset", "7"];
    assert!(picture(&dir, "zyx.png", &args).0 == pictures[0], "another order");
}

#[test]
fn spacing_comes_from_the_header() {
    let dir = TempDir::new().unwrap();
    let voxels = fs::read(raw(&dir, "voxels", |v| [u8::try_from(v).unwrap()])).unwrap();
    let header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 24 18 14\nspacings: 1 1 2.5\nencoding: raw\n\n";
    // Told by its first bytes, whatever its name is.
    let nrrd = dir.path().join("volume.dat");
    fs::write(&nrrd, [header.as_bytes(), &voxels].concat()).unwrap();
    let (from_header, _) = picture(&dir, "nrrd.png", &[&text(&nrrd)]);
    let path = text(&dir.path().join("voxels"));
    let args = [&path, "--shape", "24x18x14", "--type", "u8", "--spacing", "1x1x2.5"];
    assert!(picture(&dir, "raw.png", &args).0 == from_header);
    assert!(picture(&dir, "cubes.png", &args[..5]).0 != from_header);
}

#[test]
fn times_are_chosen_from_a_file_of_several() {
    let dir = TempDir::new().unwrap();
    let voxels = fs::read(raw(&dir, "voxels", |v| [u8::try_from(v).unwrap()])).unwrap();
    let header = "ObjectType = Image\nNDims = 4\nDimSize = 24 18 14 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n";
    let both = dir.path().join("both");
    fs::write(&both, [header.as_bytes(), &vec![0; voxels.len()], &voxels].concat()).unwrap();
    let (both, alone) = (text(&both), text(&dir.path().join("voxels")));
    let (second, _) = picture(&dir, "second.png", &[&both, "--time", "1"]);
    assert!(picture(&dir, "alone.png", &[&alone, "--shape", "24x18x14", "--type", "u8"]).0 == second);
    assert!(picture(&dir, "first.png", &[&both]).0 != second);
}

#[test]
fn bad_arguments_are_usage_errors() {
    for args in [
        &["--size", "0x5"][..],
        &["--size", "99999x99999"],
        &["--size", "7"],
        &["--budget", "lots"],
        &["--budget", "99999999999TiB"],
        &["--mode", "pretty"],
        &["--port", "70000"],
        &["--shape", "4x4x4"],
        &["--shape", "4x4x4", "--type", "u8"],
        &["file", "--shape", "4x4", "--type", "u8"],
        &["file", "--shape", "4x4x4", "--type", "u7"],
        &["file", "--type", "u8"],
        &["file", "--shape", "4x4x4", "--type", "u8", "--order", "xxy"],
        &["--no-such-thing"],
        &["--backend", "abacus"],
        &["--demo", "tiny"],
        &["--demo", "huge", "file"],
        &["--delay", "-1"],
        &["--channel", "1"],
        &["file", "--channel", "-1"],
        &["file", "--shape", "4x4x4", "--type", "u8", "--time", "1"],
    ] {
        let said = failure(args, 2);
        assert!(said.contains("Usage") || said.contains("--help"), "{args:?}: {said}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out.png");
    let png = text(&out);
    let voxels = raw(&dir, "voxels", |v| [u8::try_from(v).unwrap()]);
    let directory = text(dir.path());
    let nowhere = text(&dir.path().join("no/such/place.png"));
    let damaged = dir.path().join("damaged.nrrd");
    fs::write(&damaged, "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 24 18\n\n").unwrap();
    let damaged = text(&damaged);
    let nrrd = dir.path().join("good.nrrd");
    fs::write(&nrrd, "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n--------").unwrap();
    let nrrd = text(&nrrd);
    for (args, says) in [
        (&["--png", &nowhere][..], "place.png"),
        (&["--png", &directory], "writing"),
        (&["--png", &png, "--budget", "128KiB"], "the budget is 131072"),
        (&["--png", &png, "--budget", "1000"], "budget of 1000 bytes"),
        (&["--png", &png, "--tile", "33"], "power of two"),
        (&["--png", &png, "--page-bytes", "5000"], "5000"),
        (&["--png", &png, "--preset", "sepia"], "no preset is named sepia"),
        (&["--png", &png, "--zoom", "NaN"], "NaN"),
        (&["--png", &png, "--spacing", "1x0x1"], "spacing is 0"),
        (&["--png", &png, "no-such-file"], "opening no-such-file"),
        (&["--png", &png, &directory], "of no known format: it holds"),
        (&["--png", &png, &nrrd, "--time", "1"], "no time point 1"),
        (&["--png", &png, &nrrd, "--channel", "7"], "no channel 7"),
        (&["--png", &png, &nrrd, "--array", "other"], "there is no volume \"other\"; there are [\"0\"]"),
        (&["--png", &png, &voxels], "needs --shape and --type"),
        (&["--png", &png, &damaged], "field `encoding`"),
        (&["--png", &png, &voxels, "--shape", "24x18x15", "--type", "u8"], "too short"),
        (&["--png", &png, &voxels, "--shape", "24x18x14", "--type", "u16"], "too short"),
        (&["--png", &png, &voxels, "--shape", "0x18x14", "--type", "u8"], "empty"),
    ] {
        let said = failure(args, 1);
        assert!(said.starts_with("viewer: ") && said.contains(says), "{args:?}: {said}");
        assert!(!out.exists(), "{args:?} left a file");
    }
}

#[test]
fn a_picture_that_fails_leaves_the_one_before() {
    let dir = TempDir::new().unwrap();
    let (before, _) = picture(&dir, "out.png", &[]);
    let path = text(&dir.path().join("out.png"));
    failure(&["--png", &path, "--budget", "128KiB"], 1);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = failure(&["--no-open", "--port", &port], 1);
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("--port"), "{said}");
}

#[test]
fn only_pages_of_this_machine_are_answered() {
    let served = Served::new(&[]);
    let host = format!("Host: {}", served.address);
    let page = served.ask("/", &[&host]);
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("<canvas"), "{page:.100}");
    assert!(served.address.starts_with("127.0.0.1:"));
    let port = served.address.rsplit(':').next().unwrap();
    let localhost = format!("Host: localhost:{port}");
    assert!(served.ask("/", &[&localhost]).starts_with("HTTP/1.1 200 "));
    for part in ["/page.css", "/page.js", "/controls.js", "/overlay.js"] {
        assert!(page.contains(part) && served.ask(part, &[&host]).starts_with("HTTP/1.1 200 "), "{part}");
    }
    let named = format!("Host: evil.example:{port}");
    for headers in [
        &[named.as_str()][..],
        &["Host: 127.0.0.1.evil.example"],
        &[&host, "Origin: http://evil.example"],
        &[&host, "Origin: null"],
        &[&host, "Origin: http://127.0.0.1:1"],
        &[&host, "Origin: https://127.0.0.1"],
    ] {
        for path in ["/", "/page.js", "/socket"] {
            let answer = served.ask(path, headers);
            assert!(answer.starts_with("HTTP/1.1 403 "), "{path} {headers:?}: {answer:.100}");
        }
    }
}

#[test]
fn an_interrupt_ends_it_cleanly() {
    let mut served = Served::new(&[]);
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = served.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn the_built_in_volume_is_found_by_the_manifest_and_missed_by_name() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out.png");
    let elsewhere = |root: Option<PathBuf>| {
        let mut command = viewer();
        command.current_dir(dir.path()).env_remove("CARGO_MANIFEST_DIR").arg("--png").arg(&out);
        command
            .args(["--size", "32x32"])
            .envs(root.map(|root| ("CARGO_MANIFEST_DIR", root)))
            .output()
            .unwrap()
    };
    let found = elsewhere(Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))));
    assert!(found.status.success() && out.exists());
    let missed = elsewhere(None);
    let said = String::from_utf8_lossy(&missed.stderr);
    assert_eq!(missed.status.code(), Some(1));
    assert!(said.contains("assets/stent.nrrd is not here"), "{said}");
}

#[test]
fn a_device_makes_the_picture_and_where_there_is_none_that_is_said() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("device.png");
    let run = viewer().args(["--backend", "cuda", "--size", "64x48", "--png"]).arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    if run.status.success() {
        assert!(out.exists());
    } else {
        assert!(said.starts_with("viewer: --backend cuda: ") && !out.exists(), "{said}");
        assert_eq!(run.status.code(), Some(1));
    }
}

#[test]
fn a_volume_of_32_tebibytes_is_shown_from_anywhere() {
    let dir = TempDir::new().unwrap();
    let mut pictures = Vec::new();
    for zoom in ["1", "20", "3000"] {
        let (picture, said) = picture(&dir, "huge.png", &["--demo", "huge", "--zoom", zoom]);
        assert!(said.contains("exact"), "{said}");
        assert!(!pictures.contains(&picture), "{zoom}: the same");
        pictures.push(picture);
    }
}
