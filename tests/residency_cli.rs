//! The example `residency` from its command line: what it refuses and how it says so, the files that it writes, and that it can be ended early.
//!
//! The binary is the one that `cargo test` builds beside the tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

fn residency() -> Command {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples/residency");
    assert!(built.is_file(), "{} is not there: cargo build --example residency", built.display());
    // Nor is it another one: `cargo test --test` of a single test builds no example.
    assert!(
        newest(Path::new("examples/residency")) <= modified(&built),
        "{} is older than its source: cargo build --example residency",
        built.display()
    );
    let mut command = Command::new(built);
    command.stdin(Stdio::null());
    command
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs it, expects a failure of this exit code, and returns what it complained of.
fn fails(args: &[&str], code: i32) -> String {
    let output = residency().args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    said
}

/// What it said, if it succeeded.
fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn results(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("results.json")).unwrap()).unwrap()
}

/// A run of the model that takes seconds, in a folder of its own.
fn model(dir: &TempDir) -> PathBuf {
    let out = dir.path().join("out");
    let args = ["model", "--quick", "--only", "scaling", "--seed", "7", "--out", &text(&out)];
    let said = said(&residency().args(args).output().unwrap());
    assert!(said.contains(&format!("written to {}", out.display())), "{said}");
    out
}

#[test]
fn unknown_words_are_refused_with_a_usage() {
    for args in [
        &["hots"][..],
        &["--quik"],
        &["host", "--only", "cals"],
        &["model", "--only", "memory"],
        &["--quick", "--full"],
        &["--seed", "one"],
        &["--compare", "a"],
        &["--compare", "a", "b", "--quick"],
        &["host", "cuda"],
    ] {
        let said = fails(args, 2);
        assert!(said.contains("error:") && (said.contains("Usage") || said.contains("--help")), "{said}");
        let word = args.last().unwrap();
        assert!(said.contains(word) || args.len() > 2 || said.contains("--compare"), "{args:?}: {said}");
    }
    let said = fails(&["host", "--only", "cals"], 2);
    assert!(said.contains("'cals'") && said.contains("calls, "), "{said}");
}

#[test]
fn an_output_folder_that_cannot_be_written_to_is_found_out_first() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"no folder").unwrap();
    for out in [file.clone(), file.join("below")] {
        let said = fails(&["host", "--quick", "--out", &text(&out)], 1);
        assert!(said.contains(&text(&out)) && said.contains("cannot be written to"), "{said}");
    }
}

#[test]
fn without_a_device_cuda_is_refused() {
    if vastgrid::cuda::Device::open(0).is_ok() {
        println!("skipped: there is a CUDA device");
        return;
    }
    let said = fails(&["cuda", "--quick"], 1);
    assert!(said.contains("'cuda' needs a CUDA device"), "{said}");
}

