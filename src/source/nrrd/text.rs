//! Owns the syntax of a NRRD header: magic, fields, comments, key/value pairs, and where the data begins. Knows nothing of what any field means.
//!
//! ```text
//! NRRD0005                 the magic: which version
//! # a comment
//! type: short              a field, in any order; names have aliases and no case
//! patient:=unknown         a key/value pair
//!                          a blank line, and then the data, unless a field `data file` names another file
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::SourceError;
use crate::source::bad::Bad;

/// The longest header that is read.
const MAX_BYTES: usize = 1 << 20;

/// Every field of the format, and the aliases of some.
///
/// **Source**: the format's definition, sections 4 to 6, <https://teem.sourceforge.net/nrrd/format.html>.
const FIELDS: [(&str, &str); 39] = [
    ("axis maxs", "axis maxs"),
    ("axis mins", "axis mins"),
    ("axismaxs", "axis maxs"),
    ("axismins", "axis mins"),
    ("block size", "block size"),
    ("blocksize", "block size"),
    ("byte skip", "byte skip"),
    ("byteskip", "byte skip"),
    ("centerings", "centers"),
    ("centers", "centers"),
    ("content", "content"),
    ("data file", "data file"),
    ("datafile", "data file"),
    ("dimension", "dimension"),
    ("encoding", "encoding"),
    ("endian", "endian"),
    ("kinds", "kinds"),
    ("labels", "labels"),
    ("line skip", "line skip"),
    ("lineskip", "line skip"),
    ("max", "max"),
    ("measurement frame", "measurement frame"),
    ("min", "min"),
    ("number", "number"),
    ("old max", "old max"),
    ("old min", "old min"),
    ("oldmax", "old max"),
    ("oldmin", "old min"),
    ("sample units", "sample units"),
    ("sampleunits", "sample units"),
    ("sizes", "sizes"),
    ("space", "space"),
    ("space dimension", "space dimension"),
    ("space directions", "space directions"),
    ("space origin", "space origin"),
    ("space units", "space units"),
    ("spacings", "spacings"),
    ("thicknesses", "thicknesses"),
    ("type", "type"),
];
// `units` is looked up apart from these, so that the table above stays in the order of a binary search.
const UNITS: &str = "units";

/// A header taken apart.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) version: u8,
    /// Known fields under their own names, as bytes (a file's name need not be text).
    pub(super) fields: Vec<(&'static str, Vec<u8>)>,
    /// Fields that the format does not have.
    pub(super) other_fields: Vec<(String, String)>,
    pub(super) comments: Vec<String>,
    pub(super) key_values: Vec<(String, String)>,
    /// Where the data begins; `None` where no blank line ends the header.
    pub(super) data_offset_bytes: Option<u64>,
}

impl Text {
    /// Reads and takes apart the header of `file`: at most [`MAX_BYTES`] of it.
    pub(super) fn read(file: &File, path: &Path) -> Result<Self, SourceError> {
        let mut bytes = Vec::new();
        let mut want = 4096;
        loop {
            let ended = read_up_to(file, path, &mut bytes, want)?;
            if !bytes.starts_with(b"NRRD") {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(8)]);
                return Err(Bad::new("magic", start, "not a NRRD file").in_file(path));
            }
            if ended || end_of_header(&bytes).is_some() {
                return Self::parse(&bytes).map_err(|bad| bad.in_file(path));
            }
            if want == MAX_BYTES {
                let reason = "no blank line ends it within the first MiB";
                return Err(Bad::new("header", "", reason).in_file(path));
            }
            want *= 4;
        }
    }

    /// Takes a header apart. What follows its blank line is not looked at.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Bad> {
        let end = end_of_header(bytes);
        let header = end.map_or(bytes, |(lines_end, _)| &bytes[..lines_end]);
        let mut lines = header.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut text = Self {
            version: version(lines.next().unwrap_or_default())?,
            data_offset_bytes: end.map(|(_, data)| data as u64),
            ..Self::default()
        };
        for line in lines.filter(|line| !line.is_empty()) {
            text.add_line(line)?;
        }
        Ok(text)
    }

    fn add_line(&mut self, line: &[u8]) -> Result<(), Bad> {
        let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if let Some(comment) = line.strip_prefix(b"#") {
            self.comments.push(lossy(comment).trim_start().to_owned());
            return Ok(());
        }
        let colon = line.iter().position(|&b| b == b':');
        let field = colon.filter(|&at| line.get(at + 1) != Some(&b'='));
        let name = field.map(|at| lossy(&line[..at]).trim().to_lowercase());
        if let (Some(at), Some(name)) = (field, name.as_deref().and_then(known)) {
            let value = line[at + 1..].trim_ascii();
            if self.fields.iter().any(|(other, _)| *other == name) {
                return Err(Bad::new(name, lossy(value), "the field is there twice"));
            }
            if name == "data file" && value.starts_with(b"LIST") {
                return Err(Bad::new(name, lossy(value), "data spread over several files is not read"));
            }
            self.fields.push((name, value.to_vec()));
            return Ok(());
        }
        if let Some(at) = line.windows(2).position(|w| w == b":=") {
            self.key_values.push((unescape(&lossy(&line[..at])), unescape(&lossy(&line[at + 2..]))));
            return Ok(());
        }
        let (Some(at), Some(name)) = (field, name) else {
            return Err(Bad::new("header line", lossy(line), "neither a field nor a comment nor key:=value"));
        };
        self.other_fields.push((name, lossy(line[at + 1..].trim_ascii())));
        Ok(())
    }
}

