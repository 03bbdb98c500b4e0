//! Owns a run: what has to be there before it begins, one question after the other, and that what was found is written, whatever happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use vastgrid::cuda::Device;
use vastgrid::trace::Trace;

use crate::options::Options;
use crate::report::Report;
use crate::suite::{Context, Effort, Failure, On};
use crate::write::Document;
use crate::{machine, process, questions, say, warn, write};

/// Measures what was asked for. `false`: a question could not be answered.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let started = machine::time_of_day(SystemTime::now());
    // What would end the run after an hour ends it now.
    if options.on == On::Cuda {
        Device::open(0).map_err(|error| format!("'cuda' needs a CUDA device: {error}"))?;
    }
    let traces = options.traces.as_deref().map_or_else(|| Ok(Vec::new()), traces)?;
    let out = folder(options, &started)?;
    enough(options.effort, &out)?;
    let stop = stopped_by_hand()?;

    let mut document = Document {
        machine: machine::describe(options.on)?,
        commit: machine::commit(),
        on: options.on,
        effort: options.effort,
        seed: options.seed,
        questions: options.questions.clone(),
        started,
        ended: None,
        ended_early: true,
        report: Report::default(),
    };
    say(format_args!("{}", document.head()));
    let mut whole = true;
    for question in questions::on(options.on).filter(|q| options.questions.contains(&q.name)) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut context = Context {
            on: options.on,
            effort: options.effort,
            suite: question.name,
            report: &mut document.report,
            stop: &stop,
            seed: options.seed,
            traces: &traces,
            out: &out,
        };
        if let Err(error) = (question.run)(&mut context) {
            context.note(format!("{} could not be answered: {error}", question.name));
            whole = false;
        }
        // A run that is killed later keeps what it found by now.
        write::all(&out, &document)?;
    }
    document.ended = Some(machine::time_of_day(SystemTime::now()));
    document.ended_early = stop.load(Ordering::Relaxed);
    write::all(&out, &document)?;
    say(format_args!("\n{}\nwritten to {}", document.conclusion(), out.display()));
    Ok(whole)
}

/// All recorded flights of a folder, by name; each is one that can be read.
fn traces(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let refused = |path: &Path, error| format!("{} cannot be read: {error}", path.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| refused(folder, error))? {
        let path = entry.map_err(|error| refused(folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "trace") {
            let text = fs::read_to_string(&path).map_err(|error| refused(&path, error))?;
            Trace::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, text));
        }
    }
    if found.is_empty() {
        return Err(format!("there are no files *.trace in {}", folder.display()).into());
    }
    found.sort();
    Ok(found)
}

/// The folder for what is found, made and tried.
fn folder(options: &Options, started: &str) -> Result<PathBuf, Failure> {
    let name = || format!("{}-{}", started.replace(':', "").trim_end_matches('Z'), options.on.name());
    let out = options.out.clone().unwrap_or_else(|| Path::new("target/residency").join(name()));
    let refused = |error| format!("the output folder {} cannot be written to: {error}", out.display());
    fs::create_dir_all(&out).map_err(refused)?;
    if let Some(others) = others_in(&out, &options.questions) {
        return Err(format!(
            "{} has results of {others}, which would be lost: choose another folder",
            out.display()
        )
        .into());
    }
    let trial = out.join(format!(".trial-{}", std::process::id()));
    fs::write(&trial, b"trial").map_err(refused)?;
    fs::remove_file(&trial).map_err(refused)?;
    Ok(out)
}

/// The questions that a folder has results of, where they are not just these: a run replaces what the same one found before.
fn others_in(out: &Path, questions: &[&str]) -> Option<String> {
    let text = fs::read_to_string(out.join("results.json")).ok()?;
    let found: serde_json::Value = serde_json::from_str(&text).ok()?;
    let found = found.pointer("/settings/questions")?.as_array()?;
    let names: Vec<_> = found.iter().filter_map(serde_json::Value::as_str).collect();
    names.iter().any(|name| !questions.contains(name)).then(|| names.join(", "))
}

/// Whether there is enough memory, and enough room for files.
fn enough(effort: Effort, out: &Path) -> Result<(), Failure> {
    const MIB: u64 = 1 << 20;
    let (memory, disk) = match effort {
        Effort::Quick => (1024 * MIB, 512 * MIB),
        Effort::Normal => (3 * 1024 * MIB, 2 * 1024 * MIB),
        Effort::Full => (8 * 1024 * MIB, 8 * 1024 * MIB),
    };
    let available = process::available_bytes()?;
    if available < memory {
        let text = format!(
            "a run with effort '{}' needs {} MiB of memory; {} MiB are available",
            effort.name(),
            memory / MIB,
            available / MIB
        );
        return Err(text.into());
    }
    for folder in [out, &std::env::temp_dir()] {
        let found = rustix::fs::statvfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < disk {
            let text = format!(
                "a run with effort '{}' needs {} MiB of room in {}; {} MiB are free",
                effort.name(),
                disk / MIB,
                folder.display(),
                free / MIB
            );
            return Err(text.into());
        }
    }
    Ok(())
}

/// A flag that Ctrl-C sets; the second Ctrl-C ends the process.
fn stopped_by_hand() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        warn(format_args!("ending after this measurement; once more to end at once"));
    })
    .map_err(|error| format!("Ctrl-C cannot be listened to: {error}"))?;
    Ok(stop)
}
