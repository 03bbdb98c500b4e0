//! Owns *S3-FIFO*: what is new waits in a small queue of a tenth of the pages, and gets into the main one where it was wanted more than once meanwhile, or is wanted again soon after it left.
//!
//! Made good: all queues are lists through one array of links, the names of pages that left (as many as the main queue's pages) among them; a hit is one store. As in the paper a page's count is
//! set back when it gets into the main queue, and goes down by one each time that it comes to the end of that.
//!
//! **Source**: Yang, Zhang, Qiu, Yue and Rashmi, *FIFO queues are all you need for cache eviction*, SOSP 2023.

use super::Policy;
use super::lists::Lists;

const SMALL: usize = 0;
const MAIN: usize = 1;
/// Names of pages that left the small queue.
const GHOSTS: usize = 2;
const MOST_COUNTED: u8 = 3;

pub(super) struct S3Fifo {
    queues: Lists<3>,
    /// How often each page was wanted again.
    counts: Vec<u8>,
    pages: usize,
    small: usize,
}

impl S3Fifo {
    pub(super) fn new(pages: usize, distinct: usize) -> Self {
        Self { queues: Lists::new(distinct), counts: vec![0; distinct], pages, small: (pages / 10).max(1) }
    }

    fn evict(&mut self) {
        if self.queues.len(SMALL) >= self.small && self.evict_small() {
            return;
        }
        if !self.evict_main() {
            self.evict_small();
        }
    }

    /// Whether a page left.
    fn evict_small(&mut self) -> bool {
        while let Some(page) = self.queues.oldest(SMALL) {
            if self.counts[page as usize] > 1 {
                self.counts[page as usize] = 0;
                self.queues.push(MAIN, page);
                // All of the room that is not the small queue's may be the main one's.
                if self.queues.len(MAIN) > self.pages - self.small && self.evict_main() {
                    return true;
                }
            } else {
                self.queues.push(GHOSTS, page);
                if self.queues.len(GHOSTS) > self.pages - self.small {
                    self.queues.pop(GHOSTS);
                }
                return true;
            }
        }
        false
    }

    /// Whether a page left.
    fn evict_main(&mut self) -> bool {
        while let Some(page) = self.queues.oldest(MAIN) {
            let count = &mut self.counts[page as usize];
            if *count == 0 {
                self.queues.remove(page);
                return true;
            }
            *count -= 1;
            self.queues.push(MAIN, page);
        }
        false
    }
}

impl Policy for S3Fifo {
    fn has(&self, page: u32) -> bool {
        matches!(self.queues.of(page), Some(SMALL | MAIN))
    }

    fn want(&mut self, page: u32) -> bool {
        if self.has(page) {
            let count = &mut self.counts[page as usize];
            *count = (*count + 1).min(MOST_COUNTED);
            return true;
        }
        let left_lately = self.queues.of(page) == Some(GHOSTS);
        if self.queues.len(SMALL) + self.queues.len(MAIN) == self.pages {
            self.evict();
        }
        self.counts[page as usize] = 0;
        self.queues.push(if left_lately { MAIN } else { SMALL }, page);
        false
    }
}
