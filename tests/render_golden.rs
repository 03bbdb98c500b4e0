//! The ray caster against a plain reference, and against itself: bricks, skipping, vector instructions and missing tiles must not show.

#[path = "render_support/reference.rs"]
mod reference;
#[path = "render_support/volumes.rs"]
mod volumes;

use reference::{Field, reference_picture};
use vastgrid::render::{
    Brick, Camera, ClipBox, DenseVolume, ExactRender, Image, Mode, Options, RenderError, Shading, SkipCache,
    TransferFunction, Volume, render, render_with,
};
use vastgrid::{Extent, Scalar, TileCoord};
use volumes::{Bricked, Random, blobs};

const EXTENT: Extent = Extent::new(45, 38, 51);

fn transfer() -> TransferFunction {
    TransferFunction::new(
        &[(0.0, 0.0), (90.0, 0.0), (120.0, 0.06), (200.0, 0.4), (255.0, 0.8)],
        &[(60.0, [0.2, 0.1, 0.6]), (130.0, [0.9, 0.4, 0.1]), (255.0, [1.0, 1.0, 0.9])],
        1.0,
    )
    .unwrap()
}

fn modes() -> [Mode; 4] {
    let shading = Shading::default();
    [
        Mode::Dvr { shading: None },
        Mode::Dvr { shading: Some(shading) },
        Mode::Mip,
        Mode::Iso { value: 120.5, colour: [0.9, 0.7, 0.5], shading },
    ]
}

fn small(mode: Mode) -> Options {
    Options { width: 63, height: 50, mode, ..Options::default() }
}

fn cameras() -> Vec<Camera> {
    let fit = Camera::fit(EXTENT, [1.0; 3]);
    let side = fit.elevation(-70.0).azimuth(33.0);
    let inside = Camera { eye: [20.3, 17.9, 24.2], ..side };
    vec![fit, side, side.orthographic(), side.azimuth(140.0).elevation(20.0), inside]
}

/// Mean difference and the share of pixels that differ by more than 2/255 in any component.
fn compare(a: &Image, b: &[[f64; 4]]) -> (f64, f64) {
    let differences = |(p, q): (&[f32; 4], &[f64; 4])| {
        p.iter().zip(q).map(|(p, q)| (f64::from(*p) - q).abs()).fold(0.0, f64::max)
    };
    let all: Vec<f64> = a.pixels().iter().zip(b).map(differences).collect();
    let count = all.len() as f64;
    let far = all.iter().filter(|&&d| d > 2.0 / 255.0).count() as f64;
    (all.iter().sum::<f64>() / count, far / count)
}

fn bits(image: &Image) -> Vec<[u32; 4]> {
    image.pixels().iter().map(|p| p.map(f32::to_bits)).collect()
}

#[test]
fn pictures_match_a_plain_reference() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let bricked = Bricked::new(&voxels, EXTENT, 16, 4);
    let field = Field::new(&voxels, EXTENT);
    for mode in modes() {
        for (i, camera) in cameras().iter().enumerate() {
            let mut options = Options { background: [0.1, 0.2, 0.3, 1.0], ..small(mode) };
            if i == 3 {
                options.clip = Some(ClipBox { low: [3.0, 4.5, 10.0], high: [30.2, 38.0, 40.0] });
            }
            let picture = render(&bricked, camera, &transfer(), &options).unwrap();
            let reference = reference_picture(&field, camera, &transfer(), &options);
            let (mean, far) = compare(&picture.image, &reference);
            assert!(mean < 1.0 / 255.0 && far <= 0.001, "{mode:?} camera {i}: mean {mean}, far {far}");
            let seen = picture.image.pixels().iter().filter(|p| p[0] != 0.1).count();
            assert!(seen > 80, "{mode:?} camera {i} shows something: {seen}");
        }
    }
}

