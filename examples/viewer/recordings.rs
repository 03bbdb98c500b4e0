//! Owns the folder that recordings go to, one file for each browser that looked: [`Recordings`].

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use vastgrid::trace::Trace;

use crate::Failure;

/// Files that are looked for a free name among.
const MOST_FILES: u32 = 100_000;

/// A folder of traces.
pub(crate) struct Recordings {
    folder: PathBuf,
}

impl Recordings {
    /// Makes the folder where it is not there, and sees that files can be written to it: better now than after a long look.
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let fails =
            |error: std::io::Error| format!("recordings cannot be written to {}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(fails)?;
        tempfile::tempfile_in(folder).map_err(fails)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes one, under the first number that is free, and says where, or why not.
    pub(crate) fn keep(&self, trace: &Trace) {
        if trace.frames.is_empty() {
            return;
        }
        // Whoever does not listen has the file all the same.
        let _ = match self.write(trace) {
            Ok(path) => writeln!(
                std::io::stdout(),
                "viewer: recorded {} pictures in {}",
                trace.frames.len(),
                path.display()
            ),
            Err(error) => writeln!(std::io::stderr(), "viewer: a recording is lost: {error}"),
        };
    }

    fn write(&self, trace: &Trace) -> Result<PathBuf, Failure> {
        for number in 1..=MOST_FILES {
            let path = self.folder.join(format!("{number}.trace"));
            match fs::File::create_new(&path) {
                Ok(mut file) => {
                    file.write_all(trace.to_string().as_bytes())?;
                    return Ok(path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}", path.display()).into()),
            }
        }
        Err(format!("{} is full of them", self.folder.display()).into())
    }
}
