//! Owns whether pictures read the same tiles again and again: [`Rereads`]. Knows nothing of what is done about it.

/// What the last tiles weigh against those before: so much less with each picture.
const FADES: f64 = 0.95;
/// More of the reads of late than this were of tiles that had been evicted: too many.
const TOO_MANY: f64 = 0.25;
/// Fewer than this are few.
const FEW: f64 = 0.05;
/// So many reads of late say something.
const ENOUGH: f64 = 32.0;
/// Pictures after a verdict until the next: what changed shows only then.
const PAUSE: u32 = 16;
/// Pictures in a row with few of them before that is told.
const CALM: u32 = 64;

/// What is to be made of the reads of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    #[default]
    Nothing,
    /// The budget holds less than is looked at from picture to picture.
    TooMany,
    /// It has held all of it for a good while.
    Few,
}

/// Counts tiles that are read again soon after they were evicted.
#[derive(Debug, Default)]
pub(super) struct Rereads {
    loads: f64,
    again: f64,
    pause: u32,
    calm: u32,
}

impl Rereads {
    /// A tile was loaded.
    pub(super) fn loaded(&mut self, again: bool) {
        self.loads += 1.0;
        self.again += f64::from(u8::from(again));
    }

    /// Another picture was made of something else than the one before.
    pub(super) fn moved(&mut self) -> Verdict {
        self.pause = self.pause.saturating_sub(1);
        let share = if self.loads > 0.0 { self.again / self.loads } else { 0.0 };
        let verdict = if self.loads >= ENOUGH && share > TOO_MANY && self.pause == 0 {
            (self.pause, self.calm) = (PAUSE, 0);
            Verdict::TooMany
        } else if share > FEW {
            self.calm = 0;
            Verdict::Nothing
        } else {
            self.calm += 1;
            if self.calm >= CALM {
                self.calm = 0;
                Verdict::Few
            } else {
                Verdict::Nothing
            }
        };
        self.loads *= FADES;
        self.again *= FADES;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts of pictures before each of which ten tiles are read, so many of them again.
    fn verdicts(rereads: &mut Rereads, pictures: u32, again: u32) -> Vec<Verdict> {
        let mut picture = || {
            (0..10).for_each(|i| rereads.loaded(i < again));
            rereads.moved()
        };
        (0..pictures).map(|_| picture()).filter(|v| *v != Verdict::Nothing).collect()
    }

    #[test]
    fn many_are_told_at_once_and_then_once_in_a_while() {
        let mut rereads = Rereads::default();
        assert_eq!(verdicts(&mut rereads, 8, 5), [Verdict::TooMany]);
        assert_eq!(verdicts(&mut rereads, 32, 5).len(), 2);
    }

    #[test]
    fn few_are_told_after_a_good_while_and_some_never() {
        let mut rereads = Rereads::default();
        assert!(verdicts(&mut rereads, 500, 2).is_empty());
        assert_eq!(verdicts(&mut rereads, CALM + 80, 0), [Verdict::Few]);
        assert!(verdicts(&mut Rereads::default(), CALM - 1, 0).is_empty());
    }

    #[test]
    fn a_handful_of_reads_says_nothing() {
        let mut rereads = Rereads::default();
        for _ in 0..100 {
            rereads.loaded(true);
            assert_ne!(rereads.moved(), Verdict::TooMany);
        }
    }
}
