//! Owns what the page is told: [`hello`] once, then a [`Status`] with each picture.

use serde::Serialize;
use vastgrid::render::Preset;
use vastgrid::{Scalar, Stats};

use crate::Failure;
use crate::view::window_of;
use crate::volume::Scene;

/// What the page learns beside each picture.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Status {
    /// Counts messages; the page sends it back once the picture is shown.
    pub(crate) number: u64,
    /// `image/jpeg`, `image/png`, or empty where there is no picture.
    pub(crate) kind: &'static str,
    /// One of: streaming, finishing, converged, failed.
    pub(crate) state: &'static str,
    pub(crate) frame_ms: f64,
    pub(crate) wanted_tiles: usize,
    pub(crate) rays_left: u64,
    pub(crate) resident_tiles: u64,
    pub(crate) used_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) loads: u64,
    pub(crate) evictions: u64,
    pub(crate) error: String,
}

impl Status {
    pub(crate) fn new(state: &'static str, stats: &Stats) -> Self {
        Self {
            state,
            resident_tiles: stats.resident_tiles,
            used_bytes: stats.used_bytes,
            budget_bytes: stats.budget_bytes,
            loads: stats.loads,
            evictions: stats.evictions,
            ..Self::default()
        }
    }

    /// The message with a picture, or with an empty one.
    ///
    /// **Shape**: length of the status (4 bytes, little-endian), the status as JSON, the picture.
    pub(crate) fn message(&self, picture: &[u8]) -> Vec<u8> {
        // Numbers and text always make JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let length = u32::try_from(json.len()).unwrap_or(0).to_le_bytes();
        [&length, json.as_slice(), picture].concat()
    }
}

/// What the page learns first, as JSON.
pub(crate) fn hello<T: Scalar>(scene: &Scene<T>) -> Result<String, Failure> {
    let facts = &scene.facts;
    let mut presets = Vec::new();
    for preset in Preset::ALL {
        let (window, level) = window_of(&facts.transfer(preset)?);
        presets.push(serde_json::json!({ "name": preset.name(), "window": window, "level": level }));
    }
    let hello = serde_json::json!({
        "name": scene.name,
        "type": T::TYPE.name(),
        "extent": facts.extent.to_array(),
        "spacing": facts.spacing,
        "surface": facts.surface(),
        "range": [facts.range.0, facts.range.1],
        "preset": facts.preset.name(),
        "presets": presets,
        "volume_bytes": facts.extent.checked_volume().map(|v| v.saturating_mul(T::TYPE.bytes() as u64)),
    });
    Ok(hello.to_string())
}
