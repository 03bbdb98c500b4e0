//! The packaged servers: a web server with ranges, and an S3 server. Both come from `PyPI`; `VASTGRID_CLOUD_PYTHON` is the Python that has them. Without it tests that need them say "skipped: ..." and
//! pass, unless `VASTGRID_REQUIRE_SERVERS=1`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A server that runs as long as this lives.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that has the servers, or the word that there is none.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("VASTGRID_CLOUD_PYTHON").map(PathBuf::from);
    if python.is_none() {
        let required = std::env::var("VASTGRID_REQUIRE_SERVERS").is_ok_and(|required| required == "1");
        assert!(!required, "VASTGRID_CLOUD_PYTHON names no Python, but servers are required");
        println!("skipped: no servers (VASTGRID_CLOUD_PYTHON names no Python)");
    }
    python
}

fn start(arguments: &[&std::ffi::OsStr]) -> Option<Server> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloud_support/servers.py");
    let mut child = Command::new(python()?)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python of VASTGRID_CLOUD_PYTHON starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse().expect("the server says its port");
    Some(Server { child, port })
}

/// A web server over the files of a folder.
pub(crate) fn files(folder: &Path) -> Option<Server> {
    start(&["files".as_ref(), folder.as_os_str()])
}

/// The S3 server, one for all tests of a program; each has its own bucket.
pub(crate) fn s3() -> Option<u16> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    // A static is never dropped: the server ends when its standard input does, with this process.
    SERVER.get_or_init(|| start(&["s3".as_ref()])).as_ref().map(|server| server.port)
}

/// Makes a bucket.
pub(crate) fn make_bucket(port: u16, bucket: &str) {
    let (status, text) = put(port, &format!("/{bucket}"), "", &[]);
    assert_eq!(status, 200, "making the bucket {bucket}: {text}");
}

/// Puts an object into the S3 server, for everybody to read.
pub(crate) fn put_object(port: u16, bucket: &str, key: &str, contents: &[u8]) {
    let (status, text) = put(port, &format!("/{bucket}/{key}"), PUBLIC, contents);
    assert_eq!(status, 200, "putting {key} into {bucket}: {text}");
}

/// Puts an object into the S3 server, for its owner to read.
pub(crate) fn put_private(port: u16, bucket: &str, key: &str, contents: &[u8]) {
    let (status, text) = put(port, &format!("/{bucket}/{key}"), "", contents);
    assert_eq!(status, 200, "putting {key} into {bucket}: {text}");
}

/// Puts the files of a folder, with all below it, into the S3 server.
pub(crate) fn put_folder(port: u16, bucket: &str, prefix: &str, folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let key = format!("{prefix}/{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            put_folder(port, bucket, &key, &path);
        } else {
            put_object(port, bucket, &key, &std::fs::read(&path).unwrap());
        }
    }
}

const PUBLIC: &str = "x-amz-acl: public-read\r\n";

fn put(port: u16, path: &str, headers: &str, contents: &[u8]) -> (u16, String) {
    let mut line = TcpStream::connect(("127.0.0.1", port)).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        contents.len()
    );
    line.write_all(head.as_bytes()).unwrap();
    line.write_all(contents).unwrap();
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}
