//! Owns the books of one reservation: which pages are mapped where, what may be done with them, and what is being written or read right now.
//! Pure bookkeeping that refuses what a driver would refuse; knows nothing of memory. Takes space for mapped pages only, never for the extent.

use std::collections::hash_map::Entry;
use std::ops::Range;

use foldhash::HashMap;

use super::{Access, BackendCaps, ReserveSpec};
use crate::error::BackendError;

/// Checks what is asked of `reserve`.
///
/// # Errors
/// [`BackendError::Misaligned`] for a page that cannot be mapped, [`BackendError::ReserveSize`] for a range that cannot be had.
pub(super) fn check_reserve(caps: &BackendCaps, spec: ReserveSpec) -> Result<(), BackendError> {
    let ReserveSpec { bytes, page_bytes, .. } = spec;
    if !page_bytes.is_power_of_two() || !page_bytes.is_multiple_of(caps.granularity_bytes) {
        return Err(BackendError::Misaligned {
            call: "reserve",
            offset_bytes: 0,
            bytes: page_bytes,
            granularity_bytes: caps.granularity_bytes,
        });
    }
    if bytes == 0 || !bytes.is_multiple_of(page_bytes) || bytes > caps.max_reserved_bytes {
        return Err(BackendError::ReserveSize { bytes, page_bytes, max_bytes: caps.max_reserved_bytes });
    }
    Ok(())
}

/// Checks what is asked of `create`.
///
/// # Errors
/// [`BackendError::Misaligned`] unless `bytes` is a power of two and a multiple of the granularity.
pub(super) fn check_create(caps: &BackendCaps, bytes: u64) -> Result<(), BackendError> {
    let granularity_bytes = caps.granularity_bytes;
    if !bytes.is_power_of_two() || !bytes.is_multiple_of(granularity_bytes) {
        return Err(BackendError::Misaligned { call: "create", offset_bytes: 0, bytes, granularity_bytes });
    }
    Ok(())
}

/// A range of a page that someone writes or reads.
#[derive(Debug)]
struct Use {
    range: Range<u64>,
    writes: bool,
}

/// A page that is mapped.
#[derive(Debug)]
pub(super) struct Mapped<P> {
    /// The page itself.
    pub(super) page: P,
    access: Access,
}

/// The books of one reservation; `P` is what stands for a mapped page.
#[derive(Debug)]
pub(super) struct Books<P> {
    reserved_bytes: u64,
    page_bytes: u64,
    mapped: HashMap<u64, Mapped<P>>,
    /// Of the pages that are in use right now, which are few: what is kept of every mapped page counts where pages are small.
    uses: HashMap<u64, Vec<Use>>,
    /// Lists that are empty again, for the next ones.
    spare: Vec<Vec<Use>>,
}

/// The most that are kept of those.
const MOST_SPARE: usize = 64;

