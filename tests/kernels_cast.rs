//! The ray caster's kernels, compiled for the host, against the ray caster of the host: the same pictures of the same volumes, all there, some of it missing, and of several levels.
//! Skipped where there is no C++ compiler.
#![cfg(feature = "render")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes")]

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::Random;
use common::pictures::{Difference, difference};
use vastgrid::device::{GridView, block};
use vastgrid::render::cuda::{CastPlan, CastRendered, MetOfLevel, PlanLevel};
use vastgrid::render::{
    Brick, Camera, ClipBox, LevelCaches, Mode, Options, Preset, RenderLevel, Rendered, Shading,
    TransferFunction, Volume, render, render_levels,
};
use vastgrid::source::Nrrd;
use vastgrid::{Coord, Extent, Layout, LayoutSpec, Region, Scalar, ScalarType, TileCoord, TileSource};

/// What there is of a tile.
#[derive(Clone, Copy, PartialEq)]
enum There {
    Resident,
    Uniform,
    Missing,
}

/// A volume laid out as an array is, of which some tiles are there.
struct Tiles<T> {
    layout: Layout,
    memory: Vec<T>,
    /// By tile id.
    there: Vec<There>,
    ranges: Vec<Option<(f32, f32)>>,
    known: bool,
}

/// What lies where nothing may be read: where there is such a thing, a number that shows even if it counts for nothing.
fn poison<T: Scalar>() -> T {
    T::from_f64(if T::TYPE == ScalarType::F32 { f64::NAN } else { 99.0 })
}

impl<T: Scalar> Tiles<T> {
    fn new(
        extent: Extent,
        tile: [u64; 3],
        page: [u64; 3],
        there: impl Fn(TileCoord) -> There,
        value: impl Fn(Coord) -> f64,
    ) -> Self {
        let spec = LayoutSpec { tile: Some(tile.into()), page: Some(page.into()), page_bytes: None };
        let layout = Layout::new(extent, size_of::<T>(), spec, 1, 1 << 16).unwrap();
        let slots = layout.tile_slots() as usize;
        let mut memory = vec![poison::<T>(); (layout.reserved_bytes() / layout.voxel_bytes()) as usize];
        let (mut states, mut ranges) = (vec![There::Missing; slots], vec![None; slots]);
        for t in layout.tiles_in(Region::whole(extent)) {
            let id = layout.tile_id(t).unwrap();
            states[id.0 as usize] = there(t);
            let region = layout.tile_region(t);
            let uniform = value(region.start);
            let mut range = (f32::INFINITY, f32::NEG_INFINITY);
            for c in voxels(region) {
                let v = T::from_f64(if there(t) == There::Uniform { uniform } else { value(c) });
                range = (range.0.min(v.to_f32()), range.1.max(v.to_f32()));
                if there(t) != There::Missing {
                    memory[(layout.voxel_offset_bytes(c).unwrap() / layout.voxel_bytes()) as usize] = v;
                }
            }
            ranges[id.0 as usize] = Some(range);
        }
        Self { layout, memory, there: states, ranges, known: true }
    }

    /// The blocks that say so.
    fn blocks(&self) -> Vec<u8> {
        let mut words = vec![0u64; (block::count(&self.layout) * block::BYTES / 8) as usize];
        for (id, &there) in self.there.iter().enumerate() {
            let tile = vastgrid::TileId(id as u64);
            let first = block::of(tile) * block::BYTES;
            let mut set = |offset: u64, word: u64| words[((first + offset) / 8) as usize] |= word;
            let bit = 1u64 << (tile.0 & 63);
            match there {
                There::Resident => set(block::group_word_bytes(tile, block::RESIDENT_WORD), bit),
                There::Uniform => set(block::group_word_bytes(tile, block::UNIFORM_WORD), bit),
                There::Missing => {}
            }
            let at = (self.layout.tile_offset_bytes(tile) / self.layout.voxel_bytes()) as usize;
            if there == There::Uniform {
                let word = block::word_of(bytemuck::bytes_of(&self.memory[at])).unwrap();
                set(block::value_bytes(tile), word);
            }
            if there == There::Resident && self.known {
                set(block::range_bytes(tile), block::range_word(self.ranges[id]));
            }
        }
        bytemuck::cast_slice(&words).to_vec()
    }

