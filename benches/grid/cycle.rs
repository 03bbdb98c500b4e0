//! A tile's memory, from its first write until it is gone, against copies of its bytes and against what SPGrid does.

use std::hint::black_box;

use vastgrid::source::Fill;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord};

use crate::contest::{Contest, timed};
use crate::touched::Touched;

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
    let bytes_of_block: Vec<u8> = block.iter().flat_map(|value| value.to_ne_bytes()).collect();
    let block_bytes = bytes_of_block.len();
    let mut touched = Touched::new(ALONG as usize * block_bytes);
    let mut as_spgrid = || {
        timed(|| {
            let offsets = (0..TILES).map(|i| tile(i).x as usize * block_bytes);
            offsets.clone().for_each(|offset| touched.write(offset, black_box(&bytes_of_block)));
            offsets.for_each(|offset| touched.give_back(offset, block_bytes));
            TILES as f64
        })
    };
    // As a band moves: the memory of a tile that was given up goes to one that is written next.
    let pool = Pool::new(HostBackend::new(), 8 * bytes).unwrap();
    let mut moving = array(&pool);
    let mut at = 0;
    let mut recycled = || {
        timed(|| {
            for _ in 0..TILES {
                moving.writer().unwrap().write_region(place(at), &block).unwrap();
                moving.discard_written(&[tile(at)]).unwrap();
                at += 1;
            }
            TILES as f64
        })
    };
    Contest::new(&format!("tile of {name}: activate, write, evict"), TILES as f64, 3.1)
        .against("copy", &mut copies)
        .run(&mut recycled);
    Contest::new(&format!("tile of {name}: activate, write, evict"), TILES as f64, 0.5)
        .against("memory touched and given back", &mut as_spgrid)
        .run(&mut recycled);
    let pool = Pool::new(HostBackend::new(), 2 * TILES * bytes).unwrap();
    let mut fresh = array(&pool);
    let whole = Region::whole(fresh.extent());
    let mut from_system = || {
        timed(|| {
            (0..TILES).for_each(|i| fresh.writer().unwrap().write_region(place(i), &block).unwrap());
            fresh.discard_written(&fresh.written_tiles()).unwrap();
            fresh.evict(whole).unwrap() as f64
        })
    };
    Contest::new(&format!("tile of {name}: the same, memory from and to the system"), TILES as f64, 1.0)
        .against("memory touched and given back", &mut as_spgrid)
        .run(&mut from_system);
}
