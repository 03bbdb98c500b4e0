//! Owns [`ComputedTiles`]: computed tiles in a file without a name, so that they are not computed again after they were evicted. Knows nothing of how they are computed.
//!
//! A full disk, or a directory that cannot be written, turns keeping off; what was kept by then is still found.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::SourceError;
use crate::geometry::Coord;
use crate::source::scratch_file;
use crate::voxel::Voxel;

/// Which tile: the level that it is of, and its first voxel there.
pub(super) type Key = (u32, Coord);

/// Computed tiles of several levels. Those of one value take no space; the others have slots of one size, the oldest of which is taken again when all are.
///
/// **Cost**: about 100 bytes of memory for each tile that is kept.
#[derive(Debug)]
pub(super) struct ComputedTiles<T> {
    slot_voxels: usize,
    most_slots: u64,
    open: fn() -> Result<File, SourceError>,
    /// Made when the first tile comes; `None` where that failed.
    file: OnceLock<Option<File>>,
    off: AtomicBool,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    kept: HashMap<Key, Kept<T>>,
    /// Which tile each slot holds; `None` while one is being written, and after that failed.
    slots: Vec<Option<Key>>,
    oldest: usize,
    /// Counts writes, so that a slot that was taken from a tile is told from one that it got back.
    writes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kept<T> {
    Uniform(T),
    Slot { slot: usize, write: u64 },
}

impl<T: Voxel> ComputedTiles<T> {
    /// Keeps tiles of up to `slot_voxels` voxels in at most `most_bytes` of a file; 0 keeps none but those of one value.
    pub(super) fn new(slot_voxels: usize, most_bytes: u64) -> Self {
        Self::over(slot_voxels, most_bytes, || scratch_file(0))
    }

