//! Pictures of pyramids: how soon is the first one there, and what do they cost where all is resident against our own caster over dense arrays?
//!
//! *First*: from before a pyramid of 2048^3 `u16` is built to its first picture, by formula and from files, whether the system has them in memory or not. *Resident*: a view whose rays want level 0 alone, and one that wants several.
//! What is seen on the way is `fly_through`'s.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of a known size"
)]

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use common::{median, rounds, size};
use vastgrid::pyramid::LevelGeometry;
use vastgrid::render::{
    Camera, DenseVolume, LevelCaches, Mode, Options, Projection, RenderLevel, Shading, SkipCache,
    TransferFunction, render_levels, render_with,
};
use vastgrid::source::{Procedural, RawFile, RawSpec};
use vastgrid::{
    Coord, Explorer, Extent, HostBackend, Pool, Pyramid3D, PyramidSource, Region, StreamOptions, TileSource,
};

fn value([x, y, z]: [f64; 3]) -> u16 {
    let wave = (x * 0.031).sin() * (y * 0.023).cos() + (z * 0.027 + x * 0.011).sin();
    (16_000.0 + 7_900.0 * wave) as u16
}

fn transfer() -> TransferFunction {
    let opacity = [(0.0, 0.0), (17_000.0, 0.0), (20_000.0, 0.02), (32_000.0, 0.2)];
    TransferFunction::new(&opacity, &[(0.0, [0.2, 0.4, 1.0]), (32_000.0, [1.0, 0.9, 0.4])], 1.0).unwrap()
}

fn options(mode: Mode) -> Options {
    let side = size(512, 64);
    Options { width: side, height: side, mode, ..Options::default() }
}

/// The levels of 2048^3 voxels, by formula, or from files: of these the first picture reads the coarsest alone, so the others' are as long as they must be, and empty.
fn first_source(folder: Option<&Path>) -> PyramidSource<u16> {
    let full = Extent::cube(2048);
    let Some(folder) = folder else { return PyramidSource::procedural(full, value).unwrap() };
    let mut builder = PyramidSource::builder();
    for log2 in 0..6 {
        let geometry = LevelGeometry::new(full, [f64::from(1 << log2); 3]);
        let path = folder.join(format!("{log2}.raw"));
        let level = RawFile::<u16>::open(path, RawSpec::new(geometry.extent())).unwrap();
        builder = builder.level(geometry.factor(), level);
    }
    builder.build().unwrap()
}

fn write_levels(folder: &Path) {
    for log2 in 0..6 {
        let geometry = LevelGeometry::new(Extent::cube(2048), [f64::from(1 << log2); 3]);
        let voxels = geometry.extent().checked_volume().unwrap();
        let file = File::create(folder.join(format!("{log2}.raw"))).unwrap();
        file.set_len(voxels * 2).unwrap();
        if log2 == 5 {
            let mut level = vec![0u16; voxels as usize];
            let source = Procedural::new(geometry.extent(), move |c: Coord| value(geometry.centre(c)));
            source.read(Region::whole(geometry.extent()), &mut level).unwrap();
            (&file).write_all(bytemuck::cast_slice(&level)).unwrap();
            file.sync_all().unwrap();
        }
    }
}

