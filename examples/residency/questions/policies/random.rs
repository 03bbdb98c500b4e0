//! Owns numbers at random, [`Random`]: the same for the same seed.

use crate::measure::SplitMix;

#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `n`; 0 where there is none.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.0.below(n.into())).unwrap_or_default()
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
