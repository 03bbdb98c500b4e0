//! Owns whether the policies do as their papers say: each is compared, want by want, with a version that is as plain as can be and takes any time, on small traces at random; and the optimum with a
//! search of everything that could be done.
//!
//! Every run begins with some of these. More of them: `cargo test --example residency policies`.

use std::collections::HashMap;

use crate::suite::Failure;

use super::belady::belady;
use super::random::Random;
use super::{POLICIES, by_picture};

/// Compares on so many traces.
///
/// # Errors
/// The first difference, and the trace's seed.
pub(super) fn check(seed: u64, traces: u32) -> Result<(), Failure> {
    let mut seeds = Random::new(seed);
    for _ in 0..traces {
        let seed = seeds.next();
        plainly(&mut Random::new(seed)).map_err(|wrong| format!("trace of seed {seed}: {wrong}"))?;
        searched(&mut Random::new(seed)).map_err(|wrong| format!("trace of seed {seed}: {wrong}"))?;
    }
    Ok(())
}

/// Each policy against its plain version.
fn plainly(random: &mut Random) -> Result<(), String> {
    let distinct = 2 + random.below(60);
    let pages = 1 + random.below(distinct) as usize;
    let hot = 1 + random.below(distinct);
    let plain: [fn(usize) -> Box<dyn Plain>; 5] = [
        |pages| Box::new(PlainLru { pages, order: Vec::new() }),
        |pages| Box::new(PlainClock { pages, ring: Vec::new() }),
        |pages| Box::new(PlainSieve { pages, queue: Vec::new(), hand: 0 }),
        |pages| Box::new(PlainS3Fifo { pages, small: Vec::new(), main: Vec::new(), ghosts: Vec::new() }),
        |pages| Box::new(PlainTwoQueues { pages, first: Vec::new(), often: Vec::new(), left: Vec::new() }),
    ];
    let wants: Vec<_> = (0..600)
        .map(|_| if random.below(3) == 0 { random.below(distinct) } else { random.below(hot) })
        .collect();
    for ((name, make), plain) in POLICIES.iter().zip(plain) {
        let (mut ours, mut plain) = (make(pages, distinct as usize), plain(pages));
        for (nth, &page) in wants.iter().enumerate() {
            let (had, there) = (ours.has(page), plain.want(page));
            if ours.want(page) != there || had != there || !ours.has(page) {
                return Err(format!(
                    "{name} with {pages} of {distinct} pages: want {nth} is not met as it should be"
                ));
            }
        }
    }
    Ok(())
}

/// The optimum against a search, and LRU, which keeps pictures whole, not below it.
fn searched(random: &mut Random) -> Result<(), String> {
    let distinct = 2 + random.below(5);
    let pages = 1 + random.below(distinct - 1);
    let pictures: Vec<_> = (0..=random.below(7))
        .map(|_| {
            let most = 1 + random.below(pages);
            random.some_below(distinct, most)
        })
        .collect();
    let pictures: Vec<_> = pictures.iter().map(Vec::as_slice).collect();
    let best = belady(&pictures, pages as usize, distinct as usize);
    let least = least_loads(&pictures, pages);
    if best.loads != least {
        return Err(format!("{} loads are said to be the least, but {least} are: {pictures:?}", best.loads));
    }
    let (name, make) = POLICIES[0];
    let moved = by_picture(&pictures, &mut *make(pages as usize, distinct as usize));
    if moved.loads < least || moved.wants != best.wants {
        return Err(format!("{name}: {moved:?} is less than the least, {least}: {pictures:?}"));
    }
    Ok(())
}

/// The fewest loads with which each picture is there as a whole: all that could be kept beside it is tried.
fn least_loads(pictures: &[&[u32]], pages: u32) -> u64 {
    // What is there, as bits, and with how many loads.
    let mut states = HashMap::from([(0_u32, 0_u64)]);
    for picture in pictures {
        let wanted = picture.iter().fold(0_u32, |bits, &page| bits | 1 << page);
        let mut next = HashMap::new();
        for (there, loads) in states {
            let loads = loads + u64::from((wanted & !there).count_ones());
            let others = there & !wanted;
            // Every part of the others, the empty one last.
            let mut kept = others;
            loop {
                if (kept | wanted).count_ones() <= pages {
                    let least = next.entry(kept | wanted).or_insert(loads);
                    *least = loads.min(*least);
                }
                if kept == 0 {
                    break;
                }
                kept = (kept - 1) & others;
            }
        }
        states = next;
    }
    states.into_values().min().unwrap_or(0)
}

/// A policy, plainly.
trait Plain {
    /// Whether the page is there; afterwards it is.
    fn want(&mut self, page: u32) -> bool;
}

