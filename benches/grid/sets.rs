//! Sets of tiles.

use std::hint::black_box;
use std::time::Instant;

use vastgrid::compute::{self, TileSet};
use vastgrid::{Extent, TileCoord};

use crate::common::{G1024, SplitMix, median, rounds};

/// A sparse one and a dense one.
pub(crate) fn measure() {
    // 2^28 tiles, of which one in 1000 is in.
    let grid = Extent::new(1 << 10, 1 << 9, 1 << 9);
    let mut random = SplitMix(5);
    let tiles = (0..1 << 18).map(|_| {
        let r = random.next();
        TileCoord::new(r & 1023, r >> 10 & 511, r >> 20 & 511)
    });
    let set = TileSet::of(grid, tiles);
    let grown = nanoseconds(set.len() as usize, || {
        black_box(set.dilate(compute::Neighbours::Corners, 1, compute::Beyond::Out));
    });
    println!("{:<44} {grown:.1} ns a tile of {}", "dilate a sparse set by 26 neighbours", set.len());
    let dense = TileSet::of(Extent::cube(16), (0..4096).map(G1024::coord));
    let eroded = nanoseconds(dense.len() as usize, || {
        black_box(dense.erode(compute::Neighbours::Corners, 1, compute::Beyond::Out));
    });
    println!("{:<44} {eroded:.1} ns a tile of {}", "erode a dense set by 26 neighbours", dense.len());
}

/// Median time of one item.
fn nanoseconds(items: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<_> = (0..rounds(7))
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e9 / items as f64
        })
        .collect();
    median(&mut times)
}
