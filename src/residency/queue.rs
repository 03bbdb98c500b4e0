//! Owns pages in an order that is asked at its ends: [`Queue`]. Its entries lie side by side, so that placing a page and taking the first one out costs no look-up in tables as large as what is resident.

use std::collections::VecDeque;
use std::ops::Range;

use super::PageKey;
use crate::layout::PageId;
use crate::recall::RecallMap;

/// Pages whose places are noted together. They take 2 KiB, which a page that is alone among them has for itself.
const BLOCK_PAGES: usize = 1 << BLOCK_SHIFT;
const BLOCK_SHIFT: u32 = 9;

/// Entries that may be left behind beyond as many as there are pages.
const MOST_LEFT_BEHIND: usize = 64;

/// Memory for so many entries is kept.
const SMALLEST: usize = 1024;

/// Pages in an order, each with what is noted of it.
///
/// Where a page stands is noted by the page, in blocks of neighbours that exist only where there is one. Taking a page out from amid the others leaves an empty entry behind; where most are such, all move up.
#[derive(Debug)]
pub(super) struct Queue<T> {
    entries: VecDeque<Option<(PageKey, T)>>,
    /// The number of the first entry. Numbers wrap around; at any moment fewer are in use than there are.
    first: u32,
    pages: usize,
    blocks: RecallMap<BlockKey, Block>,
}

/// Where neighbouring pages stand.
#[derive(Debug)]
struct Block {
    /// How many of them stand somewhere.
    pages: u32,
    /// The numbers of their entries. A number says nothing where the entry is not the page's.
    numbers: Box<[u32; BLOCK_PAGES]>,
}

