//! Owns reading a trace from text that anybody may have written: every mistake is an error with its line, and memory stays in proportion to the text.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::str::{FromStr, SplitWhitespace};

use super::error::TraceError;
use super::trace::{Trace, TraceFrame, TraceLevel, TraceOutcome, TraceTile, TraceUse};
use crate::geometry::Extent;
use crate::layout::{Layout, LayoutSpec, TileCoord};
use crate::render::{Camera, MAX_LEVELS, Projection};

/// What every trace begins with.
pub(super) const FIRST_LINE: &str = "vastgrid-trace 1";
/// The largest file that is read.
const MOST_BYTES: u64 = 64 << 20;
/// The most pictures.
pub(super) const MOST_FRAMES: usize = 1 << 16;
/// The most tiles, over all lines.
pub(super) const MOST_TILES: u64 = 1 << 20;

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// [`TraceError::File`], with what is wrong: [`TraceError::System`], `TooMany` for a file of more than 64 MiB, or as [`Trace::parse`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        let path = path.as_ref();
        let text = || -> Result<Self, TraceError> {
            let mut text = String::new();
            std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
            Self::parse(&text)
        };
        text().map_err(|error| TraceError::File { path: path.to_owned(), error: Box::new(error) })
    }

    /// Reads a text. **Cost**: memory for at most 65 536 pictures and 1 048 576 tiles.
    ///
    /// # Errors
    /// [`TraceError`]: `Version`, `Field`, `Level`, `Tile`, `TooMany`, `Lacks`, each with its line.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        if text.len() as u64 > MOST_BYTES {
            return Err(TraceError::TooMany { line: 1, what: "bytes", most: MOST_BYTES });
        }
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if first.split('#').next().map(str::trim_end) != Some(FIRST_LINE) {
            return Err(TraceError::Version { value: shortened(first), must_be: FIRST_LINE });
        }
        let mut reader = Reader::default();
        for (number, text) in (2..).zip(lines) {
            reader.line = number;
            let mut words =
                Words { line: number, words: text.split('#').next().unwrap_or("").split_whitespace() };
            if let Some(key) = words.words.next() {
                reader.take(key, &mut words)?;
                words.end()?;
            }
        }
        reader.line += 1;
        reader.finish()
    }
}

/// The words of a line.
struct Words<'t> {
    line: usize,
    words: SplitWhitespace<'t>,
}

impl Words<'_> {
    fn wrong(&self, field: &'static str, value: &str, must_be: &'static str) -> TraceError {
        TraceError::Field { line: self.line, field, value: shortened(value), must_be }
    }

    fn one<V: FromStr>(
        &mut self,
        field: &'static str,
        must_be: &'static str,
        valid: impl Fn(&V) -> bool,
    ) -> Result<V, TraceError> {
        let word = self.words.next().unwrap_or_default();
        word.parse().ok().filter(valid).ok_or_else(|| self.wrong(field, word, must_be))
    }

    fn number(&mut self, field: &'static str) -> Result<f64, TraceError> {
        self.one(field, "a finite number", |v: &f64| v.is_finite())
    }

    fn place(&mut self, field: &'static str) -> Result<[f64; 3], TraceError> {
        Ok([self.number(field)?, self.number(field)?, self.number(field)?])
    }

    fn extent(&mut self, field: &'static str) -> Result<Extent, TraceError> {
        let mut one = || self.one(field, "three whole numbers from 1 on", |v: &u64| *v > 0);
        Ok(Extent::new(one()?, one()?, one()?))
    }

    fn keyword(&mut self, keyword: &'static str) -> Result<(), TraceError> {
        match self.words.next() {
            Some(word) if word == keyword => Ok(()),
            other => Err(self.wrong("a keyword", other.unwrap_or_default(), keyword)),
        }
    }

    fn end(&mut self) -> Result<(), TraceError> {
        self.words.next().map_or(Ok(()), |word| Err(self.wrong("a word at the end", word, "none")))
    }
}

/// A word for an error, which must not be as long as the file.
fn shortened(word: &str) -> String {
    let mut short: String = word.chars().take(40).collect();
    if short.len() < word.len() {
        short.push_str("...");
    }
    short
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    line: usize,
    voxel_bytes: Option<u64>,
    batch_tiles: Option<usize>,
    levels: Vec<TraceLevel>,
    /// Tiles of each level.
    tiles: Vec<Extent>,
    frames: Vec<Draft>,
    tiles_read: u64,
}

/// A picture, as far as it was read.
struct Draft {
    line: usize,
    camera: Option<Camera>,
    budget_bytes: Option<u64>,
    /// The tiles whose use it changes.
    changed: HashSet<TraceTile>,
    frame: TraceFrame,
}

