//! Owns `results.json`: everything that a run found, every sample included.

use serde::Serialize;

use super::{Document, json_bytes};
use crate::VERSION;
use crate::machine::Machine;
use crate::report::{Plot, Row, Verdict};
use crate::suite::Failure;

/// The file, field by field.
#[derive(Serialize)]
struct File<'a> {
    /// What the fields mean: to be counted up when that changes.
    format: u32,
    machine: &'a Machine,
    commit: &'a str,
    versions: Versions,
    settings: Settings<'a>,
    started: &'a str,
    ended: Option<&'a str>,
    ended_early: bool,
    rows: &'a [Row],
    plots: &'a [Plot],
    verdicts: Vec<Judged<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Versions {
    vastgrid: &'static str,
}

#[derive(Serialize)]
struct Settings<'a> {
    on: &'static str,
    effort: &'static str,
    seed: u64,
    questions: &'a [&'static str],
}

#[derive(Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    met: bool,
}

/// The file's contents.
pub(super) fn bytes(document: &Document) -> Result<Vec<u8>, Failure> {
    let report = &document.report;
    let settings = Settings {
        on: document.on.name(),
        effort: document.effort.name(),
        seed: document.seed,
        questions: &document.questions,
    };
    json_bytes(&File {
        format: 1,
        machine: &document.machine,
        commit: &document.commit,
        versions: Versions { vastgrid: VERSION },
        settings,
        started: &document.started,
        ended: document.ended.as_deref(),
        ended_early: document.ended_early,
        rows: &report.rows,
        plots: &report.plots,
        verdicts: report.verdicts.iter().map(|verdict| Judged { verdict, met: verdict.is_met() }).collect(),
        notes: &report.notes,
    })
}