    fn level(&self, factor: [u32; 3]) -> PlanLevel<'_> {
        let fill = vec![0; size_of::<T>()];
        let view = GridView::new(&self.layout, 0, 0, &fill, false).unwrap();
        PlanLevel { view, layout: &self.layout, factor }
    }
}

fn voxels(region: Region) -> impl Iterator<Item = Coord> {
    let (s, e) = (region.start, region.extent);
    (0..e.z).flat_map(move |z| {
        (0..e.y).flat_map(move |y| (0..e.x).map(move |x| Coord::new(s.x + x, s.y + y, s.z + z)))
    })
}

impl<T: Scalar> Volume<T> for Tiles<T> {
    fn extent(&self) -> Extent {
        self.layout.extent()
    }

    fn brick_shape(&self) -> Extent {
        self.layout.tile_shape()
    }

    fn brick(&self, tile: TileCoord) -> Brick<'_, T> {
        let Some(id) = self.layout.tile_id(tile) else { return Brick::Missing };
        let at = (self.layout.tile_offset_bytes(id) / self.layout.voxel_bytes()) as usize;
        match self.there[id.0 as usize] {
            There::Resident => Brick::Resident(&self.memory[at..at + self.layout.tile_voxels() as usize]),
            There::Uniform => Brick::Uniform(self.memory[at]),
            There::Missing => Brick::Missing,
        }
    }

    fn cell_shape(&self) -> Extent {
        self.layout.tile_shape()
    }

    fn cell_range(&self, tile: TileCoord, _: usize) -> Option<(f32, f32)> {
        let id = self.layout.tile_id(tile)?.0 as usize;
        self.ranges[id].filter(|_| self.known && self.there[id] != There::Missing)
    }
}

/// The kernels compiled for the host, once for all tests; `None` where there is no compiler.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let compilers = ["c++", "g++", "clang++"];
        let compiler =
            compilers.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())?;
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("cast");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = Command::new(compiler)
            .args(["-std=c++11", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-I"])
            .arg(root.join("assets/kernels"))
            .arg(root.join("tests/kernels_host/cast.cpp"))
            .arg("-o")
            .arg(&program)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some((scratch, program))
    });
    if built.is_none() {
        println!("skipped: no C++ compiler");
    }
    built.as_ref().map(|(_, program)| program.as_path())
}

/// The cases that the kernels are to run.
struct Host {
    program: &'static Path,
    cases: Vec<u8>,
    plans: Vec<CastPlan>,
    /// Whether all tiles are told that rays meet or lack.
    tells: bool,
}

impl Host {
    fn new() -> Option<Self> {
        program().map(|program| Self { program, cases: Vec::new(), plans: Vec::new(), tells: false })
    }

    fn add<T: Scalar>(
        &mut self,
        levels: &[(&Tiles<T>, [u32; 3])],
        level_bias: f64,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) {
        self.add_by(0, levels, level_bias, camera, transfer, options);
    }

