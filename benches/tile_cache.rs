//! What does reading through the tile cache cost against reading the same tiles from a file that is laid out by them, and what does an index of value ranges save a first picture?
//!
//! Tiles: 512^3 `u16` of noise as a raw file in tiles, in the page cache, each tile once in random order, by one thread and by two; the cache has all of them. First pictures: `render_exact` with nothing
//! loaded, of a ball in a procedural volume of next to nothing, and of a CT scan whose air is transparent.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::cell::RefCell;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{SplitMix, median, rounds, size};
use vastgrid::render::{Camera, Options, Preset, TransferFunction, render_exact};
use vastgrid::source::{
    AxisOrder, ContentKey, Endian, Instrumented, Nrrd, Procedural, RangeIndex, RangeIndexBuilder, Ranged,
    RawFile, RawSpec, TileCache, TileCacheOptions,
};
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, Scalar, SparseArray3D, TileSource};

const ROUNDS: usize = 5;

/// Voxels along each side of the volume.
fn side_of_all() -> u64 {
    size(512, 256)
}

fn tile(nth: u32, side: u64) -> Region {
    let (nth, along) = (u64::from(nth), side_of_all() / side);
    let at = [nth % along, nth / along % along, nth / along / along].map(|t| t * side);
    Region::new(at.into(), Extent::cube(side))
}

