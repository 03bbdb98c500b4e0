//! What is known of a volume before any of it is read: pictures are the same, and what they would show nothing of is never read.
#![cfg(feature = "render")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::hollow::{Hollow, index_of, transfer};
use common::pictures::modes;
use vastgrid::pyramid::{DeriveOptions, Downsample};
use vastgrid::render::{Camera, Image, Mode, Options, render, render_exact};
use vastgrid::source::{ContentKey, Instruments, Procedural, RangeIndex, Ranged};
use vastgrid::{
    Coord, Explorer, Extent, HostBackend, Pool, Pyramid3D, PyramidSource, Region, Scalar, SparseArray3D,
    StreamOptions, TileCoord, TileSource,
};

const FULL: Extent = Extent::new(220, 190, 205);
const TILE: u64 = 16;

fn camera() -> Camera {
    Camera::fit(FULL, [1.0; 3]).azimuth(33.0).elevation(-20.0)
}

fn options(mode: Mode) -> Options {
    Options { width: 96, height: 80, mode, background: [0.0, 0.0, 0.0, 1.0], ..Options::default() }
}

fn array(source: impl TileSource<u8> + 'static) -> SparseArray3D<u8> {
    let pool = Pool::new(HostBackend::new(), 1 << 30).unwrap();
    SparseArray3D::builder(&pool, source).tile([TILE; 3]).track_ranges().build().unwrap()
}

/// The tiles that were read, each once.
fn read(watch: &Instruments) -> BTreeSet<TileCoord> {
    let regions = watch.reads_by_region();
    assert!(regions.iter().all(|(_, times)| *times == 1), "nothing twice");
    let tile = |region: Region| {
        let start = region.start;
        TileCoord::new(start.x / TILE, start.y / TILE, start.z / TILE)
    };
    regions.into_iter().map(|(region, _)| tile(region)).collect()
}

fn exact(array: &SparseArray3D<u8>, mode: Mode) -> Image {
    render_exact(array, &camera(), &transfer(), &options(mode), &mut |_| {}).unwrap()
}

/// The tiles of a region.
fn tiles(array: &SparseArray3D<u8>, region: Region) -> BTreeSet<TileCoord> {
    array.layout().tiles_in(region).collect()
}

#[test]
fn the_first_picture_reads_what_one_of_what_was_seen_before_would() {
    let hollow = Hollow::new(FULL, 28.0);
    for mode in modes(100.0) {
        // A volume of which everything was loaded once, and evicted.
        let (source, watch) = hollow.level(1.0);
        let seen = array(source);
        let all = common::all_tiles(&seen);
        let _ = seen.request(&all).unwrap().complete().unwrap();
        seen.evict(Region::whole(FULL)).unwrap();
        watch.reset_counts();
        let expected = exact(&seen, mode);
        let needed = read(&watch);

        let (source, plain_watch) = hollow.level(1.0);
        let plain = exact(&array(source), mode);
        let (source, watch) = hollow.indexed(1.0, Extent::cube(8));
        let indexed = array(source);
        let picture = exact(&indexed, mode);
        assert!(picture.pixels() == plain.pixels() && picture.pixels() == expected.pixels(), "{mode:?}");
        assert!(plain.pixels().iter().any(|p| p[..3].iter().any(|c| *c > 0.05)), "shows something: {mode:?}");

        let (with, without) = (read(&watch), read(&plain_watch));
        println!("{mode:?}: {} tiles read, {} without an index, of {}", with.len(), without.len(), all.len());
        assert_eq!(with, needed, "{mode:?}");
        if !matches!(mode, Mode::Mip) {
            // A cell around, which a sample may reach into, and a voxel for gradients.
            let near = tiles(&indexed, hollow.seen(1.0, 17.0).clipped_to(FULL));
            assert!(with.is_subset(&near), "{mode:?}: {:?}", with.difference(&near).collect::<Vec<_>>());
            assert!(without.len() > 4 * with.len(), "{mode:?}");
        }
    }
}

#[test]
fn cells_of_any_shape_and_cells_that_are_unknown_give_the_same_picture() {
    let hollow = Hollow::new(FULL, 28.0);
    let mode = Mode::Dvr { shading: None };
    let (source, watch) = hollow.level(1.0);
    let plain = exact(&array(source), mode);
    let without = read(&watch).len();
    for cell in [Extent::new(5, 7, 64), Extent::cube(16), Extent::new(64, 32, 8), Extent::cube(1 << 20)] {
        let (source, watch) = hollow.level(1.0);
        let whole = index_of(&source, cell);
        watch.reset_counts();
        // A fifth of them is not known.
        let some = |values: &[u8], unknown: u8| -> Vec<u8> {
            values.iter().enumerate().map(|(i, &v)| if i < values.len() / 5 { unknown } else { v }).collect()
        };
        let index =
            RangeIndex::from_parts(FULL, cell, some(whole.least(), 1), some(whole.greatest(), 0)).unwrap();
        assert!(index.known() <= whole.known());
        let picture = exact(&array(Ranged::new(source, Arc::new(index)).unwrap()), mode);
        assert!(picture.pixels() == plain.pixels(), "{cell}");
        let with = read(&watch).len();
        println!("cells of {cell}: {with} tiles read, {without} without an index");
        assert!(with < without || cell.x > FULL.x, "{cell}");
    }
}

