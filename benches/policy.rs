//! Who stays and who goes: how often is a page that a picture wants in memory, by the policy as it is built, by others, and by the best that there could be?
//!
//! The flights in `assets/traces` are replayed: each picture asks for the pages that it wants, most urgent first. *Best* is Belady's: what goes is what is wanted again last, which takes knowing
//! what comes. *As built* is a replay through a streamer and a pool on the model backend, in which everything is loaded that the budget holds before the next picture. *LRU*, *2Q* and *SIEVE*
//! are plain caches in this file. Each but the last column is asked for what the budget holds of each picture, which is all that is ever loaded; *LRU, no line* for everything.
//!
//! **Source**: Belady, IBM Systems Journal 5 (1966); Johnson and Shasha, VLDB 1994 (2Q, with a quarter of the pages in its first queue and half as many names in its second); Zhang et al., NSDI 2024 (SIEVE).

#![allow(clippy::cast_precision_loss, reason = "figures of a known size")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;
use vastgrid::trace::{ReplayOptions, ReplaySteps, Trace, TraceTile, TraceUse};

/// A cache of pages that holds so many.
trait Policy {
    /// A page is wanted: whether it is there. Afterwards it is.
    fn want(&mut self, page: TraceTile) -> bool;
}

struct Lru(LruCache<TraceTile, ()>);

impl Policy for Lru {
    fn want(&mut self, page: TraceTile) -> bool {
        self.0.put(page, ()).is_some()
    }
}

/// New pages go through a queue of their own; only those that are wanted again after they have left it are kept by last use.
struct TwoQueues {
    first: VecDeque<TraceTile>,
    left: VecDeque<TraceTile>,
    often: LruCache<TraceTile, ()>,
    pages: usize,
}

impl Policy for TwoQueues {
    fn want(&mut self, page: TraceTile) -> bool {
        if self.often.get(&page).is_some() {
            return true;
        }
        if self.first.contains(&page) {
            return true;
        }
        if self.first.len() + self.often.len() == self.pages {
            if self.first.len() > self.pages / 4 || self.often.is_empty() {
                let out = self.first.pop_front();
                self.left.extend(out);
                if self.left.len() > self.pages / 2 {
                    self.left.pop_front();
                }
            } else {
                self.often.pop_lru();
            }
        }
        if self.left.contains(&page) {
            self.left.retain(|left| *left != page);
            self.often.put(page, ());
        } else {
            self.first.push_back(page);
        }
        false
    }
}

/// A queue and a hand that goes from its oldest page to its newest: what was wanted since the hand last passed stays where it is.
struct Sieve {
    /// Oldest first; whether it was wanted again.
    queue: Vec<(TraceTile, bool)>,
    hand: usize,
    pages: usize,
}

impl Policy for Sieve {
    fn want(&mut self, page: TraceTile) -> bool {
        if let Some((_, again)) = self.queue.iter_mut().find(|(known, _)| *known == page) {
            *again = true;
            return true;
        }
        if self.queue.len() == self.pages {
            loop {
                if self.hand >= self.queue.len() {
                    self.hand = 0;
                }
                if !std::mem::take(&mut self.queue[self.hand].1) {
                    break;
                }
                self.hand += 1;
            }
            self.queue.remove(self.hand);
        }
        self.queue.push((page, false));
        false
    }
}

/// How many of these wants are met where what goes is what is wanted again last.
fn belady(wants: &[TraceTile], pages: usize) -> u64 {
    let mut next = vec![usize::MAX; wants.len()];
    let mut seen = HashMap::new();
    for (i, &page) in wants.iter().enumerate().rev() {
        next[i] = seen.insert(page, i).unwrap_or(usize::MAX);
    }
    // By when they are wanted again; never comes last.
    let (mut order, mut there) = (std::collections::BTreeSet::new(), HashMap::new());
    let mut hits = 0;
    for (i, &page) in wants.iter().enumerate() {
        if let Some(at) = there.remove(&page) {
            order.remove(&(at, page));
            hits += 1;
        } else if there.len() == pages {
            let (_, last) = order.pop_last().unwrap();
            there.remove(&last);
        }
        there.insert(page, next[i]);
        order.insert((next[i], page));
    }
    hits
}

