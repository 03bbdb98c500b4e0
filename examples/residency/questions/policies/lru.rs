//! Owns *LRU*, exactly: what was wanted least recently goes.
//!
//! Made good: a list through an array of links, so that a want is a few stores and no search.
//!
//! **Source**: Mattson, Gecsei, Slutz and Traiger, *Evaluation techniques for storage hierarchies*, IBM Systems Journal 9 (1970).

use super::Policy;
use super::lists::Lists;

pub(super) struct Lru {
    order: Lists<1>,
    pages: usize,
}

impl Lru {
    pub(super) fn new(pages: usize, distinct: usize) -> Self {
        Self { order: Lists::new(distinct), pages }
    }
}

impl Policy for Lru {
    fn has(&self, page: u32) -> bool {
        self.order.of(page).is_some()
    }

    fn want(&mut self, page: u32) -> bool {
        let there = self.has(page);
        if !there && self.order.len(0) == self.pages {
            self.order.pop(0);
        }
        self.order.push(0, page);
        there
    }
}
