//! Owns the addresses at which memory is taken before it is moved to where it is needed, and those where it is put out of the way: [`Slots`] of one page size. Knows nothing of pages.
//!
//! ```text
//!   the first 16 MiB       | slot | slot | ...          as many OS pages as a page takes
//!   after that, where      | slot   slot | slot   ...   a huge page of the system at a time, whose slots' memory is taken with the first of them: one
//!   2 or 4 are one                                      fault for all of it. Once all its slots are free it is mapped anew, or it would come in OS pages
//! ```
//!
//! So up to one huge page more than was asked for is taken, of a size of which there are 16 MiB already; and what is given back of one of which the rest stays in use is the system's only
//! once that is short of memory. Smaller pages would leave too many of those.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::mappings::{Mappings, Taken};
use super::sys::{self, HUGE_BYTES};
use super::userfault::userfault;
use crate::error::BackendError;

/// Addresses that are taken at a time: addresses only, no memory.
const CHUNK_BYTES: usize = 1 << 30;
/// Taken as it is asked for, page by page.
const EXACT_BYTES: usize = 16 << 20;
/// The most slots of a huge page.
const MOST_IN_BLOCK: usize = 4;

/// What slots are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Taking memory that only one place has.
    Own,
    /// Taking memory that can be mapped several times.
    Shared,
    /// OS pages that are moved there: nothing is taken.
    Shelf,
}

/// The slots of one page size and purpose.
#[derive(Debug)]
pub(super) struct Slots {
    page_bytes: usize,
    purpose: Purpose,
    chunks: Vec<(sys::Range, Taken)>,
    /// Of slots by themselves.
    free: Vec<usize>,
    unused: Range<usize>,
    blocks: Option<Blocks>,
}

/// Huge pages that are several slots each.
#[derive(Debug, Default)]
struct Blocks {
    unused: Range<usize>,
    /// Those without memory, all of whose slots are free.
    empty: Vec<usize>,
    /// Which slots are in use, a bit each, of those of which any is.
    used: BTreeMap<usize, u8>,
    /// Those of them that have free slots.
    open: BTreeSet<usize>,
}

impl Slots {
    pub(super) fn new(page_bytes: usize, purpose: Purpose) -> Self {
        let fits = page_bytes < HUGE_BYTES
            && HUGE_BYTES.is_multiple_of(page_bytes)
            && HUGE_BYTES / page_bytes <= MOST_IN_BLOCK;
        let blocks = (fits && purpose == Purpose::Own).then(Blocks::default);
        Self { page_bytes, purpose, chunks: Vec::new(), free: Vec::new(), unused: 0..0, blocks }
    }

    /// A free slot, without memory, or with memory that was taken with another's and reads as zero.
    pub(super) fn take(&mut self, mappings: &Arc<Mappings>) -> Result<usize, BackendError> {
        if let Some(address) = self.free.pop() {
            return Ok(address);
        }
        if self.unused.is_empty() {
            if self.blocks.is_some() && !self.chunks.is_empty() {
                return self.take_in_block(mappings);
            }
            let huge = self.page_bytes >= HUGE_BYTES;
            let bytes = if self.blocks.is_some() { EXACT_BYTES } else { CHUNK_BYTES.max(self.page_bytes) };
            self.unused = self.chunk(mappings, bytes, huge)?;
        }
        let address = self.unused.start;
        self.unused.start += self.page_bytes;
        Ok(address)
    }

    /// Takes back a slot that has no memory.
    pub(super) fn give_back(&mut self, address: usize) {
        let Some(blocks) = &mut self.blocks else { return self.free.push(address) };
        let block = address / HUGE_BYTES * HUGE_BYTES;
        let Some(used) = blocks.used.get_mut(&block) else { return self.free.push(address) };
        *used &= !(1 << ((address - block) / self.page_bytes));
        if *used != 0 {
            blocks.open.insert(block);
            return;
        }
        blocks.used.remove(&block);
        blocks.open.remove(&block);
        // SAFETY: a whole huge page of a chunk of ours. None of its slots is in use, so that nobody knows what is there: nothing, or memory that was taken with another slot's.
        match unsafe { sys::touch_again(block, HUGE_BYTES, true) } {
            Ok(()) => blocks.empty.push(block),
            Err(error) => {
                // SAFETY: as above; a hole is closed, if the failure left one. What is there now is not known, so that these addresses are not used again.
                unsafe { sys::mend(block, HUGE_BYTES) };
                tracing::warn!(%error, "a block of slots could not be mapped anew");
            }
        }
    }

