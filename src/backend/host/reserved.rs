//! Owns which reservations there are ([`Reservations`]), and has the page tables go that memory left in them ([`Tables`] says which). Knows addresses, not pages.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::memory::Mode;
use super::sys;
use super::tables::{Part, Tables, blocks_of};
use super::userfault::required;
use crate::error::BackendError;

/// How a range of addresses is mapped that pages come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) mode: Mode,
    /// Whether its pages are to lie in huge pages.
    pub(super) huge: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reservation {
    end: usize,
    kind: Kind,
}

/// The reservations of a backend.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    /// How many there are of a page size and a mode.
    live: HashMap<(usize, Mode), usize>,
    /// By where they begin.
    all: BTreeMap<usize, Reservation>,
    tables: Tables,
    /// Parts that could not be mapped anew, and where nothing can be until that is done.
    broken: Vec<Part>,
}

impl Reservations {
    pub(super) fn begin(&mut self, range: Range<usize>, page_bytes: usize, mode: Mode) {
        *self.live.entry((page_bytes, mode)).or_default() += 1;
        let kind = Kind { mode, huge: page_bytes >= sys::HUGE_BYTES };
        self.all.insert(range.start, Reservation { end: range.end, kind });
    }

    pub(super) fn end(&mut self, range: &Range<usize>, page_bytes: usize, mode: Mode) {
        if let Some(count) = self.live.get_mut(&(page_bytes, mode)) {
            *count = count.saturating_sub(1);
        }
        self.all.remove(&range.start);
        self.tables.forget(range.start);
        self.broken.retain(|part| part.reservation != range.start);
    }

    /// Whether there is one of a page size and a mode.
    pub(super) fn has(&self, page_bytes: usize, mode: Mode) -> bool {
        self.live.get(&(page_bytes, mode)).is_some_and(|count| *count > 0)
    }

    /// Memory comes to a range. Says whether there is a table, and no memory, as [`Tables::comes`] does.
    pub(super) fn comes(&mut self, address: usize, bytes: usize) -> bool {
        self.tables.comes(address, bytes)
    }

    /// Memory left an address, where page tables stayed and no other memory is yet. Where nothing is around it either, they go before long.
    ///
    /// # Safety
    /// `is_empty` says of a range whether no page's memory is there. Whatever came to a reservation [came](Self::comes) before this.
    pub(super) unsafe fn left(
        &mut self,
        address: usize,
        bytes: usize,
        is_empty: impl FnOnce(Range<usize>) -> bool,
    ) {
        let blocks = blocks_of(address, bytes);
        if !is_empty(blocks.clone()) {
            return;
        }
        let Some((reservation, Reservation { end, .. })) = self.of(address) else { return };
        // The first and the last may have other neighbours, who keep the table.
        if blocks.start >= reservation && blocks.end <= end {
            self.tables.emptied(Part { range: blocks, reservation });
        }
        while let Some(part) = self.tables.excess() {
            // SAFETY: it was empty, and nothing came since, says the caller.
            unsafe { self.drop_tables(part) };
        }
    }

    /// Maps a range of a reservation as it was at first, so that its page tables go.
    ///
    /// # Safety
    /// Whole OS pages, where no page's memory is.
    pub(super) unsafe fn map_anew_at(&mut self, address: usize, bytes: usize) -> Result<(), BackendError> {
        let Some((reservation, Reservation { kind, .. })) = self.of(address) else { return Ok(()) };
        let range = address..address + bytes;
        // SAFETY: a live reservation; the rest is the caller's promise.
        unsafe { map_anew(&range, kind) }
            .inspect_err(|_| self.broken.push(Part { range: range.clone(), reservation }))
    }

    /// Tries again what failed.
    ///
    /// # Safety
    /// `is_empty` says of a range whether no page's memory is there.
    pub(super) unsafe fn mend(&mut self, is_empty: impl Fn(Range<usize>) -> bool) {
        for part in std::mem::take(&mut self.broken) {
            // A mapping may have been moved there since, whatever is there.
            if is_empty(part.range.clone()) {
                // SAFETY: so the caller says.
                unsafe { self.map_part_anew(part) };
            }
        }
    }

    /// The reservation that an address is in, and where it begins.
    fn of(&self, address: usize) -> Option<(usize, Reservation)> {
        let (&start, &reservation) = self.all.range(..=address).next_back()?;
        (address < reservation.end).then_some((start, reservation))
    }

