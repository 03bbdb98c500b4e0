//! Owns the records of one address range: what is mapped where, and with what access. Pure bookkeeping that refuses what the system or a driver would refuse, or would
//! accept and should not; knows nothing of memory. Takes space for what is mapped only, never for the range.
//!
//! ```text
//! 0        64K              192K      256K               offsets
//! |  memory 1  |   memory 2   |  hole  |  memory 1 again ...
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::Access;
use crate::error::BackendError;

/// One mapping; `P` is what stands for the memory.
#[derive(Debug)]
pub(super) struct Mapped<P> {
    /// Size.
    pub(super) bytes: u64,
    /// What the owner of the range may do: the process, or the range's own device.
    pub(super) access: Access,
    /// What other devices may do, by their number.
    pub(super) peers: BTreeMap<i32, Access>,
    /// The memory.
    pub(super) held: P,
}

/// A part of one mapping that a copy goes through.
#[derive(Debug)]
pub(super) struct Piece<'a, P> {
    /// Where it is, as offsets in the address range.
    pub(super) range: Range<u64>,
    /// The memory.
    pub(super) held: &'a P,
}

/// The records of one address range.
#[derive(Debug)]
pub(super) struct Records<P> {
    reserved_bytes: u64,
    granularity_bytes: u64,
    mapped: BTreeMap<u64, Mapped<P>>,
}

/// Checks what is asked of `create`.
///
/// # Errors
/// [`BackendError::ZeroSize`], [`BackendError::Misaligned`].
pub(super) fn check_create(bytes: u64, granularity_bytes: u64) -> Result<(), BackendError> {
    check_size("create", 0, bytes, granularity_bytes)
}

/// Checks what is asked of `reserve`.
///
/// # Errors
/// [`BackendError::ZeroSize`], [`BackendError::Alignment`], [`BackendError::Misaligned`], [`BackendError::ReserveSize`].
pub(super) fn check_reserve(
    bytes: u64,
    align_bytes: u64,
    granularity_bytes: u64,
    max_bytes: u64,
) -> Result<(), BackendError> {
    let call = "reserve";
    if !align_bytes.is_power_of_two() {
        return Err(BackendError::Alignment { call, align_bytes });
    }
    check_size(call, 0, bytes, granularity_bytes)?;
    if bytes > max_bytes {
        return Err(BackendError::ReserveSize { bytes, page_bytes: granularity_bytes, max_bytes });
    }
    Ok(())
}

fn check_size(
    call: &'static str,
    offset_bytes: u64,
    bytes: u64,
    granularity_bytes: u64,
) -> Result<(), BackendError> {
    if bytes == 0 {
        return Err(BackendError::ZeroSize { call });
    }
    if !offset_bytes.is_multiple_of(granularity_bytes) || !bytes.is_multiple_of(granularity_bytes) {
        return Err(BackendError::Misaligned { call, offset_bytes, bytes, granularity_bytes });
    }
    Ok(())
}

impl<P> Records<P> {
    pub(super) fn new(reserved_bytes: u64, granularity_bytes: u64) -> Self {
        Self { reserved_bytes, granularity_bytes, mapped: BTreeMap::new() }
    }

