//! Owns the render loop of one browser. It always renders the newest view, with what is there; asks for what that lacked; and once the view rests,
//! goes on until nothing is missing, even where the view needs more than the budget.
//!
//! ```text
//!   newest view --> fits? --yes--> render what is there --> send --> load what it lacked --+--> at rest: sharp --> send
//!                     |                    ^-------------------- better? ------------------+
//!                     +-----no---> render it whole, through the budget, but coarse --> send ---> at rest: whole and sharp --> send
//! ```

use std::time::{Duration, Instant};

use vastgrid::Scalar;
use vastgrid::render::{ExactRender, Image, SkipCache, render_with};

use crate::mailbox::Mailbox;
use crate::status::Status;
use crate::view::View;
use crate::volume::Scene;
use crate::{Failure, encode};

/// A view that has not changed for this long is at rest.
const REST: Duration = Duration::from_millis(120);
/// While something moves, a picture should take no longer than this,
const QUICK_MS: f64 = 60.0;
/// or than this where its tiles must pass through a budget that does not hold them all.
const QUICK_WHOLE_MS: f64 = 120.0;
/// What a pixel is taken to cost before that is known: better a coarse picture first than a late one.
const FIRST_PIXEL_MS: f64 = 1e-3;
/// Tiles asked for between two pictures.
const TILES_PER_STEP: usize = 64;
/// Pictures sent that the browser has not shown yet.
const PICTURES_AHEAD: u64 = 2;

/// Sends to the browser; false once it is gone.
pub(crate) type Send<'s> = &'s dyn Fn(Vec<u8>) -> bool;

/// Serves one browser until it is gone.
pub(crate) fn run<T: Scalar>(scene: &Scene<T>, mailbox: &Mailbox, send: Send<'_>) {
    let cache = SkipCache::new();
    let pace = Pace { pixel_ms: FIRST_PIXEL_MS, whole_pixel_ms: FIRST_PIXEL_MS, fits: true };
    let mut session = Session { scene, mailbox, send, cache, pace, seen: 0, sent: 0 };
    while let Some((number, view)) = mailbox.next(session.seen) {
        session.seen = number;
        if let Err(error) = session.show(&view) {
            let status = Status { error: error.to_string(), ..session.status("failed") };
            session.post(status, &[]);
        }
    }
}

struct Session<'s, T: Scalar> {
    scene: &'s Scene<T>,
    mailbox: &'s Mailbox,
    send: Send<'s>,
    cache: SkipCache,
    pace: Pace,
    /// Number of the view in hand.
    seen: u64,
    /// Messages sent.
    sent: u64,
}

/// What was learnt of how long pictures take.
struct Pace {
    /// Milliseconds for a pixel of what is there,
    pixel_ms: f64,
    /// and of a whole picture.
    whole_pixel_ms: f64,
    /// Whether the budget holds what a view needs, for all that is known.
    fits: bool,
}

impl Pace {
    /// By how much to divide a picture's sides so that it is quick.
    fn shrink(&self, view: &View) -> u32 {
        let (pixel_ms, quick_ms) =
            if self.fits { (self.pixel_ms, QUICK_MS) } else { (self.whole_pixel_ms, QUICK_WHOLE_MS) };
        let full_ms = pixel_ms * f64::from(view.width) * f64::from(view.height);
        (1..=6).find(|&shrink| full_ms <= quick_ms * f64::from(shrink * shrink)).unwrap_or(6)
    }
}

/// A picture, and whether nothing is missing in it.
struct Shot {
    image: Image,
    ms: f64,
    complete: bool,
}

