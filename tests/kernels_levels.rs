//! The ray caster's kernels, compiled for the host, on volumes of several levels: the host's pictures, no seams where levels meet, and every tile told that rays met or lacked. Skipped where there is no
//! C++ compiler.
#![cfg(feature = "render")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes")]

mod common;
mod kernels_host;

use std::collections::HashSet;

use common::pictures::{difference, modes};
use kernels_host::{Host, There, Tiles, field, spotted, transfer, voxels};
use vastgrid::render::cuda::{CastRendered, MetOfLevel};
use vastgrid::render::{
    Camera, ClipBox, LevelCaches, Mode, Options, RenderLevel, TransferFunction, render, render_levels,
};
use vastgrid::{Coord, Extent, Region, Scalar, TileCoord};

/// Means of 2 x 2 x 2 voxels, those that there are.
fn halved(extent: Extent, value: impl Fn(Coord) -> f64) -> impl Fn(Coord) -> f64 {
    move |c| {
        let region = Region::new(Coord::new(2 * c.x, 2 * c.y, 2 * c.z), Extent::cube(2));
        let inside = |c: &Coord| c.x < extent.x && c.y < extent.y && c.z < extent.z;
        let all: Vec<f64> = voxels(region).filter(inside).map(&value).collect();
        all.iter().sum::<f64>() / all.len() as f64
    }
}

#[test]
fn a_coarser_level_stands_in_and_is_wanted_far_away() {
    let Some(mut host) = Host::new() else { return };
    let (fine, coarse) = (Extent::new(48, 40, 56), Extent::new(24, 20, 28));
    let value = |c: Coord| field(c, 9);
    let all = |_: TileCoord| There::Resident;
    let whole = Tiles::<f32>::new(fine, [8; 3], [1; 3], all, value);
    let none = Tiles::<f32>::new(fine, [8; 3], [1; 3], |_| There::Missing, value);
    let half = Tiles::<f32>::new(coarse, [8; 3], [1; 3], all, halved(fine, value));
    let camera = Camera::fit(fine, [1.0; 3]).azimuth(25.0).elevation(-30.0);
    let mut expected = Vec::new();
    for mode in modes(95.0) {
        let options = Options { width: 64, height: 64, mode, ..Options::default() };
        let full = render(&whole, &camera, &transfer(), &options).unwrap().image;
        let two = |first| [(first, [1; 3]), (&half, [2; 3])];
        let coarse = |first, bias| {
            let levels =
                two(first).map(|(volume, factor)| RenderLevel { volume, factor: factor.map(f64::from) });
            let mut caches = LevelCaches::default();
            render_levels(&levels, &camera, &transfer(), &options, bias, &mut caches).unwrap().image
        };
        // As fine as can be; nothing of the fine level is there; the coarse one is wanted.
        host.add(&two(&whole), -8.0, &camera, &transfer(), &options);
        host.add(&two(&none), -8.0, &camera, &transfer(), &options);
        host.add(&two(&whole), 8.0, &camera, &transfer(), &options);
        expected.extend([(mode, full, 0), (mode, coarse(&none, -8.0), 1), (mode, coarse(&whole, 8.0), 2)]);
    }
    for ((mode, expected, case), got) in expected.iter().zip(host.run()) {
        let difference = difference(expected, &got.image);
        println!("{mode:?}, case {case}: {difference}");
        assert!(difference.is_small(), "{mode:?}, case {case}: {difference}");
        let report = &got.report;
        let shown = |wanted, shown| report.shown.samples(wanted, shown);
        assert_eq!(shown(0, None) + shown(1, None), 0);
        match case {
            0 => assert!(shown(0, Some(0)) > 0 && report.wanted.is_empty() && report.shown.fidelity() == 1.0),
            1 => {
                assert!(shown(0, Some(1)) > 0 && shown(0, Some(0)) == 0 && report.shown.fidelity() == 0.0);
                assert!(!report.wanted.is_empty() && report.wanted.iter().all(|w| w.level == 0));
            }
            _ => assert!(shown(1, Some(1)) > 0 && report.wanted.is_empty()),
        }
    }
}

