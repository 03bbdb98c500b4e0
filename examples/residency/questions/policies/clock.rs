//! Owns *CLOCK*: places in a ring and a hand that goes round. A page that was wanted since the hand last passed is passed once more.
//!
//! Made good: places are found by an array, and a hit is one store. A page begins unmarked, so that one that is never wanted again goes at the hand's first visit.
//!
//! **Source**: Corbató, *A paging experiment with the Multics system*, MIT Project MAC Report MAC-M-384 (1968).

use super::Policy;

pub(super) struct Clock {
    /// The page in each place of the ring.
    ring: Vec<u32>,
    /// Of each page, whether it is there, and whether it was wanted again.
    states: Vec<State>,
    hand: usize,
    pages: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Away,
    There,
    Again,
}

impl Clock {
    pub(super) fn new(pages: usize, distinct: usize) -> Self {
        Self { ring: Vec::with_capacity(pages), states: vec![State::Away; distinct], hand: 0, pages }
    }

    /// The next place to be taken, and the hand beyond it.
    fn turn(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.pages;
            let state = &mut self.states[self.ring[place] as usize];
            if *state == State::There {
                *state = State::Away;
                return place;
            }
            *state = State::There;
        }
    }
}

impl Policy for Clock {
    fn has(&self, page: u32) -> bool {
        self.states[page as usize] != State::Away
    }

    fn want(&mut self, page: u32) -> bool {
        if self.has(page) {
            self.states[page as usize] = State::Again;
            return true;
        }
        if self.ring.len() < self.pages {
            self.ring.push(page);
        } else {
            let place = self.turn();
            self.ring[place] = page;
        }
        self.states[page as usize] = State::There;
        false
    }
}
