//! Owns the protocol by which memory goes away only when nobody reads it: [`FrameClock`]. Knows nothing of pages.
//!
//! ```text
//! reader                              evictor
//!   slot = clock   (open)               clear the bit  (hide)
//!   SeqCst fence                        SeqCst fence, clock += 1   (barrier)
//!   test the bit, read the memory       scan the slots (ended): all frames opened before the barrier gone?
//!   slot = 0       (close)              unmap
//!
//! requester                           evictor
//!   lock, clock += 1   (stamping)       lock
//!   test the bit, store the stamp       look at the stamp and at the oldest frame, clear the bit or spare the page
//!   unlock                              unlock
//! ```
//!
//! So a page that a request found is either spared by the evictor, or was hidden before and not found. Nothing that was granted inside a frame goes out of sight.
//!
//! Opening and then testing against clearing and then scanning is store buffering: without the two fences both sides may miss each other. The tests at
//! the end model-check this with loom; leave out either fence and they fail.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::planes::change;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// Frames that have a slot of their own; more than that share a lock.
#[cfg(not(vastgrid_loom))]
const SLOTS: usize = 128;
#[cfg(vastgrid_loom)]
const SLOTS: usize = 2;

/// A slot on its own cache line, so that threads opening frames do not disturb each other.
#[derive(Debug)]
#[repr(align(128))]
struct Slot(AtomicU64);

/// The moment of a barrier: frames opened at or before it may still read what was hidden before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) u64);

/// An open frame: which slot it took, and when.
#[derive(Debug)]
pub(crate) struct FrameToken {
    slot: Option<usize>,
    pub(crate) opened: Epoch,
}

/// The right to stamp pages and to hide bits, with the latest time of all. Stamps are stored in the order of their times, so a plain store is enough. Held for one pass over
/// a batch; nothing is locked or waited for under it.
#[derive(Debug)]
pub(crate) struct Stamping<'c> {
    time: u64,
    _right: MutexGuard<'c, ()>,
}

impl Stamping<'_> {
    /// Later than every frame that was opened before, and than every stamp.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    /// Stamps a page as asked for now.
    #[inline(always)]
    pub(crate) fn stamp(&self, page: &AtomicU64) {
        page.store(self.time, Ordering::Relaxed);
    }

    /// Makes tiles invisible, under the lock that all changes of resident bits are made under; a [`FrameClock::barrier`] must follow before their memory may go.
    #[expect(clippy::unused_self, reason = "the right to do it")]
    pub(crate) fn hide(&self, word: &AtomicU64, mask: u64) {
        change(word, |word| word & !mask);
    }
}

/// The clock of a pool: counts requests and barriers, and knows which frames are open since when.
///
/// What every request writes lies on one cache line.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct FrameClock {
    stamping: Mutex<()>,
    now: AtomicU64,
    /// Which slots were ever taken, a bit each: nobody needs to look at the others, each of which is a cache line of its own.
    taken: [AtomicU64; SLOTS.div_ceil(64)],
    slots: Box<[Slot]>,
    crowd: AtomicU64,
    crowded: Mutex<BTreeMap<u64, u64>>,
}

