//! Owns the copy of an array's bits on the device, [`Mirror`]: which groups of 64 tiles changed is sent, nothing else. Knows planes and words, no residency policy.
//!
//! Bits are sent after everything that they vouch for: values and ranges. A kernel that runs meanwhile, in an older frame, sees each word as it was or as it is; both are true of
//! memory that its frame keeps.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::cuda::{BlockTable, Collected, Store};
use crate::backend::{Backend, CudaBackend};
use crate::cuda::{Event, Stream};
use crate::engine::{ArrayShared, Engine};
use crate::error::{BackendError, Error};
use crate::layout::TileId;
use crate::planes::{Planes, Ranges};
use crate::sync::{AtomicU64, Ordering};

use super::{GridView, block};

/// Groups of 64 tiles in a block: as many words in it may be marked by kernels.
const GROUPS: u64 = block::TILES / 64;

/// The most tiles of an array that the device is told ranges of before they are loaded: 69 MB of its memory.
const MOST_KNOWN_TILES: u64 = 1 << 22;

/// The most tiles for each cell that something is known of: what is done for all tiles is no more than so many times what is known.
const TILES_PER_KNOWN_CELL: u64 = 64;

/// Ranges that are sent together.
const KNOWN_AT_ONCE: usize = 1 << 14;

/// The resident and the uniform word of a group, and which of the uniform ones hold something else than the fill value.
type Bits = [u64; 3];

/// The copy of one array's bits.
#[derive(Debug)]
pub(super) struct Mirror {
    table: BlockTable,
    /// What was sent, by group; `None` where that failed, so that nobody knows what the device has. Its lock orders views.
    sent: Mutex<HashMap<u64, Option<Bits>>>,
}

/// What has to be sent.
#[derive(Debug, Default)]
struct Changes {
    vouched_for: Vec<Store>,
    bits: Vec<Store>,
    sent: Vec<(u64, Bits)>,
}

impl Mirror {
    /// The array's mirror, made now if there was none.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(super) fn of(
        engine: &Engine<CudaBackend>,
        array: &ArrayShared<CudaBackend>,
    ) -> Result<Arc<Self>, BackendError> {
        if array.attached.get().is_none() {
            let table = BlockTable::new(
                engine.backend.device(),
                block::count(&array.layout),
                block::BYTES / 8,
                GROUPS,
            )?;
            let mirror = Self { table, sent: Mutex::default() };
            mirror.send_known(array);
            // Before anyone can find the mirror: its first view shows all that there is.
            engine.watch(array);
            // Should another thread have been faster, its mirror stands, and this one goes.
            let _ = array.attached.set(Arc::new(mirror));
        }
        let attached = array.attached.get().cloned().map(Arc::downcast::<Self>);
        let missing = BackendError::WrongOwner { call: "view", what: "the array has no mirror" };
        attached.and_then(Result::ok).ok_or(missing)
    }

    /// Tells the device what is known of tiles that were never loaded: an optimisation, without which they would be loaded for nothing.
    ///
    /// **Cost**: a look at all that is known, and up to 17 bytes of device memory for each tile of the array; nothing for arrays of more tiles than that is worth.
    fn send_known(&self, array: &ArrayShared<CudaBackend>) {
        let (layout, ranges) = (&array.layout, array.planes.ranges());
        let Some(known) = ranges.and_then(Ranges::known).filter(|_| !array.is_writable()) else { return };
        let slots = layout.tile_slots();
        if slots > MOST_KNOWN_TILES || slots / TILES_PER_KNOWN_CELL > known.cells() {
            tracing::debug!(slots, "too many tiles to tell a device of ranges before they are loaded");
            return;
        }
        for first in (0..slots).step_by(KNOWN_AT_ONCE) {
            let tiles = (first..slots).take(KNOWN_AT_ONCE).map(TileId);
            let stores: Vec<_> = tiles.filter_map(|tile| range_store(array, tile)).collect();
            if let Err(error) = self.table.store(&stores) {
                tracing::warn!(%error, "a device is not told all ranges that are known");
                return;
            }
        }
    }

    /// Brings the mirror up to date and has `stream` wait for that: what a kernel is given.
    ///
    /// # Errors
    /// The driver's refusal; what could not be sent is sent the next time.
    pub(super) fn view(
        &self,
        engine: &Engine<CudaBackend>,
        array: &ArrayShared<CudaBackend>,
        stream: &Stream,
    ) -> Result<GridView, Error> {
        let base = engine.backend.base_address(&array.reservation);
        let fill: &[u8] = bytemuck::cast_slice(array.planes.fill_words());
        let fill = fill.get(..array.planes.voxel_bytes()).unwrap_or(fill);
        let view = GridView::new(&array.layout, base, self.table.address(), fill, array.is_writable())?;
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = array.planes.take_changes();
        if let Err(error) = self.send(&mut sent, array, &groups) {
            sent.extend(groups.iter().map(|&group| (group, None)));
            array.planes.put_changes_back(groups);
            return Err(error.into());
        }
        stream.wait_event(&self.table.changed()?)?;
        Ok(view)
    }

    fn send(
        &self,
        sent: &mut HashMap<u64, Option<Bits>>,
        array: &ArrayShared<CudaBackend>,
        groups: &BTreeSet<u64>,
    ) -> Result<(), BackendError> {
        let mut changes = Changes::default();
        for &group in groups {
            changes.compare(array, group, sent.get(&group).copied().unwrap_or(Some(Bits::default())));
        }
        self.table.store(&changes.vouched_for)?;
        self.table.store(&changes.bits)?;
        sent.extend(changes.sent.into_iter().map(|(group, bits)| (group, Some(bits))));
        Ok(())
    }

    /// Begins to collect which tiles kernels wrote, once the events have come.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(super) fn collect(&self, after: &[Event]) -> Result<Collected, BackendError> {
        self.table.collect(after)
    }

    /// The tiles that were written, and whether these are all; `None` while the look is under way.
    ///
    /// # Errors
    /// The device is lost.
    pub(super) fn collected(
        &self,
        collected: &mut Collected,
    ) -> Result<Option<(Vec<TileId>, bool)>, BackendError> {
        let Some((groups, complete)) = self.table.collected(collected)? else { return Ok(None) };
        let tile = |group: u64, bit| TileId((group << 6) + bit);
        let tiles = groups.into_iter().flat_map(|[group, bits]| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| tile(group, bit))
        });
        Ok(Some((tiles.collect(), complete)))
    }
}