impl<P> Books<P> {
    pub(super) fn new(spec: ReserveSpec) -> Self {
        Self {
            reserved_bytes: spec.bytes,
            page_bytes: spec.page_bytes,
            mapped: HashMap::default(),
            uses: HashMap::default(),
            spare: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mapped.is_empty()
    }

    /// The mapped page that holds `offset_bytes`.
    pub(super) fn page_at(&mut self, offset_bytes: u64) -> Option<&mut P> {
        self.mapped.get_mut(&(offset_bytes / self.page_bytes)).map(|m| &mut m.page)
    }

    /// The mapped page that holds `offset_bytes`, and the position in it.
    pub(super) fn page_and_position(&mut self, offset_bytes: u64) -> Option<(&mut P, usize)> {
        let position = usize::try_from(offset_bytes % self.page_bytes).ok()?;
        self.page_at(offset_bytes).map(|page| (page, position))
    }

    /// A range cut at the borders of pages.
    pub(super) fn pieces(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let page = |index: u64| index * self.page_bytes..(index + 1) * self.page_bytes;
        let pages = self.pages_of(range).map(page);
        pages.map(|p| p.start.max(range.start)..p.end.min(range.end)).collect()
    }

    /// Whether a page of `bytes` may be mapped at `offset_bytes`.
    pub(super) fn check_map(&self, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        let call = "map";
        if bytes != self.page_bytes || !offset_bytes.is_multiple_of(self.page_bytes) {
            let granularity_bytes = self.page_bytes;
            return Err(BackendError::Misaligned { call, offset_bytes, bytes, granularity_bytes });
        }
        self.check_inside(call, offset_bytes, bytes)?;
        if self.mapped.contains_key(&(offset_bytes / self.page_bytes)) {
            return Err(BackendError::AlreadyMapped { call, offset_bytes });
        }
        Ok(())
    }

    /// Enters a page that [`Books::check_map`] found no fault with.
    pub(super) fn map(&mut self, offset_bytes: u64, page: P) {
        let mapped = Mapped { page, access: Access::None };
        self.mapped.insert(offset_bytes / self.page_bytes, mapped);
    }

    /// Sets the access of whole pages without a hole between them, and says how many; nothing changes where that fails.
    pub(super) fn set_access(&mut self, range: &Range<u64>, access: Access) -> Result<u64, BackendError> {
        let pages = self.check_set_access(range)?;
        let count = pages.end - pages.start;
        for index in pages {
            if let Some(mapped) = self.mapped.get_mut(&index) {
                mapped.access = access;
            }
        }
        Ok(count)
    }

    /// The pages of a range that [`Books::set_access`] would accept.
    pub(super) fn check_set_access(&self, range: &Range<u64>) -> Result<Range<u64>, BackendError> {
        let call = "set_access";
        let bytes = range.end.saturating_sub(range.start);
        self.check_inside(call, range.start, bytes)?;
        if bytes == 0
            || !range.start.is_multiple_of(self.page_bytes)
            || !bytes.is_multiple_of(self.page_bytes)
        {
            return Err(BackendError::CutsMapping { call, offset_bytes: range.start, bytes });
        }
        let pages = range.start / self.page_bytes..range.end / self.page_bytes;
        match pages.clone().find(|index| !self.mapped.contains_key(index)) {
            Some(hole) => Err(BackendError::NotMapped { call, offset_bytes: hole * self.page_bytes }),
            None => Ok(pages),
        }
    }

    /// Whether the page at `offset_bytes` may be unmapped.
    pub(super) fn check_unmap(&self, offset_bytes: u64) -> Result<(), BackendError> {
        let (call, bytes) = ("unmap", self.page_bytes);
        self.check_inside(
            call,
            offset_bytes,
            bytes.min(self.reserved_bytes.saturating_sub(offset_bytes)).max(1),
        )?;
        let index = offset_bytes / self.page_bytes;
        if !self.mapped.contains_key(&index) {
            return Err(BackendError::NotMapped { call, offset_bytes });
        }
        if !offset_bytes.is_multiple_of(self.page_bytes) {
            return Err(BackendError::CutsMapping { call, offset_bytes, bytes });
        }
        if self.uses.contains_key(&index) {
            return Err(BackendError::Busy { call, offset_bytes, bytes });
        }
        Ok(())
    }

    /// Strikes the page out that [`Books::check_unmap`] found no fault with.
    pub(super) fn unmap(&mut self, offset_bytes: u64) -> Result<P, BackendError> {
        self.check_unmap(offset_bytes)?;
        let gone = self.mapped.remove(&(offset_bytes / self.page_bytes));
        gone.map(|m| m.page).ok_or(BackendError::NotMapped { call: "unmap", offset_bytes })
    }

    /// Whether the page at `offset_bytes` is there and nobody writes to it, so that its memory may be shared or copied.
    pub(super) fn check_still(&self, call: &'static str, offset_bytes: u64) -> Result<(), BackendError> {
        let bytes = self.page_bytes;
        self.check_inside(call, offset_bytes, bytes)?;
        if !offset_bytes.is_multiple_of(bytes) {
            return Err(BackendError::CutsMapping { call, offset_bytes, bytes });
        }
        let index = offset_bytes / bytes;
        if !self.mapped.contains_key(&index) {
            return Err(BackendError::NotMapped { call, offset_bytes });
        }
        if self.uses.get(&index).is_some_and(|uses| uses.iter().any(|u| u.writes)) {
            return Err(BackendError::Busy { call, offset_bytes, bytes });
        }
        Ok(())
    }

    /// The same where a page of `page_bytes` is to take its place.
    pub(super) fn check_replace(&self, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        let call = "replace";
        self.check_still(call, offset_bytes)?;
        if bytes == self.page_bytes {
            return Ok(());
        }
        Err(BackendError::Misaligned { call, offset_bytes, bytes, granularity_bytes: self.page_bytes })
    }

    /// Enters a page in the place of the one that [`Books::check_replace`] found no fault with, and returns that.
    pub(super) fn replace(&mut self, offset_bytes: u64, page: P) -> Option<P> {
        self.page_at(offset_bytes).map(|there| std::mem::replace(there, page))
    }

    /// Takes a page out that [`Books::check_unmap`] finds no fault with, and says what might be done with it: [`Books::put_back`] undoes that.
    pub(super) fn take(&mut self, offset_bytes: u64) -> Result<(P, Access), BackendError> {
        self.check_unmap(offset_bytes)?;
        let gone = self.mapped.remove(&(offset_bytes / self.page_bytes));
        gone.map(|m| (m.page, m.access)).ok_or(BackendError::NotMapped { call: "unmap", offset_bytes })
    }

    /// Enters again what [`Books::take`] took out.
    pub(super) fn put_back(&mut self, offset_bytes: u64, page: P, access: Access) {
        let mapped = Mapped { page, access };
        self.mapped.insert(offset_bytes / self.page_bytes, mapped);
    }

    /// What may be done with each page of a range of whole, mapped pages.
    pub(super) fn accesses(&self, range: &Range<u64>) -> Vec<Access> {
        let pages = self.pages_of(range);
        pages.filter_map(|index| self.mapped.get(&index)).map(|mapped| mapped.access).collect()
    }

    /// Whether any part of a range is being written, or read.
    pub(super) fn in_use(&self, range: &Range<u64>, writes_only: bool) -> bool {
        let overlaps = |u: &Use| u.range.start < range.end && range.start < u.range.end;
        let mut uses = self.pages_of(range).filter_map(|index| self.uses.get(&index)).flatten();
        uses.any(|u| (u.writes || !writes_only) && overlaps(u))
    }

    /// Enters that a part of one page is being written from now on, by one writer and no reader.
    pub(super) fn begin_write(&mut self, range: &Range<u64>) -> Result<(), BackendError> {
        let call = "stage";
        self.check_use(call, range, true)?;
        let bytes = range.end.saturating_sub(range.start);
        if bytes == 0 || range.start / self.page_bytes != (range.end - 1) / self.page_bytes {
            return Err(BackendError::CutsMapping { call, offset_bytes: range.start, bytes });
        }
        self.enter(range, true);
        Ok(())
    }

    /// Enters that mapped memory is being read from now on, by any number of readers and no writer.
    pub(super) fn begin_read(&mut self, range: &Range<u64>) -> Result<(), BackendError> {
        self.check_use("read", range, false)?;
        self.enter(range, false);
        Ok(())
    }

    /// The end of a use that was entered with the same range.
    pub(super) fn end_use(&mut self, range: &Range<u64>, writes: bool) {
        for index in self.pages_of(range) {
            let Entry::Occupied(mut entry) = self.uses.entry(index) else { continue };
            let uses = entry.get_mut();
            if let Some(at) = uses.iter().position(|u| u.range == *range && u.writes == writes) {
                uses.swap_remove(at);
            }
            if uses.is_empty() {
                let empty = entry.remove();
                if self.spare.len() < MOST_SPARE {
                    self.spare.push(empty);
                }
            }
        }
    }

    /// Every mapped page, taken out, whatever its state.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = P> + '_ {
        self.uses.clear();
        self.mapped.drain().map(|(_, mapped)| mapped.page)
    }