#[test]
fn a_picture_of_what_is_there_wants_nothing_that_is_known_to_be_empty() {
    let hollow = Hollow::new(FULL, 28.0);
    let (source, _) = hollow.indexed(1.0, Extent::cube(8));
    let array = array(source);
    let options = options(Mode::Dvr { shading: None });
    let first = render(&*array.frame(), &camera(), &transfer(), &options).unwrap();
    let near = tiles(&array, hollow.seen(1.0, 17.0).clipped_to(FULL));
    assert!(!first.report.wanted.is_empty());
    assert!(first.report.wanted.iter().all(|wanted| near.contains(&wanted.tile)));
}

#[test]
fn what_an_array_has_learnt_is_known_the_next_time() {
    let hollow = Hollow::new(FULL, 28.0);
    let mode = Mode::Dvr { shading: None };
    let (source, _) = hollow.level(1.0);
    let first = array(source);
    // Half of it has been looked at.
    let half = Region::whole(Extent::new(FULL.x / 2, FULL.y, FULL.z));
    let _ = first.request_region(half).unwrap().complete().unwrap();
    let learnt = first.known_ranges(Extent::cube(8)).unwrap();
    let expected = exact(&first, mode);
    let (source, _) = hollow.level(1.0);
    let all = index_of(&source, Extent::cube(8));
    for cell in 0..all.least().len() {
        let range = learnt.cell_range(cell);
        assert!(range.is_none() || range == all.cell_range(cell), "cell {cell}");
    }
    assert!(learnt.known() > all.known() / 3 && learnt.known() < all.known());

    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path().join("hollow.ranges"), ContentKey::new("hollow").with("centre", "here"));
    learnt.save(&path, &key).unwrap();
    let index = RangeIndex::load(&path, &key).unwrap();
    assert_eq!(index, learnt);
    let (source, watch) = hollow.level(1.0);
    let second = array(Ranged::new(source, Arc::new(index)).unwrap());
    assert!(exact(&second, mode).pixels() == expected.pixels());
    let near = tiles(&second, hollow.seen(1.0, 17.0).clipped_to(FULL));
    let known = tiles(&second, Region::whole(Extent::new(half.extent.x - 2 * TILE, FULL.y, FULL.z)));
    for tile in read(&watch) {
        assert!(near.contains(&tile) || !known.contains(&tile), "{tile} was known to be empty");
    }
    // What it knew, it passes on; what it loaded besides, too.
    let more = second.known_ranges(Extent::cube(8)).unwrap();
    assert!(
        (0..all.least().len()).all(|i| learnt.cell_range(i).is_none_or(|r| more.cell_range(i) == Some(r)))
    );
    let coarse = second.known_ranges(Extent::new(100, 90, 70)).unwrap();
    for cell in 0..coarse.least().len() {
        let whole = index_of(&hollow.level(1.0).0, coarse.cell());
        let wide = whole.cell_range(cell).unwrap();
        assert!(coarse.cell_range(cell).is_none_or(|r| r.0 <= wide.0 && wide.1 <= r.1), "cell {cell}");
    }
}

#[test]
fn uniform_tiles_are_learnt_and_untracked_arrays_learn_nothing() {
    let source = || {
        Procedural::new(Extent::new(64, 32, 32), |c: Coord| if c.x < 32 { 7.5 } else { f64::NAN })
            .with_uniform(|r| (r.start.x >= 32).then_some(f64::NAN))
    };
    let pool = Pool::new(HostBackend::new(), 1 << 24).unwrap();
    let array = SparseArray3D::builder(&pool, source()).tile([TILE; 3]).track_ranges().build().unwrap();
    assert_eq!(array.known_ranges([16; 3]).unwrap().known(), 0);
    let _ = array.request_region(Region::whole(array.extent())).unwrap().complete().unwrap();
    let known = array.known_ranges([16; 3]).unwrap();
    let range = |x| known.of(Region::new(Coord::new(x, 0, 0), Extent::cube(16))).unwrap();
    assert_eq!(range(32), (f64::INFINITY, f64::NEG_INFINITY), "nothing but NaN");
    let (low, high) = range(0);
    assert!(low <= 7.5 && 7.5 <= high && (low.to_f32(), high.to_f32()) == (7.5, 7.5), "{low} {high}");
    let untracked = SparseArray3D::builder(&pool, source()).tile([TILE; 3]).build().unwrap();
    let _ = untracked.request_region(Region::whole(array.extent())).unwrap().complete().unwrap();
    assert_eq!(untracked.known_ranges([16; 3]).unwrap().known(), 0);
    assert!(untracked.known_ranges([0, 1, 1]).is_err());
}

