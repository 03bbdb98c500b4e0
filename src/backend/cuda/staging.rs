//! Owns the [`Ring`]: page-locked memory for tiles on their way, cut into pieces that are used again and again. Knows nothing of who fills them or copies from them.
//!
//! ```text
//!   slab of 1 MiB pieces   [used][free][used][used]...      a slab all of whose pieces are free may be cut anew for another size
//!   slab of 64 KiB pieces  [][][][][]...   or given back, where a larger one is wanted
//! ```

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffers::PinnedBuffer;
use super::device::Device;

/// How much is taken from the system at a time: one piece or several, and no more than a part of the limit, so that pieces of several sizes have room beside each other.
const SLAB_BYTES: usize = 32 << 20;
const SLABS_AT_LEAST: usize = 8;
/// No piece is smaller: below that, page-locked memory would be all bookkeeping.
const SMALLEST_PIECE_BYTES: usize = 4 << 10;

/// Page-locked memory, up to a limit, taken as it is needed and kept.
#[derive(Debug)]
pub(super) struct Ring {
    device: Device,
    limit_bytes: usize,
    /// Counts the pieces that came back.
    given_back: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slabs: Vec<Slab>,
    bytes: usize,
    /// The system gave no more: nobody asks again.
    exhausted: bool,
}

#[derive(Debug)]
struct Slab {
    /// `None` once it was given back to the system: pieces know their slab by its place, which the next one takes.
    memory: Option<PinnedBuffer>,
    piece_bytes: usize,
    /// Offsets of pieces that nobody has.
    free: Vec<usize>,
}

/// A piece of a ring, for one owner. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Piece {
    ring: Arc<Ring>,
    slab: usize,
    offset: usize,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a piece is memory that its owner alone reaches, of a slab that the ring keeps for as long as the piece holds the ring.
unsafe impl Send for Piece {}
// SAFETY: as above; through `&` it is only read.
unsafe impl Sync for Piece {}

impl Ring {
    pub(super) fn new(device: &Device, limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            device: device.clone(),
            limit_bytes,
            given_back: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Page-locked memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Changes whenever a piece comes back. Cheap enough to look at again and again.
    pub(super) fn given_back(&self) -> u64 {
        self.given_back.load(Ordering::Acquire)
    }

    /// A piece of `bytes`, or none where all that would do are in use and `most_bytes`, or the ring's own limit, is reached.
    ///
    /// **Cost**: a lock; the first time for every slab, milliseconds.
    pub(super) fn take(self: &Arc<Self>, bytes: usize, most_bytes: usize) -> Option<Piece> {
        let piece_bytes = bytes.checked_next_power_of_two()?.max(SMALLEST_PIECE_BYTES);
        if piece_bytes > self.limit_bytes {
            return None;
        }
        let mut state = self.state();
        let slab = state
            .slabs
            .iter()
            .position(|s| s.piece_bytes == piece_bytes && !s.free.is_empty())
            .or_else(|| self.grow(&mut state, piece_bytes, most_bytes))
            .or_else(|| state.cut_anew(piece_bytes))
            .or_else(|| {
                state.give_back_unused();
                self.grow(&mut state, piece_bytes, most_bytes)
            })?;
        let from = state.slabs.get_mut(slab)?;
        let offset = from.free.pop()?;
        // SAFETY: the slab's pieces lie inside its memory.
        let start = unsafe { from.memory.as_ref()?.start().add(offset) };
        Some(Piece { ring: Arc::clone(self), slab, offset, start, bytes })
    }

    /// Another slab, if there may be one.
    fn grow(&self, state: &mut State, piece_bytes: usize, most_bytes: usize) -> Option<usize> {
        let slab_bytes = SLAB_BYTES.min(self.limit_bytes / SLABS_AT_LEAST).max(piece_bytes);
        let most_bytes = self.limit_bytes.min(most_bytes);
        let bytes = most_bytes.saturating_sub(state.bytes).min(slab_bytes) / piece_bytes * piece_bytes;
        if bytes == 0 || state.exhausted {
            return None;
        }
        match PinnedBuffer::new(&self.device, bytes) {
            Ok(memory) => {
                state.bytes += bytes;
                let slab = Slab { memory: Some(memory), piece_bytes, free: cut(bytes, piece_bytes) };
                let place = state.slabs.iter().position(|s| s.memory.is_none());
                let place = place.unwrap_or(state.slabs.len());
                match state.slabs.get_mut(place) {
                    Some(gone) => *gone = slab,
                    None => state.slabs.push(slab),
                }
                Some(place)
            }
            Err(error) => {
                tracing::warn!(%error, bytes, held_bytes = state.bytes, "no more page-locked memory: copies will be slower");
                state.exhausted = true;
                None
            }
        }
    }

    /// Nothing panics while the lock is held, and every step leaves the state true.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A slab that nobody uses, cut for this size.
    fn cut_anew(&mut self, piece_bytes: usize) -> Option<usize> {
        let large_enough = |s: &Slab| s.is_unused() && s.bytes() >= piece_bytes;
        let at = self.slabs.iter().position(large_enough)?;
        let slab = self.slabs.get_mut(at)?;
        slab.piece_bytes = piece_bytes;
        slab.free = cut(slab.bytes(), piece_bytes);
        Some(at)
    }

    /// Gives slabs that nobody uses back to the system: they are too small for what is asked for.
    fn give_back_unused(&mut self) {
        for slab in self.slabs.iter_mut().filter(|slab| slab.is_unused()) {
            self.bytes -= slab.bytes();
            slab.free.clear();
            slab.memory = None;
        }
    }
}

impl Slab {
    fn bytes(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.len())
    }

    fn is_unused(&self) -> bool {
        self.memory.is_some() && self.free.len() == self.bytes() / self.piece_bytes
    }
}

/// The offsets of all whole pieces, the first one last: it is taken first.
fn cut(bytes: usize, piece_bytes: usize) -> Vec<usize> {
    (0..bytes / piece_bytes).rev().map(|piece| piece * piece_bytes).collect()
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: memory of a live slab, written as a whole when it was made, which this piece alone may reach.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(slab) = self.ring.state().slabs.get_mut(self.slab) {
            slab.free.push(self.offset);
        }
        self.ring.given_back.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_cut_into_whole_pieces() {
        assert_eq!(cut(10, 4), [4, 0]);
        assert_eq!(cut(3, 4), [0; 0]);
    }
}
