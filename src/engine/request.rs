//! **The main path**: [`Engine::request`]. One function to read first.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::backend::Backend;
use crate::error::{Error, ResidencyError};
use crate::layout::{PageId, TileCoord, TileId};
use crate::page_table::Known;
use crate::stats::count;

use super::claim::{Claim, Claimed};
use super::load::Load;
use super::report::{Report, TileFailure};
use super::waiting::{Deadline, is_loading};
use super::written::Kept;
use super::{ArrayShared, Became, Engine, Entry, Loading, Outcome, State};

/// How many batches of one request are under way at most: while some are copied or filled the next is mapped.
const BATCHES_UNDER_WAY: usize = 4;

/// The first batch of a request is smaller by so many doublings, so that copies begin soon; each is twice the one before, up to a whole one. Towards the end they are half of what is
/// left, so that little is still to be copied when the last page is mapped.
const SMALLER_AT_FIRST: u32 = 3;

/// A source is asked about so many tiles at once whether they hold one value, and those that do are noted under one lock.
const ASKED_TOGETHER: usize = 256;

/// What tiles are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading: those that hold one value need no memory.
    Read,
    /// Writing: all of them get memory, with their contents.
    Write,
    /// Writing all of it: all of them get memory, what it holds is not said.
    Overwrite,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) tiles: &'a [TileId],
    /// Pages of the tiles that the caller holds.
    pub(super) held: &'a [PageId],
    pub(super) purpose: Purpose,
    /// Ends the waiting for others early.
    pub(super) stop: Option<&'a AtomicBool>,
    /// What was used at this time or later goes last.
    pub(super) keep_since: u64,
}

/// The batches of a request that have memory and are being loaded, oldest first.
#[derive(Debug)]
struct Flight<B: Backend> {
    batches: VecDeque<(Claimed, Load<B>)>,
    begun: u32,
}

impl<B: Backend> Default for Flight<B> {
    fn default() -> Self {
        Self { batches: VecDeque::new(), begun: 0 }
    }
}

impl<B: Backend> Flight<B> {
    fn is_full(&self) -> bool {
        self.batches.len() >= BATCHES_UNDER_WAY
    }
}

impl<B: Backend> Engine<B> {
    /// Makes `tiles` of the array resident. When it returns, each of them was resident (or uniform) at one moment and is the last to be evicted, or is reported.
    ///
    /// # Errors
    /// No place for them, a backend that failed (then that batch is undone; on a backend that copies by itself, earlier batches of the request stay), a poisoned array. Tiles
    /// that fail to load are no error: see the report.
    pub(crate) fn request(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
    ) -> Result<Report, Error> {
        self.request_as(
            array,
            Asked { tiles, held: &[], purpose: Purpose::Read, stop: None, keep_since: u64::MAX },
        )
    }

    /// The same for who wants other tiles besides, and [touched](Engine::touch) them at `keep_since` or later: those go last. What it waits for of other threads' frames and of room it waits for no longer
    /// than until `stop` is set: then it fails as when time is up.
    pub(crate) fn request_until(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        tiles: &[TileId],
        stop: &AtomicBool,
        keep_since: u64,
    ) -> Result<Report, Error> {
        let asked = Asked { tiles, held: &[], purpose: Purpose::Read, stop: Some(stop), keep_since };
        self.request_as(array, asked)
    }

    /// A time before all that is asked for from now on, and after all that was.
    pub(crate) fn time(&self) -> u64 {
        self.clock.stamping().time()
    }

    /// Stamps those of the tiles that are resident as asked for now, and returns the others. Waits for nothing but the right to stamp.
    pub(crate) fn touch(&self, array: &ArrayShared<B>, tiles: &[TileId]) -> Vec<TileId> {
        self.look_up(array, tiles, &mut Report::default())
    }

    /// The same for a purpose, and a caller who holds pages of the tiles: they are let go while this waits for room, so that two who hold some and want more do not wait for each other.
    pub(super) fn request_as(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        asked: Asked<'_>,
    ) -> Result<Report, Error> {
        let mut report = self.load_missing(array, asked)?;
        if asked.purpose != Purpose::Read {
            self.make_writable(array, asked, &mut report)?;
        }
        Ok(report)
    }

