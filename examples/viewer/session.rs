//! Owns the render loop of one browser. It always renders the newest view, with what is there; asks for what that lacked; and once the view rests,
//! goes on until nothing is missing, even where the view needs more than the budget.
//!
//! ```text
//!   newest view --> render what is there --> send --> load what it lacked --+--> at rest: the exact picture --> send
//!                        ^------------------ better? -----------------------+
//! ```

use std::time::{Duration, Instant};

use serde::Serialize;
use vastgrid::Scalar;
use vastgrid::render::{ExactRender, Image, Preset, SkipCache, render_with};

use crate::mailbox::Mailbox;
use crate::view::{View, window_of};
use crate::volume::Scene;
use crate::{Failure, encode};

/// A view that has not changed for this long is at rest.
const REST: Duration = Duration::from_millis(120);
/// While something moves, a picture should take no longer.
const QUICK_MS: f64 = 60.0;
/// Tiles asked for between two pictures.
const TILES_PER_STEP: usize = 64;
/// Pictures sent that the browser has not shown yet.
const PICTURES_AHEAD: u64 = 2;

/// What the page learns beside each picture.
#[derive(Debug, Default, Serialize)]
struct Status {
    number: u64,
    /// `image/jpeg`, `image/png`, or empty where there is no picture.
    kind: &'static str,
    /// One of: streaming, finishing, converged, failed.
    state: &'static str,
    width: u32,
    height: u32,
    frame_ms: f64,
    resident_tiles: u64,
    wanted_tiles: usize,
    rays_left: u64,
    used_bytes: u64,
    budget_bytes: u64,
    loads: u64,
    evictions: u64,
    error: String,
}

/// What the page learns first, as JSON.
pub(crate) fn hello<T: Scalar>(scene: &Scene<T>) -> Result<String, Failure> {
    let facts = &scene.facts;
    let presets: Result<Vec<_>, Failure> = Preset::ALL
        .into_iter()
        .map(|preset| {
            let (window, level) = window_of(&facts.transfer(preset)?);
            Ok(serde_json::json!({ "name": preset.name(), "window": window, "level": level }))
        })
        .collect();
    Ok(serde_json::json!({
        "name": scene.name,
        "type": T::TYPE.name(),
        "extent": facts.extent.to_array(),
        "spacing": facts.spacing,
        "range": [facts.range.0, facts.range.1],
        "preset": facts.preset.name(),
        "presets": presets?,
        "volume_bytes": facts.extent.checked_volume().map(|v| v.saturating_mul(T::TYPE.bytes() as u64)),
    })
    .to_string())
}

/// Sends to the browser; false once it is gone.
pub(crate) type Send<'s> = &'s dyn Fn(Vec<u8>) -> bool;

/// Serves one browser until it is gone.
pub(crate) fn run<T: Scalar>(scene: &Scene<T>, mailbox: &Mailbox, send: Send<'_>) {
    let mut session =
        Session { scene, mailbox, send, cache: SkipCache::new(), seen: 0, sent: 0, pixel_ms: 0.0 };
    while let Some((number, view)) = mailbox.next(session.seen) {
        session.seen = number;
        let failed = session.show(&view).err();
        if failed.is_some_and(|error| !session.fail(&error)) {
            return;
        }
    }
}

struct Session<'s, T: Scalar> {
    scene: &'s Scene<T>,
    mailbox: &'s Mailbox,
    send: Send<'s>,
    cache: SkipCache,
    /// Number of the view in hand.
    seen: u64,
    /// Pictures sent.
    sent: u64,
    /// What a pixel cost last.
    pixel_ms: f64,
}

/// A picture of what was there.
struct Shot {
    image: Image,
    ms: f64,
    complete: bool,
}

