//! Owns what a streamer says of itself: [`StreamStatus`] and [`StreamLimit`].

use std::time::Duration;

/// What a streamer did and is at, at one moment.
///
/// **Units**: tiles, pages and bytes as named. Counters grow from the streamer's making on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// Tiles queued because they are visible.
    pub queued_visible_tiles: u64,
    /// Tiles queued ahead of need.
    pub queued_prefetch_tiles: u64,
    /// Requests under way.
    pub under_way_requests: u64,
    /// Their tiles.
    pub under_way_tiles: u64,
    /// Bytes of those tiles.
    pub under_way_bytes: u64,
    /// Pages of those requests.
    pub under_way_pages: u64,
    /// For how long the oldest of those requests has been under way: where that is long, a source or a frame is stalled.
    pub oldest_under_way: Option<Duration>,
    /// Wants of tiles that were resident, or became so before they were begun.
    pub hits: u64,
    /// Wants of tiles that were known to hold one value, or turned out to.
    pub uniform: u64,
    /// Tiles loaded.
    pub loaded: u64,
    /// Tiles that another request was loading, and that were waited for.
    pub shared: u64,
    /// Tiles that failed to load.
    pub failed: u64,
    /// Tiles dropped before they were begun, because they were not wanted again or their array is gone.
    pub cancelled: u64,
    /// Tiles that failed and are not queued again until they may be retried.
    pub failed_tiles: u64,
    /// What keeps more from being begun.
    pub limit: StreamLimit,
}

impl StreamStatus {
    /// Tiles queued.
    #[must_use]
    pub fn queued_tiles(&self) -> u64 {
        self.queued_visible_tiles + self.queued_prefetch_tiles
    }

    /// Whether nothing is queued and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queued_tiles() == 0 && self.under_way_requests == 0
    }
}

/// What keeps a streamer from beginning to load more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamLimit {
    /// Nothing is wanted that is not there.
    #[default]
    Idle,
    /// It was told to pause.
    Paused,
    /// Reading: all threads are in requests, which wait for sources, frames or other requests; without threads, the next step is not made yet.
    Read,
    /// The pool's budget does not hold what is queued together with what is more urgent and not pinned, or a request found nothing to evict. Waiting does not help; a larger budget,
    /// fewer pins or fewer wants do.
    Budget,
    /// Memory could only be had once a frame ends that stays open. It is tried again when the oldest frame has ended.
    Frames,
    /// [`StreamOptions::under_way_pages`](crate::StreamOptions::under_way_pages) is reached.
    Pages,
    /// [`StreamOptions::under_way_bytes`](crate::StreamOptions::under_way_bytes) is reached.
    Bytes,
}
