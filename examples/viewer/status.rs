//! Owns what the page is told: [`hello`] once, then a [`Status`] with each picture.

use serde::Serialize;
use vastgrid::{Scalar, Stats};

use crate::Failure;
use crate::eye::Quality;
use crate::overlay::Overlay;
use crate::scene::Scene;
use crate::view::{Palette, window_of};

/// What the page learns beside each picture.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Status {
    /// Counts messages; the page sends it back once the picture is shown.
    pub(crate) number: u64,
    /// `image/jpeg`, `image/png`, or empty where there is no picture.
    pub(crate) kind: &'static str,
    /// One of: moving, loading, finishing, converged, frozen, failed.
    pub(crate) state: &'static str,
    pub(crate) frame_ms: f64,
    /// By how much the picture's sides were divided.
    pub(crate) shrink: u32,
    /// From what was asked for last to the first picture of it,
    pub(crate) first_ms: Option<f64>,
    /// and to the last, than which waiting gives no better.
    pub(crate) full_ms: Option<f64>,
    pub(crate) quality: Quality,
    /// While it is made whole: rays that wait.
    pub(crate) rays_left: u64,
    pub(crate) resident_tiles: u64,
    pub(crate) used_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) pinned_bytes: u64,
    pub(crate) loads: u64,
    pub(crate) evictions: u64,
    pub(crate) frozen: bool,
    /// Why tiles cannot be shown.
    pub(crate) trouble: String,
    /// Why something that was ordered was not done, or no picture made.
    pub(crate) error: String,
    pub(crate) overlay: Option<Overlay>,
    /// What was asked for at a place of the picture.
    pub(crate) picked: Option<Picked>,
}

/// What is seen at a place of the picture.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Picked {
    /// Where it lies, in the world.
    pub(crate) at: Option<[f64; 3]>,
}

impl Status {
    pub(crate) fn new(state: &'static str, stats: &Stats) -> Self {
        Self {
            state,
            resident_tiles: stats.resident_tiles,
            used_bytes: stats.used_bytes,
            budget_bytes: stats.budget_bytes,
            pinned_bytes: stats.pinned_bytes,
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

/// What the page learns first, as JSON. `stats` are those of an eye that has seen nothing yet.
pub(crate) fn hello<T: Scalar>(scene: &Scene<T>, stats: &Stats) -> Result<String, Failure> {
    let facts = &scene.facts;
    let mut presets = Vec::new();
    for palette in Palette::all() {
        let (window, level) = window_of(&facts.transfer(palette)?);
        presets.push(serde_json::json!({ "name": palette.name(), "window": window, "level": level }));
    }
    let mut levels = Vec::new();
    for level in 0..scene.levels.levels() {
        let Some(geometry) = scene.levels.geometry(level) else { continue };
        levels.push(serde_json::json!({
            "extent": geometry.extent().to_array(),
            "factor": geometry.factor(),
            "unavailable": scene.levels.source(level).err().map(|error| error.to_string()),
        }));
    }
    let volume_bytes = facts.extent.checked_volume().map(|v| v.saturating_mul(T::TYPE.bytes() as u64));
    let hello = serde_json::json!({
        "name": &*scene.name,
        "type": T::TYPE.name(),
        "extent": facts.extent.to_array(),
        "spacing": facts.spacing,
        "surface": facts.surface(),
        "range": [facts.range.0, facts.range.1],
        "zoom": facts.zoom,
        "preset": facts.palette.name(),
        "presets": presets,
        "volume_bytes": volume_bytes,
        "levels": levels,
        "tile": scene.tile,
        "states": Overlay::STATES,
        "budget_bytes": [least_budget(scene, stats), most_budget(scene.budget_bytes, volume_bytes)],
    });
    Ok(hello.to_string())
}

/// What is pinned, and a few pages to look through.
fn least_budget<T: Scalar>(scene: &Scene<T>, stats: &Stats) -> u64 {
    let tile_bytes = scene.tile.saturating_pow(3).saturating_mul(T::TYPE.bytes() as u64);
    stats.pinned_bytes.saturating_add(tile_bytes).min(scene.budget_bytes)
}

/// All of the volume twice, as far as the machine has memory for it; what was asked for in any case.
pub(crate) fn most_budget(asked_bytes: u64, volume_bytes: Option<u64>) -> u64 {
    let free = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let most = free.unwrap_or(4 << 30) / 4 * 3;
    volume_bytes.map_or(most, |bytes| bytes.saturating_mul(2).min(most)).max(asked_bytes)
}