    fn over(slot_voxels: usize, most_bytes: u64, open: fn() -> Result<File, SourceError>) -> Self {
        let slot_bytes = (slot_voxels * size_of::<T>()).max(1) as u64;
        let state = State { kept: HashMap::new(), slots: Vec::new(), oldest: 0, writes: 0 };
        Self {
            slot_voxels,
            most_slots: most_bytes / slot_bytes,
            open,
            file: OnceLock::new(),
            off: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The one value of a tile, if it is kept and holds one.
    pub(super) fn uniform(&self, key: Key) -> Option<T> {
        match self.lock().kept.get(&key) {
            Some(&Kept::Uniform(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.lock().kept.contains_key(&key)
    }

    /// Reads a tile, if it is kept. `out` is unspecified otherwise.
    pub(super) fn load(&self, key: Key, out: &mut [T]) -> bool {
        let kept = self.lock().kept.get(&key).copied();
        let (slot, write) = match kept {
            None => return false,
            Some(Kept::Uniform(value)) => {
                out.fill(value);
                return true;
            }
            Some(Kept::Slot { slot, write }) => (slot, write),
        };
        let Some(file) = self.file.get().and_then(Option::as_ref) else { return false };
        let bytes = bytemuck::cast_slice_mut::<T, u8>(out);
        if let Err(error) = file.read_exact_at(bytes, self.offset_bytes(slot)) {
            tracing::warn!(%error, "a computed tile could not be read back: it is computed again");
            return false;
        }
        // The slot may have been taken for another tile meanwhile: entries go before their slots are written to.
        matches!(self.lock().kept.get(&key), Some(&Kept::Slot { slot: s, write: w }) if (s, w) == (slot, write))
    }

    /// Keeps a tile, if there is a place for it.
    pub(super) fn keep(&self, key: Key, voxels: &[T]) {
        let Some(&first) = voxels.first() else { return };
        if is_uniform(voxels) {
            self.lock().kept.insert(key, Kept::Uniform(first));
            return;
        }
        if self.off.load(Ordering::Relaxed) || voxels.len() > self.slot_voxels {
            return;
        }
        let Some((slot, write)) = self.claim(key) else { return };
        let written = self.file().is_some_and(|file| {
            let bytes = bytemuck::cast_slice(voxels);
            let outcome = file.write_all_at(bytes, self.offset_bytes(slot));
            if let Err(error) = &outcome {
                tracing::warn!(%error, "computed tiles are not kept any more");
            }
            outcome.is_ok()
        });
        if written {
            let mut state = self.lock();
            state.slots[slot] = Some(key);
            state.kept.insert(key, Kept::Slot { slot, write });
        } else {
            self.off.store(true, Ordering::Relaxed);
        }
    }

    /// A slot to write to: a new one, or the oldest, whose tile is forgotten.
    fn claim(&self, key: Key) -> Option<(usize, u64)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if self.most_slots == 0 || state.kept.contains_key(&key) {
            return None;
        }
        state.writes += 1;
        if (state.slots.len() as u64) < self.most_slots {
            state.slots.push(None);
            return Some((state.slots.len() - 1, state.writes));
        }
        let slot = state.oldest;
        // Somebody else is writing there.
        let evicted = state.slots[slot].take()?;
        state.kept.remove(&evicted);
        state.oldest = (slot + 1) % state.slots.len();
        Some((slot, state.writes))
    }

    fn file(&self) -> Option<&File> {
        let open =
            || (self.open)().inspect_err(|error| tracing::warn!(%error, "computed tiles are not kept")).ok();
        self.file.get_or_init(open).as_ref()
    }

    fn offset_bytes(&self, slot: usize) -> u64 {
        slot as u64 * (self.slot_voxels * size_of::<T>()) as u64
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether all voxels are the same, bit for bit.
fn is_uniform<T: Voxel>(voxels: &[T]) -> bool {
    let bytes: &[u8] = bytemuck::cast_slice(voxels);
    bytes[size_of::<T>()..] == bytes[..bytes.len() - size_of::<T>()]
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "a few tiles")]
mod tests {
    use super::*;

    fn key(level: u32, nth: u64) -> Key {
        (level, Coord::new(nth, 0, 0))
    }

    fn ramp(from: u16) -> Vec<u16> {
        (from..from + 64).collect()
    }

    #[test]
    fn tiles_come_back_as_they_were() {
        let kept = ComputedTiles::new(64, 1 << 20);
        for nth in 0..9 {
            kept.keep(key(1, nth), &ramp(nth as u16));
            kept.keep(key(2, nth), &[nth as u16; 40]);
        }
        let mut out = vec![0; 64];
        for nth in 0..9 {
            assert!(kept.load(key(1, nth), &mut out));
            assert_eq!(out, ramp(nth as u16));
            assert_eq!((kept.uniform(key(1, nth)), kept.uniform(key(2, nth))), (None, Some(nth as u16)));
            assert!(kept.load(key(2, nth), &mut out[..40]));
            assert_eq!(out[..40], [nth as u16; 40]);
        }
        assert!(!kept.load(key(1, 9), &mut out));
        assert_eq!(kept.lock().slots.len(), 9, "tiles of one value take no slot");
    }

    #[test]
    fn the_oldest_goes_first_and_the_file_stays_within_its_bound() {
        let kept = ComputedTiles::new(64, 3 * 128);
        for nth in 0..5 {
            kept.keep(key(0, nth), &ramp(nth as u16));
        }
        let found: Vec<_> = (0..5).map(|nth| kept.load(key(0, nth), &mut [0; 64])).collect();
        assert_eq!(found, [false, false, true, true, true]);
        assert_eq!(kept.file().unwrap().metadata().unwrap().len(), 3 * 128);
        let none = ComputedTiles::new(64, 100);
        none.keep(key(0, 0), &ramp(0));
        assert!(!none.contains(key(0, 0)));
        assert!(none.file.get().is_none(), "nothing to keep, no file");
    }

    #[test]
    fn a_full_disk_turns_keeping_off() {
        let full = || {
            File::options().read(true).write(true).open("/dev/full").map_err(|e| SourceError::Other(e.into()))
        };
        for open in [full, || Err(SourceError::Other("no directory".into()))] {
            let kept = ComputedTiles::over(64, 1 << 20, open);
            kept.keep(key(0, 0), &ramp(0));
            kept.keep(key(0, 1), &ramp(1));
            assert!(!kept.load(key(0, 0), &mut [0; 64]) && !kept.contains(key(0, 1)));
            assert!(kept.off.load(Ordering::Relaxed));
            kept.keep(key(0, 2), &[5; 64]);
            assert_eq!(kept.uniform(key(0, 2)), Some(5), "what takes no space is kept");
        }
    }

    #[test]
    fn many_threads_never_read_another_tile() {
        let kept = ComputedTiles::new(64, 4 * 128);
        std::thread::scope(|s| {
            for thread in 0..4u64 {
                let kept = &kept;
                s.spawn(move || {
                    let mut out = vec![0; 64];
                    for round in 0..2000 {
                        let nth = (round * 7 + thread * 3) % 11;
                        if kept.load(key(0, nth), &mut out) {
                            assert_eq!(out, ramp(nth as u16 * 100));
                        } else {
                            kept.keep(key(0, nth), &ramp(nth as u16 * 100));
                        }
                    }
                });
            }
        });
    }
}
