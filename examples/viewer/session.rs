//! Owns the render loop of one browser: it renders the newest view with what is there, at once but coarse, and once the view rests better and better until waiting gives no more.
//!
//! ```text
//!   newest view, orders --> quick, coarse --> at rest: finer, as tiles come --> at rest: every pixel --> beyond the budget: whole --> PNG
//!            ^------------------------------ outdated? -----------------------------------------+
//! ```

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::eye::{Eye, Look, Quality};
use crate::mailbox::{Asked, Mailbox, Orders};
use crate::overlay::Overlay;
use crate::status::{Picked, Status};
use crate::view::View;
use crate::{Failure, encode};

/// A view that has not changed for this long is at rest.
const REST: Duration = Duration::from_millis(120);
/// While something moves, a picture should take no longer than this,
const QUICK_MS: f64 = 60.0;
/// and while much is still to come, than this.
const PATIENT_MS: f64 = 250.0;
/// but no coarser than this, each side divided by it.
const MOST_SHRINK: u32 = 10;
/// For so long pictures of less than every pixel are refined,
const PATIENCE: Duration = Duration::from_secs(3);
/// or until so much of them is as it was wanted.
const GOOD: f64 = 0.97;
/// What a pixel is taken to cost before that is known: better a coarse picture first than a late one.
const FIRST_PIXEL_MS: f64 = 2e-3;
/// Pictures sent that the browser has not shown yet.
const PICTURES_AHEAD: u64 = 2;
/// How often the page is told of what goes on without a picture.
const TELL: Duration = Duration::from_millis(250);

/// Sends to the browser; false once it is gone.
pub(crate) type Send<'s> = &'s dyn Fn(Vec<u8>) -> bool;
/// What is drawn over a picture of this view.
pub(crate) type Draw<'s> = &'s dyn Fn(&dyn Eye, &View) -> Overlay;

/// Serves one browser until it is gone.
pub(crate) fn run(eye: &mut dyn Eye, mailbox: &Mailbox, draw: Draw<'_>, send: Send<'_>) {
    let mut session = Session {
        eye,
        mailbox,
        draw,
        send,
        pixel_ms: FIRST_PIXEL_MS,
        overlay: false,
        seen: 0,
        sent: 0,
        asked_at: Instant::now(),
        first_ms: None,
        full_ms: None,
        quality: Quality::default(),
        complaint: String::new(),
    };
    let mut last = None;
    while let Some(Asked { number, view, orders, at }) = mailbox.next(session.seen) {
        session.seen = number;
        let moved = last.as_ref() != Some(&view);
        if !moved && orders.only_ask() && session.full_ms.is_some() {
            session.answer(&view, &orders);
            continue;
        }
        if moved || orders.change_pictures() {
            (session.asked_at, session.first_ms, session.full_ms) = (at, None, None);
        }
        session.complaint = session.obey(&orders).err().map_or(String::new(), |error| error.to_string());
        session.answer(&view, &orders);
        if let Err(error) = session.show(&view, moved) {
            session.complaint = error.to_string();
            let status = session.status("failed");
            session.post(status, &[]);
        }
        last = Some(view);
    }
}

struct Session<'s> {
    eye: &'s mut dyn Eye,
    mailbox: &'s Mailbox,
    draw: Draw<'s>,
    send: Send<'s>,
    /// Milliseconds for a pixel, of late.
    pixel_ms: f64,
    overlay: bool,
    /// Number of what was asked for last.
    seen: u64,
    /// Messages sent.
    sent: u64,
    asked_at: Instant,
    first_ms: Option<f64>,
    full_ms: Option<f64>,
    /// Of the last picture.
    quality: Quality,
    /// Why what was ordered was not done.
    complaint: String,
}