    fn load_missing(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        asked: Asked<'_>,
    ) -> Result<Report, Error> {
        let tiles = asked.tiles;
        array.check()?;
        let mut report = Report::default();

        // 1, 2. Look up: stamp what is there, note what is uniform, keep what is missing, each once and in memory order.
        let mut missing = self.look_up(array, tiles, &mut report);
        if missing.is_empty() {
            return Ok(report);
        }
        missing.sort_unstable();
        missing.dedup();
        if asked.purpose == Purpose::Read {
            self.note_uniform(array, &mut missing, &mut report);
        }
        self.check_fits(array, tiles, asked.purpose)?;

        let mut flight = Flight::default();
        let result = self.make_resident(array, asked, missing, &mut report, &mut flight);
        // Whatever else failed: tiles on their way arrive.
        while self.land(array, &mut flight, &mut report) {}
        result.map(|()| report)
    }

    /// After the tiles were made resident to be written to: gives their pages memory of their own, and has tiles loaded again that went while room for that was waited for.
    fn make_writable(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        asked: Asked<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let deadline = self.deadline().or_when(asked.stop);
        let mut pages: Vec<_> = asked.tiles.iter().map(|&tile| array.layout.page_of(tile)).collect();
        pages.sort_unstable();
        pages.dedup();
        while !self.own(array, &pages, asked.held, deadline)? {
            let missing = still_missing(array, asked.tiles, asked.purpose, report);
            let mut flight = Flight::default();
            let result = self.make_resident(array, asked, missing, report, &mut flight);
            while self.land(array, &mut flight, report) {}
            result?;
        }
        Ok(())
    }

    /// Steps 3 to 6, a batch at a time, with a few batches under way where the backend copies by itself.
    fn make_resident(
        self: &Arc<Self>,
        array: &Arc<ArrayShared<B>>,
        asked: Asked<'_>,
        mut missing: Vec<TileId>,
        report: &mut Report,
        flight: &mut Flight<B>,
    ) -> Result<(), Error> {
        let Asked { tiles, held, purpose, stop, .. } = asked;
        let deadline = self.deadline().or_when(stop);
        while !missing.is_empty() {
            if flight.is_full() {
                self.land(array, flight, report);
            }
            let mut batch = self.next_batch(array, &mut missing, flight.begun);
            // 3. Plan: claim the tiles that nobody else loads, and set memory aside for them.
            self.reap();
            let claim = self.claim(array, asked, &mut batch, report)?;
            // What is under way here is in the way of others, and perhaps of this: it comes before any waiting.
            let waits = !matches!(claim, Claim::Claimed(_));
            let landed = waits && self.land(array, flight, report);
            while waits && self.land(array, flight, report) {}
            match claim {
                Claim::Claimed(mut claimed) => {
                    if purpose != Purpose::Overwrite {
                        Self::announce(array, claimed.tiles());
                    }
                    // Whoever holds the frames that are waited for may itself wait for tiles that are under way here.
                    while !self.frames_ended(claimed.retired) && self.land(array, flight, report) {}
                    // 4. Apply: retire the victims, wait until no frame reads them, move their memory to where it is needed.
                    if !self.apply(array, &mut claimed, deadline)? {
                        batch.extend(claimed.tiles().iter());
                        batch.sort_unstable();
                        missing.splice(0..0, batch);
                        continue;
                    }
                    // 5. Prepare: the source fills every tile, in parallel, right where it will live (or where it is uploaded from).
                    let load = self.begin_load(array, claimed.tiles(), purpose);
                    flight.batches.push_back((claimed, load));
                    flight.begun += 1;
                }
                Claim::Locked(pages) => {
                    if !self.own(array, &pages, held, deadline)? && !held.is_empty() {
                        batch = still_missing(array, tiles, purpose, report);
                        missing.clear();
                    }
                }
                Claim::Others(loading) => {
                    self.await_others(array, &loading, &mut batch, report, deadline)?;
                }
                Claim::Blocked { .. } | Claim::NoRoom { .. } if landed => {}
                Claim::Blocked { epoch, seen } => {
                    self.await_change(missing_bytes(array, &batch), epoch, seen, deadline)?;
                }
                Claim::NoRoom { why, framed, seen } => {
                    self.let_go(array, held);
                    let waited = self.await_room(why, framed, self.budget(), seen, deadline);
                    self.hold_pages(array, held);
                    waited?;
                    if !held.is_empty() {
                        batch = still_missing(array, tiles, purpose, report);
                        missing.clear();
                    }
                }
            }
            missing.splice(0..0, batch);
        }
        Ok(())
    }

