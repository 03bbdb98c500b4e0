//! Owns what may be wrong with a trace: [`TraceError`]. Knows nothing of how one is read.

use std::path::PathBuf;

use crate::error::LayoutError;

/// A trace that cannot be read, written or replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// What is wrong with a file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What.
        #[source]
        error: Box<TraceError>,
    },
    /// The system did not read or write it.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// It is no trace of a version that is known.
    #[error("line 1: begins with {value:?}: must be {must_be:?}")]
    Version {
        /// The line, or its beginning.
        value: String,
        /// What it must be.
        must_be: &'static str,
    },
    /// A line does not say what it should.
    #[error("line {line}: {field} is {value:?}: must be {must_be}")]
    Field {
        /// Which line, from 1 on.
        line: usize,
        /// Which of its words.
        field: &'static str,
        /// What it is, or its beginning.
        value: String,
        /// What it must be.
        must_be: &'static str,
    },
    /// A level cannot be laid out.
    #[error("line {line}: a level: {error}")]
    Level {
        /// Which line, from 1 on.
        line: usize,
        /// Why.
        #[source]
        error: LayoutError,
    },
    /// A number is no tile of its level.
    #[error("line {line}: tile {tile} of {count} at level {level}: the level has {tiles} tiles")]
    Tile {
        /// Which line, from 1 on.
        line: usize,
        /// The level.
        level: usize,
        /// The first tile.
        tile: u64,
        /// How many.
        count: u64,
        /// How many there are.
        tiles: u64,
    },
    /// There is more of something than is read.
    #[error("line {line}: more than {most} {what}")]
    TooMany {
        /// Which line, from 1 on.
        line: usize,
        /// Of what.
        what: &'static str,
        /// The most.
        most: u64,
    },
    /// Something is not there that everything else needs.
    #[error("line {line}: no `{field}` before it")]
    Lacks {
        /// Which line, from 1 on.
        line: usize,
        /// What is missing.
        field: &'static str,
    },
}