#[test]
fn spacing_that_differs_along_the_axes_matches_the_reference() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let spacing = [0.7, 1.0, 2.5];
    let camera = Camera::fit(EXTENT, spacing).elevation(-60.0);
    for mode in modes() {
        let options = Options { spacing, step_voxels: 0.8, ..small(mode) };
        let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
        let picture = render(&dense, &camera, &transfer(), &options).unwrap();
        let reference = reference_picture(&Field::new(&voxels, EXTENT), &camera, &transfer(), &options);
        let (mean, far) = compare(&picture.image, &reference);
        assert!(mean < 1.0 / 255.0 && far <= 0.001, "{mode:?}: mean {mean}, far {far}");
    }
}

fn all_ways_agree<T: Scalar>() {
    let voxels: Vec<T> = blobs(EXTENT);
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    for mode in modes() {
        for camera in &cameras()[1..] {
            let plain = Options { skip_empty: false, simd: false, ..small(mode) };
            let expected = render(&dense, camera, &transfer(), &plain).unwrap();
            assert_eq!(expected.report.skipped, 0);
            for (edge, cell) in [(16, 4), (32, 8), (4, 2), (1, 1)] {
                let scattered = Bricked::new(&voxels, EXTENT, edge, cell);
                let in_line = Bricked::in_line(&voxels, EXTENT, edge, cell);
                for (name, bricked, simd) in [
                    ("scattered", &scattered, true),
                    ("in line", &in_line, true),
                    ("in line", &in_line, false),
                ] {
                    let options = Options { skip_empty: true, simd, ..plain.clone() };
                    let mut cache = SkipCache::new();
                    // What the first picture learns of empty space is used in the second.
                    for again in [false, true] {
                        let got = render_with(bricked, camera, &transfer(), &options, &mut cache).unwrap();
                        let what =
                            format!("{mode:?} {camera:?} bricks of {edge} {name} simd {simd} again {again}");
                        assert!(bits(&got.image) == bits(&expected.image), "{what}");
                        assert!(got.report.wanted.is_empty() && got.report.rays_incomplete == 0, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn bricks_skipping_and_vectors_do_not_show_u8() {
    all_ways_agree::<u8>();
}

#[test]
fn bricks_skipping_and_vectors_do_not_show_i16() {
    all_ways_agree::<i16>();
}

#[test]
fn bricks_skipping_and_vectors_do_not_show_f32() {
    all_ways_agree::<f32>();
}

#[test]
fn bricks_skipping_and_vectors_do_not_show_f64() {
    all_ways_agree::<f64>();
}

#[test]
fn beams_of_rays_do_not_show() {
    // Thin things that a beam could miss: single voxels, and a sheet.
    let mut voxels = vec![0u8; 45 * 38 * 51];
    let mut random = Random(3);
    for _ in 0..40 {
        voxels[random.below(45 * 38 * 51)] = 255;
    }
    voxels[45 * 38 * 20..][..45 * 38].fill(140);
    let in_line = Bricked::in_line(&voxels, EXTENT, 8, 4);
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    let mut fewer = 0;
    let near = Camera { eye: [22.0, -20.0, 30.0], ..cameras()[1] };
    let wide =
        Camera { projection: vastgrid::render::Projection::Perspective { fov_degrees: 120.0 }, ..near };
    let mut cameras = cameras();
    cameras.extend([near, wide, near.orthographic()]);
    for camera in cameras {
        for (width, height, spacing) in
            [(160, 130, [1.0; 3]), (40, 300, [1.0, 1.0, 2.5]), (301, 77, [0.7, 1.0, 1.0])]
        {
            let options = Options { width, height, spacing, ..small(Mode::Dvr { shading: None }) };
            let plain = Options { skip_empty: false, ..options.clone() };
            let expected = bits(&render(&dense, &camera, &transfer(), &plain).unwrap().image);
            let (mut cache, mut dense_cache) = (SkipCache::new(), SkipCache::new());
            let mut rays = Vec::new();
            for _ in 0..2 {
                let got = render_with(&in_line, &camera, &transfer(), &options, &mut cache).unwrap();
                assert!(bits(&got.image) == expected, "{camera:?} {width} x {height}");
                rays.push(got.report.rays);
                let got = render_with(&dense, &camera, &transfer(), &options, &mut dense_cache).unwrap();
                assert!(bits(&got.image) == expected, "{camera:?} {width} x {height}, dense");
            }
            assert!(rays[1] <= rays[0], "{rays:?}");
            fewer += usize::from(rays[1] < rays[0]);
        }
    }
    assert!(fewer >= 8, "beams spared rays in {fewer} of 24 pictures");
}

/// Ways of a volume to lie in memory, of bricks whose sides are no multiple of a group's.
fn ways_to_lie<T: Scalar>(voxels: &[T]) -> Vec<(String, Bricked<T>)> {
    let mut ways = vec![("scattered".into(), Bricked::new(voxels, EXTENT, 4, 2))];
    for edge in [4, 8, 16] {
        ways.push((format!("in line, {edge}"), Bricked::in_line(voxels, EXTENT, edge, 4)));
        for page in [[2, 2, 2], [1, 4, 2], [8, 1, 1]] {
            let bricked = Bricked::in_pages(voxels, EXTENT, edge, 4, page);
            ways.push((format!("pages of {page:?}, {edge}"), bricked));
        }
    }
    ways
}

fn groups_agree<T: Scalar>() {
    let voxels: Vec<T> = blobs(EXTENT);
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    let ways = ways_to_lie(&voxels);
    for (mode, camera) in
        modes().into_iter().flat_map(|mode| cameras().into_iter().map(move |camera| (mode, camera)))
    {
        let options = small(mode);
        let plain = Options { skip_empty: false, simd: false, ..options.clone() };
        let expected = bits(&render(&dense, &camera, &transfer(), &plain).unwrap().image);
        for (name, bricked) in &ways {
            let mut cache = SkipCache::new();
            for again in [false, true] {
                let got = render_with(bricked, &camera, &transfer(), &options, &mut cache).unwrap();
                assert!(bits(&got.image) == expected, "{mode:?} {camera:?} {name} again {again}");
            }
        }
    }
}

#[test]
fn groups_of_bricks_do_not_show_u8() {
    groups_agree::<u8>();
}

#[test]
fn groups_of_bricks_do_not_show_i16() {
    groups_agree::<i16>();
}

#[test]
fn groups_of_bricks_do_not_show_f32() {
    groups_agree::<f32>();
}

#[test]
fn what_is_missing_or_uniform_in_a_group_does_not_show() {
    let voxels: Vec<i16> = blobs(EXTENT);
    // Bricks of 8: 6 x 5 x 7 of them, groups from 0 and 4 on.
    let [inside, rim, beside] = [[1, 2, 1], [3, 0, 3], [4, 4, 4]].map(|[x, y, z]| TileCoord::new(x, y, z));
    for (mode, tile) in
        modes().into_iter().flat_map(|mode| [inside, rim, beside].map(move |tile| (mode, tile)))
    {
        for uniform in [false, true] {
            let damaged = |mut bricked: Bricked<i16>| {
                if uniform {
                    bricked.make_uniform(tile);
                } else {
                    bricked.evict(tile);
                }
                bricked
            };
            let scattered = damaged(Bricked::new(&voxels, EXTENT, 8, 4));
            let in_line = damaged(Bricked::in_line(&voxels, EXTENT, 8, 4));
            let in_pages = damaged(Bricked::in_pages(&voxels, EXTENT, 8, 4, [2, 2, 2]));
            for camera in cameras() {
                let plain = Options { simd: false, ..small(mode) };
                let expected = render(&scattered, &camera, &transfer(), &plain).unwrap();
                for bricked in [&in_line, &in_pages] {
                    let mut cache = SkipCache::new();
                    for _ in 0..2 {
                        let got =
                            render_with(bricked, &camera, &transfer(), &small(mode), &mut cache).unwrap();
                        assert!(bits(&got.image) == bits(&expected.image), "{mode:?} {tile} {uniform}");
                        assert_eq!(got.report.wanted, expected.report.wanted, "{mode:?} {tile} {uniform}");
                    }
                }
            }
        }
    }
}

#[test]
fn empty_space_is_leapt_over() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    for mode in modes() {
        let report = render(&dense, &cameras()[1], &transfer(), &small(mode)).unwrap().report;
        // The greatest value so far has to be found before anything less can be leapt over.
        let least = if mode == Mode::Mip { report.samples / 8 } else { report.samples };
        assert!(report.skipped > least, "{mode:?} {report:?}");
    }
}

#[test]
fn uniform_bricks_need_no_memory_and_do_not_show() {
    let mut voxels: Vec<u8> = blobs(EXTENT);
    // Two bricks of 16^3 hold one value each: one that is seen, one that is not.
    for (i, v) in voxels.iter_mut().enumerate() {
        let (x, y, z) = (i % 45, i / 45 % 38, i / 45 / 38);
        match (x / 16, y / 16, z / 16) {
            (1, 1, 1) => *v = 130,
            (0, 1, 2) => *v = 7,
            _ => {}
        }
    }
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    let mut bricked = Bricked::new(&voxels, EXTENT, 16, 8);
    for tile in [TileCoord::new(1, 1, 1), TileCoord::new(0, 1, 2)] {
        bricked.make_uniform(tile);
    }
    for mode in modes() {
        for camera in cameras() {
            let options = small(mode);
            let expected = render(&dense, &camera, &transfer(), &options).unwrap();
            let got = render(&bricked, &camera, &transfer(), &options).unwrap();
            assert!(bits(&got.image) == bits(&expected.image), "{mode:?} {camera:?}");
        }
    }
}

#[test]
fn missing_tiles_are_wanted_and_nothing_else_is() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let whole = Bricked::new(&voxels, EXTENT, 16, 8);
    let camera = cameras()[1];
    for mode in modes() {
        let full = render(&whole, &camera, &transfer(), &small(mode)).unwrap().image;
        // With ranges known, what is empty is not asked for; with ranges unknown, everything that a ray meets is.
        for ranges_known in [true, false] {
            let mut bricked = whole.clone();
            bricked.evict_all(ranges_known);
            let mut asked = Vec::new();
            let mut last = render(&bricked, &camera, &transfer(), &small(mode)).unwrap();
            assert!(last.report.rays_incomplete > 0);
            while !last.report.wanted.is_empty() {
                let most = last.report.wanted.first().unwrap().rays;
                assert!(last.report.wanted.iter().all(|w| w.rays <= most && w.rays > 0));
                for want in &last.report.wanted {
                    assert!(!asked.contains(&want.tile), "asked for {} again", want.tile);
                    asked.push(want.tile);
                    bricked.load(want.tile);
                }
                last = render(&bricked, &camera, &transfer(), &small(mode)).unwrap();
            }
            assert!(bits(&last.image) == bits(&full), "{mode:?} ranges known: {ranges_known}");
            assert_eq!(last.report.rays_incomplete, 0);
            let all = bricked.tile_count();
            // Before a ray has met anything, any value is its greatest.
            let most = if ranges_known && mode != Mode::Mip { all - 1 } else { all };
            assert!(asked.len() <= most, "{mode:?} {}", asked.len());
        }
    }
}

#[test]
fn a_kept_cache_learns_of_tiles_that_came() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let whole = Bricked::new(&voxels, EXTENT, 16, 8);
    let (camera, options) = (cameras()[1], small(Mode::Dvr { shading: None }));
    let full = render(&whole, &camera, &transfer(), &options).unwrap().image;
    let mut bricked = whole.clone();
    bricked.evict_all(false);
    let mut cache = SkipCache::new();
    for _ in 0..100 {
        let last = render_with(&bricked, &camera, &transfer(), &options, &mut cache).unwrap();
        let Some(want) = last.report.wanted.first() else {
            assert!(bits(&last.image) == bits(&full));
            return;
        };
        bricked.load(want.tile);
    }
    panic!("never complete");
}

#[test]
fn a_missing_tile_shows_in_the_hint_s_colour() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let mut bricked = Bricked::new(&voxels, EXTENT, 16, 8);
    bricked.evict_all(true);
    let options = Options { missing_colour: Some([1.0, 0.0, 1.0, 0.5]), ..small(Mode::Mip) };
    let picture = render(&bricked, &cameras()[1], &transfer(), &options).unwrap();
    let hinted = picture.image.pixels().iter().filter(|p| **p == [0.5, 0.0, 0.5, 0.5]).count();
    assert_eq!(hinted as u64, picture.report.rays_incomplete);
}

#[test]
fn an_exact_picture_is_the_same_whatever_comes_when() {
    let voxels: Vec<i16> = blobs(EXTENT);
    let whole = Bricked::new(&voxels, EXTENT, 16, 4);
    let mut random = Random(5);
    for mode in modes() {
        for (camera, ranges_known) in cameras().into_iter().zip([true, false, true, false, true]) {
            let full = render(&whole, &camera, &transfer(), &small(mode)).unwrap().image;
            let mut bricked = whole.clone();
            bricked.evict_all(ranges_known);
            let mut exact = ExactRender::new(EXTENT, &camera, &transfer(), &small(mode)).unwrap();
            let mut turns = 0;
            loop {
                let progress = exact.advance(&bricked).unwrap();
                assert_eq!(progress.done, exact.is_done());
                assert_eq!(
                    progress.rays_left,
                    progress.wanted.iter().map(|g| u64::from(g.rays)).sum::<u64>()
                );
                if progress.done {
                    break;
                }
                // Memory for eight tiles: one group at a time, any of them, and at times a few useless ones besides.
                bricked.evict_all(ranges_known);
                let group = &progress.wanted[random.below(progress.wanted.len())];
                assert!(!group.tiles.is_empty() && group.tiles.len() <= 8, "{:?}", group.tiles);
                for &tile in &group.tiles {
                    bricked.load(tile);
                }
                turns += 1;
                assert!(turns < 5000, "no progress");
            }
            assert!(turns > 1, "{mode:?} took turns");
            assert!(bits(&exact.image().unwrap()) == bits(&full), "{mode:?} {camera:?}");
        }
    }
}

#[test]
fn every_group_lets_rays_go_on() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let mut bricked = Bricked::new(&voxels, EXTENT, 8, 4);
    for mode in modes() {
        bricked.evict_all(false);
        let mut exact = ExactRender::new(EXTENT, &cameras()[1], &transfer(), &small(mode)).unwrap();
        for _ in 0..40 {
            let before = exact.advance(&bricked).unwrap();
            bricked.evict_all(true);
            let Some(last) = before.wanted.last() else { break };
            last.tiles.iter().for_each(|&tile| bricked.load(tile));
            let after = exact.advance(&bricked).unwrap();
            // They go on by samples, or because what has come is now known to be empty.
            let waits_on = after.wanted.iter().any(|g| g.tiles == last.tiles);
            assert!(after.samples >= u64::from(last.rays) || !waits_on, "{mode:?}: {last:?}");
        }
    }
}

#[test]
fn nan_contributes_nothing() {
    let mut voxels: Vec<f32> = blobs(EXTENT);
    for (i, v) in voxels.iter_mut().enumerate() {
        if i % 977 == 0 {
            *v = f32::NAN;
        }
        if i % 9973 == 0 {
            *v = f32::INFINITY;
        }
    }
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    let bricked = Bricked::new(&voxels, EXTENT, 16, 4);
    for mode in modes() {
        let plain = Options { skip_empty: false, simd: false, ..small(mode) };
        let expected = render(&dense, &cameras()[1], &transfer(), &plain).unwrap().image;
        let got = render(&bricked, &cameras()[1], &transfer(), &small(mode)).unwrap().image;
        assert!(bits(&got) == bits(&expected), "{mode:?}");
        assert!(got.pixels().iter().flatten().all(|c| c.is_finite()));
    }
    let nothing = vec![f32::NAN; voxels.len()];
    let dense = DenseVolume::new(&nothing, EXTENT).unwrap();
    for mode in modes() {
        let picture = render(&dense, &cameras()[1], &transfer(), &small(mode)).unwrap();
        assert!(picture.image.pixels().iter().all(|p| *p == [0.0; 4]), "{mode:?}");
    }
}

#[test]
fn a_camera_that_looks_away_shows_the_background() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    let away = Camera { target: [-900.0, 10.0, 10.0], eye: [-100.0, 10.0, 10.0], ..cameras()[1] };
    let options = Options { background: [0.0, 1.0, 0.0, 0.5], ..small(Mode::Mip) };
    let picture = render(&dense, &away, &transfer(), &options).unwrap();
    assert_eq!(picture.report.rays, 0);
    assert!(picture.image.pixels().iter().all(|p| *p == [0.0, 0.5, 0.0, 0.5]));
}

#[test]
fn volumes_of_one_voxel_and_one_slice_are_rendered() {
    let transfer = transfer();
    for extent in [Extent::cube(1), Extent::new(9, 1, 1), Extent::new(7, 9, 1), Extent::new(1, 2, 30)] {
        let count = usize::try_from(extent.checked_volume().unwrap()).unwrap();
        let voxels = vec![200u8; count];
        let dense = DenseVolume::new(&voxels, extent).unwrap();
        let bricked = Bricked::new(&voxels, extent, 4, 4);
        let camera = Camera::fit(extent, [1.0; 3]).elevation(40.0).azimuth(20.0);
        for mode in modes() {
            let a = render(&dense, &camera, &transfer, &small(mode)).unwrap().image;
            let b = render(&bricked, &camera, &transfer, &small(mode)).unwrap().image;
            assert!(bits(&a) == bits(&b), "{extent} {mode:?}");
            assert!(a.pixels().iter().any(|p| p[3] > 0.2), "{extent} {mode:?}");
        }
    }
}

#[test]
fn hostile_requests_are_errors() {
    let voxels: Vec<u8> = blobs(EXTENT);
    let dense = DenseVolume::new(&voxels, EXTENT).unwrap();
    let (camera, transfer, ok) = (cameras()[0], transfer(), small(Mode::Mip));
    for bad in [
        Options { width: 0, ..ok.clone() },
        Options { step_voxels: 0.0, ..ok.clone() },
        Options { step_voxels: f64::NAN, ..ok.clone() },
        Options { spacing: [f64::NAN; 3], ..ok.clone() },
    ] {
        assert!(render(&dense, &camera, &transfer, &bad).is_err());
        assert!(ExactRender::new(EXTENT, &camera, &transfer, &bad).is_err());
    }
    let lost = Camera { eye: [f64::NAN; 3], ..camera };
    assert!(matches!(render(&dense, &lost, &transfer, &ok), Err(RenderError::Camera { .. })));
    let mut exact = ExactRender::new(Extent::cube(3), &camera, &transfer, &ok).unwrap();
    assert!(matches!(exact.advance(&dense), Err(RenderError::OtherVolume { .. })));
}

/// A volume that lies about the size of its bricks.
struct Short;

impl Volume<u8> for Short {
    fn extent(&self) -> Extent {
        Extent::cube(16)
    }
    fn brick_shape(&self) -> Extent {
        Extent::cube(8)
    }
    fn brick(&self, tile: TileCoord) -> Brick<'_, u8> {
        if tile.x == 0 { Brick::Resident(&[1, 2, 3]) } else { Brick::Uniform(200) }
    }
    fn cell_shape(&self) -> Extent {
        Extent::cube(4)
    }
    fn cell_range(&self, _: TileCoord, _: usize) -> Option<(f32, f32)> {
        Some((f32::NAN, 0.0))
    }
}

#[test]
fn bricks_that_are_too_short_count_as_missing() {
    let camera = Camera::fit(Extent::cube(16), [1.0; 3]).elevation(30.0);
    for mode in modes() {
        let picture = render(&Short, &camera, &transfer(), &small(mode)).unwrap();
        assert!(picture.report.rays_incomplete > 0 && picture.report.wanted.iter().all(|w| w.tile.x == 0));
    }
}
