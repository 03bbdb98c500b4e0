//! The rows of workload G1024: reads, stencils, sums and writes, each beside whoever does the same.

use std::hint::black_box;

use rayon::ThreadPool;
use rayon::prelude::*;
use vastgrid::compute::{self, Boundary, Halo, TileSet};
use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, Tile, TileCoord, View};

use crate::common::G1024;
use crate::common::plain::Plain;
use crate::common::reads::{self, Packed};
use crate::contest::{Contest, Turn, timed};
use crate::openvdb::{OpenVdb, Program};
use crate::scaling::{scaling, threads};
use crate::sums::{add, by_rows, in_order, sweep_halo, sweep_stencil};

/// Voxels of a tile.
const TILE: usize = 64 * 64 * 64;

/// Where there is no such target.
const ANY: f64 = f64::INFINITY;

/// What the groups share.
pub(crate) struct Workload {
    g1024: G1024,
    array: SparseArray3D<f32>,
    active: TileSet,
    vdb: Option<OpenVdb>,
}

/// Ends the bench where a sum is not the workload's; sums of `f32` depend on their order in the last digits.
fn check(label: &str, sum: f64, expected: f64) {
    assert!((sum - expected).abs() <= 1e-8 * expected, "{label}: {sum}, not {expected}");
}

/// A row of OpenVDB's.
fn vdb_row(row: &str) -> impl Fn(&OpenVdb) -> Turn + use<'_> {
    move |vdb| vdb.turn(row)
}

impl Workload {
    pub(crate) fn new(program: Option<&Program>) -> Self {
        let g1024 = G1024::new();
        let (_pool, array) = g1024.array();
        let active = TileSet::of(array.layout().tiles(), g1024.tiles.iter().map(|&t| G1024::coord(t)));
        let vdb = program.map(|program| program.start(rayon::current_num_threads()));
        Self { g1024, array, active, vdb }
    }

