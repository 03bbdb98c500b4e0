//! Converts a volume to an OME-Zarr image of several resolutions, and a box of one back to a raw or NRRD file.
//!
//! `cargo run --release --example convert -- IN OUT.ome.zarr` reads IN once, within a budget, and shows a bar for each level, with its rate and the time that is left. OUT appears when it is whole; after `--resume` an interrupted conversion goes on where it was.
//! `-- IN OUT --dry-run` says what would be written. `-- region --region 10,20,30,64,64,64 IN OUT.nrrd` goes the other way. `-- --help` lists the rest.

mod args;
mod bars;
mod image;
mod input;
mod region;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

/// What went wrong: what, with which values.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Region(args)) => region::run(args),
        None => image::run(&args.image),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics where nobody listens.
            let _ = writeln!(std::io::stderr(), "convert: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says something that went less well to whoever listens.
fn warn(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "convert: {line}");
}

/// Says something to whoever listens.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