impl<T: Scalar> Session<'_, T> {
    /// Shows a view, better and better, until it is whole and sharp, or outdated.
    fn show(&mut self, view: &View) -> Result<(), Failure> {
        let shrink = self.pace.shrink(view);
        let moving = if self.pace.fits { self.stream(view, shrink)? } else { self.coarse(view, shrink)? };
        let Some(mut shot) = moving else { return Ok(()) };
        if self.mailbox.is_outdated(self.seen, REST) {
            return Ok(());
        }
        if shrink > 1 && self.pace.fits {
            let Some(sharp) = self.stream(view, 1)? else { return Ok(()) };
            shot = sharp;
        }
        if !shot.complete || !self.pace.fits {
            let Some(whole) = self.whole(view, 1, true)? else { return Ok(()) };
            shot = whole;
        }
        let bytes = encode::png(&shot.image, png::Compression::Fast)?;
        let status = self.status("converged");
        self.post(Status { kind: "image/png", frame_ms: shot.ms, ..status }, &bytes);
        Ok(())
    }

    /// Renders what is there and asks for what was not, for as long as that makes it better. `None` where the view is outdated.
    fn stream(&mut self, view: &View, shrink: u32) -> Result<Option<Shot>, Failure> {
        let facts = &self.scene.facts;
        let (camera, transfer) = (view.camera(facts), view.transfer(facts)?);
        let options = view.options(facts, shrink);
        let mut fewest = usize::MAX;
        loop {
            let begun = Instant::now();
            let frame = self.scene.array.frame();
            let rendered = render_with::<T, _>(&*frame, &camera, &transfer, &options, &mut self.cache)?;
            drop(frame);
            let ms = elapsed_ms(begun);
            self.pace.pixel_ms = ms / (f64::from(options.width) * f64::from(options.height));

            let wanted: Vec<_> = rendered.report.wanted.iter().map(|w| w.tile).collect();
            let bytes = encode::jpeg(&rendered.image)?;
            let status = Status { wanted_tiles: wanted.len(), frame_ms: ms, ..self.status("streaming") };
            let there = self.post(Status { kind: "image/jpeg", ..status }, &bytes);
            if !there || self.mailbox.is_outdated(self.seen, Duration::ZERO) {
                return Ok(None);
            }
            let shot = Shot { image: rendered.image, ms, complete: wanted.is_empty() };
            if shot.complete {
                return Ok(Some(shot));
            }
            let step = &wanted[..wanted.len().min(TILES_PER_STEP)];
            // No less is missing than before: what comes drives out what is seen.
            let stuck = wanted.len() >= fewest || {
                let report = self.scene.array.request_fitting(step)?.complete()?;
                report.loaded + report.shared + report.uniform == 0
            };
            if stuck {
                self.pace.fits = false;
                return Ok(Some(shot));
            }
            fewest = wanted.len();
        }
    }

    /// A whole picture while something moves, coarse enough to be quick. `None` where the browser is gone.
    fn coarse(&mut self, view: &View, shrink: u32) -> Result<Option<Shot>, Failure> {
        let Some(shot) = self.whole(view, shrink, false)? else { return Ok(None) };
        let bytes = encode::jpeg(&shot.image)?;
        let status = self.status("streaming");
        let there = self.post(Status { kind: "image/jpeg", frame_ms: shot.ms, ..status }, &bytes);
        Ok(there.then_some(shot))
    }

    /// The picture in which nothing is missing, however small the budget. With `may_stop`, `None` where the view is outdated before that.
    fn whole(&mut self, view: &View, shrink: u32, may_stop: bool) -> Result<Option<Shot>, Failure> {
        let Scene { array, facts, pool, .. } = self.scene;
        let (begun, loads) = (Instant::now(), pool.stats().loads);
        let options = view.options(facts, shrink);
        let (camera, transfer) = (view.camera(facts), view.transfer(facts)?);
        let mut exact = ExactRender::new(facts.extent, &camera, &transfer, &options)?;
        let mut told = begun;
        loop {
            let frame = array.frame();
            let progress = exact.advance::<T, _>(&*frame)?;
            drop(frame);
            let ms = elapsed_ms(begun);
            if progress.done {
                self.pace.whole_pixel_ms = ms / (f64::from(options.width) * f64::from(options.height));
                // Nothing had to be loaded, so it is all there.
                self.pace.fits = pool.stats().loads == loads;
                return Ok(Some(Shot { image: exact.image()?, ms, complete: true }));
            }
            if may_stop && told.elapsed() > Duration::from_millis(250) {
                told = Instant::now();
                let (rays_left, wanted_tiles) = (progress.rays_left, progress.wanted.len());
                let status = self.status("finishing");
                self.post(Status { rays_left, wanted_tiles, frame_ms: ms, ..status }, &[]);
            }
            if may_stop && self.mailbox.is_outdated(self.seen, Duration::ZERO) {
                return Ok(None);
            }
            let tiles: Vec<_> = progress.wanted.iter().flat_map(|group| &group.tiles).copied().collect();
            let _report = array.request_fitting(&tiles)?.complete()?;
            // Where no ray went on, perhaps not even one group fits. Asking for it says how much it needs.
            if let Some(group) = progress.wanted.first().filter(|_| progress.samples == 0) {
                let _report = array.request(&group.tiles)?.complete()?;
            }
        }
    }

    fn status(&self, state: &'static str) -> Status {
        Status::new(state, &self.scene.pool.stats())
    }

    /// Sends a picture with its status before it, once the browser has shown those before; false once it is gone.
    fn post(&mut self, status: Status, picture: &[u8]) -> bool {
        if !self.mailbox.wait_shown(self.sent.saturating_sub(PICTURES_AHEAD - 1)) {
            return false;
        }
        self.sent += 1;
        (self.send)(Status { number: self.sent, ..status }.message(picture))
    }
}

fn elapsed_ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