    /// All mappings in the order of their offsets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Mapped<P>)> {
        self.mapped.iter().map(|(offset_bytes, mapped)| (*offset_bytes, mapped))
    }

    /// Whether memory of `bytes` may be mapped at `offset_bytes`.
    pub(super) fn check_map(&self, offset_bytes: u64, bytes: u64) -> Result<(), BackendError> {
        let call = "map";
        let range = self.checked(call, offset_bytes, bytes)?;
        // Mappings do not overlap, so that the last one that begins before the end is the one to ask.
        match self.mapped.range(..range.end).next_back() {
            Some((start, mapped)) if start + mapped.bytes > range.start => {
                Err(BackendError::AlreadyMapped { call, offset_bytes: range.start.max(*start) })
            }
            _ => Ok(()),
        }
    }

    /// Enters memory that [`Records::check_map`] found no fault with. No access is set.
    pub(super) fn insert(&mut self, offset_bytes: u64, bytes: u64, held: P) {
        let mapped = Mapped { bytes, access: Access::None, peers: BTreeMap::new(), held };
        self.mapped.insert(offset_bytes, mapped);
    }

    /// Strikes one mapping out.
    pub(super) fn remove(&mut self, offset_bytes: u64) -> Option<Mapped<P>> {
        self.mapped.remove(&offset_bytes)
    }

    /// Enters again what was struck out, as it was.
    pub(super) fn put_back(&mut self, offset_bytes: u64, mapped: Mapped<P>) {
        self.mapped.insert(offset_bytes, mapped);
    }

    /// The mappings that a range consists of: whole ones, with no hole between them.
    ///
    /// # Errors
    /// [`BackendError::ZeroSize`], [`BackendError::Misaligned`], [`BackendError::OutOfRange`], [`BackendError::NotMapped`] for a hole, [`BackendError::CutsMapping`].
    pub(super) fn check_run(
        &self,
        call: &'static str,
        offset_bytes: u64,
        bytes: u64,
    ) -> Result<impl Iterator<Item = (u64, &Mapped<P>)> + use<'_, P>, BackendError> {
        let range = self.checked(call, offset_bytes, bytes)?;
        let cut = BackendError::CutsMapping { call, offset_bytes: range.start, bytes };
        let mut at = range.start;
        while at < range.end {
            let Some((start, end)) = self.covering(at) else {
                return Err(BackendError::NotMapped { call, offset_bytes: at });
            };
            if start < range.start || end > range.end {
                return Err(cut);
            }
            at = end;
        }
        Ok(self.mapped.range(range).map(|(offset_bytes, mapped)| (*offset_bytes, mapped)))
    }

    /// Enters the access of a range that [`Records::check_run`] found no fault with: the owner's own (`None`) or that of other devices.
    pub(super) fn set_access(&mut self, range: Range<u64>, access: Access, who: &[Option<i32>]) {
        for (_, mapped) in self.mapped.range_mut(range) {
            for device in who {
                match device {
                    None => mapped.access = access,
                    Some(peer) => {
                        mapped.peers.insert(*peer, access);
                    }
                }
            }
        }
    }

    /// The parts of mappings that a copy of `bytes` at `offset_bytes` goes through: every one of them mapped and accessible by the owner.
    ///
    /// # Errors
    /// [`BackendError::OutOfRange`], [`BackendError::NotMapped`], [`BackendError::NoAccess`].
    pub(super) fn pieces(
        &self,
        call: &'static str,
        offset_bytes: u64,
        bytes: u64,
        writes: bool,
    ) -> Result<Vec<Piece<'_, P>>, BackendError> {
        let range = self.inside(call, offset_bytes, bytes)?;
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let covering = self.mapped.range(..=at).next_back();
            let Some((start, mapped)) = covering.filter(|(start, mapped)| *start + mapped.bytes > at) else {
                return Err(BackendError::NotMapped { call, offset_bytes: at });
            };
            let allowed = match mapped.access {
                Access::None => false,
                Access::Read => !writes,
                Access::ReadWrite => true,
            };
            if !allowed {
                return Err(BackendError::NoAccess { call, offset_bytes: at });
            }
            let end = range.end.min(start + mapped.bytes);
            pieces.push(Piece { range: at..end, held: &mapped.held });
            at = end;
        }
        Ok(pieces)
    }

    /// Where the mapping that holds an offset begins and ends.
    fn covering(&self, offset_bytes: u64) -> Option<(u64, u64)> {
        let (start, mapped) = self.mapped.range(..=offset_bytes).next_back()?;
        // Cannot overflow: what is mapped lies within the reservation.
        let end = start + mapped.bytes;
        (end > offset_bytes).then_some((*start, end))
    }

    fn checked(&self, call: &'static str, offset_bytes: u64, bytes: u64) -> Result<Range<u64>, BackendError> {
        check_size(call, offset_bytes, bytes, self.granularity_bytes)?;
        self.inside(call, offset_bytes, bytes)
    }

    fn inside(&self, call: &'static str, offset_bytes: u64, bytes: u64) -> Result<Range<u64>, BackendError> {
        let reserved_bytes = self.reserved_bytes;
        match offset_bytes.checked_add(bytes) {
            Some(end) if end <= reserved_bytes => Ok(offset_bytes..end),
            _ => Err(BackendError::OutOfRange { call, offset_bytes, bytes, reserved_bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records<char> {
        let mut records = Records::new(800, 100);
        records.insert(100, 200, 'a');
        records.insert(300, 100, 'b');
        records.insert(500, 100, 'c');
        records
    }

    fn run(records: &Records<char>, range: Range<u64>) -> Result<String, BackendError> {
        let run = records.check_run("unmap", range.start, range.end - range.start);
        run.map(|run| run.map(|(_, mapped)| mapped.held).collect())
    }

    #[test]
    fn a_run_is_whole_mappings_without_a_hole() {
        let r = records();
        assert_eq!(run(&r, 100..400).unwrap(), "ab");
        assert_eq!(run(&r, 300..400).unwrap(), "b");
        assert!(matches!(run(&r, 100..200), Err(BackendError::CutsMapping { .. })));
        assert!(matches!(run(&r, 200..400), Err(BackendError::CutsMapping { .. })));
        assert!(matches!(run(&r, 300..600), Err(BackendError::NotMapped { offset_bytes: 400, .. })));
        assert!(matches!(run(&r, 0..300), Err(BackendError::NotMapped { offset_bytes: 0, .. })));
        assert!(matches!(run(&r, 300..300), Err(BackendError::ZeroSize { .. })));
        assert!(matches!(run(&r, 150..300), Err(BackendError::Misaligned { .. })));
        assert!(matches!(run(&r, 700..900), Err(BackendError::OutOfRange { .. })));
    }

    #[test]
    fn memory_goes_where_none_is() {
        let r = records();
        r.check_map(0, 100).unwrap();
        r.check_map(600, 200).unwrap();
        let taken = |offset, bytes, at| matches!(r.check_map(offset, bytes), Err(BackendError::AlreadyMapped { offset_bytes, .. }) if offset_bytes == at);
        assert!(taken(0, 200, 100) && taken(200, 100, 200) && taken(400, 200, 500) && taken(0, 800, 500));
        let huge = u64::MAX - u64::MAX % 100;
        assert!(matches!(r.check_map(huge, 100), Err(BackendError::OutOfRange { .. })));
        assert!(matches!(r.check_map(100, huge), Err(BackendError::OutOfRange { .. })));
    }

    #[test]
    fn copies_need_access_everywhere() {
        let mut r = records();
        assert!(matches!(r.pieces("read", 100, 1, false), Err(BackendError::NoAccess { .. })));
        r.set_access(100..400, Access::Read, &[None]);
        r.set_access(300..400, Access::ReadWrite, &[None, Some(1)]);
        let pieces = r.pieces("read", 150, 200, false).unwrap();
        let pieces: Vec<_> = pieces.into_iter().map(|p| (p.range, *p.held)).collect();
        assert_eq!(pieces, [(150..300, 'a'), (300..350, 'b')]);
        assert!(matches!(
            r.pieces("write", 150, 200, true),
            Err(BackendError::NoAccess { offset_bytes: 150, .. })
        ));
        assert!(matches!(
            r.pieces("read", 350, 60, false),
            Err(BackendError::NotMapped { offset_bytes: 400, .. })
        ));
        assert!(r.pieces("read", 800, 0, false).unwrap().is_empty());
        assert!(matches!(r.pieces("read", u64::MAX, 2, false), Err(BackendError::OutOfRange { .. })));
        assert_eq!(r.iter().filter(|(_, m)| m.peers.contains_key(&1)).count(), 1);
    }
}
