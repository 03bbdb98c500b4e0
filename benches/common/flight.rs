//! Flights around and through a volume that is computed where it is read: what is recorded in `assets/traces`, and what is timed.

use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::{Camera, Mode, Options, Orbit, Projection, TransferFunction};
use vastgrid::source::{Instrumented, Instruments, Procedural};
use vastgrid::{
    Coord, Explorer, Extent, HostBackend, Pool, PoolConfig, Pyramid3D, PyramidSource, StreamOptions,
};

pub(crate) const FULL: Extent = Extent::cube(256);
const SIDE: f64 = 256.0;

/// Pictures at the end of each flight from where it ends.
pub(crate) const AT_REST: usize = 24;

fn value([x, y, z]: [f64; 3]) -> u8 {
    let wave = (x * 0.062).sin() * (y * 0.046).cos() + (z * 0.054 + x * 0.022).sin();
    (125.0 + 62.0 * wave) as u8
}

pub(crate) fn transfer() -> TransferFunction {
    let opacity = [(0.0, 0.0), (133.0, 0.0), (156.0, 0.03), (250.0, 0.3)];
    TransferFunction::new(&opacity, &[(0.0, [0.2, 0.4, 1.0]), (250.0, [1.0, 0.9, 0.4])], 1.0).unwrap()
}

pub(crate) fn options() -> Options {
    Options { width: 160, height: 160, mode: Mode::Dvr { shading: None }, ..Options::default() }
}

/// An explorer of the volume, and what its levels were asked for.
pub(crate) fn explorer(
    budget_bytes: u64,
    options: StreamOptions,
) -> (Explorer<u8, HostBackend>, Vec<Instruments>) {
    let mut builder = PyramidSource::builder();
    let mut instruments = Vec::new();
    for factor in [1.0, 2.0, 4.0, 8.0] {
        let geometry = LevelGeometry::new(FULL, [factor; 3]);
        let source = Procedural::new(geometry.extent(), move |c: Coord| value(geometry.centre(c)));
        let source = Instrumented::new(source);
        instruments.push(source.instruments());
        builder = builder.level([factor; 3], source);
    }
    let config = PoolConfig { budget_bytes, threads: 2, ..PoolConfig::default() };
    let pool = Pool::with_config(HostBackend::new(), config).unwrap();
    let pyramid = Pyramid3D::builder(&pool, builder.build().unwrap())
        .tile([16, 16, 16])
        .track_ranges()
        .build()
        .unwrap();
    (Explorer::new(pyramid, options).unwrap(), instruments)
}

/// What the coarsest level takes, which is always there.
pub(crate) const PINNED_BYTES: u64 = 8 * 4096;

/// The flights, by name.
pub(crate) fn flights() -> Vec<(&'static str, Vec<Camera>)> {
    let around = |azimuth: f64, elevation: f64, distance: f64| {
        Camera::orbit(Orbit {
            target: [SIDE / 2.0; 3],
            azimuth_degrees: azimuth,
            elevation_degrees: elevation,
            distance,
            fov_degrees: 45.0,
        })
    };
    let orbit = (0..90).map(|i| around(f64::from(i) * 1.5, 20.0, 210.0)).collect();
    let through = (0..100).map(|i| {
        let t = f64::from(i) / 99.0;
        let at = |t: f64| {
            let turn = t * 3.0;
            [
                SIDE * (0.5 + 0.3 * (turn * 1.3).sin()),
                SIDE * (-0.5 + 1.1 * t),
                SIDE * (0.5 + 0.25 * turn.cos()),
            ]
        };
        Camera::look_at(at(t), at(t + 0.15), [0.0, 0.0, 1.0], Projection::Perspective { fov_degrees: 60.0 })
    });
    let zoom = (0..90).map(|i| {
        let t = (f64::from(i) / 89.0 * std::f64::consts::PI).sin();
        around(30.0 + 20.0 * t, 25.0, 480.0 - 340.0 * t)
    });
    let views = [around(0.0, 10.0, 200.0), around(120.0, -20.0, 170.0), around(210.0, 40.0, 260.0)];
    let cuts =
        [0, 1, 0, 2, 1, 2, 0, 1].into_iter().flat_map(|view| std::iter::repeat_n(views[view], 10)).collect();
    let all = [("orbit", orbit), ("through", through.collect()), ("zoom", zoom.collect()), ("cuts", cuts)];
    all.into_iter().map(|(name, cameras)| (name, at_rest(cameras))).collect()
}

/// The same with short numbers, and some pictures more from where it ends.
fn at_rest(cameras: Vec<Camera>) -> Vec<Camera> {
    let short = |place: [f64; 3]| place.map(|v| (v * 8.0).round() / 8.0);
    let short = |c: Camera| Camera { eye: short(c.eye), target: short(c.target), ..c };
    let mut cameras: Vec<_> = cameras.into_iter().map(short).collect();
    let last = cameras[cameras.len() - 1];
    cameras.extend(std::iter::repeat_n(last, AT_REST));
    cameras
}

/// What the largest view of a flight needs, with all of it there.
pub(crate) fn working_set(cameras: &[Camera]) -> u64 {
    // Step by step, so that it is the same each time.
    let (mut explorer, _) = explorer(1 << 30, StreamOptions { threads: 0, ..StreamOptions::default() });
    let mut most = 0;
    for camera in cameras.iter().step_by(8) {
        loop {
            let fidelity = explorer.picture(camera, &transfer(), &options()).unwrap().fidelity;
            if fidelity.is_converged() {
                most = most.max(fidelity.needed_bytes);
                break;
            }
            while explorer.streamer().step() {}
        }
    }
    most
}
