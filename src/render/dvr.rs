//! Owns emission and absorption: [`Dvr`], front to back. Knows nothing of bricks.

use super::light::Light;
use super::march::{Method, Probe, Reach, Took};
use super::occupancy::Weigh;
use super::table::Table;
use super::volume::Volume;
use crate::view::kernels::{Batch, LANES, Test};
use crate::voxel::Scalar;

#[derive(Clone, Debug)]
pub(crate) struct Dvr {
    pub(crate) table: Table,
    pub(crate) light: Option<Light>,
    pub(crate) stop_at_alpha: f32,
}

impl Method for Dvr {
    /// Premultiplied colour and opacity so far.
    type State = [f32; 4];

    fn begin(&self) -> Self::State {
        [0.0; 4]
    }

    fn weigh(&self) -> Weigh<'_> {
        Weigh::Seen(&self.table)
    }

    fn lasting_threshold(&self) -> Option<f32> {
        Some(0.0)
    }

    #[inline(always)]
    fn threshold(&self, _: &Self::State) -> f32 {
        0.0
    }

    fn reach(&self) -> Reach {
        Reach { voxels: i64::from(self.light.is_some()), samples: 0 }
    }

    #[inline(always)]
    fn test(&self, _: &Self::State) -> Test<'_> {
        Test::Seen(self.table.ramp())
    }

    #[inline(always)]
    fn take<T: Scalar, V: Volume<T>>(
        &self,
        state: &mut Self::State,
        values: &Batch,
        passed: u32,
        probe: &mut Probe<'_, '_, T, V>,
    ) -> Took {
        // Only samples that are not clear count, so it does not matter how they are grouped into batches.
        match &self.light {
            None => self.blend(state, values, passed, |_, colour| colour),
            Some(light) => {
                let (needed, gradients) = self.gradients(state, values, passed, probe);
                let (shares, whites) = light.on(&gradients, direction(probe));
                let took = self.blend(state, values, needed, |lane, [r, g, b, a]| {
                    let (share, white) = (shares[lane], a * whites[lane]);
                    [r * share + white, g * share + white, b * share + white, a]
                });
                let lacks = (passed & !needed).trailing_zeros() as usize;
                if took == Took::All && lacks < LANES { Took::Lacks(lacks) } else { took }
            }
        }
    }

    fn colour(&self, state: &Self::State) -> [f32; 4] {
        *state
    }
}

impl Dvr {
    /// Lays the samples behind what is there, one after the other.
    #[inline(always)]
    fn blend(
        &self,
        state: &mut [f32; 4],
        values: &Batch,
        mut lanes: u32,
        lit: impl Fn(usize, [f32; 4]) -> [f32; 4],
    ) -> Took {
        while lanes != 0 {
            let lane = lanes.trailing_zeros() as usize & (LANES - 1);
            lanes &= lanes - 1;
            let [r, g, b, a] = lit(lane, self.table.colour(values[lane]));
            let rest = 1.0 - state[3];
            *state = [state[0] + rest * r, state[1] + rest * g, state[2] + rest * b, state[3] + rest * a];
            if state[3] >= self.stop_at_alpha {
                return Took::Ended;
            }
        }
        Took::All
    }

    /// The gradients of the samples, and for which they are there: up to the first that lacks a tile; what comes after one that makes the ray opaque needs none.
    #[inline(always)]
    fn gradients<T: Scalar, V: Volume<T>>(
        &self,
        state: &[f32; 4],
        values: &Batch,
        passed: u32,
        probe: &mut Probe<'_, '_, T, V>,
    ) -> (u32, [Batch; 3]) {
        if let Some(all) = probe.gradients_at_once(passed) {
            return (passed, all);
        }
        let (mut left, mut seen, mut alpha) = (passed, 0, state[3]);
        while left != 0 && alpha < self.stop_at_alpha {
            let lane = left.trailing_zeros() as usize & (LANES - 1);
            seen |= left & left.wrapping_neg();
            left &= left - 1;
            alpha += (1.0 - alpha) * self.table.colour(values[lane])[3];
        }
        probe.gradients(seen)
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a direction of length 1")]
pub(crate) fn direction<T, V>(probe: &Probe<'_, '_, T, V>) -> [f32; 3] {
    probe.path.ray.direction.map(|d| d as f32)
}