impl Session<'_> {
    /// Does what was ordered.
    fn obey(&mut self, orders: &Orders) -> Result<(), Failure> {
        self.overlay = orders.overlay.unwrap_or(self.overlay);
        if let Some(frozen) = orders.frozen {
            self.eye.freeze(frozen);
        }
        if orders.retry {
            self.eye.retry();
        }
        if orders.flush {
            self.eye.flush()?;
        }
        if let Some(bytes) = orders.budget_bytes {
            self.eye.set_budget(bytes)?;
        }
        Ok(())
    }

    /// Tells what was asked for.
    fn answer(&mut self, view: &View, orders: &Orders) {
        if let Some(at) = orders.pick {
            let picked = Some(Picked { at: self.eye.pick(view, at) });
            let state = if self.full_ms.is_some() { "converged" } else { "loading" };
            let status = self.status(state);
            self.post(Status { picked, ..status }, &[]);
        }
    }

    /// By how much to divide a picture's sides so that it takes so long.
    fn shrink(&self, view: &View, within_ms: f64) -> u32 {
        let full_ms = self.pixel_ms * f64::from(view.width) * f64::from(view.height);
        (1..=MOST_SHRINK)
            .find(|&shrink| full_ms <= within_ms * f64::from(shrink * shrink))
            .unwrap_or(MOST_SHRINK)
    }

    /// Shows a view, better and better, until it is as good as it gets, or outdated.
    fn show(&mut self, view: &View, moved: bool) -> Result<(), Failure> {
        let quick = self.shrink(view, if moved { QUICK_MS } else { PATIENT_MS });
        // What moves is shown however fast it moves.
        let Some(look) = self.look(view, quick, &AtomicBool::new(false))? else { return Ok(()) };
        let state = if quick > 1 { "moving" } else { "loading" };
        if !self.post_jpeg(view, state, quick, &look)? || (moved && self.mailbox.is_outdated(self.seen, REST))
        {
            return Ok(());
        }
        let before = Some(look).filter(|_| quick == 1);
        let mut shrink = self.shrink(view, PATIENT_MS);
        while shrink > 1 {
            if !self.refine(view, shrink, None)? {
                return Ok(());
            }
            // No picture takes much more than four times as long as the one before, but where that is quick.
            shrink = self.shrink(view, PATIENT_MS).min(shrink / 2);
        }
        self.refine(view, 1, before).map(|_| ())
    }

    /// Shows one picture after the other as tiles come. Whether it is time for the next finer size; false where the view is outdated or all was shown.
    fn refine(&mut self, view: &View, shrink: u32, mut before: Option<Look>) -> Result<bool, Failure> {
        let (begun, last) = (Instant::now(), shrink == 1);
        loop {
            let arrived = self.arrived();
            let is_new = before.is_none();
            let look = match before.take() {
                Some(look) => Some(look),
                None => self.look(view, shrink, self.mailbox.outdated())?,
            };
            let Some(look) = look else { return Ok(false) };
            // Beyond the budget a picture is made tile by tile, where one can be.
            let Quality { limit, converged, missing_tiles, .. } = look.quality;
            let beyond = limit == "budget" && (converged || missing_tiles > 0) && self.eye.finishes();
            let converged = beyond || converged && !(last && self.eye.refine());
            if converged && last {
                let mut look = look;
                if beyond {
                    if is_new && !self.post_jpeg(view, "loading", shrink, &look)? {
                        return Ok(false);
                    }
                    match self.finish(view)? {
                        Some(finished) => look = finished,
                        None if self.eye.finishes() => return Ok(false),
                        None => continue,
                    }
                }
                self.full_ms = self.full_ms.or_else(|| Some(self.since_asked()));
                let state = if self.eye.is_frozen() { "frozen" } else { "converged" };
                let bytes = encode::png(&look.image, png::Compression::Fast)?;
                let status = self.with_picture(view, state, shrink, &look);
                self.post(Status { kind: "image/png", ..status }, &bytes);
                return Ok(false);
            }
            if is_new && !self.post_jpeg(view, "loading", shrink, &look)? {
                return Ok(false);
            }
            if !last && (converged || look.quality.share >= GOOD || begun.elapsed() > PATIENCE) {
                return Ok(!self.mailbox.is_outdated(self.seen, Duration::ZERO));
            }
            if !self.wait(arrived, look.ms) {
                return Ok(false);
            }
        }
    }

    /// Makes the picture whole, tile by tile; `None` where the view is outdated before that.
    fn finish(&mut self, view: &View) -> Result<Option<Look>, Failure> {
        let (mailbox, send, seen) = (self.mailbox, self.send, self.seen);
        let (mut told, mut sent) = (Instant::now(), self.sent);
        let before = self.status("finishing");
        let finished = self.eye.finish(view, &mut |rays_left| {
            if told.elapsed() >= TELL {
                told = Instant::now();
                if !mailbox.wait_shown(sent.saturating_sub(PICTURES_AHEAD - 1)) {
                    return false;
                }
                sent += 1;
                if !send(Status { number: sent, rays_left, ..before.clone() }.message(&[])) {
                    return false;
                }
            }
            !mailbox.is_outdated(seen, Duration::ZERO)
        });
        self.sent = sent;
        let finished = finished?;
        if let Some(look) = &finished {
            self.quality = look.quality.clone();
        }
        Ok(finished)
    }

    /// Waits until another picture is worth while: something came, or nothing is on its way; false where the view is outdated.
    fn wait(&mut self, arrived: u64, picture_ms: f64) -> bool {
        const SLICE: Duration = Duration::from_millis(10);
        let least = Duration::from_secs_f64((picture_ms * 0.5e-3).clamp(0.02, 0.25));
        let (begun, mut told) = (Instant::now(), Instant::now());
        loop {
            if self.mailbox.is_outdated(self.seen, SLICE) {
                return false;
            }
            let waited = begun.elapsed();
            if !self.eye.is_loading() || (waited >= least && self.arrived() != arrived) {
                return true;
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let status = self.status("loading");
                if !self.post(status, &[]) {
                    return false;
                }
            }
        }
    }

    /// Counts what came, and what failed to.
    fn arrived(&self) -> u64 {
        let stats = self.eye.stats();
        stats.loads + stats.uniform_tiles + stats.failures
    }

    fn since_asked(&self) -> f64 {
        self.asked_at.elapsed().as_secs_f64() * 1e3
    }

    fn look(&mut self, view: &View, shrink: u32, stop: &AtomicBool) -> Result<Option<Look>, Failure> {
        let Some(look) = self.eye.look(view, shrink, stop)? else { return Ok(None) };
        let pixels = f64::from(look.image.width()) * f64::from(look.image.height());
        self.pixel_ms = look.ms / pixels;
        self.quality = look.quality.clone();
        Ok(Some(look))
    }

    fn post_jpeg(
        &mut self,
        view: &View,
        state: &'static str,
        shrink: u32,
        look: &Look,
    ) -> Result<bool, Failure> {
        let bytes = encode::jpeg(&look.image)?;
        self.first_ms = self.first_ms.or_else(|| Some(self.since_asked()));
        let status = self.with_picture(view, state, shrink, look);
        Ok(self.post(Status { kind: "image/jpeg", ..status }, &bytes))
    }

    fn with_picture(&mut self, view: &View, state: &'static str, shrink: u32, look: &Look) -> Status {
        let overlay = self.overlay.then(|| (self.draw)(&*self.eye, view));
        Status { shrink, frame_ms: look.ms, overlay, ..self.status(state) }
    }

    fn status(&mut self, state: &'static str) -> Status {
        let trouble = self.eye.trouble();
        Status {
            first_ms: self.first_ms,
            full_ms: self.full_ms,
            quality: self.quality.clone(),
            frozen: self.eye.is_frozen(),
            error: self.complaint.clone(),
            trouble,
            ..Status::new(state, &self.eye.stats())
        }
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
