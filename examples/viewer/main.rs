//! A viewer for volumes that need not fit into memory, in a browser.
//!
//! `cargo run --release --example viewer` shows a CT of a stent in an aorta, twice the size of its memory budget. Expect a page to open (its address is
//! printed): drag to turn, scroll to zoom; the line at the bottom tells how many tiles are resident, and that the picture converges to the whole one
//! within the budget. `-- --help` lists the rest: other files, other budgets, pictures without a browser.

mod args;
mod encode;
mod mailbox;
mod picture;
mod server;
mod session;
mod status;
mod view;
mod volume;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use vastgrid::Scalar;
use vastgrid::source::{BoxedSource, Dataset};

use crate::args::Args;
use crate::volume::{About, Scene};

/// What went wrong: what, with which values.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics where nobody listens.
            let _ = writeln!(std::io::stderr(), "viewer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let volume::Opened { dataset, about } = volume::open(args)?;
    // Rendered as they are; others are converted as they are loaded.
    match dataset {
        Dataset::U8(source) => show(source, about, args),
        Dataset::U16(source) => show(source, about, args),
        Dataset::I16(source) => show(source, about, args),
        Dataset::I8(_) => show(dataset.into_source::<i16>(), about, args),
        _ => show(dataset.into_source::<f32>(), about, args),
    }
}

fn show<T: Scalar>(source: BoxedSource<T>, about: About, args: &Args) -> Result<(), Failure> {
    let scene = Scene::new(source, about, args)?;
    match &args.png {
        Some(path) => picture::write(&scene, args, path),
        None => server::serve(scene, args),
    }
}