impl FrameClock {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU64::new(1),
            taken: std::array::from_fn(|_| AtomicU64::new(0)),
            slots: (0..SLOTS).map(|_| Slot(AtomicU64::new(0))).collect(),
            crowd: AtomicU64::new(0),
            crowded: Mutex::new(BTreeMap::new()),
            stamping: Mutex::new(()),
        }
    }

    /// Takes the right to stamp and to hide, and advances the clock.
    pub(crate) fn stamping(&self) -> Stamping<'_> {
        let right = self.stamping.lock().unwrap_or_else(PoisonError::into_inner);
        Stamping { time: self.now.fetch_add(1, Ordering::AcqRel) + 1, _right: right }
    }

    /// Opens a frame. `hint` spreads threads over the slots.
    pub(crate) fn open(&self, hint: usize) -> FrameToken {
        let opened = self.now.load(Ordering::Acquire);
        let token =
            (0..SLOTS).map(|i| hint.wrapping_add(i) % SLOTS).find(|&i| self.take(i, opened)).map_or_else(
                || self.join_crowd(opened),
                |slot| FrameToken { slot: Some(slot), opened: Epoch(opened) },
            );
        fence(Ordering::SeqCst);
        token
    }

    /// Takes a slot, if it is free. Its bit is set before the fence that the frame begins with, as the slot is: who does not see it hid before that what this frame then does not find.
    fn take(&self, slot: usize, opened: u64) -> bool {
        let (word, bit) = (&self.taken[slot / 64], 1 << (slot % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        self.slots[slot].0.compare_exchange(0, opened, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The slots that were ever taken.
    fn slots(&self) -> impl Iterator<Item = &AtomicU64> {
        self.slots.chunks(64).zip(&self.taken).flat_map(|(slots, taken)| {
            let mut left = taken.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let slot = slots.get(left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(&slot.0)
            })
        })
    }

    /// Ends a frame: its reads are over.
    pub(crate) fn close(&self, token: &FrameToken) {
        if let Some(slot) = token.slot {
            self.slots[slot].0.store(0, Ordering::Release);
            return;
        }
        let mut crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = crowded.get_mut(&token.opened.0) {
            *count -= 1;
            if *count == 0 {
                crowded.remove(&token.opened.0);
            }
        }
        self.crowd.fetch_sub(1, Ordering::Release);
    }

    /// To be called after bits were hidden and before [`FrameClock::ended`] is asked about them.
    pub(crate) fn barrier(&self) -> Epoch {
        fence(Ordering::SeqCst);
        Epoch(self.now.fetch_add(1, Ordering::AcqRel))
    }

    /// Whether every frame opened at or before `epoch` has ended.
    pub(crate) fn ended(&self, epoch: Epoch) -> bool {
        self.oldest().is_none_or(|oldest| oldest > epoch)
    }

    /// When the oldest open frame was opened.
    pub(crate) fn oldest(&self) -> Option<Epoch> {
        let in_slots =
            self.slots().map(|slot| slot.load(Ordering::Acquire)).filter(|&opened| opened != 0).min();
        let in_crowd = (self.crowd.load(Ordering::Acquire) > 0)
            .then(|| self.crowded.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied())
            .flatten();
        in_slots.into_iter().chain(in_crowd).min().map(Epoch)
    }

    /// Number of open frames.
    pub(crate) fn open_frames(&self) -> u64 {
        let slots = self.slots().filter(|slot| slot.load(Ordering::Relaxed) != 0).count() as u64;
        slots + self.crowd.load(Ordering::Relaxed)
    }

    /// More frames than slots: they share a lock, whose order does what the slots' atomics do.
    fn join_crowd(&self, opened: u64) -> FrameToken {
        let mut crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        *crowded.entry(opened).or_default() += 1;
        self.crowd.fetch_add(1, Ordering::AcqRel);
        FrameToken { slot: None, opened: Epoch(opened) }
    }
}

#[cfg(all(test, not(vastgrid_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_frames_opened_before_a_barrier_hold_it_up() {
        let clock = FrameClock::new();
        let first = clock.open(0);
        let epoch = clock.barrier();
        let second = clock.open(0);
        assert!(!clock.ended(epoch));
        clock.close(&first);
        assert!(clock.ended(epoch), "the second frame was opened after the barrier");
        assert!(!clock.ended(clock.barrier()));
        clock.close(&second);
        assert_eq!((clock.open_frames(), clock.oldest()), (0, None));
    }

    #[test]
    fn more_frames_than_slots_are_counted_too() {
        let clock = FrameClock::new();
        let frames: Vec<_> = (0..SLOTS * 2).map(|i| clock.open(i)).collect();
        assert_eq!(clock.open_frames(), 2 * SLOTS as u64);
        let epoch = clock.barrier();
        for frame in &frames {
            assert!(!clock.ended(epoch));
            clock.close(frame);
        }
        assert!(clock.ended(epoch));
    }

    #[test]
    fn a_stamp_is_later_than_every_open_frame() {
        let clock = FrameClock::new();
        let frame = clock.open(3);
        assert!(Epoch(clock.stamping().time()) > frame.opened);
        clock.close(&frame);
    }
}

#[cfg(all(test, vastgrid_loom))]
mod loom_tests {
    use super::*;
    use crate::planes::is_visible;
    use loom::sync::Arc;
    use loom::thread;

    /// Memory that panics under loom when it is read while (or after) it is taken away.
    struct Tile {
        bit: AtomicU64,
        stamp: AtomicU64,
        memory: loom::cell::UnsafeCell<u64>,
    }

    fn world() -> (Arc<FrameClock>, Arc<Tile>) {
        let tile = Tile {
            bit: AtomicU64::new(1),
            stamp: AtomicU64::new(0),
            memory: loom::cell::UnsafeCell::new(42),
        };
        (Arc::new(FrameClock::new()), Arc::new(tile))
    }