    /// Takes as many of the missing tiles off the list as one batch may hold: all of them, unless copies go on by themselves while the next batch is mapped.
    fn next_batch(&self, array: &ArrayShared<B>, missing: &mut Vec<TileId>, begun: u32) -> Vec<TileId> {
        let batch_bytes = self.backend.caps().batch_bytes;
        if batch_bytes == u64::MAX {
            return std::mem::take(missing);
        }
        let page_bytes = array.layout.page_bytes();
        let left_bytes = missing_bytes(array, missing);
        // What is little goes at once, and so as a whole or not at all.
        if begun == 0 && left_bytes <= batch_bytes / 2 {
            return std::mem::take(missing);
        }
        let smallest = batch_bytes >> SMALLER_AT_FIRST;
        let batch_bytes = (smallest << begun.min(SMALLER_AT_FIRST)).min((left_bytes / 2).max(smallest));
        let most_pages = (batch_bytes / page_bytes).max(1);
        let pages = missing.chunk_by(|a, b| array.layout.page_of(*a) == array.layout.page_of(*b));
        let tiles: usize =
            pages.take(usize::try_from(most_pages).unwrap_or(usize::MAX)).map(<[_]>::len).sum();
        missing.drain(..tiles).collect()
    }

    /// Step 6 for the oldest batch that is under way, if there is one: waits until it is in place.
    fn land(&self, array: &Arc<ArrayShared<B>>, flight: &mut Flight<B>, report: &mut Report) -> bool {
        let Some((claimed, load)) = flight.batches.pop_front() else { return false };
        let outcomes = self.end_load(array, load);
        // 6. Publish what was loaded, report what was not.
        self.publish(array, &claimed, outcomes, report);
        true
    }

    /// Stamps the tiles that are resident and returns those that are not. A tile that is seen resident here is not evicted before others are.
    fn look_up(&self, array: &ArrayShared<B>, tiles: &[TileId], report: &mut Report) -> Vec<TileId> {
        let (planes, layout) = (&array.planes, &array.layout);
        let stamping = self.clock.stamping();
        let mut missing = Vec::new();
        for (i, &tile) in tiles.iter().enumerate() {
            if planes.is_resident(tile) {
                stamping.stamp(planes.stamp(layout.page_of(tile)));
            } else {
                if missing.is_empty() {
                    missing.reserve(tiles.len() - i);
                }
                // It gets one when it was loaded.
                planes.prefetch_stamp(layout.page_of(tile));
                missing.push(tile);
            }
        }
        drop(stamping);
        let hits = tiles.len() - missing.len();
        report.hits = hits as u64;
        count(&self.counters.hits, hits);
        missing
    }

    /// Asks the source which of the missing tiles are uniform: those need no memory. A source that panics when asked is asked again by the load, which reports it.
    pub(super) fn note_uniform(
        &self,
        array: &ArrayShared<B>,
        missing: &mut Vec<TileId>,
        report: &mut Report,
    ) {
        let before = missing.len();
        missing.retain(|&tile| !array.planes.is_uniform(tile));
        let (mut found, mut any) = (Vec::new(), false);
        for tiles in missing.chunks(ASKED_TOGETHER) {
            let mut asked = Cow::Borrowed(tiles);
            if array.is_writable() {
                asked.to_mut().retain(|&tile| match array.kept(tile) {
                    Some(Kept::Uniform(value)) => {
                        found.push((tile, *value, true));
                        false
                    }
                    Some(Kept::Stored(_)) => false,
                    None => true,
                });
            }
            let mut tell = |tile, value| found.push((tile, value, false));
            array.source.uniform_of(&array.layout, &asked, &mut tell);
            if found.is_empty() {
                continue;
            }
            any = true;
            let mut guard = self.lock();
            let State { arrays, journal, .. } = &mut *guard;
            let Some((_, table)) = arrays.get_mut(array.id) else { break };
            for (tile, value, was_kept) in found.drain(..) {
                // Unless it was written to, or given back, since it was asked about.
                let holds = match array.kept(tile) {
                    Some(Kept::Uniform(kept)) => was_kept && *kept == value,
                    Some(Kept::Stored(_)) => false,
                    None => !was_kept,
                };
                if holds && table.known(tile).0 == Known::Nothing && table.set_uniform(tile) {
                    array.planes.publish_uniform(tile, value);
                    journal.enter(Entry { array: array.id, tile, became: Became::Uniform });
                }
            }
        }
        if any {
            missing.retain(|&tile| !array.planes.is_uniform(tile));
        }
        report.uniform += (before - missing.len()) as u64;
    }