fn met(wants: &[TraceTile], mut policy: impl Policy) -> u64 {
    wants.iter().filter(|&&page| policy.want(page)).count() as u64
}

fn lru(pages: usize) -> Lru {
    Lru(LruCache::new(NonZeroUsize::new(pages).unwrap()))
}

/// What each picture wants, most urgent first. In these traces a page is a tile.
fn pictures(trace: &Trace) -> Vec<Vec<TraceTile>> {
    let mut all = Vec::new();
    let mut requests = trace.requests();
    while let Some((frame, wanted)) = requests.next_frame() {
        let mut tiles: Vec<_> = wanted
            .iter()
            .filter(|(_, what_for)| **what_for != TraceUse::Ahead)
            .map(|(&tile, &what_for)| (what_for, trace.distance(frame, tile), tile))
            .collect();
        let coarse_first = |level: usize| if frame.near_first { 0 } else { usize::MAX - level };
        tiles.sort_by(|a, b| {
            let place = |(what_for, _, tile): &(TraceUse, f64, TraceTile)| {
                let behind = frame.near_first && *what_for == TraceUse::StandIn;
                (behind, if behind { usize::MAX - tile.level } else { coarse_first(tile.level) })
            };
            place(a).cmp(&place(b)).then(a.1.total_cmp(&b.1))
        });
        all.push(tiles.into_iter().map(|(.., tile)| tile).collect());
    }
    all
}

fn main() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/traces");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "trace"));
    paths.sort();
    println!(
        "hits as shares of the best that could be; pages loaded, as multiples of the fewest that could be"
    );
    let header = ["as built", "LRU", "2Q", "SIEVE", "LRU, no line"];
    println!(
        "{:<10} {:>6} {:>10}   {}",
        "flight",
        "budget",
        "best hits",
        header.map(|h| format!("{h:>16}")).join("")
    );
    for path in paths {
        let trace = Trace::read(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let pictures = pictures(&trace);
        let page_bytes = trace.levels[0].page_bytes(trace.voxel_bytes);
        assert!(
            trace
                .levels
                .iter()
                .all(|l| l.page_bytes(trace.voxel_bytes) == page_bytes && l.page.checked_volume() == Some(1))
        );
        let coarsest = trace.levels.last().unwrap();
        let pinned: u64 =
            (0..3).map(|a| coarsest.extent.to_array()[a].div_ceil(coarsest.tile.to_array()[a])).product();
        let largest = pictures.iter().map(Vec::len).max().unwrap();
        for (label, pages) in
            [("1/8", largest / 8), ("1/4", largest / 4), ("1/2", largest / 2), ("1", largest)]
        {
            let wants: Vec<_> =
                pictures.iter().flat_map(|picture| &picture[..picture.len().min(pages)]).copied().collect();
            let all: Vec<_> = pictures.iter().flatten().copied().collect();
            let best = belady(&wants, pages);
            let options = ReplayOptions {
                budget_bytes: Some((pages as u64 + pinned) * page_bytes),
                steps: ReplaySteps::All,
            };
            let loaded: usize =
                trace.replay(&options).unwrap().iter().map(|outcome| outcome.loaded.len()).sum();
            let share = |hits: u64, wants: usize| hits as f64 / wants as f64;
            let of = |hits: u64, asked: usize| {
                let missed = (asked as u64 - hits) as f64 / (wants.len() as u64 - best) as f64;
                format!("{:>9.3} {missed:>6.2}", share(hits, asked) / share(best, wants.len()))
            };
            let two = TwoQueues {
                first: VecDeque::new(),
                left: VecDeque::new(),
                often: LruCache::unbounded(),
                pages,
            };
            let columns = [
                of(wants.len() as u64 - loaded as u64, wants.len()),
                of(met(&wants, lru(pages)), wants.len()),
                of(met(&wants, two), wants.len()),
                of(met(&wants, Sieve { queue: Vec::new(), hand: 0, pages }), wants.len()),
                of(met(&all, lru(pages)), all.len()),
            ];
            let distinct = wants.iter().collect::<HashSet<_>>().len();
            println!(
                "{name:<10} {label:>6} {:>8.2} %   {}   ({distinct} pages, {pages} at a time)",
                best as f64 / wants.len() as f64 * 100.0,
                columns.join("")
            );
        }
    }
}
