//! Owns the command line: [`Arguments`] as typed, [`Options`] as meant. Knows the questions by name only.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Parser, ValueEnum};

use crate::measure::SplitMix;
use crate::questions;
use crate::suite::{Effort, On};

/// Measures what residency costs, and against what.
#[derive(Debug, Parser)]
#[command(name = "residency", version, after_help = questions::list())]
pub(crate) struct Arguments {
    /// Where the arrays are: in this process, on a CUDA device, or in the model that has no driver beneath it
    #[arg(value_enum, default_value_t = On::Host)]
    on: On,
    /// Seconds for each question: whether everything works
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// As long as the figures need
    #[arg(long)]
    full: bool,
    /// Folder for what was found [default: target/residency/DATE-TIME-ON]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only these questions, such as calls,ageing
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Folder of flights (*.trace, as `viewer --record` writes them) to compare policies on besides those that come with it
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Where random numbers begin [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Measures nothing: says how two runs differ, each given by its folder or its results.json
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["on", "quick", "full", "out", "only", "traces", "seed"])]
    compare: Vec<PathBuf>,
}

impl ValueEnum for On {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Host, Self::Cuda, Self::Model]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

/// What a run does.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) on: On,
    pub(crate) effort: Effort,
    pub(crate) out: Option<PathBuf>,
    /// Names of questions, in the order in which they are answered.
    pub(crate) questions: Vec<&'static str>,
    pub(crate) traces: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) compare: Option<(PathBuf, PathBuf)>,
}

impl Options {
    /// Checks what the parser could not.
    pub(crate) fn new(arguments: Arguments) -> Result<Self, String> {
        let Arguments { on, quick, full, out, only, traces, seed, compare } = arguments;
        let effort = match (quick, full) {
            (true, _) => Effort::Quick,
            (_, true) => Effort::Full,
            _ => Effort::Normal,
        };
        let known: Vec<_> = questions::on(on).map(|question| question.name).collect();
        if let Some(name) = only.iter().find(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            return Err(format!("there is no question '{name}' on {}; there are: {known}", on.name()));
        }
        let questions: Vec<_> =
            known.into_iter().filter(|name| only.is_empty() || only.iter().any(|o| o == name)).collect();
        if traces.is_some() && !questions.contains(&"policies") {
            return Err("--traces is for the question 'policies', which is asked of 'model'".to_owned());
        }
        let compare = match <[PathBuf; 2]>::try_from(compare) {
            Ok([a, b]) => Some((a, b)),
            Err(_) => None,
        };
        let seed = seed.unwrap_or_else(fresh);
        Ok(Self { on, effort, out, questions, traces, seed, compare })
    }
}

/// Another number each time.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    SplitMix(u64::from(since.subsec_nanos()) ^ since.as_secs() << 30).next() >> 40
}
