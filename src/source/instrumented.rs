//! Owns [`Instrumented`]: any source, watched, slowed down or made to fail. For tests and benches; knows nothing of what it wraps.
//!
//! ```
//! use vastgrid::source::{Instrumented, Procedural};
//! use vastgrid::{Extent, Region, TileSource};
//!
//! let source = Instrumented::new(Procedural::new(Extent::cube(8), |c| c.x as u8));
//! let watch = source.instruments();
//! watch.fail_nth(2);
//!
//! let (tile, mut out) = (Region::whole(Extent::cube(4)), [0; 64]);
//! assert!(source.read(tile, &mut out).is_ok());
//! assert!(source.read(tile, &mut out).is_err());
//! assert_eq!((watch.reads(), watch.reads_of(tile), watch.bytes_read()), (2, 2, 64));
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{RangeIndex, TileSource};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Voxel;

/// A source that counts what is read from it, and delays, fails or panics where it was told to.
#[derive(Debug)]
pub struct Instrumented<S> {
    source: S,
    instruments: Instruments,
}

impl<S> Instrumented<S> {
    /// Watches `source`.
    #[must_use]
    pub fn new(source: S) -> Self {
        Self { source, instruments: Instruments::default() }
    }

    /// The counters and switches, to keep when the source itself is given away.
    #[must_use]
    pub fn instruments(&self) -> Instruments {
        self.instruments.clone()
    }
}

/// The counters and switches of an [`Instrumented`] source. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Instruments {
    state: Arc<Mutex<State>>,
}

/// What a read was made to fail with; comes as [`SourceError::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault injected into read {nth}, of {region}")]
pub struct InjectedFault {
    /// Which read it was, counted from 1.
    pub nth: u64,
    /// What was to be read.
    pub region: Region,
}

#[derive(Debug, Default)]
struct State {
    reads: u64,
    bytes_read: u64,
    by_region: HashMap<Region, u64>,
    in_flight: u64,
    most_in_flight: u64,
    delay: Duration,
    faults: Vec<(Trigger, Fault)>,
}

#[derive(Clone, Copy, Debug)]
enum Trigger {
    Nth(u64),
    Touches(Region),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Error,
    Panic,
}

impl Instruments {
    /// Reads begun, those that failed included.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// Bytes of the reads that succeeded.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lock().bytes_read
    }

    /// Reads begun of exactly this region.
    #[must_use]
    pub fn reads_of(&self, region: Region) -> u64 {
        self.lock().by_region.get(&region).copied().unwrap_or(0)
    }

    /// Reads begun of each region, in no order: nothing was loaded twice if no count is above 1.
    #[must_use]
    pub fn reads_by_region(&self) -> Vec<(Region, u64)> {
        self.lock().by_region.iter().map(|(&region, &reads)| (region, reads)).collect()
    }

    /// The most reads that ever ran at once.
    #[must_use]
    pub fn most_in_flight(&self) -> u64 {
        self.lock().most_in_flight
    }

    /// Sets all counts to zero, so that [`Instruments::fail_nth`] counts from here; keeps the delay and the faults.
    pub fn reset_counts(&self) {
        let mut state = self.lock();
        state.reads = 0;
        state.bytes_read = 0;
        state.by_region.clear();
        state.most_in_flight = state.in_flight;
    }

    /// Makes every read from now on take at least this long.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Makes the nth read fail, counted from 1 at the start or the last [`Instruments::reset_counts`].
    pub fn fail_nth(&self, nth: u64) {
        self.lock().faults.push((Trigger::Nth(nth), Fault::Error));
    }

    /// Makes every read that touches `region` fail.
    pub fn fail_region(&self, region: Region) {
        self.lock().faults.push((Trigger::Touches(region), Fault::Error));
    }

    /// Makes the nth read panic, counted from 1 at the start or the last [`Instruments::reset_counts`].
    pub fn panic_nth(&self, nth: u64) {
        self.lock().faults.push((Trigger::Nth(nth), Fault::Panic));
    }

    /// Makes every read that touches `region` panic.
    pub fn panic_region(&self, region: Region) {
        self.lock().faults.push((Trigger::Touches(region), Fault::Panic));
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a read in. It is counted out when the guard goes, by a panic too.
    fn begin(&self, region: Region) -> (InFlight<'_>, u64, Duration, Option<Fault>) {
        let mut state = self.lock();
        state.reads += 1;
        *state.by_region.entry(region).or_default() += 1;
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        let nth = state.reads;
        let hit = |trigger: Trigger| match trigger {
            Trigger::Nth(n) => n == nth,
            Trigger::Touches(r) => r.intersection(&region).is_some(),
        };
        let fault = state.faults.iter().find(|(trigger, _)| hit(*trigger)).map(|&(_, fault)| fault);
        (InFlight(self), nth, state.delay, fault)
    }
}

