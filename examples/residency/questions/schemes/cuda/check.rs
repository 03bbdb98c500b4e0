//! Tests that need no device: the kernels' bodies, compiled for the host, against the reference, of a volume in every form that a way reads.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use vastgrid::device::block;
use vastgrid::{GridView, Layout, LayoutSpec, TileId};

use super::super::lru::{Load, NONE};
use super::super::path::{Tiles, Work};
use super::super::sampling::{FRACTION, Ray};
use super::super::volume::{Shape, fill, value};
use super::page_table::changes;
use super::scheme::Parameters;
use super::source::{bordered_size, tile_size};
use super::{EDGES_LOG2, reference};
use crate::measure::SplitMix;

const SHAPE: Shape = Shape { log2: [1, 1, 1], edges_log2: EDGES_LOG2 };

/// A way's sums, how many samples lacked a tile, and every tile's sum.
#[derive(Debug)]
struct Found {
    name: String,
    sums: [u64; 2],
    missing: [u64; 2],
    tiles: Vec<u64>,
}

/// Lists for the program, each after its length.
#[derive(Default)]
struct Lists(Vec<u8>);

impl Lists {
    fn add<T: bytemuck::NoUninit>(&mut self, list: &[T]) {
        self.0.extend((list.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytemuck::cast_slice(list));
    }
}

fn piece(tile: u32, size: [u32; 3]) -> Vec<u16> {
    let mut piece = vec![0; size.iter().map(|side| *side as usize).product()];
    fill(SHAPE, tile, size, &mut piece);
    piece
}

/// Copies a box of voxels to a place in a larger one.
fn put(all: &mut [u16], size: [u32; 3], at: [u32; 3], from: &[u16], piece: [u32; 3]) {
    for (row, voxels) in (0..piece[1] * piece[2]).zip(from.chunks_exact(piece[0] as usize)) {
        let (y, z) = (at[1] + row % piece[1], at[2] + row / piece[1]);
        let first = (at[0] + size[0] * (y + size[1] * z)) as usize;
        all[first..first + voxels.len()].copy_from_slice(voxels);
    }
}

/// The volume without some of its tiles, as every way has it.
fn lists(work: &Work, there: impl Fn(u32) -> bool) -> Lists {
    let (size, bordered, count) = (tile_size(SHAPE), bordered_size(SHAPE), SHAPE.tile_count());
    let tile_voxels = size.iter().product::<u32>() as usize;
    let spec =
        LayoutSpec { tile: Some(size.map(u64::from).into()), page: Some([1; 3].into()), page_bytes: None };
    let layout = Layout::new(SHAPE.extent(), 2, spec, 1, 1 << 21).unwrap();
    let view = GridView::new(&layout, 0, 0, &[0; 2], false).unwrap();
    let mut flat = vec![0xdeadu16; (layout.reserved_bytes() / 2) as usize];
    let mut blocks = vec![0u64; (block::count(&layout) * block::BYTES / 8) as usize];
    // Slots in another order than tiles.
    let mut slots: Vec<_> = (0..count).collect();
    SplitMix(3).shuffle(&mut slots);
    let (mut table, mut places) = (vec![NONE; count as usize], vec![NONE; count as usize]);
    let mut pool = vec![0u16; tile_voxels * count as usize];
    let mut tiles = pool.clone();
    let whole = SHAPE.voxels();
    let mut rows = vec![0u16; whole.iter().map(|side| *side as usize).product()];
    let atlas_size = [bordered[0] * 4, bordered[1], bordered[2] * 2];
    let mut atlas = vec![0u16; atlas_size.iter().map(|side| *side as usize).product()];
    for tile in 0..count {
        let voxels = piece(tile, size);
        let at = tile as usize * tile_voxels;
        tiles[at..at + tile_voxels].copy_from_slice(&voxels);
        put(&mut rows, whole, SHAPE.first_voxel(SHAPE.position(tile)), &voxels, size);
        if !there(tile) {
            continue;
        }
        let id: TileId = layout.tile_id(SHAPE.coord(tile)).unwrap();
        let first = (layout.tile_offset_bytes(id) / 2) as usize;
        flat[first..first + tile_voxels].copy_from_slice(&voxels);
        let word = (block::of(id) * block::BYTES + block::group_word_bytes(id, block::RESIDENT_WORD)) / 8;
        blocks[word as usize] |= 1 << (id.0 & 63);
        let slot = slots[tile as usize];
        table[tile as usize] = slot;
        let at = slot as usize * tile_voxels;
        pool[at..at + tile_voxels].copy_from_slice(&voxels);
        let place = [slot % 4, 0, slot / 4];
        places[tile as usize] = place[0] | place[1] << 10 | place[2] << 20;
        let at = std::array::from_fn(|k| place[k] * bordered[k]);
        put(&mut atlas, atlas_size, at, &piece(tile, bordered), bordered);
    }
    let mut lists = Lists::default();
    lists.0.extend(1u64.to_le_bytes());
    lists.0.extend(Parameters::of_view(view, SHAPE).bytes());
    lists.add(&work.rays);
    lists.add(work.points.as_flattened());
    lists.add(&flat);
    lists.add(&blocks);
    lists.add(&table);
    lists.add(&pool);
    lists.add(&tiles);
    lists.add(&rows);
    lists.add(&places);
    lists.add(&[whole, atlas_size].concat());
    lists.add(&atlas);
    lists
}

/// What the ways find; `None` where there is no compiler.
fn run(all: &[Lists]) -> Option<Vec<Vec<Found>>> {
    let compilers = ["c++", "g++", "clang++"];
    let compiler = compilers.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(compiler) = compiler else {
        println!("skipped: no C++ compiler");
        return None;
    };
    let scratch = tempfile::tempdir().unwrap();
    let (program, cases) = (scratch.path().join("check"), scratch.path().join("cases"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(compiler)
        .args(["-std=c++11", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-I"])
        .arg(root.join("assets/kernels"))
        .arg(root.join("examples/residency/questions/schemes/cuda/check.cpp"))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let one = |lists: &Lists| {
        std::fs::File::create(&cases).unwrap().write_all(&lists.0).unwrap();
        let ran = Command::new(&program).arg(&cases).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let said = String::from_utf8(ran.stdout).unwrap();
        said.lines().map(found).collect()
    };
    Some(all.iter().map(one).collect())
}

fn found(line: &str) -> Found {
    let mut words = line.split(' ');
    let name = words.next().unwrap().to_owned();
    let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
    let (sums, missing) = ([numbers[0], numbers[1]], [numbers[2], numbers[3]]);
    Found { name, sums, missing, tiles: numbers[4..].to_vec() }
}

fn work() -> Work {
    let all = Tiles { first: [0; 3], size: SHAPE.tiles() };
    let mut work = Work::in_boxes(SHAPE, &[all], (1 << 15, 1 << 14), &mut SplitMix(9));
    work.rays.extend(Work::along(SHAPE, all, [1e-6, 0.05, 1.0], 1 << 14).rays);
    // On voxels, from the last of one tile to the first of the next, and a single sample.
    let at = |x: u32, y: u32, z: u32| [x << FRACTION, y << FRACTION, z << FRACTION];
    work.rays.push(Ray { first: at(0, 127, 63), step: at(1, 0, 0).map(|v| v.max(1)), samples: 254 });
    work.rays.push(Ray { first: at(127, 127, 63), step: [1; 3], samples: 1 });
    work.points.extend([at(127, 127, 63), at(0, 0, 0), at(254, 254, 126), at(128, 0, 64)]);
    work
}

#[test]
fn every_way_finds_the_same_samples() {
    let work = work();
    let Some(all) = run(&[lists(&work, |_| true)]) else { return };
    let expected = [reference::rays(&work), reference::points(&work)];
    let tiles = reference::tiles(SHAPE);
    assert_eq!(all[0].len(), 7);
    for Found { name, sums, missing, tiles: found } in &all[0] {
        assert_eq!(missing, &[0; 2], "{name}");
        assert_eq!(found, &tiles, "{name}");
        // The host has no fused operations inside the crate's accessor, and no 16-bit texels.
        let allowed = if matches!(name.as_str(), "table" | "tiles" | "rows") { 0.0 } else { 1e-5 };
        for (sum, expected) in sums.iter().zip(expected) {
            let off = sum.abs_diff(expected) as f64;
            assert!(off <= allowed * expected as f64, "{name}: {sum} for {expected}");
        }
    }
}

#[test]
fn what_lacks_a_tile_is_counted() {
    let work = work();
    let missing = 5;
    let Some(all) = run(&[lists(&work, |tile| tile != missing)]) else { return };
    let of = |name: &str| all[0].iter().find(|found| found.name == name).unwrap();
    assert_eq!(of("flat").missing, of("table").missing);
    for name in ["flat", "table", "atlas"] {
        let Found { missing: [rays, points], tiles, .. } = of(name);
        assert!(*rays > 0 && *points > 0, "{name}");
        assert!(*rays < work.along && (*points as usize) < work.points.len(), "{name}");
        assert_eq!(tiles[missing as usize], 0, "{name}");
    }
    // Blocks with borders lack what lies in the tile alone, and not what lies beside it.
    assert!(of("atlas").missing[0] < of("table").missing[0]);
}

#[test]
fn a_sample_is_rounded_as_the_kernels_round_it() {
    let mut random = SplitMix(4);
    for _ in 0..2000 {
        let at: [u32; 3] = std::array::from_fn(|_| u32::try_from(random.below(2000 << FRACTION)).unwrap());
        let f = at.map(|v| (v & ((1 << FRACTION) - 1)) as f32 / (1u32 << FRACTION) as f32);
        let [x, y, z] = at.map(|v| v >> FRACTION);
        let voxel = |k: u32| f32::from(value(x + (k & 1), y + (k >> 1 & 1), z + (k >> 2)));
        let mix = |low: f32, high: f32, at: f32| (high - low).mul_add(at, low);
        let rows: Vec<_> = (0..4).map(|k| mix(voxel(2 * k), voxel(2 * k + 1), f[0])).collect();
        let expected = mix(mix(rows[0], rows[1], f[1]), mix(rows[2], rows[3], f[1]), f[2]);
        assert_eq!(reference::sample(at).to_bits(), expected.to_bits(), "{at:?}");
    }
}

#[test]
fn tables_say_where_tiles_are_after_loads() {
    let mut table = vec![NONE; 4];
    let load = |tile, slot, evicted| Load { tile, slot, evicted };
    let mut tell = |loads: &[Load]| {
        changes(loads, |slot| slot + 10).for_each(|(tile, word)| table[tile as usize] = word);
        table.clone()
    };
    assert_eq!(tell(&[load(0, 0, None), load(1, 1, None)]), [10, 11, NONE, NONE]);
    assert_eq!(tell(&[load(3, 0, Some(0)), load(2, 1, Some(1))]), [NONE, NONE, 11, 10]);
}
