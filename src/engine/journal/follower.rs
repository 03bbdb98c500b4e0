//! Owns [`Follower`]: who is told what became of a pool's tiles. Knows nothing of what that is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::Engine;
use super::{Entry, Log};
use crate::backend::Backend;

/// Follows a pool until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower<B: Backend> {
    engine: Arc<Engine<B>>,
    number: u64,
}

impl<B: Backend> Follower<B> {
    pub(crate) fn new(engine: Arc<Engine<B>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        engine.lock().journal.logs.push((number, Log::default()));
        Self { engine, number }
    }

    /// What happened since this was last called, oldest first, and how many entries before that were lost because nobody came for them. **Cost**: a short lock.
    pub(crate) fn take(&self) -> (Vec<Entry>, u64) {
        let mut state = self.engine.lock();
        let log = state.journal.logs.iter_mut().find(|(number, _)| *number == self.number);
        let log = log.map(|(_, log)| std::mem::take(log)).unwrap_or_default();
        drop(state);
        (log.entries.into(), log.lost)
    }
}

impl<B: Backend> Drop for Follower<B> {
    fn drop(&mut self) {
        self.engine.lock().journal.logs.retain(|(number, _)| *number != self.number);
    }
}
