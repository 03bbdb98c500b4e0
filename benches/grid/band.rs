//! The steps of example 06, a cloud that spreads and is blown along, in a grid of any extent.

use std::hint::black_box;

use vastgrid::compute::{self, Beyond, Boundary, Neighbours, TileSet};
use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D};

use crate::contest::{Contest, timed};
use crate::scaling::{scaling, threads};

type Grid = SparseArray3D<f32>;

const TILE: u64 = 16;
const RADIUS: f32 = 24.0;

/// A step at one voxel: a mean of those around, taken from a little upwind along x.
fn blown(near: &[f32; 27]) -> f32 {
    let mean = near.iter().sum::<f32>() / 27.0;
    let value = 0.5 * near[13] + 0.3 * near[12] + 0.2 * mean;
    if value < 1e-4 { 0.0 } else { value }
}

/// Two grids, and where the cloud begins: all of them a whole number of tiles, so that the same tiles are computed whatever the extent.
struct Band {
    pool: Pool<HostBackend>,
    extent: Extent,
    centre: Coord,
}

impl Band {
    fn new(extent: Extent, centre: Coord) -> Self {
        Self { pool: Pool::new(HostBackend::new(), 64 << 20).unwrap(), extent, centre }
    }

    fn grid(&self) -> Grid {
        let fill = Fill::new(self.extent, 0.0f32);
        SparseArray3D::builder(&self.pool, fill).tile([TILE; 3]).writable().build().unwrap()
    }

    /// So many steps from the beginning: the sum of what is there then.
    fn blow(&self, steps: usize) -> f64 {
        let (mut now, mut next) = (self.grid(), self.grid());
        self.begin(&mut now);
        for _ in 0..steps {
            let band = compute::written(&now).dilate(Neighbours::Corners, 1, Beyond::Out);
            compute::stencil27_into(&mut next.writer().unwrap(), &now, &band, Boundary::Fill(0.0), blown)
                .unwrap();
            forget_empty(&next, &band);
            now.discard_written(&now.written_tiles()).unwrap();
            now.evict(Region::whole(self.extent)).unwrap();
            std::mem::swap(&mut now, &mut next);
        }
        compute::sum(&now, &compute::written(&now)).unwrap()
    }

    fn begin(&self, grid: &mut Grid) {
        let (reach, centre) = (RADIUS as u64, self.centre.to_array());
        let region = Region::new(Coord::from(centre.map(|c| c - reach)), Extent::cube(2 * reach));
        let tiles: Vec<_> = grid.layout().tiles_in(region).collect();
        grid.writer()
            .unwrap()
            .for_each_tile(&tiles, |tile, voxels| {
                let corner = [tile.x, tile.y, tile.z];
                for (i, voxel) in (0..).zip(voxels) {
                    let within = [i % TILE, i / TILE % TILE, i / TILE / TILE];
                    let square =
                        |a: usize| ((corner[a] * TILE + within[a]) as f32 - centre[a] as f32).powi(2);
                    *voxel = (RADIUS - (0..3).map(square).sum::<f32>().sqrt()).clamp(0.0, 1.0);
                }
            })
            .unwrap();
    }
}

/// Tiles of the band that nothing came to are as they were.
fn forget_empty(grid: &Grid, band: &TileSet) {
    let empty: Vec<_> = {
        let view = grid.frame();
        let nothing = |voxels: &[f32]| voxels.iter().all(|&v| v == 0.0);
        let is_empty = |tile| matches!(view.tile(tile), vastgrid::Tile::Resident(voxels) if nothing(voxels));
        band.iter().filter(|&tile| is_empty(tile)).collect()
    };
    grid.discard_written(&empty).unwrap();
}

/// The same band in grids of two extents.
pub(crate) fn compare() {
    const STEPS: usize = 24;
    let small = Band::new(Extent::cube(512), Coord::new(256, 256, 256));
    let large = Band::new(Extent::new(1 << 14, 1 << 13, 1 << 13), Coord::new(8000, 4000, 4000));
    let all = rayon::current_num_threads();
    for count in if all > 1 { vec![1, all] } else { vec![1] } {
        let pool = threads(count);
        Contest::new(&format!("moving band in 2^40 voxels, {count} threads"), STEPS as f64, 1.05)
            .against("in 2^27", || timed(|| pool.install(|| small.blow(STEPS))))
            .run(|| timed(|| pool.install(|| large.blow(STEPS))));
    }
    scaling("moving band", |pool| {
        black_box(pool.install(|| large.blow(STEPS)));
    });
}
