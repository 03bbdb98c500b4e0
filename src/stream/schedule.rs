//! Owns what is loaded next: [`Schedule`]. Plain values in, plain values out: no thread, no lock, no array, so that every decision can be tested without any of them.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::engine::Room;
use crate::layout::{PageId, TileId};

use super::failures::{Failures, StreamFailure};
use super::options::StreamOptions;
use super::priority::Priority;
use super::queue::{Entry, Queue, TileKey};
use super::shares::{PageKey, Shares};
use super::status::{StreamLimit, StreamStatus};
use super::under_way::{Batch, OnItsWay, UnderWay};

/// What the schedule has to know of an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// log2 of the tiles in a page.
    pub(super) page_shift: u32,
    pub(super) page_bytes: u64,
    pub(super) tile_bytes: u64,
}

/// What a tile was found to be when it was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Resident,
    Uniform,
    Missing,
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its tiles are there, but for those that failed.
    Done {
        hits: u64,
        loaded: u64,
        shared: u64,
        uniform: u64,
        failed: Vec<(TileId, StreamFailure)>,
        /// Pages that hold none of their tiles: these were uniform, or failed.
        empty: Vec<PageId>,
    },
    /// There was no place for it, given what room there was.
    Refused(StreamLimit, Room),
    /// All of it failed.
    Failed(Vec<(TileId, StreamFailure)>),
    /// The array is gone.
    Gone,
}

/// A request found no place: the same is not tried again as long as this is as it was.
#[derive(Debug)]
struct Refusal {
    limit: StreamLimit,
    room: Room,
    generation: u64,
}

/// What is wanted, what is under way, and what comes next.
#[derive(Debug)]
pub(super) struct Schedule {
    options: StreamOptions,
    shapes: HashMap<u32, Shape>,
    generation: u64,
    /// What was wanted last in an older generation than this is wanted no more.
    oldest: u64,
    queue: Queue,
    shares: Shares,
    under_way: UnderWay,
    refusal: Option<Refusal>,
    paused: bool,
    pub(super) failures: Failures,
    /// The counters; its other fields are filled in when somebody asks.
    counts: StreamStatus,
}

/// The tiles of a batch, and what they take.
#[derive(Debug, Default)]
struct Choice {
    tiles: Vec<TileKey>,
    pages: BTreeSet<PageKey>,
    bytes: u64,
}

impl Schedule {
    pub(super) fn new(options: StreamOptions, room: Room) -> Self {
        let mut shares = Shares::default();
        shares.set_limit(unpinned(room));
        Self {
            options: StreamOptions { batch_tiles: options.batch_tiles.max(1), ..options },
            shapes: HashMap::new(),
            generation: 0,
            oldest: 0,
            queue: Queue::default(),
            shares,
            under_way: UnderWay::default(),
            refusal: None,
            paused: false,
            failures: Failures::default(),
            counts: StreamStatus::default(),
        }
    }

    pub(super) fn enrol(&mut self, array: u32, shape: Shape) {
        self.shapes.insert(array, shape);
    }

    /// Forgets an array. What is under way of it ends by itself.
    pub(super) fn forget(&mut self, array: u32) {
        self.shapes.remove(&array);
        self.counts.cancelled += self.queue.retain(|key, _| key.array != array);
        self.shares.retain(|page, _| page.array != array);
        self.failures.forget_array(array);
    }

    /// Begins a generation, and drops nothing.
    pub(super) fn advance(&mut self) {
        self.generation += 1;
    }

    /// Begins a generation: what was not wanted in any of the last `keep`, nor in the one that ends, is dropped.
    pub(super) fn begin_generation(&mut self) {
        self.advance();
        self.drop_before(self.generation.saturating_sub(self.options.keep_generations));
    }

    /// Drops what was not wanted in the newest generation.
    pub(super) fn drop_old(&mut self) {
        self.drop_before(self.generation);
    }

    fn drop_before(&mut self, oldest: u64) {
        self.oldest = oldest;
        self.counts.cancelled += self.queue.retain(|_, entry| entry.generation >= oldest);
        self.shares.retain(|_, generation| generation >= oldest);
    }

