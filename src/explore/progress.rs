//! Owns whether loading gets anywhere ([`Progress`]), and how fast it is ([`Rate`]). Plain values; know nothing of what is loaded.

use std::time::{Duration, Instant};

/// Whether loading gets anywhere, from picture to picture of one scene.
#[derive(Debug)]
pub(super) struct Progress {
    fewest_missing: u64,
    loaded: u64,
    /// Pictures before which tiles were loaded, or none could be, and that lacked no less.
    in_vain: u32,
}

/// So many of them are enough.
const IN_VAIN: u32 = 4;

impl Default for Progress {
    fn default() -> Self {
        Self { fewest_missing: u64::MAX, loaded: 0, in_vain: 0 }
    }
}

impl Progress {
    /// Learns how many tiles a picture lacked, and how many had been loaded. `quiet`: none could be.
    pub(super) fn is_over(&mut self, missing: u64, loaded: u64, quiet: bool) -> bool {
        if missing < self.fewest_missing {
            (self.fewest_missing, self.in_vain) = (missing, 0);
        } else if loaded != self.loaded || quiet {
            self.in_vain += 1;
        }
        self.loaded = loaded;
        self.in_vain >= IN_VAIN
    }
}

/// Tiles loaded per second, of late.
#[derive(Debug, Default)]
pub(super) struct Rate {
    per_second: f64,
    last: Option<(Instant, u64)>,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn learn(&mut self, now: Instant, loaded: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((now, loaded));
            return;
        };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds < 0.02 {
            return;
        }
        let late = loaded.saturating_sub(before) as f64 / seconds;
        // Half of it is of the last tenths of a second.
        let weight = 1.0 - (-seconds * 3.0).exp();
        self.per_second += weight * (late - self.per_second);
        self.last = Some((now, loaded));
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn time_for(&self, tiles: u64) -> Option<Duration> {
        let seconds = tiles as f64 / self.per_second;
        if seconds.is_finite() { Duration::try_from_secs_f64(seconds).ok() } else { None }
    }
}
