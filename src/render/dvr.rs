//! Owns emission and absorption: [`Dvr`], front to back. Knows nothing of bricks.

use super::light::Light;
use super::march::{Lacking, Method, Probe, Reach, Took};
use super::occupancy::Weigh;
use super::table::Table;
use super::volume::Volume;
use crate::view::kernels::{Batch, Test};
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
        let mut seen = passed;
        let direction = direction(probe);
        while seen != 0 {
            let lane = seen.trailing_zeros() as usize;
            seen &= seen - 1;
            let [mut r, mut g, mut b, a] = self.table.colour(values[lane]);
            if let Some(light) = &self.light {
                let gradient = match probe.gradient(lane, seen.count_ones()) {
                    Ok(gradient) => gradient,
                    Err(Lacking) => return Took::Lacks(lane),
                };
                let (colour, white) = light.on(gradient, direction);
                (r, g, b) = (r * colour + a * white, g * colour + a * white, b * colour + a * white);
            }
            let rest = 1.0 - state[3];
            *state = [state[0] + rest * r, state[1] + rest * g, state[2] + rest * b, state[3] + rest * a];
            if state[3] >= self.stop_at_alpha {
                return Took::Ended;
            }
        }
        Took::All
    }

    fn colour(&self, state: &Self::State) -> [f32; 4] {
        *state
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a direction of length 1")]
pub(crate) fn direction<T, V>(probe: &Probe<'_, '_, T, V>) -> [f32; 3] {
    probe.path.ray.direction.map(|d| d as f32)
}