/// A pyramid whose levels are all files, with or without what is known of them.
fn files(hollow: Hollow, indexed: bool) -> (PyramidSource<u8>, Vec<Instruments>) {
    let (mut builder, mut watches) = (PyramidSource::builder(), Vec::new());
    for factor in [1.0, 2.0, 4.0] {
        let watch = if indexed {
            let (source, watch) = hollow.indexed(factor, Extent::cube(8));
            builder = builder.level([factor; 3], source);
            watch
        } else {
            let (source, watch) = hollow.level(factor);
            builder = builder.level([factor; 3], source);
            watch
        };
        watches.push(watch);
    }
    (builder.build().unwrap(), watches)
}

fn explorer(source: PyramidSource<u8>) -> Explorer<u8, HostBackend> {
    let pool = Pool::new(HostBackend::new(), 1 << 30).unwrap();
    let pyramid = Pyramid3D::builder(&pool, source).tile([TILE; 3]).track_ranges().build().unwrap();
    Explorer::new(pyramid, StreamOptions { threads: 1, ..StreamOptions::default() }).unwrap()
}

/// Looks until waiting changes nothing.
fn settle(explorer: &mut Explorer<u8, HostBackend>, options: &Options) -> Image {
    // Near enough that the finest level is wanted.
    let camera = camera().dolly(3.0);
    let mut said = Vec::new();
    for _ in 0..300 {
        let explored = explorer.picture(&camera, &transfer(), options).unwrap();
        if explored.fidelity.is_converged() {
            return explored.image;
        }
        said.push((explored.fidelity, explorer.streamer().status()));
        assert!(explorer.wait_idle(Duration::from_secs(20)));
    }
    panic!("never settles: {:#?}", &said[said.len() - 3..]);
}

#[test]
fn explorers_never_read_what_is_known_to_be_empty() {
    let hollow = Hollow::new(FULL, 28.0);
    for mode in [Mode::Dvr { shading: None }, modes(100.0)[3]] {
        let options = options(mode);
        let (source, without) = files(hollow, false);
        let plain = settle(&mut explorer(source), &options);
        let (source, with) = files(hollow, true);
        let mut indexed = explorer(source);
        assert!(settle(&mut indexed, &options).pixels() == plain.pixels(), "{mode:?}");
        let (mut few, mut many) = (0, 0);
        for (level, factor) in [(0, 1.0), (1, 2.0)] {
            let array = indexed.pyramid().level(level).unwrap();
            let near = tiles(array, hollow.seen(factor, 17.0).clipped_to(array.extent()));
            let read = read(&with[level]);
            assert!(read.is_subset(&near), "{mode:?}, level {level}: {:?}", read.difference(&near));
            few += read.len();
            many += without[level].reads();
        }
        println!("{mode:?}: {few} tiles of the finer levels read, {many} without an index");
        assert!(few > 0 && many > 3 * few as u64, "{mode:?}");
    }
}

/// In this volume a ray meets the surface just before a sample, in a tile whose neighbour only the gradient there reaches into.
#[test]
fn what_only_a_gradient_before_a_sample_reaches_into_is_read_too() {
    let hollow = Hollow::of_seed(FULL, 28.0, 2_043_131_006_509_929_146);
    let options = options(modes(100.0)[3]);
    let (source, _) = files(hollow, false);
    let plain = settle(&mut explorer(source), &options);
    let (source, _) = files(hollow, true);
    assert!(settle(&mut explorer(source), &options).pixels() == plain.pixels());
}

#[test]
fn computed_levels_know_what_the_finest_one_does() {
    let hollow = Hollow::new(FULL, 28.0);
    for method in [Downsample::Mean, Downsample::Max, Downsample::Mode] {
        let (source, watch) = hollow.indexed(1.0, Extent::new(10, 8, 5));
        let options = DeriveOptions { coarsest_voxels: 1 << 15, ..DeriveOptions::default() };
        let source = PyramidSource::derive(source, method, options).unwrap();
        assert!(source.levels() > 2);
        for level in 0..source.levels() {
            let level = source.source(level).unwrap();
            let (known, voxels) = (level.ranges().unwrap(), index_of(level, Extent::cube(4)));
            assert!(known.least().len() <= (22 * 24 * 41));
            for cell in 0..voxels.least().len() as u64 {
                let cells = voxels.cells();
                let at = Coord::new(
                    cell % cells.x * 4,
                    cell / cells.x % cells.y * 4,
                    cell / cells.x / cells.y * 4,
                );
                let region = Region::new(at, Extent::cube(4)).clipped_to(level.extent());
                let ((low, high), is) = (known.of(region).unwrap(), voxels.of(region).unwrap());
                assert!(low <= is.0 && is.1 <= high, "{method:?}: {region}");
            }
        }
        watch.reset_counts();
    }
}