/// Reads all tiles, and says what some voxels of them sum up to.
fn read_all(source: &(impl TileSource<u16> + ?Sized), order: &[u32], side: u64, threads: usize) -> f64 {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut voxels, mut sum) = (vec![0u16; side.pow(3) as usize], 0.0);
        while let Some(&nth) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            source.read(tile(nth, side), &mut voxels).unwrap();
            sum += voxels.iter().step_by(4099).map(|&v| f64::from(v)).sum::<f64>();
        }
        sum
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn tiles(folder: &Path, side: u64) {
    let path = folder.join("volume.raw");
    let (mut random, mut file) = (SplitMix(7), std::fs::File::create(&path).unwrap());
    let all = side_of_all();
    for _ in 0..all {
        let words: Vec<u64> = (0..all * all / 4).map(|_| random.next()).collect();
        file.write_all(bytemuck::cast_slice(&words)).unwrap();
    }
    drop(file);
    let spec = RawSpec {
        extent: Extent::cube(all),
        offset_bytes: 0,
        endian: Endian::NATIVE,
        order: AxisOrder::Xyz,
        tile: Some(Extent::cube(side)),
    };
    let direct: RawFile<u16> = RawFile::open(&path, spec).unwrap();
    let count = (all / side).pow(3) as u32;
    let order = random.shuffled(count);
    let cache = TileCache::open(folder.join("tiles"), TileCacheOptions::default()).unwrap();
    let key = ContentKey::of_path(&path).unwrap();
    let kept = cache.source(RawFile::<u16>::open(&path, spec).unwrap(), &key, Extent::cube(side)).unwrap();
    read_all(&direct, &order, side, 1);
    let (mut filling, mut plain) = (0.0, 0.0);
    // In turn, since what was written before is on its way to the disk meanwhile.
    for part in order.chunks(count as usize / 16) {
        let start = Instant::now();
        read_all(&kept, part, side, 1);
        filling += start.elapsed().as_secs_f64();
        plain += plainly_kept(&direct, part, side, &folder.join("plain"));
    }
    println!(
        "tiles of {side}^3, the first time: read and kept at {:.0} MB/s, read and written as plain files at {:.0} MB/s, time ratio {:.2}",
        all.pow(3) as f64 * 2e-6 / filling,
        all.pow(3) as f64 * 2e-6 / plain,
        filling / plain
    );
    assert_eq!((cache.stats().missed, cache.stats().kept), (u64::from(count), u64::from(count)));
    for threads in [1, 2] {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        assert_eq!(read_all(&kept, &order, side, threads), read_all(&direct, &order, side, threads));
        for _ in 0..rounds(ROUNDS) {
            let per_tile = |source: &dyn TileSource<u16>| {
                let start = Instant::now();
                black_box(read_all(source, &order, side, threads));
                start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
            };
            let (a, b) = (per_tile(&kept), per_tile(&direct));
            ours.push(a);
            theirs.push(b);
            ratios.push(a / b);
        }
        println!(
            "tiles of {side}^3 again, {threads} thread(s): from the cache {:.1} us a tile, from the raw file {:.1} us, ratio {:.2} ({:.2} to {:.2})",
            median(&mut ours),
            median(&mut theirs),
            median(&mut ratios),
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
    assert_eq!(cache.stats().missed, u64::from(count), "all of them from the cache");
}

/// Reads all tiles and writes each to a file of its own, and says how long that takes.
fn plainly_kept(source: &impl TileSource<u16>, order: &[u32], side: u64, folder: &Path) -> f64 {
    std::fs::create_dir_all(folder).unwrap();
    let mut voxels = vec![0u16; side.pow(3) as usize];
    let start = Instant::now();
    for &nth in order {
        source.read(tile(nth, side), &mut voxels).unwrap();
        std::fs::write(folder.join(nth.to_string()), bytemuck::cast_slice(&voxels)).unwrap();
    }
    start.elapsed().as_secs_f64()
}

fn index_of<T: Scalar>(source: &impl TileSource<T>, cell: Extent) -> RangeIndex<T> {
    let extent = source.extent();
    let builder = RangeIndexBuilder::new(extent, cell).unwrap();
    let mut voxels = vec![T::zeroed(); (extent.x * extent.y) as usize];
    for z in 0..extent.z {
        let slice = Region::new(Coord::new(0, 0, z), Extent::new(extent.x, extent.y, 1));
        source.read(slice, &mut voxels).unwrap();
        builder.note(slice, &voxels).unwrap();
    }
    builder.finish()
}

/// Times a first picture with and without what is known of the volume.
fn first_picture<T: Scalar, S: TileSource<T> + 'static>(
    label: &str,
    tile: u64,
    transfer: &TransferFunction,
    source: impl Fn() -> S,
) {
    let index = Arc::new(index_of(&source(), Extent::cube(8)));
    let extent = index.extent();
    let camera = Camera::fit(extent, [1.0; 3]).azimuth(33.0).elevation(-20.0);
    let options = Options { width: 512, height: 512, ..Options::default() };
    let again = RefCell::new(Vec::new());
    let picture = |known: bool| {
        let pool = Pool::new(HostBackend::new(), 2 << 30).unwrap();
        let source = Instrumented::new(source());
        let reads = source.instruments();
        let start = Instant::now();
        let array = if known {
            let source = Ranged::new(source, index.clone()).unwrap();
            SparseArray3D::builder(&pool, source).tile([tile; 3]).track_ranges().build().unwrap()
        } else {
            SparseArray3D::builder(&pool, source).tile([tile; 3]).track_ranges().build().unwrap()
        };
        let image = render_exact(&array, &camera, transfer, &options, &mut |_| {}).unwrap();
        let (first, start) = (start.elapsed().as_secs_f64(), Instant::now());
        let _ = render_exact(&array, &camera, transfer, &options, &mut |_| {}).unwrap();
        again.borrow_mut().push(start.elapsed().as_secs_f64() * 1e3);
        (first, reads.reads(), image)
    };
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut few, mut many) = (0, 0);
    for _ in 0..rounds(ROUNDS) {
        let ((a, x, ours), (b, y, theirs)) = (picture(true), picture(false));
        assert!(ours.pixels() == theirs.pixels(), "the same picture");
        with.push(a * 1e3);
        without.push(b * 1e3);
        ratios.push(a / b);
        (few, many) = (x, y);
    }
    println!(
        "{label}: with an index {:.1} ms, {few} tiles read; without {:.1} ms, {many} tiles; time ratio {:.3} ({:.3} to {:.3}); again, all there: {:.1} ms",
        median(&mut with),
        median(&mut without),
        median(&mut ratios),
        ratios[0],
        ratios[ratios.len() - 1],
        median(&mut again.borrow_mut()),
    );
}

fn main() {
    for side in [32, 64] {
        let folder = tempfile::tempdir().unwrap();
        tiles(folder.path(), side);
    }
    let transfer =
        TransferFunction::new(&[(0.0, 0.0), (60.0, 0.0), (120.0, 0.05)], &[(0.0, [1.0; 3])], 1.0).unwrap();
    let side = size(768, 192);
    first_picture(&format!("first picture of a ball in {side}^3"), 32, &transfer, || {
        Procedural::new(Extent::cube(side), move |c: Coord| {
            let far = [c.x, c.y, c.z].map(|v| v.abs_diff(side * 25 / 64).pow(2)).iter().sum::<u64>();
            if far < (side * 25 / 192).pow(2) { 150u8 } else { (c.x ^ c.y ^ c.z) as u8 & 31 }
        })
    });
    let transfer = Preset::CtAngio.transfer_function((0.0, 2000.0)).unwrap();
    first_picture("first picture of a CT scan", 16, &transfer, || {
        Nrrd::open("assets/stent.nrrd").unwrap().into_source::<i16>().unwrap()
    });
}