/// Has the system forget what it read of them.
fn forget(folder: &Path) {
    for log2 in 0..6 {
        let file = File::open(folder.join(format!("{log2}.raw"))).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn first() {
    let folder = tempfile::tempdir().unwrap();
    write_levels(folder.path());
    for (name, from_disk, cold) in [
        ("by formula", false, false),
        ("from files that were read before", true, false),
        ("from files that were not", true, true),
    ] {
        let mut times = [256, 512].map(|side| (side, Vec::new()));
        for _ in 0..rounds(9) {
            for (side, times) in &mut times {
                if cold {
                    forget(folder.path());
                }
                let start = Instant::now();
                let source = first_source(from_disk.then_some(folder.path()));
                let pool = Pool::new(HostBackend::new(), 512 << 20).unwrap();
                let builder = Pyramid3D::builder(&pool, source).tile([32, 32, 32]);
                let pyramid = builder.track_ranges().build().unwrap();
                let mut explorer = Explorer::new(pyramid, StreamOptions::default()).unwrap();
                let camera = Camera::fit(Extent::cube(2048), [1.0; 3]);
                let options = Options { width: *side, height: *side, ..options(Mode::Dvr { shading: None }) };
                let picture = explorer.picture(&camera, &transfer(), &options).unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e3);
                assert_eq!(picture.fidelity.uncovered_rays, 0);
            }
        }
        for (side, times) in &mut times {
            println!(
                "2048^3 u16 {name}, {side}^2 pixels: the first picture after {:.0} ms (target 100)",
                median(times)
            );
        }
    }
}

/// Level 0 and one of half the resolution, dense and in a pyramid that is all resident.
fn resident() {
    let full = Extent::cube(256);
    let geometries = [1.0, 2.0].map(|f| LevelGeometry::new(full, [f; 3]));
    let dense = geometries.map(|geometry| {
        let mut voxels = vec![0u16; geometry.extent().checked_volume().unwrap() as usize];
        let source = Procedural::new(geometry.extent(), move |c: Coord| value(geometry.centre(c)));
        source.read(Region::whole(geometry.extent()), &mut voxels).unwrap();
        voxels
    });
    let volumes = [0, 1].map(|l| DenseVolume::new(&dense[l], geometries[l].extent()).unwrap());
    let mut builder = PyramidSource::builder();
    for geometry in geometries {
        let source = Procedural::new(geometry.extent(), move |c: Coord| value(geometry.centre(c)));
        builder = builder.level(geometry.factor(), source);
    }
    let pool = Pool::new(HostBackend::new(), 1 << 30).unwrap();
    let pyramid = Pyramid3D::builder(&pool, builder.build().unwrap())
        .tile([32, 32, 32])
        .track_ranges()
        .build()
        .unwrap();
    pyramid.level(0).unwrap().request_region(Region::whole(full)).unwrap().complete().unwrap();
    let near = Camera {
        projection: Projection::Orthographic { height: 256.0 },
        ..Camera::fit(full, [1.0; 3]).azimuth(30.0).elevation(20.0)
    };
    let far = Camera::fit(full, [1.0; 3]).azimuth(30.0).elevation(20.0);
    for (name, mode) in [
        ("unshaded", Mode::Dvr { shading: None }),
        ("shaded", Mode::Dvr { shading: Some(Shading::default()) }),
    ] {
        for (view, camera) in [("level 0 alone", near), ("as pixels want", far)] {
            let (options, transfer) = (options(mode), transfer());
            let frame = pool.frame();
            let views = [0, 1].map(|l| frame.view(pyramid.level(l).unwrap()).unwrap());
            let of_arrays = [0, 1].map(|l| RenderLevel { volume: &views[l], factor: geometries[l].factor() });
            let of_dense =
                [0, 1].map(|l| RenderLevel { volume: &volumes[l], factor: geometries[l].factor() });
            let mut caches = (LevelCaches::default(), LevelCaches::default(), SkipCache::new());
            let (mut ours, mut levels, mut plain) = (Vec::new(), Vec::new(), Vec::new());
            let warm = size(2, 0);
            for round in 0..warm + rounds(7) {
                let start = Instant::now();
                let a = render_levels(&of_arrays, &camera, &transfer, &options, 0.0, &mut caches.0).unwrap();
                let middle = Instant::now();
                let b = render_levels(&of_dense, &camera, &transfer, &options, 0.0, &mut caches.1).unwrap();
                let late = Instant::now();
                let c = render_with(&volumes[0], &camera, &transfer, &options, &mut caches.2).unwrap();
                let end = late.elapsed().as_secs_f64();
                assert!(a.image == b.image && a.report.is_complete() && c.report.wanted.is_empty());
                if round >= warm {
                    ours.push((middle - start).as_secs_f64());
                    levels.push((late - middle).as_secs_f64());
                    plain.push(end);
                }
            }
            let (ours, levels, plain) = (median(&mut ours), median(&mut levels), median(&mut plain));
            println!(
                "{name}, {view}: {:.1} ms; against the same over dense levels {:.3}, against the plain caster over dense level 0 {:.3} (target 1.15 for level 0 alone)",
                ours * 1e3,
                ours / levels,
                ours / plain
            );
        }
    }
}

fn main() {
    first();
    resident();
}
