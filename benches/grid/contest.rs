//! One thing against several that do the same, in turns: who is how much faster, and whether that is as much as was asked for.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use crate::common::{is_test, median, rounds};

/// How often everybody has a turn, after one that does not count.
const ROUNDS: usize = 7;

/// What one turn took, and a figure that all have to agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) seconds: f64,
    pub(crate) sum: f64,
}

/// Times a turn of this process.
pub(crate) fn timed(work: impl FnOnce() -> f64) -> Turn {
    let start = Instant::now();
    let sum = black_box(work());
    Turn { seconds: start.elapsed().as_secs_f64(), sum }
}

/// Somebody's turn.
type Take<'a> = Box<dyn FnMut() -> Turn + 'a>;

/// A contest that is being set up.
pub(crate) struct Contest<'a> {
    label: &'a str,
    items: f64,
    target: f64,
    others: Vec<(&'a str, Take<'a>)>,
}

impl<'a> Contest<'a> {
    /// `target`: the most that ours may take of the time of the best of the others.
    pub(crate) fn new(label: &'a str, items: f64, target: f64) -> Self {
        Self { label, items, target, others: Vec::new() }
    }

    /// Somebody else.
    pub(crate) fn against(mut self, name: &'a str, turn: impl FnMut() -> Turn + 'a) -> Self {
        self.others.push((name, Box::new(turn)));
        self
    }

    /// The same where there is such a peer.
    pub(crate) fn against_any<P>(
        self,
        name: &'a str,
        peer: Option<&'a P>,
        turn: impl Fn(&P) -> Turn + 'a,
    ) -> Self {
        match peer {
            Some(peer) => self.against(name, move || turn(peer)),
            None => self,
        }
    }

    /// Has everybody take turns, and prints the medians and the median of the ratios of each round.
    pub(crate) fn run(self, mut ours: impl FnMut() -> Turn) {
        let Self { label, items, target, mut others } = self;
        let agreed = ours().sum;
        for (name, other) in &mut others {
            let theirs = other().sum;
            assert!((agreed - theirs).abs() <= 1e-6 * agreed.abs(), "{label}: {agreed}, but {name} {theirs}");
        }
        let (mut own, mut ratios) = (Vec::new(), Vec::new());
        let mut theirs = vec![Vec::new(); others.len()];
        for _ in 0..rounds(ROUNDS) {
            let seconds = second(&mut ours);
            let each = others.iter_mut().zip(&mut theirs).map(|((_, other), times)| {
                times.push(second(other));
                times[times.len() - 1]
            });
            ratios.push(seconds / each.fold(f64::INFINITY, f64::min));
            own.push(seconds);
        }
        let each = 1e9 / items;
        let mut line = format!("{label:<44} ours {:9.2} ns", median(&mut own) * each);
        for ((name, _), times) in others.iter().zip(&mut theirs) {
            let _ = write!(line, ", {name} {:.2}", median(times) * each);
        }
        if others.is_empty() {
            println!("{line}, nobody to compare with");
            return;
        }
        let ratio = median(&mut ratios);
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        println!("{line}: {}", verdict(ratio, target, least, most));
    }
}

/// Each turn is taken twice, and the second counts: the first finds the caches full of what somebody else read.
fn second(turn: &mut impl FnMut() -> Turn) -> f64 {
    if !is_test() {
        turn();
    }
    turn().seconds
}

/// The ratio in words: as so many times faster where that was asked for.
pub(crate) fn verdict(ratio: f64, target: f64, least: f64, most: f64) -> String {
    let word = if ratio <= target { "within" } else { "ABOVE" };
    if target < 1.0 {
        let (times, wanted) = (1.0 / ratio, 1.0 / target);
        format!(
            "{times:.2} x faster ({word} the target of {wanted:.1} x; {:.2} to {:.2})",
            1.0 / most,
            1.0 / least
        )
    } else if target.is_finite() {
        format!("ratio {ratio:.3} ({word} the target of {target:.2}; {least:.3} to {most:.3})")
    } else {
        format!("ratio {ratio:.3} ({least:.3} to {most:.3})")
    }
}