/// Reads on until `bytes` holds `want`, and tells whether the file ended before.
fn read_up_to(file: &File, path: &Path, bytes: &mut Vec<u8>, want: usize) -> Result<bool, SourceError> {
    let mut have = bytes.len();
    bytes.resize(want, 0);
    while have < want {
        match file.read_at(&mut bytes[have..], have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                let (offset_bytes, bytes) = (have as u64, (want - have) as u64);
                return Err(SourceError::Read { path: path.to_owned(), offset_bytes, bytes, source });
            }
        }
    }
    bytes.truncate(have);
    Ok(have < want)
}

/// Where the last line before the blank one ends, and where the data begins after it.
fn end_of_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut start = 0;
    loop {
        let line_end = start + bytes[start..].iter().position(|&b| b == b'\n')?;
        if matches!(&bytes[start..line_end], b"" | b"\r") {
            return Some((start, line_end + 1));
        }
        start = line_end + 1;
    }
}

fn version(magic: &[u8]) -> Result<u8, Bad> {
    match magic.trim_ascii_end() {
        b"NRRD00.01" | b"NRRD0001" => Ok(1),
        b"NRRD0002" => Ok(2),
        b"NRRD0003" => Ok(3),
        b"NRRD0004" => Ok(4),
        b"NRRD0005" => Ok(5),
        other => {
            Err(Bad::new("magic", String::from_utf8_lossy(other), "must be one of NRRD0001 up to NRRD0005"))
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    if name == UNITS {
        return Some(UNITS);
    }
    FIELDS.binary_search_by_key(&name, |(alias, _)| alias).ok().map(|at| FIELDS[at].1)
}

/// Undoes the two escapes of key/value pairs: `\n` and `\\`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('\\')) => out.push('\\'),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_fields_is_sorted() {
        assert!(FIELDS.is_sorted());
    }

    #[test]
    fn both_line_endings_end_the_header_where_the_data_begins() {
        for (header, at) in [("NRRD0001\ntype: int\n\n\nxx", 20), ("NRRD0001\r\ntype: int\r\n\r\n\r\nxx", 23)]
        {
            let text = Text::parse(header.as_bytes()).unwrap();
            assert_eq!(text.data_offset_bytes, Some(at));
            assert_eq!(text.fields, [("type", b"int".to_vec())]);
        }
        assert_eq!(Text::parse(b"NRRD0001\ntype: int\n").unwrap().data_offset_bytes, None);
    }

    #[test]
    fn lines_are_told_apart() {
        let text = Text::parse(
            b"NRRD0005\n# one\n#two\nDataFile: a: b.raw \nkey:=a\\\\b\\nc\nsizes: odd:=1\ntype:=x\nmine: 7\nspace key: a:=v",
        )
        .unwrap();
        assert_eq!(text.version, 5);
        assert_eq!(text.comments, ["one", "two"]);
        assert_eq!(text.fields, [("data file", b"a: b.raw".to_vec()), ("sizes", b"odd:=1".to_vec())]);
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(text.key_values, [pair("key", "a\\b\nc"), pair("type", "x"), pair("space key: a", "v")]);
        assert_eq!(text.other_fields, [pair("mine", "7")]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let bad = |header: &str| {
            let Bad { field, value, .. } = Text::parse(header.as_bytes()).unwrap_err();
            (field, value)
        };
        assert_eq!(bad("NRRD0006\n"), ("magic", "NRRD0006".into()));
        assert_eq!(bad("NRRD0001\ntype: int\ntype: int\n"), ("type", "int".into()));
        assert_eq!(bad("NRRD0001\nline skip: 1\nlineskip: 2\n"), ("line skip", "2".into()));
        assert_eq!(bad("NRRD0001\ndata file: LIST 2\nx.raw\n"), ("data file", "LIST 2".into()));
        assert_eq!(bad("NRRD0001\nwhat is this\n"), ("header line", "what is this".into()));
    }
}
