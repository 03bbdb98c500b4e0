//! Owns which of the system's page tables were left behind by memory that was moved away, so that what was visited once does not cost memory for ever. Knows addresses, not pages.
//!
//! A table is an OS page for every 2 MiB of addresses ([`BLOCK_BYTES`]). Making one takes longer than moving memory, so that those left last are kept ([`MOST_EMPTY`]): what left may come back.

use std::num::NonZeroUsize;
use std::ops::Range;

use lru::LruCache;

use super::sys::HUGE_BYTES;

/// Addresses that one table is for.
pub(super) const BLOCK_BYTES: usize = HUGE_BYTES;
/// Tables that are kept although nothing is there: 8 MiB of them, for 4 GiB of addresses.
const MOST_EMPTY: NonZeroUsize = NonZeroUsize::new(2048).expect("is not zero");
/// Neighbours that go at once.
const MOST_AT_ONCE: usize = 32;

/// Blocks of addresses that have a table and no memory.
#[derive(Debug)]
pub(super) struct Tables {
    /// By the first address of the block; the last to be emptied is the newest.
    empty: LruCache<usize, Part>,
}

/// The part of a block, or of some, that lies in one reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What may be mapped anew.
    pub(super) range: Range<usize>,
    /// Where the reservation begins.
    pub(super) reservation: usize,
}

impl Default for Tables {
    fn default() -> Self {
        Self { empty: LruCache::unbounded() }
    }
}

/// The block of an address.
pub(super) fn block_of(address: usize) -> Range<usize> {
    let start = address / BLOCK_BYTES * BLOCK_BYTES;
    start..start + BLOCK_BYTES
}

impl Tables {
    /// Memory comes to an address.
    pub(super) fn comes(&mut self, address: usize) {
        self.empty.pop(&block_of(address).start);
    }

    /// There is no memory left in a part of a block. Says what to map anew, if anything.
    pub(super) fn emptied(&mut self, part: Part) -> Option<Part> {
        self.empty.push(block_of(part.range.start).start, part);
        if self.empty.len() <= MOST_EMPTY.get() {
            return None;
        }
        let (_, mut oldest) = self.empty.pop_lru()?;
        // What was left in order is mapped anew in one call.
        for _ in 1..MOST_AT_ONCE {
            let end = oldest.range.end;
            match self.empty.peek(&end) {
                Some(next) if next.range.start == end && next.reservation == oldest.reservation => {
                    oldest.range.end = next.range.end;
                }
                _ => break,
            }
            self.empty.pop(&end);
        }
        Some(oldest)
    }

    /// A reservation ends.
    pub(super) fn forget(&mut self, reservation: usize) {
        let of_it = |part: &Part| part.reservation == reservation;
        let gone: Vec<usize> =
            self.empty.iter().filter(|(_, part)| of_it(part)).map(|(block, _)| *block).collect();
        for block in gone {
            self.empty.pop(&block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: usize) -> Range<usize> {
        number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES
    }

    fn emptied(tables: &mut Tables, range: Range<usize>) -> Option<Range<usize>> {
        tables.emptied(Part { range, reservation: 0 }).map(|part| part.range)
    }

    #[test]
    fn the_oldest_go_first() {
        let mut tables = Tables::default();
        for number in 1..=MOST_EMPTY.get() {
            assert_eq!(emptied(&mut tables, block(2 * number)), None);
        }
        // What came back is not empty.
        tables.comes(block(2).start + 4096);
        assert_eq!(emptied(&mut tables, block(20_001)), None);
        assert_eq!(emptied(&mut tables, block(20_003)), Some(block(4)));
        assert_eq!(emptied(&mut tables, block(5)), Some(block(6)));
    }

    #[test]
    fn neighbours_are_mapped_anew_in_one_call() {
        let mut tables = Tables::default();
        for number in 0..MOST_EMPTY.get() {
            assert_eq!(emptied(&mut tables, block(number)), None);
        }
        let first = emptied(&mut tables, block(50_000)).unwrap();
        assert_eq!(first, block(0).start..block(MOST_AT_ONCE).start);
        for number in 1..MOST_AT_ONCE {
            assert_eq!(emptied(&mut tables, block(60_000 + number)), None, "{number}");
        }
        let second = emptied(&mut tables, block(70_000)).unwrap();
        assert_eq!(second, block(MOST_AT_ONCE).start..block(2 * MOST_AT_ONCE).start);
    }

    #[test]
    fn reservations_are_kept_apart() {
        let mut tables = Tables::default();
        let part = |number: usize, reservation| Part { range: block(number), reservation };
        for (number, reservation) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
            assert_eq!(tables.emptied(part(number, reservation)), None);
        }
        for number in 0..MOST_EMPTY.get() - 4 {
            assert_eq!(emptied(&mut tables, block(100 + 2 * number)), None);
        }
        let first = Part { range: block(1).start..block(3).start, reservation: 1 };
        assert_eq!(tables.emptied(part(90, 90)), Some(first));
        tables.forget(3);
        for number in [91, 92, 93] {
            assert_eq!(emptied(&mut tables, block(10_000 + 2 * number)), None);
        }
        assert_eq!(emptied(&mut tables, block(20_000)), Some(block(100)));
    }
}
