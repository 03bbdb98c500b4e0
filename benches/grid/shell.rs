//! A thin shell of radius 400 in 1024^3 voxels: the distance to it, within 3 voxels of it. Each measured in a process of its own, which did nothing else before.

use std::process::Command;
use std::time::Instant;

use vastgrid::source::Fill;
use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, TileCoord};

use crate::contest::verdict;
use crate::openvdb::Program;

const SIDE: u64 = 1024;
const RADIUS: f64 = 400.0;
const HALF_WIDTH: f32 = 3.0;
/// Tells a process to make the shell in tiles of that shape, and nothing else.
const VARIABLE: &str = "VASTGRID_SHELL_TILE";

/// What it takes.
#[derive(Debug)]
struct Shell {
    seconds: f64,
    /// What the process grew by, its page tables included.
    grown_bytes: f64,
    /// What the pool counts.
    used_bytes: f64,
    active_voxels: u64,
    tiles: u64,
}

/// Makes the shell and prints the figures if this process was started by [`measured`].
pub(crate) fn was_asked_for() -> bool {
    let Ok(text) = std::env::var(VARIABLE) else { return false };
    let sides: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
    let Shell { seconds, grown_bytes, used_bytes, active_voxels, tiles } =
        make([sides[0], sides[1], sides[2]]);
    println!("{seconds} {grown_bytes} {used_bytes} {active_voxels} {tiles}");
    true
}

/// The shell in tiles of that shape, in a new process.
fn measured([x, y, z]: [u64; 3]) -> Shell {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).env(VARIABLE, format!("{x} {y} {z}")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [seconds, grown_bytes, used_bytes, active, tiles] = figures[..] else { panic!("{text}") };
    Shell { seconds, grown_bytes, used_bytes, active_voxels: active as u64, tiles: tiles as u64 }
}

/// A figure of `/proc/self/status`, in bytes.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// The distances at the voxels of a tile, x fastest.
fn distances(shape: [u64; 3], tile: TileCoord) -> impl Iterator<Item = f32> {
    let first = [tile.x * shape[0], tile.y * shape[1], tile.z * shape[2]];
    let square = move |axis: usize, v: u64| ((first[axis] + v) as f64 - (SIDE - 1) as f64 / 2.0).powi(2);
    (0..shape[2]).flat_map(move |z| {
        (0..shape[1]).flat_map(move |y| {
            let yz = square(1, y) + square(2, z);
            (0..shape[0]).map(move |x| ((square(0, x) + yz).sqrt() - RADIUS) as f32)
        })
    })
}

fn is_active(distance: f32) -> bool {
    distance.abs() <= HALF_WIDTH
}

/// Whether a voxel of the tile is active.
fn is_touched(shape: [u64; 3], tile: TileCoord) -> bool {
    let at = [tile.x, tile.y, tile.z];
    let middle = (0..3).map(|a| ((at[a] * shape[a]) as f64 + (shape[a] as f64 - SIDE as f64) / 2.0).powi(2));
    let reach = shape.map(|side| (side as f64 / 2.0).powi(2)).iter().sum::<f64>().sqrt();
    (middle.sum::<f64>().sqrt() - RADIUS).abs() <= f64::from(HALF_WIDTH) + reach
        && distances(shape, tile).any(is_active)
}

fn make(shape: [u64; 3]) -> Shell {
    let grown = || status("VmRSS") + status("VmPTE");
    let before = grown();
    let start = Instant::now();
    let pool = Pool::new(HostBackend::new(), 512 << 20).unwrap();
    let fill = Fill::new(Extent::cube(SIDE), HALF_WIDTH);
    let mut array =
        SparseArray3D::builder(&pool, fill).tile(shape).page_bytes(4096).writable().build().unwrap();
    let grid = array.layout().tiles();
    let (mut active_voxels, mut tiles) = (0, 0);
    for z in 0..grid.z {
        let plane = (0..grid.y).flat_map(|y| (0..grid.x).map(move |x| TileCoord::new(x, y, z)));
        let touched: Vec<_> = plane.filter(|&tile| is_touched(shape, tile)).collect();
        tiles += touched.len() as u64;
        array
            .writer()
            .unwrap()
            .for_each_tile(&touched, |tile, voxels| {
                for (voxel, distance) in voxels.iter_mut().zip(distances(shape, tile)) {
                    *voxel = distance.clamp(-HALF_WIDTH, HALF_WIDTH);
                }
            })
            .unwrap();
        active_voxels +=
            touched.iter().flat_map(|&tile| distances(shape, tile)).filter(|&d| is_active(d)).count();
    }
    let seconds = start.elapsed().as_secs_f64();
    let used_bytes = pool.stats().used_bytes as f64;
    Shell { seconds, grown_bytes: grown() - before, used_bytes, active_voxels: active_voxels as u64, tiles }
}

/// What a thin shell takes in pages of 4 KiB.
pub(crate) fn compare(program: Option<&Program>) {
    const MIB: f64 = (1 << 20) as f64;
    let vdb = program.map(Program::shell);
    if let Some(theirs) = &vdb {
        println!(
            "{:<44} {:.1} MiB ({:.1} by its own count), {} leaves of 8^3, {} active voxels, {:.2} s",
            "shell, OpenVDB",
            theirs.grown_bytes / MIB,
            theirs.said_bytes / MIB,
            theirs.leaves,
            theirs.active_voxels,
            theirs.seconds,
        );
    }
    for tile in [[16, 8, 8], [8, 8, 8]] {
        let ours = measured(tile);
        let mut line = format!(
            "{:<44} {:.1} MiB ({:.1} of pages), {} tiles, {:.2} s",
            format!("shell, tiles of {} x {} x {}, pages of 4 KiB", tile[0], tile[1], tile[2]),
            ours.grown_bytes / MIB,
            ours.used_bytes / MIB,
            ours.tiles,
            ours.seconds,
        );
        if let Some(theirs) = &vdb {
            assert_eq!(ours.active_voxels, theirs.active_voxels, "not the same shell");
            let ratio = ours.grown_bytes / theirs.grown_bytes;
            let beside = verdict(ratio, 1.3, ratio, ours.grown_bytes / theirs.said_bytes);
            line = format!("{line}: {beside}");
        }
        println!("{line}");
    }
}