/// A linear field is the same at every level, but at the volume's faces; so is a picture of any mixture of levels.
#[test]
fn levels_mix_without_a_seam() {
    let Some(mut host) = Host::new() else { return };
    let extents = [48, 24, 16].map(Extent::cube);
    let linear = |c: [f64; 3]| 20.0 + 2.0 * c[0] + 0.9 * c[1] + 0.7 * c[2];
    let at = |factor: f64| move |c: Coord| linear(c.to_array().map(|v| (v as f64 + 0.5) * factor - 0.5));
    let whole = Tiles::<f32>::new(extents[0], [8; 3], [1; 3], |_| There::Resident, at(1.0));
    let mut fine = Tiles::<f32>::new(extents[0], [8; 3], [2, 1, 1], spotted(3, 8), at(1.0));
    let mut half = Tiles::<f32>::new(extents[1], [8; 3], [1; 3], spotted(4, 4), at(2.0));
    let third = Tiles::<f32>::new(extents[2], [4; 3], [1; 3], |_| There::Resident, at(3.0));
    for tiles in [&mut fine, &mut half] {
        // Tiles of one value are not linear.
        for there in tiles.there.iter_mut().filter(|there| **there == There::Uniform) {
            *there = There::Missing;
        }
    }
    let camera = Camera::fit(extents[0], [1.0; 3]).azimuth(40.0).elevation(-35.0);
    let clip = Some(ClipBox { low: [6.0; 3], high: [40.0; 3] });
    let mut expected = Vec::new();
    for mode in modes(95.0) {
        // Close together, so that how far apart samples are hardly shows.
        let options = Options { width: 72, height: 64, mode, clip, step_voxels: 0.05, ..Options::default() };
        // The finest everywhere; the second in front and the third behind.
        for bias in [-8.0, 1.0] {
            let levels = [(&fine, [1; 3]), (&half, [2; 3]), (&third, [3; 3])];
            host.add(&levels, bias, &camera, &transfer(), &options);
            expected.push((mode, bias, render(&whole, &camera, &transfer(), &options).unwrap()));
        }
    }
    for ((mode, bias, expected), got) in expected.iter().zip(host.run()) {
        let difference = difference(&expected.image, &got.image);
        println!("{mode:?}, bias {bias}: {difference}; {:.3} as wanted", got.report.shown.fidelity());
        assert!(difference.is_small(), "{mode:?}: {difference}");
        let shown = |wanted, shown| got.report.shown.samples(wanted, Some(shown)) > 0;
        let both = shown(1, 1) && shown(1, 2) && (shown(2, 2) || matches!(mode, Mode::Iso { .. }));
        assert!(
            if *bias > 0.0 { both } else { shown(0, 0) && shown(0, 1) && shown(0, 2) },
            "{mode:?}, bias {bias}"
        );
    }
}

/// Three levels of a field, the finer two of which have tiles missing.
fn spotted_levels(seed: u64) -> [Tiles<u16>; 3] {
    let extents = [Extent::new(72, 56, 64), Extent::new(36, 28, 32), Extent::new(18, 14, 16)];
    let value =
        |factor: u64| move |c: Coord| field(Coord::new(c.x * factor, c.y * factor, c.z * factor), seed);
    let all = |_: TileCoord| There::Resident;
    [
        Tiles::new(extents[0], [8; 3], [2, 1, 1], spotted(seed, 5), value(1)),
        Tiles::new(extents[1], [8; 3], [1; 3], spotted(seed + 1, 3), value(2)),
        Tiles::new(extents[2], [8; 3], [1; 3], all, value(4)),
    ]
}

