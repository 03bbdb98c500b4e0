//! What is known of a volume before any of it is read, on a real CUDA device: pictures are the same, and tiles that would show nothing are never loaded. The same as `range_index.rs` asks of the host.
//! Skipped where there is no device, by a line that says so; `VASTGRID_REQUIRE_CUDA=1` makes that a failure.
#![cfg(feature = "render")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::cuda::{alone, device_or_skip, small_backend};
use common::hollow::{Hollow, index_of, transfer};
use common::pictures::{Bricks, difference, modes};
use vastgrid::cuda::Device;
use vastgrid::render::cuda::{CastVolume, CudaCaster};
use vastgrid::render::{Camera, Image, Mode, Options, render};
use vastgrid::source::{Instruments, Ranged};
use vastgrid::{
    CudaBackend, Explorer, Extent, Pool, Pyramid3D, PyramidSource, Region, SparseArray3D, StreamOptions,
    TileCoord, TileSource,
};

const FULL: Extent = Extent::new(300, 290, 280);
const TILE: u64 = 32;
const PAGE: u64 = 2 << 20;

fn camera() -> Camera {
    Camera::fit(FULL, [1.0; 3]).azimuth(33.0).elevation(-20.0)
}

fn options(mode: Mode) -> Options {
    Options { width: 320, height: 280, mode, background: [0.0, 0.0, 0.0, 1.0], ..Options::default() }
}

fn pool(device: &Device) -> Pool<CudaBackend> {
    Pool::new(small_backend(device.clone()), 200 * PAGE).unwrap()
}

fn array(pool: &Pool<CudaBackend>, source: impl TileSource<u8> + 'static) -> SparseArray3D<u8, CudaBackend> {
    SparseArray3D::builder(pool, source).tile([TILE; 3]).page_bytes(PAGE).track_ranges().build().unwrap()
}

/// The tiles that were read.
fn read(watch: &Instruments) -> BTreeSet<TileCoord> {
    let tile = |start: vastgrid::Coord| TileCoord::new(start.x / TILE, start.y / TILE, start.z / TILE);
    watch.reads_by_region().into_iter().map(|(region, _)| tile(region.start)).collect()
}

/// The tiles of which anything is seen with so many voxels around, and those before them along each axis, which samples are taken between.
fn near(hollow: Hollow, factor: f64, around: f64, extent: Extent) -> BTreeSet<TileCoord> {
    let Region { start, extent: size } = hollow.seen(factor, around).clipped_to(extent);
    let (start, size) = (start.to_array(), size.to_array());
    let along = |a: usize| (start[a] / TILE).saturating_sub(1)..=(start[a] + size[a]) / TILE;
    along(2)
        .flat_map(|z| along(1).flat_map(move |y| along(0).map(move |x| TileCoord::new(x, y, z))))
        .collect()
}

