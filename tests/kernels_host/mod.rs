//! The ray caster's kernels compiled for the host, and volumes for them, some tiles of which are there.
#![allow(dead_code, reason = "no test uses all of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use vastgrid::device::{GridView, block};
use vastgrid::render::cuda::{CastPlan, CastRendered, PlanLevel};
use vastgrid::render::{Brick, Camera, Options, TransferFunction, Volume};
use vastgrid::{Coord, Extent, Layout, LayoutSpec, Region, Scalar, ScalarType, TileCoord};

use crate::common::Random;

/// What there is of a tile.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum There {
    Resident,
    Uniform,
    Missing,
}

/// A volume laid out as an array is, of which some tiles are there.
pub(crate) struct Tiles<T> {
    pub(crate) layout: Layout,
    pub(crate) memory: Vec<T>,
    /// By tile id.
    pub(crate) there: Vec<There>,
    pub(crate) ranges: Vec<Option<(f32, f32)>>,
    pub(crate) known: bool,
}

/// What lies where nothing may be read: where there is such a thing, a number that shows even if it counts for nothing.
pub(crate) fn poison<T: Scalar>() -> T {
    T::from_f64(if T::TYPE == ScalarType::F32 { f64::NAN } else { 99.0 })
}

impl<T: Scalar> Tiles<T> {
    pub(crate) fn new(
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
    pub(crate) fn blocks(&self) -> Vec<u8> {
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

    pub(crate) fn level(&self, factor: [u32; 3]) -> PlanLevel<'_> {
        let fill = vec![0; size_of::<T>()];
        let view = GridView::new(&self.layout, 0, 0, &fill, false).unwrap();
        PlanLevel { view, layout: &self.layout, factor }
    }
}

pub(crate) fn voxels(region: Region) -> impl Iterator<Item = Coord> {
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
pub(crate) fn program() -> Option<&'static Path> {
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
pub(crate) struct Host {
    program: &'static Path,
    cases: Vec<u8>,
    plans: Vec<CastPlan>,
    /// Whether all tiles are told that rays meet or lack.
    pub(crate) tells: bool,
}

impl Host {
    pub(crate) fn new() -> Option<Self> {
        program().map(|program| Self { program, cases: Vec::new(), plans: Vec::new(), tells: false })
    }

    pub(crate) fn add<T: Scalar>(
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
    pub(crate) fn add_by<T: Scalar>(
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
        let levels: Vec<_> = levels.iter().map(|&(tiles, _)| tiles).collect();
        self.add_plan(way, &levels, plan);
    }

    pub(crate) fn add_plan<T: Scalar>(&mut self, way: usize, levels: &[&Tiles<T>], plan: CastPlan) {
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
        for tiles in levels {
            let (memory, blocks) = (bytemuck::cast_slice::<T, u8>(&tiles.memory), tiles.blocks());
            self.cases.extend((memory.len() as u64).to_le_bytes());
            self.cases.extend(block::count(&tiles.layout).to_le_bytes());
            self.cases.extend_from_slice(memory);
            self.cases.extend(blocks);
        }
        self.plans.push(plan);
    }

    /// The pictures of all cases, in order.
    pub(crate) fn run(self) -> Vec<CastRendered> {
        self.run_counting().into_iter().map(|(picture, _)| picture).collect()
    }

    /// The same, each with the most resident tiles of one box.
    pub(crate) fn run_counting(self) -> Vec<(CastRendered, u64)> {
        let finish = |(plan, one): (CastPlan, Vec<u8>)| {
            let words = one[plan.result_bytes()..].as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
            (plan.finish(&one).unwrap(), words.map(|word| word & 0xffff_ffff).max().unwrap_or(0))
        };
        self.run_raw().into_iter().map(finish).collect()
    }

    /// What the kernels wrote for each.
    pub(crate) fn run_raw(self) -> Vec<(CastPlan, Vec<u8>)> {
        let scratch = tempfile::tempdir().unwrap();
        let (cases, out) = (scratch.path().join("cases"), scratch.path().join("out"));
        std::fs::File::create(&cases).unwrap().write_all(&self.cases).unwrap();
        let ran = Command::new(self.program).arg(&cases).arg(&out).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let bytes = std::fs::read(&out).unwrap();
        let mut rest = &bytes[..];
        let mut part = |plan: CastPlan| {
            let (one, others) = rest.split_at(plan.output_bytes());
            rest = others;
            (plan, one.to_vec())
        };
        self.plans.into_iter().map(&mut part).collect()
    }
}

/// A field with empty parts, from 0 to 200, and some noise.
pub(crate) fn field(c: Coord, seed: u64) -> f64 {
    let [x, y, z] = c.to_array().map(|v| v as f64);
    let waves = (x * 0.19 + seed as f64).sin() + (y * 0.23).cos() + (z * 0.17 + 0.3).sin();
    let noise = Random::new(c.x | c.y << 10 | c.z << 20 | seed << 30).below(1000) as f64 / 250.0;
    (waves * 60.0 + noise + 20.0).clamp(0.0, 200.0)
}

pub(crate) fn spotted(seed: u64, missing: u64) -> impl Fn(TileCoord) -> There {
    move |t| match Random::new(t.x | t.y << 10 | t.z << 20 | seed << 30).below(16) {
        n if n < missing => There::Missing,
        15 if missing > 0 => There::Uniform,
        _ => There::Resident,
    }
}

pub(crate) fn transfer() -> TransferFunction {
    let colours = [(0.0, [0.2, 0.3, 1.0]), (90.0, [1.0, 0.8, 0.1]), (200.0, [1.0, 0.1, 0.1])];
    TransferFunction::new(&[(60.0, 0.0), (80.0, 0.06), (130.0, 0.01), (180.0, 0.4)], &colours, 1.0).unwrap()
}
