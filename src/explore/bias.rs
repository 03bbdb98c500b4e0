//! Owns how much coarser than their pixels pictures are, where the budget does not hold what they would need: [`Bias`]. A plain value; knows nothing of pictures.
//!
//! ```text
//!   needed / budget     0 ........ 0.5 ........ 0.8 ....... 1 ........
//!                       finer      as it is, but tried     coarser, to 0.8 as far as can be told
//!                                  once at rest
//! ```
//!
//! While one moves, only a budget that is a quarter of what is needed makes pictures coarser at once; else what is far is, by the order in which tiles are loaded, and the bias grows by a step where
//! much is read again that had been evicted, and falls by one where hardly anything was for a good while.
//!
//! What is needed about halves with every 0.4 of bias. Where finer turned out to be too much twice, or was far too much four times, it is not tried again before something changes.

use super::rereads::Verdict;

/// Steps in which the bias changes.
const STEP: f64 = 0.25;
/// The coarsest that pictures get.
const MOST: f64 = 12.0;
/// How many times more is needed with [`STEP`] less of bias, at most.
const MORE: f64 = 1.7;
/// The part of the budget that is aimed at.
const AIM: f64 = 0.8;
/// How often finer pictures are tried of one scene: twice, or four times where that was only guessed to be too much.
const TRIES: u32 = 4;
/// So many times the budget are not waited for to turn out to be less.
const HOPELESS: f64 = 4.0;
/// Pictures in which nothing changes before finer ones are tried.
const CALM: u32 = 3;

/// The level bias of pictures, from one to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Bias {
    value: f64,
    /// Pictures in a row that lacked nothing.
    calm: u32,
    /// How often what was tried turned out to be too much.
    tries: u32,
    /// Finer than this turned out to be too much for what is looked at now.
    floor: f64,
    /// What is looked at, in whatever words tell one thing from another.
    scene: Vec<u64>,
}

impl Bias {
    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// What is looked at now, and through what budget: another one than before makes finer pictures worth a try again, and is told.
    pub(super) fn look_at(&mut self, scene: Vec<u64>) -> bool {
        let is_new = scene != self.scene;
        if is_new {
            self.scene = scene;
            self.floor = 0.0;
            (self.calm, self.tries) = (0, 0);
        }
        is_new
    }

