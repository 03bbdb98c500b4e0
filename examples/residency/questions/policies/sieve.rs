//! Owns *SIEVE*: a queue and a hand that goes from its oldest page to its newest. What was wanted since the hand last passed stays where it is, and what is new comes in at the queue's end, where
//! the hand is not.
//!
//! Made good: the queue is a list through an array of links, so that taking a page out of its middle moves nothing; a hit is one store.
//!
//! **Source**: Zhang, Yang, Yue, Vigfusson and Rashmi, *SIEVE is simpler than LRU*, NSDI 2024.

use super::Policy;
use super::lists::Lists;

pub(super) struct Sieve {
    queue: Lists<1>,
    /// Whether each page was wanted again.
    again: Vec<bool>,
    /// Where the hand goes on; from the oldest page where it is nowhere.
    hand: Option<u32>,
    pages: usize,
}

impl Sieve {
    pub(super) fn new(pages: usize, distinct: usize) -> Self {
        Self { queue: Lists::new(distinct), again: vec![false; distinct], hand: None, pages }
    }

    fn evict(&mut self) {
        let mut at = self.hand.or_else(|| self.queue.oldest(0));
        while let Some(page) = at {
            let newer = self.queue.newer(page);
            if !std::mem::take(&mut self.again[page as usize]) {
                self.queue.remove(page);
                self.hand = newer;
                return;
            }
            at = newer.or_else(|| self.queue.oldest(0));
        }
    }
}

impl Policy for Sieve {
    fn has(&self, page: u32) -> bool {
        self.queue.of(page).is_some()
    }

    fn want(&mut self, page: u32) -> bool {
        if self.has(page) {
            self.again[page as usize] = true;
            return true;
        }
        if self.queue.len(0) == self.pages {
            self.evict();
        }
        self.queue.push(0, page);
        false
    }
}