    /// Has the page tables of a part go.
    ///
    /// # Safety
    /// No page's memory is there.
    unsafe fn drop_tables(&mut self, part: Part) {
        let Some(Reservation { kind, .. }) = self.all.get(&part.reservation) else { return };
        if kind.mode == Mode::MovedMappings || !sys::gives_tables_back() {
            // SAFETY: as the caller promises.
            return unsafe { self.map_part_anew(part) };
        }
        // SAFETY: whole OS pages of a live reservation, made to be touched; the rest is the caller's promise.
        if let Err(error) = unsafe { sys::give_back(part.range.start, part.range.len()) } {
            tracing::warn!(%error, "page tables that nothing uses could not be given back");
        }
    }

    /// Maps a part anew, now or later.
    ///
    /// # Safety
    /// As [`drop_tables`](Self::drop_tables).
    unsafe fn map_part_anew(&mut self, part: Part) {
        let Some(Reservation { kind, .. }) = self.all.get(&part.reservation) else { return };
        // SAFETY: whole OS pages of a live reservation (one that ends is forgotten); the rest is the caller's promise.
        if let Err(error) = unsafe { map_anew(&part.range, *kind) } {
            tracing::warn!(%error, "page tables that nothing uses could not be given back");
            self.broken.push(part);
        }
    }
}

/// Maps a range as it was at first, so that its page tables go.
///
/// # Safety
/// Whole OS pages of a live mapping of this kind, which nobody holds a reference to or reads.
pub(super) unsafe fn map_anew(range: &Range<usize>, kind: Kind) -> Result<(), BackendError> {
    let (start, bytes) = (range.start, range.len());
    let mapped = if kind.mode == Mode::MovedMappings {
        // SAFETY: as the caller promises.
        unsafe { sys::reserve_again(start, bytes) }
    } else {
        // SAFETY: as the caller promises.
        unsafe { sys::touch_again(start, bytes, kind.huge) }
    };
    if let Err(error) = mapped {
        // SAFETY: a hole in a range of ours is closed, if there is one.
        unsafe { sys::mend(start, bytes) };
        return Err(error);
    }
    if kind.mode == Mode::MovedPages {
        // SAFETY: as the caller promises, and there is nothing there.
        unsafe { required()?.register(start, bytes) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 64 << 10;

    fn holds_ones(range: &sys::Range) -> bool {
        // SAFETY: a range of the test's own, which is readable.
        unsafe { sys::bytes(range.start(), BYTES) }.iter().all(|&byte| byte == 1)
    }

    #[test]
    fn what_could_not_be_mapped_anew_is_tried_again_unless_something_came() {
        let [empty, came, ended] = [(); 3].map(|()| {
            let range = sys::Range::new(BYTES, BYTES, sys::Purpose::Touch { huge: false }).unwrap();
            // SAFETY: a range of the test's own.
            unsafe { sys::bytes_mut(range.start(), BYTES) }.fill(1);
            range
        });
        let mut reservations = Reservations::default();
        for range in [&empty, &came, &ended] {
            let (reservation, range) = (range.start(), range.start()..range.start() + BYTES);
            reservations.begin(range.clone(), BYTES, Mode::DemandZero);
            reservations.broken.push(Part { range, reservation });
        }
        reservations.all.remove(&ended.start());
        // SAFETY: nobody refers to any of them.
        unsafe { reservations.mend(|part| part.start != came.start()) };
        assert_eq!([&empty, &came, &ended].map(holds_ones), [false, true, true]);
        assert!(reservations.broken.is_empty());
    }

    #[test]
    fn a_reservation_that_ends_leaves_nothing_to_do() {
        let mut reservations = Reservations::default();
        let range = 8 * sys::HUGE_BYTES..16 * sys::HUGE_BYTES;
        reservations.begin(range.clone(), BYTES, Mode::DemandZero);
        assert!(reservations.has(BYTES, Mode::DemandZero) && !reservations.has(BYTES, Mode::MovedPages));
        // SAFETY: too few for anything to be given back.
        unsafe { reservations.left(range.start, BYTES, |_| true) };
        // SAFETY: as above.
        unsafe { reservations.left(range.start + sys::HUGE_BYTES, BYTES, |_| false) };
        for outside in [0, range.end, range.end + sys::HUGE_BYTES] {
            // SAFETY: as above.
            unsafe { reservations.left(outside, BYTES, |_| true) };
            assert!(reservations.of(outside).is_none() && !reservations.comes(outside, BYTES));
        }
        reservations.broken.push(Part { range: range.clone(), reservation: range.start });
        assert!(!reservations.comes(range.start + sys::HUGE_BYTES, BYTES));
        assert!(reservations.comes(range.start, BYTES) && !reservations.comes(range.start, BYTES));
        // SAFETY: as above.
        unsafe { reservations.left(range.start, BYTES, |_| true) };
        reservations.end(&range, BYTES, Mode::DemandZero);
        assert!(!reservations.has(BYTES, Mode::DemandZero) && !reservations.comes(range.start, BYTES));
        assert!(reservations.broken.is_empty() && reservations.all.is_empty());
    }
}
