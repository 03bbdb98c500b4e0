//! Owns what a pool counts: [`Stats`], and the counters behind it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a pool did and holds, at one moment.
///
/// **Units**: tiles, pages and bytes as named. Counters grow from the pool's making on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The byte budget.
    pub budget_bytes: u64,
    /// Physical pages: mapped, waiting for reuse, or about to be made. Never above the budget, but for pages that a smaller budget is still waiting for.
    pub used_bytes: u64,
    /// Of those, held by pins.
    pub pinned_bytes: u64,
    /// Pages with memory. Where forks share memory, each array's page counts.
    pub mapped_pages: u64,
    /// Tiles that can be read from memory.
    pub resident_tiles: u64,
    /// Tiles known to hold one value, without memory.
    pub uniform_tiles: u64,
    /// Tiles that hold what was written to them, and not what their source holds.
    pub dirty_tiles: u64,
    /// Bytes of the pages of those, each array's: they are written back before their memory goes.
    pub dirty_bytes: u64,
    /// Frames open now, those of kernels that are still running included.
    pub open_frames: u64,
    /// Tiles asked for that were resident already.
    pub hits: u64,
    /// Tiles loaded.
    pub loads: u64,
    /// Tiles that failed to load.
    pub failures: u64,
    /// Bytes of the tiles loaded.
    pub loaded_bytes: u64,
    /// Pages that got memory.
    pub commits: u64,
    /// Pages whose memory was taken for others or given back.
    pub evictions: u64,
    /// Tiles that were written to and went to their array's scratch store.
    pub written_back: u64,
    /// Pages that got memory of their own, since they were to be written to (or loaded into) while a fork had the same.
    pub copied_pages: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} bytes used ({} pinned, {} written to), {} resident tiles; {} hits, {} loads, {} failures, {} evictions, {} tiles written back",
            self.used_bytes,
            self.budget_bytes,
            self.pinned_bytes,
            self.dirty_bytes,
            self.resident_tiles,
            self.hits,
            self.loads,
            self.failures,
            self.evictions,
            self.written_back
        )
    }
}

/// The counters of a pool.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) loaded_bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) written_back: AtomicU64,
    pub(crate) copied_pages: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Counters {
    /// A snapshot into the counting fields of `stats`.
    pub(crate) fn fill(&self, stats: &mut Stats) {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        stats.hits = get(&self.hits);
        stats.loads = get(&self.loads);
        stats.failures = get(&self.failures);
        stats.loaded_bytes = get(&self.loaded_bytes);
        stats.commits = get(&self.commits);
        stats.evictions = get(&self.evictions);
        stats.written_back = get(&self.written_back);
        stats.copied_pages = get(&self.copied_pages);
    }
}
