//! Owns what is being loaded, and what that takes: [`UnderWay`].

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::layout::TileId;

use super::queue::{Entry, TileKey};

/// A request that was handed out.
#[derive(Debug)]
struct Request {
    tiles: Vec<TileKey>,
    bytes: u64,
    pages: u64,
    since: Instant,
}

/// A tile on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnItsWay {
    pub(super) key: TileKey,
    /// What it was wanted with last.
    pub(super) entry: Entry,
    /// Whether it was wanted again since its request was handed out.
    pub(super) again: bool,
}

/// The requests that were handed out and have not come back.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    requests: BTreeMap<u64, Request>,
    tiles: HashMap<TileKey, OnItsWay>,
    bytes: u64,
    pages: u64,
    next: u64,
}

impl UnderWay {
    /// Takes a request in and gives it a number.
    pub(super) fn begin(
        &mut self,
        tiles: Vec<(TileKey, Entry)>,
        bytes: u64,
        pages: u64,
        since: Instant,
    ) -> u64 {
        self.next += 1;
        self.bytes += bytes;
        self.pages += pages;
        let keys = tiles.iter().map(|(key, _)| *key).collect();
        self.tiles.extend(tiles.into_iter().map(|(key, entry)| (key, OnItsWay { key, entry, again: false })));
        self.requests.insert(self.next, Request { tiles: keys, bytes, pages, since });
        self.next
    }

    /// Ends a request: its tiles.
    pub(super) fn end(&mut self, request: u64) -> Vec<OnItsWay> {
        let Some(request) = self.requests.remove(&request) else { return Vec::new() };
        self.bytes -= request.bytes;
        self.pages -= request.pages;
        request.tiles.iter().filter_map(|key| self.tiles.remove(key)).collect()
    }

    /// A tile is wanted: whether it is under way. If its request is refused, this want is what counts.
    pub(super) fn note(&mut self, key: TileKey, entry: Entry) -> bool {
        let again = OnItsWay { key, entry, again: true };
        self.tiles.get_mut(&key).map(|known| *known = again).is_some()
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.len() as u64
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = TileKey> + '_ {
        self.tiles.keys().copied()
    }

    pub(super) fn tiles(&self) -> u64 {
        self.tiles.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.requests.values().map(|request| request.since).min()
    }
}

/// What a thread is to request next.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) request: u64,
    pub(super) array: u32,
    /// Most urgent first.
    pub(super) tiles: Vec<TileId>,
}
