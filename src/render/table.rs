//! Owns a transfer function baked for rendering: [`Table`], for one step length. Knows nothing of rays.

use super::transfer::TransferFunction;
use crate::view::kernels::Ramp;

/// A transfer function as a table: colours premultiplied, opacities corrected for the step.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    colours: Vec<[f32; 4]>,
    alphas: Vec<f32>,
    /// How many entries before each are not clear.
    seen_before: Vec<u32>,
    /// The first entry from each on that is not clear; one after the last where there is none.
    next_seen: Vec<u32>,
    low: f32,
    per_value: f32,
    last: f32,
}

const MIN_ENTRIES: u16 = 4096;
const MAX_ENTRIES: u16 = u16::MAX;
/// Entries that the shortest stretch between two points gets, as far as `MAX_ENTRIES` goes.
const ENTRIES_PER_SEGMENT: f32 = 64.0;

impl Table {
    /// Opacities are for `step` of the world, or as they are where that is `None`.
    pub(crate) fn new(function: &TransferFunction, step: Option<f64>) -> Self {
        let (from, to) = function.domain();
        // Entries narrower than a few steps of the values' own precision could not be told apart.
        let narrowest = (from.abs().max(to.abs()) * 4.0 * f32::EPSILON).max(1e-34);
        let width = (to - from).max(narrowest * f32::from(MIN_ENTRIES));
        let wanted = function.shortest_segment().map_or(0.0, |gap| ENTRIES_PER_SEGMENT * width / gap);
        let wanted = wanted.min(width / narrowest);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let entries = (wanted as u16).clamp(MIN_ENTRIES, MAX_ENTRIES);
        // One entry on either side of the domain, so that a step at its very end is still a step.
        let each = width / f32::from(entries - 2);
        let low = from - each;
        let corrected = |alpha: f32| match step {
            Some(step) => correct(alpha, step / f64::from(function.unit_distance())),
            None => alpha,
        };
        let colours: Vec<[f32; 4]> = (0..entries)
            .map(|i| {
                let [r, g, b, a] = function.evaluate(low + each * (f32::from(i) + 0.5));
                let a = corrected(a);
                [r * a, g * a, b * a, a]
            })
            .collect();
        let alphas: Vec<f32> = colours.iter().map(|c| c[3]).collect();
        let mut seen = 0;
        let mut seen_before = vec![0];
        for alpha in &alphas {
            seen += u32::from(*alpha != 0.0);
            seen_before.push(seen);
        }
        let mut next = u32::from(entries);
        let mut next_seen: Vec<u32> = (0..u32::from(entries))
            .rev()
            .zip(alphas.iter().rev())
            .map(|(i, alpha)| {
                next = if *alpha == 0.0 { next } else { i };
                next
            })
            .collect();
        next_seen.reverse();
        let last = f32::from(entries - 1);
        Self { colours, alphas, seen_before, next_seen, low, per_value: 1.0 / each, last }
    }

    /// The opacities.
    #[inline(always)]
    pub(crate) fn ramp(&self) -> Ramp<'_> {
        Ramp { entries: &self.alphas, low: self.low, per_value: self.per_value, last: self.last }
    }

    /// Premultiplied colour of a value.
    #[inline(always)]
    pub(crate) fn colour(&self, value: f32) -> [f32; 4] {
        self.colours.get(self.ramp().index(value)).copied().unwrap_or_default()
    }

    /// Whether any value from `low` to `high` is not clear.
    pub(crate) fn sees(&self, low: f32, high: f32) -> bool {
        let ramp = self.ramp();
        let before = |i: usize| self.seen_before.get(i).copied().unwrap_or(0);
        low <= high && before(ramp.index(high) + 1) > before(ramp.index(low))
    }

    /// Of some ranges whether any value in them is not clear, a bit for each: as [`Table::sees`], but worked out side by side.
    pub(crate) fn sees_each(&self, ranges: [(f32, f32); 32]) -> u32 {
        let ramp = self.ramp();
        let (mut first, mut last) = ([0; 32], [0; 32]);
        for ((first, last), (low, high)) in first.iter_mut().zip(&mut last).zip(&ranges) {
            (*first, *last) = (ramp.index_32(*low), ramp.index_32(*high));
        }
        let mut bits = 0;
        for (i, ((first, last), (low, high))) in first.iter().zip(&last).zip(&ranges).enumerate() {
            let next = self.next_seen.get(*first as usize).copied().unwrap_or(u32::MAX);
            bits |= u32::from(low <= high && next <= *last) << i;
        }
        bits
    }

    /// The entries, and how many before each (and before the end) are not clear.
    pub(crate) fn entries(&self) -> (&[[f32; 4]], &[u32]) {
        (&self.colours, &self.seen_before)
    }

    /// The value above which the colour stays the same.
    pub(crate) fn top(&self) -> f32 {
        self.low + (self.last + 1.0) / self.per_value
    }

    /// What two tables must share for the same space to be empty.
    pub(crate) fn emptiness(&self) -> impl Iterator<Item = u32> {
        let words =
            self.alphas.chunks(32).map(|c| c.iter().fold(0, |bits, a| bits << 1 | u32::from(*a != 0.0)));
        words.chain([self.low.to_bits(), self.per_value.to_bits()])
    }
}

/// The opacity of `ratio` times the distance.
#[expect(clippy::cast_possible_truncation, reason = "an opacity from 0 to 1")]
fn correct(alpha: f32, ratio: f64) -> f32 {
    (1.0 - (1.0 - f64::from(alpha)).powf(ratio)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_the_function() {
        let f = TransferFunction::new(
            &[(100.0, 0.0), (200.0, 0.0), (2000.0, 0.8)],
            &[(0.0, [1.0, 0.5, 0.0])],
            1.0,
        );
        let f = f.unwrap();
        let table = Table::new(&f, Some(0.5));
        for v in [-1e9f32, 0.0, 150.0, 731.0, 1999.0, 5e9] {
            let alpha = 1.0 - (1.0 - f.evaluate(v)[3]).sqrt();
            let [r, g, _, a] = table.colour(v);
            assert!((a - alpha).abs() < 5e-4 && (r - a).abs() < 1e-6 && (g - 0.5 * a).abs() < 1e-6, "{v}");
        }
    }

    #[test]
    fn seeing_is_exact_over_ranges() {
        let f = TransferFunction::new(
            &[(0.0, 0.0), (10.0, 0.0), (11.0, 1.0), (12.0, 0.0)],
            &[(0.0, [1.0; 3])],
            1.0,
        );
        let table = Table::new(&f.unwrap(), None);
        assert!(!table.sees(-5.0, 9.9) && !table.sees(12.1, 1e30));
        assert!(
            table.sees(9.0, 10.5) && table.sees(11.0, 11.0) && table.sees(f32::NEG_INFINITY, f32::INFINITY)
        );
        assert!(!table.sees(f32::INFINITY, f32::NEG_INFINITY), "nothing is in an empty range");
    }

    #[test]
    fn steps_at_the_ends_of_the_domain_stay_steps() {
        for at in [0.0f32, 5.0, -1e20, 1e-20] {
            let f = TransferFunction::new(&[(at, 0.0), (at, 1.0)], &[(at, [1.0; 3])], 1.0).unwrap();
            let table = Table::new(&f, None);
            let away = at.abs().max(1e-25) * 0.01;
            assert_eq!((table.colour(at - away)[3], table.colour(at + away)[3]), (0.0, 1.0), "{at}");
        }
    }
}
