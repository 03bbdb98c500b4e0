//! Owns the loading threads: [`Workers`], a rayon pool of our own in which the caller always takes part.
//!
//! A batch is done by whoever has time: the thread that made the request, and as many workers as are free. Because the caller never waits for work that nobody has
//! begun, requests from inside a source, from a user's own rayon workers or from all workers at once cannot starve each other.

use std::sync::Arc;

use crate::error::{BackendError, Error};

/// So many threads that copy fill the bus to a device, and are five eighths of sixteen; more of either take the memory's time from the copies that go on by themselves.
const MOST_COPYING: usize = 10;

/// Work that several threads do together until nothing is left.
pub(crate) trait Work: Send + Sync + 'static {
    /// Does pieces until none is left to begin.
    fn work(&self);
}

/// The loading threads of a pool.
#[derive(Debug)]
pub(crate) struct Workers {
    pool: rayon::ThreadPool,
    /// Fewer, for what all of them together would only slow down.
    some: Option<rayon::ThreadPool>,
}

impl Workers {
    /// `competing`: copies to a device go on by themselves, and compete for memory with threads that copy.
    ///
    /// # Errors
    /// The system's refusal to start threads.
    pub(crate) fn new(threads: usize, competing: bool) -> Result<Self, Error> {
        let start = |threads: usize, name: &'static str| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |i| format!("vastgrid-{name}-{i}"))
                .build()
                .map_err(|e| BackendError::System {
                    call: "spawn threads",
                    offset_bytes: 0,
                    bytes: 0,
                    source: std::io::Error::other(e),
                })
        };
        let pool = start(threads, "load")?;
        let all = pool.current_num_threads();
        let few = (all * 5).div_ceil(8).min(MOST_COPYING);
        let some = if competing && all > few { Some(start(few, "copy")?) } else { None };
        Ok(Self { pool, some })
    }

    /// Has free workers begin a batch of `pieces`; where it only copies memory, some of them, if copies to a device compete with that. Who asks does what nobody has begun, and waits for the rest.
    pub(crate) fn begin(&self, batch: &Arc<impl Work>, pieces: usize, only_copies: bool) {
        let pool = self.some.as_ref().filter(|_| only_copies).unwrap_or(&self.pool);
        for _ in 1..pieces.min(pool.current_num_threads() + 1) {
            let batch = batch.clone();
            pool.spawn(move || batch.work());
        }
    }
}