#[test]
fn what_is_written_parses_and_is_the_same_as_itself() {
    let dir = TempDir::new().unwrap();
    let out = model(&dir);
    let all = results(&out);
    assert_eq!((&all["ended_early"], &all["settings"]["seed"]), (&Value::Bool(false), &Value::from(7)));
    assert_eq!(all["settings"]["on"], "model");
    for field in ["cpu", "cores", "memory_bytes", "kernel", "huge_pages"] {
        assert!(!all["machine"][field].as_str().unwrap().is_empty(), "{field}");
    }
    assert!(all["started"].as_str().unwrap() <= all["ended"].as_str().unwrap());
    let rows = all["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| !row["samples"].as_array().unwrap().is_empty()));
    let csv = fs::read_to_string(out.join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    let summary = fs::read_to_string(out.join("summary.txt")).unwrap();
    assert!(summary.contains(rows[0]["case"].as_str().unwrap()) && summary.contains("target "), "{summary}");
    for plot in all["plots"].as_array().unwrap() {
        let name = format!("{}.svg", plot["name"].as_str().unwrap());
        let svg = fs::read_to_string(out.join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains(plot["x"]["label"].as_str().unwrap()), "{svg}");
    }
    // Nothing half written is left.
    let names = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("part")));

    // The same by folder and by file.
    let (folder, file) = (text(&out), text(&out.join("results.json")));
    let said = said(&residency().args(["--compare", &folder, &file]).output().unwrap());
    let figures = |outside: u32, apart: u32| {
        format!(
            "{} figures in both, {outside} outside both spreads, {apart} of few samples apart by a factor of 1.25 and more; 0 in A only, 0 in B only",
            rows.len()
        )
    };
    let same = figures(0, 0);
    assert!(said.contains(&same), "{said}");
    let ratios = said.lines().skip(3).filter_map(|line| line.split_whitespace().nth(2)).take(rows.len());
    assert!(ratios.into_iter().all(|ratio| ratio == "1.000"), "{said}");

    // Of many samples what differs lies outside both spreads; of few it must differ much.
    let with = |first: &[f64], second: &[f64]| {
        let paths = [first, second].map(|samples| {
            let mut other = all.clone();
            other["rows"][0]["samples"] = Value::from(samples);
            let path = dir.path().join(format!("{}.json", samples[0]));
            fs::write(&path, other.to_string()).unwrap();
            text(&path)
        });
        self::said(&residency().arg("--compare").args(paths).output().unwrap())
    };
    let three_apart = with(&[1.0, 1.01, 1.02], &[1.03, 1.04, 1.05]);
    assert!(three_apart.contains(&figures(1, 0)), "{three_apart}");
    let one_near = with(&[1.0], &[1.2]);
    assert!(one_near.contains(&figures(0, 0)), "{one_near}");
    let one_far = with(&[1.0], &[0.7]);
    assert!(one_far.contains(&figures(0, 1)) && one_far.contains("few samples"), "{one_far}");

    // No two figures are called the same.
    let name =
        |row: &Value| ["suite", "case", "metric", "unit", "settings"].map(|field| row[field].to_string());
    let names: std::collections::BTreeSet<_> = rows.iter().map(name).collect();
    assert_eq!(names.len(), rows.len());

    // What others found is not written over.
    let said = fails(&["host", "--quick", "--only", "calls", "--out", &folder], 1);
    assert!(said.contains(&folder) && said.contains("has results of scaling"), "{said}");
    assert_eq!(results(&out), all);

    // Damaged ones are told apart by file and field.
    let mut damaged = all.clone();
    damaged["rows"][0]["samples"][0] = Value::from("fast");
    for (contents, field) in [
        (damaged.to_string(), "rows[0].samples[0]"),
        (all.to_string().replacen("\"suite\"", "\"suit\"", 1), "rows[0].suite"),
        ("{}".to_owned(), "rows"),
        (all.to_string()[..100].to_owned(), "no JSON"),
    ] {
        let path = text(&dir.path().join("damaged.json"));
        fs::write(&path, contents).unwrap();
        let said = fails(&["--compare", &folder, &path], 1);
        assert!(said.contains(&path) && said.contains(field), "{said}");
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_found_and_says_so() {
    let dir = TempDir::new().unwrap();
    let args = ["host", "--only", "calls,ageing", "--out", &text(dir.path())];
    let mut child = residency().args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Its first figure: by then it listens.
    assert!(lines.any(|line| line.unwrap().starts_with("calls ")));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("ended early")), "{rest:?}");
    let all = results(dir.path());
    assert_eq!(all["ended_early"], Value::Bool(true));
    assert!(!all["rows"].as_array().unwrap().is_empty());
    assert!(fs::read_to_string(dir.path().join("summary.txt")).unwrap().contains("ended early"));
}

#[test]
fn policies_are_compared_on_flights_of_ones_own() {
    let dir = TempDir::new().unwrap();
    let flights = dir.path().join("flights");
    fs::create_dir(&flights).unwrap();
    let traces = text(&flights);
    let policies = ["model", "--quick", "--only", "policies", "--traces", &traces];
    assert!(fails(&policies, 1).contains(&format!("there are no files *.trace in {traces}")));
    assert!(fails(&["host", "--traces", &traces], 2).contains("'policies'"));
    assert!(fails(&["model", "--only", "scaling", "--traces", &traces], 2).contains("'policies'"));
    assert!(fails(&["model", "--traces", "/no/such/folder"], 1).contains("/no/such/folder cannot be read"));
    fs::copy("assets/traces/zoom.trace", flights.join("mine.trace")).unwrap();
    fs::write(flights.join("bad.trace"), "vastgrid-trace 1\nvoxel 3\n").unwrap();
    let complaint = fails(&policies, 1);
    assert!(complaint.contains("bad.trace: "), "{complaint}");
}