    pub(crate) fn reads(&self) {
        let (workload, view) = (&self.g1024, self.array.frame());
        let plain = Plain::new(workload);
        let active = Packed::all(&workload.active);
        let anywhere = Packed::all(&workload.anywhere);
        let centres = Packed::all(&workload.centres);
        let vdb = self.vdb.as_ref();
        check("random active reads", reads::by_get(&view, &active), 2_097_125.169);
        check("random reads anywhere", reads::by_get(&view, &anywhere), 105_064.657);
        check("27-point sums at random", reads::stencils(&view, &centres), 3_439_785.645);
        let reads = active.len() as f64;
        for (label, target, read) in [
            (
                "random active, get_each",
                1.0 / 6.0,
                reads::by_get_each as fn(&View<'_, f32>, &[Packed]) -> f64,
            ),
            ("random active, get", ANY, reads::by_get),
        ] {
            Contest::new(label, reads, target)
                .against_any("OpenVDB's accessor", vdb, vdb_row("active accessor"))
                .against_any("its tree", vdb, vdb_row("active tree"))
                .run(|| timed(|| read(&view, &active)));
        }
        // As many tiles in pages that the system can map as one: half of their memory is of tiles that are not there.
        let pool = Pool::new(HostBackend::new(), 512 << 20).unwrap();
        let huge = workload.array_in(&pool, 2 << 20).unwrap();
        let view_of_huge = huge.frame();
        Contest::new("random active, get_each, pages of 2 MiB", reads, 1.0 / 6.0)
            .against_any("OpenVDB's accessor", vdb, vdb_row("active accessor"))
            .against_any("its tree", vdb, vdb_row("active tree"))
            .run(|| timed(|| reads::by_get_each(&view_of_huge, &active)));
        Contest::new("random active, get", reads, 1.1)
            .against("plain", || timed(|| reads::by_plain(&plain, &active)))
            .run(|| timed(|| reads::by_get(&view, &active)));
        Contest::new("random active, accessor", reads, 1.1)
            .against("plain", || timed(|| reads::by_plain(&plain, &active)))
            .run(|| timed(|| reads::by_accessor(&view, &active)));
        Contest::new("random anywhere (95 % background), get_each", reads, ANY)
            .against("get", || timed(|| reads::by_get(&view, &anywhere)))
            .run(|| timed(|| reads::by_get_each(&view, &anywhere)));
        Contest::new("random anywhere (95 % background), get", reads, ANY)
            .against("plain", || timed(|| reads::by_plain(&plain, &anywhere)))
            .against_any("OpenVDB's accessor", vdb, vdb_row("domain accessor"))
            .against_any("its tree", vdb, vdb_row("domain tree"))
            .run(|| timed(|| reads::by_get(&view, &anywhere)));
        Contest::new("27-point sums at random", centres.len() as f64, ANY)
            .against_any("OpenVDB's accessor", vdb, vdb_row("stencils"))
            .run(|| timed(|| reads::stencils(&view, &centres)));
    }

    pub(crate) fn sweeps(&self) {
        let (workload, view, vdb) = (&self.g1024, self.array.frame(), self.vdb.as_ref());
        let plain = Plain::new(workload);
        let voxels = (workload.inner.len() * TILE) as f64;
        let mut out = vec![0.0f32; TILE];
        let mut halo = Halo::new(view.layout(), Extent::cube(1), Boundary::Clamp).unwrap();
        let expected = 54_905_765.066;
        check("27-point sweep, accessor", reads::sweep_accessor(workload, &view), expected);
        check("27-point sweep, stencil27", sweep_stencil(workload, &view, &mut out, in_order), expected);
        check("27-point sweep, by rows", sweep_stencil(workload, &view, &mut out, by_rows), expected);
        check("27-point sweep, halo", sweep_halo(workload, &view, &mut halo), expected);
        Contest::new("27-point sweep, stencil27 by rows", voxels, 1.0 / 8.0)
            .against_any("OpenVDB's accessor", vdb, vdb_row("sweep"))
            .run(|| timed(|| sweep_stencil(workload, &view, &mut out, by_rows)));
        Contest::new("27-point sweep, stencil27 in order", voxels, 1.0 / 8.0)
            .against_any("OpenVDB's accessor", vdb, vdb_row("sweep"))
            .run(|| timed(|| sweep_stencil(workload, &view, &mut out, in_order)));
        Contest::new("27-point sweep, accessor", voxels, 1.0 / 3.5)
            .against_any("OpenVDB's accessor", vdb, vdb_row("sweep"))
            .run(|| timed(|| reads::sweep_accessor(workload, &view)));
        Contest::new("27-point sweep, stencil27 by rows", voxels, 0.5)
            .against("our accessor", || timed(|| reads::sweep_accessor(workload, &view)))
            .run(|| timed(|| sweep_stencil(workload, &view, &mut out, by_rows)));
        Contest::new("27-point sweep, accessor", voxels, 1.0)
            .against("plain", || timed(|| reads::sweep_plain(workload, &plain)))
            .run(|| timed(|| reads::sweep_accessor(workload, &view)));
        Contest::new("27-point sweep, gather and sum", voxels, 1.0)
            .against("our accessor", || timed(|| reads::sweep_accessor(workload, &view)))
            .run(|| timed(|| sweep_halo(workload, &view, &mut halo)));
        Contest::new("gather of a tile with a halo of 1", voxels, ANY).run(|| {
            timed(|| {
                for &tile in &workload.inner {
                    black_box(halo.gather(&view, G1024::coord(tile)).unwrap());
                }
                0.0
            })
        });
    }

    pub(crate) fn sums(&self) {
        let sum = || compute::sum(&self.array, &self.active).unwrap();
        check("sum of active tiles", sum(), 26_870_331.99);
        let voxels = (self.g1024.tiles.len() * TILE) as f64;
        let mut slice = Vec::with_capacity(voxels as usize);
        for &tile in &self.g1024.tiles {
            if let Tile::Resident(voxels) = self.array.frame().tile(G1024::coord(tile)) {
                slice.extend_from_slice(voxels);
            }
        }
        let parts = || slice.par_chunks(TILE).with_max_len(1).map(add).sum();
        Contest::new("parallel sum", voxels, 1.1).against("plain slice", || timed(parts)).run(|| timed(sum));
        Contest::new("parallel sum", voxels, ANY)
            .against_any("OpenVDB's leaves, parallel", self.vdb.as_ref(), vdb_row("sum"))
            .run(|| timed(sum));
        scaling("sum", |pool| {
            black_box(pool.install(sum));
        });
        Contest::new("smallest and largest, all threads", voxels, ANY).run(|| {
            timed(|| compute::min_max(&self.array, &self.active).unwrap().map_or(0.0, |r| f64::from(r.1)))
        });
    }

    pub(crate) fn writes(&self) {
        let tiles: Vec<_> = self.g1024.tiles.iter().map(|&t| G1024::coord(t)).collect();
        let voxels = (tiles.len() * TILE) as f64;
        // A budget whose half, which a writer holds, has room for all of it.
        let pool = Pool::new(HostBackend::new(), 512 << 20).unwrap();
        let fill = Fill::new(Extent::cube(1024), 0.0f32);
        let mut array = SparseArray3D::builder(&pool, fill).tile([64; 3]).writable().build().unwrap();
        let one = threads(1);
        let mut write = |threads: &ThreadPool| {
            threads.install(|| array.writer().unwrap().for_each_tile(&tiles, write_tile)).unwrap();
            tiles.len() as f64
        };
        let reused = |vdb: &OpenVdb| {
            vdb.turn("clear");
            vdb.turn("write")
        };
        Contest::new("write all voxels, one thread", voxels, 1.0)
            .against_any("OpenVDB's leaves, heap reused", self.vdb.as_ref(), reused)
            .run(|| timed(|| write(&one)));
        Contest::new("write all voxels, one thread", voxels, ANY)
            .against_any("OpenVDB's leaves, there already", self.vdb.as_ref(), vdb_row("write"))
            .run(|| timed(|| write(&one)));
        scaling("write all voxels", |pool| {
            write(pool);
        });
        let first = G1024::origin(self.g1024.tiles[7]);
        assert_eq!(array.get(first).unwrap(), G1024::value(first));
        let inner = self.g1024.inner.iter().map(|&t| G1024::coord(t));
        let inner = TileSet::of(array.layout().tiles(), inner);
        scaling("27-point sweep into another array", |pool| {
            pool.install(|| {
                let mut writer = array.writer().unwrap();
                compute::stencil27_into(&mut writer, &self.array, &inner, Boundary::Clamp, by_rows).unwrap();
            });
        });
    }
}

/// The workload's values, row by row.
fn write_tile(tile: TileCoord, voxels: &mut [f32]) {
    for (row, voxels) in (0..).zip(voxels.chunks_exact_mut(64)) {
        let first = Coord::new(tile.x * 64, tile.y * 64 + row % 64, tile.z * 64 + row / 64);
        for (x, voxel) in (first.x..).zip(voxels) {
            *voxel = G1024::value(Coord { x, ..first });
        }
    }
}