impl Reader {
    fn take(&mut self, key: &str, words: &mut Words<'_>) -> Result<(), TraceError> {
        match key {
            "voxel" => {
                let bytes =
                    words.one("bytes of a voxel", "1, 2, 4 or 8", |b: &u64| matches!(b, 1 | 2 | 4 | 8))?;
                self.voxel_bytes = Some(bytes);
                return Ok(());
            }
            "batch" => {
                let tiles = words.one("tiles of a request", "1 to 65536", |n| (1..=1 << 16).contains(n))?;
                self.batch_tiles = Some(tiles);
                return Ok(());
            }
            "level" => return self.take_level(words),
            "frame" => return self.begin_frame(),
            _ => {}
        }
        let use_of = match key {
            "want" => Some(Some(TraceUse::Want)),
            "stand" => Some(Some(TraceUse::StandIn)),
            "ahead" => Some(Some(TraceUse::Ahead)),
            "drop" => Some(None),
            _ => None,
        };
        let line = self.line;
        if self.frames.is_empty() {
            return Err(match key {
                "camera" | "spacing" | "budget" | "bias" | "order" | "want" | "stand" | "ahead" | "drop"
                | "missing" | "hits" | "load" | "uniform" | "fail" | "evict" => {
                    TraceError::Lacks { line, field: "frame" }
                }
                _ => words.wrong("a line's first word", key, "one that begins a line"),
            });
        }
        if use_of.is_some() || matches!(key, "load" | "uniform" | "fail" | "evict") {
            let tiles = self.take_tiles(words)?;
            let Some(draft) = self.frames.last_mut() else { return Ok(()) };
            if let Some(use_of) = use_of {
                for tile in tiles {
                    if !draft.changed.insert(tile) {
                        return Err(words.wrong(
                            "a tile",
                            &format!("{:?}", tile.tile),
                            "named once in a frame",
                        ));
                    }
                    draft.frame.changes.push((tile, use_of));
                }
                return Ok(());
            }
            let outcome = &mut draft.frame.outcome;
            let list = match key {
                "load" => &mut outcome.loaded,
                "uniform" => &mut outcome.uniform,
                "fail" => &mut outcome.failed,
                _ => &mut outcome.evicted,
            };
            list.extend(tiles);
            return Ok(());
        }
        let Some(draft) = self.frames.last_mut() else { return Ok(()) };
        draft.take(key, words)
    }

    fn take_level(&mut self, words: &mut Words<'_>) -> Result<(), TraceError> {
        let line = self.line;
        if self.levels.len() == MAX_LEVELS {
            return Err(TraceError::TooMany { line, what: "levels", most: MAX_LEVELS as u64 });
        }
        if !self.frames.is_empty() {
            return Err(words.wrong("`level`", "after the first frame", "before it"));
        }
        let Some(voxel_bytes) = self.voxel_bytes else {
            return Err(TraceError::Lacks { line, field: "voxel" });
        };
        let extent = words.extent("an extent")?;
        words.keyword("by")?;
        let factor = words.place("a factor")?;
        if factor.iter().any(|f| *f < 1.0) {
            return Err(words.wrong("a factor", &format!("{factor:?}"), "1 at least"));
        }
        words.keyword("tile")?;
        let tile = words.extent("a tile's shape")?;
        words.keyword("page")?;
        let page = words.extent("a page's shape")?;
        let is_available = match words.words.next() {
            None => true,
            Some("absent") => false,
            Some(other) => return Err(words.wrong("a word at the end", other, "absent, or none")),
        };
        let spec = LayoutSpec { tile: Some(tile), page: Some(page), page_bytes: None };
        let voxel_bytes = usize::try_from(voxel_bytes).unwrap_or(1);
        let layout = Layout::new(extent, voxel_bytes, spec, 1, 1)
            .map_err(|error| TraceError::Level { line, error })?;
        self.tiles.push(layout.tiles());
        self.levels.push(TraceLevel { extent, factor, tile, page, is_available });
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<(), TraceError> {
        let line = self.line;
        if self.levels.is_empty() {
            return Err(TraceError::Lacks { line, field: "level" });
        }
        if self.frames.len() == MOST_FRAMES {
            return Err(TraceError::TooMany { line, what: "frames", most: MOST_FRAMES as u64 });
        }
        if let Some(last) = self.frames.last_mut() {
            last.is_whole()?;
            last.changed = HashSet::new();
        }
        self.frames.push(Draft::after(self.frames.last(), line));
        Ok(())
    }

    fn take_tiles(&mut self, words: &mut Words<'_>) -> Result<Vec<TraceTile>, TraceError> {
        let line = self.line;
        let count = self.levels.len();
        let level = words.one("a level", "one of those listed", |level: &usize| *level < count)?;
        let shape = self.tiles.get(level).copied().unwrap_or_default();
        let there = shape.checked_volume().unwrap_or(u64::MAX);
        let mut tiles = Vec::new();
        while let Some(word) = words.words.next() {
            let (tile, run) = word.split_once('*').unwrap_or((word, "1"));
            let (Ok(tile), Ok(run)) = (tile.parse::<u64>(), run.parse::<u64>()) else {
                return Err(words.wrong("a tile", word, "a number, or number*count"));
            };
            if tile.checked_add(run).is_none_or(|end| end > there) || run == 0 {
                return Err(TraceError::Tile { line, level, tile, count: run, tiles: there });
            }
            self.tiles_read = self.tiles_read.saturating_add(run);
            if self.tiles_read > MOST_TILES {
                return Err(TraceError::TooMany { line, what: "tiles", most: MOST_TILES });
            }
            tiles.extend((tile..tile + run).map(|n| {
                let at = TileCoord::new(n % shape.x, n / shape.x % shape.y, n / shape.x / shape.y);
                TraceTile { level, tile: at }
            }));
        }
        Ok(tiles)
    }

    fn finish(self) -> Result<Trace, TraceError> {
        let line = self.line;
        let lacks = |field| TraceError::Lacks { line, field };
        if let Some(last) = self.frames.last() {
            last.is_whole()?;
        }
        if self.levels.is_empty() {
            return Err(lacks("level"));
        }
        if !self.levels.iter().any(|level| level.is_available) {
            return Err(lacks("level that can be read"));
        }
        // A replay pins it, whole.
        let coarsest = self.levels.iter().rfind(|level| level.is_available).map(TraceLevel::tiles);
        if coarsest.is_some_and(|tiles| tiles.checked_volume().is_none_or(|tiles| tiles > MOST_TILES)) {
            return Err(TraceError::TooMany { line, what: "tiles of the coarsest level", most: MOST_TILES });
        }
        Ok(Trace {
            voxel_bytes: self.voxel_bytes.ok_or_else(|| lacks("voxel"))?,
            batch_tiles: self.batch_tiles.ok_or_else(|| lacks("batch"))?,
            levels: self.levels,
            frames: self.frames.into_iter().map(|draft| draft.frame).collect(),
        })
    }
}

impl Draft {
    /// A picture of which nothing was read yet: as the one before, if there is one.
    fn after(before: Option<&Self>, line: usize) -> Self {
        let nowhere = Projection::Perspective { fov_degrees: 30.0 };
        let empty = TraceFrame {
            camera: Camera::look_at([0.0; 3], [0.0; 3], [0.0; 3], nowhere),
            spacing: [1.0; 3],
            budget_bytes: 0,
            bias: 0.0,
            near_first: false,
            missing_tiles: 0,
            changes: Vec::new(),
            outcome: TraceOutcome::default(),
        };
        let Some(Self { camera, budget_bytes, frame: f, .. }) = before else {
            return Self { line, camera: None, budget_bytes: None, changed: HashSet::new(), frame: empty };
        };
        let TraceFrame { spacing, bias, near_first, .. } = *f;
        let frame =
            TraceFrame { camera: f.camera, spacing, budget_bytes: f.budget_bytes, bias, near_first, ..empty };
        Self { line, camera: *camera, budget_bytes: *budget_bytes, changed: HashSet::new(), frame }
    }

