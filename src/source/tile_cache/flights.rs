//! Owns who is reading which tile right now: [`Flights`]. Who comes second waits, and finds it kept. Knows nothing of voxels.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::geometry::Coord;

/// How long somebody waits for another one's read. No longer: that one's source may itself be waiting for work that waits below this call on the same thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tiles that are being read.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Mutex<HashSet<Coord>>,
    landed: Condvar,
}

/// A tile that is being read by whoever holds this.
#[derive(Debug)]
pub(super) struct Flight<'f> {
    flights: &'f Flights,
    tile: Coord,
}

impl Flights {
    /// Begins to read a tile. `None`: somebody else was at it, and is done, or takes long.
    pub(super) fn begin(&self, tile: Coord) -> Option<Flight<'_>> {
        let mut under_way = self.lock();
        if under_way.insert(tile) {
            return Some(Flight { flights: self, tile });
        }
        let until = Instant::now() + PATIENCE;
        while under_way.contains(&tile) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            under_way = self.landed.wait_timeout(under_way, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Coord>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.tile);
        self.flights.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_second_waits_but_not_for_ever() {
        let flights = Flights::default();
        let tile = Coord::new(1, 2, 3);
        let first = flights.begin(tile).unwrap();
        assert!(flights.begin(Coord::new(0, 0, 0)).is_some(), "another one");
        let begun = Instant::now();
        assert!(flights.begin(tile).is_none(), "this thread would wait for itself");
        assert!(begun.elapsed() >= PATIENCE);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| flights.begin(tile).is_none());
            std::thread::sleep(Duration::from_millis(20));
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(flights.begin(tile).is_some());
    }
}
