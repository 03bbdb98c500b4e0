//! Owns what a checked backend knows of its pages beside the books: what was submitted to each and has arrived, and what is still on its way.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::books::Books;

/// What a ticket waits for; taken when it has arrived.
#[derive(Debug)]
pub(super) struct OnItsWay(pub(super) Mutex<Option<Writing>>);

pub(super) type Shared = Arc<Mutex<Books<Note>>>;

/// What is known of a page.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) bytes: u64,
    /// Reservation and offset where it was staged into last.
    pub(super) staged_at: Option<(u64, u64)>,
    /// What was submitted since, and has arrived: positions in the page, sorted and apart.
    pub(super) written: Vec<Range<u64>>,
    /// Held by every handle to the page's memory.
    pub(super) memory: Arc<()>,
}

impl Note {
    /// A page that was just made.
    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes, staged_at: None, written: Vec::new(), memory: Arc::default() }
    }

    /// Another handle to the same memory, which is mapped nowhere yet.
    pub(super) fn share(&self) -> Self {
        let (written, memory) = (self.written.clone(), Arc::clone(&self.memory));
        Self { bytes: self.bytes, staged_at: None, written, memory }
    }

    /// The page is mapped. What a shared one holds is there at once.
    pub(super) fn mapped_at(&mut self, place: (u64, u64)) {
        if !self.written.is_empty() {
            self.staged_at.get_or_insert(place);
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.memory) > 1
    }

    pub(super) fn add(&mut self, range: &Range<u64>) {
        let touches = |w: &Range<u64>| w.start <= range.end && range.start <= w.end;
        let merged = self
            .written
            .iter()
            .filter(|w| touches(w))
            .fold(range.clone(), |m, w| m.start.min(w.start)..m.end.max(w.end));
        self.written.retain(|w| !touches(w));
        let at = self.written.partition_point(|w| w.start < merged.start);
        self.written.insert(at, merged);
    }

    pub(super) fn remove(&mut self, range: &Range<u64>) {
        let rest = |w: &Range<u64>| [w.start..w.end.min(range.start), w.start.max(range.end)..w.end];
        self.written = self.written.iter().flat_map(rest).filter(|w| !w.is_empty()).collect();
    }

    pub(super) fn holds(&self, range: &Range<u64>) -> bool {
        self.written.iter().any(|w| w.start <= range.start && range.end <= w.end)
    }
}

/// A range that is being written, until dropped.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) books: Shared,
    pub(super) range: Range<u64>,
}

impl Writing {
    /// The range has arrived: it may be read.
    pub(super) fn arrive(self) {
        let mut books = lock(&self.books);
        if let Some((note, at)) = books.page_and_position(self.range.start) {
            let at = at as u64;
            note.add(&(at..at + (self.range.end - self.range.start)));
        }
        drop(books);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        lock(&self.books).end_use(&self.range, true);
    }
}

impl OnItsWay {
    pub(super) fn arrive(&self) {
        // Taken out first: arriving takes another lock.
        let writing = lock(&self.0).take();
        if let Some(writing) = writing {
            writing.arrive();
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        // Nobody will ever know when it arrives: the range stays as it is in the books.
        if let Some(writing) = lock(&self.0).take() {
            std::mem::forget(writing);
        }
    }
}

/// Nothing panics under these locks, and what they guard is true after every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
