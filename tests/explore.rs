//! Pictures of pyramids while they load: what they show at any budget, what they say of themselves, and that they end where unlimited memory would.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::pictures::modes;
use vastgrid::backend::HostBackend;
use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::{
    Camera, DenseVolume, Image, LevelCaches, Mode, Options, RenderLevel, TransferFunction, render,
    render_levels,
};
use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{
    Coord, Explorer, Extent, Fidelity, FidelityLimit, Pool, PoolConfig, Pyramid3D, PyramidSource, Region,
    StreamOptions, TileSource, TileState,
};

const FULL: Extent = Extent::new(120, 112, 100);
const FACTORS: [f64; 3] = [1.0, 2.0, 4.0];
const PAGE: u64 = 4096;

/// Something to see everywhere: hills and valleys, at the centre of a voxel of any level.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 250")]
fn value([x, y, z]: [f64; 3]) -> u8 {
    let wave = (x * 0.11).sin() * (y * 0.07).cos() + (z * 0.09 + x * 0.02).sin();
    (125.0 + 62.0 * wave) as u8
}

fn level(factor: f64) -> LevelGeometry {
    LevelGeometry::new(FULL, [factor; 3])
}

/// One instrumented source for each level.
fn sources() -> (PyramidSource<u8>, Vec<Instruments>) {
    let mut builder = PyramidSource::builder();
    let mut instruments = Vec::new();
    for factor in FACTORS {
        let geometry = level(factor);
        let source = Procedural::new(geometry.extent(), move |c: Coord| value(geometry.centre(c)));
        let source = Instrumented::new(source);
        instruments.push(source.instruments());
        builder = builder.level([factor; 3], source);
    }
    (builder.build().unwrap(), instruments)
}

fn explorer(pages: u64, threads: usize) -> (Explorer<u8, HostBackend>, Vec<Instruments>) {
    let (source, instruments) = sources();
    let config = PoolConfig {
        budget_bytes: pages * PAGE,
        threads: 2,
        patience: Duration::from_secs(5),
        ..PoolConfig::default()
    };
    let pool = Pool::with_config(HostBackend::new(), config).unwrap();
    let pyramid = Pyramid3D::builder(&pool, source).tile([16, 16, 16]).track_ranges().build().unwrap();
    (Explorer::new(pyramid, StreamOptions { threads, ..StreamOptions::default() }).unwrap(), instruments)
}

/// Pages of the coarsest level, which are always there.
fn coarsest_pages() -> u64 {
    let extent = level(4.0).extent().to_array();
    extent.into_iter().map(|n| n.div_ceil(16)).product()
}

/// The levels, dense.
struct Dense(Vec<(Vec<u8>, Extent)>);

impl Dense {
    fn new() -> Self {
        Self(
            FACTORS
                .iter()
                .map(|&factor| {
                    let geometry = level(factor);
                    let extent = geometry.extent();
                    let mut voxels = vec![0; usize::try_from(extent.checked_volume().unwrap()).unwrap()];
                    Procedural::new(extent, move |c: Coord| value(geometry.centre(c)))
                        .read(Region::whole(extent), &mut voxels)
                        .unwrap();
                    (voxels, extent)
                })
                .collect(),
        )
    }

    /// What unlimited memory gives at this bias.
    fn picture(&self, camera: &Camera, options: &Options, bias: f64) -> Image {
        let volumes: Vec<_> = self.0.iter().map(|(v, e)| DenseVolume::new(v, *e).unwrap()).collect();
        let levels: Vec<_> =
            volumes.iter().zip(FACTORS).map(|(volume, f)| RenderLevel { volume, factor: [f; 3] }).collect();
        let rendered =
            render_levels(&levels, camera, &transfer(), options, bias, &mut LevelCaches::default()).unwrap();
        assert!(rendered.report.is_complete());
        rendered.image
    }
}

fn transfer() -> TransferFunction {
    TransferFunction::new(
        &[(0.0, 0.0), (90.0, 0.0), (140.0, 0.05), (250.0, 0.4)],
        &[(0.0, [0.1, 0.2, 0.9]), (250.0, [1.0, 0.8, 0.2])],
        1.0,
    )
    .unwrap()
}

fn options(mode: Mode) -> Options {
    Options { width: 96, height: 80, mode, background: [0.0, 0.0, 0.0, 1.0], ..Options::default() }
}

/// Close enough that the near half wants level 0 and the far one level 1.
fn camera() -> Camera {
    Camera::look_at(
        [60.0, -30.0, 50.0],
        [60.0, 56.0, 50.0],
        [0.0, 0.0, 1.0],
        vastgrid::render::Projection::Perspective { fov_degrees: 60.0 },
    )
}

