//! OpenVDB, as the system's package has it: `peers/openvdb_grid.cc` is compiled here, runs as a process of its own, and is told what to do line by line.
//!
//! Debian: `apt-get install libopenvdb-dev libtbb-dev libboost-dev libboost-iostreams-dev`. `VASTGRID_OPENVDB=1` makes it a failure where it cannot be built, `0` goes without it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::common::is_test;
use crate::contest::Turn;

const HEADER: &str = "/usr/include/openvdb/openvdb.h";

/// The program.
pub(crate) struct Program(TempDir);

/// The program at work.
pub(crate) struct OpenVdb {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// What a thin shell takes there.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) seconds: f64,
    /// What the process grew by, its page tables included.
    pub(crate) grown_bytes: f64,
    /// What the grid says that it takes.
    pub(crate) said_bytes: f64,
    pub(crate) active_voxels: u64,
    pub(crate) leaves: u64,
}

impl Program {
    /// `None`, and why on the screen, where there is no OpenVDB.
    pub(crate) fn build() -> Option<Self> {
        if is_test() {
            println!("without OpenVDB: a test");
            return None;
        }
        let wanted = std::env::var("VASTGRID_OPENVDB").ok();
        if wanted.as_deref() == Some("0") || wanted.is_none() && !Path::new(HEADER).is_file() {
            println!("without OpenVDB: no {HEADER}, or VASTGRID_OPENVDB=0");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/openvdb_grid.cc");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O3", "-DNDEBUG"]);
        // The same instructions for both.
        if cfg!(target_feature = "avx2") {
            compiler.arg("-march=native");
        }
        compiler.arg(source).arg("-o").arg(folder.path().join("openvdb_grid"));
        compiler.args(["-lopenvdb", "-ltbb", "-lImath"]);
        let built = compiler.status().is_ok_and(|status| status.success());
        assert!(built || wanted.is_none(), "OpenVDB's program could not be compiled: {compiler:?}");
        if !built {
            println!("without OpenVDB: its program could not be compiled");
        }
        built.then_some(Self(folder))
    }

    fn command(&self, threads: usize) -> Command {
        let mut command = Command::new(self.0.path().join("openvdb_grid"));
        command.arg(threads.to_string());
        command
    }

    pub(crate) fn start(&self, threads: usize) -> OpenVdb {
        let mut child = self.command(threads).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        OpenVdb { child, pipes: Mutex::new(pipes) }
    }

    /// The shell, in a process that did nothing else.
    pub(crate) fn shell(&self) -> Shell {
        let output = self.command(1).arg("shell").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [seconds, grown_bytes, said_bytes, active, leaves] = figures[..] else { panic!("{text}") };
        Shell { seconds, grown_bytes, said_bytes, active_voxels: active as u64, leaves: leaves as u64 }
    }
}

impl OpenVdb {
    /// Runs a row once.
    pub(crate) fn turn(&self, row: &str) -> Turn {
        let (ask, answer) = &mut *self.pipes.lock().unwrap();
        writeln!(ask, "{row}").unwrap();
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        let figures: Vec<f64> =
            line.split_whitespace().map(|word| word.parse().expect("OpenVDB's figures")).collect();
        let [seconds, sum] = figures[..] else { panic!("OpenVDB answered {line:?} to {row:?}") };
        Turn { seconds, sum }
    }
}

impl Drop for OpenVdb {
    fn drop(&mut self) {
        // It only waits for lines, and nobody is left to write any.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
