//! Owns what a run found: [`Report`], rows of figures with their spread, and curves.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::measure;

/// One figure: what was measured, of what, and each value that was read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The question that it belongs to: `calls`, `schemes`, and so on.
    pub(crate) suite: String,
    /// What was measured, such as `map` or `atlas with ghost borders`.
    pub(crate) case: String,
    /// Under which settings, such as `page_bytes` -> `2097152`.
    pub(crate) settings: BTreeMap<String, String>,
    /// The figure's name, such as `time`.
    pub(crate) metric: String,
    /// Its unit, such as `ns a tile`.
    pub(crate) unit: String,
    /// Values in the order in which they were measured; never empty.
    pub(crate) samples: Vec<f64>,
}

impl Row {
    pub(crate) fn median(&self) -> f64 {
        measure::median(&self.samples)
    }

    /// The smallest and the largest value.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The settings in words.
    pub(crate) fn settings_text(&self) -> String {
        let each: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        each.join(", ")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.spread();
        write!(
            f,
            "{:<10} {:<38} {:<52} {:>12.3} {} of {} ({least:.3} to {most:.3}, {} x)",
            self.suite,
            self.case,
            self.settings_text(),
            self.median(),
            self.unit,
            self.metric,
            self.samples.len()
        )
    }
}

/// Curves over one axis, drawn as one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Plot {
    /// The file's name without its ending.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// A name and its points, which are joined in order.
    pub(crate) curves: Vec<(String, Vec<(f64, f64)>)>,
}

/// An axis of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) logarithmic: bool,
}

/// Whether a target was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// What was asked for, in words.
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) target: f64,
    /// Whether more is better.
    pub(crate) at_least: bool,
}

impl Verdict {
    pub(crate) fn is_met(&self) -> bool {
        if self.at_least { self.value >= self.target } else { self.value <= self.target }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met() { "met" } else { "NOT MET" };
        let bound = if self.at_least { "at least" } else { "at most" };
        write!(f, "target {word}: {}: {:.3}, {bound} {:.3}", self.what, self.value, self.target)
    }
}

/// Everything that a run found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) verdicts: Vec<Verdict>,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}
