//! Owns the protocol by which memory goes away only when nobody reads it: [`FrameClock`]. Knows nothing of pages.
//!
//! ```text
//! reader                              evictor
//!   slot = clock   (open)               clear the bit  (hide)
//!   SeqCst fence                        SeqCst fence, clock += 1   (barrier)
//!   test the bit, read the memory       scan the slots (ended): all frames opened before the barrier gone?
//!   slot = 0       (close)              unmap
//! ```
//!
//! Opening and then testing against clearing and then scanning is store buffering: without the two fences both sides may miss each other. The tests at
//! the end model-check this with loom; leave out either fence and they fail.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::sync::{AtomicU64, Ordering, fence};

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

/// The clock of a pool: counts requests and barriers, and knows which frames are open since when.
#[derive(Debug)]
pub(crate) struct FrameClock {
    now: AtomicU64,
    slots: Box<[Slot]>,
    crowd: AtomicU64,
    crowded: Mutex<BTreeMap<u64, u64>>,
}

impl FrameClock {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU64::new(1),
            slots: (0..SLOTS).map(|_| Slot(AtomicU64::new(0))).collect(),
            crowd: AtomicU64::new(0),
            crowded: Mutex::new(BTreeMap::new()),
        }
    }

    /// Advances the clock and returns the new time: what a request stamps its pages with. Later than every frame opened before.
    pub(crate) fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Opens a frame. `hint` spreads threads over the slots.
    pub(crate) fn open(&self, hint: usize) -> FrameToken {
        let opened = self.now.load(Ordering::Acquire);
        let token = (0..SLOTS)
            .map(|i| hint.wrapping_add(i) % SLOTS)
            .find(|&i| {
                self.slots[i].0.compare_exchange(0, opened, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
            .map_or_else(
                || self.join_crowd(opened),
                |slot| FrameToken { slot: Some(slot), opened: Epoch(opened) },
            );
        fence(Ordering::SeqCst);
        token
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
            self.slots.iter().map(|s| s.0.load(Ordering::Acquire)).filter(|&opened| opened != 0).min();
        let in_crowd = (self.crowd.load(Ordering::Acquire) > 0)
            .then(|| self.crowded.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied())
            .flatten();
        in_slots.into_iter().chain(in_crowd).min().map(Epoch)
    }

    /// Number of open frames.
    pub(crate) fn open_frames(&self) -> u64 {
        let slots = self.slots.iter().filter(|s| s.0.load(Ordering::Relaxed) != 0).count() as u64;
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
    fn a_tick_is_later_than_every_open_frame() {
        let clock = FrameClock::new();
        let frame = clock.open(3);
        assert!(Epoch(clock.tick()) > frame.opened);
        clock.close(&frame);
    }
}

#[cfg(all(test, vastgrid_loom))]
mod loom_tests {
    use super::*;
    use crate::planes::{hide, is_visible, publish, settle, stamp};
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
            hide(&tile.bit, 1);
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
            publish(&tile.bit, 1);
            reader.join().unwrap();
        });
    }

    #[test]
    fn loom_a_stamped_tile_is_spared_or_seen_missing() {
        loom::model(|| {
            let (clock, tile) = world();
            let requester = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || {
                    stamp(&tile.stamp, clock.tick());
                    settle();
                    is_visible(&tile.bit, 0)
                })
            };
            hide(&tile.bit, 1);
            clock.barrier();
            let spared = tile.stamp.load(Ordering::Relaxed) != 0;
            let hit = requester.join().unwrap();
            assert!(spared || !hit, "a hit must not be evicted unnoticed");
        });
    }

    #[test]
    fn loom_what_an_open_frame_asked_for_stays_in_sight() {
        loom::model(|| {
            let (clock, tile) = world();
            let requester = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || {
                    // Open until the test ends.
                    let frame = clock.open(0);
                    stamp(&tile.stamp, clock.tick());
                    settle();
                    (is_visible(&tile.bit, 0), frame)
                })
            };
            // As the engine plans and retires.
            let oldest = |clock: &FrameClock| clock.oldest().unwrap_or(Epoch(u64::MAX));
            let in_frame = oldest(&clock);
            let victim = tile.stamp.load(Ordering::Relaxed);
            let mut evicted = false;
            if Epoch(victim) <= in_frame {
                hide(&tile.bit, 1);
                clock.barrier();
                evicted = tile.stamp.load(Ordering::Relaxed) == victim && Epoch(victim) <= oldest(&clock);
                if !evicted {
                    publish(&tile.bit, 1);
                }
            }
            let (hit, frame) = requester.join().unwrap();
            assert!(!(hit && evicted), "a tile that an open frame asked for went out of sight");
            clock.close(&frame);
        });
    }

    #[test]
    fn loom_stamps_never_go_back() {
        loom::model(|| {
            let (clock, tile) = world();
            let other = {
                let (clock, tile) = (clock.clone(), tile.clone());
                thread::spawn(move || {
                    let time = clock.tick();
                    stamp(&tile.stamp, time);
                    time
                })
            };
            let time = clock.tick();
            stamp(&tile.stamp, time);
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