#[test]
fn a_first_picture_loads_what_shows_something_and_no_more() {
    let Some(device) = device_or_skip() else { return };
    let _alone = alone();
    let hollow = Hollow::new(FULL, 40.0);
    let index = Arc::new(index_of(&hollow.level(1.0).0, Extent::cube(8)));
    let caster = CudaCaster::new(&device).unwrap();
    for mode in modes(100.0) {
        let exact = |array: &SparseArray3D<u8, CudaBackend>, pool: &Pool<CudaBackend>| {
            caster.render_exact(pool, array, &camera(), &transfer(), &options(mode), &mut |_| {}).unwrap()
        };
        let (source, without) = hollow.level(1.0);
        let first = pool(&device);
        let plain = exact(&array(&first, source), &first);
        let (source, with) = hollow.level(1.0);
        let second = pool(&device);
        let indexed = array(&second, Ranged::new(source, index.clone()).unwrap());

        // What is wanted before anything is loaded.
        let frame = second.device_frame();
        let picture =
            caster.render(&frame, &CastVolume::of(&indexed), &camera(), &transfer(), &options(mode));
        let wanted: BTreeSet<_> =
            picture.unwrap().wait().unwrap().report.wanted.iter().map(|wanted| wanted.tile).collect();
        frame.end().unwrap();

        let picture = exact(&indexed, &second);
        let differs = difference(&plain, &picture);
        println!("{mode:?}, with an index and without: {differs}");
        assert!(differs.is_rounding(), "{mode:?}: {differs}");
        let everything =
            Bricks::new(indexed.layout(), |_| true, |c| hollow.value(c.to_array().map(|v| v as f64)));
        let host = render(&everything, &camera(), &transfer(), &options(mode)).unwrap().image;
        for (name, image) in [("with", &picture), ("without", &plain)] {
            let differs = difference(&host, image);
            println!("{mode:?}, {name} an index and on the host: {differs}");
            assert!(differs.is_near(), "{mode:?}, {name} an index: {differs}");
        }
        let (with, without) = (read(&with), read(&without));
        println!("{mode:?}: {} tiles read, {} without an index", with.len(), without.len());
        if !matches!(mode, Mode::Mip) {
            // Three voxels, for gradients and rounding.
            let near = near(hollow, 1.0, 3.0, FULL);
            assert!(wanted.is_subset(&near), "{mode:?} wants {:?}", wanted.difference(&near));
            // An exact picture loads tiles in the groups that its rays wait for.
            let grouped = self::near(hollow, 1.0, TILE as f64 + 1.0, FULL);
            assert!(with.is_subset(&grouped), "{mode:?}: {:?}", with.difference(&grouped));
            assert!(!wanted.is_empty() && without.len() > 3 * with.len(), "{mode:?}");
        }
    }
}

fn explorer(device: &Device, source: PyramidSource<u8>) -> Explorer<u8, CudaBackend, CudaCaster> {
    let builder = Pyramid3D::builder(&pool(device), source);
    let pyramid = builder.tile([TILE; 3]).page_bytes(PAGE).track_ranges().build().unwrap();
    Explorer::with_renderer(pyramid, CudaCaster::new(device).unwrap(), StreamOptions::default()).unwrap()
}

fn settle(explorer: &mut Explorer<u8, CudaBackend, CudaCaster>, options: &Options) -> Image {
    for _ in 0..300 {
        let explored = explorer.picture(&camera().dolly(2.0), &transfer(), options).unwrap();
        if explored.fidelity.is_converged() {
            return explored.image;
        }
        assert!(explorer.wait_idle(Duration::from_secs(20)));
    }
    panic!("never settles");
}

#[test]
fn explorers_never_load_what_is_known_to_be_empty() {
    let Some(device) = device_or_skip() else { return };
    let _alone = alone();
    let hollow = Hollow::new(FULL, 40.0);
    let options = options(Mode::Dvr { shading: None });
    let (mut plain, mut indexed) = (PyramidSource::builder(), PyramidSource::builder());
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for factor in [1.0, 2.0, 4.0] {
        let (source, watch) = hollow.level(factor);
        plain = plain.level([factor; 3], source);
        without.push(watch);
        let (source, watch) = hollow.indexed(factor, Extent::cube(8));
        indexed = indexed.level([factor; 3], source);
        with.push(watch);
    }
    let plain = settle(&mut explorer(&device, plain.build().unwrap()), &options);
    let mut explorer = explorer(&device, indexed.build().unwrap());
    let differs = difference(&plain, &settle(&mut explorer, &options));
    println!("with an index and without: {differs}");
    assert!(differs.is_rounding(), "{differs}");
    let (mut few, mut many) = (0, 0);
    for (level, factor) in [(0, 1.0), (1, 2.0)] {
        // A tile around, as on the host.
        let near = near(hollow, factor, TILE as f64 + 1.0, explorer.pyramid().level(level).unwrap().extent());
        let read = read(&with[level]);
        assert!(read.is_subset(&near), "level {level}: {:?}", read.difference(&near));
        few += read.len();
        many += without[level].reads();
    }
    println!("{few} tiles of the finer levels read, {many} without an index");
    assert!(few > 0 && many > 3 * few as u64);
}
