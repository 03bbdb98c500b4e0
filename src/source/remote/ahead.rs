//! Owns what is fetched before anybody waits for it: announced parts in a queue, so many of them under way, so many bytes kept until they are taken, once. Knows nothing of how anything is fetched.
//!
//! ```text
//! announce -> queued --next--> under way --done--> ready --take--> (gone)
//!                \--take: whoever needs it fetches it himself
//! ```
//!
//! What was announced and never taken makes room after a while for what is announced then. A failure is told to whoever waits for it, and to nobody later.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fetch::{Answer, Got, Part};
use crate::error::RemoteError;

/// After this time what was not taken gives way to what is announced.
const STALE: Duration = Duration::from_secs(10);
/// Most announcements that are kept.
const MOST_ENTRIES: usize = 1 << 14;

/// A part that is going to be read.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    pub(super) key: String,
    pub(super) part: Part,
    /// How many bytes it will have, or at most.
    pub(super) most_bytes: u64,
    /// How many bytes are going to be taken: fewer, where parts with gaps between them are fetched as one; more, where one part is for several readers.
    pub(super) wanted_bytes: u64,
}

/// An announced part that is to be fetched now.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    id: u64,
    pub(super) key: String,
    pub(super) part: Part,
}

#[derive(Debug)]
enum State {
    Queued,
    UnderWay,
    /// `None`: not there. And how many bytes are still to be taken.
    Ready(Option<Got>, u64),
    Failed(Arc<RemoteError>),
}

#[derive(Debug)]
struct Entry {
    announced: Announced,
    state: State,
    /// Counted in [`Books::bytes`].
    held_bytes: u64,
    waiting: usize,
    since: Instant,
}

#[derive(Debug, Default)]
struct Books {
    /// By age.
    entries: BTreeMap<u64, Entry>,
    by_key: HashMap<String, Vec<u64>>,
    queue: VecDeque<u64>,
    next_id: u64,
    under_way: usize,
    bytes: u64,
}

/// What is fetched ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    books: Mutex<Books>,
    changed: Condvar,
    most_under_way: usize,
    most_bytes: u64,
}

impl Ahead {
    pub(super) fn new(most_under_way: usize, most_bytes: u64) -> Self {
        Self { books: Mutex::default(), changed: Condvar::new(), most_under_way, most_bytes }
    }

    /// Queues what is going to be read, but for what is here already.
    pub(super) fn announce(&self, parts: impl IntoIterator<Item = Announced>) {
        if self.most_under_way == 0 || self.most_bytes == 0 {
            return;
        }
        let mut books = self.books();
        let now = Instant::now();
        books.forget_stale(now);
        for announced in parts {
            if books.entries.len() >= MOST_ENTRIES {
                break;
            }
            if books.holds(&announced.key, &announced.part).is_none() {
                books.enter(announced, now);
            }
        }
    }

    /// The next part to be fetched, if there is one, and room for it. It has to be handed back with [`Ahead::done`].
    pub(super) fn next(&self) -> Option<Ticket> {
        let mut books = self.books();
        if books.under_way >= self.most_under_way {
            return None;
        }
        while let Some(&id) = books.queue.front() {
            let bytes = books.bytes;
            let Some(entry) = books.entries.get_mut(&id) else {
                // Taken over by whoever needed it.
                books.queue.pop_front();
                continue;
            };
            let its = entry.announced.most_bytes;
            if bytes > 0 && bytes.saturating_add(its) > self.most_bytes {
                return None;
            }
            entry.state = State::UnderWay;
            entry.held_bytes = its;
            let ticket = Ticket { id, key: entry.announced.key.clone(), part: entry.announced.part.clone() };
            books.bytes = bytes.saturating_add(its);
            books.under_way += 1;
            books.queue.pop_front();
            return Some(ticket);
        }
        None
    }

