//! Owns [`Bad`]: what is wrong with a header, before the file that it is in is known. Knows nothing of any format.

use std::path::Path;

use crate::error::SourceError;

/// A field that cannot be; becomes [`SourceError::Header`] where the file's path is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) field: &'static str,
    pub(super) value: String,
    pub(super) reason: &'static str,
}

impl Bad {
    pub(super) fn new(field: &'static str, value: impl AsRef<str>, reason: &'static str) -> Self {
        // A hostile header's value may be a megabyte long.
        Self { field, value: value.as_ref().chars().take(120).collect(), reason }
    }

    pub(super) fn in_file(self, path: &Path) -> SourceError {
        let Self { field, value, reason } = self;
        SourceError::Header { path: path.to_owned(), field, value, reason }
    }
}
