//! Owns what a run found: [`Report`], rows of figures with their spread, and curves.

use std::collections::BTreeMap;

/// One figure: what was measured, of what, and each value that was read.
#[derive(Clone, Debug, PartialEq)]
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
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// The smallest and the largest value.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// Curves over one axis, drawn as one picture.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) logarithmic: bool,
}

/// Whether a target was met.
#[derive(Clone, Debug, PartialEq)]
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

/// Everything that a run found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) verdicts: Vec<Verdict>,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}