    fn is_whole(&self) -> Result<(), TraceError> {
        let lacks = |field| Err(TraceError::Lacks { line: self.line + 1, field });
        match (self.camera, self.budget_bytes) {
            (None, _) => lacks("camera"),
            (_, None) => lacks("budget"),
            _ => Ok(()),
        }
    }

    fn take(&mut self, key: &str, words: &mut Words<'_>) -> Result<(), TraceError> {
        let Self { camera, budget_bytes, frame, .. } = self;
        let positive = "a finite number above 0";
        match key {
            "camera" => {
                let (eye, target, up) =
                    (words.place("an eye")?, words.place("a target")?, words.place("an up")?);
                let kind = words.words.next().unwrap_or_default();
                let mut size = |field| words.one(field, positive, |v: &f64| v.is_finite() && *v > 0.0);
                let projection = match kind {
                    "perspective" => Projection::Perspective { fov_degrees: size("an angle")? },
                    "orthographic" => Projection::Orthographic { height: size("a height")? },
                    _ => return Err(words.wrong("a projection", kind, "perspective or orthographic")),
                };
                frame.camera = Camera::look_at(eye, target, up, projection);
                *camera = Some(frame.camera);
            }
            "spacing" => {
                let mut one = || words.one("a spacing", positive, |v: &f64| v.is_finite() && *v > 0.0);
                frame.spacing = [one()?, one()?, one()?];
            }
            "budget" => {
                frame.budget_bytes = words.one("a budget", "bytes from 1 on", |bytes: &u64| *bytes > 0)?;
                *budget_bytes = Some(frame.budget_bytes);
            }
            "bias" => frame.bias = words.one("a bias", "from -16 to 16", |b: &f64| b.abs() <= 16.0)?,
            "order" => {
                frame.near_first = match words.words.next().unwrap_or_default() {
                    "near" => true,
                    "level" => false,
                    other => return Err(words.wrong("an order", other, "near or level")),
                };
            }
            "missing" => frame.missing_tiles = words.one("tiles", "a whole number", |_: &u64| true)?,
            "hits" => frame.outcome.hits = words.one("tiles", "a whole number", |_: &u64| true)?,
            _ => return Err(words.wrong("a line's first word", key, "one that begins a line")),
        }
        Ok(())
    }
}
