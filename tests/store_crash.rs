//! A process that is killed while it writes: what it was told is durable is there.

mod convert_support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use convert_support::{Random, names};
use vastgrid::source::{Fill, Zarr, ZarrSlice};
use vastgrid::store::{RawStore, TileStore, ZarrOptions, ZarrStore};
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileSource};

const EXTENT: Extent = Extent::new(24, 20, 12);
const CHUNK: u64 = 4;
const FOLDER: &str = "VASTGRID_TEST_FOLDER";

fn options(round: u64, resume: bool) -> ZarrOptions {
    // Shards of several chunks, or none.
    let shard = (!round.is_multiple_of(3)).then_some(Extent::new(8, 12, 4));
    ZarrOptions { chunk: Extent::cube(CHUNK), shard, resume, ..ZarrOptions::default() }
}

/// Starts a test of this program by itself, to be killed, in a folder and with numbers for it.
fn begin(test: &str, folder: &Path, numbers: &[(&str, u64)]) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .envs(numbers.iter().map(|(name, number)| (name, number.to_string())))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// The chunk that step `step` writes, and whether everything is flushed after it.
fn step(random: &mut Random) -> (Region, bool) {
    let count = |side: u64| side.div_ceil(CHUNK);
    let at = [EXTENT.x, EXTENT.y, EXTENT.z].map(|side| random.below(count(side)) * CHUNK);
    (Region::new(Coord::from(at), Extent::cube(CHUNK)).clipped_to(EXTENT), random.below(6) == 0)
}

/// What is killed: no test by itself.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (round, mut random) = (number("VASTGRID_TEST_ROUND"), Random(number("VASTGRID_TEST_SEED")));
    let store =
        ZarrStore::create(Path::new(&folder).join("a.zarr"), EXTENT, 0u32, &options(round, true)).unwrap();
    for nth in 1..100_000u32 {
        let (chunk, flush) = step(&mut random);
        let voxels = vec![nth; usize::try_from(chunk.extent.checked_volume().unwrap()).unwrap()];
        store.write(chunk, &voxels).unwrap();
        if flush {
            store.flush().unwrap();
            println!("\ndurable {nth}");
        }
    }
}