fn told(picture: &CastRendered, of: impl Fn(&MetOfLevel) -> bool) -> HashSet<(usize, TileCoord)> {
    picture.report.met.iter().filter(|met| of(met)).map(|met| (met.level, met.tile)).collect()
}

/// What is told to have been met is enough: without all other tiles the picture is the same, and lacks the same.
#[test]
fn what_rays_met_is_all_that_a_picture_needs() {
    let (mut total, mut unneeded) = (0, 0);
    for seed in [1, 2, 3] {
        let Some(mut host) = Host::new() else { return };
        host.tells = true;
        let mut levels = spotted_levels(seed);
        for level in &mut levels {
            level.known = false;
        }
        let camera =
            Camera::fit(Extent::new(72, 56, 64), [1.0; 3]).azimuth(40.0 * seed as f64).elevation(-30.0);
        let cases: Vec<_> = modes(95.0).into_iter().flat_map(|mode| [(mode, -8.0), (mode, 0.3)]).collect();
        let options = |mode| Options { width: 80, height: 72, mode, ..Options::default() };
        for &(mode, bias) in &cases {
            let all = [(&levels[0], [1; 3]), (&levels[1], [2; 3]), (&levels[2], [4; 3])];
            host.add(&all, bias, &camera, &transfer(), &options(mode));
        }
        let first = host.run();
        let Some(mut host) = Host::new() else { return };
        host.tells = true;
        for (&(mode, bias), picture) in cases.iter().zip(&first) {
            let met = told(picture, |met| met.there);
            let mut kept = spotted_levels(seed);
            for (level, tiles) in kept.iter_mut().enumerate() {
                tiles.known = false;
                let layout = tiles.layout.clone();
                for (id, there) in tiles.there.iter_mut().enumerate() {
                    let Some(tile) = layout.tile_coord(vastgrid::TileId(id as u64)) else { continue };
                    let needless = *there == There::Resident && !met.contains(&(level, tile));
                    total += u32::from(*there == There::Resident);
                    unneeded += u32::from(needless);
                    if needless {
                        *there = There::Missing;
                    }
                }
            }
            let all = [(&kept[0], [1; 3]), (&kept[1], [2; 3]), (&kept[2], [4; 3])];
            host.add(&all, bias, &camera, &transfer(), &options(mode));
        }
        for (((mode, bias), before), after) in cases.iter().zip(&first).zip(host.run()) {
            let name = format!("seed {seed}, {mode:?}, bias {bias}");
            let difference = difference(&before.image, &after.image);
            assert!(difference.is_small(), "{name}: {difference}");
            let lacked = |picture: &CastRendered| told(picture, |met| !met.there);
            assert_eq!(lacked(before), lacked(&after), "{name}");
            let noted: HashSet<_> = before.report.wanted.iter().map(|w| (w.level, w.tile)).collect();
            let wanted = told(before, |met| !met.there && met.wanted);
            let beside: Vec<_> = noted.iter().filter(|lacked| !wanted.contains(lacked)).collect();
            assert!(beside.is_empty(), "{name}: lacked, and not told: {beside:?}");
            assert!(!wanted.is_empty(), "{name}");
            assert_eq!((before.report.met_beyond, before.report.rays_uncovered), (0, 0), "{name}");
        }
    }
    println!("{unneeded} of {total} tiles were not needed");
    assert!(unneeded > total / 20 && unneeded < total * 19 / 20);
}

