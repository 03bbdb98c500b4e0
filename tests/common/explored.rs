//! A small pyramid to look at while it loads, for tests of explorers.

use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::{Camera, Mode, Options, Orbit, TransferFunction};
use vastgrid::{
    Explorer, Extent, Fidelity, HostBackend, Pool, PoolConfig, Pyramid3D, PyramidSource, StreamOptions,
    TileSource,
};

pub(crate) const FULL: Extent = Extent::new(120, 112, 100);
/// A tile of 16^3 has one of its own.
pub(crate) const PAGE: u64 = 4096;

/// Hills and valleys, from 0 to 250.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 250")]
pub(crate) fn hills([x, y, z]: [f64; 3]) -> u8 {
    (125.0 + 62.0 * ((x * 0.11).sin() * (y * 0.07).cos() + (z * 0.09 + x * 0.02).sin())) as u8
}

/// An explorer of three levels, through so many pages.
pub(crate) fn explorer<S: TileSource<u8> + 'static>(
    pages: u64,
    threads: usize,
    options: StreamOptions,
    mut level: impl FnMut(LevelGeometry) -> S,
) -> Explorer<u8, HostBackend> {
    let mut builder = PyramidSource::builder();
    for factor in [1.0, 2.0, 4.0] {
        builder = builder.level([factor; 3], level(LevelGeometry::new(FULL, [factor; 3])));
    }
    let config = PoolConfig { budget_bytes: pages * PAGE, threads, ..PoolConfig::default() };
    let pool = Pool::with_config(HostBackend::new(), config).unwrap();
    let source = builder.build().unwrap();
    let pyramid = Pyramid3D::builder(&pool, source).tile([16, 16, 16]).track_ranges().build().unwrap();
    Explorer::new(pyramid, options).unwrap()
}

/// Requests are made where a test says so, of so many tiles.
pub(crate) fn threadless(batch_tiles: usize) -> StreamOptions {
    StreamOptions { threads: 0, batch_tiles, ..StreamOptions::default() }
}

pub(crate) fn around(azimuth_degrees: f64, distance: f64) -> Camera {
    let target = [60.0, 56.0, 50.0];
    Camera::orbit(Orbit { target, azimuth_degrees, elevation_degrees: 15.0, distance, fov_degrees: 50.0 })
}

/// A picture without a hole.
pub(crate) fn look(explorer: &mut Explorer<u8, HostBackend>, camera: &Camera) -> Fidelity {
    let transfer = TransferFunction::new(
        &[(0.0, 0.0), (90.0, 0.0), (140.0, 0.05), (250.0, 0.4)],
        &[(0.0, [0.1, 0.2, 0.9]), (250.0, [1.0, 0.8, 0.2])],
        1.0,
    )
    .unwrap();
    let options = Options { width: 64, height: 48, mode: Mode::Dvr { shading: None }, ..Options::default() };
    let fidelity = explorer.picture(camera, &transfer, &options).unwrap().fidelity;
    assert_eq!(fidelity.uncovered_rays, 0, "never a hole");
    fidelity
}