    /// The same with another way to find a voxel: see `cast.cpp`.
    fn add_by<T: Scalar>(
        &mut self,
        way: usize,
        levels: &[(&Tiles<T>, [u32; 3])],
        level_bias: f64,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) {
        let views: Vec<_> = levels.iter().map(|(tiles, factor)| tiles.level(*factor)).collect();
        let plan = CastPlan::new::<T>(&views, level_bias, camera, transfer, options).unwrap();
        let plan = if self.tells { plan.telling_met(1000) } else { plan };
        let types = [ScalarType::U8, ScalarType::U16, ScalarType::I16, ScalarType::F32];
        let kernels = ["_dvr_lit", "_dvr", "_mip", "_iso"];
        let kernel = kernels.iter().position(|name| plan.kernel().contains(name)).unwrap();
        let head = [
            types.iter().position(|&t| t == T::TYPE).unwrap(),
            [1, 0, 2, 3][kernel] + 4 * way,
            usize::from(plan.kernel().contains("_levels")),
            plan.input().len(),
            plan.output_bytes(),
            levels.len(),
        ];
        self.cases.extend(head.iter().flat_map(|&n| (n as u64).to_le_bytes()));
        self.cases.extend_from_slice(bytemuck::bytes_of(&plan.parameters(0, 0)));
        self.cases.extend_from_slice(plan.input());
        for (tiles, _) in levels {
            let (memory, blocks) = (bytemuck::cast_slice::<T, u8>(&tiles.memory), tiles.blocks());
            self.cases.extend((memory.len() as u64).to_le_bytes());
            self.cases.extend(block::count(&tiles.layout).to_le_bytes());
            self.cases.extend_from_slice(memory);
            self.cases.extend(blocks);
        }
        self.plans.push(plan);
    }

    /// The pictures of all cases, in order.
    fn run(self) -> Vec<CastRendered> {
        self.run_counting().into_iter().map(|(picture, _)| picture).collect()
    }

    /// The same, each with the most resident tiles of one box.
    fn run_counting(self) -> Vec<(CastRendered, u64)> {
        let scratch = tempfile::tempdir().unwrap();
        let (cases, out) = (scratch.path().join("cases"), scratch.path().join("out"));
        std::fs::File::create(&cases).unwrap().write_all(&self.cases).unwrap();
        let ran = Command::new(self.program).arg(&cases).arg(&out).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let bytes = std::fs::read(&out).unwrap();
        let mut rest = &bytes[..];
        let mut finish = |plan: &CastPlan| {
            let (one, others) = rest.split_at(plan.output_bytes());
            rest = others;
            let words = one[plan.result_bytes()..].as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
            (plan.finish(one).unwrap(), words.map(|word| word & 0xffff_ffff).max().unwrap_or(0))
        };
        self.plans.iter().map(&mut finish).collect()
    }
}

fn modes(iso: f32) -> [Mode; 4] {
    let shading = Shading::default();
    [
        Mode::Dvr { shading: None },
        Mode::Dvr { shading: Some(shading) },
        Mode::Mip,
        Mode::Iso { value: iso, colour: [0.9, 0.8, 0.7], shading },
    ]
}

/// What the host's caster lacked and the kernel did not note. Single rays may differ.
fn missed(host: &Rendered, kernel: &CastRendered) -> Vec<TileCoord> {
    let noted: HashSet<_> = kernel.report.wanted.iter().map(|w| w.tile).collect();
    let lacked = host.report.wanted.iter().filter(|w| w.rays > 2).map(|w| w.tile);
    lacked.filter(|tile| !noted.contains(tile)).collect()
}

/// A field with empty parts, from 0 to 200, and some noise.
fn field(c: Coord, seed: u64) -> f64 {
    let [x, y, z] = c.to_array().map(|v| v as f64);
    let waves = (x * 0.19 + seed as f64).sin() + (y * 0.23).cos() + (z * 0.17 + 0.3).sin();
    let noise = Random::new(c.x | c.y << 10 | c.z << 20 | seed << 30).below(1000) as f64 / 250.0;
    (waves * 60.0 + noise + 20.0).clamp(0.0, 200.0)
}

fn spotted(seed: u64, missing: u64) -> impl Fn(TileCoord) -> There {
    move |t| match Random::new(t.x | t.y << 10 | t.z << 20 | seed << 30).below(16) {
        n if n < missing => There::Missing,
        15 if missing > 0 => There::Uniform,
        _ => There::Resident,
    }
}

fn transfer() -> TransferFunction {
    let colours = [(0.0, [0.2, 0.3, 1.0]), (90.0, [1.0, 0.8, 0.1]), (200.0, [1.0, 0.1, 0.1])];
    TransferFunction::new(&[(60.0, 0.0), (80.0, 0.06), (130.0, 0.01), (180.0, 0.4)], &colours, 1.0).unwrap()
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