impl<T: Scalar> Session<'_, T> {
    /// Shows a view, better and better, until it is whole or outdated.
    fn show(&mut self, view: &View) -> Result<(), Failure> {
        let shrink = self.shrink(view);
        let Some(mut shot) = self.stream(view, shrink)? else { return Ok(()) };
        if self.mailbox.is_outdated(self.seen, REST) {
            return Ok(());
        }
        if shrink > 1 {
            let Some(sharp) = self.stream(view, 1)? else { return Ok(()) };
            shot = sharp;
        }
        let whole = if shot.complete { Some(shot) } else { self.exact(view)? };
        if let Some(Shot { image, ms, .. }) = whole {
            let bytes = encode::png(&image, png::Compression::Fast)?;
            let status =
                Status { kind: "image/png", state: "converged", frame_ms: ms, ..self.status(&image) };
            self.post(status, &bytes);
        }
        Ok(())
    }

    /// By how much to divide a picture's sides so that it is quick.
    fn shrink(&self, view: &View) -> u32 {
        let full_ms = self.pixel_ms * f64::from(view.width) * f64::from(view.height);
        if full_ms <= QUICK_MS {
            1
        } else if full_ms <= 6.0 * QUICK_MS {
            2
        } else {
            4
        }
    }

    /// Renders what is there and asks for what was not, for as long as that makes it better. `None` where the view is outdated.
    fn stream(&mut self, view: &View, shrink: u32) -> Result<Option<Shot>, Failure> {
        let facts = &self.scene.facts;
        let (camera, transfer, options) =
            (view.camera(facts), view.transfer(facts)?, view.options(facts, shrink));
        let mut fewest = usize::MAX;
        loop {
            let begun = Instant::now();
            let frame = self.scene.array.frame();
            let rendered = render_with::<T, _>(&*frame, &camera, &transfer, &options, &mut self.cache)?;
            drop(frame);
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            self.pixel_ms = ms / (f64::from(options.width) * f64::from(options.height));

            let wanted: Vec<_> = rendered.report.wanted.iter().map(|w| w.tile).collect();
            let bytes = encode::jpeg(&rendered.image)?;
            let status = Status { wanted_tiles: wanted.len(), frame_ms: ms, ..self.status(&rendered.image) };
            if !self.post(Status { kind: "image/jpeg", state: "streaming", ..status }, &bytes) {
                return Ok(None);
            }
            let shot = Shot { image: rendered.image, ms, complete: wanted.is_empty() };
            if self.mailbox.is_outdated(self.seen, Duration::ZERO) {
                return Ok(None);
            }
            // More is missing than before: the view does not fit, and what comes now drives out what is seen.
            if wanted.len() >= fewest || wanted.is_empty() {
                return Ok(Some(shot));
            }
            fewest = wanted.len();
            let step = &wanted[..wanted.len().min(TILES_PER_STEP)];
            let report = self.scene.array.request_fitting(step)?.complete()?;
            if report.loaded + report.shared + report.uniform == 0 {
                return Ok(Some(shot));
            }
        }
    }

    /// The picture in which nothing is missing, however small the budget. `None` where the view is outdated before that.
    fn exact(&mut self, view: &View) -> Result<Option<Shot>, Failure> {
        let Scene { array, facts, .. } = self.scene;
        let begun = Instant::now();
        let (camera, transfer, options) = (view.camera(facts), view.transfer(facts)?, view.options(facts, 1));
        let mut exact = ExactRender::new(facts.extent, &camera, &transfer, &options)?;
        let mut told = begun;
        loop {
            let frame = array.frame();
            let progress = exact.advance::<T, _>(&*frame)?;
            drop(frame);
            let image = exact.image()?;
            if progress.done {
                let ms = begun.elapsed().as_secs_f64() * 1e3;
                return Ok(Some(Shot { image, ms, complete: true }));
            }
            if told.elapsed() > Duration::from_millis(250) {
                told = Instant::now();
                let frame_ms = begun.elapsed().as_secs_f64() * 1e3;
                let (rays_left, wanted_tiles) = (progress.rays_left, progress.wanted.len());
                let status =
                    Status { rays_left, wanted_tiles, frame_ms, state: "finishing", ..self.status(&image) };
                self.post(status, &[]);
            }
            if self.mailbox.is_outdated(self.seen, Duration::ZERO) {
                return Ok(None);
            }
            let tiles: Vec<_> = progress.wanted.iter().flat_map(|group| &group.tiles).copied().collect();
            let _report = array.request_fitting(&tiles)?.complete()?;
            // Where not a ray went on, not even one group fits together. Asking for it says how much it needs.
            if let Some(group) = progress.wanted.first().filter(|_| progress.samples == 0) {
                let _report = array.request(&group.tiles)?.complete()?;
            }
        }
    }

    /// A status without a picture, yet: what the pool holds and did.
    fn status(&self, image: &Image) -> Status {
        let stats = self.scene.pool.stats();
        Status {
            width: image.width(),
            height: image.height(),
            resident_tiles: stats.resident_tiles,
            used_bytes: stats.used_bytes,
            budget_bytes: stats.budget_bytes,
            loads: stats.loads,
            evictions: stats.evictions,
            ..Status::default()
        }
    }

    /// Tells the page what went wrong; false once it is gone.
    fn fail(&mut self, error: &Failure) -> bool {
        let stats = self.scene.pool.stats();
        let (used_bytes, budget_bytes) = (stats.used_bytes, stats.budget_bytes);
        let status = Status {
            state: "failed",
            error: error.to_string(),
            used_bytes,
            budget_bytes,
            ..Status::default()
        };
        self.post(status, &[])
    }

    /// Sends a picture with its status before it, once the browser has shown those before; false once it is gone.
    ///
    /// **Shape**: length of the status (4 bytes, little-endian), the status as JSON, the picture.
    fn post(&mut self, status: Status, picture: &[u8]) -> bool {
        if !self.mailbox.wait_shown(self.sent.saturating_sub(PICTURES_AHEAD - 1)) {
            return false;
        }
        self.sent += 1;
        // A status is numbers and text, which always make JSON.
        let json = serde_json::to_vec(&Status { number: self.sent, ..status }).unwrap_or_default();
        let length = u32::try_from(json.len()).unwrap_or(0).to_le_bytes();
        (self.send)([&length, json.as_slice(), picture].concat())
    }
}
