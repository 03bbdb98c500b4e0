//! Owns the greatest value along a ray: [`Mip`]. Knows nothing of bricks.

use super::march::{Method, Probe, Reach, Took};
use super::occupancy::Weigh;
use super::table::Table;
use super::volume::Volume;
use crate::view::kernels::{Batch, Test};
use crate::voxel::Scalar;

#[derive(Clone, Debug)]
pub(crate) struct Mip {
    /// With opacities as they are.
    pub(crate) table: Table,
}

impl Method for Mip {
    /// The greatest value so far.
    type State = f32;

    fn begin(&self) -> f32 {
        f32::NEG_INFINITY
    }

    fn weigh(&self) -> Weigh<'_> {
        Weigh::Greatest
    }

    fn lasting_threshold(&self) -> Option<f32> {
        None
    }

    #[inline(always)]
    fn threshold(&self, greatest: &f32) -> f32 {
        *greatest
    }

    fn reach(&self) -> Reach {
        Reach { voxels: 0, samples: 0 }
    }

    #[inline(always)]
    fn test(&self, greatest: &f32) -> Test<'_> {
        Test::Above(*greatest)
    }

    #[inline(always)]
    fn take<T: Scalar, V: Volume<T>>(
        &self,
        greatest: &mut f32,
        values: &Batch,
        passed: u32,
        _: &mut Probe<'_, '_, T, V>,
    ) -> Took {
        for (lane, &value) in values.iter().enumerate() {
            if passed >> lane & 1 == 1 && value > *greatest {
                *greatest = value;
            }
        }
        // Above the top of the table everything looks alike.
        if *greatest >= self.table.top() { Took::Ended } else { Took::All }
    }

    fn colour(&self, greatest: &f32) -> [f32; 4] {
        // A ray that met no number shows nothing.
        if *greatest == f32::NEG_INFINITY { [0.0; 4] } else { self.table.colour(*greatest) }
    }
}
