//! Owns the example viewer as tests run it: the binary that `cargo test` builds beside them, and one that serves.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod browser;
pub(crate) mod page;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

/// When the newest file of a folder was written; nothing where there is no such folder, as where tests were carried to another machine.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

pub(crate) fn viewer() -> Command {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples/viewer");
    assert!(built.is_file(), "{} is not there: cargo build --example viewer", built.display());
    // Nor is it another one: `cargo test --test` of a single test builds no example.
    let since = modified(&built);
    assert!(
        newest(Path::new("examples/viewer")) <= since,
        "{} is older than its source: cargo build --example viewer",
        built.display()
    );
    let mut command = Command::new(built);
    command.stdin(Stdio::null()).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// A viewer that serves; killed at the end, whatever happens.
pub(crate) struct Served {
    pub(crate) child: Child,
    /// Such as 127.0.0.1:8737.
    pub(crate) address: String,
}

impl Served {
    /// On any free port.
    pub(crate) fn new(args: &[&str]) -> Self {
        let mut command = viewer();
        command.args(["--no-open", "--port", "0"]).args(args).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        Self { child, address: address.unwrap_or_else(|| panic!("no address: {line}")).to_owned() }
    }

    /// The answer to a request with these headers.
    pub(crate) fn ask(&self, path: &str, headers: &[&str]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{}\r\n\r\n", headers.join("\r\n"));
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Voxels of a small volume: a ball that fades outwards.
pub(crate) fn ball([x, y, z]: [u16; 3]) -> u16 {
    let from = |at: u16, middle: f64| (f64::from(at) - middle).powi(2);
    let distance = (from(x, 12.0) + from(y, 9.0) + from(z, 7.0)).sqrt();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 to 200")]
    let value = (200.0 - 14.0 * distance).max(0.0) as u16;
    value
}

/// Writes the ball, 24 x 18 x 14 voxels, x fastest, each as `bytes` makes it.
pub(crate) fn raw<const N: usize>(dir: &TempDir, name: &str, bytes: impl Fn(u16) -> [u8; N]) -> String {
    let mut out = Vec::new();
    for z in 0..14 {
        for y in 0..18 {
            for x in 0..24 {
                out.extend(bytes(ball([x, y, z])));
            }
        }
    }
    let path = dir.path().join(name);
    fs::write(&path, out).unwrap();
    text(&path)
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