/// Loading what is told to be lacked ends with a picture that lacks nothing, where levels change along the rays too.
#[test]
fn what_is_told_to_be_lacked_is_all_that_has_to_come() {
    let value = |factor: u64| move |c: Coord| field(Coord::new(c.x * factor, c.y * factor, c.z * factor), 5);
    let sides = [Extent::new(120, 96, 104), Extent::new(60, 48, 52), Extent::new(30, 24, 26)];
    let projection = vastgrid::render::Projection::Perspective { fov_degrees: 60.0 };
    let camera = Camera::look_at([70.0, -30.0, 40.0], [50.0, 50.0, 55.0], [0.0, 0.0, 1.0], projection);
    let cases: Vec<_> = modes(95.0).into_iter().map(|mode| (mode, 1.0)).collect();
    let options = |mode| Options { width: 120, height: 100, mode, ..Options::default() };
    let mut volumes: Vec<_> = cases
        .iter()
        .map(|_| {
            let there =
                |level: usize| move |_: TileCoord| if level == 2 { There::Resident } else { There::Missing };
            [0, 1, 2].map(|i| Tiles::<u16>::new(sides[i], [8; 3], [1; 3], there(i), value(1 << i)))
        })
        .collect();
    for round in 0.. {
        let Some(mut host) = Host::new() else { return };
        host.tells = true;
        for (&(mode, bias), levels) in cases.iter().zip(&mut volumes) {
            for tiles in levels.iter_mut() {
                tiles.known = false;
            }
            let all = [(&levels[0], [1; 3]), (&levels[1], [2; 3]), (&levels[2], [4; 3])];
            host.add(&all, bias, &camera, &transfer(), &options(mode));
        }
        let mut came = 0;
        for ((&(mode, _), levels), picture) in cases.iter().zip(&mut volumes).zip(host.run()) {
            let report = &picture.report;
            let lacked: Vec<_> = report.met.iter().filter(|met| !met.there).collect();
            if lacked.is_empty() {
                assert_eq!(
                    (report.rays_incomplete, &report.wanted[..]),
                    (0, &[][..]),
                    "{mode:?}, round {round}"
                );
                let shown = |level| report.shown.samples(level, Some(level)) > 0;
                assert!(shown(0) && shown(1), "{mode:?}: more than one level is wanted");
            }
            came += lacked.len();
            for met in lacked {
                let tiles = &mut levels[met.level];
                let id = tiles.layout.tile_id(met.tile).unwrap();
                let region = tiles.layout.tile_region(met.tile);
                for c in voxels(region) {
                    let at = tiles.layout.voxel_offset_bytes(c).unwrap() / tiles.layout.voxel_bytes();
                    tiles.memory[at as usize] = u16::from_f64(value(1 << met.level)(c));
                }
                tiles.there[id.0 as usize] = There::Resident;
            }
        }
        println!("round {round}: {came} tiles came");
        if came == 0 {
            break;
        }
        assert!(round < 20);
    }
}