    /// Drops everything that is queued.
    pub(super) fn flush(&mut self) {
        self.counts.cancelled += self.queue.retain(|_, _| false);
        self.shares.retain(|_, _| false);
        self.refusal = None;
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Takes a want in.
    pub(super) fn want(&mut self, key: TileKey, priority: Priority, found: Found, now: Instant) {
        let Some(&shape) = self.shapes.get(&key.array) else { return };
        let entry = Entry { priority, generation: self.generation };
        if found == Found::Uniform {
            self.counts.uniform += 1;
            self.unqueue(key);
            return;
        }
        if found == Found::Missing {
            if self.failures.bars(key, priority, self.options.retry_after, now) {
                return;
            }
            if !self.under_way.note(key, entry) {
                self.queue.put(key, entry);
            }
        } else {
            self.counts.hits += 1;
            self.unqueue(key);
        }
        self.shares.rank(page_of(key, shape), priority, self.generation, shape.page_bytes);
    }

    /// A tile got there by another way.
    fn unqueue(&mut self, key: TileKey) {
        let _ = self.queue.take(key);
    }

    /// Whether the budget holds the tile's page beside what is more urgent.
    pub(super) fn has_share(&self, key: TileKey) -> bool {
        self.shapes.get(&key.array).is_some_and(|&shape| self.shares.holds(page_of(key, shape)))
    }

    /// Queues what failed once more, with the priority it was wanted with last. Says how many tiles that are.
    pub(super) fn retry_failed(&mut self, now: Instant) -> u64 {
        let tiles = self.failures.take_tiles();
        for &(key, priority) in &tiles {
            self.want(key, priority, Found::Missing, now);
        }
        tiles.len() as u64
    }

    /// What to request next, or why nothing.
    pub(super) fn next(&mut self, room: Room, now: Instant) -> Result<Batch, StreamLimit> {
        let choice = self.choose(room)?;
        let array = choice.tiles.first().map_or(0, |key| key.array);
        let tiles = choice.tiles.iter().map(|key| key.tile).collect();
        let begun = choice.tiles.iter().filter_map(|&key| Some((key, self.queue.take(key)?))).collect();
        let request = self.under_way.begin(begun, choice.bytes, choice.pages.len() as u64, now);
        Ok(Batch { request, array, tiles })
    }

    /// The most urgent tiles, as many as a batch may have, all of one array.
    fn choose(&mut self, room: Room) -> Result<Choice, StreamLimit> {
        self.shares.set_limit(unpinned(room));
        if self.queue.is_empty() {
            let busy = self.under_way.requests() > 0;
            return Err(if busy { StreamLimit::Read } else { StreamLimit::Idle });
        }
        if self.paused {
            return Err(StreamLimit::Paused);
        }
        if let Some(limit) = self.still_refused(room) {
            return Err(limit);
        }
        let Self { queue, shares, shapes, under_way, options, generation, .. } = self;
        let mut choice = Choice::default();
        let mut limit = StreamLimit::Read;
        let mut first: Option<(Priority, u32)> = None;
        for &(priority, key) in queue.in_order().take(options.batch_tiles.saturating_mul(4)) {
            if first.is_some_and(|(p, array)| p.urgency != priority.urgency || array != key.array) {
                continue;
            }
            let Some(&shape) = shapes.get(&key.array) else { continue };
            let page = page_of(key, shape);
            if !shares.knows(page) {
                // It was found empty, and is tried again for the sake of another tile.
                let wanted = queue.generation_of(key).unwrap_or(*generation);
                shares.rank(page, priority, wanted, shape.page_bytes);
            }
            if !shares.holds(page) {
                limit = StreamLimit::Budget;
                continue;
            }
            let more_pages = u64::from(!choice.pages.contains(&page));
            let pages = under_way.pages() + choice.pages.len() as u64 + more_pages;
            let bytes = under_way.bytes() + choice.bytes + shape.tile_bytes;
            let alone = under_way.requests() == 0 && choice.tiles.is_empty();
            if !alone && pages > options.under_way_pages {
                limit = StreamLimit::Pages;
                break;
            }
            if !alone && bytes > options.under_way_bytes {
                limit = StreamLimit::Bytes;
                break;
            }
            first.get_or_insert((priority, key.array));
            choice.bytes += shape.tile_bytes;
            choice.pages.insert(page);
            choice.tiles.push(key);
            if choice.tiles.len() == options.batch_tiles {
                break;
            }
        }
        if choice.tiles.is_empty() { Err(limit) } else { Ok(choice) }
    }

    /// Whether the last refusal still holds.
    fn still_refused(&mut self, room: Room) -> Option<StreamLimit> {
        let Refusal { limit, room: then, generation } = self.refusal.as_ref()?;
        // Frames that come and go matter only where one was in the way.
        let oldest_frame = if *limit == StreamLimit::Frames { room.oldest_frame } else { then.oldest_frame };
        if *generation == self.generation && *then == (Room { oldest_frame, ..room }) {
            return Some(*limit);
        }
        self.refusal = None;
        None
    }

    /// Takes a request's outcome in. `there`: whether a tile of its array can be read now.
    pub(super) fn end(&mut self, batch: &Batch, ended: Ended, there: impl Fn(TileId) -> bool, now: Instant) {
        let mut tiles = self.under_way.end(batch.request);
        match ended {
            Ended::Done { hits, loaded, shared, uniform, failed, empty } => {
                self.counts.hits += hits;
                self.counts.loaded += loaded;
                self.counts.shared += shared;
                self.counts.uniform += uniform;
                self.note_failed(&tiles, failed, now);
                for page in empty {
                    self.shares.remove(PageKey { array: batch.array, page });
                }
                // What was held for it may be evicted now.
                self.refusal = None;
                // Tiles that were evicted again before this was told: whoever found them missing meanwhile was content that they were under way.
                let failed = |key| self.failures.has(key);
                tiles.retain(|tile| tile.again && !there(tile.key.tile) && !failed(tile.key));
                self.put_back(tiles);
            }
            Ended::Failed(failed) => {
                self.note_failed(&tiles, failed, now);
                self.refusal = None;
            }
            Ended::Refused(limit, room) => {
                self.refusal = Some(Refusal { limit, room, generation: self.generation });
                self.put_back(tiles);
            }
            Ended::Gone => {
                self.counts.cancelled += tiles.len() as u64;
                self.forget(batch.array);
            }
        }
    }

    /// Queues tiles of a request again, as far as they are still wanted.
    fn put_back(&mut self, tiles: Vec<OnItsWay>) {
        for OnItsWay { key, entry, .. } in tiles {
            if entry.generation >= self.oldest && self.shapes.contains_key(&key.array) {
                self.queue.put(key, entry);
            } else {
                self.counts.cancelled += 1;
            }
        }
    }

    fn note_failed(&mut self, tiles: &[OnItsWay], failed: Vec<(TileId, StreamFailure)>, now: Instant) {
        self.counts.failed += failed.len() as u64;
        let tiles: HashMap<_, _> = tiles.iter().map(|tile| (tile.key.tile, tile)).collect();
        for (tile, failure) in failed {
            if let Some(OnItsWay { key, entry, .. }) = tiles.get(&tile)
                && self.shapes.contains_key(&key.array)
            {
                self.failures.add(*key, entry.priority, failure, now);
            }
        }
    }

    pub(super) fn under_way_tiles(&self) -> Vec<TileKey> {
        self.under_way.keys().collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.requests() == 0
    }

    pub(super) fn status(&mut self, room: Room, now: Instant) -> StreamStatus {
        let limit = self.choose(room).err().unwrap_or(StreamLimit::Read);
        let (visible, prefetch) = self.queue.lengths();
        StreamStatus {
            queued_visible_tiles: visible,
            queued_prefetch_tiles: prefetch,
            under_way_requests: self.under_way.requests(),
            under_way_tiles: self.under_way.tiles(),
            under_way_bytes: self.under_way.bytes(),
            under_way_pages: self.under_way.pages(),
            oldest_under_way: self.under_way.oldest().map(|since| now.saturating_duration_since(since)),
            failed_tiles: self.failures.tiles(),
            limit,
            ..self.counts
        }
    }
}

fn unpinned(room: Room) -> u64 {
    room.budget_bytes.saturating_sub(room.pinned_bytes)
}

fn page_of(key: TileKey, shape: Shape) -> PageKey {
    PageKey { array: key.array, page: PageId(key.tile.0 >> shape.page_shift) }
}
