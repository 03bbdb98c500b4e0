//! Owns *2Q*: new pages go through a queue of their own, and only those that are wanted again after they have left it are kept by last use.
//!
//! Made good: the full version of the paper with the sizes that it recommends, a quarter of the pages for the first queue and half as many names of those that left it; all three are lists through
//! one array of links.
//!
//! **Source**: Johnson and Shasha, *2Q: a low overhead high performance buffer management replacement algorithm*, VLDB 1994.

use super::Policy;
use super::lists::Lists;

/// Pages that are new, in order of arrival (A1in).
const FIRST: usize = 0;
/// Pages by last use (Am).
const OFTEN: usize = 1;
/// Names of pages that left the first queue (A1out).
const LEFT: usize = 2;

pub(super) struct TwoQueues {
    queues: Lists<3>,
    pages: usize,
}

impl TwoQueues {
    pub(super) fn new(pages: usize, distinct: usize) -> Self {
        Self { queues: Lists::new(distinct), pages }
    }

    fn make_room(&mut self) {
        let [first, often] = [FIRST, OFTEN].map(|queue| self.queues.len(queue));
        if first + often < self.pages {
            return;
        }
        if first <= self.pages / 4 {
            self.queues.pop(OFTEN);
        } else if let Some(page) = self.queues.oldest(FIRST) {
            self.queues.push(LEFT, page);
            if self.queues.len(LEFT) > self.pages / 2 {
                self.queues.pop(LEFT);
            }
        }
    }
}

impl Policy for TwoQueues {
    fn has(&self, page: u32) -> bool {
        matches!(self.queues.of(page), Some(FIRST | OFTEN))
    }

    fn want(&mut self, page: u32) -> bool {
        match self.queues.of(page) {
            Some(FIRST) => true,
            Some(OFTEN) => {
                self.queues.push(OFTEN, page);
                true
            }
            known => {
                // Its name may go while room is made, but it was there.
                self.make_room();
                self.queues.push(if known.is_some() { OFTEN } else { FIRST }, page);
                false
            }
        }
    }
}
