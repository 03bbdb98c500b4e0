//! The modes of pictures, how far two of them differ; and tiles as the host's ray caster takes them.

use std::collections::HashMap;
use std::fmt;

use vastgrid::render::{Brick, Image, Mode, Shading, Volume};
use vastgrid::{Coord, Extent, Layout, Region, Scalar, TileCoord};

/// Every mode, the isosurface at a value.
pub(crate) fn modes(iso: f32) -> [Mode; 4] {
    let shading = Shading::default();
    [
        Mode::Dvr { shading: None },
        Mode::Dvr { shading: Some(shading) },
        Mode::Mip,
        Mode::Iso { value: iso, colour: [0.9, 0.8, 0.7], shading },
    ]
}

/// Differences of the channels of two pictures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Difference {
    sum: f64,
    pixels: u64,
    /// Of which a channel differs by more than 2/255.
    far: u64,
    most: f64,
    /// Not quite clear, or not of one colour.
    shown: u64,
}

pub(crate) fn difference(a: &Image, b: &Image) -> Difference {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let mut all = Difference::default();
    for (p, q) in a.pixels().iter().zip(b.pixels()) {
        let channels = p.iter().zip(q).map(|(p, q)| f64::from((p - q).abs()));
        let most = channels.clone().fold(0.0, f64::max);
        assert!(most.is_finite(), "{p:?} {q:?}");
        all.sum += channels.sum::<f64>() / 4.0;
        all.pixels += 1;
        all.far += u64::from(most > 2.0 / 255.0);
        all.most = all.most.max(most);
        all.shown += u64::from(*p != a.pixels()[0]);
    }
    all
}

impl Difference {
    /// Within 1/255 in the mean, and 99.9 % of the pixels within 2/255. And that there is something to see.
    pub(crate) fn is_small(&self) -> bool {
        self.is_near() && self.shown * 50 > self.pixels
    }

    /// The same where there may be nothing to see.
    pub(crate) fn is_near(&self) -> bool {
        self.mean() <= 1.0 / 255.0 && self.far * 1000 <= self.pixels
    }

    /// Within 1/255 in every pixel, as the same samples rounded in another order are; one that is left out or taken twice where something shows is more.
    pub(crate) fn is_rounding(&self) -> bool {
        self.most <= 1.0 / 255.0
    }

    fn mean(&self) -> f64 {
        self.sum / self.pixels as f64
    }

    pub(crate) fn and(&mut self, other: &Self) {
        self.sum += other.sum;
        self.pixels += other.pixels;
        self.far += other.far;
        self.most = self.most.max(other.most);
        self.shown += other.shown;
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mean, most) = (self.mean() * 255.0, self.most * 255.0);
        let share = self.far as f64 / self.pixels as f64 * 100.0;
        let shown = self.shown as f64 / self.pixels as f64 * 100.0;
        write!(
            f,
            "mean {mean:.5}/255, at most {most:.3}/255, {share:.3} % of the pixels beyond 2/255, {shown:.1} % not background"
        )
    }
}

/// Tiles of an array as the host's caster takes them, some of which are there.
pub(crate) struct Bricks<T> {
    extent: Extent,
    shape: Extent,
    there: HashMap<TileCoord, Vec<T>>,
}

impl<T: Scalar> Bricks<T> {
    pub(crate) fn new(
        layout: &Layout,
        there: impl Fn(TileCoord) -> bool,
        value: impl Fn(Coord) -> T,
    ) -> Self {
        let (extent, shape) = (layout.extent(), layout.tile_shape());
        let mut all = HashMap::new();
        for tile in layout.tiles_in(Region::whole(extent)).filter(|&tile| there(tile)) {
            let s = layout.tile_region(tile).start;
            let last = [extent.x - 1, extent.y - 1, extent.z - 1];
            let within = |c: Coord| Coord::new(c.x.min(last[0]), c.y.min(last[1]), c.z.min(last[2]));
            let voxels = super::expected_by(Region::new(s, shape), |c| value(within(c)));
            all.insert(tile, voxels);
        }
        Self { extent, shape, there: all }
    }
}

impl<T: Scalar> Volume<T> for Bricks<T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn brick_shape(&self) -> Extent {
        self.shape
    }

    fn brick(&self, tile: TileCoord) -> Brick<'_, T> {
        self.there.get(&tile).map_or(Brick::Missing, |voxels| Brick::Resident(voxels))
    }

    fn cell_shape(&self) -> Extent {
        self.shape
    }

    fn cell_range(&self, _: TileCoord, _: usize) -> Option<(f32, f32)> {
        None
    }
}