    #[test]
    fn loom_memory_goes_only_when_no_frame_reads_it() {
        loom::model(|| {
            let (clock, tile) = world();
            let reader = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || {
                    let frame = clock.open(0);
                    if is_visible(&tile.bit, 0) {
                        // loom reports a race if the evictor writes meanwhile.
                        tile.memory.with(|p| assert_eq!(read(p), 42));
                    }
                    clock.close(&frame);
                })
            };
            clock.stamping().hide(&tile.bit, 1);
            let epoch = clock.barrier();
            if clock.ended(epoch) {
                tile.memory.with_mut(|p| write(p, 0));
            }
            reader.join().unwrap();
        });
    }

    #[test]
    fn loom_published_data_is_seen_with_its_bit() {
        loom::model(|| {
            let (clock, tile) = world();
            tile.bit.store(0, Ordering::Relaxed);
            let reader = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || {
                    let frame = clock.open(0);
                    if is_visible(&tile.bit, 0) {
                        tile.memory.with(|p| assert_eq!(read(p), 7));
                    }
                    clock.close(&frame);
                })
            };
            tile.memory.with_mut(|p| write(p, 7));
            change(&tile.bit, |word| word | 1);
            reader.join().unwrap();
        });
    }

    /// As the engine looks a tile up.
    fn look_up(clock: &FrameClock, tile: &Tile) -> bool {
        let stamping = clock.stamping();
        let hit = is_visible(&tile.bit, 0);
        if hit {
            stamping.stamp(&tile.stamp);
        }
        hit
    }

    /// As the engine plans and retires. Returns the stamp that the tile was chosen by, if it went.
    fn retire(clock: &FrameClock, tile: &Tile) -> Option<u64> {
        let oldest = || clock.oldest().map_or(u64::MAX, |frame| frame.0);
        let victim = tile.stamp.load(Ordering::Relaxed);
        if victim > oldest() {
            return None;
        }
        let stamping = clock.stamping();
        let asked_for = tile.stamp.load(Ordering::Relaxed) != victim || victim > oldest();
        if !asked_for {
            stamping.hide(&tile.bit, 1);
        }
        drop(stamping);
        clock.barrier();
        (!asked_for).then_some(victim)
    }

    #[test]
    fn loom_a_hit_is_spared_or_seen_missing() {
        loom::model(|| {
            let (clock, tile) = world();
            let requester = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || look_up(&clock, &tile))
            };
            let gone = retire(&clock, &tile);
            let hit = requester.join().unwrap();
            // Without a frame it may go right after the hit, but then it was chosen by the stamp of that hit.
            if let (Some(victim), true) = (gone, hit) {
                assert_eq!(victim, tile.stamp.load(Ordering::Relaxed), "a hit went unnoticed");
            }
            assert_eq!(is_visible(&tile.bit, 0), gone.is_none());
        });
    }

    #[test]
    fn loom_what_was_granted_in_an_open_frame_never_goes_out_of_sight() {
        loom::model(|| {
            let (clock, tile) = world();
            let requester = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || {
                    let frame = clock.open(0);
                    if look_up(&clock, &tile) {
                        assert!(is_visible(&tile.bit, 0), "gone from sight, if only for a moment");
                        tile.memory.with(|p| assert_eq!(read(p), 42));
                    }
                    clock.close(&frame);
                })
            };
            let gone = retire(&clock, &tile);
            if gone.is_some() && clock.oldest().is_none() {
                tile.memory.with_mut(|p| write(p, 0));
            }
            requester.join().unwrap();
        });
    }

    #[test]
    fn loom_stamps_never_go_back() {
        loom::model(|| {
            let (clock, tile) = world();
            let stamp = |clock: &FrameClock, tile: &Tile| {
                let stamping = clock.stamping();
                stamping.stamp(&tile.stamp);
                stamping.time()
            };
            let other = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || stamp(&clock, &tile))
            };
            let time = stamp(&clock, &tile);
            assert!(tile.stamp.load(Ordering::Relaxed) >= time);
            let last = other.join().unwrap().max(time);
            assert_eq!(tile.stamp.load(Ordering::Relaxed), last);
        });
    }

    #[expect(unsafe_code, reason = "loom's cells hand out raw pointers")]
    fn read(p: *const u64) -> u64 {
        // SAFETY: loom checks this access against every other.
        unsafe { *p }
    }

    #[expect(unsafe_code, reason = "loom's cells hand out raw pointers")]
    fn write(p: *mut u64, v: u64) {
        // SAFETY: loom checks this access against every other.
        unsafe { *p = v }
    }
}
