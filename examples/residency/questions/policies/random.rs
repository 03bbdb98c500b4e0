//! Owns numbers at random, [`Random`]: the same for the same seed.
//!
//! **Source**: Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014 (`SplitMix64`).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::suite::Failure;

#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.next() % u64::from(n.max(1))).unwrap_or_default()
    }

    /// A number from 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// So many different numbers below `n`, or all of them.
    pub(super) fn some_below(&mut self, n: u32, count: u32) -> Vec<u32> {
        let mut seen = std::collections::HashSet::new();
        let mut some = Vec::new();
        while some.len() < count.min(n) as usize {
            let number = self.below(n);
            if seen.insert(number) {
                some.push(number);
            }
        }
        some
    }
}

/// What a run's numbers come from: `VASTGRID_SEED`, or the clock.
///
/// # Errors
/// A seed that is no number.
pub(super) fn seed() -> Result<u64, Failure> {
    if let Ok(seed) = std::env::var("VASTGRID_SEED") {
        return seed.parse().map_err(|error| format!("VASTGRID_SEED: {seed:?}: {error}").into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Random::new(u64::from(now.subsec_nanos()) ^ now.as_secs() << 20).next())
}