    /// The picture needed so many bytes of so many, as far as is known: what is lacked may turn out not to matter. `lacked`: more is being loaded; `stuck`: the budget holds no more of
    /// what is lacked. `rereads`: what reads of late say. Whether the next picture will have another bias.
    pub(super) fn learn(
        &mut self,
        needed_bytes: u64,
        budget_bytes: u64,
        rereads: Verdict,
        lacked: bool,
        stuck: bool,
    ) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a share of a budget")]
        let share = needed_bytes as f64 / budget_bytes.max(1) as f64;
        let before = self.value;
        if share > 1.0 && (stuck || share > HOPELESS) {
            let steps = ((share / AIM).log2() / MORE.log2()).ceil().max(1.0);
            self.value = (self.value + STEP * steps).min(MOST);
            // What is only guessed at may be tried more often; and as every try teaches more of what matters, one is not enough.
            self.tries += if stuck { 2 } else { 1 };
            if self.tries >= TRIES {
                (self.floor, self.tries) = (self.value, 0);
            }
            self.calm = 0;
        } else if rereads == Verdict::TooMany {
            self.value = (self.value + STEP).min(MOST);
            self.calm = 0;
        } else if rereads == Verdict::Few && share * MORE <= AIM {
            self.value = (self.value - STEP).max(self.floor).max(0.0);
            self.calm = 0;
        } else if lacked || stuck || self.value <= self.floor.max(0.0) {
            self.calm = 0;
        } else {
            self.calm += 1;
            if self.calm >= CALM || share * MORE <= AIM {
                self.value = (self.value - STEP).max(self.floor).max(0.0);
                self.calm = 0;
            }
        }
        (self.value - before).abs() > 0.0
    }

    /// Whether finer pictures will be tried where nothing changes.
    pub(super) fn is_settled(&self) -> bool {
        self.value <= self.floor.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of something that needs `needed` bytes at no bias and a bytes' worth less by `slope` with each step, until nothing changes.
    fn settle(bias: &mut Bias, needed: f64, slope: f64, budget: u64) -> u32 {
        for picture in 0..200 {
            let now = needed / slope.powf(bias.value() / STEP);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a test")]
            let changed = bias.learn(now as u64, budget, Verdict::Nothing, false, now as u64 > budget);
            if !changed && bias.is_settled() {
                return picture;
            }
        }
        panic!("never settles");
    }

    #[test]
    fn it_is_as_fine_as_the_budget_holds_and_then_stays() {
        for slope in [1.1, 1.4, 1.68, 8.0] {
            for needed in [10.0, 99.0, 100.0, 101.0, 1e4, 1e6] {
                let mut bias = Bias::default();
                bias.look_at(vec![1]);
                settle(&mut bias, needed, slope, 100);
                let at = |value: f64| needed / f64::powf(slope, value / STEP);
                assert!(at(bias.value()) < 101.0 || bias.value() >= MOST, "{needed} {slope}: too much");
                assert_eq!(bias.value() > 0.0, needed >= 101.0, "{needed} {slope}");
                let value = bias.value();
                for _ in 0..50 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "bytes of a test"
                    )]
                    let now = at(bias.value()) as u64;
                    assert!(!bias.learn(now, 100, Verdict::Nothing, false, now > 100), "it stays at {value}");
                }
            }
        }
    }

    #[test]
    fn far_too_much_is_given_up_too() {
        for budget in [0, 1, 30] {
            let mut bias = Bias::default();
            bias.look_at(vec![1]);
            // Nothing of the last level, then ten times more with each.
            let settles = (0..400).any(|_| {
                let now = if bias.value() >= 2.0 { 0 } else { 1000 };
                !bias.learn(now, budget, Verdict::Nothing, now > 0, false) && now == 0 && bias.is_settled()
            });
            assert!(settles, "{budget}: {bias:?}");
        }
    }

    #[test]
    fn another_scene_is_worth_another_try() {
        let mut bias = Bias::default();
        bias.look_at(vec![1]);
        settle(&mut bias, 1e4, 1.5, 100);
        let coarse = bias.value();
        bias.look_at(vec![1]);
        assert!(bias.is_settled());
        bias.look_at(vec![2]);
        settle(&mut bias, 50.0, 1.5, 100);
        assert!(coarse > 1.0 && bias.value() == 0.0);
    }

    #[test]
    fn what_still_loads_is_waited_for() {
        let mut bias = Bias::default();
        bias.learn(300, 100, Verdict::Nothing, true, true);
        let value = bias.value();
        bias.look_at(vec![3]);
        assert!(
            (0..50).all(|_| !bias.learn(10, 100, Verdict::Nothing, true, false)) && bias.value() == value
        );
        assert!(bias.learn(10, 100, Verdict::Nothing, false, false));
    }

    #[test]
    fn reads_of_what_was_evicted_make_pictures_coarser_and_their_end_finer() {
        let mut bias = Bias::default();
        assert!(bias.learn(90, 100, Verdict::TooMany, true, false));
        assert!(bias.learn(90, 100, Verdict::TooMany, true, false));
        assert_eq!(bias.value(), 2.0 * STEP);
        // While anything is lacked and there is little room, it stays.
        assert!(!bias.learn(90, 100, Verdict::Few, true, false));
        assert!(!bias.learn(40, 100, Verdict::Nothing, true, false));
        assert!(bias.learn(40, 100, Verdict::Few, true, false));
        assert!(bias.learn(40, 100, Verdict::Few, true, false));
        assert!(!bias.learn(40, 100, Verdict::Few, true, false) && bias.value() == 0.0);
    }
}
