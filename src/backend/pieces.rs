//! Owns what any backend can do with pieces of its memory by staging and reading them: filling one with a value, and looking whether one holds a single value. Knows no device.

use std::ops::Range;

use super::{Backend, Staging};
use crate::error::BackendError;

/// What is looked at of a piece at first: most that differ do so soon.
const FIRST_BYTES: u64 = 4 << 10;
/// And then at a time.
const STEP_BYTES: u64 = 256 << 10;

/// [`Backend::fill`] by way of staging memory.
pub(super) fn fill_staged<B: Backend>(
    backend: &B,
    reservation: &B::Reservation,
    range: Range<u64>,
    value: &[u8],
) -> Result<B::Ticket, BackendError> {
    check_values("fill", &range, value.len() as u64)?;
    let mut staging = backend.stage(reservation, range)?;
    for voxel in staging.bytes_mut().chunks_exact_mut(value.len()) {
        voxel.copy_from_slice(value);
    }
    backend.submit(reservation, staging)
}

/// [`Backend::one_values`] by reading.
pub(super) fn one_values<B: Backend>(
    backend: &B,
    reservation: &B::Reservation,
    offsets_bytes: &[u64],
    bytes: u64,
    value_bytes: u64,
) -> Result<Vec<Option<Box<[u8]>>>, BackendError> {
    let mut buffer = Vec::new();
    let one = |&offset: &u64| {
        let piece = offset..offset.saturating_add(bytes);
        one_value(backend, reservation, &piece, value_bytes, &mut buffer)
    };
    offsets_bytes.iter().map(one).collect()
}

fn one_value<B: Backend>(
    backend: &B,
    reservation: &B::Reservation,
    piece: &Range<u64>,
    value_bytes: u64,
    buffer: &mut Vec<u8>,
) -> Result<Option<Box<[u8]>>, BackendError> {
    check_values("one_values", piece, value_bytes)?;
    let mut first: Option<Box<[u8]>> = None;
    let mut at = piece.start;
    while at < piece.end {
        let most = if at == piece.start { FIRST_BYTES } else { STEP_BYTES };
        // A whole number of values, as the piece is.
        let step = most.max(value_bytes).min(piece.end - at);
        buffer.resize(usize::try_from(step).unwrap_or(usize::MAX), 0);
        backend.read(reservation, at, buffer)?;
        let first = first.get_or_insert_with(|| buffer[..usize::try_from(value_bytes).unwrap_or(0)].into());
        // The first value is the piece's, and each is equal to the next: one comparison of memory, which ends at the first that is not.
        let length = first.len();
        if !buffer.starts_with(first) || buffer[length..] != buffer[..buffer.len() - length] {
            return Ok(None);
        }
        at += step;
    }
    Ok(first)
}

/// # Errors
/// [`BackendError::CutsMapping`]: the range is empty, or no whole number of values.
pub(super) fn check_values(
    call: &'static str,
    range: &Range<u64>,
    value_bytes: u64,
) -> Result<(), BackendError> {
    let bytes = range.end.saturating_sub(range.start);
    if bytes == 0 || value_bytes == 0 || !bytes.is_multiple_of(value_bytes) {
        return Err(BackendError::CutsMapping { call, offset_bytes: range.start, bytes });
    }
    Ok(())
}
