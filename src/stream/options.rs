//! Owns the knobs of a streamer: [`StreamOptions`], each with its unit and default.

use std::time::Duration;

/// What a [`Streamer`](crate::Streamer) is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Threads that make requests; at most 64. They wait most of the time: the pool's own threads load. Default: 2, so that one maps while the other's tiles are read. 0: none, the
    /// caller does the work with [`Streamer::step`](crate::Streamer::step).
    pub threads: usize,
    /// The most tiles of one request; at least 1. Tiles of a request are loaded in no order, and a batch may overtake up to three times as many tiles of other arrays: fewer keep
    /// closer to the priorities, more load faster. Default: 16.
    pub batch_tiles: usize,
    /// The most pages that requests under way may give memory to, over all threads. A page counts once for each request with tiles in it, mapped already or not; a single tile goes
    /// whatever the limit. Default: 64.
    pub under_way_pages: u64,
    /// The most bytes of tiles that are being loaded, over all threads. A single tile goes whatever the limit. Default: 64 MiB.
    pub under_way_bytes: u64,
    /// For how many generations after the one in which it was made a want stays queued without being made again. Default: 1, so that nothing is dropped while a generation's wants are
    /// still coming in. [`Streamer::replace`](crate::Streamer::replace) drops whatever it does not name.
    pub keep_generations: u64,
    /// After how long a tile that failed may be queued again, when it is wanted then. Default: `None`, not before [`Streamer::retry_failed`](crate::Streamer::retry_failed).
    pub retry_after: Option<Duration>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            threads: 2,
            batch_tiles: 16,
            under_way_pages: 64,
            under_way_bytes: 64 << 20,
            keep_generations: 1,
            retry_after: None,
        }
    }
}