#[test]
fn nothing_that_was_flushed_is_missing_after_a_kill() {
    let mut seeds = Random::new();
    for round in 0..24 {
        let folder = tempfile::tempdir().unwrap();
        let seed = seeds.next();
        let (mut child, output) = begin(
            "writes_until_it_is_killed",
            folder.path(),
            &[("VASTGRID_TEST_ROUND", round), ("VASTGRID_TEST_SEED", seed)],
        );
        let kill_after = 1 + seeds.below(12);
        let mut durable = 0;
        let mut said = 0;
        for line in output.lines().map_while(Result::ok) {
            if let Some(nth) = line.strip_prefix("durable ") {
                durable = nth.parse().unwrap();
                said += 1;
                if said == kill_after {
                    std::thread::sleep(Duration::from_micros(seeds.below(4000)));
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(said >= kill_after, "round {round} ended by itself");
        let root = folder.path().join("a.zarr");
        assert!(!root.exists());
        // Whoever goes on and saves at once has it.
        ZarrStore::create(&root, EXTENT, 0u32, &options(round, true)).unwrap().save().unwrap();
        let found = Zarr::open(&root).unwrap().arrays()[0].source::<u32>(&ZarrSlice::last(3)).unwrap();
        let mut random = Random(seed);
        let mut written: HashMap<Region, Vec<u32>> = HashMap::new();
        for nth in 1..durable + 2000 {
            written.entry(step(&mut random).0).or_default().push(nth);
        }
        for (chunk, steps) in &written {
            let mut voxels = vec![0; usize::try_from(chunk.extent.checked_volume().unwrap()).unwrap()];
            found.read(*chunk, &mut voxels).unwrap();
            let value = voxels[0];
            assert!(voxels.iter().all(|v| *v == value), "{chunk} is torn");
            let least = steps.iter().copied().filter(|nth| *nth <= durable).max().unwrap_or(0);
            assert!(
                value >= least && (value == 0 || steps.contains(&value)),
                "{chunk}: {value}, {least} was durable"
            );
        }
        assert_eq!(names(folder.path()), ["a.zarr"]);
    }
}

#[test]
fn a_raw_file_is_whole_or_not_there() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // What is killed.
        let path = Path::new(&folder).join("a.raw");
        for nth in 0..u8::MAX {
            let store = RawStore::<u8>::replace(&path, Extent::cube(100)).unwrap();
            store.write_uniform(Region::whole(Extent::cube(100)), nth).unwrap();
            store.save().unwrap();
            println!("\nsaved {nth}");
        }
        return;
    }
    let mut random = Random::new();
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, output) = begin("a_raw_file_is_whole_or_not_there", folder.path(), &[]);
        let kill_after = random.below(4);
        let mut saved = None;
        for line in output.lines().map_while(Result::ok) {
            saved = line.strip_prefix("saved ").map(|nth| nth.parse::<u8>().unwrap()).or(saved);
            if saved.is_some_and(|nth| u64::from(nth) >= kill_after) {
                std::thread::sleep(Duration::from_micros(random.below(4000)));
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        let bytes = std::fs::read(folder.path().join("a.raw")).unwrap();
        assert!(bytes.len() == 1_000_000 && bytes.iter().all(|b| *b == bytes[0]));
        assert!(Some(bytes[0]) >= saved);
    }
}

/// Voxels that each version of a grid adds.
const ADDED: u32 = 40;
const GRID: Extent = Extent::new(1 << 14, 1 << 13, 1 << 13);

/// Where the voxel `nth` lies: around a few places of a grid far larger than memory, so that tiles are written to again and again.
fn placed(seed: u64, nth: u32) -> Coord {
    let mut random = Random(seed ^ u64::from(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let place = random.below(9);
    let near = |side: u64, random: &mut Random| (place + 1) * (side / 10) + random.below(60);
    let (x, y, z) = (near(GRID.x, &mut random), near(GRID.y, &mut random), near(GRID.z, &mut random));
    Coord::new(x, y, z)
}

#[test]
fn a_grid_that_was_saved_is_there_whole_after_a_kill() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        // What is killed: more tiles than the budget holds are written to, and saved after every few of them.
        let (path, seed) = (Path::new(&folder).join("grid.zarr"), number("VASTGRID_TEST_SEED"));
        let pool = Pool::new(HostBackend::new(), 256 << 10).unwrap();
        let fill = Fill::new(GRID, 0u32);
        let mut array = SparseArray3D::builder(&pool, fill).tile([16, 16, 16]).writable().build().unwrap();
        for version in 1..10_000 {
            let mut writer = array.writer().unwrap();
            for nth in (version - 1) * ADDED..version * ADDED {
                writer.set(placed(seed, nth), nth + 1).unwrap();
            }
            writer.set([0, 0, 0], version).unwrap();
            drop(writer);
            let shard = seed.is_multiple_of(2).then_some(Extent::cube(64));
            let options =
                ZarrOptions { chunk: Extent::cube(32), shard, replace: true, ..ZarrOptions::default() };
            let store = ZarrStore::create(&path, GRID, 0u32, &options).unwrap();
            array.write_to(&store).unwrap();
            store.save().unwrap();
            println!("\nsaved {version} {}", pool.stats().written_back);
        }
        return;
    }
    let mut seeds = Random::new();
    for _ in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let seed = seeds.next();
        let (mut child, output) = begin(
            "a_grid_that_was_saved_is_there_whole_after_a_kill",
            folder.path(),
            &[("VASTGRID_TEST_SEED", seed)],
        );
        let kill_after = 1 + seeds.below(6);
        let (mut saved, mut written_back) = (0, 0u64);
        for line in output.lines().map_while(Result::ok) {
            let Some((version, back)) = line.strip_prefix("saved ").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            (saved, written_back) = (version.parse::<u32>().unwrap(), back.parse().unwrap());
            if u64::from(saved) >= kill_after {
                std::thread::sleep(Duration::from_micros(seeds.below(60_000)));
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        assert!(u64::from(saved) >= kill_after && (saved < 3 || written_back > 0), "{saved}, {written_back}");
        let zarr = Zarr::open(folder.path().join("grid.zarr")).unwrap();
        let source = zarr.arrays()[0].source::<u32>(&ZarrSlice::last(3)).unwrap();
        let pool = Pool::new(HostBackend::new(), 256 << 10).unwrap();
        let found = SparseArray3D::builder(&pool, source).tile([16, 16, 16]).build().unwrap();
        let version = found.get([0, 0, 0]).unwrap();
        assert!(version >= saved, "version {version}, but {saved} was saved");
        let mut expected = HashMap::new();
        for nth in (0..version + 2).flat_map(|version| version * ADDED..(version + 1) * ADDED) {
            let value = expected.entry(placed(seed, nth).to_array()).or_insert(0);
            if nth < version * ADDED {
                *value = nth + 1;
            }
        }
        for (at, value) in expected {
            assert_eq!(found.get(at).unwrap(), value, "{at:?} in version {version}");
        }
    }
}