impl Changes {
    /// Notes what of a group is not as it was sent, or all of it where nobody knows what was.
    fn compare(&mut self, array: &ArrayShared<CudaBackend>, group: u64, sent: Option<Bits>) {
        let planes = &array.planes;
        let first = TileId(group << 6);
        let load = |word: &AtomicU64| word.load(Ordering::Acquire);
        let resident = load(planes.resident_word(first));
        let mut uniform = load(planes.uniform_word(first)) & !resident;
        let each =
            |mask: u64| (0..64).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| TileId(first.0 + bit));
        // A long voxel has a word only if it repeats itself; other uniform tiles are as good as missing to a kernel.
        uniform &=
            !each(uniform).filter(|&t| value_word(planes, t).is_none()).map(|t| 1 << (t.0 & 63)).sum::<u64>();
        let special = load(planes.special_word(first)) & uniform;
        let now = [resident, uniform, special];
        // A tile may have got another value while its bits stayed the same.
        if sent == Some(now) && special == 0 {
            return;
        }
        let before = sent.unwrap_or_default();
        let number = block::of(first);
        let store = |bytes: u64, value| Store { block: number, word: bytes / 8, value };
        for tile in each(uniform & (!before[1] | before[2] | special)) {
            self.vouched_for
                .extend(value_word(planes, tile).map(|word| store(block::value_bytes(tile), word)));
        }
        for tile in each(resident & !before[0]) {
            self.vouched_for.extend(range_store(array, tile));
        }
        self.bits.push(store(block::group_word_bytes(first, block::RESIDENT_WORD), resident));
        self.bits.push(store(block::group_word_bytes(first, block::UNIFORM_WORD), uniform));
        self.sent.push((group, now));
    }
}

/// The word that tells the range of a tile, if that is known.
fn range_store(array: &ArrayShared<CudaBackend>, tile: TileId) -> Option<Store> {
    let range = array.planes.ranges()?.of_tile(&array.layout, tile)?;
    let (block, word) = (block::of(tile), block::range_bytes(tile) / 8);
    Some(Store { block, word, value: block::range_word(Some(range)) })
}

/// What a uniform tile holds, as the mirror keeps it.
fn value_word(planes: &Planes, tile: TileId) -> Option<u64> {
    let words = planes.uniform_words(tile);
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    block::word_of(bytes.get(..planes.voxel_bytes())?)
}