    /// What came of a part; `None` where whoever fetched it broke off.
    pub(super) fn done(&self, ticket: &Ticket, answer: Option<Answer>) {
        let mut books = self.books();
        books.under_way -= 1;
        let Some(entry) = books.entries.get_mut(&ticket.id) else { return };
        let was = entry.held_bytes;
        let keep = match answer {
            Some(Ok(got)) => {
                entry.held_bytes = got.as_ref().map_or(0, |got| got.bytes.len() as u64);
                entry.state = State::Ready(got, entry.announced.wanted_bytes);
                true
            }
            Some(Err(error)) => {
                entry.held_bytes = 0;
                entry.state = State::Failed(error);
                entry.waiting > 0
            }
            None => {
                entry.held_bytes = 0;
                false
            }
        };
        books.bytes = books.bytes - was + books.entries[&ticket.id].held_bytes;
        if !keep {
            books.remove(ticket.id);
        }
        drop(books);
        self.changed.notify_all();
    }

    /// A part that was announced: waits for it where it is under way. `None`: fetch it yourself.
    pub(super) fn take(&self, key: &str, part: &Part) -> Option<Answer> {
        let mut books = self.books();
        let id = books.holds(key, part)?;
        if matches!(books.entries[&id].state, State::Queued) {
            books.remove(id);
            return None;
        }
        books.entries.get_mut(&id)?.waiting += 1;
        while books.entries.get(&id).is_some_and(|entry| matches!(entry.state, State::UnderWay)) {
            books = self.changed.wait(books).unwrap_or_else(PoisonError::into_inner);
        }
        // Gone, if another one took all of it meanwhile.
        let entry = books.entries.get_mut(&id)?;
        entry.waiting -= 1;
        let (answer, over) = match &mut entry.state {
            State::Ready(got, left) => {
                let taken = got.as_ref().map(|got| slice(got, &entry.announced.part, part));
                let bytes = taken.as_ref().map_or(u64::MAX, |got| got.bytes.len() as u64);
                *left = left.saturating_sub(bytes);
                (Ok(taken), *left == 0 || matches!(entry.announced.part, Part::Whole(_)))
            }
            State::Failed(error) => (Err(error.clone()), entry.waiting == 0),
            State::Queued | State::UnderWay => return None,
        };
        if over {
            books.remove(id);
        }
        Some(answer)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The entry that has this part in it.
    fn holds(&self, key: &str, part: &Part) -> Option<u64> {
        let covers = |id: &&u64| {
            self.entries.get(id).is_some_and(|entry| match (&entry.announced.part, part) {
                (Part::Whole(_), Part::Whole(_)) => true,
                (Part::Range(whole), Part::Range(its)) => whole.start <= its.start && its.end <= whole.end,
                (Part::Last(whole), Part::Last(its)) => whole == its,
                _ => false,
            })
        };
        self.by_key.get(key)?.iter().find(covers).copied()
    }

    fn enter(&mut self, announced: Announced, since: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        self.by_key.entry(announced.key.clone()).or_default().push(id);
        self.queue.push_back(id);
        self.entries.insert(id, Entry { announced, state: State::Queued, held_bytes: 0, waiting: 0, since });
    }

    /// Not of what is under way: that is still to be handed back.
    fn remove(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.bytes -= entry.held_bytes;
        if let Some(ids) = self.by_key.get_mut(&entry.announced.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&entry.announced.key);
            }
        }
    }

    fn forget_stale(&mut self, now: Instant) {
        let stale: Vec<u64> = self
            .entries
            .iter()
            .take_while(|(_, entry)| now.duration_since(entry.since) > STALE)
            .filter(|(_, entry)| entry.waiting == 0 && !matches!(entry.state, State::UnderWay))
            .map(|(id, _)| *id)
            .collect();
        for id in stale {
            self.remove(id);
        }
        if self.queue.len() > 2 * MOST_ENTRIES {
            let entries = &self.entries;
            self.queue.retain(|id| entries.contains_key(id));
        }
    }
}

/// What `part` is of what was fetched as `whole`, which has it in it.
fn slice(got: &Got, whole: &Part, part: &Part) -> Got {
    let bytes = match (whole, part) {
        (Part::Range(whole), Part::Range(part)) => {
            let at = |offset: u64| usize::try_from(offset - whole.start).unwrap_or(usize::MAX);
            let (start, end) = (at(part.start), at(part.end));
            if end <= got.bytes.len() { got.bytes.slice(start..end) } else { got.bytes.clone() }
        }
        _ => got.bytes.clone(),
    };
    Got { bytes, version: got.version.clone() }
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