    /// Enters a use that [`Books::check_use`] found no fault with.
    fn enter(&mut self, range: &Range<u64>, writes: bool) {
        for index in self.pages_of(range) {
            let uses = self.uses.entry(index).or_insert_with(|| self.spare.pop().unwrap_or_default());
            uses.push(Use { range: range.clone(), writes });
        }
    }

    fn pages_of(&self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            0..0
        } else {
            range.start / self.page_bytes..(range.end - 1) / self.page_bytes + 1
        }
    }

    fn check_use(&self, call: &'static str, range: &Range<u64>, writes: bool) -> Result<(), BackendError> {
        let bytes = range.end.saturating_sub(range.start);
        self.check_inside(call, range.start, bytes)?;
        for index in self.pages_of(range) {
            let offset_bytes = range.start.max(index * self.page_bytes);
            let Some(mapped) = self.mapped.get(&index) else {
                return Err(BackendError::NotMapped { call, offset_bytes });
            };
            let allowed = match mapped.access {
                Access::None => false,
                Access::Read => !writes,
                Access::ReadWrite => true,
            };
            if !allowed {
                return Err(BackendError::NoAccess { call, offset_bytes });
            }
            let overlaps = |u: &Use| u.range.start < range.end && range.start < u.range.end;
            if self
                .uses
                .get(&index)
                .is_some_and(|uses| uses.iter().any(|u| (writes || u.writes) && overlaps(u)))
            {
                return Err(BackendError::Busy { call, offset_bytes: range.start, bytes });
            }
        }
        Ok(())
    }

    fn check_inside(&self, call: &'static str, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        match offset_bytes.checked_add(bytes) {
            Some(end) if end <= self.reserved_bytes => Ok(()),
            _ => Err(BackendError::OutOfRange {
                call,
                offset_bytes,
                bytes,
                reserved_bytes: self.reserved_bytes,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books<&'static str> {
        Books::new(ReserveSpec { bytes: 400, page_bytes: 100, expected_pages: 4 })
    }

    #[test]
    fn a_hole_in_set_access_changes_nothing() {
        let mut b = books();
        b.map(0, "a");
        b.map(200, "c");
        let err = b.set_access(&(0..300), Access::ReadWrite).unwrap_err();
        assert!(matches!(err, BackendError::NotMapped { offset_bytes: 100, .. }), "{err}");
        assert!(matches!(b.begin_write(&(0..10)), Err(BackendError::NoAccess { .. })));
        assert_eq!(b.set_access(&(0..100), Access::ReadWrite).unwrap(), 1);
        b.begin_write(&(0..10)).unwrap();
    }

    #[test]
    fn writers_exclude_everyone_and_readers_only_writers() {
        let mut b = books();
        b.map(0, "a");
        b.map(100, "b");
        b.set_access(&(0..200), Access::ReadWrite).unwrap();
        b.begin_write(&(0..50)).unwrap();
        b.begin_write(&(50..100)).unwrap();
        assert!(matches!(b.begin_write(&(49..51)), Err(BackendError::Busy { .. })));
        assert!(matches!(b.begin_read(&(99..150)), Err(BackendError::Busy { .. })));
        assert!(matches!(
            b.begin_write(&(90..110)),
            Err(BackendError::Busy { .. } | BackendError::CutsMapping { .. })
        ));
        assert!(matches!(b.unmap(0), Err(BackendError::Busy { .. })));
        b.end_use(&(0..50), true);
        b.end_use(&(50..100), true);
        b.begin_read(&(10..190)).unwrap();
        b.begin_read(&(10..20)).unwrap();
        assert!(matches!(b.begin_write(&(150..160)), Err(BackendError::Busy { .. })));
        b.end_use(&(10..190), false);
        assert_eq!(b.unmap(100).unwrap(), "b");
        assert!(matches!(b.unmap(0), Err(BackendError::Busy { .. })));
    }

    #[test]
    fn what_is_taken_and_put_back_is_as_it_was() {
        let mut b = books();
        b.map(100, "b");
        b.set_access(&(100..200), Access::Read).unwrap();
        b.begin_read(&(110..120)).unwrap();
        assert!(
            b.in_use(&(100..115), false) && !b.in_use(&(100..200), true) && !b.in_use(&(120..200), false)
        );
        assert!(matches!(b.take(100), Err(BackendError::Busy { .. })));
        b.end_use(&(110..120), false);
        let (page, access) = b.take(100).unwrap();
        assert!(matches!(b.begin_read(&(110..120)), Err(BackendError::NotMapped { .. })));
        b.put_back(100, page, access);
        assert_eq!(b.accesses(&(100..200)), [Access::Read]);
        b.begin_read(&(110..120)).unwrap();
    }

    #[test]
    fn a_page_takes_the_place_of_one_that_nobody_writes_to() {
        let mut b = books();
        b.map(100, "b");
        b.set_access(&(100..200), Access::ReadWrite).unwrap();
        b.begin_write(&(110..120)).unwrap();
        assert!(matches!(b.check_replace(100, 100), Err(BackendError::Busy { .. })));
        b.end_use(&(110..120), true);
        b.begin_read(&(110..120)).unwrap();
        assert!(matches!(b.check_replace(0, 100), Err(BackendError::NotMapped { .. })));
        assert!(matches!(b.check_replace(100, 200), Err(BackendError::Misaligned { .. })));
        assert!(matches!(b.check_still("share", 150), Err(BackendError::CutsMapping { .. })));
        assert!(matches!(b.check_still("share", u64::MAX), Err(BackendError::OutOfRange { .. })));
        b.check_replace(100, 100).unwrap();
        assert_eq!(b.replace(100, "new"), Some("b"));
        assert_eq!(b.accesses(&(100..200)), [Access::ReadWrite]);
        b.end_use(&(110..120), false);
        assert_eq!(b.unmap(100).unwrap(), "new");
    }

    #[test]
    fn ranges_that_overflow_or_leave_are_refused() {
        let mut b = books();
        assert!(matches!(b.check_map(400, 100), Err(BackendError::OutOfRange { .. })));
        assert!(matches!(b.check_map(0, 200), Err(BackendError::Misaligned { .. })));
        assert!(matches!(b.begin_read(&(u64::MAX - 1..u64::MAX)), Err(BackendError::OutOfRange { .. })));
        assert!(matches!(b.unmap(u64::MAX), Err(BackendError::OutOfRange { .. })));
        b.map(0, "a");
        assert!(matches!(b.unmap(50), Err(BackendError::CutsMapping { .. })));
        assert!(matches!(b.set_access(&(0..50), Access::Read), Err(BackendError::CutsMapping { .. })));
        assert!(matches!(b.set_access(&(100..100), Access::Read), Err(BackendError::CutsMapping { .. })));
    }
}