/// Looks until waiting changes nothing; every picture on the way covers all rays.
fn settle(
    explorer: &mut Explorer<u8, HostBackend>,
    camera: &Camera,
    options: &Options,
) -> (Image, Fidelity, u32) {
    for picture in 1..300 {
        let explored = explorer.picture(camera, &transfer(), options).unwrap();
        assert_eq!(explored.fidelity.uncovered_rays, 0, "picture {picture}: {}", explored.fidelity);
        let stats = explorer.pyramid().pool().stats();
        assert!(stats.used_bytes <= stats.budget_bytes);
        if explored.fidelity.is_converged() {
            return (explored.image, explored.fidelity, picture);
        }
        assert!(explorer.wait_idle(Duration::from_secs(20)));
    }
    panic!("never settles");
}

fn compare(a: &Image, b: &Image, what: &str) {
    let pairs = a.pixels().iter().flatten().zip(b.pixels().iter().flatten());
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    let seen = b.pixels().iter().filter(|p| p[0] + p[1] + p[2] > 0.05).count();
    assert!(seen > 500, "{what}: there is something to see in {seen} pixels");
    assert!(worst <= 0.5 / 255.0, "{what}: {} of 255 apart", worst * 255.0);
}

/// Pages that a mode's picture needs at no bias.
fn working_set(options: &Options) -> u64 {
    let (mut explorer, _) = explorer(4096, 2);
    let (_, fidelity, _) = settle(&mut explorer, &camera(), options);
    assert!(fidelity.is_exact(), "{fidelity}");
    fidelity.needed_bytes / PAGE
}

#[test]
fn at_every_budget_pictures_end_as_unlimited_memory_would_have_them_at_that_bias() {
    let dense = Dense::new();
    for mode in modes(150.0) {
        let options = options(mode);
        let needed = working_set(&options);
        assert!(needed > 60, "{needed} pages is no working set");
        for quarters in [1, 2, 4, 8, 16] {
            let pages = (needed * quarters).div_ceil(4) + coarsest_pages();
            let (mut explorer, _) = explorer(pages, 2);
            let (image, fidelity, pictures) = settle(&mut explorer, &camera(), &options);
            println!("{mode:?} at {quarters}/4: {pictures} pictures, {fidelity}");
            assert_eq!(fidelity.missing_tiles, 0);
            compare(
                &image,
                &dense.picture(&camera(), &options, fidelity.bias),
                &format!("{mode:?}, {quarters}/4"),
            );
            if quarters >= 4 {
                assert!(fidelity.is_exact(), "the budget holds it all: {fidelity}");
            } else {
                assert_eq!(fidelity.limit, FidelityLimit::Budget, "{fidelity}");
                assert!(fidelity.bias > 0.0 && !fidelity.is_exact());
            }
        }
    }
}

#[test]
fn where_only_the_finest_level_is_wanted_the_picture_is_that_of_the_plain_caster() {
    let dense = Dense::new();
    let (voxels, extent) = &dense.0[0];
    let volume = DenseVolume::new(voxels, *extent).unwrap();
    for mode in modes(150.0) {
        let options = options(mode);
        let camera =
            Camera { projection: vastgrid::render::Projection::Orthographic { height: 90.0 }, ..camera() };
        let plain = render(&volume, &camera, &transfer(), &options).unwrap();
        let (mut explorer, _) = explorer(4096, 2);
        let (image, fidelity, _) = settle(&mut explorer, &camera, &options);
        assert!(fidelity.is_exact() && fidelity.share_as_wanted() >= 1.0, "{fidelity}");
        assert!(image == plain.image, "bit for bit");
    }
}

#[test]
fn the_first_picture_shows_the_coarsest_level_and_reads_nothing_for_it() {
    let (mut explorer, instruments) = explorer(4096, 0);
    let reads = || instruments.iter().map(Instruments::reads).collect::<Vec<_>>();
    let before = reads();
    let options = options(Mode::Mip);
    let explored = explorer.picture(&camera(), &transfer(), &options).unwrap();
    assert_eq!(reads(), before, "nobody but a step reads");
    let fidelity = explored.fidelity;
    assert!(fidelity.uncovered_rays == 0 && fidelity.missing_tiles > 0 && !fidelity.is_converged());
    assert_eq!(fidelity.limit, FidelityLimit::Loading);
    assert!(fidelity.share_as_wanted() < 0.5 && fidelity.shown.iter().all(|row| row[0] == 0 && row[1] == 0));
    // Coarse tiles come first.
    while instruments[1].reads() == before[1] {
        assert!(explorer.streamer().step());
    }
    assert_eq!(instruments[0].reads(), before[0]);
}