/// An array, and which block of its pages.
type BlockKey = (u32, u64);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), first: 0, pages: 0, blocks: RecallMap::default() }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.pages
    }

    pub(super) fn get(&self, key: PageKey) -> Option<&T> {
        let entry = self.entries.get(self.position(key)?)?.as_ref();
        entry.filter(|(of, _)| *of == key).map(|(_, value)| value)
    }

    /// Enters a page that is not in it at the end.
    #[inline]
    pub(super) fn push_back(&mut self, key: PageKey, value: T) {
        debug_assert!(self.get(key).is_none());
        if self.entries.len() > 2 * self.pages + MOST_LEFT_BEHIND {
            self.move_up();
        }
        let number = self.first.wrapping_add(number(self.entries.len()));
        self.entries.push_back(Some((key, value)));
        self.note(key, number);
    }

    /// Enters a page that is not in it at the beginning.
    pub(super) fn push_front(&mut self, key: PageKey, value: T) {
        debug_assert!(self.get(key).is_none());
        self.first = self.first.wrapping_sub(1);
        self.entries.push_front(Some((key, value)));
        self.note(key, self.first);
    }

    /// Takes the first page out.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<(PageKey, T)> {
        self.shrink();
        while let Some(entry) = self.entries.pop_front() {
            self.first = self.first.wrapping_add(1);
            if let Some((key, value)) = entry {
                self.forget(key);
                return Some((key, value));
            }
        }
        None
    }

    /// The first page.
    pub(super) fn front(&self) -> Option<&T> {
        self.entries.iter().find_map(|entry| entry.as_ref().map(|(_, value)| value))
    }

    /// The pages of some entries, counted from the first.
    #[inline]
    pub(super) fn next(&self, entries: Range<usize>) -> impl Iterator<Item = PageKey> {
        let end = entries.end.min(self.entries.len());
        self.entries.range(entries.start.min(end)..end).flatten().map(|(key, _)| *key)
    }

    pub(super) fn remove(&mut self, key: PageKey) -> Option<T> {
        let at = self.position(key)?;
        let entry = self.entries.get_mut(at)?;
        let (_, value) = entry.take_if(|(of, _)| *of == key)?;
        self.forget(key);
        // What was left behind at the beginning goes at once, so that the first page is found at once.
        while self.entries.front().is_some_and(Option::is_none) {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        Some(value)
    }

    /// Where the page's entry is, if it has one.
    fn position(&self, key: PageKey) -> Option<usize> {
        let (block, at) = place(key);
        let number = self.blocks.get(block)?.numbers[at];
        Some(number.wrapping_sub(self.first) as usize)
    }

    #[inline]
    fn note(&mut self, key: PageKey, number: u32) {
        let (block, at) = place(key);
        let new = || Block { pages: 0, numbers: Box::new([0; BLOCK_PAGES]) };
        let block = self.blocks.get_or_insert_with(block, new);
        block.numbers[at] = number;
        block.pages += 1;
        self.pages += 1;
    }

    /// The page's entry is gone.
    #[inline]
    fn forget(&mut self, key: PageKey) {
        let (block, _) = place(key);
        if let Some(of_block) = self.blocks.get_mut(block) {
            of_block.pages -= 1;
            if of_block.pages == 0 {
                self.blocks.remove(block);
            }
        }
        self.pages -= 1;
    }

    /// Gives memory back that is for many more entries than there are.
    #[inline]
    fn shrink(&mut self) {
        if self.entries.capacity() > 8 * self.entries.len().max(SMALLEST) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Takes the empty entries out.
    fn move_up(&mut self) {
        self.entries.retain(Option::is_some);
        self.shrink();
        for (at, (key, _)) in self.entries.iter().flatten().enumerate() {
            let (block, of_page) = place(*key);
            if let Some(block) = self.blocks.get_mut(block) {
                block.numbers[of_page] = self.first.wrapping_add(number(at));
            }
        }
    }
}

/// Which block a page is in, and where.
#[inline]
fn place(key: PageKey) -> (BlockKey, usize) {
    let PageId(page) = key.page;
    ((key.array, page >> BLOCK_SHIFT), (page & ((1 << BLOCK_SHIFT) - 1)) as usize)
}

/// The number of an entry, counted from the first.
#[expect(
    clippy::cast_possible_truncation,
    reason = "2^32 entries would be 2^31 pages or more, and take 200 GB beside them"
)]
#[inline]
fn number(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(page: u64) -> PageKey {
        PageKey { array: (page % 2) as u32, page: PageId(page * 37) }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        PushBack(u64),
        PushFront(u64),
        PopFront,
        Remove(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let page = || 0u64..200;
        let step = prop_oneof![
            4 => page().prop_map(Step::PushBack),
            1 => page().prop_map(Step::PushFront),
            2 => Just(Step::PopFront),
            2 => page().prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..2000)
    }

    proptest! {
        /// The same as a plain list that is searched, wherever the numbers begin.
        #[test]
        fn is_a_list(steps in steps(), first in any::<u32>()) {
            let mut queue = Queue { first, ..Queue::default() };
            let mut list: VecDeque<u64> = VecDeque::new();
            for step in steps {
                match step {
                    Step::PushBack(page) if !list.contains(&page) => {
                        queue.push_back(key(page), page);
                        list.push_back(page);
                    }
                    Step::PushFront(page) if !list.contains(&page) => {
                        queue.push_front(key(page), page);
                        list.push_front(page);
                    }
                    Step::PushBack(page) | Step::PushFront(page) => {
                        prop_assert_eq!(queue.get(key(page)), Some(&page));
                    }
                    Step::PopFront => {
                        let popped = list.pop_front().map(|page| (key(page), page));
                        prop_assert_eq!(queue.pop_front(), popped);
                    }
                    Step::Remove(page) => {
                        let at = list.iter().position(|&p| p == page);
                        let removed = at.and_then(|at| list.remove(at));
                        prop_assert_eq!(queue.remove(key(page)), removed);
                        prop_assert_eq!(queue.get(key(page)), None);
                    }
                }
                prop_assert_eq!(queue.len(), list.len());
                prop_assert_eq!(queue.front(), list.front());
                prop_assert!(queue.entries.len() <= 2 * list.len() + MOST_LEFT_BEHIND + 400);
            }
            let order: Vec<_> = queue.next(0..usize::MAX).collect();
            prop_assert_eq!(order, list.iter().map(|&page| key(page)).collect::<Vec<_>>());
            while queue.pop_front().is_some() {}
            prop_assert!(queue.blocks.len() == 0);
        }
    }

    #[test]
    fn what_is_left_behind_goes_and_so_does_the_memory() {
        let mut queue = Queue::default();
        queue.push_back(key(0), 0);
        for page in 1..100_000 {
            // The first one stays, so that none of the others goes as the first.
            queue.push_back(key(page), page);
            assert_eq!(queue.remove(key(page)), Some(page));
            assert!(queue.entries.len() <= MOST_LEFT_BEHIND + 4, "{}", queue.entries.len());
        }
        (1..100_000).for_each(|page| queue.push_back(key(page), page));
        (0..100_000).for_each(|page| assert_eq!(queue.pop_front(), Some((key(page), page))));
        assert!(queue.entries.capacity() <= 16 * SMALLEST && queue.blocks.len() == 0);
    }
}
