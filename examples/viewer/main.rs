//! A viewer for volumes that need not fit into memory, in a browser.
//!
//! `cargo run --release --example viewer` shows a CT of a stent in an aorta, twice the size of its memory budget; with `-- --demo huge` a planet of 32 768 voxels a side to fly through.
//! Expect a page to open (its address is printed): drag to turn, scroll to zoom. There is a picture at once, and a better one as tiles come; the line at the bottom says how true it is, what
//! keeps it from being truer, and how long that takes. `-- --help` lists the rest: other files, other budgets, pictures without a browser.

mod args;
mod demo;
mod encode;
mod eye;
mod finish;
mod mailbox;
mod overlay;
mod pick;
mod picture;
mod place;
mod recordings;
mod scene;
mod server;
mod session;
mod status;
mod view;
mod volume;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vastgrid::Scalar;
use vastgrid::source::{BoxedSource, Dataset};

use crate::args::{Args, Backend, Demo};
use crate::scene::Scene;
use crate::volume::{About, Volume};

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
    if args.demo == Some(Demo::Huge) {
        return serve_or_write(&Scene::huge(args)?, args);
    }
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
    let volume = Volume::new(source, about, Duration::from_millis(args.delay))?;
    match &args.png {
        Some(path) if args.backend == Backend::Host => picture::write(path, || picture::exact(volume, args)),
        Some(path) => {
            let scene = Scene::new(volume, args)?;
            picture::write(path, || picture::explored(&scene, args))
        }
        None => serve_or_write(&Scene::new(volume, args)?, args),
    }
}

fn serve_or_write<T: Scalar>(scene: &Scene<T>, args: &Args) -> Result<(), Failure> {
    match &args.png {
        Some(path) => picture::write(path, || picture::explored(scene, args)),
        None => server::serve(scene.clone(), args),
    }
}