/// Pictures of several levels, all there, with samples of coarse ones as much further apart, are those of the host.
#[test]
fn pictures_of_several_levels_are_those_of_the_host() {
    let Some(mut host) = Host::new() else { return };
    let mut expected = Vec::new();
    let full = Extent::new(72, 56, 64);
    let far = Camera::fit(full, [1.0; 3]).azimuth(50.0).elevation(-25.0);
    let projection = vastgrid::render::Projection::Perspective { fov_degrees: 60.0 };
    let near = Camera::look_at([40.0, -20.0, 30.0], [30.0, 30.0, 30.0], [0.0, 0.0, 1.0], projection);
    let level = |factor: u64| {
        let value = move |c: Coord| field(Coord::new(c.x * factor, c.y * factor, c.z * factor), 6);
        let extent = full.to_array().map(|side| side / factor);
        Tiles::<u16>::new(extent.into(), [8; 3], [2, 1, 1], |_| There::Resident, value)
    };
    let levels = [level(1), level(2), level(4)];
    for (place, camera, biases) in [("far", far, [-8.0, 1.1]), ("near", near, [1.2, 1.9])] {
        for mode in modes(95.0) {
            for bias in biases {
                let options = Options { width: 96, height: 88, mode, ..Options::default() };
                let of = [(&levels[0], [1; 3]), (&levels[1], [2; 3]), (&levels[2], [4; 3])];
                host.add(&of, bias, &camera, &transfer(), &options);
                let of = of.map(|(volume, factor)| RenderLevel { volume, factor: factor.map(f64::from) });
                let mut caches = LevelCaches::default();
                let rendered = render_levels(&of, &camera, &transfer(), &options, bias, &mut caches).unwrap();
                expected.push((place, mode, bias, rendered));
            }
        }
    }
    for ((place, mode, bias, expected), got) in expected.iter().zip(host.run()) {
        let name = format!("{place}, {mode:?}, bias {bias}");
        let difference = difference(&expected.image, &got.image);
        println!("{name}: {difference}");
        assert!(difference.is_small(), "{name}: {difference}");
        let shown = |level| got.report.shown.samples(level, Some(level)) > 0;
        assert!(
            *place == "far" || (shown(0) || shown(2)) && shown(1),
            "{name}: levels change along the rays"
        );
    }
}
/// However levels mix, with samples of coarse ones as much further apart, all samples of a ray together stand for all of it, each part once: what is the same everywhere is as opaque as it was.
#[test]
fn samples_of_mixed_levels_stand_for_all_of_a_ray() {
    let Some(mut host) = Host::new() else { return };
    let extents = [48, 24, 16].map(Extent::cube);
    let camera = Camera::fit(extents[0], [1.0; 3]).azimuth(40.0).elevation(-35.0);
    let clip = Some(ClipBox { low: [6.0; 3], high: [40.0; 3] });
    let fog = TransferFunction::new(&[(0.0, 0.02), (300.0, 0.02)], &[(0.0, [1.0; 3])], 1.0).unwrap();
    let steps = [0.5, 0.05];
    // How many of sixteen tiles are missing, of the first level and of the second.
    let cases = [[0, 0], [8, 0], [8, 4], [16, 0], [16, 8], [16, 16]];
    for [first, second] in cases {
        let tiles = |level: usize, missing: u64, page: [u64; 3]| {
            let random = spotted(3 + level as u64, missing);
            let there = move |t: TileCoord| match random(t) {
                There::Resident if missing < 16 => There::Resident,
                There::Uniform if missing == 0 => There::Resident,
                _ => There::Missing,
            };
            Tiles::<f32>::new(extents[level], [8; 3], page, there, |_| 100.0)
        };
        let (fine, half) = (tiles(0, first, [2, 1, 1]), tiles(1, second, [1; 3]));
        let third = Tiles::<f32>::new(extents[2], [4; 3], [1; 3], |_| There::Resident, |_| 100.0);
        for step_voxels in steps {
            let options = Options {
                width: 72,
                height: 64,
                clip,
                step_voxels,
                skip_empty: false,
                stop_at_alpha: 1.0,
                background: [0.0; 4],
                ..Options::default()
            };
            let levels = [(&fine, [1; 3]), (&half, [2; 3]), (&third, [3; 3])];
            host.add(&levels, -8.0, &camera, &fog, &options);
        }
    }
    let depth = |picture: &CastRendered| {
        let through = picture.image.pixels().iter().map(|p| f64::from(1.0 - p[3]));
        -through.map(f64::ln).sum::<f64>()
    };
    let steps_shown = |picture: &CastRendered| -> u64 {
        (0..3).map(|level| picture.report.shown.samples(0, Some(level))).sum()
    };
    let pictures = host.run();
    for (n, picture) in pictures.iter().enumerate() {
        let fine = &pictures[n % steps.len()];
        let ratio = depth(picture) / depth(fine);
        println!("{:?} of 16 missing, step {}: {ratio:.4}", cases[n / steps.len()], steps[n % steps.len()]);
        // The last sample of a ray may reach out of the volume by a half.
        assert!((ratio - 1.0).abs() < 0.06 * steps[n % steps.len()], "{ratio}");
        assert_eq!(steps_shown(picture), steps_shown(fine));
    }
}
