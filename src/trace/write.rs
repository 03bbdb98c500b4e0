//! Owns a trace as text. The module's documentation has the format.

use std::fmt;
use std::path::Path;

use super::error::TraceError;
use super::trace::{Trace, TraceFrame, TraceLevel, TraceTile, TraceUse};
use crate::geometry::Extent;
use crate::render::Projection;

impl Trace {
    /// Writes it into a file, in place of what was there.
    ///
    /// # Errors
    /// [`TraceError::File`], with the system's reason.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), TraceError> {
        let path = path.as_ref();
        std::fs::write(path, self.to_string())
            .map_err(|error| TraceError::File { path: path.to_owned(), error: Box::new(error.into()) })
    }

    fn write_frame(
        &self,
        f: &mut fmt::Formatter<'_>,
        frame: &TraceFrame,
        before: Option<&TraceFrame>,
    ) -> fmt::Result {
        writeln!(f, "frame")?;
        let differs = |same: fn(&TraceFrame, &TraceFrame) -> bool| before.is_none_or(|b| !same(b, frame));
        if differs(|a, b| a.camera == b.camera) {
            let camera = frame.camera;
            write!(f, "camera")?;
            for v in [camera.eye, camera.target, camera.up].into_iter().flatten() {
                write!(f, " {v}")?;
            }
            match camera.projection {
                Projection::Perspective { fov_degrees } => writeln!(f, " perspective {fov_degrees}")?,
                Projection::Orthographic { height } => writeln!(f, " orthographic {height}")?,
            }
        }
        if differs(|a, b| a.spacing == b.spacing) {
            let [x, y, z] = frame.spacing;
            writeln!(f, "spacing {x} {y} {z}")?;
        }
        if differs(|a, b| a.budget_bytes == b.budget_bytes) {
            writeln!(f, "budget {}", frame.budget_bytes)?;
        }
        if differs(|a, b| a.bias == b.bias) {
            writeln!(f, "bias {}", frame.bias)?;
        }
        if differs(|a, b| a.near_first == b.near_first) {
            writeln!(f, "order {}", if frame.near_first { "near" } else { "level" })?;
        }
        for (word, what_for) in [
            ("drop", None),
            ("want", Some(TraceUse::Want)),
            ("stand", Some(TraceUse::StandIn)),
            ("ahead", Some(TraceUse::Ahead)),
        ] {
            let mut tiles: Vec<_> =
                frame.changes.iter().filter(|(_, to)| *to == what_for).map(|c| c.0).collect();
            tiles.sort_unstable_by_key(|&tile| (tile.level, self.number(tile)));
            self.write_tiles(f, word, &tiles)?;
        }
        for (word, count) in [("missing", frame.missing_tiles), ("hits", frame.outcome.hits)] {
            if count > 0 {
                writeln!(f, "{word} {count}")?;
            }
        }
        let outcome = &frame.outcome;
        self.write_tiles(f, "load", &outcome.loaded)?;
        self.write_tiles(f, "uniform", &outcome.uniform)?;
        self.write_tiles(f, "fail", &outcome.failed)?;
        self.write_tiles(f, "evict", &outcome.evicted)
    }

    /// The tiles, in this order: a line for each run of one level.
    fn write_tiles(&self, f: &mut fmt::Formatter<'_>, word: &str, tiles: &[TraceTile]) -> fmt::Result {
        for of_level in tiles.chunk_by(|a, b| a.level == b.level) {
            write!(f, "{word} {}", of_level.first().map_or(0, |tile| tile.level))?;
            let next = |a: &TraceTile, b: &TraceTile| self.number(*a).checked_add(1) == Some(self.number(*b));
            for run in of_level.chunk_by(next) {
                let first = run.first().map_or(0, |&tile| self.number(tile));
                match run.len() {
                    1 => write!(f, " {first}")?,
                    more => write!(f, " {first}*{more}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// A tile's number in its level.
    fn number(&self, TraceTile { level, tile }: TraceTile) -> u64 {
        let tiles = self.levels.get(level).map_or(Extent::default(), TraceLevel::tiles);
        let row = tile.y.saturating_add(tiles.y.saturating_mul(tile.z));
        tile.x.saturating_add(tiles.x.saturating_mul(row))
    }
}

/// The file.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nvoxel {}\nbatch {}", super::read::FIRST_LINE, self.voxel_bytes, self.batch_tiles)?;
        for level in &self.levels {
            let three = |e: Extent| format!("{} {} {}", e.x, e.y, e.z);
            let [x, y, z] = level.factor;
            write!(f, "level {} by {x} {y} {z}", three(level.extent))?;
            write!(f, " tile {} page {}", three(level.tile), three(level.page))?;
            writeln!(f, "{}", if level.is_available { "" } else { " absent" })?;
        }
        let mut before = None;
        for frame in &self.frames {
            self.write_frame(f, frame, before)?;
            before = Some(frame);
        }
        Ok(())
    }
}
