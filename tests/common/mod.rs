//! What several test programs share: a volume whose every voxel is known, and pools to hold it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{Backend, Coord, Extent, Pool, PoolConfig, Region, SparseArray3D};

/// The value of every voxel of the test volume: different everywhere nearby.
pub(crate) fn value(c: Coord) -> u16 {
    let mix = c.x.wrapping_mul(73) ^ c.y.wrapping_mul(179).rotate_left(5) ^ c.z.wrapping_mul(283).rotate_left(9);
    (mix ^ mix >> 16) as u16
}

/// The test volume, instrumented.
pub(crate) fn volume(extent: Extent) -> (Instrumented<Procedural<u16>>, Instruments) {
    let source = Instrumented::new(Procedural::new(extent, value));
    let instruments = source.instruments();
    (source, instruments)
}

/// A pool that gives up waiting after `patience_ms`.
pub(crate) fn pool<B: Backend>(backend: B, budget_bytes: u64, patience_ms: u64) -> Pool<B> {
    let patience = Duration::from_millis(patience_ms);
    Pool::with_config(backend, PoolConfig { budget_bytes, threads: 2, patience }).unwrap()
}

/// The test volume in tiles of 8^3 (1 KiB) and pages of 2 x 2 x 1 tiles (4 KiB).
pub(crate) fn array<B: Backend>(pool: &Pool<B>, extent: Extent) -> (SparseArray3D<u16, B>, Instruments) {
    let (source, instruments) = volume(extent);
    let array = SparseArray3D::builder(pool, source).tile([8, 8, 8]).page([2, 2, 1]).build().unwrap();
    (array, instruments)
}

/// What a region of the test volume holds.
pub(crate) fn expected(region: Region) -> Vec<u16> {
    let (s, e) = (region.start, region.extent);
    let mut all = Vec::new();
    for z in s.z..s.z + e.z {
        for y in s.y..s.y + e.y {
            for x in s.x..s.x + e.x {
                all.push(value(Coord::new(x, y, z)));
            }
        }
    }
    all
}