    fn take_in_block(&mut self, mappings: &Arc<Mappings>) -> Result<usize, BackendError> {
        let lacks =
            |blocks: &Blocks| blocks.open.is_empty() && blocks.empty.is_empty() && blocks.unused.is_empty();
        if self.blocks.as_ref().is_some_and(lacks) {
            let unused = self.chunk(mappings, CHUNK_BYTES, true)?;
            self.blocks.get_or_insert_default().unused = unused;
        }
        let blocks = self.blocks.get_or_insert_default();
        let block = blocks.open.first().copied().or_else(|| blocks.empty.pop()).unwrap_or_else(|| {
            let block = blocks.unused.start;
            blocks.unused.start += HUGE_BYTES;
            block
        });
        let used = blocks.used.entry(block).or_default();
        let slot = used.trailing_ones() as usize;
        *used |= 1 << slot;
        if used.count_ones() as usize * self.page_bytes == HUGE_BYTES {
            blocks.open.remove(&block);
        } else {
            blocks.open.insert(block);
        }
        Ok(block + slot * self.page_bytes)
    }

    fn chunk(
        &mut self,
        mappings: &Arc<Mappings>,
        bytes: usize,
        huge: bool,
    ) -> Result<Range<usize>, BackendError> {
        let taken = mappings.take("create", 1)?;
        let align = if huge { HUGE_BYTES } else { self.page_bytes.max(sys::os_page_bytes()) };
        let purpose = match self.purpose {
            Purpose::Own | Purpose::Shelf => sys::Purpose::Touch { huge },
            Purpose::Shared => sys::Purpose::Share { huge },
        };
        let chunk = sys::Range::new(bytes, align, purpose)?;
        let addresses = chunk.start()..chunk.start() + chunk.bytes();
        if let (Purpose::Shelf, Some(userfault)) = (self.purpose, userfault()) {
            // SAFETY: the range was just made, to be touched, and nobody knows it yet.
            unsafe { userfault.register(addresses.start, chunk.bytes()) }?;
        }
        self.chunks.push((chunk, taken));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_whole_disjoint_and_used_again() {
        let mappings = Mappings::new(None, None);
        for page_bytes in [4096, 300 << 10, 512 << 10, 1 << 20, 2 << 20, 3 << 20] {
            let mut slots = Slots::new(page_bytes, Purpose::Own);
            // More than the exact ones.
            let count = (40 << 20) / page_bytes;
            let mut taken: Vec<_> = (0..count).map(|_| slots.take(&mappings).unwrap()).collect();
            let before = taken.clone();
            taken.sort_unstable();
            assert!(taken.windows(2).all(|pair| pair[0] + page_bytes <= pair[1]), "{page_bytes}");
            // Every third goes and comes back.
            let gone: BTreeSet<_> = before.iter().copied().step_by(3).collect();
            for &address in &gone {
                slots.give_back(address);
            }
            let again: BTreeSet<_> = gone.iter().map(|_| slots.take(&mappings).unwrap()).collect();
            assert_eq!(gone, again, "{page_bytes}: nothing else is taken while there are free ones");
        }
    }

    #[test]
    fn blocks_are_mapped_anew_once_they_are_free_and_leave_no_mappings() {
        const PAGE: usize = 1 << 20;
        let mappings = Mappings::new(None, None);
        let mut slots = Slots::new(PAGE, Purpose::Own);
        let exact = EXACT_BYTES / PAGE;
        let taken: Vec<_> = (0..exact + 64).map(|_| slots.take(&mappings).unwrap()).collect();
        let blocks = slots.chunks[1].0.start()..slots.chunks[1].0.start() + slots.chunks[1].0.bytes();
        // Of the blocks alone: other tests of this process map memory meanwhile.
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let begins = |line: &str| usize::from_str_radix(line.split('-').next()?, 16).ok();
            maps.lines().filter_map(begins).filter(|at| blocks.contains(at)).count()
        };
        for round in 0..4 {
            for &address in &taken[exact..] {
                // SAFETY: a slot of ours in a range made to be touched, which nobody else knows.
                assert!(unsafe { sys::populate(address, PAGE) }.unwrap());
                // SAFETY: as above.
                let bytes = unsafe { sys::bytes_mut(address, PAGE) };
                assert!(bytes.iter().all(|&byte| byte == 0), "round {round}: memory reads as zero");
                bytes.fill(7);
            }
            for &address in &taken[exact..] {
                // SAFETY: as above.
                unsafe { sys::give_back(address, PAGE) }.unwrap();
                slots.give_back(address);
            }
            assert_eq!(slots.blocks.as_ref().unwrap().empty.len(), 32);
            let mut again: Vec<_> = (0..64).map(|_| slots.take(&mappings).unwrap()).collect();
            again.sort_unstable();
            let mut same = taken[exact..].to_vec();
            same.sort_unstable();
            assert_eq!(again, same);
        }
        assert!(mapped() <= 2, "{} mappings", mapped());
    }
}
