//! Owns which of the system's page tables were left behind by memory that was moved away, so that most of what was visited once costs no memory for ever. Knows addresses, not pages.
//!
//! A table is an OS page for every 2 MiB of addresses ([`BLOCK_BYTES`]). Making one takes longer than moving memory, so that those left last are kept ([`MOST_EMPTY`]): what left may come back.
//! (The tables above them, an OS page for each GiB of addresses, stay until the reservation ends.)

use std::ops::Range;

use lru::LruCache;

use super::sys::HUGE_BYTES;

/// Addresses that one table is for.
pub(super) const BLOCK_BYTES: usize = HUGE_BYTES;
/// Tables that are kept although nothing is there: 8 MiB of them, for 4 GiB of addresses.
const MOST_EMPTY: usize = 2048;
/// Neighbours that go at once.
const MOST_AT_ONCE: usize = 32;

/// Blocks of addresses that have a table and no memory.
#[derive(Debug)]
pub(super) struct Tables {
    /// By their first address; the last to be emptied is the newest.
    empty: LruCache<usize, Part>,
    /// How many blocks those are.
    blocks: usize,
}

/// A block of a reservation, or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What may be mapped anew.
    pub(super) range: Range<usize>,
    /// Where the reservation begins.
    pub(super) reservation: usize,
}

impl Default for Tables {
    fn default() -> Self {
        Self { empty: LruCache::unbounded(), blocks: 0 }
    }
}

/// The blocks of a range.
pub(super) fn blocks_of(start: usize, bytes: usize) -> Range<usize> {
    start / BLOCK_BYTES * BLOCK_BYTES..(start + bytes).next_multiple_of(BLOCK_BYTES)
}

impl Part {
    fn blocks(&self) -> usize {
        self.range.len() / BLOCK_BYTES
    }
}

impl Tables {
    /// Memory comes to a range. Says whether there is a table, and no memory: only where pages are not smaller than a block is that all that has one.
    pub(super) fn comes(&mut self, start: usize, bytes: usize) -> bool {
        let part = self.empty.pop(&blocks_of(start, bytes).start);
        self.blocks -= part.as_ref().map_or(0, Part::blocks);
        part.is_some()
    }

    /// There is no memory left in some whole blocks, and at least one table.
    pub(super) fn emptied(&mut self, part: Part) {
        self.blocks += part.blocks();
        let replaced = self.empty.push(part.range.start, part);
        self.blocks -= replaced.map_or(0, |(_, part)| part.blocks());
    }

    /// What is to be mapped anew, as long as there are too many.
    pub(super) fn excess(&mut self) -> Option<Part> {
        if self.blocks <= MOST_EMPTY {
            return None;
        }
        let (_, mut oldest) = self.empty.pop_lru()?;
        self.blocks -= oldest.blocks();
        // What was left in order is mapped anew in one call.
        for _ in 1..MOST_AT_ONCE {
            let end = oldest.range.end;
            match self.empty.peek(&end) {
                Some(next) if next.reservation == oldest.reservation => oldest.range.end = next.range.end,
                _ => break,
            }
            self.comes(end, BLOCK_BYTES);
        }
        Some(oldest)
    }

    /// A reservation ends.
    pub(super) fn forget(&mut self, reservation: usize) {
        let of_it = |part: &Part| part.reservation == reservation;
        let gone: Vec<usize> =
            self.empty.iter().filter(|(_, part)| of_it(part)).map(|(block, _)| *block).collect();
        for block in gone {
            self.comes(block, BLOCK_BYTES);
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
        tables.emptied(Part { range, reservation: 0 });
        tables.excess().map(|part| part.range)
    }

    #[test]
    fn the_oldest_go_first() {
        let mut tables = Tables::default();
        for number in 1..=MOST_EMPTY {
            assert_eq!(emptied(&mut tables, block(2 * number)), None);
        }
        // What came back is not empty.
        assert!(tables.comes(block(2).start + 4096, 4096));
        assert!(!tables.comes(block(2).start, BLOCK_BYTES));
        assert_eq!(emptied(&mut tables, block(20_001)), None);
        assert_eq!(emptied(&mut tables, block(20_003)), Some(block(4)));
        assert_eq!(emptied(&mut tables, block(5)), Some(block(6)));
    }

    #[test]
    fn neighbours_are_mapped_anew_in_one_call() {
        let mut tables = Tables::default();
        for number in 0..MOST_EMPTY {
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
            tables.emptied(part(number, reservation));
            assert_eq!(tables.excess(), None);
        }
        for number in 0..MOST_EMPTY - 4 {
            assert_eq!(emptied(&mut tables, block(100 + 2 * number)), None);
        }
        let first = Part { range: block(1).start..block(3).start, reservation: 1 };
        tables.emptied(part(90, 90));
        assert_eq!(tables.excess(), Some(first));
        tables.forget(3);
        for number in [91, 92, 93] {
            assert_eq!(emptied(&mut tables, block(10_000 + 2 * number)), None);
        }
        assert_eq!(emptied(&mut tables, block(20_000)), Some(block(100)));
    }

    #[test]
    fn blocks_count_and_not_what_they_are_of() {
        let mut tables = Tables::default();
        let page = |number: usize| block(64 * number).start..block(64 * number + 32).start;
        for number in 0..MOST_EMPTY / 32 {
            assert_eq!(emptied(&mut tables, page(number)), None);
        }
        // Twice is once.
        assert_eq!(emptied(&mut tables, page(0)), None);
        assert_eq!(emptied(&mut tables, page(1000)), Some(page(1)));
        assert_eq!(emptied(&mut tables, block(32)), Some(page(2)));
        assert_eq!(tables.excess(), None);
    }
}
