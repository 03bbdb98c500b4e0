//! What residency costs: per call, per tile, per frame and per policy, on the host and on a GPU, against the other ways of doing it.
//!
//! `cargo run --release --example residency -- host` measures for some minutes, prints each figure as it comes, and writes tables, samples and plots to a folder under `target/residency`.
//! `-- --quick` takes seconds and shows whether everything works; `-- cuda --full` takes as long as the figures need. `-- --compare A B` says what changed between two runs. `-- --help` lists the rest.
//! Ctrl-C ends a run early: what was measured by then is written.

mod compare;
mod machine;
mod measure;
mod options;
mod process;
mod questions;
mod report;
mod run;
mod suite;
mod userfault;
mod write;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::options::{Arguments, Options};

/// The version of the library that is measured.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let options = Options::new(Arguments::parse()).unwrap_or_else(|error| {
        let command = &mut <Arguments as clap::CommandFactory>::command();
        command.error(ErrorKind::ValueValidation, error).exit()
    });
    let done = match &options.compare {
        Some((a, b)) => compare::run(a, b).map(|()| true),
        None => run::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            warn(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever listens. Not `println!`, which panics where nobody does.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Says what went wrong.
fn warn(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "residency: {line}");
}