/// Oldest first, as all of these.
struct PlainLru {
    pages: usize,
    order: Vec<u32>,
}

impl Plain for PlainLru {
    fn want(&mut self, page: u32) -> bool {
        let there = take(&mut self.order, page);
        if self.order.len() == self.pages {
            self.order.remove(0);
        }
        self.order.push(page);
        there
    }
}

/// As a queue whose oldest page is where the hand is.
struct PlainClock {
    pages: usize,
    ring: Vec<(u32, bool)>,
}

impl Plain for PlainClock {
    fn want(&mut self, page: u32) -> bool {
        if let Some(known) = self.ring.iter_mut().find(|known| known.0 == page) {
            known.1 = true;
            return true;
        }
        if self.ring.len() == self.pages {
            while self.ring[0].1 {
                let (passed, _) = self.ring.remove(0);
                self.ring.push((passed, false));
            }
            self.ring.remove(0);
        }
        self.ring.push((page, false));
        false
    }
}

struct PlainSieve {
    pages: usize,
    queue: Vec<(u32, bool)>,
    hand: usize,
}

impl Plain for PlainSieve {
    fn want(&mut self, page: u32) -> bool {
        if let Some(known) = self.queue.iter_mut().find(|known| known.0 == page) {
            known.1 = true;
            return true;
        }
        if self.queue.len() == self.pages {
            while std::mem::take(&mut self.queue[self.hand].1) {
                self.hand = (self.hand + 1) % self.pages;
            }
            self.queue.remove(self.hand);
            if self.hand == self.queue.len() {
                self.hand = 0;
                self.queue.push((page, false));
                // A hand that has been at the end begins at the oldest again.
                return false;
            }
        }
        self.queue.push((page, false));
        false
    }
}

struct PlainS3Fifo {
    pages: usize,
    small: Vec<(u32, u8)>,
    main: Vec<(u32, u8)>,
    ghosts: Vec<u32>,
}

impl PlainS3Fifo {
    fn most_small(&self) -> usize {
        (self.pages / 10).max(1)
    }

    fn evict_main(&mut self) {
        while !self.main.is_empty() {
            let (page, count) = self.main.remove(0);
            if count == 0 {
                return;
            }
            self.main.push((page, count - 1));
        }
    }

    fn evict(&mut self) {
        if self.small.len() < self.most_small() && !self.main.is_empty() {
            return self.evict_main();
        }
        while !self.small.is_empty() {
            let (page, count) = self.small.remove(0);
            if count < 2 {
                self.ghosts.push(page);
                if self.ghosts.len() > self.pages - self.most_small() {
                    self.ghosts.remove(0);
                }
                return;
            }
            self.main.push((page, 0));
            if self.main.len() > self.pages - self.most_small() {
                return self.evict_main();
            }
        }
        self.evict_main();
    }
}

impl Plain for PlainS3Fifo {
    fn want(&mut self, page: u32) -> bool {
        if let Some(known) = self.small.iter_mut().chain(&mut self.main).find(|known| known.0 == page) {
            known.1 = (known.1 + 1).min(3);
            return true;
        }
        let left_lately = self.ghosts.contains(&page);
        if self.small.len() + self.main.len() == self.pages {
            self.evict();
        }
        take(&mut self.ghosts, page);
        if left_lately { &mut self.main } else { &mut self.small }.push((page, 0));
        false
    }
}

struct PlainTwoQueues {
    pages: usize,
    first: Vec<u32>,
    often: Vec<u32>,
    left: Vec<u32>,
}

impl Plain for PlainTwoQueues {
    fn want(&mut self, page: u32) -> bool {
        if self.first.contains(&page) {
            return true;
        }
        if take(&mut self.often, page) {
            self.often.push(page);
            return true;
        }
        let known = self.left.contains(&page);
        if self.first.len() + self.often.len() == self.pages {
            if self.first.len() > self.pages / 4 {
                self.left.push(self.first.remove(0));
                if self.left.len() > self.pages / 2 {
                    self.left.remove(0);
                }
            } else {
                self.often.remove(0);
            }
        }
        take(&mut self.left, page);
        if known { &mut self.often } else { &mut self.first }.push(page);
        false
    }
}

/// Takes a page out, and says whether it was there.
fn take(list: &mut Vec<u32>, page: u32) -> bool {
    let before = list.len();
    list.retain(|&other| other != page);
    list.len() < before
}

#[cfg(test)]
mod tests {
    #[test]
    fn policies_do_as_their_plain_versions_and_the_optimum_as_a_search() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        super::check(now.map_or(1, |now| now.as_secs() << 20 | u64::from(now.subsec_micros())), 2000)
            .unwrap();
    }
}