    /// # Errors
    /// [`ResidencyError::OverBudget`]: the pages of all that needs memory are larger than the budget.
    pub(super) fn check_fits(
        &self,
        array: &ArrayShared<B>,
        tiles: &[TileId],
        purpose: Purpose,
    ) -> Result<(), Error> {
        let (page_bytes, budget_bytes) = (array.layout.page_bytes(), self.budget());
        // As many pages as tiles at most.
        if (tiles.len() as u64).checked_mul(page_bytes).is_some_and(|bytes| bytes <= budget_bytes) {
            return Ok(());
        }
        let without = |tile| purpose == Purpose::Read && array.planes.is_uniform(tile);
        let with_memory = tiles.iter().filter(|&&tile| !without(tile));
        let mut pages: Vec<_> = with_memory.map(|&tile| array.layout.page_of(tile)).collect();
        pages.sort_unstable();
        pages.dedup();
        let needed_bytes = pages.len() as u64 * page_bytes;
        if needed_bytes > budget_bytes {
            return Err(ResidencyError::OverBudget { needed_bytes, budget_bytes }.into());
        }
        Ok(())
    }

    /// Under the lock: the loaded tiles become visible, the failed ones are reported, pages left empty lose their memory again, and whoever waits is told.
    fn publish(
        &self,
        array: &Arc<ArrayShared<B>>,
        claimed: &Claimed,
        outcomes: Vec<Outcome>,
        report: &mut Report,
    ) {
        let loaded = outcomes.iter().filter(|o| o.is_ok()).count();
        count(&self.counters.loads, loaded);
        count(&self.counters.failures, outcomes.len() - loaded);
        count(
            &self.counters.loaded_bytes,
            loaded * usize::try_from(array.layout.tile_bytes()).unwrap_or(usize::MAX),
        );
        report.loaded += loaded as u64;
        for (&tile, outcome) in claimed.tiles().iter().zip(&outcomes) {
            if let Err(error) = outcome {
                report.failed.push(TileFailure { tile: array.coord(tile), error: error.clone() });
            }
        }
        let empty = self.settle_claim(array, claimed, outcomes);
        if !empty.is_empty() {
            self.decommit_empty(array, &empty);
        }
    }

    /// Waits for tiles that other requests load, and shares their outcome. What they gave up is missing again.
    ///
    /// There is no deadline, because whoever loads has one for everything but the source itself, unless this thread is loading too: then the others may be waiting for
    /// it.
    ///
    /// # Errors
    /// [`ResidencyError::FramesOpen`]: the others wait for a frame that this thread holds. [`ResidencyError::LoadsItself`]: a source asked for a tile whose load did not end in
    /// time.
    fn await_others(
        &self,
        array: &ArrayShared<B>,
        others: &[(TileId, Arc<Loading>)],
        missing: &mut Vec<TileId>,
        report: &mut Report,
        deadline: Deadline<'_>,
    ) -> Result<(), Error> {
        let pending = others.iter().filter(|(_, loading)| !loading.is_over());
        let pending: Vec<_> =
            pending.filter(|(_, loading)| self.own_frame_until(loading.retired)).map(|o| o.0).collect();
        if !pending.is_empty() {
            return Err(self.own_frame_in_the_way(missing_bytes(array, &pending)));
        }
        let mut state = self.lock();
        while others.iter().any(|(_, loading)| !loading.is_over()) {
            if !is_loading() {
                state = self.wait(state, None);
                continue;
            }
            let seen = state.changes;
            drop(state);
            if !self.wait_for_change(seen, false, deadline) {
                let tile = others.first().map_or_else(TileCoord::default, |(tile, _)| array.coord(*tile));
                return Err(ResidencyError::LoadsItself { tile }.into());
            }
            state = self.lock();
        }
        drop(state);
        for (tile, loading) in others {
            match loading.outcome(*tile) {
                Some(Err(error)) => {
                    report.failed.push(TileFailure { tile: array.coord(*tile), error: error.clone() });
                }
                Some(Ok(())) => report.shared += 1,
                None => missing.push(*tile),
            }
        }
        missing.sort_unstable();
        Ok(())
    }
}

/// Tiles that cannot be read and did not fail, each once and in memory order.
fn still_missing<B: Backend>(
    array: &ArrayShared<B>,
    tiles: &[TileId],
    purpose: Purpose,
    report: &Report,
) -> Vec<TileId> {
    let failed: Vec<_> = report.failed.iter().filter_map(|f| array.layout.tile_id(f.tile)).collect();
    let gone = |tile: &TileId| {
        let uniform = purpose == Purpose::Read && array.planes.is_uniform(*tile);
        !array.planes.is_resident(*tile) && !uniform && !failed.contains(tile)
    };
    let mut missing: Vec<_> = tiles.iter().copied().filter(gone).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Bytes of the pages of tiles in memory order.
fn missing_bytes<B: Backend>(array: &ArrayShared<B>, tiles: &[TileId]) -> u64 {
    let pages = tiles.chunk_by(|a, b| array.layout.page_of(*a) == array.layout.page_of(*b)).count();
    pages as u64 * array.layout.page_bytes()
}
