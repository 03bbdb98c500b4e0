//! Owns isosurfaces: [`Iso`], the first place along a ray where the value is reached. Knows nothing of bricks.

use super::dvr::direction;
use super::light::Light;
use super::march::{Lacking, Method, Probe, Reach, Took};
use super::occupancy::Weigh;
use super::volume::Volume;
use crate::view::kernels::{Batch, Test};
use crate::voxel::Scalar;

#[derive(Clone, Debug)]
pub(crate) struct Iso {
    pub(crate) value: f32,
    pub(crate) colour: [f32; 3],
    pub(crate) light: Light,
}

/// Halvings of the step in which the surface was crossed.
const HALVINGS: u32 = 10;

impl Iso {
    /// Where between sample `k - 1`, which is below the surface, and sample `k`, which is not, it is crossed.
    fn refined<T: Scalar, V: Volume<T>>(
        &self,
        probe: &mut Probe<'_, '_, T, V>,
        k: u32,
    ) -> Result<[i64; 3], Lacking> {
        let Some(before) = k.checked_sub(1) else { return Ok(probe.path.at(k)) };
        let (mut below, mut above) = (0i64, 1i64 << HALVINGS);
        while above - below > 1 {
            let middle = i64::midpoint(below, above);
            match probe.value_at(probe.path.between(before, middle, HALVINGS), k)? {
                Some(value) if value >= self.value => above = middle,
                Some(_) => below = middle,
                None => return Ok(probe.path.at(k)),
            }
        }
        Ok(probe.path.between(before, above, HALVINGS))
    }

    fn hit<T: Scalar, V: Volume<T>>(
        &self,
        probe: &mut Probe<'_, '_, T, V>,
        lane: usize,
    ) -> Result<[f32; 4], Lacking> {
        let k = probe.sample(lane);
        let place = self.refined(probe, k)?;
        let gradient = probe.gradient_at(place, k)?;
        let (colour, white) = self.light.on_one(gradient, direction(probe));
        let [r, g, b] = self.colour.map(|c| c * colour + white);
        Ok([r, g, b, 1.0])
    }
}

impl Method for Iso {
    /// The colour of the surface; clear until it is met.
    type State = [f32; 4];

    fn begin(&self) -> Self::State {
        [0.0; 4]
    }

    fn weigh(&self) -> Weigh<'_> {
        Weigh::Greatest
    }

    fn lasting_threshold(&self) -> Option<f32> {
        Some(self.value.next_down())
    }

    #[inline(always)]
    fn threshold(&self, _: &Self::State) -> f32 {
        self.value.next_down()
    }

    fn reach(&self) -> Reach {
        Reach { voxels: 1, samples: 1 }
    }

    #[inline(always)]
    fn test(&self, _: &Self::State) -> Test<'_> {
        Test::Above(self.value.next_down())
    }

    #[inline(always)]
    fn take<T: Scalar, V: Volume<T>>(
        &self,
        state: &mut Self::State,
        _: &Batch,
        passed: u32,
        probe: &mut Probe<'_, '_, T, V>,
    ) -> Took {
        let lane = passed.trailing_zeros() as usize;
        match self.hit(probe, lane) {
            Ok(colour) => {
                *state = colour;
                Took::Ended
            }
            Err(Lacking) => Took::Lacks(lane),
        }
    }

    fn colour(&self, state: &Self::State) -> [f32; 4] {
        *state
    }
}
