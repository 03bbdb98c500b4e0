//! The ray caster's kernels, compiled for the host, against the ray caster of the host: the same pictures of the same volumes, all there and some of it missing. Of several levels:
//! `kernels_levels.rs`. Skipped where there is no C++ compiler.
#![cfg(feature = "render")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes")]

mod common;
mod kernels_host;

use std::collections::HashSet;

use common::pictures::{Difference, difference, modes};
use kernels_host::{Host, There, Tiles, field, spotted, transfer};
use vastgrid::render::cuda::CastRendered;
use vastgrid::render::{Camera, ClipBox, Mode, Options, Preset, Rendered, Shading, TransferFunction, render};
use vastgrid::source::Nrrd;
use vastgrid::{Coord, Extent, Region, Scalar, TileCoord, TileSource};

/// What the host's caster lacked and the kernel did not note. Single rays may differ.
fn missed(host: &Rendered, kernel: &CastRendered) -> Vec<TileCoord> {
    let noted: HashSet<_> = kernel.report.wanted.iter().map(|w| w.tile).collect();
    let lacked = host.report.wanted.iter().filter(|w| w.rays > 2).map(|w| w.tile);
    lacked.filter(|tile| !noted.contains(tile)).collect()
}

fn random_volumes<T: Scalar>(seed: u64, total: &mut Difference) {
    let Some(mut host) = Host::new() else { return };
    let mut expected = Vec::new();
    let extent = Extent::new(37, 29, 41);
    let clip = ClipBox { low: [3.2, 0.0, 5.5], high: [30.1, 22.7, 36.0] };
    for (missing, tile, page) in [(0, [8, 8, 8], [2, 1, 2]), (4, [8, 4, 16], [1, 2, 1]), (3, [16; 3], [1; 3])]
    {
        let tiles = Tiles::<T>::new(extent, tile, page, spotted(seed, missing), |c| field(c, seed));
        for (n, mode) in modes(95.0).into_iter().enumerate() {
            for clip in [None, Some(clip)] {
                let mut camera = Camera::fit(extent, [1.0; 3]).azimuth(33.0 * n as f64).elevation(-40.0);
                if n == 1 && clip.is_some() {
                    camera = camera.orthographic();
                }
                let options = Options {
                    width: 64,
                    height: 60,
                    mode,
                    clip,
                    spacing: if missing == 3 { [1.0, 1.0, 1.7] } else { [1.0; 3] },
                    missing_colour: (missing == 4).then_some([0.0, 0.7, 0.2, 0.5]),
                    background: [0.1, 0.2, 0.3, 1.0],
                    skip_empty: n != 2 || clip.is_none(),
                    ..Options::default()
                };
                host.add(&[(&tiles, [1; 3])], 0.0, &camera, &transfer(), &options);
                let picture = render(&tiles, &camera, &transfer(), &options).unwrap();
                expected.push((format!("{} {mode:?} {clip:?} {missing}", T::TYPE), picture));
            }
        }
    }
    for ((name, expected), (got, in_a_box)) in expected.iter().zip(host.run_counting()) {
        let difference = difference(&expected.image, &got.image);
        println!("{name}: {difference}; {in_a_box} tiles in a box");
        assert!(difference.is_small(), "{name}: {difference}");
        assert_eq!(missed(expected, &got), [], "{name}");
        assert!(got.report.rays >= expected.report.rays, "{name}");
        // The first volume, all of which is there, is one large box.
        let all = name.ends_with(" 0") && !name.contains("Mip");
        assert!(if all { in_a_box == 5 * 4 * 6 } else { in_a_box <= 5 * 8 * 6 }, "{name}: {in_a_box}");
        total.and(&difference);
    }
}

#[test]
fn pictures_of_random_volumes_are_those_of_the_host() {
    let mut total = Difference::default();
    random_volumes::<u8>(1, &mut total);
    random_volumes::<u16>(2, &mut total);
    random_volumes::<i16>(3, &mut total);
    random_volumes::<f32>(4, &mut total);
    println!("all: {total}");
}

#[test]
fn pictures_of_a_scan_are_those_of_the_host() {
    let Some(mut host) = Host::new() else { return };
    let source = Nrrd::open("assets/stent.nrrd").unwrap().into_source::<i16>().unwrap();
    let extent = TileSource::extent(&source);
    let mut scan = vec![0i16; extent.checked_volume().unwrap() as usize];
    source.read(Region::whole(extent), &mut scan).unwrap();
    let value = |c: Coord| f64::from(scan[(c.x + extent.x * (c.y + extent.y * c.z)) as usize]);
    let transfer = Preset::CtAngio.transfer_function((0.0, 2000.0)).unwrap();
    let camera = Camera::fit(extent, [1.0; 3]).elevation(-80.0).azimuth(33.0);
    let mut expected = Vec::new();
    for missing in [0, 3] {
        let tiles = Tiles::<i16>::new(extent, [32; 3], [1; 3], spotted(7, missing), value);
        for mode in modes(700.0) {
            let options = Options { width: 160, height: 160, mode, ..Options::default() };
            host.add(&[(&tiles, [1; 3])], 0.0, &camera, &transfer, &options);
            let picture = render(&tiles, &camera, &transfer, &options).unwrap();
            expected.push((format!("{mode:?}, {missing} of 16 missing"), picture));
        }
    }
    for ((name, expected), got) in expected.iter().zip(host.run()) {
        let difference = difference(&expected.image, &got.image);
        let (taken, on_host) = (got.report.samples, expected.report.samples);
        println!("{name}: {difference}; {taken} samples, {on_host} on the host");
        assert!(difference.is_small(), "{name}: {difference}");
        assert_eq!(missed(expected, &got), [], "{name}");
    }
}

/// What benches compare with: a dense volume, page tables and an atlas, through the same march.
#[test]
fn rivals_show_what_the_array_does() {
    let Some(mut host) = Host::new() else { return };
    let extent = Extent::cube(96);
    let tiles = Tiles::<u16>::new(extent, [32; 3], [1, 2, 1], |_| There::Resident, |c| field(c, 5) * 20.0);
    let colours = [(0.0, [0.2, 0.3, 1.0]), (4000.0, [1.0, 0.8, 0.1])];
    let transfer = TransferFunction::new(&[(900.0, 0.0), (4000.0, 0.02)], &colours, 1.0).unwrap();
    let mut expected = Vec::new();
    let fit = Camera::fit(extent, [1.0; 3]);
    for (view, camera) in [("along an axis", fit), ("aslant", fit.azimuth(35.0).elevation(-25.0))] {
        for shading in [None, Some(Shading::default())] {
            let mode = Mode::Dvr { shading };
            let options = Options {
                width: 96,
                height: 96,
                mode,
                stop_at_alpha: 1.0,
                skip_empty: false,
                ..Options::default()
            };
            let picture = render(&tiles, &camera, &transfer, &options).unwrap();
            for way in 0..5 {
                let levels = [(&tiles, [1; 3]), (&tiles, [2; 3])];
                host.add_by(way, &levels[..=way.min(1)], 0.0, &camera, &transfer, &options);
                expected.push((format!("{view}, shaded {}, way {way}", shading.is_some()), picture.clone()));
            }
        }
    }
    for ((name, expected), got) in expected.iter().zip(host.run()) {
        let difference = difference(&expected.image, &got.image);
        println!("{name}: {difference}");
        assert!(difference.is_small(), "{name}: {difference}");
    }
}
