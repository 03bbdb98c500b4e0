//! Owns [`Folder`]: a store that is a folder of files. Knows nothing of what they hold.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

use super::fault::{Cause, Fault};
use super::objects::{Coming, Objects, Part, Use};
use crate::source::with_buffer;

/// The most entries of one folder that are looked at.
const MOST_ENTRIES: usize = 1 << 17;

/// The most parts of a hint that are looked at before it is known whether the others are worth it.
const MOST_PROBED: usize = 4;

/// A folder. `zarrs` has a store of this kind too, which keeps a lock for every file that was ever read, allocates what it is told to, and gives each read new memory.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> Result<PathBuf, Cause> {
        let sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !name.is_empty() && !name.split('/').all(sound) {
            return Err(Fault::Name(name.to_owned()).into());
        }
        Ok(self.root.join(name))
    }

    /// Has the system begin to read a part; says whether there was no need to.
    fn is_on_its_way(&self, Coming { name, part, .. }: &Coming) -> bool {
        // Only a hint: what goes wrong here goes wrong, and is reported, in the read.
        let Ok(Some((file, file_bytes))) = self.open(name) else { return true };
        let Ok((offset_bytes, bytes)) = place(*part, file_bytes) else { return true };
        let cached = is_cached(&file, offset_bytes);
        if !cached {
            let _ = fadvise(&file, offset_bytes, bytes.try_into().ok(), Advice::WillNeed);
        }
        cached
    }

    /// Opens a file, and tells its size; `None` where there is none.
    fn open(&self, name: &str) -> Result<Option<(File, u64)>, Cause> {
        let path = self.path(name)?;
        // Opening a pipe would wait for its writer.
        #[expect(clippy::cast_possible_wrap, reason = "a flag, for a call that takes signed ones")]
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Fault::NoFile.into());
        }
        Ok(Some((file, metadata.len())))
    }
}

/// Whether a byte of a file can be had without waiting for a disk: then the rest can most likely, and saying that it is wanted would look up each of its pages for nothing.
fn is_cached(file: &File, offset_bytes: u64) -> bool {
    let mut byte = [0];
    let mut into = [io::IoSliceMut::new(&mut byte)];
    preadv2(file, &mut into, offset_bytes, ReadWriteFlags::NOWAIT).is_ok_and(|bytes| bytes > 0)
}

/// Where a part lies in a file of that size.
fn place(part: Part, file_bytes: u64) -> Result<(u64, u64), Fault> {
    match part {
        Part::Whole => Ok((0, file_bytes)),
        Part::At { offset_bytes, bytes } => match offset_bytes.checked_add(bytes) {
            Some(end) if end <= file_bytes => Ok((offset_bytes, bytes)),
            end => Err(Fault::Length { expected_bytes: end.unwrap_or(u64::MAX), actual_bytes: file_bytes }),
        },
        Part::Last { bytes } => match file_bytes.checked_sub(bytes) {
            Some(offset_bytes) => Ok((offset_bytes, bytes)),
            None => Err(Fault::Length { expected_bytes: bytes, actual_bytes: file_bytes }),
        },
    }
}

impl Objects for Folder {
    fn read(&self, name: &str, part: Part, most_bytes: u64, with: Use<'_>) -> Result<bool, Cause> {
        let Some((file, file_bytes)) = self.open(name)? else { return Ok(false) };
        let (offset_bytes, bytes) = place(part, file_bytes)?;
        let Some(len) = usize::try_from(bytes).ok().filter(|_| bytes <= most_bytes) else {
            return Err(Fault::TooLarge { actual_bytes: bytes, most_bytes }.into());
        };
        with_buffer(len, |buffer: &mut [u8]| {
            file.read_exact_at(buffer, offset_bytes)?;
            with(buffer)
        })?;
        Ok(true)
    }

    fn read_into(&self, name: &str, offset_bytes: Option<u64>, out: &mut [u8]) -> Result<bool, Cause> {
        let Some((file, actual_bytes)) = self.open(name)? else { return Ok(false) };
        let expected_bytes = out.len() as u64;
        if offset_bytes.is_none() && actual_bytes != expected_bytes {
            return Err(Fault::Length { expected_bytes, actual_bytes }.into());
        }
        file.read_exact_at(out, offset_bytes.unwrap_or(0))?;
        Ok(true)
    }

    fn size(&self, name: &str) -> Result<Option<u64>, Cause> {
        match std::fs::metadata(self.path(name)?) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_near(&self) -> bool {
        true
    }

    /// Has the system begin to read them, unless those that are looked at are in its cache: then the rest are most likely, and looking at each of them would cost more than the hint gains.
    fn will_read(&self, parts: &[Coming]) {
        let step = parts.len().div_ceil(MOST_PROBED).max(1);
        let probed: Vec<_> = parts.iter().step_by(step).map(|part| self.is_on_its_way(part)).collect();
        if step > 1 && probed.contains(&false) {
            for (_, part) in (0..).zip(parts).filter(|(nth, _)| nth % step != 0) {
                self.is_on_its_way(part);
            }
        }
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn folders(&self, folder: &str, most: usize) -> Result<Vec<String>, Cause> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(folder)?)?.take(MOST_ENTRIES) {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
                names.push(name);
            }
            if names.len() == most {
                break;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn location(&self, name: &str) -> String {
        let path = if name.is_empty() { Path::new(&self.root).to_owned() } else { self.root.join(name) };
        path.display().to_string()
    }
}