#[test]
fn a_steady_view_beyond_the_budget_reads_nothing_once_it_is_settled() {
    let options = options(Mode::Dvr { shading: None });
    let pages = working_set(&options) / 3 + coarsest_pages();
    let (mut explorer, instruments) = explorer(pages, 2);
    settle(&mut explorer, &camera(), &options);
    let reads = || instruments.iter().map(Instruments::reads).sum::<u64>();
    let before = reads();
    for _ in 0..30 {
        let explored = explorer.picture(&camera(), &transfer(), &options).unwrap();
        assert!(explored.fidelity.is_converged(), "{}", explored.fidelity);
        explorer.wait_idle(Duration::from_secs(5));
    }
    assert_eq!(reads(), before, "no thrashing");
    // A larger budget is made use of, and a smaller one kept, while one looks.
    explorer.pyramid().pool().set_budget(4096 * PAGE).unwrap();
    let (_, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert!(fidelity.is_exact(), "{fidelity}");
    explorer.pyramid().pool().set_budget(pages * PAGE).unwrap();
    let (_, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert_eq!(fidelity.limit, FidelityLimit::Budget);
}

#[test]
fn tiles_that_fail_are_shown_coarser_and_told() {
    let (mut explorer, instruments) = explorer(4096, 2);
    instruments[0].fail_region(Region::whole(level(1.0).extent()));
    let options = options(Mode::Dvr { shading: None });
    let (_, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert_eq!(fidelity.limit, FidelityLimit::Failures, "{fidelity}");
    assert!(fidelity.failed_tiles > 0 && fidelity.failed_tiles == fidelity.missing_tiles);
    let failures = explorer.failures();
    assert!(
        !failures.is_empty() && failures[0].error.to_string().contains("level 0"),
        "{}",
        failures[0].error
    );
    instruments[0].clear_faults();
    assert!(explorer.retry_failed() >= fidelity.failed_tiles);
    let (_, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert!(fidelity.is_exact(), "{fidelity}");
}

#[test]
fn a_stalled_source_keeps_no_picture_waiting() {
    let (mut explorer, instruments) = explorer(4096, 2);
    for i in &instruments {
        i.set_delay(Duration::from_millis(300));
    }
    let options = options(Mode::Mip);
    let mut pictures = 0;
    let loaded = explorer.streamer().status().loaded;
    while explorer.streamer().status().loaded == loaded {
        let explored = explorer.picture(&camera(), &transfer(), &options).unwrap();
        assert_eq!(explored.fidelity.uncovered_rays, 0);
        pictures += 1;
    }
    assert!(pictures > 1, "pictures are made while a source stalls");
    drop(Arc::new(explorer));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let dense = Dense::new();
    let volume = DenseVolume::new(&dense.0[0].0, dense.0[0].1).unwrap();
    let (camera, transfer, options) = (camera(), transfer(), options(Mode::Mip));
    let with = |levels: &[RenderLevel<'_, DenseVolume<'_, u8>>], bias: f64| {
        render_levels(levels, &camera, &transfer, &options, bias, &mut LevelCaches::default())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let one = RenderLevel { volume: &volume, factor: [1.0; 3] };
    assert!(with(&[], 0.0).contains("0 levels"));
    assert!(with(&[one; 17], 0.0).contains("17 levels"));
    assert!(with(&[one], f64::NAN).contains("bias"));
    let coarse = RenderLevel { factor: [2.0; 3], ..one };
    assert!(with(&[coarse, one], 0.0).contains("factor"));
    assert!(with(&[RenderLevel { factor: [f64::NAN; 3], ..one }], 0.0).contains("factor"));
}

#[test]
fn what_is_frozen_is_neither_loaded_nor_evicted() {
    let (mut explorer, instruments) = explorer(4096, 2);
    let options = options(Mode::Dvr { shading: None });
    settle(&mut explorer, &camera(), &options);
    explorer.freeze(true);
    let reads = || instruments.iter().map(Instruments::reads).sum::<u64>();
    let resident = |explorer: &Explorer<u8, HostBackend>| explorer.pyramid().pool().stats().resident_tiles;
    let before = (reads(), resident(&explorer));
    let behind = Camera { eye: [60.0, 140.0, 50.0], ..camera() };
    for _ in 0..8 {
        let fidelity = explorer.picture(&behind, &transfer(), &options).unwrap().fidelity;
        assert!(explorer.is_frozen() && fidelity.is_converged() && !fidelity.is_exact(), "{fidelity}");
        assert_eq!((fidelity.limit, fidelity.bias), (FidelityLimit::Paused, 0.0), "{fidelity}");
        assert!(fidelity.missing_tiles > 0 && fidelity.uncovered_rays == 0);
    }
    assert_eq!((reads(), resident(&explorer)), before);
    explorer.freeze(false);
    let (_, fidelity, _) = settle(&mut explorer, &behind, &options);
    assert!(fidelity.is_exact(), "{fidelity}");
}

#[test]
fn what_is_flushed_begins_anew() {
    let (mut explorer, _) = explorer(4096, 2);
    let options = options(Mode::Dvr { shading: None });
    let (before, _, _) = settle(&mut explorer, &camera(), &options);
    let pool = explorer.pyramid().pool().clone();
    let used_bytes = pool.stats().used_bytes;
    let evicted = explorer.flush().unwrap();
    let stats = pool.stats();
    assert_eq!(stats.resident_tiles, coarsest_pages(), "the coarsest level stays");
    assert_eq!(stats.used_bytes, used_bytes - evicted * PAGE, "memory is given back");
    let first = explorer.picture(&camera(), &transfer(), &options).unwrap();
    assert!(first.fidelity.missing_tiles > 0 && first.image != before);
    let (after, fidelity, _) = settle(&mut explorer, &camera(), &options);
    assert!(fidelity.is_exact() && after == before, "{fidelity}");
}

#[test]
fn every_tile_of_a_picture_says_what_state_it_is_in() {
    let (mut explorer, instruments) = explorer(4096, 0);
    let options = options(Mode::Mip);
    let states = |explorer: &Explorer<u8, HostBackend>| {
        let mut counts = std::collections::HashMap::new();
        for tile in explorer.tiles() {
            *counts.entry((tile.level, tile.state)).or_insert(0u64) += 1;
        }
        counts
    };
    assert!(explorer.tiles().is_empty(), "before the first picture");
    let fidelity = explorer.picture(&camera(), &transfer(), &options).unwrap().fidelity;
    let first = states(&explorer);
    let missing: u64 = [0, 1].into_iter().filter_map(|level| first.get(&(level, TileState::Missing))).sum();
    assert_eq!(missing, fidelity.missing_tiles);
    assert!(first.contains_key(&(2, TileState::Resident)), "{first:?}");

    instruments[1].fail_region(Region::whole(level(2.0).extent()));
    while explorer.streamer().step() {}
    explorer.picture(&camera(), &transfer(), &options).unwrap();
    let then = states(&explorer);
    assert!(then.contains_key(&(0, TileState::Resident)) && then.contains_key(&(1, TileState::Failed)));
    assert!(!then.contains_key(&(1, TileState::Resident)), "{then:?}");
}

#[test]
fn tiles_under_way_and_tiles_of_one_value_are_told() {
    // Empty but for a quarter of it.
    let extent = Extent::cube(64);
    let something = |x: u64| if x < 32 { 100u8 } else { 0 };
    let fine = Procedural::new(extent, move |c: Coord| something(c.x) + u8::try_from(c.y).unwrap())
        .with_uniform(|region| (region.start.x >= 48).then_some(0));
    let fine = Instrumented::new(fine);
    let slow = fine.instruments();
    let coarse = Procedural::new(Extent::cube(16), move |c: Coord| something(c.x * 4));
    let source = PyramidSource::builder().level([1.0; 3], fine).level([4.0; 3], coarse).build().unwrap();
    let pool = Pool::new(HostBackend::new(), 4096 * PAGE).unwrap();
    let pyramid = Pyramid3D::builder(&pool, source).tile([16, 16, 16]).build().unwrap();
    let mut explorer = Explorer::new(pyramid, StreamOptions::default()).unwrap();
    slow.set_delay(Duration::from_millis(200));
    let camera = Camera::fit(extent, [1.0; 3]);
    let mut states = std::collections::HashSet::new();
    for _ in 0..200 {
        explorer.picture(&camera, &transfer(), &options(Mode::Mip)).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        states.extend(explorer.tiles().into_iter().map(|tile| tile.state));
        if states.contains(&TileState::Uniform) && states.contains(&TileState::Loading) {
            return;
        }
    }
    panic!("only {states:?}");
}

#[test]
fn a_picture_that_nobody_waits_for_is_given_up() {
    let (mut explorer, instruments) = explorer(4096, 0);
    let (stop, options) = (std::sync::atomic::AtomicBool::new(true), options(Mode::Mip));
    let before = instruments.iter().map(Instruments::reads).sum::<u64>();
    let none = explorer.picture_unless(&camera(), &transfer(), &options, &stop).unwrap();
    assert!(none.is_none() && !explorer.streamer().step(), "nothing is wanted for it");
    stop.store(false, std::sync::atomic::Ordering::Relaxed);
    let some = explorer.picture_unless(&camera(), &transfer(), &options, &stop).unwrap();
    assert!(some.unwrap() == explorer.picture(&camera(), &transfer(), &options).unwrap());
    assert_eq!(instruments.iter().map(Instruments::reads).sum::<u64>(), before);
}
