//! Owns what a question gets to be answered with: [`Context`].

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::report::{Axis, Plot, Report, Row, Verdict};
use crate::say;

/// Anything that ends a run.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where the arrays are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Host,
    Cuda,
    Model,
}

impl On {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Cuda => "cuda",
            Self::Model => "model",
        }
    }
}

/// How long a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    /// Seconds: whether everything works.
    Quick,
    /// Minutes.
    Normal,
    /// As long as the figures need.
    Full,
}

impl Effort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

/// What a question gets.
pub(crate) struct Context<'a> {
    pub(crate) on: On,
    pub(crate) effort: Effort,
    /// The question's name, under which rows are entered.
    pub(crate) suite: &'static str,
    pub(crate) report: &'a mut Report,
    /// Set when somebody wants the run to end: what was measured so far is kept.
    pub(crate) stop: &'a AtomicBool,
    /// Where random numbers begin.
    pub(crate) seed: u64,
    /// Flights to compare policies on besides those that come with the program: names and texts.
    pub(crate) traces: &'a [(String, String)],
    /// The folder for what is found: a question may keep there what it goes on from the next time.
    pub(crate) out: &'a Path,
}

impl Context<'_> {
    /// One of three, by effort.
    pub(crate) fn pick<T>(&self, quick: T, normal: T, full: T) -> T {
        match self.effort {
            Effort::Quick => quick,
            Effort::Normal => normal,
            Effort::Full => full,
        }
    }

    /// Whether to end early; to be asked between one measurement and the next.
    pub(crate) fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Enters a figure, and prints it.
    pub(crate) fn row(
        &mut self,
        case: &str,
        settings: &[(&str, String)],
        (metric, unit): (&str, &str),
        samples: Vec<f64>,
    ) {
        if samples.is_empty() {
            return;
        }
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let (suite, case) = (self.suite.to_owned(), case.to_owned());
        let row = Row { suite, case, settings, metric: metric.to_owned(), unit: unit.to_owned(), samples };
        say(format_args!("{row}"));
        self.report.rows.push(row);
    }

    /// Enters curves.
    pub(crate) fn plot(
        &mut self,
        name: &str,
        title: &str,
        (x, y): (Axis, Axis),
        curves: Vec<(String, Vec<(f64, f64)>)>,
    ) {
        self.report.plots.push(Plot { name: name.to_owned(), title: title.to_owned(), x, y, curves });
    }

    /// Enters whether a value is as it was asked for.
    pub(crate) fn verdict(&mut self, verdict: Verdict) {
        say(format_args!("{verdict}"));
        self.report.verdicts.push(verdict);
    }

    /// Says what could not be measured, and why.
    pub(crate) fn note(&mut self, text: String) {
        say(format_args!("{}: {text}", self.suite));
        self.report.notes.push(text);
    }
}
