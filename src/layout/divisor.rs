//! Owns division by a number that is known long before: [`Divisor`]. A multiplication takes a fifth of the time.

/// A number that others, below a bound, are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divisor {
    by: u64,
    /// 2^64 divided by it, rounded up; 0 where that does not do.
    inverse: u64,
}

impl Divisor {
    /// For dividing numbers below `bound` by `by`, which is not 0.
    ///
    /// With the inverse `m = (2^64 + e) / by`, `e < by`, what is computed is `n / by + n * e / (by * 2^64)`: rounded down that is the quotient as long as `n * e < 2^64`.
    pub(super) fn new(by: u64, bound: u64) -> Self {
        let fits = by > 1 && by.checked_mul(bound).is_some();
        Self { by, inverse: if fits { (u64::MAX / by).wrapping_add(1) } else { 0 } }
    }

    #[inline]
    pub(super) fn divide(self, n: u64) -> u64 {
        if self.inverse == 0 {
            return n / self.by;
        }
        ((u128::from(n) * u128::from(self.inverse)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_division(by in (1u64..=u64::MAX, 0u32..64).prop_map(|(by, shift)| (by >> shift).max(1)), bound: u64, n: u64) {
            let bound = bound.max(1);
            for n in [n % bound, bound - 1, n % bound / by * by, (n % bound / by * by).saturating_sub(1)] {
                prop_assert_eq!(Divisor::new(by, bound).divide(n), n / by);
            }
            let bound = u64::MAX / by;
            prop_assert_eq!(Divisor::new(by, bound).divide(bound.saturating_sub(1)), bound.saturating_sub(1) / by);
        }
    }
}
