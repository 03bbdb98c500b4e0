//! Owns what a long run keeps between its phases: [`State`], a file in the output folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::suite::Failure;
use crate::write;

/// What was found at a moment, over a window that ended then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moment {
    pub(super) phase: u32,
    /// Since the beginning, phases one after the other.
    pub(super) seconds: f64,
    pub(super) swap_ns: f64,
    /// What of the processors' time it took.
    pub(super) swap_processors_ns: f64,
    /// The same of an array that was made just then, where that was measured.
    #[serde(default)]
    pub(super) young_swap_processors_ns: Option<f64>,
    pub(super) change_us: f64,
    pub(super) mappings: u64,
    pub(super) resident_bytes: u64,
    pub(super) page_table_bytes: u64,
    /// File descriptors; on a device, mappings that are left in place.
    pub(super) handles: u64,
    pub(super) device_bytes: u64,
}

/// All phases so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) phases: u32,
    pub(super) seconds: f64,
    pub(super) moments: Vec<Moment>,
}

impl State {
    /// What earlier phases left; nothing where there were none.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display()).into()),
        };
        let damaged = |error| format!("{} is damaged (delete it to begin anew): {error}", path.display());
        Ok(serde_json::from_slice(&bytes).map_err(damaged)?)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        write::whole(path, &write::json_bytes(self)?)
    }
}
