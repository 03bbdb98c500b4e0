//! Volumes with little in them, and what is known of that before any of it is read.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::TransferFunction;
use vastgrid::source::{Instrumented, Instruments, Procedural, RangeIndex, RangeIndexBuilder, Ranged};
use vastgrid::{Coord, Extent, Region, TileSource};

use super::Random;

/// A ball in a volume of next to nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hollow {
    pub(crate) full: Extent,
    centre: [f64; 3],
    radius: f64,
}

/// A level of it, watched.
pub(crate) type Level = Instrumented<Procedural<u8>>;

impl Hollow {
    /// A ball of that radius somewhere; tells which seed it comes of.
    pub(crate) fn new(full: Extent, radius: f64) -> Self {
        let seed = RandomState::new().hash_one(0);
        println!("hollow volume of seed {seed}");
        Self::of_seed(full, radius, seed)
    }

    /// The one of a seed.
    pub(crate) fn of_seed(full: Extent, radius: f64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut within = |side: u64| {
            radius + 2.0 + random.below(1000) as f64 / 1000.0 * (side as f64 - 2.0 * radius - 4.0)
        };
        Self { full, centre: full.to_array().map(&mut within), radius }
    }

    /// Air is up to 40, the ball from 120 up.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 250")]
    pub(crate) fn value(&self, at: [f64; 3]) -> u8 {
        let far = (0..3).map(|a| (at[a] - self.centre[a]).powi(2)).sum::<f64>().sqrt();
        if far < self.radius {
            (120.0 + (self.radius - far) * 3.0).min(250.0) as u8
        } else {
            ((at[0] * 0.7).sin() * 20.0 + (at[1] * 0.9 + at[2]).cos() * 19.0 + 40.0) as u8 / 2
        }
    }

    /// A level, as it is read.
    pub(crate) fn level(self, factor: f64) -> (Level, Instruments) {
        let geometry = LevelGeometry::new(self.full, [factor; 3]);
        let source = Procedural::new(geometry.extent(), move |c: Coord| self.value(geometry.centre(c)));
        let source = Instrumented::new(source);
        let instruments = source.instruments();
        (source, instruments)
    }

    /// A level of which is known what there is to know, in cells of that shape.
    pub(crate) fn indexed(self, factor: f64, cell: Extent) -> (Ranged<Level, u8>, Instruments) {
        let (source, instruments) = self.level(factor);
        let index = index_of(&source, cell);
        instruments.reset_counts();
        (Ranged::new(source, Arc::new(index)).unwrap(), instruments)
    }

    /// The part of a level that there is something to see in, with so many of its voxels around.
    pub(crate) fn seen(&self, factor: f64, around: f64) -> Region {
        let reach = self.radius / factor + around;
        let [low, high] = [-reach, reach].map(|by| self.centre.map(|c| (c / factor + by).max(0.0)));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "voxels of a small volume"
        )]
        let [low, high] = [low.map(|v| v.floor() as u64), high.map(|v| v.ceil() as u64)];
        let extent = Extent::new(high[0] - low[0] + 1, high[1] - low[1] + 1, high[2] - low[2] + 1);
        Region::new(low.into(), extent)
    }
}

/// The index of a whole volume.
pub(crate) fn index_of(source: &impl TileSource<u8>, cell: Extent) -> RangeIndex<u8> {
    let builder = RangeIndexBuilder::new(source.extent(), cell).unwrap();
    let extent = source.extent();
    for z in 0..extent.z {
        let slice = Region::new(Coord::new(0, 0, z), Extent::new(extent.x, extent.y, 1));
        let mut voxels = vec![0; usize::try_from(extent.x * extent.y).unwrap()];
        source.read(slice, &mut voxels).unwrap();
        builder.note(slice, &voxels).unwrap();
    }
    builder.finish()
}

/// Shows the ball, not the air.
pub(crate) fn transfer() -> TransferFunction {
    TransferFunction::new(
        &[(0.0, 0.0), (60.0, 0.0), (120.0, 0.01), (250.0, 0.2)],
        &[(0.0, [0.1, 0.2, 0.9]), (250.0, [1.0, 0.8, 0.2])],
        1.0,
    )
    .unwrap()
}
