//! A tile's memory, from its first write until it is gone, against copies of its bytes.

use std::hint::black_box;

use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord};

use crate::contest::{Contest, timed};

/// Tiles of one shape.
pub(crate) fn compare(name: &str, shape: [u64; 3]) {
    const TILES: u64 = 64;
    const ALONG: u64 = 256;
    let block: Vec<f32> = (0..shape.iter().product::<u64>()).map(|i| i as f32).collect();
    let bytes = block.len() as u64 * 4;
    let tile = |i: u64| TileCoord::new(37 * i % ALONG, 0, 0);
    let place = |i: u64| Region::new(Coord::new(tile(i).x * shape[0], 0, 0), Extent::from(shape));
    let array = |pool: &Pool<HostBackend>| {
        let fill = Fill::new(Extent::new(ALONG * shape[0], shape[1], shape[2]), 0.0f32);
        SparseArray3D::builder(pool, fill).tile(shape).writable().build().unwrap()
    };
    let mut buffers = vec![block.clone(); 8];
    let mut copies = || {
        timed(|| {
            (0..TILES as usize).for_each(|i| buffers[i % 8].copy_from_slice(black_box(&block)));
            TILES as f64
        })
    };
    // As a band moves: the memory of a tile that was given up goes to one that is written next.
    let pool = Pool::new(HostBackend::new(), 8 * bytes).unwrap();
    let mut moving = array(&pool);
    let mut at = 0;
    Contest::new(&format!("tile of {name}: activate, write, evict"), TILES as f64, 3.1)
        .against("copy", &mut copies)
        .run(|| {
            timed(|| {
                for _ in 0..TILES {
                    moving.writer().unwrap().write_region(place(at), &block).unwrap();
                    moving.discard_written(&[tile(at)]).unwrap();
                    at += 1;
                }
                TILES as f64
            })
        });
    let pool = Pool::new(HostBackend::new(), 2 * TILES * bytes).unwrap();
    let mut fresh = array(&pool);
    let whole = Region::whole(fresh.extent());
    Contest::new(&format!("tile of {name}: the same, memory from and to the system"), TILES as f64, 3.1)
        .against("copy", &mut copies)
        .run(|| {
            timed(|| {
                (0..TILES).for_each(|i| fresh.writer().unwrap().write_region(place(i), &block).unwrap());
                fresh.discard_written(&fresh.written_tiles()).unwrap();
                fresh.evict(whole).unwrap() as f64
            })
        });
}
