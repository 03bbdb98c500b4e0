//! Owns the files of a run: what they hold, [`Document`], and that each is there whole or not at all.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::machine::Machine;
use crate::report::{Plot, Report};
use crate::suite::{Effort, Failure, On};
use crate::{VERSION, warn};

mod csv;
mod json;
mod plot;
mod ticks;

/// A run, and what it found.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) machine: Machine,
    pub(crate) commit: String,
    pub(crate) on: On,
    pub(crate) effort: Effort,
    pub(crate) seed: u64,
    pub(crate) questions: Vec<&'static str>,
    pub(crate) started: String,
    /// `None` while it goes on.
    pub(crate) ended: Option<String>,
    /// Whether questions may be unanswered because somebody wanted the run to end, or because it goes on.
    pub(crate) ended_early: bool,
    pub(crate) report: Report,
}

impl Document {
    /// What the run is of, in lines.
    pub(crate) fn head(&self) -> String {
        let mut text = format!(
            "residency {VERSION} on {}, effort {}, seed {}, questions {}\ncommit {}\nstarted {}\n",
            self.on.name(),
            self.effort.name(),
            self.seed,
            self.questions.join(", "),
            self.commit,
            self.started
        );
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    /// What became of it, in lines.
    pub(crate) fn conclusion(&self) -> String {
        let report = &self.report;
        let missed: Vec<_> = report.verdicts.iter().filter(|v| !v.is_met()).collect();
        let mut text = format!(
            "{} figures, {} plots, {} of {} targets met, {} notes",
            report.rows.len(),
            report.plots.len(),
            report.verdicts.len() - missed.len(),
            report.verdicts.len(),
            report.notes.len()
        );
        for verdict in missed {
            let _ = write!(text, "\n{verdict}");
        }
        let early = "\nended early: what was not measured by then is missing";
        text.push_str(if self.ended_early { early } else { "" });
        text
    }

    /// All of it as it was printed.
    fn summary(&self) -> String {
        let mut text = self.head();
        text.push('\n');
        for row in &self.report.rows {
            let _ = writeln!(text, "{row}");
        }
        text.push('\n');
        for verdict in &self.report.verdicts {
            let _ = writeln!(text, "{verdict}");
        }
        for note in &self.report.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let ended = self.ended.as_deref().unwrap_or("not yet");
        let _ = writeln!(text, "\nended {ended}\n{}", self.conclusion());
        text
    }
}

/// Writes everything that was found so far.
pub(crate) fn all(folder: &Path, document: &Document) -> Result<(), Failure> {
    whole(&folder.join("results.csv"), csv::text(&document.report.rows).as_bytes())?;
    whole(&folder.join("results.json"), &json::bytes(document)?)?;
    whole(&folder.join("summary.txt"), document.summary().as_bytes())?;
    for plot in &document.report.plots {
        // A picture that cannot be drawn is no reason to lose the figures.
        match plot::svg(plot) {
            Ok(text) => whole(&folder.join(file_name(plot)), text.as_bytes())?,
            Err(error) => warn(format_args!("plot '{}' cannot be drawn: {error}", plot.name)),
        }
    }
    Ok(())
}

/// A name that is a file's, whatever the plot is called.
fn file_name(plot: &Plot) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    format!("{}.svg", plot.name.chars().map(safe).collect::<String>())
}

/// Writes a file under another name and renames it: nobody ever finds a part of it.
pub(crate) fn whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let failed = |error| format!("{} cannot be written: {error}", path.display());
    fs::write(&part, bytes).map_err(failed)?;
    Ok(fs::rename(&part, path).map_err(failed)?)
}

/// Anything as JSON, in lines.
pub(crate) fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