struct InFlight<'a>(&'a Instruments);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl<T: Voxel, S: TileSource<T>> TileSource<T> for Instrumented<S> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn fill_value(&self) -> T {
        self.source.fill_value()
    }

    fn uniform(&self, region: Region) -> Option<T> {
        self.source.uniform(region)
    }

    fn ranges(&self) -> Option<Arc<RangeIndex<T>>> {
        self.source.ranges()
    }

    fn will_read(&self, regions: &[Region]) {
        self.source.will_read(regions);
    }

    fn chunk(&self) -> Option<Extent> {
        self.source.chunk()
    }

    fn will_read_all(&self) {
        self.source.will_read_all();
    }

    fn kept_bytes(&self) -> u64 {
        self.source.kept_bytes()
    }

    fn keep_at_most(&self, bytes: u64) {
        self.source.keep_at_most(bytes);
    }

    fn only_copies(&self) -> bool {
        self.source.only_copies()
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        let (_in_flight, nth, delay, fault) = self.instruments.begin(region);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        match fault {
            None => self.source.read(region, out)?,
            Some(Fault::Error) => return Err(SourceError::Other(Box::new(InjectedFault { nth, region }))),
            Some(Fault::Panic) => panic!("panic injected into read {nth}, of {region}"),
        }
        self.instruments.lock().bytes_read += size_of_val(out) as u64;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::geometry::Coord;
    use crate::source::Procedural;

    fn tile(x: u64) -> Region {
        Region::new(Coord::new(x, 0, 0), Extent::cube(2))
    }

    fn source() -> (Instrumented<Procedural<u16>>, Instruments) {
        let source = Instrumented::new(Procedural::new(Extent::cube(8), |c| c.x as u16));
        let instruments = source.instruments();
        (source, instruments)
    }

    #[test]
    fn counts_are_per_region_and_in_all() {
        let (source, watch) = source();
        let mut out = [0; 8];
        for x in [0, 2, 2] {
            source.read(tile(x), &mut out).unwrap();
        }
        assert_eq!((watch.reads(), watch.bytes_read()), (3, 48));
        assert_eq!((watch.reads_of(tile(0)), watch.reads_of(tile(2)), watch.reads_of(tile(4))), (1, 2, 0));
        watch.reset_counts();
        assert_eq!((watch.reads(), watch.bytes_read(), watch.reads_by_region().len()), (0, 0, 0));
    }

    #[test]
    fn faults_strike_where_they_were_asked_for() {
        let (source, watch) = source();
        let mut out = [0; 8];
        watch.fail_nth(2);
        watch.fail_region(Region::new(Coord::new(5, 1, 1), Extent::cube(1)));
        assert!(source.read(tile(0), &mut out).is_ok());
        let Err(SourceError::Other(fault)) = source.read(tile(0), &mut out) else { panic!("no fault") };
        assert_eq!(fault.downcast_ref(), Some(&InjectedFault { nth: 2, region: tile(0) }));
        assert!(source.read(tile(0), &mut out).is_ok());
        assert!(source.read(tile(4), &mut out).is_err());
        assert!(source.read(tile(6), &mut out).is_ok());
        watch.clear_faults();
        assert!(source.read(tile(4), &mut out).is_ok());
        assert_eq!(watch.bytes_read(), 4 * 16);
    }

    #[test]
    fn a_panic_leaves_the_counters_usable() {
        let (source, watch) = source();
        watch.panic_nth(1);
        let read = |x| catch_unwind(AssertUnwindSafe(|| source.read(tile(x), &mut [0; 8])));
        assert!(read(0).is_err());
        assert_eq!((watch.reads(), watch.bytes_read(), watch.lock().in_flight), (1, 0, 0));
        watch.panic_region(tile(4));
        assert!(read(0).is_ok());
        assert!(read(4).is_err());
    }

    #[test]
    fn reads_at_once_are_seen() {
        let (source, watch) = source();
        watch.set_delay(Duration::from_millis(50));
        std::thread::scope(|s| {
            for x in [0, 2, 4] {
                let source = &source;
                s.spawn(move || source.read(tile(x), &mut [0; 8]));
            }
        });
        assert!(watch.most_in_flight() >= 2);
        assert_eq!(watch.reads(), 3);
    }
}
